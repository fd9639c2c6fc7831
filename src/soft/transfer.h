/* Far transfers, for the rules of mnemonics that have near forms too. */
#ifndef NESTOR_SOFT_TRANSFER_H
#define NESTOR_SOFT_TRANSFER_H

#include "soft/operand.h"

/* insn_rule.bind for JMP, CALL and RET to another segment. */
bool bind_jmp_far(const struct decoded *d, struct insn *out);
bool bind_call_far(const struct decoded *d, struct insn *out);
bool bind_ret_far(const struct decoded *d, struct insn *out);

static inline bool decoded_far(const struct decoded *d)
{
	return d->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/* far_return.c, fast_call.c */
insn_fn do_iret, do_syscall, do_sysret, do_sysenter, do_sysexit;

/* A code segment that a far transfer leads to. */
struct code_target {
	uint16_t selector;	/* RPL is the new CPL */
	struct descriptor descriptor;
};

/* Is the descriptor a code segment that may be executed in the current paging
 * mode (not both L and D in IA-32e mode)? */
bool descriptor_is_code(const struct cpu *cpu, const struct descriptor *d);
unsigned descriptor_dpl(const struct descriptor *d);
/* #GP(0) unless offset is inside the segment, or canonical when it is 64-bit code. */
void code_offset_check(struct cpu *cpu, const struct descriptor *code, uint64_t offset);
/* Load CS and RIP: nothing faults any more. CPL becomes the selector's RPL. */
void code_enter(struct cpu *cpu, const struct code_target *t, uint64_t offset);

enum {
	SELECTOR_RPL = 3, SELECTOR_TI = 4,
	TYPE_ACCESSED = 1, TYPE_WRITABLE = 2, TYPE_CONFORMING = 4, TYPE_EXPAND_DOWN = 4, TYPE_CODE = 8,
	/* system descriptors */
	TYPE_TSS16 = 1, TYPE_BUSY = 2, TYPE_CALL_GATE16 = 4, TYPE_TASK_GATE = 5, TYPE_TSS = 9,
	TYPE_CALL_GATE = 12,
};

static inline uint32_t selector_error(uint16_t selector)
{
	return selector & ~(uint32_t)SELECTOR_RPL;
}

static inline bool selector_null(uint16_t selector)
{
	return !selector_error(selector);
}

/* --- near transfers: shared by branch.c and transfer.c --- */

static inline void branch_64(struct cpu *cpu, uint64_t target)
{
	if (unlikely(!linear_canonical(target)))
		raise_gp(cpu, 0);
	cpu->r[REG_RIP] = target;
}

/* 16- and 32-bit code: IP is cut to the operand size and must be inside CS. */
static inline uint64_t branch_check(struct cpu *cpu, uint64_t target, unsigned size)
{
	target = bits_trim(target, size);
	if (unlikely(target > cpu->seg[SEG_CS].limit))
		raise_gp(cpu, 0);
	return target;
}

/* The 64-bit stack, inline. RSP moves only after the access. */
static inline void push_64(struct cpu *cpu, uint64_t value)
{
	uint64_t sp = cpu->r[RSP] - 8;
	struct tlb_entry *e = tlb_entry_for(cpu, sp);
	if (likely(e->write == ((sp + 7) & ~PAGE_OFFSET_MASK)))
		*(volatile guest_uint64_t *)(sp + e->addend) = value;
	else
		linear_write(cpu, logical_to_linear(cpu, SEG_SS, sp, 8, true), value, 8);
	cpu->r[RSP] = sp;
}

static inline uint64_t peek_64(struct cpu *cpu)
{
	uint64_t sp = cpu->r[RSP];
	struct tlb_entry *e = tlb_entry_for(cpu, sp);
	if (likely(e->read == ((sp + 7) & ~PAGE_OFFSET_MASK)))
		return *(volatile guest_uint64_t *)(sp + e->addend);
	return linear_read(cpu, logical_to_linear(cpu, SEG_SS, sp, 8, false), 8);
}

#endif
