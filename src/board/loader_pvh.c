/* ELF by PVH, Xen's direct boot ABI (xen/include/public/arch-x86/hvm/
 * start_info.h and elfnote.h): the note XEN_ELFNOTE_PHYS32_ENTRY names a 32-bit
 * entry point, EBX points to the start information. */
#include "board/e820.h"
#include "board/loader_image.h"
#include "base/log.h"

#include <elf.h>
#include <stdlib.h>

enum {
	NOTE_PHYS32_ENTRY = 18,
	NOTES_MAX = 1 << 20,		/* bytes looked at in a note segment */
	NOTE_ALIGN = 4,
	START_MAGIC = 0x336ec578,	/* "xEn3" with the top bit set */
	START_VERSION = 1,		/* with a memory map */
};

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};

struct start_module {
	uint64_t base, size, command_line, reserved;
};

struct start_memory {
	uint64_t base, size;
	uint32_t type, reserved;
};

/* The entry's address among n bytes of notes; false when it is not there. */
static bool find_entry(const uint8_t *notes, uint64_t n, uint32_t *entry)
{
	while (n >= sizeof(Elf32_Nhdr)) {
		Elf32_Nhdr h;
		memcpy(&h, notes, sizeof h);
		uint64_t name = sizeof h;
		uint64_t text = name + align_up(h.n_namesz, NOTE_ALIGN);
		uint64_t next = text + align_up(h.n_descsz, NOTE_ALIGN);
		if (text + h.n_descsz > n)
			return false;
		if (h.n_type == NOTE_PHYS32_ENTRY && h.n_namesz == sizeof "Xen" &&
		    !memcmp(notes + name, "Xen", sizeof "Xen") && h.n_descsz >= sizeof *entry) {
			memcpy(entry, notes + text, sizeof *entry);
			return true;
		}
		if (next >= n)
			return false;
		notes += next;
		n -= next;
	}
	return false;
}

static int find_note(const struct kernel_image *k, const struct elf *elf, uint32_t *entry,
		     struct error *e)
{
	for (unsigned i = 0; i < elf->segments; i++) {
		const struct elf_segment *s = &elf->segment[i];
		uint64_t n = s->file_size < NOTES_MAX ? s->file_size : NOTES_MAX;
		if (s->type != PT_NOTE)
			continue;
		uint8_t *notes = alloc_zeroed(n + 1, 1);
		int failed = image_read(&k->file, s->offset, notes, n, e);
		bool found = !failed && find_entry(notes, n, entry);
		free(notes);
		if (failed)
			return -1;
		if (found)
			return 0;
	}
	return error_set(e, STATUS_FILE,
		"The kernel %s is an ELF file with neither a PVH note nor a multiboot header; for Linux build it with CONFIG_PVH or use its bzImage.",
		k->file.path);
}

static int put_start_info(const struct load_request *r, struct boot_block *b,
			  const struct module *module, uint32_t *address, struct error *e)
{
	struct start_info info = { START_MAGIC, START_VERSION, .rsdp = r->rsdp };
	struct start_module list[MODULES_MAX] = { 0 };
	struct start_memory map[E820_MAX] = { 0 };
	struct e820_entry e820[E820_MAX];
	const char *append = r->append ? r->append : "";
	info.memory_map_entries = e820_build(r->memory, e820);
	for (unsigned i = 0; i < info.memory_map_entries; i++)
		map[i] = (struct start_memory){ e820[i].base, e820[i].size, e820[i].type };
	info.memory_map = boot_block_put(b, map, info.memory_map_entries * sizeof *map, 8);
	info.command_line = boot_block_put(b, append, strlen(append) + 1, 1);
	info.modules = r->initrds;
	for (unsigned i = 0; i < r->initrds; i++) {
		const char *text = module[i].command_line;
		list[i] = (struct start_module){ module[i].base, module[i].size,
			boot_block_put(b, text, strlen(text) + 1, 1) };
		if (!list[i].command_line)
			return boot_block_full(r, e);
	}
	if (r->initrds)
		info.module_list = boot_block_put(b, list, r->initrds * sizeof *list, 8);
	*address = (uint32_t)boot_block_put(b, &info, sizeof info, 8);
	if (!info.memory_map || !info.command_line || (r->initrds && !info.module_list) ||
	    !*address)
		return boot_block_full(r, e);
	return 0;
}

static int load(const struct load_request *r, const struct kernel_image *k,
		const struct elf *elf, struct processor_state *bsp, struct error *e)
{
	struct module module[MODULES_MAX];
	uint64_t low, high;
	uint32_t entry = 0, start_info = 0;
	if (find_note(k, elf, &entry, e) || elf_load(k, elf, r->memory, &low, &high, e))
		return -1;
	if (entry < low || entry >= high)
		return error_set(e, STATUS_FILE,
			"The kernel %s is damaged: its PVH entry point %#x is not in what it loads (%#llx..%#llx); copy or build it again.",
			k->file.path, entry, (unsigned long long)low,
			(unsigned long long)(high - 1));
	uint64_t end = high < E820_HIGH_START ? E820_HIGH_START : high;
	if (modules_load(r, &end, module, e))
		return -1;
	struct boot_block b = boot_block_choose(r->memory, low, end);
	if (processor_flat_32(bsp, &b, entry))
		return boot_block_full(r, e);
	if (put_start_info(r, &b, module, &start_info, e))
		return -1;
	bsp->gpr[RBX] = start_info;
	return 0;
}

int loader_pvh(const struct load_request *r, const struct kernel_image *k,
	       struct processor_state *bsp, struct error *e)
{
	struct elf elf;
	if (elf_open(k, &elf, e))
		return -1;
	int result = load(r, k, &elf, bsp, e);
	elf_close(&elf);
	return result;
}
