/* Connect-VMConsole: bytes between the terminal and a VM's serial console. */
#include "shell/shell.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define LEAVE_KEY 0x1d	/* Ctrl-] */
#define SEND_KEY 0x16	/* Ctrl-V: a Ctrl-] after it is sent on */

static struct termios saved;

static void restore_terminal(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

static int write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t w = write(fd, data, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -1;
		data += w;
		n -= (size_t)w;
	}
	return 0;
}

/* The keys between Ctrl-Vs. */
struct keys {
	size_t held;	/* Ctrl-Vs that wait for what comes after them */
	bool leave;
};

/* Send what was typed. A Ctrl-] with Ctrl-Vs before it takes one of them away and
 * goes to the guest, so that every console in a chain can be left; any other key
 * lets them pass. */
static int send_keys(struct keys *k, int console, const char *keys, size_t n)
{
	for (size_t i = 0; i < n && !k->leave; i++) {
		if (keys[i] == SEND_KEY) {
			k->held++;
			continue;
		}
		bool special = keys[i] == LEAVE_KEY;
		k->leave = special && !k->held;
		for (k->held -= special && k->held; k->held; k->held--)
			if (write_all(console, &(char){ SEND_KEY }, 1))
				return -1;
		if (!k->leave && write_all(console, &keys[i], 1))
			return -1;
	}
	return 0;
}

/* Until Ctrl-], or the other side hangs up; true: it was left. */
static bool relay(int console)
{
	struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = console, .events = POLLIN } };
	struct keys keys = { 0 };
	char buffer[4096];
	for (;;) {
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return true;
		}
		if (fds[0].revents) {
			ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
			if (n <= 0)
				fds[0].fd = -1;	/* the console may still have something to say */
			else if (send_keys(&keys, console, buffer, (size_t)n) || keys.leave)
				return keys.leave;
		}
		if (fds[1].revents) {
			ssize_t n = read(console, buffer, sizeof(buffer));
			if (n <= 0 || write_all(STDOUT_FILENO, buffer, (size_t)n))
				return n > 0;
		}
	}
}

static int open_console(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int reason = errno;
		close(fd);
		errno = reason;
		return -1;
	}
	return fd;
}

json_t *console_join(struct shell *sh, json_t *console)
{
	const char *path = value_text(console, "Path"), *name = value_text(console, "VMName");
	bool terminal = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &saved);
	int fd = open_console(path);
	if (fd < 0)
		return shell_throwf(sh, "ConnectionError", "ConsoleNotReachable", NULL,
				    "The console at %s cannot be reached: %s.", path, strerror(errno));
	if (terminal) {
		struct termios raw = saved;
		fprintf(sh->err, "Connected to the console of %s; Ctrl-] leaves, Ctrl-V Ctrl-] sends one on.\n", name);
		cfmakeraw(&raw);
		panic_hook = restore_terminal;
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	fflush(sh->out);
	bool left = relay(fd);
	close(fd);
	if (terminal) {
		restore_terminal();
		panic_hook = NULL;
		fputs(left ? "\nThe console is left; the virtual machine runs on.\n" :
		      "\nThe console has ended: the virtual machine is off.\n", sh->err);
	}
	return json_array();
}
