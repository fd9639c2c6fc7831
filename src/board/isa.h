/* Eight-bit chips on the ISA bus: a wider access is taken apart into bytes at
 * consecutive ports, lowest first, as the bridge does it. */
#ifndef NESTOR_BOARD_ISA_H
#define NESTOR_BOARD_ISA_H

#include "bus/bus.h"

#include <stddef.h>

typedef uint8_t isa_read_byte(void *owner, unsigned offset);
typedef void isa_write_byte(void *owner, unsigned offset, uint8_t value);

/* The parts of an access, each by the chip's own function. */
uint64_t isa_read(isa_read_byte *read, void *owner, uint64_t offset, unsigned size);
void isa_write(isa_write_byte *write, void *owner, uint64_t offset, unsigned size,
	       uint64_t value);

/* name_ops, made from name_read_byte and name_write_byte. */
#define ISA_OPS(name) \
	static uint64_t name##_read(void *owner, uint64_t offset, unsigned size) \
	{ \
		return isa_read(name##_read_byte, owner, offset, size); \
	} \
	static void name##_write(void *owner, uint64_t offset, unsigned size, uint64_t value) \
	{ \
		isa_write(name##_write_byte, owner, offset, size, value); \
	} \
	static const struct bus_ops name##_ops = { name##_read, name##_write }

struct isa_range {
	uint16_t port, length;
	const struct bus_ops *ops;
};

/* Claim all ranges, or none of them. */
int isa_claim(struct bus *bus, const struct isa_range *range, size_t count, void *owner,
	      const char *name, struct error *e);

#endif
