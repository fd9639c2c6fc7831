/* Where the first serial port goes: this terminal, a file, a socket, nowhere.
 *
 * Bytes from the guest are queued and a thread of the console's writes them,
 * so that a slow reader never makes a processor wait on a system call. When
 * the queue is full, console_write waits: the guest stands still as behind a
 * held-off modem, and no byte is lost. That wait holds the board lock, so
 * receive must not wait for that lock without an end, and console_leave lets
 * every waiter go. */
#ifndef NESTOR_VM_CONSOLE_H
#define NESTOR_VM_CONSOLE_H

#include "vm/config.h"

struct console;

/* What the console tells its VM; called from the console's threads. */
struct console_events {
	/* Bytes for the guest. Returns how many it took, soon; the rest is
	 * offered again a little later. */
	size_t (*receive)(void *owner, const uint8_t *bytes, size_t n);
	void (*leave)(void *owner);	/* Ctrl-A X */
	void *owner;
};

/* Opens and claims what the configuration names, but reads nothing and leaves
 * the terminal alone until console_start. */
struct console *console_create(const struct console_config *config,
			       const struct console_events *events, struct error *e);
void console_start(struct console *c);

/* Bytes from the guest. Any thread; the board lock may be held. */
void console_write(struct console *c, const uint8_t *bytes, size_t n);

/* The guest can take more of what receive refused. Any thread; the board lock
 * may be held. */
void console_offer(struct console *c);

/* The VM is ending and must not wait: whoever waits in console_write goes on,
 * and what does not fit is dropped from here on. */
void console_leave(struct console *c);

/* Wait up to ms for all output to be written. True when it is, or when nobody
 * is there to take it. */
bool console_drain(struct console *c, unsigned ms);

/* Stop the threads, drop what is still queued, restore the terminal. Board
 * lock not held. */
void console_stop(struct console *c);
void console_destroy(struct console *c);

/* Give the terminal back as it was found. Async-signal-safe; harmless when it
 * is not in raw mode. */
void console_restore_terminal(void);
/* Raw again after console_restore_terminal, when stdio is the console. */
void console_resume_terminal(struct console *c);

#endif
