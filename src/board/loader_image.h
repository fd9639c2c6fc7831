/* What the loaders share: reading files, ELF, a block of guest memory for the
 * boot protocol's structures, and the processor states they start with. */
#ifndef NESTOR_BOARD_LOADER_IMAGE_H
#define NESTOR_BOARD_LOADER_IMAGE_H

#include "board/loader.h"

/* A file that is being loaded. */
struct image {
	int fd;
	const char *path;	/* as the user wrote it */
	const char *role;	/* "kernel" or "initrd", for error sentences */
	uint64_t size;
};

int image_open(struct image *f, const char *role, const char *path, struct error *e);
void image_close(struct image *f);
/* Exactly n bytes from offset, or -1. */
int image_read(const struct image *f, uint64_t offset, void *to, uint64_t n, struct error *e);
/* Exactly n bytes from offset to guest-physical pa, or -1. */
int image_load(const struct image *f, uint64_t offset, uint64_t n, struct memory *m, uint64_t pa,
	       struct error *e);

/* The kernel file with the bytes by which it is recognised. */
enum { KERNEL_HEAD = 8192 };	/* a multiboot header lies in here */
struct kernel_image {
	struct image file;
	uint8_t head[KERNEL_HEAD];	/* zero beyond head_size */
	unsigned head_size;
};

/* A kernel in ELF, of either class. */
struct elf_segment {
	uint32_t type;
	uint64_t offset, vaddr, paddr, file_size, memory_size;
};
struct elf {
	bool is_64;
	uint64_t entry;		/* as the header has it */
	unsigned segments;
	struct elf_segment *segment;
};

/* elf_open reads and checks the headers, for elf_close to free; elf_recognise
 * asks only whether the file claims to be ELF. */
bool elf_recognise(const struct kernel_image *k);
int elf_open(const struct kernel_image *k, struct elf *elf, struct error *e);
void elf_close(struct elf *elf);
/* Load every PT_LOAD at its physical address. *low..*high-1 encloses them. */
int elf_load(const struct kernel_image *k, const struct elf *elf, struct memory *m,
	     uint64_t *low, uint64_t *high, struct error *e);
/* Physical address of a virtual one, or itself when no segment holds it. */
uint64_t elf_physical(const struct elf *elf, uint64_t vaddr);

/* Guest memory that is handed out piece by piece. */
struct boot_block {
	struct memory *memory;
	uint64_t at, end;
};
/* A block clear of low..high-1: low memory when the kernel leaves it alone,
 * otherwise what follows at `high`. */
struct boot_block boot_block_choose(struct memory *m, uint64_t low, uint64_t high);
/* Copy n bytes there (NULL: zeros), aligned; returns the guest-physical
 * address, 0 when the block is full. */
uint64_t boot_block_put(struct boot_block *b, const void *from, uint64_t n, uint64_t align);
int boot_block_full(const struct load_request *r, struct error *e);	/* the error for that */

/* Files of --initrd as modules, each at a page of its own from *at on; *at
 * becomes the end. */
struct module {
	uint64_t base, size;
	const char *command_line;	/* the whole --initrd text */
};
enum { MODULES_MAX = 256 };
int modules_load(const struct load_request *r, uint64_t *at, struct module *module,
		 struct error *e);

/* 32-bit protected mode, paging off, flat segments from a GDT in the block
 * (code 10h, data 18h). */
int processor_flat_32(struct processor_state *p, struct boot_block *b, uint64_t entry);
/* 64-bit mode with the first 4 GiB mapped one to one. */
int processor_flat_64(struct processor_state *p, struct boot_block *b, uint64_t entry);

/* One per boot protocol: load the kernel and the rest of the request, and fill
 * the state that the first processor starts with. -1 with the reason in *e. */
int loader_linux(const struct load_request *r, const struct kernel_image *k,
		 struct processor_state *bsp, struct error *e);
bool loader_linux_recognise(const struct kernel_image *k);
int loader_multiboot(const struct load_request *r, const struct kernel_image *k,
		     struct processor_state *bsp, struct error *e);
bool loader_multiboot_recognise(const struct kernel_image *k);
int loader_pvh(const struct load_request *r, const struct kernel_image *k,
	       struct processor_state *bsp, struct error *e);

#endif
