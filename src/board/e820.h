/* The memory map that the guest is told, in the E820 form that every loader's
 * protocol and fw_cfg share. */
#ifndef NESTOR_BOARD_E820_H
#define NESTOR_BOARD_E820_H

#include "memory/memory.h"

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
	uint64_t base, size;
	uint32_t type;
} __attribute__((packed));

enum { E820_MAX = 8 };

/* RAM that programs may use begins again at 1 MiB; below, up to here. The rest
 * is the legacy hole, the option ROM area and the area of the ACPI tables. */
#define E820_LOW_END 0x9fc00ull
#define E820_HIGH_START 0x100000ull
/* Pages that the kvm engine gives to the processor for its own use (task state
 * segment and identity map of real mode). */
#define E820_ENGINE_BASE 0xfffbc000ull
#define E820_ENGINE_SIZE 0x4000ull

/* Fill map, sorted by base; returns the number of entries. */
unsigned e820_build(const struct memory *m, struct e820_entry map[E820_MAX]);

/* Is base..base+size-1 all RAM that the map leaves to programs? */
bool e820_usable(const struct memory *m, uint64_t base, uint64_t size);

#endif
