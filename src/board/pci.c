#include "board/pci.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

/* Rules from the PCI Local Bus Specification 3.0, "Configuration Space":
 *
 * - Each byte of configuration space has a mask of writable bits and one of
 *   bits that a 1 clears; all else is read-only. That alone gives the BAR
 *   sizing protocol: the low bits of a BAR cannot be written.
 * - A BAR is claimed on the bus while its command bit is on and its address is
 *   one that can be decoded. Claims are a function of configuration space:
 *   remap() makes them agree after every change, so a reset or a load needs no
 *   rules of its own. A BAR that the guest lays over something else stays
 *   unclaimed, and is tried again whenever any BAR of the bus changes. */

enum {
	CAPABILITIES_BEGIN = 0x40,
	MULTIFUNCTION = 0x80,
	WRITE_1_TO_CLEAR_STATUS = 0xf9,		/* status bits 15:11 and 8, in its high byte */
	COMMAND_WRITABLE = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
};

struct pci_bus {
	struct device device;
	struct bus *bus;
	struct msi_target msi;
	struct irq_line intx[PCI_INTX_LINES];
	unsigned asserted;			/* bit n: line n is high */
	uint64_t next_memory, next_io;		/* where the next BAR goes */
	struct pci_device *function[PCI_DEVFNS];
};

static unsigned bar_register(unsigned index)
{
	return PCI_BASE_ADDRESS_0 + 4 * index;
}

uint16_t pci_command(const struct pci_device *d)
{
	return (uint16_t)load_le(d->config + PCI_COMMAND, 2);
}

void pci_bus_send_msi(struct pci_bus *p, uint64_t address, uint32_t data)
{
	msi_send(&p->msi, address, data);
}

/* Interrupt lines */

static bool drives_pin(const struct pci_device *d)
{
	return d->intx && d->config[PCI_INTERRUPT_PIN] &&
		!(pci_command(d) & PCI_COMMAND_INTX_DISABLE);
}

static void update_lines(struct pci_bus *p)
{
	unsigned level = 0;
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		const struct pci_device *d = p->function[i];
		if (d && drives_pin(d))
			level |= 1u << pci_intx_line(PCI_SLOT(i), d->config[PCI_INTERRUPT_PIN]);
	}
	unsigned changed = level ^ p->asserted;
	p->asserted = level;
	for (unsigned line = 0; line < PCI_INTX_LINES; line++)
		if (changed >> line & 1)
			irq_set(&p->intx[line], level >> line & 1);
}

void pci_set_intx(struct pci_device *d, bool level)
{
	if (d->intx == level)
		return;
	d->intx = level;
	if (level)
		d->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	else
		d->config[PCI_STATUS] &= ~PCI_STATUS_INTERRUPT;
	if (d->bus)
		update_lines(d->bus);
}

/* BARs on the bus */

static enum bus_space bar_space(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_IO ? BUS_IO : BUS_MMIO;
}

/* Where configuration space wants the BAR; false: nowhere. Address 0 and the
 * all ones of sizing are addresses that no BAR decodes. */
static bool bar_wanted(const struct pci_device *d, unsigned index, uint32_t *at)
{
	const struct pci_bar *bar = &d->bar[index];
	bool io = bar->kind == PCI_BAR_IO;
	if (bar->kind == PCI_BAR_NONE ||
	    !(pci_command(d) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	*at = (uint32_t)load_le(d->config + bar_register(index), 4) & ~(bar->size - 1);
	return *at && *at != (uint32_t)~(bar->size - 1) && (!io || *at < PCI_IO_WINDOW_END);
}

static void release(struct pci_device *d, unsigned index)
{
	struct pci_bar *bar = &d->bar[index];
	if (bar->mapped)
		bus_release(d->bus->bus, bar_space(bar), bar->mapped_at);
	bar->mapped = false;
}

/* Make the claims agree with configuration space: first give back what moved,
 * so that two BARs may change places, then claim. */
static void remap(struct pci_bus *p)
{
	uint32_t at;
	for (unsigned i = 0; i < PCI_DEVFNS * PCI_STD_NUM_BARS; i++) {
		struct pci_device *d = p->function[i / PCI_STD_NUM_BARS];
		unsigned index = i % PCI_STD_NUM_BARS;
		if (d && d->bar[index].mapped &&
		    (!bar_wanted(d, index, &at) || at != d->bar[index].mapped_at))
			release(d, index);
	}
	for (unsigned i = 0; i < PCI_DEVFNS * PCI_STD_NUM_BARS; i++) {
		struct pci_device *d = p->function[i / PCI_STD_NUM_BARS];
		unsigned index = i % PCI_STD_NUM_BARS;
		if (!d || d->bar[index].mapped || !bar_wanted(d, index, &at))
			continue;
		struct pci_bar *bar = &d->bar[index];
		struct error overlap;
		bar->mapped = !bus_claim(p->bus, bar_space(bar), at, bar->size, bar->ops,
					 bar->owner, d->device.ops->name, &overlap);
		bar->mapped_at = at;
		if (!bar->mapped)
			trace(IO, "BAR %u of PCI %02x.%x stays off: %s", index,
			      PCI_SLOT(d->devfn), PCI_FUNC(d->devfn), overlap.text);
	}
}

/* Configuration space */

static bool touches(unsigned offset, unsigned size, unsigned first, unsigned length)
{
	return offset < first + length && first < offset + size;
}

static bool valid_access(unsigned devfn, unsigned offset, unsigned size)
{
	return devfn < PCI_DEVFNS && (size == 1 || size == 2 || size == 4) &&
		offset < PCI_CONFIG_SIZE && (offset & 3) + size <= 4;
}

uint32_t pci_config_read(struct pci_bus *p, unsigned devfn, unsigned offset, unsigned size)
{
	if (!valid_access(devfn, offset, size) || !p->function[devfn])
		return (uint32_t)bits_trim(~0ull, size);
	struct pci_device *d = p->function[devfn];
	if (d->config_reading)
		d->config_reading(d, offset, size);
	return (uint32_t)load_le(d->config + offset, size);
}

void pci_config_write(struct pci_bus *p, unsigned devfn, unsigned offset, unsigned size,
		      uint32_t value)
{
	if (!valid_access(devfn, offset, size) || !p->function[devfn])
		return;
	struct pci_device *d = p->function[devfn];
	for (unsigned i = 0; i < size; i++, value >>= 8) {
		unsigned at = offset + i;
		uint8_t byte = (uint8_t)value;
		d->config[at] = (d->config[at] & ~d->writable[at]) | (byte & d->writable[at]);
		d->config[at] &= ~(byte & d->clearable[at]);
	}
	if (touches(offset, size, PCI_COMMAND, 2) ||
	    touches(offset, size, PCI_BASE_ADDRESS_0, 4 * PCI_STD_NUM_BARS))
		remap(p);
	if (touches(offset, size, PCI_COMMAND, 2)) {
		update_lines(p);
		pci_msix_deliver(d);
	}
	if (d->msix.vectors && touches(offset, size, d->msix.capability + PCI_MSIX_FLAGS, 2))
		pci_msix_deliver(d);
	if (d->config_written)
		d->config_written(d, offset, size);
}

/* Building a function */

void pci_set_register(struct pci_device *d, unsigned offset, unsigned size, uint32_t value,
		      uint32_t writable)
{
	store_le(d->config + offset, value, size);
	store_le(d->writable + offset, writable, size);
}

void pci_device_init(struct pci_device *d, const struct device_ops *ops,
		     const struct pci_identity *identity)
{
	d->device.ops = ops;
	d->capabilities_end = CAPABILITIES_BEGIN;
	pci_set_register(d, PCI_VENDOR_ID, 2, identity->vendor, 0);
	pci_set_register(d, PCI_DEVICE_ID, 2, identity->device, 0);
	pci_set_register(d, PCI_COMMAND, 2, 0, COMMAND_WRITABLE);
	pci_set_register(d, PCI_CLASS_REVISION, 4,
			 identity->class_code << 8 | identity->revision, 0);
	pci_set_register(d, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
	pci_set_register(d, PCI_HEADER_TYPE, 1, identity->multifunction ? MULTIFUNCTION : 0, 0);
	pci_set_register(d, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor, 0);
	pci_set_register(d, PCI_SUBSYSTEM_ID, 2, identity->subsystem, 0);
	pci_set_register(d, PCI_INTERRUPT_LINE, 1, 0, 0xff);
	pci_set_register(d, PCI_INTERRUPT_PIN, 1, identity->interrupt_pin, 0);
	d->clearable[PCI_STATUS + 1] = WRITE_1_TO_CLEAR_STATUS;
}

void pci_add_bar(struct pci_device *d, unsigned index, enum pci_bar_kind kind, uint32_t size,
		 const struct bus_ops *ops, void *owner)
{
	if (index >= PCI_STD_NUM_BARS || size & (size - 1) || size < 16)
		panic("BAR %u of %u bytes", index, size);
	d->bar[index] = (struct pci_bar){ .kind = kind, .size = size, .ops = ops, .owner = owner };
	pci_set_register(d, bar_register(index), 4,
			 kind == PCI_BAR_IO ? PCI_BASE_ADDRESS_SPACE_IO : 0, ~(size - 1));
}

unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned length)
{
	unsigned at = d->capabilities_end;
	if (at + length > PCI_CONFIG_SIZE)
		panic("capability %#x does not fit at %#x", id, at);
	d->capabilities_end = (unsigned)align_up(at + length, 4);
	d->config[d->last_capability ? d->last_capability + PCI_CAP_LIST_NEXT :
		PCI_CAPABILITY_LIST] = (uint8_t)at;
	d->last_capability = at;
	d->config[at + PCI_CAP_LIST_ID] = id;
	d->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	return at;
}

/* Place the BARs one after the other, as firmware does. */
static int assign_bars(struct pci_bus *p, struct pci_device *d, struct error *e)
{
	uint16_t command = 0;
	for (unsigned i = 0; i < PCI_STD_NUM_BARS; i++) {
		const struct pci_bar *bar = &d->bar[i];
		bool io = bar->kind == PCI_BAR_IO;
		uint64_t *next = io ? &p->next_io : &p->next_memory;
		if (bar->kind == PCI_BAR_NONE)
			continue;
		uint64_t at = align_up(*next, bar->size);
		if (at + bar->size > (io ? PCI_IO_WINDOW_END : PCI_MEMORY_WINDOW_END))
			return error_set(e, STATUS_ENGINE,
				"The PCI %s window has no room left for BAR %u (%u bytes) of %s; use fewer devices.",
				io ? "I/O" : "memory", i, bar->size, d->device.ops->name);
		*next = at + bar->size;
		store_le(d->config + bar_register(i), at | (io ? PCI_BASE_ADDRESS_SPACE_IO : 0), 4);
		command |= io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	}
	store_le(d->config + PCI_COMMAND, command, 2);
	return 0;
}

int pci_attach(struct pci_bus *p, struct pci_device *d, unsigned slot, unsigned function,
	       struct error *e)
{
	if (slot >= PCI_SLOTS || function >= PCI_FUNCTIONS)
		return error_set(e, STATUS_FAULT, "There is no PCI slot %u, function %u.", slot,
			function);
	unsigned devfn = PCI_DEVFN(slot, function);
	if (p->function[devfn])
		return error_set(e, STATUS_FAULT, "%s and %s both want PCI slot %u, function %u.",
			d->device.ops->name, p->function[devfn]->device.ops->name, slot, function);
	if (assign_bars(p, d, e))
		return -1;
	memcpy(d->power_on, d->config, sizeof d->power_on);
	d->bus = p;
	d->devfn = (uint8_t)devfn;
	p->function[devfn] = d;
	pci_msix_reset(d);
	if (d->device.ops->reset)
		d->device.ops->reset(&d->device);
	remap(p);
	return 0;
}

void pci_detach(struct pci_device *d)
{
	struct pci_bus *p = d->bus;
	if (!p)
		return;
	pci_set_intx(d, false);
	for (unsigned i = 0; i < PCI_STD_NUM_BARS; i++)
		release(d, i);
	p->function[d->devfn] = NULL;
	d->bus = NULL;
	remap(p);
}

/* The bus as a device */

static void bus_reset(struct device *device)
{
	struct pci_bus *p = container_of(device, struct pci_bus, device);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		struct pci_device *d = p->function[i];
		if (!d)
			continue;
		d->intx = false;
		memcpy(d->config, d->power_on, sizeof d->config);
		pci_msix_reset(d);
		if (d->device.ops->reset)
			d->device.ops->reset(&d->device);
	}
	remap(p);
	update_lines(p);
}

static void bus_save(const struct device *device, struct state *s)
{
	const struct pci_bus *p = container_of(device, const struct pci_bus, device);
	unsigned count = 0;
	for (unsigned i = 0; i < PCI_DEVFNS; i++)
		count += p->function[i] != NULL;
	state_section(s, "pci", 1);
	state_put(s, count, 2);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		const struct pci_device *d = p->function[i];
		if (!d)
			continue;
		state_section(s, "pci-function", 1);
		state_put_field(s, d->devfn);
		state_put_bytes(s, d->config, sizeof d->config);
		state_put_field(s, d->intx);
		pci_msix_save(d, s);
		if (d->device.ops->save)
			d->device.ops->save(&d->device, s);
	}
}

static int function_load(struct pci_bus *p, struct state *s, struct error *e)
{
	uint8_t config[PCI_CONFIG_SIZE];
	state_open(s, "pci-function");
	unsigned devfn = (unsigned)state_get(s, 1);
	state_get_bytes(s, config, sizeof config);
	bool intx = state_get(s, 1) & 1;
	if (state_finish(s, "pci-function", e))
		return -1;
	struct pci_device *d = p->function[devfn];
	if (!d || memcmp(config, d->power_on, PCI_COMMAND))
		return error_set(e, STATUS_FILE,
			"The saved state has PCI device %04x:%04x at %02x.%x, where this machine has another or none; start it with the same devices.",
			(unsigned)load_le(config + PCI_VENDOR_ID, 2),
			(unsigned)load_le(config + PCI_DEVICE_ID, 2), PCI_SLOT(devfn),
			PCI_FUNC(devfn));
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t kept = d->writable[i] | d->clearable[i];
		d->config[i] = (d->power_on[i] & ~kept) | (config[i] & kept);
	}
	d->intx = intx;
	if (intx)
		d->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	pci_msix_load(d, s);
	return d->device.ops->load ? d->device.ops->load(&d->device, s, e) : 0;
}

static int bus_load(struct device *device, struct state *s, struct error *e)
{
	struct pci_bus *p = container_of(device, struct pci_bus, device);
	unsigned present = 0;
	for (unsigned i = 0; i < PCI_DEVFNS; i++)
		present += p->function[i] != NULL;
	state_open(s, "pci");
	unsigned count = (unsigned)state_get(s, 2);
	if (state_finish(s, "pci", e))
		return -1;
	if (count != present)
		return error_set(e, STATUS_FILE,
			"The saved state has %u PCI functions and this machine %u; start it with the same devices.",
			count, present);
	for (unsigned i = 0; i < count; i++)
		if (function_load(p, s, e))
			return -1;
	remap(p);
	update_lines(p);
	return state_finish(s, "pci", e);
}

static const struct device_ops bus_ops = {
	.name = "pci", .reset = bus_reset, .save = bus_save, .load = bus_load,
};

struct pci_bus *pci_bus_create(struct bus *b, struct msi_target msi,
			       const struct irq_line intx[PCI_INTX_LINES], struct error *e)
{
	struct pci_bus *p = alloc_zeroed(1, sizeof *p);
	p->device.ops = &bus_ops;
	p->bus = b;
	p->msi = msi;
	memcpy(p->intx, intx, sizeof p->intx);
	p->next_memory = PCI_MEMORY_WINDOW;
	p->next_io = PCI_IO_WINDOW;
	return p;
}

void pci_bus_destroy(struct pci_bus *p)
{
	free(p);
}

struct device *pci_bus_device(struct pci_bus *p)
{
	return &p->device;
}
