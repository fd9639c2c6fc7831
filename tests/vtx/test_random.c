/* A hypervisor that writes nonsense: random values in random VMCS fields, random
 * controls, random guest code. Whatever happens, the processor stays in a state
 * that makes sense and comes back to the hypervisor or goes on. Each round's
 * seed is printed when it fails. */
#include "vtx_machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROUNDS = 20000, STEPS = 24, CODE_BYTES = 64 };

static uint64_t seed;

static uint64_t random_next(void)	/* xorshift64* */
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1dull;
}

static uint64_t random_below(uint64_t n)
{
	return random_next() % n;
}

static uint64_t random_value(uint64_t old)
{
	static const uint64_t places[] = { 0, ~0ull, AT_PML4, AT_BITMAPS, AT_VIRTUAL_APIC, AT_MSR_AREA,
		MACHINE_RAM - 4, MACHINE_RAM, BIT(PHYSICAL_BITS) - 16, BIT(31), BIT(47) - 1 };
	switch (random_below(6)) {
	case 0: return random_next();
	case 1: return old ^ BIT(random_below(64));
	case 2: return places[random_below(ARRAY_SIZE(places))];
	case 3: return random_below(256);
	case 4: return old + random_below(32) - 16;
	default: return old;
	}
}

/* Each control bit that may be changed, with one chance in four. */
static void controls_random(enum vmcs_field f, uint32_t capability_msr)
{
	uint64_t capability;
	vtx_msr_read(machine->cpu, capability_msr, &capability);
	uint32_t free_bits = (uint32_t)(capability >> 32) & ~(uint32_t)capability;
	field_set(machine, f, vmcs_get(machine->v, f) ^ (free_bits & random_next() & random_next()));
}

static void bytes_random(uint64_t pa, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint8_t byte = (uint8_t)random_next();
		memory_write(machine->memory, pa + k, &byte, 1);
	}
}

static void round_prepare(void)
{
	static const uint8_t exits[][2] = { { 0x0f, 0xa2 }, { 0xf4, 0x90 }, { 0x0f, 0x32 }, { 0xe4, 0x80 },
					    { 0x0f, 0x0b }, { 0xcd, 0x80 }, { 0xfb, 0x90 }, { 0xf3, 0x90 } };
	machine_prepare(machine, random_below(GUEST_KINDS));
	bytes_random(AT_GUEST_CODE, CODE_BYTES);
	for (unsigned n = 0; n < CODE_BYTES && random_below(8); n += 2)
		memory_write(machine->memory, AT_GUEST_CODE + n, exits[random_below(ARRAY_SIZE(exits))], 2);
	if (random_below(2))
		bytes_random(AT_BITMAPS + random_below(4000), 64);
	if (random_below(4) == 0)
		bytes_random(AT_MSR_AREA, 128);
	if (random_below(4) == 0)
		bytes_random(AT_EPT_PD + random_below(64), 8);
	controls_random(VMCS_PIN_CONTROLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS);
	controls_random(VMCS_PRIMARY_CONTROLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS);
	controls_random(VMCS_SECONDARY_CONTROLS, MSR_IA32_VMX_PROCBASED_CTLS2);
	set(machine, VPID, 1 + random_below(4));
	set(machine, IO_BITMAP_A, AT_BITMAPS);
	set(machine, IO_BITMAP_B, AT_BITMAPS + PAGE_SIZE);
	set(machine, MSR_BITMAPS, AT_BITMAPS);
	set(machine, TSC_MULTIPLIER, BIT(48));
	for (unsigned n = random_below(6); n--;) {
		unsigned f = 1 + (unsigned)random_below(VMCS_FIELD_COUNT - 1);
		field_set(machine, f, random_value(vmcs_get(machine->v, f)));
	}
}

static void assert_sane(void)
{
	const struct cpu *cpu = machine->cpu;
	if (cpu->nonroot && !machine->died) {
		assert_true(machine->v->operation);
		assert_true(cpu->cr0 & CR0_NE);
		assert_true(cpu->cr4 & CR4_VMXE);
	}
	assert_in_range(cpu->cpl, 0, 3);
	assert_in_range(cpu->mode, 0, CODE_MODES - 1);
	assert_in_range(cpu->activity, ACTIVITY_ACTIVE, ACTIVITY_WAIT_FOR_SIPI);
	if (cpu->efer & EFER_LMA)
		assert_true(cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE);
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++) {
		uint64_t value = vmcs_get(machine->v, n);
		if (vmcs_field_info[n].width == VMCS_WIDTH_16)
			assert_in_range(value, 0, UINT16_MAX);
		if (vmcs_field_info[n].width == VMCS_WIDTH_32)
			assert_in_range(value, 0, UINT32_MAX);
	}
}

/* After an exit, the guest's own state must pass the checks again: what the
 * processor saves, it accepts. */
static void assert_saved_state_enters(void)
{
	struct check_context c;
	check_context_set(&c, machine->v);
	c.inject = false;
	enum check_id failed = check_guest(&c);
	if (failed)
		fail_msg("after exit %u the saved state fails %s", (unsigned)field(machine, EXIT_REASON),
			 entry_checks[failed].name);
}

static void test_random_vmcs(void **state)
{
	unsigned entered = 0, exited = 0;
	/* The explanations of failures are not wanted 20000 times. */
	int err = dup(STDERR_FILENO);
	assert_non_null(freopen("/dev/null", "w", stderr));
	for (unsigned n = 0; n < ROUNDS; n++) {
		seed = 0x9e3779b97f4a7c15ull * (n + 1);
		round_prepare();
		machine_launch(machine);
		assert_sane();
		bool was_nonroot = machine->cpu->nonroot;
		entered += was_nonroot;
		for (unsigned s = 0; s < STEPS && machine->cpu->nonroot && !machine->died; s++) {
			machine_step(machine);
			assert_sane();
		}
		if (was_nonroot && !machine->cpu->nonroot && !machine->died) {
			exited++;
			assert_int_equal(field(machine, EXIT_REASON) & VMX_EXIT_REASON_ENTRY_FAILURE, 0);
			assert_int_equal(machine->cpu->r[REG_RIP], field(machine, HOST_RIP));
			assert_saved_state_enters();
		}
	}
	dup2(err, STDERR_FILENO);
	close(err);
	print_message("%u rounds, %u entered the guest, %u came back\n", ROUNDS, entered, exited);
	assert_in_range(entered, ROUNDS / 10, ROUNDS);
	assert_in_range(exited, ROUNDS / 20, ROUNDS);
}

/* Save and load in the middle of a guest: the same machine goes on. */
static void test_save_load(void **state)
{
	static const uint8_t code[] = { 0x90, 0x0f, 0xa2 };
	struct state s = { 0 };
	struct error e;
	machine_prepare(machine, GUEST_LONG);
	machine_guest_code(machine, code, sizeof code);
	set(machine, PIN_CONTROLS, field(machine, PIN_CONTROLS) | VMX_CONTROL(PIN_PREEMPTION_TIMER));
	set(machine, PREEMPTION_TIMER, 1000000);
	machine_launch(machine);
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	soft_engine_ops.save(machine->engine, &s);
	struct vmcs before = machine->v->vmcs;
	soft_engine_ops.reset(machine->engine);
	assert_false(vtx_operation(machine->cpu));
	assert_int_equal(soft_engine_ops.load(machine->engine, &s, &e), 0);
	assert_memory_equal(before.f, machine->v->vmcs.f, sizeof before.f);
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(field(machine, EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(field(machine, GUEST_RIP), AT_GUEST_CODE + 1);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_HOST_CODE);
	state_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_vmcs),
		cmocka_unit_test(test_save_load),
	};
	return cmocka_run_group_tests(tests, machine_setup, machine_teardown);
}
