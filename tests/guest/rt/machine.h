/* Instructions that C has no words for, and the bits they use. */
#ifndef GUEST_MACHINE_H
#define GUEST_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word;	/* a general register */

#define BIT(n) (1ull << (n))
#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_PGE BIT(7)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_VMXE BIT(13)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define FLAG_CF BIT(0)
#define FLAG_ZF BIT(6)
#define FLAG_TF BIT(8)
#define FLAG_IF BIT(9)
#define FLAG_DF BIT(10)
#define FLAG_NT BIT(14)
#define FLAG_RF BIT(16)
#define FLAG_VM BIT(17)
#define FLAG_AC BIT(18)
#define FLAG_ID BIT(21)
#define FLAG_IOPL(n) ((word)(n) << 12)
#define EFER 0xc0000080u
#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM, NONE = -1 };

#define CR_ACCESS(n) \
	static inline word cr##n(void) { word v; asm volatile("mov %%cr" #n ", %0" : "=r"(v)); return v; } \
	static inline void set_cr##n(word v) { asm volatile("mov %0, %%cr" #n :: "r"(v) : "memory"); }
CR_ACCESS(0) CR_ACCESS(2) CR_ACCESS(3) CR_ACCESS(4)
#ifdef __x86_64__
CR_ACCESS(8)
#endif
#define DR_ACCESS(n) \
	static inline word dr##n(void) { word v; asm volatile("mov %%db" #n ", %0" : "=r"(v)); return v; } \
	static inline void set_dr##n(word v) { asm volatile("mov %0, %%db" #n :: "r"(v) : "memory"); }
DR_ACCESS(0) DR_ACCESS(1) DR_ACCESS(2) DR_ACCESS(3) DR_ACCESS(6) DR_ACCESS(7)

static inline uint64_t rdmsr(uint32_t n)
{
	uint32_t a, d;
	asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n));
	return a | (uint64_t)d << 32;
}
static inline void wrmsr(uint32_t n, uint64_t v)
{
	asm volatile("wrmsr" :: "c"(n), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
	uint32_t a, d;
	asm volatile("rdtsc" : "=a"(a), "=d"(d));
	return a | (uint64_t)d << 32;
}
struct cpuid { uint32_t a, b, c, d; };
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;
	asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "0"(leaf), "2"(subleaf));
	return r;
}
static inline void outb(uint16_t p, uint8_t v) { asm volatile("outb %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outl(uint16_t p, uint32_t v) { asm volatile("outl %0, %1" :: "a"(v), "Nd"(p)); }
static inline uint8_t inb(uint16_t p) { uint8_t v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline word flags(void) { word v; asm volatile("pushf; pop %0" : "=r"(v)); return v; }
static inline void set_flags(word v) { asm volatile("push %0; popf" :: "r"(v) : "memory", "cc"); }
static inline void invlpg(const void *p) { asm volatile("invlpg (%0)" :: "r"(p) : "memory"); }
static inline void sti(void) { asm volatile("sti" ::: "memory"); }
static inline void cli(void) { asm volatile("cli" ::: "memory"); }

struct __attribute__((packed)) table_pointer { uint16_t limit; word base; };

#define barrier() asm volatile("" ::: "memory")
#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))

#endif
