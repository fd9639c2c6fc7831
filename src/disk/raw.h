/* A raw disk: a file or block device whose first bytes are the disk's. */
#ifndef NESTOR_DISK_RAW_H
#define NESTOR_DISK_RAW_H

#include "disk/disk.h"

#define DISK_RAW_WHOLE UINT64_MAX

/* As disk_open; size: how many of the file's bytes are the disk (a fixed VHD has
 * a footer after them), or DISK_RAW_WHOLE. */
struct disk *disk_raw_open(const char *path, uint64_t size, bool readonly, struct error *e);

#endif
