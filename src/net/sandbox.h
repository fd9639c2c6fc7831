/* What a switch process may still do after it has started. */
#ifndef NESTOR_NET_SANDBOX_H
#define NESTOR_NET_SANDBOX_H

#include <stdbool.h>

struct sandbox {
	const char *own;	/* the folder of its sockets, which it takes away in the end; NULL: none */
	bool host_network;	/* it may be told to make a TAP and the kernel's NAT */
};

/* Of the file system only what that needs, where the kernel has Landlock: /etc
 * (and where its resolv.conf may point), for reading; with host_network also
 * programs and libraries, the TAP's device and the network's settings. Of root's
 * capabilities only that for packet sockets, and with host_network that for
 * interfaces. Descriptors that are open stay. */
void sandbox_enter(const struct sandbox *may);

#endif
