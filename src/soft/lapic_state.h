/* Inside the local APIC: its state, and what its three files tell each other.
 * The board lock is held in everything below. */
#ifndef NESTOR_SOFT_LAPIC_STATE_H
#define NESTOR_SOFT_LAPIC_STATE_H

#include "base/bits.h"
#include "soft/lapic.h"

#include <stdatomic.h>

/* Registers, by offset / 16: the numbering of the MMIO page and, from 800h on,
 * of the MSRs (SDM vol. 3, "Local APIC Register Address Map" and "x2APIC
 * Register Address Space"). */
enum reg {
	REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a,
	REG_EOI = 0x0b, REG_RRD = 0x0c, REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f,
	REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_ICR_LOW = 0x30,
	REG_ICR_HIGH = 0x31, REG_LVT_TIMER = 0x32, REG_LVT_THERMAL = 0x33, REG_LVT_PERF = 0x34,
	REG_LVT_LINT0 = 0x35, REG_LVT_LINT1 = 0x36, REG_LVT_ERROR = 0x37,
	REG_INITIAL_COUNT = 0x38, REG_CURRENT_COUNT = 0x39, REG_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f, REGS = 0x40,
};

enum { LVTS = REG_LVT_ERROR - REG_LVT_TIMER + 1 };
#define LVT(reg) ((reg) - REG_LVT_TIMER)

enum delivery_mode {
	MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_RESERVED, MODE_NMI, MODE_INIT, MODE_STARTUP,
	MODE_EXTINT
};

#define LVT_MODE(v) ((enum delivery_mode)bits_get(v, 10, 8))
#define LVT_STATUS BIT(12)
#define LVT_REMOTE_IRR BIT(14)
#define LVT_MASKED BIT(16)
#define VECTOR_MASK 0xffu

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

#define SVR_ENABLE BIT(8)
#define SVR_SUPPRESS_EOI BIT(12)

#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECEIVE_ILLEGAL BIT(6)
#define ESR_REGISTER BIT(7)

enum {
	FIRST_LEGAL_VECTOR = 16,
	XAPIC_ID_SHIFT = 24,
	NOTHING = -1,
};

struct vectors {
	uint64_t word[4];
};

struct lapic {
	struct lapic_set *set;
	unsigned index;			/* processor number and APIC ID */
	_Atomic int deliverable;	/* highest vector above PPR, or NOTHING */
	_Atomic uint64_t base;		/* IA32_APIC_BASE */
	_Atomic uint8_t tpr;
	_Atomic bool extint;
	struct vectors irr, isr, tmr;
	uint32_t ldr, dfr, svr, esr, errors /* since the last write to ESR */;
	uint32_t icr_low, icr_high, lvt[LVTS], divide;

	struct timer timer;
	uint64_t expiry;	/* ns, when the guest's timer reaches zero; CLOCK_NEVER: stopped */
	bool counting;		/* one-shot or periodic timer runs: */
	uint32_t initial;
	uint32_t count;		/* from this */
	uint64_t start;		/* at this time (ns) */
	uint64_t tsc_deadline, tsc_offset;
};

struct lapic_set {
	struct lapic_host host;
	unsigned processors;
	unsigned arbiter;	/* lowest priority: whose turn among equals */
	struct lapic lapic[];
};

/* For functions that are called without the lock. */
static inline void lapic_lock(struct lapic *l)
{
	pthread_mutex_lock(l->set->host.lock);
}

static inline void lapic_unlock(struct lapic *l)
{
	pthread_mutex_unlock(l->set->host.lock);
}

static inline void lapic_notify(struct lapic *l, enum lapic_event event, uint8_t vector)
{
	l->set->host.notify(l->set->host.owner, l->index, event, vector);
}

static inline bool lapic_enabled(const struct lapic *l)
{
	return l->base & APIC_BASE_EN;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
	return (l->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

static inline bool lapic_software_enabled(const struct lapic *l)
{
	return l->svr & SVR_ENABLE;
}

static inline enum timer_mode lapic_timer_mode(const struct lapic *l)
{
	return (enum timer_mode)bits_get(l->lvt[LVT(REG_LVT_TIMER)], 18, 17);
}

/* lapic.c: interrupts and messages. */
void lapic_update(struct lapic *l);		/* IRR, ISR, TPR or IA32_APIC_BASE changed */
void lapic_update_extint(struct lapic *l);	/* LINT0 or IA32_APIC_BASE changed */
uint8_t lapic_processor_priority(const struct lapic *l);
void lapic_accept_fixed(struct lapic *l, uint8_t vector, bool level);
void lapic_raise_error(struct lapic *l, uint32_t error);
void lapic_deliver_lvt(struct lapic *l, enum reg reg);
void lapic_end_of_interrupt(struct lapic *l);
void lapic_send_ipi(struct lapic *l);		/* as ICR says */
uint32_t lapic_x2apic_id(const struct lapic *l);	/* the logical one */

/* lapic_registers.c */
void lapic_reset_registers(struct lapic *l);

/* lapic_timer.c */
uint32_t lapic_timer_count(const struct lapic *l);	/* current count */
void lapic_timer_start(struct lapic *l, uint32_t from);	/* count down from here, now */
void lapic_timer_reschedule(struct lapic *l);		/* what it counts changed */
void lapic_timer_stop(struct lapic *l);
void lapic_timer_fire(void *lapic);			/* the clock's call */

#endif
