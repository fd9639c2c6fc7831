/* The headers of VHD ("Virtual Hard Disk Image Format Specification"; numbers
 * are big-endian) and of VHDX (MS-VHDX; little-endian). */
#include "disk/image_formats.h"

#include "base/bits.h"
#include "base/log.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GUID_BYTES = 16 };

/* "Hard Disk Footer Format" */
struct vhd_footer {
	char cookie[8];
	uint32_t features, version;
	uint64_t data_offset;
	uint32_t time_stamp;
	char creator[4];
	uint32_t creator_version, creator_os;
	uint64_t original_size, current_size;
	uint32_t geometry, type, checksum;
	uint8_t unique_id[GUID_BYTES];
	uint8_t saved_state, reserved[427];
} __attribute__((packed));

/* "Dynamic Disk Header Format", as far as it is of use here */
struct vhd_dynamic {
	char cookie[8];
	uint64_t data_offset, table_offset;
	uint32_t header_version, max_table_entries, block_size, checksum;
} __attribute__((packed));

enum {
	VHD_FOOTER = 512, VHD_DYNAMIC = 1024,
	VHD_TYPE_FIXED = 2, VHD_TYPE_DYNAMIC = 3, VHD_TYPE_DIFFERENCING = 4,
};
_Static_assert(sizeof(struct vhd_footer) == VHD_FOOTER, "the footer is one sector");

/* The one's complement of the sum of all other bytes. */
static bool vhd_checksum_fits(const void *bytes, size_t n, size_t at)
{
	const uint8_t *b = bytes;
	uint32_t sum = 0, stored;
	memcpy(&stored, b + at, sizeof stored);
	for (size_t i = 0; i < n; i++)
		if (i < at || i >= at + sizeof stored)
			sum += b[i];
	return be32toh(stored) == ~sum;
}

static bool vhd_footer_at(const struct image_file *f, uint64_t offset, struct vhd_footer *footer)
{
	return image_bytes(f, offset, footer, sizeof *footer) &&
		!memcmp(footer->cookie, "conectix", sizeof footer->cookie) &&
		vhd_checksum_fits(footer, sizeof *footer, offsetof(struct vhd_footer, checksum));
}

static enum disk_fault read_vhd_dynamic(const struct image_file *f, const struct vhd_footer *footer,
					struct disk_image *i, struct error *e)
{
	uint8_t sector[VHD_DYNAMIC];
	struct vhd_dynamic d;
	if (!image_bytes(f, be64toh(footer->data_offset), sector, sizeof sector) ||
	    memcmp(sector, "cxsparse", sizeof d.cookie) ||
	    !vhd_checksum_fits(sector, sizeof sector, offsetof(struct vhd_dynamic, checksum)))
		return image_corrupt(f, DISK_FORMAT_VHD, "the header of a dynamic disk is damaged", e);
	memcpy(&d, sector, sizeof d);
	i->block_size = be32toh(d.block_size);
	return DISK_FAULT_NONE;
}

static void format_guid(char *text, uint32_t a, uint16_t b, uint16_t c, const uint8_t rest[8])
{
	snprintf(text, DISK_IDENTIFIER_SIZE, "%08X-%04X-%04X-%02X%02X-%02X%02X%02X%02X%02X%02X",
		 a, b, c, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6], rest[7]);
}

/* The footer at the end decides, because a fixed disk's first sector is the
 * guest's; its copy at the beginning is for a growing disk whose last growth was
 * interrupted. */
enum disk_fault image_read_vhd(const struct image_file *f, struct disk_image *i, struct error *e)
{
	struct vhd_footer footer;
	if (!(f->size > VHD_FOOTER && vhd_footer_at(f, f->size - VHD_FOOTER, &footer)) &&
	    !(vhd_footer_at(f, 0, &footer) && be32toh(footer.type) != VHD_TYPE_FIXED))
		return image_corrupt(f, DISK_FORMAT_VHD, "its footer is missing or damaged", e);
	const uint8_t *id = footer.unique_id;
	i->size = be64toh(footer.current_size);
	format_guid(i->identifier, (uint32_t)id[0] << 24 | id[1] << 16 | id[2] << 8 | id[3],
		    (uint16_t)(id[4] << 8 | id[5]), (uint16_t)(id[6] << 8 | id[7]), id + 8);
	switch (be32toh(footer.type)) {
	case VHD_TYPE_FIXED:
		i->type = DISK_TYPE_FIXED;
		if (i->size > f->size - VHD_FOOTER)
			return image_corrupt(f, DISK_FORMAT_VHD, "it is shorter than its size", e);
		i->aligned = true;
		return DISK_FAULT_NONE;
	case VHD_TYPE_DYNAMIC:
		i->type = DISK_TYPE_DYNAMIC;
		break;
	case VHD_TYPE_DIFFERENCING:
		i->type = DISK_TYPE_DIFFERENCING;
		i->unsupported = "a parent, and qemu-nbd cannot use differencing VHDs";
		break;
	default:
		return image_corrupt(f, DISK_FORMAT_VHD, "its footer has an unknown type", e);
	}
	return read_vhd_dynamic(f, &footer, i, e);
}

/* VHDX. Fields are read at their offsets, because the structures of the metadata
 * lie where the file says. */

enum {
	VHDX_HEADER_1 = 64 << 10, VHDX_HEADER_2 = 128 << 10, VHDX_HEADER_BYTES = 4 << 10,
	VHDX_REGIONS_1 = 192 << 10, VHDX_REGIONS_2 = 256 << 10, VHDX_REGIONS_BYTES = 64 << 10,
	VHDX_CHECKSUM = 4,		/* its offset in headers and region tables */
	VHDX_TABLE_HEADER = 16, VHDX_ENTRY = 32, VHDX_REGIONS_MAX = 2047,
	VHDX_METADATA_HEADER = 32, VHDX_METADATA_MAX = 2047, VHDX_METADATA_BYTES = 64 << 10,
	VHDX_FIXED = 1, VHDX_HAS_PARENT = 2,	/* flags of the file parameters */
	SECTOR_512 = 512, SECTOR_4096 = 4096,
};

struct guid {
	uint32_t a;
	uint16_t b, c;
	uint8_t rest[8];
} __attribute__((packed));

static const struct guid metadata_region =
	{ 0x8b7ca206, 0x4790, 0x4b9a, { 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e } };
static const struct guid file_parameters =
	{ 0xcaa16737, 0xfa36, 0x4d43, { 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b } };
static const struct guid virtual_disk_size =
	{ 0x2fa54224, 0xcd1b, 0x4876, { 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 } };
static const struct guid virtual_disk_id =
	{ 0xbeca12ab, 0xb2e6, 0x4523, { 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 } };
static const struct guid logical_sector_size =
	{ 0x8141bf1d, 0xa96f, 0x4709, { 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f } };
static const struct guid physical_sector_size =
	{ 0xcda348c7, 0x445d, 0x4471, { 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 } };

/* CRC-32C, reflected, with the checksum field taken as zero. */
static bool vhdx_checksum_fits(const uint8_t *b, size_t n)
{
	const uint32_t polynomial = 0x82f63b78;
	uint32_t crc = ~0u;
	for (size_t i = 0; i < n; i++) {
		crc ^= i >= VHDX_CHECKSUM && i < VHDX_CHECKSUM + sizeof crc ? 0 : b[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
	}
	return load_le(b + VHDX_CHECKSUM, sizeof crc) == (uint32_t)~crc;
}

/* One of two copies; either will do. */
static bool vhdx_structure(const struct image_file *f, uint64_t first, uint64_t second,
			   const char *signature, uint8_t *to, size_t n)
{
	const uint64_t copies[] = { first, second };
	for (unsigned i = 0; i < ARRAY_SIZE(copies); i++)
		if (image_bytes(f, copies[i], to, n) && !memcmp(to, signature, strlen(signature)) &&
		    vhdx_checksum_fits(to, n))
			return true;
	return false;
}

static bool vhdx_find_metadata(const uint8_t *table, uint64_t *offset)
{
	uint64_t count = load_le(table + 8, 4);
	for (uint64_t i = 0; i < count && i < VHDX_REGIONS_MAX; i++) {
		const uint8_t *entry = table + VHDX_TABLE_HEADER + i * VHDX_ENTRY;
		if (memcmp(entry, &metadata_region, GUID_BYTES))
			continue;
		*offset = load_le(entry + GUID_BYTES, 8);
		return true;
	}
	return false;
}

struct vhdx_metadata {
	const struct image_file *file;
	uint64_t offset;	/* of the region */
	uint8_t table[VHDX_METADATA_BYTES];
};

/* Where an item of n bytes or more is in the file; 0: nowhere. */
static uint64_t vhdx_find_item(const struct vhdx_metadata *m, const struct guid *item, size_t n)
{
	uint64_t count = load_le(m->table + 10, 2);
	for (uint64_t i = 0; i < count && i < VHDX_METADATA_MAX; i++) {
		const uint8_t *entry = m->table + VHDX_METADATA_HEADER + i * VHDX_ENTRY;
		if (memcmp(entry, item, GUID_BYTES))
			continue;
		return load_le(entry + GUID_BYTES + 4, 4) >= n ?
			m->offset + load_le(entry + GUID_BYTES, 4) : 0;
	}
	return 0;
}

static bool vhdx_item(const struct vhdx_metadata *m, const struct guid *item, void *to, size_t n)
{
	uint64_t at = vhdx_find_item(m, item, n);
	return at && image_bytes(m->file, at, to, n);
}

static enum disk_fault read_vhdx_items(const struct vhdx_metadata *m, struct disk_image *i,
				       struct error *e)
{
	uint8_t parameters[8], size[8], logical[4], physical[4];
	struct guid id;
	if (!vhdx_item(m, &file_parameters, parameters, sizeof parameters) ||
	    !vhdx_item(m, &virtual_disk_size, size, sizeof size) ||
	    !vhdx_item(m, &virtual_disk_id, &id, sizeof id) ||
	    !vhdx_item(m, &logical_sector_size, logical, sizeof logical) ||
	    !vhdx_item(m, &physical_sector_size, physical, sizeof physical))
		return image_corrupt(m->file, DISK_FORMAT_VHDX, "its metadata lacks what every disk has", e);
	uint64_t flags = load_le(parameters + 4, 4);
	i->size = load_le(size, sizeof size);
	i->block_size = load_le(parameters, 4);
	i->logical_sector = (uint32_t)load_le(logical, sizeof logical);
	i->physical_sector = (uint32_t)load_le(physical, sizeof physical);
	i->type = flags & VHDX_HAS_PARENT ? DISK_TYPE_DIFFERENCING :
		flags & VHDX_FIXED ? DISK_TYPE_FIXED : DISK_TYPE_DYNAMIC;
	i->aligned = true;
	format_guid(i->identifier, id.a, id.b, id.c, id.rest);
	if ((i->logical_sector != SECTOR_512 && i->logical_sector != SECTOR_4096) ||
	    (i->physical_sector != SECTOR_512 && i->physical_sector != SECTOR_4096))
		return image_corrupt(m->file, DISK_FORMAT_VHDX, "its sectors are neither 512 nor 4096 bytes", e);
	if (flags & VHDX_HAS_PARENT)
		i->unsupported = "a parent, and qemu-nbd cannot use differencing VHDXs";
	else if (i->logical_sector != SECTOR_512)
		i->unsupported = "logical sectors of 4096 bytes, which qemu-nbd cannot use";
	return DISK_FAULT_NONE;
}

static enum disk_fault read_vhdx_metadata(struct vhdx_metadata *m, struct error *e)
{
	static const char mark[] = "vhdxfile";
	const struct image_file *f = m->file;
	char begin[sizeof mark - 1];
	uint8_t header[VHDX_HEADER_BYTES];
	if (!image_bytes(f, 0, begin, sizeof begin) || memcmp(begin, mark, sizeof begin))
		return image_corrupt(f, DISK_FORMAT_VHDX, "it does not begin with the mark of one", e);
	if (!vhdx_structure(f, VHDX_HEADER_1, VHDX_HEADER_2, "head", header, sizeof header))
		return image_corrupt(f, DISK_FORMAT_VHDX, "both its headers are damaged", e);
	/* The table of regions has the size of that of the metadata. */
	_Static_assert((int)VHDX_REGIONS_BYTES == (int)VHDX_METADATA_BYTES, "one buffer serves both");
	if (!vhdx_structure(f, VHDX_REGIONS_1, VHDX_REGIONS_2, "regi", m->table, sizeof m->table) ||
	    !vhdx_find_metadata(m->table, &m->offset))
		return image_corrupt(f, DISK_FORMAT_VHDX, "both its tables of regions are damaged", e);
	if (!image_bytes(f, m->offset, m->table, sizeof m->table) || memcmp(m->table, "metadata", 8))
		return image_corrupt(f, DISK_FORMAT_VHDX, "its metadata is damaged", e);
	return DISK_FAULT_NONE;
}

enum disk_fault image_read_vhdx(const struct image_file *f, struct disk_image *i, struct error *e)
{
	struct vhdx_metadata *m = alloc_zeroed(1, sizeof *m);
	m->file = f;
	enum disk_fault fault = read_vhdx_metadata(m, e);
	if (!fault)
		fault = read_vhdx_items(m, i, e);
	free(m);
	return fault;
}

int disk_vhdx_set_physical_sector(const char *path, uint32_t bytes, struct error *e)
{
	struct image_file f = { .path = path, .fd = open(path, O_RDWR | O_CLOEXEC) };
	struct vhdx_metadata *m = alloc_zeroed(1, sizeof *m);
	struct stat st;
	uint8_t item[4];
	int result = -1;
	store_le(item, bytes, sizeof item);
	m->file = &f;
	if (f.fd < 0 || fstat(f.fd, &st)) {
		error_set(e, STATUS_FILE, "The disk %s cannot be opened (%s).", path, strerror(errno));
		goto out;
	}
	f.size = (uint64_t)st.st_size;
	if (read_vhdx_metadata(m, e))
		goto out;
	uint64_t at = vhdx_find_item(m, &physical_sector_size, sizeof item);
	result = at && pwrite(f.fd, item, sizeof item, (off_t)at) == sizeof item && !fdatasync(f.fd) ? 0 :
		error_set(e, STATUS_FILE, "The sector size of the disk %s cannot be written (%s).", path,
			  strerror(errno));
out:
	if (f.fd >= 0)
		close(f.fd);
	free(m);
	return result;
}
