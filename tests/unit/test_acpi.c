/* The ACPI tables, found and followed as a kernel would, and the DSDT given to
 * ACPI's own disassembler and compiler when that is installed. */
#include "base/bits.h"
#include "board/acpi.h"
#include "board/acpi_pm.h"
#include "board/aml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { PROCESSORS = 3, HEADER = 36 };

static struct memory *memory;
static uint64_t rsdp;

static int open_tables(void **state)
{
	struct error e;
	memory = memory_create(4 * MIB, &e);
	rsdp = acpi_write_tables(memory, PROCESSORS, &e);
	return !rsdp;
}

static int close_tables(void **state)
{
	memory_destroy(memory);
	return 0;
}

static uint64_t at(uint64_t pa, unsigned bytes)
{
	uint8_t b[8];
	assert_true(memory_read(memory, pa, b, bytes));
	return load_le(b, bytes);
}

static void is_sum_zero(uint64_t pa, uint64_t n)
{
	uint8_t sum = 0;
	for (uint64_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + at(pa + i, 1));
	assert_int_equal(sum, 0);
}

/* Checks the table's frame and returns its address. */
static uint64_t table(uint64_t pa, const char *signature)
{
	char found[4];
	assert_in_range(pa, ACPI_AREA_BASE, ACPI_AREA_END - HEADER);
	memory_read(memory, pa, found, sizeof found);
	assert_memory_equal(found, signature, 4);
	assert_in_range(pa + at(pa + 4, 4), pa, ACPI_AREA_END);
	if (strcmp(signature, "FACS"))
		is_sum_zero(pa, at(pa + 4, 4));
	return pa;
}

static void root_is_found_by_scan(void **state)
{
	uint64_t found = 0;
	for (uint64_t pa = 0xe0000; pa < 0x100000 && !found; pa += 16)
		if (at(pa, 8) == load_le("RSD PTR ", 8))
			found = pa;
	assert_int_equal(found, rsdp);
	is_sum_zero(rsdp, 20);
	is_sum_zero(rsdp, at(rsdp + 20, 4));
	assert_int_equal(at(rsdp + 15, 1), 2);
}

static void both_roots_agree(void **state)
{
	uint64_t rsdt = table(at(rsdp + 16, 4), "RSDT"), xsdt = table(at(rsdp + 24, 8), "XSDT");
	assert_int_equal(at(rsdt + 4, 4), HEADER + 2 * 4);
	assert_int_equal(at(xsdt + 4, 4), HEADER + 2 * 8);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(at(rsdt + HEADER + 4 * i, 4), at(xsdt + HEADER + 8 * i, 8));
	table(at(xsdt + HEADER, 8), "FACP");
	table(at(xsdt + HEADER + 8, 8), "APIC");
}

static void fixed_hardware(void **state)
{
	uint64_t fadt = table(at(at(rsdp + 24, 8) + HEADER, 8), "FACP");
	assert_int_equal(at(fadt + 4, 4), 244);
	uint64_t facs = table(at(fadt + 36, 4), "FACS"), dsdt = table(at(fadt + 40, 4), "DSDT");
	assert_int_equal(facs % 64, 0);
	assert_int_equal(at(fadt + 132, 8), facs);
	assert_int_equal(at(fadt + 140, 8), dsdt);
	assert_int_equal(at(fadt + 46, 2), ACPI_SCI_IRQ);
	assert_int_equal(at(fadt + 48, 4), 0);
	assert_int_equal(at(fadt + 56, 4), ACPI_PM1A_EVENT);
	assert_int_equal(at(fadt + 64, 4), ACPI_PM1A_CONTROL);
	assert_int_equal(at(fadt + 76, 4), ACPI_PM_TIMER);
	assert_int_equal(at(fadt + 148 + 4, 8), ACPI_PM1A_EVENT);
	assert_int_equal(at(fadt + 172 + 4, 8), ACPI_PM1A_CONTROL);
	assert_int_equal(at(fadt + 208 + 4, 8), ACPI_PM_TIMER);
	assert_int_equal(at(fadt + 116, 1), 1);		/* reset register: I/O space */
	assert_int_equal(at(fadt + 120, 8), ACPI_RESET_CONTROL);
	assert_int_equal(at(fadt + 128, 1), ACPI_RESET_VALUE);
	assert_true(at(fadt + 112, 4) & 1 << 10);	/* RESET_REG_SUP */
	assert_true(at(fadt + 112, 4) & 1 << 8);	/* TMR_VAL_EXT */
}

static void interrupt_controllers(void **state)
{
	uint64_t madt = table(at(at(rsdp + 24, 8) + HEADER + 8, 8), "APIC");
	uint64_t end = madt + at(madt + 4, 4), pa = madt + HEADER + 8;
	unsigned processors = 0, ioapics = 0, nmis = 0, overrides = 0;
	assert_int_equal(at(madt + HEADER, 4), 0xfee00000);
	assert_int_equal(at(madt + HEADER + 4, 4), 1);
	for (; pa < end; pa += at(pa + 1, 1)) {
		assert_in_range(at(pa + 1, 1), 2, end - pa);
		switch (at(pa, 1)) {
		case 0:
			assert_int_equal(at(pa + 2, 1), processors);
			assert_int_equal(at(pa + 3, 1), processors++);
			assert_int_equal(at(pa + 4, 4), 1);
			break;
		case 1:
			ioapics++;
			assert_int_equal(at(pa + 4, 4), 0xfec00000);
			assert_int_equal(at(pa + 8, 4), 0);
			break;
		case 2:
			overrides++;
			if (at(pa + 3, 1) == 0)
				assert_int_equal(at(pa + 4, 4), 2);
			else {
				assert_int_equal(at(pa + 3, 1), ACPI_SCI_IRQ);
				assert_int_equal(at(pa + 4, 4), ACPI_SCI_IRQ);
				assert_int_equal(at(pa + 8, 2) >> 2, 3);	/* level */
			}
			break;
		case 4:
			nmis++;
			assert_int_equal(at(pa + 2, 1), 0xff);
			assert_int_equal(at(pa + 5, 1), 1);
			break;
		default:
			fail();
		}
	}
	assert_int_equal(pa, end);
	assert_int_equal(processors, PROCESSORS);
	assert_int_equal(ioapics, 1);
	assert_int_equal(overrides, 2);
	assert_int_equal(nmis, 1);
}

static void as_many_processors_as_there_may_be(void **state)
{
	struct error e;
	assert_int_equal(acpi_write_tables(memory, 64, &e), ACPI_AREA_BASE);
	table(at(at(at(rsdp + 24, 8) + HEADER, 8) + 40, 4), "DSDT");
}

static void too_little_memory(void **state)
{
	struct error e = { 0 };
	struct memory *small = memory_create(512 * KIB, &e);
	assert_int_equal(acpi_write_tables(small, 1, &e), 0);
	assert_int_equal(e.status, STATUS_USAGE);
	assert_non_null(strstr(e.text, "2 MiB"));
	memory_destroy(small);
}

static void aml_forms(void **state)
{
	struct aml a = { 0 };
	static const uint8_t integers[] = { 0, 1, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0c, 0, 0, 1, 0,
					    0x0e, 0, 0, 0, 0, 1, 0, 0, 0 };
	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 0xff);
	aml_integer(&a, 0x100);
	aml_integer(&a, 0x10000);
	aml_integer(&a, 0x100000000);
	assert_int_equal(a.size, sizeof integers);
	assert_memory_equal(a.data, integers, sizeof integers);
	aml_free(&a);
	aml_eisa_id(&a, "PNP0A03");
	assert_memory_equal(a.data, "\x0c\x41\xd0\x0a\x03", 5);
	aml_free(&a);
	/* Lengths around the borders of their encodings. */
	static const struct { size_t body; unsigned bytes; } length[] = {
		{ 0, 1 }, { 62, 1 }, { 63, 2 }, { 4093, 2 }, { 4094, 3 }, { 70000, 3 },
	};
	static uint8_t zeros[70000];
	for (unsigned i = 0; i < ARRAY_SIZE(length); i++) {
		size_t mark = aml_package(&a, 9);
		aml_bytes(&a, zeros, length[i].body ? length[i].body - 1 : 0);
		size_t before = a.size;
		aml_end(&a, mark);
		unsigned bytes = 1 + (a.data[mark] >> 6);
		size_t total = bytes == 1 ? a.data[mark] : a.data[mark] & 0xf;
		for (unsigned j = 1; j < bytes; j++)
			total |= (size_t)a.data[mark + j] << (8 * j - 4);
		assert_int_equal(a.size - before, bytes);
		assert_int_equal(total, a.size - mark);
		if (length[i].body)
			assert_int_equal(bytes, length[i].bytes);
		assert_int_equal(a.data[mark + bytes], 9);
		aml_free(&a);
	}
}

/* Run a program with no output; its exit status. */
static int quiet(const char *directory, char *const argv[])
{
	pid_t child = fork();
	if (!child) {
		if (chdir(directory) || !freopen("/dev/null", "w", stdout) ||
		    !freopen("/dev/null", "w", stderr))
			_exit(126);
		execvp(argv[0], argv);
		_exit(127);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool contains(const char *path, const char *text)
{
	static char all[1 << 18];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(all, 1, sizeof all - 1, f);
	fclose(f);
	all[n] = 0;
	return strstr(all, text);
}

static void disassembles(void **state)
{
	char directory[] = "/tmp/test_acpi.XXXXXX", path[64];
	char *version[] = { "iasl", "-v", NULL }, *disassemble[] = { "iasl", "-d", "dsdt.aml", NULL };
	char *compile[] = { "iasl", "-we", "dsdt.dsl", NULL };
	if (quiet("/", version)) {
		print_message("iasl is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(directory));
	struct acpi_table t = acpi_dsdt(PROCESSORS);
	snprintf(path, sizeof path, "%s/dsdt.aml", directory);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(t.data, 1, t.size, f), t.size);
	fclose(f);
	free(t.data);
	assert_int_equal(quiet(directory, disassemble), 0);
	snprintf(path, sizeof path, "%s/dsdt.dsl", directory);
	/* The disassembler does not fail on what it cannot make sense of; but
	 * warnings of the compiler on its output do. */
	assert_int_equal(quiet(directory, compile), 0);
	static const char *const expected[] = {
		"Device (PCI0)", "EisaId (\"PNP0A03\")", "Device (C002)", "\"ACPI0007\"",
		"Name (_PRT, Package (0x80)", "EisaId (\"PNP0501\")", "EisaId (\"PNP0B00\")",
		"Name (\\_S5, Package (0x04)", "0xE0000000,         // Range Minimum",
	};
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
		if (!contains(path, expected[i]))
			fail_msg("not in the disassembly: %s", expected[i]);
	char *clean[] = { "rm", "-r", directory, NULL };
	assert_int_equal(quiet("/", clean), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_tables, close_tables)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(root_is_found_by_scan), TEST(both_roots_agree), TEST(fixed_hardware),
		TEST(interrupt_controllers), TEST(as_many_processors_as_there_may_be),
		cmocka_unit_test(too_little_memory), cmocka_unit_test(aml_forms),
		cmocka_unit_test(disassembles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
