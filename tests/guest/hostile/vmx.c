/* Chapters that abuse VT-x. A case makes a VMCS that would enter, spoils some of
 * it, and enters as often as it can. VM exits come back at vmx_exited(). */
#include "hostile.h"

#include "../../../src/x86/vmcs_fields.h"

#define REGION(n) (PLAYGROUND + 0x180000 + 0x1000 * (n))	/* VMXON and VMCS regions */
#define BITMAPS (PLAYGROUND + 0x190000)
#define LISTS (PLAYGROUND + 0x1a0000)
#define VIRTUAL_APIC (PLAYGROUND + 0x1b0000)
#define GUEST_IDT (PLAYGROUND + 0x1c0000)
#define GUEST_STUB (PLAYGROUND + 0x1c1000)
#define GUEST_CODE (PLAYGROUND + 0x100000)
#define EPT_ROOT (TABLES + 0x100000)	/* 4 GiB as they are; the pages after it too */

enum { VMX_BASIC = 0x480, VMX_PIN = 0x48d, VMX_PRIMARY = 0x48e, VMX_EXIT = 0x48f, VMX_ENTRY = 0x490,
       VMX_SECONDARY = 0x48b, FEATURE_CONTROL = 0x3a, CPUID_VMX = 1 << 5 };
enum { EXIT_HOST_64 = 1 << 9, ENTRY_GUEST_64 = 1 << 9, PRIMARY_USE_SECONDARY = 1u << 31,
       SECONDARY_EPT = 2, SECONDARY_UNRESTRICTED = 1 << 7, PRIMARY_HLT = 1 << 7, PIN_TIMER = 1 << 6,
       PIN_NMI_EXITING = 1 << 3 };
enum { RIGHTS_UNUSABLE = 0x10000, RIGHTS_BUSY_TSS = 0x8b };
enum { EPT_RWX = 7, EPT_LEAF = 0x80, EPTP_FORMAT = 6 | 3 << 3, EPT_WB = 6 << 3 };
enum { MOST_RESUMES = 24, MOST_ENTRIES = 6, MOST_LIST = 600 };

static const uint16_t fields[] = {
#define X(id, encoding, name) encoding,
	VMCS_FIELDS(X)
#undef X
};

uint32_t vmx_exits[80], vmx_failures;
static unsigned resumes;
extern const uint8_t vmx_exit_entry[];
_Noreturn void vmx_exited(void);

/* --- the instructions: true when they succeed --- */

#define VMX_POINTER(name) \
static bool name(uint64_t pa) \
{ \
	bool fails; \
	asm volatile(#name " %1" : "=@ccbe"(fails) : "m"(pa) : "memory"); \
	return !fails; \
}
VMX_POINTER(vmxon)
VMX_POINTER(vmclear)
VMX_POINTER(vmptrld)

static bool vmwrite(word field, word v)
{
	bool fails;
	asm volatile("vmwrite %2, %1" : "=@ccbe"(fails) : "r"(field), "r"(v) : "memory");
	return !fails;
}

static word vmread(word field)
{
	word v = 0;
	asm volatile("vmread %1, %0" : "+r"(v) : "r"(field) : "cc");
	return v;
}

static void write64(word field, uint64_t v)
{
	vmwrite(field, (word)v);
	if (sizeof(word) == 4)
		vmwrite(field + 1, (word)(v >> 32));
}

static void invept(word type, uint64_t eptp, uint64_t reserved)
{
	struct { uint64_t a, b; } d = { eptp, reserved };
	asm volatile("invept %0, %1" :: "m"(d), "r"(type) : "cc", "memory");
}

static void invvpid(word type, uint64_t vpid, uint64_t address)
{
	struct { uint64_t a, b; } d = { vpid, address };
	asm volatile("invvpid %0, %1" :: "m"(d), "r"(type) : "cc", "memory");
}

/* --- a VMCS that enters --- */

static uint32_t control(uint32_t msr, uint32_t wanted)
{
	uint64_t allowed = rdmsr(msr);
	return (wanted | (uint32_t)allowed) & (uint32_t)(allowed >> 32);
}

static void segment_fields(unsigned n, uint16_t selector, word base, uint32_t limit, uint32_t rights)
{
	vmwrite(VMCS_ENCODING_GUEST_ES_SELECTOR + 2 * n, selector);
	vmwrite(VMCS_ENCODING_GUEST_ES_BASE + 2 * n, base);
	vmwrite(VMCS_ENCODING_GUEST_ES_LIMIT + 2 * n, limit);
	vmwrite(VMCS_ENCODING_GUEST_ES_ACCESS_RIGHTS + 2 * n, rights);
}

static void host_state(void)
{
	struct table_pointer gdtr, idtr;
	asm volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
	for (word f = VMCS_ENCODING_HOST_ES_SELECTOR; f <= VMCS_ENCODING_HOST_GS_SELECTOR; f += 2)
		vmwrite(f, f == VMCS_ENCODING_HOST_CS_SELECTOR ? SEL_KCODE : SEL_KDATA);
	vmwrite(VMCS_ENCODING_HOST_TR_SELECTOR, SEL_TSS);
	vmwrite(VMCS_ENCODING_HOST_CR0, cr0());
	vmwrite(VMCS_ENCODING_HOST_CR3, core_cr3);
	vmwrite(VMCS_ENCODING_HOST_CR4, cr4());
	vmwrite(VMCS_ENCODING_HOST_FS_BASE, 0);
	vmwrite(VMCS_ENCODING_HOST_GS_BASE, 0);
	vmwrite(VMCS_ENCODING_HOST_TR_BASE, (word)(core_gdt[SEL_TSS / 8] >> 16 & 0xffffff));
	vmwrite(VMCS_ENCODING_HOST_GDTR_BASE, gdtr.base);
	vmwrite(VMCS_ENCODING_HOST_IDTR_BASE, idtr.base);
	vmwrite(VMCS_ENCODING_HOST_RSP, (word)core_stack_top);
	vmwrite(VMCS_ENCODING_HOST_RIP, (word)vmx_exit_entry);
	vmwrite(VMCS_ENCODING_HOST_SYSENTER_CS, 0);
	vmwrite(VMCS_ENCODING_HOST_SYSENTER_ESP, 0);
	vmwrite(VMCS_ENCODING_HOST_SYSENTER_EIP, 0);
	write64(VMCS_ENCODING_HOST_EFER, rdmsr(EFER));
	write64(VMCS_ENCODING_HOST_PAT, 0x0007040600070406);
}

/* The guest's vectors exit at once: they must not reach the core's. */
static void guest_vectors(void)
{
	static const uint8_t stub[] = { 0x0f, 0x01, 0xc1, 0xf4, 0xeb, 0xfa };	/* vmcall; hlt; jmp */
	uint64_t *gate = (uint64_t *)GUEST_IDT;
	copy((void *)GUEST_STUB, stub, sizeof stub);
	for (unsigned n = 0; n < 32 * sizeof(word) / 4; n++)
		gate[n] = sizeof(word) == 8 && n & 1 ? 0 :
			(GUEST_STUB & 0xffff) | SEL_KCODE << 16 | (uint64_t)0x8e << 40 |
			(uint64_t)(GUEST_STUB >> 16) << 48;
}

static void guest_state(bool user)
{
	static const uint32_t data = 0xc093, code = sizeof(word) == 8 ? 0xa09b : 0xc09b;
	uint32_t dpl = user ? 0x60 : 0;
	for (unsigned n = 0; n < 6; n++)
		segment_fields(n, (uint16_t)(n == 1 ? (user ? SEL_UCODE : SEL_KCODE) :
					     user ? SEL_UDATA : SEL_KDATA),
			       0, ~0u, (n == 1 ? code : data) | dpl);
	segment_fields(6, 0, 0, 0, RIGHTS_UNUSABLE);
	segment_fields(7, SEL_TSS, (word)(core_gdt[SEL_TSS / 8] >> 16 & 0xffffff), 0xfff, RIGHTS_BUSY_TSS);
	struct table_pointer gdtr;
	asm volatile("sgdt %0" : "=m"(gdtr));
	guest_vectors();
	vmwrite(VMCS_ENCODING_GUEST_GDTR_BASE, gdtr.base);
	vmwrite(VMCS_ENCODING_GUEST_GDTR_LIMIT, gdtr.limit);
	vmwrite(VMCS_ENCODING_GUEST_IDTR_BASE, GUEST_IDT);
	vmwrite(VMCS_ENCODING_GUEST_IDTR_LIMIT, 32 * 2 * sizeof(word) - 1);
	vmwrite(VMCS_ENCODING_GUEST_CR0, cr0());
	vmwrite(VMCS_ENCODING_GUEST_CR3, cell_cr3);
	vmwrite(VMCS_ENCODING_GUEST_CR4, cr4());
	vmwrite(VMCS_ENCODING_GUEST_DR7, 0x400);
	vmwrite(VMCS_ENCODING_GUEST_RSP, PLAYGROUND + 0x8800);
	vmwrite(VMCS_ENCODING_GUEST_RIP, GUEST_CODE);
	vmwrite(VMCS_ENCODING_GUEST_RFLAGS, 2);
	vmwrite(VMCS_ENCODING_GUEST_INTERRUPTIBILITY, 0);
	vmwrite(VMCS_ENCODING_GUEST_ACTIVITY, 0);
	vmwrite(VMCS_ENCODING_GUEST_PENDING_DEBUG, 0);
	vmwrite(VMCS_ENCODING_GUEST_SYSENTER_CS, 0);
	vmwrite(VMCS_ENCODING_GUEST_SYSENTER_ESP, 0);
	vmwrite(VMCS_ENCODING_GUEST_SYSENTER_EIP, 0);
	write64(VMCS_ENCODING_GUEST_DEBUGCTL, 0);
	write64(VMCS_ENCODING_GUEST_EFER, rdmsr(EFER));
	write64(VMCS_ENCODING_GUEST_PAT, 0x0007040600070406);
	write64(VMCS_ENCODING_VMCS_LINK_POINTER, ~0ull);
	vmwrite(VMCS_ENCODING_PREEMPTION_TIMER, 2000);
}

static void control_state(void)
{
	bool wild = one_in(2);
	uint32_t secondary = 0;
	vmwrite(VMCS_ENCODING_PIN_CONTROLS,
		control(VMX_PIN, PIN_NMI_EXITING | PIN_TIMER | (wild ? (uint32_t)random_next() : 0)));
	vmwrite(VMCS_ENCODING_EXIT_CONTROLS,
		control(VMX_EXIT, (sizeof(word) == 8 ? EXIT_HOST_64 : 0) |
			(wild ? (uint32_t)random_next() & ~(uint32_t)EXIT_HOST_64 : 0)));
	vmwrite(VMCS_ENCODING_ENTRY_CONTROLS,
		control(VMX_ENTRY, (sizeof(word) == 8 ? ENTRY_GUEST_64 : 0) |
			(wild ? (uint32_t)random_next() & ~(uint32_t)ENTRY_GUEST_64 : 0)));
	uint32_t primary = control(VMX_PRIMARY, PRIMARY_HLT | (wild ? (uint32_t)random_next() : 0) |
				   PRIMARY_USE_SECONDARY);
	vmwrite(VMCS_ENCODING_PRIMARY_CONTROLS, primary);
	if (primary & PRIMARY_USE_SECONDARY) {
		secondary = control(VMX_SECONDARY, wild ? (uint32_t)random_next() & (uint32_t)random_next() : 0);
		if (one_in(2))
			secondary = control(VMX_SECONDARY, secondary | SECONDARY_EPT);
		if (!(secondary & SECONDARY_EPT))
			secondary &= ~(uint32_t)SECONDARY_UNRESTRICTED;
	}
	vmwrite(VMCS_ENCODING_SECONDARY_CONTROLS, secondary);
	write64(VMCS_ENCODING_EPT_POINTER, EPT_ROOT | EPTP_FORMAT | (one_in(2) ? 0x40 : 0));
	vmwrite(VMCS_ENCODING_VPID, 1 + random_below(3));
	vmwrite(VMCS_ENCODING_EXCEPTION_BITMAP, one_in(2) ? 0 : (word)random_next());
	vmwrite(VMCS_ENCODING_PAGE_FAULT_MASK, 0);
	vmwrite(VMCS_ENCODING_PAGE_FAULT_MATCH, 0);
	vmwrite(VMCS_ENCODING_CR3_TARGET_COUNT, random_below(5));
	vmwrite(VMCS_ENCODING_CR0_MASK, (word)random_next());
	vmwrite(VMCS_ENCODING_CR4_MASK, (word)random_next());
	vmwrite(VMCS_ENCODING_CR0_SHADOW, cr0());
	vmwrite(VMCS_ENCODING_CR4_SHADOW, cr4());
	vmwrite(VMCS_ENCODING_TPR_THRESHOLD, random_below(16));
	write64(VMCS_ENCODING_IO_BITMAP_A, BITMAPS);
	write64(VMCS_ENCODING_IO_BITMAP_B, BITMAPS + 0x1000);
	write64(VMCS_ENCODING_MSR_BITMAPS, BITMAPS + 0x2000);
	write64(VMCS_ENCODING_VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC);
	write64(VMCS_ENCODING_APIC_ACCESS_ADDRESS, one_in(2) ? LOCAL_APIC : PLAYGROUND + 0x8000);
	write64(VMCS_ENCODING_TSC_OFFSET, random_next());
	write64(VMCS_ENCODING_TSC_MULTIPLIER, random_next());
	write64(VMCS_ENCODING_ENTRY_MSR_LOAD_ADDRESS, LISTS);
	write64(VMCS_ENCODING_EXIT_MSR_LOAD_ADDRESS, LISTS + 0x4000);
	write64(VMCS_ENCODING_EXIT_MSR_STORE_ADDRESS, LISTS + 0x8000);
	vmwrite(VMCS_ENCODING_ENTRY_MSR_LOAD_COUNT, one_in(8) ? random_below(MOST_LIST) : 0);
	vmwrite(VMCS_ENCODING_EXIT_MSR_LOAD_COUNT, 0);	/* a bad entry is a VMX abort */
	vmwrite(VMCS_ENCODING_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VMCS_ENCODING_ENTRY_INTERRUPTION_INFO, one_in(4) ?
		(word)(0x80000000u | (random_next() & 0xfff)) : 0);
	vmwrite(VMCS_ENCODING_ENTRY_INSTRUCTION_LENGTH, random_below(16));
}

/* 4 GiB at their own addresses, by 2 MiB pages. */
static void ept_make(void)
{
	uint64_t *root = (uint64_t *)EPT_ROOT, *pdpt = root + 512, *pd = pdpt + 512;
	for (unsigned n = 0; n < 512; n++)
		root[n] = pdpt[n] = 0;
	root[0] = (word)pdpt | EPT_RWX;
	for (unsigned n = 0; n < 4; n++)
		pdpt[n] = ((word)pd + 4096 * n) | EPT_RWX;
	for (unsigned n = 0; n < 2048; n++)
		pd[n] = (uint64_t)n << 21 | EPT_RWX | EPT_LEAF | EPT_WB;
}

/* --- how it is spoiled --- */

static bool host_field(uint16_t f)
{
	return (f >> 10 & 3) == 3;
}

static void field_spoil(uint16_t f)
{
	word v = one_in(2) ? vmread(f) ^ (word)BIT(random_below(64)) :
		one_in(2) ? (word)random_value() : random_address();
	if (one_in(4))
		v &= ~(word)0xfff;
	vmwrite(f, v);
}

static void fields_spoil(void)
{
	for (unsigned n = random_below(one_in(8) ? 64 : 4); n--;) {
		uint16_t f = fields[random_below(ARRAY_SIZE(fields))];
		if (!host_field(f) && f != VMCS_ENCODING_EXIT_MSR_LOAD_COUNT &&
		    f != VMCS_ENCODING_EXIT_MSR_STORE_COUNT)
			field_spoil(f);
	}
	if (one_in(16))		/* encodings that do not exist */
		for (unsigned n = 0; n < 64; n++)
			vmwrite((word)random_value(), (word)random_value());
}

/* Not the core's memory: what is written there ends the run early. */
static uint64_t off_core(uint64_t pa)
{
	return pa & 0xfffff000000 ? pa : pa | PLAYGROUND;
}

static uint64_t random_physical(void)
{
	static const uint64_t places[] = { 0xa0000, 0xfee00000, 0xfec00000, 0xe0000000, 0x3fff000, 0x4000000,
		0xfffff000, 0x100000000, 0xffffffff000, 0x10000000000000, ~0ull };
	switch (random_below(4)) {
	case 0: return off_core(random_value());
	case 1: return off_core(random_next() & 0xffffffffff000);
	case 2: return PLAYGROUND + random_below(PLAYGROUND_SIZE);
	default: return places[random_below(ARRAY_SIZE(places))];
	}
}

static void pointers_spoil(void)
{
	static const uint16_t pointers[] = {
		VMCS_ENCODING_IO_BITMAP_A, VMCS_ENCODING_IO_BITMAP_B, VMCS_ENCODING_MSR_BITMAPS,
		VMCS_ENCODING_EXIT_MSR_STORE_ADDRESS, VMCS_ENCODING_ENTRY_MSR_LOAD_ADDRESS,
		VMCS_ENCODING_VIRTUAL_APIC_ADDRESS, VMCS_ENCODING_APIC_ACCESS_ADDRESS,
		VMCS_ENCODING_VMCS_LINK_POINTER, VMCS_ENCODING_EXIT_MSR_LOAD_ADDRESS };
	for (unsigned n = random_below(4); n--;)
		write64(pointers[random_below(ARRAY_SIZE(pointers))], random_physical() & ~15ull);
	switch (random_below(6)) {
	case 0: write64(VMCS_ENCODING_EPT_POINTER, (random_physical() & 0xffffffffff000) | EPTP_FORMAT); break;
	case 1: write64(VMCS_ENCODING_EPT_POINTER, REGION(1) | EPTP_FORMAT); break;	/* the VMCS itself */
	case 2: vmwrite(VMCS_ENCODING_GUEST_CR3, REGION(1)); break;
	case 3: vmwrite(VMCS_ENCODING_GUEST_CR3, (word)random_physical()); break;
	default: break;
	}
}

static void memory_spoil(void)
{
	uint64_t *ept = (uint64_t *)EPT_ROOT;
	if (one_in(4))
		for (unsigned n = random_below(32); n--;)
			ept[random_below(6 * 512)] = one_in(2) ? off_core(random_value()) :
				(EPT_ROOT + 4096 * random_below(8)) | random_below(0x1000);
	if (one_in(4))
		fill_random((void *)LISTS, 0xc000);
	else
		for (unsigned n = 0; n < 3; n++) {
			uint32_t *list = (uint32_t *)(LISTS + 0x4000 * n);
			for (unsigned k = 0; k < 32; k++) {
				list[4 * k] = one_in(2) ? random_below(0x1000) : 0xc0000080 + random_below(8);
				list[4 * k + 1] = one_in(16);
				*(uint64_t *)(list + 4 * k + 2) = random_value();
			}
		}
	if (one_in(4))
		fill_random((void *)BITMAPS, 0x3000);
	if (one_in(4))
		fill_random((void *)VIRTUAL_APIC, 0x1000);
	if (one_in(8))		/* the region, while it is the current one */
		fill_random((void *)(REGION(1) + (one_in(2) ? 4 : 64 * random_below(64))), 64);
	if (one_in(32))
		fill_random((void *)REGION(0), 4096);
}

/* --- cases --- */

static bool operation_begin(void)
{
	static bool on;
	uint32_t revision = (uint32_t)rdmsr(VMX_BASIC);
	set_cr4(cr4() | CR4_VMXE);
	if (on && one_in(64)) {
		asm volatile("vmxoff" ::: "cc");
		on = false;
	}
	if (!on)
		for (unsigned n = 0; n < 8; n++) {	/* regions that are none */
			uint64_t pa = random_physical();
			if (pa < 0x4000000 && !(pa & 0xfff))
				continue;
			on = on || vmxon(pa);
		}
	*(uint32_t *)REGION(0) = revision;
	on = on || vmxon(REGION(0));
	return on;
}

static void region_load(unsigned n)
{
	*(uint32_t *)REGION(n) = (uint32_t)rdmsr(VMX_BASIC);
	vmclear(REGION(n));
	vmptrld(REGION(n));
}

static bool present(void)
{
	return cpuid(1, 0).c & CPUID_VMX;
}

static void entries(void)
{
	resumes = 0;
	for (unsigned n = 0; n < MOST_ENTRIES; n++) {
		if (one_in(4))
			asm volatile("vmresume" ::: "cc", "memory");
		else
			asm volatile("vmlaunch" ::: "cc", "memory");
		vmx_failures++;
		vmread(VMCS_ENCODING_INSTRUCTION_ERROR);
		fields_spoil();
	}
}

static void prepare(void)
{
	if (!present() || !operation_begin())
		finish(EXIT_NO_CHAPTER);
	ept_make();
	region_load(1 + (one_in(8) ? random_below(4) : 0));
	host_state();
	guest_state(one_in(4));
	control_state();
	random_code((uint8_t *)GUEST_CODE, 256);
	memory_spoil();
}

/* Random fields, pointers and memory, the host's state as it should be. */
static void vmx(void)
{
	prepare();
	if (!one_in(4))
		fields_spoil();
	if (one_in(3))
		pointers_spoil();
	watchdog_start();
	entries();
}

/* The host's state, too: an exit may be the end. */
static void vmx_host(void)
{
	prepare();
	for (unsigned n = 1 + random_below(3); n--;) {
		uint16_t f = fields[random_below(ARRAY_SIZE(fields))];
		if (host_field(f))
			field_spoil(f);
	}
	fields_spoil();
	if (one_in(8)) {
		vmwrite(VMCS_ENCODING_EXIT_MSR_LOAD_COUNT, random_below(MOST_LIST));
		vmwrite(VMCS_ENCODING_EXIT_MSR_STORE_COUNT, random_below(MOST_LIST));
	}
	watchdog_start();
	entries();
}

/* The instructions with operands that lead nowhere. */
static void vmx_instructions(void)
{
	if (!present() || !operation_begin())
		finish(EXIT_NO_CHAPTER);
	if (one_in(2))
		region_load(1);
	for (unsigned n = 0; n < 16; n++) {
		uint64_t pa = random_physical();
		/* VMCLEAR writes: not into the guest's own image. */
		bool own = pa < PLAYGROUND;
		switch (random_below(9)) {
		case 0: if (!own) vmclear(pa); break;
		case 1: vmptrld(pa); break;
		case 2: vmxon(pa); break;
		case 3: invept((word)random_below(4), random_value(), one_in(8) ? random_value() : 0); break;
		case 4: invvpid((word)random_below(5), random_below(4), random_value()); break;
		case 5: vmread((word)random_value()); break;
		case 6: vmwrite(fields[random_below(ARRAY_SIZE(fields))], (word)random_value()); break;
		case 7: {
			uint64_t *at = (uint64_t *)PLAYGROUND;
			asm volatile("vmptrst %0" : "=m"(*at) :: "cc");
			break;
		}
		default:
			/* A region full of garbage becomes the current one. */
			fill_random((void *)REGION(2), 4096);
			*(uint32_t *)REGION(2) = (uint32_t)rdmsr(VMX_BASIC);
			vmptrld(REGION(2));
			host_state();
			vmwrite(VMCS_ENCODING_EXIT_MSR_LOAD_COUNT, 0);
			vmwrite(VMCS_ENCODING_EXIT_CONTROLS, control(VMX_EXIT, sizeof(word) == 8 ? EXIT_HOST_64 : 0));
			asm volatile("vmlaunch" ::: "cc", "memory");
			break;
		}
	}
	if (one_in(4)) {
		asm volatile("vmwrite %1, %0" :: "r"((word)random_next()),
			     "m"(*(word *)random_address()) : "cc");
		asm volatile("vmread %1, %0" : "=m"(*(word *)random_address()) : "r"((word)0x4400) : "cc");
	}
}

/* --- after a VM exit: the guest goes on behind its instruction for a while --- */
void vmx_exited(void)
{
	enum { FAILED_ENTRY = 1u << 31 };
	uint32_t reason = (uint32_t)vmread(VMCS_ENCODING_EXIT_REASON);
	vmx_exits[(reason & 0xffff) < ARRAY_SIZE(vmx_exits) ? reason & 0xffff : ARRAY_SIZE(vmx_exits) - 1]++;
	while (!(reason & FAILED_ENTRY) && resumes++ < MOST_RESUMES) {
		word length = vmread(VMCS_ENCODING_EXIT_INSTRUCTION_LENGTH);
		vmwrite(VMCS_ENCODING_GUEST_RIP, one_in(8) ? GUEST_CODE + random_below(256) :
			vmread(VMCS_ENCODING_GUEST_RIP) + (length && length < 16 ? length : 1));
		vmwrite(VMCS_ENCODING_ENTRY_INTERRUPTION_INFO, one_in(8) ?
			(word)(0x80000000u | (random_next() & 0xfff)) : 0);
		if (one_in(8))
			fields_spoil();
		if (one_in(16))
			memory_spoil();
		asm volatile("vmresume" ::: "cc", "memory");
		vmx_failures++;
	}
	restart_core();
}

const struct chapter vmx_chapters[] = {
	{ "vmx", vmx }, { "vmx-host", vmx_host }, { "vmx-instructions", vmx_instructions },
	{ 0 },
};
