/* NetAdapter, NetIPAddress and Netsh.
 *
 * An adapter here is either vEthernet of a switch, whose addresses are the
 * store's and which the switch's process answers for, inside or as a TAP
 * (vethernet.h), or another network interface of Linux. The latter are shown; changed they are only inside a guest of Nestor,
 * where they are the guest's own and are called as Windows would call them
 * (Ethernet, Ethernet 2). On a host nothing is touched that Nestor did not make. */
#include "service/guest.h"
#include "service/network.h"
#include "service/switches.h"

#include "base/bits.h"
#include "net/interface.h"
#include "service/vethernet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	ERROR_INVALID_PARAMETER = 87, ERROR_NOT_FOUND = 1168, ERROR_EXISTS = 5010,
	ERROR_ACCESS = 5,
	VETHERNET_INDEX = 1000,		/* beyond what Linux counts to */
	IPV4_BITS = 32,
};

static const char address_class[] = "MSFT_NetIPAddress", adapter_class[] = "MSFT_NetAdapter";
static const char parameter_sentence[] = "The parameter is incorrect.";

static const char vethernet_description[] = "Hyper-V Virtual Ethernet Adapter";

/* Adapters. */

static json_t *adapter_object(const char *name, const char *description, int index, const char *status,
			      const char *mac, const char *interface, const char *id)
{
	json_t *object = json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:s,s:s,s:s,s:s}", "$type", "NetAdapter",
		"Name", name, "InterfaceAlias", name, "InterfaceDescription", description,
		"InterfaceName", interface,
		"InterfaceIndex", index, "ifIndex", index, "Status", status, "MacAddress", mac,
		"LinkSpeed", "10 Gbps", "MediaConnectionState", !strcmp(status, "Up") ? "Connected" : "Disconnected");
	/* Which switch or interface it is: for us, not for the view. */
	json_object_set_new(object, "SwitchId", json_string(id));
	return object;
}

/* 12 digits as 00-15-5D-… */
static const char *dashed(struct call *c, const char *mac)
{
	return call_text(c, "%.2s-%.2s-%.2s-%.2s-%.2s-%.2s", mac, mac + 2, mac + 4, mac + 6, mac + 8,
			 mac + 10);
}

static json_t *interface_object(struct call *c, unsigned number, const char *interface, bool guest)
{
	uint8_t mac[MAC_LENGTH];
	char text[MAC_TEXT] = "";
	if (interface_mac(interface, mac))
		mac_format(mac, text);
	const char *name = !guest ? interface : number ? call_text(c, "Ethernet %u", number + 1) : "Ethernet";
	return adapter_object(name, call_text(c, "Linux network interface %s", interface),
			      interface_index(interface), interface_runs(interface) ? "Up" : "Disconnected",
			      text, interface, "");
}

/* Every adapter, vEthernet's first; the caller's. */
static json_t *adapters(struct call *c)
{
	json_t *list = json_array(), *network;
	char interface[IF_NAMESIZE], mac[13];
	bool guest = guest_is_nestors();
	const char *id;
	int number = 0;
	json_object_foreach(store_objects(c->service->store, STORE_SWITCH), id, network) {
		if (!get_true(network, "AllowManagementOS"))
			continue;
		const char *tap = switches_interface(c->service, id);
		int index = *tap ? interface_index(tap) : -1;
		number++;
		switches_host_mac(id, mac);
		json_array_append_new(list, adapter_object(
			call_text(c, "vEthernet (%s)", get_text(network, "Name")), number == 1 ?
			vethernet_description : call_text(c, "%s #%d", vethernet_description, number),
			index < 0 ? VETHERNET_INDEX + number : index, "Up", dashed(c, mac), tap, id));
	}
	for (unsigned i = 0; guest_interface(i, interface, sizeof interface); i++)
		json_array_append_new(list, interface_object(c, i, interface, guest));
	return list;
}

/* Does the object have, under key, one of the values that the parameter lists? */
static bool fits(struct call *c, const char *parameter, json_t *object, const char *key)
{
	json_t *wanted = call_list(c, parameter), *item, *is = json_object_get(object, key);
	size_t i;
	bool found = !wanted;
	json_array_foreach(wanted, i, item)
		if (json_is_string(item) && json_is_string(is) ?
		    wildcard_match(json_string_value(item), json_string_value(is)) : json_equal(item, is))
			found = true;
	json_decref(wanted);
	return found;
}

/* "Ethernet" is the first interface on a host too. */
static bool is_named(struct call *c, json_t *adapter)
{
	char interface[IF_NAMESIZE] = "";
	const char *name = call_string(c, "Name");
	if (fits(c, "Name", adapter, "Name"))
		return true;
	return name && !strcasecmp(name, "Ethernet") && guest_interface(0, interface, sizeof interface) &&
		!strcmp(interface, get_text(adapter, "Name"));
}

static void get_net_adapter(struct call *c)
{
	json_t *list = adapters(c), *adapter;
	const char *name = call_string(c, "Name");
	size_t i;
	json_array_foreach(list, i, adapter)
		if (is_named(c, adapter) && fits(c, "InterfaceDescription", adapter, "InterfaceDescription") &&
		    fits(c, "InterfaceIndex", adapter, "InterfaceIndex") &&
		    (!call_switch(c, "Physical") || !*get_text(adapter, "SwitchId")))
			call_object(c, json_incref(adapter));
	if (!json_array_size(c->objects) && name && !is_wildcard(name))
		call_cim_error(c, "ObjectNotFound", adapter_class, ERROR_NOT_FOUND, name,
			call_text(c, "No %s objects found with property 'Name' equal to '%s'.  Verify the value of the property and retry.",
				  adapter_class, name),
			"vEthernet (NAME) is there for the switch NAME when it is Internal.", "Get-NetAdapter");
	json_decref(list);
}

/* The adapter of -InterfaceAlias or -InterfaceIndex; borrowed from list. NULL
 * with an error of the call. */
static json_t *target(struct call *c, json_t *list)
{
	const char *alias = call_string(c, "InterfaceAlias");
	json_t *adapter;
	size_t i;
	json_array_foreach(list, i, adapter)
		if (alias ? !strcasecmp(alias, get_text(adapter, "Name")) :
		    call_parameter(c, "InterfaceIndex") && fits(c, "InterfaceIndex", adapter, "InterfaceIndex"))
			return adapter;
	call_cim_error(c, "ObjectNotFound", address_class, ERROR_NOT_FOUND, alias, "Element not found.",
		alias ? call_text(c, "There is no network adapter \"%s\".", alias) :
		"There is no network adapter of that number.", "Get-NetAdapter");
	return NULL;
}

/* The Linux interface of one of a guest's own adapters; false with an error when
 * this is a host. */
static bool own_interface(struct call *c, json_t *adapter, char name[IF_NAMESIZE])
{
	if (guest_is_nestors() &&
	    if_indextoname((unsigned)get_integer(adapter, "InterfaceIndex"), name))
		return true;
	call_cim_error(c, "PermissionDenied", address_class, ERROR_ACCESS, get_text(adapter, "Name"),
		"Access is denied.",
		call_text(c, "\"%s\" is an adapter of this host, and Nestor touches none that it did not make.",
			  get_text(adapter, "Name")),
		"Linux's own command for it is ip address; inside a virtual machine this cmdlet sets that machine's own.");
	return false;
}

/* Addresses. */

static json_t *address_object(const char *address, int family, int bits, json_t *adapter, const char *origin)
{
	static const char forever[] = "Infinite ([TimeSpan]::MaxValue)";
	return json_pack("{s:s,s:s,s:O,s:O,s:s,s:s,s:i,s:s,s:s,s:s,s:s,s:s,s:b,s:s}", "$type", "NetIPAddress",
		"IPAddress", address, "InterfaceIndex", json_object_get(adapter, "InterfaceIndex"),
		"InterfaceAlias", json_object_get(adapter, "Name"),
		"AddressFamily", family == AF_INET ? "IPv4" : "IPv6", "Type", "Unicast", "PrefixLength", bits,
		"PrefixOrigin", origin, "SuffixOrigin", origin, "AddressState", "Preferred",
		"ValidLifetime", forever, "PreferredLifetime", forever,
		"SkipAsSource", 0, "PolicyStore", "ActiveStore");
}

static json_t *stored_address_object(struct call *c, const char *text, json_t *adapter)
{
	const char *slash = strchr(text, '/');
	return address_object(call_text(c, "%.*s", (int)(slash - text), text), AF_INET, atoi(slash + 1),
			      adapter, "Manual");
}

static int mask_bits(const struct sockaddr *mask)
{
	const uint8_t *bytes = mask->sa_family == AF_INET ?
		(const uint8_t *)&((const struct sockaddr_in *)mask)->sin_addr :
		(const uint8_t *)&((const struct sockaddr_in6 *)mask)->sin6_addr;
	int bits = 0, size = mask->sa_family == AF_INET ? (int)sizeof(struct in_addr) :
		(int)sizeof(struct in6_addr);
	for (int i = 0; i < size; i++)
		bits += __builtin_popcount(bytes[i]);
	return bits;
}

static bool is_listed(json_t *list, const char *address)
{
	json_t *object;
	size_t i;
	json_array_foreach(list, i, object)
		if (!strcmp(get_text(object, "IPAddress"), address))
			return true;
	return false;
}

/* Those that the list does not have yet. */
static void interface_addresses(struct call *c, json_t *adapter, const char *interface, json_t *list)
{
	struct ifaddrs *all = NULL;
	char text[INET6_ADDRSTRLEN];
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *a = all; a; a = a->ifa_next) {
		int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
		if (strcmp(a->ifa_name, interface) || (family != AF_INET && family != AF_INET6))
			continue;
		const void *address = family == AF_INET ? (void *)&((struct sockaddr_in *)a->ifa_addr)->sin_addr :
			(void *)&((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr;
		if (!is_listed(list, inet_ntop(family, address, text, sizeof text)))
			json_array_append_new(list, address_object(text, family,
				a->ifa_netmask ? mask_bits(a->ifa_netmask) : 0, adapter, "Other"));
	}
	freeifaddrs(all);
}

/* All of all adapters; the caller's. */
static json_t *addresses(struct call *c)
{
	json_t *list = json_array(), *all = adapters(c), *adapter, *text;
	char interface[IF_NAMESIZE];
	size_t i, a;
	json_array_foreach(all, i, adapter) {
		const char *id = get_text(adapter, "SwitchId");
		json_t *network = store_find(c->service->store, STORE_SWITCH, id);
		if (!strcmp(id, DEFAULT_SWITCH_ID))
			json_array_append_new(list, stored_address_object(c, DEFAULT_SWITCH_ADDRESS, adapter));
		json_array_foreach(json_object_get(network, "Addresses"), a, text)
			json_array_append_new(list, stored_address_object(c, json_string_value(text), adapter));
		if (if_indextoname((unsigned)get_integer(adapter, "InterfaceIndex"), interface))
			interface_addresses(c, adapter, interface, list);
	}
	json_decref(all);
	return list;
}

static bool wanted_address(struct call *c, json_t *object)
{
	static const char *const keys[] = { "IPAddress", "InterfaceIndex", "InterfaceAlias", "AddressFamily",
		"Type", "PrefixLength", "PrefixOrigin", "SuffixOrigin", "AddressState" };
	json_t *piped = call_list(c, "InputObject"), *item;
	bool wanted = !piped;
	size_t i;
	for (unsigned k = 0; k < ARRAY_SIZE(keys) && wanted; k++)
		wanted = fits(c, keys[k], object, keys[k]);
	json_array_foreach(piped, i, item)
		if (!strcmp(get_text(item, "IPAddress"), get_text(object, "IPAddress")) &&
		    !strcmp(get_text(item, "InterfaceAlias"), get_text(object, "InterfaceAlias")))
			wanted = true;
	json_decref(piped);
	return wanted;
}

/* Those that the call's parameters describe; the caller's. */
static json_t *described(struct call *c)
{
	json_t *all = addresses(c), *list = json_array(), *object;
	const char *address = call_string(c, "IPAddress");
	size_t i;
	json_array_foreach(all, i, object)
		if (wanted_address(c, object))
			json_array_append(list, object);
	if (!json_array_size(list) && address && !is_wildcard(address))
		call_cim_error(c, "ObjectNotFound", address_class, ERROR_NOT_FOUND, address,
			call_text(c, "No %s objects found with property 'IPAddress' equal to '%s'.  Verify the value of the property and retry.",
				  address_class, address), NULL, "Get-NetIPAddress");
	json_decref(all);
	return list;
}

static void get_ip_address(struct call *c)
{
	json_t *list = described(c), *object;
	size_t i;
	json_array_foreach(list, i, object)
		call_object(c, json_incref(object));
	json_decref(list);
}

static void refuse(struct call *c, const char *reason, const char *remedy)
{
	call_cim_error(c, "InvalidArgument", address_class, ERROR_INVALID_PARAMETER, NULL, parameter_sentence,
		       reason, remedy);
}

/* Store a switch's addresses and have its process follow; when it cannot, the
 * old ones stay. 0, or -1 with an error of the call. */
static int put_addresses(struct call *c, const char *id, json_t *list)
{
	json_t *old = json_deep_copy(store_find(c->service->store, STORE_SWITCH, id));
	json_t *copy = json_deep_copy(old);
	struct error e;
	json_object_set(copy, "Addresses", list);
	int result = call_put(c, STORE_SWITCH, copy);
	if (!result && switches_sync(c->service, NULL, &e)) {
		call_cim_error(c, "NotSpecified", address_class, ERROR_INVALID_PARAMETER, NULL,
			       "The address could not be set.", e.text, NULL);
		call_put(c, STORE_SWITCH, old);
		result = -1;
	}
	json_decref(copy);
	json_decref(old);
	return result;
}

static int add_to_switch(struct call *c, json_t *adapter, const char *text)
{
	const char *id = get_text(adapter, "SwitchId");
	json_t *network = store_find(c->service->store, STORE_SWITCH, id), *list;
	if (!strcmp(id, DEFAULT_SWITCH_ID)) {
		refuse(c, "The default switch has its own network, " DEFAULT_SWITCH_ADDRESS ".",
		       "New-VMSwitch -Name NAME -SwitchType Internal makes a switch for other addresses.");
		return -1;
	}
	if (call_string(c, "DefaultGateway")) {
		refuse(c, "vEthernet is the host's own end of a switch; there is nothing beyond it.",
		       "Leave -DefaultGateway out; the virtual machines' gateway is this address.");
		return -1;
	}
	list = json_object_get(network, "Addresses");
	list = list ? json_deep_copy(list) : json_array();
	json_array_append_new(list, json_string(text));
	int result = put_addresses(c, id, list);
	json_decref(list);
	if (!result)
		network_say_place(c, store_find(c->service->store, STORE_SWITCH, id), false);
	return result;
}

static int set_gateway(const char *interface, struct in_addr gateway)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)interface };
	struct sockaddr_in any = { .sin_family = AF_INET }, via = { .sin_family = AF_INET, .sin_addr = gateway };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memcpy(&route.rt_dst, &any, sizeof any);
	memcpy(&route.rt_genmask, &any, sizeof any);
	memcpy(&route.rt_gateway, &via, sizeof via);
	struct rtentry old = { .rt_flags = RTF_UP, .rt_dev = (char *)interface, .rt_dst = route.rt_dst,
			       .rt_genmask = route.rt_genmask };
	if (fd >= 0)
		ioctl(fd, SIOCDELRT, &old);	/* an earlier one, if there was */
	int result = fd < 0 ? -1 : ioctl(fd, SIOCADDRT, &route), reason = errno;
	if (fd >= 0)
		close(fd);
	errno = reason;
	return result;
}

/* A guest's own. */
static int add_to_interface(struct call *c, json_t *adapter, const struct ipv4_prefix *prefix)
{
	const char *gateway = call_string(c, "DefaultGateway");
	char interface[IF_NAMESIZE];
	struct in_addr via = { 0 };
	if (!own_interface(c, adapter, interface))
		return -1;
	if (gateway && (inet_pton(AF_INET, gateway, &via) != 1 || !ipv4_prefix_has(prefix, via))) {
		refuse(c, call_text(c, "-DefaultGateway \"%s\" is no IPv4 address of the adapter's own network.", gateway),
		       "The gateway is a neighbour: for 192.168.100.2 with -PrefixLength 24, one of 192.168.100.1 to .254.");
		return -1;
	}
	/* As there, a static address ends DHCP, with what that had given. */
	interface_drop_others(interface);
	if (!interface_up(interface) && !interface_add_address(interface, prefix) &&
	    (!gateway || !set_gateway(interface, via)))
		return 0;
	call_cim_error(c, "NotSpecified", address_class, ERROR_INVALID_PARAMETER, get_text(adapter, "Name"),
		"The address could not be set.", call_text(c, "Linux refuses it for %s (%s).", interface,
							   strerror(errno)), NULL);
	return -1;
}

/* As there: once as it takes effect, once as it is kept. A guest's own interface
 * keeps nothing. */
static void show_new_address(struct call *c, json_t *adapter, const char *text)
{
	static const char *const kept[][2] = { { "Tentative", "ActiveStore" }, { "Invalid", "PersistentStore" } };
	for (unsigned i = 0; i < (*get_text(adapter, "SwitchId") ? ARRAY_SIZE(kept) : 1); i++) {
		json_t *object = stored_address_object(c, text, adapter);
		json_object_set_new(object, "AddressState", json_string(kept[i][0]));
		json_object_set_new(object, "PolicyStore", json_string(kept[i][1]));
		call_object(c, object);
	}
}

/* What New-NetIPAddress is given; false with an error of the call. */
static bool address_fits(struct call *c, json_t *adapter, const char *text, struct ipv4_prefix *prefix)
{
	const char *address = call_string(c, "IPAddress"), *family = call_string(c, "AddressFamily");
	const char *type = call_string(c, "Type"), *theirs;
	json_t *all, *object, *same = NULL;
	size_t i;
	if ((family && !strcasecmp(family, "IPv6")) || (address && strchr(address, ':'))) {
		refuse(c, call_text(c, "%s is an IPv6 address, and Nestor's adapters and NATs have IPv4 only.",
				    address ? address : ""),
		       "New-NetIPAddress -IPAddress 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24 …");
		return false;
	}
	if (type && strcasecmp(type, "Unicast")) {
		refuse(c, "An anycast address is nothing that IPv4 knows.", "Leave -Type out.");
		return false;
	}
	if (!ipv4_prefix_parse(text, prefix) || !prefix->bits) {
		refuse(c, call_text(c, "%s is no IPv4 address with the length of its network's prefix.", text),
		       "New-NetIPAddress -IPAddress 192.168.100.1 -PrefixLength 24 …");
		return false;
	}
	all = addresses(c);
	json_array_foreach(all, i, object)
		if (!strcmp(get_text(object, "IPAddress"), address))
			same = object;
	if (same)
		call_cim_error(c, "ResourceExists", address_class, ERROR_EXISTS, NULL,
			"Instance MSFT_NetIPAddress already exists",
			call_text(c, "%s has the address %s.", get_text(same, "InterfaceAlias"), address),
			call_text(c, "Remove-NetIPAddress -IPAddress %s", address));
	json_decref(all);
	if (same)
		return false;
	theirs = *get_text(adapter, "InterfaceName") && *get_text(adapter, "SwitchId") ?
		network_overlap(c, prefix) : NULL;
	if (theirs)
		refuse(c, call_text(c, "Its network overlaps %s, which this system would no longer reach.", theirs),
		       "Take a network that this system is not in: 192.168.100.0/24, or another of 192.168.0.0/16.");
	return !theirs;
}

static void new_ip_address(struct call *c)
{
	const char *address = call_string(c, "IPAddress");
	int64_t bits = call_parameter(c, "PrefixLength") ? get_integer(c->params, "PrefixLength") : IPV4_BITS;
	const char *text = call_text(c, "%s/%lld", address ? address : "", (long long)bits);
	json_t *list = adapters(c), *adapter = target(c, list);
	struct ipv4_prefix prefix;
	if (adapter && address_fits(c, adapter, text, &prefix) &&
	    call_should(c, call_text(c, "New-NetIPAddress will give \"%s\" the address %s.",
				     get_text(adapter, "Name"), text)) &&
	    !(*get_text(adapter, "SwitchId") ? add_to_switch(c, adapter, text) :
	      add_to_interface(c, adapter, &prefix)))
		show_new_address(c, adapter, text);
	json_decref(list);
}

static int remove_from_switch(struct call *c, json_t *adapter, const char *text)
{
	const char *id = get_text(adapter, "SwitchId");
	json_t *list = json_deep_copy(json_object_get(store_find(c->service->store, STORE_SWITCH, id),
						      "Addresses"));
	if (!strcmp(id, DEFAULT_SWITCH_ID)) {
		json_decref(list);
		refuse(c, "The default switch's address is always there.", NULL);
		return -1;
	}
	for (size_t i = json_array_size(list); i-- > 0;)
		if (!strcmp(json_string_value(json_array_get(list, i)), text))
			json_array_remove(list, i);
	int result = put_addresses(c, id, list);
	json_decref(list);
	return result;
}

static int remove_from_interface(struct call *c, json_t *adapter, const char *text)
{
	struct ipv4_prefix prefix;
	char interface[IF_NAMESIZE];
	if (!own_interface(c, adapter, interface))
		return -1;
	if (!ipv4_prefix_parse(text, &prefix)) {
		refuse(c, call_text(c, "%s is an IPv6 address, and Nestor sets IPv4 only.", text), NULL);
		return -1;
	}
	if (!interface_remove_address(interface, &prefix) || errno == EADDRNOTAVAIL)
		return 0;
	call_cim_error(c, "NotSpecified", address_class, ERROR_INVALID_PARAMETER, get_text(adapter, "Name"),
		"The address could not be removed.", strerror(errno), NULL);
	return -1;
}

static void remove_ip_address(struct call *c)
{
	json_t *list = described(c), *all = adapters(c), *object, *adapter;
	size_t i, a;
	json_array_foreach(list, i, object)
		json_array_foreach(all, a, adapter) {
			const char *text = call_text(c, "%s/%lld", get_text(object, "IPAddress"),
						     (long long)get_integer(object, "PrefixLength"));
			if (strcmp(get_text(adapter, "Name"), get_text(object, "InterfaceAlias")) ||
			    !call_should(c, call_text(c, "Remove-NetIPAddress will take the address %s from \"%s\".",
						      text, get_text(adapter, "Name"))))
				continue;
			int result = *get_text(adapter, "SwitchId") ? remove_from_switch(c, adapter, text) :
				remove_from_interface(c, adapter, text);
			if (!result && c->passthru)
				call_object(c, json_incref(object));
		}
	json_decref(list);
	json_decref(all);
}

/* Netsh. */

static const char resolver_file[] = "/etc/resolv.conf";

static int add_name_server(const char *address)
{
	int fd = open(resolver_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	int result = fd < 0 ? -1 : dprintf(fd, "nameserver %s\n", address);
	if (fd >= 0)
		close(fd);
	return result < 0 ? -1 : 0;
}

/* The value of a word that may be "key=value". */
static const char *value_of(const char *word, const char *key)
{
	size_t n = strlen(key);
	return !strncasecmp(word, key, n) && word[n] == '=' ? word + n + 1 : word;
}

/* interface ip add dnsserver NAME ADDRESS [index=…] [validate=…] */
static void netsh(struct call *c)
{
	enum { CONTEXT, FAMILY, VERB, OBJECT, NAME, ADDRESS, WORDS };
	static const char *const known[NAME] = { "interface", "ip", "add", "dnsserver" };
	const char *word[WORDS] = { "", "", "", "", "", "" };
	json_t *given = call_list(c, "Arguments"), *list = adapters(c), *adapter = NULL, *item;
	struct in_addr in;
	char interface[IF_NAMESIZE];
	bool fits_all = true;
	size_t i;
	for (i = 0; i < WORDS; i++)
		if (json_is_string(json_array_get(given, i)))
			word[i] = json_string_value(json_array_get(given, i));
	for (i = 0; i < NAME; i++)
		fits_all = fits_all && (!strcasecmp(word[i], known[i]) || (i == FAMILY && !strcasecmp(word[i], "ipv4")) ||
					(i == OBJECT && !strcasecmp(word[i], "dnsservers")));
	const char *name = value_of(word[NAME], "name"), *address = value_of(word[ADDRESS], "address");
	json_array_foreach(list, i, item)
		if (!strcasecmp(get_text(item, "Name"), name) && !*get_text(item, "SwitchId"))
			adapter = item;
	if (!fits_all || !*name) {
		call_error(c, "NotSupported", word[CONTEXT], "Nestor does not have this command of netsh.",
			   "It has the one of the page on nesting.",
			   "Netsh interface ip add dnsserver \"Ethernet\" address=192.168.100.1");
	} else if (inet_pton(AF_INET, address, &in) != 1) {
		call_error(c, "InvalidParameter", address, "The address is not valid.",
			   call_text(c, "\"%s\" is no IPv4 address.", address),
			   call_text(c, "Netsh interface ip add dnsserver \"%s\" address=192.168.100.1", name));
	} else if (!guest_is_nestors()) {
		call_error(c, "PermissionDenied", name, "Access is denied.",
			   "This is a host, and Nestor changes nothing of its network that it did not make.",
			   "Run it inside the virtual machine whose DNS server it is.");
	} else if (!adapter || !own_interface(c, adapter, interface)) {
		call_error(c, "ObjectNotFound", name, call_text(c, "There is no network adapter \"%s\".", name),
			   NULL, "Get-NetAdapter");
	} else if (call_should(c, call_text(c, "Netsh will add the DNS server %s.", address)) &&
		   add_name_server(address)) {
		call_error(c, "OperationFailed", address, "The DNS server could not be added.",
			   call_text(c, "%s cannot be written (%s).", resolver_file, strerror(errno)), NULL);
	}
	json_decref(given);
	json_decref(list);
}

const struct cmdlet ip_cmdlets[] = {
	{ "Get-NetAdapter", get_net_adapter, " Name InterfaceDescription InterfaceIndex Physical ", NULL },
	{ "New-NetIPAddress", new_ip_address,
	  " IPAddress InterfaceAlias InterfaceIndex DefaultGateway AddressFamily Type PrefixLength ", NULL },
	{ "Get-NetIPAddress", get_ip_address,
	  " IPAddress InterfaceAlias InterfaceIndex AddressFamily Type PrefixLength PrefixOrigin SuffixOrigin AddressState ",
	  NULL },
	{ "Remove-NetIPAddress", remove_ip_address,
	  " IPAddress InterfaceAlias InterfaceIndex AddressFamily Type PrefixLength PrefixOrigin SuffixOrigin AddressState InputObject PassThru ",
	  NULL },
	{ "Netsh", netsh, " Arguments ", NULL },
	{ NULL }
};
