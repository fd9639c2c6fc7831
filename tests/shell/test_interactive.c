/* The shell at a terminal: completion, several lines, Ctrl-C, questions, exit. */
#include "fake_service.h"

#include "shell/interactive.h"

#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

static int terminal;
static struct text seen;

/* Wait until `wanted` comes; what came before it is forgotten. */
static void expect(const char *wanted)
{
	char buffer[4096];
	for (;;) {
		char *at = seen.size ? strstr(seen.data, wanted) : NULL;
		struct pollfd p = { .fd = terminal, .events = POLLIN };
		if (at) {
			seen.size -= (size_t)(at + strlen(wanted) - seen.data);
			memmove(seen.data, at + strlen(wanted), seen.size + 1);
			return;
		}
		ssize_t n = poll(&p, 1, PATIENCE_MS) > 0 ? read(terminal, buffer, sizeof(buffer)) : 0;
		if (n <= 0) {
			fail_msg("\"%s\" did not come, but \"%s\"", wanted, seen.data ? seen.data : "");
			return;
		}
		text_add_bytes(&seen, buffer, (size_t)n);
	}
}

static void type(const char *keys)
{
	assert_int_equal(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* The other side of the terminal. */
static int session(void)
{
	json_error_t e;
	struct fake_service f = { .answers = json_load_file(getenv("SHELL_ANSWERS"), 0, &e), .log = stdout };
	struct shell *sh = shell_create(fake_service(&f), stdout, stdout);
	sh->can_ask = true;
	int status = interactive_run(sh);
	shell_destroy(sh);
	json_decref(f.answers);
	return status;
}

static void test_session(void **state)
{
	char folder[] = "/tmp/nestor-state.XXXXXX", path[sizeof(folder) + 32], text[4096] = "";
	struct winsize size = { .ws_row = 24, .ws_col = 100 };
	int status;
	assert_non_null(mkdtemp(folder));
	setenv("XDG_STATE_HOME", folder, 1);
	setenv("TERM", "xterm", 1);
	pid_t child = forkpty(&terminal, NULL, NULL, &size);
	assert_true(child >= 0);
	if (!child) {
		/* _exit: libedit never frees the names of added functions, which a leak
		 * checker at exit would report. */
		status = session();
		fflush(NULL);
		_exit(status);
	}
	expect("PS nestor> ");
	type("Get-VMPr\t");
	expect("ocessor ");
	type("la\t\r");
	expect("-> Get-VMProcessor {\"VMName\": [\"lab\"]}");
	expect("PS nestor> ");
	type("1..2 |\r");
	expect(">> ");
	type("% { $_ * 21 }\r");
	expect("42");
	expect("PS nestor> ");
	type("garbage\003");
	expect("^C");
	expect("PS nestor> ");
	type("Start-Sleep 600\r");
	expect("\n");
	usleep(200000);
	type("\003");
	expect("Interrupted.");
	expect("PS nestor> ");
	type("Remove-VM lab\r");
	expect("Are you sure");
	expect("Remove-VM will remove the virtual machine \"lab\".");
	type("n\r");
	expect("PS nestor> ");
	type("Remove-VM web\r");
	expect("Are you sure");
	type("y\r");
	expect("-> Remove-VM {\"Name\": [\"web\"]}");
	expect("PS nestor> ");
	type("exit 5\r");
	while (read(terminal, text, sizeof(text)) > 0)
		;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 5);
	/* The next session finds what was typed. */
	snprintf(path, sizeof(path), "%s/nestor/history", folder);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	memset(text, 0, sizeof(text));
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	assert_non_null(strstr(text, "Get-VMProcessor"));
	assert_null(strstr(text, "garbage"));
	assert_int_equal(unlink(path), 0);
	*strrchr(path, '/') = 0;
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(folder), 0);
	free(text_take(&seen));
	close(terminal);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_session) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
