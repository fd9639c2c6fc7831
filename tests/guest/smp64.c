/* Two processors: INIT and SIPI, IPIs, atomicity, memory order, code and
 * translations that the other one changes (SDM vol. 3, "Multiple-Processor
 * Management", "APIC"). Needs --processors 2. */
#include "rt/second.h"

const char chapter[] = "two processors";

#define LINEAR 0x10000000000ul

void chapter_setup(void)
{
	lapic(SVR) = 0x1ff;
	before_reset = ap_stop;
}
RULE(sipi_starts_at_its_page_in_real_mode)
{
	START();
	expect_eq(*(volatile uint16_t *)STARTED_AT, TRAMPOLINE >> 4);
	if (!ap_start(OTHER_TRAMPOLINE))
		expect(!"the second processor starts again");
	expect_eq(*(volatile uint16_t *)STARTED_AT, OTHER_TRAMPOLINE >> 4);
}

RULE(init_stops_the_processor_until_a_sipi)
{
	START();
	uint64_t loops = ap_loops;
	expect(WAIT(ap_loops != loops));
	ap_stop();
	/* It ends soon, and for good. */
	expect(WAIT(({ loops = ap_loops; pause_for(30000000); loops == ap_loops; })));
	pause_for(30000000);
	expect_eq(ap_loops, loops);
}

RULE(a_sipi_to_a_running_processor_is_ignored)
{
	START();
	expect_eq(*(volatile uint16_t *)(STARTED_AT + 2), 1);
	send(STARTUP | ASSERT | OTHER_TRAMPOLINE >> 12);
	uint64_t loops = ap_loops;
	expect(WAIT(ap_loops != loops));
	expect_eq(*(volatile uint16_t *)(STARTED_AT + 2), 1);
}

RULE(init_level_deassert_is_ignored)
{
	START();
	send(INIT | LEVEL);
	uint64_t loops = ap_loops;
	expect(WAIT(ap_loops != loops));
}

static volatile unsigned taken;
static void open_interrupts(void) { asm volatile("sti"); }
SNIPPET(count_interrupt, "push %rax; lock incl taken_asm; mov $0xfee000b0, %eax; movl $0, (%rax); pop %rax; iretq");
asm(".data; .globl taken_asm; taken_asm: .long 0; .text");
extern volatile uint32_t taken_asm;

RULE(an_ipi_reaches_the_other_processor)
{
	START();
	taken_asm = 0;
	gate_set(&idt[0x60], (word)count_interrupt, SEL_K64, SEG_P | GATE_INT, 0);
	WORK(open_interrupts);
	DONE();
	send(ASSERT | 0x60);
	expect(WAIT(taken_asm == 1));
	lapic(ICR) = ALL_BUT_SELF | ASSERT | 0x60;
	expect(WAIT(taken_asm == 2));
	expect_eq(flags() & FLAG_IF, 0);
	pause_for(100000);
	expect_eq(taken_asm, 2);
}

static void halt_once(void) { asm volatile("sti; hlt; cli"); }
RULE(an_ipi_wakes_hlt)
{
	START();
	taken_asm = 0;
	gate_set(&idt[0x60], (word)count_interrupt, SEL_K64, SEG_P | GATE_INT, 0);
	WORK(halt_once);
	pause_for(3000000);
	expect(ap_work != NULL);
	send(ASSERT | 0x60);
	DONE();
	expect_eq(taken_asm, 1);
}

static void ap_sends(void) { lapic(ICR_HIGH) = 0; lapic(ICR) = ASSERT | 0x61; }
RULE(the_other_processor_interrupts_this_one)
{
	START();
	taken_asm = 0;
	gate_set(&idt[0x61], (word)count_interrupt, SEL_K64, SEG_P | GATE_INT, 0);
	WORK(ap_sends);
	sti();
	expect(WAIT(taken_asm == 1));
	cli();
	DONE();
}

/* --- atomicity --- */
enum { TURNS = 20000 };
static uint8_t shared[128] __attribute__((aligned(64)));
static volatile uint64_t *counter;
static void increments(void)
{
	for (unsigned n = 0; n < TURNS; n++)
		asm volatile("lock incq %0" : "+m"(*counter));
}
static void both(void (*f)(void))
{
	WORK(f);
	f();
	DONE();
}

RULE(locked_increments_are_atomic)
{
	START();
	counter = (uint64_t *)shared;
	*counter = 0;
	both(increments);
	expect_eq(*counter, 2 * TURNS);
}

static void split_increments(void)
{
	for (unsigned n = 0; n < TURNS / 20; n++)
		asm volatile("lock incq %0" : "+m"(*counter));
}
RULE(locked_increments_across_cache_lines_and_pages_are_atomic)
{
	START();
	counter = (uint64_t *)(shared + 60);
	*counter = 0;
	both(split_increments);
	expect_eq(*counter, 2 * (TURNS / 20));
	uint8_t *two = page_alloc();
	page_alloc();
	counter = (uint64_t *)(two + 4093);
	*counter = 0;
	both(split_increments);
	expect_eq(*counter, 2 * (TURNS / 20));
}

static void compare_exchanges(void)
{
	for (unsigned n = 0; n < TURNS; n++) {
		uint64_t old = *counter;
		while (!__sync_bool_compare_and_swap(counter, old, old + 1))
			old = *counter;
	}
}
RULE(compare_exchange_is_atomic)
{
	START();
	counter = (uint64_t *)shared;
	*counter = 0;
	both(compare_exchanges);
	expect_eq(*counter, 2 * TURNS);
}

static volatile uint32_t lock_word;
static volatile uint64_t guarded;
static void exchanges(void)
{
	for (unsigned n = 0; n < TURNS / 10; n++) {
		uint32_t v;
		do {
			v = 1;
			asm volatile("xchg %0, %1" : "+r"(v), "+m"(lock_word) :: "memory");
			if (v)
				asm volatile("pause");
		} while (v);
		guarded++;
		barrier();
		lock_word = 0;
	}
}
RULE(xchg_without_lock_is_locked)
{
	START();
	lock_word = 0;
	guarded = 0;
	both(exchanges);
	expect_eq(guarded, 2 * (TURNS / 10));
}

static void wide_exchanges(void)
{
	/* Both halves count together. */
	volatile uint64_t *p = (volatile uint64_t *)shared;
	for (unsigned n = 0; n < TURNS / 4; n++) {
		bool done = false;
		while (!done) {
			uint64_t a = p[0], d = p[1];
			asm volatile("lock cmpxchg16b %1; setz %0" : "=q"(done), "+m"(*(uint8_t (*)[16])shared), "+a"(a), "+d"(d)
				     : "b"(a + 1), "c"(d + 1) : "cc", "memory");
		}
	}
}
RULE(cmpxchg16b_is_atomic)
{
	START();
	memory_fill(shared, 0, sizeof shared);
	both(wide_exchanges);
	expect_eq(((uint64_t *)shared)[0], 2 * (TURNS / 4));
	expect_eq(((uint64_t *)shared)[1], 2 * (TURNS / 4));
}

static volatile bool stop;
static void store_patterns(void)
{
	volatile uint64_t *p = (volatile uint64_t *)shared;
	while (!stop) {
		*p = 0;
		*p = ~0ull;
	}
}
RULE(aligned_stores_do_not_tear)
{
	START();
	stop = false;
	unsigned torn = 0;
	*(volatile uint64_t *)shared = 0;
	WORK(store_patterns);
	expect(WAIT(*(volatile uint64_t *)shared != 0));
	for (unsigned n = 0; n < 10 * TURNS; n++) {
		uint64_t v = *(volatile uint64_t *)shared;
		torn += v && v != ~0ull;
	}
	stop = true;
	DONE();
	expect_eq(torn, 0);
}

/* --- order --- */
static volatile uint64_t message, ready;
static void messages(void)
{
	for (uint64_t n = 1; n <= TURNS; n++) {
		message = n;
		ready = n;
	}
}
RULE(stores_are_seen_in_their_order)
{
	START();
	message = ready = 0;
	unsigned wrong = 0;
	WORK(messages);
	while (ap_work) {
		uint64_t r = ready, m = message;
		wrong += m < r;
	}
	expect_eq(wrong, 0);
}

static volatile uint64_t x, y, seen_by_ap, go, gone;
static void dekker(void)
{
	for (uint64_t n = 1; n <= 2000; n++) {
		while (go < n && !stop)
			;
		x = 1;
		asm volatile("mfence" ::: "memory");
		seen_by_ap = y;
		gone = n;
	}
}
RULE(a_fence_orders_a_store_before_a_load)
{
	START();
	stop = false;
	go = gone = 0;
	unsigned wrong = 0;
	WORK(dekker);
	for (uint64_t n = 1; n <= 2000; n++) {
		x = y = 0;
		barrier();
		go = n;
		y = 1;
		asm volatile("mfence" ::: "memory");
		uint64_t mine = x;
		if (!WAIT(gone == n))
			break;
		wrong += !mine && !seen_by_ap;
	}
	stop = true;
	DONE();
	expect_eq(wrong, 0);
	expect_eq(gone, 2000);
}

/* --- what the other one changes --- */
static uint8_t code[4096] __attribute__((aligned(4096)));
static volatile uint32_t code_says;
static void run_code(void)
{
	while (!stop) {
		uint32_t v;
		asm volatile("call *%1" : "=a"(v) : "r"(code) : "memory");
		code_says = v;
		struct cpuid serialize = cpuid(0, 0);
		(void)serialize;
	}
}
RULE(code_changed_by_the_other_processor_is_seen)
{
	static const uint8_t return_value[] = { 0x90, 0x90, 0x90, 0xb8, 0, 0, 0, 0, 0xc3 };	/* immediate at 4 */
	START();
	memory_copy(code, return_value, sizeof return_value);
	stop = false;
	code_says = ~0u;
	WORK(run_code);
	for (uint32_t n = 1; n <= 100; n++) {
		*(volatile uint32_t *)(code + 4) = n;
		if (!WAIT(code_says == n)) {
			expect_eq(code_says, n);
			break;
		}
	}
	stop = true;
	DONE();
}

static volatile uint64_t page_says;
static volatile unsigned flush_wanted, flush_done;
static void read_page(void)
{
	while (!stop) {
		page_says = *(volatile uint64_t *)LINEAR;
		if (flush_wanted != flush_done) {
			invlpg((void *)LINEAR);
			flush_done = flush_wanted;
		}
	}
}
RULE(translations_changed_by_the_other_processor_are_seen_after_invlpg)
{
	uint64_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*map_entry(LINEAR, 1) = (word)one | 3;
	START();
	stop = false;
	flush_wanted = flush_done = 0;
	WORK(read_page);
	for (unsigned n = 1; n <= 50; n++) {
		*map_entry(LINEAR, 1) = (word)(n & 1 ? two : one) | 3;
		flush_wanted = n;
		if (!WAIT(flush_done == n) || !WAIT(page_says == (n & 1 ? 2 : 1))) {
			expect_eq(page_says, n & 1 ? 2 : 1);
			break;
		}
	}
	stop = true;
	DONE();
}

SNIPPET(shootdown, "push %rax; mov $0x100, %rax; shl $32, %rax; invlpg (%rax); mov $0xfee000b0, %eax; movl $0, (%rax);"
	"lock incl taken_asm; pop %rax; iretq");
static void read_with_interrupts(void)
{
	sti();
	while (!stop)
		page_says = *(volatile uint64_t *)LINEAR;
	cli();
}
RULE(a_shootdown_by_ipi)
{
	uint64_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*map_entry(LINEAR, 1) = (word)one | 3;
	gate_set(&idt[0x60], (word)shootdown, SEL_K64, SEG_P | GATE_INT, 0);
	START();
	stop = false;
	taken_asm = 0;
	page_says = 0;
	WORK(read_with_interrupts);
	expect(WAIT(page_says == 1));
	for (unsigned n = 1; n <= 50; n++) {
		*map_entry(LINEAR, 1) = (word)(n & 1 ? two : one) | 3;
		send(ASSERT | 0x60);
		if (!WAIT(taken_asm == n)) {
			expect_eq(taken_asm, n);
			break;
		}
		/* After the acknowledgement nothing old is read: two more looks. */
		for (unsigned k = 0; k < 2; k++) {
			page_says = 0;
			WAIT(page_says != 0);
		}
		expect_eq(page_says, n & 1 ? 2 : 1);
	}
	stop = true;
	DONE();
}

static void set_accessed(void)
{
	for (unsigned n = 0; n < TURNS / 10; n++)
		asm volatile("lock orq $0x200, %0" : "+m"(*map_entry(LINEAR, 1)));
}
RULE(accessed_and_dirty_bits_are_set_atomically)
{
	/* One processor ORs an ignored bit while the other's writes set D. */
	uint64_t *page = page_alloc();
	uint64_t *e = map_entry(LINEAR, 1);
	*e = (word)page | 3;
	START();
	unsigned lost = 0;
	WORK(set_accessed);
	while (ap_work) {
		asm volatile("lock andq $~0x260, %0" : "+m"(*e));
		invlpg((void *)LINEAR);
		*(volatile uint64_t *)LINEAR = 1;
		lost += !(*(volatile uint64_t *)e & 0x40);
	}
	expect_eq(lost, 0);
}

RULE(the_ids_differ_and_cpuid_counts_two)
{
	START();
	expect_eq(cpuid(1, 0).b >> 16 & 0xff, 2);
	expect_eq(cpuid(1, 0).d >> 28 & 1, 1);
	expect_eq(cpuid(0xb, 1).b, 2);
	expect_eq(cpuid(0xb, 0).d, cpuid(1, 0).b >> 24);
	static volatile uint32_t id;
	void tell(void) { id = cpuid(1, 0).b >> 24; }
	WORK(tell);
	DONE();
	expect(id != cpuid(1, 0).b >> 24);
}
