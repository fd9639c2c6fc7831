/* A processor's architectural state, as loaders set it, engines exchange it
 * and dumps print it. No behaviour. */
#ifndef NESTOR_X86_PROCESSOR_STATE_H
#define NESTOR_X86_PROCESSOR_STATE_H

#include <stdint.h>

enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

enum segment_register { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* A segment register with its hidden part. Access rights are in the VMCS's
 * format (SDM vol. 3, "Guest Register State"): type 3:0, S 4, DPL 6:5, P 7,
 * AVL 12, L 13, D/B 14, G 15, unusable 16. The limit is in bytes, already
 * scaled by G. */
struct segment {
	uint16_t selector;
	uint32_t access_rights;
	uint32_t limit;
	uint64_t base;
};

#define AR_TYPE 0xfu
#define AR_S (1u << 4)
#define AR_DPL_SHIFT 5
#define AR_DPL (3u << AR_DPL_SHIFT)
#define AR_P (1u << 7)
#define AR_AVL (1u << 12)
#define AR_L (1u << 13)
#define AR_DB (1u << 14)
#define AR_G (1u << 15)
#define AR_UNUSABLE (1u << 16)

struct table_register {
	uint64_t base;
	uint16_t limit;
};

struct processor_state {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	struct segment seg[SEG_COUNT];
	struct table_register gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
};

/* Power-on state (SDM vol. 3, "Processor State After Reset"). */
void processor_state_reset(struct processor_state *p);

#endif
