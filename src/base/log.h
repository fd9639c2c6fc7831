/* Log: what the worker says on standard error, and named trace events. */
#ifndef NESTOR_BASE_LOG_H
#define NESTOR_BASE_LOG_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Trace events that `--trace LIST` names. */
#define TRACE_EVENTS(X) \
	X(VMX, "vmx", "VM entries, exits and entry failures") \
	X(MSR, "msr", "RDMSR and WRMSR") \
	X(IO, "io", "port input and output") \
	X(MMIO, "mmio", "accesses to device memory") \
	X(EXCEPTION, "exception", "exceptions delivered to the guest") \
	X(INTERRUPT, "interrupt", "interrupts delivered to the guest") \
	X(PAGING, "paging", "changes of CR0, CR3, CR4, EFER") \
	X(VIRTIO, "virtio", "virtio queues and configuration") \
	X(BLOCK, "block", "blocks decoded (very many)")

enum trace_event {
#define X(id, name, help) TRACE_##id,
	TRACE_EVENTS(X)
#undef X
	TRACE_COUNT
};

extern unsigned trace_mask;	/* bit n: trace event n is on */

/* Parse a comma-separated list of names ("all" for every event). */
int trace_enable(const char *list, struct error *e);

/* One line on standard error, "nestor: " before it. Safe from any thread. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_trace(enum trace_event event, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static inline bool trace_on(enum trace_event event)
{
	return __builtin_expect(trace_mask >> event & 1, 0);
}

#define trace(event, ...) \
	do { if (trace_on(TRACE_##event)) log_trace(TRACE_##event, __VA_ARGS__); } while (0)

/* A broken invariant of ours: says where and ends the process with 70. */
_Noreturn void panic_at(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)

/* Run by panic_at before it ends (the terminal's restore). */
extern void (*panic_hook)(void);

/* Allocation that cannot fail: zeroed, or the process ends with 70. */
void *alloc_zeroed(size_t count, size_t size);
void *alloc_resize(void *p, size_t count, size_t size);
char *alloc_string(const char *s);

#endif
