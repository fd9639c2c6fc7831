/* The command line of `nestor run`: a table of options, from which parsing and
 * help both come. */
#ifndef NESTOR_RUN_OPTIONS_H
#define NESTOR_RUN_OPTIONS_H

#include "vm/config.h"

#include <stdio.h>

/* Fill *config from the arguments after `run`. 0; 1 when help was asked for;
 * -1 with one sentence in *e. */
int run_options_parse(int argc, char *const argv[], struct vm_config *config, struct error *e);

/* What `nestor run --help` prints. */
void run_options_help(FILE *out);

/* How many single-letter insertions, deletions, replacements and swaps of
 * neighbours turn one word into the other. */
unsigned edit_distance(const char *a, const char *b);

#endif
