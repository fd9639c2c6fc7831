/* The switch process: one switch, its ports' cables, its host side and uplink,
 * one thread and one loop. control.c answers the service. */
#ifndef NESTOR_NET_PROCESS_H
#define NESTOR_NET_PROCESS_H

#include "net/host_side.h"

#include <uv.h>

struct rpc_call;

/* A guest's port and the cable in it. */
struct cable {
	struct cable *next;
	struct switch_port *port;
	struct port *socket;	/* NULL: nobody is connected */
	bool temporary;		/* made by who connected, gone with him */
};

struct switch_process {
	const char *id;
	char name[PORT_NAME_MAX];
	struct net_switch *network;
	struct cable *cables;
	struct host_side host;
	struct switch_port *uplink_port;
	struct uplink *uplink;	/* the real adapter of an External switch */
	char adapter[IFNAMSIZ];
	bool stop;
};

/* NULL with the reason: there are too many, or the address is another's. */
struct cable *process_add_port(struct switch_process *p, const char *id, const uint8_t *mac,
			       struct error *e);
void process_remove_port(struct switch_process *p, struct cable *c);
struct cable *process_find_port(struct switch_process *p, const char *id);
/* Another guest port that has this address; NULL: none. */
struct cable *process_find_mac(struct switch_process *p, const uint8_t *mac,
			       const struct cable *but);
/* The real adapter; "": none. -1 with the reason, and nothing changed. */
int process_set_adapter(struct switch_process *p, const char *adapter, struct error *e);

/* A call on the control socket (struct rpc_events). */
void control_call(void *process, struct rpc_call *c);

#endif
