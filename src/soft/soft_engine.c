/* The soft engine behind the engine interface: processors, local APICs, life. */
#include "soft/engine.h"

#include "base/log.h"
#include "soft/block.h"
#include "soft/fpu.h"
#include "soft/tlb.h"
#include "soft/translate/translate.h"
#include "soft/vtx/vtx.h"
#include "x86/paging.h"
#include "x86/vmx.h"

#include <stdlib.h>
#include <time.h>

enum { ICOUNT_NS_DEFAULT = 10, ICOUNT_NS_MAX = 100000 };

static struct soft_engine *soft_of(struct engine *g)
{
	return (struct soft_engine *)g;
}

static bool *option_flag(struct soft_options *o, const char *word)
{
	const struct { const char *word; bool *flag; } flags[] = {
		{ "interpret", &o->interpret }, { "eager", &o->eager }, { "lockstep", &o->lockstep },
		{ "precise-flags", &o->precise_flags },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(flags); n++)
		if (!strcmp(word, flags[n].word))
			return flags[n].flag;
	return NULL;
}

static int options_parse(const char *text, struct soft_options *o, struct error *e)
{
	char *copy = alloc_string(text ? text : ""), *rest = copy, *word;
	int result = 0;
	*o = (struct soft_options){ .ns_per_insn = ICOUNT_NS_DEFAULT };
	while (!result && (word = strsep(&rest, ","))) {
		char *value = strchr(word, '=');
		bool *flag;
		if (value)
			*value++ = 0;
		if (!*word)
			continue;
		if (!strcmp(word, "icount")) {
			o->icount = true;
			if (value) {
				char *end;
				unsigned long n = strtoul(value, &end, 10);
				if (*end || !n || n > ICOUNT_NS_MAX)
					result = error_set(e, STATUS_USAGE,
						"The engine option icount=%s is no number of nanoseconds per instruction from 1 to %d.",
						value, ICOUNT_NS_MAX);
				o->ns_per_insn = n;
			}
		} else if (!value && (flag = option_flag(o, word)))
			*flag = true;
		else
			result = error_set(e, STATUS_USAGE,
				"The soft engine has no option \"%s\"; it has icount and icount=NANOSECONDS (per instruction), interpret, eager, lockstep and precise-flags.",
				word);
	}
	free(copy);
	return result;
}

static int soft_probe(const struct engine_config *config, struct error *e)
{
	struct soft_options o;
	if (options_parse(config->options, &o, e))
		return -1;
	if (o.icount && config->processors > 1)
		return error_set(e, STATUS_USAGE,
			"icount needs one processor, because time is what that one has executed; --processors is %u.",
			config->processors);
	if ((o.eager || o.lockstep) && (o.icount || o.interpret))
		return error_set(e, STATUS_USAGE,
			"%s is about translated code, and with %s nothing is translated; leave one of the two out.",
			o.lockstep ? "lockstep" : "eager", o.icount ? "icount" : "interpret");
	if (o.lockstep && config->processors > 1)
		return error_set(e, STATUS_USAGE,
			"lockstep needs one processor, because another one's stores would differ; --processors is %u.",
			config->processors);
	if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt"))
		return error_set(e, STATUS_ENGINE,
			"The soft engine executes BMI2 and POPCNT on the host's processor, which lacks them; an x86-64-v3 processor is needed.");
	return 0;
}

static void on_eoi(void *owner, uint8_t vector)
{
	struct soft_engine *s = owner;
	s->engine.host.eoi(s->engine.host.owner, vector);
}

static void on_lapic(void *owner, unsigned processor, enum lapic_event event, uint8_t vector)
{
	struct soft_engine *s = owner;
	struct cpu *cpu = s->cpu[processor];
	static const uint32_t event_of[] = {
		[LAPIC_INTERRUPT] = EVENT_INTERRUPT, [LAPIC_NMI] = EVENT_NMI,
		[LAPIC_INIT] = EVENT_INIT, [LAPIC_SIPI] = EVENT_SIPI,
	};
	if (!cpu)
		return;
	if (event == LAPIC_SIPI)
		cpu->sipi_vector = vector;
	cpu_notify(cpu, event_of[event]);
}

static struct cpu *processor_create(struct soft_engine *s, unsigned index)
{
	struct cpu *cpu = aligned_alloc(64, align_up(sizeof *cpu, 64));
	if (!cpu)
		panic("out of memory for a processor");
	memset(cpu, 0, sizeof *cpu);
	cpu->index = index;
	cpu->memory = s->engine.host.memory;
	cpu->engine = s;
	cpu->lapic = lapic_get(s->lapics, index);
	cpu->blocks = block_cache_create();
	cpu->contexts = tlb_contexts_create();
	pthread_cond_init(&cpu->wake, NULL);
	fpu_create(cpu);
	if (s->engine.config.expose_virtualization_extensions)
		vtx_create(cpu);
	return cpu;
}

static void processors_reset(struct soft_engine *s)
{
	for (unsigned n = 0; n < s->engine.config.processors; n++) {
		struct cpu *cpu = s->cpu[n];
		lapic_reset(cpu->lapic, false);
		atomic_store(&cpu->events, 0);
		cpu->init_pending = false;
		cpu_reset(cpu, false);
		if (n)
			cpu->activity = ACTIVITY_WAIT_FOR_SIPI;
		else
			lapic_preset_virtual_wire(cpu->lapic);
	}
}

static void soft_destroy(struct engine *g);

static struct engine *soft_create(const struct engine_config *config, const struct engine_host *host,
				  struct error *e)
{
	struct soft_options o;
	if (soft_probe(config, e) || options_parse(config->options, &o, e))
		return NULL;
	struct soft_engine *s = alloc_zeroed(1, sizeof *s);
	struct timespec now;
	s->engine = (struct engine){ &soft_engine_ops, *config, *host };
	s->options = o;
	pthread_mutex_init(&s->exclusive_lock, NULL);
	pthread_cond_init(&s->exclusive_changed, NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	s->started = (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
	s->cpu = alloc_zeroed(config->processors, sizeof *s->cpu);
	const struct lapic_host lh = { host->clock, bus_lock(host->bus), s, on_eoi, on_lapic, PHYSICAL_BITS };
	s->lapics = lapic_set_create(config->processors, &lh);
	for (unsigned n = 0; n < config->processors; n++)
		s->cpu[n] = processor_create(s, n);
	processors_reset(s);
	for (unsigned n = 0; n < config->processors && !o.interpret && !o.icount; n++)
		if (translator_create(s->cpu[n], e)) {
			soft_destroy(&s->engine);
			return NULL;
		}
	return &s->engine;
}

static void soft_destroy(struct engine *g)
{
	struct soft_engine *s = soft_of(g);
	for (unsigned n = 0; n < g->config.processors; n++) {
		struct cpu *cpu = s->cpu[n];
		if (cpu->vtx)
			vtx_destroy(cpu);
		fpu_destroy(cpu);
		translator_destroy(cpu);
		block_cache_destroy(cpu->blocks);
		tlb_contexts_destroy(cpu->contexts);
		pthread_cond_destroy(&cpu->wake);
		free(cpu);
	}
	lapic_set_destroy(s->lapics);
	free(s->cpu);
	free(s);
}

static void soft_run(struct engine *g, unsigned processor)
{
	struct cpu *cpu = soft_of(g)->cpu[processor];
	cpu_loop(cpu);
	atomic_fetch_and(&cpu->events, ~EVENT_STOP);	/* it may be run again */
}

static void soft_stop(struct engine *g)
{
	pthread_mutex_t *lock = bus_lock(g->host.bus);
	pthread_mutex_lock(lock);
	for (unsigned n = 0; n < g->config.processors; n++)
		cpu_notify(soft_of(g)->cpu[n], EVENT_STOP);
	pthread_mutex_unlock(lock);
}

static void soft_reset(struct engine *g)
{
	processors_reset(soft_of(g));
}

static void soft_set_state(struct engine *g, unsigned processor, const struct processor_state *p)
{
	cpu_set_state(soft_of(g)->cpu[processor], p);
}

static void soft_get_state(struct engine *g, unsigned processor, struct processor_state *p)
{
	cpu_get_state(soft_of(g)->cpu[processor], p);
}

static void soft_msi(struct engine *g, uint64_t address, uint32_t data)
{
	lapic_msi(soft_of(g)->lapics, address, data);
}

static void soft_extint(struct engine *g, bool level)
{
	for (unsigned n = 0; n < g->config.processors; n++) {
		struct cpu *cpu = soft_of(g)->cpu[n];
		cpu->extint = level;
		if (level && lapic_extint_accepted(cpu->lapic))
			cpu_notify(cpu, EVENT_INTERRUPT);
	}
}

static void soft_nmi(struct engine *g)
{
	lapic_nmi(soft_of(g)->lapics);
}

static bool soft_hypervisor_running(struct engine *g)
{
	for (unsigned n = 0; n < g->config.processors; n++) {
		struct cpu *cpu = soft_of(g)->cpu[n];
		if (cpu->vtx && vtx_operation(cpu))
			return true;
	}
	return false;
}

static bool soft_plugged(struct engine *g, uint64_t pa, uint64_t n, bool in)
{
	for (unsigned i = 0; !in && i < g->config.processors; i++)
		atomic_fetch_or(&soft_of(g)->cpu[i]->events, EVENT_UNPLUGGED);
	return true;
}

static void soft_report(struct engine *g, FILE *out)
{
	struct timespec now;
	uint64_t instructions = 0, interrupts = 0, exits = 0;
	for (unsigned n = 0; n < g->config.processors; n++) {
		instructions += soft_of(g)->cpu[n]->instructions;
		interrupts += soft_of(g)->cpu[n]->interrupts;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	double seconds = (double)((uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec -
				  soft_of(g)->started) / (double)NS_PER_SECOND;
	fprintf(out, "instructions: %llu (%.1f million a second)\ninterrupts: %llu\n",
		(unsigned long long)instructions, (double)instructions / 1e6 / seconds,
		(unsigned long long)interrupts);
	for (unsigned r = 0; r < ARRAY_SIZE(soft_of(g)->cpu[0]->exits); r++) {
		uint64_t count = 0;
		for (unsigned n = 0; n < g->config.processors; n++)
			count += soft_of(g)->cpu[n]->exits[r];
		exits += count;
		if (count)
			fprintf(out, "VM exits, L2 to L1, %s (%u): %llu\n", vmx_exit_reason_name(r), r,
				(unsigned long long)count);
	}
	if (g->config.expose_virtualization_extensions)
		fprintf(out, "VM exits, L2 to L1, in all: %llu\n", (unsigned long long)exits);
}

static void soft_save(struct engine *g, struct state *st)
{
	for (unsigned n = 0; n < g->config.processors; n++)
		cpu_save(soft_of(g)->cpu[n], st);
}

static int soft_load(struct engine *g, struct state *st, struct error *e)
{
	for (unsigned n = 0; n < g->config.processors; n++)
		if (cpu_load(soft_of(g)->cpu[n], st, e))
			return -1;
	return 0;
}

const struct engine_ops soft_engine_ops = {
	.name = "soft",
	.probe = soft_probe,
	.create = soft_create,
	.destroy = soft_destroy,
	.run = soft_run,
	.stop = soft_stop,
	.reset = soft_reset,
	.set_state = soft_set_state,
	.get_state = soft_get_state,
	.msi = soft_msi,
	.extint = soft_extint,
	.nmi = soft_nmi,
	.hypervisor_running = soft_hypervisor_running,
	.plugged = soft_plugged,
	.report = soft_report,
	.save = soft_save,
	.load = soft_load,
};
