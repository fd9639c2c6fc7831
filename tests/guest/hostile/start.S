/* Multiboot 1 entry, and recovery: every vector, whatever the state it finds,
 * leads to next_case() with the registers, tables and segments of the core.
 *
 * 64-bit: every gate has an interrupt stack (IST 1), so a ruined RSP does not
 * matter. 32-bit: every gate is a task gate, so nothing of the ruined state
 * does. An IRET lets the next NMI come. */
#include "selectors.h"
#include "rt/boot.S"

	.globl entry
entry:
	multiboot_enter core_stack_top
	call load_segments
	call hostile_main
	ud2

load_segments:
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %eax, %fs
	movl %eax, %gs
	ret

#ifdef __x86_64__
	.macro vector_entry n
	.align 16
	push $\n
	jmp vector_common
	.endm
	vector_table

vector_common:
	cld
	movl core_cr3, %eax
	movq %rax, %cr3
	lgdt core_gdtr
	lidt core_idtr
	pop %rax
	movl %eax, last_vector
	pop %rax			/* error code or RIP */
	movl %eax, last_error
	movl $core_stack_top, %esp
	call load_segments
	push $SEL_KDATA
	push $core_stack_top
	push $2
	push $SEL_KCODE
	push $next_case
	iretq

/* void enter(const struct entry *): all registers, then IRET. */
	.globl enter
enter:
	movq %rdi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	movq %rax, scratch
	pop %rax
	movw %ax, %ds
	pop %rax
	movw %ax, %es
	pop %rax
	movq %rax, %cr3
	movq scratch, %rax
	iretq

	.globl restart_core
restart_core:
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl $core_stack_top, %esp
	push $2
	popf
	movl $core_stack_top, %esp
	call load_segments
	jmp next_case
#else
	.globl recovery
recovery:				/* the task of every gate begins here */
	movl $core_stack_top, %esp
	lgdt core_gdtr
	lidt core_idtr
	push $2
	popf				/* NT would make an IRET a task switch */
	jmp next_case

	.globl enter
enter:
	movl 4(%esp), %esp
	movl 40(%esp), %eax		/* the entry's IP and CS */
	movl %eax, case_far
	movl 44(%esp), %eax
	movl %eax, case_far + 4
	pop %edi
	pop %esi
	pop %ebp
	pop %ebx
	pop %edx
	pop %ecx
	pop %eax
	movl %eax, scratch
	pop %eax
	movw %ax, %ds
	pop %eax
	movw %ax, %es
	pop %eax
	movl %eax, %cr3
	movl scratch, %eax
	testb $3, 4(%esp)
	jnz 1f
	testl $0x20000, 8(%esp)
	jnz 1f
	addl $8, %esp			/* IRET to the same ring leaves the stack alone */
	popf
	lss (%esp), %esp
	ljmp *case_far
1:	iret

	.globl restart_core
restart_core:
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl $core_stack_top, %esp
	push $2
	popf
	movl $core_stack_top, %esp
	call load_segments
	jmp next_case

/* Copied to 500h, which real mode reaches. First what the real-mode vectors
 * point at: back to protected mode and to recovery. */
	.globl real_blob, real_blob_end, real_enter
	.code16
real_blob:
	cli
	lgdtl %cs:(0x500 + real_gdtr - real_blob)
	movl %cr0, %eax
	andl $0x7fffffff, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $SEL_KCODE, $real_back
real_gdtr:
	.word SEL_COUNT * 8 - 1
	.long core_gdt
real_idtr:
	.word 0x3ff
	.long 0
/* Called in 16-bit protected mode: to real mode, and to 8000h. */
real_enter:
	movl %cr0, %eax
	andl $0x7ffffffe, %eax
	movl %eax, %cr0
	ljmp $0, $(0x500 + 1f - real_blob)
1:	lidtl %cs:(0x500 + real_idtr - real_blob)
	movw %bx, %ds
	movw %cx, %es
	movw %dx, %ss
	movl %esi, %esp
	ljmp $0, $0x8000
real_blob_end:
	.code32
real_back:
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl $core_stack_top, %esp
	call load_segments
	jmp recovery
#endif

#ifndef __x86_64__
/* The second processor's start-up code, copied to 7000h. */
	.globl ap_blob, ap_blob_end, ap_vector
	.code16
ap_blob:
	cli
	lgdtl %cs:(ap_gdtr - ap_blob)
	movl $0x11, %eax		/* ET, PE */
	movl %eax, %cr0
	ljmpl $SEL_KCODE, $ap_entry
ap_gdtr:
	.word SEL_COUNT * 8 - 1
	.long core_gdt
ap_blob_end:
	.code32
ap_entry:
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl LOCAL_APIC_ID, %esp	/* a stack for each processor */
	shrl $24 - AP_STACK_SHIFT, %esp
	addl $ap_stacks, %esp
	call load_segments
	lidt ap_idtr
	movl ap_cr4, %eax
	movl %eax, %cr4
	movl core_cr3, %eax
	movl %eax, %cr3
	movl $0x80010031, %eax
	movl %eax, %cr0
ap_vector:
	cld
	movl $0, LOCAL_APIC_EOI
	movl LOCAL_APIC_ID, %esp
	shrl $24 - AP_STACK_SHIFT, %esp
	addl $ap_stacks, %esp
	push $2				/* the IRET lets the next NMI come */
	push $SEL_KCODE
	push $ap_main
	iret
	.bss
	.align 16
ap_stacks:				/* processor 0 has none of these */
	.skip 4 << AP_STACK_SHIFT
	.text
#endif

	.globl vmx_exit_entry
vmx_exit_entry:
	movl $core_stack_top, %esp
	cld
	call vmx_exited

	.data
	.align 16
	.globl core_gdtr, core_idtr
core_gdtr:
	.word core_gdt_end - core_gdt - 1
#ifdef __x86_64__
	.quad core_gdt
#else
	.long core_gdt
#endif
	.align 16
core_idtr:
#ifdef __x86_64__
	.word 0xfff
	.quad core_idt
#else
	.word 0x7ff
	.long core_idt
#endif
	.align 16
boot_gdt:
	.quad 0
#ifdef __x86_64__
	.quad 0x00af9b000000ffff
#else
	.quad 0x00cf9b000000ffff
#endif
	.quad 0x00cf93000000ffff
boot_gdtr:
	.word . - boot_gdt - 1
	.long boot_gdt

	.bss
	.globl scratch, boot_information, core_gdt, core_idt, core_stack_top, core_stack
	.align 16
scratch: .skip 16
case_far: .skip 16
boot_information: .skip 16
	.align 4096
core_gdt: .skip SEL_COUNT * 8
core_gdt_end:
	.align 4096
core_idt: .skip 4096
	.align 4096
core_stack: .skip 16384
core_stack_top:
#ifdef __x86_64__
	.align 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip 16384
#endif
