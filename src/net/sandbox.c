#include "net/sandbox.h"

#include "base/bits.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Everything of Landlock's first version: what a later one added is denied
 * there only if it is asked for. */
#define ALL_FILE_ACCESS BITS(12, 0)

/* Where names and name servers are, and where /etc/resolv.conf may point. */
static const char *const readable[] = { "/etc", "/run/systemd/resolve", "/run/resolvconf" };

static void restrict_files(void)
{
	struct landlock_ruleset_attr all = { .handled_access_fs = ALL_FILE_ACCESS };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
	if (rules < 0)
		return;		/* a kernel without it */
	for (unsigned i = 0; i < ARRAY_SIZE(readable); i++) {
		struct landlock_path_beneath_attr rule = {
			.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
			.parent_fd = open(readable[i], O_PATH | O_CLOEXEC),
		};
		if (rule.parent_fd < 0)
			continue;
		syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
		close(rule.parent_fd);
	}
	if (syscall(SYS_landlock_restrict_self, rules, 0))
		log_line("The switch's files cannot be restricted (%s).", strerror(errno));
	close(rules);
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];
	uint32_t keep = CAP_TO_MASK(CAP_NET_RAW);
	if (syscall(SYS_capget, &header, now))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(now); i++) {
		now[i].inheritable = 0;
		now[i].permitted &= i ? 0 : keep;
		now[i].effective &= i ? 0 : keep;
	}
	if (syscall(SYS_capset, &header, now))
		log_line("The switch's capabilities cannot be dropped (%s).", strerror(errno));
}

void sandbox_enter(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	restrict_files();
	drop_capabilities();
}
