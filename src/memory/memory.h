/* Guest-physical memory: RAM, and what the processors must know of each page.
 *
 * RAM is one anonymous mapping. It shows in guest-physical space at 0 up to
 * low_size (less the legacy hole A0000h-BFFFFh), and, when there is more than
 * fits below the PCI hole, from 4 GiB up. Everything else is the bus's.
 *
 * Above that may be room: addresses where blocks of RAM can be plugged in while
 * the guest runs, and out again. A block that is out is the bus's and has no
 * host memory, but the host addresses stay ours: who took one just before it
 * went out reads and writes nothing else with it.
 *
 * Pages that hold decoded code carry a bitmap of the 64-byte chunks that were
 * decoded. A write that hits such a chunk raises the page's version and clears
 * the bitmap; a decoded block remembers the version it was made from and is
 * stale when they differ. That is all the protocol for self- and
 * cross-modifying code: no processor ever touches another's blocks. Pages with
 * a bitmap are never written through a processor's fast path: who marks a page
 * first sets the bitmap and then looks at `tagged` (some processor may hold a
 * write translation), who makes a write translation sets `tagged` and then
 * looks at the bitmap, so one of the two always sees the other. */
#ifndef NESTOR_MEMORY_MEMORY_H
#define NESTOR_MEMORY_MEMORY_H

#include "base/bits.h"
#include "base/error.h"
#include "base/state.h"

#include <stdatomic.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ull << PAGE_SHIFT)
#define PAGE_OFFSET_MASK (PAGE_SIZE - 1)

#define MEMORY_LARGE_PAGE (2ull << 20)	/* the host's */

#define MEMORY_LEGACY_HOLE 0xa0000ull
#define MEMORY_LEGACY_HOLE_END 0xc0000ull
#define MEMORY_LOW_MAX 0xc0000000ull	/* RAM below 4 GiB ends here at most */
#define MEMORY_HIGH_BASE 0x100000000ull

struct memory {
	uint8_t *ram;
	uint64_t size;			/* bytes of RAM that are always there */
	uint64_t low_size;		/* of which below 4 GiB, from 0 */
	uint64_t room_base, room_size;	/* where blocks may be plugged in; size 0: nowhere */
	uint64_t room_offset;		/* of it in ram */
	unsigned room_shift;		/* a block's size, as a power of two */
	_Atomic uint64_t *plugged;	/* a bit per block */
	_Atomic uint64_t plugged_bytes;
	uint64_t span;			/* bytes of the mapping that RAM may be in */
	_Atomic uint32_t *version;	/* per RAM page */
	_Atomic uint64_t *code;		/* per RAM page: bit n: code was decoded in bytes 64n.. */
	_Atomic uint8_t *tagged;	/* per RAM page: a write translation may exist */
};

#define MEMORY_CHUNK_SHIFT 6

/* Blocks are 2 MiB or more, so many at most, and begin at a multiple of what
 * operating systems add at once (2 GiB in a large Linux). */
enum { MEMORY_BLOCKS_MAX = 16384 };
#define MEMORY_ROOM_ALIGN (2ull << 30)

/* `size` bytes of RAM, all zero; NULL when the host has no room for it. */
struct memory *memory_create(uint64_t size, struct error *e);
/* The same, and room for `room` bytes more, rounded up to whole blocks. */
struct memory *memory_create_with_room(uint64_t size, uint64_t room, struct error *e);
void memory_destroy(struct memory *m);

static inline uint64_t memory_block_size(const struct memory *m)
{
	return 1ull << m->room_shift;
}

/* Bytes of RAM that are there now. */
static inline uint64_t memory_present(const struct memory *m)
{
	return m->size + atomic_load_explicit(&m->plugged_bytes, memory_order_relaxed);
}

static inline bool memory_block_plugged(const struct memory *m, uint64_t block)
{
	return atomic_load_explicit(&m->plugged[block / 64], memory_order_relaxed) >> block % 64 & 1;
}

/* Put the blocks of room from pa on, n bytes, in (all zero) or out. False: the
 * host does not give them. After out come the processors' translations, and when
 * these are gone memory_discard_unplugged. */
bool memory_plug(struct memory *m, uint64_t pa, uint64_t n, bool in);
/* No host memory for what is out: also not for what a processor wrote there
 * through a translation that it still had. */
void memory_discard_unplugged(struct memory *m);
/* Which blocks are in, not what they hold. A machine that loads has just been
 * reset; its memory comes before its devices, whose rings may lie there. */
void memory_save(const struct memory *m, struct state *s);
int memory_load(struct memory *m, struct state *s, struct error *e);

/* Offset into ram of a guest-physical address, or -1 when it is no RAM. */
static inline int64_t memory_offset(const struct memory *m, uint64_t pa)
{
	if (pa < m->low_size)
		return pa - MEMORY_LEGACY_HOLE < MEMORY_LEGACY_HOLE_END - MEMORY_LEGACY_HOLE ?
			-1 : (int64_t)pa;
	if (pa - MEMORY_HIGH_BASE < m->size - m->low_size)
		return (int64_t)(pa - MEMORY_HIGH_BASE + m->low_size);
	if (pa - m->room_base < m->room_size &&
	    memory_block_plugged(m, (pa - m->room_base) >> m->room_shift))
		return (int64_t)(pa - m->room_base + m->room_offset);
	return -1;
}

/* Guest-physical address of an offset into ram. */
static inline uint64_t memory_address(const struct memory *m, uint64_t offset)
{
	return offset < m->low_size ? offset :
		offset < m->size ? offset - m->low_size + MEMORY_HIGH_BASE :
		offset - m->room_offset + m->room_base;
}

/* Host address of the byte at pa, valid to the end of its 4 KiB page; NULL
 * when it is no RAM. */
static inline uint8_t *memory_host(const struct memory *m, uint64_t pa)
{
	int64_t at = memory_offset(m, pa);
	return at < 0 ? NULL : m->ram + at;
}

/* Host address of n bytes that are RAM throughout and in one piece; NULL. */
uint8_t *memory_range(const struct memory *m, uint64_t pa, uint64_t n);

static inline uint64_t memory_page_index(const struct memory *m, const void *host)
{
	return (uint64_t)((const uint8_t *)host - m->ram) >> PAGE_SHIFT;
}

/* Tell decoded blocks that n bytes at host, within one page, changed. Call it
 * after the store. True when some decoded code became stale. */
static inline bool memory_wrote_range(struct memory *m, const void *host, uint64_t n)
{
	uint64_t page = memory_page_index(m, host);
	uint64_t code = atomic_load_explicit(&m->code[page], memory_order_relaxed);
	uint64_t first = ((uint64_t)((const uint8_t *)host - m->ram) & PAGE_OFFSET_MASK);
	if (likely(!code))
		return false;
	if (!(code & BITS((first + n - 1) >> MEMORY_CHUNK_SHIFT, first >> MEMORY_CHUNK_SHIFT)))
		return false;
	atomic_store(&m->code[page], 0);
	atomic_fetch_add(&m->version[page], 1);
	return true;
}

/* The same for the whole page that host lies in. */
static inline void memory_wrote(struct memory *m, const void *host)
{
	memory_wrote_range(m, m->ram + (memory_page_index(m, host) << PAGE_SHIFT), PAGE_SIZE);
}

/* Checked copies between guest RAM and ours: false, with nothing more done
 * than the part before the fault, when some byte is no RAM. Writes tell
 * decoded code. Any thread. */
bool memory_read(struct memory *m, uint64_t pa, void *to, uint64_t n);
bool memory_write(struct memory *m, uint64_t pa, const void *from, uint64_t n);
bool memory_fill(struct memory *m, uint64_t pa, uint8_t value, uint64_t n);

/* Give the host the n bytes at pa, whole pages of RAM, back: they read as zeros
 * from now on and take up host memory again only when they are touched. Tells
 * decoded code. False, with nothing done, when they are not whole pages or some
 * of them is no RAM. Any thread. */
bool memory_discard(struct memory *m, uint64_t pa, uint64_t n);
/* Whether the host may back the large page (2 MiB) of ram around this offset
 * with one of its own. While a part of it is to stay given back, it should not:
 * the host would fill the part again. */
void memory_allow_large(struct memory *m, uint64_t offset, bool allowed);

/* Guest memory as the guest's own types: at any alignment. */
typedef uint8_t guest_uint8_t;
typedef uint16_t guest_uint16_t __attribute__((aligned(1)));
typedef uint32_t guest_uint32_t __attribute__((aligned(1)));
typedef uint64_t guest_uint64_t __attribute__((aligned(1)));

/* A naturally aligned 1, 2, 4 or 8 byte access is exactly one host access;
 * never a memcpy that may tear. */
static inline uint64_t host_load(const void *p, unsigned size)
{
	switch (size) {
	case 1: return *(const volatile guest_uint8_t *)p;
	case 2: return *(const volatile guest_uint16_t *)p;
	case 4: return *(const volatile guest_uint32_t *)p;
	default: return *(const volatile guest_uint64_t *)p;
	}
}

static inline void host_store(void *p, uint64_t v, unsigned size)
{
	switch (size) {
	case 1: *(volatile guest_uint8_t *)p = (uint8_t)v; break;
	case 2: *(volatile guest_uint16_t *)p = (uint16_t)v; break;
	case 4: *(volatile guest_uint32_t *)p = (uint32_t)v; break;
	default: *(volatile guest_uint64_t *)p = v; break;
	}
}

#endif
