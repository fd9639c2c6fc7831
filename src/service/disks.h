/* Virtual hard disks: files and where they hang on a VM. */
#ifndef NESTOR_SERVICE_DISKS_H
#define NESTOR_SERVICE_DISKS_H

#include "service/call.h"

/* The full path of a new disk: a bare file name goes to the store's folder
 * "Virtual Hard Disks". NULL with an error of the call. */
const char *disks_default_path(struct call *c, const char *path);
/* Make a raw disk of size bytes; -1 with an error of the call. */
int disks_create(struct call *c, const char *path, int64_t size);
/* Is it a disk that Nestor can use? -1 with an error of the call. */
int disks_check(struct call *c, const char *path);
/* Hang it on a VM's copy, at the first free place where a number is -1 or type
 * is NULL. The drive, borrowed; NULL with an error of the call. */
json_t *disks_attach(struct call *c, json_t *vm, const char *type, int number, int location,
		     const char *path);
/* The format by the file's first bytes and end: "raw", "VHDX", "VHD", "qcow2";
 * NULL with errno. */
const char *disks_format(const char *path);

#endif
