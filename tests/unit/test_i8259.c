#include "chip.h"

#include "board/i8259.h"

enum { MASTER = I8259_MASTER, SLAVE = I8259_SLAVE, ELCR = I8259_ELCR };
enum { NONSPECIFIC_EOI = 0x20, SPECIFIC_EOI = 0x60, ROTATE_EOI = 0xa0, ROTATE_SPECIFIC = 0xe0,
       SET_PRIORITY = 0xc0, AEOI_ROTATE = 0x80, READ_IRR = 0x0a, READ_ISR = 0x0b, POLL = 0x0c,
       SET_SPECIAL_MASK = 0x68, CLEAR_SPECIAL_MASK = 0x48 };

static struct board b;
static struct i8259 *pic;

static void initialise(uint8_t icw4)
{
	out8(&b, MASTER, 0x11);
	out8(&b, MASTER + 1, 0x30);
	out8(&b, MASTER + 1, 0x04);
	out8(&b, MASTER + 1, icw4);
	out8(&b, SLAVE, 0x11);
	out8(&b, SLAVE + 1, 0x38);
	out8(&b, SLAVE + 1, 0x02);
	out8(&b, SLAVE + 1, icw4);
}

static int open_chip(void **state)
{
	board_open(&b);
	pic = i8259_create(b.bus, board_irq(&b), &b.error);
	return !pic;
}

static int close_chip(void **state)
{
	i8259_destroy(pic);
	board_close(&b);
	return 0;
}

static void pulse(unsigned irq)
{
	i8259_set(pic, irq, true);
	i8259_set(pic, irq, false);
}

static uint8_t isr(uint16_t chip)
{
	out8(&b, chip, READ_ISR);
	return in8(&b, chip);
}

static uint8_t irr(uint16_t chip)
{
	out8(&b, chip, READ_IRR);
	return in8(&b, chip);
}

static void silent_until_initialised(void **state)
{
	i8259_set(pic, 0, true);
	assert_false(b.wire.level);
	/* Linux looks for the chip by its mask before it initialises it. */
	out8(&b, MASTER + 1, 0xfb);
	assert_int_equal(in8(&b, MASTER + 1), 0xfb);
	i8259_set(pic, 0, false);
	initialise(1);
	assert_int_equal(in8(&b, MASTER + 1), 0);
	assert_false(b.wire.level);
	/* Without ICW4 and, single, without ICW3. */
	out8(&b, MASTER, 0x12);
	out8(&b, MASTER + 1, 0x47);
	out8(&b, MASTER + 1, 0xff);
	assert_int_equal(in8(&b, MASTER + 1), 0xff);
	pulse(0);
	assert_int_equal(i8259_acknowledge(pic), 0x47);	/* spurious: masked */
	out8(&b, MASTER + 1, 0);
	assert_int_equal(i8259_acknowledge(pic), 0x40);
}

static void edges_and_priority(void **state)
{
	initialise(1);
	i8259_set(pic, 4, true);
	assert_true(b.wire.level);
	i8259_set(pic, 1, true);
	assert_int_equal(irr(MASTER), 0x12);
	assert_int_equal(i8259_acknowledge(pic), 0x31);
	assert_false(b.wire.level);	/* 4 waits behind 1 */
	assert_int_equal(isr(MASTER), 0x02);
	i8259_set(pic, 0, true);
	assert_true(b.wire.level);
	assert_int_equal(i8259_acknowledge(pic), 0x30);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	assert_int_equal(isr(MASTER), 0x02);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	assert_int_equal(i8259_acknowledge(pic), 0x34);
	out8(&b, MASTER, SPECIFIC_EOI | 4);
	assert_int_equal(isr(MASTER), 0);
	/* High all the time: no second edge. */
	i8259_set(pic, 4, true);
	assert_false(b.wire.level);
	i8259_set(pic, 4, false);
	i8259_set(pic, 4, true);
	assert_true(b.wire.level);
}

static void masked_and_spurious(void **state)
{
	initialise(1);
	out8(&b, MASTER + 1, 0x08);
	pulse(3);
	assert_false(b.wire.level);
	out8(&b, MASTER + 1, 0);
	assert_true(b.wire.level);
	out8(&b, MASTER + 1, 0x08);
	assert_int_equal(i8259_acknowledge(pic), 0x37);
	assert_int_equal(isr(MASTER), 0);
	/* The slave's request is gone when the master has taken it: 15. */
	pulse(10);
	out8(&b, SLAVE + 1, 0xff);
	assert_int_equal(i8259_acknowledge(pic), 0x3f);
	assert_int_equal(isr(MASTER), 0x04);
	assert_int_equal(isr(SLAVE), 0);
}

static void cascade(void **state)
{
	initialise(1);
	pulse(12);
	pulse(14);
	pulse(2);	/* not a pin */
	pulse(16);
	assert_int_equal(i8259_acknowledge(pic), 0x3c);
	assert_int_equal(isr(SLAVE), 0x10);
	assert_int_equal(isr(MASTER), 0x04);
	assert_false(b.wire.level);
	out8(&b, SLAVE, NONSPECIFIC_EOI);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	assert_true(b.wire.level);
	assert_int_equal(i8259_acknowledge(pic), 0x3e);
	/* A master's input of higher priority passes the slave, a lower does not. */
	pulse(5);
	assert_false(b.wire.level);
	pulse(1);
	assert_int_equal(i8259_acknowledge(pic), 0x31);
}

static void special_fully_nested(void **state)
{
	initialise(0x11);
	pulse(12);
	assert_int_equal(i8259_acknowledge(pic), 0x3c);
	pulse(14);
	assert_false(b.wire.level);
	pulse(9);	/* higher in the slave: passes its own */
	assert_true(b.wire.level);
	assert_int_equal(i8259_acknowledge(pic), 0x39);
}

static void level_triggered(void **state)
{
	initialise(1);
	out8(&b, ELCR, 0xff);
	out8(&b, ELCR + 1, 0xff);
	assert_int_equal(in16(&b, ELCR), 0xdef8);	/* wired as edges: 0, 1, 2, 8, 13 */
	i8259_set(pic, 11, true);
	assert_int_equal(i8259_acknowledge(pic), 0x3b);
	out8(&b, SLAVE, NONSPECIFIC_EOI);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	assert_true(b.wire.level);	/* still asked for */
	assert_int_equal(i8259_acknowledge(pic), 0x3b);
	i8259_set(pic, 11, false);
	out16(&b, SLAVE, NONSPECIFIC_EOI);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	assert_false(b.wire.level);
	i8259_set(pic, 5, true);
	i8259_set(pic, 5, false);
	assert_false(b.wire.level);
}

static void automatic_eoi_and_rotation(void **state)
{
	initialise(0x03);
	pulse(3);
	assert_int_equal(i8259_acknowledge(pic), 0x33);
	assert_int_equal(isr(MASTER), 0);
	out8(&b, MASTER, AEOI_ROTATE);
	pulse(3);
	assert_int_equal(i8259_acknowledge(pic), 0x33);
	pulse(1);
	pulse(4);	/* now the highest */
	assert_int_equal(i8259_acknowledge(pic), 0x34);
	out8(&b, MASTER, 0x00);
	assert_int_equal(i8259_acknowledge(pic), 0x31);
	initialise(1);
	out8(&b, MASTER, SET_PRIORITY | 5);	/* 6 is the highest */
	pulse(0);
	pulse(7);
	assert_int_equal(i8259_acknowledge(pic), 0x37);
	out8(&b, MASTER, ROTATE_EOI);	/* 7 becomes the lowest */
	assert_int_equal(i8259_acknowledge(pic), 0x30);
	out8(&b, MASTER, ROTATE_SPECIFIC | 0);
	pulse(0);
	pulse(1);
	assert_int_equal(i8259_acknowledge(pic), 0x31);
}

static void special_mask(void **state)
{
	initialise(1);
	pulse(1);
	assert_int_equal(i8259_acknowledge(pic), 0x31);
	pulse(6);
	assert_false(b.wire.level);
	out8(&b, MASTER + 1, 0x02);
	out8(&b, MASTER, SET_SPECIAL_MASK);
	assert_true(b.wire.level);
	assert_int_equal(i8259_acknowledge(pic), 0x36);
	out8(&b, MASTER, NONSPECIFIC_EOI);	/* passes over the masked one */
	assert_int_equal(isr(MASTER), 0x02);
	out8(&b, MASTER, CLEAR_SPECIAL_MASK);
	pulse(6);
	assert_false(b.wire.level);
}

static void poll(void **state)
{
	initialise(1);
	out8(&b, MASTER, POLL);
	assert_int_equal(in8(&b, MASTER), 0);
	pulse(3);
	pulse(13);
	out8(&b, MASTER, POLL);
	assert_int_equal(in8(&b, MASTER), 0x82);	/* the slave */
	out8(&b, SLAVE, POLL);
	assert_int_equal(in8(&b, SLAVE + 1), 0x85);
	assert_int_equal(isr(SLAVE), 0x20);
	out8(&b, SLAVE, NONSPECIFIC_EOI);
	out8(&b, MASTER, NONSPECIFIC_EOI);
	out8(&b, MASTER, POLL);
	assert_int_equal(in8(&b, MASTER), 0x83);
	assert_int_equal(in8(&b, MASTER + 1), 0);	/* the mask again */
}

static void saved_state(void **state)
{
	initialise(0x13);
	out16(&b, ELCR, 0xffff);
	out8(&b, MASTER, SET_PRIORITY | 4);
	pulse(12);
	i8259_set(pic, 5, true);
	out8(&b, SLAVE, 0x11);
	out8(&b, SLAVE + 1, 0x40);	/* in the middle of its initialisation */
	assert_true(b.wire.level);
	check_round_trip(pic);
	assert_true(b.wire.level);
	out8(&b, SLAVE + 1, 2);
	out8(&b, SLAVE + 1, 1);
	assert_int_equal(i8259_acknowledge(pic), 0x35);
	device_reset(pic);
	assert_false(b.wire.level);
	assert_int_equal(in16(&b, ELCR), 0);
}

static void taken_ports(void **state)
{
	assert_null(i8259_create(b.bus, board_irq(&b), &b.error));
	assert_non_null(strstr(b.error.text, "i8259"));
	initialise(1);	/* the first one still answers */
	out8(&b, MASTER + 1, 0x5a);
	assert_int_equal(in8(&b, MASTER + 1), 0x5a);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(silent_until_initialised),
		CASE(edges_and_priority),
		CASE(masked_and_spurious),
		CASE(cascade),
		CASE(special_fully_nested),
		CASE(level_triggered),
		CASE(automatic_eoi_and_rotation),
		CASE(special_mask),
		CASE(poll),
		CASE(saved_state),
		CASE(taken_ports),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
