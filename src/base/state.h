/* Saved state: a little-endian, self-describing byte stream, so that a
 * checkpoint written today loads tomorrow on another build. A device writes a
 * section (name, version) and its fields in a fixed order; a field added later
 * raises the version and is read only when the version has it.
 *
 * What is the same both ways is listed once: state_field() and its like write
 * in a section that state_section() began, and read in one that state_open()
 * found. A function made of them serves save and load. */
#ifndef NESTOR_BASE_STATE_H
#define NESTOR_BASE_STATE_H

#include "base/bits.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state {
	uint8_t *data;
	size_t size, room;
	size_t at;	/* read position */
	bool loading;	/* the section that is open is being read */
	bool failed;	/* a read went past the end or met the wrong section */
};

void state_free(struct state *s);

/* Begin a section; what is put then belongs to it. */
void state_section(struct state *s, const char *name, unsigned version);
void state_put(struct state *s, uint64_t value, unsigned bytes);
void state_put_bytes(struct state *s, const void *p, size_t n);

/* Open the next section; returns its version, 0 when the name is another's
 * (then s->failed). */
unsigned state_open(struct state *s, const char *name);
/* Reads after a failure give 0; check s->failed once at the end. */
uint64_t state_get(struct state *s, unsigned bytes);
void state_get_bytes(struct state *s, void *p, size_t n);

/* 0, or -1 with the section that did not fit in *e. */
int state_finish(struct state *s, const char *name, struct error *e);

#define state_put_field(s, field) state_put((s), (uint64_t)(field), sizeof(field))
#define state_get_field(s, field) ((field) = state_get((s), sizeof(field)))

/* Write or read, as the open section goes: an integer, an array of integers,
 * bytes as they are. */
#define state_field(s, field) \
	((s)->loading ? (void)state_get_field(s, field) : state_put_field(s, field))
#define state_array(s, array) \
	do { \
		for (size_t n_ = 0; n_ < ARRAY_SIZE(array); n_++) \
			state_field(s, (array)[n_]); \
	} while (0)
void state_bytes(struct state *s, void *p, size_t n);

#endif
