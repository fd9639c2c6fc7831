/* Interrupts into a split irqchip.
 *
 * Messages go straight to the kernel's local APICs. For a level-triggered pin
 * of the I/O APIC the kernel must also know the message beforehand, as a route
 * of that pin: only vectors found in a route make the guest's EOI an exit
 * (KVM_EXIT_IOAPIC_EOI). Edge-triggered pins need no EOI, so they get no route;
 * setting routes is slow, and a booting kernel writes the redirection table
 * often.
 *
 * The 8259 pair's INTR is a wire, not a message. Its vector is taken from the
 * pair (INTA) only when a processor can take the interrupt at once, as hardware
 * does: KVM says so after each exit (ready_for_interrupt_injection), and exits
 * as soon as it is true when asked to (request_interrupt_window). KVM asks the
 * local APIC's LINT0 entry itself, so a processor that masks it is never
 * ready. */
#include "kvm/kvm.h"

#include "base/log.h"

#include <errno.h>
#include <sys/ioctl.h>

enum {
	APIC_LVT_LINT1 = 0x360,		/* offset in struct kvm_lapic_state */
	APIC_LVT_MASKED = 1 << 16,
	APIC_LVT_MODE = 7 << 8,
	APIC_LVT_MODE_NMI = 4 << 8,
};

void kvm_msi(struct engine *engine, uint64_t address, uint32_t data)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	struct kvm_msi message = {
		.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32),
		.data = data,
	};
	int delivered = ioctl(g->vm, KVM_SIGNAL_MSI, &message);
	trace(INTERRUPT, "message %#llx, data %#x%s", (unsigned long long)address, data,
	      delivered > 0 ? "" : ": no processor takes it");
}

void kvm_extint(struct engine *engine, bool level)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	if (atomic_exchange(&g->intr, level) == level || !level)
		return;
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		kvm_kick(&g->processor[i]);
}

void kvm_offer_extint(struct kvm_processor *p)
{
	struct kvm_engine *g = p->engine;
	struct kvm_run *run = p->run;
	if (likely(!atomic_load(&g->intr) && p->held_vector == KVM_NO_VECTOR)) {
		run->request_interrupt_window = 0;
		return;
	}
	if (run->ready_for_interrupt_injection && p->held_vector == KVM_NO_VECTOR) {
		pthread_mutex_t *board = bus_lock(g->engine.host.bus);
		pthread_mutex_lock(board);
		if (atomic_load(&g->intr))
			p->held_vector = g->engine.host.extint_acknowledge(g->engine.host.owner);
		pthread_mutex_unlock(board);
	}
	if (run->ready_for_interrupt_injection && p->held_vector != KVM_NO_VECTOR) {
		struct kvm_interrupt interrupt = { .irq = (uint32_t)p->held_vector };
		/* EEXIST: KVM still holds one; ours waits for the next window. */
		if (!ioctl(p->fd, KVM_INTERRUPT, &interrupt)) {
			trace(INTERRUPT, "processor %u takes vector %d from the 8259", p->id,
			      p->held_vector);
			p->held_vector = KVM_NO_VECTOR;
		}
		run->ready_for_interrupt_injection = 0;
	}
	run->request_interrupt_window =
		atomic_load(&g->intr) || p->held_vector != KVM_NO_VECTOR;
}

void kvm_nmi(struct engine *engine)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		kvm_request(&g->processor[i], KVM_REQUEST_NMI);
}

void kvm_take_nmi(struct kvm_processor *p)
{
	struct kvm_lapic_state apic;
	if (ioctl(p->fd, KVM_GET_LAPIC, &apic))
		return;
	uint32_t lint1 = (uint32_t)load_le(&apic.regs[APIC_LVT_LINT1], 4);
	if (!(lint1 & APIC_LVT_MASKED) && (lint1 & APIC_LVT_MODE) == APIC_LVT_MODE_NMI)
		ioctl(p->fd, KVM_NMI);
}

static void set_routes(struct kvm_engine *g)
{
	struct {
		struct { uint32_t nr, flags; } head;	/* struct kvm_irq_routing */
		struct kvm_irq_routing_entry entry[KVM_IOAPIC_PINS];
	} table = { 0 };
	for (unsigned pin = 0; pin < KVM_IOAPIC_PINS; pin++) {
		if (!g->route[pin].address)
			continue;
		table.entry[table.head.nr++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {
				.address_lo = (uint32_t)g->route[pin].address,
				.address_hi = (uint32_t)(g->route[pin].address >> 32),
				.data = g->route[pin].data,
			},
		};
	}
	if (ioctl(g->vm, KVM_SET_GSI_ROUTING, &table))
		log_line("the kernel refuses the I/O APIC's routes (%s): level-triggered interrupts may stop.",
			 strerror(errno));
}

void kvm_ioapic_route(struct engine *engine, unsigned pin, uint64_t address, uint32_t data,
		      bool level_triggered)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	if (pin >= KVM_IOAPIC_PINS)
		return;
	/* A pin is masked while its interrupt is in service: the EOI still
	 * has to come back, so the route stays. */
	if (!address)
		return;
	if (!level_triggered)
		address = data = 0;
	if (g->route[pin].address == address && g->route[pin].data == data)
		return;
	g->route[pin].address = address;
	g->route[pin].data = data;
	set_routes(g);
}
