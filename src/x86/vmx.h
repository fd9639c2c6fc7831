/* VMX as SDM vol. 3 defines it: controls, exit reasons, error numbers, field
 * formats, capability MSRs. Only numbers and names; no behaviour. */
#ifndef NESTOR_X86_VMX_H
#define NESTOR_X86_VMX_H

#include "base/bits.h"

/* --- VM-execution, VM-exit and VM-entry controls: X(word, bit, identifier, name).
 * The list is what this processor implements; the capability MSRs, the names in
 * messages and the bit names below all come from it. --- */
#define VMX_CONTROLS(X) \
	X(PIN, 0, PIN_EXTERNAL_INTERRUPT, "external-interrupt exiting") \
	X(PIN, 3, PIN_NMI, "NMI exiting") \
	X(PIN, 5, PIN_VIRTUAL_NMIS, "virtual NMIs") \
	X(PIN, 6, PIN_PREEMPTION_TIMER, "activate VMX-preemption timer") \
	X(PRIMARY, 2, PRIMARY_INTERRUPT_WINDOW, "interrupt-window exiting") \
	X(PRIMARY, 3, PRIMARY_TSC_OFFSETTING, "use TSC offsetting") \
	X(PRIMARY, 7, PRIMARY_HLT, "HLT exiting") \
	X(PRIMARY, 9, PRIMARY_INVLPG, "INVLPG exiting") \
	X(PRIMARY, 10, PRIMARY_MWAIT, "MWAIT exiting") \
	X(PRIMARY, 11, PRIMARY_RDPMC, "RDPMC exiting") \
	X(PRIMARY, 12, PRIMARY_RDTSC, "RDTSC exiting") \
	X(PRIMARY, 15, PRIMARY_CR3_LOAD, "CR3-load exiting") \
	X(PRIMARY, 16, PRIMARY_CR3_STORE, "CR3-store exiting") \
	X(PRIMARY, 19, PRIMARY_CR8_LOAD, "CR8-load exiting") \
	X(PRIMARY, 20, PRIMARY_CR8_STORE, "CR8-store exiting") \
	X(PRIMARY, 21, PRIMARY_TPR_SHADOW, "use TPR shadow") \
	X(PRIMARY, 22, PRIMARY_NMI_WINDOW, "NMI-window exiting") \
	X(PRIMARY, 23, PRIMARY_MOV_DR, "MOV-DR exiting") \
	X(PRIMARY, 24, PRIMARY_UNCONDITIONAL_IO, "unconditional I/O exiting") \
	X(PRIMARY, 25, PRIMARY_IO_BITMAPS, "use I/O bitmaps") \
	X(PRIMARY, 27, PRIMARY_MONITOR_TRAP, "monitor trap flag") \
	X(PRIMARY, 28, PRIMARY_MSR_BITMAPS, "use MSR bitmaps") \
	X(PRIMARY, 29, PRIMARY_MONITOR, "MONITOR exiting") \
	X(PRIMARY, 30, PRIMARY_PAUSE, "PAUSE exiting") \
	X(PRIMARY, 31, PRIMARY_SECONDARY, "activate secondary controls") \
	X(SECONDARY, 0, SECONDARY_APIC_ACCESSES, "virtualize APIC accesses") \
	X(SECONDARY, 1, SECONDARY_EPT, "enable EPT") \
	X(SECONDARY, 2, SECONDARY_DESCRIPTOR_TABLE, "descriptor-table exiting") \
	X(SECONDARY, 3, SECONDARY_RDTSCP, "enable RDTSCP") \
	X(SECONDARY, 5, SECONDARY_VPID, "enable VPID") \
	X(SECONDARY, 6, SECONDARY_WBINVD, "WBINVD exiting") \
	X(SECONDARY, 7, SECONDARY_UNRESTRICTED_GUEST, "unrestricted guest") \
	X(SECONDARY, 10, SECONDARY_PAUSE_LOOP, "PAUSE-loop exiting") \
	X(SECONDARY, 11, SECONDARY_RDRAND, "RDRAND exiting") \
	X(SECONDARY, 12, SECONDARY_INVPCID, "enable INVPCID") \
	X(SECONDARY, 16, SECONDARY_RDSEED, "RDSEED exiting") \
	X(SECONDARY, 20, SECONDARY_XSAVES, "enable XSAVES/XRSTORS") \
	X(SECONDARY, 25, SECONDARY_TSC_SCALING, "use TSC scaling") \
	X(EXIT, 2, EXIT_SAVE_DEBUG, "save debug controls") \
	X(EXIT, 9, EXIT_HOST_ADDRESS_SPACE, "host address-space size") \
	X(EXIT, 15, EXIT_ACKNOWLEDGE_INTERRUPT, "acknowledge interrupt on exit") \
	X(EXIT, 18, EXIT_SAVE_PAT, "save IA32_PAT") \
	X(EXIT, 19, EXIT_LOAD_PAT, "load IA32_PAT") \
	X(EXIT, 20, EXIT_SAVE_EFER, "save IA32_EFER") \
	X(EXIT, 21, EXIT_LOAD_EFER, "load IA32_EFER") \
	X(EXIT, 22, EXIT_SAVE_PREEMPTION_TIMER, "save VMX-preemption timer value") \
	X(ENTRY, 2, ENTRY_LOAD_DEBUG, "load debug controls") \
	X(ENTRY, 9, ENTRY_IA32E_GUEST, "IA-32e mode guest") \
	X(ENTRY, 14, ENTRY_LOAD_PAT, "load IA32_PAT") \
	X(ENTRY, 15, ENTRY_LOAD_EFER, "load IA32_EFER")

enum vmx_control_word {
	VMX_WORD_PIN, VMX_WORD_PRIMARY, VMX_WORD_SECONDARY, VMX_WORD_EXIT, VMX_WORD_ENTRY,
	VMX_WORDS
};

enum {
#define X(word, bit, id, name) VMX_BIT_##id = bit,
	VMX_CONTROLS(X)
#undef X
};

/* Masks, as C needs them. */
#define VMX_CONTROL(id) (1u << VMX_BIT_##id)

/* Control bits that are 1 by default (appendix "VMX Capability Reporting
 * Facility", "Reserved Controls and Default Settings"). */
#define VMX_PIN_DEFAULT1 0x00000016u
#define VMX_PRIMARY_DEFAULT1 0x0401e172u
#define VMX_EXIT_DEFAULT1 0x00036dffu
#define VMX_ENTRY_DEFAULT1 0x000011ffu

/* --- basic exit reasons (appendix "VMX Basic Exit Reasons") --- */
#define VMX_EXIT_REASONS(X) \
	X(EXCEPTION_NMI, 0, "exception or NMI") \
	X(EXTERNAL_INTERRUPT, 1, "external interrupt") \
	X(TRIPLE_FAULT, 2, "triple fault") \
	X(INIT, 3, "INIT signal") \
	X(SIPI, 4, "start-up IPI") \
	X(INTERRUPT_WINDOW, 7, "interrupt window") \
	X(NMI_WINDOW, 8, "NMI window") \
	X(TASK_SWITCH, 9, "task switch") \
	X(CPUID, 10, "CPUID") \
	X(GETSEC, 11, "GETSEC") \
	X(HLT, 12, "HLT") \
	X(INVD, 13, "INVD") \
	X(INVLPG, 14, "INVLPG") \
	X(RDPMC, 15, "RDPMC") \
	X(RDTSC, 16, "RDTSC") \
	X(RSM, 17, "RSM") \
	X(VMCALL, 18, "VMCALL") \
	X(VMCLEAR, 19, "VMCLEAR") \
	X(VMLAUNCH, 20, "VMLAUNCH") \
	X(VMPTRLD, 21, "VMPTRLD") \
	X(VMPTRST, 22, "VMPTRST") \
	X(VMREAD, 23, "VMREAD") \
	X(VMRESUME, 24, "VMRESUME") \
	X(VMWRITE, 25, "VMWRITE") \
	X(VMXOFF, 26, "VMXOFF") \
	X(VMXON, 27, "VMXON") \
	X(CR_ACCESS, 28, "control-register access") \
	X(MOV_DR, 29, "MOV DR") \
	X(IO, 30, "I/O instruction") \
	X(RDMSR, 31, "RDMSR") \
	X(WRMSR, 32, "WRMSR") \
	X(ENTRY_GUEST_STATE, 33, "VM-entry failure, invalid guest state") \
	X(ENTRY_MSR_LOADING, 34, "VM-entry failure, MSR loading") \
	X(MWAIT, 36, "MWAIT") \
	X(MONITOR_TRAP, 37, "monitor trap flag") \
	X(MONITOR, 39, "MONITOR") \
	X(PAUSE, 40, "PAUSE") \
	X(MACHINE_CHECK, 41, "VM-entry failure, machine check") \
	X(TPR_THRESHOLD, 43, "TPR below threshold") \
	X(APIC_ACCESS, 44, "APIC access") \
	X(EOI, 45, "virtualized EOI") \
	X(GDTR_IDTR, 46, "access to GDTR or IDTR") \
	X(LDTR_TR, 47, "access to LDTR or TR") \
	X(EPT_VIOLATION, 48, "EPT violation") \
	X(EPT_MISCONFIGURATION, 49, "EPT misconfiguration") \
	X(INVEPT, 50, "INVEPT") \
	X(RDTSCP, 51, "RDTSCP") \
	X(PREEMPTION_TIMER, 52, "VMX-preemption timer") \
	X(INVVPID, 53, "INVVPID") \
	X(WBINVD, 54, "WBINVD or WBNOINVD") \
	X(XSETBV, 55, "XSETBV") \
	X(APIC_WRITE, 56, "APIC write") \
	X(RDRAND, 57, "RDRAND") \
	X(INVPCID, 58, "INVPCID") \
	X(VMFUNC, 59, "VMFUNC") \
	X(RDSEED, 61, "RDSEED") \
	X(XSAVES, 63, "XSAVES") \
	X(XRSTORS, 64, "XRSTORS")

enum vmx_exit_reason {
#define X(id, number, name) VMX_EXIT_##id = number,
	VMX_EXIT_REASONS(X)
#undef X
	VMX_EXIT_REASON_COUNT = 80	/* room in the counters */
};

#define VMX_EXIT_REASON_BASIC 0xffffu
#define VMX_EXIT_REASON_ENTRY_FAILURE (1u << 31)

/* The SDM's name, or "unknown exit reason". */
const char *vmx_exit_reason_name(unsigned reason);

/* --- VM-instruction error numbers ("VM Instruction Error Numbers") --- */
#define VMX_ERRORS(X) \
	X(VMCALL_IN_ROOT, 1, "VMCALL executed in VMX root operation") \
	X(VMCLEAR_ADDRESS, 2, "VMCLEAR with invalid physical address") \
	X(VMCLEAR_VMXON_POINTER, 3, "VMCLEAR with VMXON pointer") \
	X(VMLAUNCH_NOT_CLEAR, 4, "VMLAUNCH with non-clear VMCS") \
	X(VMRESUME_NOT_LAUNCHED, 5, "VMRESUME with non-launched VMCS") \
	X(VMRESUME_AFTER_VMXOFF, 6, "VMRESUME after VMXOFF") \
	X(ENTRY_CONTROLS, 7, "VM entry with invalid control field(s)") \
	X(ENTRY_HOST_STATE, 8, "VM entry with invalid host-state field(s)") \
	X(VMPTRLD_ADDRESS, 9, "VMPTRLD with invalid physical address") \
	X(VMPTRLD_VMXON_POINTER, 10, "VMPTRLD with VMXON pointer") \
	X(VMPTRLD_REVISION, 11, "VMPTRLD with incorrect VMCS revision identifier") \
	X(UNSUPPORTED_FIELD, 12, "VMREAD/VMWRITE from/to unsupported VMCS component") \
	X(READ_ONLY_FIELD, 13, "VMWRITE to read-only VMCS component") \
	X(VMXON_IN_ROOT, 15, "VMXON executed in VMX root operation") \
	X(ENTRY_EXECUTIVE_POINTER, 16, "VM entry with invalid executive-VMCS pointer") \
	X(ENTRY_EXECUTIVE_NOT_LAUNCHED, 17, "VM entry with non-launched executive VMCS") \
	X(ENTRY_MOV_SS, 26, "VM entry with events blocked by MOV SS") \
	X(INVALIDATE_OPERAND, 28, "invalid operand to INVEPT/INVVPID")

enum vmx_error {
	VMX_ERROR_NONE = 0,
#define X(id, number, name) VMX_ERROR_##id = number,
	VMX_ERRORS(X)
#undef X
};

const char *vmx_error_name(unsigned error);

/* Exit qualification of VM-entry failures for invalid guest state ("VM-Entry
 * Failures During or After Loading Guest State"). */
enum vmx_entry_failure {
	VMX_ENTRY_FAILURE_GENERAL = 0, VMX_ENTRY_FAILURE_PDPTE = 2, VMX_ENTRY_FAILURE_NMI = 3,
	VMX_ENTRY_FAILURE_LINK_POINTER = 4,
};

/* VMX-abort indicators ("VMX Aborts"). */
enum vmx_abort {
	VMX_ABORT_SAVE_MSRS = 1, VMX_ABORT_HOST_PDPTE = 2, VMX_ABORT_VMCS_CORRUPTED = 3,
	VMX_ABORT_LOAD_MSRS = 4, VMX_ABORT_MACHINE_CHECK = 5, VMX_ABORT_HOST_NOT_LONG = 6,
};

/* --- field formats --- */
/* Interruption information (entry, exit) and IDT-vectoring information. */
#define VMX_INFO_VECTOR 0xffu
#define VMX_INFO_TYPE_SHIFT 8
#define VMX_INFO_TYPE (7u << VMX_INFO_TYPE_SHIFT)
#define VMX_INFO_ERROR_CODE (1u << 11)
#define VMX_INFO_NMI_UNBLOCKED (1u << 12)
#define VMX_INFO_VALID (1u << 31)
#define VMX_INFO_ENTRY_RESERVED 0x7ffff000u

/* Interruptibility state. */
#define VMX_BLOCKING_STI (1u << 0)
#define VMX_BLOCKING_MOV_SS (1u << 1)
#define VMX_BLOCKING_SMI (1u << 2)
#define VMX_BLOCKING_NMI (1u << 3)
#define VMX_INTERRUPTIBILITY_KNOWN 0xfu

/* Pending debug exceptions. */
#define VMX_PENDING_DEBUG_B BITS(3, 0)
#define VMX_PENDING_DEBUG_ENABLED BIT(12)
#define VMX_PENDING_DEBUG_BS BIT(14)

/* Exit qualification: control-register accesses. */
enum vmx_cr_access { VMX_CR_MOV_TO, VMX_CR_MOV_FROM, VMX_CR_CLTS, VMX_CR_LMSW };
#define VMX_QUALIFICATION_CR(cr, access, gpr) \
	((uint64_t)(cr) | (uint64_t)(access) << 4 | (uint64_t)(gpr) << 8)
#define VMX_QUALIFICATION_LMSW_MEMORY BIT(6)
#define VMX_QUALIFICATION_LMSW_SHIFT 16
/* MOV DR. */
#define VMX_QUALIFICATION_DR_FROM BIT(4)
#define VMX_QUALIFICATION_DR_GPR_SHIFT 8
/* I/O instructions. */
#define VMX_QUALIFICATION_IO_IN BIT(3)
#define VMX_QUALIFICATION_IO_STRING BIT(4)
#define VMX_QUALIFICATION_IO_REP BIT(5)
#define VMX_QUALIFICATION_IO_IMMEDIATE BIT(6)
#define VMX_QUALIFICATION_IO_PORT_SHIFT 16
/* Task switches. */
#define VMX_QUALIFICATION_TASK_SOURCE_SHIFT 30
/* EPT violations. */
#define VMX_QUALIFICATION_EPT_READ BIT(0)
#define VMX_QUALIFICATION_EPT_WRITE BIT(1)
#define VMX_QUALIFICATION_EPT_FETCH BIT(2)
#define VMX_QUALIFICATION_EPT_RIGHTS_SHIFT 3
#define VMX_QUALIFICATION_EPT_LINEAR_VALID BIT(7)
#define VMX_QUALIFICATION_EPT_TRANSLATED BIT(8)
#define VMX_QUALIFICATION_EPT_NMI_UNBLOCKED BIT(12)
/* APIC accesses. */
enum vmx_apic_access {
	VMX_APIC_LINEAR_READ = 0, VMX_APIC_LINEAR_WRITE = 1, VMX_APIC_LINEAR_FETCH = 2,
	VMX_APIC_LINEAR_EVENT = 3, VMX_APIC_PHYSICAL_EVENT = 10, VMX_APIC_PHYSICAL_FETCH = 15,
};
#define VMX_QUALIFICATION_APIC_ACCESS_SHIFT 12

/* VM-exit instruction information. */
#define VMX_INSN_REG1_SHIFT 3
#define VMX_INSN_ADDRESS_SIZE_SHIFT 7
#define VMX_INSN_REGISTER (1u << 10)
#define VMX_INSN_OPERAND_SIZE_SHIFT 11
#define VMX_INSN_SEGMENT_SHIFT 15
#define VMX_INSN_INDEX_SHIFT 18
#define VMX_INSN_NO_INDEX (1u << 22)
#define VMX_INSN_BASE_SHIFT 23
#define VMX_INSN_NO_BASE (1u << 27)
#define VMX_INSN_REG2_SHIFT 28
#define VMX_INSN_IDENTITY_SHIFT 28

/* --- EPT --- */
#define EPTP_MEMORY_TYPE BITS(2, 0)
#define EPTP_WALK_LENGTH_SHIFT 3
#define EPTP_WALK_LENGTH BITS(5, 3)	/* minus 1 */
#define EPTP_ACCESSED_DIRTY BIT(6)
#define EPTP_RESERVED BITS(11, 7)
#define EPT_READ BIT(0)
#define EPT_WRITE BIT(1)
#define EPT_EXECUTE BIT(2)
#define EPT_RIGHTS BITS(2, 0)
#define EPT_LEAF BIT(7)
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY BIT(9)
enum memory_type { MEMORY_TYPE_UC = 0, MEMORY_TYPE_WC = 1, MEMORY_TYPE_WT = 4, MEMORY_TYPE_WP = 5,
		   MEMORY_TYPE_WB = 6, MEMORY_TYPE_UC_MINUS = 7 };

/* INVEPT and INVVPID types. */
enum invept_type { INVEPT_SINGLE = 1, INVEPT_ALL = 2 };
enum invvpid_type { INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_SINGLE_KEEP_GLOBALS };

/* --- capability MSRs --- */
enum vmx_msr {
	MSR_IA32_VMX_PINBASED_CTLS = 0x481, MSR_IA32_VMX_PROCBASED_CTLS = 0x482,
	MSR_IA32_VMX_EXIT_CTLS = 0x483, MSR_IA32_VMX_ENTRY_CTLS = 0x484,
	MSR_IA32_VMX_MISC = 0x485, MSR_IA32_VMX_CR0_FIXED0 = 0x486,
	MSR_IA32_VMX_CR0_FIXED1 = 0x487, MSR_IA32_VMX_CR4_FIXED0 = 0x488,
	MSR_IA32_VMX_CR4_FIXED1 = 0x489, MSR_IA32_VMX_VMCS_ENUM = 0x48a,
	MSR_IA32_VMX_PROCBASED_CTLS2 = 0x48b, MSR_IA32_VMX_EPT_VPID_CAP = 0x48c,
	MSR_IA32_VMX_TRUE_PINBASED_CTLS = 0x48d, MSR_IA32_VMX_TRUE_PROCBASED_CTLS = 0x48e,
	MSR_IA32_VMX_TRUE_EXIT_CTLS = 0x48f, MSR_IA32_VMX_TRUE_ENTRY_CTLS = 0x490,
};

#define VMX_BASIC_REGION_SIZE_SHIFT 32
#define VMX_BASIC_MEMORY_TYPE_SHIFT 50
#define VMX_BASIC_INS_OUTS BIT(54)
#define VMX_BASIC_TRUE_CONTROLS BIT(55)
#define VMX_MISC_STORE_LMA BIT(5)
#define VMX_MISC_HLT BIT(6)
#define VMX_MISC_SHUTDOWN BIT(7)
#define VMX_MISC_WAIT_FOR_SIPI BIT(8)
#define VMX_MISC_CR3_TARGETS_SHIFT 16
#define VMX_EPT_CAP_EXECUTE_ONLY BIT(0)
#define VMX_EPT_CAP_WALK_4 BIT(6)
#define VMX_EPT_CAP_UC BIT(8)
#define VMX_EPT_CAP_WB BIT(14)
#define VMX_EPT_CAP_2M BIT(16)
#define VMX_EPT_CAP_1G BIT(17)
#define VMX_EPT_CAP_INVEPT BIT(20)
#define VMX_EPT_CAP_ACCESSED_DIRTY BIT(21)
#define VMX_EPT_CAP_INVEPT_SINGLE BIT(25)
#define VMX_EPT_CAP_INVEPT_ALL BIT(26)
#define VMX_VPID_CAP_INVVPID BIT(32)
#define VMX_VPID_CAP_ADDRESS BIT(40)
#define VMX_VPID_CAP_SINGLE BIT(41)
#define VMX_VPID_CAP_ALL BIT(42)
#define VMX_VPID_CAP_SINGLE_KEEP_GLOBALS BIT(43)

/* IA32_FEATURE_CONTROL. */
#define FEATURE_CONTROL_LOCKED BIT(0)
#define FEATURE_CONTROL_VMX_OUTSIDE_SMX BIT(2)

/* IA32_DEBUGCTL. */
#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)

/* An entry of a VM-entry or VM-exit MSR area. */
struct vmx_msr_entry {
	uint32_t index, reserved;
	uint64_t value;
};

#endif
