/* The service's insides: what its files share.
 *
 * One lock (service_lock) guards everything: the store, the machines, the
 * connections to the workers. A call runs in a thread of its own, holds the
 * lock from beginning to end, and lets it go only where it waits
 * (service_wait). So what a cmdlet read before a wait may have changed after. */
#ifndef NESTOR_SERVICE_SERVICE_H
#define NESTOR_SERVICE_SERVICE_H

#include "service/rpc.h"
#include "service/store.h"

#include <pthread.h>

struct service {
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* some machine's state changed, or a second passed */
	struct store *store;
	struct machine *machines;	/* machine.h */
	struct switch_client *switches;	/* switches.h */
	uint64_t seconds;		/* ticks since the start */
	bool stopping;			/* the service is going: nothing new begins */
	bool of_host;			/* nestor service --host: host.h */
};

void service_lock(struct service *s);
void service_unlock(struct service *s);
/* Wait for a change, up to ms; the lock is let go meanwhile. */
void service_wait(struct service *s, unsigned ms);
/* Monotonic milliseconds. */
int64_t service_now(void);

/* A cmdlet under way. */
struct call {
	struct service *service;
	struct rpc_call *rpc;		/* NULL in tests */
	const struct cmdlet *cmdlet;
	json_t *params;
	json_t *objects, *messages, *errors;
	bool what_if, passthru;
	struct text *texts;		/* call_text's, freed with the call */
};

struct cmdlet {
	const char *name;
	void (*run)(struct call *c);
	/* The parameters it knows, each with a blank before and after. */
	const char *parameters;
	/* The parameter that names VMs: "Name" or "VMName". NULL: none. */
	const char *vm;
};

extern const struct cmdlet vm_cmdlets[], life_cmdlets[], device_cmdlets[], disk_cmdlets[], vhd_cmdlets[],
	network_cmdlets[], nat_cmdlets[], host_cmdlets[], ip_cmdlets[],
	feature_cmdlets[];

/* Run method with params (borrowed): a result as docs/manager.md says; NULL
 * when there is no such method. Lock held. rpc may be NULL. */
json_t *service_run(struct service *s, const char *method, json_t *params, struct rpc_call *rpc);

/* For service_main and the tests: open the store, find the machines. */
struct service *service_create(struct error *e);
/* The machines' watchers end; the workers go on. */
void service_destroy(struct service *s);

#endif
