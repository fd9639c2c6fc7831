/* VM exit: from the guest back to its hypervisor (SDM vol. 3, chapter "VM
 * Exits"). Information first, then guest state into the VMCS, the MSR-store
 * area, host state out of it, the MSR-load area. Nothing here returns. */
#include "base/log.h"
#include "soft/engine.h"
#include "soft/vtx/state.h"

#define CR0_UNTOUCHED (CR0_ET | CR0_CD | CR0_NW | BITS(28, 19) | BIT(17) | BITS(15, 6))

/* --- MSR areas --- */

struct msr_area_fields {
	enum vmcs_field address, count;
};

static const struct msr_area_fields area_fields[] = {
	[MSR_AREA_ENTRY_LOAD] = { VMCS_ENTRY_MSR_LOAD_ADDRESS, VMCS_ENTRY_MSR_LOAD_COUNT },
	[MSR_AREA_EXIT_LOAD] = { VMCS_EXIT_MSR_LOAD_ADDRESS, VMCS_EXIT_MSR_LOAD_COUNT },
	[MSR_AREA_EXIT_STORE] = { VMCS_EXIT_MSR_STORE_ADDRESS, VMCS_EXIT_MSR_STORE_COUNT },
};

/* MSRs that an area may not name ("Loading MSRs", "Saving MSRs"). */
static bool msr_forbidden(const struct cpu *cpu, enum msr_area area, uint32_t msr)
{
	enum { IA32_SMM_MONITOR_CTL = 0x9b, IA32_SMBASE = 0x9e };
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST && lapic_base(cpu->lapic) & APIC_BASE_EXTD)
		return true;
	if (area == MSR_AREA_EXIT_STORE)
		return msr == IA32_SMBASE;
	return msr == MSR_FS_BASE || msr == MSR_GS_BASE || msr == IA32_SMM_MONITOR_CTL ||
		msr == MSR_IA32_BIOS_UPDT_TRIG;
}

unsigned vtx_msr_area(struct cpu *cpu, enum msr_area area)
{
	const struct vtx *v = cpu->vtx;
	uint64_t pa = vmcs_get(v, area_fields[area].address);
	uint64_t count = vmcs_get(v, area_fields[area].count);
	for (unsigned n = 1; n <= count; n++, pa += sizeof(struct vmx_msr_entry)) {
		struct vmx_msr_entry e;
		if (n > MSR_AREA_MAX || !memory_read(cpu->memory, pa, &e, sizeof e) || e.reserved ||
		    msr_forbidden(cpu, area, e.index))
			return n;
		if (area != MSR_AREA_EXIT_STORE) {
			if (!msr_write(cpu, e.index, e.value))
				return n;
			continue;
		}
		if (!msr_read(cpu, e.index, &e.value) || !memory_write(cpu->memory, pa, &e, sizeof e))
			return n;
	}
	return 0;
}

/* --- saving guest state --- */

static void save_registers(struct cpu *cpu, const struct vmx_exit *x)
{
	struct vtx *v = cpu->vtx;
	uint64_t *f = v->vmcs.f;
	f[VMCS_GUEST_CR0] = cpu->cr0;
	f[VMCS_GUEST_CR3] = cpu->cr3;
	f[VMCS_GUEST_CR4] = cpu->cr4;
	f[VMCS_GUEST_SYSENTER_CS] = (uint32_t)cpu->sysenter_cs;
	f[VMCS_GUEST_SYSENTER_ESP] = cpu->sysenter_esp;
	f[VMCS_GUEST_SYSENTER_EIP] = cpu->sysenter_eip;
	if (v->on.exit & VMX_CONTROL(EXIT_SAVE_DEBUG)) {
		f[VMCS_GUEST_DR7] = cpu->dr7;
		f[VMCS_GUEST_DEBUGCTL] = cpu->debugctl;
	}
	if (v->on.exit & VMX_CONTROL(EXIT_SAVE_PAT))
		f[VMCS_GUEST_PAT] = cpu->pat;
	if (v->on.exit & VMX_CONTROL(EXIT_SAVE_EFER))
		f[VMCS_GUEST_EFER] = cpu->efer;
	for (unsigned s = 0; s < SEG_COUNT; s++) {
		f[VMCS_GUEST_ES_SELECTOR + s] = cpu->seg[s].selector;
		f[VMCS_GUEST_ES_ACCESS_RIGHTS + s] = cpu->seg[s].access_rights;
		f[VMCS_GUEST_ES_LIMIT + s] = cpu->seg[s].limit;
		f[VMCS_GUEST_ES_BASE + s] = cpu->seg[s].base;
	}
	f[VMCS_GUEST_GDTR_BASE] = cpu->gdtr.base;
	f[VMCS_GUEST_GDTR_LIMIT] = cpu->gdtr.limit;
	f[VMCS_GUEST_IDTR_BASE] = cpu->idtr.base;
	f[VMCS_GUEST_IDTR_LIMIT] = cpu->idtr.limit;
	f[VMCS_GUEST_RSP] = cpu->r[RSP];
	f[VMCS_GUEST_RIP] = x->rip;
	f[VMCS_GUEST_RFLAGS] = (cpu_rflags(cpu) & ~FLAG_RF) | (x->rf ? FLAG_RF : 0);
	bool pae = cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE && !cpu_long_mode(cpu);
	for (unsigned n = 0; pae && vtx_ept_enabled(cpu) && n < ARRAY_SIZE(cpu->pdpte); n++)
		f[VMCS_GUEST_PDPTE0 + n] = cpu->pdpte[n];
}

/* SDM vol. 3, "Saving Non-Register State". */
static void save_nonregister(struct cpu *cpu, const struct vmx_exit *x)
{
	struct vtx *v = cpu->vtx;
	uint64_t *f = v->vmcs.f, pending = 0;
	bool virtual = v->on.pin & VMX_CONTROL(PIN_VIRTUAL_NMIS);
	f[VMCS_GUEST_ACTIVITY] = cpu->activity;
	f[VMCS_GUEST_INTERRUPTIBILITY] = (cpu->inhibit & INHIBIT_STI ? VMX_BLOCKING_STI : 0) |
		(cpu->inhibit & INHIBIT_MOV_SS ? VMX_BLOCKING_MOV_SS : 0) |
		((virtual ? v->virtual_nmi_blocked : cpu->nmi_blocked) ? VMX_BLOCKING_NMI : 0);
	if (cpu->db_trap && (x->keeps_debug || cpu->inhibit & INHIBIT_MOV_SS)) {
		pending = cpu->db_bits & (VMX_PENDING_DEBUG_B | VMX_PENDING_DEBUG_BS);
		if (pending & VMX_PENDING_DEBUG_B)
			pending |= VMX_PENDING_DEBUG_ENABLED;
	}
	f[VMCS_GUEST_PENDING_DEBUG] = pending;
	if (v->on.exit & VMX_CONTROL(EXIT_SAVE_PREEMPTION_TIMER))
		f[VMCS_PREEMPTION_TIMER] = vtx_timer_value(v);
}

/* --- exit information --- */

static void record(struct cpu *cpu, const struct vmx_exit *x)
{
	struct vtx *v = cpu->vtx;
	const struct delivery *d = &cpu->delivery;
	uint64_t *f = v->vmcs.f;
	uint8_t length = x->length;
	f[VMCS_EXIT_REASON] = x->reason;
	f[VMCS_EXIT_QUALIFICATION] = x->qualification;
	f[VMCS_EXIT_INTERRUPTION_INFO] = x->interruption_info;
	f[VMCS_EXIT_INTERRUPTION_ERROR] = x->interruption_error;
	f[VMCS_IDT_VECTORING_INFO] = f[VMCS_IDT_VECTORING_ERROR] = 0;
	if (x->during_delivery) {
		f[VMCS_IDT_VECTORING_INFO] = VMX_INFO_VALID | d->vector |
			(uint32_t)d->type << VMX_INFO_TYPE_SHIFT |
			(d->has_error ? VMX_INFO_ERROR_CODE : 0);
		f[VMCS_IDT_VECTORING_ERROR] = d->has_error ? d->error : 0;
		length = d->insn_len;
	}
	f[VMCS_EXIT_INSTRUCTION_LENGTH] = length;
	f[VMCS_EXIT_INSTRUCTION_INFO] = v->exit_data.information;
	f[VMCS_GUEST_LINEAR_ADDRESS] = v->exit_data.linear;
	f[VMCS_GUEST_PHYSICAL_ADDRESS] = v->exit_data.physical;
	memset(&v->exit_data, 0, sizeof v->exit_data);
	f[VMCS_ENTRY_INTERRUPTION_INFO] &= ~(uint64_t)VMX_INFO_VALID;
	f[VMCS_ENTRY_CONTROLS] &= ~(uint64_t)VMX_CONTROL(ENTRY_IA32E_GUEST);
	if (cpu_long_mode(cpu))
		f[VMCS_ENTRY_CONTROLS] |= VMX_CONTROL(ENTRY_IA32E_GUEST);
}

/* --- loading host state --- */

_Noreturn void vtx_abort(struct cpu *cpu, enum vmx_abort indicator, const char *why)
{
	struct vtx *v = cpu->vtx;
	vmcs_region_abort(cpu->memory, v->pointer, indicator);
	log_line("VMX abort %u on processor %u: %s (SDM vol. 3, \"VMX Aborts\"); the processor shuts down.",
		 indicator, cpu->index, why);
	cpu->nonroot = false;
	v->operation = false;
	vtx_timer_stop(v);
	cpu_triple_fault(cpu);
}

/* SDM vol. 3, "Loading Host Segment and Descriptor-Table Registers". */
static void load_host_segments(struct cpu *cpu, bool wide)
{
	enum { CODE = 11, DATA = 3, BUSY_TSS = 11, TSS_LIMIT = 0x67, TABLE_LIMIT = 0xffff };
	static const struct {
		uint8_t segment;
		uint8_t selector, base;		/* enum vmcs_field; base VMCS_NO_FIELD: 0 */
	} data[] = {
		{ SEG_ES, VMCS_HOST_ES_SELECTOR, VMCS_NO_FIELD },
		{ SEG_SS, VMCS_HOST_SS_SELECTOR, VMCS_NO_FIELD },
		{ SEG_DS, VMCS_HOST_DS_SELECTOR, VMCS_NO_FIELD },
		{ SEG_FS, VMCS_HOST_FS_SELECTOR, VMCS_HOST_FS_BASE },
		{ SEG_GS, VMCS_HOST_GS_SELECTOR, VMCS_HOST_GS_BASE },
	};
	const struct vtx *v = cpu->vtx;
	cpu->seg[SEG_CS] = (struct segment){
		.selector = (uint16_t)vmcs_get(v, VMCS_HOST_CS_SELECTOR), .limit = UINT32_MAX,
		.access_rights = CODE | AR_S | AR_P | AR_G | (wide ? AR_L : AR_DB),
	};
	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		struct segment *s = &cpu->seg[data[n].segment];
		uint16_t selector = (uint16_t)vmcs_get(v, data[n].selector);
		*s = (struct segment){ .selector = selector, .limit = UINT32_MAX,
			.access_rights = DATA | AR_S | AR_P | AR_DB | AR_G,
			.base = data[n].base ? vmcs_get(v, data[n].base) : 0 };
		if (!selector)
			s->access_rights |= AR_UNUSABLE;
	}
	cpu->seg[SEG_TR] = (struct segment){
		.selector = (uint16_t)vmcs_get(v, VMCS_HOST_TR_SELECTOR), .limit = TSS_LIMIT,
		.base = vmcs_get(v, VMCS_HOST_TR_BASE), .access_rights = BUSY_TSS | AR_P,
	};
	cpu->seg[SEG_LDTR] = (struct segment){ .access_rights = AR_UNUSABLE };
	cpu->gdtr = (struct table_register){ vmcs_get(v, VMCS_HOST_GDTR_BASE), TABLE_LIMIT };
	cpu->idtr = (struct table_register){ vmcs_get(v, VMCS_HOST_IDTR_BASE), TABLE_LIMIT };
}

static void load_host_pdptes(struct cpu *cpu)
{
	uint64_t entry[ARRAY_SIZE(cpu->pdpte)];
	if (!(cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE) || cpu_long_mode(cpu))
		return;
	bool ok = memory_read(cpu->memory, cpu->cr3 & BITS(31, 5), entry, sizeof entry);
	for (unsigned n = 0; ok && n < ARRAY_SIZE(entry); n++)
		ok = !(entry[n] & PTE_P) ||
			!(entry[n] & (BITS(63, PHYSICAL_BITS) | BITS(8, 5) | BITS(2, 1)));
	if (!ok)
		vtx_abort(cpu, VMX_ABORT_HOST_PDPTE, "the host's PDPTEs are not valid");
	memcpy(cpu->pdpte, entry, sizeof cpu->pdpte);
}

static _Noreturn void load_host(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	bool wide = v->on.exit & VMX_CONTROL(EXIT_HOST_ADDRESS_SPACE);
	if (cpu_long_mode(cpu) && !wide)
		vtx_abort(cpu, VMX_ABORT_HOST_NOT_LONG,
			  "the guest was in IA-32e mode and \"host address-space size\" is 0");
	cpu->nonroot = false;
	cpu->cr0 = (vmcs_get(v, VMCS_HOST_CR0) & ~CR0_UNTOUCHED) | (cpu->cr0 & CR0_UNTOUCHED);
	cpu->cr3 = vmcs_get(v, VMCS_HOST_CR3) & PHYSICAL_MASK;
	cpu->cr4 = vmcs_get(v, VMCS_HOST_CR4);
	cpu->dr7 = DR7_FIXED;
	cpu->debugctl = 0;
	cpu->sysenter_cs = vmcs_get(v, VMCS_HOST_SYSENTER_CS);
	cpu->sysenter_esp = vmcs_get(v, VMCS_HOST_SYSENTER_ESP);
	cpu->sysenter_eip = vmcs_get(v, VMCS_HOST_SYSENTER_EIP);
	if (v->on.exit & VMX_CONTROL(EXIT_LOAD_EFER))
		cpu->efer = vmcs_get(v, VMCS_HOST_EFER);
	else
		cpu->efer = (cpu->efer & ~(EFER_LMA | EFER_LME)) | (wide ? EFER_LMA | EFER_LME : 0);
	if (v->on.exit & VMX_CONTROL(EXIT_LOAD_PAT))
		cpu->pat = vmcs_get(v, VMCS_HOST_PAT);
	load_host_segments(cpu, wide);
	load_host_pdptes(cpu);
	cpu->cpl = 0;
	cpu->r[RSP] = vmcs_get(v, VMCS_HOST_RSP);
	cpu->r[REG_RIP] = cpu->start_rip = vmcs_get(v, VMCS_HOST_RIP);
	cpu->activity = ACTIVITY_ACTIVE;
	cpu->inhibit = 0;
	cpu->db_trap = cpu->trap_delivery = false;
	cpu->db_bits = 0;
	cpu->delivery.active = false;
	vtx_select_translations(cpu);
	cpu_set_rflags(cpu, FLAG_FIXED);
	cpu_mode_changed(cpu);
	unsigned entry = vtx_msr_area(cpu, MSR_AREA_EXIT_LOAD);
	if (entry)
		vtx_abort(cpu, VMX_ABORT_LOAD_MSRS, "an entry of the VM-exit MSR-load area cannot be loaded");
	/* What the guest's controls held back or let through counts no more. */
	atomic_fetch_or(&cpu->events, EVENT_INTERRUPT);
	cpu_continue(cpu);
}

_Noreturn void vtx_exit_full(struct cpu *cpu, const struct vmx_exit *x)
{
	struct vtx *v = cpu->vtx;
	bool nmi = x->reason == VMX_EXIT_EXCEPTION_NMI &&
		(x->interruption_info & VMX_INFO_TYPE) >> VMX_INFO_TYPE_SHIFT == EVENT_TYPE_NMI;
	cpu->exits[x->reason]++;
	record(cpu, x);
	if (unlikely(trace_on(TRACE_VMX)))
		vtx_trace_exit(cpu, x);
	save_registers(cpu, x);
	save_nonregister(cpu, x);
	vtx_timer_stop(v);
	vtx_leave_translations(cpu);
	unsigned entry = vtx_msr_area(cpu, MSR_AREA_EXIT_STORE);
	if (entry)
		vtx_abort(cpu, VMX_ABORT_SAVE_MSRS, "an entry of the VM-exit MSR-store area cannot be saved");
	if (nmi)
		cpu->nmi_blocked = true;
	load_host(cpu);
}

_Noreturn void vtx_entry_failed(struct cpu *cpu, uint32_t reason, uint64_t qualification)
{
	struct vtx *v = cpu->vtx;
	cpu->exits[reason]++;
	v->vmcs.f[VMCS_EXIT_REASON] = reason | VMX_EXIT_REASON_ENTRY_FAILURE;
	v->vmcs.f[VMCS_EXIT_QUALIFICATION] = qualification;
	if (reason == VMX_EXIT_ENTRY_MSR_LOADING && vtx_worth_saying(++v->msr_load_failures)) {
		struct vmx_msr_entry e = { 0 };
		memory_read(cpu->memory, vmcs_get(v, VMCS_ENTRY_MSR_LOAD_ADDRESS) +
			    (qualification - 1) * sizeof e, &e, sizeof e);
		log_line("VM entry failed: entry %llu of the VM-entry MSR-load area cannot be loaded "
			 "(SDM vol. 3, \"Loading MSRs\"): MSR=%#x, reserved=%#x, value=%#llx",
			 (unsigned long long)qualification, e.index, e.reserved,
			 (unsigned long long)e.value);
	}
	trace(VMX, "cpu %u: %s, qualification %#llx", cpu->index, vmx_exit_reason_name(reason),
	      (unsigned long long)qualification);
	load_host(cpu);
}

/* --- the ways in --- */

/* RF of the saved RFLAGS for exits that are neither exceptions nor between
 * instructions ("Saving RIP, RSP, RFLAGS, and SSP"). */
static bool saved_rf(const struct cpu *cpu, uint32_t reason)
{
	bool memory = reason == VMX_EXIT_APIC_ACCESS || reason == VMX_EXIT_EPT_VIOLATION ||
		reason == VMX_EXIT_EPT_MISCONFIGURATION;
	bool now = cpu->sysflags & FLAG_RF;
	if (cpu->delivery.active)
		return now || (cpu->delivery.type == EVENT_TYPE_HARDWARE && !cpu->delivery.injected &&
			       cpu->delivery.vector != EXC_DB);
	if (memory)
		return true;
	return reason == VMX_EXIT_TASK_SWITCH && now;
}

_Noreturn void vtx_exit(struct cpu *cpu, uint32_t reason, uint64_t qualification)
{
	bool delivering = cpu->delivery.active;
	bool software = cpu->delivery.type >= EVENT_TYPE_SOFTWARE;
	struct vmx_exit x = {
		.reason = reason, .qualification = qualification,
		.rip = delivering && !software ? cpu->r[REG_RIP] : cpu->start_rip,
		.length = !delivering && cpu->current ? cpu->current->len : 0,
		.rf = saved_rf(cpu, reason), .during_delivery = delivering,
	};
	vtx_exit_full(cpu, &x);
}

_Noreturn void vtx_exit_instruction(struct cpu *cpu, const struct insn *i, uint32_t reason,
				    uint64_t qualification, uint32_t information)
{
	cpu->vtx->exit_data.information = information;
	struct vmx_exit x = {
		.reason = reason, .qualification = qualification, .rip = cpu->start_rip, .length = i->len,
	};
	vtx_exit_full(cpu, &x);
}

_Noreturn void vtx_exit_boundary(struct cpu *cpu, uint32_t reason, uint64_t qualification,
				 bool keeps_debug)
{
	struct vmx_exit x = {
		.reason = reason, .qualification = qualification, .rip = cpu->r[REG_RIP],
		.rf = cpu->sysflags & FLAG_RF, .keeps_debug = keeps_debug,
	};
	vtx_exit_full(cpu, &x);
}
