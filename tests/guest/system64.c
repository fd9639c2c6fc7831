/* CPUID against what executes, MSRs, CR4's switches, self-modifying code. */
#include "rt/rt.h"

const char chapter[] = "processor";
#define NONCANONICAL 0x800000000000ul

void chapter_setup(void) { }

static bool bit(uint32_t leaf, char reg, unsigned n)
{
	struct cpuid c = cpuid(leaf, 0);
	return (reg == 'a' ? c.a : reg == 'b' ? c.b : reg == 'c' ? c.c : c.d) >> n & 1;
}

/* --- each feature executes when advertised and is #UD when not --- */
static uint8_t area[4096] __attribute__((aligned(64)));

static void vectors_on(void)
{
	set_cr0((cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP);
	set_cr4(cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE * bit(7, 'b', 0));
	if (bit(1, 'c', 26)) {
		set_cr4(cr4() | CR4_OSXSAVE);
		struct cpuid d = cpuid(13, 0);
		asm volatile("xsetbv" :: "c"(0), "a"(d.a & 7), "d"(0));
	}
}

/* RDI and RSI point to an area, RAX RCX RDX are 0. */
static int execute(const uint8_t *code, unsigned n)
{
	static uint8_t buffer[32];
	memory_fill(area, 0, 64);
	memory_copy(buffer, code, n);
	buffer[n] = 0xc3;
	return CATCH(asm volatile("call *%%r8" :: "r"(buffer) , "D"(area), "S"(area), "a"(0), "c"(0), "d"(0) : "memory",
		     "rbx", "r9", "r10", "r11"));
}

#define CODE(...) { __VA_ARGS__ }, sizeof (uint8_t[]) { __VA_ARGS__ }
static const struct feature {
	const char *name;
	uint32_t leaf;
	char reg;
	unsigned bit;
	uint8_t code[16];
	unsigned length;
} features[] = {
	{ "SSE3 haddps", 1, 'c', 0, CODE(0xf2, 0x0f, 0x7c, 0xc1) },
	{ "PCLMULQDQ", 1, 'c', 1, CODE(0x66, 0x0f, 0x3a, 0x44, 0xc1, 0) },
	{ "MONITOR", 1, 'c', 3, CODE(0x48, 0x89, 0xf8, 0x0f, 0x01, 0xc8) },
	{ "SSSE3 pshufb", 1, 'c', 9, CODE(0x66, 0x0f, 0x38, 0x00, 0xc1) },
	{ "FMA vfmadd132ps", 1, 'c', 12, CODE(0xc4, 0xe2, 0x71, 0x98, 0xc2) },
	{ "CMPXCHG16B", 1, 'c', 13, CODE(0x48, 0x0f, 0xc7, 0x0f) },
	{ "SSE4.1 ptest", 1, 'c', 19, CODE(0x66, 0x0f, 0x38, 0x17, 0xc1) },
	{ "SSE4.2 crc32", 1, 'c', 20, CODE(0xf2, 0x0f, 0x38, 0xf0, 0xc1) },
	{ "SSE4.2 pcmpgtq", 1, 'c', 20, CODE(0x66, 0x0f, 0x38, 0x37, 0xc1) },
	{ "MOVBE", 1, 'c', 22, CODE(0x0f, 0x38, 0xf0, 0x07) },
	{ "POPCNT", 1, 'c', 23, CODE(0xf3, 0x0f, 0xb8, 0xc1) },
	{ "AES aesenc", 1, 'c', 25, CODE(0x66, 0x0f, 0x38, 0xdc, 0xc1) },
	{ "XGETBV", 1, 'c', 26, CODE(0x0f, 0x01, 0xd0) },
	{ "AVX vaddps", 1, 'c', 28, CODE(0xc5, 0xf4, 0x58, 0xc1) },
	{ "AVX vaddps 128", 1, 'c', 28, CODE(0xc5, 0xf0, 0x58, 0xc1) },
	{ "F16C vcvtph2ps", 1, 'c', 29, CODE(0xc4, 0xe2, 0x79, 0x13, 0xc1) },
	{ "RDRAND", 1, 'c', 30, CODE(0x0f, 0xc7, 0xf0) },
	{ "x87 fld1", 1, 'd', 0, CODE(0xdb, 0xe3, 0xd9, 0xe8) },
	{ "RDTSC", 1, 'd', 4, CODE(0x0f, 0x31) },
	{ "CMPXCHG8B", 1, 'd', 8, CODE(0x0f, 0xc7, 0x0f) },
	{ "CMOV", 1, 'd', 15, CODE(0x0f, 0x44, 0xc1) },
	{ "CLFLUSH", 1, 'd', 19, CODE(0x0f, 0xae, 0x3f) },
	{ "MMX paddb", 1, 'd', 23, CODE(0x0f, 0xfc, 0xc1, 0x0f, 0x77) },
	{ "FXSAVE", 1, 'd', 24, CODE(0x0f, 0xae, 0x07) },
	{ "SSE addps", 1, 'd', 25, CODE(0x0f, 0x58, 0xc1) },
	{ "SSE2 addpd", 1, 'd', 26, CODE(0x66, 0x0f, 0x58, 0xc1) },
	{ "FSGSBASE", 7, 'b', 0, CODE(0xf3, 0x48, 0x0f, 0xae, 0xc0) },
	{ "BMI1 andn", 7, 'b', 3, CODE(0xc4, 0xe2, 0x70, 0xf2, 0xc0) },
	{ "RTM xbegin", 7, 'b', 11, CODE(0xc7, 0xf8, 0, 0, 0, 0, 0x0f, 0x01, 0xd5) },
	{ "RTM xend", 7, 'b', 11, CODE(0x0f, 0x01, 0xd6) },	/* XTEST */
	{ "AVX2 vpaddb", 7, 'b', 5, CODE(0xc5, 0xf5, 0xfc, 0xc1) },
	{ "BMI2 pdep", 7, 'b', 8, CODE(0xc4, 0xe2, 0x73, 0xf5, 0xc0) },
	{ "INVPCID", 7, 'b', 10, CODE(0x66, 0x0f, 0x38, 0x82, 0x07) },
	{ "AVX-512F vaddps", 7, 'b', 16, CODE(0x62, 0xf1, 0x74, 0x48, 0x58, 0xc1) },
	{ "RDSEED", 7, 'b', 18, CODE(0x0f, 0xc7, 0xf8) },
	{ "ADX adcx", 7, 'b', 19, CODE(0x66, 0x0f, 0x38, 0xf6, 0xc1) },
	{ "CLAC", 7, 'b', 20, CODE(0x0f, 0x01, 0xca) },
	{ "CLFLUSHOPT", 7, 'b', 23, CODE(0x66, 0x0f, 0xae, 0x3f) },
	{ "CLWB", 7, 'b', 24, CODE(0x66, 0x0f, 0xae, 0x37) },
	{ "SHA sha1nexte", 7, 'b', 29, CODE(0x0f, 0x38, 0xc8, 0xc1) },
	{ "RDPKRU", 7, 'c', 4, CODE(0x0f, 0x01, 0xee) },
	{ "WAITPKG tpause", 7, 'c', 5, CODE(0x66, 0x0f, 0xae, 0xf0) },
	{ "GFNI gf2p8mulb", 7, 'c', 8, CODE(0x66, 0x0f, 0x38, 0xcf, 0xc1) },
	{ "VAES ymm", 7, 'c', 9, CODE(0xc4, 0xe2, 0x75, 0xdc, 0xc1) },
	{ "VPCLMULQDQ ymm", 7, 'c', 10, CODE(0xc4, 0xe3, 0x75, 0x44, 0xc1, 0) },
	{ "RDPID", 7, 'c', 22, CODE(0xf3, 0x0f, 0xc7, 0xf8) },
	{ "MOVDIRI", 7, 'c', 27, CODE(0x0f, 0x38, 0xf9, 0x07) },
	{ "MOVDIR64B", 7, 'c', 28, CODE(0x66, 0x0f, 0x38, 0xf8, 0x07) },
	{ "SERIALIZE", 7, 'd', 14, CODE(0x0f, 0x01, 0xe8) },
	{ "LAHF", 0x80000001, 'c', 0, CODE(0x9f) },
	{ "LZCNT", 0x80000001, 'c', 5, CODE(0xf3, 0x0f, 0xbd, 0xc1) },
	{ "SSE4a extrq", 0x80000001, 'c', 6, CODE(0x66, 0x0f, 0x79, 0xc1) },
	{ "3DNow! femms", 0x80000001, 'd', 31, CODE(0x0f, 0x0e) },
	{ "PREFETCHW", 0x80000001, 'c', 8, CODE(0x0f, 0x0d, 0x0f) },
	{ "XOP vphaddbw", 0x80000001, 'c', 11, CODE(0x8f, 0xe9, 0x78, 0xc1, 0xc1) },
	{ "FMA4 vfmaddps", 0x80000001, 'c', 16, CODE(0xc4, 0xe3, 0x71, 0x68, 0xc2, 0x30) },
	{ "TBM blcfill", 0x80000001, 'c', 21, CODE(0x8f, 0xe9, 0x78, 0x01, 0xc8) },
	{ "MONITORX", 0x80000001, 'c', 29, CODE(0x0f, 0x01, 0xfa) },
	{ "RDTSCP", 0x80000001, 'd', 27, CODE(0x0f, 0x01, 0xf9) },
	{ "CLZERO", 0x80000008, 'b', 0, CODE(0x48, 0x89, 0xf8, 0x0f, 0x01, 0xfc) },
	{ "WBNOINVD", 0x80000008, 'b', 9, CODE(0xf3, 0x0f, 0x09) },	/* else WBINVD */
	{ "VMXOFF-like: VMCALL", 1, 'c', 5, CODE(0x0f, 0x01, 0xc1) },
	{ "SVM vmrun", 0x80000001, 'c', 2, CODE(0x0f, 0x01, 0xd8) },
	{ "SMX getsec", 1, 'c', 6, CODE(0x0f, 0x37) },
};

RULE(what_cpuid_shows_executes_and_what_it_hides_is_ud)
{
	/* Not #UD when hidden: PREFETCHW is a NOP, WBNOINVD is WBINVD, LZCNT and
	 * XBEGIN alone differ in meaning. VMCALL outside VMX operation, GETSEC
	 * without SMXE and VMRUN without SVME are #UD even when shown. */
	static const char *const always_fine[] = { "PREFETCHW", "WBNOINVD", "LZCNT" };
	vectors_on();
	for (unsigned n = 0; n < ARRAY_SIZE(features); n++) {
		const struct feature *f = &features[n];
		bool shown = bit(f->leaf, f->reg, f->bit);
		if (f->leaf > 0x80000000 && cpuid(0x80000000, 0).a < f->leaf)
			shown = false;
		for (unsigned k = 0; k < ARRAY_SIZE(always_fine); k++)
			shown |= f->name == always_fine[k] || f->name[0] == always_fine[k][0] * (f->name[1] == always_fine[k][1]) *
				(f->name[2] == always_fine[k][2]);
		if (f->name[0] == 'V' && f->name[1] == 'M')
			shown = false;
		int v = execute(f->code, f->length);
		expect_(f->name, (int)f->bit, (uint64_t)v, shown ? (uint64_t)NONE : UD);
	}
}

RULE(avx_needs_osxsave_and_xcr0)
{
	static const uint8_t vaddps[] = { 0xc5, 0xf4, 0x58, 0xc1 };
	if (!bit(1, 'c', 28)) {
		skip("no AVX");
		return;
	}
	vectors_on();
	expect_eq(execute(vaddps, 4), NONE);
	asm volatile("xsetbv" :: "c"(0), "a"(3), "d"(0));
	expect_eq(execute(vaddps, 4), UD);
	asm volatile("xsetbv" :: "c"(0), "a"(7), "d"(0));
	set_cr4(cr4() & ~CR4_OSXSAVE);
	expect_eq(execute(vaddps, 4), UD);
	FAULTS(UD, 0, asm volatile("xgetbv" :: "c"(0) : "rax", "rdx"));
}

RULE(cpuid_follows_osxsave)
{
	if (!bit(1, 'c', 26)) {
		skip("no XSAVE");
		return;
	}
	set_cr4(cr4() & ~CR4_OSXSAVE);
	expect_eq(bit(1, 'c', 27), 0);
	set_cr4(cr4() | CR4_OSXSAVE);
	expect_eq(bit(1, 'c', 27), 1);
}

RULE(xsetbv_checks)
{
	if (!bit(1, 'c', 26)) {
		skip("no XSAVE");
		return;
	}
	set_cr4(cr4() | CR4_OSXSAVE);
	FAULTS(GP, 0, asm volatile("xsetbv" :: "c"(0), "a"(6), "d"(0)));	/* x87 must stay */
	FAULTS(GP, 0, asm volatile("xsetbv" :: "c"(0), "a"(5), "d"(0)));	/* AVX without SSE */
	FAULTS(GP, 0, asm volatile("xsetbv" :: "c"(1), "a"(7), "d"(0)));
	FAULTS(GP, 0, asm volatile("xsetbv" :: "c"(0), "a"(7), "d"(1)));
	SNIPPET(user_xsetbv, "xor %ecx, %ecx; mov $7, %eax; xor %edx, %edx; xsetbv; int $0x80");
	expect_eq(run_user(user_xsetbv), GP);
	SNIPPET(user_xgetbv, "xor %ecx, %ecx; xgetbv; int $0x80");
	expect_eq(run_user(user_xgetbv), USER_EXIT);
}

RULE(ts_raises_nm_for_vectors_and_x87)
{
	static const uint8_t addps[] = { 0x0f, 0x58, 0xc1 }, fld1[] = { 0xd9, 0xe8 }, vaddps[] = { 0xc5, 0xf4, 0x58, 0xc1 };
	static const uint8_t wait[] = { 0x9b };
	vectors_on();
	set_cr0(cr0() | CR0_TS);
	expect_eq(execute(addps, 3), NM);
	expect_eq(execute(fld1, 2), NM);
	if (bit(1, 'c', 28))
		expect_eq(execute(vaddps, 4), NM);
	expect_eq(execute(wait, 1), NM);
	set_cr0(cr0() & ~CR0_MP);
	expect_eq(execute(wait, 1), NONE);
	asm volatile("clts");
	expect_eq(execute(addps, 3), NONE);
}

RULE(em_makes_sse_ud_and_x87_nm)
{
	static const uint8_t addps[] = { 0x0f, 0x58, 0xc1 }, fld1[] = { 0xd9, 0xe8 };
	vectors_on();
	set_cr0(cr0() | CR0_EM);
	expect_eq(execute(addps, 3), UD);
	expect_eq(execute(fld1, 2), NM);
}

RULE(sse_needs_osfxsr)
{
	static const uint8_t addps[] = { 0x0f, 0x58, 0xc1 };
	vectors_on();
	set_cr4(cr4() & ~CR4_OSFXSR);
	expect_eq(execute(addps, 3), UD);
}

RULE(unmasked_simd_exception_raises_xm)
{
	static const uint32_t open = 0x1f80 & ~0x200u, closed = 0x1f80;
	static const float one[4] = { 1, 1, 1, 1 };
	vectors_on();
	FAULTS(XM, 0, asm volatile("ldmxcsr %0; xorps %%xmm1, %%xmm1; movups %1, %%xmm0; divps %%xmm1, %%xmm0" :: "m"(open), "m"(one)));
	set_cr4(cr4() & ~CR4_OSXMMEXCPT);
	FAULTS(UD, 0, asm volatile("ldmxcsr %0; xorps %%xmm1, %%xmm1; movups %1, %%xmm0; divps %%xmm1, %%xmm0" :: "m"(open), "m"(one)));
	asm volatile("ldmxcsr %0" :: "m"(closed));
	static const uint32_t reserved = 0x10000;
	FAULTS(GP, 0, asm volatile("ldmxcsr %0" :: "m"(reserved)));
}

RULE(unmasked_x87_exception_raises_mf_at_the_next_instruction)
{
	static const uint16_t open = 0x37b;	/* divide by zero */
	extern const uint8_t mf_here[];
	vectors_on();
	FAULTS(MF, 0, asm volatile("fninit; fldcw %0; fld1; fldz; fdivrp; mf_here: fwait; fninit" :: "m"(open)));
	expect_eq(event.frame.ip, (word)mf_here);
	asm volatile("fnclex; fninit");
}

RULE(sse_operands_must_be_aligned)
{
	vectors_on();
	FAULTS(GP, 0, asm volatile("movaps %0, %%xmm0" :: "m"(area[1])));
	FINE(asm volatile("movups %0, %%xmm0" :: "m"(area[1])));
	FAULTS(GP, 0, asm volatile("addps %0, %%xmm0" :: "m"(area[1])));
	FAULTS(GP, 0, asm volatile("fxsave %0" : "=m"(area[8])));
	FAULTS(GP, 0, asm volatile("lock cmpxchg16b %0" : "+m"(area[8]) :: "rax", "rdx"));
}

RULE(xsave_checks)
{
	if (!bit(1, 'c', 26)) {
		skip("no XSAVE");
		return;
	}
	vectors_on();
	FAULTS(GP, 0, asm volatile("xsave %0" : "=m"(area[32]) : "a"(7), "d"(0)));
	FINE(asm volatile("xsave %0" : "=m"(area[0]) : "a"(7), "d"(0)));
	area[512 + 8] = 1;		/* XCOMP_BV */
	FAULTS(GP, 0, asm volatile("xrstor %0" :: "m"(area[0]), "a"(7), "d"(0)));
	area[512 + 8] = 0;
	area[512 + 1] = 1;		/* a component that is not there */
	FAULTS(GP, 0, asm volatile("xrstor %0" :: "m"(area[0]), "a"(7), "d"(0)));
	area[512 + 1] = 0;
	FINE(asm volatile("xrstor %0" :: "m"(area[0]), "a"(7), "d"(0)));
}

/* --- CPUID itself --- */
RULE(cpuid_leaves_agree_with_each_other)
{
	struct cpuid zero = cpuid(0, 0), one = cpuid(1, 0);
	expect(zero.a >= 0xd);
	expect_eq(one.b >> 8 & 0xff, 8);	/* CLFLUSH line in quadwords */
	expect(cpuid(0x80000000, 0).a >= 0x80000008);
	struct cpuid beyond = cpuid(0x80001234, 0), last = cpuid(zero.a, 0);
	if (zero.b == 0x756e6547) {
		expect_eq(beyond.a, last.a);
		expect_eq(beyond.b, last.b);
	}
	/* AVX needs XSAVE; FMA, F16C and AVX2 need AVX. */
	expect(!bit(1, 'c', 28) || bit(1, 'c', 26));
	expect(!bit(1, 'c', 12) || bit(1, 'c', 28));
	expect(!bit(7, 'b', 5) || bit(1, 'c', 28));
	/* The size for XCR0 as it is never exceeds the size for all. */
	vectors_on();
	struct cpuid d = cpuid(13, 0);
	expect(d.b <= d.c);
	expect_eq(d.b, 576 + 256 * (d.a >> 2 & 1));
}

RULE(cpuid_writes_upper_halves_to_zero)
{
	uint64_t a = ~0ull, b = ~0ull, c = ~0ull << 32, d = ~0ull;
	a <<= 32;
	asm volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d));
	expect_eq(a >> 32 | b >> 32 | c >> 32 | d >> 32, 0);
}

/* --- CR4's switches --- */
RULE(umip_hides_the_tables_from_ring_3)
{
	SNIPPET(u_sgdt, "sgdt -16(%rsp); int $0x80"); SNIPPET(u_sidt, "sidt -16(%rsp); int $0x80");
	SNIPPET(u_sldt, "sldt %eax; int $0x80"); SNIPPET(u_smsw, "smsw %eax; int $0x80");
	SNIPPET(u_str, "str %eax; int $0x80");
	static const uint8_t *const all[] = { u_sgdt, u_sidt, u_sldt, u_smsw, u_str };
	if (!bit(7, 'c', 2)) {
		skip("no UMIP");
		return;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(all); n++) {
		expect_eq(run_user(all[n]), USER_EXIT);
		set_cr4(cr4() | CR4_UMIP);
		expect_eq(run_user(all[n]), GP);
		expect_eq(event.error, 0);
		set_cr4(cr4() & ~CR4_UMIP);
	}
	set_cr4(cr4() | CR4_UMIP);
	FINE(asm volatile("str %%eax; smsw %%eax; sldt %%eax" ::: "rax"));
}

RULE(fsgsbase_needs_its_bit_and_canonical_values)
{
	if (!bit(7, 'b', 0)) {
		skip("no FSGSBASE");
		return;
	}
	word v = 0;
	FAULTS(UD, 0, asm volatile("rdfsbase %0" : "=r"(v)));
	set_cr4(cr4() | CR4_FSGSBASE);
	FINE(asm volatile("wrgsbase %0" :: "r"(0x123456789aul)));
	expect_eq(rdmsr(0xc0000101), 0x123456789a);
	FINE(asm volatile("rdgsbase %0" : "=r"(v)));
	expect_eq(v, 0x123456789a);
	FAULTS(GP, 0, asm volatile("wrfsbase %0" :: "r"(NONCANONICAL)));
	FINE(asm volatile("wrfsbase %k0" :: "r"(NONCANONICAL | 5)));	/* 32-bit operand */
	expect_eq(rdmsr(0xc0000100), 5);
	SNIPPET(user_base, "rdfsbase %rax; wrgsbase %rax; int $0x80");
	expect_eq(run_user(user_base), USER_EXIT);
	wrmsr(0xc0000100, 0);
	wrmsr(0xc0000101, 0);
}

RULE(swapgs_exchanges_the_bases)
{
	wrmsr(0xc0000101, 0x1111);
	wrmsr(0xc0000102, 0x2222);
	asm volatile("swapgs");
	expect_eq(rdmsr(0xc0000101), 0x2222);
	expect_eq(rdmsr(0xc0000102), 0x1111);
	wrmsr(0xc0000101, 0);
}

RULE(tsd_keeps_ring_3_from_the_tsc)
{
	SNIPPET(user_rdtsc, "rdtsc; int $0x80");
	SNIPPET(user_rdtscp, "rdtscp; int $0x80");
	expect_eq(run_user(user_rdtsc), USER_EXIT);
	set_cr4(cr4() | CR4_TSD);
	expect_eq(run_user(user_rdtsc), GP);
	if (bit(0x80000001, 'd', 27))
		expect_eq(run_user(user_rdtscp), GP);
	FINE(rdtsc());
}

RULE(rdpmc_without_counters_raises_gp)
{
	SNIPPET(user_rdpmc, "mov $0x123, %ecx; rdpmc; int $0x80");
	expect_eq(run_user(user_rdpmc), GP);
	FAULTS(GP, 0, asm volatile("rdpmc" :: "c"(0x123) : "rax", "rdx"));
}

RULE(rdtscp_and_rdpid_read_tsc_aux)
{
	uint32_t c = 0;
	if (!bit(0x80000001, 'd', 27)) {
		skip("no RDTSCP");
		return;
	}
	wrmsr(0xc0000103, 0x1234);
	asm volatile("rdtscp" : "=c"(c) :: "rax", "rdx");
	expect_eq(c, 0x1234);
	FAULTS(GP, 0, wrmsr(0xc0000103, BIT(32)));
	if (bit(7, 'c', 22)) {
		uint64_t p = 0;
		asm volatile(".byte 0xf3, 0x0f, 0xc7, 0xf8" : "=a"(p));
		expect_eq(p, 0x1234);
	}
	wrmsr(0xc0000103, 0);
}

/* --- MSRs --- */
RULE(msrs_that_do_not_exist_raise_gp)
{
	static const uint32_t none[] = { 0x4, 0x12345678, 0xc0001000, 0x40000000, 0xffffffff, 0x9ff };
	for (unsigned n = 0; n < ARRAY_SIZE(none); n++) {
		FAULTS(GP, 0, rdmsr(none[n]));
		FAULTS(GP, 0, wrmsr(none[n], 0));
	}
}

RULE(pat_and_mtrr_types_are_checked)
{
	uint64_t pat = rdmsr(0x277), def = rdmsr(0x2ff);
	expect_eq(pat, 0x0007040600070406);
	FAULTS(GP, 0, wrmsr(0x277, 2));
	FAULTS(GP, 0, wrmsr(0x277, 3ull << 56));
	FAULTS(GP, 0, wrmsr(0x277, 8));
	expect_eq(rdmsr(0x277), pat);
	FAULTS(GP, 0, wrmsr(0x2ff, def | BIT(32)));
	FAULTS(GP, 0, wrmsr(0x2ff, 0xc02));	/* type 2 */
	expect_eq(rdmsr(0x2ff), def);
	FAULTS(GP, 0, wrmsr(0xfe, 0));		/* MTRRCAP is read-only */
}

RULE(tsc_and_tsc_adjust_move_together)
{
	if (!bit(7, 'b', 1)) {
		skip("no TSC_ADJUST");
		return;
	}
	uint64_t adjust = rdmsr(0x3b), before = rdtsc();
	wrmsr(0x3b, adjust + (1ull << 40));
	uint64_t moved = rdtsc() - before;
	expect(moved >= 1ull << 40 && moved < (1ull << 40) + (1ull << 32));
	wrmsr(0x10, 0);
	expect(rdtsc() < 1ull << 32);
	expect(rdmsr(0x3b) != adjust + (1ull << 40));
	wrmsr(0x3b, adjust);
}

RULE(tsc_moves_forward)
{
	uint64_t last = rdtsc();
	for (unsigned n = 0; n < 100; n++) {
		uint64_t now = rdtsc();
		expect(now > last);
		last = now;
	}
}

RULE(feature_control_is_locked)
{
	if (!(rdmsr(0x3a) & 1)) {
		skip("not locked by the firmware");
		return;
	}
	FAULTS(GP, 0, wrmsr(0x3a, 0));
}

RULE(vmx_is_ud_or_gp_until_enabled)
{
	static const uint8_t vmxoff[] = { 0x0f, 0x01, 0xc4 }, vmxon[] = { 0xf3, 0x0f, 0xc7, 0x37 };
	expect_eq(execute(vmxoff, 3), UD);
	expect_eq(execute(vmxon, 4), UD);
	if (!bit(1, 'c', 5)) {
		FAULTS(GP, 0, rdmsr(0x480));
		FAULTS(GP, 0, set_cr4(cr4() | CR4_VMXE));
	}
}

/* --- self-modifying code --- */
static uint8_t code[8192] __attribute__((aligned(4096)));
static const uint8_t return_value[] = { 0xb8, 1, 0, 0, 0, 0xc3 };	/* mov $1, %eax; ret */
static uint32_t call(const void *at)
{
	uint32_t v;
	asm volatile("call *%1" : "=a"(v) : "r"(at) : "memory", "rcx", "rdx");
	return v;
}

RULE(code_changed_after_it_ran)
{
	memory_copy(code, return_value, sizeof return_value);
	for (uint32_t n = 0; n < 1000; n++) {
		*(volatile uint32_t *)(code + 1) = n;
		uint32_t v = call(code);
		if (v != n) {
			expect_eq(v, n);
			return;
		}
	}
}

RULE(code_changed_by_its_own_block)
{
	/* movb $2, next+1(%rip) ; next: mov $1, %eax ; ret */
	static const uint8_t own[] = { 0xc6, 0x05, 1, 0, 0, 0, 2, 0xb8, 1, 0, 0, 0, 0xc3 };
	memory_copy(code, own, sizeof own);
	expect_eq(call(code), 2);
	code[8] = 9;
	expect_eq(call(code), 2);
}

RULE(code_changed_through_another_linear_address)
{
	memory_copy(code, return_value, sizeof return_value);
	*map_entry(0x10000000000, 1) = (word)code | 3;
	expect_eq(call(code), 1);
	*(volatile uint8_t *)0x10000000001 = 5;
	expect_eq(call(code), 5);
	expect_eq(call((void *)0x10000000000), 5);
	code[1] = 6;
	expect_eq(call((void *)0x10000000000), 6);
}

RULE(code_changed_by_a_string_instruction)
{
	memory_copy(code, return_value, sizeof return_value);
	expect_eq(call(code), 1);
	static const uint8_t three[] = { 3 };
	const void *s = three;
	void *d = code + 1;
	word n = 1;
	asm volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) :: "memory");
	expect_eq(call(code), 3);
}

RULE(code_changed_by_a_store_across_two_pages)
{
	uint8_t *at = code + 4096 - 3;
	memory_copy(at, return_value, sizeof return_value);
	expect_eq(call(at), 1);
	*(volatile uint32_t *)(at + 1) = 0x01020304;
	expect_eq(call(at), 0x01020304);
}

RULE(code_changed_by_push_xchg_and_vector_store)
{
	vectors_on();
	memory_copy(code, return_value, sizeof return_value);
	expect_eq(call(code), 1);
	uint32_t v = 7;
	asm volatile("xchg %0, %1" : "+r"(v), "+m"(*(uint32_t *)(code + 1)));
	expect_eq(call(code), 7);
	static uint8_t image[16] = { 0xb8, 8, 0, 0, 0, 0xc3 };
	asm volatile("movups %1, %%xmm0; movups %%xmm0, %0" : "=m"(code[0]) : "m"(image[0]));
	expect_eq(call(code), 8);
	/* PUSH writes the first eight bytes: mov $11, %eax; ret; nops. */
	asm volatile("mov %%rsp, %%rbx; lea 8(%0), %%rsp; push %1; mov %%rbx, %%rsp"
		     :: "r"(code), "r"(0x9090c30000000bb8) : "rbx", "memory");
	expect_eq(call(code), 11);
}

RULE(code_on_a_page_that_data_shares)
{
	/* Stores beside the code, in the same page, from the block itself. */
	static const uint8_t own[] = { 0xff, 0x05, 0xfa, 0, 0, 0, 0x8b, 0x05, 0xf4, 0, 0, 0, 0xc3 };
	memory_fill(code, 0, 4096);
	memory_copy(code, own, sizeof own);
	for (uint32_t n = 1; n < 300; n++)
		if (call(code) != n) {
			expect_eq(*(volatile uint32_t *)(code + 0x100), n);
			return;
		}
}

/* --- restartable strings and other faults in the middle --- */
RULE(rep_movs_faults_in_the_middle_with_registers_to_go_on)
{
	uint8_t *page = page_alloc();
	*map_entry(0x10000000000, 1) = (word)page | 3;
	memory_fill(area, 0x5a, 64);
	FAULTS(PF, 2, asm volatile("rep movsb" :: "S"(area), "D"(0x10000000000 + 4096 - 16), "c"(64) : "memory"));
	expect_eq(event.frame.cx, 48);
	expect_eq(event.frame.di, 0x10000001000);
	expect_eq(event.frame.si, (word)area + 16);
	expect_eq(page[4095], 0x5a);
}

RULE(bound_and_divide_errors)
{
	FAULTS(DE, 0, asm volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx" ::: "rax", "rcx", "rdx"));
	FAULTS(DE, 0, asm volatile("mov $1, %%ecx; mov $1, %%edx; xor %%eax, %%eax; div %%ecx" ::: "rax", "rcx", "rdx"));
	FAULTS(DE, 0, asm volatile("mov $-1, %%rcx; mov $1, %%edx; ror %%rdx; mov %%rdx, %%rax; cqo; idiv %%rcx" ::: "rax", "rcx", "rdx"));
}
