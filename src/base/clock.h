/* The VM clock: the one time that TSC, APIC timer, PM timer, PIT and RTC read.
 *
 * It counts nanoseconds since the VM was started. In host mode it follows the
 * host's monotonic clock and a thread of its own runs the timers; in counted
 * mode (icount, one processor) it stands still until the engine advances it by
 * instructions executed, and the engine runs the timers.
 *
 * Timers fire with the board lock held (the mutex given at creation), and
 * timer_set/timer_cancel are called with it held. */
#ifndef NESTOR_BASE_CLOCK_H
#define NESTOR_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000ull
#define CLOCK_NEVER UINT64_MAX
/* Guest TSC frequency and the crystal of CPUID leaf 15h (also the APIC
 * timer's input), in Hz. Both engines show the crystal; soft shows this TSC. */
#define CLOCK_CRYSTAL_HZ 1000000000ull
#define CLOCK_TSC_HZ 2000000000ull

struct clock;

struct timer {
	void (*fire)(void *owner);	/* board lock held; may set the timer again */
	void *owner;
	uint64_t deadline;		/* ns, CLOCK_NEVER when not armed */
	struct timer *next;		/* the clock's list, by deadline */
};

struct clock *clock_create(pthread_mutex_t *board_lock, bool counted);
void clock_destroy(struct clock *c);	/* board lock not held */
/* The VM's time stands still from here on, or goes on where it stood. Board
 * lock not held. */
void clock_pause(struct clock *c, bool paused);
/* Nanoseconds since creation; any thread, no lock. */
uint64_t clock_now(struct clock *c);
bool clock_is_counted(const struct clock *c);

/* Counted mode only, by the engine's one processor thread. */
void clock_advance(struct clock *c, uint64_t ns);
/* Earliest deadline (CLOCK_NEVER: none); any thread, no lock. */
uint64_t clock_next_deadline(struct clock *c);
/* Fire all timers that are due; takes the board lock itself. */
void clock_run_due(struct clock *c);

/* Arm (or move) a timer to an absolute time; a past time fires at once, from
 * the clock's thread. */
void timer_set(struct clock *c, struct timer *t, uint64_t deadline);
void timer_cancel(struct clock *c, struct timer *t);

/* value * mul / div without overflow in between. */
static inline uint64_t scale_u64(uint64_t value, uint64_t mul, uint64_t div)
{
	return (uint64_t)((unsigned __int128)value * mul / div);
}

#endif
