#include "base/state.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

enum { NAME_SIZE = 16 };

void state_free(struct state *s)
{
	free(s->data);
	*s = (struct state){ 0 };
}

void state_put_bytes(struct state *s, const void *p, size_t n)
{
	if (s->size + n > s->room) {
		s->room = (s->size + n) * 2 + 256;
		s->data = alloc_resize(s->data, s->room, 1);
	}
	memcpy(s->data + s->size, p, n);
	s->size += n;
}

void state_put(struct state *s, uint64_t value, unsigned bytes)
{
	uint8_t b[8];
	store_le(b, value, sizeof b);
	state_put_bytes(s, b, bytes);
}

void state_section(struct state *s, const char *name, unsigned version)
{
	char padded[NAME_SIZE] = { 0 };
	strncpy(padded, name, sizeof padded - 1);
	s->loading = false;
	state_put_bytes(s, padded, sizeof padded);
	state_put(s, version, 4);
}

void state_get_bytes(struct state *s, void *p, size_t n)
{
	if (s->failed || n > s->size - s->at) {
		s->failed = true;
		memset(p, 0, n);
		return;
	}
	memcpy(p, s->data + s->at, n);
	s->at += n;
}

uint64_t state_get(struct state *s, unsigned bytes)
{
	uint8_t b[8] = { 0 };
	state_get_bytes(s, b, bytes);
	return load_le(b, sizeof b);
}

void state_bytes(struct state *s, void *p, size_t n)
{
	if (s->loading)
		state_get_bytes(s, p, n);
	else
		state_put_bytes(s, p, n);
}

unsigned state_open(struct state *s, const char *name)
{
	char found[NAME_SIZE];
	s->loading = true;
	state_get_bytes(s, found, sizeof found);
	unsigned version = (unsigned)state_get(s, 4);
	if (s->failed || strncmp(found, name, sizeof found - 1) || !version) {
		s->failed = true;
		return 0;
	}
	return version;
}

int state_finish(struct state *s, const char *name, struct error *e)
{
	if (!s->failed)
		return 0;
	return error_set(e, STATUS_FILE,
		"The saved state does not hold a readable \"%s\" section; it was written by another version or is damaged.",
		name);
}
