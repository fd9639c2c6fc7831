/* Decoded code: basic blocks in a cache of each processor's own. */
#ifndef NESTOR_SOFT_BLOCK_H
#define NESTOR_SOFT_BLOCK_H

#include "soft/cpu.h"

enum { BLOCK_MAX_INSNS = 32 };

struct block {
	uint64_t key;		/* offset in RAM << 2 | code mode */
	struct block *next;	/* in the same hash bucket */
	uint32_t version;	/* of its page, when it was decoded */
	uint32_t page;
	uint16_t count;		/* instructions */
	uint16_t length;	/* bytes */
	uint16_t heat;		/* how often it was interpreted */
	bool abandoned;		/* block_abandon */
	/* Translated: for a start with RIP in R10; with the page known; without
	 * a look at events. */
	const uint8_t *enter, *poll, *body;
	/* Blocks that followed this one (64-bit mode): the jump cache beside
	 * the block, where the processor's own caches have it already. */
	struct { uint64_t rip, regime; struct block *block; } link[2];
	struct insn insn[];
};

struct block_cache *block_cache_create(void);
void block_cache_destroy(struct block_cache *c);

/* The block at the current CS:RIP, fetched and decoded if need be; raises what
 * the fetch raises. Sets cpu->block. */
struct block *block_find(struct cpu *cpu);

/* Is the block still what its page holds? */
static inline bool block_fresh(const struct cpu *cpu, const struct block *b)
{
	return atomic_load_explicit(&cpu->memory->version[b->page], memory_order_relaxed) ==
		b->version;
}

/* What block_find finds, after `last` ran to its end (NULL: nothing did). */
struct block *block_follow_slow(struct cpu *cpu, struct block *last);

static inline struct block *block_follow(struct cpu *cpu, struct block *last)
{
	uint64_t rip = cpu->r[REG_RIP];
	if (likely(last != NULL))
		for (unsigned n = 0; n < ARRAY_SIZE(last->link); n++)
			if (last->link[n].rip == rip && last->link[n].regime == cpu->regime &&
			    block_fresh(cpu, last->link[n].block))
				return last->link[n].block;
	return block_follow_slow(cpu, last);
}

/* The one instruction at CS:RIP, in a buffer that the next call overwrites. */
const struct insn *block_single(struct cpu *cpu);

/* A store changed the bytes of cpu->block's page while it runs: let nothing
 * more of it execute. */
void block_abandon(struct cpu *cpu);

/* Forget every block. */
void block_cache_empty(struct cpu *cpu);

/* decode.c: all that Zydis finds. */
bool decode_whole(const uint8_t *bytes, unsigned n, enum code_mode mode, struct decoded *d);
/* decode.c: decode bytes[0..n) in a code mode. False: the bytes are no valid
 * instruction of this processor (out->fn raises #UD, len is what was seen), or
 * they end too early (out->len = 0). */
bool decode_insn(const uint8_t *bytes, unsigned n, enum code_mode mode, struct insn *out);

/* The interpreter does one instruction; it may not return (exception.c). */
static inline void insn_execute(struct cpu *cpu, const struct insn *i)
{
	uint64_t rip = cpu->r[REG_RIP];
	cpu->start_rip = rip;
	cpu->current = i;
	cpu->r[REG_RIP] = rip + i->len;
	i->fn(cpu, i);
}

#endif
