/* CPUID as the software processor shows it: an Intel-compatible x86-64-v3
 * processor as far as the host can execute it, whatever the host's own vendor.
 * Vector features come from what the thunks really have (thunk.h). */
#include "soft/cpu.h"
#include "soft/engine.h"
#include "soft/fpu.h"
#include "soft/thunk.h"
#include "x86/paging.h"

enum {
	LEAF_MAX = 0x16, LEAF_EXTENDED_MAX = 0x80000008u, LEAF_HYPERVISOR = 0x40000000u,
	LEAF_EXTENDED = 0x80000000u,
	/* Family 6, model 5Eh, stepping 3: a Skylake client, the plainest
	 * processor with this feature set that every hypervisor knows. */
	SIGNATURE = 0x000506e3,
};

/* Leaf 1 */
#define ECX1_VMX BIT(5)
#define ECX1_CX16 BIT(13)
#define ECX1_PCID BIT(17)
#define ECX1_X2APIC BIT(21)
#define ECX1_MOVBE BIT(22)
#define ECX1_POPCNT BIT(23)
#define ECX1_TSC_DEADLINE BIT(24)
#define ECX1_XSAVE BIT(26)
#define ECX1_OSXSAVE BIT(27)
#define ECX1_HYPERVISOR BIT(31)
/* FPU VME DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH */
#define EDX1_BASE (BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | \
	BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19))
#define EDX1_APIC BIT(9)	/* while it is enabled in IA32_APIC_BASE */
#define EDX1_HTT BIT(28)
/* Leaf 7 EBX: FSGSBASE TSC_ADJUST BMI1 SMEP BMI2 ERMS INVPCID FCS/FDS ADX SMAP CLFLUSHOPT CLWB */
#define EBX7_BASE (BIT(0) | BIT(1) | BIT(3) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(13) | BIT(19) | \
	BIT(20) | BIT(23) | BIT(24))
#define ECX7_BASE (BIT(2) | BIT(22))	/* UMIP, RDPID */
#define EDX7_BASE (BIT(4) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31))	/* FSRM, IBRS, STIBP, L1D_FLUSH, ARCH_CAP, SSBD */

static uint32_t feature_ecx(const struct cpu *cpu, const struct thunk_features *f)
{
	uint32_t v = f->leaf1_ecx | ECX1_CX16 | ECX1_PCID | ECX1_X2APIC | ECX1_MOVBE | ECX1_POPCNT |
		ECX1_TSC_DEADLINE | ECX1_XSAVE | ECX1_HYPERVISOR;
	if (cpu->cr4 & CR4_OSXSAVE)
		v |= ECX1_OSXSAVE;
	if (cpu->vtx)
		v |= ECX1_VMX;
	return v;
}

/* Level-sharing parameters of leaf 4: one row per cache. */
static const struct { uint32_t eax, ebx, ecx, edx; } caches[] = {
	{ 0x00000121, 0x01c0003f, 0x3f, 0 },	/* 32 KiB data, 8 ways */
	{ 0x00000122, 0x01c0003f, 0x3f, 0 },	/* 32 KiB instruction */
	{ 0x00000143, 0x03c0003f, 0x3ff, 0 },	/* 1 MiB unified, 16 ways */
};

static struct cpuid_result brand(uint32_t leaf)
{
	static const char text[48] = "Nestor software processor (VT-x, x86-64)";
	struct cpuid_result r;
	memcpy(&r, text + 16 * (leaf - 0x80000002u), sizeof r);
	return r;
}

struct cpuid_result cpuid_leaf(struct cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r = { 0, 0, 0, 0 };
	struct thunk_features f;
	unsigned processors = cpu->engine->engine.config.processors;
	thunk_cpuid_features(&f);
	if (leaf == LEAF_HYPERVISOR) {	/* our name, no features yet */
		memcpy(&r.ebx, "NestorNestor", 12);
		r.eax = LEAF_HYPERVISOR;
		return r;
	}
	if (leaf >= LEAF_EXTENDED ? leaf > LEAF_EXTENDED_MAX : leaf > LEAF_MAX) {
		if (leaf > LEAF_HYPERVISOR && leaf < LEAF_EXTENDED)
			return r;
		leaf = LEAF_MAX;	/* beyond the last: the last basic leaf's */
		subleaf = 0;
	}
	switch (leaf) {
	case 0:
		r.eax = LEAF_MAX;
		memcpy(&r.ebx, "Genu", 4);
		memcpy(&r.edx, "ineI", 4);
		memcpy(&r.ecx, "ntel", 4);
		break;
	case 1:
		r.eax = SIGNATURE;
		r.ebx = cpu->index << 24 | processors << 16 | 8 << 8;	/* CLFLUSH: 64 bytes */
		r.ecx = feature_ecx(cpu, &f);
		r.edx = EDX1_BASE | f.leaf1_edx |
			(lapic_base(cpu->lapic) & APIC_BASE_EN ? EDX1_APIC : 0) | (processors > 1 ? EDX1_HTT : 0);
		break;
	case 2:
		r.eax = 0x00feff01;	/* see leaf 4; no TLB details */
		break;
	case 4:
		if (subleaf < ARRAY_SIZE(caches)) {
			unsigned shift = 0;
			while (1u << shift < processors)
				shift++;
			r = (struct cpuid_result){ caches[subleaf].eax | ((1u << shift) - 1) << 26,
				caches[subleaf].ebx, caches[subleaf].ecx, caches[subleaf].edx };
		}
		break;
	case 6:
		r.eax = BIT(2);		/* ARAT: the APIC timer always runs */
		break;
	case 7:
		if (subleaf == 0) {
			r.ebx = EBX7_BASE | f.leaf7_ebx;
			r.ecx = ECX7_BASE;
			r.edx = EDX7_BASE;
		}
		break;
	case 0xb: {
		/* One thread per core; all cores in one package. */
		unsigned shift = 0;
		while (1u << shift < processors)
			shift++;
		r.ecx = subleaf & 0xff;
		r.edx = cpu->index;
		if (subleaf == 0) {
			r.ebx = 1;
			r.ecx |= 1 << 8;
		} else if (subleaf == 1) {
			r.eax = shift;
			r.ebx = processors;
			r.ecx |= 2 << 8;
		}
		break;
	}
	case 0xd:
		fpu_cpuid_0d(cpu, subleaf, &r);
		break;
	case 0x15:
		r.eax = 1;
		r.ebx = (uint32_t)(CLOCK_TSC_HZ / CLOCK_CRYSTAL_HZ);
		r.ecx = (uint32_t)CLOCK_CRYSTAL_HZ;
		break;
	case 0x16:
		r.eax = r.ebx = (uint32_t)(CLOCK_TSC_HZ / 1000000);
		r.ecx = 100;
		break;
	case 0x80000000u:
		r.eax = LEAF_EXTENDED_MAX;
		break;
	case 0x80000001u:
		r.ecx = BIT(0) | BIT(5) | BIT(8);	/* LAHF64, LZCNT, PREFETCHW */
		r.edx = BIT(20) | BIT(26) | BIT(27) | BIT(29);	/* NX, 1 GiB pages, RDTSCP, LM */
		if (cpu->mode == MODE_64)
			r.edx |= BIT(11);	/* SYSCALL */
		break;
	case 0x80000002u: case 0x80000003u: case 0x80000004u:
		r = brand(leaf);
		break;
	case 0x80000006u:
		r.ecx = 1024 << 16 | 8 << 12 | 64;	/* L2: 1 MiB, 64-byte lines */
		break;
	case 0x80000007u:
		r.edx = BIT(8);		/* invariant TSC */
		break;
	case 0x80000008u:
		r.eax = LINEAR_BITS << 8 | PHYSICAL_BITS;
		break;
	default:
		break;
	}
	return r;
}
