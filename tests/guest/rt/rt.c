#include "rt.h"

#include <stdarg.h>

enum { COM1 = 0x3f8, LINE_STATUS = 5, THR_EMPTY = 0x20, DEBUG_EXIT = 0xf4 };
/* What goes to port F4h: the program's status is (v << 1 | 1) & 0xff, so 0
 * becomes 1: everything passed. */
enum { EXIT_PASSED = 0, EXIT_FAILED_MAX = 100, EXIT_NO_RULE = 120 };

uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(16)));
struct gate idt[256] __attribute__((aligned(16)));
struct tss tss __attribute__((aligned(16)));
uint8_t user_stack[8192] __attribute__((aligned(16)));
static uint8_t interrupt_stack[16384] __attribute__((aligned(16)));
extern uint32_t boot_information;
extern const uint8_t vector_entries[], guest_user_return[];
extern const struct rule rules_start[], rules_end[];

/* --- text --- */
static void put(char c)
{
	while (!(inb(COM1 + LINE_STATUS) & THR_EMPTY))
		;
	outb(COM1, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base)
{
	/* No 64-bit division in the 32-bit guests: decimal is 32 bits wide. */
	char text[24];
	unsigned n = 0;
	if (base == 16)
		do {
			text[n++] = "0123456789abcdef"[v & 15];
		} while (v >>= 4);
	else {
		uint32_t small = (uint32_t)v;
		do {
			text[n++] = (char)('0' + small % 10);
		} while (small /= 10);
	}
	while (n)
		put(text[--n]);
}

static void print_list(const char *f, va_list a)
{
	for (; *f; f++) {
		unsigned l = 0;
		if (*f != '%') {
			put(*f);
			continue;
		}
		while (*++f == 'l')
			l++;
		if (*f == 's')
			for (const char *s = va_arg(a, const char *); *s; s++)
				put(*s);
		else if (*f == 'c')
			put((char)va_arg(a, int));
		else if (*f == 'd' || *f == 'u' || *f == 'x') {
			uint64_t v = l == 2 ? va_arg(a, uint64_t) : l ? va_arg(a, unsigned long) :
				va_arg(a, unsigned);
			if (*f == 'd' && !l && (int32_t)v < 0) {
				put('-');
				v = (uint32_t)-(int32_t)v;
			}
			put_number(v, *f == 'x' ? 16 : 10);
		}
	}
}

void print(const char *format, ...)
{
	va_list a;
	va_start(a, format);
	print_list(format, a);
	va_end(a);
}

void memory_fill(void *at, uint8_t v, size_t n)
{
	for (uint8_t *p = at; n; n--)
		*(volatile uint8_t *)p++ = v;
}

void memory_copy(void *to, const void *from, size_t n)
{
	const uint8_t *f = from;
	for (uint8_t *p = to; n; n--)
		*(volatile uint8_t *)p++ = *f++;
}

/* gcc makes calls of these. */
void *memset(void *at, int v, size_t n);
void *memset(void *at, int v, size_t n)
{
	memory_fill(at, (uint8_t)v, n);
	return at;
}
void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
	memory_copy(to, from, n);
	return to;
}

void guest_exit(uint32_t status)
{
	for (;;)
		outl(DEBUG_EXIT, status);
}

/* --- expectations --- */
static unsigned rule_failures;
static const struct rule *current;
static const char *skipped;
const char *chapter_suffix = "";

/* False: enough said about this rule. */
static bool rule_failed(void)
{
	enum { SAID_MAX = 4 };
	if (!rule_failures++)
		print("not ok - %s%s: %s: ", chapter, chapter_suffix, current->name);
	else if (rule_failures <= SAID_MAX)
		print("#        also: ");
	return rule_failures <= SAID_MAX;
}

void expect_(const char *what, int line, uint64_t got, uint64_t wanted)
{
	if (got == wanted || !rule_failed())
		return;
	print("line %d: %s: expected %llx, got %llx", line, what, wanted, got);
	if (event.vector != NONE)
		print(" (last event %d, error %lx, at %lx, cr2 %lx)", event.vector, event.error,
		      event.frame.ip, event.cr2);
	print("\n");
}

void skip(const char *why)
{
	skipped = why;
}

/* --- events --- */
struct event event;
bool (*event_hook)(struct frame *);
struct jump catch_jump;
volatile bool catching;
static struct jump rule_jump;
void guest_event(struct frame *f);
void guest_event(struct frame *f)
{
	uint16_t ss;
	if (event_hook && event_hook(f)) {
		event.count++;
		return;
	}
	asm volatile("mov %%ss, %0" : "=r"(ss));
	event.vector = (int)f->vector;
	event.error = f->error;
	event.cr2 = cr2();
	event.dr6 = dr6();
	event.handler_sp = (word)f;
	event.handler_ss = ss;
	event.count++;
	memory_copy(&event.frame, f, sizeof event.frame);
	if (catching) {
		catching = false;
		guest_longjmp(&catch_jump);
	}
	if (rule_failed())
		print("unexpected event %d, error %lx, at %lx:%lx, cr2 %lx\n", event.vector, f->error, f->cs, f->ip,
		      event.cr2);
	guest_longjmp(&rule_jump);
}

void catch_begin(void)
{
	event.vector = NONE;
	event.error = 0;
	event.count = 0;
}

void catch_end(void)
{
	catching = false;
}

int run_frame(const struct entry_frame *f)
{
	return CATCH(guest_enter(f));
}

int run_user(const void *function)
{
	word *sp = (word *)user_stack_top - 1;
	*sp = (word)guest_user_return;
	struct entry_frame f = { .ip = (word)function, .cs = SEL_UCODE, .flags = 2, .sp = (word)sp,
				 .ss = SEL_UDATA };
#ifndef __x86_64__
	asm volatile("mov %0, %%ds; mov %0, %%es" :: "r"(SEL_UDATA));
#endif
	return run_frame(&f);
}

/* --- tables --- */
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flag_bits)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
		(uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flag_bits << 52 | (uint64_t)(base >> 24) << 56;
}

uint64_t gate_low(word offset, uint16_t selector, unsigned access, unsigned ist_or_count)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist_or_count << 32 |
		(uint64_t)access << 40 | (uint64_t)(offset >> 16 & 0xffff) << 48;
}

void gate_set(struct gate *g, word offset, uint16_t selector, unsigned access, unsigned ist_or_count)
{
	g->low = gate_low(offset, selector, access, ist_or_count);
#ifdef __x86_64__
	g->high = offset >> 32;
#endif
}

word vector_entry(unsigned vector)
{
	return (word)vector_entries + 16 * vector;
}

void vector_dpl3(unsigned vector)
{
	gate_set(&idt[vector], vector_entry(vector), SEL_KCODE, SEG_P | SEG_DPL(3) | GATE_INT, 0);
}

void load_gdt(unsigned limit)
{
	struct table_pointer p = { (uint16_t)limit, (word)gdt };
	asm volatile("lgdt %0" :: "m"(p));
}

void load_idt(unsigned limit)
{
	struct table_pointer p = { (uint16_t)limit, (word)idt };
	asm volatile("lidt %0" :: "m"(p));
}

static void tables_reset(void)
{
	memory_fill(gdt, 0, sizeof gdt);
	gdt[SEL_K32 / 8] = descriptor(0, 0xfffff, SEG_P | SEG_CODE, SEG_G | SEG_B);
	gdt[SEL_K64 / 8] = descriptor(0, 0xfffff, SEG_P | SEG_CODE, SEG_G | SEG_L);
	gdt[SEL_KDATA / 8] = descriptor(0, 0xfffff, SEG_P | SEG_DATA, SEG_G | SEG_B);
	gdt[SEL_U32 / 8] = descriptor(0, 0xfffff, SEG_P | SEG_DPL(3) | SEG_CODE, SEG_G | SEG_B);
	gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, SEG_P | SEG_DPL(3) | SEG_DATA, SEG_G | SEG_B);
	gdt[SEL_U64 / 8] = descriptor(0, 0xfffff, SEG_P | SEG_DPL(3) | SEG_CODE, SEG_G | SEG_L);
	gdt[SEL_UDATA2 / 8] = gdt[SEL_UDATA / 8];
	gdt[SEL_TSS / 8] = descriptor((uint32_t)(word)&tss, sizeof tss - 1, SEG_P | 9, 0);
	memory_fill(&tss, 0, sizeof tss);
	memory_fill(tss.io_bits, 0xff, sizeof tss.io_bits);
#ifdef __x86_64__
	tss.rsp[0] = (word)interrupt_stack + sizeof interrupt_stack;
	tss.io_map = offsetof(struct tss, io_bits);
#else
	tss.t.esp0 = (word)interrupt_stack + sizeof interrupt_stack;
	tss.t.ss0 = SEL_KDATA;
	tss.t.io_map = offsetof(struct tss, io_bits);
#endif
	for (unsigned n = 0; n < 256; n++)
		gate_set(&idt[n], vector_entry(n), SEL_KCODE, SEG_P | GATE_INT, 0);
	vector_dpl3(USER_EXIT);
	load_gdt(sizeof gdt - 1);
	load_idt(sizeof idt - 1);
	asm volatile("ltr %w0; lldt %w1" :: "r"(SEL_TSS), "r"(0));
#ifdef __x86_64__
	/* Far return to the new code segment's descriptor. */
	asm volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:" :: "i"(SEL_K64) : "rax", "memory");
#else
	asm volatile("ljmp %0, $1f; 1:" :: "i"(SEL_K32) : "memory");
	asm volatile("mov %0, %%fs; mov %0, %%gs" :: "r"(0));
#endif
	asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" :: "r"(SEL_KDATA) : "memory");
}

/* --- memory --- */
enum { ARENA = 8 << 20, ARENA_END = 16 << 20 };
static uint8_t *arena = (uint8_t *)ARENA, *arena_start = (uint8_t *)ARENA;

void pages_keep(void)
{
	arena_start = arena;
}

void *page_alloc(void)
{
	uint8_t *p = arena;
	if (p >= (uint8_t *)ARENA_END) {
		print("# out of pages\n");
		guest_exit(EXIT_NO_RULE);
	}
	arena += 4096;
	for (unsigned n = 0; n < 4096 / sizeof(word); n++)
		((volatile word *)p)[n] = 0;
	return p;
}

#ifdef __x86_64__
uint64_t *map_entry(uint64_t linear, unsigned level)
{
	uint64_t *table = boot_pml4;
	for (unsigned l = 4;; l--) {
		uint64_t *e = &table[linear >> (3 + 9 * l) & 511];
		if (l == level)
			return e;
		if (!(*e & 1))
			*e = (uint64_t)page_alloc() | 7;
		table = (uint64_t *)(*e & 0x000ffffffffff000);
	}
}
#endif

/* --- the run --- */
void (*before_reset)(void);
static void machine_reset(void)
{
	if (before_reset)
		before_reset();
	before_reset = NULL;
	event_hook = NULL;
	catching = false;
	arena = arena_start;
	set_dr7(0x400);
	set_dr6(0xffff0ff0);
	set_flags(2);
#ifdef __x86_64__
	enum { PAE_ONLY = 0x20 };
	set_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_PE | BIT(4));
	set_cr4(PAE_ONLY | CR4_PGE);	/* a change of PGE drops every translation */
	for (unsigned n = 1; n < 512; n++)
		boot_pml4[n] = 0;
	boot_pml4[0] = (uint64_t)boot_pdpt | 7;
	for (unsigned n = 0; n < 4; n++)
		boot_pdpt[n] = (uint64_t)(boot_pd + 512 * n) | 7;
	for (unsigned n = 0; n < 2048; n++)
		boot_pd[n] = (uint64_t)n << 21 | 0x87;
	set_cr3((word)boot_pml4);
	set_cr4(PAE_ONLY);
	wrmsr(EFER, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
	set_cr8(0);
#else
	set_cr0(CR0_NE | CR0_MP | CR0_PE | BIT(4));
	set_cr4(CR4_PGE);
	set_cr4(0);
#endif
	tables_reset();
}

static const char *command_line(void)
{
	const uint32_t *info = (const uint32_t *)(word)boot_information;
	enum { FLAG_COMMAND_LINE = 4 };
	return info[0] & FLAG_COMMAND_LINE ? (const char *)(word)info[4] : "";
}

bool word_in_command_line(const char *wanted)
{
	const char *s = command_line();
	for (;;) {
		const char *w = wanted;
		while (*s == ' ')
			s++;
		if (!*s)
			return false;
		while (*s && *s != ' ' && *s == *w)
			s++, w++;
		if ((!*s || *s == ' ') && !*w)
			return true;
		while (*s && *s != ' ')
			s++;
	}
}

/* The first word is the file's name; are there others that name rules? Those
 * with "=" are options (level2.c). */
static bool rules_named(void)
{
	const char *s = command_line();
	while (*s && *s != ' ')
		s++;
	while (*s) {
		bool option = false;
		while (*s == ' ')
			s++;
		const char *begin = s;
		for (; *s && *s != ' '; s++)
			option |= *s == '=';
		if (s != begin && !option)
			return true;
	}
	return false;
}

void guest_main(void);
void guest_main(void)
{
	static unsigned ran, failed;
	static const struct rule *volatile rule;
	machine_reset();
	if (level_begin)
		level_begin();
	bool named = rules_named();
	/* Legacy interrupts stay away until a rule wants them. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	event.vector = NONE;
	for (rule = rules_start; rule < rules_end; rule++) {
		if (named ? !word_in_command_line(rule->name) : rule->alone)
			continue;
		current = rule;
		rule_failures = 0;
		skipped = NULL;
		ran++;
		machine_reset();
		if (!guest_setjmp(&rule_jump)) {
			chapter_setup();
			rule->run();
		}
		machine_reset();
		if (rule_failures)
			failed++;
		else if (skipped)
			print("# skip - %s%s: %s: %s\n", chapter, chapter_suffix, rule->name, skipped);
		else
			print("ok - %s%s: %s\n", chapter, chapter_suffix, rule->name);
	}
	print("# %s%s: %u rules, %u failed\n", chapter, chapter_suffix, ran, failed);
	if (!ran)
		guest_exit(EXIT_NO_RULE);
	guest_exit(failed > EXIT_FAILED_MAX ? EXIT_FAILED_MAX : failed);
}
