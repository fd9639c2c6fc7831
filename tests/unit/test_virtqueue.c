#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bits.h"
#include "virtio/virtqueue.h"

#include <linux/virtio_ring.h>

enum {
	MEMORY_SIZE = 4 << 20, SIZE = 8,
	DESC = 0x100000, AVAIL = 0x101000, USED = 0x102000, TABLE = 0x103000, DATA = 0x200000,
	OUT = 0, IN = VRING_DESC_F_WRITE, NEXT = VRING_DESC_F_NEXT,
	INDIRECT = VRING_DESC_F_INDIRECT,
};

struct fixture {
	struct memory *m;
	struct virtqueue q;
	struct virtq_chain chain;
	struct virtq_fault why;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof *f);
	struct error e;
	f->m = memory_create(MEMORY_SIZE, &e);
	f->q.max_size = SIZE;
	virtqueue_reset(&f->q);
	f->q.desc = DESC;
	f->q.avail = AVAIL;
	f->q.used = USED;
	f->q.indirect = true;
	*state = f;
	return !virtqueue_enable(&f->q, f->m, &f->why);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	memory_destroy(f->m);
	test_free(f);
	return 0;
}

static void set(struct fixture *f, uint64_t address, uint64_t value, unsigned size)
{
	assert_true(memory_write(f->m, address, &value, size));
}

static uint64_t get(struct fixture *f, uint64_t address, unsigned size)
{
	uint64_t value = 0;
	assert_true(memory_read(f->m, address, &value, size));
	return value;
}

static void desc(struct fixture *f, uint64_t table, unsigned i, uint64_t address, uint32_t length,
		 unsigned flags, unsigned next)
{
	set(f, table + 16 * i, address, 8);
	set(f, table + 16 * i + 8, length, 4);
	set(f, table + 16 * i + 12, flags, 2);
	set(f, table + 16 * i + 14, next, 2);
}

static void offer(struct fixture *f, uint16_t head)
{
	uint16_t index = (uint16_t)get(f, AVAIL + 2, 2);
	set(f, AVAIL + 4 + index % SIZE * 2, head, 2);
	set(f, AVAIL + 2, index + 1u, 2);
}

static enum virtq_result pop(struct fixture *f)
{
	return virtqueue_pop(&f->q, f->m, &f->chain, &f->why);
}

static void expect_broken(struct fixture *f, const char *words)
{
	assert_int_equal(pop(f), VIRTQ_BROKEN);
	if (!strstr(f->why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", f->why.text, words);
}

static void test_chain(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[64], back[64];
	assert_int_equal(pop(f), VIRTQ_EMPTY);
	assert_false(virtqueue_waiting(&f->q, f->m));
	desc(f, DESC, 3, DATA, 16, OUT | NEXT, 5);
	desc(f, DESC, 5, DATA + 0x1000, 0, OUT | NEXT, 1);	/* empty is allowed */
	desc(f, DESC, 1, DATA + 0x1ff8, 32, OUT | NEXT, 0);	/* over a page's end */
	desc(f, DESC, 0, DATA + 0x4000, 10, IN | NEXT, 7);
	desc(f, DESC, 7, DATA + 0x5000, 20, IN, 0);
	offer(f, 3);
	assert_true(virtqueue_waiting(&f->q, f->m));
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.out_count, 3);
	assert_int_equal(f->chain.in_count, 2);
	assert_int_equal(f->chain.out_bytes, 48);
	assert_int_equal(f->chain.in_bytes, 30);
	assert_int_equal(pop(f), VIRTQ_EMPTY);

	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i + 1);
	memory_write(f->m, DATA, bytes, 16);
	memory_write(f->m, DATA + 0x1ff8, bytes + 16, 32);
	assert_int_equal(virtq_copy_out(&f->chain, f->m, 0, back, sizeof back), 48);
	assert_memory_equal(back, bytes, 48);
	assert_int_equal(virtq_copy_out(&f->chain, f->m, 14, back, 10), 10);
	assert_memory_equal(back, bytes + 14, 10);
	assert_int_equal(virtq_copy_out(&f->chain, f->m, 48, back, 10), 0);
	assert_int_equal(virtq_copy_in(&f->chain, f->m, 5, bytes, 8), 8);
	assert_int_equal(get(f, DATA + 0x4005, 1), 1);
	assert_int_equal(get(f, DATA + 0x4009, 1), 5);
	assert_int_equal(get(f, DATA + 0x400a, 1), 0);
	assert_int_equal(get(f, DATA + 0x5000, 1), 6);
	assert_int_equal(virtq_copy_in(&f->chain, f->m, 0, bytes, sizeof bytes), 30);

	virtqueue_push(&f->q, f->m, f->chain.head, 30);
	assert_int_equal(get(f, USED + 2, 2), 1);
	assert_int_equal(get(f, USED + 4, 4), 3);
	assert_int_equal(get(f, USED + 8, 4), 30);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;
	desc(f, DESC, 2, TABLE, 16 * 100, INDIRECT, 0);
	desc(f, TABLE, 0, DATA, 8, NEXT, 99);
	desc(f, TABLE, 99, DATA + 8, 8, IN, 0);
	offer(f, 2);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	assert_int_equal(f->chain.out_bytes, 8);
	assert_int_equal(f->chain.in_bytes, 8);
	assert_int_equal(f->chain.head, 2);
	/* After direct ones in the same chain, too. */
	desc(f, DESC, 0, DATA, 4, NEXT, 2);
	offer(f, 0);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	assert_int_equal(f->chain.out_bytes, 12);
	assert_int_equal(f->chain.out_count, 2);
}

static void test_wraps(void **state)
{
	struct fixture *f = *state;
	/* Both indices pass 65535 with entries in flight. */
	desc(f, DESC, 4, DATA, 4, IN, 0);
	f->q.next_avail = f->q.next_used = f->q.signalled = 0xfffd;
	set(f, AVAIL + 2, 0xfffd, 2);
	for (unsigned i = 0; i < SIZE; i++)
		offer(f, 4);
	for (unsigned i = 0; i < SIZE; i++) {
		assert_int_equal(pop(f), VIRTQ_CHAIN);
		virtqueue_push(&f->q, f->m, f->chain.head, i);
	}
	assert_int_equal(pop(f), VIRTQ_EMPTY);
	assert_int_equal(get(f, USED + 2, 2), 5);
	assert_int_equal(get(f, USED + 4 + 8 * (0xfffd % SIZE) + 4, 4), 0);
	assert_int_equal(get(f, USED + 4 + 8 * 4 + 4, 4), 7);
	assert_true(virtqueue_should_interrupt(&f->q, f->m));
}

static void test_interrupt_flag(void **state)
{
	struct fixture *f = *state;
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_true(virtqueue_should_interrupt(&f->q, f->m));
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
	set(f, AVAIL, VRING_AVAIL_F_NO_INTERRUPT, 2);
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
}

static void test_event_index(void **state)
{
	struct fixture *f = *state;
	unsigned used_event = AVAIL + 4 + 2 * SIZE, avail_event = USED + 4 + 8 * SIZE;
	f->q.event_index = true;
	desc(f, DESC, 0, DATA, 4, IN, 0);
	/* "Interrupt me when the used index passes 2." */
	set(f, used_event, 2, 2);
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_true(virtqueue_should_interrupt(&f->q, f->m));
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_false(virtqueue_should_interrupt(&f->q, f->m));
	/* A batch that passes it. */
	set(f, used_event, 5, 2);
	virtqueue_push(&f->q, f->m, 0, 0);
	virtqueue_push(&f->q, f->m, 0, 0);
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_true(virtqueue_should_interrupt(&f->q, f->m));
	/* The flag has no meaning now. */
	set(f, AVAIL, VRING_AVAIL_F_NO_INTERRUPT, 2);
	set(f, used_event, 7, 2);
	virtqueue_push(&f->q, f->m, 0, 0);
	assert_true(virtqueue_should_interrupt(&f->q, f->m));

	offer(f, 0);
	offer(f, 0);
	virtqueue_want_notification(&f->q, f->m);
	assert_int_equal(get(f, avail_event, 2), 2);
}

static void test_hostile_chains(void **state)
{
	struct fixture *f = *state;
	/* A descriptor that follows itself; two that follow each other. */
	desc(f, DESC, 0, DATA, 1, NEXT, 0);
	offer(f, 0);
	expect_broken(f, "loop");
	desc(f, DESC, 0, DATA, 1, IN | NEXT, 1);
	desc(f, DESC, 1, DATA, 1, IN | NEXT, 0);
	offer(f, 0);
	expect_broken(f, "loop");
	/* Indices beyond the tables. */
	offer(f, SIZE);
	expect_broken(f, "descriptor 8 is beyond");
	offer(f, 0xffff);
	expect_broken(f, "descriptor 65535 is beyond");
	desc(f, DESC, 0, DATA, 1, NEXT, SIZE);
	offer(f, 0);
	expect_broken(f, "beyond");
	desc(f, DESC, 0, TABLE, 32, INDIRECT, 0);
	desc(f, TABLE, 0, DATA, 1, NEXT, 2);
	offer(f, 0);
	expect_broken(f, "descriptor 2 is beyond");
	/* A long chain in an indirect table. */
	desc(f, DESC, 0, TABLE, 16 * 64, INDIRECT, 0);
	for (unsigned i = 0; i < 64; i++)
		desc(f, TABLE, i, DATA, 1, NEXT, i + 1);
	offer(f, 0);
	expect_broken(f, "more descriptors");
	/* Writable, then readable. */
	desc(f, DESC, 0, DATA, 1, IN | NEXT, 1);
	desc(f, DESC, 1, DATA, 1, OUT, 0);
	offer(f, 0);
	expect_broken(f, "readable descriptor follows");
}

static void test_hostile_addresses(void **state)
{
	static const struct { uint64_t address; uint32_t length; } bad[] = {
		{ MEMORY_SIZE, 1 }, { MEMORY_SIZE - 4, 5 }, { 0xfee00000, 4 },
		{ MEMORY_LEGACY_HOLE, 1 }, { MEMORY_LEGACY_HOLE - 1, 2 },
		{ MEMORY_LEGACY_HOLE - 1, MEMORY_LEGACY_HOLE_END - MEMORY_LEGACY_HOLE + 2 },
		{ MEMORY_LEGACY_HOLE_END - 1, 2 }, { MEMORY_HIGH_BASE, 1 },
		{ 0, 0xffffffff }, { UINT64_MAX, 1 }, { UINT64_MAX - 1, 4 }, { 1ull << 63, 16 },
	};
	struct fixture *f = *state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		desc(f, DESC, 0, bad[i].address, bad[i].length, i & 1 ? IN : OUT, 0);
		offer(f, 0);
		expect_broken(f, "not RAM");
		desc(f, DESC, 0, bad[i].address & ~15ull, 16 * (bad[i].length + 1), INDIRECT, 0);
		if (i == 0 || i == 2) {
			offer(f, 0);
			expect_broken(f, "not RAM");
		}
	}
	/* The last bytes of RAM are RAM. */
	desc(f, DESC, 0, MEMORY_SIZE - 4, 4, IN, 0);
	offer(f, 0);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	desc(f, DESC, 0, 0, MEMORY_LEGACY_HOLE, IN, 0);
	offer(f, 0);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	/* Tables of an odd length, inside a table, not negotiated, with a next. */
	desc(f, DESC, 0, TABLE, 0, INDIRECT, 0);
	offer(f, 0);
	expect_broken(f, "0 bytes long");
	desc(f, DESC, 0, TABLE, 24, INDIRECT, 0);
	offer(f, 0);
	expect_broken(f, "24 bytes long");
	desc(f, DESC, 0, TABLE, 16, INDIRECT | NEXT, 1);
	offer(f, 0);
	expect_broken(f, "has a next");
	desc(f, DESC, 0, TABLE, 16, INDIRECT, 0);
	desc(f, TABLE, 0, TABLE, 16, INDIRECT, 0);
	offer(f, 0);
	expect_broken(f, "holds an indirect");
	f->q.indirect = false;
	offer(f, 0);
	expect_broken(f, "not negotiated");
}

static void test_hostile_index(void **state)
{
	struct fixture *f = *state;
	desc(f, DESC, 0, DATA, 4, IN, 0);
	set(f, AVAIL + 2, SIZE, 2);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	set(f, AVAIL + 2, SIZE + 2, 2);
	expect_broken(f, "runs 9 ahead");
	set(f, AVAIL + 2, 0, 2);	/* backwards */
	expect_broken(f, "runs 65535 ahead");
}

static void test_enable_checks(void **state)
{
	static const struct { uint64_t desc, avail, used; const char *name; } bad[] = {
		{ DESC + 8, AVAIL, USED, "descriptor table" },
		{ DESC, AVAIL + 1, USED, "available ring" },
		{ DESC, AVAIL, USED + 2, "used ring" },
		{ MEMORY_SIZE - 16, AVAIL, USED, "descriptor table" },
		{ DESC, MEMORY_SIZE - 2, USED, "available ring" },
		{ DESC, AVAIL, MEMORY_SIZE - 16, "used ring" },
		{ MEMORY_LEGACY_HOLE - 16, AVAIL, USED, "descriptor table" },
		{ DESC, UINT64_MAX - 1, USED, "available ring" },
		{ DESC, AVAIL, 0xfffffffffffffffc, "used ring" },
	};
	struct fixture *f = *state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct virtqueue q = { .max_size = SIZE, .size = SIZE, .desc = bad[i].desc,
			.avail = bad[i].avail, .used = bad[i].used };
		assert_false(virtqueue_enable(&q, f->m, &f->why));
		assert_false(q.enabled);
		assert_non_null(strstr(f->why.text, bad[i].name));
		assert_int_equal(virtqueue_pop(&q, f->m, &f->chain, &f->why), VIRTQ_EMPTY);
	}
	/* The event index needs two bytes more. */
	struct virtqueue q = { .max_size = SIZE, .size = SIZE, .desc = DESC,
		.avail = MEMORY_SIZE - (4 + 2 * SIZE), .used = USED };
	assert_true(virtqueue_enable(&q, f->m, &f->why));
	q.event_index = true;
	assert_false(virtqueue_enable(&q, f->m, &f->why));
}

static void test_decoded_code_is_told(void **state)
{
	struct fixture *f = *state;
	uint64_t page = DATA >> PAGE_SHIFT;
	desc(f, DESC, 0, DATA + 0xff0, 0x2000, IN, 0);
	offer(f, 0);
	assert_int_equal(pop(f), VIRTQ_CHAIN);
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&f->m->code[page + i], ~0ull);
	struct iovec iov[VIRTQ_MAX_SIZE];
	unsigned n = virtq_iovec(&f->chain, f->m, true, 0x20, 0x1fe0, iov);
	assert_int_equal(n, 1);
	virtq_wrote(f->m, iov, n);
	assert_int_equal(f->m->version[page], 0);
	assert_int_equal(f->m->version[page + 1], 1);
	assert_int_equal(f->m->version[page + 2], 1);
	assert_int_equal(f->m->version[page + 3], 0);
}

static void save_and_load(const struct virtqueue *from, struct virtqueue *to, const struct memory *m,
			  struct state *s)
{
	state_section(s, "device", 1);
	virtqueue_save(from, s);
	assert_int_equal(state_open(s, "device"), 1);
	virtqueue_load(to, m, s);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct state s = { 0 };
	struct virtqueue q = { .max_size = SIZE };
	f->q.next_avail = 3;
	f->q.next_used = 2;
	f->q.signalled = 1;
	save_and_load(&f->q, &q, f->m, &s);
	assert_false(s.failed);
	assert_true(q.enabled);
	assert_int_equal(q.size, SIZE);
	assert_int_equal(q.desc, DESC);
	assert_int_equal(q.next_avail, 3);
	assert_int_equal(q.next_used, 2);
	assert_int_equal(q.signalled, 1);
	/* A state with a size or rings that cannot be. */
	for (unsigned bad = 0; bad < 3; bad++) {
		struct virtqueue wrong = f->q;
		struct state t = { 0 };
		if (bad == 0)
			wrong.size = SIZE * 2;
		else if (bad == 1)
			wrong.size = SIZE - 1;
		else
			wrong.used = MEMORY_SIZE;
		save_and_load(&wrong, &q, f->m, &t);
		assert_true(t.failed);
		assert_false(q.enabled);
		state_free(&t);
	}
	state_free(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_chain),
		TEST(test_indirect),
		TEST(test_wraps),
		TEST(test_interrupt_flag),
		TEST(test_event_index),
		TEST(test_hostile_chains),
		TEST(test_hostile_addresses),
		TEST(test_hostile_index),
		TEST(test_enable_checks),
		TEST(test_decoded_code_is_told),
		TEST(test_save_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
