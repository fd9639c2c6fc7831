/* The translator: hot blocks of 64-bit code become host code.
 *
 * Where to start reading: translate.c (the front: one block), memory.c
 * (accesses through the TLB), table.c (which instructions), runtime.c (the
 * code cache, what translated code calls, going in and out), lockstep.c. */
#ifndef NESTOR_SOFT_TRANSLATE_H
#define NESTOR_SOFT_TRANSLATE_H

#include "soft/block.h"

#include "base/error.h"

/* --- runtime.c --- */

/* A translator for this processor. On error there is none. */
int translator_create(struct cpu *cpu, struct error *e);
void translator_destroy(struct cpu *cpu);
/* Forget all code; with the blocks (block_cache_empty). */
void translator_empty(struct cpu *cpu);
/* Forget which linear address leads to which code. */
void translate_forget(struct cpu *cpu);

/* Around a thread's running a processor: the GS base. */
void translate_thread_enter(struct cpu *cpu);

/* A block without a translation is about to run: when it is hot now, translate
 * it. False: there was no room, and all blocks are gone. */
bool translate_warm(struct cpu *cpu, struct block *b);

/* Run a translated block, and what it leads to; last: the block that ran
 * before it, if any. Returns the block that ran to its end, if any. */
struct block *translate_run(struct cpu *cpu, struct block *b, struct block *last);

/* For tests: translate the block's first instruction alone and run it. False:
 * it has no translation. */
bool translate_first(struct cpu *cpu, const struct block *b);

/* cpu->unwind was taken: what is due when it led out of translated code. */
void translate_unwound(struct cpu *cpu, const struct block *b);

#endif
