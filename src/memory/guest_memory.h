/* How much RAM a running guest has, and what it says it needs: the part of a
 * memory balloon or of a device for hot-added memory that whoever moves memory
 * between machines sees. A device embeds struct guest_memory and fills in its
 * ops, so that it does not matter which one the guest has a driver for;
 * vm/assignment.c makes one of several.
 *
 * A target is a wish: the guest follows in its own time, or does not. Board lock
 * held in every call, and when `changed` is called. */
#ifndef NESTOR_MEMORY_GUEST_MEMORY_H
#define NESTOR_MEMORY_GUEST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* What the guest last said of itself, in bytes; events since it started. */
struct guest_memory_statistics {
	bool known;		/* false: it has said nothing yet */
	uint64_t total;		/* what its operating system manages, less what it gave up */
	uint64_t available;	/* what new programs could have without swapping */
	uint64_t free, caches;
	uint64_t swapped_in, swapped_out;
	uint64_t major_faults, minor_faults;
	/* What it must keep: the RAM it had then less what was available. So what
	 * the system took before it counted, as for its kernel, is demand too. */
	uint64_t demand;
	uint64_t age;		/* ns of the VM's time since then */
};

struct guest_memory_status {
	uint64_t size;		/* the most that the guest can have */
	uint64_t fixed;		/* of which it was told when it started */
	uint64_t target;	/* what the guest is wished to have */
	uint64_t current;	/* what it has */
	bool driver_present;	/* a driver runs that follows the target */
	bool grows;		/* one runs that follows it above `fixed` */
	struct guest_memory_statistics statistics;
};

struct guest_memory;

struct guest_memory_ops {
	void (*set_target)(struct guest_memory *g, uint64_t bytes);
	void (*get_status)(const struct guest_memory *g, struct guest_memory_status *s);
};

struct guest_memory {
	const struct guest_memory_ops *ops;
	/* Something of the status but the target may have changed; NULL: nobody
	 * wants to know. It may call back in. */
	void (*changed)(void *owner);
	void *owner;
};

/* bytes: rounded up to what the device deals in; above size: size. The
 * target outlives the guest's resets. */
static inline void guest_memory_set_target(struct guest_memory *g, uint64_t bytes)
{
	g->ops->set_target(g, bytes);
}

static inline void guest_memory_get_status(const struct guest_memory *g,
					   struct guest_memory_status *s)
{
	g->ops->get_status(g, s);
}

#endif
