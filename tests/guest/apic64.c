/* Interrupts: local APIC, its timer and IPIs, x2APIC, the 8259s with the
 * 8254, the I/O APIC, the RTC, HLT and NMI (SDM vol. 3, "APIC"; the chips'
 * data sheets). */
#include "rt/rt.h"

const char chapter[] = "interrupts";

enum { ID = 0x20, VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, SVR = 0xf0, ISR = 0x100, IRR = 0x200, ESR = 0x280,
       ICR = 0x300, ICR_HIGH = 0x310, LVT_TIMER = 0x320, LVT_LINT0 = 0x350, LVT_ERROR = 0x370,
       TIMER_INITIAL = 0x380, TIMER_CURRENT = 0x390, TIMER_DIVIDE = 0x3e0 };
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, TSC_DEADLINE_MODE = 2 << 17, EXTINT = 7 << 8,
       SELF = 1 << 18, ASSERT = 1 << 14, NMI_MODE = 4 << 8, DIVIDE_1 = 0xb, ENABLED = 0x100, SPURIOUS = 0xff };
enum { APIC_BASE = 0x1b, TSC_DEADLINE = 0x6e0, BASE_EN = 1 << 11, BASE_EXTD = 1 << 10 };
enum { PIC1 = 0x20, PIC2 = 0xa0, PIT = 0x40, RTC = 0x70 };

#define lapic(r) (*(volatile uint32_t *)(0xfee00000ul + (r)))
static bool in(unsigned base, unsigned vector) { return lapic(base + (vector >> 5 << 4)) >> (vector & 31) & 1; }

/* What was delivered, in order; each handled by an EOI unless `keep`. */
static volatile unsigned got_count;
static volatile uint8_t got[64];
static volatile uint8_t keep;
static volatile word got_ip;
static bool take(struct frame *f)
{
	if (f->vector < 32 && f->vector != NMI)
		return false;
	got[got_count++ & 63] = (uint8_t)f->vector;
	got_ip = f->ip;
	if (f->vector == NMI || f->vector == SPURIOUS || f->vector == keep)
		return true;
	lapic(EOI) = 0;
	return true;
}

static uint64_t base_at_start;
void chapter_setup(void)
{
	if (!base_at_start)
		base_at_start = rdmsr(APIC_BASE);
	wrmsr(APIC_BASE, base_at_start & ~(uint64_t)(BASE_EN | BASE_EXTD));
	wrmsr(APIC_BASE, base_at_start | BASE_EN);
	lapic(SVR) = ENABLED | SPURIOUS;
	lapic(TPR) = 0;
	lapic(LVT_TIMER) = MASKED;
	lapic(LVT_LINT0) = MASKED;
	lapic(LVT_ERROR) = MASKED;
	lapic(TIMER_DIVIDE) = DIVIDE_1;
	lapic(ESR) = 0;
	for (unsigned n = 0; n < 8; n++)
		lapic(EOI) = 0;
	got_count = 0;
	keep = 0;
	event_hook = take;
}

/* A few hundred instructions, for what comes "soon". */
static void soon(void)
{
	for (volatile unsigned n = 0; n < 100; n++)
		;
}
static void self_ipi(unsigned vector) { lapic(ICR) = SELF | ASSERT | vector; }
static void window(void) { asm volatile("sti; nop; nop; cli" ::: "memory"); }
/* Wait for at least n interrupts, not for ever. */
static void await(unsigned n)
{
	uint64_t until = rdtsc() + 3000000000;
	while (got_count < n && rdtsc() < until)
		asm volatile("sti; nop; pause; cli" ::: "memory");
}

/* --- IPIs and priorities --- */
RULE(self_ipi_waits_in_irr_until_if_is_set)
{
	self_ipi(0x40);
	for (unsigned n = 0; n < 100 && !in(IRR, 0x40); n++)
		;
	expect_eq(in(IRR, 0x40), 1);
	expect_eq(got_count, 0);
	window();
	expect_eq(got_count, 1);
	expect_eq(got[0], 0x40);
	expect_eq(in(IRR, 0x40), 0);
	expect_eq(in(ISR, 0x40), 0);
}

RULE(isr_holds_until_eoi_and_blocks_its_class)
{
	keep = 0x45;
	self_ipi(0x45);
	window();
	expect_eq(in(ISR, 0x45), 1);
	expect_eq(lapic(PPR), 0x40);
	self_ipi(0x4f);		/* the same class: waits */
	window();
	expect_eq(got_count, 1);
	self_ipi(0x50);		/* a higher one does not */
	window();
	expect_eq(got_count, 2);
	expect_eq(got[1], 0x50);
	lapic(EOI) = 0;
	expect_eq(in(ISR, 0x45), 0);
	window();
	expect_eq(got_count, 3);
	expect_eq(got[2], 0x4f);
}

RULE(the_highest_vector_comes_first)
{
	self_ipi(0x41);
	self_ipi(0x91);
	self_ipi(0x61);
	window();
	expect_eq(got_count, 3);
	expect_eq(got[0], 0x91);
	expect_eq(got[1], 0x61);
	expect_eq(got[2], 0x41);
}

RULE(the_same_vector_twice_is_one_interrupt)
{
	self_ipi(0x41);
	self_ipi(0x41);
	window();
	expect_eq(got_count, 1);
}

RULE(tpr_blocks_classes_up_to_its_own)
{
	lapic(TPR) = 0x50;
	self_ipi(0x5f);
	window();
	expect_eq(got_count, 0);
	expect_eq(lapic(PPR), 0x50);
	self_ipi(0x60);
	window();
	expect_eq(got_count, 1);
	lapic(TPR) = 0x40;
	window();
	expect_eq(got_count, 2);
	expect_eq(got[1], 0x5f);
}

RULE(cr8_is_the_tprs_class)
{
	set_cr8(7);
	expect_eq(lapic(TPR), 0x70);
	lapic(TPR) = 0x35;
	expect_eq(cr8(), 3);
	set_cr8(7);
	self_ipi(0x60);
	window();
	expect_eq(got_count, 0);
	set_cr8(0);
	window();
	expect_eq(got_count, 1);
}

RULE(ppr_is_the_tpr_when_that_is_higher_or_equal)
{
	lapic(TPR) = 0x23;
	expect_eq(lapic(PPR), 0x23);
	keep = 0x25;
	self_ipi(0x30);
	window();
	lapic(TPR) = 0;
}

RULE(illegal_vectors_are_errors_and_not_delivered)
{
	self_ipi(0x0f);
	lapic(ESR) = 0;
	expect_eq(lapic(ESR) & 0x20, 0x20);	/* send illegal vector */
	window();
	expect_eq(got_count, 0);
	lapic(ESR) = 0;
	expect_eq(lapic(ESR), 0);
}

RULE(an_ipi_to_its_own_id_arrives)
{
	lapic(ICR_HIGH) = lapic(ID) & 0xff000000;
	lapic(ICR) = ASSERT | 0x42;
	window();
	expect_eq(got_count, 1);
	expect_eq(lapic(ICR) & 1 << 12, 0);
}

RULE(an_ipi_to_nobody_goes_nowhere)
{
	lapic(ICR_HIGH) = 0x77u << 24;
	lapic(ICR) = ASSERT | 0x42;
	window();
	expect_eq(got_count, 0);
}

RULE(a_logical_ipi_arrives_by_ldr)
{
	enum { LDR = 0xd0, DFR = 0xe0, LOGICAL = 1 << 11 };
	lapic(DFR) = ~0u;
	lapic(LDR) = 0x04000000;
	lapic(ICR_HIGH) = 0x06000000;
	lapic(ICR) = ASSERT | LOGICAL | 0x42;
	window();
	expect_eq(got_count, 1);
	lapic(ICR_HIGH) = 0x02000000;
	lapic(ICR) = ASSERT | LOGICAL | 0x42;
	window();
	expect_eq(got_count, 1);
}

RULE(software_disable_masks_the_lvts)
{
	lapic(LVT_TIMER) = 0x40;
	expect_eq(lapic(LVT_TIMER) & MASKED, 0);
	lapic(SVR) = SPURIOUS;
	expect_eq(lapic(LVT_TIMER) & MASKED, MASKED);
	lapic(LVT_TIMER) = 0x40;
	expect_eq(lapic(LVT_TIMER) & MASKED, MASKED);
	lapic(SVR) = ENABLED | SPURIOUS;
	lapic(LVT_TIMER) = 0x40;
	expect_eq(lapic(LVT_TIMER) & MASKED, 0);
	lapic(LVT_TIMER) = MASKED;
}

RULE(the_version_register_counts_the_lvts)
{
	expect_eq(lapic(VERSION) & 0xff & ~0xful, 0x10);
	expect((lapic(VERSION) >> 16 & 0xff) >= 4);
}

/* --- shadows and HLT --- */
RULE(sti_opens_only_after_the_next_instruction)
{
	extern const uint8_t sti_after[];
	self_ipi(0x40);
	asm volatile("sti; nop; sti_after: nop; cli" ::: "memory");
	expect_eq(got_count, 1);
	expect_eq(got_ip, (word)sti_after);
	self_ipi(0x40);
	asm volatile("sti; cli" ::: "memory");
	asm volatile("nop; nop" ::: "memory");
	expect_eq(got_count, 1);
	window();
	expect_eq(got_count, 2);
}

RULE(mov_ss_holds_interrupts_for_one_instruction)
{
	extern const uint8_t mov_ss_after[];
	self_ipi(0x40);
	/* POPF opens without a shadow of its own; MOV SS comes at once under STI's. */
	asm volatile("mov %%ss, %%eax; sti; mov %%eax, %%ss; nop; mov_ss_after: nop; cli" ::: "rax", "memory");
	expect_eq(got_count, 1);
	expect_eq(got_ip, (word)mov_ss_after);
}

RULE(popf_opens_at_once)
{
	extern const uint8_t popf_after[];
	self_ipi(0x40);
	asm volatile("pushf; orl $0x200, (%%rsp); popf; popf_after: nop; cli" ::: "memory", "cc");
	expect_eq(got_count, 1);
	expect_eq(got_ip, (word)popf_after);
}

RULE(iret_opens_at_once)
{
	extern const uint8_t iret_after[];
	self_ipi(0x40);
	asm volatile("mov %%rsp, %%rax; push %0; push %%rax; push $0x202; push %1; lea iret_after(%%rip), %%rax; push %%rax; iretq;"
		     "iret_after: nop; cli" :: "i"(SEL_KDATA), "i"(SEL_K64) : "rax", "memory", "cc");
	expect_eq(got_count, 1);
	expect_eq(got_ip, (word)iret_after);
}

RULE(hlt_wakes_and_goes_on_after_it)
{
	extern const uint8_t hlt_after[];
	lapic(LVT_TIMER) = 0x50;
	lapic(TIMER_INITIAL) = 100000;
	asm volatile("sti; hlt; hlt_after: cli" ::: "memory");
	expect_eq(got_count, 1);
	expect_eq(got[0], 0x50);
	expect_eq(got_ip, (word)hlt_after);
}

static void pit_as_nmi(bool on);
static __attribute__((noinline)) void wait_for_nmi(void) { asm volatile("hlt; hlt_nmi_after: nop" ::: "memory"); }
RULE(hlt_wakes_by_nmi_with_if_clear)
{
	extern const uint8_t hlt_nmi_after[];
	lapic(ICR_HIGH) = lapic(ID) & 0xff000000;
	lapic(ICR) = ASSERT | NMI_MODE;
	soon();
	expect_eq(got_count, 1);
	/* Now one that arrives during HLT: the PIT through the I/O APIC as NMI. */
	pit_as_nmi(true);
	for (unsigned n = 0; n < 10 && got_ip != (word)hlt_nmi_after; n++)
		wait_for_nmi();
	word woken_at = got_ip;
	pit_as_nmi(false);
	expect(got_count >= 2);
	expect_eq(got[1], NMI);
	expect_eq(woken_at, (word)hlt_nmi_after);
}

/* --- NMI --- */
RULE(nmi_comes_with_if_clear)
{
	lapic(ICR_HIGH) = lapic(ID) & 0xff000000;
	lapic(ICR) = ASSERT | NMI_MODE;
	soon();
	expect_eq(got_count, 1);
	expect_eq(got[0], NMI);
}

static volatile unsigned depth, deepest, nmis;
static bool nested_nmi(struct frame *f)
{
	if (f->vector != NMI)
		return false;
	nmis++;
	if (++depth > deepest)
		deepest = depth;
	if (nmis == 1) {
		lapic(ICR) = ASSERT | NMI_MODE;
		lapic(ICR) = ASSERT | NMI_MODE;
		soon();
	}
	depth--;
	return true;
}

RULE(nmi_is_blocked_until_iret_and_one_is_kept)
{
	depth = deepest = nmis = 0;
	event_hook = nested_nmi;
	lapic(ICR_HIGH) = lapic(ID) & 0xff000000;
	lapic(ICR) = ASSERT | NMI_MODE;
	soon();
	expect_eq(nmis, 2);
	expect_eq(deepest, 1);
}

/* --- the timer --- */
RULE(timer_one_shot_fires_once)
{
	lapic(LVT_TIMER) = 0x50;
	enum { COUNT = 20000000 };	/* so long that a busy host does not matter */
	lapic(TIMER_INITIAL) = COUNT;
	uint32_t now = lapic(TIMER_CURRENT);
	expect(now && now <= COUNT);
	await(1);
	expect_eq(got_count, 1);
	expect_eq(lapic(TIMER_CURRENT), 0);
	for (unsigned n = 0; n < 20000; n++)
		asm volatile("sti; nop; cli" ::: "memory");
	expect_eq(got_count, 1);
}

RULE(timer_periodic_fires_again_and_again)
{
	lapic(LVT_TIMER) = PERIODIC | 0x50;
	lapic(TIMER_INITIAL) = 50000;
	await(5);
	expect(got_count >= 5);
	lapic(TIMER_INITIAL) = 0;
	window();
	unsigned stopped = got_count;
	for (unsigned n = 0; n < 20000; n++)
		asm volatile("sti; nop; cli" ::: "memory");
	expect_eq(got_count, stopped);
}

RULE(timer_masked_counts_and_does_not_fire)
{
	lapic(LVT_TIMER) = MASKED | 0x50;
	lapic(TIMER_INITIAL) = 1000;
	for (unsigned n = 0; n < 1000000 && lapic(TIMER_CURRENT); n++)
		;
	expect_eq(lapic(TIMER_CURRENT), 0);
	window();
	expect_eq(got_count, 0);
}

/* How far the timer counts in a time, at a divisor. */
static uint32_t counted(uint32_t divide)
{
	lapic(TIMER_DIVIDE) = divide;
	lapic(TIMER_INITIAL) = ~0u;
	uint64_t t = rdtsc();
	while (rdtsc() - t < 4000000)
		;
	uint32_t n = ~0u - lapic(TIMER_CURRENT);
	lapic(TIMER_INITIAL) = 0;
	return n;
}
RULE(timer_divides)
{
	bool right = false;
	lapic(LVT_TIMER) = MASKED;
	/* A busy host may hold the guest between two reads: some tries. */
	for (unsigned n = 0; n < 10 && !right; n++) {
		uint32_t slow = counted(0xa), fast = counted(DIVIDE_1);	/* by 128, by 1 */
		right = fast > slow * 100ull && fast < slow * 160ull;
	}
	expect(right);
}

static bool tsc_deadline(void)
{
	if (cpuid(1, 0).c >> 24 & 1)
		return true;
	skip("no TSC deadline");
	return false;
}

RULE(timer_tsc_deadline_fires_at_the_deadline_and_disarms)
{
	if (!tsc_deadline())
		return;
	lapic(LVT_TIMER) = TSC_DEADLINE_MODE | 0x50;
	uint64_t deadline = rdtsc() + 30000000;
	wrmsr(TSC_DEADLINE, deadline);
	expect_eq(rdmsr(TSC_DEADLINE), deadline);
	await(1);
	expect_eq(got_count, 1);
	expect(rdtsc() >= deadline);
	expect_eq(rdmsr(TSC_DEADLINE), 0);
}

RULE(timer_tsc_deadline_in_the_past_fires_at_once)
{
	if (!tsc_deadline())
		return;
	lapic(LVT_TIMER) = TSC_DEADLINE_MODE | 0x50;
	wrmsr(TSC_DEADLINE, 1);
	await(1);
	expect_eq(got_count, 1);
}

RULE(timer_tsc_deadline_zero_disarms)
{
	if (!tsc_deadline())
		return;
	lapic(LVT_TIMER) = TSC_DEADLINE_MODE | 0x50;
	uint64_t deadline = rdtsc() + 20000000;
	wrmsr(TSC_DEADLINE, deadline);
	wrmsr(TSC_DEADLINE, 0);
	bool in_time = rdtsc() < deadline;	/* a busy host may have been too slow */
	while (rdtsc() < deadline + 1000000)
		window();
	expect(!in_time || !got_count);
}

RULE(timer_tsc_deadline_is_ignored_in_the_other_modes)
{
	if (!tsc_deadline())
		return;
	lapic(LVT_TIMER) = 0x50;
	wrmsr(TSC_DEADLINE, 1);
	expect_eq(rdmsr(TSC_DEADLINE), 0);
	window();
	expect_eq(got_count, 0);
	/* and the initial count in deadline mode */
	lapic(LVT_TIMER) = TSC_DEADLINE_MODE | 0x50;
	lapic(TIMER_INITIAL) = 10;
	expect_eq(lapic(TIMER_CURRENT), 0);
}

/* --- APIC base and x2APIC --- */
RULE(apic_base_transitions)
{
	uint64_t base = base_at_start;
	FAULTS(GP, 0, wrmsr(APIC_BASE, (base & ~(uint64_t)BASE_EN) | BASE_EXTD));
	FAULTS(GP, 0, wrmsr(APIC_BASE, base | BIT(60)));
	FAULTS(GP, 0, wrmsr(APIC_BASE, base | 1));
	if (!(cpuid(1, 0).c >> 21 & 1))
		return;
	FINE(wrmsr(APIC_BASE, base | BASE_EN | BASE_EXTD));
	FAULTS(GP, 0, wrmsr(APIC_BASE, base | BASE_EN));	/* x2APIC to xAPIC */
	FINE(wrmsr(APIC_BASE, base & ~(uint64_t)(BASE_EN | BASE_EXTD)));
	FAULTS(GP, 0, wrmsr(APIC_BASE, base | BASE_EN | BASE_EXTD));	/* disabled to x2APIC */
	FINE(wrmsr(APIC_BASE, base | BASE_EN));
}

RULE(cpuid_apic_bit_follows_the_enable)
{
	expect_eq(cpuid(1, 0).d >> 9 & 1, 1);
	wrmsr(APIC_BASE, base_at_start & ~(uint64_t)BASE_EN);
	expect_eq(cpuid(1, 0).d >> 9 & 1, 0);
	wrmsr(APIC_BASE, base_at_start);
	expect_eq(cpuid(1, 0).d >> 9 & 1, 1);
}

RULE(the_base_moves)
{
	uint64_t base = base_at_start;
	wrmsr(APIC_BASE, (base & 0xfff) | 0xfed80000);
	uint32_t version = *(volatile uint32_t *)(0xfed80000ul + VERSION);
	wrmsr(APIC_BASE, base);
	expect_eq(version, lapic(VERSION));
}

static bool x2apic(void)
{
	if (!(cpuid(1, 0).c >> 21 & 1)) {
		skip("no x2APIC");
		return false;
	}
	wrmsr(APIC_BASE, base_at_start | BASE_EN | BASE_EXTD);
	return true;
}
static bool take_x2(struct frame *f)
{
	if (f->vector < 32)
		return false;
	got[got_count++ & 63] = (uint8_t)f->vector;
	wrmsr(0x80b, 0);
	return true;
}

RULE(x2apic_msrs_are_gp_in_xapic_mode)
{
	FAULTS(GP, 0, rdmsr(0x802));
	FAULTS(GP, 0, wrmsr(0x80b, 0));
}

RULE(x2apic_self_ipi_and_eoi)
{
	if (!x2apic())
		return;
	event_hook = take_x2;
	wrmsr(0x83f, 0x44);
	window();
	expect_eq(got_count, 1);
	expect_eq(got[0], 0x44);
	expect_eq(rdmsr(0x812), 0);
	wrmsr(0x830, SELF | ASSERT | 0x45);
	window();
	expect_eq(got_count, 2);
	/* ICR to its own ID, in one write */
	wrmsr(0x830, rdmsr(0x802) << 32 | ASSERT | 0x46);
	window();
	expect_eq(got_count, 3);
}

RULE(x2apic_logical_id_follows_the_id)
{
	if (!x2apic())
		return;
	uint64_t id = rdmsr(0x802);
	expect_eq(rdmsr(0x80d), (id >> 4) << 16 | 1u << (id & 15));
}

RULE(x2apic_reserved_and_missing_registers_raise_gp)
{
	if (!x2apic())
		return;
	static const uint32_t missing[] = { 0x800, 0x801, 0x80e, 0x831, 0x80c, 0x84f, 0x8ff };
	for (volatile unsigned n = 0; n < ARRAY_SIZE(missing); n++) {
		FAULTS(GP, 0, rdmsr(missing[n]));
		FAULTS(GP, 0, wrmsr(missing[n], 0));
	}
	FAULTS(GP, 0, rdmsr(0x80b));		/* EOI is write-only */
	FAULTS(GP, 0, rdmsr(0x83f));		/* so is SELF IPI */
	FAULTS(GP, 0, wrmsr(0x802, 1));		/* read-only: ID, version, LDR, PPR, ISR */
	FAULTS(GP, 0, wrmsr(0x803, 1));
	FAULTS(GP, 0, wrmsr(0x80d, 1));
	FAULTS(GP, 0, wrmsr(0x80a, 1));
	FAULTS(GP, 0, wrmsr(0x810, 1));
	FAULTS(GP, 0, wrmsr(0x839, 1));		/* current count */
	FAULTS(GP, 0, wrmsr(0x80b, 1));		/* only 0 */
	FAULTS(GP, 0, wrmsr(0x828, 1));
	FAULTS(GP, 0, wrmsr(0x808, 0x100));	/* reserved bits */
	FAULTS(GP, 0, wrmsr(0x83f, 0x100));
	FAULTS(GP, 0, wrmsr(0x832, BIT(32)));
	FINE(wrmsr(0x808, 0x20));
	expect_eq(cr8(), 2);
	FINE(wrmsr(0x808, 0));
}

RULE(x2apic_timer)
{
	if (!x2apic())
		return;
	event_hook = take_x2;
	wrmsr(0x83e, DIVIDE_1);
	wrmsr(0x832, 0x51);
	wrmsr(0x838, 20000);
	await(1);
	expect_eq(got_count, 1);
	expect_eq(got[0], 0x51);
	wrmsr(0x832, MASKED);
}

/* --- the chips --- */
static bool take_pic(struct frame *f)
{
	if (f->vector < 32)
		return false;
	got[got_count++ & 63] = (uint8_t)f->vector;
	if (f->vector >= 0x28 && f->vector < 0x30) {
		outb(RTC, 0x0c);
		inb(RTC + 1);
		outb(PIC2, 0x20);
	}
	outb(PIC1, 0x20);
	return true;
}
static void pic_setup(uint8_t mask1, uint8_t mask2)
{
	outb(PIC1, 0x11);
	outb(PIC1 + 1, 0x20);
	outb(PIC1 + 1, 4);
	outb(PIC1 + 1, 1);
	outb(PIC2, 0x11);
	outb(PIC2 + 1, 0x28);
	outb(PIC2 + 1, 2);
	outb(PIC2 + 1, 1);
	outb(PIC1 + 1, mask1);
	outb(PIC2 + 1, mask2);
}
static void pit_periodic(unsigned count)
{
	outb(PIT + 3, 0x34);
	outb(PIT, (uint8_t)count);
	outb(PIT, (uint8_t)(count >> 8));
}
static void pit_stop(void) { outb(PIT + 3, 0x30); }
static void await_hlt(unsigned n)
{
	for (unsigned k = 0; k < 1000 && got_count < n; k++)
		asm volatile("sti; hlt; cli" ::: "memory");
}

RULE(pit_through_the_8259_as_extint)
{
	event_hook = take_pic;
	pic_setup(0xfe, 0xff);
	lapic(LVT_LINT0) = EXTINT;
	pit_periodic(1193);
	await_hlt(3);
	pit_stop();
	outb(PIC1 + 1, 0xff);
	lapic(LVT_LINT0) = MASKED;
	expect(got_count >= 3);
	expect_eq(got[0], 0x20);
	expect_eq(got[2], 0x20);
	/* An ExtINT sets no ISR bit of the local APIC. */
	expect_eq(in(ISR, 0x20), 0);
}

RULE(rtc_through_the_second_8259)
{
	event_hook = take_pic;
	pic_setup(0xfb, 0xfe);
	lapic(LVT_LINT0) = EXTINT;
	outb(RTC, 0x0a);
	outb(RTC + 1, 0x26);
	outb(RTC, 0x0c);
	inb(RTC + 1);
	outb(RTC, 0x0b);
	outb(RTC + 1, 0x42);	/* periodic, 24 hours */
	await_hlt(2);
	outb(RTC, 0x0b);
	outb(RTC + 1, 0x02);
	outb(RTC, 0x0c);
	inb(RTC + 1);
	outb(PIC1 + 1, 0xff);
	outb(PIC2 + 1, 0xff);
	lapic(LVT_LINT0) = MASKED;
	expect(got_count >= 2);
	expect_eq(got[0], 0x28);
}

#define io_apic_select (*(volatile uint32_t *)0xfec00000)
#define io_apic_window (*(volatile uint32_t *)0xfec00010)
static void io_apic(unsigned pin, uint32_t low)
{
	io_apic_select = 0x11 + 2 * pin;
	io_apic_window = lapic(ID) & 0xff000000;
	io_apic_select = 0x10 + 2 * pin;
	io_apic_window = low;
}

static void pit_as_nmi(bool on)
{
	io_apic(2, on ? NMI_MODE : MASKED);
	if (on)
		pit_periodic(0x2000);
	else
		pit_stop();
}

RULE(pit_through_the_io_apic)
{
	io_apic(2, 0x70);
	pit_periodic(1193);
	await_hlt(3);
	io_apic(2, MASKED);
	pit_stop();
	expect(got_count >= 3);
	expect_eq(got[0], 0x70);
}

RULE(a_masked_pin_of_the_io_apic_is_silent)
{
	io_apic(2, MASKED | 0x70);
	pit_periodic(1193);
	uint64_t t = rdtsc();
	while (rdtsc() - t < 10000000)
		window();
	pit_stop();
	expect_eq(got_count, 0);
}

RULE(the_io_apic_has_24_pins)
{
	io_apic_select = 1;
	expect_eq(io_apic_window >> 16 & 0xff, 23);
}

RULE(an_msi_arrives)
{
	/* A write to FEExxxxxh is a message only from a device; the processor's
	 * own reaches its registers. The I/O APIC's message with a logical
	 * destination: */
	enum { LDR = 0xd0, DFR = 0xe0, LOGICAL = 1 << 11 };
	lapic(DFR) = ~0u;
	lapic(LDR) = 0x80000000;
	io_apic_select = 0x15;
	io_apic_window = 0x80000000;
	io_apic_select = 0x14;
	io_apic_window = LOGICAL | 0x71;
	pit_periodic(1193);
	await_hlt(1);
	pit_stop();
	io_apic(2, MASKED);
	expect(got_count >= 1);
	expect_eq(got[0], 0x71);
}

RULE(a_level_interrupt_comes_again_until_its_line_falls)
{
	enum { LEVEL_TRIGGERED = 1 << 15, REMOTE_IRR = 1 << 14 };
	/* The 8254's mode 0: the output rises at the end of the count and stays. */
	outb(PIT + 3, 0x30);
	io_apic(2, LEVEL_TRIGGERED | 0x72);
	keep = 0x72;
	outb(PIT, 0x20);
	outb(PIT, 0);
	await(1);
	expect_eq(got_count, 1);
	io_apic_select = 0x14;
	expect_eq(io_apic_window & REMOTE_IRR, REMOTE_IRR);
	window();
	expect_eq(got_count, 1);		/* not before the EOI */
	lapic(EOI) = 0;
	await(2);
	expect_eq(got_count, 2);
	outb(PIT + 3, 0x30);			/* the line falls */
	lapic(EOI) = 0;
	soon();
	window();
	expect_eq(got_count, 2);
	io_apic_select = 0x14;
	expect_eq(io_apic_window & REMOTE_IRR, 0);
	io_apic(2, MASKED);
	pit_stop();
}

RULE(the_8254_counts_down_and_latches)
{
	outb(PIT + 3, 0x34);
	outb(PIT, 0xff);
	outb(PIT, 0xff);
	uint64_t t = rdtsc();
	while (rdtsc() - t < 1000000)
		;
	outb(PIT + 3, 0);
	unsigned first = inb(PIT);
	first |= inb(PIT) << 8;
	expect(first < 0xffff);
	pit_stop();
}
