/* A VM's life: created from a configuration, run to its end, destroyed. */
#ifndef NESTOR_VM_VM_H
#define NESTOR_VM_VM_H

#include "vm/board.h"

struct vm;

/* Everything that can fail fails here: files, memory, engine. From here to
 * vm_destroy the calling thread has the ending signals blocked. */
struct vm *vm_create(const struct vm_config *config, const struct engine_ops *ops,
		     struct error *e);

/* Run until the guest, the user or a fault ends it. Says why in one sentence
 * (and the dump of a processor that died) and returns the exit status. The
 * terminal is as it was found. */
int vm_run(struct vm *vm);

/* The signal that ended the VM, for whoever wants to end by it too; 0: none. */
int vm_ending_signal(const struct vm *vm);

/* After vm_run: why the VM ended, one sentence. */
const char *vm_ending_text(const struct vm *vm);

/* While vm_run runs, from any thread. */

/* End it as if the power went. */
void vm_turn_off(struct vm *vm);
/* Reset it, whatever the configuration says on a guest's own wish. */
void vm_restart(struct vm *vm);
/* Ask the guest's operating system to shut down (ACPI power button). */
void vm_power_button(struct vm *vm);
/* Plug an adapter's cable (its place in the configuration) into another port,
 * whose socket is taken over; -1: nowhere. */
void vm_network_connect(struct vm *vm, unsigned adapter, int fd);
/* What the host failed in first of a disk's requests, as a sentence; NULL:
 * nothing. */
const char *vm_disk_problem(struct vm *vm);
/* Stop all processors and the VM's time, or let them go on. -1 when that did
 * not happen within a few seconds, or the VM is ending. */
int vm_pause(struct vm *vm, bool paused, struct error *e);
bool vm_is_paused(struct vm *vm);
/* Host nanoseconds since vm_run began. */
uint64_t vm_uptime(const struct vm *vm);
/* How often the guest was started again, by itself or by vm_restart. */
unsigned vm_resets(struct vm *vm);
/* Is any processor in VMX operation? */
bool vm_hypervisor_running(struct vm *vm);

/* The guest's memory, as board_memory and board_assign_memory. */
void vm_memory(struct vm *vm, struct guest_memory_status *s);
void vm_assign_memory(struct vm *vm, uint64_t bytes);

/* What --report prints. */
void vm_report(struct vm *vm, FILE *out);

void vm_destroy(struct vm *vm);

/* The status of a guest's write of value to the debug exit port: odd. */
static inline int vm_debug_exit_status(uint32_t value)
{
	return (int)((value << 1 | 1) & 0xff);
}

#endif
