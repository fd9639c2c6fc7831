/* Start-VM: look at everything that can be known before, fail early and named,
 * then start the worker. The order is from cheap to dear. */
#include "service/start.h"

#include "base/bits.h"
#include "disk/nbd_server.h"
#include "engines.h"
#include "service/balance.h"
#include "service/disks.h"
#include "service/guest.h"
#include "service/machine.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/settings.h"
#include "service/vm_object.h"
#include "vm/engine_select.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a VM without a kernel of its own boots: the image that has images for its
 * own VMs; inside such a VM the same without them. The kernel's tests of its
 * ciphers are left out, two thirds of a boot's instructions. */
enum { IMAGE_PARTS = 2 };
static const char image_kernel[] = "vmlinuz", *const image_initrds[][IMAGE_PARTS] = {
	{ "l1.cpio" }, { "l2.cpio", "nestor.cpio" },
};
static const char image_append[] = "console=ttyS0 quiet nokaslr cryptomgr.notests";

enum {
	LINE_SIZE = 512,
	OWN_MEMORY = 64 << 20,
	MEMORY_BACK_MS = 10000,
	LOOK_MS = 200,
	KERNEL_MEMORY = 64 << 20,	/* what the image's needs beside its RAM disks */
	MEMORY_STEP = 32 << 20,
	HOST_NAME_LONGEST = 63,
};

/* The frame around every reason why a VM does not start. */
static int failed(struct call *c, json_t *vm, const char *kind, const char *detail,
		  const char *reason, const char *remedy)
{
	const char *name = get_text(vm, "Name");
	call_error(c, kind, name,
		   call_text(c, "'%s' failed to start. (Virtual machine ID %s)%s%s", name,
			     call_guid(c, vm), *detail ? "\n" : "", detail),
		   reason, remedy);
	return -1;
}

static const char no_nesting_sentence[] =
	"The virtual machine could not be started because this platform does not support nested virtualization.";

static int check_version(struct call *c, json_t *vm)
{
	const char *version = get_text(vm, "Version"), *name = get_text(vm, "Name");
	if (!get_true(json_object_get(vm, "Processor"), "ExposeVirtualizationExtensions") ||
	    vm_version_number(version) >= VM_VERSION_NESTING)
		return 0;
	return failed(c, vm, "InvalidState", no_nesting_sentence,
		call_text(c, "Nested virtualization needs configuration version 8.0 or later; %s has %s.",
			  name, version),
		call_text(c, "Update-VMVersion -Name '%s', or Set-VMProcessor -VMName '%s' -ExposeVirtualizationExtensions $false.",
			  name, name));
}

/* Inside a VM of Nestor its software engine would run on another such: that is
 * possible, and so slow that nobody wants it unasked. */
static int check_depth(struct call *c, json_t *vm, struct vm_config *config)
{
	const char *name = get_text(vm, "Name");
	char line[LINE_SIZE];
	struct error e = { 0 };
	config->engine = VM_ENGINE_KVM;
	if (guest_extensions() != EXTENSIONS_NONE &&
	    !engine_select(config, engines, engines_count, line, sizeof line, &e))
		return failed(c, vm, "InvalidState",
			call_text(c, "Virtual machine '%s' could not be started because the hypervisor is not running.", name),
			access("/dev/kvm", F_OK) ?
				"The processor has virtualization extensions, but KVM, which uses them, is not loaded." : e.text,
			"Install-WindowsFeature Hyper-V makes it ready.");
	call_say(c, "warning",
		 call_text(c, "%s will be very slow: this machine, itself a virtual one, sees no virtualization extensions, so that one software processor runs on another. On its host, while it is Off: Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
			   name));
	return 0;
}

/* The engines' and the worker's question to the same configuration. */
static int check_engine(struct call *c, json_t *vm, const char *engine)
{
	json_t *processor = json_object_get(vm, "Processor");
	struct vm_config config = {
		.memory = (uint64_t)get_integer(json_object_get(vm, "Memory"), "Startup"),
		.processors = (unsigned)get_integer(processor, "Count"),
		.engine = !strcmp(engine, "soft") ? VM_ENGINE_SOFT :
			!strcmp(engine, "kvm") ? VM_ENGINE_KVM : VM_ENGINE_AUTO,
		.expose_virtualization_extensions = get_true(processor, "ExposeVirtualizationExtensions"),
		.engine_options = "",
	};
	char line[LINE_SIZE];
	struct error e = { 0 }, other;
	const struct engine_ops *ops = engine_select(&config, engines, engines_count, line, sizeof line, &e);
	if (ops)
		return config.engine == VM_ENGINE_AUTO && !strcmp(ops->name, "soft") && guest_is_nestors() ?
			check_depth(c, vm, &config) : 0;
	bool nesting = config.expose_virtualization_extensions;
	config.expose_virtualization_extensions = false;
	nesting = nesting && engine_select(&config, engines, engines_count, line, sizeof line, &other);
	return failed(c, vm, "InvalidState", nesting ? no_nesting_sentence : "", e.text, nesting ?
		call_text(c, "Set-VMProcessor -VMName '%s' -ExposeVirtualizationExtensions $false starts it without.",
			  get_text(vm, "Name")) : NULL);
}

static int64_t memory_needed(json_t *vm)
{
	return get_integer(json_object_get(vm, "Memory"), "Startup") + OWN_MEMORY;
}

/* This system may be a VM whose memory follows its demand. It gets its Startup
 * memory back when a hypervisor runs in it, and KVM is one only while it has a
 * VM: so one is held until the worker has its own. The lock is let go meanwhile.
 * What to close afterwards, or -1. */
static int call_memory_back(struct call *c, json_t *vm)
{
	int64_t until = service_now() + MEMORY_BACK_MS;
	if (host_memory_free(c->service) >= memory_needed(vm) || !guest_is_nestors())
		return -1;
	int hypervisor = guest_be_hypervisor();
	while (hypervisor >= 0 && host_memory_free(c->service) < memory_needed(vm) &&
	       service_now() < until)
		service_wait(c->service, LOOK_MS);
	return hypervisor;
}

static int check_memory(struct call *c, json_t *vm)
{
	int64_t wanted = memory_needed(vm);
	int64_t available = host_memory_free(c->service);
	if (available >= wanted)
		return 0;
	return failed(c, vm, "OutOfMemory",
		call_text(c, "Not enough memory in the system to start the virtual machine %s.",
			  get_text(vm, "Name")),
		call_text(c, "It needs %lld MB; the host has %lld MB left for it.",
			  (long long)(wanted / (int64_t)MIB),
			  (long long)(available > 0 ? available / (int64_t)MIB : 0)),
		call_text(c, "Stop another virtual machine, or give this one less: Set-VMMemory -VMName '%s' -StartupBytes SIZE.",
			  get_text(vm, "Name")));
}

/* The most that the guest may be given while it runs: what the host has. It
 * costs nothing before, and both Startup of a VM without Dynamic Memory and
 * Maximum of one with it may be raised meanwhile. */
static int64_t most_memory(json_t *memory)
{
	int64_t startup = get_integer(memory, "Startup"), most = host_memory_total();
	most = most / (int64_t)(2 * MIB) * (int64_t)(2 * MIB);
	most = most < (int64_t)VM_MEMORY_MAX ? most : (int64_t)VM_MEMORY_MAX;
	return most > startup ? most : startup;
}

static int check_file(struct call *c, json_t *vm, const char *what, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int reason = errno;
	if (fd >= 0) {
		close(fd);
		return 0;
	}
	return failed(c, vm, "ObjectNotFound", "",
		call_text(c, "%s %s cannot be opened (%s).", what, path, strerror(reason)),
		call_text(c, "Set-VMFirmware -VMName '%s' names another.", get_text(vm, "Name")));
}

/* A drive's disk: sound, nobody's (disks are those that this VM has already), and
 * something there that can read it. */
static int check_disk(struct call *c, json_t *vm, json_t *drive, json_t *disks)
{
	const char *path = get_text(drive, "Path"), *user = NULL;
	char program[PATHS_MAX];
	struct disk_chain chain;
	json_t *other;
	size_t i;
	struct error e;
	enum disk_fault fault = disk_chain_read(&chain, path, &e);
	if (fault) {
		const char *remedy = disks_remedy(c, path, fault);
		return failed(c, vm, fault == DISK_FAULT_MISSING ? "ObjectNotFound" : "InvalidState",
			fault == DISK_FAULT_MISSING ? "" : disks_sentence(fault), e.text, remedy ? remedy :
			call_text(c, "Remove-VMHardDiskDrive -VMName '%s' -ControllerType %s -ControllerNumber %lld -ControllerLocation %lld takes it off.",
				  get_text(vm, "Name"), get_text(drive, "ControllerType"),
				  (long long)get_integer(drive, "ControllerNumber"),
				  (long long)get_integer(drive, "ControllerLocation")));
	}
	bool needs_program = !disk_image_is_flat(&chain.image[0]);
	const char *format = disk_format_name(chain.image[0].format);
	user = disks_user(c, get_text(vm, "Id"), &chain);
	json_array_foreach(disks, i, other)
		if (!user && disks_conflict(&chain, get_text(other, "Path")))
			user = get_text(vm, "Name");
	disk_chain_free(&chain);
	if (user)
		return failed(c, vm, "InvalidState",
			"The process cannot access the file because it is being used by another process.",
			call_text(c, "The disk %s is used by the virtual machine %s.", path, user),
			!strcmp(user, get_text(vm, "Name")) ?
			call_text(c, "Get-VMHardDiskDrive -VMName '%s' shows the drives; a disk and its parent cannot both be there.", user) :
			call_text(c, "Stop-VM -Name '%s', or give each a disk of its own.", user));
	if (access(path, R_OK | W_OK))
		return failed(c, vm, "PermissionDenied", disks_sentence(DISK_FAULT_DENIED),
			call_text(c, "The disk %s cannot be opened for reading and writing (%s).", path, strerror(errno)),
			call_text(c, "chmod u+rw '%s', or give the virtual machine a disk of its own.", path));
	if (needs_program && !nbd_server_find(program, sizeof program))
		return failed(c, vm, "NotSupported", "",
			call_text(c, "The disk %s has the format %s, which the program qemu-nbd reads and writes for Nestor, and that is not installed.",
				  path, format), "sudo apt-get install qemu-utils");
	return 0;
}

static int check_disks(struct call *c, json_t *vm, json_t *disks)
{
	json_t *drive;
	size_t i;
	json_array_foreach(json_object_get(vm, "Drives"), i, drive) {
		if (check_disk(c, vm, drive, disks))
			return -1;
		json_array_append_new(disks, json_pack("{s:s,s:b}", "Path", get_text(drive, "Path"),
						       "ReadOnly", 0));
	}
	return 0;
}

/* The VM's name as a host's name: letters, digits and hyphens. */
static const char *host_name(struct call *c, const char *name)
{
	char host[HOST_NAME_LONGEST + 1];
	size_t n = 0;
	for (; *name && n < HOST_NAME_LONGEST; name++)
		if (isalnum((unsigned char)*name))
			host[n++] = *name;
		else if (n && host[n - 1] != '-')
			host[n++] = '-';
	while (n && host[n - 1] == '-')
		n--;
	return n ? call_text(c, "%.*s", (int)n, host) : "nestor";
}

/* The Debian image's files into the configuration; false when one is not there. */
static bool take_image(json_t *config)
{
	char path[PATHS_MAX];
	if (!paths_image(path, sizeof path, image_kernel))
		return false;
	json_object_set_new(config, "Kernel", text_json(path));
	for (unsigned i = 0; i < ARRAY_SIZE(image_initrds); i++) {
		json_t *initrds = json_array();
		bool whole = true;
		for (unsigned part = 0; part < IMAGE_PARTS && image_initrds[i][part] && whole; part++) {
			whole = paths_image(path, sizeof path, image_initrds[i][part]);
			if (whole)
				json_array_append_new(initrds, text_json(path));
		}
		if (whole) {
			json_object_set_new(config, "Initrds", initrds);
			return true;
		}
		json_decref(initrds);
	}
	return false;
}

/* Its RAM disks are in memory twice while the kernel unpacks them. */
static int64_t image_memory(json_t *config)
{
	int64_t needed = KERNEL_MEMORY;
	json_t *initrd;
	struct stat st;
	size_t i;
	json_array_foreach(json_object_get(config, "Initrds"), i, initrd)
		if (!stat(json_string_value(initrd), &st))
			needed += 2 * st.st_size;
	return (needed + MEMORY_STEP - 1) / MEMORY_STEP * MEMORY_STEP;
}

static int choose_image(struct call *c, json_t *vm, json_t *config, const char *append)
{
	const char *name = get_text(vm, "Name");
	int64_t needed;
	if (!take_image(config))
		return failed(c, vm, "ObjectNotFound", "",
			call_text(c, guest_is_nestors() ?
				"%s has no disk and no kernel of its own, and this machine, itself a virtual one of Nestor's, has no Debian image that it could boot instead: there are images for two levels." :
				"%s has no disk and no kernel, and the Debian image that it would boot instead is not built.", name),
			call_text(c, guest_is_nestors() ? "Set-VMFirmware -VMName '%s' -KernelPath FILE." :
				"./demo or tools/images builds it; or Set-VMFirmware -VMName '%s' -KernelPath FILE.", name));
	needed = image_memory(config);
	if (get_integer(config, "Memory") < needed)
		return failed(c, vm, "OutOfMemory", "",
			call_text(c, "%s starts with %lld MB, and the Debian image, which it boots without a disk and a kernel of its own, needs %lld MB.",
				  name, (long long)(get_integer(config, "Memory") / (int64_t)MIB), (long long)(needed / (int64_t)MIB)),
			call_text(c, "Set-VMMemory -VMName '%s' -StartupBytes %lldMB", name, (long long)(needed / (int64_t)MIB)));
	json_object_set_new(config, "Append", text_json(*append ? append :
		call_text(c, "%s hostname=%s", image_append, host_name(c, name))));
	return 0;
}

/* What it boots: its own kernel, or the image that ./demo builds. */
static int choose_kernel(struct call *c, json_t *vm, json_t *config)
{
	json_t *firmware = json_object_get(vm, "Firmware");
	const char *kernel = get_text(firmware, "KernelPath"), *append = get_text(firmware, "KernelCommandLine");
	const char *initrd = get_text(firmware, "InitialRamdiskPath"), *name = get_text(vm, "Name");
	if (!*kernel && json_array_size(json_object_get(vm, "Drives")))
		return failed(c, vm, "NotSupported", "",
			call_text(c, "%s has a disk and no kernel, and booting from a disk needs firmware, which Nestor does not have yet.", name),
			call_text(c, "Set-VMFirmware -VMName '%s' -KernelPath FILE -InitialRamdiskPath FILE -KernelCommandLine \"root=/dev/vda1 console=ttyS0\"",
				  name));
	if (!*kernel)
		return choose_image(c, vm, config, append);
	if (check_file(c, vm, "The kernel", kernel) ||
	    (*initrd && check_file(c, vm, "The initial RAM disk", initrd)))
		return -1;
	json_object_set_new(config, "Initrds", *initrd ? json_pack("[o]", text_json(initrd)) : json_array());
	json_object_set_new(config, "Kernel", text_json(kernel));
	json_object_set_new(config, "Append", text_json(append));
	return 0;
}

static int check_and_start(struct call *c, json_t *vm)
{
	enum machine_state state = machine_state(c->service, get_text(vm, "Id"));
	json_t *processor = json_object_get(vm, "Processor");
	const char *asked = getenv("NESTOR_ENGINE"), *id = call_text(c, "%s", get_text(vm, "Id"));
	const char *engine = asked ? asked : "auto", *name = call_text(c, "%s", get_text(vm, "Name"));
	struct error e = { 0 };
	if (state == MACHINE_RUNNING || state == MACHINE_STARTING) {
		call_say(c, "warning", "The virtual machine is already in the specified state.");
		return 0;
	}
	if (state != MACHINE_OFF)
		return failed(c, vm, "InvalidState", wrong_state_sentence,
			call_text(c, "%s is %s.", name, machine_state_name(state)),
			state == MACHINE_PAUSED ? call_text(c, "Resume-VM -Name '%s'", name) : NULL);
	json_t *copy = json_deep_copy(vm), *disks = json_array();
	json_t *memory = json_object_get(vm, "Memory");
	json_t *config = json_pack("{s:s,s:s,s:I,s:I,s:I,s:b,s:s,s:o}", "Id", id, "Name", name,
		"Memory", (json_int_t)get_integer(memory, "Startup"),
		"MemoryMost", (json_int_t)most_memory(memory),
		"Processors", (json_int_t)get_integer(processor, "Count"),
		"ExposeVirtualizationExtensions", get_true(processor, "ExposeVirtualizationExtensions"),
		"Engine", engine, "Disks", disks);
	json_t *adapters = NULL;
	int result = -1;
	if (check_version(c, vm) || check_disks(c, vm, disks) || choose_kernel(c, vm, config) ||
	    check_engine(c, vm, engine) || check_memory(c, vm))
		goto out;
	adapters = network_prepare(c, copy);
	json_object_set_new(copy, "EndReason", json_string(""));
	if (!adapters || (!json_equal(copy, vm) && call_put(c, STORE_VM, copy)))
		goto out;
	json_object_set(config, "Adapters", adapters);
	result = machine_start(c->service, id, json_incref(config), &e);
	if (!result && !*get_text(json_object_get(copy, "Firmware"), "KernelPath"))
		call_say(c, "information",
			 call_text(c, "%s has no disk and no kernel of its own: it boots the Debian image with Nestor inside. Connect-VMConsole '%s' leads to its console.",
				   name, name));
	if (result) {
		/* The loaders speak of `nestor run`'s options. */
		char *option = strstr(e.text, "; raise --memory");
		if (option)
			strcpy(option, ".");
		failed(c, copy, e.status == STATUS_FAULT ? "OperationFailed" : "InvalidState", "", e.text, option ?
		       call_text(c, "Set-VMMemory -VMName '%s' -StartupBytes SIZE gives it more memory.", name) :
		       call_text(c, "Its log is %s.", paths_log(id)));
	}
out:
	json_decref(adapters);
	json_decref(config);
	json_decref(copy);
	return result;
}

int start_vm(struct call *c, json_t *vm)
{
	int hypervisor = call_memory_back(c, vm), result;
	if (hypervisor < 0 || json_equal(store_find(c->service->store, STORE_VM, get_text(vm, "Id")), vm))
		result = check_and_start(c, vm);
	else
		result = failed(c, vm, "InvalidState", "", "It was changed while it was about to start.",
				call_text(c, "Start-VM -Name '%s'", get_text(vm, "Name")));
	if (hypervisor >= 0)
		close(hypervisor);
	return result;
}
