/* consoles [--log FILE] [--level WORD] [--timeout SECONDS] [--quiet] -- COMMAND...
 *
 * Run a command that shows guests' consoles and put the level before each line:
 * what COMMAND writes on standard output is WORD's (default L1), unless the line
 * already begins with a level of its own ("L2 | "); what it writes on standard
 * error is Nestor's, L0. The log gets every line with the seconds since the
 * start before it. When nothing comes for two seconds, the time runs on the
 * terminal. Exit status: the command's; 124 when it had to be ended. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_ROOM = 4096,
	QUIET_MS = 2000,	/* silence after which the time is shown */
	PLAIN_EVERY_S = 10,	/* how often when no terminal shows it */
	STATUS_TIMEOUT = 124,
	STATUS_USAGE = 64,
	GRACE_S = 3,
};

struct stream {
	int fd;
	const char *level;
	char line[LINE_ROOM];
	size_t used;
};

static struct timespec began;
static FILE *record;
static bool quiet, terminal, clock_shown;
static pid_t child;

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;
}

static void hide_clock(void)
{
	if (clock_shown)
		fputs("\r\033[K", stdout);
	clock_shown = false;
}

static void show_clock(void)
{
	static int last;
	int now = (int)seconds();
	if (quiet)
		return;
	if (terminal) {
		printf("\r   . %d s", now);
		clock_shown = true;
	} else if (now >= last + PLAIN_EVERY_S) {
		printf("   . %d s\n", now);
		last = now;
	}
	fflush(stdout);
}

/* "L2 | text": a line that an inner level's consoles have marked. */
static bool has_level(const char *line)
{
	return line[0] == 'L' && line[1] >= '0' && line[1] <= '9' && !strncmp(line + 2, " | ", 3);
}

static void finish_line(struct stream *s)
{
	s->line[s->used] = 0;
	bool marked = has_level(s->line);
	if (record) {
		fprintf(record, "%.3f\t%s%s%s\n", seconds(), marked ? "" : s->level,
			marked ? "" : " | ", s->line);
		fflush(record);
	}
	if (!quiet) {
		hide_clock();
		printf("%s%s%s\n", marked ? "" : s->level, marked ? "" : " | ", s->line);
		fflush(stdout);
	}
	s->used = 0;
}

/* Control characters would move the reader's cursor; a tab may stay. */
static void take(struct stream *s, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];
		if (c == '\n' || s->used == LINE_ROOM - 1)
			finish_line(s);
		if (c == '\t' || (unsigned char)c >= ' ')
			s->line[s->used++] = c == 127 ? '?' : c;
	}
}

static void on_signal(int number)
{
	if (child > 0)
		kill(child, number);
}

static void usage(void)
{
	fputs("usage: consoles [--log FILE] [--level WORD] [--timeout SECONDS] [--quiet] -- COMMAND...\n",
	      stderr);
	exit(STATUS_USAGE);
}

static void start(char **command, struct stream *out, struct stream *err)
{
	int o[2], e[2];
	if (pipe(o) || pipe(e) || (child = fork()) < 0) {
		fprintf(stderr, "consoles: %s\n", strerror(errno));
		exit(1);
	}
	if (!child) {
		dup2(o[1], STDOUT_FILENO);
		dup2(e[1], STDERR_FILENO);
		for (int i = 0; i < 2; i++) {
			close(o[i]);
			close(e[i]);
		}
		execvp(command[0], command);
		fprintf(stderr, "consoles: %s: %s\n", command[0], strerror(errno));
		_exit(127);
	}
	close(o[1]);
	close(e[1]);
	out->fd = o[0];
	err->fd = e[0];
}

/* Until both ends are closed or the time is over; true: over. */
static bool follow(struct stream *s, double timeout)
{
	struct pollfd p[2] = { { s[0].fd, POLLIN, 0 }, { s[1].fd, POLLIN, 0 } };
	char bytes[LINE_ROOM];
	double last = 0;
	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (timeout > 0 && seconds() > timeout)
			return true;
		int ready = poll(p, 2, QUIET_MS / 2);
		if (ready <= 0 && (seconds() - last) * 1000 >= QUIET_MS)
			show_clock();
		for (int i = 0; ready > 0 && i < 2; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, bytes, sizeof bytes);
			if (n > 0)
				take(&s[i], bytes, (size_t)n);
			else
				p[i].fd = -1;
			last = seconds();
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	static struct stream s[2] = { { .level = "L1" }, { .level = "L0" } };
	double timeout = 0;
	int at = 1, status;
	for (; at < argc && strcmp(argv[at], "--"); at++) {
		bool more = at + 1 < argc;
		if (!strcmp(argv[at], "--quiet"))
			quiet = true;
		else if (!strcmp(argv[at], "--log") && more)
			record = fopen(argv[++at], "w");
		else if (!strcmp(argv[at], "--level") && more)
			s[0].level = argv[++at];
		else if (!strcmp(argv[at], "--timeout") && more)
			timeout = atof(argv[++at]);
		else
			usage();
	}
	if (at + 1 >= argc)
		usage();
	terminal = isatty(STDOUT_FILENO);
	clock_gettime(CLOCK_MONOTONIC, &began);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	start(argv + at + 1, &s[0], &s[1]);
	bool over = follow(s, timeout);
	for (int i = 0; i < 2; i++)
		if (s[i].used)
			finish_line(&s[i]);
	hide_clock();
	if (over) {
		fprintf(stderr, "consoles: ended after %.0f s: %s\n", timeout, argv[at + 1]);
		kill(child, SIGTERM);
		for (int i = 0; i < GRACE_S * 10 && !waitpid(child, &status, WNOHANG); i++)
			usleep(100000);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		return STATUS_TIMEOUT;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
