/* JSON-RPC 2.0 over a Unix socket, the caller's side; blocking. The shell asks
 * the service through it, the service its workers. One thread at a time. */
#ifndef NESTOR_SERVICE_CLIENT_H
#define NESTOR_SERVICE_CLIENT_H

#include "base/error.h"

#include <jansson.h>

/* The version of the protocol that Service.Hello agrees on. */
enum { SERVICE_PROTOCOL = 1 };

struct rpc_client;

/* Connected to the service of this user, which is started when there is none;
 * -1 with the reason. */
int service_connect(struct error *e);

/* Take over a connected descriptor. */
struct rpc_client *rpc_client_of(int fd);
/* NULL with the reason, errno kept from connect(2). */
struct rpc_client *rpc_connect(const char *path, struct error *e);
void rpc_disconnect(struct rpc_client *c);
/* End a request that waits in another thread; only rpc_disconnect may follow. */
void rpc_hang_up(struct rpc_client *c);

/* What comes before the answer. */
typedef void rpc_progress(void *owner, const char *method, json_t *params);

/* The process that listens at the other end. */
int rpc_peer(struct rpc_client *c);

/* Ask and wait, up to timeout_ms (-1: as long as it takes). params is taken
 * over (NULL: none). The result, which the caller owns; NULL with the reason:
 * the other side's error, or that it hung up or is silent. */
json_t *rpc_request(struct rpc_client *c, const char *method, json_t *params, int timeout_ms,
		    rpc_progress *progress, void *owner, struct error *e);

#endif
