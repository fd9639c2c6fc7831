/* Chapters that abuse the board: ports, device memory, PCI, virtio, interrupts. */
#include "hostile.h"

enum { ACCESSES = 64 };		/* per case */

/* --- ports --- */

/* The value with what would end the machine taken out. A register is named by
 * its port; wider accesses that reach one from below are not made. */
static bool harmless(uint16_t port, uint32_t *v, unsigned size)
{
	static const struct { uint16_t port; uint32_t forbidden; } ways_out[] = {
		{ 0x92, 1 }, { 0x605, 0x20 }, { 0xcf9, 4 },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(ways_out); n++)
		if (port <= ways_out[n].port && ways_out[n].port < port + size)
			*v &= ~(ways_out[n].forbidden << 8 * (ways_out[n].port - port));
	if (port <= 0xf7 && 0xf4 < port + size)
		return false;	/* the debug exit */
	if (port <= 0x64 && 0x64 < port + size) {
		uint8_t command = (uint8_t)(*v >> 8 * (0x64 - port));
		return command != 0xd1 && command < 0xf0;
	}
	return true;
}

static uint16_t random_port(void)
{
	static const uint16_t known[] = {
		0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43, 0x4d0, 0x4d1, 0x60, 0x61, 0x64,
		0x70, 0x71, 0x80, 0x92, 0xe9, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff,
		0x510, 0x511, 0x514, 0x518, 0x600, 0x602, 0x604, 0x608, 0xcf8, 0xcf9, 0xcfc, 0xcfe,
	};
	return one_in(3) ? (uint16_t)random_next() :
		(uint16_t)(known[random_below(ARRAY_SIZE(known))] + (one_in(8) ? random_below(8) : 0));
}

static void ports(void)
{
	for (unsigned n = 0; n < ACCESSES; n++) {
		uint16_t port = random_port();
		unsigned size = 1u << random_below(3);
		uint32_t v = (uint32_t)random_value();
		if (one_in(2))
			port_in(port, size);
		else if (harmless(port, &v, size))
			port_out(port, v, size);
		if (one_in(32)) {	/* a batch of inputs */
			uint8_t *to = (uint8_t *)PLAYGROUND;
			word many = random_below(4096);
			asm volatile("rep insb" : "+D"(to), "+c"(many) : "d"(port) : "memory");
		}
	}
	if (one_in(16)) {
		sti();
		for (volatile unsigned n = 0; n < 200; n++)
			;
		cli();
	}
}

/* --- device memory --- */

static word device_address(void)
{
	static const uint32_t places[] = { IO_APIC, LOCAL_APIC, 0xe0000000, 0xa0000, 0xfee00300, 0xfed00000 };
	word base = places[random_below(ARRAY_SIZE(places))];
	if (base == 0xe0000000)
		base += random_below(16) * 0x1000;
	return base + (one_in(3) ? random_below(4096) : random_below(256) * 16);
}

/* A write that makes an INIT of ourselves would end the guest. */
static uint32_t without_init(uint32_t v)
{
	return (v >> 8 & 7) == 5 ? v & ~0x700u : v;
}

static void mmio(void)
{
	for (unsigned n = 0; n < ACCESSES; n++) {
		word at = device_address();
		uint64_t v = random_value();
		v = without_init((uint32_t)v) | (uint64_t)without_init((uint32_t)(v >> 32)) << 32;
		memory_access(at, v, 1u << random_below(sizeof(word) == 8 ? 4 : 3), one_in(2));
	}
	if (one_in(8)) {
		sti();
		for (volatile unsigned n = 0; n < 200; n++)
			;
		cli();
	}
}

/* --- PCI --- */

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };

static void config_select(unsigned slot, unsigned function, unsigned at)
{
	outl(CONFIG_ADDRESS, 0x80000000u | slot << 11 | function << 8 | (at & 0xfc));
}

static uint32_t config_read(unsigned slot, unsigned at)
{
	config_select(slot, 0, at);
	return port_in(CONFIG_DATA, 4);
}

static void config_write(unsigned slot, unsigned at, uint32_t v)
{
	config_select(slot, 0, at);
	outl(CONFIG_DATA, v);
}

static void pci(void)
{
	for (unsigned n = 0; n < ACCESSES; n++) {
		unsigned at = random_below(256), size = 1u << random_below(3);
		uint32_t v = one_in(4) ? (uint32_t)random_address() : (uint32_t)random_value();
		config_select(random_below(8), one_in(2) ? 0 : random_below(8), one_in(2) ? 16 + at % 24 : at);
		if (one_in(3))
			port_in((uint16_t)(CONFIG_DATA + (at & 3)), size);
		else if (harmless((uint16_t)(CONFIG_DATA + (at & 3)), &v, size))
			port_out((uint16_t)(CONFIG_DATA + (at & 3)), v, size);
		/* Whatever lies where the BARs are now. */
		if (one_in(4)) {
			unsigned slot = random_below(8);
			uint32_t bar = config_read(slot, 0x10 + 4 * random_below(6));
			config_write(slot, 4, 7);
			if (!(bar & 1) && bar >= 0x4000000 && bar != ~0u)
				memory_access((bar & ~15u) + random_below(0x4000), random_value(),
					      1u << random_below(3), one_in(2));
			else if (bar & 1 && bar != ~0u)
				port_in((uint16_t)((bar & ~3u) + random_below(64)), 1);
		}
	}
}

/* --- virtio: rings of garbage --- */

enum { VIRTIO_VENDOR = 0x1af4, COMMON_STATUS = 20, COMMON_QUEUE_SELECT = 22, COMMON_QUEUE_SIZE = 24,
       COMMON_QUEUE_VECTOR = 26, COMMON_QUEUE_ENABLE = 28, COMMON_DESCRIPTORS = 32,
       COMMON_AVAILABLE = 40, COMMON_USED = 48, COMMON_FEATURE_SELECT = 8, COMMON_FEATURES = 12,
       COMMON_MSIX = 16 };
enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4, MOST_DESCRIPTORS = 64 };
enum { BAR_4 = 0x20, BAR_1 = 0x14, NOTIFY_PAGE = 0x3000, REGION = 0x1000 };

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };

/* Anywhere but where the core lies, which a device must be free to overwrite. */
static uint64_t dma_address(void)
{
	uint64_t at = one_in(4) ? random_next() >> random_below(64) : (uint64_t)random_address();
	if (one_in(8))
		return 0x9fff0 + random_below(32);	/* into the hole */
	return at < PLAYGROUND ? at | PLAYGROUND : at;
}

static void descriptors_random(struct descriptor *d, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		d[i].address = one_in(3) ? (uint64_t)(PLAYGROUND + random_below(PLAYGROUND_SIZE)) : dma_address();
		d[i].length = one_in(2) ? random_below(8192) : (uint32_t)random_value();
		d[i].flags = (uint16_t)(one_in(16) ? random_next() :
			random_below(4) | (one_in(8) ? DESCRIPTOR_INDIRECT : 0));
		d[i].next = (uint16_t)(one_in(16) ? random_next() : random_below(n));
	}
}

/* Like a driver for a while: a request to the block device that is nearly right. */
static void request_like(struct descriptor *d)
{
	uint32_t *header = (uint32_t *)(PLAYGROUND + 0x80000);
	header[0] = random_below(one_in(4) ? 32 : 9);
	header[2] = (uint32_t)(one_in(2) ? random_below(64) : random_value());
	header[3] = one_in(4) ? (uint32_t)random_value() : 0;
	d[0] = (struct descriptor){ (word)header, one_in(8) ? random_below(32) : 16, DESCRIPTOR_NEXT, 1 };
	d[1] = (struct descriptor){ one_in(4) ? dma_address() : PLAYGROUND + 0x90000,
		one_in(4) ? (uint32_t)random_value() : 512 * random_below(16),
		(uint16_t)(DESCRIPTOR_NEXT | (one_in(2) ? DESCRIPTOR_WRITE : 0)), 2 };
	d[2] = (struct descriptor){ PLAYGROUND + 0xa0000, 1, DESCRIPTOR_WRITE, 0 };
}

static void queue_make(word common, word notify)
{
	uint16_t size = (uint16_t)(one_in(8) ? random_next() : 1u << random_below(8));
	unsigned queue = one_in(8) ? random_below(65536) : random_below(2);
	word rings = PLAYGROUND + random_below(16) * 0x4000;
	struct descriptor *d = (struct descriptor *)rings;
	uint16_t *available = (uint16_t *)(rings + 0x2000);
	fill_random((void *)rings, 0x4000);
	descriptors_random(d, MOST_DESCRIPTORS);
	if (one_in(2))
		request_like(d);
	for (unsigned n = 0; n < 64; n++)
		available[2 + n] = (uint16_t)(one_in(8) ? random_next() : one_in(2) ? 0 : random_below(64));
	available[0] = (uint16_t)random_below(4);
	available[1] = (uint16_t)(one_in(4) ? random_next() : random_below(64));
	memory_access(common + COMMON_QUEUE_SELECT, queue, 2, true);
	memory_access(common + COMMON_QUEUE_SIZE, size, 2, true);
	memory_access(common + COMMON_QUEUE_VECTOR, random_below(4), 2, true);
	for (unsigned n = 0; n < 3; n++) {
		uint64_t at = rings + n * 0x2000;
		if (one_in(6))
			at = dma_address() & ~15ull;
		memory_access(common + COMMON_DESCRIPTORS + 8 * n, (uint32_t)at, 4, true);
		memory_access(common + COMMON_DESCRIPTORS + 8 * n + 4, at >> 32, 4, true);
	}
	memory_access(common + COMMON_QUEUE_ENABLE, 1, 2, true);
	memory_access(common + COMMON_STATUS, 15, 1, true);
	for (unsigned n = random_below(6) + 1; n--;) {
		memory_access(notify + 4 * (one_in(8) ? random_below(1024) : queue & 0x3ff),
			      one_in(8) ? random_next() : queue, 2, true);
		if (one_in(3))
			available[1] = (uint16_t)(available[1] + random_below(4));
		if (one_in(3))
			descriptors_random(d, MOST_DESCRIPTORS);
	}
}

static void virtio(void)
{
	unsigned slot = random_below(8);
	if ((config_read(slot, 0) & 0xffff) != VIRTIO_VENDOR)
		return;
	word common = config_read(slot, BAR_4) & ~15u, table = config_read(slot, BAR_1) & ~15u;
	config_write(slot, 4, one_in(16) ? (uint32_t)random_next() & 0x7ff : 0x406);
	/* Messages go anywhere. */
	for (unsigned n = 0; n < 4; n++)
		memory_access(table + 4 * random_below(16), one_in(2) ? LOCAL_APIC + random_below(0x100000) :
			      without_init((uint32_t)random_value()), 4, true);
	if (one_in(2)) {	/* turn MSI-X on, wherever its capability is */
		for (unsigned at = config_read(slot, 0x34) & 0xff, n = 0; at && n < 32; n++) {
			uint32_t capability = config_read(slot, at);
			if ((capability & 0xff) == 0x11)
				config_write(slot, at, 0x80000000u);
			at = capability >> 8 & 0xff;
		}
	}
	memory_access(common + COMMON_STATUS, 0, 1, true);
	memory_access(common + COMMON_STATUS, 3, 1, true);
	for (unsigned n = 0; n < 2; n++) {
		memory_access(common + COMMON_FEATURE_SELECT, n, 4, true);
		memory_access(common + COMMON_FEATURES,
			      one_in(8) ? random_next() : n ? 1 : (uint32_t)random_next() & 0x30000000, 4, true);
	}
	memory_access(common + COMMON_STATUS, 11, 1, true);
	if (one_in(4))
		for (unsigned n = 0; n < ACCESSES; n++)
			memory_access(common + random_below(0x4000), random_value(), 1u << random_below(3),
				      one_in(2));
	for (unsigned n = 0; n < 3; n++)
		queue_make(common, common + NOTIFY_PAGE);
	if (one_in(4)) {
		sti();
		for (volatile unsigned n = 0; n < 100; n++)
			;
		cli();
	}
}

/* --- timers at their fastest, interrupts without end --- */

enum { APIC_TIMER_LVT = 0x320, APIC_TIMER_COUNT = 0x380, APIC_TIMER_DIVIDE = 0x3e0, TIMER_PERIODIC = 1 << 17,
       TIMER_DEADLINE = 2 << 17, TSC_DEADLINE_MSR = 0x6e0 };

static void storm(void)
{
	uint8_t vector = (uint8_t)(random_next() | 0x20);
	bool periodic = one_in(2);
	for (unsigned n = 0; n < 3; n++) {
		outb(0x43, (uint8_t)(n << 6 | 0x30 | random_below(6) << 1));
		outb((uint16_t)(0x40 + n), (uint8_t)random_below(3));
		outb((uint16_t)(0x40 + n), 0);
	}
	outb(0x70, 0x0a);
	outb(0x71, (uint8_t)(0x20 | random_below(16)));
	outb(0x70, 0x0b);
	outb(0x71, (uint8_t)(0x02 | (random_next() & 0x70)));
	for (unsigned pin = 0; pin < 24; pin++) {	/* every pin, level or edge, either polarity */
		mmio_write(IO_APIC, 0x10 + 2 * pin);
		mmio_write(IO_APIC + 16, without_init(vector | (random_next() & 0xab00)));
	}
	outb(0x20, 0x11);
	outb(0x21, (uint8_t)random_next());
	outb(0x21, 4);
	outb(0x21, (uint8_t)(1 | (random_next() & 2)));
	outb(0x21, 0);
	if (periodic) {
		mmio_write(LOCAL_APIC + APIC_TIMER_LVT, vector | TIMER_PERIODIC);
		mmio_write(LOCAL_APIC + APIC_TIMER_DIVIDE, 11);
		mmio_write(LOCAL_APIC + APIC_TIMER_COUNT, 1 + random_below(3));
	} else {
		mmio_write(LOCAL_APIC + APIC_TIMER_LVT, vector | TIMER_DEADLINE);
		wrmsr(TSC_DEADLINE_MSR, rdtsc() + random_below(100));
	}
	for (volatile unsigned n = 0; n < 20; n++)
		if (periodic)		/* something is sure to come: sleep */
			asm volatile("sti; hlt; cli");
		else
			asm volatile("sti; nop; nop; cli");
}

const struct chapter device_chapters[] = {
	{ "ports", ports }, { "mmio", mmio }, { "pci", pci }, { "virtio", virtio }, { "storm", storm },
	{ 0 },
};
