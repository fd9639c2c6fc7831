/* Errors: the one way to report that something cannot be done. */
#ifndef NESTOR_BASE_ERROR_H
#define NESTOR_BASE_ERROR_H

/* Exit statuses of `nestor run`. Even, because a guest's own exit through
 * port 0xf4 is always odd. */
enum exit_status {
	STATUS_OK = 0,
	STATUS_USAGE = 64,	/* wrong command line or missing prerequisite */
	STATUS_FILE = 66,	/* a file is missing or not what it should be */
	STATUS_ENGINE = 68,	/* the engine cannot do what was asked */
	STATUS_FAULT = 70,	/* a fault of ours */
	STATUS_RESET = 72,	/* the guest asked for a reset */
	STATUS_DIED = 74,	/* the guest died (triple fault) */
};

struct error {
	enum exit_status status;
	char text[1024];	/* one sentence: what, which value, what to do */
};

/* Fill *e (may be NULL) and return -1, so that `return error_set(...)` reads
 * as the failure itself. A second call overwrites the first. */
int error_set(struct error *e, enum exit_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
