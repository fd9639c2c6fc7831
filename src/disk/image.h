/* Disk images: what a disk's file says of itself, read from its headers without
 * changing it.
 *
 * A disk's format is what its name ends with, and nothing else: .vhdx, .avhdx,
 * .vhd, .avhd, .qcow2, and raw for .img, .raw and every other name. Content
 * never decides, because the content of a raw disk is its guest's to write. The
 * headers only have to agree with the name. */
#ifndef NESTOR_DISK_IMAGE_H
#define NESTOR_DISK_IMAGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_format { DISK_FORMAT_RAW, DISK_FORMAT_VHD, DISK_FORMAT_VHDX, DISK_FORMAT_QCOW2 };
enum disk_type { DISK_TYPE_FIXED, DISK_TYPE_DYNAMIC, DISK_TYPE_DIFFERENCING };

/* Why an image cannot be read or used. */
enum disk_fault {
	DISK_FAULT_NONE,
	DISK_FAULT_MISSING,	/* there is no such file */
	DISK_FAULT_DENIED,	/* it cannot be opened, or is no file */
	DISK_FAULT_CORRUPT,	/* its headers are not what its name says */
	DISK_FAULT_PARENT,	/* a parent is missing */
	DISK_FAULT_UNSUPPORTED,	/* it is sound, but has what Nestor cannot do */
};

enum { DISK_IDENTIFIER_SIZE = 37 };

struct disk_image {
	char *path;
	enum disk_format format;
	enum disk_type type;
	uint64_t size;			/* of the disk, in bytes */
	uint64_t file_size;		/* what the file takes up on the host */
	uint64_t block_size;		/* in which it grows; 0: it does not */
	uint32_t logical_sector, physical_sector;
	bool aligned;			/* blocks begin at multiples of 4 KiB in the file */
	char identifier[DISK_IDENTIFIER_SIZE];	/* a GUID in capitals, or "" */
	char *parent;			/* absolute path; NULL: none, or not known */
	/* What Nestor cannot do with it, as "... has X"; NULL: it can be used. */
	const char *unsupported;
};

/* A disk with its parents, the disk first. */
enum { DISK_CHAIN_MAX = 16 };
struct disk_chain {
	struct disk_image image[DISK_CHAIN_MAX];
	unsigned count;
};

enum disk_format disk_format_of(const char *path);
/* As Get-VHD shows it, and as qemu calls it. */
const char *disk_format_name(enum disk_format format);
const char *disk_format_driver(enum disk_format format);
/* Does the name end as a disk's does? */
bool disk_is_named(const char *path);

/* Fill *i, which disk_image_free takes. Other than NONE: the reason is in *e,
 * and there is nothing to free. */
enum disk_fault disk_image_read(struct disk_image *i, const char *path, struct error *e);
void disk_image_free(struct disk_image *i);
/* Is the disk the first size bytes of its file? */
bool disk_image_is_flat(const struct disk_image *i);

/* The image and all its parents, each of which Nestor can use. */
enum disk_fault disk_chain_read(struct disk_chain *c, const char *path, struct error *e);
void disk_chain_free(struct disk_chain *c);

/* Of a VHDX that nobody uses: 512 or 4096 bytes. */
int disk_vhdx_set_physical_sector(const char *path, uint32_t bytes, struct error *e);

#endif
