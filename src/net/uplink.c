#include "net/uplink.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

enum { IPV4_BITS = 32 };

struct in_addr ipv4_mask(unsigned bits)
{
	return (struct in_addr){ htonl(bits ? ~0u << (IPV4_BITS - bits) : 0) };
}

bool ipv4_prefix_parse(const char *text, struct ipv4_prefix *p)
{
	char address[INET_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	char *end;
	if (!slash || (size_t)(slash - text) >= sizeof address ||
	    slash[1] < '0' || slash[1] > '9')
		return false;
	snprintf(address, sizeof address, "%.*s", (int)(slash - text), text);
	unsigned long bits = strtoul(slash + 1, &end, 10);
	p->bits = (unsigned)bits;
	return !*end && bits <= IPV4_BITS && inet_pton(AF_INET, address, &p->address) == 1;
}

bool ipv4_prefix_has(const struct ipv4_prefix *p, struct in_addr address)
{
	return !((p->address.s_addr ^ address.s_addr) & ipv4_mask(p->bits).s_addr);
}

void uplink_destroy(struct uplink *u)
{
	if (!u)
		return;
	frame_queue_clear(&u->later);
	u->ops->destroy(u);
}
