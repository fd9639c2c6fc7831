/* A machine with a PCI bus, and a driver for one virtio device on it: the
 * driver's rings lie in guest memory, and it reaches the device by ports CF8h
 * and CFCh and by its BARs, as a guest does. Included by the virtio tests. */
#ifndef NESTOR_TESTS_VIRTIO_DRIVER_H
#define NESTOR_TESTS_VIRTIO_DRIVER_H

#include "base/bits.h"
#include "board/i440fx.h"
#include "virtio/virtio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include <stdlib.h>

enum {
	RIG_MEMORY = 16 << 20,
	RIG_SLOT = 4,
	RIG_MESSAGES = 64,
	/* Guest memory: each queue's rings in 64 KiB, data buffers above. */
	RIG_RINGS = 0x100000,
	RIG_RINGS_STRIDE = 0x10000,
	RIG_AVAIL = 0x4000,
	RIG_USED = 0x8000,
	RIG_INDIRECT = 0xc000,
	RIG_DATA = 0x200000,
	RIG_VECTOR_DATA = 0x4100,	/* MSI-X vector n sends this plus n */
};
#define RIG_MSI_ADDRESS 0xfee01000u

struct rig {
	struct bus *bus;
	struct memory *memory;
	struct pci_bus *pci;
	struct i440fx *chipset;
	struct { uint64_t address; uint32_t data; } message[RIG_MESSAGES];
	unsigned messages;
	bool line[PCI_INTX_LINES];
	unsigned line_changes;

	struct virtio_device *device;
	uint64_t bar[PCI_STD_NUM_BARS];
	uint64_t common, isr, config, notify;	/* guest-physical addresses */
	uint32_t notify_multiplier;
	unsigned access_capability, msix_capability;
	struct {
		uint16_t size, next_avail, last_used, next_desc;
	} queue[VIRTIO_MAX_QUEUES];
};

static void rig_message(void *owner, uint64_t address, uint32_t data)
{
	struct rig *r = owner;
	r->message[r->messages % RIG_MESSAGES].address = address;
	r->message[r->messages % RIG_MESSAGES].data = data;
	r->messages++;
}

static void rig_line(void *owner, unsigned pin, bool level)
{
	struct rig *r = owner;
	r->line[pin] = level;
	r->line_changes++;
}

/* With room for as much more memory. */
static inline void rig_create_with_room(struct rig *r, uint64_t room)
{
	struct error e;
	struct irq_line intx[PCI_INTX_LINES];
	memset(r, 0, sizeof *r);
	for (unsigned i = 0; i < PCI_INTX_LINES; i++)
		intx[i] = (struct irq_line){ rig_line, r, i };
	r->bus = bus_create();
	r->memory = memory_create_with_room(RIG_MEMORY, room, &e);
	r->pci = pci_bus_create(r->bus, (struct msi_target){ rig_message, r }, intx, &e);
	r->chipset = i440fx_create(r->bus, r->pci, &(struct i440fx_config){ 0 }, &e);
}

static inline void rig_create(struct rig *r)
{
	rig_create_with_room(r, 0);
}

static inline void rig_destroy(struct rig *r)
{
	virtio_device_destroy(r->device);
	i440fx_destroy(r->chipset);
	pci_bus_destroy(r->pci);
	memory_destroy(r->memory);
	bus_destroy(r->bus);
}

/* Configuration space through the ports. */
static inline void rig_select(struct rig *r, unsigned slot, unsigned function, unsigned offset)
{
	bus_write(r->bus, BUS_IO, 0xcf8, 4,
		  0x80000000u | slot << 11 | function << 8 | (offset & 0xfc));
}

static inline uint32_t rig_cfg_read(struct rig *r, unsigned slot, unsigned function,
				    unsigned offset, unsigned size)
{
	rig_select(r, slot, function, offset);
	return (uint32_t)bus_read(r->bus, BUS_IO, 0xcfc + (offset & 3), size);
}

static inline void rig_cfg_write(struct rig *r, unsigned slot, unsigned function,
				 unsigned offset, unsigned size, uint32_t value)
{
	rig_select(r, slot, function, offset);
	bus_write(r->bus, BUS_IO, 0xcfc + (offset & 3), size, value);
}

static inline uint32_t rig_read(struct rig *r, unsigned offset, unsigned size)
{
	return rig_cfg_read(r, RIG_SLOT, 0, offset, size);
}

static inline void rig_write(struct rig *r, unsigned offset, unsigned size, uint32_t value)
{
	rig_cfg_write(r, RIG_SLOT, 0, offset, size, value);
}

static inline uint64_t mmio_read(struct rig *r, uint64_t address, unsigned size)
{
	return bus_read(r->bus, BUS_MMIO, address, size);
}

static inline void mmio_write(struct rig *r, uint64_t address, unsigned size, uint64_t value)
{
	bus_write(r->bus, BUS_MMIO, address, size, value);
}

static inline uint64_t common_get(struct rig *r, unsigned field, unsigned size)
{
	return mmio_read(r, r->common + field, size);
}

static inline void common_set(struct rig *r, unsigned field, unsigned size, uint64_t value)
{
	mmio_write(r, r->common + field, size, value);
}

static inline void common_set64(struct rig *r, unsigned field, uint64_t value)
{
	common_set(r, field, 4, value & 0xffffffff);
	common_set(r, field + 4, 4, value >> 32);
}

static inline uint8_t rig_status(struct rig *r)
{
	return (uint8_t)common_get(r, VIRTIO_PCI_COMMON_STATUS, 1);
}

/* Walk the capabilities as a driver does, and switch bus mastering on. */
static inline void rig_probe(struct rig *r, struct virtio_device *device)
{
	r->device = device;
	for (unsigned i = 0; i < PCI_STD_NUM_BARS; i++)
		r->bar[i] = rig_read(r, PCI_BASE_ADDRESS_0 + 4 * i, 4) & ~15u;
	for (unsigned at = rig_read(r, PCI_CAPABILITY_LIST, 1); at;
	     at = rig_read(r, at + PCI_CAP_LIST_NEXT, 1)) {
		unsigned id = rig_read(r, at, 1);
		if (id == PCI_CAP_ID_MSIX)
			r->msix_capability = at;
		if (id != PCI_CAP_ID_VNDR)
			continue;
		uint64_t where = r->bar[rig_read(r, at + VIRTIO_PCI_CAP_BAR, 1) % 6] +
			rig_read(r, at + VIRTIO_PCI_CAP_OFFSET, 4);
		switch (rig_read(r, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG: r->common = where; break;
		case VIRTIO_PCI_CAP_ISR_CFG: r->isr = where; break;
		case VIRTIO_PCI_CAP_DEVICE_CFG: r->config = where; break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			r->notify = where;
			r->notify_multiplier = rig_read(r, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
			break;
		case VIRTIO_PCI_CAP_PCI_CFG: r->access_capability = at; break;
		}
	}
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* MSI-X on, every vector open. */
static inline void rig_msix(struct rig *r, unsigned vectors)
{
	uint64_t table = r->bar[rig_read(r, r->msix_capability + PCI_MSIX_TABLE, 4) & 7];
	rig_write(r, r->msix_capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < vectors; i++) {
		mmio_write(r, table + 16 * i, 4, RIG_MSI_ADDRESS);
		mmio_write(r, table + 16 * i + 4, 4, 0);
		mmio_write(r, table + 16 * i + 8, 4, RIG_VECTOR_DATA + i);
		mmio_write(r, table + 16 * i + 12, 4, 0);
	}
}

static inline uint64_t rig_features(struct rig *r)
{
	common_set(r, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	uint64_t low = common_get(r, VIRTIO_PCI_COMMON_DF, 4);
	common_set(r, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return low | common_get(r, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

/* Reset and negotiate; what FEATURES_OK reads as. */
static inline bool rig_negotiate(struct rig *r, uint64_t features)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	memset(r->queue, 0, sizeof r->queue);
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, status);
	common_set(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_set(r, VIRTIO_PCI_COMMON_GF, 4, features & 0xffffffff);
	common_set(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	common_set(r, VIRTIO_PCI_COMMON_GF, 4, features >> 32);
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, status | VIRTIO_CONFIG_S_FEATURES_OK);
	return rig_status(r) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static inline uint64_t rig_desc(unsigned queue)
{
	return RIG_RINGS + queue * RIG_RINGS_STRIDE;
}

static inline uint64_t rig_avail(unsigned queue)
{
	return rig_desc(queue) + RIG_AVAIL;
}

static inline uint64_t rig_used(unsigned queue)
{
	return rig_desc(queue) + RIG_USED;
}

static inline uint16_t guest16(struct rig *r, uint64_t address)
{
	uint8_t b[2] = { 0 };
	memory_read(r->memory, address, b, sizeof b);
	return (uint16_t)load_le(b, 2);
}

static inline uint32_t guest32(struct rig *r, uint64_t address)
{
	uint8_t b[4] = { 0 };
	memory_read(r->memory, address, b, sizeof b);
	return (uint32_t)load_le(b, 4);
}

static inline void guest_set(struct rig *r, uint64_t address, uint64_t value, unsigned size)
{
	memory_write(r->memory, address, &value, size);
}

/* Clean rings, announced to the device and enabled; vector: of the queue. */
static inline void rig_queue(struct rig *r, unsigned queue, uint16_t size, uint16_t vector)
{
	memory_fill(r->memory, rig_desc(queue), 0, RIG_RINGS_STRIDE);
	r->queue[queue].size = size;
	r->queue[queue].next_avail = r->queue[queue].last_used = r->queue[queue].next_desc = 0;
	common_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	common_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	common_set64(r, VIRTIO_PCI_COMMON_Q_DESCLO, rig_desc(queue));
	common_set64(r, VIRTIO_PCI_COMMON_Q_AVAILLO, rig_avail(queue));
	common_set64(r, VIRTIO_PCI_COMMON_Q_USEDLO, rig_used(queue));
	common_set(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
	common_set(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static inline void rig_driver_ok(struct rig *r)
{
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, rig_status(r) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* All of it, the usual way. */
static inline void rig_start(struct rig *r, unsigned queues, uint16_t size, uint64_t features)
{
	rig_msix(r, queues + 1);
	rig_negotiate(r, features | BIT(VIRTIO_F_VERSION_1));
	common_set(r, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned i = 0; i < queues; i++)
		rig_queue(r, i, size, (uint16_t)(i + 1));
	rig_driver_ok(r);
}

/* One descriptor, at table[index]. */
static inline void put_desc(struct rig *r, uint64_t table, unsigned index, uint64_t address,
			    uint32_t length, uint16_t flags, uint16_t next)
{
	uint64_t at = table + index * sizeof(struct vring_desc);
	guest_set(r, at, address, 8);
	guest_set(r, at + 8, length, 4);
	guest_set(r, at + 12, flags, 2);
	guest_set(r, at + 14, next, 2);
}

struct piece {
	uint64_t address;
	uint32_t length;
	bool in;		/* the device writes it */
};

/* Make a buffer of the pieces available; its head. Descriptors are handed out
 * round the table, so as many as fit may be in flight. */
static inline uint16_t rig_offer(struct rig *r, unsigned queue, const struct piece *piece,
				 unsigned count)
{
	uint16_t size = r->queue[queue].size, head = r->queue[queue].next_desc % size;
	for (unsigned i = 0; i < count; i++) {
		uint16_t at = r->queue[queue].next_desc++ % size;
		put_desc(r, rig_desc(queue), at, piece[i].address, piece[i].length,
			 (piece[i].in ? VRING_DESC_F_WRITE : 0) |
			 (i + 1 < count ? VRING_DESC_F_NEXT : 0), (at + 1) % size);
	}
	guest_set(r, rig_avail(queue) + 4 + r->queue[queue].next_avail++ % size * 2, head, 2);
	guest_set(r, rig_avail(queue) + 2, r->queue[queue].next_avail, 2);
	return head;
}

static inline void rig_kick(struct rig *r, unsigned queue)
{
	mmio_write(r, r->notify + queue * r->notify_multiplier, 2, queue);
}

/* The next buffer given back: true with its head and length. */
static inline bool rig_take(struct rig *r, unsigned queue, uint32_t *head, uint32_t *length)
{
	uint64_t used = rig_used(queue);
	if (guest16(r, used + 2) == r->queue[queue].last_used)
		return false;
	uint64_t at = used + 4 + r->queue[queue].last_used++ % r->queue[queue].size * 8;
	*head = guest32(r, at);
	*length = guest32(r, at + 4);
	return true;
}

#endif
