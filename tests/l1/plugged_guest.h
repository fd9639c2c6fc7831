/* A guest that uses a block of RAM while it is plugged out and in again, for
 * either engine. It runs in 32-bit protected mode with flat segments, and maps
 * the first block of room at 200000h by PAE. A byte to port 10h is a mark:
 * PLUGGED_OUT and PLUGGED_IN ask for plugged_mark, STOP ends the run. */
#ifndef NESTOR_TESTS_PLUGGED_GUEST_H
#define NESTOR_TESTS_PLUGGED_GUEST_H

#include "engine/engine.h"

enum {
	PLUGGED_POINTERS = 0x4000, PLUGGED_DIRECTORY = 0x5000, PLUGGED_DATA = 0x20000,
	PLUGGED_OUT = 8, PLUGGED_IN = 9,
	PLUGGED_PRESENT = 1, PLUGGED_LARGE_WRITABLE = 0x83,
};

__asm__(".pushsection .rodata\n.code32\n.globl guest_plugged\nguest_plugged:\n"
	"mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n mov $0x4000, %eax\n mov %eax, %cr3\n"
	"mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n jmp 1f\n"
	"1: movl $0x12345678, 0x200000\n mov 0x200000, %eax\n mov %eax, 0x20000\n"
	"mov $8, %al\n out %al, $0x10\n jmp 2f\n"
	"2: mov 0x200000, %eax\n mov %eax, 0x20004\n movl $0x55, 0x200000\n"
	"mov $9, %al\n out %al, $0x10\n jmp 3f\n"
	"3: mov 0x200000, %eax\n mov %eax, 0x20008\n"
	"movl $0x77, 0x200000\n mov 0x200000, %eax\n mov %eax, 0x2000c\n"
	"mov $0xff, %al\n out %al, $0x10\n 4: hlt\n jmp 4b\n"
	".globl guest_plugged_end\nguest_plugged_end:\n.code64\n.popsection");
extern const uint8_t guest_plugged[], guest_plugged_end[];

/* The block is in, and the guest's tables are there. */
static inline bool plugged_begin(struct memory *m, struct engine *g)
{
	uint64_t pointer = PLUGGED_DIRECTORY | PLUGGED_PRESENT;
	uint64_t entries[2] = { PLUGGED_LARGE_WRITABLE, m->room_base | PLUGGED_LARGE_WRITABLE };
	memory_write(m, PLUGGED_POINTERS, &pointer, sizeof pointer);
	memory_write(m, PLUGGED_DIRECTORY, entries, sizeof entries);
	return memory_plug(m, m->room_base, memory_block_size(m), true) &&
		g->ops->plugged(g, m->room_base, memory_block_size(m), true);
}

static inline void plugged_mark(struct memory *m, struct engine *g, uint8_t mark)
{
	if (mark != PLUGGED_OUT && mark != PLUGGED_IN)
		return;
	memory_plug(m, m->room_base, memory_block_size(m), mark == PLUGGED_IN);
	g->ops->plugged(g, m->room_base, memory_block_size(m), mark == PLUGGED_IN);
}

/* RAM; then the bus, where nobody answers; then RAM again, empty. */
static inline bool plugged_seen(struct memory *m)
{
	static const uint32_t wanted[4] = { 0x12345678, UINT32_MAX, 0, 0x77 };
	uint32_t seen[4] = { 0 };
	memory_read(m, PLUGGED_DATA, seen, sizeof seen);
	return !memcmp(seen, wanted, sizeof seen);
}

#endif
