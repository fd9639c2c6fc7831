#include "service/cage.h"

#include "base/landlock.h"
#include "base/log.h"

#include <dlfcn.h>
#include <unistd.h>

/* The end record and the sockets. */
#define RUNTIME_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)

static void allow(int rules, const char *path, uint64_t rights)
{
	if (path && *path && landlock_allow(rules, path, rights))
		log_line("%s will be closed to this worker (%m).", path);
}

/* The C library loads it when a thread is cancelled, and would find it closed. */
static const char unwinder[] = "libgcc_s.so.1";

bool cage_enter(const struct vm_config *config, const char *runtime)
{
	int rules = landlock_rules();
	if (rules < 0)
		return false;
	if (!dlopen(unwinder, RTLD_NOW)) {
		log_line("%s cannot be loaded; the worker stays outside its cage.", unwinder);
		close(rules);
		return false;
	}
	allow(rules, runtime, RUNTIME_RIGHTS);
	allow(rules, config->kernel, LANDLOCK_ACCESS_FS_READ_FILE);
	for (unsigned i = 0; i < config->initrds; i++)
		allow(rules, config->initrd[i], LANDLOCK_ACCESS_FS_READ_FILE);
	bool held = landlock_enter(rules);
	close(rules);
	return held;
}
