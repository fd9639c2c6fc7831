/* Arithmetic and logic with one and two operands, flag instructions, and the
 * rule list of all integer instructions.
 *
 * Every operation runs on the host processor by inline assembly and its flags
 * are the host's. `op` functions compute; the form functions below them fetch
 * and store operands (see operand.h). A memory destination is read and written
 * by one host access each; with LOCK by one host instruction. */
#include "soft/integer.h"
#include "soft/operand.h"

/* --- the operations --- */

#define OP2(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__(#op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "=&a"(f) : "r"(b) : "cc"); \
	cpu->arith = f; \
	return a; \
}

#define OP2_LOCKED(op, B) \
static inline void op##_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__ volatile("lock; " #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "=&a"(f) : "r"(b) : "cc", "memory"); \
	cpu->arith = f; \
}

#define OP2_CARRY(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__(CARRY_PUT(3) #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "=&a"(f) : "r"(b), "r"((uint32_t)cpu->arith) : "cc"); \
	cpu->arith = f; \
	return a; \
}

#define OP2_CARRY_LOCKED(op, B) \
static inline void op##_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__ volatile(CARRY_PUT(3) "lock; " #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "=&a"(f) : "r"(b), "r"((uint32_t)cpu->arith) : "cc", "memory"); \
	cpu->arith = f; \
}

/* Operations that only set flags. */
#define OP2_TEST(op, B) \
static inline void op##B(struct cpu *cpu, uint##B##_t a, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__(#op SUFFIX(B) " %2, %1\n\t" FLAGS_TAKE \
		: "=&a"(f) : "r"(a), "r"(b) : "cc"); \
	cpu->arith = f; \
}

/* INC and DEC leave CF alone. */
#define OP1_KEEPS_CARRY(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a) \
{ \
	uint16_t f; \
	__asm__(CARRY_PUT(2) #op SUFFIX(B) " %0\n\t" FLAGS_TAKE \
		: "+r"(a), "=&a"(f) : "r"((uint32_t)cpu->arith) : "cc"); \
	cpu->arith = f; \
	return a; \
} \
static inline void op##_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p) \
{ \
	uint16_t f; \
	__asm__ volatile(CARRY_PUT(2) "lock; " #op SUFFIX(B) " %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "=&a"(f) : "r"((uint32_t)cpu->arith) : "cc", "memory"); \
	cpu->arith = f; \
}

#define NEG(B) \
static inline uint##B##_t neg##B(struct cpu *cpu, uint##B##_t a) \
{ \
	uint16_t f; \
	__asm__("neg" SUFFIX(B) " %0\n\t" FLAGS_TAKE : "+r"(a), "=&a"(f) : : "cc"); \
	cpu->arith = f; \
	return a; \
} \
static inline void neg_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p) \
{ \
	uint16_t f; \
	__asm__ volatile("lock; neg" SUFFIX(B) " %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "=&a"(f) : : "cc", "memory"); \
	cpu->arith = f; \
}

#define NOT(B) \
static inline uint##B##_t not##B(struct cpu *cpu, uint##B##_t a) \
{ \
	(void)cpu; \
	return (uint##B##_t)~a; \
} \
static inline void not_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p) \
{ \
	(void)cpu; \
	__asm__ volatile("lock; not" SUFFIX(B) " %0" : "+m"(*p) : : "memory"); \
}

/* --- the forms --- */

#define FORMS2(op, B) \
FN(op##_rr##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1))); } \
FN(op##_ri##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), (uint##B##_t)i->imm)); } \
FN(op##_rm##B) \
{ \
	uint##B##_t b = mem_get##B(cpu, i); \
	reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), b)); \
} \
FN(op##_rp##B) \
{ \
	uint##B##_t b = plain_get##B(cpu, i); \
	reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), b)); \
} \
FN(op##_mr##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, reg_get##B(cpu, i, 1)); \
	linear_commit(cpu); \
} \
FN(op##_pr##B) \
{ \
	volatile guest_uint##B##_t *p = plain_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, reg_get##B(cpu, i, 1)); \
	linear_commit(cpu); \
} \
FN(op##_lr##B) \
{ \
	op##_locked##B(cpu, mem_pointer(cpu, i, B / 8), reg_get##B(cpu, i, 1)); \
	linear_commit(cpu); \
} \
FN(op##_mi##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, (uint##B##_t)i->imm); \
	linear_commit(cpu); \
} \
FN(op##_pi##B) \
{ \
	volatile guest_uint##B##_t *p = plain_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, (uint##B##_t)i->imm); \
	linear_commit(cpu); \
} \
FN(op##_li##B) \
{ \
	op##_locked##B(cpu, mem_pointer(cpu, i, B / 8), (uint##B##_t)i->imm); \
	linear_commit(cpu); \
}

#define FORMS2_TEST(op, B) \
FN(op##_rr##B) { op##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1)); } \
FN(op##_ri##B) { op##B(cpu, reg_get##B(cpu, i, 0), (uint##B##_t)i->imm); } \
FN(op##_rm##B) { op##B(cpu, reg_get##B(cpu, i, 0), mem_get##B(cpu, i)); } \
FN(op##_rp##B) { op##B(cpu, reg_get##B(cpu, i, 0), plain_get##B(cpu, i)); } \
FN(op##_mr##B) { op##B(cpu, mem_get##B(cpu, i), reg_get##B(cpu, i, 1)); } \
FN(op##_pr##B) { op##B(cpu, plain_get##B(cpu, i), reg_get##B(cpu, i, 1)); } \
FN(op##_mi##B) { op##B(cpu, mem_get##B(cpu, i), (uint##B##_t)i->imm); } \
FN(op##_pi##B) { op##B(cpu, plain_get##B(cpu, i), (uint##B##_t)i->imm); }

#define FORMS1(op, B) \
FN(op##_r##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0))); } \
FN(op##_m##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p); \
	linear_commit(cpu); \
} \
FN(op##_p##B) \
{ \
	volatile guest_uint##B##_t *p = plain_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p); \
	linear_commit(cpu); \
} \
FN(op##_l##B) \
{ \
	op##_locked##B(cpu, mem_pointer(cpu, i, B / 8)); \
	linear_commit(cpu); \
}

#define BIND2(op) \
static form_table op##_table = { \
	[FORM_RR] = FOUR(op##_rr), [FORM_RI] = FOUR(op##_ri), \
	[FORM_RM] = FOUR(op##_rm), [FORM_RP] = FOUR(op##_rp), \
	[FORM_MR] = FOUR(op##_mr), [FORM_PR] = FOUR(op##_pr), [FORM_LR] = FOUR(op##_lr), \
	[FORM_MI] = FOUR(op##_mi), [FORM_PI] = FOUR(op##_pi), [FORM_LI] = FOUR(op##_li), \
}; \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	return insn_choose(d, out, op##_table); \
}

#define BIND2_TEST(op) \
static form_table op##_table = { \
	[FORM_RR] = FOUR(op##_rr), [FORM_RI] = FOUR(op##_ri), \
	[FORM_RM] = FOUR(op##_rm), [FORM_RP] = FOUR(op##_rp), \
	[FORM_MR] = FOUR(op##_mr), [FORM_PR] = FOUR(op##_pr), \
	[FORM_MI] = FOUR(op##_mi), [FORM_PI] = FOUR(op##_pi), \
}; \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	return insn_choose(d, out, op##_table); \
}

#define BIND1(op) \
static form_table op##_table = { \
	[FORM_R] = FOUR(op##_r), [FORM_M] = FOUR(op##_m), \
	[FORM_P] = FOUR(op##_p), [FORM_L] = FOUR(op##_l), \
}; \
static bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	return insn_choose(d, out, op##_table); \
}

#define ALU(op, B) OP2(op, B) OP2_LOCKED(op, B) FORMS2(op, B)
#define ALU_CARRY(op, B) OP2_CARRY(op, B) OP2_CARRY_LOCKED(op, B) FORMS2(op, B)
#define ALU_TEST(op, B) OP2_TEST(op, B) FORMS2_TEST(op, B)
#define ALU_COUNT(op, B) OP1_KEEPS_CARRY(op, B) FORMS1(op, B)
#define FOUR_WIDTHS(M, op) M(op, 8) M(op, 16) M(op, 32) M(op, 64)

FOUR_WIDTHS(ALU, add) BIND2(add)
FOUR_WIDTHS(ALU, or) BIND2(or)
FOUR_WIDTHS(ALU_CARRY, adc) BIND2(adc)
FOUR_WIDTHS(ALU_CARRY, sbb) BIND2(sbb)
FOUR_WIDTHS(ALU, and) BIND2(and)
FOUR_WIDTHS(ALU, sub) BIND2(sub)
FOUR_WIDTHS(ALU, xor) BIND2(xor)
FOUR_WIDTHS(ALU_TEST, cmp) BIND2_TEST(cmp)
FOUR_WIDTHS(ALU_TEST, test) BIND2_TEST(test)
FOUR_WIDTHS(ALU_COUNT, inc) BIND1(inc)
FOUR_WIDTHS(ALU_COUNT, dec) BIND1(dec)
FOR_WIDTHS(NEG) FOUR_WIDTHS(FORMS1, neg) BIND1(neg)
FOR_WIDTHS(NOT) FOUR_WIDTHS(FORMS1, not) BIND1(not)

/* --- flags --- */

enum { AH_OFFSET = 1 };

FN(do_lahf)
{
	((uint8_t *)&cpu->r[RAX])[AH_OFFSET] = (uint8_t)((cpu->arith | ARITH_FIXED) >> 8);
}

FN(do_sahf)
{
	uint32_t flags = ((uint8_t *)&cpu->r[RAX])[AH_OFFSET];
	cpu->arith = (uint16_t)(arith_from_flags(flags) | (cpu->arith & ARITH_OF));
}

FN(do_clc) { cpu->arith &= (uint16_t)~ARITH_CF; }
FN(do_stc) { cpu->arith |= ARITH_CF; }
FN(do_cmc) { cpu->arith ^= ARITH_CF; }
FN(do_cld) { cpu->sysflags &= (uint32_t)~FLAG_DF; }
FN(do_std) { cpu->sysflags |= (uint32_t)FLAG_DF; }

/* SALC: AL becomes FFh or 0 with CF. */
FN(do_salc) { *(uint8_t *)&cpu->r[RAX] = cpu->arith & ARITH_CF ? 0xff : 0; }

FN(do_nop) { (void)cpu; (void)i; }

#define RULE(name, bind) { ZYDIS_MNEMONIC_##name, bind, NULL, 0 }
#define FIXED(name, fn) { ZYDIS_MNEMONIC_##name, NULL, fn, 0 }

static const struct insn_rule rules[] = {
	RULE(ADD, bind_add), RULE(OR, bind_or), RULE(ADC, bind_adc), RULE(SBB, bind_sbb),
	RULE(AND, bind_and), RULE(SUB, bind_sub), RULE(XOR, bind_xor), RULE(CMP, bind_cmp),
	RULE(TEST, bind_test), RULE(INC, bind_inc), RULE(DEC, bind_dec), RULE(NEG, bind_neg),
	RULE(NOT, bind_not),

	RULE(MOV, bind_mov), RULE(MOVZX, bind_movzx), RULE(MOVSX, bind_movsx),
	RULE(MOVSXD, bind_movsx), RULE(LEA, bind_lea), RULE(BSWAP, bind_bswap),
	RULE(MOVBE, bind_movbe), RULE(XLAT, bind_xlat),
	RULE(XCHG, bind_xchg), RULE(XADD, bind_xadd), RULE(CMPXCHG, bind_cmpxchg),
	RULE(CMPXCHG8B, bind_cmpxchg8b), RULE(CMPXCHG16B, bind_cmpxchg16b),
	FIXED(CBW, do_cbw), FIXED(CWDE, do_cwde), FIXED(CDQE, do_cdqe),
	FIXED(CWD, do_cwd), FIXED(CDQ, do_cdq), FIXED(CQO, do_cqo),

	RULE(CMOVO, bind_cmov), RULE(CMOVNO, bind_cmov), RULE(CMOVB, bind_cmov),
	RULE(CMOVNB, bind_cmov), RULE(CMOVZ, bind_cmov), RULE(CMOVNZ, bind_cmov),
	RULE(CMOVBE, bind_cmov), RULE(CMOVNBE, bind_cmov), RULE(CMOVS, bind_cmov),
	RULE(CMOVNS, bind_cmov), RULE(CMOVP, bind_cmov), RULE(CMOVNP, bind_cmov),
	RULE(CMOVL, bind_cmov), RULE(CMOVNL, bind_cmov), RULE(CMOVLE, bind_cmov),
	RULE(CMOVNLE, bind_cmov),
	RULE(SETO, bind_setcc), RULE(SETNO, bind_setcc), RULE(SETB, bind_setcc),
	RULE(SETNB, bind_setcc), RULE(SETZ, bind_setcc), RULE(SETNZ, bind_setcc),
	RULE(SETBE, bind_setcc), RULE(SETNBE, bind_setcc), RULE(SETS, bind_setcc),
	RULE(SETNS, bind_setcc), RULE(SETP, bind_setcc), RULE(SETNP, bind_setcc),
	RULE(SETL, bind_setcc), RULE(SETNL, bind_setcc), RULE(SETLE, bind_setcc),
	RULE(SETNLE, bind_setcc),

	RULE(MUL, bind_mul), RULE(IMUL, bind_imul), RULE(DIV, bind_div), RULE(IDIV, bind_idiv),
	FIXED(AAA, do_aaa), FIXED(AAS, do_aas), FIXED(AAM, do_aam), FIXED(AAD, do_aad),
	FIXED(DAA, do_daa), FIXED(DAS, do_das), FIXED(SALC, do_salc),

	FIXED(LAHF, do_lahf), FIXED(SAHF, do_sahf), FIXED(CLC, do_clc), FIXED(STC, do_stc),
	FIXED(CMC, do_cmc), FIXED(CLD, do_cld), FIXED(STD, do_std),

	/* Hints, and the hint space of features that are not there (MPX, CET). */
	FIXED(NOP, do_nop), FIXED(PREFETCH, do_nop), FIXED(PREFETCHNTA, do_nop),
	FIXED(PREFETCHT0, do_nop), FIXED(PREFETCHT1, do_nop), FIXED(PREFETCHT2, do_nop),
	FIXED(PREFETCHW, do_nop), FIXED(PREFETCHWT1, do_nop),
	FIXED(ENDBR32, do_nop), FIXED(ENDBR64, do_nop), FIXED(RDSSPD, do_nop),
	FIXED(RDSSPQ, do_nop), FIXED(CLDEMOTE, do_nop),
	FIXED(BNDCL, do_nop), FIXED(BNDCN, do_nop), FIXED(BNDCU, do_nop), FIXED(BNDLDX, do_nop),
	FIXED(BNDMK, do_nop), FIXED(BNDMOV, do_nop), FIXED(BNDSTX, do_nop),
};

const struct insn_rules integer_rules = { rules, ARRAY_SIZE(rules) };
