/* Protected mode without paging: segments, gates, tasks, virtual-8086 and real
 * mode (SDM vol. 3, "Protected-Mode Memory Management", "Protection",
 * "Interrupt and Exception Handling", "Task Management", "8086 Emulation"). */
#include "rt/rt.h"

const char chapter[] = "protected mode, 32-bit";

enum { SEL_A = SEL_FREE, SEL_B = SEL_FREE + 8, SEL_C = SEL_FREE + 16, SEL_D = SEL_FREE + 24, SEL_E = SEL_FREE + 32,
       V = 0x60, EXT = 1, IDT = 2 };
static uint8_t other_stack[4096] __attribute__((aligned(16)));
#define other_top ((word)other_stack + sizeof other_stack)
static uint8_t area[0x20000] __attribute__((aligned(4096)));
#define AREA ((word)area)

void chapter_setup(void) { }

static void set(uint16_t selector, uint64_t d) { gdt[selector / 8] = d; }
static int load_fs(uint16_t s) { return CATCH(asm volatile("mov %0, %%fs" :: "r"((word)s))); }
static int fs_read8(word at) { return CATCH(asm volatile("movb %%fs:(%0), %%al" :: "r"(at) : "eax")); }
static int fs_read32(word at) { return CATCH(asm volatile("movl %%fs:(%0), %%eax" :: "r"(at) : "eax")); }
static int fs_write8(word at) { return CATCH(asm volatile("movb %%al, %%fs:(%0)" :: "r"(at) : "memory")); }

/* --- segments --- */
RULE(byte_limit_is_the_last_offset)
{
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | SEG_DATA, SEG_B));
	load_fs(SEL_A);
	expect_eq(fs_read8(0xfff), NONE);
	expect_eq(fs_read8(0x1000), GP);
	expect_eq(event.error, 0);
	expect_eq(fs_read32(0xffc), NONE);
	expect_eq(fs_read32(0xffd), GP);
	expect_eq(fs_read32(0xffffffff), GP);
}

RULE(page_limit_counts_4k)
{
	set(SEL_A, descriptor(AREA, 1, SEG_P | SEG_DATA, SEG_B | SEG_G));
	load_fs(SEL_A);
	expect_eq(fs_read8(0x1fff), NONE);
	expect_eq(fs_read8(0x2000), GP);
}

RULE(expand_down_begins_above_its_limit)
{
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | SEG_DOWN, 0));	/* B = 0: up to FFFFh */
	load_fs(SEL_A);
	expect_eq(fs_read8(0xfff), GP);
	expect_eq(fs_read8(0x1000), NONE);
	expect_eq(fs_read8(0xffff), NONE);
	expect_eq(fs_read8(0x10000), GP);
	expect_eq(fs_read32(0xfffd), GP);
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | SEG_DOWN, SEG_B));	/* up to FFFFFFFFh */
	load_fs(SEL_A);
	expect_eq(fs_read8(0x10000), NONE);
	expect_eq(fs_read8(0x800), GP);
	set(SEL_A, descriptor(AREA, 0xffffffff, SEG_P | SEG_DOWN, SEG_B | SEG_G));	/* nothing */
	load_fs(SEL_A);
	expect_eq(fs_read8(0), GP);
	expect_eq(fs_read8(0xffffffff), GP);
}

RULE(base_is_added)
{
	area[0x123] = 0x77;
	set(SEL_A, descriptor(AREA + 0x100, 0xfff, SEG_P | SEG_DATA, SEG_B));
	load_fs(SEL_A);
	uint32_t v = 0;
	asm volatile("movzbl %%fs:0x23, %0" : "=r"(v));
	expect_eq(v, 0x77);
}

RULE(read_only_data_and_code_cannot_be_written)
{
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | (SEG_DATA & ~2), SEG_B));
	load_fs(SEL_A);
	expect_eq(fs_read8(0), NONE);
	expect_eq(fs_write8(0), GP);
	expect_eq(event.error, 0);
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | SEG_CODE, SEG_B));
	load_fs(SEL_A);
	expect_eq(fs_read8(0), NONE);
	expect_eq(fs_write8(0), GP);
	FAULTS(GP, 0, asm volatile("movb $0, %%cs:(%0)" :: "r"(AREA) : "memory"));
}

RULE(execute_only_code_cannot_be_read)
{
	set(SEL_A, descriptor(0, 0xfffff, SEG_P | (SEG_CODE & ~2), SEG_B | SEG_G));
	expect_eq(load_fs(SEL_A), GP);
	expect_eq(event.error, SEL_A);
}

RULE(null_selectors_load_and_do_not_serve)
{
	for (word s = 0; s < 4; s++) {
		expect_eq(load_fs((uint16_t)s), NONE);
		expect_eq(fs_read8(0), GP);
		expect_eq(event.error, 0);
		expect_eq(fs_write8(0), GP);
	}
	FAULTS(GP, 0, asm volatile("mov %0, %%ss" :: "r"(0)));
}

RULE(stack_limit_violations_raise_ss)
{
	/* EBP addresses the stack segment. */
	set(SEL_A, descriptor(0, 0x3ff, SEG_P | SEG_DATA, SEG_B | SEG_G));	/* 4 MiB */
	int v = CATCH(asm volatile("mov %0, %%ss; push %%ebp; mov $0x400000, %%ebp; mov (%%ebp), %%eax" :: "r"(SEL_A) : "eax"));
	expect_eq(v, SS);
	expect_eq(event.error, 0);
}

RULE(the_accessed_bit_is_set_by_a_load)
{
	set(SEL_A, descriptor(0, 0xfffff, SEG_P | (SEG_DATA & ~1), SEG_B | SEG_G));
	load_fs(SEL_A);
	expect_eq(gdt[SEL_A / 8] >> 40 & 1, 1);
}

RULE(a_loaded_segment_keeps_its_old_descriptor)
{
	area[0] = 1;
	area[0x100] = 2;
	set(SEL_A, descriptor(AREA, 0xfff, SEG_P | SEG_DATA, SEG_B));
	load_fs(SEL_A);
	set(SEL_A, descriptor(AREA + 0x100, 0xfff, SEG_P | SEG_DATA, SEG_B));
	uint32_t v = 0;
	asm volatile("movzbl %%fs:0, %0" : "=r"(v));
	expect_eq(v, 1);
	load_fs(SEL_A);
	asm volatile("movzbl %%fs:0, %0" : "=r"(v));
	expect_eq(v, 2);
}

RULE(code_segment_limit_is_checked_on_fetch)
{
	SNIPPET(fetch_code, "nop; nop; nop; nop; int $0x80");
	set(SEL_A, descriptor((word)fetch_code, 2, SEG_P | SEG_CODE, SEG_B));
	static struct __attribute__((packed)) { uint32_t offset; uint16_t selector; } p;
	p.offset = 0;
	p.selector = SEL_A;
	FAULTS(GP, 0, asm volatile("ljmp *%0" :: "m"(p)));
	expect_eq(event.frame.ip, 3);
	expect_eq(event.frame.cs, SEL_A);
	/* A jump beyond the limit faults at the jump. */
	p.offset = 3;
	FAULTS(GP, 0, asm volatile("ljmp *%0" :: "m"(p)));
	expect_eq(event.frame.cs, SEL_K32);
}

RULE(sixteen_bit_code_runs_with_16_bit_defaults)
{
	SNIPPET16(code_16, "mov $0xabcd0000, %esp; mov $0x1234, %ax; push %ax; mov %esp, %ebx; pop %cx; int $0x80");
	set(SEL_A, descriptor((word)code_16, 0xffff, SEG_P | SEG_DPL(3) | SEG_CODE, 0));
	set(SEL_B, descriptor(AREA, 0xffff, SEG_P | SEG_DPL(3) | SEG_DATA, 0));
	struct entry_frame f = { 0, SEL_A | 3, 2, 0x1000, SEL_B | 3, 0, 0, 0, 0, 0 };
	/* A 16-bit stack: SP only; the upper half of ESP stays. */
	expect_eq(run_frame(&f), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, 0x1234);
	expect_eq(event.frame.bx, 0xabcdfffe);
	expect_eq(event.frame.cx & 0xffff, 0x1234);
	expect_eq(*(uint16_t *)(area + 0xfffe), 0x1234);
}

/* --- gates --- */
static void software(void) { asm volatile("int $0x60"); }

RULE(interrupt_gate_checks)
{
	SNIPPET(user_int, "int $0x60; int $0x80");
	expect_eq(run_user(user_int), GP);
	expect_eq(event.error, V << 3 | IDT);
	vector_dpl3(V);
	expect_eq(run_user(user_int), V);
	gate_set(&idt[V], vector_entry(V), SEL_K32, GATE_INT, 0);
	FAULTS(NP, V << 3 | IDT, software());
	gate_set(&idt[V], vector_entry(V), 0, SEG_P | GATE_INT, 0);
	FAULTS(GP, 0, software());
	gate_set(&idt[V], vector_entry(V), SEL_KDATA, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_KDATA, software());
	gate_set(&idt[V], vector_entry(V), SEL_U32, SEG_P | GATE_INT, 0);
	FAULTS(GP, SEL_U32 & ~3, software());
	static const uint8_t bad[] = { 0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13 };
	for (volatile unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
		gate_set(&idt[V], vector_entry(V), SEL_K32, SEG_P | bad[n], 0);
		FAULTS(GP, V << 3 | IDT, software());
	}
	load_idt(8 * V + 6);
	FAULTS(GP, V << 3 | IDT, software());
}

RULE(handler_offset_beyond_its_segment_raises_gp_0)
{
	set(SEL_A, descriptor(0, 0xfff, SEG_P | SEG_CODE, SEG_B));
	gate_set(&idt[V], 0x1000, SEL_A, SEG_P | GATE_INT, 0);
	FAULTS(GP, 0, software());
}

RULE(sixteen_bit_gate_pushes_words)
{
	/* FLAGS, CS, IP as words: the handler looks at its stack. */
	SNIPPET(handler_16, "mov %esp, %ebx; mov (%esp), %eax; movzwl 4(%esp), %ecx; int $0x80");
	gate_set(&idt[V], (word)handler_16, SEL_K32, SEG_P | GATE_INT16, 0);
	idt[V].low &= 0x0000ffffffffffff;	/* no upper offset: the code is beyond 64 KiB */
	set(SEL_A, descriptor((word)handler_16 & ~0xfffful, 0xffff, SEG_P | SEG_CODE, SEG_B));
	gate_set(&idt[V], (word)handler_16 & 0xffff, SEL_A, SEG_P | GATE_INT16, 0);
	FAULTS(USER_EXIT, 0, asm volatile("mov %%esp, %%esi; int $0x60" ::: "esi"));
	expect_eq(event.frame.si - event.frame.bx, 6);
	expect_eq(event.frame.ax >> 16, SEL_K32);
}

RULE(inner_stack_comes_from_the_tss_and_is_checked)
{
	SNIPPET(to_inner, "int $0x80");
	tss.t.esp0 = other_top;
	expect_eq(run_user(to_inner), USER_EXIT);
	expect_eq(event.handler_ss, SEL_KDATA);
	expect_eq(event.frame.ss, SEL_UDATA);
	/* Bad stacks: #TS or #SS, which arrive by a task or at CPL 0 only with a
	 * good stack; here through a conforming handler in ring 3. */
	SNIPPET(ts_handler, "pop %eax; int $0x80");
	set(SEL_A, descriptor(0, 0xfffff, SEG_P | SEG_CONFORMING, SEG_B | SEG_G));
	gate_set(&idt[TS], (word)ts_handler, SEL_A, SEG_P | SEG_DPL(3) | GATE_INT, 0);
	gate_set(&idt[SS], (word)ts_handler, SEL_A, SEG_P | SEG_DPL(3) | GATE_INT, 0);
	SNIPPET(bad_inner, "int $0x60; int $0x80");
	vector_dpl3(V);
	static const struct { uint16_t ss; uint32_t error; } bad[] = {
		{ 0, 0 }, { SEL_UDATA, SEL_UDATA & ~3 }, { SEL_K32, SEL_K32 }, { SEL_KDATA | 3, SEL_KDATA },
		{ 0xfff8, 0xfff8 }, { SEL_B, SEL_B },
	};
	set(SEL_B, descriptor(0, 0xfffff, SEG_DATA, SEG_B | SEG_G));	/* not present: #SS */
	for (volatile unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
		uint16_t ss = bad[n].ss;
		tss.t.ss0 = ss;
		/* INT 80h in the handler needs the stack again: INT 80h by a conforming
		 * gate would not leave; so the handler repairs the TSS first. */
		SNIPPET(ts_repair, "pop %eax; movl $0x18, tss + 8; int $0x80");
		gate_set(&idt[TS], (word)ts_repair, SEL_A, SEG_P | SEG_DPL(3) | GATE_INT, 0);
		gate_set(&idt[SS], (word)ts_repair, SEL_A, SEG_P | SEG_DPL(3) | GATE_INT, 0);
		expect_eq(run_user(bad_inner), USER_EXIT);
		expect_eq(event.frame.ax, bad[n].error);
	}
}

RULE(call_gate_copies_parameters)
{
	SNIPPET(param_gate, "mov 8(%esp), %eax; mov 12(%esp), %ebx; mov 16(%esp), %ecx; mov 20(%esp), %edx; mov %esp, %esi; int $0x80");
	SNIPPET(param_user, "push $0x33; push $0x22; push $0x11; lcall $0x53, $0; int $0x80");
	tss.t.esp0 = other_top;
	set(SEL_A, gate_low((word)param_gate, SEL_K32, SEG_P | SEG_DPL(3) | GATE_CALL, 3));
	expect_eq(run_user(param_user), USER_EXIT);
	expect_eq(event.frame.ax, 0x11);
	expect_eq(event.frame.bx, 0x22);
	expect_eq(event.frame.cx, 0x33);
	expect_eq(event.frame.dx, (word)user_stack_top - 4 - 12);
	expect_eq(event.frame.si, other_top - 28);
}

RULE(call_gate_and_ret_n_go_there_and_back)
{
	SNIPPET(ret_gate, "lret $12");
	SNIPPET(ret_user, "push $0x33; push $0x22; push $0x11; lcall $0x53, $0; mov %esp, %edi; int $0x80");
	tss.t.esp0 = other_top;
	set(SEL_A, gate_low((word)ret_gate, SEL_K32, SEG_P | SEG_DPL(3) | GATE_CALL, 3));
	expect_eq(run_user(ret_user), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U32);
	expect_eq(event.frame.di, (word)user_stack_top - 4);
}

RULE(call_gate_checks)
{
	SNIPPET(gate_call, "lcall $0x53, $0; int $0x80");
	SNIPPET(gate_end, "int $0x80");
	set(SEL_A, gate_low((word)gate_end, SEL_K32, SEG_P | SEG_DPL(2) | GATE_CALL, 0));
	expect_eq(run_user(gate_call), GP);
	expect_eq(event.error, SEL_A);
	set(SEL_A, gate_low((word)gate_end, SEL_K32, SEG_DPL(3) | GATE_CALL, 0));
	expect_eq(run_user(gate_call), NP);
	expect_eq(event.error, SEL_A);
	set(SEL_A, gate_low((word)gate_end, 0, SEG_P | SEG_DPL(3) | GATE_CALL, 0));
	expect_eq(run_user(gate_call), GP);
	expect_eq(event.error, 0);
	set(SEL_A, gate_low((word)gate_end, SEL_KDATA, SEG_P | SEG_DPL(3) | GATE_CALL, 0));
	expect_eq(run_user(gate_call), GP);
	expect_eq(event.error, SEL_KDATA);
}

RULE(conforming_code_is_called_at_the_callers_level)
{
	SNIPPET(conforming_code, "mov %cs, %eax; lret");
	SNIPPET(conforming_user, "lcall $0x50, $conforming_code; int $0x80");
	set(SEL_A, descriptor(0, 0xfffff, SEG_P | SEG_CONFORMING, SEG_B | SEG_G));
	expect_eq(run_user(conforming_user), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, SEL_A | 3);
	/* A conforming segment of an outer level is not for inner code. */
	set(SEL_A, descriptor(0, 0xfffff, SEG_P | SEG_DPL(3) | SEG_CONFORMING, SEG_B | SEG_G));
	FAULTS(GP, SEL_A, asm volatile("lcall $0x50, $conforming_code"));
}

/* --- IRET --- */
RULE(iret_to_outer_and_same_level)
{
	SNIPPET(iret_user, "int $0x80");
	struct entry_frame f = { (word)iret_user, SEL_U32, 2, (word)user_stack_top, SEL_UDATA, 0, 0, 0, 0, 0 };
	expect_eq(run_frame(&f), USER_EXIT);
	expect_eq(event.frame.cs, SEL_U32);
	f.cs = SEL_K32;
	f.ss = SEL_KDATA;
	expect_eq(run_frame(&f), USER_EXIT);
	expect_eq(event.frame.cs, SEL_K32);
}

RULE(iret_checks_its_segments)
{
	SNIPPET(iret_end, "int $0x80");
	struct entry_frame f = { (word)iret_end, 3, 2, (word)user_stack_top, SEL_UDATA, 0, 0, 0, 0, 0 };
	expect_eq(run_frame(&f), GP);
	expect_eq(event.error, 0);
	f.cs = SEL_K32 | 3;
	expect_eq(run_frame(&f), GP);
	expect_eq(event.error, SEL_K32);
	f.cs = SEL_U32;
	f.ss = SEL_KDATA;
	expect_eq(run_frame(&f), GP);
	expect_eq(event.error, SEL_KDATA);
	f.ss = 3;
	expect_eq(run_frame(&f), GP);
	expect_eq(event.error, 0);
	set(SEL_A, descriptor(0, 0xfffff, SEG_DPL(3) | SEG_DATA, SEG_B | SEG_G));
	f.ss = SEL_A | 3;
	expect_eq(run_frame(&f), SS);
	expect_eq(event.error, SEL_A);
}

/* --- tasks --- */
static struct tss32 task __attribute__((aligned(128)));
static uint8_t task_stack[4096] __attribute__((aligned(16)));
static void task_set(const void *entry)
{
	memory_fill(&task, 0, sizeof task);
	task.eip = (word)entry;
	task.eflags = 2;
	task.esp = (word)task_stack + sizeof task_stack;
	task.cs = SEL_K32;
	task.ss = task.ds = task.es = SEL_KDATA;
	task.io_map = sizeof task;
	task.eax = 0x1111;
	task.ebx = 0x2222;
	set(SEL_A, descriptor((word)&task, sizeof task - 1, SEG_P | 9, 0));
}
static unsigned type_of(uint16_t selector) { return gdt[selector / 8] >> 40 & 15; }
enum { TSS_AVAILABLE = 9, TSS_BUSY = 11 };

RULE(jmp_to_a_task_and_back)
{
	NEEDS_TASKS();
	SNIPPET(task_jmp, "mov %eax, task_saw; mov %ebx, task_saw + 4; str task_saw + 8; ljmp $0x40, $0; task_saw: .long 0, 0, 0");
	extern volatile uint32_t task_saw[3];
	task_set(task_jmp);
	FINE(asm volatile("ljmp $0x50, $0" ::: "memory"));
	expect_eq(task_saw[0], 0x1111);
	expect_eq(task_saw[1], 0x2222);
	expect_eq(task_saw[2] & 0xffff, SEL_A);
	expect_eq(type_of(SEL_A), TSS_AVAILABLE);
	expect_eq(type_of(SEL_TSS), TSS_BUSY);
	expect(cr0() & CR0_TS);
	asm volatile("clts");
}

RULE(call_to_a_task_links_and_iret_returns)
{
	NEEDS_TASKS();
	SNIPPET(task_call, "pushf; popl task_flags; iret; task_flags: .long 0");
	extern volatile uint32_t task_flags;
	task_set(task_call);
	FINE(asm volatile("lcall $0x50, $0" ::: "memory"));
	expect_eq(task_flags & FLAG_NT, FLAG_NT);
	expect_eq(task.link, SEL_TSS);
	expect_eq(type_of(SEL_A), TSS_AVAILABLE);
	expect_eq(type_of(SEL_TSS), TSS_BUSY);
	expect_eq(flags() & FLAG_NT, 0);
	/* The returned task continues after its IRET: EIP saved there. */
	expect_eq(task.eip, (word)&task_flags);
	asm volatile("clts");
}

RULE(task_gate_in_the_idt_brings_the_error_code_on_the_new_stack)
{
	NEEDS_TASKS();
	SNIPPET(task_gp, "popl task_error; iret; task_error: .long 0");
	extern volatile uint32_t task_error;
	task_set(task_gp);
	gate_set(&idt[GP], 0, SEL_A, SEG_P | GATE_TASK, 0);
	static volatile bool went_on;
	went_on = false;
	/* The faulting instruction's EIP is in the old TSS: step over it there. */
	extern const uint8_t gp_here[], gp_next[];
	SNIPPET(task_gp_skip, "popl task_error; addl $2, tss + 32; iret");
	task.eip = (word)task_gp_skip;
	FINE(asm volatile("mov $0xfff8, %%eax; gp_here: mov %%eax, %%fs; gp_next: movb $1, %0" : "=m"(went_on) :: "eax"));
	expect_eq(task_error, 0xfff8);
	expect_eq(went_on, 1);
	expect_eq(gp_next - gp_here, 2);
	asm volatile("clts");
}

RULE(task_switch_checks)
{
	SNIPPET(task_end, "int $0x80");
	task_set(task_end);
	set(SEL_A, descriptor((word)&task, sizeof task - 1, 9, 0));
	FAULTS(NP, SEL_A, asm volatile("ljmp $0x50, $0"));
	set(SEL_A, descriptor((word)&task, 0x66, SEG_P | 9, 0));
	FAULTS(TS, SEL_A, asm volatile("ljmp $0x50, $0"));
	set(SEL_A, descriptor((word)&task, sizeof task - 1, SEG_P | 11, 0));
	FAULTS(GP, SEL_A, asm volatile("ljmp $0x50, $0"));	/* busy */
	expect_eq(type_of(SEL_TSS), TSS_BUSY);
	/* IRET with NT through a link to an available TSS */
	tss.t.link = SEL_B;
	set(SEL_B, descriptor((word)&task, sizeof task - 1, SEG_P | 9, 0));
	FAULTS(TS, SEL_B, set_flags(FLAG_NT | 2); asm volatile("iret"));
}

RULE(task_segments_are_checked_in_the_new_task)
{
	NEEDS_TASKS();
	SNIPPET(task_last, "int $0x80");
	static const struct { unsigned offset; uint16_t value; int vector; uint32_t error; } bad[] = {
		{ offsetof(struct tss32, ldt), SEL_KDATA, TS, SEL_KDATA },
		{ offsetof(struct tss32, cs), SEL_KDATA, TS, SEL_KDATA },
		{ offsetof(struct tss32, cs), 0, TS, 0 },
		{ offsetof(struct tss32, ss), 0, TS, 0 },
		{ offsetof(struct tss32, ss), SEL_UDATA, TS, SEL_UDATA & ~3 },
		{ offsetof(struct tss32, ds), 0xfff8, TS, 0xfff8 },
		{ offsetof(struct tss32, ds), SEL_B, NP, SEL_B },
		{ offsetof(struct tss32, ss), SEL_B, SS, SEL_B },
	};
	for (volatile unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
		task_set(task_last);
		set(SEL_B, descriptor(0, 0xfffff, SEG_DATA, SEG_B | SEG_G));
		*(uint32_t *)((uint8_t *)&task + bad[n].offset) = bad[n].value;
		/* The fault comes in the new task; with SS bad it needs a stack: a task
		 * of its own takes it. */
		static struct tss32 taker;
		SNIPPET(taker_code, "popl taker_error; ljmp $0x68, $0; taker_error: .long 0");
		extern volatile uint32_t taker_error;
		static struct tss32 away;
		SNIPPET(away_code, "int $0x80");
		taker = task;
		taker.eip = (word)taker_code;
		taker.ldt = 0;
		taker.cs = SEL_K32;
		taker.ss = taker.ds = SEL_KDATA;
		away = taker;
		away.eip = (word)away_code;
		set(SEL_C, descriptor((word)&taker, sizeof taker - 1, SEG_P | 9, 0));
		set(SEL_D, descriptor((word)&away, sizeof away - 1, SEG_P | 9, 0));
		for (int v = TS; v <= SS; v++)
			gate_set(&idt[v], 0, SEL_C, SEG_P | GATE_TASK, 0);
		set(SEL_TSS, descriptor((word)&tss, sizeof tss - 1, SEG_P | 9, 0));
		asm volatile("ltr %w0" :: "r"(SEL_TSS));
		taker_error = 0x7777;
		FAULTS(USER_EXIT, 0, asm volatile("ljmp $0x50, $0"));
		asm volatile("clts");
		expect_("error code", (int)n, taker_error, bad[n].error);
		expect_eq(taker.link, SEL_A);
	}
	set(SEL_TSS, descriptor((word)&tss, sizeof tss - 1, SEG_P | 9, 0));
	asm volatile("ltr %w0" :: "r"(SEL_TSS));
}

RULE(the_trap_bit_of_a_tss_raises_db_in_the_new_task)
{
	NEEDS_TASKS();
	SNIPPET(task_trap, "nop; int $0x80");
	task_set(task_trap);
	task.trap = 1;
	FAULTS(DB, 0, asm volatile("ljmp $0x50, $0"));
	expect_eq(event.dr6 & 0x8000, 0x8000);
	expect_eq(event.frame.ip, (word)task_trap);
	asm volatile("clts");
}

RULE(a_16_bit_task)
{
	NEEDS_TASKS();
	static struct __attribute__((packed)) {
		uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
	} old;
	SNIPPET16(task_16, "mov %ax, %cs:0x100; iret");
	memory_fill(area, 0, 0x1000);
	memory_copy(area, task_16, (size_t)(task_16_end - task_16));
	memory_fill(&old, 0, sizeof old);
	set(SEL_B, descriptor(AREA, 0xffff, SEG_P | SEG_CODE, 0));
	set(SEL_C, descriptor(AREA, 0xffff, SEG_P | SEG_DATA, 0));
	set(SEL_A, descriptor((word)&old, sizeof old - 1, SEG_P | 1, 0));
	old.cs = SEL_B;
	old.ss = old.ds = old.es = SEL_C;
	old.sp = 0x8000;
	old.flags = 2;
	old.ax = 0x4321;
	SNIPPET16(task_16_data, "mov %ax, 0x100; iret");
	memory_copy(area, task_16_data, (size_t)(task_16_data_end - task_16_data));
	FINE(asm volatile("lcall $0x50, $0" ::: "memory"));
	expect_eq(*(uint16_t *)(area + 0x100), 0x4321);
	expect_eq(old.link, SEL_TSS);
	expect_eq(gdt[SEL_A / 8] >> 40 & 15, 1);
	asm volatile("clts");
}

/* --- virtual-8086 mode --- */
enum { V86_SEGMENT = 0x2000, V86_STACK = 0x3000 };
static int run_v86(const uint8_t *code, size_t n, word extra_flags)
{
	memory_copy((void *)(V86_SEGMENT * 16), code, n);
	struct entry_frame f = { 0, V86_SEGMENT, 2 | FLAG_VM | extra_flags, 0x1000, V86_STACK, 0,
				 0x4000, 0x5000, 0x6000, 0x7000 };
	return run_frame(&f);
}
#define RUN_V86(id, fl) run_v86(id, (size_t)(id##_end - id), fl)

RULE(v86_runs_8086_code_and_its_frame_holds_the_segments)
{
	SNIPPET16(v86_simple, "mov %ds, %ax; mov $0x1234, %bx; push %bx; pop %cx; int $0x80");
	/* INT n with IOPL 3 goes through the IDT. */
	expect_eq(RUN_V86(v86_simple, FLAG_IOPL(3)), USER_EXIT);
	expect_eq(event.frame.ax & 0xffff, 0x5000);
	expect_eq(event.frame.cx & 0xffff, 0x1234);
	expect_eq(event.frame.flags & FLAG_VM, FLAG_VM);
	expect_eq(event.frame.cs, V86_SEGMENT);
	expect_eq(event.frame.ss, V86_STACK);
	expect_eq(event.frame.sp, 0x1000);
	expect_eq(event.frame.v86_es, 0x4000);
	expect_eq(event.frame.v86_ds, 0x5000);
	expect_eq(event.frame.v86_fs, 0x6000);
	expect_eq(event.frame.v86_gs, 0x7000);
	/* The handler's data segments are null. */
	expect_eq(event.frame.fs & 0xffff, 0);
	expect_eq(event.frame.gs & 0xffff, 0);
}

RULE(v86_iopl_sensitive_instructions)
{
	SNIPPET16(v86_cli, "cli; int $0x80");
	SNIPPET16(v86_sti, "sti; int $0x80");
	SNIPPET16(v86_pushf, "pushf; int $0x80");
	SNIPPET16(v86_popf, "pushw $2; popf; int $0x80");
	SNIPPET16(v86_int, "int $0x80");
	SNIPPET16(v86_iret, "iret");
	expect_eq(RUN_V86(v86_cli, FLAG_IOPL(0)), GP);
	expect_eq(event.error, 0);
	expect_eq(RUN_V86(v86_sti, FLAG_IOPL(2)), GP);
	expect_eq(RUN_V86(v86_pushf, FLAG_IOPL(0)), GP);
	expect_eq(RUN_V86(v86_popf, FLAG_IOPL(0)), GP);
	expect_eq(RUN_V86(v86_int, FLAG_IOPL(0)), GP);
	expect_eq(RUN_V86(v86_iret, FLAG_IOPL(0)), GP);
	expect_eq(RUN_V86(v86_cli, FLAG_IOPL(3)), USER_EXIT);
	expect_eq(RUN_V86(v86_pushf, FLAG_IOPL(3)), USER_EXIT);
	expect_eq(RUN_V86(v86_popf, FLAG_IOPL(3)), USER_EXIT);
}

RULE(v86_privileged_instructions_raise_gp)
{
	SNIPPET16(v86_hlt, "hlt"); SNIPPET16(v86_cr, "mov %cr0, %eax"); SNIPPET16(v86_lgdt, "lgdt 0");
	SNIPPET16(v86_clts, "clts");
	expect_eq(RUN_V86(v86_hlt, FLAG_IOPL(3)), GP);
	expect_eq(RUN_V86(v86_cr, FLAG_IOPL(3)), GP);
	expect_eq(RUN_V86(v86_lgdt, FLAG_IOPL(3)), GP);
	expect_eq(RUN_V86(v86_clts, FLAG_IOPL(3)), GP);
}

RULE(v86_protected_mode_instructions_are_ud)
{
	SNIPPET16(v86_lar, "lar %ax, %bx"); SNIPPET16(v86_sldt, "sldt %ax"); SNIPPET16(v86_ltr, "ltr %ax");
	SNIPPET16(v86_verr, "verr %ax"); SNIPPET16(v86_arpl, "arpl %ax, %bx");
	expect_eq(RUN_V86(v86_lar, 0), UD);
	expect_eq(RUN_V86(v86_sldt, 0), UD);
	expect_eq(RUN_V86(v86_ltr, 0), UD);
	expect_eq(RUN_V86(v86_verr, 0), UD);
	expect_eq(RUN_V86(v86_arpl, 0), UD);
}

RULE(v86_io_looks_at_the_bitmap_whatever_iopl_is)
{
	SNIPPET16(v86_in, "in $0x80, %al; int $0x80");
	expect_eq(RUN_V86(v86_in, FLAG_IOPL(3)), GP);
	tss.io_bits[0x80 / 8] = 0xfe;
	expect_eq(RUN_V86(v86_in, FLAG_IOPL(3)), USER_EXIT);
}

RULE(v86_limits_are_64k)
{
	SNIPPET16(v86_high, "mov $0xffff, %bx; mov (%bx), %ax; int $0x80");
	SNIPPET16(v86_32, "mov $0x10000, %ebx; movb (%ebx), %al; int $0x80");
	expect_eq(RUN_V86(v86_high, FLAG_IOPL(3)), GP);
	expect_eq(RUN_V86(v86_32, FLAG_IOPL(3)), GP);
}

RULE(v86_interrupt_to_a_handler_of_another_ring_raises_gp)
{
	/* The handler must be at CPL 0: a ring 3 or conforming segment is not. */
	SNIPPET16(v86_60, "int $0x60");
	gate_set(&idt[V], 0, SEL_U32, SEG_P | SEG_DPL(3) | GATE_INT, 0);
	expect_eq(RUN_V86(v86_60, FLAG_IOPL(3)), GP);
	expect_eq(event.error, SEL_U32 & ~3);
}

RULE(vme_redirects_int_n_by_the_bitmap)
{
	SNIPPET16(vme_int, "int $0x21; int $0x80");
	SNIPPET16(vme_handler, "mov $0x4321, %bx; iret");
	if (!(cpuid(1, 0).d >> 1 & 1)) {
		skip("no VME");
		return;
	}
	memory_copy((void *)0x20800, vme_handler, (size_t)(vme_handler_end - vme_handler));
	*(volatile uint32_t *)(0x21 * 4) = (uint32_t)V86_SEGMENT << 16 | 0x800;
	tss.t.io_map = offsetof(struct tss, io_bits) + 32;
	memory_fill(tss.io_bits, 0xff, 32);
	tss.io_bits[0x21 / 8] &= (uint8_t)~(1 << (0x21 & 7));
	set_cr4(cr4() | CR4_VME);
	expect_eq(RUN_V86(vme_int, FLAG_IOPL(3)), USER_EXIT);
	expect_eq(event.frame.bx & 0xffff, 0x4321);
	set_cr4(cr4() & ~CR4_VME);
}

static bool vme(void)
{
	if (!(cpuid(1, 0).d >> 1 & 1)) {
		skip("no VME");
		return false;
	}
	set_cr4(cr4() | CR4_VME);
	tss.t.io_map = offsetof(struct tss, io_bits) + 32;
	memory_fill(tss.io_bits, 0xff, 32);
	tss.io_bits[0x80 / 8] = 0;	/* INT 80h goes to the 8086 program's own vector ... */
	*(volatile uint32_t *)(0x80 * 4) = (uint32_t)V86_SEGMENT << 16 | 0x700;
	*(volatile uint8_t *)(V86_SEGMENT * 16 + 0x700) = 0xf4;	/* ... a HLT: #GP */
	return true;
}
enum { VIF = 1 << 19, VIP = 1 << 20 };

RULE(vme_makes_if_virtual_below_iopl_3)
{
	SNIPPET16(vme_flags, "sti; pushf; pop %ax; cli; pushf; pop %bx; hlt");
	if (!vme())
		return;
	expect_eq(RUN_V86(vme_flags, FLAG_IOPL(0)), GP);	/* by HLT */
	expect_eq(event.frame.ip, (word)(vme_flags_end - vme_flags) - 1);
	expect_eq(event.frame.ax & (FLAG_IF | FLAG_IOPL(3)), FLAG_IF | FLAG_IOPL(3));
	expect_eq(event.frame.bx & (FLAG_IF | FLAG_IOPL(3)), FLAG_IOPL(3));
	expect_eq(event.frame.flags & (FLAG_IF | VIF | FLAG_IOPL(3)), 0);
}

RULE(vme_popf_and_iret_load_vif)
{
	SNIPPET16(vme_popf, "pushw $0x202; popf; hlt");
	SNIPPET16(vme_iret, "pushw $0x202; push %cs; pushw $8; iret; nop; hlt");
	if (!vme())
		return;
	expect_eq(RUN_V86(vme_popf, FLAG_IOPL(0)), GP);
	expect_eq(event.frame.flags & (FLAG_IF | VIF), VIF);
	expect_eq(RUN_V86(vme_iret, FLAG_IOPL(0)), GP);
	expect_eq(event.frame.ip, 8);
	expect_eq(event.frame.flags & (FLAG_IF | VIF), VIF);
}

RULE(vme_pending_interrupts_and_tf_raise_gp)
{
	SNIPPET16(vme_sti, "nop; sti; hlt");
	SNIPPET16(vme_popf_if, "pushw $0x202; popf; hlt");
	SNIPPET16(vme_popf_tf, "pushw $0x102; popf; hlt");
	SNIPPET16(vme_pushfl, "pushfl; hlt");
	if (!vme())
		return;
	expect_eq(RUN_V86(vme_sti, VIP), GP);
	expect_eq(event.frame.ip, 1);
	expect_eq(RUN_V86(vme_popf_if, VIP), GP);
	expect_eq(event.frame.ip, 3);
	expect_eq(RUN_V86(vme_popf_tf, 0), GP);
	expect_eq(event.frame.ip, 3);
	expect_eq(RUN_V86(vme_pushfl, 0), GP);
	expect_eq(event.frame.ip, 0);
}

RULE(vme_int_below_iopl_3_pushes_vif_as_if)
{
	SNIPPET16(vme_int_80, "sti; int $0x80");
	if (!vme())
		return;
	expect_eq(RUN_V86(vme_int_80, FLAG_IOPL(0)), GP);	/* by HLT at 700h */
	expect_eq(event.frame.ip, 0x700);
	expect_eq(event.frame.flags & VIF, 0);
	volatile uint16_t *pushed = (volatile uint16_t *)(V86_STACK * 16 + (event.frame.sp & 0xffff));
	expect_eq(pushed[0], (word)(vme_int_80_end - vme_int_80));
	expect_eq(pushed[2] & (FLAG_IF | FLAG_IOPL(3)), FLAG_IF | FLAG_IOPL(3));
	/* A vector whose bit is set is no longer the program's: #GP below IOPL 3. */
	SNIPPET16(vme_int_60, "int $0x60");
	expect_eq(RUN_V86(vme_int_60, FLAG_IOPL(0)), GP);
	expect_eq(event.frame.ip, 0);
}

RULE(pvi_makes_cli_and_sti_virtual_in_ring_3)
{
	SNIPPET(pvi, "sti; pushf; pop %eax; cli; pushf; pop %ebx; int $0x80");
	if (!(cpuid(1, 0).d >> 1 & 1)) {
		skip("no PVI");
		return;
	}
	set_cr4(cr4() | CR4_PVI);
	expect_eq(run_user(pvi), USER_EXIT);
	expect_eq(event.frame.ax & (FLAG_IF | VIF), VIF);
	expect_eq(event.frame.bx & (FLAG_IF | VIF), 0);
}

/* --- real mode --- */
/* The program at 8000h goes to real mode, runs the snippet at 9000h, which
 * ends by INT 81h, and comes back with its registers at 8f00h. */
enum { REAL_PROGRAM = 0x8000, REAL_SNIPPET = 0x9000, REAL_SAVED = 0x8f00 };
SNIPPET32(real_go,
	"mov %esp, 0x8ef0; ljmp $0x58, $(real_16 - real_go);"
	".code16; real_16: mov $0x60, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs;"
	"mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0; ljmp $0x800, $(real_flat - real_go);"
	"real_flat: xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0x7f00, %sp; lidtl 0x8ee0;"
	"ljmp $0, $0x9000;"
	/* INT 81h comes here: */
	"real_back: cli; mov %eax, %cs:0xf00; mov %ebx, %cs:0xf04; mov %ecx, %cs:0xf08; mov %edx, %cs:0xf0c; mov %esp, %cs:0xf10;"
	"mov %ss, %cs:0xf14; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x08, $(0x8000 + real_32 - real_go);"
	".code32; real_32: mov $0x18, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov 0x8ef0, %esp; ret");
extern const uint8_t real_back[];
static struct { uint32_t ax, bx, cx, dx, sp; uint16_t ss; } real;

static void run_real(const uint8_t *code, size_t n)
{
	/* SEL_B is used as 58h: 16-bit code at the program; SEL_C as 60h: data. */
	set(SEL_B, descriptor(REAL_PROGRAM, 0xffff, SEG_P | SEG_CODE, 0));
	set(SEL_C, descriptor(0, 0xffff, SEG_P | SEG_DATA, 0));
	memory_copy((void *)REAL_PROGRAM, real_go, (size_t)(real_go_end - real_go));
	memory_copy((void *)REAL_SNIPPET, code, n);
	*(volatile uint16_t *)0x8ee0 = 0x3ff;
	*(volatile uint32_t *)0x8ee2 = 0;
	uint32_t back = 0x08000000 | (uint32_t)(real_back - real_go);
	for (unsigned v = 0; v < 256; v++)
		*(volatile uint32_t *)(4 * v + 0ul) = back;
	asm volatile("pusha; call *%0; popa" :: "r"(REAL_PROGRAM) : "memory");
	load_idt(sizeof idt - 1);
	memory_copy(&real, (void *)REAL_SAVED, sizeof real);
}
#define RUN_REAL(id) run_real(id, (size_t)(id##_end - id))
/* What INT pushed: IP, CS, FLAGS. */
static uint16_t real_pushed(unsigned n) { return *(volatile uint16_t *)((real.sp & 0xffff) + 2 * n); }

RULE(real_mode_there_and_back)
{
	SNIPPET16(real_simple, "mov $0x1234, %ax; mov $0xffff, %dx; mov %dx, %ds; mov %ds:0x10, %bx; int $0x81");
	*(volatile uint16_t *)0x100000 = *(volatile uint16_t *)0x100000;
	RUN_REAL(real_simple);
	expect_eq(real.ax & 0xffff, 0x1234);
	expect_eq(real.bx & 0xffff, *(volatile uint16_t *)0x100000);	/* FFFF:0010 */
}

RULE(real_mode_int_uses_the_vector_table)
{
	SNIPPET16(real_int, "pushw $0x7; popf; sti; int $0x33; nop");
	RUN_REAL(real_int);
	expect_eq(real_pushed(0), REAL_SNIPPET + (word)(real_int_end - real_int) - 1);
	expect_eq(real_pushed(1), 0);
	expect_eq(real_pushed(2) & FLAG_IF, FLAG_IF);
	expect_eq(real.sp & 0xffff, 0x7f00 - 6);
}

RULE(real_mode_limit_is_64k_and_raises_gp_or_ss)
{
	SNIPPET16(real_limit, "mov $0xffff, %bx; real_limit_at: mov (%bx), %ax; int $0x81");
	extern const uint8_t real_limit_at[];
	RUN_REAL(real_limit);
	expect_eq(real_pushed(0), REAL_SNIPPET + (word)(real_limit_at - real_limit));
}

RULE(real_mode_keeps_a_large_limit_from_protected_mode)
{
	/* "Unreal": FS gets 4 GiB in protected mode, then real mode reads above. */
	SNIPPET16(real_big, "mov $1, %ax; mov %cr0, %ebx; or %al, %bl; mov %ebx, %cr0; mov $0x18, %cx; mov %cx, %fs;"
		"and $0xfe, %bl; mov %ebx, %cr0; mov $0x100000, %esi; mov %fs:(%esi), %eax; int $0x81");
	RUN_REAL(real_big);
	expect_eq(real.ax, *(volatile uint32_t *)0x100000);
}

RULE(real_mode_div_error_vector_0_has_no_error_code)
{
	SNIPPET16(real_div, "xor %bx, %bx; real_div_at: div %bl; int $0x81");
	extern const uint8_t real_div_at[];
	RUN_REAL(real_div);
	expect_eq(real_pushed(0), REAL_SNIPPET + (word)(real_div_at - real_div));
	expect_eq(real.sp & 0xffff, 0x7f00 - 6);
}

RULE(real_mode_protected_instructions_are_ud)
{
	SNIPPET16(real_lar, "xor %bx, %bx; lar %ax, %cx; int $0x81");
	*(volatile uint32_t *)0 = 0;
	RUN_REAL(real_lar);
	expect_eq(real_pushed(0), REAL_SNIPPET + 2);
}

/* --- the rest --- */
RULE(bound_raises_br_and_into_raises_of)
{
	static const int32_t bounds[2] = { 1, 5 };
	FAULTS(BR, 0, asm volatile("bound %0, %1" :: "r"(6), "m"(bounds)));
	FINE(asm volatile("bound %0, %1" :: "r"(5), "m"(bounds)));
	FAULTS(BR, 0, asm volatile("bound %0, %1" :: "r"(0), "m"(bounds)));
	FAULTS(OF, 0, asm volatile("mov $0x7f, %%al; inc %%al; into" ::: "eax"));
	FINE(asm volatile("xor %%eax, %%eax; into" ::: "eax"));
}

RULE(arpl_raises_the_rpl)
{
	uint16_t a = 0x50, b = 0x23;
	bool z;
	asm volatile("arpl %2, %0; setz %1" : "+r"(a), "=q"(z) : "r"(b));
	expect_eq(a, 0x53);
	expect_eq(z, 1);
	asm volatile("arpl %2, %0; setz %1" : "+r"(a), "=q"(z) : "r"((uint16_t)1));
	expect_eq(a, 0x53);
	expect_eq(z, 0);
}

RULE(lmsw_sets_pe_but_cannot_clear_it)
{
	FINE(asm volatile("lmsw %w0" :: "r"(0)));
	expect_eq(cr0() & CR0_PE, CR0_PE);
}

RULE(paging_cannot_be_set_without_protection)
{
	FAULTS(GP, 0, set_cr0((cr0() & ~CR0_PE) | CR0_PG));
}

RULE(efer_lme_and_pae_rules)
{
	/* PG with LME but without PAE */
	wrmsr(EFER, EFER_LME);
	FAULTS(GP, 0, set_cr0(cr0() | CR0_PG));
	wrmsr(EFER, 0);
	/* PCIDE outside IA-32e mode */
	if (cpuid(1, 0).c >> 17 & 1)
		FAULTS(GP, 0, set_cr4(cr4() | CR4_PCIDE));
}
