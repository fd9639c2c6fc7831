#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_blk.h"
#include "virtio_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

enum {
	SECTORS = 1024, BYTES = SECTORS * DISK_SECTOR, QUEUE_SIZE = 32,
	HEADER = RIG_DATA, STATUS = RIG_DATA + 0x100, PAYLOAD = RIG_DATA + 0x1000,
	NOT_WRITTEN = 0x77,
};

struct fixture {
	struct rig rig;
	struct disk *disk;
	char path[64];
};

/* In place of the C library's: how often the disk was made stable; and, while
 * `slow`, not before it is let go. */
static unsigned syncs;
static bool slow;
static sem_t begun, let_go;

int fdatasync(int fd)
{
	syncs++;
	if (slow) {
		sem_post(&begun);
		sem_wait(&let_go);
	}
	return fsync(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	uint8_t sector[DISK_SECTOR];
	snprintf(f->path, sizeof f->path, "/tmp/test_virtio_blk.XXXXXX");
	int fd = mkstemp(f->path);
	if (fd < 0)
		return -1;
	for (unsigned i = 0; i < SECTORS; i++) {
		memset(sector, (int)i, sizeof sector);
		store_le(sector, i, 4);
		if (write(fd, sector, sizeof sector) != sizeof sector)
			return -1;
	}
	close(fd);
	*state = f;
	return 0;
}

static void open_disk_of(struct fixture *f, bool readonly, uint32_t physical_sector)
{
	struct error e;
	rig_create(&f->rig);
	f->disk = disk_open(f->path, readonly, &e);
	assert_non_null(f->disk);
	f->disk->physical_sector = physical_sector;
	struct virtio_device *v = virtio_blk_create(f->rig.pci, RIG_SLOT, f->rig.memory,
						    bus_lock(f->rig.bus), f->disk, &e);
	assert_non_null(v);
	rig_probe(&f->rig, v);
}

static void open_disk(struct fixture *f, bool readonly)
{
	open_disk_of(f, readonly, DISK_SECTOR);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->disk) {
		rig_destroy(&f->rig);
		disk_close(f->disk);
	}
	unlink(f->path);
	free(f);
	return 0;
}

static void header(struct rig *r, uint32_t type, uint64_t sector)
{
	guest_set(r, HEADER, type, 4);
	guest_set(r, HEADER + 4, 0, 4);
	guest_set(r, HEADER + 8, sector, 8);
	guest_set(r, STATUS, NOT_WRITTEN, 1);
}

/* One request with one payload piece (length 0: none); its status. */
static uint8_t request(struct rig *r, uint32_t type, uint64_t sector, uint32_t length, bool in,
		       uint32_t *written)
{
	const struct piece pieces[] = {
		{ HEADER, 16, false }, { PAYLOAD, length, in }, { STATUS, 1, true },
	};
	const struct piece bare[] = { pieces[0], pieces[2] };
	uint32_t head, dummy;
	uint8_t status = 0;
	header(r, type, sector);
	uint16_t offered = rig_offer(r, 0, length ? pieces : bare, length ? 3 : 2);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, written ? written : &dummy));
	assert_int_equal(head, offered);
	memory_read(r->memory, STATUS, &status, 1);
	return status;
}

static void file_sector(struct fixture *f, unsigned sector, uint8_t *to)
{
	int fd = open(f->path, O_RDONLY);
	assert_int_equal(pread(fd, to, DISK_SECTOR, (off_t)sector * DISK_SECTOR), DISK_SECTOR);
	close(fd);
}

static void test_configuration(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	open_disk(f, false);
	assert_int_equal(rig_read(r, 0, 4), 0x10421af4);
	assert_int_equal(mmio_read(r, r->config, 4), SECTORS);
	assert_int_equal(mmio_read(r, r->config + 4, 4), 0);
	assert_int_equal(mmio_read(r, r->config, 8), SECTORS);
	assert_int_equal(mmio_read(r, r->config + offsetof(struct virtio_blk_config, seg_max), 4),
			 126);
	assert_int_equal(mmio_read(r, r->config + offsetof(struct virtio_blk_config, blk_size), 4),
			 512);
	/* Read-only, and zero behind its end. */
	mmio_write(r, r->config, 4, 1);
	assert_int_equal(mmio_read(r, r->config, 4), SECTORS);
	assert_int_equal(mmio_read(r, r->config + 0xff8, 8), 0);
	uint64_t features = rig_features(r);
	assert_true(features & BIT(VIRTIO_BLK_F_FLUSH));
	assert_false(features & (BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_TOPOLOGY)));
}

static void test_physical_sectors(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	open_disk_of(f, false, 4096);
	assert_true(rig_features(r) & BIT(VIRTIO_BLK_F_TOPOLOGY));
	assert_int_equal(mmio_read(r, r->config + offsetof(struct virtio_blk_config, blk_size), 4), 512);
	assert_int_equal(mmio_read(r, r->config +
		offsetof(struct virtio_blk_config, physical_block_exp), 1), 3);
	assert_int_equal(mmio_read(r, r->config + offsetof(struct virtio_blk_config, min_io_size), 2), 8);
}

static void test_read_write(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t data[4096], sector[DISK_SECTOR];
	uint32_t written;
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 100, 4096, true, &written), 0);
	assert_int_equal(written, 4097);
	memory_read(r->memory, PAYLOAD, data, sizeof data);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(load_le(data + i * DISK_SECTOR, 4), 100 + i);
		assert_int_equal(data[i * DISK_SECTOR + 511], 100 + i);
	}
	memset(data, 0xe7, sizeof data);
	memory_write(r->memory, PAYLOAD, data, 1024);
	assert_int_equal(request(r, VIRTIO_BLK_T_OUT, 7, 1024, false, &written), 0);
	assert_int_equal(written, 1);
	assert_int_equal(request(r, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), 0);
	file_sector(f, 7, sector);
	assert_memory_equal(sector, data, DISK_SECTOR);
	file_sector(f, 8, sector);
	assert_memory_equal(sector, data, DISK_SECTOR);
	file_sector(f, 9, sector);
	assert_int_equal(sector[100], 9);
	file_sector(f, 6, sector);
	assert_int_equal(sector[100], 6);
	assert_int_equal(r->messages, 3);
	assert_int_equal(r->message[0].data, RIG_VECTOR_DATA + 1);
}

/* Header, payload and status cut in pieces as no sane driver would. */
static void test_odd_framing(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	const struct piece in[] = {
		{ HEADER, 3, false }, { HEADER + 3, 13, false },
		{ PAYLOAD, 100, true }, { PAYLOAD + 0x2000, 412, true },
		{ PAYLOAD + 0x4000, 511, true }, { STATUS - 1, 2, true },
	};
	const struct piece out[] = {
		{ HEADER, 15, false }, { RIG_DATA + 0x800, 1 + 256, false },
		{ PAYLOAD, 256, false }, { STATUS, 1, true },
	};
	uint32_t head, length;
	uint8_t status, sector[DISK_SECTOR];
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, 0);
	header(r, VIRTIO_BLK_T_IN, 20);
	rig_offer(r, 0, in, ARRAY_SIZE(in));
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(length, 1025);
	memory_read(r->memory, STATUS, &status, 1);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
	assert_int_equal(guest32(r, PAYLOAD), 20);
	assert_int_equal(guest32(r, PAYLOAD + 0x4000), 21);
	memory_read(r->memory, STATUS - 1, &status, 1);
	assert_int_equal(status, 21);

	header(r, VIRTIO_BLK_T_OUT, 30);
	memory_fill(r->memory, RIG_DATA + 0x800, 0, 1);	/* the header's last byte */
	memory_fill(r->memory, RIG_DATA + 0x801, 0xaa, 256);
	memory_fill(r->memory, PAYLOAD, 0xbb, 256);
	rig_offer(r, 0, out, ARRAY_SIZE(out));
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	file_sector(f, 30, sector);
	assert_int_equal(sector[0], 0xaa);
	assert_int_equal(sector[255], 0xaa);
	assert_int_equal(sector[256], 0xbb);
	assert_int_equal(sector[511], 0xbb);
}

static void test_bounds(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	static const struct { uint64_t sector; uint32_t length; } bad[] = {
		{ SECTORS, 512 }, { SECTORS - 1, 1024 }, { UINT64_MAX, 512 },
		{ UINT64_MAX / 512, 512 }, { 1ull << 55, 512 }, { 0, 511 }, { 0, 513 }, { 0, 1 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(request(r, VIRTIO_BLK_T_IN, bad[i].sector, bad[i].length, true,
					 NULL), VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(r, VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].length, false,
					 NULL), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, SECTORS - 1, 512, true, NULL), 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, SECTORS, 0, true, NULL), 0);
	/* Payload of the wrong direction is no payload. */
	assert_int_equal(request(r, VIRTIO_BLK_T_OUT, 0, 512, true, NULL), 0);
	assert_int_equal(request(r, 0x1234, 0, 512, true, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(rig_status(r), 0xf);
	assert_int_equal(f->disk->size, BYTES);
	uint8_t sector[DISK_SECTOR];
	file_sector(f, 0, sector);
	assert_int_equal(sector[100], 0);
}

/* A driver that knows flush gets a write-back disk; for another each write is
 * stable before it ends ("Block Device", VIRTIO_BLK_F_FLUSH). */
static void test_stability(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	open_disk(f, false);
	syncs = 0;
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(r, VIRTIO_BLK_T_OUT, 1, 512, false, NULL), 0);
	assert_int_equal(syncs, 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), 0);
	assert_int_equal(syncs, 1);
	rig_start(r, 1, QUEUE_SIZE, 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_OUT, 1, 512, false, NULL), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 1, 512, true, NULL), 0);
	assert_int_equal(syncs, 2);
}

static void test_id(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	char id[21] = { 0 };
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_GET_ID, 0, 20, true, NULL), 0);
	memory_read(r->memory, PAYLOAD, id, 20);
	assert_string_equal(id, strrchr(f->path, '/') + 1 + strlen("test_virtio_blk.XXXXXX") - 20);
	assert_int_equal(request(r, VIRTIO_BLK_T_GET_ID, 0, 19, true, NULL), VIRTIO_BLK_S_IOERR);
}

static uint8_t clear_request(struct rig *r, uint32_t type, uint64_t sector, uint32_t sectors,
			     uint32_t flags)
{
	guest_set(r, PAYLOAD, sector, 8);
	guest_set(r, PAYLOAD + 8, sectors, 4);
	guest_set(r, PAYLOAD + 12, flags, 4);
	return request(r, type, 0, 16, false, NULL);
}

static void test_zeroes_and_discard(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t sector[DISK_SECTOR], zero[DISK_SECTOR] = { 0 };
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_WRITE_ZEROES) | BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_WRITE_ZEROES, 40, 3, 0), 0);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_WRITE_ZEROES, 43, 1, 1), 0);
	for (unsigned i = 40; i < 44; i++) {
		file_sector(f, i, sector);
		assert_memory_equal(sector, zero, sizeof zero);
	}
	file_sector(f, 44, sector);
	assert_int_equal(sector[9], 44);
	file_sector(f, 39, sector);
	assert_int_equal(sector[9], 39);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_DISCARD, 50, 8, 0), 0);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_DISCARD, 50, 8, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_WRITE_ZEROES, 50, 8, 2),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_WRITE_ZEROES, SECTORS, 1, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_DISCARD, SECTORS - 1, 2, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(r, VIRTIO_BLK_T_DISCARD, 0, 32, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(r, VIRTIO_BLK_T_DISCARD, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t sector[DISK_SECTOR];
	open_disk(f, true);
	uint64_t features = rig_features(r);
	assert_true(features & BIT(VIRTIO_BLK_F_RO));
	assert_false(features & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_RO));
	memory_fill(r->memory, PAYLOAD, 0xcc, 512);
	assert_int_equal(request(r, VIRTIO_BLK_T_OUT, 3, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(clear_request(r, VIRTIO_BLK_T_WRITE_ZEROES, 3, 1, 0), VIRTIO_BLK_S_IOERR);
	file_sector(f, 3, sector);
	assert_int_equal(sector[8], 3);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 3, 512, true, NULL), VIRTIO_BLK_S_OK);
}

static void test_host_error(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, 0);
	assert_int_equal(truncate(f->path, 10 * DISK_SECTOR), 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 10, 512, true, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 9, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 9, 1024, true, NULL), VIRTIO_BLK_S_IOERR);
}

static void test_broken_requests(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	static const struct { struct piece piece[2]; unsigned count; } bad[] = {
		{ { { HEADER, 16, false } }, 1 },			/* no status */
		{ { { HEADER, 15, false }, { STATUS, 1, true } }, 2 },
		{ { { STATUS, 1, true } }, 1 },				/* no header */
		{ { { HEADER, 16, false }, { STATUS, 0, true } }, 2 },
	};
	open_disk(f, false);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		rig_start(r, 1, QUEUE_SIZE, 0);
		header(r, VIRTIO_BLK_T_IN, 0);
		rig_offer(r, 0, bad[i].piece, bad[i].count);
		rig_kick(r, 0);
		assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_false(rig_take(r, 0, &head, &length));
	}
	rig_start(r, 1, QUEUE_SIZE, 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 1, 512, true, NULL), 0);
}

static void test_batch(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_RING_F_EVENT_IDX));
	guest_set(r, rig_avail(0) + 4 + 2 * QUEUE_SIZE, 9, 2);	/* at the tenth */
	for (unsigned i = 0; i < 10; i++) {
		uint64_t at = RIG_DATA + 0x1000 * i;
		const struct piece pieces[] = {
			{ at, 16, false }, { at + 0x200, 512, true }, { at + 0x100, 1, true },
		};
		guest_set(r, at, VIRTIO_BLK_T_IN, 8);
		guest_set(r, at + 8, 60 + i, 8);
		rig_offer(r, 0, pieces, 3);
	}
	rig_kick(r, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_true(rig_take(r, 0, &head, &length));
		assert_int_equal(guest32(r, RIG_DATA + 0x1000 * i + 0x200), 60 + i);
	}
	assert_false(rig_take(r, 0, &head, &length));
	assert_int_equal(r->messages, 1);
}

static void *kick(void *rig)
{
	rig_kick(rig, 0);
	return NULL;
}

static void *reset(void *rig)
{
	struct rig *r = rig;
	mmio_write(r, r->common + offsetof(struct virtio_pci_common_cfg, device_status), 1, 0);
	return NULL;
}

/* A slow disk holds nobody but who asked: others use the board. A reset waits
 * until the disk is done with the guest's memory, and what was asked for before
 * it is not answered after it. */
static void test_slow_disk(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	const struct piece pieces[] = { { HEADER, 16, false }, { STATUS, 1, true } };
	pthread_t kicker, resetter, second;
	uint32_t head, written;
	struct timespec soon;
	open_disk(f, false);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(sem_init(&begun, 0, 0) | sem_init(&let_go, 0, 0), 0);
	slow = true;
	header(r, VIRTIO_BLK_T_FLUSH, 0);
	rig_offer(r, 0, pieces, 2);
	assert_int_equal(pthread_create(&kicker, NULL, kick, r), 0);
	sem_wait(&begun);
	/* The board is free, and a second notification waits its turn. */
	assert_int_equal(mmio_read(r, r->config, 4), SECTORS);
	rig_offer(r, 0, pieces, 2);
	assert_int_equal(pthread_create(&second, NULL, kick, r), 0);
	assert_false(rig_take(r, 0, &head, &written));
	sem_post(&let_go);	/* the first */
	sem_wait(&begun);
	sem_post(&let_go);	/* the second, whoever does it */
	pthread_join(kicker, NULL);
	pthread_join(second, NULL);
	assert_true(rig_take(r, 0, &head, &written));
	assert_true(rig_take(r, 0, &head, &written));
	/* A reset in the middle. */
	int messages = r->messages;
	rig_offer(r, 0, pieces, 2);
	assert_int_equal(pthread_create(&kicker, NULL, kick, r), 0);
	sem_wait(&begun);
	assert_int_equal(pthread_create(&resetter, NULL, reset, r), 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 50000000;
	soon.tv_sec += soon.tv_nsec / 1000000000;
	soon.tv_nsec %= 1000000000;
	assert_int_equal(pthread_timedjoin_np(resetter, NULL, &soon), ETIMEDOUT);
	slow = false;
	sem_post(&let_go);
	pthread_join(kicker, NULL);
	pthread_join(resetter, NULL);
	assert_false(rig_take(r, 0, &head, &written));
	assert_int_equal(r->messages, messages);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(r, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), 0);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct device *bus;
	struct state s = { 0 };
	struct error e;
	open_disk(f, false);
	bus = pci_bus_device(r->pci);
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 1, 512, true, NULL), 0);
	bus->ops->save(bus, &s);
	bus->ops->reset(bus);
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_int_equal(request(r, VIRTIO_BLK_T_IN, 2, 512, true, NULL), 0);
	assert_int_equal(guest32(r, PAYLOAD), 2);
	assert_int_equal(r->messages, 2);
	/* The same state over a readonly disk lacks what was negotiated. */
	rig_start(r, 1, QUEUE_SIZE, BIT(VIRTIO_BLK_F_DISCARD));
	state_free(&s);
	bus->ops->save(bus, &s);
	rig_destroy(r);
	disk_close(f->disk);
	open_disk(f, true);
	bus = pci_bus_device(r->pci);
	assert_int_equal(bus->ops->load(bus, &s, &e), -1);
	assert_non_null(strstr(e.text, "features 0x2000 "));
	state_free(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_configuration),
		TEST(test_physical_sectors),
		TEST(test_read_write),
		TEST(test_odd_framing),
		TEST(test_bounds),
		TEST(test_stability),
		TEST(test_id),
		TEST(test_zeroes_and_discard),
		TEST(test_readonly),
		TEST(test_host_error),
		TEST(test_broken_requests),
		TEST(test_batch),
		TEST(test_slow_disk),
		TEST(test_save_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
