/* 32-bit and PAE paging (SDM vol. 3, "32-Bit Paging", "PAE Paging"). */
#include "rt/rt.h"

const char chapter[] = "paging, 32-bit and PAE";

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };
#define LINEAR 0x40000000u
#define NX BIT(63)

static uint32_t *directory;
static uint64_t *pdpt, *pd[4];

void chapter_setup(void) { }

/* The first 16 MiB at their own addresses for everyone, the rest empty. */
static void paging_32(void)
{
	directory = page_alloc();
	for (unsigned n = 0; n < 4; n++)
		directory[n] = n << 22 | P | W | U | PS;
	set_cr4(CR4_PSE);
	set_cr3((word)directory);
	set_cr0(cr0() | CR0_PG | CR0_WP);
}
static uint32_t *pte_32(uint32_t linear)
{
	uint32_t *e = &directory[linear >> 22];
	if (!(*e & P))
		*e = (uint32_t)(word)page_alloc() | P | W | U;
	return &((uint32_t *)(*e & ~0xfffu))[linear >> 12 & 1023];
}

static void paging_pae(void)
{
	pdpt = page_alloc();
	for (unsigned n = 0; n < 4; n++) {
		pd[n] = page_alloc();
		pdpt[n] = (word)pd[n] | P;
	}
	for (unsigned n = 0; n < 8; n++)
		pd[0][n] = (uint64_t)n << 21 | P | W | U | PS;
	set_cr4(CR4_PAE);
	set_cr3((word)pdpt);
	wrmsr(EFER, EFER_NXE);
	set_cr0(cr0() | CR0_PG | CR0_WP);
}
static void paging_off(void)
{
	set_cr0(cr0() & ~CR0_PG);
	set_cr4(0);
	wrmsr(EFER, 0);
}
static uint64_t *pte_pae(uint32_t linear)
{
	uint64_t *e = &pd[linear >> 30][linear >> 21 & 511];
	if (!(*e & P))
		*e = (word)page_alloc() | P | W | U;
	return &((uint64_t *)(word)(*e & ~0xfffull))[linear >> 12 & 511];
}

SNIPPET(user_read, "mov 0x40000000, %eax; int $0x80");
SNIPPET(user_write, "mov %eax, 0x40000000; int $0x80");
SNIPPET(user_fetch, "mov $0x40000000, %eax; jmp *%eax");
enum kind { READ, WRITE, FETCH };
/* 0, or the error code of the page fault. */
static int access(enum kind kind, bool user)
{
	static const uint8_t *const code[] = { user_read, user_write, user_fetch };
	int v;
	if (user)
		v = run_user(code[kind]);
	else if (kind == READ)
		v = CATCH(asm volatile("mov (%0), %%eax" :: "r"(LINEAR) : "eax"));
	else if (kind == WRITE)
		v = CATCH(asm volatile("mov %1, (%0)" :: "r"(LINEAR), "r"(0x80cd) : "memory"));
	else
		v = CATCH(asm volatile("jmp *%0" :: "r"(LINEAR)));
	return v == NONE || v == USER_EXIT ? 0 : v == PF ? (int)event.error : 0x1000 + v;
}
static uint8_t *code_page(void)
{
	uint8_t *p = page_alloc();
	p[0] = 0xcd;
	p[1] = 0x80;
	return p;
}

static int model(bool w, bool u, bool nx, enum kind kind, bool user, bool wp, bool i_bit)
{
	bool ok = (!user || u) && (kind != WRITE || w || (!user && !wp)) && (kind != FETCH || !nx);
	return ok ? 0 : E_P | (kind == WRITE ? E_W : 0) | (user ? E_U : 0) | (kind == FETCH && i_bit ? E_I : 0);
}

static void rights_32(bool in_directory)
{
	paging_32();
	uint8_t *page = code_page();
	*pte_32(LINEAR) = (word)page | P | W | U;
	uint32_t *e = in_directory ? &directory[LINEAR >> 22] : pte_32(LINEAR), full = *e;
	for (unsigned n = 0; n < 8; n++) {
		*e = (full & ~(uint32_t)(W | U)) | (n & 1 ? W : 0) | (n & 2 ? U : 0);
		set_cr0(n & 4 ? cr0() | CR0_WP : cr0() & ~CR0_WP);
		set_cr3(cr3());
		for (unsigned k = READ; k <= FETCH; k++)
			for (unsigned user = 0; user < 2; user++) {
				int got = access(k, user);
				page[0] = 0xcd;
				page[1] = 0x80;
				expect_("rights: bits W U WP, access, user", (int)(n << 8 | k << 4 | user), (uint64_t)got,
					(uint64_t)model(n & 1, n & 2, false, k, user, n & 4, false));
			}
	}
	paging_off();
}

RULE(rights_in_the_32_bit_pte) { rights_32(false); }
RULE(rights_in_the_32_bit_pde) { rights_32(true); }

RULE(not_present_32_bit)
{
	paging_32();
	expect_eq(access(READ, false), 0 + 0x1000 * 0);
	expect_eq(event.vector, PF);
	expect_eq(event.error, 0);
	expect_eq(event.cr2, LINEAR);
	expect_eq(access(WRITE, true), E_W | E_U);
	paging_off();
}

RULE(pages_of_4m_with_accessed_and_dirty)
{
	paging_32();
	*(volatile uint32_t *)0x801234 = 99;
	directory[LINEAR >> 22] = 0x800000 | P | W | U | PS;
	expect_eq(*(volatile uint32_t *)(LINEAR + 0x1234), 99);
	expect_eq(directory[LINEAR >> 22] & (A | D), A);
	*(volatile uint32_t *)(LINEAR + 0x1234) = 98;
	expect_eq(directory[LINEAR >> 22] & (A | D), A | D);
	expect_eq(*(volatile uint32_t *)0x801234, 98);
	/* Bit 21 is reserved in a 4 MiB page. */
	directory[LINEAR >> 22] |= 1 << 21;
	set_cr3(cr3());
	expect_eq(access(READ, false), E_P | E_RSVD);
	paging_off();
}

RULE(ps_is_ignored_without_pse)
{
	/* All of the guest's first 4 MiB with small pages. */
	uint32_t *table = page_alloc(), *table_2 = page_alloc(), *table_3 = page_alloc();
	directory = page_alloc();
	for (unsigned n = 0; n < 1024; n++) {
		table[n] = n << 12 | P | W | U;
		table_2[n] = n << 12 | 0x800000 | P | W | U;
	}
	directory[0] = (word)table | P | W | U | PS;
	directory[2] = (word)table_2 | P | W | U;
	table_3[0] = 0x800000 | P | W | U;
	directory[LINEAR >> 22] = (word)table_3 | P | W | U | PS;
	set_cr4(0);
	set_cr3((word)directory);
	set_cr0(cr0() | CR0_PG);
	*(volatile uint32_t *)0x800000 = 5;
	expect_eq(*(volatile uint32_t *)LINEAR, 5);
	paging_off();
}

RULE(accessed_and_dirty_32_bit)
{
	paging_32();
	*pte_32(LINEAR) = (word)code_page() | P | W | U;
	access(READ, false);
	expect_eq(*pte_32(LINEAR) & (A | D), A);
	expect_eq(directory[LINEAR >> 22] & A, A);
	access(WRITE, false);
	expect_eq(*pte_32(LINEAR) & (A | D), A | D);
	paging_off();
}

RULE(accesses_wrap_at_4_gib)
{
	paging_32();
	uint8_t *high = page_alloc(), *low = page_alloc();
	/* Linear 0 in another page than physical 0: only for this. */
	uint32_t *table = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		table[n] = n << 12 | P | W | U;
	table[0] = (word)low | P | W | U;
	directory[0] = (word)table | P | W | U;
	*pte_32(0xfffff000) = (word)high | P | W | U;
	set_cr3(cr3());
	high[0xffe] = 1;
	high[0xfff] = 2;
	low[0] = 3;
	low[1] = 4;
	set_cr3(cr3());
	uint32_t v = 0;
	/* The flat segment's limit ends at FFFFFFFFh: an expand-down one without
	 * limits does not help; a base does: FS begins 2 bytes below 4 GiB. */
	gdt[SEL_FREE / 8] = descriptor(0xfffffffe, 0xfffff, SEG_P | SEG_DATA, SEG_G | SEG_B);
	asm volatile("mov %1, %%fs; mov %%fs:0, %0" : "=r"(v) : "r"(SEL_FREE));
	expect_eq(v, 0x04030201);
	table[0] = 0;
	set_cr3(cr3());
	FAULTS(PF, 0, asm volatile("mov %%fs:0, %0" : "=r"(v)));
	expect_eq(event.cr2, 0);
	paging_off();
}

/* --- PAE --- */
static void rights_pae(bool in_directory)
{
	paging_pae();
	uint8_t *page = code_page();
	*pte_pae(LINEAR) = (word)page | P | W | U;
	uint64_t *e = in_directory ? &pd[1][0] : pte_pae(LINEAR), full = *e;
	for (unsigned n = 0; n < 16; n++) {
		*e = (full & ~(uint64_t)(W | U)) | (n & 1 ? W : 0) | (n & 2 ? U : 0) | (n & 8 ? NX : 0);
		set_cr0(n & 4 ? cr0() | CR0_WP : cr0() & ~CR0_WP);
		set_cr3(cr3());
		for (unsigned k = READ; k <= FETCH; k++)
			for (unsigned user = 0; user < 2; user++) {
				int got = access(k, user);
				page[0] = 0xcd;
				page[1] = 0x80;
				expect_("rights: bits W U WP NX, access, user", (int)(n << 8 | k << 4 | user), (uint64_t)got,
					(uint64_t)model(n & 1, n & 2, n & 8, k, user, n & 4, true));
			}
	}
	paging_off();
}
RULE(rights_in_the_pae_pte) { rights_pae(false); }
RULE(rights_in_the_pae_pde) { rights_pae(true); }

RULE(pdptes_are_read_by_mov_to_cr3_only)
{
	paging_pae();
	uint64_t *other = page_alloc();
	uint32_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*pte_pae(LINEAR) = (word)one | P | W;
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	uint64_t *table = page_alloc();
	table[0] = (word)two | P | W;
	other[0] = (word)table | P | W | U;
	pdpt[1] = (word)other | P;
	invlpg((void *)LINEAR);
	expect_eq(*(volatile uint32_t *)LINEAR, 1);	/* the register still has the old one */
	set_cr3(cr3());
	expect_eq(*(volatile uint32_t *)LINEAR, 2);
	paging_off();
}

RULE(reserved_bits_of_a_pdpte_raise_gp_at_mov_to_cr3)
{
	static const unsigned bits[] = { 1, 2, 5, 6, 7, 8, 63 };
	paging_pae();
	for (volatile unsigned n = 0; n < ARRAY_SIZE(bits); n++) {
		uint64_t good = pdpt[1];
		pdpt[1] = good | BIT(bits[n]);
		FAULTS(GP, 0, set_cr3(cr3()));
		pdpt[1] = good;
	}
	/* Not when it is not present. */
	pdpt[2] = ~1ull;
	FINE(set_cr3(cr3()));
	paging_off();
}

RULE(a_pdpte_that_is_not_present_faults)
{
	paging_pae();
	pdpt[1] = 0;
	set_cr3(cr3());
	access(READ, false);
	expect_eq(event.vector, PF);
	expect_eq(event.error, 0);
	paging_off();
}

RULE(reserved_bits_in_pae_entries)
{
	paging_pae();
	*pte_pae(LINEAR) = (word)code_page() | P | W | U;
	static const unsigned bits[] = { 52, 55, 58, 62 };
	for (unsigned n = 0; n < ARRAY_SIZE(bits); n++) {
		uint64_t *e = pte_pae(LINEAR), good = *e;
		*e |= BIT(bits[n]);
		set_cr3(cr3());
		expect_eq(access(READ, false), E_P | E_RSVD);
		*e = good;
		pd[1][0] |= BIT(bits[n]);
		set_cr3(cr3());
		expect_eq(access(READ, false), E_P | E_RSVD);
		pd[1][0] &= ~BIT(bits[n]);
		set_cr3(cr3());
		expect_eq(access(READ, false), 0);
	}
	wrmsr(EFER, 0);
	*pte_pae(LINEAR) |= NX;
	set_cr3(cr3());
	expect_eq(access(READ, false), E_P | E_RSVD);
	paging_off();
}

RULE(pages_of_2m_with_pae)
{
	paging_pae();
	*(volatile uint32_t *)0xa01234 = 42;
	pd[1][0] = 0xa00000 | P | W | PS;
	expect_eq(*(volatile uint32_t *)(LINEAR + 0x1234), 42);
	expect_eq(pd[1][0] & (A | D), A);
	pd[1][0] |= 1 << 13;
	set_cr3(cr3());
	expect_eq(access(READ, false), E_P | E_RSVD);
	paging_off();
}

RULE(a_fetch_without_nxe_has_no_i_bit)
{
	paging_pae();
	wrmsr(EFER, 0);
	access(FETCH, false);
	expect_eq(event.vector, PF);
	expect_eq(event.error, 0);
	paging_off();
}

RULE(turning_paging_off_and_on_sees_new_tables)
{
	paging_32();
	uint32_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*pte_32(LINEAR) = (word)one | P | W;
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	set_cr0(cr0() & ~CR0_PG);
	*pte_32(LINEAR) = (word)two | P | W;
	set_cr0(cr0() | CR0_PG);
	expect_eq(*(volatile uint32_t *)LINEAR, 2);
	paging_off();
}

RULE(global_pages_32_bit)
{
	paging_32();
	set_cr4(cr4() | CR4_PGE);
	uint32_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*pte_32(LINEAR) = (word)one | P | W | G;
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	*pte_32(LINEAR) = (word)two | P | W | G;
	invlpg((void *)LINEAR);
	expect_eq(*(volatile uint32_t *)LINEAR, 2);
	*pte_32(LINEAR) = (word)one | P | W | G;
	set_cr4(cr4() & ~CR4_PGE);
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	paging_off();
}

RULE(a_task_switch_loads_cr3)
{
	NEEDS_TASKS();
	static struct tss32 task;
	SNIPPET(task_cr3, "mov 0x40000000, %eax; mov %eax, task_cr3_saw; iret; task_cr3_saw: .long 0");
	extern volatile uint32_t task_cr3_saw;
	paging_32();
	uint32_t *one = page_alloc(), *two = page_alloc();
	*one = 1;
	*two = 2;
	*pte_32(LINEAR) = (word)one | P | W;
	uint32_t *old = directory, *other = page_alloc(), *table = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		other[n] = old[n];
	table[0] = (word)two | P | W;
	other[LINEAR >> 22] = (word)table | P | W;
	task = (struct tss32){ .eip = (word)task_cr3, .eflags = 2, .esp = (word)user_stack_top, .cs = SEL_K32,
		.ss = SEL_KDATA, .ds = SEL_KDATA, .es = SEL_KDATA, .cr3 = (word)other, .io_map = sizeof task };
	gdt[SEL_FREE / 8] = descriptor((word)&task, sizeof task - 1, SEG_P | 9, 0);
	tss.t.cr3 = (word)old;
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	FINE(asm volatile("lcall $0x50, $0" ::: "memory"));
	expect_eq(task_cr3_saw, 2);
	expect_eq(cr3(), (word)old);
	expect_eq(*(volatile uint32_t *)LINEAR, 1);
	asm volatile("clts");
	paging_off();
}
