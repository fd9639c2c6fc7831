#include "soft/lapic_state.h"
#include "x86/registers.h"

/* The local APIC's registers as the MMIO page and the MSRs show them. One table
 * says what exists where and which bits can be written. */

enum { PHYSICAL_BITS_MAX = 52 };

/* Integrated APIC, last LVT entry 5, EOI-broadcast suppression. */
#define VERSION (0x14u | (LVTS - 1) << 16 | BIT(24))

#define SVR_WRITABLE (BITS(9, 0) | SVR_SUPPRESS_EOI)
#define SVR_RESET 0xffu
#define ICR_WRITABLE (BITS(11, 0) | BITS(15, 14) | BITS(19, 18))
#define DFR_ONES BITS(27, 0)

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
	case REG_ID: return lapic_x2apic(l) ? l->index : l->index << XAPIC_ID_SHIFT;
	case REG_VERSION: return VERSION;
	case REG_TPR: return l->tpr;
	case REG_PPR: return lapic_processor_priority(l);
	case REG_LDR: return lapic_x2apic(l) ? lapic_x2apic_id(l) : l->ldr;
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
	case REG_CURRENT_COUNT: return lapic_timer_count(l);
	case REG_DIVIDE: return l->divide;
	default: return 0;
	}
}

static void write_svr(struct lapic *l, uint32_t value)
{
	l->svr = value;
	/* SDM vol. 3, "Local APIC State After It Has Been Software Disabled". */
	if (!lapic_software_enabled(l))
		for (unsigned i = 0; i < LVTS; i++)
			l->lvt[i] |= LVT_MASKED;
	lapic_update_extint(l);
}

static void write_lvt(struct lapic *l, unsigned reg, uint32_t value)
{
	enum timer_mode before = lapic_timer_mode(l);
	l->lvt[LVT(reg)] = value | (lapic_software_enabled(l) ? 0 : LVT_MASKED);
	if (reg == REG_LVT_LINT0)
		lapic_update_extint(l);
	/* "A write to the LVT Timer Register that changes the timer mode disarms". */
	if (reg == REG_LVT_TIMER && lapic_timer_mode(l) != before)
		lapic_timer_stop(l);
}

static void write_divide(struct lapic *l, uint32_t value)
{
	uint32_t left = lapic_timer_count(l);
	bool counting = l->counting;
	l->divide = value;
	if (counting)
		/* What is due already comes after one more count. */
		lapic_timer_start(l, left ? left : 1);
}

/* value has only writable bits. */
static void write_register(struct lapic *l, unsigned reg, uint32_t value)
{
	switch (reg) {
	case REG_TPR:
		l->tpr = (uint8_t)value;
		lapic_update(l);
		break;
	case REG_EOI:
		lapic_end_of_interrupt(l);
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
		lapic_send_ipi(l);
		break;
	case REG_ICR_HIGH:
		l->icr_high = value;
		break;
	case REG_LVT_TIMER ... REG_LVT_ERROR:
		write_lvt(l, reg, value);
		break;
	case REG_INITIAL_COUNT:
		if (lapic_timer_mode(l) == TIMER_DEADLINE)
			break;
		l->initial = value;
		lapic_timer_start(l, value);
		break;
	case REG_DIVIDE:
		write_divide(l, value);
		break;
	case REG_SELF_IPI:
		if (value < FIRST_LEGAL_VECTOR)
			lapic_raise_error(l, ESR_SEND_ILLEGAL);
		else
			lapic_accept_fixed(l, (uint8_t)value, false);
		break;
	}
}

static bool page_present(const struct lapic *l)
{
	return lapic_enabled(l) && !lapic_x2apic(l);
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
	lapic_raise_error(l, ESR_REGISTER);
	return false;
}

uint32_t lapic_read(struct lapic *l, uint32_t offset)
{
	uint32_t value = UINT32_MAX;
	lapic_lock(l);
	if (page_present(l))
		value = page_has(l, offset, READ) ? read_register(l, offset >> 4) : 0;
	lapic_unlock(l);
	return value;
}

void lapic_write(struct lapic *l, uint32_t offset, uint32_t value)
{
	lapic_lock(l);
	if (page_present(l) && page_has(l, offset, WRITE))
		write_register(l, offset >> 4, value & registers[offset >> 4].writable);
	lapic_unlock(l);
}

/* The registers but IA32_APIC_BASE; returns to what the SDM calls the state
 * after power-up, reset and INIT. */
void lapic_reset_registers(struct lapic *l)
{
	lapic_timer_stop(l);
	l->irr = l->isr = l->tmr = (struct vectors){ { 0 } };
	l->tpr = 0;
	l->ldr = l->esr = l->errors = l->icr_low = l->icr_high = l->divide = 0;
	l->dfr = (uint32_t)BITS(31, 0);
	l->svr = SVR_RESET;
	for (unsigned i = 0; i < LVTS; i++)
		l->lvt[i] = LVT_MASKED;
	lapic_update(l);
	lapic_update_extint(l);
}

/* SDM vol. 3, "x2APIC State Transitions". */
static bool write_base(struct lapic *l, uint64_t value)
{
	unsigned bits = l->set->host.physical_bits;
	uint64_t known = APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_EN |
		BITS((bits ? bits : PHYSICAL_BITS_MAX) - 1, 12);
	bool en = value & APIC_BASE_EN, extd = value & APIC_BASE_EXTD;
	if (value & ~known || (extd && (!en || !lapic_enabled(l))) || (lapic_x2apic(l) && en && !extd))
		return false;
	bool was_enabled = lapic_enabled(l);
	l->base = value;
	if (en != was_enabled)
		lapic_reset_registers(l);
	return true;
}

static bool read_x2apic(struct lapic *l, uint32_t msr, uint64_t *value)
{
	uint32_t reg = msr - MSR_X2APIC_FIRST;
	if (!lapic_x2apic(l) || reg >= REGS || !(registers[reg].access & READ) ||
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
	if (!lapic_x2apic(l) || reg >= REGS || !(registers[reg].access & WRITE) ||
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
	lapic_lock(l);
	if (msr == MSR_IA32_APIC_BASE)
		*value = l->base;
	else if (msr == MSR_IA32_TSC_DEADLINE)
		*value = l->tsc_deadline;
	else
		ok = msr >= MSR_X2APIC_FIRST && read_x2apic(l, msr, value);
	lapic_unlock(l);
	return ok;
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
	bool ok = true;
	lapic_lock(l);
	if (msr == MSR_IA32_TSC_DEADLINE) {
		if (lapic_timer_mode(l) == TIMER_DEADLINE) {
			l->tsc_deadline = value;
			lapic_timer_reschedule(l);
		}
	} else if (msr == MSR_IA32_APIC_BASE) {
		ok = write_base(l, value);
	} else {
		ok = msr >= MSR_X2APIC_FIRST && write_x2apic(l, msr, value);
	}
	lapic_unlock(l);
	return ok;
}

uint64_t lapic_base(const struct lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed);
}
