/* ACPI fixed hardware as the PIIX4 lays it out: PM1 event and control blocks and
 * the PM timer; the reset control register CF9h. Board lock held in every call. */
#ifndef NESTOR_BOARD_ACPI_PM_H
#define NESTOR_BOARD_ACPI_PM_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "bus/machine.h"

/* For the FADT. There is no SMI command port: ACPI mode is always on. */
enum acpi_pm_port {
	ACPI_PM_BASE = 0x600,
	ACPI_PM1A_EVENT = ACPI_PM_BASE + 0,	/* PM1_EVT_LEN 4: status, enable */
	ACPI_PM1A_CONTROL = ACPI_PM_BASE + 4,	/* PM1_CNT_LEN 2 */
	ACPI_PM_TIMER = ACPI_PM_BASE + 8,	/* PM_TMR_LEN 4 */
	ACPI_PM_SIZE = 0x10,
	ACPI_RESET_CONTROL = 0xcf9,		/* RESET_REG, one byte */
};

enum acpi_pm_value {
	ACPI_PM_TIMER_HZ = 3579545,
	ACPI_PM_TIMER_BITS = 32,	/* set TMR_VAL_EXT */
	ACPI_SLP_TYP_S5 = 0,		/* for _S5; the only sleep state */
	ACPI_RESET_VALUE = 6,		/* RESET_VALUE */
	ACPI_SCI_IRQ = 9,		/* SCI_INT, level */
};

struct acpi_pm;	/* begins with a struct device */

/* sci is driven as a level. Power-off and reset go to *machine. NULL with *e
 * filled when the ports are taken. CF9h is inside the PCI host bridge's
 * CONFIG_ADDRESS, so it is not claimed here: the host bridge passes one-byte
 * accesses on to acpi_pm_reset_control (offset 0), with the acpi_pm as owner. */
struct acpi_pm *acpi_pm_create(struct bus *bus, struct clock *clock, struct irq_line sci,
			       const struct machine_control *machine, struct error *e);
/* Free it; the bus must not be used afterwards. */
void acpi_pm_destroy(struct acpi_pm *pm);

/* Someone presses the power button. */
void acpi_pm_power_button(struct acpi_pm *pm);

extern const struct bus_ops acpi_pm_reset_control;

#endif
