#include "chip.h"

#include "board/e820.h"
#include "board/fw_cfg.h"

#include <endian.h>
#include <stdio.h>

enum { SELECTOR = FW_CFG_PORT, DATA = FW_CFG_PORT + 1, DMA = FW_CFG_PORT + 4 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
enum { FIRST = FW_CFG_FILE_FIRST };

static struct board b;
static struct memory *memory;
static struct fw_cfg *fw;

static int open_chip(void **state)
{
	board_open(&b);
	memory = memory_create(4 * MIB, &b.error);
	fw = fw_cfg_create(b.bus, memory, &b.error);
	return !fw;
}

static int close_chip(void **state)
{
	fw_cfg_destroy(fw);
	memory_destroy(memory);
	board_close(&b);
	return 0;
}

static void read_item(uint16_t key, void *to, size_t n)
{
	uint8_t *out = to;
	out16(&b, SELECTOR, key);
	while (n--)
		*out++ = in8(&b, DATA);
}

static void fixed_items(void **state)
{
	char signature[6];
	uint32_t id;
	uint64_t ram;
	read_item(FW_CFG_SIGNATURE, signature, sizeof signature);
	assert_memory_equal(signature, "QEMU\0\0", 6);	/* zeros behind the end */
	read_item(FW_CFG_ID, &id, sizeof id);
	assert_int_equal(id, 3);
	read_item(FW_CFG_RAM_SIZE, &ram, sizeof ram);
	assert_int_equal(ram, 4 * MIB);
	fw_cfg_add_u16(fw, FW_CFG_NB_CPUS, 7);
	uint16_t cpus;
	read_item(FW_CFG_NB_CPUS, &cpus, sizeof cpus);
	assert_int_equal(cpus, 7);
}

static void nothing_there(void **state)
{
	uint8_t bytes[4];
	assert_int_equal(in8(&b, DATA), 0);	/* before anything was selected */
	static const uint16_t key[] = { 0x02, 0x61, 0x3fff, 0xffff };
	for (unsigned i = 0; i < ARRAY_SIZE(key); i++) {
		read_item(key[i], bytes, sizeof bytes);
		assert_int_equal(load_le(bytes, 4), 0);
	}
	out8(&b, DATA, 1);
	out8(&b, SELECTOR, 1);
	out32(&b, SELECTOR, 1);
	assert_int_equal(in16(&b, SELECTOR), 0);
}

struct file {
	uint32_t size;
	uint16_t key, reserved;
	char name[56];
};

static struct file find(const char *name)
{
	uint32_t count;
	struct file f;
	read_item(FW_CFG_FILE_DIR, &count, sizeof count);
	for (unsigned i = 0; i < be32toh(count); i++) {
		for (unsigned j = 0; j < sizeof f; j++)
			((uint8_t *)&f)[j] = in8(&b, DATA);
		if (!strcmp(f.name, name))
			return f;
	}
	fail();
	return f;
}

static void files(void **state)
{
	char text[8];
	assert_int_equal(fw_cfg_add_file(fw, "opt/z", "last", 4, &b.error), 0);
	assert_int_equal(fw_cfg_add_file(fw, "a", "first", 5, &b.error), 0);
	assert_int_equal(fw_cfg_add_file(fw, "a", "again", 5, &b.error), -1);
	assert_int_equal(b.error.status, STATUS_FAULT);
	struct file a = find("a"), z = find("opt/z"), e820 = find("etc/e820");
	assert_int_equal(be16toh(a.key), FIRST);
	assert_int_equal(be16toh(e820.key), FIRST + 1);
	assert_int_equal(be16toh(z.key), FIRST + 2);
	assert_int_equal(be32toh(z.size), 4);
	read_item(be16toh(z.key), text, 4);
	assert_memory_equal(text, "last", 4);
	struct e820_entry first;
	read_item(be16toh(e820.key), &first, sizeof first);
	assert_int_equal(first.base, 0);
	assert_int_equal(first.size, E820_LOW_END);
	assert_int_equal(first.type, E820_RAM);
}

static void limits(void **state)
{
	char name[FW_CFG_NAME_MAX + 2];
	memset(name, 'n', sizeof name);
	name[sizeof name - 1] = 0;
	assert_int_equal(fw_cfg_add_file(fw, name, "", 0, &b.error), -1);
	name[sizeof name - 2] = 0;
	assert_int_equal(fw_cfg_add_file(fw, name, "", 0, &b.error), 0);
	for (int i = 2; i < FW_CFG_FILES_MAX; i++) {
		snprintf(name, sizeof name, "file%d", i);
		assert_int_equal(fw_cfg_add_file(fw, name, name, 4, &b.error), 0);
	}
	assert_int_equal(fw_cfg_add_file(fw, "one more", "", 0, &b.error), -1);
	find("file63");
}

struct dma {
	uint32_t control, length;
	uint64_t address;
};

static uint32_t dma(uint64_t at, uint32_t control, uint32_t length, uint64_t address)
{
	struct dma d = { htobe32(control), htobe32(length), htobe64(address) };
	memory_write(memory, at, &d, sizeof d);
	out32(&b, DMA, htobe32((uint32_t)(at >> 32)));
	out32(&b, DMA + 4, htobe32((uint32_t)at));
	memory_read(memory, at, &d, sizeof d);
	return be32toh(d.control);
}

static void dma_interface(void **state)
{
	char text[16];
	assert_int_equal(in32(&b, DMA), htobe32(0x51454d55));	/* "QEMU CFG" */
	assert_int_equal(in32(&b, DMA + 4), htobe32(0x20434647));
	assert_int_equal(fw_cfg_add_file(fw, "a", "0123456789", 10, &b.error), 0);
	memory_fill(memory, 0x2000, 0xee, 16);
	assert_int_equal(dma(0x1000, FIRST << 16 | DMA_SELECT | DMA_READ, 4, 0x2000), 0);
	assert_int_equal(dma(0x1000, DMA_SKIP, 2, 0), 0);
	assert_int_equal(dma(0x1000, DMA_READ, 8, 0x2004), 0);
	memory_read(memory, 0x2000, text, sizeof text);
	assert_memory_equal(text, "01236789\0\0\0\0\xee\xee\xee\xee", 16);
	assert_int_equal(in8(&b, DATA), 0);
}

static void dma_hostile(void **state)
{
	uint32_t read = FW_CFG_SIGNATURE << 16 | DMA_SELECT | DMA_READ;
	assert_int_equal(dma(0x1000, read, 4, 0xa0000), DMA_ERROR);
	assert_int_equal(dma(0x1000, read, 4, UINT64_MAX - 1), DMA_ERROR);
	assert_int_equal(dma(0x1000, read, UINT32_MAX, 0x100000), DMA_ERROR);
	assert_int_equal(dma(0x1000, read, 8, 4 * MIB - 4), DMA_ERROR);
	assert_int_equal(dma(0x1000, DMA_WRITE, 4, 0x2000), DMA_ERROR);
	assert_int_equal(dma(0x1000, DMA_SKIP, UINT32_MAX, 0), 0);
	assert_int_equal(dma(0x1000, DMA_SKIP, UINT32_MAX, 0), 0);
	assert_int_equal(in8(&b, DATA), 0);
	/* A descriptor that is nowhere, or half so. */
	out32(&b, DMA, 0xffffffff);
	out32(&b, DMA + 4, 0xffffffff);
	out32(&b, DMA, 0);
	out32(&b, DMA + 4, htobe32(4 * MIB - 4));
	/* The transfer overwrites its own descriptor. */
	assert_int_equal(dma(0x1000, read, 64, 0x1000), 0);
}

static void state_round_trip(void **state)
{
	out16(&b, SELECTOR, FW_CFG_SIGNATURE);
	in8(&b, DATA);
	out32(&b, DMA, 0x12345678);
	check_round_trip(fw);
	assert_int_equal(in8(&b, DATA), 'E');
	device_reset(fw);
	assert_int_equal(in8(&b, DATA), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_chip, close_chip)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fixed_items), TEST(nothing_there), TEST(files), TEST(limits),
		TEST(dma_interface), TEST(dma_hostile), TEST(state_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
