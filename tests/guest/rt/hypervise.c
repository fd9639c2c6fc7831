/* A hypervisor that stays out of the way: nothing exits that need not. It takes
 * part only in what always exits: CPUID, XSETBV, INVD, VMX instructions, MSRs
 * outside the bitmaps. */
#include "vmx.h"

static void inject(unsigned vector, bool error)
{
	vmwrite(ENTRY_INFO, INFO_VALID | TYPE_HARDWARE | vector | (error && vmread(G_CR0) & CR0_PE ? INFO_ERROR : 0));
	vmwrite(ENTRY_ERROR, 0);
}

/* The instruction was done for the guest. */
static void done(void)
{
	enum { PENDING_STEP = 1 << 14 };
	vmx_skip();
	vmwrite(INTERRUPTIBILITY, vmread(INTERRUPTIBILITY) & ~(uint64_t)(BLOCKING_STI | BLOCKING_MOV_SS));
	if (vmread(G_RFLAGS) & FLAG_TF)
		vmwrite(PENDING_DEBUG, vmread(PENDING_DEBUG) | PENDING_STEP);
}

static void do_cpuid(void)
{
	uint32_t leaf = (uint32_t)registers.ax;
	struct cpuid r = cpuid(leaf, (uint32_t)registers.cx);
	enum { VMX_BIT = 1 << 5, OSXSAVE_BIT = 1 << 27 };
	if (leaf == 1)
		r.c = (r.c & ~(uint32_t)(VMX_BIT | OSXSAVE_BIT)) | (vmread(G_CR4) & CR4_OSXSAVE ? OSXSAVE_BIT : 0);
	registers.ax = r.a;
	registers.bx = r.b;
	registers.cx = r.c;
	registers.dx = r.d;
	done();
}

static void do_xsetbv(void)
{
	uint32_t v = (uint32_t)registers.ax;
	bool ok = !(uint32_t)registers.cx && !(uint32_t)registers.dx && v & 1 && (!(v & 4) || v & 2) &&
		!(v & ~cpuid(13, 0).a);
	if (!ok) {
		inject(GP, true);
		return;
	}
	asm volatile("xsetbv" :: "c"(0), "a"(v), "d"(0));
	done();
}

void vmx_pass_through(void)
{
	enum { VMX_MSRS = 0x480, VMX_MSRS_END = 0x491 };
	vmwrite(EXCEPTIONS, 0);
	vmwrite(CR4_MASK, CR4_VMXE);
	vmwrite(CR4_SHADOW, 0);
	uint8_t *map = page_alloc();
	for (unsigned n = VMX_MSRS; n <= VMX_MSRS_END; n++)
		map[n / 8] |= (uint8_t)(1 << (n & 7));
	vmwrite(MSR_BITMAP, (word)map);
	control(PRIMARY, CPU_MSR_BITMAPS, 0);
	if (!(rdmsr(0x48e) & CPU_CR3_LOAD))
		control(PRIMARY, 0, CPU_CR3_LOAD | CPU_CR3_STORE);
	control(SECONDARY, CPU2_RDTSCP, 0);
	control(SECONDARY, CPU2_INVPCID, 0);
	control(SECONDARY, CPU2_XSAVES, 0);
	vmwrite(XSS_BITMAP, 0);
	control(ENTRY_CONTROLS, ENTRY_LOAD_DEBUG, 0);
}

void vmx_hypervise(void)
{
	enum { FAILED = 121 };
	for (;;) {
		int reason = vmx_run();
		if (vm_entry_failed)
			reason = -1;
		switch (reason) {
		case R_CPUID:
			do_cpuid();
			break;
		case R_XSETBV:
			do_xsetbv();
			break;
		case R_INVD:
			done();
			break;
		case R_RDMSR: case R_WRMSR: case R_CR:
			inject(GP, true);
			break;
		case R_VMCALL: case R_VMCLEAR: case R_VMLAUNCH: case R_VMPTRLD: case R_VMPTRST: case R_VMREAD:
		case R_VMRESUME: case R_VMWRITE: case R_VMXOFF: case R_VMXON: case R_INVEPT: case R_INVVPID: case R_VMFUNC:
			inject(UD, false);
			break;
		default:
			print("not ok - %s: hypervisor: the guest left with reason %d, error %u, at %lx, qualification %lx\n", chapter,
			      reason, vm_error, vmread(G_RIP), vmread(QUALIFICATION));
			guest_exit(FAILED);
		}
	}
}
