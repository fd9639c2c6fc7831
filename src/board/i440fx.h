/* Intel 82441FX (host bridge) and 82371 (PIIX): PCI configuration mechanism #1
 * and the functions that a PC's software expects on bus 0. */
#ifndef NESTOR_BOARD_I440FX_H
#define NESTOR_BOARD_I440FX_H

#include "board/pci.h"

/* Slots that the chip set itself occupies; devices go from I440FX_FIRST_FREE_SLOT. */
enum { I440FX_HOST_SLOT = 0, I440FX_PIIX_SLOT = 1, I440FX_FIRST_FREE_SLOT = 2 };

struct i440fx_config {
	/* Base of the ACPI power-management ports as the PIIX4 function shows
	 * it; 0: no PIIX4 function. */
	uint16_t acpi_base;
	/* Byte port CF9h, which lies inside CONFIG_ADDRESS: one-byte accesses
	 * to it go here, at offset 0. NULL: nothing answers. */
	const struct bus_ops *reset_control;
	void *reset_control_owner;
};

struct i440fx;

/* Claims CF8h-CFFh and puts the host bridge, the ISA bridge and, when asked
 * for, the power-management function on the bus. They are reset, saved and
 * loaded with it. */
struct i440fx *i440fx_create(struct bus *b, struct pci_bus *pci,
			     const struct i440fx_config *config, struct error *e);
void i440fx_destroy(struct i440fx *f);

#endif
