#include "chip.h"

#include "board/acpi_pm.h"

enum { STATUS = ACPI_PM1A_EVENT, ENABLE = ACPI_PM1A_EVENT + 2, CONTROL = ACPI_PM1A_CONTROL,
       TIMER = ACPI_PM_TIMER };
enum { TMR = 0x0001, PWRBTN = 0x0100, SCI_EN = 0x0001, SLP_EN = 0x2000 };

/* How long the timer needs for half a turn, in whole milliseconds, rounded down. */
#define HALF_TURN_MS (0x80000000ull * 1000 / ACPI_PM_TIMER_HZ)

static struct board b;
static struct acpi_pm *pm;

static int open_chip(void **state)
{
	struct machine_control machine;
	board_open(&b);
	machine = board_machine(&b);
	clock_advance(b.clock, 123456789);
	pm = acpi_pm_create(b.bus, b.clock, board_irq(&b), &machine, &b.error);
	return !pm;
}

static int close_chip(void **state)
{
	acpi_pm_destroy(pm);
	board_close(&b);
	return 0;
}

static void timer_counts(void **state)
{
	uint32_t begin = in32(&b, TIMER);
	assert_in_range(begin, 0, 1);
	advance(&b, 1000 * MS);
	assert_in_range(in32(&b, TIMER) - begin, ACPI_PM_TIMER_HZ - 1, ACPI_PM_TIMER_HZ + 1);
	assert_int_equal(in16(&b, TIMER + 2), in32(&b, TIMER) >> 16);
	assert_int_equal(in8(&b, TIMER + 1), in32(&b, TIMER) >> 8 & 0xff);
	out32(&b, TIMER, 0);	/* read only */
	assert_int_not_equal(in32(&b, TIMER), 0);
	advance(&b, 2 * HALF_TURN_MS * MS);
	assert_in_range(in32(&b, TIMER), 0, ACPI_PM_TIMER_HZ + 10000);
}

static void timer_overflows(void **state)
{
	advance(&b, HALF_TURN_MS * MS);
	assert_int_equal(in16(&b, STATUS), 0);
	assert_int_equal(advance(&b, 1 * MS), 0);	/* nobody asked: no timer */
	assert_int_equal(in16(&b, STATUS), TMR);
	assert_false(b.wire.level);
	out16(&b, ENABLE, TMR);
	assert_true(b.wire.level);
	out16(&b, STATUS, TMR);
	assert_int_equal(in16(&b, STATUS), 0);
	assert_false(b.wire.level);
	advance(&b, (HALF_TURN_MS - 1) * MS);
	assert_false(b.wire.level);
	assert_int_equal(advance(&b, 2 * MS), 1);
	assert_true(b.wire.level);
	/* It is not armed again before its status has been cleared. */
	assert_int_equal(advance(&b, 4 * HALF_TURN_MS * MS), 0);
	out16(&b, CONTROL, 0);	/* no SCI */
	assert_false(b.wire.level);
	out16(&b, CONTROL, SCI_EN);
	assert_true(b.wire.level);
}

static void power_button(void **state)
{
	assert_int_equal(in16(&b, CONTROL), SCI_EN);
	acpi_pm_power_button(pm);
	assert_int_equal(in16(&b, STATUS), PWRBTN);
	assert_false(b.wire.level);
	out32(&b, STATUS, PWRBTN << 16);	/* enable, and clear nothing */
	assert_true(b.wire.level);
	out8(&b, STATUS, 0xff);			/* the other byte */
	assert_true(b.wire.level);
	out8(&b, STATUS + 1, PWRBTN >> 8);
	assert_false(b.wire.level);
	assert_int_equal(in32(&b, STATUS), PWRBTN << 16);
	acpi_pm_power_button(pm);
	assert_true(b.wire.level);
	assert_int_equal(b.wire.rises, 2);
	out16(&b, ENABLE, 0xffff);
	assert_int_equal(in16(&b, ENABLE), 0x0721);
}

static void power_off(void **state)
{
	enum { S5 = ACPI_SLP_TYP_S5 << 10, OTHER = (ACPI_SLP_TYP_S5 ^ 1) << 10 };
	out16(&b, CONTROL, SCI_EN | S5);
	out16(&b, CONTROL, SCI_EN | OTHER | SLP_EN);
	assert_int_equal(b.machine.requests, 0);
	assert_int_equal(in16(&b, CONTROL), SCI_EN | OTHER);	/* SLP_EN reads as 0 */
	out16(&b, CONTROL, SCI_EN | S5 | SLP_EN);
	assert_int_equal(b.machine.requests, 1);
	assert_int_equal(b.machine.last, MACHINE_POWER_OFF);
	out8(&b, CONTROL + 1, (S5 | SLP_EN) >> 8);
	assert_int_equal(b.machine.requests, 2);
}

static void write_reset(uint8_t value)
{
	acpi_pm_reset_control.write(pm, 0, 1, value);
}

static void reset_control(void **state)
{
	write_reset(0x02);
	assert_int_equal(b.machine.requests, 0);
	assert_int_equal(acpi_pm_reset_control.read(pm, 0, 1), 0x02);
	write_reset(ACPI_RESET_VALUE);
	assert_int_equal(b.machine.requests, 1);
	assert_int_equal(b.machine.last, MACHINE_RESET);
	write_reset(ACPI_RESET_VALUE);	/* no rise */
	assert_int_equal(b.machine.requests, 1);
	write_reset(0xfb);
	write_reset(0x04);
	assert_int_equal(b.machine.requests, 2);
}

static void saved_state(void **state)
{
	uint32_t timer;
	out16(&b, ENABLE, TMR | PWRBTN);
	acpi_pm_power_button(pm);
	advance(&b, (HALF_TURN_MS - 100) * MS);
	write_reset(0x02);
	timer = in32(&b, TIMER);
	check_round_trip(pm);
	assert_true(b.wire.level);
	assert_int_equal(in32(&b, TIMER), timer);
	out16(&b, STATUS, PWRBTN);
	assert_false(b.wire.level);
	assert_int_equal(advance(&b, 101 * MS), 1);
	assert_true(b.wire.level);
	assert_int_equal(acpi_pm_reset_control.read(pm, 0, 1), 0x02);
	device_reset(pm);
	assert_false(b.wire.level);
	assert_int_equal(in32(&b, STATUS), 0);
	assert_in_range(in32(&b, TIMER), 0, 1);
}

static void every_port_answers(void **state)
{
	for (unsigned port = ACPI_PM_BASE; port < ACPI_PM_BASE + ACPI_PM_SIZE; port++)
		for (unsigned size = 1; size <= 4; size *= 2)
			bus_read(b.bus, BUS_IO, port, size);
	assert_int_equal(in32(&b, ACPI_PM_BASE + 12), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(timer_counts),
		CASE(timer_overflows),
		CASE(power_button),
		CASE(power_off),
		CASE(reset_control),
		CASE(saved_state),
		CASE(every_port_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
