/* virtio entropy device: the host's getrandom. */
#ifndef NESTOR_VIRTIO_VIRTIO_RNG_H
#define NESTOR_VIRTIO_VIRTIO_RNG_H

#include "virtio/virtio.h"

struct virtio_device *virtio_rng_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					struct error *e);

#endif
