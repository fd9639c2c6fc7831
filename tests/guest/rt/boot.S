/* Included by the guests' first file: the multiboot 1 header, and from its
 * 32-bit flat entry into the mode in which the guest runs. Needs boot_gdtr,
 * boot_information, boot_pml4, boot_pdpt and boot_pd. */

	.section .multiboot, "a"
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.macro multiboot_enter stack_top
	cld
	movl $\stack_top, %esp
	movl %ebx, boot_information
	lgdt boot_gdtr
#ifdef __x86_64__
	/* The first 4 GiB at their own addresses: 2 MiB pages, for everyone. */
	movl $boot_pdpt + 7, boot_pml4
	xorl %ecx, %ecx
1:	movl %ecx, %eax
	shll $12, %eax
	addl $boot_pd + 7, %eax
	movl %eax, boot_pdpt(,%ecx,8)
	incl %ecx
	cmpl $4, %ecx
	jne 1b
	xorl %ecx, %ecx
2:	movl %ecx, %eax
	shll $21, %eax
	orl $0x87, %eax
	movl %eax, boot_pd(,%ecx,8)
	incl %ecx
	cmpl $2048, %ecx
	jne 2b
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl %cr0, %eax
	orl $0x80010021, %eax		/* PG, WP, NE, PE */
	movl %eax, %cr0
#endif
	ljmp $SEL_KCODE, $1f
#ifdef __x86_64__
	.code64
#endif
1:
	.endm

/* An entry for each vector: what differs, then to vector_common. */
	.macro vector_table
	.align 16
	.globl vector_entries
vector_entries:
	.altmacro
	.set i, 0
	.rept 256
	vector_entry %i
	.set i, i + 1
	.endr
	.noaltmacro
	.endm
