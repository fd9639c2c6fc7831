/* Far JMP and CALL, software interrupts, BOUND; and the rule list of all far
 * transfers (returns are in far_return.c, SYSCALL and its like in fast_call.c,
 * task switches in task.c).
 *
 * The order of checks and the error codes follow the operation sections of SDM
 * vol. 2, "JMP" and "CALL". Everything that may fault is done before CS, RIP,
 * SS and RSP change. */
#include "soft/transfer.h"

bool descriptor_is_code(const struct cpu *cpu, const struct descriptor *d)
{
	uint32_t ar = descriptor_access_rights(d);
	if (!(ar & AR_S) || !(ar & TYPE_CODE))
		return false;
	return !(cpu_long_mode(cpu) && ar & AR_L && ar & AR_DB);
}

unsigned descriptor_dpl(const struct descriptor *d)
{
	return (descriptor_access_rights(d) & AR_DPL) >> AR_DPL_SHIFT;
}

void code_offset_check(struct cpu *cpu, const struct descriptor *code, uint64_t offset)
{
	if (cpu_long_mode(cpu) && descriptor_access_rights(code) & AR_L) {
		if (!linear_canonical(offset))
			raise_gp(cpu, 0);
	} else if (offset > descriptor_limit(code)) {
		raise_gp(cpu, 0);
	}
}

void code_enter(struct cpu *cpu, const struct code_target *t, uint64_t offset)
{
	struct descriptor d = t->descriptor;
	descriptor_set_accessed(cpu, t->selector, &d);
	segment_set(cpu, SEG_CS, t->selector, &d);
	cpu->cpl = t->selector & SELECTOR_RPL;
	cpu->r[REG_RIP] = offset;
	cpu_mode_changed(cpu);
}

/* --- where a far JMP or CALL leads --- */

static void descriptor_get(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	if (!descriptor_read(cpu, selector, d))
		raise_gp(cpu, selector_error(selector));
}

static void present_check(struct cpu *cpu, const struct descriptor *d, uint16_t selector)
{
	if (!(descriptor_access_rights(d) & AR_P))
		raise_error(cpu, EXC_NP, selector_error(selector));
}

/* Code segment named by the instruction itself: the CPL stays. */
static struct code_target direct_target(struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	uint32_t ar = descriptor_access_rights(d);
	unsigned dpl = descriptor_dpl(d), rpl = selector & SELECTOR_RPL;

	if (!descriptor_is_code(cpu, d))
		raise_gp(cpu, selector_error(selector));
	if (ar & TYPE_CONFORMING ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl)
		raise_gp(cpu, selector_error(selector));
	present_check(cpu, d, selector);
	return (struct code_target){ (uint16_t)(selector_error(selector) | cpu->cpl), *d };
}

/* DPL of a gate or TSS against CPL and the selector's RPL. */
static void gate_privilege_check(struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	unsigned dpl = descriptor_dpl(d);
	if (dpl < cpu->cpl || (selector & SELECTOR_RPL) > dpl)
		raise_gp(cpu, selector_error(selector));
}

static void tss_check(struct cpu *cpu, uint16_t selector, const struct descriptor *d)
{
	uint32_t ar = descriptor_access_rights(d);
	unsigned type = ar & AR_TYPE;
	if (selector & SELECTOR_TI || ar & AR_S || (type != TYPE_TSS && type != TYPE_TSS16))
		raise_gp(cpu, selector_error(selector));
	present_check(cpu, d, selector);
}

static void task_gate(struct cpu *cpu, const struct descriptor *gate, enum task_switch_source source)
{
	uint16_t tss = (uint16_t)(gate->low >> 16);
	struct descriptor d;

	if (tss & SELECTOR_TI)
		raise_gp(cpu, selector_error(tss));
	descriptor_get(cpu, tss, &d);
	tss_check(cpu, tss, &d);
	task_switch(cpu, tss, source, false, 0);
}

struct call_gate {
	uint64_t offset;
	unsigned parameters;	/* of `size` bytes each, copied to an inner stack */
	unsigned size;		/* 2, 4 or 8 */
	unsigned cpl;		/* level of the code it leads to, for CALL */
	struct code_target code;
};

/* Read a call gate and check the code segment it names. JMP may not change the
 * privilege level. */
static void call_gate_read(struct cpu *cpu, uint16_t selector, const struct descriptor *d, bool call,
			   struct call_gate *g)
{
	bool wide = cpu_long_mode(cpu);
	unsigned type = descriptor_access_rights(d) & AR_TYPE, dpl;
	uint16_t code = (uint16_t)(d->low >> 16);
	uint32_t ar;

	*g = (struct call_gate){
		.offset = (d->low & 0xffff) | (d->high & 0xffff0000),
		.parameters = d->high & 31,
		.size = wide ? 8 : type == TYPE_CALL_GATE ? 4 : 2,
	};
	if (g->size == 2)
		g->offset &= 0xffff;
	if (wide) {
		enum { UPPER_TYPE = 0x1f00 };
		struct descriptor upper;
		if (!descriptor_read(cpu, (uint16_t)(selector + 8), &upper) || upper.high & UPPER_TYPE)
			raise_gp(cpu, selector_error(selector));
		g->offset |= (uint64_t)upper.low << 32;
	}
	gate_privilege_check(cpu, selector, d);
	present_check(cpu, d, selector);
	if (selector_null(code))
		raise_gp(cpu, 0);
	descriptor_get(cpu, code, &g->code.descriptor);
	ar = descriptor_access_rights(&g->code.descriptor);
	dpl = descriptor_dpl(&g->code.descriptor);
	if (!descriptor_is_code(cpu, &g->code.descriptor) || (wide && !(ar & AR_L)))
		raise_gp(cpu, selector_error(code));
	if (ar & TYPE_CONFORMING || call ? dpl > cpu->cpl : dpl != cpu->cpl)
		raise_gp(cpu, selector_error(code));
	present_check(cpu, &g->code.descriptor, code);
	g->cpl = ar & TYPE_CONFORMING ? cpu->cpl : dpl;
	g->code.selector = (uint16_t)(selector_error(code) | g->cpl);
}

/* --- JMP --- */

static void far_jmp_real(struct cpu *cpu, uint16_t selector, uint64_t offset)
{
	if (offset > cpu->seg[SEG_CS].limit)
		raise_gp(cpu, 0);
	segment_load_real(cpu, SEG_CS, selector);
	cpu->r[REG_RIP] = offset;
	cpu_mode_changed(cpu);
}

static bool real_or_v86(const struct cpu *cpu)
{
	return !cpu_protected(cpu) || cpu_v86(cpu);
}

/* A far JMP or CALL that names a task gate or a TSS; #GP for any other type. */
static void task_transfer(struct cpu *cpu, uint16_t selector, const struct descriptor *d,
			  enum task_switch_source source)
{
	switch (descriptor_access_rights(d) & AR_TYPE) {
	case TYPE_TASK_GATE:
		if (cpu_long_mode(cpu))
			break;
		gate_privilege_check(cpu, selector, d);
		present_check(cpu, d, selector);
		task_gate(cpu, d, source);
		return;
	case TYPE_TSS16:
	case TYPE_TSS:
		if (cpu_long_mode(cpu))
			break;
		gate_privilege_check(cpu, selector, d);
		tss_check(cpu, selector, d);
		task_switch(cpu, selector, source, false, 0);
		return;
	default:
		break;
	}
	raise_gp(cpu, selector_error(selector));
}

static void far_jmp(struct cpu *cpu, uint16_t selector, uint64_t offset)
{
	struct descriptor d;
	struct call_gate g;
	uint32_t ar;

	if (real_or_v86(cpu)) {
		far_jmp_real(cpu, selector, offset);
		return;
	}
	if (selector_null(selector))
		raise_gp(cpu, 0);
	descriptor_get(cpu, selector, &d);
	ar = descriptor_access_rights(&d);
	if (ar & AR_S) {
		struct code_target t = direct_target(cpu, selector, &d);
		code_offset_check(cpu, &d, offset);
		code_enter(cpu, &t, offset);
		return;
	}
	switch (ar & AR_TYPE) {
	case TYPE_CALL_GATE16:
		if (cpu_long_mode(cpu))
			break;
		/* fall through */
	case TYPE_CALL_GATE:
		call_gate_read(cpu, selector, &d, false, &g);
		code_offset_check(cpu, &g.code.descriptor, g.offset);
		code_enter(cpu, &g.code, g.offset);
		return;
	default:
		task_transfer(cpu, selector, &d, TASK_SWITCH_JMP);
		return;
	}
	raise_gp(cpu, selector_error(selector));
}

/* --- CALL --- */

static void push_return(struct cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->r[RSP];
	stack_push_at(cpu, &sp, cpu->seg[SEG_CS].selector, size);
	stack_push_at(cpu, &sp, cpu->r[REG_RIP], size);
	stack_set(cpu, sp);
}

/* The stack of an inner level, before it is current. */
struct inner_stack {
	uint64_t base, sp, mask;
	uint32_t low, high;	/* offsets; unused when wide */
	bool wide;
	uint32_t error;		/* of #SS */
};

static void inner_push(struct cpu *cpu, struct inner_stack *s, uint64_t value, unsigned size)
{
	uint64_t offset, linear;

	s->sp = (s->sp & ~s->mask) | ((s->sp - size) & s->mask);
	offset = s->sp & s->mask;
	linear = s->base + offset;
	if (s->wide) {
		if (!linear_canonical(linear))
			raise_error(cpu, EXC_SS, s->error);
	} else {
		if (offset < s->low || offset + size - 1 > s->high)
			raise_error(cpu, EXC_SS, s->error);
		linear = (uint32_t)linear;
	}
	/* Inner levels are supervisor levels. */
	system_write(cpu, linear, value, size);
}

/* CALL through a 64-bit gate to a more privileged level. */
static void call_inner_64(struct cpu *cpu, struct call_gate *g)
{
	enum { TSS_RSP0 = 4 };
	const struct segment *tr = &cpu->seg[SEG_TR];
	unsigned at = TSS_RSP0 + 8 * g->cpl;
	struct inner_stack s = { .mask = ~0ull, .wide = true };

	if (at + 7 > tr->limit)
		raise_error(cpu, EXC_TS, selector_error(tr->selector));
	s.sp = system_read(cpu, tr->base + at, 8);
	code_offset_check(cpu, &g->code.descriptor, g->offset);
	inner_push(cpu, &s, cpu->seg[SEG_SS].selector, 8);
	inner_push(cpu, &s, cpu->r[RSP], 8);
	inner_push(cpu, &s, cpu->seg[SEG_CS].selector, 8);
	inner_push(cpu, &s, cpu->r[REG_RIP], 8);
	descriptor_set_accessed(cpu, g->code.selector, &g->code.descriptor);
	cpu->seg[SEG_SS] = (struct segment){ .selector = (uint16_t)g->cpl,
		.access_rights = AR_UNUSABLE | g->cpl << AR_DPL_SHIFT };
	cpu->r[RSP] = s.sp;
	code_enter(cpu, &g->code, g->offset);
}

/* SS:ESP of an inner level from the 32- or 16-bit TSS. */
static uint32_t tss_stack(struct cpu *cpu, unsigned cpl, uint16_t *ss)
{
	enum { TSS_IS_32 = 8, TSS32_ESP0 = 4, TSS16_SP0 = 2 };
	const struct segment *tr = &cpu->seg[SEG_TR];
	unsigned size = tr->access_rights & TSS_IS_32 ? 4 : 2;
	unsigned at = size == 4 ? TSS32_ESP0 + 8 * cpl : TSS16_SP0 + 4 * cpl;

	if (at + size + 1 > tr->limit)
		raise_error(cpu, EXC_TS, selector_error(tr->selector));
	*ss = (uint16_t)system_read(cpu, tr->base + at + size, 2);
	return (uint32_t)system_read(cpu, tr->base + at, size);
}

static void call_inner(struct cpu *cpu, struct call_gate *g)
{
	uint16_t ss;
	uint64_t esp = tss_stack(cpu, g->cpl, &ss), value[32], from = cpu->r[RSP];
	uint32_t error = selector_error(ss), ar, limit;
	struct descriptor d;
	struct inner_stack s;

	if (selector_null(ss) || !descriptor_read(cpu, ss, &d))
		raise_error(cpu, EXC_TS, error);
	ar = descriptor_access_rights(&d);
	if ((ss & SELECTOR_RPL) != g->cpl || descriptor_dpl(&d) != g->cpl || !(ar & AR_S) ||
	    ar & TYPE_CODE || !(ar & TYPE_WRITABLE))
		raise_error(cpu, EXC_TS, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_SS, error);
	limit = descriptor_limit(&d);
	s = (struct inner_stack){ .base = descriptor_base(&d), .sp = esp, .high = limit, .error = error,
				  .mask = ar & AR_DB ? UINT32_MAX : UINT16_MAX };
	if (ar & TYPE_EXPAND_DOWN) {
		s.low = limit + 1;
		s.high = ar & AR_DB ? UINT32_MAX : UINT16_MAX;
	}
	code_offset_check(cpu, &g->code.descriptor, g->offset);
	for (unsigned n = 0; n < g->parameters; n++)
		value[n] = stack_pop_at(cpu, &from, g->size);
	inner_push(cpu, &s, cpu->seg[SEG_SS].selector, g->size);
	inner_push(cpu, &s, cpu->r[RSP], g->size);
	for (unsigned n = g->parameters; n-- > 0;)
		inner_push(cpu, &s, value[n], g->size);
	inner_push(cpu, &s, cpu->seg[SEG_CS].selector, g->size);
	inner_push(cpu, &s, cpu->r[REG_RIP], g->size);
	descriptor_set_accessed(cpu, g->code.selector, &g->code.descriptor);
	descriptor_set_accessed(cpu, ss, &d);
	segment_set(cpu, SEG_SS, ss, &d);
	stack_set(cpu, s.sp);
	code_enter(cpu, &g->code, g->offset);
}

static void far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size)
{
	struct descriptor d;
	struct call_gate g;
	uint32_t ar;

	if (real_or_v86(cpu)) {
		if (offset > cpu->seg[SEG_CS].limit)
			raise_gp(cpu, 0);
		push_return(cpu, size);
		far_jmp_real(cpu, selector, offset);
		return;
	}
	if (selector_null(selector))
		raise_gp(cpu, 0);
	descriptor_get(cpu, selector, &d);
	ar = descriptor_access_rights(&d);
	if (ar & AR_S) {
		struct code_target t = direct_target(cpu, selector, &d);
		code_offset_check(cpu, &d, offset);
		descriptor_set_accessed(cpu, t.selector, &t.descriptor);
		push_return(cpu, size);
		code_enter(cpu, &t, offset);
		return;
	}
	switch (ar & AR_TYPE) {
	case TYPE_CALL_GATE16:
		if (cpu_long_mode(cpu))
			break;
		/* fall through */
	case TYPE_CALL_GATE:
		call_gate_read(cpu, selector, &d, true, &g);
		if (g.cpl < cpu->cpl) {
			if (g.size == 8)
				call_inner_64(cpu, &g);
			else
				call_inner(cpu, &g);
			return;
		}
		code_offset_check(cpu, &g.code.descriptor, g.offset);
		descriptor_set_accessed(cpu, g.code.selector, &g.code.descriptor);
		push_return(cpu, g.size);
		code_enter(cpu, &g.code, g.offset);
		return;
	default:
		task_transfer(cpu, selector, &d, TASK_SWITCH_CALL);
		return;
	}
	raise_gp(cpu, selector_error(selector));
}

/* --- operands --- */

FN(jmp_far_pointer) { far_jmp(cpu, (uint16_t)i->imm2, bits_trim(i->imm, i->size)); }
FN(call_far_pointer) { far_call(cpu, (uint16_t)i->imm2, bits_trim(i->imm, i->size), i->size); }

static uint16_t far_operand(struct cpu *cpu, const struct insn *i, uint64_t *offset)
{
	uint64_t linear = insn_linear(cpu, i, i->size + 2u, false);
	*offset = linear_read(cpu, linear, i->size);
	return (uint16_t)linear_read(cpu, linear + i->size, 2);
}

FN(jmp_far_memory)
{
	uint64_t offset;
	uint16_t selector = far_operand(cpu, i, &offset);
	far_jmp(cpu, selector, offset);
}

FN(call_far_memory)
{
	uint64_t offset;
	uint16_t selector = far_operand(cpu, i, &offset);
	far_call(cpu, selector, offset, i->size);
}

bool bind_jmp_far(const struct decoded *d, struct insn *out)
{
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = out->kind[0] == OPERAND_MEM ? jmp_far_memory : jmp_far_pointer;
	return true;
}

bool bind_call_far(const struct decoded *d, struct insn *out)
{
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = out->kind[0] == OPERAND_MEM ? call_far_memory : call_far_pointer;
	return true;
}

/* --- software interrupts and instructions that only raise --- */

FN(int_n) { raise_software(cpu, EVENT_TYPE_SOFTWARE, (uint8_t)i->imm); }
FN(int3) { raise_software(cpu, EVENT_TYPE_SOFTWARE_EXCEPTION, EXC_BP); }
FN(int1) { raise_software(cpu, EVENT_TYPE_PRIVILEGED_SOFTWARE, EXC_DB); }
FN(ud) { raise_ud(cpu); }

FN(into)
{
	if (cpu->arith & ARITH_OF)
		raise_software(cpu, EVENT_TYPE_SOFTWARE_EXCEPTION, EXC_OF);
}

/* Two signed bounds in memory around a signed register. */
FN(bound)
{
	unsigned width = i->size * 8u;
	uint64_t linear = insn_linear(cpu, i, 2u * i->size, false);
	int64_t low = sign_extend(linear_read(cpu, linear, i->size), width);
	int64_t high = sign_extend(linear_read(cpu, linear + i->size, i->size), width);
	int64_t index = sign_extend(*(uint64_t *)reg_at(cpu, i, 0), width);

	if (index < low || index > high)
		raise_exception(cpu, EXC_BR);
}

#define ENDS(name, fn) { ZYDIS_MNEMONIC_##name, NULL, fn, INSN_ENDS_BLOCK }

static const struct insn_rule rules[] = {
	ENDS(INT, int_n), ENDS(INT3, int3), ENDS(INT1, int1), ENDS(INTO, into),
	{ ZYDIS_MNEMONIC_BOUND, NULL, bound, 0 },
	ENDS(UD0, ud), ENDS(UD1, ud), ENDS(UD2, ud),
	ENDS(IRET, do_iret), ENDS(IRETD, do_iret), ENDS(IRETQ, do_iret),
	ENDS(SYSCALL, do_syscall), ENDS(SYSRET, do_sysret),
	ENDS(SYSENTER, do_sysenter), ENDS(SYSEXIT, do_sysexit),
};

const struct insn_rules transfer_rules = { rules, ARRAY_SIZE(rules) };
