/* CONFIG_ADDRESS (CF8h) is a dword port: only an aligned 32-bit access reaches
 * it, and smaller ones are ordinary port accesses, of which CF9h is the PIIX
 * reset control register (82441FX, "Configuration Address Register"; 82371SB,
 * "Reset Control Register"). CONFIG_DATA (CFCh-CFFh) takes bytes, words and
 * the dword. */
#include "board/i440fx.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

enum {
	PORT_CONFIG_ADDRESS = 0xcf8,
	PORT_CONFIG_DATA = 0xcfc,
	RESET_CONTROL = 1,		/* CF9h, from CF8h */

	VENDOR_INTEL = 0x8086,
	DEVICE_82441FX = 0x1237,
	DEVICE_PIIX3_ISA = 0x7000,
	DEVICE_PIIX4_PM = 0x7113,
	CLASS_HOST_BRIDGE = 0x060000,
	CLASS_ISA_BRIDGE = 0x060100,
	CLASS_OTHER_BRIDGE = 0x068000,
	PIIX_PM_FUNCTION = 3,

	PAM0 = 0x59, PAM_REGISTERS = 7,	/* shadow RAM attributes */
	PIRQRC_A = 0x60,		/* PIRQ A-D route control */
	PIRQ_NOT_ROUTED = 0x80,
	PIRQ_WRITABLE = 0x8f,
	PMBA = 0x40,			/* power-management base address */
	PMREGMISC = 0x80,
	PMIOSE = 1,			/* its ports are decoded */
};

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_WRITABLE 0x80fffffcu
#define ADDRESS_BUS 0x00ff0000u

struct i440fx {
	struct pci_device host;		/* carries CONFIG_ADDRESS in its state */
	struct pci_device isa, pm;
	struct bus *bus;
	struct pci_bus *pci;
	struct i440fx_config config;
	uint32_t address;
};

static uint64_t address_read(void *owner, uint64_t offset, unsigned size)
{
	struct i440fx *f = owner;
	const struct bus_ops *reset = f->config.reset_control;
	if (size == 4)
		return f->address;
	if (size == 1 && offset == RESET_CONTROL && reset)
		return reset->read(f->config.reset_control_owner, 0, 1);
	return ~0ull;
}

static void address_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct i440fx *f = owner;
	const struct bus_ops *reset = f->config.reset_control;
	if (size == 4)
		f->address = (uint32_t)value & ADDRESS_WRITABLE;
	else if (size == 1 && offset == RESET_CONTROL && reset)
		reset->write(f->config.reset_control_owner, 0, 1, value);
}

static bool selects_bus_0(const struct i440fx *f)
{
	return f->address & ADDRESS_ENABLE && !(f->address & ADDRESS_BUS);
}

static uint64_t data_read(void *owner, uint64_t offset, unsigned size)
{
	struct i440fx *f = owner;
	if (!selects_bus_0(f))
		return ~0ull;
	return pci_config_read(f->pci, f->address >> 8 & 0xff,
			       (f->address & 0xfc) + (unsigned)offset, size);
}

static void data_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct i440fx *f = owner;
	if (selects_bus_0(f))
		pci_config_write(f->pci, f->address >> 8 & 0xff,
				 (f->address & 0xfc) + (unsigned)offset, size, (uint32_t)value);
}

static const struct bus_ops address_ops = { .read = address_read, .write = address_write };
static const struct bus_ops data_ops = { .read = data_read, .write = data_write };

static void host_reset(struct device *d)
{
	container_of(d, struct i440fx, host.device)->address = 0;
}

static void host_save(const struct device *d, struct state *s)
{
	const struct i440fx *f = container_of(d, const struct i440fx, host.device);
	state_section(s, "i440fx", 1);
	state_put_field(s, f->address);
}

static int host_load(struct device *d, struct state *s, struct error *e)
{
	struct i440fx *f = container_of(d, struct i440fx, host.device);
	state_open(s, "i440fx");
	f->address = (uint32_t)state_get(s, 4) & ADDRESS_WRITABLE;
	return state_finish(s, "i440fx", e);
}

static const struct device_ops host_ops = {
	.name = "i440fx", .reset = host_reset, .save = host_save, .load = host_load,
};
/* Their state is their configuration space. */
static const struct device_ops isa_ops = { .name = "piix3-isa" };
static const struct device_ops pm_ops = { .name = "piix4-pm" };

static void functions_init(struct i440fx *f)
{
	pci_device_init(&f->host, &host_ops, &(struct pci_identity){
		.vendor = VENDOR_INTEL, .device = DEVICE_82441FX, .revision = 2,
		.class_code = CLASS_HOST_BRIDGE });
	/* Firmware unlocks shadow RAM here; ours is RAM always. */
	for (unsigned i = 0; i < PAM_REGISTERS; i++)
		pci_set_register(&f->host, PAM0 + i, 1, 0x33, 0x33);
	pci_set_register(&f->host, PAM0, 1, 0x30, 0x30);

	pci_device_init(&f->isa, &isa_ops, &(struct pci_identity){
		.vendor = VENDOR_INTEL, .device = DEVICE_PIIX3_ISA,
		.class_code = CLASS_ISA_BRIDGE, .multifunction = true });
	for (unsigned i = 0; i < PCI_INTX_LINES; i++)
		pci_set_register(&f->isa, PIRQRC_A + i, 1, PIRQ_NOT_ROUTED, PIRQ_WRITABLE);

	/* The ports stay where the board put them: PMBA cannot be written. */
	pci_device_init(&f->pm, &pm_ops, &(struct pci_identity){
		.vendor = VENDOR_INTEL, .device = DEVICE_PIIX4_PM, .revision = 3,
		.class_code = CLASS_OTHER_BRIDGE });
	pci_set_register(&f->pm, PMBA, 4, f->config.acpi_base | PCI_BASE_ADDRESS_SPACE_IO, 0);
	pci_set_register(&f->pm, PMREGMISC, 1, PMIOSE, 0);
}

struct i440fx *i440fx_create(struct bus *b, struct pci_bus *pci,
			     const struct i440fx_config *config, struct error *e)
{
	struct i440fx *f = alloc_zeroed(1, sizeof *f);
	f->bus = b;
	f->pci = pci;
	f->config = *config;
	functions_init(f);
	if (pci_attach(pci, &f->host, I440FX_HOST_SLOT, 0, e) ||
	    pci_attach(pci, &f->isa, I440FX_PIIX_SLOT, 0, e) ||
	    (config->acpi_base &&
	     pci_attach(pci, &f->pm, I440FX_PIIX_SLOT, PIIX_PM_FUNCTION, e)))
		goto detach;
	if (bus_claim(b, BUS_IO, PORT_CONFIG_ADDRESS, 4, &address_ops, f, "i440fx", e))
		goto detach;
	if (bus_claim(b, BUS_IO, PORT_CONFIG_DATA, 4, &data_ops, f, "i440fx", e)) {
		bus_release(b, BUS_IO, PORT_CONFIG_ADDRESS);
		goto detach;
	}
	return f;
detach:
	pci_detach(&f->pm);
	pci_detach(&f->isa);
	pci_detach(&f->host);
	free(f);
	return NULL;
}

void i440fx_destroy(struct i440fx *f)
{
	if (!f)
		return;
	bus_release(f->bus, BUS_IO, PORT_CONFIG_ADDRESS);
	bus_release(f->bus, BUS_IO, PORT_CONFIG_DATA);
	pci_detach(&f->pm);
	pci_detach(&f->isa);
	pci_detach(&f->host);
	free(f);
}
