/* The worker's cage: once it has opened what is its own, it opens nothing else. */
#ifndef NESTOR_SERVICE_CAGE_H
#define NESTOR_SERVICE_CAGE_H

#include "vm/config.h"

/* From here on this process can read its kernel and initial RAM disks again (for
 * a reset) and make and remove files in the runtime folder; everything else on
 * the host's file systems is closed to it. Files already open stay open. Call it
 * before threads that must be held too are started. False: this kernel has no
 * Landlock, and nothing changed. */
bool cage_enter(const struct vm_config *config, const char *runtime);

#endif
