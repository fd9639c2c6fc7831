#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtio_rng.h"
#include "virtio_driver.h"

/* The random device, and with it, being the simplest, the transport. */

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);
	struct error e;
	rig_create(r);
	struct virtio_device *v = virtio_rng_create(r->pci, RIG_SLOT, r->memory, &e);
	rig_probe(r, v);
	*state = r;
	return !v;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	free(*state);
	return 0;
}

static void test_identity(void **state)
{
	struct rig *r = *state;
	assert_int_equal(rig_read(r, 0, 4), 0x10441af4);
	assert_int_equal(rig_read(r, PCI_REVISION_ID, 1), 1);
	assert_true(rig_read(r, PCI_SUBSYSTEM_ID, 2) >= 0x40);
	assert_true(r->common && r->isr && r->notify && r->access_capability);
	assert_int_equal(r->config, 0);		/* it has no configuration of its own */
	assert_int_equal(rig_read(r, r->msix_capability + PCI_MSIX_FLAGS, 2), 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_NUMQ, 2), 1);
}

static void test_features(void **state)
{
	struct rig *r = *state;
	uint64_t offered = rig_features(r);
	assert_true(offered == (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
				BIT(VIRTIO_RING_F_EVENT_IDX)));
	common_set(r, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_DF, 4), 0);
	assert_false(rig_negotiate(r, 0));	/* a legacy driver */
	assert_false(rig_negotiate(r, offered | BIT(0)));
	/* DRIVER_OK without FEATURES_OK does not start it. */
	rig_driver_ok(r);
	assert_false(rig_status(r) & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(rig_negotiate(r, offered));
	/* What is agreed stays. */
	common_set(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_set(r, VIRTIO_PCI_COMMON_GF, 4, 0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_GF, 4), offered & 0xffffffff);
	common_set(r, VIRTIO_PCI_COMMON_GFSELECT, 4, 77);
	common_set(r, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_GF, 4), 0);
	/* The driver cannot set NEEDS_RESET, nor take bits away but by reset. */
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(rig_status(r), 0xb);
	common_set(r, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(rig_status(r), 0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_GF, 4), 0);
}

static void test_queue_registers(void **state)
{
	struct rig *r = *state;
	rig_msix(r, 2);
	rig_negotiate(r, BIT(VIRTIO_F_VERSION_1));
	common_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	uint16_t max = (uint16_t)common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	assert_int_equal(max, 64);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_NOFF, 2), 0);
	static const uint16_t bad[] = { 0, 3, 63, 128, 0xffff };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		common_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, bad[i]);
		assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), max);
	}
	common_set(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
	common_set(r, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	common_set(r, VIRTIO_PCI_COMMON_MSIX, 2, 5);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	/* Addresses by halves, and whole. */
	common_set64(r, VIRTIO_PCI_COMMON_Q_DESCLO, 0x123456789abcdef0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0x123456789abcdef0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0x12345678);
	common_set(r, VIRTIO_PCI_COMMON_Q_DESCLO, 8, rig_desc(0));
	/* Another width than the field's is nothing. */
	common_set(r, VIRTIO_PCI_COMMON_Q_DESCLO, 2, 0xffff);
	common_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 4, 0xffffffff);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_DESCLO, 4), rig_desc(0));
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 1), 0);
	/* A queue that is not there. */
	common_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	common_set(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	/* An enabled one keeps its shape. */
	rig_queue(r, 0, 8, 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	common_set(r, VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
	common_set64(r, VIRTIO_PCI_COMMON_Q_USEDLO, 0);
	common_set(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_USEDLO, 8), rig_used(0));
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void test_queue_needs_features(void **state)
{
	struct rig *r = *state;
	rig_queue(r, 0, 8, VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}

static const struct piece buffer = { RIG_DATA, 256, true };

static void test_random_msix(void **state)
{
	struct rig *r = *state;
	uint8_t a[256], b[256], zero[256] = { 0 };
	uint32_t head, length;
	rig_start(r, 1, 8, rig_features(r));
	for (unsigned i = 0; i < 20; i++) {	/* more than the ring's size */
		memory_fill(r->memory, RIG_DATA, 0, 512);
		/* The event index: interrupt for the very next one. */
		guest_set(r, rig_avail(0) + 4 + 2 * 8, i, 2);
		uint16_t offered = rig_offer(r, 0, &buffer, 1);
		assert_false(rig_take(r, 0, &head, &length));
		rig_kick(r, 0);
		assert_true(rig_take(r, 0, &head, &length));
		assert_int_equal(head, offered);
		assert_int_equal(length, sizeof a);
		assert_int_equal(r->messages, i + 1);
		assert_int_equal(r->message[i].address, RIG_MSI_ADDRESS);
		assert_int_equal(r->message[i].data, RIG_VECTOR_DATA + 1);
		memory_read(r->memory, RIG_DATA, a, sizeof a);
		assert_memory_not_equal(a, i ? b : zero, sizeof a);
		memcpy(b, a, sizeof b);
		memory_read(r->memory, RIG_DATA + 256, a, sizeof a);
		assert_memory_equal(a, zero, sizeof a);
		/* And it wants to hear of the next buffer. */
		assert_int_equal(guest16(r, rig_used(0) + 4 + 8 * 8), i + 1);
	}
	assert_int_equal(mmio_read(r, r->isr, 1), 0);	/* not with MSI-X */
	assert_int_equal(r->line_changes, 0);
}

static void test_intx(void **state)
{
	struct rig *r = *state;
	uint32_t head, length;
	unsigned line = pci_intx_line(RIG_SLOT, 1);
	rig_negotiate(r, BIT(VIRTIO_F_VERSION_1));
	rig_queue(r, 0, 8, VIRTIO_MSI_NO_VECTOR);
	rig_driver_ok(r);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_true(r->line[line]);
	assert_int_equal(mmio_read(r, r->isr, 1), 1);
	assert_false(r->line[line]);
	assert_int_equal(mmio_read(r, r->isr, 1), 0);
	/* Without interrupts wished. */
	guest_set(r, rig_avail(0), VRING_AVAIL_F_NO_INTERRUPT, 2);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_false(r->line[line]);
	/* Switching to MSI-X drops the line. */
	guest_set(r, rig_avail(0), 0, 2);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(r->line[line]);
	rig_msix(r, 2);
	assert_false(r->line[line]);
	assert_int_equal(r->messages, 0);
}

static void test_early_and_unmastered_buffers(void **state)
{
	struct rig *r = *state;
	uint32_t head, length;
	rig_msix(r, 2);
	rig_negotiate(r, BIT(VIRTIO_F_VERSION_1));
	rig_queue(r, 0, 8, 1);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);		/* before DRIVER_OK: nothing */
	assert_false(rig_take(r, 0, &head, &length));
	rig_driver_ok(r);	/* now it is seen */
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(r->messages, 1);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_false(rig_take(r, 0, &head, &length));
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	/* Notifications of queues that are not there. */
	mmio_write(r, r->notify + 4, 2, 1);
	mmio_write(r, r->notify + 0xffc, 2, 7);
	mmio_write(r, r->notify + 2, 2, 0);
}

static void test_large_and_odd_buffers(void **state)
{
	struct rig *r = *state;
	uint32_t head, length;
	rig_start(r, 1, 8, BIT(VIRTIO_RING_F_INDIRECT_DESC));
	/* More than it gives at once: filled in part. */
	rig_offer(r, 0, &(struct piece){ RIG_DATA, 1 << 20, true }, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(length, 16 << 10);
	/* Nothing to write into. */
	rig_offer(r, 0, &(struct piece){ RIG_DATA, 16, false }, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(length, 0);
	/* In pieces, by an indirect table. */
	uint64_t table = rig_desc(0) + RIG_INDIRECT;
	put_desc(r, table, 0, RIG_DATA, 3, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	put_desc(r, table, 1, RIG_DATA + 0x1000, 5, VRING_DESC_F_WRITE, 0);
	uint16_t at = rig_offer(r, 0, &(struct piece){ 0, 0, false }, 1);
	put_desc(r, rig_desc(0), at, table, 32, VRING_DESC_F_INDIRECT, 0);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(length, 8);
}

static void test_broken_ring(void **state)
{
	struct rig *r = *state;
	uint32_t head, length;
	rig_start(r, 1, 8, 0);
	rig_offer(r, 0, &(struct piece){ 0xfffffffff000, 16, true }, 1);
	rig_kick(r, 0);
	assert_int_equal(rig_status(r), 0x4f);
	/* The configuration interrupt tells the driver. */
	assert_int_equal(r->messages, 1);
	assert_int_equal(r->message[0].data, RIG_VECTOR_DATA);
	assert_false(rig_take(r, 0, &head, &length));
	/* Silence until the reset, then all is well again. */
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_false(rig_take(r, 0, &head, &length));
	assert_int_equal(r->messages, 1);
	rig_start(r, 1, 8, 0);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(rig_status(r), 0xf);
	/* Rings that are no RAM break it as they are enabled. */
	rig_negotiate(r, BIT(VIRTIO_F_VERSION_1));
	common_set(r, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_set64(r, VIRTIO_PCI_COMMON_Q_DESCLO, 0xfee00000);
	common_set64(r, VIRTIO_PCI_COMMON_Q_AVAILLO, rig_avail(0));
	common_set64(r, VIRTIO_PCI_COMMON_Q_USEDLO, rig_used(0));
	common_set(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_true(rig_status(r) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void window(struct rig *r, unsigned bar, uint32_t offset, uint32_t length)
{
	rig_write(r, r->access_capability + VIRTIO_PCI_CAP_BAR, 1, bar);
	rig_write(r, r->access_capability + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	rig_write(r, r->access_capability + VIRTIO_PCI_CAP_LENGTH, 4, length);
}

static void test_configuration_access(void **state)
{
	struct rig *r = *state;
	unsigned data = r->access_capability + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	unsigned common = (unsigned)(r->common - r->bar[4]);
	/* Works though the BARs are not decoded. */
	rig_write(r, PCI_COMMAND, 2, 0);
	window(r, 4, common + VIRTIO_PCI_COMMON_STATUS, 1);
	rig_write(r, data, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(rig_read(r, data, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	window(r, 4, common + VIRTIO_PCI_COMMON_NUMQ, 2);
	assert_int_equal(rig_read(r, data, 2), 1);
	window(r, 4, common + VIRTIO_PCI_COMMON_DFSELECT, 4);
	rig_write(r, data, 4, 1);
	window(r, 4, common + VIRTIO_PCI_COMMON_DF, 4);
	assert_int_equal(rig_read(r, data, 4), 1);
	/* Windows that lead nowhere: the data register is then mere storage. */
	static const struct { unsigned bar; uint32_t offset, length; } bad[] = {
		{ 4, 0x4000, 4 }, { 4, 0xfffffffc, 4 }, { 4, 0x3fff, 2 }, { 4, 1, 2 },
		{ 4, 0, 0 }, { 4, 0, 3 }, { 4, 0, 8 }, { 4, 0, 0xffffffff },
		{ 0, 0, 4 }, { 6, 0, 4 }, { 255, 0, 4 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		window(r, bad[i].bar, bad[i].offset, bad[i].length);
		rig_write(r, data, 4, 0x1000 + i);
		assert_int_equal(rig_read(r, data, 4), 0x1000 + i);
	}
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(common_get(r, VIRTIO_PCI_COMMON_DFSELECT, 4), 1);
	assert_int_equal(rig_status(r), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	/* The MSI-X table through the window. */
	window(r, 1, 8, 4);
	rig_write(r, data, 4, 0xbeef);
	assert_int_equal(mmio_read(r, r->bar[1] + 8, 4), 0xbeef);
}

static void test_save_load_reset(void **state)
{
	struct rig *r = *state;
	struct device *bus = pci_bus_device(r->pci);
	struct error e;
	struct state s = { 0 };
	uint32_t head, length;
	rig_start(r, 1, 8, BIT(VIRTIO_RING_F_EVENT_IDX));
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	bus->ops->save(bus, &s);
	bus->ops->reset(bus);
	assert_int_equal(rig_status(r), 0);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_false(rig_take(r, 0, &head, &length));
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_int_equal(rig_status(r), 0xf);
	/* It goes on where it was: the second buffer, and the second message. */
	guest_set(r, rig_avail(0) + 4 + 2 * 8, 1, 2);
	rig_kick(r, 0);
	assert_true(rig_take(r, 0, &head, &length));
	assert_int_equal(length, 256);
	assert_int_equal(r->messages, 2);
	state_free(&s);
}

/* A pending INTx survives, with its ISR bit. */
static void test_save_load_intx(void **state)
{
	struct rig *r = *state;
	struct device *bus = pci_bus_device(r->pci);
	unsigned line = pci_intx_line(RIG_SLOT, 1);
	struct error e;
	struct state s = { 0 };
	rig_negotiate(r, BIT(VIRTIO_F_VERSION_1));
	rig_queue(r, 0, 8, VIRTIO_MSI_NO_VECTOR);
	rig_driver_ok(r);
	rig_offer(r, 0, &buffer, 1);
	rig_kick(r, 0);
	assert_true(r->line[line]);
	bus->ops->save(bus, &s);
	bus->ops->reset(bus);
	assert_false(r->line[line]);
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_true(r->line[line]);
	assert_int_equal(mmio_read(r, r->isr, 1), 1);
	assert_false(r->line[line]);
	state_free(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_features),
		TEST(test_queue_registers),
		TEST(test_queue_needs_features),
		TEST(test_random_msix),
		TEST(test_intx),
		TEST(test_early_and_unmastered_buffers),
		TEST(test_large_and_odd_buffers),
		TEST(test_broken_ring),
		TEST(test_configuration_access),
		TEST(test_save_load_reset),
		TEST(test_save_load_intx),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
