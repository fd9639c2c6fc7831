/* Virtual hard disks: New-VHD, Get-VHD, VMHardDiskDrive. Disks are raw files; a
 * format of another kind is known by its first bytes and refused by name. */
#include "service/disks.h"

#include "base/bits.h"
#include "service/machine.h"
#include "service/paths.h"
#include "service/settings.h"
#include "service/vm_object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SECTOR = 512,
	MAGIC_SIZE = 8,
	VHD_FOOTER = 512,
	IDE_CONTROLLERS = 2, IDE_LOCATIONS = 2,
	SCSI_CONTROLLERS = 4, SCSI_LOCATIONS = 64,
	DRIVES_MAX = 16,	/* disks of a worker */
};

#define DISK_MOST ((int64_t)(64ull << 40))
#define DISK_LEAST ((int64_t)(1 << 20))

const char *disks_default_path(struct call *c, const char *path)
{
	struct error e;
	if (strchr(path, '/'))
		return call_path(c, path);
	const char *folder = call_text(c, "%s/Virtual Hard Disks", paths_store());
	if (!paths_make_folder(folder, 0700, &e))
		return call_text(c, "%s/%s", folder, path);
	call_error(c, "OperationFailed", path, "Failed to create the virtual hard disk.", e.text, NULL);
	return NULL;
}

const char *disks_format(const char *path)
{
	static const struct { const char *magic, *name; } formats[] = {
		{ "vhdxfile", "VHDX" }, { "conectix", "VHD" }, { "QFI\xfb", "qcow2" },
	};
	char head[MAGIC_SIZE + 1] = "", foot[MAGIC_SIZE + 1] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	bool read_well = !fstat(fd, &st) && pread(fd, head, MAGIC_SIZE, 0) >= 0;
	if (read_well && st.st_size > VHD_FOOTER)	/* a fixed VHD begins with its data */
		read_well = pread(fd, foot, MAGIC_SIZE, st.st_size - VHD_FOOTER) >= 0;
	int reason = errno;
	close(fd);
	errno = reason;
	if (!read_well)
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (!strncmp(head, formats[i].magic, strlen(formats[i].magic)) ||
		    !strncmp(foot, formats[i].magic, MAGIC_SIZE))
			return formats[i].name;
	return "raw";
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && !strcasecmp(text + n - m, end);
}

/* The format that a new file's name promises, when it is not raw. */
static const char *promised_format(const char *path)
{
	static const struct { const char *end, *name; } ends[] = {
		{ ".vhdx", "VHDX" }, { ".vhd", "VHD" }, { ".avhdx", "VHDX" }, { ".qcow2", "qcow2" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		if (ends_with(path, ends[i].end))
			return ends[i].name;
	return NULL;
}

int disks_create(struct call *c, const char *path, int64_t size)
{
	static const char sentence[] = "Failed to create the virtual hard disk.";
	const char *format = promised_format(path);
	if (format) {
		call_error(c, "NotSupported", path, sentence,
			   call_text(c, "%s promises the format %s, and Nestor makes raw disks only.", path, format),
			   "Name it NAME.img: New-VHD -Path NAME.img -SizeBytes SIZE -Fixed.");
		return -1;
	}
	if (size < DISK_LEAST || size > DISK_MOST || size % SECTOR) {
		call_error(c, "InvalidParameter", path, sentence,
			   call_text(c, "The size %lld is not from 1 MB to 64 TB in multiples of 512 bytes.",
				     (long long)size), NULL);
		return -1;
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size)) {
		call_error(c, "OperationFailed", path, sentence,
			   call_text(c, "%s: %s.", path, strerror(errno)), NULL);
		if (fd >= 0) {
			close(fd);
			unlink(path);
		}
		return -1;
	}
	close(fd);
	return 0;
}

int disks_check(struct call *c, const char *path)
{
	const char *format = disks_format(path);
	struct stat st;
	if (!format)
		call_error(c, "ObjectNotFound", path, "The system cannot find the file specified.",
			   call_text(c, "The disk %s cannot be opened (%s).", path, strerror(errno)),
			   call_text(c, "New-VHD -Path '%s' -SizeBytes 10GB makes one.", path));
	else if (strcmp(format, "raw"))
		call_error(c, "NotSupported", path,
			   call_text(c, "The format %s is not supported.", format),
			   call_text(c, "The disk %s has the format %s; Nestor reads raw disks only.", path, format),
			   call_text(c, "qemu-img convert -O raw '%s' NEW.img makes one of it.", path));
	else if (stat(path, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		call_error(c, "InvalidParameter", path, "The path is no virtual hard disk.",
			   call_text(c, "%s is neither a file nor a block device.", path), NULL);
	else
		return 0;
	return -1;
}

/* Drives. */

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

json_t *disks_attach(struct call *c, json_t *vm, const char *type, int number, int location,
		     const char *path)
{
	static const char *const types[] = { "IDE", "SCSI" };
	bool generation_2 = get_integer(vm, "Generation") == 2;
	json_t *drives = json_object_get(vm, "Drives");
	char id[STORE_ID_SIZE];
	const char *name = get_text(vm, "Name");
	if (generation_2 && type && !strcasecmp(type, "IDE")) {
		call_error(c, "InvalidParameter", name, "A generation 2 virtual machine has no IDE controller.",
			   NULL, "Leave -ControllerType out, or give it SCSI.");
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
	call_error(c, "InvalidParameter", name, "The drive cannot be added at that place.",
		   number >= 0 || location >= 0 ?
		   call_text(c, "The place on the controller is taken, or there is no such place (number %d, location %d).",
			     number, location) : "All places are taken.",
		   call_text(c, "Get-VMHardDiskDrive -VMName '%s'", name));
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

static int add_drive_one(struct call *c, json_t *copy)
{
	const char *given = call_string(c, "Path"), *path = given ? call_path(c, given) : NULL;
	if (!given)
		call_error(c, "InvalidParameter", get_text(copy, "Name"), "A drive needs a disk.", NULL,
			   "Name the disk's file with -Path.");
	if (!path || not_running(c, copy) || disks_check(c, path))
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

/* The drive with this id, or by its place. */
static bool remove_match(struct call *c, json_t *vm, const char *id)
{
	json_t *drive;
	size_t i;
	json_array_foreach(json_object_get(vm, "Drives"), i, drive)
		if (id ? !strcmp(get_text(drive, "Id"), id) : drive_fits(c, drive)) {
			remove_from(c, vm, drive, i);
			return true;
		}
	return false;
}

static void drive_not_found(struct call *c)
{
	call_error(c, "ObjectNotFound", NULL, "The hard disk drive was not found.",
		   "No drive of the virtual machine is at that place.", "Get-VMHardDiskDrive -VMName NAME");
}

static void remove_drive(struct call *c)
{
	json_t *piped = call_list(c, "VMHardDiskDrive"), *item, *vm;
	size_t i;
	const char *key;
	void *next;
	if (!piped) {
		json_t *found = call_vms(c);
		json_array_foreach(found, i, vm)
			if (!remove_match(c, vm, NULL))
				drive_not_found(c);
		json_decref(found);
		return;
	}
	json_array_foreach(piped, i, item) {
		bool done = false;
		json_t *all = json_copy(store_objects(c->service->store, STORE_VM));
		json_object_foreach_safe(all, next, key, vm)
			done = done || remove_match(c, vm, get_text(item, "Id"));
		json_decref(all);
		if (!done)
			drive_not_found(c);
	}
	json_decref(piped);
}

/* VHDs. */

static json_t *vhd_object(const char *path)
{
	struct stat st;
	uint64_t size = 0;
	const char *format = disks_format(path);
	int fd = format ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st)) {
		close(fd);
		return NULL;
	}
	if (S_ISREG(st.st_mode))
		size = (uint64_t)st.st_size;
	else
		ioctl(fd, BLKGETSIZE64, &size);
	close(fd);
	return json_pack("{s:s,s:s,s:o,s:s,s:s,s:I,s:I,s:i,s:i}", "$type", "VirtualHardDisk",
		"ComputerName", "localhost", "Path", text_json(path), "VhdFormat", format,
		"VhdType", !strcmp(format, "raw") ? "Fixed" : "Unknown",
		"FileSize", (json_int_t)st.st_blocks * SECTOR, "Size", (json_int_t)size,
		"LogicalSectorSize", SECTOR, "PhysicalSectorSize", SECTOR);
}

static void show_vhd(struct call *c, const char *path)
{
	json_t *object = vhd_object(path);
	if (object)
		call_object(c, object);
	else
		call_error(c, "ObjectNotFound", path, "The system cannot find the file specified.",
			   call_text(c, "%s: %s.", path, strerror(errno)), NULL);
}

static void new_vhd(struct call *c)
{
	json_t *paths = call_list(c, "Path"), *item;
	size_t i;
	if (call_switch(c, "Differencing") || call_parameter(c, "ParentPath")) {
		call_error(c, "NotSupported", NULL, "Failed to create the virtual hard disk.",
			   "Nestor makes raw disks, which cannot be differences to another.",
			   "Copy the parent: cp --sparse=always PARENT NEW.img");
		goto out;
	}
	if (call_switch(c, "Dynamic"))
		call_say(c, "information", "The disk is a sparse file: it takes room as it is written.");
	json_array_foreach(paths, i, item) {
		const char *path = disks_default_path(c, json_is_string(item) ? json_string_value(item) : "");
		if (path && call_should(c, call_text(c, "New-VHD will create the virtual hard disk \"%s\".", path)) &&
		    !disks_create(c, path, json_integer_value(call_parameter(c, "SizeBytes"))))
			show_vhd(c, path);
	}
out:
	json_decref(paths);
}

static void get_vhd(struct call *c)
{
	json_t *paths = call_list(c, "Path"), *ids = call_list(c, "VMId"), *item, *drive;
	size_t i, d;
	json_array_foreach(paths, i, item) {
		const char *path = json_is_string(item) ? call_path(c, json_string_value(item)) : NULL;
		if (path)
			show_vhd(c, path);
	}
	json_array_foreach(ids, i, item) {
		json_t *vm = store_find(c->service->store, STORE_VM,
					json_is_string(item) ? json_string_value(item) : "");
		json_array_foreach(json_object_get(vm, "Drives"), d, drive)
			show_vhd(c, get_text(drive, "Path"));
	}
	json_decref(paths);
	json_decref(ids);
}

const struct cmdlet disk_cmdlets[] = {
	{ "Add-VMHardDiskDrive", add_drive, " ControllerType ControllerNumber ControllerLocation Path ",
	  "VMName" },
	{ "Get-VMHardDiskDrive", get_drive, " ControllerType ControllerNumber ControllerLocation ", "VMName" },
	{ "Remove-VMHardDiskDrive", remove_drive,
	  " VMHardDiskDrive ControllerType ControllerNumber ControllerLocation ", "VMName" },
	{ "New-VHD", new_vhd, " Path SizeBytes Fixed Dynamic Differencing ParentPath ", NULL },
	{ "Get-VHD", get_vhd, " Path VMId ", NULL },
	{ NULL }
};
