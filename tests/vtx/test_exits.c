/* VM exits: which instruction exits under which control, with what information,
 * and what an exit leaves (SDM vol. 3, chapters "VMX Non-Root Operation" and "VM
 * Exits"). */
#include "vtx_guest.h"

#include "soft/flags.h"

/* Registers of the guest: values that tell them apart. */
static void registers_set(void)
{
	for (unsigned n = 0; n < 16; n++)
		if (n != RSP)
			machine->cpu->r[n] = AT_OPERAND;
}

/* --- one instruction, one control --- */

enum { NO_CONTROL = 0xff };

struct instruction {
	const char *name;
	uint8_t code[10], length;
	uint8_t field, bit;	/* the control that makes it exit; NO_CONTROL: it always does */
	uint8_t needs;		/* secondary control without which it is #UD; NO_CONTROL: none */
	uint32_t reason;
	uint64_t qualification;
	uint32_t information;
};

/* [RAX] with 64-bit addresses, segment DS, no index. */
#define MEMORY_RAX (2u << VMX_INSN_ADDRESS_SIZE_SHIFT | SEG_DS << VMX_INSN_SEGMENT_SHIFT | \
	VMX_INSN_NO_INDEX | RAX << VMX_INSN_BASE_SHIFT)
/* [RBP + R9 * 4 - 8], so segment SS. */
#define MEMORY_RBP_R9 (2u | 2u << VMX_INSN_ADDRESS_SIZE_SHIFT | SEG_SS << VMX_INSN_SEGMENT_SHIFT | \
	R9 << VMX_INSN_INDEX_SHIFT | RBP << VMX_INSN_BASE_SHIFT)
#define RIP_RELATIVE (2u << VMX_INSN_ADDRESS_SIZE_SHIFT | SEG_DS << VMX_INSN_SEGMENT_SHIFT | \
	VMX_INSN_NO_INDEX | VMX_INSN_NO_BASE)
#define REG1(r) ((uint32_t)(r) << VMX_INSN_REG1_SHIFT)
#define REG2(r) ((uint32_t)(r) << VMX_INSN_REG2_SHIFT)
#define IDENTITY(n) ((uint32_t)(n) << VMX_INSN_IDENTITY_SHIFT)
#define ALWAYS NO_CONTROL, 0, NO_CONTROL
#define P1(id) VMCS_PRIMARY_CONTROLS, VMX_BIT_PRIMARY_##id, NO_CONTROL
#define P2(id) VMCS_SECONDARY_CONTROLS, VMX_BIT_SECONDARY_##id, NO_CONTROL
#define CODE(...) { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })
#define CR(n, access, gpr) VMX_QUALIFICATION_CR(n, VMX_CR_##access, gpr)
#define IO_AT(port) ((uint64_t)(port) << VMX_QUALIFICATION_IO_PORT_SHIFT)

static const struct instruction instructions[] = {
	{ "CPUID", CODE(0x0f, 0xa2), ALWAYS, VMX_EXIT_CPUID },
	{ "INVD", CODE(0x0f, 0x08), ALWAYS, VMX_EXIT_INVD },
	{ "XSETBV", CODE(0x0f, 0x01, 0xd1), ALWAYS, VMX_EXIT_XSETBV },
	{ "VMCALL", CODE(0x0f, 0x01, 0xc1), ALWAYS, VMX_EXIT_VMCALL },
	{ "VMLAUNCH", CODE(0x0f, 0x01, 0xc2), ALWAYS, VMX_EXIT_VMLAUNCH },
	{ "VMRESUME", CODE(0x0f, 0x01, 0xc3), ALWAYS, VMX_EXIT_VMRESUME },
	{ "VMXOFF", CODE(0x0f, 0x01, 0xc4), ALWAYS, VMX_EXIT_VMXOFF },
	{ "VMXON [rax]", CODE(0xf3, 0x0f, 0xc7, 0x30), ALWAYS, VMX_EXIT_VMXON, 0, MEMORY_RAX },
	{ "VMCLEAR [rax]", CODE(0x66, 0x0f, 0xc7, 0x30), ALWAYS, VMX_EXIT_VMCLEAR, 0, MEMORY_RAX },
	{ "VMPTRLD [rbp+r9*4-8]", CODE(0x42, 0x0f, 0xc7, 0x74, 0x8d, 0xf8), ALWAYS, VMX_EXIT_VMPTRLD,
	  (uint64_t)-8, MEMORY_RBP_R9 },
	{ "VMPTRST [rip+10h]", CODE(0x0f, 0xc7, 0x3d, 0x10, 0, 0, 0), ALWAYS, VMX_EXIT_VMPTRST,
	  AT_GUEST_CODE + 7 + 0x10, RIP_RELATIVE },
	{ "VMREAD rdx, rcx", CODE(0x0f, 0x78, 0xca), ALWAYS, VMX_EXIT_VMREAD, 0,
	  VMX_INSN_REGISTER | REG1(RDX) | REG2(RCX) },
	{ "VMREAD [rax], rcx", CODE(0x0f, 0x78, 0x08), ALWAYS, VMX_EXIT_VMREAD, 0, MEMORY_RAX | REG2(RCX) },
	{ "VMWRITE r10, rdx", CODE(0x44, 0x0f, 0x79, 0xd2), ALWAYS, VMX_EXIT_VMWRITE, 0,
	  VMX_INSN_REGISTER | REG1(RDX) | REG2(R10) },
	{ "INVEPT rcx, [rax]", CODE(0x66, 0x0f, 0x38, 0x80, 0x08), ALWAYS, VMX_EXIT_INVEPT, 0,
	  MEMORY_RAX | REG2(RCX) },
	{ "INVVPID rcx, [rax]", CODE(0x66, 0x0f, 0x38, 0x81, 0x08), ALWAYS, VMX_EXIT_INVVPID, 0,
	  MEMORY_RAX | REG2(RCX) },
	{ "HLT", CODE(0xf4), P1(HLT), VMX_EXIT_HLT },
	{ "INVLPG [rax]", CODE(0x0f, 0x01, 0x38), P1(INVLPG), VMX_EXIT_INVLPG, AT_OPERAND },
	{ "RDTSC", CODE(0x0f, 0x31), P1(RDTSC), VMX_EXIT_RDTSC },
	{ "PAUSE", CODE(0xf3, 0x90), P1(PAUSE), VMX_EXIT_PAUSE },
	{ "MOV CR3, rdx", CODE(0x0f, 0x22, 0xda), P1(CR3_LOAD), VMX_EXIT_CR_ACCESS, CR(3, MOV_TO, RDX) },
	{ "MOV r9, CR3", CODE(0x41, 0x0f, 0x20, 0xd9), P1(CR3_STORE), VMX_EXIT_CR_ACCESS, CR(3, MOV_FROM, R9) },
	{ "MOV CR8, rdi", CODE(0x44, 0x0f, 0x22, 0xc7), P1(CR8_LOAD), VMX_EXIT_CR_ACCESS, CR(8, MOV_TO, RDI) },
	{ "MOV rdi, CR8", CODE(0x44, 0x0f, 0x20, 0xc7), P1(CR8_STORE), VMX_EXIT_CR_ACCESS, CR(8, MOV_FROM, RDI) },
	{ "MOV DR7, rcx", CODE(0x0f, 0x23, 0xf9), P1(MOV_DR), VMX_EXIT_MOV_DR,
	  7 | RCX << VMX_QUALIFICATION_DR_GPR_SHIFT },
	{ "MOV r8, DR6", CODE(0x41, 0x0f, 0x21, 0xf0), P1(MOV_DR), VMX_EXIT_MOV_DR,
	  6 | VMX_QUALIFICATION_DR_FROM | R8 << VMX_QUALIFICATION_DR_GPR_SHIFT },
	{ "IN AL, 80h", CODE(0xe4, 0x80), P1(UNCONDITIONAL_IO), VMX_EXIT_IO,
	  IO_AT(0x80) | VMX_QUALIFICATION_IO_IN | VMX_QUALIFICATION_IO_IMMEDIATE },
	{ "OUT DX, EAX", CODE(0xef), P1(UNCONDITIONAL_IO), VMX_EXIT_IO, IO_AT(AT_OPERAND & 0xffff) | 3 },
	{ "REP OUTSB", CODE(0xf3, 0x6e), P1(UNCONDITIONAL_IO), VMX_EXIT_IO, IO_AT(AT_OPERAND & 0xffff) |
	  VMX_QUALIFICATION_IO_STRING | VMX_QUALIFICATION_IO_REP,
	  2u << VMX_INSN_ADDRESS_SIZE_SHIFT | SEG_DS << VMX_INSN_SEGMENT_SHIFT },
	{ "INSW", CODE(0x66, 0x6d), P1(UNCONDITIONAL_IO), VMX_EXIT_IO, IO_AT(AT_OPERAND & 0xffff) | 1 |
	  VMX_QUALIFICATION_IO_STRING | VMX_QUALIFICATION_IO_IN,
	  2u << VMX_INSN_ADDRESS_SIZE_SHIFT | SEG_ES << VMX_INSN_SEGMENT_SHIFT },
	{ "WBINVD", CODE(0x0f, 0x09), P2(WBINVD), VMX_EXIT_WBINVD },
	{ "RDRAND ecx", CODE(0x0f, 0xc7, 0xf1), P2(RDRAND), VMX_EXIT_RDRAND, 0,
	  REG1(RCX) | 1u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "RDSEED r8", CODE(0x49, 0x0f, 0xc7, 0xf8), P2(RDSEED), VMX_EXIT_RDSEED, 0,
	  REG1(R8) | 2u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "SGDT [rax]", CODE(0x0f, 0x01, 0x00), P2(DESCRIPTOR_TABLE), VMX_EXIT_GDTR_IDTR, 0,
	  MEMORY_RAX | IDENTITY(0) | 1u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "SIDT [rax]", CODE(0x0f, 0x01, 0x08), P2(DESCRIPTOR_TABLE), VMX_EXIT_GDTR_IDTR, 0,
	  MEMORY_RAX | IDENTITY(1) | 1u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "LGDT [rax]", CODE(0x0f, 0x01, 0x10), P2(DESCRIPTOR_TABLE), VMX_EXIT_GDTR_IDTR, 0,
	  MEMORY_RAX | IDENTITY(2) | 1u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "LIDT [rax]", CODE(0x0f, 0x01, 0x18), P2(DESCRIPTOR_TABLE), VMX_EXIT_GDTR_IDTR, 0,
	  MEMORY_RAX | IDENTITY(3) | 1u << VMX_INSN_OPERAND_SIZE_SHIFT },
	{ "SLDT [rax]", CODE(0x0f, 0x00, 0x00), P2(DESCRIPTOR_TABLE), VMX_EXIT_LDTR_TR, 0, MEMORY_RAX | IDENTITY(0) },
	{ "STR ecx", CODE(0x0f, 0x00, 0xc9), P2(DESCRIPTOR_TABLE), VMX_EXIT_LDTR_TR, 0,
	  VMX_INSN_REGISTER | REG1(RCX) | IDENTITY(1) },
	{ "LLDT [rax]", CODE(0x0f, 0x00, 0x10), P2(DESCRIPTOR_TABLE), VMX_EXIT_LDTR_TR, 0, MEMORY_RAX | IDENTITY(2) },
	{ "RDTSCP", CODE(0x0f, 0x01, 0xf9), VMCS_PRIMARY_CONTROLS, VMX_BIT_PRIMARY_RDTSC,
	  VMX_BIT_SECONDARY_RDTSCP, VMX_EXIT_RDTSCP },
	{ "INVPCID rcx, [rax]", CODE(0x66, 0x0f, 0x38, 0x82, 0x08), VMCS_PRIMARY_CONTROLS,
	  VMX_BIT_PRIMARY_INVLPG, VMX_BIT_SECONDARY_INVPCID, VMX_EXIT_INVPCID, 0, MEMORY_RAX | REG2(RCX) },
};

/* Run instruction i with its control on or off. */
static void run_instruction(const struct instruction *i, bool needs, bool control)
{
	machine_prepare(machine, GUEST_LONG);
	machine_guest_code(machine, i->code, i->length);
	set(machine, GUEST_CR4, info(GUEST_CR4) | CR4_OSXSAVE);
	if (i->field != NO_CONTROL && i->field == VMCS_SECONDARY_CONTROLS)
		PRIMARY_ON(SECONDARY);
	if (i->needs != NO_CONTROL && needs) {
		PRIMARY_ON(SECONDARY);
		set_bit(VMCS_SECONDARY_CONTROLS, i->needs);
	}
	if (i->field != NO_CONTROL && control)
		set_bit(i->field, i->bit);
	enter();
	registers_set();
	machine_step(machine);
}

static void test_instructions(void **state)
{
	for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
		const struct instruction *i = &instructions[n];
		run_instruction(i, true, true);
		if (machine->cpu->nonroot)
			fail_msg("%s does not exit", i->name);
		if (info(EXIT_REASON) != i->reason || info(EXIT_QUALIFICATION) != i->qualification ||
		    info(EXIT_INSTRUCTION_INFO) != i->information || info(EXIT_INSTRUCTION_LENGTH) != i->length)
			fail_msg("%s: reason %u, qualification %#llx, information %#x, length %u", i->name,
				 (unsigned)info(EXIT_REASON), (unsigned long long)info(EXIT_QUALIFICATION),
				 (unsigned)info(EXIT_INSTRUCTION_INFO), (unsigned)info(EXIT_INSTRUCTION_LENGTH));
		assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
		assert_int_equal(info(IDT_VECTORING_INFO), 0);
		assert_int_equal(info(EXIT_INTERRUPTION_INFO), 0);
		assert_int_equal(machine->cpu->r[REG_RIP], AT_HOST_CODE);
		if (i->field != NO_CONTROL) {
			run_instruction(i, true, false);
			if (!machine->cpu->nonroot)
				fail_msg("%s exits without its control, reason %u", i->name,
					 (unsigned)info(EXIT_REASON));
		}
		if (i->needs != NO_CONTROL) {
			run_instruction(i, false, true);
			assert_true(machine->cpu->nonroot);
			assert_int_equal(machine->cpu->r[REG_RIP], AT_HANDLERS + EXC_UD * 16);
		}
	}
}

/* --- what an exit leaves --- */

static void test_host_state(void **state)
{
	struct cpu *cpu = machine->cpu;
	GUEST(0x0f, 0xa2);	/* CPUID */
	EXIT_ON(LOAD_PAT);
	EXIT_ON(SAVE_DEBUG);
	ENTRY_ON(LOAD_DEBUG);
	set(machine, HOST_PAT, 0x0606060606060606ull);
	set(machine, HOST_FS_BASE, 0x1111000);
	set(machine, HOST_GS_BASE, ~0xfffull);
	set(machine, HOST_DS_SELECTOR, 0);
	set(machine, HOST_SYSENTER_CS, 8);
	set(machine, HOST_SYSENTER_ESP, 0x2222000);
	set(machine, HOST_SYSENTER_EIP, 0x3333000);
	set(machine, HOST_RSP, 0x8888);
	set(machine, GUEST_DR7, 0x401);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF | FLAG_DF | FLAG_CF | FLAG_OF);
	set(machine, GUEST_FS_BASE, 0x4444000);
	enter();
	assert_int_equal(cpu->seg[SEG_FS].base, 0x4444000);
	assert_int_equal(cpu->dr7, 0x401);
	cpu->r[R15] = 0xfedcba98;
	machine_step(machine);
	assert_false(cpu->nonroot);
	assert_int_equal(cpu->r[R15], 0xfedcba98);	/* GPRs are software's */
	assert_int_equal(cpu_rflags(cpu), FLAG_FIXED);
	assert_int_equal(cpu->r[RSP], 0x8888);
	assert_int_equal(cpu->r[REG_RIP], AT_HOST_CODE);
	assert_int_equal(cpu->dr7, DR7_FIXED);
	assert_true(cpu->pat == 0x0606060606060606ull);
	assert_int_equal(cpu->sysenter_cs, 8);
	assert_int_equal(cpu->sysenter_esp, 0x2222000);
	assert_int_equal(cpu->sysenter_eip, 0x3333000);
	assert_int_equal(cpu->seg[SEG_CS].access_rights, 0xa09b);
	assert_int_equal(cpu->seg[SEG_SS].access_rights, 0xc093);
	assert_int_equal(cpu->seg[SEG_DS].access_rights & AR_UNUSABLE, AR_UNUSABLE);
	assert_int_equal(cpu->seg[SEG_FS].base, 0x1111000);
	assert_true(cpu->seg[SEG_GS].base == ~0xfffull);
	assert_int_equal(cpu->seg[SEG_TR].access_rights, 0x8b);
	assert_int_equal(cpu->seg[SEG_TR].limit, 0x67);
	assert_int_equal(cpu->seg[SEG_LDTR].access_rights & AR_UNUSABLE, AR_UNUSABLE);
	assert_int_equal(cpu->gdtr.limit, 0xffff);
	assert_int_equal(cpu->idtr.limit, 0xffff);
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->mode, MODE_64);
	/* And the guest's state is in the VMCS. */
	assert_int_equal(info(GUEST_RFLAGS), FLAG_FIXED | FLAG_IF | FLAG_DF | FLAG_CF | FLAG_OF);
	assert_int_equal(info(GUEST_DR7), 0x401);
	assert_int_equal(info(GUEST_RSP), AT_STACK);
	assert_int_equal(info(GUEST_FS_BASE), 0x4444000);
	assert_int_equal(info(GUEST_CS_ACCESS_RIGHTS), 0xa09b);
	assert_int_equal(info(ENTRY_CONTROLS) & VMX_CONTROL(ENTRY_IA32E_GUEST), VMX_CONTROL(ENTRY_IA32E_GUEST));
}

static void test_xsaves(void **state)
{
	for (unsigned enabled = 0; enabled < 2; enabled++) {
		GUEST(0x0f, 0xc7, 0x28);	/* XSAVES [RAX] */
		set(machine, GUEST_CR4, info(GUEST_CR4) | CR4_OSXSAVE | CR4_OSFXSR);
		if (enabled)
			SECONDARY_ON(XSAVES);
		enter();
		machine->cpu->r[RAX] = AT_OPERAND;
		machine->cpu->r[RDX] = 0;
		machine_step(machine);
		assert_true(machine->cpu->nonroot);
		assert_int_equal(machine->cpu->r[REG_RIP],
				 enabled ? AT_GUEST_CODE + 3 : AT_HANDLERS + EXC_UD * 16);
	}
}

/* --- control registers --- */

static void test_cr_masks(void **state)
{
	struct cpu *cpu = machine->cpu;
	/* MOV CR0, RAX with a bit that the host owns: exits only when it differs from the shadow. */
	GUEST(0x0f, 0x22, 0xc0, 0x0f, 0x20, 0xc0);
	set(machine, CR0_MASK, CR0_TS | CR0_MP);
	set(machine, CR0_SHADOW, CR0_MP);
	enter();
	cpu->r[RAX] = cpu->cr0 | CR0_MP | CR0_WP;
	machine_step(machine);
	assert_true(cpu->nonroot);
	assert_int_equal(cpu->cr0 & (CR0_MP | CR0_WP), CR0_WP);
	machine_step(machine);	/* MOV RAX, CR0: MP by the shadow */
	assert_int_equal(cpu->r[RAX] & (CR0_MP | CR0_TS | CR0_WP), CR0_MP | CR0_WP);
	GUEST(0x0f, 0x22, 0xc0);
	set(machine, CR0_MASK, CR0_TS);
	enter();
	cpu->r[RAX] = cpu->cr0 | CR0_TS;
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CR_ACCESS);
	assert_int_equal(info(EXIT_QUALIFICATION), CR(0, MOV_TO, RAX));
	/* CLTS: an exit, or no effect, as mask and shadow say. */
	GUEST(0x0f, 0x06);
	set(machine, GUEST_CR0, info(GUEST_CR0) | CR0_TS);
	set(machine, CR0_MASK, CR0_TS);
	enter();
	machine_step(machine);
	assert_true(cpu->nonroot);
	assert_true(cpu->cr0 & CR0_TS);
	GUEST(0x0f, 0x06);
	set(machine, CR0_MASK, CR0_TS);
	set(machine, CR0_SHADOW, CR0_TS);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_QUALIFICATION), CR(0, CLTS, 0));
	/* LMSW CX with MP different from the shadow. */
	GUEST(0x0f, 0x01, 0xf1);
	set(machine, CR0_MASK, CR0_MP);
	enter();
	cpu->r[RCX] = CR0_MP | CR0_PE;
	machine_step(machine);
	assert_int_equal(info(EXIT_QUALIFICATION), CR(0, LMSW, 0) |
			 (CR0_MP | CR0_PE) << VMX_QUALIFICATION_LMSW_SHIFT);
	/* A CR3-target value does not exit. */
	GUEST(0x0f, 0x22, 0xd8);
	PRIMARY_ON(CR3_LOAD);
	set(machine, CR3_TARGET_COUNT, 2);
	set(machine, CR3_TARGET_1, AT_PML4);
	enter();
	cpu->r[RAX] = AT_PML4;
	machine_step(machine);
	assert_true(cpu->nonroot);
}

/* --- bitmaps --- */

static void bitmap_set(unsigned page, unsigned bit)
{
	uint8_t byte = (uint8_t)BIT(bit % 8);
	memory_write(machine->memory, AT_BITMAPS + page * PAGE_SIZE + bit / 8, &byte, 1);
}

static void test_msr_bitmap(void **state)
{
	static const struct {
		uint32_t msr;
		bool write;
		int bit;	/* in the bitmap; -1: exits whatever it says */
	} cases[] = {
		{ MSR_IA32_SYSENTER_CS, false, 0x174 }, { MSR_IA32_SYSENTER_CS, true, 0x4000 + 0x174 },
		{ MSR_FS_BASE, false, 0x2000 + 0x100 }, { MSR_FS_BASE, true, 0x6000 + 0x100 },
		{ 0x2000, false, -1 }, { 0x40000000, true, -1 }, { 0xc0002000, false, -1 },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++)
		for (unsigned bit = 0; bit < 2; bit++) {
			GUEST(0x0f, cases[n].write ? 0x30 : 0x32);
			PRIMARY_ON(MSR_BITMAPS);
			set(machine, MSR_BITMAPS, AT_BITMAPS);
			if (bit && cases[n].bit >= 0)
				bitmap_set(0, (unsigned)cases[n].bit);
			enter();
			machine->cpu->r[RCX] = cases[n].msr;
			machine->cpu->r[RAX] = machine->cpu->r[RDX] = 0;
			machine_step(machine);
			bool exits = bit || cases[n].bit < 0;
			assert_int_equal(!machine->cpu->nonroot, exits);
			if (exits)
				assert_int_equal(info(EXIT_REASON),
						 cases[n].write ? VMX_EXIT_WRMSR : VMX_EXIT_RDMSR);
		}
}

static void test_io_bitmap(void **state)
{
	static const struct {
		uint16_t port;
		uint8_t size;
		int bit;	/* port whose bit is set; -1: none */
		bool exits;
	} cases[] = {
		{ 0x80, 1, -1, false }, { 0x80, 1, 0x80, true }, { 0x80, 1, 0x81, false },
		{ 0x7e, 4, 0x81, true }, { 0x7e, 2, 0x80, false }, { 0x8123, 1, 0x8123, true },
		{ 0x7fff, 2, 0x8000, true }, { 0xffff, 2, -1, true }, { 0xffff, 1, -1, false },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		if (cases[n].size == 1)
			GUEST(0xec);
		else if (cases[n].size == 2)
			GUEST(0x66, 0xed);
		else
			GUEST(0xed);
		PRIMARY_ON(IO_BITMAPS);
		PRIMARY_ON(UNCONDITIONAL_IO);	/* ignored with the bitmaps */
		set(machine, IO_BITMAP_A, AT_BITMAPS);
		set(machine, IO_BITMAP_B, AT_BITMAPS + PAGE_SIZE);
		if (cases[n].bit >= 0)
			bitmap_set((unsigned)cases[n].bit >> 15, cases[n].bit & 0x7fff);
		enter();
		machine->cpu->r[RDX] = cases[n].port;
		machine_step(machine);
		assert_int_equal(!machine->cpu->nonroot, cases[n].exits);
	}
}

/* --- MSR areas --- */

static void msr_entry(unsigned n, uint32_t index, uint32_t reserved, uint64_t value)
{
	const struct vmx_msr_entry e = { index, reserved, value };
	memory_write(machine->memory, AT_MSR_AREA + n * sizeof e, &e, sizeof e);
}

static void test_msr_areas(void **state)
{
	GUEST(0x0f, 0xa2);
	msr_entry(0, MSR_KERNEL_GS_BASE, 0, 0x1234000);
	msr_entry(1, MSR_STAR, 0, 0x5678);
	msr_entry(2, MSR_KERNEL_GS_BASE, 0, 0);	/* stored */
	msr_entry(3, MSR_KERNEL_GS_BASE, 0, 0x9999000);	/* for the host */
	set(machine, ENTRY_MSR_LOAD_ADDRESS, AT_MSR_AREA);
	set(machine, ENTRY_MSR_LOAD_COUNT, 2);
	set(machine, EXIT_MSR_STORE_ADDRESS, AT_MSR_AREA + 32);
	set(machine, EXIT_MSR_STORE_COUNT, 1);
	set(machine, EXIT_MSR_LOAD_ADDRESS, AT_MSR_AREA + 48);
	set(machine, EXIT_MSR_LOAD_COUNT, 1);
	enter();
	assert_int_equal(machine->cpu->kernel_gs_base, 0x1234000);
	assert_int_equal(machine->cpu->star, 0x5678);
	machine_step(machine);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->kernel_gs_base, 0x9999000);
	uint64_t stored;
	memory_read(machine->memory, AT_MSR_AREA + 40, &stored, sizeof stored);
	assert_int_equal(stored, 0x1234000);
	/* What may not be loaded at entry: the number of the entry is the qualification. */
	static const struct vmx_msr_entry bad[] = {
		{ MSR_FS_BASE, 0, 0 }, { MSR_GS_BASE, 0, 0 }, { MSR_STAR, 1, 0 }, { 0x12345, 0, 0 },
		{ MSR_KERNEL_GS_BASE, 0, BIT(47) }, { MSR_IA32_BIOS_UPDT_TRIG, 0, 0 },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
		GUEST(0x90);
		msr_entry(0, MSR_STAR, 0, 0);
		msr_entry(1, bad[n].index, bad[n].reserved, bad[n].value);
		set(machine, ENTRY_MSR_LOAD_ADDRESS, AT_MSR_AREA);
		set(machine, ENTRY_MSR_LOAD_COUNT, 2);
		machine_launch(machine);
		assert_false(machine->cpu->nonroot);
		assert_int_equal(info(EXIT_REASON), VMX_EXIT_REASON_ENTRY_FAILURE | VMX_EXIT_ENTRY_MSR_LOADING);
		assert_int_equal(info(EXIT_QUALIFICATION), 2);
		assert_false(machine->v->vmcs.launched);
	}
	/* A host MSR that cannot be loaded is a VMX abort: the processor dies. */
	GUEST(0x0f, 0xa2);
	msr_entry(0, MSR_FS_BASE, 0, 0);
	set(machine, EXIT_MSR_LOAD_ADDRESS, AT_MSR_AREA);
	set(machine, EXIT_MSR_LOAD_COUNT, 1);
	enter();
	machine_step(machine);
	assert_true(machine->died);
	uint32_t indicator;
	memory_read(machine->memory, AT_VMCS + 4, &indicator, sizeof indicator);
	assert_int_equal(indicator, VMX_ABORT_LOAD_MSRS);
}

/* --- time --- */

static void test_tsc(void **state)
{
	GUEST(0x0f, 0x31);
	PRIMARY_ON(TSC_OFFSETTING);
	SECONDARY_ON(TSC_SCALING);
	set(machine, TSC_OFFSET, 1000);
	set(machine, TSC_MULTIPLIER, 3ull << 47);	/* 1.5 */
	enter();
	assert_int_equal(vtx_tsc(machine->cpu, 2000), 4000);
	GUEST(0x0f, 0x31);
	set(machine, TSC_OFFSET, 1000);
	enter();
	assert_int_equal(vtx_tsc(machine->cpu, 2000), 2000);
}

/* --- APIC --- */

static void test_tpr_shadow(void **state)
{
	struct cpu *cpu = machine->cpu;
	const uint8_t vtpr = 0x50;
	GUEST(0x44, 0x0f, 0x20, 0xc0, 0x44, 0x0f, 0x22, 0xc1);	/* MOV RAX, CR8; MOV CR8, RCX */
	PRIMARY_ON(TPR_SHADOW);
	memory_write(machine->memory, AT_VIRTUAL_APIC + 0x80, &vtpr, 1);
	set(machine, TPR_THRESHOLD, 4);
	enter();
	machine_step(machine);
	assert_int_equal(cpu->r[RAX], 5);
	cpu->r[RCX] = 3;
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_TPR_THRESHOLD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 8);	/* after the instruction */
	uint8_t now;
	memory_read(machine->memory, AT_VIRTUAL_APIC + 0x80, &now, 1);
	assert_int_equal(now, 0x30);
}

static void test_apic_access(void **state)
{
	static const struct {
		uint32_t offset;
		bool write, exits;
	} cases[] = {
		{ 0x80, false, false }, { 0x80, true, false }, { 0xb0, true, true }, { 0x20, false, true },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		uint32_t tpr = 0x70;
		GUEST(cases[n].write ? 0x89 : 0x8b, 0x08);	/* MOV ECX and [RAX] */
		PRIMARY_ON(TPR_SHADOW);
		SECONDARY_ON(APIC_ACCESSES);
		memory_write(machine->memory, AT_VIRTUAL_APIC + 0x80, &tpr, sizeof tpr);
		enter();
		machine->cpu->r[RAX] = AT_APIC_ACCESS + cases[n].offset;
		machine->cpu->r[RCX] = 0xaaaaaa20;
		machine_step(machine);
		assert_int_equal(!machine->cpu->nonroot, cases[n].exits);
		if (cases[n].exits) {
			assert_int_equal(info(EXIT_REASON), VMX_EXIT_APIC_ACCESS);
			assert_int_equal(info(EXIT_QUALIFICATION), cases[n].offset |
				(cases[n].write ? VMX_APIC_LINEAR_WRITE : VMX_APIC_LINEAR_READ) <<
				VMX_QUALIFICATION_APIC_ACCESS_SHIFT);
			assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
		} else if (cases[n].write) {
			memory_read(machine->memory, AT_VIRTUAL_APIC + 0x80, &tpr, sizeof tpr);
			assert_int_equal(tpr, 0x20);
		} else
			assert_int_equal(machine->cpu->r[RCX], 0x70);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_host_state),
		cmocka_unit_test(test_xsaves),
		cmocka_unit_test(test_cr_masks),
		cmocka_unit_test(test_msr_bitmap),
		cmocka_unit_test(test_io_bitmap),
		cmocka_unit_test(test_msr_areas),
		cmocka_unit_test(test_tsc),
		cmocka_unit_test(test_tpr_shadow),
		cmocka_unit_test(test_apic_access),
	};
	return cmocka_run_group_tests(tests, machine_setup, machine_teardown);
}
