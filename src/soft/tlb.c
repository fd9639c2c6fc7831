/* The TLB: tagged contexts, see tlb.h.
 *
 * A context is what may be used together: translations of one VPID, EP4TA and
 * PCID. It holds three tables, one per class of access (user, supervisor,
 * supervisor with AC set under SMAP), so that a privilege change is a change
 * of pointer. An entry holds a host address and is there only if an access
 * needs nothing more than that: RAM, permission, A and D already set, no code
 * in the page (writes), no breakpoint.
 *
 * Each context has a generation of its own, renewed when anything that may
 * have been fetched through it is dropped; it is cpu->tlb_generation while the
 * context is current, and the jump cache (block.c) hangs on it.
 *
 * Invariant: cpu->context is always one of the pool, never evicted while
 * current. */
#include "soft/tlb.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/translate/translate.h"
#include "soft/vtx/vtx.h"

#include <stdlib.h>

enum {
	CONTEXTS = 16, FETCH_FILTER_BITS = 12,
	/* Large pages are entered piece by piece; where they were is kept so that
	 * one INVLPG drops all of one: by 4 MiB (2 and 4 MiB pages), by 1 GiB. */
	LARGE_SHIFT = 22, LARGE_FILTER_BITS = 12, HUGE_SHIFT = 30,
	/* A regime is a generation, and in NUMBER_SHIFT bits mode and privilege;
	 * its key (struct translated_state) has 16 bits for both. */
	NUMBER_SHIFT = 3, KEY_SHIFT = 48, NUMBERS = 1 << (64 - KEY_SHIFT - NUMBER_SHIFT),
};

struct tlb_context {
	bool valid;
	uint16_t vpid, pcid;
	uint64_t ep4ta;
	uint64_t used;			/* for least recently used */
	unsigned long generation;
	unsigned number;		/* of the generation, for the lookup of translated code */
	unsigned touched;		/* bit per table that holds something */
	uint64_t fetched[(1 << FETCH_FILTER_BITS) / 64];	/* pages in the jump cache, hashed */
	uint64_t large[(1 << LARGE_FILTER_BITS) / 64], huge;	/* hashed too */
	struct tlb_entry table[TLB_CLASSES][TLB_TABLE];
};

struct tlb_contexts {
	struct tlb_context pool[CONTEXTS];
	struct tlb_entry none[TLB_TABLE];	/* never hits: alignment checking */
	uint64_t time;
	unsigned long generations;
	unsigned numbers;
	uint64_t code_seen;		/* engine's code_sequence that was followed */
};

static void table_clear(struct tlb_entry *t)
{
	for (unsigned n = 0; n < TLB_TABLE; n++)
		t[n].read = t[n].write = t[n].exec = TLB_NO;
}

static void regime_update(struct cpu *cpu)
{
	unsigned how = (unsigned)cpu->mode << 1 | (cpu->cpl == 3);
	cpu->regime = (uint64_t)cpu->tlb_generation << NUMBER_SHIFT | how;
	cpu->native.key = (uint64_t)(cpu->context->number << NUMBER_SHIFT | how) << KEY_SHIFT;
}

/* Numbers are few: when they are used up, all contexts get new ones and what
 * the old ones led to is forgotten. */
static void number_renew(struct cpu *cpu, struct tlb_context *x)
{
	struct tlb_contexts *t = cpu->contexts;
	if (t->numbers + 1 >= NUMBERS) {
		t->numbers = 0;
		translate_forget(cpu);
		for (unsigned n = 0; n < CONTEXTS; n++)
			t->pool[n].number = ++t->numbers;
	}
	x->number = ++t->numbers;
	if (cpu->context)
		regime_update(cpu);
}

static void generation_renew(struct cpu *cpu, struct tlb_context *x)
{
	x->generation = ++cpu->contexts->generations;
	memset(x->fetched, 0, sizeof x->fetched);
	number_renew(cpu, x);
	if (x == cpu->context) {
		cpu->tlb_generation = x->generation;
		regime_update(cpu);
	}
}

static void context_clear(struct cpu *cpu, struct tlb_context *x)
{
	for (unsigned c = 0; c < TLB_CLASSES; c++)
		if (x->touched & 1u << c)
			table_clear(x->table[c]);
	x->touched = 0;
	memset(x->large, 0, sizeof x->large);
	x->huge = 0;
	generation_renew(cpu, x);
}

struct tlb_contexts *tlb_contexts_create(void)
{
	struct tlb_contexts *t = alloc_zeroed(1, sizeof *t);
	for (unsigned n = 0; n < CONTEXTS; n++)
		for (unsigned c = 0; c < TLB_CLASSES; c++)
			table_clear(t->pool[n].table[c]);
	table_clear(t->none);
	return t;
}

void tlb_contexts_destroy(struct tlb_contexts *t)
{
	free(t);
}

struct tlb_entry *tlb_table(struct cpu *cpu, enum tlb_class tlb_class)
{
	return cpu->context->table[tlb_class];
}

void tlb_class_select(struct cpu *cpu)
{
	enum tlb_class c = cpu->cpl == 3 ? TLB_USER :
		cpu->cr4 & CR4_SMAP && cpu->sysflags & FLAG_AC ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
	if (unlikely(c == TLB_USER && cpu->cr0 & CR0_AM && cpu->sysflags & FLAG_AC))
		cpu->tlb = cpu->contexts->none;
	else
		cpu->tlb = cpu->context->table[c];
	regime_update(cpu);
}

/* The PCID that tags translations now: 0 unless 4-level paging with PCIDE. */
static uint16_t current_pcid(const struct cpu *cpu)
{
	return cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
}

void tlb_select(struct cpu *cpu, bool keep)
{
	struct tlb_contexts *t = cpu->contexts;
	uint16_t vpid = cpu->vtx ? vtx_vpid(cpu) : 0, pcid = current_pcid(cpu);
	uint64_t ep4ta = cpu->vtx ? vtx_ep4ta(cpu) : 0;
	struct tlb_context *found = NULL, *oldest = NULL;
	for (unsigned n = 0; n < CONTEXTS; n++) {
		struct tlb_context *x = &t->pool[n];
		if (x->valid && x->vpid == vpid && x->pcid == pcid && x->ep4ta == ep4ta) {
			found = x;
			break;
		}
		if (x != cpu->context && (!oldest || !x->valid || (oldest->valid && x->used < oldest->used)))
			oldest = x;
	}
	if (!found) {
		found = oldest;
		context_clear(cpu, found);
		found->valid = true;
		found->vpid = vpid;
		found->pcid = pcid;
		found->ep4ta = ep4ta;
	} else if (!keep)
		context_clear(cpu, found);
	found->used = ++t->time;
	cpu->context = found;
	cpu->tlb_generation = found->generation;
	tlb_class_select(cpu);
}

static unsigned large_bit(uint64_t linear)
{
	return linear >> LARGE_SHIFT & ((1u << LARGE_FILTER_BITS) - 1);
}

void tlb_note_large(struct cpu *cpu, uint64_t linear, unsigned page_shift)
{
	unsigned bit = large_bit(linear);
	if (page_shift < HUGE_SHIFT)
		cpu->context->large[bit / 64] |= BIT(bit % 64);
	else
		cpu->context->huge |= BIT(linear >> HUGE_SHIFT & 63);
}

/* Drop everything in the aligned range of that size around linear. */
static void drop_range(struct cpu *cpu, struct tlb_context *x, uint64_t linear, unsigned shift)
{
	for (unsigned c = 0; c < TLB_CLASSES; c++)
		for (unsigned n = 0; x->touched & 1u << c && n < TLB_TABLE; n++) {
			struct tlb_entry *e = &x->table[c][n];
			if (!((e->read ^ linear) >> shift) || !((e->write ^ linear) >> shift) ||
			    !((e->exec ^ linear) >> shift))
				e->read = e->write = e->exec = TLB_NO;
		}
	generation_renew(cpu, x);
}

/* Whatever of an entry is valid is of one page. */
static void entry_drop(struct tlb_entry *e, uint64_t page)
{
	if (e->read == page || e->write == page || e->exec == page)
		e->read = e->write = e->exec = TLB_NO;
}

static void drop_page(struct cpu *cpu, struct tlb_context *x, uint64_t linear)
{
	if (unlikely(x->huge & BIT(linear >> HUGE_SHIFT & 63))) {
		drop_range(cpu, x, linear, HUGE_SHIFT);
		return;
	}
	if (unlikely(x->large[large_bit(linear) / 64] & BIT(large_bit(linear) % 64))) {
		drop_range(cpu, x, linear, LARGE_SHIFT);
		return;
	}
	unsigned n = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);
	uint64_t page = linear & ~PAGE_OFFSET_MASK;
	for (unsigned c = 0; c < TLB_CLASSES; c++) {
		if (!(x->touched & 1u << c))
			continue;
		entry_drop(&x->table[c][n], page);
		for (unsigned k = TLB_ENTRIES; k < TLB_TABLE; k++)
			entry_drop(&x->table[c][k], page);
	}
	unsigned bit = linear >> PAGE_SHIFT & ((1u << FETCH_FILTER_BITS) - 1);
	if (x->fetched[bit / 64] & BIT(bit % 64))
		generation_renew(cpu, x);
}

void tlb_flush_address(struct cpu *cpu, uint16_t vpid, int pcid, uint64_t linear)
{
	for (unsigned n = 0; n < CONTEXTS; n++) {
		struct tlb_context *x = &cpu->contexts->pool[n];
		if (x->valid && x->vpid == vpid && (pcid < 0 || x->pcid == pcid))
			drop_page(cpu, x, linear);
	}
}

void tlb_flush_page(struct cpu *cpu, uint64_t linear)
{
	/* A global translation must go from every PCID; which entries were
	 * global is not kept, so the address goes from all. */
	tlb_flush_address(cpu, cpu->context->vpid, -1, linear);
}

void tlb_flush_tagged(struct cpu *cpu, uint16_t vpid, int pcid)
{
	for (unsigned n = 0; n < CONTEXTS; n++) {
		struct tlb_context *x = &cpu->contexts->pool[n];
		if (x->valid && x->vpid == vpid && (pcid < 0 || x->pcid == pcid))
			context_clear(cpu, x);
	}
}

void tlb_flush_vpid_current(struct cpu *cpu)
{
	tlb_flush_tagged(cpu, cpu->context->vpid, -1);
}

void tlb_flush_all(struct cpu *cpu)
{
	for (unsigned n = 0; n < CONTEXTS; n++)
		if (cpu->contexts->pool[n].valid)
			context_clear(cpu, &cpu->contexts->pool[n]);
}

void tlb_flush_ept(struct cpu *cpu, uint64_t ep4ta, bool all)
{
	for (unsigned n = 0; n < CONTEXTS; n++) {
		struct tlb_context *x = &cpu->contexts->pool[n];
		if (x->valid && x->ep4ta && (all || x->ep4ta == ep4ta))
			context_clear(cpu, x);
	}
}

void tlb_fill(struct cpu *cpu, enum tlb_class tlb_class, uint64_t linear, uint8_t *host,
	      bool read, bool write, bool execute)
{
	struct memory *m = cpu->memory;
	uint64_t page = linear & ~PAGE_OFFSET_MASK, index = memory_page_index(m, host);
	struct tlb_entry *e = &cpu->context->table[tlb_class][linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
	if (write) {
		if (!atomic_load_explicit(&m->tagged[index], memory_order_relaxed))
			atomic_exchange(&m->tagged[index], 1);
		write = !atomic_load(&m->code[index]);
	}
	cpu->context->touched |= 1u << tlb_class;
	e->read = read ? page : TLB_NO;
	e->write = write ? page : TLB_NO;
	e->exec = execute ? page : TLB_NO;
	e->addend = (uintptr_t)host - page;
}

const uint8_t *tlb_fetch_hit(struct cpu *cpu, uint64_t linear, enum tlb_class tlb_class)
{
	const struct tlb_entry *e =
		&cpu->context->table[tlb_class][linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
	return e->exec == (linear & ~PAGE_OFFSET_MASK) ?
		(const uint8_t *)(linear + e->addend) : NULL;
}

void tlb_note_fetch(struct cpu *cpu, uint64_t linear)
{
	unsigned bit = linear >> PAGE_SHIFT & ((1u << FETCH_FILTER_BITS) - 1);
	cpu->context->fetched[bit / 64] |= BIT(bit % 64);
}

/* Forget write translations into RAM page `page` (host address of its first byte). */
static bool drop_writes_to(struct cpu *cpu, const uint8_t *host)
{
	bool any = false;
	for (unsigned n = 0; n < CONTEXTS; n++) {
		struct tlb_context *x = &cpu->contexts->pool[n];
		for (unsigned c = 0; c < TLB_CLASSES; c++) {
			if (!(x->touched & 1u << c))
				continue;
			struct tlb_entry *e = x->table[c];
			for (unsigned k = 0; k < TLB_TABLE; k++)
				if (e[k].write + e[k].addend == (uintptr_t)host) {
					e[k].write = TLB_NO;
					any = true;
				}
		}
	}
	return any;
}

void tlb_mark_code(struct cpu *cpu, uint64_t page, uint64_t chunks)
{
	struct memory *m = cpu->memory;
	if ((atomic_load_explicit(&m->code[page], memory_order_relaxed) & chunks) == chunks)
		return;
	if (atomic_fetch_or(&m->code[page], chunks))
		return;		/* not the first: nobody holds a write translation */
	if (!atomic_exchange(&m->tagged[page], 0))
		return;
	drop_writes_to(cpu, m->ram + (page << PAGE_SHIFT));
	struct soft_engine *g = cpu->engine;
	if (g->engine.config.processors == 1)
		return;
	uint64_t at = atomic_fetch_add(&g->code_sequence, 1);
	atomic_store(&g->code_ring[at % CODE_RING], (uint32_t)page);
	for (unsigned n = 0; n < g->engine.config.processors; n++)
		if (g->cpu[n] != cpu)
			atomic_fetch_or(&g->cpu[n]->events, EVENT_CODE);
}

void tlb_follow_code_marks(struct cpu *cpu)
{
	struct soft_engine *g = cpu->engine;
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_CODE);
	uint64_t now = atomic_load(&g->code_sequence);
	if (now - cpu->contexts->code_seen > CODE_RING / 2)
		tlb_flush_all(cpu);
	else
		for (uint64_t n = cpu->contexts->code_seen; n < now; n++) {
			uint64_t page = atomic_load(&g->code_ring[n % CODE_RING]);
			uint8_t *host = cpu->memory->ram + (page << PAGE_SHIFT);
			/* What was written through the translation until now
			 * told nobody: tell it in one. */
			if (drop_writes_to(cpu, host))
				memory_wrote(cpu->memory, host);
		}
	cpu->contexts->code_seen = now;
}
