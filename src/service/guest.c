#include "service/guest.h"

#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
			if (strcmp(i->if_name, "lo") && has_device(i->if_name) == with_device && !number--) {
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
