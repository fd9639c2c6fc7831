/* What the kvm engine makes of the CPUID that KVM offers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kvm/kvm.h"

#include <string.h>

static struct kvm_cpuid_entry2 *put(struct kvm_cpuid_set *set, uint32_t function, uint32_t index,
				    uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	struct kvm_cpuid_entry2 *c = &set->entry[set->head.nent++];
	*c = (struct kvm_cpuid_entry2){
		.function = function, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx };
	return c;
}

/* A KVM on a server processor that has more than we show. */
static void offer_intel(struct kvm_cpuid_set *set)
{
	memset(set, 0, sizeof *set);
	put(set, 0, 0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69);
	put(set, 1, 0, 0x806f8, 0x12340800, 0xffffffff, 0xffffffff);
	put(set, 4, 0, 0xfc004121, 0x2c0003f, 0x3f, 0);
	put(set, 4, 3, 0xfc1fc163, 0x380003f, 0xffff, 4);
	put(set, 7, 0, 1, 0xffffffff, 0xffffffff, 0xffffffff);
	put(set, 0xa, 0, 0x7300802, 0, 0, 0);
	put(set, 0xb, 0, 5, 9, 9, 9);
	put(set, 0xd, 0, 0x602e7, 0x2b00, 0x2b00, 0);
	put(set, 0xd, 1, 0x1f, 0x240, 0x1800, 0);
	put(set, 0xd, 2, 0x100, 0x240, 0, 0);
	put(set, 0xd, 5, 0x40, 0x440, 0, 0);
	put(set, 0xd, 6, 0x200, 0x480, 0, 0);
	put(set, 0xd, 18, 0x2000, 0xb00, 6, 0);
	put(set, 0x16, 0, 2000, 3000, 100, 0);
	put(set, 0x1d, 1, 1, 1, 1, 1);
	put(set, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	put(set, 0x40000001, 0, 0x1007efb, 0, 0, 0);
	put(set, 0x80000001, 0, 0, 0, 0x121, 0x2c100800);
}

static const struct kvm_cpuid_choice two = {
	.processors = 2, .virtualization = false, .tsc_deadline = true, .tsc_khz = 2000000,
};

static void test_features_hidden(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &two);
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(&set, 1, 0);
	assert_false(c->ecx & 1u << 3);		/* MONITOR */
	assert_false(c->ecx & 1u << 5);		/* VMX */
	assert_true(c->ecx & 1u << 31);		/* hypervisor */
	assert_true(c->ecx & 1u << 24);		/* TSC deadline */
	assert_true(c->ecx & 1u << 28);		/* AVX stays */
	c = kvm_cpuid_find(&set, 7, 0);
	assert_false(c->ebx & 1u << 16);	/* AVX512F */
	assert_true(c->ebx & 1u << 5);		/* AVX2 stays */
	assert_false(c->ecx & 1u << 16);	/* LA57 */
	assert_false(c->edx & 1u << 24);	/* AMX-TILE */
	assert_null(kvm_cpuid_find(&set, 0xa, 0));
	assert_null(kvm_cpuid_find(&set, 0x1d, 1));
}

static void test_virtualization_exposed(void **state)
{
	struct kvm_cpuid_choice choice = two;
	struct kvm_cpuid_set set;
	choice.virtualization = true;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &choice);
	assert_true(kvm_cpuid_has_vmx(&set));

	/* Never invented. */
	offer_intel(&set);
	kvm_cpuid_find(&set, 1, 0)->ecx &= ~(1u << 5);
	kvm_cpuid_filter(&set, &choice);
	assert_false(kvm_cpuid_has_vmx(&set));
}

static void test_svm_hidden(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	memcpy(&kvm_cpuid_find(&set, 0, 0)->ebx, "Auth", 4);
	kvm_cpuid_find(&set, 0x80000001, 0)->ecx |= 1 << 2;
	put(&set, 0x8000000a, 0, 1, 8, 0, 0x119b);
	put(&set, 0x80000008, 0, 0x3030, 0, 0x703f, 0);
	kvm_cpuid_filter(&set, &two);
	assert_false(kvm_cpuid_has_svm(&set));
	assert_null(kvm_cpuid_find(&set, 0x8000000a, 0));
	assert_int_equal(kvm_cpuid_find(&set, 0x80000008, 0)->ecx, 1 | 1 << 12);
	assert_true(kvm_cpuid_find(&set, 0x80000001, 0)->ecx & 1 << 1);
	assert_null(kvm_cpuid_find(&set, 0x15, 0));	/* AMD has no such leaf */
}

static void test_xsave_areas(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &two);
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(&set, 0xd, 0);
	assert_int_equal(c->eax, 7);
	assert_int_equal(c->ecx, 0x340);	/* legacy, header, AVX */
	assert_non_null(kvm_cpuid_find(&set, 0xd, 2));
	assert_null(kvm_cpuid_find(&set, 0xd, 5));
	assert_null(kvm_cpuid_find(&set, 0xd, 18));
	c = kvm_cpuid_find(&set, 0xd, 1);
	assert_int_equal(c->eax, 0xf);		/* all but XFD */
	assert_int_equal(c->ecx, 0);
}

static void test_topology(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &two);
	kvm_cpuid_place(&set, 1);
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(&set, 1, 0);
	assert_int_equal(c->ebx, 1 << 24 | 2 << 16 | 0x0800);
	assert_true(c->edx & 1 << 28);
	assert_int_equal(kvm_cpuid_find(&set, 4, 0)->eax, 0x04000121);
	assert_int_equal(kvm_cpuid_find(&set, 4, 3)->eax, 0x04004163);
	c = kvm_cpuid_find(&set, 0xb, 0);
	assert_int_equal(c->eax, 0);
	assert_int_equal(c->ebx, 1);
	assert_int_equal(c->ecx, 0x100);
	assert_int_equal(c->edx, 1);
	c = kvm_cpuid_find(&set, 0xb, 1);
	assert_int_equal(c->eax, 1);
	assert_int_equal(c->ebx, 2);
	assert_int_equal(c->ecx, 0x201);
	assert_int_equal(c->edx, 1);

	struct kvm_cpuid_choice choice = two;
	choice.processors = 1;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &choice);
	kvm_cpuid_place(&set, 0);
	assert_false(kvm_cpuid_find(&set, 1, 0)->edx & 1 << 28);
	assert_int_equal(kvm_cpuid_find(&set, 0xb, 1)->eax, 0);
}

static void test_kvm_leaves_pass(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &two);
	assert_int_equal(kvm_cpuid_find(&set, 0x40000000, 0)->ebx, 0x4b4d564b);
	assert_int_equal(kvm_cpuid_find(&set, 0x40000001, 0)->eax, 0x1007efb);
	assert_int_equal(kvm_cpuid_find(&set, 0, 0)->eax, 0x15);
	assert_null(kvm_cpuid_find(&set, 0x16, 0));
}

static void test_crystal(void **state)
{
	struct kvm_cpuid_set set;
	offer_intel(&set);
	kvm_cpuid_filter(&set, &two);
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(&set, 0x15, 0);
	assert_int_equal(c->eax, 1);
	assert_int_equal(c->ebx, 2);
	assert_int_equal(c->ecx, 1000000000);
}

static void test_tsc_ratio(void **state)
{
	static const uint32_t khz[] = { 1, 999999, 1000000, 2000000, 2445432, 3693061, 2394374,
					4294000, 5700000 };
	for (size_t i = 0; i < sizeof khz / sizeof khz[0]; i++) {
		uint32_t n, d;
		kvm_tsc_ratio(khz[i], 1000000, &n, &d);
		assert_true(d);
		/* Linux's 32-bit product keeps. */
		assert_true((uint64_t)n * 1000000 <= UINT32_MAX);
		double error = (double)n * 1e6 / d / khz[i] - 1;
		assert_true(error < 1e-5 && error > -1e-5);
	}
	uint32_t n, d;
	kvm_tsc_ratio(3999500, 1000000, &n, &d);	/* only 4/1 comes near */
	assert_int_equal(n, 0);
	assert_int_equal(d, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features_hidden),
		cmocka_unit_test(test_virtualization_exposed),
		cmocka_unit_test(test_svm_hidden),
		cmocka_unit_test(test_xsave_areas),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_kvm_leaves_pass),
		cmocka_unit_test(test_crystal),
		cmocka_unit_test(test_tsc_ratio),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
