/* The ACPI tables of the board. */
#ifndef NESTOR_BOARD_ACPI_H
#define NESTOR_BOARD_ACPI_H

#include "memory/memory.h"

/* Where firmware is looked for: RSDP at the beginning, tables behind it. */
#define ACPI_AREA_BASE 0xe0000ull
#define ACPI_AREA_END 0x100000ull

/* Interrupt wiring that the tables describe. */
enum {
	ACPI_PCI_GSI = 16,	/* GSI of PCI line 0; lines 1-3 follow */
	ACPI_PIT_GSI = 2,	/* where IRQ 0 is wired */
};

/* Write all tables to guest memory; returns the RSDP's address, 0 with *e
 * filled when the memory does not reach there. */
uint64_t acpi_write_tables(struct memory *m, unsigned processors, struct error *e);

/* The DSDT alone, for tests: its bytes (free() them) and length. */
struct acpi_table {
	uint8_t *data;
	size_t size;
};
struct acpi_table acpi_dsdt(unsigned processors);

#endif
