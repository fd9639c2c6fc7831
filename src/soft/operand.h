/* Operands of integer instructions: registers by byte offset, memory through
 * the TLB, and the forms (register, immediate, memory) for which each operation
 * has a function of its own.
 *
 * A function is named operation_form + width in bits: add_rm32 is ADD r32, m32.
 * FORM_RP and its like are the same instruction with an address that needs no
 * segment (plain_ea): one TLB probe, and on a miss the general way. */
#ifndef NESTOR_SOFT_OPERAND_H
#define NESTOR_SOFT_OPERAND_H

#include "soft/access.h"
#include "soft/flags.h"

enum form {
	FORM_RR, FORM_RI,
	FORM_RM, FORM_RP,	/* memory source; plain_ea */
	FORM_MR, FORM_PR, FORM_LR,	/* memory destination; plain_ea; LOCK */
	FORM_MI, FORM_PI, FORM_LI,
	FORM_R, FORM_M, FORM_P, FORM_L,	/* one operand */
	FORMS
};

typedef insn_fn *const form_table[FORMS][4];

/* The form of a decoded instruction, by its first two visible operands. */
enum form insn_form(const struct insn *i);
/* Set fn from the table by form and size of the first operand; false when the
 * instruction has no such form (LOCK with a register destination, too). */
bool insn_choose(const struct decoded *d, struct insn *out, form_table table);
/* The same with the size given in bytes. */
bool insn_choose_size(struct insn *out, form_table table, unsigned size);
/* Take segment and address size from the memory operand nr `n` even when it is
 * not a visible one; false when that is no memory operand. */
bool insn_hidden_memory(const struct decoded *d, unsigned n, struct insn *out);

#define FN(name) static void name(struct cpu *cpu, const struct insn *i)
#define FOUR(name) { name##8, name##16, name##32, name##64 }
#define THREE(name) { NULL, name##16, name##32, name##64 }
#define TWO(name) { NULL, NULL, name##32, name##64 }
#define FOR_WIDTHS(M) M(8) M(16) M(32) M(64)
#define FOR_WIDE(M) M(16) M(32) M(64)
/* AT&T operand-size letters. */
#define SUFFIX_8 "b"
#define SUFFIX_16 "w"
#define SUFFIX_32 "l"
#define SUFFIX_64 "q"
#define SUFFIX(B) SUFFIX_##B

static inline void *reg_at(struct cpu *cpu, const struct insn *i, unsigned n)
{
	return (char *)cpu->r + i->reg[n];
}

#define REG_ACCESS(B) \
static inline uint##B##_t reg_get##B(struct cpu *cpu, const struct insn *i, unsigned n) \
{ \
	return *(uint##B##_t *)reg_at(cpu, i, n); \
}
FOR_WIDTHS(REG_ACCESS)
#undef REG_ACCESS

static inline void reg_set8(struct cpu *cpu, const struct insn *i, unsigned n, uint8_t v)
{
	*(uint8_t *)reg_at(cpu, i, n) = v;
}

static inline void reg_set16(struct cpu *cpu, const struct insn *i, unsigned n, uint16_t v)
{
	*(uint16_t *)reg_at(cpu, i, n) = v;
}

static inline void reg_set32(struct cpu *cpu, const struct insn *i, unsigned n, uint32_t v)
{
	*(uint64_t *)reg_at(cpu, i, n) = v;
}

static inline void reg_set64(struct cpu *cpu, const struct insn *i, unsigned n, uint64_t v)
{
	*(uint64_t *)reg_at(cpu, i, n) = v;
}

/* Write a register by number, as an instruction of that operand size does. */
static inline void gpr_set(struct cpu *cpu, unsigned n, uint64_t v, unsigned size)
{
	switch (size) {
	case 1: *(uint8_t *)&cpu->r[n] = (uint8_t)v; break;
	case 2: *(uint16_t *)&cpu->r[n] = (uint16_t)v; break;
	case 4: cpu->r[n] = (uint32_t)v; break;
	default: cpu->r[n] = v; break;
	}
}

static inline uint64_t plain_linear(const struct cpu *cpu, const struct insn *i)
{
	return cpu->r[i->base] + (cpu->r[i->index] << i->scale) + (uint64_t)i->disp;
}

/* Read the memory operand; or a pointer at which it can be changed (then
 * linear_commit). Any address form. */
uint8_t mem_get8(struct cpu *cpu, const struct insn *i);
uint16_t mem_get16(struct cpu *cpu, const struct insn *i);
uint32_t mem_get32(struct cpu *cpu, const struct insn *i);
uint64_t mem_get64(struct cpu *cpu, const struct insn *i);
void mem_set8(struct cpu *cpu, const struct insn *i, uint8_t v);
void mem_set16(struct cpu *cpu, const struct insn *i, uint16_t v);
void mem_set32(struct cpu *cpu, const struct insn *i, uint32_t v);
void mem_set64(struct cpu *cpu, const struct insn *i, uint64_t v);
void *mem_pointer(struct cpu *cpu, const struct insn *i, unsigned size);

/* The same for plain_ea. */
#define PLAIN_ACCESS(B) \
static inline uint##B##_t plain_get##B(struct cpu *cpu, const struct insn *i) \
{ \
	uint64_t linear = plain_linear(cpu, i); \
	struct tlb_entry *e = tlb_entry_for(cpu, linear); \
	if (likely(e->read == ((linear + (B / 8 - 1)) & ~PAGE_OFFSET_MASK))) \
		return *(volatile guest_uint##B##_t *)(linear + e->addend); \
	return mem_get##B(cpu, i); \
} \
static inline void plain_set##B(struct cpu *cpu, const struct insn *i, uint##B##_t v) \
{ \
	uint64_t linear = plain_linear(cpu, i); \
	struct tlb_entry *e = tlb_entry_for(cpu, linear); \
	if (likely(e->write == ((linear + (B / 8 - 1)) & ~PAGE_OFFSET_MASK))) \
		*(volatile guest_uint##B##_t *)(linear + e->addend) = v; \
	else \
		mem_set##B(cpu, i, v); \
}
FOR_WIDTHS(PLAIN_ACCESS)
#undef PLAIN_ACCESS

static inline void *plain_pointer(struct cpu *cpu, const struct insn *i, unsigned size)
{
	uint64_t linear = plain_linear(cpu, i);
	struct tlb_entry *e = tlb_entry_for(cpu, linear);
	if (likely(e->write == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
		return (void *)(linear + e->addend);
	return mem_pointer(cpu, i, size);
}

/* --- the host's flags ---
 * All arithmetic runs on the host, so its flags are taken, not computed. */

/* After the operation: arithmetic flags into AX. */
#define FLAGS_TAKE "lahf\n\tseto %%al\n\t"
/* Before it: arithmetic flags from AX (OF: 0 + 127 does not overflow, 1 + 127
 * does; SAHF leaves OF alone). */
#define FLAGS_PUT "addb $127, %%al\n\tsahf\n\t"
/* Before it: CF only, from the arith value in operand `n`. */
#define CARRY_PUT(n) "btl $8, %k" #n "\n\t"

/* Conditions as a test of bits: bit 1 of the extended value is SF != OF. */
static inline bool condition(uint16_t arith, unsigned code)
{
	static const uint16_t mask[8] = {
		ARITH_OF, ARITH_CF, ARITH_ZF, ARITH_CF | ARITH_ZF,
		ARITH_SF, ARITH_PF, 2, 2 | ARITH_ZF,
	};
	unsigned extended = arith | ((arith >> 15 ^ arith) & 1) << 1;
	return ((extended & mask[code >> 1 & 7]) != 0) != (code & 1);
}

static inline void arith_set(struct cpu *cpu, uint16_t bit, bool on)
{
	cpu->arith = (uint16_t)(on ? cpu->arith | bit : cpu->arith & ~bit);
}

#endif
