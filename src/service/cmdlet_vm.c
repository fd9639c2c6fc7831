#include "service/vm_object.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/device.h"
#include "service/disks.h"
#include "service/machine.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum {
	DEFAULT_GENERATION = 1,
	MEMORY_ALIGN = 2 * MIB,
	NAME_MAX_LENGTH = 100,
	NOTES_MAX_LENGTH = 64 << 10,
};

#define DEFAULT_MEMORY (512 * MIB)
#define DEFAULT_MAXIMUM (1024 * GIB)
#define SMALLEST_MEMORY (32 * MIB)

/* Supported configuration versions, as published for Hyper-V hosts from 2012 R2
 * to 2025; two more on demand. */
const char *const vm_versions[] = {
	"5.0", "6.2", "7.0", "7.1", "8.0", "8.1", "8.2", "8.3", "9.0", "9.1", "9.2", "9.3",
	"10.0", "11.0", "12.0", NULL,
};
const char vm_version_default[] = "12.0";
static const char prerelease_version[] = "254.0", experimental_version[] = "255.0";

int vm_version_number(const char *version)
{
	enum { MAJOR = 1000 };
	int major = 0, minor = 0;
	sscanf(version, "%d.%d", &major, &minor);
	return major * MAJOR + minor;
}

const char *vm_version_find(const char *text)
{
	for (unsigned i = 0; vm_versions[i]; i++)
		if (!strcmp(vm_versions[i], text) ||
		    (!strchr(text, '.') && vm_version_number(vm_versions[i]) == vm_version_number(text)))
			return vm_versions[i];
	return NULL;
}

json_t *vm_new(const char *name, int generation, const char *version, int64_t memory)
{
	char id[STORE_ID_SIZE];
	store_new_id(id);
	return json_pack(
		"{s:s,s:s,s:i,s:s,s:I,s:s,s:s,s:s,s:i,s:s,s:s,s:i,s:s,s:b,s:s,"
		"s:{s:i,s:i,s:i,s:i,s:i,s:b,s:b,s:b,s:b,s:s},"
		"s:{s:b,s:I,s:I,s:I,s:i,s:i},s:{s:s,s:s,s:s},s:[],s:[]}",
		"Id", id, "Name", name, "Generation", generation, "Version", version,
		"Created", (json_int_t)time(NULL), "Notes", "", "EndReason", "",
		"AutomaticStartAction", "StartIfRunning", "AutomaticStartDelay", 0,
		"AutomaticStopAction", "Save", "AutomaticCriticalErrorAction", "Pause",
		"AutomaticCriticalErrorActionTimeout", 30, "CheckpointType", "Production",
		"AutomaticCheckpointsEnabled", false, "LockOnDisconnect", "Off",
		"Processor",
			"Count", 1, "Reserve", 0, "Maximum", 100, "RelativeWeight", 100,
			"HwThreadCountPerCore", 0, "ExposeVirtualizationExtensions", false,
			"CompatibilityForMigrationEnabled", false,
			"CompatibilityForOlderOperatingSystemsEnabled", false,
			"EnableHostResourceProtection", false, "ResourcePoolName", "Primordial",
		"Memory",
			"DynamicMemoryEnabled", false, "Startup", (json_int_t)memory,
			"Minimum", (json_int_t)(memory < (int64_t)DEFAULT_MEMORY ? memory : (int64_t)DEFAULT_MEMORY),
			"Maximum", (json_int_t)DEFAULT_MAXIMUM, "Buffer", 20, "Priority", 50,
		"Firmware",
			"KernelPath", "", "InitialRamdiskPath", "", "KernelCommandLine", "",
		"Drives", "Adapters");
}

static bool same_type(json_t *a, json_t *b)
{
	return json_typeof(a) == json_typeof(b) || (json_is_boolean(a) && json_is_boolean(b));
}

static const char *complete(json_t *object, json_t *whole)
{
	static char wrong[64];
	const char *key;
	json_t *member;
	json_object_foreach(whole, key, member) {
		json_t *its = json_object_get(object, key);
		if (!its)
			json_object_set_new(object, key, json_deep_copy(member));
		else if (!same_type(its, member)) {
			snprintf(wrong, sizeof wrong, "%s", key);
			return wrong;
		} else if (json_is_object(member) && complete(its, member)) {
			return wrong;
		}
	}
	return NULL;
}

const char *vm_complete(json_t *vm)
{
	json_t *whole = vm_new("", DEFAULT_GENERATION, vm_version_default, (int64_t)DEFAULT_MEMORY);
	const char *wrong = complete(vm, whole);
	json_decref(whole);
	return wrong;
}

void vm_complete_all(struct service *s)
{
	json_t *all = store_objects(s->store, STORE_VM), *vm;
	const char *id;
	void *next;
	json_object_foreach_safe(all, next, id, vm) {
		char why[128], key[STORE_ID_SIZE];
		const char *wrong = vm_complete(vm);
		snprintf(key, sizeof key, "%s", id);
		snprintf(why, sizeof why, "its member %s is not what it should be", wrong ? wrong : "");
		if (wrong)
			store_set_aside(s->store, STORE_VM, key, why);
	}
}

/* What is shown. */

json_t *vm_object(struct service *s, json_t *vm)
{
	const char *id = get_text(vm, "Id");
	struct machine *m = machine_find(s, id);
	json_t *memory = json_object_get(vm, "Memory"), *running = NULL;
	struct error e;
	if (m && m->state != MACHINE_STARTING)
		running = machine_ask(m, "Worker.State", NULL, &e);
	bool dynamic = running && get_true(memory, "DynamicMemoryEnabled");
	json_int_t assigned = !running ? 0 : json_object_get(running, "MemoryAssigned") ?
		get_integer(running, "MemoryAssigned") : get_integer(running, "Memory");
	json_t *object = json_pack(
		"{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:I,s:I,s:s,s:f,s:s,s:i,s:s}",
		"$type", "VirtualMachine", "VMName", get_text(vm, "Name"), "VMId", id, "Id", id,
		"Name", get_text(vm, "Name"), "State", machine_state_name(m ? m->state : MACHINE_OFF),
		"Status", m && m->state != MACHINE_STARTING && !running ?
			"Its worker process does not answer" :
			*get_text(running, "Problem") ? get_text(running, "Problem") : "Operating normally",
		"CPUUsage", m ? (int)m->cpu_usage : 0, "MemoryAssigned", assigned,
		"MemoryDemand", (json_int_t)(dynamic ? m->demand : 0),
		"MemoryStatus", dynamic ? m->memory_status : "",
		"Uptime", json_real_value(json_object_get(running, "Uptime")),
		"EndReason", get_text(vm, "EndReason"),
		"Generation", (int)get_integer(vm, "Generation"), "Version", get_text(vm, "Version"));
	json_t *more = json_pack(
		"{s:I,s:b,s:I,s:I,s:I,s:b,s:s,s:s,s:s,s:i,s:O,s:O,s:O,s:O,s:O,s:O,s:O,s:I,s:s,s:s,s:s}",
		"ProcessorCount", (json_int_t)get_integer(json_object_get(vm, "Processor"), "Count"),
		"DynamicMemoryEnabled", get_true(memory, "DynamicMemoryEnabled"),
		"MemoryStartup", (json_int_t)get_integer(memory, "Startup"),
		"MemoryMinimum", (json_int_t)get_integer(memory, "Minimum"),
		"MemoryMaximum", (json_int_t)get_integer(memory, "Maximum"),
		"HypervisorRunning", get_true(running, "HypervisorRunning"),
		"Engine", get_text(running, "Engine"),
		"ConfigurationLocation", paths_store(), "Log", paths_log(id),
		"ProcessId", m ? (int)m->pid : 0,
		"AutomaticStartAction", json_object_get(vm, "AutomaticStartAction"),
		"AutomaticStartDelay", json_object_get(vm, "AutomaticStartDelay"),
		"AutomaticStopAction", json_object_get(vm, "AutomaticStopAction"),
		"AutomaticCriticalErrorAction", json_object_get(vm, "AutomaticCriticalErrorAction"),
		"AutomaticCriticalErrorActionTimeout",
		json_object_get(vm, "AutomaticCriticalErrorActionTimeout"),
		"CheckpointType", json_object_get(vm, "CheckpointType"),
		"LockOnDisconnect", json_object_get(vm, "LockOnDisconnect"),
		"CreationTime", (json_int_t)get_integer(vm, "Created"),
		"Notes", get_text(vm, "Notes"), "ReplicationState", "Disabled",
		"ComputerName", "localhost");
	json_object_set(more, "AutomaticCheckpointsEnabled", json_object_get(vm, "AutomaticCheckpointsEnabled"));
	json_object_set_new(more, "Path", text_json(paths_store()));
	json_t *adapters = json_array(), *drives = json_array(), *part;
	size_t i;
	json_array_foreach(json_object_get(vm, "Adapters"), i, part)
		json_array_append_new(adapters, vm_adapter_object(s, vm, part));
	json_array_foreach(json_object_get(vm, "Drives"), i, part)
		json_array_append_new(drives, vm_drive_object(vm, part));
	json_object_set_new(more, "NetworkAdapters", adapters);
	json_object_set_new(more, "HardDrives", drives);
	json_object_update(object, more);
	json_decref(more);
	json_decref(running);
	return object;
}

/* Names of VMs, switches, adapters: not empty, no control characters. */
static bool name_fits(struct call *c, const char *name)
{
	bool fits = *name && strlen(name) <= NAME_MAX_LENGTH;
	for (const char *at = name; *at; at++)
		if ((unsigned char)*at < ' ')
			fits = false;
	if (!fits)
		call_error(c, "InvalidParameter", name, "The name of the virtual machine is not valid.",
			   "A name has 1 to 100 bytes and no control characters.", NULL);
	return fits;
}

/* New-VM. */

static const char *new_version(struct call *c)
{
	const char *given = call_string(c, "Version");
	json_t *number = call_parameter(c, "Version");
	if (json_is_number(number))
		given = call_text(c, "%.1f", json_number_value(number));
	if (call_switch(c, "Prerelease"))
		return prerelease_version;
	if (call_switch(c, "Experimental"))
		return experimental_version;
	const char *version = given ? vm_version_find(given) : vm_version_default;
	if (!version) {
		const char *all = "";
		for (unsigned i = 0; vm_versions[i]; i++)
			all = call_text(c, "%s%s%s", all, i ? " " : "", vm_versions[i]);
		call_error(c, "InvalidParameter", given,
			call_text(c, "The virtual machine version '%s' is not supported on this host.", given),
			call_text(c, "Supported are %s.", all), "Get-VMHostSupportedVersion");
	}
	return version;
}

/* -BootDevice says which device comes first; which exist for a generation is
 * Hyper-V's rule. */
static bool boot_device_fits(struct call *c, int generation)
{
	const char *device = call_string(c, "BootDevice");
	bool generation_1_only = device && (!strcasecmp(device, "Floppy") || !strcasecmp(device, "IDE") ||
					    !strcasecmp(device, "LegacyNetworkAdapter"));
	if (!device || !strcasecmp(device, "VHD") || (generation == 1 && !strcasecmp(device, "IDE")))
		return true;
	if (generation == 2 && generation_1_only)
		call_error(c, "InvalidParameter", device,
			   call_text(c, "The boot device %s does not exist in a generation 2 virtual machine.", device),
			   NULL, "Leave -BootDevice out, or give it VHD.");
	else
		call_error(c, "NotSupported", device,
			   call_text(c, "-BootDevice %s is not supported.", device),
			   "Virtual machines boot a kernel directly until there is firmware.",
			   "Leave -BootDevice out, and give the kernel: Set-VMFirmware -VMName NAME -KernelPath FILE.");
	return false;
}

/* What goes wrong becomes an error of the call. */
static void new_disk(struct call *c, json_t *vm)
{
	const char *new_path = call_string(c, "NewVHDPath"), *path = call_string(c, "VHDPath");
	if (!new_path && !path)
		return;
	if (new_path) {
		path = disks_default_path(c, new_path);
		if (!path || disks_create(c, path, json_integer_value(call_parameter(c, "NewVHDSizeBytes"))))
			return;
	} else {
		path = call_path(c, path);
		if (!path || disks_check(c, path))
			return;
	}
	disks_attach(c, vm, NULL, -1, -1, path);
}

static void new_vm(struct call *c)
{
	const char *name = call_string(c, "Name");
	json_t *given = call_parameter(c, "MemoryStartupBytes");
	int generation = (int)get_integer(c->params, "Generation");
	const char *isolation = call_string(c, "GuestStateIsolationType");
	int64_t memory = given ? json_integer_value(given) : (int64_t)DEFAULT_MEMORY;
	name = name ? name : "New virtual machine";
	generation = generation ? generation : DEFAULT_GENERATION;
	if (!name_fits(c, name))
		return;
	if (generation != 1 && generation != 2) {
		call_error(c, "InvalidParameter", name, "The generation of the virtual machine is not valid.",
			   call_text(c, "-Generation takes 1 or 2; given was %d.", generation), NULL);
		return;
	}
	if (isolation && strcasecmp(isolation, "Disabled")) {
		call_error(c, "NotSupported", name,
			   call_text(c, "-GuestStateIsolationType %s is not supported.", isolation),
			   "Nestor does not isolate a guest's state from its host.",
			   "Leave -GuestStateIsolationType out.");
		return;
	}
	if (memory < (int64_t)SMALLEST_MEMORY || memory > (int64_t)DEFAULT_MAXIMUM ||
	    memory % (int64_t)MEMORY_ALIGN) {
		call_error(c, "InvalidParameter", name, "Failed to modify device 'Memory'.",
			   call_text(c, "-MemoryStartupBytes %lld is not from 32 MB to 1 TB in multiples of 2 MB.",
				     (long long)memory), NULL);
		return;
	}
	const char *version = new_version(c), *switch_name = call_string(c, "SwitchName");
	if (!version || !boot_device_fits(c, generation))
		return;
	json_t *network = switch_name ? network_find_switch(c, switch_name) : NULL;
	if (switch_name && !network)
		return;
	if (!call_should(c, call_text(c, "New-VM will create a new virtual machine \"%s\".", name)))
		return;
	json_t *vm = vm_new(name, generation, version, memory);
	json_t *adapter = vm_adapter_new("Network Adapter");
	if (network)
		network_connect(adapter, network);
	json_array_append_new(json_object_get(vm, "Adapters"), adapter);
	if (call_parameter(c, "Path"))
		call_say(c, "warning", call_text(c, "-Path is not used: the configuration is kept in the store, %s.",
						 paths_store()));
	new_disk(c, vm);
	if (!json_array_size(c->errors) && !call_put(c, STORE_VM, vm))
		call_object(c, vm_object(c->service, vm));
	json_decref(vm);
}

/* Get-VM. */

static int by_name(const void *a, const void *b)
{
	return strcasecmp(get_text(*(json_t *const *)a, "Name"), get_text(*(json_t *const *)b, "Name"));
}

static void get_vm(struct call *c)
{
	json_t *found, *vm;
	size_t i;
	const char *id = call_string(c, "Id");
	if (id) {
		json_t *reference = json_pack("[{s:s}]", "Id", id);
		json_object_set_new(c->params, "VM", reference);
	}
	if (!call_parameter(c, "Name") && !call_parameter(c, "VM")) {
		const char *key;
		found = json_array();
		json_object_foreach(store_objects(c->service->store, STORE_VM), key, vm)
			json_array_append(found, vm);
	} else {
		found = call_vms(c);
	}
	size_t n = json_array_size(found);
	json_t **sorted = alloc_zeroed(n + 1, sizeof *sorted);
	json_array_foreach(found, i, vm)
		sorted[i] = vm;
	qsort(sorted, n, sizeof *sorted, by_name);
	for (i = 0; i < n; i++)
		call_object(c, vm_object(c->service, sorted[i]));
	free(sorted);
	json_decref(found);
	json_array_foreach(store_troubles(c->service->store), i, vm)
		call_say(c, "warning", json_string_value(vm));
}

/* Set-VM. */

static const struct setting vm_settings[] = {
	{ "AutomaticStartAction", "AutomaticStartAction", SETTING_ENUM,
	  .values = " Nothing StartIfRunning Start " },
	{ "AutomaticStartDelay", "AutomaticStartDelay", SETTING_INTEGER, 0, INT32_MAX },
	{ "AutomaticStopAction", "AutomaticStopAction", SETTING_ENUM, .values = " TurnOff Save ShutDown " },
	{ "AutomaticCriticalErrorAction", "AutomaticCriticalErrorAction", SETTING_ENUM,
	  .values = " None Pause " },
	{ "AutomaticCriticalErrorActionTimeout", "AutomaticCriticalErrorActionTimeout",
	  SETTING_INTEGER, 0, INT32_MAX },
	{ "CheckpointType", "CheckpointType", SETTING_ENUM,
	  .values = " Disabled Standard Production ProductionOnly " },
	{ "AutomaticCheckpointsEnabled", "AutomaticCheckpointsEnabled", SETTING_BOOLEAN,
	  .only = "false", .why = "Nestor makes no checkpoints yet." },
	{ "LockOnDisconnect", "LockOnDisconnect", SETTING_ENUM, .values = " On Off ", .only = "Off",
	  .why = "The console is a serial port, which has no lock." },
	{ "Notes", "Notes", SETTING_TEXT },
};

static int set_one(struct call *c, json_t *copy)
{
	const char *new_name = call_string(c, "NewVMName");
	struct setting_target target = { copy, NULL, copy };
	if (settings_apply(c, &target, vm_settings, ARRAY_SIZE(vm_settings)) < 0 ||
	    device_set_processor(c, copy) < 0 || device_set_memory(c, copy) < 0)
		return -1;
	if (new_name) {
		if (!name_fits(c, new_name))
			return -1;
		json_object_set_new(copy, "Name", json_string(new_name));
	}
	if (call_put(c, STORE_VM, copy))
		return -1;
	if ((call_parameter(c, "AutomaticStartAction") || call_parameter(c, "AutomaticStopAction")) &&
	    !c->service->of_host)
		call_say(c, "warning", "The action is kept. It is done when the host starts or stops a service with `nestor service --host`, and no such service runs now.");
	return 0;
}

void vm_each(struct call *c, const char *sentence, int (*change)(struct call *c, json_t *copy),
	     json_t *(*show)(struct service *s, json_t *vm))
{
	json_t *found = call_vms(c), *vm;
	size_t i;
	json_array_foreach(found, i, vm) {
		if (!call_should(c, call_text(c, "%s %s \"%s\".", c->cmdlet->name, sentence,
					      get_text(vm, "Name"))))
			continue;
		json_t *copy = json_deep_copy(vm);
		if (!change(c, copy) && c->passthru && show) {
			json_t *now = store_find(c->service->store, STORE_VM, get_text(copy, "Id"));
			call_object(c, show(c->service, now ? now : copy));
		}
		json_decref(copy);
	}
	json_decref(found);
}

static void set_vm(struct call *c)
{
	vm_each(c, "will configure the virtual machine", set_one, vm_object);
}

static int rename_one(struct call *c, json_t *copy)
{
	const char *name = call_string(c, "NewName");
	if (!name || !name_fits(c, name))
		return -1;
	json_object_set_new(copy, "Name", json_string(name));
	return call_put(c, STORE_VM, copy);
}

static void rename_vm(struct call *c)
{
	vm_each(c, call_text(c, "will give the name \"%s\" to the virtual machine",
			     call_string(c, "NewName") ? call_string(c, "NewName") : ""),
		rename_one, vm_object);
}

/* The VM must be Off for this. */
static bool is_off(struct call *c, json_t *vm, const char *why)
{
	enum machine_state state = machine_state(c->service, get_text(vm, "Id"));
	if (state == MACHINE_OFF)
		return true;
	call_error(c, "InvalidState", get_text(vm, "Name"), wrong_state_sentence,
		   call_text(c, "%s; %s is %s.", why, get_text(vm, "Name"), machine_state_name(state)),
		   call_text(c, "Stop-VM -Name '%s', then try again.", get_text(vm, "Name")));
	return false;
}

static int remove_one(struct call *c, json_t *copy)
{
	struct error e;
	const char *id = get_text(copy, "Id");
	if (!is_off(c, copy, "A virtual machine that runs is not removed"))
		return -1;
	if (store_remove(c->service->store, STORE_VM, id, &e)) {
		call_error(c, "OperationFailed", get_text(copy, "Name"),
			   "The virtual machine could not be removed.", e.text, NULL);
		return -1;
	}
	unlink(paths_log(id));
	return 0;
}

static void remove_vm(struct call *c)
{
	vm_each(c, "will remove the virtual machine", remove_one, vm_object);
}

static int update_one(struct call *c, json_t *copy)
{
	const char *version = get_text(copy, "Version"), *newest = vm_version_default;
	if (!is_off(c, copy, "The configuration version may change only while the virtual machine is Off"))
		return -1;
	if (vm_version_number(version) >= vm_version_number(newest)) {
		call_say(c, "warning", call_text(c, "No update was needed: %s has version %s, the newest of this host.",
						 get_text(copy, "Name"), version));
		return 0;
	}
	json_object_set_new(copy, "Version", json_string(newest));
	return call_put(c, STORE_VM, copy);
}

static void update_vm_version(struct call *c)
{
	vm_each(c, "will perform a configuration version update of the virtual machine", update_one,
		vm_object);
}

/* Export and import: of the configuration; disks stay where they are. */

static const char export_file[] = "nestor-vm.json";

static int export_one(struct call *c, json_t *copy)
{
	const char *given = call_string(c, "Path"), *path = given ? call_path(c, given) : NULL;
	struct error e;
	if (!path)
		return -1;
	const char *folder = call_text(c, "%s/%s", path, get_text(copy, "Name"));
	const char *file = call_text(c, "%s/%s", folder, export_file);
	const char *name = get_text(copy, "Name");
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		error_set(&e, STATUS_FILE, "The name of the virtual machine cannot be a folder's.");
	else if (!access(file, F_OK))
		error_set(&e, STATUS_FILE, "%s is there already.", file);
	else if (!paths_make_folder(folder, 0700, &e)) {
		if (!json_dump_file(copy, file, JSON_INDENT(2)))
			return 0;
		error_set(&e, STATUS_FILE, "%s cannot be written (%s).", file, strerror(errno));
		unlink(file);	/* half of it */
	}
	call_error(c, "OperationFailed", get_text(copy, "Name"),
		call_text(c, "Failed to export the virtual machine '%s'.", get_text(copy, "Name")), e.text,
		"Name another folder with -Path.");
	return -1;
}

static void export_vm(struct call *c)
{
	vm_each(c, "will export the configuration of the virtual machine", export_one, vm_object);
}

static void import_vm(struct call *c)
{
	const char *given = call_string(c, "Path"), *path = given ? call_path(c, given) : NULL;
	struct stat st;
	json_error_t why;
	char id[STORE_ID_SIZE];
	if (!path)
		return;
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		path = call_text(c, "%s/%s", path, export_file);
	/* Anything else could make the service wait for ever. */
	bool is_file = stat(path, &st) || S_ISREG(st.st_mode);
	json_t *vm = is_file ? json_load_file(path, JSON_REJECT_DUPLICATES, &why) : NULL;
	const char *trouble = NULL, *wrong = json_is_object(vm) ? vm_complete(vm) : NULL;
	if (!vm)
		trouble = call_text(c, "%s: %s", path, is_file ? why.text : "It is no regular file.");
	else if (wrong)
		trouble = call_text(c, "%s: the member %s is not what it should be.", path, wrong);
	if (!trouble && (!*get_text(vm, "Name") || !store_id_valid(get_text(vm, "Id")) ||
			 !vm_version_find(get_text(vm, "Version"))))
		trouble = call_text(c, "%s is no exported virtual machine of a version that this host supports.", path);
	if (trouble) {
		call_error(c, "InvalidParameter", path, "Failed to import a virtual machine.", trouble,
			   "Name the folder or the file that Export-VM made.");
		goto out;
	}
	if (call_switch(c, "GenerateNewId")) {
		store_new_id(id);
		json_object_set_new(vm, "Id", json_string(id));
	} else if (store_find(c->service->store, STORE_VM, get_text(vm, "Id"))) {
		call_error(c, "InvalidParameter", get_text(vm, "Name"), "Failed to import a virtual machine.",
			   call_text(c, "A virtual machine with the id %s is there already.", get_text(vm, "Id")),
			   "Import-VM -Path PATH -Copy -GenerateNewId");
		goto out;
	}
	if (call_should(c, call_text(c, "Import-VM will import the virtual machine \"%s\".", get_text(vm, "Name"))) &&
	    !call_put(c, STORE_VM, vm))
		call_object(c, vm_object(c->service, vm));
out:
	json_decref(vm);
}

const struct cmdlet vm_cmdlets[] = {
	{ "New-VM", new_vm,
	  " Name MemoryStartupBytes Generation Path NoVHD NewVHDPath NewVHDSizeBytes VHDPath SwitchName Version Prerelease Experimental BootDevice GuestStateIsolationType ",
	  NULL },
	{ "Get-VM", get_vm, " Id ", "Name" },
	{ "Set-VM", set_vm,
	  " NewVMName Notes ProcessorCount DynamicMemory StaticMemory MemoryStartupBytes MemoryMinimumBytes MemoryMaximumBytes AutomaticStartAction AutomaticStartDelay AutomaticStopAction AutomaticCriticalErrorAction AutomaticCriticalErrorActionTimeout CheckpointType AutomaticCheckpointsEnabled LockOnDisconnect ",
	  "Name" },
	{ "Rename-VM", rename_vm, " NewName ", "Name" },
	{ "Remove-VM", remove_vm, " ", "Name" },
	{ "Update-VMVersion", update_vm_version, " ", "Name" },
	{ "Export-VM", export_vm, " Path ", "Name" },
	{ "Import-VM", import_vm, " Path Register Copy GenerateNewId ", NULL },
	{ NULL }
};
