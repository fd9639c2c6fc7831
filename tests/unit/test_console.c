/* The serial port's other end: files, pipes, sockets and a real (pseudo)
 * terminal, each in a process of its own where descriptors 0 and 1 matter. */
#include "base/log.h"
#include "vm/console.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 5000, MUCH = 300000, STEP_US = 2000 };

static char directory[] = "/tmp/test_console.XXXXXX";

struct guest {
	pthread_mutex_t lock;
	char got[8192];
	size_t n;
	_Atomic bool refuse;	/* the guest's FIFO is full */
	_Atomic bool left;
};

static size_t receive(void *owner, const uint8_t *bytes, size_t n)
{
	struct guest *g = owner;
	size_t taken = 0;
	pthread_mutex_lock(&g->lock);
	/* At most two at a time, as a slow guest would. */
	while (!g->refuse && taken < n && taken < 2 && g->n < sizeof g->got - 1)
		g->got[g->n++] = (char)bytes[taken++];
	pthread_mutex_unlock(&g->lock);
	return taken;
}

static void leave(void *owner)
{
	((struct guest *)owner)->left = true;
}

static bool got(struct guest *g, const char *text)
{
	for (unsigned us = 0; us < WAIT_MS * 1000; us += STEP_US) {
		pthread_mutex_lock(&g->lock);
		bool same = g->n == strlen(text) && !memcmp(g->got, text, g->n);
		pthread_mutex_unlock(&g->lock);
		if (same)
			return true;
		usleep(STEP_US);
	}
	return false;
}

static struct console *open_console(struct guest *g, enum console_kind kind, const char *path,
				    struct error *e)
{
	struct console_config config = { kind, path };
	struct console_events events = { receive, leave, g };
	*g = (struct guest){ .lock = PTHREAD_MUTEX_INITIALIZER };
	*e = (struct error){ 0 };
	return console_create(&config, &events, e);
}

static void say(struct console *c, const char *text)
{
	console_write(c, (const uint8_t *)text, strlen(text));
}

/* Byte n of a long output. */
static uint8_t pattern(unsigned n)
{
	return (uint8_t)(n * 7 + n / 251);
}

static void say_much(struct console *c)
{
	for (unsigned n = 0; n < MUCH; n++) {
		uint8_t byte = pattern(n);
		console_write(c, &byte, 1);
	}
}

static bool drained(struct console *c)
{
	return console_drain(c, WAIT_MS);
}

static const char *in_directory(const char *name)
{
	static char path[100];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return path;
}

static void file_is_emptied_and_complete(void **state)
{
	const char *path = in_directory("log");
	struct guest g;
	struct error e;
	struct stat st;
	for (unsigned round = 0; round < 2; round++) {
		struct console *c = open_console(&g, CONSOLE_FILE, path, &e);
		assert_non_null(c);
		console_start(c);
		say_much(c);
		assert_true(drained(c));
		console_destroy(c);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, MUCH);
	}
	FILE *f = fopen(path, "r");
	for (unsigned n = 0; n < MUCH; n++)
		assert_int_equal(fgetc(f), pattern(n));
	fclose(f);
	unlink(path);
}

static void file_that_cannot_be(void **state)
{
	struct guest g;
	struct error e;
	assert_null(open_console(&g, CONSOLE_FILE, "/nonexistent/log", &e));
	assert_int_equal(e.status, STATUS_FILE);
	assert_string_equal(e.text, "--serial file:/nonexistent/log cannot be written (No such file or directory); name a file in a directory that you may write to.");
}

static void none_takes_everything(void **state)
{
	struct guest g;
	struct error e;
	struct console *c = open_console(&g, CONSOLE_NONE, NULL, &e);
	console_start(c);
	say_much(c);
	assert_true(drained(c));
	console_destroy(c);
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void expect(int fd, const char *text)
{
	char byte;
	for (; *text; text++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		assert_int_equal(read(fd, &byte, 1), 1);
		assert_int_equal(byte, *text);
	}
}

static void socket_serves_one_after_the_other(void **state)
{
	const char *path = in_directory("socket");
	struct guest g;
	struct error e;
	struct console *c = open_console(&g, CONSOLE_UNIX, path, &e);
	assert_non_null(c);
	console_start(c);
	say(c, "before anybody came");
	int fd = dial(path);
	assert_true(fd >= 0);
	expect(fd, "before anybody came");
	assert_int_equal(write(fd, "hello\001x", 7), 7);
	assert_true(got(&g, "hello\001x"));	/* Ctrl-A means nothing here */
	assert_false(g.left);
	close(fd);
	fd = dial(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "!", 1), 1);
	assert_true(got(&g, "hello\001x!"));
	say(c, "again");
	expect(fd, "again");
	close(fd);
	console_destroy(c);
	assert_int_equal(access(path, F_OK), -1);
}

/* Nobody connected: the guest is not held up and the newest output is kept. */
static void socket_without_client_keeps_the_newest(void **state)
{
	const char *path = in_directory("quiet");
	struct guest g;
	struct error e;
	struct console *c = open_console(&g, CONSOLE_UNIX, path, &e);
	console_start(c);
	say_much(c);
	say(c, "last");
	int fd = dial(path);
	char window[5] = "";
	while (strcmp(window, "last")) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		memmove(window, window + 1, 3);
		assert_int_equal(read(fd, window + 3, 1), 1);
	}
	close(fd);
	console_destroy(c);
}

static void socket_path_taken(void **state)
{
	struct guest g, g2;
	struct error e;
	char text[300];
	const char *path = in_directory("taken");
	FILE *f = fopen(path, "w");
	fclose(f);
	assert_null(open_console(&g, CONSOLE_UNIX, path, &e));
	assert_int_equal(e.status, STATUS_FILE);
	snprintf(text, sizeof text, "--serial unix:%s: a file of that name exists and is no socket; choose another path or remove it.", path);
	assert_string_equal(e.text, text);
	assert_int_equal(unlink(path), 0);

	struct console *c = open_console(&g, CONSOLE_UNIX, path, &e);
	assert_non_null(c);
	assert_null(open_console(&g2, CONSOLE_UNIX, path, &e));
	snprintf(text, sizeof text, "--serial unix:%s: somebody is listening there already; choose another path or end the other program.", path);
	assert_string_equal(e.text, text);
	console_destroy(c);

	/* A socket that a dead process left behind. */
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
	c = open_console(&g, CONSOLE_UNIX, path, &e);
	assert_non_null(c);
	console_destroy(c);
}

/* In a child: stdio is what the test made it. */
typedef int child_body(struct guest *g, struct console *c);

static int run_child(child_body *body)
{
	struct guest g;
	struct error e;
	signal(SIGPIPE, SIG_IGN);
	alarm(WAIT_MS * 4 / 1000);
	struct console *c = open_console(&g, CONSOLE_STDIO, NULL, &e);
	console_start(c);
	int status = body(&g, c);
	console_destroy(c);
	return status;
}

static int child_status(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int body_writes_much(struct guest *g, struct console *c)
{
	say_much(c);
	while (!console_drain(c, 10))
		;
	return 0;
}

static pid_t spawn_with_pipes(child_body *body, int in, int *out)
{
	int pair[2];
	assert_int_equal(pipe(pair), 0);
	pid_t pid = fork();
	if (!pid) {
		if (in >= 0)
			dup2(in, STDIN_FILENO);
		else
			close(STDIN_FILENO);
		dup2(pair[1], STDOUT_FILENO);
		close(pair[0]);
		close(pair[1]);
		_exit(run_child(body));
	}
	close(pair[1]);
	*out = pair[0];
	return pid;
}

static void slow_pipe_loses_nothing(void **state)
{
	int out;
	uint8_t bytes[997];
	unsigned at = 0;
	ssize_t n;
	pid_t pid = spawn_with_pipes(body_writes_much, -1, &out);
	usleep(100000);
	while ((n = read(out, bytes, sizeof bytes)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], pattern(at++));
		if (at < MUCH / 10)
			usleep(STEP_US);
	}
	assert_int_equal(at, MUCH);
	assert_int_equal(child_status(pid), 0);
	close(out);
}

static void broken_pipe_is_no_end(void **state)
{
	int out;
	pid_t pid = spawn_with_pipes(body_writes_much, -1, &out);
	close(out);
	assert_int_equal(child_status(pid), 0);
}

static int body_stuck(struct guest *g, struct console *c)
{
	static const uint8_t zeroes[256];
	/* Nobody reads: fill pipe and queue, then leave. */
	for (unsigned n = 0; n < 256; n++) {
		if (n == 128)
			console_leave(c);
		if (n < 128 && !console_drain(c, 50))
			n = 127;	/* the pipe is full */
		console_write(c, zeroes, sizeof zeroes);
	}
	for (unsigned n = 0; n < 1024; n++)
		console_write(c, zeroes, sizeof zeroes);
	return 0;
}

static void leaving_frees_a_stuck_writer(void **state)
{
	int out;
	pid_t pid = spawn_with_pipes(body_stuck, -1, &out);
	assert_int_equal(child_status(pid), 0);
	close(out);
}

static int body_reads_pipe(struct guest *g, struct console *c)
{
	return got(g, "typed\001xmore") && !g->left ? 0 : 1;
}

static void piped_input_ends_without_harm(void **state)
{
	int in[2], out;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(write(in[1], "typed\001xmore", 11), 11);
	close(in[1]);
	pid_t pid = spawn_with_pipes(body_reads_pipe, in[0], &out);
	close(in[0]);
	assert_int_equal(child_status(pid), 0);
	close(out);
}

/* On a terminal. */

static pid_t spawn_on_terminal(child_body *body, int *master, struct termios *before)
{
	int slave;
	assert_int_equal(openpty(master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(slave, before), 0);
	pid_t pid = fork();
	if (!pid) {
		close(*master);
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		dup2(slave, STDIN_FILENO);
		dup2(slave, STDOUT_FILENO);
		_exit(run_child(body));
	}
	/* The slave stays open here, so that its settings outlive the child. */
	*master |= slave << 16;
	return pid;
}

static bool is_raw(int fd)
{
	struct termios t;
	return !tcgetattr(fd, &t) && !(t.c_lflag & (ECHO | ICANON | ISIG));
}

static void wait_until_raw(int fd)
{
	for (unsigned us = 0; us < WAIT_MS * 1000 && !is_raw(fd); us += STEP_US)
		usleep(STEP_US);
	assert_true(is_raw(fd));
}

static void assert_same_terminal(int fd, const struct termios *before)
{
	struct termios t;
	assert_int_equal(tcgetattr(fd, &t), 0);
	assert_int_equal(t.c_lflag, before->c_lflag);
	assert_int_equal(t.c_iflag, before->c_iflag);
	assert_int_equal(t.c_oflag, before->c_oflag);
}

static int body_terminal(struct guest *g, struct console *c)
{
	say(c, "ready\n");
	for (unsigned us = 0; us < WAIT_MS * 1000 && !g->left; us += STEP_US)
		usleep(STEP_US);
	return g->left && got(g, "a\003\001b\001c") ? 0 : 1;
}

static void terminal_keys(void **state)
{
	static const char keys[] = "a\003\001\001b\001c\001x";
	int both;
	struct termios before;
	pid_t pid = spawn_on_terminal(body_terminal, &both, &before);
	int master = both & 0xffff, slave = both >> 16;
	expect(master, "ready\n");
	assert_true(is_raw(slave));
	assert_int_equal(write(master, keys, sizeof keys - 1), sizeof keys - 1);
	assert_int_equal(child_status(pid), 0);
	assert_same_terminal(slave, &before);
	close(master);
	close(slave);
}

static int body_deaf(struct guest *g, struct console *c)
{
	g->refuse = true;
	/* The terminal is full before this ends; a processor would hang here. */
	while (!g->left) {
		say(c, "y");
		if (!console_drain(c, 50))
			break;
	}
	for (unsigned us = 0; us < WAIT_MS * 1000 && !g->left; us += STEP_US)
		usleep(STEP_US);
	return g->left ? 0 : 1;
}

/* The guest takes no input and nobody takes its output: Ctrl-A X still works. */
static void leave_works_when_all_is_stuck(void **state)
{
	int both;
	char keys[600];
	struct termios before;
	pid_t pid = spawn_on_terminal(body_deaf, &both, &before);
	int master = both & 0xffff, slave = both >> 16;
	wait_until_raw(slave);
	memset(keys, 'k', sizeof keys);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(write(master, keys, sizeof keys), sizeof keys);
		usleep(10 * STEP_US);
	}
	assert_int_equal(write(master, "\001X", 2), 2);
	assert_int_equal(child_status(pid), 0);
	assert_same_terminal(slave, &before);
	close(master);
	close(slave);
}

static int body_panics(struct guest *g, struct console *c)
{
	if (!is_raw(STDIN_FILENO))
		return 1;
	panic("a test's panic");
}

static void panic_restores(void **state)
{
	int both;
	struct termios before;
	pid_t pid = spawn_on_terminal(body_panics, &both, &before);
	assert_int_equal(child_status(pid), STATUS_FAULT);
	assert_same_terminal(both >> 16, &before);
	close(both & 0xffff);
	close(both >> 16);
}

static int body_stops(struct guest *g, struct console *c)
{
	console_restore_terminal();
	bool restored = !is_raw(STDIN_FILENO);
	console_resume_terminal(c);
	return restored && is_raw(STDIN_FILENO) ? 0 : 1;
}

static void restore_and_resume(void **state)
{
	int both;
	struct termios before;
	pid_t pid = spawn_on_terminal(body_stops, &both, &before);
	assert_int_equal(child_status(pid), 0);
	assert_same_terminal(both >> 16, &before);
	close(both & 0xffff);
	close(both >> 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(file_is_emptied_and_complete),
		cmocka_unit_test(file_that_cannot_be),
		cmocka_unit_test(none_takes_everything),
		cmocka_unit_test(socket_serves_one_after_the_other),
		cmocka_unit_test(socket_without_client_keeps_the_newest),
		cmocka_unit_test(socket_path_taken),
		cmocka_unit_test(slow_pipe_loses_nothing),
		cmocka_unit_test(broken_pipe_is_no_end),
		cmocka_unit_test(leaving_frees_a_stuck_writer),
		cmocka_unit_test(piped_input_ends_without_harm),
		cmocka_unit_test(terminal_keys),
		cmocka_unit_test(leave_works_when_all_is_stuck),
		cmocka_unit_test(panic_restores),
		cmocka_unit_test(restore_and_resume),
	};
	if (!mkdtemp(directory))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed;
}
