#include "board/e820.h"

unsigned e820_build(const struct memory *m, struct e820_entry map[E820_MAX])
{
	unsigned n = 0;
	uint64_t low = m->low_size;
	map[n++] = (struct e820_entry){ 0, low < E820_LOW_END ? low : E820_LOW_END, E820_RAM };
	map[n++] = (struct e820_entry){ E820_LOW_END, E820_HIGH_START - E820_LOW_END,
					E820_RESERVED };
	if (low > E820_HIGH_START)
		map[n++] = (struct e820_entry){ E820_HIGH_START, low - E820_HIGH_START, E820_RAM };
	map[n++] = (struct e820_entry){ E820_ENGINE_BASE, E820_ENGINE_SIZE, E820_RESERVED };
	if (m->size > low)
		map[n++] = (struct e820_entry){ MEMORY_HIGH_BASE, m->size - low, E820_RAM };
	return n;
}

bool e820_usable(const struct memory *m, uint64_t base, uint64_t size)
{
	struct e820_entry map[E820_MAX];
	unsigned n = e820_build(m, map);
	for (unsigned i = 0; i < n; i++)
		if (map[i].type == E820_RAM && base >= map[i].base && size <= map[i].size &&
		    base - map[i].base <= map[i].size - size)
			return true;
	return false;
}
