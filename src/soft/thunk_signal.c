/* SIGFPE from a thunk: an unmasked SIMD exception of the guest's.
 *
 * A file of its own because <signal.h> and soft/cpu.h both name registers. */
#include "soft/thunk.h"

#include "base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#define MXCSR_MASKED 0x1f80u
enum { ALTERNATE_STACK_BYTES = 64 << 10 };

static struct {
	uintptr_t code, size, stub, mxcsr_offset;
	struct sigaction previous;
} handler;

static __thread void *alternate_stack;

static void on_sigfpe(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;
	if ((uintptr_t)r[REG_RIP] - handler.code < handler.size) {
		uint32_t *mxcsr = (uint32_t *)((uintptr_t)r[REG_RDI] + handler.mxcsr_offset);
		*mxcsr = uc->uc_mcontext.fpregs->mxcsr;
		uc->uc_mcontext.fpregs->mxcsr = MXCSR_MASKED;
		r[REG_RIP] = (greg_t)handler.stub;
		return;
	}
	/* Not ours. */
	if ((handler.previous.sa_flags & SA_SIGINFO) && handler.previous.sa_sigaction) {
		handler.previous.sa_sigaction(sig, info, context);
		return;
	}
	sigaction(SIGFPE, &handler.previous, NULL);
	if (info->si_code <= 0)	/* sent, not caused: it will not come again by itself */
		raise(sig);
}

void thunk_signal_install(const void *code, unsigned long size, const void *stub,
			  unsigned long mxcsr_offset)
{
	handler.code = (uintptr_t)code;
	handler.size = size;
	handler.stub = (uintptr_t)stub;
	handler.mxcsr_offset = mxcsr_offset;
	struct sigaction action = { .sa_sigaction = on_sigfpe, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGFPE, &action, &handler.previous))
		panic("cannot handle SIGFPE");
}

void thunk_thread_enter(void)
{
	if (alternate_stack)
		return;
	alternate_stack = alloc_zeroed(1, ALTERNATE_STACK_BYTES);
	stack_t s = { .ss_sp = alternate_stack, .ss_size = ALTERNATE_STACK_BYTES };
	if (sigaltstack(&s, NULL))
		panic("cannot set an alternate signal stack");
}

void thunk_thread_leave(void)
{
	fpu_live_store();
	if (!alternate_stack)
		return;
	stack_t s = { .ss_flags = SS_DISABLE };
	sigaltstack(&s, NULL);
	free(alternate_stack);
	alternate_stack = NULL;
}
