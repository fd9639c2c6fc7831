/* VM entry: from VMLAUNCH or VMRESUME to the guest's first instruction (SDM
 * vol. 3, chapter "VM Entries").
 *
 * Checks first (checks.h): controls and host state fail the instruction, guest
 * state fails the entry, which then looks like a VM exit. Then guest state is
 * loaded, the MSR area, and the event to inject is delivered; what is pending
 * after that (windows, timer, monitor trap) the loop finds at the boundary
 * before the first instruction. */
#include "base/log.h"
#include "soft/vtx/checks.h"

/* CR0 bits that VM entry and VM exit leave alone: ET, CD, NW, and reserved. */
#define CR0_UNTOUCHED (CR0_ET | CR0_CD | CR0_NW | BITS(28, 19) | BIT(17) | BITS(15, 6))
#define DR7_CLEARED (BIT(15) | BIT(14) | BIT(12) | BIT(11))

static void load_control(struct cpu *cpu, const struct check_context *c)
{
	const struct vtx *v = cpu->vtx;
	bool ia32e = c->ia32e;
	cpu->cr0 = (vmcs_get(v, VMCS_GUEST_CR0) & ~CR0_UNTOUCHED) | (cpu->cr0 & CR0_UNTOUCHED);
	cpu->cr3 = vmcs_get(v, VMCS_GUEST_CR3);
	cpu->cr4 = vmcs_get(v, VMCS_GUEST_CR4);
	if (c->entry & VMX_CONTROL(ENTRY_LOAD_DEBUG)) {
		cpu->dr7 = (vmcs_get(v, VMCS_GUEST_DR7) & ~DR7_CLEARED) | DR7_FIXED;
		cpu->debugctl = vmcs_get(v, VMCS_GUEST_DEBUGCTL);
	}
	cpu->sysenter_cs = vmcs_get(v, VMCS_GUEST_SYSENTER_CS);
	cpu->sysenter_esp = vmcs_get(v, VMCS_GUEST_SYSENTER_ESP);
	cpu->sysenter_eip = vmcs_get(v, VMCS_GUEST_SYSENTER_EIP);
	if (c->entry & VMX_CONTROL(ENTRY_LOAD_EFER))
		cpu->efer = vmcs_get(v, VMCS_GUEST_EFER);
	else {
		uint64_t changes = EFER_LMA | (cpu->cr0 & CR0_PG ? EFER_LME : 0);
		cpu->efer = (cpu->efer & ~changes) | (ia32e ? changes : 0);
	}
	if (c->entry & VMX_CONTROL(ENTRY_LOAD_PAT))
		cpu->pat = vmcs_get(v, VMCS_GUEST_PAT);
	if (c->pae)
		memcpy(cpu->pdpte, c->pdpte, sizeof cpu->pdpte);
}

static void load_segments(struct cpu *cpu)
{
	const struct vtx *v = cpu->vtx;
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = (struct segment){
			.selector = (uint16_t)vmcs_get(v, VMCS_GUEST_ES_SELECTOR + s),
			.access_rights = (uint32_t)vmcs_get(v, VMCS_GUEST_ES_ACCESS_RIGHTS + s),
			.limit = (uint32_t)vmcs_get(v, VMCS_GUEST_ES_LIMIT + s),
			.base = vmcs_get(v, VMCS_GUEST_ES_BASE + s),
		};
	cpu->gdtr = (struct table_register){ vmcs_get(v, VMCS_GUEST_GDTR_BASE),
					     (uint16_t)vmcs_get(v, VMCS_GUEST_GDTR_LIMIT) };
	cpu->idtr = (struct table_register){ vmcs_get(v, VMCS_GUEST_IDTR_BASE),
					     (uint16_t)vmcs_get(v, VMCS_GUEST_IDTR_LIMIT) };
	cpu->cpl = (cpu->seg[SEG_SS].access_rights & AR_DPL) >> AR_DPL_SHIFT;
}

static void load_nonregister(struct cpu *cpu, const struct check_context *c)
{
	struct vtx *v = cpu->vtx;
	uint32_t blocking = (uint32_t)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);
	cpu->activity = (enum activity)vmcs_get(v, VMCS_GUEST_ACTIVITY);
	cpu->inhibit = (blocking & VMX_BLOCKING_STI ? INHIBIT_STI : 0) |
		(blocking & VMX_BLOCKING_MOV_SS ? INHIBIT_MOV_SS : 0);
	/* With virtual NMIs, NMIs of the machine are not blocked in the guest. */
	bool virtual = c->pin & VMX_CONTROL(PIN_VIRTUAL_NMIS), blocked = blocking & VMX_BLOCKING_NMI;
	v->virtual_nmi_blocked = virtual && blocked;
	cpu->nmi_blocked = !virtual && blocked;
	v->iret.valid = false;
	v->mtf_pending = v->mtf_armed = v->tpr_below_threshold = v->ple_seen = false;
}

/* SDM vol. 3, "Delivery of Pending Debug Exceptions after VM Entry". */
static void load_pending_debug(struct cpu *cpu, const struct check_context *c)
{
	const struct vtx *v = cpu->vtx;
	uint64_t pending = vmcs_get(v, VMCS_GUEST_PENDING_DEBUG);
	bool survives;
	cpu->db_trap = false;
	cpu->db_bits = 0;
	atomic_fetch_and(&cpu->events, ~(uint32_t)EVENT_TRAP);
	if (c->inject && c->type != EVENT_TYPE_OTHER)
		survives = cpu->inhibit & INHIBIT_MOV_SS &&
			(c->type == EVENT_TYPE_SOFTWARE || c->type == EVENT_TYPE_SOFTWARE_EXCEPTION);
	else
		survives = cpu->activity <= ACTIVITY_HLT;
	if (!survives || !(pending & (VMX_PENDING_DEBUG_ENABLED | VMX_PENDING_DEBUG_BS)))
		return;
	cpu->db_trap = true;
	cpu->db_bits = pending & (VMX_PENDING_DEBUG_B | VMX_PENDING_DEBUG_BS);
	atomic_fetch_or(&cpu->events, EVENT_TRAP);
}

/* SDM vol. 3, "Event Injection". */
static void inject(struct cpu *cpu, const struct check_context *c)
{
	struct vtx *v = cpu->vtx;
	bool mtf = c->primary & VMX_CONTROL(PRIMARY_MONITOR_TRAP);
	const struct delivery d = {
		.type = c->type, .vector = c->vector, .has_error = c->has_error,
		.error = (uint32_t)vmcs_get(v, VMCS_ENTRY_ERROR_CODE),
		.insn_len = (uint8_t)vmcs_get(v, VMCS_ENTRY_INSTRUCTION_LENGTH), .injected = true,
	};
	if (c->type == EVENT_TYPE_OTHER) {
		v->mtf_pending = true;
		return;
	}
	v->mtf_armed = mtf;	/* then the trap comes before the handler's first instruction */
	bool blocked = cpu->nmi_blocked;
	event_deliver(cpu, &d);
	if (c->type == EVENT_TYPE_NMI && c->pin & VMX_CONTROL(PIN_VIRTUAL_NMIS)) {
		v->virtual_nmi_blocked = true;
		cpu->nmi_blocked = blocked;
	}
}

enum vmx_error vtx_enter(struct cpu *cpu, bool launch)
{
	struct vtx *v = cpu->vtx;
	struct check_context c;
	enum check_id failed;
	check_context_set(&c, v);
	failed = check_controls(&c);
	if (unlikely(failed)) {
		check_report(v, failed);
		return VMX_ERROR_ENTRY_CONTROLS;
	}
	failed = check_host(&c);
	if (unlikely(failed)) {
		check_report(v, failed);
		return VMX_ERROR_ENTRY_HOST_STATE;
	}
	vtx_leave_translations(cpu);
	v->on = (struct vmx_controls){ c.pin, c.primary, c.secondary, c.exit, c.entry };
	failed = check_guest(&c);
	if (unlikely(failed)) {
		check_report(v, failed);
		vtx_entry_failed(cpu, VMX_EXIT_ENTRY_GUEST_STATE, check_qualification(failed));
	}
	cpu->nonroot = true;
	load_control(cpu, &c);
	load_segments(cpu);
	cpu->r[RSP] = vmcs_get(v, VMCS_GUEST_RSP);
	cpu->r[REG_RIP] = cpu->start_rip = vmcs_get(v, VMCS_GUEST_RIP);
	vtx_select_translations(cpu);
	cpu_set_rflags(cpu, vmcs_get(v, VMCS_GUEST_RFLAGS));
	cpu_mode_changed(cpu);
	load_nonregister(cpu, &c);
	unsigned entry = vtx_msr_area(cpu, MSR_AREA_ENTRY_LOAD);
	if (unlikely(entry))
		vtx_entry_failed(cpu, VMX_EXIT_ENTRY_MSR_LOADING, entry);
	if (launch)
		v->vmcs.launched = true;
	load_pending_debug(cpu, &c);
	if (c.primary & VMX_CONTROL(PRIMARY_TPR_SHADOW) &&
	    c.secondary & VMX_CONTROL(SECONDARY_APIC_ACCESSES)) {
		const uint8_t *vtpr = vtx_vtpr(v);
		v->tpr_below_threshold = vtpr &&
			vmcs_get(v, VMCS_TPR_THRESHOLD) > (uint64_t)(host_load(vtpr, 1) >> 4);
	}
	if (c.pin & VMX_CONTROL(PIN_PREEMPTION_TIMER))
		vtx_timer_start(v);
	if (unlikely(trace_on(TRACE_VMX)))
		vtx_trace_entry(cpu);
	/* The boundary before the first instruction finds windows, timer,
	 * traps, and interrupts that the hypervisor's own IF held back. */
	if (cpu->activity != ACTIVITY_WAIT_FOR_SIPI)
		atomic_fetch_or(&cpu->events, EVENT_WINDOW | EVENT_INTERRUPT);
	if (cpu->init_pending)
		atomic_fetch_or(&cpu->events, EVENT_INIT);
	cpu->init_pending = false;
	cpu->trap_delivery = false;
	if (c.inject)
		inject(cpu, &c);
	cpu_continue(cpu);
}
