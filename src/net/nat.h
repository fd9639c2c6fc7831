/* The kernel's NAT for a network whose host side is a TAP: one table of nft's,
 * of ours alone, and IPv4 forwarding. Needs CAP_NET_ADMIN.
 *
 * Nothing of it is left over: a process of its own, the keeper, waits for the
 * end of the one that set it up, however that comes, and takes table and
 * forwarding back. */
#ifndef NESTOR_NET_NAT_H
#define NESTOR_NET_NAT_H

#include "net/uplink.h"

struct kernel_nat;

/* interface: the TAP. lock: a descriptor that the keeper holds open until it
 * has done (its file lock says when); -1: none. Nothing is set up before
 * kernel_nat_apply. */
struct kernel_nat *kernel_nat_create(const char *interface, int lock);
/* Replace the table by one for this network and these mappings, at once. */
int kernel_nat_apply(struct kernel_nat *n, const struct ipv4_prefix *network,
		     const struct nat_mapping *mapping, unsigned mappings, struct error *e);
/* Take the table away, and forwarding if it was off before. */
void kernel_nat_destroy(struct kernel_nat *n);

/* Take away what is left where a keeper was killed too. */
void kernel_nat_forget(const char *interface);

/* Whether this kernel and its nft can do all that a NAT needs: tried with a
 * table that is gone in the same step. -1 with the reason. */
int kernel_nat_probe(struct error *e);

#endif
