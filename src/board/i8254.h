/* The 8254 programmable interval timer and port 61h beside it. Board lock held
 * in every call. */
#ifndef NESTOR_BOARD_I8254_H
#define NESTOR_BOARD_I8254_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

enum i8254_port {
	I8254_BASE = 0x40,	/* counters 0-2 at 40h-42h, control at 43h */
	I8254_PORT_B = 0x61,	/* counter 2's gate and output, refresh toggle */
};

enum { I8254_HZ = 1193182 };

/* Rising edges of counter 0 never come closer together than this many of its
 * clocks (50 us), whatever the guest programs: of faster ones some are left
 * out. One-shots that follow faster come late by as much. */
enum { I8254_MIN_PERIOD = 60 };

struct i8254;	/* begins with a struct device */

/* irq0 follows the output of counter 0. NULL with *e filled when the ports are
 * taken. */
struct i8254 *i8254_create(struct bus *bus, struct clock *clock, struct irq_line irq0,
			   struct error *e);
/* Free it; the bus must not be used afterwards. */
void i8254_destroy(struct i8254 *pit);

#endif
