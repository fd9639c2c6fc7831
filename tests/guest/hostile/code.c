/* Chapters that execute garbage: random bytes in every mode, string
 * instructions without end, code that rewrites itself, stacks at the edges.
 * They run in the cell with the watchdog on. */
#include "hostile.h"

#define CODE (PLAYGROUND + 0x100000)
enum { CODE_SIZE = 0x2000 };

static uint8_t *at;		/* where the generator writes */

static void put(uint8_t b)
{
	*at++ = b;
}

static void put_bytes(uint64_t v, unsigned n)
{
	while (n--) {
		put((uint8_t)v);
		v >>= 8;
	}
}

/* --- one random instruction, mostly with an opcode that exists --- */
static void prefixes(void)
{
	static const uint8_t prefix[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 };
	while (one_in(3))
		put(prefix[random_below(sizeof prefix)]);
	if (one_in(2))
		put((uint8_t)(0x40 | random_below(16)));	/* REX, or INC and DEC */
}

static void random_instruction(void)
{
	switch (random_below(8)) {
	case 0:		/* one byte and ModRM */
		prefixes();
		put((uint8_t)random_next());
		break;
	case 1:
	case 2:
		prefixes();
		put(0x0f);
		put((uint8_t)random_next());
		break;
	case 3:
		prefixes();
		put(0x0f);
		put(one_in(2) ? 0x38 : 0x3a);
		put((uint8_t)random_next());
		break;
	case 4:		/* VEX, three bytes */
		put(0xc4);
		put((uint8_t)(0xe0 | (one_in(16) ? random_below(32) : 1 + random_below(3))));
		put((uint8_t)random_next());
		put((uint8_t)random_next());
		break;
	case 5:
		put(0xc5);
		put((uint8_t)random_next());
		put((uint8_t)random_next());
		break;
	case 6:		/* x87 */
		put((uint8_t)(0xd8 | random_below(8)));
		break;
	default:
		put_bytes(random_next(), 1 + random_below(8));
		break;
	}
	put((uint8_t)(one_in(2) ? random_next() : (random_next() & 0x3f) | (one_in(2) ? 0xc0 : 0)));
	if (one_in(2))
		put_bytes(random_next(), random_below(6));
}

void random_code(uint8_t *start, unsigned n)
{
	at = start;
	while (at < start + n)
		random_instruction();
}

static word random_register(void)
{
	return one_in(2) ? (word)random_value() : random_address();
}

enum mode { KERNEL, KERNEL16, USER, USER16, KERNEL32, USER32, VIRTUAL_8086, MODES };
static const struct { uint8_t code, data; bool base; } modes[MODES] = {
	[KERNEL] = { SEL_KCODE, SEL_KDATA, false },
	[KERNEL16] = { SEL_KCODE16, SEL_KDATA16, false },
	[USER] = { SEL_UCODE, SEL_UDATA, false },
	[USER16] = { SEL_UCODE16, SEL_UDATA16, true },
	[KERNEL32] = { SEL_KCODE32, SEL_KDATA, false },
	[USER32] = { SEL_UCODE32, SEL_UDATA, false },
};

/* Into code at `ip` of the playground with registers of garbage. */
static _Noreturn void go(enum mode mode, word ip, word sp, word flags)
{
	static struct entry e;
	fill_random(&e, sizeof e / 8 * 8);
	for (word *p = (word *)&e; p < &e.ds; p++)
		*p = random_register();
	e.cx = one_in(2) ? random_below(1000) : random_register();
	e.ds = e.es = one_in(16) ? 0 : modes[mode].data;
	e.cr3 = cell_cr3;
	e.cs = modes[mode].code;
	e.ss = modes[mode].data;
	e.ip = modes[mode].base ? ip - PLAYGROUND : ip;
	if (mode == KERNEL16)
		e.ip = ip & 0xfff0;
	e.sp = sp;
	e.flags = flags;
	if (mode == VIRTUAL_8086) {
		e.cs = 0x800;
		e.ip = ip & 0x3ff0;
		e.ss = random_below(0x9000);
		e.v86_es = random_below(0x10000);
		e.v86_ds = random_below(0x10000);
		e.ds = e.es = 0;
		e.flags |= FLAG_VM;
	}
	watchdog_start();
	enter(&e);
}

static word random_stack(void)
{
	switch (random_below(4)) {
	case 0: return random_below(16);
	case 1: return random_address();
	default: return PLAYGROUND + 0x8000 + random_below(4096);
	}
}

static enum mode random_mode(void)
{
	enum mode m = random_below(MODES);
	return m == VIRTUAL_8086 && sizeof(word) == 8 ? USER32 : m;
}

static word random_flags(void)
{
	word f = 2 | (one_in(2) ? FLAG_IF : 0);
	if (one_in(8))
		f |= FLAG_TF;
	if (one_in(4))
		f |= (word)random_next() & (0x8d5 | FLAG_DF | FLAG_AC | FLAG_ID | FLAG_RF | FLAG_IOPL(3));
	return f;
}

/* 16-bit code runs from low memory, which base 0 reaches. */
static uint8_t *code_place(enum mode mode)
{
	return mode == KERNEL16 || mode == VIRTUAL_8086 ? (uint8_t *)0x8000 :
		mode == USER16 ? (uint8_t *)PLAYGROUND + 0x4000 : (uint8_t *)CODE;
}

static void code_in(enum mode mode)
{
	uint8_t *start = code_place(mode);
	random_code(start, 512);
	fill_random((void *)(PLAYGROUND + 0x8000), 4096);
	word ip = (word)start + (one_in(2) ? 0 : random_below(512));
	if (mode == KERNEL || mode == USER) {
		if (one_in(16)) {	/* across, or off, the end of something */
			static const word edges[] = { CODE + 0x1000, PLAYGROUND + PLAYGROUND_SIZE, -(word)1, 0xa0000, IO_APIC };
			word edge = edges[random_below(ARRAY_SIZE(edges))];
			ip = edge - random_below(16);
			if (edge == CODE + 0x1000)
				fill_random((void *)(CODE + 0xf00), 0x200);
		}
	}
	go(mode, ip, random_stack(), random_flags());
}

static void code(void)
{
	/* In ring 0 garbage soon destroys what the next case needs. */
	enum mode m = random_mode();
	if (m == KERNEL || m == KERNEL16 || m == KERNEL32)
		m = one_in(8) ? m : sizeof(word) == 8 ? USER : VIRTUAL_8086;
	code_in(m);
}

static void code_kernel(void)
{
	static const enum mode kernel[] = { KERNEL, KERNEL16, KERNEL32 };
	code_in(kernel[random_below(3)]);
}

/* --- repeated string instructions --- */
static void strings(void)
{
	static const uint8_t opcodes[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f };
	enum mode m = random_mode();
	uint8_t *start = code_place(m);
	at = start;
	for (unsigned n = 0; n < 8; n++) {
		if (one_in(4))
			put(0xfd);		/* STD */
		else if (one_in(4))
			put(0xfc);
		if (one_in(3))
			put(0x67);
		if (one_in(3))
			put(0x66);
		put(one_in(2) ? 0xf3 : 0xf2);
		if (m == KERNEL && sizeof(word) == 8 && one_in(2))
			put(0x48);
		put(opcodes[random_below(m >= USER ? 10 : sizeof opcodes)]);
	}
	put(0xcc);
	go(m, (word)start, random_stack(), random_flags() & ~(word)FLAG_TF);
}

/* --- code that rewrites itself, its page neighbours, or what comes next --- */
static void self_modifying(void)
{
	enum mode m = one_in(2) ? USER : KERNEL;
	word base = CODE + 0xfc0 + random_below(0x80);	/* often across a page */
	at = (uint8_t *)base;
	put(0xbf);			/* mov edi, somewhere in or near this code */
	put_bytes(base + random_below(96), 4);
	put(0xb9);			/* mov ecx, times */
	put_bytes(random_below(200), 4);
	uint8_t *loop = at;
	for (unsigned n = 0; n < 12; n++) {
		switch (random_below(7)) {
		case 0: put(0xaa); break;			/* stosb */
		case 1: put(0xab); break;			/* stosd */
		case 2: put(0x80); put(0x07); put((uint8_t)random_next()); break;	/* add byte [edi], n */
		case 3: put(0xf0); put(0xff); put(0x07); break;	/* lock inc dword [edi] */
		case 4: put(0xff); put(0xc0); break;		/* inc eax */
		case 5: put(0x83); put(0xef); put((uint8_t)random_below(8)); break;	/* sub edi, n */
		default: put(0xf3); put(0x0f); put(0x7f); put(0x07); break;	/* movdqu [edi], xmm0 */
		}
	}
	put(0xe2);			/* loop */
	put((uint8_t)(loop - at - 1));
	put(0xcc);
	go(m, base, PLAYGROUND + 0x8800, 2);
}

/* --- stacks at the edges --- */
static void stacks(void)
{
	static const uint8_t user_of_stack[][4] = {
		{ 0x50, 0x50, 0x58, 0x58 }, { 0x9c, 0x9d, 0x9c, 0x9d }, { 0xc8, 0xff, 0xff, 31 },
		{ 0xc8, 16, 0, 3 }, { 0xc9, 0xc9, 0xc9, 0xc9 }, { 0xe8, 0, 0, 0 }, { 0xc2, 0xff, 0xff, 0xcc },
		{ 0xcb, 0xcb, 0xcb, 0xcb }, { 0xcf, 0xcf, 0xcf, 0xcf }, { 0x60, 0x61, 0x60, 0x61 },
		{ 0xca, 4, 0, 0xcc }, { 0x66, 0x50, 0x66, 0x58 }, { 0xcd, 0x20, 0xcd, 0x80 },
		{ 0x0f, 0x05, 0x0f, 0x34 }, { 0x0f, 0x07, 0x0f, 0x35 }, { 0x8e, 0xd0, 0x50, 0x50 },
	};
	static const word tops[] = { 0, 1, 2, 4, 7, 8, 0x10, 0xffff, 0x10000, 0xfffffffc, 0xffffffff,
		PLAYGROUND, PLAYGROUND + PLAYGROUND_SIZE, IO_APIC + 4, LOCAL_APIC + 8, 0xa0004, (word)-8, (word)-1 };
	enum mode m = random_mode();
	uint8_t *start = code_place(m);
	at = start;
	for (unsigned n = 0; n < 8; n++) {
		const uint8_t *b = user_of_stack[random_below(ARRAY_SIZE(user_of_stack))];
		for (unsigned k = 0; k < 4; k++)
			put(b[k]);
	}
	put(0xcc);
	go(m, (word)start, tops[random_below(ARRAY_SIZE(tops))] + random_below(3) - 1, random_flags());
}

#ifndef __x86_64__
/* --- real mode: random bytes from 8000h, with nothing but the IVT --- */
extern const uint8_t real_blob[], real_blob_end[], real_enter[];
static void real(void)
{
	enum { BLOB = 0x500, START = 0x8000, IVT_ENTRIES = 256 };
	copy((void *)BLOB, real_blob, (size_t)(real_blob_end - real_blob));
	for (unsigned n = 0; n < IVT_ENTRIES; n++)
		mmio_write(4 * n, BLOB);
	random_code((uint8_t *)START, 512);
	watchdog_start();
	asm volatile("mov %%cr0, %%edi; and $0x7fffffff, %%edi; mov %%edi, %%cr0\n"	/* no paging */
		     "push %4; push %5; lret" ::
		     "b"(random_below(0x9000)), "c"(random_below(0x10000)), "d"(random_below(0x9000)),
		     "S"(random_below(0x10000)), "i"(SEL_KCODE16),
		     "a"(BLOB + (word)(real_enter - real_blob)) : "memory");
}
#endif

const struct chapter code_chapters[] = {
	{ "code", code }, { "code-kernel", code_kernel }, { "strings", strings },
	{ "self-modifying", self_modifying }, { "stacks", stacks },
#ifndef __x86_64__
	{ "real", real },
#endif
	{ 0 },
};
