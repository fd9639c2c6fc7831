#include "virtio/virtio_blk.h"

#include "base/log.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>

#include <stdio.h>
#include <stdlib.h>

/* Requests are carried out at once, in the notification ("Block Device"), by the
 * processor that notified. While the disk works it lets the board lock go, so
 * that the other processors and devices go on; who notifies or resets the device
 * meanwhile waits until it is idle, so there is one request at a time.
 * SIZE_MAX and SEG_MAX bound what a well-behaved driver asks for in one
 * request, and REQUEST_MAX is what any driver gets. */

enum {
	CLASS_STORAGE = 0x010000,
	REQUEST_QUEUE = 0,
	QUEUE_SIZE = 128,
	SEGMENTS_MAX = QUEUE_SIZE - 2,	/* a request has a header and a status, too */
	SEGMENT_BYTES_MAX = 128 << 10,
	REQUEST_MAX = SEGMENTS_MAX * SEGMENT_BYTES_MAX,
	DISCARD_SECTORS_MAX = 4 << 20,
	ZEROES_SECTORS_MAX = 32 << 10,
	STATUS_BYTES = 1,
};

struct blk {
	struct virtio_device virtio;
	struct disk *disk;
	struct virtio_blk_config config;
	pthread_mutex_t *lock;		/* the board lock */
	bool working;			/* some processor works through the queue */
	pthread_cond_t idle;		/* it no longer does */
};

static bool in_disk(const struct blk *b, uint64_t sector, uint64_t bytes)
{
	uint64_t sectors = bytes / DISK_SECTOR;
	return !(bytes % DISK_SECTOR) && sector <= b->config.capacity &&
		sectors <= b->config.capacity - sector;
}

static uint8_t read_sectors(struct blk *b, const struct virtq_chain *c, uint64_t sector,
			    uint32_t bytes)
{
	struct memory *m = b->virtio.memory;
	struct iovec iov[VIRTQ_MAX_SIZE], moving[VIRTQ_MAX_SIZE];
	if (bytes > REQUEST_MAX || !in_disk(b, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	unsigned count = virtq_iovec(c, m, true, 0, bytes, iov);
	memcpy(moving, iov, count * sizeof *iov);
	pthread_mutex_unlock(b->lock);
	int failed = disk_read(b->disk, sector * DISK_SECTOR, moving, count);
	pthread_mutex_lock(b->lock);
	virtq_wrote(m, iov, count);
	return failed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/* Without the flush feature the driver takes every write for stable. */
static int made_stable(struct blk *b, bool flushes)
{
	return flushes ? 0 : disk_flush(b->disk);
}

static uint8_t write_sectors(struct blk *b, const struct virtq_chain *c, uint64_t sector,
			     uint32_t bytes)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	if (b->disk->readonly || bytes > REQUEST_MAX || !in_disk(b, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	unsigned count = virtq_iovec(c, b->virtio.memory, false, sizeof(struct virtio_blk_outhdr),
				     bytes, iov);
	bool flushes = virtio_has(&b->virtio, VIRTIO_BLK_F_FLUSH);
	pthread_mutex_unlock(b->lock);
	int failed = disk_write(b->disk, sector * DISK_SECTOR, iov, count) || made_stable(b, flushes);
	pthread_mutex_lock(b->lock);
	return failed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/* Discard and write zeroes: one range, as max_discard_seg and
 * max_write_zeroes_seg say. */
static uint8_t clear_sectors(struct blk *b, const struct virtq_chain *c, uint32_t type)
{
	struct virtio_blk_discard_write_zeroes range;
	bool discard = type == VIRTIO_BLK_T_DISCARD;
	uint32_t allowed = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if (b->disk->readonly ||
	    c->out_bytes != sizeof(struct virtio_blk_outhdr) + sizeof range)
		return VIRTIO_BLK_S_IOERR;
	virtq_copy_out(c, b->virtio.memory, sizeof(struct virtio_blk_outhdr), &range,
		       sizeof range);
	if (range.flags & ~allowed)
		return VIRTIO_BLK_S_UNSUPP;
	uint64_t bytes = (uint64_t)range.num_sectors * DISK_SECTOR;
	if (range.num_sectors > (discard ? DISCARD_SECTORS_MAX : ZEROES_SECTORS_MAX) ||
	    !in_disk(b, range.sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	bool flushes = virtio_has(&b->virtio, VIRTIO_BLK_F_FLUSH);
	pthread_mutex_unlock(b->lock);
	int failed = discard ? disk_discard(b->disk, range.sector * DISK_SECTOR, bytes) :
		disk_write_zeroes(b->disk, range.sector * DISK_SECTOR, bytes, range.flags);
	failed = failed || made_stable(b, flushes);
	pthread_mutex_lock(b->lock);
	return failed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t flush(struct blk *b)
{
	pthread_mutex_unlock(b->lock);
	int failed = disk_flush(b->disk);
	pthread_mutex_lock(b->lock);
	return failed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t get_id(struct blk *b, const struct virtq_chain *c, uint32_t bytes)
{
	char id[VIRTIO_BLK_ID_BYTES] = { 0 };
	if (bytes < sizeof id)
		return VIRTIO_BLK_S_IOERR;
	disk_id(b->disk, id, sizeof id);
	virtq_copy_in(c, b->virtio.memory, 0, id, sizeof id);
	return VIRTIO_BLK_S_OK;
}

static uint8_t request(struct blk *b, const struct virtq_chain *c,
		       const struct virtio_blk_outhdr *header)
{
	uint32_t in = c->in_bytes - STATUS_BYTES;
	switch (header->type) {
	case VIRTIO_BLK_T_IN:
		return read_sectors(b, c, header->sector, in);
	case VIRTIO_BLK_T_OUT:
		return write_sectors(b, c, header->sector, c->out_bytes - sizeof *header);
	case VIRTIO_BLK_T_FLUSH:
		return flush(b);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(b, c, in);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return clear_sectors(b, c, header->type);
	}
	return VIRTIO_BLK_S_UNSUPP;
}

static bool work(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		 struct virtq_fault *why)
{
	struct blk *b = container_of(v, struct blk, virtio);
	struct virtio_blk_outhdr header;
	if (c->out_bytes < sizeof header || c->in_bytes < STATUS_BYTES) {
		snprintf(why->text, sizeof why->text,
			 "a request has %u readable and %u writable bytes, too few for its header and status",
			 c->out_bytes, c->in_bytes);
		return false;
	}
	virtq_copy_out(c, v->memory, 0, &header, sizeof header);
	uint8_t status = request(b, c, &header);
	trace(VIRTIO, "virtio-blk: type %u sector %llu, %u out, %u in: status %u", header.type,
	      (unsigned long long)header.sector, c->out_bytes, c->in_bytes, status);
	virtq_copy_in(c, v->memory, c->in_bytes - STATUS_BYTES, &status, STATUS_BYTES);
	/* The status is the last byte, so all of them count as written. */
	*written = c->in_bytes;
	return true;
}

static void wait_until_idle(struct blk *b)
{
	while (b->working)
		pthread_cond_wait(&b->idle, b->lock);
}

static void notified(struct virtio_device *v, unsigned queue)
{
	struct blk *b = container_of(v, struct blk, virtio);
	wait_until_idle(b);
	if (!virtio_running(v) || !v->queue[queue].ring.enabled)
		return;
	b->working = true;
	virtio_process(v, queue, work);
	b->working = false;
	pthread_cond_broadcast(&b->idle);
}

/* The driver may use its memory for other things once the reset is done. */
static void blk_reset(struct virtio_device *v)
{
	wait_until_idle(container_of(v, struct blk, virtio));
}

static const struct virtio_ops blk_ops = {
	.device = { "virtio-blk", virtio_device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_BLOCK,
	.class_code = CLASS_STORAGE,
	.queues = REQUEST_QUEUE + 1,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.reset = blk_reset,
};

struct virtio_device *virtio_blk_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					pthread_mutex_t *lock, struct disk *disk, struct error *e)
{
	struct blk *b = alloc_zeroed(1, sizeof *b);
	uint64_t features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
		BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH);
	features |= disk->readonly ? BIT(VIRTIO_BLK_F_RO) :
		BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	if (disk->physical_sector > DISK_SECTOR)
		features |= BIT(VIRTIO_BLK_F_TOPOLOGY);
	b->disk = disk;
	b->lock = lock;
	pthread_cond_init(&b->idle, NULL);
	b->config = (struct virtio_blk_config){
		.capacity = disk->size / DISK_SECTOR,
		.size_max = SEGMENT_BYTES_MAX,
		.seg_max = SEGMENTS_MAX,
		.blk_size = DISK_SECTOR,
		.physical_block_exp = (uint8_t)__builtin_ctz(disk->physical_sector / DISK_SECTOR),
		.min_io_size = (uint16_t)(disk->physical_sector / DISK_SECTOR),
		.max_discard_sectors = DISCARD_SECTORS_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = 1,
		.max_write_zeroes_sectors = ZEROES_SECTORS_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};
	if (virtio_attach(&b->virtio, &blk_ops, bus, slot, m, features, &b->config,
			  offsetof(struct virtio_blk_config, unused1) + sizeof b->config.unused1, e)) {
		free(b);
		return NULL;
	}
	return &b->virtio;
}
