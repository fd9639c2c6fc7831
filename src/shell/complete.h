/* Completion: what may follow at a place of a line. */
#ifndef NESTOR_SHELL_COMPLETE_H
#define NESTOR_SHELL_COMPLETE_H

#include "shell/shell.h"

/* Candidates for the word that ends at `cursor`, each as it would be typed, and
 * where that word begins. A new array. */
json_t *shell_complete(struct shell *sh, const char *line, size_t cursor, size_t *word);
/* Which names a parameter takes: "VM", "VMSwitch", "NetAdapter",
 * "VMNetworkAdapter"; NULL: no names that the service knows. */
const char *parameter_names_kind(const struct cmdlet *c, const struct parameter *p);
/* Those names from the service; NULL when it does not answer. */
json_t *shell_names(struct shell *sh, const char *kind, const char *prefix);

#endif
