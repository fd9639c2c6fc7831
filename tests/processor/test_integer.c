/* Integer instructions against the host.
 *
 * For every form of integer_forms.c, operand size, register or memory operand,
 * random instances run natively and in the software processor; registers, flags
 * (but those the manual leaves undefined), RIP, scratch memory, and of faults
 * the vector, error code and address must agree. Memory operands lie anywhere
 * in two pages, often across their boundary; now and then a page is missing or
 * read-only, or the address is not canonical.
 *
 * test_integer [instances per combination] [seed] [form's name]; or NESTOR_SEED. */
#include "integer_forms.h"
#include "random.h"
#include "tier0.h"

#include "base/bits.h"
#include "x86/registers.h"
#include "x86/processor_state.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum {
	INSTANCES = 1000, MISMATCHES_SHOWN = 20,
	MARGIN = 512,		/* operands begin this far inside scratch memory */
	HANDY = NATIVE_SCRATCH_SIZE - 2 * MARGIN,
};

/* One instance: bytes, registers, and what else has to be set up. */
struct instance {
	const struct form *form;
	unsigned size;		/* operand size in bytes */
	bool memory, address_32;
	uint8_t bytes[NATIVE_INSN_MAX];
	unsigned length;
	struct native_state state;
	uint64_t target;	/* address of the memory operand */
	int protection[2];	/* of the scratch pages */
	bool reserved[16];	/* registers whose value is settled */
};

static void put(struct instance *t, uint64_t value, unsigned bytes)
{
	for (unsigned n = 0; n < bytes; n++)
		t->bytes[t->length++] = (uint8_t)(value >> 8 * n);
}

/* Where the memory operand lies, and how its pages are. */
static void choose_target(struct instance *t)
{
	enum { WIDEST = 32 };
	t->protection[0] = t->protection[1] = PROT_READ | PROT_WRITE;
	t->target = NATIVE_SCRATCH + MARGIN + below(HANDY);
	if (one_in(3))
		t->target &= ~(uint64_t)15;
	else if (one_in(3))
		t->target = NATIVE_SCRATCH + NATIVE_PAGE - 1 - below(WIDEST);
	if (one_in(12)) {
		t->protection[below(2)] = one_in(3) ? PROT_READ : PROT_NONE;
		if (!one_in(4))
			t->target = NATIVE_SCRATCH + NATIVE_PAGE - 1 - below(WIDEST);
	}
}

/* ModRM, SIB and displacement of a memory operand at t->target; returns REX.X
 * and REX.B bits. `tail`: bytes behind the displacement (RIP-relative). */
struct address {
	uint8_t modrm, sib, rex;
	bool has_sib, rip_relative;
	unsigned disp_size;
	int32_t disp;
};

static unsigned free_register(const struct instance *t)
{
	unsigned r;
	do
		r = below(16);
	while (t->reserved[r]);
	return r;
}

static struct address choose_address(struct instance *t, unsigned reg)
{
	struct address a = { .modrm = (uint8_t)((reg & 7) << 3) };
	unsigned base, index = RSP /* none */, scale = 0;
	uint64_t rest;

	switch (below(8)) {
	case 0:		/* RIP-relative */
		a.modrm |= 5;
		a.rip_relative = true;
		a.disp_size = 4;
		return a;
	case 1:		/* absolute */
		a.modrm |= 4;
		a.has_sib = true;
		a.sib = 0x25;
		a.disp_size = 4;
		a.disp = (int32_t)t->target;
		return a;
	default:
		break;
	}
	base = free_register(t);
	if (one_in(2)) {
		do
			index = below(16);
		while (index == RSP || index == base);
		scale = below(4);
		if (!t->reserved[index])
			t->state.gpr[index] = one_in(2) ? below(64) : random64();
		t->reserved[index] = true;
	}
	switch (below(3)) {
	case 0: a.disp_size = 0; break;
	case 1: a.disp_size = 1; a.disp = (int8_t)random64(); break;
	default: a.disp_size = 4; a.disp = (int32_t)random64(); break;
	}
	if (a.disp_size == 0 && (base & 7) == RBP)
		a.disp_size = 1;
	rest = t->target - (uint64_t)(int64_t)a.disp;
	if (index != RSP)
		rest -= t->state.gpr[index] << scale;
	/* 32-bit addresses do not see the upper half. */
	t->state.gpr[base] = t->address_32 ? (uint32_t)rest | random64() << 32 : rest;
	t->reserved[base] = true;
	a.modrm |= (uint8_t)((a.disp_size == 0 ? 0 : a.disp_size == 1 ? 1 : 2) << 6);
	a.rex = (uint8_t)(base >> 3);
	if (index != RSP || (base & 7) == RSP) {
		a.has_sib = true;
		a.modrm |= 4;
		a.sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
		a.rex |= (uint8_t)(index >> 3 << 1);
	} else {
		a.modrm |= (uint8_t)(base & 7);
	}
	return a;
}

static unsigned imm_size(const struct form *f, unsigned size)
{
	switch (f->imm) {
	case IMM_8: return 1;
	case IMM_16: return 2;
	case IMM_Z: return size < 4 ? size : 4;
	case IMM_V: return size;
	case IMM_16_8: return 3;
	default: return 0;
	}
}

static uint64_t choose_immediate(const struct instance *t, unsigned bytes)
{
	enum { ENTER_ALLOCATION = 256, RET_DROP = 256 };
	switch (t->form->imm) {
	case IMM_16: return below(RET_DROP);
	case IMM_16_8: return below(ENTER_ALLOCATION) | (uint64_t)(one_in(2) ? 0 : below(40)) << 16;
	default: return bits_trim(random_value(), bytes);
	}
}

/* REX or VEX, opcode, ModRM and so on. rm: register number, or the address. */
static void encode(struct instance *t, unsigned reg, unsigned rm, const struct address *a, unsigned vvvv,
		   bool lock, uint8_t repeat)
{
	static const uint8_t pp_of[256] = { [0x66] = 1, [0xf3] = 2, [0xf2] = 3 };
	const struct form *f = t->form;
	unsigned imm = imm_size(f, t->size);
	uint8_t rex = (uint8_t)((reg >> 3) << 2 | (a ? a->rex : rm >> 3));
	uint8_t opcode = f->opcode;
	bool has_modrm = f->flags & (RM | SLASH_R), byte_rex = false;
	bool force_64 = f->care >= STACK && f->care <= RELATIVE;

	if (f->flags & CONDITION)
		opcode += (uint8_t)below(16);
	if (f->flags & OPCODE_REG)
		opcode += rm & 7;
	static const uint8_t ignored_segment[] = { 0x26, 0x2e, 0x36, 0x3e };

	if (t->address_32)
		put(t, 0x67, 1);
	/* 64-bit mode ignores these overrides. */
	if (f->care != RELATIVE && one_in(16))
		put(t, ignored_segment[below(ARRAY_SIZE(ignored_segment))], 1);
	if (lock)
		put(t, 0xf0, 1);
	if (repeat)
		put(t, repeat, 1);
	if (f->flags & VEX) {
		put(t, 0xc4, 1);
		put(t, (uint8_t)((~rex & 4) << 5 | (~rex & 2) << 5 | (~rex & 1) << 5 | f->map), 1);
		put(t, (uint8_t)((t->size == 8) << 7 | (~vvvv & 15) << 3 | pp_of[f->prefix]), 1);
		put(t, opcode, 1);
	} else {
		if (t->size == 2)
			put(t, 0x66, 1);
		if (f->prefix)
			put(t, f->prefix, 1);
		if (t->size == 8 && !force_64)
			rex |= 8;
		/* Byte registers: SPL.. need a REX, AH.. need none. */
		if (f->flags & BYTE_RM)
			byte_rex = one_in(2);
		if (rex || byte_rex)
			put(t, 0x40 | rex, 1);
		if (f->map != MAP_1)
			put(t, 0x0f, 1);
		if (f->map == MAP_0F38)
			put(t, 0x38, 1);
		else if (f->map == MAP_0F3A)
			put(t, 0x3a, 1);
		put(t, opcode, 1);
	}
	if (has_modrm && a) {
		int32_t disp = a->disp;
		put(t, a->modrm, 1);
		if (a->has_sib)
			put(t, a->sib, 1);
		if (a->rip_relative)
			disp = (int32_t)(t->target - (NATIVE_INSN + t->length + 4 + imm));
		put(t, (uint32_t)disp, a->disp_size);
	} else if (has_modrm) {
		put(t, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)), 1);
	}
	if (f->care == MOFFS)
		put(t, t->target, 8);
	if (f->care == RELATIVE) {
		uint64_t to = imm == 1 ? NATIVE_LANDING_NEAR : NATIVE_LANDING;
		put(t, to - (NATIVE_INSN + t->length + imm), imm);
	} else {
		put(t, choose_immediate(t, imm), imm);
	}
}

static void both_write(uint64_t linear, uint64_t value, unsigned size)
{
	uint64_t at = linear - NATIVE_SCRATCH;
	if (at > NATIVE_SCRATCH_SIZE - size)
		return;
	memcpy(native_scratch() + at, &value, size);
	memcpy(tier0_scratch() + at, &value, size);
}

static uint64_t scratch_read(uint64_t linear, unsigned size)
{
	uint64_t at = linear - NATIVE_SCRATCH, value = 0;
	if (at <= NATIVE_SCRATCH_SIZE - size)
		memcpy(&value, native_scratch() + at, size);
	return value;
}

static void settle(struct instance *t, unsigned reg, uint64_t value)
{
	t->state.gpr[reg] = value;
	t->reserved[reg] = true;
}

static void prepare(struct instance *t, unsigned reg)
{
	enum { BIT_SPAN = MARGIN * 8 - 64, STRING_LONGEST = 48 };
	uint64_t *g = t->state.gpr;

	switch (t->form->care) {
	case BIT_STRING:
		settle(t, reg, (uint64_t)((int64_t)below(2 * BIT_SPAN) - BIT_SPAN) |
		       (t->size == 8 ? 0 : one_in(2) ? random64() << 8 * t->size : 0));
		if (t->size < 8 && one_in(2))	/* the sign is the operand size's */
			g[reg] = bits_trim(g[reg], t->size);
		break;
	case DIVISION:
		g[RDX] = one_in(3) ? 0 : one_in(2) ? random64() >> below(64) :
			(uint64_t)(sign_extend(g[RAX], 8 * t->size) >> 63);
		if (t->size == 1 && one_in(2))
			g[RAX] = one_in(2) ? below(4096) : (uint64_t)-(int64_t)below(4096);
		break;
	case FRAME:
		settle(t, RBP, NATIVE_SCRATCH + MARGIN + below(HANDY));
		/* fall through */
	case STACK:
	case FLAGS_IMAGE:
	case TARGET:
	case RETURN:
	case RELATIVE:
		settle(t, RSP, t->target);
		if (t->form->care == RELATIVE && one_in(4))
			g[RCX] = below(3);
		break;
	case STRING:
		choose_target(t);
		settle(t, RSI, t->target);
		settle(t, RDI, one_in(3) ? t->target + below(16) - 8 : NATIVE_SCRATCH + MARGIN + below(HANDY));
		settle(t, RCX, below(STRING_LONGEST));
		if (t->address_32)
			for (unsigned n = RCX; n <= RDI; n++)
				if (t->reserved[n])
					g[n] |= random64() << 32;
		break;
	case TABLE:
		settle(t, RBX, t->target - (uint8_t)g[RAX]);
		break;
	default:
		break;
	}
}

/* Contents that depend on where the operand is. */
static void prepare_memory(struct instance *t, unsigned rm)
{
	uint64_t *g = t->state.gpr;
	unsigned width = t->size;

	switch (t->form->care) {
	case EXCHANGE:
		if (!one_in(2))
			break;
		if (t->form->flags & SLASH_R) {
			uint64_t old = t->memory ? scratch_read(t->target, width) : g[rm];
			if (!t->reserved[RAX])
				g[RAX] = width == 8 ? old : (g[RAX] & ~0ull << 8 * width) | bits_trim(old, width);
		} else {
			both_write(t->target, g[RAX], width);
			both_write(t->target + width, g[RDX], width);
		}
		break;
	case FLAGS_IMAGE:
		both_write(g[RSP], random64() & (FLAGS_ARITH | FLAG_DF | FLAG_ID | FLAG_IF), 8);
		break;
	case TARGET:
		if (t->memory)
			both_write(t->target, NATIVE_LANDING, 8);
		else
			g[rm] = NATIVE_LANDING;
		break;
	case RETURN:
		both_write(g[RSP], NATIVE_LANDING, 8);
		break;
	case STRING:
		/* Equal stretches, so that comparisons go on for a while. */
		if (one_in(2))
			for (unsigned n = 0; n < 64; n++) {
				both_write((uint32_t)g[RSI] - 128 + 4 * n, 0x01010101, 4);
				both_write((uint32_t)g[RDI] - 128 + 4 * n, 0x01010101, 4);
			}
		if (one_in(2))
			g[RAX] = 0x0101010101010101ull;
		break;
	default:
		break;
	}
}

static bool make(struct instance *t, const struct form *f, unsigned size, bool memory)
{
	unsigned reg = below(16), rm = below(16), vvvv = f->flags & VVVV ? below(16) : 0;
	struct address a;
	bool lock = memory && f->flags & LOCK && one_in(4);
	uint8_t repeat = 0;

	memset(t, 0, sizeof *t);
	t->form = f;
	t->size = size;
	t->memory = memory;
	t->address_32 = one_in(8) && (memory || f->care == STRING || f->care == TABLE ||
				      (f->care == RELATIVE && f->imm == IMM_8));
	for (unsigned n = 0; n < 16; n++)
		t->state.gpr[n] = random_value();
	t->state.rflags = FLAG_FIXED | FLAG_IF | (random64() & FLAGS_ARITH);
	if (f->care == STRING)
		t->state.rflags |= one_in(3) ? FLAG_DF : 0;
	choose_target(t);
	if (!(f->flags & SLASH_R))
		reg = f->digit;
	prepare(t, reg);
	if (f->care == STRING && !one_in(4))
		repeat = one_in(2) ? 0xf3 : 0xf2;
	if (f->care == EXCHANGE && !(f->flags & SLASH_R))
		t->reserved[RAX] = t->reserved[RDX] = true;
	if (memory && f->care >= STACK && f->care <= TARGET) {
		choose_target(t);	/* the operand's place, apart from the stack */
		if (!one_in(4))
			t->protection[0] = t->protection[1] = PROT_READ | PROT_WRITE;
	}
	if (memory && f->flags & RM)
		a = choose_address(t, reg);
	/* An indirect branch through RSP as a register would need it twice. */
	if (!memory && f->care == TARGET && rm == RSP)
		rm = RAX;
	if (memory && f->care == PLAIN && !t->address_32 && one_in(100) && !a.rip_relative && a.sib != 0x25)
		t->state.gpr[(a.has_sib ? a.sib & 7 : a.modrm & 7) | (unsigned)(a.rex & 1) << 3] ^=
			1ull << (48 + below(14));	/* not canonical */
	prepare_memory(t, rm);
	encode(t, reg, rm, memory && f->flags & RM ? &a : NULL, vvvv, lock, repeat);
	return t->length <= NATIVE_INSN_MAX;
}

/* --- running and comparing --- */

static ZydisDecoder decoder;

/* Flags that the manual leaves undefined for this instruction. */
static uint64_t undefined_flags(const struct instance *t)
{
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, t->bytes, t->length, &zi, op))) {
		printf("%s: the decoder refuses what the test made\n", t->form->name);
		return 0;
	}
	return zi.cpu_flags ? zi.cpu_flags->undefined : 0;
}

static void show(const struct instance *t, const struct native_state *s, const struct native_result *r,
		 const char *who)
{
	static const char *const name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	printf("  %-8s", who);
	for (unsigned n = 0; n < 16; n++)
		if (s->gpr[n] != t->state.gpr[n] || !strcmp(who, "before"))
			printf(" %s=%llx", name[n], (unsigned long long)s->gpr[n]);
	printf(" rflags=%llx rip=%llx", (unsigned long long)s->rflags, (unsigned long long)s->rip);
	if (r && r->faulted)
		printf(" vector %u error %x address %llx", r->vector, r->error, (unsigned long long)r->address);
	printf("\n");
}

/* Where processors differ and the manual leaves it open: which of CMPS's two
 * operands is read, and faults, first. */
static bool order_is_open(const struct instance *t, const struct native_result *n,
			  const struct native_result *s)
{
	enum { CMPSB = 0xa6 };
	return t->form->care == STRING && (t->form->opcode & ~1) == CMPSB && n->vector == EXC_PF &&
		s->vector == EXC_PF;
}

static const char *compare(const struct instance *t, const struct native_state *n,
			   const struct native_result *nr, const struct native_state *s,
			   const struct native_result *sr)
{
	uint64_t flags = (FLAGS_ARITH | FLAG_DF | FLAG_ID) & ~(nr->faulted ? 0 : undefined_flags(t));

	if (nr->faulted != sr->faulted || nr->vector != sr->vector)
		return "fault";
	if (nr->faulted && nr->vector == EXC_PF && !order_is_open(t, nr, sr) &&
	    (nr->address != sr->address || nr->error != sr->error))
		return "page fault";
	if (n->rip != s->rip)
		return "rip";
	for (unsigned r = 0; r < 16; r++)
		if (n->gpr[r] != s->gpr[r])
			return "registers";
	if ((n->rflags ^ s->rflags) & flags)
		return "flags";
	return NULL;
}

static unsigned mismatches;

static bool run(const struct instance *t, uint64_t seed)
{
	static int protection[2] = { PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE };
	struct native_state n = t->state, s = t->state;
	struct native_result nr, sr;
	const char *what;

	for (unsigned p = 0; p < 2; p++)
		if (protection[p] != t->protection[p]) {
			protection[p] = t->protection[p];
			native_protect(p, protection[p]);
			tier0_protect(p, protection[p]);
		}
	nr = native_run(t->bytes, t->length, 0, &n);
	sr = tier0_run(t->bytes, t->length, 0, &s);
	what = compare(t, &n, &nr, &s, &sr);
	for (unsigned p = 0; p < 2; p++)
		if (protection[p] != (PROT_READ | PROT_WRITE)) {
			protection[p] = PROT_READ | PROT_WRITE;
			native_protect(p, protection[p]);
			tier0_protect(p, protection[p]);
		}
	if (memcmp(native_scratch(), tier0_scratch(), NATIVE_SCRATCH_SIZE)) {
		if (!what)
			what = "memory";
		memcpy(tier0_scratch(), native_scratch(), NATIVE_SCRATCH_SIZE);
	}
	if (!what)
		return nr.faulted;
	if (mismatches++ < MISMATCHES_SHOWN) {
		printf("MISMATCH of %s: %s, size %u, seed %#llx, bytes", what, t->form->name, t->size,
		       (unsigned long long)seed);
		for (unsigned b = 0; b < t->length; b++)
			printf(" %02x", t->bytes[b]);
		printf(", operand at %llx\n", (unsigned long long)t->target);
		show(t, &t->state, NULL, "before");
		show(t, &n, &nr, "host");
		show(t, &s, &sr, "tier 0");
	}
	return nr.faulted;
}

static unsigned long total;

static void run_form(const struct form *f, unsigned size, bool memory, unsigned instances)
{
	unsigned done = 0, faults = 0;

	for (unsigned k = 0; k < instances; k++) {
		struct instance t;
		uint64_t seed = random_state;
		if (k % 16 == 0)
			for (unsigned n = 0; n < NATIVE_SCRATCH_SIZE; n += 8)
				both_write(NATIVE_SCRATCH + n, random_value(), 8);
		if (!make(&t, f, size, memory))
			continue;
		faults += run(&t, seed);
		done++;
	}
	printf("%-18s %02x %2u bits %-8s %6u instances, %u faulted\n", f->name, f->opcode, size * 8,
	       memory ? "memory" : "register", done, faults);
	total += done;
}

int main(int argc, char **argv)
{
	const char *environment = getenv("NESTOR_SEED");
	unsigned instances = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : INSTANCES;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : environment ?
		strtoull(environment, NULL, 0) : (uint64_t)time(NULL);

	random_state = seed ? seed : 1;
	printf("seed %#llx\n", (unsigned long long)random_state);
	if (!native_start()) {
		printf("The test's fixed addresses are taken.\n");
		return 1;
	}
	tier0_start();
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned n = 0; n < integer_form_count; n++) {
		const struct form *f = &integer_forms[n];
		if (argc > 3 && strcmp(argv[3], f->name))
			continue;
		for (unsigned size = 1; size <= 8; size *= 2) {
			if (!(f->sizes & size))
				continue;
			if (!(f->flags & MEM) || f->flags & REG)
				run_form(f, size, false, instances);
			if (f->flags & MEM)
				run_form(f, size, true, instances);
		}
	}
	printf("%lu instances, %lu of them translated, %u mismatches\n", total, tier0_translations(), mismatches);
	if (getenv("NESTOR_TRANSLATED") && argc <= 3 && tier0_translations() < total / 2)
		mismatches++;	/* the table is not what was meant to be tested */
	return mismatches || !total;
}
