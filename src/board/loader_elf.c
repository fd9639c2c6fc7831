/* ELF kernels: headers of either class into one form, and their segments into
 * guest memory. Every number in the file is a stranger's. */
#include "board/e820.h"
#include "board/loader_image.h"
#include "base/log.h"

#include <elf.h>
#include <stdlib.h>

enum { SEGMENTS_MAX = 256 };

bool elf_recognise(const struct kernel_image *k)
{
	return k->head_size >= sizeof(Elf32_Ehdr) && !memcmp(k->head, ELFMAG, SELFMAG);
}

static int damaged(const struct kernel_image *k, struct error *e, const char *what,
		   uint64_t value)
{
	return error_set(e, STATUS_FILE,
		"The kernel %s is a damaged ELF file: %s is %#llx; copy or build it again.",
		k->file.path, what, (unsigned long long)value);
}

struct header {
	uint64_t machine, entry, table, entry_size, count;
};

static struct header read_header(const struct kernel_image *k, bool is_64)
{
	if (is_64) {
		Elf64_Ehdr h;
		memcpy(&h, k->head, sizeof h);
		return (struct header){ h.e_machine, h.e_entry, h.e_phoff, h.e_phentsize, h.e_phnum };
	}
	Elf32_Ehdr h;
	memcpy(&h, k->head, sizeof h);
	return (struct header){ h.e_machine, h.e_entry, h.e_phoff, h.e_phentsize, h.e_phnum };
}

static struct elf_segment read_segment(const void *entry, bool is_64)
{
	if (is_64) {
		Elf64_Phdr p;
		memcpy(&p, entry, sizeof p);
		return (struct elf_segment){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr,
					     p.p_filesz, p.p_memsz };
	}
	Elf32_Phdr p;
	memcpy(&p, entry, sizeof p);
	return (struct elf_segment){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz,
				     p.p_memsz };
}

int elf_open(const struct kernel_image *k, struct elf *elf, struct error *e)
{
	uint8_t class = k->head[EI_CLASS];
	*elf = (struct elf){ .is_64 = class == ELFCLASS64 };
	if ((class != ELFCLASS32 && class != ELFCLASS64) || k->head[EI_DATA] != ELFDATA2LSB)
		return error_set(e, STATUS_FILE,
			"The kernel %s is an ELF file of class %u and data encoding %u; choose one for x86.",
			k->file.path, class, k->head[EI_DATA]);
	if (elf->is_64 && k->head_size < sizeof(Elf64_Ehdr))
		return damaged(k, e, "its size", k->file.size);
	struct header h = read_header(k, elf->is_64);
	uint64_t entry_size = elf->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	if (h.machine != EM_386 && h.machine != EM_X86_64)
		return error_set(e, STATUS_FILE,
			"The kernel %s is built for another machine (ELF machine %llu); choose one for x86.",
			k->file.path, (unsigned long long)h.machine);
	if (h.entry_size != entry_size)
		return damaged(k, e, "the size of its program headers", h.entry_size);
	if (!h.count || h.count > SEGMENTS_MAX)
		return damaged(k, e, "the number of its program headers", h.count);
	uint8_t *table = alloc_zeroed(h.count, entry_size);
	if (image_read(&k->file, h.table, table, h.count * entry_size, e)) {
		free(table);
		return -1;
	}
	elf->entry = h.entry;
	elf->segments = (unsigned)h.count;
	elf->segment = alloc_zeroed(h.count, sizeof *elf->segment);
	for (unsigned i = 0; i < elf->segments; i++)
		elf->segment[i] = read_segment(table + i * entry_size, elf->is_64);
	free(table);
	return 0;
}

void elf_close(struct elf *elf)
{
	free(elf->segment);
	elf->segment = NULL;
}

int elf_load(const struct kernel_image *k, const struct elf *elf, struct memory *m,
	     uint64_t *low, uint64_t *high, struct error *e)
{
	*low = UINT64_MAX;
	*high = 0;
	for (unsigned i = 0; i < elf->segments; i++) {
		const struct elf_segment *s = &elf->segment[i];
		if (s->type != PT_LOAD || !s->memory_size)
			continue;
		if (s->file_size > s->memory_size)
			return damaged(k, e, "a segment's size in the file, larger than in memory,",
				       s->file_size);
		if (!e820_usable(m, s->paddr, s->memory_size))
			return error_set(e, STATUS_FILE,
				"The kernel %s wants to be loaded at %#llx..%#llx, where the VM of %llu MiB has no free RAM; raise --memory or link it elsewhere.",
				k->file.path, (unsigned long long)s->paddr,
				(unsigned long long)(s->paddr + s->memory_size - 1),
				(unsigned long long)(m->size / MIB));
		if (image_load(&k->file, s->offset, s->file_size, m, s->paddr, e))
			return -1;
		memory_fill(m, s->paddr + s->file_size, 0, s->memory_size - s->file_size);
		if (s->paddr < *low)
			*low = s->paddr;
		if (s->paddr + s->memory_size > *high)
			*high = s->paddr + s->memory_size;
	}
	if (!*high)
		return error_set(e, STATUS_FILE,
			"The kernel %s is an ELF file without anything to load (a relocatable object?); link it.",
			k->file.path);
	return 0;
}

uint64_t elf_physical(const struct elf *elf, uint64_t vaddr)
{
	for (unsigned i = 0; i < elf->segments; i++) {
		const struct elf_segment *s = &elf->segment[i];
		if (s->type == PT_LOAD && vaddr - s->vaddr < s->memory_size)
			return vaddr - s->vaddr + s->paddr;
	}
	return vaddr;
}
