/* A split virtqueue as the device sees it: the rings in guest memory, and the
 * descriptor chains taken from them (Virtual I/O Device 1.1, "Split
 * Virtqueues").
 *
 * Nothing a ring says is trusted. virtqueue_pop gives a chain only after every
 * index, length and address of it was checked, so whoever works on a chain can
 * reach guest RAM and nothing else. A ring that breaks the rules gives
 * VIRTQ_BROKEN and one sentence why. */
#ifndef NESTOR_VIRTIO_VIRTQUEUE_H
#define NESTOR_VIRTIO_VIRTQUEUE_H

#include "base/state.h"
#include "memory/memory.h"

#include <sys/uio.h>

/* A chain is never longer than a queue, by the specification; so neither is
 * one in an indirect table. */
enum { VIRTQ_MAX_SIZE = 256 };

struct virtqueue {
	uint16_t max_size;		/* what the device offers */
	uint16_t size;			/* what the driver chose: a power of two */
	bool enabled;
	bool indirect, event_index;	/* negotiated */
	uint64_t desc, avail, used;	/* guest-physical addresses of the rings */
	uint16_t next_avail;		/* next entry of the available ring to take */
	uint16_t next_used;		/* next entry of the used ring to fill */
	uint16_t signalled;		/* next_used when the driver was last asked about */
};

struct virtq_segment {
	uint64_t address;
	uint32_t length;
};

/* A buffer of the driver: out segments (the device reads) first, then in
 * segments (the device writes). */
struct virtq_chain {
	uint16_t head;
	unsigned out_count, in_count;
	uint32_t out_bytes, in_bytes;
	struct virtq_segment segment[VIRTQ_MAX_SIZE];
};

enum virtq_result { VIRTQ_EMPTY, VIRTQ_CHAIN, VIRTQ_BROKEN };

struct virtq_fault {
	char text[160];		/* one sentence */
};

void virtqueue_reset(struct virtqueue *q);
/* Check the rings' addresses and begin; false: they cannot be used. */
bool virtqueue_enable(struct virtqueue *q, const struct memory *m, struct virtq_fault *why);
/* Take the next buffer. */
enum virtq_result virtqueue_pop(struct virtqueue *q, struct memory *m,
				struct virtq_chain *chain, struct virtq_fault *why);
/* Whether a buffer is waiting. */
bool virtqueue_waiting(const struct virtqueue *q, const struct memory *m);
/* Give a buffer back with the number of bytes written into its in segments. */
void virtqueue_push(struct virtqueue *q, struct memory *m, uint16_t head, uint32_t written);
/* Event index only: ask for a notification at the next buffer after those the
 * driver has made available so far. Then ask virtqueue_waiting again. */
void virtqueue_want_notification(struct virtqueue *q, struct memory *m);
/* Whether the driver wants to be interrupted for what was given back since the
 * last call. */
bool virtqueue_should_interrupt(struct virtqueue *q, const struct memory *m);

/* Copy between a chain's out (in) bytes, from `skip` on, and ours: how many
 * bytes there were. */
uint32_t virtq_copy_out(const struct virtq_chain *c, struct memory *m, uint32_t skip, void *to,
			uint32_t n);
uint32_t virtq_copy_in(const struct virtq_chain *c, struct memory *m, uint32_t skip,
		       const void *from, uint32_t n);
/* Host addresses of n bytes from skip on in the out (or in) part, which has
 * them; the number of elements, at most VIRTQ_MAX_SIZE. After writing through
 * them call virtq_wrote. */
unsigned virtq_iovec(const struct virtq_chain *c, const struct memory *m, bool in, uint32_t skip,
		     uint32_t n, struct iovec *iov);
void virtq_wrote(struct memory *m, const struct iovec *iov, unsigned count);

/* Within the device's section. */
void virtqueue_save(const struct virtqueue *q, struct state *s);
/* Marks the state failed when the rings do not fit this memory. */
void virtqueue_load(struct virtqueue *q, const struct memory *m, struct state *s);

#endif
