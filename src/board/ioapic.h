/* Intel 82093AA I/O APIC, with the EOI register of its successors (version
 * 20h). Board lock held in every call. */
#ifndef NESTOR_BOARD_IOAPIC_H
#define NESTOR_BOARD_IOAPIC_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

enum { IOAPIC_PINS = 24 };
#define IOAPIC_BASE 0xfec00000ull

struct ioapic;	/* begins with a struct device */

/* Claims its page at IOAPIC_BASE. Interrupts go to msi as messages. route (may
 * be NULL) hears of every change of a redirection entry: the message that the
 * pin sends from now on, address 0 while it is masked. NULL with *e filled when
 * the page is taken. */
struct ioapic *ioapic_create(struct bus *bus, struct msi_target msi,
			     void (*route)(void *owner, unsigned pin, uint64_t address,
					   uint32_t data, bool level),
			     void *route_owner, struct error *e);
/* Free it; the bus must not be used afterwards. */
void ioapic_destroy(struct ioapic *ioapic);

/* Drive pin 0-23; true is "asserted", whatever the entry's polarity bit says.
 * Fits irq_line.set. */
void ioapic_set(void *ioapic, unsigned pin, bool level);

/* A local APIC ended a level-triggered interrupt of this vector. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

#endif
