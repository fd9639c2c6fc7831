/* Instructions whose translation is the same opcode with operands where they
 * are now. */
#include "soft/translate/front.h"

unsigned host_register(unsigned guest)
{
	switch (guest) {
	case RCX: return GUEST_RCX;
	case RSP: return GUEST_RSP;
	case R8: case R9: case R10: case R11: return HOST_NONE;
	default: return guest;
	}
}

unsigned guest_load(struct front *f, unsigned guest, unsigned scratch)
{
	unsigned host = host_register(guest);
	if (host != HOST_NONE)
		return host;
	emit_load(&f->e, scratch, rm_field(R_FIELD(guest)));
	return scratch;
}

static void guest_store(struct front *f, unsigned guest, unsigned from)
{
	if (host_register(guest) == HOST_NONE)
		emit_store(&f->e, rm_field(R_FIELD(guest)), from);
}

bool operand_is_gpr(const ZydisDecodedOperand *op)
{
	if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (ZydisRegisterGetClass(op->reg.value)) {
	case ZYDIS_REGCLASS_GPR8:
		return op->reg.value < ZYDIS_REGISTER_AH || op->reg.value > ZYDIS_REGISTER_BH;
	case ZYDIS_REGCLASS_GPR16: case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64:
		return true;
	default:
		return false;
	}
}

unsigned operand_gpr(const ZydisDecodedOperand *op)
{
	switch (ZydisRegisterGetClass(op->reg.value)) {
	case ZYDIS_REGCLASS_GPR8:
		return op->reg.value >= ZYDIS_REGISTER_SPL ? op->reg.value - ZYDIS_REGISTER_SPL + RSP :
			op->reg.value - ZYDIS_REGISTER_AL;
	default:
		return (unsigned)ZydisRegisterGetId(op->reg.value);
	}
}

/* --- the same opcode --- */

/* Opcode, map and prefixes as the guest has them. */
static uint32_t operation(const struct decoded *d)
{
	static const struct { uint16_t mnemonic; uint32_t prefix; } mandatory[] = {
		{ ZYDIS_MNEMONIC_POPCNT, OP_F3 }, { ZYDIS_MNEMONIC_TZCNT, OP_F3 }, { ZYDIS_MNEMONIC_LZCNT, OP_F3 },
	};
	const ZydisDecodedInstruction *zi = &d->zi;
	uint32_t op = zi->opcode | (uint32_t)zi->opcode_map << OP_MAP_SHIFT;
	if (zi->raw.rex.W)
		op |= OP_W;
	else if (zi->operand_width == 16)
		op |= OP_66;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		op |= OP_LOCK;
	for (unsigned n = 0; n < ARRAY_SIZE(mandatory); n++)
		if (mandatory[n].mnemonic == zi->mnemonic)
			op |= mandatory[n].prefix;
	for (unsigned n = 0; n < zi->operand_count_visible; n++)
		if (operand_is_gpr(&d->op[n]) && d->op[n].size == 8)
			op |= OP_BYTE;
	return op;
}

/* What the operands of ModRM are; immediates and CL stay as they are. */
struct operands {
	const ZydisDecodedOperand *reg, *rm;	/* ModRM's */
	const ZydisDecodedOperand *opcode;	/* the opcode's low bits */
	bool count;		/* CL is one */
};

static bool operands_find(const struct decoded *d, struct operands *o)
{
	*o = (struct operands){ 0 };
	for (unsigned n = 0; n < d->zi.operand_count_visible; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			continue;
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || op->size > 64)
				return false;
		} else if (!operand_is_gpr(op))
			return false;
		switch (op->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: o->reg = op; break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: o->rm = op; break;
		case ZYDIS_OPERAND_ENCODING_OPCODE: o->opcode = op; break;
		default:	/* the accumulator, which is where it always was, or CL */
			if (op->reg.value == ZYDIS_REGISTER_CL)
				o->count = true;
			else if (operand_gpr(op) != RAX)
				return false;
		}
	}
	return true;
}

static void emit_immediate(struct front *f, const struct decoded *d)
{
	for (unsigned n = 0; n < ARRAY_SIZE(d->zi.raw.imm); n++)
		for (unsigned k = 0; k < d->zi.raw.imm[n].size / 8; k++)
			emit_byte(&f->e, d->bytes[d->zi.raw.imm[n].offset + k]);
}

/* Does the instruction leave nothing of the operand as it was? BSF and BSR of
 * zero leave all of it. */
static bool overwrites(const struct decoded *d, const ZydisDecodedOperand *op)
{
	return op->actions == ZYDIS_OPERAND_ACTION_WRITE && op->size >= 32 &&
		d->zi.mnemonic != ZYDIS_MNEMONIC_BSF && d->zi.mnemonic != ZYDIS_MNEMONIC_BSR;
}

static unsigned operand_load(struct front *f, const struct decoded *d, const ZydisDecodedOperand *op,
			     unsigned scratch)
{
	unsigned host = host_register(operand_gpr(op));
	if (host == HOST_NONE && overwrites(d, op))
		return scratch;
	return guest_load(f, operand_gpr(op), scratch);
}

static void operand_store(struct front *f, const ZydisDecodedOperand *op, unsigned from)
{
	if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		guest_store(f, operand_gpr(op), from);
}

static bool emit_memory_form(struct front *f, const struct decoded *d, const struct operands *o)
{
	struct address a;
	bool reg_in_cpu = o->reg && host_register(operand_gpr(o->reg)) == HOST_NONE;
	if ((o->count && reg_in_cpu) || !emit_address(f, d, o->rm, &a))
		return false;
	struct rm at = emit_access(f, &a, o->rm->size / 8, o->rm->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	unsigned reg = d->zi.raw.modrm.reg;
	if (o->reg)
		reg = operand_load(f, d, o->reg, SCRATCH_C);
	if (o->count)
		emit_mov(&f->e, SCRATCH_C, GUEST_RCX);
	emit_op(&f->e, operation(d), reg, at);
	emit_immediate(f, d);
	if (o->reg)
		operand_store(f, o->reg, reg);
	return true;
}

static void emit_register_form(struct front *f, const struct decoded *d, const struct operands *o)
{
	unsigned rm = operand_load(f, d, o->rm, SCRATCH_B), reg = d->zi.raw.modrm.reg;
	if (o->reg)
		reg = operand_gpr(o->reg) == operand_gpr(o->rm) ? guest_load(f, operand_gpr(o->reg), rm) :
			operand_load(f, d, o->reg, SCRATCH_A);
	if (o->count)
		emit_mov(&f->e, SCRATCH_C, GUEST_RCX);
	emit_op(&f->e, operation(d), reg, rm_reg(rm));
	emit_immediate(f, d);
	operand_store(f, o->rm, rm);
	if (o->reg)
		operand_store(f, o->reg, reg);
}

/* XCHG RAX, reg: the register in the opcode would say another one. */
static bool emit_opcode_form(struct front *f, const struct decoded *d, const struct operands *o)
{
	enum { XCHG = 0x87 };
	if (d->zi.mnemonic == ZYDIS_MNEMONIC_BSWAP && d->zi.operand_width == 16)
		return false;	/* undefined; the interpreter's answer */
	uint32_t op = operation(d);
	unsigned reg = operand_load(f, d, o->opcode, SCRATCH_B);
	if (d->zi.mnemonic == ZYDIS_MNEMONIC_XCHG)
		emit_op(&f->e, (op & ~0xffu) | XCHG, HOST_RAX, rm_reg(reg));
	else
		emit_op_reg(&f->e, (op & ~7u), reg);
	emit_immediate(f, d);
	operand_store(f, o->opcode, reg);
	return true;
}

/* AH, DH or BH with an immediate: they have their numbers only without a REX
 * prefix, and CH's register is one that needs it. */
static bool emit_high_byte_form(struct front *f, const struct decoded *d)
{
	const ZydisDecodedOperand *op = &d->op[0];
	if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
	    op->reg.value < ZYDIS_REGISTER_AH || op->reg.value > ZYDIS_REGISTER_BH ||
	    op->reg.value == ZYDIS_REGISTER_CH || d->zi.operand_count_visible != 2 ||
	    d->op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return false;
	emit_op(&f->e, operation(d), d->zi.raw.modrm.reg, rm_reg(d->zi.raw.modrm.rm));
	emit_immediate(f, d);
	return true;
}

bool emit_same(struct front *f, const struct decoded *d)
{
	struct operands o;
	if (d->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || d->zi.opcode_map > ZYDIS_OPCODE_MAP_0F ||
	    !operands_find(d, &o))
		return d->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && emit_high_byte_form(f, d);
	if (o.opcode)
		return emit_opcode_form(f, d, &o);
	if (!o.rm) {
		emit_plain(&f->e, operation(d));
		emit_immediate(f, d);
		return true;
	}
	if (o.rm->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return emit_memory_form(f, d, &o);
	emit_register_form(f, d, &o);
	return true;
}

/* The host register of a part of an address, HOST_NONE for none. */
static unsigned host_of(ZydisRegister r)
{
	return r == ZYDIS_REGISTER_NONE ? HOST_NONE : host_register((unsigned)ZydisRegisterGetId(r));
}

/* Is everything that the LEA names in a register? */
static bool lea_as_it_is(const struct decoded *d)
{
	const ZydisDecodedOperand *op = &d->op[1];
	if (d->zi.address_width != 64 || op->mem.base == ZYDIS_REGISTER_RIP || d->op[0].size == 16 ||
	    host_register(operand_gpr(&d->op[0])) == HOST_NONE)
		return false;
	return host_of(op->mem.base) != HOST_NONE &&
		(op->mem.index == ZYDIS_REGISTER_NONE || host_of(op->mem.index) != HOST_NONE);
}

bool emit_lea_insn(struct front *f, const struct decoded *d)
{
	struct address a;
	const ZydisDecodedOperand *op = &d->op[1];
	if (!operand_is_gpr(&d->op[0]) || op->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	if (lea_as_it_is(d)) {
		emit_op(&f->e, OP_LEA | (d->op[0].size == 64 ? OP_W : 0), host_register(operand_gpr(&d->op[0])),
			rm_at(host_of(op->mem.base), host_of(op->mem.index),
			      op->mem.scale ? (unsigned)__builtin_ctz(op->mem.scale) : 0,
			      op->mem.disp.has_displacement ? (int32_t)op->mem.disp.value : 0));
		return true;
	}
	struct decoded flat = *d;	/* LEA knows no segments */
	flat.op[1].mem.segment = ZYDIS_REGISTER_DS;
	if (!emit_address(f, &flat, &flat.op[1], &a))
		return false;
	unsigned to = operand_load(f, d, &d->op[0], SCRATCH_B);
	uint32_t size = d->op[0].size == 64 ? OP_W : d->op[0].size == 16 ? OP_66 : 0;
	if (a.disp)
		emit_op(&f->e, OP_LEA | size, to, rm_at(a.reg, HOST_NONE, 0, a.disp));
	else
		emit_op(&f->e, OP_LOAD | size, to, rm_reg(a.reg));
	operand_store(f, &d->op[0], to);
	return true;
}
