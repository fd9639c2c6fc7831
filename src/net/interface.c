#include "net/interface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PATH_SIZE = 128,
	NETLINK_REQUEST = 512, NETLINK_ANSWER = 16384,
	ALIAS_MAX = 255,	/* the kernel's */
	OTHERS = 16,
	BROADCAST_BITS = 30,	/* a longer prefix has no room for one */
};

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

int interface_index(const char *name)
{
	struct ifreq r = { 0 };
	return request(SIOCGIFINDEX, name, &r) ? -1 : r.ifr_ifindex;
}

union netlink_request { struct nlmsghdr header; char room[NETLINK_REQUEST]; };
union netlink_answer { struct nlmsghdr header; char room[NETLINK_ANSWER]; };

/* rtnetlink(7): put an attribute behind what the message has. */
static void put_attribute(struct nlmsghdr *m, unsigned short type, const void *value, size_t n)
{
	struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->nlmsg_len));
	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), value, n);
	m->nlmsg_len = NLMSG_ALIGN(m->nlmsg_len) + (unsigned)RTA_ALIGN(a->rta_len);
}

/* Send a request and take its one answer. 0 also for an acknowledgement. */
static int netlink_request(const struct nlmsghdr *m, union netlink_answer *answer)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), reason = 0;
	if (fd < 0)
		return -1;
	ssize_t n = send(fd, m, m->nlmsg_len, 0) < 0 ? -1 : recv(fd, answer, sizeof *answer, 0);
	if (n < 0)
		reason = errno;
	else if (!NLMSG_OK(&answer->header, (size_t)n))
		reason = EIO;
	else if (answer->header.nlmsg_type == NLMSG_ERROR)
		reason = -((struct nlmsgerr *)NLMSG_DATA(&answer->header))->error;
	close(fd);
	errno = reason;
	return reason ? -1 : 0;
}

/* Who set an address: IFA_PROTO, which Linux before 5.18 ignores. */
static const uint8_t set_by_nestor = 'N';

static int change_address(const char *name, const struct ipv4_prefix *p, bool add)
{
	union netlink_request r = { .header = {
		.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
		.nlmsg_type = add ? RTM_NEWADDR : RTM_DELADDR,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0),
	} };
	struct ifaddrmsg *m = NLMSG_DATA(&r.header);
	union netlink_answer answer;
	int index = interface_index(name);
	if (index < 0)
		return -1;
	*m = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = (unsigned char)p->bits,
				 .ifa_index = (unsigned)index };
	put_attribute(&r.header, IFA_LOCAL, &p->address, sizeof p->address);
	put_attribute(&r.header, IFA_ADDRESS, &p->address, sizeof p->address);
	if (add)
		put_attribute(&r.header, IFA_PROTO, &set_by_nestor, sizeof set_by_nestor);
	if (p->bits <= BROADCAST_BITS) {
		struct in_addr all = { p->address.s_addr | ~ipv4_mask(p->bits).s_addr };
		put_attribute(&r.header, IFA_BROADCAST, &all, sizeof all);
	}
	return netlink_request(&r.header, &answer);
}

int interface_add_address(const char *name, const struct ipv4_prefix *p)
{
	return change_address(name, p, true) && errno != EEXIST ? -1 : 0;
}

int interface_remove_address(const char *name, const struct ipv4_prefix *p)
{
	return change_address(name, p, false);
}

/* An answer's address, when it is IPv4, of the interface, and set by others. */
static bool is_others(const struct nlmsghdr *m, unsigned index, struct ipv4_prefix *p)
{
	const struct ifaddrmsg *a = NLMSG_DATA(m);
	int left = (int)IFA_PAYLOAD(m);
	bool others = true, found = false;
	if (m->nlmsg_type != RTM_NEWADDR || a->ifa_family != AF_INET || a->ifa_index != index)
		return false;
	p->bits = a->ifa_prefixlen;
	for (const struct rtattr *at = IFA_RTA(a); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (at->rta_type == IFA_PROTO)
			others = *(uint8_t *)RTA_DATA(at) != set_by_nestor;
		if (at->rta_type == IFA_LOCAL) {
			memcpy(&p->address, RTA_DATA(at), sizeof p->address);
			found = true;
		}
	}
	return others && found;
}

void interface_drop_others(const char *name)
{
	union netlink_request r = { .header = {
		.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_GETADDR,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
	} };
	union netlink_answer answer;
	struct ipv4_prefix list[OTHERS];
	unsigned found = 0, index = (unsigned)interface_index(name);
	bool more = true;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0 || send(fd, &r, r.header.nlmsg_len, 0) < 0)
		more = false;
	while (more) {
		ssize_t n = recv(fd, &answer, sizeof answer, 0);
		unsigned left = n > 0 ? (unsigned)n : 0;
		more = n > 0;
		for (struct nlmsghdr *m = &answer.header; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			more = more && m->nlmsg_type != NLMSG_DONE && m->nlmsg_type != NLMSG_ERROR;
			if (found < OTHERS && is_others(m, index, &list[found]))
				found++;
		}
	}
	if (fd >= 0)
		close(fd);
	for (unsigned i = 0; i < found; i++)
		interface_remove_address(name, &list[i]);
}

static union netlink_request link_request(const char *name, unsigned short type)
{
	union netlink_request r = { .header = {
		.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = type,
		.nlmsg_flags = NLM_F_REQUEST | (type == RTM_NEWLINK ? NLM_F_ACK : 0),
	} };
	struct ifinfomsg *m = NLMSG_DATA(&r.header);
	*m = (struct ifinfomsg){ .ifi_index = interface_index(name) };
	return r;
}

int interface_set_alias(const char *name, const char *alias)
{
	union netlink_request r = link_request(name, RTM_NEWLINK);
	union netlink_answer answer;
	size_t n = strnlen(alias, ALIAS_MAX);
	put_attribute(&r.header, IFLA_IFALIAS, alias, n);
	return netlink_request(&r.header, &answer);
}

bool interface_alias(const char *name, char *alias, size_t room)
{
	union netlink_request r = link_request(name, RTM_GETLINK);
	union netlink_answer answer;
	*alias = '\0';
	if (netlink_request(&r.header, &answer) || answer.header.nlmsg_type != RTM_NEWLINK)
		return false;
	int left = (int)IFLA_PAYLOAD(&answer.header);
	for (struct rtattr *a = IFLA_RTA(NLMSG_DATA(&answer.header)); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_IFALIAS)
			snprintf(alias, room, "%.*s", (int)RTA_PAYLOAD(a), (char *)RTA_DATA(a));
	return *alias;
}

bool interface_mac(const char *name, uint8_t mac[MAC_LENGTH])
{
	struct ifreq r = { 0 };
	bool done = !request(SIOCGIFHWADDR, name, &r);
	memcpy(mac, r.ifr_hwaddr.sa_data, MAC_LENGTH);
	return done;
}

bool interface_runs(const char *name)
{
	struct ifreq r = { 0 };
	return !request(SIOCGIFFLAGS, name, &r) && r.ifr_flags & IFF_RUNNING;
}

void interface_without_ipv6(const char *name)
{
	char path[PATH_SIZE];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;		/* a kernel without it */
	ssize_t n = write(fd, "1", 1);
	(void)n;
	close(fd);
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
