/* XCHG, XADD, CMPXCHG: reads and writes of both operands at once.
 *
 * XCHG with memory locks by itself; CMPXCHG and its wide forms on memory always
 * write, so their faults are write faults. CMPXCHG8B and CMPXCHG16B are made
 * with the host's LOCK in every form: nothing can tell. */
#include "soft/integer.h"
#include "soft/operand.h"

#define XCHG(B) \
FN(xchg_rr##B) \
{ \
	uint##B##_t a = reg_get##B(cpu, i, 0), b = reg_get##B(cpu, i, 1); \
	reg_set##B(cpu, i, 0, b); \
	reg_set##B(cpu, i, 1, a); \
} \
static inline void xchg_memory##B(struct cpu *cpu, const struct insn *i, unsigned n) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	uint##B##_t v = reg_get##B(cpu, i, n); \
	__asm__ volatile("xchg" SUFFIX(B) " %0, %1" : "+r"(v), "+m"(*p) : : "memory"); \
	linear_commit(cpu); \
	reg_set##B(cpu, i, n, v); \
} \
FN(xchg_mr##B) { xchg_memory##B(cpu, i, 1); } \
FN(xchg_rm##B) { xchg_memory##B(cpu, i, 0); }
FOR_WIDTHS(XCHG)

bool bind_xchg(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = FOUR(xchg_rr), [FORM_RM] = FOUR(xchg_rm), [FORM_RP] = FOUR(xchg_rm),
		[FORM_MR] = FOUR(xchg_mr), [FORM_PR] = FOUR(xchg_mr), [FORM_LR] = FOUR(xchg_mr),
	};
	return insn_choose(d, out, table);
}

#define XADD(B) \
FN(xadd_rr##B) \
{ \
	uint##B##_t a = reg_get##B(cpu, i, 0), b = reg_get##B(cpu, i, 1); \
	uint16_t f; \
	__asm__("xadd" SUFFIX(B) " %1, %0\n\t" FLAGS_TAKE : "+r"(a), "+r"(b), "=&a"(f) : : "cc"); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 1, b); \
	reg_set##B(cpu, i, 0, a); \
} \
FN(xadd_mr##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	uint##B##_t b = reg_get##B(cpu, i, 1); \
	uint16_t f; \
	__asm__ volatile("xadd" SUFFIX(B) " %1, %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "+r"(b), "=&a"(f) : : "cc", "memory"); \
	linear_commit(cpu); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 1, b); \
} \
FN(xadd_lr##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	uint##B##_t b = reg_get##B(cpu, i, 1); \
	uint16_t f; \
	__asm__ volatile("lock; xadd" SUFFIX(B) " %1, %0\n\t" FLAGS_TAKE \
		: "+m"(*p), "+r"(b), "=&a"(f) : : "cc", "memory"); \
	linear_commit(cpu); \
	cpu->arith = f; \
	reg_set##B(cpu, i, 1, b); \
}
FOR_WIDTHS(XADD)

bool bind_xadd(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = FOUR(xadd_rr), [FORM_MR] = FOUR(xadd_mr), [FORM_PR] = FOUR(xadd_mr),
		[FORM_LR] = FOUR(xadd_lr),
	};
	return insn_choose(d, out, table);
}

/* The accumulator goes in and out as 64 bits, so that what the host leaves of
 * its upper half (nothing changes there when the comparison succeeds) is what
 * the guest gets. */
#define CMPXCHG_MEMORY(name, lock, B) \
FN(name##B) \
{ \
	volatile guest_uint##B##_t *p = mem_pointer(cpu, i, B / 8); \
	uint##B##_t b = reg_get##B(cpu, i, 1); \
	uint64_t a = cpu->r[RAX]; \
	uint64_t f = a; \
	__asm__ volatile(lock "cmpxchg" SUFFIX(B) " %2, %0\n\t" \
		"movq %%rax, %1\n\t" FLAGS_TAKE \
		: "+m"(*p), "=&r"(a), "+r"(b), "+a"(f) : : "cc", "memory"); \
	linear_commit(cpu); \
	cpu->arith = (uint16_t)f; \
	cpu->r[RAX] = a; \
}

#define CMPXCHG(B) \
CMPXCHG_MEMORY(cmpxchg_mr, "", B) \
CMPXCHG_MEMORY(cmpxchg_lr, "lock; ", B)
FOR_WIDTHS(CMPXCHG)

#define CMPXCHG_REGISTER(B) \
FN(cmpxchg_rr##B) \
{ \
	uint##B##_t b = reg_get##B(cpu, i, 1); \
	uint64_t d = *(uint64_t *)reg_at(cpu, i, 0); \
	uint64_t a = cpu->r[RAX]; \
	uint64_t f = a; \
	bool to_accumulator = reg_at(cpu, i, 0) == (void *)&cpu->r[RAX]; \
	__asm__("cmpxchg" SUFFIX(B) " %2, %" LETTER(B) "0\n\t" \
		"movq %%rax, %1\n\t" FLAGS_TAKE \
		: "+r"(d), "=&r"(a), "+r"(b), "+a"(f) : : "cc"); \
	cpu->arith = (uint16_t)f; \
	if (!to_accumulator) \
		cpu->r[RAX] = a; \
	*(uint64_t *)reg_at(cpu, i, 0) = d; \
}
#define LETTER_16 "w"
#define LETTER_32 "k"
#define LETTER_64 "q"
#define LETTER(B) LETTER_##B
FOR_WIDE(CMPXCHG_REGISTER)

/* Bytes may be AH..BH, which no 64-bit register holds at its bottom. */
FN(cmpxchg_rr8)
{
	uint8_t destination = reg_get8(cpu, i, 0), source = reg_get8(cpu, i, 1);
	uint8_t accumulator = (uint8_t)cpu->r[RAX];
	uint16_t f;

	__asm__("cmpb %2, %1\n\t" FLAGS_TAKE : "=&a"(f) : "r"(accumulator), "r"(destination) : "cc");
	cpu->arith = f;
	if (accumulator == destination)
		reg_set8(cpu, i, 0, source);
	else
		gpr_set(cpu, RAX, destination, 1);
}

bool bind_cmpxchg(const struct decoded *d, struct insn *out)
{
	static form_table table = {
		[FORM_RR] = FOUR(cmpxchg_rr), [FORM_MR] = FOUR(cmpxchg_mr),
		[FORM_PR] = FOUR(cmpxchg_mr), [FORM_LR] = FOUR(cmpxchg_lr),
	};
	return insn_choose(d, out, table);
}

FN(cmpxchg8b)
{
	volatile guest_uint64_t *p = mem_pointer(cpu, i, 8);
	uint64_t expected = (uint32_t)cpu->r[RAX] | cpu->r[RDX] << 32;
	uint64_t desired = (uint32_t)cpu->r[RBX] | cpu->r[RCX] << 32;
	bool equal;

	__asm__ volatile("lock; cmpxchgq %3, %0"
		: "+m"(*p), "+a"(expected), "=@ccz"(equal) : "r"(desired) : "memory");
	linear_commit(cpu);
	arith_set(cpu, ARITH_ZF, equal);
	if (!equal) {
		cpu->r[RAX] = (uint32_t)expected;
		cpu->r[RDX] = expected >> 32;
	}
}

FN(cmpxchg16b)
{
	uint64_t offset = insn_offset(cpu, i);
	uint64_t linear = logical_to_linear(cpu, i->seg, offset, 16, true);
	volatile __uint128_t *p;
	bool equal;

	if (linear & 15)
		raise_gp(cpu, 0);
	p = linear_write_pointer(cpu, linear, 16);
	__asm__ volatile("lock; cmpxchg16b %0"
		: "+m"(*p), "+a"(cpu->r[RAX]), "+d"(cpu->r[RDX]), "=@ccz"(equal)
		: "b"(cpu->r[RBX]), "c"(cpu->r[RCX]) : "memory");
	linear_commit(cpu);
	arith_set(cpu, ARITH_ZF, equal);
}

bool bind_cmpxchg8b(const struct decoded *d, struct insn *out)
{
	out->fn = cmpxchg8b;
	return out->kind[0] == OPERAND_MEM;
}

bool bind_cmpxchg16b(const struct decoded *d, struct insn *out)
{
	out->fn = cmpxchg16b;
	return out->kind[0] == OPERAND_MEM;
}
