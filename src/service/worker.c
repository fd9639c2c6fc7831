/* The worker: one VM, run for the service.
 *
 * The service writes the VM's configuration as one JSON text to standard input
 * and waits on standard output for one line: {"Ready":true} or {"Error":"…"}.
 * From then on both are closed and the control socket is the only way in, so
 * that the worker outlives the service and another one finds it. Standard error
 * is the VM's log.
 *
 * The main thread is the VM's supervisor (vm_run); a second thread runs the
 * control socket's loop. Worker.Watch is answered when the VM has ended, with
 * the reason; the same goes to the file ID.ended, for a service that was not
 * there to hear it. */
#include "base/bits.h"
#include "base/log.h"
#include "engines.h"
#include "net/port.h"
#include "service/cage.h"
#include "service/crash.h"
#include "service/paths.h"
#include "service/roles.h"
#include "service/rpc.h"
#include "vm/engine_select.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	CONFIG_MAX = 1 << 20,
	WATCHES_MAX = RPC_CLIENTS_MAX,
	GOODBYE_MS = 500,	/* for the watchers to read the end and go */
	LINE_SIZE = sizeof ((struct error *)0)->text + 128,
};

struct worker {
	json_t *config_json;
	struct vm_config config;
	char console[PATHS_MAX];
	char control[PATHS_MAX];
	char ended_path[PATHS_MAX];
	const char *engine;
	struct vm *vm;
	uv_loop_t loop;
	uv_async_t ended;	/* the VM ended: the loop says so and ends */
	uv_timer_t goodbye;
	struct rpc_server *server;
	struct rpc_call *watch[WATCHES_MAX];
	unsigned watches;
	bool ending;		/* of the loop's thread */
	int status;
};

/* The configuration. */

static const char *text(json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : "";
}

/* The descriptor of an adapter's port at a switch's socket. */
static int open_port(const char *path, const char *id, struct error *e)
{
	char hello[LINE_SIZE];
	snprintf(hello, sizeof hello, "nestor-port 1 %s", id);
	return port_connect(path, hello, e);
}

static int take_networks(struct worker *w, struct error *e)
{
	struct vm_config *c = &w->config;
	json_t *item;
	size_t i;
	json_array_foreach(json_object_get(w->config_json, "Adapters"), i, item) {
		struct vm_network *n = &c->network[c->networks];
		if (c->networks == VM_MAX_NETWORKS)
			return error_set(e, STATUS_USAGE, "A VM takes at most %d network adapters.",
					 VM_MAX_NETWORKS);
		if (!mac_parse(text(item, "MacAddress"), n->mac))
			return error_set(e, STATUS_USAGE, "The adapter's MAC address \"%.64s\" is none.",
					 text(item, "MacAddress"));
		n->kind = VM_NETWORK_SWITCH;
		n->fd = -1;
		if (*text(item, "Path")) {
			n->fd = open_port(text(item, "Path"), text(item, "Id"), e);
			if (n->fd < 0)
				return -1;
		}
		c->networks++;
	}
	return 0;
}

/* Strings stay the JSON text's. */
static int take_config(struct worker *w, struct error *e)
{
	json_t *j = w->config_json, *item;
	struct vm_config *c = &w->config;
	size_t i;
	json_int_t processors = json_integer_value(json_object_get(j, "Processors"));
	json_int_t memory = json_integer_value(json_object_get(j, "Memory"));
	json_int_t most = json_integer_value(json_object_get(j, "MemoryMost"));
	const char *engine = text(j, "Engine");
	if (processors < 1 || processors > ENGINE_MAX_PROCESSORS ||
	    memory < (json_int_t)VM_MEMORY_MIN || memory > (json_int_t)VM_MEMORY_MAX ||
	    most < 0 || most > (json_int_t)VM_MEMORY_MAX)
		return error_set(e, STATUS_USAGE,
			"The worker's configuration has %lld processors and %lld bytes of memory, at most %lld.",
			processors, memory, most);
	*c = (struct vm_config){
		.memory = (uint64_t)memory,
		.memory_most = (uint64_t)most,
		.processors = (unsigned)processors,
		.engine = !strcmp(engine, "soft") ? VM_ENGINE_SOFT :
			!strcmp(engine, "kvm") ? VM_ENGINE_KVM : VM_ENGINE_AUTO,
		.expose_virtualization_extensions =
			json_is_true(json_object_get(j, "ExposeVirtualizationExtensions")),
		.kernel = text(j, "Kernel"),
		.append = text(j, "Append"),
		.engine_options = text(j, "EngineOptions"),
		.serial = { CONSOLE_UNIX, w->console },
		.reboot = true,
	};
	json_array_foreach(json_object_get(j, "Initrds"), i, item)
		if (c->initrds < VM_MAX_INITRDS && json_is_string(item))
			c->initrd[c->initrds++] = json_string_value(item);
	json_array_foreach(json_object_get(j, "Disks"), i, item) {
		const char *path = text(item, "Path");
		if (c->disks == VM_MAX_DISKS)
			return error_set(e, STATUS_USAGE, "A VM takes at most %d disks.", VM_MAX_DISKS);
		c->disk[c->disks++] = (struct vm_disk){ path, strlen(path),
			json_is_true(json_object_get(item, "ReadOnly")) };
	}
	return take_networks(w, e);
}

static json_t *read_config(struct error *e)
{
	char *bytes = alloc_zeroed(CONFIG_MAX + 1, 1);
	size_t used = 0;
	json_error_t why;
	for (;;) {
		ssize_t n = read(STDIN_FILENO, bytes + used, CONFIG_MAX - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || used == CONFIG_MAX)
			break;
		used += (size_t)n;
	}
	json_t *j = json_loadb(bytes, used, 0, &why);
	free(bytes);
	if (!j)
		error_set(e, STATUS_USAGE,
			"The worker's configuration on standard input is no JSON text (%s); `nestor service` starts workers.",
			why.text);
	return j;
}

/* Control. */

static const char *state_name(struct worker *w)
{
	return vm_is_paused(w->vm) ? "Paused" : "Running";
}

static void do_state(struct worker *w, struct rpc_call *c)
{
	struct guest_memory_status m;
	const char *problem = vm_disk_problem(w->vm);
	vm_memory(w->vm, &m);
	rpc_answer(c, json_pack("{s:s,s:s,s:s,s:i,s:s,s:f,s:i,s:b,s:I,s:s,s:I,s:I,s:I,s:b,s:b,s:b,s:I,s:I,s:I,s:f}",
		"Id", text(w->config_json, "Id"),
		"State", state_name(w),
		"Problem", problem ? problem : "",
		"Pid", (int)getpid(),
		"Engine", w->engine,
		"Uptime", (double)vm_uptime(w->vm) / NS_PER_SECOND,
		"Resets", (int)vm_resets(w->vm),
		"HypervisorRunning", vm_hypervisor_running(w->vm),
		"Memory", (json_int_t)w->config.memory,
		"Console", w->console,
		"MemoryAssigned", (json_int_t)m.current, "MemoryWanted", (json_int_t)m.target,
		"MemoryMost", (json_int_t)(m.grows ? m.size : m.current > m.fixed ? m.current : m.fixed),
		"MemoryShrinks", m.driver_present, "MemoryGrows", m.grows,
		"StatisticsKnown", m.statistics.known,
		"GuestTotal", (json_int_t)m.statistics.total,
		"GuestAvailable", (json_int_t)m.statistics.available,
		"GuestDemand", (json_int_t)m.statistics.demand,
		"StatisticsAge", (double)m.statistics.age / NS_PER_SECOND));
}

static void do_config(struct worker *w, struct rpc_call *c)
{
	rpc_answer(c, json_incref(w->config_json));
}

static void do_power_button(struct worker *w, struct rpc_call *c)
{
	vm_power_button(w->vm);
	rpc_answer(c, json_true());
}

static void do_turn_off(struct worker *w, struct rpc_call *c)
{
	vm_turn_off(w->vm);
	rpc_answer(c, json_true());
}

static void do_restart(struct worker *w, struct rpc_call *c)
{
	vm_restart(w->vm);
	rpc_answer(c, json_true());
}

static void set_paused(struct worker *w, struct rpc_call *c, bool paused)
{
	struct error e = { 0 };
	if (vm_pause(w->vm, paused, &e))
		rpc_refuse(c, RPC_INTERNAL_ERROR, e.text);
	else
		rpc_answer(c, json_true());
}

static void do_pause(struct worker *w, struct rpc_call *c)
{
	set_paused(w, c, true);
}

static void do_resume(struct worker *w, struct rpc_call *c)
{
	set_paused(w, c, false);
}

/* Why the guest cannot be given that much; "" when it can. */
static void check_amount(const struct guest_memory_status *m, json_int_t bytes, char *text, size_t n)
{
	uint64_t wanted = (uint64_t)bytes;
	*text = 0;
	if (bytes < (json_int_t)VM_MEMORY_MIN || wanted > m->size)
		snprintf(text, n,
			 "It runs with %llu MB and can grow to %llu MB on this host before it is started again.",
			 (unsigned long long)(m->current / MIB), (unsigned long long)(m->size / MIB));
	else if (wanted > m->fixed && wanted > m->current && !m->grows)
		snprintf(text, n,
			 "The guest has no driver for memory beyond the %llu MB that it was started with (virtio_mem in Linux).",
			 (unsigned long long)(m->fixed / MIB));
	/* From and to more than it was started with, blocks alone will do. */
	else if (wanted != m->current && !m->driver_present &&
		 !(m->grows && wanted >= m->fixed && m->current >= m->fixed))
		snprintf(text, n,
			 "The guest has no driver for the memory balloon running (virtio_balloon in Linux).");
}

static void do_set_memory(struct worker *w, struct rpc_call *c)
{
	json_int_t bytes = json_integer_value(json_object_get(rpc_params(c), "Bytes"));
	struct guest_memory_status m;
	char text[256];
	vm_memory(w->vm, &m);
	check_amount(&m, bytes, text, sizeof text);
	if (*text) {
		rpc_refuse(c, RPC_INVALID_PARAMS, text);
		return;
	}
	vm_assign_memory(w->vm, (uint64_t)bytes);
	rpc_answer(c, json_true());
}

/* Plug an adapter's cable into its port at the switch with this socket. */
static void do_network(struct worker *w, struct rpc_call *c)
{
	json_t *item, *params = rpc_params(c);
	struct error e = { 0 };
	size_t i;
	json_array_foreach(json_object_get(w->config_json, "Adapters"), i, item) {
		if (strcmp(text(item, "Id"), text(params, "Id")))
			continue;
		int fd = open_port(text(params, "Path"), text(params, "Id"), &e);
		if (fd < 0) {
			rpc_refuse(c, RPC_INTERNAL_ERROR, e.text);
			return;
		}
		vm_network_connect(w->vm, (unsigned)i, fd);
		rpc_answer(c, json_true());
		return;
	}
	rpc_refuse(c, RPC_INVALID_PARAMS, "The VM has no such adapter.");
}

static void do_report(struct worker *w, struct rpc_call *c)
{
	char *lines = NULL;
	size_t n;
	FILE *out = open_memstream(&lines, &n);
	if (!out) {
		rpc_refuse(c, RPC_INTERNAL_ERROR, "There is no memory for the report.");
		return;
	}
	vm_report(w->vm, out);
	fclose(out);
	rpc_answer(c, json_pack("{s:s}", "Text", lines));
	free(lines);
}

static void do_watch(struct worker *w, struct rpc_call *c)
{
	if (w->watches == WATCHES_MAX)
		rpc_refuse(c, RPC_INTERNAL_ERROR, "Too many are watching.");
	else
		w->watch[w->watches++] = c;
}

static const struct {
	const char *name;
	void (*run)(struct worker *w, struct rpc_call *c);
} methods[] = {
	{ "Worker.State", do_state },
	{ "Worker.Config", do_config },
	{ "Worker.PowerButton", do_power_button },
	{ "Worker.TurnOff", do_turn_off },
	{ "Worker.Restart", do_restart },
	{ "Worker.Pause", do_pause },
	{ "Worker.Resume", do_resume },
	{ "Worker.SetMemory", do_set_memory },
	{ "Worker.Network", do_network },
	{ "Worker.Report", do_report },
	{ "Worker.Watch", do_watch },
};

static void on_call(void *owner, struct rpc_call *c)
{
	struct worker *w = owner;
	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
		if (!strcmp(rpc_method(c), methods[i].name)) {
			if (w->ending)
				rpc_refuse(c, RPC_INTERNAL_ERROR, "The VM has ended.");
			else
				methods[i].run(w, c);
			return;
		}
	rpc_refuse(c, RPC_METHOD_NOT_FOUND, "A worker has no such method.");
}

static json_t *end_record(struct worker *w)
{
	return json_pack("{s:s,s:i}", "Reason", vm_ending_text(w->vm), "Status", w->status);
}

static void close_loop(struct worker *w)
{
	if (uv_is_closing((uv_handle_t *)&w->goodbye))
		return;
	uv_close((uv_handle_t *)&w->goodbye, NULL);
	uv_close((uv_handle_t *)&w->ended, NULL);
	rpc_close(w->server);
}

static void say_goodbye(uv_timer_t *timer)
{
	close_loop(timer->data);
}

/* Clients went: when the VM has ended, nobody is left to tell. */
static void on_changed(void *owner)
{
	struct worker *w = owner;
	if (w->ending && !rpc_clients(w->server))
		close_loop(w);
}

static void on_ended(uv_async_t *async)
{
	struct worker *w = async->data;
	w->ending = true;
	rpc_stop_listening(w->server);
	for (unsigned i = 0; i < w->watches; i++)
		rpc_answer(w->watch[i], end_record(w));
	w->watches = 0;
	uv_timer_start(&w->goodbye, say_goodbye, GOODBYE_MS, 0);
	on_changed(w);
}

static void *control_run(void *arg)
{
	struct worker *w = arg;
	uv_run(&w->loop, UV_RUN_DEFAULT);
	return NULL;
}

static int start_control(struct worker *w, struct error *e)
{
	struct rpc_events events = { on_call, on_changed, w };
	uv_loop_init(&w->loop);
	w->server = rpc_listen(&w->loop, w->control, &events, e);
	if (!w->server)
		return -1;
	uv_async_init(&w->loop, &w->ended, on_ended);
	uv_timer_init(&w->loop, &w->goodbye);
	w->ended.data = w->goodbye.data = w;
	return 0;
}

/* For a service that starts only after this. */
static void leave_end_record(struct worker *w)
{
	json_t *record = end_record(w);
	if (json_dump_file(record, w->ended_path, JSON_COMPACT))
		log_line("%s cannot be written (%s).", w->ended_path, strerror(errno));
	json_decref(record);
}

/* The service waits for this line; afterwards nobody reads there, and null takes
 * the place of both pipes. */
static void answer_service(json_t *answer, int null)
{
	char *line = json_dumps(answer, JSON_COMPACT);
	dprintf(STDOUT_FILENO, "%s\n", line ? line : "{}");
	free(line);
	json_decref(answer);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

static int prepare(struct worker *w, const char *id, struct error *e)
{
	char line[LINE_SIZE];
	if (paths_prepare(e))
		return -1;
	if (!paths_runtime_file(w->control, sizeof w->control, id, "ctl") ||
	    !paths_runtime_file(w->console, sizeof w->console, id, "console") ||
	    !paths_runtime_file(w->ended_path, sizeof w->ended_path, id, "ended"))
		return error_set(e, STATUS_USAGE, "The id %.64s is too long.", id);
	w->config_json = read_config(e);
	if (!w->config_json || take_config(w, e))
		return -1;
	const struct engine_ops *ops = engine_select(&w->config, engines, engines_count, line,
						     sizeof line, e);
	if (!ops)
		return -1;
	w->engine = ops->name;
	w->vm = vm_create(&w->config, ops, e);
	if (!w->vm)
		return -1;
	log_line("%s %s, %u processor%s, %llu MiB.", line, text(w->config_json, "Name"),
		 w->config.processors, w->config.processors == 1 ? "" : "s",
		 (unsigned long long)(w->config.memory / MIB));
	return start_control(w, e);
}

int worker_main(int argc, char *const argv[])
{
	struct worker *w = alloc_zeroed(1, sizeof *w);
	struct error e = { 0 };
	pthread_t control;
	int status, null;
	if (argc != 2 || strcmp(argv[0], "--id")) {
		log_line("nestor worker is started by the service: nestor worker --id ID.");
		free(w);
		return STATUS_USAGE;
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	crash_report();
	if (prepare(w, argv[1], &e)) {
		log_line("%s", e.text);
		answer_service(json_pack("{s:s,s:i}", "Error", e.text, "Status", (int)e.status),
			       STDERR_FILENO);
		status = e.status;
		goto out;
	}
	unlink(w->ended_path);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!cage_enter(&w->config, paths_runtime()))
		log_line("Without Landlock the worker can open other files of its user.");
	/* vm_create has blocked the signals: this thread inherits that. */
	if (pthread_create(&control, NULL, control_run, w))
		panic("the control thread cannot be started (%s)", strerror(errno));
	answer_service(json_pack("{s:b,s:s}", "Ready", true, "Engine", w->engine), null);
	status = w->status = vm_run(w->vm);
	leave_end_record(w);
	uv_async_send(&w->ended);
	pthread_join(control, NULL);
	rpc_free(w->server);
	uv_loop_close(&w->loop);
out:
	if (w->vm)
		vm_destroy(w->vm);
	json_decref(w->config_json);
	free(w);
	return status;
}
