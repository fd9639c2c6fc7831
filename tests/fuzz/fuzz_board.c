/* A guest that writes random values to every port of the classic chips.
 *
 * Two boards run side by side: one is driven from the beginning, the other is
 * loaded from the first one's saved state at the start of each round. From there
 * both get the same random accesses, received bytes, acknowledges and time, and
 * every value read, every wire and in the end the saved state must be the same:
 * what save and load forget shows as a difference. Then the state is damaged and
 * loaded: it is refused or taken, but the chips go on answering. Time passes in
 * steps in which only so many timers may fire.
 *
 * fuzz_board [seed [rounds]]: the seed is printed, and repeats the run. */
#include "board/acpi_pm.h"
#include "board/debug_port.h"
#include "board/i8042.h"
#include "board/i8254.h"
#include "board/i8259.h"
#include "board/mc146818.h"
#include "board/ns16550.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 300, STEPS = 1000, SECONDS_MOST = 120, CHIPS = 7 };
enum { IRQ_TIMER = 0, IRQ_KEYBOARD = 1, IRQ_SERIAL = 4, IRQ_CLOCK = 8, IRQ_SCI = 9 };

/* Timers that may fire in a second, with all of them as fast as they go: the
 * 8254's rises and, each time register C is read, the clock's. */
enum { FIRES_PER_SECOND = I8254_HZ / I8254_MIN_PERIOD + 8192, FIRES_SLACK = 64,
       FIRES_MOST = 500 };

struct board {
	struct bus *bus;
	struct clock *clock;
	struct i8259 *pic;
	struct ns16550 *uart;
	struct acpi_pm *pm;
	struct device *chip[CHIPS];
	uint64_t seen;		/* a sum over wires, sinks and requests */
};

static const struct { uint16_t first, last; } claims[] = {
	{ I8259_MASTER, I8259_MASTER + 1 },
	{ I8259_SLAVE, I8259_SLAVE + 1 },
	{ I8259_ELCR, I8259_ELCR + 1 },
	{ I8254_BASE, I8254_BASE + 3 },
	{ I8254_PORT_B, I8254_PORT_B },
	{ MC146818_PORT, MC146818_PORT + 1 },
	{ NS16550_COM1, NS16550_COM1 + 7 },
	{ I8042_DATA, I8042_DATA },
	{ I8042_COMMAND, I8042_COMMAND },
	{ I8042_PORT_92, I8042_PORT_92 },
	{ ACPI_PM_BASE, ACPI_PM_BASE + ACPI_PM_SIZE - 1 },
	{ DEBUG_PORT_EXIT, DEBUG_PORT_EXIT + 3 },
	{ DEBUG_PORT_CONSOLE, DEBUG_PORT_CONSOLE },
	{ DEBUG_PORT_POST, DEBUG_PORT_POST },
};

static uint64_t seed, random_state;
static unsigned round_now, step_now;

/* xorshift64*, by Marsaglia and Vigna. */
static uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static unsigned random_below(unsigned n)
{
	return (unsigned)((random_next() >> 32) % n);
}

_Noreturn static void fail(const char *what, uint64_t a, uint64_t b)
{
	printf("FAILED: %s: %#llx and %#llx (seed %llu, round %u, step %u)\n", what,
	       (unsigned long long)a, (unsigned long long)b, (unsigned long long)seed,
	       round_now, step_now);
	exit(1);
}

static void same(const char *what, uint64_t a, uint64_t b)
{
	if (a != b)
		fail(what, a, b);
}

static void note(struct board *b, uint64_t event)
{
	b->seen = (b->seen ^ event) * 0x100000001b3ull;
}

static void note_intr(void *owner, unsigned pin, bool level)
{
	note(owner, 0x100 | level);
}

static void note_request(void *owner, enum machine_request request, uint32_t value)
{
	note(owner, 0x200 | request);
	note(owner, value);
}

static void note_bytes(void *owner, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		note(owner, 0x300 | bytes[i]);
}

static void note_room(void *owner)
{
	note(owner, 0x400);
}

static struct irq_line irq(const struct board *b, unsigned pin)
{
	return (struct irq_line){ i8259_set, b->pic, pin };
}

static void board_open(struct board *b)
{
	const struct machine_control machine = { note_request, b };
	const struct ns16550_sink serial = { note_bytes, note_room, b };
	const struct debug_port_sink console = { note_bytes, b };
	struct error e;
	*b = (struct board){ .bus = bus_create() };
	b->clock = clock_create(bus_lock(b->bus), true);
	b->pic = i8259_create(b->bus, (struct irq_line){ note_intr, b, 0 }, &e);
	b->uart = ns16550_create(b->bus, b->clock, NS16550_COM1, irq(b, IRQ_SERIAL), &serial, &e);
	b->pm = acpi_pm_create(b->bus, b->clock, irq(b, IRQ_SCI), &machine, &e);
	b->chip[0] = (struct device *)b->pic;
	b->chip[1] = (struct device *)b->uart;
	b->chip[2] = (struct device *)b->pm;
	b->chip[3] = (struct device *)i8254_create(b->bus, b->clock, irq(b, IRQ_TIMER), &e);
	b->chip[4] = (struct device *)mc146818_create(b->bus, b->clock, irq(b, IRQ_CLOCK),
						      GIB, GIB, 1709164790, &e);
	b->chip[5] = (struct device *)i8042_create(b->bus, irq(b, IRQ_KEYBOARD), &machine, &e);
	b->chip[6] = (struct device *)debug_port_create(b->bus, &machine, &console, &e);
	for (unsigned i = 0; i < CHIPS; i++)
		if (!b->chip[i])
			panic("chip %u: %s", i, e.text);
}

static void board_close(struct board *b)
{
	ns16550_destroy(b->uart);
	acpi_pm_destroy(b->pm);
	i8254_destroy((struct i8254 *)b->chip[3]);
	mc146818_destroy((struct mc146818 *)b->chip[4]);
	i8042_destroy((struct i8042 *)b->chip[5]);
	debug_port_destroy((struct debug_port *)b->chip[6]);
	i8259_destroy(b->pic);
	clock_destroy(b->clock);
	bus_destroy(b->bus);
}

static struct state board_save(const struct board *b)
{
	struct state s = { 0 };
	for (unsigned i = 0; i < CHIPS; i++)
		b->chip[i]->ops->save(b->chip[i], &s);
	return s;
}

static int board_load(struct board *b, struct state *s)
{
	struct error e;
	s->at = 0;
	s->failed = false;
	for (unsigned i = 0; i < CHIPS; i++)
		if (b->chip[i]->ops->load(b->chip[i], s, &e))
			return -1;
	return 0;
}

/* Every timer at its own moment; up to FIRES_MOST of them, for a day full of
 * interrupts is long. */
static void board_advance(struct board *b, uint64_t ns)
{
	uint64_t begin = clock_now(b->clock), end = begin + ns, fires = 0;
	while (clock_next_deadline(b->clock) <= end && fires < FIRES_MOST) {
		uint64_t next = clock_next_deadline(b->clock), now = clock_now(b->clock);
		if (next > now)
			clock_advance(b->clock, next - now);
		clock_run_due(b->clock);
		fires++;
		now = clock_now(b->clock);
		if (fires > scale_u64(now - begin, FIRES_PER_SECOND, NS_PER_SECOND) + FIRES_SLACK)
			fail("timers fire too often in this many ns", fires, now - begin);
	}
	if (fires < FIRES_MOST)
		clock_advance(b->clock, end - clock_now(b->clock));
	note(b, fires);
}

/* One random thing, which is done to one board or to two alike. */
struct step {
	enum { STEP_READ, STEP_WRITE, STEP_RESET_CONTROL, STEP_RECEIVE, STEP_ACKNOWLEDGE,
	       STEP_BUTTON, STEP_TIME } kind;
	uint16_t port;
	unsigned size;
	uint64_t value;
};

static struct step random_step(void)
{
	static const uint64_t times[] = {
		900, 5000, 60000, 1000000, 20000000, 700000000, 86400 * NS_PER_SECOND
	};
	struct step s = { .size = 1u << random_below(3), .value = random_next() };
	unsigned claim = random_below(ARRAY_SIZE(claims)), what = random_below(100);
	unsigned first = claims[claim].first, last = claims[claim].last;
	/* Now and then from outside into the range, or across its end. */
	if (!random_below(16)) {
		first -= 3;
		last += 2;
	}
	s.port = (uint16_t)(first + random_below(last - first + 1));
	if (!random_below(4))
		s.value &= BIT(random_below(8));
	s.kind = what < 50 ? STEP_WRITE : what < 80 ? STEP_READ : what < 82 ? STEP_RESET_CONTROL :
		what < 87 ? STEP_RECEIVE : what < 92 ? STEP_ACKNOWLEDGE :
		what < 93 ? STEP_BUTTON : STEP_TIME;
	if (s.kind == STEP_TIME)
		s.value = 1 + random_next() % times[random_below(ARRAY_SIZE(times))];
	return s;
}

static uint64_t perform(struct board *b, const struct step *s)
{
	uint64_t answer = 0;
	if (s->kind == STEP_READ)
		return bus_read(b->bus, BUS_IO, s->port, s->size);
	if (s->kind == STEP_WRITE) {
		bus_write(b->bus, BUS_IO, s->port, s->size, s->value);
		return 0;
	}
	if (s->kind == STEP_TIME) {
		board_advance(b, s->value);
		return 0;
	}
	pthread_mutex_lock(bus_lock(b->bus));
	switch (s->kind) {
	case STEP_RESET_CONTROL:
		acpi_pm_reset_control.write(b->pm, 0, 1, (uint8_t)s->value);
		answer = acpi_pm_reset_control.read(b->pm, 0, 1);
		break;
	case STEP_RECEIVE:
		answer = ns16550_receive(b->uart, (const uint8_t *)&s->value, s->port % 9);
		break;
	case STEP_ACKNOWLEDGE:
		answer = i8259_acknowledge(b->pic);
		break;
	default:
		acpi_pm_power_button(b->pm);
	}
	pthread_mutex_unlock(bus_lock(b->bus));
	return answer;
}

static void compare_states(const struct board *one, const struct board *two)
{
	for (unsigned chip = 0; chip < CHIPS; chip++) {
		const struct device *c = one->chip[chip], *d = two->chip[chip];
		struct state a = { 0 }, b = { 0 };
		c->ops->save(c, &a);
		d->ops->save(d, &b);
		same("size of the saved state", a.size, b.size);
		for (size_t i = 0; i < a.size; i++)
			if (a.data[i] != b.data[i]) {
				printf("%s, byte %zu: ", c->ops->name, i);
				fail("saved state differs", a.data[i], b.data[i]);
			}
		state_free(&a);
		state_free(&b);
	}
}

static void load_damaged(struct board *b, const struct board *from)
{
	struct state s = board_save(from);
	for (unsigned n = 1 + random_below(8); n; n--)
		s.data[random_below((unsigned)s.size)] = (uint8_t)random_next();
	if (!random_below(4))
		s.size = random_below((unsigned)s.size);
	board_load(b, &s);
	for (unsigned i = 0; i < STEPS / 10; i++) {
		struct step step = random_step();
		perform(b, &step);
	}
	state_free(&s);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : ROUNDS;
	struct board driven, loaded, damaged;
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20240229;
	random_state = seed ? seed : 1;
	printf("fuzz_board: seed %llu, %u rounds of %u steps\n", (unsigned long long)seed, rounds,
	       STEPS);
	fflush(stdout);
	alarm(SECONDS_MOST);	/* a chip that loops for ever ends the run */
	board_open(&driven);
	board_open(&loaded);
	board_open(&damaged);
	for (round_now = 0; round_now < rounds; round_now++) {
		step_now = 0;
		struct state s = board_save(&driven);
		if (round_now % 16 == 15)
			for (unsigned i = 0; i < CHIPS; i++)
				loaded.chip[i]->ops->reset(loaded.chip[i]);
		if (board_load(&loaded, &s))
			fail("the saved state does not load", s.at, s.size);
		same("the saved state's end", s.at, s.size);
		state_free(&s);
		compare_states(&driven, &loaded);
		driven.seen = loaded.seen = 0;
		for (step_now = 0; step_now < STEPS; step_now++) {
			struct step step = random_step();
			same("answers", perform(&driven, &step), perform(&loaded, &step));
			same("what the outside saw", driven.seen, loaded.seen);
		}
		compare_states(&driven, &loaded);
		load_damaged(&damaged, &driven);
	}
	board_close(&driven);
	board_close(&loaded);
	board_close(&damaged);
	printf("fuzz_board: passed\n");
	return 0;
}
