/* Guests that check one rule of the manual after the other.
 *
 * A RULE is a function; it becomes one line "ok - chapter: name" or "not ok".
 * Before each rule the machine is put into one known state (rt.c, machine_reset).
 * CATCH runs code that may fault and tells the vector, `event` the details. */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include "machine.h"
#include "selectors.h"

/* --- rules --- */
struct rule { const char *name; void (*run)(void); word alone; word unused; };
/* A rule that runs when the command line is empty or names it; RULE_ALONE only
 * when named, because the machine does not survive it. */
#define RULE_(id, text, alone) \
	static void id(void); \
	static const struct rule rule_##id __attribute__((section("rules"), used, aligned(sizeof(word)))) = \
		{ text, id, alone, 0 }; \
	static void id(void)
#define RULE(id) RULE_(id, #id, 0)
#define RULE_ALONE(id) RULE_(id, #id, 1)
extern const char chapter[];		/* each guest names itself */
extern const char *chapter_suffix;
/* level2.c: from here on as the guest of a hypervisor */
void level_begin(void) __attribute__((weak));
extern void (*before_reset)(void);	/* once, before the machine is reset after the rule */
/* Called before each rule: what the whole chapter needs. */
void chapter_setup(void);

void expect_(const char *what, int line, uint64_t got, uint64_t wanted);
#define expect_eq(got, wanted) expect_(#got, __LINE__, (uint64_t)(got), (uint64_t)(wanted))
#define expect(condition) expect_(#condition, __LINE__, !!(condition), 1)
void skip(const char *why);		/* this machine lacks what the rule is about */
void print(const char *format, ...);	/* %s %d %u %x %c; l: a word, ll: 64 bits */

/* --- events: exceptions, interrupts --- */
#ifdef __x86_64__
struct frame {
	word r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
	word vector, error, ip, cs, flags, sp, ss;
};
struct jump { word saved[8]; };
struct entry_frame { word ip, cs, flags, sp, ss, ax; };
#else
struct frame {
	word gs, fs, es, ds, di, si, bp, own_sp, bx, dx, cx, ax;
	word vector, error, ip, cs, flags;
	word sp, ss, v86_es, v86_ds, v86_fs, v86_gs;	/* from an outer ring only */
};
struct jump { word saved[6]; };
struct entry_frame { word ip, cs, flags, sp, ss, ax, es, ds, fs, gs; };
#endif
struct event {
	int vector;		/* NONE: nothing happened */
	word error, cr2, dr6, handler_sp;
	uint16_t handler_ss;
	unsigned count;		/* events since CATCH began */
	struct frame frame;
};
extern struct event event;
/* May handle an event and return true: then the frame is returned from. */
extern bool (*event_hook)(struct frame *);

extern struct jump catch_jump;
extern volatile bool catching;
int guest_setjmp(struct jump *) __attribute__((returns_twice));
_Noreturn void guest_longjmp(struct jump *);
void guest_enter(const struct entry_frame *);
void catch_begin(void);
void catch_end(void);
#define CATCH(...) ({ \
	catch_begin(); \
	if (!guest_setjmp(&catch_jump)) { catching = true; __VA_ARGS__; barrier(); } \
	catch_end(); \
	event.vector; })
/* The code faults with this vector and error code. */
#define FAULTS(wanted_vector, wanted_error, ...) do { \
	int caught_ = CATCH(__VA_ARGS__); \
	expect_("vector: " #__VA_ARGS__, __LINE__, (uint64_t)caught_, (uint64_t)(wanted_vector)); \
	if (caught_ == (wanted_vector)) \
		expect_("error code: " #__VA_ARGS__, __LINE__, event.error, (wanted_error)); \
	} while (0)
#define FINE(...) do { int caught_ = CATCH(__VA_ARGS__); \
	expect_("vector: " #__VA_ARGS__, __LINE__, (uint64_t)caught_, (uint64_t)NONE); } while (0)

/* --- running code elsewhere: the vector that ended it --- */
#define USER_EXIT 0x80		/* INT 80h, or the function's return, ends ring 3 code */
int run_user(const void *function);
int run_frame(const struct entry_frame *);
extern uint8_t user_stack[8192];	/* also any other temporary stack */
#define user_stack_top (user_stack + sizeof user_stack)
/* A piece of assembly with a name. SNIPPET32 and SNIPPET16: of another mode. */
#define SNIPPET_(id, mode, back, text) \
	extern const uint8_t id[] __attribute__((unused)), id##_end[] __attribute__((unused)); \
	asm(".pushsection .text.snippets\n.align 16\n" mode "\n" #id ":\n" text "\n" #id "_end:\n" back "\n.popsection")
#ifdef __x86_64__
#define SNIPPET_BACK ".code64"
#else
#define SNIPPET_BACK ".code32"
#endif
#define SNIPPET(id, text) SNIPPET_(id, "", "", text)
#define SNIPPET32(id, text) SNIPPET_(id, ".code32", SNIPPET_BACK, text)
#define SNIPPET16(id, text) SNIPPET_(id, ".code16", SNIPPET_BACK, text)

/* --- tables --- */
extern uint64_t gdt[GDT_ENTRIES];
struct gate { uint64_t low;
#ifdef __x86_64__
	uint64_t high;
#endif
};
extern struct gate idt[256];
struct __attribute__((packed)) tss32 {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
		esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, io_map;
};
#ifdef __x86_64__
struct __attribute__((packed)) tss {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, io_map;
	uint8_t io_bits[8200];
};
#else
struct __attribute__((packed)) tss { struct tss32 t; uint8_t io_bits[8200]; };
#endif
extern struct tss tss;
/* Access bytes */
#define SEG_P 0x80
#define SEG_S 0x10
#define SEG_DPL(n) ((n) << 5)
#define SEG_CODE 0x1b		/* readable, accessed */
#define SEG_CONFORMING 0x1f
#define SEG_DATA 0x13
#define SEG_DOWN 0x17		/* data, expand-down */
/* flags: bits 3:0 are G D/B L AVL */
#define SEG_G 8
#define SEG_B 4
#define SEG_L 2
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags);
uint64_t gate_low(word offset, uint16_t selector, unsigned access, unsigned ist_or_count);
enum { GATE_TASK = 5, GATE_CALL16 = 4, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_CALL = 12, GATE_INT = 14, GATE_TRAP = 15 };
void gate_set(struct gate *g, word offset, uint16_t selector, unsigned access, unsigned ist_or_count);
word vector_entry(unsigned vector);	/* address of the framework's own handler */
void vector_dpl3(unsigned vector);
void load_gdt(unsigned limit);
void load_idt(unsigned limit);

/* --- memory --- */
void *page_alloc(void);		/* zeroed; all are free again before the next rule */
void pages_keep(void);		/* those of now stay for ever */
void memory_fill(void *at, uint8_t v, size_t n);
void memory_copy(void *to, const void *from, size_t n);
bool word_in_command_line(const char *word_);
/* Under a hypervisor that does no task switches ("tasks=off") */
#define NEEDS_TASKS() do { if (word_in_command_line("tasks=off")) { skip("no task switches here"); return; } } while (0)
_Noreturn void guest_exit(uint32_t status);
#ifdef __x86_64__
extern uint64_t boot_pml4[512], boot_pdpt[512], boot_pd[2048];
/* The entry that maps a linear address at a level (1: PTE), tables above it
 * made on the way with all rights. */
uint64_t *map_entry(uint64_t linear, unsigned level);
#endif

#endif
