/* System instructions: control and debug registers, MSRs, CPUID, time, flags
 * of privilege, HLT, TLB and cache control. */
#include "soft/system.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/flags.h"
#include "soft/operand.h"
#include "soft/thunk.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"
#include "x86/paging.h"

#include <immintrin.h>

/* Basic exit reasons that vtx_intercept() takes from here. */
enum {
	REASON_CPUID = 10, REASON_HLT = 12, REASON_INVD = 13, REASON_RDPMC = 15,
	REASON_RDTSC = 16, REASON_PAUSE = 40, REASON_RDTSCP = 51,
	REASON_WBINVD = 54, REASON_RDRAND = 57, REASON_RDSEED = 61,
};

static void need_cpl0(struct cpu *cpu)
{
	if (cpu->cpl)
		raise_gp(cpu, 0);
}

static void intercept(struct cpu *cpu, const struct insn *i, uint32_t reason)
{
	if (unlikely(cpu->nonroot))
		vtx_intercept(cpu, i, reason);
}

/* --- control registers --- */

#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | \
	CR0_CD | CR0_PG)

static uint64_t cr4_known(const struct cpu *cpu)
{
	return CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
		CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
		CR4_SMEP | CR4_SMAP | (cpu->vtx ? CR4_VMXE : 0);
}

uint64_t cr4_reserved(const struct cpu *cpu)
{
	return ~cr4_known(cpu);
}

/* The four PDPTEs, when PAE paging is (or will be) in use; false: a reserved
 * bit is set. */
bool pdptes_load(struct cpu *cpu, uint64_t cr3)
{
	uint64_t entry[4];
	for (unsigned n = 0; n < 4; n++) {
		uint64_t gpa = (cr3 & 0xffffffe0) + 8 * n;
		if (cpu->nonroot && vtx_ept_enabled(cpu)) {
			struct ept_translation t;
			ept_translate(cpu, gpa, ACCESS_READ, false, 0, false, &t);
			gpa = t.pa;
		}
		const void *host = memory_host(cpu->memory, gpa);
		entry[n] = host ? host_load(host, 8) : ~0ull;
		if (entry[n] & PTE_P && entry[n] & (BITS(63, PHYSICAL_BITS) | BITS(8, 5) | BITS(2, 1)))
			return false;
	}
	memcpy(cpu->pdpte, entry, sizeof entry);
	return true;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

void cr0_write(struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu->cr0;
	value = (value & (CR0_KNOWN | BITS(63, 32))) | CR0_ET;
	if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) || (value & CR0_NW && !(value & CR0_CD)))
		raise_gp(cpu, 0);
	if (cpu->vtx && !vtx_cr0_allowed(cpu, value))
		raise_gp(cpu, 0);
	if (!(value & CR0_PG) && old & CR0_PG &&
	    (cpu->mode == MODE_64 || cpu->cr4 & CR4_PCIDE))
		raise_gp(cpu, 0);
	if (value & CR0_PG && !(old & CR0_PG)) {
		if (cpu->efer & EFER_LME) {
			if (!(cpu->cr4 & CR4_PAE) || cpu->seg[SEG_CS].access_rights & AR_L)
				raise_gp(cpu, 0);
			if ((cpu->seg[SEG_TR].access_rights & AR_TYPE) <= 3 &&
			    !(cpu->seg[SEG_TR].access_rights & AR_UNUSABLE))
				raise_gp(cpu, 0);	/* a 16-bit TSS */
		} else if (cpu->cr4 & CR4_PAE && !pdptes_load(cpu, cpu->cr3))
			raise_gp(cpu, 0);
	} else if (pae_paging(value, cpu->cr4, cpu->efer) &&
		   (value ^ old) & (CR0_CD | CR0_NW) && !pdptes_load(cpu, cpu->cr3))
		raise_gp(cpu, 0);
	cpu->cr0 = value;
	if (cpu->efer & EFER_LME)
		cpu->efer = value & CR0_PG ? cpu->efer | EFER_LMA : cpu->efer & ~EFER_LMA;
	trace(PAGING, "cpu %u: CR0=%#llx EFER=%#llx", cpu->index, (unsigned long long)value,
	      (unsigned long long)cpu->efer);
	if ((value ^ old) & (CR0_PG | CR0_WP | CR0_PE))
		tlb_flush_vpid_current(cpu);
	cpu_mode_changed(cpu);
}

void cr3_write(struct cpu *cpu, uint64_t value)
{
	bool keep = false;
	if (cpu_long_mode(cpu)) {
		keep = value >> 63 && cpu->cr4 & CR4_PCIDE;
		if (cpu->cr4 & CR4_PCIDE)
			value &= ~BIT(63);
		if (value & BITS(63, PHYSICAL_BITS))
			raise_gp(cpu, 0);
	} else {
		value = (uint32_t)value;
		if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && !pdptes_load(cpu, value))
			raise_gp(cpu, 0);
	}
	cpu->cr3 = value;
	trace(PAGING, "cpu %u: CR3=%#llx%s", cpu->index, (unsigned long long)value, keep ? " kept" : "");
	tlb_select(cpu, keep);
}

void cr4_write(struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu->cr4;
	if (value & cr4_reserved(cpu) || (cpu->vtx && !vtx_cr4_allowed(cpu, value)))
		raise_gp(cpu, 0);
	if (cpu_long_mode(cpu) && !(value & CR4_PAE))
		raise_gp(cpu, 0);
	if (value & CR4_PCIDE && !(old & CR4_PCIDE) && (!cpu_long_mode(cpu) || cpu->cr3 & 0xfff))
		raise_gp(cpu, 0);
	if (pae_paging(cpu->cr0, value, cpu->efer) &&
	    (value ^ old) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP) && !pdptes_load(cpu, cpu->cr3))
		raise_gp(cpu, 0);
	cpu->cr4 = value;
	trace(PAGING, "cpu %u: CR4=%#llx", cpu->index, (unsigned long long)value);
	if ((value ^ old) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)) {
		tlb_flush_vpid_current(cpu);
		tlb_select(cpu, true);
	}
	cpu_mode_changed(cpu);
}

static uint64_t cr_read(struct cpu *cpu, const struct insn *i, unsigned cr, unsigned gpr)
{
	uint64_t value;
	switch (cr) {
	case 0: return cpu->nonroot ? vtx_cr_read(cpu, 0) : cpu->cr0;
	case 2: return cpu->cr2;
	case 3:
		if (cpu->nonroot)
			vtx_intercept_cr3(cpu, i, gpr, true, 0);
		return cpu->cr3;
	case 4: return cpu->nonroot ? vtx_cr_read(cpu, 4) : cpu->cr4;
	case 8:
		if (cpu->nonroot) {
			vtx_intercept_cr8(cpu, i, gpr, true);
			if (vtx_tpr_read(cpu, &value))
				return value;
		}
		return lapic_get_cr8(cpu->lapic);
	default: raise_ud(cpu);
	}
}

static void cr_write(struct cpu *cpu, const struct insn *i, unsigned cr, unsigned gpr, uint64_t value)
{
	switch (cr) {
	case 0:
		if (cpu->nonroot)
			value = vtx_cr_write(cpu, i, 0, gpr, value);
		cr0_write(cpu, value);
		break;
	case 2:
		cpu->cr2 = value;
		break;
	case 3:
		if (cpu->nonroot)
			vtx_intercept_cr3(cpu, i, gpr, false, value);
		cr3_write(cpu, value);
		break;
	case 4:
		if (cpu->nonroot)
			value = vtx_cr_write(cpu, i, 4, gpr, value);
		cr4_write(cpu, value);
		break;
	case 8:
		if (cpu->nonroot)
			vtx_intercept_cr8(cpu, i, gpr, false);
		if (value & ~15ull)
			raise_gp(cpu, 0);
		if (!cpu->nonroot || !vtx_tpr_write(cpu, value)) {
			lapic_set_cr8(cpu->lapic, (uint8_t)value);
			atomic_fetch_or(&cpu->events, EVENT_INTERRUPT);
		}
		break;
	default:
		raise_ud(cpu);
	}
}

static unsigned long_width(const struct cpu *cpu)
{
	return cpu->mode == MODE_64 ? 8 : 4;
}

static void op_mov_from_cr(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	uint64_t value = cr_read(cpu, i, i->reg[1], i->reg[0] / 8);
	operand_write(cpu, i, 0, value, long_width(cpu));
}

static void op_mov_to_cr(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	cr_write(cpu, i, i->reg[0], i->reg[1] / 8, operand_read(cpu, i, 1, long_width(cpu)));
}

static void op_clts(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	if (cpu->nonroot && !vtx_intercept_clts(cpu, i))
		return;
	cpu->cr0 &= ~CR0_TS;
}

static void op_lmsw(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	uint16_t source = (uint16_t)operand_read(cpu, i, 0, 2);
	uint64_t value;
	if (cpu->nonroot)
		value = vtx_intercept_lmsw(cpu, i, source, i->kind[0] == OPERAND_MEM ?
					   insn_linear(cpu, i, 2, false) : 0);
	else {
		const uint64_t low = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
		value = (cpu->cr0 & ~low) | (source & low) | (cpu->cr0 & CR0_PE);
	}
	cr0_write(cpu, value);
}

static void op_smsw(struct cpu *cpu, const struct insn *i)
{
	if (cpu->cr4 & CR4_UMIP && cpu->cpl)
		raise_gp(cpu, 0);
	uint64_t value = cpu->nonroot ? vtx_cr_read(cpu, 0) : cpu->cr0;
	operand_write(cpu, i, 0, value, i->kind[0] == OPERAND_MEM ? 2 : i->size);
}

static bool bind_smsw(const struct decoded *d, struct insn *out)
{
	out->size = d->op[0].size / 8;
	out->fn = op_smsw;
	return true;
}

/* --- debug registers --- */

static unsigned debug_register(struct cpu *cpu, const struct insn *i, unsigned n, unsigned gpr, bool read)
{
	if (n == 4 || n == 5) {
		if (cpu->cr4 & CR4_DE)
			raise_ud(cpu);
		n += 2;
	}
	if (n > 7)
		raise_ud(cpu);
	need_cpl0(cpu);
	if (cpu->nonroot)
		vtx_intercept_dr(cpu, i, n, gpr, read);
	if (cpu->dr7 & DR7_GD)
		raise_debug(cpu, DR6_BD);
	return n;
}

static void op_mov_from_dr(struct cpu *cpu, const struct insn *i)
{
	unsigned n = debug_register(cpu, i, i->reg[1], i->reg[0] / 8, true);
	uint64_t value = n == 6 ? cpu->dr6 : n == 7 ? cpu->dr7 : cpu->dr[n];
	operand_write(cpu, i, 0, value, long_width(cpu));
}

static void op_mov_to_dr(struct cpu *cpu, const struct insn *i)
{
	unsigned n = debug_register(cpu, i, i->reg[0], i->reg[1] / 8, false);
	uint64_t value = operand_read(cpu, i, 1, long_width(cpu));
	const uint64_t dr6_writable = 0xe00f, dr7_writable = 0xffff2bff;
	if (n >= 6 && value >> 32)
		raise_gp(cpu, 0);
	if (n == 6)
		cpu->dr6 = (value & dr6_writable) | DR6_FIXED;
	else if (n == 7)
		cpu->dr7 = (value & dr7_writable) | DR7_FIXED;
	else
		cpu->dr[n] = value;
	/* Pages with data breakpoints must leave the TLB. */
	tlb_flush_all(cpu);
	cpu_step_update(cpu);
}

bool system_bind_mov(const struct decoded *d, struct insn *out)
{
	bool to = d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && out->kind[0] == OPERAND_OTHER;
	ZydisRegisterClass class = ZydisRegisterGetClass(d->op[to ? 0 : 1].reg.value);
	if (class == ZYDIS_REGCLASS_CONTROL)
		out->fn = to ? op_mov_to_cr : op_mov_from_cr;
	else if (class == ZYDIS_REGCLASS_DEBUG)
		out->fn = to ? op_mov_to_dr : op_mov_from_dr;
	else
		return false;
	if (to)
		out->flags |= INSN_ENDS_BLOCK;
	return true;
}

/* --- CPUID, MSRs, time --- */

static void op_cpuid(struct cpu *cpu, const struct insn *i)
{
	intercept(cpu, i, REASON_CPUID);
	struct cpuid_result r = cpuid_leaf(cpu, (uint32_t)cpu->r[RAX], (uint32_t)cpu->r[RCX]);
	cpu->r[RAX] = r.eax;
	cpu->r[RBX] = r.ebx;
	cpu->r[RCX] = r.ecx;
	cpu->r[RDX] = r.edx;
}

static void op_rdmsr(struct cpu *cpu, const struct insn *i)
{
	uint64_t value;
	uint32_t msr = (uint32_t)cpu->r[RCX];
	need_cpl0(cpu);
	if (cpu->nonroot)
		vtx_intercept_msr(cpu, i, msr, false);
	bool ok = msr_read(cpu, msr, &value);
	trace(MSR, "cpu %u: RDMSR %#x -> %#llx%s", cpu->index, msr, ok ? (unsigned long long)value : 0,
	      ok ? "" : " #GP");
	if (!ok)
		raise_gp(cpu, 0);
	cpu->r[RAX] = (uint32_t)value;
	cpu->r[RDX] = value >> 32;
}

static void op_wrmsr(struct cpu *cpu, const struct insn *i)
{
	uint32_t msr = (uint32_t)cpu->r[RCX];
	uint64_t value = (uint32_t)cpu->r[RAX] | cpu->r[RDX] << 32;
	need_cpl0(cpu);
	if (cpu->nonroot)
		vtx_intercept_msr(cpu, i, msr, true);
	bool ok = msr_write(cpu, msr, value);
	trace(MSR, "cpu %u: WRMSR %#x <- %#llx%s", cpu->index, msr, (unsigned long long)value,
	      ok ? "" : " #GP");
	if (!ok)
		raise_gp(cpu, 0);
}

static uint64_t guest_tsc(struct cpu *cpu)
{
	uint64_t tsc = cpu_tsc(cpu);
	return cpu->nonroot ? vtx_tsc(cpu, tsc) : tsc;
}

static void op_rdtsc(struct cpu *cpu, const struct insn *i)
{
	if (cpu->cr4 & CR4_TSD && cpu->cpl && cpu_protected(cpu))
		raise_gp(cpu, 0);
	intercept(cpu, i, i->mnemonic == ZYDIS_MNEMONIC_RDTSCP ? REASON_RDTSCP : REASON_RDTSC);
	uint64_t tsc = guest_tsc(cpu);
	cpu->r[RAX] = (uint32_t)tsc;
	cpu->r[RDX] = tsc >> 32;
	if (i->mnemonic == ZYDIS_MNEMONIC_RDTSCP)
		cpu->r[RCX] = (uint32_t)cpu->tsc_aux;
}

static void op_rdpmc(struct cpu *cpu, const struct insn *i)
{
	if (!(cpu->cr4 & CR4_PCE) && cpu->cpl && cpu_protected(cpu))
		raise_gp(cpu, 0);
	intercept(cpu, i, REASON_RDPMC);
	raise_gp(cpu, 0);	/* there is no counter */
}

/* --- interrupts and idling --- */

static void op_hlt(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	intercept(cpu, i, REASON_HLT);
	cpu->activity = ACTIVITY_HLT;
}

static void op_pause(struct cpu *cpu, const struct insn *i)
{
	intercept(cpu, i, REASON_PAUSE);
	if (cpu->engine->engine.config.processors > 1)
		__builtin_ia32_pause();
}

static bool may_change_if(const struct cpu *cpu)
{
	return !cpu_protected(cpu) || (cpu_v86(cpu) ? cpu_iopl(cpu) == 3 : cpu->cpl <= cpu_iopl(cpu));
}

/* CLI and STI change VIF instead of IF, at CPL 3 with CR4.PVI or in
 * virtual-8086 mode with CR4.VME. */
static bool virtual_interrupts(const struct cpu *cpu)
{
	return cpu->cpl == 3 && cpu->cr4 & (cpu_v86(cpu) ? CR4_VME : CR4_PVI);
}

bool vme_virtual_flags(struct cpu *cpu, unsigned size)
{
	if (!cpu_v86(cpu) || cpu_iopl(cpu) == 3)
		return false;
	if (!(cpu->cr4 & CR4_VME) || size != 2)
		raise_gp(cpu, 0);
	return true;
}

uint64_t vme_flags_load(struct cpu *cpu, uint64_t image)
{
	const uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
	uint64_t old = cpu_rflags(cpu);
	if (image & FLAG_TF || (image & FLAG_IF && old & FLAG_VIP))
		raise_gp(cpu, 0);
	return (old & ~(mask | FLAG_RF | FLAG_VIF)) | (image & mask) | (image & FLAG_IF ? FLAG_VIF : 0);
}

static void op_cli(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	if (!may_change_if(cpu)) {
		if (virtual_interrupts(cpu)) {
			cpu->sysflags &= ~(uint32_t)FLAG_VIF;
			return;
		}
		raise_gp(cpu, 0);
	}
	cpu->sysflags &= ~(uint32_t)FLAG_IF;
}

static void op_sti(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	if (!may_change_if(cpu)) {
		if (virtual_interrupts(cpu) && !(cpu->sysflags & FLAG_VIP)) {
			cpu->sysflags |= FLAG_VIF;
			return;
		}
		raise_gp(cpu, 0);
	}
	if (cpu->sysflags & FLAG_IF)
		return;
	cpu->sysflags |= FLAG_IF;
	cpu->inhibit = INHIBIT_STI;
	atomic_fetch_or_explicit(&cpu->events, EVENT_INTERRUPT | EVENT_WINDOW, memory_order_relaxed);
}

static void op_stac_clac(struct cpu *cpu, const struct insn *i)
{
	if (cpu->cpl || !cpu_protected(cpu) || cpu_v86(cpu))
		raise_ud(cpu);
	if (i->mnemonic == ZYDIS_MNEMONIC_STAC)
		cpu->sysflags |= FLAG_AC;
	else
		cpu->sysflags &= ~(uint32_t)FLAG_AC;
	cpu_class_changed(cpu);
}

/* --- segment bases --- */

static void need_64bit(struct cpu *cpu)
{
	if (cpu->mode != MODE_64)
		raise_ud(cpu);
}

static void op_swapgs(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	need_64bit(cpu);
	need_cpl0(cpu);
	uint64_t base = cpu->seg[SEG_GS].base;
	cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
}

static enum segment_register base_segment(const struct insn *i)
{
	return i->mnemonic == ZYDIS_MNEMONIC_RDFSBASE || i->mnemonic == ZYDIS_MNEMONIC_WRFSBASE ?
		SEG_FS : SEG_GS;
}

static void op_read_base(struct cpu *cpu, const struct insn *i)
{
	need_64bit(cpu);
	if (!(cpu->cr4 & CR4_FSGSBASE))
		raise_ud(cpu);
	operand_write(cpu, i, 0, cpu->seg[base_segment(i)].base, i->size);
}

static void op_write_base(struct cpu *cpu, const struct insn *i)
{
	need_64bit(cpu);
	if (!(cpu->cr4 & CR4_FSGSBASE))
		raise_ud(cpu);
	uint64_t value = operand_read(cpu, i, 0, i->size);
	if (!linear_canonical(value))
		raise_gp(cpu, 0);
	cpu->seg[base_segment(i)].base = value;
}

/* --- TLB and caches --- */

static void op_invlpg(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	uint64_t linear = insn_offset(cpu, i);
	if (cpu->mode != MODE_64 || i->seg >= SEG_FS)
		linear += cpu->seg[i->seg].base;
	if (cpu->mode != MODE_64)
		linear = (uint32_t)linear;
	if (cpu->nonroot)
		vtx_intercept_invlpg(cpu, i, linear);
	if (linear_canonical(linear))
		tlb_flush_page(cpu, linear);
}

static void op_invpcid(struct cpu *cpu, const struct insn *i)
{
	enum { INDIVIDUAL = 0, SINGLE = 1, ALL = 2, ALL_NON_GLOBAL = 3 };
	if (!cpu_protected(cpu))
		; /* allowed in real mode */
	else if (cpu->cpl || cpu_v86(cpu))
		raise_gp(cpu, 0);
	if (cpu->nonroot)
		vtx_intercept_invpcid(cpu, i);
	uint64_t type = operand_read(cpu, i, 0, long_width(cpu));
	uint64_t at = insn_linear(cpu, i, 16, false);
	uint64_t low = linear_read(cpu, at, 8), linear = linear_read(cpu, at + 8, 8);
	uint16_t vpid = cpu->vtx ? vtx_vpid(cpu) : 0;
	uint64_t pcid = low & 0xfff;
	if (type > ALL_NON_GLOBAL || low >> 12)
		raise_gp(cpu, 0);
	if (type <= SINGLE && !(cpu->cr4 & CR4_PCIDE) && pcid)
		raise_gp(cpu, 0);
	if (type == INDIVIDUAL) {
		if (!linear_canonical(linear))
			raise_gp(cpu, 0);
		tlb_flush_address(cpu, vpid, (int)pcid, linear);
	} else
		tlb_flush_tagged(cpu, vpid, type == SINGLE ? (int)pcid : -1);
}

static void op_wbinvd(struct cpu *cpu, const struct insn *i)
{
	need_cpl0(cpu);
	intercept(cpu, i, i->mnemonic == ZYDIS_MNEMONIC_INVD ? REASON_INVD : REASON_WBINVD);
}

/* CLFLUSH and its family: caches are coherent; only the access's checks remain. */
static void op_cache_line(struct cpu *cpu, const struct insn *i)
{
	(void)linear_read_pointer(cpu, insn_linear(cpu, i, 1, false), 1);
}

static void op_fence(struct cpu *cpu, const struct insn *i)
{
	(void)i;
	(void)cpu;
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- random numbers, processor id --- */

static void random_result(struct cpu *cpu, const struct insn *i, uint64_t value, bool ok)
{
	operand_write(cpu, i, 0, ok ? value : 0, i->size);
	cpu->arith = ARITH_FIXED | (ok ? ARITH_CF : 0);
}

__attribute__((target("rdrnd"))) static bool host_random(uint64_t *value)
{
	unsigned long long v;
	bool ok = _rdrand64_step(&v);
	*value = v;
	return ok;
}

static void op_rdrand(struct cpu *cpu, const struct insn *i)
{
	uint64_t value = 0;
	intercept(cpu, i, i->mnemonic == ZYDIS_MNEMONIC_RDRAND ? REASON_RDRAND : REASON_RDSEED);
	bool ok = host_random(&value);
	random_result(cpu, i, value, ok);
}

static bool bind_random(const struct decoded *d, struct insn *out)
{
	(void)d;
	out->fn = op_rdrand;
	return thunk_host_has(THUNK_RDRAND);
}

static void op_rdpid(struct cpu *cpu, const struct insn *i)
{
	operand_write(cpu, i, 0, (uint32_t)cpu->tsc_aux, long_width(cpu));
}

static const struct insn_rule rules[] = {
	{ ZYDIS_MNEMONIC_CLTS, NULL, op_clts, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_LMSW, NULL, op_lmsw, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_SMSW, bind_smsw, NULL, 0 },
	{ ZYDIS_MNEMONIC_CPUID, NULL, op_cpuid, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_RDMSR, NULL, op_rdmsr, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_WRMSR, NULL, op_wrmsr, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_RDTSC, NULL, op_rdtsc, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_RDTSCP, NULL, op_rdtsc, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_RDPMC, NULL, op_rdpmc, 0 },
	{ ZYDIS_MNEMONIC_HLT, NULL, op_hlt, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_PAUSE, NULL, op_pause, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_CLI, NULL, op_cli, 0 },
	{ ZYDIS_MNEMONIC_STI, NULL, op_sti, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_STAC, NULL, op_stac_clac, 0 },
	{ ZYDIS_MNEMONIC_CLAC, NULL, op_stac_clac, 0 },
	{ ZYDIS_MNEMONIC_SWAPGS, NULL, op_swapgs, 0 },
	{ ZYDIS_MNEMONIC_RDFSBASE, NULL, op_read_base, 0 },
	{ ZYDIS_MNEMONIC_RDGSBASE, NULL, op_read_base, 0 },
	{ ZYDIS_MNEMONIC_WRFSBASE, NULL, op_write_base, 0 },
	{ ZYDIS_MNEMONIC_WRGSBASE, NULL, op_write_base, 0 },
	{ ZYDIS_MNEMONIC_INVLPG, NULL, op_invlpg, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_INVPCID, NULL, op_invpcid, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_WBINVD, NULL, op_wbinvd, 0 },
	{ ZYDIS_MNEMONIC_INVD, NULL, op_wbinvd, 0 },
	{ ZYDIS_MNEMONIC_CLFLUSH, NULL, op_cache_line, 0 },
	{ ZYDIS_MNEMONIC_CLFLUSHOPT, NULL, op_cache_line, 0 },
	{ ZYDIS_MNEMONIC_CLWB, NULL, op_cache_line, 0 },
	{ ZYDIS_MNEMONIC_MFENCE, NULL, op_fence, 0 },
	{ ZYDIS_MNEMONIC_LFENCE, NULL, op_fence, 0 },
	{ ZYDIS_MNEMONIC_SFENCE, NULL, op_fence, 0 },
	{ ZYDIS_MNEMONIC_RDRAND, bind_random, NULL, 0 },
	{ ZYDIS_MNEMONIC_RDSEED, bind_random, NULL, 0 },
	{ ZYDIS_MNEMONIC_RDPID, NULL, op_rdpid, 0 },
};

const struct insn_rules system_rules = { rules, ARRAY_SIZE(rules) };
