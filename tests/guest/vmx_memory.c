/* EPT, VPID, INVEPT and INVVPID: what a guest may reach, what is told when it
 * may not, and what must be forgotten when (SDM vol. 3, "VMX Support for
 * Address Translation"). */
#include "rt/vmx.h"

const char chapter[] = "EPT and VPID";
void chapter_setup(void) { }
#define BEGIN_EPT(bits) do { if (!vmx_begin() || !ept_begin(bits)) return; } while (0)
enum { EPT_VPID_CAP = 0x48c };
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, G = 0x100 };
/* Exit qualification */
enum { Q_R = 1, Q_W = 2, Q_X = 4, Q_EPT_R = 8, Q_EPT_W = 16, Q_EPT_X = 32, Q_LINEAR = 128, Q_FINAL = 256, Q_NMI_UNBLOCKED = 4096 };
#define LINEAR 0x10000000000ul

SNIPPET(g_read, "mov (%rbx), %rax; vmcall");
SNIPPET(g_write, "mov %rax, (%rbx); vmcall");
SNIPPET(g_fetch, "jmp *%rbx");
static uint64_t *page;		/* what the guest reaches by rbx; begins with a VMCALL */

static bool begin(uint64_t bits)
{
	if (!vmx_begin() || !ept_begin(bits))
		return false;
	page = page_alloc();
	page[0] = 0xc1010f;	/* VMCALL */
	registers.bx = (word)page;
	return true;
}
static const void *const snippets[] = { g_read, g_write, g_fetch };

RULE(identity_ept_changes_nothing)
{
	if (!begin(0))
		return;
	for (unsigned n = 0; n < 3; n++) {
		registers.ax = 0xc1010f;
		expect_eq(vmx_run_at(snippets[n]), R_VMCALL);
	}
}

RULE(ept_permissions_of_each_kind_at_each_level)
{
	if (!begin(0))
		return;
	bool execute_only = rdmsr(EPT_VPID_CAP) & 1;
	for (unsigned level = 1; level <= 2; level++)
		for (unsigned rights = 0; rights < 8; rights++) {
			uint64_t *e = ept_entry((word)page, 1);
			if (level == 2) {
				/* The code and the stack of the guest are elsewhere. */
				e = ept_entry((word)page, 2);
			}
			bool misconfigured = (rights & 3) == 2 || (rights == 4 && !execute_only);
			*e = (*e & ~7ull) | rights;
			invept(1, ept_root);
			for (unsigned n = 0; n < 3; n++) {
				registers.ax = 0xc1010f;
				registers.bx = (word)page;
				int got = vmx_run_at(snippets[n]);
				bool ok = rights >> n & 1;
				expect_("exit reason", (int)(level << 8 | rights << 4 | n), (uint64_t)got,
					rights && misconfigured ? R_EPT_MISCONFIGURATION : ok ? R_VMCALL : R_EPT_VIOLATION);
				if (got == R_EPT_VIOLATION)
					expect_("qualification", (int)(level << 8 | rights << 4 | n),
						vmread(QUALIFICATION) & 0x1ff,
						1u << n | rights << 3 | Q_LINEAR | Q_FINAL);
				if (got == R_EPT_VIOLATION || got == R_EPT_MISCONFIGURATION)
					expect_("guest-physical address", n, vmread(GUEST_PHYSICAL), (word)page);
				if (got == R_EPT_VIOLATION)
					expect_("guest-linear address", n, vmread(LINEAR_ADDRESS), (word)page);
			}
			*e |= 7;
			invept(1, ept_root);
		}
}

RULE(ept_misconfigurations)
{
	if (!begin(0))
		return;
	uint64_t *e = ept_entry((word)page, 1), good = *e;
	static const unsigned types[] = { 2, 3, 7 };
	for (unsigned n = 0; n < ARRAY_SIZE(types); n++) {
		*e = (good & ~0x38ull) | types[n] << 3;
		invept(1, ept_root);
		expect_eq(vmx_run_at(g_read), R_EPT_MISCONFIGURATION);
	}
	for (unsigned bit = cpuid(0x80000008, 0).a & 0xff; bit < 52; bit++) {
		*e = good | BIT(bit);
		invept(1, ept_root);
		expect_eq(vmx_run_at(g_read), R_EPT_MISCONFIGURATION);
	}
	*e = good;
	uint64_t *pde = ept_entry((word)page, 2);
	for (unsigned bit = 3; bit < 7; bit++) {	/* reserved in an entry that leads to a table */
		*pde |= BIT(bit);
		invept(1, ept_root);
		expect_eq(vmx_run_at(g_read), R_EPT_MISCONFIGURATION);
		*pde &= ~BIT(bit);
	}
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	uint64_t *top = ept_entry((word)page, 4);
	*top |= 1 << 7;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_MISCONFIGURATION);
	*top &= ~(1ull << 7);
}

RULE(a_missing_ept_entry_tells_where)
{
	if (!begin(0))
		return;
	registers.bx = 0xd0000123;
	*ept_entry(0xd0000000, 2) = 0;
	expect_eq(vmx_run_at(g_write), R_EPT_VIOLATION);
	expect_eq(vmread(GUEST_PHYSICAL), 0xd0000123);
	expect_eq(vmread(LINEAR_ADDRESS), 0xd0000123);
	expect_eq(vmread(QUALIFICATION) & 0x1ff, Q_W | Q_LINEAR | Q_FINAL);
	expect_eq(vmread(G_RIP), (word)g_write);
}

RULE(a_violation_of_the_guests_paging_structures)
{
	if (!begin(0))
		return;
	uint64_t *data = page_alloc();
	*map_entry(LINEAR, 1) = (word)data | P | W;
	uint64_t table = *map_entry(LINEAR, 2) & ~0xffful;
	set_cr3(cr3());
	uint64_t *e = ept_entry(table, 1);
	registers.bx = LINEAR;
	*e &= ~7ull;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_VIOLATION);
	expect_eq(vmread(QUALIFICATION) & (7 | Q_LINEAR | Q_FINAL), Q_R | Q_LINEAR);
	expect_eq(vmread(GUEST_PHYSICAL) & ~0xffful, table);
	expect_eq(vmread(LINEAR_ADDRESS), LINEAR);
	/* Readable only: setting the accessed bit is a write. */
	*e |= EPT_R;
	*map_entry(LINEAR, 1) &= ~(uint64_t)(A | D);
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_VIOLATION);
	expect_eq(vmread(QUALIFICATION) & (Q_W | Q_LINEAR | Q_FINAL), Q_W | Q_LINEAR);
	/* With the bit set already it is enough. */
	*map_entry(LINEAR, 1) |= A;
	expect_eq(vmx_run_at(g_read), R_VMCALL);
}

RULE(guest_physical_addresses_are_translated)
{
	if (!begin(0))
		return;
	uint64_t *other = page_alloc();
	*other = 0x4242;
	*page = 0x1111;
	*ept_entry((word)page, 1) = (word)other | EPT_RWX | EPT_WB;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax, 0x4242);
	registers.ax = 0x99;
	expect_eq(vmx_run_at(g_write), R_VMCALL);
	expect_eq(*other, 0x99);
	expect_eq(*page, 0x1111);
}

RULE(ept_pages_of_1g)
{
	if (!begin(0))
		return;
	if (!(rdmsr(EPT_VPID_CAP) >> 17 & 1)) {
		skip("no 1 GiB EPT pages");
		return;
	}
	*ept_entry(0, 3) = 0 | EPT_RWX | EPT_WB | EPT_LARGE;
	invept(1, ept_root);
	*page = 0x77;
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax, 0x77);
	*ept_entry(0, 3) = 0 | BIT(13) | EPT_RWX | EPT_WB | EPT_LARGE;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_MISCONFIGURATION);
}

/* --- accessed and dirty --- */
static bool ad(void)
{
	if (!(rdmsr(EPT_VPID_CAP) >> 21 & 1)) {
		skip("no EPT accessed and dirty bits");
		return false;
	}
	return begin(EPTP_AD);
}

RULE(ept_accessed_and_dirty)
{
	if (!ad())
		return;
	uint64_t *e = ept_entry((word)page, 1), *above = ept_entry((word)page, 2);
	*e &= ~(uint64_t)(EPT_A | EPT_D);
	*above &= ~(uint64_t)EPT_A;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(*e & (EPT_A | EPT_D), EPT_A);
	expect_eq(*above & EPT_A, EPT_A);
	expect_eq(vmx_run_at(g_write), R_VMCALL);
	expect_eq(*e & (EPT_A | EPT_D), EPT_A | EPT_D);
}

RULE(ept_without_ad_leaves_the_bits)
{
	if (!begin(0))
		return;
	uint64_t *e = ept_entry((word)page, 1);
	expect_eq(vmx_run_at(g_write), R_VMCALL);
	expect_eq(*e & (EPT_A | EPT_D), 0);
}

RULE(with_ad_guest_paging_structures_are_written)
{
	/* Accesses to them count as writes: a read-only table is a violation. */
	if (!ad())
		return;
	uint64_t *data = page_alloc();
	*map_entry(LINEAR, 1) = (word)data | P | W | A | D;
	uint64_t table = *map_entry(LINEAR, 2) & ~0xffful;
	uint64_t *e = ept_entry(table, 1);
	registers.bx = LINEAR;
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(*e & EPT_D, EPT_D);
	*e &= ~(uint64_t)EPT_W;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_VIOLATION);
	expect_eq(vmread(QUALIFICATION) & Q_W, Q_W);
}

/* --- what must be forgotten --- */
RULE(invept_single_drops_a_changed_entry)
{
	if (!begin(0))
		return;
	uint64_t *other = page_alloc();
	*page = 1;
	*other = 2;
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax, 1);
	uint64_t *e = ept_entry((word)page, 1);
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	*e = (word)other | EPT_RWX | EPT_WB;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax, 2);
	*e = (word)page | EPT_RWX | EPT_WB;
	invept(2, 0);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax, 1);
	*e = 0;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_EPT_VIOLATION);
}

RULE(an_ept_violation_drops_the_entry_of_its_address)
{
	if (!begin(0))
		return;
	uint64_t *e = ept_entry((word)page, 1);
	*e &= ~(uint64_t)EPT_W;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(vmx_run_at(g_write), R_EPT_VIOLATION);
	*e |= EPT_W;
	expect_eq(vmx_run_at(g_write), R_VMCALL);
}

RULE(code_behind_ept_is_the_new_pages_after_invept)
{
	if (!begin(0))
		return;
	static const uint8_t one[] = { 0xb8, 1, 0, 0, 0, 0x0f, 0x01, 0xc1 };	/* mov $1, %eax; vmcall */
	uint64_t *other = page_alloc();
	memory_copy(page, one, sizeof one);
	memory_copy(other, one, sizeof one);
	((uint8_t *)other)[1] = 2;
	expect_eq(vmx_run_at(g_fetch), R_VMCALL);
	expect_eq(registers.ax, 1);
	*ept_entry((word)page, 1) = (word)other | EPT_RWX | EPT_WB;
	invept(1, ept_root);
	expect_eq(vmx_run_at(g_fetch), R_VMCALL);
	expect_eq(registers.ax, 2);
}

RULE(two_ept_roots_are_apart)
{
	if (!begin(0))
		return;
	uint64_t first = ept_root;
	uint64_t *other = page_alloc();
	*page = 1;
	*other = 2;
	if (!ept_begin(0))
		return;
	*ept_entry((word)page, 1) = (word)other | EPT_RWX | EPT_WB;
	uint64_t second = ept_root;
	for (unsigned n = 0; n < 3; n++) {
		vmwrite(EPTP, first);
		expect_eq(vmx_run_at(g_read), R_VMCALL);
		expect_eq(registers.ax, 1);
		vmwrite(EPTP, second);
		expect_eq(vmx_run_at(g_read), R_VMCALL);
		expect_eq(registers.ax, 2);
	}
}

/* A guest address space beside the host's: LINEAR is another page. */
static uint64_t *guest_root(uint64_t target, uint64_t bits)
{
	uint64_t *root = page_alloc(), *pdpt = page_alloc(), *pd = page_alloc(), *pt = page_alloc();
	for (unsigned n = 0; n < 512; n++)
		root[n] = boot_pml4[n];
	root[LINEAR >> 39] = (word)pdpt | 7;
	pdpt[0] = (word)pd | 7;
	pd[0] = (word)pt | 7;
	pt[0] = target | bits;
	vmwrite(G_CR3, (word)root);
	return pt;
}
static uint64_t *one, *two;
static uint64_t *tables;
static bool vpid_begin(uint64_t bits)
{
	if (!vmx_begin())
		return false;
	one = page_alloc();
	two = page_alloc();
	*one = 1;
	*two = 2;
	tables = guest_root((word)one, bits);
	registers.bx = LINEAR;
	return true;
}
static uint64_t guest_sees(void)
{
	int v = vmx_run_at(g_read);
	return v == R_VMCALL ? registers.ax : 0x100u + (unsigned)v;
}

RULE(without_vpid_entries_and_exits_drop_all)
{
	if (!vpid_begin(P | W))
		return;
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W;
	expect_eq(guest_sees(), 2);
	/* The host's own too. */
	uint64_t *three = page_alloc();
	*three = 3;
	*map_entry(LINEAR, 1) = (word)one | P | W;
	expect_eq(*(volatile uint64_t *)LINEAR, 1);
	*map_entry(LINEAR, 1) = (word)three | P | W;
	expect_eq(guest_sees(), 2);
	expect_eq(*(volatile uint64_t *)LINEAR, 3);
}

RULE(without_vpid_global_pages_are_dropped_too)
{
	if (!vpid_begin(P | W | G))
		return;
	vmwrite(G_CR4, cr4() | CR4_PGE);
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W | G;
	expect_eq(guest_sees(), 2);
}

static bool vpid_on(void)
{
	vmwrite(VPID, 5);
	return control(SECONDARY, CPU2_VPID, 0);
}

RULE(guest_and_host_translations_are_apart_with_vpid)
{
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	uint64_t *three = page_alloc();
	*three = 3;
	*map_entry(LINEAR, 1) = (word)three | P | W;
	for (unsigned n = 0; n < 3; n++) {
		expect_eq(guest_sees(), 1);
		expect_eq(*(volatile uint64_t *)LINEAR, 3);
	}
}

RULE(invvpid_address_drops_one)
{
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W;
	expect_eq(invvpid(0, 5, LINEAR), VM_SUCCEED);
	expect_eq(guest_sees(), 2);
}
RULE(invvpid_single_drops_the_vpid)
{
	if (!vpid_begin(P | W | G) || !vpid_on())
		return;
	vmwrite(G_CR4, cr4() | CR4_PGE);
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W | G;
	expect_eq(invvpid(1, 5, 0), VM_SUCCEED);
	expect_eq(guest_sees(), 2);
}
RULE(invvpid_all_drops_everything)
{
	if (!vpid_begin(P | W | G) || !vpid_on())
		return;
	vmwrite(G_CR4, cr4() | CR4_PGE);
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W | G;
	expect_eq(invvpid(2, 0, 0), VM_SUCCEED);
	expect_eq(guest_sees(), 2);
}
RULE(invvpid_keeping_globals_drops_the_others)
{
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W;
	expect_eq(invvpid(3, 5, 0), VM_SUCCEED);
	expect_eq(guest_sees(), 2);
}
RULE(invvpid_checks_its_operand)
{
	BEGIN();
	expect_eq(invvpid(4, 5, 0), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), 28);
	expect_eq(invvpid(0, 5, 0x800000000000), VM_FAIL_VALID);
	expect_eq(invvpid(0, 0, LINEAR), VM_FAIL_VALID);
	expect_eq(invvpid(0, 0x10000, LINEAR), VM_FAIL_VALID);
	expect_eq(invvpid(2, 0, 0), VM_SUCCEED);
}
RULE(a_guests_invlpg_and_mov_cr3_hold_under_vpid)
{
	SNIPPET(g_invlpg, "mov (%rbx), %rax; mov %rsi, (%rdi); invlpg (%rbx); mov (%rbx), %rcx; vmcall");
	SNIPPET(g_cr3, "mov (%rbx), %rax; mov %rsi, (%rdi); mov %cr3, %rdx; mov %rdx, %cr3; mov (%rbx), %rcx; vmcall");
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	registers.si = (word)two | P | W;
	registers.di = (word)tables;
	expect_eq(vmx_run_at(g_invlpg), R_VMCALL);
	expect_eq(registers.ax, 1);
	expect_eq(registers.cx, 2);
	registers.si = (word)one | P | W;
	NEED(PRIMARY, 0, CPU_CR3_LOAD | CPU_CR3_STORE);
	expect_eq(vmx_run_at(g_cr3), R_VMCALL);
	expect_eq(registers.ax, 2);
	expect_eq(registers.cx, 1);
}
RULE(a_new_vpid_begins_with_nothing_of_the_old)
{
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	expect_eq(guest_sees(), 1);
	vmwrite(VPID, 6);
	tables[0] = (word)two | P | W;
	expect_eq(guest_sees(), 2);
}
RULE(a_change_of_cr3_by_entry_sees_the_new_space)
{
	/* With VPID and without PCID an entry with another CR3 is a MOV to CR3:
	 * nothing of the old space may be used. */
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	expect_eq(guest_sees(), 1);
	invvpid(1, 5, 0);
	guest_root((word)two, P | W);
	expect_eq(guest_sees(), 2);
}
RULE(vpid_with_ept)
{
	if (!vpid_begin(P | W) || !ept_begin(0) || !vpid_on())
		return;
	expect_eq(guest_sees(), 1);
	tables[0] = (word)two | P | W;
	expect_eq(invvpid(1, 5, 0), VM_SUCCEED);
	expect_eq(guest_sees(), 2);
	uint64_t *three = page_alloc();
	*three = 3;
	*ept_entry((word)two, 1) = (word)three | EPT_RWX | EPT_WB;
	expect_eq(invept(1, ept_root), VM_SUCCEED);
	expect_eq(guest_sees(), 3);
}
RULE(a_guest_page_fault_is_the_guests_with_ept)
{
	SNIPPET(pf_guest, "mov (%rbx), %rax; vmcall");
	if (!begin(0))
		return;
	vmwrite(EXCEPTIONS, 1u << PF);
	registers.bx = LINEAR;
	expect_eq(vmx_run_at(pf_guest), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, PF);
	expect_eq(vmread(QUALIFICATION), LINEAR);
}
RULE(pae_pdptes_come_from_the_vmcs_with_ept)
{
	/* A 32-bit PAE guest under EPT: its PDPTEs are loaded by the entry from the
	 * VMCS and saved there; CR3 is not looked at. */
	SNIPPET32(pae_guest, "mov 0x40000000, %eax; vmcall");
	if (!begin(0))
		return;
	NEED(ENTRY_CONTROLS, 0, ENTRY_IA32E);
	uint64_t *low = page_alloc(), *high = page_alloc(), *table = page_alloc();
	for (unsigned n = 0; n < 8; n++)
		low[n] = (uint64_t)n << 21 | 0x87;
	high[0] = (word)table | 7;
	*page = 0x5555;
	table[0] = (word)page | 3;
	vmwrite(G_EFER, 0);
	vmwrite(G_CS, SEL_K32);
	vmwrite(G_CS_AR, 0xc09b);
	vmwrite(G_PDPTE0, (word)low | 1);
	vmwrite(G_PDPTE0 + 2, (word)high | 1);
	vmwrite(G_PDPTE0 + 4, 0);
	vmwrite(G_PDPTE0 + 6, 0);
	vmwrite(G_CR3, 0);
	expect_eq(vmx_run_at(pae_guest), R_VMCALL);
	expect_eq(registers.ax, 0x5555);
	expect_eq(vmread(G_PDPTE0 + 2), (word)high | 1);
	vmwrite(G_PDPTE0 + 2, (word)high | 3);		/* reserved */
	expect_eq(vmx_run_at(pae_guest), R_GUEST_STATE);
	expect_eq(vmread(QUALIFICATION), 2);
}
RULE(unrestricted_guest_runs_in_real_mode)
{
	SNIPPET16(real_guest, "mov %ds:0, %ax; vmcall");
	if (!begin(0))
		return;
	NEED(SECONDARY, CPU2_UNRESTRICTED, 0);
	NEED(ENTRY_CONTROLS, 0, ENTRY_IA32E);
	memory_copy((void *)0x20000, real_guest, (size_t)(real_guest_end - real_guest));
	*(volatile uint16_t *)0x30000 = 0xbeef;
	vmwrite(G_CR0, CR0_NE | BIT(4));
	vmwrite(G_CR4, CR4_VMXE);
	vmwrite(G_EFER, 0);
	for (unsigned n = 0; n < 6; n++) {
		vmwrite(G_ES + 2 * n, n == 1 ? 0x2000 : 0x3000);
		vmwrite(G_ES_BASE + 2 * n, n == 1 ? 0x20000 : 0x30000);
		vmwrite(G_ES_LIMIT + 2 * n, 0xffff);
		vmwrite(G_ES_AR + 2 * n, n == 1 ? 0x9b : 0x93);
	}
	vmwrite(G_RIP, 0);
	vmwrite(G_RSP, 0x1000);
	expect_eq(vmx_run(), R_VMCALL);
	expect_eq(registers.ax & 0xffff, 0xbeef);
	expect_eq(vmread(G_CR0) & CR0_PE, 0);
	/* Without the control the same state does not enter. */
	NEED(SECONDARY, 0, CPU2_UNRESTRICTED);
	vmwrite(G_RIP, 0);
	expect_eq(vmx_run(), R_GUEST_STATE);
}
RULE(task_switches_exit)
{
	/* In a 32-bit guest without EPT: JMP to a TSS, and INT through a task gate. */
	SNIPPET32(switcher, "ljmp $0x58, $0");
	SNIPPET32(gate_switch, "int $0x60");
	BEGIN();
	NEED(ENTRY_CONTROLS, 0, ENTRY_IA32E);
	uint64_t *pdpt = page_alloc(), *pd = page_alloc();
	static uint64_t task_idt[256];
	for (unsigned n = 0; n < 8; n++)
		pd[n] = (uint64_t)n << 21 | 0x87;
	pdpt[0] = (word)pd | 1;
	gdt[0x58 / 8] = descriptor(0x20000, 0x67, SEG_P | 9, 0);
	task_idt[0x60] = gate_low(0, 0x58, SEG_P | GATE_TASK, 0);
	vmwrite(G_EFER, 0);
	vmwrite(G_CR3, (word)pdpt);
	vmwrite(G_CS, SEL_K32);
	vmwrite(G_CS_AR, 0xc09b);
	vmwrite(G_IDTR_BASE, (word)task_idt);
	vmwrite(G_IDTR_LIMIT, sizeof task_idt - 1);
	expect_eq(vmx_run_at(switcher), R_TASK_SWITCH);
	expect_eq(vmread(QUALIFICATION), 0x58 | 2ul << 30);
	expect_eq(vmread(EXIT_LENGTH), 7);
	expect_eq(vmx_run_at(gate_switch), R_TASK_SWITCH);
	expect_eq(vmread(QUALIFICATION), 0x58 | 3ul << 30);
	expect_eq(vmread(VECTORING_INFO), INFO_VALID | TYPE_SOFTWARE | 0x60);
	expect_eq(vmread(EXIT_LENGTH), 2);
}

/* --- violations in the middle of something --- */
RULE(an_ept_violation_during_delivery_has_vectoring_information)
{
	SNIPPET(delivered, "ud2");
	if (!begin(0))
		return;
	memory_copy(page, idt, 4096);
	vmwrite(G_IDTR_BASE, (word)page);
	vmwrite(EXCEPTIONS, 0);
	*ept_entry((word)page, 1) &= ~7ull;
	invept(1, ept_root);
	expect_eq(vmx_run_at(delivered), R_EPT_VIOLATION);
	expect_eq(vmread(VECTORING_INFO), INFO_VALID | TYPE_HARDWARE | UD);
	expect_eq(vmread(GUEST_PHYSICAL), (word)page + 16 * UD);
	expect_eq(vmread(QUALIFICATION) & (7 | Q_LINEAR | Q_FINAL), Q_R | Q_LINEAR | Q_FINAL);
	expect_eq(vmread(G_RIP), (word)delivered);
	/* The event is injected again and arrives. */
	SNIPPET(arrived, "mov $0x1d, %edx; vmcall");
	struct gate *copy = (struct gate *)page;
	gate_set(&copy[UD], (word)arrived, SEL_K64, SEG_P | GATE_INT, 0);
	*ept_entry((word)page, 1) |= 7;
	invept(1, ept_root);
	vmwrite(ENTRY_INFO, vmread(VECTORING_INFO));
	expect_eq(vmx_run(), R_VMCALL);
	expect_eq(registers.dx, 0x1d);
}

RULE(an_iret_that_violates_ept_tells_of_nmi_unblocking)
{
	SNIPPET(bad_iret, "mov %rbx, %rsp; bad_iret_at: iretq");
	extern const uint8_t bad_iret_at[];
	if (!begin(0))
		return;
	NEED(PIN, PIN_NMI | PIN_VIRTUAL_NMI, 0);
	*ept_entry((word)page, 1) &= ~7ull;
	invept(1, ept_root);
	vmwrite(INTERRUPTIBILITY, BLOCKING_NMI);
	expect_eq(vmx_run_at(bad_iret), R_EPT_VIOLATION);
	expect_eq(vmread(G_RIP), (word)bad_iret_at);
	expect_eq(vmread(QUALIFICATION) & Q_NMI_UNBLOCKED, Q_NMI_UNBLOCKED);
	expect_eq(vmread(INTERRUPTIBILITY) & BLOCKING_NMI, 0);
	/* Not told when nothing was blocked. */
	vmwrite(INTERRUPTIBILITY, 0);
	expect_eq(vmx_run_at(bad_iret), R_EPT_VIOLATION);
	expect_eq(vmread(QUALIFICATION) & Q_NMI_UNBLOCKED, 0);
}

RULE(an_instruction_fetch_across_pages_violates_at_the_second)
{
	if (!begin(0))
		return;
	uint8_t *second = page_alloc();
	expect_eq((word)second, (word)page + 4096);
	((uint8_t *)page)[4095] = 0x0f;		/* 0F 01 C1 over the boundary */
	second[0] = 0x01;
	second[1] = 0xc1;
	*ept_entry((word)second, 1) &= ~(uint64_t)EPT_X;
	invept(1, ept_root);
	registers.bx = (word)page + 4095;
	expect_eq(vmx_run_at(g_fetch), R_EPT_VIOLATION);
	expect_eq(vmread(GUEST_PHYSICAL) & ~0xffful, (word)second);
	expect_eq(vmread(G_RIP), (word)page + 4095);
	*ept_entry((word)second, 1) |= EPT_X;
	invept(1, ept_root);
	expect_eq(vmx_run(), R_VMCALL);
}

RULE(a_write_across_ept_pages_that_violates_writes_nothing)
{
	if (!begin(0))
		return;
	uint64_t *second = page_alloc();
	*second = 0;
	*ept_entry((word)second, 1) &= ~(uint64_t)EPT_W;
	invept(1, ept_root);
	page[511] = 0;
	registers.bx = (word)page + 4092;
	registers.ax = ~0ull;
	expect_eq(vmx_run_at(g_write), R_EPT_VIOLATION);
	expect_eq(vmread(GUEST_PHYSICAL), (word)second);
	expect_eq(page[511], 0);
}

RULE(a_guests_mov_to_cr3_loads_pae_pdptes_through_ept)
{
	SNIPPET32(pae_switch, "mov %esi, %cr3; mov 0x40000000, %eax; vmcall");
	if (!begin(0))
		return;
	NEED(ENTRY_CONTROLS, 0, ENTRY_IA32E);
	NEED(PRIMARY, 0, CPU_CR3_LOAD | CPU_CR3_STORE);
	uint64_t *low = page_alloc(), *high = page_alloc(), *table = page_alloc(), *pdpt = page_alloc();
	for (unsigned n = 0; n < 8; n++)
		low[n] = (uint64_t)n << 21 | 0x87;
	high[0] = (word)table | 7;
	*page = 0x6666;
	table[0] = (word)page | 3;
	pdpt[0] = (word)low | 1;
	pdpt[1] = (word)high | 1;
	vmwrite(G_EFER, 0);
	vmwrite(G_CS, SEL_K32);
	vmwrite(G_CS_AR, 0xc09b);
	vmwrite(G_PDPTE0, (word)low | 1);
	for (unsigned n = 1; n < 4; n++)
		vmwrite(G_PDPTE0 + 2 * n, 0);
	vmwrite(G_CR3, 0);
	registers.si = (word)pdpt;
	expect_eq(vmx_run_at(pae_switch), R_VMCALL);
	expect_eq(registers.ax, 0x6666);
	expect_eq(vmread(G_PDPTE0 + 2), (word)high | 1);
	expect_eq(vmread(G_CR3), (word)pdpt);
}

RULE(devices_are_reached_through_ept_as_well)
{
	if (!begin(0))
		return;
	registers.bx = 0xfee00030;
	expect_eq(vmx_run_at(g_read), R_VMCALL);
	expect_eq(registers.ax & 0xff, *(volatile uint32_t *)0xfee00030 & 0xff);
}

RULE(self_modifying_code_in_the_guest_behind_ept)
{
	/* movb $2, next + 1; next: mov $1, %eax; vmcall, and by another address */
	static const uint8_t own[] = { 0xc6, 0x05, 1, 0, 0, 0, 2, 0xb8, 1, 0, 0, 0, 0x0f, 0x01, 0xc1 };
	if (!begin(0))
		return;
	memory_copy(page, own, sizeof own);
	expect_eq(vmx_run_at(g_fetch), R_VMCALL);
	expect_eq(registers.ax, 2);
	/* The hypervisor changes it: no invalidation is needed for memory. */
	((uint8_t *)page)[6] = 7;
	expect_eq(vmx_run_at(g_fetch), R_VMCALL);
	expect_eq(registers.ax, 7);
}

RULE(pcid_in_the_guest_with_vpid)
{
	SNIPPET(g_pcid, "mov %rsi, %cr3; mov (%rbx), %rax; mov %rdi, %cr3; mov (%rbx), %rcx; mov %rsi, %cr3; mov (%rbx), %rdx; vmcall");
	if (!(cpuid(1, 0).c >> 17 & 1)) {
		skip("no PCID");
		return;
	}
	if (!vpid_begin(P | W) || !vpid_on())
		return;
	NEED(PRIMARY, 0, CPU_CR3_LOAD | CPU_CR3_STORE);
	uint64_t first = vmread(G_CR3);
	guest_root((word)two, P | W);
	uint64_t second = vmread(G_CR3);
	vmwrite(G_CR4, vmread(G_CR4) | CR4_PCIDE);
	registers.si = first | 3 | BIT(63);
	registers.di = second | 4 | BIT(63);
	expect_eq(vmx_run_at(g_pcid), R_VMCALL);
	expect_eq(registers.ax, 1);
	expect_eq(registers.cx, 2);
	expect_eq(registers.dx, 1);
}
