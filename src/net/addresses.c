#include "net/addresses.h"

#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

/* RFC 2131, "The Client-Server Protocol" and RFC 2132, "DHCP Message Type". */
enum {
	DHCP_SERVER = 67, DHCP_CLIENT = 68,
	DHCP_OP = 0, DHCP_XID = 4, DHCP_YIADDR = 16, DHCP_CHADDR = 28, DHCP_COOKIE = 236,
	DHCP_OPTIONS = 240,
	DHCP_REPLY = 2,
	OPTION_PAD = 0, OPTION_TYPE = 53, OPTION_END = 255,
	MESSAGE_REQUEST = 3, MESSAGE_ACK = 5, MESSAGE_RELEASE = 7,
};

static const uint8_t dhcp_cookie[] = { 99, 130, 83, 99 };

static bool is_an_address(int family, const struct in6_addr *a)
{
	return family == AF_INET6 ? !IN6_IS_ADDR_UNSPECIFIED(a) && !IN6_IS_ADDR_MULTICAST(a) :
		a->s6_addr32[0] && !IN_MULTICAST(ntohl(a->s6_addr32[0])) &&
		a->s6_addr32[0] != INADDR_BROADCAST;
}

static struct guest_address *find(struct guest_addresses *a, int family, const struct in6_addr *address)
{
	for (unsigned i = 0; i < ADDRESSES_MAX; i++)
		if (a->known[i].heard && a->known[i].family == family &&
		    !memcmp(&a->known[i].address, address, sizeof *address))
			return &a->known[i];
	return NULL;
}

static void hear(struct guest_addresses *a, int family, const void *bytes, uint64_t now)
{
	struct in6_addr address = { 0 };
	memcpy(&address, bytes, family == AF_INET ? sizeof(struct in_addr) : sizeof address);
	if (!is_an_address(family, &address))
		return;
	struct guest_address *at = find(a, family, &address), *oldest = a->known;
	for (unsigned i = 0; i < ADDRESSES_MAX; i++) {
		struct guest_address *k = &a->known[i];
		if (k != at && k->heard && k->heard + ADDRESSES_AGE_MS < now)
			k->heard = 0;
		if (k->heard < oldest->heard)
			oldest = k;
	}
	if (!at)
		at = oldest;
	*at = (struct guest_address){ .heard = now ? now : 1, .family = family, .address = address };
}

static void unhear(struct guest_addresses *a, const void *bytes)
{
	struct in6_addr address = { 0 };
	memcpy(&address, bytes, sizeof(struct in_addr));
	struct guest_address *at = find(a, AF_INET, &address);
	if (at)
		at->heard = 0;
}

/* The DHCP message in a frame from one port to another; NULL: it is none. */
static const uint8_t *dhcp_message(const uint8_t *ip, size_t n, uint16_t to, size_t *length)
{
	struct iphdr header;
	struct udphdr udp;
	if (n < sizeof header)
		return NULL;
	memcpy(&header, ip, sizeof header);
	size_t at = header.ihl * 4u;
	if (header.version != IPVERSION || header.protocol != IPPROTO_UDP || at < sizeof header ||
	    header.frag_off & htons(IP_MF | IP_OFFMASK) || n < at + sizeof udp + DHCP_OPTIONS)
		return NULL;
	memcpy(&udp, ip + at, sizeof udp);
	ip += at + sizeof udp;
	*length = n - at - sizeof udp;
	return udp.dest == htons(to) && !memcmp(ip + DHCP_COOKIE, dhcp_cookie, sizeof dhcp_cookie) ?
		ip : NULL;
}

static unsigned dhcp_type(const uint8_t *message, size_t n)
{
	for (size_t at = DHCP_OPTIONS; at < n && message[at] != OPTION_END;) {
		if (message[at] == OPTION_PAD) {
			at++;
			continue;
		}
		if (at + 2 >= n)
			break;
		if (message[at] == OPTION_TYPE)
			return message[at + 2];
		at += 2u + message[at + 1];
	}
	return 0;
}

static void sent_dhcp(struct guest_addresses *a, const uint8_t *mac, const uint8_t *ip, size_t n)
{
	size_t length;
	const uint8_t *m = dhcp_message(ip, n, DHCP_SERVER, &length);
	if (!m || !mac_equal(m + DHCP_CHADDR, mac))
		return;
	unsigned type = dhcp_type(m, length);
	if (type == MESSAGE_REQUEST) {
		memcpy(&a->dhcp_request, m + DHCP_XID, sizeof a->dhcp_request);
		a->dhcp_asked = true;
	} else if (type == MESSAGE_RELEASE) {
		unhear(a, ip + offsetof(struct iphdr, saddr));
	}
}

static void sent_arp(struct guest_addresses *a, const uint8_t *mac, const uint8_t *p, size_t n,
		     uint64_t now)
{
	struct ether_arp arp;
	if (n < sizeof arp)
		return;
	memcpy(&arp, p, sizeof arp);
	if (arp.arp_hrd == htons(ARPHRD_ETHER) && arp.arp_pro == htons(ETHERTYPE_IP) &&
	    arp.arp_hln == MAC_LENGTH && arp.arp_pln == sizeof(struct in_addr) &&
	    mac_equal(arp.arp_sha, mac))
		hear(a, AF_INET, arp.arp_spa, now);
}

/* A solicitation comes from an address in use, an advertisement tells one (RFC
 * 4861, "Message Formats"). */
static void sent_neighbour(struct guest_addresses *a, const uint8_t *p, size_t n, uint64_t now)
{
	struct ip6_hdr ip;
	uint8_t type;
	if (n < sizeof ip + sizeof(struct nd_neighbor_advert))
		return;
	memcpy(&ip, p, sizeof ip);
	type = p[sizeof ip];
	if (ip.ip6_nxt != IPPROTO_ICMPV6)
		return;
	if (type == ND_NEIGHBOR_SOLICIT)
		hear(a, AF_INET6, &ip.ip6_src, now);
	else if (type == ND_NEIGHBOR_ADVERT)
		hear(a, AF_INET6, p + sizeof ip + offsetof(struct nd_neighbor_advert, nd_na_target), now);
}

void addresses_sent(struct guest_addresses *a, const uint8_t *mac, const uint8_t *frame,
		    size_t length, uint64_t now)
{
	const uint8_t *p = frame + FRAME_HEADER;
	size_t n = length - FRAME_HEADER;
	switch (load_be16(frame + FRAME_TYPE)) {
	case ETHERTYPE_ARP:
		sent_arp(a, mac, p, n, now);
		break;
	case ETHERTYPE_IP:
		sent_dhcp(a, mac, p, n);
		break;
	case ETHERTYPE_IPV6:
		sent_neighbour(a, p, n, now);
		break;
	}
}

void addresses_received(struct guest_addresses *a, const uint8_t *mac, const uint8_t *frame,
			size_t length, uint64_t now)
{
	size_t n;
	if (!a->dhcp_asked || load_be16(frame + FRAME_TYPE) != ETHERTYPE_IP)
		return;
	const uint8_t *m = dhcp_message(frame + FRAME_HEADER, length - FRAME_HEADER, DHCP_CLIENT, &n);
	if (!m || m[DHCP_OP] != DHCP_REPLY || !mac_equal(m + DHCP_CHADDR, mac) ||
	    memcmp(&a->dhcp_request, m + DHCP_XID, sizeof a->dhcp_request) ||
	    dhcp_type(m, n) != MESSAGE_ACK)
		return;
	a->dhcp_asked = false;
	hear(a, AF_INET, m + DHCP_YIADDR, now);
}
