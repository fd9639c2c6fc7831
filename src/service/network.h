/* The seam between the service and the network's data path.
 *
 * Configuration is the service's: switches, NATs and adapters are objects in
 * the store, and everything here is about them. Who carries frames (the switch
 * processes, switches.h; virtio-net in the worker) is told of a VM that starts
 * and of an adapter that changed while its VM runs, and asked for a port's
 * counters: the functions marked (data path). */
#ifndef NESTOR_SERVICE_NETWORK_H
#define NESTOR_SERVICE_NETWORK_H

#include "net/uplink.h"
#include "service/call.h"

#define DEFAULT_SWITCH_NAME "Default Switch"
/* Its network and the host's address in it, as the switch process has it. */
#define DEFAULT_SWITCH_ADDRESS "10.0.2.2/24"
/* Hyper-V's own id of it. */
#define DEFAULT_SWITCH_ID "c08cb7b8-9b3c-408e-8e30-5e16a3aeb444"

/* A switch by name, the default one included; borrowed. NULL with an error of
 * the call. */
json_t *network_find_switch(struct call *c, const char *name);
/* Connect an adapter (changed in place); network NULL: disconnect. */
void network_connect(json_t *adapter, json_t *network);

/* The default switch is there, whatever the store says. */
void network_ensure_default(struct service *s);
/* The host's interface that a user's name means, without case; "Ethernet" is
 * the first that is no loopback. False when there is none. */
bool network_host_interface(const char *name, char *interface, size_t room);

/* An IPv4 network of this system's own adapters that shares addresses with this
 * one, as a text of the call; NULL: none. */
const char *network_overlap(struct call *c, const struct ipv4_prefix *own);
/* Say, with -Verbose, where vEthernet of the switch is; warn: also without, when
 * it is inside for lack of something that can be mended. */
void network_say_place(struct call *c, json_t *network, bool warn);

/* The host's pool of MAC addresses: 256 from this one, 12 hexadecimal digits. */
void network_mac_pool(struct service *s, char first[13]);

/* (data path) A VM is about to start: give its adapters' dynamic addresses to
 * the copy, check that their switches are there, and say what the worker must
 * be told: a list that goes into its configuration as "Adapters". NULL with an
 * error of the call. */
json_t *network_prepare(struct call *c, json_t *copy);
/* (data path) An adapter of a running VM was changed and stored. */
int network_changed(struct call *c, json_t *vm, json_t *adapter);
/* (data path) Members to add to what Get-VMNetworkAdapter shows; NULL: none. */
json_t *network_counters(struct service *s, json_t *vm, json_t *adapter);

#endif
