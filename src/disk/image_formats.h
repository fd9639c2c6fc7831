/* For image.c: the headers of each format. */
#ifndef NESTOR_DISK_IMAGE_FORMATS_H
#define NESTOR_DISK_IMAGE_FORMATS_H

#include "disk/image.h"

/* The file that is being examined. */
struct image_file {
	const char *path;
	int fd;
	uint64_t size;
};

/* All n bytes at offset; false when the file does not have them. */
bool image_bytes(const struct image_file *f, uint64_t offset, void *to, size_t n);
/* CORRUPT, with "why" in a sentence. */
enum disk_fault image_corrupt(const struct image_file *f, enum disk_format format,
			      const char *why, struct error *e);

enum disk_fault image_read_vhd(const struct image_file *f, struct disk_image *i, struct error *e);
enum disk_fault image_read_vhdx(const struct image_file *f, struct disk_image *i, struct error *e);
enum disk_fault image_read_qcow2(const struct image_file *f, struct disk_image *i, struct error *e);

#endif
