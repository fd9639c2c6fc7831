/* The other side of the processor tests: the same instruction on the same state
 * in the software processor.
 *
 * One processor in 64-bit mode at CPL 3, flat, with identity paging. The pages
 * at NATIVE_SCRATCH and NATIVE_CODE have the rights that the host's have.
 * Exceptions go through an IDT to supervisor handlers that are never executed:
 * where the processor then stands tells the vector. */
#ifndef NESTOR_TESTS_PROCESSOR_TIER0_H
#define NESTOR_TESTS_PROCESSOR_TIER0_H

#include "native_legacy.h"

struct cpu;

void tier0_start(void);		/* ends the program with a message when it cannot */
struct cpu *tier0_cpu(void);
uint8_t *tier0_scratch(void);
void tier0_protect(unsigned page, int protection);	/* PROT_*, as native_protect */
struct native_result tier0_run(const uint8_t *insn, unsigned length, unsigned parts,
			       struct native_state *state);
/* With NESTOR_TRANSLATED in the environment each instruction that has a
 * translation runs as one: how many did. */
unsigned long tier0_translations(void);

/* The same in 16- and 32-bit mode, with the LDT of native_legacy.h; after
 * native_run_legacy, whose landings it copies. */
struct native_result tier0_run_legacy(const uint8_t *insn, unsigned length, struct native_state *state,
				      struct legacy_selectors *selectors);

#endif
