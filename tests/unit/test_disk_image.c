/* What disks' files say of themselves, and what they cannot make us believe. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bits.h"
#include "disk/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE (64 * MIB)

static char directory[64];

static void shell(const char *command)
{
	if (system(command))
		fail_msg("failed: %s", command);
}

static int setup(void **state)
{
	snprintf(directory, sizeof directory, "/tmp/test_disk_image.XXXXXX");
	return mkdtemp(directory) && !chdir(directory) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	return chdir("/") || system(command);
}

static const char *path(const char *name)
{
	static char text[256];
	snprintf(text, sizeof text, "%s/%s", directory, name);
	return text;
}

static void patch(const char *name, off_t offset, const void *bytes, size_t n)
{
	int fd = open(name, O_WRONLY);
	assert_int_equal(pwrite(fd, bytes, n, offset), n);
	close(fd);
}

static struct disk_image sound(const char *name)
{
	struct disk_image i;
	struct error e = { 0 };
	if (disk_image_read(&i, path(name), &e))
		fail_msg("%s", e.text);
	return i;
}

static void faulty(const char *name, enum disk_fault fault, const char *words)
{
	struct disk_chain c;
	struct error e = { 0 };
	enum disk_fault got = disk_chain_read(&c, path(name), &e);
	if (got != fault)
		fail_msg("%s: %d instead of %d (%s)", name, got, fault, e.text);
	assert_int_equal(c.count, 0);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void test_names(void **state)
{
	assert_int_equal(disk_format_of("/a/b.vhdx"), DISK_FORMAT_VHDX);
	assert_int_equal(disk_format_of("/a/b.AVHDX"), DISK_FORMAT_VHDX);
	assert_int_equal(disk_format_of("/a/b.Vhd"), DISK_FORMAT_VHD);
	assert_int_equal(disk_format_of("/a/b.qcow2"), DISK_FORMAT_QCOW2);
	assert_int_equal(disk_format_of("/a/b.img"), DISK_FORMAT_RAW);
	assert_int_equal(disk_format_of("/dev/sdb"), DISK_FORMAT_RAW);
	assert_int_equal(disk_format_of("vhdx"), DISK_FORMAT_RAW);
	assert_true(disk_is_named("x.raw"));
	assert_false(disk_is_named("/etc/shadow"));
	assert_false(disk_is_named("x.qcow2.bak"));
}

static void test_sound(void **state)
{
	shell("qemu-img create -q -f vhdx -o block_size=4M d.vhdx 64M");
	shell("qemu-img create -q -f vhdx -o subformat=fixed f.vhdx 64M");
	shell("qemu-img create -q -f vpc -o force_size=on d.vhd 64M");
	shell("qemu-img create -q -f vpc -o force_size=on,subformat=fixed f.vhd 64M");
	shell("qemu-img create -q -f qcow2 -o cluster_size=32k d.qcow2 64M");
	shell("qemu-img create -q -f qcow2 -o compat=0.10 -F qcow2 -b d.qcow2 old.qcow2");
	shell("truncate -s 64M d.img");
	static const struct {
		const char *name;
		enum disk_format format;
		enum disk_type type;
		uint64_t block;
		bool flat, identified;
	} wanted[] = {
		{ "d.vhdx", DISK_FORMAT_VHDX, DISK_TYPE_DYNAMIC, 4 * MIB, false, true },
		{ "f.vhdx", DISK_FORMAT_VHDX, DISK_TYPE_FIXED, 8 * MIB, false, true },
		{ "d.vhd", DISK_FORMAT_VHD, DISK_TYPE_DYNAMIC, 2 * MIB, false, true },
		{ "f.vhd", DISK_FORMAT_VHD, DISK_TYPE_FIXED, 0, true, true },
		{ "d.qcow2", DISK_FORMAT_QCOW2, DISK_TYPE_DYNAMIC, 32 * KIB, false, false },
		{ "old.qcow2", DISK_FORMAT_QCOW2, DISK_TYPE_DIFFERENCING, 64 * KIB, false, false },
		{ "d.img", DISK_FORMAT_RAW, DISK_TYPE_FIXED, 0, true, false },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(wanted); n++) {
		struct disk_image i = sound(wanted[n].name);
		assert_int_equal(i.format, wanted[n].format);
		assert_int_equal(i.type, wanted[n].type);
		assert_int_equal(i.size, SIZE);
		assert_int_equal(i.block_size, wanted[n].block);
		assert_int_equal(i.logical_sector, 512);
		assert_int_equal(disk_image_is_flat(&i), wanted[n].flat);
		assert_int_equal(strlen(i.identifier), wanted[n].identified ? 36 : 0);
		assert_null(i.unsupported);
		assert_int_equal(!i.parent, wanted[n].type != DISK_TYPE_DIFFERENCING);
		disk_image_free(&i);
	}
}

static void test_corrupt(void **state)
{
	static const uint8_t junk[4096] = { 1, 2, 3 };
	shell("qemu-img create -q -f vhdx a.vhdx 64M");
	shell("cp a.vhdx one.vhdx; cp a.vhdx both.vhdx; cp a.vhdx region.vhdx; cp a.vhdx data.vhdx");
	/* One damaged header of two does no harm. */
	patch("one.vhdx", 64 << 10, junk, sizeof junk);
	patch("one.vhdx", 192 << 10, junk, sizeof junk);
	struct disk_image i = sound("one.vhdx");
	disk_image_free(&i);
	patch("both.vhdx", 64 << 10, junk, sizeof junk);
	patch("both.vhdx", 128 << 10, junk, sizeof junk);
	faulty("both.vhdx", DISK_FAULT_CORRUPT, "both its headers are damaged");
	patch("region.vhdx", (192 << 10) + 100, junk, sizeof junk);
	patch("region.vhdx", (256 << 10) + 100, junk, sizeof junk);
	faulty("region.vhdx", DISK_FAULT_CORRUPT, "tables of regions");
	patch("data.vhdx", (3 << 20) + 32, junk, sizeof junk);
	faulty("data.vhdx", DISK_FAULT_CORRUPT, "metadata lacks");
	shell("truncate -s 100 short.vhdx; truncate -s 100 short.vhd; truncate -s 40 short.qcow2; truncate -s 0 short.img");
	faulty("short.vhdx", DISK_FAULT_CORRUPT, "mark of one");
	faulty("short.vhd", DISK_FAULT_CORRUPT, "footer");
	faulty("short.qcow2", DISK_FAULT_CORRUPT, "mark of one");
	faulty("short.img", DISK_FAULT_CORRUPT, "0 bytes");
	shell("truncate -s 1000 odd.img");
	faulty("odd.img", DISK_FAULT_CORRUPT, "1000 bytes");
	shell("qemu-img create -q -f vpc -o force_size=on a.vhd 64M; cp a.vhd end.vhd; cp a.vhd dyn.vhd");
	/* A growing disk has a copy of its footer. */
	shell("truncate -s -512 end.vhd");
	i = sound("end.vhd");
	disk_image_free(&i);
	patch("dyn.vhd", 512 + 32, junk, 4);
	faulty("dyn.vhd", DISK_FAULT_CORRUPT, "dynamic disk is damaged");
	shell("qemu-img create -q -f vpc -o force_size=on,subformat=fixed f.vhd 64M; truncate -s -512 f.vhd");
	faulty("f.vhd", DISK_FAULT_CORRUPT, "footer is missing");
	shell("qemu-img create -q -f qcow2 a.qcow2 64M; cp a.qcow2 version.qcow2; cp a.qcow2 marked.qcow2");
	patch("version.qcow2", 7, "\x09", 1);
	faulty("version.qcow2", DISK_FAULT_CORRUPT, "unknown version");
	patch("marked.qcow2", 79, "\x02", 1);
	faulty("marked.qcow2", DISK_FAULT_CORRUPT, "marked as corrupt");
	/* The wrong name for a sound disk. */
	shell("cp a.qcow2 wrong.vhdx");
	faulty("wrong.vhdx", DISK_FAULT_CORRUPT, "no sound VHDX");
}

static void test_unsupported(void **state)
{
	static const uint8_t logical[] = { 0x00, 0x10, 0, 0 }, has_parent[] = { 2 }, type_4[] = { 4 };
	shell("qemu-img create -q -f vhdx a.vhdx 64M; cp a.vhdx child.vhdx");
	/* Where qemu-img puts the items: behind 64 KiB of the metadata, in this order. */
	patch("a.vhdx", (3 << 20) + (64 << 10) + 32, logical, sizeof logical);
	faulty("a.vhdx", DISK_FAULT_UNSUPPORTED, "logical sectors of 4096");
	patch("child.vhdx", (3 << 20) + (64 << 10) + 4, has_parent, sizeof has_parent);
	faulty("child.vhdx", DISK_FAULT_UNSUPPORTED, "differencing VHDX");
	struct disk_image i = sound("child.vhdx");
	assert_int_equal(i.type, DISK_TYPE_DIFFERENCING);
	disk_image_free(&i);
	shell("qemu-img create -q -f vpc -o force_size=on a.vhd 64M");
	/* The checksum is the complement of the sum: one more here, one less there. */
	for (unsigned n = 0; n < 2; n++) {
		int fd = open("a.vhd", O_RDWR);
		uint8_t last;
		off_t footer = n ? lseek(fd, -512, SEEK_END) : 0;
		assert_int_equal(pread(fd, &last, 1, footer + 67), 1);
		last--;
		assert_int_equal(pwrite(fd, &last, 1, footer + 67), 1);
		assert_int_equal(pwrite(fd, type_4, 1, footer + 63), 1);
		close(fd);
	}
	faulty("a.vhd", DISK_FAULT_UNSUPPORTED, "differencing VHDs");
	static const uint8_t luks[] = { 2 };
	shell("qemu-img create -q -f qcow2 secret.qcow2 1M");
	patch("secret.qcow2", 35, luks, sizeof luks);
	faulty("secret.qcow2", DISK_FAULT_UNSUPPORTED, "encryption");
	shell("qemu-img create -q -f qcow2 -o data_file=outer.raw,data_file_raw=on outer.qcow2 1M");
	faulty("outer.qcow2", DISK_FAULT_UNSUPPORTED, "its data in another file");
}

static void test_parents(void **state)
{
	shell("truncate -s 1M p.img");
	shell("qemu-img create -q -u -f qcow2 -F raw -b p.img c.qcow2 1M");
	struct disk_chain c;
	struct error e = { 0 };
	assert_int_equal(disk_chain_read(&c, path("c.qcow2"), &e), DISK_FAULT_NONE);
	assert_int_equal(c.count, 2);
	assert_string_equal(c.image[1].path, path("p.img"));
	disk_chain_free(&c);
	shell("rm p.img");
	faulty("c.qcow2", DISK_FAULT_PARENT, "p.img cannot be opened");
	/* A header cannot name what is no disk, nor say more than a path. */
	shell("qemu-img create -q -u -f qcow2 -F raw -b /etc/passwd steal.qcow2 1M");
	faulty("steal.qcow2", DISK_FAULT_UNSUPPORTED, "not called a disk");
	shell("qemu-img create -q -u -f qcow2 -F raw -b 'json:{\"driver\":\"file\",\"filename\":\"/x.img\"}' json.qcow2 1M");
	faulty("json.qcow2", DISK_FAULT_UNSUPPORTED, "not named by a file's path");
	shell("qemu-img create -q -u -f qcow2 -F raw -b nbd://localhost/x.img nbd.qcow2 1M");
	faulty("nbd.qcow2", DISK_FAULT_UNSUPPORTED, "not named by a file's path");
	/* The name says raw, the child qcow2. */
	shell("qemu-img create -q -f qcow2 q.img 1M; qemu-img create -q -u -f qcow2 -F qcow2 -b q.img says.qcow2 1M");
	faulty("says.qcow2", DISK_FAULT_UNSUPPORTED, "not what the parent's name says");
	shell("qemu-img create -q -u -f qcow2 -F qcow2 -b b.qcow2 a.qcow2 1M;"
	      "qemu-img create -q -u -f qcow2 -F qcow2 -b a.qcow2 b.qcow2 1M");
	faulty("a.qcow2", DISK_FAULT_UNSUPPORTED, "is its own");
}

/* Any bytes in the headers: an answer, and no access outside of anything. */
static void test_random_headers(void **state)
{
	static const char *const names[] = { "a.vhdx", "a.vhd", "a.qcow2" };
	static const off_t places[][4] = {
		{ 192 << 10, 3 << 20, (3 << 20) + 32, (3 << 20) + (64 << 10) },
		{ 0, 512, 512 + 16, 40 }, { 4, 8, 16, 100 },
	};
	shell("qemu-img create -q -f vhdx a.vhdx 64M; qemu-img create -q -f vpc a.vhd 64M; truncate -s 1M p.img;"
	      "qemu-img create -q -f qcow2 -F raw -b p.img a.qcow2");
	srandom(1);
	for (unsigned n = 0; n < 300; n++) {
		const unsigned which = n % 3;
		struct disk_chain c;
		struct error e;
		uint8_t old[32], new[32];
		off_t at = places[which][random() % 4] + random() % 64;
		int fd = open(names[which], O_RDWR);
		size_t length = 1 + (size_t)random() % sizeof new;
		assert_int_equal(pread(fd, old, length, at), length);
		for (size_t i = 0; i < length; i++)
			new[i] = random() % 3 ? (uint8_t)random() : 0xff;
		assert_int_equal(pwrite(fd, new, length, at), length);
		if (!disk_chain_read(&c, path(names[which]), &e))
			disk_chain_free(&c);
		assert_int_equal(pwrite(fd, old, length, at), length);
		close(fd);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names), TEST(test_sound), TEST(test_corrupt), TEST(test_unsupported),
		TEST(test_parents), TEST(test_random_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
