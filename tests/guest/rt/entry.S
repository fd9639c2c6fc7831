/* Multiboot 1 entry (32-bit flat), the switch to 64-bit mode in the 64-bit
 * guests, the entries of all 256 vectors, and the jump buffer by which a rule
 * gets control back after a fault. */
#include "selectors.h"
#include "rt/boot.S"

	.globl entry
entry:
	multiboot_enter stack_top
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	call guest_main
3:	hlt
	jmp 3b

/* --- vectors --- */
	.macro vector_entry n
	.align 16
	.if \n == 8 || (\n >= 10 && \n <= 14) || \n == 17 || \n == 21
	.else
	push $0
	.endif
	push $\n
	jmp vector_common
	.endm
	vector_table

#ifdef __x86_64__
vector_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	call guest_event
	movq %rbx, %rsp
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
	addq $16, %rsp
	iretq

/* int guest_setjmp(struct jump *) */
	.globl guest_setjmp
guest_setjmp:
	movq (%rsp), %rax
	movq %rax, (%rdi)
	leaq 8(%rsp), %rax
	movq %rax, 8(%rdi)
	movq %rbx, 16(%rdi)
	movq %rbp, 24(%rdi)
	movq %r12, 32(%rdi)
	movq %r13, 40(%rdi)
	movq %r14, 48(%rdi)
	movq %r15, 56(%rdi)
	xorl %eax, %eax
	ret

/* void guest_longjmp(struct jump *): with clean segments and flags. */
	.globl guest_longjmp
guest_longjmp:
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %eax, %es
	movq 8(%rdi), %rsp
	movq 16(%rdi), %rbx
	movq 24(%rdi), %rbp
	movq 32(%rdi), %r12
	movq 40(%rdi), %r13
	movq 48(%rdi), %r14
	movq 56(%rdi), %r15
	pushq $2
	popfq
	movl $1, %eax
	jmp *(%rdi)

/* void guest_enter(const struct entry_frame *): IRET to it; ends by an event. */
	.globl guest_enter
guest_enter:
	pushq 32(%rdi)
	pushq 24(%rdi)
	pushq 16(%rdi)
	pushq 8(%rdi)
	pushq 0(%rdi)
	movq 40(%rdi), %rax
	iretq
#else
vector_common:
	pusha
	push %ds
	push %es
	push %fs
	push %gs
	cld
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %esp, %ebx
	andl $-16, %esp
	subl $12, %esp
	push %ebx
	call guest_event
	movl %ebx, %esp
	pop %gs
	pop %fs
	pop %es
	pop %ds
	popa
	addl $8, %esp
	iret

	.globl guest_setjmp
guest_setjmp:
	movl 4(%esp), %edx
	movl (%esp), %eax
	movl %eax, (%edx)
	leal 4(%esp), %eax
	movl %eax, 4(%edx)
	movl %ebx, 8(%edx)
	movl %ebp, 12(%edx)
	movl %esi, 16(%edx)
	movl %edi, 20(%edx)
	xorl %eax, %eax
	ret

	.globl guest_longjmp
guest_longjmp:
	movl 4(%esp), %edx
	movl $SEL_KDATA, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %eax, %es
	movl 4(%edx), %esp
	movl 8(%edx), %ebx
	movl 12(%edx), %ebp
	movl 16(%edx), %esi
	movl 20(%edx), %edi
	push $2
	popf
	movl $1, %eax
	jmp *(%edx)

/* The frame may be for an outer ring (SS:ESP used), for the same ring (flags
 * say so: first word 0), or for virtual-8086 mode (segments used). */
	.globl guest_enter
guest_enter:
	movl 4(%esp), %edx
	testl $0x20000, 8(%edx)
	jz 1f
	push 36(%edx)		/* GS FS DS ES */
	push 32(%edx)
	push 28(%edx)
	push 24(%edx)
1:	testl $0x20000, 8(%edx)
	jnz 2f
	testl $3, 4(%edx)
	jnz 2f
	movl 4(%edx), %eax
	movl 16(%edx), %ecx	/* same ring: SS:ESP by hand */
	movw %cx, %ss
	movl 12(%edx), %esp
	jmp 3f
2:	push 16(%edx)
	push 12(%edx)
3:	push 8(%edx)
	push 4(%edx)
	push 0(%edx)
	movl 20(%edx), %eax
	iret
#endif

/* What a ring 3 function returns to. */
	.globl guest_user_return
guest_user_return:
	int $0x80

	.data
	.align 16
boot_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
boot_gdtr:
	.word . - boot_gdt - 1
	.long boot_gdt
	.globl boot_information
	.align 8
boot_information:
	.quad 0

	.bss
	.align 4096
	.globl boot_pml4, boot_pd, boot_pdpt
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 16384
stack_bottom:
	.skip 32768
	.globl stack_top
stack_top:
