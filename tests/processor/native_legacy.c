/* Run one instruction natively in compatibility mode.
 *
 * The way in is a far jump with the LDT's DS, ES and SS loaded; the way back a
 * far jump with an immediate pointer to the 64-bit code segment, which needs no
 * register, to a small trampoline in the low code page. */
#include "native_legacy.h"
#include "native_internal.h"

#include <asm/ldt.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	HOST_CS = 0x33, HOST_DATA = 0x2b,
	TRAMPOLINE_NEXT = NATIVE_CODE + 0xc00, TRAMPOLINE_LANDING = NATIVE_CODE + 0xc20,
	TRAMPOLINE_OTHER = NATIVE_CODE + 0xc40,
	SECOND_CODE = NATIVE_CODE + NATIVE_PAGE,
	CONTENTS_DATA = 0, CONTENTS_DOWN = 1, CONTENTS_CODE = 2,
};

static const struct {
	uint32_t base, limit;
	uint8_t contents;
	bool is_32, read_exec_only, pages, absent;
} segment[LEGACY_SEGMENTS] = {
	[LEGACY_CODE32] = { NATIVE_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, true, false, false, false },
	[LEGACY_CODE16] = { NATIVE_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, false, false, false, false },
	[LEGACY_OTHER32] = { SECOND_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, true, false, false, false },
	[LEGACY_OTHER16] = { SECOND_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, false, false, false, false },
	[LEGACY_EXECUTE_ONLY32] = { SECOND_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, true, true, false, false },
	[LEGACY_DATA] = { NATIVE_SCRATCH, LEGACY_LIMIT, CONTENTS_DATA, true, false, false, false },
	[LEGACY_DATA_SHORT] = { NATIVE_SCRATCH, LEGACY_SHORT, CONTENTS_DATA, true, false, false, false },
	[LEGACY_READ_ONLY] = { NATIVE_SCRATCH, LEGACY_LIMIT, CONTENTS_DATA, true, true, false, false },
	[LEGACY_STACK16] = { NATIVE_SCRATCH, LEGACY_LIMIT, CONTENTS_DATA, false, false, false, false },
	[LEGACY_DOWN] = { NATIVE_SCRATCH, LEGACY_SHORT, CONTENTS_DOWN, true, false, false, false },
	[LEGACY_DOWN16] = { NATIVE_SCRATCH, LEGACY_SHORT, CONTENTS_DOWN, false, false, false, false },
	[LEGACY_ABSENT] = { NATIVE_SCRATCH, LEGACY_LIMIT, CONTENTS_DATA, true, false, false, true },
	[LEGACY_ABSENT_CODE] = { SECOND_CODE, NATIVE_PAGE - 1, CONTENTS_CODE, true, false, false, true },
	[LEGACY_BIG] = { NATIVE_SCRATCH, 0xfffff, CONTENTS_DATA, true, false, true, false },
};

uint64_t legacy_descriptor(enum legacy_segment s)
{
	uint64_t base = segment[s].base, limit = segment[s].limit;
	uint64_t type = 1u | (unsigned)!segment[s].read_exec_only << 1 | (unsigned)segment[s].contents << 2;
	uint64_t access = type | 0x70 /* S, DPL 3 */ | (unsigned)!segment[s].absent << 7;
	uint64_t upper = (limit >> 16 & 15) | (unsigned)segment[s].is_32 << 6 | (unsigned)segment[s].pages << 7;
	return (limit & 0xffff) | (base & 0xffffff) << 16 | access << 40 | upper << 48 | (base >> 24) << 56;
}

/* The assembly below knows these offsets. */
struct legacy_area {
	uint64_t gpr[8], rflags, host_rsp;
	uint32_t offset;	/* the far pointer to jump to */
	uint16_t cs, ds, es, ss, zero;
	uint64_t exit;		/* which trampoline */
} native_legacy_area __attribute__((aligned(64)));

_Static_assert(offsetof(struct legacy_area, offset) == 80, "known to the assembly");
_Static_assert(offsetof(struct legacy_area, exit) == 96, "known to the assembly");

void native_legacy_enter(void);
extern const char native_legacy_exit_next[], native_legacy_exit_landing[], native_legacy_exit_other[];

enum { EXIT_NEXT, EXIT_LANDING, EXIT_OTHER };

__asm__(
	".text\n"
	".globl native_legacy_enter, native_legacy_exit_next, native_legacy_exit_landing, native_legacy_exit_other\n"
	".type native_legacy_enter, @function\n"
	"native_legacy_enter:\n\t"
	"pushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
	"movq %rsp, native_legacy_area+72(%rip)\n\t"
	"movw native_legacy_area+86(%rip), %ds\n\t"
	"movw native_legacy_area+88(%rip), %es\n\t"
	"pushq native_legacy_area+64(%rip)\n\tpopfq\n\t"
	"movq native_legacy_area+0(%rip), %rax\n\t"
	"movq native_legacy_area+8(%rip), %rcx\n\t"
	"movq native_legacy_area+16(%rip), %rdx\n\t"
	"movq native_legacy_area+24(%rip), %rbx\n\t"
	"movq native_legacy_area+40(%rip), %rbp\n\t"
	"movq native_legacy_area+48(%rip), %rsi\n\t"
	"movq native_legacy_area+56(%rip), %rdi\n\t"
	"movw native_legacy_area+90(%rip), %ss\n\t"
	"movq native_legacy_area+32(%rip), %rsp\n\t"
	"ljmpl *native_legacy_area+80(%rip)\n"
	"native_legacy_exit_other:\n\t"
	"movq $2, native_legacy_area+96(%rip)\n\t"
	"jmp native_legacy_exit_next\n"
	"native_legacy_exit_landing:\n\t"
	"movq $1, native_legacy_area+96(%rip)\n"
	"native_legacy_exit_next:\n\t"
	"movq %rsp, native_legacy_area+32(%rip)\n\t"
	"movq native_legacy_area+72(%rip), %rsp\n\t"
	"movq %rax, native_legacy_area+0(%rip)\n\t"
	"movq %rcx, native_legacy_area+8(%rip)\n\t"
	"movq %rdx, native_legacy_area+16(%rip)\n\t"
	"movq %rbx, native_legacy_area+24(%rip)\n\t"
	"movq %rbp, native_legacy_area+40(%rip)\n\t"
	"movq %rsi, native_legacy_area+48(%rip)\n\t"
	"movq %rdi, native_legacy_area+56(%rip)\n\t"
	"pushfq\n\tpopq native_legacy_area+64(%rip)\n\t"
	"pushq $0x202\n\tpopfq\n\t"
	"movw %ds, native_legacy_area+86(%rip)\n\t"
	"movw %es, native_legacy_area+88(%rip)\n\t"
	"movw %ss, native_legacy_area+90(%rip)\n\t"
	"movw native_legacy_area+92(%rip), %ds\n\t"
	"movw native_legacy_area+92(%rip), %es\n\t"
	"movl $0x2b, %eax\n\tmovw %ax, %ss\n\t"
	"popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbp\n\tpopq %rbx\n\t"
	"ret\n"
	".size native_legacy_enter, .-native_legacy_enter\n");

static bool is_16(uint16_t selector)
{
	return !segment[selector >> 3].is_32;
}

/* JMP HOST_CS:to in 16- or 32-bit code; at most 8 bytes. */
static void far_jump_back(uint8_t *at, bool code_16, uint32_t to)
{
	enum { OPERAND_SIZE = 0x66, JMP_FAR = 0xea };
	uint16_t cs = HOST_CS;
	if (code_16)
		*at++ = OPERAND_SIZE;
	*at++ = JMP_FAR;
	memcpy(at, &to, sizeof to);
	memcpy(at + sizeof to, &cs, sizeof cs);
}

bool native_legacy_start(void)
{
	for (unsigned s = 0; s < LEGACY_SEGMENTS; s++) {
		struct user_desc d = {
			.entry_number = s, .base_addr = segment[s].base, .limit = segment[s].limit,
			.seg_32bit = segment[s].is_32, .contents = segment[s].contents,
			.read_exec_only = segment[s].read_exec_only, .limit_in_pages = segment[s].pages,
			.seg_not_present = segment[s].absent, .useable = 0,
		};
		if (syscall(SYS_modify_ldt, 1, &d, sizeof d) != 0)
			return false;
	}
	if (mmap((void *)SECOND_CODE, NATIVE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)SECOND_CODE)
		return false;
	native_jump_back((uint8_t *)TRAMPOLINE_NEXT, native_legacy_exit_next);
	native_jump_back((uint8_t *)TRAMPOLINE_LANDING, native_legacy_exit_landing);
	native_jump_back((uint8_t *)TRAMPOLINE_OTHER, native_legacy_exit_other);
	return true;
}

struct native_result native_run_legacy(const uint8_t *insn, unsigned length,
				       struct native_state *state, struct legacy_selectors *selectors)
{
	struct legacy_area *a = &native_legacy_area;
	bool code_16 = is_16(selectors->cs);
	struct native_result r;

	memcpy((uint8_t *)NATIVE_INSN, insn, length);
	far_jump_back((uint8_t *)NATIVE_INSN + length, code_16, TRAMPOLINE_NEXT);
	far_jump_back((uint8_t *)NATIVE_LANDING, code_16, TRAMPOLINE_LANDING);
	far_jump_back((uint8_t *)NATIVE_LANDING_NEAR, code_16, TRAMPOLINE_LANDING);
	far_jump_back((uint8_t *)SECOND_CODE + LEGACY_LANDING_OFFSET, is_16(selectors->other),
		      TRAMPOLINE_OTHER);
	for (unsigned n = 0; n < 8; n++)
		a->gpr[n] = (uint32_t)state->gpr[n];
	a->rflags = state->rflags;
	a->offset = LEGACY_INSN_OFFSET;
	a->cs = selectors->cs;
	a->ds = selectors->ds;
	a->es = selectors->es;
	a->ss = selectors->ss;
	a->exit = EXIT_NEXT;
	r = native_guarded(native_legacy_enter, native_legacy_exit_next);
	for (unsigned n = 0; n < 8; n++)
		state->gpr[n] = (uint32_t)a->gpr[n];
	state->rflags = a->rflags;
	selectors->ds = a->ds;
	selectors->es = a->es;
	selectors->ss = a->ss;
	if (r.faulted) {
		state->rip = (uint32_t)native_fault.rip;
		selectors->cs = native_fault.cs;
	} else if (a->exit == EXIT_OTHER) {
		state->rip = LEGACY_LANDING_OFFSET;
		selectors->cs = 0;	/* the second code page; which selector is not seen */
	} else {
		state->rip = a->exit == EXIT_NEXT ? LEGACY_INSN_OFFSET + length : LEGACY_LANDING_OFFSET;
	}
	return r;
}
