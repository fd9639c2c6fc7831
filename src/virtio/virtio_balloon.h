/* virtio memory balloon (Virtual I/O Device 1.1, "Traditional Memory Balloon
 * Device") with its statistics. The guest gives pages into it until it holds
 * what is wanted; their host memory is given back at once. Board lock held in
 * every call. */
#ifndef NESTOR_VIRTIO_VIRTIO_BALLOON_H
#define NESTOR_VIRTIO_VIRTIO_BALLOON_H

#include "virtio/virtio.h"

/* What the guest last said of itself, in bytes. */
struct balloon_statistics {
	bool known;		/* false: nothing was said yet */
	uint64_t total;		/* what it manages, the balloon's pages not counted */
	uint64_t available;	/* what it could give to programs without swapping */
	uint64_t free;
};

struct virtio_device *virtio_balloon_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					    struct error *e);
void virtio_balloon_destroy(struct virtio_device *v);
/* How much the balloon should hold; the driver follows in its own time. */
void virtio_balloon_want(struct virtio_device *v, uint64_t bytes);
uint64_t virtio_balloon_holds(const struct virtio_device *v);
/* Whether a driver runs that follows. */
bool virtio_balloon_driven(const struct virtio_device *v);
/* Ask for new statistics; they come a little later. */
void virtio_balloon_ask(struct virtio_device *v);
struct balloon_statistics virtio_balloon_statistics(const struct virtio_device *v);

#endif
