/* `vEthernet (X)` without privilege and without a NAT: addresses that exist
 * only here. It answers ARP (RFC 826) and ICMP echo (RFC 792), which is what
 * people try first, and takes nothing else. */
#include "net/uplink.h"

#include "base/log.h"

#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>

enum {
	IPV4_HEADER = sizeof(struct iphdr),
	ICMP_MIN = 8,
	ANSWER_TTL = 64,
};

struct responder {
	struct uplink uplink;
	uint8_t mac[MAC_LENGTH];
	struct in_addr address[RESPONDER_ADDRESSES];
	unsigned addresses;
};

static bool is_mine(const struct responder *r, const void *address)
{
	for (unsigned i = 0; i < r->addresses; i++)
		if (!memcmp(&r->address[i], address, sizeof r->address[i]))
			return true;
	return false;
}

static void answer_arp(struct responder *r, const uint8_t *frame, size_t length)
{
	struct ether_arp arp;
	uint8_t answer[FRAME_HEADER + sizeof arp];
	if (length < sizeof answer)
		return;
	memcpy(&arp, frame + FRAME_HEADER, sizeof arp);
	if (arp.arp_hrd != htons(ARPHRD_ETHER) || arp.arp_pro != htons(ETHERTYPE_IP) ||
	    arp.arp_hln != MAC_LENGTH || arp.arp_pln != sizeof(struct in_addr) ||
	    arp.arp_op != htons(ARPOP_REQUEST) || !is_mine(r, arp.arp_tpa))
		return;
	uint8_t asked[sizeof arp.arp_tpa];
	memcpy(asked, arp.arp_tpa, sizeof asked);
	memcpy(arp.arp_tpa, arp.arp_spa, sizeof asked);
	memcpy(arp.arp_tha, arp.arp_sha, MAC_LENGTH);
	memcpy(arp.arp_spa, asked, sizeof asked);
	memcpy(arp.arp_sha, r->mac, MAC_LENGTH);
	arp.arp_op = htons(ARPOP_REPLY);
	memcpy(answer + FRAME_DESTINATION, arp.arp_tha, MAC_LENGTH);
	memcpy(answer + FRAME_SOURCE, r->mac, MAC_LENGTH);
	store_be16(answer + FRAME_TYPE, ETHERTYPE_ARP);
	memcpy(answer + FRAME_HEADER, &arp, sizeof arp);
	uplink_later(&r->uplink, answer, sizeof answer);
}

/* An echo request in one piece, without options. */
static void answer_echo(struct responder *r, const uint8_t *frame, size_t length)
{
	struct iphdr ip;
	uint8_t answer[FRAME_MAX];
	if (length < FRAME_HEADER + IPV4_HEADER + ICMP_MIN)
		return;
	memcpy(&ip, frame + FRAME_HEADER, sizeof ip);
	size_t total = ntohs(ip.tot_len);
	if (ip.version != IPVERSION || ip.ihl * 4 != IPV4_HEADER || ip.protocol != IPPROTO_ICMP ||
	    ip.frag_off & htons(IP_MF | IP_OFFMASK) || !is_mine(r, &ip.daddr) ||
	    total < IPV4_HEADER + ICMP_MIN || total > length - FRAME_HEADER ||
	    frame[FRAME_HEADER + IPV4_HEADER] != ICMP_ECHO ||
	    !mac_is_unicast(frame + FRAME_SOURCE))
		return;
	uint8_t *packet = answer + FRAME_HEADER, *icmp = packet + IPV4_HEADER;
	uint32_t from = ip.saddr;
	memcpy(answer + FRAME_DESTINATION, frame + FRAME_SOURCE, MAC_LENGTH);
	memcpy(answer + FRAME_SOURCE, r->mac, MAC_LENGTH);
	store_be16(answer + FRAME_TYPE, ETHERTYPE_IP);
	memcpy(packet, frame + FRAME_HEADER, total);
	ip.saddr = ip.daddr;
	ip.daddr = from;
	ip.ttl = ANSWER_TTL;
	ip.check = 0;
	memcpy(packet, &ip, sizeof ip);
	store_be16(packet + offsetof(struct iphdr, check), inet_checksum(packet, IPV4_HEADER));
	icmp[0] = ICMP_ECHOREPLY;
	store_be16(icmp + offsetof(struct icmphdr, checksum), 0);
	store_be16(icmp + offsetof(struct icmphdr, checksum),
		   inet_checksum(icmp, total - IPV4_HEADER));
	uplink_later(&r->uplink, answer, FRAME_HEADER + total);
}

static bool responder_send(struct uplink *u, const uint8_t *frame, size_t length)
{
	struct responder *r = container_of(u, struct responder, uplink);
	uint16_t type = load_be16(frame + FRAME_TYPE);
	if (type == ETHERTYPE_ARP)
		answer_arp(r, frame, length);
	else if (type == ETHERTYPE_IP && mac_equal(frame, r->mac))
		answer_echo(r, frame, length);
	return true;
}

static unsigned responder_fill(struct uplink *u, struct pollfd *fds, unsigned room,
			       int *timeout_ms)
{
	return 0;
}

static void responder_ready(struct uplink *u, const struct pollfd *fds, unsigned count)
{
}

static void responder_free(struct uplink *u)
{
	free(container_of(u, struct responder, uplink));
}

static const struct uplink_ops responder_ops = {
	"inside", responder_send, responder_fill, responder_ready, responder_free,
};

struct uplink *responder_create(const uint8_t mac[MAC_LENGTH])
{
	struct responder *r = alloc_zeroed(1, sizeof *r);
	r->uplink.ops = &responder_ops;
	memcpy(r->mac, mac, MAC_LENGTH);
	return &r->uplink;
}

int responder_add(struct uplink *u, struct in_addr address)
{
	struct responder *r = container_of(u, struct responder, uplink);
	if (r->addresses == RESPONDER_ADDRESSES)
		return -1;
	r->address[r->addresses++] = address;
	return 0;
}
