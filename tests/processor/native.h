/* The oracle of the processor tests: one instruction on the host's own
 * processor, on a state of our choice.
 *
 * Code and scratch memory lie at fixed low linear addresses, so that the
 * software processor can have the same bytes at the same addresses (RIP-relative
 * operands and fault addresses then agree). Both scratch pages are readable and
 * writable until native_protect() says otherwise; the pages around them are
 * never mapped. */
#ifndef NESTOR_TESTS_PROCESSOR_NATIVE_H
#define NESTOR_TESTS_PROCESSOR_NATIVE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	NATIVE_PAGE = 4096,
	NATIVE_SCRATCH = 0x1000000,	/* two pages */
	NATIVE_SCRATCH_SIZE = 2 * NATIVE_PAGE,
	NATIVE_CODE = 0x1100000,	/* one page */
	NATIVE_INSN = NATIVE_CODE + 0x400,	/* the instruction begins here */
	NATIVE_LANDING = NATIVE_CODE + 0x800,	/* a branch that is taken may go here */
	NATIVE_LANDING_NEAR = NATIVE_INSN + 0x40,	/* the same for 8-bit displacements */
	NATIVE_INSN_MAX = 15,
};

/* Registers before and after. fx is an FXSAVE64 image, of which x87 (bytes 0 to
 * 23, 32 to 159) and MXCSR are used; vectors are in ymm alone. */
struct native_state {
	uint64_t gpr[16];	/* in encoding order: RAX RCX RDX RBX RSP .. R15 */
	uint64_t rflags;	/* TF must be clear; so must AC if accesses may be misaligned */
	uint64_t rip;		/* after: next instruction, NATIVE_LANDING (for both landings), or the fault's */
	uint8_t ymm[16][32] __attribute__((aligned(32)));
	uint8_t fx[512] __attribute__((aligned(32)));
};

struct native_result {
	bool faulted;
	uint8_t vector;		/* 0 #DE, 6 #UD, 13 #GP, 14 #PF, 16 #MF, 17 #AC, 19 #XM .. */
	uint32_t error;		/* error code as the host's kernel reports it */
	uint64_t address;	/* #PF: CR2 */
};

/* What to load and save besides GPRs and flags. */
enum { NATIVE_VECTORS = 1 << 0 /* YMM or XMM, MXCSR and x87 */ };

/* Map the pages, install signal handlers (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
 * SIGTRAP, on an alternate stack of the calling thread). False: the addresses
 * are taken. */
bool native_start(void);
/* Host memory of the scratch pages: at their very address. */
uint8_t *native_scratch(void);
/* Access rights of scratch page 0 or 1 (PROT_*); PROT_NONE faults as a page
 * that is not present does not: its #PF error code has P = 0 as well. */
void native_protect(unsigned page, int protection);
/* Run one instruction. Nothing else may be executed by it than itself: no
 * segment prefixes FS and GS, no system calls. */
struct native_result native_run(const uint8_t *insn, unsigned length, unsigned parts,
				struct native_state *state);

#endif
