/* The loaders: what the guest finds in memory and in its registers, and what
 * the user is told about files that are no kernels. */
#include "base/bits.h"
#include "base/error.h"
#include "board/e820.h"
#include "board/loader.h"
#include "x86/registers.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { RAM = 64 * MIB, RSDP = 0xe0000 };

static char directory[] = "/tmp/test_loader.XXXXXX";
static struct memory *memory;
static struct error error;
static struct processor_state bsp;

static int open_directory(void **state)
{
	return !mkdtemp(directory);
}

static int close_directory(void **state)
{
	char command[64];
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

static int open_memory(void **state)
{
	memory = memory_create(RAM, &error);
	memset(&error, 0, sizeof error);
	return !memory;
}

static int close_memory(void **state)
{
	memory_destroy(memory);
	return 0;
}

static const char *path_of(const char *name)
{
	static char path[4][128];
	static unsigned turn;
	char *p = path[turn++ % 4];
	snprintf(p, sizeof path[0], "%s/%s", directory, name);
	return p;
}

static const char *write_file(const char *name, const void *data, size_t n)
{
	const char *path = path_of(name);
	unlink(path);	/* ext4 flushes a file that is emptied and written again */
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	fclose(f);
	return path;
}

static int load_with(const char *kernel, const char *const *initrd, unsigned initrds,
		     const char *append)
{
	struct load_request r = { kernel, initrd, initrds, append, memory, RSDP };
	return loader_load(&r, &bsp, &error);
}

static int load(const char *kernel)
{
	return load_with(kernel, NULL, 0, "");
}

/* One sentence with the file's name, status 66. */
static void is_refused(const char *kernel, const char *because)
{
	memset(&error, 0, sizeof error);
	assert_int_equal(load(kernel), -1);
	assert_int_equal(error.status, STATUS_FILE);
	if (!strstr(error.text, kernel) || !strstr(error.text, because))
		fail_msg("\"%s\" does not say \"%s\"", error.text, because);
}

static uint64_t at(uint64_t pa, unsigned bytes)
{
	uint8_t b[8];
	assert_true(memory_read(memory, pa, b, bytes));
	return load_le(b, bytes);
}

static bool is_text(uint64_t pa, const char *text)
{
	char found[256];
	assert_true(memory_read(memory, pa, found, strlen(text) + 1));
	return !strcmp(found, text);
}

/* --- kernels of our own --- */

enum { SETUP = 5 * 512, PAYLOAD = 64 * 1024, PREFERRED = 16 * MIB };

static uint8_t image[256 * 1024];

static size_t make_linux(void)
{
	memset(image, 0, sizeof image);
	struct setup_header *h = (void *)(image + 0x1f1);
	h->setup_sects = 4;
	h->syssize = PAYLOAD / 16;
	h->boot_flag = 0xaa55;
	h->jump = 0x6aeb;	/* header ends at 202h + 6Ah */
	h->header = 0x53726448;
	h->version = 0x20f;
	h->loadflags = 1;
	h->kernel_alignment = 2 * MIB;
	h->relocatable_kernel = 1;
	h->xloadflags = XLF_KERNEL_64;
	h->cmdline_size = 2047;
	h->initrd_addr_max = 0x7fffffff;
	h->pref_address = PREFERRED;
	h->init_size = 8 * MIB;
	for (unsigned i = 0; i < PAYLOAD; i++)
		image[SETUP + i] = (uint8_t)(i * 7);
	return SETUP + PAYLOAD;
}

static struct setup_header *linux_header(void)
{
	return (void *)(image + 0x1f1);
}

enum { ELF_ENTRY = 0x100080, ELF_BASE = 0x100000, ELF_FILE = 0x1000, ELF_MEMORY = 0x2ff0 };

static Elf64_Ehdr *elf_header(void)
{
	return (void *)image;
}

static Elf64_Phdr *elf_segment(unsigned i)
{
	return (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr)) + i;
}

/* ELF64 with one segment, linked high and loaded at 1 MiB, and a note. */
static size_t make_elf(bool note)
{
	memset(image, 0, sizeof image);
	*elf_header() = (Elf64_Ehdr){
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		.e_entry = 0xffffffff80000080, .e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2,
	};
	*elf_segment(0) = (Elf64_Phdr){ PT_LOAD, PF_R | PF_X, 0x1000, 0xffffffff80000000,
					ELF_BASE, ELF_FILE, ELF_MEMORY, 0x1000 };
	*elf_segment(1) = (Elf64_Phdr){ note ? PT_NOTE : PT_NULL, PF_R, 0x800, 0, 0, 48, 48, 4 };
	static const uint32_t notes[] = {
		4, 4, 1, 0x00554e47, 0x12345678,	/* another's: "GNU" */
		4, 8, 18, 0x006e6558, ELF_ENTRY, 0,	/* "Xen", PHYS32_ENTRY */
	};
	memcpy(image + 0x800, notes, sizeof notes);
	memset(image + 0x1000, 0x90, ELF_FILE);
	return 0x1000 + ELF_FILE;
}

struct multiboot {
	uint32_t magic, flags, checksum, header_addr, load_addr, load_end_addr, bss_end_addr,
		entry_addr;
};
enum { MULTIBOOT_AT = 0x40 };

static struct multiboot *multiboot_header(void)
{
	return (void *)(image + MULTIBOOT_AT);
}

static void multiboot_flags(uint32_t flags)
{
	multiboot_header()->flags = flags;
	multiboot_header()->checksum = -(0x1badb002 + flags);
}

/* A flat image with address fields. */
static size_t make_multiboot(void)
{
	memset(image, 0x90, sizeof image);
	*multiboot_header() = (struct multiboot){ .magic = 0x1badb002,
		.header_addr = 0x200000 + MULTIBOOT_AT, .load_addr = 0x200000,
		.load_end_addr = 0x203000, .bss_end_addr = 0x207ff0, .entry_addr = 0x200100 };
	multiboot_flags(1 << 16 | 3);
	return 0x3000;
}

/* --- what a kernel finds --- */

/* Walk the 4-level tables at CR3. */
static uint64_t translate(uint64_t linear)
{
	uint64_t table = bsp.cr3;
	for (int shift = 39; shift >= 12; shift -= 9) {
		uint64_t entry = at((table & BITS(51, 12)) + (linear >> shift & 511) * 8, 8);
		if (!(entry & 1))
			return UINT64_MAX;
		if (shift == 12 || entry & 0x80)
			return (entry & BITS(51, shift)) | (linear & (BIT(shift) - 1));
		table = entry;
	}
	return UINT64_MAX;
}

static void linux_state(void **state)
{
	const char *kernel = write_file("bzImage", image, make_linux());
	const char *initrd[] = { write_file("one", "abcde", 5), write_file("two", "0123456", 7) };
	assert_int_equal(load_with(kernel, initrd, 2, "console=ttyS0 quiet"), 0);
	assert_int_equal(bsp.rip, PREFERRED + 0x200);
	assert_true(bsp.cr0 & CR0_PG && bsp.cr0 & CR0_PE);
	assert_int_equal(bsp.efer, EFER_LME | EFER_LMA);
	assert_int_equal(bsp.cr4, CR4_PAE);
	assert_false(bsp.rflags & FLAG_IF);
	assert_int_equal(bsp.seg[SEG_CS].selector, 0x10);
	assert_true(bsp.seg[SEG_CS].access_rights & AR_L);
	assert_int_equal(bsp.seg[SEG_DS].selector, 0x18);
	assert_int_equal(at(bsp.gdtr.base + 0x10, 8), 0x00af9b000000ffff);
	static const uint64_t linear[] = { 0, PREFERRED, 0x7fffffff, 0xfee00000, 0xffffffff };
	for (unsigned i = 0; i < ARRAY_SIZE(linear); i++)
		assert_int_equal(translate(linear[i]), linear[i]);
	assert_int_equal(translate(0x100000000), UINT64_MAX);

	struct boot_params p;
	assert_true(memory_read(memory, bsp.gpr[RSI], &p, sizeof p));
	assert_int_equal(p.hdr.header, 0x53726448);
	assert_int_equal(p.hdr.type_of_loader, 0xff);
	assert_int_equal(p.hdr.init_size, 8 * MIB);
	assert_int_equal(p.acpi_rsdp_addr, RSDP);
	assert_true(is_text(p.hdr.cmd_line_ptr, "console=ttyS0 quiet"));
	assert_int_equal(p.hdr.ramdisk_size, 8 + 8);
	assert_int_equal(p.hdr.ramdisk_image % PAGE_SIZE, 0);
	char initrds[16];
	memory_read(memory, p.hdr.ramdisk_image, initrds, sizeof initrds);
	assert_memory_equal(initrds, "abcde\0\0\0000123456\0", 16);
	assert_int_equal(at(PREFERRED + 3, 1), 21);
	assert_int_equal(at(PREFERRED + PAYLOAD - 1, 1), (uint8_t)((PAYLOAD - 1) * 7));
	/* RAM to 9FC00h and from 1 MiB; nothing else below its end is RAM. */
	assert_int_equal(p.e820_table[0].size, E820_LOW_END);
	assert_int_equal(p.e820_table[1].addr + p.e820_table[1].size, 0x100000);
	assert_int_equal(p.e820_table[1].type, E820_RESERVED);
	assert_int_equal(p.e820_table[2].addr + p.e820_table[2].size, RAM);
}

static void linux_moves_where_ram_is_short(void **state)
{
	make_linux();
	linux_header()->pref_address = RAM - MIB;
	assert_int_equal(load(write_file("bzImage", image, SETUP + PAYLOAD)), 0);
	assert_int_equal(bsp.rip, 2 * MIB + 0x200);
	linux_header()->relocatable_kernel = 0;
	is_refused(write_file("bzImage", image, SETUP + PAYLOAD), "raise --memory");
}

static void linux_limits(void **state)
{
	char append[3000];
	memset(append, 'x', sizeof append);
	append[sizeof append - 1] = 0;
	const char *kernel = write_file("bzImage", image, make_linux());
	assert_int_equal(load_with(kernel, NULL, 0, append), -1);
	assert_non_null(strstr(error.text, "--append"));
	append[2047] = 0;
	assert_int_equal(load_with(kernel, NULL, 0, append), 0);

	const char *missing[] = { path_of("missing") };
	assert_int_equal(load_with(kernel, missing, 1, ""), -1);
	assert_non_null(strstr(error.text, "initrd"));
	const char *huge[] = { write_file("huge", "", 0), write_file("small", "12", 2) };
	assert_int_equal(truncate(huge[0], (off_t)BIT(42)), 0);
	assert_int_equal(load_with(kernel, huge, 2, ""), -1);
	assert_non_null(strstr(error.text, "raise --memory"));
	assert_int_equal(truncate(huge[0], RAM - PREFERRED - 8 * MIB), 0);	/* just fits alone */
	assert_int_equal(load_with(kernel, huge, 1, ""), 0);
	assert_int_equal(load_with(kernel, huge, 2, ""), -1);
}

static void linux_refused(void **state)
{
	size_t n = make_linux();
	is_refused(write_file("bzImage", image, n - 4096), "truncated");
	is_refused(write_file("bzImage", image, 1024), "truncated");
	linux_header()->xloadflags = 0;
	is_refused(write_file("bzImage", image, n), "64-bit");
	make_linux();
	linux_header()->version = 0x204;
	is_refused(write_file("bzImage", image, n), "64-bit");
	make_linux();
	linux_header()->kernel_alignment = 3;
	is_refused(write_file("bzImage", image, n), "alignment");
	make_linux();
	linux_header()->init_size = UINT32_MAX;
	is_refused(write_file("bzImage", image, n), "raise --memory");
	make_linux();
	linux_header()->pref_address = UINT64_MAX - 4096;
	linux_header()->relocatable_kernel = 0;
	is_refused(write_file("bzImage", image, n), "raise --memory");
	make_linux();
	linux_header()->pref_address = 0x90000;	/* into the legacy hole */
	linux_header()->relocatable_kernel = 0;
	is_refused(write_file("bzImage", image, n), "raise --memory");
}

static void flat_32(uint64_t entry)
{
	assert_int_equal(bsp.rip, entry);
	assert_true(bsp.cr0 & CR0_PE);
	assert_false(bsp.cr0 & CR0_PG);
	assert_int_equal(bsp.efer, 0);
	assert_false(bsp.rflags & FLAG_IF);
	for (int s = SEG_ES; s <= SEG_GS; s++) {
		assert_int_equal(bsp.seg[s].base, 0);
		assert_int_equal(bsp.seg[s].limit, 0xffffffff);
		assert_true(bsp.seg[s].access_rights & AR_DB);
	}
	assert_int_equal(bsp.seg[SEG_CS].access_rights & AR_TYPE, 0xb);
	assert_int_equal(bsp.seg[SEG_TR].access_rights & AR_TYPE, 0xb);
}

static void pvh_state(void **state)
{
	const char *kernel = write_file("vmlinux", image, make_elf(true));
	const char *initrd[] = { write_file("one", "abcde", 5) };
	memory_fill(memory, ELF_BASE, 0xee, ELF_MEMORY + 1);
	assert_int_equal(load_with(kernel, initrd, 1, "hello"), 0);
	flat_32(ELF_ENTRY);
	uint64_t info = bsp.gpr[RBX];
	assert_int_equal(at(info, 4), 0x336ec578);
	assert_int_equal(at(info + 4, 4), 1);
	assert_int_equal(at(info + 12, 4), 1);
	uint64_t modules = at(info + 16, 8);
	assert_true(is_text(at(modules, 8), "abcde"));
	assert_int_equal(at(modules + 8, 8), 5);
	assert_true(is_text(at(modules + 16, 8), initrd[0]));
	assert_true(is_text(at(info + 24, 8), "hello"));
	assert_int_equal(at(info + 32, 8), RSDP);
	assert_in_range(at(info + 48, 4), 3, E820_MAX);
	assert_int_equal(at(at(info + 40, 8) + 8, 8), E820_LOW_END);
	assert_int_equal(at(ELF_BASE + ELF_FILE - 1, 1), 0x90);
	assert_int_equal(at(ELF_BASE + ELF_FILE, 8), 0);	/* bss is cleared */
	assert_int_equal(at(ELF_BASE + ELF_MEMORY, 1), 0xee);	/* and nothing more */
}

static void elf_refused(void **state)
{
	size_t n = make_elf(false);
	is_refused(write_file("elf", image, n), "PVH note");
	make_elf(true);
	elf_header()->e_machine = EM_AARCH64;
	is_refused(write_file("elf", image, n), "machine");
	make_elf(true);
	elf_header()->e_ident[EI_DATA] = ELFDATA2MSB;
	is_refused(write_file("elf", image, n), "data encoding");
	make_elf(true);
	elf_header()->e_phentsize = 1;
	is_refused(write_file("elf", image, n), "size of its program headers");
	make_elf(true);
	elf_header()->e_phnum = 0xffff;
	is_refused(write_file("elf", image, n), "number of its program headers");
	make_elf(true);
	elf_header()->e_phoff = UINT64_MAX - 8;
	is_refused(write_file("elf", image, n), "truncated");
	static const struct { uint64_t offset, paddr, file, memory; const char *because; } s[] = {
		{ UINT64_MAX, ELF_BASE, 16, 16, "truncated" },
		{ 0x1000, ELF_BASE, BIT(20), BIT(20), "truncated" },
		{ 0x1000, ELF_BASE, 0x1000, 0x800, "damaged" },
		{ 0x1000, UINT64_MAX - 4, 8, 8, "no free RAM" },
		{ 0x1000, ELF_BASE, 8, UINT64_MAX, "no free RAM" },
		{ 0x1000, 0xa0000, 8, 8, "no free RAM" },
		{ 0x1000, 0xf0000, 8, 8, "no free RAM" },
		{ 0x1000, RAM - 4, 8, 8, "no free RAM" },
		{ 0x1000, 0x8000000, 0, 0, "without anything to load" },
		{ 0x1000, 0x900000, 0x1000, 0x1000, "entry point" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(s); i++) {
		make_elf(true);
		elf_segment(0)->p_offset = s[i].offset;
		elf_segment(0)->p_paddr = s[i].paddr;
		elf_segment(0)->p_filesz = s[i].file;
		elf_segment(0)->p_memsz = s[i].memory;
		is_refused(write_file("elf", image, n), s[i].because);
	}
	/* Notes that lie about their length. */
	make_elf(true);
	memset(image + 0x800, 0xff, 48);
	is_refused(write_file("elf", image, n), "PVH note");
	make_elf(true);
	elf_segment(1)->p_filesz = UINT64_MAX;
	is_refused(write_file("elf", image, n), "truncated");
}

static void multiboot_state(void **state)
{
	const char *kernel = write_file("test.bin", image, make_multiboot());
	char module[160];
	const char *initrd[] = { write_file("one", "abcde", 5), module };
	snprintf(module, sizeof module, "%s with arguments", write_file("two", "xyz", 3));
	memory_fill(memory, 0x203000, 0xee, 0x5000);
	assert_int_equal(load_with(kernel, initrd, 2, "a b"), 0);
	flat_32(0x200100);
	assert_int_equal(bsp.gpr[RAX], 0x2badb002);
	uint64_t info = bsp.gpr[RBX];
	uint32_t flags = (uint32_t)at(info, 4);
	assert_int_equal(flags, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
	assert_int_equal(at(info + 4, 4), E820_LOW_END / KIB);
	assert_int_equal(at(info + 8, 4), (RAM - MIB) / KIB);
	assert_int_equal(at(0x40e, 2), E820_LOW_END >> 4);	/* BIOS data area */
	assert_int_equal(at(0x413, 2), E820_LOW_END / KIB);
	char expected[200];
	snprintf(expected, sizeof expected, "%s a b", kernel);
	assert_true(is_text(at(info + 16, 4), expected));
	assert_int_equal(at(info + 20, 4), 2);
	uint64_t modules = at(info + 24, 4);
	assert_int_equal(at(modules, 4) % PAGE_SIZE, 0);
	assert_in_range(at(modules, 4), 0x208000, RAM);
	assert_int_equal(at(modules + 4, 4) - at(modules, 4), 5);
	assert_true(is_text(at(modules, 4), "abcde"));
	assert_true(is_text(at(modules + 8, 4), initrd[0]));
	assert_true(is_text(at(modules + 16, 4), "xyz"));
	assert_true(is_text(at(modules + 24, 4), module));
	uint64_t map = at(info + 48, 4), end = map + at(info + 44, 4);
	uint64_t ram = 0;
	for (; map < end; map += 4 + at(map, 4)) {
		assert_int_equal(at(map, 4), 20);
		if (at(map + 20, 4) == 1)
			ram += at(map + 12, 8);
	}
	assert_int_equal(ram, RAM - MIB + E820_LOW_END);
	assert_int_equal(at(0x2001ff, 1), 0x90);
	assert_int_equal(at(0x203000, 8), 0);
	assert_int_equal(at(0x207fef, 1), 0);
	assert_int_equal(at(0x207ff0, 1), 0xee);
}

static void multiboot_forms(void **state)
{
	size_t n = make_multiboot();
	/* No end given: the whole file and no bss. */
	multiboot_header()->load_end_addr = multiboot_header()->bss_end_addr = 0;
	assert_int_equal(load(write_file("m", image, n)), 0);
	assert_int_equal(at(0x202fff, 1), 0x90);
	/* In low memory: the information goes elsewhere. */
	make_multiboot();
	*multiboot_header() = (struct multiboot){ .magic = 0x1badb002,
		.header_addr = 0x1000 + MULTIBOOT_AT, .load_addr = 0x1000, .entry_addr = 0x1000 };
	multiboot_flags(1 << 16);
	assert_int_equal(load(write_file("m", image, n)), 0);
	assert_in_range(bsp.gpr[RBX], 0x100000, RAM);
	assert_in_range(bsp.gdtr.base, 0x100000, RAM);
	assert_int_equal(at(0x1000, 8), 0x9090909090909090);
	/* ELF without address fields; the entry is a virtual address. */
	make_elf(true);
	*(struct multiboot *)(image + 0x400) = (struct multiboot){ 0x1badb002, 0, -0x1badb002u };
	assert_int_equal(load(write_file("m", image, 0x2000)), 0);
	flat_32(ELF_ENTRY);
	assert_int_equal(bsp.gpr[RAX], 0x2badb002);
	/* The header's last place, and one further. */
	memset(image, 0, sizeof image);
	struct multiboot last = { 0x1badb002, 1 << 16, -(0x1badb002u + (1 << 16)),
				  0x200000 + 8160, 0x200000, 0, 0, 0x200000 };
	memcpy(image + 8160, &last, sizeof last);
	assert_int_equal(load(write_file("m", image, 16384)), 0);
	memset(image, 0, sizeof image);
	memcpy(image + 8184, &last, sizeof last);
	is_refused(write_file("m", image, 16384), "no kernel");
}

static void multiboot_refused(void **state)
{
	size_t n = make_multiboot();
	multiboot_flags(1 << 16 | 1 << 5);
	is_refused(write_file("m", image, n), "features");
	make_multiboot();
	multiboot_flags(0);
	is_refused(write_file("m", image, n), "no ELF");
	static const struct multiboot h[] = {
		{ 0, 0, 0, 0x200040, 0x300000, 0, 0, 0x200000 },
		{ 0, 0, 0, 0x200040, 0x100000, 0, 0, 0x200000 },	/* before the file's begin */
		{ 0, 0, 0, 0x200040, 0x200000, 0x100000, 0, 0x200000 },
		{ 0, 0, 0, 0x200040, 0x200000, 0x300000, 0, 0x200000 },	/* more than the file */
		{ 0, 0, 0, 0x200040, 0x200000, 0xffffffff, 0, 0x200000 },
		{ 0, 0, 0, 0x200040, 0x200000, 0x203000, 0xffffffff, 0x200000 },
		{ 0, 0, 0, 0xa0040, 0xa0000, 0, 0, 0xa0000 },
		{ 0, 0, 0, 0xfffff040, 0xfffff000, 0, 0, 0xfffff000 },
		{ 0, 0, 0, 0x200040, 0x200000, 0x203000, 0, 0x1000 },
		{ 0, 0, 0, 0x200040, 0x200000, 0x203000, 0, 0x203000 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(h); i++) {
		make_multiboot();
		*multiboot_header() = h[i];
		multiboot_header()->magic = 0x1badb002;
		multiboot_flags(1 << 16);
		is_refused(write_file("m", image, n), "");
	}
}

static void no_kernel_at_all(void **state)
{
	is_refused(path_of("missing"), "cannot be opened");
	is_refused(directory, "no regular file");
	is_refused("/dev/zero", "no regular file");
	is_refused(write_file("empty", "", 0), "no kernel");
	is_refused(write_file("text", "#!/bin/sh\n", 10), "no kernel");
	is_refused(write_file("gz", "\x1f\x8b\x08", 3), "gunzip");
	const char *fifo = path_of("fifo");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	is_refused(fifo, "no regular file");
}

static void small_memory(void **state)
{
	memory_destroy(memory);
	memory = memory_create(MIB, &error);
	is_refused(write_file("bzImage", image, make_linux()), "raise --memory");
	is_refused(write_file("elf", image, make_elf(true)), "raise --memory");
	is_refused(write_file("m", image, make_multiboot()), "raise --memory");
}

static void memory_map_above_4g(void **state)
{
	struct e820_entry map[E820_MAX];
	struct memory *large = memory_create(5 * GIB, &error);
	unsigned n = e820_build(large, map);
	for (unsigned i = 1; i < n; i++)
		assert_true(map[i - 1].base + map[i - 1].size <= map[i].base);
	assert_int_equal(map[n - 1].base, MEMORY_HIGH_BASE);
	assert_int_equal(map[n - 1].size, 5 * GIB - MEMORY_LOW_MAX);
	assert_true(e820_usable(large, MEMORY_HIGH_BASE, map[n - 1].size));
	assert_false(e820_usable(large, MEMORY_HIGH_BASE, map[n - 1].size + 1));
	assert_false(e820_usable(large, MEMORY_LOW_MAX - 4, 8));
	assert_false(e820_usable(large, E820_ENGINE_BASE, 1));
	memory_destroy(large);
}

/* Every prefix of every kind of kernel, and kernels with random damage: an
 * answer each time, and never a write to where no program belongs. */
static void hostile_files(void **state)
{
	size_t (*const make[])(void) = { make_linux, make_multiboot };
	uint64_t x = 0x9e3779b97f4a7c15;
	for (unsigned kind = 0; kind < 3; kind++) {
		size_t n = kind < 2 ? make[kind]() : make_elf(true);
		for (size_t cut = 0; cut < n; cut += cut < 1200 ? 1 : 997)
			if (load(write_file("h", image, cut)) && error.status != STATUS_FILE)
				fail_msg("status %d: %s", error.status, error.text);
		for (int round = 0; round < 2000; round++) {
			if (kind < 2)
				make[kind]();
			else
				make_elf(true);
			for (int damage = 0; damage < 4; damage++) {
				x ^= x << 13, x ^= x >> 7, x ^= x << 17;
				static const unsigned range[] = { 0x270, 0x60, 0x880 };
				unsigned where = (unsigned)((x >> 8) % range[kind]);
				if (kind == 0)
					where = 0x1f1 + where % 0x7f;
				image[where] = (uint8_t)(x & 1 ? x >> 32 : x & 2 ? 0xff : 0);
			}
			if (kind == 1)	/* keep it recognisable */
				multiboot_flags(1 << 16);
			if (load(write_file("h", image, n)) && error.status != STATUS_FILE)
				fail_msg("status %d: %s", error.status, error.text);
		}
	}
	for (uint64_t pa = 0xe0000; pa < 0x100000; pa += 8)
		assert_int_equal(at(pa, 8), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_memory, close_memory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(linux_state), TEST(linux_moves_where_ram_is_short), TEST(linux_limits),
		TEST(linux_refused), TEST(pvh_state), TEST(elf_refused), TEST(multiboot_state),
		TEST(multiboot_forms), TEST(multiboot_refused), TEST(no_kernel_at_all),
		TEST(small_memory), TEST(memory_map_above_4g), TEST(hostile_files),
	};
	return cmocka_run_group_tests(tests, open_directory, close_directory);
}
