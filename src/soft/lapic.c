#include "soft/lapic_state.h"

#include "base/log.h"

#include <stdlib.h>

/* The local APIC. This file holds interrupts (IRR, ISR, priority), messages (ICR,
 * MSI) and the chip's life; lapic_timer.c the timer; lapic_registers.c the page
 * and the MSRs. Start with lapic_state.h.
 *
 * Invariants:
 * - lapic_update() runs after every change of IRR, ISR, TPR or IA32_APIC_BASE.
 *   It keeps `deliverable`, which is all that a processor looks at between two
 *   blocks, and tells the processor when it rose.
 * - Nothing here calls into a chip but host.eoi, so no chip's lock order
 *   matters.
 *
 * Not there: SMI (there is no SMM), ExtINT as a message (the INTR wire is the
 * only way from the 8259 pair), the CMCI entry, remote IRR of LINT pins (none
 * is driven by a level as a fixed interrupt), focus processor checking. */

enum {
	XAPIC_BROADCAST = 0xff,
	SPURIOUS_PRESET = 0x0f,
};
#define X2APIC_BROADCAST 0xffffffffu
#define DFR_FLAT 0xfu

#define ICR_LOGICAL BIT(11)
#define ICR_ASSERT BIT(14)
#define ICR_LEVEL BIT(15)
#define ICR_SHORTHAND(v) ((enum shorthand)bits_get(v, 19, 18))
enum shorthand { TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS };

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
uint8_t lapic_processor_priority(const struct lapic *l)
{
	int serviced = vectors_highest(&l->isr);
	uint8_t tpr = l->tpr;
	return serviced == NOTHING || tpr >> 4 >= serviced >> 4 ? tpr : serviced & 0xf0;
}

void lapic_update(struct lapic *l)
{
	int highest = lapic_enabled(l) ? vectors_highest(&l->irr) : NOTHING;
	if (highest != NOTHING && highest >> 4 <= lapic_processor_priority(l) >> 4)
		highest = NOTHING;
	int before = atomic_exchange_explicit(&l->deliverable, highest, memory_order_release);
	if (highest > before)
		lapic_notify(l, LAPIC_INTERRUPT, (uint8_t)highest);
}

void lapic_update_extint(struct lapic *l)
{
	uint32_t lint0 = l->lvt[LVT(REG_LVT_LINT0)];
	bool before = l->extint;
	l->extint = !lapic_enabled(l) || (!(lint0 & LVT_MASKED) && LVT_MODE(lint0) == MODE_EXTINT);
	/* INTR may be waiting at the pin. */
	if (l->extint && !before)
		lapic_notify(l, LAPIC_INTERRUPT, 0);
}

void lapic_raise_error(struct lapic *l, uint32_t error)
{
	uint32_t lvt = l->lvt[LVT(REG_LVT_ERROR)];
	l->errors |= error;
	if (lvt & LVT_MASKED)
		return;
	/* An illegal vector here must not raise the next error for ever. */
	if ((lvt & VECTOR_MASK) < FIRST_LEGAL_VECTOR)
		l->errors |= ESR_RECEIVE_ILLEGAL;
	else
		lapic_accept_fixed(l, lvt & VECTOR_MASK, false);
}

void lapic_accept_fixed(struct lapic *l, uint8_t vector, bool level)
{
	if (!lapic_enabled(l) || !lapic_software_enabled(l))
		return;
	if (vector < FIRST_LEGAL_VECTOR) {
		lapic_raise_error(l, ESR_RECEIVE_ILLEGAL);
		return;
	}
	vectors_set(&l->irr, vector, true);
	vectors_set(&l->tmr, vector, level);
	lapic_update(l);
}

void lapic_deliver_lvt(struct lapic *l, enum reg reg)
{
	uint32_t lvt = l->lvt[LVT(reg)];
	if (lvt & LVT_MASKED)
		return;
	if (LVT_MODE(lvt) == MODE_FIXED)
		lapic_accept_fixed(l, lvt & VECTOR_MASK, false);
	else if (LVT_MODE(lvt) == MODE_NMI)
		lapic_notify(l, LAPIC_NMI, 0);
}

void lapic_end_of_interrupt(struct lapic *l)
{
	int vector = vectors_highest(&l->isr);
	if (vector == NOTHING)
		return;
	vectors_set(&l->isr, (uint8_t)vector, false);
	lapic_update(l);
	if (vectors_test(&l->tmr, (uint8_t)vector) && !(l->svr & SVR_SUPPRESS_EOI))
		l->set->host.eoi(l->set->host.owner, (uint8_t)vector);
}

int lapic_pending(struct lapic *l)
{
	return atomic_load_explicit(&l->deliverable, memory_order_acquire);
}

void lapic_acknowledge(struct lapic *l, uint8_t vector)
{
	lapic_lock(l);
	if (vectors_test(&l->irr, vector)) {
		vectors_set(&l->irr, vector, false);
		vectors_set(&l->isr, vector, true);
		lapic_update(l);
	}
	lapic_unlock(l);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
	return l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint8_t value)
{
	lapic_lock(l);
	l->tpr = (uint8_t)(value << 4);
	lapic_update(l);
	lapic_unlock(l);
}

bool lapic_extint_accepted(const struct lapic *l)
{
	return l->extint;
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
uint32_t lapic_x2apic_id(const struct lapic *l)
{
	return (l->index >> 4) << 16 | 1u << (l->index & 15);
}

static bool matches_logical(const struct lapic *l, const struct message *m)
{
	uint32_t destination = m->destination;
	if (lapic_x2apic(l)) {
		uint32_t id = lapic_x2apic_id(l);
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
	if (!lapic_enabled(l))
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
	if (!lapic_enabled(l))
		return;
	switch (m->mode) {
	case MODE_FIXED:
	case MODE_LOWEST:
		lapic_accept_fixed(l, m->vector, m->level);
		break;
	case MODE_NMI:
		lapic_notify(l, LAPIC_NMI, 0);
		break;
	case MODE_INIT:
		/* Level de-assert only synchronises arbitration IDs. */
		if (!m->level || m->assert)
			lapic_notify(l, LAPIC_INIT, 0);
		break;
	case MODE_STARTUP:
		lapic_notify(l, LAPIC_SIPI, m->vector);
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
		if (matches(l, m) && lapic_software_enabled(l) &&
		    (!best || lapic_processor_priority(l) >> 4 < lapic_processor_priority(best) >> 4))
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
void lapic_send_ipi(struct lapic *l)
{
	uint32_t icr = l->icr_low;
	bool wide = lapic_x2apic(l);
	struct message m = {
		.vector = icr & VECTOR_MASK, .mode = LVT_MODE(icr), .logical = icr & ICR_LOGICAL,
		.assert = icr & ICR_ASSERT, .wide = wide,
		.destination = wide ? l->icr_high : l->icr_high >> XAPIC_ID_SHIFT,
	};
	/* The trigger mode means something to INIT alone. */
	m.level = m.mode == MODE_INIT && icr & ICR_LEVEL;
	if ((m.mode == MODE_FIXED || m.mode == MODE_LOWEST) && m.vector < FIRST_LEGAL_VECTOR) {
		lapic_raise_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	if (ICR_SHORTHAND(icr) == TO_DESTINATION) {
		send_to_destination(l->set, &m);
	} else if (ICR_SHORTHAND(icr) == TO_SELF) {
		/* Other modes are no valid combination with this shorthand. */
		if (m.mode == MODE_FIXED)
			lapic_accept_fixed(l, m.vector, false);
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
		if (lapic_enabled(l))
			lapic_deliver_lvt(l, REG_LVT_LINT1);
		else
			lapic_notify(l, LAPIC_NMI, 0);
	}
}

/* --- life --- */

static void reset(struct lapic *l, bool init)
{
	if (!init) {
		l->base = APIC_BASE_DEFAULT | APIC_BASE_EN | (l->index ? 0 : APIC_BASE_BSP);
		l->tsc_offset = 0;
	}
	lapic_reset_registers(l);
}

void lapic_reset(struct lapic *l, bool init)
{
	lapic_lock(l);
	reset(l, init);
	lapic_unlock(l);
}

void lapic_preset_virtual_wire(struct lapic *l)
{
	lapic_lock(l);
	l->svr = SVR_ENABLE | SPURIOUS_PRESET;
	l->lvt[LVT(REG_LVT_LINT0)] = MODE_EXTINT << 8;
	l->lvt[LVT(REG_LVT_LINT1)] = MODE_NMI << 8;
	lapic_update_extint(l);
	lapic_unlock(l);
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
		l->timer = (struct timer){ lapic_timer_fire, l, CLOCK_NEVER, NULL };
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

/* *left: what the timer still has to count. */
static void exchange(struct lapic *l, uint32_t *left, struct state *s)
{
	state_field(s, l->base);
	state_field(s, l->tpr);
	state_array(s, l->irr.word);
	state_array(s, l->isr.word);
	state_array(s, l->tmr.word);
	state_field(s, l->ldr);
	state_field(s, l->dfr);
	state_field(s, l->svr);
	state_field(s, l->esr);
	state_field(s, l->errors);
	state_field(s, l->icr_low);
	state_field(s, l->icr_high);
	state_array(s, l->lvt);
	state_field(s, l->divide);
	state_field(s, l->counting);
	state_field(s, l->initial);
	state_field(s, *left);
	state_field(s, l->tsc_deadline);
	state_field(s, l->tsc_offset);
}

void lapic_save(struct lapic *l, struct state *s)
{
	lapic_lock(l);
	/* What is left, because the clock may stand elsewhere at the load. */
	uint32_t left = lapic_timer_count(l);
	state_section(s, section, STATE_VERSION);
	exchange(l, &left, s);
	lapic_unlock(l);
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
	uint32_t left;
	lapic_lock(l);
	state_open(s, section);
	exchange(l, &left, s);
	if (!plausible(l))
		s->failed = true;
	if (s->failed)
		reset(l, false);
	lapic_update(l);
	lapic_update_extint(l);
	if (l->counting)
		lapic_timer_start(l, left ? left : 1);	/* due already: after one more count */
	else
		lapic_timer_reschedule(l);
	lapic_unlock(l);
	return state_finish(s, section, e);
}
