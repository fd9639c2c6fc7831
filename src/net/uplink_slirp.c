/* The host's side of a network by libslirp: a gateway that turns the guests'
 * connections into sockets of this process, so without privilege.
 *
 * libslirp gives each of its addresses a MAC of its own and does not look at
 * the destination of what it is sent. To the guests all of it is one adapter,
 * vEthernet: frames it makes get that one's MAC, in the header and in ARP
 * answers, and only frames for that MAC or a group reach it.
 *
 * libslirp opens a socket for whatever a guest begins, without end. Here it may
 * have SOCKETS_MAX of a kind; from then on frames that would begin another one
 * are not taken, and what has begun goes on. */
#include "net/uplink.h"

#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <time.h>

enum {
	CONFIG_VERSION = 4,	/* the first with disable_dhcp */
	FIRST_DHCP_HOST = 15,	/* of the network, as libslirp's own default */
	DNS_AFTER_GATEWAY = 1,
	TIMERS = 4,
	NS_PER_MS = 1000000,
	DESCRIPTORS = 512,	/* in one wait: the sockets, and mappings */
	SOCKETS_MAX = 200,
	FLOWS = 1024,
	FLOW_AGE_MS = 240 * 1000,	/* libslirp keeps a UDP socket so long */
	IPV4_HEADER = sizeof(struct iphdr),
};

enum socket_kind { SOCKET_NONE, SOCKET_TCP, SOCKET_OTHER, SOCKET_KINDS };

/* A guest's UDP port that has a socket. */
struct flow {
	uint32_t address;
	uint16_t port;
	int64_t until_ms;
};

struct slirp_timer {
	SlirpTimerCb fire;
	void *owner;
	int64_t deadline_ms;	/* 0: not armed */
};

struct slirp_uplink {
	struct uplink uplink;
	struct slirp_options options;
	Slirp *slirp;
	bool sending;		/* libslirp was called by send */
	struct slirp_timer *timer[TIMERS];
	struct pollfd *fds;	/* during fill and ready */
	unsigned room, count;
	enum socket_kind open[DESCRIPTORS];	/* libslirp's sockets, by descriptor */
	unsigned sockets[SOCKET_KINDS];
	struct flow flow[FLOWS];
};

static int64_t now_ns(void *owner)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * (int64_t)NS_PER_SECOND + t.tv_nsec;
}

static ssize_t from_slirp(const void *bytes, size_t length, void *owner)
{
	struct slirp_uplink *s = owner;
	uint8_t frame[FRAME_MAX];
	if (length < FRAME_HEADER || length > sizeof frame)
		return (ssize_t)length;
	memcpy(frame, bytes, length);
	memcpy(frame + FRAME_SOURCE, s->options.mac, MAC_LENGTH);
	if (load_be16(frame + FRAME_TYPE) == ETHERTYPE_ARP &&
	    length >= FRAME_HEADER + sizeof(struct ether_arp))
		memcpy(frame + FRAME_HEADER + offsetof(struct ether_arp, arp_sha),
		       s->options.mac, MAC_LENGTH);
	if (s->sending)
		uplink_later(&s->uplink, frame, length);
	else
		uplink_receive(&s->uplink, frame, length);
	return (ssize_t)length;
}

static void guest_error(const char *message, void *owner)
{
	trace(VIRTIO, "slirp: %s", message);
}

static void *timer_new(SlirpTimerCb fire, void *fire_owner, void *owner)
{
	struct slirp_uplink *s = owner;
	for (unsigned i = 0; i < TIMERS; i++)
		if (!s->timer[i]) {
			s->timer[i] = alloc_zeroed(1, sizeof *s->timer[i]);
			*s->timer[i] = (struct slirp_timer){ .fire = fire, .owner = fire_owner };
			return s->timer[i];
		}
	panic("libslirp wants more than %d timers", TIMERS);
}

static void timer_free(void *timer, void *owner)
{
	struct slirp_uplink *s = owner;
	for (unsigned i = 0; i < TIMERS; i++)
		if (s->timer[i] == timer)
			s->timer[i] = NULL;
	free(timer);
}

static void timer_mod(void *timer, int64_t deadline_ms, void *owner)
{
	((struct slirp_timer *)timer)->deadline_ms = deadline_ms;
}

static void socket_is(struct slirp_uplink *s, int fd, enum socket_kind kind)
{
	if (fd < 0 || fd >= DESCRIPTORS)
		return;
	s->sockets[s->open[fd]]--;
	s->open[fd] = kind;
	s->sockets[kind]++;
}

static void socket_opened(int fd, void *owner)
{
	int type = 0;
	socklen_t n = sizeof type;
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n);
	socket_is(owner, fd, type == SOCK_STREAM ? SOCKET_TCP : SOCKET_OTHER);
}

static void socket_closed(int fd, void *owner)
{
	socket_is(owner, fd, SOCKET_NONE);
}

static void notify(void *owner)
{
}

static const SlirpCb callbacks = {
	.send_packet = from_slirp,
	.guest_error = guest_error,
	.clock_get_ns = now_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = socket_opened,
	.unregister_poll_fd = socket_closed,
	.notify = notify,
};

/* slirp's events and poll's. */
static const struct { int slirp; short poll; } events[] = {
	{ SLIRP_POLL_IN, POLLIN }, { SLIRP_POLL_OUT, POLLOUT }, { SLIRP_POLL_PRI, POLLPRI },
	{ SLIRP_POLL_ERR, POLLERR }, { SLIRP_POLL_HUP, POLLHUP },
};

static int add_poll(int fd, int wanted, void *owner)
{
	struct slirp_uplink *s = owner;
	if (s->count == s->room)
		return -1;
	struct pollfd *p = &s->fds[s->count];
	*p = (struct pollfd){ .fd = fd };
	for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
		if (wanted & events[i].slirp)
			p->events |= events[i].poll;
	return (int)s->count++;
}

static int get_revents(int index, void *owner)
{
	struct slirp_uplink *s = owner;
	int got = 0;
	if (index < 0 || (unsigned)index >= s->count)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
		if (s->fds[index].revents & events[i].poll)
			got |= events[i].slirp;
	return got;
}

static unsigned slirp_fill(struct uplink *u, struct pollfd *fds, unsigned room, int *timeout_ms)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	uint32_t wait = *timeout_ms < 0 ? UINT32_MAX : (uint32_t)*timeout_ms;
	int64_t now = now_ns(NULL) / NS_PER_MS;
	s->fds = fds;
	s->room = room < DESCRIPTORS ? room : DESCRIPTORS;
	s->count = 0;
	slirp_pollfds_fill(s->slirp, &wait, add_poll, s);
	for (unsigned i = 0; i < TIMERS; i++)
		if (s->timer[i] && s->timer[i]->deadline_ms) {
			int64_t left = s->timer[i]->deadline_ms - now;
			if (left < (int64_t)wait)
				wait = left > 0 ? (uint32_t)left : 0;
		}
	*timeout_ms = wait > INT32_MAX ? -1 : (int)wait;
	return s->count;
}

static void slirp_ready(struct uplink *u, const struct pollfd *fds, unsigned count)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	int64_t now = now_ns(NULL) / NS_PER_MS;
	slirp_pollfds_poll(s->slirp, 0, get_revents, s);
	for (unsigned i = 0; i < TIMERS; i++) {
		struct slirp_timer *t = s->timer[i];
		if (t && t->deadline_ms && t->deadline_ms <= now) {
			t->deadline_ms = 0;
			t->fire(t->owner);
		}
	}
}

/* Is the UDP port's socket there, or may it be? Then it is remembered. */
static bool udp_flows(struct slirp_uplink *s, uint32_t address, uint16_t port, bool full)
{
	struct flow *f = &s->flow[(address ^ address >> 16 ^ port ^ port >> 8) % FLOWS];
	int64_t now = now_ns(NULL) / NS_PER_MS;
	if (full && (f->address != address || f->port != port || f->until_ms < now))
		return false;
	*f = (struct flow){ .address = address, .port = port, .until_ms = now + FLOW_AGE_MS };
	return true;
}

/* Would libslirp open a socket too many for this frame? */
static bool is_too_many(struct slirp_uplink *s, const uint8_t *frame, size_t length)
{
	const uint8_t *p = frame + FRAME_HEADER;
	struct iphdr ip;
	bool full = s->sockets[SOCKET_OTHER] >= SOCKETS_MAX;
	if (load_be16(frame + FRAME_TYPE) != ETHERTYPE_IP || length < FRAME_HEADER + IPV4_HEADER)
		return false;
	memcpy(&ip, p, sizeof ip);
	size_t at = ip.ihl * 4u;
	if (ip.frag_off & htons(IP_OFFMASK) || length < FRAME_HEADER + at + sizeof(struct udphdr))
		return false;
	if (ip.protocol == IPPROTO_UDP) {
		struct udphdr udp;
		memcpy(&udp, p + at, sizeof udp);
		return !udp_flows(s, ip.saddr, udp.source, full);
	}
	if (ip.protocol == IPPROTO_TCP && length >= FRAME_HEADER + at + sizeof(struct tcphdr))
		return s->sockets[SOCKET_TCP] >= SOCKETS_MAX &&
			(p[at + offsetof(struct tcphdr, th_flags)] & (TH_SYN | TH_ACK)) == TH_SYN;
	return full && ip.protocol == IPPROTO_ICMP && ip.daddr != s->options.gateway.address.s_addr;
}

static bool slirp_send(struct uplink *u, const uint8_t *frame, size_t length)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	if (mac_is_group(frame) || mac_equal(frame, s->options.mac)) {
		if (is_too_many(s, frame, length))
			return false;
		s->sending = true;
		slirp_input(s->slirp, frame, (int)length);
		s->sending = false;
	}
	return true;
}

static void slirp_free(struct uplink *u)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	s->sending = true;	/* last words go nowhere */
	slirp_cleanup(s->slirp);
	for (unsigned i = 0; i < TIMERS; i++)
		free(s->timer[i]);
	frame_queue_clear(&u->later);
	free(s);
}

static const struct uplink_ops slirp_uplink_ops = {
	"slirp", slirp_send, slirp_fill, slirp_ready, slirp_free,
};

/* The n-th host of the gateway's network. */
static struct in_addr host(const struct slirp_options *o, uint32_t n)
{
	return (struct in_addr){ (o->gateway.address.s_addr & ipv4_mask(o->gateway.bits).s_addr) |
				 htonl(n) };
}

struct uplink *uplink_slirp_create(const struct slirp_options *o, struct error *e)
{
	enum { SMALLEST_BITS = 27 };	/* the DHCP addresses fit in */
	if (o->gateway.bits < 8 || o->gateway.bits > (o->dhcp ? SMALLEST_BITS : 30)) {
		error_set(e, STATUS_USAGE,
			"A NAT cannot have a prefix of %u bits; use one from 8 to %d.",
			o->gateway.bits, o->dhcp ? SMALLEST_BITS : 30);
		return NULL;
	}
	struct slirp_uplink *s = alloc_zeroed(1, sizeof *s);
	SlirpConfig config = {
		.version = CONFIG_VERSION,
		.in_enabled = true,
		.vnetwork = host(o, 0),
		.vnetmask = ipv4_mask(o->gateway.bits),
		.vhost = o->gateway.address,
		.vdhcp_start = host(o, FIRST_DHCP_HOST),
		.vnameserver = { htonl(ntohl(o->gateway.address.s_addr) + DNS_AFTER_GATEWAY) },
		.disable_dns = !o->dns,
		.disable_dhcp = !o->dhcp,
	};
	s->options = *o;
	s->uplink.ops = &slirp_uplink_ops;
	s->slirp = slirp_new(&config, &callbacks, s);
	if (s->slirp)
		return &s->uplink;
	error_set(e, STATUS_FAULT, "libslirp %s does not start.", slirp_version_string());
	free(s);
	return NULL;
}

int uplink_slirp_map(struct uplink *u, const struct nat_mapping *m, struct error *e)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	char address[INET_ADDRSTRLEN];
	if (!slirp_add_hostfwd(s->slirp, m->udp, m->external, m->external_port,
			       m->internal, m->internal_port))
		return 0;
	return error_set(e, STATUS_USAGE,
		"%s port %u of %s cannot be listened on (%s); choose another.",
		m->udp ? "UDP" : "TCP", m->external_port,
		inet_ntop(AF_INET, &m->external, address, sizeof address), strerror(errno));
}

void uplink_slirp_unmap(struct uplink *u, const struct nat_mapping *m)
{
	struct slirp_uplink *s = container_of(u, struct slirp_uplink, uplink);
	slirp_remove_hostfwd(s->slirp, m->udp, m->external, m->external_port);
}
