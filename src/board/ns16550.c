#include "board/ns16550.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

/* Names are those of National's PC16550D data sheet.
 *
 * A byte is transmitted in the moment it is written: THRE and TEMT are always
 * set. The interrupt line is a level (some enabled condition is pending and MCR
 * bit OUT2 lets it out), made to suit an edge-triggered input: writing THR takes
 * the line down before the transmitter, empty again, raises it. OUT2 does so in
 * loopback too, where its pin would be inactive. */

enum { REGISTERS = 8, FIFO_SIZE = 16 };

enum reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum ier {
	IER_ERBFI = BIT(0),	/* received data */
	IER_ETBEI = BIT(1),	/* transmitter empty */
	IER_ELSI = BIT(2),	/* line status */
	IER_EDSSI = BIT(3),	/* modem status */
	IER_WRITABLE = 0x0f,
};

enum iir {
	IIR_MODEM_STATUS = 0x00,
	IIR_NONE = 0x01,
	IIR_THRE = 0x02,
	IIR_RECEIVED = 0x04,
	IIR_LINE_STATUS = 0x06,
	IIR_TIMEOUT = 0x0c,
	IIR_FIFOS = 0xc0,
};

enum fcr {
	FCR_ENABLE = BIT(0),
	FCR_RESET_RECEIVER = BIT(1),
	FCR_TRIGGER_SHIFT = 6,
};

enum lcr { LCR_WORD_LENGTH = 3, LCR_STOP = BIT(2), LCR_PARITY = BIT(3), LCR_DLAB = BIT(7) };

enum mcr {
	MCR_DTR = BIT(0),
	MCR_RTS = BIT(1),
	MCR_OUT1 = BIT(2),
	MCR_OUT2 = BIT(3),
	MCR_LOOP = BIT(4),
	MCR_WRITABLE = 0x1f,
};

enum lsr {
	LSR_DR = BIT(0),
	LSR_OE = BIT(1),
	LSR_THRE = BIT(5),
	LSR_TEMT = BIT(6),
};

enum msr {
	MSR_DCTS = BIT(0),
	MSR_DDSR = BIT(1),
	MSR_TERI = BIT(2),
	MSR_DDCD = BIT(3),
	MSR_DELTAS = 0x0f,
	MSR_CTS = BIT(4),
	MSR_DSR = BIT(5),
	MSR_RI = BIT(6),
	MSR_DCD = BIT(7),
	MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD,
};

/* The oscillator of a PC's port over the 16 clocks of a bit. */
enum { BAUD_BASE = 1843200 / 16, DIVISOR_RESET = 12 };
enum { TIMEOUT_CHARACTERS = 4 };
/* Bounds of the character timeout, whatever the divisor: short enough for a
 * person who types, long enough for the host. */
#define TIMEOUT_LEAST_NS 100000ull
#define TIMEOUT_MOST_NS 100000000ull

static const uint8_t trigger_levels[] = { 1, 4, 8, 14 };

struct ns16550 {
	struct device device;
	struct clock *clock;
	struct irq_line irq;
	struct ns16550_sink sink;
	struct timer timer;		/* the character timeout */

	uint8_t ier, lcr, mcr, scr;
	uint8_t fcr;			/* enable and trigger only */
	uint8_t msr;			/* deltas included */
	uint16_t divisor;
	uint8_t fifo[FIFO_SIZE];	/* one byte when the FIFOs are off */
	uint8_t first, count;
	uint8_t last;			/* what RBR holds when nothing is left */
	bool overrun;
	bool timed_out;			/* bytes below the trigger level wait */
	bool thre_pending;
	bool starved;			/* receive refused something */
	bool irq_level;
};

static unsigned fifo_capacity(const struct ns16550 *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct ns16550 *u)
{
	return u->fcr & FCR_ENABLE ? trigger_levels[u->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The pending interrupt of highest priority, as IIR tells it. */
static uint8_t pending(const struct ns16550 *u)
{
	if (u->ier & IER_ELSI && u->overrun)
		return IIR_LINE_STATUS;
	if (u->ier & IER_ERBFI && u->count >= trigger_level(u))
		return IIR_RECEIVED;
	if (u->ier & IER_ERBFI && u->timed_out)
		return IIR_TIMEOUT;
	if (u->ier & IER_ETBEI && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_EDSSI && u->msr & MSR_DELTAS)
		return IIR_MODEM_STATUS;
	return IIR_NONE;
}

static void update_irq(struct ns16550 *u)
{
	bool level = u->mcr & MCR_OUT2 && pending(u) != IIR_NONE;
	if (level != u->irq_level) {
		u->irq_level = level;
		irq_set(&u->irq, level);
	}
}

/* -- receiver -- */

static uint64_t timeout_ns(const struct ns16550 *u)
{
	unsigned bits = 1 + 5 + (u->lcr & LCR_WORD_LENGTH) + !!(u->lcr & LCR_PARITY) + 1 +
		!!(u->lcr & LCR_STOP);
	uint64_t ns = (uint64_t)TIMEOUT_CHARACTERS * bits * u->divisor * NS_PER_SECOND /
		BAUD_BASE;
	if (ns < TIMEOUT_LEAST_NS)
		return TIMEOUT_LEAST_NS;
	return ns > TIMEOUT_MOST_NS ? TIMEOUT_MOST_NS : ns;
}

/* The timeout begins anew with every byte that comes or goes. */
static void restart_timeout(struct ns16550 *u)
{
	u->timed_out = false;
	if (u->fcr & FCR_ENABLE && u->count)
		timer_set(u->clock, &u->timer, clock_now(u->clock) + timeout_ns(u));
	else
		timer_cancel(u->clock, &u->timer);
}

static void time_out(void *owner)
{
	struct ns16550 *u = owner;
	u->timed_out = u->count != 0;
	update_irq(u);
}

static void fifo_put(struct ns16550 *u, uint8_t byte)
{
	u->fifo[(u->first + u->count) % FIFO_SIZE] = byte;
	u->count++;
}

static void fifo_clear(struct ns16550 *u)
{
	u->count = 0;
	u->overrun = false;
	restart_timeout(u);
}

size_t ns16550_receive(struct ns16550 *u, const uint8_t *bytes, size_t n)
{
	size_t room = fifo_capacity(u) - u->count;
	size_t taken = u->mcr & MCR_LOOP ? 0 : n < room ? n : room;
	for (size_t i = 0; i < taken; i++)
		fifo_put(u, bytes[i]);
	if (n)
		u->starved = taken < n;
	if (taken) {
		restart_timeout(u);
		update_irq(u);
	}
	return taken;
}

/* At the end of an access: the sink may receive at once. */
static void offer_room(struct ns16550 *u)
{
	if (!u->starved || u->count || u->mcr & MCR_LOOP)
		return;
	u->starved = false;
	if (u->sink.room)
		u->sink.room(u->sink.owner);
}

static uint8_t read_data(struct ns16550 *u)
{
	if (u->count) {
		u->last = u->fifo[u->first];
		u->first = (u->first + 1) % FIFO_SIZE;
		u->count--;
		restart_timeout(u);
	}
	return u->last;
}

/* -- transmitter and modem lines -- */

static void write_data(struct ns16550 *u, uint8_t byte)
{
	u->thre_pending = false;
	update_irq(u);
	if (!(u->mcr & MCR_LOOP)) {
		if (u->sink.write)
			u->sink.write(u->sink.owner, &byte, 1);
	} else {
		if (u->count < fifo_capacity(u))
			fifo_put(u, byte);
		else {
			u->overrun = true;
			/* Without FIFO the new byte overwrites the old. */
			if (!(u->fcr & FCR_ENABLE))
				u->fifo[u->first] = byte;
		}
		restart_timeout(u);
	}
	u->thre_pending = true;
}

static void update_msr(struct ns16550 *u)
{
	uint8_t now = MSR_CONNECTED, changed;
	if (u->mcr & MCR_LOOP)
		now = (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) |
				(u->mcr & MCR_DTR ? MSR_DSR : 0) |
				(u->mcr & MCR_OUT1 ? MSR_RI : 0) |
				(u->mcr & MCR_OUT2 ? MSR_DCD : 0));
	changed = u->msr ^ now;
	/* Of RI only the trailing edge counts. */
	changed &= (uint8_t)~(now & MSR_RI);
	u->msr = (uint8_t)((u->msr & MSR_DELTAS) | now | changed >> 4);
}

/* -- registers -- */

static uint8_t register_read(struct ns16550 *u, unsigned reg)
{
	uint8_t value;
	switch ((enum reg)reg) {
	case REG_DATA:
		return u->lcr & LCR_DLAB ? (uint8_t)u->divisor : read_data(u);
	case REG_IER:
		return u->lcr & LCR_DLAB ? (uint8_t)(u->divisor >> 8) : u->ier;
	case REG_IIR_FCR:
		value = pending(u);
		if (value == IIR_THRE)
			u->thre_pending = false;
		return value | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		value = (uint8_t)(LSR_THRE | LSR_TEMT | (u->count ? LSR_DR : 0) |
				  (u->overrun ? LSR_OE : 0));
		u->overrun = false;
		return value;
	case REG_MSR:
		value = u->msr;
		u->msr &= ~MSR_DELTAS;
		return value;
	case REG_SCR:
		return u->scr;
	}
	return 0xff;
}

static void write_fcr(struct ns16550 *u, uint8_t value)
{
	/* The other bits are taken only together with the enable. */
	uint8_t fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | 3 << FCR_TRIGGER_SHIFT) : 0;
	if ((fcr ^ u->fcr) & FCR_ENABLE || value & FCR_RESET_RECEIVER)
		fifo_clear(u);
	u->fcr = fcr;
}

static void register_write(struct ns16550 *u, unsigned reg, uint8_t value)
{
	switch ((enum reg)reg) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB)
			u->divisor = (uint16_t)((u->divisor & 0xff00) | value);
		else
			write_data(u, value);
		return;
	case REG_IER:
		if (u->lcr & LCR_DLAB) {
			u->divisor = (uint16_t)((u->divisor & 0xff) | value << 8);
			return;
		}
		/* To enable it while the transmitter is empty interrupts. */
		if (value & ~u->ier & IER_ETBEI)
			u->thre_pending = true;
		u->ier = value & IER_WRITABLE;
		return;
	case REG_IIR_FCR:
		write_fcr(u, value);
		return;
	case REG_LCR:
		u->lcr = value;
		return;
	case REG_MCR:
		u->mcr = value & MCR_WRITABLE;
		update_msr(u);
		return;
	case REG_LSR:
	case REG_MSR:
		return;	/* read only */
	case REG_SCR:
		u->scr = value;
		return;
	}
}

static uint8_t uart_read_byte(void *owner, unsigned offset)
{
	struct ns16550 *u = owner;
	uint8_t value = register_read(u, offset);
	update_irq(u);
	offer_room(u);
	return value;
}

static void uart_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct ns16550 *u = owner;
	register_write(u, offset, value);
	update_irq(u);
	offer_room(u);
}

ISA_OPS(uart);

/* -- device -- */

static void ns16550_reset(struct device *d)
{
	struct ns16550 *u = container_of(d, struct ns16550, device);
	u->ier = u->lcr = u->mcr = u->scr = u->fcr = 0;
	u->msr = MSR_CONNECTED;
	u->divisor = DIVISOR_RESET;
	u->first = u->last = 0;
	u->thre_pending = false;
	fifo_clear(u);
	update_irq(u);
	offer_room(u);
}

static void exchange(struct ns16550 *u, struct state *s)
{
	state_field(s, u->ier);
	state_field(s, u->lcr);
	state_field(s, u->mcr);
	state_field(s, u->scr);
	state_field(s, u->fcr);
	state_field(s, u->msr);
	state_field(s, u->divisor);
	state_bytes(s, u->fifo, sizeof u->fifo);
	state_field(s, u->first);
	state_field(s, u->count);
	state_field(s, u->last);
	state_field(s, u->overrun);
	state_field(s, u->timed_out);
	state_field(s, u->thre_pending);
	state_field(s, u->starved);
	state_field(s, u->irq_level);
}

static void ns16550_save(const struct device *d, struct state *s)
{
	struct ns16550 *u = container_of(d, struct ns16550, device);
	uint64_t now = clock_now(u->clock), deadline = u->timer.deadline;
	state_section(s, d->ops->name, 1);
	exchange(u, s);
	/* Nanoseconds left until the character timeout. */
	state_put(s, deadline == CLOCK_NEVER ? CLOCK_NEVER : deadline > now ? deadline - now : 0,
		  8);
}

static int ns16550_load(struct device *d, struct state *s, struct error *e)
{
	struct ns16550 *u = container_of(d, struct ns16550, device);
	uint64_t left;
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	exchange(u, s);
	left = state_get(s, 8);
	if (u->first >= FIFO_SIZE || u->count > fifo_capacity(u) ||
	    (left != CLOCK_NEVER && left > TIMEOUT_MOST_NS))
		s->failed = true;
	if (state_finish(s, d->ops->name, e)) {
		ns16550_reset(d);
		return -1;
	}
	timer_set(u->clock, &u->timer,
		  left == CLOCK_NEVER ? CLOCK_NEVER : clock_now(u->clock) + left);
	irq_set(&u->irq, u->irq_level);
	update_irq(u);
	return 0;
}

static const struct device_ops ns16550_device_ops = {
	"ns16550", ns16550_reset, ns16550_save, ns16550_load
};

struct ns16550 *ns16550_create(struct bus *bus, struct clock *clock, uint16_t port,
			       struct irq_line irq, const struct ns16550_sink *sink,
			       struct error *e)
{
	struct ns16550 *u = alloc_zeroed(1, sizeof *u);
	u->device.ops = &ns16550_device_ops;
	u->clock = clock;
	u->irq = irq;
	u->sink = *sink;
	u->timer = (struct timer){ .fire = time_out, .owner = u, .deadline = CLOCK_NEVER };
	if (bus_claim(bus, BUS_IO, port, REGISTERS, &uart_ops, u, "ns16550", e)) {
		free(u);
		return NULL;
	}
	ns16550_reset(&u->device);
	return u;
}

void ns16550_destroy(struct ns16550 *u)
{
	timer_cancel(u->clock, &u->timer);
	free(u);
}
