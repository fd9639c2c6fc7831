/* Engine option lockstep: the interpreter checks the translator.
 *
 * Translations made for it note every store, leave where only the interpreter
 * can go on, and are never linked. So each run of one executes some first
 * instructions of one block and nothing else; what it stored can be taken
 * back, and the interpreter executes the same instructions on the same state.
 * A difference ends the VM. With several processors, or devices that write to
 * memory, what another changes in between may look like one. */
#include "soft/translate/front.h"

#include "base/log.h"
#include "soft/engine.h"
#include "soft/flags.h"

struct snapshot {
	uint64_t r[REG_SLOTS];
	uint16_t arith;
};

static void take(const struct cpu *cpu, struct snapshot *s)
{
	memcpy(s->r, cpu->r, sizeof s->r);
	s->arith = cpu->arith;
}

static void put_back(struct cpu *cpu, const struct snapshot *s)
{
	memcpy(cpu->r, s->r, sizeof s->r);
	cpu->arith = s->arith;
}

static void replay(struct cpu *cpu, struct block *b, uint64_t count)
{
	cpu->block = b;
	for (uint64_t n = 0; n < count; n++)
		insn_execute(cpu, &b->insn[n]);
	cpu->block = NULL;
}

/* Flags that the first instructions leave undefined: the manual allows any. */
static uint16_t undefined_flags(struct cpu *cpu, const struct block *b, uint64_t count)
{
	uint32_t undefined = 0;
	const uint8_t *page = cpu->memory->ram + ((uint64_t)b->page << PAGE_SHIFT);
	for (uint64_t n = 0; n < count; n++) {
		struct decoded d;
		uint8_t bytes[15];
		memcpy(bytes, page + b->insn[n].at, b->insn[n].len);
		if (!decode_whole(bytes, b->insn[n].len, MODE_64, &d) || !d.zi.cpu_flags)
			continue;
		const ZydisAccessedFlags *a = d.zi.cpu_flags;
		undefined = (undefined & ~(a->modified | a->set_0 | a->set_1)) | a->undefined;
	}
	return (uint16_t)(arith_from_flags(undefined & FLAGS_ARITH) & ~ARITH_FIXED);
}

static const struct snapshot *before;	/* of the run that is checked, for the message */

static _Noreturn void differ(struct cpu *cpu, const struct block *b, uint64_t count, const char *what,
			     const struct snapshot *translated)
{
	const uint8_t *page = cpu->memory->ram + ((uint64_t)b->page << PAGE_SHIFT);
	for (uint64_t n = 0; n < count; n++) {
		char text[3 * 15 + 1] = "";
		for (unsigned k = 0; k < b->insn[n].len; k++)
			snprintf(text + 3 * k, 4, "%02x ", page[b->insn[n].at + k]);
		log_line("lockstep: %s %s", ZydisMnemonicGetString(b->insn[n].mnemonic), text);
	}
	for (unsigned n = 0; n <= REG_RIP; n++)
		if (translated->r[n] != cpu->r[n])
			log_line("lockstep: register %u: before %llx, translated %llx, interpreted %llx", n,
				 (unsigned long long)before->r[n], (unsigned long long)translated->r[n],
				 (unsigned long long)cpu->r[n]);
	cpu_give_up(cpu, "lockstep: the translator and the interpreter differ in %s after %llu instructions from %llx (flags %x and %x, before %x)",
		    what, (unsigned long long)count, (unsigned long long)before->r[REG_RIP], translated->arith,
		    cpu->arith, before->arith);
}

void lockstep_raised(struct cpu *cpu)
{
	struct snapshot s;
	take(cpu, &s);
	differ(cpu, cpu->native.replayed, cpu->native.replayed->count, "an exception", &s);
}

void lockstep_run(struct cpu *cpu, struct block *b)
{
	struct undo undo[UNDO_MAX];
	uint64_t written[UNDO_MAX], started = cpu->instructions;
	struct snapshot first, translated;
	take(cpu, &first);
	before = &first;
	cpu->native.undo = undo;
	cpu->native.flags_dead = 0;
	translate_enter(cpu, b->enter);
	uint16_t open = (uint16_t)(arith_from_flags(cpu->native.flags_dead) & ~ARITH_FIXED);
	uint64_t count = cpu->instructions - started, stores = (uint64_t)(cpu->native.undo - undo);
	cpu->instructions = started;
	if (!count) {	/* the first instruction already needs the interpreter */
		put_back(cpu, &first);
		replay(cpu, b, b->count);
		cpu->instructions += b->count;
		return;
	}
	take(cpu, &translated);
	for (uint64_t n = 0; n < stores; n++)
		written[n] = host_load(undo[n].host, (unsigned)undo[n].size);
	for (uint64_t n = stores; n-- > 0;)
		host_store(undo[n].host, undo[n].value, (unsigned)undo[n].size);
	put_back(cpu, &first);
	cpu->native.replayed = b;
	replay(cpu, b, count);
	cpu->native.replayed = NULL;
	cpu->instructions += count;
	if (memcmp(translated.r, cpu->r, sizeof translated.r))
		differ(cpu, b, count, "registers", &translated);
	open |= undefined_flags(cpu, b, count);
	if ((translated.arith ^ cpu->arith) & ~open)
		differ(cpu, b, count, "flags", &translated);
	for (uint64_t n = 0; n < stores; n++)
		if (host_load(undo[n].host, (unsigned)undo[n].size) != written[n])
			differ(cpu, b, count, "memory", &translated);
}
