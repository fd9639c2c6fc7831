/* Bit tests and scans, counts, CRC32, BMI1, BMI2, ADX.
 *
 * The bit string of BT, BTS, BTR and BTC in memory with the offset in a
 * register reaches beyond the operand: the offset is signed and selects the
 * word (SDM vol. 2, "BT" and "Bit(BitBase, BitOffset)"). */
#include "soft/integer.h"
#include "soft/operand.h"

/* --- BT family --- */

/* The host changes CF only (the SDM leaves OF, SF, AF, PF undefined). */
#define BIT_TEST(B) \
static inline void bt##B(struct cpu *cpu, uint##B##_t a, uint##B##_t bit) \
{ \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT "bt" SUFFIX(B) " %2, %1\n\t" FLAGS_TAKE \
		: "+a"(f) : "r"(a), "r"(bit) : "cc"); \
	cpu->arith = f; \
}
FOR_WIDE(BIT_TEST)

#define BIT_CHANGE(op, B) \
static inline uint##B##_t op##B(struct cpu *cpu, uint##B##_t a, uint##B##_t bit) \
{ \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+r"(a), "+a"(f) : "r"(bit) : "cc"); \
	cpu->arith = f; \
	return a; \
} \
/* bit < B, or the host would look elsewhere */ \
static inline void op##_locked##B(struct cpu *cpu, volatile guest_uint##B##_t *p, uint##B##_t bit) \
{ \
	uint16_t f = cpu->arith; \
	__asm__ volatile(FLAGS_PUT "lock; " #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "+a"(f) : "r"(bit) : "cc", "memory"); \
	cpu->arith = f; \
}

/* Linear address of the word that holds the bit. */
static uint64_t bit_linear(struct cpu *cpu, const struct insn *i, int64_t bit, unsigned width, bool write)
{
	uint64_t offset = insn_offset(cpu, i) + (uint64_t)((bit & -(int64_t)width) / 8);
	return logical_to_linear(cpu, i->seg, bits_trim(offset, i->address_size), width / 8, write);
}

#define BIT_TEST_FORMS(B) \
FN(bt_rr##B) { bt##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1)); } \
FN(bt_ri##B) { bt##B(cpu, reg_get##B(cpu, i, 0), (uint##B##_t)i->imm); } \
FN(bt_mi##B) { bt##B(cpu, mem_get##B(cpu, i), (uint##B##_t)i->imm); } \
FN(bt_mr##B) \
{ \
	uint##B##_t bit = reg_get##B(cpu, i, 1); \
	uint64_t linear = bit_linear(cpu, i, (int##B##_t)bit, B, false); \
	bt##B(cpu, (uint##B##_t)linear_read(cpu, linear, B / 8), bit); \
}
FOR_WIDE(BIT_TEST_FORMS)

#define BIT_CHANGE_FORMS(op, B) \
FN(op##_rr##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), reg_get##B(cpu, i, 1))); } \
FN(op##_ri##B) { reg_set##B(cpu, i, 0, op##B(cpu, reg_get##B(cpu, i, 0), (uint##B##_t)i->imm)); } \
FN(op##_mi##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	*p = op##B(cpu, *p, (uint##B##_t)i->imm); \
	linear_commit(cpu); \
} \
FN(op##_li##B) \
{ \
	op##_locked##B(cpu, mem_pointer(cpu, i, B / 8), i->imm & (B - 1)); \
	linear_commit(cpu); \
} \
static inline volatile guest_uint##B##_t *op##_word##B(struct cpu *cpu, const struct insn *i) \
{ \
	int64_t bit = (int##B##_t)reg_get##B(cpu, i, 1); \
	return linear_write_pointer(cpu, bit_linear(cpu, i, bit, B, true), B / 8); \
} \
FN(op##_mr##B) \
{ \
	volatile guest_uint##B##_t *p = op##_word##B(cpu, i); \
	*p = op##B(cpu, *p, reg_get##B(cpu, i, 1)); \
	linear_commit(cpu); \
} \
FN(op##_lr##B) \
{ \
	volatile guest_uint##B##_t *p = op##_word##B(cpu, i); \
	op##_locked##B(cpu, p, reg_get##B(cpu, i, 1) & (B - 1)); \
	linear_commit(cpu); \
}

#define BIT_CHANGE_ALL(op) \
BIT_CHANGE(op, 16) BIT_CHANGE(op, 32) BIT_CHANGE(op, 64) \
BIT_CHANGE_FORMS(op, 16) BIT_CHANGE_FORMS(op, 32) BIT_CHANGE_FORMS(op, 64) \
bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static form_table table = { \
		[FORM_RR] = THREE(op##_rr), [FORM_RI] = THREE(op##_ri), \
		[FORM_MR] = THREE(op##_mr), [FORM_PR] = THREE(op##_mr), [FORM_LR] = THREE(op##_lr), \
		[FORM_MI] = THREE(op##_mi), [FORM_PI] = THREE(op##_mi), [FORM_LI] = THREE(op##_li), \
	}; \
	return insn_choose(d, out, table); \
}
BIT_CHANGE_ALL(bts)
BIT_CHANGE_ALL(btr)
BIT_CHANGE_ALL(btc)

bool bind_bt(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = THREE(bt_rr), [FORM_RI] = THREE(bt_ri),
		[FORM_MR] = THREE(bt_mr), [FORM_PR] = THREE(bt_mr),
		[FORM_MI] = THREE(bt_mi), [FORM_PI] = THREE(bt_mi),
	};
	return insn_choose(d, out, table);
}

/* --- destination = op(source): scans and counts --- */

#define LETTER_16 "w"
#define LETTER_32 "k"
#define LETTER_64 "q"
#define LETTER(B) LETTER_##B

/* The destination goes through the host whole: BSF and BSR of zero leave it as
 * the host leaves it. */
#define SCAN(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	uint64_t destination = *(uint64_t *)reg_at(cpu, i, 0); \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %2, %" LETTER(B) "0\n\t" FLAGS_TAKE \
		: "+r"(destination), "+a"(f) : "r"(source) : "cc"); \
	cpu->arith = f; \
	*(uint64_t *)reg_at(cpu, i, 0) = destination; \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }

#define SCAN_ALL(op) \
SCAN(op, 16) SCAN(op, 32) SCAN(op, 64) \
bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static form_table table = { \
		[FORM_RR] = THREE(op##_rr), [FORM_RM] = THREE(op##_rm), [FORM_RP] = THREE(op##_rm), \
	}; \
	return insn_choose(d, out, table); \
}
SCAN_ALL(bsf)
SCAN_ALL(bsr)
SCAN_ALL(popcnt)
SCAN_ALL(lzcnt)
SCAN_ALL(tzcnt)

/* ADCX uses and sets CF alone, ADOX OF alone. */
#define ADX(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	uint##B##_t destination = reg_get##B(cpu, i, 0); \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "+r"(destination), "+a"(f) : "r"(source) : "cc"); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 0, destination); \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }

#define ADX_ALL(op) \
ADX(op, 32) ADX(op, 64) \
bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static form_table table = { \
		[FORM_RR] = TWO(op##_rr), [FORM_RM] = TWO(op##_rm), [FORM_RP] = TWO(op##_rm), \
	}; \
	return insn_choose(d, out, table); \
}
ADX_ALL(adcx)
ADX_ALL(adox)

/* --- CRC32: by the source's width; the destination zero-extends --- */

/* A wider CRC32 is its bytes' one after the other, lowest first. */
static inline void crc32_of(struct cpu *cpu, const struct insn *i, uint64_t source, unsigned bytes)
{
	uint32_t crc = *(uint32_t *)reg_at(cpu, i, 0);
	for (; bytes; bytes--, source >>= 8)
		__asm__("crc32b %b1, %0" : "+r"(crc) : "r"(source));
	*(uint64_t *)reg_at(cpu, i, 0) = crc;
}

#define CRC32(B) \
FN(crc32_rr##B) { crc32_of(cpu, i, reg_get##B(cpu, i, 1), B / 8); } \
FN(crc32_rm##B) { crc32_of(cpu, i, mem_get##B(cpu, i), B / 8); }
FOR_WIDTHS(CRC32)

bool bind_crc32(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = FOUR(crc32_rr), [FORM_RM] = FOUR(crc32_rm), [FORM_RP] = FOUR(crc32_rm),
	};
	return insn_choose_size(out, table, d->op[1].size / 8);
}

/* --- VEX-encoded, 32 and 64 bits --- */

/* One operand beside the destination (BLSI, BLSMSK, BLSR). */
#define VEX_UNARY(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	uint##B##_t destination; \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %2, %0\n\t" FLAGS_TAKE \
		: "=&r"(destination), "+a"(f) : "r"(source) : "cc"); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 0, destination); \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }

/* Operand 2 in the middle of the host's operand order, operand 1 (r/m) last:
 * BEXTR, BZHI, SHLX, SHRX, SARX write "op count, source, destination". */
#define VEX_BY_REGISTER(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	uint##B##_t destination; \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %3, %2, %0\n\t" FLAGS_TAKE \
		: "=&r"(destination), "+a"(f) : "r"(source), "r"(reg_get##B(cpu, i, 2)) : "cc"); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 0, destination); \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }

/* r/m is operand 2: ANDN, PDEP, PEXT. */
#define VEX_BINARY(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	uint##B##_t destination; \
	uint16_t f = cpu->arith; \
	__asm__(FLAGS_PUT #op SUFFIX(B) " %3, %2, %0\n\t" FLAGS_TAKE \
		: "=&r"(destination), "+a"(f) : "r"(reg_get##B(cpu, i, 1)), "r"(source) : "cc"); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 0, destination); \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 2)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }

/* Operand `rm` is a register or memory. */
static bool choose_vex(const struct decoded *d, struct insn *out, unsigned rm,
		       insn_fn *const by_register[2], insn_fn *const by_memory[2])
{
	bool wide = d->op[0].size == 64;
	if (out->flags & INSN_LOCK)
		return false;
	out->fn = out->kind[rm] == OPERAND_MEM ? by_memory[wide] : by_register[wide];
	return true;
}

#define VEX_ALL(M, op, rm) \
M(op, 32) M(op, 64) \
bool bind_##op(const struct decoded *d, struct insn *out) \
{ \
	static insn_fn *const by_register[2] = { op##_rr32, op##_rr64 }; \
	static insn_fn *const by_memory[2] = { op##_rm32, op##_rm64 }; \
	return choose_vex(d, out, rm, by_register, by_memory); \
}
VEX_ALL(VEX_UNARY, blsi, 1)
VEX_ALL(VEX_UNARY, blsmsk, 1)
VEX_ALL(VEX_UNARY, blsr, 1)
VEX_ALL(VEX_BY_REGISTER, bextr, 1)
VEX_ALL(VEX_BY_REGISTER, bzhi, 1)
VEX_ALL(VEX_BY_REGISTER, shlx, 1)
VEX_ALL(VEX_BY_REGISTER, shrx, 1)
VEX_ALL(VEX_BY_REGISTER, sarx, 1)
VEX_ALL(VEX_BINARY, andn, 2)
VEX_ALL(VEX_BINARY, pdep, 2)
VEX_ALL(VEX_BINARY, pext, 2)

#define RORX(op, B) \
static inline void op##_to##B(struct cpu *cpu, const struct insn *i, uint##B##_t source) \
{ \
	unsigned count = (unsigned)i->imm & (B - 1); \
	reg_set##B(cpu, i, 0, source >> count | source << (-count & (B - 1))); \
} \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 1)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }
VEX_ALL(RORX, rorx, 1)

/* MULX: high half to operand 0, low half to operand 1; the high half wins when
 * they are the same register. */
static inline void mulx_to32(struct cpu *cpu, const struct insn *i, uint32_t source)
{
	uint64_t product = (uint64_t)(uint32_t)cpu->r[RDX] * source;
	reg_set32(cpu, i, 1, (uint32_t)product);
	reg_set32(cpu, i, 0, (uint32_t)(product >> 32));
}

static inline void mulx_to64(struct cpu *cpu, const struct insn *i, uint64_t source)
{
	__uint128_t product = (__uint128_t)cpu->r[RDX] * source;
	reg_set64(cpu, i, 1, (uint64_t)product);
	reg_set64(cpu, i, 0, (uint64_t)(product >> 64));
}

#define MULX(op, B) \
FN(op##_rr##B) { op##_to##B(cpu, i, reg_get##B(cpu, i, 2)); } \
FN(op##_rm##B) { op##_to##B(cpu, i, mem_get##B(cpu, i)); }
VEX_ALL(MULX, mulx, 2)
