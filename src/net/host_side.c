#include "net/host_side.h"

#include "base/log.h"
#include "net/interface.h"

#include <errno.h>
#include <stdio.h>

const struct ipv4_prefix *host_config_gateway(const struct host_config *c)
{
	for (unsigned i = 0; c->nat && i < c->addresses; i++)
		if (ipv4_prefix_has(&c->nat_prefix, c->address[i].address))
			return &c->address[i];
	return NULL;
}

static bool deliver(void *to, const uint8_t *frame, size_t length)
{
	struct host_side *h = to;
	return h->uplink->ops->send(h->uplink, frame, length);
}

static bool prefix_equal(const struct ipv4_prefix *a, const struct ipv4_prefix *b)
{
	return a->address.s_addr == b->address.s_addr && a->bits == b->bits;
}

static bool has_address(const struct host_config *c, const struct ipv4_prefix *p)
{
	for (unsigned i = 0; i < c->addresses; i++)
		if (prefix_equal(&c->address[i], p))
			return true;
	return false;
}

/* The TAP, which stays, from one configuration to another: routes and
 * connections of the host that have nothing to do with the change go on. */
static int change_tap(struct host_side *h, const struct host_config *from,
		      const struct host_config *to, struct error *e)
{
	if (strcmp(from->alias, to->alias))
		interface_set_alias(to->interface, to->alias);
	for (unsigned i = 0; i < from->addresses; i++)
		if (!has_address(to, &from->address[i]))
			interface_remove_address(to->interface, &from->address[i]);
	for (unsigned i = 0; i < to->addresses; i++)
		if (!has_address(from, &to->address[i]) &&
		    interface_add_address(to->interface, &to->address[i]))
			return error_set(e, STATUS_FAULT, "The adapter \"%s\" (%s) does not take its address (%s).",
					 to->alias, to->interface, strerror(errno));
	if (!host_config_gateway(to)) {
		kernel_nat_destroy(h->kernel_nat);
		h->kernel_nat = NULL;
		return 0;
	}
	if (!h->kernel_nat)
		h->kernel_nat = kernel_nat_create(to->interface, h->lock);
	return kernel_nat_apply(h->kernel_nat, &to->nat_prefix, to->mapping, to->mappings, e);
}

static int build_tap(struct host_side *h, const struct host_config *c, struct error *e)
{
	struct host_config empty = { .present = true };
	memcpy(empty.alias, c->alias, sizeof empty.alias);
	h->uplink = uplink_tap_create(c->interface, c->alias, c->mac, e);
	if (!h->uplink)
		return -1;
	if (!host_config_gateway(c))
		kernel_nat_forget(c->interface);
	return change_tap(h, &empty, c, e);
}

static int build_slirp(struct host_side *h, const struct host_config *c, struct error *e)
{
	struct slirp_options o = { .gateway = *host_config_gateway(c), .dhcp = c->dhcp,
				   .dns = c->dns };
	o.gateway.bits = c->nat_prefix.bits;
	memcpy(o.mac, c->mac, MAC_LENGTH);
	h->uplink = uplink_slirp_create(&o, e);
	if (!h->uplink)
		return -1;
	for (unsigned i = 0; i < c->mappings; i++)
		if (uplink_slirp_map(h->uplink, &c->mapping[i], e))
			return -1;
	return 0;
}

static int build_responder(struct host_side *h, const struct host_config *c)
{
	h->uplink = responder_create(c->mac);
	for (unsigned i = 0; i < c->addresses; i++)
		responder_add(h->uplink, c->address[i].address);
	return 0;
}

static void tear_down(struct host_side *h)
{
	kernel_nat_destroy(h->kernel_nat);
	uplink_destroy(h->uplink);
	if (h->port)
		h->port->deliver = NULL;
	h->kernel_nat = NULL;
	h->uplink = NULL;
}

static int build(struct host_side *h, const struct host_config *c, struct error *e)
{
	int failed = 0;
	if (!c->present) {
		if (h->port)
			switch_port_remove(h->port);
		h->port = NULL;
		return 0;
	}
	if (!h->port)
		h->port = switch_port_add(h->network, SWITCH_PORT_HOST, HOST_PORT_ID, c->mac);
	if (!h->port)
		return error_set(e, STATUS_USAGE, "The switch has no port left for vEthernet.");
	if (c->interface[0])
		failed = build_tap(h, c, e);
	else if (host_config_gateway(c))
		failed = build_slirp(h, c, e);
	else
		failed = build_responder(h, c);
	if (failed) {
		tear_down(h);
		return -1;
	}
	h->uplink->receive = h->receive;
	h->uplink->owner = h->owner;
	switch_port_set(h->port, c->mac, false);
	snprintf(h->port->name, sizeof h->port->name, "%s", c->alias);
	h->port->deliver = deliver;
	h->port->to = h;
	return 0;
}

static bool mapping_equal(const struct nat_mapping *a, const struct nat_mapping *b)
{
	return a->udp == b->udp && a->external.s_addr == b->external.s_addr &&
		a->internal.s_addr == b->internal.s_addr &&
		a->external_port == b->external_port && a->internal_port == b->internal_port;
}

static bool has_mapping(const struct host_config *c, const struct nat_mapping *m)
{
	for (unsigned i = 0; i < c->mappings; i++)
		if (mapping_equal(&c->mapping[i], m))
			return true;
	return false;
}

/* Whether only mappings differ, so that connections need not be cut. */
static bool same_but_mappings(const struct host_config *a, const struct host_config *b)
{
	bool same = a->present == b->present && mac_equal(a->mac, b->mac) &&
		!strcmp(a->interface, b->interface) && !strcmp(a->alias, b->alias) &&
		a->addresses == b->addresses && a->nat == b->nat && a->dhcp == b->dhcp &&
		a->dns == b->dns && prefix_equal(&a->nat_prefix, &b->nat_prefix);
	for (unsigned i = 0; same && i < a->addresses; i++)
		same = prefix_equal(&a->address[i], &b->address[i]);
	return same;
}

static int change_mappings(struct host_side *h, const struct host_config *wanted, struct error *e)
{
	if (!h->uplink || !host_config_gateway(wanted))
		return 0;
	for (unsigned i = 0; i < h->config.mappings; i++)
		if (!has_mapping(wanted, &h->config.mapping[i]))
			uplink_slirp_unmap(h->uplink, &h->config.mapping[i]);
	for (unsigned i = 0; i < wanted->mappings; i++)
		if (!has_mapping(&h->config, &wanted->mapping[i]) &&
		    uplink_slirp_map(h->uplink, &wanted->mapping[i], e))
			return -1;
	return 0;
}

static bool same_tap(const struct host_side *h, const struct host_config *wanted)
{
	return h->uplink && h->config.present && wanted->present && wanted->interface[0] &&
		mac_equal(h->config.mac, wanted->mac) && !strcmp(h->config.interface, wanted->interface);
}

static int rebuild(struct host_side *h, const struct host_config *wanted, struct error *e)
{
	struct error again;
	tear_down(h);
	if (!build(h, wanted, e))
		return 0;
	if (build(h, &h->config, &again))
		log_line("vEthernet could not be put back: %s", again.text);
	return -1;
}

int host_side_apply(struct host_side *h, const struct host_config *wanted, struct error *e)
{
	struct error again;
	int failed = 0;
	if (same_tap(h, wanted)) {
		failed = change_tap(h, &h->config, wanted, e);
		if (failed && change_tap(h, wanted, &h->config, &again))
			log_line("vEthernet could not be put back: %s", again.text);
		if (!failed)
			snprintf(h->port->name, sizeof h->port->name, "%s", wanted->alias);
	} else if (same_but_mappings(&h->config, wanted) && !h->uplink == !wanted->present) {
		failed = change_mappings(h, wanted, e);
	} else {
		failed = rebuild(h, wanted, e);
	}
	if (!failed)
		h->config = *wanted;
	return failed;
}

int host_side_again(struct host_side *h, struct error *e)
{
	tear_down(h);
	return build(h, &h->config, e);
}

void host_side_destroy(struct host_side *h)
{
	tear_down(h);
	if (h->port)
		switch_port_remove(h->port);
	h->port = NULL;
}
