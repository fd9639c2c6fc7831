/* One software processor in VMX root operation, for the tests: 64-bit, paging
 * on, memory mapped one to one, a current VMCS that is valid in every field. */
#ifndef NESTOR_TESTS_VTX_MACHINE_H
#define NESTOR_TESTS_VTX_MACHINE_H

#include "soft/vtx/checks.h"

/* Where things are in the machine's 4 MiB. */
enum {
	AT_PML4 = 0x1000, AT_PDPT = 0x2000, AT_PD = 0x3000, AT_GDT = 0x5000, AT_IDT = 0x6000,
	AT_TSS = 0x7000, AT_STACK = 0x9000, AT_HANDLERS = 0xa000, AT_VMXON = 0x10000, AT_VMCS = 0x11000,
	AT_OTHER_VMCS = 0x12000, AT_BITMAPS = 0x13000, AT_VIRTUAL_APIC = 0x15000,
	AT_APIC_ACCESS = 0x16000, AT_MSR_AREA = 0x17000, AT_PAE_PDPT = 0x18000, AT_OPERAND = 0x19000,
	AT_EPT_PML4 = 0x1a000, AT_EPT_PDPT = 0x1b000, AT_EPT_PD = 0x1c000,
	AT_PD_32 = 0x1e000,
	AT_HOST_CODE = 0x20000, AT_GUEST_CODE = 0x30000, MACHINE_RAM = 4 << 20,
	SELECTOR_CODE = 0x08, SELECTOR_DATA = 0x10, SELECTOR_TSS = 0x18,
};

#define EPTP_VALID (AT_EPT_PML4 | 3 << EPTP_WALK_LENGTH_SHIFT | MEMORY_TYPE_WB)

struct vtx_machine {
	struct engine *engine;
	struct cpu *cpu;
	struct vtx *v;
	struct memory *memory;
	bool died;
};

/* What kind of guest the VMCS describes. */
enum guest_kind { GUEST_LONG, GUEST_32, GUEST_V86, GUEST_REAL, GUEST_PAE, GUEST_KINDS };

/* The machine of a group of tests, and cmocka's functions that make it and
 * take it away. */
extern struct vtx_machine *machine;
int machine_setup(void **state);
int machine_teardown(void **state);
/* Back to root operation with a valid VMCS, clear, for this kind of guest. */
void machine_prepare(struct vtx_machine *m, enum guest_kind kind);
/* Execute these bytes of code in the hypervisor. */
void machine_run(struct vtx_machine *m, const uint8_t *code, unsigned length);
/* Put code where the guest begins. */
void machine_guest_code(struct vtx_machine *m, const uint8_t *code, unsigned length);
void machine_launch(struct vtx_machine *m);
/* Let the processor do one instruction or event. */
void machine_step(struct vtx_machine *m);
static inline void field_set(struct vtx_machine *m, enum vmcs_field f, uint64_t value)
{
	vmcs_write(&m->v->vmcs, f, false, value);
}

#define field(m, id) vmcs_get((m)->v, VMCS_##id)
#define set(m, id, value) field_set((m), VMCS_##id, (value))

#endif
