/* The learning switch: frames in at one port, out at others, and the rules of
 * each port. Knows nothing of sockets; whoever owns a port gets its frames by
 * a callback. One thread.
 *
 * What a guest's port may do depends on MacAddressSpoofing. Off: only frames
 * from its own address pass, no other address is learned there, and frames to
 * unknown addresses do not reach it. On: any unicast source passes and is
 * learned, and unknown unicast reaches it, as a hypervisor inside the guest
 * needs for its own guests. */
#ifndef NESTOR_NET_SWITCH_H
#define NESTOR_NET_SWITCH_H

#include "net/addresses.h"

enum {
	SWITCH_TABLE = 4096,		/* learned addresses, all ports */
	SWITCH_PORT_ADDRESSES = 256,	/* and of one guest's port */
	SWITCH_PORTS = 256,
	SWITCH_AGE_MS = 300 * 1000,	/* IEEE 802.1Q's recommended ageing time */
	PORT_ID_MAX = 64,
	PORT_NAME_MAX = 256,
};

enum switch_port_kind {
	SWITCH_PORT_GUEST,	/* rules apply */
	SWITCH_PORT_HOST,	/* vEthernet: ours, so trusted; its address is known */
	SWITCH_PORT_UPLINK,	/* beyond it are others: learns, gets unknown unicast */
};

/* Why a frame of a port or for a port went nowhere: id, key, sentence. */
#define SWITCH_DROPS(X) \
	X(SOURCE, "SourceAddress", \
	  "dropped: source address is not this adapter's (see MacAddressSpoofing)") \
	X(SOURCE_GROUP, "SourceNotUnicast", \
	  "dropped: source address is not a unicast address") \
	X(SHORT, "TooShort", "dropped: shorter than an Ethernet header") \
	X(LONG, "TooLong", "dropped: longer than the switch carries") \
	X(RESERVED, "LinkLocal", \
	  "dropped: addressed to the link itself (01-80-C2-00-00-0x), which a switch does not forward") \
	X(SAME_PORT, "SamePort", "dropped: the destination is where the frame came from") \
	X(NOBODY, "NoDestination", "dropped: no other port takes it") \
	X(DHCP_GUARD, "DhcpGuard", "dropped: a DHCP server's message (see DhcpGuard)") \
	X(ROUTER_GUARD, "RouterGuard", \
	  "dropped: a router's advertisement or redirection (see RouterGuard)") \
	X(FULL, "ReceiverFull", "dropped: the receiver does not take its frames fast enough") \
	X(DISCONNECTED, "NotConnected", "dropped: nobody is connected to the port")

enum switch_drop {
#define X(id, key, sentence) SWITCH_DROP_##id,
	SWITCH_DROPS(X)
#undef X
	SWITCH_DROP_COUNT
};

struct switch_drop_text { const char *key, *sentence; };
extern const struct switch_drop_text switch_drop_texts[SWITCH_DROP_COUNT];

/* As the adapter sees it: sent is what came from it. */
struct switch_counters {
	uint64_t frames_sent, bytes_sent;
	uint64_t frames_received, bytes_received;
	uint64_t dropped_sent[SWITCH_DROP_COUNT];	/* frames it sent */
	uint64_t dropped_received[SWITCH_DROP_COUNT];	/* frames it should have got */
	uint64_t not_learned;		/* sources that the tables had no room for */
};

struct net_switch;

struct switch_port {
	struct switch_port *next;
	struct net_switch *owner;
	enum switch_port_kind kind;
	char id[PORT_ID_MAX];
	char name[PORT_NAME_MAX];
	uint8_t mac[MAC_LENGTH];	/* zero: none, at an uplink */
	bool spoofing, dhcp_guard, router_guard;
	unsigned learned;
	struct switch_counters counters;
	struct guest_addresses addresses;	/* a guest's, for people to see */
	/* Takes a frame, or says by false that it has no room; NULL: nobody is
	 * connected. It must not call the switch. */
	bool (*deliver)(void *to, const uint8_t *frame, size_t length);
	void *to;
};

struct net_switch *switch_create(void);
void switch_destroy(struct net_switch *s);

/* NULL: there are SWITCH_PORTS of them. */
struct switch_port *switch_port_add(struct net_switch *s, enum switch_port_kind kind,
				    const char *id, const uint8_t *mac);
void switch_port_remove(struct switch_port *p);
struct switch_port *switch_port_find(struct net_switch *s, const char *id);
struct switch_port *switch_ports(struct net_switch *s);
/* Takes effect with the next frame; what was learned at the port is forgotten. */
void switch_port_set(struct switch_port *p, const uint8_t *mac, bool spoofing);

/* A frame came from a port. now: milliseconds that only grow. */
void switch_input(struct switch_port *from, const uint8_t *frame, size_t length, uint64_t now);

/* Where the switch would send frames for an address now; NULL: unknown. */
struct switch_port *switch_lookup(struct net_switch *s, const uint8_t *mac, uint64_t now);
/* Learned addresses. */
unsigned switch_learned(const struct net_switch *s);

#endif
