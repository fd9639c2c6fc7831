/* VMProcessor, VMMemory, VMFirmware, and the memory rules of nesting. */
#include "service/device.h"

#include "base/bits.h"
#include "engine/engine.h"
#include "service/balance.h"
#include "service/machine.h"
#include "service/settings.h"
#include "service/vm_object.h"

#include <stdio.h>

#define MEMORY_ALIGN ((int64_t)(2 * MIB))
#define MEMORY_LEAST ((int64_t)(32 * MIB))
#define MEMORY_MOST ((int64_t)(1024 * GIB))

/* A piped VMProcessor, VMMemory or VMFirmware has its VM's Id. */
static void take_piped(struct call *c, const char *parameter)
{
	json_t *piped = call_parameter(c, parameter);
	if (piped)
		json_object_set(c->params, "VM", piped);
}

/* The two first members of everything that belongs to a VM. */
static json_t *part_object(json_t *vm, const char *type)
{
	return json_pack("{s:s,s:s,s:s,s:s}", "$type", type, "VMName", get_text(vm, "Name"),
			 "VMId", get_text(vm, "Id"), "Id", get_text(vm, "Id"));
}

static void show_each(struct call *c, json_t *(*show)(json_t *vm))
{
	json_t *found = call_vms(c), *vm;
	size_t i;
	json_array_foreach(found, i, vm)
		call_object(c, show(vm));
	json_decref(found);
}

/* Processor. */

json_t *vm_processor_object(json_t *vm)
{
	static const char *const keys[] = {
		"ResourcePoolName", "Count", "CompatibilityForMigrationEnabled",
		"CompatibilityForOlderOperatingSystemsEnabled", "HwThreadCountPerCore",
		"ExposeVirtualizationExtensions", "Maximum", "Reserve", "RelativeWeight",
		"EnableHostResourceProtection",
	};
	json_t *object = part_object(vm, "VMProcessor"), *processor = json_object_get(vm, "Processor");
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(object, keys[i], json_object_get(processor, keys[i]));
	return object;
}

static const struct setting processor_settings[] = {
	{ "Count", "Count", SETTING_INTEGER, 1, ENGINE_MAX_PROCESSORS, .off_only = true,
	  .why = "The number of processors" },
	{ "ExposeVirtualizationExtensions", "ExposeVirtualizationExtensions", SETTING_BOOLEAN,
	  .off_only = true, .why = "Exposing the virtualization extensions" },
	{ "Reserve", "Reserve", SETTING_INTEGER, 0, 100, .only = "0",
	  .why = "Nestor cannot keep processor time back for a virtual machine." },
	{ "Maximum", "Maximum", SETTING_INTEGER, 0, 100, .only = "100",
	  .why = "Nestor does not limit a virtual machine's processor time." },
	{ "RelativeWeight", "RelativeWeight", SETTING_INTEGER, 1, 10000, .only = "100",
	  .why = "Nestor leaves the sharing of processor time to the host's scheduler." },
	{ "HwThreadCountPerCore", "HwThreadCountPerCore", SETTING_INTEGER, 0, 2, .only = "0",
	  .why = "Every processor of a virtual machine is a core of its own." },
	{ "CompatibilityForMigrationEnabled", "CompatibilityForMigrationEnabled", SETTING_BOOLEAN,
	  .only = "false", .why = "Nestor does not move running virtual machines yet." },
	{ "CompatibilityForOlderOperatingSystemsEnabled", "CompatibilityForOlderOperatingSystemsEnabled",
	  SETTING_BOOLEAN, .only = "false", .why = "Nestor shows every guest the same processor." },
	{ "EnableHostResourceProtection", "EnableHostResourceProtection", SETTING_BOOLEAN, .only = "false",
	  .why = "Nestor does not watch for guests that misuse their devices." },
	{ "ResourcePoolName", "ResourcePoolName", SETTING_TEXT, .only = "Primordial",
	  .why = "There is one resource pool." },
};

static const struct setting set_vm_processor[] = {
	{ "ProcessorCount", "Count", SETTING_INTEGER, 1, ENGINE_MAX_PROCESSORS, .off_only = true,
	  .why = "The number of processors" },
};

int device_set_processor(struct call *c, json_t *copy)
{
	struct setting_target target = { copy, "Processor", json_object_get(copy, "Processor") };
	return settings_apply(c, &target, set_vm_processor, ARRAY_SIZE(set_vm_processor));
}

static int set_processor_one(struct call *c, json_t *copy)
{
	struct setting_target target = { copy, "Processor", json_object_get(copy, "Processor") };
	int given = settings_apply(c, &target, processor_settings, ARRAY_SIZE(processor_settings));
	if (given < 0)
		return -1;
	return given ? call_put(c, STORE_VM, copy) : 0;
}

static json_t *show_processor(struct service *s, json_t *vm)
{
	return vm_processor_object(vm);
}

static void set_processor(struct call *c)
{
	take_piped(c, "VMProcessor");
	vm_each(c, "will configure the processor settings of the virtual machine", set_processor_one,
		show_processor);
}

static void get_processor(struct call *c)
{
	show_each(c, vm_processor_object);
}

/* Memory. */

json_t *vm_memory_object(json_t *vm)
{
	static const char *const keys[] = {
		"DynamicMemoryEnabled", "Minimum", "Startup", "Maximum", "Buffer", "Priority",
	};
	json_t *object = part_object(vm, "VMMemory"), *memory = json_object_get(vm, "Memory");
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(object, keys[i], json_object_get(memory, keys[i]));
	json_object_set_new(object, "ResourcePoolName", json_string("Primordial"));
	return object;
}

/* Set-VMMemory's names and Set-VM's for the same members. */
#define MEMORY_SETTINGS(startup, minimum, maximum) \
	{ startup, "Startup", SETTING_INTEGER, MEMORY_LEAST, MEMORY_MOST, MEMORY_ALIGN }, \
	{ minimum, "Minimum", SETTING_INTEGER, MEMORY_LEAST, MEMORY_MOST, MEMORY_ALIGN }, \
	{ maximum, "Maximum", SETTING_INTEGER, MEMORY_LEAST, MEMORY_MOST, MEMORY_ALIGN }

static const struct setting memory_settings[] = {
	MEMORY_SETTINGS("StartupBytes", "MinimumBytes", "MaximumBytes"),
	{ "DynamicMemoryEnabled", "DynamicMemoryEnabled", SETTING_BOOLEAN, .off_only = true,
	  .why = "Dynamic Memory" },
	{ "Buffer", "Buffer", SETTING_INTEGER, 5, 2000 },
	{ "Priority", "Priority", SETTING_INTEGER, 0, 100 },
	{ "ResourcePoolName", "ResourcePoolName", SETTING_TEXT, .only = "Primordial",
	  .why = "There is one resource pool." },
};

static const struct setting set_vm_memory[] = {
	MEMORY_SETTINGS("MemoryStartupBytes", "MemoryMinimumBytes", "MemoryMaximumBytes"),
};

static const char nested_sentence[] =
	"The hypervisor could not perform the operation because it is not allowed with nested virtualization active.";

/* Minimum, Startup and Maximum go together. A static VM has one amount only, and
 * the other two follow it when they do not fit. */
static int check_amounts(struct call *c, const struct setting_target *t)
{
	int64_t minimum = get_integer(t->object, "Minimum"), startup = get_integer(t->object, "Startup");
	int64_t maximum = get_integer(t->object, "Maximum");
	if (!get_true(t->object, "DynamicMemoryEnabled")) {
		if (minimum > startup)
			json_object_set_new(t->object, "Minimum", json_integer(startup));
		if (maximum < startup)
			json_object_set_new(t->object, "Maximum", json_integer(startup));
		return 0;
	}
	if (minimum <= startup && startup <= maximum)
		return 0;
	settings_error(c, t, "InvalidParameter",
		"The minimum, startup and maximum amounts of memory do not fit each other.",
		call_text(c, "Minimum <= Startup <= Maximum must hold; it would be %lld MB, %lld MB, %lld MB.",
			  (long long)(minimum / (int64_t)MIB), (long long)(startup / (int64_t)MIB),
			  (long long)(maximum / (int64_t)MIB)), NULL);
	return -1;
}

/* Why a running VM cannot have that much just now; NULL: it can. */
static const char *check_room(struct call *c, json_t *state, int64_t bytes)
{
	int64_t more = bytes - get_integer(state, "MemoryAssigned");
	int64_t demand = get_true(state, "StatisticsKnown") ? get_integer(state, "GuestDemand") : 0;
	int64_t left = host_memory_free(c->service);
	if (more > 0 && more > left)
		return call_text(c, "It would take %lld MB more; the host has %lld MB left.",
				 (long long)(more / (int64_t)MIB),
				 (long long)(left > 0 ? left / (int64_t)MIB : 0));
	if (more < 0 && bytes < demand)
		return call_text(c, "The guest uses %lld MB of its memory, and %lld MB would be less.",
				 (long long)(demand / (int64_t)MIB), (long long)(bytes / (int64_t)MIB));
	return NULL;
}

/* A running VM without Dynamic Memory gets another amount. */
static int resize(struct call *c, const struct setting_target *t, struct machine *m, int64_t bytes)
{
	struct error e = { 0 };
	const char *name = get_text(t->vm, "Name"), *why;
	json_t *state = machine_ask(m, "Worker.State", NULL, &e);
	if (state && get_true(state, "HypervisorRunning")) {
		settings_error(c, t, "InvalidState", nested_sentence,
			call_text(c, "A hypervisor runs inside %s, and while it does the memory of a virtual machine without Dynamic Memory cannot be changed.", name),
			call_text(c, "End the hypervisor inside %s (its KVM modules, its virtual machines), or Stop-VM -Name '%s', then try again.", name, name));
		json_decref(state);
		return -1;
	}
	why = state ? check_room(c, state, bytes) : e.text;
	json_t *answer = why ? NULL : machine_ask(m, "Worker.SetMemory",
		json_pack("{s:I}", "Bytes", (json_int_t)bytes), &e);
	json_decref(state);
	if (!answer) {
		settings_error(c, t, "InvalidState", wrong_state_sentence, why ? why : e.text,
			call_text(c, "Stop-VM -Name '%s', change it, and start it again.", name));
		return -1;
	}
	json_decref(answer);
	return 0;
}

static int refuse_running(struct call *c, const struct setting_target *t, const char *reason)
{
	settings_error(c, t, "InvalidState", wrong_state_sentence, reason,
		call_text(c, "Stop-VM -Name '%s', then try again.", get_text(t->vm, "Name")));
	return -1;
}

/* What may change of a running VM: with Dynamic Memory its maximum up and its
 * minimum down; without, the amount itself. */
static int check_running(struct call *c, const struct setting_target *t, json_t *old)
{
	struct machine *m = machine_find(c->service, get_text(t->vm, "Id"));
	int64_t startup = get_integer(t->object, "Startup");
	if (!m)
		return 0;
	if (get_true(old, "DynamicMemoryEnabled")) {
		if (startup != get_integer(old, "Startup"))
			return refuse_running(c, t, "With Dynamic Memory the startup amount may change only while the virtual machine is Off.");
		if (get_integer(t->object, "Maximum") < get_integer(old, "Maximum"))
			return refuse_running(c, t, "While the virtual machine runs its maximum may only grow.");
		if (get_integer(t->object, "Minimum") > get_integer(old, "Minimum"))
			return refuse_running(c, t, "While the virtual machine runs its minimum may only become smaller.");
		return 0;
	}
	if (startup == get_integer(old, "Startup"))
		return 0;
	return resize(c, t, m, startup);
}

/* old: the memory settings before the call's parameters went into copy. */
static int finish_memory(struct call *c, const struct setting_target *t, json_t *old)
{
	return check_amounts(c, t) || check_running(c, t, old) ? -1 : 0;
}

int device_set_memory(struct call *c, json_t *copy)
{
	json_t *memory = json_object_get(copy, "Memory"), *old = json_deep_copy(memory);
	struct setting_target target = { copy, "Memory", memory };
	bool on = call_switch(c, "DynamicMemory"), off = call_switch(c, "StaticMemory");
	int result = -1;
	if (on && off) {
		settings_error(c, &target, "InvalidParameter",
			"Parameter set cannot be resolved using the specified named parameters.",
			"-DynamicMemory and -StaticMemory exclude each other.", NULL);
		goto out;
	}
	if (on || off) {
		if (on != get_true(memory, "DynamicMemoryEnabled") &&
		    machine_find(c->service, get_text(copy, "Id"))) {
			refuse_running(c, &target, "Dynamic Memory may be turned on or off only while the virtual machine is Off.");
			goto out;
		}
		json_object_set_new(memory, "DynamicMemoryEnabled", json_boolean(on));
	}
	result = settings_apply(c, &target, set_vm_memory, ARRAY_SIZE(set_vm_memory));
	if (result > 0 || on || off)
		result = finish_memory(c, &target, old);
out:
	json_decref(old);
	return result;
}

static int set_memory_one(struct call *c, json_t *copy)
{
	json_t *memory = json_object_get(copy, "Memory"), *old = json_deep_copy(memory);
	struct setting_target target = { copy, "Memory", memory };
	int result = settings_apply(c, &target, memory_settings, ARRAY_SIZE(memory_settings));
	if (result > 0)
		result = finish_memory(c, &target, old);
	json_decref(old);
	return result < 0 ? -1 : call_put(c, STORE_VM, copy);
}

static json_t *show_memory(struct service *s, json_t *vm)
{
	return vm_memory_object(vm);
}

static void set_memory(struct call *c)
{
	take_piped(c, "VMMemory");
	vm_each(c, "will configure the memory of the virtual machine", set_memory_one, show_memory);
}

static void get_memory(struct call *c)
{
	show_each(c, vm_memory_object);
}

/* Firmware: ours, until there is one to boot from disks: the kernel. */

json_t *vm_firmware_object(json_t *vm)
{
	static const char *const keys[] = { "KernelPath", "InitialRamdiskPath", "KernelCommandLine" };
	json_t *object = part_object(vm, "VMFirmware"), *firmware = json_object_get(vm, "Firmware");
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(object, keys[i], json_object_get(firmware, keys[i]));
	json_object_set_new(object, "SecureBoot", json_string("Off"));
	return object;
}

static const struct setting firmware_settings[] = {
	{ "KernelPath", "KernelPath", SETTING_TEXT, .off_only = true, .why = "The kernel" },
	{ "InitialRamdiskPath", "InitialRamdiskPath", SETTING_TEXT, .off_only = true,
	  .why = "The initial RAM disk" },
	{ "KernelCommandLine", "KernelCommandLine", SETTING_TEXT, .off_only = true,
	  .why = "The kernel's command line" },
	{ "EnableSecureBoot", "SecureBoot", SETTING_ENUM, .values = " On Off ", .only = "Off",
	  .why = "There is no firmware that could check signatures." },
};

static int set_firmware_one(struct call *c, json_t *copy)
{
	static const char *const paths[] = { "KernelPath", "InitialRamdiskPath" };
	struct setting_target target = { copy, NULL, json_object_get(copy, "Firmware") };
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		const char *given = call_string(c, paths[i]);
		const char *path = given && *given ? call_path(c, given) : given;
		if (given && !path)
			return -1;
		if (given)
			json_object_set_new(c->params, paths[i], text_json(path));
	}
	int given = settings_apply(c, &target, firmware_settings, ARRAY_SIZE(firmware_settings));
	return given < 0 ? -1 : call_put(c, STORE_VM, copy);
}

static json_t *show_firmware(struct service *s, json_t *vm)
{
	return vm_firmware_object(vm);
}

static void set_firmware(struct call *c)
{
	take_piped(c, "VMFirmware");
	vm_each(c, "will configure the firmware of the virtual machine", set_firmware_one, show_firmware);
}

static void get_firmware(struct call *c)
{
	show_each(c, vm_firmware_object);
}

const struct cmdlet device_cmdlets[] = {
	{ "Set-VMProcessor", set_processor,
	  " VMProcessor Count ExposeVirtualizationExtensions Reserve Maximum RelativeWeight HwThreadCountPerCore CompatibilityForMigrationEnabled CompatibilityForOlderOperatingSystemsEnabled EnableHostResourceProtection ResourcePoolName ",
	  "VMName" },
	{ "Get-VMProcessor", get_processor, " ", "VMName" },
	{ "Set-VMMemory", set_memory,
	  " VMMemory StartupBytes MinimumBytes MaximumBytes DynamicMemoryEnabled Buffer Priority ResourcePoolName ",
	  "VMName" },
	{ "Get-VMMemory", get_memory, " ", "VMName" },
	{ "Set-VMFirmware", set_firmware,
	  " VMFirmware KernelPath InitialRamdiskPath KernelCommandLine EnableSecureBoot ", "VMName" },
	{ "Get-VMFirmware", get_firmware, " ", "VMName" },
	{ NULL }
};
