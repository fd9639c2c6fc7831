#include "soft/translate/emit.h"

#include <string.h>

void emit_byte(struct emitter *e, unsigned byte)
{
	*e->at++ = (uint8_t)byte;
}

void emit_value(struct emitter *e, uint64_t value, unsigned size)
{
	memcpy(e->at, &value, size);
	e->at += size;
}

static unsigned high_bit(unsigned reg)
{
	return reg == HOST_NONE ? 0 : reg >> 3 & 1;
}

static void emit_modrm(struct emitter *e, unsigned reg, struct rm rm)
{
	enum { SIB = 4, NO_INDEX = 4, NO_BASE = 5, DISP8 = 0x40, DISP32 = 0x80, DIRECT = 0xc0 };
	unsigned modrm = (reg & 7) << 3;
	if (rm.kind == RM_REG) {
		emit_byte(e, DIRECT | modrm | (rm.base & 7));
		return;
	}
	unsigned index = rm.index == HOST_NONE ? NO_INDEX : rm.index & 7;
	if (rm.base == HOST_NONE) {
		emit_byte(e, modrm | SIB);
		emit_byte(e, (unsigned)rm.scale << 6 | index << 3 | NO_BASE);
		emit_value(e, (uint32_t)rm.disp, 4);
		return;
	}
	/* RBP's and R13's number without a displacement means another thing. */
	unsigned bytes = !rm.disp && (rm.base & 7) != HOST_RBP ? 0 : rm.disp == (int8_t)rm.disp ? 1 : 4;
	modrm |= bytes == 4 ? DISP32 : bytes == 1 ? DISP8 : 0;
	if (rm.index == HOST_NONE && (rm.base & 7) != HOST_RSP)
		emit_byte(e, modrm | (rm.base & 7));
	else {
		emit_byte(e, modrm | SIB);
		emit_byte(e, (unsigned)rm.scale << 6 | index << 3 | (rm.base & 7));
	}
	emit_value(e, (uint32_t)rm.disp, bytes);
}

static void emit_prefixes(struct emitter *e, uint32_t op, unsigned rex)
{
	if (op & OP_LOCK)
		emit_byte(e, 0xf0);
	if (op & OP_66)
		emit_byte(e, 0x66);
	if (op & OP_F2)
		emit_byte(e, 0xf2);
	if (op & OP_F3)
		emit_byte(e, 0xf3);
	rex |= op & OP_W ? 8 : 0;
	if (rex || op & OP_BYTE)
		emit_byte(e, 0x40 | rex);
}

static void emit_opcode(struct emitter *e, uint32_t op, unsigned low)
{
	if (op & OP_MAP)
		emit_byte(e, 0x0f);
	if ((op & OP_MAP) == OP_0F38)
		emit_byte(e, 0x38);
	if ((op & OP_MAP) == OP_0F3A)
		emit_byte(e, 0x3a);
	emit_byte(e, (op & 0xff) | low);
}

static void emit_field_prefix(struct emitter *e, struct rm rm)
{
	enum { PREFIX_GS = 0x65 };
	if (rm.kind == RM_FIELD)
		emit_byte(e, PREFIX_GS);
}

void emit_op(struct emitter *e, uint32_t op, unsigned reg, struct rm rm)
{
	emit_field_prefix(e, rm);
	emit_prefixes(e, op, (reg >> 3 & 1) << 2 | high_bit(rm.index) << 1 | high_bit(rm.base));
	emit_opcode(e, op, 0);
	emit_modrm(e, reg, rm);
}

void emit_plain(struct emitter *e, uint32_t op)
{
	emit_prefixes(e, op, 0);
	emit_opcode(e, op, 0);
}

void emit_op_reg(struct emitter *e, uint32_t op, unsigned reg)
{
	emit_prefixes(e, op, reg >> 3);
	emit_opcode(e, op, reg & 7);
}

void emit_mov(struct emitter *e, unsigned to, unsigned from)
{
	emit_op(e, OP_LOAD | OP_W, to, rm_reg(from));
}

void emit_mov_imm(struct emitter *e, unsigned to, uint64_t value)
{
	enum { MOV_REG_IMM = 0xb8 };
	if (value <= UINT32_MAX) {
		emit_op_reg(e, MOV_REG_IMM, to);
		emit_value(e, value, 4);
	} else if ((int64_t)value == (int32_t)value) {
		emit_op(e, OP_MOV_IMM | OP_W, 0, rm_reg(to));
		emit_value(e, value, 4);
	} else {
		emit_op_reg(e, MOV_REG_IMM | OP_W, to);
		emit_value(e, value, 8);
	}
}

void emit_load(struct emitter *e, unsigned to, struct rm from)
{
	emit_op(e, OP_LOAD | OP_W, to, from);
}

void emit_store(struct emitter *e, struct rm to, unsigned from)
{
	emit_op(e, OP_STORE | OP_W, from, to);
}

void emit_lea(struct emitter *e, unsigned to, struct rm from)
{
	if (from.index == HOST_NONE && !from.disp)
		emit_mov(e, to, from.base);
	else
		emit_op(e, OP_LEA | OP_W, to, from);
}

enum { PP_F3 = 2, PP_F2 = 3 };

static void emit_bits(struct emitter *e, unsigned pp, unsigned to, unsigned from, struct rm mask)
{
	enum { VEX3 = 0xc4, MAP_0F38 = 2, W1 = 0x80, OPCODE = 0xf5 };
	emit_field_prefix(e, mask);
	emit_byte(e, VEX3);
	emit_byte(e, (~to & 8) << 4 | !high_bit(mask.index) << 6 | !high_bit(mask.base) << 5 | MAP_0F38);
	emit_byte(e, W1 | (~from & 15) << 3 | pp);
	emit_byte(e, OPCODE);
	emit_modrm(e, to, mask);
}

void emit_pext(struct emitter *e, unsigned to, unsigned from, struct rm mask)
{
	emit_bits(e, PP_F3, to, from, mask);
}

void emit_pdep(struct emitter *e, unsigned to, unsigned from, struct rm mask)
{
	emit_bits(e, PP_F2, to, from, mask);
}

uint8_t *emit_jump(struct emitter *e, uint32_t op)
{
	emit_plain(e, op);
	uint8_t *site = e->at;
	emit_value(e, 0, 4);
	return site;
}

void emit_target(uint8_t *site, const uint8_t *target)
{
	int32_t distance = (int32_t)(target - (site + 4));
	memcpy(site, &distance, sizeof distance);
}

void emit_jump_to(struct emitter *e, uint32_t op, const uint8_t *target)
{
	emit_target(emit_jump(e, op), target);
}

uint8_t *emit_jump_unless_rcx_zero(struct emitter *e)
{
	enum { JRCXZ = 0xe3, JMP_LENGTH = 5 };
	emit_byte(e, JRCXZ);
	emit_byte(e, JMP_LENGTH);
	return emit_jump(e, JUMP);
}
