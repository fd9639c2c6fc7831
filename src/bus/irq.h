/* Interrupt wiring: a line with a level, and a message. Board lock held. */
#ifndef NESTOR_BUS_IRQ_H
#define NESTOR_BUS_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* One end of a wire: whoever drives the line calls irq_set(). */
struct irq_line {
	void (*set)(void *owner, unsigned pin, bool level);
	void *owner;
	unsigned pin;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->owner, line->pin, level);
}

static inline void irq_pulse(const struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}

/* Where message-signalled interrupts go (FEExxxxxh; SDM vol. 3, "Message
 * Signalled Interrupts"). */
struct msi_target {
	void (*send)(void *owner, uint64_t address, uint32_t data);
	void *owner;
};

static inline void msi_send(const struct msi_target *t, uint64_t address, uint32_t data)
{
	if (t->send)
		t->send(t->owner, address, data);
}

#endif
