/* The front of the translator: one block of 64-bit code to host code.
 *
 * Guest and host speak the same language, so most instructions are re-emitted
 * with their opcode bytes as they are and other registers in them. Translated
 * code runs with
 *	the GS base at struct cpu;
 *	guest RAX RDX RBX RBP RSI RDI R12..R15 in those very registers, RCX and
 *	RSP in R8 and R9, R8..R11 in struct cpu; RCX R10 R11 free (front.h);
 *	the arithmetic flags in RFLAGS; everything else in struct cpu.
 * RSP is the host's and does not move.
 *
 * RIP is nowhere: code depends on its place in the physical page only, and
 * cpu->native.page has the linear address of the page, set by who enters
 * another one. A block has three entries, each falling into the next: `enter`
 * (RIP in R10: sets the page), `poll` (looks whether the block is still what
 * the page holds and whether an event waits), `body`. Jumps backward inside a
 * page go to poll and all ways into another page through enter, so no loop is
 * without a look.
 *
 * What is not translated (table.c), and what an access cannot do by itself,
 * the interpreter's function for that instruction does, called with the whole
 * state stored; so every block can be translated, and faults, device accesses,
 * stores to code and everything else unusual happen in the interpreter alone.
 * After it, control stays in translated code if nothing is pending.
 *
 * Liveness of flags is found per block, backwards; behind the block's end all
 * flags are alive. */
#include "soft/translate/front.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/tlb.h"

struct cold *front_cold(struct front *f, enum cold_kind kind, uint8_t *site)
{
	if (f->colds == COLD_MAX)
		panic("a block with more than %d ways out", COLD_MAX);
	struct cold *c = &f->cold[f->colds++];
	*c = (struct cold){ .kind = kind, .site = site, .index = f->index };
	return c;
}

/* --- reading the block --- */

/* Decode the block's bytes as they are now; false if they are no longer those
 * that it was made from. */
static bool read_block(struct front *f, unsigned count)
{
	const struct block *b = f->b;
	const uint8_t *page = f->cpu->memory->ram + ((uint64_t)b->page << PAGE_SHIFT);
	for (unsigned n = 0; n < count; n++) {
		const struct insn *i = &b->insn[n];
		struct decoded *d = &f->d[n];
		memcpy(d->bytes, page + i->at, i->len);
		f->way[n] = WAY_CALL;
		if (!decode_whole(d->bytes, i->len, MODE_64, d) || d->zi.mnemonic != i->mnemonic ||
		    d->zi.length != i->len)
			continue;	/* one that raises #UD, or bytes that changed */
		enum way way = translate_way(d->zi.mnemonic);
		bool branch = way >= WAY_JMP;
		if (branch == !!(i->flags & INSN_ENDS_BLOCK))
			f->way[n] = way;
	}
	return block_fresh(f->cpu, b);
}

/* Arithmetic flags that the instruction needs, and that it overwrites. */
static void flags_of(const struct front *f, unsigned n, uint32_t *needs, uint32_t *kills)
{
	const ZydisDecodedInstruction *zi = &f->d[n].zi;
	const ZydisAccessedFlags *a = zi->cpu_flags;
	*needs = *kills = 0;
	if (f->way[n] == WAY_CALL) {
		*needs = FLAGS_ARITH;
		return;
	}
	if (!a)
		return;
	*needs = a->tested & FLAGS_ARITH;
	*kills = (a->modified | a->set_0 | a->set_1 | a->undefined) & FLAGS_ARITH;
	/* A count of zero changes none, and rotates keep most. */
	static const uint16_t counted[] = {
		ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL,
		ZYDIS_MNEMONIC_ROR, ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR, ZYDIS_MNEMONIC_SHLD,
		ZYDIS_MNEMONIC_SHRD,
	};
	for (unsigned k = 0; k < ARRAY_SIZE(counted); k++)
		if (zi->mnemonic == counted[k])
			*kills = 0;
}

static void find_liveness(struct front *f, unsigned count)
{
	uint32_t live = FLAGS_ARITH;
	bool precise = f->cpu->engine->options.precise_flags;
	for (unsigned n = count; n-- > 0;) {
		uint32_t needs, kills;
		flags_of(f, n, &needs, &kills);
		live = (live & ~kills) | needs;
		f->flags_live[n] = precise ? FLAGS_ARITH : live;
	}
}

/* --- the code --- */

/* The interpreter executes `count` instructions from this one on. */
static void emit_interpret(struct front *f, unsigned index, unsigned count)
{
	struct emitter *e = &f->e;
	uint32_t dead = FLAGS_ARITH & ~f->flags_live[index];
	dead = (dead & 0xff) | (dead & FLAG_OF ? ASK_OF : 0);
	emit_mov_imm(e, SCRATCH_A, (uintptr_t)f->b);
	emit_mov_imm(e, SCRATCH_C, index | (f->lockstep ? 0 : count << ASK_COUNT_SHIFT) | dead << ASK_DEAD_SHIFT);
	emit_jump_to(e, JUMP_CALL, f->common->slow);
}

static bool emit_insn(struct front *f)
{
	const struct decoded *d = &f->d[f->index];
	enum way way = f->way[f->index];
	switch (way) {
	case WAY_BIT_TEST:
		return !(d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			 d->op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) && emit_same(f, d);
	case WAY_SAME: return emit_same(f, d);
	case WAY_NOTHING: return true;
	case WAY_LEA: return emit_lea_insn(f, d);
	case WAY_PUSH: return emit_push(f, d);
	case WAY_POP: return emit_pop(f, d);
	case WAY_LEAVE:
		if (d->zi.operand_width != 64)
			return false;
		emit_leave_insn(f);
		return true;
	case WAY_CALL: return false;
	default: return emit_branch(f, d, way);
	}
}

static void emit_instructions(struct front *f, unsigned count)
{
	for (f->index = 0; f->index < count; f->index++) {
		const struct insn *i = &f->b->insn[f->index];
		unsigned first = f->index, run = 1;
		f->at = i->at;
		f->next = f->at + i->len;
		if (!emit_insn(f)) {
			while (f->index + 1 < count && f->way[f->index + 1] == WAY_CALL) {
				f->index++;
				run++;
			}
			emit_interpret(f, first, run);
		}
		for (unsigned n = first; n <= f->index; n++)
			f->end[n] = f->e.at;
	}
}

/* --- what is unlikely --- */

static void emit_refill(struct front *f, const struct cold *c)
{
	struct emitter *e = &f->e;
	unsigned entry = (TLB_ENTRIES + c->slot) * (unsigned)sizeof(struct tlb_entry);
	bool moved = c->reg == SCRATCH_A && c->disp;
	if (c->reg != SCRATCH_A || moved)
		emit_lea(e, SCRATCH_A, rm_at(c->reg, HOST_NONE, 0, c->disp));
	emit_mov_imm(e, SCRATCH_C, entry | (c->size - 1u) << 16);
	emit_jump_to(e, JUMP_CALL, c->write ? f->common->refill_write : f->common->refill_read);
	uint8_t *found = emit_jump(e, JUMP);
	emit_interpret(f, c->index, 1);
	emit_jump_to(e, JUMP, f->end[c->index]);
	emit_target(found, moved ? e->at : c->back);
	if (moved) {
		emit_lea(e, SCRATCH_A, rm_at(SCRATCH_A, HOST_NONE, 0, -c->disp));
		emit_jump_to(e, JUMP, c->back);
	}
}

/* Leave with RIP at the offset; B: the jump that may be linked. */
static void emit_leave(struct front *f, const struct cold *c)
{
	struct emitter *e = &f->e;
	emit_load(e, SCRATCH_A, rm_field(NATIVE_FIELD(page)));
	emit_lea(e, SCRATCH_A, rm_at(SCRATCH_A, HOST_NONE, 0, (int32_t)c->to));
	emit_store(e, rm_field(R_FIELD(REG_RIP)), SCRATCH_A);
	if (c->kind == COLD_EDGE) {
		enum { LEA_R11_RIP = 0x1d8d4c };
		emit_value(e, LEA_R11_RIP, 3);
		emit_value(e, 0, 4);
		emit_target(e->at - 4, c->site);
		emit_mov_imm(e, SCRATCH_C, (uintptr_t)f->b);
	} else {
		emit_mov_imm(e, SCRATCH_B, 0);
		emit_mov_imm(e, SCRATCH_C, 0);
	}
	emit_jump_to(e, JUMP, f->common->leave);
}

static void emit_colds(struct front *f)
{
	for (unsigned n = 0; n < f->colds; n++) {
		const struct cold *c = &f->cold[n];
		emit_target(c->site, f->e.at);
		switch (c->kind) {
		case COLD_REFILL:
			emit_refill(f, c);
			break;
		case COLD_SLOW:
			emit_interpret(f, c->index, 1);
			emit_jump_to(&f->e, JUMP, f->end[c->index]);
			break;
		default:
			emit_leave(f, c);
		}
	}
}

/* Version as it was and no event: both differences are never negative, so
 * their sum tells. */
static void emit_poll(struct front *f)
{
	struct emitter *e = &f->e;
	const struct block *b = f->b;
	emit_mov_imm(e, SCRATCH_B, (uintptr_t)&f->cpu->memory->version[b->page]);
	emit_op(e, OP_LOAD, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0, 0));
	emit_op(e, OP_LOAD, SCRATCH_C, rm_field(offsetof(struct cpu, events)));
	emit_op(e, OP_LEA | OP_W, SCRATCH_C, rm_at(SCRATCH_C, SCRATCH_B, 0, -(int32_t)b->version));
	front_cold(f, COLD_LEAVE, emit_jump_unless_rcx_zero(e))->to = b->insn[0].at;
}

static void emit_count(struct front *f, unsigned count)
{
	struct rm instructions = rm_field(offsetof(struct cpu, instructions));
	emit_load(&f->e, SCRATCH_B, instructions);
	emit_lea(&f->e, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0, (int32_t)count));
	emit_store(&f->e, instructions, SCRATCH_B);
}

const uint8_t *front_translate(struct front *f, unsigned count, const uint8_t **poll, const uint8_t **body)
{
	const struct block *b = f->b;
	f->colds = f->index = 0;
	if (b->version > INT32_MAX || !read_block(f, count))
		return NULL;
	bool gains = false;
	for (unsigned n = 0; n < count; n++)
		gains |= f->way[n] != WAY_CALL;
	if (!gains)
		return NULL;
	find_liveness(f, count);
	const uint8_t *enter = f->e.at;
	emit_lea(&f->e, SCRATCH_A, rm_at(SCRATCH_A, HOST_NONE, 0, -(int32_t)b->insn[0].at));
	emit_store(&f->e, rm_field(NATIVE_FIELD(page)), SCRATCH_A);
	*poll = f->e.at;
	emit_poll(f);
	*body = f->e.at;
	emit_count(f, count);
	emit_instructions(f, count);
	if (!(b->insn[count - 1].flags & INSN_ENDS_BLOCK)) {
		f->index = count - 1;
		emit_fall(f, b->insn[count - 1].at + b->insn[count - 1].len);
	}
	emit_colds(f);
	return enter;
}
