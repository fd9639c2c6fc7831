/* What system instructions share: operands of any kind, and the binding of
 * MOV's special forms. */
#ifndef NESTOR_SOFT_SYSTEM_H
#define NESTOR_SOFT_SYSTEM_H

#include "soft/access.h"

/* Operand n, whatever it is, as `size` bytes zero-extended. */
static inline uint64_t operand_read(struct cpu *cpu, const struct insn *i, unsigned n, unsigned size)
{
	switch (i->kind[n]) {
	case OPERAND_GPR:
		return load_le((const char *)cpu->r + i->reg[n], size);
	case OPERAND_MEM:
		return linear_read(cpu, insn_linear(cpu, i, size, false), size);
	default:
		return bits_trim(i->imm, size);
	}
}

static inline void operand_write(struct cpu *cpu, const struct insn *i, unsigned n, uint64_t value,
				 unsigned size)
{
	if (i->kind[n] == OPERAND_MEM)
		linear_write(cpu, insn_linear(cpu, i, size, true), value, size);
	else if (size == 4)	/* 32-bit results clear the upper half */
		store_le((char *)cpu->r + i->reg[n], (uint32_t)value, 8);
	else
		store_le((char *)cpu->r + i->reg[n], value, size);
}

/* MOV with a segment, control or debug register; the rule for MOV calls them
 * for those operands. */
bool segment_bind_mov(const struct decoded *d, struct insn *out);
bool system_bind_mov(const struct decoded *d, struct insn *out);

/* --- virtual-8086 mode with CR4.VME and IOPL below 3: IF is virtual (VIF) in
 * 16-bit PUSHF, POPF and IRET (SDM vol. 3, "Virtual-8086 Mode Extensions"). --- */
/* Is it so for an operand of this size? Raises #GP(0) where IOPL forbids it. */
bool vme_virtual_flags(struct cpu *cpu, unsigned size);
/* RFLAGS after POPF or IRET with that image. May raise #GP(0). */
uint64_t vme_flags_load(struct cpu *cpu, uint64_t image);

#endif
