/* virtio block device over a disk. */
#ifndef NESTOR_VIRTIO_VIRTIO_BLK_H
#define NESTOR_VIRTIO_VIRTIO_BLK_H

#include "disk/disk.h"
#include "virtio/virtio.h"

#include <pthread.h>

/* The disk stays the caller's and must live longer than the device. lock: the
 * board lock, which the device lets go while the disk works. */
struct virtio_device *virtio_blk_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					pthread_mutex_t *lock, struct disk *disk, struct error *e);

#endif
