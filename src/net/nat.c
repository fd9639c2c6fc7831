#include "net/nat.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char forwarding_path[] = "/proc/sys/net/ipv4/ip_forward";

struct kernel_nat {
	char interface[IFNAMSIZ];
	char table[IFNAMSIZ + 16];	/* its name, of letters and digits */
	int lock;
	pid_t keeper;		/* 0: not started */
	int word;		/* to the keeper */
	bool forwarding_set;
};

/* What the keeper is told, a byte; its end is told by the end of the pipe. */
static const char forwarding_was_off = 'f';

/* As a user's PATH may lack the folders of root's programs. */
static const char *find_nft(void)
{
	static const char *const folders[] = { "/usr/sbin/nft", "/sbin/nft" };
	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
		if (!access(folders[i], X_OK))
			return folders[i];
	return "nft";
}

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
	int failed = posix_spawnp(&pid, find_nft(), &actions, NULL, argv, environ);
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
			"The program nft cannot be started (%s); install nftables.", strerror(failed));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return error_set(e, STATUS_FAULT, "nft refused the NAT's rules; its words are in the log.");
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

/* The keeper. */

static void take_back(const struct kernel_nat *n, bool forwarding)
{
	char program[2 * sizeof n->table + 64];
	struct error e;
	snprintf(program, sizeof program, "table ip %s\ndelete table ip %s\n", n->table, n->table);
	if (run_nft(program, &e))
		log_line("%s", e.text);
	if (forwarding)
		write_forwarding('0');
}

/* Only the pipe and the lock stay open: a TAP's descriptor here would keep the
 * TAP, a guest's its cable. */
enum { KEEPER_WORDS = STDERR_FILENO + 1, KEEPER_LOCK, KEEPER_NOTHING };

static void close_others(int words, int lock)
{
	words = fcntl(words, F_DUPFD_CLOEXEC, KEEPER_NOTHING);
	lock = lock < 0 ? lock : fcntl(lock, F_DUPFD_CLOEXEC, KEEPER_NOTHING);
	dup3(words, KEEPER_WORDS, O_CLOEXEC);
	if (lock < 0)
		close(KEEPER_LOCK);
	else
		dup3(lock, KEEPER_LOCK, O_CLOEXEC);
	close_range(KEEPER_NOTHING, ~0u, 0);
}

__attribute__((noreturn))
static void keep(const struct kernel_nat *n, int words)
{
	bool forwarding = false;
	char word;
	ssize_t got;
	prctl(PR_SET_NAME, "nestor-nat");
	close_others(words, n->lock);
	while ((got = read(KEEPER_WORDS, &word, 1)) > 0 || (got < 0 && errno == EINTR))
		forwarding = forwarding || (got > 0 && word == forwarding_was_off);
	take_back(n, forwarding);
	_exit(0);
}

static int start_keeper(struct kernel_nat *n, struct error *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		return error_set(e, STATUS_FAULT, "There is no pipe to be had (%s).", strerror(errno));
	pid_t pid = fork();
	if (!pid) {
		close(ends[1]);
		keep(n, ends[0]);
	}
	close(ends[0]);
	if (pid < 0) {
		close(ends[1]);
		return error_set(e, STATUS_FAULT, "There is no process to be had (%s).", strerror(errno));
	}
	n->keeper = pid;
	n->word = ends[1];
	return 0;
}

/* The table. */

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

struct kernel_nat *kernel_nat_create(const char *interface, int lock)
{
	struct kernel_nat *n = alloc_zeroed(1, sizeof *n);
	n->lock = lock;
	snprintf(n->interface, sizeof n->interface, "%s", interface);
	char *to = n->table + snprintf(n->table, sizeof n->table, "nestor_");
	for (const char *at = n->interface; *at; at++)
		*to++ = (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
			(*at >= 'a' && *at <= 'z') ? *at : '_';
	return n;
}

/* print_table()'s text for a NAT; the caller's. */
static char *table_text(const struct kernel_nat *n, const struct ipv4_prefix *network,
			const struct nat_mapping *mapping, unsigned mappings, const char *end)
{
	char *program = NULL;
	size_t size;
	FILE *out = open_memstream(&program, &size);
	if (!out)
		panic("out of memory");
	print_table(out, n, network, mapping, mappings);
	fputs(end, out);
	fclose(out);
	return program;
}

/* The keeper is told first: whatever happens then, it puts it back. */
static int forward(struct kernel_nat *n, struct error *e)
{
	char before;
	if (!read_forwarding(&before) || before != '0')
		return 0;
	if (!n->forwarding_set && write(n->word, &forwarding_was_off, 1) != 1)
		return error_set(e, STATUS_FAULT, "The NAT's keeper is gone.");
	n->forwarding_set = true;
	if (!write_forwarding('1'))
		return error_set(e, STATUS_FAULT, "IPv4 forwarding cannot be switched on in %s (%s).",
				 forwarding_path, strerror(errno));
	return 0;
}

int kernel_nat_apply(struct kernel_nat *n, const struct ipv4_prefix *network,
		     const struct nat_mapping *mapping, unsigned mappings, struct error *e)
{
	if (!n->keeper && start_keeper(n, e))
		return -1;
	char *program = table_text(n, network, mapping, mappings, "");
	int result = run_nft(program, e);
	free(program);
	return result ? result : forward(n, e);
}

void kernel_nat_destroy(struct kernel_nat *n)
{
	int status = -1;
	if (!n)
		return;
	if (n->keeper) {
		close(n->word);
		while (waitpid(n->keeper, &status, 0) < 0 && errno == EINTR)
			;
		if (status)	/* somebody killed it */
			take_back(n, n->forwarding_set);
	}
	free(n);
}

void kernel_nat_forget(const char *interface)
{
	struct kernel_nat *n = kernel_nat_create(interface, -1);
	take_back(n, false);
	kernel_nat_destroy(n);
}

int kernel_nat_probe(struct error *e)
{
	static const struct ipv4_prefix network = { .bits = 8 };
	static const struct nat_mapping all = { .external_port = 1, .internal_port = 1 };
	char interface[IFNAMSIZ], end[sizeof(struct kernel_nat)];
	snprintf(interface, sizeof interface, "probe%d", (int)getpid());
	struct kernel_nat *n = kernel_nat_create(interface, -1);
	snprintf(end, sizeof end, "delete table ip %s\n", n->table);
	char *program = table_text(n, &network, &all, 1, end);
	int result = run_nft(program, e);
	free(program);
	kernel_nat_destroy(n);
	return result;
}
