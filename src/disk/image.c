#include "disk/image.h"

#include "base/bits.h"
#include "base/log.h"
#include "disk/disk.h"
#include "disk/image_formats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512 };	/* of st_blocks */

typedef enum disk_fault read_headers(const struct image_file *f, struct disk_image *i,
				     struct error *e);

static enum disk_fault read_raw(const struct image_file *f, struct disk_image *i, struct error *e)
{
	i->size = f->size;
	i->aligned = true;
	if (f->size && !(f->size % DISK_SECTOR))
		return DISK_FAULT_NONE;
	error_set(e, STATUS_FILE,
		"Disk \"%s\" has %llu bytes; a raw disk has a multiple of %d, and at least one sector.",
		f->path, (unsigned long long)f->size, DISK_SECTOR);
	return DISK_FAULT_CORRUPT;
}

static const struct {
	const char *name;	/* Get-VHD's */
	const char *driver;	/* qemu's */
	read_headers *read;
} formats[] = {
	[DISK_FORMAT_RAW] = { "raw", "raw", read_raw },
	[DISK_FORMAT_VHD] = { "VHD", "vpc", image_read_vhd },
	[DISK_FORMAT_VHDX] = { "VHDX", "vhdx", image_read_vhdx },
	[DISK_FORMAT_QCOW2] = { "qcow2", "qcow2", image_read_qcow2 },
};

static const struct {
	const char *end;
	enum disk_format format;
} names[] = {
	{ ".vhdx", DISK_FORMAT_VHDX }, { ".avhdx", DISK_FORMAT_VHDX },
	{ ".vhd", DISK_FORMAT_VHD }, { ".avhd", DISK_FORMAT_VHD },
	{ ".qcow2", DISK_FORMAT_QCOW2 },
	{ ".img", DISK_FORMAT_RAW }, { ".raw", DISK_FORMAT_RAW },
};

static bool find_name(const char *path, enum disk_format *format)
{
	size_t length = strlen(path);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		size_t end = strlen(names[i].end);
		if (length < end || strcasecmp(path + length - end, names[i].end))
			continue;
		*format = names[i].format;
		return true;
	}
	return false;
}

enum disk_format disk_format_of(const char *path)
{
	enum disk_format format = DISK_FORMAT_RAW;
	find_name(path, &format);
	return format;
}

bool disk_is_named(const char *path)
{
	enum disk_format format;
	return find_name(path, &format);
}

const char *disk_format_name(enum disk_format format)
{
	return formats[format].name;
}

const char *disk_format_driver(enum disk_format format)
{
	return formats[format].driver;
}

bool image_bytes(const struct image_file *f, uint64_t offset, void *to, size_t n)
{
	return offset <= f->size && n <= f->size - offset &&
		pread(f->fd, to, n, (off_t)offset) == (ssize_t)n;
}

enum disk_fault image_corrupt(const struct image_file *f, enum disk_format format,
			      const char *why, struct error *e)
{
	error_set(e, STATUS_FILE, "Disk \"%s\" is no sound %s, which its name says it is: %s.",
		  f->path, disk_format_name(format), why);
	return DISK_FAULT_CORRUPT;
}

/* Its size, when it is a file or, raw only, a block device. */
static enum disk_fault measure(struct image_file *f, struct disk_image *i, struct error *e)
{
	struct stat st;
	off_t size = -1;
	if (fstat(f->fd, &st) || ((S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
				  (size = lseek(f->fd, 0, SEEK_END)) < 0)) {
		error_set(e, STATUS_FILE, "Disk \"%s\" cannot be examined: %s.", f->path,
			  strerror(errno));
		return DISK_FAULT_DENIED;
	}
	if (size < 0 || (S_ISBLK(st.st_mode) && i->format != DISK_FORMAT_RAW)) {
		error_set(e, STATUS_FILE,
			"Disk \"%s\" is neither a file nor, by a name that says raw, a block device.",
			f->path);
		return DISK_FAULT_DENIED;
	}
	f->size = (uint64_t)size;
	i->file_size = S_ISBLK(st.st_mode) ? f->size : (uint64_t)st.st_blocks * BLOCK;
	return DISK_FAULT_NONE;
}

enum disk_fault disk_image_read(struct disk_image *i, const char *path, struct error *e)
{
	/* O_NONBLOCK: opening a pipe by mistake must not wait for its other end. */
	struct image_file f = {
		.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
	};
	*i = (struct disk_image){ .path = alloc_string(path), .format = disk_format_of(path),
		.logical_sector = DISK_SECTOR, .physical_sector = DISK_SECTOR };
	enum disk_fault fault;
	if (f.fd < 0) {
		fault = errno == ENOENT || errno == ENOTDIR ? DISK_FAULT_MISSING : DISK_FAULT_DENIED;
		error_set(e, STATUS_FILE, "The disk %s cannot be opened (%s).", path, strerror(errno));
	} else {
		fault = measure(&f, i, e);
		if (!fault)
			fault = formats[i->format].read(&f, i, e);
		close(f.fd);
	}
	if (!fault && i->size % DISK_SECTOR)
		fault = image_corrupt(&f, i->format, "its size is not a multiple of 512 bytes", e);
	if (fault)
		disk_image_free(i);
	return fault;
}

void disk_image_free(struct disk_image *i)
{
	free(i->path);
	free(i->parent);
	i->path = i->parent = NULL;
}

bool disk_image_is_flat(const struct disk_image *i)
{
	return i->format == DISK_FORMAT_RAW ||
		(i->format == DISK_FORMAT_VHD && i->type == DISK_TYPE_FIXED);
}

void disk_chain_free(struct disk_chain *c)
{
	for (unsigned i = 0; i < c->count; i++)
		disk_image_free(&c->image[i]);
	c->count = 0;
}

static enum disk_fault check_use(const struct disk_image *i, struct error *e)
{
	if (!i->unsupported)
		return DISK_FAULT_NONE;
	error_set(e, STATUS_FILE, "The disk %s has %s.", i->path, i->unsupported);
	return DISK_FAULT_UNSUPPORTED;
}

/* A parent is named by its child's header, which may come from anywhere: it must
 * at least be called a disk, so that a child cannot show another file as one. */
static enum disk_fault read_parent(struct disk_image *i, const struct disk_image *child,
				   struct error *e)
{
	struct error why = { 0 };
	if (!disk_is_named(child->parent)) {
		error_set(e, STATUS_FILE,
			"The disk %s names as its parent %s, which is not called a disk (.vhdx, .vhd, .qcow2, .img, .raw).",
			child->path, child->parent);
		return DISK_FAULT_UNSUPPORTED;
	}
	enum disk_fault fault = disk_image_read(i, child->parent, &why);
	if (fault == DISK_FAULT_MISSING)
		fault = DISK_FAULT_PARENT;
	if (fault)
		error_set(e, STATUS_FILE, "The parent of the disk %s: %.600s", child->path, why.text);
	return fault;
}

enum disk_fault disk_chain_read(struct disk_chain *c, const char *path, struct error *e)
{
	struct disk_image *i = &c->image[0];
	c->count = 0;
	enum disk_fault fault = disk_image_read(i, path, e);
	while (!fault) {
		c->count++;
		fault = check_use(i, e);
		if (fault || !i->parent)
			break;
		if (c->count == DISK_CHAIN_MAX) {
			error_set(e, STATUS_FILE, "The disk %s has more than %d parents, or is its own.",
				  path, DISK_CHAIN_MAX - 1);
			fault = DISK_FAULT_UNSUPPORTED;
			break;
		}
		fault = read_parent(i + 1, i, e);
		i++;
	}
	if (fault)
		disk_chain_free(c);
	return fault;
}
