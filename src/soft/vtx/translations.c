/* Which translations live over a VM entry or exit (SDM vol. 3, "VMX Support for
 * Address Translation").
 *
 * Without VPID an entry and an exit invalidate everything of VPID 0, the
 * hypervisor's own included. With VPID nothing need go; but what our TLB keeps
 * is the outcome of a walk, rights already judged under CR0.WP, CR4.SMEP and
 * the like, where the architecture judges them at each access. So we remember,
 * per VPID, the bits that it was judged under, and drop a VPID's translations
 * when it begins to run under others. */
#include "soft/vtx/state.h"

static uint64_t regime_bits(const struct cpu *cpu)
{
	/* CR4's bits go up by 32 and EFER's by 44, so that none meet. */
	enum { CR4_SHIFT = 32, EFER_SHIFT = 44 };
	return (cpu->cr0 & (CR0_PG | CR0_WP)) |
		(cpu->cr4 & (CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP)) << CR4_SHIFT |
		(cpu->efer & (EFER_LMA | EFER_NXE)) << EFER_SHIFT;
}

void vtx_leave_translations(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	uint16_t vpid = vtx_vpid(cpu);
	v->regime[vpid % REGIMES].vpid = vpid;
	v->regime[vpid % REGIMES].regime = (struct paging_regime){ regime_bits(cpu), true };
}

void vtx_select_translations(struct cpu *cpu)
{
	enum { ALL_PCIDS = -1 };
	struct vtx *v = cpu->vtx;
	uint16_t vpid = vtx_vpid(cpu);
	bool same = v->regime[vpid % REGIMES].vpid == vpid &&
		v->regime[vpid % REGIMES].regime.known &&
		v->regime[vpid % REGIMES].regime.bits == regime_bits(cpu);
	if (!(v->on.secondary & VMX_CONTROL(SECONDARY_VPID)))
		tlb_flush_tagged(cpu, 0, ALL_PCIDS);
	else if (!same)
		tlb_flush_tagged(cpu, vpid, ALL_PCIDS);
	tlb_select(cpu, true);
}
