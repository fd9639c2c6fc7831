#include "board/i8254.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

/* Names are those of Intel's 82C54 data sheet.
 *
 * Nothing counts here: a counter remembers at which tick of the 1,193,182 Hz
 * clock its count was loaded, and count, output and the next rising edge follow
 * from the ticks elapsed since. A count that was written but has not reached the
 * counting element yet (it does so at the next clock, at the end of a period, or
 * at a trigger) waits in `written` with `null_count` set; settle() moves it when
 * its time has come and is called before anything looks at the counter.
 *
 * Only counter 0 has a timer, for its rising edges; the falling ones are not
 * worth one, for nobody listens to them: rise() drives the line low and high. */

enum { COUNTERS = 3, SPEAKER = 2, CONTROL = 3 };

enum control_word {
	CONTROL_BCD = BIT(0),
	CONTROL_READ_BACK = 3,	/* in place of a counter */
	READ_BACK_NO_COUNT = BIT(5),
	READ_BACK_NO_STATUS = BIT(4),
	STATUS_OUT = BIT(7),
	STATUS_NULL_COUNT = BIT(6),
};

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

enum mode {
	MODE_TERMINAL_COUNT,
	MODE_ONE_SHOT,
	MODE_RATE,
	MODE_SQUARE,
	MODE_SOFTWARE_STROBE,
	MODE_HARDWARE_STROBE,
};

enum port_b {
	PORT_B_GATE2 = BIT(0),
	PORT_B_SPEAKER = BIT(1),
	PORT_B_CHECKS = 0x0c,	/* parity and channel check disables, kept only */
	PORT_B_WRITABLE = PORT_B_GATE2 | PORT_B_SPEAKER | PORT_B_CHECKS,
	PORT_B_REFRESH = BIT(4),
	PORT_B_OUT2 = BIT(5),
	REFRESH_TICKS = 18,	/* a toggle every 15 us */
};

#define TICK_NEVER INT64_MAX
/* No honest counter was loaded longer ago than a century. */
#define TICKS_MOST ((int64_t)I8254_HZ * 60 * 60 * 24 * 36525)

struct counter {
	uint8_t mode, access;
	bool bcd, gate;

	uint16_t written;	/* the count register */
	bool null_count;	/* `written` is not in the counting element yet */
	int64_t load_at;	/* the tick when it will be; TICK_NEVER: at a trigger */
	uint8_t low_byte;	/* first of two bytes, while write_high */
	bool write_high;

	bool counting;		/* has a count (and, in modes 1 and 5, a trigger) */
	uint16_t loaded;	/* what it counts from */
	int64_t start;		/* tick of the loading */
	int64_t held;		/* ticks elapsed when the gate closed (modes 0, 4) */

	bool read_high;		/* next byte read is the high one */
	bool count_latched, status_latched;
	uint16_t latched_count;
	uint8_t latched_status;
};

struct i8254 {
	struct device device;
	struct clock *clock;
	struct irq_line irq0;
	struct timer timer;
	struct counter counter[COUNTERS];
	uint8_t port_b;
	bool irq_level;
	int64_t rise_at;	/* the tick of counter 0's next rising edge */
	int64_t last_rise;	/* for I8254_MIN_PERIOD */
};

static int64_t ticks_now(const struct i8254 *pit)
{
	return (int64_t)scale_u64(clock_now(pit->clock), I8254_HZ, NS_PER_SECOND);
}

/* The first nanosecond at which ticks_now() is `tick`. */
static uint64_t tick_to_ns(int64_t tick)
{
	unsigned __int128 ns = (unsigned __int128)tick * NS_PER_SECOND + I8254_HZ - 1;
	return (uint64_t)(ns / I8254_HZ);
}

static bool is_periodic(const struct counter *c)
{
	return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

static bool is_triggered(const struct counter *c)
{
	return c->mode == MODE_ONE_SHOT || c->mode == MODE_HARDWARE_STROBE;
}

static unsigned modulus(const struct counter *c)
{
	return c->bcd ? 10000 : 0x10000;
}

/* A count register as a number of clocks; 0 stands for the most. */
static unsigned clocks(const struct counter *c, uint16_t count)
{
	unsigned n = count;
	if (c->bcd)
		n = (count >> 12) * 1000 + (count >> 8 & 15) * 100 + (count >> 4 & 15) * 10 +
			(count & 15);
	if (!n)
		n = modulus(c);
	/* A count of 1 is not allowed in the periodic modes. */
	return n == 1 && is_periodic(c) ? 2 : n;
}

static uint16_t to_count(const struct counter *c, int64_t n)
{
	unsigned m = modulus(c);
	unsigned v = (unsigned)((n % m + m) % m);
	if (!c->bcd)
		return (uint16_t)v;
	return (uint16_t)(v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

/* Clocks of a square wave's high half. */
static int64_t high_half(const struct counter *c)
{
	return (clocks(c, c->loaded) + 1) / 2;
}

/* Clocks counted since the loading. */
static int64_t elapsed(const struct counter *c, int64_t now)
{
	int64_t n = now - c->start;
	if (!c->gate && (c->mode == MODE_TERMINAL_COUNT || c->mode == MODE_SOFTWARE_STROBE))
		n = c->held;
	return n < 0 ? 0 : n;
}

static void settle(struct counter *c, int64_t now)
{
	if (!c->null_count || c->load_at > now)
		return;
	/* A square wave takes a new count over at either half's end; one that
	 * ends the high half goes on with the low half. */
	bool low_half = c->counting && c->mode == MODE_SQUARE && c->gate &&
		(c->load_at - c->start) % clocks(c, c->loaded) == high_half(c);
	c->loaded = c->written;
	c->null_count = false;
	c->counting = true;
	c->start = c->load_at - (low_half ? high_half(c) : 0);
	c->held = 0;
}

static bool output(const struct counter *c, int64_t now)
{
	int64_t n = clocks(c, c->loaded), e = elapsed(c, now);
	if (!c->counting)
		return c->mode != MODE_TERMINAL_COUNT;
	switch ((enum mode)c->mode) {
	case MODE_TERMINAL_COUNT:
	case MODE_ONE_SHOT:
		return e >= n;
	case MODE_RATE:
		return !c->gate || e % n != n - 1;
	case MODE_SQUARE:
		return !c->gate || e % n < high_half(c);
	case MODE_SOFTWARE_STROBE:
	case MODE_HARDWARE_STROBE:
		return e != n;
	}
	return true;
}

static uint16_t current_count(const struct counter *c, int64_t now)
{
	int64_t n = clocks(c, c->loaded), e = elapsed(c, now);
	if (!c->counting)
		return c->loaded;
	if (is_periodic(c)) {
		e = c->gate ? e % n : 0;
		if (c->mode == MODE_SQUARE)
			return to_count(c, n / 2 * 2 -
					2 * (e < high_half(c) ? e : e - high_half(c)));
	}
	return to_count(c, n - e);
}

/* The first tick after `after` at which the output of a counter whose count is
 * loaded rises. Of a one-shot its only one, be it past `after` or not. */
static int64_t next_rise(const struct counter *c, int64_t now, int64_t after)
{
	int64_t n = clocks(c, c->loaded), e = elapsed(c, now);
	if (!c->counting || (!c->gate && !is_triggered(c)))
		return TICK_NEVER;
	if (is_periodic(c))
		return after < c->start ? c->start + n :
			c->start + ((after - c->start) / n + 1) * n;
	if (c->mode == MODE_SOFTWARE_STROBE || c->mode == MODE_HARDWARE_STROBE)
		n++;
	return e < n ? c->start + n : TICK_NEVER;
}

/* Arm the timer for the next rising edge of counter 0. */
static void arm(struct i8254 *pit, int64_t now)
{
	const struct counter *c = &pit->counter[0];
	int64_t soonest = pit->last_rise + I8254_MIN_PERIOD, rise;
	rise = next_rise(c, now, soonest - 1 > now ? soonest - 1 : now);
	if (c->null_count && c->load_at != TICK_NEVER && rise > c->load_at) {
		struct counter next = *c;
		settle(&next, next.load_at);
		rise = next_rise(&next, next.load_at,
				 soonest - 1 > next.load_at ? soonest - 1 : next.load_at);
	}
	pit->rise_at = rise;
	if (rise == TICK_NEVER)
		timer_cancel(pit->clock, &pit->timer);
	else
		timer_set(pit->clock, &pit->timer, tick_to_ns(rise > soonest ? rise : soonest));
}

/* Something about counter 0 has changed: drive irq0 as its output is now. */
static void update_irq0(struct i8254 *pit, int64_t now)
{
	bool level = output(&pit->counter[0], now);
	if (level != pit->irq_level) {
		pit->irq_level = level;
		irq_set(&pit->irq0, level);
	}
	arm(pit, now);
}

static void rise(void *owner)
{
	struct i8254 *pit = owner;
	int64_t now = ticks_now(pit);
	settle(&pit->counter[0], now);
	irq_set(&pit->irq0, false);
	irq_set(&pit->irq0, true);
	pit->irq_level = true;
	pit->last_rise = now;
	arm(pit, now);
}

/* An edge that the timer has not come to deliver yet is not lost when the guest
 * programs the counter anew. */
static void deliver_overdue(struct i8254 *pit, int64_t now)
{
	if (pit->rise_at <= now)
		rise(pit);
}

/* A whole count has been written. */
static void write_count(struct counter *c, uint16_t count, int64_t now)
{
	c->written = count;
	c->null_count = true;
	if (is_triggered(c))
		c->load_at = TICK_NEVER;
	else if (!is_periodic(c) || !c->counting)
		c->load_at = now + 1;
	else if (!c->gate)
		c->load_at = TICK_NEVER;
	else {
		int64_t n = clocks(c, c->loaded), e = elapsed(c, now);
		int64_t period = now - e % n;
		c->load_at = period + n;
		if (c->mode == MODE_SQUARE && e % n < high_half(c))
			c->load_at = period + high_half(c);
		if (c->start > now)
			c->load_at = c->start;
	}
}

static void counter_write(struct counter *c, uint8_t value, int64_t now)
{
	switch ((enum access)c->access) {
	case ACCESS_LATCH:
		return;	/* not programmed yet */
	case ACCESS_LOW:
		write_count(c, value, now);
		return;
	case ACCESS_HIGH:
		write_count(c, (uint16_t)(value << 8), now);
		return;
	case ACCESS_BOTH:
		c->write_high = !c->write_high;
		if (!c->write_high)
			write_count(c, (uint16_t)(value << 8 | c->low_byte), now);
		else {
			c->low_byte = value;
			/* The first byte of a new count stops mode 0. */
			if (c->mode == MODE_TERMINAL_COUNT) {
				c->loaded = current_count(c, now);
				c->counting = false;
				c->null_count = false;
			}
		}
	}
}

static uint8_t read_half(struct counter *c, uint16_t count, bool *last)
{
	bool high = c->access == ACCESS_HIGH;
	*last = true;
	if (c->access == ACCESS_BOTH) {
		high = c->read_high;
		c->read_high = !c->read_high;
		*last = high;
	}
	return (uint8_t)(high ? count >> 8 : count);
}

static uint8_t counter_read(struct counter *c, int64_t now)
{
	bool last;
	uint8_t value;
	if (c->status_latched) {
		c->status_latched = false;
		return c->latched_status;
	}
	if (!c->count_latched)
		return read_half(c, current_count(c, now), &last);
	value = read_half(c, c->latched_count, &last);
	c->count_latched = !last;
	return value;
}

static void latch_count(struct counter *c, int64_t now)
{
	if (c->count_latched)
		return;
	c->count_latched = true;
	c->latched_count = current_count(c, now);
}

static void latch_status(struct counter *c, int64_t now)
{
	if (c->status_latched)
		return;
	c->status_latched = true;
	c->latched_status = (uint8_t)((output(c, now) ? STATUS_OUT : 0) |
		(c->null_count || !c->counting ? STATUS_NULL_COUNT : 0) |
		c->access << 4 | c->mode << 1 | c->bcd);
}

static void write_control(struct i8254 *pit, uint8_t value, int64_t now)
{
	unsigned select = value >> 6;
	unsigned access = value >> 4 & 3;
	unsigned mode = value >> 1 & 7;
	if (select == CONTROL_READ_BACK) {
		for (unsigned i = 0; i < COUNTERS; i++) {
			struct counter *c = &pit->counter[i];
			if (!(value & BIT(i + 1)))
				continue;
			settle(c, now);
			if (!(value & READ_BACK_NO_COUNT))
				latch_count(c, now);
			if (!(value & READ_BACK_NO_STATUS))
				latch_status(c, now);
		}
		return;
	}
	struct counter *c = &pit->counter[select];
	settle(c, now);
	if (access == ACCESS_LATCH) {
		latch_count(c, now);
		return;
	}
	*c = (struct counter){
		.access = (uint8_t)access,
		/* Bit 2 of modes 2 and 3 does not count. */
		.mode = (uint8_t)(mode > MODE_HARDWARE_STROBE ? mode - 4 : mode),
		.bcd = value & CONTROL_BCD,
		.gate = c->gate,
		.loaded = current_count(c, now),
		.load_at = TICK_NEVER,
	};
}

static void set_gate(struct counter *c, bool gate, int64_t now)
{
	settle(c, now);
	if (gate == c->gate)
		return;
	if (!gate) {
		c->held = elapsed(c, now);
		c->gate = false;
		/* A periodic count that waits for a period's end now waits for
		 * the gate, which begins a new one. */
		if (is_periodic(c) && c->null_count && c->counting)
			c->load_at = TICK_NEVER;
		return;
	}
	c->gate = true;
	if (is_triggered(c) || is_periodic(c)) {
		if (!c->null_count && c->counting)
			c->start = now + 1;
		else if (!c->null_count)
			return;
		else
			c->load_at = now + 1;
		/* The wave begins anew, whatever half it was in. */
		if (is_periodic(c) && c->null_count)
			c->counting = false;
	} else
		c->start = now - c->held;
}

static uint8_t pit_read_byte(void *owner, unsigned offset)
{
	struct i8254 *pit = owner;
	int64_t now = ticks_now(pit);
	if (offset == CONTROL)
		return 0xff;
	settle(&pit->counter[offset], now);
	return counter_read(&pit->counter[offset], now);
}

static void pit_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct i8254 *pit = owner;
	int64_t now = ticks_now(pit);
	deliver_overdue(pit, now);
	if (offset == CONTROL)
		write_control(pit, value, now);
	else {
		settle(&pit->counter[offset], now);
		counter_write(&pit->counter[offset], value, now);
	}
	settle(&pit->counter[0], now);
	update_irq0(pit, now);
}

static uint8_t port_b_read_byte(void *owner, unsigned offset)
{
	struct i8254 *pit = owner;
	struct counter *c = &pit->counter[SPEAKER];
	int64_t now = ticks_now(pit);
	settle(c, now);
	return (uint8_t)(pit->port_b | (output(c, now) ? PORT_B_OUT2 : 0) |
			 (now / REFRESH_TICKS & 1 ? PORT_B_REFRESH : 0));
}

static void port_b_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct i8254 *pit = owner;
	pit->port_b = value & PORT_B_WRITABLE;
	set_gate(&pit->counter[SPEAKER], value & PORT_B_GATE2, ticks_now(pit));
}

ISA_OPS(pit);
ISA_OPS(port_b);

static const struct isa_range i8254_ranges[] = {
	{ I8254_BASE, 4, &pit_ops },
	{ I8254_PORT_B, 1, &port_b_ops },
};

static void i8254_reset(struct device *d)
{
	struct i8254 *pit = container_of(d, struct i8254, device);
	for (unsigned i = 0; i < COUNTERS; i++)
		pit->counter[i] = (struct counter){ .gate = i != SPEAKER,
						    .load_at = TICK_NEVER };
	pit->port_b = 0;
	pit->last_rise = ticks_now(pit) - I8254_MIN_PERIOD;
	update_irq0(pit, ticks_now(pit));
}

/* Ticks are saved relative to now, so that they fit whatever the clock says
 * when they are loaded. */
static uint64_t save_tick(int64_t tick, int64_t now)
{
	return (uint64_t)(tick == TICK_NEVER ? TICK_NEVER : tick - now);
}

static int64_t load_tick(uint64_t saved, int64_t now, struct state *s)
{
	int64_t tick = (int64_t)saved;
	if (tick == TICK_NEVER)
		return tick;
	if (tick > TICKS_MOST || tick < -TICKS_MOST) {
		s->failed = true;
		return now;
	}
	return now + tick;
}

/* Ticks since the last rising edge, as far as they matter. */
static int64_t since_rise(const struct i8254 *pit, int64_t now)
{
	int64_t ticks = now - pit->last_rise;
	return ticks < I8254_MIN_PERIOD ? ticks : I8254_MIN_PERIOD;
}

static void exchange_tick(int64_t *tick, int64_t now, struct state *s)
{
	if (s->loading)
		*tick = load_tick(state_get(s, 8), now, s);
	else
		state_put(s, save_tick(*tick, now), 8);
}

static void exchange_counter(struct counter *c, int64_t now, struct state *s)
{
	state_field(s, c->mode);
	state_field(s, c->access);
	state_field(s, c->bcd);
	state_field(s, c->gate);
	state_field(s, c->written);
	state_field(s, c->null_count);
	exchange_tick(&c->load_at, now, s);
	state_field(s, c->low_byte);
	state_field(s, c->write_high);
	state_field(s, c->counting);
	state_field(s, c->loaded);
	exchange_tick(&c->start, now, s);
	state_field(s, c->held);
	state_field(s, c->read_high);
	state_field(s, c->count_latched);
	state_field(s, c->status_latched);
	state_field(s, c->latched_count);
	state_field(s, c->latched_status);
}

static void i8254_save(const struct device *d, struct state *s)
{
	const struct i8254 *pit = container_of(d, const struct i8254, device);
	int64_t now = ticks_now(pit);
	state_section(s, d->ops->name, 1);
	for (unsigned i = 0; i < COUNTERS; i++) {
		struct counter c = pit->counter[i];
		settle(&c, now);
		exchange_counter(&c, now, s);
	}
	state_put_field(s, pit->port_b);
	state_put_field(s, pit->irq_level);
	state_put(s, pit->rise_at <= now, 1);
	state_put(s, (uint64_t)since_rise(pit, now), 1);
}

static int i8254_load(struct device *d, struct state *s, struct error *e)
{
	struct i8254 *pit = container_of(d, struct i8254, device);
	int64_t now = ticks_now(pit);
	bool overdue;
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	for (unsigned i = 0; i < COUNTERS; i++) {
		struct counter *c = &pit->counter[i];
		exchange_counter(c, now, s);
		if (c->mode > MODE_HARDWARE_STROBE || c->access > ACCESS_BOTH ||
		    c->start == TICK_NEVER || c->held < 0 || c->held > TICKS_MOST)
			s->failed = true;
	}
	state_get_field(s, pit->port_b);
	state_get_field(s, pit->irq_level);
	overdue = state_get(s, 1);
	pit->last_rise = now - (int64_t)state_get(s, 1);
	pit->port_b &= PORT_B_WRITABLE;
	if (state_finish(s, d->ops->name, e)) {
		i8254_reset(d);
		return -1;
	}
	irq_set(&pit->irq0, pit->irq_level);
	arm(pit, now);
	if (overdue) {
		pit->rise_at = now;
		timer_set(pit->clock, &pit->timer, tick_to_ns(now));
	}
	return 0;
}

static const struct device_ops i8254_device_ops = {
	"i8254", i8254_reset, i8254_save, i8254_load
};

struct i8254 *i8254_create(struct bus *bus, struct clock *clock, struct irq_line irq0,
			   struct error *e)
{
	struct i8254 *pit = alloc_zeroed(1, sizeof *pit);
	pit->device.ops = &i8254_device_ops;
	pit->clock = clock;
	pit->irq0 = irq0;
	pit->timer = (struct timer){ .fire = rise, .owner = pit, .deadline = CLOCK_NEVER };
	if (isa_claim(bus, i8254_ranges, ARRAY_SIZE(i8254_ranges), pit, "i8254", e)) {
		free(pit);
		return NULL;
	}
	i8254_reset(&pit->device);
	return pit;
}

void i8254_destroy(struct i8254 *pit)
{
	timer_cancel(pit->clock, &pit->timer);
	free(pit);
}
