/* A virtio device over PCI (Virtual I/O Device 1.1, "Virtio Over PCI Bus"),
 * modern interface only.
 *
 * virtio_pci.c owns the transport: configuration structures, status, feature
 * negotiation, queues and interrupts. A device supplies struct virtio_ops, is
 * told when the driver notified a queue, and takes buffers with virtio_process
 * or virtio_pop and virtio_push. Board lock held everywhere. */
#ifndef NESTOR_VIRTIO_VIRTIO_H
#define NESTOR_VIRTIO_VIRTIO_H

#include "board/pci.h"
#include "virtio/virtqueue.h"

enum { VIRTIO_MAX_QUEUES = 5 };

struct virtio_device;

struct virtio_ops {
	/* The name, and virtio_device_reset, _save and _load. */
	struct device_ops device;
	uint16_t type;			/* VIRTIO_ID_... */
	uint32_t class_code;		/* PCI class */
	unsigned queues;
	uint16_t queue_size;
	void (*notified)(struct virtio_device *v, unsigned queue);
	/* The driver writes to the device-specific configuration; NULL: it cannot. */
	void (*config_write)(struct virtio_device *v, uint64_t offset, unsigned size,
			     uint64_t value);
	/* The device's own state, where it has some; NULL otherwise. */
	void (*reset)(struct virtio_device *v);
	void (*save)(const struct virtio_device *v, struct state *s);
	void (*load)(struct virtio_device *v, struct state *s);
};

struct virtio_queue {
	struct virtqueue ring;
	uint16_t vector;		/* MSI-X vector or VIRTIO_MSI_NO_VECTOR */
};

/* A device embeds this as its first member. */
struct virtio_device {
	struct pci_device pci;
	const struct virtio_ops *ops;
	struct memory *memory;
	uint64_t offered;		/* feature bits */
	const void *config;		/* device-specific configuration */
	unsigned config_size;
	unsigned access_capability;	/* of VIRTIO_PCI_CAP_PCI_CFG, in configuration space */
	bool complained;		/* a broken ring was logged; once is enough */

	uint8_t status, isr;
	uint8_t config_generation;	/* counts changes of config */
	uint16_t config_vector, queue_select;
	uint32_t device_feature_select, driver_feature_select;
	uint64_t negotiated;		/* what the driver wrote; binding with FEATURES_OK */
	struct virtio_queue queue[VIRTIO_MAX_QUEUES];
};

/* Fill v and put it on the bus. features: the device's own; the transport adds
 * the ring's. config may be NULL. */
int virtio_attach(struct virtio_device *v, const struct virtio_ops *ops, struct pci_bus *bus,
		  unsigned slot, struct memory *m, uint64_t features, const void *config,
		  unsigned config_size, struct error *e);
/* Take the device off the bus and free it (v was allocated, as first member). */
void virtio_device_destroy(struct virtio_device *v);

void virtio_device_reset(struct device *d);
void virtio_device_save(const struct device *d, struct state *s);
int virtio_device_load(struct device *d, struct state *s, struct error *e);

static inline bool virtio_has(const struct virtio_device *v, unsigned feature)
{
	return v->negotiated >> feature & 1;
}

/* Whether the driver runs and the device may touch its rings. */
bool virtio_running(const struct virtio_device *v);
/* Take the next buffer of a queue; false when there is none. */
bool virtio_pop(struct virtio_device *v, unsigned queue, struct virtq_chain *chain);
void virtio_push(struct virtio_device *v, unsigned queue, const struct virtq_chain *chain,
		 uint32_t written);
/* Interrupt the driver if it wants that for what was pushed. */
void virtio_signal(struct virtio_device *v, unsigned queue);
/* The device changed its configuration structure: tell the driver, if one
 * runs. */
void virtio_config_changed(struct virtio_device *v);
/* The driver broke the rules: the device stops until it is reset. */
void virtio_break(struct virtio_device *v, unsigned queue, const struct virtq_fault *why);

/* Work through a queue. work handles one buffer and gives the number of bytes
 * it wrote; false, with the reason, when the buffer breaks the device's rules. It
 * may let the board lock go, if no other processor can come here meanwhile. */
typedef bool virtio_work(struct virtio_device *v, const struct virtq_chain *chain,
			 uint32_t *written, struct virtq_fault *why);
void virtio_process(struct virtio_device *v, unsigned queue, virtio_work *work);

#endif
