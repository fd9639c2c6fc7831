/* Run one instruction natively.
 *
 * native_enter (assembly) saves the host's registers, loads the wanted ones from
 * native_area by RIP-relative moves, which touch no flags, and jumps to the
 * instruction. Behind the instruction, and at NATIVE_LANDING, stands an indirect
 * jump back that needs no register. A fault comes as a signal on the alternate
 * stack; its handler notes the facts and lets the thread go on at the exit, so
 * that registers are saved the same way then. */
#include "native.h"
#include "native_internal.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The assembly below knows these offsets. */
struct native_area {
	struct native_state s;
	uint64_t host_rsp, target, parts, avx, landed;
} native_area __attribute__((aligned(64)));

_Static_assert(offsetof(struct native_state, rflags) == 128, "known to the assembly");
_Static_assert(offsetof(struct native_state, ymm) == 160, "known to the assembly");
_Static_assert(offsetof(struct native_state, fx) == 672, "known to the assembly");
_Static_assert(offsetof(struct native_area, host_rsp) == 1184, "known to the assembly");

void native_enter(void);
extern const char native_exit_next[], native_exit_landing[];

#define GPRS(M) \
	M(0, rax) M(1, rcx) M(2, rdx) M(3, rbx) M(5, rbp) M(6, rsi) M(7, rdi) M(8, r8) M(9, r9) \
	M(10, r10) M(11, r11) M(12, r12) M(13, r13) M(14, r14) M(15, r15)
#define VECTORS(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define AREA "native_area+"
#define HOST_RSP AREA "1184(%rip)"
#define TARGET AREA "1192(%rip)"
#define PARTS AREA "1200(%rip)"
#define HAS_AVX AREA "1208(%rip)"
#define LANDED AREA "1216(%rip)"
#define RFLAGS AREA "128(%rip)"
#define RSP_SLOT AREA "32(%rip)"
#define FX AREA "672(%rip)"
#define GPR_LOAD(n, name) "movq " AREA #n "*8(%rip), %" #name "\n\t"
#define GPR_STORE(n, name) "movq %" #name ", " AREA #n "*8(%rip)\n\t"
#define YMM_LOAD(n) "vmovdqu " AREA "160+" #n "*32(%rip), %ymm" #n "\n\t"
#define YMM_STORE(n) "vmovdqu %ymm" #n ", " AREA "160+" #n "*32(%rip)\n\t"
#define XMM_LOAD(n) "movdqu " AREA "160+" #n "*32(%rip), %xmm" #n "\n\t"
#define XMM_STORE(n) "movdqu %xmm" #n ", " AREA "160+" #n "*32(%rip)\n\t"

__asm__(
	".text\n"
	".globl native_enter, native_exit_next, native_exit_landing\n"
	".type native_enter, @function\n"
	"native_enter:\n\t"
	"pushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
	"movq %rsp, " HOST_RSP "\n\t"
	"testq $1, " PARTS "\n\tjz 2f\n\t"
	"fxrstor64 " FX "\n\t"
	"testq $1, " HAS_AVX "\n\tjz 1f\n\t"
	VECTORS(YMM_LOAD)
	"jmp 2f\n"
	"1:\n\t"
	VECTORS(XMM_LOAD)
	"2:\n\t"
	"pushq " RFLAGS "\n\tpopfq\n\t"
	GPRS(GPR_LOAD)
	"movq " RSP_SLOT ", %rsp\n\t"
	"jmpq *" TARGET "\n"
	"native_exit_landing:\n\t"
	"movq $1, " LANDED "\n"
	"native_exit_next:\n\t"
	"movq %rsp, " RSP_SLOT "\n\t"
	"movq " HOST_RSP ", %rsp\n\t"
	GPRS(GPR_STORE)
	"pushfq\n\tpopq " RFLAGS "\n\t"
	"cld\n\t"
	"testq $1, " PARTS "\n\tjz 4f\n\t"
	"testq $1, " HAS_AVX "\n\tjz 3f\n\t"
	VECTORS(YMM_STORE)
	"fxsave64 " FX "\n\t"
	"vzeroupper\n\t"
	"jmp 5f\n"
	"3:\n\t"
	VECTORS(XMM_STORE)
	"fxsave64 " FX "\n"
	"5:\n\t"
	"fninit\n\t"
	"pushq $0x1f80\n\tldmxcsr (%rsp)\n\tpopq %rax\n"
	"4:\n\t"
	/* AC and the rest of RFLAGS as C code wants them. */
	"pushq $0x202\n\tpopfq\n\t"
	"popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbp\n\tpopq %rbx\n\t"
	"ret\n"
	".size native_enter, .-native_enter\n");

struct native_fault native_fault;
static struct native_result result;
static const char *volatile fault_exit;

static void handler(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	(void)info;
	greg_t *g = u->uc_mcontext.gregs;
	enum { HOST_CS = 0x33, SELECTOR = 0xffff };

	if (!fault_exit) {	/* a fault of the test itself */
		signal(number, SIG_DFL);
		return;
	}
	result.faulted = true;
	result.vector = (uint8_t)g[REG_TRAPNO];
	result.error = (uint32_t)g[REG_ERR];
	result.address = (uint64_t)g[REG_CR2];
	native_fault.rip = (uint64_t)g[REG_RIP];
	native_fault.cs = (uint16_t)g[REG_CSGSFS];
	g[REG_RIP] = (greg_t)(uintptr_t)fault_exit;
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)SELECTOR) | HOST_CS;
}

void native_jump_back(uint8_t *at, const char *to)
{
	static const uint8_t jump[6] = { 0xff, 0x25 };	/* JMP [RIP+0] */
	uint64_t address = (uint64_t)(uintptr_t)to;
	memcpy(at, jump, sizeof jump);
	memcpy(at + sizeof jump, &address, sizeof address);
}

static bool map(uintptr_t at, size_t size, int protection)
{
	return mmap((void *)at, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == (void *)at;
}

bool native_start(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	static uint8_t signal_stack[256 << 10];
	static bool started;
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack };

	if (started)
		return true;
	if (!map(NATIVE_SCRATCH, NATIVE_SCRATCH_SIZE, PROT_READ | PROT_WRITE) ||
	    !map(NATIVE_CODE, NATIVE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	if (sigaltstack(&stack, NULL) != 0)
		return false;
	for (unsigned n = 0; n < sizeof signals / sizeof *signals; n++)
		if (sigaction(signals[n], &action, NULL) != 0)
			return false;
	native_jump_back((uint8_t *)NATIVE_LANDING, native_exit_landing);
	native_jump_back((uint8_t *)NATIVE_LANDING_NEAR, native_exit_landing);
	native_area.avx = __builtin_cpu_supports("avx") != 0;
	native_area.target = NATIVE_INSN;
	started = true;
	return true;
}

uint8_t *native_scratch(void)
{
	return (uint8_t *)NATIVE_SCRATCH;
}

void native_protect(unsigned page, int protection)
{
	if (mprotect((void *)(uintptr_t)(NATIVE_SCRATCH + page * NATIVE_PAGE), NATIVE_PAGE, protection) != 0)
		abort();
}

struct native_result native_guarded(void (*enter)(void), const char *exit)
{
	result = (struct native_result){ 0 };
	fault_exit = exit;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	enter();
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	fault_exit = NULL;
	return result;
}

struct native_result native_run(const uint8_t *insn, unsigned length, unsigned parts,
				struct native_state *state)
{
	uint8_t *at = (uint8_t *)NATIVE_INSN;
	struct native_result r;

	if (length > NATIVE_INSN_MAX)
		abort();
	memcpy(at, insn, length);
	native_jump_back(at + length, native_exit_next);
	memcpy(&native_area.s, state, sizeof *state);
	native_area.parts = parts;
	native_area.landed = 0;
	r = native_guarded(native_enter, native_exit_next);
	native_area.s.rip = r.faulted ? native_fault.rip :
		native_area.landed ? NATIVE_LANDING : NATIVE_INSN + length;
	memcpy(state, &native_area.s, sizeof *state);
	return r;
}
