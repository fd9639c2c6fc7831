/* The addresses that a guest's own frames tell. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/switch.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARP_SIZE = 42, DHCP_SIZE = 14 + 20 + 8 + 300, DHCP_AT = 42, OPTIONS_AT = DHCP_AT + 240,
       NEIGHBOUR_SIZE = 14 + 40 + 24, REQUEST = 3, ACK = 5, RELEASE = 7 };

static const uint8_t guest[] = { 0x00, 0x15, 0x5d, 0, 0, 1 }, other[] = { 0x00, 0x15, 0x5d, 0, 0, 2 };

static void make_arp(uint8_t frame[ARP_SIZE], const uint8_t *source, const char *address)
{
	static const uint8_t fixed[] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
	memset(frame, 0, ARP_SIZE);
	memset(frame, 0xff, MAC_LENGTH);
	memcpy(frame + FRAME_SOURCE, source, MAC_LENGTH);
	memcpy(frame + FRAME_TYPE, fixed, sizeof fixed);
	memcpy(frame + 22, source, MAC_LENGTH);
	inet_pton(AF_INET, address, frame + 28);
}

static void make_dhcp(uint8_t frame[DHCP_SIZE], uint8_t type, uint8_t transaction, const char *yours)
{
	uint8_t *ip = frame + FRAME_HEADER, *udp = ip + 20;
	memset(frame, 0, DHCP_SIZE);
	memcpy(frame + FRAME_SOURCE, type == ACK ? other : guest, MAC_LENGTH);
	memcpy(frame, type == ACK ? guest : other, MAC_LENGTH);
	store_be16(frame + FRAME_TYPE, 0x0800);
	ip[0] = 0x45;
	ip[9] = IPPROTO_UDP;
	inet_pton(AF_INET, yours, ip + 12);
	store_be16(udp, type == ACK ? 67 : 68);
	store_be16(udp + 2, type == ACK ? 68 : 67);
	frame[DHCP_AT] = type == ACK ? 2 : 1;
	frame[DHCP_AT + 7] = transaction;
	inet_pton(AF_INET, yours, frame + DHCP_AT + 16);
	memcpy(frame + DHCP_AT + 28, guest, MAC_LENGTH);
	memcpy(frame + DHCP_AT + 236, (const uint8_t[]){ 99, 130, 83, 99, 0, 12, 1, 'x', 53, 1, type, 255 }, 12);
}

/* All that is known, with a blank after each. */
static const char *known(const struct guest_addresses *a)
{
	static char text[ADDRESSES_MAX * INET6_ADDRSTRLEN];
	char one[INET6_ADDRSTRLEN];
	text[0] = '\0';
	for (unsigned i = 0; i < ADDRESSES_MAX; i++)
		if (a->known[i].heard)
			sprintf(text + strlen(text), "%s ",
				inet_ntop(a->known[i].family, &a->known[i].address, one, sizeof one));
	return text;
}

static void test_arp(void **state)
{
	struct guest_addresses a = { 0 };
	uint8_t frame[ARP_SIZE];
	make_arp(frame, guest, "192.168.1.5");
	addresses_sent(&a, guest, frame, sizeof frame, 0);
	addresses_sent(&a, guest, frame, sizeof frame, 1000);
	assert_string_equal(known(&a), "192.168.1.5 ");
	/* A probe has no address yet; a claim for another MAC is none of its own. */
	make_arp(frame, guest, "0.0.0.0");
	addresses_sent(&a, guest, frame, sizeof frame, 1000);
	make_arp(frame, other, "192.168.1.6");
	addresses_sent(&a, guest, frame, sizeof frame, 1000);
	make_arp(frame, guest, "224.0.0.1");
	addresses_sent(&a, guest, frame, sizeof frame, 1000);
	addresses_sent(&a, guest, frame, sizeof frame - 1, 1000);
	assert_string_equal(known(&a), "192.168.1.5 ");
	/* Another, and the first one grows old beside it. */
	make_arp(frame, guest, "192.168.1.7");
	addresses_sent(&a, guest, frame, sizeof frame, 2000);
	assert_string_equal(known(&a), "192.168.1.5 192.168.1.7 ");
	addresses_sent(&a, guest, frame, sizeof frame, 2000 + ADDRESSES_AGE_MS);
	assert_string_equal(known(&a), "192.168.1.7 ");
}

static void test_arp_is_bounded(void **state)
{
	struct guest_addresses a = { 0 };
	uint8_t frame[ARP_SIZE];
	char address[16];
	for (unsigned i = 1; i < 200; i++) {
		snprintf(address, sizeof address, "10.0.0.%u", i);
		make_arp(frame, guest, address);
		addresses_sent(&a, guest, frame, sizeof frame, i);
	}
	assert_non_null(strstr(known(&a), "10.0.0.199 "));
	assert_null(strstr(known(&a), "10.0.0.1 "));
}

static void test_dhcp(void **state)
{
	struct guest_addresses a = { 0 };
	uint8_t frame[DHCP_SIZE];
	/* An answer that nobody asked for, and one to somebody else's request. */
	make_dhcp(frame, ACK, 7, "10.0.2.15");
	addresses_received(&a, guest, frame, sizeof frame, 1);
	make_dhcp(frame, REQUEST, 7, "0.0.0.0");
	addresses_sent(&a, guest, frame, sizeof frame, 1);
	make_dhcp(frame, ACK, 8, "10.0.2.15");
	addresses_received(&a, guest, frame, sizeof frame, 1);
	assert_string_equal(known(&a), "");
	make_dhcp(frame, ACK, 7, "10.0.2.15");
	addresses_received(&a, other, frame, sizeof frame, 1);
	assert_string_equal(known(&a), "");
	addresses_received(&a, guest, frame, sizeof frame, 1);
	assert_string_equal(known(&a), "10.0.2.15 ");
	make_dhcp(frame, RELEASE, 9, "10.0.2.15");
	addresses_sent(&a, guest, frame, sizeof frame, 1);
	assert_string_equal(known(&a), "");
}

static void test_neighbours(void **state)
{
	enum { SOLICITATION = 135, ADVERTISEMENT = 136 };
	struct guest_addresses a = { 0 };
	uint8_t frame[NEIGHBOUR_SIZE] = { 0 };
	store_be16(frame + FRAME_TYPE, 0x86dd);
	frame[FRAME_HEADER + 6] = IPPROTO_ICMPV6;
	frame[FRAME_HEADER + 40] = SOLICITATION;
	addresses_sent(&a, guest, frame, sizeof frame, 1);	/* looks for duplicates: has none yet */
	assert_string_equal(known(&a), "");
	inet_pton(AF_INET6, "fe80::1", frame + FRAME_HEADER + 8);
	addresses_sent(&a, guest, frame, sizeof frame, 1);
	frame[FRAME_HEADER + 40] = ADVERTISEMENT;
	inet_pton(AF_INET6, "fd00::2", frame + FRAME_HEADER + 48);
	addresses_sent(&a, guest, frame, sizeof frame, 1);
	assert_string_equal(known(&a), "fe80::1 fd00::2 ");
}

/* Through a switch: only what the guest sends as itself counts, and with its
 * address what is known goes. */
static void test_through_the_switch(void **state)
{
	struct net_switch *s = switch_create();
	struct switch_port *p = switch_port_add(s, SWITCH_PORT_GUEST, "a", guest);
	uint8_t frame[ARP_SIZE];
	switch_port_set(p, guest, true);
	make_arp(frame, other, "192.168.1.6");
	switch_input(p, frame, sizeof frame, 1);
	assert_string_equal(known(&p->addresses), "");
	make_arp(frame, guest, "192.168.1.5");
	switch_input(p, frame, sizeof frame, 1);
	assert_string_equal(known(&p->addresses), "192.168.1.5 ");
	switch_port_set(p, guest, false);
	assert_string_equal(known(&p->addresses), "192.168.1.5 ");
	switch_port_set(p, other, false);
	assert_string_equal(known(&p->addresses), "");
	switch_destroy(s);
}

/* Whatever comes, in memory of exactly its size. */
static void test_garbage(void **state)
{
	struct guest_addresses a = { 0 };
	uint8_t seeds[2][DHCP_SIZE], neighbour[NEIGHBOUR_SIZE] = { 0 };
	make_dhcp(seeds[0], REQUEST, 7, "0.0.0.0");
	make_dhcp(seeds[1], ACK, 7, "10.0.2.15");
	store_be16(neighbour + FRAME_TYPE, 0x86dd);
	neighbour[FRAME_HEADER + 6] = IPPROTO_ICMPV6;
	neighbour[FRAME_HEADER + 40] = 135;
	srand(3);
	for (unsigned i = 0; i < 100000; i++) {
		const uint8_t *seed = i % 3 ? seeds[i % 2] : neighbour;
		size_t most = i % 3 ? DHCP_SIZE : NEIGHBOUR_SIZE;
		size_t n = FRAME_HEADER + (size_t)rand() % (most - FRAME_HEADER + 1);
		uint8_t *frame = malloc(n);
		memcpy(frame, seed, n);
		for (unsigned k = (unsigned)rand() % 4; k; k--)
			frame[(size_t)rand() % n] = (uint8_t)rand();
		if (n > OPTIONS_AT && i % 5)
			for (size_t at = OPTIONS_AT; at < n; at++)
				frame[at] = (uint8_t)(rand() % (i % 7 ? 256 : 3));
		addresses_sent(&a, guest, frame, n, i);
		addresses_received(&a, guest, frame, n, i);
		free(frame);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp), cmocka_unit_test(test_arp_is_bounded), cmocka_unit_test(test_dhcp),
		cmocka_unit_test(test_neighbours), cmocka_unit_test(test_through_the_switch),
		cmocka_unit_test(test_garbage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
