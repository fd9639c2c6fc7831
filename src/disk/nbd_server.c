#include "disk/nbd_server.h"

#include "base/bits.h"
#include "base/landlock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char program[] = "qemu-nbd", usual_path[] = "/usr/local/bin:/usr/bin:/bin";

enum {
	LISTEN_FD = 3,		/* where systemd's protocol of inherited sockets puts the first */
	OPTIONS_SIZE = 64 << 10,
	OUTPUT_TAIL = 400,
	NOT_EXECUTED = 127,
};

bool nbd_server_find(char *path, size_t room)
{
	const char *folders = getenv("PATH");
	for (const char *at = folders ? folders : usual_path; *at;) {
		size_t length = strcspn(at, ":");
		int n = snprintf(path, room, "%.*s/%s", (int)length, at, program);
		if (length && n > 0 && (size_t)n < room && !access(path, X_OK))
			return true;
		at += length + (at[length] == ':');
	}
	return false;
}

/* The options that describe a chain to qemu: every node by its driver and file,
 * so that nothing is left to its search. */

struct options {
	char *text;
	size_t used;
	bool full;
};

static void add(struct options *o, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct options *o, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf(o->text + o->used, OPTIONS_SIZE - o->used, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= OPTIONS_SIZE - o->used)
		o->full = true;
	else
		o->used += (size_t)n;
}

/* A comma ends an option unless it stands twice. */
static void add_path(struct options *o, const char *path)
{
	for (; *path; path++)
		add(o, *path == ',' ? ",%c" : "%c", *path);
}

static char *describe(const struct disk_chain *chain)
{
	struct options o = { .text = alloc_zeroed(1, OPTIONS_SIZE) };
	char prefix[DISK_CHAIN_MAX * sizeof "backing."] = "";
	for (unsigned n = 0; n < chain->count; n++) {
		const struct disk_image *i = &chain->image[n];
		const char *comma = n ? "," : "";
		if (disk_image_is_flat(i))
			add(&o, "%s%sdriver=raw,%ssize=%llu", comma, prefix, prefix,
			    (unsigned long long)i->size);
		else
			add(&o, "%s%sdriver=%s", comma, prefix, disk_format_driver(i->format));
		/* What the other makers of VHDs go by, not cylinders and heads. */
		if (i->format == DISK_FORMAT_VHD && !disk_image_is_flat(i))
			add(&o, ",%sforce_size_calc=current_size", prefix);
		add(&o, ",%sfile.driver=file,%sfile.filename=", prefix, prefix);
		add_path(&o, i->path);
		strcat(prefix, "backing.");
	}
	if (!o.full)
		return o.text;
	free(o.text);
	return NULL;
}

/* A connection whose other end waits in the listener's queue, and a listener
 * that no path leads to any more. */
static int connect_unnamed(int *listener, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/nestor-disk.XXXXXX";
	int fd = -1;
	*listener = -1;
	if (!mkdtemp(folder))
		return error_set(e, STATUS_FAULT, "No folder for a socket can be made in /tmp (%s).",
				 strerror(errno));
	snprintf(address.sun_path, sizeof address.sun_path, "%s/nbd", folder);
	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool failed = *listener < 0 || bind(*listener, (struct sockaddr *)&address, sizeof address) ||
		listen(*listener, 1);
	if (!failed) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		failed = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address);
	}
	if (failed)
		error_set(e, STATUS_FAULT, "A socket for %s cannot be made (%s).", program,
			  strerror(errno));
	unlink(address.sun_path);
	rmdir(folder);
	if (!failed)
		return fd;
	if (fd >= 0)
		close(fd);
	if (*listener >= 0)
		close(*listener);
	return -1;
}

/* What it may open: itself, the host's libraries, and the disk's files; only the
 * disk's own for writing. -1: this
 * kernel has no Landlock. */
static int cage(const char *executable, const struct disk_chain *chain, bool readonly)
{
	static const char *const system[] = { "/usr", "/lib", "/lib64", "/etc/ld.so.cache" };
	int rules = landlock_rules();
	if (rules < 0)
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(system); i++)
		landlock_allow(rules, system[i], LANDLOCK_ACCESS_FS_EXECUTE |
			       LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
	/* It tries on /dev/null whether files can be locked. */
	landlock_allow(rules, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	landlock_allow(rules, executable, LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE);
	for (unsigned i = 0; i < chain->count; i++)
		landlock_allow(rules, chain->image[i].path, LANDLOCK_ACCESS_FS_READ_FILE |
			       (i || readonly ? 0 : LANDLOCK_ACCESS_FS_WRITE_FILE));
	return rules;
}

struct child {
	const char *executable;
	char *const *arguments;
	char **environment;
	char *pid_text;		/* in the environment: the digits of its own id */
	size_t pid_room;
	int listener, output, null, rules;
	pid_t parent;
};

/* After fork: nothing here allocates. */
static _Noreturn void run_child(const struct child *c)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();	/* a terminal's signals are not for it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	snprintf(c->pid_text, c->pid_room, "%d", (int)getpid());
	if (getppid() == c->parent && (c->rules < 0 || landlock_enter(c->rules)) &&
	    dup2(c->null, STDIN_FILENO) >= 0 && dup2(c->output, STDOUT_FILENO) >= 0 &&
	    dup2(c->output, STDERR_FILENO) >= 0 && dup2(c->listener, LISTEN_FD) >= 0 &&
	    !syscall(SYS_close_range, LISTEN_FD + 1, ~0u, 0))
		execve(c->executable, c->arguments, c->environment);
	dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", c->executable, strerror(errno));
	_exit(NOT_EXECUTED);
}

/* The descriptors above those that the child gives other meanings. */
static int above(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, LISTEN_FD + 1);
	if (moved < 0)
		panic("a descriptor cannot be doubled (%s)", strerror(errno));
	close(fd);
	return moved;
}

static int start(struct nbd_server *s, const char *executable, char *options,
		 const struct disk_chain *chain, bool readonly, struct error *e)
{
	char pid_variable[sizeof "LISTEN_PID=" + 3 * sizeof(pid_t)] = "LISTEN_PID=";
	char fds_variable[] = "LISTEN_FDS=1", locale[] = "LC_ALL=C";
	char *environment[] = { pid_variable, fds_variable, locale, NULL };
	char name[] = "qemu-nbd", image_opts[] = "--image-opts", shared[] = "--shared=1",
		cache[] = "--cache=writeback", discard[] = "--discard=unmap", read_only[] = "--read-only";
	char *arguments[] = { name, image_opts, shared, cache, discard, options,
			      readonly ? read_only : NULL, NULL };
	struct child c = {
		.executable = executable, .arguments = arguments, .environment = environment,
		.pid_text = pid_variable + strlen(pid_variable),
		.pid_room = sizeof pid_variable - strlen(pid_variable), .parent = getpid(),
	};
	int fd = connect_unnamed(&c.listener, e);
	if (fd < 0)
		return -1;
	c.listener = above(c.listener);
	s->output = above(memfd_create(program, MFD_CLOEXEC));
	c.output = s->output;
	c.null = above(open("/dev/null", O_RDWR | O_CLOEXEC));
	c.rules = cage(executable, chain, readonly);
	if (c.rules >= 0)
		c.rules = above(c.rules);
	s->pid = fork();
	if (!s->pid)
		run_child(&c);
	int reason = errno;
	close(c.listener);
	close(c.null);
	if (c.rules >= 0)
		close(c.rules);
	if (s->pid > 0)
		return fd;
	close(fd);
	close(s->output);
	s->pid = 0;
	return error_set(e, STATUS_FAULT, "%s cannot be started (%s).", program, strerror(reason));
}

int nbd_server_start(struct nbd_server *s, const struct disk_chain *chain, bool readonly,
		     struct error *e)
{
	const struct disk_image *disk = &chain->image[0];
	char executable[PATH_MAX];
	*s = (struct nbd_server){ .output = -1 };
	if (!nbd_server_find(executable, sizeof executable))
		return error_set(e, STATUS_USAGE,
			"Disk \"%s\" has the format %s, which needs the program %s, and it is not installed; apt-get install qemu-utils does it.",
			disk->path, disk_format_name(disk->format), program);
	char *options = describe(chain);
	if (!options)
		return error_set(e, STATUS_USAGE, "The paths of disk \"%s\" and its parents are too long.",
				 disk->path);
	int fd = start(s, executable, options, chain, readonly, e);
	free(options);
	return fd;
}

/* The last line that it wrote. */
static void last_words(const struct nbd_server *s, char *text, size_t n)
{
	char tail[OUTPUT_TAIL + 1];
	off_t size = lseek(s->output, 0, SEEK_END);
	off_t from = size > OUTPUT_TAIL ? size - OUTPUT_TAIL : 0;
	ssize_t got = size > 0 ? pread(s->output, tail, OUTPUT_TAIL, from) : 0;
	while (got > 0 && (tail[got - 1] == '\n' || !tail[got - 1]))
		got--;
	tail[got > 0 ? got : 0] = 0;
	const char *line = strrchr(tail, '\n');
	snprintf(text, n, "%s", line ? line + 1 : tail);
}

static bool reap(struct nbd_server *s, unsigned ms, int *status)
{
	int fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	if (fd >= 0) {
		poll(&wait, 1, (int)ms);
		close(fd);
	}
	return waitpid(s->pid, status, WNOHANG) == s->pid;
}

void nbd_server_end(struct nbd_server *s, unsigned ms, char *text, size_t n)
{
	char words[OUTPUT_TAIL + 1];
	int status = 0;
	if (!s->pid) {
		snprintf(text, n, "%s has ended before", program);
		return;
	}
	bool killed = !reap(s, ms, &status);
	if (killed) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, &status, 0);
	}
	last_words(s, words, sizeof words);
	if (killed)
		snprintf(text, n, "%s was killed because it did not answer", program);
	else if (WIFSIGNALED(status))
		snprintf(text, n, "%s was ended by signal %d%s%s", program, WTERMSIG(status),
			 *words ? ": " : "", words);
	else
		snprintf(text, n, "%s ended with status %d%s%s", program, WEXITSTATUS(status),
			 *words ? ": " : "", words);
	close(s->output);
	s->pid = 0;
	s->output = -1;
}
