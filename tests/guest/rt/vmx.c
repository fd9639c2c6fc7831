#include "vmx.h"

enum { VMX_BASIC = 0x480, PIN_MSR = 0x481, PIN_TRUE = 0x48d, PRIMARY_TRUE, EXIT_TRUE, ENTRY_TRUE, SECONDARY_MSR = 0x48b };
enum { FEATURE_CONTROL = 0x3a, LOCKED = 1, OUTSIDE_SMX = 4 };
enum { SEGMENT_UNUSABLE = 1 << 16 };

struct registers registers;
uint8_t guest_stack[8192] __attribute__((aligned(16)));
uint64_t vmxon_region, vmcs_region;
unsigned vm_error;
bool vm_entry_failed;
static bool launched, operating;

static uint32_t revision(void) { return (uint32_t)rdmsr(VMX_BASIC) & 0x7fffffff; }

/* The rule is over: out of VMX operation. */
static void vmx_end(void)
{
	if (operating)
		asm volatile("vmxoff" ::: "cc", "memory");
	operating = false;
	set_cr4(cr4() & ~CR4_VMXE);
}

static uint32_t capability_msr(unsigned field)
{
	switch (field) {
	case PIN: return PIN_TRUE;
	case PRIMARY: return PRIMARY_TRUE;
	case SECONDARY: return SECONDARY_MSR;
	case EXIT_CONTROLS: return EXIT_TRUE;
	default: return ENTRY_TRUE;
	}
}

bool control(unsigned field, uint32_t set, uint32_t clear)
{
	uint64_t capability = rdmsr(capability_msr(field));
	uint32_t v = (uint32_t)vmread(field);
	if (set & ~(uint32_t)(capability >> 32) || clear & (uint32_t)capability) {
		skip("a control is not offered");
		return false;
	}
	vmwrite(field, (v | set) & ~clear);
	if (field == SECONDARY && set)
		return control(PRIMARY, CPU_SECONDARY, 0);
	return true;
}

static void control_default(unsigned field, uint32_t set)
{
	uint64_t capability = rdmsr(capability_msr(field));
	vmwrite(field, ((uint32_t)capability | set) & (uint32_t)(capability >> 32));
}

extern void vmx_exit_entry(void);

static void host_state(void)
{
	struct table_pointer g, i;
	asm volatile("sgdt %0; sidt %1" : "=m"(g), "=m"(i));
	vmwrite(H_CR0, cr0());
	vmwrite(H_CR3, cr3());
	vmwrite(H_CR4, cr4());
	vmwrite(H_CS, SEL_K64);
	vmwrite(H_SS, SEL_KDATA);
	vmwrite(H_DS, SEL_KDATA);
	vmwrite(H_ES, SEL_KDATA);
	vmwrite(H_FS, 0);
	vmwrite(H_GS, 0);
	vmwrite(H_TR, SEL_TSS);
	vmwrite(H_FS_BASE, 0);
	vmwrite(H_GS_BASE, 0);
	vmwrite(H_TR_BASE, (word)&tss);
	vmwrite(H_GDTR_BASE, g.base);
	vmwrite(H_IDTR_BASE, i.base);
	vmwrite(H_SYSENTER_CS, 0);
	vmwrite(H_SYSENTER_ESP, 0);
	vmwrite(H_SYSENTER_EIP, 0);
	vmwrite(H_PAT, rdmsr(0x277));
	vmwrite(H_EFER, rdmsr(EFER));
	vmwrite(H_RIP, (word)vmx_exit_entry);
}

static void guest_state(void)
{
	struct table_pointer g, i;
	asm volatile("sgdt %0; sidt %1" : "=m"(g), "=m"(i));
	static const struct { unsigned segment; uint16_t selector; uint32_t rights; } segments[] = {
		{ 0, SEL_KDATA, 0xc093 }, { 1, SEL_K64, 0xa09b }, { 2, SEL_KDATA, 0xc093 }, { 3, SEL_KDATA, 0xc093 },
		{ 4, 0, SEGMENT_UNUSABLE }, { 5, 0, SEGMENT_UNUSABLE }, { 6, 0, SEGMENT_UNUSABLE }, { 7, SEL_TSS, 0x8b },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(segments); n++) {
		vmwrite(G_ES + 2 * n, segments[n].selector);
		vmwrite(G_ES_LIMIT + 2 * n, segments[n].segment == 7 ? sizeof tss - 1 : 0xffffffff);
		vmwrite(G_ES_AR + 2 * n, segments[n].rights);
		vmwrite(G_ES_BASE + 2 * n, segments[n].segment == 7 ? (word)&tss : 0);
	}
	vmwrite(G_GDTR_BASE, g.base);
	vmwrite(G_GDTR_LIMIT, g.limit);
	vmwrite(G_IDTR_BASE, i.base);
	vmwrite(G_IDTR_LIMIT, i.limit);
	vmwrite(G_CR0, cr0());
	vmwrite(G_CR3, cr3());
	vmwrite(G_CR4, cr4());
	vmwrite(G_DR7, 0x400);
	vmwrite(G_RSP, guest_stack_top);
	vmwrite(G_RFLAGS, 2);
	vmwrite(G_DEBUGCTL, 0);
	vmwrite(G_PAT, rdmsr(0x277));
	vmwrite(G_EFER, rdmsr(EFER));
	vmwrite(G_SYSENTER_CS, 0);
	vmwrite(G_SYSENTER_ESP, 0);
	vmwrite(G_SYSENTER_EIP, 0);
	vmwrite(INTERRUPTIBILITY, 0);
	vmwrite(ACTIVITY, 0);
	vmwrite(PENDING_DEBUG, 0);
	vmwrite(LINK_POINTER, ~0ull);
}

bool vmx_begin(void)
{
	if (!(cpuid(1, 0).c >> 5 & 1) || (rdmsr(FEATURE_CONTROL) & (LOCKED | OUTSIDE_SMX)) == LOCKED) {
		skip("no VT-x");
		return false;
	}
	if (!(rdmsr(FEATURE_CONTROL) & LOCKED))
		wrmsr(FEATURE_CONTROL, LOCKED | OUTSIDE_SMX);
	set_cr4(cr4() | CR4_VMXE);
	vmxon_region = (uint64_t)page_alloc();
	vmcs_region = (uint64_t)page_alloc();
	*(uint32_t *)vmxon_region = revision();
	*(uint32_t *)vmcs_region = revision();
	before_reset = vmx_end;
	if (vmxon(vmxon_region)) {
		expect_("VMXON", __LINE__, 1, 0);
		return false;
	}
	operating = true;
	expect_("VMCLEAR", __LINE__, (uint64_t)vmclear(vmcs_region), VM_SUCCEED);
	expect_("VMPTRLD", __LINE__, (uint64_t)vmptrld(vmcs_region), VM_SUCCEED);
	launched = false;
	memory_fill(&registers, 0, sizeof registers);
	registers.r15 = 0xfee00000;	/* for what talks to the local APIC */
	vmwrite(SECONDARY, 0);
	control_default(PIN, 0);
	control_default(PRIMARY, 0);
	control_default(EXIT_CONTROLS, EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER);
	control_default(ENTRY_CONTROLS, ENTRY_IA32E | ENTRY_LOAD_EFER);
	vmwrite(EXCEPTIONS, 0xffffffff);
	vmwrite(PF_MASK, 0);
	vmwrite(PF_MATCH, 0);
	vmwrite(CR3_COUNT, 0);
	vmwrite(EXIT_STORE_COUNT, 0);
	vmwrite(EXIT_LOAD_COUNT, 0);
	vmwrite(ENTRY_LOAD_COUNT, 0);
	vmwrite(ENTRY_INFO, 0);
	vmwrite(CR0_MASK, 0);
	vmwrite(CR4_MASK, 0);
	vmwrite(TSC_OFFSET, 0);
	vmwrite(TPR_THRESHOLD, 0);
	host_state();
	guest_state();
	return true;
}

/* The entry itself: RDI is &registers, RSI 1 for VMRESUME. */
asm(".text\n.globl vmx_enter_guest\nvmx_enter_guest:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
    "mov $0x6c14, %eax; vmwrite %rsp, %rax\n"	/* host RSP */
    "cmp $0, %esi\n"
    "mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx; mov 32(%rdi), %rbp; mov 40(%rdi), %rsi\n"
    "mov 56(%rdi), %r8; mov 64(%rdi), %r9; mov 72(%rdi), %r10; mov 80(%rdi), %r11; mov 88(%rdi), %r12; mov 96(%rdi), %r13\n"
    "mov 104(%rdi), %r14; mov 112(%rdi), %r15; mov 48(%rdi), %rdi\n"
    "jne 1f; vmlaunch; jmp 2f; 1: vmresume\n"
    "2: setc %al; movzbl %al, %eax; lea 1(%rax), %eax\n"	/* 2: VMfailInvalid, 1: VMfailValid */
    "pop %rdi; jmp 3f\n"
    ".globl vmx_exit_entry\nvmx_exit_entry:\n"
    "push %rdi; mov 8(%rsp), %rdi\n"
    "mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi); mov %rbp, 32(%rdi); mov %rsi, 40(%rdi)\n"
    "mov %r8, 56(%rdi); mov %r9, 64(%rdi); mov %r10, 72(%rdi); mov %r11, 80(%rdi); mov %r12, 88(%rdi); mov %r13, 96(%rdi)\n"
    "mov %r14, 104(%rdi); mov %r15, 112(%rdi); pop %rax; mov %rax, 48(%rdi)\n"
    "pop %rdi; xor %eax, %eax\n"
    "3: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; cld; ret\n");
int vmx_enter_guest(struct registers *r, int resume);

void vmx_launched(bool is)
{
	launched = is;
}

int vmx_run(void)
{
	int failed = vmx_enter_guest(&registers, launched);
	vm_error = 0;
	vm_entry_failed = false;
	if (failed) {
		vm_error = failed == VM_FAIL_VALID - 1 ? (unsigned)vmread(INSTRUCTION_ERROR) : 0;
		return -1;
	}
	/* The exit cut the tables' limits. */
	load_gdt(sizeof gdt - 1);
	load_idt(sizeof idt - 1);
	uint32_t reason = (uint32_t)vmread(EXIT_REASON);
	vm_entry_failed = reason >> 31;
	if (!vm_entry_failed)
		launched = true;
	return reason & 0xffff;
}

int vmx_run_at(const void *rip)
{
	vmwrite(G_RIP, (word)rip);
	vmwrite(G_RSP, guest_stack_top);
	return vmx_run();
}

void vmx_skip(void)
{
	vmwrite(G_RIP, vmread(G_RIP) + vmread(EXIT_LENGTH));
}

/* --- EPT --- */
uint64_t ept_root;

bool ept_begin(uint64_t bits)
{
	uint64_t *root = page_alloc(), *pdpt = page_alloc();
	root[0] = (uint64_t)pdpt | EPT_RWX;
	for (unsigned n = 0; n < 4; n++) {
		uint64_t *pd = page_alloc();
		pdpt[n] = (uint64_t)pd | EPT_RWX;
		for (unsigned k = 0; k < 512; k++)
			pd[k] = (uint64_t)n << 30 | (uint64_t)k << 21 | EPT_RWX | EPT_WB | EPT_LARGE;
	}
	ept_root = (uint64_t)root | EPTP_WB_4 | bits;
	vmwrite(EPTP, ept_root);
	return control(SECONDARY, CPU2_EPT, 0);
}

uint64_t *ept_entry(uint64_t physical, unsigned level)
{
	uint64_t *table = (uint64_t *)(ept_root & ~0xffful);
	for (unsigned l = 4;; l--) {
		uint64_t *e = &table[physical >> (3 + 9 * l) & 511];
		if (l == level)
			return e;
		if (*e & EPT_LARGE) {
			uint64_t *smaller = page_alloc(), step = 1ull << (3 + 9 * (l - 1));
			for (unsigned n = 0; n < 512; n++)
				smaller[n] = (*e & ~(uint64_t)(l > 2 ? 0 : EPT_LARGE)) + n * step;
			*e = (uint64_t)smaller | EPT_RWX;
		} else if (!*e)
			*e = (uint64_t)page_alloc() | EPT_RWX;
		table = (uint64_t *)(*e & 0x000ffffffffff000);
	}
}
