/* MSI-X: the PCI Local Bus Specification 3.0, "MSI-X Capability and Table
 * Structures". A vector that is raised becomes pending, and pending vectors go
 * out as soon as nothing holds them back: its own mask, the function's mask,
 * MSI-X off, or bus mastering off (a message is a memory write). */
#include "board/pci.h"

#include "base/bits.h"
#include "base/log.h"

enum {
	MSIX_BAR_SIZE = 4096,
	MSIX_PBA = 2048,		/* offset of the pending bits in that BAR */
	CONTROL_WORD = PCI_MSIX_ENTRY_VECTOR_CTRL / 4,
	ADDRESS_RESERVED = 3,		/* low bits of a message address */
};

_Static_assert(PCI_MSIX_MAX_VECTORS * PCI_MSIX_ENTRY_SIZE <= MSIX_PBA,
	       "the table ends before the pending bits");

static uint16_t flags(const struct pci_device *d)
{
	return (uint16_t)load_le(d->config + d->msix.capability + PCI_MSIX_FLAGS, 2);
}

bool pci_msix_enabled(const struct pci_device *d)
{
	return d->msix.vectors && flags(d) & PCI_MSIX_FLAGS_ENABLE;
}

void pci_msix_deliver(struct pci_device *d)
{
	struct pci_msix *m = &d->msix;
	if (!d->bus || !m->pending || !pci_msix_enabled(d) ||
	    flags(d) & PCI_MSIX_FLAGS_MASKALL || !(pci_command(d) & PCI_COMMAND_MASTER))
		return;
	for (unsigned i = 0; i < m->vectors; i++) {
		const uint32_t *entry = m->entry[i];
		if (!(m->pending >> i & 1) ||
		    entry[CONTROL_WORD] & PCI_MSIX_ENTRY_CTRL_MASKBIT)
			continue;
		m->pending &= ~BIT(i);
		pci_bus_send_msi(d->bus, (uint64_t)entry[PCI_MSIX_ENTRY_UPPER_ADDR / 4] << 32 |
				 entry[PCI_MSIX_ENTRY_LOWER_ADDR / 4],
				 entry[PCI_MSIX_ENTRY_DATA / 4]);
	}
}

void pci_msix_notify(struct pci_device *d, unsigned vector)
{
	if (vector >= d->msix.vectors || !pci_msix_enabled(d))
		return;
	d->msix.pending |= BIT(vector);
	pci_msix_deliver(d);
}

static uint8_t byte_at(const struct pci_msix *m, uint64_t offset)
{
	if (offset < m->vectors * PCI_MSIX_ENTRY_SIZE)
		return ((const uint8_t *)m->entry)[offset];
	if (offset - MSIX_PBA < sizeof m->pending)
		return (uint8_t)(m->pending >> (offset - MSIX_PBA) * 8);
	return 0;
}

static uint64_t msix_read(void *owner, uint64_t offset, unsigned size)
{
	const struct pci_device *d = owner;
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)byte_at(&d->msix, offset + i) << i * 8;
	return value;
}

/* Software must write whole aligned dwords or qwords; other writes do nothing. */
static void msix_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_device *d = owner;
	if (size < 4 || offset % size)
		return;
	for (unsigned i = 0; i < size; i += 4, value >>= 32) {
		unsigned vector = (unsigned)((offset + i) / PCI_MSIX_ENTRY_SIZE);
		unsigned word = (unsigned)((offset + i) % PCI_MSIX_ENTRY_SIZE) / 4;
		uint32_t v = (uint32_t)value;
		if (vector >= d->msix.vectors)
			continue;
		if (word == CONTROL_WORD)
			v &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		else if (word == PCI_MSIX_ENTRY_LOWER_ADDR / 4)
			v &= ~(uint32_t)ADDRESS_RESERVED;
		d->msix.entry[vector][word] = v;
	}
	pci_msix_deliver(d);
}

static const struct bus_ops msix_ops = { .read = msix_read, .write = msix_write };

void pci_add_msix(struct pci_device *d, unsigned index, unsigned vectors)
{
	if (!vectors || vectors > PCI_MSIX_MAX_VECTORS)
		panic("%u MSI-X vectors", vectors);
	pci_add_bar(d, index, PCI_BAR_MEMORY, MSIX_BAR_SIZE, &msix_ops, d);
	unsigned at = pci_add_capability(d, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	pci_set_register(d, at + PCI_MSIX_FLAGS, 2, vectors - 1,
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_set_register(d, at + PCI_MSIX_TABLE, 4, index, 0);
	pci_set_register(d, at + PCI_MSIX_PBA, 4, MSIX_PBA | index, 0);
	d->msix.vectors = vectors;
	d->msix.capability = at;
}

void pci_msix_reset(struct pci_device *d)
{
	d->msix.pending = 0;
	memset(d->msix.entry, 0, sizeof d->msix.entry);
	for (unsigned i = 0; i < d->msix.vectors; i++)
		d->msix.entry[i][CONTROL_WORD] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void pci_msix_save(const struct pci_device *d, struct state *s)
{
	state_put(s, d->msix.vectors, 2);
	state_put_field(s, d->msix.pending);
	for (unsigned i = 0; i < d->msix.vectors; i++)
		for (unsigned word = 0; word < ARRAY_SIZE(d->msix.entry[i]); word++)
			state_put_field(s, d->msix.entry[i][word]);
}

/* A table of another size makes the state fail; the caller reports it. */
void pci_msix_load(struct pci_device *d, struct state *s)
{
	if (state_get(s, 2) != d->msix.vectors) {
		s->failed = true;
		return;
	}
	state_get_field(s, d->msix.pending);
	if (d->msix.vectors < PCI_MSIX_MAX_VECTORS)
		d->msix.pending &= BIT(d->msix.vectors) - 1;
	for (unsigned i = 0; i < d->msix.vectors; i++)
		for (unsigned word = 0; word < ARRAY_SIZE(d->msix.entry[i]); word++)
			state_get_field(s, d->msix.entry[i][word]);
}
