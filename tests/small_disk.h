/* For tests: a file system of 4 MB, in a mount namespace of this process's own. */
#ifndef NESTOR_TESTS_SMALL_DISK_H
#define NESTOR_TESTS_SMALL_DISK_H

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL_DISK_SKIPPED = 77 };

static inline bool small_disk_note(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return done;
}

/* On a new folder. False: this user may not. */
static inline bool small_disk(const char *folder)
{
	char users[64], groups[64];
	bool root = !geteuid();
	snprintf(users, sizeof users, "0 %d 1", (int)geteuid());
	snprintf(groups, sizeof groups, "0 %d 1", (int)getegid());
	return !unshare(root ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) &&
		(root || (small_disk_note("/proc/self/setgroups", "deny") &&
			  small_disk_note("/proc/self/uid_map", users) &&
			  small_disk_note("/proc/self/gid_map", groups))) &&
		!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mkdir(folder, 0700) &&
		!mount("tmpfs", folder, "tmpfs", 0, "size=4m");
}

/* A test in a process of its own: 0 when all was right, SMALL_DISK_SKIPPED where
 * small_disk() may not. */
static inline void small_disk_test(int (*test)(void))
{
	int status;
	pid_t child = fork();
	if (!child)
		_exit(test());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == SMALL_DISK_SKIPPED)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#endif
