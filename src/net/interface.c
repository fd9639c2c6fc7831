#include "net/interface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int request(unsigned long what, const char *name, struct ifreq *r)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	snprintf(r->ifr_name, sizeof r->ifr_name, "%s", name);
	int result = ioctl(fd, what, r), reason = errno;
	close(fd);
	errno = reason;
	return result;
}

int interface_up(const char *name)
{
	struct ifreq r = { 0 };
	if (request(SIOCGIFFLAGS, name, &r))
		return -1;
	r.ifr_flags |= IFF_UP;
	return request(SIOCSIFFLAGS, name, &r);
}

int interface_set_mac(const char *name, const uint8_t mac[MAC_LENGTH])
{
	struct ifreq r = { 0 };
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, mac, MAC_LENGTH);
	return request(SIOCSIFHWADDR, name, &r);
}

int interface_set_address(const char *name, const struct ipv4_prefix *p)
{
	struct ifreq r = { 0 };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = p->address };
	memcpy(&r.ifr_addr, &in, sizeof in);
	if (request(SIOCSIFADDR, name, &r))
		return -1;
	in.sin_addr = ipv4_mask(p->bits);
	memcpy(&r.ifr_netmask, &in, sizeof in);
	return request(SIOCSIFNETMASK, name, &r);
}

int interface_set_alias(const char *name, const char *alias)
{
	char path[128];
	snprintf(path, sizeof path, "/sys/class/net/%s/ifalias", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, alias, strlen(alias));
	close(fd);
	return n < 0 ? -1 : 0;
}

int interface_index(const char *name)
{
	struct ifreq r = { 0 };
	return request(SIOCGIFINDEX, name, &r) ? -1 : r.ifr_ifindex;
}

static const struct { uint32_t get, set; } offloads[] = {
	{ ETHTOOL_GRXCSUM, ETHTOOL_SRXCSUM }, { ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM },
	{ ETHTOOL_GTSO, ETHTOOL_STSO }, { ETHTOOL_GGSO, ETHTOOL_SGSO },
	{ ETHTOOL_GGRO, ETHTOOL_SGRO },
};

static bool offload(const char *name, uint32_t command, uint32_t *value)
{
	struct ethtool_value v = { command, *value };
	struct ifreq r = { .ifr_data = (char *)&v };
	bool done = !request(SIOCETHTOOL, name, &r);
	*value = v.data;
	return done;
}

unsigned interface_offloads_off(const char *name)
{
	unsigned mask = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++) {
		uint32_t on = 0, off = 0;
		if (offload(name, offloads[i].get, &on) && on &&
		    offload(name, offloads[i].set, &off))
			mask |= 1u << i;
	}
	return mask;
}

void interface_offloads_on(const char *name, unsigned mask)
{
	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++) {
		uint32_t on = 1;
		if (mask >> i & 1)
			offload(name, offloads[i].set, &on);
	}
}
