/* The oracle in 16- and 32-bit protected mode: compatibility mode of the host,
 * with segments of our own in the LDT.
 *
 * All code segments begin at NATIVE_CODE or at the page behind it, all data
 * segments at NATIVE_SCRATCH: so an offset of the instruction and of scratch
 * memory is the same in each. The second code page holds nothing but landings. */
#ifndef NESTOR_TESTS_PROCESSOR_NATIVE_LEGACY_H
#define NESTOR_TESTS_PROCESSOR_NATIVE_LEGACY_H

#include "native.h"

enum legacy_segment {
	LEGACY_CODE32, LEGACY_CODE16,	/* NATIVE_CODE, readable */
	LEGACY_OTHER32, LEGACY_OTHER16,	/* the second code page */
	LEGACY_EXECUTE_ONLY32,		/* the second code page */
	LEGACY_DATA,			/* 32-bit, up to LEGACY_LIMIT */
	LEGACY_DATA_SHORT,		/* up to LEGACY_SHORT */
	LEGACY_READ_ONLY,
	LEGACY_STACK16,			/* B = 0 */
	LEGACY_DOWN,			/* expand-down, B = 1: from LEGACY_SHORT + 1 */
	LEGACY_DOWN16,			/* expand-down, B = 0 */
	LEGACY_ABSENT,			/* data, not present */
	LEGACY_ABSENT_CODE,
	LEGACY_BIG,			/* page granularity, 4 GiB from NATIVE_SCRATCH */
	LEGACY_SEGMENTS
};

enum {
	LEGACY_LIMIT = 0x1fff, LEGACY_SHORT = 0x13ff,
	LEGACY_INSN_OFFSET = NATIVE_INSN - NATIVE_CODE,
	LEGACY_LANDING_OFFSET = NATIVE_LANDING - NATIVE_CODE,	/* in every code segment */
	LEGACY_LANDING_NEAR_OFFSET = NATIVE_LANDING_NEAR - NATIVE_CODE,
	LEGACY_CODE_PAGES = 2,
};

#define LEGACY_SELECTOR(segment) ((uint16_t)((segment) << 3 | 7))

struct legacy_selectors {
	/* cs: where the instruction is. After: where RIP is, 0 for the landing
	 * in the second code page. */
	uint16_t cs, ds, es, ss;
	uint16_t other;	/* which segment's width the landing there has */
};

/* Descriptor as it stands in the LDT. */
uint64_t legacy_descriptor(enum legacy_segment s);
/* After native_start. False: this host does not let us have an LDT. */
bool native_legacy_start(void);
/* GPRs 0 to 7 and RIP are 32 bits wide; rip is an offset in cs. */
struct native_result native_run_legacy(const uint8_t *insn, unsigned length,
				       struct native_state *state, struct legacy_selectors *selectors);

#endif
