/* Branches and the stack in translated code.
 *
 * A branch inside the page is a jump that at first leaves (COLD_EDGE) and,
 * when its target is translated, is linked to it (runtime.c). All others look
 * their target up in cpu->native.lookup by linear address; what is not there
 * the interpreter executes, who also raises what a branch may raise. So a
 * lookup comes before anything of the instruction has been done. Everything
 * here leaves the flags alone. */
#include "soft/translate/front.h"

/* --- the stack --- */

bool emit_push(struct front *f, const struct decoded *d)
{
	const ZydisDecodedOperand *op = &d->op[0];
	const struct address top = { .reg = GUEST_RSP, .slot = RSP, .disp = -8 };
	struct emitter *e = &f->e;
	struct address a;
	if (d->zi.operand_width != 64)
		return false;
	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		struct rm at = emit_access(f, &top, 8, true);
		emit_op(e, OP_MOV_IMM | OP_W, 0, at);
		emit_value(e, (uint64_t)op->imm.value.s, 4);
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (!emit_address(f, d, op, &a))
			return false;
		emit_load(e, SCRATCH_C, emit_access(f, &a, 8, false));
		emit_store(e, rm_field(NATIVE_FIELD(saved_value)), SCRATCH_C);
		struct rm at = emit_access(f, &top, 8, true);
		emit_load(e, SCRATCH_C, rm_field(NATIVE_FIELD(saved_value)));
		emit_store(e, at, SCRATCH_C);
	} else if (operand_is_gpr(op)) {
		struct rm at = emit_access(f, &top, 8, true);
		emit_store(e, at, guest_load(f, operand_gpr(op), SCRATCH_C));
	} else
		return false;
	emit_lea(e, GUEST_RSP, rm_at(GUEST_RSP, HOST_NONE, 0, -8));
	return true;
}

bool emit_pop(struct front *f, const struct decoded *d)
{
	const ZydisDecodedOperand *op = &d->op[0];
	const struct address top = { .reg = GUEST_RSP, .slot = RSP };
	if (d->zi.operand_width != 64 || !operand_is_gpr(op) || operand_gpr(op) == RSP)
		return false;
	unsigned guest = operand_gpr(op), host = host_register(guest);
	emit_load(&f->e, host == HOST_NONE ? SCRATCH_C : host, emit_access(f, &top, 8, false));
	if (host == HOST_NONE)
		emit_store(&f->e, rm_field(R_FIELD(guest)), SCRATCH_C);
	emit_lea(&f->e, GUEST_RSP, rm_at(GUEST_RSP, HOST_NONE, 0, 8));
	return true;
}

void emit_leave_insn(struct front *f)
{
	const struct address frame = { .reg = HOST_RBP, .slot = RBP };
	emit_load(&f->e, SCRATCH_C, emit_access(f, &frame, 8, false));
	emit_lea(&f->e, GUEST_RSP, rm_at(HOST_RBP, HOST_NONE, 0, 8));
	emit_mov(&f->e, HOST_RBP, SCRATCH_C);
}

/* --- targets --- */

/* Look up the linear address in A: then its entry is at B * 8 in the table.
 * Where it is not there: the interpreter's turn, or out with RIP at offset
 * `leave_to`. */
static void emit_lookup(struct front *f, int64_t leave_to)
{
	struct emitter *e = &f->e;
	emit_store(e, rm_field(NATIVE_FIELD(target)), SCRATCH_A);
	emit_load(e, SCRATCH_C, rm_field(NATIVE_FIELD(key)));
	emit_lea(e, SCRATCH_A, rm_at(SCRATCH_A, SCRATCH_C, 0, 0));
	emit_pext(e, SCRATCH_B, SCRATCH_A, rm_field(NATIVE_FIELD(lookup_mask)));
	emit_lea(e, SCRATCH_B, rm_at(SCRATCH_B, SCRATCH_B, 0, 0));
	emit_load(e, SCRATCH_C, rm_field_at(SCRATCH_B, 3, NATIVE_FIELD(lookup[0].tag)));
	emit_lea(e, SCRATCH_C, rm_at(SCRATCH_C, SCRATCH_A, 0, 0));
	uint8_t *miss = emit_jump_unless_rcx_zero(e);
	struct cold *c = front_cold(f, leave_to < 0 ? COLD_SLOW : COLD_LEAVE, miss);
	c->to = leave_to;
}

static struct rm looked_up(void)
{
	_Static_assert(sizeof(struct lookup) == 16, "scaled by 2 and by 8");
	return rm_field_at(SCRATCH_B, 3, NATIVE_FIELD(lookup[0].code));
}

static void emit_go(struct front *f, struct rm code)
{
	emit_load(&f->e, SCRATCH_A, rm_field(NATIVE_FIELD(target)));
	emit_op(&f->e, OP_GROUP5, GROUP5_JMP, code);
}

static void emit_in_page(struct front *f, unsigned reg, int64_t to)
{
	emit_load(&f->e, reg, rm_field(NATIVE_FIELD(page)));
	emit_lea(&f->e, reg, rm_at(reg, HOST_NONE, 0, (int32_t)to));
}

static bool inside(int64_t to)
{
	return to >= 0 && to < (int64_t)PAGE_SIZE;
}

static void emit_edge(struct front *f, uint32_t op, int64_t to)
{
	front_cold(f, COLD_EDGE, emit_jump(&f->e, op))->to = to;
}

/* To a place known by its distance. */
static void emit_direct(struct front *f, int64_t to)
{
	if (inside(to)) {
		emit_edge(f, JUMP, to);
		return;
	}
	emit_in_page(f, SCRATCH_A, to);
	emit_lookup(f, -1);
	emit_go(f, looked_up());
}

void emit_fall(struct front *f, unsigned to)
{
	if (inside(to)) {
		emit_edge(f, JUMP, to);
		return;
	}
	emit_in_page(f, SCRATCH_A, to);
	emit_lookup(f, to);
	emit_go(f, looked_up());
}

/* The target of an indirect branch into A. */
static bool emit_indirect(struct front *f, const struct decoded *d)
{
	const ZydisDecodedOperand *op = &d->op[0];
	struct address a;
	if (op->size != 64)
		return false;
	if (operand_is_gpr(op)) {
		unsigned host = guest_load(f, operand_gpr(op), SCRATCH_A);
		if (host != SCRATCH_A)
			emit_mov(&f->e, SCRATCH_A, host);
		return true;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !emit_address(f, d, op, &a))
		return false;
	emit_load(&f->e, SCRATCH_A, emit_access(f, &a, 8, false));
	return true;
}

static void emit_push_return(struct front *f)
{
	const struct address top = { .reg = GUEST_RSP, .slot = RSP, .disp = -8 };
	struct rm at = emit_access(f, &top, 8, true);
	emit_in_page(f, SCRATCH_C, f->next);
	emit_store(&f->e, at, SCRATCH_C);
	emit_lea(&f->e, GUEST_RSP, rm_at(GUEST_RSP, HOST_NONE, 0, -8));
}

static bool emit_call(struct front *f, const struct decoded *d, bool direct, int64_t to)
{
	if (direct && inside(to)) {
		emit_push_return(f);
		emit_edge(f, JUMP, to);
		return true;
	}
	if (direct)
		emit_in_page(f, SCRATCH_A, to);
	else if (!emit_indirect(f, d))
		return false;
	emit_lookup(f, -1);
	emit_load(&f->e, SCRATCH_B, looked_up());
	emit_store(&f->e, rm_field(NATIVE_FIELD(code)), SCRATCH_B);
	emit_push_return(f);
	emit_go(f, rm_field(NATIVE_FIELD(code)));
	return true;
}

static void emit_ret(struct front *f, const struct decoded *d)
{
	const struct address top = { .reg = GUEST_RSP, .slot = RSP };
	int32_t drop = d->zi.operand_count_visible ? (int32_t)d->op[0].imm.value.u : 0;
	emit_load(&f->e, SCRATCH_A, emit_access(f, &top, 8, false));
	emit_lookup(f, -1);
	emit_lea(&f->e, GUEST_RSP, rm_at(GUEST_RSP, HOST_NONE, 0, 8 + drop));
	emit_go(f, looked_up());
}

bool emit_branch(struct front *f, const struct decoded *d, enum way way)
{
	enum { JCC = OP_0F | 0x80 };
	bool direct = d->zi.operand_count_visible && d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	int64_t to = direct ? f->next + d->op[0].imm.value.s : 0;
	unsigned condition = d->zi.opcode & 15;
	if (d->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || to != (int32_t)to)
		return false;
	switch (way) {
	case WAY_JMP:
		if (direct) {
			emit_direct(f, to);
			return true;
		}
		if (!emit_indirect(f, d))
			return false;
		emit_lookup(f, -1);
		emit_go(f, looked_up());
		return true;
	case WAY_JCC:
		if (inside(to)) {
			emit_edge(f, JCC | condition, to);
		} else {
			uint8_t *over = emit_jump(&f->e, JCC | (condition ^ 1));
			emit_direct(f, to);
			emit_target(over, f->e.at);
		}
		emit_fall(f, f->next);
		return true;
	case WAY_CALL_NEAR:
		return emit_call(f, d, direct, to);
	default:
		emit_ret(f, d);
		return true;
	}
}
