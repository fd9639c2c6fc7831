#include "vtx_machine.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/flags.h"

#include <stdlib.h>

enum { AR_CODE_64 = 0xa09b, AR_CODE_32 = 0xc09b, AR_CODE_16 = 0x9b, AR_DATA_32 = 0xc093,
       AR_DATA_16 = 0x93, AR_V86 = 0xf3, AR_BUSY_TSS = 0x8b, TSS_LIMIT = 0x67, IDT_LIMIT = 0xfff };

static void on_died(void *owner, unsigned processor, enum exit_status status, const char *text)
{
	struct vtx_machine *m = owner;
	m->died = true;
}

static void on_eoi(void *owner, uint8_t vector)
{
}

static uint8_t on_extint(void *owner)
{
	return 0x30;
}

static void put(struct vtx_machine *m, uint64_t pa, uint64_t value)
{
	memory_write(m->memory, pa, &value, sizeof value);
}

/* Tables of both levels: one to one in 2 MiB pages, and handlers for all vectors. */
static void tables_build(struct vtx_machine *m)
{
	enum { HANDLER_SIZE = 16, VECTORS = 256 };
	put(m, AT_PML4, AT_PDPT | PTE_P | PTE_W | PTE_U);
	put(m, AT_PDPT, AT_PD | PTE_P | PTE_W | PTE_U);
	put(m, AT_EPT_PML4, AT_EPT_PDPT | EPT_RIGHTS);
	put(m, AT_EPT_PDPT, AT_EPT_PD | EPT_RIGHTS);
	for (unsigned n = 0; n < MACHINE_RAM >> 21; n++) {
		put(m, AT_PD + 8 * n, (uint64_t)n << 21 | PTE_PS | PTE_P | PTE_W | PTE_U);
		put(m, AT_EPT_PD + 8 * n, (uint64_t)n << 21 | EPT_LEAF | EPT_RIGHTS | MEMORY_TYPE_WB << 3);
	}
	put(m, AT_PD_32, PTE_PS | PTE_P | PTE_W | PTE_U);
	put(m, AT_GDT + SELECTOR_CODE, 0x00af9b000000ffffull);
	put(m, AT_GDT + SELECTOR_DATA, 0x00cf93000000ffffull);
	put(m, AT_TSS + 4, AT_STACK);
	for (unsigned n = 0; n < VECTORS; n++) {
		uint64_t handler = AT_HANDLERS + n * HANDLER_SIZE;
		put(m, AT_IDT + 16 * n, (handler & 0xffff) | SELECTOR_CODE << 16 | 0x8e00ull << 32 |
		    (handler & 0xffff0000) << 32);
		put(m, AT_IDT + 16 * n + 8, 0);
		put(m, handler, 0xf4);	/* HLT */
	}
	const uint32_t revision = VMCS_REVISION;
	memory_write(m->memory, AT_VMXON, &revision, sizeof revision);
	memory_write(m->memory, AT_VMCS, &revision, sizeof revision);
	memory_write(m->memory, AT_OTHER_VMCS, &revision, sizeof revision);
}

struct vtx_machine *machine;

int machine_setup(void **state)
{
	struct vtx_machine *m = alloc_zeroed(1, sizeof *m);
	struct error e;
	struct bus *bus = bus_create();
	const struct engine_config config = { .processors = 1, .expose_virtualization_extensions = true,
					      .options = "icount" };
	m->memory = memory_create(MACHINE_RAM, &e);
	const struct engine_host host = {
		.memory = m->memory, .bus = bus, .clock = clock_create(bus_lock(bus), true), .owner = m,
		.eoi = on_eoi, .extint_acknowledge = on_extint, .died = on_died,
	};
	m->engine = m->memory ? soft_engine_ops.create(&config, &host, &e) : NULL;
	if (!m->engine)
		panic("%s", e.text);
	m->cpu = ((struct soft_engine *)m->engine)->cpu[0];
	m->v = m->cpu->vtx;
	machine = m;
	return 0;
}

int machine_teardown(void **state)
{
	struct vtx_machine *m = machine;
	const struct engine_host host = m->engine->host;
	soft_engine_ops.destroy(m->engine);
	clock_destroy(host.clock);
	bus_destroy(host.bus);
	memory_destroy(m->memory);
	free(m);
	return 0;
}

static void root_prepare(struct vtx_machine *m)
{
	struct processor_state p;
	processor_state_reset(&p);
	p.cr0 = CR0_PE | CR0_NE | CR0_PG | CR0_ET;
	p.cr3 = AT_PML4;
	p.cr4 = CR4_PAE | CR4_VMXE;
	p.efer = EFER_LME | EFER_LMA | EFER_NXE;
	for (unsigned s = 0; s <= SEG_GS; s++)
		p.seg[s] = (struct segment){ SELECTOR_DATA, AR_DATA_32, UINT32_MAX, 0 };
	p.seg[SEG_CS] = (struct segment){ SELECTOR_CODE, AR_CODE_64, UINT32_MAX, 0 };
	p.seg[SEG_TR] = (struct segment){ SELECTOR_TSS, AR_BUSY_TSS, TSS_LIMIT, AT_TSS };
	p.seg[SEG_LDTR] = (struct segment){ .access_rights = AR_UNUSABLE };
	p.gdtr = (struct table_register){ AT_GDT, SELECTOR_TSS + 15 };
	p.idtr = (struct table_register){ AT_IDT, IDT_LIMIT };
	p.gpr[RSP] = AT_STACK;
	p.rip = AT_HOST_CODE;
	soft_engine_ops.reset(m->engine);
	soft_engine_ops.set_state(m->engine, 0, &p);
	m->died = false;
}

static void segment_set_field(struct vtx_machine *m, enum segment_register s, uint16_t selector,
			      uint32_t rights, uint32_t limit, uint64_t base)
{
	field_set(m, VMCS_GUEST_ES_SELECTOR + s, selector);
	field_set(m, VMCS_GUEST_ES_ACCESS_RIGHTS + s, rights);
	field_set(m, VMCS_GUEST_ES_LIMIT + s, limit);
	field_set(m, VMCS_GUEST_ES_BASE + s, base);
}

static uint32_t must_be_1(const struct vtx_machine *m, uint32_t msr)
{
	uint64_t value;
	vtx_msr_read(m->cpu, msr, &value);
	return (uint32_t)value;
}

static void vmcs_prepare(struct vtx_machine *m)
{
	static const uint8_t selector[] = { VMCS_HOST_ES_SELECTOR, VMCS_HOST_SS_SELECTOR,
		VMCS_HOST_DS_SELECTOR, VMCS_HOST_FS_SELECTOR, VMCS_HOST_GS_SELECTOR };
	set(m, PIN_CONTROLS, must_be_1(m, MSR_IA32_VMX_TRUE_PINBASED_CTLS));
	set(m, PRIMARY_CONTROLS, must_be_1(m, MSR_IA32_VMX_TRUE_PROCBASED_CTLS));
	set(m, EXIT_CONTROLS, must_be_1(m, MSR_IA32_VMX_TRUE_EXIT_CTLS) |
	    VMX_CONTROL(EXIT_HOST_ADDRESS_SPACE));
	set(m, ENTRY_CONTROLS, must_be_1(m, MSR_IA32_VMX_TRUE_ENTRY_CTLS) | VMX_CONTROL(ENTRY_IA32E_GUEST));
	set(m, EPT_POINTER, EPTP_VALID);
	set(m, VIRTUAL_APIC_ADDRESS, AT_VIRTUAL_APIC);
	set(m, APIC_ACCESS_ADDRESS, AT_APIC_ACCESS);
	set(m, HOST_CR0, m->cpu->cr0);
	set(m, HOST_CR3, AT_PML4);
	set(m, HOST_CR4, m->cpu->cr4);
	set(m, HOST_CS_SELECTOR, SELECTOR_CODE);
	set(m, HOST_TR_SELECTOR, SELECTOR_TSS);
	for (unsigned n = 0; n < ARRAY_SIZE(selector); n++)
		field_set(m, selector[n], SELECTOR_DATA);
	set(m, HOST_TR_BASE, AT_TSS);
	set(m, HOST_GDTR_BASE, AT_GDT);
	set(m, HOST_IDTR_BASE, AT_IDT);
	set(m, HOST_RSP, AT_STACK);
	set(m, HOST_RIP, AT_HOST_CODE);
	set(m, GUEST_CR0, CR0_PE | CR0_NE | CR0_PG | CR0_ET);
	set(m, GUEST_CR3, AT_PML4);
	set(m, GUEST_CR4, CR4_PAE | CR4_VMXE);
	for (unsigned s = 0; s <= SEG_GS; s++)
		segment_set_field(m, s, SELECTOR_DATA, AR_DATA_32, UINT32_MAX, 0);
	segment_set_field(m, SEG_CS, SELECTOR_CODE, AR_CODE_64, UINT32_MAX, 0);
	segment_set_field(m, SEG_LDTR, 0, AR_UNUSABLE, 0, 0);
	segment_set_field(m, SEG_TR, SELECTOR_TSS, AR_BUSY_TSS, TSS_LIMIT, AT_TSS);
	set(m, GUEST_GDTR_BASE, AT_GDT);
	set(m, GUEST_GDTR_LIMIT, SELECTOR_TSS + 15);
	set(m, GUEST_IDTR_BASE, AT_IDT);
	set(m, GUEST_IDTR_LIMIT, IDT_LIMIT);
	set(m, GUEST_RSP, AT_STACK);
	set(m, GUEST_RIP, AT_GUEST_CODE);
	set(m, GUEST_RFLAGS, FLAG_FIXED);
	set(m, GUEST_DR7, DR7_FIXED);
	set(m, VMCS_LINK_POINTER, VMCS_NO_POINTER);
}

/* The differences of the other kinds of guest. */
static void kind_prepare(struct vtx_machine *m, enum guest_kind kind)
{
	if (kind == GUEST_LONG)
		return;
	set(m, ENTRY_CONTROLS, field(m, ENTRY_CONTROLS) & ~VMX_CONTROL(ENTRY_IA32E_GUEST));
	set(m, GUEST_CR4, CR4_VMXE | (kind == GUEST_PAE ? CR4_PAE : 0));
	segment_set_field(m, SEG_CS, SELECTOR_CODE, AR_CODE_32, UINT32_MAX, 0);
	if (kind == GUEST_PAE)
		set(m, GUEST_CR3, AT_PAE_PDPT);
	else {
		set(m, GUEST_CR3, AT_PD_32);
		set(m, GUEST_CR4, field(m, GUEST_CR4) | CR4_PSE);
	}
	if (kind == GUEST_V86) {
		set(m, GUEST_RFLAGS, FLAG_FIXED | FLAG_VM);
		for (unsigned s = 0; s <= SEG_GS; s++)
			segment_set_field(m, s, AT_GUEST_CODE >> 4, AR_V86, UINT16_MAX, AT_GUEST_CODE);
		set(m, GUEST_RIP, 0);
	}
	if (kind == GUEST_REAL) {
		set(m, PRIMARY_CONTROLS, field(m, PRIMARY_CONTROLS) | VMX_CONTROL(PRIMARY_SECONDARY));
		set(m, SECONDARY_CONTROLS, VMX_CONTROL(SECONDARY_EPT) |
		    VMX_CONTROL(SECONDARY_UNRESTRICTED_GUEST));
		set(m, GUEST_CR0, CR0_NE | CR0_ET);
		for (unsigned s = 0; s <= SEG_GS; s++)
			segment_set_field(m, s, 0, AR_DATA_16, UINT16_MAX, 0);
		segment_set_field(m, SEG_CS, AT_GUEST_CODE >> 4, AR_CODE_16, UINT16_MAX, AT_GUEST_CODE);
		set(m, GUEST_RIP, 0);
	}
}

static void with_pointer(struct vtx_machine *m, const uint8_t *code, unsigned length, uint64_t pa)
{
	put(m, AT_OPERAND, pa);
	m->cpu->r[RAX] = AT_OPERAND;
	machine_run(m, code, length);
	if (m->cpu->arith & (ARITH_CF | ARITH_ZF))
		panic("a VMX instruction of the test's preparation failed");
}

void machine_prepare(struct vtx_machine *m, enum guest_kind kind)
{
	static const uint8_t vmxon[] = { 0xf3, 0x0f, 0xc7, 0x30 }, vmclear[] = { 0x66, 0x0f, 0xc7, 0x30 },
		vmptrld[] = { 0x0f, 0xc7, 0x30 };
	memset(m->memory->ram, 0, MACHINE_RAM);
	tables_build(m);
	root_prepare(m);
	with_pointer(m, vmxon, sizeof vmxon, AT_VMXON);
	with_pointer(m, vmclear, sizeof vmclear, AT_VMCS);
	with_pointer(m, vmptrld, sizeof vmptrld, AT_VMCS);
	vmcs_prepare(m);
	kind_prepare(m, kind);
	m->v->last_failure = CHECK_PASSED;
	m->cpu->r[RAX] = 0;
}

void machine_run(struct vtx_machine *m, const uint8_t *code, unsigned length)
{
	memory_write(m->memory, AT_HOST_CODE, code, length);
	m->cpu->r[REG_RIP] = AT_HOST_CODE;
	cpu_step(m->cpu);
}

void machine_guest_code(struct vtx_machine *m, const uint8_t *code, unsigned length)
{
	memory_write(m->memory, AT_GUEST_CODE, code, length);
}

void machine_launch(struct vtx_machine *m)
{
	static const uint8_t vmlaunch[] = { 0x0f, 0x01, 0xc2 };
	machine_run(m, vmlaunch, sizeof vmlaunch);
}

void machine_step(struct vtx_machine *m)
{
	cpu_step(m->cpu);
}
