#include "chip.h"

#include "board/debug_port.h"

static struct board b;
static struct debug_port *debug;
static char text[16];
static size_t length;

static void sink_write(void *owner, const uint8_t *bytes, size_t n)
{
	assert_true(length + n < sizeof text);
	memcpy(text + length, bytes, n);
	length += n;
}

static int open_chip(void **state)
{
	const struct debug_port_sink sink = { .write = sink_write };
	struct machine_control machine;
	board_open(&b);
	length = 0;
	machine = board_machine(&b);
	debug = debug_port_create(b.bus, &machine, &sink, &b.error);
	return !debug;
}

static int close_chip(void **state)
{
	debug_port_destroy(debug);
	board_close(&b);
	return 0;
}

static void exits(void **state)
{
	out8(&b, DEBUG_PORT_EXIT, 0x7f);
	assert_int_equal(b.machine.last, MACHINE_EXIT);
	assert_int_equal(b.machine.value, 0x7f);
	out16(&b, DEBUG_PORT_EXIT, 0x1234);
	assert_int_equal(b.machine.value, 0x1234);
	out32(&b, DEBUG_PORT_EXIT, 0x12345678);
	assert_int_equal(b.machine.value, 0x12345678);
	assert_int_equal(b.machine.requests, 3);
	out8(&b, DEBUG_PORT_EXIT + 1, 1);
	out16(&b, DEBUG_PORT_EXIT + 2, 1);
	assert_int_equal(b.machine.requests, 3);
	in32(&b, DEBUG_PORT_EXIT);
	assert_int_equal(b.machine.requests, 3);
}

static void console(void **state)
{
	assert_int_equal(in8(&b, DEBUG_PORT_CONSOLE), 0xe9);
	out8(&b, DEBUG_PORT_CONSOLE, 'o');
	out8(&b, DEBUG_PORT_CONSOLE, 'k');
	assert_int_equal(length, 2);
	assert_memory_equal(text, "ok", 2);
}

static void post_codes(void **state)
{
	out8(&b, DEBUG_PORT_POST, 0x42);
	assert_int_equal(in8(&b, DEBUG_PORT_POST), 0x42);
	check_round_trip(debug);
	assert_int_equal(in8(&b, DEBUG_PORT_POST), 0x42);
	device_reset(debug);
	assert_int_equal(in8(&b, DEBUG_PORT_POST), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(exits),
		CASE(console),
		CASE(post_codes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
