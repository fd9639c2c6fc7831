/* Translations: a pool of TLB contexts per processor, tagged as the
 * architecture tags them, so that a CR3 write, a VM entry or an exit selects a
 * context and flushes nothing that may live (SDM vol. 3, "Caching Translation
 * Information" and "VMX Support for Address Translation"). */
#ifndef NESTOR_SOFT_TLB_H
#define NESTOR_SOFT_TLB_H

#include "soft/cpu.h"

struct tlb_contexts *tlb_contexts_create(void);
void tlb_contexts_destroy(struct tlb_contexts *t);

/* Choose the context for the current CR3/PCID, VPID, EP4TA, mode; after any of
 * them changed. keep: translations of that tag may be revived (MOV CR3 with
 * bit 63 and CR4.PCIDE, VM entry/exit with VPID); else it starts empty. */
void tlb_select(struct cpu *cpu, bool keep);

/* INVLPG: this linear address in the current PCID, and globals of every PCID
 * of the current VPID. */
void tlb_flush_page(struct cpu *cpu, uint64_t linear);
/* Everything of the current VPID: MOV CR4/CR0, and so on. */
void tlb_flush_vpid_current(struct cpu *cpu);
/* Everything of every tag. */
void tlb_flush_all(struct cpu *cpu);
/* The current context's translations were made under another CPL/paging-bit
 * regime (CR0.WP, EFER.NXE, ...): all of the current VPID. Same as above. */

/* INVVPID and INVPCID: match by tag. vpid 0 is root (and non-root without VPID). */
void tlb_flush_tagged(struct cpu *cpu, uint16_t vpid, int pcid /* -1: all */, bool keep_globals);
void tlb_flush_address(struct cpu *cpu, uint16_t vpid, int pcid /* -1: all */, uint64_t linear);
/* INVEPT: everything translated through this EP4TA (EPTP bits 51:12), or
 * through any EPT when all. */
void tlb_flush_ept(struct cpu *cpu, uint64_t ep4ta, bool all);

/* Result of a translation (paging.c). */
struct translation {
	uint64_t pa;		/* guest-physical (root: physical) address, after EPT host-physical of L1's view */
	uint8_t *host;		/* RAM byte, or NULL: device memory */
	bool apic_page;		/* VMX APIC-access page */
};

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };

/* Walk, set A/D bits, fill the TLB, or raise. */
void translate(struct cpu *cpu, uint64_t linear, enum access access, enum tlb_class tlb_class,
	       struct translation *t);

#endif
