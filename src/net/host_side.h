/* vEthernet: the host's side of a switch, its addresses, and the NAT behind
 * it. One configuration, and what carries it out is chosen from it:
 *   interface given             a TAP, and the kernel's NAT
 *   a NAT and an address in it  libslirp is the gateway
 *   otherwise                   the responder answers for the addresses */
#ifndef NESTOR_NET_HOST_SIDE_H
#define NESTOR_NET_HOST_SIDE_H

#include "net/nat.h"
#include "net/switch.h"

#include <net/if.h>

enum { NAT_MAPPINGS = 64 };

struct host_config {
	bool present;			/* false: Private, or not configured */
	uint8_t mac[MAC_LENGTH];
	char interface[IFNAMSIZ];	/* of a TAP; empty: inside */
	char alias[PORT_NAME_MAX];	/* "vEthernet (VmNAT)" */
	struct ipv4_prefix address[RESPONDER_ADDRESSES];
	unsigned addresses;
	bool nat, dhcp, dns;
	struct ipv4_prefix nat_prefix;
	struct nat_mapping mapping[NAT_MAPPINGS];
	unsigned mappings;
};

struct host_side {
	struct net_switch *network;
	struct host_config config;
	struct switch_port *port;	/* NULL: not present */
	struct uplink *uplink;
	struct kernel_nat *kernel_nat;
	int lock;	/* of the switch, which the NAT's keeper holds on to; -1: none */
	void (*receive)(void *owner, const uint8_t *frame, size_t length);
	void *owner;
};

#define HOST_PORT_ID "vEthernet"

/* Make it so; on failure everything is as before, with the reason. */
int host_side_apply(struct host_side *h, const struct host_config *wanted, struct error *e);
/* What it was built on is gone (struct uplink): build it again. */
int host_side_again(struct host_side *h, struct error *e);
void host_side_destroy(struct host_side *h);

/* The address that is the NAT's gateway; NULL: the NAT is not in force. */
const struct ipv4_prefix *host_config_gateway(const struct host_config *c);

#endif
