/* Does what came out fit what a transcript wants?
 *
 * A wanted text stands for itself, but for these: {number}, {time}, {id} (a GUID),
 * {mac}, {address} (IPv4), {word} (no blanks) and {text} stand for one such thing
 * within a line, and a line {...} for any number of lines. {NAME=kind} also hands
 * what stood there to the caller, under NAME. */
#ifndef NESTOR_TOOLS_FITS_H
#define NESTOR_TOOLS_FITS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define FITS_DIGITS "0123456789"
#define FITS_HEX FITS_DIGITS "abcdefABCDEF"

static const struct fits_kind {
	const char *name;
	const char *bytes;	/* that it is made of; NULL: any */
	size_t shortest, longest;	/* longest 0: no limit */
} fits_kinds[] = {
	{ "number", FITS_DIGITS, 1, 0 },
	{ "time", FITS_DIGITS ":.", 1, 0 },
	{ "id", FITS_HEX "-", 36, 36 },
	{ "mac", FITS_HEX ":-", 12, 17 },
	{ "address", FITS_DIGITS ".", 7, 15 },
	{ "word", NULL, 1, 0 },
	{ "text", NULL, 0, 0 },
};

/* What {NAME=kind} caught. */
typedef void fits_caught(void *owner, const char *name, size_t name_size, const char *text, size_t size);

struct fits {
	fits_caught *caught;	/* NULL: nobody wants to know */
	void *owner;
};

static inline bool fits_byte(const struct fits_kind *k, char c)
{
	return k->bytes ? strchr(k->bytes, c) != NULL : strcmp(k->name, "word") || !strchr(" \t", c);
}

/* The kind that begins at `s`, with what it is called and where it ends. */
static inline const struct fits_kind *fits_parse(const char *s, const char *end, const char **name,
						 size_t *name_size, const char **after)
{
	const char *close = *s == '{' ? memchr(s, '}', (size_t)(end - s)) : NULL, *equals;
	if (!close)
		return NULL;
	equals = memchr(s, '=', (size_t)(close - s));
	*name = s + 1;
	*name_size = equals ? (size_t)(equals - s - 1) : 0;
	*after = close + 1;
	const char *kind = equals ? equals + 1 : s + 1;
	for (size_t i = 0; i < sizeof(fits_kinds) / sizeof(*fits_kinds); i++)
		if (strlen(fits_kinds[i].name) == (size_t)(close - kind) &&
		    !memcmp(fits_kinds[i].name, kind, (size_t)(close - kind)))
			return &fits_kinds[i];
	return NULL;
}

/* One line each: wanted up to `end`, got up to `stop`. */
static inline bool fits_line(const struct fits *f, const char *wanted, const char *end, const char *got,
			     const char *stop)
{
	const char *name, *after;
	size_t name_size;
	while (wanted < end) {
		const struct fits_kind *k = fits_parse(wanted, end, &name, &name_size, &after);
		if (!k) {
			if (got == stop || *wanted != *got)
				return false;
			wanted++;
			got++;
			continue;
		}
		for (size_t n = 0; got + n <= stop && (!k->longest || n <= k->longest); n++) {
			if (n && !fits_byte(k, got[n - 1]))
				return false;
			if (n >= k->shortest && fits_line(f, after, end, got + n, stop)) {
				if (name_size && f->caught)
					f->caught(f->owner, name, name_size, got, n);
				return true;
			}
		}
		return false;
	}
	return got == stop;
}

/* Whole texts, of lines that end with a newline. */
static inline bool fits_text(const struct fits *f, const char *wanted, const char *got)
{
	static const char any[] = "{...}\n";
	for (;;) {
		const char *end = strchr(wanted, '\n'), *stop = strchr(got, '\n');
		if (!end)
			return !*got;
		if (!strncmp(wanted, any, sizeof(any) - 1)) {
			for (;; got = stop + 1) {
				if (fits_text(f, end + 1, got))
					return true;
				if (!(stop = strchr(got, '\n')))
					return false;
			}
		}
		if (!stop || !fits_line(f, wanted, end, got, stop))
			return false;
		wanted = end + 1;
		got = stop + 1;
	}
}

#endif
