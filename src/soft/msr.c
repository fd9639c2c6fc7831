/* Model-specific registers: one table of what exists, with how it reads and
 * what may be written (SDM vol. 4). Everything else raises #GP. */
#include "base/log.h"
#include "soft/cpu.h"
#include "soft/engine.h"
#include "soft/operand.h"
#include "soft/system.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"
#include "x86/paging.h"

/* What a plain register accepts. */
enum rule { ANY, CANONICAL, BITS_ONLY, MEMORY_TYPES };

struct plain_msr {
	uint32_t msr;
	uint16_t offset;	/* of a uint64_t in struct cpu */
	enum rule rule;
	uint64_t writable;	/* BITS_ONLY */
};

#define PLAIN(msr, field, rule, bits) { msr, offsetof(struct cpu, field), rule, bits }

static const struct plain_msr plain[] = {
	PLAIN(MSR_IA32_FEATURE_CONTROL, feature_control, BITS_ONLY, 0),	/* locked: writes #GP */
	PLAIN(MSR_IA32_SYSENTER_CS, sysenter_cs, ANY, 0),
	PLAIN(MSR_IA32_SYSENTER_ESP, sysenter_esp, CANONICAL, 0),
	PLAIN(MSR_IA32_SYSENTER_EIP, sysenter_eip, CANONICAL, 0),
	PLAIN(MSR_IA32_MISC_ENABLE, misc_enable, ANY, 0),
	PLAIN(MSR_IA32_DEBUGCTL, debugctl, BITS_ONLY, 3),
	PLAIN(MSR_IA32_PAT, pat, MEMORY_TYPES, 0),
	PLAIN(MSR_IA32_MTRR_DEF_TYPE, mtrr_def_type, BITS_ONLY, 0xcff),
	PLAIN(MSR_IA32_MCG_STATUS, mcg_status, BITS_ONLY, 7),
	PLAIN(MSR_STAR, star, ANY, 0),
	PLAIN(MSR_LSTAR, lstar, CANONICAL, 0),
	PLAIN(MSR_CSTAR, cstar, CANONICAL, 0),
	PLAIN(MSR_SFMASK, sfmask, BITS_ONLY, UINT32_MAX),
	PLAIN(MSR_FS_BASE, seg[SEG_FS].base, CANONICAL, 0),
	PLAIN(MSR_GS_BASE, seg[SEG_GS].base, CANONICAL, 0),
	PLAIN(MSR_KERNEL_GS_BASE, kernel_gs_base, CANONICAL, 0),
	PLAIN(MSR_TSC_AUX, tsc_aux, BITS_ONLY, UINT32_MAX),
	PLAIN(MSR_IA32_SPEC_CTRL, spec_ctrl, BITS_ONLY, 0x7),
	PLAIN(MSR_IA32_BIOS_SIGN_ID, bios_sign_id, ANY, 0),
	PLAIN(MSR_MISC_FEATURES_ENABLES, misc_features, BITS_ONLY, 0),
	PLAIN(MSR_IA32_XSS, xss, BITS_ONLY, 0),
};

/* Constants: readable, and writable only where the value is ignored. */
static const struct { uint32_t msr; uint64_t value; bool ignore_writes; } constant[] = {
	{ MSR_IA32_PLATFORM_ID, 0, false },
	{ MSR_IA32_MTRRCAP, 8 | BIT(8) | BIT(10), false },	/* 8 ranges, fixed, WC */
	{ MSR_IA32_MCG_CAP, 0, false },		/* no banks */
	{ MSR_IA32_MCG_CTL, 0, true },
	{ MSR_IA32_BIOS_UPDT_TRIG, 0, true },
	{ MSR_IA32_PERF_STATUS, 0, false },
	{ MSR_IA32_THERM_STATUS, 0, true },
	{ MSR_IA32_ENERGY_PERF_BIAS, 0, true },
	{ MSR_PLATFORM_INFO, CLOCK_TSC_HZ / 100000000 << 8, false },
	/* RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO,
	 * SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO */
	{ MSR_IA32_ARCH_CAPABILITIES, BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) |
		BIT(13) | BIT(14) | BIT(15) | BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62), false },
};

static bool memory_types_valid(uint64_t v, bool pat)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned type = v >> (8 * n) & 0xff;
		if (type > 7 || type == 2 || type == 3 || (type == 7 && !pat))
			return false;
	}
	return true;
}

static const struct plain_msr *plain_find(uint32_t msr)
{
	for (unsigned n = 0; n < ARRAY_SIZE(plain); n++)
		if (plain[n].msr == msr)
			return &plain[n];
	return NULL;
}

/* Fixed-range MTRRs, in the order of their addresses. */
static int mtrr_fixed_index(uint32_t msr)
{
	if (msr == MSR_IA32_MTRR_FIX64K_00000)
		return 0;
	if (msr == MSR_IA32_MTRR_FIX16K_80000 || msr == MSR_IA32_MTRR_FIX16K_A0000)
		return 1 + (int)(msr - MSR_IA32_MTRR_FIX16K_80000);
	if (msr >= MSR_IA32_MTRR_FIX4K_C0000 && msr <= MSR_IA32_MTRR_FIX4K_F8000)
		return 3 + (int)(msr - MSR_IA32_MTRR_FIX4K_C0000);
	return -1;
}

static uint64_t *mtrr_variable(struct cpu *cpu, uint32_t msr)
{
	unsigned n = msr - MSR_IA32_MTRR_PHYSBASE0;
	if (n >= 2 * ARRAY_SIZE(cpu->mtrr_base))
		return NULL;
	return n & 1 ? &cpu->mtrr_mask[n / 2] : &cpu->mtrr_base[n / 2];
}

static bool is_lapic(uint32_t msr)
{
	return msr == MSR_IA32_APIC_BASE || msr == MSR_IA32_TSC_DEADLINE ||
		(msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

bool msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	const struct plain_msr *p = plain_find(msr);
	uint64_t *variable;
	int fixed;
	if (p) {
		*value = *(uint64_t *)((char *)cpu + p->offset);
		return true;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(constant); n++)
		if (constant[n].msr == msr) {
			*value = constant[n].value;
			return true;
		}
	if (is_lapic(msr))
		return lapic_msr_read(cpu->lapic, msr, value);
	if (msr >= MSR_IA32_VMX_BASIC && msr <= MSR_IA32_VMX_VMFUNC)
		return cpu->vtx && vtx_msr_read(cpu, msr, value);
	if ((fixed = mtrr_fixed_index(msr)) >= 0) {
		*value = cpu->mtrr_fixed[fixed];
		return true;
	}
	if ((variable = mtrr_variable(cpu, msr))) {
		*value = *variable;
		return true;
	}
	switch (msr) {
	case MSR_EFER:
		*value = cpu->efer;
		return true;
	case MSR_IA32_TSC:
		*value = cpu_tsc(cpu);
		if (cpu->nonroot)
			*value = vtx_tsc(cpu, *value);
		return true;
	case MSR_IA32_TSC_ADJUST:
		*value = cpu->tsc_adjust;
		return true;
	default:
		return false;
	}
}

static bool efer_write(struct cpu *cpu, uint64_t value)
{
	const uint64_t known = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	if (value & ~known)
		return false;
	if ((value ^ cpu->efer) & EFER_LME && cpu->cr0 & CR0_PG)
		return false;
	uint64_t old = cpu->efer;
	cpu->efer = (value & ~EFER_LMA) | (old & EFER_LMA);
	if ((cpu->efer ^ old) & EFER_NXE)
		tlb_flush_vpid_current(cpu);
	cpu_mode_changed(cpu);
	return true;
}

static void tsc_offset_set(struct cpu *cpu, uint64_t offset)
{
	cpu->tsc_offset = offset;
	lapic_set_tsc_offset(cpu->lapic, offset);
}

bool msr_write(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	const struct plain_msr *p = plain_find(msr);
	uint64_t *variable;
	int fixed;
	if (p) {
		switch (p->rule) {
		case CANONICAL:
			if (!linear_canonical(value))
				return false;
			break;
		case BITS_ONLY:
			if (value & ~p->writable || msr == MSR_IA32_FEATURE_CONTROL ||
			    (msr == MSR_IA32_MTRR_DEF_TYPE && !memory_types_valid(value & 0xff, false)))
				return false;
			break;
		case MEMORY_TYPES:
			if (!memory_types_valid(value, true))
				return false;
			break;
		case ANY:
			break;
		}
		*(uint64_t *)((char *)cpu + p->offset) = value;
		return true;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(constant); n++)
		if (constant[n].msr == msr)
			return constant[n].ignore_writes;
	if (is_lapic(msr)) {
		bool ok = lapic_msr_write(cpu->lapic, msr, value);
		if (ok && msr == MSR_IA32_APIC_BASE)
			tlb_flush_all(cpu);	/* the page that is its own moved */
		return ok;
	}
	if ((fixed = mtrr_fixed_index(msr)) >= 0) {
		if (!memory_types_valid(value, false))
			return false;
		cpu->mtrr_fixed[fixed] = value;
		return true;
	}
	if ((variable = mtrr_variable(cpu, msr))) {
		bool mask = msr & 1;
		if (value & BITS(63, PHYSICAL_BITS) || value & (mask ? 0x7ff : 0xf00) ||
		    (!mask && !memory_types_valid(value & 0xff, false)))
			return false;
		*variable = value;
		return true;
	}
	switch (msr) {
	case MSR_EFER:
		return efer_write(cpu, value);
	case MSR_IA32_TSC: {
		uint64_t change = value - cpu_tsc(cpu);
		cpu->tsc_adjust += change;
		tsc_offset_set(cpu, cpu->tsc_offset + change);
		return true;
	}
	case MSR_IA32_TSC_ADJUST:
		tsc_offset_set(cpu, cpu->tsc_offset + value - cpu->tsc_adjust);
		cpu->tsc_adjust = value;
		return true;
	case MSR_IA32_PRED_CMD:		/* IBPB: nothing is predicted here */
		return !(value & ~1ull);
	case MSR_IA32_FLUSH_CMD:
		return !(value & ~1ull);
	default:
		return false;
	}
}
