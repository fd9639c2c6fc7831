/* VM exits by what happens to the guest: exceptions, the monitor trap flag, the
 * preemption timer, interrupts and NMIs; the events a hypervisor injects, the
 * windows it waits for, and the TPR shadow (SDM vol. 3, "VMX Non-Root
 * Operation", "VM Entries", "VM Exits"). The other half of the chapter that
 * vmx_exits.c begins. */
#include "rt/vmx.h"

SNIPPET(call_out, "vmcall");

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
