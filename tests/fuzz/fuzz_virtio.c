/* A guest that writes random values to configuration space, BARs and rings of
 * the virtio devices. Deterministic: run it with a seed to repeat one round
 * (fuzz_virtio SEED), without for all of them.
 *
 * Rounds begin with a driver at work, so that the noise reaches code that a
 * blank device would not show. What must hold whatever the guest does: no
 * access outside guest RAM (the sanitizers see most, and the legacy hole, which
 * is no RAM, must stay as it is), the disk keeps its size, and after a
 * power-on reset a well-behaved driver is served. */
#include "unit/virtio_driver.h"

#include "base/log.h"
#include "virtio/virtio_balloon.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_mem.h"
#include "virtio/virtio_rng.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ROUNDS = 240, STEPS = 1500, DISK_BYTES = 1 << 20, QUEUE_SIZE = 16, HOLE_FILL = 0xc3,
	ROOM_BLOCKS = 8,
};
#define ROOM_BYTES (ROOM_BLOCKS * MEMORY_LARGE_PAGE)

static uint64_t seed_state;

/* xorshift64*: repeatable everywhere. */
static uint64_t random64(void)
{
	seed_state ^= seed_state >> 12;
	seed_state ^= seed_state << 25;
	seed_state ^= seed_state >> 27;
	return seed_state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t n)
{
	return (random64() >> 16) % n;
}

static unsigned random_size(void)
{
	return 1u << below(3);
}

/* Values that find edges more often than chance would. */
static uint64_t value(void)
{
	static const uint64_t edge[] = {
		0, 1, 2, 4, 8, 15, 16, 31, 64, 128, 0xff, 0xffff, 0x7fffffff, 0xffffffff,
		UINT64_MAX, RIG_RINGS, RIG_DATA, RIG_MEMORY - 1, RIG_MEMORY, 0x9fff8, 0xa0000,
		0xbfff0, MEMORY_HIGH_BASE, PCI_MEMORY_WINDOW, PCI_MEMORY_WINDOW_END - 1, 0xfee00000,
	};
	switch (below(4)) {
	case 0: return edge[below(ARRAY_SIZE(edge))];
	case 1: return below(64);
	case 2: return below(RIG_MEMORY);
	default: return random64();
	}
}

enum kind { BLK, CONSOLE, RNG, BALLOON, MEM, KINDS };

static struct rig rig;
static struct disk *disk;
static int disk_file;
static struct clock *vm_clock;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void sink_write(void *owner, const uint8_t *bytes, size_t n)
{
	static volatile uint8_t last;
	for (size_t i = 0; i < n; i++)
		last = bytes[i];	/* read them all */
	(void)last;
}

/* An engine that sometimes has no place for more. */
static bool mem_plugged(void *owner, uint64_t pa, uint64_t n, bool in)
{
	return !in || below(8);
}

static struct virtio_device *create(enum kind kind, struct error *e)
{
	static const struct virtio_console_sink sink = { .write = sink_write };
	static const struct virtio_mem_host host = { mem_plugged, NULL };
	switch (kind) {
	case BLK: return virtio_blk_create(rig.pci, RIG_SLOT, rig.memory, bus_lock(rig.bus), disk, e);
	case CONSOLE: return virtio_console_create(rig.pci, RIG_SLOT, rig.memory, &sink, e);
	case BALLOON: return virtio_balloon_create(rig.pci, RIG_SLOT, rig.memory, vm_clock, e);
	case MEM: return virtio_mem_create(rig.pci, RIG_SLOT, rig.memory, vm_clock, &host, e);
	default: return virtio_rng_create(rig.pci, RIG_SLOT, rig.memory, e);
	}
}

static void write_config(void)
{
	static const unsigned offsets[] = { PCI_COMMAND, PCI_BASE_ADDRESS_1, PCI_BASE_ADDRESS_4 };
	unsigned slot = below(4) ? RIG_SLOT : (unsigned)below(PCI_SLOTS);
	unsigned offset = below(3) ? (unsigned)below(PCI_CONFIG_SIZE) :
		offsets[below(ARRAY_SIZE(offsets))];
	rig_cfg_write(&rig, slot, 0, offset, random_size(), (uint32_t)value());
	rig_cfg_read(&rig, slot, 0, (unsigned)below(PCI_CONFIG_SIZE), random_size());
}

/* The PCI configuration access window at a random place. */
static void write_window(void)
{
	unsigned at = rig.access_capability;
	unsigned data = at + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	rig_write(&rig, at + VIRTIO_PCI_CAP_BAR, 1, below(3) ? 4 : (uint32_t)value());
	rig_write(&rig, at + VIRTIO_PCI_CAP_OFFSET, 4,
		  below(3) ? (uint32_t)below(0x4000) : (uint32_t)value());
	rig_write(&rig, at + VIRTIO_PCI_CAP_LENGTH, 4, below(3) ? random_size() :
		  (uint32_t)value());
	if (below(2))
		rig_write(&rig, data, 4, (uint32_t)value());
	else
		rig_read(&rig, data, 4);
}

static void write_common(void)
{
	uint64_t offset = below(64);
	if (offset == VIRTIO_PCI_COMMON_STATUS && below(4))
		return;		/* seldom reset it */
	common_set(&rig, (unsigned)offset, 1u << below(4), value());
	common_get(&rig, (unsigned)below(80), 1u << below(4));
}

static void write_bars(void)
{
	unsigned bar = below(2) ? 1 : 4;
	mmio_write(&rig, rig.bar[bar] + below(0x4000), 1u << below(4), value());
	mmio_read(&rig, rig.bar[bar] + below(0x4000), 1u << below(4));
}

/* Of the device, and now and then one that it has not. */
static unsigned random_queue(void)
{
	unsigned queues = rig.device->ops->queues;
	return (unsigned)below(queues < 2 ? 2 : queues);
}

static void write_ring(void)
{
	unsigned queue = random_queue();
	static const uint64_t base[] = { 0, RIG_AVAIL, RIG_USED, RIG_INDIRECT };
	guest_set(&rig, rig_desc(queue) + base[below(4)] + below(QUEUE_SIZE * 16),
		  value(), random_size());
}

/* A buffer that is right but for one thing, or right. */
static void offer(void)
{
	unsigned queue = random_queue(), count = 1 + (unsigned)below(5);
	struct piece pieces[5];
	for (unsigned i = 0; i < count; i++)
		pieces[i] = (struct piece){ RIG_DATA + below(0x10000), (uint32_t)below(2000),
					    i > count / 2 };
	pieces[0].length = 16;
	guest_set(&rig, pieces[0].address, below(15), 4);
	guest_set(&rig, pieces[0].address + 8, below(3) ? below(DISK_BYTES / 512) : value(), 8);
	if (!below(8))
		pieces[below(count)].address = value();
	if (!below(8))
		pieces[below(count)].length = (uint32_t)value();
	if (!rig.queue[queue].size)
		return;
	uint16_t head = rig_offer(&rig, queue, pieces, count);
	if (rig.device->queue[0].ring.indirect ? !below(3) : !below(100))
		put_desc(&rig, rig_desc(queue), head, rig_desc(queue) + RIG_INDIRECT,
			 (uint32_t)(below(4) ? 16 * (1 + below(QUEUE_SIZE)) : value()),
			 VRING_DESC_F_INDIRECT, 0);
	rig_kick(&rig, queue);
}

/* Pages for the balloon, nearly all of them RAM, or statistics. */
static void offer_to_balloon(void)
{
	unsigned queue = random_queue();
	uint32_t length = (uint32_t)below(2000);
	for (unsigned i = 0; i < length / 4; i++)
		guest_set(&rig, RIG_DATA + 4 * i, below(2000) ? 0x800 + below(0x800) : value(), 4);
	if (queue == 2)
		for (unsigned i = 0; i < length / 10; i++) {
			guest_set(&rig, RIG_DATA + 10 * i, below(12), 2);
			guest_set(&rig, RIG_DATA + 10 * i + 2, value(), 8);
		}
	if (!rig.queue[queue].size)
		return;
	rig_offer(&rig, queue, &(struct piece){ RIG_DATA, length, queue > 2 }, 1);
	rig_kick(&rig, queue);
}

/* A request for blocks, nearly all of them in the room; sometimes from there,
 * or with the answer into there. */
static void offer_to_mem(void)
{
	uint64_t base = rig.memory->room_base, block = MEMORY_LARGE_PAGE;
	uint64_t request = below(8) ? RIG_DATA : base + below(ROOM_BYTES);
	struct virtio_mem_req r = { .type = (uint16_t)(below(16) ? below(4) : value()),
		.u.plug.addr = below(16) ? base + below(ROOM_BLOCKS) * block : value(),
		.u.plug.nb_blocks = (uint16_t)(below(16) ? below(4) : value()) };
	memory_write(rig.memory, request, &r, sizeof r);
	if (!rig.queue[0].size)
		return;
	rig_offer(&rig, 0, (const struct piece[]){
		{ request, sizeof r, false },
		{ below(8) ? RIG_DATA + 64 : base + below(ROOM_BYTES), sizeof(struct virtio_mem_resp), true },
		}, 2);
	rig_kick(&rig, 0);
}

/* What comes to a device from elsewhere. */
static void from_outside(void)
{
	static const uint8_t text[32];
	switch (rig.device->ops->type) {
	case VIRTIO_ID_CONSOLE:
		virtio_console_receive(rig.device, text, below(sizeof text));
		break;
	case VIRTIO_ID_BALLOON:
		clock_advance(vm_clock, below(2 * NS_PER_SECOND));
		clock_run_due(vm_clock);
		guest_memory_set_target(virtio_balloon_guest_memory(rig.device), value());
		break;
	case VIRTIO_ID_MEM:
		clock_advance(vm_clock, below(NS_PER_SECOND));
		clock_run_due(vm_clock);
		guest_memory_set_target(virtio_mem_guest_memory(rig.device), below(2) ? below(ROOM_BYTES) : value());
	}
}

static void restart(void)
{
	unsigned queues = rig.device->ops->queues;
	rig_write(&rig, PCI_BASE_ADDRESS_1, 4, (uint32_t)rig.bar[1]);
	rig_write(&rig, PCI_BASE_ADDRESS_4, 4, (uint32_t)rig.bar[4]);
	rig_write(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_start(&rig, queues, QUEUE_SIZE, below(2) ? rig.device->offered : 0);
}

/* Save, damage some of it now and then, load. */
static void save_and_load(void)
{
	struct device *bus = pci_bus_device(rig.pci);
	struct state s = { 0 };
	struct error e;
	bus->ops->save(bus, &s);
	for (unsigned n = (unsigned)below(4); n; n--)
		s.data[below(s.size)] = (uint8_t)random64();
	if (!below(4))
		s.size = below(s.size);
	bus->ops->load(bus, &s, &e);
	state_free(&s);
}

static void step(void)
{
	if (rig.device->status & VIRTIO_CONFIG_S_NEEDS_RESET && !below(4))
		restart();
	switch (below(64)) {
	case 0 ... 5: write_config(); break;
	case 6 ... 11: write_window(); break;
	case 12 ... 19: write_common(); break;
	case 20 ... 25: write_bars(); break;
	case 26 ... 37: write_ring(); break;
	case 38 ... 57:
		if (rig.device->ops->type == VIRTIO_ID_BALLOON && below(4))
			offer_to_balloon();
		else if (rig.device->ops->type == VIRTIO_ID_MEM && below(8))
			offer_to_mem();
		else
			offer();
		break;
	case 58 ... 60: restart(); break;
	case 61: save_and_load(); break;
	case 62: pci_bus_device(rig.pci)->ops->reset(pci_bus_device(rig.pci)); break;
	default: from_outside();
	}
}

static int fail(uint64_t seed, const char *what)
{
	printf("seed %llu: %s\n", (unsigned long long)seed, what);
	return 1;
}

/* A driver that behaves: one buffer given and taken back. */
static bool served(enum kind kind)
{
	const struct piece blk[] = {
		{ RIG_DATA, 16, false }, { RIG_DATA + 512, 512, true }, { RIG_DATA + 256, 1, true },
	};
	const struct piece in = { RIG_DATA, 64, true }, out = { RIG_DATA, 64, false };
	const struct piece mem[] = { { RIG_DATA, 24, false }, { RIG_DATA + 64, 10, true } };
	uint32_t head, length;
	unsigned queue = kind == CONSOLE;
	pci_bus_device(rig.pci)->ops->reset(pci_bus_device(rig.pci));
	rig_write(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_start(&rig, rig.device->ops->queues, QUEUE_SIZE, 0);
	memory_fill(rig.memory, RIG_DATA, 0, 1024);
	rig_offer(&rig, queue, kind == BLK ? blk : kind == RNG ? &in : kind == MEM ? mem : &out,
		  kind == BLK ? 3 : kind == MEM ? 2 : 1);
	rig_kick(&rig, queue);
	return rig_take(&rig, queue, &head, &length) && rig_status(&rig) == 0xf;
}

/* What the host is told of the guest's memory: possible, whatever it says. */
static bool memory_possible(void)
{
	struct guest_memory_status s;
	guest_memory_get_status(virtio_balloon_guest_memory(rig.device), &s);
	return s.size == RIG_MEMORY && s.target <= s.size && s.current <= s.size &&
		s.statistics.demand <= s.size && s.statistics.available <= s.size;
}

/* The blocks that are in, by three who count them; no more than there is. */
static bool room_possible(void)
{
	const struct memory *m = rig.memory;
	struct guest_memory_status s;
	uint64_t in = 0;
	for (uint64_t i = 0; i < ROOM_BLOCKS; i++)
		in += memory_block_plugged(m, i) * MEMORY_LARGE_PAGE;
	guest_memory_get_status(virtio_mem_guest_memory(rig.device), &s);
	return s.current == in && memory_present(m) == m->size + in && s.target <= ROOM_BYTES &&
		s.size == ROOM_BYTES;
}

static int round_of(uint64_t seed)
{
	enum kind kind = seed % KINDS;
	struct error e;
	struct stat st;
	int failures = 0;
	seed_state = (seed + 1) * 0x9e3779b97f4a7c15ull;
	rig_create_with_room(&rig, kind == MEM ? ROOM_BYTES : 0);
	vm_clock = clock_create(&lock, true);
	uint8_t *hole = rig.memory->ram + MEMORY_LEGACY_HOLE;
	uint64_t hole_size = MEMORY_LEGACY_HOLE_END - MEMORY_LEGACY_HOLE;
	memset(hole, HOLE_FILL, hole_size);
	struct virtio_device *v = create(kind, &e);
	if (!v)
		return fail(seed, e.text);
	rig_probe(&rig, v);
	restart();
	for (unsigned i = 0; i < STEPS; i++)
		step();
	for (uint64_t i = 0; i < hole_size; i++)
		if (hole[i] != HOLE_FILL) {
			failures += fail(seed, "the legacy hole was written");
			break;
		}
	if (fstat(disk_file, &st) || st.st_size != DISK_BYTES)
		failures += fail(seed, "the disk changed its size");
	if (kind == BALLOON && !memory_possible())
		failures += fail(seed, "the guest's memory cannot be what the balloon says");
	if (kind == MEM && !room_possible())
		failures += fail(seed, "the memory plugged in cannot be what the device says");
	if (!served(kind))
		failures += fail(seed, "after a reset the driver is not served");
	if (kind == BALLOON) {
		virtio_balloon_destroy(rig.device);
		rig.device = NULL;
	}
	if (kind == MEM) {
		virtio_mem_destroy(rig.device);
		rig.device = NULL;
	}
	rig_destroy(&rig);
	clock_destroy(vm_clock);
	return failures;
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/fuzz_virtio.XXXXXX";
	struct error e;
	int failures = 0;
	disk_file = mkstemp(path);
	if (disk_file < 0 || ftruncate(disk_file, DISK_BYTES)) {
		perror(path);
		return 1;
	}
	disk = disk_open(path, false, &e);
	unlink(path);
	if (!disk) {
		puts(e.text);
		return 1;
	}
	if (argc > 1)
		failures = round_of(strtoull(argv[1], NULL, 0));
	else
		for (uint64_t seed = 0; seed < ROUNDS; seed++)
			failures += round_of(seed);
	disk_close(disk);
	close(disk_file);
	printf("fuzz_virtio: %d failures\n", failures);
	return failures != 0;
}
