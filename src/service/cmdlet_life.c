/* Starting, stopping, waiting. Everything that waits lets the lock go, so a VM
 * is looked up anew by its id afterwards. */
#include "service/machine.h"
#include "service/paths.h"
#include "service/settings.h"
#include "service/start.h"
#include "service/vm_object.h"

#include <stdlib.h>
#include <unistd.h>

enum {
	SHUTDOWN_MS = 300 * 1000,	/* five minutes, as Hyper-V gives a guest */
	PRESS_AGAIN_MS = 5 * 1000,
	TURN_OFF_MS = 20 * 1000,	/* then the worker is killed */
	WAIT_STEP_MS = 1000,
	MS_PER_SECOND = 1000,
};

/* Of Wait-VM's parameters, its own: how often each machine had been started again. */
static const char resets_key[] = "$Resets";

static void progress(struct call *c, const char *text)
{
	if (c->rpc)
		rpc_notify(c->rpc, "progress", json_pack("{s:O?,s:s}", "id", rpc_id(c->rpc), "text", text));
}

static bool abandoned(struct call *c)
{
	return c->rpc && rpc_abandoned(c->rpc);
}

/* Wait until the VM is Off; false when the time is over or nobody waits. */
static bool wait_off(struct call *c, const char *id, int64_t ms)
{
	int64_t until = service_now() + ms;
	while (machine_find(c->service, id)) {
		int64_t left = until - service_now();
		if (left <= 0 || abandoned(c))
			return false;
		service_wait(c->service, left < WAIT_STEP_MS ? (unsigned)left : WAIT_STEP_MS);
	}
	return true;
}

static int wrong_state(struct call *c, json_t *vm, const char *reason, const char *remedy)
{
	call_error(c, "InvalidState", get_text(vm, "Name"),
		   call_text(c, "%s", wrong_state_sentence), reason, remedy);
	return -1;
}

static const char *is_state(struct call *c, json_t *vm)
{
	return call_text(c, "%s is %s.", get_text(vm, "Name"),
			 machine_state_name(machine_state(c->service, get_text(vm, "Id"))));
}

/* Ask the worker to end it, and end the worker if it does not. */
static int turn_off(struct call *c, const char *id)
{
	struct error e;
	struct machine *m = machine_find(c->service, id);
	json_t *answer = m ? machine_ask(m, "Worker.TurnOff", NULL, &e) : NULL;
	json_decref(answer);
	if (m && !wait_off(c, id, answer ? TURN_OFF_MS : 0) && (m = machine_find(c->service, id))) {
		machine_kill(m);
		wait_off(c, id, TURN_OFF_MS);
	}
	return machine_find(c->service, id) ? -1 : 0;
}

static int stop_failed(struct call *c, json_t *vm, const char *reason, const char *remedy)
{
	call_error(c, "OperationFailed", get_text(vm, "Name"),
		   call_text(c, "'%s' failed to stop. (Virtual machine ID %s)", get_text(vm, "Name"),
			     call_guid(c, vm)), reason, remedy);
	return -1;
}

/* wait_off, with the power button pressed again from time to time: a guest that
 * is still coming up does not hear it. */
static bool press_until_off(struct call *c, const char *id, int64_t ms)
{
	int64_t until = service_now() + ms, left = ms;
	while (!wait_off(c, id, left < PRESS_AGAIN_MS ? left : PRESS_AGAIN_MS)) {
		struct machine *m = machine_find(c->service, id);
		struct error e;
		left = until - service_now();
		if (left <= 0 || abandoned(c))
			return false;
		json_decref(m ? machine_ask(m, "Worker.PowerButton", NULL, &e) : NULL);
	}
	return true;
}

static int shut_down(struct call *c, json_t *vm, const char *id)
{
	struct error e = { 0 };
	struct machine *m = machine_find(c->service, id);
	const char *name = call_text(c, "%s", get_text(vm, "Name"));
	const char *remedy = call_text(c, "Stop-VM -Name '%s' -TurnOff ends it at once, or -Force after five minutes.", name);
	json_t *answer = machine_ask(m, "Worker.PowerButton", NULL, &e);
	if (!answer)
		return stop_failed(c, vm, e.text, remedy);
	json_decref(answer);
	enum machine_state before = m->state;
	m->state = MACHINE_STOPPING;
	progress(c, call_text(c, "Waiting for %s to shut down.", name));
	const char *limit = getenv("NESTOR_SHUTDOWN_SECONDS");
	int64_t ms = limit ? strtoll(limit, NULL, 10) * MS_PER_SECOND : SHUTDOWN_MS;
	if (press_until_off(c, id, ms))
		return 0;
	m = machine_find(c->service, id);
	if (m && m->state == MACHINE_STOPPING)
		m->state = before;
	if (m && call_switch(c, "Force") && !abandoned(c)) {
		if (!turn_off(c, id))
			return 0;
		return stop_failed(c, vm, "Its worker process does not end.", NULL);
	}
	return m ? stop_failed(c, vm,
		"The guest's operating system did not shut down when the power button was pressed.", remedy) : 0;
}

static int stop_one(struct call *c, json_t *copy)
{
	const char *id = call_text(c, "%s", get_text(copy, "Id"));
	enum machine_state state = machine_state(c->service, id);
	if (call_switch(c, "Save")) {
		call_error(c, "NotSupported", get_text(copy, "Name"), "Stop-VM -Save is not supported.",
			   "Nestor does not save a running virtual machine's state yet.",
			   "Stop-VM without -Save shuts the guest down.");
		return -1;
	}
	if (state == MACHINE_OFF) {
		call_say(c, "warning", "The virtual machine is already in the specified state.");
		return 0;
	}
	if (call_switch(c, "TurnOff"))
		return turn_off(c, id) ? stop_failed(c, copy, "Its worker process does not end.", NULL) : 0;
	if (state != MACHINE_RUNNING)
		return wrong_state(c, copy, is_state(c, copy),
			call_text(c, "Stop-VM -Name '%s' -TurnOff works in every state.", get_text(copy, "Name")));
	return shut_down(c, copy, id);
}

static void stop_vm(struct call *c)
{
	vm_each(c, "will stop the virtual machine", stop_one, vm_object);
}

static int start_one(struct call *c, json_t *copy)
{
	if (c->service->stopping)
		return wrong_state(c, copy, "The host stops, and its service with it.", NULL);
	return start_vm(c, copy);
}

static void start_cmdlet(struct call *c)
{
	vm_each(c, "will start the virtual machine", start_one, vm_object);
}

/* One question to the worker that changes the state. */
static int change_state(struct call *c, json_t *vm, enum machine_state from, const char *method,
			enum machine_state to)
{
	const char *id = get_text(vm, "Id");
	struct machine *m = machine_find(c->service, id);
	struct error e = { 0 };
	if (m && m->state == to) {
		call_say(c, "warning", "The virtual machine is already in the specified state.");
		return 0;
	}
	if (!m || m->state != from)
		return wrong_state(c, vm, call_text(c, "%s needs a virtual machine that is %s; %s",
			c->cmdlet->name, machine_state_name(from), is_state(c, vm)), NULL);
	json_t *answer = machine_ask(m, method, NULL, &e);
	if (!answer) {
		call_error(c, "OperationFailed", get_text(vm, "Name"),
			   call_text(c, "'%s' failed to change state. (Virtual machine ID %s)",
				     get_text(vm, "Name"), call_guid(c, vm)), e.text, NULL);
		return -1;
	}
	json_decref(answer);
	m->state = to;
	return 0;
}

static int suspend_one(struct call *c, json_t *copy)
{
	return change_state(c, copy, MACHINE_RUNNING, "Worker.Pause", MACHINE_PAUSED);
}

static int resume_one(struct call *c, json_t *copy)
{
	return change_state(c, copy, MACHINE_PAUSED, "Worker.Resume", MACHINE_RUNNING);
}

static void suspend_vm(struct call *c)
{
	vm_each(c, "will suspend the virtual machine", suspend_one, vm_object);
}

static void resume_vm(struct call *c)
{
	vm_each(c, "will resume the virtual machine", resume_one, vm_object);
}

/* What -For waits for. */

static json_t *worker_state(struct call *c, const char *id)
{
	struct error e;
	struct machine *m = machine_find(c->service, id);
	return m ? machine_ask(m, "Worker.State", NULL, &e) : NULL;
}

/* How often the guest has been started again; -1: nobody says. */
static int64_t resets_of(struct call *c, const char *id)
{
	json_t *state = worker_state(c, id);
	int64_t resets = state ? get_integer(state, "Resets") : -1;
	json_decref(state);
	return resets;
}

/* Has an adapter an address, and has the guest sent anything since `frames`? Addresses
 * are what the switch saw, so those of before a restart prove nothing alone. */
static bool has_address(struct call *c, const char *id, int64_t frames)
{
	json_t *vm = store_find(c->service->store, STORE_VM, id), *adapter;
	size_t i;
	bool found = false;
	json_array_foreach(json_object_get(vm, "Adapters"), i, adapter) {
		json_t *object = vm_adapter_object(c->service, vm, adapter);
		found |= json_array_size(json_object_get(object, "IPAddresses")) &&
			get_integer(object, "FramesSent") > frames;
		json_decref(object);
	}
	return found;
}

static int64_t frames_of(struct call *c, const char *id)
{
	json_t *vm = store_find(c->service->store, STORE_VM, id), *adapter;
	size_t i;
	int64_t most = 0;
	json_array_foreach(json_object_get(vm, "Adapters"), i, adapter) {
		json_t *object = vm_adapter_object(c->service, vm, adapter);
		int64_t frames = get_integer(object, "FramesSent");
		most = frames > most ? frames : most;
		json_decref(object);
	}
	return most;
}

/* -For Heartbeat and -For MemoryOperations: nothing in a guest reports them. */
static int refuse_for(struct call *c, json_t *vm, const char *what)
{
	call_error(c, "NotSupported", get_text(vm, "Name"), call_text(c, "-For %s is not supported.", what),
		   !strcasecmp(what, "Heartbeat") ?
		   "Nestor's guests have no service that sends a heartbeat." :
		   "Nestor's guests do not report when an operation on their memory ends.",
		   !strcmp(c->cmdlet->name, "Restart-VM") ?
		   "-For IPAddress waits until the guest has an address; without -For, -Wait waits until it has been started again." :
		   "-For IPAddress waits until the guest has an address, -For Reboot until it is started again, -State Off until it is off.");
	return -1;
}

/* A wait: until done() says so, -Timeout seconds at most, looking every -Delay. */
struct wait {
	const char *id, *what;		/* "… until NAME WHAT." */
	const char *state;		/* wanted; NULL: … */
	int64_t resets;			/* … more than these (-1: not asked for) */
	bool address;			/* … or an address, */
	int64_t frames;			/* and more frames than these */
};

static bool is_done(struct call *c, const struct wait *w)
{
	if (w->state)
		return !strcasecmp(machine_state_name(machine_state(c->service, w->id)), w->state);
	if (w->resets >= 0 && resets_of(c, w->id) <= w->resets)
		return false;
	return !w->address || has_address(c, w->id, w->frames);
}

static int wait_until(struct call *c, json_t *vm, const struct wait *w)
{
	json_t *limit = call_parameter(c, "Timeout"), *delay = call_parameter(c, "Delay");
	int64_t seconds = limit ? json_integer_value(limit) : -1, step = json_integer_value(delay);
	int64_t until = seconds >= 0 ? service_now() + seconds * MS_PER_SECOND : INT64_MAX;
	const char *name = call_text(c, "%s", get_text(vm, "Name"));
	progress(c, call_text(c, "Waiting until %s %s.", name, w->what));
	while (!is_done(c, w)) {
		if (abandoned(c) || !store_find(c->service->store, STORE_VM, w->id))
			return -1;
		if (!w->state && !machine_find(c->service, w->id))
			return wrong_state(c, vm, call_text(c, "%s turned off while it was waited for.", name),
					   call_text(c, "Get-VM '%s' | Format-List says why.", name));
		int64_t left = until - service_now(), look = service_now() + (step > 0 ? step * MS_PER_SECOND : WAIT_STEP_MS);
		if (left <= 0) {
			call_error(c, "OperationFailed", name,
				   call_text(c, "The wait for the virtual machine \"%s\" timed out.", name),
				   call_text(c, "After %lld s it is not so that %s %s; it is %s.", (long long)seconds, name, w->what,
					     machine_state_name(machine_state(c->service, w->id))), NULL);
			return -1;
		}
		/* The end of a machine is seen at once, whatever the delay. */
		do
			service_wait(c->service, left < WAIT_STEP_MS ? (unsigned)left : WAIT_STEP_MS);
		while (step > 0 && service_now() < look && service_now() < until && !abandoned(c) &&
		       machine_find(c->service, w->id));
	}
	return 0;
}

static int restart_one(struct call *c, json_t *copy)
{
	const char *id = call_text(c, "%s", get_text(copy, "Id"));
	struct machine *m = machine_find(c->service, id);
	struct error e = { 0 };
	const char *waits_for = call_string(c, "For");
	if (waits_for && strcasecmp(waits_for, "IPAddress"))
		return refuse_for(c, copy, waits_for);
	if (!m || (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED))
		return wrong_state(c, copy, is_state(c, copy),
			call_text(c, "Start-VM -Name '%s'", get_text(copy, "Name")));
	struct wait w = { .id = id, .what = waits_for ? "has been started again and has an address" :
		"has been started again", .resets = resets_of(c, id), .address = waits_for, .frames = frames_of(c, id) };
	json_t *answer = machine_ask(m, "Worker.Restart", NULL, &e);
	if (!answer) {
		call_error(c, "OperationFailed", get_text(copy, "Name"),
			   call_text(c, "'%s' failed to restart. (Virtual machine ID %s)",
				     get_text(copy, "Name"), call_guid(c, copy)), e.text, NULL);
		return -1;
	}
	json_decref(answer);
	m->state = MACHINE_RUNNING;
	return call_switch(c, "Wait") ? wait_until(c, copy, &w) : 0;
}

static void restart_vm(struct call *c)
{
	vm_each(c, "will restart the virtual machine", restart_one, vm_object);
}

/* Wait-VM -For, and -State STATE, which is ours. */
static int wait_one(struct call *c, json_t *copy)
{
	const char *id = call_text(c, "%s", get_text(copy, "Id")), *state = call_string(c, "State");
	const char *for_what = call_string(c, "For");
	struct wait w = { .id = id, .resets = -1, .frames = -1 };
	if (for_what && state) {
		call_error(c, "InvalidParameter", get_text(copy, "Name"),
			   "Parameter set cannot be resolved using the specified named parameters.",
			   "-For and -State are two things to wait for.", NULL);
		return -1;
	}
	if (for_what && !strcasecmp(for_what, "IPAddress")) {
		w.what = "has an address";
		w.address = true;
	} else if (for_what && !strcasecmp(for_what, "Reboot")) {
		/* From when the call began, also for the second of several. */
		json_t *before = json_object_get(json_object_get(c->params, resets_key), id);
		w.what = "has been started again";
		w.resets = before ? json_integer_value(before) : 0;
	} else if (for_what) {
		return refuse_for(c, copy, for_what);
	} else {
		w.state = state ? state : "Running";
		w.what = call_text(c, "is %s", w.state);
	}
	return wait_until(c, copy, &w);
}

static void wait_vm(struct call *c)
{
	json_t *before = json_object();
	for (struct machine *m = c->service->machines; m; m = m->next) {
		int64_t resets = resets_of(c, m->id);
		if (resets >= 0)
			json_object_set_new(before, m->id, json_integer(resets));
	}
	json_object_set_new(c->params, resets_key, before);
	vm_each(c, "will wait for the virtual machine", wait_one, vm_object);
}

static void connect_console(struct call *c)
{
	json_t *vm = call_one_vm(c);
	char path[PATHS_MAX];
	if (!vm)
		return;
	struct machine *m = machine_find(c->service, get_text(vm, "Id"));
	if (!m || m->state == MACHINE_STARTING) {
		wrong_state(c, vm, call_text(c, "The console is there while the virtual machine runs; %s", is_state(c, vm)),
			    call_text(c, "Start-VM -Name '%s'", get_text(vm, "Name")));
		return;
	}
	if (paths_runtime_file(path, sizeof path, m->id, "console"))
		call_object(c, json_pack("{s:s,s:s,s:s,s:s}", "$type", "Console", "VMName",
					 get_text(vm, "Name"), "VMId", m->id, "Path", path));
}

/* Ours: exits by level and reason, as `nestor run --report` prints. */
static void get_report(struct call *c)
{
	json_t *vm = call_one_vm(c), *report;
	struct machine *m = vm ? machine_find(c->service, get_text(vm, "Id")) : NULL;
	struct error e = { 0 };
	if (!vm)
		return;
	report = m ? machine_ask(m, "Worker.Report", NULL, &e) : NULL;
	if (report)
		call_object(c, json_pack("{s:s,s:s,s:s}", "$type", "VMReport", "VMName",
					 get_text(vm, "Name"), "Text", get_text(report, "Text")));
	else
		wrong_state(c, vm, m ? e.text : is_state(c, vm), NULL);
	json_decref(report);
}

const struct cmdlet life_cmdlets[] = {
	{ "Start-VM", start_cmdlet, " ", "Name" },
	{ "Stop-VM", stop_vm, " Save TurnOff ", "Name" },
	{ "Restart-VM", restart_vm, " Wait For Delay Timeout ", "Name" },
	{ "Suspend-VM", suspend_vm, " ", "Name" },
	{ "Resume-VM", resume_vm, " ", "Name" },
	{ "Wait-VM", wait_vm, " State For Timeout Delay ", "Name" },
	{ "Connect-VMConsole", connect_console, " ", "VMName" },
	{ "Get-VMReport", get_report, " ", "VMName" },
	{ NULL }
};
