#include "service/crash.h"

#include "base/bits.h"

#include <signal.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

#ifndef SANITIZED
static void crashed(int number)
{
	static const struct { int number; const char *name; } names[] = {
		{ SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGILL, "SIGILL" },
		{ SIGFPE, "SIGFPE" }, { SIGABRT, "SIGABRT" },
	};
	static const char before[] = "nestor: a fault of Nestor's own: stopped by ";
	ssize_t done = write(STDERR_FILENO, before, sizeof before - 1);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].number == number)
			done = write(STDERR_FILENO, names[i].name, strlen(names[i].name));
	done = write(STDERR_FILENO, "\n", 1);
	(void)done;
	/* SA_RESETHAND: this time nothing catches it. */
	raise(number);
}

void crash_report(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction a = { .sa_handler = crashed,
			       .sa_flags = SA_RESETHAND | SA_NODEFER | SA_ONSTACK };
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &a, NULL);
}
#else
/* The sanitizers report crashes better than we could. */
void crash_report(void)
{
}
#endif
