/* The guests' GDT. SYSCALL, SYSRET, SYSENTER and SYSEXIT find what they need
 * in this order. For C and assembly. */
#ifndef GUEST_SELECTORS_H
#define GUEST_SELECTORS_H

#define SEL_K32 0x08	/* code, 32-bit, ring 0 */
#define SEL_K64 0x10
#define SEL_KDATA 0x18
#define SEL_U32 0x23	/* ring 3 */
#define SEL_UDATA 0x2b
#define SEL_U64 0x33
#define SEL_UDATA2 0x3b
#define SEL_TSS 0x40	/* 16 bytes in the 64-bit guests */
#define SEL_FREE 0x50	/* from here on: the rules' own */
#define GDT_ENTRIES 64

#ifdef __x86_64__
#define SEL_KCODE SEL_K64
#define SEL_UCODE SEL_U64
#else
#define SEL_KCODE SEL_K32
#define SEL_UCODE SEL_U32
#endif

#endif
