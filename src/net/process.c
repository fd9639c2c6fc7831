/* The role `nestor switch`: one loop over everything that may have frames or
 * questions. Each turn waits by poll, then takes in order: signals, the control
 * socket (libuv's loop, which poll watches by its one descriptor), new cables,
 * frames of the guests, of the host's side and of the uplink; and last sends
 * what the ports have queued. The switch itself (switch.c) never waits.
 *
 * A cable is a connection to ID.ports whose first message says which port it
 * is for: "nestor-port 1 PORT [MAC]". A port that nobody configured is made
 * when a MAC is given, for as long as the connection lasts. */
#include "net/process.h"

#include "base/log.h"
#include "net/role.h"
#include "net/sandbox.h"
#include "service/client.h"
#include "service/paths.h"
#include "service/rpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	PENDING = 16,		/* connections that have not said yet what they are for, */
	HELLO_MS = 2000,	/* and how long they may take */
	UPLINK_FDS = 600,
	FDS = 3 + PENDING + SWITCH_PORTS + UPLINK_FDS,
	BATCHES = 4,		/* of one port in one turn */
	HELLO_SIZE = 512,
	MS_PER_SECOND = 1000, NS_PER_MS = 1000000,
	CALL_MS = 10000,
	LOCK_MS = 2000, LOCK_PAUSE_MS = 20,
};

/* vEthernet's address where the service gives none, and the network of --nat. */
static const uint8_t own_mac[MAC_LENGTH] = { 0x02, 0x15, 0x5d, 0x00, 0x00, 0x01 };
static const char nat_network[] = "10.0.2.2/24";

/* How a turn's descriptors are laid out. */
struct turn {
	struct pollfd fds[FDS];
	unsigned count, pending_at, cables_at, host_at, host_count, uplink_at, uplink_count;
	int timeout_ms;
};

struct loop {
	struct switch_process process;
	struct turn turn;
	uv_loop_t uv;
	struct rpc_server *server;	/* NULL: a private switch, of its one cable */
	char control_path[PATHS_MAX], ports_path[PATHS_MAX];
	int signals, listener;
	struct { int fd; uint64_t until; } pending[PENDING];
	unsigned pendings;
};

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * MS_PER_SECOND + (uint64_t)t.tv_nsec / NS_PER_MS;
}

/* Ports. */

static bool deliver_to_cable(void *to, const uint8_t *frame, size_t length)
{
	struct cable *c = to;
	if (port_send(c->socket, frame, length))
		return true;
	return !port_flush(c->socket) && port_send(c->socket, frame, length);
}

struct cable *process_find_port(struct switch_process *p, const char *id)
{
	struct cable *c = p->cables;
	while (c && strcmp(c->port->id, id))
		c = c->next;
	return c;
}

struct cable *process_find_mac(struct switch_process *p, const uint8_t *mac,
			       const struct cable *but)
{
	struct cable *c = p->cables;
	while (c && (c == but || !mac_equal(c->port->mac, mac)))
		c = c->next;
	return c;
}

struct cable *process_add_port(struct switch_process *p, const char *id, const uint8_t *mac,
			       struct error *e)
{
	char text[MAC_TEXT];
	if (process_find_mac(p, mac, NULL) ||
	    (p->host.port && mac_equal(p->host.port->mac, mac))) {
		error_set(e, STATUS_USAGE,
			"The MAC address %s is already another port's of this switch; give the adapter another.",
			mac_format(mac, text));
		return NULL;
	}
	struct switch_port *port = switch_port_add(p->network, SWITCH_PORT_GUEST, id, mac);
	if (!port) {
		error_set(e, STATUS_USAGE, "The switch has %d ports, which is the most.",
			  SWITCH_PORTS);
		return NULL;
	}
	struct cable *c = alloc_zeroed(1, sizeof *c);
	c->port = port;
	c->next = p->cables;
	p->cables = c;
	return c;
}

static void plug_out(struct cable *c)
{
	port_destroy(c->socket);
	c->socket = NULL;
	c->port->deliver = NULL;
	c->port->addresses = (struct guest_addresses){ 0 };
}

void process_remove_port(struct switch_process *p, struct cable *c)
{
	struct cable **at = &p->cables;
	plug_out(c);
	switch_port_remove(c->port);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

static void plug_in(struct cable *c, int fd)
{
	c->socket = port_create(fd);
	c->port->deliver = deliver_to_cable;
	c->port->to = c;
}

static void cable_gone(struct switch_process *p, struct cable *c)
{
	if (c->temporary)
		process_remove_port(p, c);
	else
		plug_out(c);
}

/* What a connection said first: its cable, or NULL with the reason. */
static struct cable *take_hello(struct switch_process *p, char *hello, struct error *e)
{
	char *rest = NULL, *word = strtok_r(hello, " ", &rest);
	char *version = strtok_r(NULL, " ", &rest), *id = strtok_r(NULL, " ", &rest);
	char *mac_text = strtok_r(NULL, " ", &rest);
	uint8_t mac[MAC_LENGTH];
	if (!word || strcmp(word, "nestor-port") || !version || strcmp(version, "1") || !id ||
	    strlen(id) >= PORT_ID_MAX) {
		error_set(e, STATUS_USAGE, "That is no hello of a port.");
		return NULL;
	}
	struct cable *c = process_find_port(p, id);
	if (c && c->socket) {
		error_set(e, STATUS_USAGE, "Port \"%s\" of switch \"%s\" is connected already.",
			  id, p->name);
		return NULL;
	}
	if (c)
		return c;
	if (!mac_text || !mac_parse(mac_text, mac) || !mac_is_unicast(mac)) {
		error_set(e, STATUS_USAGE, "Switch \"%s\" has no port \"%s\".", p->name, id);
		return NULL;
	}
	c = process_add_port(p, id, mac, e);
	if (c) {
		c->temporary = true;
		snprintf(c->port->name, sizeof c->port->name, "%s", id);
	}
	return c;
}

/* Only our own user and root. */
static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) &&
		(peer.uid == geteuid() || !peer.uid);
}

static void accept_cables(struct loop *l)
{
	while (l->pendings < PENDING) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		l->pending[l->pendings].until = now_ms() + HELLO_MS;
		if (peer_allowed(fd))
			l->pending[l->pendings++].fd = fd;
		else
			close(fd);
	}
}

/* Connection i has said something, hung up, or been silent for too long. */
static void take_pending(struct loop *l, unsigned i)
{
	char hello[HELLO_SIZE];
	struct error e;
	int fd = l->pending[i].fd;
	ssize_t n = recv(fd, hello, sizeof hello - 1, MSG_DONTWAIT);
	l->pending[i] = l->pending[--l->pendings];
	hello[n > 0 ? n : 0] = '\0';
	struct cable *c = n > 0 ? take_hello(&l->process, hello, &e) : NULL;
	const char *answer = c ? "ok" : e.text;
	if (n > 0 && send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && c) {
		cable_gone(&l->process, c);
		c = NULL;
	}
	if (c)
		plug_in(c, fd);
	else
		close(fd);
}

/* The uplink. */

static void from_host(void *owner, const uint8_t *frame, size_t length)
{
	struct switch_process *p = owner;
	switch_input(p->host.port, frame, length, now_ms());
}

static void from_uplink(void *owner, const uint8_t *frame, size_t length)
{
	struct switch_process *p = owner;
	switch_input(p->uplink_port, frame, length, now_ms());
}

static bool deliver_to_uplink(void *to, const uint8_t *frame, size_t length)
{
	struct uplink *u = to;
	return u->ops->send(u, frame, length);
}

int process_set_adapter(struct switch_process *p, const char *adapter, struct error *e)
{
	struct uplink *u = NULL;
	struct switch_port *port = p->uplink_port;
	if (!strcmp(adapter, p->adapter))
		return 0;
	if (*adapter) {
		u = uplink_packet_create(adapter, e);
		if (!u)
			return -1;
		if (!port)
			port = switch_port_add(p->network, SWITCH_PORT_UPLINK, "Uplink", NULL);
		if (!port) {
			uplink_destroy(u);
			return error_set(e, STATUS_USAGE, "The switch has no port left for %s.",
					 adapter);
		}
		u->receive = from_uplink;
		u->owner = p;
		port->deliver = deliver_to_uplink;
		port->to = u;
		snprintf(port->name, sizeof port->name, "%s", adapter);
	} else {
		switch_port_remove(port);
		port = NULL;
	}
	uplink_destroy(p->uplink);
	p->uplink = u;
	p->uplink_port = port;
	snprintf(p->adapter, sizeof p->adapter, "%s", adapter);
	return 0;
}

/* What an uplink made while it was sent something. */
static void take_later(struct switch_port *port, struct uplink *u)
{
	const struct frame *f;
	while (u && (f = frame_queue_first(&u->later))) {
		switch_input(port, f->bytes, f->length, now_ms());
		frame_queue_drop(&u->later);
	}
}

/* The loop. */

static void add_fd(struct turn *t, int fd, short events)
{
	t->fds[t->count++] = (struct pollfd){ .fd = fd, .events = events };
}

static unsigned add_uplink(struct turn *t, struct uplink *u)
{
	unsigned before = t->count, room = FDS - t->count;
	if (u && u->ops->fill)
		t->count += u->ops->fill(u, t->fds + before, room, &t->timeout_ms);
	else if (u && room)
		add_fd(t, u->fd, POLLIN);
	return t->count - before;
}

static void wait_for_something(struct loop *l)
{
	struct turn *t = &l->turn;
	t->count = 0;
	/* 0 also when libuv has descriptors that it has not told its own yet. */
	t->timeout_ms = l->server ? uv_backend_timeout(&l->uv) : -1;
	add_fd(t, l->signals, POLLIN);
	add_fd(t, l->server ? uv_backend_fd(&l->uv) : -1, POLLIN);
	add_fd(t, l->pendings < PENDING ? l->listener : -1, POLLIN);
	t->pending_at = t->count;
	for (unsigned i = 0; i < l->pendings; i++)
		add_fd(t, l->pending[i].fd, POLLIN);
	if (l->pendings && (t->timeout_ms < 0 || t->timeout_ms > HELLO_MS))
		t->timeout_ms = HELLO_MS;
	t->cables_at = t->count;
	for (struct cable *c = l->process.cables; c; c = c->next)
		if (c->socket)
			add_fd(t, port_fd(c->socket),
			       port_room(c->socket) < PORT_QUEUE ? POLLIN | POLLOUT : POLLIN);
	t->host_at = t->count;
	t->host_count = add_uplink(t, l->process.host.uplink);
	t->uplink_at = t->count;
	t->uplink_count = add_uplink(t, l->process.uplink);
	if (poll(t->fds, t->count, t->timeout_ms) < 0)
		for (unsigned i = 0; i < t->count; i++)
			t->fds[i].revents = 0;
}

/* Frames of one guest; false: it is gone. */
static bool take_frames(struct switch_process *p, struct cable *c)
{
	const struct frame *frames;
	uint64_t now = now_ms();
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		int n = port_receive(c->socket, &frames);
		if (n < 0)
			return false;
		for (int i = 0; i < n; i++)
			switch_input(c->port, frames[i].bytes, frames[i].length, now);
		if (p->host.port)
			take_later(p->host.port, p->host.uplink);
		if (n < PORT_BATCH)
			break;
	}
	return true;
}

static void make_again(struct switch_process *p)
{
	struct error e;
	log_line("The adapter %s was deleted; it is made again.", p->host.config.interface);
	if (host_side_again(&p->host, &e))
		log_line("%s", e.text);
}

static void one_turn(struct loop *l)
{
	struct switch_process *p = &l->process;
	struct turn *t = &l->turn;
	struct cable *c, *next;
	wait_for_something(l);
	/* Frames first: what follows may take ports away. */
	unsigned at = t->cables_at;
	for (c = p->cables; c; c = next) {
		next = c->next;
		if (c->socket && t->fds[at++].revents & ~POLLOUT && !take_frames(p, c))
			cable_gone(p, c);
	}
	if (p->host.uplink) {
		p->host.uplink->ops->ready(p->host.uplink, t->fds + t->host_at, t->host_count);
		take_later(p->host.port, p->host.uplink);
		if (p->host.uplink->gone)
			make_again(p);
	}
	if (p->uplink)
		p->uplink->ops->ready(p->uplink, t->fds + t->uplink_at, t->uplink_count);
	for (c = p->cables; c; c = next) {
		next = c->next;
		if (c->socket && port_flush(c->socket) < 0)
			cable_gone(p, c);
	}
	for (unsigned i = l->pendings; i-- > 0;)
		if (t->pending_at + i < t->cables_at &&
		    (t->fds[t->pending_at + i].revents || now_ms() > l->pending[i].until))
			take_pending(l, i);
	if (t->fds[2].revents)
		accept_cables(l);
	if (l->server && (t->fds[1].revents || !t->timeout_ms))
		uv_run(&l->uv, UV_RUN_NOWAIT);
	if (t->fds[0].revents || (!l->server && !p->cables))
		p->stop = true;
}

/* Beginning and end. */

static int listen_for_cables(struct loop *l, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(l->ports_path) >= sizeof address.sun_path)
		return error_set(e, STATUS_USAGE,
			"The socket's path %s is too long (a socket's may have %zu bytes); choose a shorter folder with NESTOR_RUNTIME.",
			l->ports_path, sizeof address.sun_path - 1);
	strcpy(address.sun_path, l->ports_path);
	l->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(l->ports_path);
	mode_t old = umask(0177);
	int failed = l->listener < 0 || bind(l->listener, (struct sockaddr *)&address, sizeof address);
	umask(old);
	if (failed || listen(l->listener, PENDING))
		return error_set(e, STATUS_FILE, "The socket %s cannot be made (%s).",
				 l->ports_path, strerror(errno));
	return 0;
}

/* One switch of a name: who has the lock is it. One that died may have left a
 * keeper (nat.h), which has it until it has done. */
static int take_name(struct loop *l, struct error *e)
{
	char lock[PATHS_MAX];
	if (!paths_runtime_file(lock, sizeof lock, l->process.id, "switch-lock"))
		return error_set(e, STATUS_USAGE, "The id is too long.");
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600), failed = fd < 0;
	uint64_t until = now_ms() + LOCK_MS;
	while (!failed && flock(fd, LOCK_EX | LOCK_NB) && !(failed = now_ms() > until))
		poll(NULL, 0, LOCK_PAUSE_MS);
	l->process.host.lock = fd;	/* the lock goes with the process */
	return !failed ? 0 : error_set(e, STATUS_USAGE,
		"There is a switch \"%s\" already (%s is locked); stop it with `nestor switch call %s Switch.Stop`.",
		l->process.id, lock, l->process.id);
}

static int start_public(struct loop *l, struct error *e)
{
	static struct rpc_events events = { control_call, NULL, NULL };
	events.owner = &l->process;
	if (paths_prepare(e))
		return -1;
	if (!paths_runtime_file(l->control_path, sizeof l->control_path, l->process.id, "switch") ||
	    !paths_runtime_file(l->ports_path, sizeof l->ports_path, l->process.id, "ports"))
		return error_set(e, STATUS_USAGE, "The id is too long.");
	if (take_name(l, e) || listen_for_cables(l, e))
		return -1;
	l->server = rpc_listen(&l->uv, l->control_path, &events, e);
	return l->server ? 0 : -1;
}

static void clean_up(struct loop *l)
{
	struct switch_process *p = &l->process;
	if (l->server) {
		rpc_stop_listening(l->server);
		uv_run(&l->uv, UV_RUN_NOWAIT);	/* the last answer is on its way */
		rpc_close(l->server);
		uv_run(&l->uv, UV_RUN_DEFAULT);
		rpc_free(l->server);
	}
	uv_loop_close(&l->uv);
	while (p->cables)
		process_remove_port(p, p->cables);
	host_side_destroy(&p->host);
	uplink_destroy(p->uplink);
	switch_destroy(p->network);
	for (unsigned i = 0; i < l->pendings; i++)
		close(l->pending[i].fd);
	if (l->listener >= 0) {
		close(l->listener);
		unlink(l->ports_path);
	}
	close(l->signals);
	free(l);
}

/* Who started us waits for this line; afterwards nobody reads there. */
static void answer_starter(json_t *answer)
{
	char *line = json_dumps(answer, JSON_COMPACT);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dprintf(STDOUT_FILENO, "%s\n", line ? line : "{}");
	free(line);
	json_decref(answer);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
}

/* The command line. */

struct options {
	const char *id, *name;
	bool nat;
	int cable;
	uint8_t cable_mac[MAC_LENGTH];
	struct nat_mapping forward[NAT_MAPPINGS];
	unsigned forwards;
};

/* tcp:HOST:GUEST: from a port of the host's loopback to one of the first guest. */
static bool take_forward(const char *value, struct nat_mapping *m)
{
	char protocol[4], end;
	unsigned from, to;
	if (sscanf(value, "%3[a-z]:%5u:%5u%c", protocol, &from, &to, &end) != 3 ||
	    (strcmp(protocol, "tcp") && strcmp(protocol, "udp")) ||
	    !from || from > UINT16_MAX || !to || to > UINT16_MAX)
		return false;
	*m = (struct nat_mapping){ .udp = !strcmp(protocol, "udp"),
		.external.s_addr = htonl(INADDR_LOOPBACK),
		.external_port = (uint16_t)from, .internal_port = (uint16_t)to };
	return true;
}

static bool take_cable(const char *value, struct options *o)
{
	char *end;
	o->cable = (int)strtol(value, &end, 10);
	return *end == ':' && o->cable > STDERR_FILENO && mac_parse(end + 1, o->cable_mac);
}

static int parse(int argc, char *const argv[], struct options *o, struct error *e)
{
	*o = (struct options){ .cable = -1 };
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (!strcmp(word, "--nat")) {
			o->nat = true;
			continue;
		}
		bool known = value;
		if (known && !strcmp(word, "--id"))
			o->id = value;
		else if (known && !strcmp(word, "--name"))
			o->name = value;
		else if (known && !strcmp(word, "--cable"))
			known = take_cable(value, o);
		else if (known && !strcmp(word, "--forward") && o->forwards < NAT_MAPPINGS)
			known = take_forward(value, &o->forward[o->forwards++]);
		else
			known = false;
		if (!known)
			return error_set(e, STATUS_USAGE,
				"nestor switch does not know what \"%s%s%s\" means; docs/network.md describes it.",
				word, value ? " " : "", value ? value : "");
		i++;
	}
	if (!o->id == (o->cable < 0) || (o->id && (!*o->id || strchr(o->id, '/') || strchr(o->id, ' '))))
		return error_set(e, STATUS_USAGE,
			"nestor switch wants a name without blanks: nestor switch --id NAME [--nat].");
	return 0;
}

static int configure(struct switch_process *p, const struct options *o, struct error *e)
{
	struct host_config wanted = { 0 };
	if (o->cable >= 0) {
		struct cable *c = process_add_port(p, "cable", o->cable_mac, e);
		if (!c)
			return -1;
		c->temporary = true;
		plug_in(c, o->cable);
	}
	if (!o->nat)
		return 0;
	wanted.present = wanted.nat = wanted.dhcp = wanted.dns = true;
	memcpy(wanted.mac, own_mac, MAC_LENGTH);
	snprintf(wanted.alias, sizeof wanted.alias, "vEthernet (%.200s)", p->name);
	ipv4_prefix_parse(nat_network, &wanted.address[0]);
	wanted.addresses = 1;
	wanted.nat_prefix = wanted.address[0];
	memcpy(wanted.mapping, o->forward, sizeof wanted.mapping);
	wanted.mappings = o->forwards;
	return host_side_apply(&p->host, &wanted, e);
}

static int open_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run(const struct options *o)
{
	struct loop *l = alloc_zeroed(1, sizeof *l);
	struct switch_process *p = &l->process;
	struct error e;
	int status = STATUS_OK;
	l->listener = -1;
	l->signals = open_signals();
	uv_loop_init(&l->uv);
	p->id = o->id ? o->id : "";
	snprintf(p->name, sizeof p->name, "%s", o->name ? o->name : p->id);
	p->network = switch_create();
	p->host.network = p->network;
	p->host.receive = from_host;
	p->host.owner = p;
	p->host.lock = -1;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if ((o->id && start_public(l, &e)) || configure(p, o, &e)) {
		log_line("%s", e.text);
		answer_starter(json_pack("{s:s,s:i}", "Error", e.text, "Status", (int)e.status));
		status = e.status;
	} else {
		answer_starter(json_pack("{s:b,s:i}", "Ready", true, "Pid", (int)getpid()));
		/* Of a switch with libslirp from the start no more will be asked. */
		sandbox_enter(&(struct sandbox){ .own = o->id ? paths_runtime() : NULL,
						 .host_network = !o->nat });
		while (!p->stop)
			one_turn(l);
	}
	clean_up(l);
	return status;
}

/* nestor switch call ID METHOD [PARAMETERS]: for people and tests. */
static int call(int argc, char *const argv[])
{
	char path[PATHS_MAX];
	struct error e = { 0 };
	json_error_t why;
	enum { ID, METHOD, PARAMETERS };
	json_t *parameters = argc > PARAMETERS ? json_loads(argv[PARAMETERS], 0, &why) : json_object();
	if (argc <= METHOD || argc > PARAMETERS + 1 || !json_is_object(parameters)) {
		log_line("Write: nestor switch call ID METHOD ['{\"Name\":\"value\"}'].");
		json_decref(parameters);
		return STATUS_USAGE;
	}
	json_t *result = NULL;
	struct rpc_client *c = NULL;
	if (paths_prepare(&e) || !paths_runtime_file(path, sizeof path, argv[ID], "switch"))
		json_decref(parameters);
	else if (!(c = rpc_connect(path, &e)))
		json_decref(parameters);
	else
		result = rpc_request(c, argv[METHOD], parameters, CALL_MS, NULL, NULL, &e);
	rpc_disconnect(c);
	if (!result) {
		log_line("%s", e.text);
		return e.status ? e.status : STATUS_USAGE;
	}
	json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(result);
	return STATUS_OK;
}

int switch_main(int argc, char *const argv[])
{
	struct options o;
	struct error e;
	if (argc && !strcmp(argv[0], "call"))
		return call(argc - 1, argv + 1);
	if (parse(argc, argv, &o, &e)) {
		log_line("%s", e.text);
		return e.status;
	}
	return run(&o);
}
