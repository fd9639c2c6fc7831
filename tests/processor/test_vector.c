/* Vector and x87 instructions: the host's processor against tier 0.
 *
 * Every opcode of the 0F, 0F38 and 0F3A maps with every mandatory prefix, and
 * of VEX maps 1 to 3 with every L and W, and D8 to DF: what the decoder finds
 * there and the rule lists name is executed on both sides with random registers
 * and memory, with and without a memory operand, exceptions masked and
 * unmasked, operands anywhere in two pages and across their end. All registers,
 * flags, MXCSR, x87 state, memory and faults (vector, error code, address) must
 * agree.
 *
 *	test_vector [instances per form [seed]]
 *
 * A form is (mnemonic, memory or not, operand sizes). Coverage is printed by
 * mnemonic; one of the table that was never executed is a failure. */
#include "native.h"
#include "tier0.h"

#include "soft/fpu.h"
#include "soft/thunk.h"
#include "soft/tlb.h"

#include <stdio.h>
#include <stdlib.h>

enum { INSTANCES = 500, FORMS_MAX = 8192, SHOWN_PER_MNEMONIC = 2,
       FLAGS_ARITHMETIC = 0x8d5, MXCSR_MASKS = 0x1f80, FCW_MASKS = 0x3f };

/* --- random numbers, by seed --- */

static uint64_t seed = 0x5eed5eed5eedull;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}

static bool one_in(unsigned n) { return rnd() % n == 0; }

/* Zeros, ones, infinities, quiet and signaling NaNs, denormals, limits of the
 * integer conversions and of the narrower format. */
static const uint64_t edge64[] = {
	0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
	0xfff0000000000000, 0x7ff8000000000001, 0xfff8000000000000, 0x7ff0000000000001,
	0xfff4000000000000, 1, 0x000fffffffffffff, 0x8000000000000001, 0x0010000000000000,
	0x7fefffffffffffff, 0xffefffffffffffff, 0x4330000000000001, 0x41dfffffffc00000,
	0xc1e0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000,
	0x4008000000000000, 0x3ca0000000000000, 0x36a0000000000000, 0x47efffffe0000000,
	0x47f0000000000000,
};
static const uint32_t edge32[] = {
	0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00001, 0xffc00000,
	0x7f800001, 0xffa00000, 1, 0x007fffff, 0x80000001, 0x00800000, 0x7f7fffff, 0xff7fffff,
	0x4b000001, 0x4effffff, 0xcf000000, 0x5f000000, 0x3f000000, 0x40400000, 0x33800000,
};

static void fill(uint8_t *p, unsigned n)
{
	unsigned kind = rnd() % 5;
	for (unsigned at = 0; at + 8 <= n; at += 8) {
		uint64_t v = rnd();
		double d = (double)((int64_t)v % 1000000000) / (double)(1u << rnd() % 20);
		float f[2] = { (float)((int64_t)v % 100000) / (float)(1u << rnd() % 20), (float)(v % 1000) };
		if (kind == 1)
			v = edge64[v % ARRAY_SIZE(edge64)];
		else if (kind == 2)
			v = (uint64_t)edge32[v % ARRAY_SIZE(edge32)] << 32 |
				edge32[(v >> 32) % ARRAY_SIZE(edge32)];
		else if (kind == 3)
			memcpy(&v, f, sizeof(v));
		else if (kind == 4)
			memcpy(&v, &d, sizeof(v));
		memcpy(p + at, &v, 8);
	}
}

/* A register of the x87: any class of the extended format, invalid ones too. */
static void fill80(uint8_t *p)
{
	enum { BIAS = 0x3fff };
	const uint64_t integer_bit = 1ull << 63;
	uint64_t m = rnd();
	uint16_t e = (uint16_t)rnd(), sign = e & 0x8000;
	switch (rnd() % 8) {
	case 0: break;	/* anything: unnormals, pseudo-denormals .. */
	case 1: m |= integer_bit; e = (uint16_t)(sign | (BIAS - 32 + rnd() % 64)); break;
	case 2: m |= integer_bit; e = (uint16_t)(sign | (BIAS - 3 + rnd() % 6)); break;
	case 3: e = sign; m = one_in(2) ? 0 : m >> 1; break;
	case 4: e |= 0x7fff; m = (one_in(2) ? 0 : m) | integer_bit; break;
	case 5: m = integer_bit; e = (uint16_t)(sign | (BIAS + rnd() % 4)); break;
	case 6: m = m << 57 | integer_bit; e = (uint16_t)(sign | (BIAS + rnd() % 70)); break;
	default: m = integer_bit; e = BIAS; break;
	}
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

/* --- instructions --- */

static ZydisDecoder decoder;
static bool in_rules[ZYDIS_MNEMONIC_MAX_VALUE + 1], absent[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static unsigned executed[ZYDIS_MNEMONIC_MAX_VALUE + 1], wrong[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* Control instructions of xsave_rules that fit here; the XSAVE family has its
 * own part below. */
static const ZydisMnemonic control[] = {
	ZYDIS_MNEMONIC_FNINIT, ZYDIS_MNEMONIC_FNCLEX, ZYDIS_MNEMONIC_FNSTCW, ZYDIS_MNEMONIC_FNSTSW,
	ZYDIS_MNEMONIC_FLDCW, ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FLDENV, ZYDIS_MNEMONIC_FNSAVE,
	ZYDIS_MNEMONIC_FRSTOR, ZYDIS_MNEMONIC_FWAIT, ZYDIS_MNEMONIC_FNOP,
	ZYDIS_MNEMONIC_LDMXCSR, ZYDIS_MNEMONIC_STMXCSR, ZYDIS_MNEMONIC_VLDMXCSR,
	ZYDIS_MNEMONIC_VSTMXCSR,
};

struct instruction {
	uint8_t bytes[15];
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	const ZydisDecodedOperand *memory;	/* visible or not */
};

static bool decode(struct instruction *n)
{
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, n->bytes, sizeof(n->bytes), &n->zi, n->op)))
		return false;
	n->memory = NULL;
	for (unsigned k = 0; k < n->zi.operand_count; k++)
		if (n->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
			n->memory = &n->op[k];
	return in_rules[n->zi.mnemonic] && n->zi.meta.category != ZYDIS_CATEGORY_STRINGOP &&
		(n->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
		 n->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX);
}

static bool is(const struct instruction *n, ZydisMnemonic m) { return n->zi.mnemonic == m; }

static bool is_gather(const struct instruction *n)
{
	return n->zi.meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER;
}

static bool has_mmx(const struct instruction *n)
{
	for (unsigned k = 0; k < n->zi.operand_count_visible; k++)
		if (n->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(n->op[k].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

/* An opcode with its prefix, without registers. */
struct encoding { bool vex, x87; uint8_t map, prefix, opcode, l, w; };

static void make(const struct encoding *e, bool memory, struct instruction *n)
{
	static const uint8_t prefix[] = { 0, 0x66, 0xf3, 0xf2 };
	enum { BASE_RBX = 3, SIB = 4 };
	uint64_t r = rnd();
	uint8_t *p = n->bytes, modrm = (uint8_t)(r & 0x3f);
	bool vsib = e->vex && e->map == 2 && e->opcode >= 0x90 && e->opcode <= 0x93;
	memset(n->bytes, 0, sizeof(n->bytes));
	if (e->x87) {
		if (one_in(16))
			*p++ = 0x66;
	} else if (e->vex) {
		/* R, X and B are inverted; the base is RBX. */
		uint8_t rxb = (uint8_t)(r >> 8 & 0xe0);
		if (memory)
			rxb |= 0x20;
		*p++ = 0xc4;
		*p++ = (uint8_t)(rxb | e->map);
		*p++ = (uint8_t)(e->w << 7 | (one_in(2) ? 0x78 : r >> 16 & 0x78) | e->l << 2 | e->prefix);
	} else {
		if (e->prefix)
			*p++ = prefix[e->prefix];
		if (e->w || one_in(2))
			*p++ = (uint8_t)(0x40 | e->w << 3 | (r >> 8 & (memory ? 4 : 7)));
		*p++ = 0x0f;
		if (e->map > 1)
			*p++ = e->map == 2 ? 0x38 : 0x3a;
	}
	*p++ = e->opcode;
	if (memory) {
		int32_t displacement = (int32_t)(r >> 40 & 0xff) - 128;
		*p++ = (uint8_t)(0x80 | (modrm & 0x38) | (vsib ? SIB : BASE_RBX));
		if (vsib)
			*p++ = (uint8_t)((r >> 32 & 0xf8) | BASE_RBX);
		memcpy(p, &displacement, 4);
		p += 4;
	} else
		*p++ = 0xc0 | modrm;
	*p = (uint8_t)rnd();
}

/* --- one comparison --- */

static unsigned total, faults, failures, forgiven, in_compatibility_mode;

struct side { struct native_state s; struct native_result r; };

static struct fxsave_image *fx_of(struct native_state *s) { return (struct fxsave_image *)s->fx; }

static void random_x87(struct fxsave_image *x, bool unmask)
{
	x->fcw = one_in(2) ? (uint16_t)((rnd() & 0xf00) | 0x7f) : FCW_INITIAL;
	if (unmask)
		x->fcw &= (uint16_t)~(rnd() & FCW_MASKS);
	x->fsw = rnd() & 0x7f00;
	x->ftw = one_in(8) ? 0 : one_in(2) ? 0xff : (uint8_t)rnd();
	if (one_in(4)) {
		x->fsw |= rnd() & 0x7f;
		if (x->fsw & ~x->fcw & FSW_EXCEPTIONS)
			x->fsw |= FSW_ES | FSW_B;
	}
	for (unsigned n = 0; n < 8; n++)
		fill80(x->st[n]);
}

/* Memory as the operand's kind needs it, so that not nearly all are invalid. */
static void shape_memory(const struct instruction *n, uint8_t *scratch, unsigned at)
{
	unsigned size = n->memory ? n->memory->size / 8 : 0;
	if (!size || at + size > NATIVE_SCRATCH_SIZE)
		return;
	uint8_t *p = scratch + at;
	if (is(n, ZYDIS_MNEMONIC_FBLD) && !one_in(8)) {
		for (unsigned k = 0; k < 9; k++)
			p[k] = (uint8_t)(rnd() % 10 | (rnd() % 10) << 4);
		p[9] = rnd() & 0x80;
	} else if (is(n, ZYDIS_MNEMONIC_FLD) && size == 10) {
		fill80(p);
	} else if (is(n, ZYDIS_MNEMONIC_FRSTOR)) {
		unsigned environment = size - 80;
		for (unsigned k = 0; k < 8; k++)
			fill80(p + environment + 10 * k);
	} else if (size == 4 && (is(n, ZYDIS_MNEMONIC_LDMXCSR) || is(n, ZYDIS_MNEMONIC_VLDMXCSR)) && !one_in(8)) {
		p[2] = p[3] = 0;
	}
}

static void random_state(const struct instruction *n, bool unmask, struct native_state *s,
			 uint8_t *scratch)
{
	unsigned at;
	memset(s, 0, sizeof(*s));
	switch (rnd() % 8) {
	case 0: at = NATIVE_PAGE - (unsigned)(rnd() % 64); break;
	case 1: at = NATIVE_SCRATCH_SIZE - (unsigned)(rnd() % 64); break;
	case 2: at = (unsigned)(rnd() % 4000); break;
	default: at = 32 * (unsigned)(rnd() % 100); break;
	}
	for (unsigned k = 0; k < 16; k++)
		s->gpr[k] = one_in(3) ? rnd() % 40 - 20 : rnd();
	s->gpr[RBX] = s->gpr[RDI] = NATIVE_SCRATCH + at;
	if (n->memory && n->memory->mem.disp.has_displacement)
		s->gpr[RBX] -= (uint64_t)n->memory->mem.disp.value;
	s->rflags = FLAG_FIXED | FLAG_IF | (rnd() & FLAGS_ARITHMETIC);
	for (unsigned k = 0; k < 16; k++) {
		fill(s->ymm[k], 16);
		fill(s->ymm[k] + 16, 16);
	}
	if (is_gather(n)) {	/* indices near the scratch pages */
		uint8_t *index = s->ymm[ZydisRegisterGetId(n->op[1].mem.index) & 15];
		bool quad = n->zi.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS || n->zi.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
			n->zi.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || n->zi.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;
		for (unsigned k = 0; k < 32; k += quad ? 8 : 4) {
			int64_t v = (int64_t)(rnd() % 200) * (one_in(16) ? -1 : 1);
			memcpy(index + k, &v, quad ? 8 : 4);
		}
	}
	struct fxsave_image *x = fx_of(s);
	x->mxcsr = MXCSR_INITIAL;
	if (one_in(2))
		x->mxcsr |= (uint32_t)rnd() & (fpu_mxcsr_mask() & ~MXCSR_MASKS);
	if (unmask)
		x->mxcsr &= ~(uint32_t)(rnd() & MXCSR_MASKS);
	random_x87(x, unmask);
	for (unsigned k = 0; k < NATIVE_SCRATCH_SIZE; k += 16)
		fill(scratch + k, 16);
	shape_memory(n, scratch, at);
}

/* Where this host does other than the SDM says, or the SDM leaves it open; the
 * SDM is followed. SAME: a difference that counts; PARTLY: what may differ has
 * been made equal in *h; FORGIVEN: nothing can be compared. */
enum known { SAME, PARTLY, FORGIVEN };

static void same_x87(struct side *t, struct side *h)
{
	struct fxsave_image *a = fx_of(&t->s), *b = fx_of(&h->s);
	memcpy(b->st, a->st, sizeof(b->st));
	b->fsw = a->fsw;
	b->ftw = a->ftw;
}

static enum known known_difference(const struct instruction *n, const struct side *before,
				   struct side *t, struct side *h)
{
	const struct fxsave_image *was = (const struct fxsave_image *)before->s.fx;
	/* The guest has no VAES and VPCLMULQDQ (256 bits). */
	if (n->zi.meta.isa_set == ZYDIS_ISA_SET_VAES || n->zi.meta.isa_set == ZYDIS_ISA_SET_VPCLMULQDQ)
		return t->r.vector == EXC_UD ? FORGIVEN : SAME;
	/* SHA with misaligned memory: #GP; AMD allows it. */
	if (n->zi.meta.isa_set == ZYDIS_ISA_SET_SHA && t->r.vector == EXC_GP && h->r.vector != EXC_GP)
		return FORGIVEN;
	/* CVTPI2PS from memory takes #MF and enters MMX state; AMD does neither. */
	if (is(n, ZYDIS_MNEMONIC_CVTPI2PS) && n->memory) {
		if ((was->fsw & FSW_ES) && t->r.vector == EXC_MF)
			return FORGIVEN;
		same_x87(t, h);
		return PARTLY;
	}
	/* An MMX instruction that faults: AMD enters MMX state first. */
	if (has_mmx(n) && t->r.faulted && t->r.vector == h->r.vector) {
		same_x87(t, h);
		return PARTLY;
	}
	/* Open in the SDM: whether masked-off bytes fault. */
	if (is(n, ZYDIS_MNEMONIC_MASKMOVQ) || is(n, ZYDIS_MNEMONIC_MASKMOVDQU) ||
	    is(n, ZYDIS_MNEMONIC_VMASKMOVDQU))
		return !t->r.faulted && h->r.vector == EXC_PF ? FORGIVEN : SAME;
	/* A gather that faults has extended the mask's elements; AMD leaves all
	 * but their sign bits, which alone say what is left to do. */
	if (is_gather(n) && t->r.faulted && h->r.faulted) {
		unsigned mask = (unsigned)ZydisRegisterGetId(n->op[2].reg.value) & 15;
		unsigned element = n->op[0].element_size / 8;
		for (unsigned k = 0; k < 32; k++)
			h->s.ymm[mask][k] = k % element == element - 1 ?
				(h->s.ymm[mask][k] & 0x80) | (t->s.ymm[mask][k] & 0x7f) :
				t->s.ymm[mask][k];
		return PARTLY;
	}
	return SAME;
}

/* Is the operand accessed at once? Else which of its bytes faults first is
 * open, and only the page is compared. */
static bool one_address(const struct instruction *n)
{
	switch (n->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ: case ZYDIS_MNEMONIC_MASKMOVDQU: case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FRSTOR:
		return false;
	default:
		return true;
	}
}

static const char *difference(const struct instruction *n, const struct side *t, const struct side *h)
{
	const struct fxsave_image *a = (const struct fxsave_image *)t->s.fx;
	const struct fxsave_image *b = (const struct fxsave_image *)h->s.fx;
	if (t->r.faulted != h->r.faulted || t->r.vector != h->r.vector)
		return "exception";
	if (t->r.vector == EXC_PF && (t->r.address ^ h->r.address) & (one_address(n) ? ~0ull : ~(uint64_t)(NATIVE_PAGE - 1)))
		return "fault address";
	if (t->r.vector == EXC_PF && t->r.error != h->r.error)
		return "page-fault error code";
	if (t->s.rip != h->s.rip)
		return "RIP";
	if (memcmp(t->s.gpr, h->s.gpr, sizeof(t->s.gpr)))
		return "general registers";
	if ((t->s.rflags ^ h->s.rflags) & FLAGS_ARITHMETIC)
		return "flags";
	if (memcmp(t->s.ymm, h->s.ymm, sizeof(t->s.ymm)))
		return "vector registers";
	if (a->mxcsr != b->mxcsr)
		return "MXCSR";
	if (a->fcw != b->fcw || a->fsw != b->fsw || a->ftw != b->ftw)
		return "x87 control, status or tags";
	for (unsigned k = 0; k < 8; k++)
		if (memcmp(a->st[k], b->st[k], 10))
			return "x87 registers";
	/* FNSTENV and FNSAVE: the pointers depend on the processor's history. */
	const uint8_t *tm = tier0_scratch(), *hm = native_scratch();
	uint64_t at = t->s.gpr[RBX] - NATIVE_SCRATCH, skip = 0, skipped = 0;
	if (n->memory && (is(n, ZYDIS_MNEMONIC_FNSTENV) || is(n, ZYDIS_MNEMONIC_FNSAVE))) {
		unsigned width = n->memory->size / 8 == 14 || n->memory->size / 8 == 94 ? 2 : 4;
		skip = at + (uint64_t)n->memory->mem.disp.value + 3 * width;
		skipped = 4 * width;
	}
	for (uint64_t k = 0; k < NATIVE_SCRATCH_SIZE; k++)
		if (k - skip >= skipped && tm[k] != hm[k])
			return "memory";
	return NULL;
}

static void print_bytes(const char *what, const uint8_t *a, const uint8_t *b, unsigned n)
{
	printf("    %-8s tier 0 ", what);
	for (unsigned k = n; k-- > 0;)
		printf("%02x", a[k]);
	printf("\n    %-8s host   ", "");
	for (unsigned k = n; k-- > 0;)
		printf("%02x", b[k]);
	printf("\n");
}

static void show(const struct instruction *n, const char *what, uint64_t from, struct side *t, struct side *h)
{
	struct fxsave_image *a = fx_of(&t->s), *b = fx_of(&h->s);
	printf("DIFFERENT %s: %s; seed %#llx; bytes", ZydisMnemonicGetString(n->zi.mnemonic), what,
	       (unsigned long long)from);
	for (unsigned k = 0; k < n->zi.length; k++)
		printf(" %02x", n->bytes[k]);
	printf("\n    vector %d error %x address %llx / vector %d error %x address %llx\n",
	       t->r.faulted ? t->r.vector : -1, t->r.error, (unsigned long long)t->r.address,
	       h->r.faulted ? h->r.vector : -1, h->r.error, (unsigned long long)h->r.address);
	printf("    rflags %llx / %llx mxcsr %x / %x fcw %x / %x fsw %x / %x ftw %x / %x\n",
	       (unsigned long long)t->s.rflags, (unsigned long long)h->s.rflags, a->mxcsr, b->mxcsr,
	       a->fcw, b->fcw, a->fsw, b->fsw, a->ftw, b->ftw);
	for (unsigned k = 0; k < 16; k++) {
		char name[16];
		snprintf(name, sizeof(name), "r%u", k);
		if (t->s.gpr[k] != h->s.gpr[k])
			print_bytes(name, (uint8_t *)&t->s.gpr[k], (uint8_t *)&h->s.gpr[k], 8);
		snprintf(name, sizeof(name), "ymm%u", k);
		if (memcmp(t->s.ymm[k], h->s.ymm[k], 32))
			print_bytes(name, t->s.ymm[k], h->s.ymm[k], 32);
		snprintf(name, sizeof(name), "st%u", k);
		if (k < 8 && memcmp(a->st[k], b->st[k], 10))
			print_bytes(name, a->st[k], b->st[k], 10);
	}
}

/* Has the instruction the same bytes and meaning in compatibility mode? */
static bool same_in_compatibility_mode(const struct instruction *n)
{
	enum { NO_RXB = 0xe0, W = 0x80, LOW_VVVV = 0x40, IS4_HIGH = 0x80 };
	if (is(n, ZYDIS_MNEMONIC_VZEROALL) || is(n, ZYDIS_MNEMONIC_VZEROUPPER))
		return false;	/* eight registers there */
	if (n->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return !(n->zi.attributes & ZYDIS_ATTRIB_HAS_REX);
	return (n->bytes[1] & NO_RXB) == NO_RXB && !(n->bytes[2] & W) && (n->bytes[2] & LOW_VVVV) &&
		!(n->bytes[n->zi.length - 1] & IS4_HIGH);
}

static struct native_result tier0_compatibility(const struct instruction *n, struct native_state *s)
{
	enum { AR_CODE_32 = 0xc0fb };
	struct cpu *cpu = tier0_cpu();
	struct segment code = cpu->seg[SEG_CS];
	cpu->seg[SEG_CS].access_rights = AR_CODE_32;
	cpu_mode_changed(cpu);
	struct native_result r = tier0_run(n->bytes, n->zi.length, NATIVE_VECTORS, s);
	cpu->seg[SEG_CS] = code;
	cpu_mode_changed(cpu);
	return r;
}

/* FIP, FDP and FOP after an x87 instruction. Hosts differ in when FXSAVE shows
 * them (AMD: with an exception only), so they are compared with what the manual
 * says. */
static const char *wrong_pointers(const struct instruction *n, struct side *before, struct side *t)
{
	ZydisISASet set = n->zi.meta.isa_set;
	const struct fxsave_image *x = fx_of(&t->s), *was = fx_of(&before->s);
	if (t->r.faulted || (set != ZYDIS_ISA_SET_X87 && set != ZYDIS_ISA_SET_FCMOV &&
			     set != ZYDIS_ISA_SET_PPRO && set != ZYDIS_ISA_SET_SSE3X87))
		return NULL;
	for (unsigned k = 0; k < ARRAY_SIZE(control); k++)
		if (is(n, control[k]))
			return NULL;
	uint64_t operand = n->memory ? (uint32_t)(before->s.gpr[RBX] + (uint64_t)n->memory->mem.disp.value) :
		was->fdp;
	unsigned opcode = (n->zi.opcode & 7u) << 8 | (unsigned)n->zi.raw.modrm.mod << 6 |
		(unsigned)n->zi.raw.modrm.reg << 3 | n->zi.raw.modrm.rm;
	return x->fip != NATIVE_INSN ? "FIP" : x->fdp != operand ? "FDP" : x->fop != opcode ? "FOP" : NULL;
}

static void compare(const struct instruction *n, bool unmask)
{
	uint64_t from = seed;
	struct side before = { 0 }, t, h;
	bool compatibility = one_in(4) && same_in_compatibility_mode(n);
	random_state(n, unmask, &before.s, tier0_scratch());
	for (unsigned k = 0; compatibility && k < 16; k++)
		before.s.gpr[k] = (uint32_t)before.s.gpr[k];
	memcpy(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE);
	t = h = before;
	h.r = native_run(n->bytes, n->zi.length, NATIVE_VECTORS, &h.s);
	t.r = compatibility ? tier0_compatibility(n, &t.s) :
		tier0_run(n->bytes, n->zi.length, NATIVE_VECTORS, &t.s);
	in_compatibility_mode += compatibility;
	/* Not on this host, and so not in the guest. */
	if (h.r.vector == EXC_UD && t.r.vector == EXC_UD) {
		absent[n->zi.mnemonic] = true;
		return;
	}
	total++;
	executed[n->zi.mnemonic]++;
	faults += t.r.faulted;
	const char *what = difference(n, &t, &h);
	if (!what)
		what = wrong_pointers(n, &before, &t);
	if (!what)
		return;
	enum known known = known_difference(n, &before, &t, &h);
	if (known == FORGIVEN || (known == PARTLY && !(what = difference(n, &t, &h)))) {
		forgiven++;
		return;
	}
	failures++;
	if (wrong[n->zi.mnemonic]++ < SHOWN_PER_MNEMONIC)
		show(n, what, from, &t, &h);
}

/* --- forms --- */

static struct { uint32_t key; unsigned count; } form[FORMS_MAX];
static unsigned forms;

static unsigned *form_count(const struct instruction *n)
{
	uint32_t key = (uint32_t)n->zi.mnemonic << 16;
	for (unsigned k = 0; k < n->zi.operand_count_visible && k < 3; k++) {
		const ZydisDecodedOperand *op = &n->op[k];
		unsigned size = 0;	/* log2 of the operand's bytes */
		while (size < 6 && op->size > 8u << size)
			size++;
		key |= (uint32_t)(op->type == ZYDIS_OPERAND_TYPE_MEMORY ? 8 | size : size) << 4 * k;
	}
	key |= (uint32_t)has_mmx(n) << 12;
	for (unsigned k = 0; k < forms; k++)
		if (form[k].key == key)
			return &form[k].count;
	if (forms == FORMS_MAX) {
		printf("more than %u forms: raise FORMS_MAX\n", FORMS_MAX);
		exit(1);
	}
	form[forms].key = key;
	form[forms].count = 0;
	return &form[forms++].count;
}

static unsigned instances = INSTANCES;

enum { ESCAPE_38 = 0x38, ESCAPE_3A = 0x3a };	/* in the 0F map: the ways to the other two */

/* All forms that this encoding has, `instances` times each: the register field
 * may select among eight instructions, so look at eight times as many. */
static void run_encoding(const struct encoding *e)
{
	struct instruction n;
	if (!e->vex && e->map == 1 && (e->opcode == ESCAPE_38 || e->opcode == ESCAPE_3A))
		return;
	for (unsigned memory = 0; memory < 2; memory++) {
		bool any = false;
		for (unsigned k = 0; k < 256 && !any; k++) {
			make(e, memory, &n);
			any = decode(&n);
		}
		unsigned idle = 0, fields = e->x87 ? 64 : 8;
		for (unsigned k = 0; any && k < instances * fields && idle < 256; k++) {
			make(e, memory, &n);
			if (!decode(&n))
				continue;
			unsigned *count = form_count(&n);
			/* x87 registers: every ModRM value its share */
			if (*count >= instances * (e->x87 && !memory ? 8 : 1)) {
				idle++;
				continue;
			}
			idle = 0;
			++*count;
			compare(&n, *count & 1);
		}
	}
}

static void run_all(void)
{
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned prefix = 0; prefix < 4; prefix++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				for (unsigned w = 0; w < 2; w++)
					for (unsigned l = 0; l < 3; l++)
						run_encoding(&(struct encoding){
							.vex = l > 0, .map = (uint8_t)map,
							.prefix = (uint8_t)prefix,
							.opcode = (uint8_t)opcode,
							.l = l == 2, .w = (uint8_t)w });
	for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++)
		run_encoding(&(struct encoding){ .x87 = true, .opcode = (uint8_t)opcode });
	struct instruction n = { .bytes = { 0x9b } };	/* FWAIT */
	for (unsigned k = 0; decode(&n) && k < instances; k++) {
		++*form_count(&n);
		compare(&n, k & 1);
	}
}

/* --- availability: what CR0, CR4, XCR0 and pending exceptions forbid --- */

struct availability {
	const char *what;
	uint8_t bytes[6], length;
	uint64_t cr0_set, cr4_clear, xcr0_clear;
	bool pending;		/* an unmasked x87 exception is */
	uint32_t mxcsr;		/* 0: as initial */
	uint16_t memory;	/* the first bytes at [RBX] */
	int vector;		/* expected; -1: none */
};

static const struct availability availability[] = {
#define ADDPS { 0x0f, 0x58, 0xc1 }, 3
#define DIVPS { 0x0f, 0x5e, 0xc1 }, 3
#define VADDPS { 0xc5, 0xf0, 0x58, 0xc0 }, 4
#define PADDB_MMX { 0x0f, 0xfc, 0xc1 }, 3
#define CVTPI2PS { 0x0f, 0x2a, 0xc1 }, 3
#define CVTPI2PD_MEMORY { 0x66, 0x0f, 0x2a, 0x03 }, 4
#define FLD1 { 0xd9, 0xe8 }, 2
#define FNINIT { 0xdb, 0xe3 }, 2
#define FNSTSW { 0xdf, 0xe0 }, 2
#define FNCLEX { 0xdb, 0xe2 }, 2
#define FWAIT { 0x9b }, 1
#define EMMS { 0x0f, 0x77 }, 2
#define FXSAVE { 0x0f, 0xae, 0x03 }, 3
#define XSAVE { 0x0f, 0xae, 0x23 }, 3
#define XGETBV { 0x0f, 0x01, 0xd0 }, 3
#define LDMXCSR { 0x0f, 0xae, 0x13 }, 3
#define MOVAPS { 0x0f, 0x28, 0x03 }, 3
#define XSAVES { 0x0f, 0xc7, 0x2b }, 3
#define XSETBV { 0x0f, 0x01, 0xd1 }, 3
#define VZEROUPPER { 0xc5, 0xf8, 0x77 }, 3
	{ "ADDPS", ADDPS, .vector = -1 },
	{ "ADDPS, CR0.EM", ADDPS, .cr0_set = CR0_EM, .vector = EXC_UD },
	{ "ADDPS, CR0.EM and TS", ADDPS, .cr0_set = CR0_EM | CR0_TS, .vector = EXC_UD },
	{ "ADDPS, CR0.TS", ADDPS, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "ADDPS, no CR4.OSFXSR", ADDPS, .cr4_clear = CR4_OSFXSR, .vector = EXC_UD },
	{ "ADDPS, x87 exception pending", ADDPS, .pending = true, .vector = -1 },
	{ "DIVPS 0/0 unmasked", DIVPS, .mxcsr = 0x1f00, .vector = EXC_XM },
	{ "DIVPS 0/0 unmasked, no CR4.OSXMMEXCPT", DIVPS, .mxcsr = 0x1f00,
	  .cr4_clear = CR4_OSXMMEXCPT, .vector = EXC_UD },
	{ "VADDPS", VADDPS, .vector = -1 },
	{ "VADDPS, CR0.EM", VADDPS, .cr0_set = CR0_EM, .vector = -1 },
	{ "VADDPS, CR0.TS", VADDPS, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "VADDPS, no CR4.OSFXSR", VADDPS, .cr4_clear = CR4_OSFXSR, .vector = -1 },
	{ "VADDPS, no CR4.OSXSAVE", VADDPS, .cr4_clear = CR4_OSXSAVE, .vector = EXC_UD },
	{ "VADDPS, XCR0 without AVX", VADDPS, .xcr0_clear = XCR0_AVX, .vector = EXC_UD },
	{ "VZEROUPPER, XCR0 without AVX", VZEROUPPER, .xcr0_clear = XCR0_AVX, .vector = EXC_UD },
	{ "PADDB mm", PADDB_MMX, .vector = -1 },
	{ "PADDB mm, CR0.EM", PADDB_MMX, .cr0_set = CR0_EM, .vector = EXC_UD },
	{ "PADDB mm, CR0.TS", PADDB_MMX, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "PADDB mm, no CR4.OSFXSR", PADDB_MMX, .cr4_clear = CR4_OSFXSR, .vector = -1 },
	{ "PADDB mm, x87 exception pending", PADDB_MMX, .pending = true, .vector = EXC_MF },
	{ "EMMS, x87 exception pending", EMMS, .pending = true, .vector = EXC_MF },
	{ "EMMS, CR0.EM", EMMS, .cr0_set = CR0_EM, .vector = EXC_UD },
	{ "CVTPI2PS, no CR4.OSFXSR", CVTPI2PS, .cr4_clear = CR4_OSFXSR, .vector = EXC_UD },
	{ "CVTPI2PS, x87 exception pending", CVTPI2PS, .pending = true, .vector = EXC_MF },
	{ "CVTPI2PD m64, x87 exception pending", CVTPI2PD_MEMORY, .pending = true, .vector = -1 },
	{ "FLD1", FLD1, .vector = -1 },
	{ "FLD1, CR0.EM", FLD1, .cr0_set = CR0_EM, .vector = EXC_NM },
	{ "FLD1, CR0.TS", FLD1, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "FLD1, exception pending", FLD1, .pending = true, .vector = EXC_MF },
	{ "FNINIT, exception pending", FNINIT, .pending = true, .vector = -1 },
	{ "FNCLEX, exception pending", FNCLEX, .pending = true, .vector = -1 },
	{ "FNSTSW AX, exception pending", FNSTSW, .pending = true, .vector = -1 },
	{ "FNSTSW AX, CR0.TS", FNSTSW, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "FWAIT, exception pending", FWAIT, .pending = true, .vector = EXC_MF },
	{ "FWAIT, CR0.MP and TS", FWAIT, .cr0_set = CR0_MP | CR0_TS, .vector = EXC_NM },
	{ "FWAIT, CR0.EM", FWAIT, .cr0_set = CR0_EM, .vector = -1 },
	{ "FXSAVE, CR0.TS", FXSAVE, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "FXSAVE, CR0.EM", FXSAVE, .cr0_set = CR0_EM, .vector = EXC_NM },
	{ "FXSAVE, exception pending", FXSAVE, .pending = true, .vector = -1 },
	{ "XSAVE, no CR4.OSXSAVE", XSAVE, .cr4_clear = CR4_OSXSAVE, .vector = EXC_UD },
	{ "XSAVE, CR0.TS", XSAVE, .cr0_set = CR0_TS, .vector = EXC_NM },
	{ "XGETBV, no CR4.OSXSAVE", XGETBV, .cr4_clear = CR4_OSXSAVE, .vector = EXC_UD },
	{ "LDMXCSR", LDMXCSR, .memory = 0x1f80, .vector = -1 },
	{ "LDMXCSR, CR0.EM", LDMXCSR, .cr0_set = CR0_EM, .vector = EXC_UD },
	{ "XSAVES at CPL 3", XSAVES, .vector = EXC_GP },
	{ "XSAVES, no CR4.OSXSAVE", XSAVES, .cr4_clear = CR4_OSXSAVE, .vector = EXC_UD },
	{ "XSETBV at CPL 3", XSETBV, .vector = EXC_GP },
	{ "XSETBV, no CR4.OSXSAVE", XSETBV, .cr4_clear = CR4_OSXSAVE, .vector = EXC_UD },
	{ "MOVAPS from memory, CR0.TS", MOVAPS, .cr0_set = CR0_TS, .vector = EXC_NM },
};

static void run_availability(void)
{
	struct cpu *cpu = tier0_cpu();
	for (unsigned k = 0; k < ARRAY_SIZE(availability); k++) {
		const struct availability *a = &availability[k];
		struct native_state s = { .rflags = FLAG_FIXED | FLAG_IF };
		struct fxsave_image *x = fx_of(&s);
		uint64_t cr0 = cpu->cr0, cr4 = cpu->cr4, xcr0 = cpu->xcr0;
		x->mxcsr = a->mxcsr ? a->mxcsr : MXCSR_INITIAL;
		x->fcw = a->pending ? FCW_INITIAL & ~1u : FCW_INITIAL;
		x->fsw = a->pending ? FSW_ES | FSW_B | 1 : 0;
		s.gpr[RBX] = NATIVE_SCRATCH;
		memset(tier0_scratch(), 0, NATIVE_SCRATCH_SIZE);
		store_le(tier0_scratch(), a->memory, sizeof(a->memory));
		cpu->cr0 |= a->cr0_set;
		cpu->cr4 &= ~a->cr4_clear;
		cpu->xcr0 &= ~a->xcr0_clear;
		struct native_result r = tier0_run(a->bytes, a->length, NATIVE_VECTORS, &s);
		cpu->cr0 = cr0;
		cpu->cr4 = cr4;
		cpu->xcr0 = xcr0;
		int got = r.faulted ? r.vector : -1;
		total++;
		if (got != a->vector) {
			failures++;
			printf("DIFFERENT %s: exception %d, should be %d\n", a->what, got, a->vector);
		}
	}
}

/* With no room for more thunks every instruction is made anew in its
 * processor's slot: the same comparisons must hold. */
static void run_full_region(void)
{
	static const struct encoding some[] = {
		{ .map = 1, .opcode = 0x58 }, { .map = 1, .prefix = 1, .opcode = 0xd4 },
		{ .map = 1, .opcode = 0xd4 }, { .map = 1, .opcode = 0x2e },
		{ .map = 3, .prefix = 1, .opcode = 0x61 }, { .map = 1, .prefix = 2, .opcode = 0x2a },
		{ .map = 1, .opcode = 0x58, .vex = true, .l = 1 }, { .x87 = true, .opcode = 0xdb },
		{ .map = 1, .opcode = 0x7e }, { .map = 3, .prefix = 1, .opcode = 0x16 },
	};
	uint32_t limit = thunk_region_limit(0);
	forms = 0;
	for (unsigned k = 0; k < ARRAY_SIZE(some); k++)
		run_encoding(&some[k]);
	thunk_region_limit(limit);
}

/* --- the XSAVE family: images made on one side are restored on the other --- */

struct save_pair { const char *save, *restore; uint8_t length; bool legacy; };

static void scramble(struct native_state *s)
{
	uint8_t scratch[NATIVE_SCRATCH_SIZE];
	struct instruction none = { .memory = NULL };
	random_state(&none, false, s, scratch);
}

/* Some components in their initial state, so that XINUSE matters. */
static void initialize_some(struct native_state *s)
{
	struct fxsave_image *x = fx_of(s);
	uint64_t which = rnd();
	if (which & 1) {
		x->fcw = FCW_INITIAL;
		x->fsw = x->ftw = 0;
		memset(x->st, 0, sizeof(x->st));
	}
	for (unsigned k = 0; k < 16; k++) {
		if (which & 2)
			memset(s->ymm[k], 0, 16);
		if (which & 4)
			memset(s->ymm[k] + 16, 0, 16);
	}
	if (which & 8)
		x->mxcsr = MXCSR_INITIAL;
}

static void compare_states(const char *what, uint64_t from, struct native_state *a, struct native_state *b)
{
	struct instruction none = { .memory = NULL };
	struct side t = { .s = *a }, h = { .s = *b };
	memcpy(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE);
	const char *d = difference(&none, &t, &h);
	total++;
	if (!d)
		return;
	failures++;
	printf("DIFFERENT %s: %s; seed %#llx\n", what, d, (unsigned long long)from);
}

static void run_xsave(void)
{
	/* [RBX]; the W forms */
	static const struct save_pair pair[] = {
		{ "\x48\x0f\xae\x03", "\x48\x0f\xae\x0b", 4, true },	/* FXSAVE64, FXRSTOR64 */
		{ "\x0f\xae\x03", "\x0f\xae\x0b", 3, true },	/* FXSAVE, FXRSTOR */
		{ "\x48\x0f\xae\x23", "\x48\x0f\xae\x2b", 4, false },	/* XSAVE64, XRSTOR64 */
		{ "\x0f\xae\x23", "\x0f\xae\x2b", 3, false },	/* XSAVE, XRSTOR */
		{ "\x48\x0f\xae\x33", "\x48\x0f\xae\x2b", 4, false },	/* XSAVEOPT64 */
		{ "\x48\x0f\xc7\x23", "\x48\x0f\xae\x2b", 4, false },	/* XSAVEC64 */
	};
	for (unsigned k = 0; k < ARRAY_SIZE(pair) * instances; k++) {
		const struct save_pair *p = &pair[k % ARRAY_SIZE(pair)];
		uint64_t from = seed;
		struct native_state start, other;
		unsigned at = 64 * (unsigned)(rnd() % ((NATIVE_SCRATCH_SIZE - 1024) / 64));
		uint64_t saved = p->legacy ? 7 : rnd() & 7, restored = p->legacy ? 7 : rnd() & 7;
		scramble(&start);
		initialize_some(&start);
		scramble(&other);
		start.gpr[RBX] = other.gpr[RBX] = NATIVE_SCRATCH + at;
		start.gpr[RAX] = saved;
		other.gpr[RAX] = restored;
		start.gpr[RDX] = other.gpr[RDX] = 0;
		memset(tier0_scratch(), 0, NATIVE_SCRATCH_SIZE);
		memset(native_scratch(), 0, NATIVE_SCRATCH_SIZE);
		for (unsigned direction = 0; direction < 2; direction++) {
			struct native_state s = start, t = other, h = other;
			if (direction == 0) {
				tier0_run((const uint8_t *)p->save, p->length, NATIVE_VECTORS, &s);
				memcpy(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE);
			} else {
				native_run((const uint8_t *)p->save, p->length, NATIVE_VECTORS, &s);
				memcpy(tier0_scratch(), native_scratch(), NATIVE_SCRATCH_SIZE);
			}
			struct native_result rt = tier0_run((const uint8_t *)p->restore, p->length, NATIVE_VECTORS, &t);
			struct native_result rh = native_run((const uint8_t *)p->restore, p->length, NATIVE_VECTORS, &h);
			if (rt.faulted || rh.faulted) {
				failures++;
				printf("restoring raised %d in tier 0, %d on the host; seed %#llx\n",
				       rt.faulted ? rt.vector : -1, rh.faulted ? rh.vector : -1,
				       (unsigned long long)from);
				continue;
			}
			compare_states(direction ? "state saved on the host and restored in tier 0" :
				       "state saved in tier 0 and restored on the host", from, &t, &h);
		}
	}
}

/* XRSTOR on headers and MXCSR that may be bad: both sides must refuse the same. */
static void run_bad_images(void)
{
	static const uint8_t xrstor[] = { 0x48, 0x0f, 0xae, 0x2b }, fxrstor[] = { 0x48, 0x0f, 0xae, 0x0b };
	enum { MXCSR = 24, HEADER = 512, COMPONENTS = 7 };
	for (unsigned k = 0; k < instances; k++) {
		uint64_t from = seed;
		struct native_state s, t, h;
		scramble(&s);
		unsigned at = 64 * (unsigned)(rnd() % 32) + (one_in(8) ? (unsigned)(rnd() % 64) : 0);
		uint8_t *image = tier0_scratch() + at;
		s.gpr[RBX] = NATIVE_SCRATCH + at;
		s.gpr[RAX] = rnd() & COMPONENTS;
		s.gpr[RDX] = 0;
		memset(tier0_scratch(), 0, NATIVE_SCRATCH_SIZE);
		store_le(image + MXCSR, one_in(4) ? (uint32_t)rnd() : MXCSR_INITIAL, 4);
		store_le(image + HEADER, rnd() & COMPONENTS, 8);
		if (one_in(2))	/* compacted */
			store_le(image + HEADER + 8, 1ull << 63 | (rnd() & COMPONENTS), 8);
		if (one_in(3))	/* a bit that should not be there */
			image[HEADER + rnd() % 64] |= (uint8_t)(1u << rnd() % 8);
		/* Components that the host's operating system has and we have not. */
		store_le(image + HEADER, load_le(image + HEADER, 8) & (COMPONENTS | 3ull << 61), 8);
		store_le(image + HEADER + 8, load_le(image + HEADER + 8, 8) & (COMPONENTS | 7ull << 61), 8);
		memcpy(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE);
		const uint8_t *insn = one_in(4) ? fxrstor : xrstor;
		t = h = s;
		struct native_result rt = tier0_run(insn, sizeof(xrstor), NATIVE_VECTORS, &t);
		struct native_result rh = native_run(insn, sizeof(xrstor), NATIVE_VECTORS, &h);
		total++;
		if (rt.faulted != rh.faulted || rt.vector != rh.vector) {
			failures++;
			printf("DIFFERENT %s of a bad image: exception %d, on the host %d; seed %#llx\n",
			       insn == fxrstor ? "FXRSTOR64" : "XRSTOR64", rt.faulted ? rt.vector : -1,
			       rh.faulted ? rh.vector : -1, (unsigned long long)from);
		} else if (!rt.faulted)
			compare_states("state restored from a random image", from, &t, &h);
	}
}

/* --- */

static int report(void)
{
	unsigned mnemonics = 0, missing = 0;
	printf("executed, by mnemonic:");
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		if (!in_rules[m])
			continue;
		if (executed[m]) {
			printf("%s%s %u", mnemonics++ % 8 ? ", " : "\n  ", ZydisMnemonicGetString(m),
			       executed[m]);
			continue;
		}
		printf("\n%s: %s\n", ZydisMnemonicGetString(m), absent[m] ?
		       "this host does not have it, and so the guest has not" : "NEVER EXECUTED");
		missing += !absent[m];
	}
	printf("\n%u forms of %u mnemonics, %u instances, of which %u raised an exception; "
	       "%u ran in compatibility mode; %u differ, %u differ where they may, "
	       "%u mnemonics not covered\n", forms, mnemonics, total, faults, in_compatibility_mode,
	       failures, forgiven, missing);
	return failures || missing;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		instances = (unsigned)atoi(argv[1]);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	printf("seed %#llx, %u instances of each form\n", (unsigned long long)seed, instances);
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!native_start()) {
		printf("the fixed test addresses are taken\n");
		return 1;
	}
	tier0_start();
	for (unsigned n = 0; n < thunk_rules.count; n++)
		in_rules[thunk_rules.rule[n].mnemonic] = true;
	for (unsigned n = 0; n < ARRAY_SIZE(control); n++)
		in_rules[control[n]] = true;
	in_rules[ZYDIS_MNEMONIC_MOVSD] = in_rules[ZYDIS_MNEMONIC_CMPSD] = true;
	run_all();
	run_xsave();
	run_bad_images();
	run_availability();
	unsigned all = forms;
	run_full_region();
	forms = all;
	return report();
}
