/* Moves between registers and memory that change no flags: MOV, extensions,
 * LEA, conditional moves and sets, byte swaps, XLAT. */
#include "soft/integer.h"
#include "soft/operand.h"
#include "soft/system.h"

#define MOV(B) \
FN(mov_rr##B) { reg_set##B(cpu, i, 0, reg_get##B(cpu, i, 1)); } \
FN(mov_ri##B) { reg_set##B(cpu, i, 0, (uint##B##_t)i->imm); } \
FN(mov_rm##B) { reg_set##B(cpu, i, 0, mem_get##B(cpu, i)); } \
FN(mov_rp##B) { reg_set##B(cpu, i, 0, plain_get##B(cpu, i)); } \
FN(mov_mr##B) { mem_set##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(mov_pr##B) { plain_set##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(mov_mi##B) { mem_set##B(cpu, i, (uint##B##_t)i->imm); } \
FN(mov_pi##B) { plain_set##B(cpu, i, (uint##B##_t)i->imm); }
FOR_WIDTHS(MOV)

static bool is_segment(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

bool bind_mov(const struct decoded *d, struct insn *out)
{
	if (is_segment(&d->op[0]) || is_segment(&d->op[1]))
		return segment_bind_mov(d, out);
	if (out->kind[0] == OPERAND_OTHER || out->kind[1] == OPERAND_OTHER)
		return system_bind_mov(d, out);
	static form_table table = {
		[FORM_RR] = FOUR(mov_rr), [FORM_RI] = FOUR(mov_ri),
		[FORM_RM] = FOUR(mov_rm), [FORM_RP] = FOUR(mov_rp),
		[FORM_MR] = FOUR(mov_mr), [FORM_PR] = FOUR(mov_pr),
		[FORM_MI] = FOUR(mov_mi), [FORM_PI] = FOUR(mov_pi),
	};
	return insn_choose(d, out, table);
}

/* MOVZX and MOVSX: S the source's width, D the destination's. */
#define EXTEND(op, type, S, D) \
FN(op##S##_rr##D) { reg_set##D(cpu, i, 0, (uint##D##_t)(type##S##_t)reg_get##S(cpu, i, 1)); } \
FN(op##S##_rm##D) { reg_set##D(cpu, i, 0, (uint##D##_t)(type##S##_t)mem_get##S(cpu, i)); } \
FN(op##S##_rp##D) { reg_set##D(cpu, i, 0, (uint##D##_t)(type##S##_t)plain_get##S(cpu, i)); }

#define EXTEND_TABLE(op, S) { \
	[FORM_RR] = THREE(op##S##_rr), [FORM_RM] = THREE(op##S##_rm), [FORM_RP] = THREE(op##S##_rp) }

EXTEND(movzx, uint, 8, 16)
EXTEND(movzx, uint, 8, 32)
EXTEND(movzx, uint, 8, 64)
EXTEND(movzx, uint, 16, 16)
EXTEND(movzx, uint, 16, 32)
EXTEND(movzx, uint, 16, 64)
EXTEND(movsx, int, 8, 16)
EXTEND(movsx, int, 8, 32)
EXTEND(movsx, int, 8, 64)
EXTEND(movsx, int, 16, 16)
EXTEND(movsx, int, 16, 32)
EXTEND(movsx, int, 16, 64)
EXTEND(movsx, int, 32, 16)
EXTEND(movsx, int, 32, 32)
EXTEND(movsx, int, 32, 64)

bool bind_movzx(const struct decoded *d, struct insn *out)
{
	static form_table from8 = EXTEND_TABLE(movzx, 8), from16 = EXTEND_TABLE(movzx, 16);
	return d->op[1].size == 8 ? insn_choose(d, out, from8) : insn_choose(d, out, from16);
}

bool bind_movsx(const struct decoded *d, struct insn *out)
{
	static form_table from8 = EXTEND_TABLE(movsx, 8), from16 = EXTEND_TABLE(movsx, 16),
		from32 = EXTEND_TABLE(movsx, 32);
	switch (d->op[1].size) {
	case 8: return insn_choose(d, out, from8);
	case 16: return insn_choose(d, out, from16);
	default: return insn_choose(d, out, from32);
	}
}

FN(lea16) { reg_set16(cpu, i, 0, (uint16_t)insn_offset(cpu, i)); }
FN(lea32) { reg_set32(cpu, i, 0, (uint32_t)insn_offset(cpu, i)); }
FN(lea64) { reg_set64(cpu, i, 0, insn_offset(cpu, i)); }
FN(lea_address64) { reg_set64(cpu, i, 0, plain_linear(cpu, i)); }

bool bind_lea(const struct decoded *d, struct insn *out)
{
	if (d->op[1].type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	switch (d->op[0].size) {
	case 16: out->fn = lea16; break;
	case 32: out->fn = lea32; break;
	default: out->fn = out->address_size == 8 ? lea_address64 : lea64; break;
	}
	return true;
}

/* CMOVcc reads its source, and zero-extends a 32-bit destination, always. */
#define CMOV(B) \
FN(cmov_rr##B) \
{ \
	uint##B##_t a = reg_get##B(cpu, i, 0), b = reg_get##B(cpu, i, 1); \
	reg_set##B(cpu, i, 0, condition(cpu->arith, i->condition) ? b : a); \
} \
FN(cmov_rm##B) \
{ \
	uint##B##_t b = mem_get##B(cpu, i), a = reg_get##B(cpu, i, 0); \
	reg_set##B(cpu, i, 0, condition(cpu->arith, i->condition) ? b : a); \
}
FOR_WIDE(CMOV)

bool bind_cmov(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = THREE(cmov_rr), [FORM_RM] = THREE(cmov_rm), [FORM_RP] = THREE(cmov_rm),
	};
	return insn_choose(d, out, table);
}

FN(setcc_r) { reg_set8(cpu, i, 0, condition(cpu->arith, i->condition)); }
FN(setcc_m) { mem_set8(cpu, i, condition(cpu->arith, i->condition)); }

bool bind_setcc(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_R] = { setcc_r }, [FORM_M] = { setcc_m }, [FORM_P] = { setcc_m },
	};
	return insn_choose(d, out, table);
}

/* BSWAP of a 16-bit register is undefined; processors clear it. */
FN(bswap16) { reg_set16(cpu, i, 0, 0); }
FN(bswap32) { reg_set32(cpu, i, 0, __builtin_bswap32(reg_get32(cpu, i, 0))); }
FN(bswap64) { reg_set64(cpu, i, 0, __builtin_bswap64(reg_get64(cpu, i, 0))); }

bool bind_bswap(const struct decoded *d, struct insn *out)
{
	static form_table table = { [FORM_R] = THREE(bswap) };
	return insn_choose(d, out, table);
}

#define MOVBE(B) \
FN(movbe_rm##B) { reg_set##B(cpu, i, 0, __builtin_bswap##B(mem_get##B(cpu, i))); } \
FN(movbe_mr##B) { mem_set##B(cpu, i, __builtin_bswap##B(reg_get##B(cpu, i, 1))); }
FOR_WIDE(MOVBE)

bool bind_movbe(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RM] = THREE(movbe_rm), [FORM_RP] = THREE(movbe_rm),
		[FORM_MR] = THREE(movbe_mr), [FORM_PR] = THREE(movbe_mr),
	};
	return insn_choose(d, out, table);
}

FN(xlat)
{
	uint64_t offset = bits_trim(cpu->r[RBX] + (uint8_t)cpu->r[RAX], i->address_size);
	uint64_t linear = logical_to_linear(cpu, i->seg, offset, 1, false);
	gpr_set(cpu, RAX, linear_read(cpu, linear, 1), 1);
}

bool bind_xlat(const struct decoded *d, struct insn *out)
{
	out->fn = xlat;
	return insn_hidden_memory(d, 0, out);
}

void do_cbw(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RAX, (uint64_t)(int8_t)cpu->r[RAX], 2);
}

void do_cwde(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RAX, (uint64_t)(int16_t)cpu->r[RAX], 4);
}

void do_cdqe(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RAX, (uint64_t)(int32_t)cpu->r[RAX], 8);
}

void do_cwd(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RDX, (uint64_t)((int16_t)cpu->r[RAX] >> 15), 2);
}

void do_cdq(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RDX, (uint64_t)((int32_t)cpu->r[RAX] >> 31), 4);
}

void do_cqo(struct cpu *cpu, const struct insn *i)
{
	gpr_set(cpu, RDX, (uint64_t)((int64_t)cpu->r[RAX] >> 63), 8);
}
