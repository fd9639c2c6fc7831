/* x87, MMX, SSE and AVX state, and the checks that come before any instruction
 * that uses it.
 *
 * XMM/YMM registers and MXCSR live in struct cpu (vec, mxcsr). The x87
 * registers, which the MMX registers alias, live here as an FXSAVE image, or,
 * from an x87 or MMX thunk on, in the host FPU of the thread that ran it: then
 * only FCW and FSW of the image are current, and fpu_state() brings the rest
 * back. That is safe because nothing of ours and nothing of libc that we call
 * uses the x87 (only long double would), no thunk waits with an exception
 * pending (its ES is checked first), and a thread that stops running a
 * processor stores the state back. The last instruction's and operand's
 * pointers are the guest's and kept beside the image.
 * CPUID leaf 7 shows FCS and FDS as deprecated, so saved images hold 0 for
 * them; they are tracked only for the real-mode formats of FNSTENV/FNSAVE,
 * which show linear addresses. */
#ifndef NESTOR_SOFT_FPU_H
#define NESTOR_SOFT_FPU_H

#include "soft/cpu.h"

/* The 512-byte FXSAVE image (SDM vol. 1, "x87 State", "FXSAVE Area"). */
struct fxsave_image {
	uint16_t fcw, fsw;
	uint8_t ftw;		/* abridged: bit n set when physical register n is not empty */
	uint8_t reserved;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];	/* ST(0) .. ST(7), 10 bytes each */
	uint8_t xmm[16][16];
	uint8_t unused[96];
};

struct fpu {
	/* fip, fdp, fop, mxcsr and xmm of the image are scratch */
	struct fxsave_image image __attribute__((aligned(16)));
	uint64_t fip, fdp;	/* offsets, as the instruction had them */
	uint16_t fop;
	uint16_t fcs, fds;
	uint64_t fip_linear, fdp_linear;
};

#define FSW_ES BIT(7)
#define FSW_B BIT(15)
#define FSW_TOP_SHIFT 11
#define FSW_TOP (7u << FSW_TOP_SHIFT)
#define FSW_EXCEPTIONS 0x3fu
#define FCW_INITIAL 0x37fu
#define FCW_RESET 0x40u		/* after power-on; FNINIT gives FCW_INITIAL */
#define FCW_FIXED BIT(6)
#define FCW_WRITABLE 0x1f7fu

#define MXCSR_INITIAL 0x1f80u
#define MXCSR_STATUS 0x3fu

void fpu_create(struct cpu *cpu);
void fpu_destroy(struct cpu *cpu);
/* init: INIT leaves x87, SSE and AVX state as it is (SDM vol. 3, "Processor
 * State After Reset"); power-on does not. XCR0 becomes 1 either way at power-on. */
void fpu_reset(struct cpu *cpu, bool init);
void fpu_save(struct cpu *cpu, struct state *s);
int fpu_load(struct cpu *cpu, struct state *s, struct error *e);

/* Bits of MXCSR that may be set (what the host allows). */
uint32_t fpu_mxcsr_mask(void);
/* XCR0 bits that this processor has: x87, SSE and, when thunks have it, AVX. */
uint64_t fpu_xcr0_supported(void);
/* XCR0 bit n may be enabled only with others: is this value allowed? */
bool fpu_xcr0_valid(uint64_t xcr0);

/* The x87 state that this thread's FPU holds; NULL: none, and it is as the ABI
 * wants it. */
extern __thread struct fpu *fpu_live;
void fpu_live_load(struct fpu *f);
void fpu_live_store(void);

/* The state with its image current and not live; for everything but thunks. */
static inline struct fpu *fpu_state(struct cpu *cpu)
{
	if (fpu_live == cpu->fpu)
		fpu_live_store();
	return cpu->fpu;
}

struct cpuid_result;
/* CPUID leaf 0Dh, any subleaf (xsave.c). */
void fpu_cpuid_0d(struct cpu *cpu, uint32_t subleaf, struct cpuid_result *result);

/* Initial x87 state as FNINIT leaves it (XRSTOR's too, which also clears the
 * registers). */
void fpu_initialize(struct fpu *f, bool clear_registers);
/* Is x87 state in its initial configuration (XINUSE[0] = 0)? */
bool fpu_x87_initial(const struct fpu *f);
/* Make ES and B agree with the exception flags and masks. */
void fpu_summarize(struct fpu *f);
/* What every MMX instruction does first: TOP = 0, all registers valid. */
void fpu_enter_mmx(struct fpu *f);
/* The full tag word from registers and abridged tags. */
uint16_t fpu_tag_word(const struct fpu *f);

/* --- availability checks (#UD, #NM, #MF); each as its instruction class has
 * it, and in the manual's order --- */
_Noreturn void fpu_sse_unavailable(struct cpu *cpu);
_Noreturn void fpu_avx_unavailable(struct cpu *cpu);
_Noreturn void fpu_mmx_unavailable(struct cpu *cpu);
_Noreturn void fpu_x87_unavailable(struct cpu *cpu);

static inline void fpu_check_sse(struct cpu *cpu)
{
	if (unlikely((cpu->cr0 & (CR0_EM | CR0_TS)) || !(cpu->cr4 & CR4_OSFXSR)))
		fpu_sse_unavailable(cpu);
}

static inline void fpu_check_avx(struct cpu *cpu)
{
	if (unlikely((cpu->cr0 & (CR0_PE | CR0_TS)) != CR0_PE || !(cpu->cr4 & CR4_OSXSAVE) ||
		     (cpu->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX) ||
		     (cpu->sysflags & FLAG_VM)))
		fpu_avx_unavailable(cpu);
}

/* x87, not waiting: FNINIT, FNSTSW .. */
static inline void fpu_check_x87_nowait(struct cpu *cpu)
{
	if (unlikely(cpu->cr0 & (CR0_EM | CR0_TS)))
		raise_exception(cpu, EXC_NM);
}

static inline void fpu_check_x87(struct cpu *cpu)
{
	if (unlikely((cpu->cr0 & (CR0_EM | CR0_TS)) || (cpu->fpu->image.fsw & FSW_ES)))
		fpu_x87_unavailable(cpu);
}

static inline void fpu_check_mmx(struct cpu *cpu)
{
	if (unlikely((cpu->cr0 & (CR0_EM | CR0_TS)) || (cpu->fpu->image.fsw & FSW_ES)))
		fpu_mmx_unavailable(cpu);
}

/* --- x87 control instructions in C (fpu.c), for xsave_rules --- */
insn_fn op_fninit, op_fnclex, op_fnstcw, op_fnstsw, op_fnstenv, op_fldenv, op_fnsave,
	op_frstor, op_fwait, op_fnop;

#endif
