/* The bus: who answers at which port or device-memory address.
 *
 * The board lock serialises every device: bus_read and bus_write take it, so a
 * device's read and write run with it held, one at a time. It is not
 * recursive: a device never calls bus_read. */
#ifndef NESTOR_BUS_BUS_H
#define NESTOR_BUS_BUS_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum bus_space { BUS_IO, BUS_MMIO, BUS_SPACES };

struct bus_ops {
	/* offset: from the claimed range's base; size: 1, 2, 4, or 8 (MMIO).
	 * An access never reaches beyond the range it began in. */
	uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
	void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
};

struct bus;

struct bus *bus_create(void);
void bus_destroy(struct bus *b);
pthread_mutex_t *bus_lock(struct bus *b);	/* the board lock */

/* Claim base..base+length-1. -1 when it overlaps another's claim, with both
 * names in *e. Board lock held, or before the processors run. */
int bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t length,
	      const struct bus_ops *ops, void *owner, const char *name, struct error *e);
/* Give the range that begins at base back (nothing happens when it is not
 * claimed). Board lock held. */
void bus_release(struct bus *b, enum bus_space space, uint64_t base);

/* An access by a processor. Unclaimed reads are all ones, unclaimed writes are
 * dropped. Takes the board lock. */
uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t address, unsigned size);
void bus_write(struct bus *b, enum bus_space space, uint64_t address, unsigned size,
	       uint64_t value);

#endif
