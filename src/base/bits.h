/* Bits and bytes: fields, masks, little-endian access to guest structures. */
#ifndef NESTOR_BASE_BITS_H
#define NESTOR_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

#define BIT(n) (1ull << (n))
/* Bits hi..lo, inclusive, as the manuals write 63:12. */
#define BITS(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))

static inline uint64_t bits_get(uint64_t v, unsigned hi, unsigned lo)
{
	return (v & BITS(hi, lo)) >> lo;
}

/* v with only the low `bytes` (1, 2, 4, 8) bytes kept. */
static inline uint64_t bits_trim(uint64_t v, unsigned bytes)
{
	return bytes >= 8 ? v : v & ((1ull << (bytes * 8)) - 1);
}

static inline int64_t sign_extend(uint64_t v, unsigned width)
{
	return (int64_t)(v << (64 - width)) >> (64 - width);
}

static inline uint64_t align_up(uint64_t v, uint64_t a)
{
	return (v + a - 1) & ~(a - 1);
}

static inline uint64_t load_le(const void *p, unsigned bytes)
{
	uint64_t v = 0;
	memcpy(&v, p, bytes);
	return v;
}

static inline void store_le(void *p, uint64_t v, unsigned bytes)
{
	memcpy(p, &v, bytes);
}

#endif
