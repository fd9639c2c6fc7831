#include "service/guest.h"

#include "service/vethernet.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ACPI specification, "System Description Table Header": OEMID. */
enum { OEM_ID_AT = 10, OEM_ID_SIZE = 6 };

enum { CPUINFO_SIZE = 16384 };

bool guest_is_nestors(void)
{
	char oem[OEM_ID_SIZE];
	int fd = open("/sys/firmware/acpi/tables/FACP", O_RDONLY | O_CLOEXEC);
	bool is = fd >= 0 && pread(fd, oem, sizeof oem, OEM_ID_AT) == sizeof oem &&
		!memcmp(oem, "NESTOR", sizeof oem);
	if (fd >= 0)
		close(fd);
	return is;
}

/* Hardware, or what a hypervisor shows as such. */
static bool has_device(const char *interface)
{
	char path[64];
	snprintf(path, sizeof path, "/sys/class/net/%s/device", interface);
	return !access(path, F_OK);
}

bool guest_interface(unsigned number, char *name, size_t room)
{
	struct if_nameindex *all = if_nameindex();
	bool found = false;
	for (int with_device = 1; with_device >= 0; with_device--)
		for (struct if_nameindex *i = all; i && i->if_index && !found; i++)
			if (strcmp(i->if_name, "lo") && has_device(i->if_name) == with_device &&
			    !vethernet_is(i->if_name) && !number--) {
				snprintf(name, room, "%s", i->if_name);
				found = true;
			}
	if (all)
		if_freenameindex(all);
	return found;
}

enum guest_extensions guest_extensions(void)
{
	char text[CPUINFO_SIZE];
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 2);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	char *flags = strstr(text, "\nflags"), *end = flags ? strchr(flags + 1, '\n') : NULL;
	if (!flags)
		return EXTENSIONS_NONE;
	if (end)
		memcpy(end, " ", sizeof " ");
	return strstr(flags, " vmx ") ? EXTENSIONS_VMX : strstr(flags, " svm ") ? EXTENSIONS_SVM :
		EXTENSIONS_NONE;
}

int guest_be_hypervisor(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0ul);
	if (kvm >= 0)
		close(kvm);
	return vm;
}

void guest_load_module(const char *name)
{
	char *const argv[] = { "modprobe", (char *)name, NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	if (!posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ))
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	posix_spawn_file_actions_destroy(&actions);
}
