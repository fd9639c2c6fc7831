/* The code cache of a processor: where its translations are, what they share,
 * going in and out, and links between them.
 *
 * The cache is one memfd mapped twice, writable at one address and executable
 * at another (W^X). It belongs to one processor, whose thread alone writes and
 * executes it; so linking a jump is a plain store. When it is full, or the
 * blocks' arena is, all code and all blocks go at once.
 *
 * Common routines (R10, R11, RCX are the scratch registers A, B, C):
 *	enter	(code) from C: load the guest's state, go
 *	leave	B the jump that left or 0, C its block or 0: store the state,
 *		return to C
 *	slow	A block, C what: store the state, call interpret(); then load it
 *		and return, or go back to C
 *	refill	A linear address, C slot | (size - 1) << 16: find the page in the
 *		TLB's table, copy the entry to the slot, return the addend in B; or
 *		return 5 bytes later, behind the caller's jump */
#include "soft/translate/front.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/flags.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CACHE_BYTES = 64 << 20, HEAT = 24 };

struct translator {
	uint8_t *write;		/* the two views */
	const uint8_t *exec;
	size_t used, common_used;
	struct common common;
	struct front front;
};

static const uint8_t *executable(const struct translator *t, const uint8_t *written)
{
	return t->exec + (written - t->write);
}

/* --- common routines --- */

enum { ADD_AL_IMM = 0x04, SAHF = 0x9e, LAHF = 0x9f, SETO = OP_0F | 0x90, RET_NEAR = 0xc3,
	PUSH_REG = 0x50, POP_REG = 0x58, CALL_INDIRECT = 2, OVERFLOWING = 127 };

static void emit_flags_store(struct emitter *e, size_t field)
{
	emit_plain(e, LAHF);
	emit_op(e, SETO, 0, rm_reg(HOST_RAX));
	emit_op(e, OP_STORE | OP_66, HOST_RAX, rm_field(field));
}

static void emit_flags_load(struct emitter *e, size_t field)
{
	emit_op(e, OP_MOVZX_WORD, HOST_RAX, rm_field(field));
	emit_plain(e, ADD_AL_IMM);
	emit_byte(e, OVERFLOWING);
	emit_plain(e, SAHF);
}

static void emit_state_store(struct emitter *e)
{
	for (unsigned n = 0; n < 16; n++)
		if (host_register(n) != HOST_NONE)
			emit_store(e, rm_field(R_FIELD(n)), host_register(n));
	emit_flags_store(e, offsetof(struct cpu, arith));
}

static void emit_state_load(struct emitter *e)
{
	emit_flags_load(e, offsetof(struct cpu, arith));
	for (unsigned n = 0; n < 16; n++)
		if (host_register(n) != HOST_NONE)
			emit_load(e, host_register(n), rm_field(R_FIELD(n)));
}

static const uint8_t preserved[] = { HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15 };

static void emit_rsp_add(struct emitter *e, int n)
{
	emit_lea(e, HOST_RSP, rm_at(HOST_RSP, HOST_NONE, 0, n));
}

static uint8_t *emit_enter_routine(struct emitter *e)
{
	uint8_t *at = e->at;
	for (unsigned n = 0; n < ARRAY_SIZE(preserved); n++)
		emit_op_reg(e, PUSH_REG, preserved[n]);
	emit_rsp_add(e, -8);
	emit_store(e, rm_field(NATIVE_FIELD(code)), HOST_RDI);
	emit_state_load(e);
	emit_load(e, SCRATCH_A, rm_field(R_FIELD(REG_RIP)));
	emit_op(e, OP_GROUP5, GROUP5_JMP, rm_field(NATIVE_FIELD(code)));
	return at;
}

static void emit_return_to_c(struct emitter *e)
{
	emit_rsp_add(e, 8);
	for (unsigned n = ARRAY_SIZE(preserved); n-- > 0;)
		emit_op_reg(e, POP_REG, preserved[n]);
	emit_plain(e, RET_NEAR);
}

static uint8_t *emit_leave_routine(struct emitter *e)
{
	uint8_t *at = e->at;
	emit_store(e, rm_field(NATIVE_FIELD(edge)), SCRATCH_B);
	emit_store(e, rm_field(NATIVE_FIELD(last)), SCRATCH_C);
	emit_state_store(e);
	emit_return_to_c(e);
	return at;
}

static bool interpret(struct cpu *cpu, struct block *b, uint32_t what);

static uint8_t *emit_slow_routine(struct emitter *e)
{
	uint8_t *at = e->at;
	emit_state_store(e);
	emit_load(e, HOST_RDI, rm_field(NATIVE_FIELD(self)));
	emit_mov(e, HOST_RSI, SCRATCH_A);
	emit_mov(e, HOST_RDX, SCRATCH_C);
	emit_rsp_add(e, -8);
	emit_mov_imm(e, HOST_RAX, (uintptr_t)interpret);
	emit_op(e, OP_GROUP5, CALL_INDIRECT, rm_reg(HOST_RAX));
	emit_rsp_add(e, 8);
	emit_op(e, OP_TEST_BYTE, HOST_RAX, rm_reg(HOST_RAX));
	uint8_t *out = emit_jump(e, JUMP_NE);
	emit_state_load(e);
	emit_plain(e, RET_NEAR);
	emit_target(out, e->at);
	emit_rsp_add(e, 8);
	emit_return_to_c(e);
	return at;
}

static uint8_t *emit_refill_routine(struct emitter *e, size_t tag)
{
	enum { PAGE_TO_ENTRY = PAGE_SHIFT - 5, ENTRY_MASK = (TLB_ENTRIES - 1) << 5, HIT_JUMP = 5 };
	_Static_assert(sizeof(struct tlb_entry) == 1 << 5, "shifted by that");
	uint8_t *at = e->at;
	emit_store(e, rm_field(NATIVE_FIELD(saved_rax)), HOST_RAX);
	emit_flags_store(e, NATIVE_FIELD(saved_flags));
	/* The page of the last byte. */
	emit_op(e, OP_LOAD, HOST_RAX, rm_reg(SCRATCH_C));
	emit_op(e, OP_SHIFT_IMM, SHIFT_SHR, rm_reg(HOST_RAX));
	emit_byte(e, 16);
	emit_lea(e, HOST_RAX, rm_at(HOST_RAX, SCRATCH_A, 0, 0));
	emit_op(e, OP_GROUP1_IMM | OP_W, GROUP1_AND, rm_reg(HOST_RAX));
	emit_value(e, (uint32_t)~PAGE_OFFSET_MASK, 4);
	emit_op(e, OP_MOVZX_WORD, SCRATCH_C, rm_reg(SCRATCH_C));
	emit_mov(e, SCRATCH_B, SCRATCH_A);
	emit_op(e, OP_SHIFT_IMM | OP_W, SHIFT_SHR, rm_reg(SCRATCH_B));
	emit_byte(e, PAGE_TO_ENTRY);
	emit_op(e, OP_GROUP1_IMM, GROUP1_AND, rm_reg(SCRATCH_B));
	emit_value(e, ENTRY_MASK, 4);
	emit_op(e, OP_ADD_LOAD | OP_W, SCRATCH_B, rm_field(offsetof(struct cpu, tlb)));
	emit_op(e, OP_CMP_LOAD | OP_W, HOST_RAX, rm_at(SCRATCH_B, HOST_NONE, 0, (int32_t)tag));
	uint8_t *miss = emit_jump(e, JUMP_NE);
	emit_op(e, OP_ADD_LOAD | OP_W, SCRATCH_C, rm_field(offsetof(struct cpu, tlb)));
	for (int32_t n = 0; n < (int32_t)sizeof(struct tlb_entry); n += 16) {
		emit_op(e, OP_MOVUPS_LOAD, 0, rm_at(SCRATCH_B, HOST_NONE, 0, n));
		emit_op(e, OP_MOVUPS_STORE, 0, rm_at(SCRATCH_C, HOST_NONE, 0, n));
	}
	emit_load(e, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0, offsetof(struct tlb_entry, addend)));
	uint8_t *done = e->at;
	emit_flags_load(e, NATIVE_FIELD(saved_flags));
	emit_load(e, HOST_RAX, rm_field(NATIVE_FIELD(saved_rax)));
	emit_plain(e, RET_NEAR);
	emit_target(miss, e->at);
	emit_op(e, OP_GROUP1_IMM8 | OP_W, GROUP1_ADD, rm_at(HOST_RSP, HOST_NONE, 0, 0));
	emit_byte(e, HIT_JUMP);
	emit_jump_to(e, JUMP, done);
	return at;
}

static void common_emit(struct translator *t)
{
	struct emitter e = { t->write };
	t->common = (struct common){
		.enter = executable(t, emit_enter_routine(&e)),
		.leave = emit_leave_routine(&e),
		.slow = emit_slow_routine(&e),
		.refill_read = emit_refill_routine(&e, offsetof(struct tlb_entry, read)),
		.refill_write = emit_refill_routine(&e, offsetof(struct tlb_entry, write)),
	};
	t->used = t->common_used = align_up((uint64_t)(e.at - t->write), 64);
}

/* --- life --- */

static int cache_map(struct translator *t, struct error *e)
{
	int fd = memfd_create("nestor-code", MFD_CLOEXEC);
	bool ok = fd >= 0 && !ftruncate(fd, CACHE_BYTES);
	void *write = MAP_FAILED, *exec = MAP_FAILED;
	if (ok) {
		write = mmap(NULL, CACHE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
		exec = mmap(NULL, CACHE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
	}
	int why = errno;
	if (fd >= 0)
		close(fd);
	if (write != MAP_FAILED && exec != MAP_FAILED) {
		t->write = write;
		t->exec = exec;
		return 0;
	}
	if (write != MAP_FAILED)
		munmap(write, CACHE_BYTES);
	if (exec != MAP_FAILED)
		munmap(exec, CACHE_BYTES);
	return error_set(e, STATUS_ENGINE, "The host gives no executable memory for translated code (%d MiB of a memfd: %s); allow it, or use --engine-options interpret.",
			 CACHE_BYTES >> 20, strerror(why));
}

int translator_create(struct cpu *cpu, struct error *e)
{
	struct translator *t = alloc_zeroed(1, sizeof *t);
	if (cache_map(t, e)) {
		free(t);
		return -1;
	}
	cpu->native.self = cpu;
	for (unsigned n = 0; n < ARRAY_SIZE(cpu->native.slot_mask); n++)
		cpu->native.slot_mask[n] = slot_mask(1u << n);
	cpu->native.lookup_mask = BITS(LOOKUP_RIP_SHIFT + LOOKUP_RIP_BITS - 1, LOOKUP_RIP_SHIFT) |
		BITS(LOOKUP_REGIME_SHIFT + LOOKUP_REGIME_BITS - 1, LOOKUP_REGIME_SHIFT);
	common_emit(t);
	t->front.cpu = cpu;
	t->front.common = &t->common;
	t->front.lockstep = cpu->engine->options.lockstep;
	cpu->translator = t;
	return 0;
}

void translator_destroy(struct cpu *cpu)
{
	struct translator *t = cpu->translator;
	if (!t)
		return;
	munmap(t->write, CACHE_BYTES);
	munmap((void *)(uintptr_t)t->exec, CACHE_BYTES);
	free(t);
	cpu->translator = NULL;
}

void translate_forget(struct cpu *cpu)
{
	memset(cpu->native.lookup, 0, sizeof cpu->native.lookup);
}

void translator_empty(struct cpu *cpu)
{
	translate_forget(cpu);
	cpu->native.edge = NULL;
	cpu->native.last = NULL;
	if (cpu->translator)
		cpu->translator->used = cpu->translator->common_used;
}

void translate_thread_enter(struct cpu *cpu)
{
	if (cpu->translator && syscall(SYS_arch_prctl, ARCH_SET_GS, cpu))
		panic("arch_prctl(ARCH_SET_GS): %s", strerror(errno));
}

/* --- translating --- */

bool translate_warm(struct cpu *cpu, struct block *b)
{
	struct translator *t = cpu->translator;
	const uint8_t *poll, *body;
	if (!t || b->heat > HEAT || ++b->heat != (cpu->engine->options.eager ? 1 : HEAT) ||
	    (b->key & 3) != MODE_64 || b->abandoned)
		return true;
	if (t->used + TRANSLATION_MAX > CACHE_BYTES) {
		block_cache_empty(cpu);
		return false;
	}
	t->front.b = b;
	t->front.e.at = t->write + t->used;
	const uint8_t *enter = front_translate(&t->front, b->count, &poll, &body);
	if (!enter)
		return true;
	if ((size_t)(t->front.e.at - enter) > TRANSLATION_MAX)
		panic("a translation of more than %d bytes", TRANSLATION_MAX);
	t->used = align_up((uint64_t)(t->front.e.at - t->write), 16);
	b->enter = executable(t, enter);
	b->poll = executable(t, poll);
	b->body = executable(t, body);
	return true;
}

bool translate_first(struct cpu *cpu, const struct block *b)
{
	struct translator *t = cpu->translator;
	const uint8_t *poll, *body, *enter;
	translate_thread_enter(cpu);
	t->front.b = (struct block *)(uintptr_t)b;
	t->front.e.at = t->write + t->common_used;
	enter = front_translate(&t->front, 1, &poll, &body);
	if (enter)
		translate_enter(cpu, executable(t, enter));
	return enter;
}

/* --- running --- */

/* What translated code leaves to the interpreter: `what` has the index of the
 * first instruction and, above, their number. True: go back to the loop. */
static bool interpret(struct cpu *cpu, struct block *b, uint32_t what)
{
	unsigned k = what & ASK_INDEX, n = what >> ASK_COUNT_SHIFT & ASK_COUNT, end = k + n;
	uint32_t dead = what >> ASK_DEAD_SHIFT;
	cpu->native.edge = NULL;
	cpu->native.last = NULL;
	cpu->native.flags_dead = dead & ASK_OF ? (dead & ~(uint32_t)ASK_OF) | FLAG_OF : dead;
	cpu->r[REG_RIP] = cpu->native.page + b->insn[k].at;
	cpu->block = b;
	for (; k < end; k++)
		insn_execute(cpu, &b->insn[k]);
	cpu->block = NULL;
	if (n && k < b->count && !b->abandoned && !(atomic_load_explicit(&cpu->events, memory_order_relaxed) |
						   cpu->inhibit | cpu->step | cpu->activity))
		return false;
	cpu->instructions -= b->count - k;
	return true;
}

void translate_enter(struct cpu *cpu, const uint8_t *code)
{
	void (*enter)(const uint8_t *);
	memcpy(&enter, &cpu->translator->common.enter, sizeof enter);
	cpu->native.active = true;
	enter(code);
	cpu->native.active = false;
}

void translate_unwound(struct cpu *cpu, const struct block *b)
{
	if (cpu->native.replayed)
		lockstep_raised(cpu);
	if (!cpu->native.active)
		return;
	cpu->native.active = false;
	cpu->native.edge = NULL;
	cpu->native.last = NULL;
	cpu->instructions -= b->count;	/* all were counted beforehand */
}

/* Let the jump at `edge`, in last, go to b: both are of one version of a page.
 * Jumps backward go where events are looked for. */
static void link_blocks(struct cpu *cpu, const struct block *last, const struct block *b)
{
	struct translator *t = cpu->translator;
	if (b->page != last->page || b->version != last->version || !block_fresh(cpu, last))
		return;
	const uint8_t *to = b->insn[0].at <= last->insn[0].at ? b->poll : b->body;
	emit_target(t->write + (cpu->native.edge - t->exec), t->write + (to - t->exec));
}

struct block *translate_run(struct cpu *cpu, struct block *b, struct block *last)
{
	if (unlikely(cpu->translator->front.lockstep)) {
		lockstep_run(cpu, b);
		return NULL;
	}
	if (last && cpu->native.edge && last == cpu->native.last)
		link_blocks(cpu, last, b);
	uint64_t where = cpu->r[REG_RIP] + cpu->native.key;
	unsigned n = (unsigned)((where >> LOOKUP_RIP_SHIFT & BITS(LOOKUP_RIP_BITS - 1, 0)) |
		(where >> LOOKUP_REGIME_SHIFT & BITS(LOOKUP_REGIME_BITS - 1, 0)) << LOOKUP_RIP_BITS);
	cpu->native.lookup[n] = (struct lookup){ -where, b->enter };
	translate_enter(cpu, b->enter);
	return cpu->native.last;
}
