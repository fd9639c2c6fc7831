/* Debug registers, single step, the shadows of STI and MOV SS (SDM vol. 3,
 * "Debug, Branch Profile, TSC ..." and "Interrupt and Exception Handling"). */
#include "rt/rt.h"

const char chapter[] = "debug";

enum { B0 = 1, B1 = 2, B2 = 4, B3 = 8, BD = 1 << 13, BS = 1 << 14 };
enum { EXECUTE = 0, WRITE = 1, IO = 2, ACCESS = 3 };
enum { LEN_1 = 0, LEN_2 = 1, LEN_8 = 2, LEN_4 = 3 };
enum { GD = 1 << 13 };
#define DR6_FIXED 0xffff0ff0ul
static word dr7_bits(unsigned n, unsigned rw, unsigned length)
{
	return 0x400 | 1ul << (2 * n) | (word)rw << (16 + 4 * n) | (word)length << (18 + 4 * n);
}

static volatile struct { uint64_t before, at, after; } data __attribute__((aligned(64)));

void chapter_setup(void)
{
	set_dr0(0);
	set_dr1(0);
	set_dr2(0);
	set_dr3(0);
}

/* Debug exceptions in a row, each resumed: where and with which DR6. */
static struct { word ip, dr6, flags; } seen[64];
static unsigned seen_count;
static bool log_db(struct frame *f)
{
	if (f->vector != DB)
		return false;
	if (seen_count < ARRAY_SIZE(seen)) {
		seen[seen_count].ip = f->ip;
		seen[seen_count].dr6 = dr6();
		seen[seen_count].flags = f->flags;
	}
	seen_count++;
	/* The frame of an instruction breakpoint has RF as it was: the handler
	 * sets it, or the instruction would never run. */
	if (dr6() & 15)
		f->flags |= FLAG_RF;
	set_dr6(DR6_FIXED);
	if (seen_count > 60)
		set_dr7(0x400), f->flags &= ~FLAG_TF;
	return true;
}
static void log_begin(void)
{
	seen_count = 0;
	event_hook = log_db;
}

/* --- single step --- */
#define STEP_ON "pushfq; orl $0x100, (%%rsp); popfq\n"
#define STEP_OFF "pushfq; andl $~0x100, (%%rsp); popfq\n"

RULE(tf_traps_after_each_instruction_with_bs)
{
	extern const uint8_t step_1[], step_2[], step_3[];
	log_begin();
	asm volatile(STEP_ON "step_0: nop; step_1: nop; step_2: nop\n step_3:" STEP_OFF ::: "memory", "cc");
	expect(seen_count >= 3);
	expect_eq(seen[0].ip, (word)step_1);
	expect_eq(seen[1].ip, (word)step_2);
	expect_eq(seen[2].ip, (word)step_3);
	for (unsigned n = 0; n < 3; n++) {
		expect_eq(seen[n].dr6, DR6_FIXED | BS);
		expect_eq(seen[n].flags & FLAG_TF, FLAG_TF);
		expect_eq(seen[n].flags & FLAG_RF, 0);
	}
	/* PUSHF, AND, POPF: the last one ends with TF clear and still traps. */
	expect_eq(seen_count, 6);
}

RULE(popf_that_sets_tf_does_not_trap_itself)
{
	extern const uint8_t popf_next[];
	log_begin();
	asm volatile(STEP_ON "nop; popf_next:" STEP_OFF ::: "memory", "cc");
	expect_eq(seen[0].ip, (word)popf_next);
}

RULE(handler_runs_without_tf)
{
	static word inside;
	bool see(struct frame *f) { inside = flags(); f->flags &= ~FLAG_TF; return true; }
	event_hook = see;
	asm volatile(STEP_ON "nop" ::: "memory", "cc");
	expect_eq(inside & FLAG_TF, 0);
}

RULE(int_n_under_tf_does_not_trap_on_its_way_in)
{
	/* INT 60h clears TF; the step traps when the handler has returned? No: TF
	 * comes back with IRET, and the instruction after it traps. */
	extern const uint8_t after_int_2[];
	bool both(struct frame *f) { return f->vector == 0x60 || log_db(f); }
	log_begin();
	event_hook = both;
	asm volatile(STEP_ON "int $0x60; nop; after_int_2:" STEP_OFF ::: "memory", "cc");
	expect_eq(seen[0].ip, (word)after_int_2);
}

RULE(rep_string_traps_after_each_iteration)
{
	static uint8_t from[4], to[4];
	const void *s = from;
	void *d = to;
	word n = 3;
	log_begin();
	asm volatile(STEP_ON "rep_here: rep movsb\n rep_next:" STEP_OFF : "+S"(s), "+D"(d), "+c"(n) :: "memory", "cc");
	extern const uint8_t rep_here[], rep_next[];
	expect_eq(seen[0].ip, (word)rep_here);
	expect_eq(seen[1].ip, (word)rep_here);
	expect_eq(seen[2].ip, (word)rep_next);
}

RULE(single_step_of_mov_ss_waits_for_the_next_instruction)
{
	extern const uint8_t ss_after[];
	log_begin();
	asm volatile("mov %%ss, %%eax\n" STEP_ON "mov %%eax, %%ss; nop; ss_after:" STEP_OFF ::: "rax", "memory", "cc");
	expect_eq(seen[0].ip, (word)ss_after);
}

RULE(icebp_raises_db_with_nothing_in_dr6)
{
	FAULTS(DB, 0, asm volatile(".byte 0xf1; icebp_next:"));
	extern const uint8_t icebp_next[];
	expect_eq(event.dr6, DR6_FIXED);
	expect_eq(event.frame.ip, (word)icebp_next);
}

RULE(a_fault_comes_before_the_step)
{
	log_begin();
	bool both(struct frame *f)
	{
		if (f->vector == UD) {
			f->ip += 2;
			return true;
		}
		return log_db(f);
	}
	event_hook = both;
	extern const uint8_t fault_after[];
	asm volatile(STEP_ON "ud2; nop; fault_after:" STEP_OFF ::: "memory", "cc");
	/* UD2 itself does not trap; the NOP after it does. */
	expect_eq(seen[0].ip, (word)fault_after);
}

RULE(syscall_with_tf_in_the_mask_stops_the_stepping)
{
	SNIPPET(step_entry, "nop; nop; mov $user_done, %ecx; mov $2, %r11d; sysretq");
	SNIPPET(step_user, "pushfq; orl $0x100, (%rsp); popfq; syscall; user_done: int $0x80");
	wrmsr(0xc0000081, (uint64_t)SEL_U32 << 48 | (uint64_t)SEL_K64 << 32);
	wrmsr(0xc0000082, (word)step_entry);
	wrmsr(0xc0000084, FLAG_TF | FLAG_IF);
	bool hook(struct frame *f) { return f->vector == DB && log_db(f); }
	log_begin();
	event_hook = hook;
	expect_eq(run_user(step_user), USER_EXIT);
	for (unsigned n = 0; n < seen_count && n < 60; n++)
		expect(seen[n].ip != (word)step_entry + 1 && seen[n].ip != (word)step_entry + 2);
}

/* --- breakpoints --- */
RULE(instruction_breakpoint_is_a_fault_before_it)
{
	extern const uint8_t bp_here[];
	set_dr0((word)bp_here);
	set_dr7(dr7_bits(0, EXECUTE, 0));
	volatile int ran = 0;
	FAULTS(DB, 0, asm volatile("bp_here: movl $1, %0" : "=m"(ran)));
	expect_eq(ran, 0);
	expect_eq(event.frame.ip, (word)bp_here);
	expect_eq(event.dr6, DR6_FIXED | B0);
	expect_eq(event.frame.flags & FLAG_RF, 0);
}

RULE(rf_lets_the_instruction_run_once)
{
	extern const uint8_t rf_here[];
	word n = 3;
	log_begin();
	set_dr1((word)rf_here);
	set_dr7(dr7_bits(1, EXECUTE, 0));
	/* Each pass hits the breakpoint once: RF, which the handler sets, skips it. */
	asm volatile("1: nop; rf_here: dec %0; jnz 1b" : "+r"(n) :: "cc");
	set_dr7(0x400);
	expect_eq(seen_count, 3);
	expect_eq(seen[0].dr6, DR6_FIXED | B1);
}

RULE(breakpoint_on_the_first_instruction_of_a_loop_of_one_block)
{
	extern const uint8_t loop_here[];
	word n = 4;
	log_begin();
	set_dr0((word)loop_here);
	set_dr7(dr7_bits(0, EXECUTE, 0));
	asm volatile("loop_here: dec %0; jnz loop_here" : "+r"(n) :: "cc");
	set_dr7(0x400);
	expect_eq(seen_count, 4);
}

RULE(write_breakpoint_is_a_trap_after_it)
{
	extern const uint8_t wbp_next[];
	data.at = 0;
	set_dr0((word)&data.at);
	set_dr7(dr7_bits(0, WRITE, LEN_8));
	FAULTS(DB, 0, asm volatile("movl $7, %0; wbp_next:" : "=m"(data.at)));
	expect_eq(data.at, 7);
	expect_eq(event.frame.ip, (word)wbp_next);
	expect_eq(event.dr6, DR6_FIXED | B0);
	expect_eq(event.frame.flags & FLAG_RF, 0);
	FINE((void)data.at);
	FINE(data.before = 1; data.after = 1);
}

RULE(access_breakpoint_sees_reads_and_writes)
{
	set_dr2((word)&data.at);
	set_dr7(dr7_bits(2, ACCESS, LEN_4));
	FAULTS(DB, 0, (void)*(volatile uint32_t *)&data.at);
	expect_eq(event.dr6, DR6_FIXED | B2);
	FAULTS(DB, 0, *(volatile uint32_t *)&data.at = 0);
	FINE((void)((volatile uint32_t *)&data.at)[1]);
}

RULE(breakpoint_length_and_overlap)
{
	volatile uint8_t *bytes = (volatile uint8_t *)&data.at;
	static const struct { unsigned length, size; } all[] = { { LEN_1, 1 }, { LEN_2, 2 }, { LEN_4, 4 }, { LEN_8, 8 } };
	for (unsigned k = 0; k < ARRAY_SIZE(all); k++) {
		set_dr3((word)bytes);
		set_dr7(dr7_bits(3, WRITE, all[k].length));
		for (volatile unsigned n = 0; n < 16; n++) {
			int v = CATCH(bytes[n] = 0);
			expect_("byte write", (int)n, (uint64_t)v, n < all[k].size ? DB : (uint64_t)NONE);
		}
		/* A wider access that only touches it. */
		FAULTS(DB, 0, *(volatile uint32_t *)(bytes - 3) = 0);
		FINE(*(volatile uint32_t *)(bytes - 4) = 0);
	}
}

RULE(breakpoints_of_string_instructions_trap_between_iterations)
{
	static uint8_t to[8];
	void *d = to;
	word n = 8;
	log_begin();
	set_dr0((word)&to[3]);
	set_dr7(dr7_bits(0, WRITE, LEN_1));
	asm volatile("rep stosb; stos_next:" : "+D"(d), "+c"(n) : "a"(1) : "memory");
	set_dr7(0x400);
	expect_eq(seen_count, 1);
	expect_eq(to[7], 1);
}

RULE(breakpoint_on_push_and_on_a_read_modify_write)
{
	static uint8_t stack[4096] __attribute__((aligned(16)));
	tss.ist[0] = (word)stack + sizeof stack;	/* the rule's own stack is the data */
	gate_set(&idt[DB], vector_entry(DB), SEL_K64, SEG_P | GATE_INT, 1);
	set_dr0((word)&data.at);
	set_dr7(dr7_bits(0, WRITE, LEN_8));
	FAULTS(DB, 0, asm volatile("lock incl %0" : "+m"(data.at)));
	FAULTS(DB, 0, asm volatile("mov %%rsp, %%rbx; lea 8+%0, %%rsp; push %%rax; mov %%rbx, %%rsp" : "+m"(data.at) :: "rbx"));
}

RULE(le_and_ge_alone_enable_nothing_and_global_enables_work)
{
	set_dr0((word)&data.at);
	set_dr7(0x700 | WRITE << 16 | LEN_8 << 18);
	FINE(data.at = 1);
	set_dr7(0x402 | WRITE << 16 | LEN_8 << 18);	/* G0 */
	FAULTS(DB, 0, data.at = 1);
}

RULE(dr6_collects_and_is_not_cleared)
{
	set_dr0((word)&data.at);
	set_dr1((word)&data.after);
	set_dr7(dr7_bits(0, WRITE, LEN_8) | dr7_bits(1, WRITE, LEN_8));
	FAULTS(DB, 0, data.at = 1);
	expect_eq(event.dr6 & 15, B0);
	set_dr6(DR6_FIXED);
	FAULTS(DB, 0, data.after = 1);
	expect_eq(event.dr6 & 15, B1);
}

RULE(general_detect_faults_and_clears_gd)
{
	set_dr7(0x400 | GD);
	FAULTS(DB, 0, asm volatile("gd_here: mov %%db0, %%rax" ::: "rax"));
	extern const uint8_t gd_here[];
	expect_eq(event.frame.ip, (word)gd_here);
	expect_eq(event.dr6, DR6_FIXED | BD);
	expect_eq(dr7(), 0x400);
}

RULE(dr6_and_dr7_have_fixed_bits)
{
	set_dr6(0);
	expect_eq(dr6() & 0xffff0ff0 & ~0x10800ul, DR6_FIXED & ~0x10800ul);
	set_dr6(DR6_FIXED | 0x1000);
	expect_eq(dr6() & 0x1000, 0);
	set_dr7(0);
	expect_eq(dr7(), 0x400);
	FAULTS(GP, 0, set_dr6(BIT(32)));
	FAULTS(GP, 0, set_dr7(BIT(32)));
	FINE(set_dr0(~0ul));
	set_dr0(0);
}

RULE(dr4_and_dr5_are_aliases_unless_de)
{
	volatile uint64_t v = 0;
	set_dr7(0x400 | 1 << 8);
	FINE(asm volatile("mov %%db5, %0" : "=r"(v)));
	expect_eq(v, 0x500);
	set_cr4(cr4() | CR4_DE);
	FAULTS(UD, 0, asm volatile("mov %%db5, %0" : "=r"(v)));
	FAULTS(UD, 0, asm volatile("mov %%db4, %0" : "=r"(v)));
}

RULE(io_breakpoint_needs_de)
{
	set_dr0(0x80);
	set_cr4(cr4() | CR4_DE);
	set_dr7(dr7_bits(0, IO, LEN_1));
	FAULTS(DB, 0, outb(0x80, 1));
	expect_eq(event.dr6, DR6_FIXED | B0);
	FINE(outb(0x81, 1));
}

RULE(a_data_breakpoint_under_mov_ss_waits)
{
	/* MOV SS reads memory with a breakpoint: the trap comes after the next
	 * instruction. */
	extern const uint8_t shadow_next[];
	static volatile uint16_t selector = SEL_KDATA;
	set_dr0((word)&selector);
	set_dr7(dr7_bits(0, ACCESS, LEN_2));
	FAULTS(DB, 0, asm volatile("mov %0, %%ss; nop; shadow_next:" :: "m"(selector)));
	expect_eq(event.frame.ip, (word)shadow_next);
	expect_eq(event.dr6, DR6_FIXED | B0);
}

RULE(an_instruction_breakpoint_under_mov_ss_is_lost)
{
	extern const uint8_t ss_shadow[];
	set_dr0((word)ss_shadow);
	set_dr7(dr7_bits(0, EXECUTE, 0));
	FINE(asm volatile("mov %%ss, %%eax; mov %%eax, %%ss; ss_shadow: nop" ::: "rax"));
}

RULE(breakpoints_in_ring_3)
{
	SNIPPET(user_bp, "nop; user_bp_here: nop; int $0x80");
	extern const uint8_t user_bp_here[];
	set_dr0((word)user_bp_here);
	set_dr7(dr7_bits(0, EXECUTE, 0));
	expect_eq(run_user(user_bp), DB);
	expect_eq(event.frame.ip, (word)user_bp_here);
	expect_eq(event.frame.cs, SEL_U64);
}

RULE(tf_in_ring_3_by_iret)
{
	SNIPPET(user_tf, "nop; user_tf_1: nop; int $0x80");
	extern const uint8_t user_tf_1[];
	struct entry_frame f = { (word)user_tf, SEL_U64, 2 | FLAG_TF, (word)user_stack_top, SEL_UDATA, 0 };
	expect_eq(run_frame(&f), DB);
	expect_eq(event.frame.ip, (word)user_tf_1);
	expect_eq(event.dr6, DR6_FIXED | BS);
}

RULE(a_data_breakpoint_in_a_rep_string_stops_at_its_iteration)
{
	static uint8_t from[16], to[16];
	const void *s = from;
	void *d = to;
	word n = 16;
	log_begin();
	static word left;
	bool look(struct frame *f) { left = f->cx; return log_db(f); }
	event_hook = look;
	set_dr0((word)&to[5]);
	set_dr7(dr7_bits(0, WRITE, LEN_1));
	asm volatile("rep_bp: rep movsb" : "+S"(s), "+D"(d), "+c"(n) :: "memory");
	set_dr7(0x400);
	expect_eq(seen_count, 1);
	expect_eq(left, 10);
	extern const uint8_t rep_bp[];
	expect_eq(seen[0].ip, (word)rep_bp);
}

RULE(a_step_and_a_data_breakpoint_are_one_exception)
{
	log_begin();
	set_dr0((word)&data.at);
	set_dr7(dr7_bits(0, WRITE, LEN_8));
	asm volatile(STEP_ON "movq $1, %0\n" STEP_OFF : "=m"(data.at) :: "memory", "cc");
	set_dr7(0x400);
	expect_eq(seen[0].dr6, DR6_FIXED | BS | B0);
}

RULE(an_instruction_breakpoint_comes_before_the_instructions_fault)
{
	extern const uint8_t bp_ud[];
	set_dr0((word)bp_ud);
	set_dr7(dr7_bits(0, EXECUTE, 0));
	FAULTS(DB, 0, asm volatile("bp_ud: ud2"));
	expect_eq(event.frame.ip, (word)bp_ud);
}

RULE(a_data_breakpoint_sees_an_access_across_pages)
{
	uint8_t *page = page_alloc();
	page_alloc();
	set_dr0((word)page + 4096);
	set_dr7(dr7_bits(0, WRITE, LEN_1));
	FAULTS(DB, 0, *(volatile uint32_t *)(page + 4094) = 0);
	FINE(*(volatile uint16_t *)(page + 4094) = 0);
}

RULE(breakpoints_see_vector_and_stack_accesses)
{
	static uint8_t stack[4096] __attribute__((aligned(16)));
	tss.ist[0] = (word)stack + sizeof stack;	/* the rule's own stack is the data */
	gate_set(&idt[DB], vector_entry(DB), SEL_K64, SEG_P | GATE_INT, 1);
	set_cr4(cr4() | CR4_OSFXSR);
	set_dr0((word)&data.at);
	set_dr7(dr7_bits(0, WRITE, LEN_8));
	FAULTS(DB, 0, asm volatile("movups %%xmm0, %0" : "=m"(*(uint8_t (*)[16])&data.before)));
	set_dr7(dr7_bits(0, ACCESS, LEN_8));
	FAULTS(DB, 0, asm volatile("movups %0, %%xmm0" :: "m"(*(uint8_t (*)[16])&data.before)));
	FAULTS(DB, 0, asm volatile("mov %%rsp, %%rbx; lea %0, %%rsp; pop %%rax; mov %%rbx, %%rsp; nop" :: "m"(data.at) : "rax", "rbx"));
}

RULE(tf_survives_a_fault_in_the_handlers_frame)
{
	FAULTS(UD, 0, asm volatile(STEP_ON "ud2" ::: "memory", "cc"));
	expect_eq(event.frame.flags & FLAG_TF, FLAG_TF);
}

RULE(a_step_over_cli_and_sti_and_a_branch)
{
	extern const uint8_t step_target[];
	log_begin();
	asm volatile(STEP_ON "jmp step_target; ud2; step_target: cli; nop\n" STEP_OFF ::: "memory", "cc");
	expect_eq(seen[0].ip, (word)step_target);
	expect_eq(seen[1].ip, (word)step_target + 1);
}

RULE(breakpoints_turned_off_are_off_and_pages_fast_again)
{
	set_dr0((word)&data.at);
	set_dr7(dr7_bits(0, WRITE, LEN_8));
	FAULTS(DB, 0, data.at = 1);
	set_dr7(0x400);
	FINE(data.at = 2);
	set_dr7(dr7_bits(0, WRITE, LEN_8));	/* and on again, with the page in the TLB */
	FAULTS(DB, 0, data.at = 3);
}

/* --- alignment check --- */
RULE(alignment_check_in_ring_3)
{
	SNIPPET(user_unaligned, "mov %rsp, %rax; mov -7(%rax), %ebx; int $0x80");
	SNIPPET(user_aligned, "mov %rsp, %rax; mov -8(%rax), %rbx; int $0x80");
	struct entry_frame f = { (word)user_unaligned, SEL_U64, 2 | FLAG_AC, (word)user_stack_top, SEL_UDATA, 0 };
	expect_eq(run_frame(&f), USER_EXIT);
	set_cr0(cr0() | CR0_AM);
	expect_eq(run_frame(&f), AC);
	expect_eq(event.error, 0);
	f.ip = (word)user_aligned;
	expect_eq(run_frame(&f), USER_EXIT);
	f.ip = (word)user_unaligned;
	f.flags = 2;
	expect_eq(run_frame(&f), USER_EXIT);
	/* Never in ring 0. */
	FINE(set_flags(FLAG_AC | 2); (void)*(volatile uint32_t *)(user_stack + 1));
}
