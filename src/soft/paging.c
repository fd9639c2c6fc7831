/* Linear to physical: the page walk (SDM vol. 3, "Paging"), with EPT under it
 * in VMX non-root operation, and the filling of the TLB.
 *
 * One walk serves 32-bit, PAE and 4-level paging: a table says how many
 * levels, how wide an entry and which levels may end in a large page. Rights
 * are the AND of all levels; they are turned into what the class of access may
 * do only at the end, so that one walk can fill reads, writes and fetches. */
#include "base/log.h"
#include "soft/access.h"
#include "soft/engine.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"
#include "x86/paging.h"

/* A guest-physical address of the running software to RAM or device. `l1` is
 * what L1 (or the only level) calls physical. */
struct physical {
	uint64_t pa;
	bool read, write, execute, dirty;
	uint8_t page_shift;
};

static void physical_translate(struct cpu *cpu, uint64_t gpa, enum access access, uint64_t linear,
			       bool structure, struct physical *out)
{
	if (cpu->nonroot && vtx_ept_enabled(cpu)) {
		struct ept_translation t;
		ept_translate(cpu, gpa, access, true, linear, structure, &t);
		*out = (struct physical){ t.pa, t.read, t.write, t.execute, t.dirty, t.page_shift };
	} else
		*out = (struct physical){ gpa, true, true, true, true, 30 };
}

/* What the walk found. */
struct walk {
	uint64_t gpa;		/* of the byte */
	bool writable, user, no_execute;
	bool dirty;		/* D is set in the leaf */
	uint8_t page_shift;
};

/* Paging-structure entry at gpa, as a host word; NULL when it is no RAM. */
static void *entry_host(struct cpu *cpu, uint64_t gpa, uint64_t linear, bool write)
{
	struct physical p;
	physical_translate(cpu, gpa, write ? ACCESS_WRITE : ACCESS_READ, linear, true, &p);
	return memory_host(cpu->memory, p.pa);
}

/* Set bits in an entry, if it still is what was read; false: walk again. */
static bool entry_set(struct cpu *cpu, uint64_t gpa, uint64_t linear, unsigned width,
		      uint64_t old, uint64_t set)
{
	if ((old & set) == set)
		return true;
	void *host = entry_host(cpu, gpa, linear, true);
	bool done;
	if (!host)
		return false;	/* another processor has moved it by EPT since it was read */
	if (width == 8) {
		uint64_t expected = old;
		done = __atomic_compare_exchange_n((uint64_t *)host, &expected, old | set, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	} else {
		uint32_t expected = (uint32_t)old;
		done = __atomic_compare_exchange_n((uint32_t *)host, &expected,
						   (uint32_t)(old | set), false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
	if (done)
		memory_wrote_range(cpu->memory, host, width);
	return done;
}

static _Noreturn void fault(struct cpu *cpu, uint64_t linear, enum access access,
			    enum tlb_class tlb_class, uint32_t bits)
{
	uint32_t error = bits;
	if (access == ACCESS_WRITE)
		error |= PF_W;
	if (tlb_class == TLB_USER)
		error |= PF_U;
	if (access == ACCESS_EXECUTE && (cpu->efer & EFER_NXE || cpu->cr4 & CR4_SMEP))
		error |= PF_I;
	raise_page_fault(cpu, linear, error);
}

struct paging_format {
	uint8_t levels;
	uint8_t width;			/* bytes per entry */
	uint8_t shift[4];		/* page shift of level n's entries, leaf level first */
	uint8_t index_bits[4];
};

static const struct paging_format format_32 = { 2, 4, { 12, 22 }, { 10, 10 } };
static const struct paging_format format_pae = { 2, 8, { 12, 21 }, { 9, 9 } };
static const struct paging_format format_4level = { 4, 8, { 12, 21, 30, 39 }, { 9, 9, 9, 9 } };

/* Reserved bits of an entry that is present. */
static uint64_t reserved_bits(const struct cpu *cpu, const struct paging_format *f, unsigned level,
			      bool large)
{
	uint64_t reserved = 0;
	if (f->width == 4)	/* PSE-36: bits 20:13 carry address bits 39:32, 21 is reserved */
		return large ? BIT(21) : 0;
	reserved = f == &format_pae ? BITS(62, PHYSICAL_BITS) : PTE_RESERVED;
	if (!(cpu->efer & EFER_NXE))
		reserved |= PTE_XD;
	if (large)
		reserved |= BITS(f->shift[level] - 1, 13);
	else if (level == 3)
		reserved |= PTE_PS;
	return reserved;
}

static bool may_be_large(const struct cpu *cpu, const struct paging_format *f, unsigned level)
{
	if (level == 0)
		return false;
	if (f == &format_32)
		return cpu->cr4 & CR4_PSE;
	return level < 3;
}

static uint64_t leaf_address(const struct paging_format *f, uint64_t entry, unsigned level)
{
	if (f->width == 8)
		return entry & PTE_ADDRESS & ~(BIT(f->shift[level]) - 1);
	if (level == 0)
		return entry & BITS(31, 12);
	return (entry & BITS(31, 22)) | bits_get(entry, 20, 13) << 32;
}

/* The class's rights on what a walk found. */
static bool allowed(const struct cpu *cpu, const struct walk *w, enum access access,
		    enum tlb_class tlb_class)
{
	if (tlb_class == TLB_USER) {
		if (!w->user)
			return false;
		return access == ACCESS_READ || (access == ACCESS_WRITE ? w->writable : !w->no_execute);
	}
	if (access == ACCESS_EXECUTE)
		return !w->no_execute && !(w->user && cpu->cr4 & CR4_SMEP);
	if (w->user && cpu->cr4 & CR4_SMAP && tlb_class != TLB_SUPERVISOR_AC)
		return false;
	return access == ACCESS_READ || w->writable || !(cpu->cr0 & CR0_WP);
}

/* One try of the walk; false: an entry changed under it, try again. */
static bool walk(struct cpu *cpu, uint64_t linear, enum access access, enum tlb_class tlb_class,
		 struct walk *w)
{
	const struct paging_format *f = cpu_long_mode(cpu) ? &format_4level :
		cpu->cr4 & CR4_PAE ? &format_pae : &format_32;
	uint64_t table;
	*w = (struct walk){ .writable = true, .user = true };
	if (f == &format_pae) {
		table = cpu->pdpte[linear >> 30 & 3];
		if (!(table & PTE_P))
			fault(cpu, linear, access, tlb_class, 0);
		table &= PTE_ADDRESS;
	} else if (f == &format_32)
		table = cpu->cr3 & BITS(31, 12);
	else
		table = cpu->cr3 & PTE_ADDRESS;

	struct { uint64_t gpa, entry; } seen[4];
	unsigned level = f->levels;
	while (level--) {
		unsigned index = (unsigned)(linear >> f->shift[level]) & ((1u << f->index_bits[level]) - 1);
		uint64_t gpa = table + (uint64_t)index * f->width;
		const void *host = entry_host(cpu, gpa, linear, false);
		uint64_t entry = host ? host_load(host, f->width) : bits_trim(~0ull, f->width);
		bool large = entry & PTE_PS && may_be_large(cpu, f, level);
		if (!(entry & PTE_P))
			fault(cpu, linear, access, tlb_class, 0);
		if (entry & reserved_bits(cpu, f, level, large))
			fault(cpu, linear, access, tlb_class, PF_P | PF_RSVD);
		seen[level].gpa = gpa;
		seen[level].entry = entry;
		w->writable &= !!(entry & PTE_W);
		w->user &= !!(entry & PTE_U);
		w->no_execute |= f->width == 8 && entry & PTE_XD;
		if (large || level == 0)
			break;
		table = leaf_address(f, entry, 0);
	}
	w->page_shift = f->shift[level];
	w->gpa = leaf_address(f, seen[level].entry, level) | (linear & (BIT(w->page_shift) - 1));
	w->dirty = seen[level].entry & PTE_D;
	if (!allowed(cpu, w, access, tlb_class))
		fault(cpu, linear, access, tlb_class, PF_P);
	for (unsigned n = f->levels; n-- > level;) {
		uint64_t set = PTE_A;
		if (n == level && access == ACCESS_WRITE) {
			set |= PTE_D;
			w->dirty = true;
		}
		if (!entry_set(cpu, seen[n].gpa, linear, f->width, seen[n].entry, set))
			return false;
	}
	return true;
}

/* Pages that a data breakpoint or the local APIC needs to see are never entered. */
static bool breakpoint_page(const struct cpu *cpu, uint64_t linear)
{
	if (likely(!(cpu->dr7 & 0xff)))
		return false;
	for (unsigned n = 0; n < 4; n++)
		if (cpu->dr7 >> (2 * n) & 3 && !((cpu->dr[n] ^ linear) & ~PAGE_OFFSET_MASK))
			return true;
	return false;
}

void translate(struct cpu *cpu, uint64_t linear, enum access access, enum tlb_class tlb_class,
	       struct translation *t)
{
	struct walk w;
	struct physical p;
	if (cpu->cr0 & CR0_PG) {
		while (!walk(cpu, linear, access, tlb_class, &w))
			;	/* another processor changed an entry: it makes progress */
	} else
		w = (struct walk){ .gpa = linear & BITS(31, 0), .writable = true, .user = true,
				   .dirty = true, .page_shift = 30 };
	physical_translate(cpu, w.gpa, access, linear, false, &p);
	t->pa = p.pa;
	t->apic_page = false;
	t->host = NULL;
	if (unlikely(cpu->nonroot && vtx_apic_access_page(cpu, p.pa))) {
		t->apic_page = true;
		return;
	}
	uint64_t base = lapic_base(cpu->lapic);
	if (unlikely(!((p.pa ^ base) & PTE_ADDRESS) && (base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN))
		return;
	t->host = memory_host(cpu->memory, p.pa);
	if (!t->host || breakpoint_page(cpu, linear))
		return;
	tlb_fill(cpu, tlb_class, linear, t->host - (linear & PAGE_OFFSET_MASK),
		 p.read && allowed(cpu, &w, ACCESS_READ, tlb_class),
		 p.write && p.dirty && w.dirty && allowed(cpu, &w, ACCESS_WRITE, tlb_class),
		 p.execute && allowed(cpu, &w, ACCESS_EXECUTE, tlb_class));
	if (w.page_shift > PAGE_SHIFT && cpu->cr0 & CR0_PG)
		tlb_note_large(cpu, linear, w.page_shift);
}
