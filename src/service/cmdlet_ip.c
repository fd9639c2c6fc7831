/* NetAdapter, NetIPAddress and Netsh.
 *
 * An adapter here is either vEthernet of a switch, whose addresses are the
 * store's and which the switch's process answers for, or a network interface of
 * Linux. The latter are shown; changed they are only inside a guest of Nestor,
 * where they are the guest's own and are called as Windows would call them
 * (Ethernet, Ethernet 2). On a host nothing is touched that Nestor did not make. */
#include "service/guest.h"
#include "service/network.h"
#include "service/switches.h"

#include "base/bits.h"
#include "net/interface.h"

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
	NAME_SIZE = 256,
};

static const char address_class[] = "MSFT_NetIPAddress", adapter_class[] = "MSFT_NetAdapter";
static const char parameter_sentence[] = "The parameter is incorrect.";

/* Adapters. */

static json_t *adapter_object(const char *name, const char *description, int index, const char *status,
			      const char *mac, const char *id)
{
	json_t *object = json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:s,s:s,s:s,s:s}", "$type", "NetAdapter",
		"Name", name, "InterfaceAlias", name, "InterfaceDescription", description,
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

static bool read_word(const char *interface, const char *what, char *word, size_t room)
{
	char path[NAME_SIZE];
	snprintf(path, sizeof path, "/sys/class/net/%s/%s", interface, what);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, word, room - 1);
	if (fd >= 0)
		close(fd);
	word[n > 0 ? n : 0] = '\0';
	word[strcspn(word, "\n")] = '\0';
	return n > 0;
}

static json_t *interface_object(struct call *c, unsigned number, const char *interface, bool guest)
{
	char mac[NAME_SIZE], state[NAME_SIZE];
	read_word(interface, "address", mac, sizeof mac);
	read_word(interface, "operstate", state, sizeof state);
	for (char *at = mac; *at; at++)
		*at = *at == ':' ? '-' : *at >= 'a' ? (char)(*at - 'a' + 'A') : *at;
	const char *name = !guest ? interface : number ? call_text(c, "Ethernet %u", number + 1) : "Ethernet";
	return adapter_object(name, call_text(c, "Linux network interface %s", interface),
			      interface_index(interface), !strcmp(state, "down") ? "Disconnected" : "Up", mac, "");
}

/* Every adapter, vEthernet's first; the caller's. */
static json_t *adapters(struct call *c)
{
	json_t *list = json_array(), *network;
	char interface[IF_NAMESIZE], mac[13];
	bool guest = guest_is_nestors();
	const char *id;
	int index = VETHERNET_INDEX;
	json_object_foreach(store_objects(c->service->store, STORE_SWITCH), id, network) {
		index++;
		if (!get_true(network, "AllowManagementOS"))
			continue;
		switches_host_mac(id, mac);
		json_array_append_new(list, adapter_object(
			call_text(c, "vEthernet (%s)", get_text(network, "Name")),
			"Hyper-V Virtual Ethernet Adapter", index, "Up", dashed(c, mac), id));
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
	return json_pack("{s:s,s:s,s:O,s:O,s:s,s:s,s:i,s:s,s:s,s:s,s:b,s:s}", "$type", "NetIPAddress",
		"IPAddress", address, "InterfaceIndex", json_object_get(adapter, "InterfaceIndex"),
		"InterfaceAlias", json_object_get(adapter, "Name"),
		"AddressFamily", family == AF_INET ? "IPv4" : "IPv6", "Type", "Unicast", "PrefixLength", bits,
		"PrefixOrigin", origin, "SuffixOrigin", origin, "AddressState", "Preferred",
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
		json_array_append_new(list, address_object(inet_ntop(family, address, text, sizeof text), family,
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
		if (!*id && if_indextoname((unsigned)get_integer(adapter, "InterfaceIndex"), interface))
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
	int result = fd < 0 ? -1 : ioctl(fd, SIOCADDRT, &route), reason = errno;
	if (fd >= 0)
		close(fd);
	errno = reason;
	return result && reason != EEXIST ? -1 : 0;
}

/* A guest's own. */
static int add_to_interface(struct call *c, json_t *adapter, const struct ipv4_prefix *prefix)
{
	const char *gateway = call_string(c, "DefaultGateway");
	char interface[IF_NAMESIZE];
	struct in_addr via = { 0 };
	if (!own_interface(c, adapter, interface))
		return -1;
	if (gateway && inet_pton(AF_INET, gateway, &via) != 1) {
		refuse(c, call_text(c, "-DefaultGateway \"%s\" is no IPv4 address.", gateway), NULL);
		return -1;
	}
	if (!interface_up(interface) && !interface_set_address(interface, prefix) &&
	    (!gateway || !set_gateway(interface, via)))
		return 0;
	call_cim_error(c, "NotSpecified", address_class, ERROR_INVALID_PARAMETER, get_text(adapter, "Name"),
		"The address could not be set.", call_text(c, "Linux refuses it for %s (%s).", interface,
							   strerror(errno)), NULL);
	return -1;
}

static void new_ip_address(struct call *c)
{
	const char *address = call_string(c, "IPAddress"), *family = call_string(c, "AddressFamily");
	int64_t bits = call_parameter(c, "PrefixLength") ? get_integer(c->params, "PrefixLength") : IPV4_BITS;
	const char *text = call_text(c, "%s/%lld", address ? address : "", (long long)bits);
	json_t *list = adapters(c), *adapter, *all = addresses(c), *object;
	struct ipv4_prefix prefix;
	size_t i;
	if (!(adapter = target(c, list)))
		goto out;
	if ((family && strcasecmp(family, "IPv4")) || !ipv4_prefix_parse(text, &prefix) || !prefix.bits) {
		refuse(c, call_text(c, "%s is no IPv4 address with the length of its network's prefix.", text),
		       "New-NetIPAddress -IPAddress 192.168.100.1 -PrefixLength 24 …");
		goto out;
	}
	json_array_foreach(all, i, object)
		if (!strcmp(get_text(object, "IPAddress"), address)) {
			call_cim_error(c, "ResourceExists", address_class, ERROR_EXISTS, NULL,
				"Instance MSFT_NetIPAddress already exists",
				call_text(c, "%s has the address %s.", get_text(object, "InterfaceAlias"), address),
				call_text(c, "Remove-NetIPAddress -IPAddress %s", address));
			goto out;
		}
	if (call_should(c, call_text(c, "New-NetIPAddress will give \"%s\" the address %s.",
				     get_text(adapter, "Name"), text)) &&
	    !(*get_text(adapter, "SwitchId") ? add_to_switch(c, adapter, text) :
	      add_to_interface(c, adapter, &prefix)))
		call_object(c, stored_address_object(c, text, adapter));
out:
	json_decref(list);
	json_decref(all);
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

static int remove_from_interface(struct call *c, json_t *adapter)
{
	static const struct ipv4_prefix none;
	char interface[IF_NAMESIZE];
	if (!own_interface(c, adapter, interface))
		return -1;
	if (!interface_set_address(interface, &none) || errno == EADDRNOTAVAIL)
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
				remove_from_interface(c, adapter);
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
