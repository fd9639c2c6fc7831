/* The loop around KVM_RUN.
 *
 * A kick makes a vCPU's thread look at its requests and at the INTR wire. It
 * first publishes what is to be seen (a request bit, the wire), then sets
 * immediate_exit, then signals the thread if that is inside KVM_RUN. The loop
 * clears immediate_exit, then looks, then says it is inside, then enters: so a
 * kick is either seen by the look, or makes KVM_RUN return at once. */
#include "kvm/kvm.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KICK_SIGNAL SIGUSR1

static const char *const exit_names[KVM_EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "unknown", [KVM_EXIT_EXCEPTION] = "exception",
	[KVM_EXIT_IO] = "port access", [KVM_EXIT_HYPERCALL] = "hypercall",
	[KVM_EXIT_DEBUG] = "debug", [KVM_EXIT_HLT] = "halt", [KVM_EXIT_MMIO] = "device memory",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "interrupt window", [KVM_EXIT_SHUTDOWN] = "triple fault",
	[KVM_EXIT_FAIL_ENTRY] = "failed entry", [KVM_EXIT_INTR] = "kick",
	[KVM_EXIT_INTERNAL_ERROR] = "internal error", [KVM_EXIT_IOAPIC_EOI] = "I/O APIC EOI",
	[KVM_EXIT_SYSTEM_EVENT] = "system event",
};

const char *kvm_exit_name(unsigned reason)
{
	return reason < KVM_EXIT_REASONS && exit_names[reason] ? exit_names[reason] : "other";
}

static void on_kick(int signal_number)
{
}

int kvm_run_initialise(struct error *e)
{
	struct sigaction action = { .sa_handler = on_kick };	/* no SA_RESTART: KVM_RUN returns */
	if (sigaction(KICK_SIGNAL, &action, NULL))
		return error_set(e, STATUS_FAULT, "No handler for signal %d: %s.", KICK_SIGNAL,
				 strerror(errno));
	return 0;
}

void kvm_kick(struct kvm_processor *p)
{
	__atomic_store_n(&p->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (!atomic_load(&p->inside))
		return;
	/* A thread that has just left run() takes the signal in vain. */
	int tid = atomic_load(&p->tid);
	if (tid)
		syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
}

void kvm_request(struct kvm_processor *p, unsigned request)
{
	atomic_fetch_or(&p->requests, request);
	kvm_kick(p);
}

void kvm_stop(struct engine *engine)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		kvm_request(&g->processor[i], KVM_REQUEST_STOP);
}

/* Text on why this processor cannot go on: to whoever owns the VM. */
static void die(struct kvm_processor *p, enum exit_status status, const char *headline)
{
	char text[KVM_DUMP_SIZE];
	const struct engine_host *host = &p->engine->engine.host;
	kvm_dump(p, headline, text);
	host->died(host->owner, p->id, status, text);
}

static void port_access(struct kvm_processor *p)
{
	struct bus *bus = p->engine->engine.host.bus;
	struct kvm_run *run = p->run;
	unsigned size = run->io.size;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			store_le(data, bus_read(bus, BUS_IO, run->io.port, size), size);
		else
			bus_write(bus, BUS_IO, run->io.port, size, load_le(data, size));
	}
	p->unfinished = true;
}

/* KVM hands over whatever part of an access falls on one page: any length up
 * to 8, taken apart into the sizes a bus knows. */
static void memory_access(struct kvm_processor *p)
{
	struct bus *bus = p->engine->engine.host.bus;
	struct kvm_run *run = p->run;
	unsigned left = run->mmio.len;
	uint8_t *data = run->mmio.data;
	uint64_t address = run->mmio.phys_addr;
	while (left) {
		unsigned size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		if (run->mmio.is_write)
			bus_write(bus, BUS_MMIO, address, size, load_le(data, size));
		else
			store_le(data, bus_read(bus, BUS_MMIO, address, size), size);
		data += size;
		address += size;
		left -= size;
	}
	p->unfinished = true;
}

static void end_of_interrupt(struct kvm_processor *p)
{
	const struct engine_host *host = &p->engine->engine.host;
	pthread_mutex_lock(bus_lock(host->bus));
	host->eoi(host->owner, p->run->eoi.vector);
	pthread_mutex_unlock(bus_lock(host->bus));
}

static void died_of_internal_error(struct kvm_processor *p)
{
	static const char *const suberrors[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "it cannot emulate the instruction",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at the same time",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an unexpected exit while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit it does not know",
	};
	char headline[160];
	uint32_t suberror = p->run->internal.suberror;
	snprintf(headline, sizeof headline, "KVM gave up with internal error %u: %s.", suberror,
		 suberror < ARRAY_SIZE(suberrors) && suberrors[suberror] ?
			 suberrors[suberror] : "no explanation known");
	die(p, STATUS_ENGINE, headline);
}

/* False: the processor is dead. */
static bool handle_exit(struct kvm_processor *p)
{
	char headline[160];
	unsigned reason = p->run->exit_reason;
	p->exits[reason < KVM_EXIT_REASONS ? reason : KVM_EXIT_UNKNOWN]++;
	switch (reason) {
	case KVM_EXIT_IO:
		port_access(p);
		return true;
	case KVM_EXIT_MMIO:
		memory_access(p);
		return true;
	case KVM_EXIT_IOAPIC_EOI:
		end_of_interrupt(p);
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
		return true;
	case KVM_EXIT_SHUTDOWN:
		die(p, STATUS_DIED, "Triple fault: the guest's exception handlers failed twice. "
		    "KVM does not tell which exceptions led there; --engine soft does.");
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(headline, sizeof headline,
			 "The host's processor refused to enter the guest, reason %#llx.",
			 (unsigned long long)p->run->fail_entry.hardware_entry_failure_reason);
		die(p, STATUS_ENGINE, headline);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		died_of_internal_error(p);
		return false;
	default:
		snprintf(headline, sizeof headline, "KVM made an exit that has no meaning here: %u (%s).",
			 reason, kvm_exit_name(reason));
		die(p, STATUS_ENGINE, headline);
		return false;
	}
}

static void answer_nested(struct kvm_processor *p)
{
	bool in_vmx = kvm_in_vmx_operation(p);
	pthread_mutex_lock(&p->lock);
	p->in_vmx = in_vmx;
	p->answered = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* False: asked to stop. */
static bool serve_requests(struct kvm_processor *p)
{
	unsigned requests = atomic_exchange(&p->requests, 0);
	if (requests & KVM_REQUEST_NMI)
		kvm_take_nmi(p);
	if (requests & KVM_REQUEST_NESTED)
		answer_nested(p);
	return !(requests & KVM_REQUEST_STOP);
}

/* One KVM_RUN. 1: an exit; 0: look around and come back; -1: it failed. */
static int enter(struct kvm_processor *p)
{
	atomic_store(&p->inside, true);
	int result = ioctl(p->fd, KVM_RUN, 0);
	int error = errno;
	atomic_store_explicit(&p->inside, false, memory_order_release);
	if (likely(!result)) {
		p->unfinished = false;
		return 1;
	}
	errno = error;
	/* EAGAIN: a processor that waited for SIPI was woken. */
	if (error == EINTR || error == EAGAIN) {
		p->unfinished = false;
		p->exits[KVM_EXIT_INTR]++;
		return 0;
	}
	return -1;
}

/* The instruction of the last exit retires at the next entry: let it, so that
 * the state is whole. */
static void finish_instruction(struct kvm_processor *p)
{
	while (p->unfinished) {
		p->run->immediate_exit = 1;
		if (enter(p) <= 0 || !handle_exit(p))
			break;
	}
}

static void loop(struct kvm_processor *p)
{
	char headline[160];
	for (;;) {
		__atomic_store_n(&p->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (unlikely(atomic_load(&p->requests)) && !serve_requests(p)) {
			finish_instruction(p);
			return;
		}
		kvm_offer_extint(p);
		switch (enter(p)) {
		case 1:
			if (!handle_exit(p))
				return;
			break;
		case -1:
			snprintf(headline, sizeof headline, "KVM_RUN failed: %s.", strerror(errno));
			die(p, STATUS_ENGINE, headline);
			return;
		}
	}
}

void kvm_run_processor(struct engine *engine, unsigned processor)
{
	struct kvm_processor *p = &kvm_engine_of(engine)->processor[processor];
	sigset_t kick;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);

	pthread_mutex_lock(&p->lock);
	p->active = true;
	pthread_mutex_unlock(&p->lock);
	atomic_store(&p->tid, (int)syscall(SYS_gettid));
	loop(p);
	atomic_store(&p->tid, 0);
	pthread_mutex_lock(&p->lock);
	p->active = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static bool processor_in_vmx(struct kvm_processor *p)
{
	bool answer;
	pthread_mutex_lock(&p->lock);
	p->answered = false;
	if (p->active)
		kvm_request(p, KVM_REQUEST_NESTED);
	while (p->active && !p->answered)
		pthread_cond_wait(&p->changed, &p->lock);
	answer = p->answered ? p->in_vmx : kvm_in_vmx_operation(p);
	pthread_mutex_unlock(&p->lock);
	return answer;
}

bool kvm_hypervisor_running(struct engine *engine)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	if (!g->engine.config.expose_virtualization_extensions)
		return false;
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		if (processor_in_vmx(&g->processor[i]))
			return true;
	return false;
}

void kvm_report(struct engine *engine, FILE *out)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	uint64_t total = 0, by_reason[KVM_EXIT_REASONS] = { 0 };
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		for (unsigned reason = 0; reason < KVM_EXIT_REASONS; reason++) {
			by_reason[reason] += g->processor[i].exits[reason];
			total += g->processor[i].exits[reason];
		}
	fprintf(out, "exits to Nestor's kvm engine: %llu\n", (unsigned long long)total);
	for (unsigned reason = 0; reason < KVM_EXIT_REASONS; reason++)
		if (by_reason[reason])
			fprintf(out, "  %-18s %10llu\n", kvm_exit_name(reason),
				(unsigned long long)by_reason[reason]);
}
