/* The software processor for the processor tests. */
#include "tier0.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/flags.h"
#include "soft/fpu.h"
#include "soft/tlb.h"
#include "soft/translate/translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Guest-physical layout, all below the scratch pages. The processor's own tables
 * show in the upper half only, so that nothing but the scratch and code pages is
 * present in the lower. */
#define KERNEL 0xffffffff80000000ull
enum {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, KERNEL_PDPT = 0xc000, KERNEL_PD = 0xd000,
	IDT = 0x5000, GDT = 0x6000, TSS = 0x7000, STACK_TOP = 0x9000,
	HANDLERS = 0xa000, HANDLER_SIZE = 16, VECTORS = 32, LDT = 0xb000,
	SECOND_CODE = NATIVE_CODE + NATIVE_PAGE,
	RAM = 32 << 20, LARGE_PAGE = 2 << 20,
	/* The GDT is laid out as Linux has it. */
	SELECTOR_KERNEL_CODE32 = 0x08, SELECTOR_KERNEL_CODE = 0x10, SELECTOR_KERNEL_DATA = 0x18,
	SELECTOR_CODE32 = 0x23, SELECTOR_DATA = 0x2b, SELECTOR_CODE = 0x33, SELECTOR_TSS = 0x40,
	SELECTOR_LDT = 0x50, GDT_LIMIT = 0x7f,
	AR_USER_CODE = 0xa0fb, AR_USER_DATA = 0xc0f3, AR_TSS_BUSY = 0x8b, AR_LDT = 0x82,
	GATE_USER = 0x60, RPL = 3,
};
#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_PS 0x80ull
#define DESCRIPTOR_KERNEL_CODE 0x00af9b000000ffffull
#define DESCRIPTOR_KERNEL_CODE32 0x00cf9b000000ffffull
#define DESCRIPTOR_KERNEL_DATA 0x00cf93000000ffffull
#define DESCRIPTOR_USER_CODE32 0x00cffb000000ffffull
#define DESCRIPTOR_USER_DATA 0x00cff3000000ffffull
#define DESCRIPTOR_USER_CODE 0x00affb000000ffffull

static struct memory *memory;
static struct cpu *cpu;
static bool translating;
static unsigned long translations;
static struct segment user_code = { SELECTOR_CODE, AR_USER_CODE, UINT32_MAX, 0 };
static struct segment user_data = { SELECTOR_DATA, AR_USER_DATA, UINT32_MAX, 0 };

static void died(void *owner, unsigned processor, enum exit_status status, const char *text)
{
	(void)owner;
	(void)processor;
	(void)status;
	fprintf(stderr, "%s\n", text);
	abort();
}

static void eoi(void *owner, uint8_t vector)
{
	(void)owner;
	(void)vector;
}

static uint8_t extint_acknowledge(void *owner)
{
	(void)owner;
	return 0;
}

static uint64_t *qword(uint64_t pa)
{
	return (uint64_t *)memory_host(memory, pa);
}

static void tables_build(void)
{
	for (unsigned n = 0; n < VECTORS; n++) {
		uint64_t at = KERNEL + HANDLERS + n * HANDLER_SIZE;
		*qword(IDT + 16 * n) = (at & 0xffff) | SELECTOR_KERNEL_CODE << 16 | 0x8e00ull << 32 |
			(at & 0xffff0000) << 32;
		*qword(IDT + 16 * n + 8) = at >> 32;
		if (n == EXC_BP || n == EXC_OF)
			*qword(IDT + 16 * n) |= (uint64_t)GATE_USER << 40;
	}
	*qword(GDT + SELECTOR_KERNEL_CODE32) = DESCRIPTOR_KERNEL_CODE32;
	*qword(GDT + SELECTOR_KERNEL_CODE) = DESCRIPTOR_KERNEL_CODE;
	*qword(GDT + SELECTOR_KERNEL_DATA) = DESCRIPTOR_KERNEL_DATA;
	*qword(GDT + (SELECTOR_CODE32 & ~RPL)) = DESCRIPTOR_USER_CODE32;
	*qword(GDT + (SELECTOR_DATA & ~RPL)) = DESCRIPTOR_USER_DATA;
	*qword(GDT + (SELECTOR_CODE & ~RPL)) = DESCRIPTOR_USER_CODE;
	for (unsigned n = 0; n < LEGACY_SEGMENTS; n++)
		*qword(LDT + 8 * n) = legacy_descriptor(n);
	store_le(memory_host(memory, TSS + 4), KERNEL + STACK_TOP, 8);
	*qword(PML4) = PDPT | PTE_P | PTE_W | PTE_U;
	*qword(PDPT) = PD | PTE_P | PTE_W | PTE_U;
	*qword(PML4 + 511 * 8) = KERNEL_PDPT | PTE_P | PTE_W;
	*qword(KERNEL_PDPT + 510 * 8) = KERNEL_PD | PTE_P | PTE_W;
	*qword(KERNEL_PD) = PTE_PS | PTE_P | PTE_W;
	*qword(PD + NATIVE_SCRATCH / LARGE_PAGE * 8) = PT | PTE_P | PTE_W | PTE_U;
	*qword(PT + NATIVE_CODE % LARGE_PAGE / NATIVE_PAGE * 8) = NATIVE_CODE | PTE_P | PTE_W | PTE_U;
	*qword(PT + SECOND_CODE % LARGE_PAGE / NATIVE_PAGE * 8) = SECOND_CODE | PTE_P | PTE_W | PTE_U;
}

void tier0_protect(unsigned page, int protection)
{
	uint64_t linear = NATIVE_SCRATCH + page * NATIVE_PAGE;
	uint64_t *pte = qword(PT + linear % LARGE_PAGE / NATIVE_PAGE * 8);

	*pte = protection & (PROT_READ | PROT_WRITE) ?
		linear | PTE_P | PTE_U | (protection & PROT_WRITE ? PTE_W : 0) : 0;
	tlb_flush_page(cpu, linear);
}

static void user_mode(void)
{
	cpu->seg[SEG_CS] = user_code;
	cpu->seg[SEG_SS] = user_data;
	cpu->cpl = 3;
	cpu_mode_changed(cpu);
}

void tier0_start(void)
{
	static struct engine_config config = { .processors = 1, .options = "icount,precise-flags" };
	static struct engine_host host = { .eoi = eoi, .extint_acknowledge = extint_acknowledge, .died = died };
	struct error e = { 0 };
	struct processor_state p;
	struct engine *g;

	memory = memory_create(RAM, &e);
	if (!memory) {
		fprintf(stderr, "no memory for the software processor\n");
		exit(1);
	}
	host.memory = memory;
	host.bus = bus_create();
	host.clock = clock_create(bus_lock(host.bus), true);
	g = soft_engine_ops.create(&config, &host, &e);
	if (!g) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	cpu = ((struct soft_engine *)g)->cpu[0];
	translating = getenv("NESTOR_TRANSLATED") != NULL;
	if (translating && translator_create(cpu, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	tables_build();
	processor_state_reset(&p);
	p.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	p.cr3 = PML4;
	p.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	p.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		p.seg[s] = user_data;
	/* As a 64-bit process has them. */
	p.seg[SEG_FS].selector = p.seg[SEG_GS].selector = 0;
	p.seg[SEG_CS] = user_code;
	p.seg[SEG_TR] = (struct segment){ SELECTOR_TSS, AR_TSS_BUSY, 0x67, KERNEL + TSS };
	p.seg[SEG_LDTR] = (struct segment){ SELECTOR_LDT, AR_LDT, LEGACY_SEGMENTS * 8 - 1,
						KERNEL + LDT };
	p.gdtr = (struct table_register){ KERNEL + GDT, GDT_LIMIT };
	p.idtr = (struct table_register){ KERNEL + IDT, VECTORS * 16 - 1 };
	p.rflags = FLAG_FIXED | FLAG_IF;
	cpu_set_state(cpu, &p);
	cpu->xcr0 = fpu_xcr0_supported();
	tier0_protect(0, PROT_READ | PROT_WRITE);
	tier0_protect(1, PROT_READ | PROT_WRITE);
}

struct cpu *tier0_cpu(void)
{
	return cpu;
}

uint8_t *tier0_scratch(void)
{
	return memory_host(memory, NATIVE_SCRATCH);
}

static bool pushes_error(unsigned vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

/* The processor stands at a handler: take the frame apart and go back. */
static struct native_result exception_taken(struct native_state *s, uint16_t *cs, uint16_t *ss)
{
	struct native_result r = { .faulted = true };
	uint64_t *frame = qword(cpu->r[RSP] - KERNEL);

	r.vector = (uint8_t)((cpu->r[REG_RIP] - KERNEL - HANDLERS) / HANDLER_SIZE);
	if (pushes_error(r.vector))
		r.error = (uint32_t)*frame++;
	if (r.vector == EXC_PF)
		r.address = cpu->cr2;
	s->rip = frame[0];
	s->rflags = frame[2];
	s->gpr[RSP] = frame[3];
	*cs = (uint16_t)frame[1];
	*ss = (uint16_t)frame[4];
	user_mode();
	return r;
}

static void state_load(const struct native_state *s, unsigned parts)
{
	memcpy(cpu->r, s->gpr, sizeof s->gpr);
	cpu->r[REG_RIP] = NATIVE_INSN;
	cpu_set_rflags(cpu, s->rflags);
	if (!(parts & NATIVE_VECTORS))
		return;
	fpu_live_store();
	memcpy(cpu->vec, s->ymm, sizeof s->ymm);
	memcpy(&cpu->fpu->image, s->fx, sizeof cpu->fpu->image);
	memcpy(&cpu->mxcsr, s->fx + offsetof(struct fxsave_image, mxcsr), sizeof cpu->mxcsr);
	cpu->fpu->fop = cpu->fpu->image.fop;
	cpu->fpu->fip = cpu->fpu->image.fip;
	cpu->fpu->fdp = cpu->fpu->image.fdp;
}

static void state_store(struct native_state *s, unsigned parts)
{
	memcpy(s->gpr, cpu->r, sizeof s->gpr);
	s->rip = cpu->r[REG_RIP] == NATIVE_LANDING_NEAR ? NATIVE_LANDING : cpu->r[REG_RIP];
	s->rflags = cpu_rflags(cpu);
	if (!(parts & NATIVE_VECTORS))
		return;
	fpu_live_store();
	memcpy(s->ymm, cpu->vec, sizeof s->ymm);
	memcpy(s->fx, &cpu->fpu->image, offsetof(struct fxsave_image, fop));
	memcpy(s->fx + offsetof(struct fxsave_image, fop), &cpu->fpu->fop, sizeof cpu->fpu->fop);
	memcpy(s->fx + offsetof(struct fxsave_image, fip), &cpu->fpu->fip, sizeof cpu->fpu->fip);
	memcpy(s->fx + offsetof(struct fxsave_image, fdp), &cpu->fpu->fdp, sizeof cpu->fpu->fdp);
	memcpy(s->fx + offsetof(struct fxsave_image, mxcsr), &cpu->mxcsr, sizeof cpu->mxcsr);
	memcpy(s->fx + offsetof(struct fxsave_image, st), cpu->fpu->image.st, sizeof cpu->fpu->image.st);
}

/* One instruction; translated when it has a translation and that is asked for. */
static void step(void)
{
	if (translating && cpu_step_translated(cpu))
		translations++;
	else
		cpu_step(cpu);
}

unsigned long tier0_translations(void)
{
	return translations;
}

struct native_result tier0_run(const uint8_t *insn, unsigned length, unsigned parts,
			       struct native_state *state)
{
	struct native_result r = { 0 };
	uint16_t cs, ss;

	memory_write(memory, NATIVE_INSN, insn, length);
	state_load(state, parts);
	step();
	state_store(state, parts);
	if (cpu->cpl == 0)
		r = exception_taken(state, &cs, &ss);
	return r;
}

/* --- 16- and 32-bit mode --- */

static void segment_put(enum segment_register s, uint16_t selector)
{
	cpu->seg[s] = (struct segment){ .selector = selector, .access_rights = AR_UNUSABLE };
	if (selector & ~RPL) {
		uint64_t v = *qword(selector & 4 ? LDT + (selector & ~7u) : GDT + (selector & ~7u));
		struct descriptor d = { .low = (uint32_t)v, .high = (uint32_t)(v >> 32) };
		segment_set(cpu, s, selector, &d);
	}
}

static void code_copy(uint64_t at)
{
	enum { LONGEST = 32 };
	memory_write(memory, at, (void *)at, LONGEST);
}

struct native_result tier0_run_legacy(const uint8_t *insn, unsigned length, struct native_state *state,
				      struct legacy_selectors *selectors)
{
	struct native_result r = { 0 };

	static bool copied;

	(void)insn;
	(void)length;
	if (!copied)	/* trampolines and what else can be read in the code pages */
		copied = memory_write(memory, NATIVE_CODE, (void *)NATIVE_CODE, 2 * NATIVE_PAGE);
	code_copy(NATIVE_INSN);
	code_copy(NATIVE_LANDING);
	code_copy(NATIVE_LANDING_NEAR);
	code_copy(SECOND_CODE + LEGACY_LANDING_OFFSET);
	memset(cpu->r, 0, 16 * sizeof *cpu->r);
	for (unsigned n = 0; n < 8; n++)
		cpu->r[n] = (uint32_t)state->gpr[n];
	segment_put(SEG_CS, selectors->cs);
	segment_put(SEG_DS, selectors->ds);
	segment_put(SEG_ES, selectors->es);
	segment_put(SEG_SS, selectors->ss);
	segment_put(SEG_FS, 0);
	segment_put(SEG_GS, 0);
	cpu->r[REG_RIP] = LEGACY_INSN_OFFSET;
	cpu->inhibit = 0;
	cpu_set_rflags(cpu, state->rflags);
	cpu_mode_changed(cpu);
	cpu_step(cpu);
	memcpy(state->gpr, cpu->r, 8 * sizeof *cpu->r);
	state->rip = cpu->r[REG_RIP];
	state->rflags = cpu_rflags(cpu);
	selectors->ds = cpu->seg[SEG_DS].selector;
	selectors->es = cpu->seg[SEG_ES].selector;
	selectors->cs = cpu->seg[SEG_CS].selector;
	selectors->ss = cpu->seg[SEG_SS].selector;
	if (cpu->cpl == 0)
		r = exception_taken(state, &selectors->cs, &selectors->ss);
	else if (cpu->seg[SEG_CS].base == SECOND_CODE)
		selectors->cs = 0;
	if (!r.faulted && state->rip == LEGACY_LANDING_NEAR_OFFSET)
		state->rip = LEGACY_LANDING_OFFSET;
	for (unsigned n = 0; n < 8; n++)
		state->gpr[n] = (uint32_t)state->gpr[n];
	user_mode();
	return r;
}
