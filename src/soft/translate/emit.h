/* Writing host instructions: the same opcode bytes as the guest's, with a new
 * REX prefix, ModRM and SIB byte. */
#ifndef NESTOR_SOFT_TRANSLATE_EMIT_H
#define NESTOR_SOFT_TRANSLATE_EMIT_H

#include <stddef.h>
#include <stdint.h>

struct emitter {
	uint8_t *at;
};

/* Host registers by their number in encodings. */
enum host_register {
	HOST_RAX, HOST_RCX, HOST_RDX, HOST_RBX, HOST_RSP, HOST_RBP, HOST_RSI, HOST_RDI,
	HOST_R8, HOST_R9, HOST_R10, HOST_R11, HOST_R12, HOST_R13, HOST_R14, HOST_R15,
	HOST_NONE = 0xff,
};

/* An operation: opcode byte, opcode map in bits 8 and 9, and prefixes. */
enum {
	OP_0F = 1 << 8, OP_0F38 = 2 << 8, OP_0F3A = 3 << 8, OP_MAP = 3 << 8, OP_MAP_SHIFT = 8,
	OP_W = 1 << 16,		/* 64-bit operands */
	OP_66 = 1 << 17, OP_F2 = 1 << 18, OP_F3 = 1 << 19, OP_LOCK = 1 << 20,
	OP_BYTE = 1 << 21,	/* byte registers: SPL.. DIL, never AH.. BH */

	OP_STORE = 0x89, OP_LOAD = 0x8b, OP_LEA = 0x8d, OP_MOV_IMM = 0xc7, OP_STORE_BYTE = 0x88,
	OP_GROUP1_IMM = 0x81, OP_ADD_LOAD = 0x03, OP_CMP_LOAD = 0x3b, OP_GROUP3 = 0xf7, OP_GROUP5 = 0xff,
	OP_SHIFT_IMM = 0xc1, OP_GROUP1_IMM8 = 0x83, OP_TEST_BYTE = 0x84,
	OP_MOVZX_BYTE = OP_0F | 0xb6, OP_MOVZX_WORD = OP_0F | 0xb7,
	OP_MOVUPS_LOAD = OP_0F | 0x10, OP_MOVUPS_STORE = OP_0F | 0x11,
	/* ModRM's digit for the groups. */
	GROUP1_ADD = 0, GROUP1_AND = 4, GROUP3_NOT = 2, GROUP5_JMP = 4, SHIFT_SHR = 5,
};

/* The ModRM operand: a register; memory; or a field of struct cpu, at which
 * the GS base points while translated code runs. */
struct rm {
	enum { RM_REG, RM_AT, RM_FIELD } kind;
	uint8_t base, index;	/* host registers; RM_REG: base */
	uint8_t scale;		/* shift count */
	int32_t disp;
};

static inline struct rm rm_reg(unsigned reg)
{
	return (struct rm){ RM_REG, (uint8_t)reg, HOST_NONE, 0, 0 };
}

static inline struct rm rm_at(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	return (struct rm){ RM_AT, (uint8_t)base, (uint8_t)index, (uint8_t)scale, disp };
}

static inline struct rm rm_field(size_t offset)
{
	return (struct rm){ RM_FIELD, HOST_NONE, HOST_NONE, 0, (int32_t)offset };
}

/* The element at index << scale of an array in struct cpu. */
static inline struct rm rm_field_at(unsigned index, unsigned scale, size_t offset)
{
	return (struct rm){ RM_FIELD, HOST_NONE, (uint8_t)index, (uint8_t)scale, (int32_t)offset };
}

void emit_byte(struct emitter *e, unsigned byte);
void emit_value(struct emitter *e, uint64_t value, unsigned size);
/* One instruction up to its immediate. reg: the register or the group's digit. */
void emit_op(struct emitter *e, uint32_t op, unsigned reg, struct rm rm);
/* Without ModRM: the accumulator's forms, CDQ and the like. */
void emit_plain(struct emitter *e, uint32_t op);
/* With the register in the opcode's low three bits. */
void emit_op_reg(struct emitter *e, uint32_t op, unsigned reg);

void emit_mov(struct emitter *e, unsigned to, unsigned from);	/* 64 bits */
void emit_mov_imm(struct emitter *e, unsigned to, uint64_t value);
void emit_load(struct emitter *e, unsigned to, struct rm from);
void emit_store(struct emitter *e, struct rm to, unsigned from);
void emit_lea(struct emitter *e, unsigned to, struct rm from);
/* PEXT and PDEP to, from, mask: leave the flags alone. */
void emit_pext(struct emitter *e, unsigned to, unsigned from, struct rm mask);
void emit_pdep(struct emitter *e, unsigned to, unsigned from, struct rm mask);

/* Jumps with a 32-bit displacement: the address of that, to be set by
 * emit_target; it counts from its own end. */
enum { JUMP = 0xe9, JUMP_CALL = 0xe8, JUMP_NE = OP_0F | 0x85 };
uint8_t *emit_jump(struct emitter *e, uint32_t op);
void emit_target(uint8_t *site, const uint8_t *target);
/* A jump to a place already emitted. */
void emit_jump_to(struct emitter *e, uint32_t op, const uint8_t *target);
/* JRCXZ over the five bytes of a JMP that follows. */
uint8_t *emit_jump_unless_rcx_zero(struct emitter *e);

#endif
