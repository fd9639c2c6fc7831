/* What a guest of the kvm engine sees in CPUID: everything KVM supports, less
 * what Nestor hides from every guest (AVX-512, AMX, protection keys, 5-level
 * paging, performance counters, MWAIT: see the table), with the topology of our
 * processors, and with the crystal of leaf 15h, which is the rate KVM's APIC
 * timer counts at. KVM's own leaves (40000000h on) pass through. */
#include "kvm/kvm.h"

#include "base/log.h"
#include "x86/registers.h"

#include <cpuid.h>
#include <errno.h>
#include <sys/ioctl.h>

enum { EAX, EBX, ECX, EDX };

enum {
	LEAF_SIGNATURE = 0x40000000,
	LEAF_LAST_INTEL = 0x15,
	LEAF_BRAND_FIRST = 0x80000002, LEAF_BRAND_LAST = 0x80000004,
	LEAF1_ECX_VMX = 1 << 5,
	LEAF1_ECX_TSC_DEADLINE = 1 << 24,
	LEAF1_ECX_HYPERVISOR = 1u << 31,
	LEAF1_EDX_HTT = 1 << 28,
	EXT1_ECX_CMP_LEGACY = 1 << 1,
	EXT1_ECX_SVM = 1 << 2,
	CACHE_TYPE_NONE = 0,
	CACHE_FIRST_SHARED_LEVEL = 3,
	TOPOLOGY_SMT = 1, TOPOLOGY_CORE = 2,
	XSAVE_HEADER_END = 576,
	TSC_RATIO_PRECISION = 100000,	/* 10 ppm */
};

#define XCR0_SHOWN (XCR0_X87 | XCR0_SSE | XCR0_AVX)
#define NO_INDEX UINT32_MAX	/* every index of the leaf */

/* Feature bits that no guest sees. */
static const struct {
	uint32_t function, index;
	unsigned reg;
	uint32_t bits;
} hidden[] = {
	{ 1, 0, ECX, 1 << 3 },	/* MONITOR */
	{ 1, 0, ECX, 1 << 15 },	/* PDCM */
	{ 1, 0, ECX, 1 << 27 },	/* OSXSAVE, which KVM derives from CR4 */
	/* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL */
	{ 7, 0, EBX, 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1u << 31 },
	{ 7, 0, EBX, 1 << 2 | 1 << 25 },	/* SGX, processor trace */
	/* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
	{ 7, 0, ECX, 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14 },
	{ 7, 0, ECX, 1 << 3 | 1 << 4 },	/* PKU, OSPKE */
	{ 7, 0, ECX, 1 << 5 },	/* WAITPKG */
	{ 7, 0, ECX, 1 << 16 },	/* LA57 */
	{ 7, 0, ECX, 1 << 30 },	/* SGX launch control */
	/* AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16 */
	{ 7, 0, EDX, 1 << 2 | 1 << 3 | 1 << 8 | 1 << 23 },
	{ 7, 0, EDX, 1 << 22 | 1 << 24 | 1 << 25 },	/* AMX BF16, TILE, INT8 */
	{ 7, 1, EAX, 1 << 5 | 1 << 21 },	/* AVX-512 BF16, AMX FP16 */
	{ 7, 1, EDX, 1 << 8 | 1 << 19 },	/* AMX COMPLEX, AVX10 */
	{ 0xd, 1, EAX, 1 << 4 },	/* XFD */
	{ 0xd, 1, ECX, UINT32_MAX },	/* supervisor state of XSAVES */
	{ 0xd, 1, EDX, UINT32_MAX },	/* supervisor state of XSAVES, high half */
	{ 0x80000001, 0, ECX, 1 << 23 | 1 << 24 | 1 << 28 },	/* AMD performance counters */
	{ 0x80000001, 0, ECX, 1 << 10 | 1 << 29 },	/* IBS, MWAITX */
};

/* Leaves that no guest sees. */
static const uint32_t hidden_leaves[] = {
	0x5 /* MONITOR */, 0xa /* performance counters */, 0xf, 0x10 /* RDT */, 0x12 /* SGX */,
	0x14 /* processor trace */, 0x1d, 0x1e /* AMX */, 0x1f /* ours is 0xb */,
	0x80000022 /* AMD performance counters */,
};

int kvm_cpuid_supported(int kvm, struct kvm_cpuid_set *set, struct error *e)
{
	set->head.nent = KVM_CPUID_ROOM;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, set))
		return error_set(e, STATUS_ENGINE,
			"KVM does not say which CPUID it supports: %s.", strerror(errno));
	/* KVM leaves the processor's name to us: the host's own. */
	for (uint32_t leaf = LEAF_BRAND_FIRST; leaf <= LEAF_BRAND_LAST; leaf++) {
		struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, leaf, 0);
		if (c && !c->eax)
			__cpuid(leaf, c->eax, c->ebx, c->ecx, c->edx);
	}
	return 0;
}

struct kvm_cpuid_entry2 *kvm_cpuid_find(struct kvm_cpuid_set *set, uint32_t function,
					uint32_t index)
{
	for (uint32_t i = 0; i < set->head.nent; i++) {
		struct kvm_cpuid_entry2 *c = &set->entry[i];
		if (c->function == function &&
		    (!(c->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || c->index == index))
			return c;
	}
	return NULL;
}

static uint32_t *register_of(struct kvm_cpuid_entry2 *c, unsigned reg)
{
	uint32_t *const at[] = { &c->eax, &c->ebx, &c->ecx, &c->edx };
	return at[reg];
}

bool kvm_cpuid_is_intel(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 0, 0);
	return c && !memcmp(&c->ebx, "Genu", 4) && !memcmp(&c->edx, "ineI", 4) &&
		!memcmp(&c->ecx, "ntel", 4);
}

bool kvm_cpuid_has_vmx(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 1, 0);
	return c && c->ecx & LEAF1_ECX_VMX;
}

bool kvm_cpuid_has_svm(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 0x80000001, 0);
	return c && c->ecx & EXT1_ECX_SVM;
}

static void drop(struct kvm_cpuid_set *set, uint32_t function, uint32_t index)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < set->head.nent; i++)
		if (set->entry[i].function != function ||
		    (index != NO_INDEX && set->entry[i].index != index))
			set->entry[kept++] = set->entry[i];
	set->head.nent = kept;
}

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid_set *set, uint32_t function, uint32_t index,
				    uint32_t flags)
{
	struct kvm_cpuid_entry2 *c;
	if (set->head.nent == KVM_CPUID_ROOM)
		panic("no room for CPUID leaf %#x", function);
	c = &set->entry[set->head.nent++];
	*c = (struct kvm_cpuid_entry2){ .function = function, .index = index, .flags = flags };
	return c;
}

/* Bits of an APIC ID that n processors need. */
static unsigned id_width(unsigned n)
{
	unsigned width = 0;
	while (1u << width < n)
		width++;
	return width;
}

void kvm_tsc_ratio(uint32_t tsc_khz, uint32_t crystal_khz, uint32_t *numerator,
		   uint32_t *denominator)
{
	uint64_t limit = UINT32_MAX / crystal_khz;
	uint64_t rest = tsc_khz, divisor = crystal_khz;
	/* The convergents of the continued fraction, until the next would be
	 * too large. */
	uint64_t n0 = 0, n1 = 1, d0 = 1, d1 = 0;
	while (divisor) {
		uint64_t whole = rest / divisor, n = whole * n1 + n0, d = whole * d1 + d0;
		if (n > limit)
			break;
		n0 = n1, n1 = n;
		d0 = d1, d1 = d;
		uint64_t next = rest % divisor;
		rest = divisor;
		divisor = next;
	}
	uint64_t shown = d1 ? n1 * crystal_khz / d1 : 0;
	uint64_t off = shown > tsc_khz ? shown - tsc_khz : tsc_khz - shown;
	bool good = off * TSC_RATIO_PRECISION <= tsc_khz;
	*numerator = good ? (uint32_t)n1 : 0;
	*denominator = good ? (uint32_t)d1 : 0;
}

static void show_crystal(struct kvm_cpuid_set *set, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *c;
	drop(set, LEAF_LAST_INTEL, NO_INDEX);
	if (!tsc_khz)
		return;
	c = add(set, LEAF_LAST_INTEL, 0, 0);
	kvm_tsc_ratio(tsc_khz, CLOCK_CRYSTAL_HZ / 1000, &c->ebx, &c->eax);
	c->ecx = CLOCK_CRYSTAL_HZ;
}

/* Only x87, SSE and AVX state; the areas of the rest, and the sizes, follow. */
static void limit_xsave(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 0xd, 0);
	uint32_t end = XSAVE_HEADER_END;
	if (!c)
		return;
	c->eax &= XCR0_SHOWN;
	c->edx = 0;
	for (uint32_t i = 2; i < 64; i++) {
		struct kvm_cpuid_entry2 *area = kvm_cpuid_find(set, 0xd, i);
		if (!area)
			continue;
		if (!(c->eax >> (i & 31) & 1) || i >= 32)
			drop(set, 0xd, i);
		else if (area->ebx + area->eax > end)
			end = area->ebx + area->eax;
		c = kvm_cpuid_find(set, 0xd, 0);
	}
	c->ecx = end;
	c->ebx = end;	/* KVM follows XCR0 with it from here on */
}

/* EAX of leaf 4 and of AMD's 8000001Dh: caches up to level 2 are a
 * processor's own, the others belong to all. */
static void share_caches(struct kvm_cpuid_set *set, uint32_t function, unsigned processors,
			 bool cores_too)
{
	uint32_t all = (1u << id_width(processors)) - 1;
	for (uint32_t i = 0; i < set->head.nent; i++) {
		struct kvm_cpuid_entry2 *c = &set->entry[i];
		if (c->function != function || (c->eax & 0x1f) == CACHE_TYPE_NONE)
			continue;
		uint32_t sharing = bits_get(c->eax, 7, 5) >= CACHE_FIRST_SHARED_LEVEL ? all : 0;
		c->eax = (c->eax & (uint32_t)BITS(13, 0)) | sharing << 14;
		if (cores_too)
			c->eax |= all << 26;
	}
}

static void set_topology(struct kvm_cpuid_set *set, unsigned processors)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 1, 0);
	struct kvm_cpuid_entry2 *maximum = kvm_cpuid_find(set, 0, 0);
	if (c) {
		c->ebx = (c->ebx & 0xff00) | processors << 16;
		c->edx &= ~(uint32_t)LEAF1_EDX_HTT;
		c->edx |= processors > 1 ? LEAF1_EDX_HTT : 0;
	}
	share_caches(set, 4, processors, true);
	drop(set, 0xb, NO_INDEX);
	if (maximum && maximum->eax >= 0xb) {
		c = add(set, 0xb, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
		c->ebx = 1;
		c->ecx = 0 | TOPOLOGY_SMT << 8;
		c = add(set, 0xb, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
		c->eax = id_width(processors);
		c->ebx = processors;
		c->ecx = 1 | TOPOLOGY_CORE << 8;
	}
	/* AMD's ways to say the same. */
	if ((c = kvm_cpuid_find(set, 0x80000001, 0))) {
		c->ecx &= ~(uint32_t)EXT1_ECX_CMP_LEGACY;
		if (!kvm_cpuid_is_intel(set) && processors > 1)
			c->ecx |= EXT1_ECX_CMP_LEGACY;
	}
	if (!kvm_cpuid_is_intel(set)) {
		if ((c = kvm_cpuid_find(set, 0x80000008, 0)))
			c->ecx = (processors - 1) | id_width(processors) << 12;
		share_caches(set, 0x8000001d, processors, false);
	}
}

static void hide_features(struct kvm_cpuid_set *set)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		struct kvm_cpuid_entry2 *c =
			kvm_cpuid_find(set, hidden[i].function, hidden[i].index);
		if (c)
			*register_of(c, hidden[i].reg) &= ~hidden[i].bits;
	}
	for (size_t i = 0; i < ARRAY_SIZE(hidden_leaves); i++)
		drop(set, hidden_leaves[i], NO_INDEX);
}

static void hide_virtualization(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *c = kvm_cpuid_find(set, 1, 0);
	if (c)
		c->ecx &= ~(uint32_t)LEAF1_ECX_VMX;
	c = kvm_cpuid_find(set, 0x80000001, 0);
	if (c)
		c->ecx &= ~(uint32_t)EXT1_ECX_SVM;
	drop(set, 0x8000000a, NO_INDEX);
}

/* Everything above Intel's leaf 15h is one of ours or nothing's. */
static void end_at_crystal(struct kvm_cpuid_set *set)
{
	struct kvm_cpuid_entry2 *maximum = kvm_cpuid_find(set, 0, 0);
	uint32_t kept = 0;
	if (maximum)
		maximum->eax = LEAF_LAST_INTEL;
	for (uint32_t i = 0; i < set->head.nent; i++)
		if (set->entry[i].function <= LEAF_LAST_INTEL ||
		    set->entry[i].function >= (uint32_t)LEAF_SIGNATURE)
			set->entry[kept++] = set->entry[i];
	set->head.nent = kept;
}

void kvm_cpuid_filter(struct kvm_cpuid_set *set, const struct kvm_cpuid_choice *choice)
{
	struct kvm_cpuid_entry2 *c;
	hide_features(set);
	if (!choice->virtualization)
		hide_virtualization(set);
	limit_xsave(set);
	if (kvm_cpuid_is_intel(set)) {
		end_at_crystal(set);
		show_crystal(set, choice->tsc_khz);
	}
	set_topology(set, choice->processors);
	if ((c = kvm_cpuid_find(set, 1, 0))) {
		c->ecx |= LEAF1_ECX_HYPERVISOR;
		c->ecx &= ~(uint32_t)LEAF1_ECX_TSC_DEADLINE;
		c->ecx |= choice->tsc_deadline ? LEAF1_ECX_TSC_DEADLINE : 0;
	}
}

void kvm_cpuid_place(struct kvm_cpuid_set *set, unsigned apic_id)
{
	for (uint32_t i = 0; i < set->head.nent; i++) {
		struct kvm_cpuid_entry2 *c = &set->entry[i];
		if (c->function == 1)
			c->ebx = (c->ebx & (uint32_t)BITS(23, 0)) | apic_id << 24;
		else if (c->function == 0xb)
			c->edx = apic_id;
		else if (c->function == 0x8000001e) {
			c->eax = apic_id;
			c->ebx = apic_id & 0xff;	/* core; one thread each */
			c->ecx = 0;		/* node 0 of 1 */
		}
	}
}
