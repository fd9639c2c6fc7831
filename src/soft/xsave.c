/* FXSAVE and the XSAVE family, in C with our own layout handling: SDM vol. 1,
 * "Managing State Using the XSAVE Feature Set". State components: x87 (0),
 * SSE (1) and, when the host has it, AVX (2); no supervisor components, so
 * IA32_XSS is 0.
 *
 * XINUSE is computed from the registers when it is asked for, so it is exact;
 * the modified optimization of XSAVEOPT and XSAVES is not used. */
#include "soft/access.h"
#include "soft/fpu.h"
#include "soft/thunk.h"
#include "soft/vtx/vtx.h"

enum {
	AREA_LEGACY = 512,	/* bytes of the legacy region */
	AREA_HEADER = 64,
	AREA_AVX = AREA_LEGACY + AREA_HEADER,	/* in both formats: the only extended component */
	AVX_BYTES = 256,
	AREA_MAX = AREA_AVX + AVX_BYTES,
	AREA_MXCSR = 24, AREA_ST = 32, AREA_XMM = 160,
	HEADER_XCOMP = 8, HEADER_XCOMP_END = 16, HEADER_STANDARD_ZERO_END = 24,
	XMM_BYTES = 16,
	EXIT_XSETBV = 55,
};

#define XCOMP_COMPACTED BIT(63)

static unsigned area_size(uint64_t components)
{
	return components & XCR0_AVX ? AREA_AVX + AVX_BYTES : AREA_AVX;
}

void fpu_cpuid_0d(struct cpu *cpu, uint32_t subleaf, struct cpuid_result *result)
{
	uint64_t supported = fpu_xcr0_supported();
	*result = (struct cpuid_result){ 0 };
	switch (subleaf) {
	case 0:
		result->eax = (uint32_t)supported;
		result->ebx = area_size(cpu->xcr0);
		result->ecx = area_size(supported);
		break;
	case 1:	/* XSAVEOPT, XSAVEC, XGETBV with ECX = 1, XSAVES */
		result->eax = BIT(0) | BIT(1) | BIT(2) | BIT(3);
		result->ebx = area_size(cpu->xcr0 | cpu->xss);
		break;
	case 2:
		if (supported & XCR0_AVX) {
			result->eax = AVX_BYTES;
			result->ebx = AREA_AVX;
		}
		break;
	default:
		break;
	}
}

/* --- the area --- */

/* Write part of the area; no fault is possible any more (area_for_write). */
static void area_put(struct cpu *cpu, uint64_t linear, const void *from, unsigned n)
{
	enum { CHUNK = 64 };
	for (unsigned at = 0, some; at < n; at += some) {
		some = CHUNK - (unsigned)((linear + at) & (CHUNK - 1));
		if (some > n - at)
			some = n - at;
		void *to = linear_write_pointer(cpu, linear + at, some);
		memcpy(to, (const uint8_t *)from + at, some);
		linear_commit(cpu);
	}
}

static void area_get(struct cpu *cpu, uint64_t linear, void *to, unsigned n)
{
	enum { CHUNK = 64 };
	for (unsigned at = 0, some; at < n; at += some) {
		some = CHUNK - (unsigned)((linear + at) & (CHUNK - 1));
		if (some > n - at)
			some = n - at;
		memcpy((uint8_t *)to + at, linear_read_pointer(cpu, linear + at, some), some);
	}
}

/* The area's linear address, aligned; for a write, with both pages
 * that it may span proved writable. */
static uint64_t area_linear(struct cpu *cpu, const struct insn *i, unsigned size, unsigned align,
			    bool write)
{
	uint64_t linear = insn_linear(cpu, i, size, write);
	if (linear & (align - 1))
		raise_gp(cpu, 0);
	if (write && ((linear ^ (linear + size - 1)) & ~PAGE_OFFSET_MASK)) {
		(void)linear_write_pointer(cpu, linear, 1);
		linear_commit(cpu);
		(void)linear_write_pointer(cpu, (linear + size - 1) & ~PAGE_OFFSET_MASK, 1);
		linear_commit(cpu);
	}
	return linear;
}

static unsigned xmm_count(const struct cpu *cpu)
{
	return cpu->mode == MODE_64 ? 16 : 8;
}

/* The x87 fields of the legacy region. wide: 64-bit FIP and FDP. */
static void put_x87(struct cpu *cpu, uint64_t linear, bool wide)
{
	const struct fpu *f = fpu_state(cpu);
	struct fxsave_image image = f->image;
	image.reserved = 0;
	image.fop = f->fop;
	image.fip = wide ? f->fip : (uint32_t)f->fip;	/* FCS is deprecated: 0 */
	image.fdp = wide ? f->fdp : (uint32_t)f->fdp;
	for (unsigned n = 0; n < 8; n++)
		memset(image.st[n] + 10, 0, 6);
	area_put(cpu, linear, &image, AREA_MXCSR);
	area_put(cpu, linear + AREA_ST, image.st, sizeof(image.st));
}

static void put_mxcsr(struct cpu *cpu, uint64_t linear)
{
	uint32_t field[2] = { cpu->mxcsr, fpu_mxcsr_mask() };
	area_put(cpu, linear + AREA_MXCSR, field, sizeof(field));
}

static void put_halves(struct cpu *cpu, uint64_t linear, unsigned which)
{
	uint8_t halves[16][XMM_BYTES];
	for (unsigned n = 0; n < xmm_count(cpu); n++)
		memcpy(halves[n], cpu->vec[n] + which * XMM_BYTES, XMM_BYTES);
	area_put(cpu, linear, halves, xmm_count(cpu) * XMM_BYTES);
}

static void set_x87(struct cpu *cpu, const struct fxsave_image *image, bool wide)
{
	struct fpu *f = fpu_state(cpu);
	f->image.fcw = (uint16_t)((image->fcw & FCW_WRITABLE) | FCW_FIXED);
	f->image.fsw = image->fsw;
	f->image.ftw = image->ftw;
	memcpy(f->image.st, image->st, sizeof(f->image.st));
	f->fop = image->fop & 0x7ff;
	f->fip = f->fip_linear = wide ? image->fip : (uint32_t)image->fip;
	f->fdp = f->fdp_linear = wide ? image->fdp : (uint32_t)image->fdp;
	f->fcs = f->fds = 0;
	fpu_summarize(f);
}

static void set_halves(struct cpu *cpu, const uint8_t *from, unsigned which)
{
	for (unsigned n = 0; n < xmm_count(cpu); n++) {
		uint8_t *to = cpu->vec[n] + which * XMM_BYTES;
		if (from)
			memcpy(to, from + n * XMM_BYTES, XMM_BYTES);
		else
			memset(to, 0, XMM_BYTES);
	}
}

/* --- FXSAVE, FXRSTOR --- */

static void check_fxsr(struct cpu *cpu)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		raise_exception(cpu, EXC_NM);
}

static bool is_wide(const struct insn *i, ZydisMnemonic wide)
{
	return i->mnemonic == wide;
}

static void op_fxsave(struct cpu *cpu, const struct insn *i)
{
	check_fxsr(cpu);
	uint64_t linear = area_linear(cpu, i, AREA_LEGACY, 16, true);
	put_x87(cpu, linear, is_wide(i, ZYDIS_MNEMONIC_FXSAVE64));
	put_mxcsr(cpu, linear);
	put_halves(cpu, linear + AREA_XMM, 0);
}

static void op_fxrstor(struct cpu *cpu, const struct insn *i)
{
	struct fxsave_image image;
	check_fxsr(cpu);
	area_get(cpu, area_linear(cpu, i, AREA_LEGACY, 16, false), &image, sizeof(image));
	if (image.mxcsr & ~fpu_mxcsr_mask())
		raise_gp(cpu, 0);
	set_x87(cpu, &image, is_wide(i, ZYDIS_MNEMONIC_FXRSTOR64));
	cpu->mxcsr = image.mxcsr;
	set_halves(cpu, image.xmm[0], 0);
}

/* --- XSAVE and its kin --- */

static uint64_t xinuse(struct cpu *cpu)
{
	uint64_t any[2] = { 0, 0 };
	for (unsigned n = 0; n < 16; n++)
		for (unsigned which = 0; which < 2; which++)
			any[which] |= load_le(cpu->vec[n] + which * XMM_BYTES, 8) |
				load_le(cpu->vec[n] + which * XMM_BYTES + 8, 8);
	return (fpu_x87_initial(fpu_state(cpu)) ? 0 : XCR0_X87) | (any[0] ? XCR0_SSE : 0) |
		(any[1] ? XCR0_AVX : 0);
}

static uint64_t edx_eax(const struct cpu *cpu)
{
	return (uint64_t)(uint32_t)cpu->r[RDX] << 32 | (uint32_t)cpu->r[RAX];
}

static void check_xsave(struct cpu *cpu)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		raise_ud(cpu);
	if (cpu->cr0 & CR0_TS)
		raise_exception(cpu, EXC_NM);
}

/* XSAVES, XRSTORS: VMX non-root operation may not have them (#UD), and may
 * intercept them after all other checks. */
static void check_supervisor(struct cpu *cpu, const struct insn *i, bool restoring)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		raise_ud(cpu);
	if (cpu->nonroot)
		vtx_intercept_xsaves(cpu, i, restoring, 0);
	if (cpu->cpl)
		raise_gp(cpu, 0);
	if (cpu->cr0 & CR0_TS)
		raise_exception(cpu, EXC_NM);
	if (cpu->nonroot)
		vtx_intercept_xsaves(cpu, i, restoring, edx_eax(cpu) & cpu->xss);
}

static void put_components(struct cpu *cpu, uint64_t linear, uint64_t components, bool wide)
{
	if (components & XCR0_X87)
		put_x87(cpu, linear, wide);
	if (components & XCR0_SSE)
		put_halves(cpu, linear + AREA_XMM, 0);
	if (components & XCR0_AVX)
		put_halves(cpu, linear + AREA_AVX, 1);
}

/* XSAVE and XSAVEOPT: the standard format. */
static void save_standard(struct cpu *cpu, const struct insn *i, bool wide, bool optimize)
{
	check_xsave(cpu);
	uint64_t rfbm = cpu->xcr0 & edx_eax(cpu), used = xinuse(cpu), xstate_bv;
	uint64_t linear = area_linear(cpu, i, area_size(rfbm), 64, true);
	xstate_bv = linear_read(cpu, linear + AREA_LEGACY, 8);
	put_components(cpu, linear, optimize ? rfbm & used : rfbm, wide);
	if (rfbm & (XCR0_SSE | XCR0_AVX))
		put_mxcsr(cpu, linear);
	linear_write(cpu, linear + AREA_LEGACY, (xstate_bv & ~rfbm) | (used & rfbm), 8);
}

/* XSAVEC and XSAVES: the compacted format. MXCSR belongs to SSE here. */
static void save_compacted(struct cpu *cpu, const struct insn *i, uint64_t rfbm, bool wide)
{
	uint64_t used = xinuse(cpu);
	if (cpu->mxcsr != MXCSR_INITIAL)
		used |= XCR0_SSE;
	uint64_t linear = area_linear(cpu, i, area_size(rfbm), 64, true);
	put_components(cpu, linear, rfbm & used, wide);
	if (rfbm & used & XCR0_SSE)
		put_mxcsr(cpu, linear);
	uint64_t header[2] = { rfbm & used, rfbm | XCOMP_COMPACTED };
	area_put(cpu, linear + AREA_LEGACY, header, sizeof(header));
}

static void op_xsave(struct cpu *cpu, const struct insn *i)
{
	save_standard(cpu, i, is_wide(i, ZYDIS_MNEMONIC_XSAVE64), false);
}

static void op_xsaveopt(struct cpu *cpu, const struct insn *i)
{
	save_standard(cpu, i, is_wide(i, ZYDIS_MNEMONIC_XSAVEOPT64), true);
}

static void op_xsavec(struct cpu *cpu, const struct insn *i)
{
	check_xsave(cpu);
	save_compacted(cpu, i, cpu->xcr0 & edx_eax(cpu), is_wide(i, ZYDIS_MNEMONIC_XSAVEC64));
}

static void op_xsaves(struct cpu *cpu, const struct insn *i)
{
	check_supervisor(cpu, i, false);
	save_compacted(cpu, i, (cpu->xcr0 | cpu->xss) & edx_eax(cpu),
		       is_wide(i, ZYDIS_MNEMONIC_XSAVES64));
}

static bool any_set(const uint8_t *p, unsigned from, unsigned end)
{
	while (from < end)
		if (p[from++])
			return true;
	return false;
}

static void restore(struct cpu *cpu, const struct insn *i, uint64_t enabled, bool wide,
		    bool must_be_compacted)
{
	uint8_t area[AREA_MAX] __attribute__((aligned(16)));
	uint8_t *header = area + AREA_LEGACY;
	const struct fxsave_image *image = (const struct fxsave_image *)area;
	uint64_t rfbm = enabled & edx_eax(cpu);
	uint64_t linear = area_linear(cpu, i, area_size(rfbm), 64, false);
	area_get(cpu, linear, area, AREA_AVX);
	uint64_t xstate_bv = load_le(header, 8), xcomp_bv = load_le(header + HEADER_XCOMP, 8);
	bool compacted = xcomp_bv & XCOMP_COMPACTED;

	if (compacted) {
		xcomp_bv &= ~XCOMP_COMPACTED;
		if ((xcomp_bv & ~enabled) || (xstate_bv & ~xcomp_bv) ||
		    any_set(header, HEADER_XCOMP_END, AREA_HEADER))
			raise_gp(cpu, 0);
	} else if (must_be_compacted || (xstate_bv & ~enabled) ||
		   any_set(header, HEADER_XCOMP, HEADER_STANDARD_ZERO_END))
		raise_gp(cpu, 0);
	bool load_mxcsr = compacted ? rfbm & xstate_bv & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
	if (load_mxcsr && (image->mxcsr & ~fpu_mxcsr_mask()))
		raise_gp(cpu, 0);
	if (rfbm & xstate_bv & XCR0_AVX)
		area_get(cpu, linear + AREA_AVX, area + AREA_AVX, xmm_count(cpu) * XMM_BYTES);

	/* Nothing faults from here on. */
	if (rfbm & XCR0_X87) {
		if (xstate_bv & XCR0_X87)
			set_x87(cpu, image, wide);
		else
			fpu_initialize(fpu_state(cpu), true);
	}
	if (rfbm & XCR0_SSE)
		set_halves(cpu, xstate_bv & XCR0_SSE ? area + AREA_XMM : NULL, 0);
	if (rfbm & XCR0_AVX)
		set_halves(cpu, xstate_bv & XCR0_AVX ? area + AREA_AVX : NULL, 1);
	if (load_mxcsr)
		cpu->mxcsr = image->mxcsr;
	else if (rfbm & XCR0_SSE)
		cpu->mxcsr = MXCSR_INITIAL;
}

static void op_xrstor(struct cpu *cpu, const struct insn *i)
{
	check_xsave(cpu);
	restore(cpu, i, cpu->xcr0, is_wide(i, ZYDIS_MNEMONIC_XRSTOR64), false);
}

static void op_xrstors(struct cpu *cpu, const struct insn *i)
{
	check_supervisor(cpu, i, true);
	restore(cpu, i, cpu->xcr0 | cpu->xss, is_wide(i, ZYDIS_MNEMONIC_XRSTORS64), true);
}

/* --- XCR0, MXCSR --- */

static void op_xgetbv(struct cpu *cpu, const struct insn *i)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		raise_ud(cpu);
	uint32_t which = (uint32_t)cpu->r[RCX];
	if (which > 1)
		raise_gp(cpu, 0);
	uint64_t value = which ? cpu->xcr0 & xinuse(cpu) : cpu->xcr0;
	cpu->r[RAX] = (uint32_t)value;
	cpu->r[RDX] = value >> 32;
}

static void op_xsetbv(struct cpu *cpu, const struct insn *i)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		raise_ud(cpu);
	if (cpu->cpl)
		raise_gp(cpu, 0);
	if (cpu->nonroot)
		vtx_intercept(cpu, i, EXIT_XSETBV);
	if ((uint32_t)cpu->r[RCX] || !fpu_xcr0_valid(edx_eax(cpu)))
		raise_gp(cpu, 0);
	cpu->xcr0 = edx_eax(cpu);
}

static void load_mxcsr(struct cpu *cpu, const struct insn *i)
{
	uint32_t value = (uint32_t)linear_read(cpu, insn_linear(cpu, i, 4, false), 4);
	if (value & ~fpu_mxcsr_mask())
		raise_gp(cpu, 0);
	cpu->mxcsr = value;
}

static void op_ldmxcsr(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	load_mxcsr(cpu, i);
}

static void op_vldmxcsr(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	load_mxcsr(cpu, i);
}

static void op_stmxcsr(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	linear_write(cpu, insn_linear(cpu, i, 4, true), cpu->mxcsr, 4);
}

static void op_vstmxcsr(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	linear_write(cpu, insn_linear(cpu, i, 4, true), cpu->mxcsr, 4);
}

/* The VEX forms exist only with AVX. */
static bool bind_vldmxcsr(const struct decoded *d, struct insn *out)
{
	out->fn = d->zi.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR ? op_vldmxcsr : op_vstmxcsr;
	return thunk_form_exists(d);
}

#define RULE(m, function) { .mnemonic = ZYDIS_MNEMONIC_##m, .fn = function }
static const struct insn_rule rule[] = {
	RULE(FXSAVE, op_fxsave), RULE(FXSAVE64, op_fxsave),
	RULE(FXRSTOR, op_fxrstor), RULE(FXRSTOR64, op_fxrstor),
	RULE(XSAVE, op_xsave), RULE(XSAVE64, op_xsave),
	RULE(XSAVEOPT, op_xsaveopt), RULE(XSAVEOPT64, op_xsaveopt),
	RULE(XSAVEC, op_xsavec), RULE(XSAVEC64, op_xsavec),
	RULE(XSAVES, op_xsaves), RULE(XSAVES64, op_xsaves),
	RULE(XRSTOR, op_xrstor), RULE(XRSTOR64, op_xrstor),
	RULE(XRSTORS, op_xrstors), RULE(XRSTORS64, op_xrstors),
	RULE(XGETBV, op_xgetbv), RULE(XSETBV, op_xsetbv),
	RULE(LDMXCSR, op_ldmxcsr), RULE(STMXCSR, op_stmxcsr),
	{ .mnemonic = ZYDIS_MNEMONIC_VLDMXCSR, .bind = bind_vldmxcsr },
	{ .mnemonic = ZYDIS_MNEMONIC_VSTMXCSR, .bind = bind_vldmxcsr },
	RULE(FNINIT, op_fninit), RULE(FNCLEX, op_fnclex), RULE(FNSTCW, op_fnstcw),
	RULE(FNSTSW, op_fnstsw), RULE(FNSTENV, op_fnstenv),
	RULE(FLDENV, op_fldenv), RULE(FNSAVE, op_fnsave), RULE(FRSTOR, op_frstor),
	RULE(FWAIT, op_fwait), RULE(FNOP, op_fnop), RULE(FENI8087_NOP, op_fnop),
	RULE(FDISI8087_NOP, op_fnop), RULE(FSETPM287_NOP, op_fnop),
};

const struct insn_rules xsave_rules = { rule, ARRAY_SIZE(rule) };
