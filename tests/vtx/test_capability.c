/* The capability MSRs: what they must say, what they must not, and that the
 * legacy and the true ones agree (SDM vol. 3, appendix "VMX Capability
 * Reporting Facility"). */
#include "vtx_machine.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>


static uint64_t msr(uint32_t index)
{
	uint64_t value;
	assert_true(vtx_msr_read(machine->cpu, index, &value));
	return value;
}

static uint32_t must(uint32_t index)
{
	return (uint32_t)msr(index);
}

static uint32_t may(uint32_t index)
{
	return (uint32_t)(msr(index) >> 32);
}

static const struct {
	uint32_t legacy, true_msr, default1;
} pairs[] = {
	{ MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, VMX_PIN_DEFAULT1 },
	{ MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, VMX_PRIMARY_DEFAULT1 },
	{ MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS, VMX_EXIT_DEFAULT1 },
	{ MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, VMX_ENTRY_DEFAULT1 },
};

static void test_legacy_and_true(void **state)
{
	for (unsigned n = 0; n < ARRAY_SIZE(pairs); n++) {
		assert_int_equal(must(pairs[n].legacy), pairs[n].default1);
		assert_int_equal(may(pairs[n].legacy), may(pairs[n].true_msr));
		assert_int_equal(must(pairs[n].true_msr) & ~pairs[n].default1, 0);
		assert_int_equal(must(pairs[n].true_msr) & ~may(pairs[n].true_msr), 0);
		assert_int_equal(pairs[n].default1 & ~may(pairs[n].legacy), 0);
	}
	/* The bits that the true MSRs set free. */
	const uint32_t cr3 = VMX_CONTROL(PRIMARY_CR3_LOAD) | VMX_CONTROL(PRIMARY_CR3_STORE);
	assert_int_equal(must(MSR_IA32_VMX_PROCBASED_CTLS) & cr3, cr3);
	assert_int_equal(must(MSR_IA32_VMX_TRUE_PROCBASED_CTLS) & cr3, 0);
	assert_int_equal(must(MSR_IA32_VMX_PROCBASED_CTLS2), 0);
}

static void test_basic(void **state)
{
	uint64_t basic = msr(MSR_IA32_VMX_BASIC);
	assert_int_equal(basic & BITS(30, 0), VMCS_REVISION);
	assert_false(basic & BIT(31));
	assert_int_equal(bits_get(basic, 44, 32), PAGE_SIZE);
	assert_false(basic & BIT(48));			/* no 32-bit limit on addresses */
	assert_int_equal(bits_get(basic, 53, 50), MEMORY_TYPE_WB);
	assert_true(basic & BIT(54));
	assert_true(basic & BIT(55));
	assert_false(basic & BITS(63, 56));
}

static void test_misc(void **state)
{
	uint64_t misc = msr(MSR_IA32_VMX_MISC);
	assert_int_equal(misc & 31, PREEMPTION_TIMER_RATE);
	assert_int_equal(bits_get(misc, 8, 5), 15);	/* LMA stored; HLT, shutdown, wait-for-SIPI */
	assert_int_equal(bits_get(misc, 24, 16), CR3_TARGETS);
	assert_int_equal(bits_get(misc, 27, 25), 0);	/* 512 entries in an MSR area */
	assert_false(misc & BIT(29));			/* VMWRITE to read-only fields */
}

static void test_fixed_bits(void **state)
{
	assert_int_equal(msr(MSR_IA32_VMX_CR0_FIXED0), CR0_PE | CR0_NE | CR0_PG);
	assert_int_equal(msr(MSR_IA32_VMX_CR0_FIXED1), UINT32_MAX);
	assert_int_equal(msr(MSR_IA32_VMX_CR4_FIXED0), CR4_VMXE);
	assert_int_equal(msr(MSR_IA32_VMX_CR4_FIXED1) & CR4_VMXE, CR4_VMXE);
	/* CR4_FIXED1 is what MOV to CR4 accepts: each bit, alone, in root operation. */
	for (unsigned n = 0; n < 64; n++) {
		static const uint8_t mov_cr4_rax[] = { 0x0f, 0x22, 0xe0 };
		machine_prepare(machine, GUEST_LONG);
		uint64_t value = CR4_VMXE | CR4_PAE | BIT(n);
		machine->cpu->r[RAX] = value;
		machine_run(machine, mov_cr4_rax, sizeof mov_cr4_rax);
		bool taken = machine->cpu->cr4 == value && machine->cpu->r[REG_RIP] == AT_HOST_CODE + 3;
		assert_int_equal(taken, !!(msr(MSR_IA32_VMX_CR4_FIXED1) & BIT(n)));
	}
}

static void test_enum_covers_every_field(void **state)
{
	unsigned highest = (unsigned)bits_get(msr(MSR_IA32_VMX_VMCS_ENUM), 9, 1);
	bool reached = false;
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++) {
		unsigned index = VMCS_ENCODING_INDEX(vmcs_field_info[n].encoding);
		assert_in_range(index, 0, highest);
		reached |= index == highest;
	}
	assert_true(reached);
}

/* Loads of PAT and EFER come for entry and exit together, or KVM refuses both. */
static void test_pairs_that_hypervisors_need(void **state)
{
	uint32_t entry = may(MSR_IA32_VMX_TRUE_ENTRY_CTLS), exit = may(MSR_IA32_VMX_TRUE_EXIT_CTLS);
	assert_int_equal(!!(entry & VMX_CONTROL(ENTRY_LOAD_PAT)), !!(exit & VMX_CONTROL(EXIT_LOAD_PAT)));
	assert_int_equal(!!(entry & VMX_CONTROL(ENTRY_LOAD_EFER)), !!(exit & VMX_CONTROL(EXIT_LOAD_EFER)));
	/* IA32_PERF_GLOBAL_CTRL: there are no counters. */
	assert_false(entry & BIT(13));
	assert_false(exit & BIT(12));
}

/* The second list: nothing of it may be advertised. */
static void test_not_offered(void **state)
{
	enum { X2APIC = 4, APIC_REGISTERS = 8, INTERRUPT_DELIVERY = 9, VM_FUNCTIONS = 13, SHADOWING = 14,
	       PML = 17, VE = 18, MODE_BASED_EXECUTE = 22 };
	static const uint8_t absent[] = { X2APIC, APIC_REGISTERS, INTERRUPT_DELIVERY, VM_FUNCTIONS,
					  SHADOWING, PML, VE, MODE_BASED_EXECUTE };
	enum { POSTED_INTERRUPTS = 7 };
	uint64_t value;
	for (unsigned n = 0; n < ARRAY_SIZE(absent); n++)
		assert_false(may(MSR_IA32_VMX_PROCBASED_CTLS2) & BIT(absent[n]));
	assert_false(may(MSR_IA32_VMX_TRUE_PINBASED_CTLS) & BIT(POSTED_INTERRUPTS));
	assert_false(vtx_msr_read(machine->cpu, MSR_IA32_VMX_VMFUNC, &value));
	assert_false(vtx_msr_read(machine->cpu, MSR_IA32_VMX_BASIC - 1, &value));
	/* Their VMCS fields are unknown, too. */
	static const uint16_t fields[] = { 0x0002, 0x0004, 0x0810, 0x0812, 0x200e, 0x2016, 0x2018, 0x201c,
					   0x2024, 0x2026, 0x2028, 0x202a, 0x2808, 0x2812, 0x2c04 };
	for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
		assert_int_equal(vmcs_find(fields[n]), VMCS_NO_FIELD);
}

static void test_ept_vpid(void **state)
{
	uint64_t cap = msr(MSR_IA32_VMX_EPT_VPID_CAP);
	const uint64_t invept = VMX_EPT_CAP_INVEPT | VMX_EPT_CAP_INVEPT_SINGLE | VMX_EPT_CAP_INVEPT_ALL;
	const uint64_t invvpid = VMX_VPID_CAP_INVVPID | VMX_VPID_CAP_ADDRESS | VMX_VPID_CAP_SINGLE |
		VMX_VPID_CAP_ALL | VMX_VPID_CAP_SINGLE_KEEP_GLOBALS;
	assert_int_equal(cap, invept | invvpid | VMX_EPT_CAP_EXECUTE_ONLY | VMX_EPT_CAP_WALK_4 |
			 VMX_EPT_CAP_UC | VMX_EPT_CAP_WB | VMX_EPT_CAP_2M | VMX_EPT_CAP_1G |
			 VMX_EPT_CAP_ACCESSED_DIRTY);
}

/* A control bit can be set at VM entry exactly when its MSR says so. */
static void test_entry_agrees(void **state)
{
	static const struct {
		enum vmcs_field field;
		uint32_t msr;
		enum check_id check;
	} words[] = {
		{ VMCS_PIN_CONTROLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, CHECK_PIN_RESERVED },
		{ VMCS_PRIMARY_CONTROLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, CHECK_PRIMARY_RESERVED },
		{ VMCS_SECONDARY_CONTROLS, MSR_IA32_VMX_PROCBASED_CTLS2, CHECK_SECONDARY_RESERVED },
		{ VMCS_EXIT_CONTROLS, MSR_IA32_VMX_TRUE_EXIT_CTLS, CHECK_EXIT_RESERVED },
		{ VMCS_ENTRY_CONTROLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, CHECK_ENTRY_RESERVED },
	};
	for (unsigned w = 0; w < ARRAY_SIZE(words); w++)
		for (unsigned n = 0; n < 32; n++) {
			struct check_context c;
			machine_prepare(machine, GUEST_LONG);
			set(machine, PRIMARY_CONTROLS, field(machine, PRIMARY_CONTROLS) |
			    VMX_CONTROL(PRIMARY_SECONDARY));
			field_set(machine, words[w].field,
				  vmcs_get(machine->v, words[w].field) ^ BIT(n));
			check_context_set(&c, machine->v);
			uint32_t value = (uint32_t)vmcs_get(machine->v, words[w].field);
			bool allowed = value & BIT(n) ? may(words[w].msr) & BIT(n) : !(must(words[w].msr) & BIT(n));
			assert_int_equal(check_controls(&c) != words[w].check, allowed);
		}
}

static int setup(void **state)
{
	machine_setup(state);
	machine_prepare(machine, GUEST_LONG);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy_and_true),
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_misc),
		cmocka_unit_test(test_fixed_bits),
		cmocka_unit_test(test_enum_covers_every_field),
		cmocka_unit_test(test_pairs_that_hypervisors_need),
		cmocka_unit_test(test_not_offered),
		cmocka_unit_test(test_ept_vpid),
		cmocka_unit_test(test_entry_agrees),
	};
	return cmocka_run_group_tests(tests, setup, machine_teardown);
}
