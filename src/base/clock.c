#include "base/clock.h"

#include "base/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct clock {
	pthread_mutex_t *lock;
	bool counted;
	bool stopping;
	_Atomic uint64_t origin;	/* host ns at creation, later by every pause */
	_Atomic uint64_t stands;	/* paused at this time; CLOCK_NEVER: it goes */
	_Atomic uint64_t ticks;		/* counted mode: ns so far */
	_Atomic uint64_t next;		/* deadline of the list's head */
	struct timer *timers;		/* sorted by deadline */
	pthread_cond_t changed;
	pthread_t thread;
};

static uint64_t host_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

uint64_t clock_now(struct clock *c)
{
	if (c->counted)
		return atomic_load_explicit(&c->ticks, memory_order_relaxed);
	uint64_t stands = atomic_load_explicit(&c->stands, memory_order_acquire);
	return stands != CLOCK_NEVER ? stands : host_now() - c->origin;
}

void clock_pause(struct clock *c, bool paused)
{
	pthread_mutex_lock(c->lock);
	uint64_t now = clock_now(c);
	if (!c->counted && paused) {
		atomic_store_explicit(&c->stands, now, memory_order_release);
	} else if (!c->counted) {
		c->origin = host_now() - now;
		atomic_store_explicit(&c->stands, CLOCK_NEVER, memory_order_release);
		pthread_cond_signal(&c->changed);
	}
	pthread_mutex_unlock(c->lock);
}

bool clock_is_counted(const struct clock *c)
{
	return c->counted;
}

void clock_advance(struct clock *c, uint64_t ns)
{
	atomic_fetch_add_explicit(&c->ticks, ns, memory_order_relaxed);
}

uint64_t clock_next_deadline(struct clock *c)
{
	return atomic_load_explicit(&c->next, memory_order_relaxed);
}

static void publish_next(struct clock *c)
{
	atomic_store_explicit(&c->next, c->timers ? c->timers->deadline : CLOCK_NEVER,
			      memory_order_relaxed);
}

void timer_cancel(struct clock *c, struct timer *t)
{
	if (t->deadline == CLOCK_NEVER)
		return;
	for (struct timer **at = &c->timers; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	t->deadline = CLOCK_NEVER;
	publish_next(c);
}

void timer_set(struct clock *c, struct timer *t, uint64_t deadline)
{
	timer_cancel(c, t);
	if (deadline == CLOCK_NEVER)
		return;
	struct timer **at = &c->timers;
	while (*at && (*at)->deadline <= deadline)
		at = &(*at)->next;
	t->deadline = deadline;
	t->next = *at;
	*at = t;
	publish_next(c);
	if (!c->counted && c->timers == t)
		pthread_cond_signal(&c->changed);
}

/* Board lock held. */
static void fire_due(struct clock *c)
{
	/* So many at once, so that a timer that re-arms itself into the past
	 * cannot hold the lock for ever. */
	enum { AT_ONCE = 256 };
	uint64_t now = clock_now(c);
	for (unsigned n = 0; n < AT_ONCE && c->timers && c->timers->deadline <= now; n++) {
		struct timer *t = c->timers;
		c->timers = t->next;
		t->deadline = CLOCK_NEVER;
		publish_next(c);
		t->fire(t->owner);
	}
}

void clock_run_due(struct clock *c)
{
	pthread_mutex_lock(c->lock);
	fire_due(c);
	pthread_mutex_unlock(c->lock);
}

static void *clock_thread(void *arg)
{
	struct clock *c = arg;
	pthread_mutex_lock(c->lock);
	while (!c->stopping) {
		fire_due(c);
		if (c->stopping)
			break;
		if (!c->timers || c->stands != CLOCK_NEVER) {
			pthread_cond_wait(&c->changed, c->lock);
			continue;
		}
		uint64_t at = c->timers->deadline;
		if (at > UINT64_MAX / 2)
			at = UINT64_MAX / 2;	/* keep the sum in range */
		at += c->origin;
		struct timespec until = { .tv_sec = (time_t)(at / NS_PER_SECOND),
					  .tv_nsec = (long)(at % NS_PER_SECOND) };
		pthread_cond_timedwait(&c->changed, c->lock, &until);
	}
	pthread_mutex_unlock(c->lock);
	return NULL;
}

struct clock *clock_create(pthread_mutex_t *board_lock, bool counted)
{
	struct clock *c = alloc_zeroed(1, sizeof *c);
	pthread_condattr_t attr;
	c->lock = board_lock;
	c->counted = counted;
	c->origin = host_now();
	c->next = c->stands = CLOCK_NEVER;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (!counted && pthread_create(&c->thread, NULL, clock_thread, c))
		panic("the clock's thread cannot be started");
	return c;
}

void clock_destroy(struct clock *c)
{
	if (!c->counted) {
		pthread_mutex_lock(c->lock);
		c->stopping = true;
		pthread_cond_signal(&c->changed);
		pthread_mutex_unlock(c->lock);
		pthread_join(c->thread, NULL);
	}
	pthread_cond_destroy(&c->changed);
	free(c);
}
