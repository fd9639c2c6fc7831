/* PCI functions on bus 0: configuration space, BARs, capabilities, MSI-X, INTx.
 *
 * A device embeds struct pci_device as its first member, fills it with
 * pci_device_init, pci_add_bar, pci_add_capability and pci_add_msix, and puts
 * it on the bus with pci_attach, which assigns the BARs as firmware would and
 * keeps the result as the power-on image. The bus is one device to the
 * machine: its reset, save and load are those of every function on it.
 *
 * Everything here runs with the board lock held. */
#ifndef NESTOR_BOARD_PCI_H
#define NESTOR_BOARD_PCI_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#include <linux/pci.h>

enum {
	PCI_SLOTS = 32,
	PCI_FUNCTIONS = 8,
	PCI_DEVFNS = PCI_SLOTS * PCI_FUNCTIONS,
	PCI_CONFIG_SIZE = 256,
	PCI_INTX_LINES = 4,
	PCI_MSIX_MAX_VECTORS = 64,
};

/* Where BARs are placed, and so what _CRS must offer. */
#define PCI_MEMORY_WINDOW 0xe0000000ull
#define PCI_MEMORY_WINDOW_END 0xfec00000ull	/* exclusive: the I/O APIC begins here */
#define PCI_IO_WINDOW 0xc000ull
#define PCI_IO_WINDOW_END 0x10000ull

struct pci_identity {
	uint16_t vendor, device;
	uint16_t subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class_code;		/* class, subclass, interface: 24 bits */
	uint8_t interrupt_pin;		/* 0: none, 1: INTA# ... */
	bool multifunction;
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY };

struct pci_bar {
	enum pci_bar_kind kind;
	uint32_t size;			/* a power of two */
	const struct bus_ops *ops;
	void *owner;
	bool mapped;			/* claimed on the bus, at mapped_at */
	uint32_t mapped_at;
};

/* The MSI-X table and pending bits, in a BAR of their own. */
struct pci_msix {
	unsigned vectors;		/* 0: the function has no MSI-X */
	unsigned capability;		/* its offset in configuration space */
	uint64_t pending;
	uint32_t entry[PCI_MSIX_MAX_VECTORS][PCI_MSIX_ENTRY_SIZE / 4];
};

struct pci_bus;

struct pci_device {
	struct device device;
	struct pci_bus *bus;		/* NULL until attached */
	uint8_t devfn;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE];	/* bits that software may change */
	uint8_t clearable[PCI_CONFIG_SIZE];	/* bits that writing 1 clears */
	uint8_t power_on[PCI_CONFIG_SIZE];	/* config at reset */
	struct pci_bar bar[PCI_STD_NUM_BARS];
	struct pci_msix msix;
	unsigned capabilities_end;	/* where the next capability goes */
	unsigned last_capability;	/* 0: none yet */
	bool intx;			/* the function asserts its pin */
	/* Optional: before these bytes are read, and after they were written. */
	void (*config_reading)(struct pci_device *d, unsigned offset, unsigned size);
	void (*config_written)(struct pci_device *d, unsigned offset, unsigned size);
};

/* An empty bus. msi: where message interrupts go; intx: the four interrupt
 * lines, see pci_intx_line. */
struct pci_bus *pci_bus_create(struct bus *b, struct msi_target msi,
			       const struct irq_line intx[PCI_INTX_LINES], struct error *e);
/* Frees the bus alone; its functions were detached by their owners. */
void pci_bus_destroy(struct pci_bus *p);
/* Reset, save and load of the bus and every function on it. */
struct device *pci_bus_device(struct pci_bus *p);

/* Which of the four lines the pin (1: INTA#) of a slot drives; _PRT says the
 * same. The usual rotation: slot 0 INTA# is line 0, slot 1 INTA# line 1 ... */
static inline unsigned pci_intx_line(unsigned slot, unsigned pin)
{
	return (slot + pin - 1) % PCI_INTX_LINES;
}

/* Configuration accesses, 1, 2 or 4 bytes inside one dword. A function that is
 * not there reads as all ones. */
uint32_t pci_config_read(struct pci_bus *p, unsigned devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *p, unsigned devfn, unsigned offset, unsigned size,
		      uint32_t value);

/* Build a function, before pci_attach. */
void pci_device_init(struct pci_device *d, const struct device_ops *ops,
		     const struct pci_identity *identity);
void pci_add_bar(struct pci_device *d, unsigned index, enum pci_bar_kind kind, uint32_t size,
		 const struct bus_ops *ops, void *owner);
/* Room for a capability of length bytes, linked into the list; its offset. */
unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned length);
/* MSI-X with its table and pending bits in BAR `index`. */
void pci_add_msix(struct pci_device *d, unsigned index, unsigned vectors);
/* A register that holds value; writable says which of its bits can change. */
void pci_set_register(struct pci_device *d, unsigned offset, unsigned size, uint32_t value,
		      uint32_t writable);

/* Put the function on the bus in power-on state. -1 when the place is taken or
 * the windows are full. */
int pci_attach(struct pci_bus *p, struct pci_device *d, unsigned slot, unsigned function,
	       struct error *e);
/* Take it off: BARs released, interrupt dropped. Nothing when not attached. */
void pci_detach(struct pci_device *d);

uint16_t pci_command(const struct pci_device *d);
/* Drive the function's interrupt pin. */
void pci_set_intx(struct pci_device *d, bool level);

bool pci_msix_enabled(const struct pci_device *d);
/* Send a vector's message, now or when it is unmasked. */
void pci_msix_notify(struct pci_device *d, unsigned vector);

/* Inside the PCI code: pci_msix.c for pci.c. */
void pci_msix_reset(struct pci_device *d);
void pci_msix_deliver(struct pci_device *d);	/* masks or bus mastering changed */
void pci_msix_save(const struct pci_device *d, struct state *s);
void pci_msix_load(struct pci_device *d, struct state *s);
void pci_bus_send_msi(struct pci_bus *p, uint64_t address, uint32_t data);

#endif
