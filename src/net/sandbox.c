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

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RUN (READ | LANDLOCK_ACCESS_FS_EXECUTE)
#define CHANGE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)

struct access {
	const char *path;
	uint64_t allowed;
};

/* Where names and name servers are, and where /etc/resolv.conf may point; what
 * the process is itself, which a sanitizer looks at in the end. */
static const struct access for_all[] = {
	{ "/etc", READ }, { "/run/systemd/resolve", READ }, { "/run/resolvconf", READ },
	{ "/proc/self", READ },
};

/* For nft, a TAP and IPv4 forwarding. */
static const struct access for_host_network[] = {
	{ "/usr", RUN }, { "/bin", RUN }, { "/sbin", RUN }, { "/lib", RUN }, { "/lib64", RUN },
	{ "/dev/null", CHANGE }, { "/dev/net/tun", CHANGE }, { "/proc/sys/net", CHANGE },
};

static void allow(int rules, const struct access *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct landlock_path_beneath_attr rule = {
			.allowed_access = list[i].allowed,
			.parent_fd = open(list[i].path, O_PATH | O_CLOEXEC),
		};
		if (rule.parent_fd < 0)
			continue;
		syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
		close(rule.parent_fd);
	}
}

static void restrict_files(const struct sandbox *may)
{
	struct landlock_ruleset_attr all = { .handled_access_fs = ALL_FILE_ACCESS };
	const struct access own = { may->own, LANDLOCK_ACCESS_FS_REMOVE_FILE };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
	if (rules < 0)
		return;		/* a kernel without it */
	allow(rules, for_all, ARRAY_SIZE(for_all));
	if (may->own)
		allow(rules, &own, 1);
	if (may->host_network)
		allow(rules, for_host_network, ARRAY_SIZE(for_host_network));
	if (syscall(SYS_landlock_restrict_self, rules, 0))
		log_line("The switch's files cannot be restricted (%s).", strerror(errno));
	close(rules);
}

static void drop_capabilities(const struct sandbox *may)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];
	uint32_t keep = CAP_TO_MASK(CAP_NET_RAW) | (may->host_network ? CAP_TO_MASK(CAP_NET_ADMIN) : 0);
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

void sandbox_enter(const struct sandbox *may)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	restrict_files(may);
	drop_capabilities(may);
}
