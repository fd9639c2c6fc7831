#include "board/mc146818.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>
#include <time.h>

/* Names are those of Motorola's MC146818A data sheet.
 *
 * While the clock runs (register B's SET clear, the divider of register A at
 * 32,768 Hz) nothing is stored: the time is second0 + (VM clock + phase), and
 * the time bytes are made when they are read. While it is stopped the time bytes
 * in cmos[] are the time; start_clock() and stop_clock() go between the two.
 *
 * sync() raises the flags of register C for what has happened since the last
 * look. A timer is armed only for a flag whose interrupt is enabled, and only
 * while the interrupt line is low: it stays high until register C is read, so a
 * guest that does not answer costs nothing. */

enum register_a {
	A_UIP = BIT(7),
	A_DIVIDER = 0x70,
	A_DIVIDER_32768 = 0x20,
	A_RATE = 0x0f,
	A_RESET = A_DIVIDER_32768 | 6,
};

enum register_b {
	B_SET = BIT(7),
	B_PIE = BIT(6),
	B_AIE = BIT(5),
	B_UIE = BIT(4),
	B_SQWE = BIT(3),
	B_BINARY = BIT(2),
	B_24_HOURS = BIT(1),
};

/* Register C; its flags are at the places of their enables in B. */
enum register_c {
	C_IRQF = BIT(7),
	C_PF = BIT(6),
	C_AF = BIT(5),
	C_UF = BIT(4),
	C_FLAGS = C_PF | C_AF | C_UF,
};

enum { D_VRT = BIT(7) };
enum { HOURS_PM = BIT(7), ALARM_ANY = 0xc0 };
enum { CRYSTAL_HZ = 32768 };
enum { DAY_SECONDS = 86400, HOUR_SECONDS = 3600, MINUTE_SECONDS = 60 };
/* UIP comes 244 us before the update, which takes 1984 us. Ours takes effect
 * at the end. */
enum { UIP_NS = 244000 + 1984000 };
/* The largest distance from 1970 that a saved time may have: the year 9999 and
 * what carries over. */
#define SECOND_MOST (1ll << 40)
enum { EQUIPMENT_COPROCESSOR = BIT(1) };
enum { BASE_MEMORY_KIB = 640 };

/* The divider held in reset is let go half a second before its next update. */
#define RESTART_PHASE (NS_PER_SECOND / 2)

struct mc146818 {
	struct device device;
	struct clock *clock;
	struct irq_line irq8;
	struct timer timer;
	uint64_t low_memory, high_memory;
	uint8_t index;
	uint8_t cmos[CMOS_SIZE];	/* A to C included; time bytes while stopped */
	int64_t second0;	/* time when VM clock + phase is 0 */
	uint64_t phase;		/* ns, less than a second */
	int64_t seen_second;	/* up to where sync() has looked */
	uint64_t seen_period;
	bool irq_level;
};

static const uint8_t time_bytes[] = {
	CMOS_SECONDS, CMOS_MINUTES, CMOS_HOURS, CMOS_DAY_OF_WEEK, CMOS_DAY_OF_MONTH,
	CMOS_MONTH, CMOS_YEAR, CMOS_CENTURY,
};

static bool is_time_byte(unsigned index)
{
	for (unsigned i = 0; i < ARRAY_SIZE(time_bytes); i++)
		if (time_bytes[i] == index)
			return true;
	return false;
}

static bool divider_runs(const struct mc146818 *rtc)
{
	return (rtc->cmos[CMOS_REGISTER_A] & A_DIVIDER) == A_DIVIDER_32768;
}

static bool clock_runs(const struct mc146818 *rtc)
{
	return divider_runs(rtc) && !(rtc->cmos[CMOS_REGISTER_B] & B_SET);
}

/* Nanoseconds that the divider chain has counted. */
static uint64_t divider_now(const struct mc146818 *rtc)
{
	return clock_now(rtc->clock) + rtc->phase;
}

static int64_t second_now(const struct mc146818 *rtc)
{
	return rtc->second0 + (int64_t)(divider_now(rtc) / NS_PER_SECOND);
}

/* Length of the periodic interrupt's period in crystal clocks; 0: none. */
static unsigned period_clocks(const struct mc146818 *rtc)
{
	unsigned rate = rtc->cmos[CMOS_REGISTER_A] & A_RATE;
	if (!rate)
		return 0;
	/* Rates 1 and 2 are 8 and 9 again at this crystal. */
	return 1u << (rate <= 2 ? rate + 6 : rate - 1);
}

static uint64_t period_now(const struct mc146818 *rtc)
{
	unsigned n = period_clocks(rtc);
	return n ? scale_u64(divider_now(rtc), CRYSTAL_HZ, NS_PER_SECOND) / n : 0;
}

/* -- the time bytes -- */

static uint8_t encode(const struct mc146818 *rtc, unsigned v)
{
	if (rtc->cmos[CMOS_REGISTER_B] & B_BINARY)
		return (uint8_t)v;
	return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

static unsigned decode(const struct mc146818 *rtc, uint8_t v)
{
	if (rtc->cmos[CMOS_REGISTER_B] & B_BINARY)
		return v;
	return (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hours(const struct mc146818 *rtc, unsigned hour)
{
	if (rtc->cmos[CMOS_REGISTER_B] & B_24_HOURS)
		return encode(rtc, hour);
	return (uint8_t)(encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0));
}

static unsigned decode_hours(const struct mc146818 *rtc, uint8_t v)
{
	if (rtc->cmos[CMOS_REGISTER_B] & B_24_HOURS)
		return decode(rtc, v);
	return decode(rtc, v & ~HOURS_PM) % 12 + (v & HOURS_PM ? 12 : 0);
}

static void fill_time_bytes(const struct mc146818 *rtc, int64_t second, uint8_t *cmos)
{
	time_t t = (time_t)second;
	struct tm tm = { 0 };
	gmtime_r(&t, &tm);
	unsigned year = (unsigned)(tm.tm_year + 1900);
	cmos[CMOS_SECONDS] = encode(rtc, (unsigned)tm.tm_sec);
	cmos[CMOS_MINUTES] = encode(rtc, (unsigned)tm.tm_min);
	cmos[CMOS_HOURS] = encode_hours(rtc, (unsigned)tm.tm_hour);
	cmos[CMOS_DAY_OF_WEEK] = encode(rtc, (unsigned)tm.tm_wday + 1);
	cmos[CMOS_DAY_OF_MONTH] = encode(rtc, (unsigned)tm.tm_mday);
	cmos[CMOS_MONTH] = encode(rtc, (unsigned)tm.tm_mon + 1);
	cmos[CMOS_YEAR] = encode(rtc, year % 100);
	cmos[CMOS_CENTURY] = encode(rtc, year / 100 % 100);
}

/* Values out of range carry over, as timegm does it. */
static int64_t time_bytes_to_second(const struct mc146818 *rtc)
{
	const uint8_t *cmos = rtc->cmos;
	struct tm tm = {
		.tm_sec = (int)decode(rtc, cmos[CMOS_SECONDS]),
		.tm_min = (int)decode(rtc, cmos[CMOS_MINUTES]),
		.tm_hour = (int)decode_hours(rtc, cmos[CMOS_HOURS]),
		.tm_mday = (int)decode(rtc, cmos[CMOS_DAY_OF_MONTH]),
		.tm_mon = (int)decode(rtc, cmos[CMOS_MONTH]) - 1,
		.tm_year = (int)(decode(rtc, cmos[CMOS_CENTURY]) * 100 +
				 decode(rtc, cmos[CMOS_YEAR])) - 1900,
	};
	return (int64_t)timegm(&tm);
}

static void stop_clock(struct mc146818 *rtc)
{
	fill_time_bytes(rtc, second_now(rtc), rtc->cmos);
}

static void start_clock(struct mc146818 *rtc)
{
	rtc->second0 = 0;
	rtc->second0 = time_bytes_to_second(rtc) - second_now(rtc);
	rtc->seen_second = second_now(rtc);
}

/* -- interrupts -- */

/* Whether an alarm byte lets this value through. */
static bool alarm_matches(uint8_t alarm, unsigned decoded, unsigned value)
{
	return (alarm & ALARM_ANY) == ALARM_ANY || decoded == value;
}

/* Seconds from `second` to the first alarm after it; 0: there is none. */
static int64_t seconds_to_alarm(const struct mc146818 *rtc, int64_t second)
{
	const uint8_t *cmos = rtc->cmos;
	int64_t day = second / DAY_SECONDS * DAY_SECONDS;
	if (day > second)
		day -= DAY_SECONDS;
	unsigned from = (unsigned)(second - day);
	unsigned at = from + 1;
	/* A field that does not fit is skipped as a whole: at most some 150
	 * steps. */
	while (at <= from + DAY_SECONDS) {
		unsigned t = at % DAY_SECONDS;
		if (!alarm_matches(cmos[CMOS_HOURS_ALARM],
				   decode_hours(rtc, cmos[CMOS_HOURS_ALARM]), t / HOUR_SECONDS))
			at += HOUR_SECONDS - t % HOUR_SECONDS;
		else if (!alarm_matches(cmos[CMOS_MINUTES_ALARM],
					decode(rtc, cmos[CMOS_MINUTES_ALARM]),
					t / MINUTE_SECONDS % 60))
			at += MINUTE_SECONDS - t % MINUTE_SECONDS;
		else if (!alarm_matches(cmos[CMOS_SECONDS_ALARM],
					decode(rtc, cmos[CMOS_SECONDS_ALARM]),
					t % MINUTE_SECONDS))
			at++;
		else
			return at - from;
	}
	return 0;
}

/* When the next flag that may interrupt is due, as a VM clock time. */
static uint64_t next_event(const struct mc146818 *rtc)
{
	uint8_t b = rtc->cmos[CMOS_REGISTER_B];
	uint64_t next = CLOCK_NEVER;
	unsigned period = period_clocks(rtc);
	if (clock_runs(rtc)) {
		uint64_t whole = divider_now(rtc) / NS_PER_SECOND;
		int64_t alarm = b & B_AIE ? seconds_to_alarm(rtc, second_now(rtc)) : 0;
		if (b & B_UIE)
			next = (whole + 1) * NS_PER_SECOND;
		else if (alarm)
			next = (whole + (uint64_t)alarm) * NS_PER_SECOND;
	}
	if (divider_runs(rtc) && period && b & B_PIE) {
		/* Rounded up, so that the period has begun when it fires. */
		uint64_t at = scale_u64((period_now(rtc) + 1) * period, NS_PER_SECOND,
					CRYSTAL_HZ) + 1;
		if (at < next)
			next = at;
	}
	return next == CLOCK_NEVER ? next : next - rtc->phase;
}

static void update_irq(struct mc146818 *rtc)
{
	uint8_t *c = &rtc->cmos[CMOS_REGISTER_C];
	bool level = *c & rtc->cmos[CMOS_REGISTER_B] & C_FLAGS;
	*c = (uint8_t)((*c & C_FLAGS) | (level ? C_IRQF : 0));
	if (level != rtc->irq_level) {
		rtc->irq_level = level;
		irq_set(&rtc->irq8, level);
	}
	timer_set(rtc->clock, &rtc->timer, level ? CLOCK_NEVER : next_event(rtc));
}

/* Raise the flags of what has happened since the last call. */
static void sync(struct mc146818 *rtc)
{
	uint8_t *c = &rtc->cmos[CMOS_REGISTER_C];
	if (clock_runs(rtc)) {
		int64_t now = second_now(rtc);
		if (now != rtc->seen_second) {
			int64_t alarm = seconds_to_alarm(rtc, rtc->seen_second);
			*c |= C_UF;
			if (alarm && alarm <= now - rtc->seen_second)
				*c |= C_AF;
		}
		rtc->seen_second = now;
	}
	if (divider_runs(rtc)) {
		uint64_t period = period_now(rtc);
		if (period != rtc->seen_period)
			*c |= C_PF;
		rtc->seen_period = period;
	}
}

static void fire(void *owner)
{
	struct mc146818 *rtc = owner;
	sync(rtc);
	update_irq(rtc);
}

/* -- ports -- */

static uint8_t data_read(struct mc146818 *rtc)
{
	uint8_t now[CMOS_SIZE], value;
	switch (rtc->index) {
	case CMOS_REGISTER_A:
		value = rtc->cmos[CMOS_REGISTER_A];
		if (clock_runs(rtc) &&
		    divider_now(rtc) % NS_PER_SECOND >= NS_PER_SECOND - UIP_NS)
			value |= A_UIP;
		return value;
	case CMOS_REGISTER_C:
		sync(rtc);
		update_irq(rtc);
		value = rtc->cmos[CMOS_REGISTER_C];
		rtc->cmos[CMOS_REGISTER_C] = 0;
		update_irq(rtc);
		return value;
	}
	if (!is_time_byte(rtc->index) || !clock_runs(rtc))
		return rtc->cmos[rtc->index];
	fill_time_bytes(rtc, second_now(rtc), now);
	return now[rtc->index];
}

/* Registers A and B: what changes whether the clock runs. */
static void control_write(struct mc146818 *rtc, uint8_t value)
{
	bool ran = clock_runs(rtc), divided = divider_runs(rtc);
	/* The bytes are encoded as B said until now. */
	if (ran)
		stop_clock(rtc);
	if (rtc->index == CMOS_REGISTER_A)
		rtc->cmos[CMOS_REGISTER_A] = value & ~A_UIP;
	else
		rtc->cmos[CMOS_REGISTER_B] = value & B_SET ? value & ~B_UIE : value;
	if (divider_runs(rtc) && !divided)
		rtc->phase = (RESTART_PHASE + NS_PER_SECOND -
			      clock_now(rtc->clock) % NS_PER_SECOND) % NS_PER_SECOND;
	rtc->seen_period = period_now(rtc);
	/* A clock that runs on keeps its time whatever format B now asks for. */
	if (clock_runs(rtc) && !ran)
		start_clock(rtc);
}

static void data_write(struct mc146818 *rtc, uint8_t value)
{
	sync(rtc);
	switch (rtc->index) {
	case CMOS_REGISTER_A:
	case CMOS_REGISTER_B:
		control_write(rtc, value);
		break;
	case CMOS_REGISTER_C:
	case CMOS_REGISTER_D:
		return;
	default:
		if (is_time_byte(rtc->index) && clock_runs(rtc)) {
			stop_clock(rtc);
			rtc->cmos[rtc->index] = value;
			start_clock(rtc);
		} else
			rtc->cmos[rtc->index] = value;
	}
	update_irq(rtc);
}

static uint8_t rtc_read_byte(void *owner, unsigned offset)
{
	return offset ? data_read(owner) : 0xff;	/* the index cannot be read */
}

static void rtc_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct mc146818 *rtc = owner;
	if (offset)
		data_write(rtc, value);
	else
		rtc->index = value % CMOS_SIZE;	/* bit 7 masks NMI, of which there is none */
}

ISA_OPS(rtc);

static const struct isa_range mc146818_ranges[] = { { MC146818_PORT, 2, &rtc_ops } };

/* -- device -- */

static uint64_t at_most(uint64_t v, uint64_t most)
{
	return v < most ? v : most;
}

static uint64_t above(uint64_t v, uint64_t floor)
{
	return v > floor ? v - floor : 0;
}

static void fill_memory_size(struct mc146818 *rtc)
{
	uint64_t extended = at_most(above(rtc->low_memory, MIB) / KIB, 0xffff);
	unsigned sum = 0;
	rtc->cmos[CMOS_EQUIPMENT] = EQUIPMENT_COPROCESSOR;
	store_le(&rtc->cmos[CMOS_BASE_MEMORY],
		 at_most(rtc->low_memory / KIB, BASE_MEMORY_KIB), 2);
	store_le(&rtc->cmos[CMOS_EXTENDED_MEMORY], extended, 2);
	store_le(&rtc->cmos[CMOS_EXTENDED_MEMORY_POST], extended, 2);
	store_le(&rtc->cmos[CMOS_MEMORY_ABOVE_16M],
		 at_most(above(rtc->low_memory, 16 * MIB) / (64 * KIB), 0xffff), 2);
	store_le(&rtc->cmos[CMOS_MEMORY_ABOVE_4G],
		 at_most(rtc->high_memory / (64 * KIB), 0xffffff), 3);
	for (unsigned i = 0x10; i < CMOS_CHECKSUM; i++)
		sum += rtc->cmos[i];
	rtc->cmos[CMOS_CHECKSUM] = (uint8_t)(sum >> 8);
	rtc->cmos[CMOS_CHECKSUM + 1] = (uint8_t)sum;
}

/* The battery keeps time and memory over a reset; what the guest left in A and
 * B, or in the bytes that say the memory size, does not matter to the next. */
static void mc146818_reset(struct device *d)
{
	struct mc146818 *rtc = container_of(d, struct mc146818, device);
	rtc->index = CMOS_REGISTER_A;
	control_write(rtc, A_RESET);
	rtc->index = CMOS_REGISTER_B;
	control_write(rtc, B_24_HOURS);
	rtc->index = 0;
	rtc->cmos[CMOS_REGISTER_C] = 0;
	rtc->cmos[CMOS_REGISTER_D] = D_VRT;
	fill_memory_size(rtc);
	rtc->seen_second = second_now(rtc);
	update_irq(rtc);
}

static void mc146818_save(const struct device *d, struct state *s)
{
	const struct mc146818 *rtc = container_of(d, const struct mc146818, device);
	uint64_t divider = divider_now(rtc);
	state_section(s, d->ops->name, 1);
	state_put_field(s, rtc->index);
	state_put_bytes(s, rtc->cmos, sizeof rtc->cmos);
	state_put(s, (uint64_t)second_now(rtc), 8);
	state_put(s, divider % NS_PER_SECOND, 8);
	state_put(s, (uint64_t)(second_now(rtc) - rtc->seen_second), 8);
	state_put(s, period_now(rtc) - rtc->seen_period, 8);
	state_put_field(s, rtc->irq_level);
}

static int mc146818_load(struct device *d, struct state *s, struct error *e)
{
	struct mc146818 *rtc = container_of(d, struct mc146818, device);
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	state_get_field(s, rtc->index);
	state_get_bytes(s, rtc->cmos, sizeof rtc->cmos);
	int64_t second = (int64_t)state_get(s, 8);
	uint64_t fraction = state_get(s, 8);
	uint64_t behind = state_get(s, 8), periods = state_get(s, 8);
	state_get_field(s, rtc->irq_level);
	if (rtc->index >= CMOS_SIZE || fraction >= NS_PER_SECOND || second > SECOND_MOST ||
	    second < -SECOND_MOST || behind > SECOND_MOST)
		s->failed = true;
	if (state_finish(s, d->ops->name, e)) {
		mc146818_reset(d);
		return -1;
	}
	/* Time goes on where it was. */
	rtc->phase = (fraction + NS_PER_SECOND - clock_now(rtc->clock) % NS_PER_SECOND) %
		NS_PER_SECOND;
	rtc->second0 = 0;
	rtc->second0 = second - second_now(rtc);
	rtc->seen_second = second - (int64_t)behind;
	rtc->seen_period = period_now(rtc) - periods;
	irq_set(&rtc->irq8, rtc->irq_level);
	update_irq(rtc);
	return 0;
}

static const struct device_ops mc146818_device_ops = {
	"mc146818", mc146818_reset, mc146818_save, mc146818_load
};

struct mc146818 *mc146818_create(struct bus *bus, struct clock *clock, struct irq_line irq8,
				 uint64_t low_memory, uint64_t high_memory, int64_t epoch,
				 struct error *e)
{
	struct mc146818 *rtc = alloc_zeroed(1, sizeof *rtc);
	struct timespec host;
	rtc->device.ops = &mc146818_device_ops;
	rtc->clock = clock;
	rtc->irq8 = irq8;
	rtc->timer = (struct timer){ .fire = fire, .owner = rtc, .deadline = CLOCK_NEVER };
	rtc->low_memory = low_memory;
	rtc->high_memory = high_memory;
	if (isa_claim(bus, mc146818_ranges, ARRAY_SIZE(mc146818_ranges), rtc, "mc146818", e)) {
		free(rtc);
		return NULL;
	}
	rtc->cmos[CMOS_REGISTER_A] = A_DIVIDER_32768;
	rtc->second0 = epoch;
	if (epoch == -1) {
		clock_gettime(CLOCK_REALTIME, &host);
		uint64_t now = clock_now(clock);
		rtc->phase = ((uint64_t)host.tv_nsec + NS_PER_SECOND - now % NS_PER_SECOND) %
			NS_PER_SECOND;
		rtc->second0 = host.tv_sec - (int64_t)((now + rtc->phase) / NS_PER_SECOND);
	}
	mc146818_reset(&rtc->device);
	return rtc;
}

void mc146818_destroy(struct mc146818 *rtc)
{
	timer_cancel(rtc->clock, &rtc->timer);
	free(rtc);
}
