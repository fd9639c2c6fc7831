#include "board/isa.h"

uint64_t isa_read(isa_read_byte *read, void *owner, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read(owner, (unsigned)offset + i) << (8 * i);
	return value;
}

void isa_write(isa_write_byte *write, void *owner, uint64_t offset, unsigned size,
	       uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		write(owner, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
}

int isa_claim(struct bus *bus, const struct isa_range *range, size_t count, void *owner,
	      const char *name, struct error *e)
{
	for (size_t i = 0; i < count; i++) {
		if (!bus_claim(bus, BUS_IO, range[i].port, range[i].length, range[i].ops,
			       owner, name, e))
			continue;
		while (i--)
			bus_release(bus, BUS_IO, range[i].port);
		return -1;
	}
	return 0;
}
