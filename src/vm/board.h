/* The board: an i440FX PC put together from its chips, memory, bus and clock.
 * It knows every chip and no engine but through struct engine_ops. */
#ifndef NESTOR_VM_BOARD_H
#define NESTOR_VM_BOARD_H

#include "bus/machine.h"
#include "memory/guest_memory.h"
#include "vm/config.h"

struct board;

/* The serial port's other end. Board lock held. */
struct board_serial {
	void (*write)(void *owner, const uint8_t *bytes, size_t n);
	void (*room)(void *owner);	/* what was not taken may be offered again */
	void *owner;
};

struct board *board_create(const struct vm_config *config, struct machine_control control,
			   struct board_serial serial, struct error *e);
/* No processor runs any more and the engine is gone. */
void board_destroy(struct board *b);

/* Fills in what the engine needs of the board: memory, bus, clock. */
void board_engine_host(struct board *b, struct engine_host *host);
/* From here on interrupts go to this engine; NULL: to nobody. */
void board_attach(struct board *b, struct engine *engine);

/* All devices back to power-on state. Board lock not held; no processor runs. */
void board_reset(struct board *b);
/* Tables and kernel into memory; how the first processor begins in *bsp. */
int board_load(struct board *b, struct processor_state *bsp, struct error *e);

/* The engine's two calls. Board lock held. */
void board_eoi(struct board *b, uint8_t vector);
uint8_t board_extint_acknowledge(struct board *b);

/* Bytes that came in for the serial port; how many it took. Takes the board
 * lock, unless that is held for long: then none. */
size_t board_serial_receive(struct board *b, const uint8_t *bytes, size_t n);

/* Plug the cable of a network adapter (its place in the configuration) into
 * another port, whose socket is taken over; -1: nowhere. Takes the board lock. */
void board_network_connect(struct board *b, unsigned adapter, int fd);
/* What the host failed in first of a disk's requests; NULL: nothing. */
const char *board_disk_problem(const struct board *b);
/* The VM is going to end: its disks wait for nobody any longer. From any thread. */
void board_hurry_disks(struct board *b);
/* Someone presses the power button. Takes the board lock. */
void board_power_button(struct board *b);
/* What the guest has and says of its memory. Takes the board lock. */
void board_memory(struct board *b, struct guest_memory_status *s);
/* The guest is to have this much. Takes the board lock. */
void board_assign_memory(struct board *b, uint64_t bytes);
/* The VM's time stands still, or goes on. No processor runs. */
void board_pause(struct board *b, bool paused);

#endif
