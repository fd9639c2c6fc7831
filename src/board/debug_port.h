/* The ports that test programs use: exit at f4h, console at e9h, POST codes at
 * 80h. Board lock held in every call. */
#ifndef NESTOR_BOARD_DEBUG_PORT_H
#define NESTOR_BOARD_DEBUG_PORT_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/machine.h"

#include <stddef.h>

enum debug_port_port {
	DEBUG_PORT_EXIT = 0xf4,
	DEBUG_PORT_CONSOLE = 0xe9,
	DEBUG_PORT_POST = 0x80,
};

/* Where the bytes written to e9h go; write may be NULL. */
struct debug_port_sink {
	void (*write)(void *owner, const uint8_t *bytes, size_t n);
	void *owner;
};

struct debug_port;	/* begins with a struct device */

/* A write of v to f4h, of 8, 16 or 32 bits, asks *machine for MACHINE_EXIT with
 * v. NULL with *e filled when the ports are taken. */
struct debug_port *debug_port_create(struct bus *bus, const struct machine_control *machine,
				     const struct debug_port_sink *sink, struct error *e);
/* Free it; the bus must not be used afterwards. */
void debug_port_destroy(struct debug_port *debug);

#endif
