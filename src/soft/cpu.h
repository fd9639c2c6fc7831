/* The software processor: its state.
 *
 * One struct cpu belongs to one host thread; nobody else touches it, with two
 * exceptions: `events` (atomic, set by anyone through cpu_notify) and the local
 * APIC (under the board lock).
 *
 * Where to start reading: run.c (the loop), decode.c (bytes to struct insn),
 * access.h and tlb.h (memory), exception.c (what raise_* leads to), vtx/vtx.h
 * (what VT-x hooks into). */
#ifndef NESTOR_SOFT_CPU_H
#define NESTOR_SOFT_CPU_H

#include "engine/engine.h"
#include "soft/insn.h"
#include "x86/processor_state.h"
#include "x86/registers.h"

#include <setjmp.h>
#include <stdatomic.h>

/* Register slots beyond the 16 GPRs, so that address arithmetic needs no
 * special cases. */
enum { REG_RIP = 16, REG_ZERO = 17, REG_SLOTS = 18 };

enum code_mode { MODE_16, MODE_32, MODE_64, CODE_MODES };

/* Whose accesses a TLB table serves. */
enum tlb_class {
	TLB_SUPERVISOR,		/* CPL < 3, SMAP holds (or is off) */
	TLB_SUPERVISOR_AC,	/* CPL < 3 with SMAP on and RFLAGS.AC set */
	TLB_USER,		/* CPL = 3 */
	TLB_CLASSES
};

/* Reasons to look up between two blocks (cpu->events). */
enum {
	EVENT_STOP = 1 << 0,		/* leave run() */
	EVENT_INTERRUPT = 1 << 1,	/* recheck local APIC and INTR */
	EVENT_NMI = 1 << 2,
	EVENT_INIT = 1 << 3,
	EVENT_SIPI = 1 << 4,		/* vector in cpu->sipi_vector */
	EVENT_PREEMPTION_TIMER = 1 << 5,	/* VMX-preemption timer reached its deadline */
	EVENT_WINDOW = 1 << 6,		/* VMX: recheck interrupt/NMI windows */
	EVENT_PARK = 1 << 7,		/* another processor needs to be alone (split lock) */
	EVENT_CODE = 1 << 8,		/* others decoded code in new pages: tlb_follow_code_marks */
	EVENT_TRAP = 1 << 9,		/* db_trap is set */
	EVENT_UNPLUGGED = 1 << 10,	/* RAM went: no translation to it may be used */
};

/* Why instructions execute one at a time (cpu->step). */
enum { STEP_TF = 1, STEP_BREAKPOINTS = 2, STEP_MTF = 4, STEP_RF = 8 };

enum activity { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_FOR_SIPI };

/* cpu->inhibit: what the last instruction blocks for one instruction. */
enum { INHIBIT_STI = 1, INHIBIT_MOV_SS = 2 };

/* Interruption types, as in the VM-entry interruption-information field. */
enum event_type {
	EVENT_TYPE_EXTERNAL = 0, EVENT_TYPE_NMI = 2, EVENT_TYPE_HARDWARE = 3, EVENT_TYPE_SOFTWARE = 4,
	EVENT_TYPE_PRIVILEGED_SOFTWARE = 5, EVENT_TYPE_SOFTWARE_EXCEPTION = 6, EVENT_TYPE_OTHER = 7,
};

/* An event being delivered through the IDT. */
struct delivery {
	bool active;
	uint8_t type;		/* enum event_type */
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint8_t insn_len;	/* software events: length of the instruction */
	bool injected;		/* by VM entry: RFLAGS.RF is pushed as it is */
};

/* Bounds of a data segment, derived from its descriptor. */
struct segment_bounds {
	uint32_t low, high;	/* first and last valid offset */
	bool readable, writable;
};

struct tlb_entry {
	uint64_t read, write, exec;	/* linear page, or TLB_NO */
	uintptr_t addend;		/* host = linear + addend */
};
/* No address cut to its page is this, nor one that keeps its lowest bits, as an
 * access to a slot does. */
#define TLB_NO 0x800ull
#define TLB_BITS 10
#define TLB_ENTRIES (1u << TLB_BITS)
/* Behind the entries of a table: copies of those that translated code used
 * last, one for each way it forms an address (translate/memory.c). */
#define TLB_SLOTS 19
#define TLB_TABLE (TLB_ENTRIES + TLB_SLOTS)

/* Where a linear address leads (translate in tlb.h). */
struct translation {
	uint64_t pa;		/* physical, as L1 calls it */
	uint8_t *host;		/* RAM byte, or NULL: device memory */
	bool apic_page;		/* VMX APIC-access page */
};

/* What translated code keeps beside the architectural state (translate/). */
enum {
	/* Functions begin at multiples of 16, and few targets are closer than 8. */
	LOOKUP_RIP_SHIFT = 3, LOOKUP_RIP_BITS = 11, LOOKUP_REGIME_BITS = 3, LOOKUP_REGIME_SHIFT = 51,
	LOOKUP_BITS = LOOKUP_RIP_BITS + LOOKUP_REGIME_BITS,
};
struct translated_state {
	uint64_t page;		/* linear address of the page that RIP is in */
	uint64_t target;	/* where an indirect branch goes, and its code */
	const uint8_t *code;
	uint64_t saved_rax, saved_value;	/* of the common routines and of PUSH */
	uint16_t saved_flags;
	uint64_t slot_mask[4], lookup_mask;	/* for PEXT; by log2 of the access's size */
	struct cpu *self;
	const uint8_t *edge;	/* the jump that left, when it can be linked; */
	struct block *last;	/* in this block */
	bool active;		/* translated code is on the host's stack */
	uint32_t flags_dead;	/* arithmetic flags that it did not keep where it stopped */
	/* Blocks by linear address: minus the sum of address and key, and the
	 * code. The key holds the number of the regime in its upper 16 bits,
	 * where a canonical address has nothing of its own. The place in the
	 * table is some low bits of both, as lookup_mask takes them. */
	uint64_t key;
	struct lookup {
		uint64_t tag;
		const uint8_t *code;
	} lookup[1 << LOOKUP_BITS];
	struct undo *undo;	/* lockstep: where the next store is noted; */
	struct block *replayed;	/* what the interpreter replays */
};

struct block;
struct translator;
struct tlb_context;
struct lapic;
struct vtx;
struct fpu;
struct soft_engine;

#define CPU_VECTOR_BYTES 32

struct cpu {
	/* --- hot: what nearly every instruction touches --- */
	uint64_t r[REG_SLOTS];
	uint64_t start_rip;	/* address of the instruction that runs */
	/* Arithmetic flags as LAHF; SETO AL leave them in AX: byte 0 is OF (0/1),
	 * byte 1 is SF ZF 0 AF 0 PF 1 CF. See flags.h. */
	uint16_t arith;
	uint8_t inhibit;	/* INHIBIT_* set by the instruction that just ran */
	uint8_t cpl;
	uint8_t mode;		/* enum code_mode */
	bool nonroot;		/* in VMX non-root operation */
	uint32_t sysflags;	/* RFLAGS without the arithmetic flags (bit 1 clear too) */
	struct tlb_entry *tlb;	/* current table for data accesses */
	_Atomic uint32_t events;
	struct block *block;	/* the block that runs */
	const struct insn *current;	/* the instruction that runs */
	uint64_t instructions;	/* executed so far */
	uint64_t counted;	/* of which a counted clock was told */

	/* --- segments and tables --- */
	struct segment seg[SEG_COUNT];
	struct segment_bounds bounds[6];
	struct table_register gdtr, idtr;

	/* --- control --- */
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
	uint64_t dr[4], dr6, dr7;
	uint64_t pdpte[4];	/* PAE paging: loaded with CR3 */
	bool db_trap;		/* TF trap or data breakpoint pending for the instruction's end */
	uint64_t db_bits;	/* its DR6 bits */

	/* --- vector and x87 state: see fpu.h --- */
	uint8_t vec[16][CPU_VECTOR_BYTES] __attribute__((aligned(32)));
	uint32_t mxcsr;
	struct fpu *fpu;

	/* --- MSRs that are not elsewhere --- */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, feature_control, spec_ctrl, debugctl, misc_features;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	uint64_t mcg_status, mc_bank[4 * 4], bios_sign_id;
	uint64_t tsc_adjust;
	uint64_t tsc_offset;	/* guest TSC = VM clock in TSC units + this; see cpu_tsc() */

	/* --- run state --- */
	enum activity activity;
	bool nmi_blocked;	/* an NMI is being handled (until IRET) */
	bool nmi_pending, init_pending;
	uint8_t sipi_vector;
	bool extint;		/* INTR wire of the 8259 pair (board lock) */
	struct delivery delivery;
	bool trap_delivery;	/* the event being raised is a trap: RIP is already right */
	struct {
		struct delivery event;
		uint64_t rip, cr2;
		uint16_t cs;
	} history[8];		/* last events raised, newest first: the triple-fault dump */
	unsigned step;		/* STEP_*: execute instructions one at a time */
	sigjmp_buf unwind;	/* raise_*, vtx_exit: back to the loop */

	/* --- memory --- */
	struct tlb_context *context;	/* current */
	unsigned long tlb_generation;	/* raised whenever a fetched address may mean another page */
	uint64_t regime;	/* generation, code mode and privilege: what a fetch depends on */
	uint8_t bounce[64] __attribute__((aligned(64)));	/* accesses without one host address */
	struct {
		bool pending;
		uint8_t size, split;	/* bytes in all, and in the first page */
		uint8_t *wrote;	/* RAM written directly in a page that holds code */
		struct translation first, second;
	} commit;

	/* --- parts --- */
	unsigned index;		/* processor number = APIC ID */
	struct memory *memory;	/* same as engine->host.memory */
	struct soft_engine *engine;
	struct lapic *lapic;
	struct vtx *vtx;	/* NULL: extensions not exposed */
	struct block_cache *blocks;
	struct translator *translator;	/* NULL: everything is interpreted */
	struct tlb_contexts *contexts;
	pthread_cond_t wake;	/* with the board lock: activity may have changed */
	uint64_t exits[80];	/* VM exits by reason, for the report */
	uint64_t exceptions[32];
	uint64_t interrupts;
	struct translated_state native;
};

/* --- exceptions: none of these return (exception.c) --- */
_Noreturn void raise_exception(struct cpu *cpu, enum exception vector);	/* no error code */
_Noreturn void raise_error(struct cpu *cpu, enum exception vector, uint32_t error);
_Noreturn void raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error);
_Noreturn void raise_debug(struct cpu *cpu, uint64_t dr6_bits);	/* #DB; set trap_delivery for a trap */
#define raise_ud(cpu) raise_exception(cpu, EXC_UD)
#define raise_gp(cpu, error) raise_error(cpu, EXC_GP, error)
/* INT n, INT3, INTO, INT1: deliver and continue at the handler. */
_Noreturn void raise_software(struct cpu *cpu, enum event_type type, uint8_t vector);
/* Deliver an event through the IDT now (interrupts, VM-entry injection): on
 * return the processor is at the handler's first instruction. May raise. */
void event_deliver(struct cpu *cpu, const struct delivery *d);
/* Leave the current instruction and go on at r[REG_RIP] (state is complete). */
_Noreturn void cpu_continue(struct cpu *cpu);
/* The guest died: dump and end. */
_Noreturn void cpu_triple_fault(struct cpu *cpu);
/* The guest cannot go on, for the reason given: the same. */
_Noreturn void cpu_lost(struct cpu *cpu, const char *headline);
/* Our own fault, or something we cannot do: ends the VM with a dump. */
_Noreturn void cpu_give_up(struct cpu *cpu, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* --- whole state (cpu.c) --- */
void cpu_reset(struct cpu *cpu, bool init);	/* init: INIT signal; else power-on */
uint64_t cpu_rflags(const struct cpu *cpu);	/* complete RFLAGS */
void cpu_set_rflags(struct cpu *cpu, uint64_t rflags);	/* all known bits, with what follows from them */
/* After cpu->sysflags was changed directly (old: before): events, class, step. */
void cpu_flags_changed(struct cpu *cpu, uint32_t old);
void cpu_step_update(struct cpu *cpu);	/* TF, DR7 or the monitor trap flag changed */
void cpu_set_state(struct cpu *cpu, const struct processor_state *p);
void cpu_get_state(const struct cpu *cpu, struct processor_state *p);
void cpu_save(struct cpu *cpu, struct state *s);
int cpu_load(struct cpu *cpu, struct state *s, struct error *e);
/* Recompute what depends on CR0, CR4, EFER, CS, SS, RFLAGS.VM/AC, CPL: mode,
 * TLB class, segment bounds. Cheap. Does not change CPL. */
void cpu_mode_changed(struct cpu *cpu);
void cpu_class_changed(struct cpu *cpu);	/* only CPL or AC changed */
void segment_bounds_update(struct cpu *cpu, enum segment_register s);
void cpu_notify(struct cpu *cpu, uint32_t events);	/* any thread, board lock held; wakes HLT */
uint64_t cpu_tsc(struct cpu *cpu);	/* TSC as root mode sees it (IA32_TSC) */

/* --- control registers, as MOV CR / LMSW / VM entry load them. Checks are
 * the caller's business unless said (system.c) --- */
/* Full checks of MOV to CR; raises #GP. */
void cr0_write(struct cpu *cpu, uint64_t value);
void cr3_write(struct cpu *cpu, uint64_t value);
void cr4_write(struct cpu *cpu, uint64_t value);
uint64_t cr4_reserved(const struct cpu *cpu);	/* bits that this processor does not have */
/* Read the PDPTEs of PAE paging; false: reserved bits set, nothing loaded. */
bool pdptes_load(struct cpu *cpu, uint64_t cr3);
/* CPUID as the guest sees it (cpuid.c). */
struct cpuid_result { uint32_t eax, ebx, ecx, edx; };
struct cpuid_result cpuid_leaf(struct cpu *cpu, uint32_t leaf, uint32_t subleaf);

/* --- MSRs (msr.c): false is #GP --- */
bool msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value);
bool msr_write(struct cpu *cpu, uint32_t msr, uint64_t value);

/* --- segments (segment.c) --- */
struct descriptor { uint32_t low, high; uint32_t upper; /* system descriptors, 64-bit */ };
/* Load a data segment register by MOV/POP/LDS, all checks. */
void segment_load(struct cpu *cpu, enum segment_register s, uint16_t selector);
/* Real or virtual-8086 style load: base = selector * 16. */
void segment_load_real(struct cpu *cpu, enum segment_register s, uint16_t selector);
/* Read the descriptor that selector names; false when it is outside its table. May #PF. */
bool descriptor_read(struct cpu *cpu, uint16_t selector, struct descriptor *d);
uint32_t descriptor_access_rights(const struct descriptor *d);	/* VMCS format, without unusable */
uint32_t descriptor_limit(const struct descriptor *d);
uint32_t descriptor_base(const struct descriptor *d);
void descriptor_set_accessed(struct cpu *cpu, uint16_t selector, struct descriptor *d);
void segment_set(struct cpu *cpu, enum segment_register s, uint16_t selector, const struct descriptor *d);

/* --- task switch (task.c): SDM vol. 3, "Task Switching" --- */
enum task_switch_source { TASK_SWITCH_CALL = 0, TASK_SWITCH_IRET = 1, TASK_SWITCH_JMP = 2, TASK_SWITCH_GATE = 3 };
void task_switch(struct cpu *cpu, uint16_t tss_selector, enum task_switch_source source,
		 bool has_error, uint32_t error);

static inline bool cpu_protected(const struct cpu *cpu) { return cpu->cr0 & CR0_PE; }
static inline bool cpu_v86(const struct cpu *cpu) { return cpu->sysflags & FLAG_VM; }
static inline bool cpu_long_mode(const struct cpu *cpu) { return cpu->efer & EFER_LMA; }
static inline unsigned cpu_iopl(const struct cpu *cpu)
{
	return (cpu->sysflags & FLAG_IOPL) >> FLAG_IOPL_SHIFT;
}
/* 8, 4 or 2: the width of RSP as SS.B and the mode have it. */
static inline unsigned cpu_stack_size(const struct cpu *cpu)
{
	if (cpu->mode == MODE_64)
		return 8;
	return cpu->seg[SEG_SS].access_rights & AR_DB ? 4 : 2;
}

#endif
