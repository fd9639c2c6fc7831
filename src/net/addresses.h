/* The IP addresses that a guest uses, as far as its frames tell: ARP and
 * neighbour discovery that it sends, and a DHCP server's answer to a request of
 * its own. A guest can say what it likes: they are shown, and nothing else is
 * done with them. */
#ifndef NESTOR_NET_ADDRESSES_H
#define NESTOR_NET_ADDRESSES_H

#include "net/frame.h"

#include <netinet/in.h>

enum {
	ADDRESSES_MAX = 8,
	/* Not heard of for so long, it goes when another one is heard. */
	ADDRESSES_AGE_MS = 10 * 60 * 1000,
};

struct guest_address {
	uint64_t heard;			/* 0: free */
	int family;			/* AF_INET, AF_INET6 */
	struct in6_addr address;	/* AF_INET: the first 4 bytes */
};

struct guest_addresses {
	struct guest_address known[ADDRESSES_MAX];
	uint32_t dhcp_request;		/* the last one's transaction */
	bool dhcp_asked;
};

/* A frame that the guest sent from its own address mac, or that goes to it; at
 * least FRAME_HEADER bytes. now: milliseconds, as switch_input's. */
void addresses_sent(struct guest_addresses *a, const uint8_t *mac, const uint8_t *frame,
		    size_t length, uint64_t now);
void addresses_received(struct guest_addresses *a, const uint8_t *mac, const uint8_t *frame,
			size_t length, uint64_t now);

#endif
