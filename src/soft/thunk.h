/* Native thunks: a computational vector or x87 instruction executes as itself.
 *
 * What thunk_bind() gives an instruction is a few host instructions that load
 * the operands' registers from struct cpu, the very instruction with its
 * memory operand redirected to a host pointer and its general register to RAX,
 * and the stores of what it wrote. They are made once per distinct rewritten
 * instruction and shared by all processors.
 *
 * Where to start reading: thunk_table.c (which instructions), thunk.c. */
#ifndef NESTOR_SOFT_THUNK_H
#define NESTOR_SOFT_THUNK_H

#include "soft/insn.h"

#include "base/error.h"

/* What the host must have for a form to exist in the guest. */
enum thunk_isa {
	THUNK_NEVER, THUNK_X87, THUNK_MMX, THUNK_SSE, THUNK_SSE2, THUNK_SSE3, THUNK_SSSE3,
	THUNK_SSE41, THUNK_SSE42, THUNK_AES, THUNK_PCLMULQDQ, THUNK_SHA, THUNK_AVX, THUNK_AVX2,
	THUNK_FMA, THUNK_F16C, THUNK_RDRAND, THUNK_ISAS
};

/* Does the host have it, its operating system included? */
bool thunk_host_has(enum thunk_isa isa);

/* CPUID bits that the thunks and vector.c make true on this host. */
struct thunk_features {
	uint32_t leaf1_ecx, leaf1_edx, leaf7_ebx;
};
void thunk_cpuid_features(struct thunk_features *f);

/* Reserve the code region and install the SIGFPE handler. Called by
 * fpu_create; a second call does nothing. */
int thunk_start(struct error *e);

/* Let the cache grow to this many bytes only, to test what happens when it is
 * full; returns the limit there was. */
uint32_t thunk_region_limit(uint32_t limit);

/* thunk_signal.c: SIGFPE with RIP in [code, code + size) stores the MXCSR of
 * that moment at RDI + mxcsr_offset and goes on at `stub`. */
void thunk_signal_install(const void *code, unsigned long size, const void *stub,
			  unsigned long mxcsr_offset);
/* Around a thread's running a processor: an alternate signal stack; leaving
 * also stores x87 state that is live in the thread's FPU. */
void thunk_thread_enter(void);
void thunk_thread_leave(void);
void fpu_live_store(void);	/* fpu.c */

enum {
	THUNK_ALIGNED = 1 << 0,	/* memory operand must be aligned to its size (when it has 16 or 32 bytes) */
	THUNK_MXCSR = 1 << 1,	/* reads MXCSR and may raise #XM */
	THUNK_CONTROL = 1 << 2,	/* x87: changes FCW, but not FIP, FDP, FOP */
	THUNK_MMX_STATE = 1 << 3,	/* enters MMX state even without an MMX operand */
};

/* Bind a decoded instruction to its thunk; false when this processor does not
 * have the form. */
bool thunk_bind(const struct decoded *d, struct insn *out, unsigned flags);

/* Does this processor have the form (positive: by instruction set and host)? */
bool thunk_form_exists(const struct decoded *d);

/* MOVSD and CMPSD are also string instructions, which have the rules; what
 * those decline comes here (decode.c). */
bool thunk_bind_shared(const struct decoded *d, struct insn *out);

/* --- vector.c: forms in C --- */
bool vector_bind_move(const struct decoded *d, struct insn *out);
bool vector_bind_scalar_move(const struct decoded *d, struct insn *out);
bool vector_bind_xor(const struct decoded *d, struct insn *out);
bool vector_bind_masked(const struct decoded *d, struct insn *out);
bool vector_bind_maskmov(const struct decoded *d, struct insn *out);
bool vector_bind_gather(const struct decoded *d, struct insn *out);
bool vector_bind_movnti(const struct decoded *d, struct insn *out);
bool vector_bind_zero(const struct decoded *d, struct insn *out);

#endif
