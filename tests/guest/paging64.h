/* The chapter of 4-level paging: what its two halves share (paging64.c). */
#ifndef GUEST_PAGING64_H
#define GUEST_PAGING64_H

#include "rt/rt.h"

#define LINEAR 0x10000000000ul		/* what a rule maps */
#define NONCANONICAL 0x800000000000ul
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX BIT(63)
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };

/* A feature's bit in CPUID's EBX, ECX or EDX ('b', 'c', 'd'), subleaf 0. */
bool has(unsigned leaf, char reg, unsigned bit);

enum kind { READ, WRITE, FETCH };
/* The vector an access ends with; NONE when it is fine. */
int access(uint64_t at, enum kind kind, bool user);

/* A page with INT 80h, mapped with these bits at the leaf. */
uint64_t map(uint64_t linear, uint64_t bits);

#endif
