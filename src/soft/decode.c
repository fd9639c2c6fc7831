/* Bytes to struct insn.
 *
 * Zydis decodes; what it found is condensed once into our own small struct and
 * bound to the function that executes it. The rule lists of insn.h say which
 * mnemonic is bound how; what no rule names, and what the rules' CPUID bits do
 * not advertise, raises #UD. A decoded instruction depends on its bytes and
 * the code mode only: everything that CPL, CR0 and so on decide is checked
 * when it executes. */
#include "soft/block.h"
#include "soft/thunk.h"

#include "base/log.h"

#include <pthread.h>

static ZydisDecoder decoder[CODE_MODES];
static const struct insn_rule *rule_of[ZYDIS_MNEMONIC_MAX_VALUE + 1];

static const struct insn_rules *const all_rules[] = {
	&integer_rules, &shift_rules, &string_rules, &stack_rules, &transfer_rules,
	&segment_rules, &system_rules, &io_rules, &thunk_rules, &xsave_rules, &vtx_rules,
};

static void decode_init(void)
{
	static const struct { ZydisMachineMode mode; ZydisStackWidth stack; } kind[CODE_MODES] = {
		[MODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[MODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[MODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};
	for (unsigned m = 0; m < CODE_MODES; m++) {
		if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoder[m], kind[m].mode, kind[m].stack)))
			panic("Zydis refuses a decoder for mode %u", m);
		/* Extensions this processor does not have: their encodings are
		 * the NOPs (or older instructions) that they were before. */
		ZydisDecoderEnableMode(&decoder[m], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoder[m], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoder[m], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoder[m], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
	}
	for (unsigned l = 0; l < ARRAY_SIZE(all_rules); l++)
		for (unsigned r = 0; r < all_rules[l]->count; r++) {
			const struct insn_rule *rule = &all_rules[l]->rule[r];
			if (rule_of[rule->mnemonic])
				panic("two rules for %s", ZydisMnemonicGetString(rule->mnemonic));
			rule_of[rule->mnemonic] = rule;
		}
}

static void op_undefined(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	raise_ud(cpu);
}

static void op_too_long(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	raise_gp(cpu, 0);
}

/* A GPR as byte offset into cpu->r; -1 when the register is none. */
static int gpr_offset(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return (reg - ZYDIS_REGISTER_AL) * 8;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (reg - ZYDIS_REGISTER_AH) * 8 + 1;
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (reg - ZYDIS_REGISTER_SPL + RSP) * 8;
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return (reg - ZYDIS_REGISTER_AX) * 8;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return (reg - ZYDIS_REGISTER_EAX) * 8;
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return (reg - ZYDIS_REGISTER_RAX) * 8;
	return -1;
}

static unsigned address_slot(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return REG_RIP;
	int offset = gpr_offset(reg);
	return offset < 0 ? REG_ZERO : (unsigned)offset / 8;
}

static unsigned segment_number(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS ?
		reg - ZYDIS_REGISTER_ES : SEG_DS;
}

static void condense_memory(const struct decoded *d, const ZydisDecodedOperand *op,
			    struct insn *out)
{
	static const uint8_t shift_of[9] = { [1] = 0, [2] = 1, [4] = 2, [8] = 3 };
	out->base = (uint8_t)address_slot(op->mem.base);
	out->index = (uint8_t)address_slot(op->mem.index);
	out->scale = shift_of[op->mem.scale & 15 ? op->mem.scale : 1];
	out->seg = (uint8_t)segment_number(op->mem.segment);
	out->disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
	/* In 64-bit mode ES, CS, SS and DS have base 0 and no limit. */
	out->plain_ea = d->mode == MODE_64 && d->zi.address_width == 64 && out->seg < SEG_FS;
}

static void condense(const struct decoded *d, struct insn *out)
{
	const ZydisDecodedInstruction *zi = &d->zi;
	out->len = zi->length;
	out->mnemonic = (uint16_t)zi->mnemonic;
	out->size = zi->operand_width / 8;
	out->address_size = zi->address_width / 8;
	out->base = out->index = REG_ZERO;
	out->seg = SEG_DS;
	out->condition = zi->opcode & 15;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		out->flags |= INSN_LOCK;
	if (zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		out->flags |= INSN_REP;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_REPNE)
		out->flags |= INSN_REPNE;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_SEGMENT)
		out->flags |= INSN_SEGMENT_OVERRIDE;
	for (unsigned n = 0; n < zi->operand_count && n < 4; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			break;	/* hidden ones come last */
		uint8_t kind = OPERAND_OTHER;
		switch (op->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER: {
			int offset = gpr_offset(op->reg.value);
			if (offset >= 0) {
				kind = OPERAND_GPR;
				out->reg[n] = (uint8_t)offset;
			} else
				out->reg[n] = (uint8_t)ZydisRegisterGetId(op->reg.value);
			break;
		}
		case ZYDIS_OPERAND_TYPE_MEMORY:
			kind = OPERAND_MEM;
			out->reg[n] = (uint8_t)(op->size / 8 > 255 ? 255 : op->size / 8);
			condense_memory(d, op, out);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			kind = OPERAND_IMM;
			out->imm = op->imm.is_signed ? (uint64_t)op->imm.value.s : op->imm.value.u;
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			out->imm = op->ptr.offset;
			out->imm2 = op->ptr.segment;
			break;
		default:
			break;
		}
		if (n < ARRAY_SIZE(out->kind))
			out->kind[n] = kind;
	}
}

bool decode_whole(const uint8_t *bytes, unsigned n, enum code_mode mode, struct decoded *d)
{
	d->mode = mode;
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder[mode], bytes, n, &d->zi, d->op));
}

bool decode_insn(const uint8_t *bytes, unsigned n, enum code_mode mode, struct insn *out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct decoded d = { .mode = mode };
	pthread_once(&once, decode_init);
	*out = (struct insn){ .fn = op_undefined, .flags = INSN_ENDS_BLOCK, .len = 1 };
	ZyanStatus status = ZydisDecoderDecodeFull(&decoder[mode], bytes, n, &d.zi, d.op);
	if (!ZYAN_SUCCESS(status)) {
		if (status == ZYDIS_STATUS_NO_MORE_DATA)
			out->len = 0;
		else if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
			out->fn = op_too_long;
		return false;
	}
	memcpy(d.bytes, bytes, d.zi.length);
	const struct insn_rule *rule = rule_of[d.zi.mnemonic];
	out->len = d.zi.length;
	if (!rule)
		return false;
	out->flags = 0;
	condense(&d, out);
	out->flags |= rule->flags;
	out->fn = rule->fn;
	if (rule->bind && !rule->bind(&d, out) && !thunk_bind_shared(&d, out)) {
		out->fn = op_undefined;
		out->flags = INSN_ENDS_BLOCK;
		return false;
	}
	return true;
}
