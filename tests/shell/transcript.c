/* Runs a transcript: what is typed, and exactly what must come out, but for the
 * parts that vary, which are written as fits.h says.
 *
 *   PS> text      a statement for the shell; `>> ` lines go on
 *   $ words       a cmdlet as a Unix shell would split it ($true unquoted is lost)
 *   : calls       from here on, calls of the service are shown as "-> Method {...}"
 *   : width N     the terminal's columns; 0: none
 *   : new         a new shell
 *   # …           a remark, before the first statement
 * Everything else is the output of what stands before it. With -u the file is
 * written anew with what came out, where that does not fit.
 *
 * Calls are answered from a file of canned answers, or with -s by a real service,
 * which is started when none runs. */
#include "fake_service.h"
#include "fits.h"

#include "shell/client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wordexp.h>

struct transcript {
	struct shell_service service;
	struct fake_service fake;
	struct shell *shell;
	FILE *out;
	char *output;
	size_t size;
	bool calls;
	unsigned width;
	struct text result;	/* the transcript as it came out */
};

static void start(struct transcript *t)
{
	if (t->shell)
		shell_destroy(t->shell);
	t->shell = shell_create(t->service, t->out, t->out);
	t->shell->width = t->width;
}

static void run_words(struct transcript *t, const char *line)
{
	wordexp_t w;
	if (wordexp(line, &w, WRDE_NOCMD)) {
		fprintf(t->out, "transcript: the words cannot be split\n");
		return;
	}
	t->shell->from_unix = true;
	shell_run_words(t->shell, (int)w.we_wordc, w.we_wordv);
	t->shell->from_unix = false;
	wordfree(&w);
}

static void directive(struct transcript *t, const char *line)
{
	if (!strcmp(line, "calls"))
		t->fake.log = t->out;
	else if (!strncmp(line, "width ", 6))
		t->shell->width = t->width = (unsigned)atoi(line + 6);
	else if (!strcmp(line, "new"))
		start(t);
	else
		fprintf(t->out, "transcript: there is no directive \"%s\"\n", line);
}

static bool is_mark(const char *line)
{
	return !strncmp(line, "PS> ", 4) || !strncmp(line, "$ ", 2) || !strncmp(line, "# ", 2) ||
		!strncmp(line, ": ", 2);
}

/* What came out; or what was wanted, where it fits. */
static void take_output(struct transcript *t, char **lines, size_t count)
{
	static const struct fits nobody;
	struct text wanted = { 0 }, got = { 0 };
	fflush(t->out);
	text_add_bytes(&got, t->output, t->size);
	if (got.size && got.data[got.size - 1] != '\n')
		text_add(&got, "\n");
	text_add(&wanted, "");
	for (size_t i = 0; i < count && !is_mark(lines[i]); i++)
		text_addf(&wanted, "%s\n", lines[i]);
	text_add(&t->result, fits_text(&nobody, wanted.data, got.data) ? wanted.data : got.data);
	free(wanted.data);
	free(got.data);
	rewind(t->out);
}

static void run_lines(struct transcript *t, char **lines, size_t count)
{
	struct text statement = { 0 };
	for (size_t i = 0; i < count; i++) {
		const char *line = lines[i];
		if (!is_mark(line))
			continue;	/* output */
		text_addf(&t->result, "%s\n", line);
		if (*line == ':')
			directive(t, line + 2);
		if (*line == '$')
			run_words(t, line + 2);
		if (*line == 'P') {
			text_add(&statement, line + 4);
			for (; i + 1 < count && !strncmp(lines[i + 1], ">> ", 3); i++) {
				text_addf(&t->result, "%s\n", lines[i + 1]);
				text_addf(&statement, "\n%s", lines[i + 1] + 3);
			}
			shell_run_text(t->shell, statement.data, statement.size, NULL);
			statement.size = 0;
			t->shell->leaving = false;
		}
		take_output(t, lines + i + 1, count - i - 1);
	}
	free(statement.data);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct text t = { 0 };
	char buffer[4096];
	size_t n;
	if (!f) {
		perror(path);
		exit(1);
	}
	while ((n = fread(buffer, 1, sizeof(buffer), f)) > 0)
		text_add_bytes(&t, buffer, n);
	fclose(f);
	return text_take(&t);
}

static int compare(const char *path, const char *wanted, const char *got)
{
	unsigned line = 1;
	if (!strcmp(wanted, got))
		return 0;
	while (*wanted && *wanted == *got) {
		line += *wanted == '\n';
		wanted++;
		got++;
	}
	printf("%s:%u: wanted \"%.*s\", got \"%.*s\"\nWhat came out from there:\n%s", path, line,
	       (int)strcspn(wanted, "\n"), wanted, (int)strcspn(got, "\n"), got, got);
	return 1;
}

/* A file's transcript; 0: all that came out fits. */
static int run_file(const char *path, struct transcript *t, bool update)
{
	char *text = read_file(path), *copy = strdup(text);
	size_t count = 0;
	int failed;
	char **lines = calloc(strlen(text) + 1, sizeof(*lines));
	for (char *s = copy, *end; (end = strchr(s, '\n')); s = end + 1) {
		*end = 0;
		lines[count++] = s;
	}
	t->out = open_memstream(&t->output, &t->size);
	start(t);
	run_lines(t, lines, count);
	shell_destroy(t->shell);
	fclose(t->out);
	char *result = text_take(&t->result);
	if (update) {
		FILE *f = fopen(path, "w");
		failed = !f || fputs(result, f) < 0 || fclose(f);
	} else {
		failed = compare(path, text, result);
	}
	free(result);
	free(t->output);
	free(lines);
	free(copy);
	free(text);
	return failed;
}

int main(int argc, char **argv)
{
	bool update = argc > 1 && !strcmp(argv[1], "-u");
	int at = 1 + update, failures = 0;
	json_error_t e;
	if (argc < 3 + update) {
		fprintf(stderr, "usage: transcript [-u] ANSWERS|-s TRANSCRIPT...\n");
		return 64;
	}
	bool real = !strcmp(argv[at], "-s");
	struct client *client = real ? client_create() : NULL;
	json_t *answers = real ? NULL : json_load_file(argv[at], 0, &e);
	if (!real && !answers) {
		fprintf(stderr, "%s:%d: %s\n", argv[at], e.line, e.text);
		return 1;
	}
	while (++at < argc) {
		struct transcript t = { .fake = { .answers = answers } };
		t.service = real ? client_service(client) : fake_service(&t.fake);
		failures += run_file(argv[at], &t, update);
	}
	if (client)
		client_destroy(client);
	json_decref(answers);
	return failures != 0;
}
