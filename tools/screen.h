/* What a program's bytes look like on a terminal, and whether its prompt is there. */
#ifndef NESTOR_TOOLS_SCREEN_H
#define NESTOR_TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/* Ends with a NUL that is not counted; NULL while it is empty from the start. */
struct text {
	char *data;
	size_t size;
};

/* p, which an allocation gave; the program ends when it is NULL. */
void *text_alloc(void *p);
void text_add(struct text *t, const char *bytes, size_t n);

/* The text that a terminal without an end of lines would show; the caller's. */
struct text screen_show(const char *bytes, size_t n);
const char *screen_last_line(const struct text *t);
/* Is the last line a prompt, of Nestor's shell or a Unix shell's, and nothing more? */
bool screen_has_prompt(const struct text *t);

#endif
