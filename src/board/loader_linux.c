/* Linux bzImage by the 64-bit boot protocol (the kernel's Documentation/arch/
 * x86/boot.rst, "64-bit Boot Protocol"): the protected-mode part at its
 * preferred address, boot_params ("zero page"), command line, GDT and identity
 * map in low memory, initrds at the top of low RAM. */
#include "board/e820.h"
#include "board/loader_image.h"

#include <asm/bootparam.h>
#include <stddef.h>

enum {
	SECTOR = 512,
	SETUP_SECTORS_DEFAULT = 4,	/* what a setup_sects of 0 means */
	HEADER_START = offsetof(struct boot_params, hdr),
	HEADER_JUMP = 0x201,		/* its byte: length of the header behind 202h */
	HEADER_BASE = 0x202,
	BOOT_FLAG = 0xaa55,
	HEADER_MAGIC = 0x53726448,	/* "HdrS" */
	VERSION_64_BIT = 0x020c,	/* first with xloadflags */
	LOADER_UNDEFINED = 0xff,
	ENTRY_64 = 0x200,
	INITRD_PAD = 4,			/* cpio archives follow one another at 4 bytes */
	VIDEO_MODE_NORMAL = 0xffff,
};

struct linux_load {
	const struct load_request *r;
	const struct kernel_image *k;
	struct boot_params params;
	uint64_t payload_offset, payload_size;
	uint64_t base, end;		/* of the kernel and what it needs to unpack */
	uint64_t initrd_base, initrd_size;
};

bool loader_linux_recognise(const struct kernel_image *k)
{
	return load_le(k->head + 0x1fe, 2) == BOOT_FLAG &&
		load_le(k->head + HEADER_BASE, 4) == HEADER_MAGIC;
}

static int read_header(struct linux_load *l, struct error *e)
{
	const struct kernel_image *k = l->k;
	struct setup_header *h = &l->params.hdr;
	size_t length = HEADER_BASE + k->head[HEADER_JUMP] - HEADER_START;
	memcpy(h, k->head + HEADER_START, length < sizeof *h ? length : sizeof *h);
	if (h->version < VERSION_64_BIT || !(h->xloadflags & XLF_KERNEL_64))
		return error_set(e, STATUS_FILE,
			"The kernel %s has no 64-bit entry point (boot protocol %u.%02u, xloadflags %#x); choose a 64-bit Linux kernel of version 3.8 or later.",
			k->file.path, h->version >> 8, h->version & 0xff, h->xloadflags);
	unsigned sectors = h->setup_sects ? h->setup_sects : SETUP_SECTORS_DEFAULT;
	l->payload_offset = (sectors + 1) * SECTOR;
	uint64_t announced = (uint64_t)h->syssize * 16;
	if (k->file.size < l->payload_offset + SECTOR * 2 ||
	    k->file.size - l->payload_offset + 15 < announced)
		return error_set(e, STATUS_FILE,
			"The kernel %s is truncated: its header announces %llu bytes, the file has %llu; copy it again.",
			k->file.path, (unsigned long long)(l->payload_offset + announced),
			(unsigned long long)k->file.size);
	l->payload_size = k->file.size - l->payload_offset;
	return 0;
}

static int place_kernel(struct linux_load *l, struct error *e)
{
	const struct setup_header *h = &l->params.hdr;
	struct memory *m = l->r->memory;
	uint64_t need = h->init_size > l->payload_size ? h->init_size : l->payload_size;
	uint64_t align = h->kernel_alignment;
	if (!align || align & (align - 1))
		return error_set(e, STATUS_FILE,
			"The kernel %s is damaged: its alignment %#llx is no power of two; copy it again.",
			l->k->file.path, (unsigned long long)align);
	l->base = h->pref_address;
	if (l->base + need > m->low_size && h->relocatable_kernel)
		l->base = align_up(E820_HIGH_START, align);
	if (l->base >= m->low_size || !e820_usable(m, l->base, need))
		return error_set(e, STATUS_FILE,
			"The kernel %s needs %llu MiB of RAM at %#llx, and the VM has %llu MiB; raise --memory.",
			l->k->file.path, (unsigned long long)((need + MIB - 1) / MIB),
			(unsigned long long)l->base, (unsigned long long)(m->size / MIB));
	l->end = l->base + need;
	return image_load(&l->k->file, l->payload_offset, l->payload_size, m, l->base, e);
}

static int load_initrd(struct linux_load *l, unsigned i, uint64_t room, uint64_t *at,
		       struct error *e)
{
	struct image f;
	if (image_open(&f, "initrd", l->r->initrd[i], e))
		return -1;
	int failed = 0;
	uint64_t padded = align_up(f.size, INITRD_PAD);
	if (f.size > room || padded > room)
		failed = error_set(e, STATUS_FILE,
			"The initrd %s (%llu bytes) does not fit beside the kernel into the VM's %llu MiB; raise --memory.",
			f.path, (unsigned long long)f.size,
			(unsigned long long)(l->r->memory->size / MIB));
	else if (at) {
		failed = image_load(&f, 0, f.size, l->r->memory, *at, e);
		if (!failed)
			memory_fill(l->r->memory, *at + f.size, 0, padded - f.size);
		*at += padded;
	}
	image_close(&f);
	l->initrd_size += padded;
	return failed;
}

/* Twice over the list: the sizes decide where the first one goes. */
static int load_initrds(struct linux_load *l, struct error *e)
{
	uint64_t top = l->r->memory->low_size;
	if (top > (uint64_t)l->params.hdr.initrd_addr_max + 1)
		top = (uint64_t)l->params.hdr.initrd_addr_max + 1;
	uint64_t room = top > l->end ? (top - l->end) & ~PAGE_OFFSET_MASK : 0;
	for (unsigned i = 0; i < l->r->initrds; i++)
		if (load_initrd(l, i, room - l->initrd_size, NULL, e))
			return -1;
	if (!l->initrd_size)
		return 0;
	uint64_t total = l->initrd_size;
	l->initrd_base = (top - total) & ~PAGE_OFFSET_MASK;
	if (l->initrd_base < l->end)
		return error_set(e, STATUS_FILE,
			"The initrds (%llu bytes) do not fit beside the kernel into the VM's %llu MiB; raise --memory.",
			(unsigned long long)total,
			(unsigned long long)(l->r->memory->size / MIB));
	uint64_t at = l->initrd_base;
	l->initrd_size = 0;
	for (unsigned i = 0; i < l->r->initrds; i++)
		/* A file may have grown since. */
		if (load_initrd(l, i, total - l->initrd_size, &at, e))
			return -1;
	return 0;
}

static int fill_params(struct linux_load *l, struct boot_block *b, struct error *e)
{
	struct boot_params *p = &l->params;
	struct e820_entry map[E820_MAX];
	const char *append = l->r->append ? l->r->append : "";
	size_t length = strlen(append);
	if (length > p->hdr.cmdline_size)
		return error_set(e, STATUS_FILE,
			"The command line has %zu bytes, and the kernel %s takes %u at most; shorten --append.",
			length, l->k->file.path, p->hdr.cmdline_size);
	uint64_t command_line = boot_block_put(b, append, length + 1, 1);
	if (!command_line)
		return boot_block_full(l->r, e);
	p->hdr.cmd_line_ptr = (uint32_t)command_line;
	p->hdr.type_of_loader = LOADER_UNDEFINED;
	p->hdr.loadflags |= LOADED_HIGH;
	p->hdr.vid_mode = VIDEO_MODE_NORMAL;
	p->hdr.code32_start = (uint32_t)l->base;
	p->hdr.ramdisk_image = (uint32_t)l->initrd_base;
	p->hdr.ramdisk_size = (uint32_t)l->initrd_size;
	p->acpi_rsdp_addr = l->r->rsdp;
	p->e820_entries = (uint8_t)e820_build(l->r->memory, map);
	for (unsigned i = 0; i < p->e820_entries; i++) {
		p->e820_table[i].addr = map[i].base;
		p->e820_table[i].size = map[i].size;
		p->e820_table[i].type = map[i].type;
	}
	return 0;
}

int loader_linux(const struct load_request *r, const struct kernel_image *k,
		 struct processor_state *bsp, struct error *e)
{
	struct linux_load l = { .r = r, .k = k };
	if (read_header(&l, e) || place_kernel(&l, e) || load_initrds(&l, e))
		return -1;
	struct boot_block b = boot_block_choose(r->memory, l.base, l.end);
	if (processor_flat_64(bsp, &b, l.base + ENTRY_64))
		return boot_block_full(r, e);
	if (fill_params(&l, &b, e))
		return -1;
	bsp->gpr[RSI] = boot_block_put(&b, &l.params, sizeof l.params, PAGE_SIZE);
	if (!bsp->gpr[RSI])
		return boot_block_full(r, e);
	return 0;
}
