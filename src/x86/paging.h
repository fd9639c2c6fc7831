/* Paging-structure entries (SDM vol. 3, "Paging"). */
#ifndef NESTOR_X86_PAGING_H
#define NESTOR_X86_PAGING_H

#include "base/bits.h"

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_PAT_LARGE BIT(12)
#define PTE_XD BIT(63)

/* MAXPHYADDR as CPUID leaf 80000008h shows it. */
enum { PHYSICAL_BITS = 40, LINEAR_BITS = 48 };
#define PHYSICAL_MASK BITS(PHYSICAL_BITS - 1, 0)
#define PTE_ADDRESS (PHYSICAL_MASK & ~0xfffull)
#define PTE_RESERVED BITS(51, PHYSICAL_BITS)

/* Canonical: bits 63:48 repeat bit 47 (SDM vol. 1, "Canonical Addressing"). */
static inline bool linear_canonical(uint64_t linear)
{
	return (uint64_t)sign_extend(linear, LINEAR_BITS) == linear;
}

#endif
