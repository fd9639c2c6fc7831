#include "memory/memory.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { WORD_BITS = 64 };	/* of the map of blocks */

/* Around RAM, nothing: an access of ours that misses it must not find other data. */
#define RAM_GUARD (16 * PAGE_SIZE)

/* Address space of span bytes, the first `size` of them RAM, at a multiple of the host's large pages: KVM uses one
 * only where guest and host addresses agree modulo its size. NULL: none. */
static uint8_t *ram_map(uint64_t size, uint64_t span)
{
	const uint64_t room = span + MEMORY_LARGE_PAGE + 2 * RAM_GUARD;
	uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	uint8_t *ram = p + (align_up((uint64_t)p + RAM_GUARD, MEMORY_LARGE_PAGE) - (uint64_t)p);
	uint8_t *first = ram - RAM_GUARD, *end = ram + span + RAM_GUARD;
	if (first != p)
		munmap(p, (uint64_t)(first - p));
	if (end != p + room)
		munmap(end, (uint64_t)(p + room - end));
	if (mprotect(ram, size, PROT_READ | PROT_WRITE)) {
		munmap(first, (uint64_t)(end - first));
		return NULL;
	}
	return ram;
}

/* Where the room is, in the guest's addresses and in ram. */
static void place_room(struct memory *m, uint64_t room)
{
	m->span = m->size;
	m->room_shift = __builtin_ctzll(MEMORY_LARGE_PAGE);
	if (!room)
		return;
	while (align_up(room, memory_block_size(m)) >> m->room_shift > MEMORY_BLOCKS_MAX)
		m->room_shift++;
	m->room_size = align_up(room, memory_block_size(m));
	m->room_base = align_up(MEMORY_HIGH_BASE + m->size - m->low_size, MEMORY_ROOM_ALIGN);
	m->room_offset = align_up(m->size, MEMORY_LARGE_PAGE);
	m->span = m->room_offset + m->room_size;
}

struct memory *memory_create(uint64_t size, struct error *e)
{
	return memory_create_with_room(size, 0, e);
}

struct memory *memory_create_with_room(uint64_t size, uint64_t room, struct error *e)
{
	struct memory *m = alloc_zeroed(1, sizeof *m);
	m->size = size & ~PAGE_OFFSET_MASK;
	m->low_size = m->size < MEMORY_LOW_MAX ? m->size : MEMORY_LOW_MAX;
	place_room(m, room);
	uint8_t *p = ram_map(m->size, m->span);
	if (!p) {
		free(m);
		error_set(e, STATUS_ENGINE,
			"The host gives no %llu MiB of address space for the guest's memory (%s); choose a smaller --memory.",
			(unsigned long long)(size >> 20), strerror(errno));
		return NULL;
	}
	madvise(p, m->span, MADV_HUGEPAGE);	/* a wish: fewer host TLB misses */
	m->ram = p;
	m->version = alloc_zeroed(m->span >> PAGE_SHIFT, sizeof *m->version);
	m->code = alloc_zeroed(m->span >> PAGE_SHIFT, sizeof *m->code);
	m->tagged = alloc_zeroed(m->span >> PAGE_SHIFT, sizeof *m->tagged);
	m->plugged = alloc_zeroed(MEMORY_BLOCKS_MAX / WORD_BITS, sizeof *m->plugged);
	return m;
}

void memory_destroy(struct memory *m)
{
	if (!m)
		return;
	munmap(m->ram - RAM_GUARD, m->span + 2 * RAM_GUARD);
	free(m->plugged);
	free(m->version);
	free(m->code);
	free(m->tagged);
	free(m);
}

/* Length of the run from pa that stays in one page, at most n. */
static uint64_t chunk(uint64_t pa, uint64_t n)
{
	uint64_t left = PAGE_SIZE - (pa & PAGE_OFFSET_MASK);
	return n < left ? n : left;
}

bool memory_read(struct memory *m, uint64_t pa, void *to, uint64_t n)
{
	for (uint8_t *out = to; n;) {
		uint64_t part = chunk(pa, n);
		const uint8_t *host = memory_host(m, pa);
		if (!host)
			return false;
		memcpy(out, host, part);
		out += part;
		pa += part;
		n -= part;
	}
	return true;
}

bool memory_write(struct memory *m, uint64_t pa, const void *from, uint64_t n)
{
	for (const uint8_t *in = from; n;) {
		uint64_t part = chunk(pa, n);
		uint8_t *host = memory_host(m, pa);
		if (!host)
			return false;
		memcpy(host, in, part);
		memory_wrote_range(m, host, part);
		in += part;
		pa += part;
		n -= part;
	}
	return true;
}

bool memory_fill(struct memory *m, uint64_t pa, uint8_t value, uint64_t n)
{
	while (n) {
		uint64_t part = chunk(pa, n);
		uint8_t *host = memory_host(m, pa);
		if (!host)
			return false;
		memset(host, value, part);
		memory_wrote_range(m, host, part);
		pa += part;
		n -= part;
	}
	return true;
}

uint8_t *memory_range(const struct memory *m, uint64_t pa, uint64_t n)
{
	uint64_t last = pa + n - 1;
	if (!n || last < pa)
		return NULL;
	int64_t first_at = memory_offset(m, pa), last_at = memory_offset(m, last);
	if (first_at < 0 || last_at < 0 || (uint64_t)(last_at - first_at) != n - 1)
		return NULL;
	/* Between two bytes of one piece lie at most the legacy hole and blocks
	 * that are out. */
	if (pa < MEMORY_LEGACY_HOLE_END && last >= MEMORY_LEGACY_HOLE)
		return NULL;
	uint64_t at = pa < m->room_base ? m->room_base : pa;
	for (; m->room_size && at <= last; at = (at | (memory_block_size(m) - 1)) + 1)
		if (memory_offset(m, at) < 0)
			return NULL;
	return m->ram + first_at;
}

static void discard(struct memory *m, uint8_t *host, uint64_t n)
{
	if (madvise(host, n, MADV_DONTNEED))
		memset(host, 0, n);	/* locked in memory: zeros all the same */
	for (uint64_t i = 0; i < n; i += PAGE_SIZE)
		memory_wrote(m, host + i);
}

bool memory_discard(struct memory *m, uint64_t pa, uint64_t n)
{
	uint8_t *host = (pa | n) & PAGE_OFFSET_MASK ? NULL : memory_range(m, pa, n);
	if (host)
		discard(m, host, n);
	return host;
}

bool memory_plug(struct memory *m, uint64_t pa, uint64_t n, bool in)
{
	uint64_t first = (pa - m->room_base) >> m->room_shift, blocks = n >> m->room_shift;
	uint8_t *host = m->ram + m->room_offset + (first << m->room_shift);
	/* It stays accessible when it is out again, for those who took an address
	 * in it just before. */
	if (in && mprotect(host, n, PROT_READ | PROT_WRITE))
		return false;
	if (in)
		discard(m, host, n);
	for (uint64_t i = first; i < first + blocks; i++) {
		uint64_t bit = BIT(i % WORD_BITS);
		uint64_t old = in ? atomic_fetch_or(&m->plugged[i / WORD_BITS], bit) :
			atomic_fetch_and(&m->plugged[i / WORD_BITS], ~bit);
		if (!(old & bit) == in)
			atomic_fetch_add(&m->plugged_bytes, in ? memory_block_size(m) :
					 -memory_block_size(m));
	}
	return true;
}

void memory_discard_unplugged(struct memory *m)
{
	uint64_t blocks = m->room_size >> m->room_shift, end;
	for (uint64_t i = 0; i < blocks; i = end + 1) {
		for (end = i; end < blocks && !memory_block_plugged(m, end);)
			end++;
		if (end > i)
			madvise(m->ram + m->room_offset + (i << m->room_shift),
				(end - i) << m->room_shift, MADV_DONTNEED);
	}
}

static const char section[] = "memory";

void memory_save(const struct memory *m, struct state *s)
{
	uint64_t blocks = m->room_size >> m->room_shift;
	state_section(s, section, 1);
	state_put_field(s, m->size);
	state_put_field(s, m->room_size);
	for (uint64_t i = 0; i < blocks; i += WORD_BITS)
		state_put_field(s, m->plugged[i / WORD_BITS]);
}

int memory_load(struct memory *m, struct state *s, struct error *e)
{
	uint64_t blocks = m->room_size >> m->room_shift;
	state_open(s, section);
	if (state_get(s, sizeof m->size) != m->size || state_get(s, sizeof m->room_size) != m->room_size)
		s->failed = true;
	for (uint64_t i = 0; i < blocks && !s->failed; i += WORD_BITS)
		for (uint64_t word = state_get(s, sizeof word); word; word &= word - 1) {
			uint64_t block = i + (unsigned)__builtin_ctzll(word);
			if (block >= blocks || !memory_plug(m, m->room_base + (block << m->room_shift),
							    memory_block_size(m), true))
				s->failed = true;
		}
	return state_finish(s, section, e);
}

void memory_allow_large(struct memory *m, uint64_t offset, bool allowed)
{
	uint64_t first = offset & ~(MEMORY_LARGE_PAGE - 1);
	if (first >= m->span)
		return;
	uint64_t left = m->span - first;
	madvise(m->ram + first, left < MEMORY_LARGE_PAGE ? left : MEMORY_LARGE_PAGE,
		allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);	/* a wish, again */
}
