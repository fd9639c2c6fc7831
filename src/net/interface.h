/* The host's network interfaces, by ioctl and rtnetlink. For what Nestor made itself, and
 * for the adapter of an External switch. */
#ifndef NESTOR_NET_INTERFACE_H
#define NESTOR_NET_INTERFACE_H

#include "base/error.h"
#include "net/uplink.h"

/* All: 0, or -1 with errno. */
int interface_up(const char *name);
int interface_set_mac(const char *name, const uint8_t mac[MAC_LENGTH]);
/* One more; that it is there already is well too. */
int interface_add_address(const char *name, const struct ipv4_prefix *p);
int interface_remove_address(const char *name, const struct ipv4_prefix *p);
/* Take away the IPv4 addresses that interface_add_address did not set. */
void interface_drop_others(const char *name);
int interface_set_alias(const char *name, const char *alias);
/* false: it has none. */
bool interface_alias(const char *name, char *alias, size_t room);
bool interface_mac(const char *name, uint8_t mac[MAC_LENGTH]);
/* It is up, and has its link. */
bool interface_runs(const char *name);
int interface_index(const char *name);
/* No IPv6 there: no address of its own, nothing asked of routers. */
void interface_without_ipv6(const char *name);

/* Offloads that would hand us frames which never were on a wire: off, with
 * what was on as a mask; and back. */
unsigned interface_offloads_off(const char *name);
void interface_offloads_on(const char *name, unsigned mask);

#endif
