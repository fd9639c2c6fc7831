#include "vm/assignment.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

/* So long nothing is plugged out before the balloon helps. */
#define PATIENCE (3 * NS_PER_SECOND)

struct assignment {
	struct guest_memory guest_memory;
	struct guest_memory *balloon, *plugged;
	struct clock *clock;
	struct timer timer;
	uint64_t fixed, target;
	bool patient;		/* what is plugged in above the target may still go out */
	uint64_t held;		/* what the balloon was last told to take */
};

static struct guest_memory_status status_of(const struct guest_memory *g)
{
	struct guest_memory_status s = { 0 };
	if (g)
		guest_memory_get_status(g, &s);
	return s;
}

/* Tell the balloon what it is to take now; again: even if that is the same. */
static void follow(struct assignment *a, bool again)
{
	struct guest_memory_status plugged = status_of(a->plugged);
	uint64_t present = a->fixed + plugged.current, held = 0;
	if (present > a->target)
		held = present - a->target;
	if (a->patient && plugged.current > plugged.target) {
		uint64_t going = plugged.current - plugged.target;
		held -= going < held ? going : held;
	}
	if (held == a->held && !again)
		return;
	a->held = held;
	guest_memory_set_target(a->balloon, present - held);
}

static void set_target(struct guest_memory *g, uint64_t bytes)
{
	struct assignment *a = container_of(g, struct assignment, guest_memory);
	uint64_t most = a->fixed + status_of(a->plugged).size;
	a->target = bytes < most ? bytes : most;
	a->patient = false;
	if (a->plugged) {
		uint64_t wanted = a->target > a->fixed ? a->target - a->fixed : 0;
		struct guest_memory_status s = status_of(a->plugged);
		/* It is not to have less: nothing goes out any more. */
		if (a->target >= status_of(a->balloon).current && s.current > wanted)
			wanted = s.current;
		guest_memory_set_target(a->plugged, wanted);
		s = status_of(a->plugged);
		a->patient = s.driver_present && s.current > s.target;
	}
	if (a->patient)
		timer_set(a->clock, &a->timer, clock_now(a->clock) + PATIENCE);
	follow(a, true);
}

static void lose_patience(void *owner)
{
	struct assignment *a = owner;
	a->patient = false;
	follow(a, false);
}

static void plugged_changed(void *owner)
{
	struct assignment *a = owner;
	if (a->patient)
		timer_set(a->clock, &a->timer, clock_now(a->clock) + PATIENCE);
	follow(a, false);
	if (a->guest_memory.changed)
		a->guest_memory.changed(a->guest_memory.owner);
}

static void balloon_changed(void *owner)
{
	struct assignment *a = owner;
	if (a->guest_memory.changed)
		a->guest_memory.changed(a->guest_memory.owner);
}

static void get_status(const struct guest_memory *g, struct guest_memory_status *s)
{
	const struct assignment *a = container_of(g, const struct assignment, guest_memory);
	struct guest_memory_status plugged = status_of(a->plugged);
	*s = status_of(a->balloon);
	s->fixed = a->fixed;
	s->size = a->fixed + plugged.size;
	s->target = a->target;
	s->grows = plugged.driver_present;
}

static const struct guest_memory_ops ops = { set_target, get_status };

struct guest_memory *assignment_guest_memory(struct assignment *a)
{
	return &a->guest_memory;
}

struct assignment *assignment_create(uint64_t fixed, struct guest_memory *balloon,
				     struct guest_memory *plugged, struct clock *clock)
{
	struct assignment *a = alloc_zeroed(1, sizeof *a);
	a->guest_memory.ops = &ops;
	a->balloon = balloon;
	a->plugged = plugged;
	a->clock = clock;
	a->timer = (struct timer){ .fire = lose_patience, .owner = a, .deadline = CLOCK_NEVER };
	a->fixed = a->target = fixed;
	balloon->owner = a;
	balloon->changed = balloon_changed;
	if (plugged) {
		plugged->owner = a;
		plugged->changed = plugged_changed;
	}
	return a;
}

void assignment_destroy(struct assignment *a)
{
	timer_cancel(a->clock, &a->timer);
	a->balloon->changed = NULL;
	if (a->plugged)
		a->plugged->changed = NULL;
	free(a);
}
