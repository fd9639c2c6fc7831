#include "service/host.h"

#include "base/log.h"
#include "service/call.h"
#include "service/machine.h"

#include <stdlib.h>

/* Of a VM: it ran when the host stopped, which is what StartIfRunning asks. */
static const char ran_key[] = "RanAtHostStop";

static void remember(struct service *s, const char *id, bool ran)
{
	struct error e;
	json_t *vm = store_find(s->store, STORE_VM, id), *copy;
	if (!vm || get_true(vm, ran_key) == ran)
		return;
	copy = json_deep_copy(vm);
	json_object_set_new(copy, ran_key, json_boolean(ran));
	if (store_put(s->store, STORE_VM, copy, &e))
		log_line("%s", e.text);
	json_decref(copy);
}

/* One VM and what is to become of it. */
struct task {
	struct service *service;
	struct task *next;
	pthread_t thread;
	bool started;
	char id[STORE_ID_SIZE];
	bool starts;
	json_t *params;
	int64_t delay;		/* seconds */
};

static void *task_run(void *arg)
{
	enum { LOOK_MS = 1000 };
	struct task *t = arg;
	struct service *s = t->service;
	json_t *error, *result = NULL;
	size_t i;
	int64_t until = service_now() + t->delay * LOOK_MS;
	service_lock(s);
	while (service_now() < until && !s->stopping)
		service_wait(s, LOOK_MS);
	json_t *vm = store_find(s->store, STORE_VM, t->id);
	if (vm && !(t->starts && s->stopping)) {
		log_line("%s is %s with the host.", get_text(vm, "Name"), t->starts ? "started" : "stopped");
		json_object_set_new(t->params, "VM", json_pack("[{s:s}]", "Id", t->id));
		if (t->starts)
			remember(s, t->id, false);
		result = service_run(s, t->starts ? "Start-VM" : "Stop-VM", t->params, NULL);
	}
	json_array_foreach(json_object_get(result, "errors"), i, error)
		log_line("%s %s", get_text(error, "message"), get_text(error, "reason"));
	json_decref(result);
	service_unlock(s);
	return NULL;
}

static struct task *task_new(struct service *s, struct task *next, const char *id, bool starts, json_t *params)
{
	struct task *t = alloc_zeroed(1, sizeof *t);
	*t = (struct task){ .service = s, .next = next, .starts = starts, .params = params };
	snprintf(t->id, sizeof t->id, "%s", id);
	return t;
}

/* All at once: each waits for its own guest. */
static void run_all(struct task *list)
{
	for (struct task *t = list; t; t = t->next)
		t->started = !pthread_create(&t->thread, NULL, task_run, t);
	while (list) {
		struct task *next = list->next;
		if (list->started)
			pthread_join(list->thread, NULL);
		json_decref(list->params);
		free(list);
		list = next;
	}
}

static void *begin_run(void *arg)
{
	struct service *s = arg;
	struct task *list = NULL;
	const char *id;
	json_t *vm;
	service_lock(s);
	json_t *all = json_copy(store_objects(s->store, STORE_VM));
	json_object_foreach(all, id, vm) {
		const char *action = get_text(vm, "AutomaticStartAction");
		bool wanted = !strcmp(action, "Start") || (!strcmp(action, "StartIfRunning") && get_true(vm, ran_key));
		if (wanted && machine_state(s, id) == MACHINE_OFF) {
			list = task_new(s, list, id, true, json_object());
			list->delay = get_integer(vm, "AutomaticStartDelay");
		} else {
			remember(s, id, false);
		}
	}
	json_decref(all);
	service_unlock(s);
	run_all(list);
	return NULL;
}

void host_begin(struct service *s)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, begin_run, s))
		log_line("The virtual machines cannot be started: there is no thread for it.");
	else
		pthread_detach(thread);
}

void host_end(struct service *s)
{
	struct task *list = NULL;
	service_lock(s);
	s->stopping = true;
	for (struct machine *m = s->machines; m; m = m->next) {
		json_t *vm = store_find(s->store, STORE_VM, m->id);
		const char *action = get_text(vm, "AutomaticStopAction");
		bool off = !strcmp(action, "TurnOff");
		if (!strcmp(action, "Save"))
			log_line("%s is shut down and not saved: there are no saved states yet.", get_text(vm, "Name"));
		list = task_new(s, list, m->id, false, json_pack("{s:b}", off ? "TurnOff" : "Force", 1));
	}
	for (struct task *t = list; t; t = t->next)
		remember(s, t->id, true);
	service_unlock(s);
	run_all(list);
}
