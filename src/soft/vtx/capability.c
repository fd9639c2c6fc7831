/* What VT-x offers: the capability MSRs 480h-491h (SDM vol. 3, appendix "VMX
 * Capability Reporting Facility"), derived from the one list of controls in
 * x86/vmx.h, so that nothing is advertised that is not there. */
#include "soft/vtx/state.h"

#define CAPABILITY(v, msr) ((v)->capability[(msr) - MSR_IA32_VMX_BASIC])

/* Per control word: the bits that are 1 by default, and the MSRs that report it. */
static const struct control_word {
	uint32_t default1;
	uint32_t legacy_msr, true_msr;
} control_word[VMX_WORDS] = {
	[VMX_WORD_PIN] = { VMX_PIN_DEFAULT1, MSR_IA32_VMX_PINBASED_CTLS,
			   MSR_IA32_VMX_TRUE_PINBASED_CTLS },
	[VMX_WORD_PRIMARY] = { VMX_PRIMARY_DEFAULT1, MSR_IA32_VMX_PROCBASED_CTLS,
			       MSR_IA32_VMX_TRUE_PROCBASED_CTLS },
	[VMX_WORD_SECONDARY] = { 0, MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_PROCBASED_CTLS2 },
	[VMX_WORD_EXIT] = { VMX_EXIT_DEFAULT1, MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS },
	[VMX_WORD_ENTRY] = { VMX_ENTRY_DEFAULT1, MSR_IA32_VMX_ENTRY_CTLS,
			     MSR_IA32_VMX_TRUE_ENTRY_CTLS },
};

/* Controls that exist, by word. */
static const uint32_t implemented[VMX_WORDS] = {
#define X(word, bit, id, name) + (VMX_WORD_##word == VMX_WORD_PIN ? 1u << bit : 0)
	[VMX_WORD_PIN] = 0 VMX_CONTROLS(X),
#undef X
#define X(word, bit, id, name) + (VMX_WORD_##word == VMX_WORD_PRIMARY ? 1u << bit : 0)
	[VMX_WORD_PRIMARY] = 0 VMX_CONTROLS(X),
#undef X
#define X(word, bit, id, name) + (VMX_WORD_##word == VMX_WORD_SECONDARY ? 1u << bit : 0)
	[VMX_WORD_SECONDARY] = 0 VMX_CONTROLS(X),
#undef X
#define X(word, bit, id, name) + (VMX_WORD_##word == VMX_WORD_EXIT ? 1u << bit : 0)
	[VMX_WORD_EXIT] = 0 VMX_CONTROLS(X),
#undef X
#define X(word, bit, id, name) + (VMX_WORD_##word == VMX_WORD_ENTRY ? 1u << bit : 0)
	[VMX_WORD_ENTRY] = 0 VMX_CONTROLS(X),
#undef X
};

static uint64_t low_high(uint32_t must_be_1, uint32_t may_be_1)
{
	return must_be_1 | (uint64_t)may_be_1 << 32;
}

uint64_t vtx_cr0_fixed0(void)
{
	return CR0_PE | CR0_NE | CR0_PG;
}

uint64_t vtx_cr4_fixed0(void)
{
	return CR4_VMXE;
}

uint64_t vtx_cr4_fixed1(void)
{
	return CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
		CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_VMXE | CR4_FSGSBASE |
		CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
}

void vtx_capabilities_set(struct vtx *v)
{
	for (unsigned w = 0; w < VMX_WORDS; w++) {
		const struct control_word *c = &control_word[w];
		uint32_t may = c->default1 | implemented[w];
		CAPABILITY(v, c->legacy_msr) = low_high(c->default1, may);
		CAPABILITY(v, c->true_msr) = low_high(c->default1 & ~implemented[w], may);
	}
	CAPABILITY(v, MSR_IA32_VMX_BASIC) = VMCS_REVISION |
		PAGE_SIZE << VMX_BASIC_REGION_SIZE_SHIFT |
		(uint64_t)MEMORY_TYPE_WB << VMX_BASIC_MEMORY_TYPE_SHIFT |
		VMX_BASIC_INS_OUTS | VMX_BASIC_TRUE_CONTROLS;
	CAPABILITY(v, MSR_IA32_VMX_MISC) = PREEMPTION_TIMER_RATE | VMX_MISC_STORE_LMA |
		VMX_MISC_HLT | VMX_MISC_SHUTDOWN | VMX_MISC_WAIT_FOR_SIPI |
		(uint64_t)CR3_TARGETS << VMX_MISC_CR3_TARGETS_SHIFT;
	CAPABILITY(v, MSR_IA32_VMX_CR0_FIXED0) = vtx_cr0_fixed0();
	CAPABILITY(v, MSR_IA32_VMX_CR0_FIXED1) = UINT32_MAX;
	CAPABILITY(v, MSR_IA32_VMX_CR4_FIXED0) = vtx_cr4_fixed0();
	CAPABILITY(v, MSR_IA32_VMX_CR4_FIXED1) = vtx_cr4_fixed1();
	CAPABILITY(v, MSR_IA32_VMX_VMCS_ENUM) = (uint64_t)vmcs_highest_index() << 1;
	CAPABILITY(v, MSR_IA32_VMX_EPT_VPID_CAP) = VMX_EPT_CAP_EXECUTE_ONLY | VMX_EPT_CAP_WALK_4 |
		VMX_EPT_CAP_UC | VMX_EPT_CAP_WB | VMX_EPT_CAP_2M | VMX_EPT_CAP_1G |
		VMX_EPT_CAP_INVEPT | VMX_EPT_CAP_ACCESSED_DIRTY |
		VMX_EPT_CAP_INVEPT_SINGLE | VMX_EPT_CAP_INVEPT_ALL | VMX_VPID_CAP_INVVPID |
		VMX_VPID_CAP_ADDRESS | VMX_VPID_CAP_SINGLE | VMX_VPID_CAP_ALL |
		VMX_VPID_CAP_SINGLE_KEEP_GLOBALS;
}

uint64_t vtx_ept_vpid_capability(const struct vtx *v)
{
	return CAPABILITY(v, MSR_IA32_VMX_EPT_VPID_CAP);
}

bool vtx_msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	/* IA32_VMX_VMFUNC exists only with the "enable VM functions" control. */
	if (!cpu->vtx || msr < MSR_IA32_VMX_BASIC || msr >= MSR_IA32_VMX_VMFUNC)
		return false;
	*value = CAPABILITY(cpu->vtx, msr);
	return true;
}

bool vtx_controls_allowed(const struct vtx *v, enum vmx_control_word word, uint32_t value)
{
	uint64_t c = CAPABILITY(v, control_word[word].true_msr);
	return !((uint32_t)c & ~value) && !(value & ~(uint32_t)(c >> 32));
}

bool vtx_eptp_valid(const struct vtx *v, uint64_t eptp)
{
	enum { WALK_4 = 3 };
	uint64_t type = eptp & EPTP_MEMORY_TYPE;
	return (type == MEMORY_TYPE_UC || type == MEMORY_TYPE_WB) &&
		(eptp & EPTP_WALK_LENGTH) >> EPTP_WALK_LENGTH_SHIFT == WALK_4 &&
		!(eptp & (EPTP_RESERVED | ~PHYSICAL_MASK));
}

/* --- CR0 and CR4 in VMX operation (SDM vol. 3, "Restrictions on VMX Operation") --- */

bool vtx_cr0_allowed(const struct cpu *cpu, uint64_t value)
{
	const struct vtx *v = cpu->vtx;
	if (!v || !v->operation)
		return true;
	uint64_t fixed = vtx_cr0_fixed0();
	if (cpu->nonroot && v->on.secondary & VMX_CONTROL(SECONDARY_UNRESTRICTED_GUEST))
		fixed &= ~(CR0_PE | CR0_PG);
	return !(fixed & ~value);
}

bool vtx_cr4_allowed(const struct cpu *cpu, uint64_t value)
{
	const struct vtx *v = cpu->vtx;
	if (!v || !v->operation)
		return true;
	return !(vtx_cr4_fixed0() & ~value);
}
