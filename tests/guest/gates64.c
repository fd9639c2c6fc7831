/* Gates, privilege levels and stack switches in IA-32e mode (SDM vol. 3,
 * "Protection" and "Interrupt and Exception Handling"). */
#include "rt/rt.h"

const char chapter[] = "gates, 64-bit";

enum { SEL_A = SEL_FREE, SEL_B = SEL_FREE + 16, SEL_C = SEL_FREE + 32, V = 0x60 };
/* Error codes */
enum { EXT = 1, IDT = 2 };
#define NONCANONICAL 0x800000000000ul

static uint8_t other_stack[4096] __attribute__((aligned(16)));
#define other_top ((word)other_stack + sizeof other_stack)

void chapter_setup(void) { }

static void software(void) { asm volatile("int $0x60"); }

RULE(interrupt_gate_clears_if_and_trap_gate_keeps_it)
{
	/* HLT is not reached: the recorder sees the flags that were pushed, the
	 * hook those that the handler runs with. */
	static word inside;
	bool see(struct frame *f) { inside = flags(); return true; }
	event_hook = see;
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 0);
	sti();
	software();
	cli();
	expect_eq(inside & FLAG_IF, 0);
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_TRAP, 0);
	sti();
	software();
	cli();
	expect_eq(inside & FLAG_IF, FLAG_IF);
}

RULE(frame_is_aligned_and_holds_ss_rsp_at_the_same_level)
{
	FAULTS(V, 0, asm volatile("mov %%rsp, %%rbx; lea -3(%%rbx), %%rsp; int $0x60; mov %%rbx, %%rsp" ::: "rbx"));
	expect_eq(event.frame.sp, event.frame.bx - 3);
	expect_eq(event.frame.ss, SEL_KDATA);
	expect_eq(event.frame.cs, SEL_K64);
	/* The frame's SS slot ends at a multiple of 16. */
	expect_eq((event.handler_sp + sizeof(struct frame)) & 15, 0);
}

RULE(int_n_needs_gate_dpl_at_least_cpl)
{
	SNIPPET(int_60_from_user, "int $0x60; int $0x80");
	expect_eq(run_user(int_60_from_user), GP);
	expect_eq(event.error, V << 3 | IDT);
	vector_dpl3(V);
	expect_eq(run_user(int_60_from_user), V);
	/* An exception does not ask for the DPL. */
	SNIPPET(ud_from_user, "ud2");
	expect_eq(run_user(ud_from_user), UD);
}

RULE(int3_and_into_need_gate_dpl_too_but_icebp_not)
{
	SNIPPET(int3_from_user, "int3; int $0x80");
	SNIPPET(icebp_from_user, ".byte 0xf1; int $0x80");
	expect_eq(run_user(int3_from_user), GP);
	expect_eq(event.error, BP << 3 | IDT);
	expect_eq(run_user(icebp_from_user), DB);
}

RULE(int_n_pushes_the_next_rip_and_a_fault_its_own)
{
	SNIPPET(int3_then, "int3; int $0x80");
	vector_dpl3(BP);
	expect_eq(run_user(int3_then), BP);
	expect_eq(event.frame.ip, (word)int3_then + 1);
	SNIPPET(ud_here, "ud2");
	expect_eq(run_user(ud_here), UD);
	expect_eq(event.frame.ip, (word)ud_here);
}

RULE(faults_push_rf_and_int_n_does_not)
{
	FAULTS(UD, 0, asm volatile("ud2"));
	expect_eq(event.frame.flags & FLAG_RF, FLAG_RF);
	FAULTS(V, 0, software());
	expect_eq(event.frame.flags & FLAG_RF, 0);
}

RULE(idt_limit_is_checked_with_the_vector_in_the_error_code)
{
	load_idt(16 * V + 14);
	FAULTS(GP, V << 3 | IDT, software());
	load_idt(16 * V + 15);
	FAULTS(V, 0, software());
}

RULE(gate_of_a_wrong_type_raises_gp)
{
	static const uint8_t bad[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
	for (unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
		gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | bad[n], 0);
		FAULTS(GP, V << 3 | IDT, software());
	}
}

RULE(gate_not_present_raises_np)
{
	gate_set(&idt[V], vector_entry(V), SEL_K64, GATE_INT, 0);
	FAULTS(NP, V << 3 | IDT, software());
}

RULE(gate_dpl_comes_before_present)
{
	SNIPPET(int_60_not_present, "int $0x60");
	gate_set(&idt[V], vector_entry(V), SEL_K64, GATE_INT, 0);
	expect_eq(run_user(int_60_not_present), GP);
}

RULE(gate_selector_null_raises_gp_0)
{
	gate_set(&idt[V], vector_entry(V), 0, SEG_P | GATE_INT, 0);
	FAULTS(GP, 0, software());
	gate_set(&idt[V], vector_entry(V), 3, SEG_P | GATE_INT, 0);
	FAULTS(GP, 0, software());
}

RULE(gate_selector_beyond_the_gdt_raises_gp)
{
	load_gdt(SEL_A + 6);
	gdt[SEL_A / 8] = gdt[SEL_K64 / 8];
	gate_set(&idt[V], vector_entry(V), SEL_A, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_A, software());
	load_gdt(SEL_A + 7);
	FAULTS(V, 0, software());
}

RULE(gate_to_data_or_compatibility_code_raises_gp)
{
	gate_set(&idt[V], vector_entry(V), SEL_KDATA, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_KDATA, software());
	gate_set(&idt[V], vector_entry(V), SEL_K32, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_K32, software());
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | SEG_CODE, SEG_L | SEG_B | SEG_G);
	gate_set(&idt[V], vector_entry(V), SEL_A, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_A, software());
}

RULE(gate_to_outer_code_raises_gp)
{
	gate_set(&idt[V], vector_entry(V), SEL_U64, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_U64 & ~3, software());
}

RULE(gate_to_code_not_present_raises_np)
{
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_CODE, SEG_L | SEG_G);
	gate_set(&idt[V], vector_entry(V), SEL_A, SEG_P | GATE_INT, 0);
	FAULTS(NP, SEL_A, software());
}

RULE(gate_to_conforming_code_keeps_the_level)
{
	/* The handler runs at CPL 3 on the user's stack; it ends by INT 80h. */
	SNIPPET(conforming_handler, "mov %cs, %eax; int $0x80");
	SNIPPET(int_60_conforming, "int $0x60");
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | SEG_CONFORMING, SEG_L | SEG_G);
	gate_set(&idt[V], (word)conforming_handler, SEL_A, SEG_P | SEG_DPL(3) | GATE_INT, 0);
	expect_eq(run_user(int_60_conforming), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_A | 3);
	expect_eq(event.frame.cs, SEL_A | 3);
	expect(event.frame.sp > (word)user_stack && event.frame.sp < (word)user_stack_top);
}

RULE(gate_offset_not_canonical_raises_gp_0)
{
	gate_set(&idt[V], NONCANONICAL, SEL_K64, SEG_P | GATE_INT, 0);
	FAULTS(GP, 0, software());
}

RULE(accessed_bit_of_the_handler_code_is_set)
{
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | (SEG_CODE & ~1), SEG_L | SEG_G);
	gate_set(&idt[V], vector_entry(V), SEL_A, SEG_P | GATE_INT, 0);
	FAULTS(V, 0, software());
	expect_eq(gdt[SEL_A / 8] >> 40 & 1, 1);
}

RULE(ist_switches_the_stack_at_any_level)
{
	tss.ist[2] = other_top;
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 3);
	FAULTS(V, 0, software());
	expect_eq(event.handler_sp + sizeof(struct frame), other_top);
	/* SS stays as it is at the same level. */
	expect_eq(event.handler_ss, SEL_KDATA);
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | SEG_DPL(3) | GATE_INT, 3);
	SNIPPET(int_60_ist, "int $0x60");
	expect_eq(run_user(int_60_ist), V);
	expect_eq(event.handler_sp + sizeof(struct frame), other_top);
	expect_eq(event.handler_ss, 0);
}

RULE(ist_stack_is_aligned_down)
{
	tss.ist[0] = other_top - 7;
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 1);
	FAULTS(V, 0, software());
	expect_eq(event.handler_sp + sizeof(struct frame), other_top - 16);
}

RULE(inner_stack_comes_from_rsp0_with_a_null_ss)
{
	tss.rsp[0] = other_top;
	SNIPPET(exit_to_rsp0, "int $0x80");
	expect_eq(run_user(exit_to_rsp0), USER_EXIT);
	expect_eq(event.handler_sp + sizeof(struct frame), other_top);
	expect_eq(event.handler_ss, 0);
	expect_eq(event.frame.ss, SEL_UDATA);
}

RULE(inner_stack_not_canonical_raises_ss_on_the_next_stack)
{
	/* #SS itself needs a good stack: by IST. */
	tss.rsp[0] = NONCANONICAL + 4096;
	tss.ist[0] = other_top;
	gate_set(&idt[SS], vector_entry(SS), SEL_K64, SEG_P | GATE_INT, 1);
	SNIPPET(exit_without_stack, "int $0x80");
	expect_eq(run_user(exit_without_stack), SS);
	expect_eq(event.error, 0);
	expect_eq(event.frame.cs, SEL_U64);
}

RULE(tss_too_short_for_the_stack_raises_ts)
{
	tss.ist[0] = other_top;
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)&tss, 36 + 7 + 8, SEG_P | 9, 0);
	gdt[SEL_A / 8 + 1] = 0;
	asm volatile("ltr %w0" :: "r"(SEL_A));
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 3);
	FAULTS(TS, SEL_A, software());
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 1);
	FAULTS(V, 0, software());
}

RULE(page_fault_in_delivery_to_a_good_stack)
{
	/* The stack of INT 60h is not mapped: a page fault is delivered instead. */
	tss.ist[0] = 0x10000000000;
	tss.ist[1] = other_top;
	gate_set(&idt[V], vector_entry(V), SEL_K64, SEG_P | GATE_INT, 1);
	gate_set(&idt[PF], vector_entry(PF), SEL_K64, SEG_P | GATE_INT, 2);
	FAULTS(PF, 2, software());
	expect_eq(event.cr2, 0x10000000000 - 8);
	expect_eq(*(uint8_t *)event.frame.ip, 0xcd);
}

RULE(contributory_fault_in_a_contributory_fault_is_a_double_fault)
{
	gate_set(&idt[GP], vector_entry(GP), SEL_K64, GATE_INT, 0);	/* #NP in #GP */
	FAULTS(DF, 0, asm volatile("mov %0, %%ds" :: "r"(0xfff8)));
}

RULE(page_fault_in_a_page_fault_is_a_double_fault)
{
	tss.ist[0] = 0x10000000000;
	gate_set(&idt[PF], vector_entry(PF), SEL_K64, SEG_P | GATE_INT, 1);
	FAULTS(DF, 0, *(volatile word *)0x20000000000);
	expect_eq(event.cr2, 0x10000000000 - 8);
}

RULE(contributory_fault_in_a_page_fault_is_a_double_fault)
{
	gate_set(&idt[PF], vector_entry(PF), SEL_K64, GATE_INT, 0);
	FAULTS(DF, 0, *(volatile word *)0x20000000000);
}

RULE(page_fault_in_a_contributory_fault_is_served_first)
{
	tss.ist[0] = 0x10000000000;
	gate_set(&idt[GP], vector_entry(GP), SEL_K64, SEG_P | GATE_INT, 1);
	FAULTS(PF, 2, asm volatile("mov %0, %%ds" :: "r"(0xfff8)));
}

RULE(benign_exception_that_faults_is_not_a_double_fault)
{
	gate_set(&idt[UD], vector_entry(UD), SEL_K64, GATE_INT, 0);
	FAULTS(NP, UD << 3 | IDT | EXT, asm volatile("ud2"));
}

RULE_ALONE(triple_fault)
{
	load_idt(0);
	asm volatile("ud2");
}

RULE_ALONE(fault_in_a_double_fault_is_a_triple_fault)
{
	gate_set(&idt[GP], vector_entry(GP), SEL_K64, GATE_INT, 0);
	gate_set(&idt[DF], vector_entry(DF), SEL_K64, GATE_INT, 0);
	asm volatile("mov %0, %%ds" :: "r"(0xfff8));
}

/* --- call gates --- */
static void call_gate_set(uint16_t selector, word offset, uint16_t code, unsigned access)
{
	gdt[selector / 8] = gate_low(offset, code, access, 0);
	gdt[selector / 8 + 1] = offset >> 32;
}

SNIPPET(call_through_a, "lcall *far_pointer_a(%rip); int $0x80");
extern struct __attribute__((packed)) { uint32_t offset; uint16_t selector; } far_pointer_a;
asm(".data; far_pointer_a: .long 0xdeadbeef; .word 0x53; .text");
SNIPPET(gate_target, "mov %cs, %eax; mov %ss, %ecx; mov %rsp, %rdx; int $0x80");

RULE(call_gate_goes_inward_with_rsp_from_the_tss)
{
	tss.rsp[0] = other_top;
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL);
	/* The gate's code runs in ring 0 on the new stack; INT 80h there stays on it. */
	expect_eq(run_user(call_through_a), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_K64);
	expect_eq(event.frame.cx & 0xffff, 0);
	expect_eq(event.frame.dx, other_top - 32);
	word *pushed = (word *)(other_top - 32);
	expect_eq(pushed[0], (word)call_through_a + 6);
	expect_eq(pushed[1], SEL_U64);
	expect_eq(pushed[2], (word)user_stack_top - 8);
	expect_eq(pushed[3], SEL_UDATA);
}

RULE(call_gate_and_far_return_go_there_and_back)
{
	SNIPPET(gate_returns, "lretq");
	tss.rsp[0] = other_top;
	call_gate_set(SEL_A, (word)gate_returns, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(call_through_a), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U64);
	expect_eq(event.frame.sp, (word)user_stack_top - 8);
	expect_eq(event.frame.ss, SEL_UDATA);
}

RULE(call_gate_dpl_below_cpl_raises_gp)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(2) | GATE_CALL);
	expect_eq(run_user(call_through_a), GP);
	expect_eq(event.error, SEL_A);
}

RULE(call_gate_dpl_below_rpl_raises_gp)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(2) | GATE_CALL);
	FAULTS(GP, SEL_A, asm volatile("lcall *far_pointer_a"));
}

RULE(call_gate_not_present_raises_np)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(call_through_a), NP);
	expect_eq(event.error, SEL_A);
}

RULE(call_gate_upper_half_with_a_type_raises_gp)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL);
	gdt[SEL_A / 8 + 1] = 1ull << 40;
	expect_eq(run_user(call_through_a), GP);
	expect_eq(event.error, SEL_A);
}

RULE(call_gate_16_bit_raises_gp_in_long_mode)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL16);
	expect_eq(run_user(call_through_a), GP);
	expect_eq(event.error, SEL_A);
}

RULE(call_gate_code_must_be_64_bit)
{
	call_gate_set(SEL_A, (word)gate_target, SEL_K32, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(call_through_a), GP);
	expect_eq(event.error, SEL_K32);
}

RULE(call_gate_with_a_null_code_selector_raises_gp_0)
{
	call_gate_set(SEL_A, (word)gate_target, 0, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(call_through_a), GP);
	expect_eq(event.error, 0);
}

RULE(jmp_through_a_call_gate_needs_the_same_level)
{
	SNIPPET(jump_through_a, "ljmp *far_pointer_a(%rip)");
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(jump_through_a), GP);
	expect_eq(event.error, SEL_K64);
	call_gate_set(SEL_A, (word)gate_target, SEL_U64, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_user(jump_through_a), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_U64);
}

/* --- far transfers without gates --- */
static int far_jump(uint16_t selector)
{
	static struct __attribute__((packed)) { uint64_t offset; uint16_t selector; } p;
	p.selector = selector;
	p.offset = (word)gate_target;
	return CATCH(asm volatile("rex.w ljmp *%0" :: "m"(p)));
}

RULE(far_jump_to_code_of_another_level_raises_gp)
{
	expect_eq(far_jump(SEL_U64), GP);
	expect_eq(event.error, SEL_U64 & ~3);
	expect_eq(far_jump(SEL_K64), USER_EXIT);
	expect_eq(far_jump(SEL_K64 | 3), GP);	/* RPL above CPL, not conforming */
}

RULE(far_jump_to_l_and_d_code_raises_gp)
{
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | SEG_CODE, SEG_L | SEG_B | SEG_G);
	expect_eq(far_jump(SEL_A), GP);
	expect_eq(event.error, SEL_A);
}

RULE(far_jump_to_code_not_present_raises_np)
{
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_CODE, SEG_L | SEG_G);
	expect_eq(far_jump(SEL_A), NP);
	expect_eq(event.error, SEL_A);
}

RULE(far_jump_to_data_tss_and_null_raises_gp)
{
	expect_eq(far_jump(SEL_KDATA), GP);
	expect_eq(event.error, SEL_KDATA);
	expect_eq(far_jump(SEL_TSS), GP);	/* no task switch in IA-32e mode */
	expect_eq(event.error, SEL_TSS);
	expect_eq(far_jump(0), GP);
	expect_eq(event.error, 0);
}

RULE(direct_far_call_and_jmp_are_ud_in_64_bit_mode)
{
	FAULTS(UD, 0, asm volatile(".byte 0x9a, 0, 0, 0, 0, 0x10, 0"));
	FAULTS(UD, 0, asm volatile(".byte 0xea, 0, 0, 0, 0, 0x10, 0"));
}

/* --- IRET --- */
static int iret_to(word ip, word cs, word fl, word sp, word ss)
{
	struct entry_frame f = { ip, cs, fl, sp, ss, 0 };
	return run_frame(&f);
}
#define USER_SP ((word)user_stack_top)
SNIPPET(back, "int $0x80");
SNIPPET32(back_32, "int $0x80");

RULE(iret_to_ring_3_64_and_compatibility)
{
	expect_eq(iret_to((word)back, SEL_U64, 2, USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U64);
	expect_eq(iret_to((word)back_32, SEL_U32, 2, USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U32);
}

RULE(iret_checks_cs)
{
	expect_eq(iret_to((word)back, 0, 2, USER_SP, SEL_UDATA), GP);
	expect_eq(event.error, 0);
	expect_eq(iret_to((word)back, SEL_U64 & ~3, 2, USER_SP, SEL_UDATA), GP);	/* RPL 0, DPL 3 */
	expect_eq(event.error, SEL_U64 & ~3);
	expect_eq(iret_to((word)back, SEL_KDATA, 2, USER_SP, SEL_UDATA), GP);
	expect_eq(event.error, SEL_KDATA);
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_DPL(3) | SEG_CODE, SEG_L | SEG_G);
	expect_eq(iret_to((word)back, SEL_A | 3, 2, USER_SP, SEL_UDATA), NP);
	expect_eq(event.error, SEL_A);
}

RULE(iret_checks_ss)
{
	expect_eq(iret_to((word)back, SEL_U64, 2, USER_SP, 3), GP);	/* null at CPL 3 */
	expect_eq(event.error, 0);
	expect_eq(iret_to((word)back, SEL_U64, 2, USER_SP, SEL_KDATA), GP);
	expect_eq(event.error, SEL_KDATA);
	expect_eq(iret_to((word)back, SEL_U64, 2, USER_SP, SEL_UDATA & ~3), GP);	/* RPL is not CPL */
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_DPL(3) | SEG_DATA, SEG_B | SEG_G);
	expect_eq(iret_to((word)back, SEL_U64, 2, USER_SP, SEL_A | 3), SS);
	expect_eq(event.error, SEL_A);
}

RULE(iret_to_ring_0_64_bit_takes_a_null_ss)
{
	expect_eq(iret_to((word)back, SEL_K64, 2, USER_SP, 0), USER_EXIT);
	expect_eq(event.frame.ss, 0);
	expect_eq(iret_to((word)back_32, SEL_K32, 2, USER_SP, 0), GP);	/* not in compatibility mode */
}

RULE(iret_to_a_rip_not_canonical_raises_gp)
{
	expect_eq(iret_to(NONCANONICAL, SEL_U64, 2, USER_SP, SEL_UDATA), GP);
	expect_eq(event.error, 0);
	expect_eq(event.frame.cs, SEL_K64);
}

RULE(iret_with_nt_raises_gp_in_long_mode)
{
	FAULTS(GP, 0, set_flags(FLAG_NT | 2); asm volatile("iretq"));
}

RULE(iret_at_cpl_3_keeps_iopl_and_if)
{
	SNIPPET(user_iret, "mov $user_stack + 4096, %esp; push $0x2b; push $user_stack + 4096; push $0x3202;"
		"push $0x33; push $user_iret_done; iretq; user_iret_done: int $0x80");
	expect_eq(run_user(user_iret), USER_EXIT);
	expect_eq(event.frame.flags & (FLAG_IOPL(3) | FLAG_IF), 0);
}

RULE(iret_sets_rf_and_does_not_set_vm)
{
	expect_eq(iret_to((word)back, SEL_U64, 2 | FLAG_VM, USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.flags & FLAG_VM, 0);
}

RULE(iret_to_outer_level_clears_inner_data_segments)
{
	SNIPPET(read_segments, "mov %ds, %eax; mov %es, %ecx; mov %fs, %edx; int $0x80");
	asm volatile("mov %0, %%ds; mov %1, %%es; mov %0, %%fs" :: "r"(SEL_KDATA), "r"(SEL_UDATA));
	expect_eq(run_user(read_segments), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, 0);
	expect_eq(event.frame.cx & 0xffff, SEL_UDATA);
	expect_eq(event.frame.dx & 0xffff, 0);
}

/* --- privilege --- */
RULE(privileged_instructions_raise_gp_in_ring_3)
{
	SNIPPET(p_hlt, "hlt; int $0x80"); SNIPPET(p_lgdt, "lgdt far_pointer_a; int $0x80");
	SNIPPET(p_lidt, "lidt far_pointer_a; int $0x80"); SNIPPET(p_lldt, "xor %eax, %eax; lldt %ax; int $0x80");
	SNIPPET(p_ltr, "mov $0x40, %eax; ltr %ax; int $0x80"); SNIPPET(p_lmsw, "mov $1, %eax; lmsw %ax; int $0x80");
	SNIPPET(p_clts, "clts; int $0x80"); SNIPPET(p_invd, "invd; int $0x80");
	SNIPPET(p_wbinvd, "wbinvd; int $0x80"); SNIPPET(p_invlpg, "invlpg (%rsp); int $0x80");
	SNIPPET(p_mov_cr, "mov %cr0, %rax; int $0x80"); SNIPPET(p_mov_to_cr, "mov %rax, %cr3; int $0x80");
	SNIPPET(p_mov_dr, "mov %db7, %rax; int $0x80"); SNIPPET(p_rdmsr, "mov $0x10, %ecx; rdmsr; int $0x80");
	SNIPPET(p_wrmsr, "mov $0x10, %ecx; wrmsr; int $0x80"); SNIPPET(p_swapgs, "swapgs; int $0x80");
	SNIPPET(p_sysret, "sysretq; int $0x80"); SNIPPET(p_sysexit, "sysexitq; int $0x80");
	SNIPPET(p_cli, "cli; int $0x80"); SNIPPET(p_sti, "sti; int $0x80");
	SNIPPET(p_in, "in $0x80, %al; int $0x80"); SNIPPET(p_out, "out %al, $0x80; int $0x80");
	SNIPPET(p_outs, "mov $0x80, %edx; mov %rsp, %rsi; outsb; int $0x80");
	static const struct { const char *name; const uint8_t *code; } all[] = {
		{ "hlt", p_hlt }, { "lgdt", p_lgdt }, { "lidt", p_lidt }, { "lldt", p_lldt }, { "ltr", p_ltr },
		{ "lmsw", p_lmsw }, { "clts", p_clts }, { "invd", p_invd }, { "wbinvd", p_wbinvd },
		{ "invlpg", p_invlpg }, { "mov from cr", p_mov_cr }, { "mov to cr", p_mov_to_cr },
		{ "mov from dr", p_mov_dr }, { "rdmsr", p_rdmsr }, { "wrmsr", p_wrmsr },
		{ "swapgs", p_swapgs }, { "sysret", p_sysret }, { "sysexit", p_sysexit }, { "cli", p_cli },
		{ "sti", p_sti }, { "in", p_in }, { "out", p_out }, { "outs", p_outs },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(all); n++) {
		expect_(all[n].name, __LINE__, (uint64_t)run_user(all[n].code), GP);
		expect_(all[n].name, __LINE__, event.error, 0);
		expect_(all[n].name, __LINE__, event.frame.cs, SEL_U64);
	}
}

RULE(io_permission_bitmap_opens_single_ports)
{
	SNIPPET(in_80, "in $0x80, %al; int $0x80");
	SNIPPET(in_80_word, "in $0x80, %ax; int $0x80");
	tss.io_bits[0x80 / 8] = 0xfe;
	expect_eq(run_user(in_80), USER_EXIT);
	expect_eq(run_user(in_80_word), GP);	/* port 81h stays closed */
	tss.io_bits[0x80 / 8] = 0xfc;
	expect_eq(run_user(in_80_word), USER_EXIT);
}

RULE(io_permission_bitmap_outside_the_tss_closes_all)
{
	SNIPPET(in_80_beyond, "in $0x80, %al; int $0x80");
	memory_fill(tss.io_bits, 0, sizeof tss.io_bits);
	expect_eq(run_user(in_80_beyond), USER_EXIT);
	/* Two bytes are always read: the limit must cover the second one. */
	unsigned byte = offsetof(struct tss, io_bits) + 0x80 / 8;
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)&tss, byte, SEG_P | 9, 0);
	gdt[SEL_A / 8 + 1] = 0;
	asm volatile("ltr %w0" :: "r"(SEL_A));
	expect_eq(run_user(in_80_beyond), GP);
	gdt[SEL_B / 8] = descriptor((uint32_t)(word)&tss, byte + 1, SEG_P | 9, 0);
	gdt[SEL_B / 8 + 1] = 0;
	asm volatile("ltr %w0" :: "r"(SEL_B));
	expect_eq(run_user(in_80_beyond), USER_EXIT);
}

RULE(iopl_3_opens_all_ports_and_cli)
{
	SNIPPET(in_cli_sti, "in $0x80, %al; sti; cli; int $0x80");
	expect_eq(iret_to((word)in_cli_sti, SEL_U64, 2 | FLAG_IOPL(3), USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(iret_to((word)in_cli_sti, SEL_U64, 2 | FLAG_IOPL(2), USER_SP, SEL_UDATA), GP);
}

RULE(popf_changes_iopl_and_if_only_where_allowed)
{
	SNIPPET(user_popf, "push $0x3202; popf; int $0x80");
	expect_eq(run_user(user_popf), USER_EXIT);
	expect_eq(event.frame.flags & (FLAG_IOPL(3) | FLAG_IF), 0);
	expect_eq(iret_to((word)user_popf, SEL_U64, 2 | FLAG_IOPL(3), USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.flags & (FLAG_IOPL(3) | FLAG_IF), FLAG_IOPL(3) | FLAG_IF);
}

/* --- SYSCALL, SYSRET, SYSENTER, SYSEXIT --- */
enum { STAR = 0xc0000081, LSTAR, CSTAR, SFMASK, SYSENTER_CS = 0x174, SYSENTER_ESP, SYSENTER_EIP };
static void system_call_setup(const void *entry)
{
	wrmsr(STAR, (uint64_t)SEL_U32 << 48 | (uint64_t)SEL_K64 << 32);
	wrmsr(LSTAR, (word)entry);
	wrmsr(SFMASK, FLAG_IF | FLAG_DF);
}

RULE(syscall_and_sysret)
{
	SNIPPET(system_entry, "mov %cs, %eax; mov %ss, %ebx; mov %r11, %r12; mov %rcx, %r13; pushf; pop %r14; sysretq");
	SNIPPET(system_user, "std; syscall; system_user_next: mov %cs, %r8d; int $0x80");
	extern const uint8_t system_user_next[];
	system_call_setup(system_entry);
	expect_eq(run_user(system_user), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_K64);
	expect_eq(event.frame.bx & 0xffff, SEL_K64 + 8);
	expect_eq(event.frame.r12 & FLAG_DF, FLAG_DF);
	expect_eq(event.frame.r14 & FLAG_DF, 0);
	expect_eq(event.frame.r13, (word)system_user_next);
	expect_eq(event.frame.r8 & 0xffff, SEL_U64);
	expect_eq(event.frame.ss, SEL_UDATA);
	expect_eq(event.frame.flags & FLAG_DF, FLAG_DF);
}

RULE(syscall_needs_sce)
{
	SNIPPET(only_syscall, "syscall; int $0x80");
	wrmsr(EFER, rdmsr(EFER) & ~EFER_SCE);
	expect_eq(run_user(only_syscall), UD);
	FAULTS(UD, 0, asm volatile("sysretq"));
}

RULE(sysret_to_a_rip_not_canonical_raises_gp_in_ring_0)
{
	system_call_setup(back);
	FAULTS(GP, 0, asm volatile("mov %0, %%rcx; mov $2, %%r11d; sysretq" :: "r"(NONCANONICAL) : "rcx", "r11"));
	expect_eq(event.frame.cs, SEL_K64);
}

RULE(sysret_to_compatibility_mode)
{
	system_call_setup(back);
	FAULTS(USER_EXIT, 0, asm volatile("mov $back_32, %%ecx; mov $2, %%r11d; sysretl" ::: "rcx", "r11"));
	expect_eq(event.frame.cs, SEL_U32);
	expect_eq(event.frame.ss, SEL_UDATA);
}

RULE(syscall_in_compatibility_mode_is_ud)
{
	SNIPPET32(syscall_32, ".byte 0x0f, 0x05; int $0x80");
	system_call_setup(back);
	/* Intel: SYSCALL is for 64-bit mode only. */
	if (cpuid(0, 0).b != 0x756e6547) {
		skip("not an Intel-compatible processor");
		return;
	}
	expect_eq(iret_to((word)syscall_32, SEL_U32, 2, USER_SP, SEL_UDATA), UD);
}

RULE(sysenter_and_sysexit)
{
	SNIPPET(enter_entry, "mov %cs, %eax; mov %ss, %ebx; mov %rsp, %rbp; mov $sysenter_done, %edx;"
		"mov $user_stack + 4096, %ecx; sysexitq; sysenter_done: int $0x80");
	SNIPPET32(user_sysenter, "sysenter");
	wrmsr(SYSENTER_CS, SEL_K64);
	wrmsr(SYSENTER_ESP, other_top);
	wrmsr(SYSENTER_EIP, (word)enter_entry);
	if (cpuid(0, 0).b != 0x756e6547) {
		skip("not an Intel-compatible processor");
		return;
	}
	expect_eq(iret_to((word)user_sysenter, SEL_U32, 2 | FLAG_IF, USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_K64);
	expect_eq(event.frame.bx & 0xffff, SEL_K64 + 8);
	expect_eq(event.frame.bp, other_top);
	expect_eq(event.frame.cs, (SEL_K64 + 32) | 3);
	expect_eq(event.frame.ss, (SEL_K64 + 40) | 3);
	expect_eq(event.frame.sp, (word)user_stack + 4096);
	expect_eq(event.frame.flags & FLAG_IF, 0);
}

RULE(sysenter_with_a_null_cs_raises_gp)
{
	SNIPPET(only_sysenter, "sysenter");
	wrmsr(SYSENTER_CS, 0);
	expect_eq(run_user(only_sysenter), GP);
	FAULTS(GP, 0, asm volatile("sysexitq"));
}

/* --- segment registers and system descriptors --- */
static int load_ds(uint16_t s) { return CATCH(asm volatile("mov %0, %%ds" :: "r"((word)s))); }
static int load_ss(uint16_t s)
{
	return CATCH(asm volatile("mov %0, %%ss" :: "r"((word)s)); asm volatile("mov %0, %%ss" :: "r"(SEL_KDATA)));
}

RULE(data_segment_loads_are_checked)
{
	expect_eq(load_ds(0), NONE);
	expect_eq(load_ds(3), NONE);
	expect_eq(load_ds(0xfff8), GP);
	expect_eq(event.error, 0xfff8);
	expect_eq(load_ds(SEL_TSS), GP);
	expect_eq(event.error, SEL_TSS);
	expect_eq(load_ds(SEL_KDATA | 3), GP);	/* RPL 3, DPL 0 */
	expect_eq(load_ds(SEL_K64), NONE);	/* readable code */
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | (SEG_CODE & ~2), SEG_G | SEG_B);
	expect_eq(load_ds(SEL_A), GP);		/* execute-only */
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_DATA, SEG_G | SEG_B);
	expect_eq(load_ds(SEL_A), NP);
	expect_eq(event.error, SEL_A);
	expect_eq(load_ds(SEL_A | 4), GP);	/* no LDT */
	expect_eq(event.error, SEL_A | 4);
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | (SEG_DATA & ~1), SEG_G | SEG_B);
	expect_eq(load_ds(SEL_A), NONE);
	expect_eq(gdt[SEL_A / 8] >> 40 & 1, 1);	/* accessed now */
}

RULE(stack_segment_loads_are_checked)
{
	expect_eq(load_ss(SEL_KDATA), NONE);
	expect_eq(load_ss(0), NONE);		/* 64-bit mode, CPL 0 */
	expect_eq(load_ss(3), GP);
	expect_eq(load_ss(SEL_UDATA), GP);
	expect_eq(event.error, SEL_UDATA & ~3);
	expect_eq(load_ss(SEL_K64), GP);
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_P | (SEG_DATA & ~2), SEG_G | SEG_B);
	expect_eq(load_ss(SEL_A), GP);		/* read-only */
	gdt[SEL_A / 8] = descriptor(0, 0xfffff, SEG_DATA, SEG_G | SEG_B);
	expect_eq(load_ss(SEL_A), SS);
	expect_eq(event.error, SEL_A);
	FAULTS(UD, 0, asm volatile("mov %%eax, %%cs" ::));
}

RULE(ltr_marks_busy_and_checks)
{
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)&tss, sizeof tss - 1, SEG_P | 9, 0);
	gdt[SEL_A / 8 + 1] = 0;
	FINE(asm volatile("ltr %w0" :: "r"(SEL_A)));
	expect_eq(gdt[SEL_A / 8] >> 40 & 15, 11);
	FAULTS(GP, SEL_A, asm volatile("ltr %w0" :: "r"(SEL_A)));
	FAULTS(GP, 0, asm volatile("ltr %w0" :: "r"(0)));
	FAULTS(GP, SEL_KDATA, asm volatile("ltr %w0" :: "r"(SEL_KDATA)));
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)&tss, sizeof tss - 1, 9, 0);
	FAULTS(NP, SEL_A, asm volatile("ltr %w0" :: "r"(SEL_A)));
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)&tss, sizeof tss - 1, SEG_P | 9, 0);
	gdt[SEL_A / 8 + 1] = 1ull << 40;	/* the upper half's type must be 0 */
	FAULTS(GP, SEL_A, asm volatile("ltr %w0" :: "r"(SEL_A)));
}

RULE(ldt_descriptors)
{
	static uint64_t ldt[4];
	ldt[1] = gdt[SEL_KDATA / 8];
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)ldt, 15, SEG_P | 2, 0);
	gdt[SEL_A / 8 + 1] = 0;
	FINE(asm volatile("lldt %w0" :: "r"(SEL_A)));
	expect_eq(load_ds(8 | 4), NONE);
	expect_eq(load_ds(16 | 4), GP);
	FAULTS(GP, SEL_KDATA, asm volatile("lldt %w0" :: "r"(SEL_KDATA)));
	FAULTS(GP, SEL_A | 4, asm volatile("lldt %w0" :: "r"(SEL_A | 4)));
	FINE(asm volatile("lldt %w0" :: "r"(0)));
	expect_eq(load_ds(8 | 4), GP);
}

RULE(lar_lsl_verr_verw_tell_by_zf)
{
	uint32_t v = 0;
	bool z;
	asm volatile("lar %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(SEL_KDATA));
	expect_eq(z, 1);
	expect_eq(v & 0xf0ff00, 0xc09300);	/* bits 19:16 are undefined */
	asm volatile("lsl %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(SEL_KDATA));
	expect_eq(z, 1);
	expect_eq(v, 0xffffffff);
	asm volatile("lar %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(0));
	expect_eq(z, 0);
	asm volatile("lar %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(0xfff8));
	expect_eq(z, 0);
	gdt[SEL_A / 8] = gate_low(0, SEL_K64, SEG_P | GATE_INT, 0);
	asm volatile("lar %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(SEL_A));
	expect_eq(z, 0);
	asm volatile("verr %w1; setz %0" : "=q"(z) : "r"(SEL_K64));
	expect_eq(z, 1);
	asm volatile("verw %w1; setz %0" : "=q"(z) : "r"(SEL_K64));
	expect_eq(z, 0);
	asm volatile("verw %w1; setz %0" : "=q"(z) : "r"(SEL_KDATA));
	expect_eq(z, 1);
	asm volatile("verw %w1; setz %0" : "=q"(z) : "r"(SEL_KDATA | 3));
	expect_eq(z, 0);
}

RULE(instructions_invalid_in_64_bit_mode)
{
	static const uint8_t invalid[] = { 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60,
					   0x61, 0x82, 0xce, 0xd4, 0xd5, 0xd6 };
	static uint8_t code[16];
	for (unsigned n = 0; n < ARRAY_SIZE(invalid); n++) {
		memory_fill(code, 0x90, sizeof code);
		code[0] = invalid[n];
		code[15] = 0xc3;
		expect_("vector", (int)invalid[n], (uint64_t)CATCH(asm volatile("call *%0" :: "r"(code))), UD);
	}
}

RULE(instruction_longer_than_15_bytes_raises_gp)
{
	static uint8_t code[20];
	memory_fill(code, 0x66, 14);
	code[14] = 0x90;
	code[15] = 0xc3;
	FINE(asm volatile("call *%0" :: "r"(code)));
	memory_fill(code, 0x66, 15);
	code[15] = 0x90;
	code[16] = 0xc3;
	FAULTS(GP, 0, asm volatile("call *%0" :: "r"(code)));
}

RULE(lock_on_what_cannot_be_locked_is_ud)
{
	FAULTS(UD, 0, asm volatile(".byte 0xf0, 0x90"));			/* LOCK NOP */
	FAULTS(UD, 0, asm volatile(".byte 0xf0, 0x01, 0xc0"));		/* LOCK ADD r, r */
	FAULTS(UD, 0, asm volatile(".byte 0xf0, 0x3b, 0x04, 0x24"));	/* LOCK CMP */
}

/* --- compatibility mode --- */
static int run_compatibility(const void *code)
{
	return iret_to((word)code, SEL_U32, 2, USER_SP, SEL_UDATA);
}

RULE(compatibility_mode_has_32_bit_registers_and_addresses)
{
	SNIPPET32(compat, "mov %esp, %esi; push $0x12345678; pop %edx; dec %ecx; mov $0xffffffff, %eax; inc %eax; int $0x80");
	/* 48 is DEC EAX here and REX.W in 64-bit mode. */
	expect_eq(run_compatibility(compat), USER_EXIT);
	expect_eq(event.frame.dx, 0x12345678);
	expect_eq(event.frame.ax, 0);
	expect_eq(event.frame.cs, SEL_U32);
}

RULE(compatibility_mode_checks_segment_limits)
{
	SNIPPET32(compat_limit, "mov $0x53, %eax; mov %eax, %fs; mov %fs:0xfff, %al; compat_beyond: mov %fs:0x1000, %al; int $0x80");
	extern const uint8_t compat_beyond[];
	gdt[SEL_A / 8] = descriptor(0x200000, 0xfff, SEG_P | SEG_DPL(3) | SEG_DATA, SEG_B);
	expect_eq(run_compatibility(compat_limit), GP);
	expect_eq(event.frame.ip, (word)compat_beyond);
}

RULE(compatibility_mode_addresses_wrap_at_4_gib)
{
	SNIPPET32(compat_wrap, "mov $0x53, %eax; mov %eax, %fs; mov %fs:0x200100, %eax; int $0x80");
	*(volatile uint32_t *)0x2000f0 = 0x4711;
	gdt[SEL_A / 8] = descriptor(0xfffffff0, 0xfffff, SEG_P | SEG_DPL(3) | SEG_DATA, SEG_B | SEG_G);
	expect_eq(run_compatibility(compat_wrap), USER_EXIT);
	expect_eq(event.frame.ax, 0x4711);
}

RULE(compatibility_mode_reaches_64_bit_code_by_a_far_jump_and_back)
{
	SNIPPET32(compat_jump, "ljmp $0x33, $compat_64");
	SNIPPET(compat_64, "push $0x23; push $compat_home; lretq");
	SNIPPET32(compat_home, "mov %cs, %ebx; int $0x80");
	expect_eq(run_compatibility(compat_jump), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U32);
	expect_eq(event.frame.bx, SEL_U32);
	SNIPPET(compat_64_done, "movabs $0x123456789abcdef0, %rax; mov %cs, %ebx; int $0x80");
	SNIPPET32(compat_jump_done, "ljmp $0x33, $compat_64_done");
	expect_eq(run_compatibility(compat_jump_done), USER_EXIT);
	expect_eq(event.frame.ax, 0x123456789abcdef0);
	expect_eq(event.frame.bx, SEL_U64);
}

RULE(compatibility_mode_goes_through_a_call_gate_into_64_bit_code)
{
	SNIPPET32(compat_gate, "lcall $0x53, $0; int $0x80");
	tss.rsp[0] = other_top;
	call_gate_set(SEL_A, (word)gate_target, SEL_K64, SEG_P | SEG_DPL(3) | GATE_CALL);
	expect_eq(run_compatibility(compat_gate), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_K64);
	word *pushed = (word *)(other_top - 32);
	expect_eq(pushed[0], (word)compat_gate + 7);
	expect_eq(pushed[1], SEL_U32);
	expect_eq(pushed[3], SEL_UDATA);
}

RULE(compatibility_mode_16_bit)
{
	SNIPPET16(compat_16, "mov $0x1234, %ax; push %ax; pop %bx; int $0x80");
	gdt[SEL_A / 8] = descriptor((uint32_t)(word)compat_16, 0xffff, SEG_P | SEG_DPL(3) | SEG_CODE, 0);
	expect_eq(iret_to(0, SEL_A | 3, 2, USER_SP, SEL_UDATA), USER_EXIT);
	expect_eq(event.frame.bx & 0xffff, 0x1234);
	expect_eq(event.frame.ip, (word)(compat_16_end - compat_16));
}

RULE(compatibility_mode_has_no_virtual_8086_and_no_task_switch)
{
	SNIPPET32(compat_task, "ljmp $0x40, $0");
	gdt[SEL_TSS / 8] |= (uint64_t)SEG_DPL(3) << 40;
	expect_eq(run_compatibility(compat_task), GP);
	expect_eq(event.error, SEL_TSS);
}

RULE(upper_halves_of_registers_survive_an_interrupt_in_compatibility_mode)
{
	SNIPPET32(compat_int, "int $0x60; ljmp $0x33, $compat_int_64");
	SNIPPET(compat_int_64, "int $0x80");
	vector_dpl3(V);
	bool resume(struct frame *f) { return f->vector == V; }
	event_hook = resume;
	expect_eq(run_compatibility(compat_int), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U64);
}

/* --- far returns --- */
RULE(far_return_to_outer_level_checks_ss_and_pops_it)
{
	FAULTS(USER_EXIT, 0, asm volatile("push %0; push %1; push %2; push %3; lretq" :: "i"(SEL_UDATA), "r"(USER_SP), "i"(SEL_U64), "r"(back)));
	expect_eq(event.frame.ss, SEL_UDATA);
	expect_eq(event.frame.sp, USER_SP);
	FAULTS(GP, SEL_KDATA, asm volatile("push %0; push %1; push %2; push %3; lretq" :: "i"(SEL_KDATA), "r"(USER_SP), "i"(SEL_U64), "r"(back)));
	FAULTS(GP, 0, asm volatile("push %0; push %1; lretq" :: "i"(0), "r"(back)));
	FAULTS(GP, SEL_KDATA, asm volatile("push %0; push %1; lretq" :: "i"(SEL_KDATA), "r"(back)));
	SNIPPET(inward, "push $0x10; push $back; lretq");
	expect_eq(run_user(inward), GP);	/* RPL 0 below CPL 3 */
	expect_eq(event.error, SEL_K64);
}

RULE(nested_faults_of_the_frame_push_leave_the_state)
{
	/* INT n with a stack that is not mapped: RIP and RSP are the old ones. */
	tss.rsp[0] = 0x10000000000;
	tss.ist[0] = other_top;
	gate_set(&idt[PF], vector_entry(PF), SEL_K64, SEG_P | GATE_INT, 1);
	SNIPPET(int_nowhere, "int $0x80");
	expect_eq(run_user(int_nowhere), PF);
	expect_eq(event.error, 2);
	expect_eq(event.frame.ip, (word)int_nowhere);
	expect_eq(event.frame.sp, (word)user_stack_top - 8);
	expect_eq(event.frame.cs, SEL_U64);
}
