/* A VM's life with an engine of the test's own, whose processors do what the
 * test's script says: the board and everything around it are the real ones. */
#include "base/log.h"
#include "board/acpi_pm.h"
#include "vm/vm.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	PORT_KEYBOARD_COMMAND = 0x64, PULSE_RESET = 0xfe,
	PORT_SERIAL = 0x3f8, SERIAL_IER = PORT_SERIAL + 1, SERIAL_MCR = PORT_SERIAL + 4,
	PORT_DEBUG_EXIT = 0xf4,
	SLP_TYP_SHIFT = 10, SLP_EN = 1 << 13,
	PORT_PIC_MASTER = 0x20,
	IOAPIC_BASE = 0xfec00000, IOAPIC_WINDOW = 0x10, IOAPIC_REDIRECTION = 0x10,
	MULTIBOOT_MAGIC = 0x1badb002, MULTIBOOT_ADDRESSES = 1 << 16,
	KERNEL_AT = 0x200000, ENTRY = KERNEL_AT + 32,
	MAX_MSIS = 16,
};

struct fake {
	struct engine engine;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	unsigned runs, resets, states;
	uint64_t rip;
	bool extint;
	unsigned msis;
	uint32_t msi[MAX_MSIS];
};

/* cmocka's assertions are for its own thread only; the processors' threads note
 * the first line that failed. */
static int failed_line;
#define check(condition) \
	do { if (!(condition) && !failed_line) failed_line = __LINE__; } while (0)

/* What processor 0 does each time it runs. */
static void (*script)(struct fake *f);
static struct fake *fake;
static char directory[] = "/tmp/test_vm.XXXXXX";
static char kernel_path[64], serial_path[64], stderr_path[64];

static struct fake *fake_of(struct engine *g)
{
	return (struct fake *)g;
}

static int fake_probe(const struct engine_config *config, struct error *e)
{
	return 0;
}

static struct engine *fake_create(const struct engine_config *config,
				  const struct engine_host *host, struct error *e);

static void fake_destroy(struct engine *g)
{
	free(g);
}

static void wait_for_stop(struct fake *f)
{
	pthread_mutex_lock(&f->lock);
	while (!f->stopping)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static void fake_run(struct engine *g, unsigned processor)
{
	struct fake *f = fake_of(g);
	if (!processor) {
		f->runs++;
		script(f);
	} else {
		wait_for_stop(f);
	}
}

static void fake_stop(struct engine *g)
{
	struct fake *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	f->stopping = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void fake_reset(struct engine *g)
{
	fake_of(g)->resets++;
	fake_of(g)->stopping = false;
}

static void fake_set_state(struct engine *g, unsigned processor,
			   const struct processor_state *p)
{
	fake_of(g)->states++;
	fake_of(g)->rip = p->rip;
}

static void fake_msi(struct engine *g, uint64_t address, uint32_t data)
{
	struct fake *f = fake_of(g);
	if (f->msis < MAX_MSIS)
		f->msi[f->msis++] = data;
}

static void fake_extint(struct engine *g, bool level)
{
	fake_of(g)->extint = level;
}

static void fake_nmi(struct engine *g)
{
}

static void fake_report(struct engine *g, FILE *out)
{
	fprintf(out, "fake: %u runs\n", fake_of(g)->runs);
}

static const struct engine_ops fake_ops = {
	.name = "fake", .probe = fake_probe, .create = fake_create, .destroy = fake_destroy,
	.run = fake_run, .stop = fake_stop, .reset = fake_reset, .set_state = fake_set_state,
	.msi = fake_msi, .extint = fake_extint, .nmi = fake_nmi, .report = fake_report,
};

static struct engine *fake_create(const struct engine_config *config,
				  const struct engine_host *host, struct error *e)
{
	struct fake *f = alloc_zeroed(1, sizeof *f);
	f->engine = (struct engine){ &fake_ops, *config, *host };
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	fake = f;
	return &f->engine;
}

static void out(struct fake *f, uint16_t port, unsigned size, uint32_t value)
{
	bus_write(f->engine.host.bus, BUS_IO, port, size, value);
}

static uint8_t in(struct fake *f, uint16_t port)
{
	return (uint8_t)bus_read(f->engine.host.bus, BUS_IO, port, 1);
}

/* A multiboot file of one page with addresses of its own. */
static void write_kernel(void)
{
	uint32_t words[1024] = {
		MULTIBOOT_MAGIC, MULTIBOOT_ADDRESSES,
		-(uint32_t)(MULTIBOOT_MAGIC + MULTIBOOT_ADDRESSES),
		KERNEL_AT, KERNEL_AT, KERNEL_AT + sizeof words, KERNEL_AT + sizeof words, ENTRY,
	};
	FILE *file = fopen(kernel_path, "w");
	fwrite(words, sizeof words, 1, file);
	fclose(file);
}

struct outcome {
	int status;
	char said[8192];	/* on standard error */
	char serial[64];
	char report[512];
	unsigned runs, resets, states;
};

static void read_file(const char *path, char *to, size_t room)
{
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(to, 1, room - 1, file) : 0;
	to[n] = '\0';
	if (file)
		fclose(file);
}

static struct outcome run_with(struct vm_config c, void (*body)(struct fake *f))
{
	static struct outcome o;
	struct error e = { 0 };
	o = (struct outcome){ .status = -1 };
	script = body;
	failed_line = 0;
	int saved = dup(STDERR_FILENO);
	int file = open(stderr_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(file, STDERR_FILENO);
	struct vm *vm = vm_create(&c, &fake_ops, &e);
	if (vm) {
		o.status = vm_run(vm);
		FILE *report = fmemopen(o.report, sizeof o.report, "w");
		vm_report(vm, report);
		fclose(report);
		o.runs = fake->runs;
		o.resets = fake->resets;
		o.states = fake->states;
		vm_destroy(vm);
	}
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(file);
	read_file(stderr_path, o.said, sizeof o.said);
	read_file(serial_path, o.serial, sizeof o.serial);
	if (!vm)
		snprintf(o.said, sizeof o.said, "%s", e.text);
	assert_int_equal(failed_line, 0);
	return o;
}

static struct vm_config config(void)
{
	return (struct vm_config){
		.memory = 16 * MIB, .processors = 1, .kernel = kernel_path, .append = "",
		.engine_options = "", .serial = { CONSOLE_FILE, serial_path },
	};
}

static struct outcome run(void (*body)(struct fake *f))
{
	return run_with(config(), body);
}

static uint32_t exit_value;
static unsigned exit_size;

static void script_exit(struct fake *f)
{
	out(f, PORT_DEBUG_EXIT, exit_size, exit_value);
	wait_for_stop(f);
}

static void debug_exit_status(void **state)
{
	static const struct { unsigned size; uint32_t value; int status; } rows[] = {
		{ 1, 0, 1 }, { 1, 0x10, 0x21 }, { 1, 0x7f, 0xff }, { 1, 0x80, 1 },
		{ 2, 0x1234, 0x69 }, { 4, 0xffffffff, 0xff }, { 4, 0x100, 1 }, { 4, 3, 7 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		exit_value = rows[i].value;
		exit_size = rows[i].size;
		struct outcome o = run(script_exit);
		assert_int_equal(o.status, rows[i].status);
	}
	exit_value = 0x10;
	exit_size = 1;
	assert_string_equal(run(script_exit).said,
		"nestor: The guest wrote 0x10 to port 0xf4: exit status 33.\n");
}

static void script_first_counts(struct fake *f)
{
	out(f, PORT_DEBUG_EXIT, 1, 5);
	out(f, PORT_KEYBOARD_COMMAND, 1, PULSE_RESET);
	f->engine.host.died(f->engine.host.owner, 0, STATUS_DIED, "late");
	wait_for_stop(f);
}

static void first_reason_counts(void **state)
{
	assert_int_equal(run(script_first_counts).status, 11);
}

static void script_reset(struct fake *f)
{
	out(f, PORT_KEYBOARD_COMMAND, 1, PULSE_RESET);
	wait_for_stop(f);
}

static void reset_ends(void **state)
{
	struct outcome o = run(script_reset);
	assert_int_equal(o.status, STATUS_RESET);
	assert_string_equal(o.said, "nestor: The guest asked for a reset, and the VM ends; with --reboot it would start again.\n");
}

static uint64_t first_rip;

static void script_reboot(struct fake *f)
{
	struct memory *m = f->engine.host.memory;
	uint8_t magic[4];
	check(memory_read(m, KERNEL_AT, magic, sizeof magic));
	check(load_le(magic, 4) == MULTIBOOT_MAGIC);
	if (f->runs == 1) {
		first_rip = f->rip;
		memory_fill(m, KERNEL_AT, 0xcc, PAGE_SIZE);
		out(f, SERIAL_IER, 1, 0xf);
		check(in(f, SERIAL_IER) == 0xf);
		out(f, PORT_SERIAL, 1, '1');
		out(f, PORT_KEYBOARD_COMMAND, 1, PULSE_RESET);
	} else {
		check(in(f, SERIAL_IER) == 0);
		check(f->rip == first_rip);
		out(f, PORT_SERIAL, 1, '2');
		out(f, PORT_DEBUG_EXIT, 1, 0);
	}
	wait_for_stop(f);
}

static void reboot_starts_again(void **state)
{
	struct vm_config c = config();
	c.reboot = true;
	struct outcome o = run_with(c, script_reboot);
	assert_int_equal(o.status, 1);
	assert_int_equal(first_rip, ENTRY);
	assert_int_equal(o.runs, 2);
	assert_int_equal(o.resets, 1);
	assert_int_equal(o.states, 2);
	assert_string_equal(o.serial, "12");
}

static void script_power_off(struct fake *f)
{
	out(f, ACPI_PM1A_CONTROL, 2, ACPI_SLP_TYP_S5 << SLP_TYP_SHIFT | SLP_EN);
	wait_for_stop(f);
}

static void power_off(void **state)
{
	struct outcome o = run(script_power_off);
	assert_int_equal(o.status, STATUS_OK);
	assert_string_equal(o.said, "nestor: The guest powered off.\n");
	assert_non_null(strstr(o.report, "report: engine fake, 1 processor, 16 MiB, "));
	assert_non_null(strstr(o.report, "fake: 1 runs\n"));
}

static void script_dies(struct fake *f)
{
	f->engine.host.died(f->engine.host.owner, 0, STATUS_DIED, "RIP=fff0\nand more");
}

static void script_faults(struct fake *f)
{
	f->engine.host.died(f->engine.host.owner, 0, STATUS_FAULT, "unexpected\n");
}

static void died(void **state)
{
	struct outcome o = run(script_dies);
	assert_int_equal(o.status, STATUS_DIED);
	assert_string_equal(o.said, "nestor: The guest died on processor 0 by a triple fault; its state and what led there follow.\nRIP=fff0\nand more\n");
	o = run(script_faults);
	assert_int_equal(o.status, STATUS_FAULT);
	assert_non_null(strstr(o.said, "A fault of Nestor's own on processor 0"));
	assert_non_null(strstr(o.said, "\nunexpected\n"));
}

static void script_returns(struct fake *f)
{
}

static void engine_that_stops_by_itself(void **state)
{
	struct vm_config c = config();
	c.processors = 3;
	struct outcome o = run_with(c, script_returns);
	assert_int_equal(o.status, STATUS_FAULT);
	assert_string_equal(o.said, "nestor: A fault of Nestor's own: the engine fake stopped processor 0 without being asked. Please report it with the command line.\n");
}

static int signal_to_send;

static void script_signal(struct fake *f)
{
	kill(getpid(), signal_to_send);
	wait_for_stop(f);
}

static void signals_end_it(void **state)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		struct vm_config c = config();
		c.processors = 2;
		c.reboot = true;
		signal_to_send = signals[i];
		struct outcome o = run_with(c, script_signal);
		assert_int_equal(o.status, 128 + signals[i]);
		assert_non_null(strstr(o.said, "The VM was ended by a signal"));
	}
}

static void script_reset_and_signal(struct fake *f)
{
	if (f->runs == 20)
		kill(getpid(), SIGTERM);
	out(f, PORT_KEYBOARD_COMMAND, 1, PULSE_RESET);
	wait_for_stop(f);
}

static void signal_ends_a_guest_that_resets_for_ever(void **state)
{
	struct vm_config c = config();
	c.reboot = true;
	struct outcome o = run_with(c, script_reset_and_signal);
	assert_int_equal(o.status, 128 + SIGTERM);
	assert_in_range(o.runs, 20, 1000);
}

/* Much output and an end at once: nothing of it is lost. */
static void script_serial(struct fake *f)
{
	for (const char *p = "hello, serial"; *p; p++)
		out(f, PORT_SERIAL, 1, (uint8_t)*p);
	out(f, PORT_DEBUG_EXIT, 1, 0);
	wait_for_stop(f);
}

static void serial_output_is_complete(void **state)
{
	assert_string_equal(run(script_serial).serial, "hello, serial");
}

static void ioapic_write(struct fake *f, unsigned index, uint32_t value)
{
	bus_write(f->engine.host.bus, BUS_MMIO, IOAPIC_BASE, 4, index);
	bus_write(f->engine.host.bus, BUS_MMIO, IOAPIC_BASE + IOAPIC_WINDOW, 4, value);
}

/* The serial port's line reaches pin 4 of the 8259 and pin 4 of the I/O APIC. */
static void script_interrupt(struct fake *f)
{
	enum { VECTOR = 0x55, PIC_VECTOR = 0x20, IRQ = 4 };
	static const uint8_t initialisation[] = { 0x11, PIC_VECTOR, 4, 1 };
	out(f, PORT_PIC_MASTER, 1, initialisation[0]);
	for (unsigned i = 1; i < ARRAY_SIZE(initialisation); i++)
		out(f, PORT_PIC_MASTER + 1, 1, initialisation[i]);
	out(f, PORT_PIC_MASTER + 1, 1, (uint8_t)~(1 << IRQ));
	ioapic_write(f, IOAPIC_REDIRECTION + 2 * IRQ + 1, 0);
	ioapic_write(f, IOAPIC_REDIRECTION + 2 * IRQ, VECTOR);
	check(!f->extint);
	check(f->msis == 0);
	out(f, SERIAL_MCR, 1, 8);	/* OUT2 lets the line out */
	out(f, SERIAL_IER, 1, 2);	/* transmitter empty */
	check(f->extint);
	check(f->msis == 1);
	check((f->msi[0] & 0xff) == VECTOR);
	pthread_mutex_lock(bus_lock(f->engine.host.bus));
	check(f->engine.host.extint_acknowledge(f->engine.host.owner) == PIC_VECTOR + IRQ);
	pthread_mutex_unlock(bus_lock(f->engine.host.bus));
	out(f, PORT_DEBUG_EXIT, 1, 0);
	wait_for_stop(f);
}

static void interrupts_reach_both_controllers(void **state)
{
	assert_int_equal(run(script_interrupt).status, 1);
}

static void files_that_are_missing(void **state)
{
	struct vm_config c = config();
	char expected[200];
	c.kernel = "/nonexistent/kernel";
	struct outcome o = run_with(c, script_exit);
	assert_int_equal(o.status, -1);
	assert_string_equal(o.said, "The kernel /nonexistent/kernel cannot be opened: No such file or directory.");
	c = config();
	c.disk[0] = (struct vm_disk){ "/nonexistent/disk", strlen("/nonexistent/disk"), false };
	c.disks = 1;
	o = run_with(c, script_exit);
	assert_int_equal(o.status, -1);
	snprintf(expected, sizeof expected, "%s", "/nonexistent/disk");
	assert_non_null(strstr(o.said, expected));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debug_exit_status),
		cmocka_unit_test(first_reason_counts),
		cmocka_unit_test(reset_ends),
		cmocka_unit_test(reboot_starts_again),
		cmocka_unit_test(power_off),
		cmocka_unit_test(died),
		cmocka_unit_test(engine_that_stops_by_itself),
		cmocka_unit_test(signals_end_it),
		cmocka_unit_test(signal_ends_a_guest_that_resets_for_ever),
		cmocka_unit_test(serial_output_is_complete),
		cmocka_unit_test(interrupts_reach_both_controllers),
		cmocka_unit_test(files_that_are_missing),
	};
	if (!mkdtemp(directory))
		return 1;
	snprintf(kernel_path, sizeof kernel_path, "%s/kernel", directory);
	snprintf(serial_path, sizeof serial_path, "%s/serial", directory);
	snprintf(stderr_path, sizeof stderr_path, "%s/stderr", directory);
	write_kernel();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(kernel_path);
	unlink(serial_path);
	unlink(stderr_path);
	rmdir(directory);
	return failed;
}
