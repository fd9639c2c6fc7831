#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "memory/memory.h"

#include <string.h>
#include <sys/mman.h>

/* Guest-physical memory: where RAM is, checked copies, staleness of decoded
 * code, and pages given back to the host. */

enum { SMALL = 8 << 20 };
#define GIB (1ull << 30)

static struct memory *create(uint64_t size)
{
	struct error e;
	struct memory *m = memory_create(size, &e);
	assert_non_null(m);
	return m;
}

/* Whether the host has the page that holds pa in memory. */
static bool resident(struct memory *m, uint64_t pa)
{
	unsigned char here = 0;
	assert_int_equal(mincore(m->ram + memory_offset(m, pa & ~PAGE_OFFSET_MASK), PAGE_SIZE,
				 &here), 0);
	return here & 1;
}

/* As the decoder does: bytes of the page hold decoded code. */
static uint32_t decode_at(struct memory *m, uint64_t pa, uint64_t chunks)
{
	uint64_t page = memory_page_index(m, memory_host(m, pa));
	atomic_store(&m->code[page], chunks);
	return atomic_load(&m->version[page]);
}

static bool stale(struct memory *m, uint64_t pa, uint32_t version)
{
	return atomic_load(&m->version[memory_page_index(m, memory_host(m, pa))]) != version;
}

static void test_layout_small(void **state)
{
	struct memory *m = create(SMALL + 5);	/* whole pages */
	assert_true(m->size == SMALL && m->low_size == SMALL);
	assert_int_equal((uintptr_t)m->ram % MEMORY_LARGE_PAGE, 0);
	assert_int_equal(memory_offset(m, 0), 0);
	assert_int_equal(memory_offset(m, 0x9ffff), 0x9ffff);
	assert_int_equal(memory_offset(m, 0xa0000), -1);
	assert_int_equal(memory_offset(m, 0xbffff), -1);
	assert_int_equal(memory_offset(m, 0xc0000), 0xc0000);
	assert_int_equal(memory_offset(m, SMALL - 1), SMALL - 1);
	assert_int_equal(memory_offset(m, SMALL), -1);
	assert_int_equal(memory_offset(m, MEMORY_HIGH_BASE), -1);
	assert_int_equal(memory_offset(m, UINT64_MAX), -1);
	assert_null(memory_host(m, 0xa0000));
	assert_ptr_equal(memory_host(m, 0x1234), m->ram + 0x1234);
	assert_int_equal(memory_page_index(m, memory_host(m, 0x1234)), 1);
	memory_destroy(m);
	memory_destroy(NULL);
}

static void test_layout_large(void **state)
{
	struct memory *m = create(5 * GIB);
	assert_true(m->low_size == MEMORY_LOW_MAX);
	assert_int_equal(memory_offset(m, MEMORY_LOW_MAX - 1), MEMORY_LOW_MAX - 1);
	assert_int_equal(memory_offset(m, MEMORY_LOW_MAX), -1);
	assert_int_equal(memory_offset(m, MEMORY_HIGH_BASE - 1), -1);
	assert_int_equal(memory_offset(m, MEMORY_HIGH_BASE), MEMORY_LOW_MAX);
	assert_int_equal(memory_offset(m, MEMORY_HIGH_BASE + 2 * GIB - 1), 5 * GIB - 1);
	assert_int_equal(memory_offset(m, MEMORY_HIGH_BASE + 2 * GIB), -1);
	memory_destroy(m);
}

static void test_no_address_space(void **state)
{
	struct error e;
	assert_null(memory_create(1ull << 56, &e));
	assert_non_null(strstr(e.text, "--memory"));
}

static void test_copies(void **state)
{
	struct memory *m = create(SMALL);
	uint8_t out[3 * PAGE_SIZE], in[sizeof out], zero[64] = { 0 };
	for (unsigned i = 0; i < sizeof out; i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_true(memory_write(m, 0x100ffb, out, sizeof out));
	assert_true(memory_read(m, 0x100ffb, in, sizeof in));
	assert_memory_equal(in, out, sizeof in);
	assert_true(memory_read(m, 0x100ffb - 64, in, 64));
	assert_memory_equal(in, zero, 64);
	assert_true(memory_read(m, SMALL, in, 0));
	/* Up to the fault and no further: into the hole, and past the end. */
	assert_false(memory_write(m, 0x9fff0, out, 32));
	assert_true(memory_read(m, 0x9fff0, in, 16));
	assert_memory_equal(in, out, 16);
	assert_false(memory_write(m, SMALL - 16, out, 32));
	assert_false(memory_read(m, SMALL - 16, in, 32));
	assert_false(memory_write(m, UINT64_MAX - 3, out, 8));
	assert_false(memory_read(m, 0xbffff, in, 1));
	assert_true(memory_fill(m, 0x100ff8, 0xa5, 16));
	assert_true(memory_read(m, 0x100ff8, in, 17));
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(in[i], 0xa5);
	assert_int_equal(in[16], out[13]);
	assert_false(memory_fill(m, SMALL - 1, 0, 2));
	memory_destroy(m);
}

static void test_stale_code(void **state)
{
	struct memory *m = create(SMALL);
	uint8_t byte = 0x90;
	uint32_t version = decode_at(m, 0x5000, BIT(2));
	/* Beside the decoded bytes, 80h-BFh: nothing. */
	assert_true(memory_write(m, 0x507f, &byte, 1));
	assert_true(memory_write(m, 0x50c0, &byte, 1));
	assert_true(memory_write(m, 0x6080, &byte, 1));
	assert_false(memory_wrote_range(m, memory_host(m, 0x5000), 0x80));
	assert_false(stale(m, 0x5000, version));
	assert_int_equal(atomic_load(&m->code[5]), BIT(2));
	assert_true(memory_write(m, 0x50bf, &byte, 1));
	assert_true(stale(m, 0x5000, version));
	assert_int_equal(atomic_load(&m->code[5]), 0);
	/* Once is enough, until something is decoded again. */
	version = atomic_load(&m->version[5]);
	assert_true(memory_write(m, 0x50bf, &byte, 1));
	assert_false(stale(m, 0x5000, version));
	version = decode_at(m, 0x5000, BIT(63));
	assert_true(memory_wrote_range(m, memory_host(m, 0x5fc0), 1));
	assert_true(stale(m, 0x5000, version));
	version = decode_at(m, 0x5000, BIT(0));
	memory_wrote(m, memory_host(m, 0x5abc));	/* the whole page */
	assert_true(stale(m, 0x5000, version));
	version = decode_at(m, 0x5000, BIT(0));
	assert_true(memory_fill(m, 0x4ff0, 0, 0x20));
	assert_true(stale(m, 0x5000, version));
	memory_destroy(m);
}

static void test_discard(void **state)
{
	struct memory *m = create(SMALL);
	uint8_t in[PAGE_SIZE], zero[PAGE_SIZE] = { 0 };
	uint64_t first = 0x200000, n = MEMORY_LARGE_PAGE;
	assert_true(memory_fill(m, first - PAGE_SIZE, 0x5a, n + 2 * PAGE_SIZE));
	uint32_t version = decode_at(m, first + 0x3000, BIT(40));
	uint32_t before = decode_at(m, first - PAGE_SIZE, BIT(63));
	assert_true(resident(m, first) && resident(m, first + n - 1));
	assert_true(memory_discard(m, first, n));
	assert_false(resident(m, first) || resident(m, first + n - 1));
	assert_true(stale(m, first + 0x3000, version));
	for (uint64_t i = 0; i < n; i += PAGE_SIZE) {
		assert_true(memory_read(m, first + i, in, sizeof in));
		assert_memory_equal(in, zero, sizeof in);
	}
	/* The neighbours stay as they are. */
	assert_false(stale(m, first - PAGE_SIZE, before));
	assert_int_equal(*memory_host(m, first - 1), 0x5a);
	assert_int_equal(*memory_host(m, first + n), 0x5a);
	/* It is memory as before. */
	assert_true(memory_fill(m, first, 0x77, 1));
	assert_int_equal(*memory_host(m, first), 0x77);
	memory_destroy(m);
}

static void test_discard_refuses(void **state)
{
	struct memory *m = create(SMALL);
	static const struct { uint64_t pa, n; } bad[] = {
		{ 0x1000, 0 }, { 0x1000, 1 }, { 0x1000, 0x1fff }, { 0x1001, 0x1000 },
		{ 0x9f000, 0x2000 },		/* into the legacy hole */
		{ 0x9f000, 0x22000 },		/* across it */
		{ 0, SMALL }, { 0xa0000, 0x1000 }, { 0xbf000, 0x2000 },
		{ SMALL - 0x1000, 0x2000 }, { SMALL, 0x1000 }, { MEMORY_HIGH_BASE, 0x1000 },
		{ 0x1000, UINT64_MAX & ~PAGE_OFFSET_MASK }, { ~PAGE_OFFSET_MASK, 0x1000 },
		{ ~PAGE_OFFSET_MASK, 0x2000 },
	};
	memset(m->ram, 0x5a, SMALL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(memory_discard(m, bad[i].pa, bad[i].n));
	for (uint64_t i = 0; i < SMALL; i++)
		assert_int_equal(m->ram[i], 0x5a);
	assert_true(memory_discard(m, 0, MEMORY_LEGACY_HOLE));
	assert_true(memory_discard(m, MEMORY_LEGACY_HOLE_END, SMALL - MEMORY_LEGACY_HOLE_END));
	assert_int_equal(m->ram[MEMORY_LEGACY_HOLE - 1], 0);
	assert_int_equal(m->ram[MEMORY_LEGACY_HOLE], 0x5a);
	assert_int_equal(m->ram[MEMORY_LEGACY_HOLE_END - 1], 0x5a);
	assert_int_equal(m->ram[SMALL - 1], 0);
	memory_destroy(m);
}

static void test_discard_across_4gib(void **state)
{
	struct memory *m = create(4 * GIB);
	uint8_t byte = 1;
	assert_true(memory_write(m, MEMORY_HIGH_BASE, &byte, 1));
	assert_true(memory_write(m, MEMORY_LOW_MAX - 1, &byte, 1));
	/* Neighbours in the host's memory, not in the guest's. */
	assert_false(memory_discard(m, MEMORY_LOW_MAX - PAGE_SIZE, 2 * PAGE_SIZE));
	assert_false(memory_discard(m, MEMORY_LOW_MAX - PAGE_SIZE, GIB + 2 * PAGE_SIZE));
	assert_true(memory_discard(m, MEMORY_HIGH_BASE, PAGE_SIZE));
	assert_int_equal(*memory_host(m, MEMORY_HIGH_BASE), 0);
	assert_int_equal(*memory_host(m, MEMORY_LOW_MAX - 1), 1);
	memory_destroy(m);
}

/* A page locked in memory cannot go back; it reads as zeros all the same. */
static void test_discard_locked(void **state)
{
	struct memory *m = create(SMALL);
	memset(m->ram + 0x3000, 0x5a, PAGE_SIZE);
	if (mlock(m->ram + 0x3000, PAGE_SIZE))
		skip();
	assert_true(memory_discard(m, 0x3000, PAGE_SIZE));
	assert_int_equal(m->ram[0x3000], 0);
	assert_int_equal(m->ram[0x3fff], 0);
	memory_destroy(m);
}

static void test_allow_large(void **state)
{
	struct memory *m = create(5ull << 20);		/* not a multiple */
	memset(m->ram, 0x5a, m->size);
	memory_allow_large(m, 0x4ff000, false);	/* the last, cut off */
	memory_allow_large(m, 0x4ff000, true);
	memory_allow_large(m, m->size, false);
	memory_allow_large(m, UINT64_MAX, true);
	for (uint64_t i = 0; i < m->size; i++)
		assert_int_equal(m->ram[i], 0x5a);
	memory_destroy(m);
}

static void test_host_access(void **state)
{
	uint8_t bytes[16] = { 0 };
	for (unsigned size = 1; size <= 8; size *= 2) {
		host_store(bytes + 3, 0x8877665544332211, size);
		assert_true(host_load(bytes + 3, size) ==
			    bits_trim(0x8877665544332211, size));
		assert_int_equal(bytes[3 + size], 0);
		assert_int_equal(bytes[2], 0);
	}
}

/* Blocks of room come and go. */
static void test_room(void **state)
{
	struct error e;
	enum { MORE = 9 << 20, BLOCK = 2 << 20, BLOCKS = 5 };
	struct memory *m = memory_create_with_room(SMALL + PAGE_SIZE, MORE, &e);
	assert_non_null(m);
	uint64_t base = m->room_base, word = 0x1122334455667788;
	assert_true(base == MEMORY_HIGH_BASE && m->room_size == BLOCKS * BLOCK);
	assert_true(memory_block_size(m) == BLOCK && memory_present(m) == m->size);
	assert_int_equal(memory_offset(m, base), -1);
	assert_false(memory_write(m, base, &word, sizeof word));
	assert_true(memory_plug(m, base + BLOCK, 2 * BLOCK, true));
	assert_true(memory_present(m) == m->size + 2 * BLOCK);
	assert_int_equal(memory_offset(m, base + BLOCK - 1), -1);
	assert_int_equal(memory_offset(m, base + 3 * BLOCK), -1);
	for (uint64_t at = BLOCK; at < 3 * BLOCK; at += PAGE_SIZE) {
		int64_t offset = memory_offset(m, base + at);
		assert_true(offset > 0 && (uint64_t)offset < m->span);
		assert_true(memory_address(m, (uint64_t)offset) == base + at);
	}
	assert_int_equal((uintptr_t)memory_host(m, base + BLOCK) % MEMORY_LARGE_PAGE, 0);
	assert_true(memory_write(m, base + 2 * BLOCK - 4, &word, sizeof word));
	/* Pieces: all in, one out in the middle, out at an end. */
	assert_non_null(memory_range(m, base + BLOCK, 2 * BLOCK));
	assert_true(memory_plug(m, base + 4 * BLOCK, BLOCK, true));
	assert_null(memory_range(m, base + BLOCK, 4 * BLOCK));
	assert_null(memory_range(m, base + 2 * BLOCK, BLOCK + 1));
	assert_null(memory_range(m, base, 2 * BLOCK));
	assert_null(memory_range(m, 0x100000, base));
	assert_null(memory_range(m, base + 4 * BLOCK, BLOCK + 1));
	assert_false(memory_discard(m, base + BLOCK, 4 * BLOCK));
	/* In again is counted once, out twice too; it was not emptied. */
	memory_plug(m, base + 3 * BLOCK, BLOCK, false);
	assert_true(memory_present(m) == m->size + 3 * BLOCK);
	/* Out: no RAM, host memory until it is swept, then none; in: zeros. */
	uint8_t *host = memory_host(m, base + BLOCK);
	uint32_t version = decode_at(m, base + BLOCK, 1);
	host[5] = 7;
	memory_plug(m, base + BLOCK, BLOCK, false);
	assert_null(memory_host(m, base + BLOCK));
	assert_non_null(memory_host(m, base + 2 * BLOCK));
	host[6] = 8;		/* a processor that had it */
	memory_discard_unplugged(m);
	unsigned char here = 1;
	assert_int_equal(mincore(host, PAGE_SIZE, &here), 0);
	assert_false(here & 1);
	host[6] = 9;
	assert_true(memory_plug(m, base + BLOCK, BLOCK, true));
	assert_int_equal(host[5] | host[6], 0);
	assert_true(stale(m, base + BLOCK, version));
	memory_destroy(m);
	/* Above RAM that goes beyond 4 GiB, and never more blocks than the most. */
	m = memory_create_with_room(4 * GIB + 8 * PAGE_SIZE, 33 * GIB, &e);
	assert_non_null(m);
	assert_true(m->room_base == 6 * GIB && m->room_size >= 33 * GIB);
	assert_true(m->room_size >> m->room_shift <= MEMORY_BLOCKS_MAX);
	uint64_t last = m->room_base + m->room_size - memory_block_size(m);
	assert_true(memory_plug(m, last, memory_block_size(m), true));
	assert_non_null(memory_host(m, m->room_base + m->room_size - 1));
	assert_null(memory_host(m, m->room_base + m->room_size));
	assert_null(memory_host(m, m->room_base));
	memory_destroy(m);
}

static void test_room_save_load(void **state)
{
	struct error e;
	struct state s = { 0 };
	struct memory *m = memory_create_with_room(SMALL, 200ull << 20, &e);
	struct memory *other = memory_create_with_room(SMALL, 200ull << 20, &e);
	struct memory *smaller = memory_create_with_room(SMALL, 100ull << 20, &e);
	uint64_t base = m->room_base, block = memory_block_size(m);
	memory_plug(m, base, block, true);
	memory_plug(m, base + 70 * block, 3 * block, true);
	memory_save(m, &s);
	assert_int_equal(memory_load(other, &s, &e), 0);
	assert_true(memory_present(other) == memory_present(m));
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(memory_block_plugged(other, i), i == 0 || (i >= 70 && i < 73));
	s.at = 0;
	assert_int_equal(memory_load(smaller, &s, &e), -1);
	assert_true(memory_present(smaller) == SMALL);
	/* A block that there is not. */
	memory_plug(other, base, 100 * block, false);
	s.at = 0;
	s.data[s.size - 1] = 0x80;
	assert_int_equal(memory_load(other, &s, &e), -1);
	state_free(&s);
	memory_destroy(m);
	memory_destroy(other);
	memory_destroy(smaller);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_small),
		cmocka_unit_test(test_layout_large),
		cmocka_unit_test(test_no_address_space),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_stale_code),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_discard_refuses),
		cmocka_unit_test(test_discard_across_4gib),
		cmocka_unit_test(test_discard_locked),
		cmocka_unit_test(test_allow_large),
		cmocka_unit_test(test_host_access),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_room_save_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
