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

/* INVVPID and INVPCID: match by tag. vpid 0 is root (and non-root without VPID).
 * Global translations go too, which every type of both instructions allows. */
void tlb_flush_tagged(struct cpu *cpu, uint16_t vpid, int pcid /* -1: all */);
void tlb_flush_address(struct cpu *cpu, uint16_t vpid, int pcid /* -1: all */, uint64_t linear);
/* INVEPT: everything translated through this EP4TA (EPTP bits 51:12), or
 * through any EPT when all. */
void tlb_flush_ept(struct cpu *cpu, uint64_t ep4ta, bool all);

/* --- code pages --- */
/* Code is decoded from these 64-byte chunks of a RAM page: no processor keeps
 * a write translation to the page. */
void tlb_mark_code(struct cpu *cpu, uint64_t page, uint64_t chunks);
/* Drop write translations to pages that others marked since the last call. */
void tlb_follow_code_marks(struct cpu *cpu);
/* Host address of the byte when it may be fetched by a cached translation. */
const uint8_t *tlb_fetch_hit(struct cpu *cpu, uint64_t linear, enum tlb_class tlb_class);
/* A jump-cache entry for this linear address exists under the current generation. */
void tlb_note_fetch(struct cpu *cpu, uint64_t linear);

/* The table that serves a class in the current context. */
struct tlb_entry *tlb_table(struct cpu *cpu, enum tlb_class tlb_class);
/* Enter a translation of linear's page to host (its page's first byte). */
void tlb_fill(struct cpu *cpu, enum tlb_class tlb_class, uint64_t linear, uint8_t *host,
	      bool read, bool write, bool execute);
/* What was just entered is part of a page of 1 << page_shift bytes. */
void tlb_note_large(struct cpu *cpu, uint64_t linear, unsigned page_shift);
/* Point cpu->tlb at the table for the current CPL, AC, alignment checking. */
void tlb_class_select(struct cpu *cpu);

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };

/* Walk, set A/D bits, fill the TLB, or raise. */
void translate(struct cpu *cpu, uint64_t linear, enum access access, enum tlb_class tlb_class,
	       struct translation *t);

#endif
