/* The soft engine as a whole: its processors and what they share. */
#ifndef NESTOR_SOFT_ENGINE_H
#define NESTOR_SOFT_ENGINE_H

#include "soft/cpu.h"
#include "soft/lapic.h"

enum { CODE_RING = 1024 };

struct soft_options {
	bool icount;
	uint64_t ns_per_insn;	/* icount: VM nanoseconds per instruction */
	bool interpret;		/* translate nothing */
	bool eager;		/* translate before the first run */
	bool lockstep;		/* compare each translation's run with the interpreter's */
	bool precise_flags;	/* even flags that nobody reads are right when something faults */
};

struct soft_engine {
	struct engine engine;
	struct soft_options options;
	struct lapic_set *lapics;
	struct cpu **cpu;
	uint64_t started;	/* host ns, for the report */

	/* Being alone (split locks): see exclusive_begin in run.c. */
	pthread_mutex_t exclusive_lock;
	pthread_cond_t exclusive_changed;
	struct cpu *exclusive_owner;
	unsigned running;

	/* Pages that newly hold code: every processor drops its write
	 * translations to them (tlb.c). */
	_Atomic uint64_t code_sequence;
	_Atomic uint32_t code_ring[CODE_RING];
};

/* --- run.c --- */
/* From the one to the other no other processor executes anything: each waits
 * between two of its instructions. Not nested. */
void exclusive_begin(struct cpu *cpu);
void exclusive_end(struct cpu *cpu);

void cpu_loop(struct cpu *cpu);		/* until EVENT_STOP */
void cpu_step(struct cpu *cpu);		/* one instruction or one event; for tests */
/* The same for one instruction, translated; false: nothing was done, because
 * something is pending or the instruction has no translation. */
bool cpu_step_translated(struct cpu *cpu);

#endif
