/* The VMCS fields of this processor (SDM vol. 3, appendix "Field Encoding in
 * VMCS"): X(identifier, encoding, name). A field of a feature that is not
 * offered is not in the list, so VMREAD and VMWRITE do not know it.
 *
 * Width, type and index are part of the encoding: bits 14:13 width (0: 16
 * bits, 1: 64, 2: 32, 3: natural), 11:10 type (0: control, 1: read-only data,
 * 2: guest state, 3: host state), 9:1 index, 0 the high half of a 64-bit
 * field. */
#ifndef NESTOR_X86_VMCS_FIELDS_H
#define NESTOR_X86_VMCS_FIELDS_H

#define VMCS_FIELDS_CONTROL(X) \
	X(VPID, 0x0000, "VPID") \
	X(IO_BITMAP_A, 0x2000, "I/O-bitmap A address") \
	X(IO_BITMAP_B, 0x2002, "I/O-bitmap B address") \
	X(MSR_BITMAPS, 0x2004, "MSR-bitmap address") \
	X(EXIT_MSR_STORE_ADDRESS, 0x2006, "VM-exit MSR-store address") \
	X(EXIT_MSR_LOAD_ADDRESS, 0x2008, "VM-exit MSR-load address") \
	X(ENTRY_MSR_LOAD_ADDRESS, 0x200a, "VM-entry MSR-load address") \
	X(EXECUTIVE_VMCS_POINTER, 0x200c, "executive-VMCS pointer") \
	X(TSC_OFFSET, 0x2010, "TSC offset") \
	X(VIRTUAL_APIC_ADDRESS, 0x2012, "virtual-APIC address") \
	X(APIC_ACCESS_ADDRESS, 0x2014, "APIC-access address") \
	X(EPT_POINTER, 0x201a, "EPT pointer") \
	X(XSS_EXITING_BITMAP, 0x202c, "XSS-exiting bitmap") \
	X(TSC_MULTIPLIER, 0x2032, "TSC multiplier") \
	X(PIN_CONTROLS, 0x4000, "pin-based controls") \
	X(PRIMARY_CONTROLS, 0x4002, "primary processor-based controls") \
	X(EXCEPTION_BITMAP, 0x4004, "exception bitmap") \
	X(PAGE_FAULT_MASK, 0x4006, "page-fault error-code mask") \
	X(PAGE_FAULT_MATCH, 0x4008, "page-fault error-code match") \
	X(CR3_TARGET_COUNT, 0x400a, "CR3-target count") \
	X(EXIT_CONTROLS, 0x400c, "VM-exit controls") \
	X(EXIT_MSR_STORE_COUNT, 0x400e, "VM-exit MSR-store count") \
	X(EXIT_MSR_LOAD_COUNT, 0x4010, "VM-exit MSR-load count") \
	X(ENTRY_CONTROLS, 0x4012, "VM-entry controls") \
	X(ENTRY_MSR_LOAD_COUNT, 0x4014, "VM-entry MSR-load count") \
	X(ENTRY_INTERRUPTION_INFO, 0x4016, "VM-entry interruption information") \
	X(ENTRY_ERROR_CODE, 0x4018, "VM-entry exception error code") \
	X(ENTRY_INSTRUCTION_LENGTH, 0x401a, "VM-entry instruction length") \
	X(TPR_THRESHOLD, 0x401c, "TPR threshold") \
	X(SECONDARY_CONTROLS, 0x401e, "secondary processor-based controls") \
	X(PLE_GAP, 0x4020, "PLE_Gap") \
	X(PLE_WINDOW, 0x4022, "PLE_Window") \
	X(CR0_MASK, 0x6000, "CR0 guest/host mask") \
	X(CR4_MASK, 0x6002, "CR4 guest/host mask") \
	X(CR0_SHADOW, 0x6004, "CR0 read shadow") \
	X(CR4_SHADOW, 0x6006, "CR4 read shadow") \
	X(CR3_TARGET_0, 0x6008, "CR3-target value 0") \
	X(CR3_TARGET_1, 0x600a, "CR3-target value 1") \
	X(CR3_TARGET_2, 0x600c, "CR3-target value 2") \
	X(CR3_TARGET_3, 0x600e, "CR3-target value 3")

#define VMCS_FIELDS_EXIT(X) \
	X(GUEST_PHYSICAL_ADDRESS, 0x2400, "guest-physical address") \
	X(INSTRUCTION_ERROR, 0x4400, "VM-instruction error") \
	X(EXIT_REASON, 0x4402, "exit reason") \
	X(EXIT_INTERRUPTION_INFO, 0x4404, "VM-exit interruption information") \
	X(EXIT_INTERRUPTION_ERROR, 0x4406, "VM-exit interruption error code") \
	X(IDT_VECTORING_INFO, 0x4408, "IDT-vectoring information") \
	X(IDT_VECTORING_ERROR, 0x440a, "IDT-vectoring error code") \
	X(EXIT_INSTRUCTION_LENGTH, 0x440c, "VM-exit instruction length") \
	X(EXIT_INSTRUCTION_INFO, 0x440e, "VM-exit instruction information") \
	X(EXIT_QUALIFICATION, 0x6400, "exit qualification") \
	X(IO_RCX, 0x6402, "I/O RCX") \
	X(IO_RSI, 0x6404, "I/O RSI") \
	X(IO_RDI, 0x6406, "I/O RDI") \
	X(IO_RIP, 0x6408, "I/O RIP") \
	X(GUEST_LINEAR_ADDRESS, 0x640a, "guest-linear address")

#define VMCS_FIELDS_GUEST(X) \
	X(GUEST_ES_SELECTOR, 0x0800, "guest ES selector") \
	X(GUEST_CS_SELECTOR, 0x0802, "guest CS selector") \
	X(GUEST_SS_SELECTOR, 0x0804, "guest SS selector") \
	X(GUEST_DS_SELECTOR, 0x0806, "guest DS selector") \
	X(GUEST_FS_SELECTOR, 0x0808, "guest FS selector") \
	X(GUEST_GS_SELECTOR, 0x080a, "guest GS selector") \
	X(GUEST_LDTR_SELECTOR, 0x080c, "guest LDTR selector") \
	X(GUEST_TR_SELECTOR, 0x080e, "guest TR selector") \
	X(VMCS_LINK_POINTER, 0x2800, "VMCS link pointer") \
	X(GUEST_DEBUGCTL, 0x2802, "guest IA32_DEBUGCTL") \
	X(GUEST_PAT, 0x2804, "guest IA32_PAT") \
	X(GUEST_EFER, 0x2806, "guest IA32_EFER") \
	X(GUEST_PDPTE0, 0x280a, "guest PDPTE0") \
	X(GUEST_PDPTE1, 0x280c, "guest PDPTE1") \
	X(GUEST_PDPTE2, 0x280e, "guest PDPTE2") \
	X(GUEST_PDPTE3, 0x2810, "guest PDPTE3") \
	X(GUEST_ES_LIMIT, 0x4800, "guest ES limit") \
	X(GUEST_CS_LIMIT, 0x4802, "guest CS limit") \
	X(GUEST_SS_LIMIT, 0x4804, "guest SS limit") \
	X(GUEST_DS_LIMIT, 0x4806, "guest DS limit") \
	X(GUEST_FS_LIMIT, 0x4808, "guest FS limit") \
	X(GUEST_GS_LIMIT, 0x480a, "guest GS limit") \
	X(GUEST_LDTR_LIMIT, 0x480c, "guest LDTR limit") \
	X(GUEST_TR_LIMIT, 0x480e, "guest TR limit") \
	X(GUEST_GDTR_LIMIT, 0x4810, "guest GDTR limit") \
	X(GUEST_IDTR_LIMIT, 0x4812, "guest IDTR limit") \
	X(GUEST_ES_ACCESS_RIGHTS, 0x4814, "guest ES access rights") \
	X(GUEST_CS_ACCESS_RIGHTS, 0x4816, "guest CS access rights") \
	X(GUEST_SS_ACCESS_RIGHTS, 0x4818, "guest SS access rights") \
	X(GUEST_DS_ACCESS_RIGHTS, 0x481a, "guest DS access rights") \
	X(GUEST_FS_ACCESS_RIGHTS, 0x481c, "guest FS access rights") \
	X(GUEST_GS_ACCESS_RIGHTS, 0x481e, "guest GS access rights") \
	X(GUEST_LDTR_ACCESS_RIGHTS, 0x4820, "guest LDTR access rights") \
	X(GUEST_TR_ACCESS_RIGHTS, 0x4822, "guest TR access rights") \
	X(GUEST_INTERRUPTIBILITY, 0x4824, "guest interruptibility state") \
	X(GUEST_ACTIVITY, 0x4826, "guest activity state") \
	X(GUEST_SMBASE, 0x4828, "guest SMBASE") \
	X(GUEST_SYSENTER_CS, 0x482a, "guest IA32_SYSENTER_CS") \
	X(PREEMPTION_TIMER, 0x482e, "VMX-preemption timer value") \
	X(GUEST_CR0, 0x6800, "guest CR0") \
	X(GUEST_CR3, 0x6802, "guest CR3") \
	X(GUEST_CR4, 0x6804, "guest CR4") \
	X(GUEST_ES_BASE, 0x6806, "guest ES base") \
	X(GUEST_CS_BASE, 0x6808, "guest CS base") \
	X(GUEST_SS_BASE, 0x680a, "guest SS base") \
	X(GUEST_DS_BASE, 0x680c, "guest DS base") \
	X(GUEST_FS_BASE, 0x680e, "guest FS base") \
	X(GUEST_GS_BASE, 0x6810, "guest GS base") \
	X(GUEST_LDTR_BASE, 0x6812, "guest LDTR base") \
	X(GUEST_TR_BASE, 0x6814, "guest TR base") \
	X(GUEST_GDTR_BASE, 0x6816, "guest GDTR base") \
	X(GUEST_IDTR_BASE, 0x6818, "guest IDTR base") \
	X(GUEST_DR7, 0x681a, "guest DR7") \
	X(GUEST_RSP, 0x681c, "guest RSP") \
	X(GUEST_RIP, 0x681e, "guest RIP") \
	X(GUEST_RFLAGS, 0x6820, "guest RFLAGS") \
	X(GUEST_PENDING_DEBUG, 0x6822, "guest pending debug exceptions") \
	X(GUEST_SYSENTER_ESP, 0x6824, "guest IA32_SYSENTER_ESP") \
	X(GUEST_SYSENTER_EIP, 0x6826, "guest IA32_SYSENTER_EIP")

#define VMCS_FIELDS_HOST(X) \
	X(HOST_ES_SELECTOR, 0x0c00, "host ES selector") \
	X(HOST_CS_SELECTOR, 0x0c02, "host CS selector") \
	X(HOST_SS_SELECTOR, 0x0c04, "host SS selector") \
	X(HOST_DS_SELECTOR, 0x0c06, "host DS selector") \
	X(HOST_FS_SELECTOR, 0x0c08, "host FS selector") \
	X(HOST_GS_SELECTOR, 0x0c0a, "host GS selector") \
	X(HOST_TR_SELECTOR, 0x0c0c, "host TR selector") \
	X(HOST_PAT, 0x2c00, "host IA32_PAT") \
	X(HOST_EFER, 0x2c02, "host IA32_EFER") \
	X(HOST_SYSENTER_CS, 0x4c00, "host IA32_SYSENTER_CS") \
	X(HOST_CR0, 0x6c00, "host CR0") \
	X(HOST_CR3, 0x6c02, "host CR3") \
	X(HOST_CR4, 0x6c04, "host CR4") \
	X(HOST_FS_BASE, 0x6c06, "host FS base") \
	X(HOST_GS_BASE, 0x6c08, "host GS base") \
	X(HOST_TR_BASE, 0x6c0a, "host TR base") \
	X(HOST_GDTR_BASE, 0x6c0c, "host GDTR base") \
	X(HOST_IDTR_BASE, 0x6c0e, "host IDTR base") \
	X(HOST_SYSENTER_ESP, 0x6c10, "host IA32_SYSENTER_ESP") \
	X(HOST_SYSENTER_EIP, 0x6c12, "host IA32_SYSENTER_EIP") \
	X(HOST_RSP, 0x6c14, "host RSP") \
	X(HOST_RIP, 0x6c16, "host RIP")

#define VMCS_FIELDS(X) \
	VMCS_FIELDS_CONTROL(X) VMCS_FIELDS_EXIT(X) VMCS_FIELDS_GUEST(X) VMCS_FIELDS_HOST(X)

/* Slots of a decoded VMCS. Segment fields follow each other in the order of
 * enum segment_register, so VMCS_GUEST_ES_BASE + SEG_TR is TR's base. */
enum vmcs_field {
	VMCS_NO_FIELD,
#define X(id, encoding, name) VMCS_##id,
	VMCS_FIELDS(X)
#undef X
	VMCS_FIELD_COUNT
};

enum vmcs_encoding {
#define X(id, encoding, name) VMCS_ENCODING_##id = encoding,
	VMCS_FIELDS(X)
#undef X
};

enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NATURAL };
enum vmcs_type { VMCS_TYPE_CONTROL, VMCS_TYPE_READ_ONLY, VMCS_TYPE_GUEST, VMCS_TYPE_HOST };

#define VMCS_ENCODING_HIGH 1u		/* access to bits 63:32 of a 64-bit field */
#define VMCS_ENCODING_RESERVED 0xffff9000u
#define VMCS_ENCODING_WIDTH(e) ((enum vmcs_width)((e) >> 13 & 3))
#define VMCS_ENCODING_TYPE(e) ((enum vmcs_type)((e) >> 10 & 3))
#define VMCS_ENCODING_INDEX(e) ((e) >> 1 & 0x1ff)

#endif
