/* Repeatable random numbers for the processor tests. */
#ifndef NESTOR_TESTS_PROCESSOR_RANDOM_H
#define NESTOR_TESTS_PROCESSOR_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

static uint64_t random_state;

/* xorshift64* */
static inline uint64_t random64(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static inline unsigned below(unsigned n)
{
	return (unsigned)((random64() >> 32) * n >> 32);
}

static inline bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* Values with the edges that arithmetic has. */
static inline uint64_t random_value(void)
{
	static const uint64_t edge[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
		0x80000000, 0xffffffff, INT64_MAX, 1ull << 63, ~0ull };
	switch (below(5)) {
	case 0: return edge[below(sizeof edge / sizeof *edge)];
	case 1: return random64() >> below(64);
	case 2: return (uint64_t)((int64_t)random64() >> below(64));
	default: return random64();
	}
}

#endif
