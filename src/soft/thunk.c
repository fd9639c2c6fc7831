/* Native thunks.
 *
 * A thunk is called as code(cpu, memory) and looks like this (legacy SSE,
 * "ADDPS xmm1, [mem]"):
 *
 *	ldmxcsr [rdi + mxcsr]		only for what MXCSR rules
 *	movups xmm1, [rdi + vec[1]]	each vector operand into the same register
 *	addps xmm1, [rsi]		the instruction; memory is [rsi], a GPR is RAX
 *	stmxcsr [rdi + mxcsr]
 *	movups [rdi + vec[1]], xmm1
 *	xor eax, eax; ret		0: no exception
 *
 * Legacy forms load and store 16 bytes, so the upper halves stay as they are
 * in memory; VEX forms store 32, the upper half being what the instruction
 * left. x87 and MMX forms run on the guest's state live in the host's FPU
 * (fpu.h) and store FSW, so that ES can be looked at. Flags are loaded and
 * stored by SAHF/LAHF in cpu->arith's format.
 *
 * Bytes come from Zydis' encoder, fed with what its decoder found, and are
 * decoded again to prove them the same instruction; nothing of the guest's
 * bytes is copied.
 *
 * An unmasked SIMD exception is a SIGFPE inside the code region. The handler
 * puts the MXCSR of that moment into the guest's and resumes at a stub that
 * returns 1, so no state but MXCSR has changed; then #XM is raised. It works
 * in whichever thread runs the thunk. Unmasked x87 exceptions never signal: a
 * thunk starts with none pending (that is the #MF check) and nothing that waits
 * follows the instruction.
 *
 * The code region is one memfd mapped twice, writable at one address and
 * executable at another (W^X), and only grows: blocks of every processor
 * point into it. Once it is full, new instructions keep their bytes and are
 * decoded and emitted into their processor's own slot each time they run. */
#include "soft/thunk.h"

#include "soft/access.h"
#include "soft/flags.h"
#include "soft/fpu.h"
#include "base/log.h"

#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	REGION_BYTES = 64 << 20,
	THUNK_MAX_BYTES = 320,	/* four YMM operands in and out and everything else is below 200 */
	SLOT_BYTES = 512,
	SLOTS_BYTES = SLOT_BYTES * ENGINE_MAX_PROCESSORS,
	FAULT_STUB_BYTES = 16,	/* at the region's start */
	SLOTS_AT = REGION_BYTES - SLOTS_BYTES,
	HASH_BUCKETS = 1 << 16,
	KEY_OPERANDS = 4,
};

typedef uint64_t thunk_code(struct cpu *cpu, void *memory);

/* What makes two decoded instructions the same thunk. */
struct thunk_key {
	uint16_t mnemonic;
	uint8_t vex, wide, state, imm;
	uint8_t type[KEY_OPERANDS];
	uint16_t reg[KEY_OPERANDS];
	uint16_t size[KEY_OPERANDS];
};

struct thunk {
	struct thunk_key key;
	uint32_t code;		/* offset in the region */
	uint32_t next;		/* index + 1 of the next in the bucket */
};

static struct {
	pthread_mutex_t lock;
	bool started;
	uint8_t *write, *exec;	/* the two views */
	uint32_t used;
	uint32_t limit;
	struct thunk *thunk;
	uint32_t count, room;
	uint32_t bucket[HASH_BUCKETS];
	ZydisDecoder decoder[CODE_MODES];	/* 64-bit mode proves what was encoded */
} region = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- what the host has --- */

static bool host_has[THUNK_ISAS];

static void probe_host(void)
{
	static const struct { uint8_t isa; uint8_t leaf, reg; uint8_t bit; bool avx; } probe[] = {
		{ THUNK_X87, 1, 3, 0, false }, { THUNK_MMX, 1, 3, 23, false },
		{ THUNK_SSE, 1, 3, 25, false }, { THUNK_SSE2, 1, 3, 26, false },
		{ THUNK_SSE3, 1, 2, 0, false }, { THUNK_SSSE3, 1, 2, 9, false },
		{ THUNK_SSE41, 1, 2, 19, false }, { THUNK_SSE42, 1, 2, 20, false },
		{ THUNK_AES, 1, 2, 25, false }, { THUNK_PCLMULQDQ, 1, 2, 1, false },
		{ THUNK_SHA, 7, 1, 29, false }, { THUNK_AVX, 1, 2, 28, true },
		{ THUNK_AVX2, 7, 1, 5, true }, { THUNK_FMA, 1, 2, 12, true },
		{ THUNK_F16C, 1, 2, 29, true }, { THUNK_RDRAND, 1, 2, 30, false },
	};
	uint32_t r[2][4] = { { 0 } };
	__get_cpuid_count(1, 0, &r[0][0], &r[0][1], &r[0][2], &r[0][3]);
	__get_cpuid_count(7, 0, &r[1][0], &r[1][1], &r[1][2], &r[1][3]);
	bool avx = false;
	if (r[0][2] & bit_OSXSAVE) {
		uint32_t low, high;
		__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
		avx = (low & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX) && (r[0][2] & bit_AVX);
	}
	for (unsigned n = 0; n < ARRAY_SIZE(probe); n++)
		host_has[probe[n].isa] = (!probe[n].avx || avx) &&
			(r[probe[n].leaf == 7][probe[n].reg] >> probe[n].bit & 1);
}

bool thunk_host_has(enum thunk_isa isa)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, probe_host);
	return isa < THUNK_ISAS && host_has[isa];
}

void thunk_cpuid_features(struct thunk_features *f)
{
	static const struct { uint8_t isa, leaf; char reg; uint8_t bit; } feature[] = {
		{ THUNK_X87, 1, 'd', 0 }, { THUNK_MMX, 1, 'd', 23 },
		{ THUNK_SSE, 1, 'd', 25 }, { THUNK_SSE2, 1, 'd', 26 },
		{ THUNK_SSE, 1, 'd', 24 },	/* FXSR */
		{ THUNK_SSE3, 1, 'c', 0 }, { THUNK_PCLMULQDQ, 1, 'c', 1 },
		{ THUNK_SSSE3, 1, 'c', 9 }, { THUNK_FMA, 1, 'c', 12 },
		{ THUNK_SSE41, 1, 'c', 19 }, { THUNK_SSE42, 1, 'c', 20 },
		{ THUNK_AES, 1, 'c', 25 }, { THUNK_SSE, 1, 'c', 26 },	/* XSAVE: in C */
		{ THUNK_AVX, 1, 'c', 28 }, { THUNK_F16C, 1, 'c', 29 },
		{ THUNK_AVX2, 7, 'b', 5 }, { THUNK_SHA, 7, 'b', 29 },
		{ THUNK_X87, 7, 'b', 13 },	/* FCS and FDS deprecated */
		{ THUNK_RDRAND, 1, 'c', 30 }, { THUNK_RDRAND, 7, 'b', 18 },	/* RDSEED too: system.c */
	};
	*f = (struct thunk_features){ 0 };
	for (unsigned n = 0; n < ARRAY_SIZE(feature); n++) {
		if (!thunk_host_has(feature[n].isa))
			continue;
		uint32_t bit = 1u << feature[n].bit;
		if (feature[n].leaf == 7)
			f->leaf7_ebx |= bit;
		else if (feature[n].reg == 'c')
			f->leaf1_ecx |= bit;
		else
			f->leaf1_edx |= bit;
	}
}

bool thunk_form_exists(const struct decoded *d)
{
	static const uint8_t isa_of[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
		[ZYDIS_ISA_SET_X87] = THUNK_X87, [ZYDIS_ISA_SET_FCMOV] = THUNK_X87,
		[ZYDIS_ISA_SET_PPRO] = THUNK_X87,	/* FCOMI and its kin */
		[ZYDIS_ISA_SET_PENTIUMMMX] = THUNK_MMX, [ZYDIS_ISA_SET_SSE2MMX] = THUNK_SSE2,
		[ZYDIS_ISA_SET_SSSE3MMX] = THUNK_SSSE3,
		[ZYDIS_ISA_SET_SSE] = THUNK_SSE, [ZYDIS_ISA_SET_SSE2] = THUNK_SSE2,
		[ZYDIS_ISA_SET_SSE3] = THUNK_SSE3, [ZYDIS_ISA_SET_SSE3X87] = THUNK_SSE3,
		[ZYDIS_ISA_SET_SSSE3] = THUNK_SSSE3, [ZYDIS_ISA_SET_SSE4] = THUNK_SSE41,
		[ZYDIS_ISA_SET_SSE42] = THUNK_SSE42, [ZYDIS_ISA_SET_AES] = THUNK_AES,
		[ZYDIS_ISA_SET_PCLMULQDQ] = THUNK_PCLMULQDQ, [ZYDIS_ISA_SET_SHA] = THUNK_SHA,
		[ZYDIS_ISA_SET_AVX] = THUNK_AVX, [ZYDIS_ISA_SET_AVXAES] = THUNK_AVX,
		[ZYDIS_ISA_SET_AVX2] = THUNK_AVX2, [ZYDIS_ISA_SET_AVX2GATHER] = THUNK_AVX2,
		[ZYDIS_ISA_SET_FMA] = THUNK_FMA, [ZYDIS_ISA_SET_F16C] = THUNK_F16C,
	};
	const ZydisDecodedInstruction *zi = &d->zi;
	if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false;
	if (!thunk_host_has(isa_of[zi->meta.isa_set]))
		return false;
	/* Two features at once. */
	if (zi->meta.isa_set == ZYDIS_ISA_SET_AVXAES)
		return thunk_host_has(THUNK_AES);
	if (zi->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ)
		return thunk_host_has(THUNK_PCLMULQDQ);
	return true;
}

/* --- the region and the signal --- */

static int map_region(struct error *e)
{
	int fd = memfd_create("nestor-thunks", MFD_CLOEXEC);
	if (fd < 0)
		return error_set(e, STATUS_ENGINE, "no memory for native code: memfd_create: %s",
				 strerror(errno));
	int failed = ftruncate(fd, REGION_BYTES);
	if (!failed) {
		region.write = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		region.exec = mmap(NULL, REGION_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
		failed = region.write == MAP_FAILED || region.exec == MAP_FAILED;
	}
	int why = errno;
	close(fd);
	if (failed)
		return error_set(e, STATUS_ENGINE, "no executable memory for native code "
				 "(%d MiB from a memfd): %s; the software engine needs it",
				 REGION_BYTES >> 20, strerror(why));
	return 0;
}

int thunk_start(struct error *e)
{
	int result = 0;
	pthread_mutex_lock(&region.lock);
	if (!region.started) {
		result = map_region(e);
		if (!result) {
			uint8_t *p = region.write;
			if (thunk_host_has(THUNK_AVX)) {
				memcpy(p, "\xc5\xf8\x77", 3);	/* vzeroupper */
				p += 3;
			}
			memcpy(p, "\xb8\x01\x00\x00\x00\xc3", 6);	/* mov eax, 1; ret */
			region.used = FAULT_STUB_BYTES;
			region.limit = SLOTS_AT;
			ZydisDecoderInit(&region.decoder[MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16,
					 ZYDIS_STACK_WIDTH_16);
			ZydisDecoderInit(&region.decoder[MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32,
					 ZYDIS_STACK_WIDTH_32);
			ZydisDecoderInit(&region.decoder[MODE_64], ZYDIS_MACHINE_MODE_LONG_64,
					 ZYDIS_STACK_WIDTH_64);
			thunk_signal_install(region.exec, REGION_BYTES, region.exec,
					     offsetof(struct cpu, mxcsr));
			region.started = true;
		}
	}
	pthread_mutex_unlock(&region.lock);
	return result;
}

/* --- emitting --- */

struct emit {
	uint8_t *at;
	uint8_t bytes[THUNK_MAX_BYTES];
};

static void emit(struct emit *m, const char *bytes, unsigned n)
{
	memcpy(m->at, bytes, n);
	m->at += n;
}
#define EMIT(m, bytes) emit(m, bytes, sizeof(bytes) - 1)

/* ModRM [rdi + offset] with a register, and its displacement. */
static void emit_field(struct emit *m, unsigned reg, size_t offset)
{
	uint32_t disp = (uint32_t)offset;
	*m->at++ = (uint8_t)(0x80 | (reg & 7) << 3 | 7);
	memcpy(m->at, &disp, 4);
	m->at += 4;
}

static size_t vec_offset(unsigned n) { return offsetof(struct cpu, vec) + n * CPU_VECTOR_BYTES; }
static size_t gpr_offset(unsigned n) { return offsetof(struct cpu, r) + n * sizeof(uint64_t); }

static void emit_vector(struct emit *m, unsigned n, bool vex, bool store)
{
	if (vex) {	/* vmovdqu ymm */
		*m->at++ = 0xc5;
		*m->at++ = n < 8 ? 0xfe : 0x7e;
		*m->at++ = store ? 0x7f : 0x6f;
	} else {	/* movups xmm */
		if (n >= 8)
			*m->at++ = 0x44;
		*m->at++ = 0x0f;
		*m->at++ = store ? 0x11 : 0x10;
	}
	emit_field(m, n, vec_offset(n));
}

static void emit_gpr(struct emit *m, unsigned host, unsigned guest, bool store)
{
	*m->at++ = 0x48;
	*m->at++ = store ? 0x89 : 0x8b;
	emit_field(m, host, gpr_offset(guest));
}

static bool is_gpr(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64:
		return true;
	default:
		return false;
	}
}

static bool is_vector(ZydisRegister r)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(r);
	return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM;
}

static bool is_mmx(ZydisRegister r) { return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_MMX; }

/* Thunks store FCW and FSW at [rdx] and [rdx + 2]. */
_Static_assert(offsetof(struct fpu, image) == 0 && offsetof(struct fxsave_image, fcw) == 0 &&
	       offsetof(struct fxsave_image, fsw) == 2, "known to emit_thunk");

/* Which registers and flags the instruction touches. */
struct uses {
	bool vector, ymm, mmx, memory, memory_write, wide;
	bool flags_read, flags_write;
	uint16_t load, store;	/* vector registers */
	uint8_t gpr;		/* the explicit GPR, which becomes RAX; 0xff: none */
	bool gpr_load, gpr_store;
	uint16_t implicit_load, implicit_store;	/* RAX, RCX, RDX under their own names */
	uint16_t memory_size;
};

static void find_uses(const struct decoded *d, struct uses *u)
{
	bool legacy = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	*u = (struct uses){ .gpr = 0xff };
	for (unsigned n = 0; n < d->zi.operand_count; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		bool read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
		bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			u->memory = true;
			u->memory_write |= write;
			u->memory_size = op->size / 8;
			continue;
		}
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		ZydisRegister r = op->reg.value;
		unsigned id = (unsigned)ZydisRegisterGetId(r) & 15;
		if (is_vector(r)) {
			u->vector = true;
			u->ymm |= ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_YMM;
			/* A legacy form may leave part of what it writes. */
			if (read || legacy)
				u->load |= (uint16_t)(1u << id);
			if (write)
				u->store |= (uint16_t)(1u << id);
		} else if (is_mmx(r)) {
			u->mmx = true;
		} else if (is_gpr(r) && op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			u->gpr = (uint8_t)id;
			u->gpr_load |= read;
			u->gpr_store |= write;
		} else if (is_gpr(r)) {
			u->wide |= ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR64;
			if (read)
				u->implicit_load |= (uint16_t)(1u << id);
			if (write)
				u->implicit_store |= (uint16_t)(1u << id);
		}
	}
	const ZydisAccessedFlags *f = d->zi.cpu_flags;
	if (f) {
		u->flags_read = f->tested;
		u->flags_write = f->modified | f->set_0 | f->set_1 | f->undefined;
	}
}

/* The instruction itself, rewritten: memory at [rsi], its GPR RAX. */
static bool emit_instruction(struct emit *m, const struct decoded *d, const struct uses *u)
{
	ZydisEncoderRequest request;
	if (ZYAN_FAILED(ZydisEncoderDecodedInstructionToEncoderRequest(&d->zi, d->op,
			d->zi.operand_count_visible, &request)))
		return false;
	bool vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	request.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	request.allowed_encodings = vex ? ZYDIS_ENCODABLE_ENCODING_VEX : ZYDIS_ENCODABLE_ENCODING_LEGACY;
	request.prefixes = 0;
	request.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_NONE;
	request.operand_size_hint = ZYDIS_OPERAND_SIZE_HINT_NONE;
	for (unsigned n = 0; n < request.operand_count; n++) {
		ZydisEncoderOperand *op = &request.operands[n];
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			op->mem.base = ZYDIS_REGISTER_RSI;
			op->mem.index = ZYDIS_REGISTER_NONE;
			op->mem.scale = 0;
			op->mem.displacement = 0;
			op->mem.size = u->memory_size;
		} else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && is_gpr(op->reg.value)) {
			op->reg.value = ZydisRegisterEncode(ZydisRegisterGetClass(op->reg.value), 0);
		}
	}
	ZyanUSize n = ZYDIS_MAX_INSTRUCTION_LENGTH + 1;
	if (ZYAN_FAILED(ZydisEncoderEncodeInstruction(&request, m->at, &n)))
		return false;
	/* PCMPESTRx take 64-bit lengths with W=1, which no operand shows. */
	if (u->wide && vex && m->at[0] == 0xc4)
		m->at[2] |= 0x80;
	else if (u->wide && m->at[0] == 0x66 && (m->at[1] & 0xf0) == 0x40)
		m->at[1] |= 8;
	else if (u->wide && m->at[0] == 0x66) {
		memmove(m->at + 2, m->at + 1, n - 1);
		m->at[1] = 0x48;
		n++;
	}
	/* Prove it. */
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&region.decoder[MODE_64], m->at, n, &zi, op)) ||
	    zi.length != n || zi.mnemonic != d->zi.mnemonic || zi.encoding != d->zi.encoding ||
	    zi.operand_count != d->zi.operand_count)
		return false;
	for (unsigned k = 0; k < zi.operand_count; k++) {
		const ZydisDecodedOperand *a = &op[k], *b = &d->op[k];
		if (a->type != b->type || a->actions != b->actions ||
		    (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && a->imm.value.u != b->imm.value.u))
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_MEMORY ?
		    a->size != b->size || a->mem.base != ZYDIS_REGISTER_RSI :
		    a->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(a->reg.value) != ZYDIS_REGCLASS_FLAGS &&
		    (is_gpr(a->reg.value) ? a->size != b->size : a->reg.value != b->reg.value))
			return false;
	}
	m->at += n;
	return true;
}

static bool emit_thunk(struct emit *m, const struct decoded *d, const struct uses *u,
		       unsigned flags)
{
	bool vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	/* CVTSS2SI from memory names no XMM register, but MXCSR rules it. */
	bool x87 = u->mmx || (flags & THUNK_MMX_STATE) || !(u->vector || (flags & THUNK_MXCSR));
	m->at = m->bytes;
	if (x87) {
		EMIT(m, "\x48\x8b");	/* mov rdx, [rdi + fpu] */
		emit_field(m, RDX, offsetof(struct cpu, fpu));
	}
	/* CVTPI2PS enters MMX state from memory, too (SDM); not every host agrees. */
	if (flags & THUNK_MMX_STATE)
		EMIT(m, "\x0f\xd7\xc8");	/* pmovmskb ecx, mm0 */
	for (unsigned n = 0; n < 16; n++)
		if (u->load >> n & 1)
			emit_vector(m, n, vex, false);
	if (flags & THUNK_MXCSR) {
		EMIT(m, "\x0f\xae");	/* ldmxcsr */
		emit_field(m, 2, offsetof(struct cpu, mxcsr));
	}
	if (u->flags_read || (x87 && u->flags_write)) {
		EMIT(m, "\x0f\xb7");	/* movzx eax, word [rdi + arith] */
		emit_field(m, RAX, offsetof(struct cpu, arith));
		EMIT(m, "\x04\x7f\x9e");	/* add al, 7fh (OF); sahf */
	}
	if (u->gpr_load)
		emit_gpr(m, RAX, u->gpr, false);
	for (unsigned n = RAX; n <= RDX; n++)
		if (u->implicit_load >> n & 1)
			emit_gpr(m, n, n, false);
	if (!emit_instruction(m, d, u))
		return false;
	if (flags & THUNK_MXCSR) {
		EMIT(m, "\x0f\xae");	/* stmxcsr */
		emit_field(m, 3, offsetof(struct cpu, mxcsr));
	}
	if (u->gpr_store)
		emit_gpr(m, RAX, u->gpr, true);
	for (unsigned n = RAX; n <= RDX; n++)
		if (u->implicit_store >> n & 1)
			emit_gpr(m, n, n, true);
	if (u->flags_write) {
		EMIT(m, "\x9f\x0f\x90\xc0\x66\x89");	/* lahf; seto al; mov [rdi + arith], ax */
		emit_field(m, RAX, offsetof(struct cpu, arith));
	}
	for (unsigned n = 0; n < 16; n++)
		if (u->store >> n & 1)
			emit_vector(m, n, vex, true);
	if (flags & THUNK_CONTROL)
		EMIT(m, "\xd9\x3a");	/* fnstcw [rdx] */
	if (x87)
		EMIT(m, "\xdd\x7a\x02");	/* fnstsw [rdx + 2] */
	if (vex)
		EMIT(m, "\xc5\xf8\x77");	/* vzeroupper */
	EMIT(m, "\x31\xc0\xc3");	/* xor eax, eax; ret */
	return true;
}

/* --- the cache --- */

static void make_key(struct thunk_key *k, const struct decoded *d, const struct uses *u,
		     unsigned flags)
{
	memset(k, 0, sizeof(*k));
	k->mnemonic = (uint16_t)d->zi.mnemonic;
	k->vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	k->wide = u->wide;
	k->state = (uint8_t)flags;
	for (unsigned n = 0; n < d->zi.operand_count_visible && n < KEY_OPERANDS + 1; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			k->imm = (uint8_t)op->imm.value.u;
			continue;	/* always the last, and always a byte */
		}
		if (n == KEY_OPERANDS)
			break;	/* no form of the table has five registers */
		k->type[n] = (uint8_t)op->type;
		k->size[n] = op->size;
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
			k->reg[n] = (uint16_t)op->reg.value;
	}
}

static uint32_t hash_key(const struct thunk_key *k)
{
	uint64_t h = 0xcbf29ce484222325ull;
	for (const uint8_t *p = (const uint8_t *)k; p < (const uint8_t *)(k + 1); p++)
		h = (h ^ *p) * 0x100000001b3ull;
	return (uint32_t)(h >> 20) % HASH_BUCKETS;
}

enum found { FOUND, FOUND_NONE, FOUND_FULL };

/* The thunk for this instruction, made if need be. */
static enum found find_thunk(const struct decoded *d, const struct uses *u, unsigned flags,
			     void **code)
{
	struct thunk_key key;
	make_key(&key, d, u, flags);
	uint32_t *bucket = &region.bucket[hash_key(&key)];
	enum found result = FOUND_NONE;
	pthread_mutex_lock(&region.lock);
	for (uint32_t n = *bucket; n; n = region.thunk[n - 1].next)
		if (!memcmp(&region.thunk[n - 1].key, &key, sizeof(key))) {
			*code = region.exec + region.thunk[n - 1].code;
			result = FOUND;
			goto out;
		}
	struct emit m;
	if (!emit_thunk(&m, d, u, flags))
		goto out;
	uint32_t size = (uint32_t)align_up((uint64_t)(m.at - m.bytes), 16);
	if (region.used + size > region.limit) {
		result = FOUND_FULL;
		goto out;
	}
	memcpy(region.write + region.used, m.bytes, (size_t)(m.at - m.bytes));
	if (region.count == region.room) {
		region.room = region.room ? region.room * 2 : 1024;
		region.thunk = alloc_resize(region.thunk, region.room, sizeof(*region.thunk));
	}
	region.thunk[region.count++] = (struct thunk){ key, region.used, *bucket };
	*bucket = region.count;
	*code = region.exec + region.used;
	region.used += size;
	result = FOUND;
out:
	pthread_mutex_unlock(&region.lock);
	return result;
}

/* --- running --- */

/* insn.spare of a thunk */
enum { SPARE_SIZE, SPARE_ALIGN, SPARE_FOP_LOW, SPARE_FOP_HIGH, SPARE_CONTROL, SPARE_FLAGS };

enum check { CHECK_SSE, CHECK_AVX, CHECK_MMX, CHECK_MMX_SSE, CHECK_X87, CHECKS };
enum memory_use { MEMORY_NONE, MEMORY_READ, MEMORY_WRITE, MEMORY_USES };

static _Noreturn void raise_simd(struct cpu *cpu)
{
	raise_exception(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* The last instruction's pointers (SDM vol. 1, "x87 FPU Instruction and Data
 * (Operand) Pointers"). */
static void note_pointers(struct cpu *cpu, const struct insn *i, enum memory_use memory)
{
	struct fpu *f = cpu->fpu;
	f->fip = cpu->start_rip;
	f->fip_linear = cpu->start_rip + cpu->seg[SEG_CS].base;
	f->fcs = cpu->seg[SEG_CS].selector;
	f->fop = (uint16_t)(i->spare[SPARE_FOP_LOW] | i->spare[SPARE_FOP_HIGH] << 8);
	if (memory != MEMORY_NONE) {
		f->fdp = insn_offset(cpu, i);
		f->fdp_linear = f->fdp + cpu->seg[i->seg].base;
		f->fds = cpu->seg[i->seg].selector;
	}
}

static inline __attribute__((always_inline))
void run(struct cpu *cpu, const struct insn *i, enum check check, enum memory_use memory,
	 bool mxcsr)
{
	void *p = NULL;
	switch (check) {
	case CHECK_SSE: fpu_check_sse(cpu); break;
	case CHECK_AVX: fpu_check_avx(cpu); break;
	case CHECK_MMX: fpu_check_mmx(cpu); break;
	case CHECK_MMX_SSE: fpu_check_sse(cpu); fpu_check_mmx(cpu); break;
	default: fpu_check_x87(cpu); break;
	}
	if (memory != MEMORY_NONE) {
		unsigned size = i->spare[SPARE_SIZE];
		uint64_t linear = insn_linear(cpu, i, size, memory == MEMORY_WRITE);
		if (unlikely(linear & i->spare[SPARE_ALIGN]))
			raise_gp(cpu, 0);
		p = memory == MEMORY_WRITE ? linear_write_pointer(cpu, linear, size) :
			(void *)(uintptr_t)linear_read_pointer(cpu, linear, size);
	}
	if (check >= CHECK_MMX && unlikely(fpu_live != cpu->fpu))
		fpu_live_load(cpu->fpu);
	uint64_t fault = ((thunk_code *)(uintptr_t)i->extra)(cpu, p);
	if (mxcsr) {
		if (unlikely((cpu->mxcsr & ~MXCSR_STATUS) != MXCSR_INITIAL))
			_mm_setcsr(MXCSR_INITIAL);
		if (unlikely(fault)) {
			cpu->commit.pending = false;
			if (check >= CHECK_MMX)	/* the host may have entered MMX state */
				fpu_live_store();
			raise_simd(cpu);
		}
	}
	if (memory == MEMORY_WRITE)
		linear_commit(cpu);
	if (check == CHECK_X87 && !i->spare[SPARE_CONTROL])
		note_pointers(cpu, i, memory);
}

#define RUN(check, memory, mxcsr) \
	static void run_##check##_##memory##_##mxcsr(struct cpu *cpu, const struct insn *i) \
	{ run(cpu, i, CHECK_##check, MEMORY_##memory, mxcsr); }
#define RUNS(check, mxcsr) \
	RUN(check, NONE, mxcsr) RUN(check, READ, mxcsr) RUN(check, WRITE, mxcsr)
RUNS(SSE, 0) RUNS(SSE, 1) RUNS(AVX, 0) RUNS(AVX, 1) RUNS(MMX, 0)
RUNS(MMX_SSE, 0) RUNS(MMX_SSE, 1) RUNS(X87, 0)

static insn_fn *const run_fn[CHECKS][2][MEMORY_USES] = {
#define ROW(check, mxcsr) [CHECK_##check][mxcsr] = { run_##check##_NONE_##mxcsr, \
	run_##check##_READ_##mxcsr, run_##check##_WRITE_##mxcsr }
	ROW(SSE, 0), ROW(SSE, 1), ROW(AVX, 0), ROW(AVX, 1), ROW(MMX, 0),
	ROW(MMX_SSE, 0), ROW(MMX_SSE, 1), ROW(X87, 0),
};

/* Everything of a bound instruction but its code. */
static void bind_run(const struct decoded *d, const struct uses *u, unsigned flags,
		     struct insn *out)
{
	bool vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	bool mmx = u->mmx || (flags & THUNK_MMX_STATE);
	bool sse = u->vector || (flags & THUNK_MXCSR);	/* CVTPS2PI from memory names no XMM register */
	enum check check = vex ? CHECK_AVX : mmx ? (sse ? CHECK_MMX_SSE : CHECK_MMX) :
		sse ? CHECK_SSE : CHECK_X87;
	if (d->zi.mnemonic == ZYDIS_MNEMONIC_EMMS)
		check = CHECK_MMX;
	enum memory_use memory = !u->memory ? MEMORY_NONE : u->memory_write ? MEMORY_WRITE : MEMORY_READ;
	out->fn = run_fn[check][!!(flags & THUNK_MXCSR)][memory];
	memset(out->spare, 0, sizeof(out->spare));
	out->spare[SPARE_SIZE] = (uint8_t)u->memory_size;
	if ((flags & THUNK_ALIGNED) && u->memory_size >= 16)
		out->spare[SPARE_ALIGN] = (uint8_t)(u->memory_size - 1);
	if (check == CHECK_X87) {
		out->spare[SPARE_FOP_LOW] = (uint8_t)(d->zi.raw.modrm.mod << 6 |
			d->zi.raw.modrm.reg << 3 | d->zi.raw.modrm.rm);
		out->spare[SPARE_FOP_HIGH] = d->zi.opcode & 7;
		out->spare[SPARE_CONTROL] = !!(flags & THUNK_CONTROL);
	}
}

/* --- when the region is full --- */

/* While no thunk holds it, the instruction's bytes are in imm and imm2. */
static void run_uncached(struct cpu *cpu, const struct insn *i)
{
	struct decoded d = { .mode = cpu->mode };
	struct uses u;
	struct emit m;
	struct insn now = *i;
	uint64_t bytes[2] = { i->imm, i->imm2 };
	uint32_t slot = SLOTS_AT + cpu->index % ENGINE_MAX_PROCESSORS * SLOT_BYTES;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&region.decoder[cpu->mode], bytes, i->len, &d.zi, d.op)))
		raise_ud(cpu);
	find_uses(&d, &u);
	if (!emit_thunk(&m, &d, &u, i->spare[SPARE_FLAGS]))
		raise_ud(cpu);
	memcpy(region.write + slot, m.bytes, (size_t)(m.at - m.bytes));
	/* Written at one address and fetched at another: serialize. */
	uint32_t a = 0, b, c = 0, e;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(e) : : "memory");
	bind_run(&d, &u, i->spare[SPARE_FLAGS], &now);
	now.extra = region.exec + slot;
	now.fn(cpu, &now);
}

bool thunk_bind(const struct decoded *d, struct insn *out, unsigned flags)
{
	struct uses u;
	void *code = NULL;
	if (!thunk_form_exists(d))
		return false;
	find_uses(d, &u);
	switch (find_thunk(d, &u, flags, &code)) {
	case FOUND:
		bind_run(d, &u, flags, out);
		out->extra = code;
		return true;
	case FOUND_FULL: {
		uint64_t bytes[2] = { 0 };
		memcpy(bytes, d->bytes, d->zi.length);
		out->spare[SPARE_FLAGS] = (uint8_t)flags;
		out->imm = bytes[0];
		out->imm2 = bytes[1];
		out->fn = run_uncached;
		return true;
	}
	default:
		log_line("no native form of %s can be encoded: it raises #UD",
			 ZydisMnemonicGetString(d->zi.mnemonic));
		return false;
	}
}

uint32_t thunk_region_limit(uint32_t limit)
{
	uint32_t old = region.limit;
	pthread_mutex_lock(&region.lock);
	region.limit = limit;
	pthread_mutex_unlock(&region.lock);
	return old;
}
