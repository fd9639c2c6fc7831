/* The serial port's other end.
 *
 * Two threads: the reader polls the input (and, for a socket, accepts), looks
 * for Ctrl-A and offers bytes to the guest; the writer takes bytes from the
 * queue and writes them. Start reading at console_create, then reader_run and
 * writer_run.
 *
 * Invariants: first, end, out, client and leaving belong to c->lock, which is
 * never held across a system call that may block nor across a call into the
 * VM. The descriptors of stdio are shared with whoever started us, so they are
 * never made non-blocking; the writer may therefore be stuck in write(), and
 * the one way out of that is pthread_cancel, which is enabled nowhere else.
 * The reader never waits for the guest without looking at the terminal:
 * Ctrl-A X works whatever the guest does. */
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
#include <time.h>
#include <unistd.h>

enum {
	QUEUE_SIZE = 64 << 10,
	INPUT_SIZE = 256,	/* read at once */
	PENDING_SIZE = 4096,	/* read and not yet taken by the guest */
	ESCAPE = 1,		/* Ctrl-A */
	RETRY_MS = 5,		/* the guest's FIFO was full */
	BACKGROUND_MS = 500,	/* how often to look whether we are in front again */
	SOCKET_BACKLOG = 4,
	MS_PER_SECOND = 1000,
	NS_PER_MS = 1000000,
};

struct console {
	struct console_config config;
	struct console_events events;
	int in;			/* the reader's; -1: none; a socket's client */
	int out;		/* -1: nobody takes output now */
	unsigned client;	/* counts the socket's clients */
	int listener;
	int wake_reader;	/* eventfds: leaving was set; reader: or offer again */
	int wake_writer;
	bool terminal;		/* stdin is a terminal: raw mode and Ctrl-A */
	bool escape;		/* the reader saw Ctrl-A */
	bool started;
	bool leaving;
	pthread_mutex_t lock;
	pthread_cond_t room, work;
	uint8_t *queue;		/* byte n of the output is at n % QUEUE_SIZE */
	uint64_t first, end;	/* the bytes not yet written */
	uint8_t pending[PENDING_SIZE];
	size_t pendings;
	pthread_t reader, writer;
};

/* The terminal as we found it; one per process, read by signal handlers. */
static struct termios found, made_raw;
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
	if (!c->terminal || !in_foreground())
		return;
	if (!raw) {
		if (tcgetattr(STDIN_FILENO, &found))
			return;
		made_raw = found;
		cfmakeraw(&made_raw);
		raw = true;
	}
	tcsetattr(STDIN_FILENO, TCSANOW, &made_raw);
}

static void wake(int event)
{
	uint64_t one = 1;
	ssize_t done = write(event, &one, sizeof one);
	(void)done;	/* only fails when it is awake already */
}

/* The queue. */

static uint64_t queued(const struct console *c)
{
	return c->end - c->first;
}

/* A socket's next client may still come; everything else only goes away. */
static bool output_gone(const struct console *c)
{
	return c->out < 0 && c->config.kind != CONSOLE_UNIX;
}

void console_write(struct console *c, const uint8_t *bytes, size_t n)
{
	pthread_mutex_lock(&c->lock);
	while (n && !output_gone(c)) {
		while (queued(c) == QUEUE_SIZE && c->out >= 0 && !c->leaving)
			pthread_cond_wait(&c->room, &c->lock);
		if (queued(c) == QUEUE_SIZE) {
			if (c->leaving)
				break;
			if (c->out >= 0)
				continue;
			c->first++;	/* nobody is connected: keep the newest */
		}
		c->queue[c->end++ % QUEUE_SIZE] = *bytes++;
		n--;
	}
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

void console_offer(struct console *c)
{
	wake(c->wake_reader);
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

bool console_drain(struct console *c, unsigned ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % MS_PER_SECOND * NS_PER_MS);
	until.tv_sec += ms / MS_PER_SECOND + until.tv_nsec / (long)NS_PER_SECOND;
	until.tv_nsec %= (long)NS_PER_SECOND;
	pthread_mutex_lock(&c->lock);
	int late = 0;
	while (queued(c) && c->out >= 0 && !c->leaving && !late)
		late = pthread_cond_timedwait(&c->room, &c->lock, &until);
	bool done = !queued(c) || c->out < 0 || c->leaving;
	pthread_mutex_unlock(&c->lock);
	return done;
}

/* Lock held: nobody takes output any more. A socket keeps what is queued for
 * the next client; the reader sees this one's hang-up and closes it. */
static void output_lost(struct console *c, int reason)
{
	c->out = -1;
	if (output_gone(c)) {
		c->first = c->end;
		log_line("The guest's console output cannot be written any more (%s); the VM goes on without it.",
			 strerror(reason));
	}
	pthread_cond_broadcast(&c->room);
}

/* Writes part of bytes, waiting as long as it takes. -1 with errno; 0: nothing
 * yet, look at the flags. Lock not held. */
static ssize_t write_some(struct console *c, int fd, const uint8_t *bytes, size_t n)
{
	bool socket = c->config.kind == CONSOLE_UNIX;
	struct pollfd p[] = {
		{ .fd = fd, .events = POLLOUT },
		{ .fd = c->wake_writer, .events = POLLIN },
	};
	ssize_t done;
	int reason;
	if (poll(p, ARRAY_SIZE(p), -1) < 0 || p[1].revents)
		return 0;
	if (socket) {
		done = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		reason = errno;
	} else {
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		done = write(fd, bytes, n);
		reason = errno;
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	}
	errno = reason;
	return done < 0 && (reason == EINTR || reason == EAGAIN) ? 0 : done;
}

static void *writer_run(void *arg)
{
	struct console *c = arg;
	uint8_t chunk[512];	/* small, so that POLLOUT nearly always covers it */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_mutex_lock(&c->lock);
	while (!c->leaving) {
		if (!queued(c) || c->out < 0) {
			pthread_cond_wait(&c->work, &c->lock);
			continue;
		}
		uint64_t from = c->first;
		unsigned client = c->client;
		int fd = c->out;
		size_t n = queued(c) < sizeof chunk ? queued(c) : sizeof chunk;
		for (size_t i = 0; i < n; i++)
			chunk[i] = c->queue[(from + i) % QUEUE_SIZE];
		pthread_mutex_unlock(&c->lock);
		ssize_t done = write_some(c, fd, chunk, n);
		int reason = errno;
		pthread_mutex_lock(&c->lock);
		if (done < 0) {
			if (c->client == client)
				output_lost(c, reason);
		} else if (from + (uint64_t)done > c->first) {
			/* first may have moved on: a client that left while
			 * the guest wrote. */
			c->first = from + (uint64_t)done;
			pthread_cond_broadcast(&c->room);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* The reader. */

static bool is_leaving(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	bool leaving = c->leaving;
	pthread_mutex_unlock(&c->lock);
	return leaving;
}

/* What does not fit is lost only on a terminal, where reading must go on for
 * Ctrl-A's sake; anything else is not read while there is no room. */
static void add_pending(struct console *c, uint8_t byte)
{
	if (c->pendings < PENDING_SIZE)
		c->pending[c->pendings++] = byte;
}

/* On a terminal Ctrl-A is ours: X leaves, a second Ctrl-A sends one, anything
 * else goes through with its Ctrl-A. */
static void take_input(struct console *c, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t byte = bytes[i];
		if (c->terminal && !c->escape && byte == ESCAPE) {
			c->escape = true;
		} else if (c->escape) {
			c->escape = false;
			if (byte == 'x' || byte == 'X') {
				c->events.leave(c->events.owner);
				continue;
			}
			add_pending(c, ESCAPE);
			if (byte != ESCAPE)
				add_pending(c, byte);
		} else {
			add_pending(c, byte);
		}
	}
}

static void offer_pending(struct console *c)
{
	if (!c->pendings)
		return;
	size_t taken = c->events.receive(c->events.owner, c->pending, c->pendings);
	c->pendings -= taken;
	memmove(c->pending, c->pending + taken, c->pendings);
}

/* fd -1: the client has left. */
static void set_client(struct console *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->in = c->out = fd;
	c->client++;
	pthread_cond_signal(&c->work);
	pthread_cond_broadcast(&c->room);
	pthread_mutex_unlock(&c->lock);
}

static void input_ended(struct console *c)
{
	int fd = c->in;
	if (c->config.kind != CONSOLE_UNIX) {
		c->in = -1;
		return;
	}
	/* The writer may be polling this number: shut down first, and it wakes. */
	shutdown(fd, SHUT_RDWR);
	set_client(c, -1);
	close(fd);
}

static void read_input(struct console *c)
{
	uint8_t bytes[INPUT_SIZE];
	ssize_t n = read(c->in, bytes, sizeof bytes);
	if (n > 0)
		take_input(c, bytes, (size_t)n);
	else if (!n || (errno != EINTR && errno != EAGAIN &&
			!(c->terminal && !in_foreground())))
		input_ended(c);
}

static void accept_client(struct console *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		set_client(c, fd);
}

static void *reader_run(void *arg)
{
	struct console *c = arg;
	while (!is_leaving(c)) {
		bool behind = c->terminal && !in_foreground();
		bool room = c->pendings + INPUT_SIZE <= PENDING_SIZE || c->terminal;
		struct pollfd p[] = {
			{ .fd = c->wake_reader, .events = POLLIN },
			{ .fd = behind || !room ? -1 : c->in, .events = POLLIN },
			{ .fd = c->in < 0 ? c->listener : -1, .events = POLLIN },
		};
		int wait = c->pendings ? RETRY_MS : behind ? BACKGROUND_MS : -1;
		if (poll(p, ARRAY_SIZE(p), wait) > 0) {
			uint64_t count;
			if (p[0].revents && read(c->wake_reader, &count, sizeof count) < 0)
				panic("an eventfd fails (%s)", strerror(errno));
			if (p[1].revents)
				read_input(c);
			if (p[2].revents)
				accept_client(c);
		} else if (behind) {
			console_resume_terminal(c);
		}
		offer_pending(c);
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
	pthread_condattr_t attr;
	int result = 0;
	c->config = *config;
	c->events = *events;
	c->in = c->out = c->listener = -1;
	c->wake_reader = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->wake_writer = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->queue = alloc_zeroed(QUEUE_SIZE, 1);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->room, &attr);
	pthread_cond_init(&c->work, &attr);
	pthread_condattr_destroy(&attr);
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

/* What is said after the guest's last, unfinished line begins on its own. */
static void finish_line(struct console *c)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
	if (c->terminal && c->end && c->queue[(c->end - 1) % QUEUE_SIZE] != '\n' &&
	    isatty(STDOUT_FILENO) && poll(&p, 1, 0) == 1) {
		ssize_t done = write(STDOUT_FILENO, "\r\n", 2);
		(void)done;	/* only a matter of looks */
	}
}

void console_stop(struct console *c)
{
	if (c->started) {
		console_leave(c);
		pthread_cancel(c->writer);
		pthread_join(c->writer, NULL);
		pthread_join(c->reader, NULL);
		finish_line(c);
		c->started = false;
	}
	console_restore_terminal();
}

void console_destroy(struct console *c)
{
	console_stop(c);
	if (c->config.kind == CONSOLE_UNIX)
		unlink(c->config.path);
	release(c);
}
