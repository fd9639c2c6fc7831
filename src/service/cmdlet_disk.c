/* VMHardDiskDrive: which disks hang on a VM, and where. The guest sees them as
 * virtio disks in the order of the list; type, number and location are names. */
#include "service/disks.h"

#include "base/bits.h"
#include "service/machine.h"
#include "service/settings.h"
#include "service/vm_object.h"

#include <sys/stat.h>

enum {
	IDE_CONTROLLERS = 2, IDE_LOCATIONS = 2,
	SCSI_CONTROLLERS = 4, SCSI_LOCATIONS = 64,
	DRIVES_MAX = 16,	/* disks of a worker */
};

json_t *vm_drive_object(json_t *vm, json_t *drive)
{
	json_t *object = json_pack("{s:s,s:s,s:s,s:s}", "$type", "HardDiskDrive", "VMName",
				   get_text(vm, "Name"), "VMId", get_text(vm, "Id"), "Name", "");
	json_object_set_new(object, "Name", json_sprintf("Hard Drive on %s controller number %d at location %d",
		get_text(drive, "ControllerType"), (int)get_integer(drive, "ControllerNumber"),
		(int)get_integer(drive, "ControllerLocation")));
	json_object_update_missing(object, drive);
	json_object_set_new(object, "DiskNumber", json_null());
	return object;
}

static bool place_taken(json_t *vm, const char *type, int number, int location)
{
	json_t *drive;
	size_t i;
	json_array_foreach(json_object_get(vm, "Drives"), i, drive)
		if (!strcmp(get_text(drive, "ControllerType"), type) &&
		    get_integer(drive, "ControllerNumber") == number &&
		    get_integer(drive, "ControllerLocation") == location)
			return true;
	return false;
}

static bool find_place(json_t *vm, const char *type, int *number, int *location)
{
	bool ide = !strcmp(type, "IDE");
	int controllers = ide ? IDE_CONTROLLERS : SCSI_CONTROLLERS;
	int locations = ide ? IDE_LOCATIONS : SCSI_LOCATIONS;
	for (int n = 0; n < controllers; n++)
		for (int l = 0; l < locations; l++)
			if ((*number < 0 || *number == n) && (*location < 0 || *location == l) &&
			    !place_taken(vm, type, n, l)) {
				*number = n;
				*location = l;
				return true;
			}
	return false;
}

static void no_ide(struct call *c, const char *name)
{
	call_error(c, "InvalidParameter", name, "A generation 2 virtual machine has no IDE controller.",
		   NULL, "Leave the type of the controller out, or give it SCSI.");
}

static void place_error(struct call *c, const char *name, int number, int location)
{
	const char *reason = "All places are taken.";
	if (number >= 0 || location >= 0)
		reason = call_text(c, "%s is taken, or there is no such place.",
			number < 0 ? call_text(c, "Location %d on every controller", location) :
			location < 0 ? call_text(c, "Every location on controller number %d", number) :
			call_text(c, "Location %d on controller number %d", location, number));
	call_error(c, "InvalidParameter", name, "The drive cannot be added at that place.", reason,
		   call_text(c, "Get-VMHardDiskDrive -VMName '%s'", name));
}

json_t *disks_attach(struct call *c, json_t *vm, const char *type, int number, int location,
		     const char *path)
{
	static const char *const types[] = { "IDE", "SCSI" };
	bool generation_2 = get_integer(vm, "Generation") == 2;
	json_t *drives = json_object_get(vm, "Drives");
	char id[STORE_ID_SIZE];
	const char *name = get_text(vm, "Name");
	if (generation_2 && type && !strcasecmp(type, "IDE")) {
		no_ide(c, name);
		return NULL;
	}
	if (json_array_size(drives) == DRIVES_MAX) {
		call_error(c, "InvalidState", name, "No more drives can be added to the virtual machine.",
			   call_text(c, "A virtual machine has at most %d.", DRIVES_MAX), NULL);
		return NULL;
	}
	for (unsigned i = generation_2 ? 1 : 0; i < ARRAY_SIZE(types); i++) {
		if ((type && strcasecmp(type, types[i])) || !find_place(vm, types[i], &number, &location))
			continue;
		store_new_id(id);
		json_t *drive = json_pack("{s:s,s:s,s:i,s:i,s:o}", "Id", id, "ControllerType", types[i],
					  "ControllerNumber", number, "ControllerLocation", location,
					  "Path", text_json(path));
		json_array_append_new(drives, drive);
		return drive;
	}
	place_error(c, name, number, location);
	return NULL;
}

static int not_running(struct call *c, json_t *vm)
{
	enum machine_state state = machine_state(c->service, get_text(vm, "Id"));
	if (state == MACHINE_OFF)
		return 0;
	call_error(c, "InvalidState", get_text(vm, "Name"), wrong_state_sentence,
		   call_text(c, "Nestor adds and removes drives only while the virtual machine is Off; %s is %s.",
			     get_text(vm, "Name"), machine_state_name(state)),
		   call_text(c, "Stop-VM -Name '%s', then try again.", get_text(vm, "Name")));
	return -1;
}

/* A number that was given, or -1. */
static int place(struct call *c, const char *name)
{
	json_t *value = call_parameter(c, name);
	return json_is_integer(value) ? (int)json_integer_value(value) : -1;
}

/* A disk is on a VM once; but: the drive that is about to change. */
static int not_there_yet(struct call *c, json_t *vm, const char *path, json_t *but)
{
	struct stat a, b;
	json_t *drive;
	size_t i;
	json_array_foreach(json_object_get(vm, "Drives"), i, drive) {
		const char *there = get_text(drive, "Path");
		if (drive == but || (strcmp(there, path) && (stat(there, &a) || stat(path, &b) ||
				     a.st_dev != b.st_dev || a.st_ino != b.st_ino)))
			continue;
		call_error(c, "InvalidState", get_text(vm, "Name"),
			"The process cannot access the file because it is being used by another process.",
			call_text(c, "The disk %s is on %s already: %s controller number %d at location %d.", path,
				  get_text(vm, "Name"), get_text(drive, "ControllerType"),
				  (int)get_integer(drive, "ControllerNumber"),
				  (int)get_integer(drive, "ControllerLocation")),
			call_text(c, "Get-VMHardDiskDrive -VMName '%s'", get_text(vm, "Name")));
		return -1;
	}
	return 0;
}

static int add_drive_one(struct call *c, json_t *copy)
{
	const char *given = call_string(c, "Path"), *path = given ? call_path(c, given) : NULL;
	if (!given)
		call_error(c, "InvalidParameter", get_text(copy, "Name"), "A drive needs a disk.", NULL,
			   "Name the disk's file with -Path.");
	if (!path || not_running(c, copy) || disks_check(c, path) || not_there_yet(c, copy, path, NULL))
		return -1;
	json_t *drive = disks_attach(c, copy, call_string(c, "ControllerType"), place(c, "ControllerNumber"),
				     place(c, "ControllerLocation"), path);
	if (!drive || call_put(c, STORE_VM, copy))
		return -1;
	if (c->passthru)
		call_object(c, vm_drive_object(copy, drive));
	return 0;
}

static void add_drive(struct call *c)
{
	vm_each(c, "will add a hard disk drive to the virtual machine", add_drive_one, NULL);
}

/* Does the drive fit -ControllerType, -ControllerNumber, -ControllerLocation? */
static bool drive_fits(struct call *c, json_t *drive)
{
	const char *type = call_string(c, "ControllerType");
	int number = place(c, "ControllerNumber"), location = place(c, "ControllerLocation");
	return (!type || !strcasecmp(type, get_text(drive, "ControllerType"))) &&
		(number < 0 || number == get_integer(drive, "ControllerNumber")) &&
		(location < 0 || location == get_integer(drive, "ControllerLocation"));
}

static void get_drive(struct call *c)
{
	json_t *found = call_vms(c), *vm, *drive;
	size_t i, d;
	json_array_foreach(found, i, vm)
		json_array_foreach(json_object_get(vm, "Drives"), d, drive)
			if (drive_fits(c, drive))
				call_object(c, vm_drive_object(vm, drive));
	json_decref(found);
}

static void remove_from(struct call *c, json_t *vm, json_t *drive, size_t at)
{
	if (!call_should(c, call_text(c, "Remove-VMHardDiskDrive will remove the drive of %s from the virtual machine \"%s\".",
				      get_text(drive, "Path"), get_text(vm, "Name"))) || not_running(c, vm))
		return;
	json_t *copy = json_deep_copy(vm);
	json_incref(drive);
	json_array_remove(json_object_get(copy, "Drives"), at);
	if (!call_put(c, STORE_VM, copy) && c->passthru)
		call_object(c, vm_drive_object(copy, drive));
	json_decref(drive);
	json_decref(copy);
}

/* Where a drive shall go by -ToController...: what is not given stays, or is the
 * first free place when only the type is. */
static int move_drive(struct call *c, json_t *copy, json_t *drive)
{
	const char *name = get_text(copy, "Name"), *to = call_string(c, "ToControllerType");
	int number = place(c, "ToControllerNumber"), location = place(c, "ToControllerLocation");
	if (!to && number < 0 && location < 0)
		return 0;
	const char *type = !to ? get_text(drive, "ControllerType") : !strcasecmp(to, "IDE") ? "IDE" : "SCSI";
	if (get_integer(copy, "Generation") == 2 && !strcmp(type, "IDE")) {
		no_ide(c, name);
		return -1;
	}
	if (number < 0 && !to)
		number = (int)get_integer(drive, "ControllerNumber");
	/* Its own place is free for it; on failure the copy is not kept. */
	json_object_set_new(drive, "ControllerLocation", json_integer(-1));
	if (find_place(copy, type, &number, &location)) {
		json_object_set_new(drive, "ControllerType", json_string(type));
		json_object_set_new(drive, "ControllerNumber", json_integer(number));
		json_object_set_new(drive, "ControllerLocation", json_integer(location));
		return 0;
	}
	place_error(c, name, number, location);
	return -1;
}

static void set_one(struct call *c, json_t *vm, json_t *drive, size_t at)
{
	const char *given = call_string(c, "Path"), *path = given ? call_path(c, given) : NULL;
	if ((given && !path) ||
	    !call_should(c, call_text(c, "Set-VMHardDiskDrive will change the drive of %s of the virtual machine \"%s\".",
				      get_text(drive, "Path"), get_text(vm, "Name"))) || not_running(c, vm))
		return;
	json_t *copy = json_deep_copy(vm), *changed = json_array_get(json_object_get(copy, "Drives"), at);
	if (!(path && (disks_check(c, path) || not_there_yet(c, copy, path, changed))) &&
	    !move_drive(c, copy, changed)) {
		if (path)
			json_object_set_new(changed, "Path", text_json(path));
		if (!call_put(c, STORE_VM, copy) && c->passthru)
			call_object(c, vm_drive_object(copy, changed));
	}
	json_decref(copy);
}

typedef void drive_action(struct call *c, json_t *vm, json_t *drive, size_t at);

/* The drive with this id, or the first by its place. */
static bool on_match(struct call *c, json_t *vm, const char *id, drive_action *act)
{
	json_t *drive;
	size_t i;
	json_array_foreach(json_object_get(vm, "Drives"), i, drive)
		if (id ? !strcmp(get_text(drive, "Id"), id) : drive_fits(c, drive)) {
			act(c, vm, drive, i);
			return true;
		}
	return false;
}

static void drive_not_found(struct call *c)
{
	call_error(c, "ObjectNotFound", NULL, "The hard disk drive was not found.",
		   "No drive of the virtual machine is at that place.", "Get-VMHardDiskDrive -VMName NAME");
}

static void on_drives(struct call *c, drive_action *act)
{
	json_t *piped = call_list(c, "VMHardDiskDrive"), *item, *vm;
	size_t i;
	const char *key;
	void *next;
	if (!piped) {
		json_t *found = call_vms(c);
		json_array_foreach(found, i, vm)
			if (!on_match(c, vm, NULL, act))
				drive_not_found(c);
		json_decref(found);
		return;
	}
	json_array_foreach(piped, i, item) {
		bool done = false;
		json_t *all = json_copy(store_objects(c->service->store, STORE_VM));
		json_object_foreach_safe(all, next, key, vm)
			done = done || on_match(c, vm, get_text(item, "Id"), act);
		json_decref(all);
		if (!done)
			drive_not_found(c);
	}
	json_decref(piped);
}

static void remove_drive(struct call *c)
{
	on_drives(c, remove_from);
}

/* Of several drives, which is meant must be said. */
static void set_drive(struct call *c)
{
	json_t *found = call_parameter(c, "VMHardDiskDrive") ? NULL : call_vms(c), *vm, *drive;
	size_t i, d, fitting = 0;
	json_array_foreach(found, i, vm)
		json_array_foreach(json_object_get(vm, "Drives"), d, drive)
			fitting += drive_fits(c, drive);
	json_decref(found);
	if (fitting > 1)
		call_error(c, "InvalidParameter", call_string(c, "VMName"), "The hard disk drive is ambiguous.",
			   call_text(c, "%zu drives are at places that fit.", fitting),
			   "Name the place with -ControllerType, -ControllerNumber and -ControllerLocation.");
	else if (!json_array_size(c->errors))
		on_drives(c, set_one);
}

const struct cmdlet disk_cmdlets[] = {
	{ "Add-VMHardDiskDrive", add_drive, " ControllerType ControllerNumber ControllerLocation Path ",
	  "VMName" },
	{ "Get-VMHardDiskDrive", get_drive, " ControllerType ControllerNumber ControllerLocation ", "VMName" },
	{ "Set-VMHardDiskDrive", set_drive,
	  " VMHardDiskDrive ControllerType ControllerNumber ControllerLocation Path ToControllerType"
	  " ToControllerNumber ToControllerLocation ", "VMName" },
	{ "Remove-VMHardDiskDrive", remove_drive,
	  " VMHardDiskDrive ControllerType ControllerNumber ControllerLocation ", "VMName" },
	{ NULL }
};
