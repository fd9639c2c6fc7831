/* A disk that a qemu-nbd of its own reads and writes: dynamic VHD, VHDX, qcow2. */
#ifndef NESTOR_DISK_NBD_H
#define NESTOR_DISK_NBD_H

#include "disk/disk.h"
#include "disk/image.h"

/* As disk_open; the chain is read already and stays the caller's. */
struct disk *disk_nbd_open(const struct disk_chain *chain, bool readonly, struct error *e);

/* The server's process, for tests; 0: it is gone. */
int disk_nbd_pid(const struct disk *d);

#endif
