/* The binder: which parameter each argument belongs to, and its value in the
 * parameter's type. Order of the rules: names, then positions, then what comes
 * through the pipeline; each step narrows the parameter sets that are left. */
#ifndef NESTOR_SHELL_BINDER_H
#define NESTOR_SHELL_BINDER_H

#include "shell/shell.h"

#define BINDER_MAX_PARAMETERS 80

struct argument {
	const char *name;	/* NULL: positional */
	json_t *value;		/* NULL: a parameter without one */
	json_t *text;		/* the same with numbers as they were written; may be NULL */
	bool placeholder;
	bool word;		/* from a Unix shell */
};

struct binding {
	struct shell *sh;
	const struct cmdlet *cmdlet;
	json_t *bound;		/* by full name */
	uint32_t sets;		/* still possible */
	bool is_bound[BINDER_MAX_PARAMETERS];
};

/* Bind the arguments; with `expects_input` what the pipeline may bring is not
 * missed yet. 0, or -1 when thrown. */
int binding_begin(struct binding *b, struct shell *sh, const struct cmdlet *c,
		  const struct argument *arguments, unsigned count, bool expects_input);
/* The parameters for one object of the pipeline: new reference, NULL when thrown. */
json_t *binding_object(const struct binding *b, json_t *object);
/* The parameters without one. */
json_t *binding_finish(const struct binding *b);
void binding_end(struct binding *b);

/* convert.c: v in the parameter's type, a new reference; NULL with *why (freed
 * by the caller) otherwise. */
json_t *parameter_convert(const struct parameter *p, const struct argument *a, const json_t *v, char **why);

#endif
