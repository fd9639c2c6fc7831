#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "disk/raw.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTORS = 256, BYTES = SECTORS * DISK_SECTOR };

struct fixture {
	char directory[64], image[96];
};

static void make_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	snprintf(f->directory, sizeof f->directory, "/tmp/test_disk_raw.XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	snprintf(f->image, sizeof f->image, "%s/disk.img", f->directory);
	make_file(f->image, BYTES);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	unlink(f->image);
	rmdir(f->directory);
	free(f);
	return 0;
}

static void refused(const char *path, bool readonly, const char *words)
{
	struct error e = { 0 };
	assert_null(disk_raw_open(path, DISK_RAW_WHOLE, readonly, &e));
	assert_int_equal(e.status, STATUS_FILE);
	assert_non_null(strstr(e.text, path));
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	char path[128];
	refused("/nonexistent/disk.img", false, "There is no disk");
	refused(f->directory, false, "is a directory");
	refused(f->directory, true, "is a directory");
	refused("/dev/null", false, "neither a file nor a block device");
	snprintf(path, sizeof path, "%s/pipe", f->directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(path, true, "neither a file nor a block device");
	unlink(path);
	make_file(f->image, 0);
	refused(f->image, false, "is empty");
	make_file(f->image, 1000);
	refused(f->image, true, "1000 bytes, which is not a multiple of 512");
}

static void test_locks(void **state)
{
	struct fixture *f = *state;
	struct error e;
	struct disk *a = disk_raw_open(f->image, DISK_RAW_WHOLE, false, &e);
	assert_non_null(a);
	refused(f->image, false, "in use by another virtual machine");
	refused(f->image, true, "in use by another virtual machine");
	disk_close(a);
	a = disk_raw_open(f->image, DISK_RAW_WHOLE, true, &e);
	struct disk *b = disk_raw_open(f->image, DISK_RAW_WHOLE, true, &e);
	assert_non_null(a);
	assert_non_null(b);
	refused(f->image, false, "in use by another virtual machine");
	disk_close(a);
	disk_close(b);
	a = disk_raw_open(f->image, DISK_RAW_WHOLE, false, &e);
	assert_non_null(a);
	disk_close(a);
}

static void test_read_write(void **state)
{
	struct fixture *f = *state;
	struct error e;
	struct disk *d = disk_raw_open(f->image, DISK_RAW_WHOLE, false, &e);
	uint8_t out[3 * DISK_SECTOR], in[3 * DISK_SECTOR] = { 0 };
	assert_non_null(d);
	assert_int_equal(d->size, BYTES);
	for (unsigned i = 0; i < sizeof out; i++)
		out[i] = (uint8_t)(i * 7 + i / 256);
	struct iovec w[] = { { out, 100 }, { out, 0 }, { out + 100, sizeof out - 100 } };
	assert_int_equal(disk_write(d, 5 * DISK_SECTOR, w, 3), 0);
	struct iovec r[] = { { in, 1 }, { in + 1, 700 }, { in + 701, sizeof in - 701 } };
	assert_int_equal(disk_read(d, 5 * DISK_SECTOR, r, 3), 0);
	assert_memory_equal(in, out, sizeof in);
	/* The last sector, and beyond it. */
	struct iovec one = { out, DISK_SECTOR };
	assert_int_equal(disk_write(d, BYTES - DISK_SECTOR, &one, 1), 0);
	one = (struct iovec){ out, DISK_SECTOR };
	assert_int_equal(disk_write(d, BYTES, &one, 1), -1);
	one = (struct iovec){ out, DISK_SECTOR + 1 };
	assert_int_equal(disk_write(d, BYTES - DISK_SECTOR, &one, 1), -1);
	one = (struct iovec){ in, 1 };
	assert_int_equal(disk_read(d, UINT64_MAX, &one, 1), -1);
	struct stat st;
	assert_int_equal(stat(f->image, &st), 0);
	assert_int_equal(st.st_size, BYTES);
	assert_int_equal(disk_flush(d), 0);

	assert_int_equal(disk_write_zeroes(d, 6 * DISK_SECTOR, DISK_SECTOR, false), 0);
	assert_int_equal(disk_write_zeroes(d, 7 * DISK_SECTOR, DISK_SECTOR, true), 0);
	assert_int_equal(disk_write_zeroes(d, BYTES - DISK_SECTOR, 2 * DISK_SECTOR, true), -1);
	one = (struct iovec){ in, sizeof in };
	assert_int_equal(disk_read(d, 5 * DISK_SECTOR, &one, 1), 0);
	assert_memory_equal(in, out, DISK_SECTOR);
	for (unsigned i = DISK_SECTOR; i < sizeof in; i++)
		assert_int_equal(in[i], 0);
	assert_int_equal(disk_discard(d, 0, BYTES), 0);
	assert_int_equal(disk_discard(d, DISK_SECTOR, BYTES), -1);
	/* The file shrinks under us: an error, not a crash. */
	assert_int_equal(truncate(f->image, DISK_SECTOR), 0);
	one = (struct iovec){ in, DISK_SECTOR };
	assert_int_equal(disk_read(d, DISK_SECTOR, &one, 1), -1);
	disk_close(d);
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct error e;
	struct disk *d = disk_raw_open(f->image, DISK_RAW_WHOLE, true, &e);
	uint8_t sector[DISK_SECTOR];
	struct iovec one = { sector, sizeof sector };
	assert_non_null(d);
	assert_int_equal(disk_write(d, 0, &one, 1), -1);
	assert_int_equal(disk_discard(d, 0, DISK_SECTOR), -1);
	assert_int_equal(disk_write_zeroes(d, 0, DISK_SECTOR, false), -1);
	assert_int_equal(disk_flush(d), 0);
	assert_int_equal(disk_read(d, 0, &one, 1), 0);
	disk_close(d);
}

static void test_id(void **state)
{
	struct fixture *f = *state;
	struct error e;
	char id[8];
	struct disk *d = disk_raw_open(f->image, DISK_RAW_WHOLE, true, &e);
	disk_id(d, id, sizeof id);
	assert_memory_equal(id, "disk.img", 8);
	disk_id(d, id, 4);
	assert_memory_equal(id, ".img.img", 8);
	disk_close(d);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_errors),
		TEST(test_locks),
		TEST(test_read_write),
		TEST(test_readonly),
		TEST(test_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
