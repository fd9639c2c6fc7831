/* A small hypervisor for the rules of VT-x: one VMCS, one guest that begins in
 * the hypervisor's own address space and segments, with its own stack. Every
 * exception of the guest exits unless a rule says otherwise. */
#ifndef GUEST_VMX_H
#define GUEST_VMX_H

#include "rt.h"

/* VMCS fields (SDM vol. 3, appendix "Field Encoding in VMCS") */
enum {
	VPID = 0x0000, G_ES = 0x800, G_CS = 0x802, G_SS = 0x804, G_DS = 0x806, G_FS = 0x808, G_GS = 0x80a, G_LDTR = 0x80c,
	G_TR = 0x80e, H_ES = 0xc00, H_CS = 0xc02, H_SS = 0xc04, H_DS = 0xc06, H_FS = 0xc08, H_GS = 0xc0a, H_TR = 0xc0c,
	IO_BITMAP_A = 0x2000, IO_BITMAP_B = 0x2002, MSR_BITMAP = 0x2004, EXIT_STORE = 0x2006, EXIT_LOAD = 0x2008,
	ENTRY_LOAD = 0x200a, TSC_OFFSET = 0x2010, VIRTUAL_APIC = 0x2012, APIC_ACCESS = 0x2014, EPTP = 0x201a,
	XSS_BITMAP = 0x202c, TSC_MULTIPLIER = 0x2032, GUEST_PHYSICAL = 0x2400, LINK_POINTER = 0x2800, G_DEBUGCTL = 0x2802, G_PAT = 0x2804,
	G_EFER = 0x2806, G_PDPTE0 = 0x280a, H_PAT = 0x2c00, H_EFER = 0x2c02,
	PIN = 0x4000, PRIMARY = 0x4002, EXCEPTIONS = 0x4004, PF_MASK = 0x4006, PF_MATCH = 0x4008, CR3_COUNT = 0x400a,
	EXIT_CONTROLS = 0x400c, EXIT_STORE_COUNT = 0x400e, EXIT_LOAD_COUNT = 0x4010, ENTRY_CONTROLS = 0x4012,
	ENTRY_LOAD_COUNT = 0x4014, ENTRY_INFO = 0x4016, ENTRY_ERROR = 0x4018, ENTRY_LENGTH = 0x401a, TPR_THRESHOLD = 0x401c,
	SECONDARY = 0x401e, PLE_GAP = 0x4020, PLE_WINDOW = 0x4022,
	INSTRUCTION_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_INFO = 0x4404, EXIT_ERROR = 0x4406, VECTORING_INFO = 0x4408,
	VECTORING_ERROR = 0x440a, EXIT_LENGTH = 0x440c, INSTRUCTION_INFO = 0x440e,
	G_ES_LIMIT = 0x4800, G_CS_LIMIT = 0x4802, G_SS_LIMIT = 0x4804, G_DS_LIMIT = 0x4806, G_FS_LIMIT = 0x4808,
	G_GS_LIMIT = 0x480a, G_LDTR_LIMIT = 0x480c, G_TR_LIMIT = 0x480e, G_GDTR_LIMIT = 0x4810, G_IDTR_LIMIT = 0x4812,
	G_ES_AR = 0x4814, G_CS_AR = 0x4816, G_SS_AR = 0x4818, G_DS_AR = 0x481a, G_FS_AR = 0x481c, G_GS_AR = 0x481e,
	G_LDTR_AR = 0x4820, G_TR_AR = 0x4822, INTERRUPTIBILITY = 0x4824, ACTIVITY = 0x4826, G_SYSENTER_CS = 0x482a,
	PREEMPTION = 0x482e, H_SYSENTER_CS = 0x4c00,
	CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006, CR3_TARGET0 = 0x6008,
	QUALIFICATION = 0x6400, LINEAR_ADDRESS = 0x640a,
	G_CR0 = 0x6800, G_CR3 = 0x6802, G_CR4 = 0x6804, G_ES_BASE = 0x6806, G_CS_BASE = 0x6808, G_SS_BASE = 0x680a,
	G_DS_BASE = 0x680c, G_FS_BASE = 0x680e, G_GS_BASE = 0x6810, G_LDTR_BASE = 0x6812, G_TR_BASE = 0x6814,
	G_GDTR_BASE = 0x6816, G_IDTR_BASE = 0x6818, G_DR7 = 0x681a, G_RSP = 0x681c, G_RIP = 0x681e, G_RFLAGS = 0x6820,
	PENDING_DEBUG = 0x6822, G_SYSENTER_ESP = 0x6824, G_SYSENTER_EIP = 0x6826,
	H_CR0 = 0x6c00, H_CR3 = 0x6c02, H_CR4 = 0x6c04, H_FS_BASE = 0x6c06, H_GS_BASE = 0x6c08, H_TR_BASE = 0x6c0a,
	H_GDTR_BASE = 0x6c0c, H_IDTR_BASE = 0x6c0e, H_SYSENTER_ESP = 0x6c10, H_SYSENTER_EIP = 0x6c12, H_RSP = 0x6c14,
	H_RIP = 0x6c16,
};
/* Controls */
enum { PIN_EXTERNAL = 1 << 0, PIN_NMI = 1 << 3, PIN_VIRTUAL_NMI = 1 << 5, PIN_PREEMPTION = 1 << 6 };
enum {
	CPU_INTERRUPT_WINDOW = 1 << 2, CPU_TSC_OFFSET = 1 << 3, CPU_HLT = 1 << 7, CPU_INVLPG = 1 << 9, CPU_MWAIT = 1 << 10,
	CPU_RDPMC = 1 << 11, CPU_RDTSC = 1 << 12, CPU_CR3_LOAD = 1 << 15, CPU_CR3_STORE = 1 << 16, CPU_CR8_LOAD = 1 << 19,
	CPU_CR8_STORE = 1 << 20, CPU_TPR_SHADOW = 1 << 21, CPU_NMI_WINDOW = 1 << 22, CPU_MOV_DR = 1 << 23, CPU_IO = 1 << 24,
	CPU_IO_BITMAPS = 1 << 25, CPU_MTF = 1 << 27, CPU_MSR_BITMAPS = 1 << 28, CPU_MONITOR = 1 << 29, CPU_PAUSE = 1 << 30,
};
#define CPU_SECONDARY (1u << 31)
enum {
	CPU2_APIC_ACCESS = 1 << 0, CPU2_EPT = 1 << 1, CPU2_DESCRIPTOR_TABLE = 1 << 2, CPU2_RDTSCP = 1 << 3, CPU2_VPID = 1 << 5,
	CPU2_WBINVD = 1 << 6, CPU2_UNRESTRICTED = 1 << 7, CPU2_PAUSE_LOOP = 1 << 10, CPU2_RDRAND = 1 << 11,
	CPU2_INVPCID = 1 << 12, CPU2_VMFUNC = 1 << 13, CPU2_RDSEED = 1 << 16, CPU2_XSAVES = 1 << 20, CPU2_TSC_SCALING = 1 << 25,
};
enum { EXIT_HOST_64 = 1 << 9, EXIT_ACK = 1 << 15, EXIT_SAVE_PAT = 1 << 18, EXIT_LOAD_PAT = 1 << 19, EXIT_SAVE_EFER = 1 << 20,
       EXIT_LOAD_EFER = 1 << 21, EXIT_SAVE_PREEMPTION = 1 << 22 };
enum { ENTRY_LOAD_DEBUG = 1 << 2, ENTRY_IA32E = 1 << 9, ENTRY_LOAD_PAT = 1 << 14, ENTRY_LOAD_EFER = 1 << 15 };
/* Exit reasons */
enum {
	R_EXCEPTION, R_INTERRUPT, R_TRIPLE_FAULT, R_INTERRUPT_WINDOW = 7, R_NMI_WINDOW, R_TASK_SWITCH, R_CPUID, R_HLT = 12, R_INVD,
	R_INVLPG, R_RDPMC, R_RDTSC, R_VMCALL = 18, R_VMCLEAR, R_VMLAUNCH, R_VMPTRLD, R_VMPTRST, R_VMREAD, R_VMRESUME,
	R_VMWRITE, R_VMXOFF, R_VMXON, R_CR, R_DR, R_IO, R_RDMSR, R_WRMSR, R_GUEST_STATE, R_MSR_LOAD, R_MTF = 37, R_PAUSE = 40,
	R_TPR = 43, R_APIC_ACCESS, R_GDTR_IDTR = 46, R_LDTR_TR, R_EPT_VIOLATION, R_EPT_MISCONFIGURATION, R_INVEPT, R_RDTSCP,
	R_PREEMPTION, R_INVVPID, R_WBINVD, R_XSETBV, R_RDRAND = 57, R_INVPCID, R_VMFUNC, R_RDSEED = 61, R_XSAVES = 63, R_XRSTORS,
};
/* Interruption information */
#define INFO_VALID (1u << 31)
#define INFO_ERROR (1u << 11)
enum { TYPE_EXTERNAL = 0, TYPE_NMI = 2 << 8, TYPE_HARDWARE = 3 << 8, TYPE_SOFTWARE = 4 << 8, TYPE_PRIVILEGED = 5 << 8,
       TYPE_SOFTWARE_EXCEPTION = 6 << 8 };
enum { BLOCKING_STI = 1, BLOCKING_MOV_SS = 2, BLOCKING_NMI = 8 };

/* CF (1), ZF (2) or success (0) of a VMX instruction. */
enum { VM_SUCCEED, VM_FAIL_INVALID, VM_FAIL_VALID };
#define VMX_RESULT(text, ...) ({ bool c_, z_; \
	asm volatile(text "; setc %0; setz %1" : "=qm"(c_), "=qm"(z_) : __VA_ARGS__ : "cc", "memory"); \
	c_ ? VM_FAIL_INVALID : z_ ? VM_FAIL_VALID : VM_SUCCEED; })
static inline int vmxon(uint64_t at) { return VMX_RESULT("vmxon %2", "m"(at)); }
static inline int vmclear(uint64_t at) { return VMX_RESULT("vmclear %2", "m"(at)); }
static inline int vmptrld(uint64_t at) { return VMX_RESULT("vmptrld %2", "m"(at)); }
static inline int vmwrite(uint64_t field, uint64_t v) { return VMX_RESULT("vmwrite %3, %2", "r"(field), "r"(v)); }
static inline uint64_t vmread(uint64_t field)
{
	uint64_t v = 0;
	asm volatile("vmread %1, %0" : "=r"(v) : "r"(field) : "cc");
	return v;
}
struct invalidation { uint64_t first, second; };
static inline int invept(uint64_t type, uint64_t eptp)
{
	struct invalidation d = { eptp, 0 };
	return VMX_RESULT("invept %3, %2", "r"(type), "m"(d));
}
static inline int invvpid(uint64_t type, uint64_t vpid, uint64_t linear)
{
	struct invalidation d = { vpid, linear };
	return VMX_RESULT("invvpid %3, %2", "r"(type), "m"(d));
}

/* --- the guest --- */
struct registers { uint64_t ax, cx, dx, bx, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15; };
extern struct registers registers;	/* the guest's, except RSP and RIP */
extern uint8_t guest_stack[8192];
#define guest_stack_top ((word)guest_stack + sizeof guest_stack)
extern uint64_t vmxon_region, vmcs_region;
/* VMX operation and a VMCS with which vmx_run works; false (and skip): none. */
bool vmx_begin(void);
/* Launch or resume; the exit's basic reason, or -1 when the instruction failed
 * (then vm_error is its number). Bit 31 of the reason is in vm_entry_failed. */
int vmx_run(void);
int vmx_run_at(const void *rip);
extern unsigned vm_error;
extern bool vm_entry_failed;
/* Set or clear controls; false when the processor does not have one of them. */
bool control(unsigned field, uint32_t set, uint32_t clear);
/* How a rule begins, and what it needs: it ends, skipped, where that is missing. */
#define BEGIN() do { if (!vmx_begin()) return; } while (0)
#define NEED(...) do { if (!control(__VA_ARGS__)) return; } while (0)
/* Skip the instruction that exited. */
void vmx_skip(void);
void vmx_launched(bool launched);	/* what vmx_run uses next */

/* --- a hypervisor in a loop (hypervise.c) --- */
void vmx_pass_through(void);	/* controls with which nearly nothing exits */
void vmx_hypervise(void);	/* never returns */

/* --- EPT: the guest-physical addresses are the physical ones, in 2 MiB pages --- */
enum { EPT_R = 1, EPT_W = 2, EPT_X = 4, EPT_WB = 6 << 3, EPT_LARGE = 1 << 7, EPT_A = 1 << 8, EPT_D = 1 << 9, EPT_RWX = 7 };
enum { EPTP_WB_4 = 6 | 3 << 3, EPTP_AD = 1 << 6 };
bool ept_begin(uint64_t eptp_bits);	/* builds tables, turns EPT on */
uint64_t *ept_entry(uint64_t physical, unsigned level);	/* splits what is larger */
extern uint64_t ept_root;

#endif
