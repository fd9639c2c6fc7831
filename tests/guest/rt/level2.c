/* Linked to a chapter, this runs all of it as the guest of hypervise.c, in the
 * same memory. The rules must hold in VMX non-root operation as they do without.
 * level_begin() is called once and returns in the guest; the hypervisor keeps a
 * stack of its own. Options on the command line: "ept=off", "vpid=off". */
#include "vmx.h"

static uint8_t hypervisor_stack[8192] __attribute__((aligned(16)));
static struct jump begin_jump;

static void guest_begins(void) { guest_longjmp(&begin_jump); }

void level_begin(void)
{
	enum { NO_VMX = 122 };
	if (cpuid(1, 0).c >> 26 & 1)
		set_cr4(cr4() | CR4_OSXSAVE);
	if (!vmx_begin())
		guest_exit(NO_VMX);
	before_reset = NULL;
	if (!word_in_command_line("ept=off"))
		ept_begin(0);
	if (!word_in_command_line("vpid=off")) {
		vmwrite(VPID, 1);
		control(SECONDARY, CPU2_VPID, 0);
	}
	vmx_pass_through();
	vmwrite(G_RIP, (word)guest_begins);
	vmwrite(G_RSP, guest_stack_top);
	pages_keep();
	chapter_suffix = ", as a guest";
	if (!guest_setjmp(&begin_jump))
		asm volatile("mov %0, %%rsp; call *%1" :: "r"(hypervisor_stack + sizeof hypervisor_stack), "r"(vmx_hypervise) : "memory");
}
