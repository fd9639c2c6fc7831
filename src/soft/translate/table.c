/* Which instructions are translated, and how: a positive table. What is not in
 * it, and forms that its way cannot take, the interpreter executes between two
 * pieces of translated code. */
#include "soft/translate/front.h"

#define M(name, way) [ZYDIS_MNEMONIC_##name] = WAY_##way
#define CONDITIONS(prefix, way) \
	M(prefix##O, way), M(prefix##NO, way), M(prefix##B, way), M(prefix##NB, way), \
	M(prefix##Z, way), M(prefix##NZ, way), M(prefix##BE, way), M(prefix##NBE, way), \
	M(prefix##S, way), M(prefix##NS, way), M(prefix##P, way), M(prefix##NP, way), \
	M(prefix##L, way), M(prefix##NL, way), M(prefix##LE, way), M(prefix##NLE, way)

static const uint8_t way_of[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	M(MOV, SAME), M(MOVZX, SAME), M(MOVSX, SAME), M(MOVSXD, SAME), M(LEA, LEA), M(BSWAP, SAME),
	M(ADD, SAME), M(OR, SAME), M(ADC, SAME), M(SBB, SAME), M(AND, SAME), M(SUB, SAME), M(XOR, SAME),
	M(CMP, SAME), M(TEST, SAME), M(INC, SAME), M(DEC, SAME), M(NEG, SAME), M(NOT, SAME),
	M(SHL, SAME), M(SHR, SAME), M(SAR, SAME), M(ROL, SAME), M(ROR, SAME), M(RCL, SAME), M(RCR, SAME),
	M(SHLD, SAME), M(SHRD, SAME), M(IMUL, SAME), M(MUL, SAME),
	M(XCHG, SAME), M(XADD, SAME), M(CMPXCHG, SAME),
	M(CBW, SAME), M(CWDE, SAME), M(CDQE, SAME), M(CWD, SAME), M(CDQ, SAME), M(CQO, SAME),
	M(BT, BIT_TEST), M(BTS, BIT_TEST), M(BTR, BIT_TEST), M(BTC, BIT_TEST),
	M(BSF, SAME), M(BSR, SAME), M(POPCNT, SAME), M(TZCNT, SAME), M(LZCNT, SAME),
	CONDITIONS(CMOV, SAME), CONDITIONS(SET, SAME),
	M(NOP, NOTHING), M(ENDBR64, NOTHING), M(PREFETCH, NOTHING), M(PREFETCHNTA, NOTHING),
	M(PREFETCHT0, NOTHING), M(PREFETCHT1, NOTHING), M(PREFETCHT2, NOTHING), M(PREFETCHW, NOTHING),
	M(PUSH, PUSH), M(POP, POP), M(LEAVE, LEAVE),
	M(JMP, JMP), M(CALL, CALL_NEAR), M(RET, RET), CONDITIONS(J, JCC),
};

enum way translate_way(ZydisMnemonic m)
{
	return way_of[m];
}
