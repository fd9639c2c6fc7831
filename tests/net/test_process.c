/* The switch process under those who connect to it: what they do must not end,
 * stop or fill it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/port.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNECTIONS = 1000, SILENT = 16, SYNS = 1500, SYN_SIZE = FRAME_HEADER + 20 + 20, SPARE = 20,
       TCP_SOCKETS = 200 };

static char folder[] = "/tmp/test_process.XXXXXX", ports[64];
static pid_t switch_pid;

static int begin(void **state)
{
	int out[2];
	char word;
	if (pipe(out))
		return -1;
	switch_pid = fork();
	if (!switch_pid) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(getenv("NESTOR_EXECUTABLE"), "nestor", "switch", "--id", "s", "--nat", NULL);
		_exit(127);
	}
	close(out[1]);
	ssize_t n = read(out[0], &word, 1);	/* it is ready */
	close(out[0]);
	return n == 1 ? 0 : -1;
}

/* It has not ended by itself, and ends well. */
static int end(void **state)
{
	int status = -1;
	kill(switch_pid, SIGTERM);
	return waitpid(switch_pid, &status, 0) == switch_pid && WIFEXITED(status) && !WEXITSTATUS(status) ?
		0 : -1;
}

static unsigned descriptors(void)
{
	char path[64];
	unsigned n = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", (int)switch_pid);
	DIR *d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void wait_for_descriptors(unsigned most)
{
	for (unsigned i = 0; i < 100 && descriptors() > most; i++)
		poll(NULL, 0, 50);
	assert_true(descriptors() <= most);
}

static int connect_only(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	strcpy(address.sun_path, ports);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

static int cable(unsigned n)
{
	char hello[64];
	struct error e = { 0 };
	snprintf(hello, sizeof hello, "nestor-port 1 p%u 0200000%05x", n, n);
	int fd = port_connect(ports, hello, &e);
	if (fd < 0)
		print_error("%s\n", e.text);
	assert_true(fd >= 0);
	return fd;
}

static void test_connections_that_come_and_go(void **state)
{
	static uint8_t frame[60000];
	unsigned before = descriptors();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		int fd = i % 5 < 2 ? cable(i) : connect_only();
		switch (i % 5) {
		case 1:		/* too long, none, and the end at once */
			send(fd, frame, sizeof frame, MSG_NOSIGNAL);
			send(fd, frame, 100, MSG_NOSIGNAL);
			break;
		case 2:
			send(fd, "garbage", 7, MSG_NOSIGNAL);
			break;
		case 3:		/* gone before the answer */
			send(fd, "nestor-port 1 gone 020000fffff0", 31, MSG_NOSIGNAL);
			break;
		}
		close(fd);
	}
	close(cable(CONNECTIONS));
	wait_for_descriptors(before);
}

/* Those who connect and say nothing stand in the way for a moment only. */
static void test_silent_connections(void **state)
{
	int fd[SILENT];
	for (unsigned i = 0; i < SILENT; i++)
		fd[i] = connect_only();
	close(cable(1));
	for (unsigned i = 0; i < SILENT; i++)
		close(fd[i]);
}

static void make_syn(uint8_t *frame, uint16_t from, uint16_t to)
{
	struct { struct in_addr from, to; uint8_t zero, protocol; uint16_t length; struct tcphdr tcp; } pseudo = {
		.protocol = IPPROTO_TCP, .length = htons(sizeof(struct tcphdr)),
		.tcp = { .th_sport = htons(from), .th_dport = htons(to), .th_off = 5, .th_flags = TH_SYN,
			 .th_win = 0xffff },
	};
	struct iphdr ip = { .version = IPVERSION, .ihl = 5, .tot_len = htons(sizeof ip + sizeof pseudo.tcp),
			    .ttl = IPDEFTTL, .protocol = IPPROTO_TCP };
	inet_pton(AF_INET, "10.0.2.15", &ip.saddr);
	inet_pton(AF_INET, "10.0.2.2", &ip.daddr);
	pseudo.from.s_addr = ip.saddr;
	pseudo.to.s_addr = ip.daddr;
	ip.check = htons(inet_checksum((uint8_t *)&ip, sizeof ip));
	pseudo.tcp.th_sum = htons(inet_checksum((uint8_t *)&pseudo, sizeof pseudo));
	mac_parse("02155d000001", frame);
	mac_parse("020000000007", frame + FRAME_SOURCE);
	store_be16(frame + FRAME_TYPE, 0x0800);
	memcpy(frame + FRAME_HEADER, &ip, sizeof ip);
	memcpy(frame + FRAME_HEADER + sizeof ip, &pseudo.tcp, sizeof pseudo.tcp);
}

/* A guest that opens connections without end gets some; others still connect. */
static void test_connections_without_end(void **state)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof here;
	uint8_t frame[SYN_SIZE] = { 0 }, answer[FRAME_MAX];
	int server = socket(AF_INET, SOCK_STREAM, 0), guest = cable(7);
	unsigned before = descriptors(), answers = 0;
	assert_int_equal(bind(server, (struct sockaddr *)&here, n), 0);
	assert_int_equal(listen(server, SYNS), 0);
	getsockname(server, (struct sockaddr *)&here, &n);
	for (unsigned i = 0; i < SYNS; i++) {
		make_syn(frame, (uint16_t)(1024 + i), ntohs(here.sin_port));
		assert_int_equal(send(guest, frame, sizeof frame, 0), sizeof frame);
		while (recv(guest, answer, sizeof answer, MSG_DONTWAIT) > 0)
			answers++;
	}
	for (struct pollfd p = { guest, POLLIN, 0 }; poll(&p, 1, 500) == 1;) {
		assert_true(recv(guest, answer, sizeof answer, 0) > 0);
		answers++;
	}
	assert_true(answers);	/* it was served */
	assert_true(descriptors() > before + TCP_SOCKETS / 2);
	assert_true(descriptors() <= before + TCP_SOCKETS + SPARE);
	close(cable(8));
	close(guest);
	close(server);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(test_connections_that_come_and_go), TEST(test_silent_connections),
		TEST(test_connections_without_end),
	};
	char command[64];
	if (!mkdtemp(folder))
		return 1;
	setenv("NESTOR_RUNTIME", folder, 1);
	snprintf(ports, sizeof ports, "%s/s.ports", folder);
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) ? 1 : result;
}
