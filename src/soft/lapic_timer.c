#include "soft/lapic_state.h"

#include <assert.h>

/* The local APIC's timer (SDM vol. 3, "APIC Timer"): one-shot, periodic, TSC
 * deadline.
 *
 * The clock's timer is only ever moved to an earlier time. When the guest puts
 * its deadline off, the timer stays, fires early, and goes on to the real
 * `expiry`: guests move deadlines far more often than they reach them, and
 * arming costs a walk through the clock's list and perhaps a wake-up of its
 * thread. What is due already expires at once, in the writer's thread. */

/* A periodic timer delivers at most this often, whatever its count; ticks in
 * between are merged into one, as interrupts of the same vector are anyway. */
#define PERIOD_MIN_NS 50000ull

/* SDM vol. 3, "Divide Configuration Register": bits 3, 1, 0. */
static unsigned divisor(const struct lapic *l)
{
	unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);
	return 1u << ((code + 1) & 7);
}

static_assert(CLOCK_CRYSTAL_HZ <= NS_PER_SECOND, "a count lasts at least a nanosecond");

static uint64_t count_to_ns(const struct lapic *l, uint32_t count)
{
	return scale_u64((uint64_t)count * divisor(l), NS_PER_SECOND, CLOCK_CRYSTAL_HZ);
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	if (!l->counting)
		return 0;
	uint64_t elapsed = scale_u64(clock_now(l->set->host.clock) - l->start, CLOCK_CRYSTAL_HZ,
				     NS_PER_SECOND) / divisor(l);
	if (elapsed < l->count)
		return l->count - (uint32_t)elapsed;
	if (lapic_timer_mode(l) != TIMER_PERIODIC)
		return 0;
	return l->initial - (uint32_t)((elapsed - l->count) % l->initial);
}

/* When TSC_DEADLINE is reached; CLOCK_NEVER when it is 0 or centuries away. */
static uint64_t deadline_to_ns(const struct lapic *l, uint64_t now)
{
	if (!l->tsc_deadline)
		return CLOCK_NEVER;
	uint64_t tsc = scale_u64(now, CLOCK_TSC_HZ, NS_PER_SECOND) + l->tsc_offset;
	if (l->tsc_deadline <= tsc)
		return now;
	unsigned __int128 left = l->tsc_deadline - tsc;
	left = (left * NS_PER_SECOND + CLOCK_TSC_HZ - 1) / CLOCK_TSC_HZ;
	return left >= CLOCK_NEVER - now ? CLOCK_NEVER : now + (uint64_t)left;
}

static void expire(struct lapic *l, uint64_t now)
{
	l->expiry = CLOCK_NEVER;
	switch (lapic_timer_mode(l)) {
	case TIMER_PERIODIC: {
		uint64_t first = l->start + count_to_ns(l, l->count);
		uint64_t period = count_to_ns(l, l->initial);
		l->start = first + (now - first) / period * period;
		l->count = l->initial;
		l->expiry = l->start + period;
		if (l->expiry < now + PERIOD_MIN_NS)
			l->expiry = now + PERIOD_MIN_NS;
		break;
	}
	case TIMER_DEADLINE:
		l->tsc_deadline = 0;
		break;
	default:
		l->counting = false;
		break;
	}
	lapic_deliver_lvt(l, REG_LVT_TIMER);
}

/* Make the clock's timer fire at expiry or before; expire now what is due. */
static void arm(struct lapic *l, uint64_t now)
{
	if (l->expiry <= now)
		expire(l, now);
	if (l->expiry < l->timer.deadline)
		timer_set(l->set->host.clock, &l->timer, l->expiry);
}

void lapic_timer_fire(void *owner)
{
	struct lapic *l = owner;
	arm(l, clock_now(l->set->host.clock));
}

/* After a change of what the timer counts. */
void lapic_timer_reschedule(struct lapic *l)
{
	uint64_t now = clock_now(l->set->host.clock);
	if (lapic_timer_mode(l) == TIMER_DEADLINE)
		l->expiry = deadline_to_ns(l, now);
	else
		l->expiry = l->counting ? l->start + count_to_ns(l, l->count) : CLOCK_NEVER;
	arm(l, now);
}

void lapic_timer_stop(struct lapic *l)
{
	l->counting = false;
	l->initial = 0;
	l->tsc_deadline = 0;
	l->expiry = CLOCK_NEVER;
}

void lapic_timer_start(struct lapic *l, uint32_t from)
{
	l->start = clock_now(l->set->host.clock);
	l->count = from;
	l->counting = from != 0;
	lapic_timer_reschedule(l);
}

void lapic_set_tsc_offset(struct lapic *l, uint64_t offset)
{
	lapic_lock(l);
	l->tsc_offset = offset;
	if (lapic_timer_mode(l) == TIMER_DEADLINE)
		lapic_timer_reschedule(l);
	lapic_unlock(l);
}
