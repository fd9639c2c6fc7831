/* One command of a pipeline. */
#ifndef NESTOR_SHELL_COMMAND_H
#define NESTOR_SHELL_COMMAND_H

#include "shell/shell.h"

/* Run it on what came through the pipeline (NULL: it begins one). The objects it
 * gave, a new array; NULL when thrown. */
json_t *command_run(struct shell *sh, const struct node *command, json_t *input);

#endif
