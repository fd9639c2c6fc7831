/* Streams, and the redirections that send them elsewhere. */
#ifndef NESTOR_SHELL_REDIRECT_H
#define NESTOR_SHELL_REDIRECT_H

#include "shell/shell.h"

/* What one stage of a pipeline is redirected to. */
struct redirection {
	FILE *out;		/* what comes out goes into this file; NULL: it does not */
	bool discard;		/* > $null */
	bool merges;		/* 2>&1 and its like */
	struct sink saved[STREAMS];
	json_t *saved_merged;
	FILE *files[STREAMS];	/* of other streams, to be closed */
	bool is_open;
};

/* Take one NODE_REDIRECT into account. -1: thrown. */
int redirection_add(struct shell *sh, struct redirection *r, const struct node *n);
/* The stage has run: streams go where they went before, and what came out goes to
 * its file. `list` (NULL: an error was thrown) is taken over; what is left of it for
 * the next stage, or NULL when thrown. */
json_t *redirection_end(struct shell *sh, struct redirection *r, json_t *list);

#endif
