/* The integer instructions' encodings, as data for the oracle test. */
#ifndef NESTOR_TESTS_PROCESSOR_INTEGER_FORMS_H
#define NESTOR_TESTS_PROCESSOR_INTEGER_FORMS_H

#include <stdint.h>

enum form_flags {
	REG = 1 << 0,		/* ModRM.rm may be a register */
	MEM = 1 << 1,		/* .. or memory */
	RM = REG | MEM,
	SLASH_R = 1 << 2,	/* ModRM.reg is a register operand (else `digit`) */
	LOCK = 1 << 3,		/* the memory form takes a LOCK prefix */
	OPCODE_REG = 1 << 4,	/* register in the opcode's low bits, no ModRM */
	CONDITION = 1 << 5,	/* 16 opcodes, one per condition */
	VEX = 1 << 6,
	VVVV = 1 << 7,		/* VEX.vvvv is an operand (else 1111b) */
	BYTE_RM = 1 << 8,	/* operands are byte registers: no REX or AH..BH both occur */
};

/* What a form needs beside random operands. */
enum form_care {
	PLAIN,
	BIT_STRING,	/* register bit offset into memory */
	DIVISION,	/* dividends that often give a quotient */
	EXCHANGE,	/* accumulator often equal to the destination */
	STACK,		/* RSP, and RBP, in scratch memory */
	FRAME,		/* ENTER, LEAVE: RBP in scratch, too */
	FLAGS_IMAGE,	/* POPF: the image on the stack is a legal one */
	TARGET,		/* near indirect branch: operand is the landing's address */
	RETURN,		/* near RET: it is on the stack */
	RELATIVE,	/* displacement to the landing */
	STRING,		/* RSI, RDI in scratch, short RCX; REP prefixes */
	TABLE,		/* XLAT */
	MOFFS,		/* 64-bit absolute address behind the opcode */
};

enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };
enum { IMM_NONE, IMM_8, IMM_16, IMM_Z /* size, at most 4 */, IMM_V /* size */, IMM_16_8 };
enum { S8 = 1, S16 = 2, S32 = 4, S64 = 8, WIDE = S16 | S32 | S64 };

struct form {
	const char *name;
	uint8_t map, prefix /* mandatory */, opcode, digit;
	uint16_t flags;
	uint8_t sizes;		/* operand sizes in bytes, OR-ed */
	uint8_t imm;
	uint8_t care;
};

extern const struct form integer_forms[];
extern const unsigned integer_form_count;

#endif
