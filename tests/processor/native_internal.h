/* Between native.c and native_legacy.c. */
#ifndef NESTOR_TESTS_PROCESSOR_NATIVE_INTERNAL_H
#define NESTOR_TESTS_PROCESSOR_NATIVE_INTERNAL_H

#include "native.h"

extern struct native_fault {
	uint64_t rip;
	uint16_t cs;
} native_fault;

/* Emit a 64-bit indirect jump to `to`. */
void native_jump_back(uint8_t *at, const char *to);
/* Call enter(); a fault in it continues at exit in 64-bit mode. */
struct native_result native_guarded(void (*enter)(void), const char *exit);

#endif
