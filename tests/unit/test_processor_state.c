/* Power-on state (SDM vol. 3, "Processor State After Reset"). */
#include "x86/processor_state.h"
#include "x86/registers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void power_on(void **state)
{
	struct processor_state p;
	memset(&p, 0xaa, sizeof p);
	processor_state_reset(&p);
	assert_int_equal(p.rflags, 2);
	assert_int_equal(p.seg[SEG_CS].base + p.rip, 0xfffffff0);
	assert_int_equal(p.seg[SEG_CS].selector, 0xf000);
	assert_int_equal(p.cr0, 0x60000010);
	assert_int_equal(p.cr2 | p.cr3 | p.cr4 | p.cr8 | p.efer, 0);
	assert_int_equal(p.gdtr.base | p.idtr.base, 0);
	assert_int_equal(p.gdtr.limit, 0xffff);
	assert_int_equal(p.idtr.limit, 0xffff);
	for (int r = RAX; r <= R15; r++)
		if (r != RDX)
			assert_int_equal(p.gpr[r], 0);
	for (int s = 0; s < SEG_COUNT; s++) {
		assert_int_equal(p.seg[s].limit, 0xffff);
		assert_true(p.seg[s].access_rights & AR_P);
		assert_false(p.seg[s].access_rights & (AR_UNUSABLE | AR_G | AR_L | AR_DPL));
		if (s != SEG_CS)
			assert_int_equal(p.seg[s].base | p.seg[s].selector, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(power_on) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
