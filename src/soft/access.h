/* Guest memory as instructions see it: linear and logical accesses.
 *
 * The fast path is one compare: entry for the first byte's page against the
 * last byte's page, so an access that crosses a page never hits. Everything
 * else (miss, crossing, device memory, pages that hold code, breakpoints) goes
 * through the *_slow functions in access.c. All of them may raise #PF, EPT
 * violations etc. and then do not return. Host pointers stay valid until the
 * instruction ends. */
#ifndef NESTOR_SOFT_ACCESS_H
#define NESTOR_SOFT_ACCESS_H

#include "soft/cpu.h"
#include "x86/paging.h"

/* What linear_read, linear_write, linear_pointer and linear_commit below do
 * when the fast path does not serve. */
uint64_t linear_read_slow(struct cpu *cpu, uint64_t linear, unsigned size);
void linear_write_slow(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size);
void *linear_pointer_slow(struct cpu *cpu, uint64_t linear, unsigned size, bool write);
void linear_commit_slow(struct cpu *cpu);

static inline struct tlb_entry *tlb_entry_for(struct cpu *cpu, uint64_t linear)
{
	return &cpu->tlb[linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
}

/* size: 1, 2, 4, 8 */
static inline uint64_t linear_read(struct cpu *cpu, uint64_t linear, unsigned size)
{
	struct tlb_entry *e = tlb_entry_for(cpu, linear);
	if (likely(e->read == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
		return host_load((const void *)(linear + e->addend), size);
	return linear_read_slow(cpu, linear, size);
}

static inline void linear_write(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size)
{
	struct tlb_entry *e = tlb_entry_for(cpu, linear);
	if (likely(e->write == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
		host_store((void *)(linear + e->addend), value, size);
	else
		linear_write_slow(cpu, linear, value, size);
}

/* A host address at which `size` (1..64) bytes can be read: guest RAM itself,
 * or cpu->bounce with a copy. */
static inline const void *linear_read_pointer(struct cpu *cpu, uint64_t linear, unsigned size)
{
	struct tlb_entry *e = tlb_entry_for(cpu, linear);
	if (likely(e->read == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
		return (const void *)(linear + e->addend);
	return linear_pointer_slow(cpu, linear, size, false);
}

/* The same for read-modify-write or plain writes: write permission is checked
 * first (a fault has W=1), the old bytes are there. After the store, call
 * linear_commit() with no fault possible in between. When the pointer is
 * guest RAM the operation on it is atomic if the host instruction is; when it
 * is the bounce buffer (page-crossing or device) it is made alone with all
 * other processors parked if the instruction has a LOCK prefix
 * (cpu->current->flags & INSN_LOCK) or is XCHG with memory. */
static inline void *linear_write_pointer(struct cpu *cpu, uint64_t linear, unsigned size)
{
	struct tlb_entry *e = tlb_entry_for(cpu, linear);
	if (likely(e->write == ((linear + size - 1) & ~PAGE_OFFSET_MASK)))
		return (void *)(linear + e->addend);
	return linear_pointer_slow(cpu, linear, size, true);
}

static inline void linear_commit(struct cpu *cpu)
{
	if (unlikely(cpu->commit.pending))
		linear_commit_slow(cpu);
}

/* Logical to linear, with limit, type, canonical checks; #GP(0)/#SS(0). */
uint64_t logical_to_linear_slow(struct cpu *cpu, enum segment_register s, uint64_t offset,
				unsigned size, bool write);

static inline uint64_t logical_to_linear(struct cpu *cpu, enum segment_register s, uint64_t offset,
					 unsigned size, bool write)
{
	if (likely(cpu->mode == MODE_64 && s < SEG_FS && linear_canonical(offset)))
		return offset;
	return logical_to_linear_slow(cpu, s, offset, size, write);
}

/* Effective address (offset in the segment) of the memory operand. */
static inline uint64_t insn_offset(const struct cpu *cpu, const struct insn *i)
{
	uint64_t offset = cpu->r[i->base] + (cpu->r[i->index] << i->scale) + (uint64_t)i->disp;
	if (likely(i->address_size == 8))
		return offset;
	return i->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* Linear address of the memory operand, checked for an access of `size` bytes. */
static inline uint64_t insn_linear(struct cpu *cpu, const struct insn *i, unsigned size, bool write)
{
	return logical_to_linear(cpu, i->seg, insn_offset(cpu, i), size, write);
}

/* Stack in its current width and segment: pushes do not move RSP until the
 * store is done. `sp` variants work on a copy of RSP for instructions that
 * push or pop several times and may fault in between. */
void stack_push_at(struct cpu *cpu, uint64_t *sp, uint64_t value, unsigned size);
uint64_t stack_pop_at(struct cpu *cpu, uint64_t *sp, unsigned size);
/* Write *sp back to RSP in the stack's width. */
void stack_set(struct cpu *cpu, uint64_t sp);

/* Accesses of the processor itself: descriptor tables, TSS, always supervisor. */
uint64_t system_read(struct cpu *cpu, uint64_t linear, unsigned size);
void system_write(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size);

#endif
