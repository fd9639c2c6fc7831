/* virtio console with one port (hvc0 in Linux). */
#ifndef NESTOR_VIRTIO_VIRTIO_CONSOLE_H
#define NESTOR_VIRTIO_VIRTIO_CONSOLE_H

#include "virtio/virtio.h"

/* The host's end of the console. */
struct virtio_console_sink {
	/* The guest wrote n bytes. */
	void (*write)(void *owner, const uint8_t *bytes, size_t n);
	/* The console can take input again after it could not. May be NULL. */
	void (*room)(void *owner);
	void *owner;
};

struct virtio_device *virtio_console_create(struct pci_bus *bus, unsigned slot,
					    struct memory *m,
					    const struct virtio_console_sink *sink,
					    struct error *e);
/* Give the guest input; how much of it was taken. When that is less than n, the
 * sink's room is called later. */
size_t virtio_console_receive(struct virtio_device *v, const uint8_t *bytes, size_t n);

#endif
