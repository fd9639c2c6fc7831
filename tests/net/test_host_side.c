/* vEthernet: the responder and libslirp behind a switch, by frames. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/host_side.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ARP_SIZE = 42, PING_SIZE = 98, IP_AT = 14, ICMP_AT = 34 };

static const uint8_t guest_mac[] = { 0x00, 0x15, 0x5d, 0, 0, 1 },
	host_mac[] = { 0x00, 0x15, 0x5d, 0, 0, 0xff },
	all[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct fixture {
	struct net_switch *s;
	struct host_side host;
	struct switch_port *guest;
	uint8_t last[FRAME_MAX];	/* what the guest got last */
	size_t last_length;
	unsigned frames;
};

static bool to_guest(void *to, const uint8_t *frame, size_t length)
{
	struct fixture *f = to;
	memcpy(f->last, frame, length);
	f->last_length = length;
	f->frames++;
	return true;
}

static void from_host(void *owner, const uint8_t *frame, size_t length)
{
	struct fixture *f = owner;
	switch_input(f->host.port, frame, length, 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	f->s = switch_create();
	f->guest = switch_port_add(f->s, SWITCH_PORT_GUEST, "guest", guest_mac);
	f->guest->deliver = to_guest;
	f->guest->to = f;
	f->host = (struct host_side){ .network = f->s, .receive = from_host, .owner = f,
				       .lock = -1 };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	host_side_destroy(&f->host);
	switch_destroy(f->s);
	free(f);
	return 0;
}

static struct host_config config(void)
{
	struct host_config c = { .present = true };
	memcpy(c.mac, host_mac, MAC_LENGTH);
	ipv4_prefix_parse("192.168.100.1/24", &c.address[0]);
	c.addresses = 1;
	return c;
}

static void apply(struct fixture *f, const struct host_config *c)
{
	struct error e = { 0 };
	if (host_side_apply(&f->host, c, &e))
		fail_msg("%s", e.text);
}

/* The guest sends, and the host side does what it has to. */
static void guest_sends(struct fixture *f, const uint8_t *frame, size_t length)
{
	const struct frame *later;
	struct uplink *u = f->host.uplink;
	switch_input(f->guest, frame, length, 0);
	while (u && (later = frame_queue_first(&u->later))) {
		switch_input(f->host.port, later->bytes, later->length, 0);
		frame_queue_drop(&u->later);
	}
}

static void put_address(uint8_t *at, const char *text)
{
	inet_pton(AF_INET, text, at);
}

static void make_arp(uint8_t frame[ARP_SIZE], const char *whom)
{
	static const uint8_t fixed[] = { 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 };
	memset(frame, 0, ARP_SIZE);
	memcpy(frame, all, MAC_LENGTH);
	memcpy(frame + 6, guest_mac, MAC_LENGTH);
	memcpy(frame + 12, fixed, sizeof fixed);
	memcpy(frame + 22, guest_mac, MAC_LENGTH);
	put_address(frame + 28, "192.168.100.2");
	put_address(frame + 38, whom);
}

static void make_ping(uint8_t frame[PING_SIZE], const char *whom)
{
	memset(frame, 0x5a, PING_SIZE);
	memcpy(frame, host_mac, MAC_LENGTH);
	memcpy(frame + 6, guest_mac, MAC_LENGTH);
	memcpy(frame + 12, (const uint8_t[]){ 8, 0, 0x45, 0, 0, PING_SIZE - IP_AT, 0, 1, 0, 0,
					     64, 1, 0, 0 }, 14);
	put_address(frame + 26, "192.168.100.2");
	put_address(frame + 30, whom);
	store_be16(frame + 24, inet_checksum(frame + IP_AT, 20));
	memcpy(frame + ICMP_AT, (const uint8_t[]){ 8, 0, 0, 0 }, 4);
	store_be16(frame + ICMP_AT + 2, inet_checksum(frame + ICMP_AT, PING_SIZE - ICMP_AT));
}

/* The guest asks who has the address; is it answered with vEthernet's MAC? */
static bool arp_answered(struct fixture *f, const char *whom)
{
	uint8_t frame[ARP_SIZE];
	unsigned before = f->frames;
	make_arp(frame, whom);
	guest_sends(f, frame, sizeof frame);
	return f->frames > before && f->last[21] == 2 &&
		mac_equal(f->last + FRAME_SOURCE, host_mac) && mac_equal(f->last + 22, host_mac);
}

static bool ping_answered(struct fixture *f, const char *whom)
{
	uint8_t frame[PING_SIZE];
	unsigned before = f->frames;
	make_ping(frame, whom);
	guest_sends(f, frame, sizeof frame);
	return f->frames > before && f->last[ICMP_AT] == 0 && mac_equal(f->last, guest_mac) &&
		!inet_checksum(f->last + IP_AT, 20) &&
		!inet_checksum(f->last + ICMP_AT, f->last_length - ICMP_AT) &&
		!memcmp(f->last + ICMP_AT + 8, frame + ICMP_AT + 8, PING_SIZE - ICMP_AT - 8);
}

static void test_responder(void **state)
{
	struct fixture *f = *state;
	struct host_config c = config();
	apply(f, &c);
	assert_string_equal(f->host.uplink->ops->name, "inside");
	assert_true(arp_answered(f, "192.168.100.1"));
	assert_false(arp_answered(f, "192.168.100.9"));
	assert_true(ping_answered(f, "192.168.100.1"));
	assert_false(ping_answered(f, "192.168.100.9"));
	/* A second address, and none. */
	ipv4_prefix_parse("10.1.1.1/8", &c.address[c.addresses++]);
	apply(f, &c);
	assert_true(arp_answered(f, "10.1.1.1"));
	c.addresses = 0;
	apply(f, &c);
	assert_false(arp_answered(f, "10.1.1.1"));
	c.present = false;
	apply(f, &c);
	assert_null(f->host.port);
	assert_false(arp_answered(f, "192.168.100.1"));
}

/* The page's order: the NAT first, then its address. The MAC stays the same
 * whatever is behind it. */
static void test_nat_and_address(void **state)
{
	struct fixture *f = *state;
	struct host_config c = config();
	c.addresses = 0;
	c.nat = true;
	ipv4_prefix_parse("192.168.100.0/24", &c.nat_prefix);
	apply(f, &c);
	assert_string_equal(f->host.uplink->ops->name, "inside");
	assert_null(host_config_gateway(&c));
	ipv4_prefix_parse("192.168.100.1/24", &c.address[0]);
	c.addresses = 1;
	apply(f, &c);
	assert_string_equal(f->host.uplink->ops->name, "slirp");
	assert_true(arp_answered(f, "192.168.100.1"));
	assert_true(ping_answered(f, "192.168.100.1"));
	c.nat = false;
	apply(f, &c);
	assert_string_equal(f->host.uplink->ops->name, "inside");
	assert_true(arp_answered(f, "192.168.100.1"));
}

static uint16_t free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	getsockname(fd, (struct sockaddr *)&a, &n);
	close(fd);
	return ntohs(a.sin_port);
}

static bool connects(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool done = !connect(fd, (struct sockaddr *)&a, sizeof a);
	close(fd);
	return done;
}

static void test_mappings(void **state)
{
	struct fixture *f = *state;
	struct host_config c = config();
	struct error e;
	struct nat_mapping *m = c.mapping;
	c.nat = true;
	c.nat_prefix = c.address[0];
	apply(f, &c);
	struct uplink *before = f->host.uplink;
	*m = (struct nat_mapping){ .external.s_addr = htonl(INADDR_LOOPBACK), .internal_port = 80,
				   .external_port = free_port() };
	put_address((uint8_t *)&m->internal, "192.168.100.2");
	c.mappings = 1;
	apply(f, &c);
	assert_ptr_equal(f->host.uplink, before);	/* connections stay */
	assert_true(connects(m->external_port));
	/* A port that is taken: refused, and all is as before. */
	c.mapping[1] = c.mapping[0];
	put_address((uint8_t *)&c.mapping[1].internal, "192.168.100.3");
	c.mappings = 2;
	assert_int_equal(host_side_apply(&f->host, &c, &e), -1);
	assert_non_null(strstr(e.text, "cannot be listened on"));
	assert_int_equal(f->host.config.mappings, 1);
	assert_true(connects(m->external_port));
	c.mappings = 0;
	apply(f, &c);
	assert_false(connects(m->external_port));
	/* A prefix without room, likewise. */
	c.nat_prefix.bits = 31;
	assert_int_equal(host_side_apply(&f->host, &c, &e), -1);
	assert_true(arp_answered(f, "192.168.100.1"));
}

/* Whatever a guest sends to the gateway, also what looks right at first. */
static void garbage(struct fixture *f, unsigned frames)
{
	static const uint8_t types[][2] = { { 8, 6 }, { 8, 0 }, { 0x86, 0xdd } };
	uint8_t seed[PING_SIZE];
	srand(2);
	for (unsigned i = 0; i < frames; i++) {
		size_t n = FRAME_HEADER + (size_t)rand() % (i % 16 ? 150 : 2000);
		uint8_t *frame = malloc(n);	/* so that ASan sees a step beyond */
		for (size_t j = 0; j < n; j++)
			frame[j] = (uint8_t)rand();
		make_ping(seed, "192.168.100.1");
		if (i % 3)
			memcpy(frame, seed, n < ICMP_AT ? n : ICMP_AT);
		if (n > ICMP_AT && i % 2)
			frame[23] = (const uint8_t[]){ 1, 2, 6, 17 }[i / 2 % 4];
		if (n > ICMP_AT && i % 4 == 1) {
			frame[16 + rand() % 18] ^= (uint8_t)(1 << rand() % 8);
			store_be16(frame + 16, (uint16_t)(n - IP_AT));
			store_be16(frame + 24, 0);
			store_be16(frame + 24, inet_checksum(frame + IP_AT, 20));
		}
		memcpy(frame, i % 5 ? host_mac : all, MAC_LENGTH);
		memcpy(frame + FRAME_SOURCE, guest_mac, MAC_LENGTH);
		if (!(i % 3))
			memcpy(frame + FRAME_TYPE, types[i / 3 % 3], 2);
		guest_sends(f, frame, n);
		free(frame);
	}
}

static void test_garbage_to_responder(void **state)
{
	struct fixture *f = *state;
	struct host_config c = config();
	apply(f, &c);
	garbage(f, 20000);
	assert_true(ping_answered(f, "192.168.100.1"));
}

static void test_prefix_text(void **state)
{
	struct ipv4_prefix p;
	assert_true(ipv4_prefix_parse("192.168.100.0/24", &p));
	assert_int_equal(p.bits, 24);
	assert_true(ipv4_prefix_has(&p, (struct in_addr){ inet_addr("192.168.100.77") }));
	assert_false(ipv4_prefix_has(&p, (struct in_addr){ inet_addr("192.168.101.77") }));
	static const char *const bad[] = { "", "/", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3/8",
		"1.2.3.4/-1", "1.2.3.4/8x", "1.2.3.4.5.6.7.8.9.10/8" };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(ipv4_prefix_parse(bad[i], &p));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_responder), TEST(test_nat_and_address), TEST(test_mappings),
		TEST(test_garbage_to_responder), cmocka_unit_test(test_prefix_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
