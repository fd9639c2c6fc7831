/* The local APICs of the soft engine: xAPIC and x2APIC (SDM vol. 3, chapter
 * "Advanced Programmable Interrupt Controller (APIC)").
 *
 * The board lock guards all their state. Two things are readable without it:
 * the highest deliverable vector (lapic_pending) and IA32_APIC_BASE. */
#ifndef NESTOR_SOFT_LAPIC_H
#define NESTOR_SOFT_LAPIC_H

#include "base/clock.h"
#include "base/error.h"
#include "base/state.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lapic_event {
	LAPIC_INTERRUPT,	/* lapic_pending() or lapic_extint_accepted() rose: look again */
	LAPIC_NMI,
	LAPIC_INIT,
	LAPIC_SIPI,		/* with the vector of the start page */
};

struct lapic_host {
	struct clock *clock;
	pthread_mutex_t *lock;	/* the board lock */
	void *owner;
	/* A level-triggered interrupt ended: tell the I/O APICs. Lock held. */
	void (*eoi)(void *owner, uint8_t vector);
	/* Something for a processor; called from any thread. Lock held. */
	void (*notify)(void *owner, unsigned processor, enum lapic_event event, uint8_t vector);
	unsigned physical_bits;	/* MAXPHYADDR, for IA32_APIC_BASE's reserved bits; 0: 52 */
};

struct lapic;
struct lapic_set;

#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BASE_BSP (1ull << 8)
#define APIC_BASE_EXTD (1ull << 10)	/* x2APIC mode */
#define APIC_BASE_EN (1ull << 11)

/* One local APIC per processor, in power-on state. Processor 0 is the BSP. */
struct lapic_set *lapic_set_create(unsigned processors, const struct lapic_host *host);
void lapic_set_destroy(struct lapic_set *set);
struct lapic *lapic_get(struct lapic_set *set, unsigned processor);

/* --- by the lapic's own processor; these take the lock themselves --- */

/* Power-on state with a TSC offset of 0, or with init what INIT leaves:
 * IA32_APIC_BASE and the offset stay. */
void lapic_reset(struct lapic *l, bool init);
/* What firmware leaves on the first processor: enabled, LINT0 ExtINT ("virtual
 * wire"), LINT1 NMI. */
void lapic_preset_virtual_wire(struct lapic *l);
/* The 4 KiB page, offset 0..FFFh. It is there in xAPIC mode only: otherwise
 * reads are all ones. */
uint32_t lapic_read(struct lapic *l, uint32_t offset);
void lapic_write(struct lapic *l, uint32_t offset, uint32_t value);
/* IA32_APIC_BASE, IA32_TSC_DEADLINE, 800h-8FFh; false: #GP(0). */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value);
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value);
/* INTA: IRR to ISR. Nothing happens unless the vector is in IRR. */
void lapic_acknowledge(struct lapic *l, uint8_t vector);
void lapic_set_cr8(struct lapic *l, uint8_t value);
/* Guest TSC = VM clock in TSC ticks + offset; TSC_DEADLINE compares with it. */
void lapic_set_tsc_offset(struct lapic *l, uint64_t offset);
/* While the processor does not run. */
void lapic_save(struct lapic *l, struct state *s);
int lapic_load(struct lapic *l, struct state *s, struct error *e);

/* --- without the lock --- */

/* Highest vector that may be delivered now (above PPR), or -1. */
int lapic_pending(struct lapic *l);
uint64_t lapic_base(const struct lapic *l);	/* IA32_APIC_BASE */
uint8_t lapic_get_cr8(const struct lapic *l);
/* Does INTR of the 8259 pair reach this processor? LINT0 is ExtINT and not
 * masked, or the APIC is globally disabled. */
bool lapic_extint_accepted(const struct lapic *l);

/* --- lock held --- */

/* An interrupt message (SDM vol. 3, "Message Signalled Interrupts"). */
void lapic_msi(struct lapic_set *set, uint64_t address, uint32_t data);
/* LINT1 of every processor is pulsed. */
void lapic_nmi(struct lapic_set *set);
#endif
