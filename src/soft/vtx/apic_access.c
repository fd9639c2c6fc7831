/* APIC virtualization as far as the first list of controls goes: the TPR
 * shadow and the APIC-access page (SDM vol. 3, "APIC Virtualization and
 * Virtual Interrupts"). Of the page only the TPR is virtualised; every other
 * access exits. */
#include "soft/block.h"
#include "soft/vtx/state.h"

enum { VTPR_OFFSET = 0x80, TPR_CLASS_SHIFT = 4, TPR_THRESHOLD_MASK = 0xf };

uint8_t *vtx_vtpr(const struct vtx *v)
{
	uint8_t *page = memory_host(v->cpu->memory, vmcs_get(v, VMCS_VIRTUAL_APIC_ADDRESS));
	return page ? page + VTPR_OFFSET : NULL;
}

static bool tpr_shadow(const struct vtx *v)
{
	return v->on.primary & VMX_CONTROL(PRIMARY_TPR_SHADOW);
}

/* Let the block that runs end after the current instruction. It is decoded anew
 * when it is next needed. */
static void stop_block(struct cpu *cpu)
{
	if (!cpu->block)
		return;
	cpu->block->version--;
	block_abandon(cpu);
}

/* "TPR Virtualization": the VM exit comes after the instruction. */
static void vtpr_store(struct vtx *v, uint8_t tpr)
{
	uint8_t *vtpr = vtx_vtpr(v);
	if (!vtpr)
		return;
	host_store(vtpr, tpr, sizeof(uint32_t));	/* bytes 3:1 become 0 */
	memory_wrote_range(v->cpu->memory, vtpr, sizeof(uint32_t));
	if (tpr >> TPR_CLASS_SHIFT < (vmcs_get(v, VMCS_TPR_THRESHOLD) & TPR_THRESHOLD_MASK)) {
		v->tpr_below_threshold = true;
		stop_block(v->cpu);
		atomic_fetch_or_explicit(&v->cpu->events, EVENT_WINDOW, memory_order_relaxed);
	}
}

bool vtx_tpr_read(struct cpu *cpu, uint64_t *value)
{
	const struct vtx *v = cpu->vtx;
	if (!tpr_shadow(v))
		return false;
	const uint8_t *vtpr = vtx_vtpr(v);
	*value = vtpr ? host_load(vtpr, 1) >> TPR_CLASS_SHIFT : 0;
	return true;
}

bool vtx_tpr_write(struct cpu *cpu, uint64_t value)
{
	struct vtx *v = cpu->vtx;
	if (!tpr_shadow(v))
		return false;
	vtpr_store(v, (uint8_t)(value << TPR_CLASS_SHIFT));
	return true;
}

bool vtx_apic_access_page(const struct cpu *cpu, uint64_t pa)
{
	const struct vtx *v = cpu->vtx;
	return v->on.secondary & VMX_CONTROL(SECONDARY_APIC_ACCESSES) &&
		!((pa ^ vmcs_get(v, VMCS_APIC_ACCESS_ADDRESS)) & ~PAGE_OFFSET_MASK);
}

static _Noreturn void access_exit(struct cpu *cpu, unsigned offset, enum vmx_apic_access type)
{
	if (cpu->delivery.active)
		type = VMX_APIC_LINEAR_EVENT;
	vtx_exit(cpu, VMX_EXIT_APIC_ACCESS,
		 offset | (uint64_t)type << VMX_QUALIFICATION_APIC_ACCESS_SHIFT);
}

static bool virtualized(const struct cpu *cpu, unsigned offset, unsigned size)
{
	return tpr_shadow(cpu->vtx) && !cpu->delivery.active && offset == VTPR_OFFSET &&
		size <= sizeof(uint32_t);
}

uint64_t vtx_apic_access_read(struct cpu *cpu, unsigned offset, unsigned size, bool fetch)
{
	if (fetch)
		access_exit(cpu, offset, VMX_APIC_LINEAR_FETCH);
	if (!virtualized(cpu, offset, size))
		access_exit(cpu, offset, VMX_APIC_LINEAR_READ);
	const uint8_t *vtpr = vtx_vtpr(cpu->vtx);
	return vtpr ? host_load(vtpr, size) : 0;
}

void vtx_apic_access_write(struct cpu *cpu, unsigned offset, unsigned size, uint64_t value)
{
	if (!virtualized(cpu, offset, size))
		access_exit(cpu, offset, VMX_APIC_LINEAR_WRITE);
	vtpr_store(cpu->vtx, (uint8_t)value);
}
