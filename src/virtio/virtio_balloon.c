/* virtio memory balloon ("Traditional Memory Balloon Device").
 *
 * What is in the balloon is counted by a bitmap of RAM's pages and not by what
 * the driver says: a page given twice counts once, one taken back that was
 * never given not at all. A page in it has no host memory until the guest
 * touches it again, which a driver does only after taking it back.
 *
 * The host must not fill such pages on its own account, as it does when it
 * joins small pages to a large one; so large pages (MEMORY_LARGE_PAGE) with a
 * part in the balloon are kept small. Each of those may cost the host two more
 * mappings, of which a process has some 65000: hence SMALL_MAX.
 *
 * RAM that is plugged in (virtio_mem.c) is RAM like the other; what is plugged
 * out is in the balloon no more.
 *
 * The driver's one statistics buffer comes filled, stays here for PERIOD and
 * goes back, upon which the driver fills it anew. */
#include "virtio/virtio_balloon.h"

#include "base/log.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	CLASS_RAM = 0x050000,
	INFLATE_QUEUE = 0,
	DEFLATE_QUEUE = 1,
	STATISTICS_QUEUE = 2,
	/* The free page queue, which exists only with VIRTIO_BALLOON_F_FREE_PAGE_HINT;
	 * drivers that number only the queues they use report on it. */
	HINT_QUEUE = 3,
	REPORTING_QUEUE = 4,
	QUEUES,
	QUEUE_SIZE = 64,		/* Linux wants 32 for reporting */
	PFN_SIZE = sizeof(uint32_t),
	PFNS_AT_ONCE = 256,
	PFNS_MAX = 4096,		/* in one buffer; drivers give 256 or 1024 */
	STATISTICS_MAX = 32,
	STATISTIC_SIZE = sizeof(struct virtio_balloon_stat),
	SMALL_MAX = 16384,
	WORD_BITS = 64,
};

#define PERIOD NS_PER_SECOND

/* The configuration, without the fields of features that are not offered. */
struct balloon_config {
	uint32_t num_pages;		/* what the driver should put in */
	uint32_t actual;		/* what it says is in */
};

struct large_page {
	uint16_t held;			/* pages of it in the balloon */
	bool small;			/* the host was told to keep it small */
};

struct balloon {
	struct virtio_device virtio;
	struct guest_memory guest_memory;
	struct balloon_config config;
	struct clock *clock;
	struct timer timer;		/* give the statistics buffer back */
	uint64_t *held;			/* a bit per page of RAM: in the balloon */
	uint64_t held_pages;
	struct large_page *large;	/* per large page of RAM */
	unsigned small_pages;		/* how many are small */
	bool has_buffer;		/* the statistics buffer is here */
	struct virtq_chain buffer;
	struct guest_memory_statistics statistics;
	uint64_t uncounted;		/* RAM that the system never counted as its own */
	uint64_t told_at;		/* when they came; VM time */
};

static struct balloon *balloon_of(const struct virtio_device *v)
{
	return container_of(v, struct balloon, virtio);
}

static uint64_t held_words(const struct memory *m)
{
	return ((m->span >> PAGE_SHIFT) + WORD_BITS - 1) / WORD_BITS;
}

static uint64_t large_pages(const struct memory *m)
{
	return (m->span + MEMORY_LARGE_PAGE - 1) / MEMORY_LARGE_PAGE;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void changed(struct balloon *b)
{
	if (b->guest_memory.changed)
		b->guest_memory.changed(b->guest_memory.owner);
}

/* In and out. */

static void keep_small(struct balloon *b, uint64_t index, bool small)
{
	struct large_page *l = &b->large[index];
	if (l->small == small || (small && b->small_pages == SMALL_MAX))
		return;
	l->small = small;
	b->small_pages += small ? 1 : -1u;
	memory_allow_large(b->virtio.memory, index * MEMORY_LARGE_PAGE, !small);
}

static void hold(struct balloon *b, uint64_t page, bool in)
{
	uint64_t *word = &b->held[page / WORD_BITS], bit = BIT(page % WORD_BITS);
	uint64_t index = page / (MEMORY_LARGE_PAGE >> PAGE_SHIFT);
	if (!(*word & bit) == !in)
		return;
	*word ^= bit;
	b->held_pages += in ? 1 : -1ull;
	b->large[index].held += in ? 1 : -1;
	keep_small(b, index, b->large[index].held);
}

/* Consecutive pages that go to the host together. */
struct run {
	uint64_t first, count;		/* page frame numbers */
};

static void discard_run(struct balloon *b, struct run *r)
{
	memory_discard(b->virtio.memory, r->first << PAGE_SHIFT, r->count << PAGE_SHIFT);
	r->count = 0;
}

/* Linux gives its pages one by one, going up or down. */
static void discard_page(struct balloon *b, struct run *r, uint64_t pfn)
{
	if (r->count && pfn == r->first + r->count) {
		r->count++;
	} else if (r->count && pfn + 1 == r->first) {
		r->first--;
		r->count++;
	} else {
		discard_run(b, r);
		*r = (struct run){ pfn, 1 };
	}
}

static bool move_pages(struct virtio_device *v, const struct virtq_chain *c, bool in,
		       struct virtq_fault *why)
{
	struct balloon *b = balloon_of(v);
	uint8_t pfns[PFNS_AT_ONCE * PFN_SIZE];
	struct run run = { 0 };
	uint32_t n;
	if (c->out_bytes > PFNS_MAX * PFN_SIZE) {
		snprintf(why->text, sizeof why->text, "a buffer of %u bytes is longer than %u",
			 c->out_bytes, (unsigned)(PFNS_MAX * PFN_SIZE));
		return false;
	}
	for (uint32_t skip = 0; skip < c->out_bytes; skip += n) {
		n = c->out_bytes - skip < sizeof pfns ? c->out_bytes - skip : sizeof pfns;
		virtq_copy_out(c, v->memory, skip, pfns, n);
		for (uint32_t i = 0; i + PFN_SIZE <= n; i += PFN_SIZE) {
			uint64_t pfn = load_le(pfns + i, PFN_SIZE);
			int64_t at = memory_offset(v->memory, pfn << VIRTIO_BALLOON_PFN_SHIFT);
			if (at < 0) {
				discard_run(b, &run);
				snprintf(why->text, sizeof why->text, "page %#llx is no RAM",
					 (unsigned long long)pfn);
				return false;
			}
			hold(b, (uint64_t)at >> PAGE_SHIFT, in);
			if (in)
				discard_page(b, &run, pfn);
		}
	}
	discard_run(b, &run);
	trace(VIRTIO, "virtio-balloon: %llu pages in it", (unsigned long long)b->held_pages);
	return true;
}

static bool inflate(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		    struct virtq_fault *why)
{
	return move_pages(v, c, true, why);
}

static bool deflate(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		    struct virtq_fault *why)
{
	return move_pages(v, c, false, why);
}

/* Free page reporting: what the in segments name is free, and may go to the
 * host until the guest uses it, without a word. */
static bool report(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		   struct virtq_fault *why)
{
	for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++) {
		uint64_t first = align_up(c->segment[i].address, PAGE_SIZE);
		uint64_t end = (c->segment[i].address + c->segment[i].length) & ~PAGE_OFFSET_MASK;
		if (first < end)
			memory_discard(v->memory, first, end - first);
	}
	trace(VIRTIO, "virtio-balloon: %u bytes reported free", c->in_bytes);
	return true;
}

/* Statistics. */

/* What the system must keep, from what it counts as its own and what it could
 * give. What it never counted was taken before, as for its kernel, and is demand
 * too; but RAM that was plugged in and that it has not taken into use is not. */
static void take_demand(struct balloon *b)
{
	struct guest_memory_statistics *s = &b->statistics;
	const struct memory *m = b->virtio.memory;
	uint64_t present = memory_present(m), in = b->held_pages << PAGE_SHIFT;
	uint64_t plugged = present - m->size, idle = 0;
	/* Linux goes on counting what it may take back when memory runs out. */
	bool counts_held = virtio_has(&b->virtio, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	uint64_t counted = at_most(s->total, present);
	s->total = counts_held ? counted - at_most(in, counted) : at_most(counted, present - in);
	if (!counts_held)
		counted = at_most(counted + in, present);
	if (!s->known)
		b->uncounted = present - counted;
	if (counted + b->uncounted < present)
		idle = at_most(present - counted - b->uncounted, plugged);
	s->available = at_most(s->available, s->total);
	s->demand = present - in - s->available;
	s->demand -= at_most(idle, s->demand);
}

static void read_statistics(struct balloon *b)
{
	struct guest_memory_statistics *s = &b->statistics;
	uint64_t *const field[] = {
		[VIRTIO_BALLOON_S_SWAP_IN] = &s->swapped_in,
		[VIRTIO_BALLOON_S_SWAP_OUT] = &s->swapped_out,
		[VIRTIO_BALLOON_S_MAJFLT] = &s->major_faults,
		[VIRTIO_BALLOON_S_MINFLT] = &s->minor_faults,
		[VIRTIO_BALLOON_S_MEMFREE] = &s->free,
		[VIRTIO_BALLOON_S_MEMTOT] = &s->total,
		[VIRTIO_BALLOON_S_AVAIL] = &s->available,
		[VIRTIO_BALLOON_S_CACHES] = &s->caches,
	};
	uint8_t bytes[STATISTICS_MAX * STATISTIC_SIZE];
	uint32_t n = b->buffer.out_bytes < sizeof bytes ? b->buffer.out_bytes : sizeof bytes;
	uint64_t told = 0;
	virtq_copy_out(&b->buffer, b->virtio.memory, 0, bytes, n);
	for (uint32_t i = 0; i + STATISTIC_SIZE <= n; i += STATISTIC_SIZE) {
		uint64_t tag = load_le(bytes + i, sizeof(uint16_t));
		if (tag < ARRAY_SIZE(field)) {
			*field[tag] = load_le(bytes + i + sizeof(uint16_t), sizeof(uint64_t));
			told |= BIT(tag);
		}
	}
	if (!(told & BIT(VIRTIO_BALLOON_S_MEMTOT)) ||
	    !(told & (BIT(VIRTIO_BALLOON_S_AVAIL) | BIT(VIRTIO_BALLOON_S_MEMFREE))))
		return;
	if (!(told & BIT(VIRTIO_BALLOON_S_AVAIL)))	/* an old driver */
		s->available = s->free;
	take_demand(b);
	s->known = true;
	b->told_at = clock_now(b->clock);
}

/* A driver has one buffer; whoever gives more gets the older ones back. */
static void statistics_came(struct balloon *b)
{
	struct virtio_device *v = &b->virtio;
	struct virtq_chain c;
	for (unsigned left = QUEUE_SIZE; left && virtio_pop(v, STATISTICS_QUEUE, &c); left--) {
		if (b->has_buffer)
			virtio_push(v, STATISTICS_QUEUE, &b->buffer, 0);
		b->buffer = c;
		b->has_buffer = true;
		read_statistics(b);
		timer_set(b->clock, &b->timer, clock_now(b->clock) + PERIOD);
	}
	if (virtio_running(v)) {
		virtqueue_want_notification(&v->queue[STATISTICS_QUEUE].ring, v->memory);
		virtio_signal(v, STATISTICS_QUEUE);
	}
}

static void ask_statistics(void *owner)
{
	struct balloon *b = owner;
	struct virtio_device *v = &b->virtio;
	if (!b->has_buffer)
		return;
	if (!virtio_running(v)) {
		timer_set(b->clock, &b->timer, clock_now(b->clock) + PERIOD);
		return;
	}
	b->has_buffer = false;
	virtio_push(v, STATISTICS_QUEUE, &b->buffer, 0);
	virtio_signal(v, STATISTICS_QUEUE);
}

/* The device. */

static void notified(struct virtio_device *v, unsigned queue)
{
	struct balloon *b = balloon_of(v);
	switch (queue) {
	case INFLATE_QUEUE:
		virtio_process(v, queue, inflate);
		break;
	case DEFLATE_QUEUE:
		virtio_process(v, queue, deflate);
		break;
	case STATISTICS_QUEUE:
		if (virtio_has(v, VIRTIO_BALLOON_F_STATS_VQ)) {
			statistics_came(b);
			break;
		}	/* else this is the number of the next queue */
		/* fallthrough */
	default:
		if (virtio_has(v, VIRTIO_BALLOON_F_REPORTING))
			virtio_process(v, queue, report);
	}
	changed(b);
}

static void config_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
	struct balloon *b = balloon_of(v);
	if (offset == offsetof(struct balloon_config, actual) && size == sizeof b->config.actual)
		b->config.actual = (uint32_t)value;
}

static void empty(struct balloon *b)
{
	const struct memory *m = b->virtio.memory;
	memset(b->held, 0, held_words(m) * sizeof *b->held);
	b->held_pages = 0;
	for (uint64_t i = 0; i < large_pages(m); i++) {
		b->large[i].held = 0;
		keep_small(b, i, false);
	}
}

/* The next driver has all of RAM, and is told the target again. */
static void reset(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);
	empty(b);
	b->config.actual = 0;
	b->has_buffer = false;
	b->statistics = (struct guest_memory_statistics){ 0 };
	timer_cancel(b->clock, &b->timer);
	changed(b);
}

static void save(const struct virtio_device *v, struct state *s)
{
	const struct balloon *b = balloon_of(v);
	state_put_field(s, b->config.num_pages);
	state_put_field(s, b->config.actual);
	state_put_field(s, b->has_buffer);
	state_put_field(s, b->buffer.head);
	for (uint64_t i = 0; i < held_words(v->memory); i++)
		state_put_field(s, b->held[i]);
}

/* False: the word names what is no page of RAM. */
static bool load_word(struct balloon *b, uint64_t index, uint64_t word)
{
	const struct memory *m = b->virtio.memory;
	for (; word; word &= word - 1) {
		uint64_t page = index * WORD_BITS + (unsigned)__builtin_ctzll(word);
		if (memory_offset(m, memory_address(m, page << PAGE_SHIFT)) < 0)
			return false;
		hold(b, page, true);
	}
	return true;
}

static void load(struct virtio_device *v, struct state *s)
{
	struct balloon *b = balloon_of(v);
	state_get_field(s, b->config.num_pages);
	state_get_field(s, b->config.actual);
	b->has_buffer = state_get(s, sizeof b->has_buffer);
	state_get_field(s, b->buffer.head);
	empty(b);
	for (uint64_t i = 0; i < held_words(v->memory); i++)
		if (!load_word(b, i, state_get(s, sizeof *b->held)))
			s->failed = true;
	if (b->config.num_pages > memory_present(v->memory) >> PAGE_SHIFT)
		s->failed = true;
	if (b->has_buffer && !s->failed)
		timer_set(b->clock, &b->timer, clock_now(b->clock) + PERIOD);
}

static const struct virtio_ops balloon_ops = {
	.device = { "virtio-balloon", virtio_device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_BALLOON,
	.class_code = CLASS_RAM,
	.queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.config_write = config_write,
	.reset = reset,
	.save = save,
	.load = load,
};

/* What the policy sees. */

static void set_target(struct guest_memory *g, uint64_t bytes)
{
	struct balloon *b = container_of(g, struct balloon, guest_memory);
	uint64_t size = memory_present(b->virtio.memory);
	uint32_t pages = bytes < size ? (uint32_t)((size - bytes) >> PAGE_SHIFT) : 0;
	if (pages == b->config.num_pages && pages == b->held_pages)
		return;
	/* The same target again: a driver that fell short tries once more. */
	b->config.num_pages = pages;
	virtio_config_changed(&b->virtio);
}

static void get_status(const struct guest_memory *g, struct guest_memory_status *s)
{
	const struct balloon *b = container_of(g, const struct balloon, guest_memory);
	uint64_t size = memory_present(b->virtio.memory);
	*s = (struct guest_memory_status){
		.size = size,
		.fixed = size,
		.target = size - at_most((uint64_t)b->config.num_pages << PAGE_SHIFT, size),
		.current = size - (b->held_pages << PAGE_SHIFT),
		.driver_present = virtio_running(&b->virtio),
		.statistics = b->statistics,
	};
	if (s->statistics.known)
		s->statistics.age = clock_now(b->clock) - b->told_at;
}

static const struct guest_memory_ops guest_memory_ops = { set_target, get_status };

struct guest_memory *virtio_balloon_guest_memory(struct virtio_device *v)
{
	return &balloon_of(v)->guest_memory;
}

void virtio_balloon_forget(struct virtio_device *v, uint64_t pa, uint64_t n)
{
	uint64_t first = (pa - v->memory->room_base + v->memory->room_offset) >> PAGE_SHIFT;
	for (uint64_t page = first; page < first + (n >> PAGE_SHIFT); page++)
		hold(balloon_of(v), page, false);
}

struct virtio_device *virtio_balloon_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					    struct clock *clock, struct error *e)
{
	struct balloon *b = alloc_zeroed(1, sizeof *b);
	b->guest_memory.ops = &guest_memory_ops;
	b->clock = clock;
	b->timer = (struct timer){ .fire = ask_statistics, .owner = b, .deadline = CLOCK_NEVER };
	b->held = alloc_zeroed(held_words(m), sizeof *b->held);
	b->large = alloc_zeroed(large_pages(m), sizeof *b->large);
	if (virtio_attach(&b->virtio, &balloon_ops, bus, slot, m,
			  BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			  BIT(VIRTIO_BALLOON_F_REPORTING), &b->config, sizeof b->config, e)) {
		free(b->held);
		free(b->large);
		free(b);
		return NULL;
	}
	return &b->virtio;
}

void virtio_balloon_destroy(struct virtio_device *v)
{
	struct balloon *b = balloon_of(v);
	timer_cancel(b->clock, &b->timer);
	empty(b);
	free(b->held);
	free(b->large);
	virtio_device_destroy(v);
}
