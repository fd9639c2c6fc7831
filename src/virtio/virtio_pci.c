/* The modern virtio-pci transport.
 *
 * One memory BAR holds the four structures, each in a page of its own; MSI-X
 * has another. Start reading at regions[]: it lists the structures with their
 * capabilities; common_fields[] lists the registers of the common one.
 *
 * What holds always: a queue is enabled only after FEATURES_OK and with rings
 * that lie in RAM; rings are touched only while virtio_running(); a driver that
 * breaks the rules gets DEVICE_NEEDS_RESET and silence until it resets. */
#include "virtio/virtio.h"

#include "base/log.h"

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include <stdlib.h>

enum {
	VENDOR_VIRTIO = 0x1af4,
	DEVICE_ID_BASE = 0x1040,	/* plus the device type */
	SUBSYSTEM = 0x1100,		/* 40h or more: not a transitional device */
	REVISION_MODERN = 1,
	PIN_A = 1,

	MSIX_BAR = 1,
	VIRTIO_BAR = 4,
	REGION_SIZE = 0x1000,
	REGIONS = 4,
	NOTIFY_MULTIPLIER = 4,		/* bytes of the notify structure per queue */

	ISR_QUEUE = 1,
	ISR_CONFIG = 2,

	SECTION_VERSION = 2,		/* since 2: the configuration's generation */
};

#define RING_FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	BIT(VIRTIO_RING_F_EVENT_IDX))
/* What the driver may add to the status; the device alone sets NEEDS_RESET. */
#define STATUS_SETTABLE (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | \
	VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

static struct virtio_device *virtio_of(struct pci_device *d)
{
	return container_of(d, struct virtio_device, pci);
}

/* Interrupts */

static void update_pin(struct virtio_device *v)
{
	pci_set_intx(&v->pci, v->isr && !pci_msix_enabled(&v->pci));
}

static void interrupt(struct virtio_device *v, uint16_t vector, uint8_t isr)
{
	if (pci_msix_enabled(&v->pci)) {
		if (vector != VIRTIO_MSI_NO_VECTOR)
			pci_msix_notify(&v->pci, vector);
		return;
	}
	v->isr |= isr;
	update_pin(v);
}

/* Queues */

bool virtio_running(const struct virtio_device *v)
{
	return v->status & VIRTIO_CONFIG_S_DRIVER_OK &&
		!(v->status & VIRTIO_CONFIG_S_NEEDS_RESET) &&
		pci_command(&v->pci) & PCI_COMMAND_MASTER;
}

void virtio_break(struct virtio_device *v, unsigned queue, const struct virtq_fault *why)
{
	if (!v->complained)
		log_line("%s in PCI slot %u stops until its driver resets it: queue %u is broken, %s.",
			 v->ops->device.name, PCI_SLOT(v->pci.devfn), queue, why->text);
	v->complained = true;
	trace(VIRTIO, "%s: queue %u broken: %s", v->ops->device.name, queue, why->text);
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (v->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(v, v->config_vector, ISR_CONFIG);
}

bool virtio_pop(struct virtio_device *v, unsigned queue, struct virtq_chain *chain)
{
	struct virtq_fault why;
	if (!virtio_running(v))
		return false;
	enum virtq_result result = virtqueue_pop(&v->queue[queue].ring, v->memory, chain, &why);
	if (result == VIRTQ_BROKEN)
		virtio_break(v, queue, &why);
	return result == VIRTQ_CHAIN;
}

void virtio_push(struct virtio_device *v, unsigned queue, const struct virtq_chain *chain,
		 uint32_t written)
{
	virtqueue_push(&v->queue[queue].ring, v->memory, chain->head, written);
}

void virtio_signal(struct virtio_device *v, unsigned queue)
{
	if (virtqueue_should_interrupt(&v->queue[queue].ring, v->memory))
		interrupt(v, v->queue[queue].vector, ISR_QUEUE);
}

void virtio_config_changed(struct virtio_device *v)
{
	v->config_generation++;
	if (v->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(v, v->config_vector, ISR_CONFIG);
}

/* Ends after two rings' worth of buffers even if another processor of the guest
 * goes on adding some: the board waits for us. The event index then asks for a
 * notification at the very next buffer. */
void virtio_process(struct virtio_device *v, unsigned queue, virtio_work *work)
{
	struct virtqueue *ring = &v->queue[queue].ring;
	struct virtq_chain chain;
	struct virtq_fault why;
	unsigned left = 2 * ring->size;
	do {
		while (left && virtio_pop(v, queue, &chain)) {
			uint32_t written = 0;
			if (!work(v, &chain, &written, &why)) {
				virtio_break(v, queue, &why);
				break;
			}
			/* work may have let the lock go, and the driver reset us. */
			if (!virtio_running(v))
				return;
			virtio_push(v, queue, &chain, written);
			left--;
		}
		if (!virtio_running(v))
			return;
		virtqueue_want_notification(ring, v->memory);
	} while (left && virtqueue_waiting(ring, v->memory));
	virtio_signal(v, queue);
}

static void notify(struct virtio_device *v, unsigned queue)
{
	if (queue < v->ops->queues && v->queue[queue].ring.enabled && virtio_running(v))
		v->ops->notified(v, queue);
}

/* Status and features */

static void device_reset(struct virtio_device *v)
{
	v->status = v->isr = 0;
	v->config_vector = VIRTIO_MSI_NO_VECTOR;
	v->queue_select = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->negotiated = 0;
	for (unsigned i = 0; i < v->ops->queues; i++) {
		v->queue[i].ring.max_size = v->ops->queue_size;
		virtqueue_reset(&v->queue[i].ring);
		v->queue[i].vector = VIRTIO_MSI_NO_VECTOR;
	}
	update_pin(v);
	if (v->ops->reset)
		v->ops->reset(v);
}

static bool features_acceptable(const struct virtio_device *v)
{
	return !(v->negotiated & ~v->offered) && virtio_has(v, VIRTIO_F_VERSION_1);
}

static void features_apply(struct virtio_device *v)
{
	for (unsigned i = 0; i < v->ops->queues; i++) {
		v->queue[i].ring.indirect = virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC);
		v->queue[i].ring.event_index = virtio_has(v, VIRTIO_RING_F_EVENT_IDX);
	}
}

/* "Device Initialization": bits are added in steps; only 0 takes them away. */
static void status_set(struct virtio_device *v, struct virtio_queue *q, uint64_t value)
{
	trace(VIRTIO, "%s: status %#x <- %#llx", v->ops->device.name, v->status,
	      (unsigned long long)value);
	if (!value) {
		device_reset(v);
		return;
	}
	uint8_t added = value & ~v->status & STATUS_SETTABLE;
	if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
		if (features_acceptable(v))
			features_apply(v);
		else
			added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if (!((v->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	v->status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		for (unsigned i = 0; i < v->ops->queues; i++)
			notify(v, i);
}

/* The common configuration structure. q is the selected queue, NULL when
 * there is none: then the fields of a queue read 0 and cannot be written. */

static uint64_t device_feature_get(const struct virtio_device *v, const struct virtio_queue *q)
{
	return v->device_feature_select > 1 ? 0 : v->offered >> 32 * v->device_feature_select;
}

static uint64_t driver_feature_get(const struct virtio_device *v, const struct virtio_queue *q)
{
	return v->driver_feature_select > 1 ? 0 : v->negotiated >> 32 * v->driver_feature_select;
}

static void driver_feature_set(struct virtio_device *v, struct virtio_queue *q, uint64_t value)
{
	unsigned shift = 32 * v->driver_feature_select;
	if (shift > 32 || v->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	v->negotiated = (v->negotiated & ~(0xffffffffull << shift)) | value << shift;
}

/* A vector that the function does not have reads back as none. */
static uint16_t checked_vector(const struct virtio_device *v, uint64_t value)
{
	return value < v->pci.msix.vectors ? (uint16_t)value : VIRTIO_MSI_NO_VECTOR;
}

#define GET(name, expression) \
	static uint64_t name(const struct virtio_device *v, const struct virtio_queue *q) \
	{ return expression; }
#define SET(name, statement) \
	static void name(struct virtio_device *v, struct virtio_queue *q, uint64_t value) \
	{ statement; }
/* Of a queue, while it is not enabled. */
#define SET_BEFORE_ENABLE(name, lvalue) \
	static void name(struct virtio_device *v, struct virtio_queue *q, uint64_t value) \
	{ if (!q->ring.enabled) lvalue = value; }

GET(device_feature_select_get, v->device_feature_select)
SET(device_feature_select_set, v->device_feature_select = (uint32_t)value)
GET(driver_feature_select_get, v->driver_feature_select)
SET(driver_feature_select_set, v->driver_feature_select = (uint32_t)value)
GET(config_vector_get, v->config_vector)
SET(config_vector_set, v->config_vector = checked_vector(v, value))
GET(num_queues_get, v->ops->queues)
GET(status_get, v->status)
GET(config_generation_get, v->config_generation)
GET(queue_select_get, v->queue_select)
SET(queue_select_set, v->queue_select = (uint16_t)value)
GET(queue_size_get, q->ring.size)
GET(queue_vector_get, q->vector)
SET(queue_vector_set, q->vector = checked_vector(v, value))
GET(queue_enable_get, q->ring.enabled)
GET(queue_notify_off_get, (uint64_t)(q - v->queue))
GET(queue_desc_get, q->ring.desc)
SET_BEFORE_ENABLE(queue_desc_set, q->ring.desc)
GET(queue_avail_get, q->ring.avail)
SET_BEFORE_ENABLE(queue_avail_set, q->ring.avail)
GET(queue_used_get, q->ring.used)
SET_BEFORE_ENABLE(queue_used_set, q->ring.used)

static void queue_size_set(struct virtio_device *v, struct virtio_queue *q, uint64_t value)
{
	if (!q->ring.enabled && value && value <= q->ring.max_size && !(value & (value - 1)))
		q->ring.size = (uint16_t)value;
}

static void queue_enable_set(struct virtio_device *v, struct virtio_queue *q, uint64_t value)
{
	struct virtq_fault why;
	if (value != 1 || q->ring.enabled || !(v->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    v->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	if (!virtqueue_enable(&q->ring, v->memory, &why))
		virtio_break(v, (unsigned)(q - v->queue), &why);
}

static const struct common_field {
	uint8_t offset, size;
	bool of_queue;
	uint64_t (*get)(const struct virtio_device *v, const struct virtio_queue *q);
	void (*set)(struct virtio_device *v, struct virtio_queue *q, uint64_t value);
} common_fields[] = {
	{ VIRTIO_PCI_COMMON_DFSELECT, 4, false, device_feature_select_get,
	  device_feature_select_set },
	{ VIRTIO_PCI_COMMON_DF, 4, false, device_feature_get, NULL },
	{ VIRTIO_PCI_COMMON_GFSELECT, 4, false, driver_feature_select_get,
	  driver_feature_select_set },
	{ VIRTIO_PCI_COMMON_GF, 4, false, driver_feature_get, driver_feature_set },
	{ VIRTIO_PCI_COMMON_MSIX, 2, false, config_vector_get, config_vector_set },
	{ VIRTIO_PCI_COMMON_NUMQ, 2, false, num_queues_get, NULL },
	{ VIRTIO_PCI_COMMON_STATUS, 1, false, status_get, status_set },
	{ VIRTIO_PCI_COMMON_CFGGENERATION, 1, false, config_generation_get, NULL },
	{ VIRTIO_PCI_COMMON_Q_SELECT, 2, false, queue_select_get, queue_select_set },
	{ VIRTIO_PCI_COMMON_Q_SIZE, 2, true, queue_size_get, queue_size_set },
	{ VIRTIO_PCI_COMMON_Q_MSIX, 2, true, queue_vector_get, queue_vector_set },
	{ VIRTIO_PCI_COMMON_Q_ENABLE, 2, true, queue_enable_get, queue_enable_set },
	{ VIRTIO_PCI_COMMON_Q_NOFF, 2, true, queue_notify_off_get, NULL },
	{ VIRTIO_PCI_COMMON_Q_DESCLO, 8, true, queue_desc_get, queue_desc_set },
	{ VIRTIO_PCI_COMMON_Q_AVAILLO, 8, true, queue_avail_get, queue_avail_set },
	{ VIRTIO_PCI_COMMON_Q_USEDLO, 8, true, queue_used_get, queue_used_set },
};

/* Fields are accessed in their own width, 64-bit ones also by halves ("PCI
 * Device Layout"); nothing answers to other accesses. */
static const struct common_field *common_field(uint64_t offset, unsigned size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(common_fields); i++) {
		const struct common_field *f = &common_fields[i];
		if ((offset == f->offset && size == f->size) ||
		    (f->size == 8 && size == 4 && (offset == f->offset || offset == f->offset + 4u)))
			return f;
	}
	return NULL;
}

static struct virtio_queue *selected_queue(struct virtio_device *v)
{
	return v->queue_select < v->ops->queues ? &v->queue[v->queue_select] : NULL;
}

static uint64_t common_read(struct virtio_device *v, uint64_t offset, unsigned size)
{
	const struct common_field *f = common_field(offset, size);
	const struct virtio_queue *q = selected_queue(v);
	if (!f || (f->of_queue && !q))
		return 0;
	return bits_trim(f->get(v, q) >> 8 * (offset - f->offset), size);
}

static void common_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
	const struct common_field *f = common_field(offset, size);
	struct virtio_queue *q = selected_queue(v);
	if (!f || !f->set || (f->of_queue && !q))
		return;
	if (size < f->size) {
		unsigned shift = 8 * (unsigned)(offset - f->offset);
		value = (f->get(v, q) & ~(0xffffffffull << shift)) | value << shift;
	}
	f->set(v, q, value);
}

/* The other structures. */

static uint64_t isr_read(struct virtio_device *v, uint64_t offset, unsigned size)
{
	if (offset)
		return 0;
	uint8_t isr = v->isr;
	v->isr = 0;
	update_pin(v);
	return isr;
}

static uint64_t config_read(struct virtio_device *v, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		if (offset + i < v->config_size)
			value |= (uint64_t)((const uint8_t *)v->config)[offset + i] << 8 * i;
	return value;
}

static void config_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
	if (v->ops->config_write && offset + size <= v->config_size)
		v->ops->config_write(v, offset, size, value);
}

static void notify_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
	if (!(offset % NOTIFY_MULTIPLIER))
		notify(v, (unsigned)(offset / NOTIFY_MULTIPLIER));
}

static const struct region {
	uint8_t type;			/* of its capability */
	uint64_t (*read)(struct virtio_device *v, uint64_t offset, unsigned size);
	void (*write)(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value);
} regions[REGIONS] = {
	{ VIRTIO_PCI_CAP_COMMON_CFG, common_read, common_write },
	{ VIRTIO_PCI_CAP_ISR_CFG, isr_read, NULL },
	{ VIRTIO_PCI_CAP_DEVICE_CFG, config_read, config_write },
	{ VIRTIO_PCI_CAP_NOTIFY_CFG, NULL, notify_write },
};

static uint64_t bar_read(void *owner, uint64_t offset, unsigned size)
{
	const struct region *r = &regions[offset / REGION_SIZE];
	return r->read ? r->read(owner, offset % REGION_SIZE, size) : 0;
}

static void bar_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	const struct region *r = &regions[offset / REGION_SIZE];
	if (r->write)
		r->write(owner, offset % REGION_SIZE, size, value);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

/* "PCI configuration access capability": a window on the BARs for whoever can
 * reach configuration space only. The driver writes bar, offset and length
 * into the capability, then reads or writes pci_cfg_data. */
static const struct pci_bar *access_window(const struct pci_device *d, unsigned capability,
					   uint32_t *offset, uint32_t *length)
{
	unsigned index = d->config[capability + VIRTIO_PCI_CAP_BAR];
	*offset = (uint32_t)load_le(d->config + capability + VIRTIO_PCI_CAP_OFFSET, 4);
	*length = (uint32_t)load_le(d->config + capability + VIRTIO_PCI_CAP_LENGTH, 4);
	if (index >= PCI_STD_NUM_BARS || d->bar[index].kind == PCI_BAR_NONE ||
	    (*length != 1 && *length != 2 && *length != 4) || *offset % *length ||
	    *offset > d->bar[index].size - *length)
		return NULL;
	return &d->bar[index];
}

static bool is_access_data(const struct virtio_device *v, unsigned offset, unsigned size)
{
	unsigned data = v->access_capability + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	return offset < data + sizeof(uint32_t) && offset + size > data;
}

static void config_reading(struct pci_device *d, unsigned offset, unsigned size)
{
	struct virtio_device *v = virtio_of(d);
	uint8_t *data = d->config + v->access_capability +
		offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	uint32_t at, length;
	if (!is_access_data(v, offset, size))
		return;
	const struct pci_bar *bar = access_window(d, v->access_capability, &at, &length);
	if (bar)
		store_le(data, bar->ops->read(bar->owner, at, length), length);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size)
{
	struct virtio_device *v = virtio_of(d);
	const uint8_t *data = d->config + v->access_capability +
		offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	uint32_t at, length;
	update_pin(v);		/* MSI-X may have been switched on or off */
	if (!is_access_data(v, offset, size))
		return;
	const struct pci_bar *bar = access_window(d, v->access_capability, &at, &length);
	if (bar)
		bar->ops->write(bar->owner, at, length, load_le(data, length));
}

static unsigned add_structure(struct pci_device *d, uint8_t type, unsigned capability_size,
			      uint32_t offset, uint32_t length)
{
	unsigned at = pci_add_capability(d, PCI_CAP_ID_VNDR, capability_size);
	d->config[at + VIRTIO_PCI_CAP_LEN] = (uint8_t)capability_size;
	d->config[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	d->config[at + VIRTIO_PCI_CAP_BAR] = VIRTIO_BAR;
	store_le(d->config + at + VIRTIO_PCI_CAP_OFFSET, offset, 4);
	store_le(d->config + at + VIRTIO_PCI_CAP_LENGTH, length, 4);
	return at;
}

static void add_structures(struct virtio_device *v)
{
	struct pci_device *d = &v->pci;
	for (unsigned i = 0; i < REGIONS; i++) {
		uint32_t offset = i * REGION_SIZE;
		switch (regions[i].type) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			add_structure(d, regions[i].type, sizeof(struct virtio_pci_cap), offset,
				      sizeof(struct virtio_pci_common_cfg));
			break;
		case VIRTIO_PCI_CAP_ISR_CFG:
			add_structure(d, regions[i].type, sizeof(struct virtio_pci_cap), offset, 1);
			break;
		case VIRTIO_PCI_CAP_DEVICE_CFG:
			if (v->config_size)
				add_structure(d, regions[i].type, sizeof(struct virtio_pci_cap),
					      offset, v->config_size);
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG: {
			unsigned at = add_structure(d, regions[i].type,
						    sizeof(struct virtio_pci_notify_cap), offset,
						    v->ops->queues * NOTIFY_MULTIPLIER);
			store_le(d->config + at + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_MULTIPLIER, 4);
			break;
		}
		}
	}
	unsigned at = add_structure(d, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap),
				    0, 0);
	v->access_capability = at;
	pci_set_register(d, at + VIRTIO_PCI_CAP_BAR, 1, 0, 0xff);
	pci_set_register(d, at + VIRTIO_PCI_CAP_OFFSET, 4, 0, 0xffffffff);
	pci_set_register(d, at + VIRTIO_PCI_CAP_LENGTH, 4, 0, 0xffffffff);
	pci_set_register(d, at + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 4, 0,
			 0xffffffff);
}

int virtio_attach(struct virtio_device *v, const struct virtio_ops *ops, struct pci_bus *bus,
		  unsigned slot, struct memory *m, uint64_t features, const void *config,
		  unsigned config_size, struct error *e)
{
	v->ops = ops;
	v->memory = m;
	v->offered = features | RING_FEATURES;
	v->config = config;
	v->config_size = config_size;
	pci_device_init(&v->pci, &ops->device, &(struct pci_identity){
		.vendor = VENDOR_VIRTIO, .device = (uint16_t)(DEVICE_ID_BASE + ops->type),
		.subsystem_vendor = VENDOR_VIRTIO, .subsystem = SUBSYSTEM,
		.revision = REVISION_MODERN, .class_code = ops->class_code,
		.interrupt_pin = PIN_A });
	pci_add_msix(&v->pci, MSIX_BAR, ops->queues + 1);
	pci_add_bar(&v->pci, VIRTIO_BAR, PCI_BAR_MEMORY, REGIONS * REGION_SIZE, &bar_ops, v);
	add_structures(v);
	v->pci.config_reading = config_reading;
	v->pci.config_written = config_written;
	return pci_attach(bus, &v->pci, slot, 0, e);
}

void virtio_device_destroy(struct virtio_device *v)
{
	if (!v)
		return;
	pci_detach(&v->pci);
	free(v);
}

void virtio_device_reset(struct device *d)
{
	struct virtio_device *v = container_of(d, struct virtio_device, pci.device);
	v->complained = false;
	device_reset(v);
}

void virtio_device_save(const struct device *d, struct state *s)
{
	const struct virtio_device *v = container_of(d, const struct virtio_device, pci.device);
	state_section(s, v->ops->device.name, SECTION_VERSION);
	state_put_field(s, v->status);
	state_put_field(s, v->isr);
	state_put_field(s, v->config_vector);
	state_put_field(s, v->queue_select);
	state_put_field(s, v->device_feature_select);
	state_put_field(s, v->driver_feature_select);
	state_put_field(s, v->negotiated);
	for (unsigned i = 0; i < v->ops->queues; i++) {
		virtqueue_save(&v->queue[i].ring, s);
		state_put_field(s, v->queue[i].vector);
	}
	state_put_field(s, v->config_generation);
	if (v->ops->save)
		v->ops->save(v, s);
}

int virtio_device_load(struct device *d, struct state *s, struct error *e)
{
	struct virtio_device *v = container_of(d, struct virtio_device, pci.device);
	const char *name = v->ops->device.name;
	device_reset(v);
	unsigned version = state_open(s, name);
	state_get_field(s, v->status);
	state_get_field(s, v->isr);
	v->config_vector = checked_vector(v, state_get(s, 2));
	state_get_field(s, v->queue_select);
	state_get_field(s, v->device_feature_select);
	state_get_field(s, v->driver_feature_select);
	state_get_field(s, v->negotiated);
	if (v->status & VIRTIO_CONFIG_S_FEATURES_OK) {
		if (v->negotiated & ~v->offered)
			return error_set(e, STATUS_FILE,
				"The saved state of %s uses features %#llx that this one does not have; start it with the same disk and options.",
				name, (unsigned long long)(v->negotiated & ~v->offered));
		features_apply(v);
	}
	for (unsigned i = 0; i < v->ops->queues; i++) {
		virtqueue_load(&v->queue[i].ring, v->memory, s);
		v->queue[i].vector = checked_vector(v, state_get(s, 2));
	}
	if (version >= SECTION_VERSION)
		state_get_field(s, v->config_generation);
	if (v->ops->load)
		v->ops->load(v, s);
	update_pin(v);
	return state_finish(s, name, e);
}
