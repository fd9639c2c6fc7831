/* The cache of decoded blocks.
 *
 * A block is a run of instructions inside one physical page, up to the first
 * branch, mode-changing instruction or page end; an instruction that crosses
 * into the next page is never cached, because its second half may be mapped
 * elsewhere tomorrow. Blocks are keyed by physical place and code mode alone,
 * so that every address space, L1 and L2 share them.
 *
 * Two ways lead to a block. The jump cache maps a linear address under the
 * current translation regime (cpu->tlb_generation, code mode, user or
 * supervisor) straight to it; what may change that mapping renews the
 * generation. Behind it stand the TLB and the hash of all blocks. Either way a
 * block is used only if its page's version is still the one it was decoded
 * from (memory.h).
 *
 * Storage is one arena per processor: when it is full, everything goes. */
#include "soft/block.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/tlb.h"
#include "soft/translate/translate.h"
#include "x86/paging.h"

#include <stdlib.h>
#include <sys/mman.h>

enum {
	JUMP_BITS = 14,
	HASH_BITS = 16,
	ARENA_BYTES = 96 << 20,
	INSN_MAX = 15,
};

struct jump {
	uint64_t linear, regime;
	struct block *block;
};

struct block_cache {
	uint8_t *arena;
	size_t used;
	uint64_t emptied;	/* how often: pointers to blocks from before are void */
	struct insn single;
	struct block *hash[1u << HASH_BITS];
	struct jump jump[1u << JUMP_BITS];
};

struct block_cache *block_cache_create(void)
{
	struct block_cache *c = alloc_zeroed(1, sizeof *c);
	c->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->arena == MAP_FAILED)
		panic("no address space for decoded blocks");
	return c;
}

void block_cache_destroy(struct block_cache *c)
{
	if (!c)
		return;
	munmap(c->arena, ARENA_BYTES);
	free(c);
}

void block_cache_empty(struct cpu *cpu)
{
	struct block_cache *c = cpu->blocks;
	translator_empty(cpu);
	memset(c->hash, 0, sizeof c->hash);
	memset(c->jump, 0, sizeof c->jump);
	c->used = 0;
	c->emptied++;
}

static unsigned hash_of(uint64_t key)
{
	return (unsigned)(key * 0x9e3779b97f4a7c15ull >> (64 - HASH_BITS));
}

/* Decode the block that begins at host, offset `at` in RAM. NULL when its first
 * instruction is not wholly inside the page. */
static struct block *block_decode(struct cpu *cpu, const uint8_t *host, uint64_t at)
{
	struct block_cache *c = cpu->blocks;
	struct memory *m = cpu->memory;
	size_t most = sizeof(struct block) + BLOCK_MAX_INSNS * sizeof(struct insn);
	if (c->used + most > ARENA_BYTES)
		block_cache_empty(cpu);
	struct block *b = (struct block *)(c->arena + c->used);
	unsigned room = (unsigned)(PAGE_SIZE - (at & PAGE_OFFSET_MASK)), done = 0;
	*b = (struct block){ .key = at << 2 | cpu->mode, .page = (uint32_t)(at >> PAGE_SHIFT) };
	/* The mark comes before the bytes are read: a store in between raises
	 * the version that is taken here. */
	b->version = atomic_load(&m->version[b->page]);
	tlb_mark_code(cpu, b->page, BITS((at & PAGE_OFFSET_MASK) >> MEMORY_CHUNK_SHIFT,
					 (at & PAGE_OFFSET_MASK) >> MEMORY_CHUNK_SHIFT));
	while (b->count < BLOCK_MAX_INSNS && done < room) {
		struct insn *i = &b->insn[b->count];
		unsigned n = room - done < INSN_MAX ? room - done : INSN_MAX;
		/* Mark all chunks that decoding may look at. */
		uint64_t first = at + done, last = first + n - 1;
		tlb_mark_code(cpu, b->page,
			      BITS((last & PAGE_OFFSET_MASK) >> MEMORY_CHUNK_SHIFT,
				   (first & PAGE_OFFSET_MASK) >> MEMORY_CHUNK_SHIFT));
		decode_insn(host + done, n, cpu->mode, i);
		if (!i->len || (n < INSN_MAX && i->len > n))
			break;	/* goes on in the next page */
		i->at = (uint16_t)(first & PAGE_OFFSET_MASK);
		b->count++;
		done += i->len;
		if (i->flags & INSN_ENDS_BLOCK)
			break;
	}
	if (!b->count)
		return NULL;
	b->length = (uint16_t)done;
	c->used += sizeof *b + b->count * sizeof *b->insn;
	c->used = align_up(c->used, 16);
	unsigned h = hash_of(b->key);
	b->next = c->hash[h];
	c->hash[h] = b;
	trace(BLOCK, "cpu %u: %u instructions at RAM offset %#llx, mode %u", cpu->index, b->count,
	      (unsigned long long)at, cpu->mode);
	return b;
}

static struct block *hash_find(struct cpu *cpu, uint64_t key)
{
	struct block **at = &cpu->blocks->hash[hash_of(key)];
	while (*at) {
		struct block *b = *at;
		if (b->key == key) {
			if (block_fresh(cpu, b))
				return b;
			*at = b->next;	/* stale: forget it */
			continue;
		}
		at = &b->next;
	}
	return NULL;
}

/* CS:RIP as a linear address; #GP when it is outside the segment or not canonical. */
static uint64_t fetch_address(struct cpu *cpu)
{
	uint64_t rip = cpu->r[REG_RIP];
	if (cpu->mode == MODE_64) {
		if (unlikely(!linear_canonical(rip)))
			raise_gp(cpu, 0);
		return rip;
	}
	if (unlikely((uint32_t)rip > cpu->seg[SEG_CS].limit))
		raise_gp(cpu, 0);
	return (uint32_t)(cpu->seg[SEG_CS].base + (uint32_t)rip);
}

static enum tlb_class fetch_class(const struct cpu *cpu)
{
	return cpu->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
}

/* Host address of the code byte at linear; NULL when it is not in RAM. */
static const uint8_t *fetch_host(struct cpu *cpu, uint64_t linear, struct translation *t)
{
	const uint8_t *host = tlb_fetch_hit(cpu, linear, fetch_class(cpu));
	if (host)
		return host;
	translate(cpu, linear, ACCESS_EXECUTE, fetch_class(cpu), t);
	return t->host;
}

/* Outside 64-bit mode a block may reach beyond CS.limit: then its
 * instructions are taken one at a time, each with its own check. */
static struct block *within_limit(const struct cpu *cpu, struct block *b)
{
	if (likely(cpu->mode == MODE_64))
		return b;
	return cpu->seg[SEG_CS].limit - (uint32_t)cpu->r[REG_RIP] < b->length - 1u ? NULL : b;
}

struct block *block_find(struct cpu *cpu)
{
	cpu->start_rip = cpu->r[REG_RIP];	/* whose fault it is, if there is one */
	uint64_t linear = fetch_address(cpu);
	struct jump *j = &cpu->blocks->jump[(linear ^ linear >> JUMP_BITS) & ((1u << JUMP_BITS) - 1)];
	if (likely(j->linear == linear && j->regime == cpu->regime && block_fresh(cpu, j->block)))
		return within_limit(cpu, j->block);
	struct translation t;
	const uint8_t *host = fetch_host(cpu, linear, &t);
	if (!host)
		return NULL;
	uint64_t at = (uint64_t)(host - cpu->memory->ram);
	struct block *b = hash_find(cpu, at << 2 | cpu->mode);
	if (!b)
		b = block_decode(cpu, host, at);
	if (!b)
		return NULL;
	tlb_note_fetch(cpu, linear);
	*j = (struct jump){ linear, cpu->regime, b };
	return within_limit(cpu, b);
}

struct block *block_follow_slow(struct cpu *cpu, struct block *last)
{
	uint64_t emptied = cpu->blocks->emptied;
	struct block *b = block_find(cpu);
	if (b && last && cpu->mode == MODE_64 && emptied == cpu->blocks->emptied) {
		last->link[1] = last->link[0];
		last->link[0].rip = cpu->r[REG_RIP];
		last->link[0].regime = cpu->regime;
		last->link[0].block = b;
	}
	return b;
}

const struct insn *block_single(struct cpu *cpu)
{
	uint8_t bytes[INSN_MAX];
	struct insn *i = &cpu->blocks->single;
	uint64_t linear = fetch_address(cpu);
	unsigned n = 0;
	/* Byte by byte into the second page only when the first is not enough:
	 * a fault there belongs to an instruction that really reaches it. */
	i->len = 0;
	while (n < INSN_MAX) {
		struct translation t;
		uint64_t address = linear + n;
		if (cpu->mode != MODE_64) {
			address = (uint32_t)address;
			if ((uint32_t)(cpu->r[REG_RIP] + n) > cpu->seg[SEG_CS].limit)
				raise_gp(cpu, 0);
		}
		unsigned part = (unsigned)(PAGE_SIZE - (address & PAGE_OFFSET_MASK));
		const uint8_t *host = fetch_host(cpu, address, &t);
		if (part > INSN_MAX - n)
			part = INSN_MAX - n;
		if (cpu->mode != MODE_64 &&
		    cpu->seg[SEG_CS].limit - (uint32_t)(cpu->r[REG_RIP] + n) < part - 1)
			part = cpu->seg[SEG_CS].limit - (uint32_t)(cpu->r[REG_RIP] + n) + 1;
		for (unsigned k = 0; k < part; k++)
			bytes[n + k] = host ? host[k] :
				(uint8_t)bus_read(cpu->engine->engine.host.bus, BUS_MMIO, t.pa + k, 1);
		n += part;
		decode_insn(bytes, n, cpu->mode, i);
		if (i->len)
			return i;
	}
	raise_gp(cpu, 0);	/* longer than 15 bytes */
}

static void op_abandoned(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	cpu->r[REG_RIP] = cpu->start_rip;
	cpu_continue(cpu);
}

void block_abandon(struct cpu *cpu)
{
	/* The block is stale and nobody else's, so it can be defused in place;
	 * only the pointer to the function is replaced, because the current
	 * instruction is still looking at its own fields. */
	cpu->block->abandoned = true;
	for (unsigned n = 0; n < cpu->block->count; n++)
		cpu->block->insn[n].fn = op_abandoned;
}
