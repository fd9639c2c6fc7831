/* Dynamic Memory: who gets how much of the host.
 *
 * Every second each running VM with Dynamic Memory is asked what it uses (its
 * demand: what it has, less what it could give away), and is given that and its
 * buffer, within its minimum and maximum and what the host can give. What the
 * host cannot give goes first to the higher priority, and lower ones lend their
 * buffers. While a hypervisor runs inside a VM its amount is raised to Startup
 * if it is below, and then stands still.
 *
 * Nothing of this trusts a guest. One without drivers, or whose statistics stop,
 * stays as it is; what one was promised and does not take goes back to the
 * others, and it may try again; a demand that it invents ends at its Maximum.
 *
 * A VM without Dynamic Memory has its Startup, which Set-VMMemory may change
 * while it runs; under a hypervisor it keeps what it has just then.
 *
 * The guest's side is small on purpose: an amount that is set, and demand that
 * is read (Worker.SetMemory and Worker.State). Today a virtio balloon and
 * virtio-mem are behind it; Hyper-V's own protocol can come there. */
#ifndef NESTOR_SERVICE_BALANCE_H
#define NESTOR_SERVICE_BALANCE_H

#include "service/service.h"

struct balance_vm {
	int64_t minimum, startup, maximum;
	int64_t most;		/* what its guest can grow to */
	int64_t buffer, priority;
	int64_t assigned;	/* what it has */
	int64_t wanted;		/* what it is to have, as it was last told */
	int64_t demand;
	int64_t rise;		/* of the demand since the last round, at least 0 */
	bool measured;		/* demand is known, and its guest follows */
	bool stuck;		/* its guest has not come nearer to `wanted` for long */
	bool hypervisor;	/* one runs inside */
	int64_t target;		/* the answer: what it is to have now */
};

/* Fill in every target. free: what the host has left for VMs; below 0: it is
 * short of that much. */
void balance_share(struct balance_vm *vm, unsigned count, int64_t free);

/* "OK", "Low" (its buffer is not there) or "Warning" (less than it uses). */
const char *balance_status(const struct balance_vm *vm);

/* One round over all machines. Lock held. */
void balance_tick(struct service *s);

/* What the host could still give to VMs: available, less what running ones have
 * been promised and not touched yet. */
int64_t host_memory_free(struct service *s);
int64_t host_memory_total(void);

#endif
