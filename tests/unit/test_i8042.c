#include "chip.h"

#include "board/i8042.h"

enum { DATA = I8042_DATA, COMMAND = I8042_COMMAND, PORT_92 = I8042_PORT_92 };
enum { FULL = 0x01, INPUT_FULL = 0x02, AUX = 0x20, TIMEOUT = 0x40 };

static struct board b;
static struct i8042 *kbc;

static int open_chip(void **state)
{
	struct machine_control machine;
	board_open(&b);
	machine = board_machine(&b);
	kbc = i8042_create(b.bus, board_irq(&b), &machine, &b.error);
	return !kbc;
}

static int close_chip(void **state)
{
	i8042_destroy(kbc);
	board_close(&b);
	return 0;
}

/* The answer to a command; the test fails when there is none. */
static uint8_t ask(uint8_t command)
{
	out8(&b, COMMAND, command);
	assert_int_equal(in8(&b, COMMAND) & (FULL | INPUT_FULL), FULL);
	uint8_t value = in8(&b, DATA);
	assert_int_equal(in8(&b, COMMAND) & FULL, 0);
	return value;
}

static void tell(uint8_t command, uint8_t value)
{
	out8(&b, COMMAND, command);
	assert_int_equal(in8(&b, COMMAND) & (FULL | INPUT_FULL), 0);
	out8(&b, DATA, value);
}

/* The steps of Linux's probe, each of which must have its answer at once. */
static void probe(void **state)
{
	uint8_t control;
	assert_int_equal(in8(&b, COMMAND) & (FULL | INPUT_FULL), 0);	/* nothing to flush */
	assert_int_equal(ask(0xaa), 0x55);
	control = ask(0x20);
	assert_int_equal(control, ask(0x20));
	assert_int_equal(control & 0x40, 0x40);		/* translates */
	assert_int_equal(in8(&b, COMMAND) & 0x10, 0x10);	/* not locked */
	tell(0x60, control | 0x30);
	assert_int_equal(ask(0x20), control | 0x30);
	/* The auxiliary loop fails without the bit of an auxiliary byte, and its
	 * test fails: there is none. */
	tell(0xd3, 0x5a);
	assert_int_equal(in8(&b, COMMAND) & (FULL | AUX), FULL);
	assert_int_equal(in8(&b, DATA), 0x5a);
	assert_int_equal(ask(0xa9), 0x01);
	assert_int_equal(ask(0xab), 0x00);
}

static void nobody_answers(void **state)
{
	static const uint8_t commands[] = { 0xf2, 0xff, 0xed, 0x00 };
	tell(0x60, 0x41);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		b.wire.rises = 0;
		out8(&b, DATA, commands[i]);
		assert_true(b.wire.level);
		assert_int_equal(b.wire.rises, 1);
		assert_int_equal(in8(&b, COMMAND) & (FULL | TIMEOUT), FULL | TIMEOUT);
		assert_int_equal(in8(&b, DATA), 0xfe);
		assert_false(b.wire.level);
		assert_int_equal(in8(&b, COMMAND) & (FULL | TIMEOUT), 0);
	}
	tell(0xd4, 0xf2);
	assert_int_equal(in8(&b, DATA), 0xfe);
	/* Without the interrupt. */
	tell(0x60, 0x40);
	out8(&b, DATA, 0xf2);
	assert_false(b.wire.level);
	out8(&b, COMMAND, 0x60);
	out8(&b, DATA, 0x41);
	assert_true(b.wire.level);	/* the byte is still there */
}

static void controller_memory(void **state)
{
	for (uint8_t i = 1; i < 32; i++)
		tell(0x60 + i, i * 3);
	for (uint8_t i = 1; i < 32; i++)
		assert_int_equal(ask(0x20 + i), i * 3);
	out8(&b, COMMAND, 0xa7);
	out8(&b, COMMAND, 0xad);
	assert_int_equal(ask(0x20) & 0x30, 0x30);
	out8(&b, COMMAND, 0xa8);
	out8(&b, COMMAND, 0xae);
	assert_int_equal(ask(0x20) & 0x30, 0);
	tell(0x60, 0x00);
	assert_int_equal(in8(&b, COMMAND) & 0x04, 0);
	tell(0x60, 0x04);
	assert_int_equal(in8(&b, COMMAND) & 0x04, 0x04);
	assert_int_equal(ask(0xc0), 0x80);
	tell(0xd2, 0x1c);
	assert_int_equal(in8(&b, DATA), 0x1c);
}

static void a20(void **state)
{
	assert_int_equal(ask(0xd0) & 0x03, 0x03);
	tell(0xd1, 0xdd);
	assert_int_equal(ask(0xd0) & 0x03, 0x03);	/* always open */
	assert_int_equal(in8(&b, PORT_92), 0x02);
	out8(&b, PORT_92, 0x00);
	assert_int_equal(in8(&b, PORT_92), 0x02);
	assert_int_equal(b.machine.requests, 0);
}

static void resets(void **state)
{
	out8(&b, COMMAND, 0xfe);
	assert_int_equal(b.machine.requests, 1);
	assert_int_equal(b.machine.last, MACHINE_RESET);
	out8(&b, COMMAND, 0xff);	/* pulses nothing */
	out8(&b, COMMAND, 0xfd);	/* A20 only */
	assert_int_equal(b.machine.requests, 1);
	out8(&b, COMMAND, 0xf0);
	assert_int_equal(b.machine.requests, 2);
	tell(0xd1, 0x02);
	assert_int_equal(b.machine.requests, 3);
	out8(&b, PORT_92, 0x01);
	assert_int_equal(b.machine.requests, 4);
	assert_int_equal(b.machine.last, MACHINE_RESET);
}

static void saved_state(void **state)
{
	tell(0x60, 0x45);
	tell(0x70, 0x99);
	out8(&b, DATA, 0xf2);
	out8(&b, COMMAND, 0x71);	/* waits for its byte */
	check_round_trip(kbc);
	assert_true(b.wire.level);
	out8(&b, DATA, 0x66);
	assert_int_equal(in8(&b, COMMAND) & (FULL | TIMEOUT), FULL | TIMEOUT);
	assert_int_equal(in8(&b, DATA), 0xfe);
	assert_int_equal(ask(0x30), 0x99);
	assert_int_equal(ask(0x31), 0x66);
	device_reset(kbc);
	assert_false(b.wire.level);
	assert_int_equal(ask(0x30), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(probe),
		CASE(nobody_answers),
		CASE(controller_memory),
		CASE(a20),
		CASE(resets),
		CASE(saved_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
