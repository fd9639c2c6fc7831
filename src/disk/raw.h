/* A raw disk: a file or block device whose bytes are the disk's. */
#ifndef NESTOR_DISK_RAW_H
#define NESTOR_DISK_RAW_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { DISK_SECTOR = 512 };

struct disk_raw {
	int fd;
	char *path;
	uint64_t size;			/* bytes, a multiple of DISK_SECTOR */
	bool readonly;
	bool complained;		/* a host error was logged; once is enough */
};

/* Open and lock a disk: exclusively, or shared with other readers when
 * readonly. NULL with the reason. */
struct disk_raw *disk_raw_open(const char *path, bool readonly, struct error *e);
void disk_raw_close(struct disk_raw *d);

/* All of these: 0, or -1 when the host failed or the range is not the disk's.
 * offset is in bytes. The iovec is used up. */
int disk_raw_read(struct disk_raw *d, uint64_t offset, struct iovec *iov, unsigned count);
int disk_raw_write(struct disk_raw *d, uint64_t offset, struct iovec *iov, unsigned count);
int disk_raw_flush(struct disk_raw *d);
/* The range's content is no longer needed: a hint. */
int disk_raw_discard(struct disk_raw *d, uint64_t offset, uint64_t bytes);
/* The range reads as zeroes; may_unmap: the host may give its space back. */
int disk_raw_write_zeroes(struct disk_raw *d, uint64_t offset, uint64_t bytes, bool may_unmap);
/* A name for the disk, at most n bytes: the end of its file's name. */
void disk_raw_id(const struct disk_raw *d, char *id, size_t n);

#endif
