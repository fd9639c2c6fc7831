/* A guest that misbehaves, by a seed.
 *
 * A chapter is a function that does one bad thing; next_case() calls it until
 * the count of the command line is reached and then ends with EXIT_DONE.
 * Whatever vector is raised in a case ends that case and begins the next one
 * (start.S), on tables and chips that the core has put right again. So a case
 * may do anything; what it may not do in the chapters that must come to their
 * end is ask the machine for power-off or reset.
 *
 * Command line: chapter=NAME seed=N count=N. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "rt/machine.h"
#include "selectors.h"

/* What port F4h gets: Nestor's status is (v << 1 | 1) & 0xff. */
enum { EXIT_DONE = 21, EXIT_NO_CHAPTER = 22, DEBUG_EXIT = 0xf4 };

struct chapter { const char *name; void (*run)(void); };
extern const struct chapter device_chapters[], processor_chapters[], code_chapters[], vmx_chapters[],
	smp_chapters[];

/* --- random (xorshift64*, by Marsaglia and Vigna) --- */
uint64_t random_next(void);
uint32_t random_below(uint32_t n);
uint64_t random_value(void);	/* often near an edge */
word random_address(void);	/* often one where something is */
bool one_in(uint32_t n);

/* --- memory: all RAM below 32 MiB that the core does not use --- */
#define PLAYGROUND 0x1000000ul		/* the cell maps it for everyone */
#define PLAYGROUND_SIZE 0x200000ul
#define TABLES 0x1200000ul		/* paging structures to be spoiled */
#define TABLES_SIZE 0x200000ul
#define IO_APIC 0xfec00000ul
#define LOCAL_APIC 0xfee00000ul

/* --- core --- */
struct entry {
#ifdef __x86_64__
	word r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax, ds, es, cr3;
#else
	word di, si, bp, bx, dx, cx, ax, ds, es, cr3;
#endif
	word ip, cs, flags, sp, ss, v86_es, v86_ds, v86_fs, v86_gs;
};
_Noreturn void enter(const struct entry *);
_Noreturn void restart_core(void);
_Noreturn void next_case(void);
_Noreturn void finish(uint32_t value);
extern uint64_t core_gdt[SEL_COUNT];
extern word cell_cr3;		/* the image is read-only there, little else is mapped */
extern word core_cr3;
extern uint8_t image_end[] asm("guest_end");
extern uint8_t core_stack_top[];
extern uint32_t vmx_exits[80], vmx_failures;	/* by basic reason; entries that failed */
void watchdog_start(void);	/* an NMI ends what lasts too long */
void random_code(uint8_t *start, unsigned n);	/* and some bytes more */
void fill_random(void *at, size_t n);
void copy(void *to, const void *from, size_t n);
void print(const char *text);
void print_number(uint64_t v);

/* --- port and memory accesses of any width --- */
static inline uint32_t port_in(uint16_t p, unsigned size)
{
	uint32_t v = 0;
	if (size == 1)
		asm volatile("inb %1, %b0" : "+a"(v) : "Nd"(p));
	else if (size == 2)
		asm volatile("inw %1, %w0" : "+a"(v) : "Nd"(p));
	else
		asm volatile("inl %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}
static inline void port_out(uint16_t p, uint32_t v, unsigned size)
{
	if (size == 1)
		asm volatile("outb %b0, %1" :: "a"(v), "Nd"(p));
	else if (size == 2)
		asm volatile("outw %w0, %1" :: "a"(v), "Nd"(p));
	else
		asm volatile("outl %0, %1" :: "a"(v), "Nd"(p));
}
static inline uint32_t mmio_read(word a) { return *(volatile uint32_t *)a; }
static inline void mmio_write(word a, uint32_t v) { *(volatile uint32_t *)a = v; }
uint64_t memory_access(word at, uint64_t v, unsigned size, bool write);

#endif
