/* A builder for AML, the byte code of ACPI's DSDT (ACPI Specification 6.4,
 * chapter "ACPI Machine Language (AML) Specification"). Terms are appended in
 * order; aml_begin opens one that has a length, aml_end closes it. */
#ifndef NESTOR_BOARD_AML_H
#define NESTOR_BOARD_AML_H

#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *data;
	size_t size, room;
};

void aml_free(struct aml *a);
void aml_bytes(struct aml *a, const void *p, size_t n);	/* as they are */
/* An integer in its shortest form. */
void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *s);
/* A seven-character EISA identifier such as "PNP0A03". */
void aml_eisa_id(struct aml *a, const char *id);

/* Each returns the mark that aml_end wants. A name segment has one to four
 * characters; path: an optional leading backslash and one segment. */
size_t aml_scope(struct aml *a, const char *path);
size_t aml_device(struct aml *a, const char *name);
size_t aml_package(struct aml *a, uint8_t elements);
size_t aml_buffer(struct aml *a);	/* its contents follow by aml_bytes and resource_* */
void aml_end(struct aml *a, size_t mark);
void aml_buffer_end(struct aml *a, size_t mark);

/* Name (name, ...): the value follows. */
void aml_name(struct aml *a, const char *name);

/* Resource descriptors, inside a buffer that resource_end ends. */
enum resource_space { RESOURCE_MEMORY = 0, RESOURCE_IO = 1, RESOURCE_BUS = 2 };
void resource_io(struct aml *a, uint16_t base, uint8_t length);
void resource_irq(struct aml *a, unsigned irq);
/* What a bridge passes on: first..last. */
void resource_window_16(struct aml *a, enum resource_space space, uint16_t first, uint16_t last);
void resource_window_32(struct aml *a, enum resource_space space, uint32_t first, uint32_t last);
void resource_end(struct aml *a);

#endif
