/* The 8042 keyboard controller, without a keyboard or mouse behind it, and
 * port 92h beside it. Board lock held in every call. */
#ifndef NESTOR_BOARD_I8042_H
#define NESTOR_BOARD_I8042_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "bus/machine.h"

enum i8042_port {
	I8042_DATA = 0x60,
	I8042_COMMAND = 0x64,	/* status when read */
	I8042_PORT_92 = 0x92,	/* fast A20 and reset */
};

enum { I8042_RESET = 0xfe };	/* the command that resets the machine */

struct i8042;	/* begins with a struct device */

/* irq1 follows the keyboard's interrupt; resets go to *machine. NULL with *e
 * filled when the ports are taken. */
struct i8042 *i8042_create(struct bus *bus, struct irq_line irq1,
			   const struct machine_control *machine, struct error *e);
/* Free it; the bus must not be used afterwards. */
void i8042_destroy(struct i8042 *kbc);

#endif
