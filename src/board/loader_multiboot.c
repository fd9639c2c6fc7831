/* Multiboot 1 (the Multiboot Specification version 0.6.96): a header within
 * the file's first 8 KiB; the image is what the header's address fields say
 * (the "a.out kludge") or, without them, an ELF file. The kernel starts in
 * 32-bit flat mode with EAX = magic, EBX = address of the information, and finds
 * in the BIOS data area where conventional memory ends, since kernels of this
 * protocol (Xen) look there before they put anything below 1 MiB. A wish for a
 * video mode (flag bit 2) is not granted: there is no screen, and the
 * information says so by leaving its video fields out. */
#include "board/e820.h"
#include "board/loader_image.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	HEADER_MAGIC = 0x1badb002,
	BOOT_MAGIC = 0x2badb002,
	HEADER_ALIGN = 4,
	/* Header flags */
	WANT_PAGE_ALIGN = 1 << 0, WANT_MEMORY = 1 << 1, WANT_VIDEO = 1 << 2,
	REQUIREMENTS = 0xffff,		/* bits that a loader must know or refuse */
	HAS_ADDRESSES = 1 << 16,
	/* Information flags */
	INFO_MEMORY = 1 << 0, INFO_COMMAND_LINE = 1 << 2, INFO_MODULES = 1 << 3,
	INFO_MEMORY_MAP = 1 << 6, INFO_LOADER_NAME = 1 << 9,
};

struct multiboot_header {
	uint32_t magic, flags, checksum;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};
enum { HEADER_SHORT = 12 };	/* without the address fields */

/* Words of the BIOS data area. */
enum {
	BIOS_EBDA_SEGMENT = 0x40e,	/* of the extended BIOS data area */
	BIOS_BASE_MEMORY = 0x413,	/* KiB of conventional memory */
	BIOS_DATA_END = 0x500,
};

struct multiboot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, command_line;
	uint32_t modules_count, modules_addr;
	uint32_t symbols[4];
	uint32_t map_length, map_addr;
	uint32_t drives_length, drives_addr, config_table, loader_name, apm_table;
};

struct multiboot_module {
	uint32_t start, end, command_line, reserved;
};

/* The map's entry; `size` does not count itself. */
struct multiboot_memory {
	uint32_t size;
	uint64_t base, length;
	uint32_t type;
} __attribute__((packed));

struct loaded {
	uint64_t low, high, entry;
};

/* Offset of the header in the file, or -1. */
static int find_header(const struct kernel_image *k, struct multiboot_header *h)
{
	for (unsigned at = 0; at + HEADER_SHORT <= k->head_size; at += HEADER_ALIGN) {
		size_t n = k->head_size - at;
		memset(h, 0, sizeof *h);
		memcpy(h, k->head + at, n < sizeof *h ? n : sizeof *h);
		if (h->magic == HEADER_MAGIC && h->magic + h->flags + h->checksum == 0)
			return (int)at;
	}
	return -1;
}

bool loader_multiboot_recognise(const struct kernel_image *k)
{
	struct multiboot_header h;
	return find_header(k, &h) >= 0;
}

static int load_addresses(const struct load_request *r, const struct kernel_image *k,
			  const struct multiboot_header *h, unsigned at, struct loaded *l,
			  struct error *e)
{
	if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > at)
		return error_set(e, STATUS_FILE,
			"The kernel %s has a damaged multiboot header: its load address %#x does not lie before the header's, %#x; link it again.",
			k->file.path, h->load_addr, h->header_addr);
	uint64_t offset = at - (h->header_addr - h->load_addr);
	/* 0 means: to the end of the file, and no bss. */
	uint64_t end = h->load_end_addr ? h->load_end_addr : h->load_addr + k->file.size - offset;
	uint64_t bss_end = h->bss_end_addr > end ? h->bss_end_addr : end;
	if (end <= h->load_addr)
		return error_set(e, STATUS_FILE,
			"The kernel %s has a damaged multiboot header: it loads from %#x to %#llx, which is nothing; link it again.",
			k->file.path, h->load_addr, (unsigned long long)end);
	if (!e820_usable(r->memory, h->load_addr, bss_end - h->load_addr))
		return error_set(e, STATUS_FILE,
			"The kernel %s wants to be loaded at %#x..%#llx, where the VM of %llu MiB has no free RAM; raise --memory or link it elsewhere.",
			k->file.path, h->load_addr, (unsigned long long)(bss_end - 1),
			(unsigned long long)(r->memory->size / MIB));
	if (image_load(&k->file, offset, end - h->load_addr, r->memory, h->load_addr, e))
		return -1;
	memory_fill(r->memory, end, 0, bss_end - end);
	*l = (struct loaded){ h->load_addr, bss_end, h->entry_addr };
	return 0;
}

static int load_elf(const struct load_request *r, const struct kernel_image *k,
		    struct loaded *l, struct error *e)
{
	struct elf elf;
	if (!elf_recognise(k))
		return error_set(e, STATUS_FILE,
			"The kernel %s has a multiboot header without load addresses and is no ELF file; link it as one.",
			k->file.path);
	if (elf_open(k, &elf, e))
		return -1;
	int result = elf_load(k, &elf, r->memory, &l->low, &l->high, e);
	l->entry = elf_physical(&elf, elf.entry);
	elf_close(&elf);
	return result;
}

/* RAM in KiB from 0 and from 1 MiB to their first ends. */
static void put_sizes(const struct load_request *r, struct multiboot_info *info)
{
	uint64_t low = r->memory->low_size;
	info->mem_lower = (uint32_t)((low < E820_LOW_END ? low : E820_LOW_END) / KIB);
	info->mem_upper = low > E820_HIGH_START ? (uint32_t)((low - E820_HIGH_START) / KIB) : 0;
	info->flags |= INFO_MEMORY;
}

/* A kernel that lies there itself needs no such words. */
static void put_bios_data(struct memory *m, uint64_t kernel_low)
{
	uint64_t end = m->low_size < E820_LOW_END ? m->low_size : E820_LOW_END;
	uint16_t segment = (uint16_t)(end >> 4), kib = (uint16_t)(end / KIB);
	if (kernel_low < BIOS_DATA_END)
		return;
	memory_write(m, BIOS_EBDA_SEGMENT, &segment, sizeof segment);
	memory_write(m, BIOS_BASE_MEMORY, &kib, sizeof kib);
}

static bool put_map(const struct load_request *r, struct boot_block *b,
		    struct multiboot_info *info)
{
	struct e820_entry e820[E820_MAX];
	struct multiboot_memory map[E820_MAX];
	unsigned n = e820_build(r->memory, e820);
	for (unsigned i = 0; i < n; i++)
		map[i] = (struct multiboot_memory){ sizeof *map - sizeof map->size,
			e820[i].base, e820[i].size, e820[i].type };
	info->map_length = (uint32_t)(n * sizeof *map);
	info->map_addr = (uint32_t)boot_block_put(b, map, info->map_length, 8);
	info->flags |= INFO_MEMORY_MAP;
	return info->map_addr;
}

static bool put_modules(const struct load_request *r, struct boot_block *b,
			const struct module *module, struct multiboot_info *info)
{
	struct multiboot_module list[MODULES_MAX];
	info->flags |= INFO_MODULES;
	info->modules_count = r->initrds;
	for (unsigned i = 0; i < r->initrds; i++) {
		const char *text = module[i].command_line;
		list[i] = (struct multiboot_module){
			(uint32_t)module[i].base, (uint32_t)(module[i].base + module[i].size),
			(uint32_t)boot_block_put(b, text, strlen(text) + 1, 1) };
		if (!list[i].command_line)
			return false;
	}
	if (r->initrds)
		info->modules_addr = (uint32_t)boot_block_put(b, list, r->initrds * sizeof *list, 8);
	return !r->initrds || info->modules_addr;
}

static bool put_texts(const struct load_request *r, struct boot_block *b,
		      struct multiboot_info *info)
{
	static const char name[] = "Nestor";
	bool append = r->append && *r->append;
	char *text;
	int n = asprintf(&text, "%s%s%s", r->kernel, append ? " " : "", append ? r->append : "");
	if (n < 0)
		return false;
	info->command_line = (uint32_t)boot_block_put(b, text, (uint64_t)n + 1, 1);
	free(text);
	info->loader_name = (uint32_t)boot_block_put(b, name, sizeof name, 1);
	info->flags |= INFO_COMMAND_LINE | INFO_LOADER_NAME;
	return info->command_line && info->loader_name;
}

int loader_multiboot(const struct load_request *r, const struct kernel_image *k,
		     struct processor_state *bsp, struct error *e)
{
	struct multiboot_header h;
	struct module module[MODULES_MAX];
	struct multiboot_info info = { 0 };
	struct loaded l = { 0 };
	int at = find_header(k, &h);
	uint32_t unknown = h.flags & REQUIREMENTS & ~(WANT_PAGE_ALIGN | WANT_MEMORY | WANT_VIDEO);
	if (unknown)
		return error_set(e, STATUS_FILE,
			"The kernel %s asks for multiboot features that do not exist here (header flags %#x); build it without them.",
			k->file.path, unknown);
	if (h.flags & HAS_ADDRESSES ? load_addresses(r, k, &h, (unsigned)at, &l, e) :
	    load_elf(r, k, &l, e))
		return -1;
	if (l.entry < l.low || l.entry >= l.high || l.high > UINT32_MAX)
		return error_set(e, STATUS_FILE,
			"The kernel %s is damaged: its entry point %#llx is not in what it loads below 4 GiB (%#llx..%#llx); link it again.",
			k->file.path, (unsigned long long)l.entry, (unsigned long long)l.low,
			(unsigned long long)(l.high - 1));
	uint64_t end = l.high < E820_HIGH_START ? E820_HIGH_START : l.high;
	if (modules_load(r, &end, module, e))
		return -1;
	struct boot_block b = boot_block_choose(r->memory, l.low, end);
	put_sizes(r, &info);
	put_bios_data(r->memory, l.low);
	if (processor_flat_32(bsp, &b, l.entry) || !put_map(r, &b, &info) ||
	    !put_modules(r, &b, module, &info) || !put_texts(r, &b, &info))
		return boot_block_full(r, e);
	bsp->gpr[RBX] = boot_block_put(&b, &info, sizeof info, 8);
	if (!bsp->gpr[RBX])
		return boot_block_full(r, e);
	bsp->gpr[RAX] = BOOT_MAGIC;
	return 0;
}
