/* Operands of integer instructions: the general way, and the choice of form. */
#include "soft/operand.h"

/* FS and GS in 64-bit mode need only their base, as long as the TLB knows the
 * address (it never holds a non-canonical one). */
static inline uint64_t based_linear(struct cpu *cpu, const struct insn *i)
{
	return cpu->seg[i->seg].base + insn_offset(cpu, i);
}

static inline bool based(const struct cpu *cpu, const struct insn *i)
{
	return cpu->mode == MODE_64 && i->seg >= SEG_FS;
}

#define MEM_ACCESS(B) \
uint##B##_t mem_get##B(struct cpu *cpu, const struct insn *i) \
{ \
	if (based(cpu, i)) { \
		uint64_t linear = based_linear(cpu, i); \
		struct tlb_entry *e = tlb_entry_for(cpu, linear); \
		if (likely(e->read == ((linear + (B / 8 - 1)) & ~PAGE_OFFSET_MASK))) \
			return *(volatile guest_uint##B##_t *)(linear + e->addend); \
	} \
	return (uint##B##_t)linear_read(cpu, insn_linear(cpu, i, B / 8, false), B / 8); \
} \
void mem_set##B(struct cpu *cpu, const struct insn *i, uint##B##_t v) \
{ \
	if (based(cpu, i)) { \
		uint64_t linear = based_linear(cpu, i); \
		struct tlb_entry *e = tlb_entry_for(cpu, linear); \
		if (likely(e->write == ((linear + (B / 8 - 1)) & ~PAGE_OFFSET_MASK))) { \
			*(volatile guest_uint##B##_t *)(linear + e->addend) = v; \
			return; \
		} \
	} \
	linear_write(cpu, insn_linear(cpu, i, B / 8, true), v, B / 8); \
}
FOR_WIDTHS(MEM_ACCESS)

void *mem_pointer(struct cpu *cpu, const struct insn *i, unsigned size)
{
	if (based(cpu, i)) {
		uint64_t linear = based_linear(cpu, i);
		struct tlb_entry *e = tlb_entry_for(cpu, linear);
		if (likely(e->write == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
			return (void *)(linear + e->addend);
	}
	return linear_write_pointer(cpu, insn_linear(cpu, i, size, true), size);
}

enum form insn_form(const struct insn *i)
{
	bool lock = i->flags & INSN_LOCK;
	bool plain = i->plain_ea;

	switch (i->kind[0]) {
	case OPERAND_GPR:
		if (lock)
			return FORMS;
		switch (i->kind[1]) {
		case OPERAND_NONE: return FORM_R;
		case OPERAND_GPR: return FORM_RR;
		case OPERAND_IMM: return FORM_RI;
		case OPERAND_MEM: return plain ? FORM_RP : FORM_RM;
		default: return FORMS;
		}
	case OPERAND_MEM:
		switch (i->kind[1]) {
		case OPERAND_NONE: return lock ? FORM_L : plain ? FORM_P : FORM_M;
		case OPERAND_GPR: return lock ? FORM_LR : plain ? FORM_PR : FORM_MR;
		case OPERAND_IMM: return lock ? FORM_LI : plain ? FORM_PI : FORM_MI;
		default: return FORMS;
		}
	default:
		return FORMS;
	}
}

bool insn_choose_size(struct insn *out, form_table table, unsigned size)
{
	enum form form = insn_form(out);
	if (form == FORMS || (size != 1 && size != 2 && size != 4 && size != 8))
		return false;
	out->fn = table[form][__builtin_ctz(size)];
	return out->fn != NULL;
}

bool insn_choose(const struct decoded *d, struct insn *out, form_table table)
{
	return insn_choose_size(out, table, d->op[0].size / 8);
}

bool insn_hidden_memory(const struct decoded *d, unsigned n, struct insn *out)
{
	const ZydisDecodedOperand *op = &d->op[n];
	if (n >= d->zi.operand_count || op->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	out->seg = (uint8_t)(op->mem.segment - ZYDIS_REGISTER_ES);
	out->address_size = d->zi.address_width / 8;
	return out->seg <= SEG_GS;
}
