/* What the chips' tests share: a bus with a counted clock, a wire and a machine
 * that remember what was done to them, and port access by name. */
#ifndef NESTOR_TESTS_CHIP_H
#define NESTOR_TESTS_CHIP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/clock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "bus/machine.h"

#define US 1000ull
#define MS 1000000ull

struct wire {
	bool level;
	unsigned rises;
};

struct machine_log {
	unsigned requests;
	enum machine_request last;
	uint32_t value;
};

struct board {
	struct bus *bus;
	struct clock *clock;
	struct wire wire;
	struct machine_log machine;
	struct error error;
};

static inline void wire_set(void *owner, unsigned pin, bool level)
{
	struct wire *w = owner;
	w->rises += level && !w->level;
	w->level = level;
}

static inline void machine_note(void *owner, enum machine_request request, uint32_t value)
{
	struct machine_log *m = owner;
	m->requests++;
	m->last = request;
	m->value = value;
}

static inline void board_open(struct board *b)
{
	*b = (struct board){ .bus = bus_create() };
	b->clock = clock_create(bus_lock(b->bus), true);
}

static inline void board_close(struct board *b)
{
	clock_destroy(b->clock);
	bus_destroy(b->bus);
}

static inline struct irq_line board_irq(struct board *b)
{
	return (struct irq_line){ .set = wire_set, .owner = &b->wire };
}

static inline struct machine_control board_machine(struct board *b)
{
	return (struct machine_control){ .request = machine_note, .owner = &b->machine };
}

static inline uint8_t in8(struct board *b, uint16_t port)
{
	return (uint8_t)bus_read(b->bus, BUS_IO, port, 1);
}

static inline uint16_t in16(struct board *b, uint16_t port)
{
	return (uint16_t)bus_read(b->bus, BUS_IO, port, 2);
}

static inline uint32_t in32(struct board *b, uint16_t port)
{
	return (uint32_t)bus_read(b->bus, BUS_IO, port, 4);
}

static inline void out8(struct board *b, uint16_t port, uint8_t value)
{
	bus_write(b->bus, BUS_IO, port, 1, value);
}

static inline void out16(struct board *b, uint16_t port, uint16_t value)
{
	bus_write(b->bus, BUS_IO, port, 2, value);
}

static inline void out32(struct board *b, uint16_t port, uint32_t value)
{
	bus_write(b->bus, BUS_IO, port, 4, value);
}

/* Let time pass; every timer fires at its own moment. Returns how many
 * moments there were. */
static inline unsigned advance(struct board *b, uint64_t ns)
{
	uint64_t end = clock_now(b->clock) + ns;
	unsigned moments = 0;
	for (;;) {
		uint64_t next = clock_next_deadline(b->clock), now = clock_now(b->clock);
		if (next > end)
			break;
		if (next > now)
			clock_advance(b->clock, next - now);
		clock_run_due(b->clock);
		moments++;
	}
	clock_advance(b->clock, end - clock_now(b->clock));
	return moments;
}

static inline struct state device_saved(const void *chip)
{
	const struct device *d = chip;
	struct state s = { 0 };
	d->ops->save(d, &s);
	return s;
}

static inline int device_loaded(void *chip, struct state *s, struct error *e)
{
	struct device *d = chip;
	s->at = 0;
	s->failed = false;
	return d->ops->load(d, s, e);
}

static inline void device_reset(void *chip)
{
	struct device *d = chip;
	d->ops->reset(d);
}

/* Save, reset, load, save again: nothing may be lost. A state cut short must be
 * refused and leave the chip usable; at the end it is as it was. */
static inline void check_round_trip(void *chip)
{
	struct error e;
	struct state first = device_saved(chip), second;
	device_reset(chip);
	assert_int_equal(device_loaded(chip, &first, &e), 0);
	assert_int_equal(first.at, first.size);
	second = device_saved(chip);
	assert_int_equal(first.size, second.size);
	assert_memory_equal(first.data, second.data, first.size);
	second.size--;
	assert_int_equal(device_loaded(chip, &second, &e), -1);
	assert_int_equal(device_loaded(chip, &first, &e), 0);
	state_free(&first);
	state_free(&second);
}

#endif
