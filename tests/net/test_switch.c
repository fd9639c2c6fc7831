#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/switch.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 60 };

static const uint8_t A[] = { 0x00, 0x15, 0x5d, 0, 0, 1 }, B[] = { 0x00, 0x15, 0x5d, 0, 0, 2 },
	C[] = { 0x00, 0x15, 0x5d, 0, 0, 3 }, X[] = { 0x02, 0, 0, 0, 0, 9 },
	Y[] = { 0x02, 0, 0, 0, 0, 10 },
	ALL[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
	GROUP[] = { 0x33, 0x33, 0, 0, 0, 1 };

/* One cable: counts what comes out of it. */
struct cable {
	struct switch_port *port;
	unsigned frames;
	size_t last;
	bool full;
};

struct fixture {
	struct net_switch *s;
	struct cable a, b, c, up, host;
	uint64_t now;
};

static bool take(void *to, const uint8_t *frame, size_t length)
{
	struct cable *c = to;
	if (c->full)
		return false;
	c->frames++;
	c->last = length;
	return true;
}

static void plug(struct fixture *f, struct cable *c, enum switch_port_kind kind, const char *id,
		 const uint8_t *mac)
{
	*c = (struct cable){ .port = switch_port_add(f->s, kind, id, mac) };
	c->port->deliver = take;
	c->port->to = c;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	f->s = switch_create();
	plug(f, &f->a, SWITCH_PORT_GUEST, "a", A);
	plug(f, &f->b, SWITCH_PORT_GUEST, "b", B);
	plug(f, &f->c, SWITCH_PORT_GUEST, "c", C);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	switch_destroy(f->s);
	free(f);
	return 0;
}

static void send_frame(struct fixture *f, struct cable *from, const uint8_t *to, const uint8_t *source)
{
	uint8_t frame[SIZE] = { 0 };
	memcpy(frame, to, MAC_LENGTH);
	memcpy(frame + MAC_LENGTH, source, MAC_LENGTH);
	switch_input(from->port, frame, sizeof frame, f->now);
}

/* How many frames came out since the last call, as one number: abcuh. */
static unsigned came(struct fixture *f)
{
	unsigned n = 10000 * f->a.frames + 1000 * f->b.frames + 100 * f->c.frames +
		10 * f->up.frames + f->host.frames;
	f->a.frames = f->b.frames = f->c.frames = f->up.frames = f->host.frames = 0;
	return n;
}

static uint64_t dropped(struct cable *c, enum switch_drop why)
{
	return c->port->counters.dropped_sent[why];
}

static void test_known_and_groups(void **state)
{
	struct fixture *f = *state;
	send_frame(f, &f->a, B, A);
	assert_int_equal(came(f), 1000);
	assert_int_equal(f->b.last, SIZE);
	send_frame(f, &f->a, ALL, A);
	assert_int_equal(came(f), 1100);
	send_frame(f, &f->c, GROUP, C);
	assert_int_equal(came(f), 11000);
	/* To itself: nowhere. */
	send_frame(f, &f->a, A, A);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_SAME_PORT), 1);
	assert_int_equal(f->a.port->counters.frames_sent, 3);
	assert_int_equal(f->a.port->counters.bytes_sent, 3 * SIZE);
	assert_int_equal(f->b.port->counters.frames_received, 3);
	assert_int_equal(f->b.port->counters.bytes_received, 3 * SIZE);
}

static void test_source_rule(void **state)
{
	struct fixture *f = *state;
	send_frame(f, &f->a, B, X);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_SOURCE), 1);
	assert_int_equal(f->a.port->counters.frames_sent, 0);
	assert_string_equal(switch_drop_texts[SWITCH_DROP_SOURCE].sentence,
		"dropped: source address is not this adapter's (see MacAddressSpoofing)");
	assert_int_equal(switch_learned(f->s), 0);
	/* Unknown unicast reaches nobody: no port may have others behind it. */
	send_frame(f, &f->a, X, A);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_NOBODY), 1);
	/* On, at once: passes, is learned, and the answer finds its way. */
	switch_port_set(f->a.port, A, true);
	send_frame(f, &f->a, B, X);
	assert_int_equal(came(f), 1000);
	assert_int_equal(switch_learned(f->s), 1);
	send_frame(f, &f->b, X, B);
	assert_int_equal(came(f), 10000);
	/* Unknown unicast goes to that port only. */
	send_frame(f, &f->b, Y, B);
	assert_int_equal(came(f), 10000);
	/* Off again, at once: forgotten both ways. */
	switch_port_set(f->a.port, A, false);
	assert_int_equal(switch_learned(f->s), 0);
	send_frame(f, &f->a, B, X);
	send_frame(f, &f->b, X, B);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_SOURCE), 2);
	/* Its own address works all the time. */
	send_frame(f, &f->a, B, A);
	assert_int_equal(came(f), 1000);
}

static void test_bad_sources(void **state)
{
	static const uint8_t zero[MAC_LENGTH];
	struct fixture *f = *state;
	switch_port_set(f->a.port, A, true);
	send_frame(f, &f->a, B, ALL);
	send_frame(f, &f->a, B, GROUP);
	send_frame(f, &f->a, B, zero);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_SOURCE_GROUP), 3);
	/* A neighbour's configured address may be sent but never learned. */
	send_frame(f, &f->a, C, B);
	assert_int_equal(came(f), 100);
	send_frame(f, &f->c, B, C);
	assert_int_equal(came(f), 1000);
}

static void test_link_local(void **state)
{
	struct fixture *f = *state;
	uint8_t bpdu[] = { 0x01, 0x80, 0xc2, 0, 0, 0 };
	send_frame(f, &f->a, bpdu, A);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_RESERVED), 1);
	bpdu[5] = 0x10;
	send_frame(f, &f->a, bpdu, A);
	assert_int_equal(came(f), 1100);
}

static void test_uplink_and_host(void **state)
{
	struct fixture *f = *state;
	static const uint8_t host[] = { 0x00, 0x15, 0x5d, 0, 0, 0xff };
	plug(f, &f->up, SWITCH_PORT_UPLINK, "uplink", NULL);
	plug(f, &f->host, SWITCH_PORT_HOST, "vEthernet", host);
	/* Unknown: to the uplink only. */
	send_frame(f, &f->a, X, A);
	assert_int_equal(came(f), 10);
	/* Learned there; unknown unicast from there reaches no guest. */
	send_frame(f, &f->up, A, X);
	assert_int_equal(came(f), 10000);
	send_frame(f, &f->up, Y, X);
	assert_int_equal(came(f), 0);
	send_frame(f, &f->b, X, B);
	assert_int_equal(came(f), 10);
	send_frame(f, &f->b, host, B);
	assert_int_equal(came(f), 1);
	send_frame(f, &f->host, B, host);
	assert_int_equal(came(f), 1000);
	send_frame(f, &f->host, ALL, host);
	assert_int_equal(came(f), 11110);
	/* The way to an address moves with it. */
	switch_port_set(f->c.port, C, true);
	send_frame(f, &f->c, A, X);
	assert_int_equal(came(f), 10000);
	send_frame(f, &f->a, X, A);
	assert_int_equal(came(f), 100);
}

static void test_ageing(void **state)
{
	struct fixture *f = *state;
	switch_port_set(f->a.port, A, true);
	send_frame(f, &f->a, B, X);
	f->now += SWITCH_AGE_MS;
	assert_ptr_equal(switch_lookup(f->s, X, f->now), f->a.port);
	send_frame(f, &f->a, B, X);
	f->now += SWITCH_AGE_MS;
	assert_ptr_equal(switch_lookup(f->s, X, f->now), f->a.port);
	f->now++;
	assert_null(switch_lookup(f->s, X, f->now));
	assert_int_equal(switch_learned(f->s), 0);
}

static void test_table_is_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t mac[] = { 0x02, 1, 0, 0, 0, 0 };
	plug(f, &f->up, SWITCH_PORT_UPLINK, "uplink", NULL);
	switch_port_set(f->a.port, A, true);
	switch_port_set(f->b.port, B, true);
	send_frame(f, &f->b, C, X);
	for (unsigned i = 0; i < 2 * SWITCH_TABLE; i++) {
		mac[4] = (uint8_t)(i >> 8);
		mac[5] = (uint8_t)i;
		send_frame(f, &f->a, C, mac);
	}
	assert_int_equal(switch_learned(f->s), SWITCH_PORT_ADDRESSES + 1);
	assert_int_equal(f->a.port->counters.not_learned,
			 2 * SWITCH_TABLE - SWITCH_PORT_ADDRESSES);
	/* The neighbour's is still there. */
	assert_ptr_equal(switch_lookup(f->s, X, f->now), f->b.port);
	mac[1] = 2;
	for (unsigned i = 0; i < 2 * SWITCH_TABLE; i++) {
		mac[4] = (uint8_t)(i >> 8);
		mac[5] = (uint8_t)i;
		send_frame(f, &f->up, C, mac);
	}
	assert_int_equal(switch_learned(f->s), SWITCH_TABLE);
	/* Old ones make room. */
	f->now += SWITCH_AGE_MS + 1;
	send_frame(f, &f->a, C, Y);
	assert_ptr_equal(switch_lookup(f->s, Y, f->now), f->a.port);
	switch_port_remove(f->a.port);
	assert_null(switch_lookup(f->s, Y, f->now));
	switch_port_remove(f->up.port);
	switch_port_remove(f->b.port);
	assert_int_equal(switch_learned(f->s), 0);
}

static void test_back_pressure_and_nobody(void **state)
{
	struct fixture *f = *state;
	f->b.full = true;
	send_frame(f, &f->a, B, A);
	assert_int_equal(f->b.port->counters.dropped_received[SWITCH_DROP_FULL], 1);
	f->b.port->deliver = NULL;
	send_frame(f, &f->a, B, A);
	assert_int_equal(f->b.port->counters.dropped_received[SWITCH_DROP_DISCONNECTED], 1);
	assert_int_equal(f->b.port->counters.frames_received, 0);
}

static void test_ports_are_bounded(void **state)
{
	struct fixture *f = *state;
	char id[16];
	for (unsigned i = 3; i < SWITCH_PORTS; i++) {
		snprintf(id, sizeof id, "p%u", i);
		assert_non_null(switch_port_add(f->s, SWITCH_PORT_GUEST, id, X));
	}
	assert_null(switch_port_add(f->s, SWITCH_PORT_GUEST, "more", X));
	assert_non_null(switch_port_find(f->s, "p17"));
	assert_null(switch_port_find(f->s, "more"));
}

static void put(struct fixture *f, struct cable *from, const void *payload, size_t n,
		uint16_t type)
{
	uint8_t frame[256] = { 0 };
	memcpy(frame, ALL, MAC_LENGTH);
	memcpy(frame + MAC_LENGTH, from->port->mac, MAC_LENGTH);
	store_be16(frame + FRAME_TYPE, type);
	memcpy(frame + FRAME_HEADER, payload, n);
	switch_input(from->port, frame, FRAME_HEADER + n, f->now);
}

static void test_guards(void **state)
{
	struct fixture *f = *state;
	uint8_t offer[28] = { [0] = 0x45, [9] = 17, [21] = 67, [23] = 68 };
	uint8_t advert[44] = { [0] = 0x60, [6] = 58, [40] = 134 };
	put(f, &f->a, offer, sizeof offer, 0x0800);
	put(f, &f->a, advert, sizeof advert, 0x86dd);
	assert_int_equal(came(f), 2200);
	f->a.port->dhcp_guard = f->a.port->router_guard = true;
	put(f, &f->a, offer, sizeof offer, 0x0800);
	put(f, &f->a, advert, sizeof advert, 0x86dd);
	assert_int_equal(came(f), 0);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_DHCP_GUARD), 1);
	assert_int_equal(dropped(&f->a, SWITCH_DROP_ROUTER_GUARD), 1);
	/* A client's message passes; so does what is cut short anywhere. */
	offer[21] = 68;
	put(f, &f->a, offer, sizeof offer, 0x0800);
	assert_int_equal(came(f), 1100);
	offer[0] = 0x4f;
	for (size_t n = 0; n < sizeof offer; n++)
		put(f, &f->a, offer, n, 0x0800);
	for (size_t n = 0; n <= 40; n++)
		put(f, &f->a, advert, n, 0x86dd);
	assert_int_equal(came(f), (sizeof offer + 41) * 1100);
}

/* Any length and any bytes, from ports of every kind. */
static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint8_t *frame = malloc(FRAME_MAX + 100);
	uint64_t in = 0;
	plug(f, &f->up, SWITCH_PORT_UPLINK, "uplink", NULL);
	f->b.port->spoofing = true;
	f->a.port->dhcp_guard = f->b.port->dhcp_guard = f->b.port->router_guard = true;
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		struct cable *from[] = { &f->a, &f->b, &f->c, &f->up };
		size_t n = (size_t)rand() % (i % 10 ? 120 : FRAME_MAX + 100);
		for (size_t j = 0; j < n && j < 120; j++)
			frame[j] = (uint8_t)rand();
		if (n > 60 && i % 3)
			memcpy(frame + FRAME_TYPE, i % 2 ? "\x08\x00\x45" : "\x86\xdd\x60", 3);
		if (n > 40 && i % 5)
			memcpy(frame + MAC_LENGTH, A, MAC_LENGTH);
		uint8_t *exact = malloc(n + !n);	/* so that ASan sees a step beyond */
		memcpy(exact, frame, n);
		switch_input(from[i % 4]->port, exact, n, i);
		free(exact);
	}
	for (struct switch_port *p = switch_ports(f->s); p; p = p->next) {
		in += p->counters.frames_sent;
		for (unsigned i = 0; i < SWITCH_DROP_COUNT; i++)
			if (i != SWITCH_DROP_SAME_PORT && i != SWITCH_DROP_NOBODY)
				in += p->counters.dropped_sent[i];
	}
	assert_int_equal(in, 20000);	/* every frame is accounted for */
	free(frame);
}

static void test_mac_text(void **state)
{
	uint8_t mac[MAC_LENGTH];
	char text[MAC_TEXT];
	assert_true(mac_parse("00155d000001", mac) && mac_equal(mac, A));
	assert_true(mac_parse("00-15-5D-00-00-01", mac) && mac_equal(mac, A));
	assert_true(mac_parse("00:15:5d:00:00:02", mac) && mac_equal(mac, B));
	assert_string_equal(mac_format(A, text), "00-15-5D-00-00-01");
	static const char *const bad[] = { "", "0", "00155d00000", "00155d0000011", "00-15-5d-00-00",
		"00-15-5d-00-00-01-", "00-15:5d-00-00-01", "0g155d000001", "00--5d-00-00-01" };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(mac_parse(bad[i], mac));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_known_and_groups), TEST(test_source_rule), TEST(test_bad_sources),
		TEST(test_link_local), TEST(test_uplink_and_host), TEST(test_ageing),
		TEST(test_table_is_bounded), TEST(test_back_pressure_and_nobody),
		TEST(test_ports_are_bounded), TEST(test_guards), TEST(test_garbage),
		cmocka_unit_test(test_mac_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
