/* JSON-RPC 2.0 over a Unix socket, one JSON text per line: the server's side.
 * The service and every worker answer through it.
 *
 * All of it runs in one libuv loop's thread, but for rpc_answer, rpc_refuse,
 * rpc_notify and rpc_abandoned, which any thread may call. A client's requests
 * are handled one after the other, in order; several clients' side by side. */
#ifndef NESTOR_SERVICE_RPC_H
#define NESTOR_SERVICE_RPC_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

enum {
	RPC_LINE_MAX = 1 << 20,		/* bytes of a request */
	RPC_UNREAD_MAX = 16 << 20,	/* answers that a client has not read */
	RPC_CLIENTS_MAX = 64,
};

/* The specification's own codes. */
enum rpc_code {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
};

struct rpc_server;
struct rpc_call;

struct rpc_events {
	/* A request came; it must be answered or refused, now or later. */
	void (*call)(void *owner, struct rpc_call *c);
	/* A client came or went, or a call ended. May be NULL. */
	void (*changed)(void *owner);
	void *owner;
};

/* Listen at path (0600, no longer than a socket's address may be). A socket
 * file that is there already is replaced: whoever calls holds the lock that
 * says it may be. */
struct rpc_server *rpc_listen(uv_loop_t *loop, const char *path,
			      const struct rpc_events *events, struct error *e);
/* No new clients: the socket's file goes, those connected stay. */
void rpc_stop_listening(struct rpc_server *s);
/* Hang up on everybody. The loop must be run once more until it is empty, then
 * rpc_free. Calls not yet answered may still be answered before rpc_free. */
void rpc_close(struct rpc_server *s);
void rpc_free(struct rpc_server *s);

/* Clients that are connected, and calls not yet answered. */
unsigned rpc_clients(const struct rpc_server *s);
unsigned rpc_calls(const struct rpc_server *s);

const char *rpc_method(const struct rpc_call *c);
/* An object; empty when the request had none. Borrowed. */
json_t *rpc_params(const struct rpc_call *c);
json_t *rpc_id(const struct rpc_call *c);

/* End the call. result is taken over. */
void rpc_answer(struct rpc_call *c, json_t *result);
void rpc_refuse(struct rpc_call *c, enum rpc_code code, const char *message);
/* Something on the way; params is taken over. */
void rpc_notify(struct rpc_call *c, const char *method, json_t *params);
/* The client hung up: nobody waits for the answer. */
bool rpc_abandoned(const struct rpc_call *c);

#endif
