/* New-VHD, Get-VHD and VMHardDiskDrive, with real workers and qemu-nbds. */
#include "base/bits.h"
#include "cmdlet_test.h"
#include "../small_disk.h"
#include "service/machine.h"
#include "service/paths.h"
#include "service/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	MULTIBOOT_MAGIC = 0x1badb002, MULTIBOOT_ADDRESSES = 1 << 16, KERNEL_AT = 0x200000,
	WAIT_STEP_US = 20000, WAIT_STEPS = 500,
};

static char folder[] = "/tmp/test_disks.XXXXXX";
static struct service *service;

static json_t *ask(const char *method, json_t *params)
{
	/* As the shell does: where the user is. */
	json_object_set_new(params, "$Location", json_string(folder));
	service_lock(service);
	json_t *result = service_run(service, method, params, NULL);
	service_unlock(service);
	json_decref(params);
	return result;
}

static void shell(const char *command)
{
	if (system(command))
		fail_msg("failed: %s", command);
}

/* A guest that does nothing for ever. */
static void write_guest(void)
{
	const uint8_t code[] = { 0xfa, 0xf4, 0xeb, 0xfd };	/* 1: cli; hlt; jmp 1b */
	const uint32_t end = KERNEL_AT + 32 + sizeof code;
	const uint32_t header[8] = {
		MULTIBOOT_MAGIC, MULTIBOOT_ADDRESSES, -(uint32_t)(MULTIBOOT_MAGIC + MULTIBOOT_ADDRESSES),
		KERNEL_AT, KERNEL_AT, end, end, KERNEL_AT + sizeof header,
	};
	FILE *file = fopen("guest", "w");
	assert_non_null(file);
	fwrite(header, sizeof header, 1, file);
	fwrite(code, sizeof code, 1, file);
	fclose(file);
}

static int begin(void **state)
{
	struct error e = { 0 };
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s/*", folder);
	if (system(command) || paths_prepare(&e))
		return -1;
	write_guest();
	service = service_create(&e);
	if (!service)
		print_error("%s\n", e.text);
	return !service;
}

static int end(void **state)
{
	run("Stop-VM", "{'Name':['*'],'TurnOff':true}");
	json_decref(last);
	last = NULL;
	service_destroy(service);
	return 0;
}

static void new_vm(const char *name)
{
	fine("New-VM", "{'Name':'%s','MemoryStartupBytes':33554432}", name);
	fine("Set-VMFirmware", "{'VMName':['%s'],'KernelPath':'guest'}", name);
}

/* How many qemu-nbds have this file among their arguments. */
static unsigned servers(const char *file)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	unsigned found = 0;
	while ((entry = readdir(processes))) {
		char path[300], line[4096];
		snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
		int fd = *entry->d_name >= '1' && *entry->d_name <= '9' ? open(path, O_RDONLY) : -1;
		if (fd < 0)
			continue;
		ssize_t n = read(fd, line, sizeof line - 1);
		close(fd);
		if (n > 0 && !strcmp(line, "qemu-nbd") && memmem(line, (size_t)n, file, strlen(file)) &&
		    memmem(line, (size_t)n, folder, strlen(folder)))
			found++;
	}
	closedir(processes);
	return found;
}

static void wait_servers(const char *file, unsigned wanted)
{
	for (unsigned i = 0; i < WAIT_STEPS && servers(file) != wanted; i++)
		usleep(WAIT_STEP_US);
	assert_int_equal(servers(file), wanted);
}

static const char *full(const char *name)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void new_vhd_makes_what_the_name_says(void **state)
{
	struct stat st;
	fine("New-VHD", "{'Path':['a.vhdx'],'SizeBytes':104857600}");
	is("VhdFormat", "VHDX");
	is("VhdType", "Dynamic");
	is("Path", full("a.vhdx"));
	is_number("Size", 104857600);
	is_number("BlockSize", 32 << 20);
	is_number("LogicalSectorSize", 512);
	is_number("PhysicalSectorSize", 4096);
	is_number("Alignment", 1);
	assert_int_equal(strlen(get_text(object(0), "DiskIdentifier")), 36);
	assert_true(json_is_null(json_object_get(object(0), "ParentPath")));
	assert_true(json_is_null(json_object_get(object(0), "FragmentationPercentage")));
	assert_false(get_true(object(0), "Attached"));
	fine("New-VHD", "{'Path':['b.vhdx'],'SizeBytes':104857600,'BlockSizeBytes':1048576,'PhysicalSectorSizeBytes':512,'Fixed':true}");
	is("VhdType", "Fixed");
	is_number("BlockSize", 1 << 20);
	is_number("PhysicalSectorSize", 512);
	/* The room is taken. */
	assert_true(get_integer(object(0), "FileSize") >= 104857600);
	shell("qemu-img check -q -f vhdx a.vhdx && qemu-img check -q -f vhdx b.vhdx");
	fine("New-VHD", "{'Path':['a.vhd'],'SizeBytes':104857600,'Dynamic':true}");
	is("VhdFormat", "VHD");
	is("VhdType", "Dynamic");
	is_number("Size", 104857600);
	is_number("PhysicalSectorSize", 512);
	fine("New-VHD", "{'Path':['b.vhd'],'SizeBytes':104857600,'Fixed':true}");
	is("VhdType", "Fixed");
	is_number("Size", 104857600);
	fine("New-VHD", "{'Path':['a.qcow2','b.QCOW2'],'SizeBytes':104857600}");
	assert_int_equal(objects(), 2);
	is("VhdFormat", "qcow2");
	is("VhdType", "Dynamic");
	fine("New-VHD", "{'Path':['a.img'],'SizeBytes':104857600}");
	is("VhdFormat", "raw");
	is("VhdType", "Fixed");
	assert_int_equal(stat("a.img", &st), 0);
	assert_int_equal(st.st_size, 104857600);
	assert_int_equal(st.st_blocks, 0);
	fine("New-VHD", "{'Path':['%s'],'SizeBytes':2097152,'Fixed':true}", full("b.raw"));
	assert_int_equal(stat("b.raw", &st), 0);
	assert_true(st.st_blocks * 512 >= 2097152);
	assert_int_equal(st.st_mode & 0777, 0600);
	run("New-VHD", "{'Path':['c.vhdx'],'SizeBytes':104857600,'WhatIf':true}");
	assert_true(heard("whatif", "c.vhdx"));
	assert_int_equal(access("c.vhdx", F_OK), -1);
}

static void new_vhd_says_what_it_cannot(void **state)
{
	static const struct { const char *params, *sentence, *reason, *way; } wrong[] = {
		{ "'Path':['a'],'SizeBytes':4194304", "support provider for the specified file was not found", "ends with none", "NAME.vhdx" },
		{ "'Path':['a.vmdk'],'SizeBytes':4194304", "support provider", "ends with none", "NAME.vhdx" },
		{ "'Path':['a.avhdx'],'SizeBytes':4194304", "support provider", "checkpoint's disk", "NAME.vhdx" },
		{ "'Path':['a.vhdx'],'SizeBytes':1048576", "Failed", "3 MB to 65536 GB", "" },
		{ "'Path':['a.vhd'],'SizeBytes':2300000000000", "Failed", "3 MB to 2040 GB", "" },
		{ "'Path':['a.img'],'SizeBytes':1000", "Failed", "1 MB to 65536 GB in multiples of 512", "" },
		{ "'Path':['a.vhdx'],'SizeBytes':4194304,'BlockSizeBytes':3000000", "Failed", "power of two from 1048576", "" },
		{ "'Path':['a.vhd'],'SizeBytes':4194304,'BlockSizeBytes':524288", "Failed", "have 2097152 bytes", "" },
		{ "'Path':['a.qcow2'],'SizeBytes':4194304,'Fixed':true", "Failed", "no fixed type", "NAME.img" },
		{ "'Path':['a.vhdx'],'SizeBytes':4194304,'LogicalSectorSizeBytes':4096", "Failed", "512 bytes", "-PhysicalSectorSizeBytes 4096" },
		{ "'Path':['a.vhd'],'SizeBytes':4194304,'PhysicalSectorSizeBytes':4096", "Failed", "only VHDX", "" },
		{ "'Path':['a.vhdx'],'SizeBytes':4194304,'PhysicalSectorSizeBytes':1024", "Failed", "512 or 4096", "" },
		{ "'Path':['no/such/a.vhdx'],'SizeBytes':4194304", "cannot find the path", "No such file", "" },
		{ "'Path':['there.img'],'SizeBytes':4194304", "The file exists.", "File exists", "another file" },
		{ "'Path':['there.vhdx'],'SizeBytes':4194304", "The file exists.", "File exists", "another file" },
		{ "'Path':['a.vhdx'],'ParentPath':'there.img','Differencing':true", "Failed", "no differencing VHDX", "a.qcow2' -ParentPath 'there.img'" },
		{ "'Path':['a.vhd'],'ParentPath':'there.img','Differencing':true", "Failed", "no differencing VHD", "a.qcow2" },
		{ "'Path':['a.img'],'ParentPath':'there.img','Differencing':true", "Failed", "raw disk cannot", "a.qcow2" },
		{ "'Path':['a.qcow2'],'ParentPath':'none.vhdx'", "cannot locate the parent", "none.vhdx", "" },
		{ "'Path':['a.qcow2'],'ParentPath':'there.vhdx'", "corrupted and unreadable", "no sound VHDX", "qemu-img check" },
		{ "'Path':['a.qcow2'],'ParentPath':'there.img','SizeBytes':1048576", "Failed", "less than the parent's", "-SizeBytes out" },
		{ "'Path':['a.qcow2'],'ParentPath':'guest'", "Failed", "not called a disk", "Rename" },
	};
	shell("truncate -s 4M there.img there.vhdx guest");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		run("New-VHD", "{%s}", wrong[i].params);
		assert_holds("message", wrong[i].sentence, wrong[i].params, __LINE__);
		assert_holds("reason", wrong[i].reason, wrong[i].params, __LINE__);
		assert_holds("try", wrong[i].way, wrong[i].params, __LINE__);
		assert_non_null(error(0));
	}
	/* Nothing is left of them. */
	assert_int_equal(system("ls a* 2>/dev/null"), 2 << 8);
}

static void differencing(void **state)
{
	fine("New-VHD", "{'Path':['p.vhdx'],'SizeBytes':67108864}");
	fine("New-VHD", "{'Path':['m.qcow2'],'ParentPath':'p.vhdx','Differencing':true}");
	is("VhdType", "Differencing");
	is("ParentPath", full("p.vhdx"));
	is_number("Size", 67108864);
	fine("New-VHD", "{'Path':['c.qcow2'],'ParentPath':'m.qcow2','SizeBytes':134217728,'Differencing':true}");
	is_number("Size", 134217728);
	is("ParentPath", full("m.qcow2"));
	new_vm("lab");
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'c.qcow2'}");
	unlink("p.vhdx");
	fine("Get-VHD", "{'Path':['c.qcow2']}");
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'m.qcow2'}");
	says("cannot locate the parent virtual hard disk", "p.vhdx cannot be opened");
	offers("qemu-img rebase -u");
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start.", "p.vhdx cannot be opened");
	says("The chain of virtual hard disks is broken.", "");
	offers("qemu-img rebase -u");
}

static void drives(void **state)
{
	fine("New-VHD", "{'Path':['a.img','b.img'],'SizeBytes':1048576}");
	fine("New-VM", "{'Name':'lab'}");
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'a.img'}");
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'b.img','ControllerType':'SCSI','ControllerLocation':7,'Passthru':true}");
	is("ControllerType", "SCSI");
	is_number("ControllerLocation", 7);
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'%s'}", full("a.img"));
	says("being used by another process", "is on lab already: IDE controller number 0");
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'/nonexistent'}");
	says("cannot find the file", "No such file");
	offers("New-VHD");
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'%s'}", folder);
	says("access denied", "neither a file nor");
	fine("New-VHD", "{'Path':['c.vhdx'],'SizeBytes':4194304}");
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'c.vhdx','ControllerType':'IDE','ControllerNumber':0,'ControllerLocation':0}");
	says("at that place", "Location 0 on controller number 0 is taken");
	fine("Get-VMHardDiskDrive", "{'VMName':['lab']}");
	assert_int_equal(objects(), 2);
	/* Another disk, another place. */
	run("Set-VMHardDiskDrive", "{'VMName':'lab','Path':'c.vhdx'}");
	says("ambiguous", "2 drives");
	fine("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerType':'SCSI','Path':'c.vhdx','Passthru':true}");
	is("Path", full("c.vhdx"));
	run("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerType':'SCSI','Path':'a.img'}");
	says("being used by another process", "is on lab already");
	fine("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerType':'SCSI','ToControllerType':'IDE','ToControllerNumber':1,'Passthru':true}");
	is("ControllerType", "IDE");
	is_number("ControllerNumber", 1);
	is_number("ControllerLocation", 0);
	run("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerNumber':1,'ToControllerNumber':0,'ToControllerLocation':0}");
	says("at that place", "is taken");
	fine("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerNumber':1,'ToControllerLocation':0}");
	run("Set-VMHardDiskDrive", "{'VMName':'lab','ControllerNumber':3,'Path':'a.img'}");
	says("not found", "No drive");
	fine("Get-VMHardDiskDrive", "{'VMName':['lab']}");
	fine("Remove-VMHardDiskDrive", "{'VMHardDiskDrive':[{'Id':'%s'}]}", get_text(object(0), "Id"));
	fine("Get-VMHardDiskDrive", "{'VMName':['lab']}");
	assert_int_equal(objects(), 1);
	fine("New-VM", "{'Name':'two','NewVHDPath':'two.vhdx','NewVHDSizeBytes':4194304,'Generation':2}");
	fine("Get-VMHardDiskDrive", "{'VMName':['two']}");
	is("ControllerType", "SCSI");
	/* A bare name of New-VM's is the host's folder for them. */
	assert_non_null(strstr(get_text(object(0), "Path"), "/Virtual Hard Disks/two.vhdx"));
	fine("Get-VM", "{'Name':['two']}");
	fine("Get-VHD", "{'VMId':['%s']}", get_text(object(0), "Id"));
	is("VhdFormat", "VHDX");
	run("Get-VHD", "{'VMId':['00000000-0000-0000-0000-000000000000']}");
	says("unable to find", "00000000");
	run("Add-VMHardDiskDrive", "{'VMName':['two'],'ControllerType':'IDE','Path':'a.img'}");
	assert_holds("message", "no IDE controller", __FILE__, __LINE__);
	run("New-VM", "{'Name':'three','VHDPath':'none.vhdx'}");
	says("cannot find the file", "none.vhdx");
}

static void names_and_contents(void **state)
{
	fine("New-VM", "{'Name':'lab'}");
	fine("New-VHD", "{'Path':['a.qcow2'],'SizeBytes':4194304}");
	shell("cp a.qcow2 cloud.img; truncate -s 1M cloud.img; cp a.qcow2 wrong.vhdx; truncate -s 1M wrong.vhd");
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'cloud.img'}");
	assert_true(heard("warning", "begins as a qcow2 disk does, but by its name it is raw"));
	assert_true(heard("warning", "NAME.qcow2"));
	fine("Get-VHD", "{'Path':['cloud.img']}");
	is("VhdFormat", "raw");
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'wrong.vhdx'}");
	says("corrupted and unreadable", "no sound VHDX, which its name says");
	offers("qemu-img info");
	run("Get-VHD", "{'Path':['wrong.vhd']}");
	says("corrupted and unreadable", "footer");
	run("Get-VHD", "{'Path':['none.vhd']}");
	says("cannot find the file", "none.vhd");
}

static void a_vm_with_every_format(void **state)
{
	static const char *const names[] = { "a.vhdx", "b.vhd", "a.qcow2", "fixed.vhd", "a.img" };
	new_vm("lab");
	fine("New-VHD", "{'Path':['a.vhdx','b.vhd','a.qcow2','a.img'],'SizeBytes':4194304}");
	fine("New-VHD", "{'Path':['fixed.vhd'],'SizeBytes':4194304,'Fixed':true}");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'%s'}", names[i]);
	fine("Start-VM", "{'Name':['lab']}");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(servers(names[i]), i < 3);
	fine("Get-VHD", "{'Path':['a.vhdx']}");
	assert_true(get_true(object(0), "Attached"));
	run("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'a.vhdx'}");
	says("current state", "only while the virtual machine is Off; lab is Running");
	offers("Stop-VM -Name 'lab'");
	run("Remove-VMHardDiskDrive", "{'VMName':'lab','ControllerType':'IDE','ControllerNumber':0,'ControllerLocation':0}");
	says("current state", "lab is Running");
	fine("Stop-VM", "{'Name':['lab'],'TurnOff':true}");
	wait_servers("", 0);
	fine("Get-VHD", "{'Path':['a.vhdx']}");
	assert_false(get_true(object(0), "Attached"));
	/* A worker that is killed takes them with it; then it starts again. */
	fine("Start-VM", "{'Name':['lab']}");
	assert_int_equal(servers(""), 3);
	fine("Get-VM", "{'Name':['lab']}");
	kill((pid_t)get_integer(object(0), "ProcessId"), SIGKILL);
	wait_servers("", 0);
	for (unsigned i = 0; i < WAIT_STEPS; i++) {
		fine("Get-VM", "{'Name':['lab']}");
		if (!strcmp(get_text(object(0), "State"), "Off"))
			break;
		usleep(WAIT_STEP_US);
	}
	fine("Start-VM", "{'Name':['lab']}");
	assert_int_equal(servers(""), 3);
}

static void a_disk_is_used_once(void **state)
{
	static const struct { const char *one, *two; bool together; } pairs[] = {
		{ "p.vhdx", "p.vhdx", false }, { "p.img", "p.img", false },
		{ "p.vhdx", "c.qcow2", false }, { "c.qcow2", "p.vhdx", false },
		{ "c.qcow2", "d.qcow2", true }, { "p.img", "./link.img", false },
	};
	fine("New-VHD", "{'Path':['p.vhdx','p.img'],'SizeBytes':4194304}");
	fine("New-VHD", "{'Path':['c.qcow2','d.qcow2'],'ParentPath':'p.vhdx'}");
	shell("ln p.img link.img");
	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		new_vm("one");
		new_vm("two");
		fine("Add-VMHardDiskDrive", "{'VMName':['one'],'Path':'%s'}", pairs[i].one);
		fine("Add-VMHardDiskDrive", "{'VMName':['two'],'Path':'%s'}", pairs[i].two);
		fine("Start-VM", "{'Name':['one']}");
		if (pairs[i].together) {
			fine("Start-VM", "{'Name':['two']}");
		} else {
			run("Start-VM", "{'Name':['two']}");
			says("'two' failed to start.", "is used by the virtual machine one");
			offers("Stop-VM -Name 'one'");
		}
		fine("Stop-VM", "{'Name':['*'],'TurnOff':true}");
		fine("Remove-VM", "{'Name':['*'],'Force':true}");
	}
	/* Not by another program, either. */
	new_vm("one");
	fine("Add-VMHardDiskDrive", "{'VMName':['one'],'Path':'p.vhdx'}");
	pid_t other = fork();
	if (!other) {
		execlp("qemu-nbd", "qemu-nbd", "-f", "vhdx", "-k", full("socket"), "p.vhdx", NULL);
		_exit(1);
	}
	for (unsigned i = 0; i < WAIT_STEPS && access("socket", F_OK); i++)
		usleep(WAIT_STEP_US);
	run("Start-VM", "{'Name':['one']}");
	says("'one' failed to start.", "is in use by another virtual machine or program");
	kill(other, SIGTERM);
	waitpid(other, NULL, 0);
	/* A disk and its parent on one VM. */
	fine("Add-VMHardDiskDrive", "{'VMName':['one'],'Path':'c.qcow2'}");
	run("Start-VM", "{'Name':['one']}");
	says("'one' failed to start.", "c.qcow2 is used by the virtual machine one");
	offers("a disk and its parent cannot both be there");
}

static void without_qemu_utils(void **state)
{
	char *old = strdup(getenv("PATH"));
	new_vm("lab");
	fine("New-VHD", "{'Path':['a.vhdx'],'SizeBytes':4194304}");
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'a.vhdx'}");
	setenv("PATH", folder, 1);
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start.", "the program qemu-nbd reads and writes for Nestor, and that is not installed");
	assert_string_equal(get_text(error(0), "try"), "sudo apt-get install qemu-utils");
	run("New-VHD", "{'Path':['b.vhdx'],'SizeBytes':4194304}");
	says("Failed to create the virtual hard disk.", "qemu-img, which is not installed");
	assert_string_equal(get_text(error(0), "try"), "sudo apt-get install qemu-utils");
	assert_int_equal(access("b.vhdx", F_OK), -1);
	/* What needs no program works without it. */
	fine("New-VHD", "{'Path':['b.img'],'SizeBytes':4194304}");
	fine("Get-VHD", "{'Path':['a.vhdx']}");
	setenv("PATH", old, 1);
	free(old);
}

/* In a mount namespace with a small file system. */
static bool has_no_room(const char *name, const char *how)
{
	run("New-VHD", "{'Path':['small/%s'],'SizeBytes':8388608%s}", name, how);
	return error(0) && strstr(get_text(error(0), "message"), "There is not enough space on the disk.") &&
		strstr(get_text(error(0), "try"), "Make room");
}

static int on_a_full_disk(void)
{
	if (!small_disk("small"))
		return SMALL_DISK_SKIPPED;
	static const char *const names[] = { "a.img", "a.vhd", "a.vhdx" };
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!has_no_room(names[i], ",'Fixed':true") || system("test -z \"$(ls small)\""))
			return 1;
	/* Not even for what a growing one begins with. */
	return !system("head -c 4200000 /dev/zero >small/full 2>/dev/null") ||
		!has_no_room("b.vhdx", "") || !has_no_room("b.qcow2", "") ||
		system("test \"$(ls small)\" = full") ? 2 : 0;
}

static void a_full_disk(void **state)
{
	small_disk_test(on_a_full_disk);
}

#define DISKS(test) cmocka_unit_test_setup_teardown(test, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {
		DISKS(new_vhd_makes_what_the_name_says),
		DISKS(new_vhd_says_what_it_cannot),
		DISKS(differencing),
		DISKS(drives),
		DISKS(names_and_contents),
		DISKS(a_vm_with_every_format),
		DISKS(a_disk_is_used_once),
		DISKS(without_qemu_utils),
		DISKS(a_full_disk),
	};
	char command[128];
	/* Without it this very program would be started as the worker. */
	if (!getenv("NESTOR_EXECUTABLE")) {
		print_error("NESTOR_EXECUTABLE must name the program nestor.\n");
		return 1;
	}
	if (!mkdtemp(folder) || chdir(folder))
		return 1;
	setenv("NESTOR_STORE", folder, 1);
	setenv("NESTOR_ENGINE", "soft", 1);
	unsetenv("NESTOR_RUNTIME");
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return chdir("/") || system(command) ? 1 : result;
}
