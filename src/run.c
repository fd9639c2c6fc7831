#include "run.h"

#include "base/log.h"
#include "engines.h"
#include "run_network.h"
#include "run_options.h"
#include "vm/console.h"
#include "vm/engine_select.h"
#include "vm/vm.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

#ifndef SANITIZED
/* A crash of ours: give the terminal back and say what happened. */
static void on_crash(int signal, siginfo_t *info, void *context)
{
	static const char said[] = "nestor: a fault of Nestor's own: the program was stopped by ";
	static const struct { int signal; const char *name; } names[] = {
		{ SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGILL, "SIGILL" },
		{ SIGFPE, "SIGFPE" }, { SIGABRT, "SIGABRT" },
	};
	static const char please[] = ". Please report it with the command line.\n";
	const char *name = "a signal";
	console_restore_terminal();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].signal == signal)
			name = names[i].name;
	ssize_t done = write(STDERR_FILENO, said, sizeof said - 1);
	done = write(STDERR_FILENO, name, strlen(name));
	done = write(STDERR_FILENO, please, sizeof please - 1);
	(void)done;
	_exit(STATUS_FAULT);
}

static void catch_crashes(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction a = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	for (unsigned i = 0; i < ARRAY_SIZE(crashes); i++)
		sigaction(crashes[i], &a, NULL);
}
#else
/* The sanitizers report crashes better than we could. */
static void catch_crashes(void)
{
}
#endif

/* Everything is put away: end as the signal would have ended us, so that 129,
 * 131 and 143, which shells make of it, cannot be taken for a guest's status. */
static void end_by_signal(int number)
{
	static const struct rlimit no_core = { 0, 0 };
	setrlimit(RLIMIT_CORE, &no_core);
	signal(number, SIG_DFL);
	raise(number);
}

int run_main(int argc, char *const argv[])
{
	struct vm_config config;
	struct error e = { 0 };
	char line[sizeof e.text + 128];
	int parsed = run_options_parse(argc, argv, &config, &e);
	if (parsed > 0) {
		run_options_help(stdout);
		return STATUS_OK;
	}
	if (parsed < 0)
		goto failed;
	const struct engine_ops *ops = engine_select(&config, engines, engines_count,
						     line, sizeof line, &e);
	if (!ops)
		goto failed;
	if (run_networks_open(&config, &e))
		goto failed;
	catch_crashes();
	struct vm *vm = vm_create(&config, ops, &e);
	if (!vm)
		goto failed;
	log_line("%s", line);
	int status = vm_run(vm);
	if (config.report)
		vm_report(vm, stderr);
	int number = vm_ending_signal(vm);
	vm_destroy(vm);
	if (number)
		end_by_signal(number);
	return status;
failed:
	log_line("%s", e.text);
	return e.status;
}
