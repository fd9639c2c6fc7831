/* 4-level paging: what the TLB may not remember, and what drops it: INVLPG, MOV
 * to CR3, changed control bits, PCIDs and INVPCID (SDM vol. 3, "Caching
 * Translation Information"). The other half of the chapter that paging64.c
 * begins. */
#include "paging64.h"

/* --- what the TLB may not remember --- */
static uint64_t two_pages[2];
static uint64_t *leaf;
static void two(uint64_t bits)
{
	two_pages[0] = map(LINEAR, bits);
	two_pages[1] = (uint64_t)page_alloc();
	*(uint64_t *)two_pages[0] = 1;
	*(uint64_t *)two_pages[1] = 2;
	leaf = map_entry(LINEAR, 1);
}
#define seen() (*(volatile uint64_t *)LINEAR)

RULE(an_entry_made_present_needs_no_invalidation)
{
	uint64_t page = (uint64_t)page_alloc();
	*map_entry(LINEAR, 1) = 0;
	expect_eq(access(LINEAR, READ, false), PF);
	*map_entry(LINEAR, 1) = page | P;
	expect_eq(access(LINEAR, READ, false), NONE);
}

RULE(a_page_fault_drops_the_entry_of_its_address)
{
	map(LINEAR, P);
	expect_eq(access(LINEAR, READ, false), NONE);
	expect_eq(access(LINEAR, WRITE, false), PF);
	*map_entry(LINEAR, 1) |= W;
	expect_eq(access(LINEAR, WRITE, false), NONE);
}

RULE(invlpg_drops_a_4k_page)
{
	two(P | W);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W;
	invlpg((void *)(LINEAR + 0xabc));
	expect_eq(seen(), 2);
}

RULE(invlpg_anywhere_in_a_large_page_drops_all_of_it)
{
	*(volatile uint64_t *)0x200000 = 1;
	*(volatile uint64_t *)0x600000 = 2;
	*(volatile uint64_t *)0x201000 = 1;
	*(volatile uint64_t *)0x601000 = 2;
	*map_entry(LINEAR, 2) = 0x200000 | P | W | PS;
	set_cr3(cr3());
	expect_eq(seen(), 1);
	expect_eq(*(volatile uint64_t *)(LINEAR + 0x1000), 1);
	*map_entry(LINEAR, 2) = 0x600000 | P | W | PS;
	invlpg((void *)(LINEAR + 0x1ff000));
	expect_eq(seen(), 2);
	expect_eq(*(volatile uint64_t *)(LINEAR + 0x1000), 2);
}

RULE(invlpg_anywhere_in_a_1g_page_drops_all_of_it)
{
	if (!has(0x80000001, 'd', 26)) {
		skip("no 1 GiB pages");
		return;
	}
	*(volatile uint64_t *)0x200000 = 1;
	*map_entry(LINEAR, 3) = 0 | P | W | PS;
	set_cr3(cr3());
	volatile uint64_t *at = (volatile uint64_t *)(LINEAR + 0x200000);
	expect_eq(*at, 1);
	uint64_t *directory = page_alloc();
	directory[1] = 0x600000 | P | W | PS;
	*(volatile uint64_t *)0x600000 = 2;
	*map_entry(LINEAR, 3) = (uint64_t)directory | P | W;
	invlpg((void *)(LINEAR + 0x3ff00000));
	expect_eq(*at, 2);
}

RULE(invlpg_drops_a_large_page_for_ring_3_too)
{
	*(volatile uint8_t *)0x200000 = 0;
	*map_entry(LINEAR, 2) = 0x200000 | P | W | U | PS;
	set_cr3(cr3());
	expect_eq(access(LINEAR, WRITE, true), NONE);
	*map_entry(LINEAR, 2) = 0x200000 | P | U | PS;
	invlpg((void *)(LINEAR + 0x100000));
	expect_eq(access(LINEAR, WRITE, true), PF);
	expect_eq(access(LINEAR, READ, true), NONE);
}

RULE(invpcid_0_drops_all_of_a_large_page)
{
	if (!(has(1, 'c', 17) && has(7, 'b', 10))) {
		skip("no PCID");
		return;
	}
	struct { uint64_t id, address; } d = { 5, LINEAR + 0x1ff000 };
	*(volatile uint64_t *)0x200000 = 1;
	*(volatile uint64_t *)0x600000 = 2;
	*map_entry(LINEAR, 2) = 0x200000 | P | W | PS;
	set_cr4(cr4() | CR4_PCIDE);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(*(volatile uint64_t *)LINEAR, 1);
	set_cr3((word)boot_pml4 | 6);
	*map_entry(LINEAR, 2) = 0x600000 | P | W | PS;
	asm volatile("invpcid %0, %1" :: "m"(d), "r"(0ul) : "memory");
	set_cr3((word)boot_pml4 | 5 | BIT(63));
	expect_eq(*(volatile uint64_t *)LINEAR, 2);
	set_cr3((word)boot_pml4);
}

RULE(a_change_of_nxe_holds_at_once)
{
	map(LINEAR, P | W);
	expect_eq(access(LINEAR, FETCH, false), NONE);
	*map_entry(LINEAR, 1) |= NX;
	invlpg((void *)LINEAR);
	expect_eq(access(LINEAR, FETCH, false), PF);
	expect_eq(access(LINEAR, READ, false), NONE);
	wrmsr(EFER, rdmsr(EFER) & ~EFER_NXE);
	expect_eq(access(LINEAR, READ, false), PF);
	expect_eq(event.error, E_P | E_RSVD);
	wrmsr(EFER, rdmsr(EFER) | EFER_NXE);
	expect_eq(access(LINEAR, READ, false), NONE);
}

RULE(a_change_of_smap_holds_at_once)
{
	if (!has(7, 'b', 20)) {
		skip("no SMAP");
		return;
	}
	map(LINEAR, P | W | U);
	expect_eq(access(LINEAR, READ, false), NONE);
	set_cr4(cr4() | CR4_SMAP);
	expect_eq(access(LINEAR, READ, false), PF);
	set_cr4(cr4() & ~CR4_SMAP);
	expect_eq(access(LINEAR, READ, false), NONE);
}

RULE(many_pages_in_the_same_sets_are_all_right)
{
	/* More pages than any TLB holds, at distances of a power of two. */
	for (unsigned n = 0; n < 64; n++) {
		uint64_t page = map(LINEAR + n * 0x400000ul, P | W);
		*(uint64_t *)(page + 8) = n;
	}
	for (unsigned turn = 0; turn < 3; turn++)
		for (unsigned n = 0; n < 64; n++)
			expect_eq(*(volatile uint64_t *)(LINEAR + n * 0x400000ul + 8), n);
}

RULE(invlpg_drops_the_structures_above_too)
{
	two(P | W);
	expect_eq(seen(), 1);
	uint64_t *table = page_alloc();
	table[0] = two_pages[1] | P | W;
	*map_entry(LINEAR, 2) = (uint64_t)table | P | W;
	invlpg((void *)LINEAR);
	expect_eq(seen(), 2);
}

RULE(invlpg_drops_global_pages)
{
	set_cr4(cr4() | CR4_PGE);
	two(P | W | G);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W | G;
	invlpg((void *)LINEAR);
	expect_eq(seen(), 2);
}

RULE(mov_to_cr3_drops_what_is_not_global)
{
	set_cr4(cr4() | CR4_PGE);
	two(P | W);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W;
	set_cr3(cr3());
	expect_eq(seen(), 2);
}

RULE(mov_to_cr3_drops_pages_marked_global_while_pge_is_clear)
{
	two(P | W | G);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W | G;
	set_cr3(cr3());
	expect_eq(seen(), 2);
}

RULE(a_change_of_pge_drops_all)
{
	set_cr4(cr4() | CR4_PGE);
	two(P | W | G);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W | G;
	set_cr4(cr4() & ~CR4_PGE);
	expect_eq(seen(), 2);
	*leaf = two_pages[0] | P | W | G;
	set_cr4(cr4() | CR4_PGE);
	expect_eq(seen(), 1);
}

RULE(a_change_of_wp_holds_at_once)
{
	map(LINEAR, P);
	set_cr0(cr0() & ~CR0_WP);
	expect_eq(access(LINEAR, WRITE, false), NONE);
	set_cr0(cr0() | CR0_WP);
	expect_eq(access(LINEAR, WRITE, false), PF);
	set_cr0(cr0() & ~CR0_WP);
	expect_eq(access(LINEAR, WRITE, false), NONE);
}

RULE(a_change_of_smep_holds_at_once)
{
	if (!has(7, 'b', 7)) {
		skip("no SMEP");
		return;
	}
	map(LINEAR, P | W | U);
	expect_eq(access(LINEAR, FETCH, false), NONE);
	set_cr4(cr4() | CR4_SMEP);
	expect_eq(access(LINEAR, FETCH, false), PF);
	expect_eq(event.error, E_P | E_I);
	set_cr4(cr4() & ~CR4_SMEP);
	expect_eq(access(LINEAR, FETCH, false), NONE);
}

RULE(a_user_translation_does_not_serve_the_supervisor_under_smap)
{
	if (!has(7, 'b', 20)) {
		skip("no SMAP");
		return;
	}
	map(LINEAR, P | W | U);
	set_cr4(cr4() | CR4_SMAP);
	expect_eq(access(LINEAR, WRITE, true), NONE);
	expect_eq(access(LINEAR, WRITE, false), PF);
	set_cr4(cr4() & ~CR4_SMAP);
}

RULE(code_is_fetched_from_the_new_page_after_invlpg)
{
	/* mov $1, %eax; int $0x80 against mov $2, %eax */
	static const uint8_t code[] = { 0xb8, 1, 0, 0, 0, 0xcd, 0x80 };
	two(P | W);
	memory_copy((void *)two_pages[0], code, sizeof code);
	memory_copy((void *)two_pages[1], code, sizeof code);
	((uint8_t *)two_pages[1])[1] = 2;
	expect_eq(access(LINEAR, FETCH, false), NONE);
	expect_eq(event.frame.ax, 1);
	*leaf = two_pages[1] | P | W;
	invlpg((void *)LINEAR);
	expect_eq(access(LINEAR, FETCH, false), NONE);
	expect_eq(event.frame.ax, 2);
}

/* --- PCID --- */
static bool pcid(void)
{
	if (has(1, 'c', 17) && has(7, 'b', 10))
		return true;
	skip("no PCID");
	return false;
}
static void invpcid(word type, uint64_t id, uint64_t address)
{
	struct { uint64_t id, address; } d = { id, address };
	asm volatile("invpcid %0, %1" :: "m"(d), "r"(type) : "memory");
}
#define NO_FLUSH BIT(63)

RULE(pcide_needs_a_zero_pcid_in_cr3)
{
	if (!pcid())
		return;
	set_cr3(cr3() | 0x18);
	FAULTS(GP, 0, set_cr4(cr4() | CR4_PCIDE));
	set_cr3(cr3() & ~0xffful);
	FINE(set_cr4(cr4() | CR4_PCIDE));
}

RULE(cr3_reads_without_bit_63)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE);
	set_cr3((word)boot_pml4 | 5 | NO_FLUSH);
	expect_eq(cr3(), (word)boot_pml4 | 5);
	set_cr3((word)boot_pml4);
}

RULE(mov_to_cr3_drops_the_new_pcid)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE);
	two(P | W);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 1);
	set_cr3((word)boot_pml4 | 6);
	*leaf = two_pages[1] | P | W;
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
}

RULE(pcids_are_apart)
{
	/* Two address spaces, switched without a flush: each sees its own page. */
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE);
	two(P | W);
	uint64_t *root = page_alloc();
	for (unsigned n = 0; n < 512; n++)
		root[n] = boot_pml4[n];
	uint64_t *pdpt = page_alloc(), *pd = page_alloc(), *pt = page_alloc();
	root[LINEAR >> 39] = (uint64_t)pdpt | 7;
	pdpt[0] = (uint64_t)pd | 7;
	pd[0] = (uint64_t)pt | 7;
	pt[0] = two_pages[1] | P | W;
	for (unsigned n = 0; n < 3; n++) {
		set_cr3((word)boot_pml4 | 5 | NO_FLUSH);
		expect_eq(seen(), 1);
		set_cr3((word)root | 6 | NO_FLUSH);
		expect_eq(seen(), 2);
	}
	set_cr3((word)boot_pml4);
}

RULE(invlpg_drops_a_global_page_in_every_pcid)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE | CR4_PGE);
	two(P | W | G);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 1);
	set_cr3((word)boot_pml4 | 6);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W | G;
	invlpg((void *)LINEAR);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4 | 5 | NO_FLUSH);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
}

/* A translation of PCID 5 is in the TLB; INVPCID, executed under PCID 6, must
 * drop it. */
static void invpcid_drops(word type, uint64_t id, uint64_t address)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE | CR4_PGE);
	two(P | W);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 1);
	set_cr3((word)boot_pml4 | 6);
	*leaf = two_pages[1] | P | W;
	invpcid(type, id, address);
	set_cr3((word)boot_pml4 | 5 | NO_FLUSH);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
}

RULE(invpcid_0_drops_one_address_of_one_pcid) { invpcid_drops(0, 5, LINEAR); }
RULE(invpcid_1_drops_one_pcid) { invpcid_drops(1, 5, 0); }
RULE(invpcid_3_drops_all_but_globals) { invpcid_drops(3, 0, 0); }

RULE(invpcid_2_drops_all_with_globals)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE | CR4_PGE);
	two(P | W | G);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W | G;
	invpcid(2, 0, 0);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
}

RULE(invpcid_checks_its_operands)
{
	if (!pcid())
		return;
	FAULTS(GP, 0, invpcid(4, 0, 0));
	FAULTS(GP, 0, invpcid(0, 1, 0));		/* PCIDE = 0: only PCID 0 */
	FAULTS(GP, 0, invpcid(1, 1, 0));
	set_cr4(cr4() | CR4_PCIDE);
	FAULTS(GP, 0, invpcid(1, 0x1000, 0));		/* reserved bits */
	FAULTS(GP, 0, invpcid(0, 1, NONCANONICAL));
	FINE(invpcid(1, 1, NONCANONICAL));
	FINE(invpcid(2, 1, 0));
}

RULE(a_clear_of_pcide_drops_all)
{
	if (!pcid())
		return;
	set_cr4(cr4() | CR4_PCIDE);
	two(P | W);
	expect_eq(seen(), 1);
	*leaf = two_pages[1] | P | W;
	set_cr4(cr4() & ~CR4_PCIDE);
	expect_eq(seen(), 2);
}

RULE(a_mov_to_cr3_without_pcide_never_brings_back_old_entries)
{
	if (!pcid())
		return;
	two(P | W);
	set_cr4(cr4() | CR4_PCIDE);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 1);
	set_cr3((word)boot_pml4);
	set_cr4(cr4() & ~CR4_PCIDE);
	*leaf = two_pages[1] | P | W;
	set_cr3((word)boot_pml4 | 0x18);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
	expect_eq(seen(), 2);
	set_cr4(cr4() | CR4_PCIDE);
	set_cr3((word)boot_pml4 | 5);
	expect_eq(seen(), 2);
	set_cr3((word)boot_pml4);
}
