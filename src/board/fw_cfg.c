#include "board/fw_cfg.h"

#include "base/log.h"
#include "board/e820.h"

#include <endian.h>
#include <stdlib.h>

/* The guest chooses an item by number and reads its bytes one after another,
 * by port or by a DMA descriptor in its memory; behind the end there are zeros.
 * Every item is read-only. What a DMA transfer may touch is bounded by guest
 * RAM, so one access copies at most that much. */

enum {
	SELECTOR = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8,	/* port offsets */
	ITEMS = FW_CFG_FILE_FIRST + FW_CFG_FILES_MAX,
	KEY_MASK = 0x3fff,	/* above: "write channel" and "architecture local" */
	ID_INTERFACE = 1 << 0, ID_DMA = 1 << 1,
	/* DMA control */
	DMA_ERROR = 1 << 0, DMA_READ = 1 << 1, DMA_SKIP = 1 << 2, DMA_SELECT = 1 << 3,
	DMA_WRITE = 1 << 4, DMA_KEY_SHIFT = 16,
	NO_ITEM = 0xffff,
};

/* "QEMU CFG", what the DMA address port reads as. */
#define DMA_SIGNATURE 0x51454d5520434647ull

struct item {
	uint8_t *data;
	uint32_t size;
};

/* An entry of the directory; numbers are big-endian. */
struct file {
	uint32_t size;
	uint16_t key, reserved;
	char name[FW_CFG_NAME_MAX + 1];
};

struct dma {
	uint32_t control, length;
	uint64_t address;
};

struct fw_cfg {
	struct device device;
	struct bus *bus;
	struct memory *memory;
	struct item item[ITEMS];
	unsigned files;
	struct file file[FW_CFG_FILES_MAX];
	/* State */
	uint16_t key;
	uint32_t at;
	uint64_t dma_address;
};

static void set_item(struct fw_cfg *f, unsigned key, const void *data, uint32_t size)
{
	struct item *item = &f->item[key];
	free(item->data);
	item->data = alloc_zeroed(1, size ? size : 1);
	item->size = size;
	memcpy(item->data, data, size);
}

static void add_number(struct fw_cfg *f, uint16_t key, uint64_t value, unsigned bytes)
{
	uint8_t b[8];
	if (key >= ITEMS)
		panic("there is no fw_cfg item %#x", key);
	store_le(b, value, sizeof b);
	set_item(f, key, b, bytes);
}

void fw_cfg_add_u16(struct fw_cfg *f, uint16_t key, uint16_t value)
{
	add_number(f, key, value, sizeof value);
}

void fw_cfg_add_u32(struct fw_cfg *f, uint16_t key, uint32_t value)
{
	add_number(f, key, value, sizeof value);
}

void fw_cfg_add_u64(struct fw_cfg *f, uint16_t key, uint64_t value)
{
	add_number(f, key, value, sizeof value);
}

static void update_directory(struct fw_cfg *f)
{
	uint32_t size = (uint32_t)(sizeof(uint32_t) + f->files * sizeof(struct file));
	uint8_t *directory = alloc_zeroed(1, size);
	uint32_t count = htobe32(f->files);
	memcpy(directory, &count, sizeof count);
	memcpy(directory + sizeof count, f->file, f->files * sizeof(struct file));
	set_item(f, FW_CFG_FILE_DIR, directory, size);
	free(directory);
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t size,
		    struct error *e)
{
	unsigned at = 0;
	if (strlen(name) > FW_CFG_NAME_MAX || f->files == FW_CFG_FILES_MAX)
		return error_set(e, STATUS_FAULT,
			"The fw_cfg file \"%s\" cannot be added: names have %d bytes at most, and there are %d files at most.",
			name, FW_CFG_NAME_MAX, FW_CFG_FILES_MAX);
	while (at < f->files && strcmp(f->file[at].name, name) < 0)
		at++;
	if (at < f->files && !strcmp(f->file[at].name, name))
		return error_set(e, STATUS_FAULT, "The fw_cfg file \"%s\" exists already.", name);
	memmove(&f->file[at + 1], &f->file[at], (f->files - at) * sizeof f->file[0]);
	memmove(&f->item[FW_CFG_FILE_FIRST + at + 1], &f->item[FW_CFG_FILE_FIRST + at],
		(f->files - at) * sizeof f->item[0]);
	f->item[FW_CFG_FILE_FIRST + at] = (struct item){ 0 };
	f->file[at] = (struct file){ .size = htobe32(size) };
	strcpy(f->file[at].name, name);
	f->files++;
	for (unsigned i = at; i < f->files; i++)
		f->file[i].key = htobe16((uint16_t)(FW_CFG_FILE_FIRST + i));
	set_item(f, FW_CFG_FILE_FIRST + at, data, size);
	update_directory(f);
	return 0;
}

static void select_item(struct fw_cfg *f, uint16_t key)
{
	f->key = key & KEY_MASK;
	f->at = 0;
}

/* What is left of the chosen item. */
static uint32_t left(const struct fw_cfg *f, const uint8_t **from)
{
	if (f->key >= ITEMS || f->at >= f->item[f->key].size)
		return 0;
	*from = f->item[f->key].data + f->at;
	return f->item[f->key].size - f->at;
}

static void advance(struct fw_cfg *f, uint32_t n)
{
	f->at = n > UINT32_MAX - f->at ? UINT32_MAX : f->at + n;
}

static uint8_t read_byte(struct fw_cfg *f)
{
	const uint8_t *from;
	uint8_t value = left(f, &from) ? *from : 0;
	advance(f, 1);
	return value;
}

static bool dma_copy(struct fw_cfg *f, uint64_t to, uint32_t length)
{
	const uint8_t *from = NULL;
	uint32_t there = left(f, &from);
	if (there > length)
		there = length;
	return memory_write(f->memory, to, from, there) &&
		memory_fill(f->memory, to + there, 0, length - there);
}

static void dma_run(struct fw_cfg *f)
{
	struct dma d;
	uint64_t at = f->dma_address;
	bool ok = true;
	f->dma_address = 0;
	if (!memory_read(f->memory, at, &d, sizeof d))
		return;
	uint32_t control = be32toh(d.control), length = be32toh(d.length);
	if (control & DMA_SELECT)
		select_item(f, (uint16_t)(control >> DMA_KEY_SHIFT));
	if (control & DMA_READ)
		ok = dma_copy(f, be64toh(d.address), length);
	else if (control & DMA_WRITE)
		ok = false;
	if (control & (DMA_READ | DMA_SKIP))
		advance(f, length);
	uint32_t result = htobe32(ok ? 0 : DMA_ERROR);
	memory_write(f->memory, at + offsetof(struct dma, control), &result, sizeof result);
}

static uint64_t port_read(void *owner, uint64_t offset, unsigned size)
{
	struct fw_cfg *f = owner;
	uint64_t value = 0;
	/* The data port is one byte wide; the signature is big-endian. */
	for (unsigned i = 0; i < size; i++)
		if (offset + i == DATA)
			value |= (uint64_t)read_byte(f) << (8 * i);
		else if (offset + i >= DMA_HIGH)
			value |= (DMA_SIGNATURE >> (8 * (DMA_HIGH + 7 - offset - i)) & 0xff)
				<< (8 * i);
	return value;
}

static void port_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct fw_cfg *f = owner;
	if (offset == SELECTOR && size == 2) {
		select_item(f, (uint16_t)value);
	} else if (offset == DMA_HIGH && size == 4) {
		f->dma_address = (uint64_t)be32toh((uint32_t)value) << 32;
	} else if (offset == DMA_LOW && size == 4) {
		f->dma_address |= be32toh((uint32_t)value);
		dma_run(f);
	}
}

static const struct bus_ops port_ops = { port_read, port_write };

static void reset(struct device *d)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, device);
	f->key = NO_ITEM;
	f->at = 0;
	f->dma_address = 0;
}

static const char section[] = "fw_cfg";
enum { STATE_VERSION = 1 };

/* The items are configuration: whoever loads has built the same ones. */
static void exchange(struct fw_cfg *f, struct state *s)
{
	state_field(s, f->key);
	state_field(s, f->at);
	state_field(s, f->dma_address);
}

static void save(const struct device *d, struct state *s)
{
	state_section(s, section, STATE_VERSION);
	exchange(container_of(d, struct fw_cfg, device), s);
}

static int load(struct device *d, struct state *s, struct error *e)
{
	state_open(s, section);
	exchange(container_of(d, struct fw_cfg, device), s);
	return state_finish(s, section, e);
}

static const struct device_ops device_ops = { section, reset, save, load };

static int add_e820(struct fw_cfg *f, struct error *e)
{
	struct e820_entry map[E820_MAX];
	unsigned n = e820_build(f->memory, map);
	return fw_cfg_add_file(f, "etc/e820", map, (uint32_t)(n * sizeof *map), e);
}

struct fw_cfg *fw_cfg_create(struct bus *bus, struct memory *memory, struct error *e)
{
	struct fw_cfg *f = alloc_zeroed(1, sizeof *f);
	f->device.ops = &device_ops;
	f->bus = bus;
	f->memory = memory;
	if (bus_claim(bus, BUS_IO, FW_CFG_PORT, FW_CFG_PORTS, &port_ops, f, section, e)) {
		free(f);
		return NULL;
	}
	set_item(f, FW_CFG_SIGNATURE, "QEMU", 4);
	fw_cfg_add_u32(f, FW_CFG_ID, ID_INTERFACE | ID_DMA);
	fw_cfg_add_u64(f, FW_CFG_RAM_SIZE, memory->size);
	if (add_e820(f, e)) {
		fw_cfg_destroy(f);
		return NULL;
	}
	reset(&f->device);
	return f;
}

void fw_cfg_destroy(struct fw_cfg *f)
{
	bus_release(f->bus, BUS_IO, FW_CFG_PORT);
	for (unsigned i = 0; i < ITEMS; i++)
		free(f->item[i].data);
	free(f);
}
