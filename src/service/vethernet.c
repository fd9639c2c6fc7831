#include "service/vethernet.h"

#include "net/interface.h"
#include "net/nat.h"
#include "service/guest.h"
#include "service/service.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOK_AGAIN_MS = 10000, ALIAS_SIZE = 256 };

static const char alias_begin[] = "vEthernet (", tun_device[] = "/dev/net/tun";

static const char *setting(void)
{
	const char *value = getenv("NESTOR_VETHERNET");
	return value && *value ? value : "auto";
}

bool vethernet_chosen(void)
{
	return !strcmp(setting(), "inside") || !strcmp(setting(), "tap");
}

bool has_capability(unsigned capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	if (syscall(SYS_capget, &header, data))
		return false;
	return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static bool tun_opens(void)
{
	int fd = open(tun_device, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool lacks(struct vethernet_place *p, const char *what, const char *reason, const char *remedy)
{
	p->lacking = true;
	snprintf(p->why, sizeof p->why, "%s (%s) %s", what, reason, remedy);
	return false;
}

static bool kernel_can(struct vethernet_place *p)
{
	static bool tried;
	struct error e;
	if (!tried && !tun_opens())
		guest_load_module("tun");
	tried = true;
	if (!tun_opens())
		return lacks(p, tun_device, strerror(errno), "cannot be opened; as root: modprobe tun.");
	return !kernel_nat_probe(&e) ||
		lacks(p, "The kernel's NAT", e.text, "cannot be used; as root: apt-get install nftables.");
}

const struct vethernet_place *vethernet_place(void)
{
	static struct vethernet_place place;
	static int64_t until;
	if (until && service_now() < until)
		return &place;
	place = (struct vethernet_place){ 0 };
	if (!strcmp(setting(), "tap")) {
		place.tap = true;
	} else if (strcmp(setting(), "auto")) {
		place.lacking = strcmp(setting(), "inside");
		snprintf(place.why, sizeof place.why, place.lacking ?
			 "NESTOR_VETHERNET is \"%s\", which is none of auto, inside and tap." :
			 "NESTOR_VETHERNET is \"%s\".", setting());
	} else if (!has_capability(CAP_NET_ADMIN)) {
		snprintf(place.why, sizeof place.why,
			 "A network interface of Linux needs the capability CAP_NET_ADMIN.");
	} else {
		place.tap = kernel_can(&place);
	}
	until = service_now() + LOOK_AGAIN_MS;
	return &place;
}

void vethernet_interface(const char *id, char name[IF_NAMESIZE])
{
	snprintf(name, IF_NAMESIZE, "vEth%.8s", id);
}

bool vethernet_is(const char *interface)
{
	char alias[ALIAS_SIZE];
	return interface_alias(interface, alias, sizeof alias) &&
		!strncmp(alias, alias_begin, sizeof alias_begin - 1);
}
