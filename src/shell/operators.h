/* The operators on texts: -match, -replace, -split, -f. All return a new reference,
 * or NULL when thrown. */
#ifndef NESTOR_SHELL_OPERATORS_H
#define NESTOR_SHELL_OPERATORS_H

#include "shell/shell.h"

/* 1: s fits the regular expression, 0: it does not, -1: thrown. */
int operator_match(struct shell *sh, const char *s, const char *pattern, bool exact_case);
/* right: the pattern, or the pattern and what to put there, with $1 and ${1} for its groups. */
json_t *operator_replace(struct shell *sh, const json_t *left, const json_t *right, bool exact_case);
/* right: the pattern between the parts, or that and how many parts at most. */
json_t *operator_split(struct shell *sh, const json_t *left, const json_t *right, bool exact_case);
/* "{0,-8} {1:N2}" -f values */
json_t *operator_format(struct shell *sh, const json_t *left, const json_t *right);

#endif
