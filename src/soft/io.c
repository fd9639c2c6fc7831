/* Port input and output: IN, OUT, INS, OUTS, with the I/O permission bitmap. */
#include "soft/engine.h"
#include "soft/system.h"
#include "soft/vtx/vtx.h"

/* SDM vol. 1, "I/O Permission Bit Map". */
static void permission_check(struct cpu *cpu, uint16_t port, unsigned size)
{
	enum { TSS_TYPE_32 = 8, TSS_IO_MAP_BASE = 102 };
	const struct segment *tr = &cpu->seg[SEG_TR];
	if (!cpu_protected(cpu) || (!cpu_v86(cpu) && cpu->cpl <= cpu_iopl(cpu)))
		return;
	if (!(tr->access_rights & TSS_TYPE_32) || tr->access_rights & AR_UNUSABLE ||
	    TSS_IO_MAP_BASE + 1u > tr->limit)
		raise_gp(cpu, 0);
	uint32_t at = (uint32_t)system_read(cpu, tr->base + TSS_IO_MAP_BASE, 2) + port / 8;
	if (at + 1 > tr->limit)
		raise_gp(cpu, 0);
	uint32_t map = (uint32_t)system_read(cpu, tr->base + at, 2);
	if (map >> (port & 7) & ((1u << size) - 1))
		raise_gp(cpu, 0);
}

/* I/O breakpoints trap after the instruction (SDM vol. 3, "Debug Registers"). */
static void breakpoint_check(struct cpu *cpu, uint16_t port, unsigned size)
{
	enum { RW_IO = 2 };
	static const uint8_t length[4] = { 1, 2, 8, 4 };
	if (likely(!(cpu->dr7 & 0xff)) || !(cpu->cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++) {
		unsigned bytes = length[cpu->dr7 >> (18 + 4 * n) & 3];
		uint64_t first = cpu->dr[n] & ~(uint64_t)(bytes - 1);
		if (!(cpu->dr7 >> (2 * n) & 3) || (cpu->dr7 >> (16 + 4 * n) & 3) != RW_IO ||
		    port >= first + bytes || first >= (uint64_t)port + size)
			continue;
		cpu->db_trap = true;
		cpu->db_bits |= BIT(n);
		atomic_fetch_or_explicit(&cpu->events, EVENT_TRAP, memory_order_relaxed);
	}
}

static struct bus *bus_of(struct cpu *cpu)
{
	return cpu->engine->engine.host.bus;
}

static uint16_t port_operand(struct cpu *cpu, const struct insn *i, unsigned n)
{
	return i->kind[n] == OPERAND_IMM ? (uint8_t)i->imm : (uint16_t)cpu->r[RDX];
}

static void op_in(struct cpu *cpu, const struct insn *i)
{
	uint16_t port = port_operand(cpu, i, 1);
	permission_check(cpu, port, i->size);
	if (cpu->nonroot)
		vtx_intercept_io(cpu, i, port, i->size, true, false, false, i->kind[1] == OPERAND_IMM);
	operand_write(cpu, i, 0, bus_read(bus_of(cpu), BUS_IO, port, i->size), i->size);
	breakpoint_check(cpu, port, i->size);
}

static void op_out(struct cpu *cpu, const struct insn *i)
{
	uint16_t port = port_operand(cpu, i, 0);
	permission_check(cpu, port, i->size);
	if (cpu->nonroot)
		vtx_intercept_io(cpu, i, port, i->size, false, false, false, i->kind[0] == OPERAND_IMM);
	bus_write(bus_of(cpu), BUS_IO, port, i->size, operand_read(cpu, i, 1, i->size));
	breakpoint_check(cpu, port, i->size);
}

static bool bind_in(const struct decoded *d, struct insn *out)
{
	out->size = d->op[0].size / 8;
	out->fn = op_in;
	return true;
}

static bool bind_out(const struct decoded *d, struct insn *out)
{
	out->size = d->op[1].size / 8;
	out->fn = op_out;
	return true;
}

static uint64_t address_trim(const struct insn *i, uint64_t v)
{
	return bits_trim(v, i->address_size);
}

static void index_add(struct cpu *cpu, const struct insn *i, unsigned reg)
{
	uint64_t step = cpu->sysflags & FLAG_DF ? -(uint64_t)i->size : i->size;
	uint64_t v = cpu->r[reg] + step;
	if (i->address_size == 2)
		store_le(&cpu->r[reg], v, 2);
	else
		cpu->r[reg] = address_trim(i, v);
}

static void one_string(struct cpu *cpu, const struct insn *i, uint16_t port, bool in)
{
	if (in) {
		uint64_t linear = logical_to_linear(cpu, SEG_ES, address_trim(i, cpu->r[RDI]), i->size, true);
		/* The store must be possible before the device is asked. */
		void *to = linear_write_pointer(cpu, linear, i->size);
		store_le(to, bus_read(bus_of(cpu), BUS_IO, port, i->size), i->size);
		linear_commit(cpu);
		index_add(cpu, i, RDI);
	} else {
		uint64_t linear = logical_to_linear(cpu, i->seg, address_trim(i, cpu->r[RSI]), i->size, false);
		bus_write(bus_of(cpu), BUS_IO, port, i->size, linear_read(cpu, linear, i->size));
		index_add(cpu, i, RSI);
	}
}

static void op_string(struct cpu *cpu, const struct insn *i)
{
	bool in = i->spare[0], rep = i->flags & (INSN_REP | INSN_REPNE);
	uint16_t port = (uint16_t)cpu->r[RDX];
	permission_check(cpu, port, i->size);
	if (rep && !address_trim(i, cpu->r[RCX]))
		return;
	if (cpu->nonroot)
		vtx_intercept_io(cpu, i, port, i->size, in, true, rep, false);
	one_string(cpu, i, port, in);
	breakpoint_check(cpu, port, i->size);
	if (!rep)
		return;
	uint64_t left = address_trim(i, cpu->r[RCX]) - 1;
	if (i->address_size == 2)
		store_le(&cpu->r[RCX], left, 2);
	else
		cpu->r[RCX] = left;
	if (left)	/* interruptible: once more from the start */
		cpu->r[REG_RIP] = cpu->start_rip;
}

static bool bind_string(const struct decoded *d, struct insn *out)
{
	bool in = d->zi.mnemonic == ZYDIS_MNEMONIC_INSB || d->zi.mnemonic == ZYDIS_MNEMONIC_INSW ||
		d->zi.mnemonic == ZYDIS_MNEMONIC_INSD;
	for (unsigned n = 0; n < d->zi.operand_count; n++)
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			out->size = d->op[n].size / 8;
			if (d->op[n].mem.segment >= ZYDIS_REGISTER_ES && d->op[n].mem.segment <= ZYDIS_REGISTER_GS)
				out->seg = d->op[n].mem.segment - ZYDIS_REGISTER_ES;
		}
	out->spare[0] = in;
	out->fn = op_string;
	return true;
}

static const struct insn_rule rules[] = {
	{ ZYDIS_MNEMONIC_IN, bind_in, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_OUT, bind_out, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_INSB, bind_string, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_INSW, bind_string, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_INSD, bind_string, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_OUTSB, bind_string, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_OUTSW, bind_string, NULL, INSN_ENDS_BLOCK },
	{ ZYDIS_MNEMONIC_OUTSD, bind_string, NULL, INSN_ENDS_BLOCK },
};

const struct insn_rules io_rules = { rules, ARRAY_SIZE(rules) };
