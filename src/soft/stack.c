/* PUSH and POP in all their forms, flags on the stack, stack frames; and the
 * rule list of these and of the near branches (branch.c).
 *
 * RSP is written back only when nothing can fault any more. */
#include "soft/system.h"
#include "soft/integer.h"
#include "soft/transfer.h"

/* --- one value --- */

static inline void push(struct cpu *cpu, uint64_t value, unsigned size)
{
	uint64_t sp = cpu->r[RSP];
	stack_push_at(cpu, &sp, value, size);
	stack_set(cpu, sp);
}

FN(push_r64) { push_64(cpu, reg_get64(cpu, i, 0)); }
FN(push_r) { push(cpu, *(uint64_t *)reg_at(cpu, i, 0), i->size); }
FN(push_i64) { push_64(cpu, i->imm); }
FN(push_i) { push(cpu, i->imm, i->size); }

FN(push_m)
{
	push(cpu, i->size == 2 ? mem_get16(cpu, i) : i->size == 4 ? mem_get32(cpu, i) :
	     mem_get64(cpu, i), i->size);
}

/* A selector, zero-extended to the operand size. */
FN(push_segment) { push(cpu, cpu->seg[i->reg[0]].selector, i->size); }

static bool bind_push(const struct decoded *d, struct insn *out)
{
	switch (out->kind[0]) {
	case OPERAND_GPR:
		out->fn = out->size == 8 ? push_r64 : push_r;
		return true;
	case OPERAND_IMM:
		out->fn = out->size == 8 ? push_i64 : push_i;
		return true;
	case OPERAND_MEM:
		out->fn = push_m;
		return true;
	default:
		out->fn = push_segment;
		return out->reg[0] <= SEG_GS;
	}
}

FN(pop_r64)
{
	uint64_t value = peek_64(cpu);
	cpu->r[RSP] += 8;
	reg_set64(cpu, i, 0, value);
}

FN(pop_r)
{
	uint64_t sp = cpu->r[RSP];
	uint64_t value = stack_pop_at(cpu, &sp, i->size);
	stack_set(cpu, sp);
	gpr_set(cpu, i->reg[0] / 8, value, i->size);
}

/* The address is computed with RSP already raised. */
FN(pop_m)
{
	uint64_t old = cpu->r[RSP], sp = old;
	uint64_t value = stack_pop_at(cpu, &sp, i->size);
	uint64_t offset, linear;

	stack_set(cpu, sp);
	offset = insn_offset(cpu, i);
	cpu->r[RSP] = old;
	linear = logical_to_linear(cpu, i->seg, offset, i->size, true);
	linear_write(cpu, linear, value, i->size);
	stack_set(cpu, sp);
}

FN(pop_segment)
{
	uint64_t sp = cpu->r[RSP];
	uint16_t selector = (uint16_t)stack_pop_at(cpu, &sp, i->size);
	enum segment_register s = i->reg[0];
	unsigned size = cpu_stack_size(cpu);

	segment_load(cpu, s, selector);
	if (s == SEG_SS)
		cpu->inhibit |= INHIBIT_MOV_SS;
	/* The width that RSP had when the value was popped. */
	gpr_set(cpu, RSP, sp, size);
}

static bool bind_pop(const struct decoded *d, struct insn *out)
{
	switch (out->kind[0]) {
	case OPERAND_GPR:
		out->fn = out->size == 8 ? pop_r64 : pop_r;
		return true;
	case OPERAND_MEM:
		out->fn = pop_m;
		return true;
	default:
		out->fn = pop_segment;
		out->flags |= INSN_ENDS_BLOCK;
		return out->reg[0] <= SEG_GS && out->reg[0] != SEG_CS;
	}
}

/* --- all registers --- */

FN(pusha)
{
	uint64_t sp = cpu->r[RSP];
	for (unsigned n = RAX; n <= RDI; n++)
		stack_push_at(cpu, &sp, cpu->r[n], i->size);
	stack_set(cpu, sp);
}

FN(popa)
{
	uint64_t sp = cpu->r[RSP], value[8];
	for (int n = RDI; n >= RAX; n--)
		value[n] = stack_pop_at(cpu, &sp, i->size);
	for (unsigned n = RAX; n <= RDI; n++)
		if (n != RSP)	/* its image is thrown away */
			gpr_set(cpu, n, value[n], i->size);
	stack_set(cpu, sp);
}

/* --- flags --- */

FN(pushf)
{
	uint64_t flags = cpu_rflags(cpu);

	if (vme_virtual_flags(cpu, i->size))
		flags = (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
	push(cpu, flags & ~(FLAG_VM | FLAG_RF), i->size);
}

/* SDM vol. 2, "POPF": what may change depends on CPL and IOPL. */
FN(popf)
{
	uint64_t sp = cpu->r[RSP], old = cpu_rflags(cpu), value;
	uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;

	if (vme_virtual_flags(cpu, i->size)) {
		uint64_t flags = vme_flags_load(cpu, stack_pop_at(cpu, &sp, i->size));
		stack_set(cpu, sp);
		cpu_set_rflags(cpu, flags);
		return;
	}
	if (cpu_v86(cpu)) {
		mask |= FLAG_IF;
	} else if (cpu->cpl == 0) {
		mask |= FLAG_IF | FLAG_IOPL;
	} else if (cpu->cpl <= cpu_iopl(cpu)) {
		mask |= FLAG_IF;
	}
	if (i->size > 2)
		mask |= FLAG_AC | FLAG_ID;
	value = stack_pop_at(cpu, &sp, i->size);
	stack_set(cpu, sp);
	cpu_set_rflags(cpu, (old & ~(mask | FLAG_RF)) | (value & mask));
}

/* --- frames --- */

enum { ENTER_LEVELS = 32 };

/* imm: bytes to allocate; imm2: nesting level (SDM vol. 2, "ENTER"). */
FN(enter)
{
	unsigned width = cpu_stack_size(cpu);
	uint64_t sp = cpu->r[RSP], bp = cpu->r[RBP], frame;

	stack_push_at(cpu, &sp, bp, i->size);
	frame = sp;
	if (i->imm2) {
		for (unsigned n = 1; n < i->imm2; n++) {
			bp -= i->size;
			uint64_t linear = logical_to_linear(cpu, SEG_SS, bits_trim(bp, width), i->size, false);
			stack_push_at(cpu, &sp, linear_read(cpu, linear, i->size), i->size);
		}
		stack_push_at(cpu, &sp, frame, i->size);
	}
	sp -= i->imm;
	/* A write with the new stack pointer must be possible. */
	linear_write_pointer(cpu, logical_to_linear(cpu, SEG_SS, bits_trim(sp, width), i->size, true),
			     i->size);
	linear_commit(cpu);
	gpr_set(cpu, RBP, frame, cpu->mode == MODE_64 ? 8 : i->size);
	stack_set(cpu, sp);
}

static bool bind_enter(const struct decoded *d, struct insn *out)
{
	out->fn = enter;
	out->imm = d->op[0].imm.value.u;
	out->imm2 = d->op[1].imm.value.u % ENTER_LEVELS;
	return true;
}

FN(leave)
{
	unsigned width = cpu_stack_size(cpu);
	uint64_t sp = cpu->r[RBP], value;

	if (width == 2)
		sp = (cpu->r[RSP] & ~0xffffull) | (sp & 0xffff);
	value = stack_pop_at(cpu, &sp, i->size);
	stack_set(cpu, sp);
	gpr_set(cpu, RBP, value, i->size);
}

#define RULE(name, bind) { ZYDIS_MNEMONIC_##name, bind, NULL, 0 }
#define FIXED(name, fn) { ZYDIS_MNEMONIC_##name, NULL, fn, 0 }
#define ENDS(name, fn) { ZYDIS_MNEMONIC_##name, NULL, fn, INSN_ENDS_BLOCK }

static const struct insn_rule rules[] = {
	RULE(PUSH, bind_push), RULE(POP, bind_pop),
	FIXED(PUSHA, pusha), FIXED(PUSHAD, pusha), FIXED(POPA, popa), FIXED(POPAD, popa),
	FIXED(PUSHF, pushf), FIXED(PUSHFD, pushf), FIXED(PUSHFQ, pushf),
	ENDS(POPF, popf), ENDS(POPFD, popf), ENDS(POPFQ, popf),
	RULE(ENTER, bind_enter), FIXED(LEAVE, leave),

	RULE(JMP, bind_jmp), RULE(CALL, bind_call), RULE(RET, bind_ret),
	RULE(JO, bind_jcc), RULE(JNO, bind_jcc), RULE(JB, bind_jcc), RULE(JNB, bind_jcc),
	RULE(JZ, bind_jcc), RULE(JNZ, bind_jcc), RULE(JBE, bind_jcc), RULE(JNBE, bind_jcc),
	RULE(JS, bind_jcc), RULE(JNS, bind_jcc), RULE(JP, bind_jcc), RULE(JNP, bind_jcc),
	RULE(JL, bind_jcc), RULE(JNL, bind_jcc), RULE(JLE, bind_jcc), RULE(JNLE, bind_jcc),
	RULE(JCXZ, bind_jcxz), RULE(JECXZ, bind_jcxz), RULE(JRCXZ, bind_jcxz),
	RULE(LOOP, bind_loop), RULE(LOOPE, bind_loop), RULE(LOOPNE, bind_loop),
};

const struct insn_rules stack_rules = { rules, ARRAY_SIZE(rules) };
