/* --engine: which engine is taken, and the line that says why. */
#include "vm/engine_select.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char *kvm_trouble, *soft_trouble;

static int probe_kvm(const struct engine_config *config, struct error *e)
{
	return kvm_trouble ? error_set(e, STATUS_ENGINE, "%s", kvm_trouble) : 0;
}

static int probe_soft(const struct engine_config *config, struct error *e)
{
	return soft_trouble ? error_set(e, STATUS_USAGE, "%s", soft_trouble) : 0;
}

static const struct engine_ops kvm = { .name = "kvm", .probe = probe_kvm };
static const struct engine_ops soft = { .name = "soft", .probe = probe_soft };
static const struct engine_ops *const both[] = { &kvm, &soft };

struct row {
	enum vm_engine asked;
	const char *options;
	const char *kvm_trouble, *soft_trouble;
	const struct engine_ops *taken;
	const char *text;	/* the line, or the error */
	enum exit_status status;
};

static const struct row rows[] = {
	{ VM_ENGINE_AUTO, "", NULL, NULL, &kvm,
	  "Engine kvm, because it works here and can do what is asked." },
	{ VM_ENGINE_AUTO, "", "No /dev/kvm.", NULL, &soft,
	  "Engine soft, because the faster one cannot serve: No /dev/kvm." },
	{ VM_ENGINE_AUTO, "", "No /dev/kvm.", "Not that option.", NULL,
	  "Not that option.", STATUS_USAGE },
	{ VM_ENGINE_AUTO, "interpret,icount", NULL, NULL, &soft,
	  "Engine soft, because the faster one cannot serve: The engine kvm cannot count instructions (--engine-options icount); use --engine soft." },
	{ VM_ENGINE_KVM, "", NULL, "Broken.", &kvm, "Engine kvm, as asked." },
	{ VM_ENGINE_KVM, "", "No /dev/kvm.", NULL, NULL, "No /dev/kvm.", STATUS_ENGINE },
	{ VM_ENGINE_KVM, "icount", NULL, NULL, NULL,
	  "The engine kvm cannot count instructions (--engine-options icount); use --engine soft.",
	  STATUS_ENGINE },
	{ VM_ENGINE_SOFT, "", NULL, NULL, &soft, "Engine soft, as asked." },
	{ VM_ENGINE_SOFT, "", NULL, "Not that option.", NULL, "Not that option.", STATUS_USAGE },
};

static void selection(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		struct vm_config c = { .processors = 1, .engine = r->asked,
				       .engine_options = r->options };
		struct error e = { 0 };
		char line[512] = "";
		kvm_trouble = r->kvm_trouble;
		soft_trouble = r->soft_trouble;
		assert_ptr_equal(engine_select(&c, both, ARRAY_SIZE(both), line, sizeof line, &e),
				 r->taken);
		assert_string_equal(r->taken ? line : e.text, r->text);
		if (!r->taken)
			assert_int_equal(e.status, r->status);
	}
}

static void not_in_this_build(void **state)
{
	struct vm_config c = { .engine = VM_ENGINE_KVM, .engine_options = "" };
	struct error e = { 0 };
	char line[512];
	assert_null(engine_select(&c, &both[1], 1, line, sizeof line, &e));
	assert_string_equal(e.text, "This build of Nestor has no engine kvm; choose another with --engine.");
	assert_int_equal(e.status, STATUS_ENGINE);
}

static void words_of_a_list(void **state)
{
	assert_true(engine_option_given("icount", "icount"));
	assert_true(engine_option_given("a,icount,b", "icount"));
	assert_true(engine_option_given(",,icount", "icount"));
	assert_false(engine_option_given("icounts", "icount"));
	assert_false(engine_option_given("no-icount", "icount"));
	assert_false(engine_option_given("icoun", "icount"));
	assert_false(engine_option_given("", "icount"));
	assert_false(engine_option_given(NULL, "icount"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selection),
		cmocka_unit_test(not_in_this_build),
		cmocka_unit_test(words_of_a_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
