/* The loop of a software processor.
 *
 * Between two blocks the loop looks at one word (cpu->events) and three bytes
 * (activity, inhibit, step); when all are zero it runs the next block. When
 * not, boundary() handles what is pending in the order of the SDM's "Priority
 * Among Concurrent Events", with the VM exits that VMX non-root operation puts
 * between them.
 *
 * Anything that cannot let an instruction finish normally (exceptions, VM
 * exits, interrupted string instructions) has put the processor into a
 * complete state and comes back here through cpu_continue(). */
#include "base/log.h"
#include "soft/access.h"
#include "soft/block.h"
#include "soft/engine.h"
#include "soft/thunk.h"
#include "soft/tlb.h"
#include "soft/translate/translate.h"
#include "soft/vtx/vtx.h"

#include <time.h>

/* Marks an interrupt shadow that is in its one instruction already. */
enum { INHIBIT_SPENT = 0x80 };

/* --- being alone --- */

/* The processor stops running (sleeps or waits) until nobody is exclusive. */
static void leave_running(struct cpu *cpu)
{
	struct soft_engine *g = cpu->engine;
	pthread_mutex_lock(&g->exclusive_lock);
	g->running--;
	pthread_cond_broadcast(&g->exclusive_changed);
	pthread_mutex_unlock(&g->exclusive_lock);
}

static void enter_running(struct cpu *cpu)
{
	struct soft_engine *g = cpu->engine;
	pthread_mutex_lock(&g->exclusive_lock);
	while (g->exclusive_owner)
		pthread_cond_wait(&g->exclusive_changed, &g->exclusive_lock);
	g->running++;
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_PARK);
	pthread_mutex_unlock(&g->exclusive_lock);
}

void exclusive_begin(struct cpu *cpu)
{
	struct soft_engine *g = cpu->engine;
	if (g->engine.config.processors == 1)
		return;
	pthread_mutex_lock(&g->exclusive_lock);
	g->running--;
	pthread_cond_broadcast(&g->exclusive_changed);
	while (g->exclusive_owner)
		pthread_cond_wait(&g->exclusive_changed, &g->exclusive_lock);
	g->exclusive_owner = cpu;
	for (unsigned n = 0; n < g->engine.config.processors; n++)
		if (g->cpu[n] != cpu)
			atomic_fetch_or(&g->cpu[n]->events, EVENT_PARK);
	while (g->running)
		pthread_cond_wait(&g->exclusive_changed, &g->exclusive_lock);
	g->running++;
	pthread_mutex_unlock(&g->exclusive_lock);
}

void exclusive_end(struct cpu *cpu)
{
	struct soft_engine *g = cpu->engine;
	if (g->exclusive_owner != cpu)
		return;
	pthread_mutex_lock(&g->exclusive_lock);
	g->exclusive_owner = NULL;
	pthread_cond_broadcast(&g->exclusive_changed);
	pthread_mutex_unlock(&g->exclusive_lock);
}

/* --- events --- */

static void startup(struct cpu *cpu, uint8_t vector)
{
	cpu->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	cpu->seg[SEG_CS].base = (uint64_t)vector << 12;
	cpu->r[REG_RIP] = cpu->start_rip = 0;
	cpu->activity = ACTIVITY_ACTIVE;
	cpu_mode_changed(cpu);
}

static void handle_init(struct cpu *cpu)
{
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_INIT);
	if (cpu->nonroot)
		vtx_boundary_init(cpu);
	if (cpu->vtx && vtx_operation(cpu)) {
		cpu->init_pending = true;	/* blocked in root operation until VMXOFF */
		return;
	}
	if (cpu->activity == ACTIVITY_WAIT_FOR_SIPI)
		return;
	lapic_reset(cpu->lapic, true);
	cpu_reset(cpu, true);
	/* The bootstrap processor would go on at the reset vector. */
	if (lapic_base(cpu->lapic) & APIC_BASE_BSP)
		cpu_lost(cpu, "The guest died: an INIT signal sent its boot processor to the reset vector, where there is no firmware.");
	cpu->activity = ACTIVITY_WAIT_FOR_SIPI;
}

static void handle_sipi(struct cpu *cpu)
{
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_SIPI);
	if (cpu->activity != ACTIVITY_WAIT_FOR_SIPI)
		return;
	if (cpu->nonroot)
		vtx_boundary_sipi(cpu, cpu->sipi_vector);
	startup(cpu, cpu->sipi_vector);
}

static void take_nmi(struct cpu *cpu)
{
	if (cpu->nonroot ? vtx_nmi_blocked(cpu) : cpu->nmi_blocked)
		return;		/* IRET looks again */
	if (cpu->inhibit & INHIBIT_MOV_SS) {
		atomic_fetch_or(&cpu->events, EVENT_NMI);
		return;
	}
	if (cpu->nonroot)
		vtx_boundary_nmi(cpu);
	cpu->nmi_pending = false;
	const struct delivery d = { .type = EVENT_TYPE_NMI, .vector = EXC_NMI };
	event_deliver(cpu, &d);
}

static void take_interrupt(struct cpu *cpu)
{
	if (cpu->inhibit)
		return;		/* looked at again after the next instruction */
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_INTERRUPT);
	bool exits = cpu->nonroot && vtx_interrupt_exiting(cpu);
	if (!exits && !(cpu->sysflags & FLAG_IF))
		return;		/* setting IF raises the event again */
	pthread_mutex_t *lock = bus_lock(cpu->engine->engine.host.bus);
	bool extint = cpu->extint && lapic_extint_accepted(cpu->lapic);
	int vector = extint ? 0 : lapic_pending(cpu->lapic);
	if (vector < 0)
		return;
	if (cpu->nonroot)
		vtx_boundary_interrupt(cpu);
	if (extint) {
		pthread_mutex_lock(lock);
		vector = cpu->engine->engine.host.extint_acknowledge(cpu->engine->engine.host.owner);
		pthread_mutex_unlock(lock);
	} else
		lapic_acknowledge(cpu->lapic, (uint8_t)vector);
	cpu->interrupts++;
	const struct delivery d = { .type = EVENT_TYPE_EXTERNAL, .vector = (uint8_t)vector };
	event_deliver(cpu, &d);
}

static void boundary(struct cpu *cpu, uint32_t events)
{
	cpu->start_rip = cpu->r[REG_RIP];
	cpu->block = NULL;
	if (events & EVENT_CODE)
		tlb_follow_code_marks(cpu);
	if (events & EVENT_UNPLUGGED) {
		atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_UNPLUGGED);
		tlb_flush_all(cpu);
	}
	if (events & EVENT_PARK) {
		leave_running(cpu);
		enter_running(cpu);
	}
	if (events & EVENT_INIT)
		handle_init(cpu);
	if (events & EVENT_SIPI)
		handle_sipi(cpu);
	if (cpu->init_pending && !(cpu->vtx && vtx_operation(cpu))) {
		cpu->init_pending = false;
		handle_init(cpu);
	}
	if (cpu->activity == ACTIVITY_WAIT_FOR_SIPI)
		return;
	if (events & EVENT_NMI) {
		atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_NMI);
		cpu->nmi_pending = true;
	}
	if (cpu->nonroot)
		vtx_boundary_traps(cpu);
	if (cpu->db_trap && !(cpu->inhibit & INHIBIT_MOV_SS)) {
		uint64_t bits = cpu->db_bits;
		cpu->db_trap = false;
		cpu->db_bits = 0;
		cpu->trap_delivery = true;
		atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_TRAP);
		raise_debug(cpu, bits);
	}
	if (events & EVENT_PREEMPTION_TIMER && !cpu->nonroot)	/* it fired while the guest exited */
		atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_PREEMPTION_TIMER);
	if (cpu->nonroot) {
		vtx_boundary_timer(cpu);
		vtx_boundary_nmi_window(cpu);
	}
	if (cpu->nmi_pending)
		take_nmi(cpu);
	if (cpu->nonroot)
		vtx_boundary_interrupt_window(cpu);
	if (events & EVENT_INTERRUPT)
		take_interrupt(cpu);
	if (events & EVENT_WINDOW)
		atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_WINDOW);
}

/* Nothing to execute: sleep until something is pending. */
static void idle(struct cpu *cpu)
{
	struct clock *clock = cpu->engine->engine.host.clock;
	pthread_mutex_t *lock = bus_lock(cpu->engine->engine.host.bus);
	if (clock_is_counted(clock)) {
		/* Time passes only here. With nothing due, only the console can
		 * wake the guest: look for it now and then. */
		enum { POLL_NS = 1000000 };
		uint64_t next = clock_next_deadline(clock), now = clock_now(clock);
		if (next != CLOCK_NEVER) {
			if (next > now)
				clock_advance(clock, next - now);
			clock_run_due(clock);
		} else
			nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
		return;
	}
	leave_running(cpu);
	pthread_mutex_lock(lock);
	while (!atomic_load(&cpu->events))
		pthread_cond_wait(&cpu->wake, lock);
	pthread_mutex_unlock(lock);
	enter_running(cpu);
}

/* --- execution --- */

/* Count what a block executed before it was left in the middle. */
static void account(struct cpu *cpu)
{
	translate_unwound(cpu, cpu->block);
	if (cpu->block && cpu->current >= cpu->block->insn &&
	    cpu->current < cpu->block->insn + cpu->block->count)
		cpu->instructions += (uint64_t)(cpu->current - cpu->block->insn);
	cpu->block = NULL;
}

static void breakpoints_check(struct cpu *cpu)
{
	uint64_t bits = 0, linear = cpu->r[REG_RIP] + cpu->seg[SEG_CS].base;
	for (unsigned n = 0; n < 4; n++)
		if (cpu->dr7 >> (2 * n) & 3 && !(cpu->dr7 >> (16 + 4 * n) & 3) && cpu->dr[n] == linear)
			bits |= BIT(n);
	if (bits)
		raise_debug(cpu, bits);
}

/* One instruction, with everything that single-stepping needs. */
static void single(struct cpu *cpu)
{
	bool tf = cpu->sysflags & FLAG_TF;
	cpu->start_rip = cpu->r[REG_RIP];
	if (cpu->inhibit)
		cpu->inhibit |= INHIBIT_SPENT;
	if (cpu->step & STEP_BREAKPOINTS && !(cpu->sysflags & FLAG_RF) && !(cpu->inhibit & INHIBIT_MOV_SS))
		breakpoints_check(cpu);
	struct block *b = block_find(cpu);
	const struct insn *i = b ? b->insn : block_single(cpu);
	/* RF lasts for one instruction; a fault of it sets it anew. */
	cpu->sysflags &= ~(uint32_t)FLAG_RF;
	cpu->block = b;
	insn_execute(cpu, i);
	cpu->block = NULL;
	cpu->instructions++;
	if (cpu->mode != MODE_64)
		cpu->r[REG_RIP] = (uint32_t)cpu->r[REG_RIP];
	if (cpu->inhibit & INHIBIT_SPENT)
		cpu->inhibit = 0;
	if (cpu->step)
		cpu_step_update(cpu);
	if (tf) {
		cpu->db_trap = true;
		cpu->db_bits |= DR6_BS;
		atomic_fetch_or_explicit(&cpu->events, EVENT_TRAP, memory_order_relaxed);
	}
	if (cpu->nonroot && cpu->step & STEP_MTF)
		vtx_stepped(cpu);
}

static void block_run(struct cpu *cpu, struct block *b)
{
	const struct insn *i = b->insn, *end = i + b->count;
	cpu->block = b;
	do
		insn_execute(cpu, i);
	while (++i != end);
	cpu->instructions += b->count;
	cpu->block = NULL;
	if (cpu->mode != MODE_64)
		cpu->r[REG_RIP] = (uint32_t)cpu->r[REG_RIP];
}

/* Counted clock: time is instructions. */
static void count_time(struct cpu *cpu)
{
	struct clock *clock = cpu->engine->engine.host.clock;
	uint64_t done = cpu->instructions - cpu->counted;
	cpu->counted = cpu->instructions;
	clock_advance(clock, done * cpu->engine->options.ns_per_insn);
	if (clock_next_deadline(clock) <= clock_now(clock))
		clock_run_due(clock);
}

/* One turn of the loop. Returns the block that ran to its end, if any. */
static struct block *turn(struct cpu *cpu, struct block *last, bool counted)
{
	uint32_t events = atomic_load_explicit(&cpu->events, memory_order_relaxed);
	if (unlikely(counted))
		count_time(cpu);
	if (unlikely(events | cpu->inhibit | cpu->step | cpu->activity)) {
		boundary(cpu, events);
		last = NULL;
		if (cpu->activity != ACTIVITY_ACTIVE) {
			idle(cpu);
			return NULL;
		}
		if (cpu->inhibit | cpu->step) {
			single(cpu);
			return NULL;
		}
	}
	struct block *b = block_follow(cpu, last);
	if (unlikely(!b)) {
		single(cpu);
		return NULL;
	}
	if (!b->enter && !translate_warm(cpu, b))
		return NULL;
	if (b->enter)
		return translate_run(cpu, b, last);
	block_run(cpu, b);
	return b;
}

void cpu_loop(struct cpu *cpu)
{
	bool counted = clock_is_counted(cpu->engine->engine.host.clock);
	thunk_thread_enter();
	translate_thread_enter(cpu);
	enter_running(cpu);
	if (sigsetjmp(cpu->unwind, 0))
		account(cpu);
	struct block *last = NULL;
	while (!(atomic_load_explicit(&cpu->events, memory_order_relaxed) & EVENT_STOP))
		last = turn(cpu, last, counted);
	leave_running(cpu);
	thunk_thread_leave();
}

bool cpu_step_translated(struct cpu *cpu)
{
	if (sigsetjmp(cpu->unwind, 0)) {
		account(cpu);
		return true;
	}
	uint32_t events = atomic_load(&cpu->events);
	if (events | cpu->inhibit | cpu->step | cpu->activity)
		return false;
	struct block *b = block_find(cpu);
	return b && translate_first(cpu, b);
}

void cpu_step(struct cpu *cpu)
{
	if (sigsetjmp(cpu->unwind, 0)) {
		account(cpu);
		return;
	}
	uint32_t events = atomic_load(&cpu->events);
	if (events | cpu->inhibit | cpu->step | cpu->activity)
		boundary(cpu, events);
	if (cpu->activity == ACTIVITY_ACTIVE)
		single(cpu);
}
