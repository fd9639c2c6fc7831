/* VM entries and exits in words, for --trace vmx. */
#include "base/log.h"
#include "soft/vtx/state.h"

#include <stdio.h>

#define LL(x) ((unsigned long long)(x))

static const char *event_type_name(unsigned type)
{
	static const char *const name[8] = { "external interrupt", "reserved", "NMI", "hardware exception",
		"software interrupt", "privileged software exception", "software exception", "other event" };
	return name[type & 7];
}

static void information_text(char *to, size_t room, const char *what, uint64_t info, uint64_t error)
{
	*to = 0;
	if (!(info & VMX_INFO_VALID))
		return;
	int n = snprintf(to, room, ", %s %s %llu", what,
			 event_type_name((info & VMX_INFO_TYPE) >> VMX_INFO_TYPE_SHIFT),
			 LL(info & VMX_INFO_VECTOR));
	if (info & VMX_INFO_ERROR_CODE && n > 0 && (size_t)n < room)
		snprintf(to + n, room - (size_t)n, " error %#llx", LL(error));
}

void vtx_trace_entry(const struct cpu *cpu)
{
	char event[96];
	information_text(event, sizeof event, "injecting",
			 vmcs_get(cpu->vtx, VMCS_ENTRY_INTERRUPTION_INFO),
			 vmcs_get(cpu->vtx, VMCS_ENTRY_ERROR_CODE));
	log_trace(TRACE_VMX, "cpu %u: entry at %04x:%#llx CR0=%#llx CR3=%#llx RFLAGS=%#llx%s", cpu->index,
		  cpu->seg[SEG_CS].selector, LL(cpu->r[REG_RIP]), LL(cpu->cr0), LL(cpu->cr3),
		  LL(cpu_rflags(cpu)), event);
}

/* --- exit qualifications, by reason --- */

typedef void qualification_fn(const struct cpu *cpu, uint64_t q, char *to, size_t room);

static void cr_access(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	static const char *const access[] = { "MOV to", "MOV from", "CLTS", "LMSW" };
	snprintf(to, room, "%s CR%llu, GPR %llu = %#llx", access[q >> 4 & 3], LL(q & 15), LL(q >> 8 & 15),
		 LL(cpu->r[q >> 8 & 15]));
}

static void dr_access(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	snprintf(to, room, "MOV %s DR%llu", q & VMX_QUALIFICATION_DR_FROM ? "from" : "to", LL(q & 7));
}

static void io(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	snprintf(to, room, "%s%s%s port %#llx, %llu byte(s)", q & VMX_QUALIFICATION_IO_REP ? "REP " : "",
		 q & VMX_QUALIFICATION_IO_IN ? "IN" : "OUT", q & VMX_QUALIFICATION_IO_STRING ? "S" : "",
		 LL(q >> VMX_QUALIFICATION_IO_PORT_SHIFT & 0xffff), LL((q & 7) + 1));
}

static void msr(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	snprintf(to, room, "MSR %#llx, EDX:EAX=%08llx:%08llx", LL((uint32_t)cpu->r[RCX]),
		 LL((uint32_t)cpu->r[RDX]), LL((uint32_t)cpu->r[RAX]));
}

static void cpuid(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	snprintf(to, room, "leaf %#llx.%llu", LL((uint32_t)cpu->r[RAX]), LL((uint32_t)cpu->r[RCX]));
}

static void task(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	static const char *const source[] = { "CALL", "IRET", "JMP", "task gate" };
	snprintf(to, room, "%s to TSS %#llx", source[q >> VMX_QUALIFICATION_TASK_SOURCE_SHIFT & 3],
		 LL(q & 0xffff));
}

static void apic(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	static const char *const access[16] = { "read", "write", "fetch", "access in event delivery",
		[VMX_APIC_PHYSICAL_EVENT] = "physical access in event delivery",
		[VMX_APIC_PHYSICAL_FETCH] = "physical access" };
	const char *a = access[q >> VMX_QUALIFICATION_APIC_ACCESS_SHIFT & 15];
	snprintf(to, room, "%s of offset %#llx", a ? a : "access", LL(q & PAGE_OFFSET_MASK));
}

static void ept(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	int n = snprintf(to, room, "%s%s%s of guest-physical %#llx, rights %c%c%c",
			 q & VMX_QUALIFICATION_EPT_READ ? "read" : "",
			 q & VMX_QUALIFICATION_EPT_WRITE ? "write" : "",
			 q & VMX_QUALIFICATION_EPT_FETCH ? "fetch" : "",
			 LL(vmcs_get(cpu->vtx, VMCS_GUEST_PHYSICAL_ADDRESS)),
			 q & BIT(3) ? 'r' : '-', q & BIT(4) ? 'w' : '-', q & BIT(5) ? 'x' : '-');
	if (q & VMX_QUALIFICATION_EPT_LINEAR_VALID && n > 0 && (size_t)n < room)
		snprintf(to + n, room - (size_t)n, " (%s linear %#llx)",
			 q & VMX_QUALIFICATION_EPT_TRANSLATED ? "for" : "walking for",
			 LL(vmcs_get(cpu->vtx, VMCS_GUEST_LINEAR_ADDRESS)));
}

static void misconfiguration(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	snprintf(to, room, "guest-physical %#llx", LL(vmcs_get(cpu->vtx, VMCS_GUEST_PHYSICAL_ADDRESS)));
}

static void exception(const struct cpu *cpu, uint64_t q, char *to, size_t room)
{
	information_text(to, room, "", vmcs_get(cpu->vtx, VMCS_EXIT_INTERRUPTION_INFO),
			 vmcs_get(cpu->vtx, VMCS_EXIT_INTERRUPTION_ERROR));
	size_t n = strlen(to);
	if (q)
		snprintf(to + n, room - n, ", qualification %#llx", LL(q));
	if (n > 2)
		memmove(to, to + 2, strlen(to + 2) + 1);	/* the ", " of a list */
}

static qualification_fn *const qualification_text[VMX_EXIT_REASON_COUNT] = {
	[VMX_EXIT_EXCEPTION_NMI] = exception, [VMX_EXIT_EXTERNAL_INTERRUPT] = exception,
	[VMX_EXIT_TASK_SWITCH] = task, [VMX_EXIT_CPUID] = cpuid, [VMX_EXIT_CR_ACCESS] = cr_access,
	[VMX_EXIT_MOV_DR] = dr_access, [VMX_EXIT_IO] = io, [VMX_EXIT_RDMSR] = msr, [VMX_EXIT_WRMSR] = msr,
	[VMX_EXIT_APIC_ACCESS] = apic, [VMX_EXIT_EPT_VIOLATION] = ept,
	[VMX_EXIT_EPT_MISCONFIGURATION] = misconfiguration,
};

void vtx_trace_exit(const struct cpu *cpu, const struct vmx_exit *x)
{
	char text[160] = "", vectoring[96];
	qualification_fn *fn = qualification_text[x->reason];
	if (fn)
		fn(cpu, x->qualification, text, sizeof text);
	else if (x->qualification)
		snprintf(text, sizeof text, "qualification %#llx", LL(x->qualification));
	information_text(vectoring, sizeof vectoring, "while delivering",
			 vmcs_get(cpu->vtx, VMCS_IDT_VECTORING_INFO),
			 vmcs_get(cpu->vtx, VMCS_IDT_VECTORING_ERROR));
	log_trace(TRACE_VMX, "cpu %u: exit %u (%s) at %04x:%#llx%s%s%s", cpu->index, x->reason,
		  vmx_exit_reason_name(x->reason), cpu->seg[SEG_CS].selector, LL(x->rip),
		  *text ? ": " : "", text, vectoring);
}
