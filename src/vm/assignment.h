/* How much RAM the guest has, as one struct guest_memory: a device for what is
 * plugged in above the RAM that it started with, and a balloon for less than it
 * then has.
 *
 * Growing: the balloon gives back, and the rest is plugged in. Shrinking: what
 * was plugged in goes out again as far as the guest can free whole blocks of it;
 * when nothing has moved for a while, the balloon takes what is missing. */
#ifndef NESTOR_VM_ASSIGNMENT_H
#define NESTOR_VM_ASSIGNMENT_H

#include "base/clock.h"
#include "memory/guest_memory.h"

struct assignment;

/* fixed: the RAM that the guest starts with. plugged: NULL when it cannot grow.
 * Both are the assignment's from here on. The target is at first `fixed`. */
struct assignment *assignment_create(uint64_t fixed, struct guest_memory *balloon,
				     struct guest_memory *plugged, struct clock *clock);
/* Board lock held; before its devices go. */
void assignment_destroy(struct assignment *a);
struct guest_memory *assignment_guest_memory(struct assignment *a);

#endif
