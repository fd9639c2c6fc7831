/* What a switch is joined to besides guests: the host's side of it (vEthernet:
 * a responder of ours, libslirp, or a TAP) and a real adapter. Each carries
 * frames both ways, and waits for descriptors of its own in the switch
 * process's one loop. */
#ifndef NESTOR_NET_UPLINK_H
#define NESTOR_NET_UPLINK_H

#include "base/error.h"
#include "net/port.h"

#include <netinet/in.h>
#include <poll.h>

struct uplink;

struct uplink_ops {
	const char *name;
	/* A frame of the switch's; false: no room. It must not call
	 * uplink_receive but through uplink_later. */
	bool (*send)(struct uplink *u, const uint8_t *frame, size_t length);
	/* Add descriptors to wait for, at most room, and shorten the wait: how
	 * many. NULL: one descriptor, u->fd, for reading. */
	unsigned (*fill)(struct uplink *u, struct pollfd *fds, unsigned room, int *timeout_ms);
	/* After the wait, with what fill had added. */
	void (*ready)(struct uplink *u, const struct pollfd *fds, unsigned count);
	void (*destroy)(struct uplink *u);
};

/* Each begins with this. */
struct uplink {
	const struct uplink_ops *ops;
	int fd;
	/* Who gets what came from beyond. */
	void (*receive)(void *owner, const uint8_t *frame, size_t length);
	void *owner;
	struct frame_queue later;	/* made while sending; see uplink_later */
	bool gone;			/* what it stood for was deleted by others */
};

/* Hand a frame to the switch from ready(). */
static inline void uplink_receive(struct uplink *u, const uint8_t *frame, size_t length)
{
	u->receive(u->owner, frame, length);
}

/* Keep a frame until the switch has done with the one it is sending. */
static inline void uplink_later(struct uplink *u, const uint8_t *frame, size_t length)
{
	frame_queue_put(&u->later, frame, length);
}

/* An IPv4 address in a network, as 192.168.100.1/24. */
struct ipv4_prefix {
	struct in_addr address;
	unsigned bits;
};

/* false when the text is none. */
bool ipv4_prefix_parse(const char *text, struct ipv4_prefix *p);
struct in_addr ipv4_mask(unsigned bits);
bool ipv4_prefix_has(const struct ipv4_prefix *p, struct in_addr address);

/* A way in: connections to a port of the host go to one behind the NAT. */
struct nat_mapping {
	bool udp;
	struct in_addr external, internal;	/* 0.0.0.0: all; the first DHCP address */
	uint16_t external_port, internal_port;
};

/* Ours: answers ARP and echo requests for its addresses. */
enum { RESPONDER_ADDRESSES = 8 };
struct uplink *responder_create(const uint8_t mac[MAC_LENGTH]);
int responder_add(struct uplink *u, struct in_addr address);

/* libslirp as the network's gateway. All of it appears with the one MAC. */
struct slirp_options {
	uint8_t mac[MAC_LENGTH];
	struct ipv4_prefix gateway;	/* its address and network */
	bool dhcp, dns;
};
struct uplink *uplink_slirp_create(const struct slirp_options *o, struct error *e);
int uplink_slirp_map(struct uplink *u, const struct nat_mapping *m, struct error *e);
void uplink_slirp_unmap(struct uplink *u, const struct nat_mapping *m);

/* A TAP that stands for the host. Needs CAP_NET_ADMIN. */
struct uplink *uplink_tap_create(const char *interface, const char *alias,
				 const uint8_t mac[MAC_LENGTH], struct error *e);

/* A real adapter, by a packet socket. Needs CAP_NET_RAW; its checksum and
 * segmentation offloads are switched off, which needs CAP_NET_ADMIN, and
 * switched on again in the end. */
struct uplink *uplink_packet_create(const char *interface, struct error *e);

void uplink_destroy(struct uplink *u);

#endif
