/* The serial port's other end.
 *
 * Two threads: the reader polls the input (and, for a socket, accepts), looks
 * for Ctrl-A and offers bytes to the guest; the writer takes bytes from the
 * queue and writes them. Start reading at console_create, then reader_run and
 * writer_run.
 *
 * Invariants: queue, used, leaving, closing and client belong to c->lock, which
 * is never held across a system call that may block nor across a call into
 * the VM. The descriptors of stdio are shared with whoever started us, so they
 * are never made non-blocking; the writer may therefore be stuck in write(),
 * and the one way out of that is pthread_cancel, which is enabled nowhere
 * else. */
#include "vm/console.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum {
	QUEUE_SIZE = 64 << 10,
	INPUT_SIZE = 256,
	ESCAPE = 1,		/* Ctrl-A */
	RETRY_MS = 5,		/* the guest's FIFO was full */
	BACKGROUND_MS = 500,	/* how often to look whether we are in front again */
	SOCKET_BACKLOG = 4,
};

struct console {
	struct console_config config;
	struct console_events events;
	int in, out;		/* -1: none; a socket's client is both */
	int listener;
	int wake_reader;	/* eventfd: look at the flags */
	int wake_writer;	/* eventfd: likewise, inside its poll */
	bool terminal;		/* stdin is a terminal: raw mode and Ctrl-A */
	bool escape;		/* the reader saw Ctrl-A */
	bool started, leaving, closing;
	bool lost_said;
	pthread_mutex_t lock;
	pthread_cond_t room, work;
	uint8_t *queue;		/* a ring */
	size_t first, used;
	pthread_t reader, writer;
};

/* The terminal as we found it; one per process, read by signal handlers. */
static struct termios found;
static volatile bool raw;

void console_restore_terminal(void)
{
	if (raw) {
		tcsetattr(STDIN_FILENO, TCSANOW, &found);
		raw = false;
	}
}

static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

void console_resume_terminal(struct console *c)
{
	struct termios t;
	if (!c->terminal || raw || !in_foreground() || tcgetattr(STDIN_FILENO, &t))
		return;
	found = t;
	cfmakeraw(&t);
	raw = true;
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static void wake(int event)
{
	uint64_t one = 1;
	ssize_t done = write(event, &one, sizeof one);
	(void)done;	/* only fails when it is awake already */
}

static void drain_event(int event)
{
	uint64_t count;
	ssize_t done = read(event, &count, sizeof count);
	(void)done;
}

/* The queue. */

static bool has_reader(const struct console *c)
{
	return c->config.kind != CONSOLE_UNIX || c->out >= 0;
}

void console_write(struct console *c, const uint8_t *bytes, size_t n)
{
	pthread_mutex_lock(&c->lock);
	while (n && c->config.kind != CONSOLE_NONE) {
		while (c->used == QUEUE_SIZE && has_reader(c) && !c->leaving)
			pthread_cond_wait(&c->room, &c->lock);
		if (c->used == QUEUE_SIZE) {
			if (has_reader(c))
				break;
			/* Nobody has connected: keep the newest. */
			c->first = (c->first + 1) % QUEUE_SIZE;
			c->used--;
		}
		c->queue[(c->first + c->used++) % QUEUE_SIZE] = *bytes++;
		n--;
	}
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

void console_leave(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	c->leaving = true;
	pthread_cond_broadcast(&c->room);
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
	wake(c->wake_writer);
	wake(c->wake_reader);
}

/* Lock held: nobody takes output any more. */
static void output_lost(struct console *c, int reason)
{
	if (c->config.kind == CONSOLE_UNIX) {
		/* The reader sees the hang-up and closes; keep what is queued
		 * for the next who connects. */
		c->out = -1;
	} else {
		c->out = -1;
		c->used = 0;
		if (!c->lost_said)
			log_line("The guest's console output cannot be written any more (%s); the VM goes on without it.",
				 strerror(reason));
		c->lost_said = true;
	}
	pthread_cond_broadcast(&c->room);
}

/* Writes part of bytes, waiting as long as it takes. -1 with errno, 0 when
 * woken. Lock not held. */
static ssize_t write_some(struct console *c, int fd, const uint8_t *bytes, size_t n)
{
	struct pollfd p[2] = {
		{ .fd = fd, .events = POLLOUT },
		{ .fd = c->wake_writer, .events = POLLIN },
	};
	if (c->config.kind == CONSOLE_UNIX) {
		ssize_t done = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done >= 0 || (errno != EAGAIN && errno != EINTR))
			return done;
	}
	if (poll(p, 2, -1) < 0)
		return errno == EINTR ? 0 : -1;
	if (p[1].revents) {
		drain_event(c->wake_writer);
		return 0;
	}
	if (c->config.kind == CONSOLE_UNIX)
		return 0;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	ssize_t done = write(fd, bytes, n);
	int saved = errno;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	errno = saved;
	return done < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : done;
}

static void *writer_run(void *arg)
{
	struct console *c = arg;
	uint8_t chunk[512];	/* small, so that POLLOUT nearly always covers it */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_mutex_lock(&c->lock);
	for (;;) {
		if (c->leaving || (c->closing && (!c->used || c->out < 0)))
			break;
		if (!c->used || c->out < 0) {
			if (c->config.kind != CONSOLE_UNIX && c->out < 0) {
				c->used = 0;
				pthread_cond_broadcast(&c->room);
			}
			pthread_cond_wait(&c->work, &c->lock);
			continue;
		}
		size_t n = c->used < sizeof chunk ? c->used : sizeof chunk;
		for (size_t i = 0; i < n; i++)
			chunk[i] = c->queue[(c->first + i) % QUEUE_SIZE];
		int fd = c->out;
		pthread_mutex_unlock(&c->lock);
		ssize_t done = write_some(c, fd, chunk, n);
		int reason = errno;
		pthread_mutex_lock(&c->lock);
		if (done < 0) {
			if (c->out == fd)
				output_lost(c, reason);
		} else if (done) {
			/* Only a socket without client drops from the front,
			 * and it had one until now. */
			c->first = (c->first + (size_t)done) % QUEUE_SIZE;
			c->used -= (size_t)done;
			pthread_cond_broadcast(&c->room);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* The reader. */

static bool reader_stopped(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	bool stopped = c->closing || c->leaving;
	pthread_mutex_unlock(&c->lock);
	return stopped;
}

/* Sleeps ms, less when the console ends. */
static void reader_pause(struct console *c, int ms)
{
	struct pollfd p = { .fd = c->wake_reader, .events = POLLIN };
	poll(&p, 1, ms);
}

static void offer(struct console *c, const uint8_t *bytes, size_t n)
{
	while (n && !reader_stopped(c)) {
		size_t taken = c->events.receive(c->events.owner, bytes, n);
		bytes += taken;
		n -= taken;
		if (n)
			reader_pause(c, RETRY_MS);
	}
}

/* On a terminal Ctrl-A is ours: X leaves, a second Ctrl-A sends one, anything
 * else goes through with its Ctrl-A. Returns what is left for the guest. */
static size_t filter_escapes(struct console *c, const uint8_t *in, size_t n, uint8_t *out)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++) {
		if (!c->escape && in[i] == ESCAPE) {
			c->escape = true;
			continue;
		}
		if (c->escape) {
			c->escape = false;
			if (in[i] == 'x' || in[i] == 'X') {
				c->events.leave(c->events.owner);
				continue;
			}
			out[kept++] = ESCAPE;
			if (in[i] == ESCAPE)
				continue;
		}
		out[kept++] = in[i];
	}
	return kept;
}

static void set_client(struct console *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->in = c->out = fd;
	pthread_cond_signal(&c->work);
	pthread_cond_broadcast(&c->room);
	pthread_mutex_unlock(&c->lock);
}

/* The input has ended: for a socket wait for the next client. */
static void input_ended(struct console *c)
{
	int fd = c->in;
	if (c->config.kind == CONSOLE_UNIX) {
		/* The writer may hold the number for one more try; shutting
		 * down first makes that try fail instead of hanging. */
		shutdown(fd, SHUT_RDWR);
		set_client(c, -1);
		close(fd);
	}
	c->in = -1;
}

static void *reader_run(void *arg)
{
	struct console *c = arg;
	while (!reader_stopped(c)) {
		bool behind = c->terminal && !in_foreground();
		uint8_t bytes[INPUT_SIZE], kept[INPUT_SIZE * 2];
		struct pollfd p[] = {
			{ .fd = c->wake_reader, .events = POLLIN },
			{ .fd = behind ? -1 : c->in, .events = POLLIN },
			{ .fd = c->in < 0 ? c->listener : -1, .events = POLLIN },
		};
		if (poll(p, ARRAY_SIZE(p), behind ? BACKGROUND_MS : -1) <= 0) {
			if (behind)
				console_resume_terminal(c);
			continue;
		}
		if (p[0].revents)
			drain_event(c->wake_reader);
		if (p[2].revents) {
			int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				set_client(c, fd);
		}
		if (!p[1].revents)
			continue;
		ssize_t n = read(c->in, bytes, sizeof bytes);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			if (n < 0 && errno == EIO && c->terminal && !in_foreground())
				continue;	/* put in the background meanwhile */
			input_ended(c);
		} else if (c->terminal) {
			offer(c, kept, filter_escapes(c, bytes, (size_t)n, kept));
		} else {
			offer(c, bytes, (size_t)n);
		}
	}
	return NULL;
}

/* Opening. */

static bool fd_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_file(struct console *c, struct error *e)
{
	const char *path = c->config.path;
	c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (c->out < 0)
		return error_set(e, STATUS_FILE,
			"--serial file:%s cannot be written (%s); name a file in a directory that you may write to.",
			path, strerror(errno));
	return 0;
}

/* A socket file that a dead process left behind goes; anything else stays. */
static int remove_stale(const char *path, const struct sockaddr_un *address, struct error *e)
{
	struct stat st;
	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return error_set(e, STATUS_FILE,
			"--serial unix:%s: a file of that name exists and is no socket; choose another path or remove it.",
			path);
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int failed = connect(probe, (const struct sockaddr *)address, sizeof *address);
	int reason = errno;
	close(probe);
	if (!failed || reason != ECONNREFUSED)
		return error_set(e, STATUS_FILE,
			"--serial unix:%s: somebody is listening there already; choose another path or end the other program.",
			path);
	if (unlink(path) && errno != ENOENT)
		return error_set(e, STATUS_FILE,
			"--serial unix:%s: the old socket cannot be removed (%s); choose another path.",
			path, strerror(errno));
	return 0;
}

static int open_socket(struct console *c, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = c->config.path;
	if (strlen(path) >= sizeof address.sun_path)
		return error_set(e, STATUS_USAGE,
			"--serial unix:%s: the path is too long for a socket; choose a shorter one.",
			path);
	strcpy(address.sun_path, path);
	if (remove_stale(path, &address, e))
		return -1;
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0 ||
	    bind(c->listener, (struct sockaddr *)&address, sizeof address) ||
	    listen(c->listener, SOCKET_BACKLOG))
		return error_set(e, STATUS_FILE,
			"--serial unix:%s: the socket cannot be made (%s); name a path in a directory that you may write to.",
			path, strerror(errno));
	return 0;
}

static void release(struct console *c)
{
	if (c->config.kind == CONSOLE_FILE && c->out >= 0)
		close(c->out);
	if (c->config.kind == CONSOLE_UNIX && c->in >= 0)
		close(c->in);
	if (c->listener >= 0)
		close(c->listener);
	close(c->wake_reader);
	close(c->wake_writer);
	pthread_cond_destroy(&c->room);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c->queue);
	free(c);
}

struct console *console_create(const struct console_config *config,
			       const struct console_events *events, struct error *e)
{
	struct console *c = alloc_zeroed(1, sizeof *c);
	int result = 0;
	c->config = *config;
	c->events = *events;
	c->in = c->out = c->listener = -1;
	c->wake_reader = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->wake_writer = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->queue = alloc_zeroed(QUEUE_SIZE, 1);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->room, NULL);
	pthread_cond_init(&c->work, NULL);
	switch (config->kind) {
	case CONSOLE_STDIO:
		c->in = fd_is_open(STDIN_FILENO) ? STDIN_FILENO : -1;
		c->out = fd_is_open(STDOUT_FILENO) ? STDOUT_FILENO : -1;
		c->terminal = c->in >= 0 && isatty(c->in);
		break;
	case CONSOLE_FILE:
		result = open_file(c, e);
		break;
	case CONSOLE_UNIX:
		result = open_socket(c, e);
		break;
	case CONSOLE_NONE:
		break;
	}
	if (result) {
		release(c);
		return NULL;
	}
	return c;
}

void console_start(struct console *c)
{
	panic_hook = console_restore_terminal;
	console_resume_terminal(c);
	if (pthread_create(&c->reader, NULL, reader_run, c) ||
	    pthread_create(&c->writer, NULL, writer_run, c))
		panic("the console's threads cannot be started");
	c->started = true;
}

/* Wait for the writer; when the VM must not wait, pull it out of write(). */
static void join_writer(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	bool leaving = c->leaving;
	pthread_mutex_unlock(&c->lock);
	if (leaving)
		pthread_cancel(c->writer);
	pthread_join(c->writer, NULL);
}

void console_destroy(struct console *c)
{
	if (c->started) {
		pthread_mutex_lock(&c->lock);
		c->closing = true;
		pthread_cond_signal(&c->work);
		pthread_mutex_unlock(&c->lock);
		/* The reader stays while the writer drains, so that Ctrl-A X
		 * still works when nobody takes the output. */
		join_writer(c);
		wake(c->wake_reader);
		pthread_join(c->reader, NULL);
	}
	console_restore_terminal();
	if (c->config.kind == CONSOLE_UNIX)
		unlink(c->config.path);
	release(c);
}
