/* Machines: VMs that run, each in a worker process.
 *
 * A machine is in the list from the moment its worker is started (or found, by
 * a service that came later) until it has ended; a VM that is not in the list
 * is Off. Each has a watcher, a thread that waits for the worker's end, notes
 * why, and takes the machine off the list. The service's lock is held in every
 * call; those that say so let it go while they wait. */
#ifndef NESTOR_SERVICE_MACHINE_H
#define NESTOR_SERVICE_MACHINE_H

#include "service/client.h"
#include "service/service.h"

#include <sys/types.h>

enum machine_state { MACHINE_OFF, MACHINE_STARTING, MACHINE_RUNNING, MACHINE_PAUSED,
		     MACHINE_STOPPING };

struct machine {
	struct machine *next;
	struct service *service;
	char id[STORE_ID_SIZE];
	enum machine_state state;
	pid_t pid;
	bool child;			/* ours to wait for; else found */
	int process;			/* pidfd */
	struct rpc_client *control;	/* for questions */
	struct rpc_client *watch;	/* the watcher's */
	pthread_t watcher;
	bool watched;			/* the watcher was started */
	bool leaving;			/* the service goes: the watcher only ends */
	off_t log_begin;		/* where this run's part of the log begins */
	json_t *config;			/* what the worker was started with */
	int64_t promised;		/* memory: what it has or is to have */
	int64_t assigned, demand;	/* at the last look */
	int64_t moved_at;		/* ms: when the amount it has last changed, or was set */
	const char *memory_status;
	int64_t silent_until;		/* ms: not asked before */
	uint64_t cpu_ticks, cpu_at;	/* CPU time at the last look, and when (ms) */
	unsigned cpu_usage;		/* percent of the whole host */
};

/* NULL: it is Off. */
struct machine *machine_find(struct service *s, const char *id);
enum machine_state machine_state(struct service *s, const char *id);
const char *machine_state_name(enum machine_state state);

/* Start a worker with this configuration (docs/service.md) and wait until it
 * runs; lets the lock go meanwhile. config is taken over. */
int machine_start(struct service *s, const char *id, json_t *config, struct error *e);
/* Ask its worker something short. NULL with the reason. params is taken over. */
json_t *machine_ask(struct machine *m, const char *method, json_t *params, struct error *e);
/* Kill its worker: the watcher notices. */
void machine_kill(struct machine *m);

/* Find the workers that an earlier service left. */
void machines_find(struct service *s);
/* Stop watching all; the workers go on. */
void machines_leave(struct service *s);
/* A second has passed: look at the processes' CPU time. */
void machines_tick(struct service *s);

#endif
