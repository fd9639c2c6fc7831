/* Descriptors and segment registers (SDM vol. 3, "Protected-Mode Memory
 * Management"), and the instructions that load and inspect them. */
#include "soft/access.h"
#include "soft/flags.h"
#include "soft/system.h"
#include "soft/vtx/vtx.h"

enum {
	SELECTOR_TI = 4, SELECTOR_RPL = 3,
	TYPE_ACCESSED = 1, TYPE_WRITABLE = 2, TYPE_READABLE = 2, TYPE_CONFORMING = 4, TYPE_CODE = 8,
	TYPE_LDT = 2, TYPE_TSS16_AVAILABLE = 1, TYPE_TSS_AVAILABLE = 9, TYPE_BUSY = 2,
};

uint32_t descriptor_access_rights(const struct descriptor *d)
{
	return d->high >> 8 & 0xf0ff;
}

uint32_t descriptor_limit(const struct descriptor *d)
{
	uint32_t limit = (d->low & 0xffff) | (d->high & 0xf0000);
	return d->high & AR_G << 8 ? limit << 12 | 0xfff : limit;
}

uint32_t descriptor_base(const struct descriptor *d)
{
	return d->low >> 16 | (d->high & 0xff) << 16 | (d->high & 0xff000000);
}

/* Linear address of the descriptor; false when it is outside its table. */
static bool descriptor_address(struct cpu *cpu, uint16_t selector, unsigned width, uint64_t *at)
{
	uint32_t offset = selector & ~7u, limit = cpu->gdtr.limit;
	uint64_t base = cpu->gdtr.base;
	if (selector & SELECTOR_TI) {
		if (cpu->seg[SEG_LDTR].access_rights & AR_UNUSABLE)
			return false;
		base = cpu->seg[SEG_LDTR].base;
		limit = cpu->seg[SEG_LDTR].limit;
	}
	*at = base + offset;
	return offset + width - 1 <= limit;
}

bool descriptor_read(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	uint64_t at;
	if (!descriptor_address(cpu, selector, 8, &at))
		return false;
	uint64_t v = system_read(cpu, at, 8);
	*d = (struct descriptor){ .low = (uint32_t)v, .high = (uint32_t)(v >> 32) };
	return true;
}

/* Set bits in the descriptor's second doubleword, atomically enough: it is a
 * byte that only processors change. */
static void descriptor_or(struct cpu *cpu, uint16_t selector, struct descriptor *d, uint32_t bits)
{
	uint64_t at;
	if ((d->high & bits) == bits || !descriptor_address(cpu, selector, 8, &at))
		return;
	d->high |= bits;
	system_write(cpu, at + 5, d->high >> 8 & 0xff, 1);
}

void descriptor_set_accessed(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	descriptor_or(cpu, selector, d, TYPE_ACCESSED << 8);
}

void segment_set(struct cpu *cpu, enum segment_register s, uint16_t selector, const struct descriptor *d)
{
	cpu->seg[s] = (struct segment){ selector, descriptor_access_rights(d), descriptor_limit(d),
					descriptor_base(d) };
	if (s < ARRAY_SIZE(cpu->bounds))
		segment_bounds_update(cpu, s);
}

void segment_load_real(struct cpu *cpu, enum segment_register s, uint16_t selector)
{
	struct segment *g = &cpu->seg[s];
	g->selector = selector;
	g->base = (uint64_t)selector << 4;
	if (cpu_v86(cpu)) {
		g->limit = 0xffff;
		g->access_rights = 0xf3;	/* present, DPL 3, writable data, accessed */
	} else	/* real mode: present, DPL 0, accessed; limit, G and D/B stay */
		g->access_rights = (g->access_rights & (AR_DB | AR_G | AR_AVL)) | (s == SEG_CS ? 0x9b : 0x93);
	if (s < ARRAY_SIZE(cpu->bounds))
		segment_bounds_update(cpu, s);
}

void segment_load(struct cpu *cpu, enum segment_register s, uint16_t selector)
{
	struct descriptor d;
	unsigned rpl = selector & SELECTOR_RPL;
	uint32_t error = selector & ~3u;
	if (!cpu_protected(cpu) || cpu_v86(cpu)) {
		segment_load_real(cpu, s, selector);
		return;
	}
	if (!error) {
		/* A null selector: not for SS, but in 64-bit mode at CPL < 3. */
		if (s == SEG_SS && (cpu->mode != MODE_64 || cpu->cpl == 3 || rpl != cpu->cpl))
			raise_gp(cpu, 0);
		struct segment *g = &cpu->seg[s];
		uint64_t base = s >= SEG_FS ? 0 : g->base;
		*g = (struct segment){ .selector = selector, .base = base,
			.access_rights = AR_UNUSABLE | (s == SEG_SS ? (uint32_t)cpu->cpl << AR_DPL_SHIFT : 0) };
		g->base = 0;
		segment_bounds_update(cpu, s);
		return;
	}
	if (!descriptor_read(cpu, selector, &d))
		raise_gp(cpu, error);
	uint32_t ar = descriptor_access_rights(&d);
	unsigned dpl = (ar & AR_DPL) >> AR_DPL_SHIFT;
	if (s == SEG_SS) {
		if (rpl != cpu->cpl || dpl != cpu->cpl || !(ar & AR_S) || ar & TYPE_CODE ||
		    !(ar & TYPE_WRITABLE))
			raise_gp(cpu, error);
		if (!(ar & AR_P))
			raise_error(cpu, EXC_SS, error);
	} else {
		bool code = ar & TYPE_CODE, conforming = code && ar & TYPE_CONFORMING;
		if (!(ar & AR_S) || (code && !(ar & TYPE_READABLE)) ||
		    (!conforming && (rpl > dpl || cpu->cpl > dpl)))
			raise_gp(cpu, error);
		if (!(ar & AR_P))
			raise_error(cpu, EXC_NP, error);
	}
	descriptor_set_accessed(cpu, selector, &d);
	segment_set(cpu, s, selector, &d);
}

/* --- MOV to and from segment registers, far pointers --- */

static void op_mov_to_segment(struct cpu *cpu, const struct insn *i)
{
	uint16_t selector = (uint16_t)operand_read(cpu, i, 1, 2);
	segment_load(cpu, i->reg[0], selector);
	if (i->reg[0] == SEG_SS)
		cpu->inhibit = INHIBIT_MOV_SS;
}

static void op_mov_from_segment(struct cpu *cpu, const struct insn *i)
{
	/* To memory always 16 bits; to a register zero-extended to its size. */
	uint16_t selector = cpu->seg[i->reg[1]].selector;
	operand_write(cpu, i, 0, selector, i->kind[0] == OPERAND_MEM ? 2 : i->size);
}

static void op_load_far_pointer(struct cpu *cpu, const struct insn *i)
{
	uint64_t linear = insn_linear(cpu, i, i->size + 2u, false);
	uint64_t offset = linear_read(cpu, linear, i->size);
	uint16_t selector = (uint16_t)linear_read(cpu, linear + i->size, 2);
	segment_load(cpu, i->spare[0], selector);
	operand_write(cpu, i, 0, offset, i->size);
	if (i->spare[0] == SEG_SS)
		cpu->inhibit = INHIBIT_MOV_SS;
}

static bool bind_load_far_pointer(const struct decoded *d, struct insn *out)
{
	switch (d->zi.mnemonic) {
	case ZYDIS_MNEMONIC_LES: out->spare[0] = SEG_ES; break;
	case ZYDIS_MNEMONIC_LDS: out->spare[0] = SEG_DS; break;
	case ZYDIS_MNEMONIC_LSS: out->spare[0] = SEG_SS; break;
	case ZYDIS_MNEMONIC_LFS: out->spare[0] = SEG_FS; break;
	default: out->spare[0] = SEG_GS; break;
	}
	out->size = d->op[0].size / 8;
	out->fn = op_load_far_pointer;
	return out->kind[1] == OPERAND_MEM;
}

bool segment_bind_mov(const struct decoded *d, struct insn *out)
{
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(d->op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) {
		if (out->reg[0] == SEG_CS)
			return false;
		out->fn = op_mov_to_segment;
		/* SS: the interrupt shadow is looked at between blocks. */
		if (out->reg[0] == SEG_SS)
			out->flags |= INSN_ENDS_BLOCK;
		return true;
	}
	out->size = d->op[0].size / 8;
	out->fn = op_mov_from_segment;
	return true;
}

/* --- inspection: LAR LSL VERR VERW ARPL --- */

static void need_protected(struct cpu *cpu)
{
	if (!cpu_protected(cpu) || cpu_v86(cpu))
		raise_ud(cpu);
}

static void set_zf(struct cpu *cpu, bool on)
{
	cpu->arith = (uint16_t)(on ? cpu->arith | ARITH_ZF : cpu->arith & ~ARITH_ZF);
}

/* Privilege rule of LAR, LSL, VERR, VERW. */
static bool visible(const struct cpu *cpu, uint16_t selector, uint32_t ar)
{
	unsigned dpl = (ar & AR_DPL) >> AR_DPL_SHIFT;
	if (ar & AR_S && ar & TYPE_CODE && ar & TYPE_CONFORMING)
		return true;
	return cpu->cpl <= dpl && (selector & SELECTOR_RPL) <= dpl;
}

/* System descriptor types that LAR and LSL know, as bit masks. */
#define TYPES_LAR_LEGACY (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(11) | BIT(12))
#define TYPES_LAR_LONG (BIT(2) | BIT(9) | BIT(11) | BIT(12))
#define TYPES_LSL_LEGACY (BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(11))
#define TYPES_LSL_LONG (BIT(2) | BIT(9) | BIT(11))

static bool inspect(struct cpu *cpu, uint16_t selector, uint64_t legacy, uint64_t wide,
		    struct descriptor *d)
{
	if (!(selector & ~3u) || !descriptor_read(cpu, selector, d))
		return false;
	uint32_t ar = descriptor_access_rights(d);
	if (!(ar & AR_S) && !((cpu_long_mode(cpu) ? wide : legacy) >> (ar & AR_TYPE) & 1))
		return false;
	return visible(cpu, selector, ar);
}

static void op_lar(struct cpu *cpu, const struct insn *i)
{
	struct descriptor d;
	need_protected(cpu);
	uint16_t selector = (uint16_t)operand_read(cpu, i, 1, 2);
	bool ok = inspect(cpu, selector, TYPES_LAR_LEGACY, TYPES_LAR_LONG, &d);
	if (ok)
		operand_write(cpu, i, 0, d.high & 0x00ffff00, i->size);
	set_zf(cpu, ok);
}

static void op_lsl(struct cpu *cpu, const struct insn *i)
{
	struct descriptor d;
	need_protected(cpu);
	uint16_t selector = (uint16_t)operand_read(cpu, i, 1, 2);
	bool ok = inspect(cpu, selector, TYPES_LSL_LEGACY, TYPES_LSL_LONG, &d);
	if (ok)
		operand_write(cpu, i, 0, descriptor_limit(&d), i->size);
	set_zf(cpu, ok);
}

static void op_verify(struct cpu *cpu, const struct insn *i)
{
	struct descriptor d;
	need_protected(cpu);
	uint16_t selector = (uint16_t)operand_read(cpu, i, 0, 2);
	bool ok = inspect(cpu, selector, 0, 0, &d);
	if (ok) {
		uint32_t ar = descriptor_access_rights(&d);
		if (i->mnemonic == ZYDIS_MNEMONIC_VERW)
			ok = !(ar & TYPE_CODE) && ar & TYPE_WRITABLE;
		else
			ok = !(ar & TYPE_CODE) || ar & TYPE_READABLE;
	}
	set_zf(cpu, ok);
}

static void op_arpl(struct cpu *cpu, const struct insn *i)
{
	need_protected(cpu);
	uint16_t source = (uint16_t)operand_read(cpu, i, 1, 2);
	uint16_t target = (uint16_t)operand_read(cpu, i, 0, 2);
	bool lower = (target & SELECTOR_RPL) < (source & SELECTOR_RPL);
	if (lower)
		operand_write(cpu, i, 0, (uint16_t)((target & ~SELECTOR_RPL) | (source & SELECTOR_RPL)), 2);
	set_zf(cpu, lower);
}

/* --- LLDT LTR SLDT STR --- */

enum { REASON_GDTR_IDTR = 46, REASON_LDTR_TR = 47 };

/* A system descriptor of 8 or, in long mode, 16 bytes from the GDT. */
static struct descriptor system_descriptor(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;
	uint64_t at;
	unsigned width = cpu_long_mode(cpu) ? 16 : 8;
	if (selector & SELECTOR_TI || !descriptor_address(cpu, selector, width, &at))
		raise_gp(cpu, selector & ~3u);
	descriptor_read(cpu, selector, &d);
	if (width == 16) {
		d.upper = (uint32_t)system_read(cpu, at + 8, 4);
		if (system_read(cpu, at + 12, 4) >> 8 & 31)
			raise_gp(cpu, selector & ~3u);
	}
	return d;
}

static void load_system(struct cpu *cpu, const struct insn *i, enum segment_register s)
{
	need_protected(cpu);
	if (cpu->cpl)
		raise_gp(cpu, 0);
	if (cpu->nonroot)
		vtx_intercept_descriptor_table(cpu, i, REASON_LDTR_TR);
	uint16_t selector = (uint16_t)operand_read(cpu, i, 0, 2);
	uint32_t error = selector & ~3u;
	if (!error) {
		if (s == SEG_TR)
			raise_gp(cpu, 0);
		cpu->seg[s] = (struct segment){ .selector = selector, .access_rights = AR_UNUSABLE };
		return;
	}
	struct descriptor d = system_descriptor(cpu, selector);
	uint32_t ar = descriptor_access_rights(&d);
	unsigned type = ar & AR_TYPE;
	bool right = s == SEG_LDTR ? type == TYPE_LDT : type == TYPE_TSS_AVAILABLE ||
		(type == TYPE_TSS16_AVAILABLE && !cpu_long_mode(cpu));
	if (ar & AR_S || !right)
		raise_gp(cpu, error);
	if (!(ar & AR_P))
		raise_error(cpu, EXC_NP, error);
	uint64_t base = (uint64_t)d.upper << 32 | descriptor_base(&d);
	if (!linear_canonical(base))
		raise_gp(cpu, error);
	if (s == SEG_TR)
		descriptor_or(cpu, selector, &d, TYPE_BUSY << 8);
	segment_set(cpu, s, selector, &d);
	cpu->seg[s].base = base;
}

static void op_lldt(struct cpu *cpu, const struct insn *i)
{
	load_system(cpu, i, SEG_LDTR);
}

static void op_ltr(struct cpu *cpu, const struct insn *i)
{
	load_system(cpu, i, SEG_TR);
}

static void umip_check(struct cpu *cpu)
{
	if (cpu->cr4 & CR4_UMIP && cpu->cpl)
		raise_gp(cpu, 0);
}

static void op_store_selector(struct cpu *cpu, const struct insn *i)
{
	need_protected(cpu);
	umip_check(cpu);
	if (cpu->nonroot)
		vtx_intercept_descriptor_table(cpu, i, REASON_LDTR_TR);
	enum segment_register s = i->mnemonic == ZYDIS_MNEMONIC_STR ? SEG_TR : SEG_LDTR;
	operand_write(cpu, i, 0, cpu->seg[s].selector, i->kind[0] == OPERAND_MEM ? 2 : i->size);
}

static bool bind_store_selector(const struct decoded *d, struct insn *out)
{
	out->size = d->op[0].size / 8;
	out->fn = op_store_selector;
	return true;
}

/* --- LGDT LIDT SGDT SIDT --- */

static void op_load_table(struct cpu *cpu, const struct insn *i)
{
	unsigned width = cpu->mode == MODE_64 ? 8 : 4;
	if (cpu->cpl)
		raise_gp(cpu, 0);
	if (cpu->nonroot)
		vtx_intercept_descriptor_table(cpu, i, REASON_GDTR_IDTR);
	uint64_t linear = insn_linear(cpu, i, 2 + width, false);
	uint16_t limit = (uint16_t)linear_read(cpu, linear, 2);
	uint64_t base = linear_read(cpu, linear + 2, width);
	if (width == 8) {
		if (!linear_canonical(base))
			raise_gp(cpu, 0);
	} else if (i->size == 2)
		base &= 0xffffff;
	*(i->mnemonic == ZYDIS_MNEMONIC_LGDT ? &cpu->gdtr : &cpu->idtr) =
		(struct table_register){ base, limit };
}

static void op_store_table(struct cpu *cpu, const struct insn *i)
{
	unsigned width = cpu->mode == MODE_64 ? 8 : 4;
	const struct table_register *t = i->mnemonic == ZYDIS_MNEMONIC_SGDT ? &cpu->gdtr : &cpu->idtr;
	umip_check(cpu);
	if (cpu->nonroot)
		vtx_intercept_descriptor_table(cpu, i, REASON_GDTR_IDTR);
	uint64_t linear = insn_linear(cpu, i, 2 + width, true);
	linear_write(cpu, linear, t->limit, 2);
	linear_write(cpu, linear + 2, t->base, width);
}

static const struct insn_rule rules[] = {
	{ ZYDIS_MNEMONIC_LES, bind_load_far_pointer, NULL, 0 },
	{ ZYDIS_MNEMONIC_LDS, bind_load_far_pointer, NULL, 0 },
	{ ZYDIS_MNEMONIC_LSS, bind_load_far_pointer, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_LFS, bind_load_far_pointer, NULL, 0 },
	{ ZYDIS_MNEMONIC_LGS, bind_load_far_pointer, NULL, 0 },
	{ ZYDIS_MNEMONIC_LAR, NULL, op_lar, 0 },
	{ ZYDIS_MNEMONIC_LSL, NULL, op_lsl, 0 },
	{ ZYDIS_MNEMONIC_VERR, NULL, op_verify, 0 },
	{ ZYDIS_MNEMONIC_VERW, NULL, op_verify, 0 },
	{ ZYDIS_MNEMONIC_ARPL, NULL, op_arpl, 0 },
	{ ZYDIS_MNEMONIC_LLDT, NULL, op_lldt, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_LTR, NULL, op_ltr, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_SLDT, bind_store_selector, NULL, 0 },
	{ ZYDIS_MNEMONIC_STR, bind_store_selector, NULL, 0 },
	{ ZYDIS_MNEMONIC_LGDT, NULL, op_load_table, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_LIDT, NULL, op_load_table, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_SGDT, NULL, op_store_table, 0 },
	{ ZYDIS_MNEMONIC_SIDT, NULL, op_store_table, 0 },
};

const struct insn_rules segment_rules = { rules, ARRAY_SIZE(rules) };
