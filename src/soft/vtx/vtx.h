/* VT-x of the software processor: what the rest of the processor sees of it.
 * SDM volume 3, the VMX chapters.
 *
 * Rules of the house: instructions that VMX non-root operation may intercept
 * call one of the vtx_intercept_* functions first, after the checks the SDM
 * puts before the VM exit ("Relative Priority of Faults and VM Exits"), and go
 * on when it returns. vtx_exit() does not return. */
#ifndef NESTOR_SOFT_VTX_VTX_H
#define NESTOR_SOFT_VTX_VTX_H

#include "soft/cpu.h"
#include "soft/tlb.h"

/* --- life --- */
void vtx_create(struct cpu *cpu);	/* only when the extensions are exposed */
void vtx_destroy(struct cpu *cpu);
void vtx_reset(struct cpu *cpu, bool init);
bool vtx_operation(const struct cpu *cpu);	/* between VMXON and VMXOFF */
void vtx_save(const struct cpu *cpu, struct state *s);
int vtx_load(struct cpu *cpu, struct state *s, struct error *e);
/* Capability MSRs 480h-491h; false: #GP. */
bool vtx_msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value);
/* Bits of CR0/CR4 that VMX operation fixes: true when the value may be loaded now. */
bool vtx_cr0_allowed(const struct cpu *cpu, uint64_t value);
bool vtx_cr4_allowed(const struct cpu *cpu, uint64_t value);

/* --- leaving the guest --- */
/* VM exit with RIP at the instruction (fault-like). Does not return. */
_Noreturn void vtx_exit(struct cpu *cpu, uint32_t reason, uint64_t qualification);
/* The same, with VM-exit instruction length and information set from `i`. */
_Noreturn void vtx_exit_instruction(struct cpu *cpu, const struct insn *i, uint32_t reason,
				    uint64_t qualification, uint32_t information);

/* --- intercepts; call only when cpu->nonroot; return when there is no exit --- */
/* Unconditional, or by one control bit (a table knows which): CPUID, GETSEC,
 * HLT, INVD, RDPMC, RDTSC, RDTSCP, RDRAND, RDSEED, WBINVD, XSETBV, RSM, PAUSE
 * (incl. PAUSE-loop exiting), VMCALL and all VMX instructions. */
void vtx_intercept(struct cpu *cpu, const struct insn *i, uint32_t reason);
void vtx_intercept_invlpg(struct cpu *cpu, const struct insn *i, uint64_t linear);
void vtx_intercept_invpcid(struct cpu *cpu, const struct insn *i);
void vtx_intercept_xsaves(struct cpu *cpu, const struct insn *i, bool restore, uint64_t bitmap);
void vtx_intercept_dr(struct cpu *cpu, const struct insn *i, unsigned dr, unsigned gpr, bool read);
void vtx_intercept_msr(struct cpu *cpu, const struct insn *i, uint32_t msr, bool write);
void vtx_intercept_io(struct cpu *cpu, const struct insn *i, uint16_t port, unsigned size, bool in,
		      bool string, bool rep, bool immediate);
/* LGDT LIDT SGDT SIDT (46), LLDT LTR SLDT STR (47); operand register or memory. */
void vtx_intercept_descriptor_table(struct cpu *cpu, const struct insn *i, uint32_t reason);
/* MOV to CR0/CR4/LMSW/CLTS: exits, or returns the value that really is loaded
 * (guest/host mask applied). gpr: the source register. */
uint64_t vtx_cr_write(struct cpu *cpu, const struct insn *i, unsigned cr, unsigned gpr, uint64_t value);
void vtx_intercept_cr3(struct cpu *cpu, const struct insn *i, unsigned gpr, bool read, uint64_t value);
void vtx_intercept_cr8(struct cpu *cpu, const struct insn *i, unsigned gpr, bool read);
/* CLTS: exits, or true when CR0.TS is to be cleared. LMSW likewise returns the new CR0. */
bool vtx_intercept_clts(struct cpu *cpu, const struct insn *i);
uint64_t vtx_intercept_lmsw(struct cpu *cpu, const struct insn *i, uint16_t source, uint64_t linear);
/* What a guest reads: CR0 and CR4 through mask and shadow. */
uint64_t vtx_cr_read(const struct cpu *cpu, unsigned cr);
/* CR8 under TPR shadow; false: no TPR shadow, use the local APIC. Writing may exit (TPR below threshold) after the instruction. */
bool vtx_tpr_read(struct cpu *cpu, uint64_t *value);
bool vtx_tpr_write(struct cpu *cpu, uint64_t value);
uint64_t vtx_tsc(struct cpu *cpu, uint64_t tsc);	/* offset and scaling */
void vtx_intercept_task_switch(struct cpu *cpu, uint16_t selector, enum task_switch_source source);
/* Before an exception, NMI or software event is delivered through the IDT
 * (not for events that VM entry injects): exits when the exception bitmap, the
 * page-fault mask and match, or NMI exiting say so. `qualification`: #PF
 * linear address, #DB bits. */
void vtx_intercept_event(struct cpu *cpu, const struct delivery *d, uint64_t qualification);
/* IRET in non-root operation begins: it ends the blocking by NMI that the
 * controls say, also when it faults afterwards. */
void vtx_iret(struct cpu *cpu);

/* --- memory --- */
struct ept_translation {
	uint64_t pa;		/* L1-physical address of the byte */
	uint8_t page_shift;	/* 12, 21, 30 */
	bool read, write, execute;	/* rights of the whole path */
	bool dirty;		/* D already set: a write needs no further walk (or A/D off) */
};
/* Is EPT on for the running guest? */
bool vtx_ept_enabled(const struct cpu *cpu);
/* Tags of the current translations: VPID (0 in root or without) and EP4TA (0 without EPT). */
uint16_t vtx_vpid(const struct cpu *cpu);
uint64_t vtx_ep4ta(const struct cpu *cpu);
/* Translate a guest-physical address for one access, set EPT A/D, or exit with
 * EPT violation/misconfiguration. linear is the address whose translation asks
 * (linear_valid), structure: the access is to a guest paging structure
 * (of which a write is an A/D update). */
void ept_translate(struct cpu *cpu, uint64_t gpa, enum access access, bool linear_valid,
		   uint64_t linear, bool structure, struct ept_translation *out);
/* Is this L1-physical page the running guest's APIC-access page? */
bool vtx_apic_access_page(const struct cpu *cpu, uint64_t pa);
/* An access to it: exits, or virtualises TPR. */
uint64_t vtx_apic_access_read(struct cpu *cpu, unsigned offset, unsigned size, bool fetch);
void vtx_apic_access_write(struct cpu *cpu, unsigned offset, unsigned size, uint64_t value);

/* --- instruction boundaries; called from the loop (run.c) in this order of
 * the SDM's priorities; each may exit (does not return) --- */
void vtx_boundary_traps(struct cpu *cpu);	/* pending MTF, TPR below threshold after an instruction */
void vtx_boundary_timer(struct cpu *cpu);	/* VMX-preemption timer at zero */
void vtx_boundary_nmi_window(struct cpu *cpu);
void vtx_boundary_interrupt_window(struct cpu *cpu);
/* Does an NMI / external interrupt / INIT / SIPI exit? If so they do not return. */
void vtx_boundary_nmi(struct cpu *cpu);	/* an NMI is about to be taken */
void vtx_boundary_interrupt(struct cpu *cpu);	/* an external interrupt is pending in the (L1's) APIC */
void vtx_boundary_init(struct cpu *cpu);
void vtx_boundary_sipi(struct cpu *cpu, uint8_t vector);
bool vtx_interrupt_exiting(const struct cpu *cpu);	/* then RFLAGS.IF does not block L1's interrupts */
bool vtx_nmi_blocked(const struct cpu *cpu);	/* NMIs cannot be taken now (virtual NMIs considered) */
/* An instruction completed while vtx_wants_step(): an MTF VM exit is due at the
 * next vtx_boundary_traps(). */
void vtx_stepped(struct cpu *cpu);
bool vtx_wants_step(const struct cpu *cpu);	/* monitor trap flag: one instruction, then vtx_boundary_traps */
/* Triple fault in the guest: exits. */
void vtx_triple_fault(struct cpu *cpu);

#endif
