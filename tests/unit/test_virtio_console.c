#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_console.h"
#include "virtio_driver.h"

enum { RECEIVE = 0, TRANSMIT = 1, QUEUE_SIZE = 16, INPUT_SIZE = 4096 };

struct fixture {
	struct rig rig;
	char written[4096];
	size_t count;
	unsigned rooms;
};

static void sink_write(void *owner, const uint8_t *bytes, size_t n)
{
	struct fixture *f = owner;
	if (f->count + n < sizeof f->written)
		memcpy(f->written + f->count, bytes, n);
	f->count += n;
}

static void sink_room(void *owner)
{
	((struct fixture *)owner)->rooms++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct error e;
	rig_create(&f->rig);
	struct virtio_device *v = virtio_console_create(f->rig.pci, RIG_SLOT, f->rig.memory,
		&(struct virtio_console_sink){ sink_write, sink_room, f }, &e);
	rig_probe(&f->rig, v);
	*state = f;
	return !v;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	rig_destroy(&f->rig);
	free(f);
	return 0;
}

static size_t receive(struct fixture *f, const char *text)
{
	return virtio_console_receive(f->rig.device, (const uint8_t *)text, strlen(text));
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	assert_int_equal(rig_read(r, 0, 4), 0x10431af4);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	/* Linux wants a configuration even if it reads nothing from it. */
	assert_int_not_equal(r->config, 0);
	assert_int_equal(mmio_read(r, r->config, 4), 0);
	assert_int_equal(mmio_read(r, r->config + 4, 4), 1);
	common_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	const struct piece pieces[] = { { RIG_DATA, 6, false }, { RIG_DATA + 0x1000, 7, false } };
	rig_start(r, 2, QUEUE_SIZE, 0);
	memory_write(r->memory, RIG_DATA, "Hello ", 6);
	memory_write(r->memory, RIG_DATA + 0x1000, "console", 7);
	rig_offer(r, TRANSMIT, pieces, 2);
	assert_int_equal(f->count, 0);
	rig_kick(r, TRANSMIT);
	assert_int_equal(f->count, 13);
	assert_memory_equal(f->written, "Hello console", 13);
	/* Given back at once: Linux spins for it. */
	assert_true(rig_take(r, TRANSMIT, &head, &length));
	assert_int_equal(length, 0);
	assert_int_equal(r->message[r->messages - 1].data, RIG_VECTOR_DATA + 1 + TRANSMIT);
	/* An empty write is one, a writable buffer has nothing to say. */
	rig_offer(r, TRANSMIT, &(struct piece){ RIG_DATA, 0, false }, 1);
	rig_offer(r, TRANSMIT, &(struct piece){ RIG_DATA, 8, true }, 1);
	rig_kick(r, TRANSMIT);
	assert_int_equal(f->count, 13);
	assert_int_equal(rig_status(r), 0xf);
	/* An absurd one breaks the ring. */
	rig_offer(r, TRANSMIT, &(struct piece){ RIG_DATA, 2 << 20, false }, 1);
	rig_kick(r, TRANSMIT);
	assert_int_equal(f->count, 13);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_receive(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	char text[16] = { 0 };
	/* Typed before the driver is there: kept. */
	assert_int_equal(receive(f, "early"), 5);
	rig_start(r, 2, QUEUE_SIZE, 0);
	assert_int_equal(r->messages, 0);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 16, true }, 1);
	rig_kick(r, RECEIVE);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, 5);
	memory_read(r->memory, RIG_DATA, text, 5);
	assert_string_equal(text, "early");
	assert_int_equal(r->messages, 1);
	assert_int_equal(r->message[0].data, RIG_VECTOR_DATA + 1 + RECEIVE);
	/* With buffers waiting: at once, over as many as it takes. */
	for (unsigned i = 0; i < 3; i++)
		rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA + 0x100 * i, 4, true }, 1);
	rig_kick(r, RECEIVE);
	assert_false(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(receive(f, "abcdef"), 6);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, 4);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, 2);
	assert_false(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(guest16(r, RIG_DATA + 0x100), 'e' | 'f' << 8);
	assert_int_equal(r->messages, 2);
	assert_int_equal(f->rooms, 0);
}

static void test_input_overflow(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t bytes[INPUT_SIZE + 100], back[INPUT_SIZE];
	uint32_t head, length;
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i % 251);
	rig_start(r, 2, QUEUE_SIZE, 0);
	assert_int_equal(virtio_console_receive(r->device, bytes, sizeof bytes), INPUT_SIZE);
	assert_int_equal(virtio_console_receive(r->device, bytes, 1), 0);
	assert_int_equal(f->rooms, 0);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 1000, true }, 1);
	rig_kick(r, RECEIVE);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, 1000);
	assert_int_equal(f->rooms, 1);
	/* The rest round the end of the store, in order. */
	assert_int_equal(virtio_console_receive(r->device, bytes + INPUT_SIZE, 100), 100);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, INPUT_SIZE, true }, 1);
	rig_kick(r, RECEIVE);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, INPUT_SIZE - 1000 + 100);
	memory_read(r->memory, RIG_DATA, back, length);
	assert_memory_equal(back, bytes + 1000, length);
	assert_int_equal(f->rooms, 1);
}

static void test_receive_event_index(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	rig_start(r, 2, QUEUE_SIZE, BIT(VIRTIO_RING_F_EVENT_IDX));
	uint64_t avail_event = rig_used(RECEIVE) + 4 + 8 * QUEUE_SIZE;
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 4, true }, 1);
	rig_kick(r, RECEIVE);
	assert_int_equal(guest16(r, avail_event), 1);
	assert_int_equal(receive(f, "x"), 1);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(r->messages, 1);
}

static void test_bad_receive_buffer(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	rig_start(r, 2, QUEUE_SIZE, 0);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 4, false }, 1);
	rig_kick(r, RECEIVE);
	assert_int_equal(rig_status(r), 0xf);
	assert_int_equal(receive(f, "x"), 1);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
	/* Input goes on being kept for the next driver. */
	assert_int_equal(receive(f, "y"), 1);
	rig_start(r, 2, QUEUE_SIZE, 0);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 4, true }, 1);
	rig_kick(r, RECEIVE);
	assert_int_equal(guest16(r, RIG_DATA), 'x' | 'y' << 8);
}

static void test_save_load_reset(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct device *bus = pci_bus_device(r->pci);
	struct state s = { 0 };
	struct error e;
	uint32_t head, length;
	rig_start(r, 2, QUEUE_SIZE, 0);
	receive(f, "kept");
	bus->ops->save(bus, &s);
	bus->ops->reset(bus);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_start(r, 2, QUEUE_SIZE, 0);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, 16, true }, 1);
	rig_kick(r, RECEIVE);
	assert_false(rig_take(r, RECEIVE, &head, &length));	/* power-on forgets it */
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	rig_kick(r, RECEIVE);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, 4);
	assert_int_equal(guest32(r, RIG_DATA), 'k' | 'e' << 8 | 'p' << 16 | 't' << 24);
	state_free(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_transmit),
		TEST(test_receive),
		TEST(test_input_overflow),
		TEST(test_receive_event_index),
		TEST(test_bad_receive_buffer),
		TEST(test_save_load_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
