#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_mem.h"
#include "virtio_driver.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <sys/mman.h>

/* The memory device: every request, right and wrong; who else hears of it. */

enum { BLOCK = 2 << 20, BLOCKS = 8, ROOM = BLOCKS * BLOCK, RING = 16, ANSWER = RIG_DATA + 64 };
#define NONE 0xffff

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct mem_rig {
	struct rig rig;
	struct clock *clock;
	struct guest_memory *memory;
	uint64_t base;
	unsigned changes;
	unsigned ins, outs;	/* bytes that others heard of, in blocks */
	bool refuse;
};

static void on_changed(void *owner)
{
	struct mem_rig *r = owner;
	r->changes++;
}

static bool on_plugged(void *owner, uint64_t pa, uint64_t n, bool in)
{
	struct mem_rig *r = owner;
	/* In: it is RAM already; out: no more. */
	for (uint64_t at = 0; at < n; at += BLOCK)
		assert_int_equal(memory_offset(r->rig.memory, pa + at) >= 0, in);
	if (in && r->refuse)
		return false;
	*(in ? &r->ins : &r->outs) += (unsigned)(n / BLOCK);
	return true;
}

static int setup(void **state)
{
	struct mem_rig *r = calloc(1, sizeof *r);
	struct error e;
	rig_create_with_room(&r->rig, ROOM);
	r->clock = clock_create(&lock, true);
	r->base = r->rig.memory->room_base;
	struct virtio_device *v = virtio_mem_create(r->rig.pci, RIG_SLOT, r->rig.memory, r->clock,
		&(struct virtio_mem_host){ on_plugged, r }, &e);
	rig_probe(&r->rig, v);
	r->memory = virtio_mem_guest_memory(v);
	r->memory->changed = on_changed;
	r->memory->owner = r;
	*state = r;
	return !v;
}

static int teardown(void **state)
{
	struct mem_rig *r = *state;
	virtio_mem_destroy(r->rig.device);
	r->rig.device = NULL;
	rig_destroy(&r->rig);
	clock_destroy(r->clock);
	free(r);
	return 0;
}

static uint64_t config(struct mem_rig *r, unsigned offset)
{
	return mmio_read(&r->rig, r->rig.config + offset, 4) |
		mmio_read(&r->rig, r->rig.config + offset + 4, 4) << 32;
}
#define CONFIG(r, field) config(r, offsetof(struct virtio_mem_config, field))

static struct guest_memory_status status(struct mem_rig *r)
{
	struct guest_memory_status s;
	guest_memory_get_status(r->memory, &s);
	return s;
}

static void start(struct mem_rig *r, uint64_t wanted)
{
	rig_start(&r->rig, 1, RING, BIT(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE));
	guest_memory_set_target(r->memory, wanted);
}

/* The response to a request; its state goes to *state. */
static unsigned ask(struct mem_rig *r, uint16_t type, uint64_t address, uint16_t blocks,
		    unsigned *state)
{
	struct virtio_mem_req request = { .type = type, .u.plug = { address, blocks, { 0 } } };
	struct virtio_mem_resp response = { .type = NONE, .u.state.state = NONE };
	uint32_t head, length;
	memory_write(r->rig.memory, RIG_DATA, &request, sizeof request);
	memory_write(r->rig.memory, ANSWER, &response, sizeof response);
	rig_offer(&r->rig, 0, (const struct piece[]){
		{ RIG_DATA, sizeof request, false }, { ANSWER, sizeof response, true } }, 2);
	rig_kick(&r->rig, 0);
	if (!rig_take(&r->rig, 0, &head, &length))
		return NONE;
	assert_int_equal(length, sizeof response);
	memory_read(r->rig.memory, ANSWER, &response, sizeof response);
	if (state)
		*state = response.u.state.state;
	return response.type;
}

static unsigned plug(struct mem_rig *r, unsigned block, unsigned count)
{
	return ask(r, VIRTIO_MEM_REQ_PLUG, r->base + (uint64_t)block * BLOCK, (uint16_t)count, NULL);
}

static unsigned unplug(struct mem_rig *r, unsigned block, unsigned count)
{
	return ask(r, VIRTIO_MEM_REQ_UNPLUG, r->base + (uint64_t)block * BLOCK, (uint16_t)count, NULL);
}

static unsigned state_of(struct mem_rig *r, unsigned block, unsigned count)
{
	unsigned state;
	assert_int_equal(ask(r, VIRTIO_MEM_REQ_STATE, r->base + (uint64_t)block * BLOCK,
			     (uint16_t)count, &state), VIRTIO_MEM_RESP_ACK);
	return state;
}

static bool is_ram(struct mem_rig *r, unsigned block)
{
	return memory_host(r->rig.memory, r->base + (uint64_t)block * BLOCK);
}

static void test_identity(void **state)
{
	struct mem_rig *r = *state;
	assert_int_equal(rig_read(&r->rig, 0, 4), (0x1040 + VIRTIO_ID_MEM) << 16 | 0x1af4);
	assert_true((rig_features(&r->rig) & 0xffffff) == BIT(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE));
	assert_int_equal(common_get(&r->rig, VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	assert_true(CONFIG(r, block_size) == BLOCK && CONFIG(r, addr) == r->base);
	assert_true(CONFIG(r, region_size) == ROOM && CONFIG(r, usable_region_size) == ROOM);
	assert_true(!CONFIG(r, plugged_size) && !CONFIG(r, requested_size));
	/* The driver cannot write any of it. */
	mmio_write(&r->rig, r->rig.config + offsetof(struct virtio_mem_config, requested_size), 4, ROOM);
	assert_true(!CONFIG(r, requested_size));
	struct guest_memory_status s = status(r);
	assert_true(s.size == ROOM && !s.target && !s.current && !s.driver_present);
}

static void test_target(void **state)
{
	struct mem_rig *r = *state;
	guest_memory_set_target(r->memory, BLOCK);
	assert_int_equal(r->rig.messages, 0);	/* nobody there */
	start(r, BLOCK);
	assert_true(status(r).driver_present);
	/* It was that already, but the driver has not followed. */
	assert_int_equal(r->rig.messages, 1);
	assert_int_equal(r->rig.message[0].data, RIG_VECTOR_DATA);
	guest_memory_set_target(r->memory, 2 * BLOCK + 1);	/* rounded up */
	assert_true(CONFIG(r, requested_size) == 3 * BLOCK && status(r).target == 3 * BLOCK);
	guest_memory_set_target(r->memory, UINT64_MAX);
	assert_true(CONFIG(r, requested_size) == ROOM);
	assert_int_equal(plug(r, 0, BLOCKS), VIRTIO_MEM_RESP_ACK);
	unsigned messages = r->rig.messages;
	guest_memory_set_target(r->memory, ROOM);	/* there it is */
	assert_int_equal(r->rig.messages, messages);
	common_set(&r->rig, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_false(status(r).driver_present);
	assert_true(status(r).target == ROOM);
}

static void test_plug_unplug(void **state)
{
	struct mem_rig *r = *state;
	uint64_t word = 0x5a5a5a5a5a5a5a5a;
	start(r, 6 * BLOCK);
	unsigned changes = r->changes;
	assert_int_equal(plug(r, 1, 2), VIRTIO_MEM_RESP_ACK);
	assert_true(!is_ram(r, 0) && is_ram(r, 1) && is_ram(r, 2) && !is_ram(r, 3));
	assert_true(CONFIG(r, plugged_size) == 2 * BLOCK && status(r).current == 2 * BLOCK);
	assert_int_equal(r->ins, 2);
	assert_true(r->changes > changes);
	assert_true(memory_write(r->rig.memory, r->base + 2 * BLOCK, &word, sizeof word));
	assert_int_equal(state_of(r, 1, 2), VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(state_of(r, 3, 5), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(state_of(r, 0, 8), VIRTIO_MEM_STATE_MIXED);
	/* Some of it is in already; more than is asked for. */
	assert_int_equal(plug(r, 0, 2), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(r, 3, 5), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(plug(r, 3, 4), VIRTIO_MEM_RESP_ACK);
	/* Out: some of it never was; exactly what is in. */
	assert_int_equal(unplug(r, 0, 2), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(unplug(r, 2, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(r->outs, 1);
	assert_true(is_ram(r, 1) && !is_ram(r, 2) && is_ram(r, 3));
	assert_false(memory_read(r->rig.memory, r->base + 2 * BLOCK, &word, sizeof word));
	assert_int_equal(plug(r, 2, 1), VIRTIO_MEM_RESP_ACK);
	assert_true(memory_read(r->rig.memory, r->base + 2 * BLOCK, &word, sizeof word));
	assert_true(!word);
	assert_int_equal(ask(r, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, NULL), VIRTIO_MEM_RESP_ACK);
	assert_true(!status(r).current && !CONFIG(r, plugged_size));
	assert_int_equal(r->ins, r->outs);
}

static void test_wrong_requests(void **state)
{
	struct mem_rig *r = *state;
	static const struct { int64_t offset; uint16_t blocks; } wrong[] = {
		{ 0, 0 }, { 1, 1 }, { PAGE_SIZE, 1 }, { -BLOCK, 1 }, { ROOM, 1 }, { 0, BLOCKS + 1 },
		{ ROOM - BLOCK, 2 }, { 0, 0xffff }, { INT64_MIN, 1 }, { -BLOCK, 2 },
	};
	start(r, ROOM);
	for (uint16_t type = VIRTIO_MEM_REQ_PLUG; type <= VIRTIO_MEM_REQ_STATE; type++)
		for (unsigned i = 0; i < ARRAY_SIZE(wrong) && type != VIRTIO_MEM_REQ_UNPLUG_ALL; i++)
			assert_int_equal(ask(r, type, r->base + (uint64_t)wrong[i].offset,
					     wrong[i].blocks, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(ask(r, VIRTIO_MEM_REQ_STATE + 1, r->base, 1, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(ask(r, 0xffff, r->base, 1, NULL), VIRTIO_MEM_RESP_ERROR);
	assert_true(!status(r).current && !r->ins && !r->outs);
	/* A buffer too short for either part stops the device. */
	rig_offer(&r->rig, 0, (const struct piece[]){
		{ RIG_DATA, sizeof(struct virtio_mem_req) - 1, false },
		{ ANSWER, sizeof(struct virtio_mem_resp), true } }, 2);
	rig_kick(&r->rig, 0);
	assert_true(rig_status(&r->rig) & VIRTIO_CONFIG_S_NEEDS_RESET);
	start(r, ROOM);
	rig_offer(&r->rig, 0, (const struct piece[]){
		{ RIG_DATA, sizeof(struct virtio_mem_req), false },
		{ ANSWER, sizeof(struct virtio_mem_resp) - 1, true } }, 2);
	rig_kick(&r->rig, 0);
	assert_true(rig_status(&r->rig) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* The engine has no place for it: it stays out, and may be asked for again. */
static void test_refused_by_others(void **state)
{
	struct mem_rig *r = *state;
	start(r, ROOM);
	r->refuse = true;
	assert_int_equal(plug(r, 0, 2), VIRTIO_MEM_RESP_BUSY);
	assert_true(!is_ram(r, 0) && !is_ram(r, 1) && !status(r).current);
	r->refuse = false;
	assert_int_equal(plug(r, 0, 2), VIRTIO_MEM_RESP_ACK);
}

/* A driver that takes the memory away from under its own rings and buffers. */
static void test_rings_plugged_out(void **state)
{
	struct mem_rig *r = *state;
	uint64_t request = r->base, rings = r->base + BLOCK;
	struct virtio_mem_req all = { .type = VIRTIO_MEM_REQ_UNPLUG_ALL };
	start(r, ROOM);
	assert_int_equal(plug(r, 0, 2), VIRTIO_MEM_RESP_ACK);
	memory_write(r->rig.memory, request, &all, sizeof all);
	/* The same driver again, its available and used rings and buffers there. */
	rig_negotiate(&r->rig, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX));
	common_set(&r->rig, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_set(&r->rig, VIRTIO_PCI_COMMON_Q_SIZE, 2, RING);
	common_set64(&r->rig, VIRTIO_PCI_COMMON_Q_DESCLO, rings);
	common_set64(&r->rig, VIRTIO_PCI_COMMON_Q_AVAILLO, rings + RIG_AVAIL);
	common_set64(&r->rig, VIRTIO_PCI_COMMON_Q_USEDLO, rings + RIG_USED);
	common_set(&r->rig, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	rig_driver_ok(&r->rig);
	put_desc(&r->rig, rings, 0, request, sizeof all, VRING_DESC_F_NEXT, 1);
	put_desc(&r->rig, rings, 1, request + 64, sizeof(struct virtio_mem_resp), VRING_DESC_F_WRITE, 0);
	guest_set(&r->rig, rings + RIG_AVAIL + 2, 1, 2);
	rig_kick(&r->rig, 0);
	assert_true(!status(r).current);
	for (unsigned i = 0; i < 3; i++)
		rig_kick(&r->rig, 0);
	/* A reset makes it whole. */
	start(r, ROOM);
	assert_int_equal(plug(r, 0, 1), VIRTIO_MEM_RESP_ACK);
}

/* Host memory that a processor still took after the block was out. */
static void test_sweep(void **state)
{
	struct mem_rig *r = *state;
	unsigned char here;
	start(r, ROOM);
	assert_int_equal(plug(r, 3, 1), VIRTIO_MEM_RESP_ACK);
	uint8_t *host = memory_host(r->rig.memory, r->base + 3 * BLOCK);
	assert_int_equal(unplug(r, 3, 1), VIRTIO_MEM_RESP_ACK);
	memset(host, 0x5a, PAGE_SIZE);
	clock_advance(r->clock, NS_PER_SECOND);
	clock_run_due(r->clock);
	assert_int_equal(mincore(host, PAGE_SIZE, &here), 0);
	assert_false(here & 1);
}

/* A driver's reset leaves the blocks, the machine's does not; both leave what
 * is asked for. */
static void test_resets(void **state)
{
	struct mem_rig *r = *state;
	struct device *bus = pci_bus_device(r->rig.pci);
	start(r, 4 * BLOCK);
	assert_int_equal(plug(r, 0, 3), VIRTIO_MEM_RESP_ACK);
	start(r, 4 * BLOCK);
	assert_true(status(r).current == 3 * BLOCK && is_ram(r, 2));
	assert_int_equal(state_of(r, 0, 3), VIRTIO_MEM_STATE_PLUGGED);
	bus->ops->reset(bus);
	assert_true(!status(r).current && !is_ram(r, 2) && r->outs == 3);
	assert_true(status(r).target == 4 * BLOCK);
}

static void test_save_load(void **state)
{
	struct mem_rig *r = *state;
	struct device *bus = pci_bus_device(r->rig.pci);
	struct memory *m = r->rig.memory;
	struct error e;
	struct state blocks = { 0 }, s = { 0 };
	start(r, 4 * BLOCK);
	assert_int_equal(plug(r, 0, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(r, 4, 2), VIRTIO_MEM_RESP_ACK);
	memory_save(m, &blocks);
	bus->ops->save(bus, &s);
	bus->ops->reset(bus);
	guest_memory_set_target(r->memory, BLOCK);
	r->ins = 0;
	assert_int_equal(memory_load(m, &blocks, &e), 0);
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_int_equal(r->ins, 3);
	assert_true(status(r).current == 3 * BLOCK && status(r).target == 4 * BLOCK);
	assert_true(CONFIG(r, plugged_size) == 3 * BLOCK && CONFIG(r, requested_size) == 4 * BLOCK);
	assert_true(is_ram(r, 0) && !is_ram(r, 1) && is_ram(r, 5) && status(r).driver_present);
	assert_int_equal(plug(r, 1, 2), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(plug(r, 1, 1), VIRTIO_MEM_RESP_ACK);
	/* What is asked for must be blocks, and in the room. The device's field is
	 * the last in the bus's state. */
	static const uint64_t wrong[] = { BLOCK + 1, ROOM + BLOCK, UINT64_MAX };
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(s.data + s.size - sizeof wrong[i], &wrong[i], sizeof wrong[i]);
		s.at = 0;
		assert_int_equal(bus->ops->load(bus, &s, &e), -1);
		assert_true(!CONFIG(r, requested_size));
	}
	state_free(&blocks);
	state_free(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_target),
		TEST(test_plug_unplug),
		TEST(test_wrong_requests),
		TEST(test_refused_by_others),
		TEST(test_rings_plugged_out),
		TEST(test_sweep),
		TEST(test_resets),
		TEST(test_save_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
