/* A decoded instruction, condensed for the interpreter, and the rules that
 * bind a decoded instruction to the function that executes it. */
#ifndef NESTOR_SOFT_INSN_H
#define NESTOR_SOFT_INSN_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

struct cpu;
struct insn;

/* Executes one instruction. On entry r[REG_RIP] is already the next
 * instruction's address and start_rip this one's; a function that raises an
 * exception (it does not return) has changed no architectural state before
 * that the exception's delivery would show. */
typedef void insn_fn(struct cpu *cpu, const struct insn *i);

enum operand_kind { OPERAND_NONE, OPERAND_GPR, OPERAND_MEM, OPERAND_IMM, OPERAND_OTHER };

enum {
	INSN_LOCK = 1 << 0,
	INSN_REP = 1 << 1,	/* F3 */
	INSN_REPNE = 1 << 2,	/* F2 */
	INSN_ENDS_BLOCK = 1 << 3,	/* nothing after it is decoded into the same block */
	INSN_SEGMENT_OVERRIDE = 1 << 4,
};

struct insn {
	insn_fn *fn;
	uint64_t imm;		/* immediate, sign-extended to 64 bits when the instruction does;
				 * branches: the displacement, sign-extended; far pointers:
				 * offset in imm, selector in imm2 */
	int64_t disp;		/* displacement of the memory operand, sign-extended */
	union {
		void *extra;	/* a thunk's code, or what its rule likes */
		uint64_t imm2;
	};
	uint8_t len;
	uint8_t size;		/* operand size in bytes: 1, 2, 4, 8 (Zydis' effective operand width) */
	uint8_t flags;		/* INSN_* */
	uint8_t kind[3];	/* enum operand_kind of the explicit (visible) operands, in Intel order */
	/* Per visible operand: a GPR as byte offset into cpu->r (AH is 1, CH 9 ..);
	 * segment, control, debug, MMX, XMM/YMM, x87 registers as their number;
	 * a memory operand: its size in bytes (0: none, as for LEA). */
	uint8_t reg[4];
	/* The memory operand. base/index are indices into cpu->r, REG_ZERO for
	 * none, REG_RIP for RIP-relative. */
	uint8_t base, index, scale /* shift count */, seg /* enum segment_register */;
	uint8_t address_size;	/* bytes: 2, 4, 8 */
	bool plain_ea;		/* 64-bit mode, 64-bit addresses, segment base 0: linear = base + index<<scale + disp */
	uint8_t condition;	/* Jcc, SETcc, CMOVcc: low 4 bits of the opcode */
	uint16_t mnemonic;	/* ZydisMnemonic */
	uint16_t at;		/* in a block: offset in its page */
	uint8_t spare[8];	/* the rule's own */
};

/* Everything a rule may look at. */
struct decoded {
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t bytes[15];
	unsigned mode;		/* enum code_mode */
};

/* One rule per mnemonic. bind() gets `out` with all common fields filled in and
 * sets out->fn (and extra, spare, ENDS_BLOCK); false: not a form we have, #UD. */
struct insn_rule {
	ZydisMnemonic mnemonic;
	bool (*bind)(const struct decoded *d, struct insn *out);
	insn_fn *fn;		/* when bind is NULL: this function for every form */
	uint8_t flags;		/* OR-ed into out->flags */
};

struct insn_rules {
	const struct insn_rule *rule;
	unsigned count;
};

/* The rule lists, each beside the functions it names. */
extern const struct insn_rules
	integer_rules,		/* integer.c: ALU, moves, multiply/divide, conditions, flags */
	shift_rules,		/* shift.c: shifts, rotates, SHLD/SHRD, bit tests and scans, BMI, ADX */
	string_rules,		/* string.c: MOVS STOS LODS SCAS CMPS */
	stack_rules,		/* stack.c: PUSH/POP family, near CALL/RET/JMP/Jcc/LOOP, ENTER/LEAVE */
	transfer_rules,		/* transfer.c: far JMP/CALL/RET, IRET, INT n, SYSCALL/SYSENTER.. */
	segment_rules,		/* segment.c: MOV Sreg, LDS.., LAR/LSL/VERR/VERW/ARPL, LLDT/LTR/SGDT.. */
	system_rules,		/* system.c: CR/DR, CPUID, MSRs, TSC, HLT, CLI/STI, INVLPG, cache control */
	io_rules,		/* io.c: IN OUT INS OUTS */
	thunk_rules,		/* thunk_table.c: SSE, AVX, x87, MMX by native thunks */
	xsave_rules,		/* xsave.c: FXSAVE, XSAVE family, x87 control, LDMXCSR.. */
	vtx_rules;		/* vtx/instructions.c: VMXON .. VMFUNC, INVEPT, INVVPID */

#endif
