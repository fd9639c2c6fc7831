/* The core: random numbers, tables that are made anew for every case, the cell
 * in which wild code runs, the watchdog, the end. */
#include "hostile.h"

enum { COM1 = 0x3f8, PIT_0 = 0x40, PIT_COMMAND = 0x43, PIC_MASTER_MASK = 0x21, PIC_SLAVE_MASK = 0xa1 };
enum { PIT_0_RATE = 0x34, WATCHDOG_TICKS = 1200 };	/* about 1 ms */
enum { IOAPIC_SELECT = 0, IOAPIC_WINDOW = 0x10, IOAPIC_ENTRIES = 0x10, WATCHDOG_PIN = 2 };
enum { REDIRECTION_NMI = 4 << 8, APIC_SPURIOUS = 0xf0, APIC_ENABLED = 0x1ff, APIC_EOI = 0xb0 };
/* Ways out of the machine that ring 3 may not use. */
static const uint16_t forbidden_ports[] = { 0x64, 0x92, 0xf4 };
enum { APIC_BASE_MSR = 0x1b, APIC_BASE_BSP = 1 << 8, APIC_BASE_EN = 1 << 11 };

extern uint32_t boot_information;
extern const uint8_t core_gdtr[], core_idtr[];
extern uint8_t core_idt[4096];

volatile uint32_t last_vector, last_error;
static uint32_t vectors[256];
static uint64_t random_state = 1, seed = 1;
static uint32_t cases, count = 1000;
static const struct chapter *chapter;

/* --- random --- */
uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

uint32_t random_below(uint32_t n)
{
	return (uint32_t)(random_next() >> 32) % n;
}

bool one_in(uint32_t n)
{
	return !random_below(n);
}

uint64_t random_value(void)
{
	switch (random_below(6)) {
	case 0: return random_next();
	case 1: return random_below(16);
	case 2: return BIT(random_below(64));
	case 3: return ~BIT(random_below(64));
	case 4: return BIT(random_below(64)) - random_below(3);
	default: return random_next() >> random_below(64);
	}
}

word random_address(void)
{
	static const uint64_t places[] = {
		0, 0xa0000, 0xb8000, 0xe0000, 0xfffff, PLAYGROUND, PLAYGROUND + PLAYGROUND_SIZE, TABLES,
		0x3ffffff, 0x4000000, 0xe0000000, 0xe0004000, IO_APIC, LOCAL_APIC, LOCAL_APIC + 0xfff,
		0xfffffff0, 0xffffffff, 0x100000000, 0x7fffffffffff, 0x800000000000,
		0xffff800000000000, 0xfffffffffffffff0, 0xffffffffffffffff, 0x7fffffff,
	};
	switch (random_below(4)) {
	case 0: return (word)random_value();
	case 1: return PLAYGROUND + random_below(PLAYGROUND_SIZE);
	default: return (word)(places[random_below(ARRAY_SIZE(places))] + random_below(32) - 16);
	}
}

void fill_random(void *at, size_t n)
{
	for (uint64_t *p = at; n >= 8; n -= 8)
		*p++ = random_next();
}

void copy(void *to, const void *from, size_t n)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) :: "memory");
}

static void clear(void *at, size_t n)
{
	asm volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(0) : "memory");
}

/* gcc makes calls of these. */
void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n) { copy(to, from, n); return to; }
void *memset(void *at, int v, size_t n);
void *memset(void *at, int v, size_t n)
{
	void *to = at;
	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(v) : "memory");
	return at;
}

uint64_t memory_access(word at, uint64_t v, unsigned size, bool write)
{
	switch (size | (write ? 16u : 0)) {
	case 1: return *(volatile uint8_t *)at;
	case 2: return *(volatile uint16_t *)at;
	case 4: return *(volatile uint32_t *)at;
	case 8: return *(volatile uint64_t *)at;
	case 17: *(volatile uint8_t *)at = (uint8_t)v; break;
	case 18: *(volatile uint16_t *)at = (uint16_t)v; break;
	case 20: *(volatile uint32_t *)at = (uint32_t)v; break;
	default: *(volatile uint64_t *)at = v; break;
	}
	return 0;
}

/* --- text --- */
void print(const char *text)
{
	while (*text)
		outb(COM1, (uint8_t)*text++);
}

void print_number(uint64_t v)
{
	char digits[17];
	unsigned n = sizeof digits;
	digits[--n] = 0;
	do {
		digits[--n] = "0123456789abcdef"[v & 15];
		v >>= 4;
	} while (v);
	print(digits + n);
}

static void report(void)
{
	outb(COM1 + 3, 3);	/* a chapter may have left the divisor latch open */
	outb(COM1 + 4, 0);
	print("\nhostile: chapter ");
	print(chapter ? chapter->name : "?");
	print(" seed 0x");
	print_number(seed);
	print(" cases 0x");
	print_number(cases);
	print(" vectors");
	for (unsigned n = 0; n < 256; n++)
		if (vectors[n]) {
			print(" ");
			print_number(n);
			print(":");
			print_number(vectors[n]);
		}
	print(" exits");
	for (unsigned n = 0; n < ARRAY_SIZE(vmx_exits); n++)
		if (vmx_exits[n]) {
			print(" ");
			print_number(n);
			print(":");
			print_number(vmx_exits[n]);
		}
	print(" failures 0x");
	print_number(vmx_failures);
	print("\n");
}

void finish(uint32_t value)
{
	report();
	for (;;)
		outl(DEBUG_EXIT, value);
}

/* --- descriptors --- */
enum { CODE32 = 0xcf9b, DATA32 = 0xcf93, CODE64 = 0xaf9b, CODE16 = 0x009b, DATA16 = 0x0093,
       DPL3 = 0x60, TSS_FREE = 0x89, LDT_TYPE = 0x82, GATE_INTERRUPT = 0x8e, GATE_TASK = 0x85,
       GATE_CALL = 0xec };

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t rights)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(rights & 0xff) << 40 |
		(uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(rights >> 12 & 15) << 52 |
		(uint64_t)(base >> 24) << 56;
}

/* Rights: the descriptor's byte 5 in bits 7:0, G D L AVL in 15:12. */
static void gdt_make(void)
{
	clear(core_gdt, sizeof core_gdt);
#ifdef __x86_64__
	core_gdt[SEL_KCODE / 8] = descriptor(0, 0xfffff, CODE64);
	core_gdt[SEL_UCODE / 8] = descriptor(0, 0xfffff, CODE64 | DPL3);
#else
	core_gdt[SEL_KCODE / 8] = descriptor(0, 0xfffff, CODE32);
	core_gdt[SEL_UCODE / 8] = descriptor(0, 0xfffff, CODE32 | DPL3);
#endif
	core_gdt[SEL_KDATA / 8] = descriptor(0, 0xfffff, DATA32);
	core_gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, DATA32 | DPL3);
	core_gdt[SEL_KCODE32 / 8] = descriptor(0, 0xfffff, CODE32);
	core_gdt[SEL_UCODE32 / 8] = descriptor(0, 0xfffff, CODE32 | DPL3);
	core_gdt[SEL_KCODE16 / 8] = descriptor(0, 0xffff, CODE16);
	core_gdt[SEL_UCODE16 / 8] = descriptor(PLAYGROUND, 0xffff, CODE16 | DPL3);
	core_gdt[SEL_KDATA16 / 8] = descriptor(PLAYGROUND, 0xffff, DATA16);
	core_gdt[SEL_UDATA16 / 8] = descriptor(PLAYGROUND, 0xffff, DATA16 | DPL3);
	/* An LDT of random descriptors, and a call gate into the playground. */
	core_gdt[SEL_LDT / 8] = descriptor(PLAYGROUND, 0xffff, LDT_TYPE);
	core_gdt[SEL_GATE / 8] = (PLAYGROUND & 0xffff) | SEL_KCODE << 16 |
		(uint64_t)GATE_CALL << 40 | (uint64_t)(PLAYGROUND >> 16) << 48;
}

struct tss {
	uint8_t bytes[104 + 64];	/* and a short I/O permission bitmap */
} __attribute__((aligned(4096)));
static struct tss case_tss;
static uint8_t event_stack[8192] __attribute__((aligned(4096)));
#define event_stack_top (event_stack + sizeof event_stack)
enum { TSS32_CR3 = 28, TSS32_EIP = 32, TSS32_FLAGS = 36, TSS32_ESP = 56, TSS32_ES = 72,
       TSS32_SEGMENTS = 6, TSS_IO_MAP = 102, TSS_BITMAP = 104, TSS_RSP0 = 4, TSS_IST1 = 36, TSS32_SS0 = 8 };

static void put(struct tss *t, unsigned at, word v)
{
	*(word *)(t->bytes + at) = v;
}

static void io_map_make(struct tss *t)
{
	t->bytes[TSS_IO_MAP] = TSS_BITMAP;
	for (unsigned n = 0; n < ARRAY_SIZE(forbidden_ports); n++)
		t->bytes[TSS_BITMAP + forbidden_ports[n] / 8] = 0xff;
}

#ifdef __x86_64__
extern const uint8_t vector_entries[];
static void events_make(void)
{
	clear(&case_tss, sizeof case_tss);
	for (unsigned n = 0; n < 3; n++)
		put(&case_tss, TSS_RSP0 + 8 * n, (word)event_stack_top);
	put(&case_tss, TSS_IST1, (word)event_stack_top);
	io_map_make(&case_tss);
	core_gdt[SEL_TSS / 8] = descriptor((uint32_t)(word)&case_tss, sizeof case_tss - 1, TSS_FREE);
	for (unsigned n = 0; n < 256; n++) {
		uint64_t *gate = (uint64_t *)core_idt + 2 * n, at = (word)vector_entries + 16 * n;
		gate[0] = (at & 0xffff) | SEL_KCODE << 16 | 1ull << 32 |
			(uint64_t)(GATE_INTERRUPT | DPL3) << 40 | (at >> 16 & 0xffff) << 48;
		gate[1] = 0;
	}
}
#else
extern const uint8_t recovery[];
static struct tss recovery_tss, nmi_tss;	/* an NMI may come while the first is in use */
static void recovery_make(struct tss *t, unsigned selector)
{
	clear(t, sizeof *t);
	put(t, TSS32_CR3, core_cr3);
	put(t, TSS32_EIP, (word)recovery);
	put(t, TSS32_FLAGS, 2);
	put(t, TSS32_ESP, (word)event_stack_top);
	for (unsigned n = 0; n < TSS32_SEGMENTS; n++)
		put(t, TSS32_ES + 4 * n, n == 1 ? SEL_KCODE : SEL_KDATA);
	core_gdt[selector / 8] = descriptor((word)t, sizeof *t - 1, TSS_FREE);
}

static void events_make(void)
{
	clear(&case_tss, sizeof case_tss);
	for (unsigned n = 0; n < 3; n++) {
		put(&case_tss, TSS_RSP0 + 8 * n, (word)event_stack_top);
		put(&case_tss, TSS32_SS0 + 8 * n, SEL_KDATA + n);
	}
	io_map_make(&case_tss);
	core_gdt[SEL_TSS / 8] = descriptor((word)&case_tss, sizeof case_tss - 1, TSS_FREE);
	recovery_make(&recovery_tss, SEL_RECOVERY);
	recovery_make(&nmi_tss, SEL_NMI);
	for (unsigned n = 0; n < 256; n++)
		((uint64_t *)core_idt)[n] = (n == NMI ? SEL_NMI : SEL_RECOVERY) << 16 |
			(uint64_t)(GATE_TASK | DPL3) << 40;
}
#endif

/* All of these as they were made. They are put back by copying, so that an NMI
 * in between finds every descriptor whole. */
static struct kept {
	uint64_t gdt[SEL_COUNT];
	uint8_t idt[4096];
	struct tss case_tss;
#ifndef __x86_64__
	struct tss recovery_tss, nmi_tss;
#endif
} kept;

#ifdef __x86_64__
#define KEPT(X) X(core_gdt, kept.gdt) X(core_idt, kept.idt) X(case_tss, kept.case_tss)
#else
#define KEPT(X) X(core_gdt, kept.gdt) X(core_idt, kept.idt) X(case_tss, kept.case_tss) \
	X(recovery_tss, kept.recovery_tss) X(nmi_tss, kept.nmi_tss)
#endif

static void keep(void)
{
#define X(used, copied) copy(&(copied), &(used), sizeof(used));
	KEPT(X)
#undef X
}

static void restore(void)
{
#define X(used, copied) copy(&(used), &(copied), sizeof(used));
	KEPT(X)
#undef X
}

/* --- paging: one builder for 32-bit, PAE and 4-level tables --- */
enum { PAGE_P = 1, PAGE_W = 2, PAGE_U = 4, PAGE_PS = 0x80, TABLE_PAGES = 64 };
word cell_cr3, core_cr3;
static uint8_t tables[TABLE_PAGES][4096] __attribute__((aligned(4096)));
static unsigned tables_used;
static bool pae = sizeof(word) == 8;

static word table_new(void)
{
	if (tables_used == TABLE_PAGES)
		finish(EXIT_NO_CHAPTER);
	return (word)tables[tables_used++];
}

static uint64_t entry_get(word table, unsigned n)
{
	return pae ? ((uint64_t *)table)[n] : ((uint32_t *)table)[n];
}

static void entry_put(word table, unsigned n, uint64_t v)
{
	if (pae)
		((uint64_t *)table)[n] = v;
	else
		((uint32_t *)table)[n] = (uint32_t)v;
}

static void map(word root, word va, uint64_t pa, unsigned rights, bool large)
{
	unsigned bits = pae ? 9 : 10, level = sizeof(word) == 8 ? 3 : pae ? 2 : 1;
	word table = root;
	for (;; level--) {
		unsigned shift = 12 + bits * level, n = (unsigned)(va >> shift) & ((1u << bits) - 1);
		if (level == (large ? 1 : 0)) {
			entry_put(table, n, pa | rights | PAGE_P | (large ? PAGE_PS : 0));
			return;
		}
		if (!(entry_get(table, n) & PAGE_P))
			entry_put(table, n, table_new() |
				  (pae && sizeof(word) == 4 && level == 2 ? PAGE_P : PAGE_P | PAGE_W | PAGE_U));
		table = (word)entry_get(table, n) & ~0xffful;
	}
}

static bool writable_in_cell(word at)
{
#ifndef __x86_64__
	if (at == (word)&recovery_tss || at == (word)&nmi_tss)
		return true;
#endif
	return at < 0x100000 || at >= (word)image_end ||
		at - (word)&case_tss < sizeof case_tss || at - (word)event_stack < sizeof event_stack ||
		at - (word)core_gdt < 4096;
}

static void paging_make(void)
{
	word step = pae ? 0x200000 : 0x400000;
	core_cr3 = table_new();
	cell_cr3 = table_new();
	for (uint64_t at = 0; at < 0x100000000ull; at += step) {
		map(core_cr3, (word)at, at, PAGE_W, true);
	}
	for (word at = 0; at < 0x400000; at += 4096)
		map(cell_cr3, at, at, writable_in_cell(at) ?
		    (at < 0x100000 || at >= (word)image_end ? PAGE_W | PAGE_U : PAGE_W) : 0, false);
	for (word at = PLAYGROUND; at < PLAYGROUND + PLAYGROUND_SIZE + TABLES_SIZE; at += step)
		map(cell_cr3, at, at, at < PLAYGROUND + PLAYGROUND_SIZE ? PAGE_W | PAGE_U : PAGE_W, true);
	map(cell_cr3, 0xe0000000, 0xe0000000, PAGE_W | PAGE_U, true);	/* BARs */
	map(cell_cr3, IO_APIC, IO_APIC & ~(step - 1), PAGE_W | PAGE_U, true);
	if (step == 0x200000)
		map(cell_cr3, LOCAL_APIC, LOCAL_APIC, PAGE_W | PAGE_U, true);
	for (word n = 1; n <= 4; n++)	/* so that addresses can wrap around */
		map(cell_cr3, -n * 4096, PLAYGROUND + n * 4096, PAGE_W | PAGE_U, false);
#ifdef __x86_64__
	map(cell_cr3, 0x7ffffffff000, PLAYGROUND, PAGE_W | PAGE_U, false);
	map(cell_cr3, (word)0xffff800000000000, PLAYGROUND + 4096, PAGE_W | PAGE_U, false);
#endif
}

/* --- the machine as each case finds it --- */
void watchdog_start(void)
{
	outb(PIC_MASTER_MASK, 0xff);
	outb(PIC_SLAVE_MASK, 0xff);
	mmio_write(IO_APIC + IOAPIC_SELECT, IOAPIC_ENTRIES + 2 * WATCHDOG_PIN + 1);
	mmio_write(IO_APIC + IOAPIC_WINDOW, 0);
	mmio_write(IO_APIC + IOAPIC_SELECT, IOAPIC_ENTRIES + 2 * WATCHDOG_PIN);
	mmio_write(IO_APIC + IOAPIC_WINDOW, REDIRECTION_NMI);
	outb(PIT_COMMAND, PIT_0_RATE);
	outb(PIT_0, WATCHDOG_TICKS & 0xff);
	outb(PIT_0, WATCHDOG_TICKS >> 8);
}

static void processor_restore(void)
{
	uint64_t base = LOCAL_APIC | APIC_BASE_EN | APIC_BASE_BSP;
	word cr0_value = CR0_PG | CR0_WP | CR0_NE | CR0_PE | BIT(4);
	word cr4_value = (cr4() & CR4_VMXE) | CR4_PSE | CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT;
	set_dr7(0x400);
#ifdef __x86_64__
	set_cr4(cr4_value | CR4_PAE | CR4_PGE);
	wrmsr(EFER, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
#else
	set_cr4(cr4_value | CR4_VME | (pae ? CR4_PAE : 0));
#endif
	set_cr3(core_cr3);
	set_cr0(cr0_value);
	asm volatile("xsetbv" :: "a"(7), "d"(0), "c"(0));
	if (rdmsr(APIC_BASE_MSR) != base) {
		wrmsr(APIC_BASE_MSR, APIC_BASE_BSP);	/* x2APIC is left by way of off */
		wrmsr(APIC_BASE_MSR, base);
	}
	mmio_write(LOCAL_APIC + APIC_SPURIOUS, APIC_ENABLED);
	mmio_write(LOCAL_APIC + APIC_EOI, 0);
}

void next_case(void)
{
	asm volatile("lgdt %0; lidt %1" :: "m"(*core_gdtr), "m"(*core_idtr));
	restore();
	asm volatile("lldt %w0; ltr %w1" :: "r"(0), "r"(SEL_TSS));
#ifndef __x86_64__
	/* The recovery task is free again: the next NMI may come. */
	asm volatile("pushf; push %%cs; push $1f; iret; 1:" ::: "memory");
#endif
	processor_restore();
	vectors[last_vector & 0xff]++;
	last_vector = 0xff;	/* no more than that: ended by itself */
	if (cases++ >= count)
		finish(EXIT_DONE);
	chapter->run();
	restart_core();
}

/* --- the command line --- */
static bool word_is(const char *at, const char *name)
{
	while (*name && *at == *name) {
		at++;
		name++;
	}
	return !*name && (*at == 0 || *at == ' ');
}

static uint64_t number_at(const char *at)
{
	uint64_t v = 0;
	for (; *at >= '0' && *at <= '9'; at++)
		v = v * 10 + (uint64_t)(*at - '0');
	return v;
}

static const char *argument(const char *line, const char *name)
{
	for (; *line; line++) {
		const char *a = line, *b = name;
		while (*b && *a == *b) {
			a++;
			b++;
		}
		if (!*b)
			return a;
	}
	return "";
}

void hostile_main(void);
void hostile_main(void)
{
	enum { CMDLINE_VALID = 4, CMDLINE = 4 };
	static const struct chapter *const lists[] = {
		device_chapters, processor_chapters, code_chapters, vmx_chapters, smp_chapters };
	const uint32_t *information = (const uint32_t *)(word)boot_information;
	const char *line = information[0] & CMDLINE_VALID ? (const char *)(word)information[CMDLINE] : "";
	const char *name = argument(line, "chapter=");
	seed = number_at(argument(line, "seed="));
	count = (uint32_t)number_at(argument(line, "count="));
	for (unsigned n = 0; n < ARRAY_SIZE(lists) && !chapter; n++)
		for (const struct chapter *c = lists[n]; c->name && !chapter; c++)
			if (word_is(name, c->name))
				chapter = c;
	if (!chapter)
		finish(EXIT_NO_CHAPTER);
	random_state = (seed + 1) * 0x9e3779b97f4a7c15ull;
	for (unsigned n = 0; n < 8; n++)
		random_next();
	if (sizeof(word) == 4)
		pae = seed & 1;
	paging_make();
	gdt_make();
	events_make();
	keep();
	last_vector = 0xff;
	next_case();
}
