/* The pair of 8259A interrupt controllers of a PC, with the edge/level control
 * registers of the PIIX. Board lock held in every call. */
#ifndef NESTOR_BOARD_I8259_H
#define NESTOR_BOARD_I8259_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

enum i8259_port {
	I8259_MASTER = 0x20,	/* and 21h */
	I8259_SLAVE = 0xa0,	/* and a1h */
	I8259_ELCR = 0x4d0,	/* and 4d1h */
};

struct i8259;	/* begins with a struct device */

/* intr follows the master's INT output. NULL with *e filled when the ports are
 * taken. */
struct i8259 *i8259_create(struct bus *bus, struct irq_line intr, struct error *e);
/* Free it; the bus must not be used afterwards. */
void i8259_destroy(struct i8259 *pic);

/* Drive input irq (0-15, but for 2, where the slave is wired). Fits
 * irq_line.set. */
void i8259_set(void *i8259, unsigned irq, bool level);

/* The processor's interrupt acknowledge: the vector. With nothing left to
 * deliver it is the spurious one (input 7 of the chip asked), and no in-service
 * bit is set. */
uint8_t i8259_acknowledge(struct i8259 *pic);

#endif
