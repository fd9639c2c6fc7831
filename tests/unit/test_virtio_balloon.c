#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_balloon.h"
#include "virtio_driver.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <sys/mman.h>

/* The balloon: its queues, the memory behind it, and what the policy sees. */

enum {
	INFLATE, DEFLATE, STATISTICS, HINT, REPORTING, QUEUES,
	RING = 32,
	PAGES = RIG_MEMORY >> PAGE_SHIFT,
	BALLOON = 0x800000,		/* where the guest takes its pages from */
	PERIOD_MS = 1000,
};
#define NS_PER_MS 1000000ull
#define FEATURES (BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | \
	BIT(VIRTIO_BALLOON_F_REPORTING))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct balloon_rig {
	struct rig rig;
	struct clock *clock;
	struct guest_memory *memory;
	unsigned changes;
};

static void on_changed(void *owner)
{
	struct balloon_rig *r = owner;
	struct guest_memory_status s;
	guest_memory_get_status(r->memory, &s);	/* it may be asked from here */
	r->changes++;
}

static int setup(void **state)
{
	struct balloon_rig *r = calloc(1, sizeof *r);
	struct error e;
	rig_create(&r->rig);
	r->clock = clock_create(&lock, true);
	struct virtio_device *v = virtio_balloon_create(r->rig.pci, RIG_SLOT, r->rig.memory,
							r->clock, &e);
	rig_probe(&r->rig, v);
	r->memory = virtio_balloon_guest_memory(v);
	r->memory->changed = on_changed;
	r->memory->owner = r;
	*state = r;
	return !v;
}

static int teardown(void **state)
{
	struct balloon_rig *r = *state;
	virtio_balloon_destroy(r->rig.device);
	r->rig.device = NULL;
	rig_destroy(&r->rig);
	clock_destroy(r->clock);
	free(r);
	return 0;
}

static struct guest_memory_status status(struct balloon_rig *r)
{
	struct guest_memory_status s;
	guest_memory_get_status(r->memory, &s);
	return s;
}

static uint64_t ballooned(struct balloon_rig *r)
{
	struct guest_memory_status s = status(r);
	return (s.size - s.current) >> PAGE_SHIFT;
}

static void pass(struct balloon_rig *r, uint64_t ms)
{
	clock_advance(r->clock, ms * NS_PER_MS);
	clock_run_due(r->clock);
}

static bool resident(struct rig *r, uint64_t pa)
{
	unsigned char here = 0;
	assert_int_equal(mincore(memory_host(r->memory, pa), PAGE_SIZE, &here), 0);
	return here & 1;
}

/* Page frame numbers through a queue, and the buffer back. */
static bool give(struct balloon_rig *r, unsigned queue, const uint32_t *pfn, unsigned count)
{
	uint32_t head, length;
	memory_write(r->rig.memory, RIG_DATA, pfn, count * sizeof *pfn);
	uint16_t offered = rig_offer(&r->rig, queue,
		&(struct piece){ RIG_DATA, (uint32_t)(count * sizeof *pfn), false }, 1);
	rig_kick(&r->rig, queue);
	if (!rig_take(&r->rig, queue, &head, &length))
		return false;
	assert_int_equal(head, offered);
	assert_int_equal(length, 0);
	return true;
}

static void give_run(struct balloon_rig *r, unsigned queue, uint32_t first, unsigned count)
{
	uint32_t pfn[256];
	while (count) {
		unsigned n = count < ARRAY_SIZE(pfn) ? count : (unsigned)ARRAY_SIZE(pfn);
		for (unsigned i = 0; i < n; i++)
			pfn[i] = first + i;
		assert_true(give(r, queue, pfn, n));
		first += n;
		count -= n;
	}
}

static uint32_t config(struct balloon_rig *r, unsigned offset)
{
	return (uint32_t)mmio_read(&r->rig, r->rig.config + offset, 4);
}

static void test_identity(void **state)
{
	struct balloon_rig *r = *state;
	assert_int_equal(rig_read(&r->rig, 0, 4), (0x1040 + VIRTIO_ID_BALLOON) << 16 | 0x1af4);
	assert_true((rig_features(&r->rig) & 0xffffff) == FEATURES);
	assert_int_equal(common_get(&r->rig, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	assert_true(r->rig.config);
	struct guest_memory_status s = status(r);
	assert_true(s.size == RIG_MEMORY && s.target == RIG_MEMORY && s.current == RIG_MEMORY);
	assert_false(s.driver_present);
	assert_false(s.statistics.known);
}

static void test_target(void **state)
{
	struct balloon_rig *r = *state;
	guest_memory_set_target(r->memory, RIG_MEMORY - 5 * PAGE_SIZE);
	assert_int_equal(r->rig.messages, 0);	/* nobody there */
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	assert_true(status(r).driver_present);
	assert_true(r->changes);
	assert_int_equal(config(r, 0), 5);
	unsigned generation = (unsigned)common_get(&r->rig, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	guest_memory_set_target(r->memory, RIG_MEMORY / 2 + 1);		/* rounded up */
	assert_int_equal(config(r, 0), PAGES / 2 - 1);
	assert_true(status(r).target == RIG_MEMORY / 2 + PAGE_SIZE);
	assert_int_equal(r->rig.messages, 1);
	assert_int_equal(r->rig.message[0].data, RIG_VECTOR_DATA);
	assert_int_not_equal(common_get(&r->rig, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	/* It did not follow: once more. */
	guest_memory_set_target(r->memory, RIG_MEMORY / 2 + 1);
	assert_int_equal(r->rig.messages, 2);
	guest_memory_set_target(r->memory, UINT64_MAX);
	assert_true(status(r).target == RIG_MEMORY);
	assert_int_equal(config(r, 0), 0);
	assert_int_equal(r->rig.messages, 3);
	/* There it is already. */
	guest_memory_set_target(r->memory, RIG_MEMORY);
	assert_int_equal(r->rig.messages, 3);
	guest_memory_set_target(r->memory, 0);
	assert_int_equal(config(r, 0), PAGES);
	/* The driver's side of the configuration; num_pages is not. */
	mmio_write(&r->rig, r->rig.config + 4, 4, 77);
	mmio_write(&r->rig, r->rig.config, 4, 1);
	mmio_write(&r->rig, r->rig.config + 6, 4, 0xffffffff);
	mmio_write(&r->rig, r->rig.config + 4, 2, 0xffff);
	assert_int_equal(config(r, 4), 77);
	assert_int_equal(config(r, 0), PAGES);
	/* A driver's reset leaves the target. */
	common_set(&r->rig, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_false(status(r).driver_present);
	assert_int_equal(config(r, 4), 0);
	assert_int_equal(config(r, 0), PAGES);
}

static void test_inflate_deflate(void **state)
{
	struct balloon_rig *r = *state;
	struct memory *m = r->rig.memory;
	uint32_t first = BALLOON >> PAGE_SHIFT;
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	memory_fill(m, BALLOON - PAGE_SIZE, 0x5a, 602 * PAGE_SIZE);
	/* Decoded code in a page of it, and in the page before. */
	atomic_store(&m->code[first + 300], BIT(17));
	atomic_store(&m->code[first - 1], BIT(63));
	uint32_t version = m->version[first + 300], before = m->version[first - 1];
	unsigned changes = r->changes;
	give_run(r, INFLATE, first, 600);
	assert_int_equal(ballooned(r), 600);
	assert_true(status(r).current == RIG_MEMORY - 600 * PAGE_SIZE);
	assert_true(r->changes > changes);
	for (unsigned i = 0; i < 600; i++)
		assert_false(resident(&r->rig, BALLOON + i * PAGE_SIZE));
	assert_true(resident(&r->rig, BALLOON - PAGE_SIZE));
	assert_true(resident(&r->rig, BALLOON + 600 * PAGE_SIZE));
	assert_int_not_equal(m->version[first + 300], version);
	assert_int_equal(m->version[first - 1], before);
	/* Down again, and the pages are memory. */
	give_run(r, DEFLATE, first + 100, 500);
	assert_int_equal(ballooned(r), 100);
	assert_int_equal(*memory_host(m, BALLOON + 599 * PAGE_SIZE), 0);
	memory_fill(m, BALLOON + 599 * PAGE_SIZE, 0x77, PAGE_SIZE);
	assert_int_equal(*memory_host(m, BALLOON + 599 * PAGE_SIZE), 0x77);
	give_run(r, DEFLATE, first, 100);
	assert_int_equal(ballooned(r), 0);
}

static void test_order_of_pages(void **state)
{
	struct balloon_rig *r = *state;
	/* Down, up, scattered, and one twice. */
	static const uint32_t pfn[] = { 0x807, 0x806, 0x805, 0x900, 0x901, 0x902, 0x8ff, 0xa00,
		0x850, 0x852, 0x850, 0x851 };
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	memory_fill(r->rig.memory, BALLOON, 0x5a, RIG_MEMORY - BALLOON);
	assert_true(give(r, INFLATE, pfn, ARRAY_SIZE(pfn)));
	assert_int_equal(ballooned(r), 11);
	for (uint32_t page = 0x800; page < PAGES; page++) {
		bool in = false;
		for (unsigned i = 0; i < ARRAY_SIZE(pfn); i++)
			in |= pfn[i] == page;
		assert_int_equal(resident(&r->rig, (uint64_t)page << PAGE_SHIFT), !in);
	}
	/* Taken back without having been given, or twice. */
	assert_true(give(r, DEFLATE, (const uint32_t[]){ 0x123, 0x850, 0x850 }, 3));
	assert_int_equal(ballooned(r), 10);
	/* A buffer that ends in half a number, and an empty one. */
	uint32_t head, length;
	memory_write(r->rig.memory, RIG_DATA, (const uint32_t[]){ 0xb00, 0xb01 }, 8);
	rig_offer(&r->rig, INFLATE, &(struct piece){ RIG_DATA, 6, false }, 1);
	rig_offer(&r->rig, INFLATE, &(struct piece){ RIG_DATA, 64, true }, 1);
	rig_kick(&r->rig, INFLATE);
	assert_true(rig_take(&r->rig, INFLATE, &head, &length));
	assert_true(rig_take(&r->rig, INFLATE, &head, &length));
	assert_int_equal(ballooned(r), 11);
}

/* Large pages of the host: a part comes back, all of them at the reset. */
static void test_all_of_it(void **state)
{
	struct balloon_rig *r = *state;
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	give_run(r, INFLATE, 0x400, PAGES - 0x400);
	assert_int_equal(ballooned(r), PAGES - 0x400);
	assert_true(give(r, DEFLATE, (const uint32_t[]){ 0x400, 0x800, PAGES - 1 }, 3));
	assert_int_equal(ballooned(r), PAGES - 0x400 - 3);
	unsigned changes = r->changes;
	common_set(&r->rig, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(ballooned(r), 0);
	assert_true(r->changes > changes);
}

/* What a driver may not give. */
static void test_no_ram(void **state)
{
	struct balloon_rig *r = *state;
	static const uint32_t bad[] = { 0xa0, 0xbf, PAGES, 0xfee00, 0x100000, 0xffffffff };
	for (unsigned queue = INFLATE; queue <= DEFLATE; queue++)
		for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
			rig_start(&r->rig, QUEUES, RING, FEATURES);
			memory_fill(r->rig.memory, BALLOON, 0x5a, PAGE_SIZE);
			assert_false(give(r, queue, (const uint32_t[]){ BALLOON >> PAGE_SHIFT,
					  bad[i] }, 2));
			assert_true(rig_status(&r->rig) & VIRTIO_CONFIG_S_NEEDS_RESET);
			assert_false(status(r).driver_present);
			/* What came before counts, and went. */
			assert_int_equal(ballooned(r), queue == INFLATE);
			assert_int_equal(resident(&r->rig, BALLOON), queue == DEFLATE);
		}
	/* A buffer of any length would keep the board waiting. */
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	rig_offer(&r->rig, INFLATE, &(struct piece){ RIG_DATA, 4 << 20, false }, 1);
	rig_kick(&r->rig, INFLATE);
	assert_true(rig_status(&r->rig) & VIRTIO_CONFIG_S_NEEDS_RESET);
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	assert_true(status(r).driver_present);
	give_run(r, INFLATE, 0x800, 1);
	assert_int_equal(ballooned(r), 1);
}

struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

static void tell(struct balloon_rig *r, const struct stat_entry *stat, unsigned count)
{
	memory_write(r->rig.memory, RIG_DATA, stat, count * sizeof *stat);
	rig_offer(&r->rig, STATISTICS,
		  &(struct piece){ RIG_DATA, (uint32_t)(count * sizeof *stat), false }, 1);
	rig_kick(&r->rig, STATISTICS);
}

static void test_statistics(void **state)
{
	struct balloon_rig *r = *state;
	uint32_t head, length;
	static const struct stat_entry first[] = {
		{ VIRTIO_BALLOON_S_SWAP_IN, 1 }, { VIRTIO_BALLOON_S_SWAP_OUT, 2 },
		{ VIRTIO_BALLOON_S_MAJFLT, 3 }, { VIRTIO_BALLOON_S_MINFLT, 4 },
		{ VIRTIO_BALLOON_S_MEMFREE, 5 << 20 }, { VIRTIO_BALLOON_S_MEMTOT, 14 << 20 },
		{ VIRTIO_BALLOON_S_AVAIL, 9 << 20 }, { VIRTIO_BALLOON_S_CACHES, 6 },
		{ VIRTIO_BALLOON_S_HTLB_PGALLOC, 7 }, { 0xfffe, 8 },
	};
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	pass(r, 10 * PERIOD_MS);
	assert_false(status(r).statistics.known);
	unsigned changes = r->changes;
	tell(r, first, ARRAY_SIZE(first));
	struct guest_memory_statistics s = status(r).statistics;
	assert_true(s.known && r->changes > changes);
	assert_true(s.swapped_in == 1 && s.swapped_out == 2 && s.major_faults == 3);
	assert_true(s.minor_faults == 4 && s.free == 5 << 20 && s.total == 14 << 20);
	assert_true(s.available == 9 << 20 && s.caches == 6);
	/* RAM less what is available, though the guest counts 2 MiB less. */
	assert_true(s.demand == 7 << 20);
	assert_true(s.age == 0);
	/* The buffer stays for the period, then goes back to be filled. */
	pass(r, PERIOD_MS - 1);
	assert_false(rig_take(&r->rig, STATISTICS, &head, &length));
	assert_true(status(r).statistics.age == (PERIOD_MS - 1) * NS_PER_MS);
	unsigned messages = r->rig.messages;
	pass(r, 1);
	assert_true(rig_take(&r->rig, STATISTICS, &head, &length));
	assert_int_equal(r->rig.messages, messages + 1);
	assert_int_equal(r->rig.message[messages].data, RIG_VECTOR_DATA + STATISTICS + 1);
	/* The guest takes its time. */
	pass(r, 7 * PERIOD_MS);
	assert_false(rig_take(&r->rig, STATISTICS, &head, &length));
	assert_true(status(r).statistics.age == 8 * PERIOD_MS * NS_PER_MS);
	tell(r, (const struct stat_entry[]){ { VIRTIO_BALLOON_S_AVAIL, 8 << 20 },
	     { VIRTIO_BALLOON_S_MEMTOT, 14 << 20 } }, 2);
	s = status(r).statistics;
	assert_true(s.demand == 8 << 20 && s.age == 0 && s.free == 5 << 20);
	/* With a reset all is unknown, and nobody is asked. */
	common_set(&r->rig, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_false(status(r).statistics.known);
	messages = r->rig.messages;
	pass(r, 3 * PERIOD_MS);
	assert_int_equal(r->rig.messages, messages);
}

/* Linux counts what is in the balloon as its own if it may take it back. */
static void test_statistics_and_balloon(void **state)
{
	struct balloon_rig *r = *state;
	static const struct stat_entry whole[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 14 << 20 }, { VIRTIO_BALLOON_S_AVAIL, 6 << 20 },
	}, part[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 10 << 20 }, { VIRTIO_BALLOON_S_AVAIL, 6 << 20 },
	};
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	give_run(r, INFLATE, 0x800, 0x400);
	tell(r, whole, ARRAY_SIZE(whole));
	struct guest_memory_statistics s = status(r).statistics;
	assert_true(s.total == 10 << 20 && s.available == 6 << 20 && s.demand == 6 << 20);
	/* It is what was so when they came. */
	give_run(r, DEFLATE, 0x800, 0x400);
	assert_true(status(r).statistics.demand == 6 << 20);
	rig_start(&r->rig, QUEUES, RING, FEATURES & ~BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM));
	give_run(r, INFLATE, 0x800, 0x400);
	tell(r, part, ARRAY_SIZE(part));
	s = status(r).statistics;
	assert_true(s.total == 10 << 20 && s.available == 6 << 20 && s.demand == 6 << 20);
}

/* RAM that was plugged in counts as the guest's; what of it the guest does not
 * use is no demand. What goes out is in the balloon no more. */
static void test_statistics_and_plugged(void **state)
{
	struct error e;
	struct balloon_rig r = { 0 };
	static const struct stat_entry start[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 14 << 20 }, { VIRTIO_BALLOON_S_AVAIL, 6 << 20 },
	}, used[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 18 << 20 }, { VIRTIO_BALLOON_S_AVAIL, 9 << 20 },
	}, lies[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 0 }, { VIRTIO_BALLOON_S_AVAIL, 0 },
	};
	rig_create_with_room(&r.rig, 16 << 20);
	r.clock = clock_create(&lock, true);
	struct memory *m = r.rig.memory;
	struct virtio_device *v = virtio_balloon_create(r.rig.pci, RIG_SLOT, m, r.clock, &e);
	rig_probe(&r.rig, v);
	r.memory = virtio_balloon_guest_memory(v);
	rig_start(&r.rig, QUEUES, RING, FEATURES);
	tell(&r, start, ARRAY_SIZE(start));
	assert_true(status(&r).statistics.demand == 10 << 20);
	assert_true(memory_plug(m, m->room_base, 8 << 20, true));
	assert_true(status(&r).size == 24 << 20 && status(&r).current == 24 << 20);
	tell(&r, start, ARRAY_SIZE(start));
	assert_true(status(&r).statistics.demand == 10 << 20);
	tell(&r, used, ARRAY_SIZE(used));		/* 4 MiB of it */
	assert_true(status(&r).statistics.demand == 11 << 20);
	tell(&r, lies, ARRAY_SIZE(lies));
	assert_true(status(&r).statistics.demand == 16 << 20);
	give_run(&r, INFLATE, 0x800, 16);
	give_run(&r, INFLATE, (uint32_t)(m->room_base >> PAGE_SHIFT) + 512, 32);
	assert_int_equal(ballooned(&r), 48);
	memory_plug(m, m->room_base + (2 << 20), 2 << 20, false);
	virtio_balloon_forget(v, m->room_base + (2 << 20), 2 << 20);
	assert_int_equal(ballooned(&r), 16);
	assert_true(status(&r).current == (22 << 20) - 16 * PAGE_SIZE);
	/* A page of what is out is no page. */
	give(&r, INFLATE, (const uint32_t[]){ (uint32_t)(m->room_base >> PAGE_SHIFT) + 512 }, 1);
	assert_int_equal(ballooned(&r), 16);
	assert_true(rig_status(&r.rig) & VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_balloon_destroy(r.rig.device);
	r.rig.device = NULL;
	rig_destroy(&r.rig);
	clock_destroy(r.clock);
}

static void test_odd_statistics(void **state)
{
	struct balloon_rig *r = *state;
	uint32_t head, length;
	struct stat_entry many[100];
	static const struct stat_entry lies[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, UINT64_MAX }, { VIRTIO_BALLOON_S_AVAIL, UINT64_MAX },
	}, old[] = {
		{ VIRTIO_BALLOON_S_MEMTOT, 14 << 20 }, { VIRTIO_BALLOON_S_MEMFREE, 4 << 20 },
	};
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	/* Not enough to know anything by. */
	tell(r, lies, 1);
	tell(r, lies + 1, 1);
	assert_false(status(r).statistics.known);
	/* A second buffer gives the first back. */
	assert_true(rig_take(&r->rig, STATISTICS, &head, &length));
	assert_false(rig_take(&r->rig, STATISTICS, &head, &length));
	tell(r, lies, ARRAY_SIZE(lies));
	struct guest_memory_statistics s = status(r).statistics;
	assert_true(s.known && s.total == RIG_MEMORY && s.available == RIG_MEMORY && !s.demand);
	/* A driver that does not tell what is available. */
	tell(r, old, ARRAY_SIZE(old));
	s = status(r).statistics;
	assert_true(s.available == 4 << 20 && s.demand == 12 << 20);
	/* More of them than there are, in an odd length. */
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct stat_entry){ (uint16_t)i, 1 << 20 };
	tell(r, many, ARRAY_SIZE(many));
	s = status(r).statistics;
	assert_true(s.total == 1 << 20 && s.available == 1 << 20);
	rig_offer(&r->rig, STATISTICS, &(struct piece){ RIG_DATA, 7, false }, 1);
	rig_kick(&r->rig, STATISTICS);
	assert_int_equal(rig_status(&r->rig), 0xf);
	/* While it may not master the bus the buffer waits. */
	while (rig_take(&r->rig, STATISTICS, &head, &length))
		;
	rig_write(&r->rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pass(r, 5 * PERIOD_MS);
	assert_false(rig_take(&r->rig, STATISTICS, &head, &length));
	rig_write(&r->rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pass(r, PERIOD_MS);
	assert_true(rig_take(&r->rig, STATISTICS, &head, &length));
}

static void report_at(struct balloon_rig *r, unsigned queue, bool taken)
{
	uint32_t head, length;
	uint64_t free_at = BALLOON + PAGE_SIZE;
	memory_fill(r->rig.memory, BALLOON, 0x5a, 16 * PAGE_SIZE);
	const struct piece pieces[] = {
		{ free_at, 2 * PAGE_SIZE, true },
		{ free_at + 4 * PAGE_SIZE - 1, PAGE_SIZE + 2, true },	/* one whole page in it */
		{ free_at + 8 * PAGE_SIZE + 1, PAGE_SIZE, true },	/* none */
	};
	rig_offer(&r->rig, queue, pieces, ARRAY_SIZE(pieces));
	rig_kick(&r->rig, queue);
	assert_int_equal(rig_take(&r->rig, queue, &head, &length), taken);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(resident(&r->rig, BALLOON + i * PAGE_SIZE),
				 !taken || !(i == 1 || i == 2 || i == 5));
	assert_int_equal(ballooned(r), 0);
	assert_int_equal(rig_status(&r->rig), 0xf);
}

static void test_reporting(void **state)
{
	struct balloon_rig *r = *state;
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	report_at(r, REPORTING, true);
	/* Drivers that number only the queues they use. */
	report_at(r, HINT, true);
	rig_start(&r->rig, QUEUES, RING, BIT(VIRTIO_BALLOON_F_REPORTING));
	report_at(r, STATISTICS, true);
	rig_start(&r->rig, QUEUES, RING, BIT(VIRTIO_BALLOON_F_STATS_VQ));
	report_at(r, REPORTING, false);
}

static void test_save_load(void **state)
{
	struct balloon_rig *r = *state;
	struct device *bus = pci_bus_device(r->rig.pci);
	struct error e;
	struct state s = { 0 };
	uint32_t head, length;
	rig_start(&r->rig, QUEUES, RING, FEATURES);
	guest_memory_set_target(r->memory, 12 << 20);
	unsigned generation = (unsigned)common_get(&r->rig, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	give_run(r, INFLATE, 0x800, 0x300);
	mmio_write(&r->rig, r->rig.config + 4, 4, 0x300);
	tell(r, (const struct stat_entry[]){ { VIRTIO_BALLOON_S_MEMTOT, 14 << 20 },
	     { VIRTIO_BALLOON_S_AVAIL, 6 << 20 } }, 2);
	bus->ops->save(bus, &s);
	guest_memory_set_target(r->memory, 8 << 20);
	bus->ops->reset(bus);
	assert_int_equal(ballooned(r), 0);
	assert_false(status(r).driver_present);
	assert_true(status(r).target == 8 << 20);
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_int_equal(ballooned(r), 0x300);
	assert_true(status(r).target == 12 << 20 && status(r).driver_present);
	assert_int_equal(config(r, 4), 0x300);
	assert_int_equal(common_get(&r->rig, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	/* The statistics are asked for again, by the buffer from before. */
	assert_false(status(r).statistics.known);
	pass(r, PERIOD_MS);
	assert_true(rig_take(&r->rig, STATISTICS, &head, &length));
	/* It goes on: one of those pages comes back. */
	assert_true(give(r, DEFLATE, (const uint32_t[]){ 0x800 }, 1));
	assert_int_equal(ballooned(r), 0x2ff);
	state_free(&s);
}

/* A state that holds what is no RAM, or wants more than there is. */
static void test_load_damaged(void **state)
{
	struct balloon_rig *r = *state;
	struct device *bus = pci_bus_device(r->rig.pci);
	struct error e;
	for (unsigned kind = 0; kind < 3; kind++) {
		struct state s = { 0 };
		bus->ops->save(bus, &s);
		/* The device's own fields are the last in the bus's state. */
		size_t bitmap = s.size - PAGES / 8;
		size_t own = bitmap - 2 - 1 - 8;
		if (kind == 1)
			s.data[bitmap + 0xa0 / 8] = 1;
		else if (kind == 2)
			s.data[own + 3] = 0x80;
		assert_int_equal(bus->ops->load(bus, &s, &e), kind ? -1 : 0);
		state_free(&s);
	}
	bus->ops->reset(bus);
	assert_int_equal(ballooned(r), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_target),
		TEST(test_inflate_deflate),
		TEST(test_order_of_pages),
		TEST(test_all_of_it),
		TEST(test_no_ram),
		TEST(test_statistics),
		TEST(test_statistics_and_balloon),
		cmocka_unit_test(test_statistics_and_plugged),
		TEST(test_odd_statistics),
		TEST(test_reporting),
		TEST(test_save_load),
		TEST(test_load_damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
