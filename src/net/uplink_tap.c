/* A TAP: the host's own end of an Internal (or External) switch, so that the
 * host's programs reach the guests. It is gone when this process is. Somebody
 * else may delete it; then it is made anew (struct uplink's gone). */
#include "net/interface.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FRAMES_AT_ONCE = 64 };

struct tap {
	struct uplink uplink;
	char name[IFNAMSIZ];
};

static bool tap_send(struct uplink *u, const uint8_t *frame, size_t length)
{
	return write(u->fd, frame, length) == (ssize_t)length;
}

static void tap_ready(struct uplink *u, const struct pollfd *fds, unsigned count)
{
	uint8_t frame[FRAME_MAX];
	if (!fds->revents)
		return;
	for (unsigned i = 0; i < FRAMES_AT_ONCE; i++) {
		ssize_t n = read(u->fd, frame, sizeof frame);
		u->gone = n < 0 && errno == EBADFD;
		if (n <= 0)
			break;
		uplink_receive(u, frame, (size_t)n);
	}
}

static void tap_free(struct uplink *u)
{
	close(u->fd);
	free(container_of(u, struct tap, uplink));
}

static const struct uplink_ops tap_ops = { "tap", tap_send, NULL, tap_ready, tap_free };

struct uplink *uplink_tap_create(const char *interface, const char *alias,
				 const uint8_t mac[MAC_LENGTH], struct error *e)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL };
	struct tap *t = alloc_zeroed(1, sizeof *t);
	const char *step = "made";
	t->uplink.ops = &tap_ops;
	t->uplink.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
	bool made = t->uplink.fd >= 0 && strlen(interface) < IFNAMSIZ &&
		!ioctl(t->uplink.fd, TUNSETIFF, &r);
	if (made) {
		snprintf(t->name, sizeof t->name, "%s", r.ifr_name);
		interface_set_alias(t->name, alias);	/* for people only */
		interface_without_ipv6(t->name);
		step = "set up";
		made = !interface_set_mac(t->name, mac) && !interface_up(t->name);
	}
	if (made)
		return &t->uplink;
	error_set(e, STATUS_USAGE,
		"The adapter \"%s\" (%s) cannot be %s (%s); this needs the capability CAP_NET_ADMIN and /dev/net/tun, and without them vEthernet stays inside the switch.",
		alias, interface, step, strerror(errno));
	if (t->uplink.fd >= 0)
		close(t->uplink.fd);
	free(t);
	return NULL;
}
