/* String instructions: MOVS, STOS, LODS, SCAS, CMPS, once and repeated.
 *
 * A repeated instruction proceeds by chunks. Where the operands lie in plain
 * RAM that the TLB knows, a chunk reaches to the end of the page (or of the
 * shorter page of two) and is one repeated string instruction of the host, with
 * the same element size and direction: so overlap and flags need no care.
 * Otherwise (TLB miss, page-crossing element, device, page that holds code) the
 * chunk is one element by the general accessors, which fault as they should.
 *
 * Registers are right after every chunk, so a fault or an interrupt between two
 * chunks leaves the instruction restartable: RIP then still points at it. */
#include "soft/operand.h"

enum string_op { MOVS, STOS, LODS, SCAS, CMPS };

static inline bool uses_source(enum string_op op) { return op == MOVS || op == LODS || op == CMPS; }
static inline bool uses_destination(enum string_op op) { return op != LODS; }
static inline bool writes(enum string_op op) { return op == MOVS || op == STOS; }
static inline bool compares(enum string_op op) { return op == SCAS || op == CMPS; }

static inline bool down(const struct cpu *cpu)
{
	return cpu->sysflags & FLAG_DF;
}

/* RSI or RDI n elements further, in the address size. */
static inline void advance(struct cpu *cpu, const struct insn *i, unsigned reg, uint64_t elements)
{
	uint64_t by = elements * i->size;
	gpr_set(cpu, reg, cpu->r[reg] + (down(cpu) ? 0 - by : by), i->address_size);
}

/* --- one element --- */

static void compare(struct cpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
	uint16_t f;
	switch (size) {
	case 1:
		__asm__("cmpb %b2, %b1\n\t" FLAGS_TAKE : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	case 2:
		__asm__("cmpw %w2, %w1\n\t" FLAGS_TAKE : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	case 4:
		__asm__("cmpl %k2, %k1\n\t" FLAGS_TAKE : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1\n\t" FLAGS_TAKE : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	}
	cpu->arith = f;
}

static inline uint64_t source_read(struct cpu *cpu, const struct insn *i)
{
	uint64_t offset = bits_trim(cpu->r[RSI], i->address_size);
	return linear_read(cpu, logical_to_linear(cpu, i->seg, offset, i->size, false), i->size);
}

static inline uint64_t destination_linear(struct cpu *cpu, const struct insn *i, bool write)
{
	uint64_t offset = bits_trim(cpu->r[RDI], i->address_size);
	return logical_to_linear(cpu, SEG_ES, offset, i->size, write);
}

static inline __attribute__((always_inline))
void element(struct cpu *cpu, const struct insn *i, enum string_op op)
{
	uint64_t a;

	switch (op) {
	case MOVS:
		a = source_read(cpu, i);
		linear_write(cpu, destination_linear(cpu, i, true), a, i->size);
		break;
	case STOS:
		linear_write(cpu, destination_linear(cpu, i, true), cpu->r[RAX], i->size);
		break;
	case LODS:
		gpr_set(cpu, RAX, source_read(cpu, i), i->size);
		break;
	case SCAS:
		a = linear_read(cpu, destination_linear(cpu, i, false), i->size);
		compare(cpu, cpu->r[RAX], a, i->size);
		break;
	case CMPS:
		a = source_read(cpu, i);
		compare(cpu, a, linear_read(cpu, destination_linear(cpu, i, false), i->size), i->size);
		break;
	}
	if (uses_source(op))
		advance(cpu, i, RSI, 1);
	if (uses_destination(op))
		advance(cpu, i, RDI, 1);
}

/* --- a chunk by the host's own string instruction --- */

struct chunk {
	void *destination, *source;
	uint64_t count;		/* elements; what is left of them afterwards */
	uint64_t a;		/* the accumulator, then the flags of a comparison */
};

#define HOST(insn, B, direction) \
	__asm__ volatile(direction insn SUFFIX(B) "\n\tcld\n\t" \
		: "+D"(c->destination), "+S"(c->source), "+c"(c->count), "+a"(c->a) \
		: : "cc", "memory")
#define HOST_COMPARE(insn, B, direction) \
	__asm__ volatile(direction insn SUFFIX(B) "\n\tcld\n\t" FLAGS_TAKE \
		: "+D"(c->destination), "+S"(c->source), "+c"(c->count), "+a"(c->a) \
		: : "cc", "memory")
#define BY_SIZE(M, insn, direction) \
	switch (size) { \
	case 1: M(insn, 8, direction); break; \
	case 2: M(insn, 16, direction); break; \
	case 4: M(insn, 32, direction); break; \
	default: M(insn, 64, direction); break; \
	}
#define BY_DIRECTION(M, insn) \
	if (backwards) { \
		BY_SIZE(M, insn, "std\n\t") \
	} else { \
		BY_SIZE(M, insn, "") \
	}

static void host_repeat(struct chunk *c, enum string_op op, unsigned size, bool backwards, bool while_equal)
{
	switch (op) {
	case MOVS:
		BY_DIRECTION(HOST, "rep movs")
		break;
	case STOS:
		BY_DIRECTION(HOST, "rep stos")
		break;
	case LODS:
		BY_DIRECTION(HOST, "rep lods")
		break;
	case SCAS:
		if (while_equal) {
			BY_DIRECTION(HOST_COMPARE, "repe scas")
		} else {
			BY_DIRECTION(HOST_COMPARE, "repne scas")
		}
		break;
	case CMPS:
		if (while_equal) {
			BY_DIRECTION(HOST_COMPARE, "repe cmps")
		} else {
			BY_DIRECTION(HOST_COMPARE, "repne cmps")
		}
		break;
	}
}

/* Host address of the element at seg:offset, and in *count no more elements
 * than lie, in the string's direction, in the same page, inside the segment and
 * before the offset wraps; NULL when the general way has to be taken. */
static void *chunk_at(struct cpu *cpu, const struct insn *i, enum segment_register s, uint64_t offset,
		      bool write, uint64_t *count)
{
	uint64_t linear, room, last, bytes;
	struct tlb_entry *e;

	if (cpu->mode == MODE_64)
		linear = offset + (s >= SEG_FS ? cpu->seg[s].base : 0);
	else
		linear = (uint32_t)(cpu->seg[s].base + offset);
	e = tlb_entry_for(cpu, linear);
	if ((write ? e->write : e->read) != ((linear + i->size - 1) & ~PAGE_OFFSET_MASK))
		return NULL;
	room = down(cpu) ? (linear & PAGE_OFFSET_MASK) / i->size + 1 :
		(PAGE_SIZE - (linear & PAGE_OFFSET_MASK)) / i->size;
	if (*count > room)
		*count = room;
	bytes = *count * i->size;
	/* First and last byte that the chunk touches, as offsets. */
	if (down(cpu)) {
		last = offset + i->size - 1;
		offset = last + 1 - bytes;
	} else {
		last = offset + bytes - 1;
	}
	if (offset > last || bits_trim(last, i->address_size) != last ||
	    bits_trim(offset, i->address_size) != offset)
		return NULL;
	if (cpu->mode != MODE_64) {
		const struct segment_bounds *b = &cpu->bounds[s];
		if (!(write ? b->writable : b->readable) || offset < b->low || last > b->high)
			return NULL;
	}
	return (void *)(linear + e->addend);
}

/* Do a chunk: elements done, 0 when none could be done so. */
static inline __attribute__((always_inline))
uint64_t chunk(struct cpu *cpu, const struct insn *i, enum string_op op, uint64_t count)
{
	struct chunk c = { .count = count, .a = cpu->r[RAX] };
	uint64_t done;

	if (uses_source(op)) {
		c.source = chunk_at(cpu, i, i->seg, bits_trim(cpu->r[RSI], i->address_size),
				    false, &c.count);
		if (!c.source)
			return 0;
	}
	if (uses_destination(op)) {
		c.destination = chunk_at(cpu, i, SEG_ES, bits_trim(cpu->r[RDI], i->address_size),
					 writes(op), &c.count);
		if (!c.destination)
			return 0;
	}
	done = c.count;
	host_repeat(&c, op, i->size, down(cpu), i->flags & INSN_REP);
	done -= c.count;
	if (compares(op))
		cpu->arith = (uint16_t)c.a;
	else if (op == LODS)
		gpr_set(cpu, RAX, c.a, i->size);
	if (uses_source(op))
		advance(cpu, i, RSI, done);
	if (uses_destination(op))
		advance(cpu, i, RDI, done);
	return done;
}

static inline __attribute__((always_inline))
void repeat(struct cpu *cpu, const struct insn *i, enum string_op op)
{
	for (;;) {
		uint64_t count = bits_trim(cpu->r[RCX], i->address_size), done = 0;
		if (!count)
			return;
		if (likely(!cpu->step))
			done = chunk(cpu, i, op, count);
		if (!done) {
			element(cpu, i, op);
			done = 1;
		}
		count -= done;
		gpr_set(cpu, RCX, count, i->address_size);
		if (!count)
			return;
		if (compares(op) && !(cpu->arith & ARITH_ZF) == !!(i->flags & INSN_REP))
			return;
		if (unlikely(cpu->step || atomic_load_explicit(&cpu->events, memory_order_relaxed))) {
			/* It ends its block: the loop looks at what is pending
			 * and comes back here. */
			cpu->r[REG_RIP] = cpu->start_rip;
			return;
		}
	}
}

#define STRING(name, op) \
FN(name) { element(cpu, i, op); } \
FN(name##_repeated) { repeat(cpu, i, op); }
STRING(movs, MOVS)
STRING(stos, STOS)
STRING(lods, LODS)
STRING(scas, SCAS)
STRING(cmps, CMPS)

/* MOVSD and CMPSD are SSE instructions, too. */
static bool choose_string(const struct decoded *d, struct insn *out, insn_fn *once, insn_fn *repeated)
{
	bool again = out->flags & (INSN_REP | INSN_REPNE);

	if (d->zi.meta.category != ZYDIS_CATEGORY_STRINGOP)
		return false;
	for (unsigned n = 0; n < d->zi.operand_count; n++) {
		ZydisRegister base = d->op[n].mem.base;
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (base == ZYDIS_REGISTER_SI || base == ZYDIS_REGISTER_ESI || base == ZYDIS_REGISTER_RSI) &&
		    !insn_hidden_memory(d, n, out))
			return false;
	}
	out->address_size = d->zi.address_width / 8;
	out->fn = again ? repeated : once;
	if (again)
		out->flags |= INSN_ENDS_BLOCK;
	return true;
}

#define BIND(name) \
static bool bind_##name(const struct decoded *d, struct insn *out) \
{ \
	return choose_string(d, out, name, name##_repeated); \
}
BIND(movs)
BIND(stos)
BIND(lods)
BIND(scas)
BIND(cmps)

#define RULES(NAME, bind) \
	{ ZYDIS_MNEMONIC_##NAME##B, bind, NULL, 0 }, { ZYDIS_MNEMONIC_##NAME##W, bind, NULL, 0 }, \
	{ ZYDIS_MNEMONIC_##NAME##D, bind, NULL, 0 }, { ZYDIS_MNEMONIC_##NAME##Q, bind, NULL, 0 }

static const struct insn_rule rules[] = {
	RULES(MOVS, bind_movs), RULES(STOS, bind_stos), RULES(LODS, bind_lods),
	RULES(SCAS, bind_scas), RULES(CMPS, bind_cmps),
};

const struct insn_rules string_rules = { rules, ARRAY_SIZE(rules) };
