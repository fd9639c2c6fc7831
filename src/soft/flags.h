/* Arithmetic flags, kept as the host's own LAHF and SETO leave them, so that
 * every operation's flags come from the host processor for one instruction
 * each. cpu->arith is AX after "LAHF; SETO AL". */
#ifndef NESTOR_SOFT_FLAGS_H
#define NESTOR_SOFT_FLAGS_H

#include "soft/cpu.h"

#define ARITH_OF 0x0001u
#define ARITH_CF 0x0100u
#define ARITH_PF 0x0400u
#define ARITH_AF 0x1000u
#define ARITH_ZF 0x4000u
#define ARITH_SF 0x8000u
#define ARITH_FIXED 0x0200u

static inline uint32_t arith_to_flags(uint16_t arith)
{
	return (arith >> 8 & 0xd5) | (uint32_t)(arith & ARITH_OF) << 11;
}

static inline uint16_t arith_from_flags(uint32_t flags)
{
	return (uint16_t)((flags & 0xd5) << 8 | ARITH_FIXED | (flags >> 11 & 1));
}

/* Does the condition code (low 4 bits of Jcc's opcode) hold? */
static inline bool condition_holds(uint16_t a, unsigned code)
{
	bool r;
	switch (code >> 1) {
	case 0: r = a & ARITH_OF; break;
	case 1: r = a & ARITH_CF; break;
	case 2: r = a & ARITH_ZF; break;
	case 3: r = a & (ARITH_CF | ARITH_ZF); break;
	case 4: r = a & ARITH_SF; break;
	case 5: r = a & ARITH_PF; break;
	case 6: r = (a >> 15 ^ a) & 1; break;
	default: r = ((a >> 15 ^ a) & 1) || (a & ARITH_ZF); break;
	}
	return r != (code & 1);
}

#endif
