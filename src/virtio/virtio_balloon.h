/* virtio memory balloon ("Traditional Memory Balloon Device"): pages the guest
 * gives up go back to the host at once. */
#ifndef NESTOR_VIRTIO_VIRTIO_BALLOON_H
#define NESTOR_VIRTIO_VIRTIO_BALLOON_H

#include "base/clock.h"
#include "memory/guest_memory.h"
#include "virtio/virtio.h"

/* The target is at first all of RAM. */
struct virtio_device *virtio_balloon_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					    struct clock *clock, struct error *e);
void virtio_balloon_destroy(struct virtio_device *v);
/* The n bytes of room at pa were plugged out: nothing of them is in it. */
void virtio_balloon_forget(struct virtio_device *v, uint64_t pa, uint64_t n);
/* Its size: all RAM that is there now. A target after that changed means other
 * pages than before. */
struct guest_memory *virtio_balloon_guest_memory(struct virtio_device *v);

#endif
