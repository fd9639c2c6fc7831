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
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

static int terminal;
static struct text seen;
static const char *last_seen = "";	/* what came before, for the message */

/* libedit shows its prompt just before it takes the terminal over; keys before that
 * would be the kernel's. */
static void wait_for_editor(void)
{
	struct termios t;
	for (unsigned i = 0; i < PATIENCE_MS && !tcgetattr(terminal, &t) && (t.c_lflag & ICANON); i++)
		usleep(1000);
}

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
			last_seen = wanted;
			if (!strcmp(wanted, "PS nestor> ") || !strcmp(wanted, ">> "))
				wait_for_editor();
			return;
		}
		ssize_t n = poll(&p, 1, PATIENCE_MS) > 0 ? read(terminal, buffer, sizeof(buffer)) : 0;
		if (n <= 0) {
			fail_msg("\"%s\" did not come after \"%s\", but \"%s\"", wanted, last_seen, seen.data ? seen.data : "");
			return;
		}
		text_add_bytes(&seen, buffer, (size_t)n);
	}
}

static void type(const char *keys)
{
	assert_int_equal(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* The other side of the terminal; a VM's console is at the socket. */
static int session(const char *socket_path)
{
	json_error_t e;
	struct fake_service f = { .answers = json_load_file(getenv("SHELL_ANSWERS"), 0, &e), .log = stdout };
	json_array_insert_new(f.answers, 0, json_pack("{s:s,s:{s:[{s:s,s:s,s:s}],s:[],s:[]}}", "method",
		"Connect-VMConsole", "answer", "objects", "$type", "Console", "VMName", "lab", "Path", socket_path,
		"messages", "errors"));
	struct shell *sh = shell_create(fake_service(&f), stdout, stdout);
	sh->can_ask = true;
	int status = interactive_run(sh);
	shell_destroy(sh);
	json_decref(f.answers);
	return status;
}

/* The guest's side of the console gets exactly this. */
static void expect_keys(int console, const char *wanted)
{
	char got[64] = "";
	size_t n = 0;
	while (n < strlen(wanted)) {
		struct pollfd p = { .fd = console, .events = POLLIN };
		ssize_t r = poll(&p, 1, PATIENCE_MS) > 0 ? read(console, got + n, sizeof(got) - 1 - n) : 0;
		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_string_equal(got, wanted);
}

/* Ctrl-] leaves, and Ctrl-V sends it to the guest instead. */
static void console(int listener)
{
	type("Connect-VMConsole lab\r");
	expect("Ctrl-] leaves");
	int guest = accept(listener, NULL, NULL);
	assert_true(guest >= 0);
	assert_int_equal(write(guest, "login:", 6), 6);
	expect("login:");
	type("a\x16\x1d" "b\x16\x16\x1d" "c\x16" "d\x16\x16" "e");
	expect_keys(guest, "a\x1d" "b\x16\x1d" "c\x16" "d\x16\x16" "e");
	type("\x1d");
	expect("The console is left");
	expect("PS nestor> ");
	close(guest);
}

static void test_session(void **state)
{
	char folder[] = "/tmp/nestor-state.XXXXXX", path[sizeof(folder) + 32], text[4096] = "";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct winsize size = { .ws_row = 24, .ws_col = 100 };
	int status;
	assert_non_null(mkdtemp(folder));
	setenv("XDG_STATE_HOME", folder, 1);
	setenv("TERM", "xterm", 1);
	setenv("LC_ALL", "C", 1);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/console", folder);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	pid_t child = forkpty(&terminal, NULL, NULL, &size);
	assert_true(child >= 0);
	if (!child) {
		/* _exit: libedit never frees the names of added functions, which a leak
		 * checker at exit would report. */
		status = session(address.sun_path);
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
	/* What is pasted has dashes and quotes of every kind, whatever the locale. */
	type("New-NetNat \xe2\x80\x93Name \xe2\x80\x9cLocalNAT\xe2\x80\x9d\r");
	expect("-> New-NetNat {\"Name\": \"LocalNAT\"}");
	expect("PS nestor> ");
	/* Both lines of a block at once, as they are copied. */
	type("new-vmswitch -name VmNAT -SwitchType Internal\r"
	     "New-NetNat \xe2\x80\x93Name Second \xe2\x80\x93InternalIPInterfaceAddressPrefix "
	     "\xe2\x80\x9c" "192.168.100.0/24\xe2\x80\x9d\r");
	expect("-> New-VMSwitch {\"Name\": \"VmNAT\", \"SwitchType\": \"Internal\"}");
	expect("-> New-NetNat {\"Name\": \"Second\", \"InternalIPInterfaceAddressPrefix\": \"192.168.100.0/24\"}");
	expect("PS nestor> ");
	console(listener);
	assert_int_equal(unlink(address.sun_path), 0);
	/* What is mandatory and missing is asked for. */
	type("Set-VMProcessor -Count 2\r");
	expect("cmdlet Set-VMProcessor at command pipeline position 1");
	expect("VMName[0]: ");
	type("lab\r");
	expect("VMName[1]: ");
	type("\r");
	expect("-> Set-VMProcessor {\"Count\": 2, \"VMName\": [\"lab\"]}");
	expect("PS nestor> ");
	type("Rename-VM lab\r");
	expect("NewName: ");
	type("\004");
	expect("missing mandatory parameters: NewName");
	expect("PS nestor> ");
	type("Restart-VM lab -Force -For IPAddress\r");
	expect("missing mandatory parameters: Wait");
	expect("PS nestor> ");
	/* A here-string goes over several lines. */
	type("@\"\r");
	expect(">> ");
	type("six $(6*7)\r");
	expect(">> ");
	type("\"@\r");
	expect("six 42");
	expect("PS nestor> ");
	/* Values of parameters, switches and adapters complete too. */
	type("New-VMSwitch x -SwitchType Pr\t\r");
	expect("-> New-VMSwitch {\"SwitchType\": \"Private\", \"Name\": \"x\"}");
	expect("PS nestor> ");
	type("New-VM y -SwitchName De\t\r");
	expect("-> New-VM {\"SwitchName\": \"Default Switch\", \"Name\": \"y\"}");
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
