/* VM exits between two instructions, in the order in which the loop asks
 * (SDM vol. 3, "Priority Among Concurrent Events" and "Other Causes of VM
 * Exits"): monitor trap flag and TPR threshold, INIT, the VMX-preemption
 * timer, NMI window, NMI, interrupt window, external interrupt. */
#include "soft/engine.h"
#include "soft/vtx/state.h"

void vtx_boundary_traps(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (v->tpr_below_threshold)
		vtx_exit_boundary(cpu, VMX_EXIT_TPR_THRESHOLD, 0, true);
	if (v->mtf_pending)
		vtx_exit_boundary(cpu, VMX_EXIT_MONITOR_TRAP, 0, true);
	if (vtx_wants_step(cpu)) {
		if (v->mtf_armed)
			vtx_exit_boundary(cpu, VMX_EXIT_MONITOR_TRAP, 0, true);
		v->mtf_armed = true;
	}
}

void vtx_stepped(struct cpu *cpu)
{
	cpu->vtx->mtf_pending = true;
}

bool vtx_wants_step(const struct cpu *cpu)
{
	return cpu->vtx->on.primary & VMX_CONTROL(PRIMARY_MONITOR_TRAP);
}

void vtx_boundary_timer(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	uint64_t deadline = atomic_load_explicit(&v->timer_deadline, memory_order_relaxed);
	if (likely(!(atomic_load_explicit(&cpu->events, memory_order_relaxed) & EVENT_PREEMPTION_TIMER)))
		return;
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_PREEMPTION_TIMER);
	if (deadline != CLOCK_NEVER && clock_now(vtx_engine(v)->host.clock) >= deadline)
		vtx_exit_boundary(cpu, VMX_EXIT_PREEMPTION_TIMER, 0, false);
}

void vtx_boundary_nmi_window(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (v->on.primary & VMX_CONTROL(PRIMARY_NMI_WINDOW) && !v->virtual_nmi_blocked &&
	    !(cpu->inhibit & INHIBIT_MOV_SS) && cpu->activity != ACTIVITY_WAIT_FOR_SIPI)
		vtx_exit_boundary(cpu, VMX_EXIT_NMI_WINDOW, 0, false);
}

void vtx_boundary_interrupt_window(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (v->on.primary & VMX_CONTROL(PRIMARY_INTERRUPT_WINDOW) && cpu->sysflags & FLAG_IF &&
	    !cpu->inhibit && cpu->activity <= ACTIVITY_HLT)
		vtx_exit_boundary(cpu, VMX_EXIT_INTERRUPT_WINDOW, 0, false);
}

void vtx_boundary_nmi(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (!(v->on.pin & VMX_CONTROL(PIN_NMI)) || cpu->activity == ACTIVITY_WAIT_FOR_SIPI)
		return;
	struct vmx_exit x = {
		.reason = VMX_EXIT_EXCEPTION_NMI, .rip = cpu->r[REG_RIP],
		.rf = cpu->sysflags & FLAG_RF,
		.interruption_info = VMX_INFO_VALID | EXC_NMI | EVENT_TYPE_NMI << VMX_INFO_TYPE_SHIFT,
	};
	cpu->nmi_pending = false;
	vtx_exit_full(cpu, &x);
}

/* INTA towards L1's interrupt controllers; -1 when the request went away. */
static int acknowledge(struct cpu *cpu)
{
	struct engine *e = vtx_engine(cpu->vtx);
	int vector;
	if (cpu->extint && lapic_extint_accepted(cpu->lapic)) {
		pthread_mutex_lock(bus_lock(e->host.bus));
		vector = e->host.extint_acknowledge(e->host.owner);
		pthread_mutex_unlock(bus_lock(e->host.bus));
		return vector;
	}
	vector = lapic_pending(cpu->lapic);
	if (vector >= 0)
		lapic_acknowledge(cpu->lapic, (uint8_t)vector);
	return vector;
}

void vtx_boundary_interrupt(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (!vtx_interrupt_exiting(cpu) || cpu->activity == ACTIVITY_WAIT_FOR_SIPI)
		return;
	struct vmx_exit x = { .reason = VMX_EXIT_EXTERNAL_INTERRUPT, .rip = cpu->r[REG_RIP],
			      .rf = cpu->sysflags & FLAG_RF };
	if (v->on.exit & VMX_CONTROL(EXIT_ACKNOWLEDGE_INTERRUPT)) {
		int vector = acknowledge(cpu);
		if (vector < 0)
			return;
		cpu->interrupts++;
		x.interruption_info = VMX_INFO_VALID | (uint32_t)vector |
			EVENT_TYPE_EXTERNAL << VMX_INFO_TYPE_SHIFT;
	}
	vtx_exit_full(cpu, &x);
}

bool vtx_interrupt_exiting(const struct cpu *cpu)
{
	return cpu->nonroot && cpu->vtx->on.pin & VMX_CONTROL(PIN_EXTERNAL_INTERRUPT);
}

bool vtx_nmi_blocked(const struct cpu *cpu)
{
	/* Virtual-NMI blocking holds back injection by the hypervisor, never
	 * an NMI of the machine. */
	return cpu->nmi_blocked;
}

void vtx_boundary_init(struct cpu *cpu)
{
	if (!cpu->nonroot)
		return;
	cpu->init_pending = false;
	vtx_exit_boundary(cpu, VMX_EXIT_INIT, 0, true);
}

void vtx_boundary_sipi(struct cpu *cpu, uint8_t vector)
{
	if (cpu->nonroot && cpu->activity == ACTIVITY_WAIT_FOR_SIPI)
		vtx_exit_boundary(cpu, VMX_EXIT_SIPI, vector, false);
}
