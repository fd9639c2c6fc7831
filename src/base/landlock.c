#include "base/landlock.h"

#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Every right of Landlock's first version: what is not allowed is denied. */
#define ALL_RIGHTS BITS(12, 0)
/* Of those, the ones that a rule for a file may have. */
#define FILE_RIGHTS (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	LANDLOCK_ACCESS_FS_READ_FILE)

int landlock_rules(void)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = ALL_RIGHTS };
	return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
}

int landlock_allow(int rules, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = rights, .parent_fd = open(path, O_PATH | O_CLOEXEC),
	};
	struct stat st;
	if (rule.parent_fd < 0)
		return -1;
	if (!fstat(rule.parent_fd, &st) && !S_ISDIR(st.st_mode))
		rule.allowed_access &= FILE_RIGHTS;
	int result = (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	int reason = errno;
	close(rule.parent_fd);
	errno = reason;
	return result;
}

bool landlock_enter(int rules)
{
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		!syscall(SYS_landlock_restrict_self, rules, 0);
}
