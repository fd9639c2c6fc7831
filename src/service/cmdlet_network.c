/* VMSwitch and VMNetworkAdapter: the configuration. What frames do is elsewhere
 * (network.h). */
#include "service/network.h"

#include "base/bits.h"
#include "service/machine.h"
#include "service/settings.h"
#include "service/switches.h"
#include "service/vethernet.h"
#include "service/vm_object.h"
#include "vm/config.h"

#include <ctype.h>
#include <linux/capability.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAC_DIGITS = 12, ADAPTERS_MAX = VM_MAX_NETWORKS, MULTICAST_BIT = 1 };

/* Switches. */

static json_t *switch_object(json_t *network)
{
	const char *adapter = get_text(network, "NetAdapterName");
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:s,s:s,s:b,s:b,s:s}", "$type", "VMSwitch",
		"Name", get_text(network, "Name"), "Id", get_text(network, "Id"),
		"Notes", get_text(network, "Notes"), "SwitchType", get_text(network, "SwitchType"),
		"AllowManagementOS", get_true(network, "AllowManagementOS"),
		"NetAdapterName", adapter, "NetAdapterInterfaceDescription", adapter,
		"EmbeddedTeamingEnabled", 0, "IovEnabled", 0, "BandwidthReservationMode", "None");
}

/* Is the adapter another switch's, or none to be joined? false, or with an error. */
static bool is_occupied(struct call *c, const char *interface, const char *id)
{
	json_t *other;
	const char *key, *why = vethernet_is(interface) ? "It is itself the host's end of a switch." : NULL;
	json_object_foreach(store_objects(c->service->store, STORE_SWITCH), key, other)
		if (!strcmp(get_text(other, "NetAdapterName"), interface) && strcmp(key, id))
			why = call_text(c, "The switch \"%s\" has it.", get_text(other, "Name"));
	if (why)
		call_error(c, "InvalidState", interface, call_text(c,
			"Failed while adding virtual Ethernet switch connections.\nExternal Ethernet adapter '%s' is already bound to the Microsoft Virtual Switch protocol.",
			interface), why, "Get-VMSwitch -SwitchType External");
	return why;
}

/* The interface for the External switch of this id ("": a new one) into interface;
 * false with an error. */
static bool external_interface(struct call *c, const char *name, const char *id, char *interface)
{
	if (!has_capability(CAP_NET_RAW) || !has_capability(CAP_NET_ADMIN)) {
		call_error(c, "PermissionDenied", name,
			   "You do not have the required permission to complete this task.",
			   "An External switch sends and receives on a network adapter of this host, which needs the capabilities CAP_NET_RAW and CAP_NET_ADMIN.",
			   call_text(c, "Run it as root; or use the switch '%s', which needs no privilege: -SwitchName '%s'.",
				     DEFAULT_SWITCH_NAME, DEFAULT_SWITCH_NAME));
		return false;
	}
	if (network_host_interface(name, interface, IF_NAMESIZE))
		return !is_occupied(c, interface, id);
	call_error(c, "InvalidParameter", name,
		   call_text(c, "Hyper-V was unable to find a network adapter with name \"%s\".", name),
		   "This host has no network adapter of that name.", "Get-NetAdapter");
	return false;
}

static const char *adapter_given(struct call *c)
{
	const char *name = call_string(c, "NetAdapterName");
	return name ? name : call_string(c, "NetAdapterInterfaceDescription");
}

/* What Hyper-V has and we could only pretend to have. */
static bool switch_options_fit(struct call *c)
{
	static const char *const features[] = { "EnableIov", "EnablePacketDirect", "EnableEmbeddedTeaming" };
	const char *mode = call_string(c, "MinimumBandwidthMode");
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		if (call_switch(c, features[i])) {
			call_error(c, "NotSupported", features[i],
				   call_text(c, "-%s $true is not supported.", features[i]),
				   "It needs network hardware that Nestor does not drive.",
				   call_text(c, "Leave -%s out.", features[i]));
			return false;
		}
	if (mode && strcasecmp(mode, "None") && strcasecmp(mode, "Default")) {
		call_error(c, "NotSupported", mode,
			   call_text(c, "-MinimumBandwidthMode %s is not supported.", mode),
			   "Nestor's switches do not divide bandwidth.", "Leave -MinimumBandwidthMode out.");
		return false;
	}
	return true;
}

/* Store a switch and have its process follow; when that cannot, all is as it
 * was, with an error of the call. */
static int put_switch(struct call *c, json_t *network)
{
	const char *id = get_text(network, "Id");
	json_t *old = json_deep_copy(store_find(c->service->store, STORE_SWITCH, id));
	struct error e, again;
	int result = call_put(c, STORE_SWITCH, network);
	if (!result && switches_sync(c->service, NULL, &e)) {
		result = -1;
		call_error(c, "OperationFailed", get_text(network, "Name"), old ?
			   "The virtual switch could not be changed." : "Failed to create the virtual Ethernet switch.",
			   e.text, NULL);
		if (old)
			call_put(c, STORE_SWITCH, old);
		else
			store_remove(c->service->store, STORE_SWITCH, id, &again);
		switches_sync(c->service, NULL, &again);
	}
	json_decref(old);
	return result;
}

static void new_switch(struct call *c)
{
	const char *name = call_string(c, "Name"), *adapter = adapter_given(c), *key;
	const char *type = adapter ? "External" : call_string(c, "SwitchType");
	json_t *management = call_parameter(c, "AllowManagementOS"), *object;
	char interface[IF_NAMESIZE] = "", id[STORE_ID_SIZE];
	if (!name || !*name) {
		call_error(c, "InvalidParameter", NULL,
			   "Cannot process command because of one or more missing mandatory parameters: Name.",
			   NULL, NULL);
		return;
	}
	if (!type || (!adapter && strcasecmp(type, "Internal") && strcasecmp(type, "Private"))) {
		call_error(c, "InvalidParameter", name, "The type of the virtual switch is not valid.",
			   "-SwitchType takes Internal or Private; an External switch is made with -NetAdapterName.",
			   NULL);
		return;
	}
	json_object_foreach(store_objects(c->service->store, STORE_SWITCH), key, object)
		if (!strcasecmp(get_text(object, "Name"), name)) {
			call_error(c, "InvalidParameter", name, "Failed to create the virtual Ethernet switch.",
				   call_text(c, "There is a switch \"%s\" already.", get_text(object, "Name")),
				   "Give it another name, or Remove-VMSwitch the other first.");
			return;
		}
	if (!switch_options_fit(c) || (adapter && !external_interface(c, adapter, "", interface)) ||
	    !call_should(c, call_text(c, "New-VMSwitch will create the virtual switch \"%s\".", name)))
		return;
	store_new_id(id);
	object = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s}", "Id", id, "Name", name,
		"SwitchType", adapter ? "External" : !strcasecmp(type, "Internal") ? "Internal" : "Private",
		"AllowManagementOS", adapter ? !management || json_is_true(management) :
			!strcasecmp(type, "Internal"),
		"Notes", call_string(c, "Notes") ? call_string(c, "Notes") : "",
		"NetAdapterName", interface);
	if (!put_switch(c, object)) {
		call_object(c, switch_object(object));
		if (get_true(object, "AllowManagementOS"))
			network_say_place(c, object, true);
	}
	json_decref(object);
}

/* -Name (wildcards) or -VMSwitch: a list, which the caller owns. all: every one
 * when nothing is given. */
static json_t *switches(struct call *c, bool all)
{
	json_t *found = json_array(), *names = call_list(c, "Name"), *item, *object;
	json_t *piped = call_list(c, "VMSwitch"), *ids = call_list(c, "Id");
	json_t *stored = store_objects(c->service->store, STORE_SWITCH);
	size_t i;
	const char *key;
	if (!names && !piped && !ids && all)
		json_object_foreach(stored, key, object)
			json_array_append(found, object);
	else if (!names && !piped && !ids)
		call_error(c, "InvalidParameter", NULL,
			   "Cannot process command because of one or more missing mandatory parameters: Name.",
			   NULL, NULL);
	json_array_foreach(names, i, item) {
		const char *name = json_is_string(item) ? json_string_value(item) : "";
		if (is_wildcard(name)) {
			json_object_foreach(stored, key, object)
				if (wildcard_match(name, get_text(object, "Name")))
					json_array_append(found, object);
		} else if ((object = network_find_switch(c, name))) {
			json_array_append(found, object);
		}
	}
	json_array_foreach(piped, i, item)
		if ((object = network_find_switch(c, json_is_string(item) ? json_string_value(item) :
						  get_text(item, "Id"))))
			json_array_append(found, object);
	json_array_foreach(ids, i, item)
		if ((object = network_find_switch(c, json_is_string(item) ? json_string_value(item) : "")))
			json_array_append(found, object);
	json_decref(names);
	json_decref(piped);
	json_decref(ids);
	return found;
}

static void get_switch(struct call *c)
{
	json_t *found = switches(c, true), *types = call_list(c, "SwitchType"), *object, *type;
	size_t i, t;
	json_array_foreach(found, i, object) {
		bool fits = !types;
		json_array_foreach(types, t, type)
			if (json_is_string(type) &&
			    !strcasecmp(json_string_value(type), get_text(object, "SwitchType")))
				fits = true;
		if (fits)
			call_object(c, switch_object(object));
	}
	json_decref(types);
	json_decref(found);
}

static bool is_default(struct call *c, json_t *network)
{
	if (strcmp(get_text(network, "Id"), DEFAULT_SWITCH_ID))
		return false;
	call_error(c, "InvalidState", DEFAULT_SWITCH_NAME,
		   "The default switch cannot be changed or removed.",
		   "It is always there, so that virtual machines have a network without privilege.",
		   "New-VMSwitch makes another.");
	return true;
}

/* A running VM that is connected to it; NULL: none. */
static const char *switch_user(struct call *c, const char *id)
{
	json_t *vm, *adapter;
	const char *key;
	size_t i;
	json_object_foreach(store_objects(c->service->store, STORE_VM), key, vm)
		if (machine_find(c->service, key))
			json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
				if (!strcmp(get_text(adapter, "SwitchId"), id))
					return get_text(vm, "Name");
	return NULL;
}

static bool in_use(struct call *c, json_t *network)
{
	const char *user = switch_user(c, get_text(network, "Id"));
	if (!user)
		return false;
	call_error(c, "InvalidState", get_text(network, "Name"), "The virtual switch is in use.",
		   call_text(c, "The running virtual machine %s is connected to it.", user),
		   call_text(c, "Disconnect-VMNetworkAdapter -VMName '%s', or Stop-VM -Name '%s'.", user, user));
	return true;
}

static void set_switch(struct call *c)
{
	json_t *found = switches(c, false), *object, *management = call_parameter(c, "AllowManagementOS");
	const char *type = call_string(c, "SwitchType"), *adapter = adapter_given(c);
	char interface[IF_NAMESIZE] = "";
	size_t i;
	json_array_foreach(found, i, object) {
		if (is_default(c, object) || !switch_options_fit(c) ||
		    (adapter && !external_interface(c, adapter, get_text(object, "Id"), interface)))
			continue;
		if (!adapter && type && strcasecmp(type, "Internal") && strcasecmp(type, "Private")) {
			call_error(c, "InvalidParameter", get_text(object, "Name"),
				   "The type of the virtual switch is not valid.",
				   "-SwitchType takes Internal or Private; a switch becomes External with -NetAdapterName.",
				   NULL);
			continue;
		}
		if (!call_should(c, call_text(c, "Set-VMSwitch will configure the virtual switch \"%s\".",
					      get_text(object, "Name"))))
			continue;
		json_t *copy = json_deep_copy(object);
		if (adapter || type) {
			json_object_set_new(copy, "SwitchType", json_string(adapter ? "External" :
				!strcasecmp(type, "Internal") ? "Internal" : "Private"));
			json_object_set_new(copy, "NetAdapterName", json_string(interface));
			json_object_set_new(copy, "AllowManagementOS",
					    json_boolean(adapter || !strcasecmp(type, "Internal")));
		}
		if (management && strcmp(get_text(copy, "SwitchType"), "External")) {
			call_error(c, "InvalidParameter", get_text(object, "Name"),
				   "The management operating system's access cannot be changed.",
				   "-AllowManagementOS is for External switches; an Internal one always has it, a Private one never.",
				   NULL);
			json_decref(copy);
			continue;
		}
		if (management)
			json_object_set(copy, "AllowManagementOS", management);
		if (call_string(c, "Notes"))
			json_object_set_new(copy, "Notes", json_string(call_string(c, "Notes")));
		if (!get_true(copy, "AllowManagementOS"))
			json_object_del(copy, "Addresses");
		if (!put_switch(c, copy) && c->passthru)
			call_object(c, switch_object(copy));
		json_decref(copy);
	}
	json_decref(found);
}

/* The adapters of VMs that are Off lose their switch. */
static void disconnect_all(struct call *c, const char *id)
{
	json_t *all = json_copy(store_objects(c->service->store, STORE_VM)), *vm, *adapter;
	const char *key;
	size_t i;
	json_object_foreach(all, key, vm) {
		json_t *copy = json_deep_copy(vm);
		json_array_foreach(json_object_get(copy, "Adapters"), i, adapter)
			if (!strcmp(get_text(adapter, "SwitchId"), id))
				network_connect(adapter, NULL);
		if (!json_equal(copy, vm))
			call_put(c, STORE_VM, copy);
		json_decref(copy);
	}
	json_decref(all);
}

static void remove_switch(struct call *c)
{
	json_t *found = switches(c, false), *object;
	struct error e;
	size_t i;
	json_array_foreach(found, i, object) {
		if (is_default(c, object) || in_use(c, object) ||
		    !call_should(c, call_text(c, "Remove-VMSwitch will remove the virtual switch \"%s\".",
					      get_text(object, "Name"))))
			continue;
		if (store_remove(c->service->store, STORE_SWITCH, get_text(object, "Id"), &e))
			call_error(c, "OperationFailed", get_text(object, "Name"),
				   "The virtual switch could not be removed.", e.text, NULL);
		else
			disconnect_all(c, get_text(object, "Id"));
	}
	if (!c->what_if)
		switches_sync(c->service, NULL, &e);	/* what cannot be, is in the log */
	json_decref(found);
}

/* Adapters. */

json_t *vm_adapter_new(const char *name)
{
	char id[STORE_ID_SIZE];
	store_new_id(id);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:s,s:s,s:s,s:s,s:s}", "Id", id, "Name", name,
		"SwitchId", "", "SwitchName", "", "MacAddress", "", "DynamicMacAddressEnabled", 1,
		"MacAddressSpoofing", "Off", "DhcpGuard", "Off", "RouterGuard", "Off",
		"AllowTeaming", "Off", "PortMirroringMode", "None");
}

json_t *vm_adapter_object(struct service *s, json_t *vm, json_t *adapter)
{
	const char *mac = get_text(adapter, "MacAddress");
	bool running = machine_find(s, get_text(vm, "Id"));
	json_t *object = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:s,s:s,s:s,s:b,s:b,s:[s],s:[],s:O,s:O,s:O,s:O,s:O}",
		"$type", "VMNetworkAdapter", "Name", get_text(adapter, "Name"),
		"Id", get_text(adapter, "Id"), "IsManagementOs", 0, "VMName", get_text(vm, "Name"),
		"VMId", get_text(vm, "Id"), "SwitchName", get_text(adapter, "SwitchName"),
		"SwitchId", get_text(adapter, "SwitchId"), "MacAddress", *mac ? mac : "000000000000",
		"DynamicMacAddressEnabled", get_true(adapter, "DynamicMacAddressEnabled"),
		"Connected", running && *get_text(adapter, "SwitchId"), "Status", "Ok", "IPAddresses",
		"MacAddressSpoofing", json_object_get(adapter, "MacAddressSpoofing"),
		"DhcpGuard", json_object_get(adapter, "DhcpGuard"),
		"RouterGuard", json_object_get(adapter, "RouterGuard"),
		"AllowTeaming", json_object_get(adapter, "AllowTeaming"),
		"PortMirroringMode", json_object_get(adapter, "PortMirroringMode"));
	json_t *counters = network_counters(s, vm, adapter);
	if (counters)
		json_object_update(object, counters);
	json_decref(counters);
	return object;
}

/* Without its prefix. */
static void append_address(json_t *list, const char *address)
{
	json_array_append_new(list, json_stringn(address, strcspn(address, "/")));
}

/* The host's own adapter on a switch that has one. */
static json_t *host_adapter_object(json_t *network)
{
	char mac[MAC_DIGITS + 1];
	switches_host_mac(get_text(network, "Id"), mac);
	json_t *object = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:s,s:s,s:[s],s:[]}", "$type", "VMInternalNetworkAdapter",
		"Name", get_text(network, "Name"), "Id", get_text(network, "Id"), "IsManagementOs", 1,
		"VMName", "", "SwitchName", get_text(network, "Name"), "SwitchId", get_text(network, "Id"),
		"MacAddress", mac, "Status", "Ok", "IPAddresses");
	json_object_set_new(object, "DeviceName", json_sprintf("vEthernet (%s)", get_text(network, "Name")));
	json_t *list = json_object_get(object, "IPAddresses"), *address;
	size_t i;
	if (!strcmp(get_text(network, "Id"), DEFAULT_SWITCH_ID))
		append_address(list, DEFAULT_SWITCH_ADDRESS);
	json_array_foreach(json_object_get(network, "Addresses"), i, address)
		append_address(list, json_string_value(address));
	return object;
}

static bool adapter_named(struct call *c, const char *name, json_t *adapter)
{
	json_t *names = call_list(c, name), *item;
	size_t i;
	bool fits = !names;
	json_array_foreach(names, i, item)
		if (json_is_string(item) && wildcard_match(json_string_value(item), get_text(adapter, "Name")))
			fits = true;
	json_decref(names);
	return fits;
}

static void add_pair(json_t *pairs, json_t *vm, json_t *adapter)
{
	json_array_append_new(pairs, json_pack("[s,s]", get_text(vm, "Id"), get_text(adapter, "Id")));
}

/* The adapters that the call names: a list of [VM's id, adapter's id]. */
static json_t *adapter_pairs(struct call *c)
{
	json_t *pairs = json_array(), *piped = call_list(c, "VMNetworkAdapter"), *vm, *adapter, *item;
	size_t i, a;
	const char *key;
	json_array_foreach(piped, i, item)
		json_object_foreach(store_objects(c->service->store, STORE_VM), key, vm)
			json_array_foreach(json_object_get(vm, "Adapters"), a, adapter)
				if (!strcmp(get_text(adapter, "Id"), get_text(item, "Id")))
					add_pair(pairs, vm, adapter);
	if (!piped) {
		json_t *found = call_vms(c);
		json_array_foreach(found, i, vm) {
			size_t before = json_array_size(pairs);
			json_array_foreach(json_object_get(vm, "Adapters"), a, adapter)
				if (adapter_named(c, "Name", adapter))
					add_pair(pairs, vm, adapter);
			const char *name = call_string(c, "Name");
			if (before == json_array_size(pairs) && name && !is_wildcard(name))
				call_error(c, "ObjectNotFound", name,
					call_text(c, "Hyper-V was unable to find a network adapter with name \"%s\".", name),
					call_text(c, "The virtual machine %s has none of that name.", get_text(vm, "Name")),
					call_text(c, "Get-VMNetworkAdapter -VMName '%s'", get_text(vm, "Name")));
		}
		json_decref(found);
	} else if (!json_array_size(pairs)) {
		call_error(c, "ObjectNotFound", NULL, "The network adapter was not found.",
			   "It was removed meanwhile.", "Get-VMNetworkAdapter -VMName NAME");
	}
	json_decref(piped);
	return pairs;
}

static json_t *find_adapter(json_t *vm, const char *id, size_t *at)
{
	json_t *adapter, *found = NULL;
	size_t i;
	json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
		if (!found && !strcmp(get_text(adapter, "Id"), id)) {
			found = adapter;
			*at = i;
		}
	return found;
}

/* For every adapter that the call names: change the one of a copy of its VM and
 * store that. */
static void each_adapter(struct call *c, const char *sentence,
			 int (*change)(struct call *c, json_t *copy, json_t *adapter, size_t at))
{
	json_t *pairs = adapter_pairs(c), *pair;
	size_t i, at;
	json_array_foreach(pairs, i, pair) {
		json_t *vm = store_find(c->service->store, STORE_VM, json_string_value(json_array_get(pair, 0)));
		json_t *copy = json_deep_copy(vm);
		json_t *adapter = find_adapter(copy, json_string_value(json_array_get(pair, 1)), &at);
		if (adapter && call_should(c, call_text(c, "%s %s \"%s\" of the virtual machine \"%s\".",
							c->cmdlet->name, sentence, get_text(adapter, "Name"),
							get_text(copy, "Name")))) {
			json_incref(adapter);
			if (!change(c, copy, adapter, at) && !call_put(c, STORE_VM, copy) &&
			    !network_changed(c, copy, adapter) && c->passthru)
				call_object(c, vm_adapter_object(c->service, copy, adapter));
			json_decref(adapter);
		}
		json_decref(copy);
	}
	json_decref(pairs);
}

static void get_adapter(struct call *c)
{
	bool management = call_switch(c, "ManagementOS"), all = call_switch(c, "All");
	const char *network_name = call_string(c, "SwitchName"), *key;
	json_t *network, *vm, *adapter, *pairs, *pair;
	size_t i, at;
	if (call_switch(c, "IsLegacy"))
		return;		/* there are none */
	if (management || all) {
		json_object_foreach(store_objects(c->service->store, STORE_SWITCH), key, network)
			if (get_true(network, "AllowManagementOS") && adapter_named(c, "Name", network) &&
			    (!network_name || !strcasecmp(network_name, get_text(network, "Name"))))
				call_object(c, host_adapter_object(network));
		if (all)
			json_object_foreach(store_objects(c->service->store, STORE_VM), key, vm)
				json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
					if (adapter_named(c, "Name", adapter))
						call_object(c, vm_adapter_object(c->service, vm, adapter));
		return;
	}
	pairs = adapter_pairs(c);
	json_array_foreach(pairs, i, pair) {
		vm = store_find(c->service->store, STORE_VM, json_string_value(json_array_get(pair, 0)));
		adapter = find_adapter(vm, json_string_value(json_array_get(pair, 1)), &at);
		if (adapter)
			call_object(c, vm_adapter_object(c->service, vm, adapter));
	}
	json_decref(pairs);
}

/* A unicast address in any usual spelling as 12 capital digits; false with an
 * error of the call. */
static bool take_mac(struct call *c, const char *given, char mac[MAC_DIGITS + 1])
{
	unsigned n = 0, first;
	bool fits = true;
	for (const char *at = given; *at; at++)
		if (isxdigit((unsigned char)*at) && n < MAC_DIGITS)
			mac[n++] = (char)toupper((unsigned char)*at);
		else if (!strchr("-:.", *at))
			fits = false;
	mac[n] = '\0';
	sscanf(mac, "%2x", &first);
	if (fits && n == MAC_DIGITS && !(first & MULTICAST_BIT) && strcmp(mac, "000000000000"))
		return true;
	call_error(c, "InvalidParameter", given, "The MAC address is not valid.",
		   call_text(c, "\"%s\" is not the 12 hexadecimal digits of a unicast address.", given),
		   "Write it like 00155D010203.");
	return false;
}

static bool mac_in_use(struct call *c, const char *mac, const char *but)
{
	json_t *vm, *adapter;
	const char *key;
	size_t i;
	json_object_foreach(store_objects(c->service->store, STORE_VM), key, vm)
		json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
			if (!strcmp(get_text(adapter, "MacAddress"), mac) && strcmp(get_text(adapter, "Id"), but)) {
				call_say(c, "warning", call_text(c, "The MAC address %s is also that of an adapter of %s.",
								 mac, get_text(vm, "Name")));
				return true;
			}
	return false;
}

static int set_mac(struct call *c, json_t *vm, json_t *adapter)
{
	const char *given = call_string(c, "StaticMacAddress");
	bool dynamic = call_switch(c, "DynamicMacAddress");
	char mac[MAC_DIGITS + 1];
	if (!given && !dynamic)
		return 0;
	if (machine_find(c->service, get_text(vm, "Id"))) {
		call_error(c, "InvalidState", get_text(vm, "Name"), wrong_state_sentence,
			   "An adapter's MAC address may change only while its virtual machine is Off.",
			   call_text(c, "Stop-VM -Name '%s', then try again.", get_text(vm, "Name")));
		return -1;
	}
	if (given && !take_mac(c, given, mac))
		return -1;
	if (given)
		mac_in_use(c, mac, get_text(adapter, "Id"));
	if (given || !get_true(adapter, "DynamicMacAddressEnabled"))
		json_object_set_new(adapter, "MacAddress", json_string(given ? mac : ""));
	json_object_set_new(adapter, "DynamicMacAddressEnabled", json_boolean(!given));
	return 0;
}

static const struct setting adapter_settings[] = {
	{ "MacAddressSpoofing", "MacAddressSpoofing", SETTING_ENUM, .values = " On Off " },
	{ "DhcpGuard", "DhcpGuard", SETTING_ENUM, .values = " On Off " },
	{ "RouterGuard", "RouterGuard", SETTING_ENUM, .values = " On Off " },
	{ "AllowTeaming", "AllowTeaming", SETTING_ENUM, .values = " On Off ", .only = "Off",
	  .why = "Nestor's switches do not know teams; MacAddressSpoofing lets a team's addresses pass." },
	{ "PortMirroring", "PortMirroringMode", SETTING_ENUM, .values = " None Source Destination ",
	  .only = "None", .why = "Nestor's switches do not mirror ports yet." },
	{ "IeeePriorityTag", "IeeePriorityTag", SETTING_ENUM, .values = " On Off ", .only = "Off",
	  .why = "Nestor's switches do not look at priority tags." },
	{ "VirtualSubnetId", "VirtualSubnetId", SETTING_INTEGER, 0, 16777215, .only = "0",
	  .why = "Nestor has no network virtualization." },
	{ "MaximumBandwidth", "MaximumBandwidth", SETTING_INTEGER, 0, INT64_MAX, .only = "0",
	  .why = "Nestor's switches do not divide bandwidth." },
	{ "MinimumBandwidthAbsolute", "MinimumBandwidthAbsolute", SETTING_INTEGER, 0, INT64_MAX,
	  .only = "0", .why = "Nestor's switches do not divide bandwidth." },
	{ "MinimumBandwidthWeight", "MinimumBandwidthWeight", SETTING_INTEGER, 0, 100, .only = "0",
	  .why = "Nestor's switches do not divide bandwidth." },
	{ "StormLimit", "StormLimit", SETTING_INTEGER, 0, UINT32_MAX, .only = "0",
	  .why = "Nestor's switches do not count storms." },
	/* Hardware offloads: a wish that costs nobody anything. */
	{ "VmqWeight", "VmqWeight", SETTING_INTEGER, 0, 100 },
	{ "IovWeight", "IovWeight", SETTING_INTEGER, 0, 100, .only = "0",
	  .why = "Nestor's adapters have no hardware to hand through." },
	{ "DeviceNaming", "DeviceNaming", SETTING_ENUM, .values = " On Off ", .only = "Off",
	  .why = "Nestor's adapters do not tell the guest their names." },
	{ "FixSpeed10G", "FixSpeed10G", SETTING_ENUM, .values = " On Off " },
};

static int set_adapter_one(struct call *c, json_t *copy, json_t *adapter, size_t at)
{
	struct setting_target target = { copy, NULL, adapter };
	return set_mac(c, copy, adapter) ||
		settings_apply(c, &target, adapter_settings, ARRAY_SIZE(adapter_settings)) < 0 ? -1 : 0;
}

static void set_adapter(struct call *c)
{
	if (call_switch(c, "ManagementOS")) {
		call_error(c, "NotSupported", NULL, "Set-VMNetworkAdapter -ManagementOS is not supported.",
			   "The host's own adapters have no settings here.", NULL);
		return;
	}
	each_adapter(c, "will configure the network adapter", set_adapter_one);
}

static int is_off(struct call *c, json_t *vm)
{
	enum machine_state state = machine_state(c->service, get_text(vm, "Id"));
	if (state == MACHINE_OFF)
		return 0;
	call_error(c, "InvalidState", get_text(vm, "Name"), wrong_state_sentence,
		   call_text(c, "Nestor adds and removes adapters only while the virtual machine is Off; %s is %s.",
			     get_text(vm, "Name"), machine_state_name(state)),
		   call_text(c, "Stop-VM -Name '%s', then try again.", get_text(vm, "Name")));
	return -1;
}

static int add_adapter_one(struct call *c, json_t *copy)
{
	const char *name = call_string(c, "Name"), *network_name = call_string(c, "SwitchName");
	json_t *adapters = json_object_get(copy, "Adapters");
	json_t *network = network_name ? network_find_switch(c, network_name) : NULL;
	if ((network_name && !network) || is_off(c, copy))
		return -1;
	if (call_switch(c, "IsLegacy")) {
		call_error(c, "NotSupported", get_text(copy, "Name"), "-IsLegacy $true is not supported.",
			   "Nestor's adapters are virtio network devices.", "Leave -IsLegacy out.");
		return -1;
	}
	if (json_array_size(adapters) == ADAPTERS_MAX) {
		call_error(c, "InvalidState", get_text(copy, "Name"),
			   "No more network adapters can be added to the virtual machine.",
			   call_text(c, "A virtual machine has at most %d.", ADAPTERS_MAX), NULL);
		return -1;
	}
	json_t *adapter = vm_adapter_new(name ? name : "Network Adapter");
	network_connect(adapter, network);
	json_array_append_new(adapters, adapter);
	if (set_mac(c, copy, adapter) || call_put(c, STORE_VM, copy))
		return -1;
	if (c->passthru)
		call_object(c, vm_adapter_object(c->service, copy, adapter));
	return 0;
}

/* -ManagementOS: a switch has one adapter of the host, vEthernet, or none. For
 * an External switch that is a choice; an Internal one always has it, a Private
 * one never. */
static void set_management(struct call *c, bool wanted)
{
	const char *name = call_string(c, "SwitchName") ? call_string(c, "SwitchName") : call_string(c, "Name");
	json_t *network = network_find_switch(c, name ? name : DEFAULT_SWITCH_NAME);
	if (!network)
		return;
	const char *type = get_text(network, "SwitchType");
	bool has = get_true(network, "AllowManagementOS");
	const char *why = wanted && has ? "has one, vEthernet, and Nestor's switches have no more" :
		!wanted && !has ? "has none" :
		!strcmp(type, "Internal") ? "is Internal: the host is always on it" :
		!strcmp(type, "Private") ? "is Private: the host is never on it" : NULL;
	if (why) {
		call_error(c, "InvalidState", get_text(network, "Name"), wanted ?
			   "The network adapter of the management operating system could not be added." :
			   "The network adapter of the management operating system could not be removed.",
			   call_text(c, "The switch \"%s\" %s.", get_text(network, "Name"), why),
			   "Get-VMNetworkAdapter -ManagementOS");
		return;
	}
	if (!call_should(c, call_text(c, "%s will configure the virtual switch \"%s\".", c->cmdlet->name,
				      get_text(network, "Name"))))
		return;
	json_t *copy = json_deep_copy(network);
	json_object_set_new(copy, "AllowManagementOS", json_boolean(wanted));
	if (!wanted)
		json_object_del(copy, "Addresses");
	if (!put_switch(c, copy) && c->passthru)
		call_object(c, host_adapter_object(copy));
	json_decref(copy);
}

static void add_adapter(struct call *c)
{
	if (call_switch(c, "ManagementOS")) {
		set_management(c, true);
		return;
	}
	vm_each(c, "will add a network adapter to the virtual machine", add_adapter_one, NULL);
}

static int remove_adapter_one(struct call *c, json_t *copy, json_t *adapter, size_t at)
{
	if (is_off(c, copy))
		return -1;
	return json_array_remove(json_object_get(copy, "Adapters"), at);
}

static void remove_adapter(struct call *c)
{
	if (call_switch(c, "ManagementOS")) {
		set_management(c, false);
		return;
	}
	each_adapter(c, "will remove the network adapter", remove_adapter_one);
}

static int rename_adapter_one(struct call *c, json_t *copy, json_t *adapter, size_t at)
{
	json_object_set_new(adapter, "Name", json_string(call_string(c, "NewName")));
	return 0;
}

static void rename_adapter(struct call *c)
{
	const char *name = call_string(c, "NewName");
	if (name && *name)
		each_adapter(c, "will rename the network adapter", rename_adapter_one);
	else
		call_error(c, "InvalidParameter", NULL, "The name of the network adapter is not valid.",
			   "It is empty.", NULL);
}

/* The switch of -SwitchName or -VMSwitch; NULL with an error of the call. */
static json_t *given_switch(struct call *c)
{
	const char *name = call_string(c, "SwitchName");
	json_t *piped = call_list(c, "VMSwitch"), *first = json_array_get(piped, 0), *network = NULL;
	if (name || first)
		network = network_find_switch(c, name ? name : json_is_string(first) ?
					      json_string_value(first) : get_text(first, "Id"));
	else
		call_error(c, "InvalidParameter", NULL,
			   "Cannot process command because of one or more missing mandatory parameters: SwitchName.",
			   NULL, NULL);
	json_decref(piped);
	return network;
}

static int connect_one(struct call *c, json_t *copy, json_t *adapter, size_t at)
{
	json_t *network = given_switch(c);
	if (!network)
		return -1;
	network_connect(adapter, network);
	return 0;
}

static void connect_adapter(struct call *c)
{
	each_adapter(c, "will connect the network adapter", connect_one);
}

static int disconnect_one(struct call *c, json_t *copy, json_t *adapter, size_t at)
{
	network_connect(adapter, NULL);
	return 0;
}

static void disconnect_adapter(struct call *c)
{
	each_adapter(c, "will disconnect the network adapter", disconnect_one);
}

const struct cmdlet network_cmdlets[] = {
	{ "New-VMSwitch", new_switch,
	  " Name SwitchType NetAdapterName NetAdapterInterfaceDescription AllowManagementOS Notes MinimumBandwidthMode EnableIov EnablePacketDirect EnableEmbeddedTeaming ",
	  NULL },
	{ "Get-VMSwitch", get_switch, " Name Id SwitchType VMSwitch ", NULL },
	{ "Set-VMSwitch", set_switch,
	  " Name VMSwitch SwitchType NetAdapterName NetAdapterInterfaceDescription AllowManagementOS Notes ", NULL },
	{ "Remove-VMSwitch", remove_switch, " Name VMSwitch ", NULL },
	{ "Get-VMNetworkAdapter", get_adapter, " VMNetworkAdapter Name ManagementOS All SwitchName IsLegacy ", "VMName" },
	{ "Set-VMNetworkAdapter", set_adapter,
	  " VMNetworkAdapter Name ManagementOS MacAddressSpoofing DhcpGuard RouterGuard AllowTeaming PortMirroring IeeePriorityTag StaticMacAddress DynamicMacAddress VirtualSubnetId MaximumBandwidth MinimumBandwidthAbsolute MinimumBandwidthWeight StormLimit VmqWeight IovWeight DeviceNaming FixSpeed10G ",
	  "VMName" },
	{ "Add-VMNetworkAdapter", add_adapter, " Name SwitchName IsLegacy StaticMacAddress DynamicMacAddress ManagementOS ", "VMName" },
	{ "Remove-VMNetworkAdapter", remove_adapter, " VMNetworkAdapter Name SwitchName ManagementOS ", "VMName" },
	{ "Rename-VMNetworkAdapter", rename_adapter, " VMNetworkAdapter Name NewName ", "VMName" },
	{ "Connect-VMNetworkAdapter", connect_adapter, " VMNetworkAdapter Name SwitchName VMSwitch ", "VMName" },
	{ "Disconnect-VMNetworkAdapter", disconnect_adapter, " VMNetworkAdapter Name ", "VMName" },
	{ NULL }
};
