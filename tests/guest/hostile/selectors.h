/* The selectors of the core's GDT; for C and assembly. */
#ifndef HOSTILE_SELECTORS_H
#define HOSTILE_SELECTORS_H

#define SEL_KCODE 0x08
#define SEL_KDATA 0x10
#define SEL_UCODE 0x1b
#define SEL_UDATA 0x23
#define SEL_KCODE32 0x28	/* compatibility mode in the 64-bit guest */
#define SEL_UCODE32 0x33
#define SEL_KCODE16 0x38
#define SEL_UCODE16 0x43
#define SEL_KDATA16 0x48
#define SEL_UDATA16 0x53
#define SEL_TSS 0x58		/* two slots */
#define SEL_RECOVERY 0x68
#define SEL_LDT 0x70		/* two slots */
#define SEL_GATE 0x80		/* two slots */
#define SEL_NMI 0x90		/* the 32-bit guest's task for NMIs */
#define SEL_COUNT 32
#define LOCAL_APIC_EOI 0xfee000b0
#define LOCAL_APIC_ID 0xfee00020
#define AP_STACK_SHIFT 12

#endif
