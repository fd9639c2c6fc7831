/* The reasons why the kvm engine cannot do what is asked, from a made-up
 * host. Never opens the real device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kvm/kvm.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/nestor-probe-XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	return remove(path);
}

static int make_root(void **state)
{
	strcpy(root + strlen(root) - 6, "XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	return nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file below root with its directories. */
static void put_file(const char *path, const char *text)
{
	char name[256];
	snprintf(name, sizeof name, "%s%s", root, path);
	for (char *slash = name + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(name, 0755);
		*slash = '/';
	}
	FILE *file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

#define CPUINFO(flags) "processor\t: 0\nflags\t\t: fpu vme " flags " sse2\n"

/* Facts of a host where everything works. */
static struct kvm_host_facts good(void)
{
	return (struct kvm_host_facts){
		.device = true, .permitted = true, .opened = true, .cpu_vmx = true,
		.module_intel = true, .nested = 'Y', .api_version = KVM_API_VERSION,
		.split_irqchip = true, .immediate_exit = true, .signal_msi = true,
		.supported_vmx = true,
	};
}

static const struct engine_config plain = { .processors = 1, .options = "" };
static const struct engine_config nesting = {
	.processors = 1, .options = "", .expose_virtualization_extensions = true };

static void expect(const struct kvm_host_facts *f, const struct engine_config *config,
		   const char *part)
{
	struct error e = { 0 };
	assert_int_equal(kvm_probe_explain(f, config, &e), -1);
	assert_int_equal(e.status, STATUS_ENGINE);
	if (!strstr(e.text, part))
		fail_msg("\"%s\" does not say \"%s\"", e.text, part);
}

static void test_good(void **state)
{
	struct kvm_host_facts f = good();
	struct error e;
	assert_int_equal(kvm_probe_explain(&f, &plain, &e), 0);
	assert_int_equal(kvm_probe_explain(&f, &nesting, &e), 0);
}

static void test_no_extensions(void **state)
{
	struct kvm_host_facts f;
	put_file("/proc/cpuinfo", CPUINFO("vmxx xsvm"));	/* not the words */
	kvm_probe_files(root, &f);
	assert_false(f.cpu_vmx || f.cpu_svm);
	expect(&f, &plain, "neither VMX nor SVM");
}

static void test_no_module(void **state)
{
	struct kvm_host_facts f;
	put_file("/proc/cpuinfo", CPUINFO("svm"));
	kvm_probe_files(root, &f);
	expect(&f, &plain, "modprobe kvm_amd");
	put_file("/proc/cpuinfo", CPUINFO("vmx"));
	kvm_probe_files(root, &f);
	expect(&f, &plain, "modprobe kvm_intel");
}

static void test_hidden_device(void **state)
{
	struct kvm_host_facts f;
	put_file("/proc/cpuinfo", CPUINFO("vmx"));
	put_file("/sys/module/kvm_intel/parameters/nested", "Y\n");
	kvm_probe_files(root, &f);
	expect(&f, &plain, "container");
}

static void test_nested_off(void **state)
{
	static const struct { const char *text; char want; } values[] = {
		{ "N\n", 'N' }, { "0\n", 'N' }, { "Y\n", 'Y' }, { "1\n", 'Y' }, { "", 0 },
	};
	struct kvm_host_facts f;
	put_file("/proc/cpuinfo", CPUINFO("svm"));
	put_file("/dev/kvm", "");
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		put_file("/sys/module/kvm_amd/parameters/nested", values[i].text);
		kvm_probe_files(root, &f);
		assert_true(f.device);
		assert_int_equal(f.nested, values[i].want);
	}
	struct kvm_host_facts g = good();
	g.nested = 'N';
	struct error e;
	assert_int_equal(kvm_probe_explain(&g, &plain, &e), 0);	/* matters only to nesting */
	expect(&g, &nesting, "/sys/module/kvm_intel/parameters/nested is N");
	g = good();
	g.supported_vmx = false;
	expect(&g, &nesting, "neither VMX nor SVM");
}

static void test_not_permitted(void **state)
{
	struct kvm_host_facts f = good();
	f.opened = f.permitted = false;
	f.open_error = EACCES;
	strcpy(f.group, "kvm");
	expect(&f, &plain, "belongs to group kvm");
	f.permitted = true;
	f.open_error = EPERM;
	expect(&f, &plain, "device cgroup");
	f.open_error = ENODEV;
	expect(&f, &plain, "No such device");
}

static void test_kernel(void **state)
{
	struct kvm_host_facts f = good();
	f.api_version = 11;
	expect(&f, &plain, "version 11");
	f = good();
	f.split_irqchip = false;
	expect(&f, &plain, "split interrupt controller");
	f = good();
	f.create_error = EBUSY;
	expect(&f, &plain, "another hypervisor holds it");
	f.create_error = ENOMEM;
	expect(&f, &plain, "Cannot allocate memory");
}

static void test_options(void **state)
{
	struct engine_config config = { .processors = 1, .options = "icount" };
	struct kvm_host_facts f = good();
	expect(&f, &config, "\"icount\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test_setup_teardown(test_no_extensions, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_no_module, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_hidden_device, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_nested_off, make_root, remove_root),
		cmocka_unit_test(test_not_permitted),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
