/* The 16550A serial port. Board lock held in every call. */
#ifndef NESTOR_BOARD_NS16550_H
#define NESTOR_BOARD_NS16550_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#include <stddef.h>

enum ns16550_port { NS16550_COM1 = 0x3f8, NS16550_COM2 = 0x2f8 };

/* Where the transmitted bytes go. Both are called with the board lock held. */
struct ns16550_sink {
	void (*write)(void *owner, const uint8_t *bytes, size_t n);
	/* The receive FIFO, which could not take all, is empty again. May be
	 * NULL; may call ns16550_receive(). */
	void (*room)(void *owner);
	void *owner;
};

struct ns16550;	/* begins with a struct device */

/* A port at `port` and the seven after it. NULL with *e filled when they are
 * taken. */
struct ns16550 *ns16550_create(struct bus *bus, struct clock *clock, uint16_t port,
			       struct irq_line irq, const struct ns16550_sink *sink,
			       struct error *e);
/* Free it; the bus must not be used afterwards. */
void ns16550_destroy(struct ns16550 *uart);

/* Bytes that arrive on the wire: takes what fits and returns how many. After
 * fewer than n, the sink's room() is called once there is room. */
size_t ns16550_receive(struct ns16550 *uart, const uint8_t *bytes, size_t n);

#endif
