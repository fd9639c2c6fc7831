/* Far transfers, for the rules of mnemonics that have near forms too. */
#ifndef NESTOR_SOFT_TRANSFER_H
#define NESTOR_SOFT_TRANSFER_H

#include "soft/operand.h"

bool bind_jmp_far(const struct decoded *d, struct insn *out);
bool bind_call_far(const struct decoded *d, struct insn *out);
bool bind_ret_far(const struct decoded *d, struct insn *out);

static inline bool decoded_far(const struct decoded *d)
{
	return d->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/* What follows a change of RFLAGS by POPF, IRET, SYSRET: the data class when AC
 * changed, pending interrupts when IF is set now. `old` is RFLAGS before. */
void flags_changed(struct cpu *cpu, uint64_t old);

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
		*(volatile uint64_t *)(sp + e->addend) = value;
	else
		linear_write(cpu, logical_to_linear(cpu, SEG_SS, sp, 8, true), value, 8);
	cpu->r[RSP] = sp;
}

static inline uint64_t peek_64(struct cpu *cpu)
{
	uint64_t sp = cpu->r[RSP];
	struct tlb_entry *e = tlb_entry_for(cpu, sp);
	if (likely(e->read == ((sp + 7) & ~PAGE_OFFSET_MASK)))
		return *(volatile uint64_t *)(sp + e->addend);
	return linear_read(cpu, logical_to_linear(cpu, SEG_SS, sp, 8, false), 8);
}

#endif
