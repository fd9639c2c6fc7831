#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio_driver.h"

/* A device of our own: a memory BAR and an I/O BAR of byte stores, four MSI-X
 * vectors, INTA#. */
enum {
	TOY_MEMORY = 0x2000, TOY_IO = 0x20,
	TOY_VENDOR = 0x1234, TOY_DEVICE = 0x5678,
	TOY_VECTORS = 4,
};

struct toy {
	struct pci_device pci;
	uint8_t memory[TOY_MEMORY], io[TOY_IO];
	unsigned resets;
	uint32_t private_state;
};

static uint64_t toy_read(void *owner, uint64_t offset, unsigned size)
{
	return load_le((uint8_t *)owner + offset, size);
}

static void toy_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	store_le((uint8_t *)owner + offset, value, size);
}

static const struct bus_ops toy_bus_ops = { toy_read, toy_write };

static void toy_reset(struct device *d)
{
	struct toy *t = container_of(d, struct toy, pci.device);
	t->resets++;
	t->private_state = 0;
}

static void toy_save(const struct device *d, struct state *s)
{
	const struct toy *t = container_of(d, const struct toy, pci.device);
	state_section(s, "toy", 1);
	state_put_field(s, t->private_state);
}

static int toy_load(struct device *d, struct state *s, struct error *e)
{
	struct toy *t = container_of(d, struct toy, pci.device);
	state_open(s, "toy");
	state_get_field(s, t->private_state);
	return state_finish(s, "toy", e);
}

static const struct device_ops toy_ops = { "toy", toy_reset, toy_save, toy_load };

static void toy_init(struct toy *t)
{
	memset(t, 0, sizeof *t);
	pci_device_init(&t->pci, &toy_ops, &(struct pci_identity){
		.vendor = TOY_VENDOR, .device = TOY_DEVICE, .subsystem_vendor = 0x1111,
		.subsystem = 0x2222, .revision = 7, .class_code = 0x020000,
		.interrupt_pin = 1 });
	pci_add_bar(&t->pci, 0, PCI_BAR_MEMORY, TOY_MEMORY, &toy_bus_ops, t->memory);
	pci_add_bar(&t->pci, 2, PCI_BAR_IO, TOY_IO, &toy_bus_ops, t->io);
	pci_add_msix(&t->pci, 3, TOY_VECTORS);
}

struct fixture {
	struct rig rig;
	struct toy toy, second;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct error e;
	rig_create(&f->rig);
	toy_init(&f->toy);
	toy_init(&f->second);
	*state = f;
	return pci_attach(f->rig.pci, &f->toy.pci, RIG_SLOT, 0, &e);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	pci_detach(&f->toy.pci);
	pci_detach(&f->second.pci);
	rig_destroy(&f->rig);
	free(f);
	return 0;
}

static void test_mechanism_1(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	/* As software looks for mechanism #1: byte access to CFBh leaves it. */
	bus_write(r->bus, BUS_IO, 0xcfb, 1, 1);
	bus_write(r->bus, BUS_IO, 0xcf8, 4, 0x80000000);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 4), 0x80000000);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 1), 0xff);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 2), 0xffff);
	bus_write(r->bus, BUS_IO, 0xcf8, 1, 0x55);
	bus_write(r->bus, BUS_IO, 0xcfa, 2, 0x5555);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 4), 0x80000000);
	bus_write(r->bus, BUS_IO, 0xcf8, 4, 0xffffffff);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 4), 0x80fffffc);

	assert_int_equal(rig_cfg_read(r, 0, 0, 0, 4), 0x12378086);
	assert_int_equal(rig_cfg_read(r, 0, 0, 2, 2), 0x1237);
	assert_int_equal(rig_cfg_read(r, 0, 0, 1, 1), 0x80);
	assert_int_equal(rig_cfg_read(r, 0, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(rig_cfg_read(r, 1, 0, 0, 4), 0x70008086);
	assert_int_equal(rig_cfg_read(r, 1, 0, PCI_CLASS_DEVICE, 2), 0x0601);
	assert_int_equal(rig_cfg_read(r, 1, 0, PCI_HEADER_TYPE, 1), 0x80);
	assert_int_equal(rig_cfg_read(r, 1, 3, 0, 4), 0xffffffff);
	assert_int_equal(rig_cfg_read(r, 9, 0, 0, 4), 0xffffffff);
	assert_int_equal(rig_cfg_read(r, 9, 0, 0, 2), 0xffff);
	/* Another bus, and mechanism off. */
	bus_write(r->bus, BUS_IO, 0xcf8, 4, 0x80010000);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcfc, 4), 0xffffffff);
	bus_write(r->bus, BUS_IO, 0xcf8, 4, 0);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcfc, 4), 0xffffffff);
}

static uint64_t reset_value;

static uint64_t reset_control_read(void *owner, uint64_t offset, unsigned size)
{
	return reset_value;
}

static void reset_control_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	reset_value = value;
}

static void test_reset_control_and_pm(void **state)
{
	static const struct bus_ops ops = { reset_control_read, reset_control_write };
	struct error e;
	const struct irq_line none[PCI_INTX_LINES] = { { NULL } };
	struct bus *b = bus_create();
	struct pci_bus *p = pci_bus_create(b, (struct msi_target){ NULL }, none, &e);
	struct i440fx *f = i440fx_create(b, p, &(struct i440fx_config){
		.acpi_base = 0x600, .reset_control = &ops }, &e);
	assert_non_null(f);
	/* A dword to CF8h whose second byte looks like a reset is none. */
	bus_write(b, BUS_IO, 0xcf8, 4, 0x80000600 | 3 << 8 | 1 << 11);
	assert_int_equal(reset_value, 0);
	bus_write(b, BUS_IO, 0xcf9, 1, 0x06);
	assert_int_equal(reset_value, 6);
	assert_int_equal(bus_read(b, BUS_IO, 0xcf9, 1), 6);
	bus_write(b, BUS_IO, 0xcf8, 4, 0x80000000 | 1 << 11 | 3 << 8);
	assert_int_equal(bus_read(b, BUS_IO, 0xcfc, 4), 0x71138086);
	bus_write(b, BUS_IO, 0xcf8, 4, 0x80000000 | 1 << 11 | 3 << 8 | 0x40);
	assert_int_equal(bus_read(b, BUS_IO, 0xcfc, 4), 0x601);
	i440fx_destroy(f);
	pci_bus_destroy(p);
	/* Ports taken: a clear error, and nothing left behind. */
	p = pci_bus_create(b, (struct msi_target){ NULL }, none, &e);
	assert_int_equal(bus_claim(b, BUS_IO, 0xcfd, 1, &ops, NULL, "squatter", &e), 0);
	assert_null(i440fx_create(b, p, &(struct i440fx_config){ 0 }, &e));
	assert_non_null(strstr(e.text, "squatter"));
	bus_release(b, BUS_IO, 0xcfd);
	f = i440fx_create(b, p, &(struct i440fx_config){ 0 }, &e);
	assert_non_null(f);
	i440fx_destroy(f);
	pci_bus_destroy(p);
	bus_destroy(b);
}

static void test_header(void **state)
{
	struct rig *r = &((struct fixture *)*state)->rig;
	assert_int_equal(rig_read(r, 0, 4), TOY_DEVICE << 16 | TOY_VENDOR);
	assert_int_equal(rig_read(r, PCI_CLASS_REVISION, 4), 0x02000007);
	assert_int_equal(rig_read(r, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x22221111);
	assert_int_equal(rig_read(r, PCI_INTERRUPT_PIN, 1), 1);
	/* Firmware's work is done: placed and decoded, no bus mastering. */
	assert_int_equal(rig_read(r, PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	assert_in_range(rig_read(r, PCI_BASE_ADDRESS_0, 4), PCI_MEMORY_WINDOW,
			PCI_MEMORY_WINDOW_END - TOY_MEMORY);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0 + 8, 4), PCI_IO_WINDOW | 1);
	/* Read-only registers stay; the interrupt line is software's. */
	rig_write(r, 0, 4, 0);
	rig_write(r, PCI_CLASS_REVISION, 4, 0);
	rig_write(r, PCI_CAPABILITY_LIST, 1, 0);
	rig_write(r, PCI_INTERRUPT_LINE, 1, 11);
	assert_int_equal(rig_read(r, 0, 4), TOY_DEVICE << 16 | TOY_VENDOR);
	assert_int_equal(rig_read(r, PCI_CLASS_REVISION, 4), 0x02000007);
	assert_int_equal(rig_read(r, PCI_INTERRUPT_LINE, 1), 11);
	assert_int_equal(rig_read(r, PCI_CAPABILITY_LIST, 1), 0x40);
	assert_int_equal(rig_read(r, 0x40, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(rig_read(r, 0x41, 1), 0);
	assert_true(rig_read(r, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	/* Status: write 1 to clear touches nothing else. */
	rig_write(r, PCI_STATUS, 2, 0xffff);
	assert_int_equal(rig_read(r, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
}

static void test_bar_sizing_and_moves(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	uint32_t first = rig_read(r, PCI_BASE_ADDRESS_0, 4);
	rig_write(r, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0, 4), ~(TOY_MEMORY - 1u));
	rig_write(r, PCI_BASE_ADDRESS_0 + 8, 4, 0xffffffff);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0 + 8, 4), ~(TOY_IO - 1u) | 1);
	rig_write(r, PCI_BASE_ADDRESS_0 + 4, 4, 0xffffffff);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0 + 4, 4), 0);
	rig_write(r, PCI_BASE_ADDRESS_0 + 8, 4, 0xd000);
	/* While the BAR holds the sizing value nothing is decoded. */
	f->toy.memory[4] = 0x42;
	assert_int_equal(mmio_read(r, first + 4, 1), 0xff);
	rig_write(r, PCI_BASE_ADDRESS_0, 4, first);
	assert_int_equal(mmio_read(r, first + 4, 1), 0x42);
	/* A move, byte by byte, the old place silent. */
	rig_write(r, PCI_BASE_ADDRESS_0 + 3, 1, 0xf1);
	assert_int_equal(mmio_read(r, first + 4, 1), 0xff);
	assert_int_equal(mmio_read(r, (first & 0xffffff) + 0xf1000004u, 1), 0x42);
	/* The command bits. */
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_int_equal(mmio_read(r, (first & 0xffffff) + 0xf1000004u, 1), 0xff);
	bus_write(r->bus, BUS_IO, 0xd004, 1, 0x99);
	assert_int_equal(f->toy.io[4], 0x99);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xd004, 1), 0xff);
	assert_int_equal(mmio_read(r, (first & 0xffffff) + 0xf1000004u, 1), 0x42);
	/* Address 0 and ports beyond 64 KiB are decoded by nobody. */
	rig_write(r, PCI_BASE_ADDRESS_0, 4, 0);
	assert_int_equal(mmio_read(r, 4, 1), 0xff);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_IO);
	rig_write(r, PCI_BASE_ADDRESS_0 + 8, 4, 0x1d000);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0x1d004, 1), 0xff);
}

static void test_overlap(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct error e;
	assert_int_equal(pci_attach(r->pci, &f->second.pci, RIG_SLOT + 1, 0, &e), 0);
	uint32_t first = rig_read(r, PCI_BASE_ADDRESS_0, 4);
	uint32_t second = rig_cfg_read(r, RIG_SLOT + 1, 0, PCI_BASE_ADDRESS_0, 4);
	assert_int_not_equal(first, second);
	f->toy.memory[0] = 1;
	f->second.memory[0] = 2;
	/* The second is laid over the first: the first keeps answering. */
	rig_cfg_write(r, RIG_SLOT + 1, 0, PCI_BASE_ADDRESS_0, 4, first);
	assert_int_equal(mmio_read(r, first, 1), 1);
	assert_int_equal(mmio_read(r, second, 1), 0xff);
	/* The first leaves, the second takes the place without being touched. */
	rig_write(r, PCI_BASE_ADDRESS_0, 4, second);
	assert_int_equal(mmio_read(r, first, 1), 2);
	assert_int_equal(mmio_read(r, second, 1), 1);
	/* Over a chip's ports: they stay the chip's. */
	rig_write(r, PCI_BASE_ADDRESS_0 + 8, 4, 0xce0);
	assert_int_equal(rig_cfg_read(r, 0, 0, 0, 4), 0x12378086);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0 + 8, 4), 0xce1);
}

static void test_intx(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct error e;
	unsigned line = pci_intx_line(RIG_SLOT, 1);
	/* Four slots further the same line. */
	assert_int_equal(pci_attach(r->pci, &f->second.pci, RIG_SLOT + 4, 0, &e), 0);
	assert_int_equal(line, pci_intx_line(RIG_SLOT + 4, 1));
	pci_set_intx(&f->toy.pci, true);
	assert_true(r->line[line]);
	assert_true(rig_read(r, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	pci_set_intx(&f->second.pci, true);
	pci_set_intx(&f->toy.pci, false);
	assert_true(r->line[line]);
	assert_int_equal(r->line_changes, 1);
	assert_false(rig_read(r, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	rig_cfg_write(r, RIG_SLOT + 4, 0, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_false(r->line[line]);
	assert_true(rig_cfg_read(r, RIG_SLOT + 4, 0, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	rig_cfg_write(r, RIG_SLOT + 4, 0, PCI_COMMAND, 2, 0);
	assert_true(r->line[line]);
	pci_detach(&f->second.pci);
	assert_false(r->line[line]);
}

static void test_msix(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct pci_device *d = &f->toy.pci;
	unsigned flags = 0x40 + PCI_MSIX_FLAGS;
	uint64_t table = rig_read(r, PCI_BASE_ADDRESS_0 + 12, 4);
	uint64_t pba = table + (rig_read(r, 0x40 + PCI_MSIX_PBA, 4) & ~7u);
	assert_int_equal(rig_read(r, flags, 2), TOY_VECTORS - 1);
	assert_int_equal(rig_read(r, 0x40 + PCI_MSIX_TABLE, 4) & 7, 3);
	assert_int_equal(rig_read(r, 0x40 + PCI_MSIX_PBA, 4) & 7, 3);
	/* Every vector is masked at reset. */
	assert_int_equal(mmio_read(r, table + 12, 4), PCI_MSIX_ENTRY_CTRL_MASKBIT);

	pci_msix_notify(d, 1);		/* MSI-X off: lost */
	assert_int_equal(mmio_read(r, pba, 8), 0);
	rig_write(r, flags, 2, 0xffff);
	assert_int_equal(rig_read(r, flags, 2),
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL | (TOY_VECTORS - 1));
	for (unsigned i = 0; i < TOY_VECTORS; i++) {
		mmio_write(r, table + 16 * i, 8, 0x12345678fee01003);
		mmio_write(r, table + 16 * i + 8, 4, 0x4000 + i);
		mmio_write(r, table + 16 * i + 12, 4, 0xfffffffe);
	}
	assert_int_equal(mmio_read(r, table, 8), 0x12345678fee01000);
	assert_int_equal(mmio_read(r, table + 12, 4), 0);
	assert_int_equal(mmio_read(r, table + 2, 2), 0xfee0);
	/* Small and misaligned writes do nothing. */
	mmio_write(r, table + 8, 1, 0);
	mmio_write(r, table + 6, 4, 0);
	mmio_write(r, pba, 4, 0xffffffff);
	mmio_write(r, table + 16 * TOY_VECTORS, 4, 1);
	assert_int_equal(mmio_read(r, table + 8, 4), 0x4000);
	assert_int_equal(mmio_read(r, table + 16 * TOY_VECTORS, 4), 0);

	pci_msix_notify(d, 1);		/* function masked */
	pci_msix_notify(d, TOY_VECTORS);	/* no such vector */
	assert_int_equal(mmio_read(r, pba, 4), 2);
	rig_write(r, flags, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(r->messages, 0);	/* bus mastering is off */
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(r->messages, 1);
	assert_int_equal(r->message[0].address, 0x12345678fee01000);
	assert_int_equal(r->message[0].data, 0x4001);
	assert_int_equal(mmio_read(r, pba, 4), 0);
	/* The function's mask alone holds them back, too. */
	rig_write(r, flags, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_msix_notify(d, 0);
	assert_int_equal(r->messages, 1);
	assert_int_equal(mmio_read(r, pba, 4), 1);
	rig_write(r, flags, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(r->messages, 2);
	assert_int_equal(r->message[1].data, 0x4000);

	mmio_write(r, table + 16 * 2 + 12, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	pci_msix_notify(d, 2);
	pci_msix_notify(d, 2);
	pci_msix_notify(d, 3);
	assert_int_equal(r->messages, 3);
	assert_int_equal(mmio_read(r, pba, 4), 4);
	mmio_write(r, table + 16 * 2 + 12, 4, 0);
	assert_int_equal(r->messages, 4);
	assert_int_equal(r->message[3].data, 0x4002);
}

static void test_reset_save_load(void **state)
{
	struct fixture *f = *state;
	struct rig *r = &f->rig;
	struct device *bus = pci_bus_device(r->pci);
	struct error e;
	struct state s = { 0 };
	uint32_t first = rig_read(r, PCI_BASE_ADDRESS_0, 4);
	uint64_t table = rig_read(r, PCI_BASE_ADDRESS_0 + 12, 4);

	rig_write(r, PCI_BASE_ADDRESS_0, 4, 0xf0000000);
	rig_write(r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_write(r, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	mmio_write(r, table + 8, 4, 0x77);
	pci_msix_notify(&f->toy.pci, 0);
	pci_set_intx(&f->toy.pci, true);
	f->toy.private_state = 0xabcd;
	f->toy.memory[0] = 0x5a;
	bus_write(r->bus, BUS_IO, 0xcf8, 4, 0x80002040);
	bus->ops->save(bus, &s);

	unsigned resets = f->toy.resets;
	bus->ops->reset(bus);
	assert_int_equal(f->toy.resets, resets + 1);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 4), 0);
	assert_int_equal(rig_read(r, PCI_BASE_ADDRESS_0, 4), first);
	assert_int_equal(mmio_read(r, first, 1), 0x5a);
	assert_int_equal(mmio_read(r, 0xf0000000, 1), 0xff);
	assert_false(r->line[pci_intx_line(RIG_SLOT, 1)]);
	assert_int_equal(mmio_read(r, table + 8, 4), 0);

	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	assert_int_equal(bus_read(r->bus, BUS_IO, 0xcf8, 4), 0x80002040);
	assert_int_equal(f->toy.private_state, 0xabcd);
	assert_int_equal(mmio_read(r, 0xf0000000, 1), 0x5a);
	assert_int_equal(mmio_read(r, first, 1), 0xff);
	assert_true(r->line[pci_intx_line(RIG_SLOT, 1)]);
	assert_int_equal(mmio_read(r, table + 8, 4), 0x77);
	assert_int_equal(r->messages, 0);
	mmio_write(r, table + 12, 4, 0);
	assert_int_equal(r->messages, 1);

	/* Saved twice, it is the same; cut short anywhere, it is refused. */
	struct state again = { 0 };
	s.at = 0;
	assert_int_equal(bus->ops->load(bus, &s, &e), 0);
	bus->ops->save(bus, &again);
	assert_int_equal(again.size, s.size);
	assert_memory_equal(again.data, s.data, s.size);
	for (size_t cut = 0; cut < s.size; cut++) {
		again.size = cut;
		again.at = 0;
		again.failed = false;
		assert_int_equal(bus->ops->load(bus, &again, &e), -1);
	}
	/* Another machine. */
	s.at = 0;
	pci_detach(&f->toy.pci);
	assert_int_equal(bus->ops->load(bus, &s, &e), -1);
	assert_non_null(strstr(e.text, "same devices"));
	toy_init(&f->toy);
	assert_int_equal(pci_attach(r->pci, &f->toy.pci, RIG_SLOT + 2, 0, &e), 0);
	s.at = 0;
	s.failed = false;
	assert_int_equal(bus->ops->load(bus, &s, &e), -1);
	assert_non_null(strstr(e.text, "1234:5678"));
	state_free(&s);
	state_free(&again);
}

static void test_attach_errors(void **state)
{
	struct fixture *f = *state;
	struct error e;
	assert_int_equal(pci_attach(f->rig.pci, &f->second.pci, RIG_SLOT, 0, &e), -1);
	assert_non_null(strstr(e.text, "slot 4"));
	assert_int_equal(pci_attach(f->rig.pci, &f->second.pci, PCI_SLOTS, 0, &e), -1);
	pci_add_bar(&f->second.pci, 4, PCI_BAR_MEMORY, 0x80000000, &toy_bus_ops, NULL);
	assert_int_equal(pci_attach(f->rig.pci, &f->second.pci, RIG_SLOT + 1, 0, &e), -1);
	assert_non_null(strstr(e.text, "window"));
	assert_int_equal(rig_cfg_read(&f->rig, RIG_SLOT + 1, 0, 0, 4), 0xffffffff);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mechanism_1),
		TEST(test_reset_control_and_pm),
		TEST(test_header),
		TEST(test_bar_sizing_and_moves),
		TEST(test_overlap),
		TEST(test_intx),
		TEST(test_msix),
		TEST(test_reset_save_load),
		TEST(test_attach_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
