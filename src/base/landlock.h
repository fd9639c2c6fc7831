/* Landlock: a process closes the host's file systems to itself, but for what it
 * names before. Files that are open stay open. */
#ifndef NESTOR_BASE_LANDLOCK_H
#define NESTOR_BASE_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/landlock.h>

/* A set of rules that closes everything; -1 with errno when this kernel has no
 * Landlock. Close it like a file. */
int landlock_rules(void);
/* Leave these rights (LANDLOCK_ACCESS_FS_...) to path and what is below it; -1
 * with errno. */
int landlock_allow(int rules, const char *path, uint64_t rights);
/* From here on the rules hold for this thread and those that it starts, and it
 * gains no privileges by what it executes. Async-signal-safe. */
bool landlock_enter(int rules);

#endif
