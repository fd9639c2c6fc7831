/* 16- and 32-bit protected mode against the host: the integer instructions that
 * 64-bit mode does not have, segment limits and types, 16-bit addresses and
 * stacks, segment loads, and far transfers at one privilege level.
 *
 * Instances are random encodings of the opcodes in `opcodes`, decoded to learn
 * what has to be arranged (branches lead to the landing, popped flags are legal
 * ones, far pointers name segments that exist, mostly). Everything that can be
 * seen must agree, as in test_integer.c; error codes, too.
 *
 * test_legacy [instances per opcode] [seed] [first opcode [map]]; or NESTOR_SEED. */
#include "random.h"
#include "tier0.h"

#include "base/bits.h"
#include "x86/processor_state.h"
#include "x86/registers.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { INSTANCES = 1500, MISMATCHES_SHOWN = 3 /* per mnemonic */, MAP_1 = 0, MAP_0F = 1, ANY = 0xff };

/* Opcodes first..last; digits: which ModRM.reg values, as a mask. */
static const struct {
	uint8_t map, first, last, digits;
} opcodes[] = {
	{ MAP_1, 0x00, 0x0e, ANY }, { MAP_1, 0x10, 0x25, ANY }, { MAP_1, 0x27, 0x2d, ANY },
	{ MAP_1, 0x2f, 0x35, ANY }, { MAP_1, 0x37, 0x3d, ANY }, { MAP_1, 0x3f, 0x63, ANY },
	{ MAP_1, 0x68, 0x6b, ANY }, { MAP_1, 0x70, 0x8b, ANY },
	{ MAP_1, 0x8c, 0x8c, 0x0f }, { MAP_1, 0x8d, 0x8d, ANY },
	{ MAP_1, 0x8e, 0x8e, 0x0f },	/* not FS and GS: the host's C library needs FS */
	{ MAP_1, 0x8f, 0x9a, ANY }, { MAP_1, 0x9c, 0xcc, ANY }, { MAP_1, 0xce, 0xd7, ANY },
	{ MAP_1, 0xe0, 0xe3, ANY }, { MAP_1, 0xe8, 0xeb, ANY }, { MAP_1, 0xf5, 0xfa, ANY },
	{ MAP_1, 0xfc, 0xff, ANY },
	{ MAP_0F, 0x00, 0x00, 0x30 },	/* VERR, VERW */
	{ MAP_0F, 0x02, 0x03, ANY }, { MAP_0F, 0x1f, 0x1f, ANY }, { MAP_0F, 0x40, 0x4f, ANY },
	{ MAP_0F, 0x80, 0x9f, ANY }, { MAP_0F, 0xa3, 0xa5, ANY }, { MAP_0F, 0xab, 0xad, ANY },
	{ MAP_0F, 0xaf, 0xb3, ANY }, { MAP_0F, 0xb6, 0xb7, ANY }, { MAP_0F, 0xba, 0xc1, ANY },
	{ MAP_0F, 0xc7, 0xc7, 0x02 }, { MAP_0F, 0xc8, 0xcf, ANY },
};

struct instance {
	bool code_16;
	uint8_t bytes[NATIVE_INSN_MAX + 1];
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct native_state state;
	struct legacy_selectors selectors;
};

static ZydisDecoder decoder[2];

/* --- values --- */

static uint16_t any_selector(void)
{
	static const uint16_t gdt[] = { 0, 1, 3, 0x08, 0x10, 0x18, 0x1b, 0x2b, 0x28, 0x5b, 0x63, 0x83, 0xfff3 };
	if (one_in(3))
		return gdt[below(ARRAY_SIZE(gdt))];
	/* one beyond the LDT's end, too */
	return (uint16_t)(below(LEGACY_SEGMENTS + 1) << 3 | 4 | (one_in(4) ? below(4) : 3));
}

static uint16_t pick(const uint8_t *from, unsigned n)
{
	return LEGACY_SELECTOR(from[below(n)]);
}

/* An offset in scratch memory, often near a limit. */
static uint32_t random_offset(void)
{
	switch (below(6)) {
	case 0: return LEGACY_LIMIT - below(12);
	case 1: return LEGACY_SHORT - 6 + below(12);
	case 2: return NATIVE_PAGE - 6 + below(12);
	case 3: return below(LEGACY_SHORT);
	default: return 0x200 + below(LEGACY_LIMIT - 0x400);
	}
}

static uint32_t random_any(void)
{
	switch (below(6)) {
	case 0: return (uint32_t)random_value();
	case 1: return any_selector();
	case 2: return below(64);
	case 3: return random_offset() | (uint32_t)random64() << 16;
	default: return random_offset();
	}
}

/* Linux keeps the processor's number in a segment that LSL can read. */
static uint32_t random_gpr(void)
{
	enum { CPU_NUMBER_SEGMENT = 0x78 };
	uint32_t v = random_any();
	return (v & 0xfffc) == CPU_NUMBER_SEGMENT ? v ^ 0x200 : v;
}

static void both_write(uint32_t offset, uint64_t value, unsigned size)
{
	if (offset > NATIVE_SCRATCH_SIZE - size)
		return;
	memcpy(native_scratch() + offset, &value, size);
	memcpy(tier0_scratch() + offset, &value, size);
}

static void scratch_fill(void)
{
	for (unsigned at = 0; at < NATIVE_SCRATCH_SIZE; at += 2)
		both_write(at, one_in(3) ? any_selector() : random_gpr(), 2);
}

static void bytes_set(struct instance *t, unsigned at, uint64_t value, unsigned size)
{
	for (unsigned n = 0; n < size; n++)
		t->bytes[at + n] = (uint8_t)(value >> 8 * n);
}

/* --- arranging --- */

static uint32_t stack_offset(const struct instance *t)
{
	uint32_t esp = (uint32_t)t->state.gpr[RSP];
	return t->selectors.ss == LEGACY_SELECTOR(LEGACY_STACK16) ||
		t->selectors.ss == LEGACY_SELECTOR(LEGACY_DOWN16) ? esp & 0xffff : esp;
}

static void stack_write(const struct instance *t, unsigned slot, uint64_t value)
{
	unsigned size = t->zi.operand_width / 8;
	both_write(stack_offset(t) + slot * size, value, size);
}

static uint32_t legal_flags(void)
{
	return (uint32_t)(random64() & (FLAGS_ARITH | FLAG_DF | FLAG_ID | FLAG_IF));
}

/* A segment that a far transfer may name: the other code segment, or any. */
static uint16_t far_selector(const struct instance *t)
{
	static const uint8_t bad[] = { LEGACY_DATA, LEGACY_ABSENT_CODE, LEGACY_ABSENT, LEGACY_STACK16 };
	if (!one_in(4))
		return one_in(4) ? (uint16_t)(t->selectors.other & ~below(4)) : t->selectors.other;
	return one_in(2) ? pick(bad, ARRAY_SIZE(bad)) : (uint16_t)(below(4) + (one_in(2) ? 0x18 : 0));
}

static uint32_t far_offset(void)
{
	return one_in(12) ? NATIVE_PAGE + below(64) : LEGACY_LANDING_OFFSET;
}

/* Make the memory operand an absolute one at a place in scratch; false when the
 * bytes cannot be turned so. */
static bool absolute_operand(struct instance *t, uint32_t *offset)
{
	bool narrow = t->zi.address_width == 16;
	*offset = random_offset();
	if (!t->zi.raw.modrm.offset || t->zi.raw.modrm.offset + 5 > NATIVE_INSN_MAX)
		return false;
	t->bytes[t->zi.raw.modrm.offset] = (uint8_t)(t->zi.raw.modrm.reg << 3 | (narrow ? 6 : 5));
	bytes_set(t, t->zi.raw.modrm.offset + 1, *offset, narrow ? 2 : 4);
	return true;
}

static bool decode(struct instance *t)
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder[t->code_16], t->bytes, NATIVE_INSN_MAX,
						   &t->zi, t->op));
}

static bool arrange_indirect(struct instance *t)
{
	unsigned size = t->zi.operand_width / 8;
	uint32_t at;

	if (t->zi.raw.modrm.mod == 3) {
		uint64_t *g = &t->state.gpr[t->zi.raw.modrm.rm];
		*g = size == 2 ? (*g & 0xffff0000) | LEGACY_LANDING_OFFSET : LEGACY_LANDING_OFFSET;
		return true;
	}
	if (!absolute_operand(t, &at) || !decode(t))
		return false;
	if (t->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		both_write(at, far_offset(), size);
		both_write(at + size, far_selector(t), 2);
	} else {
		both_write(at, LEGACY_LANDING_OFFSET, size);
	}
	/* A code segment has other bytes there, which lead anywhere. */
	switch (t->op[0].mem.segment) {
	case ZYDIS_REGISTER_DS: return t->selectors.ds != LEGACY_SELECTOR(LEGACY_CODE32);
	case ZYDIS_REGISTER_ES: return t->selectors.es != LEGACY_SELECTOR(LEGACY_CODE32);
	case ZYDIS_REGISTER_SS: return true;
	default: return false;
	}
}

/* Set up what the decoded instruction needs not to lead astray. */
static bool arrange(struct instance *t)
{
	const ZydisDecodedInstruction *zi = &t->zi;
	uint64_t *g = t->state.gpr;

	if (zi->raw.disp.size)
		bytes_set(t, zi->raw.disp.offset, zi->raw.disp.size == 8 ? random64() :
			  one_in(3) ? random_offset() : below(256) - 128, zi->raw.disp.size / 8);
	if (zi->raw.imm[0].is_relative) {
		unsigned size = zi->raw.imm[0].size / 8;
		bytes_set(t, zi->raw.imm[0].offset,
			  (size == 1 ? LEGACY_LANDING_NEAR_OFFSET : LEGACY_LANDING_OFFSET) -
			  (uint64_t)(LEGACY_INSN_OFFSET + zi->length), size);
	}
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
		if (zi->raw.imm[0].is_relative)
			return true;
		if (t->op[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
			bytes_set(t, zi->raw.imm[0].offset, far_offset(), zi->raw.imm[0].size / 8);
			bytes_set(t, zi->raw.imm[1].offset, far_selector(t), 2);
			return true;
		}
		return arrange_indirect(t);
	case ZYDIS_MNEMONIC_RET:
		if (zi->raw.imm[0].size)
			bytes_set(t, zi->raw.imm[0].offset, below(64), 2);
		stack_write(t, 0, zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? far_offset() :
			    LEGACY_LANDING_OFFSET);
		if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			stack_write(t, 1, far_selector(t));
		return true;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
		stack_write(t, 0, far_offset());
		stack_write(t, 1, far_selector(t));
		stack_write(t, 2, legal_flags());
		return true;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
		stack_write(t, 0, legal_flags());
		return true;
	case ZYDIS_MNEMONIC_POP:
		stack_write(t, 0, any_selector());
		return true;
	case ZYDIS_MNEMONIC_ENTER:
		bytes_set(t, zi->raw.imm[0].offset, below(256), 2);
		bytes_set(t, zi->raw.imm[1].offset, one_in(2) ? 0 : below(40), 1);
		/* fall through */
	case ZYDIS_MNEMONIC_LEAVE:
		g[RBP] = random_offset();
		return true;
	default:
		break;
	}
	if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP) {
		g[RCX] = below(40) | (zi->address_width == 16 ? (uint32_t)random64() << 16 : 0);
		g[RSI] = random_offset() | (zi->address_width == 16 ? (uint32_t)random64() << 16 : 0);
		g[RDI] = random_offset() | (zi->address_width == 16 ? (uint32_t)random64() << 16 : 0);
	}
	return true;
}

static bool make(struct instance *t, uint8_t map, uint8_t opcode, uint8_t digits)
{
	static const uint8_t override[] = { 0x26, 0x2e, 0x36, 0x3e };
	static const uint8_t code[] = { LEGACY_OTHER32, LEGACY_OTHER16,
		LEGACY_EXECUTE_ONLY32 };
	static const uint8_t data[] = { LEGACY_DATA, LEGACY_DATA, LEGACY_DATA_SHORT, LEGACY_READ_ONLY,
		LEGACY_DOWN, LEGACY_DOWN16, LEGACY_BIG, LEGACY_CODE32 };
	static const uint8_t stack[] = { LEGACY_DATA, LEGACY_DATA, LEGACY_STACK16, LEGACY_STACK16,
		LEGACY_DATA_SHORT, LEGACY_DOWN, LEGACY_DOWN16, LEGACY_BIG };
	unsigned n = 0;

	memset(t, 0, sizeof *t);
	t->code_16 = one_in(2);
	for (unsigned r = 0; r < 8; r++)
		t->state.gpr[r] = random_gpr();
	t->state.rflags = FLAG_FIXED | FLAG_IF | (random64() & FLAGS_ARITH) | (one_in(4) ? FLAG_DF : 0);
	t->selectors = (struct legacy_selectors){
		.cs = LEGACY_SELECTOR(t->code_16 ? LEGACY_CODE16 : LEGACY_CODE32),
		.ds = one_in(20) ? below(4) : pick(data, ARRAY_SIZE(data)),
		.es = one_in(20) ? below(4) : pick(data, ARRAY_SIZE(data)),
		.ss = pick(stack, ARRAY_SIZE(stack)), .other = pick(code, ARRAY_SIZE(code)),
	};
	t->state.gpr[RSP] = random_offset();
	if (t->selectors.ss == LEGACY_SELECTOR(LEGACY_STACK16) ||
	    t->selectors.ss == LEGACY_SELECTOR(LEGACY_DOWN16))
		t->state.gpr[RSP] |= (uint32_t)random64() << 16;
	if (one_in(3))
		t->bytes[n++] = 0x66;
	if (one_in(4))
		t->bytes[n++] = 0x67;
	if (one_in(6))
		t->bytes[n++] = override[below(ARRAY_SIZE(override))];
	if (map == MAP_1 && ((opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf)) &&
	    !one_in(3))
		t->bytes[n++] = one_in(2) ? 0xf2 : 0xf3;
	if (map == MAP_0F)
		t->bytes[n++] = 0x0f;
	t->bytes[n++] = opcode;
	while (n < NATIVE_INSN_MAX)
		t->bytes[n++] = (uint8_t)random64();
	if (!decode(t) || t->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || (t->zi.raw.modrm.offset && !(digits >> t->zi.raw.modrm.reg & 1)))
		return false;
	return arrange(t) && decode(t);
}

/* --- running and comparing --- */

struct outcome {
	struct native_state s;
	struct legacy_selectors selectors;
	struct native_result r;
};

static bool pushes_error(unsigned vector)
{
	return (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

/* The host's kernel comes back from faults and interrupts with IRET, which
 * clears the RPL of null selectors. */
static bool same_data_selector(uint16_t host, uint16_t ours)
{
	return host == ours || (host == 0 && ours <= 3);
}

/* Where processors differ and tier 0 follows the SDM, or where it leaves the
 * matter open. */
enum open { OPEN_NOTHING, OPEN_FAULT = 1, OPEN_REGISTERS = 2, OPEN_MEMORY = 4 };

static unsigned open_matters(const struct instance *t, const struct outcome *n, const struct outcome *s)
{
	bool far = t->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	if (!n->r.faulted || !s->r.faulted)
		return OPEN_NOTHING;
	switch (t->zi.mnemonic) {
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		return OPEN_REGISTERS;	/* those popped before the fault */
	case ZYDIS_MNEMONIC_CALL:
		/* #GP for the target's offset before (SDM) or after the pushes. */
		return far ? OPEN_MEMORY | OPEN_FAULT : OPEN_NOTHING;
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
		/* A selector with RPL < CPL: #GP before (SDM) or after more is
		 * popped; and which slot is read first. */
		return s->r.vector == EXC_GP || n->r.vector == EXC_PF ? OPEN_FAULT : OPEN_NOTHING;
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_BOUND:
		/* Two parts: checked together or one after the other. */
		return n->r.vector == EXC_PF ? OPEN_FAULT : OPEN_NOTHING;
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
		return OPEN_FAULT;	/* which operand is read first */
	default:
		return OPEN_NOTHING;
	}
}

static const char *compare(const struct instance *t, const struct outcome *n, const struct outcome *s)
{
	uint64_t undefined = t->zi.cpu_flags && !n->r.faulted ? t->zi.cpu_flags->undefined : 0;

	unsigned open = open_matters(t, n, s);

	if (n->r.faulted != s->r.faulted)
		return "fault";
	if (open & OPEN_FAULT)
		return NULL;
	if (n->r.vector != s->r.vector)
		return "vector";
	if (n->r.faulted && pushes_error(n->r.vector) && n->r.error != s->r.error)
		return "error code";
	if (n->r.faulted && n->r.vector == EXC_PF && n->r.address != s->r.address)
		return "fault address";
	if (n->s.rip != s->s.rip)
		return "rip";
	for (unsigned r = 0; r < 8; r++)
		if (n->s.gpr[r] != s->s.gpr[r] && !(open & OPEN_REGISTERS))
			return "registers";
	if ((n->s.rflags ^ s->s.rflags) & (FLAGS_ARITH | FLAG_DF | FLAG_ID) & ~undefined)
		return "flags";
	if (n->selectors.cs != s->selectors.cs || n->selectors.ss != s->selectors.ss ||
	    !same_data_selector(n->selectors.ds, s->selectors.ds) ||
	    !same_data_selector(n->selectors.es, s->selectors.es))
		return "selectors";
	return NULL;
}

static void show(const struct native_state *s, const struct legacy_selectors *l,
		 const struct native_result *r, const char *who)
{
	static const char *const name[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
	printf("  %-7s", who);
	for (unsigned n = 0; n < 8; n++)
		printf(" %s=%x", name[n], (unsigned)s->gpr[n]);
	printf(" flags=%x eip=%x cs=%x ds=%x es=%x ss=%x", (unsigned)s->rflags, (unsigned)s->rip, l->cs,
	       l->ds, l->es, l->ss);
	if (r && r->faulted)
		printf(" vector %u error %x address %llx", r->vector, r->error, (unsigned long long)r->address);
	printf("\n");
}

static unsigned mismatches;

static bool run(const struct instance *t, uint64_t seed)
{
	static unsigned shown[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	struct outcome n = { .s = t->state, .selectors = t->selectors }, s = n;
	const char *what;

	n.r = native_run_legacy(t->bytes, t->zi.length, &n.s, &n.selectors);
	s.r = tier0_run_legacy(t->bytes, t->zi.length, &s.s, &s.selectors);
	what = compare(t, &n, &s);
	if (memcmp(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE)) {
		if (!what && !(open_matters(t, &n, &s) & OPEN_MEMORY))
			what = "memory";
		memcpy(tier0_scratch(), native_scratch(), NATIVE_SCRATCH_SIZE);
	}
	if (!what)
		return n.r.faulted;
	mismatches++;
	if (shown[t->zi.mnemonic]++ < MISMATCHES_SHOWN) {
		printf("MISMATCH of %s: %s, %u-bit code, seed %#llx, bytes", what,
		       ZydisMnemonicGetString(t->zi.mnemonic), t->code_16 ? 16 : 32, (unsigned long long)seed);
		for (unsigned b = 0; b < t->zi.length; b++)
			printf(" %02x", t->bytes[b]);
		printf("\n");
		show(&t->state, &t->selectors, NULL, "before");
		show(&n.s, &n.selectors, &n.r, "host");
		show(&s.s, &s.selectors, &s.r, "tier 0");
	}
	return n.r.faulted;
}

static unsigned long total;

static void run_opcode(uint8_t map, uint8_t opcode, uint8_t digits, unsigned instances)
{
	enum { PREFIXES = 0xff };
	unsigned done = 0, faults = 0;

	for (unsigned k = 0; k < instances; k++) {
		struct instance t;
		uint64_t seed = random_state;
		if (k % 64 == 0)
			scratch_fill();
		if (!make(&t, map, opcode, digits))
			continue;
		faults += run(&t, seed);
		done++;
	}
	printf("%s%02x %6u instances, %u faulted\n", map == MAP_0F ? "0f " : "", opcode, done, faults);
	total += done;
}

int main(int argc, char **argv)
{
	const char *environment = getenv("NESTOR_SEED");
	unsigned instances = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : INSTANCES;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : environment ?
		strtoull(environment, NULL, 0) : (uint64_t)time(NULL);
	unsigned only = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 16) : 0x100;
	unsigned only_map = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 0) : MAP_1;

	random_state = seed ? seed : 1;
	printf("seed %#llx\n", (unsigned long long)random_state);
	if (!native_start() || !native_legacy_start()) {
		printf("This host gives no LDT, or the test's fixed addresses are taken.\n");
		return 1;
	}
	tier0_start();
	ZydisDecoderInit(&decoder[0], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoder[1], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	for (unsigned n = 0; n < ARRAY_SIZE(opcodes); n++)
		for (unsigned op = opcodes[n].first; op <= opcodes[n].last; op++)
			if (only > 0xff || (only == op && only_map == opcodes[n].map))
				run_opcode(opcodes[n].map, (uint8_t)op, opcodes[n].digits, instances);
	printf("%lu instances, %u mismatches\n", total, mismatches);
	return mismatches || !total;
}
