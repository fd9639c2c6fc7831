/* MUL, IMUL, DIV, IDIV, and the decimal adjustments.
 *
 * Divisions are checked before the host divides, so that #DE is the guest's
 * and never ours. */
#include "soft/integer.h"
#include "soft/operand.h"

enum { AL = 0, AH = 1 };

static inline uint8_t *accumulator_byte(struct cpu *cpu, unsigned n)
{
	return (uint8_t *)&cpu->r[RAX] + n;
}

/* --- one operand: the accumulator pair --- */

/* op is mul or imul. Bytes: AX = AL * b. */
#define WIDEN8(op) \
static void op##_wide8(struct cpu *cpu, uint8_t b) \
{ \
	uint16_t a = *accumulator_byte(cpu, AL), product; \
	__asm__(#op "b %2\n\tmovw %%ax, %1\n\t" FLAGS_TAKE \
		: "+a"(a), "=&r"(product) : "r"(b) : "cc"); \
	cpu->arith = a;	/* AX is the flags by now */ \
	gpr_set(cpu, RAX, product, 2); \
}

#define WIDEN(op, B) \
static void op##_wide##B(struct cpu *cpu, uint##B##_t b) \
{ \
	uint##B##_t low, high; \
	uint64_t a = (uint##B##_t)cpu->r[RAX]; \
	__asm__(#op SUFFIX(B) " %3\n\tmov" SUFFIX(B) " %" LETTER(B) "0, %1\n\t" FLAGS_TAKE \
		: "+a"(a), "=&r"(low), "=&d"(high) : "r"(b) : "cc"); \
	cpu->arith = (uint16_t)a; \
	gpr_set(cpu, RAX, low, B / 8); \
	gpr_set(cpu, RDX, high, B / 8); \
}
#define LETTER_16 "w"
#define LETTER_32 "k"
#define LETTER_64 "q"
#define LETTER(B) LETTER_##B

WIDEN8(mul)
WIDEN(mul, 16)
WIDEN(mul, 32)
WIDEN(mul, 64)
WIDEN8(imul)
WIDEN(imul, 16)
WIDEN(imul, 32)
WIDEN(imul, 64)

static void div_wide8(struct cpu *cpu, uint8_t b)
{
	uint16_t dividend = (uint16_t)cpu->r[RAX];
	if (b == 0 || dividend / b > 0xff)
		raise_exception(cpu, EXC_DE);
	*accumulator_byte(cpu, AL) = (uint8_t)(dividend / b);
	*accumulator_byte(cpu, AH) = (uint8_t)(dividend % b);
}

static void idiv_wide8(struct cpu *cpu, uint8_t b)
{
	int dividend = (int16_t)cpu->r[RAX], divisor = (int8_t)b;
	if (divisor == 0 || dividend / divisor != (int8_t)(dividend / divisor))
		raise_exception(cpu, EXC_DE);
	*accumulator_byte(cpu, AL) = (uint8_t)(dividend / divisor);
	*accumulator_byte(cpu, AH) = (uint8_t)(dividend % divisor);
}

static void divide(struct cpu *cpu, uint64_t quotient, uint64_t remainder, unsigned size)
{
	gpr_set(cpu, RAX, quotient, size);
	gpr_set(cpu, RDX, remainder, size);
}

#define DIVIDE(B) \
static void div_wide##B(struct cpu *cpu, uint##B##_t b) \
{ \
	uint64_t dividend = (uint64_t)(uint##B##_t)cpu->r[RDX] << B | (uint##B##_t)cpu->r[RAX]; \
	if (b == 0 || dividend / b > (uint##B##_t)~0ull) \
		raise_exception(cpu, EXC_DE); \
	divide(cpu, dividend / b, dividend % b, B / 8); \
} \
static void idiv_wide##B(struct cpu *cpu, uint##B##_t b) \
{ \
	int64_t dividend = sign_extend((uint64_t)(uint##B##_t)cpu->r[RDX] << B | \
				       (uint##B##_t)cpu->r[RAX], 2 * B); \
	int64_t divisor = (int##B##_t)b; \
	if (divisor == 0 || (divisor == -1 && dividend == INT64_MIN) || \
	    dividend / divisor != (int##B##_t)(dividend / divisor)) \
		raise_exception(cpu, EXC_DE); \
	divide(cpu, (uint64_t)(dividend / divisor), (uint64_t)(dividend % divisor), B / 8); \
}
DIVIDE(16)
DIVIDE(32)

/* The quotient must fit: then the host's DIV cannot trap. */
static inline uint64_t divide_128(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *remainder)
{
	__asm__("divq %2" : "+a"(low), "+d"(high) : "r"(divisor) : "cc");
	*remainder = high;
	return low;
}

static void div_wide64(struct cpu *cpu, uint64_t b)
{
	uint64_t quotient, remainder;
	if (cpu->r[RDX] >= b)
		raise_exception(cpu, EXC_DE);
	quotient = divide_128(cpu->r[RDX], cpu->r[RAX], b, &remainder);
	divide(cpu, quotient, remainder, 8);
}

/* By magnitudes: the remainder takes the dividend's sign, the quotient is
 * negative when the signs differ and may then be 2^63. */
static void idiv_wide64(struct cpu *cpu, uint64_t b)
{
	__uint128_t dividend = (__uint128_t)cpu->r[RDX] << 64 | cpu->r[RAX];
	bool dividend_negative = (int64_t)cpu->r[RDX] < 0, divisor_negative = (int64_t)b < 0;
	bool negative = dividend_negative != divisor_negative;
	uint64_t divisor = divisor_negative ? 0 - b : b, quotient, remainder;

	if (dividend_negative)
		dividend = 0 - dividend;
	if ((uint64_t)(dividend >> 64) >= divisor)
		raise_exception(cpu, EXC_DE);
	quotient = divide_128((uint64_t)(dividend >> 64), (uint64_t)dividend, divisor, &remainder);
	if (quotient > (uint64_t)INT64_MAX + negative)
		raise_exception(cpu, EXC_DE);
	divide(cpu, negative ? 0 - quotient : quotient, dividend_negative ? 0 - remainder : remainder, 8);
}

#define FORMS1(op, B) \
FN(op##_r##B) { op##_wide##B(cpu, reg_get##B(cpu, i, 0)); } \
FN(op##_m##B) { op##_wide##B(cpu, mem_get##B(cpu, i)); }
#define FORMS_OF(op) \
FORMS1(op, 8) FORMS1(op, 16) FORMS1(op, 32) FORMS1(op, 64) \
static form_table op##_table = { \
	[FORM_R] = FOUR(op##_r), [FORM_M] = FOUR(op##_m), [FORM_P] = FOUR(op##_m) };

FORMS_OF(mul)
FORMS_OF(imul)
FORMS_OF(div)
FORMS_OF(idiv)

bool bind_mul(const struct decoded *d, struct insn *out) { return insn_choose(d, out, mul_table); }
bool bind_div(const struct decoded *d, struct insn *out) { return insn_choose(d, out, div_table); }
bool bind_idiv(const struct decoded *d, struct insn *out) { return insn_choose(d, out, idiv_table); }

/* --- IMUL with two and three operands --- */

#define IMUL(B) \
static inline uint##B##_t imul##B(struct cpu *cpu, uint##B##_t a, uint##B##_t b) \
{ \
	uint16_t f; \
	__asm__("imul" SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE : "+r"(a), "=&a"(f) : "r"(b) : "cc"); \
	cpu->arith = f; \
	return a; \
} \
FN(imul_rr##B) { reg_set##B(cpu, i, 0, imul##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1))); } \
FN(imul_rm##B) \
{ \
	uint##B##_t b = mem_get##B(cpu, i); \
	reg_set##B(cpu, i, 0, imul##B(cpu, reg_get##B(cpu, i, 0), b)); \
} \
FN(imul_rri##B) { reg_set##B(cpu, i, 0, imul##B(cpu, reg_get##B(cpu, i, 1), (uint##B##_t)i->imm)); } \
FN(imul_rmi##B) { reg_set##B(cpu, i, 0, imul##B(cpu, mem_get##B(cpu, i), (uint##B##_t)i->imm)); }
FOR_WIDE(IMUL)

bool bind_imul(const struct decoded *d, struct insn *out)
{
	static form_table two = {
		[FORM_RR] = THREE(imul_rr), [FORM_RM] = THREE(imul_rm), [FORM_RP] = THREE(imul_rm),
	};
	static form_table three = {
		[FORM_RR] = THREE(imul_rri), [FORM_RM] = THREE(imul_rmi), [FORM_RP] = THREE(imul_rmi),
	};
	switch (d->zi.operand_count_visible) {
	case 1: return insn_choose(d, out, imul_table);
	case 2: return insn_choose(d, out, two);
	default: return insn_choose(d, out, three);
	}
}

/* --- decimal adjustment (not in 64-bit mode) --- */

/* SF, ZF, PF of AL, CF and AF as given, OF clear. */
static void decimal_flags(struct cpu *cpu, bool carry, bool adjust)
{
	uint8_t al = *accumulator_byte(cpu, AL);
	cpu->arith = (uint16_t)(ARITH_FIXED | (al & 0x80 ? ARITH_SF : 0) | (al == 0 ? ARITH_ZF : 0) |
		(__builtin_parity(al) ? 0 : ARITH_PF) | (adjust ? ARITH_AF : 0) |
		(carry ? ARITH_CF : 0));
}

void do_daa(struct cpu *cpu, const struct insn *i)
{
	uint8_t *al = accumulator_byte(cpu, AL), old = *al;
	bool carry = cpu->arith & ARITH_CF, adjust = (old & 0xf) > 9 || cpu->arith & ARITH_AF;

	if (adjust)
		*al += 6;
	carry = carry || old > 0x99;
	if (carry)
		*al += 0x60;
	decimal_flags(cpu, carry, adjust);
}

void do_das(struct cpu *cpu, const struct insn *i)
{
	uint8_t *al = accumulator_byte(cpu, AL), old = *al;
	bool old_carry = cpu->arith & ARITH_CF, carry = false;
	bool adjust = (old & 0xf) > 9 || cpu->arith & ARITH_AF;

	if (adjust) {
		carry = old_carry || old < 6;
		*al -= 6;
	}
	if (old > 0x99 || old_carry) {
		*al -= 0x60;
		carry = true;
	}
	decimal_flags(cpu, carry, adjust);
}

static void ascii_adjust(struct cpu *cpu, int by)
{
	uint16_t ax = (uint16_t)cpu->r[RAX];
	bool adjust = (ax & 0xf) > 9 || cpu->arith & ARITH_AF;

	if (adjust)
		ax = (uint16_t)(ax + by);
	gpr_set(cpu, RAX, ax & 0xff0f, 2);
	decimal_flags(cpu, adjust, adjust);
}

void do_aaa(struct cpu *cpu, const struct insn *i) { ascii_adjust(cpu, 0x106); }
void do_aas(struct cpu *cpu, const struct insn *i) { ascii_adjust(cpu, -0x106); }

void do_aam(struct cpu *cpu, const struct insn *i)
{
	uint8_t al = *accumulator_byte(cpu, AL), base = (uint8_t)i->imm;
	if (base == 0)
		raise_exception(cpu, EXC_DE);
	*accumulator_byte(cpu, AH) = al / base;
	*accumulator_byte(cpu, AL) = al % base;
	decimal_flags(cpu, false, false);
}

void do_aad(struct cpu *cpu, const struct insn *i)
{
	uint8_t al = *accumulator_byte(cpu, AL), ah = *accumulator_byte(cpu, AH);
	gpr_set(cpu, RAX, (uint8_t)(al + ah * (uint8_t)i->imm), 2);
	decimal_flags(cpu, false, false);
}
