/* Random bytes through the decoder, in its three modes.
 *
 * Bytes are half noise and half shaped like instructions (prefixes, opcode maps,
 * ModRM), cut short now and then. What must hold: the length is 0 only when the
 * bytes are too few, and never more than there are or than 15; there is always
 * a function to execute; the operands' registers and sizes lie inside what the
 * interpreter indexes with them; decoding twice, or with other bytes behind the
 * instruction, is the same.
 *
 * fuzz_decode [seed [cases]]: the seed is printed, and repeats the run. */
#include "soft/block.h"
#include "soft/cpu.h"
#include "soft/insn.h"
#include "soft/thunk.h"

#include <stdio.h>
#include <stdlib.h>

enum { CASES = 1000000, INSN_BYTES = 15 };
/* Bytes of an operand's register that a general register's offset may name. */
enum { GPR_BYTES = 8, GPRS = 16 };

static uint64_t seed, random_state;

/* xorshift64*, by Marsaglia and Vigna. */
static uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static unsigned random_below(unsigned n)
{
	return (unsigned)((random_next() >> 32) % n);
}

static void bytes_random(uint8_t *b, unsigned n)
{
	while (n--)
		*b++ = (uint8_t)random_next();
}

/* Looks like an instruction: prefixes, an opcode of one of the maps, the rest. */
static void bytes_shaped(uint8_t *b)
{
	static const uint8_t prefixes[] = {
		0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x40, 0x48, 0x4f };
	static const uint8_t maps[][3] = { { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
	bytes_random(b, INSN_BYTES);
	while (random_below(3) == 0 && random_below(12))
		*b++ = prefixes[random_below(sizeof prefixes)];
	switch (random_below(6)) {
	case 0:
		break;
	case 1:		/* VEX */
		*b = 0xc5;
		break;
	case 2:
		*b++ = 0xc4;
		*b = (uint8_t)(0xe0 | (1 + random_below(3)));
		break;
	case 3:		/* EVEX, which we do not have */
		*b = 0x62;
		break;
	default: {
		unsigned m = random_below(3);
		*b++ = maps[m][0];
		if (m)
			*b++ = maps[m][1];
	}
	}
}

static const char *wrong(const struct insn *i, unsigned n)
{
	if (!i->fn)
		return "no function";
	if (i->len > n || i->len > INSN_BYTES)
		return "longer than its bytes";
	if (!i->len)
		return n == INSN_BYTES ? "no length though there are 15 bytes" : NULL;
	if (i->base >= REG_SLOTS || i->index >= REG_SLOTS || i->scale > 3 || i->seg > SEG_GS)
		return "a memory operand of registers that do not exist";
	for (unsigned k = 0; k < sizeof i->kind; k++)
		if (i->kind[k] == OPERAND_GPR && i->reg[k] >= GPRS * GPR_BYTES)
			return "a general register that does not exist";
	return NULL;
}

static bool same(const struct insn *a, const struct insn *b)
{
	return a->fn == b->fn && a->len == b->len && a->size == b->size && a->flags == b->flags &&
		a->imm == b->imm && a->disp == b->disp && a->base == b->base && a->index == b->index &&
		a->scale == b->scale && a->seg == b->seg && a->mnemonic == b->mnemonic &&
		!memcmp(a->reg, b->reg, sizeof a->reg) && !memcmp(a->kind, b->kind, sizeof a->kind);
}

_Noreturn static void fail(const char *what, const uint8_t *b, unsigned n, unsigned mode)
{
	printf("fuzz_decode: %s; mode %u, %u bytes:", what, mode, n);
	for (unsigned k = 0; k < n; k++)
		printf(" %02x", b[k]);
	printf("; seed %llu\n", (unsigned long long)seed);
	exit(1);
}

int main(int argc, char **argv)
{
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t cases = argc > 2 ? strtoull(argv[2], NULL, 0) : CASES, known = 0;
	printf("fuzz_decode: seed %llu, %llu cases\n", (unsigned long long)seed, (unsigned long long)cases);
	fflush(stdout);
	struct error e;
	if (thunk_start(&e)) {
		printf("fuzz_decode: %s\n", e.text);
		return 1;
	}
	random_state = (seed + 1) * 0x9e3779b97f4a7c15ull;
	for (uint64_t c = 0; c < cases; c++) {
		/* Exactly as many bytes as are told, so that a sanitizer sees more. */
		unsigned n = random_below(8) ? INSN_BYTES : 1 + random_below(INSN_BYTES);
		unsigned mode = random_below(CODE_MODES);
		uint8_t whole[INSN_BYTES + 8], *b = malloc(n);
		struct insn first, second;
		if (random_below(2))
			bytes_random(whole, INSN_BYTES);
		else
			bytes_shaped(whole);
		memcpy(b, whole, n);
		bool exists = decode_insn(b, n, mode, &first);
		known += exists;
		const char *fault = wrong(&first, n);
		if (fault)
			fail(fault, b, n, mode);
		if (exists) {	/* what follows it does not matter */
			bytes_random(b + first.len, n - first.len);
			decode_insn(b, n, mode, &second);
			if (!same(&first, &second))
				fail("decodes otherwise with other bytes behind it", b, n, mode);
		}
		free(b);
	}
	printf("fuzz_decode: %llu of them instructions that this processor has\n",
	       (unsigned long long)known);
	return known > cases / 8 ? 0 : 1;
}
