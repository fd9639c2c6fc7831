/* Extended page tables: guest-physical to what the hypervisor calls physical
 * (SDM vol. 3, "The Extended Page Table Mechanism (EPT)").
 *
 * The walk reads the entries in guest memory each time; what it finds is kept
 * only in the TLB above (soft/tlb.h), combined with the guest's own paging. */
#include "soft/vtx/state.h"

enum { EPT_LEVELS = 4, EPT_INDEX_BITS = 9, EPT_INDEX_MASK = (1 << EPT_INDEX_BITS) - 1 };

static unsigned level_shift(unsigned level)	/* 1: 4 KiB */
{
	return PAGE_SHIFT + EPT_INDEX_BITS * (level - 1);
}

static bool leaf(uint64_t entry, unsigned level)
{
	return level == 1 || (level <= 3 && entry & EPT_LEAF);
}

/* SDM vol. 3, "EPT Misconfigurations". */
static bool misconfigured(uint64_t entry, unsigned level)
{
	enum { TYPE_SHIFT = 3, TYPE_MASK = 7 };
	if ((entry & (EPT_READ | EPT_WRITE)) == EPT_WRITE)
		return true;
	if (entry & BITS(51, PHYSICAL_BITS))
		return true;
	if (!leaf(entry, level))
		return entry & (level == EPT_LEVELS ? BITS(7, 3) : BITS(6, 3));
	if (entry & (BIT(level_shift(level)) - 1) & ~BITS(11, 0))
		return true;
	unsigned type = entry >> TYPE_SHIFT & TYPE_MASK;
	return type == 2 || type == 3 || type == MEMORY_TYPE_UC_MINUS;
}

static _Noreturn void misconfiguration_exit(struct cpu *cpu, uint64_t gpa)
{
	cpu->vtx->exit_data.physical = gpa;
	vtx_exit(cpu, VMX_EXIT_EPT_MISCONFIGURATION, 0);
}

struct ept_request {
	uint64_t gpa, linear;
	enum access access;
	bool linear_valid, structure;
	bool accessed_dirty;	/* EPTP bit 6 */
};

/* SDM vol. 3, "Exit Qualification for EPT Violations". */
static _Noreturn void violation_exit(struct cpu *cpu, const struct ept_request *r, uint64_t rights)
{
	struct vtx *v = cpu->vtx;
	uint64_t q = rights << VMX_QUALIFICATION_EPT_RIGHTS_SHIFT;
	q |= r->access == ACCESS_READ ? VMX_QUALIFICATION_EPT_READ :
		r->access == ACCESS_WRITE ? VMX_QUALIFICATION_EPT_WRITE : VMX_QUALIFICATION_EPT_FETCH;
	if (r->structure) {
		/* With A/D flags, accesses to paging structures count as writes;
		 * an update of one reads it, too. */
		q |= VMX_QUALIFICATION_EPT_READ;
		if (r->accessed_dirty)
			q |= VMX_QUALIFICATION_EPT_WRITE;
	}
	if (r->linear_valid) {
		q |= VMX_QUALIFICATION_EPT_LINEAR_VALID;
		if (!r->structure)
			q |= VMX_QUALIFICATION_EPT_TRANSLATED;
	}
	if (!cpu->delivery.active && vtx_iret_unblocked(v))
		q |= VMX_QUALIFICATION_EPT_NMI_UNBLOCKED;
	v->exit_data.physical = r->gpa;
	v->exit_data.linear = r->linear_valid ? r->linear : 0;
	vtx_exit(cpu, VMX_EXIT_EPT_VIOLATION, q);
}

/* Set bits in an entry; false: it is no longer what was read. */
static bool entry_set(struct cpu *cpu, uint64_t *entry, uint64_t old, uint64_t set)
{
	if ((old & set) == set)
		return true;
	if (!__atomic_compare_exchange_n(entry, &old, old | set, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_RELAXED))
		return false;
	memory_wrote_range(cpu->memory, entry, sizeof *entry);
	return true;
}

/* One try; false: an entry changed meanwhile. */
static bool walk(struct cpu *cpu, const struct ept_request *r, struct ept_translation *out)
{
	struct { uint64_t *host, entry; } seen[EPT_LEVELS + 1];
	uint64_t table = vmcs_get(cpu->vtx, VMCS_EPT_POINTER) & PTE_ADDRESS, rights = EPT_RIGHTS;
	unsigned level = EPT_LEVELS;
	if (unlikely(r->gpa >> level_shift(EPT_LEVELS + 1)))
		violation_exit(cpu, r, 0);
	for (;; level--) {
		unsigned index = (unsigned)(r->gpa >> level_shift(level)) & EPT_INDEX_MASK;
		uint64_t *host = (uint64_t *)memory_host(cpu->memory, table + index * sizeof *host);
		/* Reads of what is no memory give ones: a misconfiguration. */
		uint64_t entry = host ? host_load(host, sizeof *host) : ~0ull;
		if (!(entry & EPT_RIGHTS))
			violation_exit(cpu, r, 0);
		if (unlikely(misconfigured(entry, level)))
			misconfiguration_exit(cpu, r->gpa);
		seen[level].host = host;
		seen[level].entry = entry;
		rights &= entry;
		if (leaf(entry, level))
			break;
		table = entry & PTE_ADDRESS;
	}
	bool write = r->access == ACCESS_WRITE || (r->structure && r->accessed_dirty);
	uint64_t need = r->access == ACCESS_EXECUTE ? EPT_EXECUTE : 0;
	if (r->access == ACCESS_READ || r->structure)
		need |= EPT_READ;
	if (write)
		need |= EPT_WRITE;
	if (need & ~rights)
		violation_exit(cpu, r, rights);
	bool dirty = seen[level].entry & EPT_DIRTY;
	if (r->accessed_dirty) {
		for (unsigned n = EPT_LEVELS; n > level; n--)
			if (!entry_set(cpu, seen[n].host, seen[n].entry, EPT_ACCESSED))
				return false;
		if (!entry_set(cpu, seen[level].host, seen[level].entry,
			       EPT_ACCESSED | (write ? EPT_DIRTY : 0)))
			return false;
		dirty |= write;
	}
	uint64_t offset = BIT(level_shift(level)) - 1;
	*out = (struct ept_translation){
		.pa = (seen[level].entry & PTE_ADDRESS & ~offset) | (r->gpa & offset),
		.page_shift = (uint8_t)level_shift(level),
		.read = rights & EPT_READ, .write = rights & EPT_WRITE,
		.execute = rights & EPT_EXECUTE,
		.dirty = dirty || !r->accessed_dirty,
	};
	return true;
}

void ept_translate(struct cpu *cpu, uint64_t gpa, enum access access, bool linear_valid,
		   uint64_t linear, bool structure, struct ept_translation *out)
{
	const struct ept_request r = {
		.gpa = gpa, .linear = linear, .access = access, .linear_valid = linear_valid,
		.structure = structure,
		.accessed_dirty = vmcs_get(cpu->vtx, VMCS_EPT_POINTER) & EPTP_ACCESSED_DIRTY,
	};
	while (!walk(cpu, &r, out))
		;	/* another processor changed an entry: it makes progress */
}

bool vtx_ept_enabled(const struct cpu *cpu)
{
	return cpu->nonroot && cpu->vtx->on.secondary & VMX_CONTROL(SECONDARY_EPT);
}

uint16_t vtx_vpid(const struct cpu *cpu)
{
	if (!cpu->nonroot || !(cpu->vtx->on.secondary & VMX_CONTROL(SECONDARY_VPID)))
		return 0;
	return (uint16_t)vmcs_get(cpu->vtx, VMCS_VPID);
}

uint64_t vtx_ep4ta(const struct cpu *cpu)
{
	return vtx_ept_enabled(cpu) ?
		vmcs_get(cpu->vtx, VMCS_EPT_POINTER) & BITS(51, PAGE_SHIFT) : 0;
}
