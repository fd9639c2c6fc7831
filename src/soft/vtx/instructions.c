/* The VMX instructions (SDM vol. 3, chapter "VMX Instruction Reference"), with
 * their checks in the order of the manual's "Operation" sections. Each begins
 * with admit(): #UD where VMX operation is off or the mode is wrong, VM exit in
 * non-root operation, #GP above CPL 0. */
#include "soft/access.h"
#include "soft/flags.h"
#include "base/log.h"
#include "soft/vtx/state.h"

/* --- results ("Conventions") --- */

static void flags_only(struct cpu *cpu, uint16_t set)
{
	cpu->arith = ARITH_FIXED | set;
}

static void vm_succeed(struct cpu *cpu)
{
	flags_only(cpu, 0);
}

static void vm_fail_invalid(struct cpu *cpu)
{
	flags_only(cpu, ARITH_CF);
}

/* VMfail: with a current VMCS the error goes there. */
static void vm_fail(struct cpu *cpu, enum vmx_error error)
{
	struct vtx *v = cpu->vtx;
	trace(VMX, "cpu %u: %s fails: %s", cpu->index,
	      cpu->current ? ZydisMnemonicGetString(cpu->current->mnemonic) : "instruction",
	      vmx_error_name(error));
	if (v->pointer == VMCS_NO_POINTER) {
		vm_fail_invalid(cpu);
		return;
	}
	v->vmcs.f[VMCS_INSTRUCTION_ERROR] = error;
	flags_only(cpu, ARITH_ZF);
}

/* --- operands --- */

static unsigned operand_size(const struct cpu *cpu)
{
	return cpu->mode == MODE_64 ? 8 : 4;
}

static uint64_t gpr_read(const struct cpu *cpu, const struct insn *i, unsigned operand)
{
	return load_le((const char *)cpu->r + i->reg[operand], operand_size(cpu));
}

/* The 64-bit memory operand of VMXON, VMCLEAR, VMPTRLD. */
static uint64_t pointer_operand(struct cpu *cpu, const struct insn *i)
{
	return linear_read(cpu, insn_linear(cpu, i, 8, false), 8);
}

static bool pointer_valid(uint64_t pa)
{
	return !(pa & (PAGE_OFFSET_MASK | ~PHYSICAL_MASK));
}

static bool wrong_mode(const struct cpu *cpu)
{
	return !cpu_protected(cpu) || cpu_v86(cpu) || (cpu_long_mode(cpu) && cpu->mode != MODE_64);
}

/* The common beginning; information is for the VM exit. */
static struct vtx *admit(struct cpu *cpu, const struct insn *i, uint32_t reason,
			 uint64_t qualification, uint32_t information)
{
	struct vtx *v = cpu->vtx;
	if (!v || !v->operation || wrong_mode(cpu))
		raise_ud(cpu);
	if (cpu->nonroot)
		vtx_exit_instruction(cpu, i, reason, qualification, information);
	if (cpu->cpl)
		raise_gp(cpu, 0);
	return v;
}

static struct vtx *admit_memory(struct cpu *cpu, const struct insn *i, uint32_t reason)
{
	return admit(cpu, i, reason, vtx_displacement(cpu, i), vtx_memory_information(i));
}

/* --- VMX operation --- */

static void vmxon(struct cpu *cpu, const struct insn *i)
{
	struct vtx *v = cpu->vtx;
	uint32_t revision;
	if (!v || !(cpu->cr4 & CR4_VMXE) || wrong_mode(cpu))
		raise_ud(cpu);
	if (v->operation) {
		admit_memory(cpu, i, VMX_EXIT_VMXON);
		vm_fail(cpu, VMX_ERROR_VMXON_IN_ROOT);
		return;
	}
	const uint64_t enabled = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
	if (cpu->cpl || vtx_cr0_fixed0() & ~cpu->cr0 || vtx_cr4_fixed0() & ~cpu->cr4 ||
	    (cpu->feature_control & enabled) != enabled)
		raise_gp(cpu, 0);
	uint64_t pa = pointer_operand(cpu, i);
	if (!pointer_valid(pa) || !vmcs_region_revision(cpu->memory, pa, &revision) ||
	    revision != VMCS_REVISION) {
		vm_fail_invalid(cpu);
		return;
	}
	v->operation = true;
	v->vmxon_pointer = pa;
	v->pointer = VMCS_NO_POINTER;
	trace(VMX, "cpu %u: VMXON %#llx", cpu->index, (unsigned long long)pa);
	vm_succeed(cpu);
}

static void vmxoff(struct cpu *cpu, const struct insn *i)
{
	struct vtx *v = admit(cpu, i, VMX_EXIT_VMXOFF, 0, 0);
	vtx_release_current(v);
	v->operation = false;
	trace(VMX, "cpu %u: VMXOFF", cpu->index);
	/* An INIT that VMX operation blocked comes now. */
	atomic_fetch_or_explicit(&cpu->events, EVENT_WINDOW, memory_order_relaxed);
	vm_succeed(cpu);
}

/* --- the current VMCS --- */

static void vmclear(struct cpu *cpu, const struct insn *i)
{
	struct vtx *v = admit_memory(cpu, i, VMX_EXIT_VMCLEAR);
	uint64_t pa = pointer_operand(cpu, i);
	if (!pointer_valid(pa)) {
		vm_fail(cpu, VMX_ERROR_VMCLEAR_ADDRESS);
		return;
	}
	if (pa == v->vmxon_pointer) {
		vm_fail(cpu, VMX_ERROR_VMCLEAR_VMXON_POINTER);
		return;
	}
	if (pa == v->pointer)
		vtx_release_current(v);
	vmcs_region_clear(cpu->memory, pa);
	vm_succeed(cpu);
}

static void vmptrld(struct cpu *cpu, const struct insn *i)
{
	struct vtx *v = admit_memory(cpu, i, VMX_EXIT_VMPTRLD);
	uint64_t pa = pointer_operand(cpu, i);
	uint32_t revision;
	if (!pointer_valid(pa)) {
		vm_fail(cpu, VMX_ERROR_VMPTRLD_ADDRESS);
		return;
	}
	if (pa == v->vmxon_pointer) {
		vm_fail(cpu, VMX_ERROR_VMPTRLD_VMXON_POINTER);
		return;
	}
	/* A shadow VMCS (bit 31) is refused: VMCS shadowing is not offered. */
	if (!vmcs_region_revision(cpu->memory, pa, &revision) || revision != VMCS_REVISION) {
		vm_fail(cpu, VMX_ERROR_VMPTRLD_REVISION);
		return;
	}
	if (pa != v->pointer) {
		vtx_release_current(v);
		vmcs_load(cpu->memory, pa, &v->vmcs);
		v->pointer = pa;
	}
	vm_succeed(cpu);
}

static void vmptrst(struct cpu *cpu, const struct insn *i)
{
	struct vtx *v = admit_memory(cpu, i, VMX_EXIT_VMPTRST);
	linear_write(cpu, insn_linear(cpu, i, 8, true), v->pointer, 8);
	vm_succeed(cpu);
}

/* VM-exit instruction information of VMREAD and VMWRITE: operand 1 in the
 * manual's sense is the register or memory one, operand 2 holds the encoding. */
static struct vtx *admit_field(struct cpu *cpu, const struct insn *i, uint32_t reason,
			       unsigned value, unsigned encoding)
{
	struct vtx *v = cpu->vtx;
	if (likely(v && v->operation && !cpu->nonroot && !cpu->cpl && cpu->mode == MODE_64))
		return v;
	uint32_t information = (uint32_t)(i->reg[encoding] / sizeof(uint64_t)) << VMX_INSN_REG2_SHIFT;
	if (i->kind[value] == OPERAND_MEM)
		return admit(cpu, i, reason, vtx_displacement(cpu, i),
			     information | vtx_memory_information(i));
	information |= VMX_INSN_REGISTER |
		(uint32_t)(i->reg[value] / sizeof(uint64_t)) << VMX_INSN_REG1_SHIFT;
	return admit(cpu, i, reason, 0, information);
}

static void vmread(struct cpu *cpu, const struct insn *i)
{
	enum { VALUE, ENCODING };
	const struct vtx *v = admit_field(cpu, i, VMX_EXIT_VMREAD, VALUE, ENCODING);
	uint64_t encoding = gpr_read(cpu, i, ENCODING);
	if (unlikely(v->pointer == VMCS_NO_POINTER)) {
		vm_fail_invalid(cpu);
		return;
	}
	enum vmcs_field field = vmcs_find(encoding);
	if (unlikely(field == VMCS_NO_FIELD)) {
		vm_fail(cpu, VMX_ERROR_UNSUPPORTED_FIELD);
		return;
	}
	unsigned size = operand_size(cpu);
	uint64_t value = bits_trim(vmcs_read(&v->vmcs, field, encoding & VMCS_ENCODING_HIGH), size);
	if (i->kind[VALUE] == OPERAND_MEM)
		linear_write(cpu, insn_linear(cpu, i, size, true), value, size);
	else
		store_le((char *)cpu->r + i->reg[VALUE], value, sizeof value);
	vm_succeed(cpu);
}

static void vmwrite(struct cpu *cpu, const struct insn *i)
{
	enum { ENCODING, VALUE };
	struct vtx *v = admit_field(cpu, i, VMX_EXIT_VMWRITE, VALUE, ENCODING);
	uint64_t encoding = gpr_read(cpu, i, ENCODING);
	if (unlikely(v->pointer == VMCS_NO_POINTER)) {
		vm_fail_invalid(cpu);
		return;
	}
	unsigned size = operand_size(cpu);
	uint64_t value = i->kind[VALUE] == OPERAND_MEM ?
		linear_read(cpu, insn_linear(cpu, i, size, false), size) : gpr_read(cpu, i, VALUE);
	enum vmcs_field field = vmcs_find(encoding);
	if (unlikely(field == VMCS_NO_FIELD)) {
		vm_fail(cpu, VMX_ERROR_UNSUPPORTED_FIELD);
		return;
	}
	if (unlikely(vmcs_field_info[field].type == VMCS_TYPE_READ_ONLY)) {
		vm_fail(cpu, VMX_ERROR_READ_ONLY_FIELD);
		return;
	}
	vmcs_write(&v->vmcs, field, encoding & VMCS_ENCODING_HIGH, value);
	vm_succeed(cpu);
}

/* --- entries and calls --- */

static void vm_entry(struct cpu *cpu, const struct insn *i, bool launch)
{
	struct vtx *v = admit(cpu, i, launch ? VMX_EXIT_VMLAUNCH : VMX_EXIT_VMRESUME, 0, 0);
	if (v->pointer == VMCS_NO_POINTER)
		vm_fail_invalid(cpu);
	else if (cpu->inhibit & INHIBIT_MOV_SS)
		vm_fail(cpu, VMX_ERROR_ENTRY_MOV_SS);
	else if (launch && v->vmcs.launched)
		vm_fail(cpu, VMX_ERROR_VMLAUNCH_NOT_CLEAR);
	else if (!launch && !v->vmcs.launched)
		vm_fail(cpu, VMX_ERROR_VMRESUME_NOT_LAUNCHED);
	else {
		enum vmx_error error = vtx_enter(cpu, launch);	/* returns only to fail */
		vm_fail(cpu, error);
	}
}

static void vmlaunch(struct cpu *cpu, const struct insn *i)
{
	vm_entry(cpu, i, true);
}

static void vmresume(struct cpu *cpu, const struct insn *i)
{
	vm_entry(cpu, i, false);
}

static void vmcall(struct cpu *cpu, const struct insn *i)
{
	if (!cpu->vtx || !cpu->vtx->operation)
		raise_ud(cpu);
	if (cpu->nonroot)	/* in every mode and at every CPL */
		vtx_exit_instruction(cpu, i, VMX_EXIT_VMCALL, 0, 0);
	struct vtx *v = admit(cpu, i, VMX_EXIT_VMCALL, 0, 0);
	if (v->pointer == VMCS_NO_POINTER)
		vm_fail_invalid(cpu);
	else	/* there is no dual-monitor treatment */
		vm_fail(cpu, VMX_ERROR_VMCALL_IN_ROOT);
}

static void vmfunc(struct cpu *cpu, const struct insn *i)
{
	raise_ud(cpu);	/* no VM functions are offered */
}

/* --- invalidation --- */

struct invalidate_descriptor {
	uint64_t low, high;
};

static struct vtx *admit_invalidate(struct cpu *cpu, const struct insn *i, uint32_t reason,
				    uint64_t *type, struct invalidate_descriptor *d)
{
	struct vtx *v = admit(cpu, i, reason, vtx_displacement(cpu, i), vtx_memory_information(i) |
			      (uint32_t)(i->reg[0] / sizeof(uint64_t)) << VMX_INSN_REG2_SHIFT);
	*type = gpr_read(cpu, i, 0);
	uint64_t linear = insn_linear(cpu, i, sizeof *d, false);
	d->low = linear_read(cpu, linear, 8);
	d->high = linear_read(cpu, linear + 8, 8);
	return v;
}

static void invept(struct cpu *cpu, const struct insn *i)
{
	struct invalidate_descriptor d;
	uint64_t type;
	struct vtx *v = admit_invalidate(cpu, i, VMX_EXIT_INVEPT, &type, &d);
	if ((type != INVEPT_SINGLE && type != INVEPT_ALL) || d.high ||
	    (type == INVEPT_SINGLE && !vtx_eptp_valid(v, d.low))) {
		vm_fail(cpu, VMX_ERROR_INVALIDATE_OPERAND);
		return;
	}
	tlb_flush_ept(cpu, d.low & BITS(51, PAGE_SHIFT), type == INVEPT_ALL);
	vm_succeed(cpu);
}

static void invvpid(struct cpu *cpu, const struct insn *i)
{
	enum { ALL_PCIDS = -1 };
	struct invalidate_descriptor d;
	uint64_t type;
	admit_invalidate(cpu, i, VMX_EXIT_INVVPID, &type, &d);
	uint16_t vpid = (uint16_t)d.low;
	if (type > INVVPID_SINGLE_KEEP_GLOBALS || d.low >> 16 || (type != INVVPID_ALL && !vpid) ||
	    (type == INVVPID_ADDRESS && !linear_canonical(d.high))) {
		vm_fail(cpu, VMX_ERROR_INVALIDATE_OPERAND);
		return;
	}
	switch ((enum invvpid_type)type) {
	case INVVPID_ADDRESS:
		tlb_flush_address(cpu, vpid, ALL_PCIDS, d.high);
		break;
	case INVVPID_ALL:	/* VPID 0 may go with the others */
		tlb_flush_all(cpu);
		break;
	default:
		tlb_flush_tagged(cpu, vpid, ALL_PCIDS);
	}
	vm_succeed(cpu);
}

static const struct insn_rule rules[] = {
	{ ZYDIS_MNEMONIC_VMXON, NULL, vmxon, 0 },
	{ ZYDIS_MNEMONIC_VMXOFF, NULL, vmxoff, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_VMCLEAR, NULL, vmclear, 0 },
	{ ZYDIS_MNEMONIC_VMPTRLD, NULL, vmptrld, 0 },
	{ ZYDIS_MNEMONIC_VMPTRST, NULL, vmptrst, 0 },
	{ ZYDIS_MNEMONIC_VMREAD, NULL, vmread, 0 },
	{ ZYDIS_MNEMONIC_VMWRITE, NULL, vmwrite, 0 },
	{ ZYDIS_MNEMONIC_VMLAUNCH, NULL, vmlaunch, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_VMRESUME, NULL, vmresume, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_VMCALL, NULL, vmcall, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_VMFUNC, NULL, vmfunc, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_INVEPT, NULL, invept, 0 },
	{ ZYDIS_MNEMONIC_INVVPID, NULL, invvpid, 0 },
};

const struct insn_rules vtx_rules = { rules, ARRAY_SIZE(rules) };
