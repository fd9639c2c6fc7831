/* NetNat and NetNatStaticMapping: the configuration. One NAT with an internal
 * prefix per host, as there. */
#include "service/network.h"
#include "service/switches.h"
#include "service/vethernet.h"

#include "base/bits.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

enum { IPV4_BITS = 32, PORT_MAX = 65535, ERROR_INVALID_PARAMETER = 87, ERROR_EXISTS = 5010,
       ERROR_NOT_FOUND = 2 };

static const char nat_class[] = "MSFT_NetNat", mapping_class[] = "MSFT_NetNatStaticMapping";
static const char parameter_sentence[] = "The parameter is incorrect.";

static json_t *nat_object(json_t *nat)
{
	json_t *object = json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:s,s:s,s:i,s:b,s:s,s:b,s:s}",
		"$type", "NetNat", "Name", get_text(nat, "Name"),
		"ExternalIPInterfaceAddressPrefix", get_text(nat, "ExternalIPInterfaceAddressPrefix"),
		"InternalIPInterfaceAddressPrefix", get_text(nat, "InternalIPInterfaceAddressPrefix"),
		"IcmpQueryTimeout", 30, "TcpEstablishedConnectionTimeout", 1800,
		"TcpTransientConnectionTimeout", 120,
		"TcpFilteringBehavior", "AddressDependentFiltering",
		"UdpFilteringBehavior", "AddressDependentFiltering",
		"UdpIdleSessionTimeout", 120, "UdpInboundRefresh", 0, "Store", "Local", "Active", 1,
		"Id", get_text(nat, "Id"));
	json_object_set_new(object, "InstanceID", json_sprintf("%s;0", get_text(nat, "Name")));
	return object;
}

/* "192.168.100.0/24": false when it is none. */
static bool take_prefix(const char *text, uint32_t *network, unsigned *bits)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr in;
	const char *slash = strchr(text, '/');
	char *end;
	if (!slash || (size_t)(slash - text) >= sizeof address || !slash[1])
		return false;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	unsigned long n = strtoul(slash + 1, &end, 10);
	if (*end || n > IPV4_BITS || inet_pton(AF_INET, address, &in) != 1)
		return false;
	*bits = (unsigned)n;
	*network = ntohl(in.s_addr) & (n ? ~0u << (IPV4_BITS - n) : 0);
	return true;
}

/* The switches' processes do as the store says now. */
static void follow(struct call *c)
{
	struct error e;
	if (!c->what_if && switches_sync(c->service, NULL, &e))
		call_say(c, "warning", call_text(c, "It is stored, but the running switch could not follow: %s", e.text));
}

/* A network that this system is in: where the kernel's NAT would take it, false
 * with an error of the call; inside, guests only do not reach it. */
static bool network_is_free(struct call *c, uint32_t network, unsigned bits)
{
	struct ipv4_prefix prefix = { { htonl(network) }, bits };
	const char *theirs = network_overlap(c, &prefix);
	if (theirs && vethernet_place()->tap)
		call_cim_error(c, "InvalidArgument", nat_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
			call_text(c, "The prefix overlaps the network %s.", theirs),
			"Take a network that this system is not in: 192.168.100.0/24, or another of 192.168.0.0/16.");
	else if (theirs)
		call_say(c, "warning", call_text(c, "The prefix overlaps the network %s, which virtual machines behind this NAT will not reach.",
						 theirs));
	return !theirs || !vethernet_place()->tap;
}

static void new_nat(struct call *c)
{
	const char *name = call_string(c, "Name"), *internal = call_string(c, "InternalIPInterfaceAddressPrefix");
	const char *external = call_string(c, "ExternalIPInterfaceAddressPrefix"), *key;
	char id[STORE_ID_SIZE];
	json_t *other;
	uint32_t network;
	unsigned bits;
	if (!name || !*name || !internal || !take_prefix(internal, &network, &bits)) {
		call_cim_error(c, "InvalidArgument", nat_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
			!name || !*name ? "A NAT needs a name." : !internal ?
			"A NAT needs the prefix of the network behind it." :
			call_text(c, "-InternalIPInterfaceAddressPrefix \"%s\" is no IPv4 prefix.", internal),
			"New-NetNat -Name LocalNAT -InternalIPInterfaceAddressPrefix \"192.168.100.0/24\"");
		return;
	}
	if (external && *external) {
		call_cim_error(c, "InvalidArgument", nat_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
			"-ExternalIPInterfaceAddressPrefix would keep the NAT to one network outside; Nestor's goes wherever this system does.",
			"Leave it out.");
		return;
	}
	json_object_foreach(store_objects(c->service->store, STORE_NAT), key, other) {
		call_cim_error(c, "InvalidArgument", nat_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
			call_text(c, !strcasecmp(name, get_text(other, "Name")) ? "There is a NAT of that name already (%s, %s)." :
				  "There is a NAT already (%s, %s), and a host has one.", get_text(other, "Name"),
				  get_text(other, "InternalIPInterfaceAddressPrefix")),
			call_text(c, "Remove-NetNat -Name '%s' -Confirm:$false, then try again; or use its network.",
				  get_text(other, "Name")));
		return;
	}
	if (!network_is_free(c, network, bits) ||
	    !call_should(c, call_text(c, "New-NetNat will create the NAT \"%s\".", name)))
		return;
	store_new_id(id);
	const char *prefix = call_text(c, "%u.%u.%u.%u/%u", network >> 24, network >> 16 & 255,
				       network >> 8 & 255, network & 255, bits);
	json_t *nat = json_pack("{s:s,s:s,s:s,s:s,s:[]}", "Id", id, "Name", name,
		"InternalIPInterfaceAddressPrefix", prefix, "ExternalIPInterfaceAddressPrefix", "",
		"StaticMappings");
	if (!call_put(c, STORE_NAT, nat))
		call_object(c, nat_object(nat));
	follow(c);
	json_decref(nat);
}

static void nat_not_found(struct call *c, const char *class_name, const char *name)
{
	const char *names = call_names(c, STORE_NAT);
	call_cim_error(c, "ObjectNotFound", class_name, ERROR_NOT_FOUND, name,
		call_text(c, "No %s objects found with property 'Name' equal to '%s'.  Verify the value of the property and retry.",
			  nat_class, name),
		*names ? call_text(c, "There is: %s.", names) : "There is no NAT.", "Get-NetNat");
}

/* By -NAME parameter (wildcards) or piped; all when nothing is given. */
static json_t *nats(struct call *c, const char *parameter)
{
	json_t *found = json_array(), *names = call_list(c, parameter), *piped = call_list(c, "InputObject");
	json_t *item, *nat, *stored = store_objects(c->service->store, STORE_NAT);
	const char *key;
	size_t i;
	if (!names && !piped)
		json_object_foreach(stored, key, nat)
			json_array_append(found, nat);
	json_array_foreach(names, i, item) {
		const char *name = json_is_string(item) ? json_string_value(item) : "";
		size_t before = json_array_size(found);
		json_object_foreach(stored, key, nat)
			if (wildcard_match(name, get_text(nat, "Name")))
				json_array_append(found, nat);
		if (before == json_array_size(found) && !is_wildcard(name))
			nat_not_found(c, nat_class, name);
	}
	json_array_foreach(piped, i, item)
		if ((nat = store_find(c->service->store, STORE_NAT, get_text(item, "Id"))))
			json_array_append(found, nat);
	json_decref(names);
	json_decref(piped);
	return found;
}

static void get_nat(struct call *c)
{
	json_t *found = nats(c, "Name"), *nat;
	size_t i;
	json_array_foreach(found, i, nat)
		call_object(c, nat_object(nat));
	json_decref(found);
}

static void remove_nat(struct call *c)
{
	json_t *found = nats(c, "Name"), *nat;
	struct error e;
	size_t i;
	json_array_foreach(found, i, nat) {
		if (!call_should(c, call_text(c, "Remove-NetNat will remove the NAT \"%s\".", get_text(nat, "Name"))))
			continue;
		if (store_remove(c->service->store, STORE_NAT, get_text(nat, "Id"), &e))
			call_cim_error(c, "NotSpecified", nat_class, ERROR_INVALID_PARAMETER, NULL,
				       "The NAT could not be removed.", e.text, NULL);
		else if (c->passthru || call_switch(c, "PassThru"))
			call_object(c, nat_object(nat));
	}
	follow(c);
	json_decref(found);
}

/* Static mappings. */

static const char everybody[] = "0.0.0.0/0";

static json_t *mapping_object(json_t *nat, json_t *mapping)
{
	json_t *object = json_pack("{s:s,s:o}", "$type", "NetNatStaticMapping", "StaticMappingID",
				   json_integer(get_integer(mapping, "StaticMappingID")));
	static const char *const keys[] = { "Protocol", "RemoteExternalIPAddressPrefix", "ExternalIPAddress",
		"ExternalPort", "InternalIPAddress", "InternalPort" };
	json_object_set_new(object, "NatName", json_string(get_text(nat, "Name")));
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(object, keys[i], json_object_get(mapping, keys[i]));
	json_object_set_new(object, "InternalRoutingDomainId",
			    json_string("{00000000-0000-0000-0000-000000000000}"));
	json_object_set_new(object, "Active", json_true());
	return object;
}

static bool refuse_mapping(struct call *c, const char *reason, const char *remedy)
{
	call_cim_error(c, "InvalidArgument", mapping_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
		       reason, remedy);
	return false;
}

static bool mapping_fits(struct call *c, json_t *nat, const char *protocol, const char *external,
			 const char *internal, int64_t external_port, int64_t internal_port)
{
	uint32_t network = 0;
	unsigned bits = 0;
	struct in_addr in;
	size_t n = external ? strcspn(external, "/") : 0;
	const char *address = external ? call_text(c, "%.*s", (int)n, external) : "";
	if (!protocol || (strcasecmp(protocol, "TCP") && strcasecmp(protocol, "UDP")))
		return refuse_mapping(c, "-Protocol takes TCP or UDP.", NULL);
	if (inet_pton(AF_INET, address, &in) != 1)
		return refuse_mapping(c, call_text(c, "-ExternalIPAddress \"%s\" is no IPv4 address.", address),
				      "0.0.0.0 stands for every address of the host.");
	if (!internal || inet_pton(AF_INET, internal, &in) != 1)
		return refuse_mapping(c, call_text(c, "-InternalIPAddress \"%s\" is no IPv4 address.",
						   internal ? internal : ""), NULL);
	take_prefix(get_text(nat, "InternalIPInterfaceAddressPrefix"), &network, &bits);
	if (bits && (ntohl(in.s_addr) ^ network) >> (IPV4_BITS - bits))
		return refuse_mapping(c, call_text(c, "%s is not in the NAT's prefix %s.", internal,
			get_text(nat, "InternalIPInterfaceAddressPrefix")), NULL);
	if (external_port < 1 || external_port > PORT_MAX || internal_port < 1 || internal_port > PORT_MAX)
		return refuse_mapping(c, "A port is a number from 1 to 65535.", NULL);
	return true;
}

static void add_mapping(struct call *c)
{
	const char *name = call_string(c, "NatName"), *protocol = call_string(c, "Protocol");
	const char *external = call_string(c, "ExternalIPAddress"), *internal = call_string(c, "InternalIPAddress");
	const char *remote = call_string(c, "RemoteExternalIPAddressPrefix");
	int64_t external_port = get_integer(c->params, "ExternalPort");
	int64_t internal_port = call_parameter(c, "InternalPort") ? get_integer(c->params, "InternalPort") :
		external_port;
	json_t *found = nats(c, "NatName"), *nat = json_array_get(found, 0), *other;
	int64_t highest = -1;
	size_t i;
	if (!nat) {
		if (!json_array_size(c->errors))
			nat_not_found(c, mapping_class, name ? name : "");
		goto out;
	}
	if (!mapping_fits(c, nat, protocol, external, internal, external_port, internal_port))
		goto out;
	if (remote && strcmp(remote, everybody)) {
		refuse_mapping(c, call_text(c, "-RemoteExternalIPAddressPrefix %s would let in only some; Nestor's mappings let in everybody.",
					    remote), "Leave it out, or write 0.0.0.0/0.");
		goto out;
	}
	json_array_foreach(json_object_get(nat, "StaticMappings"), i, other) {
		if (!strcasecmp(get_text(other, "Protocol"), protocol) &&
		    get_integer(other, "ExternalPort") == external_port &&
		    !strcmp(get_text(other, "ExternalIPAddress"), external)) {
			call_cim_error(c, "ResourceExists", mapping_class, ERROR_EXISTS, NULL,
				"The object already exists.",
				call_text(c, "The mapping %lld has that external port.",
					  (long long)get_integer(other, "StaticMappingID")),
				"Get-NetNatStaticMapping");
			goto out;
		}
		if (get_integer(other, "StaticMappingID") > highest)
			highest = get_integer(other, "StaticMappingID");
	}
	if (!call_should(c, call_text(c, "Add-NetNatStaticMapping will add a mapping to the NAT \"%s\".",
				      get_text(nat, "Name"))))
		goto out;
	json_t *copy = json_deep_copy(nat);
	json_t *mapping = json_pack("{s:I,s:s,s:s,s:s,s:I,s:s,s:I}", "StaticMappingID", (json_int_t)(highest + 1),
		"Protocol", strcasecmp(protocol, "TCP") ? "UDP" : "TCP",
		"RemoteExternalIPAddressPrefix", everybody, "ExternalIPAddress", external,
		"ExternalPort", (json_int_t)external_port, "InternalIPAddress", internal,
		"InternalPort", (json_int_t)internal_port);
	json_array_append_new(json_object_get(copy, "StaticMappings"), mapping);
	if (!call_put(c, STORE_NAT, copy))
		call_object(c, mapping_object(copy, mapping));
	follow(c);
	json_decref(copy);
out:
	json_decref(found);
}

static bool mapping_wanted(struct call *c, json_t *nat, json_t *mapping)
{
	json_t *ids = call_list(c, "StaticMappingID"), *piped = call_list(c, "InputObject"), *item;
	bool wanted = !ids && !piped;
	size_t i;
	json_array_foreach(ids, i, item)
		if (json_integer_value(item) == get_integer(mapping, "StaticMappingID"))
			wanted = true;
	json_array_foreach(piped, i, item)
		if (get_integer(item, "StaticMappingID") == get_integer(mapping, "StaticMappingID") &&
		    !strcasecmp(get_text(item, "NatName"), get_text(nat, "Name")))
			wanted = true;
	json_decref(ids);
	json_decref(piped);
	return wanted;
}

/* NATs of a cmdlet about mappings: those piped are mappings, not NATs. */
static json_t *mapping_nats(struct call *c)
{
	json_t *found = json_array(), *nat, *names = call_list(c, "NatName"), *item;
	const char *key;
	size_t i;
	json_object_foreach(store_objects(c->service->store, STORE_NAT), key, nat) {
		bool wanted = !names;
		json_array_foreach(names, i, item)
			if (json_is_string(item) && wildcard_match(json_string_value(item), get_text(nat, "Name")))
				wanted = true;
		if (wanted)
			json_array_append(found, nat);
	}
	if (names && !json_array_size(found))
		nat_not_found(c, mapping_class, call_string(c, "NatName") ? call_string(c, "NatName") : "");
	json_decref(names);
	return found;
}

static void get_mapping(struct call *c)
{
	json_t *found = mapping_nats(c), *nat, *mapping;
	size_t i, m;
	json_array_foreach(found, i, nat)
		json_array_foreach(json_object_get(nat, "StaticMappings"), m, mapping)
			if (mapping_wanted(c, nat, mapping))
				call_object(c, mapping_object(nat, mapping));
	json_decref(found);
}

static void remove_mapping(struct call *c)
{
	json_t *found = mapping_nats(c), *nat, *mapping;
	size_t i;
	json_array_foreach(found, i, nat) {
		json_t *copy = json_deep_copy(nat), *list = json_object_get(copy, "StaticMappings");
		for (size_t m = json_array_size(list); m-- > 0;) {
			mapping = json_array_get(list, m);
			if (mapping_wanted(c, nat, mapping) &&
			    call_should(c, call_text(c, "Remove-NetNatStaticMapping will remove the mapping %lld of the NAT \"%s\".",
						     (long long)get_integer(mapping, "StaticMappingID"),
						     get_text(nat, "Name"))))
				json_array_remove(list, m);
		}
		if (!json_equal(copy, nat))
			call_put(c, STORE_NAT, copy);
		json_decref(copy);
	}
	follow(c);
	json_decref(found);
}

const struct cmdlet nat_cmdlets[] = {
	{ "New-NetNat", new_nat, " Name InternalIPInterfaceAddressPrefix ExternalIPInterfaceAddressPrefix ", NULL },
	{ "Get-NetNat", get_nat, " Name ", NULL },
	{ "Remove-NetNat", remove_nat, " Name InputObject PassThru ", NULL },
	{ "Add-NetNatStaticMapping", add_mapping,
	  " NatName Protocol ExternalIPAddress ExternalPort InternalIPAddress InternalPort RemoteExternalIPAddressPrefix ",
	  NULL },
	{ "Get-NetNatStaticMapping", get_mapping, " NatName StaticMappingID ", NULL },
	{ "Remove-NetNatStaticMapping", remove_mapping, " NatName StaticMappingID InputObject PassThru ", NULL },
	{ NULL }
};
