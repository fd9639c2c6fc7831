/* The VMX instructions: what they accept, and the error numbers when they do not. */
#include "vtx_machine.h"

#include "soft/flags.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>


/* Memory operands are at [RAX]; VMREAD and VMWRITE use RCX for the encoding, RDX
 * for the value; INVEPT and INVVPID have their type in RCX. */
static const uint8_t vmxon[] = { 0xf3, 0x0f, 0xc7, 0x30 }, vmxoff[] = { 0x0f, 0x01, 0xc4 },
	vmclear[] = { 0x66, 0x0f, 0xc7, 0x30 }, vmptrld[] = { 0x0f, 0xc7, 0x30 },
	vmptrst[] = { 0x0f, 0xc7, 0x38 }, vmread[] = { 0x0f, 0x78, 0xca },
	vmread_memory[] = { 0x0f, 0x78, 0x08 }, vmwrite[] = { 0x0f, 0x79, 0xca },
	vmwrite_memory[] = { 0x0f, 0x79, 0x08 }, vmlaunch[] = { 0x0f, 0x01, 0xc2 },
	vmresume[] = { 0x0f, 0x01, 0xc3 }, vmcall[] = { 0x0f, 0x01, 0xc1 }, vmfunc[] = { 0x0f, 0x01, 0xd4 },
	invept[] = { 0x66, 0x0f, 0x38, 0x80, 0x08 }, invvpid[] = { 0x66, 0x0f, 0x38, 0x81, 0x08 };

enum outcome { SUCCEED, FAIL_INVALID, FAIL_VALID, UNDEFINED, PROTECTION };

/* The handlers are HLT, so a fault is where RIP is. */
static enum outcome outcome(unsigned length)
{
	const struct cpu *cpu = machine->cpu;
	if (cpu->r[REG_RIP] == AT_HANDLERS + EXC_UD * 16)
		return UNDEFINED;
	if (cpu->r[REG_RIP] == AT_HANDLERS + EXC_GP * 16)
		return PROTECTION;
	assert_int_equal(cpu->r[REG_RIP], AT_HOST_CODE + length);
	assert_int_equal(cpu->arith & ~(ARITH_CF | ARITH_ZF | ARITH_FIXED), 0);
	return cpu->arith & ARITH_CF ? FAIL_INVALID : cpu->arith & ARITH_ZF ? FAIL_VALID : SUCCEED;
}

#define run(code) (machine->cpu->arith = 0xffff, machine_run(machine, code, sizeof(code)), outcome(sizeof(code)))

static void operand(uint64_t low, uint64_t high)
{
	const uint64_t words[2] = { low, high };
	memory_write(machine->memory, AT_OPERAND, words, sizeof words);
	machine->cpu->r[RAX] = AT_OPERAND;
}

#define with(code, pa) (operand((pa), 0), run(code))
#define assert_error(number) assert_int_equal(vmcs_get(machine->v, VMCS_INSTRUCTION_ERROR), (number))

static void prepare(void)
{
	machine_prepare(machine, GUEST_LONG);
}

static void test_vmxon(void **state)
{
	prepare();
	assert_int_equal(with(vmxon, AT_VMXON), FAIL_VALID);
	assert_error(VMX_ERROR_VMXON_IN_ROOT);
	assert_int_equal(run(vmxoff), SUCCEED);
	assert_false(vtx_operation(machine->cpu));
	assert_int_equal(with(vmxon, AT_VMXON + 8), FAIL_INVALID);
	assert_int_equal(with(vmxon, BIT(PHYSICAL_BITS)), FAIL_INVALID);
	assert_int_equal(with(vmxon, AT_BITMAPS), FAIL_INVALID);	/* no revision identifier */
	machine->cpu->feature_control = FEATURE_CONTROL_VMX_OUTSIDE_SMX;
	assert_int_equal(with(vmxon, AT_VMXON), PROTECTION);
	prepare();
	run(vmxoff);
	machine->cpu->feature_control = FEATURE_CONTROL_LOCKED;
	assert_int_equal(with(vmxon, AT_VMXON), PROTECTION);
	prepare();
	run(vmxoff);
	machine->cpu->cr0 &= ~CR0_NE;
	assert_int_equal(with(vmxon, AT_VMXON), PROTECTION);
	prepare();
	run(vmxoff);
	machine->cpu->cr4 &= ~CR4_VMXE;
	assert_int_equal(with(vmxon, AT_VMXON), UNDEFINED);
	prepare();
	run(vmxoff);
	assert_int_equal(with(vmxon, AT_VMXON), SUCCEED);
	assert_true(vtx_operation(machine->cpu));
	/* There is no current VMCS now. */
	assert_int_equal(with(vmxon, AT_VMXON), FAIL_INVALID);
}

/* Every one is undefined outside VMX operation. */
static void test_outside_operation(void **state)
{
#define assert_undefined(code) \
	prepare(); \
	run(vmxoff); \
	assert_int_equal(with(code, AT_VMCS), UNDEFINED)
	assert_undefined(vmxoff);
	assert_undefined(vmclear);
	assert_undefined(vmptrld);
	assert_undefined(vmptrst);
	assert_undefined(vmread);
	assert_undefined(vmwrite);
	assert_undefined(vmlaunch);
	assert_undefined(vmresume);
	assert_undefined(vmcall);
	assert_undefined(vmfunc);
	assert_undefined(invept);
	assert_undefined(invvpid);
#undef assert_undefined
	prepare();
	assert_int_equal(run(vmfunc), UNDEFINED);
}

static void test_vmclear_vmptrld(void **state)
{
	prepare();
	assert_int_equal(with(vmclear, AT_VMCS + 1), FAIL_VALID);
	assert_error(VMX_ERROR_VMCLEAR_ADDRESS);
	assert_int_equal(with(vmclear, BIT(PHYSICAL_BITS)), FAIL_VALID);
	assert_error(VMX_ERROR_VMCLEAR_ADDRESS);
	assert_int_equal(with(vmclear, AT_VMXON), FAIL_VALID);
	assert_error(VMX_ERROR_VMCLEAR_VMXON_POINTER);
	assert_int_equal(with(vmptrld, AT_VMCS + 0x800), FAIL_VALID);
	assert_error(VMX_ERROR_VMPTRLD_ADDRESS);
	assert_int_equal(with(vmptrld, AT_VMXON), FAIL_VALID);
	assert_error(VMX_ERROR_VMPTRLD_VMXON_POINTER);
	assert_int_equal(with(vmptrld, AT_BITMAPS), FAIL_VALID);
	assert_error(VMX_ERROR_VMPTRLD_REVISION);
	/* A shadow VMCS. */
	const uint32_t shadow = VMCS_REVISION | BIT(31);
	memory_write(machine->memory, AT_BITMAPS, &shadow, sizeof shadow);
	assert_int_equal(with(vmptrld, AT_BITMAPS), FAIL_VALID);
	assert_error(VMX_ERROR_VMPTRLD_REVISION);
	assert_int_equal(with(vmptrst, 0), SUCCEED);
	uint64_t stored;
	memory_read(machine->memory, AT_OPERAND, &stored, sizeof stored);
	assert_int_equal(stored, AT_VMCS);
	/* Clearing the current one leaves none. */
	assert_int_equal(with(vmclear, AT_VMCS), SUCCEED);
	assert_int_equal(with(vmptrst, 0), SUCCEED);
	memory_read(machine->memory, AT_OPERAND, &stored, sizeof stored);
	assert_true(stored == ~0ull);
	assert_int_equal(run(vmread), FAIL_INVALID);
	assert_int_equal(run(vmwrite), FAIL_INVALID);
	assert_int_equal(run(vmlaunch), FAIL_INVALID);
	assert_int_equal(run(vmcall), FAIL_INVALID);
	assert_int_equal(with(vmptrld, AT_BITMAPS), FAIL_INVALID);
}

/* What is written is there after the VMCS was cleared, another was current, and back. */
static void test_region_keeps_fields(void **state)
{
	prepare();
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++)
		field_set(machine, n, 0x0123456789abcdefull * n);
	struct vmcs before = machine->v->vmcs;
	assert_int_equal(with(vmptrld, AT_OTHER_VMCS), SUCCEED);
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++)
		assert_int_equal(vmcs_get(machine->v, n), 0);
	assert_int_equal(with(vmptrld, AT_VMCS), SUCCEED);
	assert_memory_equal(before.f, machine->v->vmcs.f, sizeof before.f);
	assert_int_equal(with(vmclear, AT_VMCS), SUCCEED);
	assert_int_equal(with(vmptrld, AT_VMCS), SUCCEED);
	assert_memory_equal(before.f, machine->v->vmcs.f, sizeof before.f);
}

/* Each field through VMWRITE and VMREAD, in its width; high halves; memory operands. */
static void test_vmread_vmwrite(void **state)
{
	static const uint64_t mask[] = { [VMCS_WIDTH_16] = 0xffff, [VMCS_WIDTH_32] = 0xffffffff,
					 [VMCS_WIDTH_64] = ~0ull, [VMCS_WIDTH_NATURAL] = ~0ull };
	prepare();
	struct cpu *cpu = machine->cpu;
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++) {
		const struct vmcs_field_info *info = &vmcs_field_info[n];
		uint64_t value = 0xfedcba9876543210ull + n;
		cpu->r[RCX] = info->encoding;
		cpu->r[RDX] = value;
		if (info->type == VMCS_TYPE_READ_ONLY) {
			assert_int_equal(run(vmwrite), FAIL_VALID);
			assert_error(VMX_ERROR_READ_ONLY_FIELD);
			field_set(machine, n, value);
		} else
			assert_int_equal(run(vmwrite), SUCCEED);
		cpu->r[RDX] = 0;
		assert_int_equal(run(vmread), SUCCEED);
		assert_true(cpu->r[RDX] == (value & mask[info->width]));
		operand(0, 0);
		assert_int_equal(run(vmread_memory), SUCCEED);
		memory_read(machine->memory, AT_OPERAND, &cpu->r[RDX], 8);
		assert_true(cpu->r[RDX] == (value & mask[info->width]));
		cpu->r[RCX] |= VMCS_ENCODING_HIGH;
		if (info->width != VMCS_WIDTH_64) {
			assert_int_equal(run(vmread), FAIL_VALID);
			assert_error(VMX_ERROR_UNSUPPORTED_FIELD);
			continue;
		}
		assert_int_equal(run(vmread), SUCCEED);
		assert_true(cpu->r[RDX] == value >> 32);
		if (info->type == VMCS_TYPE_READ_ONLY)
			continue;
		operand(0xaaaa5555, 0);
		assert_int_equal(run(vmwrite_memory), SUCCEED);
		assert_true(vmcs_get(machine->v, n) == (0xaaaa5555ull << 32 | (uint32_t)value));
	}
}

static void test_unsupported_fields(void **state)
{
	static const uint64_t encodings[] = { 0x0002, 0x2018, 0x0001, 0x681e | BIT(32), 0x681e | BIT(31),
					      0x681e | BIT(15), 0x781e, 0x6bfe, 0x4030, ~0ull };
	prepare();
	for (unsigned n = 0; n < ARRAY_SIZE(encodings); n++) {
		machine->cpu->r[RCX] = encodings[n];
		assert_int_equal(run(vmread), FAIL_VALID);
		assert_error(VMX_ERROR_UNSUPPORTED_FIELD);
		assert_int_equal(run(vmwrite), FAIL_VALID);
		assert_error(VMX_ERROR_UNSUPPORTED_FIELD);
	}
	/* All encodings of 16 bits: as many are known as the table has. */
	unsigned known = 0, wide = 0;
	for (unsigned e = 0; e < 0x10000; e++)
		known += vmcs_find(e) != VMCS_NO_FIELD;
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++)
		wide += vmcs_field_info[n].width == VMCS_WIDTH_64;
	assert_int_equal(known, VMCS_FIELD_COUNT - 1 + wide);
}

static void test_launch_state(void **state)
{
	static const uint8_t cpuid[] = { 0x0f, 0xa2 };
	prepare();
	machine_guest_code(machine, cpuid, sizeof cpuid);
	assert_int_equal(run(vmresume), FAIL_VALID);
	assert_error(VMX_ERROR_VMRESUME_NOT_LAUNCHED);
	machine->cpu->inhibit = INHIBIT_MOV_SS;
	assert_int_equal(run(vmlaunch), FAIL_VALID);
	assert_error(VMX_ERROR_ENTRY_MOV_SS);
	machine_launch(machine);
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(vmcs_get(machine->v, VMCS_EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(run(vmlaunch), FAIL_VALID);
	assert_error(VMX_ERROR_VMLAUNCH_NOT_CLEAR);
	/* The launch state is the region's: it survives another VMCS, not VMCLEAR. */
	assert_int_equal(with(vmptrld, AT_OTHER_VMCS), SUCCEED);
	assert_int_equal(with(vmptrld, AT_VMCS), SUCCEED);
	assert_int_equal(run(vmlaunch), FAIL_VALID);
	assert_error(VMX_ERROR_VMLAUNCH_NOT_CLEAR);
	machine_run(machine, vmresume, sizeof vmresume);
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(with(vmclear, AT_VMCS), SUCCEED);
	assert_int_equal(with(vmptrld, AT_VMCS), SUCCEED);
	assert_int_equal(run(vmresume), FAIL_VALID);
	assert_error(VMX_ERROR_VMRESUME_NOT_LAUNCHED);
	assert_int_equal(run(vmcall), FAIL_VALID);
	assert_error(VMX_ERROR_VMCALL_IN_ROOT);
}

static void test_invalidate_operands(void **state)
{
	static const struct {
		bool vpid;
		uint64_t type, low, high;
		bool good;
	} cases[] = {
		{ false, INVEPT_SINGLE, EPTP_VALID, 0, true },
		{ false, INVEPT_SINGLE, EPTP_VALID | EPTP_ACCESSED_DIRTY, 0, true },
		{ false, INVEPT_SINGLE, EPTP_VALID | BIT(7), 0, false },
		{ false, INVEPT_SINGLE, AT_EPT_PML4, 0, false },
		{ false, INVEPT_SINGLE, EPTP_VALID, 1, false },
		{ false, INVEPT_ALL, 0, 0, true },
		{ false, INVEPT_ALL, 0, BIT(63), false },
		{ false, 0, EPTP_VALID, 0, false },
		{ false, 3, EPTP_VALID, 0, false },
		{ false, BIT(32) | INVEPT_ALL, 0, 0, false },
		{ true, INVVPID_ADDRESS, 1, 0x1000, true },
		{ true, INVVPID_ADDRESS, 0, 0x1000, false },
		{ true, INVVPID_ADDRESS, 1, BIT(47), false },
		{ true, INVVPID_ADDRESS, 1, ~0ull, true },
		{ true, INVVPID_ADDRESS, 1 | BIT(16), 0, false },
		{ true, INVVPID_SINGLE, 0xffff, 0, true },
		{ true, INVVPID_SINGLE, 0, 0, false },
		{ true, INVVPID_ALL, 0, 0, true },
		{ true, INVVPID_ALL, BIT(63), 0, false },
		{ true, INVVPID_SINGLE_KEEP_GLOBALS, 1, 0, true },
		{ true, INVVPID_SINGLE_KEEP_GLOBALS, 0, 0, false },
		{ true, 4, 1, 0, false },
	};
	prepare();
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		operand(cases[n].low, cases[n].high);
		machine->cpu->r[RCX] = cases[n].type;
		enum outcome o = cases[n].vpid ? run(invvpid) : run(invept);
		if (o != (cases[n].good ? SUCCEED : FAIL_VALID))
			fail_msg("case %u: outcome %d", n, o);
		if (!cases[n].good)
			assert_error(VMX_ERROR_INVALIDATE_OPERAND);
	}
}

/* At CPL 3 and in compatibility mode. */
static void test_privilege_and_mode(void **state)
{
	prepare();
	machine->cpu->cpl = 3;
	machine->cpu->seg[SEG_CS].access_rights |= AR_DPL;
	cpu_mode_changed(machine->cpu);
	machine->cpu->r[RCX] = VMCS_ENCODING_GUEST_RIP;
	assert_int_equal(run(vmread), PROTECTION);
	prepare();
	machine->cpu->seg[SEG_CS].access_rights ^= AR_L | AR_DB;
	cpu_mode_changed(machine->cpu);
	assert_int_equal(run(vmread), UNDEFINED);
	prepare();
	machine->cpu->seg[SEG_CS].access_rights ^= AR_L | AR_DB;
	cpu_mode_changed(machine->cpu);
	assert_int_equal(run(vmcall), UNDEFINED);
}

/* CR0 and CR4 keep the bits that VMX operation fixes. */
static void test_fixed_bits(void **state)
{
	static const uint8_t mov_cr0[] = { 0x0f, 0x22, 0xc0 }, mov_cr4[] = { 0x0f, 0x22, 0xe0 };
	prepare();
	machine->cpu->r[RAX] = machine->cpu->cr0 & ~CR0_NE;
	assert_int_equal(run(mov_cr0), PROTECTION);
	prepare();
	machine->cpu->r[RAX] = machine->cpu->cr4 & ~CR4_VMXE;
	assert_int_equal(run(mov_cr4), PROTECTION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vmxon),
		cmocka_unit_test(test_outside_operation),
		cmocka_unit_test(test_vmclear_vmptrld),
		cmocka_unit_test(test_region_keeps_fields),
		cmocka_unit_test(test_vmread_vmwrite),
		cmocka_unit_test(test_unsupported_fields),
		cmocka_unit_test(test_launch_state),
		cmocka_unit_test(test_invalidate_operands),
		cmocka_unit_test(test_privilege_and_mode),
		cmocka_unit_test(test_fixed_bits),
	};
	return cmocka_run_group_tests(tests, machine_setup, machine_teardown);
}
