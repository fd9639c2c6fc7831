/* Virtual hard disks: New-VHD, Get-VHD, and what else makes and checks files.
 *
 * What a disk is, its headers say, which disk/image.c reads; qemu-img makes what
 * is not raw. The name decides the format (disk/image.h). */
#include "service/disks.h"

#include "base/bits.h"
#include "service/machine.h"
#include "service/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
	SECTOR = 512, SECTOR_4K = 4096,
	WORDS_SIZE = 400,	/* of what qemu-img says */
	NOT_FOUND = 127,	/* of posix_spawnp's child, where it tells by status */
	ARGUMENTS = 16,
};

#define SIZE_MOST ((int64_t)(64 * 1024 * GIB))
#define VHD_SIZE_MOST ((int64_t)(2040 * GIB))
#define RAW_SIZE_LEAST ((int64_t)MIB)
#define VHD_SIZE_LEAST ((int64_t)(3 * MIB))
#define VHDX_BLOCK_DEFAULT (32 * MIB)
#define VHD_BLOCK (2 * MIB)

static const char create_sentence[] = "Failed to create the virtual hard disk.";
static const char install_remedy[] = "sudo apt-get install qemu-utils";

/* What may be made of each format. */
static const struct format_rules {
	int64_t size_least, size_most;
	uint64_t block_least, block_most;	/* a power of two from .. to; 0: it has none */
	bool fixed;
	bool physical_4k;			/* it records physical sectors of 4096 bytes */
} rules[] = {
	[DISK_FORMAT_RAW] = { RAW_SIZE_LEAST, SIZE_MOST, 0, 0, true, false },
	[DISK_FORMAT_VHD] = { VHD_SIZE_LEAST, VHD_SIZE_MOST, VHD_BLOCK, VHD_BLOCK, true, false },
	[DISK_FORMAT_VHDX] = { VHD_SIZE_LEAST, SIZE_MOST, MIB, 256 * MIB, true, true },
	[DISK_FORMAT_QCOW2] = { RAW_SIZE_LEAST, SIZE_MOST, SECTOR, 2 * MIB, false, false },
};

/* A disk to be made. */
struct order {
	const char *path, *parent;
	enum disk_format format, parent_format;
	bool fixed;
	int64_t size;
	uint64_t block;		/* 0: the format's default */
	uint32_t physical_sector;
};

const char *disks_default_path(struct call *c, const char *path)
{
	struct error e;
	if (strchr(path, '/'))
		return call_path(c, path);
	const char *folder = call_text(c, "%s/Virtual Hard Disks", paths_store());
	if (!paths_make_folder(folder, 0700, &e))
		return call_text(c, "%s/%s", folder, path);
	call_error(c, "OperationFailed", path, create_sentence, e.text, NULL);
	return NULL;
}

/* Faults. */

const char *disks_sentence(enum disk_fault fault)
{
	static const char *const sentences[] = {
		[DISK_FAULT_MISSING] = "The system cannot find the file specified.",
		[DISK_FAULT_DENIED] = "General access denied error.",
		[DISK_FAULT_CORRUPT] = "The file or directory is corrupted and unreadable.",
		[DISK_FAULT_PARENT] = "The chain of virtual hard disks is broken. The system cannot locate the parent virtual hard disk for the differencing disk.",
		[DISK_FAULT_UNSUPPORTED] = "The virtual hard disk is not supported.",
	};
	return sentences[fault];
}

const char *disks_remedy(struct call *c, const char *path, enum disk_fault fault)
{
	enum disk_format format = disk_format_of(path);
	switch (fault) {
	case DISK_FAULT_CORRUPT:
		return format == DISK_FORMAT_RAW ?
			call_text(c, "truncate -s SIZE '%s' makes it as large as the disk shall be.", path) :
			call_text(c, "qemu-img check -f %s '%s' examines it; qemu-img info '%s' says what it is, if its name is wrong.",
				  disk_format_driver(format), path, path);
	case DISK_FAULT_PARENT:
		return call_text(c, "Put the parent back, or name the place it is at now: qemu-img rebase -u -f qcow2 -F FORMAT -b PARENT '%s'.",
				 path);
	case DISK_FAULT_UNSUPPORTED:
		return format == DISK_FORMAT_VHD || format == DISK_FORMAT_VHDX ?
			"Where it was made, Convert-VHD -VHDType Dynamic makes a disk without a parent of it." : NULL;
	default:
		return NULL;
	}
}

static void fault_error(struct call *c, const char *path, enum disk_fault fault, const char *reason)
{
	const char *remedy = fault == DISK_FAULT_MISSING ?
		call_text(c, "New-VHD -Path '%s' -SizeBytes 10GB makes one.", path) :
		disks_remedy(c, path, fault);
	call_error(c, fault == DISK_FAULT_MISSING ? "ObjectNotFound" :
		   fault == DISK_FAULT_UNSUPPORTED ? "NotSupported" : "InvalidParameter", path,
		   disks_sentence(fault), reason, remedy);
}

/* A container under a raw disk's name would be shown to the guest as it is. */
static void warn_of_container(struct call *c, const char *path)
{
	static const struct { const char *mark, *name, *end; } containers[] = {
		{ "vhdxfile", "VHDX", "vhdx" }, { "conectix", "VHD", "vhd" }, { "QFI\xfb", "qcow2", "qcow2" },
	};
	char head[8];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool read_well = fd >= 0 && pread(fd, head, sizeof head, 0) == sizeof head;
	if (fd >= 0)
		close(fd);
	for (unsigned i = 0; read_well && i < ARRAY_SIZE(containers); i++)
		if (!memcmp(head, containers[i].mark, strlen(containers[i].mark)))
			call_say(c, "warning",
				 call_text(c, "%s begins as a %s disk does, but by its name it is raw, so the guest is shown the file as it is. If it is a %s disk, name it NAME.%s.",
					   path, containers[i].name, containers[i].name, containers[i].end));
}

int disks_check(struct call *c, const char *path)
{
	struct disk_chain chain;
	struct error e;
	enum disk_fault fault = disk_chain_read(&chain, path, &e);
	if (fault) {
		fault_error(c, path, fault, e.text);
		return -1;
	}
	if (chain.image[0].format == DISK_FORMAT_RAW)
		warn_of_container(c, path);
	disk_chain_free(&chain);
	return 0;
}

/* Who uses a disk. */

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;
	return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev &&
				 x.st_ino == y.st_ino);
}

/* A disk is written, its parents are read. */
bool disks_conflict(const struct disk_chain *chain, const char *path)
{
	struct disk_chain other;
	struct error e;
	bool conflict = false;
	if (disk_chain_read(&other, path, &e))
		return false;
	for (unsigned i = 0; i < chain->count; i++)
		for (unsigned j = 0; j < other.count; j++)
			conflict = conflict || ((!i || !j) &&
				same_file(chain->image[i].path, other.image[j].path));
	disk_chain_free(&other);
	return conflict;
}

const char *disks_user(struct call *c, const char *but_id, const struct disk_chain *chain)
{
	for (struct machine *m = c->service->machines; m; m = m->next) {
		json_t *disk;
		size_t i;
		if (!strcmp(m->id, but_id))
			continue;
		json_array_foreach(json_object_get(m->config, "Disks"), i, disk)
			if (disks_conflict(chain, get_text(disk, "Path")))
				return get_text(store_find(c->service->store, STORE_VM, m->id), "Name");
	}
	return NULL;
}

/* Does a running VM use the file, as a disk or a parent? */
static bool is_attached(struct service *s, const char *path)
{
	for (struct machine *m = s->machines; m; m = m->next) {
		json_t *disk;
		size_t i;
		json_array_foreach(json_object_get(m->config, "Disks"), i, disk) {
			struct disk_chain chain;
			struct error e;
			bool found = false;
			if (disk_chain_read(&chain, get_text(disk, "Path"), &e))
				continue;
			for (unsigned n = 0; n < chain.count; n++)
				found = found || same_file(chain.image[n].path, path);
			disk_chain_free(&chain);
			if (found)
				return true;
		}
	}
	return false;
}

/* Making. */

static void create_error(struct call *c, const char *path, const char *kind, const char *detail,
			 const char *reason, const char *remedy)
{
	call_error(c, kind, path, call_text(c, "%s%s%s", create_sentence, *detail ? "\n" : "", detail),
		   reason, remedy);
}

static void host_error(struct call *c, const char *path, int reason)
{
	const char *remedy = reason == EEXIST ? "Name another file, or remove that one." :
		reason == ENOSPC || reason == EDQUOT ?
		"Make room there, name a file on another disk, or leave -Fixed out." : NULL;
	create_error(c, path, reason == EEXIST ? "InvalidParameter" : "OperationFailed",
		call_text(c, "The system failed to create '%s'. %s", path,
			  reason == EEXIST ? "The file exists." :
			  reason == ENOENT ? "The system cannot find the path specified." :
			  reason == ENOSPC || reason == EDQUOT ? "There is not enough space on the disk." :
			  reason == EACCES || reason == EPERM || reason == EROFS ? "Access is denied." : ""),
		call_text(c, "%s: %s.", path, strerror(reason)), remedy);
}

/* qemu-img create, into a file that is there and empty. */
static int run_qemu_img(struct call *c, const struct order *o, char *const arguments[])
{
	posix_spawn_file_actions_t actions;
	char words[WORDS_SIZE] = "";
	int status = 0, said = memfd_create("qemu-img", MFD_CLOEXEC);
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, said, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, said, STDERR_FILENO);
	int failed = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (!failed)
		waitpid(pid, &status, 0);
	if (failed == ENOENT || (!failed && WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)) {
		create_error(c, o->path, "NotSupported", "",
			call_text(c, "A %s disk is made by the program qemu-img, which is not installed.",
				  disk_format_name(o->format)), install_remedy);
		failed = ENOENT;
	} else if (failed || !WIFEXITED(status) || WEXITSTATUS(status)) {
		ssize_t n = failed ? 0 : pread(said, words, sizeof words - 1, 0);
		words[n > 0 ? n : 0] = 0;
		words[strcspn(words, "\n")] = 0;
		if (strstr(words, strerror(ENOSPC)))
			host_error(c, o->path, ENOSPC);
		else
			create_error(c, o->path, "OperationFailed",
				call_text(c, "The system failed to create '%s'.", o->path),
				failed ? call_text(c, "qemu-img cannot be started (%s).", strerror(failed)) :
				call_text(c, "%s", *words ? words : "qemu-img failed."), NULL);
		failed = EIO;
	}
	close(said);
	return failed ? -1 : 0;
}

static int make_container(struct call *c, const struct order *o)
{
	const char *options = o->format == DISK_FORMAT_VHDX ?
		call_text(c, "subformat=%s,block_size=%llu", o->fixed ? "fixed" : "dynamic",
			  (unsigned long long)(o->block ? o->block : VHDX_BLOCK_DEFAULT)) :
		o->format == DISK_FORMAT_VHD ?
		call_text(c, "subformat=%s,force_size=on", o->fixed ? "fixed" : "dynamic") :
		o->block ? call_text(c, "cluster_size=%llu", (unsigned long long)o->block) :
		"compat=1.1";
	const char *words[ARGUMENTS] = { "qemu-img", "create", "-q", "-f",
		disk_format_driver(o->format), "-o", options };
	unsigned n = 7;
	if (o->parent) {
		/* -u: the parent was looked at already. */
		words[n++] = "-u";
		words[n++] = "-F";
		words[n++] = disk_format_driver(o->parent_format);
		words[n++] = "-b";
		words[n++] = o->parent;
	}
	words[n++] = o->path;
	words[n++] = call_text(c, "%lld", (long long)o->size);
	return run_qemu_img(c, o, (char *const *)(uintptr_t)words);
}

/* The file is there, empty and ours. */
static int fill(struct call *c, const struct order *o, int fd)
{
	struct error e;
	struct stat st;
	if (o->format == DISK_FORMAT_RAW ? ftruncate(fd, o->size) : 0) {
		host_error(c, o->path, errno);
		return -1;
	}
	if (o->format != DISK_FORMAT_RAW && make_container(c, o))
		return -1;
	if (o->format == DISK_FORMAT_VHDX &&
	    disk_vhdx_set_physical_sector(o->path, o->physical_sector, &e)) {
		create_error(c, o->path, "OperationFailed", "", e.text, NULL);
		return -1;
	}
	if (!o->fixed)
		return 0;
	/* All of its room now, so that the guest does not find that there is none.
	 * A file system that cannot promise that is no reason against the disk. */
	if (fstat(fd, &st) || (fallocate(fd, 0, 0, st.st_size) && errno != EOPNOTSUPP)) {
		host_error(c, o->path, errno);
		return -1;
	}
	return 0;
}

static int create(struct call *c, const struct order *o)
{
	int fd = open(o->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		host_error(c, o->path, errno);
		return -1;
	}
	int result = fill(c, o, fd);
	close(fd);
	if (result)
		unlink(o->path);
	return result;
}

static int invalid(struct call *c, const struct order *o, const char *reason, const char *remedy)
{
	create_error(c, o->path, "InvalidParameter", "", reason, remedy);
	return -1;
}

static int check_name(struct call *c, const struct order *o)
{
	const char *dot = strrchr(o->path, '.');
	bool checkpoint = dot && (!strcasecmp(dot, ".avhdx") || !strcasecmp(dot, ".avhd"));
	if (disk_is_named(o->path) && !checkpoint)
		return 0;
	create_error(c, o->path, "InvalidParameter",
		"A virtual disk support provider for the specified file was not found.",
		checkpoint ? call_text(c, "%s has the name of a checkpoint's disk.", o->path) :
		call_text(c, "The format of a disk is what its name ends with, and %s ends with none.", o->path),
		"Name it NAME.vhdx, NAME.vhd, NAME.qcow2, or NAME.img for a raw disk.");
	return -1;
}

static int check_size(struct call *c, const struct order *o)
{
	const struct format_rules *r = &rules[o->format];
	if (o->size >= r->size_least && o->size <= r->size_most && !(o->size % SECTOR))
		return 0;
	return invalid(c, o,
		call_text(c, "The size %lld is not from %lld MB to %lld GB in multiples of 512 bytes, as the format %s has it.",
			  (long long)o->size, (long long)(r->size_least / (int64_t)MIB),
			  (long long)(r->size_most / (int64_t)GIB), disk_format_name(o->format)), NULL);
}

static int check_layout(struct call *c, const struct order *o)
{
	const struct format_rules *r = &rules[o->format];
	const char *name = disk_format_name(o->format);
	if (o->fixed && !r->fixed)
		return invalid(c, o, call_text(c, "A %s disk grows as it is written; it has no fixed type.", name),
			       "Leave -Fixed out, or name it NAME.img, NAME.vhd or NAME.vhdx.");
	if (o->block && r->block_most &&
	    (o->block & (o->block - 1) || o->block < r->block_least || o->block > r->block_most))
		return invalid(c, o, r->block_least == r->block_most ?
			call_text(c, "-BlockSizeBytes %llu: the blocks of a %s disk have %llu bytes.",
				  (unsigned long long)o->block, name, (unsigned long long)r->block_most) :
			call_text(c, "-BlockSizeBytes %llu is not a power of two from %llu to %llu, as the format %s has it.",
				  (unsigned long long)o->block, (unsigned long long)r->block_least,
				  (unsigned long long)r->block_most, name), NULL);
	return 0;
}

static int check_sectors(struct call *c, struct order *o)
{
	json_t *logical = call_parameter(c, "LogicalSectorSizeBytes");
	json_t *physical = call_parameter(c, "PhysicalSectorSizeBytes");
	json_int_t bytes = json_integer_value(physical);
	if (logical && json_integer_value(logical) != SECTOR)
		return invalid(c, o,
			call_text(c, "-LogicalSectorSizeBytes %lld: qemu-nbd and the other formats have logical sectors of 512 bytes.",
				  json_integer_value(logical)),
			"Leave it out; -PhysicalSectorSizeBytes 4096 makes a VHDX whose guest writes in 4096 bytes where it can.");
	o->physical_sector = rules[o->format].physical_4k ? SECTOR_4K : SECTOR;
	if (!physical || bytes == o->physical_sector)
		return 0;
	o->physical_sector = (uint32_t)bytes;
	if (bytes == SECTOR || (bytes == SECTOR_4K && rules[o->format].physical_4k))
		return 0;
	return invalid(c, o, call_text(c, "-PhysicalSectorSizeBytes %lld: a %s disk has %s.", bytes,
			disk_format_name(o->format), rules[o->format].physical_4k ?
			"512 or 4096" : "512; only VHDX records another"), NULL);
}

/* Of a differencing disk: its parent, and its size from that. */
static int check_parent(struct call *c, struct order *o)
{
	const char *given = call_string(c, "ParentPath");
	struct disk_chain chain;
	struct error e;
	if (!given)
		return 0;
	if (o->format != DISK_FORMAT_QCOW2) {
		const char *dot = strrchr(o->path, '.');
		create_error(c, o->path, "NotSupported", "", o->format == DISK_FORMAT_RAW ?
			"A raw disk cannot be the difference to another." :
			call_text(c, "qemu-nbd, which reads and writes %s for Nestor, has no differencing %s disks.",
				  disk_format_name(o->format), disk_format_name(o->format)),
			call_text(c, "New-VHD -Path '%.*s.qcow2' -ParentPath '%s' -Differencing; the parent may be of any format.",
				  (int)(dot - o->path), o->path, given));
		return -1;
	}
	o->parent = call_path(c, given);
	if (!o->parent)
		return -1;
	enum disk_fault fault = disk_chain_read(&chain, o->parent, &e);
	if (fault) {
		create_error(c, o->path, "ObjectNotFound",
			disks_sentence(fault == DISK_FAULT_MISSING ? DISK_FAULT_PARENT : fault), e.text,
			fault == DISK_FAULT_MISSING ? NULL : disks_remedy(c, o->parent, fault));
		return -1;
	}
	int64_t least = (int64_t)chain.image[0].size;
	unsigned generations = chain.count;
	o->parent_format = chain.image[0].format;
	disk_chain_free(&chain);
	if (!disk_is_named(o->parent))
		return invalid(c, o, call_text(c, "The parent %s is not called a disk (.vhdx, .vhd, .qcow2, .img, .raw).",
					       o->parent), "Rename it.");
	if (generations == DISK_CHAIN_MAX)
		return invalid(c, o, call_text(c, "%s has %d parents already.", o->parent, DISK_CHAIN_MAX - 1),
			       NULL);
	if (!call_parameter(c, "SizeBytes"))
		o->size = least;
	if (o->size < least)
		return invalid(c, o, call_text(c, "The size %lld is less than the parent's, %lld.",
					       (long long)o->size, (long long)least),
			       "Leave -SizeBytes out: the disk is as large as its parent.");
	return 0;
}

/* What can be refused before anything is made. */
static int check_order(struct call *c, struct order *o)
{
	return check_name(c, o) || check_parent(c, o) || check_size(c, o) || check_layout(c, o) ||
		check_sectors(c, o) ? -1 : 0;
}

int disks_create(struct call *c, const char *path, int64_t size)
{
	struct order o = { .path = path, .format = disk_format_of(path), .size = size };
	return check_order(c, &o) || create(c, &o) ? -1 : 0;
}

/* Showing. */

static json_t *known(const char *text)
{
	return text && *text ? text_json(text) : json_null();
}

static void show(struct call *c, const char *path)
{
	static const char *const types[] = {
		[DISK_TYPE_FIXED] = "Fixed", [DISK_TYPE_DYNAMIC] = "Dynamic",
		[DISK_TYPE_DIFFERENCING] = "Differencing",
	};
	struct disk_image i;
	struct error e;
	enum disk_fault fault = disk_image_read(&i, path, &e);
	if (fault) {
		fault_error(c, path, fault, e.text);
		return;
	}
	json_t *object = json_pack("{s:s,s:s,s:o,s:s,s:s,s:I,s:I,s:n,s:i,s:i,s:I,s:o,s:o,s:n,s:i,s:b,s:n}",
		"$type", "VirtualHardDisk", "ComputerName", "localhost", "Path", text_json(path),
		"VhdFormat", disk_format_name(i.format), "VhdType", types[i.type],
		"FileSize", (json_int_t)i.file_size, "Size", (json_int_t)i.size, "MinimumSize",
		"LogicalSectorSize", (int)i.logical_sector, "PhysicalSectorSize", (int)i.physical_sector,
		"BlockSize", (json_int_t)i.block_size, "ParentPath", known(i.parent),
		"DiskIdentifier", known(i.identifier), "FragmentationPercentage",
		"Alignment", i.aligned ? 1 : 0, "Attached", is_attached(c->service, path), "DiskNumber");
	disk_image_free(&i);
	call_object(c, object);
}

static void new_vhd(struct call *c)
{
	json_t *paths = call_list(c, "Path"), *item;
	size_t i;
	json_array_foreach(paths, i, item) {
		const char *path = json_is_string(item) ? call_path(c, json_string_value(item)) : NULL;
		if (!path)
			continue;
		struct order o = { .path = path, .format = disk_format_of(path),
			.fixed = call_switch(c, "Fixed"),
			.size = json_integer_value(call_parameter(c, "SizeBytes")),
			.block = (uint64_t)json_integer_value(call_parameter(c, "BlockSizeBytes")) };
		if (!check_order(c, &o) &&
		    call_should(c, call_text(c, "New-VHD will create the virtual hard disk \"%s\".", path)) &&
		    !create(c, &o))
			show(c, path);
	}
	json_decref(paths);
}

static void get_vhd(struct call *c)
{
	json_t *paths = call_list(c, "Path"), *ids = call_list(c, "VMId"), *item, *drive;
	size_t i, d;
	json_array_foreach(paths, i, item) {
		const char *path = json_is_string(item) ? call_path(c, json_string_value(item)) : NULL;
		if (path)
			show(c, path);
	}
	json_array_foreach(ids, i, item) {
		json_t *vm = store_find(c->service->store, STORE_VM,
					json_is_string(item) ? json_string_value(item) : "");
		if (!vm)
			call_error(c, "ObjectNotFound", json_string_value(item),
				   "Hyper-V was unable to find the virtual machine.",
				   call_text(c, "No virtual machine has the id %s.", json_is_string(item) ?
					     json_string_value(item) : ""), "Get-VM | Select-Object Name, Id");
		json_array_foreach(json_object_get(vm, "Drives"), d, drive)
			show(c, get_text(drive, "Path"));
	}
	json_decref(paths);
	json_decref(ids);
}

const struct cmdlet vhd_cmdlets[] = {
	{ "New-VHD", new_vhd,
	  " Path SizeBytes Fixed Dynamic Differencing ParentPath BlockSizeBytes LogicalSectorSizeBytes"
	  " PhysicalSectorSizeBytes ", NULL },
	{ "Get-VHD", get_vhd, " Path VMId ", NULL },
	{ NULL }
};
