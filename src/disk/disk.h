/* A disk: what a drive device reads and writes, whatever the file behind it is.
 *
 * disk_open chooses by the file's name alone (image.h): raw disks and fixed VHDs
 * are read and written by this process (raw.c); dynamic VHD, VHDX and qcow2 by a
 * qemu-nbd process of the disk's own (nbd.c, nbd_server.c). Whoever has a disk
 * calls the functions below, which check the range and the right to write before
 * any format's code sees the request. */
#ifndef NESTOR_DISK_DISK_H
#define NESTOR_DISK_DISK_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { DISK_SECTOR = 512 };

struct disk;

/* Ranges are the disk's; all: 0, or -1 after disk_failed. The iovec has no
 * element without bytes at its front, and is used up. */
struct disk_ops {
	void (*close)(struct disk *d);	/* frees d; flushing is the caller's affair */
	int (*read)(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count);
	int (*write)(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count);
	int (*flush)(struct disk *d);
	int (*discard)(struct disk *d, uint64_t offset, uint64_t bytes);
	int (*write_zeroes)(struct disk *d, uint64_t offset, uint64_t bytes, bool may_unmap);
	void (*hurry)(struct disk *d);	/* NULL: it waits for nobody */
};

struct disk {
	const struct disk_ops *ops;
	char *path;
	uint64_t size;			/* bytes, a multiple of DISK_SECTOR */
	uint32_t physical_sector;	/* bytes; what a write of less costs a read for */
	bool readonly;
	/* The first failure of the host, which was logged; written once. */
	_Atomic(char *) problem;
};

/* Open and lock a disk: exclusively, or shared with other readers when
 * readonly. NULL with the reason. Call it in the thread that lives as long as
 * the process does (nbd_server.h). */
struct disk *disk_open(const char *path, bool readonly, struct error *e);
void disk_close(struct disk *d);

/* All of these: 0, or -1 when the host failed, the range is not the disk's or it
 * is readonly. offset is in bytes. The iovec is used up. */
int disk_read(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count);
int disk_write(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count);
int disk_flush(struct disk *d);
/* The range's content is no longer needed: a hint. */
int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes);
/* The range reads as zeroes; may_unmap: the host may give its space back. */
int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool may_unmap);
/* The VM is going to end: do not wait long for anybody any more. From any
 * thread. */
void disk_hurry(struct disk *d);
/* A name for the disk, at most n bytes: the end of its file's name. */
void disk_id(const struct disk *d, char *id, size_t n);

/* What the host failed in first, as a sentence that lives as long as the disk;
 * NULL: nothing. From any thread. */
const char *disk_problem(const struct disk *d);

/* For the formats. Keep the first failure of a disk, and log it; -1. */
int disk_failed(struct disk *d, const char *what, uint64_t offset, const char *reason);
/* Log this, and keep it as the problem if it is the first. */
void disk_complain(struct disk *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Free what all disks have. */
void disk_release(struct disk *d);
uint64_t iovec_bytes(const struct iovec *iov, unsigned count);
/* Take n bytes, and then what is empty, off the front. */
void iovec_advance(struct iovec **iov, unsigned *count, size_t n);

#endif
