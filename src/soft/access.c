/* The slow paths of access.h: TLB misses, page-crossing accesses, device
 * memory, pages that hold code, breakpoints; segment checks; the stack. */
#include "soft/access.h"

#include "base/log.h"
#include "soft/block.h"
#include "soft/engine.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"
#include "x86/paging.h"

static enum tlb_class data_class(const struct cpu *cpu)
{
	return cpu->cpl == 3 ? TLB_USER :
		cpu->cr4 & CR4_SMAP && cpu->sysflags & FLAG_AC ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
}

/* --- data breakpoints (SDM vol. 3, "Debug Registers") --- */

static const uint8_t breakpoint_length[4] = { 1, 2, 8, 4 };

static void breakpoint_check(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	enum { RW_WRITE = 1, RW_ACCESS = 3 };
	for (unsigned n = 0; n < 4; n++) {
		unsigned rw = cpu->dr7 >> (16 + 4 * n) & 3;
		unsigned length = breakpoint_length[cpu->dr7 >> (18 + 4 * n) & 3];
		uint64_t first = cpu->dr[n] & ~(uint64_t)(length - 1);
		if (!(cpu->dr7 >> (2 * n) & 3) || !(rw == RW_ACCESS || (rw == RW_WRITE && write)))
			continue;
		if (linear < first + length && first < linear + size) {
			cpu->db_trap = true;
			cpu->db_bits |= BIT(n);
			atomic_fetch_or_explicit(&cpu->events, EVENT_TRAP, memory_order_relaxed);
		}
	}
}

static void checks(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	if (unlikely(cpu->dr7 & 0xff))
		breakpoint_check(cpu, linear, size, write);
}

/* #AC: only at CPL 3 with CR0.AM and RFLAGS.AC, for a natural size. */
static void alignment_check(struct cpu *cpu, uint64_t linear, unsigned size)
{
	if (unlikely(cpu->tlb != tlb_table(cpu, data_class(cpu)) && linear & (size - 1) & 7))
		raise_error(cpu, EXC_AC, 0);
}

/* --- device memory --- */

static uint64_t device_read(struct cpu *cpu, const struct translation *t, unsigned size)
{
	if (t->apic_page)
		return vtx_apic_access_read(cpu, t->pa & PAGE_OFFSET_MASK, size, false);
	if (!((t->pa ^ lapic_base(cpu->lapic)) & PTE_ADDRESS)) {
		unsigned offset = t->pa & PAGE_OFFSET_MASK;
		uint64_t value = lapic_read(cpu->lapic, offset & ~15u);
		return bits_trim(offset & 12 ? 0 : value >> (8 * (offset & 3)), size);
	}
	return bus_read(cpu->engine->engine.host.bus, BUS_MMIO, t->pa, size);
}

static void device_write(struct cpu *cpu, const struct translation *t, uint64_t value, unsigned size)
{
	if (t->apic_page)
		vtx_apic_access_write(cpu, t->pa & PAGE_OFFSET_MASK, size, value);
	else if (!((t->pa ^ lapic_base(cpu->lapic)) & PTE_ADDRESS)) {
		if (!(t->pa & 15))
			lapic_write(cpu->lapic, t->pa & PAGE_OFFSET_MASK, (uint32_t)value);
	} else
		bus_write(cpu->engine->engine.host.bus, BUS_MMIO, t->pa, size, value);
}

/* --- RAM that may hold code --- */

static void ram_wrote(struct cpu *cpu, const uint8_t *host, unsigned size)
{
	if (memory_wrote_range(cpu->memory, host, size) && cpu->block &&
	    cpu->block->page == memory_page_index(cpu->memory, host))
		block_abandon(cpu);
}

/* An access that begins below the canonical hole may not end in it. */
static void second_page_check(struct cpu *cpu, uint64_t second)
{
	if (unlikely(cpu->mode == MODE_64 && !linear_canonical(second)))
		raise_gp(cpu, 0);
}

static uint64_t class_read(struct cpu *cpu, uint64_t linear, unsigned size, enum tlb_class c)
{
	struct translation t;
	unsigned room = (unsigned)(PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	if (size <= room) {
		translate(cpu, linear, ACCESS_READ, c, &t);
		return t.host ? host_load(t.host, size) : device_read(cpu, &t, size);
	}
	uint64_t value = 0;
	second_page_check(cpu, linear + room);
	for (unsigned n = 0; n < size; n++) {
		if (n == 0 || n == room)
			translate(cpu, linear + n, ACCESS_READ, c, &t);
		uint64_t byte = t.host ? *t.host++ : device_read(cpu, &t, 1);
		t.pa++;
		value |= byte << (8 * n);
	}
	return value;
}

static void class_write(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size,
			enum tlb_class c)
{
	struct translation t, second;
	unsigned room = (unsigned)(PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	if (size > room)
		second_page_check(cpu, linear + room);
	translate(cpu, linear, ACCESS_WRITE, c, &t);
	if (size <= room) {
		if (t.host) {
			host_store(t.host, value, size);
			ram_wrote(cpu, t.host, size);
		} else
			device_write(cpu, &t, value, size);
		return;
	}
	translate(cpu, linear + room, ACCESS_WRITE, c, &second);
	for (unsigned n = 0; n < size; n++) {
		if (n == room)
			t = second;
		if (t.host) {
			*t.host = (uint8_t)(value >> (8 * n));
			ram_wrote(cpu, t.host, 1);
			t.host++;
		} else
			device_write(cpu, &t, value >> (8 * n) & 0xff, 1);
		t.pa++;
	}
}

uint64_t linear_read_slow(struct cpu *cpu, uint64_t linear, unsigned size)
{
	alignment_check(cpu, linear, size);
	uint64_t value = class_read(cpu, linear, size, data_class(cpu));
	checks(cpu, linear, size, false);
	return value;
}

void linear_write_slow(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size)
{
	alignment_check(cpu, linear, size);
	class_write(cpu, linear, value, size, data_class(cpu));
	checks(cpu, linear, size, true);
}

uint64_t system_read(struct cpu *cpu, uint64_t linear, unsigned size)
{
	return class_read(cpu, linear, size, TLB_SUPERVISOR);
}

void system_write(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size)
{
	class_write(cpu, linear, value, size, TLB_SUPERVISOR);
}

/* Copy size bytes at t (all in its page) to or from a buffer. */
static void part_read(struct cpu *cpu, struct translation *t, uint8_t *to, unsigned size)
{
	if (t->host) {
		memcpy(to, t->host, size);
		return;
	}
	while (size) {
		unsigned n = size >= 8 && !(t->pa & 7) ? 8 : size >= 4 && !(t->pa & 3) ? 4 :
			size >= 2 && !(t->pa & 1) ? 2 : 1;
		store_le(to, device_read(cpu, t, n), n);
		t->pa += n;
		to += n;
		size -= n;
	}
}

static void part_write(struct cpu *cpu, struct translation *t, const uint8_t *from, unsigned size)
{
	if (t->host) {
		memcpy(t->host, from, size);
		ram_wrote(cpu, t->host, size);
		return;
	}
	while (size) {
		unsigned n = size >= 8 && !(t->pa & 7) ? 8 : size >= 4 && !(t->pa & 3) ? 4 :
			size >= 2 && !(t->pa & 1) ? 2 : 1;
		device_write(cpu, t, load_le(from, n), n);
		t->pa += n;
		from += n;
		size -= n;
	}
}

static bool wants_lock(const struct cpu *cpu)
{
	return cpu->current->flags & INSN_LOCK || cpu->current->mnemonic == ZYDIS_MNEMONIC_XCHG;
}

void *linear_pointer_slow(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	/* Device registers of vector size are not read before they are written. */
	enum { PRELOAD_MAX = 16 };
	struct translation t, second;
	enum tlb_class c = data_class(cpu);
	enum access access = write ? ACCESS_WRITE : ACCESS_READ;
	unsigned room = (unsigned)(PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	alignment_check(cpu, linear, size);
	checks(cpu, linear, size, write);
	if (size > room)
		second_page_check(cpu, linear + room);
	translate(cpu, linear, access, c, &t);
	if (t.host && size <= room) {
		if (write) {
			cpu->commit.pending = true;
			cpu->commit.wrote = t.host;
			cpu->commit.size = (uint8_t)size;
		}
		return t.host;
	}
	unsigned first = size < room ? size : room;
	if (size > room)
		translate(cpu, linear + room, access, c, &second);
	if (write) {
		if (wants_lock(cpu))
			exclusive_begin(cpu);
		cpu->commit.pending = true;
		cpu->commit.wrote = NULL;
		cpu->commit.size = (uint8_t)size;
		cpu->commit.first = t;
		if (size > room)
			cpu->commit.second = second;
	}
	if (t.host || !write || size <= PRELOAD_MAX)
		part_read(cpu, &t, cpu->bounce, first);
	if (size > room)
		part_read(cpu, &second, cpu->bounce + first, size - first);
	cpu->commit.split = (uint8_t)first;
	return cpu->bounce;
}

void linear_commit_slow(struct cpu *cpu)
{
	cpu->commit.pending = false;
	if (cpu->commit.wrote) {
		ram_wrote(cpu, cpu->commit.wrote, cpu->commit.size);
		return;
	}
	part_write(cpu, &cpu->commit.first, cpu->bounce, cpu->commit.split);
	if (cpu->commit.size > cpu->commit.split)
		part_write(cpu, &cpu->commit.second, cpu->bounce + cpu->commit.split,
			   cpu->commit.size - cpu->commit.split);
	exclusive_end(cpu);
}

/* --- segments --- */

uint64_t logical_to_linear_slow(struct cpu *cpu, enum segment_register s, uint64_t offset,
				unsigned size, bool write)
{
	enum exception e = s == SEG_SS ? EXC_SS : EXC_GP;
	if (cpu->mode == MODE_64) {
		uint64_t linear = offset + (s >= SEG_FS ? cpu->seg[s].base : 0);
		if (!linear_canonical(linear))
			raise_error(cpu, e, 0);
		return linear;
	}
	const struct segment_bounds *b = &cpu->bounds[s];
	uint32_t first = (uint32_t)offset, last = first + (size ? size - 1 : 0);
	if (!(write ? b->writable : b->readable) || first < b->low || last > b->high || last < first)
		raise_error(cpu, e, 0);
	return (uint32_t)(cpu->seg[s].base + first);
}

void segment_bounds_update(struct cpu *cpu, enum segment_register s)
{
	enum { TYPE_CODE = 8, TYPE_EXPAND_DOWN = 4, TYPE_WRITABLE = 2 };
	const struct segment *g = &cpu->seg[s];
	struct segment_bounds *b = &cpu->bounds[s];
	unsigned type = g->access_rights & AR_TYPE;
	*b = (struct segment_bounds){ 0, g->limit, true, true };
	if (!cpu_protected(cpu) || cpu_v86(cpu))
		return;
	if (g->access_rights & AR_UNUSABLE) {
		*b = (struct segment_bounds){ 1, 0, false, false };
	} else if (type & TYPE_CODE) {
		b->readable = type & TYPE_WRITABLE;	/* the same bit is R in code */
		b->writable = false;
	} else {
		b->writable = type & TYPE_WRITABLE;
		if (type & TYPE_EXPAND_DOWN) {
			b->low = g->limit + 1;
			b->high = g->access_rights & AR_DB ? UINT32_MAX : UINT16_MAX;
			if (!b->low)
				*b = (struct segment_bounds){ 1, 0, false, false };
		}
	}
}

/* --- stack --- */

static uint64_t stack_mask(const struct cpu *cpu)
{
	unsigned size = cpu_stack_size(cpu);
	return size == 8 ? ~0ull : size == 4 ? UINT32_MAX : UINT16_MAX;
}

void stack_push_at(struct cpu *cpu, uint64_t *sp, uint64_t value, unsigned size)
{
	uint64_t mask = stack_mask(cpu), next = (*sp & ~mask) | ((*sp - size) & mask);
	linear_write(cpu, logical_to_linear(cpu, SEG_SS, next & mask, size, true), value, size);
	*sp = next;
}

uint64_t stack_pop_at(struct cpu *cpu, uint64_t *sp, unsigned size)
{
	uint64_t mask = stack_mask(cpu);
	uint64_t value = linear_read(cpu, logical_to_linear(cpu, SEG_SS, *sp & mask, size, false), size);
	*sp = (*sp & ~mask) | ((*sp + size) & mask);
	return value;
}

void stack_set(struct cpu *cpu, uint64_t sp)
{
	switch (cpu_stack_size(cpu)) {
	case 8: cpu->r[RSP] = sp; break;
	case 4: cpu->r[RSP] = (uint32_t)sp; break;
	default: cpu->r[RSP] = (cpu->r[RSP] & ~0xffffull) | (sp & 0xffff); break;
	}
}
