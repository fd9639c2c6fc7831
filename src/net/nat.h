/* The kernel's NAT for a network whose host side is a TAP: one table of nft's,
 * of ours alone, and IPv4 forwarding. Needs CAP_NET_ADMIN. */
#ifndef NESTOR_NET_NAT_H
#define NESTOR_NET_NAT_H

#include "net/uplink.h"

struct kernel_nat;

/* interface: the TAP. Nothing is set up before kernel_nat_apply. */
struct kernel_nat *kernel_nat_create(const char *interface);
/* Replace the table by one for this network and these mappings, at once. */
int kernel_nat_apply(struct kernel_nat *n, const struct ipv4_prefix *network,
		     const struct nat_mapping *mapping, unsigned mappings, struct error *e);
/* Take the table away, and forwarding if it was off before. */
void kernel_nat_destroy(struct kernel_nat *n);

#endif
