#include "memory/memory.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Around RAM, nothing: an access of ours that misses it must not find other data. */
#define RAM_GUARD (16 * PAGE_SIZE)

/* Address space for RAM, at a multiple of the host's large pages: KVM uses one
 * only where guest and host addresses agree modulo its size. NULL: none. */
static uint8_t *ram_map(uint64_t size)
{
	const uint64_t room = size + MEMORY_LARGE_PAGE + 2 * RAM_GUARD;
	uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	uint8_t *ram = p + (align_up((uint64_t)p + RAM_GUARD, MEMORY_LARGE_PAGE) - (uint64_t)p);
	uint8_t *first = ram - RAM_GUARD, *end = ram + size + RAM_GUARD;
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

struct memory *memory_create(uint64_t size, struct error *e)
{
	struct memory *m = alloc_zeroed(1, sizeof *m);
	m->size = size & ~PAGE_OFFSET_MASK;
	m->low_size = m->size < MEMORY_LOW_MAX ? m->size : MEMORY_LOW_MAX;
	uint8_t *p = ram_map(m->size);
	if (!p) {
		free(m);
		error_set(e, STATUS_ENGINE,
			"The host gives no %llu MiB of address space for the guest's memory (%s); choose a smaller --memory.",
			(unsigned long long)(size >> 20), strerror(errno));
		return NULL;
	}
	madvise(p, m->size, MADV_HUGEPAGE);	/* a wish: fewer host TLB misses */
	m->ram = p;
	m->version = alloc_zeroed(m->size >> PAGE_SHIFT, sizeof *m->version);
	m->code = alloc_zeroed(m->size >> PAGE_SHIFT, sizeof *m->code);
	m->tagged = alloc_zeroed(m->size >> PAGE_SHIFT, sizeof *m->tagged);
	return m;
}

void memory_destroy(struct memory *m)
{
	if (!m)
		return;
	munmap(m->ram - RAM_GUARD, m->size + 2 * RAM_GUARD);
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

/* Offset into ram of n bytes that are RAM throughout and whole pages; -1. */
static int64_t whole_pages(const struct memory *m, uint64_t pa, uint64_t n)
{
	int64_t first = memory_offset(m, pa);
	if ((pa | n) & PAGE_OFFSET_MASK || !n || n > m->size || first < 0)
		return -1;
	/* Between two bytes of RAM in one piece lies at most the legacy hole. */
	if (memory_offset(m, pa + n - 1) != first + (int64_t)n - 1 ||
	    (pa < MEMORY_LEGACY_HOLE && pa + n > MEMORY_LEGACY_HOLE))
		return -1;
	return first;
}

bool memory_discard(struct memory *m, uint64_t pa, uint64_t n)
{
	int64_t at = whole_pages(m, pa, n);
	if (at < 0)
		return false;
	if (madvise(m->ram + at, n, MADV_DONTNEED))
		memset(m->ram + at, 0, n);	/* locked in memory: zeros all the same */
	for (uint64_t i = 0; i < n; i += PAGE_SIZE)
		memory_wrote(m, m->ram + at + i);
	return true;
}

void memory_allow_large(struct memory *m, uint64_t pa, bool allowed)
{
	int64_t at = memory_offset(m, pa);
	if (at < 0)
		return;
	uint64_t first = (uint64_t)at & ~(MEMORY_LARGE_PAGE - 1), left = m->size - first;
	madvise(m->ram + first, left < MEMORY_LARGE_PAGE ? left : MEMORY_LARGE_PAGE,
		allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);	/* a wish, again */
}
