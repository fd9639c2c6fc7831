/* Life of a processor's VT-x: create, reset, save and load. */
#include "soft/vtx/checks.h"

#include "base/log.h"

#include <stdlib.h>

void vtx_create(struct cpu *cpu)
{
	struct vtx *v = alloc_zeroed(1, sizeof *v);
	v->cpu = cpu;
	v->check_failures = alloc_zeroed(CHECK_COUNT, sizeof *v->check_failures);
	v->pointer = v->vmxon_pointer = VMCS_NO_POINTER;
	vtx_capabilities_set(v);
	vtx_timer_create(v);
	cpu->vtx = v;
}

void vtx_destroy(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (!v)
		return;
	if (atomic_load(&v->timer_armed) != CLOCK_NEVER) {
		pthread_mutex_t *lock = bus_lock(vtx_engine(v)->host.bus);
		pthread_mutex_lock(lock);
		timer_cancel(vtx_engine(v)->host.clock, &v->timer);
		pthread_mutex_unlock(lock);
	}
	free(v->check_failures);
	free(v);
	cpu->vtx = NULL;
}

void vtx_reset(struct cpu *cpu, bool init)
{
	struct vtx *v = cpu->vtx;
	(void)init;	/* VMX operation blocks INIT, so either way it is over */
	vtx_timer_stop(v);
	v->operation = false;
	v->pointer = v->vmxon_pointer = VMCS_NO_POINTER;
	memset(&v->on, 0, sizeof v->on);
	memset(v->regime, 0, sizeof v->regime);
	memset(&v->exit_data, 0, sizeof v->exit_data);
	v->virtual_nmi_blocked = v->mtf_pending = v->mtf_armed = v->tpr_below_threshold = false;
	v->ple_seen = v->iret.valid = false;
}

bool vtx_operation(const struct cpu *cpu)
{
	return cpu->vtx && cpu->vtx->operation;
}

#define VTX_FIELDS(X) \
	X(operation) X(vmxon_pointer) X(pointer) X(vmcs.launched) X(on.pin) X(on.primary) \
	X(on.secondary) X(on.exit) X(on.entry) X(virtual_nmi_blocked) X(mtf_pending) X(mtf_armed) \
	X(tpr_below_threshold)

static void exchange(struct vtx *v, uint64_t *deadline, struct state *s)
{
#define X(f) state_field(s, v->f);
	VTX_FIELDS(X)
#undef X
	state_field(s, *deadline);
}

void vtx_save(const struct cpu *cpu, struct state *s)
{
	struct vtx *v = cpu->vtx;
	uint64_t deadline = atomic_load(&v->timer_deadline);
	state_section(s, "vtx", 1);
	exchange(v, &deadline, s);
	/* By encoding, so that a later list of fields can load it. */
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++) {
		state_put_field(s, vmcs_field_info[n].encoding);
		state_put_field(s, v->vmcs.f[n]);
	}
	state_put(s, UINT16_MAX, sizeof vmcs_field_info->encoding);
}

int vtx_load(struct cpu *cpu, struct state *s, struct error *e)
{
	struct vtx *v = cpu->vtx;
	uint64_t deadline;
	vtx_reset(cpu, false);
	memset(&v->vmcs, 0, sizeof v->vmcs);
	state_open(s, "vtx");
	exchange(v, &deadline, s);
	while (!s->failed) {
		uint16_t encoding = (uint16_t)state_get(s, sizeof encoding);
		if (encoding == UINT16_MAX)
			break;
		enum vmcs_field field = vmcs_find(encoding);
		vmcs_write(&v->vmcs, field, false, state_get(s, sizeof(uint64_t)));
	}
	if (state_finish(s, "vtx", e))
		return -1;
	/* What a file says is not trusted more than a guest: a guest that
	 * cannot have been entered does not run. */
	bool controls = vtx_controls_allowed(v, VMX_WORD_PIN, v->on.pin) &&
		vtx_controls_allowed(v, VMX_WORD_PRIMARY, v->on.primary) &&
		vtx_controls_allowed(v, VMX_WORD_SECONDARY, v->on.secondary) &&
		vtx_controls_allowed(v, VMX_WORD_EXIT, v->on.exit) &&
		vtx_controls_allowed(v, VMX_WORD_ENTRY, v->on.entry);
	if (cpu->nonroot && (!v->operation || v->pointer == VMCS_NO_POINTER || !controls))
		return error_set(e, STATUS_FILE, "The saved state has a processor in VMX non-root operation "
				 "with controls that this processor does not have; it was saved by another "
				 "version or is damaged.");
	if (cpu->nonroot && deadline != CLOCK_NEVER) {
		/* Due at once, and then armed anew for what remains. */
		atomic_store(&v->timer_deadline, deadline);
		atomic_fetch_or(&cpu->events, EVENT_PREEMPTION_TIMER);
	}
	return 0;
}
