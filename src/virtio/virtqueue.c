#include "virtio/virtqueue.h"

#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>

/* The driver's processors run while we look, so each field of a ring is loaded
 * once, into a local, and checked there. The order of accesses follows "Split
 * Virtqueues": an available index is loaded before the entries it covers, and a
 * used index stored after them; where each side writes one word and then reads
 * the other's (event index, flags) there is a full fence between. */

enum {
	DESC_ALIGN = VRING_DESC_ALIGN_SIZE,
	AVAIL_ALIGN = VRING_AVAIL_ALIGN_SIZE,
	USED_ALIGN = VRING_USED_ALIGN_SIZE,
	RING_HEADER = 4,		/* flags and idx */
	RING_EVENT = 2,			/* used_event or avail_event behind the ring */
	AVAIL_ENTRY = 2,
	USED_ENTRY = sizeof(struct vring_used_elem),
	DESC_ENTRY = sizeof(struct vring_desc),
};

static void wrote_range(struct memory *m, const uint8_t *host, uint64_t n)
{
	while (n) {
		uint64_t part = PAGE_SIZE - ((uint64_t)(host - m->ram) & PAGE_OFFSET_MASK);
		if (part > n)
			part = n;
		memory_wrote_range(m, host, part);
		host += part;
		n -= part;
	}
}

static enum virtq_result broken(struct virtq_fault *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static enum virtq_result broken(struct virtq_fault *why, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why->text, sizeof why->text, format, args);
	va_end(args);
	return VIRTQ_BROKEN;
}

/* The rings. Their addresses were checked when the queue was enabled. A driver
 * that has unplugged memory under them since finds no buffers taken and nothing
 * written. */

static uint16_t load16(const struct memory *m, uint64_t address, uint16_t otherwise)
{
	const uint8_t *host = memory_host(m, address);
	return host ? __atomic_load_n((const uint16_t *)host, __ATOMIC_ACQUIRE) : otherwise;
}

static void store16(struct memory *m, uint64_t address, uint16_t value)
{
	uint8_t *host = memory_host(m, address);
	if (!host)
		return;
	__atomic_store_n((uint16_t *)host, value, __ATOMIC_RELEASE);
	wrote_range(m, host, sizeof value);
}

static uint16_t avail_index(const struct virtqueue *q, const struct memory *m)
{
	return load16(m, q->avail + offsetof(struct vring_avail, idx), q->next_avail);
}

static uint64_t avail_entry(const struct virtqueue *q, unsigned i)
{
	return q->avail + RING_HEADER + (i & (q->size - 1)) * AVAIL_ENTRY;
}

static uint64_t used_entry(const struct virtqueue *q, unsigned i)
{
	return q->used + RING_HEADER + (i & (q->size - 1)) * (uint64_t)USED_ENTRY;
}

static uint64_t used_event(const struct virtqueue *q)
{
	return q->avail + RING_HEADER + (uint64_t)q->size * AVAIL_ENTRY;
}

static uint64_t avail_event(const struct virtqueue *q)
{
	return q->used + RING_HEADER + (uint64_t)q->size * USED_ENTRY;
}

void virtqueue_reset(struct virtqueue *q)
{
	*q = (struct virtqueue){ .max_size = q->max_size, .size = q->max_size };
}

static bool ring_fits(const struct memory *m, const char *name, uint64_t address, uint64_t bytes,
		      unsigned align, struct virtq_fault *why)
{
	if (!(address % align) && memory_range(m, address, bytes))
		return true;
	broken(why, "its %s at %#llx (%llu bytes, to be aligned to %u) is not in RAM or not aligned",
	       name, (unsigned long long)address, (unsigned long long)bytes, align);
	return false;
}

static bool rings_fit(const struct virtqueue *q, const struct memory *m, struct virtq_fault *why)
{
	uint64_t event = q->event_index ? RING_EVENT : 0;
	return ring_fits(m, "descriptor table", q->desc, (uint64_t)q->size * DESC_ENTRY, DESC_ALIGN,
			 why) &&
		ring_fits(m, "available ring", q->avail,
			  RING_HEADER + (uint64_t)q->size * AVAIL_ENTRY + event, AVAIL_ALIGN, why) &&
		ring_fits(m, "used ring", q->used,
			  RING_HEADER + (uint64_t)q->size * USED_ENTRY + event, USED_ALIGN, why);
}

bool virtqueue_enable(struct virtqueue *q, const struct memory *m, struct virtq_fault *why)
{
	if (!rings_fit(q, m, why))
		return false;
	q->enabled = true;
	return true;
}

/* Chains */

struct table {
	const uint8_t *host;
	unsigned entries;
};

static struct vring_desc table_entry(const struct table *t, unsigned i)
{
	const uint8_t *at = t->host + (size_t)i * DESC_ENTRY;
	struct vring_desc d;
	d.addr = host_load(at + offsetof(struct vring_desc, addr), 8);
	d.len = (uint32_t)host_load(at + offsetof(struct vring_desc, len), 4);
	d.flags = (uint16_t)host_load(at + offsetof(struct vring_desc, flags), 2);
	d.next = (uint16_t)host_load(at + offsetof(struct vring_desc, next), 2);
	return d;
}

static enum virtq_result add_segment(struct virtq_chain *c, const struct memory *m,
				     const struct vring_desc *d, struct virtq_fault *why)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	uint32_t *bytes = in ? &c->in_bytes : &c->out_bytes;
	if (!in && c->in_count)
		return broken(why, "a readable descriptor follows a writable one");
	if (d->len && !memory_range(m, d->addr, d->len))
		return broken(why, "a descriptor points at %#llx+%#x, which is not RAM",
			      (unsigned long long)d->addr, d->len);
	if (d->len > UINT32_MAX - *bytes)
		return broken(why, "a chain of descriptors is longer than 4 GiB");
	*bytes += d->len;
	c->segment[c->out_count + c->in_count] = (struct virtq_segment){ d->addr, d->len };
	if (in)
		c->in_count++;
	else
		c->out_count++;
	return VIRTQ_CHAIN;
}

/* Go on in the indirect table that d describes. */
static enum virtq_result enter_table(const struct virtqueue *q, const struct memory *m,
				     const struct vring_desc *d, struct table *t,
				     struct virtq_fault *why)
{
	if (!q->indirect)
		return broken(why, "a descriptor is indirect though that was not negotiated");
	if (d->flags & VRING_DESC_F_NEXT)
		return broken(why, "an indirect descriptor has a next one");
	if (!d->len || d->len % DESC_ENTRY)
		return broken(why, "an indirect table is %u bytes long", d->len);
	t->host = memory_range(m, d->addr, d->len);
	t->entries = d->len / DESC_ENTRY;
	if (!t->host)
		return broken(why, "an indirect table at %#llx+%#x is not RAM",
			      (unsigned long long)d->addr, d->len);
	return VIRTQ_CHAIN;
}

/* Follow the chain from descriptor `at`. It ends in any case: each turn but the
 * one that enters an indirect table adds one segment of at most q->size. */
static enum virtq_result walk(const struct virtqueue *q, const struct memory *m, unsigned at,
			      struct virtq_chain *c, struct virtq_fault *why)
{
	struct table t = { memory_range(m, q->desc, q->size * (uint64_t)DESC_ENTRY), q->size };
	bool inside = false;
	if (!t.host)
		return broken(why, "the descriptor table at %#llx is no RAM any more",
			      (unsigned long long)q->desc);
	for (;;) {
		if (at >= t.entries)
			return broken(why, "descriptor %u is beyond its table of %u", at, t.entries);
		struct vring_desc d = table_entry(&t, at);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (inside)
				return broken(why, "an indirect table holds an indirect descriptor");
			if (enter_table(q, m, &d, &t, why) == VIRTQ_BROKEN)
				return VIRTQ_BROKEN;
			inside = true;
			at = 0;
			continue;
		}
		if (c->out_count + c->in_count == q->size)
			return broken(why, "a chain has more descriptors than the queue (%u); it may loop",
				      q->size);
		if (add_segment(c, m, &d, why) == VIRTQ_BROKEN)
			return VIRTQ_BROKEN;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return VIRTQ_CHAIN;
		at = d.next;
	}
}

bool virtqueue_waiting(const struct virtqueue *q, const struct memory *m)
{
	return q->enabled && avail_index(q, m) != q->next_avail;
}

enum virtq_result virtqueue_pop(struct virtqueue *q, struct memory *m,
				struct virtq_chain *chain, struct virtq_fault *why)
{
	if (!q->enabled)
		return VIRTQ_EMPTY;
	uint16_t waiting = avail_index(q, m) - q->next_avail;
	if (!waiting)
		return VIRTQ_EMPTY;
	if (waiting > q->size)
		return broken(why, "its available index runs %u ahead, more than its size %u",
			      waiting, q->size);
	chain->head = load16(m, avail_entry(q, q->next_avail), 0);
	chain->out_count = chain->in_count = 0;
	chain->out_bytes = chain->in_bytes = 0;
	q->next_avail++;
	return walk(q, m, chain->head, chain, why);
}

void virtqueue_push(struct virtqueue *q, struct memory *m, uint16_t head, uint32_t written)
{
	uint8_t *entry = memory_host(m, used_entry(q, q->next_used));
	if (entry) {
		/* Aligned to 4, not to 8: two stores. */
		host_store(entry + offsetof(struct vring_used_elem, id), head, 4);
		host_store(entry + offsetof(struct vring_used_elem, len), written, 4);
		wrote_range(m, entry, USED_ENTRY);
	}
	q->next_used++;
	store16(m, q->used + offsetof(struct vring_used, idx), q->next_used);
}

void virtqueue_want_notification(struct virtqueue *q, struct memory *m)
{
	if (!q->enabled)
		return;
	if (q->event_index)
		store16(m, avail_event(q), avail_index(q, m));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool virtqueue_should_interrupt(struct virtqueue *q, const struct memory *m)
{
	uint16_t old = q->signalled, now = q->next_used;
	if (!q->enabled || old == now)
		return false;
	q->signalled = now;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_index)
		return vring_need_event(load16(m, used_event(q), old), now, old);
	return !(load16(m, q->avail, 0) & VRING_AVAIL_F_NO_INTERRUPT);
}

unsigned virtq_iovec(const struct virtq_chain *c, const struct memory *m, bool in, uint32_t skip,
		     uint32_t n, struct iovec *iov)
{
	const struct virtq_segment *s = c->segment + (in ? c->out_count : 0);
	unsigned segments = in ? c->in_count : c->out_count, count = 0;
	for (unsigned i = 0; i < segments && n; i++) {
		if (skip >= s[i].length) {
			skip -= s[i].length;
			continue;
		}
		uint32_t part = s[i].length - skip;
		if (part > n)
			part = n;
		uint8_t *host = memory_range(m, s[i].address + skip, part);
		if (!host)
			break;		/* unplugged since */
		iov[count++] = (struct iovec){ host, part };
		skip = 0;
		n -= part;
	}
	return count;
}

void virtq_wrote(struct memory *m, const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		wrote_range(m, iov[i].iov_base, iov[i].iov_len);
}

uint32_t virtq_copy_out(const struct virtq_chain *c, struct memory *m, uint32_t skip, void *to,
			uint32_t n)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	unsigned count = virtq_iovec(c, m, false, skip, n, iov);
	uint32_t done = 0;
	for (unsigned i = 0; i < count; done += iov[i++].iov_len)
		memcpy((uint8_t *)to + done, iov[i].iov_base, iov[i].iov_len);
	return done;
}

uint32_t virtq_copy_in(const struct virtq_chain *c, struct memory *m, uint32_t skip,
		       const void *from, uint32_t n)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	unsigned count = virtq_iovec(c, m, true, skip, n, iov);
	uint32_t done = 0;
	for (unsigned i = 0; i < count; done += iov[i++].iov_len)
		memcpy(iov[i].iov_base, (const uint8_t *)from + done, iov[i].iov_len);
	virtq_wrote(m, iov, count);
	return done;
}

static void exchange(struct virtqueue *q, struct state *s)
{
	state_field(s, q->size);
	state_field(s, q->enabled);
	state_field(s, q->desc);
	state_field(s, q->avail);
	state_field(s, q->used);
	state_field(s, q->next_avail);
	state_field(s, q->next_used);
	state_field(s, q->signalled);
}

void virtqueue_save(const struct virtqueue *q, struct state *s)
{
	struct virtqueue copy = *q;
	exchange(&copy, s);
}

void virtqueue_load(struct virtqueue *q, const struct memory *m, struct state *s)
{
	struct virtq_fault why;
	exchange(q, s);
	if (!q->size || q->size > q->max_size || q->size & (q->size - 1) ||
	    (q->enabled && !rings_fit(q, m, &why))) {
		q->enabled = false;
		s->failed = true;
	}
}
