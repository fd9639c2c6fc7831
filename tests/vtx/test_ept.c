/* EPT: rights, misconfigurations, accessed and dirty flags, exit information;
 * and which translations live over entries, exits, INVEPT and INVVPID (SDM
 * vol. 3, chapter "VMX Support for Address Translation"). */
#include "vtx_machine.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>


#define info(id) vmcs_get(machine->v, VMCS_##id)

/* The guest's data is at 2 MiB in guest-physical space, mapped by 4 KiB pages. */
enum { AT_EPT_PT = 0x1d000, DATA = 0x200000, DATA_FRAME = 0x310000, OTHER_FRAME = 0x320000,
       ENTRY_WB = MEMORY_TYPE_WB << 3 };

static void put(uint64_t pa, uint64_t value)
{
	memory_write(machine->memory, pa, &value, sizeof value);
}

static uint64_t get(uint64_t pa)
{
	uint64_t value;
	memory_read(machine->memory, pa, &value, sizeof value);
	return value;
}

static void prepare(const uint8_t *code, unsigned length, uint64_t entry)
{
	machine_prepare(machine, GUEST_LONG);
	machine_guest_code(machine, code, length);
	set(machine, PRIMARY_CONTROLS, field(machine, PRIMARY_CONTROLS) | VMX_CONTROL(PRIMARY_SECONDARY));
	set(machine, SECONDARY_CONTROLS, VMX_CONTROL(SECONDARY_EPT));
	put(AT_EPT_PD + 8, AT_EPT_PT | EPT_RIGHTS);
	put(AT_EPT_PT, entry);
}

static void enter(void)
{
	machine_launch(machine);
	assert_int_equal(machine->v->last_failure, CHECK_PASSED);
	assert_true(machine->cpu->nonroot);
	machine->cpu->r[RAX] = DATA;
}

/* MOV ECX, [RAX]; MOV [RAX], ECX; a jump to RAX; CPUID */
static const uint8_t load[] = { 0x8b, 0x08 }, store[] = { 0x89, 0x08 }, jump[] = { 0xff, 0xe0 };

static void test_rights(void **state)
{
	static const struct {
		const uint8_t *code;
		uint64_t entry, access;	/* access: bits 2:0 of the qualification */
		unsigned steps;
		bool violation, misconfiguration;
	} cases[] = {
		{ load, EPT_READ, VMX_QUALIFICATION_EPT_READ, 1, false, false },
		{ load, 0, VMX_QUALIFICATION_EPT_READ, 1, true, false },
		{ load, EPT_EXECUTE, VMX_QUALIFICATION_EPT_READ, 1, true, false },
		{ load, EPT_WRITE, 0, 1, false, true },
		{ load, EPT_WRITE | EPT_EXECUTE, 0, 1, false, true },
		{ load, EPT_READ | 2 << 3, 0, 1, false, true },
		{ load, EPT_READ | 3 << 3, 0, 1, false, true },
		{ load, EPT_READ | 7 << 3, 0, 1, false, true },
		{ load, EPT_READ | BIT(PHYSICAL_BITS), 0, 1, false, true },
		{ load, EPT_READ | BIT(63) | BIT(52), VMX_QUALIFICATION_EPT_READ, 1, false, false },
		{ store, EPT_READ | EPT_WRITE, VMX_QUALIFICATION_EPT_WRITE, 1, false, false },
		{ store, EPT_READ, VMX_QUALIFICATION_EPT_WRITE, 1, true, false },
		{ jump, EPT_EXECUTE, VMX_QUALIFICATION_EPT_FETCH, 2, false, false },
		{ jump, EPT_READ | EPT_WRITE, VMX_QUALIFICATION_EPT_FETCH, 2, true, false },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		bool typed = cases[n].entry & BITS(5, 3);
		prepare(cases[n].code, 2, DATA_FRAME | cases[n].entry |
			(typed || !(cases[n].entry & EPT_RIGHTS) ? 0 : ENTRY_WB));
		put(DATA_FRAME, 0x9090909090909090ull);
		enter();
		for (unsigned s = 0; s < cases[n].steps; s++)
			machine_step(machine);
		if (!cases[n].violation && !cases[n].misconfiguration) {
			if (!machine->cpu->nonroot)
				fail_msg("case %u exits with reason %u", n, (unsigned)info(EXIT_REASON));
			continue;
		}
		assert_false(machine->cpu->nonroot);
		assert_int_equal(info(EXIT_REASON), cases[n].violation ? VMX_EXIT_EPT_VIOLATION :
				 VMX_EXIT_EPT_MISCONFIGURATION);
		assert_int_equal(info(GUEST_PHYSICAL_ADDRESS), DATA);
		assert_int_equal(info(GUEST_RIP), cases[n].steps == 2 ? DATA : AT_GUEST_CODE);
		if (!cases[n].violation)
			continue;
		assert_int_equal(info(GUEST_LINEAR_ADDRESS), DATA);
		assert_int_equal(info(EXIT_QUALIFICATION), cases[n].access |
				 (cases[n].entry & EPT_RIGHTS) << VMX_QUALIFICATION_EPT_RIGHTS_SHIFT |
				 VMX_QUALIFICATION_EPT_LINEAR_VALID | VMX_QUALIFICATION_EPT_TRANSLATED);
	}
}

/* The rights of a path are those of all its entries. */
static void test_rights_of_the_path(void **state)
{
	prepare(store, sizeof store, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	put(AT_EPT_PD + 8, AT_EPT_PT | EPT_READ | EPT_EXECUTE);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(bits_get(info(EXIT_QUALIFICATION), 5, 3), EPT_READ | EPT_EXECUTE);
	/* Reserved bits of an entry that leads on. */
	prepare(load, sizeof load, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	put(AT_EPT_PD + 8, AT_EPT_PT | EPT_RIGHTS | BIT(3));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_MISCONFIGURATION);
	/* A 2 MiB page off its boundary. */
	prepare(load, sizeof load, 0);
	put(AT_EPT_PD + 8, (DATA + PAGE_SIZE) | EPT_RIGHTS | EPT_LEAF | ENTRY_WB);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_MISCONFIGURATION);
}

/* A guest's paging structure that EPT does not map, or maps read-only. */
static void test_paging_structures(void **state)
{
	prepare(load, sizeof load, DATA_FRAME | ENTRY_WB | EPT_RIGHTS);
	set(machine, GUEST_CR3, DATA);
	put(DATA_FRAME, AT_PDPT | PTE_P | PTE_W);
	put(AT_EPT_PT, 0);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(info(GUEST_PHYSICAL_ADDRESS), DATA);
	assert_int_equal(info(GUEST_LINEAR_ADDRESS), AT_GUEST_CODE);
	assert_int_equal(info(EXIT_QUALIFICATION),
			 VMX_QUALIFICATION_EPT_READ | VMX_QUALIFICATION_EPT_LINEAR_VALID);
	/* Setting A needs the right to write. */
	prepare(load, sizeof load, DATA_FRAME | ENTRY_WB | EPT_READ);
	set(machine, GUEST_CR3, DATA);
	put(DATA_FRAME, AT_PDPT | PTE_P | PTE_W);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_VIOLATION);
	assert_true(info(EXIT_QUALIFICATION) & VMX_QUALIFICATION_EPT_WRITE);
	assert_false(info(EXIT_QUALIFICATION) & VMX_QUALIFICATION_EPT_TRANSLATED);
	/* With accessed and dirty flags each access to them counts as a write. */
	prepare(load, sizeof load, DATA_FRAME | ENTRY_WB | EPT_READ);
	set(machine, EPT_POINTER, EPTP_VALID | EPTP_ACCESSED_DIRTY);
	set(machine, GUEST_CR3, DATA);
	put(DATA_FRAME, AT_PDPT | PTE_P | PTE_W | PTE_A);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(info(EXIT_QUALIFICATION) & 7, VMX_QUALIFICATION_EPT_READ | VMX_QUALIFICATION_EPT_WRITE);
}

static void test_accessed_dirty(void **state)
{
	prepare((const uint8_t[]){ 0x8b, 0x08, 0x89, 0x08 }, 4, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	set(machine, EPT_POINTER, EPTP_VALID | EPTP_ACCESSED_DIRTY);
	enter();
	machine_step(machine);
	assert_int_equal(get(AT_EPT_PT) & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED);
	assert_true(get(AT_EPT_PML4) & EPT_ACCESSED);
	assert_true(get(AT_EPT_PDPT) & EPT_ACCESSED);
	assert_true(get(AT_EPT_PD + 8) & EPT_ACCESSED);
	assert_false(get(AT_EPT_PD + 8) & EPT_DIRTY);
	machine_step(machine);	/* the write after a read: D must still come */
	assert_int_equal(get(AT_EPT_PT) & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED | EPT_DIRTY);
	/* Off: nothing is touched. */
	prepare(store, sizeof store, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	enter();
	machine_step(machine);
	assert_int_equal(get(AT_EPT_PT) & (EPT_ACCESSED | EPT_DIRTY), 0);
}

static void test_large_pages(void **state)
{
	prepare(load, sizeof load, 0);
	put(AT_EPT_PD + 8, 0x200000 | EPT_RIGHTS | EPT_LEAF | ENTRY_WB);
	put(DATA + 0x12340, 0x1111);
	enter();
	machine->cpu->r[RAX] = DATA + 0x12340;
	machine_step(machine);
	assert_int_equal(machine->cpu->r[RCX], 0x1111);
	prepare(load, sizeof load, 0);
	put(AT_EPT_PDPT, 0 | EPT_RIGHTS | EPT_LEAF | ENTRY_WB);
	put(DATA + 0x12340, 0x2222);
	enter();
	machine->cpu->r[RAX] = DATA + 0x12340;
	machine_step(machine);
	assert_int_equal(machine->cpu->r[RCX], 0x2222);
}

/* --- staleness --- */

static const uint8_t load_cpuid[] = { 0x8b, 0x08, 0x0f, 0xa2 }, vmresume[] = { 0x0f, 0x01, 0xc3 },
	invept[] = { 0x66, 0x0f, 0x38, 0x80, 0x08 }, invvpid[] = { 0x66, 0x0f, 0x38, 0x81, 0x08 };

/* The guest loads from DATA, then exits; returns what it loaded. */
static uint64_t guest_loads(bool first)
{
	if (first)
		machine_launch(machine);
	else
		machine_run(machine, vmresume, sizeof vmresume);
	assert_true(machine->cpu->nonroot);
	machine->cpu->r[RAX] = DATA;
	machine->cpu->r[REG_RIP] = AT_GUEST_CODE;
	machine_step(machine);
	uint64_t loaded = machine->cpu->r[RCX];
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	return loaded;
}

static void prepare_two_frames(uint16_t vpid)
{
	prepare(load_cpuid, sizeof load_cpuid, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	put(DATA_FRAME, 1);
	put(OTHER_FRAME, 2);
	if (vpid) {
		set(machine, SECONDARY_CONTROLS, field(machine, SECONDARY_CONTROLS) | VMX_CONTROL(SECONDARY_VPID));
		set(machine, VPID, vpid);
	}
}

static void invalidate(const uint8_t *code, unsigned length, uint64_t type, uint64_t low, uint64_t high)
{
	put(AT_OPERAND, low);
	put(AT_OPERAND + 8, high);
	machine->cpu->r[RAX] = AT_OPERAND;
	machine->cpu->r[RCX] = type;
	machine_run(machine, code, length);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_HOST_CODE + length);
}

static void test_translations_live_and_die(void **state)
{
	const uint64_t other = OTHER_FRAME | EPT_RIGHTS | ENTRY_WB;
	/* With VPID a changed EPT entry shows only after INVEPT: our TLB keeps it,
	 * as the architecture allows. */
	prepare_two_frames(1);
	assert_int_equal(guest_loads(true), 1);
	put(AT_EPT_PT, other);
	assert_int_equal(guest_loads(false), 1);
	invalidate(invept, sizeof invept, INVEPT_SINGLE, EPTP_VALID, 0);
	assert_int_equal(guest_loads(false), 2);
	/* INVEPT of another EPTP leaves it alone; all contexts does not. */
	put(AT_EPT_PT, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	invalidate(invept, sizeof invept, INVEPT_SINGLE, EPTP_VALID ^ BIT(20), 0);
	assert_int_equal(guest_loads(false), 2);
	invalidate(invept, sizeof invept, INVEPT_ALL, 0, 0);
	assert_int_equal(guest_loads(false), 1);
	/* INVVPID, each type; another VPID is another's. */
	static const struct {
		uint64_t type, vpid, linear;
		bool drops;
	} cases[] = {
		{ INVVPID_ADDRESS, 2, DATA, false }, { INVVPID_ADDRESS, 1, 2 * DATA, false },
		{ INVVPID_ADDRESS, 1, DATA, true }, { INVVPID_SINGLE, 2, 0, false },
		{ INVVPID_SINGLE, 1, 0, true }, { INVVPID_ALL, 0, 0, true },
		{ INVVPID_SINGLE_KEEP_GLOBALS, 1, 0, true },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		/* 4 KiB pages in the guest, too, so that an address is one page. */
		enum { AT_PT = 0x4000 };
		prepare_two_frames(1);
		for (unsigned k = 0; k < 512; k++)
			put(AT_PT + 8 * k, (DATA + k * PAGE_SIZE) | PTE_P | PTE_W);
		put(AT_PD + 8, AT_PT | PTE_P | PTE_W);
		assert_int_equal(guest_loads(true), 1);
		put(AT_EPT_PT, other);
		invalidate(invvpid, sizeof invvpid, cases[n].type, cases[n].vpid, cases[n].linear);
		if (guest_loads(false) != (cases[n].drops ? 2 : 1))
			fail_msg("INVVPID case %u", n);
	}
	/* Without VPID each entry begins afresh. */
	prepare_two_frames(0);
	assert_int_equal(guest_loads(true), 1);
	put(AT_EPT_PT, other);
	assert_int_equal(guest_loads(false), 2);
}

/* MOV [RAX], ECX; CPUID: what was judged under CR0.WP = 0 is not used under 1. */
static void test_regime(void **state)
{
	static const uint8_t store_cpuid[] = { 0x89, 0x08, 0x0f, 0xa2 };
	prepare(store_cpuid, sizeof store_cpuid, DATA_FRAME | EPT_RIGHTS | ENTRY_WB);
	set(machine, SECONDARY_CONTROLS, field(machine, SECONDARY_CONTROLS) | VMX_CONTROL(SECONDARY_VPID));
	set(machine, VPID, 7);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_PF));
	put(AT_PD + 8, DATA | PTE_PS | PTE_P);	/* read-only */
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	set(machine, GUEST_CR0, field(machine, GUEST_CR0) | CR0_WP);
	set(machine, GUEST_RIP, AT_GUEST_CODE);
	machine_run(machine, vmresume, sizeof vmresume);
	machine->cpu->r[RAX] = DATA;
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_QUALIFICATION), DATA);
}

/* An exit while an event is delivered says which. */
static void test_violation_in_delivery(void **state)
{
	prepare((const uint8_t[]){ 0x0f, 0x0b }, 2, 0);
	set(machine, GUEST_IDTR_BASE, DATA);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(info(IDT_VECTORING_INFO), VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_PHYSICAL_ADDRESS), DATA + EXC_UD * 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_rights_of_the_path),
		cmocka_unit_test(test_paging_structures),
		cmocka_unit_test(test_accessed_dirty),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_translations_live_and_die),
		cmocka_unit_test(test_regime),
		cmocka_unit_test(test_violation_in_delivery),
	};
	return cmocka_run_group_tests(tests, machine_setup, machine_teardown);
}
