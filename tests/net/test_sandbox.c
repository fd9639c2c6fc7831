#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEPT_OPEN = 1, ETC_CLOSED = 2, /* 4: a program ran */ FILE_MADE = 8, CAPABILITIES = 16, USR_OPEN = 32,
       NOT_REMOVED = 64 };
#define NET_RAW_MASK 0x2000ull

/* What still works inside, of what should not, and the other way round. */
static int inside(void)
{
	char line[256];
	unsigned long long effective = 0;
	int wrong = 0, kept = open("/proc/self/status", O_RDONLY);
	char path[] = "/tmp/nestor-sandbox-XXXXXX", own[] = "/tmp/nestor-sandbox-XXXXXX";
	close(mkstemp(own));
	sandbox_enter(&(struct sandbox){ .own = "/tmp" });
	FILE *status = kept >= 0 ? fdopen(kept, "r") : NULL;
	if (!status)
		return KEPT_OPEN;
	while (fgets(line, sizeof line, status))
		sscanf(line, "CapEff: %llx", &effective);
	if (effective & ~NET_RAW_MASK)
		wrong |= CAPABILITIES;
	if (unlink(own))
		wrong |= NOT_REMOVED;
	if (open("/etc/passwd", O_RDONLY) < 0)
		wrong |= ETC_CLOSED;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		return wrong;	/* a kernel without it */
	if (mkstemp(path) >= 0) {
		unlink(path);
		wrong |= FILE_MADE;
	}
	if (open("/usr/bin/env", O_RDONLY) >= 0)
		wrong |= USR_OPEN;
	/* Returns only when it is refused, as it has to be. */
	execl("/bin/sh", "sh", "-c", "exit 4", NULL);
	return wrong;
}

static void test_inside(void **state)
{
	int status = -1;
	pid_t pid = fork();
	if (!pid)
		_exit(inside());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_inside) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
