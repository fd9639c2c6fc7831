/* typist [OPTION]... SCRIPT
 *
 * Types a script at shells and consoles, each on a terminal of its own, waits for
 * the prompt after every line, shows what was typed and what came out, and says
 * whether that is what the script wants. A script is a transcript (fits.h says how
 * parts that vary are written):
 *
 *   # TITLE               what follows shows; one result each ("ok - TITLE")
 *   PS> TEXT              typed at the shell's prompt
 *   $ TEXT                typed at a Unix shell's prompt
 *   : open PLACE COMMAND  a new terminal with COMMAND; wait for its prompt
 *   : into PLACE TEXT     TEXT, typed here, leads to another machine's console
 *   : out                 leave that console again
 *   : ended               that console ends by itself: its machine is off
 *   : at PLACE            what follows is typed there
 *   : page EDITION N      type the Nth code block of EDITION.md, line by line
 *   : let NAME=VALUE      <NAME> is VALUE in every line from here on
 *   : wait SECONDS        how long a line may take from here on
 *   : until SECONDS       the next line is typed again until its output fits
 *   : show LINES          of every output so many lines are shown from here on
 *
 * Every other line is the output that is wanted of what stands before it; blank
 * lines around it do not count, and several are one. A line that never gets its prompt back fails, and
 * so does everything later at that place.
 *
 * Options:
 *   --pages FOLDER     where the editions are
 *   --let NAME=VALUE   as in a script
 *   --tests            print results as tests do, and go on after a failure
 *   --log FILE         everything that came, by place, as it came
 *   --caught FILE      NAME=VALUE of what the script's {NAME=kind} stood for
 *
 * Exit status: 0 when all was as wanted. */
#include "fits.h"
#include "screen.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PLACES = 8,
	DEPTH = 4,		/* consoles within consoles */
	NAME_ROOM = 24,
	PATIENCE_S = 60,
	ECHO_MS = 5000,		/* for a typed line to show */
	NUDGE_MS = 3000,	/* silence of a console after which Enter is pressed */
	AGAIN_MS = 500,		/* between two tries of "until" */
	CLOCK_MS = 1000,
	COLUMNS = 1000,		/* wide: nothing is wrapped or cut */
	STATUS_USAGE = 64,
	LEAVE_KEY = 0x1d, SEND_KEY = 0x16,	/* Ctrl-], Ctrl-V */
};

struct place {
	int fd;
	pid_t pid;
	bool dead;
	unsigned depth;
	char names[DEPTH][NAME_ROOM];
	struct text raw;	/* since the last line was typed */
};

struct variable {
	char *name, *value;
	struct variable *next;
};

static struct place places[PLACES], *here;
static unsigned place_count;
static struct variable *variables;
static const char *pages = ".", *script_name;
static bool tests, terminal;
static FILE *record, *caught_file;
static unsigned patience_s = PATIENCE_S, shown_lines = UINT_MAX, line_number;
static struct {
	char *title;
	bool good;
	unsigned count;
} result;
static unsigned failures;

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void __attribute__((noreturn, format(printf, 1, 2))) script_error(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fprintf(stderr, "typist: %s:%u: ", script_name, line_number);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
	exit(STATUS_USAGE);
}

/* Variables. */

static void let(const char *name, size_t name_size, const char *value, size_t size)
{
	struct variable *v = text_alloc(calloc(1, sizeof(*v)));
	v->name = text_alloc(strndup(name, name_size));
	v->value = text_alloc(strndup(value, size));
	v->next = variables;
	variables = v;
}

static void let_assignment(const char *s)
{
	const char *equals = strchr(s, '=');
	if (!equals)
		script_error("\"%s\" is not NAME=VALUE", s);
	let(s, (size_t)(equals - s), equals + 1, strlen(equals + 1));
}

static void caught(void *owner, const char *name, size_t name_size, const char *text, size_t size)
{
	(void)owner;
	let(name, name_size, text, size);
	if (caught_file)
		fprintf(caught_file, "%.*s=%.*s\n", (int)name_size, name, (int)size, text);
}

/* With the value of every <NAME> that has one; the caller's. */
static char *filled_in(const char *s)
{
	struct text t = { 0 };
	text_add(&t, "", 0);
	while (*s) {
		const char *close = *s == '<' ? strchr(s, '>') : NULL;
		const struct variable *v = close ? variables : NULL;
		while (v && (strlen(v->name) != (size_t)(close - s - 1) || strncmp(v->name, s + 1, strlen(v->name))))
			v = v->next;
		if (v) {
			text_add(&t, v->value, strlen(v->value));
			s = close + 1;
		} else {
			text_add(&t, s++, 1);
		}
	}
	return t.data;
}

/* Places. */

static const char *place_name(const struct place *p)
{
	return p->names[p->depth - 1];
}

static void read_place(struct place *p)
{
	char bytes[4096];
	ssize_t n = read(p->fd, bytes, sizeof(bytes));
	if (n <= 0) {
		p->dead = true;
		return;
	}
	text_add(&p->raw, bytes, (size_t)n);
	if (record) {
		fprintf(record, "\n[%s] ", place_name(p));
		fwrite(bytes, 1, (size_t)n, record);
		fflush(record);
	}
}

static void send_keys(struct place *p, const char *keys, size_t n)
{
	while (n && !p->dead) {
		ssize_t w = write(p->fd, keys, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			p->dead = true;
			return;
		}
		keys += w;
		n -= (size_t)w;
	}
}

/* Read until what is shown is as wanted, for at most this long; true: it is. With
 * `nudges`, Enter is pressed whenever the place has said nothing for long: a
 * console shows its prompt once, and somebody may have seen it already. */
static bool wait_for(struct place *p, bool (*wanted)(const struct text *), double ms, unsigned *nudges)
{
	double begin = now_ms(), last = begin, clock = begin + CLOCK_MS;
	bool there = false, ticked = false;
	for (;;) {
		struct text t = screen_show(p->raw.data ? p->raw.data : "", p->raw.size);
		there = wanted(&t);
		free(t.data);
		double now = now_ms();
		if (there || p->dead || now - begin >= ms)
			break;
		struct pollfd f = { p->fd, POLLIN, 0 };
		if (poll(&f, 1, CLOCK_MS / 10) > 0) {
			read_place(p);
			last = now_ms();
		} else if (nudges && now - last >= NUDGE_MS) {
			send_keys(p, "\r", 1);
			++*nudges;
			last = now;
		}
		if (terminal && now >= clock) {
			printf("\r   . %d s", (int)((now - begin) / 1000));
			fflush(stdout);
			clock += CLOCK_MS;
			ticked = true;
		}
	}
	if (ticked)
		fputs("\r\033[K", stdout);
	return there;
}

/* The first lines of an output, without blank ones. */
static void show(const char *output)
{
	unsigned n = 0, length;
	for (; *output; output += length + (output[length] == '\n')) {
		length = (unsigned)strcspn(output, "\n");
		if (strspn(output, " \t") < length && n++ < shown_lines)
			printf("%.*s\n", (int)length, output);
	}
	if (shown_lines && n > shown_lines)
		printf("   … %u more\n", n - shown_lines);
	fflush(stdout);
}

static void finish_case(void)
{
	if (result.title && result.count) {
		failures += !result.good;
		if (tests)
			printf("%sok - %s\n", result.good ? "" : "not ", result.title);
	}
	free(result.title);
	result.title = NULL;
	result.good = true;
	result.count = 0;
}

static void judge(bool good)
{
	result.count++;
	result.good = result.good && good;
	if (!good && !tests) {
		fprintf(stderr, "typist: %s:%u: this is not what was wanted.\n", script_name, line_number);
		exit(1);
	}
}

static const int terminal_signals[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGHUP, SIGTERM, SIGPIPE };
static void open_place(const char *name, const char *command)
{
	struct winsize size = { .ws_row = 50, .ws_col = COLUMNS };
	struct place *p = &places[place_count++];
	if (place_count > PLACES)
		script_error("too many places");
	snprintf(p->names[0], NAME_ROOM, "%s", name);
	p->depth = 1;
	fflush(NULL);
	if ((p->pid = forkpty(&p->fd, NULL, NULL, &size)) < 0)
		script_error("no terminal: %s", strerror(errno));
	if (!p->pid) {
		/* As a terminal gives them to a program. */
		for (unsigned i = 0; i < sizeof(terminal_signals) / sizeof(*terminal_signals); i++)
			signal(terminal_signals[i], SIG_DFL);
		setenv("TERM", "dumb", 1);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	fcntl(p->fd, F_SETFD, FD_CLOEXEC);	/* or the next place's process would keep it */
	here = p;
	if (!wait_for(p, screen_has_prompt, patience_s * 1e3, NULL)) {
		printf("%s: no prompt came from %s\n", name, command);
		p->dead = true;
		judge(false);
	}
}

static struct place *find_place(const char *name)
{
	for (unsigned i = 0; i < place_count; i++)
		if (!strcmp(place_name(&places[i]), name))
			return &places[i];
	script_error("nothing is open at \"%s\"", name);
}

/* Does what is shown end with what was typed? A line editor may have wrapped it. */
static const char *awaited_echo;
static bool has_echo(const struct text *t)
{
	const char *a = t->data + t->size, *b = awaited_echo + strlen(awaited_echo);
	while (b > awaited_echo) {
		if (strchr(" \t", b[-1])) {
			b--;
			continue;
		}
		while (a > t->data && strchr(" \t\n", a[-1]))
			a--;
		if (a == t->data || *--a != *--b)
			return false;
	}
	return true;
}

/* Without the end of the typed line, and what shows a second time because it was
 * typed before the line editor was ready. */
static const char *after_echo(const char *from, const char *end, const char *line)
{
	size_t n = strlen(line), blank = strspn(from, " ");
	if (from + blank < end && from[blank] == '\n')
		from += blank + 1;
	if (n && !strncmp(from, line, n) && from[n] == '\n')
		from += n + 1;
	return from;
}

/* Type a line; what came out is added to `output`. False: no prompt came. */
static bool type_line(const char *line, struct text *output, unsigned *nudges)
{
	here->raw.size = 0;
	if (here->dead) {
		text_add(output, "(nobody is there)\n", 18);
		return false;
	}
	awaited_echo = line;
	send_keys(here, line, strlen(line));
	if (*line)
		wait_for(here, has_echo, ECHO_MS, NULL);
	here->raw.size = 0;
	send_keys(here, "\r", 1);
	bool good = wait_for(here, screen_has_prompt, patience_s * 1e3, nudges);
	struct text t = screen_show(here->raw.data ? here->raw.data : "", here->raw.size);
	const char *end = good ? screen_last_line(&t) : t.data + t.size, *from = after_echo(t.data, end, line);
	text_add(output, from, (size_t)(end - from));
	if (output->size && output->data[output->size - 1] != '\n')
		text_add(output, "\n", 1);
	free(t.data);
	here->dead = here->dead || !good;
	return good;
}

static void say_typed(const char *mark, const char *line)
{
	printf("%s %s%s%s\n", place_name(here), mark, *line ? " " : "", line);
	fflush(stdout);
}

/* Without blank lines at either end, and with one where there are several. */
static void trim(struct text *t)
{
	size_t to = 0;
	text_add(t, "", 0);
	for (size_t i = 0; i < t->size; i++)
		if (t->data[i] != '\n' || (to && (t->data[to - 1] != '\n' || (to > 1 && t->data[to - 2] != '\n'))))
			t->data[to++] = t->data[i];
	while (to > 1 && t->data[to - 1] == '\n' && t->data[to - 2] == '\n')
		to--;
	t->size = to;
	t->data[to] = 0;
}

static bool compare(const char *wanted, struct text *got)
{
	const struct fits f = { .caught = caught };
	trim(got);
	return fits_text(&f, wanted, got->data);
}

/* Type lines one after the other and compare all that came out, again and again
 * until it fits or the time is over. */
static void run_lines(const char *mark, char **lines, size_t count, const char *wanted, unsigned until_s)
{
	double end = now_ms() + until_s * 1e3;
	char *w = filled_in(wanted);
	struct text got = { 0 };
	bool good, fits, first = true;
	do {
		got.size = 0;
		good = true;
		for (size_t i = 0; i < count && good; i++) {
			size_t from = got.size;
			if (first)
				say_typed(mark, lines[i]);
			good = type_line(lines[i], &got, NULL);
			if (!until_s)
				show(got.data + from);
		}
		first = false;
		fits = compare(w, &got) && good;
		if (!fits && good && until_s)
			usleep(AGAIN_MS * 1000);
	} while (!fits && good && now_ms() < end);
	if (until_s)
		show(got.data);
	if (!good)
		printf("(no prompt came from %s)\n", place_name(here));
	if (!fits)
		printf("%s:%u: wanted:\n%sgot:\n%s", script_name, line_number, *w ? w : "(nothing)\n", got.data);
	fflush(stdout);
	judge(fits);
	free(got.data);
	free(w);
}

/* Either shell answers this line with these words, and its echo has a quote there. */
static const char sync_line[] = "'in step'", sync_answer[] = "in step";
static bool is_in_step(const struct text *t)
{
	const char *s = t->data;
	while ((s = strstr(s, sync_answer)) && s[sizeof(sync_answer) - 1] == '\'')
		s++;
	return s && screen_has_prompt(t);
}

static void go_into(const char *name, const char *line)
{
	struct text got = { 0 };
	unsigned nudges = 0;
	if (here->depth == DEPTH)
		script_error("too many consoles within consoles");
	say_typed("PS>", line);
	bool good = type_line(line, &got, &nudges);
	snprintf(here->names[here->depth++], NAME_ROOM, "%s", name);
	if (good && nudges) {
		/* Each Enter has a prompt of its own, which may be still to come. */
		here->raw.size = 0;
		send_keys(here, sync_line, sizeof(sync_line) - 1);
		send_keys(here, "\r", 1);
		good = wait_for(here, is_in_step, patience_s * 1e3, NULL);
		here->dead = !good;
	}
	if (!good)
		show(got.data);
	judge(good);
	free(got.data);
}

/* Each console on the way but the last is told to send the key on. */
static void go_out(bool ended)
{
	if (here->depth < 2)
		script_error("this place is nobody's guest");
	if (ended) {
		here->depth--;
		judge(wait_for(here, screen_has_prompt, patience_s * 1e3, NULL));
		return;
	}
	say_typed("Ctrl-]", "");
	here->raw.size = 0;
	here->depth--;
	for (unsigned i = 1; i < here->depth; i++)
		send_keys(here, &(char){ SEND_KEY }, 1);
	send_keys(here, &(char){ LEAVE_KEY }, 1);
	judge(wait_for(here, screen_has_prompt, patience_s * 1e3, NULL));
}

/* Scripts. */

static struct text read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct text t = { 0 };
	char bytes[4096];
	size_t n;
	text_add(&t, "", 0);
	if (!f)
		script_error("%s: %s", path, strerror(errno));
	while ((n = fread(bytes, 1, sizeof(bytes), f)) > 0)
		text_add(&t, bytes, n);
	fclose(f);
	return t;
}

/* The lines of the block between the Nth pair of fences, filled in. */
static size_t page_block(const char *edition, unsigned wanted, char ***lines)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s.md", pages, edition);
	struct text t = read_file(path);
	unsigned fences = 0;
	size_t count = 0;
	*lines = NULL;
	for (char *s = t.data, *end; (end = strchr(s, '\n')); s = end + 1) {
		*end = 0;
		if (!strncmp(s, "```", 3)) {
			fences++;
		} else if (fences == 2 * wanted - 1) {
			*lines = text_alloc(realloc(*lines, (count + 1) * sizeof(**lines)));
			(*lines)[count++] = filled_in(s);
		}
	}
	free(t.data);
	if (!count)
		script_error("%s has no block %u", path, wanted);
	return count;
}

static bool is_mark(const char *line)
{
	return !strncmp(line, "PS> ", 4) || !strncmp(line, "$ ", 2) || !strncmp(line, "# ", 2) ||
		!strncmp(line, ": ", 2);
}

/* A directive that types nothing that has output; false: it is another. */
static bool setting(const char *word, char *rest, unsigned *until_s)
{
	if (!strcmp(word, "at"))
		here = find_place(rest);
	else if (!strcmp(word, "out"))
		go_out(false);
	else if (!strcmp(word, "ended"))
		go_out(true);
	else if (!strcmp(word, "let"))
		let_assignment(rest);
	else if (!strcmp(word, "wait"))
		patience_s = (unsigned)atoi(rest);
	else if (!strcmp(word, "show"))
		shown_lines = (unsigned)atoi(rest);
	else if (!strcmp(word, "until"))
		*until_s = (unsigned)atoi(rest);
	else
		return false;
	return true;
}

static void directive(char *line, const char *wanted, unsigned *until_s)
{
	char *save, *filled = filled_in(line), *word = strtok_r(filled, " ", &save), *rest = strtok_r(NULL, "", &save);
	if (!word)
		script_error("a directive is missing");
	rest = rest ? rest : save;
	if (!setting(word, rest, until_s)) {
		char *name = strtok_r(rest, " ", &save), *more = strtok_r(NULL, "", &save);
		if (!name || !more)
			script_error("\"%s\" is no directive, or not a whole one", line);
		if (!strcmp(word, "open")) {
			open_place(name, more);
		} else if (!strcmp(word, "into")) {
			go_into(name, more);
		} else if (!strcmp(word, "page")) {
			char **lines;
			size_t count = page_block(name, (unsigned)atoi(more), &lines);
			run_lines("PS>", lines, count, wanted, *until_s);
			for (size_t i = 0; i < count; i++)
				free(lines[i]);
			free(lines);
			*until_s = 0;
		} else {
			script_error("there is no directive \"%s\"", word);
		}
	}
	free(filled);
}

static void run_script(char **lines, size_t count)
{
	unsigned until_s = 0;
	for (size_t i = 0; i < count;) {
		char *line = lines[i];
		struct text wanted = { 0 };
		line_number = (unsigned)++i;
		for (; i < count && !is_mark(lines[i]); i++) {
			text_add(&wanted, lines[i], strlen(lines[i]));
			text_add(&wanted, "\n", 1);
		}
		trim(&wanted);
		if (!strncmp(line, "# ", 2)) {
			finish_case();
			result.title = filled_in(line + 2);
			printf("%s%s\n", tests ? "# " : "\n== ", result.title);
		} else if (!strncmp(line, ": ", 2)) {
			directive(line + 2, wanted.data, &until_s);
		} else if (is_mark(line)) {
			char *text = filled_in(strchr(line, ' ') + 1);
			if (!here)
				script_error("nothing is open yet");
			run_lines(*line == '$' ? "$" : "PS>", &text, 1, wanted.data, until_s);
			until_s = 0;
			free(text);
		}
		free(wanted.data);
	}
	finish_case();
}

static void close_places(void)
{
	for (unsigned i = 0; i < place_count; i++)
		close(places[i].fd);	/* hangs the terminal up */
	for (unsigned i = 0; i < place_count; i++)
		while (waitpid(places[i].pid, NULL, 0) < 0 && errno == EINTR)
			;
}

static void usage(void)
{
	fputs("usage: typist [--pages FOLDER] [--let NAME=VALUE]... [--tests] [--log FILE] [--caught FILE] SCRIPT\n", stderr);
	exit(STATUS_USAGE);
}

int main(int argc, char **argv)
{
	int at = 1;
	for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
		bool more = at + 1 < argc;
		if (!strcmp(argv[at], "--tests"))
			tests = true;
		else if (!strcmp(argv[at], "--pages") && more)
			pages = argv[++at];
		else if (!strcmp(argv[at], "--let") && more)
			let_assignment(argv[++at]);
		else if (!strcmp(argv[at], "--log") && more)
			record = fopen(argv[++at], "w");
		else if (!strcmp(argv[at], "--caught") && more)
			caught_file = fopen(argv[++at], "w");
		else
			usage();
	}
	if (at + 1 != argc)
		usage();
	script_name = argv[at];
	terminal = isatty(STDOUT_FILENO);
	signal(SIGPIPE, SIG_IGN);
	struct text t = read_file(script_name);
	char **lines = text_alloc(calloc(t.size + 1, sizeof(*lines)));
	size_t count = 0;
	for (char *s = t.data, *end; (end = strchr(s, '\n')); s = end + 1) {
		*end = 0;
		lines[count++] = s;
	}
	result.good = true;
	run_script(lines, count);
	close_places();
	free(lines);
	free(t.data);
	return failures || !result.good;
}
