/* The switch processes: one per virtual switch that somebody needs.
 *
 * What a switch is to be follows from the store and the machines alone; what it
 * is, its process says. switches_sync compares the two and makes up the
 * difference: it starts and ends processes, finds those of an earlier service,
 * tells them ports, addresses, NAT and adapter, and has workers plug in cables
 * that hang loose. So a change, a crash of a switch and a service that came
 * later are one case. The service's lock is held in every call. */
#ifndef NESTOR_SERVICE_SWITCHES_H
#define NESTOR_SERVICE_SWITCHES_H

#include "service/service.h"

/* All of them. starting: a VM that is about to start, whose ports must be there
 * before its worker comes; NULL: none. -1 with the first reason when something
 * could not be done; the rest is done all the same. */
int switches_sync(struct service *s, json_t *starting, struct error *e);
/* A second has passed. */
void switches_tick(struct service *s);
/* The service goes, the machines still known: processes that somebody needs go on. */
void switches_leave(struct service *s);
/* Ask the switch's process; NULL: it has none, or with the reason. params is
 * taken over. */
json_t *switches_ask(struct service *s, const char *id, const char *method, json_t *params,
		     struct error *e);
/* The TAP that vEthernet on the running switch is; "": it is inside or not there. */
const char *switches_interface(struct service *s, const char *id);
/* The MAC address of vEthernet on a switch, 12 digits: always the same. */
void switches_host_mac(const char *id, char mac[13]);

#endif
