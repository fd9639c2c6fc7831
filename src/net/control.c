/* What the service may ask a switch process; docs/network.md describes it. */
#include "net/process.h"

#include "base/log.h"
#include "service/rpc.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

enum { PORT_NUMBER_MAX = 65535, GUID_ROOM = PORT_ID_MAX };

/* Parameters. */

static const char *text(struct rpc_call *c, const char *key)
{
	const char *value = json_string_value(json_object_get(rpc_params(c), key));
	return value ? value : "";
}

static bool given(struct rpc_call *c, const char *key)
{
	return json_object_get(rpc_params(c), key);
}

static bool is_true(struct rpc_call *c, const char *key)
{
	return json_is_true(json_object_get(rpc_params(c), key));
}

__attribute__((format(printf, 2, 3)))
static void refuse(struct rpc_call *c, const char *format, ...)
{
	char sentence[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(sentence, sizeof sentence, format, arguments);
	va_end(arguments);
	rpc_refuse(c, RPC_INVALID_PARAMS, sentence);
}

/* false: refused. */
static bool take_mac(struct rpc_call *c, const char *key, uint8_t mac[MAC_LENGTH])
{
	if (mac_parse(text(c, key), mac) && mac_is_unicast(mac))
		return true;
	refuse(c, "%s \"%s\" is no unicast MAC address; write it like 00155D010203.", key, text(c, key));
	return false;
}

static bool take_address(struct rpc_call *c, const char *key, struct in_addr *a)
{
	if (inet_pton(AF_INET, text(c, key), a) == 1)
		return true;
	refuse(c, "%s \"%s\" is no IPv4 address.", key, text(c, key));
	return false;
}

static bool take_port(struct rpc_call *c, const char *key, uint16_t *port)
{
	json_t *value = json_object_get(rpc_params(c), key);
	json_int_t n = json_integer_value(value);
	*port = (uint16_t)n;
	if (json_is_integer(value) && n > 0 && n <= PORT_NUMBER_MAX)
		return true;
	refuse(c, "%s is a port number from 1 to %d.", key, PORT_NUMBER_MAX);
	return false;
}

static struct cable *take_cable(struct switch_process *p, struct rpc_call *c)
{
	struct cable *cable = process_find_port(p, text(c, "Id"));
	if (!cable)
		refuse(c, "The switch has no port \"%s\".", text(c, "Id"));
	return cable;
}

/* What is shown. */

static json_t *drops(const struct switch_counters *c)
{
	const struct { const char *direction; const uint64_t *count; } both[] = {
		{ "Sent", c->dropped_sent }, { "Received", c->dropped_received },
	};
	json_t *list = json_array();
	for (unsigned d = 0; d < ARRAY_SIZE(both); d++)
		for (unsigned i = 0; i < SWITCH_DROP_COUNT; i++)
			if (both[d].count[i])
				json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:s}",
					"Reason", switch_drop_texts[i].key,
					"Direction", both[d].direction,
					"Frames", (json_int_t)both[d].count[i],
					"Text", switch_drop_texts[i].sentence));
	return list;
}

static json_t *addresses(const struct guest_addresses *a)
{
	json_t *list = json_array();
	char text[INET6_ADDRSTRLEN];
	for (unsigned i = 0; i < ADDRESSES_MAX; i++)
		if (a->known[i].heard)
			json_array_append_new(list, json_string(inet_ntop(a->known[i].family,
				&a->known[i].address, text, sizeof text)));
	return list;
}

static json_t *port_object(const struct switch_port *port, bool connected)
{
	static const char *const kinds[] = { "Guest", "Host", "Uplink" };
	const struct switch_counters *n = &port->counters;
	char mac[MAC_TEXT];
	return json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:b,s:i,s:I,s:I,s:I,s:I,s:I,s:o,s:o}",
		"Id", port->id, "Name", port->name, "Kind", kinds[port->kind],
		"MacAddress", mac_format(port->mac, mac),
		"MacAddressSpoofing", port->spoofing, "DhcpGuard", port->dhcp_guard,
		"RouterGuard", port->router_guard, "Connected", connected,
		"Learned", (int)port->learned,
		"FramesSent", (json_int_t)n->frames_sent, "BytesSent", (json_int_t)n->bytes_sent,
		"FramesReceived", (json_int_t)n->frames_received,
		"BytesReceived", (json_int_t)n->bytes_received,
		"NotLearned", (json_int_t)n->not_learned, "Addresses", addresses(&port->addresses),
		"Dropped", drops(n));
}

static void port_list(struct switch_process *p, struct rpc_call *c)
{
	json_t *list = json_array();
	for (struct cable *cable = p->cables; cable; cable = cable->next)
		if (!*text(c, "Id") || !strcmp(cable->port->id, text(c, "Id")))
			json_array_append_new(list, port_object(cable->port, cable->socket));
	if (!*text(c, "Id") && p->host.port)
		json_array_append_new(list, port_object(p->host.port, true));
	if (!*text(c, "Id") && p->uplink_port)
		json_array_append_new(list, port_object(p->uplink_port, true));
	rpc_answer(c, list);
}

static json_t *prefix_text(const struct ipv4_prefix *p)
{
	char address[INET_ADDRSTRLEN];
	return json_sprintf("%s/%u", inet_ntop(AF_INET, &p->address, address, sizeof address),
			    p->bits);
}

static json_t *mapping_object(const struct nat_mapping *m)
{
	char external[INET_ADDRSTRLEN], internal[INET_ADDRSTRLEN];
	return json_pack("{s:s,s:s,s:i,s:s,s:i}", "Protocol", m->udp ? "UDP" : "TCP",
		"ExternalAddress", inet_ntop(AF_INET, &m->external, external, sizeof external),
		"ExternalPort", m->external_port,
		"InternalAddress", inet_ntop(AF_INET, &m->internal, internal, sizeof internal),
		"InternalPort", m->internal_port);
}

static void switch_state(struct switch_process *p, struct rpc_call *c)
{
	const struct host_config *h = &p->host.config;
	json_t *addresses = json_array(), *mappings = json_array();
	char mac[MAC_TEXT];
	for (unsigned i = 0; i < h->addresses; i++)
		json_array_append_new(addresses, prefix_text(&h->address[i]));
	for (unsigned i = 0; i < h->mappings; i++)
		json_array_append_new(mappings, mapping_object(&h->mapping[i]));
	rpc_answer(c, json_pack("{s:s,s:s,s:i,s:i,s:s,s:{s:b,s:s,s:s,s:s,s:o},s:{s:b,s:b,s:o,s:o}}",
		"Id", p->id, "Name", p->name, "Pid", (int)getpid(),
		"Learned", (int)switch_learned(p->network), "Adapter", p->adapter,
		"Host", "Present", h->present, "MacAddress", mac_format(h->mac, mac),
		"Interface", h->interface, "Backend", p->host.uplink ? p->host.uplink->ops->name : "",
		"Addresses", addresses,
		"Nat", "Configured", h->nat, "Active", host_config_gateway(h) != NULL,
		"Prefix", prefix_text(&h->nat_prefix), "Mappings", mappings));
}

static void switch_stop(struct switch_process *p, struct rpc_call *c)
{
	p->stop = true;
	rpc_answer(c, json_true());
}

static void switch_set(struct switch_process *p, struct rpc_call *c)
{
	if (given(c, "Name"))
		snprintf(p->name, sizeof p->name, "%s", text(c, "Name"));
	rpc_answer(c, json_true());
}

/* Ports. */

/* MAC and rules of a port, as far as given; false: refused. */
static bool set_port(struct switch_process *p, struct cable *cable, struct rpc_call *c)
{
	struct switch_port *port = cable->port;
	uint8_t mac[MAC_LENGTH];
	bool spoofing = given(c, "MacAddressSpoofing") ? is_true(c, "MacAddressSpoofing") :
		port->spoofing;
	memcpy(mac, port->mac, MAC_LENGTH);
	if (given(c, "MacAddress") && !take_mac(c, "MacAddress", mac))
		return false;
	if (process_find_mac(p, mac, cable)) {
		refuse(c, "The MAC address %s is already that of port \"%s\".", text(c, "MacAddress"),
		       process_find_mac(p, mac, cable)->port->id);
		return false;
	}
	if (given(c, "Name"))
		snprintf(port->name, sizeof port->name, "%s", text(c, "Name"));
	if (given(c, "DhcpGuard"))
		port->dhcp_guard = is_true(c, "DhcpGuard");
	if (given(c, "RouterGuard"))
		port->router_guard = is_true(c, "RouterGuard");
	if (spoofing != port->spoofing || !mac_equal(mac, port->mac))
		switch_port_set(port, mac, spoofing);
	return true;
}

static void port_add(struct switch_process *p, struct rpc_call *c)
{
	const char *id = text(c, "Id");
	struct error e;
	uint8_t mac[MAC_LENGTH];
	if (!*id || strlen(id) >= GUID_ROOM || strchr(id, ' ')) {
		refuse(c, "Id \"%s\" is no port's; it has 1 to %d characters and no blank.", id,
		       GUID_ROOM - 1);
		return;
	}
	if (!take_mac(c, "MacAddress", mac))
		return;
	struct cable *cable = process_find_port(p, id);
	bool added = !cable;
	if (added)
		cable = process_add_port(p, id, mac, &e);
	if (!cable) {
		refuse(c, "%s", e.text);
	} else if (set_port(p, cable, c)) {
		cable->temporary = false;
		rpc_answer(c, json_true());
	} else if (added) {
		process_remove_port(p, cable);
	}
}

static void port_set(struct switch_process *p, struct rpc_call *c)
{
	struct cable *cable = take_cable(p, c);
	if (cable && set_port(p, cable, c))
		rpc_answer(c, json_true());
}

static void port_remove(struct switch_process *p, struct rpc_call *c)
{
	struct cable *cable = take_cable(p, c);
	if (!cable)
		return;
	process_remove_port(p, cable);
	rpc_answer(c, json_true());
}

/* The host's side. */

static void apply(struct switch_process *p, struct rpc_call *c, const struct host_config *wanted)
{
	struct error e;
	if (host_side_apply(&p->host, wanted, &e))
		refuse(c, "%s", e.text);
	else
		rpc_answer(c, json_true());
}

static void host_set(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	wanted.present = !given(c, "Present") || is_true(c, "Present");
	if (given(c, "MacAddress") && !take_mac(c, "MacAddress", wanted.mac))
		return;
	if (wanted.present && !mac_is_unicast(wanted.mac)) {
		refuse(c, "vEthernet needs a MacAddress.");
		return;
	}
	if (process_find_mac(p, wanted.mac, NULL)) {
		refuse(c, "The MAC address is already that of a guest's port.");
		return;
	}
	if (strlen(text(c, "Interface")) >= sizeof wanted.interface) {
		refuse(c, "Interface \"%s\" is longer than Linux's %zu characters.",
		       text(c, "Interface"), sizeof wanted.interface - 1);
		return;
	}
	if (given(c, "Interface"))
		snprintf(wanted.interface, sizeof wanted.interface, "%s", text(c, "Interface"));
	if (given(c, "Name"))
		snprintf(wanted.alias, sizeof wanted.alias, "%s", text(c, "Name"));
	apply(p, c, &wanted);
}

static void host_add_address(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	struct ipv4_prefix prefix;
	if (!ipv4_prefix_parse(text(c, "Address"), &prefix) || !prefix.bits) {
		refuse(c, "Address \"%s\" is none; write it like 192.168.100.1/24.", text(c, "Address"));
		return;
	}
	for (unsigned i = 0; i < wanted.addresses; i++)
		if (wanted.address[i].address.s_addr == prefix.address.s_addr) {
			refuse(c, "vEthernet has the address %s already.", text(c, "Address"));
			return;
		}
	if (wanted.addresses == RESPONDER_ADDRESSES) {
		refuse(c, "vEthernet has %d addresses, which is the most.", RESPONDER_ADDRESSES);
		return;
	}
	wanted.address[wanted.addresses++] = prefix;
	apply(p, c, &wanted);
}

static void host_remove_address(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	struct in_addr address;
	unsigned kept = 0;
	if (!take_address(c, "Address", &address))
		return;
	for (unsigned i = 0; i < wanted.addresses; i++)
		if (wanted.address[i].address.s_addr != address.s_addr)
			wanted.address[kept++] = wanted.address[i];
	if (kept == wanted.addresses) {
		refuse(c, "vEthernet has no address %s.", text(c, "Address"));
		return;
	}
	wanted.addresses = kept;
	apply(p, c, &wanted);
}

/* NAT. */

static void nat_add(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	if (!ipv4_prefix_parse(text(c, "Prefix"), &wanted.nat_prefix)) {
		refuse(c, "Prefix \"%s\" is none; write it like 192.168.100.0/24.", text(c, "Prefix"));
		return;
	}
	if (wanted.nat) {
		refuse(c, "The switch has a NAT already.");
		return;
	}
	wanted.nat = true;
	wanted.dhcp = is_true(c, "Dhcp");
	wanted.dns = is_true(c, "Dns");
	apply(p, c, &wanted);
}

static void nat_remove(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	wanted.nat = wanted.dhcp = wanted.dns = false;
	wanted.mappings = 0;
	apply(p, c, &wanted);
}

/* Where a mapping of the same way in is; mappings when there is none. */
static unsigned find_mapping(const struct host_config *h, const struct nat_mapping *m)
{
	unsigned i = 0;
	while (i < h->mappings && (h->mapping[i].udp != m->udp ||
	       h->mapping[i].external.s_addr != m->external.s_addr ||
	       h->mapping[i].external_port != m->external_port))
		i++;
	return i;
}

/* The way in of a mapping: Protocol, ExternalAddress, ExternalPort. */
static bool take_way_in(struct rpc_call *c, struct nat_mapping *m)
{
	const char *protocol = text(c, "Protocol");
	*m = (struct nat_mapping){ .udp = !strcasecmp(protocol, "UDP") };
	if (!m->udp && strcasecmp(protocol, "TCP")) {
		refuse(c, "Protocol \"%s\" is neither TCP nor UDP.", protocol);
		return false;
	}
	if (given(c, "ExternalAddress") && !take_address(c, "ExternalAddress", &m->external))
		return false;
	return take_port(c, "ExternalPort", &m->external_port);
}

static void mapping_add(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	struct nat_mapping m;
	if (!take_way_in(c, &m) || !take_address(c, "InternalAddress", &m.internal))
		return;
	m.internal_port = m.external_port;
	if (given(c, "InternalPort") && !take_port(c, "InternalPort", &m.internal_port))
		return;
	if (!wanted.nat)
		refuse(c, "The switch has no NAT.");
	else if (!ipv4_prefix_has(&wanted.nat_prefix, m.internal))
		refuse(c, "InternalAddress %s is not in the NAT's network.", text(c, "InternalAddress"));
	else if (find_mapping(&wanted, &m) < wanted.mappings)
		refuse(c, "%s port %u is mapped already.", m.udp ? "UDP" : "TCP", m.external_port);
	else if (wanted.mappings == NAT_MAPPINGS)
		refuse(c, "The NAT has %d mappings, which is the most.", NAT_MAPPINGS);
	else {
		wanted.mapping[wanted.mappings++] = m;
		apply(p, c, &wanted);
	}
}

static void mapping_remove(struct switch_process *p, struct rpc_call *c)
{
	struct host_config wanted = p->host.config;
	struct nat_mapping m;
	if (!take_way_in(c, &m))
		return;
	unsigned i = find_mapping(&wanted, &m);
	if (i == wanted.mappings) {
		refuse(c, "%s port %u is not mapped.", m.udp ? "UDP" : "TCP", m.external_port);
		return;
	}
	wanted.mapping[i] = wanted.mapping[--wanted.mappings];
	apply(p, c, &wanted);
}

static void uplink_set(struct switch_process *p, struct rpc_call *c)
{
	struct error e;
	if (process_set_adapter(p, text(c, "Adapter"), &e))
		refuse(c, "%s", e.text);
	else
		rpc_answer(c, json_true());
}

static const struct {
	const char *name;
	void (*run)(struct switch_process *p, struct rpc_call *c);
} methods[] = {
	{ "Switch.State", switch_state },
	{ "Switch.Set", switch_set },
	{ "Switch.Stop", switch_stop },
	{ "Port.Add", port_add },
	{ "Port.Set", port_set },
	{ "Port.Remove", port_remove },
	{ "Port.List", port_list },
	{ "Host.Set", host_set },
	{ "Host.AddAddress", host_add_address },
	{ "Host.RemoveAddress", host_remove_address },
	{ "Nat.Add", nat_add },
	{ "Nat.Remove", nat_remove },
	{ "Mapping.Add", mapping_add },
	{ "Mapping.Remove", mapping_remove },
	{ "Uplink.Set", uplink_set },
};

void control_call(void *process, struct rpc_call *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
		if (!strcmp(rpc_method(c), methods[i].name)) {
			methods[i].run(process, c);
			return;
		}
	rpc_refuse(c, RPC_METHOD_NOT_FOUND, "A switch has no such method.");
}
