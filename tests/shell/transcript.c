/* Runs a transcript: what is typed, and exactly what must come out.
 *
 *   PS> text      a statement for the shell; `>> ` lines go on
 *   $ words       a cmdlet as a Unix shell would split it ($true unquoted is lost)
 *   : calls       from here on, calls of the service are shown as "-> Method {...}"
 *   : width N     the terminal's columns; 0: none
 *   : new         a new shell
 *   # …           a remark, before the first statement
 * Everything else is the output of what stands before it. With -u the file is
 * written anew with what came out. */
#include "fake_service.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wordexp.h>

struct transcript {
	struct fake_service service;
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
	t->shell = shell_create(fake_service(&t->service), t->out, t->out);
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
		t->service.log = t->out;
	else if (!strncmp(line, "width ", 6))
		t->shell->width = t->width = (unsigned)atoi(line + 6);
	else if (!strcmp(line, "new"))
		start(t);
	else
		fprintf(t->out, "transcript: there is no directive \"%s\"\n", line);
}

static void take_output(struct transcript *t)
{
	fflush(t->out);
	text_add_bytes(&t->result, t->output, t->size);
	if (t->size && t->output[t->size - 1] != '\n')
		text_add(&t->result, "\n");
	rewind(t->out);
}

static void run_lines(struct transcript *t, char **lines, size_t count)
{
	struct text statement = { 0 };
	for (size_t i = 0; i < count; i++) {
		const char *line = lines[i];
		bool typed = !strncmp(line, "PS> ", 4), words = !strncmp(line, "$ ", 2);
		bool remark = !strncmp(line, "# ", 2), order = !strncmp(line, ": ", 2);
		if (!typed && !words && !remark && !order)
			continue;	/* output, which is compared at the end */
		text_addf(&t->result, "%s\n", line);
		if (order)
			directive(t, line + 2);
		if (words)
			run_words(t, line + 2);
		if (typed) {
			text_add(&statement, line + 4);
			for (; i + 1 < count && !strncmp(lines[i + 1], ">> ", 3); i++) {
				text_addf(&t->result, "%s\n", lines[i + 1]);
				text_addf(&statement, "\n%s", lines[i + 1] + 3);
			}
			shell_run_text(t->shell, statement.data, statement.size, NULL);
			statement.size = 0;
			t->shell->leaving = false;
		}
		take_output(t);
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

int main(int argc, char **argv)
{
	bool update = argc > 1 && !strcmp(argv[1], "-u");
	int failures = 0;
	json_error_t e;
	if (argc < 3 + update) {
		fprintf(stderr, "usage: transcript [-u] ANSWERS TRANSCRIPT...\n");
		return 64;
	}
	json_t *answers = json_load_file(argv[1 + update], 0, &e);
	if (!answers) {
		fprintf(stderr, "%s:%d: %s\n", argv[1 + update], e.line, e.text);
		return 1;
	}
	for (int i = 2 + update; i < argc; i++) {
		struct transcript t = { .service = { .answers = answers } };
		char *text = read_file(argv[i]), *copy = strdup(text);
		size_t count = 0;
		char **lines = calloc(strlen(text) + 1, sizeof(*lines));
		for (char *s = copy, *end; (end = strchr(s, '\n')); s = end + 1) {
			*end = 0;
			lines[count++] = s;
		}
		t.out = open_memstream(&t.output, &t.size);
		start(&t);
		run_lines(&t, lines, count);
		shell_destroy(t.shell);
		fclose(t.out);
		char *result = text_take(&t.result);
		if (update) {
			FILE *f = fopen(argv[i], "w");
			failures += !f || fputs(result, f) < 0 || fclose(f);
		} else {
			failures += compare(argv[i], text, result);
		}
		free(result);
		free(t.output);
		free(lines);
		free(copy);
		free(text);
	}
	json_decref(answers);
	return failures != 0;
}
