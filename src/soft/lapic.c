#include "soft/lapic.h"

#include "base/bits.h"
#include "base/log.h"
#include "x86/registers.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The local APIC in four parts, in this order: interrupts (IRR, ISR, priority),
 * the timer, messages (ICR, MSI), registers (MMIO page and MSRs).
 *
 * Invariants:
 * - update() runs after every change of IRR, ISR, TPR or IA32_APIC_BASE. It
 *   keeps `deliverable`, which is all that a processor looks at between two
 *   blocks, and tells the processor when it rose.
 * - The clock's timer is only ever moved to an earlier time. When the guest
 *   puts its deadline off, the timer stays, fires early, and goes on to the
 *   real `expiry`: guests move deadlines far more often than they reach them,
 *   and an armed timer costs a walk through the clock's list and perhaps a
 *   wake-up of its thread.
 * - Nothing here calls into a chip but host.eoi, so no chip's lock order
 *   matters.
 *
 * Not there: SMI (there is no SMM), ExtINT as a message (the INTR wire is the
 * only way from the 8259 pair), the CMCI entry, remote IRR of LINT pins (none
 * is driven by a level as a fixed interrupt), focus processor checking. */

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
#define LVT_TIMER_MODE(v) ((enum timer_mode)bits_get(v, 18, 17))
#define VECTOR_MASK 0xffu

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

#define SVR_ENABLE BIT(8)
#define SVR_SUPPRESS_EOI BIT(12)
#define SVR_WRITABLE (BITS(9, 0) | SVR_SUPPRESS_EOI)
#define SVR_RESET 0xffu

#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECEIVE_ILLEGAL BIT(6)
#define ESR_REGISTER BIT(7)

#define ICR_LOGICAL BIT(11)
#define ICR_ASSERT BIT(14)
#define ICR_LEVEL BIT(15)
#define ICR_SHORTHAND(v) ((enum shorthand)bits_get(v, 19, 18))
#define ICR_WRITABLE (BITS(11, 0) | BITS(15, 14) | BITS(19, 18))

enum shorthand { TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS };

#define DFR_ONES BITS(27, 0)
#define DFR_FLAT 0xfu

/* Integrated APIC, last LVT entry 5, EOI-broadcast suppression. */
#define VERSION (0x14u | (LVTS - 1) << 16 | BIT(24))

enum {
	FIRST_LEGAL_VECTOR = 16,
	XAPIC_ID_SHIFT = 24,
	XAPIC_BROADCAST = 0xff,
	SPURIOUS_PRESET = 0x0f,
	PHYSICAL_BITS_MAX = 52,
	NOTHING = -1,
};
#define X2APIC_BROADCAST 0xffffffffu

/* A periodic timer delivers at most this often, whatever its count; ticks in
 * between are merged into one, as interrupts of the same vector are anyway. */
#define PERIOD_MIN_NS 50000ull

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

static void lock(struct lapic *l)
{
	pthread_mutex_lock(l->set->host.lock);
}

static void unlock(struct lapic *l)
{
	pthread_mutex_unlock(l->set->host.lock);
}

static void notify(struct lapic *l, enum lapic_event event, uint8_t vector)
{
	l->set->host.notify(l->set->host.owner, l->index, event, vector);
}

static bool enabled(const struct lapic *l)
{
	return l->base & APIC_BASE_EN;
}

static bool x2apic(const struct lapic *l)
{
	return (l->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

static bool software_enabled(const struct lapic *l)
{
	return l->svr & SVR_ENABLE;
}

/* --- interrupts --- */

static void vectors_set(struct vectors *v, uint8_t vector, bool on)
{
	uint64_t bit = BIT(vector % 64);
	if (on)
		v->word[vector / 64] |= bit;
	else
		v->word[vector / 64] &= ~bit;
}

static bool vectors_test(const struct vectors *v, uint8_t vector)
{
	return v->word[vector / 64] & BIT(vector % 64);
}

static int vectors_highest(const struct vectors *v)
{
	for (int i = 3; i >= 0; i--)
		if (v->word[i])
			return i * 64 + 63 - __builtin_clzll(v->word[i]);
	return NOTHING;
}

/* SDM vol. 3, "Task and Processor Priorities". */
static uint8_t processor_priority(const struct lapic *l)
{
	int serviced = vectors_highest(&l->isr);
	uint8_t tpr = l->tpr;
	return serviced == NOTHING || tpr >> 4 >= serviced >> 4 ? tpr : serviced & 0xf0;
}

static void update(struct lapic *l)
{
	int highest = enabled(l) ? vectors_highest(&l->irr) : NOTHING;
	if (highest != NOTHING && highest >> 4 <= processor_priority(l) >> 4)
		highest = NOTHING;
	int before = atomic_exchange_explicit(&l->deliverable, highest, memory_order_release);
	if (highest > before)
		notify(l, LAPIC_INTERRUPT, (uint8_t)highest);
}

static void update_extint(struct lapic *l)
{
	uint32_t lint0 = l->lvt[LVT(REG_LVT_LINT0)];
	bool before = l->extint;
	l->extint = !enabled(l) || (!(lint0 & LVT_MASKED) && LVT_MODE(lint0) == MODE_EXTINT);
	/* INTR may be waiting at the pin. */
	if (l->extint && !before)
		notify(l, LAPIC_INTERRUPT, 0);
}

static void accept_fixed(struct lapic *l, uint8_t vector, bool level);

static void raise_error(struct lapic *l, uint32_t error)
{
	uint32_t lvt = l->lvt[LVT(REG_LVT_ERROR)];
	l->errors |= error;
	if (lvt & LVT_MASKED)
		return;
	/* An illegal vector here must not raise the next error for ever. */
	if ((lvt & VECTOR_MASK) < FIRST_LEGAL_VECTOR)
		l->errors |= ESR_RECEIVE_ILLEGAL;
	else
		accept_fixed(l, lvt & VECTOR_MASK, false);
}

static void accept_fixed(struct lapic *l, uint8_t vector, bool level)
{
	if (!enabled(l) || !software_enabled(l))
		return;
	if (vector < FIRST_LEGAL_VECTOR) {
		raise_error(l, ESR_RECEIVE_ILLEGAL);
		return;
	}
	vectors_set(&l->irr, vector, true);
	vectors_set(&l->tmr, vector, level);
	update(l);
}

static void deliver_lvt(struct lapic *l, enum reg reg)
{
	uint32_t lvt = l->lvt[LVT(reg)];
	if (lvt & LVT_MASKED)
		return;
	if (LVT_MODE(lvt) == MODE_FIXED)
		accept_fixed(l, lvt & VECTOR_MASK, false);
	else if (LVT_MODE(lvt) == MODE_NMI)
		notify(l, LAPIC_NMI, 0);
}

static void end_of_interrupt(struct lapic *l)
{
	int vector = vectors_highest(&l->isr);
	if (vector == NOTHING)
		return;
	vectors_set(&l->isr, (uint8_t)vector, false);
	update(l);
	if (vectors_test(&l->tmr, (uint8_t)vector) && !(l->svr & SVR_SUPPRESS_EOI))
		l->set->host.eoi(l->set->host.owner, (uint8_t)vector);
}

int lapic_pending(struct lapic *l)
{
	return atomic_load_explicit(&l->deliverable, memory_order_acquire);
}

void lapic_acknowledge(struct lapic *l, uint8_t vector)
{
	lock(l);
	if (vectors_test(&l->irr, vector)) {
		vectors_set(&l->irr, vector, false);
		vectors_set(&l->isr, vector, true);
		update(l);
	}
	unlock(l);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
	return l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint8_t value)
{
	lock(l);
	l->tpr = (uint8_t)(value << 4);
	update(l);
	unlock(l);
}

bool lapic_extint_accepted(const struct lapic *l)
{
	return l->extint;
}

/* --- timer --- */

static enum timer_mode timer_mode(const struct lapic *l)
{
	return LVT_TIMER_MODE(l->lvt[LVT(REG_LVT_TIMER)]);
}

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

static uint32_t current_count(const struct lapic *l)
{
	if (!l->counting)
		return 0;
	uint64_t elapsed = scale_u64(clock_now(l->set->host.clock) - l->start, CLOCK_CRYSTAL_HZ,
				     NS_PER_SECOND) / divisor(l);
	if (elapsed < l->count)
		return l->count - (uint32_t)elapsed;
	if (timer_mode(l) != TIMER_PERIODIC)
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
	switch (timer_mode(l)) {
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
	deliver_lvt(l, REG_LVT_TIMER);
}

/* Make the clock's timer fire at expiry or before; expire now what is due. */
static void arm(struct lapic *l, uint64_t now)
{
	if (l->expiry <= now)
		expire(l, now);
	if (l->expiry < l->timer.deadline)
		timer_set(l->set->host.clock, &l->timer, l->expiry);
}

static void timer_fire(void *owner)
{
	struct lapic *l = owner;
	arm(l, clock_now(l->set->host.clock));
}

/* After a change of what the timer counts. */
static void reschedule(struct lapic *l)
{
	uint64_t now = clock_now(l->set->host.clock);
	if (timer_mode(l) == TIMER_DEADLINE)
		l->expiry = deadline_to_ns(l, now);
	else
		l->expiry = l->counting ? l->start + count_to_ns(l, l->count) : CLOCK_NEVER;
	arm(l, now);
}

static void stop_timer(struct lapic *l)
{
	l->counting = false;
	l->initial = 0;
	l->tsc_deadline = 0;
	l->expiry = CLOCK_NEVER;
}

static void start_count(struct lapic *l, uint32_t from)
{
	l->start = clock_now(l->set->host.clock);
	l->count = from;
	l->counting = from != 0;
	reschedule(l);
}

void lapic_set_tsc_offset(struct lapic *l, uint64_t offset)
{
	lock(l);
	l->tsc_offset = offset;
	if (timer_mode(l) == TIMER_DEADLINE)
		reschedule(l);
	unlock(l);
}

/* --- messages --- */

struct message {
	uint8_t vector;
	enum delivery_mode mode;
	bool logical, level, assert;
	bool wide;		/* 32-bit destination, from an x2APIC */
	uint32_t destination;
};

/* SDM vol. 3, "Determining IPI Destination" and "Logical Destination Mode in
 * x2APIC Mode". */
static uint32_t x2apic_logical_id(const struct lapic *l)
{
	return (l->index >> 4) << 16 | 1u << (l->index & 15);
}

static bool matches_logical(const struct lapic *l, const struct message *m)
{
	uint32_t destination = m->destination;
	if (x2apic(l)) {
		uint32_t id = x2apic_logical_id(l);
		return destination >> 16 == id >> 16 && (destination & id & 0xffff);
	}
	if (destination > XAPIC_BROADCAST)
		return false;
	uint32_t id = l->ldr >> XAPIC_ID_SHIFT;
	if (l->dfr >> 28 == DFR_FLAT)
		return destination & id;
	return (destination >> 4 == 0xf || destination >> 4 == id >> 4) &&
		(destination & id & 0xf);
}

static bool matches(const struct lapic *l, const struct message *m)
{
	if (!enabled(l))
		return false;
	if (m->wide && m->destination == X2APIC_BROADCAST)
		return true;
	if (m->logical)
		return matches_logical(l, m);
	if (!m->wide && m->destination == XAPIC_BROADCAST)
		return true;
	return m->destination == l->index;
}

static void deliver(struct lapic *l, const struct message *m)
{
	if (!enabled(l))
		return;
	switch (m->mode) {
	case MODE_FIXED:
	case MODE_LOWEST:
		accept_fixed(l, m->vector, m->level);
		break;
	case MODE_NMI:
		notify(l, LAPIC_NMI, 0);
		break;
	case MODE_INIT:
		/* Level de-assert only synchronises arbitration IDs. */
		if (!m->level || m->assert)
			notify(l, LAPIC_INIT, 0);
		break;
	case MODE_STARTUP:
		notify(l, LAPIC_SIPI, m->vector);
		break;
	default:
		break;
	}
}

/* Of those that take the message the one with the lowest priority; equals take
 * turns. */
static struct lapic *arbitrate(struct lapic_set *set, const struct message *m)
{
	struct lapic *best = NULL;
	for (unsigned i = 0; i < set->processors; i++) {
		struct lapic *l = &set->lapic[(set->arbiter + i) % set->processors];
		if (matches(l, m) && software_enabled(l) &&
		    (!best || processor_priority(l) >> 4 < processor_priority(best) >> 4))
			best = l;
	}
	if (best)
		set->arbiter = (best->index + 1) % set->processors;
	return best;
}

static void send_to_destination(struct lapic_set *set, const struct message *m)
{
	if (m->mode == MODE_LOWEST) {
		struct lapic *l = arbitrate(set, m);
		if (l)
			deliver(l, m);
		return;
	}
	for (unsigned i = 0; i < set->processors; i++)
		if (matches(&set->lapic[i], m))
			deliver(&set->lapic[i], m);
}

/* A write to the low half of ICR (SDM vol. 3, "Interrupt Command Register"). */
static void send_ipi(struct lapic *l)
{
	uint32_t icr = l->icr_low;
	bool wide = x2apic(l);
	struct message m = {
		.vector = icr & VECTOR_MASK, .mode = LVT_MODE(icr), .logical = icr & ICR_LOGICAL,
		.assert = icr & ICR_ASSERT, .wide = wide,
		.destination = wide ? l->icr_high : l->icr_high >> XAPIC_ID_SHIFT,
	};
	/* The trigger mode means something to INIT alone. */
	m.level = m.mode == MODE_INIT && icr & ICR_LEVEL;
	if ((m.mode == MODE_FIXED || m.mode == MODE_LOWEST) && m.vector < FIRST_LEGAL_VECTOR) {
		raise_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	if (ICR_SHORTHAND(icr) == TO_DESTINATION) {
		send_to_destination(l->set, &m);
	} else if (ICR_SHORTHAND(icr) == TO_SELF) {
		/* Other modes are no valid combination with this shorthand. */
		if (m.mode == MODE_FIXED)
			accept_fixed(l, m.vector, false);
	} else {
		for (unsigned i = 0; i < l->set->processors; i++)
			if (i != l->index || ICR_SHORTHAND(icr) == TO_ALL)
				deliver(&l->set->lapic[i], &m);
	}
}

enum { MSI_REDIRECTION_HINT = 1 << 3, MSI_LOGICAL = 1 << 2 };

void lapic_msi(struct lapic_set *set, uint64_t address, uint32_t data)
{
	struct message m = {
		.vector = data & VECTOR_MASK, .mode = LVT_MODE(data),
		.logical = address & MSI_LOGICAL, .level = data & ICR_LEVEL,
		.assert = true, .destination = (uint32_t)bits_get(address, 19, 12),
	};
	if (m.mode == MODE_FIXED && m.logical && address & MSI_REDIRECTION_HINT)
		m.mode = MODE_LOWEST;
	send_to_destination(set, &m);
}

void lapic_nmi(struct lapic_set *set)
{
	for (unsigned i = 0; i < set->processors; i++) {
		struct lapic *l = &set->lapic[i];
		if (enabled(l))
			deliver_lvt(l, REG_LVT_LINT1);
		else
			notify(l, LAPIC_NMI, 0);
	}
}

/* --- registers --- */

enum access { READ = 1, WRITE = 2, XAPIC_ONLY = 4, X2APIC_ONLY = 8 };

/* writable: the bits that a write changes; read_only: bits that a WRMSR may
 * set without effect. Any other bit set is #GP in x2APIC mode. */
static const struct {
	uint8_t access;
	uint32_t writable, read_only;
} registers[REGS] = {
	[REG_ID] = { READ },
	[REG_VERSION] = { READ },
	[REG_TPR] = { READ | WRITE, VECTOR_MASK },
	[REG_APR] = { READ | XAPIC_ONLY },
	[REG_PPR] = { READ },
	[REG_EOI] = { WRITE },
	[REG_RRD] = { READ | XAPIC_ONLY },
	[REG_LDR] = { READ | WRITE, (uint32_t)BITS(31, 24) },
	[REG_DFR] = { READ | WRITE | XAPIC_ONLY, (uint32_t)BITS(31, 28) },
	[REG_SVR] = { READ | WRITE, SVR_WRITABLE },
	[REG_ISR ... REG_ISR + 7] = { READ },
	[REG_TMR ... REG_TMR + 7] = { READ },
	[REG_IRR ... REG_IRR + 7] = { READ },
	[REG_ESR] = { READ | WRITE },
	[REG_ICR_LOW] = { READ | WRITE, ICR_WRITABLE },
	[REG_ICR_HIGH] = { READ | WRITE | XAPIC_ONLY, (uint32_t)BITS(31, 24) },
	[REG_LVT_TIMER] = { READ | WRITE, VECTOR_MASK | BITS(18, 16), LVT_STATUS },
	[REG_LVT_THERMAL] = { READ | WRITE, BITS(10, 0) | LVT_MASKED, LVT_STATUS },
	[REG_LVT_PERF] = { READ | WRITE, BITS(10, 0) | LVT_MASKED, LVT_STATUS },
	[REG_LVT_LINT0] = { READ | WRITE, BITS(10, 0) | BIT(13) | BITS(16, 15),
			    LVT_STATUS | LVT_REMOTE_IRR },
	[REG_LVT_LINT1] = { READ | WRITE, BITS(10, 0) | BIT(13) | BITS(16, 15),
			    LVT_STATUS | LVT_REMOTE_IRR },
	[REG_LVT_ERROR] = { READ | WRITE, VECTOR_MASK | LVT_MASKED, LVT_STATUS },
	[REG_INITIAL_COUNT] = { READ | WRITE, (uint32_t)BITS(31, 0) },
	[REG_CURRENT_COUNT] = { READ },
	[REG_DIVIDE] = { READ | WRITE, BITS(1, 0) | BIT(3) },
	[REG_SELF_IPI] = { WRITE | X2APIC_ONLY, VECTOR_MASK },
};

static uint32_t read_vectors(const struct vectors *v, unsigned part)
{
	return (uint32_t)(v->word[part / 2] >> (part % 2 * 32));
}

static uint32_t read_register(struct lapic *l, unsigned reg)
{
	switch (reg) {
	case REG_ID: return x2apic(l) ? l->index : l->index << XAPIC_ID_SHIFT;
	case REG_VERSION: return VERSION;
	case REG_TPR: return l->tpr;
	case REG_PPR: return processor_priority(l);
	case REG_LDR: return x2apic(l) ? x2apic_logical_id(l) : l->ldr;
	case REG_DFR: return l->dfr;
	case REG_SVR: return l->svr;
	case REG_ISR ... REG_ISR + 7: return read_vectors(&l->isr, reg - REG_ISR);
	case REG_TMR ... REG_TMR + 7: return read_vectors(&l->tmr, reg - REG_TMR);
	case REG_IRR ... REG_IRR + 7: return read_vectors(&l->irr, reg - REG_IRR);
	case REG_ESR: return l->esr;
	case REG_ICR_LOW: return l->icr_low;
	case REG_ICR_HIGH: return l->icr_high;
	case REG_LVT_TIMER ... REG_LVT_ERROR: return l->lvt[LVT(reg)];
	case REG_INITIAL_COUNT: return l->initial;
	case REG_CURRENT_COUNT: return current_count(l);
	case REG_DIVIDE: return l->divide;
	default: return 0;
	}
}

static void write_svr(struct lapic *l, uint32_t value)
{
	l->svr = value;
	/* SDM vol. 3, "Local APIC State After It Has Been Software Disabled". */
	if (!software_enabled(l))
		for (unsigned i = 0; i < LVTS; i++)
			l->lvt[i] |= LVT_MASKED;
	update_extint(l);
}

static void write_lvt(struct lapic *l, unsigned reg, uint32_t value)
{
	enum timer_mode before = timer_mode(l);
	l->lvt[LVT(reg)] = value | (software_enabled(l) ? 0 : LVT_MASKED);
	if (reg == REG_LVT_LINT0)
		update_extint(l);
	/* "A write to the LVT Timer Register that changes the timer mode disarms". */
	if (reg == REG_LVT_TIMER && timer_mode(l) != before)
		stop_timer(l);
}

static void write_divide(struct lapic *l, uint32_t value)
{
	uint32_t left = current_count(l);
	bool counting = l->counting;
	l->divide = value;
	if (counting)
		/* What is due already comes after one more count. */
		start_count(l, left ? left : 1);
}

/* value has only writable bits. */
static void write_register(struct lapic *l, unsigned reg, uint32_t value)
{
	switch (reg) {
	case REG_TPR:
		l->tpr = (uint8_t)value;
		update(l);
		break;
	case REG_EOI:
		end_of_interrupt(l);
		break;
	case REG_LDR:
		l->ldr = value;
		break;
	case REG_DFR:
		l->dfr = value | DFR_ONES;
		break;
	case REG_SVR:
		write_svr(l, value);
		break;
	case REG_ESR:
		l->esr = l->errors;
		l->errors = 0;
		break;
	case REG_ICR_LOW:
		l->icr_low = value;
		send_ipi(l);
		break;
	case REG_ICR_HIGH:
		l->icr_high = value;
		break;
	case REG_LVT_TIMER ... REG_LVT_ERROR:
		write_lvt(l, reg, value);
		break;
	case REG_INITIAL_COUNT:
		if (timer_mode(l) == TIMER_DEADLINE)
			break;
		l->initial = value;
		start_count(l, value);
		break;
	case REG_DIVIDE:
		write_divide(l, value);
		break;
	case REG_SELF_IPI:
		if (value < FIRST_LEGAL_VECTOR)
			raise_error(l, ESR_SEND_ILLEGAL);
		else
			accept_fixed(l, (uint8_t)value, false);
		break;
	}
}

static bool page_present(const struct lapic *l)
{
	return enabled(l) && !x2apic(l);
}

/* Does the MMIO page hold this register for this access? */
static bool page_has(struct lapic *l, uint32_t offset, enum access access)
{
	unsigned reg = offset >> 4;
	if (offset & 3)
		return false;
	if (reg < REGS && registers[reg].access && !(registers[reg].access & X2APIC_ONLY))
		/* Only the first 4 bytes of 16 are defined. */
		return registers[reg].access & access && !(offset & 0xc);
	raise_error(l, ESR_REGISTER);
	return false;
}

uint32_t lapic_read(struct lapic *l, uint32_t offset)
{
	uint32_t value = UINT32_MAX;
	lock(l);
	if (page_present(l))
		value = page_has(l, offset, READ) ? read_register(l, offset >> 4) : 0;
	unlock(l);
	return value;
}

void lapic_write(struct lapic *l, uint32_t offset, uint32_t value)
{
	lock(l);
	if (page_present(l) && page_has(l, offset, WRITE))
		write_register(l, offset >> 4, value & registers[offset >> 4].writable);
	unlock(l);
}

/* The registers but IA32_APIC_BASE; returns to what the SDM calls the state
 * after power-up, reset and INIT. */
static void reset_registers(struct lapic *l)
{
	stop_timer(l);
	l->irr = l->isr = l->tmr = (struct vectors){ { 0 } };
	l->tpr = 0;
	l->ldr = l->esr = l->errors = l->icr_low = l->icr_high = l->divide = 0;
	l->dfr = (uint32_t)BITS(31, 0);
	l->svr = SVR_RESET;
	for (unsigned i = 0; i < LVTS; i++)
		l->lvt[i] = LVT_MASKED;
	update(l);
	update_extint(l);
}

/* SDM vol. 3, "x2APIC State Transitions". */
static bool write_base(struct lapic *l, uint64_t value)
{
	unsigned bits = l->set->host.physical_bits;
	uint64_t known = APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_EN |
		BITS((bits ? bits : PHYSICAL_BITS_MAX) - 1, 12);
	bool en = value & APIC_BASE_EN, extd = value & APIC_BASE_EXTD;
	if (value & ~known || (extd && (!en || !enabled(l))) || (x2apic(l) && en && !extd))
		return false;
	bool was_enabled = enabled(l);
	l->base = value;
	if (en != was_enabled)
		reset_registers(l);
	return true;
}

static bool read_x2apic(struct lapic *l, uint32_t msr, uint64_t *value)
{
	uint32_t reg = msr - MSR_X2APIC_FIRST;
	if (!x2apic(l) || reg >= REGS || !(registers[reg].access & READ) ||
	    registers[reg].access & XAPIC_ONLY)
		return false;
	*value = read_register(l, reg);
	if (reg == REG_ICR_LOW)
		*value |= (uint64_t)l->icr_high << 32;
	return true;
}

static bool write_x2apic(struct lapic *l, uint32_t msr, uint64_t value)
{
	uint32_t reg = msr - MSR_X2APIC_FIRST;
	if (!x2apic(l) || reg >= REGS || !(registers[reg].access & WRITE) ||
	    registers[reg].access & XAPIC_ONLY || reg == REG_LDR)
		return false;
	if (reg == REG_ICR_LOW) {
		if ((uint32_t)value & ~registers[reg].writable)
			return false;
		l->icr_high = (uint32_t)(value >> 32);
	} else if (value & ~(uint64_t)(registers[reg].writable | registers[reg].read_only)) {
		return false;
	}
	write_register(l, reg, (uint32_t)value & registers[reg].writable);
	return true;
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
	bool ok = true;
	lock(l);
	if (msr == MSR_IA32_APIC_BASE)
		*value = l->base;
	else if (msr == MSR_IA32_TSC_DEADLINE)
		*value = l->tsc_deadline;
	else
		ok = msr >= MSR_X2APIC_FIRST && read_x2apic(l, msr, value);
	unlock(l);
	return ok;
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
	bool ok = true;
	lock(l);
	if (msr == MSR_IA32_TSC_DEADLINE) {
		if (timer_mode(l) == TIMER_DEADLINE) {
			l->tsc_deadline = value;
			reschedule(l);
		}
	} else if (msr == MSR_IA32_APIC_BASE) {
		ok = write_base(l, value);
	} else {
		ok = msr >= MSR_X2APIC_FIRST && write_x2apic(l, msr, value);
	}
	unlock(l);
	return ok;
}

uint64_t lapic_base(const struct lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed);
}

/* --- life --- */

static void reset(struct lapic *l, bool init)
{
	if (!init) {
		l->base = APIC_BASE_DEFAULT | APIC_BASE_EN | (l->index ? 0 : APIC_BASE_BSP);
		l->tsc_offset = 0;
	}
	reset_registers(l);
}

void lapic_reset(struct lapic *l, bool init)
{
	lock(l);
	reset(l, init);
	unlock(l);
}

void lapic_preset_virtual_wire(struct lapic *l)
{
	lock(l);
	l->svr = SVR_ENABLE | SPURIOUS_PRESET;
	l->lvt[LVT(REG_LVT_LINT0)] = MODE_EXTINT << 8;
	l->lvt[LVT(REG_LVT_LINT1)] = MODE_NMI << 8;
	update_extint(l);
	unlock(l);
}

struct lapic_set *lapic_set_create(unsigned processors, const struct lapic_host *host)
{
	struct lapic_set *set = alloc_zeroed(1, sizeof *set + processors * sizeof set->lapic[0]);
	set->host = *host;
	set->processors = processors;
	for (unsigned i = 0; i < processors; i++) {
		struct lapic *l = &set->lapic[i];
		l->set = set;
		l->index = i;
		l->deliverable = NOTHING;
		l->timer = (struct timer){ timer_fire, l, CLOCK_NEVER, NULL };
		reset(l, false);
	}
	return set;
}

void lapic_set_destroy(struct lapic_set *set)
{
	pthread_mutex_lock(set->host.lock);
	for (unsigned i = 0; i < set->processors; i++)
		timer_cancel(set->host.clock, &set->lapic[i].timer);
	pthread_mutex_unlock(set->host.lock);
	free(set);
}

struct lapic *lapic_get(struct lapic_set *set, unsigned processor)
{
	return &set->lapic[processor];
}

static const char section[] = "lapic";
enum { STATE_VERSION = 1 };

static void save_vectors(const struct vectors *v, struct state *s)
{
	for (unsigned i = 0; i < ARRAY_SIZE(v->word); i++)
		state_put_field(s, v->word[i]);
}

static void load_vectors(struct vectors *v, struct state *s)
{
	for (unsigned i = 0; i < ARRAY_SIZE(v->word); i++)
		state_get_field(s, v->word[i]);
}

void lapic_save(struct lapic *l, struct state *s)
{
	lock(l);
	/* What is left, because the clock may stand elsewhere at the load. */
	uint32_t left = current_count(l);
	state_section(s, section, STATE_VERSION);
	state_put(s, l->base, 8);
	state_put(s, l->tpr, 1);
	save_vectors(&l->irr, s);
	save_vectors(&l->isr, s);
	save_vectors(&l->tmr, s);
	state_put_field(s, l->ldr);
	state_put_field(s, l->dfr);
	state_put_field(s, l->svr);
	state_put_field(s, l->esr);
	state_put_field(s, l->errors);
	state_put_field(s, l->icr_low);
	state_put_field(s, l->icr_high);
	for (unsigned i = 0; i < LVTS; i++)
		state_put_field(s, l->lvt[i]);
	state_put_field(s, l->divide);
	state_put(s, l->counting, 1);
	state_put_field(s, l->initial);
	state_put_field(s, left);
	state_put_field(s, l->tsc_deadline);
	state_put_field(s, l->tsc_offset);
	unlock(l);
}

/* What no guest can bring about must not come from a file either: a periodic
 * timer divides by its initial count. */
static bool plausible(const struct lapic *l)
{
	bool en = l->base & APIC_BASE_EN, extd = l->base & APIC_BASE_EXTD;
	return (en || !extd) && (!l->counting || l->initial);
}

int lapic_load(struct lapic *l, struct state *s, struct error *e)
{
	lock(l);
	state_open(s, section);
	l->base = state_get(s, 8);
	l->tpr = (uint8_t)state_get(s, 1);
	load_vectors(&l->irr, s);
	load_vectors(&l->isr, s);
	load_vectors(&l->tmr, s);
	state_get_field(s, l->ldr);
	state_get_field(s, l->dfr);
	state_get_field(s, l->svr);
	state_get_field(s, l->esr);
	state_get_field(s, l->errors);
	state_get_field(s, l->icr_low);
	state_get_field(s, l->icr_high);
	for (unsigned i = 0; i < LVTS; i++)
		state_get_field(s, l->lvt[i]);
	state_get_field(s, l->divide);
	l->counting = state_get(s, 1);
	state_get_field(s, l->initial);
	uint32_t left = (uint32_t)state_get(s, 4);
	state_get_field(s, l->tsc_deadline);
	state_get_field(s, l->tsc_offset);
	if (!plausible(l))
		s->failed = true;
	if (s->failed)
		reset(l, false);
	update(l);
	update_extint(l);
	if (l->counting)
		start_count(l, left ? left : 1);	/* due already: after one more count */
	else
		reschedule(l);
	unlock(l);
	return state_finish(s, section, e);
}
