/* The real adapter of an External switch: a packet socket on it, promiscuous,
 * that sees what comes in and not what the host sends (the host's own traffic
 * does not cross the switch). */
#include "net/interface.h"

#include "base/log.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { FRAMES_AT_ONCE = 64, VLAN_TAG = 4 };

struct packet {
	struct uplink uplink;
	char name[IFNAMSIZ];
	unsigned offloads;	/* that were on */
};

static bool packet_send(struct uplink *u, const uint8_t *frame, size_t length)
{
	return send(u->fd, frame, length, MSG_DONTWAIT) == (ssize_t)length || errno != EAGAIN;
}

/* The kernel takes a VLAN tag out and tells it beside the frame. */
static size_t put_vlan_back(struct msghdr *m, uint8_t *frame, size_t length)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct tpacket_auxdata aux;
		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof aux);
		if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || length < FRAME_HEADER ||
		    length + VLAN_TAG > FRAME_MAX)
			continue;
		memmove(frame + FRAME_TYPE + VLAN_TAG, frame + FRAME_TYPE, length - FRAME_TYPE);
		store_be16(frame + FRAME_TYPE, aux.tp_status & TP_STATUS_VLAN_TPID_VALID ?
			   aux.tp_vlan_tpid : ETHERTYPE_VLAN);
		store_be16(frame + FRAME_TYPE + 2, aux.tp_vlan_tci);
		return length + VLAN_TAG;
	}
	return length;
}

static void packet_ready(struct uplink *u, const struct pollfd *fds, unsigned count)
{
	uint8_t frame[FRAME_MAX];
	if (!fds->revents)
		return;
	for (unsigned i = 0; i < FRAMES_AT_ONCE; i++) {
		union {
			struct cmsghdr header;
			char room[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		} control;
		struct iovec iov = { frame, sizeof frame };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
				    .msg_controllen = sizeof control };
		ssize_t n = recvmsg(u->fd, &m, MSG_DONTWAIT | MSG_TRUNC);
		if (n <= 0)
			break;
		if ((size_t)n > sizeof frame)
			continue;
		uplink_receive(u, frame, put_vlan_back(&m, frame, (size_t)n));
	}
}

static void packet_free(struct uplink *u)
{
	struct packet *p = container_of(u, struct packet, uplink);
	interface_offloads_on(p->name, p->offloads);
	close(u->fd);
	free(p);
}

static const struct uplink_ops packet_ops = {
	"adapter", packet_send, NULL, packet_ready, packet_free,
};

struct uplink *uplink_packet_create(const char *interface, struct error *e)
{
	struct packet *p = alloc_zeroed(1, sizeof *p);
	int one = 1;
	p->uplink.ops = &packet_ops;
	snprintf(p->name, sizeof p->name, "%s", interface);
	p->uplink.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->uplink.fd < 0) {
		error_set(e, STATUS_USAGE,
			"The adapter \"%s\" cannot be joined to a switch (%s): that needs the capability CAP_NET_RAW. Without it, connect the VM to \"Default Switch\".",
			interface, strerror(errno));
		free(p);
		return NULL;
	}
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = interface_index(interface) };
	struct packet_mreq promiscuous = { .mr_ifindex = address.sll_ifindex,
					   .mr_type = PACKET_MR_PROMISC };
	setsockopt(p->uplink.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	setsockopt(p->uplink.fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one);
	if (strlen(interface) >= IFNAMSIZ || address.sll_ifindex < 0 ||
	    bind(p->uplink.fd, (struct sockaddr *)&address, sizeof address) ||
	    setsockopt(p->uplink.fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous,
		       sizeof promiscuous)) {
		error_set(e, STATUS_USAGE, "The adapter \"%s\" cannot be joined to a switch (%s).",
			  interface, strerror(errno));
		close(p->uplink.fd);
		free(p);
		return NULL;
	}
	p->offloads = interface_offloads_off(p->name);
	return &p->uplink;
}
