#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned trace_mask;
void (*panic_hook)(void);

static const struct {
	const char *name;
} events[] = {
#define X(id, n, help) [TRACE_##id] = { n },
	TRACE_EVENTS(X)
#undef X
};

/* One write() per line, so that lines of several threads never mix. */
static void log_emit(const char *word, const char *format, va_list ap)
{
	char line[2048];
	size_t room = sizeof line - 2;	/* for the line's end */
	int n = snprintf(line, room, "nestor: %s%s", word ? word : "", word ? ": " : "");
	size_t used = n < 0 ? 0 : (size_t)n;
	n = vsnprintf(line + used, room - used, format, ap);
	if (n > 0)
		used += (size_t)n;
	if (used >= room)
		used = room - 1;
	if (isatty(STDERR_FILENO))
		line[used++] = '\r';	/* the terminal may be in raw mode */
	line[used++] = '\n';
	ssize_t done = write(STDERR_FILENO, line, used);
	(void)done;	/* nowhere left to complain */
}

void log_line(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	log_emit(NULL, format, ap);
	va_end(ap);
}

void log_trace(enum trace_event event, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	log_emit(events[event].name, format, ap);
	va_end(ap);
}

int trace_enable(const char *list, struct error *e)
{
	char *copy = alloc_string(list), *rest = copy, *word;
	int result = 0;
	while ((word = strsep(&rest, ","))) {
		unsigned i = 0;
		if (!strcmp(word, "all")) {
			trace_mask = (1u << TRACE_COUNT) - 1;
			continue;
		}
		while (i < TRACE_COUNT && strcmp(word, events[i].name))
			i++;
		if (i == TRACE_COUNT) {
			char known[256] = "";
			for (unsigned k = 0; k < TRACE_COUNT; k++) {
				strcat(known, k ? ", " : "");
				strcat(known, events[k].name);
			}
			result = error_set(e, STATUS_USAGE,
				"--trace does not know the event \"%s\"; it knows %s and all.",
				word, known);
			break;
		}
		trace_mask |= 1u << i;
	}
	free(copy);
	return result;
}

_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	if (panic_hook)
		panic_hook();
	log_line("a fault of Nestor's own at %s:%d: %s. Please report it with the command line.",
		 file, line, text);
	_exit(STATUS_FAULT);
}

void *alloc_zeroed(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);
	if (!p)
		panic("out of memory (%zu times %zu bytes)", count, size);
	return p;
}

void *alloc_resize(void *p, size_t count, size_t size)
{
	p = reallocarray(p, count ? count : 1, size);
	if (!p)
		panic("out of memory (%zu times %zu bytes)", count, size);
	return p;
}

char *alloc_string(const char *s)
{
	char *p = strdup(s);
	if (!p)
		panic("out of memory");
	return p;
}
