/* The engine interface: what runs a VM's processors, over memory and a bus.
 * Two engines implement it, soft and kvm; neither knows a board. The local
 * APICs are inside the processors, so they are the engine's; I/O APIC and 8259
 * reach them by message (msi) and by the INTR wire (extint). */
#ifndef NESTOR_ENGINE_ENGINE_H
#define NESTOR_ENGINE_ENGINE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/state.h"
#include "bus/bus.h"
#include "memory/memory.h"
#include "x86/processor_state.h"

#include <stdio.h>

enum { ENGINE_MAX_PROCESSORS = 64 };

struct engine_config {
	unsigned processors;
	bool expose_virtualization_extensions;
	const char *options;	/* --engine-options, comma-separated; "" for none */
};

/* What the machine gives the engine. Every call may come from any processor's
 * thread. */
struct engine_host {
	struct memory *memory;
	struct bus *bus;
	struct clock *clock;
	void *owner;
	/* A local APIC ended a level-triggered interrupt: tell the I/O APICs.
	 * Board lock held by the engine. */
	void (*eoi)(void *owner, uint8_t vector);
	/* INTA cycle: take the vector of the 8259 pair. Board lock held by the
	 * engine. */
	uint8_t (*extint_acknowledge)(void *owner);
	/* A processor died (triple fault, or an engine that cannot go on). The
	 * text is a dump for a human, many lines. The engine has left no lock
	 * held, and its thread returns from run afterwards. */
	void (*died)(void *owner, unsigned processor, enum exit_status status,
		     const char *text);
};

struct engine;

struct engine_ops {
	const char *name;
	/* Can this engine do config on this host? 0, or -1 with the reason. */
	int (*probe)(const struct engine_config *config, struct error *e);
	struct engine *(*create)(const struct engine_config *config,
				 const struct engine_host *host, struct error *e);
	void (*destroy)(struct engine *g);	/* no thread in run any more */
	/* A processor's thread body. Returns after stop(). Processor 0 begins
	 * at the state given by set_state, the others wait for INIT/SIPI. */
	void (*run)(struct engine *g, unsigned processor);
	/* Ask every run() to return, and wake those that sleep. Any thread. */
	void (*stop)(struct engine *g);
	/* Processors back to power-on state; no thread in run. */
	void (*reset)(struct engine *g);
	/* While the processor is not in run. */
	void (*set_state)(struct engine *g, unsigned processor,
			  const struct processor_state *p);
	void (*get_state)(struct engine *g, unsigned processor, struct processor_state *p);
	/* An interrupt message (FEExxxxxh). Board lock held. */
	void (*msi)(struct engine *g, uint64_t address, uint32_t data);
	/* The INTR wire from the 8259 pair changed. Board lock held. */
	void (*extint)(struct engine *g, bool level);
	/* NMI to every processor whose LINT1 takes it. Board lock held. */
	void (*nmi)(struct engine *g);
	/* I/O APIC pin n now sends this message (kvm: an MSI route per pin, so
	 * that EOIs come back); masked: address 0. May be NULL. Board lock held. */
	void (*ioapic_route)(struct engine *g, unsigned pin, uint64_t address, uint32_t data,
			     bool level_triggered);
	/* Is any processor in VMX operation (kvm: does the guest run a
	 * hypervisor)? The memory rules ask this. */
	bool (*hypervisor_running)(struct engine *g);
	/* The blocks of RAM at pa, n bytes, were plugged in or out (memory_plug):
	 * after out no processor reaches them through anything that it kept, once
	 * it has ended the few instructions that it runs without looking up.
	 * False: the engine cannot take them in. Board lock held. */
	bool (*plugged)(struct engine *g, uint64_t pa, uint64_t n, bool in);
	/* --report: instructions, exits by level and reason; lines on out. */
	void (*report)(struct engine *g, FILE *out);
	void (*save)(struct engine *g, struct state *s);
	int (*load)(struct engine *g, struct state *s, struct error *e);
};

/* An engine embeds this as its first member. */
struct engine {
	const struct engine_ops *ops;
	struct engine_config config;
	struct engine_host host;
};

extern const struct engine_ops soft_engine_ops;	/* src/soft */
extern const struct engine_ops kvm_engine_ops;	/* src/kvm */

#endif
