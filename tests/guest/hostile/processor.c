/* Chapters that abuse the processor's own registers and tables. */
#include "hostile.h"

enum { MSR_APIC_BASE = 0x1b, MSR_X2APIC_ICR = 0x830, MSR_X2APIC_LAST = 0x8ff };

/* --- MSRs --- */

static uint32_t random_msr(void)
{
	switch (random_below(5)) {
	case 0: return random_below(0x2000);
	case 1: return 0xc0000000 + random_below(0x200);
	case 2: return 0x40000000 + random_below(0x100);
	case 3: return (uint32_t)random_value();
	default: return random_below(0x900);
	}
}

static void msr(void)
{
	uint32_t n = random_msr();
	uint64_t v = one_in(2) ? random_value() : (uint64_t)random_address();
	if (n - 0x800 <= MSR_X2APIC_LAST - 0x800 && (v >> 8 & 7) == 5)
		v &= ~0x700ull;		/* no INIT of ourselves */
	if (one_in(2))
		rdmsr(n);
	else
		wrmsr(n, v);
	if (one_in(3)) {	/* near what it was: this goes past the reserved bits */
		n = random_msr();
		v = rdmsr(n);
		wrmsr(n, v ^ BIT(random_below(64)));
		rdmsr(n);
	}
}

/* All numbers in order: the case tells which. */
static void msr_sweep(void)
{
	static uint32_t next;
	uint32_t n = next++;
	n = n < 0x2000 ? n : n < 0x4000 ? 0xc0000000 + n - 0x2000 : n < 0x4200 ? 0x40000000 + n - 0x4000 :
		(uint32_t)random_next();
	uint64_t v = rdmsr(n);
	if ((n - 0x800 <= MSR_X2APIC_LAST - 0x800) || n == EFER || n == MSR_APIC_BASE)
		return;
	wrmsr(n, v);
	wrmsr(n, random_value());
}

/* --- control and debug registers, other system instructions --- */

/* The format of our own tables. */
#define KEPT_CR4 ((word)(CR4_PAE | CR4_PSE))

static void control(void)
{
	watchdog_start();
	word v = (word)random_value();
	uint32_t a = (uint32_t)random_next(), d = 0;
	switch (random_below(20)) {
	case 0: set_cr4((v & ~KEPT_CR4) | (cr4() & KEPT_CR4)); break;
	case 1: set_cr4(cr4() ^ ((word)BIT(random_below(32)) & ~KEPT_CR4)); break;
	case 2: set_cr0(cr0() ^ (word)BIT(random_below(30))); break;	/* not PG */
	case 3: set_cr2(v); break;
	case 4: set_dr7(v); set_dr0(v); break;
	case 5: set_dr0((word)&control); set_dr7(0x700 | (word)random_below(0x10000) << 16); break;
	case 6: set_dr6(v); break;
	case 7: asm volatile("lmsw %w0" :: "r"(v | 1)); break;
	case 8: asm volatile("xsetbv" :: "a"(a), "d"(d), "c"(random_below(3))); break;
	case 9: asm volatile("lldt %w0" :: "r"(v)); break;
	case 10: asm volatile("ltr %w0" :: "r"(v)); break;
	case 11: asm volatile("mov %0, %%fs; mov %1, %%gs" :: "r"(v), "r"(a)); break;
	case 12: set_flags((word)random_next() & ~(word)FLAG_TF); break;
	case 13: set_flags(FLAG_TF | 2); break;
	case 14: cpuid((uint32_t)random_value(), (uint32_t)random_value()); break;
	case 15: invlpg((void *)random_address()); break;
	case 16: asm volatile("fxrstor %0" :: "m"(*(char *)(PLAYGROUND + 16 * random_below(1000)))); break;
	case 17: fill_random((void *)PLAYGROUND, 4096);
		 asm volatile("xrstor %0" :: "m"(*(char *)PLAYGROUND), "a"(-1), "d"(-1)); break;
	case 18: {
		struct { uint64_t pcid, address; } descriptor = { random_value(), random_value() };
		asm volatile("invpcid %0, %1" :: "m"(descriptor), "r"((word)random_below(5)));
		break;
	}
	default:
		fill_random((void *)PLAYGROUND, 4096);
		*(uint64_t *)(PLAYGROUND + 512) = random_below(8);
		*(uint64_t *)(PLAYGROUND + 520) = one_in(2) ? 0 : BIT(63) | random_below(8);
		for (unsigned n = 528; n < 576; n++)
			*(uint8_t *)(PLAYGROUND + n) = 0;
		*(uint32_t *)(PLAYGROUND + 24) = 0x1f80;
		asm volatile("xrstor %0" :: "m"(*(char *)PLAYGROUND), "a"(7), "d"(0));
		break;
	}
	cpuid(1, 0);
	asm volatile("cld");
}

/* --- paging structures --- */

static void tables_spoil(void)
{
	for (unsigned n = 0; n < 16; n++) {
		uint64_t *page = (uint64_t *)(TABLES + 4096 * random_below(64));
		for (unsigned k = 0; k < 512; k++)
			page[k] = one_in(2) ? (TABLES + 4096 * random_below(64)) | random_below(4096) :
				one_in(4) ? random_value() : (random_next() & 0x3ffffff) | 7;
	}
}

/* Tables of garbage that keep our own part of memory. */
static void paging(void)
{
	word *root = (word *)TABLES;
	watchdog_start();
	if (one_in(4))
		tables_spoil();
	copy(root, (void *)(core_cr3 & ~0xffful), 4096);
#ifdef __x86_64__
	for (unsigned n = 1; n < 512; n++)
		if (one_in(4))
			root[n] = one_in(3) ? (word)random_value() : (TABLES + 4096 * random_below(64)) | random_below(4096);
#else
	bool pae = cr4() & CR4_PAE;
	for (unsigned n = pae ? 2 : 8; n < (pae ? 8 : 1024); n += pae ? 2 : 1)
		if (one_in(4))
			root[n] = (TABLES + 4096 * random_below(64)) | (pae ? 1 : random_below(4096));
#endif
	word cr3_bits = random_below(4) << 3;
	set_cr3((word)root | cr3_bits);
	for (unsigned n = 0; n < 16; n++) {
#ifdef __x86_64__
		word at = (word)(random_next() << random_below(16));
		at = (word)((int64_t)(at << 16) >> 16);
#else
		word at = (word)random_next();
#endif
		if (at - 0x100000 < 0x400000)
			continue;
		switch (random_below(4)) {
		case 0: memory_access(at, 0, 1u << random_below(3), false); break;
		case 1: memory_access(at, random_value(), 1u << random_below(3), true); break;
		case 2: invlpg((void *)at); break;
		default: asm volatile("lock; addl $1, (%0)" :: "r"(at) : "memory"); break;
		}
	}
}

/* CR3 itself is garbage: mostly the last case of its boot. */
static void paging_wild(void)
{
	tables_spoil();
	fill_random((void *)PLAYGROUND, 65536);
	set_cr3(one_in(2) ? (word)random_value() : TABLES + 4096 * random_below(64));
	memory_access(random_address(), random_value(), 4, one_in(2));
}

/* --- descriptor tables --- */

#ifdef __x86_64__
#define FAR_RETURN "lretq"
#else
#define FAR_RETURN "lretl"
#endif

static void descriptors(void)
{
	uint64_t *playground = (uint64_t *)PLAYGROUND;
	uint16_t selector = (uint16_t)random_next();
	watchdog_start();	/* a far transfer may arrive anywhere */
	for (unsigned n = 0; n < 256; n++)
		playground[n] = one_in(4) ? random_value() : core_gdt[random_below(SEL_COUNT)] ^ BIT(random_below(64));
	for (unsigned n = SEL_NMI / 8 + 1; n < SEL_COUNT; n++)
		core_gdt[n] = one_in(2) ? random_next() : core_gdt[1 + random_below(16)] ^ BIT(random_below(64));
	asm volatile("lldt %w0" :: "r"(SEL_LDT));
	if (!one_in(4))
		selector = (uint16_t)(one_in(2) ? (random_below(SEL_COUNT) << 3 | random_below(4)) :
				      (random_below(64) << 3 | 4 | random_below(4)));
	word result = 0;
	struct { word offset; uint16_t selector; } __attribute__((packed)) far = {
		one_in(2) ? (word)restart_core : random_address(), selector };
	switch (random_below(12)) {
	case 0: asm volatile("mov %0, %%ds" :: "r"(selector)); break;
	case 1: asm volatile("mov %0, %%ss" :: "r"(selector)); break;
	case 2: asm volatile("mov %0, %%fs" :: "r"(selector)); memory_access(PLAYGROUND, 0, 4, false);
		asm volatile("movl %%fs:(%0), %%eax" :: "r"(random_address()) : "eax"); break;
	case 3: asm volatile("lar %1, %0" : "=r"(result) : "r"((word)selector)); break;
	case 4: asm volatile("lsl %1, %0" : "=r"(result) : "r"((word)selector)); break;
	case 5: asm volatile("verr %0; verw %0" :: "r"(selector)); break;
	case 6: asm volatile("ltr %0" :: "r"(selector)); break;
	case 7: asm volatile("lldt %0" :: "r"(selector)); break;
#ifdef __x86_64__
	case 8: asm volatile("rex.w ljmp *%0" :: "m"(far)); break;
	case 9: asm volatile("rex.w lcall *%0" :: "m"(far)); break;
	case 10: asm volatile("push %0; push %1; push %2; push %3; push %4; iretq" ::
			      "r"((word)selector), "r"((word)PLAYGROUND), "r"((word)random_next()),
			      "r"((word)(random_below(SEL_COUNT) * 8)), "r"((word)far.offset)); break;
#else
	case 8: asm volatile("ljmp *%0" :: "m"(far)); break;
	case 9: asm volatile("lcall *%0" :: "m"(far)); break;
	case 10: {
		word frame[] = { random_below(SEL_COUNT) * 8 + random_below(4), (word)random_next() };
		asm volatile("push %0; push %1; push %2; push %3; push %4; iret" ::
			     "m"(selector), "i"(PLAYGROUND), "m"(frame[1]), "m"(frame[0]), "m"(far.offset));
		break;
	}
#endif
	default: {
		word frame[] = { selector, far.offset };
		asm volatile("push %0; push %1; " FAR_RETURN :: "m"(frame[0]), "m"(frame[1]));
		break;
	}
	}
}

/* GDTR, IDTR and TR are garbage when the next event comes: how a guest dies. */
static void descriptors_wild(void)
{
	struct table_pointer p = { (uint16_t)random_value(), one_in(2) ? random_address() : PLAYGROUND };
	fill_random((void *)PLAYGROUND, 65536);
	if (one_in(2))
		for (word at = PLAYGROUND + 5; at < PLAYGROUND + 4096; at += 8)	/* gates that are present */
			*(uint8_t *)at = (uint8_t)(0x80 | (*(uint8_t *)at & 0x6f));
	switch (random_below(3)) {
	case 0: asm volatile("lidt %0" :: "m"(p)); break;
	case 1: asm volatile("lgdt %0" :: "m"(p)); break;
	default: fill_random(&core_gdt[SEL_TSS / 8], 16); break;
	}
	if (one_in(2))
		asm volatile("mov %0, %%ds" :: "r"(random_below(65536)));
	asm volatile("int3; ud2");
}

/* Every gate leads nowhere: the guest has to die, with its dump. */
static void triple(void)
{
	struct table_pointer none = { 0, 0 };
	asm volatile("lidt %0; ud2" :: "m"(none));
}

/* Nothing wakes this. */
static void halt(void)
{
	for (;;)
		asm volatile("cli; hlt");
}

const struct chapter processor_chapters[] = {
	{ "msr", msr }, { "msr-sweep", msr_sweep }, { "control", control }, { "paging", paging },
	{ "paging-wild", paging_wild }, { "descriptors", descriptors },
	{ "descriptors-wild", descriptors_wild }, { "triple", triple }, { "halt", halt },
	{ 0 },
};
