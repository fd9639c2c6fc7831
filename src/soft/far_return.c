/* Far RET and IRET (SDM vol. 2, "RET" and "IRET/IRETD/IRETQ").
 *
 * Both pop everything into locals first, check, and then change the state at
 * once; RSP moves last of what may fault. */
#include "soft/system.h"
#include "soft/transfer.h"
#include "soft/vtx/vtx.h"

/* What a return pops. */
struct frame {
	uint64_t rip, rflags, rsp;
	uint16_t cs, ss;
};

static bool real_or_v86(const struct cpu *cpu)
{
	return !cpu_protected(cpu) || cpu_v86(cpu);
}

/* The code segment of a return, checked. */
static struct code_target return_code(struct cpu *cpu, uint16_t selector)
{
	struct code_target t = { .selector = selector };
	unsigned rpl = selector & SELECTOR_RPL, dpl;
	uint32_t error = selector_error(selector), ar;

	if (selector_null(selector))
		raise_gp(cpu, 0);
	if (!descriptor_read(cpu, selector, &t.descriptor) || rpl < cpu->cpl)
		raise_gp(cpu, error);
	ar = descriptor_access_rights(&t.descriptor);
	dpl = descriptor_dpl(&t.descriptor);
	if (!descriptor_is_code(cpu, &t.descriptor) ||
	    (ar & TYPE_CONFORMING ? dpl > rpl : dpl != rpl))
		raise_gp(cpu, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	return t;
}

/* The stack segment that goes with that code; false: a null selector that is
 * allowed (64-bit code below CPL 3). */
static bool return_stack(struct cpu *cpu, uint16_t selector, const struct code_target *code,
			 struct descriptor *d)
{
	unsigned rpl = code->selector & SELECTOR_RPL;
	uint32_t error = selector_error(selector), ar;
	bool code_64 = cpu_long_mode(cpu) && descriptor_access_rights(&code->descriptor) & AR_L;

	if (selector_null(selector)) {
		if (!code_64 || rpl == 3 || (selector & SELECTOR_RPL) != rpl)
			raise_gp(cpu, 0);
		return false;
	}
	if (!descriptor_read(cpu, selector, d))
		raise_gp(cpu, error);
	ar = descriptor_access_rights(d);
	if ((selector & SELECTOR_RPL) != rpl || descriptor_dpl(d) != rpl || !(ar & AR_S) ||
	    ar & TYPE_CODE || !(ar & TYPE_WRITABLE))
		raise_gp(cpu, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_SS, error);
	return true;
}

/* Data segments that the outer level may not keep become null; null selectors
 * lose their RPL. */
static void data_segments_drop(struct cpu *cpu)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		struct segment *g = &cpu->seg[data[n]];
		bool conforming = g->access_rights & TYPE_CODE && g->access_rights & TYPE_CONFORMING;
		if (g->access_rights & AR_UNUSABLE) {
			g->selector = 0;
			continue;
		}
		if (conforming || (g->access_rights & AR_DPL) >> AR_DPL_SHIFT >= cpu->cpl)
			continue;
		/* Only the selector becomes null: the base of FS or GS stays. */
		g->selector = 0;
		g->access_rights |= AR_UNUSABLE;
		segment_bounds_update(cpu, data[n]);
	}
}

/* Load SS:RSP and CS:RIP of another stack (an outer level's, or any in IRETQ).
 * The accessed flags first: to set them may fault. */
static void stack_and_code_enter(struct cpu *cpu, const struct frame *f, struct code_target *t,
				 struct descriptor *ss, bool ss_present, uint64_t drop)
{
	bool outer = (t->selector & SELECTOR_RPL) > cpu->cpl;

	descriptor_set_accessed(cpu, t->selector, &t->descriptor);
	if (ss_present) {
		descriptor_set_accessed(cpu, f->ss, ss);
		segment_set(cpu, SEG_SS, f->ss, ss);
	} else {
		cpu->seg[SEG_SS] = (struct segment){ .selector = f->ss, .access_rights = AR_UNUSABLE |
			(uint32_t)(t->selector & SELECTOR_RPL) << AR_DPL_SHIFT };
	}
	code_enter(cpu, t, f->rip);
	stack_set(cpu, f->rsp + drop);
	if (outer)
		data_segments_drop(cpu);
}

/* --- RET --- */

/* imm: bytes of parameters to drop. */
FN(ret_far)
{
	uint64_t sp = cpu->r[RSP];
	struct frame f = { 0 };
	struct code_target t;
	struct descriptor ss;
	bool ss_present;

	f.rip = stack_pop_at(cpu, &sp, i->size);
	f.cs = (uint16_t)stack_pop_at(cpu, &sp, i->size);
	if (real_or_v86(cpu)) {
		if (f.rip > cpu->seg[SEG_CS].limit)
			raise_gp(cpu, 0);
		segment_load_real(cpu, SEG_CS, f.cs);
		cpu->r[REG_RIP] = f.rip;
		stack_set(cpu, sp + i->imm);
		cpu_mode_changed(cpu);
		return;
	}
	t = return_code(cpu, f.cs);
	code_offset_check(cpu, &t.descriptor, f.rip);
	if ((f.cs & SELECTOR_RPL) == cpu->cpl) {
		descriptor_set_accessed(cpu, t.selector, &t.descriptor);
		stack_set(cpu, sp + i->imm);
		code_enter(cpu, &t, f.rip);
		return;
	}
	sp += i->imm;
	f.rsp = stack_pop_at(cpu, &sp, i->size);
	f.ss = (uint16_t)stack_pop_at(cpu, &sp, i->size);
	ss_present = return_stack(cpu, f.ss, &t, &ss);
	stack_and_code_enter(cpu, &f, &t, &ss, ss_present, i->imm);
}

bool bind_ret_far(const struct decoded *d, struct insn *out)
{
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = ret_far;
	return true;
}

/* --- IRET --- */

/* RFLAGS after an IRET that executed at level cpl with that IOPL. */
static uint64_t merged_flags(uint64_t old, uint64_t value, unsigned cpl, unsigned iopl, unsigned size)
{
	uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;

	if (size > 2)
		mask |= FLAG_RF | FLAG_AC | FLAG_ID;
	if (cpl <= iopl)
		mask |= FLAG_IF;
	if (cpl == 0)
		mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
	return (old & ~mask) | (value & mask);
}

static void iret_real(struct cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->r[RSP], rip = stack_pop_at(cpu, &sp, size);
	uint16_t cs = (uint16_t)stack_pop_at(cpu, &sp, size);
	uint64_t flags = stack_pop_at(cpu, &sp, size), old = cpu_rflags(cpu);

	bool virtual_if = vme_virtual_flags(cpu, size);
	uint64_t virtual_flags = virtual_if ? vme_flags_load(cpu, flags) : 0;

	if (rip > cpu->seg[SEG_CS].limit)
		raise_gp(cpu, 0);
	stack_set(cpu, sp);
	segment_load_real(cpu, SEG_CS, cs);
	cpu->r[REG_RIP] = rip;
	if (virtual_if) {
		cpu_set_rflags(cpu, virtual_flags);
		cpu_mode_changed(cpu);
		return;
	}
	/* Virtual-8086 mode keeps IOPL (it is 3), VM, VIF, VIP. */
	cpu_set_rflags(cpu, cpu_v86(cpu) ? merged_flags(old, flags, 3, 3, size) :
		       merged_flags(old, flags, 0, 0, size) & ~(FLAG_VIF | FLAG_VIP));
	cpu_mode_changed(cpu);
}

/* A return to virtual-8086 mode: ESP, SS, ES, DS, FS, GS follow on the stack. */
static void iret_to_v86(struct cpu *cpu, struct frame *f, uint64_t sp)
{
	static const uint8_t order[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	uint16_t selector[ARRAY_SIZE(order)];

	f->rsp = stack_pop_at(cpu, &sp, 4);
	f->ss = (uint16_t)stack_pop_at(cpu, &sp, 4);
	for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
		selector[n] = (uint16_t)stack_pop_at(cpu, &sp, 4);
	if (f->rip > UINT16_MAX)
		raise_gp(cpu, 0);
	cpu_set_rflags(cpu, f->rflags & FLAGS_KNOWN);
	cpu->cpl = 3;
	segment_load_real(cpu, SEG_CS, f->cs);
	segment_load_real(cpu, SEG_SS, f->ss);
	for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
		segment_load_real(cpu, order[n], selector[n]);
	cpu->r[REG_RIP] = f->rip;
	cpu->r[RSP] = (uint32_t)f->rsp;
	cpu_mode_changed(cpu);
}

/* NT is set: back to the task that the current TSS links to. */
static void iret_task(struct cpu *cpu)
{
	uint16_t link = (uint16_t)system_read(cpu, cpu->seg[SEG_TR].base, 2);
	struct descriptor d;
	uint32_t ar;

	if (link & SELECTOR_TI || !descriptor_read(cpu, link, &d))
		raise_error(cpu, EXC_TS, selector_error(link));
	ar = descriptor_access_rights(&d);
	if (ar & AR_S || ((ar & AR_TYPE) != (TYPE_TSS | TYPE_BUSY) &&
			  (ar & AR_TYPE) != (TYPE_TSS16 | TYPE_BUSY)))
		raise_error(cpu, EXC_TS, selector_error(link));
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, selector_error(link));
	task_switch(cpu, link, TASK_SWITCH_IRET, false, 0);
}

static void iret_protected(struct cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->r[RSP], old = cpu_rflags(cpu), flags;
	struct frame f = { 0 };
	struct code_target t;
	struct descriptor ss;
	bool ss_present = false, new_stack;

	f.rip = stack_pop_at(cpu, &sp, size);
	f.cs = (uint16_t)stack_pop_at(cpu, &sp, size);
	f.rflags = stack_pop_at(cpu, &sp, size);
	if (size == 4 && f.rflags & FLAG_VM && cpu->cpl == 0 && !cpu_long_mode(cpu)) {
		iret_to_v86(cpu, &f, sp);
		return;
	}
	t = return_code(cpu, f.cs);
	/* IRET in 64-bit mode pops SS:RSP always. */
	new_stack = cpu->mode == MODE_64 || (f.cs & SELECTOR_RPL) > cpu->cpl;
	if (new_stack) {
		f.rsp = stack_pop_at(cpu, &sp, size);
		f.ss = (uint16_t)stack_pop_at(cpu, &sp, size);
		ss_present = return_stack(cpu, f.ss, &t, &ss);
	}
	code_offset_check(cpu, &t.descriptor, f.rip);
	flags = merged_flags(old, f.rflags, cpu->cpl, cpu_iopl(cpu), size);
	if (new_stack) {
		stack_and_code_enter(cpu, &f, &t, &ss, ss_present, 0);
	} else {
		descriptor_set_accessed(cpu, t.selector, &t.descriptor);
		stack_set(cpu, sp);
		code_enter(cpu, &t, f.rip);
	}
	cpu_set_rflags(cpu, flags);
}

void do_iret(struct cpu *cpu, const struct insn *i)
{
	/* Even an IRET that faults ends blocking by NMI. */
	if (cpu->nonroot)
		vtx_iret(cpu);
	else if (cpu->nmi_blocked) {
		cpu->nmi_blocked = false;
		if (cpu->nmi_pending)
			atomic_fetch_or_explicit(&cpu->events, EVENT_NMI, memory_order_relaxed);
	}

	if (real_or_v86(cpu)) {
		iret_real(cpu, i->size);
	} else if (cpu->sysflags & FLAG_NT) {
		if (cpu_long_mode(cpu))
			raise_gp(cpu, 0);
		iret_task(cpu);
	} else {
		iret_protected(cpu, i->size);
	}
}
