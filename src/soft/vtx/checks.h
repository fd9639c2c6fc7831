/* VM-entry checks: the conditions that VMLAUNCH and VMRESUME test, as one list
 * in the manual's order (SDM vol. 3, chapter "VM Entries"; the edition is in
 * docs/vtx.md).
 *
 * X(identifier, section, what must hold, expression, fields to print)
 *
 * An expression sees `c` (struct check_context) and F(field), the value of a
 * VMCS field. It is true when the check passes. Three functions are generated
 * from the lists, which evaluate the expressions in order, and one table, which
 * names them for messages and tests (checks.c). */
#ifndef NESTOR_SOFT_VTX_CHECKS_H
#define NESTOR_SOFT_VTX_CHECKS_H

#include "soft/vtx/state.h"

enum check_section {
	SECTION_EXECUTION, SECTION_EXIT, SECTION_ENTRY, SECTION_HOST_CONTROL, SECTION_HOST_SEGMENT,
	SECTION_HOST_SPACE, SECTION_GUEST_CONTROL, SECTION_GUEST_SEGMENT, SECTION_GUEST_TABLE,
	SECTION_GUEST_RIP, SECTION_GUEST_NONREGISTER, SECTION_GUEST_PDPTE, SECTION_COUNT
};

/* --- "Checks on VMX Controls" --- */
#define CONTROL_CHECKS(X) \
	/* VM-execution control fields */ \
	X(PIN_RESERVED, EXECUTION, "reserved bits of the pin-based controls must be as IA32_VMX_TRUE_PINBASED_CTLS says", \
	  vtx_controls_allowed(c->v, VMX_WORD_PIN, c->pin), (PIN_CONTROLS)) \
	X(PRIMARY_RESERVED, EXECUTION, "reserved bits of the primary processor-based controls must be as IA32_VMX_TRUE_PROCBASED_CTLS says", \
	  vtx_controls_allowed(c->v, VMX_WORD_PRIMARY, c->primary), (PRIMARY_CONTROLS)) \
	X(SECONDARY_RESERVED, EXECUTION, "reserved bits of the secondary processor-based controls must be as IA32_VMX_PROCBASED_CTLS2 says", \
	  vtx_controls_allowed(c->v, VMX_WORD_SECONDARY, c->secondary), (SECONDARY_CONTROLS)) \
	X(CR3_TARGET_COUNT, EXECUTION, "the CR3-target count must not exceed 4", \
	  F(CR3_TARGET_COUNT) <= CR3_TARGETS, (CR3_TARGET_COUNT)) \
	X(IO_BITMAP_A_ALIGNED, EXECUTION, "bits 11:0 of the address of I/O bitmap A must be 0", \
	  !PRIMARY(IO_BITMAPS) || page_aligned(F(IO_BITMAP_A)), (IO_BITMAP_A)) \
	X(IO_BITMAP_A_WIDTH, EXECUTION, "the address of I/O bitmap A must not exceed the physical-address width", \
	  !PRIMARY(IO_BITMAPS) || physical(F(IO_BITMAP_A)), (IO_BITMAP_A)) \
	X(IO_BITMAP_B_ALIGNED, EXECUTION, "bits 11:0 of the address of I/O bitmap B must be 0", \
	  !PRIMARY(IO_BITMAPS) || page_aligned(F(IO_BITMAP_B)), (IO_BITMAP_B)) \
	X(IO_BITMAP_B_WIDTH, EXECUTION, "the address of I/O bitmap B must not exceed the physical-address width", \
	  !PRIMARY(IO_BITMAPS) || physical(F(IO_BITMAP_B)), (IO_BITMAP_B)) \
	X(MSR_BITMAPS_ALIGNED, EXECUTION, "bits 11:0 of the MSR-bitmap address must be 0", \
	  !PRIMARY(MSR_BITMAPS) || page_aligned(F(MSR_BITMAPS)), (MSR_BITMAPS)) \
	X(MSR_BITMAPS_WIDTH, EXECUTION, "the MSR-bitmap address must not exceed the physical-address width", \
	  !PRIMARY(MSR_BITMAPS) || physical(F(MSR_BITMAPS)), (MSR_BITMAPS)) \
	X(VIRTUAL_APIC_ALIGNED, EXECUTION, "bits 11:0 of the virtual-APIC address must be 0", \
	  !PRIMARY(TPR_SHADOW) || page_aligned(F(VIRTUAL_APIC_ADDRESS)), (VIRTUAL_APIC_ADDRESS)) \
	X(VIRTUAL_APIC_WIDTH, EXECUTION, "the virtual-APIC address must not exceed the physical-address width", \
	  !PRIMARY(TPR_SHADOW) || physical(F(VIRTUAL_APIC_ADDRESS)), (VIRTUAL_APIC_ADDRESS)) \
	X(TPR_THRESHOLD_RESERVED, EXECUTION, "bits 31:4 of the TPR threshold must be 0", \
	  !PRIMARY(TPR_SHADOW) || !(F(TPR_THRESHOLD) & ~0xfull), (TPR_THRESHOLD)) \
	X(TPR_THRESHOLD_VTPR, EXECUTION, "the TPR threshold must not exceed bits 7:4 of VTPR", \
	  !PRIMARY(TPR_SHADOW) || SECONDARY(APIC_ACCESSES) || F(TPR_THRESHOLD) <= vtpr_class(c), \
	  (TPR_THRESHOLD, VIRTUAL_APIC_ADDRESS)) \
	X(VIRTUAL_NMIS_NEED_NMI, EXECUTION, "\"virtual NMIs\" must be 0 when \"NMI exiting\" is 0", \
	  PIN(NMI) || !PIN(VIRTUAL_NMIS), (PIN_CONTROLS)) \
	X(NMI_WINDOW_NEEDS_VIRTUAL_NMIS, EXECUTION, "\"NMI-window exiting\" must be 0 when \"virtual NMIs\" is 0", \
	  PIN(VIRTUAL_NMIS) || !PRIMARY(NMI_WINDOW), (PIN_CONTROLS, PRIMARY_CONTROLS)) \
	X(APIC_ACCESS_ALIGNED, EXECUTION, "bits 11:0 of the APIC-access address must be 0", \
	  !SECONDARY(APIC_ACCESSES) || page_aligned(F(APIC_ACCESS_ADDRESS)), (APIC_ACCESS_ADDRESS)) \
	X(APIC_ACCESS_WIDTH, EXECUTION, "the APIC-access address must not exceed the physical-address width", \
	  !SECONDARY(APIC_ACCESSES) || physical(F(APIC_ACCESS_ADDRESS)), (APIC_ACCESS_ADDRESS)) \
	X(VPID_ZERO, EXECUTION, "the VPID must not be 0 when \"enable VPID\" is 1", \
	  !SECONDARY(VPID) || F(VPID), (VPID, SECONDARY_CONTROLS)) \
	X(EPTP_MEMORY_TYPE, EXECUTION, "bits 2:0 of the EPT pointer must be 0 (UC) or 6 (WB)", \
	  !SECONDARY(EPT) || (F(EPT_POINTER) & EPTP_MEMORY_TYPE) == MEMORY_TYPE_UC || \
	  (F(EPT_POINTER) & EPTP_MEMORY_TYPE) == MEMORY_TYPE_WB, (EPT_POINTER)) \
	X(EPTP_WALK_LENGTH, EXECUTION, "bits 5:3 of the EPT pointer must be 3 (a page walk of 4 levels)", \
	  !SECONDARY(EPT) || bits_get(F(EPT_POINTER), 5, 3) == 3, (EPT_POINTER)) \
	X(EPTP_RESERVED, EXECUTION, "bits 11:7 of the EPT pointer must be 0", \
	  !SECONDARY(EPT) || !(F(EPT_POINTER) & EPTP_RESERVED), (EPT_POINTER)) \
	X(EPTP_WIDTH, EXECUTION, "the EPT pointer must not exceed the physical-address width", \
	  !SECONDARY(EPT) || physical(F(EPT_POINTER)), (EPT_POINTER)) \
	X(UNRESTRICTED_NEEDS_EPT, EXECUTION, "\"enable EPT\" must be 1 when \"unrestricted guest\" is 1", \
	  !SECONDARY(UNRESTRICTED_GUEST) || SECONDARY(EPT), (SECONDARY_CONTROLS)) \
	X(TSC_MULTIPLIER_ZERO, EXECUTION, "the TSC multiplier must not be 0 when \"use TSC scaling\" is 1", \
	  !SECONDARY(TSC_SCALING) || F(TSC_MULTIPLIER), (TSC_MULTIPLIER, SECONDARY_CONTROLS)) \
	/* VM-exit control fields */ \
	X(EXIT_RESERVED, EXIT, "reserved bits of the VM-exit controls must be as IA32_VMX_TRUE_EXIT_CTLS says", \
	  vtx_controls_allowed(c->v, VMX_WORD_EXIT, c->exit), (EXIT_CONTROLS)) \
	X(SAVE_TIMER_NEEDS_TIMER, EXIT, "\"save VMX-preemption timer value\" must be 0 when \"activate VMX-preemption timer\" is 0", \
	  PIN(PREEMPTION_TIMER) || !EXIT(SAVE_PREEMPTION_TIMER), (EXIT_CONTROLS, PIN_CONTROLS)) \
	X(EXIT_STORE_ALIGNED, EXIT, "bits 3:0 of the VM-exit MSR-store address must be 0", \
	  !F(EXIT_MSR_STORE_COUNT) || !(F(EXIT_MSR_STORE_ADDRESS) & 15), (EXIT_MSR_STORE_ADDRESS)) \
	X(EXIT_STORE_WIDTH, EXIT, "the VM-exit MSR-store address must not exceed the physical-address width", \
	  !F(EXIT_MSR_STORE_COUNT) || physical(F(EXIT_MSR_STORE_ADDRESS)), (EXIT_MSR_STORE_ADDRESS)) \
	X(EXIT_STORE_END, EXIT, "the last byte of the VM-exit MSR-store area must not exceed the physical-address width", \
	  !F(EXIT_MSR_STORE_COUNT) || physical(msr_area_end(F(EXIT_MSR_STORE_ADDRESS), F(EXIT_MSR_STORE_COUNT))), \
	  (EXIT_MSR_STORE_ADDRESS, EXIT_MSR_STORE_COUNT)) \
	X(EXIT_LOAD_ALIGNED, EXIT, "bits 3:0 of the VM-exit MSR-load address must be 0", \
	  !F(EXIT_MSR_LOAD_COUNT) || !(F(EXIT_MSR_LOAD_ADDRESS) & 15), (EXIT_MSR_LOAD_ADDRESS)) \
	X(EXIT_LOAD_WIDTH, EXIT, "the VM-exit MSR-load address must not exceed the physical-address width", \
	  !F(EXIT_MSR_LOAD_COUNT) || physical(F(EXIT_MSR_LOAD_ADDRESS)), (EXIT_MSR_LOAD_ADDRESS)) \
	X(EXIT_LOAD_END, EXIT, "the last byte of the VM-exit MSR-load area must not exceed the physical-address width", \
	  !F(EXIT_MSR_LOAD_COUNT) || physical(msr_area_end(F(EXIT_MSR_LOAD_ADDRESS), F(EXIT_MSR_LOAD_COUNT))), \
	  (EXIT_MSR_LOAD_ADDRESS, EXIT_MSR_LOAD_COUNT)) \
	/* VM-entry control fields */ \
	X(ENTRY_RESERVED, ENTRY, "reserved bits of the VM-entry controls must be as IA32_VMX_TRUE_ENTRY_CTLS says", \
	  vtx_controls_allowed(c->v, VMX_WORD_ENTRY, c->entry), (ENTRY_CONTROLS)) \
	X(INJECT_TYPE_RESERVED, ENTRY, "the interruption type of the injected event must not be 1 (reserved)", \
	  !c->inject || c->type != 1, (ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_NMI_VECTOR, ENTRY, "an injected NMI must have vector 2", \
	  !c->inject || c->type != EVENT_TYPE_NMI || c->vector == EXC_NMI, (ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_EXCEPTION_VECTOR, ENTRY, "an injected hardware exception must have a vector of at most 31", \
	  !c->inject || c->type != EVENT_TYPE_HARDWARE || c->vector <= 31, (ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_OTHER_VECTOR, ENTRY, "an injected event of type 7 (pending MTF) must have vector 0", \
	  !c->inject || c->type != EVENT_TYPE_OTHER || !c->vector, (ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_ERROR_CODE, ENTRY, "the deliver-error-code bit must be 1 exactly for hardware exceptions 8, 10 to 14 and 17 in protected mode", \
	  !c->inject || c->has_error == (c->type == EVENT_TYPE_HARDWARE && F(GUEST_CR0) & CR0_PE && \
	  exception_has_error_code(c->vector)), (ENTRY_INTERRUPTION_INFO, GUEST_CR0)) \
	X(INJECT_INFO_RESERVED, ENTRY, "bits 30:12 of the VM-entry interruption information must be 0", \
	  !c->inject || !(F(ENTRY_INTERRUPTION_INFO) & VMX_INFO_ENTRY_RESERVED), (ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_ERROR_RESERVED, ENTRY, "bits 31:16 of the VM-entry exception error code must be 0", \
	  !c->inject || !c->has_error || !(F(ENTRY_ERROR_CODE) >> 16), \
	  (ENTRY_ERROR_CODE, ENTRY_INTERRUPTION_INFO)) \
	X(INJECT_LENGTH, ENTRY, "the VM-entry instruction length must be 1 to 15 for software interrupts and exceptions", \
	  !c->inject || !software_type(c->type) || \
	  (F(ENTRY_INSTRUCTION_LENGTH) >= 1 && F(ENTRY_INSTRUCTION_LENGTH) <= 15), \
	  (ENTRY_INSTRUCTION_LENGTH, ENTRY_INTERRUPTION_INFO)) \
	X(ENTRY_LOAD_ALIGNED, ENTRY, "bits 3:0 of the VM-entry MSR-load address must be 0", \
	  !F(ENTRY_MSR_LOAD_COUNT) || !(F(ENTRY_MSR_LOAD_ADDRESS) & 15), (ENTRY_MSR_LOAD_ADDRESS)) \
	X(ENTRY_LOAD_WIDTH, ENTRY, "the VM-entry MSR-load address must not exceed the physical-address width", \
	  !F(ENTRY_MSR_LOAD_COUNT) || physical(F(ENTRY_MSR_LOAD_ADDRESS)), (ENTRY_MSR_LOAD_ADDRESS)) \
	X(ENTRY_LOAD_END, ENTRY, "the last byte of the VM-entry MSR-load area must not exceed the physical-address width", \
	  !F(ENTRY_MSR_LOAD_COUNT) || physical(msr_area_end(F(ENTRY_MSR_LOAD_ADDRESS), F(ENTRY_MSR_LOAD_COUNT))), \
	  (ENTRY_MSR_LOAD_ADDRESS, ENTRY_MSR_LOAD_COUNT))

/* --- "Checks on Host-State Area" --- */
#define HOST_SELECTOR_CHECK(X, s) \
	X(HOST_##s##_RPL_TI, HOST_SEGMENT, "RPL (bits 1:0) and TI (bit 2) of host " #s " must be 0", \
	  !(F(HOST_##s##_SELECTOR) & 7), (HOST_##s##_SELECTOR))
#define HOST_CANONICAL_CHECK(X, s) \
	X(HOST_##s##_BASE, HOST_SEGMENT, "the base of host " #s " must be canonical", \
	  linear_canonical(F(HOST_##s##_BASE)), (HOST_##s##_BASE))

#define HOST_CHECKS(X) \
	X(HOST_CR0, HOST_CONTROL, "host CR0 bits 0 (PE), 5 (NE) and 31 (PG) must be 1, and bits 63:32 must be 0", \
	  cr0_fixed(F(HOST_CR0), vtx_cr0_fixed0()), (HOST_CR0)) \
	X(HOST_CR4_VMXE, HOST_CONTROL, "host CR4 bit 13 (VMXE) must be 1", \
	  F(HOST_CR4) & CR4_VMXE, (HOST_CR4)) \
	X(HOST_CR4_RESERVED, HOST_CONTROL, "host CR4 must not have bits that IA32_VMX_CR4_FIXED1 has at 0", \
	  !(F(HOST_CR4) & ~vtx_cr4_fixed1()), (HOST_CR4)) \
	X(HOST_CR3, HOST_CONTROL, "host CR3 must not exceed the physical-address width", \
	  !(F(HOST_CR3) & ~PHYSICAL_MASK), (HOST_CR3)) \
	X(HOST_SYSENTER_ESP, HOST_CONTROL, "host IA32_SYSENTER_ESP must be canonical", \
	  linear_canonical(F(HOST_SYSENTER_ESP)), (HOST_SYSENTER_ESP)) \
	X(HOST_SYSENTER_EIP, HOST_CONTROL, "host IA32_SYSENTER_EIP must be canonical", \
	  linear_canonical(F(HOST_SYSENTER_EIP)), (HOST_SYSENTER_EIP)) \
	X(HOST_PAT, HOST_CONTROL, "each byte of host IA32_PAT must be 0, 1, 4, 5, 6 or 7", \
	  !EXIT(LOAD_PAT) || pat_valid(F(HOST_PAT)), (HOST_PAT)) \
	X(HOST_EFER_RESERVED, HOST_CONTROL, "reserved bits of host IA32_EFER must be 0", \
	  !EXIT(LOAD_EFER) || !(F(HOST_EFER) & ~EFER_KNOWN), (HOST_EFER)) \
	X(HOST_EFER_LMA, HOST_CONTROL, "host IA32_EFER bit 10 (LMA) must equal \"host address-space size\"", \
	  !EXIT(LOAD_EFER) || !(F(HOST_EFER) & EFER_LMA) == !EXIT(HOST_ADDRESS_SPACE), \
	  (HOST_EFER, EXIT_CONTROLS)) \
	X(HOST_EFER_LME, HOST_CONTROL, "host IA32_EFER bit 8 (LME) must equal \"host address-space size\"", \
	  !EXIT(LOAD_EFER) || !(F(HOST_EFER) & EFER_LME) == !EXIT(HOST_ADDRESS_SPACE), \
	  (HOST_EFER, EXIT_CONTROLS)) \
	HOST_SELECTOR_CHECK(X, CS) \
	HOST_SELECTOR_CHECK(X, SS) \
	HOST_SELECTOR_CHECK(X, DS) \
	HOST_SELECTOR_CHECK(X, ES) \
	HOST_SELECTOR_CHECK(X, FS) \
	HOST_SELECTOR_CHECK(X, GS) \
	HOST_SELECTOR_CHECK(X, TR) \
	X(HOST_CS_NULL, HOST_SEGMENT, "host CS must not be 0", F(HOST_CS_SELECTOR), (HOST_CS_SELECTOR)) \
	X(HOST_TR_NULL, HOST_SEGMENT, "host TR must not be 0", F(HOST_TR_SELECTOR), (HOST_TR_SELECTOR)) \
	X(HOST_SS_NULL, HOST_SEGMENT, "host SS must not be 0 when \"host address-space size\" is 0", \
	  EXIT(HOST_ADDRESS_SPACE) || F(HOST_SS_SELECTOR), (HOST_SS_SELECTOR, EXIT_CONTROLS)) \
	HOST_CANONICAL_CHECK(X, FS) \
	HOST_CANONICAL_CHECK(X, GS) \
	HOST_CANONICAL_CHECK(X, GDTR) \
	HOST_CANONICAL_CHECK(X, IDTR) \
	HOST_CANONICAL_CHECK(X, TR) \
	X(SPACE_LMA_0, HOST_SPACE, "\"IA-32e mode guest\" and \"host address-space size\" must be 0 outside IA-32e mode", \
	  c->lma || (!ENTRY(IA32E_GUEST) && !EXIT(HOST_ADDRESS_SPACE)), (ENTRY_CONTROLS, EXIT_CONTROLS)) \
	X(SPACE_LMA_1, HOST_SPACE, "\"host address-space size\" must be 1 in IA-32e mode", \
	  !c->lma || EXIT(HOST_ADDRESS_SPACE), (EXIT_CONTROLS)) \
	X(SPACE_32_GUEST, HOST_SPACE, "\"IA-32e mode guest\" must be 0 when \"host address-space size\" is 0", \
	  EXIT(HOST_ADDRESS_SPACE) || !ENTRY(IA32E_GUEST), (EXIT_CONTROLS, ENTRY_CONTROLS)) \
	X(SPACE_32_PCIDE, HOST_SPACE, "host CR4 bit 17 (PCIDE) must be 0 when \"host address-space size\" is 0", \
	  EXIT(HOST_ADDRESS_SPACE) || !(F(HOST_CR4) & CR4_PCIDE), (HOST_CR4, EXIT_CONTROLS)) \
	X(SPACE_32_RIP, HOST_SPACE, "bits 63:32 of host RIP must be 0 when \"host address-space size\" is 0", \
	  EXIT(HOST_ADDRESS_SPACE) || !(F(HOST_RIP) >> 32), (HOST_RIP, EXIT_CONTROLS)) \
	X(SPACE_64_PAE, HOST_SPACE, "host CR4 bit 5 (PAE) must be 1 when \"host address-space size\" is 1", \
	  !EXIT(HOST_ADDRESS_SPACE) || F(HOST_CR4) & CR4_PAE, (HOST_CR4, EXIT_CONTROLS)) \
	X(SPACE_64_RIP, HOST_SPACE, "host RIP must be canonical when \"host address-space size\" is 1", \
	  !EXIT(HOST_ADDRESS_SPACE) || linear_canonical(F(HOST_RIP)), (HOST_RIP, EXIT_CONTROLS))

/* --- "Checking and Loading Guest State" --- */
#define V86_BASE_CHECK(X, s) \
	X(GUEST_##s##_V86_BASE, GUEST_SEGMENT, "the base of guest " #s " must be its selector times 16 in virtual-8086 mode", \
	  !c->v86 || F(GUEST_##s##_BASE) == F(GUEST_##s##_SELECTOR) << 4, \
	  (GUEST_##s##_BASE, GUEST_##s##_SELECTOR, GUEST_RFLAGS))
#define V86_LIMIT_CHECK(X, s) \
	X(GUEST_##s##_V86_LIMIT, GUEST_SEGMENT, "the limit of guest " #s " must be FFFFh in virtual-8086 mode", \
	  !c->v86 || F(GUEST_##s##_LIMIT) == 0xffff, (GUEST_##s##_LIMIT, GUEST_RFLAGS))
#define V86_RIGHTS_CHECK(X, s) \
	X(GUEST_##s##_V86_RIGHTS, GUEST_SEGMENT, "the access rights of guest " #s " must be F3h in virtual-8086 mode", \
	  !c->v86 || F(GUEST_##s##_ACCESS_RIGHTS) == 0xf3, (GUEST_##s##_ACCESS_RIGHTS, GUEST_RFLAGS))
#define BASE_32_CHECK(X, s) \
	X(GUEST_##s##_BASE_32, GUEST_SEGMENT, "bits 63:32 of the base of guest " #s " must be 0 unless it is unusable", \
	  !usable(c, SEG_##s) || !(F(GUEST_##s##_BASE) >> 32), (GUEST_##s##_BASE, GUEST_##s##_ACCESS_RIGHTS))
#define DATA_TYPE_CHECKS(X, s) \
	X(GUEST_##s##_TYPE_ACCESSED, GUEST_SEGMENT, "bit 0 of guest " #s "'s type (accessed) must be 1", \
	  c->v86 || !usable(c, SEG_##s) || F(GUEST_##s##_ACCESS_RIGHTS) & 1, (GUEST_##s##_ACCESS_RIGHTS)) \
	X(GUEST_##s##_TYPE_READABLE, GUEST_SEGMENT, "guest " #s " must be readable when it is a code segment", \
	  c->v86 || !usable(c, SEG_##s) || !(F(GUEST_##s##_ACCESS_RIGHTS) & 8) || \
	  F(GUEST_##s##_ACCESS_RIGHTS) & 2, (GUEST_##s##_ACCESS_RIGHTS))
#define DATA_DPL_CHECK(X, s) \
	X(GUEST_##s##_DPL, GUEST_SEGMENT, "the DPL of guest " #s " must not be less than its RPL", \
	  c->v86 || c->unrestricted || !usable(c, SEG_##s) || (F(GUEST_##s##_ACCESS_RIGHTS) & AR_TYPE) > 11 || \
	  dpl(c, SEG_##s) >= (F(GUEST_##s##_SELECTOR) & 3), (GUEST_##s##_ACCESS_RIGHTS, GUEST_##s##_SELECTOR))
#define S_CHECK(X, s) \
	X(GUEST_##s##_S, GUEST_SEGMENT, "bit 4 (S) of guest " #s "'s access rights must be 1", \
	  c->v86 || !usable(c, SEG_##s) || F(GUEST_##s##_ACCESS_RIGHTS) & AR_S, (GUEST_##s##_ACCESS_RIGHTS))
#define P_CHECK(X, s) \
	X(GUEST_##s##_P, GUEST_SEGMENT, "bit 7 (P) of guest " #s "'s access rights must be 1", \
	  c->v86 || !usable(c, SEG_##s) || F(GUEST_##s##_ACCESS_RIGHTS) & AR_P, (GUEST_##s##_ACCESS_RIGHTS))
#define AR_RESERVED_CHECK(X, s) \
	X(GUEST_##s##_AR_RESERVED, GUEST_SEGMENT, "bits 11:8 of guest " #s "'s access rights must be 0", \
	  c->v86 || !usable(c, SEG_##s) || !(F(GUEST_##s##_ACCESS_RIGHTS) & BITS(11, 8)), \
	  (GUEST_##s##_ACCESS_RIGHTS)) \
	X(GUEST_##s##_AR_HIGH, GUEST_SEGMENT, "bits 31:17 of guest " #s "'s access rights must be 0", \
	  c->v86 || !usable(c, SEG_##s) || !(F(GUEST_##s##_ACCESS_RIGHTS) & BITS(31, 17)), \
	  (GUEST_##s##_ACCESS_RIGHTS))
#define GRANULARITY_CHECKS(X, s) \
	X(GUEST_##s##_G_LOW, GUEST_SEGMENT, "G of guest " #s " must be 0 when bits 11:0 of its limit are not all 1", \
	  c->v86 || !usable(c, SEG_##s) || (F(GUEST_##s##_LIMIT) & 0xfff) == 0xfff || \
	  !(F(GUEST_##s##_ACCESS_RIGHTS) & AR_G), (GUEST_##s##_LIMIT, GUEST_##s##_ACCESS_RIGHTS)) \
	X(GUEST_##s##_G_HIGH, GUEST_SEGMENT, "G of guest " #s " must be 1 when bits 31:20 of its limit are not all 0", \
	  c->v86 || !usable(c, SEG_##s) || !(F(GUEST_##s##_LIMIT) >> 20) || \
	  F(GUEST_##s##_ACCESS_RIGHTS) & AR_G, (GUEST_##s##_LIMIT, GUEST_##s##_ACCESS_RIGHTS))

#define GUEST_CHECKS(X) \
	/* control registers, debug registers, MSRs */ \
	X(GUEST_CR0_FIXED, GUEST_CONTROL, "guest CR0 must have the bits at 1 that VMX operation fixes (NE; PE and PG unless \"unrestricted guest\" is 1), and bits 63:32 at 0", \
	  cr0_fixed(F(GUEST_CR0), c->cr0_fixed0), (GUEST_CR0, SECONDARY_CONTROLS)) \
	X(GUEST_CR0_PG_PE, GUEST_CONTROL, "guest CR0 bit 0 (PE) must be 1 when bit 31 (PG) is 1", \
	  !(F(GUEST_CR0) & CR0_PG) || F(GUEST_CR0) & CR0_PE, (GUEST_CR0)) \
	X(GUEST_CR4_VMXE, GUEST_CONTROL, "guest CR4 bit 13 (VMXE) must be 1", \
	  F(GUEST_CR4) & CR4_VMXE, (GUEST_CR4)) \
	X(GUEST_CR4_RESERVED, GUEST_CONTROL, "guest CR4 must not have bits that IA32_VMX_CR4_FIXED1 has at 0", \
	  !(F(GUEST_CR4) & ~vtx_cr4_fixed1()), (GUEST_CR4)) \
	X(GUEST_DEBUGCTL, GUEST_CONTROL, "reserved bits of guest IA32_DEBUGCTL must be 0", \
	  !ENTRY(LOAD_DEBUG) || !(F(GUEST_DEBUGCTL) & ~DEBUGCTL_KNOWN), (GUEST_DEBUGCTL)) \
	X(GUEST_LONG_PG, GUEST_CONTROL, "guest CR0 bit 31 (PG) must be 1 when \"IA-32e mode guest\" is 1", \
	  !c->ia32e || F(GUEST_CR0) & CR0_PG, (GUEST_CR0, ENTRY_CONTROLS)) \
	X(GUEST_LONG_PAE, GUEST_CONTROL, "guest CR4 bit 5 (PAE) must be 1 when \"IA-32e mode guest\" is 1", \
	  !c->ia32e || F(GUEST_CR4) & CR4_PAE, (GUEST_CR4, ENTRY_CONTROLS)) \
	X(GUEST_PCIDE, GUEST_CONTROL, "guest CR4 bit 17 (PCIDE) must be 0 when \"IA-32e mode guest\" is 0", \
	  c->ia32e || !(F(GUEST_CR4) & CR4_PCIDE), (GUEST_CR4, ENTRY_CONTROLS)) \
	X(GUEST_CR3, GUEST_CONTROL, "guest CR3 must not exceed the physical-address width", \
	  !(F(GUEST_CR3) & ~PHYSICAL_MASK), (GUEST_CR3)) \
	X(GUEST_DR7, GUEST_CONTROL, "bits 63:32 of guest DR7 must be 0", \
	  !ENTRY(LOAD_DEBUG) || !(F(GUEST_DR7) >> 32), (GUEST_DR7)) \
	X(GUEST_SYSENTER_ESP, GUEST_CONTROL, "guest IA32_SYSENTER_ESP must be canonical", \
	  linear_canonical(F(GUEST_SYSENTER_ESP)), (GUEST_SYSENTER_ESP)) \
	X(GUEST_SYSENTER_EIP, GUEST_CONTROL, "guest IA32_SYSENTER_EIP must be canonical", \
	  linear_canonical(F(GUEST_SYSENTER_EIP)), (GUEST_SYSENTER_EIP)) \
	X(GUEST_PAT, GUEST_CONTROL, "each byte of guest IA32_PAT must be 0, 1, 4, 5, 6 or 7", \
	  !ENTRY(LOAD_PAT) || pat_valid(F(GUEST_PAT)), (GUEST_PAT)) \
	X(GUEST_EFER_RESERVED, GUEST_CONTROL, "reserved bits of guest IA32_EFER must be 0", \
	  !ENTRY(LOAD_EFER) || !(F(GUEST_EFER) & ~EFER_KNOWN), (GUEST_EFER)) \
	X(GUEST_EFER_LMA, GUEST_CONTROL, "guest IA32_EFER bit 10 (LMA) must equal \"IA-32e mode guest\"", \
	  !ENTRY(LOAD_EFER) || !(F(GUEST_EFER) & EFER_LMA) == !c->ia32e, (GUEST_EFER, ENTRY_CONTROLS)) \
	X(GUEST_EFER_LME, GUEST_CONTROL, "guest IA32_EFER bits 8 (LME) and 10 (LMA) must be equal when CR0 bit 31 (PG) is 1", \
	  !ENTRY(LOAD_EFER) || !(F(GUEST_CR0) & CR0_PG) || \
	  !(F(GUEST_EFER) & EFER_LME) == !(F(GUEST_EFER) & EFER_LMA), (GUEST_EFER, GUEST_CR0)) \
	/* segment registers: selectors */ \
	X(GUEST_TR_TI, GUEST_SEGMENT, "bit 2 (TI) of guest TR must be 0", \
	  !(F(GUEST_TR_SELECTOR) & 4), (GUEST_TR_SELECTOR)) \
	X(GUEST_LDTR_TI, GUEST_SEGMENT, "bit 2 (TI) of guest LDTR must be 0 unless it is unusable", \
	  !usable(c, SEG_LDTR) || !(F(GUEST_LDTR_SELECTOR) & 4), (GUEST_LDTR_SELECTOR, GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_SS_RPL, GUEST_SEGMENT, "the RPL of guest SS must equal the RPL of guest CS", \
	  c->v86 || c->unrestricted || !((F(GUEST_SS_SELECTOR) ^ F(GUEST_CS_SELECTOR)) & 3), \
	  (GUEST_SS_SELECTOR, GUEST_CS_SELECTOR)) \
	/* bases */ \
	V86_BASE_CHECK(X, CS) V86_BASE_CHECK(X, SS) V86_BASE_CHECK(X, DS) V86_BASE_CHECK(X, ES) \
	V86_BASE_CHECK(X, FS) V86_BASE_CHECK(X, GS) \
	X(GUEST_TR_BASE, GUEST_SEGMENT, "the base of guest TR must be canonical", \
	  linear_canonical(F(GUEST_TR_BASE)), (GUEST_TR_BASE)) \
	X(GUEST_FS_BASE, GUEST_SEGMENT, "the base of guest FS must be canonical", \
	  linear_canonical(F(GUEST_FS_BASE)), (GUEST_FS_BASE)) \
	X(GUEST_GS_BASE, GUEST_SEGMENT, "the base of guest GS must be canonical", \
	  linear_canonical(F(GUEST_GS_BASE)), (GUEST_GS_BASE)) \
	X(GUEST_LDTR_BASE, GUEST_SEGMENT, "the base of guest LDTR must be canonical unless it is unusable", \
	  !usable(c, SEG_LDTR) || linear_canonical(F(GUEST_LDTR_BASE)), (GUEST_LDTR_BASE, GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_CS_BASE_32, GUEST_SEGMENT, "bits 63:32 of the base of guest CS must be 0", \
	  !(F(GUEST_CS_BASE) >> 32), (GUEST_CS_BASE)) \
	BASE_32_CHECK(X, SS) BASE_32_CHECK(X, DS) BASE_32_CHECK(X, ES) \
	/* limits */ \
	V86_LIMIT_CHECK(X, CS) V86_LIMIT_CHECK(X, SS) V86_LIMIT_CHECK(X, DS) V86_LIMIT_CHECK(X, ES) \
	V86_LIMIT_CHECK(X, FS) V86_LIMIT_CHECK(X, GS) \
	/* access rights */ \
	V86_RIGHTS_CHECK(X, CS) V86_RIGHTS_CHECK(X, SS) V86_RIGHTS_CHECK(X, DS) V86_RIGHTS_CHECK(X, ES) \
	V86_RIGHTS_CHECK(X, FS) V86_RIGHTS_CHECK(X, GS) \
	X(GUEST_CS_TYPE, GUEST_SEGMENT, "the type of guest CS must be 9, 11, 13 or 15 (accessed code), or 3 when \"unrestricted guest\" is 1", \
	  c->v86 || (F(GUEST_CS_ACCESS_RIGHTS) & 9) == 9 || \
	  (c->unrestricted && (F(GUEST_CS_ACCESS_RIGHTS) & AR_TYPE) == 3), \
	  (GUEST_CS_ACCESS_RIGHTS, SECONDARY_CONTROLS)) \
	X(GUEST_SS_TYPE, GUEST_SEGMENT, "the type of guest SS must be 3 or 7 (accessed writable data) unless it is unusable", \
	  c->v86 || !usable(c, SEG_SS) || (F(GUEST_SS_ACCESS_RIGHTS) & 11) == 3, (GUEST_SS_ACCESS_RIGHTS)) \
	DATA_TYPE_CHECKS(X, DS) DATA_TYPE_CHECKS(X, ES) DATA_TYPE_CHECKS(X, FS) DATA_TYPE_CHECKS(X, GS) \
	X(GUEST_CS_S, GUEST_SEGMENT, "bit 4 (S) of guest CS's access rights must be 1", \
	  c->v86 || F(GUEST_CS_ACCESS_RIGHTS) & AR_S, (GUEST_CS_ACCESS_RIGHTS)) \
	S_CHECK(X, SS) S_CHECK(X, DS) S_CHECK(X, ES) S_CHECK(X, FS) S_CHECK(X, GS) \
	X(GUEST_CS_DPL_DATA, GUEST_SEGMENT, "the DPL of guest CS must be 0 when its type is 3", \
	  c->v86 || (F(GUEST_CS_ACCESS_RIGHTS) & AR_TYPE) != 3 || !dpl(c, SEG_CS), (GUEST_CS_ACCESS_RIGHTS)) \
	X(GUEST_CS_DPL_NONCONFORMING, GUEST_SEGMENT, "the DPL of guest CS must equal the DPL of guest SS when its type is 9 or 11", \
	  c->v86 || (F(GUEST_CS_ACCESS_RIGHTS) & 13) != 9 || dpl(c, SEG_CS) == dpl(c, SEG_SS), \
	  (GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS)) \
	X(GUEST_CS_DPL_CONFORMING, GUEST_SEGMENT, "the DPL of guest CS must not exceed the DPL of guest SS when its type is 13 or 15", \
	  c->v86 || (F(GUEST_CS_ACCESS_RIGHTS) & 13) != 13 || dpl(c, SEG_CS) <= dpl(c, SEG_SS), \
	  (GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS)) \
	X(GUEST_SS_DPL_RPL, GUEST_SEGMENT, "the DPL of guest SS must equal its RPL unless \"unrestricted guest\" is 1", \
	  c->v86 || c->unrestricted || dpl(c, SEG_SS) == (F(GUEST_SS_SELECTOR) & 3), \
	  (GUEST_SS_ACCESS_RIGHTS, GUEST_SS_SELECTOR)) \
	X(GUEST_SS_DPL_REAL, GUEST_SEGMENT, "the DPL of guest SS must be 0 when the type of CS is 3 or CR0 bit 0 (PE) is 0", \
	  c->v86 || !dpl(c, SEG_SS) || ((F(GUEST_CS_ACCESS_RIGHTS) & AR_TYPE) != 3 && F(GUEST_CR0) & CR0_PE), \
	  (GUEST_SS_ACCESS_RIGHTS, GUEST_CS_ACCESS_RIGHTS, GUEST_CR0)) \
	DATA_DPL_CHECK(X, DS) DATA_DPL_CHECK(X, ES) DATA_DPL_CHECK(X, FS) DATA_DPL_CHECK(X, GS) \
	X(GUEST_CS_P, GUEST_SEGMENT, "bit 7 (P) of guest CS's access rights must be 1", \
	  c->v86 || F(GUEST_CS_ACCESS_RIGHTS) & AR_P, (GUEST_CS_ACCESS_RIGHTS)) \
	P_CHECK(X, SS) P_CHECK(X, DS) P_CHECK(X, ES) P_CHECK(X, FS) P_CHECK(X, GS) \
	X(GUEST_CS_AR_RESERVED, GUEST_SEGMENT, "bits 11:8 of guest CS's access rights must be 0", \
	  c->v86 || !(F(GUEST_CS_ACCESS_RIGHTS) & BITS(11, 8)), (GUEST_CS_ACCESS_RIGHTS)) \
	X(GUEST_CS_AR_HIGH, GUEST_SEGMENT, "bits 31:17 of guest CS's access rights must be 0", \
	  c->v86 || !(F(GUEST_CS_ACCESS_RIGHTS) & BITS(31, 17)), (GUEST_CS_ACCESS_RIGHTS)) \
	AR_RESERVED_CHECK(X, SS) AR_RESERVED_CHECK(X, DS) AR_RESERVED_CHECK(X, ES) \
	AR_RESERVED_CHECK(X, FS) AR_RESERVED_CHECK(X, GS) \
	X(GUEST_CS_LONG_DB, GUEST_SEGMENT, "D of guest CS must be 0 when its L is 1 and \"IA-32e mode guest\" is 1", \
	  c->v86 || !c->ia32e || !(F(GUEST_CS_ACCESS_RIGHTS) & AR_L) || !(F(GUEST_CS_ACCESS_RIGHTS) & AR_DB), \
	  (GUEST_CS_ACCESS_RIGHTS, ENTRY_CONTROLS)) \
	X(GUEST_CS_G_LOW, GUEST_SEGMENT, "G of guest CS must be 0 when bits 11:0 of its limit are not all 1", \
	  c->v86 || (F(GUEST_CS_LIMIT) & 0xfff) == 0xfff || !(F(GUEST_CS_ACCESS_RIGHTS) & AR_G), \
	  (GUEST_CS_LIMIT, GUEST_CS_ACCESS_RIGHTS)) \
	X(GUEST_CS_G_HIGH, GUEST_SEGMENT, "G of guest CS must be 1 when bits 31:20 of its limit are not all 0", \
	  c->v86 || !(F(GUEST_CS_LIMIT) >> 20) || F(GUEST_CS_ACCESS_RIGHTS) & AR_G, \
	  (GUEST_CS_LIMIT, GUEST_CS_ACCESS_RIGHTS)) \
	GRANULARITY_CHECKS(X, SS) GRANULARITY_CHECKS(X, DS) GRANULARITY_CHECKS(X, ES) \
	GRANULARITY_CHECKS(X, FS) GRANULARITY_CHECKS(X, GS) \
	X(GUEST_TR_TYPE, GUEST_SEGMENT, "the type of guest TR must be 11 (busy TSS), or 3 outside IA-32e mode", \
	  (F(GUEST_TR_ACCESS_RIGHTS) & AR_TYPE) == 11 || (!c->ia32e && (F(GUEST_TR_ACCESS_RIGHTS) & AR_TYPE) == 3), \
	  (GUEST_TR_ACCESS_RIGHTS, ENTRY_CONTROLS)) \
	X(GUEST_TR_S, GUEST_SEGMENT, "bit 4 (S) of guest TR's access rights must be 0", \
	  !(F(GUEST_TR_ACCESS_RIGHTS) & AR_S), (GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_P, GUEST_SEGMENT, "bit 7 (P) of guest TR's access rights must be 1", \
	  F(GUEST_TR_ACCESS_RIGHTS) & AR_P, (GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_AR_RESERVED, GUEST_SEGMENT, "bits 11:8 of guest TR's access rights must be 0", \
	  !(F(GUEST_TR_ACCESS_RIGHTS) & BITS(11, 8)), (GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_G_LOW, GUEST_SEGMENT, "G of guest TR must be 0 when bits 11:0 of its limit are not all 1", \
	  (F(GUEST_TR_LIMIT) & 0xfff) == 0xfff || !(F(GUEST_TR_ACCESS_RIGHTS) & AR_G), \
	  (GUEST_TR_LIMIT, GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_G_HIGH, GUEST_SEGMENT, "G of guest TR must be 1 when bits 31:20 of its limit are not all 0", \
	  !(F(GUEST_TR_LIMIT) >> 20) || F(GUEST_TR_ACCESS_RIGHTS) & AR_G, (GUEST_TR_LIMIT, GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_USABLE, GUEST_SEGMENT, "guest TR must be usable (bit 16 of its access rights 0)", \
	  !(F(GUEST_TR_ACCESS_RIGHTS) & AR_UNUSABLE), (GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_TR_AR_HIGH, GUEST_SEGMENT, "bits 31:17 of guest TR's access rights must be 0", \
	  !(F(GUEST_TR_ACCESS_RIGHTS) & BITS(31, 17)), (GUEST_TR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_TYPE, GUEST_SEGMENT, "the type of guest LDTR must be 2 unless it is unusable", \
	  !usable(c, SEG_LDTR) || (F(GUEST_LDTR_ACCESS_RIGHTS) & AR_TYPE) == 2, (GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_S, GUEST_SEGMENT, "bit 4 (S) of guest LDTR's access rights must be 0 unless it is unusable", \
	  !usable(c, SEG_LDTR) || !(F(GUEST_LDTR_ACCESS_RIGHTS) & AR_S), (GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_P, GUEST_SEGMENT, "bit 7 (P) of guest LDTR's access rights must be 1 unless it is unusable", \
	  !usable(c, SEG_LDTR) || F(GUEST_LDTR_ACCESS_RIGHTS) & AR_P, (GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_AR_RESERVED, GUEST_SEGMENT, "bits 11:8 of guest LDTR's access rights must be 0 unless it is unusable", \
	  !usable(c, SEG_LDTR) || !(F(GUEST_LDTR_ACCESS_RIGHTS) & BITS(11, 8)), (GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_G_LOW, GUEST_SEGMENT, "G of guest LDTR must be 0 when bits 11:0 of its limit are not all 1", \
	  !usable(c, SEG_LDTR) || (F(GUEST_LDTR_LIMIT) & 0xfff) == 0xfff || !(F(GUEST_LDTR_ACCESS_RIGHTS) & AR_G), \
	  (GUEST_LDTR_LIMIT, GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_G_HIGH, GUEST_SEGMENT, "G of guest LDTR must be 1 when bits 31:20 of its limit are not all 0", \
	  !usable(c, SEG_LDTR) || !(F(GUEST_LDTR_LIMIT) >> 20) || F(GUEST_LDTR_ACCESS_RIGHTS) & AR_G, \
	  (GUEST_LDTR_LIMIT, GUEST_LDTR_ACCESS_RIGHTS)) \
	X(GUEST_LDTR_AR_HIGH, GUEST_SEGMENT, "bits 31:17 of guest LDTR's access rights must be 0 unless it is unusable", \
	  !usable(c, SEG_LDTR) || !(F(GUEST_LDTR_ACCESS_RIGHTS) & BITS(31, 17)), (GUEST_LDTR_ACCESS_RIGHTS)) \
	/* descriptor-table registers */ \
	X(GUEST_GDTR_BASE, GUEST_TABLE, "the base of guest GDTR must be canonical", \
	  linear_canonical(F(GUEST_GDTR_BASE)), (GUEST_GDTR_BASE)) \
	X(GUEST_IDTR_BASE, GUEST_TABLE, "the base of guest IDTR must be canonical", \
	  linear_canonical(F(GUEST_IDTR_BASE)), (GUEST_IDTR_BASE)) \
	X(GUEST_GDTR_LIMIT, GUEST_TABLE, "bits 31:16 of the limit of guest GDTR must be 0", \
	  !(F(GUEST_GDTR_LIMIT) >> 16), (GUEST_GDTR_LIMIT)) \
	X(GUEST_IDTR_LIMIT, GUEST_TABLE, "bits 31:16 of the limit of guest IDTR must be 0", \
	  !(F(GUEST_IDTR_LIMIT) >> 16), (GUEST_IDTR_LIMIT)) \
	/* RIP and RFLAGS */ \
	X(GUEST_RIP_32, GUEST_RIP, "bits 63:32 of guest RIP must be 0 outside 64-bit mode", \
	  (c->ia32e && F(GUEST_CS_ACCESS_RIGHTS) & AR_L) || !(F(GUEST_RIP) >> 32), \
	  (GUEST_RIP, ENTRY_CONTROLS, GUEST_CS_ACCESS_RIGHTS)) \
	X(GUEST_RIP_64, GUEST_RIP, "bits 63:48 of guest RIP must be identical in 64-bit mode", \
	  !c->ia32e || !(F(GUEST_CS_ACCESS_RIGHTS) & AR_L) || bits_get(F(GUEST_RIP), 63, 48) == 0 || \
	  bits_get(F(GUEST_RIP), 63, 48) == 0xffff, (GUEST_RIP)) \
	X(GUEST_RFLAGS_RESERVED, GUEST_RIP, "guest RFLAGS bits 63:22, 15, 5 and 3 must be 0 and bit 1 must be 1", \
	  (F(GUEST_RFLAGS) & ~FLAGS_KNOWN) == FLAG_FIXED, (GUEST_RFLAGS)) \
	X(GUEST_RFLAGS_VM, GUEST_RIP, "guest RFLAGS bit 17 (VM) must be 0 in IA-32e mode or with CR0 bit 0 (PE) at 0", \
	  !(F(GUEST_RFLAGS) & FLAG_VM) || (!c->ia32e && F(GUEST_CR0) & CR0_PE), \
	  (GUEST_RFLAGS, ENTRY_CONTROLS, GUEST_CR0)) \
	X(GUEST_RFLAGS_IF, GUEST_RIP, "guest RFLAGS bit 9 (IF) must be 1 when an external interrupt is injected", \
	  !c->inject || c->type != EVENT_TYPE_EXTERNAL || F(GUEST_RFLAGS) & FLAG_IF, \
	  (GUEST_RFLAGS, ENTRY_INTERRUPTION_INFO)) \
	/* non-register state */ \
	X(GUEST_ACTIVITY_KNOWN, GUEST_NONREGISTER, "the guest activity state must be 0 to 3", \
	  F(GUEST_ACTIVITY) <= ACTIVITY_WAIT_FOR_SIPI, (GUEST_ACTIVITY)) \
	X(GUEST_ACTIVITY_HLT_DPL, GUEST_NONREGISTER, "the guest activity state must not be HLT when the DPL of SS is not 0", \
	  F(GUEST_ACTIVITY) != ACTIVITY_HLT || !dpl(c, SEG_SS), (GUEST_ACTIVITY, GUEST_SS_ACCESS_RIGHTS)) \
	X(GUEST_ACTIVITY_BLOCKING, GUEST_NONREGISTER, "the guest activity state must be active with blocking by STI or by MOV SS", \
	  !F(GUEST_ACTIVITY) || !(F(GUEST_INTERRUPTIBILITY) & (VMX_BLOCKING_STI | VMX_BLOCKING_MOV_SS)), \
	  (GUEST_ACTIVITY, GUEST_INTERRUPTIBILITY)) \
	X(GUEST_ACTIVITY_INJECT, GUEST_NONREGISTER, "the injected event must be one that the guest activity state admits", \
	  !c->inject || activity_admits(c, F(GUEST_ACTIVITY)), (GUEST_ACTIVITY, ENTRY_INTERRUPTION_INFO)) \
	X(GUEST_INTERRUPTIBILITY_RESERVED, GUEST_NONREGISTER, "bits 31:4 of the guest interruptibility state must be 0", \
	  !(F(GUEST_INTERRUPTIBILITY) & ~(uint64_t)VMX_INTERRUPTIBILITY_KNOWN), (GUEST_INTERRUPTIBILITY)) \
	X(GUEST_BLOCKING_BOTH, GUEST_NONREGISTER, "blocking by STI and by MOV SS must not both be 1", \
	  (F(GUEST_INTERRUPTIBILITY) & 3) != 3, (GUEST_INTERRUPTIBILITY)) \
	X(GUEST_BLOCKING_STI_IF, GUEST_NONREGISTER, "blocking by STI must be 0 when guest RFLAGS bit 9 (IF) is 0", \
	  !(F(GUEST_INTERRUPTIBILITY) & VMX_BLOCKING_STI) || F(GUEST_RFLAGS) & FLAG_IF, \
	  (GUEST_INTERRUPTIBILITY, GUEST_RFLAGS)) \
	X(GUEST_BLOCKING_EXTERNAL, GUEST_NONREGISTER, "blocking by STI and by MOV SS must be 0 when an external interrupt is injected", \
	  !c->inject || c->type != EVENT_TYPE_EXTERNAL || !(F(GUEST_INTERRUPTIBILITY) & 3), \
	  (GUEST_INTERRUPTIBILITY, ENTRY_INTERRUPTION_INFO)) \
	X(GUEST_BLOCKING_NMI_MOV_SS, GUEST_NONREGISTER, "blocking by MOV SS must be 0 when an NMI is injected", \
	  !c->inject || c->type != EVENT_TYPE_NMI || !(F(GUEST_INTERRUPTIBILITY) & VMX_BLOCKING_MOV_SS), \
	  (GUEST_INTERRUPTIBILITY, ENTRY_INTERRUPTION_INFO)) \
	X(GUEST_BLOCKING_SMI, GUEST_NONREGISTER, "blocking by SMI must be 0 outside SMM", \
	  !(F(GUEST_INTERRUPTIBILITY) & VMX_BLOCKING_SMI), (GUEST_INTERRUPTIBILITY)) \
	X(GUEST_BLOCKING_VIRTUAL_NMI, GUEST_NONREGISTER, "blocking by NMI must be 0 when an NMI is injected and \"virtual NMIs\" is 1", \
	  !c->inject || c->type != EVENT_TYPE_NMI || !PIN(VIRTUAL_NMIS) || \
	  !(F(GUEST_INTERRUPTIBILITY) & VMX_BLOCKING_NMI), (GUEST_INTERRUPTIBILITY, ENTRY_INTERRUPTION_INFO)) \
	X(GUEST_PENDING_DEBUG_RESERVED, GUEST_NONREGISTER, "bits 63:15, 13 and 11:4 of the guest pending debug exceptions must be 0", \
	  !(F(GUEST_PENDING_DEBUG) & ~(VMX_PENDING_DEBUG_B | VMX_PENDING_DEBUG_ENABLED | VMX_PENDING_DEBUG_BS)), \
	  (GUEST_PENDING_DEBUG)) \
	X(GUEST_PENDING_DEBUG_BS_1, GUEST_NONREGISTER, "bit 14 (BS) of the pending debug exceptions must be 1 in HLT or with blocking by STI or MOV SS when RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0", \
	  !bs_decided(c) || !single_steps(c) || F(GUEST_PENDING_DEBUG) & VMX_PENDING_DEBUG_BS, \
	  (GUEST_PENDING_DEBUG, GUEST_INTERRUPTIBILITY, GUEST_ACTIVITY, GUEST_RFLAGS)) \
	X(GUEST_PENDING_DEBUG_BS_0, GUEST_NONREGISTER, "bit 14 (BS) of the pending debug exceptions must be 0 in HLT or with blocking by STI or MOV SS when RFLAGS.TF is 0 or IA32_DEBUGCTL.BTF is 1", \
	  !bs_decided(c) || single_steps(c) || !(F(GUEST_PENDING_DEBUG) & VMX_PENDING_DEBUG_BS), \
	  (GUEST_PENDING_DEBUG, GUEST_INTERRUPTIBILITY, GUEST_ACTIVITY, GUEST_RFLAGS)) \
	LINK_POINTER_CHECKS(X) PDPTE_CHECKS(X)

/* These fail with an exit qualification of their own. */
#define LINK_POINTER_CHECKS(X) \
	X(LINK_ALIGNED, GUEST_NONREGISTER, "bits 11:0 of the VMCS link pointer must be 0", \
	  !c->link || page_aligned(F(VMCS_LINK_POINTER)), (VMCS_LINK_POINTER)) \
	X(LINK_WIDTH, GUEST_NONREGISTER, "the VMCS link pointer must not exceed the physical-address width", \
	  !c->link || physical(F(VMCS_LINK_POINTER)), (VMCS_LINK_POINTER)) \
	X(LINK_REVISION, GUEST_NONREGISTER, "the VMCS link pointer must lead to our VMCS revision identifier with bit 31 at 0", \
	  !c->link || link_revision(c) == VMCS_REVISION, (VMCS_LINK_POINTER)) \
	X(LINK_CURRENT, GUEST_NONREGISTER, "the VMCS link pointer must not be the current VMCS", \
	  !c->link || F(VMCS_LINK_POINTER) != c->v->pointer, (VMCS_LINK_POINTER))

#define PDPTE_CHECK(X, n) \
	X(PDPTE##n, GUEST_PDPTE, "reserved bits of guest PDPTE" #n " must be 0 when it is present", \
	  !c->pae || pdpte_valid(c->pdpte[n]), (GUEST_PDPTE##n, GUEST_CR3))
#define PDPTE_CHECKS(X) \
	PDPTE_CHECK(X, 0) PDPTE_CHECK(X, 1) PDPTE_CHECK(X, 2) PDPTE_CHECK(X, 3)

enum check_id {
	CHECK_PASSED,
#define X(id, section, text, ok, fields) CHECK_##id,
	CONTROL_CHECKS(X)
	CHECK_HOST_FIRST,
	CHECK_BEFORE_HOST = CHECK_HOST_FIRST - 1,
	HOST_CHECKS(X)
	CHECK_GUEST_FIRST,
	CHECK_BEFORE_GUEST = CHECK_GUEST_FIRST - 1,
	GUEST_CHECKS(X)
#undef X
	CHECK_COUNT
};

enum { CHECK_FIELDS = 4 };

struct entry_check {
	const char *name;	/* its identifier */
	const char *what;
	uint8_t section;	/* enum check_section */
	uint8_t fields[CHECK_FIELDS];	/* enum vmcs_field, VMCS_NO_FIELD ends */
};

extern const struct entry_check entry_checks[CHECK_COUNT];
const char *check_section_title(enum check_section section);

/* What the checks look at, taken from the VMCS once. */
struct check_context {
	const struct vtx *v;
	uint32_t pin, primary, secondary, exit, entry;
	bool inject, has_error;
	uint8_t type, vector;
	bool lma, ia32e, v86, unrestricted, link, pae;
	uint64_t cr0_fixed0;
	uint64_t pdpte[4];
};

void check_context_set(struct check_context *c, const struct vtx *v);
enum check_id check_controls(const struct check_context *c);
enum check_id check_host(const struct check_context *c);
enum check_id check_guest(const struct check_context *c);
/* Exit qualification of a guest-state check that failed. */
enum vmx_entry_failure check_qualification(enum check_id id);
/* Count the failure, and say why on the log unless it was said often. */
void check_report(struct vtx *v, enum check_id id);

#endif
