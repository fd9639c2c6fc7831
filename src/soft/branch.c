/* Near transfers of control: JMP, Jcc, JCXZ, LOOP, CALL, RET.
 *
 * In 64-bit mode the operand size is 64 whatever the prefixes say, and a
 * target must be canonical; elsewhere the target is cut to the operand size
 * and must lie inside CS. The check comes before anything is pushed or popped,
 * so that #GP finds the stack as it was. */
#include "soft/integer.h"
#include "soft/transfer.h"

static void branch_legacy(struct cpu *cpu, uint64_t target, unsigned size)
{
	cpu->r[REG_RIP] = branch_check(cpu, target, size);
}

static inline uint64_t relative(const struct cpu *cpu, const struct insn *i)
{
	return cpu->r[REG_RIP] + i->imm;
}

/* The target of an indirect branch. */
static uint64_t indirect(struct cpu *cpu, const struct insn *i)
{
	if (i->kind[0] == OPERAND_GPR)
		return bits_trim(*(uint64_t *)reg_at(cpu, i, 0), i->size);
	return i->size == 2 ? mem_get16(cpu, i) : i->size == 4 ? mem_get32(cpu, i) : mem_get64(cpu, i);
}

/* --- JMP --- */

FN(jmp_64) { branch_64(cpu, relative(cpu, i)); }
FN(jmp_legacy) { branch_legacy(cpu, relative(cpu, i), i->size); }
FN(jmp_indirect_64) { branch_64(cpu, indirect(cpu, i)); }
FN(jmp_indirect_legacy) { branch_legacy(cpu, indirect(cpu, i), i->size); }

/* Relative and indirect function, for 64-bit mode and for the others. */
static bool choose_branch(const struct decoded *d, struct insn *out, insn_fn *const fn[2][2])
{
	bool wide = d->mode == MODE_64;
	if (wide)
		out->size = 8;
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = fn[out->kind[0] != OPERAND_IMM][wide];
	return true;
}

bool bind_jmp(const struct decoded *d, struct insn *out)
{
	static insn_fn *const fn[2][2] = {
		{ jmp_legacy, jmp_64 }, { jmp_indirect_legacy, jmp_indirect_64 },
	};
	return decoded_far(d) ? bind_jmp_far(d, out) : choose_branch(d, out, fn);
}

/* --- Jcc --- */

#define JCC(code) \
FN(jcc_64_##code) \
{ \
	if (condition_holds(cpu->arith, code)) \
		branch_64(cpu, relative(cpu, i)); \
} \
FN(jcc_legacy_##code) \
{ \
	if (condition_holds(cpu->arith, code)) \
		branch_legacy(cpu, relative(cpu, i), i->size); \
}
#define SIXTEEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
SIXTEEN(JCC)

bool bind_jcc(const struct decoded *d, struct insn *out)
{
#define JCC_64(code) jcc_64_##code,
#define JCC_LEGACY(code) jcc_legacy_##code,
	static insn_fn *const fn[2][16] = { { SIXTEEN(JCC_LEGACY) }, { SIXTEEN(JCC_64) } };
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = fn[d->mode == MODE_64][out->condition & 15];
	return true;
}

/* --- JCXZ, LOOP: the counter has the address's size --- */

static void branch(struct cpu *cpu, const struct insn *i)
{
	if (cpu->mode == MODE_64)
		branch_64(cpu, relative(cpu, i));
	else
		branch_legacy(cpu, relative(cpu, i), i->size);
}

FN(jcxz)
{
	if (bits_trim(cpu->r[RCX], i->address_size) == 0)
		branch(cpu, i);
}

bool bind_jcxz(const struct decoded *d, struct insn *out)
{
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = jcxz;
	return true;
}

static inline void loop_if(struct cpu *cpu, const struct insn *i, bool again)
{
	uint64_t count = bits_trim(cpu->r[RCX] - 1, i->address_size);
	if (count != 0 && again)
		branch(cpu, i);
	gpr_set(cpu, RCX, count, i->address_size);
}

FN(loop) { loop_if(cpu, i, true); }
FN(loope) { loop_if(cpu, i, cpu->arith & ARITH_ZF); }
FN(loopne) { loop_if(cpu, i, !(cpu->arith & ARITH_ZF)); }

bool bind_loop(const struct decoded *d, struct insn *out)
{
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = d->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE ? loope :
		d->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE ? loopne : loop;
	return true;
}

/* --- CALL, RET --- */

static inline void call_to_64(struct cpu *cpu, uint64_t target)
{
	if (unlikely(!linear_canonical(target)))
		raise_gp(cpu, 0);
	push_64(cpu, cpu->r[REG_RIP]);
	cpu->r[REG_RIP] = target;
}

static void call_to_legacy(struct cpu *cpu, uint64_t target, unsigned size)
{
	uint64_t sp = cpu->r[RSP];
	target = branch_check(cpu, target, size);
	stack_push_at(cpu, &sp, cpu->r[REG_RIP], size);
	stack_set(cpu, sp);
	cpu->r[REG_RIP] = target;
}

FN(call_64) { call_to_64(cpu, relative(cpu, i)); }
FN(call_legacy) { call_to_legacy(cpu, relative(cpu, i), i->size); }
FN(call_indirect_64) { call_to_64(cpu, indirect(cpu, i)); }
FN(call_indirect_legacy) { call_to_legacy(cpu, indirect(cpu, i), i->size); }

bool bind_call(const struct decoded *d, struct insn *out)
{
	static insn_fn *const fn[2][2] = {
		{ call_legacy, call_64 }, { call_indirect_legacy, call_indirect_64 },
	};
	return decoded_far(d) ? bind_call_far(d, out) : choose_branch(d, out, fn);
}

/* imm: bytes of parameters to drop, 0 without. */
FN(ret_64)
{
	branch_64(cpu, peek_64(cpu));
	cpu->r[RSP] += 8 + i->imm;
}

FN(ret_legacy)
{
	uint64_t sp = cpu->r[RSP];
	uint64_t target = stack_pop_at(cpu, &sp, i->size);
	branch_legacy(cpu, target, i->size);
	stack_set(cpu, sp + i->imm);
}

bool bind_ret(const struct decoded *d, struct insn *out)
{
	out->imm = d->zi.operand_count_visible ? (uint16_t)d->op[0].imm.value.u : 0;
	if (decoded_far(d))
		return bind_ret_far(d, out);
	out->flags |= INSN_ENDS_BLOCK;
	out->fn = d->mode == MODE_64 ? ret_64 : ret_legacy;
	return true;
}
