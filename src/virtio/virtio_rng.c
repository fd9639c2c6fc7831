#include "virtio/virtio_rng.h"

#include "base/log.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
	CLASS_OTHER = 0xff0000,
	REQUEST_QUEUE = 0,
	QUEUE_SIZE = 64,
	/* A buffer may be filled in part ("Entropy Device"): this much at most,
	 * so that a request takes no noticeable time. */
	REQUEST_MAX = 16 << 10,
};

/* Random bytes straight into the guest's memory; how many it were. */
static uint32_t fill(struct iovec *iov, unsigned count)
{
	uint32_t done = 0;
	for (unsigned i = 0; i < count; i++)
		for (size_t at = 0; at < iov[i].iov_len;) {
			ssize_t n = getrandom((uint8_t *)iov[i].iov_base + at,
					      iov[i].iov_len - at, 0);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return done;
			at += (size_t)n;
			done += (uint32_t)n;
		}
	return done;
}

static bool work(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		 struct virtq_fault *why)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	uint32_t bytes = c->in_bytes < REQUEST_MAX ? c->in_bytes : REQUEST_MAX;
	unsigned count = virtq_iovec(c, v->memory, true, 0, bytes, iov);
	*written = fill(iov, count);
	virtq_wrote(v->memory, iov, count);
	trace(VIRTIO, "virtio-rng: %u bytes", *written);
	return true;
}

static void notified(struct virtio_device *v, unsigned queue)
{
	virtio_process(v, queue, work);
}

static const struct virtio_ops rng_ops = {
	.device = { "virtio-rng", virtio_device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_RNG,
	.class_code = CLASS_OTHER,
	.queues = REQUEST_QUEUE + 1,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
};

struct virtio_device *virtio_rng_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					struct error *e)
{
	struct virtio_device *v = alloc_zeroed(1, sizeof *v);
	if (virtio_attach(v, &rng_ops, bus, slot, m, 0, NULL, 0, e)) {
		free(v);
		return NULL;
	}
	return v;
}
