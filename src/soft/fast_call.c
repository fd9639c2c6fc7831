/* SYSCALL, SYSRET, SYSENTER, SYSEXIT: to the kernel and back without a gate.
 * CS and SS get fixed flat contents; no descriptor is read. */
#include "soft/transfer.h"

enum {
	FLAT_LIMIT = 0xffffffff,
	FLAT_CODE = 0xb | AR_S | AR_P | AR_G,	/* execute, read, accessed */
	FLAT_DATA = 0x3 | AR_S | AR_P | AR_G | AR_DB,	/* read, write, accessed */
	STAR_SYSCALL_SHIFT = 32, STAR_SYSRET_SHIFT = 48,
	/* Distances from the MSR's selector. */
	SYSRET_CS64 = 16, SYSRET_SS = 8, SYSCALL_SS = 8,
	SYSENTER_SS = 8, SYSEXIT_CS32 = 16, SYSEXIT_SS32 = 24, SYSEXIT_CS64 = 32, SYSEXIT_SS64 = 40,
};

static void flat_segments(struct cpu *cpu, unsigned cpl, uint32_t cs, uint32_t ss, bool code_64)
{
	uint32_t dpl = cpl << AR_DPL_SHIFT;

	cpu->seg[SEG_CS] = (struct segment){ (uint16_t)((cs & ~3u) | cpl),
		FLAT_CODE | dpl | (code_64 ? AR_L : AR_DB), FLAT_LIMIT, 0 };
	cpu->seg[SEG_SS] = (struct segment){ (uint16_t)((ss & ~3u) | cpl), FLAT_DATA | dpl, FLAT_LIMIT, 0 };
	cpu->cpl = (uint8_t)cpl;
	cpu_mode_changed(cpu);
}

void do_syscall(struct cpu *cpu, const struct insn *i)
{
	uint32_t selector = (uint32_t)(cpu->star >> STAR_SYSCALL_SHIFT);
	uint64_t flags = cpu_rflags(cpu);

	if (cpu->mode != MODE_64 || !(cpu->efer & EFER_SCE))
		raise_ud(cpu);
	cpu->r[RCX] = cpu->r[REG_RIP];
	cpu->r[R11] = flags & ~FLAG_RF;
	cpu->r[REG_RIP] = cpu->lstar;
	cpu_set_rflags(cpu, flags & ~(cpu->sfmask | FLAG_RF));
	flat_segments(cpu, 0, selector & 0xffff, (selector & 0xfffc) + SYSCALL_SS, true);
}

void do_sysret(struct cpu *cpu, const struct insn *i)
{
	uint32_t selector = (uint32_t)(cpu->star >> STAR_SYSRET_SHIFT);
	bool wide = i->size == 8;

	if (cpu->mode != MODE_64 || !(cpu->efer & EFER_SCE))
		raise_ud(cpu);
	if (cpu->cpl != 0 || (wide && !linear_canonical(cpu->r[RCX])))
		raise_gp(cpu, 0);
	cpu->r[REG_RIP] = wide ? cpu->r[RCX] : (uint32_t)cpu->r[RCX];
	cpu_set_rflags(cpu, cpu->r[R11] & FLAGS_KNOWN & ~(FLAG_RF | FLAG_VM));
	flat_segments(cpu, 3, selector + (wide ? SYSRET_CS64 : 0), selector + SYSRET_SS, wide);
}

void do_sysenter(struct cpu *cpu, const struct insn *i)
{
	uint32_t selector = (uint32_t)cpu->sysenter_cs & 0xfffc;
	bool wide = cpu_long_mode(cpu);

	if (!cpu_protected(cpu) || !selector)
		raise_gp(cpu, 0);
	cpu_set_rflags(cpu, cpu_rflags(cpu) & ~(FLAG_VM | FLAG_IF));
	cpu->r[RSP] = wide ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	cpu->r[REG_RIP] = wide ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
	flat_segments(cpu, 0, selector, selector + SYSENTER_SS, wide);
}

void do_sysexit(struct cpu *cpu, const struct insn *i)
{
	uint32_t selector = (uint32_t)cpu->sysenter_cs & 0xfffc;
	bool wide = i->size == 8;

	if (!cpu_protected(cpu) || !selector || cpu->cpl != 0 ||
	    (wide && (!linear_canonical(cpu->r[RCX]) || !linear_canonical(cpu->r[RDX]))))
		raise_gp(cpu, 0);
	cpu->r[RSP] = wide ? cpu->r[RCX] : (uint32_t)cpu->r[RCX];
	cpu->r[REG_RIP] = wide ? cpu->r[RDX] : (uint32_t)cpu->r[RDX];
	flat_segments(cpu, 3, selector + (wide ? SYSEXIT_CS64 : SYSEXIT_CS32),
		      selector + (wide ? SYSEXIT_SS64 : SYSEXIT_SS32), wide);
}
