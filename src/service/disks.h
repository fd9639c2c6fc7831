/* Virtual hard disks: files (cmdlet_vhd.c) and where they hang on a VM
 * (cmdlet_disk.c). */
#ifndef NESTOR_SERVICE_DISKS_H
#define NESTOR_SERVICE_DISKS_H

#include "disk/image.h"
#include "service/call.h"

/* The full path of New-VM's new disk: a bare file name goes to the store's
 * folder "Virtual Hard Disks". NULL with an error of the call. */
const char *disks_default_path(struct call *c, const char *path);
/* Make a dynamic disk of size bytes, in the format that its name says; -1 with
 * an error of the call. */
int disks_create(struct call *c, const char *path, int64_t size);
/* Is it a disk that Nestor can use? -1 with an error of the call. */
int disks_check(struct call *c, const char *path);
/* Hang it on a VM's copy, at the first free place where a number is -1 or type
 * is NULL. The drive, borrowed; NULL with an error of the call. */
json_t *disks_attach(struct call *c, json_t *vm, const char *type, int number, int location,
		     const char *path);

/* Hyper-V's sentence for a fault, and what to do about it (NULL: nothing that
 * could be said in general). */
const char *disks_sentence(enum disk_fault fault);
const char *disks_remedy(struct call *c, const char *path, enum disk_fault fault);
/* The running VM, other than this, that keeps a disk from being written, or
 * writes its parents; NULL: none. */
const char *disks_user(struct call *c, const char *but_id, const struct disk_chain *chain);
/* Would one write what the other uses? False also when the second cannot be
 * read. */
bool disks_conflict(const struct disk_chain *chain, const char *path);

#endif
