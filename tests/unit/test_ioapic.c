#include "chip.h"

#include "board/ioapic.h"

enum { SELECT = 0x00, WINDOW = 0x10, EOIR = 0x40 };
enum { ID = 0, VERSION = 1, ARBITRATION = 2, TABLE = 0x10 };
enum { LEVEL = 1 << 15, MASKED = 1 << 16, REMOTE_IRR = 1 << 14, LOGICAL = 1 << 11 };

static struct board b;
static struct ioapic *ioapic;

static struct {
	unsigned messages;
	uint64_t address;
	uint32_t data;
} sent;
static struct {
	unsigned calls, pin;
	uint64_t address;
	uint32_t data;
	bool level;
} routed;

static void on_message(void *owner, uint64_t address, uint32_t data)
{
	assert_ptr_equal(owner, &sent);
	sent.messages++;
	sent.address = address;
	sent.data = data;
}

static void on_route(void *owner, unsigned pin, uint64_t address, uint32_t data, bool level)
{
	assert_ptr_equal(owner, &routed);
	routed.calls++;
	routed.pin = pin;
	routed.address = address;
	routed.data = data;
	routed.level = level;
}

static uint32_t get(uint8_t reg)
{
	bus_write(b.bus, BUS_MMIO, IOAPIC_BASE + SELECT, 4, reg);
	return (uint32_t)bus_read(b.bus, BUS_MMIO, IOAPIC_BASE + WINDOW, 4);
}

static void put(uint8_t reg, uint32_t value)
{
	bus_write(b.bus, BUS_MMIO, IOAPIC_BASE + SELECT, 4, reg);
	bus_write(b.bus, BUS_MMIO, IOAPIC_BASE + WINDOW, 4, value);
}

static void program(unsigned pin, uint32_t low, uint8_t destination)
{
	put((uint8_t)(TABLE + 2 * pin + 1), (uint32_t)destination << 24);
	put((uint8_t)(TABLE + 2 * pin), low);
}

static uint32_t entry(unsigned pin)
{
	return get((uint8_t)(TABLE + 2 * pin));
}

static int open_chip(void **state)
{
	board_open(&b);
	memset(&sent, 0, sizeof sent);
	struct msi_target msi = { on_message, &sent };
	ioapic = ioapic_create(b.bus, msi, on_route, &routed, &b.error);
	memset(&routed, 0, sizeof routed);
	return !ioapic;
}

static int close_chip(void **state)
{
	ioapic_destroy(ioapic);
	board_close(&b);
	return 0;
}

static void registers(void **state)
{
	assert_int_equal(get(VERSION), 0x170020);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		assert_int_equal(entry(pin), MASKED);
	put(ID, 0xff000000);
	assert_int_equal(get(ID), 0x0f000000);
	assert_int_equal(get(ARBITRATION), 0x0f000000);
	put(VERSION, 0);
	assert_int_equal(get(VERSION), 0x170020);
	program(3, 0xffffffff, 0x5a);
	assert_int_equal(entry(3), 0x1afff);	/* status bits are read-only */
	assert_int_equal(get(TABLE + 7), 0x5a000000);
	assert_int_equal(get(TABLE + 2 * IOAPIC_PINS), 0);
	put(TABLE + 2 * IOAPIC_PINS, 0xffffffff);	/* nothing there */
	assert_int_equal(bus_read(b.bus, BUS_MMIO, IOAPIC_BASE + SELECT, 4), TABLE + 2 * IOAPIC_PINS);
}

static void edge(void **state)
{
	program(4, 0x34, 2);
	ioapic_set(ioapic, 4, true);
	assert_int_equal(sent.messages, 1);
	assert_int_equal(sent.address, 0xfee02000);
	assert_int_equal(sent.data, 0x4034);
	ioapic_set(ioapic, 4, true);
	ioapic_set(ioapic, 4, false);
	assert_int_equal(sent.messages, 1);
	ioapic_set(ioapic, 4, true);
	assert_int_equal(sent.messages, 2);
	assert_false(entry(4) & REMOTE_IRR);
	/* Masked: lost. */
	ioapic_set(ioapic, 4, false);
	program(4, 0x34 | MASKED, 2);
	ioapic_set(ioapic, 4, true);
	program(4, 0x34, 2);
	assert_int_equal(sent.messages, 2);
	ioapic_set(ioapic, IOAPIC_PINS, true);	/* no such pin */
	assert_int_equal(sent.messages, 2);
}

static void level(void **state)
{
	program(16, 0x51 | LEVEL | LOGICAL | 0x100, 0x0f);
	ioapic_set(ioapic, 16, true);
	assert_int_equal(sent.messages, 1);
	assert_int_equal(sent.address, 0xfee0f004);
	assert_int_equal(sent.data, 0xc151);
	assert_true(entry(16) & REMOTE_IRR);
	ioapic_eoi(ioapic, 0x52);	/* another's */
	assert_int_equal(sent.messages, 1);
	ioapic_eoi(ioapic, 0x51);	/* still asserted: again */
	assert_int_equal(sent.messages, 2);
	ioapic_set(ioapic, 16, false);
	ioapic_set(ioapic, 16, true);	/* outstanding: once is enough */
	assert_int_equal(sent.messages, 2);
	ioapic_set(ioapic, 16, false);
	ioapic_eoi(ioapic, 0x51);
	assert_int_equal(sent.messages, 2);
	assert_false(entry(16) & REMOTE_IRR);
}

static void level_waits_for_unmask(void **state)
{
	program(17, 0x61 | LEVEL | MASKED, 0);
	ioapic_set(ioapic, 17, true);
	assert_int_equal(sent.messages, 0);
	program(17, 0x61 | LEVEL, 0);
	assert_int_equal(sent.messages, 1);
}

static void two_pins_share_a_vector(void **state)
{
	program(16, 0x70 | LEVEL, 0);
	program(17, 0x70 | LEVEL, 0);
	ioapic_set(ioapic, 16, true);
	ioapic_set(ioapic, 17, true);
	assert_int_equal(sent.messages, 2);
	ioapic_eoi(ioapic, 0x70);
	assert_int_equal(sent.messages, 4);
}

static void end_by_register_and_by_edge(void **state)
{
	program(16, 0x51 | LEVEL, 0);
	ioapic_set(ioapic, 16, true);
	ioapic_set(ioapic, 16, false);
	assert_true(entry(16) & REMOTE_IRR);
	bus_write(b.bus, BUS_MMIO, IOAPIC_BASE + EOIR, 4, 0x51);
	assert_false(entry(16) & REMOTE_IRR);
	ioapic_set(ioapic, 16, true);
	assert_true(entry(16) & REMOTE_IRR);
	program(16, 0x51 | MASKED, 0);
	assert_false(entry(16) & REMOTE_IRR);
}

static void nmi_has_no_remote_irr(void **state)
{
	program(18, LEVEL | 0x400, 0);
	ioapic_set(ioapic, 18, true);
	assert_int_equal(sent.data, 0xc400);
	assert_false(entry(18) & REMOTE_IRR);
}

static void routes(void **state)
{
	program(5, 0x41 | LEVEL, 3);
	assert_int_equal(routed.pin, 5);
	assert_int_equal(routed.address, 0xfee03000);
	assert_int_equal(routed.data, 0xc041);
	assert_true(routed.level);
	unsigned calls = routed.calls;
	program(5, 0x41 | LEVEL, 3);	/* nothing changes */
	assert_int_equal(routed.calls, calls);
	program(5, 0x41 | LEVEL | MASKED, 3);
	assert_int_equal(routed.calls, calls + 1);
	assert_int_equal(routed.address, 0);
	routed.calls = 0;
	device_reset(ioapic);
	assert_int_equal(routed.calls, IOAPIC_PINS);
}

static void state_round_trip(void **state)
{
	program(16, 0x51 | LEVEL, 7);
	program(2, 0x30, 1);
	ioapic_set(ioapic, 16, true);
	put(ID, 0x03000000);
	check_round_trip(ioapic);
	assert_int_equal(entry(16), 0x51 | LEVEL | REMOTE_IRR);
	ioapic_eoi(ioapic, 0x51);	/* the wire is still known to be high */
	assert_int_equal(sent.messages, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers), TEST(edge), TEST(level), TEST(level_waits_for_unmask),
		TEST(two_pins_share_a_vector), TEST(end_by_register_and_by_edge),
		TEST(nmi_has_no_remote_irr), TEST(routes), TEST(state_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
