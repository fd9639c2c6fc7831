#include "service/cage.h"

#include "base/log.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Every right of Landlock's first version: what is not allowed below is denied. */
#define ALL_RIGHTS (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
	LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
	LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
/* The end record and the sockets. */
#define RUNTIME_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)

static void allow(int rules, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights };
	if (!path || !*path)
		return;
	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0 ||
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		log_line("%s will be closed to this worker (%m).", path);
	if (rule.parent_fd >= 0)
		close(rule.parent_fd);
}

/* The C library loads it when a thread is cancelled, and would find it closed. */
static const char unwinder[] = "libgcc_s.so.1";

bool cage_enter(const struct vm_config *config, const char *runtime)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = ALL_RIGHTS };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
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
	bool held = !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		!syscall(SYS_landlock_restrict_self, rules, 0);
	close(rules);
	return held;
}
