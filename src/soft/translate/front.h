/* What the parts of the translator share while one block is translated. */
#ifndef NESTOR_SOFT_TRANSLATE_FRONT_H
#define NESTOR_SOFT_TRANSLATE_FRONT_H

#include "soft/translate/emit.h"
#include "soft/translate/translate.h"

/* Registers that translated code may use at will. Guest RCX and RSP live in R8
 * and R9, guest R8 to R11 in struct cpu, all others where they are. */
enum {
	SCRATCH_A = HOST_R10, SCRATCH_B = HOST_R11, SCRATCH_C = HOST_RCX,
	GUEST_RCX = HOST_R8, GUEST_RSP = HOST_R9,
};

/* How an instruction is translated (table.c). */
enum way {
	WAY_CALL,	/* not at all: the interpreter's function does it */
	WAY_SAME,	/* the same opcode, operands where they are now */
	WAY_BIT_TEST,	/* the same, if a register does not choose memory */
	WAY_NOTHING,
	WAY_LEA, WAY_PUSH, WAY_POP, WAY_LEAVE,
	WAY_JMP, WAY_JCC, WAY_CALL_NEAR, WAY_RET,
	WAYS
};

enum way translate_way(ZydisMnemonic m);

/* Sequences that every translation shares, in each code cache. */
struct common {
	const uint8_t *enter;	/* C calls it */
	uint8_t *leave, *slow, *refill_read, *refill_write;
};

enum cold_kind { COLD_REFILL, COLD_SLOW, COLD_EDGE, COLD_LEAVE };

/* Code for the unlikely case, emitted behind the block. */
struct cold {
	enum cold_kind kind;
	uint8_t *site;		/* the jump that comes here */
	uint8_t *back;		/* COLD_REFILL: where it goes on with the addend in R11 */
	unsigned index;		/* instruction */
	int64_t to;		/* COLD_EDGE, COLD_LEAVE: offset in the page */
	int32_t disp;		/* COLD_REFILL: the address is reg + disp */
	uint8_t reg, slot, size;
	bool write;
};

enum { COLD_MAX = 4 * BLOCK_MAX_INSNS + 8 };

struct front {
	struct cpu *cpu;
	struct block *b;	/* what is translated */
	const struct common *common;
	bool lockstep;		/* note stores, leave before what only C can do */
	struct emitter e;
	unsigned index;		/* the instruction, and where it and its successor are in the page */
	unsigned at, next;
	struct decoded d[BLOCK_MAX_INSNS];
	enum way way[BLOCK_MAX_INSNS];
	uint32_t flags_live[BLOCK_MAX_INSNS];	/* arithmetic flags from before it that are needed */
	uint8_t *end[BLOCK_MAX_INSNS];	/* where it is done */
	struct cold cold[COLD_MAX];
	unsigned colds;
};

struct cold *front_cold(struct front *f, enum cold_kind kind, uint8_t *site);

/* --- operands.c --- */
#define R_FIELD(n) (offsetof(struct cpu, r) + (n) * sizeof(uint64_t))
#define NATIVE_FIELD(f) (offsetof(struct cpu, native.f))

/* Where the guest's register lives; HOST_NONE: in struct cpu. */
unsigned host_register(unsigned guest);
/* The register's value in a host register: its own or `scratch`, loaded. */
unsigned guest_load(struct front *f, unsigned guest, unsigned scratch);
/* Emit a WAY_SAME or WAY_LEA instruction; false: its form has no translation. */
bool emit_same(struct front *f, const struct decoded *d);
bool emit_lea_insn(struct front *f, const struct decoded *d);
/* Is the operand a general register other than AH to BH? */
bool operand_is_gpr(const ZydisDecodedOperand *op);
unsigned operand_gpr(const ZydisDecodedOperand *op);

/* --- memory.c --- */
/* A linear address: a host register plus a displacement; the slot it uses. */
struct address {
	uint8_t reg, slot;
	int32_t disp;
};

/* The bits of an address that must be those of a slot's page for an access of
 * that size. */
static inline uint64_t slot_mask(unsigned size)
{
	return ~PAGE_OFFSET_MASK | (size - 1);
}

/* Form the address of a memory operand; uses A and B. False: not its kind. */
bool emit_address(struct front *f, const struct decoded *d, const ZydisDecodedOperand *op,
		  struct address *a);
/* Find the host's address of guest memory: the operand to use. Changes B and
 * C, and the flags where they are dead; A too in lockstep. */
struct rm emit_access(struct front *f, const struct address *a, unsigned size, bool write);

/* --- flow.c --- */
/* The last instruction, a branch; false: its form has no translation. */
bool emit_branch(struct front *f, const struct decoded *d, enum way way);
/* On to the offset `to` in the page, or behind it, from where no branch is. */
void emit_fall(struct front *f, unsigned to);
bool emit_push(struct front *f, const struct decoded *d);
bool emit_pop(struct front *f, const struct decoded *d);
void emit_leave_insn(struct front *f);

/* --- translate.c --- */
/* What code asks of the interpreter: the index of the first instruction, their
 * number, the arithmetic flags that are not kept (OF as bit 1). */
enum { ASK_COUNT_SHIFT = 16, ASK_COUNT = 0x3f, ASK_DEAD_SHIFT = 24, ASK_INDEX = 0xffff, ASK_OF = 2 };
/* Translate the first `count` instructions of b to f->e. Returns where it is
 * entered, NULL if it gains nothing. */
enum { TRANSLATION_MAX = 32 << 10 };	/* bytes that one block needs at most */
const uint8_t *front_translate(struct front *f, unsigned count, const uint8_t **poll, const uint8_t **body);

/* --- lockstep.c --- */
/* A store that translated code made: what was there. */
struct undo {
	uint8_t *host;
	uint64_t value;
	uint64_t size;
};
enum { UNDO_MAX = 4 * BLOCK_MAX_INSNS };
/* Run translated code for one block, then the interpreter on the state before,
 * and compare. */
void lockstep_run(struct cpu *cpu, struct block *b);
/* The interpreter raised while it replayed. */
_Noreturn void lockstep_raised(struct cpu *cpu);

/* --- runtime.c --- */
void translate_enter(struct cpu *cpu, const uint8_t *code);

#endif
