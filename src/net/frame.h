/* Ethernet frames and addresses: what everybody in src/net agrees on. */
#ifndef NESTOR_NET_FRAME_H
#define NESTOR_NET_FRAME_H

#include "base/bits.h"

enum {
	MAC_LENGTH = 6,
	MAC_TEXT = 18,			/* 00-15-5D-01-02-03 and the final zero */
	FRAME_DESTINATION = 0,
	FRAME_SOURCE = 6,
	FRAME_TYPE = 12,
	FRAME_HEADER = 14,
	/* Jumbo frames of 9216 bytes, with a header and a VLAN tag. */
	FRAME_MAX = 9216 + 18,
};

static inline bool mac_equal(const uint8_t *a, const uint8_t *b)
{
	return !memcmp(a, b, MAC_LENGTH);
}

/* Of a group: multicast or broadcast. */
static inline bool mac_is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}

static inline bool mac_is_zero(const uint8_t *mac)
{
	return !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* An address that an adapter can have. */
static inline bool mac_is_unicast(const uint8_t *mac)
{
	return !mac_is_group(mac) && !mac_is_zero(mac);
}

/* Addresses that a bridge keeps to itself (IEEE 802.1Q, "Reserved addresses"):
 * spanning tree, pause, LLDP. */
static inline bool mac_is_link_local(const uint8_t *mac)
{
	static const uint8_t prefix[] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };
	return !memcmp(mac, prefix, sizeof prefix) && mac[5] < 16;
}

static inline uint16_t load_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Twelve hexadecimal digits, alone or in pairs joined by - or :; false when
 * the text is anything else. */
bool mac_parse(const char *text, uint8_t mac[MAC_LENGTH]);
/* As Windows writes it: 00-15-5D-01-02-03. */
const char *mac_format(const uint8_t mac[MAC_LENGTH], char text[MAC_TEXT]);

/* The Internet checksum of n bytes. */
uint16_t inet_checksum(const uint8_t *bytes, size_t n);

#endif
