#include "service/network.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/guest.h"
#include "service/machine.h"
#include "service/paths.h"
#include "service/switches.h"
#include "service/vethernet.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	POOL_SIZE = 256,
	MAC_DIGITS = 12,
	OCTET_2 = 8,		/* shifts of an IPv4 address's last two octets */
	OCTET_MASK = 0xff,
};

void network_ensure_default(struct service *s)
{
	struct error e;
	if (store_find(s->store, STORE_SWITCH, DEFAULT_SWITCH_ID))
		return;
	json_t *object = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:b}", "Id", DEFAULT_SWITCH_ID,
		"Name", DEFAULT_SWITCH_NAME, "SwitchType", "Internal", "AllowManagementOS", 1,
		"Notes", "NAT to the host's network with DHCP and DNS; it is always there.",
		"NetAdapterName", "", "Default", 1);
	if (store_put(s->store, STORE_SWITCH, object, &e)) {
		log_line("%s", e.text);
		json_object_set(store_objects(s->store, STORE_SWITCH), DEFAULT_SWITCH_ID, object);
	}
	json_decref(object);
}

json_t *network_find_switch(struct call *c, const char *name)
{
	json_t *object;
	const char *id;
	json_object_foreach(store_objects(c->service->store, STORE_SWITCH), id, object)
		if (!strcasecmp(get_text(object, "Name"), name) || !strcasecmp(id, name))
			return object;
	call_error(c, "InvalidParameter", name,
		call_text(c, "Hyper-V was unable to find a virtual switch with name \"%s\".", name),
		call_text(c, "There are: %s.", call_names(c, STORE_SWITCH)),
		call_text(c, "New-VMSwitch -Name '%s' -SwitchType Internal makes it.", name));
	return NULL;
}

void network_connect(json_t *adapter, json_t *network)
{
	json_object_set_new(adapter, "SwitchId", json_string(network ? get_text(network, "Id") : ""));
	json_object_set_new(adapter, "SwitchName", json_string(network ? get_text(network, "Name") : ""));
}

bool network_host_interface(const char *name, char *interface, size_t room)
{
	struct if_nameindex *all = if_nameindex();
	bool found = false;
	for (struct if_nameindex *i = all; i && i->if_index && !found; i++) {
		found = !strcasecmp(i->if_name, name);
		if (found)
			snprintf(interface, room, "%s", i->if_name);
	}
	if (all)
		if_freenameindex(all);
	return found || (!strcasecmp(name, "Ethernet") && guest_interface(0, interface, room));
}

const char *network_overlap(struct call *c, const struct ipv4_prefix *own)
{
	struct ifaddrs *all = NULL;
	const char *found = NULL;
	char text[INET_ADDRSTRLEN];
	if (getifaddrs(&all))
		return NULL;
	for (struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
		if (!a->ifa_addr || !a->ifa_netmask || a->ifa_addr->sa_family != AF_INET ||
		    a->ifa_flags & IFF_LOOPBACK || vethernet_is(a->ifa_name))
			continue;
		const struct in_addr *mask = &((struct sockaddr_in *)a->ifa_netmask)->sin_addr;
		struct ipv4_prefix theirs = { ((struct sockaddr_in *)a->ifa_addr)->sin_addr,
					      (unsigned)__builtin_popcount(mask->s_addr) };
		const struct ipv4_prefix *wider = theirs.bits < own->bits ? &theirs : own;
		if (ipv4_prefix_has(wider, wider == own ? theirs.address : own->address))
			found = call_text(c, "%s/%u of %s", inet_ntop(AF_INET, &theirs.address, text, sizeof text),
					  theirs.bits, a->ifa_name);
	}
	freeifaddrs(all);
	return found;
}

void network_say_place(struct call *c, json_t *network, bool warn)
{
	const char *interface = switches_interface(c->service, get_text(network, "Id"));
	const struct vethernet_place *place = vethernet_place();
	if (*interface && call_switch(c, "Verbose"))
		call_say(c, "verbose", call_text(c, "vEthernet (%s) is this system's interface %s.",
						 get_text(network, "Name"), interface));
	else if (!*interface && (call_switch(c, "Verbose") || (warn && place->lacking)))
		call_say(c, place->lacking ? "warning" : "verbose", call_text(c,
			"vEthernet (%s) is inside the switch, where this system's programs do not see it. %s",
			get_text(network, "Name"), place->why));
}

/* MAC addresses. */

/* As Hyper-V makes it: 00-15-5D, the last two octets of the host's first IPv4
 * address, 00. */
void network_mac_pool(struct service *s, char first[MAC_DIGITS + 1])
{
	struct ifaddrs *all = NULL;
	uint32_t address = 0;
	if (getifaddrs(&all))
		all = NULL;
	for (struct ifaddrs *a = all; a && !address; a = a->ifa_next)
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET && !(a->ifa_flags & IFF_LOOPBACK))
			address = ntohl(((struct sockaddr_in *)a->ifa_addr)->sin_addr.s_addr);
	freeifaddrs(all);
	snprintf(first, MAC_DIGITS + 1, "00155D%02X%02X00", address >> OCTET_2 & OCTET_MASK,
		 address & OCTET_MASK);
}

static bool mac_taken(struct service *s, json_t *copy, const char *mac)
{
	json_t *vm, *adapter;
	const char *id;
	size_t i;
	json_object_foreach(store_objects(s->store, STORE_VM), id, vm)
		json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
			if (!strcmp(get_text(adapter, "MacAddress"), mac))
				return true;
	json_array_foreach(json_object_get(copy, "Adapters"), i, adapter)
		if (!strcmp(get_text(adapter, "MacAddress"), mac))
			return true;
	return false;
}

static int give_mac(struct call *c, json_t *copy, json_t *adapter)
{
	char first[MAC_DIGITS + 1], mac[MAC_DIGITS + 1];
	if (*get_text(adapter, "MacAddress"))
		return 0;
	network_mac_pool(c->service, first);
	for (unsigned i = 0; i < POOL_SIZE; i++) {
		snprintf(mac, sizeof mac, "%.10s%02X", first, i);
		if (mac_taken(c->service, copy, mac))
			continue;
		json_object_set_new(adapter, "MacAddress", json_string(mac));
		return 0;
	}
	call_error(c, "InvalidState", get_text(copy, "Name"),
		call_text(c, "'%s' failed to start. (Virtual machine ID %s)\nSynthetic Ethernet Port (Instance ID %s): Failed to power on with Error 'Attempt to access invalid address'.",
			  get_text(copy, "Name"), call_guid(c, copy), get_text(adapter, "Id")),
		call_text(c, "All %d dynamic MAC addresses of this host (%.10s00 to %.10sFF) are taken.",
			  POOL_SIZE, first, first),
		call_text(c, "Set-VMNetworkAdapter -VMName '%s' -StaticMacAddress 020000000001, or remove adapters that are not needed.",
			  get_text(copy, "Name")));
	return -1;
}

json_t *network_prepare(struct call *c, json_t *copy)
{
	json_t *adapters = json_object_get(copy, "Adapters"), *adapter, *list = json_array();
	struct error e;
	size_t i;
	json_array_foreach(adapters, i, adapter) {
		const char *network = get_text(adapter, "SwitchId"), *name = get_text(adapter, "SwitchName");
		if (*network && !store_find(c->service->store, STORE_SWITCH, network)) {
			call_error(c, "ObjectNotFound", get_text(copy, "Name"),
				call_text(c, "'%s' failed to start. (Virtual machine ID %s)\nHyper-V was unable to find a virtual switch with name \"%s\".",
					  get_text(copy, "Name"), call_guid(c, copy), name),
				call_text(c, "The adapter \"%s\" is connected to it.", get_text(adapter, "Name")),
				call_text(c, "Connect-VMNetworkAdapter -VMName '%s' -SwitchName '%s'",
					  get_text(copy, "Name"), DEFAULT_SWITCH_NAME));
			json_decref(list);
			return NULL;
		}
		if (give_mac(c, copy, adapter)) {
			json_decref(list);
			return NULL;
		}
		char path[PATHS_MAX] = "";
		if (*network)
			paths_runtime_file(path, sizeof path, network, "ports");
		json_array_append_new(list, json_pack("{s:O,s:O,s:s}", "Id", json_object_get(adapter, "Id"),
			"MacAddress", json_object_get(adapter, "MacAddress"), "Path", path));
	}
	if (switches_sync(c->service, copy, &e)) {
		call_error(c, "OperationFailed", get_text(copy, "Name"),
			call_text(c, "'%s' failed to start. (Virtual machine ID %s)",
				  get_text(copy, "Name"), call_guid(c, copy)),
			e.text, call_text(c, "Get-VMNetworkAdapter -VMName '%s' | Disconnect-VMNetworkAdapter starts it without a network.",
					  get_text(copy, "Name")));
		json_decref(list);
		return NULL;
	}
	return list;
}

int network_changed(struct call *c, json_t *vm, json_t *adapter)
{
	struct error e;
	if (!machine_find(c->service, get_text(vm, "Id")) || !switches_sync(c->service, NULL, &e))
		return 0;
	call_error(c, "OperationFailed", get_text(adapter, "Name"),
		   "The change is stored, but the running switch could not follow it.", e.text,
		   "Stop and start the virtual machine.");
	return -1;
}

/* "3 frames dropped: …" for each reason. */
static json_t *drops(json_t *port)
{
	json_t *list = json_array(), *drop;
	size_t i;
	json_array_foreach(json_object_get(port, "Dropped"), i, drop)
		json_array_append_new(list, json_sprintf("%lld %s %s",
			(long long)get_integer(drop, "Frames"),
			!strcmp(get_text(drop, "Direction"), "Sent") ? "sent" : "for it",
			get_text(drop, "Text")));
	return list;
}

json_t *network_counters(struct service *s, json_t *vm, json_t *adapter)
{
	static const char *const counts[] = { "FramesSent", "BytesSent", "FramesReceived", "BytesReceived" };
	const char *network = get_text(adapter, "SwitchId");
	struct error e;
	if (!*network || !machine_find(s, get_text(vm, "Id")))
		return NULL;
	json_t *list = switches_ask(s, network, "Port.List",
				    json_pack("{s:O}", "Id", json_object_get(adapter, "Id")), &e);
	json_t *port = json_array_get(list, 0), *object = port ? json_object() : NULL;
	for (unsigned i = 0; port && i < ARRAY_SIZE(counts); i++)
		json_object_set(object, counts[i], json_object_get(port, counts[i]));
	if (port && !get_true(port, "Connected"))
		json_object_set_new(object, "Status", json_pack("[s]", "LostCommunication"));
	if (port) {
		json_object_set(object, "Connected", json_object_get(port, "Connected"));
		json_object_set_new(object, "Dropped", drops(port));
		json_object_set(object, "IPAddresses", json_object_get(port, "Addresses"));
	}
	json_decref(list);
	return object;
}
