#include "chip.h"

#include "board/i8254.h"

enum { CONTROL = I8254_BASE + 3, PORT_B = I8254_PORT_B };
enum { GATE2 = 0x01, REFRESH = 0x10, OUT2 = 0x20 };

static struct board b;
static struct i8254 *pit;

static int open_chip(void **state)
{
	board_open(&b);
	pit = i8254_create(b.bus, b.clock, board_irq(&b), &b.error);
	/* Half a tick off, so that rounding cannot hide. */
	clock_advance(b.clock, 400);
	return !pit;
}

static int close_chip(void **state)
{
	i8254_destroy(pit);
	board_close(&b);
	return 0;
}

/* Go on by exactly n ticks of the chip. */
static void ticks(uint64_t n)
{
	uint64_t now = clock_now(b.clock);
	uint64_t tick = scale_u64(now, I8254_HZ, NS_PER_SECOND) + n;
	uint64_t to = ((unsigned __int128)tick * NS_PER_SECOND + I8254_HZ - 1) / I8254_HZ + 100;
	advance(&b, to - now);
}

/* Counter n, access low then high. */
static void program(unsigned n, unsigned mode, uint16_t count)
{
	out8(&b, CONTROL, (uint8_t)(n << 6 | 0x30 | mode << 1));
	out8(&b, (uint16_t)(I8254_BASE + n), (uint8_t)count);
	out8(&b, (uint16_t)(I8254_BASE + n), (uint8_t)(count >> 8));
}

static uint16_t count(unsigned n)
{
	uint16_t port = (uint16_t)(I8254_BASE + n);
	out8(&b, CONTROL, (uint8_t)(n << 6));
	uint8_t low = in8(&b, port);
	return (uint16_t)(low | in8(&b, port) << 8);
}

/* Status byte of counter n by read-back: OUT, null count, then the control word. */
static uint8_t status(unsigned n)
{
	out8(&b, CONTROL, (uint8_t)(0xe0 | 2 << n));
	return in8(&b, (uint16_t)(I8254_BASE + n));
}

static bool out2(void)
{
	return in8(&b, PORT_B) & OUT2;
}

static void terminal_count(void **state)
{
	program(0, 0, 1000);
	assert_false(b.wire.level);
	assert_int_equal(status(0), 0x70);	/* not loaded before the next clock */
	ticks(1);
	assert_int_equal(status(0), 0x30);
	assert_int_equal(count(0), 1000);
	ticks(999);
	assert_int_equal(count(0), 1);
	assert_false(b.wire.level);
	ticks(1);
	assert_true(b.wire.level);
	assert_int_equal(b.wire.rises, 1);
	assert_int_equal(count(0), 0);
	ticks(1);
	assert_int_equal(count(0), 0xffff);	/* counts on */
	ticks(200000);
	assert_int_equal(b.wire.rises, 1);
	assert_int_equal(status(0), 0xb0);
	/* The first byte of a new count stops it and takes OUT down. */
	out8(&b, I8254_BASE, 5);
	assert_false(b.wire.level);
	ticks(100);
	assert_false(b.wire.level);
	out8(&b, I8254_BASE, 0);
	ticks(6);
	assert_true(b.wire.level);
}

static void rate_generator(void **state)
{
	program(0, 2, 11932);	/* 100 Hz */
	b.wire.rises = 0;
	advance(&b, 1000 * MS);
	assert_in_range(b.wire.rises, 99, 100);
	program(2, 2, 3);
	out8(&b, PORT_B, GATE2);
	ticks(1);
	assert_int_equal(count(2), 3);
	assert_true(out2());
	ticks(1);
	assert_int_equal(count(2), 2);
	assert_true(out2());
	ticks(1);
	assert_int_equal(count(2), 1);
	assert_false(out2());
	ticks(1);
	assert_true(out2());
	/* Closed, the output is high and the count stands; opened, it begins anew. */
	ticks(2);
	assert_false(out2());
	out8(&b, PORT_B, 0);
	assert_true(out2());
	out8(&b, PORT_B, GATE2);
	ticks(1);
	assert_int_equal(count(2), 3);
	/* A new count waits for the end of the period. */
	program(2, 2, 100);
	ticks(11);
	assert_int_equal(count(2), 90);
	out8(&b, I8254_BASE + 2, 20);
	out8(&b, I8254_BASE + 2, 0);
	assert_int_equal(count(2), 90);
	assert_int_equal(status(2) & 0x40, 0x40);
	ticks(90);
	assert_int_equal(count(2), 20);
	assert_int_equal(status(2) & 0x40, 0);
}

static void new_rate_of_the_interrupt(void **state)
{
	program(0, 2, 1000);
	ticks(501);
	b.wire.rises = 0;
	out8(&b, I8254_BASE, 0xd0);	/* 2000 */
	out8(&b, I8254_BASE, 0x07);
	ticks(500);
	assert_int_equal(b.wire.rises, 1);
	ticks(1999);
	assert_int_equal(b.wire.rises, 1);
	ticks(1);
	assert_int_equal(b.wire.rises, 2);
}

static void square_wave(void **state)
{
	out8(&b, PORT_B, GATE2);
	program(2, 3, 10);
	ticks(1);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(count(2), 10 - 2 * (i % 5));
		assert_int_equal(out2(), i % 10 < 5);
		ticks(1);
	}
	program(2, 3, 5);	/* high for 3, low for 2 */
	ticks(1);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(out2(), i % 5 < 3);
		ticks(1);
	}
	/* A new count is taken over at the half's end: 5 high, then 2 low of 4. */
	program(2, 3, 10);
	ticks(3);
	out8(&b, I8254_BASE + 2, 4);
	out8(&b, I8254_BASE + 2, 0);
	ticks(2);
	assert_true(out2());
	ticks(1);
	assert_false(out2());
	ticks(2);
	assert_true(out2());
	ticks(2);
	assert_false(out2());
	/* 0 stands for 65536. */
	program(0, 3, 0);
	b.wire.rises = 0;
	ticks(65536 * 3 + 1);
	assert_int_equal(b.wire.rises, 3);
}

static void one_shot(void **state)
{
	program(2, 1, 50);
	assert_true(out2());
	ticks(100);
	assert_true(out2());	/* no trigger yet */
	out8(&b, PORT_B, GATE2);
	ticks(1);
	assert_false(out2());
	ticks(30);
	out8(&b, PORT_B, 0);	/* closing does nothing, opening begins anew */
	out8(&b, PORT_B, GATE2);
	ticks(50);
	assert_false(out2());
	ticks(1);
	assert_true(out2());
}

static void strobes(void **state)
{
	program(0, 4, 100);
	assert_true(b.wire.level);
	b.wire.rises = 0;
	ticks(101);
	assert_int_equal(b.wire.rises, 0);
	assert_int_equal(status(0) & 0x80, 0);
	ticks(1);
	assert_int_equal(status(0) & 0x80, 0x80);
	assert_int_equal(b.wire.rises, 1);
	ticks(100000);
	assert_int_equal(b.wire.rises, 1);
	program(2, 5, 10);
	ticks(20);
	out8(&b, PORT_B, GATE2);
	ticks(11);
	assert_false(out2());
	ticks(1);
	assert_true(out2());
	ticks(100);
	assert_true(out2());
}

static void gate_pauses(void **state)
{
	out8(&b, PORT_B, GATE2);
	program(2, 0, 1000);
	ticks(101);
	assert_int_equal(count(2), 900);
	out8(&b, PORT_B, 0);
	ticks(5000);
	assert_int_equal(count(2), 900);
	assert_false(out2());
	out8(&b, PORT_B, GATE2);
	ticks(899);
	assert_false(out2());
	ticks(1);
	assert_true(out2());
}

/* As a kernel measures its time-stamp counter: 50 ms on counter 2. */
static void calibration(void **state)
{
	uint64_t begin, end;
	out8(&b, PORT_B, GATE2);
	program(2, 0, 59659);
	begin = clock_now(b.clock);
	while (!out2())
		advance(&b, 10 * US);
	end = clock_now(b.clock);
	assert_in_range(end - begin, 50000 * US, 50020 * US);
}

static void latches(void **state)
{
	program(0, 2, 0x1234);
	ticks(1);
	out8(&b, CONTROL, 0x00);
	ticks(0x34);
	out8(&b, CONTROL, 0x00);	/* ignored: latched already */
	assert_int_equal(in8(&b, I8254_BASE), 0x34);
	assert_int_equal(in8(&b, I8254_BASE), 0x12);
	assert_int_equal(in8(&b, I8254_BASE), 0x00);	/* live again */
	assert_int_equal(in8(&b, I8254_BASE), 0x12);
	/* Read-back of status and count of two counters at once. */
	program(1, 2, 18);
	out8(&b, CONTROL, 0xc6);
	ticks(7);
	assert_int_equal(in8(&b, I8254_BASE), 0xb4);
	assert_int_equal(in8(&b, I8254_BASE), 0x00);
	assert_int_equal(in8(&b, I8254_BASE), 0x12);
	assert_int_equal(in8(&b, I8254_BASE + 1), 0xf4);
	/* One byte only. */
	out8(&b, CONTROL, 0x10);
	out8(&b, I8254_BASE, 0x80);
	ticks(1);
	assert_int_equal(in8(&b, I8254_BASE), 0x80);
	assert_int_equal(in8(&b, I8254_BASE), 0x80);
	out8(&b, CONTROL, 0x20);
	out8(&b, I8254_BASE, 0x80);
	ticks(2);
	assert_int_equal(in8(&b, I8254_BASE), 0x7f);
}

static void decimal(void **state)
{
	out8(&b, PORT_B, GATE2);
	out8(&b, CONTROL, 0xb1);	/* counter 2, mode 0, BCD */
	out8(&b, I8254_BASE + 2, 0x00);
	out8(&b, I8254_BASE + 2, 0x10);
	ticks(2);
	assert_int_equal(count(2), 0x0999);
	ticks(999);
	assert_int_equal(count(2), 0);
	assert_true(out2());
	ticks(1);
	assert_int_equal(count(2), 0x9999);
	/* Digits that are none: an answer, whatever it is. */
	program(2, 0, 0xffff);
	out8(&b, CONTROL, 0xb7);
	out16(&b, I8254_BASE + 2, 0xffff);
	ticks(12345);
	count(2);
}

/* The guest asks for a million interrupts a second, and gets a sane number. */
static void too_fast(void **state)
{
	static const unsigned modes[] = { 2, 3 };
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		for (uint16_t n = 1; n < 4; n++) {
			unsigned moments;
			program(0, modes[i], n);
			b.wire.rises = 0;
			moments = advance(&b, 100 * MS);
			assert_in_range(moments, 1500, 2000);
			assert_in_range(b.wire.rises, 1500, 2000);
		}
	}
}

/* One that was due but not delivered when the guest programmed anew. */
static void overdue(void **state)
{
	program(0, 4, 100);
	b.wire.rises = 0;
	clock_advance(b.clock, 1 * MS);
	program(0, 4, 1000);
	assert_int_equal(b.wire.rises, 1);
	clock_advance(b.clock, 2 * MS);
	check_round_trip(pit);
	b.wire.rises = 0;
	clock_run_due(b.clock);
	assert_int_equal(b.wire.rises, 1);
}

static void refresh_toggles(void **state)
{
	unsigned toggles = 0;
	uint8_t last = in8(&b, PORT_B) & REFRESH;
	for (unsigned i = 0; i < 1000; i++) {
		uint8_t now;
		advance(&b, 1 * US);
		now = in8(&b, PORT_B) & REFRESH;
		toggles += now != last;
		last = now;
	}
	assert_in_range(toggles, 65, 67);
	out8(&b, PORT_B, 0xff);
	assert_int_equal(in8(&b, PORT_B) & 0xcf, 0x0f);
}

static void saved_state(void **state)
{
	program(0, 2, 1193);
	program(1, 3, 18);
	out8(&b, PORT_B, GATE2);
	program(2, 0, 50000);
	ticks(1000);
	out8(&b, CONTROL, 0xc4);	/* latch counter 1's count and status */
	out8(&b, I8254_BASE, 0x10);	/* half a count, and one that waits */
	out8(&b, I8254_BASE, 0x20);
	out8(&b, I8254_BASE, 0x30);
	check_round_trip(pit);
	assert_int_equal(count(2), 50000 - 999);
	b.wire.rises = 0;
	ticks(195);
	assert_int_equal(b.wire.rises, 1);
	device_reset(pit);
	assert_int_equal(advance(&b, 1000 * MS), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(terminal_count),
		CASE(rate_generator),
		CASE(new_rate_of_the_interrupt),
		CASE(square_wave),
		CASE(one_shot),
		CASE(strobes),
		CASE(gate_pauses),
		CASE(calibration),
		CASE(latches),
		CASE(decimal),
		CASE(too_fast),
		CASE(overdue),
		CASE(refresh_toggles),
		CASE(saved_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
