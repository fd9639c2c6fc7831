/* Task switches (SDM vol. 3, "Task Switching"), 32- and 16-bit TSS; there are
 * none in IA-32e mode.
 *
 * Up to the commit point (the new TSS is read, the old one written) a fault
 * belongs to the old task; from there on to the new one, with its EIP, and the
 * segment registers that are not loaded yet hold their selector, unusable. */
#include "soft/transfer.h"
#include "soft/vtx/vtx.h"

enum {
	TSS_LINK = 0,
	TSS32_CR3 = 0x1c, TSS32_EIP = 0x20, TSS32_EFLAGS = 0x24, TSS32_GPRS = 0x28,
	TSS32_SEGMENTS = 0x48, TSS32_LDT = 0x60, TSS32_TRAP = 0x64, TSS32_LIMIT = 0x67,
	TSS16_IP = 0x0e, TSS16_FLAGS = 0x10, TSS16_GPRS = 0x12, TSS16_SEGMENTS = 0x22,
	TSS16_LDT = 0x2a, TSS16_LIMIT = 0x2b,
	TYPE_IS_32 = 8, TYPE_LDT = 2, TYPE_READABLE = 2,
	DR7_LOCAL = 0x155,	/* L0 to L3, LE */
};

/* The image of a task, of either width. */
struct task {
	uint32_t cr3, eip, eflags, gpr[8];
	uint16_t selector[6], ldt;	/* segments in the order of enum segment_register */
	bool trap;
};

/* EXT of the error codes while an event from outside the program is delivered. */
static uint32_t ext_bit(const struct cpu *cpu)
{
	const struct delivery *d = &cpu->delivery;
	return d->active && d->type != EVENT_TYPE_SOFTWARE && d->type != EVENT_TYPE_SOFTWARE_EXCEPTION;
}

static unsigned segments_in(bool wide)
{
	return wide ? 6 : 4;	/* 16-bit tasks have no FS and GS */
}

static void task_read(struct cpu *cpu, uint64_t base, bool wide, struct task *t)
{
	unsigned size = wide ? 4 : 2;

	*t = (struct task){ 0 };
	if (wide) {
		t->cr3 = (uint32_t)system_read(cpu, base + TSS32_CR3, 4);
		t->trap = system_read(cpu, base + TSS32_TRAP, 2) & 1;
	}
	t->eip = (uint32_t)system_read(cpu, base + (wide ? TSS32_EIP : TSS16_IP), size);
	t->eflags = (uint32_t)system_read(cpu, base + (wide ? TSS32_EFLAGS : TSS16_FLAGS), size);
	for (unsigned n = 0; n < 8; n++)
		t->gpr[n] = (uint32_t)system_read(cpu, base + (wide ? TSS32_GPRS : TSS16_GPRS) + n * size, size);
	for (unsigned n = 0; n < segments_in(wide); n++)
		t->selector[n] = (uint16_t)system_read(cpu, base + (wide ? TSS32_SEGMENTS : TSS16_SEGMENTS) +
						       n * size, 2);
	t->ldt = (uint16_t)system_read(cpu, base + (wide ? TSS32_LDT : TSS16_LDT), 2);
}

static void task_write(struct cpu *cpu, uint64_t base, bool wide, uint64_t eflags)
{
	unsigned size = wide ? 4 : 2;

	system_write(cpu, base + (wide ? TSS32_EIP : TSS16_IP), cpu->r[REG_RIP], size);
	system_write(cpu, base + (wide ? TSS32_EFLAGS : TSS16_FLAGS), eflags, size);
	for (unsigned n = 0; n < 8; n++)
		system_write(cpu, base + (wide ? TSS32_GPRS : TSS16_GPRS) + n * size, cpu->r[n], size);
	for (unsigned n = 0; n < segments_in(wide); n++)
		system_write(cpu, base + (wide ? TSS32_SEGMENTS : TSS16_SEGMENTS) + n * size,
			     cpu->seg[n].selector, 2);
}

static void busy_set(struct cpu *cpu, uint16_t selector, bool busy)
{
	enum { TYPE_BYTE = 5 };
	uint64_t at = cpu->gdtr.base + selector_error(selector) + TYPE_BYTE;
	uint64_t byte = system_read(cpu, at, 1);
	system_write(cpu, at, busy ? byte | TYPE_BUSY : byte & ~(uint64_t)TYPE_BUSY, 1);
}

/* --- the new task's segments: faults are its own --- */

static void load_ldt(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;
	uint32_t ar;

	cpu->seg[SEG_LDTR] = (struct segment){ .selector = selector, .access_rights = AR_UNUSABLE };
	if (selector_null(selector))
		return;
	if (selector & SELECTOR_TI || !descriptor_read(cpu, selector, &d))
		raise_error(cpu, EXC_TS, selector_error(selector) | ext_bit(cpu));
	ar = descriptor_access_rights(&d);
	if (ar & AR_S || (ar & AR_TYPE) != TYPE_LDT || !(ar & AR_P))
		raise_error(cpu, EXC_TS, selector_error(selector) | ext_bit(cpu));
	segment_set(cpu, SEG_LDTR, selector, &d);
}

static uint32_t read_or_ts(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	if (selector_null(selector) || !descriptor_read(cpu, selector, d))
		raise_error(cpu, EXC_TS, selector_error(selector) | ext_bit(cpu));
	return descriptor_access_rights(d);
}

static void load_ss(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;
	uint32_t error = selector_error(selector) | ext_bit(cpu), ar = read_or_ts(cpu, selector, &d);

	if (!(ar & AR_S) || ar & TYPE_CODE || !(ar & TYPE_WRITABLE) ||
	    (selector & SELECTOR_RPL) != cpu->cpl || descriptor_dpl(&d) != cpu->cpl)
		raise_error(cpu, EXC_TS, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_SS, error);
	descriptor_set_accessed(cpu, selector, &d);
	segment_set(cpu, SEG_SS, selector, &d);
}

static void load_cs(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;
	uint32_t error = selector_error(selector) | ext_bit(cpu), ar = read_or_ts(cpu, selector, &d);
	unsigned dpl = descriptor_dpl(&d), rpl = selector & SELECTOR_RPL;

	if (!descriptor_is_code(cpu, &d) || (ar & TYPE_CONFORMING ? dpl > rpl : dpl != rpl))
		raise_error(cpu, EXC_TS, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	descriptor_set_accessed(cpu, selector, &d);
	segment_set(cpu, SEG_CS, selector, &d);
}

static void load_data(struct cpu *cpu, enum segment_register s, uint16_t selector)
{
	struct descriptor d;
	uint32_t error = selector_error(selector) | ext_bit(cpu), ar;
	unsigned rpl = selector & SELECTOR_RPL;

	if (selector_null(selector))
		return;
	ar = read_or_ts(cpu, selector, &d);
	bool code = ar & TYPE_CODE, conforming = code && ar & TYPE_CONFORMING;
	if (!(ar & AR_S) || (code && !(ar & TYPE_READABLE)) ||
	    (!conforming && (descriptor_dpl(&d) < cpu->cpl || descriptor_dpl(&d) < rpl)))
		raise_error(cpu, EXC_TS, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	descriptor_set_accessed(cpu, selector, &d);
	segment_set(cpu, s, selector, &d);
}

static void load_segments(struct cpu *cpu, const struct task *t)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	load_ldt(cpu, t->ldt);
	if (t->eflags & FLAG_VM) {
		for (unsigned s = SEG_ES; s <= SEG_GS; s++)
			segment_load_real(cpu, s, t->selector[s]);
		cpu_mode_changed(cpu);
		return;
	}
	load_ss(cpu, t->selector[SEG_SS]);
	load_cs(cpu, t->selector[SEG_CS]);
	cpu_mode_changed(cpu);
	for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
		load_data(cpu, data[n], t->selector[data[n]]);
}

/* --- the switch --- */

/* The TSS descriptor of the task to switch to, checked. */
static void incoming_tss(struct cpu *cpu, uint16_t selector, enum task_switch_source source,
			 struct descriptor *d)
{
	bool back = source == TASK_SWITCH_IRET;
	enum exception e = back ? EXC_TS : EXC_GP;
	uint32_t error = selector_error(selector) | ext_bit(cpu), ar;
	unsigned type;

	if (selector & SELECTOR_TI || !descriptor_read(cpu, selector, d))
		raise_error(cpu, e, error);
	ar = descriptor_access_rights(d);
	type = ar & AR_TYPE & ~(unsigned)TYPE_BUSY;
	if (ar & AR_S || (type != TYPE_TSS && type != TYPE_TSS16) || !(ar & TYPE_BUSY) == back)
		raise_error(cpu, e, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	if (descriptor_limit(d) < (ar & TYPE_IS_32 ? TSS32_LIMIT : TSS16_LIMIT))
		raise_error(cpu, EXC_TS, error);
}

/* Registers of the new task; nothing here faults but CR3. */
static void task_enter(struct cpu *cpu, const struct task *t, bool wide)
{
	cpu->cr0 |= CR0_TS;
	cpu->dr7 &= ~(uint64_t)DR7_LOCAL;
	cpu->r[REG_RIP] = cpu->start_rip = t->eip;
	for (unsigned n = 0; n < 8; n++)
		gpr_set(cpu, n, t->gpr[n], wide ? 4 : 2);
	for (unsigned s = SEG_ES; s <= SEG_GS; s++) {
		cpu->seg[s] = (struct segment){ .selector = t->selector[s], .access_rights = AR_UNUSABLE };
		segment_bounds_update(cpu, s);
	}
	cpu_set_rflags(cpu, t->eflags & FLAGS_KNOWN);
	cpu->cpl = t->eflags & FLAG_VM ? 3 : t->selector[SEG_CS] & SELECTOR_RPL;
	cpu_class_changed(cpu);
	if (wide && cpu->cr0 & CR0_PG)
		cr3_write(cpu, t->cr3);
}

void task_switch(struct cpu *cpu, uint16_t tss_selector, enum task_switch_source source,
		 bool has_error, uint32_t error)
{
	const struct segment old = cpu->seg[SEG_TR];
	bool nests = source == TASK_SWITCH_CALL || source == TASK_SWITCH_GATE, wide;
	uint64_t flags = cpu_rflags(cpu), base;
	struct descriptor d;
	struct task t;

	incoming_tss(cpu, tss_selector, source, &d);
	if (cpu->nonroot)
		vtx_intercept_task_switch(cpu, tss_selector, source);
	wide = descriptor_access_rights(&d) & TYPE_IS_32;
	base = descriptor_base(&d);
	task_read(cpu, base, wide, &t);
	task_write(cpu, old.base, old.access_rights & TYPE_IS_32,
		   source == TASK_SWITCH_IRET ? flags & ~FLAG_NT : flags);
	if (nests) {
		system_write(cpu, base + TSS_LINK, old.selector, 2);
		t.eflags |= (uint32_t)FLAG_NT;
	} else {
		busy_set(cpu, old.selector, false);
	}
	if (source != TASK_SWITCH_IRET)
		busy_set(cpu, tss_selector, true);
	d.high |= TYPE_BUSY << 8;
	segment_set(cpu, SEG_TR, tss_selector, &d);
	/* The new task's from here. */
	task_enter(cpu, &t, wide);
	load_segments(cpu, &t);
	if (has_error) {
		uint64_t sp = cpu->r[RSP];
		stack_push_at(cpu, &sp, error, wide ? 4 : 2);
		stack_set(cpu, sp);
	}
	if (t.trap) {
		cpu->db_trap = true;
		cpu->db_bits |= DR6_BT;
		atomic_fetch_or(&cpu->events, EVENT_TRAP);
	}
	if (t.eip > cpu->seg[SEG_CS].limit)
		raise_gp(cpu, 0);
}
