#include "board/i8259.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

/* The names are those of Intel's 8259A data sheet; the edge/level registers
 * and the things that are wired once and for all (cascade on input 2, LTIM
 * without effect) are the PIIX4's.
 *
 * An edge is latched in IRR until it is acknowledged, also when the input falls
 * before that: chips of ours pulse their lines. A level input shows in IRR as
 * it is. Everything else follows from those two and is recomputed by update()
 * after each change. */

enum { MASTER, SLAVE, CHIPS };
enum { INPUTS = 8, CASCADE = 2, SPURIOUS = 7, NONE = INPUTS };

enum icw {
	ICW1_IC4 = BIT(0),	/* ICW4 follows */
	ICW1_SNGL = BIT(1),	/* no ICW3 */
	ICW1_SELECT = BIT(4),
	ICW2_BASE = 0xf8,
	ICW4_AEOI = BIT(1),
	ICW4_SFNM = BIT(4),
};

enum ocw {
	OCW2_LEVEL = 7,
	OCW3_SELECT = BIT(3),
	OCW3_RIS = BIT(0),
	OCW3_RR = BIT(1),
	OCW3_POLL = BIT(2),
	OCW3_SMM = BIT(5),
	OCW3_ESMM = BIT(6),
};

/* OCW2 bits 7:5: R, SL, EOI. */
enum ocw2_command {
	OCW2_AEOI_ROTATE_CLEAR,
	OCW2_EOI,
	OCW2_NOP,
	OCW2_SPECIFIC_EOI,
	OCW2_AEOI_ROTATE_SET,
	OCW2_ROTATE_EOI,
	OCW2_SET_PRIORITY,
	OCW2_ROTATE_SPECIFIC_EOI,
};

/* Which initialisation word the next write to the odd port is. */
enum step { STEP_READY, STEP_ICW2, STEP_ICW3, STEP_ICW4 };

enum { POLL_INTERRUPT = BIT(7) };

struct chip {
	uint8_t lines;		/* inputs as they are now */
	uint8_t edges;		/* latched edges */
	uint8_t imr, isr;
	uint8_t elcr;
	uint8_t base;		/* vector of input 0 */
	uint8_t lowest;		/* the input of lowest priority */
	uint8_t icw1;
	uint8_t step;
	bool initialised;	/* an initialisation has been completed */
	bool auto_eoi, rotate_auto_eoi;
	bool special_mask, special_fully_nested;
	bool read_isr, poll;
	bool output;		/* INT */
};

struct i8259 {
	struct device device;
	struct irq_line intr;
	struct chip chip[CHIPS];
};

/* Inputs that may be level triggered: not the timer's, the keyboard's, the
 * cascade, the clock's and the coprocessor's. */
static const uint8_t elcr_mask[CHIPS] = { 0xf8, 0xde };

static uint8_t requests(const struct chip *c)
{
	return (c->edges & ~c->elcr) | (c->lines & c->elcr);
}

/* The input that may interrupt now, or NONE. */
static unsigned pick(const struct chip *c)
{
	uint8_t pending = requests(c) & ~c->imr;
	uint8_t blocking = c->special_mask ? c->isr & ~c->imr : c->isr;
	if (!c->initialised)
		return NONE;
	for (unsigned i = 1; i <= INPUTS; i++) {
		unsigned n = (c->lowest + i) % INPUTS;
		bool in_service = blocking & BIT(n);
		/* Special fully nested mode: a slave in service may ask again
		 * for an input of higher priority. */
		bool again = c->special_fully_nested && n == CASCADE;
		if (pending & BIT(n) && (!in_service || again))
			return n;
		if (in_service)
			return NONE;
	}
	return NONE;
}

static void chip_set(struct chip *c, unsigned n, bool level)
{
	if (!level)
		c->lines &= ~BIT(n);
	else if (!(c->lines & BIT(n))) {
		c->lines |= BIT(n);
		c->edges |= BIT(n) & ~c->elcr;
	}
}

static void update(struct i8259 *pic)
{
	struct chip *slave = &pic->chip[SLAVE], *master = &pic->chip[MASTER];
	bool intr;
	slave->output = pick(slave) != NONE;
	chip_set(master, CASCADE, slave->output);
	intr = pick(master) != NONE;
	if (intr != master->output) {
		master->output = intr;
		irq_set(&pic->intr, intr);
	}
}

void i8259_set(void *i8259, unsigned irq, bool level)
{
	struct i8259 *pic = i8259;
	if (irq >= CHIPS * INPUTS || irq == CASCADE)
		return;
	chip_set(&pic->chip[irq / INPUTS], irq % INPUTS, level);
	update(pic);
}

/* What an acknowledge or a poll takes from a chip: the input, or NONE. */
static unsigned take(struct i8259 *pic, struct chip *c)
{
	unsigned n = pick(c);
	/* The slave's INT falls, so that what else it has is a new edge to the
	 * master. */
	if (c == &pic->chip[SLAVE])
		chip_set(&pic->chip[MASTER], CASCADE, false);
	if (n == NONE)
		return NONE;
	c->edges &= ~BIT(n);
	if (!c->auto_eoi)
		c->isr |= BIT(n);
	else if (c->rotate_auto_eoi)
		c->lowest = (uint8_t)n;
	return n;
}

uint8_t i8259_acknowledge(struct i8259 *pic)
{
	struct chip *c = &pic->chip[MASTER];
	unsigned n = take(pic, c);
	if (n == CASCADE) {
		c = &pic->chip[SLAVE];
		n = take(pic, c);
	}
	update(pic);
	return (uint8_t)(c->base + (n == NONE ? SPURIOUS : n));
}

static void initialise(struct chip *c, uint8_t icw1)
{
	c->icw1 = icw1;
	c->step = STEP_ICW2;
	c->initialised = false;
	c->edges = 0;
	c->imr = 0;
	c->isr = 0;
	c->lowest = INPUTS - 1;
	c->special_mask = false;
	c->read_isr = false;
	c->poll = false;
	c->auto_eoi = false;
	c->rotate_auto_eoi = false;
	c->special_fully_nested = false;
}

/* The input in service of highest priority, or NONE. One that is masked is
 * passed over in special mask mode. */
static unsigned highest_in_service(const struct chip *c)
{
	uint8_t candidates = c->special_mask ? c->isr & ~c->imr : c->isr;
	for (unsigned i = 1; i <= INPUTS; i++)
		if (candidates & BIT((c->lowest + i) % INPUTS))
			return (c->lowest + i) % INPUTS;
	return NONE;
}

static void write_ocw2(struct chip *c, uint8_t value)
{
	enum ocw2_command command = value >> 5;
	unsigned level = value & OCW2_LEVEL;
	switch (command) {
	case OCW2_AEOI_ROTATE_CLEAR:
	case OCW2_AEOI_ROTATE_SET:
		c->rotate_auto_eoi = command == OCW2_AEOI_ROTATE_SET;
		return;
	case OCW2_NOP:
		return;
	case OCW2_SET_PRIORITY:
		c->lowest = (uint8_t)level;
		return;
	case OCW2_EOI:
	case OCW2_ROTATE_EOI:
		level = highest_in_service(c);
		break;
	case OCW2_SPECIFIC_EOI:
	case OCW2_ROTATE_SPECIFIC_EOI:
		break;
	}
	if (level == NONE)
		return;
	c->isr &= ~BIT(level);
	if (command == OCW2_ROTATE_EOI || command == OCW2_ROTATE_SPECIFIC_EOI)
		c->lowest = (uint8_t)level;
}

static void write_ocw3(struct chip *c, uint8_t value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

static void write_odd(struct chip *c, uint8_t value)
{
	switch ((enum step)c->step) {
	case STEP_READY:
		c->imr = value;	/* OCW1 */
		return;
	case STEP_ICW2:
		c->base = value & ICW2_BASE;
		c->step = c->icw1 & ICW1_SNGL ? STEP_ICW4 : STEP_ICW3;
		break;
	case STEP_ICW3:
		c->step = STEP_ICW4;
		break;
	case STEP_ICW4:
		c->auto_eoi = value & ICW4_AEOI;
		c->special_fully_nested = value & ICW4_SFNM;
		c->step = STEP_READY;
		break;
	}
	if (c->step == STEP_ICW4 && !(c->icw1 & ICW1_IC4))
		c->step = STEP_READY;
	if (c->step == STEP_READY)
		c->initialised = true;
}

static void chip_write(struct i8259 *pic, struct chip *c, unsigned offset, uint8_t value)
{
	if (offset)
		write_odd(c, value);
	else if (value & ICW1_SELECT)
		initialise(c, value);
	else if (value & OCW3_SELECT)
		write_ocw3(c, value);
	else
		write_ocw2(c, value);
	update(pic);
}

static uint8_t chip_read(struct i8259 *pic, struct chip *c, unsigned offset)
{
	if (c->poll) {
		unsigned n = take(pic, c);
		c->poll = false;
		update(pic);
		return n == NONE ? 0 : (uint8_t)(POLL_INTERRUPT | n);
	}
	if (offset)
		return c->imr;
	return c->read_isr ? c->isr : requests(c);
}

static uint8_t master_read_byte(void *owner, unsigned offset)
{
	struct i8259 *pic = owner;
	return chip_read(pic, &pic->chip[MASTER], offset);
}

static void master_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct i8259 *pic = owner;
	chip_write(pic, &pic->chip[MASTER], offset, value);
}

static uint8_t slave_read_byte(void *owner, unsigned offset)
{
	struct i8259 *pic = owner;
	return chip_read(pic, &pic->chip[SLAVE], offset);
}

static void slave_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct i8259 *pic = owner;
	chip_write(pic, &pic->chip[SLAVE], offset, value);
}

static uint8_t elcr_read_byte(void *owner, unsigned offset)
{
	struct i8259 *pic = owner;
	return pic->chip[offset].elcr;
}

static void elcr_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct i8259 *pic = owner;
	struct chip *c = &pic->chip[offset];
	c->elcr = value & elcr_mask[offset];
	c->edges &= ~c->elcr;
	update(pic);
}

ISA_OPS(master);
ISA_OPS(slave);
ISA_OPS(elcr);

static const struct isa_range i8259_ranges[] = {
	{ I8259_MASTER, 2, &master_ops },
	{ I8259_SLAVE, 2, &slave_ops },
	{ I8259_ELCR, 2, &elcr_ops },
};

static void i8259_reset(struct device *d)
{
	struct i8259 *pic = container_of(d, struct i8259, device);
	for (unsigned i = 0; i < CHIPS; i++) {
		/* The wires are others': their levels outlive a reset. */
		uint8_t lines = pic->chip[i].lines;
		bool output = pic->chip[i].output;
		pic->chip[i] = (struct chip){
			.lines = lines, .output = output, .lowest = INPUTS - 1
		};
	}
	update(pic);
}

static void exchange(struct chip *c, struct state *s)
{
	state_field(s, c->lines);
	state_field(s, c->edges);
	state_field(s, c->imr);
	state_field(s, c->isr);
	state_field(s, c->elcr);
	state_field(s, c->base);
	state_field(s, c->lowest);
	state_field(s, c->icw1);
	state_field(s, c->step);
	state_field(s, c->initialised);
	state_field(s, c->auto_eoi);
	state_field(s, c->rotate_auto_eoi);
	state_field(s, c->special_mask);
	state_field(s, c->special_fully_nested);
	state_field(s, c->read_isr);
	state_field(s, c->poll);
}

static void i8259_save(const struct device *d, struct state *s)
{
	struct i8259 *pic = container_of(d, struct i8259, device);
	state_section(s, d->ops->name, 1);
	for (unsigned i = 0; i < CHIPS; i++)
		exchange(&pic->chip[i], s);
}

static int i8259_load(struct device *d, struct state *s, struct error *e)
{
	struct i8259 *pic = container_of(d, struct i8259, device);
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	for (unsigned i = 0; i < CHIPS; i++) {
		struct chip *c = &pic->chip[i];
		exchange(c, s);
		c->elcr &= elcr_mask[i];
		c->lowest %= INPUTS;
		if (c->step > STEP_ICW4)
			s->failed = true;
	}
	if (state_finish(s, d->ops->name, e)) {
		i8259_reset(d);
		return -1;
	}
	update(pic);
	/* Whoever listens may not know the level yet. */
	irq_set(&pic->intr, pic->chip[MASTER].output);
	return 0;
}

static const struct device_ops i8259_device_ops = {
	"i8259", i8259_reset, i8259_save, i8259_load
};

struct i8259 *i8259_create(struct bus *bus, struct irq_line intr, struct error *e)
{
	struct i8259 *pic = alloc_zeroed(1, sizeof *pic);
	pic->device.ops = &i8259_device_ops;
	pic->intr = intr;
	if (isa_claim(bus, i8259_ranges, ARRAY_SIZE(i8259_ranges), pic, "i8259", e)) {
		free(pic);
		return NULL;
	}
	i8259_reset(&pic->device);
	return pic;
}

void i8259_destroy(struct i8259 *pic)
{
	free(pic);
}
