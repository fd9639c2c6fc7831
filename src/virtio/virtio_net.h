/* virtio network adapter on a port of a switch. */
#ifndef NESTOR_VIRTIO_VIRTIO_NET_H
#define NESTOR_VIRTIO_VIRTIO_NET_H

#include "net/port.h"
#include "virtio/virtio.h"

#include <pthread.h>

/* Frames since creation, as the adapter sees them. */
struct virtio_net_counters {
	uint64_t sent, received;
	uint64_t refused;	/* by the guest: no frame's length */
	uint64_t unwanted;	/* for the guest: no driver, or buffers that it does not fit */
	uint64_t lost;		/* by the guest: nobody at the other end of the cable */
};

/* fd: a port's socket, taken over even on failure; -1: the cable is not
 * plugged in. board_lock is what guards the device: a thread of the device's
 * own takes it to deliver what came in. */
struct virtio_device *virtio_net_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					pthread_mutex_t *board_lock, int fd,
					const uint8_t mac[MAC_LENGTH], struct error *e);
/* Plug the cable into another port (-1: nowhere). Board lock held. */
void virtio_net_connect(struct virtio_device *v, int fd);
void virtio_net_counters(const struct virtio_device *v, struct virtio_net_counters *c);
/* Ends the device's thread; nothing comes in from here on. Board lock not held. */
void virtio_net_stop(struct virtio_device *v);
/* virtio_net_stop came before. */
void virtio_net_destroy(struct virtio_device *v);

#endif
