/* qcow2's header and header extensions (QEMU's "qcow2 format" specification,
 * "Header" and "Header extensions"). Numbers are big-endian. */
#include "disk/image_formats.h"

#include "base/bits.h"
#include "base/log.h"

#include <endian.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	VERSION_MIN = 2, VERSION_MAX = 3,
	CLUSTER_BITS_MIN = 9, CLUSTER_BITS_MAX = 21,
	PARENT_NAME_MAX = 1023,
	EXTENSION_END = 0, EXTENSION_HEADER = 8, EXTENSION_ALIGN = 8,
	EXTENSIONS_MAX = 64,
	FORMAT_NAME_MAX = 16,
	V2_HEADER_LENGTH = 72,
};

#define MAGIC 0x514649fbu			/* "QFI\xfb" */
#define EXTENSION_PARENT_FORMAT 0xe2792acau
/* Incompatible features. */
#define FEATURE_CORRUPT BIT(1)
#define FEATURE_DATA_FILE BIT(2)

struct header {
	uint32_t magic, version;
	uint64_t backing_file_offset;
	uint32_t backing_file_size, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, l1_size;
	uint64_t l1_table_offset, refcount_table_offset;
	uint32_t refcount_table_clusters, nb_snapshots;
	uint64_t snapshots_offset;
	/* Version 3: */
	uint64_t incompatible_features, compatible_features, autoclear_features;
	uint32_t refcount_order, header_length;
} __attribute__((packed));

/* The format that the header extensions give the parent; "" when none does. */
static bool parent_format(const struct image_file *f, uint64_t at, char *name)
{
	uint32_t extension[2];
	*name = 0;
	for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
		if (!image_bytes(f, at, extension, sizeof extension))
			return false;
		uint32_t type = be32toh(extension[0]), length = be32toh(extension[1]);
		if (type == EXTENSION_END)
			return true;
		if (type == EXTENSION_PARENT_FORMAT) {
			if (length >= FORMAT_NAME_MAX ||
			    !image_bytes(f, at + EXTENSION_HEADER, name, length))
				return false;
			name[length] = 0;
		}
		at += EXTENSION_HEADER + align_up(length, EXTENSION_ALIGN);
	}
	return false;
}

/* A relative name is relative to the child's folder. */
static char *absolute_parent(const char *child, const char *name)
{
	const char *slash = strrchr(child, '/');
	char path[PATH_MAX];
	if (*name == '/' || !slash)
		return alloc_string(name);
	int n = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - child), child, name);
	return n < 0 || n >= (int)sizeof path ? NULL : alloc_string(path);
}

/* Not a file's name but one of qemu's ways to say more: a protocol, or options. */
static bool is_protocol(const char *name)
{
	return name[strcspn(name, ":/")] == ':';
}

static enum disk_fault read_parent_name(const struct image_file *f, const struct header *h,
					uint64_t extensions, struct disk_image *i, struct error *e)
{
	char name[PARENT_NAME_MAX + 1] = "", format[FORMAT_NAME_MAX];
	uint32_t length = be32toh(h->backing_file_size);
	if (!length || length > PARENT_NAME_MAX ||
	    !image_bytes(f, be64toh(h->backing_file_offset), name, length) || strlen(name) != length)
		return image_corrupt(f, DISK_FORMAT_QCOW2, "the name of its parent cannot be read", e);
	if (!parent_format(f, extensions, format))
		return image_corrupt(f, DISK_FORMAT_QCOW2, "its header extensions cannot be read", e);
	i->type = DISK_TYPE_DIFFERENCING;
	if (is_protocol(name)) {
		i->unsupported = "a parent that is not named by a file's path";
		return DISK_FAULT_NONE;
	}
	i->parent = absolute_parent(f->path, name);
	if (!i->parent)
		return image_corrupt(f, DISK_FORMAT_QCOW2, "its parent's path is too long", e);
	if (*format && strcmp(format, disk_format_driver(disk_format_of(i->parent))))
		i->unsupported = "a parent whose format is not what the parent's name says (rename the parent, then qemu-img rebase -u)";
	return DISK_FAULT_NONE;
}

enum disk_fault image_read_qcow2(const struct image_file *f, struct disk_image *i, struct error *e)
{
	struct header h;
	if (!image_bytes(f, 0, &h, sizeof h) || be32toh(h.magic) != MAGIC)
		return image_corrupt(f, DISK_FORMAT_QCOW2, "it does not begin with the mark of one", e);
	uint32_t version = be32toh(h.version), cluster_bits = be32toh(h.cluster_bits);
	uint64_t features = version >= VERSION_MAX ? be64toh(h.incompatible_features) : 0;
	uint64_t extensions = version >= VERSION_MAX ? be32toh(h.header_length) : V2_HEADER_LENGTH;
	if (version < VERSION_MIN || version > VERSION_MAX || cluster_bits < CLUSTER_BITS_MIN ||
	    cluster_bits > CLUSTER_BITS_MAX)
		return image_corrupt(f, DISK_FORMAT_QCOW2, "its header has an unknown version or size of clusters", e);
	if (features & FEATURE_CORRUPT)
		return image_corrupt(f, DISK_FORMAT_QCOW2,
			"it is marked as corrupt (qemu-img check -r all may repair it)", e);
	i->type = DISK_TYPE_DYNAMIC;
	i->size = be64toh(h.size);
	i->block_size = BIT(cluster_bits);
	i->aligned = true;
	if (h.crypt_method)
		i->unsupported = "encryption";
	else if (features & FEATURE_DATA_FILE)
		i->unsupported = "its data in another file";
	if (!h.backing_file_offset)
		return DISK_FAULT_NONE;
	return read_parent_name(f, &h, extensions, i, e);
}
