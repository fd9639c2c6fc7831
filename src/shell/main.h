/* The program's roles that are the shell. */
#ifndef NESTOR_SHELL_MAIN_H
#define NESTOR_SHELL_MAIN_H

#include <stdbool.h>

/* Is this first argument for the shell: a cmdlet, a command text, -File …? */
bool shell_takes(const char *word);
/* All arguments of the program, without its name; the exit status. */
int shell_main(int argc, char *const argv[]);

#endif
