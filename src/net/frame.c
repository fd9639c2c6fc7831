#include "net/frame.h"

#include <stdio.h>

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;
	return at ? (int)(at - digits) : -1;
}

bool mac_parse(const char *text, uint8_t mac[MAC_LENGTH])
{
	char joint = text[0] && text[1] ? text[2] : '\0';
	if (joint != '-' && joint != ':')
		joint = '\0';
	for (unsigned i = 0; i < MAC_LENGTH; i++) {
		if (i && joint && *text++ != joint)
			return false;
		int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return !*text;
}

const char *mac_format(const uint8_t mac[MAC_LENGTH], char text[MAC_TEXT])
{
	snprintf(text, MAC_TEXT, "%02X-%02X-%02X-%02X-%02X-%02X",
		 mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

uint16_t inet_checksum(const uint8_t *bytes, size_t n)
{
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += load_be16(bytes + i);
	if (n & 1)
		sum += (uint32_t)bytes[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
