/* INIT and SIPI against VMX operation (SDM vol. 3, "Other Causes of VM Exits",
 * "VMX Operation"): this processor is the hypervisor, the second one sends.
 * Needs --processors 2. */
#include "rt/second.h"
#include "rt/vmx.h"

const char chapter[] = "VT-x and two processors";
enum { R_INIT = 3, R_SIPI = 4, ACTIVITY_WAIT_FOR_SIPI = 3 };

void chapter_setup(void)
{
	lapic(SVR) = 0x1ff;
}

static volatile bool may_send, again;
static volatile uint32_t what;
static void sender(void)
{
	while (!may_send)
		asm volatile("pause");
	do {
		pause_for(1000000);
		lapic(ICR_HIGH) = 0;
		lapic(ICR) = what;
	} while (again);
}
SNIPPET(spin, "movb $1, may_send; 1: pause; jmp 1b");

static bool begin(uint32_t ipi)
{
	if (!vmx_begin())
		return false;
	if (!ap_start(TRAMPOLINE)) {
		expect(!"the second processor starts");
		return false;
	}
	what = ipi;
	may_send = again = false;
	ap_work = sender;
	return true;
}

RULE(init_exits_from_non_root_operation)
{
	if (!begin(INIT | ASSERT))
		return;
	expect_eq(vmx_run_at(spin), R_INIT);
	expect_eq(vmread(EXIT_INFO) & INFO_VALID, 0);
	DONE();
	ap_stop();
}

RULE(init_is_blocked_in_root_operation_and_exits_from_the_guest)
{
	if (!begin(INIT | ASSERT))
		return;
	may_send = true;
	DONE();
	pause_for(3000000);		/* still here */
	expect_eq(vmx_run_at(spin), R_INIT);
	ap_stop();
}

RULE(sipi_exits_from_wait_for_sipi_with_its_vector)
{
	if (!begin(STARTUP | ASSERT | 0x12))
		return;
	vmwrite(ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
	again = true;		/* one that comes too early is lost */
	may_send = true;
	expect_eq(vmx_run_at(spin), R_SIPI);
	again = false;
	expect_eq(vmread(QUALIFICATION), 0x12);
	DONE();
	ap_stop();
}

RULE(sipi_is_ignored_in_root_operation_and_by_a_running_guest)
{
	SNIPPET(spin_a_while, "movb $1, may_send; mov $3000000, %ecx; 1: dec %ecx; jnz 1b; vmcall");
	if (!begin(STARTUP | ASSERT | 0x12))
		return;
	expect_eq(vmx_run_at(spin_a_while), R_VMCALL);
	DONE();
	pause_for(1000000);
	ap_stop();
}

RULE(an_ipi_from_the_other_processor_exits)
{
	if (!begin(ASSERT | 0x66) || !control(PIN, PIN_EXTERNAL, 0) || !control(EXIT_CONTROLS, EXIT_ACK, 0))
		return;
	expect_eq(vmx_run_at(spin), R_INTERRUPT);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_EXTERNAL | 0x66);
	lapic(EOI) = 0;
	DONE();
	ap_stop();
}

RULE(an_nmi_from_the_other_processor_exits)
{
	if (!begin(ASSERT | 4 << 8) || !control(PIN, PIN_NMI, 0))
		return;
	expect_eq(vmx_run_at(spin), R_EXCEPTION);
	expect_eq(vmread(EXIT_INFO), INFO_VALID | TYPE_NMI | NMI);
	DONE();
	ap_stop();
	/* NMIs are blocked until an IRET. */
	asm volatile("mov %%rsp, %%rax; push %0; push %%rax; pushf; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
		     :: "i"(SEL_KDATA), "i"(SEL_K64) : "rax", "memory", "cc");
}
