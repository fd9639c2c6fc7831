/* Exceptions and interrupts: from raise_* to the handler's first instruction
 * (SDM vol. 3, "Interrupt and Exception Handling").
 *
 * raise_*() is called by an instruction that cannot go on: RIP goes back to
 * start_rip, the event is delivered through the IDT and the loop is re-entered
 * by cpu_continue(). event_deliver() does the same for interrupts and for
 * events that VM entry injects, and returns.
 *
 * Delivery commits nothing before everything that may fault has been done, so
 * a fault in it simply starts over with another event; cpu->delivery names
 * what was being delivered, for the double-fault rules and for the
 * IDT-vectoring information of a VM exit. */
#include "base/log.h"
#include "soft/access.h"
#include "soft/block.h"
#include "soft/engine.h"
#include "soft/flags.h"
#include "soft/tlb.h"
#include "soft/vtx/vtx.h"

#include <stdarg.h>
#include <stdlib.h>

static const char *const exception_name[32] = {
	"#DE divide error", "#DB debug", "NMI", "#BP breakpoint", "#OF overflow", "#BR bound range",
	"#UD invalid opcode", "#NM device not available", "#DF double fault", "coprocessor overrun",
	"#TS invalid TSS", "#NP segment not present", "#SS stack fault", "#GP general protection",
	"#PF page fault", "reserved", "#MF x87 error", "#AC alignment check", "#MC machine check",
	"#XM SIMD error", "#VE virtualization", "#CP control protection",
};

_Noreturn void cpu_continue(struct cpu *cpu)
{
	cpu->commit.pending = false;
	exclusive_end(cpu);
	siglongjmp(cpu->unwind, 1);
}

/* --- what is in memory and registers during delivery --- */

static bool is_software(const struct delivery *d)
{
	return d->type == EVENT_TYPE_SOFTWARE || d->type == EVENT_TYPE_PRIVILEGED_SOFTWARE ||
		d->type == EVENT_TYPE_SOFTWARE_EXCEPTION;
}

/* Error code of a fault that delivering d causes: index, EXT when the event
 * came from outside the program. */
static uint32_t ext_bit(const struct delivery *d)
{
	return d->type == EVENT_TYPE_SOFTWARE || d->type == EVENT_TYPE_SOFTWARE_EXCEPTION ? 0 : 1;
}

static uint32_t idt_error(const struct delivery *d)
{
	enum { ERROR_IDT = 2 };
	return (uint32_t)d->vector << 3 | ERROR_IDT | ext_bit(d);
}

static uint64_t return_rip(const struct cpu *cpu, const struct delivery *d)
{
	return is_software(d) ? cpu->start_rip + d->insn_len : cpu->r[REG_RIP];
}

/* RFLAGS as pushed: faults set RF, so that the instruction's own breakpoint
 * does not fire again; instruction breakpoints themselves, traps, interrupts
 * and software events leave it (SDM vol. 3, "Instruction-Breakpoint Exception
 * Condition"). */
static uint64_t pushed_flags(const struct cpu *cpu, const struct delivery *d)
{
	uint64_t flags = cpu_rflags(cpu);
	if (d->injected)
		return flags;
	if (d->type == EVENT_TYPE_HARDWARE && d->vector != EXC_DB)
		flags |= FLAG_RF;
	return flags;
}

/* --- real mode --- */

static void deliver_real(struct cpu *cpu, const struct delivery *d)
{
	uint64_t sp = cpu->r[RSP];
	unsigned at = d->vector * 4u;
	if (at + 3 > cpu->idtr.limit)
		raise_error(cpu, EXC_GP, idt_error(d));
	uint32_t target = (uint32_t)system_read(cpu, cpu->idtr.base + at, 4);
	stack_push_at(cpu, &sp, pushed_flags(cpu, d) & 0xffff, 2);
	stack_push_at(cpu, &sp, cpu->seg[SEG_CS].selector, 2);
	stack_push_at(cpu, &sp, return_rip(cpu, d) & 0xffff, 2);
	stack_set(cpu, sp);
	cpu_set_rflags(cpu, cpu_rflags(cpu) & ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
	segment_load_real(cpu, SEG_CS, (uint16_t)(target >> 16));
	cpu->r[REG_RIP] = target & 0xffff;
	cpu_mode_changed(cpu);
}

/* --- virtual-8086 mode with CR4.VME (SDM vol. 3, "Class 3 - Software Interrupt
 * Handling in Virtual-8086 Mode"). Hypervisors rely on it to run real mode
 * without "unrestricted guest". --- */

/* Does the redirection bitmap of the TSS send INT n to the 8086 program's own
 * handler? */
static bool vme_redirects(struct cpu *cpu, uint8_t vector)
{
	enum { TSS_TYPE_32 = 8, TSS_IO_MAP_BASE = 102, REDIRECTION_BYTES = 32 };
	const struct segment *tr = &cpu->seg[SEG_TR];
	if (!(cpu->cr4 & CR4_VME))
		return false;
	if (!(tr->access_rights & TSS_TYPE_32) || tr->limit < TSS_IO_MAP_BASE + 1)
		raise_gp(cpu, 0);
	uint32_t at = (uint32_t)system_read(cpu, tr->base + TSS_IO_MAP_BASE, 2) - REDIRECTION_BYTES + vector / 8;
	if (at > tr->limit)
		raise_gp(cpu, 0);
	return !(system_read(cpu, tr->base + at, 1) >> (vector % 8) & 1);
}

static void deliver_redirected(struct cpu *cpu, const struct delivery *d)
{
	uint64_t sp = cpu->r[RSP], flags = cpu_rflags(cpu), image = flags;
	bool virtual_if = cpu_iopl(cpu) < 3;
	uint32_t target = (uint32_t)linear_read(cpu, d->vector * 4u, 4);
	if (virtual_if)
		image = (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
	stack_push_at(cpu, &sp, image & 0xffff, 2);
	stack_push_at(cpu, &sp, cpu->seg[SEG_CS].selector, 2);
	stack_push_at(cpu, &sp, return_rip(cpu, d) & 0xffff, 2);
	stack_set(cpu, sp);
	cpu_set_rflags(cpu, flags & ~(FLAG_TF | FLAG_RF | (virtual_if ? FLAG_VIF : FLAG_IF)));
	segment_load_real(cpu, SEG_CS, (uint16_t)(target >> 16));
	cpu->r[REG_RIP] = target & 0xffff;
	cpu_mode_changed(cpu);
}

/* --- protected and long mode --- */

enum { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT = 14, GATE_TRAP = 15 };
enum { TYPE_CONFORMING = 4, TYPE_CODE = 8, TYPE_WRITABLE = 2, TYPE_EXPAND_DOWN = 4 };

struct gate {
	uint64_t offset;
	uint16_t selector;
	uint8_t type, dpl, ist;
	bool present;
};

static struct gate gate_read(struct cpu *cpu, const struct delivery *d)
{
	bool wide = cpu_long_mode(cpu);
	unsigned width = wide ? 16 : 8;
	struct gate g = { 0 };
	if (d->vector * width + width - 1 > cpu->idtr.limit)
		raise_gp(cpu, idt_error(d));
	uint64_t at = cpu->idtr.base + d->vector * width;
	uint64_t low = system_read(cpu, at, 8);
	g.selector = (uint16_t)(low >> 16);
	g.offset = (low & 0xffff) | (low >> 32 & 0xffff0000);
	g.type = low >> 40 & 31;
	g.dpl = low >> 45 & 3;
	g.present = low >> 47 & 1;
	if (wide) {
		g.ist = low >> 32 & 7;
		g.offset |= system_read(cpu, at + 8, 8) << 32;
	}
	bool known = g.type == GATE_INT || g.type == GATE_TRAP ||
		(!wide && (g.type == GATE_TASK || g.type == GATE_INT16 || g.type == GATE_TRAP16));
	if (!known)
		raise_gp(cpu, idt_error(d));
	if (d->type != EVENT_TYPE_PRIVILEGED_SOFTWARE && is_software(d) && g.dpl < cpu->cpl)
		raise_gp(cpu, idt_error(d));
	if (!g.present)
		raise_error(cpu, EXC_NP, idt_error(d));
	return g;
}

/* The handler's code segment, checked; *cpl is the level it runs at. */
static struct descriptor handler_code(struct cpu *cpu, const struct delivery *d,
				      const struct gate *g, unsigned *cpl)
{
	struct descriptor c;
	uint32_t error = (g->selector & ~3u) | ext_bit(d);
	if (!(g->selector & ~3u))
		raise_gp(cpu, ext_bit(d));
	if (!descriptor_read(cpu, g->selector, &c))
		raise_gp(cpu, error);
	uint32_t ar = descriptor_access_rights(&c);
	unsigned dpl = (ar & AR_DPL) >> AR_DPL_SHIFT;
	if (!(ar & AR_S) || !(ar & TYPE_CODE) || dpl > cpu->cpl)
		raise_gp(cpu, error);
	if (cpu_long_mode(cpu) && (!(ar & AR_L) || ar & AR_DB))
		raise_gp(cpu, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	*cpl = ar & TYPE_CONFORMING ? cpu->cpl : dpl;
	if (cpu_v86(cpu) && *cpl)
		raise_gp(cpu, error);
	return c;
}

/* A stack under construction: at another privilege level than the current. */
struct new_stack {
	uint64_t base, sp, mask;
	const struct segment_bounds *bounds;
	enum tlb_class tlb_class;
	uint32_t error;		/* of the #SS for a limit violation */
};

static void push(struct cpu *cpu, struct new_stack *s, uint64_t value, unsigned size)
{
	s->sp = (s->sp & ~s->mask) | ((s->sp - size) & s->mask);
	uint64_t offset = s->sp & s->mask, linear = s->base + offset;
	if (s->bounds) {
		if (offset < s->bounds->low || offset + size - 1 > s->bounds->high || !s->bounds->writable)
			raise_error(cpu, EXC_SS, s->error);
		linear = (uint32_t)linear;
	} else if (!linear_canonical(linear))
		raise_error(cpu, EXC_SS, s->error);
	if (s->tlb_class == TLB_USER)
		linear_write(cpu, linear, value, size);
	else
		system_write(cpu, linear, value, size);
}

static void deliver_long(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
	unsigned cpl;
	struct descriptor c = handler_code(cpu, d, g, &cpl);
	struct new_stack s = { .sp = cpu->r[RSP], .mask = ~0ull, .error = ext_bit(d),
			       .tlb_class = cpl == 3 ? TLB_USER : TLB_SUPERVISOR };
	if (g->ist || cpl < cpu->cpl) {
		enum { TSS_RSP0 = 4, TSS_IST1 = 36 };
		unsigned at = g->ist ? TSS_IST1 + 8u * (g->ist - 1) : TSS_RSP0 + 8 * cpl;
		if (at + 7 > cpu->seg[SEG_TR].limit)
			raise_error(cpu, EXC_TS, (cpu->seg[SEG_TR].selector & ~3u) | ext_bit(d));
		s.sp = system_read(cpu, cpu->seg[SEG_TR].base + at, 8);
	}
	if (!linear_canonical(g->offset))
		raise_gp(cpu, ext_bit(d));
	s.sp &= ~15ull;
	push(cpu, &s, cpu->seg[SEG_SS].selector, 8);
	push(cpu, &s, cpu->r[RSP], 8);
	push(cpu, &s, pushed_flags(cpu, d), 8);
	push(cpu, &s, cpu->seg[SEG_CS].selector, 8);
	push(cpu, &s, return_rip(cpu, d), 8);
	if (d->has_error)
		push(cpu, &s, d->error, 8);
	descriptor_set_accessed(cpu, g->selector, &c);
	/* Nothing below faults. */
	if (cpl < cpu->cpl)
		cpu->seg[SEG_SS] = (struct segment){ .selector = (uint16_t)cpl,
			.access_rights = AR_UNUSABLE | cpl << AR_DPL_SHIFT };
	segment_set(cpu, SEG_CS, (uint16_t)((g->selector & ~3u) | cpl), &c);
	cpu->cpl = (uint8_t)cpl;
	cpu->r[RSP] = s.sp;
	cpu->r[REG_RIP] = g->offset;
	uint64_t flags = cpu_rflags(cpu) & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	cpu_set_rflags(cpu, g->type == GATE_INT ? flags & ~FLAG_IF : flags);
	cpu_mode_changed(cpu);
}

/* SS:ESP for a more privileged level from the 32- or 16-bit TSS. */
static void tss_stack(struct cpu *cpu, const struct delivery *d, unsigned cpl, uint16_t *ss,
		      uint32_t *esp)
{
	enum { TSS_TYPE_32 = 8, TSS32_ESP0 = 4, TSS16_SP0 = 2 };
	const struct segment *tr = &cpu->seg[SEG_TR];
	bool wide = tr->access_rights & TSS_TYPE_32;
	unsigned at = wide ? TSS32_ESP0 + 8 * cpl : TSS16_SP0 + 4 * cpl;
	if (at + (wide ? 5u : 3u) > tr->limit)
		raise_error(cpu, EXC_TS, (tr->selector & ~3u) | ext_bit(d));
	*esp = (uint32_t)system_read(cpu, tr->base + at, wide ? 4 : 2);
	*ss = (uint16_t)system_read(cpu, tr->base + at + (wide ? 4 : 2), 2);
}

static void deliver_protected(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
	unsigned cpl, size = g->type >= GATE_INT ? 4 : 2;
	struct descriptor c = handler_code(cpu, d, g, &cpl);
	bool inner = cpl < cpu->cpl || cpu_v86(cpu), v86 = cpu_v86(cpu);
	uint64_t flags = pushed_flags(cpu, d);
	if ((uint32_t)g->offset > descriptor_limit(&c))
		raise_gp(cpu, ext_bit(d));
	if (inner) {
		uint16_t ss;
		uint32_t esp;
		struct descriptor sd;
		tss_stack(cpu, d, cpl, &ss, &esp);
		uint32_t error = (ss & ~3u) | ext_bit(d);
		if (!(ss & ~3u) || !descriptor_read(cpu, ss, &sd))
			raise_error(cpu, EXC_TS, error);
		uint32_t ar = descriptor_access_rights(&sd);
		if ((ss & 3u) != cpl || (ar & AR_DPL) >> AR_DPL_SHIFT != cpl || !(ar & AR_S) ||
		    ar & TYPE_CODE || !(ar & TYPE_WRITABLE))
			raise_error(cpu, EXC_TS, error);
		if (!(ar & AR_P))
			raise_error(cpu, EXC_SS, error);
		uint32_t limit = descriptor_limit(&sd);
		struct segment_bounds b = { 0, limit, true, true };
		if (ar & TYPE_EXPAND_DOWN)
			b = (struct segment_bounds){ limit + 1, ar & AR_DB ? UINT32_MAX : UINT16_MAX,
						     true, true };
		struct new_stack s = { .base = descriptor_base(&sd), .sp = esp, .bounds = &b,
				       .mask = ar & AR_DB ? UINT32_MAX : UINT16_MAX, .error = error,
				       .tlb_class = cpl == 3 ? TLB_USER : TLB_SUPERVISOR };
		if (v86) {
			push(cpu, &s, cpu->seg[SEG_GS].selector, size);
			push(cpu, &s, cpu->seg[SEG_FS].selector, size);
			push(cpu, &s, cpu->seg[SEG_DS].selector, size);
			push(cpu, &s, cpu->seg[SEG_ES].selector, size);
		}
		push(cpu, &s, cpu->seg[SEG_SS].selector, size);
		push(cpu, &s, cpu->r[RSP], size);
		push(cpu, &s, flags, size);
		push(cpu, &s, cpu->seg[SEG_CS].selector, size);
		push(cpu, &s, return_rip(cpu, d), size);
		if (d->has_error)
			push(cpu, &s, d->error, size);
		descriptor_set_accessed(cpu, ss, &sd);
		descriptor_set_accessed(cpu, g->selector, &c);
		cpu->sysflags &= ~(uint32_t)FLAG_VM;
		segment_set(cpu, SEG_SS, ss, &sd);
		if (ar & AR_DB)
			cpu->r[RSP] = (uint32_t)s.sp;
		else
			cpu->r[RSP] = (cpu->r[RSP] & ~0xffffull) | (s.sp & 0xffff);
		if (v86)
			for (unsigned n = 0; n < 4; n++) {
				static const uint8_t data[4] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
				cpu->seg[data[n]] = (struct segment){ .access_rights = AR_UNUSABLE };
			}
	} else {
		uint64_t sp = cpu->r[RSP];
		stack_push_at(cpu, &sp, flags, size);
		stack_push_at(cpu, &sp, cpu->seg[SEG_CS].selector, size);
		stack_push_at(cpu, &sp, return_rip(cpu, d), size);
		if (d->has_error)
			stack_push_at(cpu, &sp, d->error, size);
		descriptor_set_accessed(cpu, g->selector, &c);
		stack_set(cpu, sp);
	}
	segment_set(cpu, SEG_CS, (uint16_t)((g->selector & ~3u) | cpl), &c);
	cpu->cpl = (uint8_t)cpl;
	cpu->r[REG_RIP] = size == 4 ? (uint32_t)g->offset : (uint16_t)g->offset;
	uint64_t now = cpu_rflags(cpu) & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	cpu_set_rflags(cpu, g->type == GATE_INT || g->type == GATE_INT16 ? now & ~FLAG_IF : now);
	cpu_mode_changed(cpu);
}

void event_deliver(struct cpu *cpu, const struct delivery *event)
{
	const struct delivery d = *event;
	cpu->delivery = d;
	cpu->delivery.active = true;
	if (d.vector < ARRAY_SIZE(cpu->exceptions) && d.type != EVENT_TYPE_EXTERNAL)
		cpu->exceptions[d.vector]++;
	if (d.type == EVENT_TYPE_EXTERNAL)
		trace(INTERRUPT, "cpu %u: vector %#x at %04x:%#llx", cpu->index, d.vector,
		      cpu->seg[SEG_CS].selector, (unsigned long long)cpu->r[REG_RIP]);
	else
		trace(EXCEPTION, "cpu %u: %s error %#x at %04x:%#llx CR2=%#llx", cpu->index,
		      d.vector < ARRAY_SIZE(exception_name) && exception_name[d.vector] ?
		      exception_name[d.vector] : "software interrupt", d.error,
		      cpu->seg[SEG_CS].selector, (unsigned long long)cpu->r[REG_RIP],
		      (unsigned long long)cpu->cr2);
	if (!cpu_protected(cpu))
		deliver_real(cpu, &d);
	else {
		bool v86_int = cpu_v86(cpu) && d.type == EVENT_TYPE_SOFTWARE;
		bool redirected = v86_int && vme_redirects(cpu, d.vector);
		struct gate g = { 0 };
		if (!redirected) {
			if (v86_int && cpu_iopl(cpu) < 3)
				raise_gp(cpu, 0);
			g = gate_read(cpu, &d);
		}
		if (redirected)
			deliver_redirected(cpu, &d);
		else if (g.type == GATE_TASK) {
			cpu->r[REG_RIP] = return_rip(cpu, &d);
			task_switch(cpu, g.selector, TASK_SWITCH_GATE, d.has_error, d.error);
		} else if (cpu_long_mode(cpu))
			deliver_long(cpu, &d, &g);
		else
			deliver_protected(cpu, &d, &g);
	}
	if (d.type == EVENT_TYPE_NMI)
		cpu->nmi_blocked = true;
	cpu->delivery.active = false;
	cpu->inhibit = 0;
	cpu->trap_delivery = false;
	cpu->activity = ACTIVITY_ACTIVE;
	cpu->start_rip = cpu->r[REG_RIP];
}

/* --- raising --- */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static enum fault_class classify(uint8_t vector)
{
	switch (vector) {
	case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP:
		return CONTRIBUTORY;
	case EXC_PF: case EXC_VE:
		return PAGE_FAULT;
	default:
		return BENIGN;
	}
}

static void history_add(struct cpu *cpu, const struct delivery *d)
{
	memmove(&cpu->history[1], &cpu->history[0], sizeof cpu->history - sizeof *cpu->history);
	cpu->history[0].event = *d;
	cpu->history[0].rip = cpu->start_rip;
	cpu->history[0].cr2 = cpu->cr2;
	cpu->history[0].cs = cpu->seg[SEG_CS].selector;
}

/* Raise d, considering what was being delivered (SDM, "Interrupt 8: Double Fault"). */
static _Noreturn void raise_delivery(struct cpu *cpu, struct delivery d, uint64_t qualification)
{
	const struct delivery old = cpu->delivery;
	if (!is_software(&d))
		cpu->r[REG_RIP] = cpu->trap_delivery ? cpu->r[REG_RIP] : cpu->start_rip;
	history_add(cpu, &d);
	if (cpu->nonroot)
		vtx_intercept_event(cpu, &d, qualification);
	if (d.type == EVENT_TYPE_HARDWARE && d.vector == EXC_PF)
		cpu->cr2 = qualification;
	if (d.type == EVENT_TYPE_HARDWARE && d.vector == EXC_DB) {
		cpu->dr6 |= qualification;
		cpu->dr7 &= ~DR7_GD;
	}
	bool old_fault = old.active && old.type == EVENT_TYPE_HARDWARE;
	if (old_fault && old.vector == EXC_DF && classify(d.vector) != BENIGN)
		cpu_triple_fault(cpu);
	if (old_fault && ((classify(old.vector) == CONTRIBUTORY && classify(d.vector) == CONTRIBUTORY) ||
			  (classify(old.vector) == PAGE_FAULT && classify(d.vector) != BENIGN))) {
		d = (struct delivery){ .type = EVENT_TYPE_HARDWARE, .vector = EXC_DF, .has_error = true };
		history_add(cpu, &d);
		if (cpu->nonroot)
			vtx_intercept_event(cpu, &d, 0);
	}
	event_deliver(cpu, &d);
	cpu_continue(cpu);
}

_Noreturn void raise_exception(struct cpu *cpu, enum exception vector)
{
	raise_delivery(cpu, (struct delivery){ .type = EVENT_TYPE_HARDWARE, .vector = (uint8_t)vector }, 0);
}

_Noreturn void raise_error(struct cpu *cpu, enum exception vector, uint32_t error)
{
	/* Real mode pushes no error codes. */
	raise_delivery(cpu, (struct delivery){ .type = EVENT_TYPE_HARDWARE, .vector = (uint8_t)vector,
					       .has_error = cpu_protected(cpu), .error = error }, 0);
}

_Noreturn void raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error)
{
	raise_delivery(cpu, (struct delivery){ .type = EVENT_TYPE_HARDWARE, .vector = EXC_PF,
					       .has_error = true, .error = error }, linear);
}

_Noreturn void raise_debug(struct cpu *cpu, uint64_t dr6_bits)
{
	raise_delivery(cpu, (struct delivery){ .type = EVENT_TYPE_HARDWARE, .vector = EXC_DB }, dr6_bits);
}

_Noreturn void raise_software(struct cpu *cpu, enum event_type type, uint8_t vector)
{
	struct delivery d = { .type = (uint8_t)type, .vector = vector, .insn_len = cpu->current->len };
	/* INTO and INT3 are exceptions of software, INT1 counts as #DB trap. */
	raise_delivery(cpu, d, 0);
}

/* --- the end --- */

static size_t state_text(const struct cpu *cpu, char *text, size_t room)
{
	static const char *const name[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
		"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15" };
	static const char *const segment_name[SEG_COUNT] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR" };
	size_t n = 0;
	n += (size_t)snprintf(text + n, room - n, "processor %u, %s, CPL %u%s\n", cpu->index,
		cpu->mode == MODE_64 ? "64-bit" : cpu->mode == MODE_32 ? "32-bit" : "16-bit", cpu->cpl,
		cpu->nonroot ? ", VMX non-root operation" : "");
	for (unsigned r = 0; r < 16; r++)
		n += (size_t)snprintf(text + n, room - n, "%-3s=%016llx%s", name[r],
			(unsigned long long)cpu->r[r], r % 4 == 3 ? "\n" : " ");
	n += (size_t)snprintf(text + n, room - n, "RIP=%016llx RFLAGS=%08llx\n",
		(unsigned long long)cpu->start_rip, (unsigned long long)cpu_rflags(cpu));
	for (unsigned s = 0; s < SEG_COUNT; s++)
		n += (size_t)snprintf(text + n, room - n, "%-4s %04x base=%016llx limit=%08x rights=%05x\n",
			segment_name[s], cpu->seg[s].selector, (unsigned long long)cpu->seg[s].base,
			cpu->seg[s].limit, cpu->seg[s].access_rights);
	n += (size_t)snprintf(text + n, room - n,
		"GDTR base=%016llx limit=%04x  IDTR base=%016llx limit=%04x\n"
		"CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx EFER=%llx\n",
		(unsigned long long)cpu->gdtr.base, cpu->gdtr.limit,
		(unsigned long long)cpu->idtr.base, cpu->idtr.limit,
		(unsigned long long)cpu->cr0, (unsigned long long)cpu->cr2,
		(unsigned long long)cpu->cr3, (unsigned long long)cpu->cr4,
		(unsigned long long)cpu->efer);
	return n;
}

/* End the VM: this processor's thread returns from cpu_loop. */
static _Noreturn void cpu_die(struct cpu *cpu, enum exit_status status, const char *headline)
{
	enum { ROOM = 8192 };
	char *text = alloc_zeroed(1, ROOM);
	size_t n = (size_t)snprintf(text, ROOM, "%s\n", headline);
	for (unsigned h = 0; h < ARRAY_SIZE(cpu->history); h++) {
		const struct delivery *e = &cpu->history[h].event;
		if (!cpu->history[h].rip && !e->vector)
			continue;
		n += (size_t)snprintf(text + n, ROOM - n, "%s %s, error %#x, at %04x:%#llx, CR2=%#llx\n",
			h ? "  before it:" : "  last event:",
			e->vector < ARRAY_SIZE(exception_name) && exception_name[e->vector] ?
			exception_name[e->vector] : "software interrupt", e->error,
			cpu->history[h].cs, (unsigned long long)cpu->history[h].rip,
			(unsigned long long)cpu->history[h].cr2);
	}
	state_text(cpu, text + n, ROOM - n);
	cpu->activity = ACTIVITY_SHUTDOWN;
	atomic_fetch_or(&cpu->events, EVENT_STOP);
	cpu->engine->engine.host.died(cpu->engine->engine.host.owner, cpu->index, status, text);
	cpu->delivery.active = false;
	free(text);
	cpu_continue(cpu);
}

_Noreturn void cpu_triple_fault(struct cpu *cpu)
{
	if (cpu->nonroot)
		vtx_triple_fault(cpu);	/* exits to the guest's hypervisor */
	cpu_die(cpu, STATUS_DIED, "The guest died of a triple fault.");
}

_Noreturn void cpu_lost(struct cpu *cpu, const char *headline)
{
	cpu_die(cpu, STATUS_DIED, headline);
}

_Noreturn void cpu_give_up(struct cpu *cpu, const char *format, ...)
{
	char headline[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(headline, sizeof headline, format, ap);
	va_end(ap);
	cpu_die(cpu, STATUS_FAULT, headline);
}
