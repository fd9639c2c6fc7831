/* Vector instructions in C: the common moves and XORs, which are faster here
 * than through a thunk, and the forms no thunk can do because which bytes of
 * memory they touch depends on registers (masked moves, gathers).
 *
 * Legacy forms leave bits 255:128 of their destination; VEX.128 forms clear
 * them. A masked-off element causes no fault. A masked store that crosses a
 * page checks all its elements before it stores the first; a gather keeps what
 * it has loaded in the destination and the mask, so that it goes on where it
 * was when it is restarted (SDM vol. 2, "VGATHERDPS/VGATHERDPD"). */
#include "soft/thunk.h"

#include "soft/access.h"
#include "soft/fpu.h"

#include <emmintrin.h>

enum { XMM_BYTES = 16, YMM_BYTES = 32 };

static inline __m128i *half(struct cpu *cpu, unsigned n, unsigned which)
{
	return (__m128i *)&cpu->vec[n][which * XMM_BYTES];
}

static inline void clear_upper(struct cpu *cpu, unsigned n)
{
	_mm_store_si128(half(cpu, n, 1), _mm_setzero_si128());
}

static bool operand_is(const struct decoded *d, unsigned n, ZydisRegisterClass class)
{
	return n < d->zi.operand_count_visible && d->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		ZydisRegisterGetClass(d->op[n].reg.value) == class;
}

static bool operand_is_memory(const struct decoded *d, unsigned n)
{
	return n < d->zi.operand_count_visible && d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static bool operand_is_vector(const struct decoded *d, unsigned n)
{
	return operand_is(d, n, ZYDIS_REGCLASS_XMM) || operand_is(d, n, ZYDIS_REGCLASS_YMM);
}

/* insn.spare of the forms here */
enum { SPARE_ALIGN, SPARE_SIZE };

static inline uint64_t aligned_linear(struct cpu *cpu, const struct insn *i, unsigned size, bool write)
{
	uint64_t linear = insn_linear(cpu, i, size, write);
	if (unlikely(linear & i->spare[SPARE_ALIGN]))
		raise_gp(cpu, 0);
	return linear;
}

/* --- whole-register moves --- */

static void op_sse_move(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	_mm_store_si128(half(cpu, i->reg[0], 0), _mm_load_si128(half(cpu, i->reg[1], 0)));
}

static void op_sse_load(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	uint64_t linear = aligned_linear(cpu, i, XMM_BYTES, false);
	_mm_store_si128(half(cpu, i->reg[0], 0),
			_mm_loadu_si128(linear_read_pointer(cpu, linear, XMM_BYTES)));
}

static void op_sse_store(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	uint64_t linear = aligned_linear(cpu, i, XMM_BYTES, true);
	_mm_storeu_si128(linear_write_pointer(cpu, linear, XMM_BYTES),
			 _mm_load_si128(half(cpu, i->reg[1], 0)));
	linear_commit(cpu);
}

static void op_avx_move(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	unsigned to = i->reg[0], from = i->reg[1];
	_mm_store_si128(half(cpu, to, 0), _mm_load_si128(half(cpu, from, 0)));
	if (i->spare[SPARE_SIZE] == YMM_BYTES)
		_mm_store_si128(half(cpu, to, 1), _mm_load_si128(half(cpu, from, 1)));
	else
		clear_upper(cpu, to);
}

static void op_avx_load(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	unsigned to = i->reg[0], size = i->spare[SPARE_SIZE];
	const __m128i *from = linear_read_pointer(cpu, aligned_linear(cpu, i, size, false), size);
	_mm_store_si128(half(cpu, to, 0), _mm_loadu_si128(from));
	if (size == YMM_BYTES)
		_mm_store_si128(half(cpu, to, 1), _mm_loadu_si128(from + 1));
	else
		clear_upper(cpu, to);
}

static void op_avx_store(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	unsigned from = i->reg[1], size = i->spare[SPARE_SIZE];
	__m128i *to = linear_write_pointer(cpu, aligned_linear(cpu, i, size, true), size);
	_mm_storeu_si128(to, _mm_load_si128(half(cpu, from, 0)));
	if (size == YMM_BYTES)
		_mm_storeu_si128(to + 1, _mm_load_si128(half(cpu, from, 1)));
	linear_commit(cpu);
}

static bool must_be_aligned(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVAPS: case ZYDIS_MNEMONIC_MOVAPD: case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_VMOVAPS: case ZYDIS_MNEMONIC_VMOVAPD: case ZYDIS_MNEMONIC_VMOVDQA:
		return true;
	default:
		return false;
	}
}

bool vector_bind_move(const struct decoded *d, struct insn *out)
{
	static insn_fn *const fn[2][3] = {
		{ op_sse_move, op_sse_load, op_sse_store },
		{ op_avx_move, op_avx_load, op_avx_store },
	};
	if (!thunk_form_exists(d))
		return false;
	bool vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	bool store = operand_is_memory(d, 0), load = operand_is_memory(d, 1);
	unsigned size = operand_is(d, store, ZYDIS_REGCLASS_YMM) ? YMM_BYTES : XMM_BYTES;
	out->spare[SPARE_SIZE] = (uint8_t)size;
	out->spare[SPARE_ALIGN] = must_be_aligned(d->zi.mnemonic) ? (uint8_t)(size - 1) : 0;
	out->fn = fn[vex][store ? 2 : load];
	return true;
}

/* --- MOVSS MOVSD MOVD MOVQ --- */

/* Low 4 or 8 bytes into XMM, the rest of its 128 bits zero. */
static inline void set_low(struct cpu *cpu, unsigned n, uint64_t value)
{
	_mm_store_si128(half(cpu, n, 0), _mm_cvtsi64_si128((long long)value));
}

static inline uint64_t get_low(struct cpu *cpu, unsigned n, unsigned size)
{
	return bits_trim((uint64_t)_mm_cvtsi128_si64(*half(cpu, n, 0)), size);
}

#define SCALAR_FORMS(size) \
	static void op_scalar_load_##size(struct cpu *cpu, const struct insn *i) \
	{ \
		fpu_check_sse(cpu); \
		set_low(cpu, i->reg[0], linear_read(cpu, insn_linear(cpu, i, size, false), size)); \
	} \
	static void op_scalar_store_##size(struct cpu *cpu, const struct insn *i) \
	{ \
		fpu_check_sse(cpu); \
		linear_write(cpu, insn_linear(cpu, i, size, true), get_low(cpu, i->reg[1], size), size); \
	} \
	static void op_scalar_from_gpr_##size(struct cpu *cpu, const struct insn *i) \
	{ \
		fpu_check_sse(cpu); \
		set_low(cpu, i->reg[0], bits_trim(cpu->r[i->reg[1] / 8], size)); \
	} \
	static void op_scalar_to_gpr_##size(struct cpu *cpu, const struct insn *i) \
	{ \
		fpu_check_sse(cpu); \
		cpu->r[i->reg[0] / 8] = get_low(cpu, i->reg[1], size); \
	} \
	/* MOVSS, MOVSD between registers: the rest of the destination stays. */ \
	static void op_scalar_merge_##size(struct cpu *cpu, const struct insn *i) \
	{ \
		fpu_check_sse(cpu); \
		memcpy(cpu->vec[i->reg[0]], cpu->vec[i->reg[1]], size); \
	}
SCALAR_FORMS(4)
SCALAR_FORMS(8)

/* MOVQ between XMM registers clears bits 127:64. */
static void op_movq(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	set_low(cpu, i->reg[0], get_low(cpu, i->reg[1], 8));
}

bool vector_bind_scalar_move(const struct decoded *d, struct insn *out)
{
	if (!thunk_form_exists(d))
		return false;
	if (operand_is(d, 0, ZYDIS_REGCLASS_MMX) || operand_is(d, 1, ZYDIS_REGCLASS_MMX))
		return thunk_bind(d, out, 0);
	bool float_form = d->zi.mnemonic == ZYDIS_MNEMONIC_MOVSS || d->zi.mnemonic == ZYDIS_MNEMONIC_MOVSD;
	bool wide;
	if (float_form)
		wide = d->zi.mnemonic == ZYDIS_MNEMONIC_MOVSD;
	else
		wide = d->zi.mnemonic == ZYDIS_MNEMONIC_MOVQ;
	if (operand_is_memory(d, 0))
		out->fn = wide ? op_scalar_store_8 : op_scalar_store_4;
	else if (operand_is_memory(d, 1))
		out->fn = wide ? op_scalar_load_8 : op_scalar_load_4;
	else if (!operand_is_vector(d, 0))
		out->fn = wide ? op_scalar_to_gpr_8 : op_scalar_to_gpr_4;
	else if (!operand_is_vector(d, 1))
		out->fn = wide ? op_scalar_from_gpr_8 : op_scalar_from_gpr_4;
	else if (float_form)
		out->fn = wide ? op_scalar_merge_8 : op_scalar_merge_4;
	else
		out->fn = op_movq;
	return true;
}

/* --- XOR --- */

static void op_sse_xor(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	__m128i *to = half(cpu, i->reg[0], 0);
	*to = _mm_xor_si128(*to, *half(cpu, i->reg[1], 0));
}

static void op_sse_xor_memory(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	uint64_t linear = aligned_linear(cpu, i, XMM_BYTES, false);
	__m128i *to = half(cpu, i->reg[0], 0);
	*to = _mm_xor_si128(*to, _mm_loadu_si128(linear_read_pointer(cpu, linear, XMM_BYTES)));
}

static inline void avx_xor(struct cpu *cpu, const struct insn *i, const __m128i *b)
{
	unsigned to = i->reg[0], a = i->reg[1];
	__m128i low = _mm_xor_si128(*half(cpu, a, 0), _mm_loadu_si128(b));
	if (i->spare[SPARE_SIZE] == YMM_BYTES)
		*half(cpu, to, 1) = _mm_xor_si128(*half(cpu, a, 1), _mm_loadu_si128(b + 1));
	else
		clear_upper(cpu, to);
	*half(cpu, to, 0) = low;
}

static void op_avx_xor(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	avx_xor(cpu, i, half(cpu, i->reg[2], 0));
}

static void op_avx_xor_memory(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	unsigned size = i->spare[SPARE_SIZE];
	avx_xor(cpu, i, linear_read_pointer(cpu, insn_linear(cpu, i, size, false), size));
}

bool vector_bind_xor(const struct decoded *d, struct insn *out)
{
	if (!thunk_form_exists(d))
		return false;
	if (operand_is(d, 0, ZYDIS_REGCLASS_MMX))
		return thunk_bind(d, out, 0);
	bool vex = d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	out->spare[SPARE_SIZE] = operand_is(d, 0, ZYDIS_REGCLASS_YMM) ? YMM_BYTES : XMM_BYTES;
	out->spare[SPARE_ALIGN] = XMM_BYTES - 1;
	if (vex)
		out->fn = operand_is_memory(d, 2) ? op_avx_xor_memory : op_avx_xor;
	else
		out->fn = operand_is_memory(d, 1) ? op_sse_xor_memory : op_sse_xor;
	return true;
}

/* --- masked moves --- */

enum { SPARE_ELEMENT = 2, SPARE_SEGMENT = 3 };

static bool mask_bit(const uint8_t *mask, unsigned element, unsigned size)
{
	return mask[element * size + size - 1] & 0x80;
}

static uint64_t element_linear(struct cpu *cpu, const struct insn *i, unsigned segment,
			       uint64_t offset, unsigned size, bool write)
{
	return logical_to_linear(cpu, segment, bits_trim(offset, i->address_size), size, write);
}

/* Store the elements of `from` that the mask selects, all or none. */
static void masked_store(struct cpu *cpu, const struct insn *i, unsigned segment, uint64_t offset,
			 const uint8_t *from, const uint8_t *mask, unsigned element, unsigned total)
{
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned k = 0; k < total / element; k++) {
			if (!mask_bit(mask, k, element))
				continue;
			uint64_t linear = element_linear(cpu, i, segment, offset + k * element,
							 element, true);
			if (pass)
				linear_write(cpu, linear, load_le(from + k * element, element), element);
			else if (k == 0 || ((linear ^ (linear - element)) | (linear ^ (linear + element - 1)))
				 & ~PAGE_OFFSET_MASK || !mask_bit(mask, k - 1, element)) {
				/* May fault: first of a run, or of a page. */
				(void)linear_write_pointer(cpu, linear, element);
				linear_commit(cpu);
			}
		}
}

static void op_masked_load(struct cpu *cpu, const struct insn *i)
{
	uint8_t result[YMM_BYTES] = { 0 };
	unsigned element = i->spare[SPARE_ELEMENT], size = i->spare[SPARE_SIZE];
	fpu_check_avx(cpu);
	const uint8_t *mask = cpu->vec[i->reg[1]];
	uint64_t offset = insn_offset(cpu, i);
	for (unsigned k = 0; k < size / element; k++) {
		if (!mask_bit(mask, k, element))
			continue;
		uint64_t linear = element_linear(cpu, i, i->seg, offset + k * element, element, false);
		store_le(result + k * element, linear_read(cpu, linear, element), element);
	}
	memcpy(cpu->vec[i->reg[0]], result, YMM_BYTES);
}

static void op_masked_store(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	masked_store(cpu, i, i->seg, insn_offset(cpu, i), cpu->vec[i->reg[2]], cpu->vec[i->reg[1]],
		     i->spare[SPARE_ELEMENT], i->spare[SPARE_SIZE]);
}

bool vector_bind_masked(const struct decoded *d, struct insn *out)
{
	if (!thunk_form_exists(d))
		return false;
	bool store = operand_is_memory(d, 0);
	bool wide = d->zi.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD || d->zi.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ;
	out->spare[SPARE_ELEMENT] = wide ? 8 : 4;
	out->spare[SPARE_SIZE] = operand_is(d, 1, ZYDIS_REGCLASS_YMM) ? YMM_BYTES : XMM_BYTES;
	out->fn = store ? op_masked_store : op_masked_load;
	return true;
}

/* MASKMOVDQU, VMASKMOVDQU, MASKMOVQ: bytes to DS:[rDI], or another segment. */
static void op_maskmovdqu(struct cpu *cpu, const struct insn *i)
{
	fpu_check_sse(cpu);
	masked_store(cpu, i, i->spare[SPARE_SEGMENT], cpu->r[RDI], cpu->vec[i->reg[0]],
		     cpu->vec[i->reg[1]], 1, XMM_BYTES);
}

static void op_vmaskmovdqu(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	masked_store(cpu, i, i->spare[SPARE_SEGMENT], cpu->r[RDI], cpu->vec[i->reg[0]],
		     cpu->vec[i->reg[1]], 1, XMM_BYTES);
}

static void op_maskmovq(struct cpu *cpu, const struct insn *i)
{
	fpu_check_mmx(cpu);
	struct fpu *f = fpu_state(cpu);
	unsigned top = (f->image.fsw & FSW_TOP) >> FSW_TOP_SHIFT;
	masked_store(cpu, i, i->spare[SPARE_SEGMENT], cpu->r[RDI], f->image.st[(i->reg[0] - top) & 7],
		     f->image.st[(i->reg[1] - top) & 7], 1, 8);
	fpu_enter_mmx(f);
}

bool vector_bind_maskmov(const struct decoded *d, struct insn *out)
{
	if (!thunk_form_exists(d))
		return false;
	out->spare[SPARE_SEGMENT] = SEG_DS;
	for (unsigned n = 0; n < d->zi.operand_count; n++)
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY)
			out->spare[SPARE_SEGMENT] =
				(uint8_t)(d->op[n].mem.segment - ZYDIS_REGISTER_ES + SEG_ES);
	out->fn = d->zi.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ? op_maskmovq :
		d->zi.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ? op_maskmovdqu : op_vmaskmovdqu;
	return true;
}

/* --- gathers --- */

/* insn.spare of a gather */
enum { GATHER_COUNT, GATHER_ELEMENT, GATHER_INDEX_BYTES, GATHER_INDEX, GATHER_SCALE };

static void op_gather(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	unsigned element = i->spare[GATHER_ELEMENT], count = i->spare[GATHER_COUNT];
	unsigned index_bytes = i->spare[GATHER_INDEX_BYTES];
	uint8_t *to = cpu->vec[i->reg[0]], *mask = cpu->vec[i->reg[2]];
	const uint8_t *index = cpu->vec[i->spare[GATHER_INDEX]];
	uint64_t base = cpu->r[i->base] + (uint64_t)i->disp;

	for (unsigned k = 0; k < count; k++)
		memset(mask + k * element, mask_bit(mask, k, element) ? 0xff : 0, element);
	for (unsigned k = 0; k < count; k++) {
		if (!mask_bit(mask, k, element))
			continue;
		uint64_t at = (uint64_t)sign_extend(load_le(index + k * index_bytes, index_bytes),
						    index_bytes * 8);
		uint64_t linear = element_linear(cpu, i, i->seg,
						 base + (at << i->spare[GATHER_SCALE]), element, false);
		store_le(to + k * element, linear_read(cpu, linear, element), element);
		memset(mask + k * element, 0, element);
	}
	memset(mask, 0, YMM_BYTES);
	memset(to + count * element, 0, YMM_BYTES - count * element);
}

bool vector_bind_gather(const struct decoded *d, struct insn *out)
{
	static const struct { ZydisMnemonic mnemonic; uint8_t index, element; } shape[] = {
		{ ZYDIS_MNEMONIC_VGATHERDPS, 4, 4 }, { ZYDIS_MNEMONIC_VGATHERDPD, 4, 8 },
		{ ZYDIS_MNEMONIC_VGATHERQPS, 8, 4 }, { ZYDIS_MNEMONIC_VGATHERQPD, 8, 8 },
		{ ZYDIS_MNEMONIC_VPGATHERDD, 4, 4 }, { ZYDIS_MNEMONIC_VPGATHERDQ, 4, 8 },
		{ ZYDIS_MNEMONIC_VPGATHERQD, 8, 4 }, { ZYDIS_MNEMONIC_VPGATHERQQ, 8, 8 },
	};
	static const uint8_t shift_of[9] = { [1] = 0, [2] = 1, [4] = 2, [8] = 3 };
	if (!thunk_form_exists(d) || !operand_is_vector(d, 0) || !operand_is_memory(d, 1) ||
	    !operand_is_vector(d, 2))
		return false;
	ZydisRegister index = d->op[1].mem.index;
	unsigned index_number = (unsigned)ZydisRegisterGetId(index);
	unsigned to = out->reg[0], mask = out->reg[2];
	/* SDM: #UD if any two of destination, index and mask are the same. */
	if (to == mask || to == index_number || mask == index_number)
		return false;
	unsigned n = 0;
	while (shape[n].mnemonic != d->zi.mnemonic)
		n++;
	unsigned index_size = ZydisRegisterGetClass(index) == ZYDIS_REGCLASS_YMM ? YMM_BYTES : XMM_BYTES;
	unsigned to_size = operand_is(d, 0, ZYDIS_REGCLASS_YMM) ? YMM_BYTES : XMM_BYTES;
	unsigned a = index_size / shape[n].index, b = to_size / shape[n].element;
	out->spare[GATHER_COUNT] = (uint8_t)(a < b ? a : b);
	out->spare[GATHER_ELEMENT] = shape[n].element;
	out->spare[GATHER_INDEX_BYTES] = shape[n].index;
	out->spare[GATHER_INDEX] = (uint8_t)index_number;
	out->spare[GATHER_SCALE] = shift_of[d->op[1].mem.scale ? d->op[1].mem.scale : 1];
	out->fn = op_gather;
	return true;
}

/* --- MOVNTI: SSE2, but a plain store of a general register --- */

static void op_movnti(struct cpu *cpu, const struct insn *i)
{
	unsigned size = i->size;
	linear_write(cpu, insn_linear(cpu, i, size, true), cpu->r[i->reg[1] / 8], size);
}

bool vector_bind_movnti(const struct decoded *d, struct insn *out)
{
	out->size = (uint8_t)(d->op[0].size / 8);
	out->fn = op_movnti;
	return thunk_form_exists(d);
}

/* --- VZEROUPPER, VZEROALL --- */

static void op_vzeroupper(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	for (unsigned n = 0; n < (cpu->mode == MODE_64 ? 16u : 8u); n++)
		clear_upper(cpu, n);
}

static void op_vzeroall(struct cpu *cpu, const struct insn *i)
{
	fpu_check_avx(cpu);
	memset(cpu->vec, 0, (cpu->mode == MODE_64 ? 16u : 8u) * CPU_VECTOR_BYTES);
}

bool vector_bind_zero(const struct decoded *d, struct insn *out)
{
	if (!thunk_form_exists(d))
		return false;
	out->fn = d->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL ? op_vzeroall : op_vzeroupper;
	return true;
}
