/* One guest in 64-bit mode: its code, the controls it runs under, what its exit
 * says. */
#ifndef NESTOR_TESTS_VTX_GUEST_H
#define NESTOR_TESTS_VTX_GUEST_H

#include "vtx_machine.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define info(id) vmcs_get(machine->v, VMCS_##id)

static inline void set_bit(enum vmcs_field field, unsigned bit)
{
	field_set(machine, field, vmcs_get(machine->v, field) | BIT(bit));
}

#define PIN_ON(id) set_bit(VMCS_PIN_CONTROLS, VMX_BIT_PIN_##id)
#define PRIMARY_ON(id) set_bit(VMCS_PRIMARY_CONTROLS, VMX_BIT_PRIMARY_##id)
#define SECONDARY_ON(id) (PRIMARY_ON(SECONDARY), set_bit(VMCS_SECONDARY_CONTROLS, VMX_BIT_SECONDARY_##id))
#define EXIT_ON(id) set_bit(VMCS_EXIT_CONTROLS, VMX_BIT_EXIT_##id)
#define ENTRY_ON(id) set_bit(VMCS_ENTRY_CONTROLS, VMX_BIT_ENTRY_##id)

static inline void enter(void)
{
	machine_launch(machine);
	assert_int_equal(machine->v->last_failure, CHECK_PASSED);
	assert_true(machine->cpu->nonroot);
}

static inline void guest(const uint8_t *code, unsigned length)
{
	machine_prepare(machine, GUEST_LONG);
	machine_guest_code(machine, code, length);
}

#define GUEST(...) guest((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

#endif
