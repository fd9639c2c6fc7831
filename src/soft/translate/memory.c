/* Guest memory in translated code.
 *
 * Behind each TLB table (tlb_table) stand slots: copies of the entries that
 * served last for an address formed from a certain base register, relative to
 * RIP, absolutely, or through FS or GS. Code looks at its slot first, inline;
 * at the table in a common routine (runtime.c), which then refills the slot;
 * and calls the interpreter's function for the instruction when neither
 * serves. A slot is dropped with the entries, so it needs no rule of its own.
 *
 * A slot serves what is aligned to its size: the table is found by the first
 * byte's page and checked with the last one's, which tells an access that
 * crosses pages; a slot is not found by address, and could not tell.
 *
 * The inline check has two forms: with CMP where the guest's arithmetic flags,
 * which are the host's, are not needed any more; with PEXT, PDEP, NOT, LEA and
 * JRCXZ, which leave them alone, where they are. Of an access that faults in the first
 * form the flags that the next instructions would overwrite unread are pushed
 * as they happen to be (engine option precise-flags: never the first form). */
#include "soft/translate/front.h"

#include "soft/engine.h"

enum { SLOT_RIP = 16, SLOT_ABSOLUTE, SLOT_SEGMENT, SLOTS };
_Static_assert(SLOTS == TLB_SLOTS, "slots behind a table");

static bool fits(int64_t v)
{
	enum { ROOM = 64 };	/* an operand's size is added to it */
	return v >= INT32_MIN && v <= INT32_MAX - ROOM;
}

static unsigned register_of(ZydisRegister r)
{
	return (unsigned)ZydisRegisterGetId(r);
}

/* The offset in the segment, in a host register plus displacement. */
static bool emit_offset(struct front *f, const struct decoded *d, const ZydisDecodedOperand *op,
			struct address *a)
{
	struct emitter *e = &f->e;
	int64_t disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
	bool narrow = d->zi.address_width == 32;
	*a = (struct address){ .reg = SCRATCH_A, .slot = SLOT_ABSOLUTE };
	if (op->mem.base == ZYDIS_REGISTER_RIP) {
		a->slot = SLOT_RIP;
		a->disp = (int32_t)(disp + f->next);
		emit_load(e, SCRATCH_A, rm_field(NATIVE_FIELD(page)));
		return fits(disp + f->next);
	}
	if (op->mem.base == ZYDIS_REGISTER_EIP || d->zi.address_width == 16 || !fits(disp))
		return false;
	unsigned base = HOST_NONE, index = HOST_NONE;
	if (op->mem.base != ZYDIS_REGISTER_NONE) {
		a->slot = (uint8_t)register_of(op->mem.base);
		base = guest_load(f, a->slot, SCRATCH_A);
	}
	if (op->mem.index != ZYDIS_REGISTER_NONE)
		index = guest_load(f, register_of(op->mem.index), SCRATCH_B);
	if (base == HOST_NONE && index == HOST_NONE) {
		emit_mov_imm(e, SCRATCH_A, narrow ? (uint32_t)disp : (uint64_t)disp);
		return true;
	}
	if (index == HOST_NONE && !narrow) {
		a->reg = (uint8_t)base;
		a->disp = (int32_t)disp;
		return true;
	}
	unsigned scale = index == HOST_NONE ? 0 : (unsigned)__builtin_ctz(op->mem.scale);
	emit_op(e, OP_LEA | (narrow ? 0 : OP_W), SCRATCH_A, rm_at(base, index, scale, (int32_t)disp));
	return true;
}

bool emit_address(struct front *f, const struct decoded *d, const ZydisDecodedOperand *op,
		  struct address *a)
{
	if (!emit_offset(f, d, op, a))
		return false;
	ZydisRegister s = op->mem.segment;
	if (s != ZYDIS_REGISTER_FS && s != ZYDIS_REGISTER_GS)
		return true;
	size_t base = offsetof(struct cpu, seg) +
		(s == ZYDIS_REGISTER_FS ? SEG_FS : SEG_GS) * sizeof(struct segment) +
		offsetof(struct segment, base);
	emit_load(&f->e, SCRATCH_B, rm_field(base));
	emit_op(&f->e, OP_LEA | OP_W, SCRATCH_A, rm_at(a->reg, SCRATCH_B, 0, a->disp));
	*a = (struct address){ .reg = SCRATCH_A, .slot = SLOT_SEGMENT };
	return true;
}

/* Note address, old value and size of what the next instruction stores to. */
static struct rm emit_undo(struct front *f, struct rm at, unsigned size)
{
	struct emitter *e = &f->e;
	static const uint32_t load[9] = {
		[1] = OP_MOVZX_BYTE, [2] = OP_MOVZX_WORD, [4] = OP_LOAD, [8] = OP_LOAD | OP_W,
	};
	emit_op(e, OP_LEA | OP_W, SCRATCH_A, at);
	emit_load(e, SCRATCH_B, rm_field(NATIVE_FIELD(undo)));
	emit_store(e, rm_at(SCRATCH_B, HOST_NONE, 0, offsetof(struct undo, host)), SCRATCH_A);
	emit_op(e, load[size], SCRATCH_C, rm_at(SCRATCH_A, HOST_NONE, 0, 0));
	emit_store(e, rm_at(SCRATCH_B, HOST_NONE, 0, offsetof(struct undo, value)), SCRATCH_C);
	emit_mov_imm(e, SCRATCH_C, size);
	emit_store(e, rm_at(SCRATCH_B, HOST_NONE, 0, offsetof(struct undo, size)), SCRATCH_C);
	emit_op(e, OP_LEA | OP_W, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0, sizeof(struct undo)));
	emit_store(e, rm_field(NATIVE_FIELD(undo)), SCRATCH_B);
	return rm_at(SCRATCH_A, HOST_NONE, 0, 0);
}

struct rm emit_access(struct front *f, const struct address *a, unsigned size, bool write)
{
	struct emitter *e = &f->e;
	bool live = f->flags_live[f->index] != 0;
	int32_t entry = (int32_t)((TLB_ENTRIES + a->slot) * sizeof(struct tlb_entry));
	int32_t tag = entry + (int32_t)(write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read));
	emit_load(e, SCRATCH_B, rm_field(offsetof(struct cpu, tlb)));
	emit_lea(e, SCRATCH_C, rm_at(a->reg, HOST_NONE, 0, a->disp));
	uint8_t *miss;
	if (live) {
		struct rm mask = rm_field(NATIVE_FIELD(slot_mask) + sizeof(uint64_t) * (unsigned)__builtin_ctz(size));
		emit_pext(e, SCRATCH_C, SCRATCH_C, mask);
		emit_pdep(e, SCRATCH_C, SCRATCH_C, mask);
		emit_op(e, OP_GROUP3 | OP_W, GROUP3_NOT, rm_reg(SCRATCH_C));
		emit_load(e, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0, tag));
		emit_op(e, OP_LEA | OP_W, SCRATCH_C, rm_at(SCRATCH_C, SCRATCH_B, 0, 1));
		miss = emit_jump_unless_rcx_zero(e);
		emit_load(e, SCRATCH_B, rm_field(offsetof(struct cpu, tlb)));
	} else {
		emit_op(e, OP_GROUP1_IMM | OP_W, GROUP1_AND, rm_reg(SCRATCH_C));
		emit_value(e, (uint32_t)slot_mask(size), 4);
		emit_op(e, OP_CMP_LOAD | OP_W, SCRATCH_C, rm_at(SCRATCH_B, HOST_NONE, 0, tag));
		miss = emit_jump(e, JUMP_NE);
	}
	emit_load(e, SCRATCH_B, rm_at(SCRATCH_B, HOST_NONE, 0,
				      entry + (int32_t)offsetof(struct tlb_entry, addend)));
	struct cold *c = front_cold(f, COLD_REFILL, miss);
	c->back = e->at;
	c->reg = a->reg;
	c->disp = a->disp;
	c->slot = a->slot;
	c->size = (uint8_t)size;
	c->write = write;
	struct rm at = rm_at(a->reg, SCRATCH_B, 0, a->disp);
	return f->lockstep && write ? emit_undo(f, at, size) : at;
}
