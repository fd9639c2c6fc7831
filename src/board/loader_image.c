#include "board/loader_image.h"

#include "board/e820.h"
#include "x86/registers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_CHUNK = 64 * 1024 };

int image_open(struct image *f, const char *role, const char *path, struct error *e)
{
	struct stat st;
	*f = (struct image){ .path = path, .role = role };
	/* Not blocking: a FIFO without a writer must not hang us. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return error_set(e, STATUS_FILE, "The %s %s cannot be opened: %s.", role, path,
				 strerror(errno));
	if (fstat(f->fd, &st) || !S_ISREG(st.st_mode)) {
		image_close(f);
		return error_set(e, STATUS_FILE,
			"The %s %s is no regular file; name a file, not a directory or device.",
			role, path);
	}
	f->size = (uint64_t)st.st_size;
	return 0;
}

void image_close(struct image *f)
{
	close(f->fd);
	f->fd = -1;
}

int image_read(const struct image *f, uint64_t offset, void *to, uint64_t n, struct error *e)
{
	if (offset > f->size || n > f->size - offset)
		return error_set(e, STATUS_FILE,
			"The %s %s is truncated: it should have %llu bytes at offset %llu, the file ends at %llu; copy it again.",
			f->role, f->path, (unsigned long long)n, (unsigned long long)offset,
			(unsigned long long)f->size);
	for (uint8_t *out = to; n;) {
		ssize_t got = pread(f->fd, out, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return error_set(e, STATUS_FILE, "The %s %s cannot be read at offset %llu: %s.",
				f->role, f->path, (unsigned long long)offset,
				got ? strerror(errno) : "the file became shorter");
		out += got;
		offset += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

int image_load(const struct image *f, uint64_t offset, uint64_t n, struct memory *m, uint64_t pa,
	       struct error *e)
{
	uint8_t chunk[COPY_CHUNK];
	while (n) {
		uint64_t part = n < sizeof chunk ? n : sizeof chunk;
		if (image_read(f, offset, chunk, part, e))
			return -1;
		if (!memory_write(m, pa, chunk, part))
			return error_set(e, STATUS_FILE,
				"The %s %s does not fit: guest memory has no RAM at %#llx; raise --memory.",
				f->role, f->path, (unsigned long long)pa);
		offset += part;
		pa += part;
		n -= part;
	}
	return 0;
}

struct boot_block boot_block_choose(struct memory *m, uint64_t low, uint64_t high)
{
	if (low >= E820_HIGH_START)
		/* Not page 0: a null pointer should stay one, and the BIOS
		 * data area is read by kernels. */
		return (struct boot_block){ m, PAGE_SIZE,
			m->low_size < E820_LOW_END ? m->low_size : E820_LOW_END };
	return (struct boot_block){ m, align_up(high < E820_HIGH_START ? E820_HIGH_START : high,
						PAGE_SIZE), m->low_size };
}

uint64_t boot_block_put(struct boot_block *b, const void *from, uint64_t n, uint64_t align)
{
	uint64_t at = align_up(b->at, align);
	if (at > b->end || n > b->end - at)
		return 0;
	if (!(from ? memory_write(b->memory, at, from, n) : memory_fill(b->memory, at, 0, n)))
		return 0;
	b->at = at + n;
	return at;
}

int boot_block_full(const struct load_request *r, struct error *e)
{
	return error_set(e, STATUS_FILE,
		"No guest memory is left for the start information of the kernel %s (command line of %zu bytes); raise --memory or shorten --append.",
		r->kernel, r->append ? strlen(r->append) : 0);
}

/* "FILE" or, when no such file exists, "FILE ARGUMENTS". */
static int module_open(struct image *f, const char *text, char *path, size_t room, struct error *e)
{
	size_t length = access(text, F_OK) ? strcspn(text, " ") : strlen(text);
	if (length >= room)
		return error_set(e, STATUS_FILE, "The initrd name %.40s... is too long.", text);
	memcpy(path, text, length);
	path[length] = 0;
	return image_open(f, "initrd", path, e);
}

int modules_load(const struct load_request *r, uint64_t *at, struct module *module,
		 struct error *e)
{
	char path[4096];
	struct image f;
	if (r->initrds > MODULES_MAX)
		return error_set(e, STATUS_FILE, "%u initrds are more than the %u that fit.",
				 r->initrds, MODULES_MAX);
	for (unsigned i = 0; i < r->initrds; i++) {
		uint64_t base = align_up(*at, PAGE_SIZE);
		if (module_open(&f, r->initrd[i], path, sizeof path, e))
			return -1;
		int failed = 0;
		if (f.size && !e820_usable(r->memory, base, f.size))
			failed = error_set(e, STATUS_FILE,
				"The initrd %s (%llu bytes) does not fit into guest memory behind %#llx; raise --memory.",
				path, (unsigned long long)f.size, (unsigned long long)base);
		else
			failed = image_load(&f, 0, f.size, r->memory, base, e);
		image_close(&f);
		if (failed)
			return -1;
		module[i] = (struct module){ base, f.size, r->initrd[i] };
		*at = base + f.size;
	}
	return 0;
}

enum {
	SELECTOR_CODE = 0x10,
	SELECTOR_DATA = 0x18,
	TYPE_CODE = 0xb,	/* execute/read, accessed */
	TYPE_DATA = 0x3,	/* read/write, accessed */
	TYPE_TSS_32_BUSY = 0xb,
	TSS_LIMIT = 0x67,
	FLAT_LIMIT = 0xffffffff,
	ACCESS_PRESENT_WRITE = 0x3,
	PAGE_LARGE = 0x80,
};

/* Descriptors of flat segments (SDM vol. 3, "Segment Descriptors"). */
static const uint64_t gdt_32[] = { 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
static const uint64_t gdt_64[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };

static int processor_flat(struct processor_state *p, struct boot_block *b, uint64_t entry,
			  const uint64_t *gdt, uint64_t gdt_size, uint32_t code_rights)
{
	uint64_t at = boot_block_put(b, gdt, gdt_size, 8);
	if (!at)
		return -1;
	processor_state_reset(p);
	memset(p->gpr, 0, sizeof p->gpr);
	p->rip = entry;
	p->cr0 = CR0_PE | CR0_ET;
	for (int i = SEG_ES; i <= SEG_GS; i++)
		p->seg[i] = (struct segment){ SELECTOR_DATA,
			TYPE_DATA | AR_S | AR_P | AR_DB | AR_G, FLAT_LIMIT, 0 };
	p->seg[SEG_CS].selector = SELECTOR_CODE;
	p->seg[SEG_CS].access_rights = TYPE_CODE | AR_S | AR_P | AR_G | code_rights;
	p->seg[SEG_TR] = (struct segment){ 0, TYPE_TSS_32_BUSY | AR_P, TSS_LIMIT, 0 };
	p->gdtr = (struct table_register){ at, (uint16_t)(gdt_size - 1) };
	p->idtr = (struct table_register){ 0, 0 };
	return 0;
}

int processor_flat_32(struct processor_state *p, struct boot_block *b, uint64_t entry)
{
	return processor_flat(p, b, entry, gdt_32, sizeof gdt_32, AR_DB);
}

int processor_flat_64(struct processor_state *p, struct boot_block *b, uint64_t entry)
{
	enum { ENTRIES = PAGE_SIZE / 8, DIRECTORIES = 4 };
	static const uint64_t large_page = 2 * MIB;
	uint64_t table[ENTRIES] = { 0 };
	uint64_t directory[DIRECTORIES];
	for (uint64_t d = 0; d < DIRECTORIES; d++) {
		for (uint64_t i = 0; i < ENTRIES; i++)
			table[i] = (d * ENTRIES + i) * large_page | PAGE_LARGE |
				ACCESS_PRESENT_WRITE;
		directory[d] = boot_block_put(b, table, sizeof table, PAGE_SIZE);
		if (!directory[d])
			return -1;
	}
	memset(table, 0, sizeof table);
	for (int d = 0; d < DIRECTORIES; d++)
		table[d] = directory[d] | ACCESS_PRESENT_WRITE;
	uint64_t pointers = boot_block_put(b, table, sizeof table, PAGE_SIZE);
	memset(table, 0, sizeof table);
	table[0] = pointers | ACCESS_PRESENT_WRITE;
	uint64_t top = boot_block_put(b, table, sizeof table, PAGE_SIZE);
	if (!pointers || !top || processor_flat(p, b, entry, gdt_64, sizeof gdt_64, AR_L))
		return -1;
	p->cr0 |= CR0_PG | CR0_NE | CR0_WP;
	p->cr3 = top;
	p->cr4 = CR4_PAE;
	p->efer = EFER_LME | EFER_LMA;
	return 0;
}
