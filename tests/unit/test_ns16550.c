#include "chip.h"

#include "board/ns16550.h"

enum { BASE = NS16550_COM1, DATA = BASE, IER = BASE + 1, IIR = BASE + 2, FCR = BASE + 2,
       LCR = BASE + 3, MCR = BASE + 4, LSR = BASE + 5, MSR = BASE + 6, SCR = BASE + 7 };
enum { RDI = 1, THRI = 2, RLSI = 4, MSI = 8 };
enum { NO_INT = 0xc1, INT_THRE = 0xc2, INT_DATA = 0xc4, INT_LINE = 0xc6, INT_TIMEOUT = 0xcc,
       INT_MODEM = 0xc0 };
enum { OUT2 = 0x08, LOOP = 0x10, DLAB = 0x80 };
enum { DR = 0x01, OE = 0x02, EMPTY = 0x60 };

static struct board b;
static struct ns16550 *uart;
static struct {
	uint8_t bytes[64];
	size_t n;
	unsigned room;
	unsigned more;	/* bytes that room() sends at once */
} sent;

static void sink_write(void *owner, const uint8_t *bytes, size_t n)
{
	assert_true(sent.n + n <= sizeof sent.bytes);
	memcpy(sent.bytes + sent.n, bytes, n);
	sent.n += n;
}

static void sink_room(void *owner)
{
	static const uint8_t bytes[64];
	sent.room++;
	if (sent.more)
		sent.more -= (unsigned)ns16550_receive(uart, bytes, sent.more);
}

static const struct ns16550_sink sink = { .write = sink_write, .room = sink_room };

static int open_chip(void **state)
{
	board_open(&b);
	memset(&sent, 0, sizeof sent);
	uart = ns16550_create(b.bus, b.clock, BASE, board_irq(&b), &sink, &b.error);
	return !uart;
}

static int close_chip(void **state)
{
	ns16550_destroy(uart);
	board_close(&b);
	return 0;
}

/* FIFOs on with a trigger (bits 7:6 of FCR), interrupts let out. */
static void start(uint8_t fcr, uint8_t ier)
{
	out8(&b, FCR, fcr);
	out8(&b, MCR, OUT2);
	out8(&b, IER, ier);
}

static size_t receive(const char *text)
{
	return ns16550_receive(uart, (const uint8_t *)text, strlen(text));
}

/* What Linux's serial driver looks at to tell the types apart. */
static void detected_as_16550a(void **state)
{
	out8(&b, IER, 0);
	assert_int_equal(in8(&b, IER), 0);
	out8(&b, IER, 0xff);
	assert_int_equal(in8(&b, IER), 0x0f);
	out8(&b, IER, 0);
	out8(&b, MCR, LOOP | 0x0a);
	assert_int_equal(in8(&b, MSR) & 0xf0, 0x90);
	out8(&b, MCR, 0);
	out8(&b, SCR, 0xa5);
	assert_int_equal(in8(&b, SCR), 0xa5);
	out8(&b, FCR, 0x01);
	assert_int_equal(in8(&b, IIR) >> 6, 3);
	out8(&b, LCR, DLAB);
	assert_int_not_equal(in8(&b, IIR), 0);	/* no extended features */
	out8(&b, LCR, 0xbf);
	assert_int_not_equal(in8(&b, IIR), 0);
	out8(&b, FCR, 0x21);
	assert_int_equal(in8(&b, IIR) & 0x20, 0);	/* no 64 byte FIFO */
	out8(&b, LCR, 0);
	out8(&b, FCR, 0);
	assert_int_equal(in8(&b, IIR), 0x01);
}

static void divisor_latch(void **state)
{
	out8(&b, LCR, DLAB | 3);
	assert_int_equal(in16(&b, DATA), 12);
	out16(&b, DATA, 0x1234);
	assert_int_equal(in8(&b, DATA), 0x34);
	assert_int_equal(in8(&b, IER), 0x12);
	out8(&b, LCR, 3);
	assert_int_equal(in8(&b, IER), 0);
	assert_int_equal(in8(&b, LCR), 3);
	assert_int_equal(sent.n, 0);
}

static void transmits(void **state)
{
	start(0x01, 0);
	out8(&b, DATA, 'h');
	out8(&b, DATA, 'i');
	assert_int_equal(sent.n, 2);
	assert_memory_equal(sent.bytes, "hi", 2);
	assert_int_equal(in8(&b, LSR), EMPTY);
	assert_false(b.wire.level);
	/* Enabling the interrupt while empty interrupts; so it does again. */
	for (unsigned i = 0; i < 2; i++) {
		out8(&b, IER, THRI);
		assert_true(b.wire.level);
		assert_int_equal(in8(&b, IIR), INT_THRE);
		assert_false(b.wire.level);
		assert_int_equal(in8(&b, IIR), NO_INT);
		out8(&b, IER, 0);
	}
	/* On an edge-triggered input each byte written is an edge. */
	out8(&b, IER, THRI);
	b.wire.rises = 0;
	out8(&b, DATA, '!');
	out8(&b, DATA, '!');
	assert_int_equal(b.wire.rises, 2);
	assert_int_equal(in8(&b, IIR), INT_THRE);
	assert_false(b.wire.level);
	/* Not let out of the port. */
	out8(&b, MCR, 0);
	out8(&b, DATA, '!');
	assert_false(b.wire.level);
	out8(&b, MCR, OUT2);
	assert_true(b.wire.level);
}

static void receives_without_fifo(void **state)
{
	out8(&b, MCR, OUT2);
	out8(&b, IER, RDI);
	assert_int_equal(receive("ab"), 1);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, IIR), 0x04);
	assert_int_equal(in8(&b, LSR), EMPTY | DR);
	assert_int_equal(receive("b"), 0);
	assert_int_equal(sent.room, 0);
	assert_int_equal(in8(&b, DATA), 'a');
	assert_int_equal(sent.room, 1);
	assert_false(b.wire.level);
	assert_int_equal(in8(&b, LSR), EMPTY);
	assert_int_equal(receive("b"), 1);
	assert_int_equal(in8(&b, DATA), 'b');
	assert_int_equal(sent.room, 1);	/* nothing was refused this time */
}

static void fifo_and_trigger(void **state)
{
	static const uint8_t fcr[] = { 0x01, 0x41, 0x81, 0xc1 };
	static const unsigned level[] = { 1, 4, 8, 14 };
	for (unsigned i = 0; i < ARRAY_SIZE(fcr); i++) {
		start(fcr[i] | 2, RDI);
		for (unsigned n = 1; n <= 16; n++) {
			assert_int_equal(receive("x"), 1);
			assert_int_equal(b.wire.level, n >= level[i]);
		}
		assert_int_equal(receive("y"), 0);
		assert_int_equal(in8(&b, IIR), INT_DATA);
		for (unsigned n = 16; n >= level[i]; n--)
			assert_int_equal(in8(&b, DATA), 'x');
		assert_false(b.wire.level);
	}
	/* room() may send more from inside the read that made the room. */
	sent.room = 0;
	sent.more = 20;
	start(0x03, RDI);
	assert_int_equal(sent.room, 1);
	assert_int_equal(sent.more, 4);
	for (unsigned n = 0; n < 16; n++)
		in8(&b, DATA);
	assert_int_equal(sent.more, 0);
	assert_int_equal(in8(&b, LSR) & DR, DR);
}

static void character_timeout(void **state)
{
	out8(&b, LCR, DLAB | 3);
	out16(&b, DATA, 1);	/* 115200 */
	out8(&b, LCR, 3);
	start(0xc1, RDI);
	receive("abc");
	advance(&b, 340 * US);	/* 4 characters of 10 bits are 347 us */
	assert_false(b.wire.level);
	advance(&b, 10 * US);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, IIR), INT_TIMEOUT);
	assert_int_equal(in8(&b, DATA), 'a');
	assert_false(b.wire.level);	/* and begins anew */
	advance(&b, 350 * US);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, DATA), 'b');
	assert_int_equal(in8(&b, DATA), 'c');
	assert_int_equal(advance(&b, 1000 * MS), 0);
	assert_false(b.wire.level);
	/* No divisor makes it longer than a tenth of a second, or none at all. */
	out8(&b, LCR, DLAB | 3);
	out16(&b, DATA, 0xffff);
	out8(&b, LCR, 3);
	receive("d");
	assert_int_equal(advance(&b, 100 * MS), 1);
	assert_true(b.wire.level);
	out8(&b, LCR, DLAB | 3);
	out16(&b, DATA, 0);
	out8(&b, LCR, 3);
	assert_int_equal(in8(&b, DATA), 'd');
	receive("e");
	assert_int_equal(advance(&b, 1000 * MS), 1);
}

static void loopback(void **state)
{
	start(0x01, RDI | RLSI | MSI);
	out8(&b, MCR, LOOP | OUT2);
	assert_int_equal(in8(&b, IIR), INT_MODEM);
	assert_int_equal(in8(&b, MSR), 0x83);	/* DCD stays; DSR and CTS fell */
	assert_int_equal(in8(&b, MSR), 0x80);
	out8(&b, MCR, LOOP | OUT2 | 0x04);
	assert_int_equal(in8(&b, MSR), 0xc0);	/* RI rising is no event */
	out8(&b, MCR, LOOP | OUT2);
	assert_int_equal(in8(&b, MSR), 0x84);
	assert_int_equal(in8(&b, IIR), NO_INT);
	assert_int_equal(receive("x"), 0);	/* the wire is cut */
	for (unsigned i = 0; i < 16; i++)
		out8(&b, DATA, (uint8_t)i);
	assert_int_equal(in8(&b, IIR), INT_DATA);
	out8(&b, DATA, 99);
	assert_int_equal(in8(&b, IIR), INT_LINE);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, LSR), EMPTY | DR | OE);
	assert_int_equal(in8(&b, LSR), EMPTY | DR);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(in8(&b, DATA), i);
	assert_int_equal(sent.n, 0);
	assert_int_equal(sent.room, 0);
	out8(&b, MCR, OUT2);
	assert_int_equal(sent.room, 1);	/* the wire is whole again */
	/* Turning the FIFOs off empties them. */
	receive("abc");
	out8(&b, FCR, 0);
	assert_int_equal(in8(&b, LSR), EMPTY);
}

/* Reading IIR names the pending ones in their order. */
static void priorities(void **state)
{
	start(0x01, 0);
	out8(&b, MCR, LOOP | OUT2);
	for (unsigned i = 0; i < 17; i++)
		out8(&b, DATA, 1);
	out8(&b, IER, 0x0f);
	assert_int_equal(in8(&b, IIR), INT_LINE);
	in8(&b, LSR);
	assert_int_equal(in8(&b, IIR), INT_DATA);
	out8(&b, FCR, 0x03);
	assert_int_equal(in8(&b, IIR), INT_THRE);
	assert_int_equal(in8(&b, IIR), INT_MODEM);
	in8(&b, MSR);
	assert_int_equal(in8(&b, IIR), NO_INT);
	assert_false(b.wire.level);
}

static void saved_state(void **state)
{
	out8(&b, LCR, DLAB);
	out16(&b, DATA, 3);
	out8(&b, LCR, 0x1b);
	out8(&b, SCR, 0x42);
	start(0xc1, RDI | THRI);
	receive("abc");
	assert_int_equal(in8(&b, DATA), 'a');
	advance(&b, 100 * US);
	check_round_trip(uart);
	assert_true(b.wire.level);
	assert_int_equal(in8(&b, IIR), INT_THRE);
	assert_int_equal(in8(&b, SCR), 0x42);
	advance(&b, 2 * MS);
	assert_int_equal(in8(&b, IIR), INT_TIMEOUT);
	assert_int_equal(in8(&b, DATA), 'b');
	assert_int_equal(in8(&b, DATA), 'c');
	receive("d");
	device_reset(uart);
	assert_false(b.wire.level);
	assert_int_equal(in8(&b, LSR), EMPTY);
	assert_int_equal(in8(&b, LCR), 0);
	assert_int_equal(advance(&b, 1000 * MS), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(detected_as_16550a),
		CASE(divisor_latch),
		CASE(transmits),
		CASE(receives_without_fifo),
		CASE(fifo_and_trigger),
		CASE(character_timeout),
		CASE(loopback),
		CASE(priorities),
		CASE(saved_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
