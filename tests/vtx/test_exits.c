/* VM exits: which instruction exits under which control, and with what
 * information (SDM vol. 3, chapters "VMX Non-Root Operation" and "VM Exits"). */
#include "vtx_machine.h"

#include "soft/flags.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct vtx_machine *machine;

#define info(id) vmcs_get(machine->v, VMCS_##id)

static void set_bit(enum vmcs_field field, unsigned bit)
{
	field_set(machine, field, vmcs_get(machine->v, field) | BIT(bit));
}

#define PIN_ON(id) set_bit(VMCS_PIN_CONTROLS, VMX_BIT_PIN_##id)
#define PRIMARY_ON(id) set_bit(VMCS_PRIMARY_CONTROLS, VMX_BIT_PRIMARY_##id)
#define SECONDARY_ON(id) (PRIMARY_ON(SECONDARY), set_bit(VMCS_SECONDARY_CONTROLS, VMX_BIT_SECONDARY_##id))
#define EXIT_ON(id) set_bit(VMCS_EXIT_CONTROLS, VMX_BIT_EXIT_##id)
#define ENTRY_ON(id) set_bit(VMCS_ENTRY_CONTROLS, VMX_BIT_ENTRY_##id)

static void enter(void)
{
	machine_launch(machine);
	assert_int_equal(machine->v->last_failure, CHECK_PASSED);
	assert_true(machine->cpu->nonroot);
}

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

static void guest(const uint8_t *code, unsigned length)
{
	machine_prepare(machine, GUEST_LONG);
	machine_guest_code(machine, code, length);
}

#define GUEST(...) guest((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

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

/* --- exceptions --- */

static void test_exception_bitmap(void **state)
{
	GUEST(0x0f, 0x0b);	/* UD2 */
	set(machine, EXCEPTION_BITMAP, BIT(EXC_UD));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RFLAGS) & FLAG_RF, FLAG_RF);
	/* Without the bit it is the guest's. */
	GUEST(0x0f, 0x0b);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_HANDLERS + EXC_UD * 16);
	/* INT3: RIP at it, and its length. */
	GUEST(0xcc);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_BP));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_SOFTWARE_EXCEPTION << VMX_INFO_TYPE_SHIFT | EXC_BP);
	assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), 1);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RFLAGS) & FLAG_RF, 0);
	/* INT 3 as INT n is no exception. */
	GUEST(0xcd, 0x03);
	set(machine, EXCEPTION_BITMAP, UINT32_MAX);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
}

/* MOV AL, [2 MiB * 3]: beyond the mapping. */
static void page_fault(uint32_t bitmap, uint32_t mask, uint32_t match)
{
	GUEST(0x8a, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00);
	set(machine, EXCEPTION_BITMAP, bitmap);
	set(machine, PAGE_FAULT_MASK, mask);
	set(machine, PAGE_FAULT_MATCH, match);
	enter();
	machine->cpu->cr2 = 0x1234;
	machine_step(machine);
}

static void test_page_fault_mask(void **state)
{
	page_fault(BIT(EXC_PF), 0, 0);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(info(EXIT_QUALIFICATION), 0x600000);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_PF);
	assert_int_equal(info(EXIT_INTERRUPTION_ERROR), 0);
	assert_int_equal(machine->cpu->cr2, 0x1234);	/* an exit leaves CR2 alone */
	page_fault(BIT(EXC_PF), PF_W, PF_W);
	assert_true(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->cr2, 0x600000);
	page_fault(0, PF_W, PF_W);
	assert_false(machine->cpu->nonroot);
	page_fault(0, PF_W, 0);
	assert_true(machine->cpu->nonroot);
}

static void test_triple_fault(void **state)
{
	GUEST(0x0f, 0x0b);
	set(machine, GUEST_IDTR_LIMIT, 0);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_TRIPLE_FAULT);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_ACTIVE);
	assert_false(machine->died);
}

/* A #GP while #UD is delivered exits, and says what was being delivered. */
static void test_idt_vectoring(void **state)
{
	GUEST(0x0f, 0x0b);
	set(machine, GUEST_IDTR_LIMIT, 0);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_GP));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_GP);
	assert_int_equal(info(IDT_VECTORING_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* #DF itself: nothing was being delivered, says the manual. */
	GUEST(0x8a, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00);
	set(machine, GUEST_IDTR_LIMIT, 0);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DF));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_DF);
	assert_int_equal(info(IDT_VECTORING_INFO), 0);
}

/* --- injection --- */

static uint64_t stacked(unsigned n)
{
	uint64_t value = 0;
	memory_read(machine->memory, machine->cpu->r[RSP] + 8 * n, &value, sizeof value);
	return value;
}

static void inject(unsigned type, unsigned vector, uint32_t flags, uint32_t error, unsigned length)
{
	GUEST(0x90);
	set(machine, ENTRY_INTERRUPTION_INFO,
	    VMX_INFO_VALID | type << VMX_INFO_TYPE_SHIFT | vector | flags);
	set(machine, ENTRY_ERROR_CODE, error);
	set(machine, ENTRY_INSTRUCTION_LENGTH, length);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	machine_launch(machine);
	assert_int_equal(machine->v->last_failure, CHECK_PASSED);
}

static void test_injection(void **state)
{
	struct cpu *cpu = machine->cpu;
	inject(EVENT_TYPE_EXTERNAL, 0x31, 0, 0, 0);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + 0x31 * 16);
	assert_int_equal(stacked(0), AT_GUEST_CODE);
	assert_int_equal(stacked(2), FLAG_FIXED | FLAG_IF);
	inject(EVENT_TYPE_HARDWARE, EXC_GP, VMX_INFO_ERROR_CODE, 0x1238, 0);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + EXC_GP * 16);
	assert_int_equal(stacked(0), 0x1238);
	assert_int_equal(stacked(1), AT_GUEST_CODE);
	assert_int_equal(stacked(3), FLAG_FIXED | FLAG_IF);	/* RF as the VMCS has it */
	cpu->cr2 = 0;
	inject(EVENT_TYPE_HARDWARE, EXC_PF, VMX_INFO_ERROR_CODE, 2, 0);
	assert_int_equal(cpu->cr2, 0);
	inject(EVENT_TYPE_SOFTWARE, 0x80, 0, 0, 2);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + 0x80 * 16);
	assert_int_equal(stacked(0), AT_GUEST_CODE + 2);
	inject(EVENT_TYPE_SOFTWARE_EXCEPTION, EXC_BP, 0, 0, 1);
	assert_int_equal(stacked(0), AT_GUEST_CODE + 1);
	inject(EVENT_TYPE_NMI, EXC_NMI, 0, 0, 0);
	assert_true(cpu->nmi_blocked);
	/* The valid bit is cleared by the next exit, not by the entry. */
	assert_true(info(ENTRY_INTERRUPTION_INFO) & VMX_INFO_VALID);
	cpu->r[REG_RIP] = AT_GUEST_CODE;
	machine_guest_code(machine, (const uint8_t[]){ 0x0f, 0xa2 }, 2);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_false(info(ENTRY_INTERRUPTION_INFO) & VMX_INFO_VALID);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_NMI);
}

/* An exit in the delivery of an injected event returns it in IDT-vectoring form. */
static void test_injection_exits(void **state)
{
	GUEST(0x90);
	set(machine, GUEST_IDTR_BASE, 0x600000);	/* not mapped */
	set(machine, EXCEPTION_BITMAP, BIT(EXC_PF));
	set(machine, ENTRY_INTERRUPTION_INFO,
	    VMX_INFO_VALID | EVENT_TYPE_SOFTWARE << VMX_INFO_TYPE_SHIFT | 0x80);
	set(machine, ENTRY_INSTRUCTION_LENGTH, 2);
	machine_launch(machine);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(IDT_VECTORING_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_SOFTWARE << VMX_INFO_TYPE_SHIFT | 0x80);
	assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), 2);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RSP), AT_STACK);
}

/* --- windows, NMIs, interrupts --- */

static void test_interrupt_window(void **state)
{
	GUEST(0xfb, 0x90, 0x90);	/* STI; NOP; NOP */
	PRIMARY_ON(INTERRUPT_WINDOW);
	enter();
	machine_step(machine);		/* STI */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);		/* NOP, in the shadow */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 2);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), 0);
	/* Open from the beginning: nothing of the guest runs. */
	GUEST(0x90);
	PRIMARY_ON(INTERRUPT_WINDOW);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* HLT with the window open leaves HLT in the activity state. */
	GUEST(0x90);
	PRIMARY_ON(INTERRUPT_WINDOW);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	set(machine, GUEST_ACTIVITY, ACTIVITY_HLT);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_HLT);
	assert_int_equal(machine->cpu->activity, ACTIVITY_ACTIVE);
}

static void test_virtual_nmis(void **state)
{
	GUEST(0x48, 0xcf);	/* IRETQ */
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	PRIMARY_ON(NMI_WINDOW);
	set(machine, GUEST_INTERRUPTIBILITY, VMX_BLOCKING_NMI);
	set(machine, GUEST_RSP, AT_STACK - 40);
	const uint64_t frame[5] = { AT_GUEST_CODE + 0x10, SELECTOR_CODE, FLAG_FIXED, AT_STACK, SELECTOR_DATA };
	memory_write(machine->memory, AT_STACK - 40, frame, sizeof frame);
	enter();
	assert_false(machine->cpu->nmi_blocked);	/* the machine's NMIs are open */
	machine_step(machine);				/* IRETQ unblocks virtual NMIs */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_NMI_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 0x10);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), 0);
	/* An IRET that faults after it unblocked says so in bit 12. */
	GUEST(0x48, 0xcf);
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_PF));
	set(machine, GUEST_INTERRUPTIBILITY, VMX_BLOCKING_NMI);
	set(machine, GUEST_RSP, 0x600000);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_true(info(EXIT_INTERRUPTION_INFO) & VMX_INFO_NMI_UNBLOCKED);
	/* A real NMI exits, and blocks in the host. */
	GUEST(0x90);
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	enter();
	atomic_fetch_or(&machine->cpu->events, EVENT_NMI);
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_NMI << VMX_INFO_TYPE_SHIFT | EXC_NMI);
	assert_true(machine->cpu->nmi_blocked);
	assert_false(machine->cpu->nmi_pending);
}

/* INTR of the 8259 pair. */
static void wire_set(bool level)
{
	pthread_mutex_t *lock = bus_lock(machine->engine->host.bus);
	pthread_mutex_lock(lock);
	soft_engine_ops.extint(machine->engine, level);
	pthread_mutex_unlock(lock);
}

static void test_external_interrupt(void **state)
{
	for (unsigned acknowledge = 0; acknowledge < 2; acknowledge++) {
		GUEST(0x90);
		PIN_ON(EXTERNAL_INTERRUPT);
		if (acknowledge)
			EXIT_ON(ACKNOWLEDGE_INTERRUPT);
		enter();
		wire_set(true);
		machine_step(machine);	/* RFLAGS.IF of the guest is 0 */
		wire_set(false);
		assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXTERNAL_INTERRUPT);
		assert_int_equal(info(EXIT_INTERRUPTION_INFO), acknowledge ?
				 VMX_INFO_VALID | EVENT_TYPE_EXTERNAL << VMX_INFO_TYPE_SHIFT | 0x30 : 0);
		assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	}
}

static void test_monitor_trap(void **state)
{
	GUEST(0x90, 0x90);
	PRIMARY_ON(MONITOR_TRAP);
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
	/* After an injected event: before the handler's first instruction. */
	inject(EVENT_TYPE_EXTERNAL, 0x31, 0, 0, 0);
	assert_true(machine->cpu->nonroot);
	GUEST(0x90);
	PRIMARY_ON(MONITOR_TRAP);
	set(machine, ENTRY_INTERRUPTION_INFO, VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_HANDLERS + EXC_UD * 16);
	/* Injected itself, without the control. */
	GUEST(0x90);
	set(machine, ENTRY_INTERRUPTION_INFO, VMX_INFO_VALID | EVENT_TYPE_OTHER << VMX_INFO_TYPE_SHIFT);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* An exception instead of the instruction: before its handler. */
	GUEST(0x0f, 0x0b);
	PRIMARY_ON(MONITOR_TRAP);
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_HANDLERS + EXC_UD * 16);
}

static void test_preemption_timer(void **state)
{
	struct clock *clock = machine->engine->host.clock;
	GUEST(0x90);
	PIN_ON(PREEMPTION_TIMER);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);	/* 0: no instruction ran */
	GUEST(0x90, 0x90, 0x90);
	PIN_ON(PREEMPTION_TIMER);
	EXIT_ON(SAVE_PREEMPTION_TIMER);
	set(machine, PREEMPTION_TIMER, 10);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	clock_advance(clock, 10 * PREEMPTION_TIMER_TICK_NS);
	clock_run_due(clock);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
	assert_int_equal(info(PREEMPTION_TIMER), 0);
	/* The rest is saved. */
	GUEST(0x90, 0x0f, 0xa2);
	PIN_ON(PREEMPTION_TIMER);
	EXIT_ON(SAVE_PREEMPTION_TIMER);
	set(machine, PREEMPTION_TIMER, 100);
	enter();
	machine_step(machine);
	clock_advance(clock, 30 * PREEMPTION_TIMER_TICK_NS);
	clock_run_due(clock);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(info(PREEMPTION_TIMER), 70);
}

static void test_pending_debug(void **state)
{
	GUEST(0x90);
	set(machine, GUEST_PENDING_DEBUG, VMX_PENDING_DEBUG_BS);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DB));
	enter();
	machine->cpu->dr6 = DR6_FIXED;
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_QUALIFICATION), DR6_BS);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(machine->cpu->dr6, DR6_FIXED);	/* an exit leaves DR6 alone */
	/* Single step: after the instruction. */
	GUEST(0x90);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_TF);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DB));
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_QUALIFICATION), DR6_BS);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
}

/* MOV SS, then an instruction that exits in its shadow. */
static void test_interruptibility(void **state)
{
	GUEST(0x8e, 0xd0, 0x0f, 0xa2);	/* MOV SS, EAX; CPUID */
	enter();
	machine->cpu->r[RAX] = SELECTOR_DATA;
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_MOV_SS);
	assert_int_equal(machine->cpu->inhibit, 0);
	GUEST(0xfb, 0x0f, 0xa2);	/* STI; CPUID */
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_STI);
}

/* --- INIT and start-up IPI, PAUSE loops, task switches --- */

static void test_init_sipi(void **state)
{
	GUEST(0x90);
	enter();
	atomic_fetch_or(&machine->cpu->events, EVENT_INIT);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INIT);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* In root operation INIT waits; the next entry sees it. */
	GUEST(0x90);
	atomic_fetch_or(&machine->cpu->events, EVENT_INIT);
	machine_launch(machine);
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INIT);
	/* A start-up IPI exits only from wait-for-SIPI. */
	GUEST(0x90);
	enter();
	machine->cpu->sipi_vector = 0x9a;
	atomic_fetch_or(&machine->cpu->events, EVENT_SIPI);
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	GUEST(0x90);
	set(machine, GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
	enter();
	machine_step(machine);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_GUEST_CODE);
	atomic_fetch_or(&machine->cpu->events, EVENT_SIPI);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_SIPI);
	assert_int_equal(info(EXIT_QUALIFICATION), 0x9a);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_WAIT_FOR_SIPI);
}

/* PAUSE; JMP back: the window is 1000 TSC ticks, the gap 100; the TSC runs at
 * 2 ticks a nanosecond. Returns how many PAUSEs ran before the exit, at most 20. */
static unsigned pauses(unsigned ns_between, unsigned cpl)
{
	GUEST(0xf3, 0x90, 0xeb, 0xfc);
	SECONDARY_ON(PAUSE_LOOP);
	set(machine, PLE_GAP, 100);
	set(machine, PLE_WINDOW, 1000);
	if (cpl) {
		set(machine, GUEST_CS_SELECTOR, SELECTOR_CODE | cpl);
		set(machine, GUEST_CS_ACCESS_RIGHTS, 0xa09b | cpl << AR_DPL_SHIFT);
		set(machine, GUEST_SS_SELECTOR, SELECTOR_DATA | cpl);
		set(machine, GUEST_SS_ACCESS_RIGHTS, 0xc093 | cpl << AR_DPL_SHIFT);
	}
	enter();
	for (unsigned n = 0; n < 20; n++) {
		machine_step(machine);
		if (!machine->cpu->nonroot) {
			assert_int_equal(info(EXIT_REASON), VMX_EXIT_PAUSE);
			return n;
		}
		clock_advance(machine->engine->host.clock, ns_between);
		machine_step(machine);
	}
	return 20;
}

static void test_pause_loop(void **state)
{
	assert_in_range(pauses(45, 0), 11, 12);	/* 90 ticks apart: the window is over after 11 */
	assert_int_equal(pauses(60, 0), 20);	/* 120 apart: never a loop */
	assert_int_equal(pauses(45, 3), 20);	/* only at CPL 0 */
}

static void test_task_switch(void **state)
{
	enum { SELECTOR_NEW_TSS = 0x20, TASK_GATE = 0x85, AT_NEW_TSS = 0x8000 };
	static const uint8_t jump[] = { 0xea, 0, 0, 0, 0, SELECTOR_NEW_TSS, 0 }, ud2[] = { 0x0f, 0x0b };
	const uint64_t tss = 0x67 | (uint64_t)AT_NEW_TSS << 16 | 0x89ull << 40;
	const uint64_t gate = SELECTOR_NEW_TSS << 16 | (uint64_t)TASK_GATE << 40;
	for (unsigned by_gate = 0; by_gate < 2; by_gate++) {
		machine_prepare(machine, GUEST_32);
		machine_guest_code(machine, by_gate ? ud2 : jump, by_gate ? sizeof ud2 : sizeof jump);
		memory_write(machine->memory, AT_GDT + SELECTOR_NEW_TSS, &tss, sizeof tss);
		memory_write(machine->memory, AT_OPERAND + 8 * EXC_UD, &gate, sizeof gate);
		set(machine, GUEST_GDTR_LIMIT, SELECTOR_NEW_TSS + 7);
		set(machine, GUEST_IDTR_BASE, AT_OPERAND);
		enter();
		machine_step(machine);
		assert_int_equal(info(EXIT_REASON), VMX_EXIT_TASK_SWITCH);
		assert_true(info(EXIT_QUALIFICATION) == (SELECTOR_NEW_TSS |
			(uint64_t)(by_gate ? TASK_SWITCH_GATE : TASK_SWITCH_JMP) <<
			VMX_QUALIFICATION_TASK_SOURCE_SHIFT));
		assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
		if (by_gate)
			assert_int_equal(info(IDT_VECTORING_INFO),
				VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
		else
			assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), sizeof jump);
		/* The task itself was not switched. */
		assert_int_equal(info(GUEST_TR_SELECTOR), SELECTOR_TSS);
	}
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

/* --- real mode without "unrestricted guest" --- */

/* INT 15h in virtual-8086 mode with CR4.VME: the redirection bitmap decides
 * between the 8086 program's own handler and the IDT. */
static void test_redirected_interrupt(void **state)
{
	enum { IO_MAP = 0x88, TSS_LIMIT = 0x2088, VECTOR = 0x15, OFFSET = 0x200, SEGMENT = 0x120 };
	static const uint8_t int_15[] = { 0xcd, VECTOR };
	for (unsigned to_idt = 0; to_idt < 2; to_idt++) {
		const uint16_t io_map = IO_MAP, ivt[2] = { OFFSET, SEGMENT };
		const uint8_t bitmap = to_idt ? BIT(VECTOR % 8) : 0;
		machine_prepare(machine, GUEST_V86);
		set(machine, GUEST_CR4, info(GUEST_CR4) | CR4_VME);
		set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_VM | FLAG_IOPL | FLAG_IF);
		set(machine, GUEST_TR_LIMIT, TSS_LIMIT);
		set(machine, GUEST_RSP, 0x100);
		set(machine, EXCEPTION_BITMAP, UINT32_MAX);
		memory_write(machine->memory, AT_TSS + 102, &io_map, sizeof io_map);
		memory_write(machine->memory, AT_TSS + IO_MAP - 32 + VECTOR / 8, &bitmap, 1);
		memory_write(machine->memory, VECTOR * 4, ivt, sizeof ivt);
		machine_guest_code(machine, int_15, sizeof int_15);
		set(machine, GUEST_IDTR_LIMIT, 0);
		enter();
		machine_step(machine);
		if (to_idt) {
			assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
			assert_int_equal(info(EXIT_INTERRUPTION_INFO) & VMX_INFO_VECTOR, EXC_GP);
			assert_int_equal(info(EXIT_INTERRUPTION_ERROR), VECTOR << 3 | 2);
			continue;
		}
		assert_true(machine->cpu->nonroot);
		assert_int_equal(machine->cpu->r[REG_RIP], OFFSET);
		assert_int_equal(machine->cpu->seg[SEG_CS].selector, SEGMENT);
		assert_int_equal(machine->cpu->seg[SEG_CS].base, SEGMENT << 4);
		assert_int_equal(machine->cpu->r[RSP], 0x100 - 6);
		assert_int_equal(machine->cpu->sysflags & FLAG_IF, 0);
		assert_int_equal(machine->cpu->sysflags & FLAG_VM, FLAG_VM);
		uint16_t frame[3];
		memory_read(machine->memory, AT_GUEST_CODE + 0x100 - 6, frame, sizeof frame);
		assert_int_equal(frame[0], 2);
		assert_int_equal(frame[1], AT_GUEST_CODE >> 4);
		assert_int_equal(frame[2], FLAG_FIXED | FLAG_IOPL | FLAG_IF);
	}
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

static int setup(void **state)
{
	machine = machine_create();
	return 0;
}

static int teardown(void **state)
{
	machine_destroy(machine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_host_state),
		cmocka_unit_test(test_exception_bitmap),
		cmocka_unit_test(test_page_fault_mask),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_idt_vectoring),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_injection_exits),
		cmocka_unit_test(test_interrupt_window),
		cmocka_unit_test(test_virtual_nmis),
		cmocka_unit_test(test_external_interrupt),
		cmocka_unit_test(test_monitor_trap),
		cmocka_unit_test(test_preemption_timer),
		cmocka_unit_test(test_pending_debug),
		cmocka_unit_test(test_interruptibility),
		cmocka_unit_test(test_init_sipi),
		cmocka_unit_test(test_pause_loop),
		cmocka_unit_test(test_task_switch),
		cmocka_unit_test(test_xsaves),
		cmocka_unit_test(test_cr_masks),
		cmocka_unit_test(test_msr_bitmap),
		cmocka_unit_test(test_io_bitmap),
		cmocka_unit_test(test_msr_areas),
		cmocka_unit_test(test_tsc),
		cmocka_unit_test(test_redirected_interrupt),
		cmocka_unit_test(test_tpr_shadow),
		cmocka_unit_test(test_apic_access),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
