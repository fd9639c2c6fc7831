/* virtio memory device ("Memory Device", virtio-mem): blocks of RAM that the
 * guest plugs in and out of the room above its memory (memory.h), up to what
 * it is asked to have there. */
#ifndef NESTOR_VIRTIO_VIRTIO_MEM_H
#define NESTOR_VIRTIO_VIRTIO_MEM_H

#include "base/clock.h"
#include "memory/guest_memory.h"
#include "virtio/virtio.h"

/* Whoever else must know that blocks came or went. */
struct virtio_mem_host {
	/* After they are in, before the guest hears of it; false: they cannot be
	 * used, and go out again. After they are out, before their contents go. */
	bool (*plugged)(void *owner, uint64_t pa, uint64_t n, bool in);
	void *owner;
};

/* m has room. At first nothing is plugged in, and nothing is asked for. */
struct virtio_device *virtio_mem_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					struct clock *clock, const struct virtio_mem_host *host,
					struct error *e);
void virtio_mem_destroy(struct virtio_device *v);
/* Of the room alone: size, target and current count what is plugged in. */
struct guest_memory *virtio_mem_guest_memory(struct virtio_device *v);

#endif
