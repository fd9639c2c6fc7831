/* Where `vEthernet (X)` is: an address inside the switch's process, or a network
 * interface of Linux, a TAP, with the kernel's own NAT behind it.
 *
 * NESTOR_VETHERNET chooses: inside, tap, or auto (as without it): a TAP where
 * this service has the capability CAP_NET_ADMIN, /dev/net/tun opens, and nft can
 * make a NAT; else inside. A switch keeps what it began with for as long as its
 * process runs. */
#ifndef NESTOR_SERVICE_VETHERNET_H
#define NESTOR_SERVICE_VETHERNET_H

#include <net/if.h>
#include <stdbool.h>

enum { VETHERNET_WHY = 1280 };

struct vethernet_place {
	bool tap;
	/* Inside, although the privilege is there: people will want to know. */
	bool lacking;
	char why[VETHERNET_WHY];	/* it is inside */
};

/* As it would be for a switch that begins now; until the next call. */
const struct vethernet_place *vethernet_place(void);
/* NESTOR_VETHERNET says inside or tap. */
bool vethernet_chosen(void);

/* The TAP's name, which has 15 characters at most: vEth and the first digits of
 * the switch's id. */
void vethernet_interface(const char *id, char name[IF_NAMESIZE]);
/* Is the interface some switch's TAP? Its alias tells. */
bool vethernet_is(const char *interface);

bool has_capability(unsigned capability);

#endif
