#include "screen.h"

#include <stdlib.h>
#include <string.h>

enum { ESCAPE = 0x1b };

void *text_alloc(void *p)
{
	if (!p)
		abort();
	return p;
}

void text_add(struct text *t, const char *bytes, size_t n)
{
	t->data = text_alloc(realloc(t->data, t->size + n + 1));
	memcpy(t->data + t->size, bytes, n);
	t->size += n;
	t->data[t->size] = 0;
}

/* What a terminal would show, as one text: only what line editors and serial
 * consoles use, on a screen that is as wide as its longest line. */
struct screen {
	struct text done;
	struct text line;
	size_t at;
};

static void put(struct screen *s, char c)
{
	if (s->at == s->line.size)
		text_add(&s->line, &c, 1);
	else
		s->line.data[s->at] = c;
	s->at++;
}

/* ESC [ numbers letter, and the two-byte kinds; how many bytes it took. */
static size_t control_sequence(struct screen *s, const char *bytes, size_t n)
{
	size_t i = 2;
	if (n < 2)
		return n;
	if (bytes[1] == ']') {
		while (i < n && bytes[i] != '\a' && bytes[i] != ESCAPE)
			i++;
		return i < n ? i + 1 : n;
	}
	if (bytes[1] != '[')
		return strchr("()", bytes[1]) && n > 2 ? 3 : 2;
	while (i < n && (bytes[i] < '@' || bytes[i] > '~'))
		i++;
	if (i == n)
		return n;
	size_t count = (size_t)strtoul(bytes + 2, NULL, 10);
	if (bytes[i] == 'K') {
		s->line.size = s->at;
	} else if (bytes[i] == 'D') {
		count += !count;
		s->at -= count < s->at ? count : s->at;
	} else if (bytes[i] == 'C') {
		for (count += !count; count && s->at < s->line.size; count--)
			s->at++;
	}
	return i + 1;
}

/* What `bytes` look like on a terminal; the caller's. */
struct text screen_show(const char *bytes, size_t n)
{
	struct screen s = { 0 };
	text_add(&s.done, "", 0);
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];
		if (c == ESCAPE) {
			i += control_sequence(&s, bytes + i, n - i) - 1;
		} else if (c == '\n') {
			text_add(&s.done, s.line.data ? s.line.data : "", s.line.size);
			text_add(&s.done, "\n", 1);
			s.line.size = s.at = 0;
		} else if (c == '\r') {
			s.at = 0;
		} else if (c == '\b') {
			s.at -= s.at > 0;
		} else if (c == '\t' || (unsigned char)c >= ' ') {
			put(&s, c);
		}
	}
	text_add(&s.done, s.line.data ? s.line.data : "", s.line.size);
	free(s.line.data);
	return s.done;
}

const char *screen_last_line(const struct text *t)
{
	const char *end = strrchr(t->data, '\n');
	return end ? end + 1 : t->data;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && !strcmp(s + n - m, end);
}

/* "PS nestor> ", "[lab]: PS nestor> "; a Unix shell's "# ", "root@lab:~# ", "$ ". */
static bool is_prompt(const char *line)
{
	if (ends_with(line, "PS nestor> "))
		return !strchr(line, '>')[2];
	return (ends_with(line, "# ") || ends_with(line, "$ ")) && !strchr(line, ' ')[1];
}

bool screen_has_prompt(const struct text *t)
{
	return is_prompt(screen_last_line(t));
}
