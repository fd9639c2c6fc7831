#include "board/aml.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

enum aml_op {
	OP_ZERO = 0x00, OP_ONE = 0x01, OP_NAME = 0x08, OP_BYTE = 0x0a, OP_WORD = 0x0b,
	OP_DWORD = 0x0c, OP_STRING = 0x0d, OP_QWORD = 0x0e, OP_SCOPE = 0x10, OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12, OP_EXTENDED = 0x5b, OP_EXTENDED_DEVICE = 0x82,
};

enum { NAME_SEGMENT = 4, PACKAGE_LENGTH_MAX = 4 };

void aml_free(struct aml *a)
{
	free(a->data);
	*a = (struct aml){ 0 };
}

static void reserve(struct aml *a, size_t n)
{
	if (a->size + n <= a->room)
		return;
	a->room = (a->size + n) * 2;
	a->data = alloc_resize(a->data, a->room, 1);
}

void aml_bytes(struct aml *a, const void *p, size_t n)
{
	reserve(a, n);
	memcpy(a->data + a->size, p, n);
	a->size += n;
}

static void put(struct aml *a, uint64_t value, unsigned bytes)
{
	uint8_t b[8];
	store_le(b, value, sizeof b);
	aml_bytes(a, b, bytes);
}

void aml_integer(struct aml *a, uint64_t value)
{
	static const struct { uint64_t max; uint8_t op, bytes; } form[] = {
		{ UINT8_MAX, OP_BYTE, 1 }, { UINT16_MAX, OP_WORD, 2 },
		{ UINT32_MAX, OP_DWORD, 4 }, { UINT64_MAX, OP_QWORD, 8 },
	};
	unsigned i = 0;
	if (value <= 1) {
		put(a, value ? OP_ONE : OP_ZERO, 1);
		return;
	}
	while (value > form[i].max)
		i++;
	put(a, form[i].op, 1);
	put(a, value, form[i].bytes);
}

void aml_string(struct aml *a, const char *s)
{
	put(a, OP_STRING, 1);
	aml_bytes(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of five bits and four digits, big-endian. */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	put(a, OP_DWORD, 1);
	put(a, __builtin_bswap32(v), 4);
}

static void put_segment(struct aml *a, const char *name)
{
	char segment[NAME_SEGMENT];
	memset(segment, '_', sizeof segment);
	memcpy(segment, name, strnlen(name, sizeof segment));
	aml_bytes(a, segment, sizeof segment);
}

static void put_path(struct aml *a, const char *path)
{
	if (*path == '\\')
		put(a, *path++, 1);
	put_segment(a, path);
}

size_t aml_scope(struct aml *a, const char *path)
{
	put(a, OP_SCOPE, 1);
	size_t mark = a->size;
	put_path(a, path);
	return mark;
}

size_t aml_device(struct aml *a, const char *name)
{
	put(a, OP_EXTENDED, 1);
	put(a, OP_EXTENDED_DEVICE, 1);
	size_t mark = a->size;
	put_segment(a, name);
	return mark;
}

size_t aml_package(struct aml *a, uint8_t elements)
{
	put(a, OP_PACKAGE, 1);
	size_t mark = a->size;
	put(a, elements, 1);
	return mark;
}

size_t aml_buffer(struct aml *a)
{
	put(a, OP_BUFFER, 1);
	return a->size;
}

static void insert(struct aml *a, size_t at, const void *p, size_t n)
{
	reserve(a, n);
	memmove(a->data + at + n, a->data + at, a->size - at);
	memcpy(a->data + at, p, n);
	a->size += n;
}

/* "Package Length Encoding": the length counts its own bytes; up to 63 in one
 * byte, else 4 bits in the first and 8 in each of one to three more. */
void aml_end(struct aml *a, size_t mark)
{
	uint8_t length[PACKAGE_LENGTH_MAX];
	size_t body = a->size - mark;
	unsigned bytes = 1;
	while (body + bytes > (bytes == 1 ? 0x3fu : (1u << (8 * bytes - 4)) - 1))
		bytes++;
	size_t total = body + bytes;
	length[0] = (uint8_t)(bytes == 1 ? total : (bytes - 1) << 6 | (total & 0xf));
	for (unsigned i = 1; i < bytes; i++)
		length[i] = (uint8_t)(total >> (8 * i - 4));
	insert(a, mark, length, bytes);
}

void aml_buffer_end(struct aml *a, size_t mark)
{
	struct aml size = { 0 };
	aml_integer(&size, a->size - mark);
	insert(a, mark, size.data, size.size);
	aml_free(&size);
	aml_end(a, mark);
}

void aml_name(struct aml *a, const char *name)
{
	put(a, OP_NAME, 1);
	put_path(a, name);
}

/* Tags of "Resource Data Types for ACPI", small items with their length. */
enum resource_tag {
	TAG_IRQ = 0x22, TAG_IO = 0x47, TAG_END = 0x79, TAG_DWORD_SPACE = 0x87,
	TAG_WORD_SPACE = 0x88,
};
enum {
	IO_DECODE_16 = 1,
	SPACE_MIN_MAX_FIXED = 0xc,	/* and the bridge produces it */
	SPACE_BUS_FLAGS = 0, SPACE_IO_ENTIRE = 3, SPACE_MEMORY_WRITABLE = 1,
	SPACE_HEADER = 3,		/* type and two flag bytes */
};

void resource_io(struct aml *a, uint16_t base, uint8_t length)
{
	put(a, TAG_IO, 1);
	put(a, IO_DECODE_16, 1);
	put(a, base, 2);
	put(a, base, 2);
	put(a, 1, 1);
	put(a, length, 1);
}

void resource_irq(struct aml *a, unsigned irq)
{
	put(a, TAG_IRQ, 1);
	put(a, BIT(irq), 2);
}

static void put_window(struct aml *a, enum resource_tag tag, unsigned bytes,
		       enum resource_space space, uint64_t first, uint64_t last)
{
	static const uint8_t flags[] = {
		[RESOURCE_MEMORY] = SPACE_MEMORY_WRITABLE, [RESOURCE_IO] = SPACE_IO_ENTIRE,
		[RESOURCE_BUS] = SPACE_BUS_FLAGS,
	};
	put(a, tag, 1);
	put(a, SPACE_HEADER + 5 * bytes, 2);
	put(a, space, 1);
	put(a, SPACE_MIN_MAX_FIXED, 1);
	put(a, flags[space], 1);
	put(a, 0, bytes);			/* granularity */
	put(a, first, bytes);
	put(a, last, bytes);
	put(a, 0, bytes);			/* translation */
	put(a, last - first + 1, bytes);
}

void resource_window_16(struct aml *a, enum resource_space space, uint16_t first, uint16_t last)
{
	put_window(a, TAG_WORD_SPACE, 2, space, first, last);
}

void resource_window_32(struct aml *a, enum resource_space space, uint32_t first, uint32_t last)
{
	put_window(a, TAG_DWORD_SPACE, 4, space, first, last);
}

void resource_end(struct aml *a)
{
	put(a, TAG_END, 1);
	put(a, 0, 1);	/* no checksum */
}
