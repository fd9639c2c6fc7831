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
	struct insn insn[];
};

struct block_cache *block_cache_create(void);
void block_cache_destroy(struct block_cache *c);

/* The block at the current CS:RIP, fetched and decoded if need be; raises what
 * the fetch raises. Sets cpu->block. */
struct block *block_find(struct cpu *cpu);

/* The one instruction at CS:RIP, in a buffer that the next call overwrites. */
const struct insn *block_single(struct cpu *cpu);

/* A store changed the bytes of cpu->block's page while it runs: let nothing
 * more of it execute. */
void block_abandon(struct cpu *cpu);

/* decode.c: decode bytes[0..n) in a code mode. False: the bytes are no valid
 * instruction of this processor (out->fn raises #UD, len is what was seen), or
 * they end too early (out->len = 0). */
bool decode_insn(const uint8_t *bytes, unsigned n, enum code_mode mode, struct insn *out);

#endif
