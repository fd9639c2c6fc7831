/* The command line of `nestor run`: every form it takes, and the exact
 * sentence that answers each it does not. */
#include "run_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_WORDS = 40 };

/* Split at blanks; '_' stands for an empty word. */
static int parse(const char *line, struct vm_config *c, struct error *e)
{
	static char copy[1024];
	char *argv[MAX_WORDS], *rest = copy, *word;
	int argc = 0;
	snprintf(copy, sizeof copy, "%s", line);
	while ((word = strsep(&rest, " ")))
		argv[argc++] = !strcmp(word, "_") ? word + 1 : word;
	*e = (struct error){ 0 };
	return run_options_parse(*line ? argc : 0, argv, c, e);
}

static void defaults(void **state)
{
	struct vm_config c;
	struct error e;
	assert_int_equal(parse("--kernel k", &c, &e), 0);
	assert_string_equal(c.kernel, "k");
	assert_int_equal(c.memory, 512 * MIB);
	assert_int_equal(c.processors, 1);
	assert_int_equal(c.engine, VM_ENGINE_AUTO);
	assert_int_equal(c.serial.kind, CONSOLE_STDIO);
	assert_string_equal(c.append, "");
	assert_string_equal(c.engine_options, "");
	assert_false(c.expose_virtualization_extensions || c.report || c.reboot);
	assert_int_equal(c.initrds + c.disks, 0);
}

static void memory_sizes(void **state)
{
	static const struct { const char *line; uint64_t size; } good[] = {
		{ "--memory 512M", 512 * MIB }, { "--memory 1G", GIB }, { "--memory 1GiB", GIB },
		{ "--memory=2gb", 2 * GIB }, { "--memory 300", 300 * MIB },
		{ "--memory 64mib", 64 * MIB }, { "--memory 2M", 2 * MIB },
		{ "--memory 512G", 512 * GIB },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		struct vm_config c;
		struct error e;
		char line[64];
		snprintf(line, sizeof line, "%s --kernel k", good[i].line);
		assert_int_equal(parse(line, &c, &e), 0);
		assert_int_equal(c.memory, good[i].size);
	}
}

static void networks(void **state)
{
	struct vm_config c;
	struct error e;
	assert_int_equal(parse("--network none --kernel k", &c, &e), 0);
	assert_int_equal(c.networks, 0);
	assert_int_equal(parse("--network nat,forward=tcp:2222:22,forward=udp:53:53 "
		"--network switch=lan,mac=02-15-5D-01-02-03 --kernel k", &c, &e), 0);
	assert_int_equal(c.networks, 2);
	assert_int_equal(c.network[0].kind, VM_NETWORK_NAT);
	assert_int_equal(c.network[0].fd, -1);
	assert_int_equal(c.network[1].kind, VM_NETWORK_SWITCH);
	static const struct { const char *value, *says; } bad[] = {
		{ "bridge", "--network does not know \"bridge\"; it knows none, nat and switch=NAME." },
		{ "switch=", "--network does not know \"switch=\"; it knows none, nat and switch=NAME." },
		{ "natural", "--network does not know \"natural\"; it knows none, nat and switch=NAME." },
		{ "nat,forward=tcp:22", "--network nat,forward=tcp:22: \"forward=tcp:22\" is no forwarding; write forward=tcp:HOST:GUEST with two port numbers, as forward=tcp:2222:22." },
		{ "nat,forward=tcp:70000:1", "--network nat,forward=tcp:70000:1: \"forward=tcp:70000:1\" is no forwarding; write forward=tcp:HOST:GUEST with two port numbers, as forward=tcp:2222:22." },
		{ "nat,", "--network nat,: \"\" is not known there; there may be forward=tcp:HOST:GUEST and mac=MAC." },
		{ "switch=a,mac=01-00-00-00-00-00", "--network switch=a,mac=01-00-00-00-00-00: \"mac=01-00-00-00-00-00\" is not known there; there may be port=ID and mac=MAC." },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char line[128];
		snprintf(line, sizeof line, "--network %s --kernel k", bad[i].value);
		assert_int_equal(parse(line, &c, &e), -1);
		assert_string_equal(e.text, bad[i].says);
	}
}

static void everything_at_once(void **state)
{
	struct vm_config c;
	struct error e;
	assert_int_equal(parse("--memory 1G --processors 4 --engine soft "
		"--expose-virtualization-extensions --kernel k --initrd a --initrd b "
		"--append --quiet --disk a,b.img --disk=c.img,readonly --serial unix:/tmp/s "
		"--engine-options interpret --report --reboot", &c, &e), 0);
	assert_int_equal(c.processors, 4);
	assert_int_equal(c.engine, VM_ENGINE_SOFT);
	assert_true(c.expose_virtualization_extensions && c.report && c.reboot);
	assert_int_equal(c.initrds, 2);
	assert_string_equal(c.initrd[1], "b");
	assert_string_equal(c.append, "--quiet");
	assert_int_equal(c.disks, 2);
	assert_int_equal(c.disk[0].path_length, strlen("a,b.img"));
	assert_false(c.disk[0].readonly);
	assert_int_equal(c.disk[1].path_length, strlen("c.img"));
	assert_true(c.disk[1].readonly);
	assert_int_equal(c.serial.kind, CONSOLE_UNIX);
	assert_string_equal(c.serial.path, "/tmp/s");
	assert_string_equal(c.engine_options, "interpret");
	assert_int_equal(parse("--kernel k --serial none --engine kvm --append _", &c, &e), 0);
	assert_int_equal(c.serial.kind, CONSOLE_NONE);
	assert_int_equal(c.engine, VM_ENGINE_KVM);
	assert_int_equal(parse("--kernel k --serial file:x --engine auto", &c, &e), 0);
	assert_int_equal(c.serial.kind, CONSOLE_FILE);
	assert_string_equal(c.serial.path, "x");
	assert_int_equal(parse("--kernel k --engine-options interpret,icount", &c, &e), 0);
	assert_int_equal(parse("--help", &c, &e), 1);
	assert_int_equal(parse("--memory 1G -h", &c, &e), 1);
}

static void bad_forms(void **state)
{
	static const struct { const char *line, *sentence; } bad[] = {
		{ "", "nestor run needs something to boot; add --kernel FILE (a Linux bzImage, or an ELF file for PVH or multiboot)." },
		{ "--kernel", "--kernel needs a value: --kernel FILE." },
		{ "--kernel --initrd x", "--kernel needs a value: --kernel FILE." },
		{ "--kernel=", "--kernel needs a value: --kernel FILE." },
		{ "--initrd _", "--initrd needs a value: --initrd FILE." },
		{ "--kernel a --kernel b", "--kernel is given twice, the second time with \"b\"; give it once." },
		{ "vmlinuz", "nestor run does not know what \"vmlinuz\" is for; to boot it, write --kernel vmlinuz." },
		{ "--memry 1G", "nestor run has no option --memry; did you mean --memory?" },
		{ "--mem=1G", "nestor run has no option --mem; did you mean --memory?" },
		{ "--expose", "nestor run has no option --expose; did you mean --expose-virtualization-extensions?" },
		{ "-memory 1G", "nestor run has no option --memory; did you mean --memory?" },
		{ "--cpus 2", "nestor run has no option --cpus; `nestor run --help` lists those it has." },
		{ "--reprot", "nestor run has no option --reprot; did you mean --report?" },
		{ "--report=yes", "--report takes no value; leave \"=yes\" out." },
		{ "--memory lots", "--memory \"lots\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB." },
		{ "--memory -1", "--memory \"-1\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB." },
		{ "--memory 1.5G", "--memory \"1.5G\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB." },
		{ "--memory 1Gi", "--memory \"1Gi\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB." },
		{ "--memory 64K", "--memory \"64K\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB." },
		{ "--memory 1", "--memory 1 is out of range; a VM has from 2M to 512G." },
		{ "--memory 0", "--memory 0 is out of range; a VM has from 2M to 512G." },
		{ "--memory 513G", "--memory 513G is out of range; a VM has from 2M to 512G." },
		{ "--memory 1T", "--memory 1T is out of range; a VM has from 2M to 512G." },
		{ "--memory 99999999999999999999G", "--memory 99999999999999999999G is out of range; a VM has from 2M to 512G." },
		{ "--memory 18446744073709551615M", "--memory 18446744073709551615M is out of range; a VM has from 2M to 512G." },
		{ "--processors two", "--processors \"two\" is no number; write one from 1 to 64." },
		{ "--processors -1", "--processors \"-1\" is no number; write one from 1 to 64." },
		{ "--processors 2x", "--processors \"2x\" is no number; write one from 1 to 64." },
		{ "--processors 0", "--processors 0 is out of range; a VM has from 1 to 64." },
		{ "--processors 65", "--processors 65 is out of range; a VM has from 1 to 64." },
		{ "--processors 99999999999999999999", "--processors 99999999999999999999 is out of range; a VM has from 1 to 64." },
		{ "--engine fast", "--engine does not know \"fast\"; it knows auto, soft and kvm." },
		{ "--disk a.img,ro", "--disk \"a.img,ro\" ends with the unknown word \"ro\"; after the file there may be only \",readonly\"." },
		{ "--disk ,readonly", "--disk \",readonly\" names no file; write --disk FILE or --disk FILE,readonly." },
		{ "--serial tty", "--serial does not know \"tty\"; it knows stdio, file:PATH, unix:PATH and none." },
		{ "--serial stdio2", "--serial does not know \"stdio2\"; it knows stdio, file:PATH, unix:PATH and none." },
		{ "--serial file:", "--serial \"file:\" names no path; write --serial file:PATH." },
		{ "--serial unix:", "--serial \"unix:\" names no path; write --serial unix:PATH." },
		{ "--trace vmx,colour", "--trace does not know the event \"colour\"; it knows vmx, msr, io, mmio, exception, interrupt, paging, virtio, block and all." },
		{ "--kernel k --processors 2 --engine-options icount", "--engine-options icount counts the instructions of one processor and the VM has 2; leave --processors out or icount." },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vm_config c;
		struct error e;
		assert_int_equal(parse(bad[i].line, &c, &e), -1);
		assert_string_equal(e.text, bad[i].sentence);
		assert_int_equal(e.status, STATUS_USAGE);
	}
}

static void limits_of_repetition(void **state)
{
	static const struct { const char *option; unsigned most; const char *sentence; } rows[] = {
		{ "--initrd", VM_MAX_INITRDS, "--initrd \"f\" is one too many; a VM takes at most 32." },
		{ "--disk", VM_MAX_DISKS, "--disk \"f\" is one too many; a VM takes at most 16." },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		char *argv[2 * (VM_MAX_INITRDS + 1) + 2];
		struct vm_config c;
		struct error e;
		int argc = 0;
		argv[argc++] = (char *)"--kernel";
		argv[argc++] = (char *)"k";
		for (unsigned k = 0; k <= rows[i].most; k++) {
			argv[argc++] = (char *)rows[i].option;
			argv[argc++] = (char *)"f";
		}
		assert_int_equal(run_options_parse(argc - 2, argv, &c, &e), 0);
		assert_int_equal(run_options_parse(argc, argv, &c, &e), -1);
		assert_string_equal(e.text, rows[i].sentence);
	}
}

static void socket_path_length(void **state)
{
	char line[256], expected[256];
	struct vm_config c;
	struct error e;
	snprintf(line, sizeof line, "--kernel k --serial unix:%0107d", 0);
	assert_int_equal(parse(line, &c, &e), 0);
	snprintf(line, sizeof line, "--kernel k --serial unix:%0108d", 0);
	assert_int_equal(parse(line, &c, &e), -1);
	snprintf(expected, sizeof expected,
		 "--serial unix:PATH: the path has 108 bytes and a socket's may have 107; choose a shorter one.");
	assert_string_equal(e.text, expected);
}

/* Each option is in the help, and no line is too long for a terminal. */
static void help_is_complete(void **state)
{
	static const char *const names[] = {
		"--memory SIZE", "--processors N", "--engine auto|soft|kvm",
		"--expose-virtualization-extensions", "--kernel FILE", "--initrd FILE",
		"--append TEXT", "--disk FILE[,readonly]",
		"--serial stdio|file:PATH|unix:PATH|none", "--engine-options LIST",
		"--trace LIST", "--report", "--reboot", "exception", "0xf4", " 74 ", "143",
	};
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	run_options_help(out);
	fclose(out);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(strstr(text, names[i]));
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
		assert_in_range(strcspn(line, "\n"), 0, 80);
	free(text);
}

static void distances(void **state)
{
	assert_int_equal(edit_distance("", "abc"), 3);
	assert_int_equal(edit_distance("kitten", "sitting"), 3);
	assert_int_equal(edit_distance("run", "rnu"), 1);
	assert_int_equal(edit_distance("same", "same"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(memory_sizes),
		cmocka_unit_test(networks), cmocka_unit_test(everything_at_once),
		cmocka_unit_test(bad_forms),
		cmocka_unit_test(limits_of_repetition),
		cmocka_unit_test(socket_path_length),
		cmocka_unit_test(help_is_complete),
		cmocka_unit_test(distances),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
