#include "run_network.h"

#include "base/log.h"
#include "net/port.h"
#include "service/client.h"
#include "service/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

enum {
	CABLE_FD = 3,		/* in the switch process */
	ARGUMENTS = 64,
	LINE_SIZE = 2048,
	STATE_MS = 2000,	/* for a switch to say its name */
	WORD_SIZE = 128,
};

/* Locally administered, with Hyper-V's letters in it. */
static const uint8_t mac_prefix[] = { 0x02, 0x15, 0x5d };

/* The value of KEY=value among the words after the first comma: the number-th
 * one, into room bytes. */
static bool find_word(const char *value, const char *key, unsigned number, char *word, size_t room)
{
	size_t n = strlen(key);
	for (const char *at = strchr(value, ','); at; at = strchr(at + 1, ','))
		if (!strncmp(at + 1, key, n) && at[1 + n] == '=' && !number--) {
			const char *from = at + 2 + n;
			snprintf(word, room, "%.*s", (int)strcspn(from, ","), from);
			return true;
		}
	return false;
}

/* As given; else, on a network of the VM's own, by its place, so that a run can
 * be repeated; else by chance. */
static void choose_mac(struct vm_network *n, unsigned place)
{
	char word[WORD_SIZE];
	uint8_t *tail = n->mac + sizeof mac_prefix;
	if (find_word(n->value, "mac", 0, word, sizeof word) && mac_parse(word, n->mac))
		return;
	memcpy(n->mac, mac_prefix, sizeof mac_prefix);
	memcpy(tail, (const uint8_t[]){ 0, 1, (uint8_t)place }, MAC_LENGTH - sizeof mac_prefix);
	if (n->kind == VM_NETWORK_SWITCH &&
	    getrandom(tail, MAC_LENGTH - sizeof mac_prefix, 0) != MAC_LENGTH - sizeof mac_prefix)
		panic("getrandom fails (%s)", strerror(errno));
}

/* What the switch says when it has started. */
static int take_answer(int fd, struct error *e)
{
	char line[LINE_SIZE];
	size_t used = 0;
	ssize_t n;
	while (used < sizeof line && (n = read(fd, line + used, sizeof line - used)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		used += (size_t)n;
		if (memchr(line, '\n', used))
			break;
	}
	json_t *answer = json_loadb(line, used, JSON_DISABLE_EOF_CHECK, NULL);
	const char *why = json_string_value(json_object_get(answer, "Error"));
	int result = 0;
	if (!json_is_true(json_object_get(answer, "Ready")))
		result = error_set(e, STATUS_USAGE, "--network nat: %s",
				   why ? why : "the switch process ended before it was ready.");
	json_decref(answer);
	return result;
}

static int spawn_switch(char *const argv[], int cable, int out, struct error *e)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, cable, CABLE_FD);
	/* The terminal's Ctrl-C is not for it: it ends when the cable does. */
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
	int failed = posix_spawn(&pid, paths_executable(), &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (failed)
		return error_set(e, STATUS_FAULT, "The switch process cannot be started (%s).",
				 strerror(failed));
	return 0;
}

static int open_nat(struct vm_network *n, struct error *e)
{
	char *argv[ARGUMENTS] = { "nestor", "switch", "--nat", "--cable" };
	unsigned argc = 4;
	char forward[(ARGUMENTS - 6) / 2][WORD_SIZE], cable[WORD_SIZE], mac[MAC_TEXT];
	int pair[2], out[2], result;
	snprintf(cable, sizeof cable, "%d:%s", CABLE_FD, mac_format(n->mac, mac));
	argv[argc++] = cable;
	for (unsigned i = 0; i < ARRAY_SIZE(forward) &&
	     find_word(n->value, "forward", i, forward[i], sizeof forward[i]); i++) {
		argv[argc++] = "--forward";
		argv[argc++] = forward[i];
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return error_set(e, STATUS_FAULT, "There is no socket to be had (%s).", strerror(errno));
	if (pipe2(out, O_CLOEXEC)) {
		close(pair[0]);
		close(pair[1]);
		return error_set(e, STATUS_FAULT, "There is no pipe to be had (%s).", strerror(errno));
	}
	result = spawn_switch(argv, pair[1], out[1], e);
	close(pair[1]);
	close(out[1]);
	if (!result)
		result = take_answer(out[0], e);
	close(out[0]);
	if (result)
		close(pair[0]);
	else
		n->fd = pair[0];
	return result;
}

/* Is the switch whose control socket is at path called this? */
static bool is_called(const char *path, const char *name)
{
	struct error e;
	struct rpc_client *c = rpc_connect(path, &e);
	json_t *state = c ? rpc_request(c, "Switch.State", NULL, STATE_MS, NULL, NULL, &e) : NULL;
	const char *its = json_string_value(json_object_get(state, "Name"));
	bool same = its && !strcasecmp(its, name);
	json_decref(state);
	rpc_disconnect(c);
	return same;
}

/* The socket for cables of the switch with this id, else with this name. */
static bool find_switch(const char *name, char *path, size_t room)
{
	static const char control[] = ".switch";
	struct dirent *d;
	bool found = !strchr(name, '/') && paths_runtime_file(path, room, name, "ports") &&
		!access(path, F_OK);
	DIR *folder = found ? NULL : opendir(paths_runtime());
	while (folder && !found && (d = readdir(folder))) {
		size_t n = strlen(d->d_name);
		if (n <= strlen(control) || strcmp(d->d_name + n - strlen(control), control))
			continue;
		d->d_name[n - strlen(control)] = '\0';
		found = paths_runtime_file(path, room, d->d_name, "switch") &&
			is_called(path, name) && paths_runtime_file(path, room, d->d_name, "ports");
	}
	if (folder)
		closedir(folder);
	return found;
}

static int open_switch(struct vm_network *n, unsigned place, struct error *e)
{
	char name[WORD_SIZE], path[PATHS_MAX], hello[2 * WORD_SIZE], mac[MAC_TEXT];
	char port[WORD_SIZE];
	const char *given = strchr(n->value, '=') + 1;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(given, ","), given);
	if (paths_prepare(e))
		return -1;
	if (!find_switch(name, path, sizeof path))
		return error_set(e, STATUS_FILE,
			"--network switch=%s: no such switch runs (looked for in %s); start it with `nestor switch --id %s`.",
			name, paths_runtime(), name);
	if (!find_word(n->value, "port", 0, port, sizeof port))
		snprintf(port, sizeof port, "run-%d-%u", (int)getpid(), place);
	snprintf(hello, sizeof hello, "nestor-port 1 %s %s", port, mac_format(n->mac, mac));
	n->fd = port_connect(path, hello, e);
	return n->fd < 0 ? -1 : 0;
}

int run_networks_open(struct vm_config *c, struct error *e)
{
	for (unsigned i = 0; i < c->networks; i++) {
		struct vm_network *n = &c->network[i];
		choose_mac(n, i + 1);
		if (n->kind == VM_NETWORK_NAT ? open_nat(n, e) : open_switch(n, i, e))
			return -1;
	}
	return 0;
}
