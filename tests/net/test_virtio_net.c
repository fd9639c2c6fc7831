#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_net.h"
#include "virtio_driver.h"

#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE = 0, TRANSMIT = 1, QUEUE_SIZE = 16, HEADER = 12, BUFFER = 1536, STRIDE = 2048,
       WAIT_MS = 5000, STEP_MS = 2 };

static const uint8_t mac[] = { 0x00, 0x15, 0x5d, 1, 2, 3 };

struct fixture {
	struct rig rig;
	int cable;	/* the other end */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct error e;
	int fd[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd))
		return -1;
	f->cable = fd[1];
	rig_create(&f->rig);
	struct virtio_device *v = virtio_net_create(f->rig.pci, RIG_SLOT, f->rig.memory,
		bus_lock(f->rig.bus), fd[0], mac, &e);
	rig_probe(&f->rig, v);
	*state = f;
	return !v;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	virtio_net_stop(f->rig.device);
	close(f->cable);
	virtio_net_destroy(f->rig.device);
	f->rig.device = NULL;
	rig_destroy(&f->rig);
	free(f);
	return 0;
}

/* The device's counters, once one of them is `wanted`, or after WAIT_MS. */
static struct virtio_net_counters counters(struct fixture *f, size_t which, uint64_t wanted)
{
	struct virtio_net_counters c;
	for (unsigned i = 0; i < WAIT_MS / STEP_MS; i++) {
		pthread_mutex_lock(bus_lock(f->rig.bus));
		virtio_net_counters(f->rig.device, &c);
		pthread_mutex_unlock(bus_lock(f->rig.bus));
		if (*(uint64_t *)((char *)&c + which) >= wanted)
			break;
		poll(NULL, 0, STEP_MS);
	}
	return c;
}
#define COUNTED(f, field, n) (counters(f, offsetof(struct virtio_net_counters, field), n).field)

/* A frame from the cable's other end, before its time-out. */
static ssize_t cable_receive(struct fixture *f, uint8_t *frame, size_t room)
{
	struct pollfd wait = { f->cable, POLLIN, 0 };
	poll(&wait, 1, WAIT_MS);
	return recv(f->cable, frame, room, 0);
}

static void offer_buffers(struct rig *r, unsigned count, uint32_t size)
{
	for (unsigned i = 0; i < count; i++)
		rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA + i * STRIDE, size, true }, 1);
	rig_kick(r, RECEIVE);
}

static void offer_frame(struct rig *r, uint32_t bytes)
{
	rig_offer(r, TRANSMIT, &(struct piece){ RIG_DATA + 0x100000, bytes, false }, 1);
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	assert_int_equal(rig_read(r, 0, 4), 0x10411af4);
	assert_int_equal(rig_read(r, PCI_CLASS_REVISION, 4) >> 8, 0x020000);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	for (unsigned i = 0; i < MAC_LENGTH; i++)
		assert_int_equal(mmio_read(r, r->config + i, 1), mac[i]);
	assert_int_equal(mmio_read(r, r->config + 6, 2), VIRTIO_NET_S_LINK_UP);
	uint64_t features = rig_features(r);
	assert_true(features & BIT(VIRTIO_NET_F_MAC));
	assert_true(features & BIT(VIRTIO_NET_F_MRG_RXBUF));
	assert_false(features & (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4)));
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[256];
	uint32_t head, length;
	const struct piece pieces[] = { { RIG_DATA, HEADER, false },
		{ RIG_DATA + 0x1000, 20, false }, { RIG_DATA + 0x3000, 40, false } };
	rig_start(r, 2, QUEUE_SIZE, BIT(VIRTIO_NET_F_MAC));
	memory_fill(r->memory, RIG_DATA, 0, HEADER);
	memory_fill(r->memory, RIG_DATA + 0x1000, 1, 20);
	memory_fill(r->memory, RIG_DATA + 0x3000, 2, 40);
	rig_offer(r, TRANSMIT, pieces, 3);
	rig_kick(r, TRANSMIT);
	assert_int_equal(cable_receive(f, frame, sizeof frame), 60);
	assert_int_equal(frame[0], 1);
	assert_int_equal(frame[19], 1);
	assert_int_equal(frame[20], 2);
	assert_true(rig_take(r, TRANSMIT, &head, &length));
	assert_int_equal(length, 0);
	assert_int_equal(COUNTED(f, sent, 1), 1);
}

/* What is no frame is counted and given back; the device goes on. */
static void test_transmit_garbage(void **state)
{
	static const uint32_t sizes[] = { 0, 1, HEADER - 1, HEADER, HEADER + 13,
		HEADER + FRAME_MAX + 1, 1 << 20 };
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[64];
	uint32_t head, length;
	rig_start(r, 2, QUEUE_SIZE, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		offer_frame(r, sizes[i]);
	rig_offer(r, TRANSMIT, &(struct piece){ RIG_DATA, 64, true }, 1);	/* nothing to send */
	offer_frame(r, HEADER + 14);
	rig_kick(r, TRANSMIT);
	assert_int_equal(cable_receive(f, frame, sizeof frame), 14);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes) + 2; i++)
		assert_true(rig_take(r, TRANSMIT, &head, &length));
	assert_int_equal(COUNTED(f, refused, ARRAY_SIZE(sizes) + 1), ARRAY_SIZE(sizes) + 1);
	assert_int_equal(rig_status(r), 0xf);
	/* Outside of memory the ring is broken. */
	rig_offer(r, TRANSMIT, &(struct piece){ 1ull << 40, 64, false }, 1);
	rig_kick(r, TRANSMIT);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_receive(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[100], got[HEADER + 100];
	uint32_t head, length;
	memset(frame, 7, sizeof frame);
	rig_start(r, 2, QUEUE_SIZE, 0);
	offer_buffers(r, 2, BUFFER);
	assert_int_equal(send(f->cable, frame, sizeof frame, 0), sizeof frame);
	assert_int_equal(COUNTED(f, received, 1), 1);
	assert_true(rig_take(r, RECEIVE, &head, &length));
	assert_int_equal(length, HEADER + sizeof frame);
	memory_read(r->memory, RIG_DATA, got, sizeof got);
	assert_int_equal(load_le(got, 8), 0);
	assert_int_equal(load_le(got + 10, 2), 1);	/* num_buffers */
	assert_memory_equal(got + HEADER, frame, sizeof frame);
	assert_int_equal(r->message[0].data, RIG_VECTOR_DATA + 1 + RECEIVE);
	/* Absurd messages on the cable are no frames. */
	send(f->cable, frame, 1, 0);
	static uint8_t jumbo[FRAME_MAX + 1];
	send(f->cable, jumbo, sizeof jumbo, 0);
	assert_int_equal(COUNTED(f, unwanted, 2), 2);
	assert_false(rig_take(r, RECEIVE, &head, &length));
}

static void test_merged(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[4000], got[HEADER];
	uint32_t head, length = 0, total = 0;
	for (unsigned i = 0; i < sizeof frame; i++)
		frame[i] = (uint8_t)(i * 7);
	rig_start(r, 2, QUEUE_SIZE, BIT(VIRTIO_NET_F_MRG_RXBUF));
	/* Two buffers are too few: both stay the driver's until there is a third. */
	offer_buffers(r, 2, BUFFER);
	send(f->cable, frame, sizeof frame, 0);
	poll(NULL, 0, 50);
	assert_int_equal(COUNTED(f, received, 0), 0);
	assert_false(rig_take(r, RECEIVE, &head, &length));
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA + 2 * STRIDE, BUFFER, true }, 1);
	rig_kick(r, RECEIVE);
	assert_int_equal(COUNTED(f, received, 1), 1);
	memory_read(r->memory, RIG_DATA, got, sizeof got);
	assert_int_equal(load_le(got + 10, 2), 3);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t part[BUFFER];
		unsigned skip = i ? 0 : HEADER;
		assert_true(rig_take(r, RECEIVE, &head, &length));
		memory_read(r->memory, RIG_DATA + i * STRIDE, part, length);
		assert_memory_equal(part + skip, frame + total, length - skip);
		total += length - skip;
	}
	assert_int_equal(total, sizeof frame);
	/* Without end: a frame that no buffers of the driver's can take. */
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA + i * STRIDE, 16, true }, 1);
	rig_kick(r, RECEIVE);
	send(f->cable, frame, sizeof frame, 0);
	assert_int_equal(COUNTED(f, unwanted, 1), 1);
	assert_false(rig_take(r, RECEIVE, &head, &length));
	/* A small one still fits. */
	send(f->cable, frame, 18, 0);
	assert_int_equal(COUNTED(f, received, 2), 2);
}

static void test_unmerged_too_small(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[1000] = { 0 };
	rig_start(r, 2, QUEUE_SIZE, 0);
	offer_buffers(r, 2, 500);
	send(f->cable, frame, sizeof frame, 0);
	assert_int_equal(COUNTED(f, unwanted, 1), 1);
	send(f->cable, frame, 100, 0);
	assert_int_equal(COUNTED(f, received, 1), 1);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, HEADER - 1, true }, 1);
	rig_offer(r, RECEIVE, &(struct piece){ RIG_DATA, HEADER - 1, true }, 1);
	rig_kick(r, RECEIVE);
	send(f->cable, frame, 100, 0);	/* takes the second of the large ones */
	send(f->cable, frame, 100, 0);
	assert_int_equal(COUNTED(f, received, 2), 2);
	for (unsigned i = 0; i < WAIT_MS / STEP_MS && !(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET); i++)
		poll(NULL, 0, STEP_MS);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* No driver: dropped and counted. Then a ring without buffers: kept, up to a
 * bound, and not one is lost that was taken from the cable. */
static void test_waiting(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[60] = { 0 };
	unsigned sent = 0;
	uint32_t head, length;
	send(f->cable, frame, sizeof frame, 0);
	assert_int_equal(COUNTED(f, unwanted, 1), 1);
	rig_start(r, 2, QUEUE_SIZE, 0);
	/* Until the cable takes no more: that is the back-pressure. */
	for (unsigned quiet = 0; quiet < 20; quiet++)
		while (send(f->cable, frame, sizeof frame, 0) > 0) {
			sent++;
			quiet = 0;
			assert_true(sent < 100000);
		}
	assert_int_equal(COUNTED(f, unwanted, 1), 1);
	for (unsigned got = 0; got < sent;) {
		offer_buffers(r, QUEUE_SIZE, BUFFER);
		unsigned next = got + QUEUE_SIZE < sent ? got + QUEUE_SIZE : sent;
		assert_true(COUNTED(f, received, next) >= next);
		while (rig_take(r, RECEIVE, &head, &length))
			got++;
	}
	assert_int_equal(COUNTED(f, received, sent), sent);
}

/* The other side takes nothing: the driver's buffers stay until it does. */
static void test_transmit_stalls(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint8_t frame[2048];
	uint32_t head, length;
	unsigned offered = 0, done = 0, came = 0;
	rig_start(r, 2, QUEUE_SIZE, 0);
	for (;;) {
		offer_frame(r, HEADER + 1000);
		offered++;
		rig_kick(r, TRANSMIT);
		while (rig_take(r, TRANSMIT, &head, &length))
			done++;
		if (offered - done == QUEUE_SIZE)
			break;
		assert_true(offered < 100000);
	}
	assert_true(done >= PORT_QUEUE);
	while (came < offered) {
		assert_int_equal(cable_receive(f, frame, sizeof frame), 1000);
		came++;
	}
	assert_int_equal(COUNTED(f, sent, offered), offered);
}

static void test_unplugged(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t head, length;
	uint8_t frame[64];
	int fd[2];
	rig_start(r, 2, QUEUE_SIZE, 0);
	shutdown(f->cable, SHUT_RDWR);
	for (unsigned i = 1; i <= 3; i++) {
		offer_frame(r, HEADER + 60);
		rig_kick(r, TRANSMIT);
		assert_true(rig_take(r, TRANSMIT, &head, &length));
	}
	assert_true(COUNTED(f, lost, 1) >= 1);
	assert_int_equal(mmio_read(r, r->config + 6, 2), 0);	/* link down */
	/* And into another switch. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd), 0);
	pthread_mutex_lock(bus_lock(r->bus));
	virtio_net_connect(r->device, fd[0]);
	pthread_mutex_unlock(bus_lock(r->bus));
	assert_int_equal(mmio_read(r, r->config + 6, 2), VIRTIO_NET_S_LINK_UP);
	close(f->cable);
	f->cable = fd[1];
	offer_frame(r, HEADER + 60);
	rig_kick(r, TRANSMIT);
	assert_int_equal(cable_receive(f, frame, sizeof frame), 60);
	offer_buffers(r, 1, BUFFER);
	send(f->cable, frame, 60, 0);
	assert_int_equal(COUNTED(f, received, 1), 1);
}

static void test_save_and_load(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct error e;
	struct state s = { 0 };
	uint8_t frame[60] = { 0 };
	rig_start(r, 2, QUEUE_SIZE, BIT(VIRTIO_NET_F_MRG_RXBUF));
	offer_buffers(r, 2, BUFFER);
	send(f->cable, frame, sizeof frame, 0);
	assert_int_equal(COUNTED(f, received, 1), 1);
	pthread_mutex_lock(bus_lock(r->bus));
	r->device->ops->device.save(&r->device->pci.device, &s);
	virtio_device_reset(&r->device->pci.device);
	assert_int_equal(r->device->ops->device.load(&r->device->pci.device, &s, &e), 0);
	pthread_mutex_unlock(bus_lock(r->bus));
	/* The second buffer is taken next, as if nothing had happened. */
	send(f->cable, frame, sizeof frame, 0);
	assert_int_equal(COUNTED(f, received, 2), 2);
	assert_int_equal(guest16(r, rig_used(RECEIVE) + 2), 2);
	/* Cut short, it does not load. */
	s.at = 0;
	s.size -= 3;
	pthread_mutex_lock(bus_lock(r->bus));
	assert_int_equal(r->device->ops->device.load(&r->device->pci.device, &s, &e), -1);
	pthread_mutex_unlock(bus_lock(r->bus));
	state_free(&s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity), TEST(test_transmit), TEST(test_transmit_garbage),
		TEST(test_receive), TEST(test_merged), TEST(test_unmerged_too_small),
		TEST(test_waiting), TEST(test_transmit_stalls), TEST(test_unplugged),
		TEST(test_save_and_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
