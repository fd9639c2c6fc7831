#ifndef NESTOR_SHELL_INTERACTIVE_H
#define NESTOR_SHELL_INTERACTIVE_H

#include "shell/shell.h"

/* Lines from the terminal until its end or `exit`; the exit status. */
int interactive_run(struct shell *sh);

#endif
