/* VM exits by what the guest executes: each reason with what it tells, and its
 * absence when it is not asked for (SDM vol. 3, "VMX Non-Root Operation", "VM
 * Exits"); the state that entries load and exits save; errors of the VMX
 * instructions. Exits by events are in vmx_events.c, the chapter's other half. */
#include "rt/vmx.h"

const char chapter[] = "VM exits";
void chapter_setup(void) { }

/* The instruction at the snippet's start exits with this reason, its length and nothing more done. */
static void exits(const char *what, const void *snippet, int reason, unsigned length)
{
	int got = vmx_run_at(snippet);
	expect_(what, reason, (uint64_t)got, (uint64_t)reason);
	if (got != reason)
		return;
	expect_("guest RIP at the exit", reason, vmread(G_RIP), (word)snippet);
	expect_("instruction length", reason, vmread(EXIT_LENGTH), length);
}
SNIPPET(call_out, "vmcall");

RULE(launch_and_vmcall)
{
	SNIPPET(first, "mov $0x1234, %eax; first_call: vmcall");
	extern const uint8_t first_call[];
	BEGIN();
	expect_eq(vmx_run_at(first), R_VMCALL);
	expect_eq(registers.ax, 0x1234);
	expect_eq(vmread(G_RIP), (word)first_call);
	expect_eq(vmread(EXIT_LENGTH), 3);
	expect_eq(vmread(EXIT_REASON), R_VMCALL);
	registers.bx = 77;
	SNIPPET(second, "lea 1(%rbx), %rcx; vmcall");
	expect_eq(vmx_run_at(second), R_VMCALL);
	expect_eq(registers.cx, 78);
}

RULE(host_state_is_loaded_by_an_exit)
{
	SNIPPET(change, "mov $0x23, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov $1, %ecx; vmcall");
	BEGIN();
	vmwrite(G_RFLAGS, 2 | FLAG_DF | 0x8d5);
	expect_eq(vmx_run_at(change), R_VMCALL);
	uint16_t ds, fs;
	asm volatile("mov %%ds, %0; mov %%fs, %1" : "=r"(ds), "=r"(fs));
	expect_eq(ds, SEL_KDATA);
	expect_eq(fs, 0);
	expect_eq(flags() & (FLAG_DF | FLAG_IF), 0);
	expect_eq(dr7(), 0x400);
	struct table_pointer g;
	vmx_run_at(call_out);
	asm volatile("sgdt %0" : "=m"(g));
	expect_eq(g.base, (word)gdt);
	/* The guest's own are in the VMCS. */
	expect_eq(vmread(G_DS), 0x20 | 3);
}

RULE(cpuid_always_exits) { SNIPPET(s, "cpuid"); BEGIN(); exits("CPUID", s, R_CPUID, 2); }
RULE(invd_always_exits) { SNIPPET(s_invd, "invd"); BEGIN(); exits("INVD", s_invd, R_INVD, 2); }
RULE(xsetbv_always_exits)
{
	SNIPPET(s_xsetbv, "xsetbv");
	BEGIN();
	set_cr4(cr4() | CR4_OSXSAVE);
	vmwrite(G_CR4, cr4());
	exits("XSETBV", s_xsetbv, R_XSETBV, 3);
	set_cr4(cr4() & ~CR4_OSXSAVE);
	vmwrite(H_CR4, cr4());
}

RULE(vmx_instructions_exit)
{
	SNIPPET(s_vmclear, "vmclear (%rax)"); SNIPPET(s_vmlaunch, "vmlaunch"); SNIPPET(s_vmptrld, "vmptrld (%rax)");
	SNIPPET(s_vmptrst, "vmptrst (%rax)"); SNIPPET(s_vmread, "vmread %rax, %rbx"); SNIPPET(s_vmresume, "vmresume");
	SNIPPET(s_vmwrite, "vmwrite %rax, %rbx"); SNIPPET(s_vmxoff, "vmxoff"); SNIPPET(s_vmxon, "vmxon (%rax)");
	SNIPPET(s_invept, "invept (%rax), %rbx"); SNIPPET(s_invvpid, "invvpid (%rax), %rbx");
	BEGIN();
	registers.ax = (word)guest_stack;
	exits("VMCLEAR", s_vmclear, R_VMCLEAR, 4);
	exits("VMLAUNCH", s_vmlaunch, R_VMLAUNCH, 3);
	exits("VMPTRLD", s_vmptrld, R_VMPTRLD, 3);
	exits("VMPTRST", s_vmptrst, R_VMPTRST, 3);
	exits("VMREAD", s_vmread, R_VMREAD, 3);
	exits("VMRESUME", s_vmresume, R_VMRESUME, 3);
	exits("VMWRITE", s_vmwrite, R_VMWRITE, 3);
	exits("VMXOFF", s_vmxoff, R_VMXOFF, 3);
	exits("VMXON", s_vmxon, R_VMXON, 4);
	exits("INVEPT", s_invept, R_INVEPT, 5);
	exits("INVVPID", s_invvpid, R_INVVPID, 5);
}

RULE(instruction_information_names_the_operands)
{
	/* VMREAD %rax -> 8(%rbx, %rcx, 4): displacement, base, index, scale, segment, register 2. */
	SNIPPET(info_mem, "vmread %rsi, 0x40(%rbx, %rcx, 4)");
	SNIPPET(info_reg, "vmread %rsi, %r9");
	BEGIN();
	expect_eq(vmx_run_at(info_mem), R_VMREAD);
	uint64_t i = vmread(INSTRUCTION_INFO);
	expect_eq(i & 3, 2);			/* scale by 4 */
	expect_eq(i >> 7 & 7, 2);		/* 64-bit addresses */
	expect_eq(i >> 10 & 1, 0);		/* memory */
	expect_eq(i >> 15 & 7, 3);		/* DS */
	expect_eq(i >> 18 & 15, 1);		/* index RCX */
	expect_eq(i >> 22 & 1, 0);
	expect_eq(i >> 23 & 15, 3);		/* base RBX */
	expect_eq(i >> 27 & 1, 0);
	expect_eq(i >> 28, 6);			/* RSI */
	expect_eq(vmread(QUALIFICATION), 0x40);
	expect_eq(vmx_run_at(info_reg), R_VMREAD);
	i = vmread(INSTRUCTION_INFO);
	expect_eq(i >> 10 & 1, 1);
	expect_eq(i >> 3 & 15, 9);
	expect_eq(i >> 28, 6);
}

RULE(qualification_of_a_rip_relative_operand_is_the_displacement_and_rip)
{
	SNIPPET(rip_relative, "vmptrst vmcs_region(%rip); rip_after:");
	BEGIN();
	expect_eq(vmx_run_at(rip_relative), R_VMPTRST);
	/* SDM, "Basic VM-Exit Information": the RIP of the next instruction is added. */
	expect_eq(vmread(QUALIFICATION), (word)&vmcs_region);
}

/* Instructions that exit only when asked: first without, then with. */
static void optional(const char *what, const void *snippet, unsigned field, uint32_t bit, int reason, unsigned length)
{
	int v = vmx_run_at(snippet);
	expect_(what, 0, (uint64_t)v, R_VMCALL);
	NEED(field, bit, 0);
	exits(what, snippet, reason, length);
}

RULE(hlt_exits_when_asked)
{
	SNIPPET(s_hlt, "hlt");
	BEGIN();
	NEED(PRIMARY, CPU_HLT, 0);
	exits("HLT", s_hlt, R_HLT, 1);
}
RULE(invlpg_exits_when_asked)
{
	SNIPPET(s_invlpg, "invlpg 0x123456; vmcall");
	BEGIN();
	optional("INVLPG", s_invlpg, PRIMARY, CPU_INVLPG, R_INVLPG, 8);
	expect_eq(vmread(QUALIFICATION), 0x123456);
}
RULE(rdtsc_exits_when_asked)
{
	SNIPPET(s_rdtsc, "rdtsc; vmcall");
	BEGIN();
	optional("RDTSC", s_rdtsc, PRIMARY, CPU_RDTSC, R_RDTSC, 2);
}
RULE(rdpmc_exits_when_asked)
{
	SNIPPET(s_rdpmc, "rdpmc; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_RDPMC, 0);
	exits("RDPMC", s_rdpmc, R_RDPMC, 2);
}
RULE(pause_exits_when_asked)
{
	SNIPPET(s_pause, "pause; vmcall");
	BEGIN();
	optional("PAUSE", s_pause, PRIMARY, CPU_PAUSE, R_PAUSE, 2);
}
RULE(pause_loop_exits_after_the_window)
{
	SNIPPET(s_ple, "mov $1000000, %ecx; 1: pause; dec %ecx; jnz 1b; vmcall");
	BEGIN();
	NEED(SECONDARY, CPU2_PAUSE_LOOP, 0);
	vmwrite(PLE_GAP, 100000);
	vmwrite(PLE_WINDOW, 20000);
	expect_eq(vmx_run_at(s_ple), R_PAUSE);
}
RULE(wbinvd_exits_when_asked)
{
	SNIPPET(s_wbinvd, "wbinvd; vmcall");
	BEGIN();
	optional("WBINVD", s_wbinvd, SECONDARY, CPU2_WBINVD, R_WBINVD, 2);
}
RULE(rdrand_and_rdseed_exit_when_asked)
{
	SNIPPET(s_rdrand, "rdrand %rdx; vmcall");
	SNIPPET(s_rdseed, "rdseed %ecx; vmcall");
	BEGIN();
	NEED(SECONDARY, CPU2_RDRAND, 0);
	exits("RDRAND", s_rdrand, R_RDRAND, 4);
	expect_eq(vmread(INSTRUCTION_INFO) >> 3 & 15, 2);
	expect_eq(vmread(INSTRUCTION_INFO) >> 11 & 3, 2);
	NEED(SECONDARY, CPU2_RDSEED, 0);
	exits("RDSEED", s_rdseed, R_RDSEED, 3);
	expect_eq(vmread(INSTRUCTION_INFO) >> 3 & 15, 1);
}
RULE(rdtscp_is_ud_unless_enabled)
{
	SNIPPET(s_rdtscp, "rdtscp; vmcall");
	BEGIN();
	expect_eq(vmx_run_at(s_rdtscp), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_HARDWARE | UD);
	NEED(SECONDARY, CPU2_RDTSCP, 0);
	expect_eq(vmx_run_at(s_rdtscp), R_VMCALL);
	NEED(PRIMARY, CPU_RDTSC, 0);
	exits("RDTSCP", s_rdtscp, R_RDTSCP, 3);
}
RULE(invpcid_is_ud_unless_enabled_and_exits_with_invlpg)
{
	SNIPPET(s_invpcid, "push $0; push $0; mov $2, %eax; invpcid_at: invpcid (%rsp), %rax; vmcall");
	extern const uint8_t invpcid_at[];
	BEGIN();
	expect_eq(vmx_run_at(s_invpcid), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_HARDWARE | UD);
	NEED(SECONDARY, CPU2_INVPCID, 0);
	expect_eq(vmx_run_at(s_invpcid), R_VMCALL);
	NEED(PRIMARY, CPU_INVLPG, 0);
	expect_eq(vmx_run_at(s_invpcid), R_INVPCID);
	expect_eq(vmread(G_RIP), (word)invpcid_at);
	expect_eq(vmread(INSTRUCTION_INFO) >> 23 & 15, 4);	/* base RSP */
}
RULE(descriptor_table_instructions_exit_when_asked)
{
	SNIPPET(s_sgdt, "sgdt (%rsp); vmcall"); SNIPPET(s_lidt, "lidt (%rsp); vmcall"); SNIPPET(s_str, "str %eax; vmcall");
	SNIPPET(s_sldt, "sldt %eax; vmcall"); SNIPPET(s_lldt, "xor %eax, %eax; lldt_at: lldt %ax; vmcall");
	BEGIN();
	expect_eq(vmx_run_at(s_str), R_VMCALL);
	NEED(SECONDARY, CPU2_DESCRIPTOR_TABLE, 0);
	exits("SGDT", s_sgdt, R_GDTR_IDTR, 4);
	expect_eq(vmread(INSTRUCTION_INFO) >> 28 & 3, 0);
	exits("LIDT", s_lidt, R_GDTR_IDTR, 4);
	expect_eq(vmread(INSTRUCTION_INFO) >> 28 & 3, 3);
	exits("STR", s_str, R_LDTR_TR, 3);
	expect_eq(vmread(INSTRUCTION_INFO) >> 28 & 3, 1);
	exits("SLDT", s_sldt, R_LDTR_TR, 3);
	expect_eq(vmread(INSTRUCTION_INFO) >> 28 & 3, 0);
	expect_eq(vmx_run_at(s_lldt), R_LDTR_TR);
	expect_eq(vmread(INSTRUCTION_INFO) >> 28 & 3, 2);
}
RULE(instructions_without_their_enable_are_ud)
{
	SNIPPET(s_xsaves, "xor %edx, %edx; mov $1, %eax; xsaves guest_stack; vmcall");
	SNIPPET(s_vmfunc, "vmfunc");
	BEGIN();
	set_cr4(cr4() | CR4_OSXSAVE);
	vmwrite(G_CR4, cr4());
	expect_eq(vmx_run_at(s_xsaves), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, UD);
	expect_eq(vmx_run_at(s_vmfunc), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, UD);
	set_cr4(cr4() & ~CR4_OSXSAVE);
}

/* --- control registers --- */
RULE(cr3_accesses_exit_when_asked)
{
	SNIPPET(to_cr3, "mov %cr3, %rbx; mov %rbx, %cr3; vmcall");
	SNIPPET(from_cr3, "mov %cr3, %rsi; vmcall");
	SNIPPET(into_cr3, "mov %rdi, %cr3; vmcall");
	BEGIN();
	if (rdmsr(0x48e) & CPU_CR3_LOAD)
		skip("CR3-load exiting cannot be cleared");
	else {
		NEED(PRIMARY, 0, CPU_CR3_LOAD | CPU_CR3_STORE);
		expect_eq(vmx_run_at(to_cr3), R_VMCALL);
	}
	NEED(PRIMARY, CPU_CR3_LOAD | CPU_CR3_STORE, 0);
	exits("MOV from CR3", from_cr3, R_CR, 3);
	expect_eq(vmread(QUALIFICATION), 3 | 1 << 4 | 6 << 8);
	registers.di = cr3() | 0x18;
	exits("MOV to CR3", into_cr3, R_CR, 3);
	expect_eq(vmread(QUALIFICATION), 3 | 0 << 4 | 7 << 8);
}
RULE(cr3_target_values_do_not_exit)
{
	SNIPPET(into_target, "mov %rdi, %cr3; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_CR3_LOAD, 0);
	registers.di = cr3();
	vmwrite(CR3_TARGET0, cr3());
	vmwrite(CR3_COUNT, 0);
	expect_eq(vmx_run_at(into_target), R_CR);
	vmwrite(CR3_COUNT, 1);
	expect_eq(vmx_run_at(into_target), R_VMCALL);
}
RULE(cr0_bits_of_the_mask_exit_and_read_from_the_shadow)
{
	SNIPPET(read_cr0, "mov %cr0, %rax; vmcall");
	SNIPPET(write_cr0, "mov %rax, %cr0; vmcall");
	BEGIN();
	word own = cr0();
	vmwrite(CR0_MASK, CR0_TS | CR0_WP);
	vmwrite(CR0_SHADOW, CR0_TS);
	expect_eq(vmx_run_at(read_cr0), R_VMCALL);
	expect_eq(registers.ax, (own & ~(CR0_WP | CR0_TS)) | CR0_TS);
	/* A write that agrees with the shadow in the masked bits does not exit. */
	registers.ax = (own & ~(CR0_WP | CR0_TS)) | CR0_TS | CR0_AM;
	expect_eq(vmx_run_at(write_cr0), R_VMCALL);
	expect_eq(vmread(G_CR0), own | CR0_AM);
	registers.ax = own;
	exits("MOV to CR0", write_cr0, R_CR, 3);
	expect_eq(vmread(QUALIFICATION), 0);
}
RULE(clts_and_lmsw_exit_by_the_mask)
{
	SNIPPET(s_clts, "clts; vmcall");
	SNIPPET(s_lmsw, "lmsw %ax; vmcall");
	BEGIN();
	vmwrite(CR0_MASK, CR0_TS);
	vmwrite(CR0_SHADOW, CR0_TS);
	exits("CLTS", s_clts, R_CR, 2);
	expect_eq(vmread(QUALIFICATION), 2 << 4);
	vmwrite(CR0_SHADOW, 0);		/* TS reads as 0: CLTS does nothing */
	expect_eq(vmx_run_at(s_clts), R_VMCALL);
	registers.ax = 9;		/* TS, PE */
	exits("LMSW", s_lmsw, R_CR, 3);
	expect_eq(vmread(QUALIFICATION), 3 << 4 | 9ul << 16);
}
RULE(cr4_bits_of_the_mask_exit)
{
	SNIPPET(read_cr4, "mov %cr4, %rax; vmcall");
	SNIPPET(write_cr4, "mov %rcx, %cr4; vmcall");
	BEGIN();
	vmwrite(CR4_MASK, CR4_VMXE);
	vmwrite(CR4_SHADOW, 0);
	expect_eq(vmx_run_at(read_cr4), R_VMCALL);
	expect_eq(registers.ax & CR4_VMXE, 0);
	registers.cx = registers.ax | CR4_PGE;
	expect_eq(vmx_run_at(write_cr4), R_VMCALL);
	expect_eq(vmread(G_CR4) & (CR4_VMXE | CR4_PGE), CR4_VMXE | CR4_PGE);
	registers.cx |= CR4_VMXE;
	exits("MOV to CR4", write_cr4, R_CR, 3);
	expect_eq(vmread(QUALIFICATION), 4 | 1 << 8);
}
RULE(cr0_fixed_bits_raise_gp_in_the_guest)
{
	SNIPPET(clear_ne, "mov %cr0, %rax; and $~0x20, %rax; clear_ne_at: mov %rax, %cr0; vmcall");
	extern const uint8_t clear_ne_at[];
	BEGIN();
	expect_eq(vmx_run_at(clear_ne), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | INFO_ERROR | TYPE_HARDWARE | GP);
	expect_eq(vmread(EXIT_ERROR), 0);
	expect_eq(vmread(G_RIP), (word)clear_ne_at);
}
RULE(cr8_accesses_exit_when_asked)
{
	SNIPPET(to_cr8, "mov %rax, %cr8; vmcall");
	SNIPPET(from_cr8, "mov %cr8, %rcx; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_CR8_LOAD | CPU_CR8_STORE, 0);
	registers.ax = 3;
	exits("MOV to CR8", to_cr8, R_CR, 4);
	expect_eq(vmread(QUALIFICATION), 8);
	exits("MOV from CR8", from_cr8, R_CR, 4);
	expect_eq(vmread(QUALIFICATION), 8 | 1 << 4 | 1 << 8);
}
RULE(mov_dr_exits_when_asked)
{
	SNIPPET(to_dr, "mov %rbx, %db3; vmcall");
	SNIPPET(from_dr, "mov %db7, %rax; vmcall");
	BEGIN();
	optional("MOV to DR", to_dr, PRIMARY, CPU_MOV_DR, R_DR, 3);
	expect_eq(vmread(QUALIFICATION), 3 | 3 << 8);
	exits("MOV from DR", from_dr, R_DR, 3);
	expect_eq(vmread(QUALIFICATION), 7 | 1 << 4);
}

/* --- I/O and MSRs --- */
RULE(io_exits_always_or_by_the_bitmaps)
{
	SNIPPET(in_80, "in $0x80, %al; vmcall");
	SNIPPET(out_dx, "out %eax, %dx; vmcall");
	SNIPPET(outs, "rep outsb; vmcall");
	SNIPPET(ins, "insw; vmcall");
	BEGIN();
	expect_eq(vmx_run_at(in_80), R_VMCALL);
	NEED(PRIMARY, CPU_IO, 0);
	exits("IN", in_80, R_IO, 2);
	expect_eq(vmread(QUALIFICATION), 0 | 1 << 3 | 1 << 6 | 0x80ul << 16);
	registers.dx = 0x8123;
	exits("OUT", out_dx, R_IO, 1);
	expect_eq(vmread(QUALIFICATION), 3 | 0x8123ul << 16);
	registers.cx = 2;
	registers.si = (word)guest_stack;
	exits("REP OUTSB", outs, R_IO, 2);
	expect_eq(vmread(QUALIFICATION), 0 | 1 << 4 | 1 << 5 | 0x8123ul << 16);
	expect_eq(vmread(LINEAR_ADDRESS), (word)guest_stack);
	registers.di = (word)guest_stack + 8;
	exits("INSW", ins, R_IO, 2);
	expect_eq(vmread(QUALIFICATION), 1 | 1 << 3 | 1 << 4 | 0x8123ul << 16);
	/* Bitmaps, and "unconditional" is ignored with them. */
	uint8_t *a = page_alloc(), *b = page_alloc();
	vmwrite(IO_BITMAP_A, (word)a);
	vmwrite(IO_BITMAP_B, (word)b);
	NEED(PRIMARY, CPU_IO_BITMAPS, 0);
	expect_eq(vmx_run_at(in_80), R_VMCALL);
	a[0x80 / 8] = 1;
	expect_eq(vmx_run_at(in_80), R_IO);
	registers.dx = 0x8123;
	expect_eq(vmx_run_at(out_dx), R_VMCALL);
	b[0x126 / 8] = 1 << (0x126 & 7);	/* the last of the four bytes */
	expect_eq(vmx_run_at(out_dx), R_IO);
	registers.dx = 0xffff;		/* wraps: always exits */
	expect_eq(vmx_run_at(out_dx), R_IO);
}

RULE(msr_accesses_exit_always_or_by_the_bitmaps)
{
	SNIPPET(rd, "rdmsr; vmcall");
	SNIPPET(wr, "wrmsr; vmcall");
	BEGIN();
	registers.cx = 0x10;
	exits("RDMSR", rd, R_RDMSR, 2);
	exits("WRMSR", wr, R_WRMSR, 2);
	uint8_t *map = page_alloc();
	vmwrite(MSR_BITMAP, (word)map);
	NEED(PRIMARY, CPU_MSR_BITMAPS, 0);
	expect_eq(vmx_run_at(rd), R_VMCALL);
	map[0x10 / 8] = 1;
	expect_eq(vmx_run_at(rd), R_RDMSR);
	registers.cx = 0x174;
	registers.ax = registers.dx = 0;
	expect_eq(vmx_run_at(wr), R_VMCALL);
	map[2048 + 0x174 / 8] = 1 << (0x174 & 7);
	expect_eq(vmx_run_at(wr), R_WRMSR);
	expect_eq(vmx_run_at(rd), R_VMCALL);
	registers.cx = 0xc0000100;
	expect_eq(vmx_run_at(rd), R_VMCALL);
	map[1024 + 0x100 / 8] = 1;
	expect_eq(vmx_run_at(rd), R_RDMSR);
	registers.ax = registers.dx = 0;
	expect_eq(vmx_run_at(wr), R_VMCALL);
	map[3072 + 0x100 / 8] = 1;
	expect_eq(vmx_run_at(wr), R_WRMSR);
	registers.cx = 0x12345;		/* outside both ranges */
	expect_eq(vmx_run_at(rd), R_RDMSR);
	expect_eq(vmx_run_at(wr), R_WRMSR);
}

RULE(a_fault_comes_before_the_exit)
{
	/* In ring 3, RDMSR is #GP and HLT too: the privilege check is first. */
	SNIPPET(user_hlt, "hlt");
	BEGIN();
	NEED(PRIMARY, CPU_HLT, 0);
	vmwrite(G_CS, SEL_U64);
	vmwrite(G_CS_AR, 0xa0fb);
	vmwrite(G_SS, SEL_UDATA);
	vmwrite(G_SS_AR, 0xc0f3);
	expect_eq(vmx_run_at(user_hlt), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, GP);
	/* CPUID is for everyone. */
	SNIPPET(user_cpuid, "cpuid");
	expect_eq(vmx_run_at(user_cpuid), R_CPUID);
	/* VMCALL too; VMREAD raises #GP? No: exits before the CPL is looked at. */
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	SNIPPET(user_vmread, "vmread %rax, %rbx");
	expect_eq(vmx_run_at(user_vmread), R_VMREAD);
}

/* --- TSC --- */
RULE(tsc_offset_is_added)
{
	SNIPPET(tsc, "rdtsc; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_TSC_OFFSET, 0);
	vmwrite(TSC_OFFSET, 1ull << 50);
	uint64_t before = rdtsc();
	expect_eq(vmx_run_at(tsc), R_VMCALL);
	uint64_t guest = registers.ax | registers.dx << 32;
	expect(guest - (1ull << 50) >= before && guest - (1ull << 50) <= rdtsc());
}
RULE(tsc_scaling_multiplies)
{
	SNIPPET(tsc_scaled, "rdtsc; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_TSC_OFFSET, 0);
	NEED(SECONDARY, CPU2_TSC_SCALING, 0);
	vmwrite(TSC_MULTIPLIER, 1ull << 47);	/* a half */
	uint64_t before = rdtsc();
	expect_eq(vmx_run_at(tsc_scaled), R_VMCALL);
	uint64_t guest = registers.ax | registers.dx << 32;
	expect(guest >= before / 2 && guest <= rdtsc() / 2 + 1);
}

/* --- MSR areas --- */
RULE(msr_areas_load_and_store)
{
	SNIPPET(area_guest, "mov $0xc0000102, %ecx; rdmsr; mov %eax, %ebx; mov $0x3333, %eax; wrmsr; vmcall");
	BEGIN();
	struct { uint32_t index, reserved; uint64_t value; } *entry = page_alloc(), *store = page_alloc(), *load = page_alloc();
	uint8_t *map = page_alloc();
	vmwrite(MSR_BITMAP, (word)map);
	NEED(PRIMARY, CPU_MSR_BITMAPS, 0);
	entry[0].index = store[0].index = load[0].index = 0xc0000102;
	entry[0].value = 0x1111;
	load[0].value = 0x2222;
	vmwrite(ENTRY_LOAD, (word)entry);
	vmwrite(ENTRY_LOAD_COUNT, 1);
	vmwrite(EXIT_STORE, (word)store);
	vmwrite(EXIT_STORE_COUNT, 1);
	vmwrite(EXIT_LOAD, (word)load);
	vmwrite(EXIT_LOAD_COUNT, 1);
	expect_eq(vmx_run_at(area_guest), R_VMCALL);
	expect_eq(registers.bx, 0x1111);
	expect_eq(store[0].value, 0x3333);
	expect_eq(rdmsr(0xc0000102), 0x2222);
	entry[0].reserved = 1;
	expect_eq(vmx_run_at(area_guest), R_MSR_LOAD);
	expect_eq(vm_entry_failed, 1);
	expect_eq(vmread(QUALIFICATION), 1);
	entry[0].reserved = 0;
	entry[0].index = 0xc0000100;	/* FS base is not for the list */
	expect_eq(vmx_run_at(area_guest), R_MSR_LOAD);
	entry[0].index = 0x480;
	expect_eq(vmx_run_at(area_guest), R_MSR_LOAD);
}

/* --- errors of the instructions --- */
RULE(vm_instruction_errors)
{
	BEGIN();
	enum { VMCLEAR_ADDRESS = 2, VMCLEAR_VMXON = 3, LAUNCH_NOT_CLEAR = 4, RESUME_NOT_LAUNCHED = 5, CONTROLS = 7, HOST = 8,
	       VMPTRLD_ADDRESS = 9, VMPTRLD_VMXON = 10, VMPTRLD_REVISION = 11, FIELD = 12, READ_ONLY = 13, VMXON_IN_ROOT = 15,
	       OPERAND = 28 };
	expect_eq(vmclear(vmcs_region + 8), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMCLEAR_ADDRESS);
	expect_eq(vmclear(vmxon_region), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMCLEAR_VMXON);
	expect_eq(vmptrld(BIT(60)), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMPTRLD_ADDRESS);
	expect_eq(vmptrld(vmxon_region), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMPTRLD_VMXON);
	uint32_t *bad = page_alloc();
	*bad = ~*(uint32_t *)vmxon_region & 0x7fffffff;
	expect_eq(vmptrld((word)bad), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMPTRLD_REVISION);
	expect_eq(vmwrite(0x7ffe, 0), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), FIELD);
	if (!(rdmsr(0x485) >> 29 & 1)) {
		expect_eq(vmwrite(EXIT_REASON, 0), VM_FAIL_VALID);
		expect_eq(vmread(INSTRUCTION_ERROR), READ_ONLY);
	}
	expect_eq(vmxon(vmxon_region), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), VMXON_IN_ROOT);
	expect_eq(invept(7, 0), VM_FAIL_VALID);
	expect_eq(vmread(INSTRUCTION_ERROR), OPERAND);
	expect_eq(invvpid(1, 0, 0), VM_FAIL_VALID);	/* VPID 0 */
	expect_eq(vmread(INSTRUCTION_ERROR), OPERAND);
	vmx_launched(true);
	expect_eq(vmx_run_at(call_out), -1);
	expect_eq(vm_error, RESUME_NOT_LAUNCHED);
	vmx_launched(false);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	vmx_launched(false);
	expect_eq(vmx_run_at(call_out), -1);
	expect_eq(vm_error, LAUNCH_NOT_CLEAR);
	vmx_launched(true);
	vmwrite(H_CS, 0);
	expect_eq(vmx_run_at(call_out), -1);
	expect_eq(vm_error, HOST);
	vmwrite(H_CS, SEL_K64);
	vmwrite(CR3_COUNT, 5);
	expect_eq(vmx_run_at(call_out), -1);
	expect_eq(vm_error, CONTROLS);
	vmwrite(CR3_COUNT, 0);
	vmwrite(G_RFLAGS, 0);
	expect_eq(vmx_run_at(call_out), R_GUEST_STATE);
	expect_eq(vm_entry_failed, 1);
	vmwrite(G_RFLAGS, 2);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
}

RULE(without_a_current_vmcs_everything_fails_invalid)
{
	BEGIN();
	uint64_t at = 0;
	asm volatile("vmptrst %0" : "=m"(at));
	expect_eq(at, vmcs_region);
	vmclear(vmcs_region);
	asm volatile("vmptrst %0" : "=m"(at));
	expect_eq(at, ~0ull);
	expect_eq(vmwrite(G_RIP, 0), VM_FAIL_INVALID);
	expect_eq(vmptrld(BIT(60)), VM_FAIL_INVALID);
	expect_eq(vmx_run(), -1);
	expect_eq(vm_error, 0);
}

RULE(vmx_operation_keeps_cr0_and_cr4)
{
	BEGIN();
	FAULTS(GP, 0, set_cr4(cr4() & ~CR4_VMXE));
	FAULTS(GP, 0, set_cr0(cr0() & ~CR0_NE));
}

RULE(two_vmcss_keep_their_state_apart)
{
	BEGIN();
	uint32_t *other = page_alloc();
	*other = *(uint32_t *)vmcs_region;
	vmwrite(G_RIP, 0x1111);
	expect_eq(vmclear((word)other), VM_SUCCEED);
	expect_eq(vmptrld((word)other), VM_SUCCEED);
	vmwrite(G_RIP, 0x2222);
	expect_eq(vmptrld(vmcs_region), VM_SUCCEED);
	expect_eq(vmread(G_RIP), 0x1111);
	expect_eq(vmptrld((word)other), VM_SUCCEED);
	expect_eq(vmread(G_RIP), 0x2222);
}

RULE(vmx_instructions_in_ring_3_raise_gp)
{
	SNIPPET(user_vmptrst, "vmptrst (%rsp); int $0x80");
	SNIPPET(user_vmcall, "vmcall; int $0x80");
	BEGIN();
	expect_eq(run_user(user_vmptrst), GP);
	expect_eq(run_user(user_vmcall), GP);
}

RULE(efer_and_pat_are_loaded_and_saved)
{
	SNIPPET(rd_efer, "mov $0xc0000080, %ecx; rdmsr; mov %eax, %ebx; and $~1, %eax; wrmsr; mov $0x277, %ecx; rdmsr; vmcall");
	BEGIN();
	uint8_t *map = page_alloc();
	vmwrite(MSR_BITMAP, (word)map);
	NEED(PRIMARY, CPU_MSR_BITMAPS, 0);
	NEED(ENTRY_CONTROLS, ENTRY_LOAD_PAT, 0);
	NEED(EXIT_CONTROLS, EXIT_LOAD_PAT | EXIT_SAVE_PAT, 0);
	uint64_t efer = rdmsr(EFER), pat = rdmsr(0x277);
	vmwrite(G_EFER, efer & ~EFER_NXE);
	vmwrite(G_PAT, 0x0606060606060606);
	expect_eq(vmx_run_at(rd_efer), R_VMCALL);
	expect_eq(registers.bx, efer & ~EFER_NXE);
	expect_eq(vmread(G_EFER), efer & ~(EFER_NXE | EFER_SCE));
	expect_eq(registers.ax, 0x06060606);
	expect_eq(vmread(G_PAT), 0x0606060606060606);
	expect_eq(rdmsr(EFER), efer);
	expect_eq(rdmsr(0x277), pat);
}

/* --- more of what is saved, and of priorities --- */
RULE(io_exits_come_before_faults_of_the_memory_operand)
{
	SNIPPET(outs_nowhere, "outsb");
	BEGIN();
	NEED(PRIMARY, CPU_IO, 0);
	registers.dx = 0x80;
	registers.si = 0x10000000000;
	expect_eq(vmx_run_at(outs_nowhere), R_IO);
	expect_eq(vmread(LINEAR_ADDRESS), 0x10000000000);
}

RULE(debug_controls_are_loaded_and_saved)
{
	enum { EXIT_SAVE_DEBUG = 1 << 2 };
	SNIPPET(dr7_guest, "mov %db7, %rbx; mov $0x402, %eax; mov %rax, %db7; vmcall");
	BEGIN();
	NEED(ENTRY_CONTROLS, ENTRY_LOAD_DEBUG, 0);
	NEED(EXIT_CONTROLS, EXIT_SAVE_DEBUG, 0);
	vmwrite(G_DR7, 0x408);
	expect_eq(vmx_run_at(dr7_guest), R_VMCALL);
	expect_eq(registers.bx, 0x408);
	expect_eq(vmread(G_DR7), 0x402);
	expect_eq(dr7(), 0x400);
}

RULE(rf_is_saved_by_exits_of_faults_and_not_of_calls)
{
	SNIPPET(rf_ud, "ud2");
	BEGIN();
	expect_eq(vmx_run_at(rf_ud), R_EXCEPTION);
	expect_eq(vmread(G_RFLAGS) & FLAG_RF, FLAG_RF);
	vmwrite(G_RFLAGS, 2);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect_eq(vmread(G_RFLAGS) & FLAG_RF, 0);
}

RULE(segments_of_the_guest_are_saved)
{
	SNIPPET(segments, "mov $0x2b, %eax; mov %eax, %es; xor %eax, %eax; mov %eax, %fs; mov $0x58, %eax; mov %eax, %gs; vmcall");
	BEGIN();
	gdt[0x58 / 8] = descriptor(0x123000, 0xff, SEG_P | SEG_DATA, SEG_B);
	expect_eq(vmx_run_at(segments), R_VMCALL);
	expect_eq(vmread(G_ES), 0x2b);
	expect_eq(vmread(G_ES_AR), 0xc0f3);
	expect_eq(vmread(G_FS_AR) & 1 << 16, 1 << 16);
	expect_eq(vmread(G_GS), 0x58);
	expect_eq(vmread(G_GS_BASE), 0x123000);
	expect_eq(vmread(G_GS_LIMIT), 0xff);
	expect_eq(vmread(G_GS_AR), 0x4093);
}

RULE(fields_keep_their_width)
{
	BEGIN();
	vmwrite(G_FS, 0x12345678);
	expect_eq(vmread(G_FS), 0x5678);
	vmwrite(G_FS_LIMIT, 0x123456789abcdef0);
	expect_eq(vmread(G_FS_LIMIT), 0x9abcdef0);
	vmwrite(TSC_OFFSET, 0x123456789abcdef0);
	expect_eq(vmread(TSC_OFFSET), 0x123456789abcdef0);
	/* The high half by its own encoding. */
	expect_eq(vmread(TSC_OFFSET + 1), 0x12345678);
	vmwrite(TSC_OFFSET + 1, 0x11111111);
	expect_eq(vmread(TSC_OFFSET), 0x111111119abcdef0);
}

RULE(the_hypervisors_xmm_and_cr2_are_the_guests_too)
{
	/* What no VMCS field holds passes through: CR2, DR0, SSE registers. */
	SNIPPET(through, "mov %cr2, %rax; mov %db1, %rbx; mov $0x77, %ecx; mov %rcx, %cr2; vmcall");
	BEGIN();
	set_cr2(0x5555);
	set_dr1(0x6666);
	expect_eq(vmx_run_at(through), R_VMCALL);
	expect_eq(registers.ax, 0x5555);
	expect_eq(registers.bx, 0x6666);
	expect_eq(cr2(), 0x77);
	set_dr1(0);
}

RULE(the_guests_sysenter_msrs_are_its_own)
{
	SNIPPET(sysenter_msrs, "mov $0x176, %ecx; rdmsr; mov %eax, %ebx; mov $0x9999, %eax; xor %edx, %edx; wrmsr; vmcall");
	BEGIN();
	uint8_t *map = page_alloc();
	vmwrite(MSR_BITMAP, (word)map);
	NEED(PRIMARY, CPU_MSR_BITMAPS, 0);
	wrmsr(0x176, 0x1000);
	vmwrite(H_SYSENTER_EIP, 0x2000);
	vmwrite(G_SYSENTER_EIP, 0x3000);
	expect_eq(vmx_run_at(sysenter_msrs), R_VMCALL);
	expect_eq(registers.bx, 0x3000);
	expect_eq(vmread(G_SYSENTER_EIP), 0x9999);
	expect_eq(rdmsr(0x176), 0x2000);
	wrmsr(0x176, 0);
}

RULE(xsaves_runs_when_enabled)
{
	SNIPPET(xsaves_on, "xor %edx, %edx; mov $1, %eax; xsaves (%rbx); vmcall");
	BEGIN();
	if (!(cpuid(13, 1).a >> 3 & 1)) {
		skip("no XSAVES");
		return;
	}
	set_cr4(cr4() | CR4_OSXSAVE | CR4_OSFXSR);
	vmwrite(G_CR4, cr4());
	NEED(SECONDARY, CPU2_XSAVES, 0);
	vmwrite(XSS_BITMAP, 0);
	registers.bx = ((word)page_alloc());
	expect_eq(vmx_run_at(xsaves_on), R_VMCALL);
	set_cr4(cr4() & ~(CR4_OSXSAVE | CR4_OSFXSR));
}

RULE(rep_outs_exits_at_each_iteration_with_registers_to_go_on)
{
	SNIPPET(rep_outs, "rep outsb; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_IO, 0);
	registers.dx = 0x80;
	registers.cx = 3;
	registers.si = (word)guest_stack;
	for (word n = 0; n < 3; n++) {
		expect_eq(n ? vmx_run() : vmx_run_at(rep_outs), R_IO);
		expect_eq(registers.cx, 3 - n);
		registers.cx--;
		registers.si++;
	}
	expect_eq(vmx_run(), R_VMCALL);
}
