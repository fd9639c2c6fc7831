/* Processors that get in each other's way: code and page tables that all
 * write and use, locked accesses across lines and pages, IPIs, and an INIT that
 * may come at any time. 32-bit guest only; chance has a part in this chapter. */
#include "hostile.h"

#ifndef __x86_64__
enum { AP_BLOB = 0x7000, AP_SIPI = AP_BLOB >> 12, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310,
       ICR_INIT = 0x4500, ICR_STARTUP = 0x4600, ICR_NMI = 0x4400, ICR_FIXED = 0x4000, ICR_OTHERS = 3 << 18 };
enum { ACTIONS = 32, WINDOW_PAGES = 16, GATE_INTERRUPT = 0x8e };
#define SHARED_CODE (PLAYGROUND + 0x100000)
#define SHARED_DATA (PLAYGROUND + 0x110000)
/* Linear addresses whose page-table entries both processors change. */
#define WINDOW 0xd0000000ul

extern const uint8_t ap_blob[], ap_blob_end[], ap_vector[];
void ap_main(void);
struct table_pointer ap_idtr;
word ap_cr4;
static uint64_t ap_idt[256] __attribute__((aligned(16)));
static uint64_t window_table[1024] __attribute__((aligned(4096)));
static bool prepared;
static volatile bool ap_ready;	/* it has vectors, so NMIs may come */

static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

/* Units of four bytes, so that whoever executes one of them sees one or another
 * whole instruction; one of them lies across the page's end. */
#define CODE_UNIT(n) (SHARED_CODE + 0xfe2 + 4 * (n))
enum { UNITS = 16, UNIT_RETURN = 0xc3c3c3c3 };

static void code_write(uint32_t *r)
{
	static const uint32_t units[] = {
		UNIT_RETURN, 0x00401f0f, 0x9007fff0, 0x40404040, 0x90904faa, 0x9090a20f, 0x900787f0 };
	for (unsigned n = next(r) % 4; n--;)
		*(volatile uint32_t *)CODE_UNIT(next(r) % UNITS) = units[next(r) % ARRAY_SIZE(units)];
	if (next(r) % 2048 == 0)	/* and, seldom, anything */
		*(volatile uint8_t *)(CODE_UNIT(0) + next(r) % 64) = (uint8_t)next(r);
}

static void code_run(uint32_t *r)
{
	word at = CODE_UNIT(next(r) % UNITS), to = SHARED_DATA + 64 + next(r) % 8192, n = next(r) % 64;
	*(volatile uint32_t *)CODE_UNIT(UNITS) = UNIT_RETURN;
	asm volatile("call *%2" : "+D"(to), "+c"(n) : "r"(at) : "eax", "ebx", "edx", "memory", "cc");
}

/* Across a line or a page, so that the other processor has to stand still. */
static void locked(uint32_t *r)
{
	word at = SHARED_DATA + (next(r) % 64 + 1) * 64 - next(r) % 8;
	word v = next(r), old = 0;
	switch (next(r) % 4) {
	case 0: asm volatile("lock; xaddl %0, (%1)" : "+r"(v) : "r"(at) : "memory", "cc"); break;
	case 1: asm volatile("xchgl %0, (%1)" : "+r"(v) : "r"(at) : "memory"); break;
	case 2: asm volatile("lock; cmpxchgl %1, (%2)" : "+a"(old) : "r"(v), "r"(at) : "memory", "cc"); break;
	default: asm volatile("lock; btsl %0, (%1)" :: "r"(v & 31), "r"(at) : "memory", "cc"); break;
	}
}

static void tables_change(uint32_t *r)
{
	bool pae = cr4() & CR4_PAE;
	unsigned n = next(r) % WINDOW_PAGES;
	uint64_t entry = (PLAYGROUND + 0x120000 + (next(r) % 32) * 4096) | (next(r) % 8) |
		(next(r) % 8 ? 1 : 0) | (next(r) % 64 ? 0 : 0xfee00000u);
	if (pae)
		*(volatile uint32_t *)&window_table[n] = (uint32_t)entry;
	else
		((volatile uint32_t *)window_table)[n] = (uint32_t)entry;
	if (next(r) & 1)
		invlpg((void *)(WINDOW + n * 4096));
	if (next(r) % 16 == 0)
		set_cr3(cr3());
}

static void window_use(uint32_t *r)
{
	word at = WINDOW + next(r) % (WINDOW_PAGES * 4096), n = next(r) % 6000, from = SHARED_DATA;
	switch (next(r) % 4) {
	case 0: memory_access(at, 0, 4, false); break;
	case 1: memory_access(at, next(r), 4, true); break;
	case 2: asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) :: "memory"); break;
	default: asm volatile("lock; incl (%0)" :: "r"(at) : "memory", "cc"); break;
	}
}

static void action(uint32_t *r)
{
	switch (next(r) % 6) {
	case 0: code_write(r); break;
	case 1: code_run(r); break;
	case 2: locked(r); break;
	case 3: tables_change(r); break;
	case 4: window_use(r); break;
	default: {
		word to = SHARED_CODE + 0xf00, n = 128;		/* a page of code becomes returns */
		if (next(r) % 8 == 0)
			asm volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(UNIT_RETURN) : "memory");
		break;
	}
	}
}

/* The other processors, up to three: without end. Their vectors come back here. */
void ap_main(void)
{
	uint32_t r = (uint32_t)rdtsc();
	ap_ready = true;
	for (;;)
		action(&r);
}

static void window_map(void)
{
	bool pae = cr4() & CR4_PAE;
	if (pae) {
		uint64_t *pdpt = (uint64_t *)(core_cr3 & ~0x1ful);
		uint64_t *pd = (uint64_t *)(word)(pdpt[WINDOW >> 30] & ~0xfffull);
		pd[WINDOW >> 21 & 511] = (word)window_table | 7;
	} else
		((uint32_t *)core_cr3)[WINDOW >> 22] = (word)window_table | 7;
	set_cr3(core_cr3);
}

static void smp(void)
{
	static uint32_t r;
	if (!prepared) {
		prepared = true;
		copy((void *)AP_BLOB, ap_blob, (size_t)(ap_blob_end - ap_blob));
		for (unsigned n = 0; n < 256; n++)
			ap_idt[n] = ((word)ap_vector & 0xffff) | SEL_KCODE << 16 |
				(uint64_t)GATE_INTERRUPT << 40 | (uint64_t)((word)ap_vector >> 16) << 48;
		ap_idtr = (struct table_pointer){ sizeof ap_idt - 1, (word)ap_idt };
		ap_cr4 = cr4();
		window_map();
	}
	if (!r || one_in(16)) {
		ap_ready = false;
		mmio_write(LOCAL_APIC + APIC_ICR, ICR_INIT | ICR_OTHERS);
		for (unsigned n = 1 + random_below(2); n--;)
			mmio_write(LOCAL_APIC + APIC_ICR, ICR_STARTUP | ICR_OTHERS | AP_SIPI);
	}
	r = (uint32_t)random_next();
	watchdog_start();
	for (unsigned n = 0; n < ACTIONS; n++) {
		action(&r);
		if (ap_ready && one_in(64))
			mmio_write(LOCAL_APIC + APIC_ICR, ICR_OTHERS |
				   (one_in(2) ? (unsigned)ICR_NMI : ICR_FIXED | (0x20 + random_below(0xd0))));
	}
}

const struct chapter smp_chapters[] = { { "smp", smp }, { 0 } };
#else
const struct chapter smp_chapters[] = { { 0 } };
#endif
