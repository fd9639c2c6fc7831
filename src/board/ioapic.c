#include "board/ioapic.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

/* Names are those of the 82093AA data sheet. A pin's wire is a level already
 * freed of its polarity. An edge that meets a masked entry is lost, as there;
 * a level is looked at again on every change of its entry and at every EOI, so
 * an interrupt of a level pin is outstanding exactly while Remote IRR is set. */

enum {
	PAGE = 0x1000,
	/* Directly addressed registers */
	IOREGSEL = 0x00, IOWIN = 0x10, EOIR = 0x40,
	/* Registers behind IOREGSEL */
	IOAPICID = 0x00, IOAPICVER = 0x01, IOAPICARB = 0x02, IOREDTBL = 0x10,
	IOREDTBL_END = IOREDTBL + 2 * IOAPIC_PINS,
	VERSION = 0x20,
	ID_SHIFT = 24, ID_MASK = 0xf,
};

#define ENTRY_VECTOR BITS(7, 0)
#define ENTRY_MODE(v) bits_get(v, 10, 8)
#define ENTRY_LOGICAL BIT(11)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_MASKED BIT(16)
#define ENTRY_DESTINATION(v) bits_get(v, 63, 56)
#define ENTRY_WRITABLE (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

enum { MODE_FIXED = 0, MODE_LOWEST = 1 };

/* The message that the entry's fields make (SDM vol. 3, "Message Signalled
 * Interrupts"). */
enum { MSI_DESTINATION_SHIFT = 12, MSI_LOGICAL = 1 << 2, MSI_ASSERT = 1 << 14,
       MSI_LEVEL = 1 << 15, MSI_MODE_SHIFT = 8 };
#define MSI_BASE 0xfee00000ull

struct ioapic {
	struct device device;
	struct bus *bus;
	struct msi_target msi;
	void (*route)(void *owner, unsigned pin, uint64_t address, uint32_t data, bool level);
	void *route_owner;
	uint32_t lines;		/* wires as they are now */
	uint8_t select, id;
	uint64_t entry[IOAPIC_PINS];
};

static uint64_t message_address(uint64_t entry)
{
	return MSI_BASE | ENTRY_DESTINATION(entry) << MSI_DESTINATION_SHIFT |
		(entry & ENTRY_LOGICAL ? MSI_LOGICAL : 0);
}

static uint32_t message_data(uint64_t entry)
{
	return (uint32_t)((entry & ENTRY_VECTOR) | ENTRY_MODE(entry) << MSI_MODE_SHIFT |
			  MSI_ASSERT | (entry & ENTRY_LEVEL ? MSI_LEVEL : 0));
}

static void send(struct ioapic *a, unsigned pin)
{
	uint64_t entry = a->entry[pin];
	trace(INTERRUPT, "ioapic pin %u: vector %#x to %#x", pin, (unsigned)(entry & ENTRY_VECTOR),
	      (unsigned)ENTRY_DESTINATION(entry));
	msi_send(&a->msi, message_address(entry), message_data(entry));
}

/* A level pin that is asserted, not masked and not outstanding sends. */
static void service_level(struct ioapic *a, unsigned pin)
{
	uint64_t *entry = &a->entry[pin];
	if (!(*entry & ENTRY_LEVEL) || *entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR) ||
	    !(a->lines & BIT(pin)))
		return;
	/* Other modes end without an EOI message. */
	if (ENTRY_MODE(*entry) == MODE_FIXED || ENTRY_MODE(*entry) == MODE_LOWEST)
		*entry |= ENTRY_REMOTE_IRR;
	send(a, pin);
}

void ioapic_set(void *ioapic, unsigned pin, bool level)
{
	struct ioapic *a = ioapic;
	if (pin >= IOAPIC_PINS)
		return;
	bool was = a->lines & BIT(pin);
	if (level == was)
		return;
	a->lines ^= (uint32_t)BIT(pin);
	if (!level)
		return;
	if (a->entry[pin] & ENTRY_LEVEL)
		service_level(a, pin);
	else if (!(a->entry[pin] & ENTRY_MASKED))
		send(a, pin);
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *entry = &a->entry[pin];
		if (!(*entry & ENTRY_REMOTE_IRR) || (*entry & ENTRY_VECTOR) != vector)
			continue;
		*entry &= ~ENTRY_REMOTE_IRR;
		service_level(a, pin);
	}
}

static void tell_route(struct ioapic *a, unsigned pin)
{
	uint64_t entry = a->entry[pin];
	if (a->route)
		a->route(a->route_owner, pin, entry & ENTRY_MASKED ? 0 : message_address(entry),
			 message_data(entry), entry & ENTRY_LEVEL);
}

static void write_entry(struct ioapic *a, unsigned half, uint32_t value)
{
	unsigned pin = half / 2;
	uint64_t *entry = &a->entry[pin], before = *entry;
	unsigned shift = half % 2 * 32;
	uint64_t mask = ENTRY_WRITABLE & BITS(31, 0) << shift;
	*entry = (*entry & ~mask) | ((uint64_t)value << shift & mask);
	/* Software ends an interrupt by making the pin edge-triggered for a
	 * moment where there is no EOI register. */
	if (!(*entry & ENTRY_LEVEL))
		*entry &= ~ENTRY_REMOTE_IRR;
	if ((*entry ^ before) & ENTRY_WRITABLE)
		tell_route(a, pin);
	service_level(a, pin);
}

static uint32_t read_register(struct ioapic *a)
{
	if (a->select >= IOREDTBL && a->select < IOREDTBL_END) {
		unsigned half = a->select - IOREDTBL;
		return (uint32_t)(a->entry[half / 2] >> (half % 2 * 32));
	}
	switch (a->select) {
	case IOAPICID:
	case IOAPICARB: return (uint32_t)a->id << ID_SHIFT;
	case IOAPICVER: return VERSION | (IOAPIC_PINS - 1) << 16;
	default: return 0;
	}
}

static void write_register(struct ioapic *a, uint32_t value)
{
	if (a->select >= IOREDTBL && a->select < IOREDTBL_END)
		write_entry(a, a->select - IOREDTBL, value);
	else if (a->select == IOAPICID)
		a->id = value >> ID_SHIFT & ID_MASK;
}

static uint64_t mmio_read(void *owner, uint64_t offset, unsigned size)
{
	struct ioapic *a = owner;
	switch (offset) {
	case IOREGSEL: return a->select;
	case IOWIN: return read_register(a);
	default: return 0;
	}
}

static void mmio_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *a = owner;
	if (offset == IOREGSEL)
		a->select = (uint8_t)value;
	else if (offset == IOWIN && size >= 4)
		write_register(a, (uint32_t)value);
	else if (offset == EOIR)
		ioapic_eoi(a, (uint8_t)value);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write };

static void reset(struct device *d)
{
	struct ioapic *a = container_of(d, struct ioapic, device);
	a->select = a->id = 0;
	/* The wires are their drivers' and keep their level. */
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		a->entry[pin] = ENTRY_MASKED;
		tell_route(a, pin);
	}
}

static const char section[] = "ioapic";
enum { STATE_VERSION = 1 };

static void exchange(struct ioapic *a, struct state *s)
{
	state_field(s, a->lines);
	state_field(s, a->select);
	state_field(s, a->id);
	state_array(s, a->entry);
}

static void save(const struct device *d, struct state *s)
{
	state_section(s, section, STATE_VERSION);
	exchange(container_of(d, struct ioapic, device), s);
}

static int load(struct device *d, struct state *s, struct error *e)
{
	struct ioapic *a = container_of(d, struct ioapic, device);
	state_open(s, section);
	exchange(a, s);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		a->entry[pin] &= ENTRY_WRITABLE | ENTRY_REMOTE_IRR;
		if (s->failed)
			a->entry[pin] = ENTRY_MASKED;
		tell_route(a, pin);
	}
	a->lines &= (uint32_t)BITS(IOAPIC_PINS - 1, 0);
	a->id &= ID_MASK;
	return state_finish(s, section, e);
}

static const struct device_ops device_ops = { section, reset, save, load };

struct ioapic *ioapic_create(struct bus *bus, struct msi_target msi,
			     void (*route)(void *owner, unsigned pin, uint64_t address,
					   uint32_t data, bool level),
			     void *route_owner, struct error *e)
{
	struct ioapic *a = alloc_zeroed(1, sizeof *a);
	a->device.ops = &device_ops;
	a->bus = bus;
	a->msi = msi;
	a->route = route;
	a->route_owner = route_owner;
	if (bus_claim(bus, BUS_MMIO, IOAPIC_BASE, PAGE, &mmio_ops, a, section, e)) {
		free(a);
		return NULL;
	}
	reset(&a->device);
	return a;
}

void ioapic_destroy(struct ioapic *a)
{
	bus_release(a->bus, BUS_MMIO, IOAPIC_BASE);
	free(a);
}
