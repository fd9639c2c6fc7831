/* Shifts, rotates and double shifts, and the rule list of all bit
 * instructions.
 *
 * The host gets the guest's flags before the operation and ours are taken after
 * it: so a count of zero changes nothing, rotates keep what they keep, and
 * RCL/RCR find their carry, all by itself. */
#include "soft/integer.h"
#include "soft/operand.h"

#define ANY_COUNT(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a, uint8_t count) \
{ \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %%cl, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "+a"(f) : "c"(count) : "cc"); \
	cpu->arith = f; \
	return a; \
}

/* A count known not to be zero modulo 32 or 64: shifts then set every flag. */
#define SOME_COUNT(op, B) \
static inline uint##B##_t op##_some##B(struct cpu *cpu, uint##B##_t a, uint8_t count) \
{ \
	uint16_t f; \
	__asm__(#op SUFFIX(B) " %%cl, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "=&a"(f) : "c"(count) : "cc"); \
	cpu->arith = f; \
	return a; \
}

/* Counts: an immediate or CL, both as visible operand 1. Memory is written even
 * when the count is zero. */
#define SHIFT_FORMS(op, B) \
FN(op##_ri##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), (uint8_t)i->imm)); } \
FN(op##_rr##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), (uint8_t)cpu->r[RCX])); } \
FN(op##_mi##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, (uint8_t)i->imm); \
	linear_commit(cpu); \
} \
FN(op##_mr##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, (uint8_t)cpu->r[RCX]); \
	linear_commit(cpu); \
}

#define SHIFT_TABLE(op) \
static form_table op##_table = { \
	[FORM_RI] = FOUR(op##_ri), [FORM_RR] = FOUR(op##_rr), \
	[FORM_MI] = FOUR(op##_mi), [FORM_PI] = FOUR(op##_mi), \
	[FORM_MR] = FOUR(op##_mr), [FORM_PR] = FOUR(op##_mr), \
};

#define ROTATE(op, B) ANY_COUNT(op, B) SHIFT_FORMS(op, B)
#define ROTATE_ALL(op) \
ROTATE(op, 8) ROTATE(op, 16) ROTATE(op, 32) ROTATE(op, 64) SHIFT_TABLE(op) \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	return insn_choose(d, out, op##_table); \
}

#define SHIFT(op, B) ANY_COUNT(op, B) SOME_COUNT(op, B) SHIFT_FORMS(op, B) \
FN(op##_some_ri##B) \
{ \
	reg_set##B(cpu, i, 0, op##_some##B(cpu, reg_get##B(cpu, i, 0), (uint8_t)i->imm)); \
}
#define SHIFT_ALL(op) \
SHIFT(op, 8) SHIFT(op, 16) SHIFT(op, 32) SHIFT(op, 64) SHIFT_TABLE(op) \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static form_table some = { [FORM_RI] = FOUR(op##_some_ri) }; \
	bool is_some = insn_form(out) == FORM_RI && count_of(d, out) != 0; \
	return insn_choose(d, out, is_some ? some : op##_table); \
}

static unsigned count_of(const struct decoded *d, const struct insn *out)
{
	return (unsigned)out->imm & (d->op[0].size == 64 ? 63 : 31);
}

SHIFT_ALL(shl)
SHIFT_ALL(shr)
SHIFT_ALL(sar)
ROTATE_ALL(rol)
ROTATE_ALL(ror)
ROTATE_ALL(rcl)
ROTATE_ALL(rcr)

/* --- SHLD, SHRD --- */

/* 16-bit operands with counts above 16 are undefined; the host's answer. */
#define DOUBLE(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a, uint##B##_t b, uint8_t count) \
{ \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %%cl, %3, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "+a"(f) : "c"(count), "r"(b) : "cc"); \
	cpu->arith = f; \
	return a; \
} \
static inline void op##_register##B(struct cpu *cpu, const struct insn *i, uint8_t count) \
{ \
	reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1), count)); \
} \
static inline void op##_memory##B(struct cpu *cpu, const struct insn *i, uint8_t count) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, reg_get##B(cpu, i, 1), count); \
	linear_commit(cpu); \
} \
FN(op##_rri##B) { op##_register##B(cpu, i, (uint8_t)i->imm); } \
FN(op##_rrc##B) { op##_register##B(cpu, i, (uint8_t)cpu->r[RCX]); } \
FN(op##_mri##B) { op##_memory##B(cpu, i, (uint8_t)i->imm); } \
FN(op##_mrc##B) { op##_memory##B(cpu, i, (uint8_t)cpu->r[RCX]); }

#define DOUBLE_ALL(op) \
DOUBLE(op, 16) DOUBLE(op, 32) DOUBLE(op, 64) \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static form_table by_immediate = { \
		[FORM_RR] = THREE(op##_rri), [FORM_MR] = THREE(op##_mri), [FORM_PR] = THREE(op##_mri), \
	}; \
	static form_table by_cl = { \
		[FORM_RR] = THREE(op##_rrc), [FORM_MR] = THREE(op##_mrc), [FORM_PR] = THREE(op##_mrc), \
	}; \
	return insn_choose(d, out, out->kind[2] == OPERAND_IMM ? by_immediate : by_cl); \
}
DOUBLE_ALL(shld)
DOUBLE_ALL(shrd)

#define RULE(name, bind) { ZYDIS_MNEMONIC_##name, bind, NULL, 0 }

static const struct insn_rule rules[] = {
	RULE(SHL, bind_shl), RULE(SHR, bind_shr), RULE(SAR, bind_sar),
	RULE(ROL, bind_rol), RULE(ROR, bind_ror), RULE(RCL, bind_rcl), RULE(RCR, bind_rcr),
	RULE(SHLD, bind_shld), RULE(SHRD, bind_shrd),
	RULE(BT, bind_bt), RULE(BTS, bind_bts), RULE(BTR, bind_btr), RULE(BTC, bind_btc),
	RULE(BSF, bind_bsf), RULE(BSR, bind_bsr), RULE(POPCNT, bind_popcnt),
	RULE(LZCNT, bind_lzcnt), RULE(TZCNT, bind_tzcnt), RULE(CRC32, bind_crc32),
	RULE(ANDN, bind_andn), RULE(BEXTR, bind_bextr), RULE(BLSI, bind_blsi),
	RULE(BLSMSK, bind_blsmsk), RULE(BLSR, bind_blsr), RULE(BZHI, bind_bzhi),
	RULE(MULX, bind_mulx), RULE(PDEP, bind_pdep), RULE(PEXT, bind_pext),
	RULE(RORX, bind_rorx), RULE(SARX, bind_sarx), RULE(SHLX, bind_shlx), RULE(SHRX, bind_shrx),
	RULE(ADCX, bind_adcx), RULE(ADOX, bind_adox),
};

const struct insn_rules shift_rules = { rules, ARRAY_SIZE(rules) };
