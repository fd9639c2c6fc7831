/* Configured addresses are in the ports, learned ones in a hash table of fixed
 * size with chains by index. A configured address is never learned elsewhere,
 * so no port can take another's frames away by its source addresses; and a
 * guest can learn SWITCH_PORT_ADDRESSES at most, so that it cannot push the
 * others' out of the table. */
#include "net/switch.h"

#include "base/log.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>

enum {
	BUCKETS = 1024,
	NO_ENTRY = -1,
	TYPE_VLAN = 0x8100, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd,
	VLAN_TAG = 4,
	IPV4_HEADER = 20, IPV4_PROTOCOL = 9, IPV4_FRAGMENT = 6, IPV4_OFFSET_MASK = 0x1fff,
	IPV6_HEADER = 40, IPV6_NEXT = 6,
	DHCP_SERVER_PORT = 67, DHCPV6_SERVER_PORT = 547,
};

struct entry {
	uint8_t mac[MAC_LENGTH];
	struct switch_port *port;	/* NULL: free */
	uint64_t seen;
	int next;
};

struct net_switch {
	struct switch_port *ports;
	unsigned port_count;
	struct entry entry[SWITCH_TABLE];
	int bucket[BUCKETS];
	int free;
	unsigned learned;
};

const struct switch_drop_text switch_drop_texts[SWITCH_DROP_COUNT] = {
#define X(id, key, sentence) [SWITCH_DROP_##id] = { key, sentence },
	SWITCH_DROPS(X)
#undef X
};

/* The table. */

static int *bucket_of(struct net_switch *s, const uint8_t *mac)
{
	uint32_t hash = 2166136261u;	/* FNV-1a */
	for (unsigned i = 0; i < MAC_LENGTH; i++)
		hash = (hash ^ mac[i]) * 16777619u;
	return &s->bucket[(hash ^ hash >> 16) % BUCKETS];
}

/* The link that points to the address's entry, or to none. */
static int *link_of(struct net_switch *s, const uint8_t *mac)
{
	int *at = bucket_of(s, mac);
	while (*at != NO_ENTRY && !mac_equal(s->entry[*at].mac, mac))
		at = &s->entry[*at].next;
	return at;
}

static void forget(struct net_switch *s, int *link)
{
	int i = *link;
	struct entry *e = &s->entry[i];
	*link = e->next;
	e->port->learned--;
	e->port = NULL;
	e->next = s->free;
	s->free = i;
	s->learned--;
}

static void forget_port(struct switch_port *p)
{
	struct net_switch *s = p->owner;
	for (unsigned i = 0; i < SWITCH_TABLE && p->learned; i++)
		if (s->entry[i].port == p)
			forget(s, link_of(s, s->entry[i].mac));
}

/* Entries of the port, or of everybody when that is NULL, that are too old. */
static void forget_old(struct net_switch *s, const struct switch_port *p, uint64_t now)
{
	for (unsigned i = 0; i < SWITCH_TABLE; i++) {
		struct entry *e = &s->entry[i];
		if (e->port && (!p || e->port == p) && now - e->seen > SWITCH_AGE_MS)
			forget(s, link_of(s, e->mac));
	}
}

static struct switch_port *configured(struct net_switch *s, const uint8_t *mac)
{
	for (struct switch_port *p = s->ports; p; p = p->next)
		if (mac_equal(p->mac, mac) && !mac_is_zero(mac))
			return p;
	return NULL;
}

static bool table_has_room(struct switch_port *p, uint64_t now)
{
	struct net_switch *s = p->owner;
	if (p->kind == SWITCH_PORT_GUEST && p->learned >= SWITCH_PORT_ADDRESSES)
		forget_old(s, p, now);
	if (s->free == NO_ENTRY)
		forget_old(s, NULL, now);
	return s->free != NO_ENTRY &&
		(p->kind != SWITCH_PORT_GUEST || p->learned < SWITCH_PORT_ADDRESSES);
}

static void learn(struct switch_port *p, const uint8_t *mac, uint64_t now)
{
	struct net_switch *s = p->owner;
	int *link = link_of(s, mac);
	if (*link != NO_ENTRY && s->entry[*link].port == p) {
		s->entry[*link].seen = now;
		return;
	}
	if (configured(s, mac))
		return;
	if (*link != NO_ENTRY)
		forget(s, link);	/* it moved */
	if (!table_has_room(p, now)) {
		p->counters.not_learned++;
		return;
	}
	int i = s->free;
	struct entry *e = &s->entry[i];
	link = bucket_of(s, mac);
	s->free = e->next;
	memcpy(e->mac, mac, MAC_LENGTH);
	*e = (struct entry){ .port = p, .seen = now, .next = *link };
	memcpy(e->mac, mac, MAC_LENGTH);
	*link = i;
	p->learned++;
	s->learned++;
}

struct switch_port *switch_lookup(struct net_switch *s, const uint8_t *mac, uint64_t now)
{
	struct switch_port *p = configured(s, mac);
	if (p)
		return p;
	int *link = link_of(s, mac);
	if (*link == NO_ENTRY)
		return NULL;
	if (now - s->entry[*link].seen > SWITCH_AGE_MS) {
		forget(s, link);
		return NULL;
	}
	return s->entry[*link].port;
}

unsigned switch_learned(const struct net_switch *s)
{
	return s->learned;
}

/* The guards look into the frame; what they cannot read they let pass. */

static bool is_server_port(const uint8_t *udp, size_t n, uint16_t port)
{
	return n >= 2 && load_be16(udp) == port;
}

static bool guarded_ipv4(const struct switch_port *p, const uint8_t *ip, size_t n,
			 enum switch_drop *why)
{
	size_t header = n >= IPV4_HEADER ? (size_t)(ip[0] & 15) * 4 : 0;
	if (header < IPV4_HEADER || header >= n ||
	    load_be16(ip + IPV4_FRAGMENT) & IPV4_OFFSET_MASK)
		return false;
	if (p->dhcp_guard && ip[IPV4_PROTOCOL] == IPPROTO_UDP &&
	    is_server_port(ip + header, n - header, DHCP_SERVER_PORT)) {
		*why = SWITCH_DROP_DHCP_GUARD;
		return true;
	}
	if (p->router_guard && ip[IPV4_PROTOCOL] == IPPROTO_ICMP &&
	    (ip[header] == ICMP_REDIRECT || ip[header] == ICMP_ROUTERADVERT)) {
		*why = SWITCH_DROP_ROUTER_GUARD;
		return true;
	}
	return false;
}

static bool guarded_ipv6(const struct switch_port *p, const uint8_t *ip, size_t n,
			 enum switch_drop *why)
{
	if (n <= IPV6_HEADER)
		return false;
	if (p->dhcp_guard && ip[IPV6_NEXT] == IPPROTO_UDP &&
	    is_server_port(ip + IPV6_HEADER, n - IPV6_HEADER, DHCPV6_SERVER_PORT)) {
		*why = SWITCH_DROP_DHCP_GUARD;
		return true;
	}
	if (p->router_guard && ip[IPV6_NEXT] == IPPROTO_ICMPV6 &&
	    (ip[IPV6_HEADER] == ND_ROUTER_ADVERT || ip[IPV6_HEADER] == ND_REDIRECT)) {
		*why = SWITCH_DROP_ROUTER_GUARD;
		return true;
	}
	return false;
}

static bool guarded(const struct switch_port *p, const uint8_t *frame, size_t length,
		    enum switch_drop *why)
{
	size_t at = FRAME_HEADER;
	uint16_t type = load_be16(frame + FRAME_TYPE);
	if (!p->dhcp_guard && !p->router_guard)
		return false;
	if (type == TYPE_VLAN && length >= at + VLAN_TAG) {
		type = load_be16(frame + FRAME_TYPE + VLAN_TAG);
		at += VLAN_TAG;
	}
	if (type == TYPE_IPV4)
		return guarded_ipv4(p, frame + at, length - at, why);
	return type == TYPE_IPV6 && guarded_ipv6(p, frame + at, length - at, why);
}

/* The way of a frame. */

static bool refused(const struct switch_port *p, const uint8_t *frame, size_t length,
		    enum switch_drop *why)
{
	if (length < FRAME_HEADER || length > FRAME_MAX) {
		*why = length < FRAME_HEADER ? SWITCH_DROP_SHORT : SWITCH_DROP_LONG;
		return true;
	}
	if (!mac_is_unicast(frame + FRAME_SOURCE)) {
		*why = SWITCH_DROP_SOURCE_GROUP;
		return true;
	}
	if (p->kind == SWITCH_PORT_GUEST && !p->spoofing &&
	    !mac_equal(frame + FRAME_SOURCE, p->mac)) {
		*why = SWITCH_DROP_SOURCE;
		return true;
	}
	if (mac_is_link_local(frame + FRAME_DESTINATION)) {
		*why = SWITCH_DROP_RESERVED;
		return true;
	}
	return p->kind == SWITCH_PORT_GUEST && guarded(p, frame, length, why);
}

static void deliver(struct switch_port *p, const uint8_t *frame, size_t length, uint64_t now)
{
	if (!p->deliver) {
		p->counters.dropped_received[SWITCH_DROP_DISCONNECTED]++;
	} else if (p->deliver(p->to, frame, length)) {
		p->counters.frames_received++;
		p->counters.bytes_received += length;
		if (p->kind == SWITCH_PORT_GUEST)
			addresses_received(&p->addresses, p->mac, frame, length, now);
	} else {
		p->counters.dropped_received[SWITCH_DROP_FULL]++;
	}
}

/* To all who may see it; whether there was anybody. */
static bool flood(struct switch_port *from, const uint8_t *frame, size_t length, uint64_t now)
{
	bool group = mac_is_group(frame + FRAME_DESTINATION), any = false;
	for (struct switch_port *p = from->owner->ports; p; p = p->next) {
		if (p == from || (!group && p->kind == SWITCH_PORT_GUEST && !p->spoofing) ||
		    (!group && p->kind == SWITCH_PORT_HOST))
			continue;
		deliver(p, frame, length, now);
		any = true;
	}
	return any;
}

void switch_input(struct switch_port *from, const uint8_t *frame, size_t length, uint64_t now)
{
	enum switch_drop why;
	struct switch_counters *c = &from->counters;
	struct switch_port *to = NULL;
	if (refused(from, frame, length, &why)) {
		c->dropped_sent[why]++;
		return;
	}
	if (from->kind == SWITCH_PORT_UPLINK || from->spoofing)
		learn(from, frame + FRAME_SOURCE, now);
	if (from->kind == SWITCH_PORT_GUEST && mac_equal(frame + FRAME_SOURCE, from->mac))
		addresses_sent(&from->addresses, from->mac, frame, length, now);
	c->frames_sent++;
	c->bytes_sent += length;
	if (!mac_is_group(frame + FRAME_DESTINATION))
		to = switch_lookup(from->owner, frame + FRAME_DESTINATION, now);
	if (to == from)
		c->dropped_sent[SWITCH_DROP_SAME_PORT]++;
	else if (to)
		deliver(to, frame, length, now);
	else if (!flood(from, frame, length, now))
		c->dropped_sent[SWITCH_DROP_NOBODY]++;
}

/* Ports. */

struct switch_port *switch_port_add(struct net_switch *s, enum switch_port_kind kind,
				    const char *id, const uint8_t *mac)
{
	if (s->port_count == SWITCH_PORTS)
		return NULL;
	struct switch_port *p = alloc_zeroed(1, sizeof *p), **end = &s->ports;
	p->owner = s;
	p->kind = kind;
	strncpy(p->id, id, sizeof p->id - 1);
	while (*end)
		end = &(*end)->next;
	*end = p;
	s->port_count++;
	if (mac)
		switch_port_set(p, mac, false);
	return p;
}

void switch_port_set(struct switch_port *p, const uint8_t *mac, bool spoofing)
{
	if (!mac_equal(p->mac, mac))
		p->addresses = (struct guest_addresses){ 0 };
	memcpy(p->mac, mac, MAC_LENGTH);
	p->spoofing = spoofing;
	forget_port(p);
	/* Where others had learned the address it no longer is. */
	int *link = link_of(p->owner, mac);
	if (*link != NO_ENTRY)
		forget(p->owner, link);
}

void switch_port_remove(struct switch_port *p)
{
	struct switch_port **at = &p->owner->ports;
	forget_port(p);
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->owner->port_count--;
	free(p);
}

struct switch_port *switch_port_find(struct net_switch *s, const char *id)
{
	struct switch_port *p = s->ports;
	while (p && strcmp(p->id, id))
		p = p->next;
	return p;
}

struct switch_port *switch_ports(struct net_switch *s)
{
	return s->ports;
}

struct net_switch *switch_create(void)
{
	struct net_switch *s = alloc_zeroed(1, sizeof *s);
	for (int i = 0; i < BUCKETS; i++)
		s->bucket[i] = NO_ENTRY;
	for (int i = 0; i < SWITCH_TABLE; i++)
		s->entry[i].next = i + 1 < SWITCH_TABLE ? i + 1 : NO_ENTRY;
	return s;
}

void switch_destroy(struct net_switch *s)
{
	while (s->ports)
		switch_port_remove(s->ports);
	free(s);
}
