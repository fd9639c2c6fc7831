/* VM-entry checks: the functions behind the lists of checks.h. */
#include "soft/vtx/checks.h"

#include "base/log.h"

#include <stdio.h>

/* --- what the expressions use --- */

#define F(field) (c->v->vmcs.f[VMCS_##field])
#define PIN(id) (c->pin & VMX_CONTROL(PIN_##id))
#define PRIMARY(id) (c->primary & VMX_CONTROL(PRIMARY_##id))
#define SECONDARY(id) (c->secondary & VMX_CONTROL(SECONDARY_##id))
#define EXIT(id) (c->exit & VMX_CONTROL(EXIT_##id))
#define ENTRY(id) (c->entry & VMX_CONTROL(ENTRY_##id))

#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define DEBUGCTL_KNOWN (DEBUGCTL_LBR | DEBUGCTL_BTF)

static bool page_aligned(uint64_t address)
{
	return !(address & PAGE_OFFSET_MASK);
}

static bool physical(uint64_t address)
{
	return !(address & ~PHYSICAL_MASK);
}

/* Address of the last byte of an MSR area. */
static uint64_t msr_area_end(uint64_t address, uint64_t count)
{
	return address + count * sizeof(struct vmx_msr_entry) - 1;
}

static unsigned vtpr_class(const struct check_context *c)
{
	const uint8_t *vtpr = vtx_vtpr(c->v);
	return (vtpr ? host_load(vtpr, 1) : UINT8_MAX) >> 4;
}

static bool exception_has_error_code(uint8_t vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static bool software_type(uint8_t type)
{
	return type == EVENT_TYPE_SOFTWARE || type == EVENT_TYPE_PRIVILEGED_SOFTWARE ||
		type == EVENT_TYPE_SOFTWARE_EXCEPTION;
}

static bool cr0_fixed(uint64_t cr0, uint64_t fixed0)
{
	return !(fixed0 & ~cr0) && !(cr0 >> 32);
}

static bool pat_valid(uint64_t pat)
{
	for (unsigned n = 0; n < 8; n++, pat >>= 8) {
		uint8_t type = (uint8_t)pat;
		if (type > MEMORY_TYPE_UC_MINUS || type == 2 || type == 3)
			return false;
	}
	return true;
}

static uint64_t access_rights(const struct check_context *c, enum segment_register s)
{
	return c->v->vmcs.f[VMCS_GUEST_ES_ACCESS_RIGHTS + s];
}

static bool usable(const struct check_context *c, enum segment_register s)
{
	return !(access_rights(c, s) & AR_UNUSABLE);
}

static unsigned dpl(const struct check_context *c, enum segment_register s)
{
	return (access_rights(c, s) & AR_DPL) >> AR_DPL_SHIFT;
}

/* SDM vol. 3, "Checks on Guest Non-Register State": what may be injected where. */
static bool activity_admits(const struct check_context *c, uint64_t activity)
{
	bool hardware = c->type == EVENT_TYPE_HARDWARE;
	switch (activity) {
	case ACTIVITY_ACTIVE:
		return true;
	case ACTIVITY_HLT:
		return c->type == EVENT_TYPE_EXTERNAL || c->type == EVENT_TYPE_NMI ||
			c->type == EVENT_TYPE_OTHER ||
			(hardware && (c->vector == EXC_DB || c->vector == EXC_MC));
	case ACTIVITY_SHUTDOWN:
		return c->type == EVENT_TYPE_NMI || (hardware && c->vector == EXC_MC);
	default:
		return false;
	}
}

/* Is BS of the pending debug exceptions decided by TF and BTF? */
static bool bs_decided(const struct check_context *c)
{
	return F(GUEST_INTERRUPTIBILITY) & (VMX_BLOCKING_STI | VMX_BLOCKING_MOV_SS) ||
		F(GUEST_ACTIVITY) == ACTIVITY_HLT;
}

static bool single_steps(const struct check_context *c)
{
	return F(GUEST_RFLAGS) & FLAG_TF && !(F(GUEST_DEBUGCTL) & DEBUGCTL_BTF);
}

static uint64_t link_revision(const struct check_context *c)
{
	uint32_t revision;
	return vmcs_region_revision(c->v->cpu->memory, F(VMCS_LINK_POINTER), &revision) ?
		revision : UINT64_MAX;
}

static bool pdpte_valid(uint64_t pdpte)
{
	return !(pdpte & PTE_P) || !(pdpte & (BITS(63, PHYSICAL_BITS) | BITS(8, 5) | BITS(2, 1)));
}

/* --- the lists --- */

static const char *const section_title[SECTION_COUNT] = {
	[SECTION_EXECUTION] = "VM-Execution Control Fields",
	[SECTION_EXIT] = "VM-Exit Control Fields",
	[SECTION_ENTRY] = "VM-Entry Control Fields",
	[SECTION_HOST_CONTROL] = "Checks on Host Control Registers, MSRs, and SSP",
	[SECTION_HOST_SEGMENT] = "Checks on Host Segment and Descriptor-Table Registers",
	[SECTION_HOST_SPACE] = "Checks Related to Address-Space Size",
	[SECTION_GUEST_CONTROL] = "Checks on Guest Control Registers, Debug Registers, and MSRs",
	[SECTION_GUEST_SEGMENT] = "Checks on Guest Segment Registers",
	[SECTION_GUEST_TABLE] = "Checks on Guest Descriptor-Table Registers",
	[SECTION_GUEST_RIP] = "Checks on Guest RIP, RFLAGS, and SSP",
	[SECTION_GUEST_NONREGISTER] = "Checks on Guest Non-Register State",
	[SECTION_GUEST_PDPTE] = "Checks on Guest Page-Directory-Pointer-Table Entries",
};

const char *check_section_title(enum check_section section)
{
	return section_title[section];
}

#define FIELDS_1(a) VMCS_##a
#define FIELDS_2(a, b) VMCS_##a, VMCS_##b
#define FIELDS_3(a, b, d) VMCS_##a, VMCS_##b, VMCS_##d
#define FIELDS_4(a, b, d, e) VMCS_##a, VMCS_##b, VMCS_##d, VMCS_##e
#define FIELDS_PICK(a, b, d, e, macro, ...) macro
#define FIELDS(...) \
	FIELDS_PICK(__VA_ARGS__, FIELDS_4, FIELDS_3, FIELDS_2, FIELDS_1, none)(__VA_ARGS__)

const struct entry_check entry_checks[CHECK_COUNT] = {
#define X(id, in_section, text, ok, print) \
	[CHECK_##id] = { #id, text, SECTION_##in_section, { FIELDS print } },
	CONTROL_CHECKS(X)
	HOST_CHECKS(X)
	GUEST_CHECKS(X)
#undef X
};

#define X(id, section, text, ok, fields) \
	if (unlikely(!(ok))) \
		return CHECK_##id;

enum check_id check_controls(const struct check_context *c)
{
	CONTROL_CHECKS(X)
	return CHECK_PASSED;
}

enum check_id check_host(const struct check_context *c)
{
	HOST_CHECKS(X)
	return CHECK_PASSED;
}

enum check_id check_guest(const struct check_context *c)
{
	GUEST_CHECKS(X)
	return CHECK_PASSED;
}
#undef X

enum vmx_entry_failure check_qualification(enum check_id id)
{
	static const uint8_t qualification[CHECK_COUNT] = {
#define X(id, section, text, ok, fields) [CHECK_##id] = VMX_ENTRY_FAILURE_LINK_POINTER,
		LINK_POINTER_CHECKS(X)
#undef X
#define X(id, section, text, ok, fields) [CHECK_##id] = VMX_ENTRY_FAILURE_PDPTE,
		PDPTE_CHECKS(X)
#undef X
	};
	return qualification[id];
}

static void pdptes_set(struct check_context *c)
{
	const struct vtx *v = c->v;
	if (c->secondary & VMX_CONTROL(SECONDARY_EPT)) {
		for (unsigned n = 0; n < ARRAY_SIZE(c->pdpte); n++)
			c->pdpte[n] = vmcs_get(v, VMCS_GUEST_PDPTE0 + n);
		return;
	}
	uint64_t table = F(GUEST_CR3) & BITS(31, 5) & PHYSICAL_MASK;
	/* What is no memory reads as ones. */
	if (!memory_read(v->cpu->memory, table, c->pdpte, sizeof c->pdpte))
		memset(c->pdpte, 0xff, sizeof c->pdpte);
}

void check_context_set(struct check_context *c, const struct vtx *v)
{
	uint32_t info = (uint32_t)vmcs_get(v, VMCS_ENTRY_INTERRUPTION_INFO);
	c->v = v;
	c->pin = (uint32_t)F(PIN_CONTROLS);
	c->primary = (uint32_t)F(PRIMARY_CONTROLS);
	c->secondary = PRIMARY(SECONDARY) ? (uint32_t)F(SECONDARY_CONTROLS) : 0;
	c->exit = (uint32_t)F(EXIT_CONTROLS);
	c->entry = (uint32_t)F(ENTRY_CONTROLS);
	c->inject = info & VMX_INFO_VALID;
	c->has_error = info & VMX_INFO_ERROR_CODE;
	c->type = (info & VMX_INFO_TYPE) >> VMX_INFO_TYPE_SHIFT;
	c->vector = info & VMX_INFO_VECTOR;
	c->lma = v->cpu->efer & EFER_LMA;
	c->ia32e = ENTRY(IA32E_GUEST);
	c->v86 = F(GUEST_RFLAGS) & FLAG_VM;
	c->unrestricted = SECONDARY(UNRESTRICTED_GUEST);
	c->link = F(VMCS_LINK_POINTER) != VMCS_NO_POINTER;
	c->cr0_fixed0 = vtx_cr0_fixed0();
	if (c->unrestricted)
		c->cr0_fixed0 &= ~(CR0_PE | CR0_PG);
	c->pae = F(GUEST_CR0) & CR0_PG && F(GUEST_CR4) & CR4_PAE && !c->ia32e;
	if (c->pae)
		pdptes_set(c);
}

bool vtx_worth_saying(uint64_t count)
{
	while (count && count % 10 == 0)
		count /= 10;
	return count == 1;
}

void check_report(struct vtx *v, enum check_id id)
{
	const struct entry_check *e = &entry_checks[id];
	char values[256];
	int n = 0;
	v->last_failure = id;
	if (!vtx_worth_saying(++v->check_failures[id]))
		return;
	values[0] = 0;
	for (unsigned k = 0; k < CHECK_FIELDS && e->fields[k]; k++)
		n += snprintf(values + n, sizeof values - (size_t)n, "%s %s=%#llx", k ? "," : "",
			      vmcs_field_info[e->fields[k]].name,
			      (unsigned long long)vmcs_get(v, e->fields[k]));
	log_line("VM entry failed: %s (SDM vol. 3, \"%s\"):%s%s", e->what,
		 check_section_title(e->section), values,
		 v->check_failures[id] > 1 ? " (again)" : "");
}
