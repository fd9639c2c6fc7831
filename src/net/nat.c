#include "net/nat.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char forwarding_path[] = "/proc/sys/net/ipv4/ip_forward";

struct kernel_nat {
	char interface[IFNAMSIZ];
	char table[IFNAMSIZ + 16];	/* its name, of letters and digits */
	bool applied, forwarding_set;
};

/* Run a program of nft's. */
static int run_nft(const char *program, struct error *e)
{
	char *const argv[] = { "nft", "-f", "-", NULL };
	posix_spawn_file_actions_t actions;
	int pipe_fd[2], status = -1;
	pid_t pid;
	if (pipe2(pipe_fd, O_CLOEXEC))
		return error_set(e, STATUS_FAULT, "There is no pipe to be had (%s).", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipe_fd[0], STDIN_FILENO);
	int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_fd[0]);
	if (!failed) {
		/* A program is shorter than a pipe holds. */
		ssize_t n = write(pipe_fd[1], program, strlen(program));
		(void)n;
	}
	close(pipe_fd[1]);
	if (failed)
		return error_set(e, STATUS_USAGE,
			"The program nft cannot be started (%s); install nftables, or use a NAT without privilege.",
			strerror(failed));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return error_set(e, STATUS_FAULT, "nft refused the NAT's rules; its words are in the switch's log.");
}

static bool read_forwarding(char *value)
{
	int fd = open(forwarding_path, O_RDONLY | O_CLOEXEC);
	bool done = fd >= 0 && read(fd, value, 1) == 1;
	if (fd >= 0)
		close(fd);
	return done;
}

static bool write_forwarding(char value)
{
	int fd = open(forwarding_path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, &value, 1) == 1;
	if (fd >= 0)
		close(fd);
	return done;
}

static void print_mapping(FILE *out, const struct nat_mapping *m)
{
	char address[INET_ADDRSTRLEN];
	fputs("    ", out);
	if (m->external.s_addr)
		fprintf(out, "ip daddr %s ",
			inet_ntop(AF_INET, &m->external, address, sizeof address));
	else
		fputs("fib daddr type local ", out);
	fprintf(out, "%s dport %u dnat to %s:%u\n", m->udp ? "udp" : "tcp", m->external_port,
		inet_ntop(AF_INET, &m->internal, address, sizeof address), m->internal_port);
}

/* Chains at the customary priorities: whoever comes later wins nothing. */
static void print_table(FILE *out, const struct kernel_nat *n, const struct ipv4_prefix *network,
			const struct nat_mapping *mapping, unsigned mappings)
{
	static const char *const hooks[] = { "prerouting", "output" };
	char address[INET_ADDRSTRLEN];
	struct in_addr base = { network->address.s_addr & ipv4_mask(network->bits).s_addr };
	fprintf(out, "table ip %s\ndelete table ip %s\ntable ip %s {\n", n->table, n->table,
		n->table);
	fprintf(out, "  chain outward {\n"
		"    type nat hook postrouting priority srcnat;\n"
		"    ip saddr %s/%u oifname != \"%s\" masquerade\n  }\n",
		inet_ntop(AF_INET, &base, address, sizeof address), network->bits, n->interface);
	for (unsigned h = 0; h < ARRAY_SIZE(hooks); h++) {
		fprintf(out, "  chain inward_%s {\n    type nat hook %s priority %s;\n", hooks[h],
			hooks[h], h ? "-100" : "dstnat");
		for (unsigned i = 0; i < mappings; i++)
			print_mapping(out, &mapping[i]);
		fputs("  }\n", out);
	}
	fputs("}\n", out);
}

struct kernel_nat *kernel_nat_create(const char *interface)
{
	struct kernel_nat *n = alloc_zeroed(1, sizeof *n);
	snprintf(n->interface, sizeof n->interface, "%s", interface);
	char *to = n->table + snprintf(n->table, sizeof n->table, "nestor_");
	for (const char *at = n->interface; *at; at++)
		*to++ = (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
			(*at >= 'a' && *at <= 'z') ? *at : '_';
	return n;
}

int kernel_nat_apply(struct kernel_nat *n, const struct ipv4_prefix *network,
		     const struct nat_mapping *mapping, unsigned mappings, struct error *e)
{
	char *program = NULL, before;
	size_t size;
	FILE *out = open_memstream(&program, &size);
	if (!out)
		panic("out of memory");
	print_table(out, n, network, mapping, mappings);
	fclose(out);
	int result = run_nft(program, e);
	free(program);
	if (result)
		return result;
	n->applied = true;
	if (read_forwarding(&before) && before == '0') {
		if (!write_forwarding('1'))
			return error_set(e, STATUS_FAULT, "IPv4 forwarding cannot be switched on in %s (%s).",
					 forwarding_path, strerror(errno));
		n->forwarding_set = true;
	}
	return 0;
}

void kernel_nat_destroy(struct kernel_nat *n)
{
	char program[2 * sizeof n->table + 64];
	struct error e;
	if (!n)
		return;
	snprintf(program, sizeof program, "table ip %s\ndelete table ip %s\n", n->table, n->table);
	if (n->applied && run_nft(program, &e))
		log_line("%s", e.text);
	if (n->forwarding_set)
		write_forwarding('0');
	free(n);
}
