/* Events and VMX: exceptions that exit, events that VM entry injects, windows,
 * timers and what happens between two instructions (SDM vol. 3, "VM Exits" and
 * "Event Injection"). */
#include "vtx_guest.h"

/* --- exceptions --- */

static void test_exception_bitmap(void **state)
{
	GUEST(0x0f, 0x0b);	/* UD2 */
	set(machine, EXCEPTION_BITMAP, BIT(EXC_UD));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RFLAGS) & FLAG_RF, FLAG_RF);
	/* Without the bit it is the guest's. */
	GUEST(0x0f, 0x0b);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_HANDLERS + EXC_UD * 16);
	/* INT3: RIP at it, and its length. */
	GUEST(0xcc);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_BP));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_SOFTWARE_EXCEPTION << VMX_INFO_TYPE_SHIFT | EXC_BP);
	assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), 1);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RFLAGS) & FLAG_RF, 0);
	/* INT 3 as INT n is no exception. */
	GUEST(0xcd, 0x03);
	set(machine, EXCEPTION_BITMAP, UINT32_MAX);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
}

/* MOV AL, [2 MiB * 3]: beyond the mapping. */
static void page_fault(uint32_t bitmap, uint32_t mask, uint32_t match)
{
	GUEST(0x8a, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00);
	set(machine, EXCEPTION_BITMAP, bitmap);
	set(machine, PAGE_FAULT_MASK, mask);
	set(machine, PAGE_FAULT_MATCH, match);
	enter();
	machine->cpu->cr2 = 0x1234;
	machine_step(machine);
}

static void test_page_fault_mask(void **state)
{
	page_fault(BIT(EXC_PF), 0, 0);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(info(EXIT_QUALIFICATION), 0x600000);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_PF);
	assert_int_equal(info(EXIT_INTERRUPTION_ERROR), 0);
	assert_int_equal(machine->cpu->cr2, 0x1234);	/* an exit leaves CR2 alone */
	page_fault(BIT(EXC_PF), PF_W, PF_W);
	assert_true(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->cr2, 0x600000);
	page_fault(0, PF_W, PF_W);
	assert_false(machine->cpu->nonroot);
	page_fault(0, PF_W, 0);
	assert_true(machine->cpu->nonroot);
}

static void test_triple_fault(void **state)
{
	GUEST(0x0f, 0x0b);
	set(machine, GUEST_IDTR_LIMIT, 0);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_TRIPLE_FAULT);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_ACTIVE);
	assert_false(machine->died);
}

/* A #GP while #UD is delivered exits, and says what was being delivered. */
static void test_idt_vectoring(void **state)
{
	GUEST(0x0f, 0x0b);
	set(machine, GUEST_IDTR_LIMIT, 0);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_GP));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_GP);
	assert_int_equal(info(IDT_VECTORING_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* #DF itself: nothing was being delivered, says the manual. */
	GUEST(0x8a, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00);
	set(machine, GUEST_IDTR_LIMIT, 0);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DF));
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO), VMX_INFO_VALID | VMX_INFO_ERROR_CODE |
			 EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_DF);
	assert_int_equal(info(IDT_VECTORING_INFO), 0);
}

/* --- injection --- */

static uint64_t stacked(unsigned n)
{
	uint64_t value = 0;
	memory_read(machine->memory, machine->cpu->r[RSP] + 8 * n, &value, sizeof value);
	return value;
}

static void inject(unsigned type, unsigned vector, uint32_t flags, uint32_t error, unsigned length)
{
	GUEST(0x90);
	set(machine, ENTRY_INTERRUPTION_INFO,
	    VMX_INFO_VALID | type << VMX_INFO_TYPE_SHIFT | vector | flags);
	set(machine, ENTRY_ERROR_CODE, error);
	set(machine, ENTRY_INSTRUCTION_LENGTH, length);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	machine_launch(machine);
	assert_int_equal(machine->v->last_failure, CHECK_PASSED);
}

static void test_injection(void **state)
{
	struct cpu *cpu = machine->cpu;
	inject(EVENT_TYPE_EXTERNAL, 0x31, 0, 0, 0);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + 0x31 * 16);
	assert_int_equal(stacked(0), AT_GUEST_CODE);
	assert_int_equal(stacked(2), FLAG_FIXED | FLAG_IF);
	inject(EVENT_TYPE_HARDWARE, EXC_GP, VMX_INFO_ERROR_CODE, 0x1238, 0);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + EXC_GP * 16);
	assert_int_equal(stacked(0), 0x1238);
	assert_int_equal(stacked(1), AT_GUEST_CODE);
	assert_int_equal(stacked(3), FLAG_FIXED | FLAG_IF);	/* RF as the VMCS has it */
	cpu->cr2 = 0;
	inject(EVENT_TYPE_HARDWARE, EXC_PF, VMX_INFO_ERROR_CODE, 2, 0);
	assert_int_equal(cpu->cr2, 0);
	inject(EVENT_TYPE_SOFTWARE, 0x80, 0, 0, 2);
	assert_int_equal(cpu->r[REG_RIP], AT_HANDLERS + 0x80 * 16);
	assert_int_equal(stacked(0), AT_GUEST_CODE + 2);
	inject(EVENT_TYPE_SOFTWARE_EXCEPTION, EXC_BP, 0, 0, 1);
	assert_int_equal(stacked(0), AT_GUEST_CODE + 1);
	inject(EVENT_TYPE_NMI, EXC_NMI, 0, 0, 0);
	assert_true(cpu->nmi_blocked);
	/* The valid bit is cleared by the next exit, not by the entry. */
	assert_true(info(ENTRY_INTERRUPTION_INFO) & VMX_INFO_VALID);
	cpu->r[REG_RIP] = AT_GUEST_CODE;
	machine_guest_code(machine, (const uint8_t[]){ 0x0f, 0xa2 }, 2);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_false(info(ENTRY_INTERRUPTION_INFO) & VMX_INFO_VALID);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_NMI);
}

/* An exit in the delivery of an injected event returns it in IDT-vectoring form. */
static void test_injection_exits(void **state)
{
	GUEST(0x90);
	set(machine, GUEST_IDTR_BASE, 0x600000);	/* not mapped */
	set(machine, EXCEPTION_BITMAP, BIT(EXC_PF));
	set(machine, ENTRY_INTERRUPTION_INFO,
	    VMX_INFO_VALID | EVENT_TYPE_SOFTWARE << VMX_INFO_TYPE_SHIFT | 0x80);
	set(machine, ENTRY_INSTRUCTION_LENGTH, 2);
	machine_launch(machine);
	assert_false(machine->cpu->nonroot);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(IDT_VECTORING_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_SOFTWARE << VMX_INFO_TYPE_SHIFT | 0x80);
	assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), 2);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RSP), AT_STACK);
}

/* --- windows, NMIs, interrupts --- */

static void test_interrupt_window(void **state)
{
	GUEST(0xfb, 0x90, 0x90);	/* STI; NOP; NOP */
	PRIMARY_ON(INTERRUPT_WINDOW);
	enter();
	machine_step(machine);		/* STI */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);		/* NOP, in the shadow */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 2);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), 0);
	/* Open from the beginning: nothing of the guest runs. */
	GUEST(0x90);
	PRIMARY_ON(INTERRUPT_WINDOW);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* HLT with the window open leaves HLT in the activity state. */
	GUEST(0x90);
	PRIMARY_ON(INTERRUPT_WINDOW);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_IF);
	set(machine, GUEST_ACTIVITY, ACTIVITY_HLT);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_HLT);
	assert_int_equal(machine->cpu->activity, ACTIVITY_ACTIVE);
}

static void test_virtual_nmis(void **state)
{
	GUEST(0x48, 0xcf);	/* IRETQ */
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	PRIMARY_ON(NMI_WINDOW);
	set(machine, GUEST_INTERRUPTIBILITY, VMX_BLOCKING_NMI);
	set(machine, GUEST_RSP, AT_STACK - 40);
	const uint64_t frame[5] = { AT_GUEST_CODE + 0x10, SELECTOR_CODE, FLAG_FIXED, AT_STACK, SELECTOR_DATA };
	memory_write(machine->memory, AT_STACK - 40, frame, sizeof frame);
	enter();
	assert_false(machine->cpu->nmi_blocked);	/* the machine's NMIs are open */
	machine_step(machine);				/* IRETQ unblocks virtual NMIs */
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_NMI_WINDOW);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 0x10);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), 0);
	/* An IRET that faults after it unblocked says so in bit 12. */
	GUEST(0x48, 0xcf);
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_PF));
	set(machine, GUEST_INTERRUPTIBILITY, VMX_BLOCKING_NMI);
	set(machine, GUEST_RSP, 0x600000);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_true(info(EXIT_INTERRUPTION_INFO) & VMX_INFO_NMI_UNBLOCKED);
	/* A real NMI exits, and blocks in the host. */
	GUEST(0x90);
	PIN_ON(NMI);
	PIN_ON(VIRTUAL_NMIS);
	enter();
	atomic_fetch_or(&machine->cpu->events, EVENT_NMI);
	machine_step(machine);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO),
			 VMX_INFO_VALID | EVENT_TYPE_NMI << VMX_INFO_TYPE_SHIFT | EXC_NMI);
	assert_true(machine->cpu->nmi_blocked);
	assert_false(machine->cpu->nmi_pending);
}

/* INTR of the 8259 pair. */
static void wire_set(bool level)
{
	pthread_mutex_t *lock = bus_lock(machine->engine->host.bus);
	pthread_mutex_lock(lock);
	soft_engine_ops.extint(machine->engine, level);
	pthread_mutex_unlock(lock);
}

static void test_external_interrupt(void **state)
{
	for (unsigned acknowledge = 0; acknowledge < 2; acknowledge++) {
		GUEST(0x90);
		PIN_ON(EXTERNAL_INTERRUPT);
		if (acknowledge)
			EXIT_ON(ACKNOWLEDGE_INTERRUPT);
		enter();
		wire_set(true);
		machine_step(machine);	/* RFLAGS.IF of the guest is 0 */
		wire_set(false);
		assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXTERNAL_INTERRUPT);
		assert_int_equal(info(EXIT_INTERRUPTION_INFO), acknowledge ?
				 VMX_INFO_VALID | EVENT_TYPE_EXTERNAL << VMX_INFO_TYPE_SHIFT | 0x30 : 0);
		assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	}
}

static void test_monitor_trap(void **state)
{
	GUEST(0x90, 0x90);
	PRIMARY_ON(MONITOR_TRAP);
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
	/* After an injected event: before the handler's first instruction. */
	inject(EVENT_TYPE_EXTERNAL, 0x31, 0, 0, 0);
	assert_true(machine->cpu->nonroot);
	GUEST(0x90);
	PRIMARY_ON(MONITOR_TRAP);
	set(machine, ENTRY_INTERRUPTION_INFO, VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_HANDLERS + EXC_UD * 16);
	/* Injected itself, without the control. */
	GUEST(0x90);
	set(machine, ENTRY_INTERRUPTION_INFO, VMX_INFO_VALID | EVENT_TYPE_OTHER << VMX_INFO_TYPE_SHIFT);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* An exception instead of the instruction: before its handler. */
	GUEST(0x0f, 0x0b);
	PRIMARY_ON(MONITOR_TRAP);
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_MONITOR_TRAP);
	assert_int_equal(info(GUEST_RIP), AT_HANDLERS + EXC_UD * 16);
}

static void test_preemption_timer(void **state)
{
	struct clock *clock = machine->engine->host.clock;
	GUEST(0x90);
	PIN_ON(PREEMPTION_TIMER);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);	/* 0: no instruction ran */
	GUEST(0x90, 0x90, 0x90);
	PIN_ON(PREEMPTION_TIMER);
	EXIT_ON(SAVE_PREEMPTION_TIMER);
	set(machine, PREEMPTION_TIMER, 10);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	clock_advance(clock, 10 * PREEMPTION_TIMER_TICK_NS);
	clock_run_due(clock);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
	assert_int_equal(info(PREEMPTION_TIMER), 0);
	/* The rest is saved. */
	GUEST(0x90, 0x0f, 0xa2);
	PIN_ON(PREEMPTION_TIMER);
	EXIT_ON(SAVE_PREEMPTION_TIMER);
	set(machine, PREEMPTION_TIMER, 100);
	enter();
	machine_step(machine);
	clock_advance(clock, 30 * PREEMPTION_TIMER_TICK_NS);
	clock_run_due(clock);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(info(PREEMPTION_TIMER), 70);
}

static void test_pending_debug(void **state)
{
	GUEST(0x90);
	set(machine, GUEST_PENDING_DEBUG, VMX_PENDING_DEBUG_BS);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DB));
	enter();
	machine->cpu->dr6 = DR6_FIXED;
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_QUALIFICATION), DR6_BS);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(machine->cpu->dr6, DR6_FIXED);	/* an exit leaves DR6 alone */
	/* Single step: after the instruction. */
	GUEST(0x90);
	set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_TF);
	set(machine, EXCEPTION_BITMAP, BIT(EXC_DB));
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_QUALIFICATION), DR6_BS);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE + 1);
}

/* MOV SS, then an instruction that exits in its shadow. */
static void test_interruptibility(void **state)
{
	GUEST(0x8e, 0xd0, 0x0f, 0xa2);	/* MOV SS, EAX; CPUID */
	enter();
	machine->cpu->r[RAX] = SELECTOR_DATA;
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_CPUID);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_MOV_SS);
	assert_int_equal(machine->cpu->inhibit, 0);
	GUEST(0xfb, 0x0f, 0xa2);	/* STI; CPUID */
	enter();
	machine_step(machine);
	machine_step(machine);
	assert_int_equal(info(GUEST_INTERRUPTIBILITY), VMX_BLOCKING_STI);
}

/* --- INIT and start-up IPI, PAUSE loops, task switches --- */

static void test_init_sipi(void **state)
{
	GUEST(0x90);
	enter();
	atomic_fetch_or(&machine->cpu->events, EVENT_INIT);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INIT);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	/* In root operation INIT waits; the next entry sees it. */
	GUEST(0x90);
	atomic_fetch_or(&machine->cpu->events, EVENT_INIT);
	machine_launch(machine);
	assert_true(machine->cpu->nonroot);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_INIT);
	/* A start-up IPI exits only from wait-for-SIPI. */
	GUEST(0x90);
	enter();
	machine->cpu->sipi_vector = 0x9a;
	atomic_fetch_or(&machine->cpu->events, EVENT_SIPI);
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	GUEST(0x90);
	set(machine, GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
	enter();
	machine_step(machine);
	assert_int_equal(machine->cpu->r[REG_RIP], AT_GUEST_CODE);
	atomic_fetch_or(&machine->cpu->events, EVENT_SIPI);
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_SIPI);
	assert_int_equal(info(EXIT_QUALIFICATION), 0x9a);
	assert_int_equal(info(GUEST_ACTIVITY), ACTIVITY_WAIT_FOR_SIPI);
}

/* PAUSE; JMP back: the window is 1000 TSC ticks, the gap 100; the TSC runs at
 * 2 ticks a nanosecond. Returns how many PAUSEs ran before the exit, at most 20. */
static unsigned pauses(unsigned ns_between, unsigned cpl)
{
	GUEST(0xf3, 0x90, 0xeb, 0xfc);
	SECONDARY_ON(PAUSE_LOOP);
	set(machine, PLE_GAP, 100);
	set(machine, PLE_WINDOW, 1000);
	if (cpl) {
		set(machine, GUEST_CS_SELECTOR, SELECTOR_CODE | cpl);
		set(machine, GUEST_CS_ACCESS_RIGHTS, 0xa09b | cpl << AR_DPL_SHIFT);
		set(machine, GUEST_SS_SELECTOR, SELECTOR_DATA | cpl);
		set(machine, GUEST_SS_ACCESS_RIGHTS, 0xc093 | cpl << AR_DPL_SHIFT);
	}
	enter();
	for (unsigned n = 0; n < 20; n++) {
		machine_step(machine);
		if (!machine->cpu->nonroot) {
			assert_int_equal(info(EXIT_REASON), VMX_EXIT_PAUSE);
			return n;
		}
		clock_advance(machine->engine->host.clock, ns_between);
		machine_step(machine);
	}
	return 20;
}

static void test_pause_loop(void **state)
{
	assert_in_range(pauses(45, 0), 11, 12);	/* 90 ticks apart: the window is over after 11 */
	assert_int_equal(pauses(60, 0), 20);	/* 120 apart: never a loop */
	assert_int_equal(pauses(45, 3), 20);	/* only at CPL 0 */
}

static void test_task_switch(void **state)
{
	enum { SELECTOR_NEW_TSS = 0x20, TASK_GATE = 0x85, AT_NEW_TSS = 0x8000 };
	static const uint8_t jump[] = { 0xea, 0, 0, 0, 0, SELECTOR_NEW_TSS, 0 }, ud2[] = { 0x0f, 0x0b };
	const uint64_t tss = 0x67 | (uint64_t)AT_NEW_TSS << 16 | 0x89ull << 40;
	const uint64_t gate = SELECTOR_NEW_TSS << 16 | (uint64_t)TASK_GATE << 40;
	for (unsigned by_gate = 0; by_gate < 2; by_gate++) {
		machine_prepare(machine, GUEST_32);
		machine_guest_code(machine, by_gate ? ud2 : jump, by_gate ? sizeof ud2 : sizeof jump);
		memory_write(machine->memory, AT_GDT + SELECTOR_NEW_TSS, &tss, sizeof tss);
		memory_write(machine->memory, AT_OPERAND + 8 * EXC_UD, &gate, sizeof gate);
		set(machine, GUEST_GDTR_LIMIT, SELECTOR_NEW_TSS + 7);
		set(machine, GUEST_IDTR_BASE, AT_OPERAND);
		enter();
		machine_step(machine);
		assert_int_equal(info(EXIT_REASON), VMX_EXIT_TASK_SWITCH);
		assert_true(info(EXIT_QUALIFICATION) == (SELECTOR_NEW_TSS |
			(uint64_t)(by_gate ? TASK_SWITCH_GATE : TASK_SWITCH_JMP) <<
			VMX_QUALIFICATION_TASK_SOURCE_SHIFT));
		assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
		if (by_gate)
			assert_int_equal(info(IDT_VECTORING_INFO),
				VMX_INFO_VALID | EVENT_TYPE_HARDWARE << VMX_INFO_TYPE_SHIFT | EXC_UD);
		else
			assert_int_equal(info(EXIT_INSTRUCTION_LENGTH), sizeof jump);
		/* The task itself was not switched. */
		assert_int_equal(info(GUEST_TR_SELECTOR), SELECTOR_TSS);
	}
}

/* --- what only a hypervisor's guest meets --- */

enum { SELECTOR_USER_DATA = 0x23, SELECTOR_USER_CODE = 0x2b, SELECTOR_FRESH = 0x30,
       AT_READ_ONLY = 0x200000 };

static void descriptor_put(uint64_t table, unsigned selector, uint64_t descriptor)
{
	memory_write(machine->memory, table + (selector & ~7u), &descriptor, sizeof descriptor);
}

/* A hypervisor may enter its guest with a null FS whose hidden part is usable
 * and of level 0. IRET to level 3 makes it null again, but keeps its base. */
static void test_iret_keeps_fs_base(void **state)
{
	const uint64_t frame[5] = { AT_GUEST_CODE + 0x10, SELECTOR_USER_CODE, FLAG_FIXED, AT_STACK,
				    SELECTOR_USER_DATA };
	GUEST(0x48, 0xcf);	/* IRETQ */
	descriptor_put(AT_GDT, SELECTOR_USER_DATA, 0x00cff3000000ffffull);
	descriptor_put(AT_GDT, SELECTOR_USER_CODE, 0x00affb000000ffffull);
	memory_write(machine->memory, AT_STACK - sizeof frame, frame, sizeof frame);
	set(machine, GUEST_GDTR_LIMIT, 0xff);
	set(machine, GUEST_RSP, AT_STACK - sizeof frame);
	set(machine, GUEST_FS_SELECTOR, 0);
	set(machine, GUEST_FS_BASE, 0x7f0012345000);
	enter();
	machine_step(machine);
	assert_true(machine->cpu->nonroot);
	assert_int_equal(machine->cpu->cpl, 3);
	assert_int_equal(machine->cpu->seg[SEG_FS].access_rights & AR_UNUSABLE, AR_UNUSABLE);
	assert_true(machine->cpu->seg[SEG_FS].base == 0x7f0012345000);
}

/* Under shadow paging the guest's GDT is write-protected: to set a code
 * segment's accessed flag faults, and the far return must start over. */
static void test_accessed_flag_faults(void **state)
{
	const uint64_t frame[2] = { AT_GUEST_CODE + 0x10, SELECTOR_FRESH };
	const uint64_t read_only = AT_READ_ONLY | PTE_PS | PTE_P;
	GUEST(0x48, 0xcb);	/* far RET */
	memory_write(machine->memory, AT_PD + 8, &read_only, sizeof read_only);
	descriptor_put(AT_READ_ONLY, SELECTOR_FRESH, 0x00af9a000000ffffull);
	memory_write(machine->memory, AT_STACK - sizeof frame, frame, sizeof frame);
	set(machine, GUEST_CR0, info(GUEST_CR0) | CR0_WP);
	set(machine, GUEST_GDTR_BASE, AT_READ_ONLY);
	set(machine, GUEST_GDTR_LIMIT, 0xff);
	set(machine, GUEST_RSP, AT_STACK - sizeof frame);
	set(machine, EXCEPTION_BITMAP, UINT32_MAX);
	enter();
	machine_step(machine);
	assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(info(EXIT_INTERRUPTION_INFO) & VMX_INFO_VECTOR, EXC_PF);
	assert_int_equal(info(EXIT_INTERRUPTION_ERROR), PF_P | PF_W);
	assert_int_equal(info(EXIT_QUALIFICATION), AT_READ_ONLY + SELECTOR_FRESH + 5);
	assert_int_equal(info(GUEST_RIP), AT_GUEST_CODE);
	assert_int_equal(info(GUEST_RSP), AT_STACK - sizeof frame);
	assert_int_equal(info(GUEST_CS_SELECTOR), SELECTOR_CODE);
}

/* --- real mode without "unrestricted guest" --- */

/* INT 15h in virtual-8086 mode with CR4.VME: the redirection bitmap decides
 * between the 8086 program's own handler and the IDT. */
static void test_redirected_interrupt(void **state)
{
	enum { IO_MAP = 0x88, TSS_LIMIT = 0x2088, VECTOR = 0x15, OFFSET = 0x200, SEGMENT = 0x120 };
	static const uint8_t int_15[] = { 0xcd, VECTOR };
	for (unsigned to_idt = 0; to_idt < 2; to_idt++) {
		const uint16_t io_map = IO_MAP, ivt[2] = { OFFSET, SEGMENT };
		const uint8_t bitmap = to_idt ? BIT(VECTOR % 8) : 0;
		machine_prepare(machine, GUEST_V86);
		set(machine, GUEST_CR4, info(GUEST_CR4) | CR4_VME);
		set(machine, GUEST_RFLAGS, FLAG_FIXED | FLAG_VM | FLAG_IOPL | FLAG_IF);
		set(machine, GUEST_TR_LIMIT, TSS_LIMIT);
		set(machine, GUEST_RSP, 0x100);
		set(machine, EXCEPTION_BITMAP, UINT32_MAX);
		memory_write(machine->memory, AT_TSS + 102, &io_map, sizeof io_map);
		memory_write(machine->memory, AT_TSS + IO_MAP - 32 + VECTOR / 8, &bitmap, 1);
		memory_write(machine->memory, VECTOR * 4, ivt, sizeof ivt);
		machine_guest_code(machine, int_15, sizeof int_15);
		set(machine, GUEST_IDTR_LIMIT, 0);
		enter();
		machine_step(machine);
		if (to_idt) {
			assert_int_equal(info(EXIT_REASON), VMX_EXIT_EXCEPTION_NMI);
			assert_int_equal(info(EXIT_INTERRUPTION_INFO) & VMX_INFO_VECTOR, EXC_GP);
			assert_int_equal(info(EXIT_INTERRUPTION_ERROR), VECTOR << 3 | 2);
			continue;
		}
		assert_true(machine->cpu->nonroot);
		assert_int_equal(machine->cpu->r[REG_RIP], OFFSET);
		assert_int_equal(machine->cpu->seg[SEG_CS].selector, SEGMENT);
		assert_int_equal(machine->cpu->seg[SEG_CS].base, SEGMENT << 4);
		assert_int_equal(machine->cpu->r[RSP], 0x100 - 6);
		assert_int_equal(machine->cpu->sysflags & FLAG_IF, 0);
		assert_int_equal(machine->cpu->sysflags & FLAG_VM, FLAG_VM);
		uint16_t frame[3];
		memory_read(machine->memory, AT_GUEST_CODE + 0x100 - 6, frame, sizeof frame);
		assert_int_equal(frame[0], 2);
		assert_int_equal(frame[1], AT_GUEST_CODE >> 4);
		assert_int_equal(frame[2], FLAG_FIXED | FLAG_IOPL | FLAG_IF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exception_bitmap),
		cmocka_unit_test(test_page_fault_mask),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_idt_vectoring),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_injection_exits),
		cmocka_unit_test(test_interrupt_window),
		cmocka_unit_test(test_virtual_nmis),
		cmocka_unit_test(test_external_interrupt),
		cmocka_unit_test(test_monitor_trap),
		cmocka_unit_test(test_preemption_timer),
		cmocka_unit_test(test_pending_debug),
		cmocka_unit_test(test_interruptibility),
		cmocka_unit_test(test_init_sipi),
		cmocka_unit_test(test_pause_loop),
		cmocka_unit_test(test_task_switch),
		cmocka_unit_test(test_iret_keeps_fs_base),
		cmocka_unit_test(test_accessed_flag_faults),
		cmocka_unit_test(test_redirected_interrupt),
	};
	return cmocka_run_group_tests(tests, machine_setup, machine_teardown);
}
