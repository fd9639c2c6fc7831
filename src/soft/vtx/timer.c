/* The VMX-preemption timer (SDM vol. 3, "VMX-Preemption Timer"): a deadline on
 * the VM clock. */
#include "soft/vtx/state.h"

static struct clock *vm_clock(const struct vtx *v)
{
	return vtx_engine(v)->host.clock;
}

/* Board lock held, any thread. Either this sees a deadline that an entry has
 * just set, or that entry sees that the timer is no longer armed. */
static void fire(void *owner)
{
	struct vtx *v = owner;
	atomic_store(&v->timer_armed, CLOCK_NEVER);
	uint64_t deadline = atomic_load(&v->timer_deadline);
	if (deadline == CLOCK_NEVER)
		return;
	if (deadline <= clock_now(vm_clock(v))) {
		cpu_notify(v->cpu, EVENT_PREEMPTION_TIMER);
		return;
	}
	atomic_store(&v->timer_armed, deadline);
	timer_set(vm_clock(v), &v->timer, deadline);
}

void vtx_timer_create(struct vtx *v)
{
	v->timer = (struct timer){ .fire = fire, .owner = v, .deadline = CLOCK_NEVER };
	v->timer_deadline = v->timer_armed = CLOCK_NEVER;
}

void vtx_timer_start(struct vtx *v)
{
	uint64_t ticks = vmcs_get(v, VMCS_PREEMPTION_TIMER);
	uint64_t deadline = (clock_now(vm_clock(v)) / PREEMPTION_TIMER_TICK_NS + ticks) *
		PREEMPTION_TIMER_TICK_NS;
	atomic_store(&v->timer_deadline, deadline);
	if (!ticks)	/* no guest instruction runs before the exit */
		atomic_fetch_or(&v->cpu->events, EVENT_PREEMPTION_TIMER);
	else if (deadline < atomic_load(&v->timer_armed)) {
		pthread_mutex_t *lock = bus_lock(vtx_engine(v)->host.bus);
		pthread_mutex_lock(lock);
		atomic_store(&v->timer_armed, deadline);
		timer_set(vm_clock(v), &v->timer, deadline);
		pthread_mutex_unlock(lock);
	}
}

void vtx_timer_stop(struct vtx *v)
{
	atomic_store(&v->timer_deadline, CLOCK_NEVER);
	atomic_fetch_and(&v->cpu->events, ~(uint32_t)EVENT_PREEMPTION_TIMER);
}

uint32_t vtx_timer_value(const struct vtx *v)
{
	uint64_t deadline = atomic_load(&v->timer_deadline), now = clock_now(vm_clock(v));
	return deadline <= now ? 0 :
		(uint32_t)(deadline / PREEMPTION_TIMER_TICK_NS - now / PREEMPTION_TIMER_TICK_NS);
}
