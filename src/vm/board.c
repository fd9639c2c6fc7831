/* The i440FX PC: every chip created, wired and reset in one place.
 *
 * Interrupt wiring (the GSI router): ISA line n goes to pin n of the 8259 pair
 * and to pin n of the I/O APIC, but for the timer's line 0, which is the I/O
 * APIC's pin 2 (the MADT says so); the PCI lines INTA-INTD are pins 16-19 of
 * the I/O APIC only. Chips are created before the engine exists; what they
 * send until board_attach goes nowhere, which is right, since all of them are
 * in power-on state. */
#include "vm/board.h"

#include "base/log.h"
#include "board/acpi.h"
#include "board/acpi_pm.h"
#include "board/debug_port.h"
#include "board/fw_cfg.h"
#include "board/i440fx.h"
#include "board/i8042.h"
#include "board/i8254.h"
#include "board/i8259.h"
#include "board/ioapic.h"
#include "board/loader.h"
#include "board/mc146818.h"
#include "board/ns16550.h"
#include "disk/disk.h"
#include "virtio/virtio_balloon.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_mem.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "vm/assignment.h"
#include "vm/engine_select.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum {
	IRQ_TIMER = 0, IRQ_KEYBOARD = 1, IRQ_COM1 = 4, IRQ_RTC = 8,
	ISA_IRQS = 16,
	MAX_DEVICES = 16,
	BALLOON_SLOT = I440FX_FIRST_FREE_SLOT + 1 + VM_MAX_DISKS,
	NETWORK_SLOT = BALLOON_SLOT + 1,
	MEM_SLOT = NETWORK_SLOT + VM_MAX_NETWORKS,
	RECEIVE_WAIT_NS = 10 * 1000 * 1000,
};

/* Counted time begins here (2025-01-01), so that a run does not depend on the
 * day it is made. */
#define COUNTED_EPOCH 1735689600

struct board {
	struct vm_config config;
	struct machine_control control;
	struct board_serial serial;
	struct bus *bus;
	struct clock *clock;
	struct memory *memory;
	struct engine *engine;		/* NULL until attached */
	struct i8259 *i8259;
	struct i8254 *i8254;
	struct mc146818 *mc146818;
	struct ns16550 *ns16550;
	struct i8042 *i8042;
	struct ioapic *ioapic;
	struct acpi_pm *acpi_pm;
	struct debug_port *debug_port;
	struct pci_bus *pci;
	struct i440fx *i440fx;
	struct fw_cfg *fw_cfg;
	struct virtio_device *rng;
	struct virtio_device *balloon;
	struct virtio_device *mem;	/* NULL: the guest cannot grow */
	struct assignment *assignment;	/* of the two, which the policy uses */
	struct disk *disk[VM_MAX_DISKS];
	struct virtio_device *blk[VM_MAX_DISKS];
	struct virtio_device *net[VM_MAX_NETWORKS];
	struct device *device[MAX_DEVICES];	/* all of them, for reset */
	unsigned devices;
};

/* Interrupts. */

static void isa_irq_set(void *owner, unsigned irq, bool level)
{
	struct board *b = owner;
	i8259_set(b->i8259, irq, level);
	ioapic_set(b->ioapic, irq == IRQ_TIMER ? ACPI_PIT_GSI : irq, level);
}

static void pci_irq_set(void *owner, unsigned line, bool level)
{
	struct board *b = owner;
	ioapic_set(b->ioapic, ACPI_PCI_GSI + line, level);
}

static void intr_set(void *owner, unsigned pin, bool level)
{
	struct board *b = owner;
	if (b->engine)
		b->engine->ops->extint(b->engine, level);
}

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
	struct board *b = owner;
	if (b->engine)
		b->engine->ops->msi(b->engine, address, data);
}

static void route_ioapic(void *owner, unsigned pin, uint64_t address, uint32_t data, bool level)
{
	struct board *b = owner;
	if (b->engine && b->engine->ops->ioapic_route)
		b->engine->ops->ioapic_route(b->engine, pin, address, data, level);
}

void board_eoi(struct board *b, uint8_t vector)
{
	ioapic_eoi(b->ioapic, vector);
}

uint8_t board_extint_acknowledge(struct board *b)
{
	return i8259_acknowledge(b->i8259);
}

/* The serial port. */

static void serial_write(void *owner, const uint8_t *bytes, size_t n)
{
	struct board *b = owner;
	b->serial.write(b->serial.owner, bytes, n);
}

static void serial_room(void *owner)
{
	struct board *b = owner;
	b->serial.room(b->serial.owner);
}

size_t board_serial_receive(struct board *b, const uint8_t *bytes, size_t n)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += RECEIVE_WAIT_NS;
	if (until.tv_nsec >= (long)NS_PER_SECOND) {
		until.tv_nsec -= (long)NS_PER_SECOND;
		until.tv_sec++;
	}
	if (pthread_mutex_clocklock(bus_lock(b->bus), CLOCK_MONOTONIC, &until))
		return 0;
	size_t taken = ns16550_receive(b->ns16550, bytes, n);
	pthread_mutex_unlock(bus_lock(b->bus));
	return taken;
}

const char *board_disk_problem(const struct board *b)
{
	const char *problem = NULL;
	for (unsigned i = 0; i < VM_MAX_DISKS && !problem; i++)
		if (b->disk[i])
			problem = disk_problem(b->disk[i]);
	return problem;
}

void board_hurry_disks(struct board *b)
{
	for (unsigned i = 0; i < VM_MAX_DISKS; i++)
		if (b->disk[i])
			disk_hurry(b->disk[i]);
}

void board_network_connect(struct board *b, unsigned adapter, int fd)
{
	pthread_mutex_lock(bus_lock(b->bus));
	virtio_net_connect(b->net[adapter], fd);
	pthread_mutex_unlock(bus_lock(b->bus));
}

void board_power_button(struct board *b)
{
	pthread_mutex_lock(bus_lock(b->bus));
	acpi_pm_power_button(b->acpi_pm);
	pthread_mutex_unlock(bus_lock(b->bus));
}

void board_memory(struct board *b, struct guest_memory_status *s)
{
	pthread_mutex_lock(bus_lock(b->bus));
	guest_memory_get_status(assignment_guest_memory(b->assignment), s);
	pthread_mutex_unlock(bus_lock(b->bus));
}

void board_assign_memory(struct board *b, uint64_t bytes)
{
	pthread_mutex_lock(bus_lock(b->bus));
	guest_memory_set_target(assignment_guest_memory(b->assignment), bytes);
	pthread_mutex_unlock(bus_lock(b->bus));
}

void board_pause(struct board *b, bool paused)
{
	clock_pause(b->clock, paused);
}

/* Creation. */

/* Every chip begins with its struct device. NULL: it could not be created. */
static bool add_device(struct board *b, void *chip)
{
	if (!chip)
		return false;
	if (b->devices == MAX_DEVICES)
		panic("the board has more than %d devices", MAX_DEVICES);
	b->device[b->devices++] = chip;
	return true;
}

static bool create_chips(struct board *b, struct error *e)
{
	struct irq_line isa[ISA_IRQS];
	for (unsigned i = 0; i < ISA_IRQS; i++)
		isa[i] = (struct irq_line){ isa_irq_set, b, i };
	struct irq_line intr = { intr_set, b, 0 };
	struct msi_target msi = { send_msi, b };
	struct ns16550_sink sink = { serial_write, serial_room, b };
	struct debug_port_sink debug_sink = { serial_write, b };
	bool counted = clock_is_counted(b->clock);
	/* The interrupt controllers first: the others may drive their lines. */
	return add_device(b, b->i8259 = i8259_create(b->bus, intr, e)) &&
		add_device(b, b->ioapic = ioapic_create(b->bus, msi, route_ioapic, b, e)) &&
		add_device(b, b->i8254 = i8254_create(b->bus, b->clock, isa[IRQ_TIMER], e)) &&
		add_device(b, b->mc146818 = mc146818_create(b->bus, b->clock, isa[IRQ_RTC],
			b->memory->low_size, b->memory->size - b->memory->low_size,
			counted ? COUNTED_EPOCH : -1, e)) &&
		add_device(b, b->ns16550 = ns16550_create(b->bus, b->clock, NS16550_COM1,
			isa[IRQ_COM1], &sink, e)) &&
		add_device(b, b->i8042 = i8042_create(b->bus, isa[IRQ_KEYBOARD], &b->control, e)) &&
		add_device(b, b->acpi_pm = acpi_pm_create(b->bus, b->clock, isa[ACPI_SCI_IRQ],
			&b->control, e)) &&
		add_device(b, b->debug_port = debug_port_create(b->bus, &b->control,
			&debug_sink, e)) &&
		add_device(b, b->fw_cfg = fw_cfg_create(b->bus, b->memory, e));
}

static bool create_disk(struct board *b, unsigned i, struct error *e)
{
	const struct vm_disk *d = &b->config.disk[i];
	char *path = strndup(d->path, d->path_length);
	if (!path)
		panic("out of memory");
	b->disk[i] = disk_open(path, d->readonly, e);
	free(path);
	if (b->disk[i])
		b->blk[i] = virtio_blk_create(b->pci, I440FX_FIRST_FREE_SLOT + 1 + i, b->memory,
					      bus_lock(b->bus), b->disk[i], e);
	return b->blk[i];
}

/* After the slots that others may have, so that none moves another. */
static bool create_network(struct board *b, unsigned i, struct error *e)
{
	const struct vm_network *n = &b->config.network[i];
	b->net[i] = virtio_net_create(b->pci, NETWORK_SLOT + i, b->memory,
				      bus_lock(b->bus), n->fd, n->mac, e);
	return b->net[i];
}

/* Blocks of RAM came or went. */
static bool memory_plugged(void *owner, uint64_t pa, uint64_t n, bool in)
{
	struct board *b = owner;
	if (!in)
		virtio_balloon_forget(b->balloon, pa, n);
	return !b->engine || b->engine->ops->plugged(b->engine, pa, n, in);
}

/* The bus, with the host bridge, then the entropy device, the disks, the network
 * adapters and the two devices for memory. */
static bool create_pci(struct board *b, struct error *e)
{
	struct irq_line intx[PCI_INTX_LINES];
	struct msi_target msi = { send_msi, b };
	struct i440fx_config bridge = { ACPI_PM_BASE, &acpi_pm_reset_control, b->acpi_pm };
	for (unsigned i = 0; i < PCI_INTX_LINES; i++)
		intx[i] = (struct irq_line){ pci_irq_set, b, i };
	b->pci = pci_bus_create(b->bus, msi, intx, e);
	if (!b->pci)
		return false;
	add_device(b, pci_bus_device(b->pci));
	b->i440fx = i440fx_create(b->bus, b->pci, &bridge, e);
	if (!b->i440fx)
		return false;
	b->rng = virtio_rng_create(b->pci, I440FX_FIRST_FREE_SLOT, b->memory, e);
	if (!b->rng)
		return false;
	for (unsigned i = 0; i < b->config.disks; i++)
		if (!create_disk(b, i, e))
			return false;
	for (unsigned i = 0; i < b->config.networks; i++)
		if (!create_network(b, i, e))
			return false;
	b->balloon = virtio_balloon_create(b->pci, BALLOON_SLOT, b->memory, b->clock, e);
	if (!b->balloon)
		return false;
	if (b->memory->room_size) {
		b->mem = virtio_mem_create(b->pci, MEM_SLOT, b->memory, b->clock,
					   &(struct virtio_mem_host){ memory_plugged, b }, e);
		if (!b->mem)
			return false;
	}
	b->assignment = assignment_create(b->memory->size, virtio_balloon_guest_memory(b->balloon),
					  b->mem ? virtio_mem_guest_memory(b->mem) : NULL, b->clock);
	return true;
}

struct board *board_create(const struct vm_config *config, struct machine_control control,
			   struct board_serial serial, struct error *e)
{
	struct board *b = alloc_zeroed(1, sizeof *b);
	b->config = *config;
	b->control = control;
	b->serial = serial;
	b->bus = bus_create();
	b->clock = clock_create(bus_lock(b->bus),
				engine_option_given(config->engine_options, "icount"));
	b->memory = memory_create_with_room(config->memory, config->memory_most > config->memory ?
					    config->memory_most - config->memory : 0, e);
	pthread_mutex_lock(bus_lock(b->bus));	/* the clock's thread runs already */
	bool created = b->memory && create_chips(b, e) && create_pci(b, e);
	if (created) {
		fw_cfg_add_u16(b->fw_cfg, FW_CFG_NB_CPUS, (uint16_t)config->processors);
		fw_cfg_add_u16(b->fw_cfg, FW_CFG_MAX_CPUS, (uint16_t)config->processors);
	}
	pthread_mutex_unlock(bus_lock(b->bus));
	if (!created) {
		board_destroy(b);
		return NULL;
	}
	return b;
}

void board_engine_host(struct board *b, struct engine_host *host)
{
	host->memory = b->memory;
	host->bus = b->bus;
	host->clock = b->clock;
}

void board_attach(struct board *b, struct engine *engine)
{
	pthread_mutex_lock(bus_lock(b->bus));
	b->engine = engine;
	pthread_mutex_unlock(bus_lock(b->bus));
}

void board_reset(struct board *b)
{
	pthread_mutex_lock(bus_lock(b->bus));
	for (unsigned i = 0; i < b->devices; i++)
		b->device[i]->ops->reset(b->device[i]);
	pthread_mutex_unlock(bus_lock(b->bus));
}

int board_load(struct board *b, struct processor_state *bsp, struct error *e)
{
	struct load_request request = {
		.kernel = b->config.kernel,
		.initrd = b->config.initrd,
		.initrds = b->config.initrds,
		.append = b->config.append,
		.memory = b->memory,
		.rsdp = acpi_write_tables(b->memory, b->config.processors, e),
	};
	if (!request.rsdp)
		return -1;
	return loader_load(&request, bsp, e);
}

void board_destroy(struct board *b)
{
	/* Their threads take the board lock. */
	for (unsigned i = 0; i < VM_MAX_NETWORKS; i++)
		if (b->net[i])
			virtio_net_stop(b->net[i]);
	/* Against the order of creation; the clock last but one, since chips
	 * take their timers back. */
	pthread_mutex_lock(bus_lock(b->bus));
	for (unsigned i = 0; i < VM_MAX_NETWORKS; i++)
		if (b->net[i])
			virtio_net_destroy(b->net[i]);
	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		if (b->blk[i])
			virtio_device_destroy(b->blk[i]);
		if (b->disk[i])
			disk_close(b->disk[i]);
	}
	if (b->assignment)
		assignment_destroy(b->assignment);
	if (b->mem)
		virtio_mem_destroy(b->mem);
	if (b->balloon)
		virtio_balloon_destroy(b->balloon);
	if (b->rng)
		virtio_device_destroy(b->rng);
	if (b->i440fx)
		i440fx_destroy(b->i440fx);
	if (b->pci)
		pci_bus_destroy(b->pci);
	if (b->fw_cfg)
		fw_cfg_destroy(b->fw_cfg);
	if (b->debug_port)
		debug_port_destroy(b->debug_port);
	if (b->acpi_pm)
		acpi_pm_destroy(b->acpi_pm);
	if (b->i8042)
		i8042_destroy(b->i8042);
	if (b->ns16550)
		ns16550_destroy(b->ns16550);
	if (b->mc146818)
		mc146818_destroy(b->mc146818);
	if (b->i8254)
		i8254_destroy(b->i8254);
	if (b->ioapic)
		ioapic_destroy(b->ioapic);
	if (b->i8259)
		i8259_destroy(b->i8259);
	pthread_mutex_unlock(bus_lock(b->bus));
	clock_destroy(b->clock);
	memory_destroy(b->memory);
	bus_destroy(b->bus);
	free(b);
}
