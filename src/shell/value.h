/* Values of the shell: JSON texts' own types stand for PowerShell's. An object
 * of the service has "$type"; a hashtable has none; a script block is an index
 * into the shell's blocks. Names compare without case everywhere. */
#ifndef NESTOR_SHELL_VALUE_H
#define NESTOR_SHELL_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TYPE_KEY "$type"

/* A string that grows. */
struct text {
	char *data;
	size_t size, room;
};

void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const char *s, size_t n);
void text_addf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The string, which the caller frees; the text is empty after it. */
char *text_take(struct text *t);

/* A string of PowerShell's form for a value: True, 4096, "a b" for a list. */
char *value_string(const json_t *v);
bool value_true(const json_t *v);
/* 0 and the number, an integer when it is whole ("4GB", "0x10", "1.5"); -1: no number. */
int value_parse_number(const char *s, json_t **out);
/* A new reference to a number for a number, Boolean, null or numeric string; NULL: none. */
json_t *value_number(const json_t *v);

/* An object's property; NULL: not there. Borrowed. */
json_t *value_property(const json_t *object, const char *name);
/* The property's own spelling; NULL: not there. */
const char *value_property_name(const json_t *object, const char *name);
const char *value_type(const json_t *object);	/* its $type, or "" */
/* The property as a string, or "" */
const char *value_text(const json_t *object, const char *name);

/* <0, 0, >0; case: compare letters exactly. A number on the left makes the right one too. */
int value_compare(const json_t *a, const json_t *b, bool exact_case);
bool value_equal(const json_t *a, const json_t *b, bool exact_case);
/* PowerShell's wildcards: * ? [a-z]. */
bool value_like(const char *s, const char *pattern, bool exact_case);
bool value_has_wildcard(const char *s);

/* Is `name` one of the comma-separated `list`? */
bool list_has(const char *list, const char *name);
/* The n-th of a comma-separated list in `room` bytes; false after the last. */
bool list_item(const char *list, unsigned n, char *out, size_t room);

/* Changes of one letter, letters' case aside, that make b of a. */
unsigned name_distance(const char *a, const char *b);

/* Unicode: the code point at s (at most n bytes) and its length; a byte that is
 * no UTF-8 is itself. */
uint32_t utf8_decode(const char *s, size_t n, unsigned *length);
unsigned text_characters(const char *s);
/* Columns that a character or a string takes on a terminal. */
unsigned character_columns(uint32_t c);
unsigned text_columns(const char *s);

#endif
