/* The host's network interfaces, by ioctl. For what Nestor made itself, and
 * for the adapter of an External switch. */
#ifndef NESTOR_NET_INTERFACE_H
#define NESTOR_NET_INTERFACE_H

#include "base/error.h"
#include "net/uplink.h"

/* All: 0, or -1 with errno. */
int interface_up(const char *name);
int interface_set_mac(const char *name, const uint8_t mac[MAC_LENGTH]);
int interface_set_address(const char *name, const struct ipv4_prefix *p);
int interface_set_alias(const char *name, const char *alias);
int interface_index(const char *name);

/* Offloads that would hand us frames which never were on a wire: off, with
 * what was on as a mask; and back. */
unsigned interface_offloads_off(const char *name);
void interface_offloads_on(const char *name, unsigned mask);

#endif
