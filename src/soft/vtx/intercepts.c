/* What makes a guest exit: the instructions and events that VMX non-root
 * operation intercepts (SDM vol. 3, "VMX Non-Root Operation"). Each function
 * exits, and then does not return, or comes back and the instruction goes on,
 * with the value it asked for where non-root operation changes it. */
#include "soft/access.h"
#include "soft/vtx/state.h"

static bool on(const struct cpu *cpu, enum vmx_control_word word, uint32_t control)
{
	const struct vmx_controls *c = &cpu->vtx->on;
	switch (word) {
	case VMX_WORD_PIN: return c->pin & control;
	case VMX_WORD_PRIMARY: return c->primary & control;
	case VMX_WORD_SECONDARY: return c->secondary & control;
	case VMX_WORD_EXIT: return c->exit & control;
	default: return c->entry & control;
	}
}

#define PRIMARY(cpu, id) (on(cpu, VMX_WORD_PRIMARY, VMX_CONTROL(PRIMARY_##id)))
#define SECONDARY(cpu, id) (on(cpu, VMX_WORD_SECONDARY, VMX_CONTROL(SECONDARY_##id)))

/* --- VM-exit instruction information (SDM vol. 3, "Information for VM Exits
 * Due to Instruction Execution") --- */

static uint32_t size_code(unsigned bytes)
{
	return bytes == 2 ? 0 : bytes == 4 ? 1 : 2;
}

uint32_t vtx_memory_information(const struct insn *i)
{
	uint32_t information = size_code(i->address_size) << VMX_INSN_ADDRESS_SIZE_SHIFT |
		(uint32_t)i->seg << VMX_INSN_SEGMENT_SHIFT;
	if (i->index < REG_RIP)
		information |= i->scale | (uint32_t)i->index << VMX_INSN_INDEX_SHIFT;
	else
		information |= VMX_INSN_NO_INDEX;
	if (i->base < REG_RIP)
		information |= (uint32_t)i->base << VMX_INSN_BASE_SHIFT;
	else
		information |= VMX_INSN_NO_BASE;
	return information;
}

uint64_t vtx_displacement(const struct cpu *cpu, const struct insn *i)
{
	if (i->base == REG_RIP)
		return bits_trim(cpu->r[REG_RIP] + (uint64_t)i->disp, i->address_size);
	return (uint64_t)i->disp;
}

static int memory_operand(const struct insn *i)
{
	for (unsigned n = 0; n < ARRAY_SIZE(i->kind); n++)
		if (i->kind[n] == OPERAND_MEM)
			return (int)n;
	return -1;
}

static uint32_t gpr_number(const struct insn *i, unsigned operand)
{
	return i->reg[operand] / sizeof(uint64_t);
}

/* --- instructions that one control bit, or nothing at all, decides --- */

struct rule {
	bool known;
	bool always;
	uint8_t word;		/* exits when this control is 1 */
	uint32_t control;
	uint32_t needs;		/* #UD unless this secondary control is 1 */
	bool register_information;
};

#define ALWAYS(reason) [VMX_EXIT_##reason] = { .known = true, .always = true }
#define BY(reason, w, id) [VMX_EXIT_##reason] = { .known = true, .word = VMX_WORD_##w, \
						  .control = VMX_CONTROL(w##_##id) }
static const struct rule rules[VMX_EXIT_REASON_COUNT] = {
	ALWAYS(CPUID), ALWAYS(GETSEC), ALWAYS(INVD), ALWAYS(XSETBV), ALWAYS(RSM),
	ALWAYS(VMCALL), ALWAYS(VMCLEAR), ALWAYS(VMLAUNCH), ALWAYS(VMPTRLD), ALWAYS(VMPTRST),
	ALWAYS(VMREAD), ALWAYS(VMRESUME), ALWAYS(VMWRITE), ALWAYS(VMXOFF), ALWAYS(VMXON),
	ALWAYS(INVEPT), ALWAYS(INVVPID),
	BY(HLT, PRIMARY, HLT), BY(MWAIT, PRIMARY, MWAIT), BY(MONITOR, PRIMARY, MONITOR),
	BY(RDPMC, PRIMARY, RDPMC), BY(RDTSC, PRIMARY, RDTSC), BY(WBINVD, SECONDARY, WBINVD),
	[VMX_EXIT_RDTSCP] = { .known = true, .word = VMX_WORD_PRIMARY,
			      .control = VMX_CONTROL(PRIMARY_RDTSC),
			      .needs = VMX_CONTROL(SECONDARY_RDTSCP) },
	[VMX_EXIT_RDRAND] = { .known = true, .word = VMX_WORD_SECONDARY,
			      .control = VMX_CONTROL(SECONDARY_RDRAND),
			      .register_information = true },
	[VMX_EXIT_RDSEED] = { .known = true, .word = VMX_WORD_SECONDARY,
			      .control = VMX_CONTROL(SECONDARY_RDSEED),
			      .register_information = true },
};

/* PAUSE: always, or when it runs in a loop for too long at CPL 0 (SDM vol. 3,
 * "Instructions That Cause VM Exits Conditionally"). */
static bool pause_exits(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	if (PRIMARY(cpu, PAUSE))
		return true;
	if (!SECONDARY(cpu, PAUSE_LOOP) || cpu->cpl)
		return false;
	uint64_t now = cpu_tsc(cpu), last = v->ple_last;
	bool seen = v->ple_seen;
	v->ple_seen = true;
	v->ple_last = now;
	if (!seen || now - last > vmcs_get(v, VMCS_PLE_GAP)) {
		v->ple_first = now;
		return false;
	}
	return now - v->ple_first > vmcs_get(v, VMCS_PLE_WINDOW);
}

void vtx_intercept(struct cpu *cpu, const struct insn *i, uint32_t reason)
{
	uint32_t information = 0;
	if (reason == VMX_EXIT_PAUSE) {
		if (!pause_exits(cpu))
			return;
	} else {
		const struct rule *r = &rules[reason];
		if (unlikely(reason >= ARRAY_SIZE(rules) || !r->known))
			cpu_give_up(cpu, "There is no rule for VM exits with reason %u.", reason);
		if (r->needs && !on(cpu, VMX_WORD_SECONDARY, r->needs))
			raise_ud(cpu);
		if (!r->always && !on(cpu, r->word, r->control))
			return;
		if (r->register_information)
			information = gpr_number(i, 0) << VMX_INSN_REG1_SHIFT |
				size_code(i->size) << VMX_INSN_OPERAND_SIZE_SHIFT;
	}
	vtx_exit_instruction(cpu, i, reason, 0, information);
}

void vtx_intercept_invlpg(struct cpu *cpu, const struct insn *i, uint64_t linear)
{
	if (PRIMARY(cpu, INVLPG))
		vtx_exit_instruction(cpu, i, VMX_EXIT_INVLPG, linear, 0);
}

void vtx_intercept_invpcid(struct cpu *cpu, const struct insn *i)
{
	if (!SECONDARY(cpu, INVPCID))
		raise_ud(cpu);
	if (PRIMARY(cpu, INVLPG))
		vtx_exit_instruction(cpu, i, VMX_EXIT_INVPCID, vtx_displacement(cpu, i),
				     vtx_memory_information(i) |
				     gpr_number(i, 0) << VMX_INSN_REG2_SHIFT);
}

void vtx_intercept_xsaves(struct cpu *cpu, const struct insn *i, bool restore, uint64_t bitmap)
{
	if (!SECONDARY(cpu, XSAVES))
		raise_ud(cpu);
	if (bitmap & cpu->xss & vmcs_get(cpu->vtx, VMCS_XSS_EXITING_BITMAP))
		vtx_exit_instruction(cpu, i, restore ? VMX_EXIT_XRSTORS : VMX_EXIT_XSAVES,
				     vtx_displacement(cpu, i), vtx_memory_information(i));
}

void vtx_intercept_dr(struct cpu *cpu, const struct insn *i, unsigned dr, unsigned gpr, bool read)
{
	if (PRIMARY(cpu, MOV_DR))
		vtx_exit_instruction(cpu, i, VMX_EXIT_MOV_DR,
				     dr | (read ? VMX_QUALIFICATION_DR_FROM : 0) |
				     (uint64_t)gpr << VMX_QUALIFICATION_DR_GPR_SHIFT, 0);
}

/* Is bit n of the 4 KiB bitmap at pa set? A bitmap that is no RAM is all ones. */
static bool bitmap_bit(const struct cpu *cpu, uint64_t pa, unsigned n)
{
	const uint8_t *page = memory_host(cpu->memory, pa);
	return !page || (host_load(page + n / 8, 1) >> (n % 8) & 1);
}

/* SDM vol. 3, "MSR-Bitmap Address": four areas of 1 KiB. */
void vtx_intercept_msr(struct cpu *cpu, const struct insn *i, uint32_t msr, bool write)
{
	enum { AREA_MSRS = 0x2000, HIGH_FIRST = 0xc0000000u };
	bool exits = true;
	if (PRIMARY(cpu, MSR_BITMAPS)) {
		unsigned area = write ? 2 : 0, index = msr & (AREA_MSRS - 1);
		if ((msr & ~(AREA_MSRS - 1u)) == (uint32_t)HIGH_FIRST)
			area++;
		if (msr == index || area & 1)
			exits = bitmap_bit(cpu, vmcs_get(cpu->vtx, VMCS_MSR_BITMAPS),
					   area * AREA_MSRS + index);
	}
	if (exits)
		vtx_exit_instruction(cpu, i, write ? VMX_EXIT_WRMSR : VMX_EXIT_RDMSR, 0, 0);
}

/* SDM vol. 3, "I/O-Bitmap Addresses". */
static bool io_exits(struct cpu *cpu, uint16_t port, unsigned size)
{
	if (!PRIMARY(cpu, IO_BITMAPS))
		return PRIMARY(cpu, UNCONDITIONAL_IO);
	if (port + size > 0x10000)
		return true;
	for (unsigned n = port; n < port + size; n++)
		if (bitmap_bit(cpu, vmcs_get(cpu->vtx, n & 0x8000 ? VMCS_IO_BITMAP_B : VMCS_IO_BITMAP_A),
			       n & 0x7fff))
			return true;
	return false;
}

void vtx_intercept_io(struct cpu *cpu, const struct insn *i, uint16_t port, unsigned size, bool in,
		      bool string, bool rep, bool immediate)
{
	if (!io_exits(cpu, port, size))
		return;
	uint64_t qualification = (size - 1) | (uint64_t)port << VMX_QUALIFICATION_IO_PORT_SHIFT;
	uint32_t information = 0;
	if (in)
		qualification |= VMX_QUALIFICATION_IO_IN;
	if (rep)
		qualification |= VMX_QUALIFICATION_IO_REP;
	if (immediate)
		qualification |= VMX_QUALIFICATION_IO_IMMEDIATE;
	if (string) {
		enum segment_register s = in ? SEG_ES :
			i->flags & INSN_SEGMENT_OVERRIDE ? i->seg : SEG_DS;
		uint64_t offset = bits_trim(cpu->r[in ? RDI : RSI], i->address_size);
		bool flat = cpu->mode == MODE_64 && s < SEG_FS;
		qualification |= VMX_QUALIFICATION_IO_STRING;
		information = size_code(i->address_size) << VMX_INSN_ADDRESS_SIZE_SHIFT |
			(uint32_t)s << VMX_INSN_SEGMENT_SHIFT;
		cpu->vtx->exit_data.linear = (flat ? 0 : cpu->seg[s].base) + offset;
		if (cpu->mode != MODE_64)
			cpu->vtx->exit_data.linear = (uint32_t)cpu->vtx->exit_data.linear;
	}
	vtx_exit_instruction(cpu, i, VMX_EXIT_IO, qualification, information);
}

void vtx_intercept_descriptor_table(struct cpu *cpu, const struct insn *i, uint32_t reason)
{
	static const struct {
		uint16_t mnemonic;
		uint8_t identity;
	} identities[] = {
		{ ZYDIS_MNEMONIC_SGDT, 0 }, { ZYDIS_MNEMONIC_SIDT, 1 },
		{ ZYDIS_MNEMONIC_LGDT, 2 }, { ZYDIS_MNEMONIC_LIDT, 3 },
		{ ZYDIS_MNEMONIC_SLDT, 0 }, { ZYDIS_MNEMONIC_STR, 1 },
		{ ZYDIS_MNEMONIC_LLDT, 2 }, { ZYDIS_MNEMONIC_LTR, 3 },
	};
	if (!SECONDARY(cpu, DESCRIPTOR_TABLE))
		return;
	uint32_t information = 0;
	uint64_t qualification = 0;
	for (unsigned n = 0; n < ARRAY_SIZE(identities); n++)
		if (identities[n].mnemonic == i->mnemonic)
			information = (uint32_t)identities[n].identity << VMX_INSN_IDENTITY_SHIFT;
	if (memory_operand(i) >= 0) {
		information |= vtx_memory_information(i);
		qualification = vtx_displacement(cpu, i);
	} else
		information |= VMX_INSN_REGISTER | gpr_number(i, 0) << VMX_INSN_REG1_SHIFT;
	if (reason == VMX_EXIT_GDTR_IDTR && i->size != 2)
		information |= 1u << VMX_INSN_OPERAND_SIZE_SHIFT;
	vtx_exit_instruction(cpu, i, reason, qualification, information);
}

/* --- control registers --- */

uint64_t vtx_cr_read(const struct cpu *cpu, unsigned cr)
{
	const struct vtx *v = cpu->vtx;
	uint64_t mask = vmcs_get(v, cr == 0 ? VMCS_CR0_MASK : VMCS_CR4_MASK);
	uint64_t shadow = vmcs_get(v, cr == 0 ? VMCS_CR0_SHADOW : VMCS_CR4_SHADOW);
	return ((cr == 0 ? cpu->cr0 : cpu->cr4) & ~mask) | (shadow & mask);
}

uint64_t vtx_cr_write(struct cpu *cpu, const struct insn *i, unsigned cr, unsigned gpr, uint64_t value)
{
	const struct vtx *v = cpu->vtx;
	uint64_t mask = vmcs_get(v, cr == 0 ? VMCS_CR0_MASK : VMCS_CR4_MASK);
	uint64_t shadow = vmcs_get(v, cr == 0 ? VMCS_CR0_SHADOW : VMCS_CR4_SHADOW);
	if ((value ^ shadow) & mask)
		vtx_exit_instruction(cpu, i, VMX_EXIT_CR_ACCESS,
				     VMX_QUALIFICATION_CR(cr, VMX_CR_MOV_TO, gpr), 0);
	return (value & ~mask) | ((cr == 0 ? cpu->cr0 : cpu->cr4) & mask);
}

void vtx_intercept_cr3(struct cpu *cpu, const struct insn *i, unsigned gpr, bool read, uint64_t value)
{
	const struct vtx *v = cpu->vtx;
	if (read ? !PRIMARY(cpu, CR3_STORE) : !PRIMARY(cpu, CR3_LOAD))
		return;
	for (unsigned n = 0; !read && n < vmcs_get(v, VMCS_CR3_TARGET_COUNT) && n < CR3_TARGETS; n++)
		if (vmcs_get(v, VMCS_CR3_TARGET_0 + n) == value)
			return;
	vtx_exit_instruction(cpu, i, VMX_EXIT_CR_ACCESS,
			     VMX_QUALIFICATION_CR(3, read ? VMX_CR_MOV_FROM : VMX_CR_MOV_TO, gpr), 0);
}

void vtx_intercept_cr8(struct cpu *cpu, const struct insn *i, unsigned gpr, bool read)
{
	if (read ? PRIMARY(cpu, CR8_STORE) : PRIMARY(cpu, CR8_LOAD))
		vtx_exit_instruction(cpu, i, VMX_EXIT_CR_ACCESS,
				     VMX_QUALIFICATION_CR(8, read ? VMX_CR_MOV_FROM : VMX_CR_MOV_TO,
							  gpr), 0);
}

bool vtx_intercept_clts(struct cpu *cpu, const struct insn *i)
{
	const struct vtx *v = cpu->vtx;
	if (!(vmcs_get(v, VMCS_CR0_MASK) & CR0_TS))
		return true;
	if (vmcs_get(v, VMCS_CR0_SHADOW) & CR0_TS)
		vtx_exit_instruction(cpu, i, VMX_EXIT_CR_ACCESS,
				     VMX_QUALIFICATION_CR(0, VMX_CR_CLTS, 0), 0);
	return false;
}

uint64_t vtx_intercept_lmsw(struct cpu *cpu, const struct insn *i, uint16_t source, uint64_t linear)
{
	struct vtx *v = cpu->vtx;
	uint64_t mask = vmcs_get(v, VMCS_CR0_MASK), shadow = vmcs_get(v, VMCS_CR0_SHADOW);
	const uint64_t reachable = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
	/* LMSW sets PE but never clears it. */
	bool exits = (mask & (source ^ shadow) & (reachable & ~CR0_PE)) ||
		(mask & CR0_PE && source & CR0_PE && !(shadow & CR0_PE));
	if (exits) {
		bool in_memory = memory_operand(i) >= 0;
		v->exit_data.linear = in_memory ? linear : 0;
		vtx_exit_instruction(cpu, i, VMX_EXIT_CR_ACCESS,
				     VMX_QUALIFICATION_CR(0, VMX_CR_LMSW, 0) |
				     (in_memory ? VMX_QUALIFICATION_LMSW_MEMORY : 0) |
				     (uint64_t)source << VMX_QUALIFICATION_LMSW_SHIFT, 0);
	}
	uint64_t loads = reachable & ~mask;
	return (cpu->cr0 & ~(loads & ~CR0_PE)) | (source & loads);
}

/* --- time --- */

uint64_t vtx_tsc(struct cpu *cpu, uint64_t tsc)
{
	enum { MULTIPLIER_FRACTION = 48 };
	const struct vtx *v = cpu->vtx;
	if (!PRIMARY(cpu, TSC_OFFSETTING))
		return tsc;
	if (SECONDARY(cpu, TSC_SCALING))
		tsc = (uint64_t)((unsigned __int128)tsc * vmcs_get(v, VMCS_TSC_MULTIPLIER) >>
				 MULTIPLIER_FRACTION);
	return tsc + vmcs_get(v, VMCS_TSC_OFFSET);
}

/* --- events --- */

void vtx_intercept_task_switch(struct cpu *cpu, uint16_t selector, enum task_switch_source source)
{
	vtx_exit(cpu, VMX_EXIT_TASK_SWITCH,
		 selector | (uint64_t)source << VMX_QUALIFICATION_TASK_SOURCE_SHIFT);
}

static bool exception_exits(const struct vtx *v, const struct delivery *d)
{
	if (d->type == EVENT_TYPE_EXTERNAL || d->type == EVENT_TYPE_SOFTWARE)
		return false;
	if (d->type == EVENT_TYPE_NMI)
		return v->on.pin & VMX_CONTROL(PIN_NMI);
	bool bit = vmcs_get(v, VMCS_EXCEPTION_BITMAP) >> (d->vector & 31) & 1;
	if (d->type != EVENT_TYPE_HARDWARE || d->vector != EXC_PF)
		return bit;
	bool match = (d->error & vmcs_get(v, VMCS_PAGE_FAULT_MASK)) ==
		vmcs_get(v, VMCS_PAGE_FAULT_MATCH);
	return match ? bit : !bit;
}

void vtx_intercept_event(struct cpu *cpu, const struct delivery *d, uint64_t qualification)
{
	struct vtx *v = cpu->vtx;
	if (!exception_exits(v, d))
		return;
	bool hardware = d->type == EVENT_TYPE_HARDWARE;
	bool software = d->type == EVENT_TYPE_SOFTWARE_EXCEPTION ||
		d->type == EVENT_TYPE_PRIVILEGED_SOFTWARE;
	bool fault = hardware && (d->vector != EXC_DB || qualification & DR6_BD);
	bool nested = cpu->delivery.active && !(hardware && d->vector == EXC_DF);
	bool address = hardware && (d->vector == EXC_PF || d->vector == EXC_DB);
	struct vmx_exit x = {
		.reason = VMX_EXIT_EXCEPTION_NMI,
		.qualification = address ? qualification : 0,
		.rip = software ? cpu->start_rip : cpu->r[REG_RIP],
		.length = software ? d->insn_len : 0,
		.rf = fault || cpu->sysflags & FLAG_RF,
		.during_delivery = nested,
		.interruption_info = VMX_INFO_VALID | d->vector |
			(uint32_t)d->type << VMX_INFO_TYPE_SHIFT |
			(d->has_error ? VMX_INFO_ERROR_CODE : 0),
		.interruption_error = d->has_error ? d->error : 0,
	};
	if (!nested && !(hardware && d->vector == EXC_DF) && vtx_iret_unblocked(v))
		x.interruption_info |= VMX_INFO_NMI_UNBLOCKED;
	vtx_exit_full(cpu, &x);
}

void vtx_triple_fault(struct cpu *cpu)
{
	struct vmx_exit x = { .reason = VMX_EXIT_TRIPLE_FAULT, .rip = cpu->r[REG_RIP],
			      .rf = cpu->sysflags & FLAG_RF };
	vtx_exit_full(cpu, &x);
}

/* SDM vol. 3, "Changes to Instruction Behavior in VMX Non-Root Operation": IRET. */
void vtx_iret(struct cpu *cpu)
{
	struct vtx *v = cpu->vtx;
	bool *blocked = !(v->on.pin & VMX_CONTROL(PIN_NMI)) ? &cpu->nmi_blocked :
		v->on.pin & VMX_CONTROL(PIN_VIRTUAL_NMIS) ? &v->virtual_nmi_blocked : NULL;
	if (!blocked || !*blocked)
		return;
	*blocked = false;
	v->iret.valid = true;
	v->iret.rip = cpu->start_rip;
	v->iret.instructions = cpu->instructions;
	/* An NMI window may have opened. */
	atomic_fetch_or_explicit(&cpu->events, EVENT_WINDOW, memory_order_relaxed);
}

bool vtx_iret_unblocked(const struct vtx *v)
{
	const struct cpu *cpu = v->cpu;
	return v->iret.valid && v->iret.rip == cpu->start_rip &&
		v->iret.instructions == cpu->instructions;
}
