/* A software processor's whole state: reset, RFLAGS, what is derived from the
 * control registers, exchange with struct processor_state, save and load. */
#include "soft/cpu.h"

#include "base/log.h"
#include "soft/block.h"
#include "soft/engine.h"
#include "soft/flags.h"
#include "soft/fpu.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"

uint64_t cpu_rflags(const struct cpu *cpu)
{
	return cpu->sysflags | FLAG_FIXED | arith_to_flags(cpu->arith);
}

void cpu_set_rflags(struct cpu *cpu, uint64_t rflags)
{
	uint32_t old = cpu->sysflags;
	cpu->arith = arith_from_flags((uint32_t)rflags);
	cpu->sysflags = (uint32_t)(rflags & FLAGS_KNOWN & ~FLAGS_ARITH);
	cpu_flags_changed(cpu, old);
}

void cpu_flags_changed(struct cpu *cpu, uint32_t old)
{
	uint32_t set = cpu->sysflags & ~old, changed = cpu->sysflags ^ old;
	if (set & FLAG_IF)
		atomic_fetch_or_explicit(&cpu->events, EVENT_INTERRUPT | EVENT_WINDOW,
					 memory_order_relaxed);
	if (changed & FLAG_AC)
		cpu_class_changed(cpu);
	if (changed & FLAG_TF || set & FLAG_RF)
		cpu_step_update(cpu);
}

void cpu_class_changed(struct cpu *cpu)
{
	tlb_class_select(cpu);
}

void cpu_step_update(struct cpu *cpu)
{
	bool breakpoints = false;
	for (unsigned n = 0; n < 4; n++)
		breakpoints |= cpu->dr7 >> (2 * n) & 3;	/* data breakpoints trap right after theirs */
	cpu->step = (cpu->sysflags & FLAG_TF ? STEP_TF : 0) |
		(cpu->sysflags & FLAG_RF ? STEP_RF : 0) |	/* RF is cleared after one */
		(breakpoints ? STEP_BREAKPOINTS : 0) |
		(cpu->nonroot && vtx_wants_step(cpu) ? STEP_MTF : 0);
}

void cpu_mode_changed(struct cpu *cpu)
{
	const struct segment *cs = &cpu->seg[SEG_CS];
	if (cpu_long_mode(cpu) && cs->access_rights & AR_L)
		cpu->mode = MODE_64;
	else if (cpu_protected(cpu) && !cpu_v86(cpu))
		cpu->mode = cs->access_rights & AR_DB ? MODE_32 : MODE_16;
	else
		cpu->mode = MODE_16;
	for (unsigned s = 0; s < ARRAY_SIZE(cpu->bounds); s++)
		segment_bounds_update(cpu, s);
	cpu_class_changed(cpu);
	cpu_step_update(cpu);
}

void cpu_notify(struct cpu *cpu, uint32_t events)
{
	atomic_fetch_or(&cpu->events, events);
	pthread_cond_signal(&cpu->wake);
}

uint64_t cpu_tsc(struct cpu *cpu)
{
	return scale_u64(clock_now(cpu->engine->engine.host.clock), CLOCK_TSC_HZ, NS_PER_SECOND) +
		cpu->tsc_offset;
}

static void msrs_reset(struct cpu *cpu)
{
	enum { MTRR_FIXED_WB = 0x06, MISC_FAST_STRINGS = 1 };
	cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = cpu->kernel_gs_base = cpu->tsc_aux = 0;
	cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
	cpu->pat = 0x0007040600070406ull;
	cpu->misc_enable = MISC_FAST_STRINGS | BIT(11) | BIT(12);	/* no BTS, no PEBS */
	/* As firmware leaves it: locked; VMX outside SMX when it is there. */
	cpu->feature_control = BIT(0) | (cpu->vtx ? BIT(2) : 0);
	cpu->spec_ctrl = cpu->debugctl = cpu->misc_features = 0;
	cpu->mtrr_def_type = 0xc06;	/* enabled, fixed ranges enabled, write-back */
	for (unsigned n = 0; n < ARRAY_SIZE(cpu->mtrr_fixed); n++)
		cpu->mtrr_fixed[n] = MTRR_FIXED_WB * 0x0101010101010101ull;
	cpu->mtrr_fixed[2] = 0;		/* A0000h-BFFFFh: uncached */
	memset(cpu->mtrr_base, 0, sizeof cpu->mtrr_base);
	memset(cpu->mtrr_mask, 0, sizeof cpu->mtrr_mask);
	cpu->mcg_status = 0;
	memset(cpu->mc_bank, 0, sizeof cpu->mc_bank);
	/* The PCI hole below 4 GiB is uncached. */
	cpu->mtrr_base[0] = MEMORY_LOW_MAX;
	cpu->mtrr_mask[0] = 0xffc0000000ull | BIT(11);
	cpu->tsc_offset = cpu->tsc_adjust = 0;
}

void cpu_reset(struct cpu *cpu, bool init)
{
	struct processor_state p;
	processor_state_reset(&p);
	if (init)	/* CD and NW are unchanged by INIT */
		p.cr0 = (p.cr0 & ~(CR0_CD | CR0_NW)) | (cpu->cr0 & (CR0_CD | CR0_NW));
	else {
		msrs_reset(cpu);
		cpu->xcr0 = XCR0_X87;
		cpu->xss = 0;
		fpu_reset(cpu, init);
	}
	cpu->r[REG_ZERO] = 0;
	cpu->nonroot = false;
	cpu->dr6 = DR6_FIXED;
	cpu->dr7 = DR7_FIXED;
	memset(cpu->dr, 0, sizeof cpu->dr);
	cpu->inhibit = 0;
	cpu->nmi_blocked = cpu->nmi_pending = false;
	cpu->db_trap = false;
	cpu->db_bits = 0;
	cpu->delivery.active = false;
	if (cpu->vtx)
		vtx_reset(cpu, init);
	tlb_flush_all(cpu);
	cpu_set_state(cpu, &p);
	cpu->r[RDX] = cpuid_leaf(cpu, 1, 0).eax;	/* the signature */
	cpu->activity = ACTIVITY_ACTIVE;
}

void cpu_set_state(struct cpu *cpu, const struct processor_state *p)
{
	memcpy(cpu->r, p->gpr, sizeof p->gpr);
	cpu->r[REG_RIP] = cpu->start_rip = p->rip;
	memcpy(cpu->seg, p->seg, sizeof p->seg);
	cpu->gdtr = p->gdtr;
	cpu->idtr = p->idtr;
	cpu->cr0 = p->cr0;
	cpu->cr2 = p->cr2;
	cpu->cr3 = p->cr3;
	cpu->cr4 = p->cr4;
	cpu->efer = p->efer;
	cpu->cpl = p->cr0 & CR0_PE ? (p->seg[SEG_SS].access_rights & AR_DPL) >> AR_DPL_SHIFT : 0;
	if (p->rflags & FLAG_VM)
		cpu->cpl = 3;
	tlb_select(cpu, false);
	cpu_set_rflags(cpu, p->rflags);
	cpu_mode_changed(cpu);
}

void cpu_get_state(const struct cpu *cpu, struct processor_state *p)
{
	memcpy(p->gpr, cpu->r, sizeof p->gpr);
	p->rip = cpu->r[REG_RIP];
	p->rflags = cpu_rflags(cpu);
	memcpy(p->seg, cpu->seg, sizeof p->seg);
	p->gdtr = cpu->gdtr;
	p->idtr = cpu->idtr;
	p->cr0 = cpu->cr0;
	p->cr2 = cpu->cr2;
	p->cr3 = cpu->cr3;
	p->cr4 = cpu->cr4;
	p->cr8 = lapic_get_cr8(cpu->lapic);
	p->efer = cpu->efer;
}

/* The fields of a saved state, in their order. */
#define CPU_FIELDS(X) \
	X(arith) X(sysflags) X(inhibit) X(cpl) X(nonroot) X(cr0) X(cr2) X(cr3) X(cr4) X(efer) \
	X(xcr0) X(xss) X(dr6) X(dr7) X(db_trap) X(db_bits) X(mxcsr) X(star) X(lstar) X(cstar) \
	X(sfmask) X(kernel_gs_base) X(tsc_aux) X(sysenter_cs) X(sysenter_esp) X(sysenter_eip) X(pat) \
	X(misc_enable) X(feature_control) X(spec_ctrl) X(debugctl) X(misc_features) X(mtrr_def_type) \
	X(mcg_status) X(bios_sign_id) X(tsc_adjust) X(tsc_offset) X(activity) X(nmi_blocked) \
	X(nmi_pending) X(init_pending) X(sipi_vector) X(extint)
#define CPU_ARRAYS(X) \
	X(r) X(dr) X(pdpte) X(mtrr_fixed) X(mtrr_base) X(mtrr_mask) X(mc_bank)

static void exchange(struct cpu *cpu, struct state *s)
{
#define X(f) state_field(s, cpu->f);
	CPU_FIELDS(X)
#undef X
#define X(f) state_array(s, cpu->f);
	CPU_ARRAYS(X)
#undef X
	for (unsigned n = 0; n < SEG_COUNT; n++) {
		state_field(s, cpu->seg[n].selector);
		state_field(s, cpu->seg[n].access_rights);
		state_field(s, cpu->seg[n].limit);
		state_field(s, cpu->seg[n].base);
	}
	state_field(s, cpu->gdtr.base);
	state_field(s, cpu->gdtr.limit);
	state_field(s, cpu->idtr.base);
	state_field(s, cpu->idtr.limit);
}

void cpu_save(struct cpu *cpu, struct state *s)
{
	state_section(s, "processor", 1);
	exchange(cpu, s);
	fpu_save(cpu, s);
	lapic_save(cpu->lapic, s);
	if (cpu->vtx)
		vtx_save(cpu, s);
}

int cpu_load(struct cpu *cpu, struct state *s, struct error *e)
{
	if (!state_open(s, "processor"))
		return state_finish(s, "processor", e);
	exchange(cpu, s);
	cpu->r[REG_ZERO] = 0;
	if (state_finish(s, "processor", e) || fpu_load(cpu, s, e) || lapic_load(cpu->lapic, s, e) ||
	    (cpu->vtx && vtx_load(cpu, s, e)))
		return -1;
	tlb_flush_all(cpu);
	tlb_select(cpu, false);
	cpu_mode_changed(cpu);
	return 0;
}
