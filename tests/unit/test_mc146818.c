#include "chip.h"

#include "board/mc146818.h"

#include <time.h>

enum { INDEX = MC146818_PORT, DATA = MC146818_PORT + 1 };
enum { A_UIP = 0x80, A_RUN = 0x20, A_STOP = 0x70, B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20,
       B_UIE = 0x10, B_BINARY = 0x04, B_24 = 0x02, C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20,
       C_UF = 0x10 };

/* 2024-02-28 23:59:50, a Wednesday. */
#define EPOCH 1709164790ll
#define SECOND NS_PER_SECOND

static struct board b;
static struct mc146818 *rtc;

static int open_chip(void **state)
{
	board_open(&b);
	rtc = mc146818_create(b.bus, b.clock, board_irq(&b), 3 * GIB, 5 * GIB, EPOCH, &b.error);
	return !rtc;
}

static int close_chip(void **state)
{
	mc146818_destroy(rtc);
	board_close(&b);
	return 0;
}

static uint8_t get(uint8_t index)
{
	out8(&b, INDEX, index);
	return in8(&b, DATA);
}

static void set(uint8_t index, uint8_t value)
{
	out8(&b, INDEX, index);
	out8(&b, DATA, value);
}

static void check_time(uint8_t hour, uint8_t minute, uint8_t second)
{
	assert_int_equal(get(CMOS_HOURS), hour);
	assert_int_equal(get(CMOS_MINUTES), minute);
	assert_int_equal(get(CMOS_SECONDS), second);
}

static void check_date(uint8_t century, uint8_t year, uint8_t month, uint8_t day)
{
	assert_int_equal(get(CMOS_CENTURY), century);
	assert_int_equal(get(CMOS_YEAR), year);
	assert_int_equal(get(CMOS_MONTH), month);
	assert_int_equal(get(CMOS_DAY_OF_MONTH), day);
}

static void time_passes(void **state)
{
	check_time(0x23, 0x59, 0x50);
	check_date(0x20, 0x24, 0x02, 0x28);
	assert_int_equal(get(CMOS_DAY_OF_WEEK), 4);
	advance(&b, 10 * SECOND);
	check_time(0x00, 0x00, 0x00);
	check_date(0x20, 0x24, 0x02, 0x29);
	advance(&b, 86400 * SECOND);
	check_date(0x20, 0x24, 0x03, 0x01);
	assert_int_equal(get(CMOS_REGISTER_D), 0x80);
	assert_int_equal(in8(&b, INDEX), 0xff);
}

static void formats(void **state)
{
	set(CMOS_REGISTER_B, B_24 | B_BINARY);
	check_time(23, 59, 50);
	check_date(20, 24, 2, 28);
	set(CMOS_REGISTER_B, 0);
	check_time(0x91, 0x59, 0x50);	/* 11 p.m. */
	set(CMOS_REGISTER_B, B_BINARY);
	check_time(0x8b, 59, 50);
	advance(&b, 10 * SECOND);
	check_time(12, 0, 0);		/* 12 a.m. */
	advance(&b, 12 * 3600 * SECOND);
	check_time(0x8c, 0, 0);
}

static void set_time(uint8_t hour, uint8_t minute, uint8_t second)
{
	set(CMOS_HOURS, hour);
	set(CMOS_MINUTES, minute);
	set(CMOS_SECONDS, second);
}

/* As Linux sets it: SET, divider reset, the bytes, and back. */
static void time_is_set(void **state)
{
	set(CMOS_REGISTER_B, B_24 | B_SET);
	set(CMOS_REGISTER_A, A_STOP);
	advance(&b, 5 * SECOND);
	check_time(0x23, 0x59, 0x50);	/* it stands */
	assert_int_equal(get(CMOS_REGISTER_A) & A_UIP, 0);
	set_time(0x12, 0x34, 0x56);
	set(CMOS_YEAR, 0x99);
	set(CMOS_CENTURY, 0x19);
	set(CMOS_MONTH, 0x12);
	set(CMOS_DAY_OF_MONTH, 0x31);
	check_time(0x12, 0x34, 0x56);
	set(CMOS_REGISTER_B, B_24);
	set(CMOS_REGISTER_A, A_RUN);
	advance(&b, 499 * MS);
	check_time(0x12, 0x34, 0x56);
	advance(&b, 2 * MS);
	check_time(0x12, 0x34, 0x57);	/* half a second after the divider's start */
	check_date(0x19, 0x99, 0x12, 0x31);
	advance(&b, 12 * 3600 * SECOND);
	check_date(0x20, 0x00, 0x01, 0x01);
	/* While it runs, too. */
	set(CMOS_HOURS, 0x05);
	advance(&b, 3600 * SECOND);
	assert_int_equal(get(CMOS_HOURS), 0x06);
	/* Nonsense carries over. */
	set(CMOS_REGISTER_B, B_24 | B_SET);
	set(CMOS_MONTH, 0xff);
	set_time(0xff, 0xff, 0xff);
	set(CMOS_REGISTER_B, B_24);
	assert_in_range(get(CMOS_MONTH), 0x01, 0x12);
	assert_in_range(get(CMOS_SECONDS), 0x00, 0x59);
}

static void update_in_progress(void **state)
{
	assert_int_equal(get(CMOS_REGISTER_A), 0x26);
	advance(&b, 997 * MS);
	assert_int_equal(get(CMOS_REGISTER_A) & A_UIP, 0);
	check_time(0x23, 0x59, 0x50);
	advance(&b, 2 * MS);
	assert_int_equal(get(CMOS_REGISTER_A) & A_UIP, A_UIP);
	check_time(0x23, 0x59, 0x50);
	advance(&b, 1 * MS);
	assert_int_equal(get(CMOS_REGISTER_A) & A_UIP, 0);
	check_time(0x23, 0x59, 0x51);
}

static void update_ended(void **state)
{
	set(CMOS_HOURS_ALARM, 0x99);	/* never */
	/* The flag comes without its interrupt, too. */
	assert_int_equal(advance(&b, 1 * SECOND), 0);
	assert_int_equal(get(CMOS_REGISTER_C), C_UF | C_PF);
	assert_int_equal(get(CMOS_REGISTER_C), 0);
	set(CMOS_REGISTER_B, B_24 | B_UIE);
	advance(&b, 999 * MS);
	assert_false(b.wire.level);
	advance(&b, 1 * MS);
	assert_true(b.wire.level);
	/* It stays up until C is read, and costs nothing meanwhile. */
	assert_int_equal(advance(&b, 60 * SECOND), 0);
	assert_int_equal(get(CMOS_REGISTER_C), C_IRQF | C_UF | C_PF);
	assert_false(b.wire.level);
	advance(&b, 1 * SECOND);
	assert_true(b.wire.level);
	assert_int_equal(b.wire.rises, 2);
	/* SET takes UIE away. */
	set(CMOS_REGISTER_B, B_24 | B_UIE | B_SET);
	assert_int_equal(get(CMOS_REGISTER_B), B_24 | B_SET);
	assert_false(b.wire.level);
}

static void periodic(void **state)
{
	static const struct { uint8_t rate; unsigned hz; } rates[] = {
		{ 1, 256 }, { 2, 128 }, { 3, 8192 }, { 6, 1024 }, { 15, 2 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
		unsigned interrupts = 0;
		set(CMOS_REGISTER_A, A_RUN | rates[i].rate);
		get(CMOS_REGISTER_C);
		set(CMOS_REGISTER_B, B_24 | B_PIE);
		for (uint64_t end = clock_now(b.clock) + SECOND; clock_now(b.clock) < end;) {
			advance(&b, clock_next_deadline(b.clock) - clock_now(b.clock));
			assert_true(b.wire.level);
			assert_int_equal(get(CMOS_REGISTER_C) & (C_IRQF | C_PF), C_IRQF | C_PF);
			interrupts++;
		}
		assert_in_range(interrupts, rates[i].hz, rates[i].hz + 1);
	}
	set(CMOS_REGISTER_A, A_RUN);	/* rate 0: none */
	assert_int_equal(advance(&b, 10 * SECOND), 0);
	set(CMOS_REGISTER_A, A_STOP | 6);
	assert_int_equal(advance(&b, 10 * SECOND), 0);
}

/* Seconds until the alarm, at most a day. */
static unsigned seconds_to_alarm(void)
{
	uint64_t begin = clock_now(b.clock);
	get(CMOS_REGISTER_C);
	if (clock_next_deadline(b.clock) == CLOCK_NEVER)
		return 0;
	advance(&b, clock_next_deadline(b.clock) - begin);
	assert_true(b.wire.level);
	assert_int_equal(get(CMOS_REGISTER_C) & (C_IRQF | C_AF), C_IRQF | C_AF);
	return (unsigned)((clock_now(b.clock) - begin) / SECOND);
}

static void alarm_rings(void **state)
{
	set(CMOS_SECONDS_ALARM, 0x05);
	set(CMOS_MINUTES_ALARM, 0x00);
	set(CMOS_HOURS_ALARM, 0x00);
	set(CMOS_REGISTER_B, B_24 | B_AIE);
	assert_int_equal(seconds_to_alarm(), 15);
	assert_int_equal(seconds_to_alarm(), 86400);
	set(CMOS_HOURS_ALARM, 0xc0);
	assert_int_equal(seconds_to_alarm(), 3600);
	set(CMOS_MINUTES_ALARM, 0xff);
	assert_int_equal(seconds_to_alarm(), 60);
	set(CMOS_SECONDS_ALARM, 0xc0);
	assert_int_equal(seconds_to_alarm(), 1);
	set(CMOS_HOURS_ALARM, 0x99);	/* never */
	assert_int_equal(seconds_to_alarm(), 0);
	/* In 12-hour format: 3:00:00 p.m. */
	set(CMOS_REGISTER_B, B_AIE);
	set(CMOS_HOURS_ALARM, 0x83);
	set(CMOS_MINUTES_ALARM, 0);
	set(CMOS_SECONDS_ALARM, 0);
	seconds_to_alarm();
	check_time(0x83, 0x00, 0x00);
	/* The flag without the interrupt. */
	set(CMOS_REGISTER_B, 0);
	advance(&b, 86400 * SECOND);
	assert_int_equal(get(CMOS_REGISTER_C) & (C_IRQF | C_AF), C_AF);
}

static void memory_size(void **state)
{
	assert_int_equal(get(0x15) | get(0x16) << 8, 640);
	assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
	assert_int_equal(get(0x30) | get(0x31) << 8, 0xffff);
	assert_int_equal(get(0x34) | get(0x35) << 8, (3 * GIB - 16 * MIB) / (64 * KIB));
	assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 * GIB / (64 * KIB));
	/* The rest is the guest's. Bit 7 of the index is not part of it. */
	set(0x40, 0x5a);
	assert_int_equal(get(0xc0), 0x5a);
	set(0x34, 0);
	device_reset(rtc);
	assert_int_equal(get(0x40), 0x5a);
	assert_int_equal(get(0x34), 0x00);
	assert_int_equal(get(0x35), (3 * GIB - 16 * MIB) / (64 * KIB) >> 8);
}

static void saved_state(void **state)
{
	set(CMOS_REGISTER_B, B_24 | B_AIE);
	set(CMOS_SECONDS_ALARM, 0xc0);
	set(CMOS_MINUTES_ALARM, 0xc0);
	set(CMOS_HOURS_ALARM, 0xc0);
	advance(&b, 1500 * MS);
	assert_true(b.wire.level);
	set(0x44, 0x77);
	out8(&b, INDEX, 0x44);
	check_round_trip(rtc);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, DATA), 0x77);
	assert_int_equal(get(CMOS_SECONDS), 0x51);
	assert_int_equal(get(CMOS_REGISTER_C), C_IRQF | C_PF | C_AF | C_UF);
	advance(&b, 500 * MS);
	assert_int_equal(get(CMOS_SECONDS), 0x52);
	/* The battery keeps the time over a reset. */
	device_reset(rtc);
	assert_false(b.wire.level);
	assert_int_equal(get(CMOS_SECONDS), 0x52);
	assert_int_equal(get(CMOS_REGISTER_B), B_24);
	/* Standing. */
	set(CMOS_REGISTER_B, B_24 | B_SET);
	set(CMOS_REGISTER_A, A_STOP);
	set_time(0x01, 0x02, 0x03);
	advance(&b, 700 * MS);
	check_round_trip(rtc);
	advance(&b, 5 * SECOND);
	check_time(0x01, 0x02, 0x03);
}

static void the_hosts_time(void **state)
{
	struct board h;
	struct mc146818 *host;
	struct timespec now;
	struct tm tm;
	board_open(&h);
	clock_advance(h.clock, 12345678901ull);
	host = mc146818_create(h.bus, h.clock, board_irq(&h), GIB, 0, -1, &h.error);
	clock_gettime(CLOCK_REALTIME, &now);
	out8(&h, INDEX, CMOS_REGISTER_B);
	out8(&h, DATA, B_24 | B_BINARY);
	struct tm shown = { .tm_year = 100 };
	static const struct { uint8_t index; size_t field; int less; } map[] = {
		{ CMOS_SECONDS, offsetof(struct tm, tm_sec), 0 },
		{ CMOS_MINUTES, offsetof(struct tm, tm_min), 0 },
		{ CMOS_HOURS, offsetof(struct tm, tm_hour), 0 },
		{ CMOS_DAY_OF_MONTH, offsetof(struct tm, tm_mday), 0 },
		{ CMOS_MONTH, offsetof(struct tm, tm_mon), 1 },
		{ CMOS_YEAR, offsetof(struct tm, tm_year), -100 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
		out8(&h, INDEX, map[i].index);
		*(int *)((char *)&shown + map[i].field) = in8(&h, DATA) - map[i].less;
	}
	gmtime_r(&now.tv_sec, &tm);
	assert_in_range(timegm(&tm) - timegm(&shown), 0, 1);
	mc146818_destroy(host);
	board_close(&h);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(time_passes),
		CASE(formats),
		CASE(time_is_set),
		CASE(update_in_progress),
		CASE(update_ended),
		CASE(periodic),
		CASE(alarm_rings),
		CASE(memory_size),
		CASE(saved_state),
		cmocka_unit_test(the_hosts_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
