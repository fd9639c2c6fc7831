#include "service/balance.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/call.h"
#include "service/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	PERCENT = 100,
	SHRINK_PART = 8,	/* at most an eighth at once, so that guests need not swap */
	CALM_PART = 50,		/* a change below a fiftieth is not worth it */
	RESERVE_PART = 20,	/* of the host's memory, for the host */
	KIB_SHIFT = 10,
	ASK_MS = 500,
	SILENT_MS = 15000,	/* a worker that does not answer is left alone this long */
	STUCK_MS = 20000,	/* a guest that does not move for so long does not follow */
};

#define STALE_SECONDS 30.0	/* statistics of the guest's time that long ago are none */

#define MEMORY_STEP ((int64_t)(2 * MIB))
#define RESERVE_LEAST ((int64_t)(128 * MIB))

static int64_t at_least(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t at_most(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t clamp(const struct balance_vm *vm, int64_t amount)
{
	amount = (amount + MEMORY_STEP - 1) / MEMORY_STEP * MEMORY_STEP;
	return at_least(vm->minimum, at_most(vm->maximum, amount));
}

static int64_t with_buffer(const struct balance_vm *vm, int64_t demand)
{
	return clamp(vm, demand + demand / PERCENT * vm->buffer);
}

static int64_t ideal(const struct balance_vm *vm)
{
	return with_buffer(vm, vm->demand);
}

/* What it should come to, as far as its guest can go. A demand that rises will
 * be higher when what is given now has come. */
static int64_t goal_of(const struct balance_vm *vm)
{
	return at_most(with_buffer(vm, vm->demand + vm->rise), vm->most);
}

static bool moves(const struct balance_vm *vm)
{
	return vm->measured && !vm->hypervisor;
}

static int by_priority(const void *a, const void *b)
{
	const struct balance_vm *x = *(struct balance_vm *const *)a, *y = *(struct balance_vm *const *)b;
	return x->priority < y->priority ? 1 : x->priority > y->priority ? -1 : 0;
}

/* Take up to `missing` from those after (lower than) the first `above` in the
 * order, lowest first; how much came together. */
static int64_t borrow(struct balance_vm **order, unsigned above, unsigned count, int64_t missing)
{
	int64_t got = 0;
	for (unsigned i = count; i-- > above && got < missing;) {
		struct balance_vm *vm = order[i];
		int64_t keep = clamp(vm, vm->demand);
		if (!moves(vm) || vm->target <= keep)
			continue;
		int64_t take = at_most(vm->target - keep, missing - got);
		vm->target = at_least(keep, (vm->target - take) / MEMORY_STEP * MEMORY_STEP);
		got += take;
	}
	return got;
}

void balance_share(struct balance_vm *vms, unsigned count, int64_t free_bytes)
{
	struct balance_vm **order = alloc_zeroed(count + 1, sizeof *order);
	for (unsigned i = 0; i < count; i++) {
		order[i] = &vms[i];
		vms[i].target = vms[i].wanted;
	}
	qsort(order, count, sizeof *order, by_priority);
	/* What its own guests were promised must be there: before all others. */
	for (unsigned i = 0; i < count; i++) {
		struct balance_vm *vm = &vms[i];
		if (!vm->hypervisor)
			continue;
		vm->target = at_least(at_least(vm->wanted, vm->assigned), at_most(vm->startup, vm->most));
		free_bytes -= vm->target - vm->wanted;
	}
	for (unsigned i = 0; i < count; i++) {
		struct balance_vm *vm = order[i];
		int64_t goal = goal_of(vm), change = goal - vm->wanted;
		if (vm->stuck && vm->assigned < vm->wanted && !vm->hypervisor) {
			int64_t back = at_least(vm->target - vm->assigned, 0);
			free_bytes += back;
			vm->target -= back;
			continue;
		}
		if (!moves(vm) || (llabs(change) < vm->wanted / CALM_PART && goal != vm->minimum &&
				   goal != at_most(vm->maximum, vm->most)))
			continue;
		if (change > 0) {
			int64_t given = at_most(change, at_least(free_bytes, 0)) / MEMORY_STEP * MEMORY_STEP;
			vm->target += given;	/* what it lends stays lent */
			free_bytes -= given;
			/* It comes when the others have given it: later rounds. */
			if (given < change)
				borrow(order, i + 1, count, change - given);
		} else if (vm->target > goal) {
			int64_t least = vm->wanted - at_least(vm->wanted / SHRINK_PART, MEMORY_STEP);
			vm->target = at_most(vm->target, at_least(goal, least));
		}
	}
	if (free_bytes < 0)
		borrow(order, 0, count, -free_bytes);
	free(order);
}

const char *balance_status(const struct balance_vm *vm)
{
	if (!vm->measured)
		return "OK";
	return vm->assigned < vm->demand ? "Warning" :
		vm->assigned + vm->assigned / CALM_PART < ideal(vm) ? "Low" : "OK";
}

/* The host. */

static int64_t meminfo(const char *key)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long long kib = 0;
	size_t n = strlen(key);
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, key, n) && line[n] == ':')
			sscanf(line + n + 1, "%lld", &kib);
	if (file)
		fclose(file);
	return kib << KIB_SHIFT;
}

static int64_t resident(pid_t pid)
{
	char path[64];
	long long pages = 0, total;
	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	FILE *file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%lld %lld", &total, &pages) != 2)
			pages = 0;
		fclose(file);
	}
	return pages * sysconf(_SC_PAGESIZE);
}

/* All that VMs may have together, whatever the host has; 0: not said. */
static int64_t memory_limit(void)
{
	const char *text = getenv("NESTOR_HOST_MEMORY");
	return text ? strtoll(text, NULL, 10) : 0;
}

int64_t host_memory_total(void)
{
	int64_t limit = memory_limit(), total = meminfo("MemTotal");
	return limit > 0 ? at_most(limit, total) : total;
}

int64_t host_memory_free(struct service *s)
{
	int64_t left = meminfo("MemAvailable"), limit = memory_limit(), within = limit;
	for (struct machine *m = s->machines; m; m = m->next) {
		left -= at_least(m->promised - resident(m->pid), 0);
		within -= m->promised;
	}
	return limit > 0 ? at_most(within, left) : left;
}

/* A round. */

static bool read_vm(struct machine *m, json_t *vm, struct balance_vm *b)
{
	json_t *memory = json_object_get(vm, "Memory");
	struct error e;
	if (m->state != MACHINE_RUNNING || !m->control || service_now() < m->silent_until)
		return false;
	json_t *state = rpc_request(m->control, "Worker.State", NULL, ASK_MS, NULL, NULL, &e);
	if (!state) {
		m->silent_until = service_now() + SILENT_MS;
		return false;
	}
	bool dynamic = get_true(memory, "DynamicMemoryEnabled");
	*b = (struct balance_vm){
		.minimum = get_integer(memory, "Minimum"), .startup = get_integer(memory, "Startup"),
		.maximum = get_integer(memory, "Maximum"), .most = get_integer(state, "MemoryMost"),
		.buffer = get_integer(memory, "Buffer"), .priority = get_integer(memory, "Priority"),
		.assigned = get_integer(state, "MemoryAssigned"),
		.wanted = get_integer(state, "MemoryWanted"),
		.demand = get_integer(state, "GuestDemand"),
		.measured = get_true(state, "MemoryShrinks") && get_true(state, "StatisticsKnown") &&
			json_real_value(json_object_get(state, "StatisticsAge")) < STALE_SECONDS,
		.hypervisor = get_true(state, "HypervisorRunning"),
	};
	if (!dynamic)
		b->minimum = b->maximum = b->startup;
	json_decref(state);
	if (m->assigned != b->assigned)
		m->moved_at = service_now();
	b->stuck = service_now() - m->moved_at > STUCK_MS;
	m->assigned = b->assigned;
	m->promised = at_least(b->assigned, b->wanted);
	b->rise = b->measured && m->demand ? at_least(b->demand - m->demand, 0) : 0;
	m->demand = b->measured ? b->demand : 0;
	m->memory_status = balance_status(b);
	return true;
}

static void tell(struct machine *m, int64_t target)
{
	struct error e;
	json_t *answer = rpc_request(m->control, "Worker.SetMemory",
		json_pack("{s:I}", "Bytes", (json_int_t)target), ASK_MS, NULL, NULL, &e);
	if (!answer)
		log_line("The memory of %s cannot be set: %s", m->id, e.text);
	json_decref(answer);
	m->moved_at = service_now();
}

void balance_tick(struct service *s)
{
	unsigned machines = 0, count = 0;
	int64_t reserve = at_least(host_memory_total() / RESERVE_PART, RESERVE_LEAST);
	for (struct machine *m = s->machines; m; m = m->next)
		machines++;
	struct balance_vm *vms = alloc_zeroed(machines + 1, sizeof *vms);
	struct machine **of = alloc_zeroed(machines + 1, sizeof *of);
	for (struct machine *m = s->machines; m; m = m->next) {
		json_t *vm = store_find(s->store, STORE_VM, m->id);
		if (vm && read_vm(m, vm, &vms[count]))
			of[count++] = m;
	}
	balance_share(vms, count, host_memory_free(s) - reserve);
	for (unsigned i = 0; i < count; i++)
		if (vms[i].target != vms[i].wanted)
			tell(of[i], vms[i].target);
	free(vms);
	free(of);
}
