/* VM exits: each reason with what it tells, and its absence when it is not
 * asked for (SDM vol. 3, "VMX Non-Root Operation", "VM Exits"). */
#include "rt/vmx.h"

const char chapter[] = "VM exits";
void chapter_setup(void) { }
#define BEGIN() do { if (!vmx_begin()) return; } while (0)
#define NEED(...) do { if (!control(__VA_ARGS__)) return; } while (0)
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

/* --- exceptions --- */
RULE(exceptions_exit_by_the_bitmap)
{
	SNIPPET(ud2, "ud2");
	BEGIN();
	expect_eq(vmx_run_at(ud2), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_HARDWARE | UD);
	expect_eq(vmread(G_RIP), (word)ud2);
	/* Without the bit: the guest's own IDT; the handler calls out. */
	SNIPPET(handler, "mov (%rsp), %rax; vmcall");
	gate_set(&idt[UD], (word)handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(EXCEPTIONS, ~(1u << UD));
	expect_eq(vmx_run_at(ud2), R_VMCALL);
	expect_eq(registers.ax, (word)ud2);
}

RULE(software_exceptions_have_their_types_and_lengths)
{
	SNIPPET(s_int3, "int3");
	SNIPPET(s_icebp, ".byte 0xf1");
	BEGIN();
	expect_eq(vmx_run_at(s_int3), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_SOFTWARE_EXCEPTION | BP);
	expect_eq(vmread(G_RIP), (word)s_int3);
	expect_eq(vmread(EXIT_LENGTH), 1);
	expect_eq(vmx_run_at(s_icebp), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_PRIVILEGED | DB);
	expect_eq(vmread(EXIT_LENGTH), 1);
	expect_eq(vmread(QUALIFICATION), 0);
}

RULE(page_faults_by_mask_and_match)
{
	SNIPPET(touch, "mov %rax, (%rbx); vmcall");
	SNIPPET(pf_handler, "mov $0x77, %ecx; vmcall");
	BEGIN();
	gate_set(&idt[PF], (word)pf_handler, SEL_K64, SEG_P | GATE_INT, 0);
	registers.bx = 0x10000000123;
	expect_eq(vmx_run_at(touch), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | INFO_ERROR | TYPE_HARDWARE | PF);
	expect_eq(vmread(EXIT_ERROR), 2);
	expect_eq(vmread(QUALIFICATION), 0x10000000123);
	expect(cr2() != 0x10000000123);		/* CR2 is not changed by what exits */
	vmwrite(PF_MASK, 2);
	vmwrite(PF_MATCH, 0);			/* only reads exit: this one is the guest's */
	expect_eq(vmx_run_at(touch), R_VMCALL);
	expect_eq(registers.cx, 0x77);
	expect_eq(cr2(), 0x10000000123);
	vmwrite(PF_MATCH, 2);
	expect_eq(vmx_run_at(touch), R_EXCEPTION);
	/* Bit 14 clear turns the meaning around. */
	vmwrite(EXCEPTIONS, ~(1u << PF));
	registers.cx = 0;
	expect_eq(vmx_run_at(touch), R_VMCALL);
	vmwrite(PF_MATCH, 0);
	expect_eq(vmx_run_at(touch), R_EXCEPTION);
}

RULE(debug_exceptions_give_dr6_bits_as_qualification)
{
	SNIPPET(stepped, "nop; stepped_1: nop; vmcall");
	extern const uint8_t stepped_1[];
	BEGIN();
	vmwrite(G_RFLAGS, 2 | FLAG_TF);
	expect_eq(vmx_run_at(stepped), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_HARDWARE | DB);
	expect_eq(vmread(QUALIFICATION), 0x4000);
	expect_eq(vmread(G_RIP), (word)stepped_1);
	expect_eq(dr6() & 0x4000, 0);
	/* An instruction breakpoint of the guest */
	NEED(ENTRY_CONTROLS, ENTRY_LOAD_DEBUG, 0);
	vmwrite(G_RFLAGS, 2);
	set_dr2((word)stepped_1);
	vmwrite(G_DR7, 0x400 | 1 << 4);
	expect_eq(vmx_run_at(stepped), R_EXCEPTION);
	expect_eq(vmread(QUALIFICATION), 4);
	expect_eq(vmread(G_RIP), (word)stepped_1);
	set_dr2(0);
}

RULE(an_exit_during_delivery_has_idt_vectoring_information)
{
	/* INT 60h through a gate that is not present: #NP exits. */
	SNIPPET(vector_60, "int $0x60");
	SNIPPET(vector_ud, "ud2");
	BEGIN();
	gate_set(&idt[0x60], 0, SEL_K64, GATE_INT, 0);
	expect_eq(vmx_run_at(vector_60), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | INFO_ERROR | TYPE_HARDWARE | NP);
	expect_eq(vmread(EXIT_ERROR), 0x60 << 3 | 2);
	expect_eq(vmread(VECTORING_INFO), INFO_VALID | TYPE_SOFTWARE | 0x60);
	expect_eq(vmread(EXIT_LENGTH), 2);
	gate_set(&idt[UD], 0, SEL_K64, GATE_INT, 0);
	vmwrite(EXCEPTIONS, ~(1u << UD));
	expect_eq(vmx_run_at(vector_ud), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, NP);
	expect_eq(vmread(VECTORING_INFO), INFO_VALID | TYPE_HARDWARE | UD);
	/* None when nothing was being delivered. */
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect_eq(vmread(VECTORING_INFO) & INFO_VALID, 0);
}

RULE(a_double_fault_exits_as_such)
{
	SNIPPET(df, "mov $0xfff8, %eax; mov %eax, %ds");
	BEGIN();
	gate_set(&idt[GP], 0, SEL_K64, GATE_INT, 0);
	vmwrite(EXCEPTIONS, 1u << DF);
	expect_eq(vmx_run_at(df), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | INFO_ERROR | TYPE_HARDWARE | DF);
	expect_eq(vmread(EXIT_ERROR), 0);
}

RULE(a_triple_fault_exits_and_the_hypervisor_lives)
{
	SNIPPET(tf, "ud2");
	BEGIN();
	vmwrite(EXCEPTIONS, 0);
	vmwrite(G_IDTR_LIMIT, 0);
	expect_eq(vmx_run_at(tf), R_TRIPLE_FAULT);
}

/* --- MTF and the preemption timer --- */
RULE(monitor_trap_flag_exits_after_each_instruction)
{
	SNIPPET(mtf, "nop; mtf_1: mov $5, %eax; mtf_2: nop; vmcall");
	extern const uint8_t mtf_1[], mtf_2[];
	BEGIN();
	NEED(PRIMARY, CPU_MTF, 0);
	expect_eq(vmx_run_at(mtf), R_MTF);
	expect_eq(vmread(G_RIP), (word)mtf_1);
	expect_eq(vmx_run(), R_MTF);
	expect_eq(vmread(G_RIP), (word)mtf_2);
	expect_eq(registers.ax, 5);
}
RULE(monitor_trap_flag_after_an_injected_event)
{
	SNIPPET(mtf_guest, "nop; vmcall");
	SNIPPET(mtf_handler, "nop; vmcall");
	BEGIN();
	NEED(PRIMARY, CPU_MTF, 0);
	gate_set(&idt[0x60], (word)mtf_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_EXTERNAL | 0x60);
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	expect_eq(vmx_run_at(mtf_guest), R_MTF);
	expect_eq(vmread(G_RIP), (word)mtf_handler);
}

RULE(preemption_timer_of_0_exits_before_any_instruction)
{
	SNIPPET(pre, "mov $9, %eax; vmcall");
	BEGIN();
	NEED(PIN, PIN_PREEMPTION, 0);
	vmwrite(PREEMPTION, 0);
	registers.ax = 1;
	expect_eq(vmx_run_at(pre), R_PREEMPTION);
	expect_eq(vmread(G_RIP), (word)pre);
	expect_eq(registers.ax, 1);
}
RULE(preemption_timer_ends_a_loop_and_is_saved_when_asked)
{
	SNIPPET(spin, "1: jmp 1b");
	BEGIN();
	NEED(PIN, PIN_PREEMPTION, 0);
	unsigned rate = rdmsr(0x485) & 31;
	vmwrite(PREEMPTION, 200000 >> rate);
	uint64_t t = rdtsc();
	expect_eq(vmx_run_at(spin), R_PREEMPTION);
	expect(rdtsc() - t >= 100000);
	/* Not saved: the same value is there for the next entry. */
	expect_eq(vmread(PREEMPTION), 200000 >> rate);
	NEED(EXIT_CONTROLS, EXIT_SAVE_PREEMPTION, 0);
	expect_eq(vmx_run_at(spin), R_PREEMPTION);
	expect_eq(vmread(PREEMPTION), 0);
	vmwrite(PREEMPTION, 1000000);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect(vmread(PREEMPTION) > 0 && vmread(PREEMPTION) <= 1000000);
}

/* --- injection, windows, interrupts --- */
enum { TPR = 0x80, EOI = 0xb0, SVR = 0xf0, ICR = 0x300, ICR_HIGH = 0x310, SELF = 1 << 18, ASSERT = 1 << 14, NMI_MODE = 4 << 8 };
#define lapic(r) (*(volatile uint32_t *)(0xfee00000ul + (r)))
static void lapic_on(void)
{
	lapic(SVR) = 0x1ff;
	lapic(TPR) = 0;
}

RULE(injection_delivers_through_the_guests_idt)
{
	SNIPPET(inj, "vmcall");
	SNIPPET(inj_handler, "pop %rax; pop %rcx; mov $0x66, %edx; vmcall");
	BEGIN();
	gate_set(&idt[0x60], (word)inj_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_EXTERNAL | 0x60);
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	expect_eq(vmx_run_at(inj), R_VMCALL);
	expect_eq(registers.dx, 0x66);
	expect_eq(registers.ax, (word)inj);
	expect_eq(vmread(ENTRY_INFO) & INFO_VALID, 0);		/* cleared by the exit */
	expect_eq(vmread(G_RFLAGS) & FLAG_IF, 0);
}

RULE(injected_exceptions_have_error_codes_and_rip_of_the_instruction)
{
	SNIPPET(inj_gp, "vmcall");
	SNIPPET(gp_handler, "pop %rax; pop %rcx; vmcall");
	BEGIN();
	gate_set(&idt[GP], (word)gp_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | INFO_ERROR | TYPE_HARDWARE | GP);
	vmwrite(ENTRY_ERROR, 0x1234);
	expect_eq(vmx_run_at(inj_gp), R_VMCALL);
	expect_eq(registers.ax, 0x1234);
	expect_eq(registers.cx, (word)inj_gp);
	expect_eq(vmread(G_RIP), (word)gp_handler + 2);
}

RULE(injected_software_interrupts_push_the_next_rip)
{
	SNIPPET(inj_soft, "int $0x60; vmcall");
	SNIPPET(soft_handler, "pop %rax; vmcall");
	BEGIN();
	gate_set(&idt[0x60], (word)soft_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_SOFTWARE | 0x60);
	vmwrite(ENTRY_LENGTH, 2);
	expect_eq(vmx_run_at(inj_soft), R_VMCALL);
	expect_eq(registers.ax, (word)inj_soft + 2);
}

RULE(an_injected_event_that_faults_exits_with_vectoring_information)
{
	BEGIN();
	gate_set(&idt[0x60], 0, SEL_K64, GATE_INT, 0);
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_EXTERNAL | 0x60);
	expect_eq(vmx_run_at(call_out), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, NP);
	expect_eq(vmread(EXIT_ERROR), 0x60 << 3 | 2 | 1);
	expect_eq(vmread(VECTORING_INFO), INFO_VALID | TYPE_EXTERNAL | 0x60);
}

RULE(injected_exceptions_do_not_look_at_the_bitmap)
{
	SNIPPET(ud_handler, "mov $0x55, %edx; vmcall");
	BEGIN();
	gate_set(&idt[UD], (word)ud_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_HARDWARE | UD);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect_eq(registers.dx, 0x55);
}

RULE(interrupt_window_opens_with_if_and_without_shadows)
{
	SNIPPET(window, "nop; sti; window_1: nop; window_2: nop; vmcall");
	extern const uint8_t window_2[];
	BEGIN();
	NEED(PRIMARY, CPU_INTERRUPT_WINDOW, 0);
	expect_eq(vmx_run_at(window), R_INTERRUPT_WINDOW);
	expect_eq(vmread(G_RIP), (word)window_2);
	/* At once when IF is set already. */
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	expect_eq(vmx_run_at(window), R_INTERRUPT_WINDOW);
	expect_eq(vmread(G_RIP), (word)window);
	vmwrite(INTERRUPTIBILITY, BLOCKING_STI);
	expect_eq(vmx_run_at(window), R_INTERRUPT_WINDOW);
	expect_eq(vmread(G_RIP), (word)window + 1);
}

RULE(blocking_by_sti_and_mov_ss_is_saved)
{
	SNIPPET(sti_exit, "sti; cpuid");
	SNIPPET(mov_ss_exit, "mov %ss, %eax; mov %eax, %ss; cpuid");
	BEGIN();
	expect_eq(vmx_run_at(sti_exit), R_CPUID);
	expect_eq(vmread(INTERRUPTIBILITY), BLOCKING_STI);
	vmwrite(INTERRUPTIBILITY, 0);
	vmwrite(G_RFLAGS, 2);
	expect_eq(vmx_run_at(mov_ss_exit), R_CPUID);
	expect_eq(vmread(INTERRUPTIBILITY), BLOCKING_MOV_SS);
}

RULE(external_interrupts_exit_and_stay_pending_without_acknowledge)
{
	SNIPPET(ipi_spin, "movl $0x44060, 0x300(%r15); mov $10000, %ecx; 1: dec %ecx; jnz 1b; vmcall");
	BEGIN();
	NEED(PIN, PIN_EXTERNAL, 0);
	lapic_on();
	/* IF of the guest does not matter. */
	expect_eq(vmx_run_at(ipi_spin), R_INTERRUPT);
	expect_eq(vmread(EXIT_INFO) & INFO_VALID, 0);
	/* The host takes it itself. */
	static volatile unsigned taken;
	taken = 0;
	bool take(struct frame *f) { taken += f->vector == 0x60; lapic(EOI) = 0; return f->vector >= 32; }
	event_hook = take;
	asm volatile("sti; nop; nop; cli");
	expect_eq(taken, 1);
}

RULE(external_interrupts_are_acknowledged_when_asked)
{
	SNIPPET(ipi_ack, "movl $0x44061, 0x300(%r15); mov $10000, %ecx; 1: dec %ecx; jnz 1b; vmcall");
	BEGIN();
	NEED(PIN, PIN_EXTERNAL, 0);
	NEED(EXIT_CONTROLS, EXIT_ACK, 0);
	lapic_on();
	expect_eq(vmx_run_at(ipi_ack), R_INTERRUPT);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_EXTERNAL | 0x61);
	lapic(EOI) = 0;
}

RULE(external_interrupts_go_to_the_guest_when_not_exiting)
{
	SNIPPET(ipi_own, "sti; movl $0x44062, 0x300(%r15); mov $10000, %ecx; 1: dec %ecx; jnz 1b; xor %edx, %edx; vmcall");
	SNIPPET(own_handler, "movl $0, 0x0b0(%r15); mov $0x62, %edx; vmcall");
	BEGIN();
	lapic_on();
	gate_set(&idt[0x62], (word)own_handler, SEL_K64, SEG_P | GATE_INT, 0);
	expect_eq(vmx_run_at(ipi_own), R_VMCALL);
	expect_eq(registers.dx, 0x62);
}

RULE(hlt_in_the_guest_ends_by_an_interrupt_exit)
{
	SNIPPET(hlt_wait, "movl $0x50, 0x320(%r15); movl $0xb, 0x3e0(%r15); movl $20000000, 0x380(%r15); hlt; vmcall");
	BEGIN();
	NEED(PIN, PIN_EXTERNAL, 0);
	NEED(EXIT_CONTROLS, EXIT_ACK, 0);
	lapic_on();
	expect_eq(vmx_run_at(hlt_wait), R_INTERRUPT);
	expect_eq(vmread(EXIT_INFO) & 0xff, 0x50);
	expect_eq(vmread(ACTIVITY), 1);
	lapic(EOI) = 0;
	lapic(0x320) = 1 << 16;
}

RULE(activity_hlt_is_entered_and_left_by_an_event)
{
	BEGIN();
	SNIPPET(woken_handler, "mov $0x61, %edx; vmcall");
	gate_set(&idt[0x60], (word)woken_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ACTIVITY, 1);
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_EXTERNAL | 0x60);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect_eq(registers.dx, 0x61);
	expect_eq(vmread(ACTIVITY), 0);
	/* And in HLT, a preemption timer still ends it. */
	NEED(PIN, PIN_PREEMPTION, 0);
	vmwrite(PREEMPTION, 10000);
	vmwrite(ACTIVITY, 1);
	vmwrite(G_RFLAGS, 2);
	expect_eq(vmx_run_at(call_out), R_PREEMPTION);
	expect_eq(vmread(ACTIVITY), 1);
}

RULE(nmis_exit_when_asked)
{
	SNIPPET(nmi_spin, "movl $0x4400, 0x300(%r15); mov $10000, %ecx; 1: dec %ecx; jnz 1b; vmcall");
	BEGIN();
	NEED(PIN, PIN_NMI, 0);
	lapic_on();
	lapic(ICR_HIGH) = lapic(0x20) & 0xff000000;
	expect_eq(vmx_run_at(nmi_spin), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_NMI | NMI);
	/* Blocked in the host now, until an IRET. */
	asm volatile("mov %%rsp, %%rax; push %0; push %%rax; pushf; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
		     :: "i"(SEL_KDATA), "i"(SEL_K64) : "rax", "memory", "cc");
}

RULE(virtual_nmis_and_the_nmi_window)
{
	SNIPPET(vnmi_handler, "mov %rsp, %rcx; iretq");
	SNIPPET(vnmi_guest, "nop; vnmi_1: nop; vmcall");
	BEGIN();
	NEED(PIN, PIN_NMI | PIN_VIRTUAL_NMI, 0);
	NEED(PRIMARY, CPU_NMI_WINDOW, 0);
	/* Open at once. */
	expect_eq(vmx_run_at(vnmi_guest), R_NMI_WINDOW);
	expect_eq(vmread(G_RIP), (word)vnmi_guest);
	/* With blocking: after the IRET of the handler. */
	gate_set(&idt[NMI], (word)vnmi_handler, SEL_K64, SEG_P | GATE_INT, 0);
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_NMI | NMI);
	expect_eq(vmx_run_at(vnmi_guest), R_NMI_WINDOW);
	expect_eq(vmread(G_RIP), (word)vnmi_guest);
	expect(registers.cx != 0);
	expect_eq(vmread(INTERRUPTIBILITY) & BLOCKING_NMI, 0);
	vmwrite(INTERRUPTIBILITY, BLOCKING_NMI);
	expect_eq(vmx_run_at(call_out), R_VMCALL);
	expect_eq(vmread(INTERRUPTIBILITY) & BLOCKING_NMI, BLOCKING_NMI);
}

RULE(pending_debug_exceptions_are_delivered_after_entry)
{
	BEGIN();
	vmwrite(PENDING_DEBUG, 1 << 14);
	vmwrite(G_RFLAGS, 2 | FLAG_TF);
	expect_eq(vmx_run_at(call_out), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO) & 0xff, DB);
	expect_eq(vmread(QUALIFICATION), 0x4000);
	expect_eq(vmread(G_RIP), (word)call_out);
}

/* --- TPR shadow, APIC access --- */
RULE(tpr_shadow_and_threshold)
{
	SNIPPET(tpr_down, "mov $5, %eax; mov %rax, %cr8; mov %cr8, %rcx; mov $1, %eax; mov %rax, %cr8; tpr_after: vmcall");
	extern const uint8_t tpr_after[];
	BEGIN();
	uint8_t *page = page_alloc();
	vmwrite(VIRTUAL_APIC, (word)page);
	page[0x80] = 0x40;
	vmwrite(TPR_THRESHOLD, 3);
	NEED(PRIMARY, CPU_TPR_SHADOW, 0);
	expect_eq(vmx_run_at(tpr_down), R_TPR);
	expect_eq(registers.cx, 5);
	expect_eq(page[0x80], 0x10);
	expect_eq(vmread(G_RIP), (word)tpr_after);
	expect_eq(cr8(), 0);
}

RULE(accesses_to_the_apic_access_page_exit)
{
	SNIPPET(apic_read, "mov 0x020(%r15), %eax; vmcall");
	SNIPPET(apic_write, "mov %eax, 0x300(%r15); vmcall");
	BEGIN();
	uint8_t *page = page_alloc();
	vmwrite(VIRTUAL_APIC, (word)page);
	vmwrite(TPR_THRESHOLD, 0);
	NEED(PRIMARY, CPU_TPR_SHADOW, 0);
	vmwrite(APIC_ACCESS, 0xfee00000);
	NEED(SECONDARY, CPU2_APIC_ACCESS, 0);
	expect_eq(vmx_run_at(apic_read), R_APIC_ACCESS);
	expect_eq(vmread(QUALIFICATION), 0x20);
	expect_eq(vmx_run_at(apic_write), R_APIC_ACCESS);
	expect_eq(vmread(QUALIFICATION), 0x300 | 1 << 12);
	/* The TPR itself is virtual. */
	SNIPPET(apic_tpr, "movl $0x50, 0x080(%r15); mov 0x080(%r15), %eax; vmcall");
	expect_eq(vmx_run_at(apic_tpr), R_VMCALL);
	expect_eq(registers.ax, 0x50);
	expect_eq(page[0x80], 0x50);
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

RULE(activity_shutdown_is_left_by_the_preemption_timer)
{
	BEGIN();
	if (!(rdmsr(0x485) >> 7 & 1)) {
		skip("no activity state shutdown");
		return;
	}
	NEED(PIN, PIN_PREEMPTION, 0);
	vmwrite(PREEMPTION, 1000);
	vmwrite(ACTIVITY, 2);
	expect_eq(vmx_run_at(call_out), R_PREEMPTION);
	expect_eq(vmread(ACTIVITY), 2);
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

RULE(nmi_window_and_interrupt_window_wake_from_hlt)
{
	BEGIN();
	NEED(PRIMARY, CPU_INTERRUPT_WINDOW, 0);
	vmwrite(ACTIVITY, 1);
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	expect_eq(vmx_run_at(call_out), R_INTERRUPT_WINDOW);
	expect_eq(vmread(ACTIVITY), 1);
}

RULE(an_interrupt_is_delivered_before_the_window_when_pending)
{
	/* External interrupts have a higher priority than the window? The window is
	 * checked before interrupts are recognized: the exit comes first. */
	BEGIN();
	NEED(PRIMARY, CPU_INTERRUPT_WINDOW, 0);
	NEED(PIN, PIN_EXTERNAL, 0);
	NEED(EXIT_CONTROLS, EXIT_ACK, 0);
	lapic_on();
	lapic(ICR) = SELF | ASSERT | 0x63;
	vmwrite(G_RFLAGS, 2 | FLAG_IF);
	int v = vmx_run_at(call_out);
	expect_eq(v, R_INTERRUPT_WINDOW);
	static volatile unsigned drained;
	bool drain(struct frame *f) { drained++; lapic(EOI) = 0; return f->vector >= 32; }
	event_hook = drain;
	asm volatile("sti; nop; nop; cli");
	expect_eq(drained, 1);
}
