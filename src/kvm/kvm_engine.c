#include "kvm/kvm.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int failed(struct error *e, const char *call)
{
	return error_set(e, STATUS_ENGINE,
		"The kvm engine cannot start the VM: the kernel answers %s with \"%s\".",
		call, strerror(errno));
}

/* The slots of RAM; from SLOT_ROOM on one for each block of its room, so that a
 * block that is out is no memory for the guest. */
enum { SLOT_CONVENTIONAL, SLOT_LOW, SLOT_HIGH, SLOT_ROOM };

static int add_slot(struct kvm_engine *g, unsigned slot, uint64_t address, uint64_t size,
		    struct error *e)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = address, .memory_size = size,
		.userspace_addr = (uintptr_t)memory_host(g->engine.host.memory, address),
	};
	if (!size || !ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return 0;
	return failed(e, "KVM_SET_USER_MEMORY_REGION");
}

static int add_memory(struct kvm_engine *g, struct error *e)
{
	const struct memory *m = g->engine.host.memory;
	uint64_t low = m->low_size;
	uint64_t conventional = low < MEMORY_LEGACY_HOLE ? low : MEMORY_LEGACY_HOLE;
	uint64_t above_hole = low > MEMORY_LEGACY_HOLE_END ? low - MEMORY_LEGACY_HOLE_END : 0;
	if (add_slot(g, SLOT_CONVENTIONAL, 0, conventional, e) ||
	    add_slot(g, SLOT_LOW, MEMORY_LEGACY_HOLE_END, above_hole, e) ||
	    add_slot(g, SLOT_HIGH, MEMORY_HIGH_BASE, m->size - low, e))
		return -1;
	for (uint64_t i = 0; i < m->room_size >> m->room_shift; i++)
		if (memory_block_plugged(m, i) &&
		    add_slot(g, SLOT_ROOM + (unsigned)i, m->room_base + (i << m->room_shift),
			     memory_block_size(m), e))
			return -1;
	return 0;
}

static void remove_slots(struct kvm_engine *g, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION,
			  &(struct kvm_userspace_memory_region){ .slot = i }))
			panic("KVM keeps memory slot %u (%s)", i, strerror(errno));
}

static bool plugged(struct engine *engine, uint64_t pa, uint64_t n, bool in)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	const struct memory *m = g->engine.host.memory;
	unsigned first = SLOT_ROOM + (unsigned)((pa - m->room_base) >> m->room_shift);
	unsigned end = first + (unsigned)(n >> m->room_shift);
	struct error e;
	if (!in) {
		remove_slots(g, first, end);
		return true;
	}
	for (unsigned i = first; i < end; i++, pa += memory_block_size(m))
		if (add_slot(g, i, pa, memory_block_size(m), &e)) {
			remove_slots(g, first, i);
			return false;
		}
	return true;
}

static int open_processor(struct kvm_engine *g, unsigned id, struct error *e)
{
	struct kvm_processor *p = &g->processor[id];
	p->fd = ioctl(g->vm, KVM_CREATE_VCPU, (unsigned long)id);
	if (p->fd < 0)
		return failed(e, "KVM_CREATE_VCPU");
	p->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->run == MAP_FAILED) {
		p->run = NULL;
		return failed(e, "mmap of a vCPU");
	}
	p->held_vector = KVM_NO_VECTOR;
	p->unfinished = false;
	atomic_store(&p->requests, 0);
	return 0;
}

static int set_cpuid(struct kvm_engine *g, struct error *e)
{
	struct kvm_cpuid_set *set = alloc_zeroed(1, sizeof *set);
	int khz = ioctl(g->processor[0].fd, KVM_GET_TSC_KHZ, 0);
	struct kvm_cpuid_choice choice = {
		.processors = g->engine.config.processors,
		.virtualization = g->engine.config.expose_virtualization_extensions,
		.tsc_deadline =
			ioctl(g->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
		.tsc_khz = khz > 0 ? (uint32_t)khz : 0,
	};
	int result = kvm_cpuid_supported(g->kvm, set, e);
	if (!result) {
		g->intel = kvm_cpuid_is_intel(set);
		kvm_cpuid_filter(set, &choice);
	}
	for (unsigned i = 0; !result && i < choice.processors; i++) {
		kvm_cpuid_place(set, i);
		if (ioctl(g->processor[i].fd, KVM_SET_CPUID2, set))
			result = failed(e, "KVM_SET_CPUID2");
	}
	free(set);
	return result;
}

/* The order is KVM's: addresses and irqchip before the first vCPU, CPUID
 * before its MSRs. */
static int open_vm(struct kvm_engine *g, struct error *e)
{
	uint64_t identity_map = KVM_IDENTITY_MAP_ADDRESS;
	struct kvm_enable_cap split = {
		.cap = KVM_CAP_SPLIT_IRQCHIP, .args = { KVM_IOAPIC_PINS },
	};
	do
		g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0ul);
	while (g->vm < 0 && errno == EINTR);
	if (g->vm < 0)
		return kvm_create_vm_failed(errno, e);
	if (ioctl(g->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map))
		return failed(e, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(g->vm, KVM_SET_TSS_ADDR, (unsigned long)KVM_TSS_ADDRESS))
		return failed(e, "KVM_SET_TSS_ADDR");
	if (ioctl(g->vm, KVM_ENABLE_CAP, &split))
		return failed(e, "KVM_CAP_SPLIT_IRQCHIP");
	if (add_memory(g, e))
		return -1;
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		if (open_processor(g, i, e))
			return -1;
	if (set_cpuid(g, e))
		return -1;
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		if (kvm_preset_msrs(&g->processor[i], e))
			return -1;
	return 0;
}

static void close_vm(struct kvm_engine *g)
{
	for (unsigned i = 0; i < g->engine.config.processors; i++) {
		struct kvm_processor *p = &g->processor[i];
		if (p->run)
			munmap(p->run, g->run_size);
		if (p->fd >= 0)
			close(p->fd);
		p->run = NULL;
		p->fd = -1;
	}
	if (g->vm >= 0)
		close(g->vm);
	g->vm = -1;
}

static void destroy(struct engine *engine)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	close_vm(g);
	for (unsigned i = 0; i < g->engine.config.processors; i++) {
		pthread_mutex_destroy(&g->processor[i].lock);
		pthread_cond_destroy(&g->processor[i].changed);
	}
	if (g->kvm >= 0)
		close(g->kvm);
	free(g->processor);
	free(g);
}

static int open_device(struct kvm_engine *g, struct error *e)
{
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return error_set(e, STATUS_ENGINE, "/dev/kvm cannot be opened: %s.",
				 strerror(errno));
	int size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return failed(e, "KVM_GET_VCPU_MMAP_SIZE");
	g->run_size = (size_t)size;
	int nested = ioctl(g->kvm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
	g->nested_state_size = nested > 0 ? (size_t)nested : 0;
	return 0;
}

static struct engine *create(const struct engine_config *config, const struct engine_host *host,
			     struct error *e)
{
	struct kvm_engine *g = alloc_zeroed(1, sizeof *g);
	g->engine.ops = &kvm_engine_ops;
	g->engine.config = *config;
	g->engine.host = *host;
	g->kvm = g->vm = -1;
	g->processor = alloc_zeroed(config->processors, sizeof *g->processor);
	for (unsigned i = 0; i < config->processors; i++) {
		struct kvm_processor *p = &g->processor[i];
		p->engine = g;
		p->id = i;
		p->fd = -1;
		pthread_mutex_init(&p->lock, NULL);
		pthread_cond_init(&p->changed, NULL);
	}
	if (kvm_run_initialise(e) || open_device(g, e) || open_vm(g, e)) {
		destroy(&g->engine);
		return NULL;
	}
	return &g->engine;
}

/* KVM has no call that puts a vCPU back to its power-on state; a new VM over
 * the same memory is in it. */
static void reset(struct engine *engine)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	struct error e;
	close_vm(g);
	memset(g->route, 0, sizeof g->route);
	atomic_store(&g->intr, false);
	if (open_vm(g, &e))
		panic("reset: %s", e.text);
}

const struct engine_ops kvm_engine_ops = {
	.name = "kvm",
	.probe = kvm_probe,
	.create = create,
	.destroy = destroy,
	.run = kvm_run_processor,
	.stop = kvm_stop,
	.reset = reset,
	.set_state = kvm_set_state,
	.get_state = kvm_get_state,
	.msi = kvm_msi,
	.extint = kvm_extint,
	.nmi = kvm_nmi,
	.ioapic_route = kvm_ioapic_route,
	.hypervisor_running = kvm_hypervisor_running,
	.plugged = plugged,
	.report = kvm_report,
	.save = kvm_save,
	.load = kvm_load,
};
