/* 4-level paging: rights, bits, faults, canonical addresses and the control
 * registers (SDM vol. 3, "Paging"). What the TLB may remember is in
 * paging64_tlb.c, the chapter's other half. */
#include "paging64.h"

const char chapter[] = "paging, 4-level";

bool has(unsigned leaf, char reg, unsigned bit)
{
	struct cpuid c = cpuid(leaf, 0);
	return (reg == 'b' ? c.b : reg == 'c' ? c.c : c.d) >> bit & 1;
}

#define USER_PAGE 0x18000000000ul	/* user code and stack, when the rest is the supervisor's */
static uint64_t user_page;
void chapter_setup(void)
{
	/* The guest's own pages belong to the supervisor; user code has a page. */
	SNIPPET(user_code, "jmp user_read; jmp user_write; user_read: mov (%rax), %rbx; int $0x80;"
		"user_write: movb $0xcd, (%rax); int $0x80; user_jump: jmp *%rax");
	for (unsigned n = 0; n < 2048; n++)
		boot_pd[n] &= ~(uint64_t)U;
	user_page = (uint64_t)page_alloc();
	memory_copy((void *)user_page, user_code, (size_t)(user_code_end - user_code));
	*map_entry(USER_PAGE, 1) = user_page | P | W | U;
	set_cr3(cr3());
}

extern const uint8_t user_code[], user_read[], user_write[], user_jump[];

int access(uint64_t at, enum kind kind, bool user)
{
	int v;
	if (user) {
		const uint8_t *entry[] = { user_read, user_write, user_jump };
		struct entry_frame f = { USER_PAGE + (word)(entry[kind] - user_code), SEL_U64, 2, USER_PAGE + 4096,
					 SEL_UDATA, at };
		v = run_frame(&f);
	} else if (kind == READ)
		v = CATCH(asm volatile("mov (%0), %%rax" :: "r"(at) : "rax"));
	else if (kind == WRITE)
		v = CATCH(asm volatile("movb $0xcd, (%0)" :: "r"(at) : "memory"));
	else
		v = CATCH(asm volatile("jmp *%0" :: "r"(at)));
	return v == USER_EXIT ? NONE : v;
}

uint64_t map(uint64_t linear, uint64_t bits)
{
	uint8_t *page = page_alloc();
	page[0] = 0xcd;
	page[1] = 0x80;
	*map_entry(linear, 1) = (uint64_t)page | bits;
	invlpg((void *)linear);
	return (uint64_t)page;
}

/* --- rights: all combinations against the words of "Determination of Access Rights" --- */

static int model(bool writable, bool user_page_, bool nx, enum kind kind, bool user, bool wp, bool smep, bool smap,
		 bool ac)
{
	bool ok;
	if (user)
		ok = user_page_ && (kind == READ || (kind == WRITE ? writable : !nx));
	else if (kind == FETCH)
		ok = !nx && !(user_page_ && smep);
	else
		ok = !(user_page_ && smap && !ac) && (kind == READ || writable || !wp);
	if (ok)
		return 0;
	return E_P | (kind == WRITE ? E_W : 0) | (user ? E_U : 0) | (kind == FETCH ? E_I : 0);
}

static void rights(unsigned level, bool smep, bool smap)
{
	/* One level has the bits, the others all rights. */
	map(LINEAR, P | W | U);
	uint64_t *entry = map_entry(LINEAR, level), full = *entry | 7;
	for (unsigned bits = 0; bits < 8; bits++) {
		bool w = bits & 1, u = bits & 2, nx = bits & 4;
		*entry = (full & ~(uint64_t)(W | U)) | (w ? W : 0) | (u ? U : 0) | (nx ? NX : 0);
		for (unsigned mode = 0; mode < 4; mode++) {
			bool wp = mode & 1, ac = mode & 2;
			set_cr0(wp ? cr0() | CR0_WP : cr0() & ~CR0_WP);
			set_cr4((cr4() & ~(CR4_SMEP | CR4_SMAP)) | (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0));
			set_cr3(cr3());
			for (unsigned k = READ; k <= FETCH; k++)
				for (unsigned user = 0; user < 2; user++) {
					int wanted = model(w, u, nx, k, user, wp, smep, smap, ac);
					set_flags(ac ? FLAG_AC | 2 : 2);
					int v = access(LINEAR, k, user);
					int got = v == NONE ? 0 : v == PF ? (int)event.error : 0x1000 + v;
					set_flags(2);
					if (got == wanted)
						continue;
					print("# level %u W %d U %d NX %d WP %d AC %d SMEP %d SMAP %d, %s %s:\n", level, w,
					      u, nx, wp, ac, smep, smap, user ? "user" : "supervisor",
					      k == READ ? "read" : k == WRITE ? "write" : "fetch");
					expect_eq(got, wanted);
				}
		}
	}
	set_cr4(cr4() & ~(CR4_SMEP | CR4_SMAP));
	*entry = full;
	set_cr3(cr3());
}

RULE(rights_in_the_pte) { rights(1, false, false); }
RULE(rights_in_the_pde) { rights(2, false, false); }
RULE(rights_in_the_pdpte) { rights(3, false, false); }
RULE(rights_in_the_pml4e) { rights(4, false, false); }
RULE(smep_keeps_the_supervisor_from_fetching_user_pages)
{
	if (!has(7, 'b', 7))
		skip("no SMEP");
	else
		rights(1, true, false);
}
RULE(smap_keeps_the_supervisor_from_user_data_unless_ac)
{
	if (!has(7, 'b', 20))
		skip("no SMAP");
	else
		rights(1, false, true);
}
RULE(smep_and_smap_look_at_every_level)
{
	if (!has(7, 'b', 20) || !has(7, 'b', 7)) {
		skip("no SMEP or SMAP");
		return;
	}
	rights(2, true, true);
	rights(4, true, true);
}

RULE(stac_and_clac)
{
	SNIPPET(user_stac, "stac; int $0x80");
	if (!has(7, 'b', 20)) {
		skip("no SMAP");
		return;
	}
	map(LINEAR, P | W | U);
	set_cr4(cr4() | CR4_SMAP);
	FAULTS(PF, E_P, (void)*(volatile char *)LINEAR);
	FINE(asm volatile("stac"); (void)*(volatile char *)LINEAR; asm volatile("clac"));
	FAULTS(PF, E_P, (void)*(volatile char *)LINEAR);
	set_cr4(cr4() & ~CR4_SMAP);
	*map_entry(USER_PAGE + 4096, 1) = ((word)user_stac & ~4095ul) | P | U;
	struct entry_frame f = { USER_PAGE + 4096 + ((word)user_stac & 4095), SEL_U64, 2, USER_PAGE + 4096, SEL_UDATA, 0 };
	expect_eq(run_frame(&f), UD);
}

RULE(smap_holds_for_implicit_accesses_whatever_ac_is)
{
	if (!has(7, 'b', 20)) {
		skip("no SMAP");
		return;
	}
	/* The LDT in a user page: a descriptor load is a supervisor's access. */
	uint64_t *page = (uint64_t *)map(LINEAR, P | W | U);
	page[1] = gdt[SEL_KDATA / 8];
	gdt[SEL_FREE / 8] = descriptor(0, 0xfff, SEG_P | 2, 0);
	gdt[SEL_FREE / 8 + 1] = LINEAR >> 32;
	asm volatile("lldt %w0" :: "r"(SEL_FREE));
	set_cr4(cr4() | CR4_SMAP);
	int v = CATCH(set_flags(FLAG_AC | 2); asm volatile("mov %0, %%es" :: "r"(8 | 4)));
	set_cr4(cr4() & ~CR4_SMAP);
	expect_eq(v, PF);
	expect_eq(event.error, E_P);
	expect_eq(event.cr2, LINEAR + 8);
	FINE(asm volatile("mov %0, %%es" :: "r"(8 | 4)));
}

/* --- reserved bits --- */
static unsigned physical_bits(void) { return cpuid(0x80000008, 0).a & 0xff; }

static void reserved_bit(uint64_t *entry, unsigned bit)
{
	uint64_t good = *entry;
	*entry = good | BIT(bit);
	set_cr3(cr3());
	int v = access(LINEAR, READ, false);
	int error = (int)event.error;
	*entry = good;
	set_cr3(cr3());
	if (v == PF && error == (E_P | E_RSVD))
		return;
	print("# bit %u\n", bit);
	expect_eq(v, PF);
	expect_eq(error, E_P | E_RSVD);
}

RULE(physical_address_bits_that_are_not_there_are_reserved)
{
	map(LINEAR, P | W | U);
	for (unsigned level = 1; level <= 4; level++)
		for (unsigned bit = physical_bits(); bit < 52; bit++)
			reserved_bit(map_entry(LINEAR, level), bit);
}

RULE(bit_7_of_a_pml4e_is_reserved)
{
	map(LINEAR, P | W | U);
	reserved_bit(map_entry(LINEAR, 4), 7);
}

RULE(low_address_bits_of_large_pages_are_reserved)
{
	*map_entry(LINEAR, 2) = 0x200000 | P | W | U | PS;
	for (unsigned bit = 13; bit < 21; bit++)
		reserved_bit(map_entry(LINEAR, 2), bit);
	if (!has(0x80000001, 'd', 26))
		return;
	*map_entry(LINEAR, 3) = 0 | P | W | U | PS;
	for (unsigned bit = 13; bit < 30; bit++)
		reserved_bit(map_entry(LINEAR, 3), bit);
}

RULE(nx_is_reserved_without_nxe)
{
	map(LINEAR, P | W | U);
	wrmsr(EFER, rdmsr(EFER) & ~EFER_NXE);
	for (unsigned level = 1; level <= 4; level++)
		reserved_bit(map_entry(LINEAR, level), 63);
}

RULE(without_nxe_and_smep_a_fetch_does_not_set_the_i_bit)
{
	wrmsr(EFER, rdmsr(EFER) & ~EFER_NXE);
	expect_eq(access(LINEAR, FETCH, false), PF);
	expect_eq(event.error, 0);
	wrmsr(EFER, rdmsr(EFER) | EFER_NXE);
	expect_eq(access(LINEAR, FETCH, false), PF);
	expect_eq(event.error, E_I);
}

RULE(not_present_ignores_all_other_bits)
{
	for (unsigned level = 1; level <= 4; level++) {
		map(LINEAR, P | W | U);
		*map_entry(LINEAR, level) = ~1ull;
		set_cr3(cr3());
		expect_eq(access(LINEAR, WRITE, true), PF);
		expect_eq(event.error, E_W | E_U);
		*map_entry(LINEAR, level) = 0;
		set_cr3(cr3());
	}
}

RULE(ignored_bits_are_ignored)
{
	/* 11:9 and 62:52 of a PTE, 6 of a PDE that leads to a table. */
	map(LINEAR, P | W | U | 0xe00 | 0x7ffull << 52);
	FINE((void)*(volatile char *)LINEAR);
	*map_entry(LINEAR, 2) |= D | 0xf00 | 0x7ffull << 52;
	set_cr3(cr3());
	FINE((void)*(volatile char *)LINEAR);
}

/* --- accessed and dirty --- */
static uint64_t ad(unsigned level) { return *map_entry(LINEAR, level) & (A | D); }

RULE(a_read_sets_accessed_at_every_level)
{
	map(LINEAR, P | W | U);
	for (unsigned l = 1; l <= 4; l++)
		*map_entry(LINEAR, l) &= ~(uint64_t)(A | D);
	set_cr3(cr3());
	access(LINEAR, READ, false);
	for (unsigned l = 1; l <= 4; l++)
		expect_eq(ad(l), A);
}

RULE(a_write_sets_dirty_in_the_leaf_only)
{
	map(LINEAR, P | W | U);
	for (unsigned l = 1; l <= 4; l++)
		*map_entry(LINEAR, l) &= ~(uint64_t)(A | D);
	set_cr3(cr3());
	access(LINEAR, WRITE, false);
	expect_eq(ad(1), A | D);
	for (unsigned l = 2; l <= 4; l++)
		expect_eq(ad(l), A);
}

RULE(a_write_after_a_read_sets_dirty)
{
	map(LINEAR, P | W | U);
	access(LINEAR, READ, false);
	expect_eq(ad(1), A);
	access(LINEAR, WRITE, false);
	expect_eq(ad(1), A | D);
}

RULE(a_fetch_sets_accessed_and_not_dirty)
{
	map(LINEAR, P | W | U);
	access(LINEAR, FETCH, false);
	expect_eq(ad(1), A);
}

RULE(a_write_that_faults_sets_no_dirty_bit)
{
	map(LINEAR, P);
	expect_eq(access(LINEAR, WRITE, false), PF);
	expect_eq(ad(1) & D, 0);
}

RULE(a_read_modify_write_that_changes_nothing_sets_dirty)
{
	map(LINEAR, P | W);
	asm volatile("lock orl $0, (%0)" :: "r"(LINEAR) : "memory", "cc");
	expect_eq(ad(1), A | D);
	map(LINEAR, P | W);
	uint32_t eax = 0x12345678;
	asm volatile("lock cmpxchgl %%ecx, (%1)" : "+a"(eax) : "r"(LINEAR) : "memory", "cc");
	expect_eq(ad(1), A | D);
}

RULE(a_compare_exchange_that_fails_needs_the_right_to_write)
{
	map(LINEAR, P);
	FAULTS(PF, E_P | E_W, uint32_t eax = 1;
	       asm volatile("lock cmpxchgl %%ecx, (%1)" : "+a"(eax) : "r"(LINEAR) : "memory", "cc"));
}

RULE(large_pages_have_accessed_and_dirty_in_their_leaf)
{
	*map_entry(LINEAR, 2) = 0x200000 | P | W | U | PS;
	set_cr3(cr3());
	access(LINEAR + 0x1ff000, READ, false);
	expect_eq(ad(2), A);
	asm volatile("lock orl $0, (%0)" :: "r"(LINEAR) : "memory", "cc");
	expect_eq(ad(2), A | D);
	if (!has(0x80000001, 'd', 26))
		return;
	*map_entry(LINEAR, 3) = 0 | P | W | U | PS;
	set_cr3(cr3());
	access(LINEAR + 0x1ff000, READ, false);
	expect_eq(ad(3), A);
	asm volatile("lock orl $0, (%0)" :: "r"(LINEAR + 0x200000) : "memory", "cc");
	expect_eq(ad(3), A | D);
}

RULE(descriptor_and_stack_accesses_set_the_bits_too)
{
	uint64_t page = map(LINEAR, P | W);
	memory_copy((void *)page, gdt, sizeof gdt);
	((uint64_t *)page)[SEL_FREE / 8] = descriptor(0, 0xfffff, SEG_P | (SEG_DATA & ~1), SEG_G | SEG_B);
	struct table_pointer p = { sizeof gdt - 1, LINEAR };
	asm volatile("lgdt %0" :: "m"(p));
	asm volatile("mov %0, %%es" :: "r"(SEL_KDATA));
	expect_eq(ad(1), A);
	asm volatile("mov %0, %%es" :: "r"(SEL_FREE));	/* sets the descriptor's own accessed bit */
	expect_eq(ad(1), A | D);
	load_gdt(sizeof gdt - 1);
}

/* --- page sizes --- */
RULE(pages_of_2m_and_1g_reach_their_memory)
{
	uint64_t *mark = page_alloc();
	*mark = 0x1234;
	uint64_t at = (uint64_t)mark;
	*map_entry(LINEAR, 2) = (at & ~0x1ffffful) | P | W | PS;
	set_cr3(cr3());
	expect_eq(*(volatile uint64_t *)(LINEAR + (at & 0x1fffff)), 0x1234);
	if (!has(0x80000001, 'd', 26))
		return;
	*map_entry(LINEAR, 3) = P | W | PS;
	set_cr3(cr3());
	expect_eq(*(volatile uint64_t *)(LINEAR + at), 0x1234);
}

RULE(pat_bit_12_of_a_large_page_is_no_address_bit)
{
	*map_entry(LINEAR, 2) = 0x200000 | BIT(12) | P | W | PS;
	set_cr3(cr3());
	*(volatile uint32_t *)0x200000 = 77;
	expect_eq(*(volatile uint32_t *)LINEAR, 77);
}

/* --- CR2 and accesses across pages --- */
RULE(cr2_is_the_first_byte_that_faults)
{
	FAULTS(PF, 0, (void)*(volatile uint64_t *)(LINEAR + 0x123));
	expect_eq(event.cr2, LINEAR + 0x123);
	/* The second page faults: its first byte. */
	map(LINEAR, P | W);
	FAULTS(PF, 0, (void)*(volatile uint64_t *)(LINEAR + 0xffd));
	expect_eq(event.cr2, LINEAR + 0x1000);
	FAULTS(PF, E_W, *(volatile uint64_t *)(LINEAR + 0xffd) = 1);
	expect_eq(event.cr2, LINEAR + 0x1000);
}

RULE(a_write_across_pages_that_faults_writes_nothing)
{
	uint64_t page = map(LINEAR, P | W);
	*(uint64_t *)(page + 0xff8) = 0;
	FAULTS(PF, E_W, *(volatile uint64_t *)(LINEAR + 0xffc) = ~0ull);
	expect_eq(*(uint64_t *)(page + 0xff8), 0);
	map(LINEAR + 0x1000, P);
	FAULTS(PF, E_W | E_P, *(volatile uint64_t *)(LINEAR + 0xffc) = ~0ull);
	expect_eq(*(uint64_t *)(page + 0xff8), 0);
}

RULE(an_instruction_across_pages_faults_at_the_second_page)
{
	uint64_t page = map(LINEAR, P | W);
	/* MOV EAX, imm32 with two bytes in the first page */
	((uint8_t *)page)[0xffe] = 0xb8;
	FAULTS(PF, E_I, asm volatile("jmp *%0" :: "r"(LINEAR + 0xffe)));
	expect_eq(event.cr2, LINEAR + 0x1000);
	expect_eq(event.frame.ip, LINEAR + 0xffe);
	/* An instruction that ends with the page does not reach the next one. */
	((uint8_t *)page)[0xffe] = 0xcd;
	((uint8_t *)page)[0xfff] = 0x80;
	FAULTS(USER_EXIT, 0, asm volatile("jmp *%0" :: "r"(LINEAR + 0xffe)));
}

RULE(push_and_call_that_fault_leave_rsp)
{
	static uint8_t stack[4096] __attribute__((aligned(16)));
	tss.ist[0] = (word)stack + sizeof stack;
	gate_set(&idt[PF], vector_entry(PF), SEL_K64, SEG_P | GATE_INT, 1);
	FAULTS(PF, E_W, asm volatile("mov %0, %%rsp; push %%rax" :: "r"(LINEAR + 0x800)));
	expect_eq(event.frame.sp, LINEAR + 0x800);
	expect_eq(event.cr2, LINEAR + 0x7f8);
	FAULTS(PF, E_W, asm volatile("mov %0, %%rsp; call *%%rax" :: "r"(LINEAR + 0x800)));
	expect_eq(event.frame.sp, LINEAR + 0x800);
}

/* --- canonical addresses --- */
RULE(data_access_not_canonical_raises_gp_0)
{
	FAULTS(GP, 0, (void)*(volatile char *)NONCANONICAL);
	FAULTS(GP, 0, *(volatile char *)(~NONCANONICAL) = 0);
	FAULTS(GP, 0, (void)*(volatile char *)0x8000000000000000);
}

RULE(stack_access_not_canonical_raises_ss_0)
{
	FAULTS(SS, 0, asm volatile("mov %%rbp, %%rbx; mov %0, %%rbp; jmp 1f; 1: mov (%%rbp), %%rax" :: "r"(NONCANONICAL) : "rax", "rbx"));
	FAULTS(SS, 0, asm volatile("push %%rax" :: ) ; asm volatile("mov (%%rsp, %0), %%rax" :: "r"(NONCANONICAL) : "rax"));
}

RULE(access_across_the_canonical_boundary)
{
	map(NONCANONICAL - 0x1000, P | W);
	FINE((void)*(volatile uint64_t *)(NONCANONICAL - 8));
	FAULTS(GP, 0, (void)*(volatile uint64_t *)(NONCANONICAL - 7));
}

RULE(near_branches_to_not_canonical_raise_gp_at_the_branch)
{
	FAULTS(GP, 0, asm volatile("1: jmp *%0" :: "r"(NONCANONICAL)));
	expect(event.frame.ip < 0x400000);
	FAULTS(GP, 0, asm volatile("call *%0" :: "r"(NONCANONICAL)));
	expect(event.frame.ip < 0x400000);
	FAULTS(GP, 0, asm volatile("push %0; ret" :: "r"(NONCANONICAL)));
	expect(event.frame.ip < 0x400000);
}

RULE(running_into_the_canonical_hole_raises_gp_there)
{
	uint64_t page = map(NONCANONICAL - 0x1000, P | W);
	((uint8_t *)page)[0xfff] = 0x90;
	FAULTS(GP, 0, asm volatile("jmp *%0" :: "r"(NONCANONICAL - 1)));
	expect_eq(event.frame.ip, NONCANONICAL);
}

RULE(invlpg_of_a_not_canonical_address_is_a_nop)
{
	FINE(invlpg((void *)NONCANONICAL));
}

RULE(msrs_of_addresses_must_be_canonical)
{
	static const uint32_t all[] = { 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102, 0x175, 0x176 };
	for (unsigned n = 0; n < ARRAY_SIZE(all); n++) {
		uint64_t old = rdmsr(all[n]);
		FAULTS(GP, 0, wrmsr(all[n], NONCANONICAL));
		expect_eq(rdmsr(all[n]), old);
		FINE(wrmsr(all[n], -NONCANONICAL));
		wrmsr(all[n], old);
	}
}

RULE(table_bases_must_be_canonical)
{
	struct table_pointer p = { 0xfff, NONCANONICAL };
	FAULTS(GP, 0, asm volatile("lidt %0" :: "m"(p)));
	FAULTS(GP, 0, asm volatile("lgdt %0" :: "m"(p)));
}

/* --- control registers --- */
RULE(cr0_combinations_that_are_not_allowed)
{
	word old = cr0();
	FAULTS(GP, 0, set_cr0(old & ~CR0_PG));		/* 64-bit mode */
	FAULTS(GP, 0, set_cr0(old & ~CR0_PE));		/* PG without PE */
	FAULTS(GP, 0, set_cr0((old & ~CR0_CD) | CR0_NW));
	FAULTS(GP, 0, set_cr0(old | BIT(32)));
	expect_eq(cr0(), old);
	FINE(set_cr0(old | CR0_CD));
	set_cr0(old);
}

RULE(cr0_et_is_always_set_and_reserved_bits_ignored)
{
	word old = cr0();
	FINE(set_cr0(old & ~BIT(4)));
	expect_eq(cr0(), old);
	FINE(set_cr0(old | BIT(7)));
	expect_eq(cr0(), old);
}

RULE(cr4_combinations_that_are_not_allowed)
{
	word old = cr4();
	FAULTS(GP, 0, set_cr4(old & ~CR4_PAE));		/* in IA-32e mode */
	FAULTS(GP, 0, set_cr4(old | BIT(32)));
	FAULTS(GP, 0, set_cr4(old | BIT(15)));
	FAULTS(GP, 0, set_cr4(old | BIT(31)));
	expect_eq(cr4(), old);
}

RULE(cr4_bits_follow_cpuid)
{
	static const struct { uint64_t bit; unsigned leaf; char reg; unsigned feature; } all[] = {
		{ CR4_UMIP, 7, 'c', 2 }, { CR4_VMXE, 1, 'c', 5 }, { BIT(14), 1, 'c', 6 }, { CR4_FSGSBASE, 7, 'b', 0 },
		{ CR4_PCIDE, 1, 'c', 17 }, { CR4_OSXSAVE, 1, 'c', 26 }, { CR4_SMEP, 7, 'b', 7 },
		{ CR4_SMAP, 7, 'b', 20 }, { CR4_VME, 1, 'd', 1 }, { CR4_PVI, 1, 'd', 1 }, { CR4_DE, 1, 'd', 2 },
		{ CR4_PGE, 1, 'd', 13 }, { BIT(6), 1, 'd', 7 }, { CR4_OSFXSR, 1, 'd', 24 }, { BIT(24), 7, 'c', 31 }, { BIT(22), 7, 'c', 3 }, { BIT(23), 7, 'c', 7 }, { BIT(12), 7, 'c', 16 },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(all); n++) {
		word old = cr4();
		int v = CATCH(set_cr4(old | all[n].bit));
		expect_("CR4 bit accepted", 63 - __builtin_clzl(all[n].bit), (uint64_t)(v == NONE),
			has(all[n].leaf, all[n].reg, all[n].feature));
		set_cr4(old);
	}
}

RULE(cr8_has_four_bits)
{
	FINE(set_cr8(15));
	expect_eq(cr8(), 15);
	set_cr8(0);
	FAULTS(GP, 0, set_cr8(16));
}

RULE(cr3_bits_beyond_the_physical_address_raise_gp)
{
	for (volatile unsigned bit = physical_bits(); bit < 63; bit++)
		FAULTS(GP, 0, set_cr3(cr3() | BIT(bit)));
	FAULTS(GP, 0, set_cr3(cr3() | BIT(63)));	/* without PCIDE */
}

RULE(control_registers_that_do_not_exist_are_ud)
{
	FAULTS(UD, 0, asm volatile(".byte 0x0f, 0x20, 0xc8" ::: "rax"));		/* CR1 */
	FAULTS(UD, 0, asm volatile(".byte 0x0f, 0x20, 0xe8" ::: "rax"));		/* CR5 */
	FAULTS(UD, 0, asm volatile(".byte 0x44, 0x0f, 0x20, 0xf8" ::: "rax"));	/* CR15 */
}

RULE(efer_rules)
{
	uint64_t old = rdmsr(EFER);
	FAULTS(GP, 0, wrmsr(EFER, old & ~EFER_LME));
	FAULTS(GP, 0, wrmsr(EFER, old | BIT(1)));
	FAULTS(GP, 0, wrmsr(EFER, old | BIT(63)));
	FINE(wrmsr(EFER, old & ~EFER_LMA));		/* LMA is read-only, writes ignored */
	expect_eq(rdmsr(EFER), old);
}
