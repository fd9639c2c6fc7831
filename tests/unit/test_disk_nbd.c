/* Disks behind a real qemu-nbd. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bits.h"
#include "../small_disk.h"
#include "disk/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 16 << 20, CHUNK = 64 << 10, WAIT_MS = 10000 };

struct fixture {
	char directory[64];
};

static struct fixture fixture;

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
	char command[2048];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command))
		fail_msg("failed: %s", command);
}

static int setup(void **state)
{
	snprintf(fixture.directory, sizeof fixture.directory, "/tmp/test_disk_nbd.XXXXXX");
	return mkdtemp(fixture.directory) && !chdir(fixture.directory) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", fixture.directory);
	return chdir("/") || system(command);
}

/* A path in the fixture's folder, good until the next but three calls. */
static const char *path(const char *name)
{
	static char paths[4][256];
	static unsigned next;
	char *p = paths[next++ % ARRAY_SIZE(paths)];
	snprintf(p, sizeof paths[0], "%s/%s", fixture.directory, name);
	return p;
}

static struct disk *opened(const char *name, bool readonly)
{
	struct error e = { 0 };
	struct disk *d = disk_open(path(name), readonly, &e);
	if (!d)
		fail_msg("%s", e.text);
	return d;
}

static void refused(const char *name, bool readonly, const char *words)
{
	struct error e = { 0 };
	struct disk *d = disk_open(path(name), readonly, &e);
	assert_null(d);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static int put(struct disk *d, uint64_t offset, const uint8_t *bytes, size_t n)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, n };
	return disk_write(d, offset, &iov, 1);
}

static int get(struct disk *d, uint64_t offset, uint8_t *bytes, size_t n)
{
	struct iovec iov = { bytes, n };
	return disk_read(d, offset, &iov, 1);
}

static void pattern(uint8_t *bytes, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		bytes[i] = (uint8_t)(seed >> 16);
	}
}

/* The disk's bytes as qemu-img sees them. */
static void outside(const char *name, const char *driver, uint64_t offset, uint8_t *to, size_t n)
{
	shell("qemu-img convert -f %s -O raw '%s' '%s'", driver, path(name), path("outside.img"));
	int fd = open(path("outside.img"), O_RDONLY);
	assert_int_equal(pread(fd, to, n, (off_t)offset), n);
	close(fd);
}

static void one_format(const char *name, const char *driver, const char *options)
{
	static uint8_t out[3 * CHUNK], in[3 * CHUNK], zeroes[CHUNK];
	shell("qemu-img create -q -f %s %s '%s' %d", driver, options, path(name), SIZE);
	struct disk *d = opened(name, false);
	assert_int_equal(d->size, SIZE);
	pattern(out, sizeof out, 1);
	/* In pieces, over the borders of clusters, and one without bytes. */
	struct iovec w[] = { { out, 0 }, { out, 1000 }, { out + 1000, 0 },
			     { out + 1000, sizeof out - 1000 } };
	assert_int_equal(disk_write(d, 3 * DISK_SECTOR, w, 4), 0);
	struct iovec r[] = { { in, 512 }, { in + 512, sizeof in - 512 } };
	assert_int_equal(disk_read(d, 3 * DISK_SECTOR, r, 2), 0);
	assert_memory_equal(in, out, sizeof in);
	assert_int_equal(put(d, SIZE - DISK_SECTOR, out, DISK_SECTOR), 0);
	/* Beyond the end. */
	assert_int_equal(put(d, SIZE - DISK_SECTOR, out, 2 * DISK_SECTOR), -1);
	assert_int_equal(get(d, SIZE, in, DISK_SECTOR), -1);
	assert_int_equal(get(d, UINT64_MAX - 511, in, DISK_SECTOR), -1);
	assert_int_equal(disk_discard(d, SIZE, DISK_SECTOR), -1);
	assert_int_equal(disk_write_zeroes(d, DISK_SECTOR, SIZE, true), -1);
	/* Zeroes, and what is next to them. */
	assert_int_equal(disk_write_zeroes(d, 3 * DISK_SECTOR + CHUNK, CHUNK / 2, true), 0);
	assert_int_equal(disk_write_zeroes(d, 3 * DISK_SECTOR + CHUNK + CHUNK / 2, CHUNK / 2, false), 0);
	memset(out + CHUNK, 0, CHUNK);
	assert_int_equal(get(d, 3 * DISK_SECTOR, in, sizeof in), 0);
	assert_memory_equal(in, out, sizeof in);
	assert_int_equal(disk_discard(d, 8 << 20, 1 << 20), 0);
	assert_int_equal(get(d, 8 << 20, in, CHUNK), 0);
	assert_memory_equal(in, zeroes, CHUNK);
	assert_int_equal(disk_flush(d), 0);
	refused(name, false, "is in use by another");
	int server = disk_nbd_pid(d);
	disk_close(d);
	assert_int_equal(kill(server, 0), -1);
	outside(name, driver, 3 * DISK_SECTOR, in, sizeof in);
	assert_memory_equal(in, out, sizeof in);
	outside(name, driver, SIZE - DISK_SECTOR, in, DISK_SECTOR);
	assert_memory_equal(in, out, DISK_SECTOR);
	/* Two readers are allowed, and none of them writes. */
	struct disk *a = opened(name, true), *b = opened(name, true);
	assert_int_equal(get(a, 3 * DISK_SECTOR, in, sizeof in), 0);
	assert_memory_equal(in, out, sizeof in);
	assert_int_equal(get(b, 0, in, DISK_SECTOR), 0);
	assert_int_equal(put(a, 0, out, DISK_SECTOR), -1);
	assert_int_equal(disk_discard(a, 0, DISK_SECTOR), -1);
	assert_int_equal(disk_flush(a), 0);
	disk_close(a);
	disk_close(b);
}

static void test_formats(void **state)
{
	one_format("a.vhdx", "vhdx", "");
	one_format("fixed.vhdx", "vhdx", "-o subformat=fixed");
	one_format("a.vhd", "vpc", "-o force_size=on");
	one_format("a.qcow2", "qcow2", "");
	one_format("with, comma=.qcow2", "qcow2", "-o cluster_size=4096");
}

/* A fixed VHD is its file but the footer, whatever its guest writes first. */
static void test_fixed_vhd(void **state)
{
	uint8_t sector[DISK_SECTOR], in[DISK_SECTOR];
	shell("qemu-img create -q -f vpc -o subformat=fixed,force_size=on fixed.vhd %d", SIZE);
	shell("qemu-img create -q -f vpc -o force_size=on dynamic.vhd %d", 4 * SIZE);
	int fd = open("dynamic.vhd", O_RDONLY);
	assert_int_equal(read(fd, sector, sizeof sector), sizeof sector);
	close(fd);
	struct disk *d = opened("fixed.vhd", false);
	assert_int_equal(d->size, SIZE);
	assert_int_equal(put(d, 0, sector, sizeof sector), 0);
	assert_int_equal(put(d, SIZE, sector, sizeof sector), -1);
	disk_close(d);
	d = opened("fixed.vhd", false);
	assert_int_equal(d->size, SIZE);
	assert_int_equal(get(d, 0, in, sizeof in), 0);
	assert_memory_equal(in, sector, sizeof in);
	disk_close(d);
}

/* What a raw disk's guest writes never makes it another format. */
static void test_raw_stays_raw(void **state)
{
	uint8_t in[DISK_SECTOR];
	shell("qemu-img create -q -f qcow2 -o cluster_size=512 inner.qcow2 64M");
	shell("cp inner.qcow2 disk.img && truncate -s 1M disk.img");
	shell("cp disk.img other");
	const char *names[] = { "disk.img", "other" };
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		struct disk *d = opened(names[i], false);
		assert_int_equal(d->size, 1 << 20);
		assert_int_equal(get(d, 0, in, sizeof in), 0);
		assert_memory_equal(in, "QFI\xfb", 4);
		disk_close(d);
	}
	/* Nor does a child take it for one. */
	shell("qemu-img create -q -u -f qcow2 -F raw -b '%s' child.qcow2 1M", path("disk.img"));
	struct disk *d = opened("child.qcow2", false);
	assert_int_equal(get(d, 0, in, sizeof in), 0);
	assert_memory_equal(in, "QFI\xfb", 4);
	disk_close(d);
}

static void test_parents(void **state)
{
	static uint8_t old[CHUNK], new[CHUNK], in[CHUNK];
	shell("qemu-img create -q -f vhdx parent.vhdx %d", SIZE);
	pattern(old, sizeof old, 2);
	pattern(new, sizeof new, 3);
	struct disk *d = opened("parent.vhdx", false);
	assert_int_equal(put(d, 0, old, sizeof old), 0);
	disk_close(d);
	shell("qemu-img create -q -u -f qcow2 -F vhdx -b parent.vhdx middle.qcow2 %d", SIZE);
	shell("qemu-img create -q -u -f qcow2 -F qcow2 -b '%s' child.qcow2 %d", path("middle.qcow2"), SIZE);
	d = opened("child.qcow2", false);
	assert_int_equal(get(d, 0, in, sizeof in), 0);
	assert_memory_equal(in, old, sizeof in);
	assert_int_equal(put(d, 0, new, sizeof new / 2), 0);
	assert_int_equal(get(d, 0, in, sizeof in), 0);
	assert_memory_equal(in, new, sizeof in / 2);
	assert_memory_equal(in + sizeof in / 2, old + sizeof in / 2, sizeof in / 2);
	/* Nobody changes a parent under its child. */
	refused("parent.vhdx", false, "is in use by another");
	refused("middle.qcow2", false, "is in use by another");
	disk_close(d);
	outside("parent.vhdx", "vhdx", 0, in, sizeof in);
	assert_memory_equal(in, old, sizeof in);
}

/* qemu-nbd opens its own files only, even when a header names others. */
static void test_cage(void **state)
{
	struct disk_chain chain;
	struct error e = { 0 };
	shell("truncate -s 1M secret.img");
	shell("qemu-img create -q -u -f qcow2 -F raw -b '%s' child.qcow2 1M", path("secret.img"));
	assert_int_equal(disk_chain_read(&chain, path("child.qcow2"), &e), DISK_FAULT_NONE);
	assert_int_equal(chain.count, 2);
	struct disk *d = disk_nbd_open(&chain, false, &e);
	assert_non_null(d);
	disk_close(d);
	disk_image_free(&chain.image[1]);
	chain.count = 1;
	assert_null(disk_nbd_open(&chain, false, &e));
	if (!strstr(e.text, "Permission denied"))
		fail_msg("%s", e.text);
	disk_chain_free(&chain);
}

static bool ends(pid_t pid)
{
	struct pollfd wait = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	bool ended = wait.fd < 0 || poll(&wait, 1, WAIT_MS) == 1;
	if (wait.fd >= 0)
		close(wait.fd);
	return ended;
}

static void test_server_killed(void **state)
{
	static uint8_t bytes[CHUNK];
	shell("qemu-img create -q -f vhdx a.vhdx %d", SIZE);
	struct disk *d = opened("a.vhdx", false);
	pattern(bytes, sizeof bytes, 4);
	assert_int_equal(put(d, 0, bytes, sizeof bytes), 0);
	assert_int_equal(disk_flush(d), 0);
	int server = disk_nbd_pid(d);
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(put(d, 0, bytes, sizeof bytes), -1);
	assert_int_equal(disk_nbd_pid(d), 0);
	assert_non_null(strstr(disk_problem(d), "qemu-nbd was ended by signal 9"));
	assert_int_equal(get(d, 0, bytes, sizeof bytes), -1);
	assert_int_equal(disk_discard(d, 0, CHUNK), -1);
	assert_int_equal(disk_write_zeroes(d, 0, CHUNK, true), -1);
	assert_int_equal(disk_flush(d), -1);
	disk_close(d);
	/* What was flushed is there, though the VHDX was left open. */
	static uint8_t in[CHUNK], want[CHUNK];
	pattern(want, sizeof want, 4);
	d = opened("a.vhdx", false);
	assert_int_equal(get(d, 0, in, sizeof in), 0);
	assert_memory_equal(in, want, sizeof in);
	disk_close(d);
}

static void *hurry_soon(void *disk)
{
	usleep(100000);
	disk_hurry(disk);
	return NULL;
}

/* One that stands still: the VM can be ended all the same. */
static void test_server_silent(void **state)
{
	uint8_t sector[DISK_SECTOR];
	pthread_t thread;
	shell("qemu-img create -q -f qcow2 a.qcow2 %d", SIZE);
	struct disk *d = opened("a.qcow2", false);
	int server = disk_nbd_pid(d);
	assert_int_equal(kill(server, SIGSTOP), 0);
	assert_int_equal(pthread_create(&thread, NULL, hurry_soon, d), 0);
	assert_int_equal(get(d, 0, sector, sizeof sector), -1);
	pthread_join(thread, NULL);
	assert_non_null(strstr(disk_problem(d), "does not answer"));
	assert_int_equal(kill(server, 0), -1);
	disk_close(d);
	/* A hurry alone harms nothing. */
	d = opened("a.qcow2", false);
	disk_hurry(d);
	assert_int_equal(put(d, 0, sector, sizeof sector), 0);
	assert_int_equal(disk_flush(d), 0);
	disk_close(d);
}

static pthread_t reader;

static void ignore(int signal)
{
}

static void *interrupt(void *server)
{
	for (unsigned i = 0; i < 30; i++) {
		usleep(10000);
		pthread_kill(reader, SIGUSR1);
	}
	kill(*(int *)server, SIGCONT);
	return NULL;
}

/* Signals while it waits (an engine calls its processors by them) are no answer. */
static void test_interrupted(void **state)
{
	struct sigaction action = { .sa_handler = ignore };
	uint8_t sector[DISK_SECTOR];
	pthread_t thread;
	shell("qemu-img create -q -f qcow2 a.qcow2 %d", SIZE);
	struct disk *d = opened("a.qcow2", false);
	int server = disk_nbd_pid(d);
	reader = pthread_self();
	sigaction(SIGUSR1, &action, NULL);
	assert_int_equal(kill(server, SIGSTOP), 0);
	assert_int_equal(pthread_create(&thread, NULL, interrupt, &server), 0);
	assert_int_equal(get(d, 0, sector, sizeof sector), 0);
	pthread_join(thread, NULL);
	assert_null(disk_problem(d));
	disk_close(d);
}

/* Opens the disk, tells the server's id, and is killed; the server cannot even
 * notice by itself, because it is stopped. */
static void test_owner_killed(void **state)
{
	int pipe_fds[2], server = 0;
	shell("qemu-img create -q -f qcow2 a.qcow2 %d", SIZE);
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid_t owner = fork();
	if (!owner) {
		struct disk *d = disk_open(path("a.qcow2"), false, NULL);
		server = d ? disk_nbd_pid(d) : 0;
		kill(server, SIGSTOP);
		if (write(pipe_fds[1], &server, sizeof server) != sizeof server)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(pipe_fds[0], &server, sizeof server), sizeof server);
	assert_true(server > 0);
	assert_int_equal(kill(server, 0), 0);
	kill(owner, SIGKILL);
	assert_int_equal(waitpid(owner, NULL, 0), owner);
	assert_true(ends(server));
	assert_int_equal(waitpid(server, NULL, 0), server);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	disk_close(opened("a.qcow2", false));
}

/* In a mount namespace: fill a small file system, then read what is there. */
static int on_a_full_disk(void)
{
	static uint8_t bytes[CHUNK], in[CHUNK];
	struct error e = { 0 };
	if (!small_disk("small"))
		return SMALL_DISK_SKIPPED;
	if (system("qemu-img create -q -f qcow2 small/a.qcow2 16M"))
		return 1;
	struct disk *d = disk_open(path("small/a.qcow2"), false, &e);
	uint64_t offset = 0;
	if (!d)
		return 2;
	pattern(bytes, sizeof bytes, 5);
	while (offset < SIZE && !put(d, offset, bytes, sizeof bytes))
		offset += CHUNK;
	if (offset < CHUNK || offset == SIZE || !disk_problem(d) ||
	    !strstr(disk_problem(d), "No space left on device"))
		return 3;
	if (get(d, 0, in, sizeof in) || memcmp(in, bytes, sizeof in))
		return 4;
	disk_close(d);
	return 0;
}

static void test_full_disk(void **state)
{
	small_disk_test(on_a_full_disk);
}

static void test_refusals(void **state)
{
	shell("qemu-img create -q -f vhdx a.vhdx %d", SIZE);
	refused("missing.vhdx", false, "cannot be opened (No such file");
	shell("truncate -s 1M empty.vhdx empty.vhd empty.qcow2");
	refused("empty.vhdx", false, "no sound VHDX");
	refused("empty.vhd", false, "no sound VHD");
	refused("empty.qcow2", false, "no sound qcow2");
	/* Headers that are sound, and tables that are not. */
	shell("qemu-img create -q -f qcow2 table.qcow2 %d", SIZE);
	int fd = open("table.qcow2", O_WRONLY);
	const uint8_t l1_size[] = { 0xff, 0xff, 0xff, 0xff };
	assert_int_equal(pwrite(fd, l1_size, sizeof l1_size, 36), sizeof l1_size);
	close(fd);
	refused("table.qcow2", false, "cannot be opened: qemu-nbd ended with status 1");
	char *old = strdup(getenv("PATH"));
	setenv("PATH", fixture.directory, 1);
	refused("a.vhdx", false, "apt-get install qemu-utils");
	setenv("PATH", old, 1);
	free(old);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_formats), TEST(test_fixed_vhd), TEST(test_raw_stays_raw),
		TEST(test_parents), TEST(test_cage), TEST(test_server_killed), TEST(test_server_silent), TEST(test_interrupted),
		TEST(test_owner_killed), TEST(test_full_disk), TEST(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
