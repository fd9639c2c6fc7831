/* The balloon counts pages by a bitmap, not by what the driver says: a page
 * given twice counts once, one taken back that was never given not at all. */
#include "virtio/virtio_balloon.h"

#include "base/log.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	CLASS_MEMORY = 0x050000,	/* RAM controller */
	INFLATE_QUEUE = 0, DEFLATE_QUEUE = 1, STATISTICS_QUEUE = 2, QUEUES = 3,
	QUEUE_SIZE = 128,
	PFNS_AT_ONCE = 256,
	CHAIN_MAX = 1 << 20,		/* bytes of page numbers in one buffer; Linux has 1 KiB */
	STATISTICS_AT_ONCE = 32,
	STATISTIC_SIZE = 10,		/* le16 tag, le64 value */
	WORD_BITS = 64,
};

struct config {
	uint32_t wanted_pages;		/* num_pages */
	uint32_t actual;		/* the driver's own; we count ourselves */
};

struct balloon {
	struct virtio_device virtio;
	struct config config;
	uint64_t *held;			/* a bit per page of RAM */
	uint64_t held_pages;
	struct balloon_statistics statistics;
	bool has_buffer;		/* the driver's statistics buffer is here */
	struct virtq_chain buffer;
	bool small_pages;		/* RAM was told not to use huge pages */
};

static struct balloon *balloon_of(const struct virtio_device *v)
{
	return (struct balloon *)v;
}

static uint64_t words(const struct memory *m)
{
	return (m->size / PAGE_SIZE + WORD_BITS - 1) / WORD_BITS;
}

/* Else the host would join small pages to huge ones again, the given-back ones
 * among them. */
static void use_small_pages(struct balloon *b, bool small)
{
	if (b->small_pages == small)
		return;
	b->small_pages = small;
	madvise(b->virtio.memory->ram, b->virtio.memory->size, small ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
}

/* Give n pages of RAM from page `first` on back to the host. */
static void give_back(struct memory *m, uint64_t first, uint64_t n)
{
	uint8_t *at = m->ram + first * PAGE_SIZE;
	if (n && madvise(at, n * PAGE_SIZE, MADV_DONTNEED))
		trace(VIRTIO, "virtio-balloon: madvise: %s", strerror(errno));
	for (uint64_t i = 0; i < n; i++)
		memory_wrote(m, at + i * PAGE_SIZE);
}

/* One page goes in or out; the page's number in RAM, or -1 when nothing changed. */
static int64_t move_page(struct balloon *b, uint32_t pfn, bool in)
{
	int64_t at = memory_offset(b->virtio.memory, (uint64_t)pfn << VIRTIO_BALLOON_PFN_SHIFT);
	if (at < 0)
		return -1;
	uint64_t page = (uint64_t)at / PAGE_SIZE, bit = BIT(page % WORD_BITS);
	uint64_t *word = &b->held[page / WORD_BITS];
	if (!(*word & bit) == !in)
		return -1;
	*word ^= bit;
	b->held_pages += in ? 1 : (uint64_t)-1;
	return (int64_t)page;
}

static bool move_pages(struct virtio_device *v, const struct virtq_chain *c, bool in)
{
	struct balloon *b = balloon_of(v);
	uint8_t pfns[PFNS_AT_ONCE * sizeof(uint32_t)];
	uint64_t first = 0, run = 0;
	uint32_t skip = 0, n;
	if (in)
		use_small_pages(b, true);
	while (skip < CHAIN_MAX &&
	       (n = virtq_copy_out(c, v->memory, skip, pfns, sizeof pfns)) >= sizeof(uint32_t)) {
		skip += n;
		for (uint32_t i = 0; i + sizeof(uint32_t) <= n; i += sizeof(uint32_t)) {
			int64_t page = move_page(b, (uint32_t)load_le(pfns + i, sizeof(uint32_t)), in);
			if (!in || page < 0)
				continue;
			/* Linux gives its pages one by one, up or down. */
			if (run && (uint64_t)page == first + run) {
				run++;
			} else if (run && (uint64_t)page + 1 == first) {
				first--;
				run++;
			} else {
				give_back(v->memory, first, run);
				first = (uint64_t)page;
				run = 1;
			}
		}
	}
	give_back(v->memory, first, run);
	if (!b->held_pages)
		use_small_pages(b, false);
	trace(VIRTIO, "virtio-balloon: holds %llu pages", (unsigned long long)b->held_pages);
	return true;
}

static bool inflate(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		    struct virtq_fault *why)
{
	*written = 0;
	return move_pages(v, c, true);
}

static bool deflate(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		    struct virtq_fault *why)
{
	*written = 0;
	return move_pages(v, c, false);
}

static void read_statistics(struct balloon *b)
{
	uint8_t bytes[STATISTICS_AT_ONCE * STATISTIC_SIZE];
	uint32_t n = virtq_copy_out(&b->buffer, b->virtio.memory, 0, bytes, sizeof bytes);
	for (uint32_t i = 0; i + STATISTIC_SIZE <= n; i += STATISTIC_SIZE) {
		uint64_t value = load_le(bytes + i + sizeof(uint16_t), sizeof value);
		switch (load_le(bytes + i, sizeof(uint16_t))) {
		case VIRTIO_BALLOON_S_MEMTOT:
			b->statistics.total = value;
			b->statistics.known = true;
			break;
		case VIRTIO_BALLOON_S_MEMFREE:
			b->statistics.free = value;
			break;
		case VIRTIO_BALLOON_S_AVAIL:
			b->statistics.available = value;
			break;
		}
	}
}

/* The driver's one buffer stays here until new numbers are wanted. */
static void statistics_came(struct balloon *b)
{
	while (!b->has_buffer && virtio_pop(&b->virtio, STATISTICS_QUEUE, &b->buffer)) {
		b->has_buffer = true;
		read_statistics(b);
	}
}

static void notified(struct virtio_device *v, unsigned queue)
{
	if (queue == STATISTICS_QUEUE)
		statistics_came(balloon_of(v));
	else
		virtio_process(v, queue, queue == INFLATE_QUEUE ? inflate : deflate);
}

/* After a reset the guest has all its memory: the balloon is empty. */
static void reset(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);
	memset(b->held, 0, words(v->memory) * sizeof *b->held);
	b->held_pages = 0;
	b->statistics = (struct balloon_statistics){ 0 };
	b->has_buffer = false;
	use_small_pages(b, false);
}

static void save(const struct virtio_device *v, struct state *s)
{
	const struct balloon *b = balloon_of(v);
	state_put_field(s, b->config.wanted_pages);
	state_put_field(s, b->held_pages);
	state_put_bytes(s, b->held, words(v->memory) * sizeof *b->held);
	state_put_field(s, b->has_buffer);
	state_put_field(s, b->buffer.head);
}

static void load(struct virtio_device *v, struct state *s)
{
	struct balloon *b = balloon_of(v);
	reset(v);
	state_get_field(s, b->config.wanted_pages);
	state_get_field(s, b->held_pages);
	state_get_bytes(s, b->held, words(v->memory) * sizeof *b->held);
	state_get_field(s, b->has_buffer);
	state_get_field(s, b->buffer.head);
	use_small_pages(b, b->held_pages);
}

static const struct virtio_ops balloon_ops = {
	.device = { "virtio-balloon", virtio_device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_BALLOON,
	.class_code = CLASS_MEMORY,
	.queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.reset = reset,
	.save = save,
	.load = load,
};

struct virtio_device *virtio_balloon_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					    struct error *e)
{
	struct balloon *b = alloc_zeroed(1, sizeof *b);
	uint64_t features = BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	b->held = alloc_zeroed(words(m), sizeof *b->held);
	if (virtio_attach(&b->virtio, &balloon_ops, bus, slot, m, features, &b->config,
			  sizeof b->config, e)) {
		free(b->held);
		free(b);
		return NULL;
	}
	return &b->virtio;
}

void virtio_balloon_destroy(struct virtio_device *v)
{
	free(balloon_of(v)->held);
	virtio_device_destroy(v);
}

void virtio_balloon_want(struct virtio_device *v, uint64_t bytes)
{
	struct balloon *b = balloon_of(v);
	uint32_t pages = (uint32_t)(bytes >> VIRTIO_BALLOON_PFN_SHIFT);
	if (b->config.wanted_pages == pages)
		return;
	b->config.wanted_pages = pages;
	virtio_config_changed(v);
}

uint64_t virtio_balloon_holds(const struct virtio_device *v)
{
	return balloon_of(v)->held_pages * PAGE_SIZE;
}

bool virtio_balloon_driven(const struct virtio_device *v)
{
	return virtio_running(v);
}

void virtio_balloon_ask(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);
	if (!b->has_buffer || !virtio_running(v))
		return;
	b->has_buffer = false;
	virtio_push(v, STATISTICS_QUEUE, &b->buffer, 0);
	virtio_signal(v, STATISTICS_QUEUE);
}

struct balloon_statistics virtio_balloon_statistics(const struct virtio_device *v)
{
	return balloon_of(v)->statistics;
}
