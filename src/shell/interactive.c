/* `nestor` at a terminal: line editing, history and completion by libedit. */
#include "shell/interactive.h"

#include "shell/client.h"
#include "shell/complete.h"

#include "base/log.h"

#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_LINES 2000

static struct shell *the_shell;	/* libedit's functions have no argument of ours */
static bool continued;
static bool dropped;		/* Ctrl-C at the prompt */

static char *prompt(EditLine *el)
{
	static char first[] = "PS nestor> ", more[] = ">> ";
	char *own = getenv("NESTOR_PROMPT");
	return continued ? more : own ? own : first;
}

/* The letters that all candidates have in common. */
static char *common_prefix(json_t *all)
{
	char *s = alloc_string(json_string_value(json_array_get(all, 0)));
	json_t *v;
	size_t i;
	json_array_foreach(all, i, v) {
		const char *other = json_string_value(v);
		size_t n = 0;
		while (s[n] && !strncasecmp(s, other, n + 1))
			n++;
		s[n] = 0;
	}
	return s;
}

static void show_candidates(json_t *all)
{
	struct winsize size;
	unsigned width = !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 80, widest = 1;
	json_t *v;
	size_t i;
	json_array_foreach(all, i, v)
		if (text_columns(json_string_value(v)) + 2 > widest)
			widest = text_columns(json_string_value(v)) + 2;
	unsigned columns = width / widest ? width / widest : 1;
	putchar('\n');
	json_array_foreach(all, i, v)
		printf("%s%*s%s", json_string_value(v), (int)(widest - text_columns(json_string_value(v))), "",
		       (i + 1) % columns ? "" : "\n");
	if (json_array_size(all) % columns)
		putchar('\n');
	fflush(stdout);
}

static unsigned char complete(EditLine *el, int key)
{
	const LineInfo *line = el_line(el);
	size_t cursor = (size_t)(line->cursor - line->buffer), word;
	char *text = strndup(line->buffer, (size_t)(line->lastchar - line->buffer));
	json_t *all = shell_complete(the_shell, text, cursor, &word);
	unsigned char result = CC_ERROR;
	if (json_array_size(all)) {
		char *s = common_prefix(all);
		bool one = json_array_size(all) == 1;
		if (one || strlen(s) > cursor - word) {
			el_deletestr(el, (int)(cursor - word));
			struct text t = { 0 };
			text_addf(&t, "%s%s", s, one ? " " : "");
			el_insertstr(el, t.data);
			free(t.data);
			result = CC_REFRESH;
		} else {
			show_candidates(all);
			result = CC_REDISPLAY;
		}
		free(s);
	}
	json_decref(all);
	free(text);
	return result;
}

/* Ctrl-C while a line is edited: the terminal makes no signal of it then. */
static unsigned char drop_line(EditLine *el, int key)
{
	dropped = true;
	return CC_NEWLINE;
}

/* Ctrl-C while a command runs. */
static void on_interrupt(int number)
{
	shell_interrupted = 1;
	client_interrupt();
}

/* $XDG_STATE_HOME/nestor/history, which the caller frees; NULL: nowhere. */
static char *history_path(void)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	struct text t = { 0 };
	if (state && *state == '/')
		text_add(&t, state);
	else if (home && *home == '/')
		text_addf(&t, "%s/.local/state", home);
	else
		return NULL;
	/* Each folder on the way; those that are there stay as they are. */
	text_add(&t, "/nestor");
	for (char *slash = strchr(t.data + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(t.data, 0700);
		*slash = '/';
	}
	mkdir(t.data, 0700);
	text_add(&t, "/history");
	return text_take(&t);
}

static void run_lines(struct shell *sh, EditLine *el, History *past, const char *path)
{
	HistEvent event;
	struct text t = { 0 };
	const char *line;
	int n;
	while (!sh->leaving) {
		dropped = false;
		/* Before the prompt: what comes after it is not for the terminal to echo. */
		el_set(el, EL_PREP_TERM, 1);
		line = el_gets(el, &n);
		shell_interrupted = 0;
		if (dropped) {
			fputs("^C\n", sh->out);
			continued = false;
			t.size = 0;
			continue;
		}
		if (!line || n <= 0) {
			if (continued) {
				/* The end of input leaves the unfinished command. */
				continued = false;
				t.size = 0;
				if (isatty(STDIN_FILENO)) {
					fputc('\n', sh->out);
					continue;
				}
			}
			fputc('\n', sh->out);
			break;
		}
		text_add(&t, line);
		/* An empty line ends what is not complete, and the error shows. */
		bool blank = strspn(line, " \t\r\n") == strlen(line);
		if (!(continued && blank) && shell_is_incomplete(t.data, t.size)) {
			continued = true;
			continue;
		}
		continued = false;
		if (strspn(t.data, " \t\r\n") < t.size) {
			char *entry = strndup(t.data, t.size - (t.data[t.size - 1] == '\n'));
			history(past, &event, H_ENTER, entry);
			free(entry);
			if (path)
				history(past, &event, H_SAVE, path);
			struct winsize size;
			if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
				sh->width = size.ws_col;
			shell_run_text(sh, t.data, t.size, NULL);
		}
		t.size = 0;
	}
	free(t.data);
}

/* libedit drops what the locale has no characters for, and what people paste has
 * dashes and quotes of every kind. */
static void choose_locale(void)
{
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8"))
		setlocale(LC_CTYPE, "C.UTF-8");
}

int interactive_run(struct shell *sh)
{
	HistEvent event;
	choose_locale();
	char *path = history_path();
	EditLine *el = el_init("nestor", stdin, stdout, stderr);
	History *past = history_init();
	if (!el || !past)
		panic("libedit cannot start at this terminal");
	the_shell = sh;
	sh->interactive = true;
	history(past, &event, H_SETSIZE, HISTORY_LINES);
	history(past, &event, H_SETUNIQUE, 1);
	el_set(el, EL_PROMPT, prompt);
	el_set(el, EL_EDITOR, "emacs");
	el_set(el, EL_SETTY, "-d", "-isig", NULL);
	el_set(el, EL_ADDFN, "drop-line", "Leave the line", drop_line);
	el_set(el, EL_BIND, "^C", "drop-line", NULL);
	el_set(el, EL_HIST, history, past);
	el_set(el, EL_ADDFN, "complete", "Complete the word", complete);
	el_set(el, EL_BIND, "^I", "complete", NULL);
	if (path)
		history(past, &event, H_LOAD, path);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
	fprintf(sh->out, "Nestor's shell. Get-Help lists the cmdlets, the tab key completes, exit leaves.\n");
	run_lines(sh, el, past, path);
	history_end(past);
	el_end(el);
	free(path);
	return sh->leaving ? sh->status : 0;
}
