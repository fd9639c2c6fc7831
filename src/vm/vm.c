/* A VM's life.
 *
 * One thread per processor lives in engine_ops.run. The thread that called
 * vm_run is the supervisor: it sleeps in poll() until something ends the VM,
 * asks the engine to stop, waits for the processors to leave run, and either
 * resets the VM or says why it ended. Start reading at vm_run.
 *
 * Chips, processors and the console only note what they want (vm_end,
 * vm_leave) and wake the supervisor: they may hold the board lock, and the
 * supervisor never takes it while processors run. The first reason to end
 * counts. The user's wish to leave (a signal, Ctrl-A X) is kept apart, so that
 * it cannot get lost behind a guest that resets itself for ever. */
#include "vm/vm.h"

#include "base/log.h"
#include "vm/board.h"
#include "vm/console.h"
#include "vm/engine_select.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	DRAIN_MS = 50,		/* how often to look for signals while output drains */
	SIGNAL_STATUS = 128,	/* the shells' convention: 128 + signal */
	THREAD_NAME_SIZE = 16,
	PAUSE_SECONDS = 10,	/* for all processors to stand still */
	/* timeout(1) signals its child and then the child's group: one wish. */
	SAME_SIGNAL_NS = NS_PER_SECOND / 2,
};

enum ending { NOT_ENDED, POWERED_OFF, ASKED_RESET, EXITED, DIED, STOPPED };

struct vm {
	struct vm_config config;
	const struct engine_ops *ops;
	struct engine *engine;
	struct board *board;
	struct console *console;
	int wake;		/* eventfd: look at the fields below */
	int signals;		/* signalfd */
	sigset_t old_mask;
	_Atomic uint64_t began, ended;	/* host ns; 0: not yet */
	char said[512];		/* why it ended */

	pthread_mutex_t lock;	/* guards what follows */
	enum ending ending;
	uint32_t value;		/* EXITED: what was written */
	enum exit_status status;	/* DIED */
	unsigned processor;	/* DIED, STOPPED */
	char *text;		/* DIED: the dump */
	int left_by;		/* the signal (Ctrl-A X: SIGINT) that ends the VM */
	bool left_by_key;
	uint64_t left_at;	/* host ns */
	bool turned_off;	/* vm_turn_off: left_by is SIGTERM in name only */
	bool restart;		/* the next reset was asked for by vm_restart */
	unsigned resets;	/* that were done */
	bool pause_wanted;
	bool pausing;		/* processors leave run to stand still, not to end */
	bool paused;		/* they do */
	pthread_cond_t pause_changed;
	unsigned running;	/* processors in run */
};

struct processor_thread {
	struct vm *vm;
	unsigned index;
	pthread_t thread;
};

static const int ending_signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };

static uint64_t host_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static void wake(struct vm *vm)
{
	uint64_t one = 1;
	ssize_t done = write(vm->wake, &one, sizeof one);
	(void)done;	/* only fails when the supervisor is awake already */
}

/* Note why the VM ends; the first reason counts. text is ours from here on. */
static void vm_end(struct vm *vm, enum ending ending, uint32_t value,
		   enum exit_status status, unsigned processor, char *text)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->ending == NOT_ENDED) {
		vm->ending = ending;
		vm->value = value;
		vm->status = status;
		vm->processor = processor;
		vm->text = text;
		text = NULL;
	}
	pthread_mutex_unlock(&vm->lock);
	free(text);
	wake(vm);
}

static void vm_leave(struct vm *vm, int signal, bool key)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->left_by) {
		vm->left_by = signal;
		vm->left_by_key = key;
		vm->left_at = host_now();
	}
	pthread_mutex_unlock(&vm->lock);
	/* A processor may stand in a request of its own. */
	board_hurry_disks(vm->board);
	wake(vm);
}

/* What board, console and engine call. */

static void on_request(void *owner, enum machine_request request, uint32_t value)
{
	static const enum ending endings[] = {
		[MACHINE_POWER_OFF] = POWERED_OFF,
		[MACHINE_RESET] = ASKED_RESET,
		[MACHINE_EXIT] = EXITED,
	};
	vm_end(owner, endings[request], value, STATUS_OK, 0, NULL);
}

static void on_died(void *owner, unsigned processor, enum exit_status status, const char *text)
{
	vm_end(owner, DIED, 0, status, processor, alloc_string(text));
}

static void on_eoi(void *owner, uint8_t vector)
{
	struct vm *vm = owner;
	board_eoi(vm->board, vector);
}

static uint8_t on_extint_acknowledge(void *owner)
{
	struct vm *vm = owner;
	return board_extint_acknowledge(vm->board);
}

static void on_serial_output(void *owner, const uint8_t *bytes, size_t n)
{
	struct vm *vm = owner;
	console_write(vm->console, bytes, n);
}

static void on_serial_room(void *owner)
{
	struct vm *vm = owner;
	console_offer(vm->console);
}

static size_t on_serial_input(void *owner, const uint8_t *bytes, size_t n)
{
	struct vm *vm = owner;
	return board_serial_receive(vm->board, bytes, n);
}

static void on_leave_key(void *owner)
{
	vm_leave(owner, SIGINT, true);
}

/* The supervisor. */

static void take_signal(struct vm *vm)
{
	struct signalfd_siginfo info;
	if (read(vm->signals, &info, sizeof info) != sizeof info)
		return;
	int signal = (int)info.ssi_signo;
	switch (signal) {
	case SIGTSTP:
		console_restore_terminal();
		raise(SIGSTOP);
		console_resume_terminal(vm->console);
		break;
	case SIGCONT:
		console_resume_terminal(vm->console);
		break;
	default:
		pthread_mutex_lock(&vm->lock);
		bool again = vm->left_by && !vm->left_by_key &&
			host_now() - vm->left_at > SAME_SIGNAL_NS;
		pthread_mutex_unlock(&vm->lock);
		if (again) {
			console_restore_terminal();
			log_line("Told to end for the second time (%s): not waiting any longer.",
				 strsignal(signal));
			_exit(SIGNAL_STATUS + signal);
		}
		vm_leave(vm, signal, false);
	}
}

/* Sleep until something is noted or ms passed (-1: however long it takes). */
static void supervise(struct vm *vm, int ms)
{
	struct pollfd p[] = {
		{ .fd = vm->wake, .events = POLLIN },
		{ .fd = vm->signals, .events = POLLIN },
	};
	if (poll(p, ARRAY_SIZE(p), ms) <= 0)
		return;
	if (p[0].revents) {
		uint64_t count;
		ssize_t done = read(vm->wake, &count, sizeof count);
		(void)done;
	}
	if (p[1].revents)
		take_signal(vm);
}

struct look {
	enum ending ending;
	int left_by;
	unsigned running;
	bool pause;
};

static struct look look(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	struct look l = { vm->ending, vm->left_by, vm->running, vm->pause_wanted };
	pthread_mutex_unlock(&vm->lock);
	return l;
}

static void *processor_run(void *arg)
{
	struct processor_thread *t = arg;
	struct vm *vm = t->vm;
	vm->ops->run(vm->engine, t->index);
	pthread_mutex_lock(&vm->lock);
	bool pausing = vm->pausing;
	pthread_mutex_unlock(&vm->lock);
	/* Does nothing when run returned because it was asked to. */
	if (!pausing)
		vm_end(vm, STOPPED, 0, STATUS_FAULT, t->index, NULL);
	pthread_mutex_lock(&vm->lock);
	vm->running--;
	pthread_mutex_unlock(&vm->lock);
	wake(vm);
	return NULL;
}

/* Run all processors until the VM ends or is to stand still. */
static void run_processors(struct vm *vm)
{
	struct processor_thread *t = alloc_zeroed(vm->config.processors, sizeof *t);
	bool stopped = false;
	vm->running = vm->config.processors;
	for (unsigned i = 0; i < vm->config.processors; i++) {
		char name[THREAD_NAME_SIZE];
		t[i].vm = vm;
		t[i].index = i;
		if (pthread_create(&t[i].thread, NULL, processor_run, &t[i]))
			panic("no thread for processor %u (%s)", i, strerror(errno));
		snprintf(name, sizeof name, "processor %u", i % 1000);
		pthread_setname_np(t[i].thread, name);
	}
	for (struct look l = look(vm); l.running; l = look(vm)) {
		if (l.left_by) {
			/* A processor may wait for its output to be taken. */
			console_leave(vm->console);
			vm_end(vm, STOPPED, 0, STATUS_OK, 0, NULL);
			l.ending = STOPPED;
		}
		if ((l.ending || l.pause) && !stopped) {
			pthread_mutex_lock(&vm->lock);
			vm->pausing = vm->ending == NOT_ENDED;
			pthread_mutex_unlock(&vm->lock);
			vm->ops->stop(vm->engine);
			stopped = true;
		}
		supervise(vm, -1);
	}
	for (unsigned i = 0; i < vm->config.processors; i++)
		pthread_join(t[i].thread, NULL);
	free(t);
}

/* After run_processors: false when the VM is ending; else it stood still, and
 * the processors are to run on. */
static bool stand_still(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool pausing = vm->pausing && vm->ending == NOT_ENDED;
	vm->pausing = false;
	vm->paused = pausing;
	pthread_cond_broadcast(&vm->pause_changed);
	pthread_mutex_unlock(&vm->lock);
	if (!pausing)
		return false;
	board_pause(vm->board, true);
	struct look l = look(vm);
	for (; l.pause && !l.ending && !l.left_by; l = look(vm))
		supervise(vm, -1);
	board_pause(vm->board, false);
	pthread_mutex_lock(&vm->lock);
	vm->paused = false;
	pthread_cond_broadcast(&vm->pause_changed);
	pthread_mutex_unlock(&vm->lock);
	if (l.left_by)
		vm_end(vm, STOPPED, 0, STATUS_OK, 0, NULL);
	return look(vm).ending == NOT_ENDED;
}

static int load(struct vm *vm, struct error *e)
{
	struct processor_state bsp;
	processor_state_reset(&bsp);
	if (board_load(vm->board, &bsp, e))
		return -1;
	vm->ops->set_state(vm->engine, 0, &bsp);
	return 0;
}

static int reset(struct vm *vm, struct error *e)
{
	pthread_mutex_lock(&vm->lock);
	log_line("%s", vm->restart ? "Reset: starting the guest again." :
		 "The guest asked for a reset: starting it again.");
	vm->ending = NOT_ENDED;
	vm->restart = false;
	vm->resets++;
	pthread_mutex_unlock(&vm->lock);
	board_reset(vm->board);
	vm->ops->reset(vm->engine);
	return load(vm, e);
}

static void say(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct vm *vm, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(vm->said, sizeof vm->said, format, ap);
	va_end(ap);
	log_line("%s", vm->said);
}

static int say_died(struct vm *vm)
{
	switch (vm->status) {
	case STATUS_DIED:
		say(vm, "The guest died on processor %u by a triple fault; its state and what led there follow.",
			 vm->processor);
		break;
	case STATUS_FAULT:
		say(vm, "A fault of Nestor's own on processor %u; please report it with the command line and what follows.",
			 vm->processor);
		break;
	default:
		say(vm, "The engine %s cannot go on with processor %u, as follows.",
			 vm->ops->name, vm->processor);
	}
	size_t n = strlen(vm->text);
	fprintf(stderr, "%s%s", vm->text, n && vm->text[n - 1] == '\n' ? "" : "\n");
	return vm->status;
}

/* One sentence, and the exit status. The terminal is restored. */
static int say_ending(struct vm *vm)
{
	switch (vm->ending) {
	case POWERED_OFF:
		say(vm, "The guest powered off.");
		return STATUS_OK;
	case EXITED:
		say(vm, "The guest wrote %#x to port 0xf4: exit status %d.", vm->value,
			 vm_debug_exit_status(vm->value));
		return vm_debug_exit_status(vm->value);
	case ASKED_RESET:
		if (!vm->config.reboot) {
			say(vm, "The guest asked for a reset, and the VM ends; with --reboot it would start again.");
			return STATUS_RESET;
		}
		break;	/* the user left during the reset */
	case DIED:
		return say_died(vm);
	case STOPPED:
	case NOT_ENDED:
		break;
	}
	if (vm->turned_off) {
		say(vm, "The VM was turned off.");
		return STATUS_OK;
	}
	if (vm->left_by) {
		if (vm->left_by_key)
			say(vm, "Left with Ctrl-A X; the VM has ended.");
		else
			say(vm, "The VM was ended by a signal (%s).", strsignal(vm->left_by));
		return SIGNAL_STATUS + vm->left_by;
	}
	say(vm, "A fault of Nestor's own: the engine %s stopped processor %u without being asked. Please report it with the command line.",
		 vm->ops->name, vm->processor);
	return STATUS_FAULT;
}

int vm_run(struct vm *vm)
{
	struct error e = { 0 };
	console_start(vm->console);
	vm->began = host_now();
	for (;;) {
		do
			run_processors(vm);
		while (stand_still(vm));
		if (vm->ending != ASKED_RESET || (!vm->config.reboot && !vm->restart) ||
		    look(vm).left_by)
			break;
		if (reset(vm, &e))
			break;
	}
	vm->ended = host_now();
	while (!look(vm).left_by && !console_drain(vm->console, DRAIN_MS))
		supervise(vm, 0);
	console_stop(vm->console);
	if (e.text[0]) {
		say(vm, "%s", e.text);
		return e.status;
	}
	return say_ending(vm);
}

int vm_ending_signal(const struct vm *vm)
{
	return vm->ending == STOPPED && !vm->left_by_key && !vm->turned_off ? vm->left_by : 0;
}

const char *vm_ending_text(const struct vm *vm)
{
	return vm->said;
}

/* What others ask of it while it runs. */

void vm_turn_off(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->left_by)
		vm->turned_off = true;
	pthread_mutex_unlock(&vm->lock);
	vm_leave(vm, SIGTERM, false);
}

void vm_restart(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->ending == NOT_ENDED) {
		vm->restart = true;
		vm->pause_wanted = false;
	}
	pthread_mutex_unlock(&vm->lock);
	vm_end(vm, ASKED_RESET, 0, STATUS_OK, 0, NULL);
}

void vm_power_button(struct vm *vm)
{
	board_power_button(vm->board);
}

void vm_network_connect(struct vm *vm, unsigned adapter, int fd)
{
	board_network_connect(vm->board, adapter, fd);
}

const char *vm_disk_problem(struct vm *vm)
{
	return board_disk_problem(vm->board);
}

/* Lock held: it runs, or will again after a reset. */
static bool goes_on(const struct vm *vm)
{
	return vm->ending == NOT_ENDED ||
		(vm->ending == ASKED_RESET && (vm->config.reboot || vm->restart));
}

int vm_pause(struct vm *vm, bool paused, struct error *e)
{
	struct timespec until;
	int late = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PAUSE_SECONDS;
	pthread_mutex_lock(&vm->lock);
	vm->pause_wanted = paused;
	wake(vm);
	while (vm->paused != paused && goes_on(vm) && !late)
		late = pthread_cond_timedwait(&vm->pause_changed, &vm->lock, &until);
	bool done = vm->paused == paused && goes_on(vm);
	if (!done)
		vm->pause_wanted = false;
	pthread_mutex_unlock(&vm->lock);
	return done ? 0 : error_set(e, STATUS_FAULT, late ?
		"The VM's processors did not stand still within %d seconds." :
		"The VM is ending.", PAUSE_SECONDS);
}

bool vm_is_paused(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool paused = vm->paused;
	pthread_mutex_unlock(&vm->lock);
	return paused;
}

uint64_t vm_uptime(const struct vm *vm)
{
	uint64_t began = vm->began, ended = vm->ended;
	return began ? (ended ? ended : host_now()) - began : 0;
}

unsigned vm_resets(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	unsigned resets = vm->resets;
	pthread_mutex_unlock(&vm->lock);
	return resets;
}

void vm_memory(struct vm *vm, struct guest_memory_status *s)
{
	board_memory(vm->board, s);
}

void vm_assign_memory(struct vm *vm, uint64_t bytes)
{
	board_assign_memory(vm->board, bytes);
}

bool vm_hypervisor_running(struct vm *vm)
{
	return vm->ops->hypervisor_running(vm->engine);
}

void vm_report(struct vm *vm, FILE *out)
{
	fprintf(out, "report: engine %s, %u processor%s, %llu MiB, %.3f s from start to %s\n",
		vm->ops->name, vm->config.processors, vm->config.processors == 1 ? "" : "s",
		(unsigned long long)(vm->config.memory / MIB),
		(double)vm_uptime(vm) / NS_PER_SECOND, vm->ended ? "end" : "now");
	vm->ops->report(vm->engine, out);
}

/* Creation. */

static void block_signals(struct vm *vm)
{
	static const int others[] = { SIGTSTP, SIGCONT };
	sigset_t taken, blocked;
	sigemptyset(&taken);
	for (unsigned i = 0; i < ARRAY_SIZE(ending_signals); i++)
		sigaddset(&taken, ending_signals[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		sigaddset(&taken, others[i]);
	blocked = taken;
	/* In the background the terminal says EIO instead of stopping us, and
	 * can be restored; a pipe whose reader went says EPIPE. */
	sigaddset(&blocked, SIGTTIN);
	sigaddset(&blocked, SIGTTOU);
	sigaddset(&blocked, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &blocked, &vm->old_mask);
	vm->signals = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vm->signals < 0)
		panic("signalfd fails (%s)", strerror(errno));
}

static int create_engine(struct vm *vm, struct error *e)
{
	struct engine_config asked = vm_engine_config(&vm->config);
	struct engine_host host = {
		.owner = vm,
		.eoi = on_eoi,
		.extint_acknowledge = on_extint_acknowledge,
		.died = on_died,
	};
	board_engine_host(vm->board, &host);
	vm->engine = vm->ops->create(&asked, &host, e);
	if (!vm->engine)
		return -1;
	board_attach(vm->board, vm->engine);
	return 0;
}

struct vm *vm_create(const struct vm_config *config, const struct engine_ops *ops,
		     struct error *e)
{
	struct vm *vm = alloc_zeroed(1, sizeof *vm);
	struct console_events events = { on_serial_input, on_leave_key, vm };
	struct machine_control control = { on_request, vm };
	struct board_serial serial = { on_serial_output, on_serial_room, vm };
	vm->config = *config;
	vm->ops = ops;
	pthread_condattr_t attr;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->pause_changed, &attr);
	pthread_condattr_destroy(&attr);
	block_signals(vm);
	vm->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake < 0)
		panic("eventfd fails (%s)", strerror(errno));
	vm->console = console_create(&config->serial, &events, e);
	if (vm->console)
		vm->board = board_create(config, control, serial, e);
	if (!vm->board || create_engine(vm, e) || load(vm, e)) {
		vm_destroy(vm);
		return NULL;
	}
	return vm;
}

void vm_destroy(struct vm *vm)
{
	if (vm->engine) {
		board_attach(vm->board, NULL);
		vm->ops->destroy(vm->engine);
	}
	if (vm->board)
		board_destroy(vm->board);
	if (vm->console)
		console_destroy(vm->console);
	close(vm->wake);
	close(vm->signals);
	pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
	pthread_mutex_destroy(&vm->lock);
	pthread_cond_destroy(&vm->pause_changed);
	free(vm->text);
	free(vm);
}
