#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bits.h"
#include "vm/assignment.h"

#include <pthread.h>
#include <stdlib.h>

/* The balloon and what is plugged in as one amount, with a guest that follows,
 * or not. */

#define FIXED (512 * MIB)
#define ROOM (1024 * MIB)
enum { PATIENCE_MS = 3000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Stands for both devices and their drivers. */
struct guest {
	struct guest_memory balloon, plugged;
	uint64_t held, hold;		/* in the balloon; to be */
	uint64_t in, wanted;		/* plugged in; to be */
	bool has_balloon, has_plugged;
	struct clock *clock;
	struct assignment *assignment;
	struct guest_memory *memory;
	unsigned changes;
};

static uint64_t present(const struct guest *g)
{
	return FIXED + g->in;
}

static void balloon_target(struct guest_memory *m, uint64_t bytes)
{
	struct guest *g = container_of(m, struct guest, balloon);
	g->hold = bytes < present(g) ? present(g) - bytes : 0;
}

static void balloon_status(const struct guest_memory *m, struct guest_memory_status *s)
{
	const struct guest *g = container_of(m, const struct guest, balloon);
	*s = (struct guest_memory_status){
		.size = present(g), .fixed = present(g), .current = present(g) - g->held,
		.target = present(g) - g->hold, .driver_present = g->has_balloon,
		.statistics = { .known = true, .demand = 7 },
	};
}

static void plugged_target(struct guest_memory *m, uint64_t bytes)
{
	struct guest *g = container_of(m, struct guest, plugged);
	g->wanted = bytes;
}

static void plugged_status(const struct guest_memory *m, struct guest_memory_status *s)
{
	const struct guest *g = container_of(m, const struct guest, plugged);
	*s = (struct guest_memory_status){ .size = ROOM, .target = g->wanted, .current = g->in,
		.driver_present = g->has_plugged };
}

static const struct guest_memory_ops balloon_ops = { balloon_target, balloon_status };
static const struct guest_memory_ops plugged_ops = { plugged_target, plugged_status };

static void on_changed(void *owner)
{
	((struct guest *)owner)->changes++;
}

static void set_up(struct guest *g, bool room)
{
	*g = (struct guest){ .balloon.ops = &balloon_ops, .plugged.ops = &plugged_ops,
		.has_balloon = true, .has_plugged = room };
	g->clock = clock_create(&lock, true);
	g->assignment = assignment_create(FIXED, &g->balloon, room ? &g->plugged : NULL, g->clock);
	g->memory = assignment_guest_memory(g->assignment);
	g->memory->changed = on_changed;
	g->memory->owner = g;
}

static void tear_down(struct guest *g)
{
	assignment_destroy(g->assignment);
	assert_true(!g->balloon.changed && !g->plugged.changed);
	clock_destroy(g->clock);
}

/* The drivers do what they are told, one after the other. */
static void follow_plugged(struct guest *g, uint64_t to)
{
	g->in = to;
	g->plugged.changed(g->plugged.owner);
}

static void follow_balloon(struct guest *g)
{
	g->held = g->hold;
	g->balloon.changed(g->balloon.owner);
}

static void pass(struct guest *g, uint64_t ms)
{
	clock_advance(g->clock, ms * 1000000);
	clock_run_due(g->clock);
}

static struct guest_memory_status status(struct guest *g)
{
	struct guest_memory_status s;
	guest_memory_get_status(g->memory, &s);
	return s;
}

static void grows_and_shrinks(void **state)
{
	struct guest g;
	set_up(&g, true);
	struct guest_memory_status s = status(&g);
	assert_true(s.size == FIXED + ROOM && s.fixed == FIXED && s.target == FIXED && s.current == FIXED);
	assert_true(s.driver_present && s.grows && s.statistics.known && s.statistics.demand == 7);
	guest_memory_set_target(g.memory, 800 * MIB);
	assert_true(g.wanted == 288 * MIB && !g.hold);
	follow_plugged(&g, 288 * MIB);
	assert_true(status(&g).current == 800 * MIB && g.changes && !g.hold);
	/* Down: first what is plugged in, block by block; the balloon waits. */
	guest_memory_set_target(g.memory, 600 * MIB);
	assert_true(g.wanted == 88 * MIB && !g.hold);
	for (uint64_t in = 286; in >= 88; in -= 2) {
		pass(&g, PATIENCE_MS - 1);
		follow_plugged(&g, in * MIB);
		assert_true(!g.hold);
	}
	pass(&g, 2 * PATIENCE_MS);
	assert_true(!g.hold && status(&g).current == 600 * MIB);
	/* Below what it started with the balloon does the rest at once. */
	guest_memory_set_target(g.memory, 400 * MIB);
	assert_true(!g.wanted && g.hold == 112 * MIB);
	follow_balloon(&g);
	follow_plugged(&g, 0);
	assert_true(g.hold == 112 * MIB && status(&g).current == 400 * MIB);
	guest_memory_set_target(g.memory, UINT64_MAX);
	assert_true(status(&g).target == FIXED + ROOM && g.wanted == ROOM && !g.hold);
	tear_down(&g);
}

/* What cannot go out is taken by the balloon, and given back when it goes. */
static void the_balloon_helps(void **state)
{
	struct guest g;
	set_up(&g, true);
	guest_memory_set_target(g.memory, 768 * MIB);
	follow_plugged(&g, 256 * MIB);
	guest_memory_set_target(g.memory, FIXED);
	follow_plugged(&g, 100 * MIB);
	assert_true(!g.hold);
	pass(&g, PATIENCE_MS);
	assert_true(g.hold == 100 * MIB);
	follow_balloon(&g);
	assert_true(status(&g).current == FIXED);
	follow_plugged(&g, 40 * MIB);
	assert_true(g.hold == 40 * MIB);
	/* Up again: the balloon first. */
	guest_memory_set_target(g.memory, 600 * MIB);
	assert_true(!g.hold && g.wanted == 88 * MIB);
	pass(&g, 10 * PATIENCE_MS);
	assert_true(!g.hold);
	/* What it has is what it is to have: nothing goes out any more. */
	follow_balloon(&g);
	guest_memory_set_target(g.memory, FIXED - 20 * MIB);
	assert_true(!g.wanted && g.hold == 20 * MIB);
	follow_balloon(&g);
	guest_memory_set_target(g.memory, FIXED + 20 * MIB);
	assert_true(g.wanted == 40 * MIB && g.hold == 20 * MIB);
	pass(&g, 10 * PATIENCE_MS);
	assert_true(g.wanted == 40 * MIB && g.hold == 20 * MIB);
	/* The machine's reset takes all of it out. */
	guest_memory_set_target(g.memory, 480 * MIB);
	g.held = 0;
	follow_plugged(&g, 0);
	assert_true(g.hold == 32 * MIB && status(&g).target == 480 * MIB);
	tear_down(&g);
}

/* No driver for it: nothing is waited for. */
static void without_drivers(void **state)
{
	struct guest g;
	set_up(&g, true);
	guest_memory_set_target(g.memory, 768 * MIB);
	follow_plugged(&g, 256 * MIB);
	g.has_plugged = false;
	assert_false(status(&g).grows);
	guest_memory_set_target(g.memory, FIXED);
	assert_true(g.hold == 256 * MIB);
	g.has_balloon = false;
	assert_false(status(&g).driver_present);
	tear_down(&g);
	set_up(&g, false);
	struct guest_memory_status s = status(&g);
	assert_true(s.size == FIXED && s.fixed == FIXED && !s.grows);
	guest_memory_set_target(g.memory, 768 * MIB);
	assert_true(status(&g).target == FIXED && !g.hold);
	guest_memory_set_target(g.memory, 300 * MIB);
	assert_true(g.hold == 212 * MIB);
	tear_down(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_and_shrinks),
		cmocka_unit_test(the_balloon_helps),
		cmocka_unit_test(without_drivers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
