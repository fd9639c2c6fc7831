/* The shell as a program: one cmdlet, a text, a file, standard input, or lines
 * from a terminal. */
#include "shell/main.h"

#include "shell/client.h"
#include "shell/interactive.h"
#include "shell/shell.h"

#include "base/bits.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Options of PowerShell's program that ask for what is so anyway. */
static const char harmless_options[] = "-NoProfile,-NoLogo,-NonInteractive,-nop,-noni";

static bool is_command_text(const char *word)
{
	return strpbrk(word, " \t\n|;($@") != NULL;
}

bool shell_takes(const char *word)
{
	return is_command_text(word) || strchr(word, '-') || strstr(word, "\xe2\x80") || strchr(word, '\\') ||
		cmdlet_find(word);
}

static void add_utf8(struct text *t, uint32_t c)
{
	char s[4];
	size_t n = 0;
	if (c < 0x80) {
		s[n++] = (char)c;
	} else if (c < 0x800) {
		s[n++] = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			s[n++] = (char)(0xe0 | c >> 12);
		} else {
			s[n++] = (char)(0xf0 | c >> 18);
			s[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		}
		s[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		s[n++] = (char)(0x80 | (c & 0x3f));
	text_add_bytes(t, s, n);
}

/* Windows' editors write UTF-16 with a byte order mark; it becomes UTF-8. */
static void from_utf16(struct text *t)
{
	const uint8_t *s = (const uint8_t *)t->data;
	struct text plain = { 0 };
	if (t->size < 2 || s[0] + s[1] != 0xfe + 0xff || (s[0] != 0xff && s[0] != 0xfe))
		return;
	bool little = s[0] == 0xff;
	for (size_t i = 2; i + 1 < t->size; i += 2) {
		uint32_t c = little ? s[i] | s[i + 1] << 8 : s[i] << 8 | s[i + 1];
		if (c >= 0xd800 && c < 0xdc00 && i + 3 < t->size) {
			uint32_t low = little ? s[i + 2] | s[i + 3] << 8 : s[i + 2] << 8 | s[i + 3];
			c = 0x10000 + ((c - 0xd800) << 10) + ((low - 0xdc00) & 0x3ff);
			i += 2;
		}
		add_utf8(&plain, c);
	}
	free(t->data);
	*t = plain;
}

static char *read_all(FILE *f, size_t *size)
{
	struct text t = { 0 };
	char buffer[65536];
	size_t n;
	while ((n = fread(buffer, 1, sizeof(buffer), f)) > 0)
		text_add_bytes(&t, buffer, n);
	from_utf16(&t);
	*size = t.size;
	if (ferror(f)) {
		free(t.data);
		return NULL;
	}
	return text_take(&t);
}

static int run_file(struct shell *sh, const char *path, int argc, char *const argv[])
{
	FILE *f = fopen(path, "r");
	size_t size = 0;
	char *text = f ? read_all(f, &size) : NULL;
	json_t *arguments = json_array();
	if (!text) {
		fprintf(sh->err, "nestor: The file %s cannot be read: %s.\n", path, strerror(errno));
		if (f)
			fclose(f);
		json_decref(arguments);
		return 1;
	}
	fclose(f);
	for (int i = 0; i < argc; i++) {
		json_t *word = json_string(argv[i]);
		json_array_append_new(arguments, word ? word : json_string(""));
	}
	shell_set_variable(sh, "args", arguments);
	int status = shell_run_text(sh, text, size, path);
	free(text);
	return status;
}

static int run_input(struct shell *sh)
{
	size_t size;
	char *text = read_all(stdin, &size);
	if (!text) {
		fprintf(sh->err, "nestor: Standard input cannot be read: %s.\n", strerror(errno));
		return 1;
	}
	sh->can_ask = false;
	int status = shell_run_text(sh, text, size, NULL);
	free(text);
	return status;
}

static int run_joined(struct shell *sh, int argc, char *const argv[])
{
	struct text t = { 0 };
	for (int i = 0; i < argc; i++)
		text_addf(&t, "%s%s", i ? " " : "", argv[i]);
	size_t size = t.size;
	char *s = text_take(&t);
	int status = shell_run_text(sh, s, size, NULL);
	free(s);
	return status;
}

static int run(struct shell *sh, int argc, char *const argv[])
{
	while (argc && list_has(harmless_options, argv[0])) {
		argc--;
		argv++;
	}
	if (!argc)
		return isatty(STDIN_FILENO) ? interactive_run(sh) : run_input(sh);
	bool is_file = !strcasecmp(argv[0], "-File") || !strcasecmp(argv[0], "-f");
	bool is_text = !strcasecmp(argv[0], "-Command") || !strcasecmp(argv[0], "-c");
	if ((is_file || is_text) && argc < 2) {
		fprintf(sh->err, "nestor: %s needs %s after it.\n", argv[0], is_file ? "a file's name" : "a command");
		return 1;
	}
	if (is_file)
		return run_file(sh, argv[1], argc - 2, argv + 2);
	if (is_text && argc == 2 && !strcmp(argv[1], "-"))
		return run_input(sh);
	if (is_text)
		return run_joined(sh, argc - 1, argv + 1);
	if (argc == 1 && is_command_text(argv[0]))
		return run_joined(sh, argc, argv);
	return shell_run_words(sh, argc, argv);
}

int shell_main(int argc, char *const argv[])
{
	struct client *client = client_create();
	struct shell *sh = shell_create(client_service(client), stdout, stderr);
	struct winsize size;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		sh->width = size.ws_col;
	sh->can_ask = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	int status = run(sh, argc, argv);
	if (fflush(stdout) && !status)
		status = 1;
	shell_destroy(sh);
	client_destroy(client);
	return status;
}
