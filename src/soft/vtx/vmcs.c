/* The VMCS: fields by encoding, and the region in guest memory.
 *
 * A region holds, after the architectural revision identifier and VMX-abort
 * indicator, our launch state and then the fields in the order of
 * x86/vmcs_fields.h. Only VMCLEAR, VMPTRLD of another and saving the VM write
 * it; whatever software puts there in between is its own trouble. */
#include "soft/vtx/state.h"

enum { REGION_ABORT = 4, REGION_LAUNCHED = 8, REGION_FIELDS = 16 };
_Static_assert(REGION_FIELDS + VMCS_FIELD_COUNT * sizeof(uint64_t) <= PAGE_SIZE,
	       "the fields fit into a VMCS region");

const struct vmcs_field_info vmcs_field_info[VMCS_FIELD_COUNT] = {
#define X(id, e, text) [VMCS_##id] = { text, e, VMCS_ENCODING_WIDTH(e), VMCS_ENCODING_TYPE(e) },
	VMCS_FIELDS(X)
#undef X
};

/* Encodings, squeezed: width, type, and as much of the index as is in use. */
enum { INDEX_BITS = 5, SLOTS = 4 * 4 << INDEX_BITS };
#define SLOT(e) (VMCS_ENCODING_WIDTH(e) << (INDEX_BITS + 2) | VMCS_ENCODING_TYPE(e) << INDEX_BITS | \
		 VMCS_ENCODING_INDEX(e))

static const uint8_t field_of[SLOTS] = {
#define X(id, e, text) [SLOT(e)] = VMCS_##id,
	VMCS_FIELDS(X)
#undef X
};

_Static_assert(VMCS_FIELD_COUNT <= UINT8_MAX, "field_of's element is wide enough");

enum vmcs_field vmcs_find(uint64_t encoding)
{
	uint32_t e = (uint32_t)encoding;
	if (unlikely(encoding & (~0xffffffffull | VMCS_ENCODING_RESERVED)))
		return VMCS_NO_FIELD;
	if (unlikely(VMCS_ENCODING_INDEX(e) >> INDEX_BITS))
		return VMCS_NO_FIELD;
	if (unlikely(e & VMCS_ENCODING_HIGH && VMCS_ENCODING_WIDTH(e) != VMCS_WIDTH_64))
		return VMCS_NO_FIELD;
	return field_of[SLOT(e)];
}

unsigned vmcs_highest_index(void)
{
	unsigned highest = 0;
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++)
		if (VMCS_ENCODING_INDEX(vmcs_field_info[n].encoding) > highest)
			highest = VMCS_ENCODING_INDEX(vmcs_field_info[n].encoding);
	return highest;
}

uint64_t vmcs_read(const struct vmcs *vmcs, enum vmcs_field field, bool high)
{
	return high ? vmcs->f[field] >> 32 : vmcs->f[field];
}

void vmcs_write(struct vmcs *vmcs, enum vmcs_field field, bool high, uint64_t value)
{
	switch (vmcs_field_info[field].width) {
	case VMCS_WIDTH_16:
		vmcs->f[field] = (uint16_t)value;
		break;
	case VMCS_WIDTH_32:
		vmcs->f[field] = (uint32_t)value;
		break;
	case VMCS_WIDTH_64:
		if (high)
			value = (vmcs->f[field] & UINT32_MAX) | value << 32;
		vmcs->f[field] = value;
		break;
	default:
		vmcs->f[field] = value;
	}
}

bool vmcs_region_revision(struct memory *m, uint64_t pa, uint32_t *revision)
{
	return memory_read(m, pa, revision, sizeof *revision);
}

void vmcs_load(struct memory *m, uint64_t pa, struct vmcs *vmcs)
{
	uint32_t launched = 0;
	memset(vmcs, 0, sizeof *vmcs);
	memory_read(m, pa + REGION_LAUNCHED, &launched, sizeof launched);
	vmcs->launched = launched;
	uint64_t f[VMCS_FIELD_COUNT];
	if (!memory_read(m, pa + REGION_FIELDS, f, sizeof f))
		return;
	/* Software may have written anything there: keep each field's width. */
	for (unsigned n = 1; n < VMCS_FIELD_COUNT; n++)
		vmcs_write(vmcs, n, false, f[n]);
}

void vmcs_store(struct memory *m, uint64_t pa, const struct vmcs *vmcs)
{
	uint32_t launched = vmcs->launched;
	memory_write(m, pa + REGION_LAUNCHED, &launched, sizeof launched);
	memory_write(m, pa + REGION_FIELDS, vmcs->f, sizeof vmcs->f);
}

void vmcs_region_clear(struct memory *m, uint64_t pa)
{
	uint32_t launched = 0;
	memory_write(m, pa + REGION_LAUNCHED, &launched, sizeof launched);
}

void vmcs_region_abort(struct memory *m, uint64_t pa, enum vmx_abort indicator)
{
	uint32_t value = indicator;
	memory_write(m, pa + REGION_ABORT, &value, sizeof value);
}

void vtx_release_current(struct vtx *v)
{
	if (v->pointer == VMCS_NO_POINTER)
		return;
	vmcs_store(v->cpu->memory, v->pointer, &v->vmcs);
	v->pointer = VMCS_NO_POINTER;
}
