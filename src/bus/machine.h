/* What a chip may ask of the whole machine. Board lock held; the request is
 * noted and carried out after the processors have left the bus. */
#ifndef NESTOR_BUS_MACHINE_H
#define NESTOR_BUS_MACHINE_H

#include <stdint.h>

enum machine_request {
	MACHINE_POWER_OFF,	/* ACPI soft-off */
	MACHINE_RESET,		/* keyboard controller, port 92h, CF9h, FADT reset register */
	MACHINE_EXIT,		/* debug exit port: value is what was written */
};

struct machine_control {
	void (*request)(void *owner, enum machine_request request, uint32_t value);
	void *owner;
};

#endif
