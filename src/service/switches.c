#include "service/switches.h"

#include "base/bits.h"
#include "base/log.h"
#include "net/uplink.h"
#include "service/call.h"
#include "service/machine.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/vethernet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
	ASK_MS = 3000,
	READY_MS = 10000,
	END_MS = 3000,
	LINE_SIZE = 2048,
	AGAIN_MS = 10000,	/* after what a switch refused */
	MAC_TAIL = 6,		/* digits that are the switch's own */
};

struct switch_client {
	struct switch_client *next;
	char id[STORE_ID_SIZE];
	struct rpc_client *control;
	int process;		/* pidfd */
	pid_t pid;
	bool child;		/* ours to wait for; else found */
	json_t *applied;	/* what it was told last */
	int64_t again;		/* tell it again then (ms); 0: it did all of it */
	bool placed;		/* its vEthernet is there: */
	char interface[IF_NAMESIZE];	/* as this TAP, or inside ("") */
};

static struct switch_client *find(struct service *s, const char *id)
{
	struct switch_client *p = s->switches;
	while (p && strcmp(p->id, id))
		p = p->next;
	return p;
}

static void forget(struct service *s, struct switch_client *p)
{
	for (struct switch_client **at = &s->switches; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	rpc_disconnect(p->control);
	if (p->process >= 0)
		close(p->process);
	json_decref(p->applied);
	free(p);
}

/* Has the process ended, or does it within ms? */
static bool ended(struct switch_client *p, int ms)
{
	struct pollfd poll_end = { .fd = p->process, .events = POLLIN };
	if (p->process >= 0 && poll(&poll_end, 1, ms) != 1)
		return false;
	if (p->child)
		waitpid(p->pid, NULL, 0);
	p->child = false;
	return true;
}

static json_t *ask(struct switch_client *p, const char *method, json_t *params, struct error *e)
{
	return rpc_request(p->control, method, params, ASK_MS, NULL, NULL, e);
}

/* The same, when only success is of interest; the first reason stays in e. */
static int tell(struct switch_client *p, const char *method, json_t *params, struct error *e)
{
	struct error why = { 0 };
	json_t *answer = ask(p, method, params, &why);
	int result = answer ? 0 : -1;
	json_decref(answer);
	if (result)
		log_line("Switch %s, %s: %s", p->id, method, why.text);
	if (result && !e->text[0])
		*e = why;
	return result;
}

json_t *switches_ask(struct service *s, const char *id, const char *method, json_t *params,
		     struct error *e)
{
	struct switch_client *p = find(s, id);
	if (p)
		return ask(p, method, params, e);
	json_decref(params);
	error_set(e, STATUS_FAULT, "The switch does not run.");
	return NULL;
}

const char *switches_interface(struct service *s, const char *id)
{
	struct switch_client *p = find(s, id);
	return p && p->placed ? p->interface : "";
}

/* Processes. */

/* Where vEthernet is in a process that an earlier service started. */
static void find_place(struct switch_client *p)
{
	struct error e;
	json_t *state = vethernet_chosen() ? NULL : ask(p, "Switch.State", NULL, &e);
	json_t *host = json_object_get(state, "Host");
	p->placed = get_true(host, "Present");
	snprintf(p->interface, sizeof p->interface, "%s", get_text(host, "Interface"));
	json_decref(state);
}

static struct switch_client *attach(struct service *s, const char *id, struct error *e)
{
	char path[PATHS_MAX];
	struct rpc_client *control = paths_runtime_file(path, sizeof path, id, "switch") ?
		rpc_connect(path, e) : NULL;
	if (!control)
		return NULL;
	struct switch_client *p = alloc_zeroed(1, sizeof *p);
	snprintf(p->id, sizeof p->id, "%s", id);
	p->control = control;
	p->pid = rpc_peer(control);
	p->process = (int)syscall(SYS_pidfd_open, p->pid, 0);
	p->next = s->switches;
	s->switches = p;
	find_place(p);
	return p;
}

static pid_t spawn(const char *id, const char *name, int out, struct error *e)
{
	bool nat = !strcmp(id, DEFAULT_SWITCH_ID);
	char *const argv[] = { "nestor", "switch", "--id", (char *)id, "--name", (char *)name,
			       nat ? "--nat" : NULL, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid = -1;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, paths_log(id),
					 O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	int failed = posix_spawn(&pid, paths_executable(), &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (!failed)
		return pid;
	error_set(e, STATUS_FAULT, "The switch process of %s cannot be started (%s).", name,
		  strerror(failed));
	return -1;
}

/* Its one line; NULL: none came in time. */
static json_t *read_answer(int fd)
{
	char line[LINE_SIZE];
	size_t used = 0;
	int64_t until = service_now() + READY_MS;
	while (used < sizeof line && !memchr(line, '\n', used)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - service_now();
		if (left <= 0 || poll(&p, 1, (int)left) != 1)
			break;
		ssize_t n = read(fd, line + used, sizeof line - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	return json_loadb(line, used, JSON_DISABLE_EOF_CHECK, NULL);
}

static struct switch_client *start(struct service *s, json_t *network, struct error *e)
{
	const char *id = get_text(network, "Id"), *name = get_text(network, "Name");
	struct switch_client *p = NULL;
	int out[2];
	if (pipe2(out, O_CLOEXEC)) {
		error_set(e, STATUS_FAULT, "There is no pipe to be had (%s).", strerror(errno));
		return NULL;
	}
	pid_t pid = spawn(id, name, out[1], e);
	close(out[1]);
	json_t *answer = pid < 0 ? NULL : read_answer(out[0]);
	close(out[0]);
	if (get_true(answer, "Ready"))
		p = attach(s, id, e);
	else if (pid >= 0)
		error_set(e, STATUS_FAULT, "The switch process of %s did not start: %s Its log is %s.",
			  name, answer ? get_text(answer, "Error") : "it said nothing.", paths_log(id));
	json_decref(answer);
	if (p) {
		p->child = true;
		log_line("The switch %s runs (process %d).", name, (int)p->pid);
	} else if (pid >= 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return p;
}

static void stop(struct service *s, struct switch_client *p)
{
	struct error e = { 0 };
	tell(p, "Switch.Stop", NULL, &e);
	if (!ended(p, END_MS) && p->process >= 0) {
		syscall(SYS_pidfd_send_signal, p->process, SIGKILL, NULL, 0);
		ended(p, END_MS);
	}
	log_line("The switch %s has ended: nobody needs it.", p->id);
	forget(s, p);
}

/* What a switch is to be. */

void switches_host_mac(const char *id, char mac[13])
{
	/* Locally administered; never the pool's. */
	snprintf(mac, 13, "02155D%.*s", MAC_TAIL, id);
	for (char *at = mac; *at; at++)
		if (*at >= 'a' && *at <= 'f')
			*at = (char)(*at - 'a' + 'A');
}

static bool is_on(json_t *adapter, const char *setting)
{
	return !strcmp(get_text(adapter, setting), "On");
}

static void want_ports(json_t *ports, const char *network, json_t *vm)
{
	json_t *adapter;
	size_t i;
	json_array_foreach(json_object_get(vm, "Adapters"), i, adapter)
		if (!strcmp(get_text(adapter, "SwitchId"), network) && *get_text(adapter, "MacAddress"))
			json_object_set_new(ports, get_text(adapter, "Id"), json_pack("{s:s,s:s,s:s,s:b,s:b,s:b}",
				"Id", get_text(adapter, "Id"), "MacAddress", get_text(adapter, "MacAddress"),
				"Name", get_text(vm, "Name"),
				"MacAddressSpoofing", is_on(adapter, "MacAddressSpoofing"),
				"DhcpGuard", is_on(adapter, "DhcpGuard"),
				"RouterGuard", is_on(adapter, "RouterGuard")));
}

/* Has the host an adapter on it that is ours to make? */
static bool has_host(json_t *network)
{
	return get_true(network, "AllowManagementOS") && strcmp(get_text(network, "Id"), DEFAULT_SWITCH_ID);
}

/* The TAP that vEthernet is or is to be; "": it is inside, or there is none. */
static const char *want_interface(struct switch_client *p, json_t *network, char name[IF_NAMESIZE])
{
	name[0] = '\0';
	if (has_host(network) && p && p->placed)
		snprintf(name, IF_NAMESIZE, "%s", p->interface);
	else if (has_host(network) && vethernet_place()->tap)
		vethernet_interface(get_text(network, "Id"), name);
	return name;
}

static bool prefix_has_address(const char *prefix, const char *address)
{
	struct ipv4_prefix network, own;
	return ipv4_prefix_parse(prefix, &network) && ipv4_prefix_parse(address, &own) &&
		ipv4_prefix_has(&network, own.address);
}

/* The NAT that stands behind vEthernet: the one whose network it is in. */
static json_t *nat_of(struct service *s, json_t *addresses)
{
	json_t *nat, *address;
	const char *key;
	size_t i;
	json_object_foreach(store_objects(s->store, STORE_NAT), key, nat)
		json_array_foreach(addresses, i, address)
			if (prefix_has_address(get_text(nat, "InternalIPInterfaceAddressPrefix"),
					       json_string_value(address)))
				return nat;
	return NULL;
}

static json_t *wanted(struct service *s, struct switch_client *p, json_t *network, json_t *starting)
{
	char interface[IF_NAMESIZE];
	const char *id = get_text(network, "Id"), *key;
	json_t *vm, *ports = json_object(), *addresses = json_object_get(network, "Addresses"), *nat;
	json_object_foreach(store_objects(s->store, STORE_VM), key, vm)
		if (machine_find(s, key))
			want_ports(ports, id, vm);
	if (starting)
		want_ports(ports, id, starting);
	addresses = addresses ? json_incref(addresses) : json_array();
	nat = nat_of(s, addresses);
	return json_pack("{s:o,s:o,s:s,s:O?,s:s,s:b,s:s}", "Ports", ports, "Addresses", addresses,
		"Nat", get_text(nat, "InternalIPInterfaceAddressPrefix"),
		"Mappings", nat ? json_object_get(nat, "StaticMappings") : NULL,
		"Adapter", get_text(network, "NetAdapterName"),
		"Host", has_host(network), "Interface", want_interface(p, network, interface));
}

/* A TAP is an adapter of the host: there as long as the switch is. */
static bool is_needed(json_t *want)
{
	return json_object_size(json_object_get(want, "Ports")) ||
		json_array_size(json_object_get(want, "Addresses")) || *get_text(want, "Interface");
}

/* Telling it. */

static void set_ports(struct switch_client *p, json_t *want, json_t *list, struct error *e)
{
	json_t *port, *ports = json_object_get(want, "Ports");
	const char *id;
	size_t i;
	/* Ports with other names are those of `nestor run`. */
	json_array_foreach(list, i, port)
		if (!strcmp(get_text(port, "Kind"), "Guest") && store_id_valid(get_text(port, "Id")) &&
		    !json_object_get(ports, get_text(port, "Id")))
			tell(p, "Port.Remove", json_pack("{s:s}", "Id", get_text(port, "Id")), e);
	json_object_foreach(ports, id, port)
		tell(p, "Port.Add", json_incref(port), e);
}

static bool has_text(json_t *list, const char *text)
{
	json_t *item;
	size_t i;
	json_array_foreach(list, i, item)
		if (!strcmp(json_string_value(item), text))
			return true;
	return false;
}

/* vEthernet itself: whether it is there, and as what. */
static void set_host(struct switch_client *p, json_t *want, json_t *host, json_t *network, struct error *e)
{
	const char *interface = get_text(want, "Interface");
	struct error why = { 0 };
	char mac[13];
	if (!get_true(want, "Host")) {
		if (get_true(host, "Present"))
			tell(p, "Host.Set", json_pack("{s:b}", "Present", 0), e);
		p->placed = false;
		return;
	}
	switches_host_mac(p->id, mac);
	if (!get_true(host, "Present") || !*get_text(host, "Backend") ||
	    strcmp(get_text(host, "Interface"), interface)) {
		json_t *as = json_pack("{s:s,s:s,s:o}", "MacAddress", mac, "Interface", interface, "Name",
				       json_sprintf("vEthernet (%s)", get_text(network, "Name")));
		int failed = tell(p, "Host.Set", json_incref(as), &why);
		if (failed && *interface && !vethernet_chosen()) {
			json_object_set_new(as, "Interface", json_string(interface = ""));
			failed = tell(p, "Host.Set", json_incref(as), &why);
		}
		json_decref(as);
		if (failed && !e->text[0])
			*e = why;
		if (failed)
			return;
	}
	p->placed = true;
	snprintf(p->interface, sizeof p->interface, "%s", interface);
}

static void set_addresses(struct switch_client *p, json_t *want, json_t *host, struct error *e)
{
	json_t *are = json_object_get(host, "Addresses"), *addresses = json_object_get(want, "Addresses");
	json_t *address;
	char plain[INET_ADDRSTRLEN + 4];
	size_t i;
	json_array_foreach(are, i, address)
		if (!has_text(addresses, json_string_value(address))) {
			snprintf(plain, sizeof plain, "%s", json_string_value(address));
			plain[strcspn(plain, "/")] = '\0';
			tell(p, "Host.RemoveAddress", json_pack("{s:s}", "Address", plain), e);
		}
	json_array_foreach(addresses, i, address)
		if (!has_text(are, json_string_value(address)))
			tell(p, "Host.AddAddress", json_pack("{s:O}", "Address", address), e);
}

static bool same_mapping(json_t *stored, json_t *told)
{
	const char *external = get_text(stored, "ExternalIPAddress");
	size_t n = strcspn(external, "/");
	return !strcmp(get_text(stored, "Protocol"), get_text(told, "Protocol")) &&
		get_integer(stored, "ExternalPort") == get_integer(told, "ExternalPort") &&
		get_integer(stored, "InternalPort") == get_integer(told, "InternalPort") &&
		!strcmp(get_text(stored, "InternalIPAddress"), get_text(told, "InternalAddress")) &&
		!strncmp(external, get_text(told, "ExternalAddress"), n) &&
		!get_text(told, "ExternalAddress")[n];
}

static bool has_mapping(json_t *list, json_t *mapping, bool list_is_stored)
{
	json_t *item;
	size_t i;
	json_array_foreach(list, i, item)
		if (list_is_stored ? same_mapping(item, mapping) : same_mapping(mapping, item))
			return true;
	return false;
}

static void set_nat(struct switch_client *p, json_t *want, json_t *is, struct error *e)
{
	const char *prefix = get_text(want, "Nat");
	json_t *mappings = *prefix ? json_object_get(want, "Mappings") : NULL, *mapping;
	json_t *are = json_object_get(is, "Mappings");
	bool same = get_true(is, "Configured") && !strcmp(prefix, get_text(is, "Prefix"));
	size_t i;
	if (get_true(is, "Configured") && !same) {
		tell(p, "Nat.Remove", NULL, e);
		are = NULL;
	}
	if (!same && *prefix)
		tell(p, "Nat.Add", json_pack("{s:s}", "Prefix", prefix), e);
	json_array_foreach(are, i, mapping)
		if (!has_mapping(mappings, mapping, true))
			tell(p, "Mapping.Remove", json_pack("{s:O,s:O,s:O}",
				"Protocol", json_object_get(mapping, "Protocol"),
				"ExternalPort", json_object_get(mapping, "ExternalPort"),
				"ExternalAddress", json_object_get(mapping, "ExternalAddress")), e);
	json_array_foreach(mappings, i, mapping)
		if (!has_mapping(are, mapping, false)) {
			const char *external = get_text(mapping, "ExternalIPAddress");
			tell(p, "Mapping.Add", json_pack("{s:O,s:O,s:s%,s:O,s:O}",
				"Protocol", json_object_get(mapping, "Protocol"),
				"ExternalPort", json_object_get(mapping, "ExternalPort"),
				"ExternalAddress", external, strcspn(external, "/"),
				"InternalAddress", json_object_get(mapping, "InternalIPAddress"),
				"InternalPort", json_object_get(mapping, "InternalPort")), e);
		}
}

/* Cables that hang loose. False: one's worker is not there yet. */
static bool plug_in(struct service *s, struct switch_client *p, json_t *want, struct error *e)
{
	json_t *list = ask(p, "Port.List", NULL, e), *port, *answer;
	char path[PATHS_MAX];
	bool settled = true;
	size_t i, a;
	if (!list || !paths_runtime_file(path, sizeof path, p->id, "ports")) {
		json_decref(list);
		return false;
	}
	json_array_foreach(list, i, port) {
		const char *id = get_text(port, "Id");
		if (get_true(port, "Connected") || !json_object_get(json_object_get(want, "Ports"), id))
			continue;
		struct machine *of = NULL;
		for (struct machine *m = s->machines; m; m = m->next) {
			json_t *adapter;
			json_array_foreach(json_object_get(m->config, "Adapters"), a, adapter)
				if (!strcmp(get_text(adapter, "Id"), id))
					of = m;
		}
		settled = settled && of && of->state != MACHINE_STARTING;
		if (!of || of->state == MACHINE_STARTING || of->state == MACHINE_STOPPING)
			continue;
		answer = machine_ask(of, "Worker.Network",
				     json_pack("{s:s,s:s}", "Id", id, "Path", path), e);
		if (!answer)
			log_line("The adapter %s is not connected: %s", id, e->text);
		json_decref(answer);
	}
	json_decref(list);
	return settled;
}

static void configure(struct service *s, struct switch_client *p, json_t *network, json_t *want,
		      struct error *e)
{
	struct error why = { 0 };
	json_t *state = ask(p, "Switch.State", NULL, &why), *list = ask(p, "Port.List", NULL, &why);
	json_t *host = json_object_get(state, "Host");
	p->again = service_now() + AGAIN_MS;
	if (state && list) {
		set_ports(p, want, list, &why);
		if (strcmp(p->id, DEFAULT_SWITCH_ID)) {
			set_host(p, want, host, network, &why);
			set_addresses(p, want, host, &why);
			set_nat(p, want, json_object_get(state, "Nat"), &why);
		}
		if (strcmp(get_text(want, "Adapter"), get_text(state, "Adapter")))
			tell(p, "Uplink.Set", json_pack("{s:s}", "Adapter", get_text(want, "Adapter")), &why);
		bool well = !why.text[0];
		bool plugged = plug_in(s, p, want, &why);
		if (well)
			p->again = plugged ? 0 : service_now();
	}
	if (why.text[0] && !e->text[0])
		*e = why;
	json_decref(p->applied);
	p->applied = json_incref(want);
	json_decref(state);
	json_decref(list);
}

static void sync_one(struct service *s, json_t *network, json_t *starting, struct error *e)
{
	const char *id = get_text(network, "Id");
	struct switch_client *p = find(s, id);
	struct error none = { 0 };
	if (p && ended(p, 0)) {
		log_line("The process of the switch %s ended by itself.", get_text(network, "Name"));
		forget(s, p);
		p = NULL;
	}
	if (!p)
		p = attach(s, id, &none);	/* an earlier service's */
	json_t *want = wanted(s, p, network, starting);
	bool needed = is_needed(want);
	if (p && !needed)
		stop(s, p);
	if (!p && needed)
		p = start(s, network, e);
	if (p && needed && (!json_equal(p->applied, want) || (p->again && service_now() >= p->again)))
		configure(s, p, network, want, e);
	json_decref(want);
}

int switches_sync(struct service *s, json_t *starting, struct error *e)
{
	json_t *all = store_objects(s->store, STORE_SWITCH), *network;
	const char *key;
	*e = (struct error){ 0 };
	json_object_foreach(all, key, network)
		sync_one(s, network, starting, e);
	for (struct switch_client *p = s->switches, *next; p; p = next) {
		next = p->next;
		if (!json_object_get(all, p->id))
			stop(s, p);
	}
	return e->text[0] ? -1 : 0;
}

void switches_tick(struct service *s)
{
	struct error e;
	switches_sync(s, NULL, &e);	/* every failure is in the log */
}

void switches_leave(struct service *s)
{
	for (struct switch_client *p = s->switches, *next; p; p = next) {
		json_t *network = store_find(s->store, STORE_SWITCH, p->id);
		json_t *want = network ? wanted(s, p, network, NULL) : NULL;
		next = p->next;
		if (is_needed(want))
			forget(s, p);
		else
			stop(s, p);
		json_decref(want);
	}
}
