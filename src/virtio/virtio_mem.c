/* virtio memory device ("Memory Device").
 *
 * The device says how much it wants to be plugged in (requested_size); the
 * driver chooses the blocks and asks for each step. Which blocks are in is the
 * memory's to know (memory.h), not repeated here.
 *
 * A driver's reset changes nothing that is plugged in: it may come back and ask
 * (VIRTIO_MEM_REQ_STATE). The machine's reset takes everything out, since the
 * next system is told of the RAM below only.
 *
 * What goes out is no RAM from then on, but a processor may still hold a
 * translation for an instruction or two and write through it. So its host memory
 * goes SWEEP_NS later, and what comes back in is zeros. */
#include "virtio/virtio_mem.h"

#include "base/log.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	CLASS_RAM = 0x050000,
	REQUEST_QUEUE = 0,
	QUEUE_SIZE = 16,	/* Linux has one request under way */
	SWEEP_NS = 100 * 1000 * 1000,
};

struct mem {
	struct virtio_device virtio;
	struct guest_memory guest_memory;
	struct virtio_mem_config config;
	struct virtio_mem_host host;
	struct clock *clock;
	struct timer sweep;
};

static struct mem *mem_of(const struct virtio_device *v)
{
	return container_of(v, struct mem, virtio);
}

static uint64_t blocks_of(const struct memory *m)
{
	return m->room_size >> m->room_shift;
}

static uint64_t plugged_bytes(const struct mem *d)
{
	const struct memory *m = d->virtio.memory;
	return memory_present(m) - m->size;
}

/* plugged_size changes by requests, without word to the driver. */
static void plugged_changed(struct mem *d)
{
	d->config.plugged_size = plugged_bytes(d);
	if (d->guest_memory.changed)
		d->guest_memory.changed(d->guest_memory.owner);
}

static void sweep(void *owner)
{
	struct mem *d = owner;
	memory_discard_unplugged(d->virtio.memory);
}

static bool put_in(struct mem *d, uint64_t pa, uint64_t n)
{
	struct memory *m = d->virtio.memory;
	if (!memory_plug(m, pa, n, true))
		return false;
	if (d->host.plugged(d->host.owner, pa, n, true))
		return true;
	memory_plug(m, pa, n, false);
	return false;
}

static void take_out(struct mem *d, uint64_t pa, uint64_t n)
{
	memory_plug(d->virtio.memory, pa, n, false);
	d->host.plugged(d->host.owner, pa, n, false);
	timer_set(d->clock, &d->sweep, clock_now(d->clock) + SWEEP_NS);
}

/* What is in of the n bytes of blocks at pa. */
static uint16_t state_of(const struct memory *m, uint64_t pa, uint64_t n)
{
	uint64_t in = 0, first = (pa - m->room_base) >> m->room_shift, blocks = n >> m->room_shift;
	for (uint64_t i = first; i < first + blocks; i++)
		in += memory_block_plugged(m, i);
	return in == blocks ? VIRTIO_MEM_STATE_PLUGGED :
		in ? VIRTIO_MEM_STATE_MIXED : VIRTIO_MEM_STATE_UNPLUGGED;
}

static void take_all_out(struct mem *d)
{
	const struct memory *m = d->virtio.memory;
	for (uint64_t i = 0, end; i < blocks_of(m); i = end + 1) {
		for (end = i; end < blocks_of(m) && memory_block_plugged(m, end);)
			end++;
		if (end > i)
			take_out(d, m->room_base + (i << m->room_shift), (end - i) << m->room_shift);
	}
	plugged_changed(d);
}

/* Requests: each has the response's type for an answer, and works on blocks that
 * lie in the usable region. */

static uint16_t plug(struct mem *d, uint64_t pa, uint64_t n, uint16_t *state)
{
	if (state_of(d->virtio.memory, pa, n) != VIRTIO_MEM_STATE_UNPLUGGED)
		return VIRTIO_MEM_RESP_ERROR;
	if (n > d->config.requested_size || plugged_bytes(d) > d->config.requested_size - n)
		return VIRTIO_MEM_RESP_NACK;
	return put_in(d, pa, n) ? VIRTIO_MEM_RESP_ACK : VIRTIO_MEM_RESP_BUSY;
}

static uint16_t unplug(struct mem *d, uint64_t pa, uint64_t n, uint16_t *state)
{
	if (state_of(d->virtio.memory, pa, n) != VIRTIO_MEM_STATE_PLUGGED)
		return VIRTIO_MEM_RESP_ERROR;
	take_out(d, pa, n);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t tell_state(struct mem *d, uint64_t pa, uint64_t n, uint16_t *state)
{
	*state = state_of(d->virtio.memory, pa, n);
	return VIRTIO_MEM_RESP_ACK;
}

static const struct {
	const char *name;
	uint16_t (*run)(struct mem *d, uint64_t pa, uint64_t n, uint16_t *state);
} requests[] = {
	[VIRTIO_MEM_REQ_PLUG] = { "plug", plug },
	[VIRTIO_MEM_REQ_UNPLUG] = { "unplug", unplug },
	[VIRTIO_MEM_REQ_UNPLUG_ALL] = { "unplug all", NULL },
	[VIRTIO_MEM_REQ_STATE] = { "state", tell_state },
};

static bool in_region(const struct mem *d, uint64_t pa, uint64_t n)
{
	const struct virtio_mem_config *c = &d->config;
	return n && !(pa & (c->block_size - 1)) && pa >= c->addr && pa - c->addr < c->usable_region_size &&
		n <= c->usable_region_size - (pa - c->addr);
}

static uint16_t answer(struct mem *d, const struct virtio_mem_req *r, uint16_t *state)
{
	/* The three with blocks have them in the same place. */
	uint64_t pa = r->u.plug.addr, n = (uint64_t)r->u.plug.nb_blocks * d->config.block_size;
	if (r->type >= ARRAY_SIZE(requests))
		return VIRTIO_MEM_RESP_ERROR;
	if (r->type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
		take_all_out(d);
		return VIRTIO_MEM_RESP_ACK;
	}
	if (!in_region(d, pa, n))
		return VIRTIO_MEM_RESP_ERROR;
	uint16_t type = requests[r->type].run(d, pa, n, state);
	trace(VIRTIO, "virtio-mem: %s %#llx+%#llx: response %u, %llu bytes plugged",
	      requests[r->type].name, (unsigned long long)pa, (unsigned long long)n, type,
	      (unsigned long long)plugged_bytes(d));
	if (r->type != VIRTIO_MEM_REQ_STATE)
		plugged_changed(d);
	return type;
}

static bool work(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		 struct virtq_fault *why)
{
	struct virtio_mem_req request;
	struct virtio_mem_resp response = { 0 };
	if (c->out_bytes < sizeof request || c->in_bytes < sizeof response) {
		snprintf(why->text, sizeof why->text,
			 "a request has %u readable and %u writable bytes, fewer than %zu and %zu",
			 c->out_bytes, c->in_bytes, sizeof request, sizeof response);
		return false;
	}
	virtq_copy_out(c, v->memory, 0, &request, sizeof request);
	response.type = answer(mem_of(v), &request, &response.u.state.state);
	*written = virtq_copy_in(c, v->memory, 0, &response, sizeof response);
	return true;
}

/* The device. */

static void notified(struct virtio_device *v, unsigned queue)
{
	virtio_process(v, queue, work);
}

/* The driver's. */
static void reset(struct virtio_device *v)
{
	plugged_changed(mem_of(v));	/* whether one runs has changed */
}

/* The machine's. */
static void device_reset(struct device *device)
{
	struct mem *d = mem_of(container_of(device, struct virtio_device, pci.device));
	take_all_out(d);
	virtio_device_reset(device);
}

static void save(const struct virtio_device *v, struct state *s)
{
	state_put_field(s, mem_of(v)->config.requested_size);
}

/* The memory has its blocks already (memory_load); the others hear of them now. */
static void load(struct virtio_device *v, struct state *s)
{
	struct mem *d = mem_of(v);
	const struct memory *m = v->memory;
	state_get_field(s, d->config.requested_size);
	if (d->config.requested_size > m->room_size ||
	    d->config.requested_size & (memory_block_size(m) - 1)) {
		d->config.requested_size = 0;
		s->failed = true;
	}
	for (uint64_t i = 0; i < blocks_of(m); i++)
		if (memory_block_plugged(m, i) &&
		    !d->host.plugged(d->host.owner, m->room_base + (i << m->room_shift),
				     memory_block_size(m), true))
			s->failed = true;
	plugged_changed(d);
}

static const struct virtio_ops mem_ops = {
	.device = { "virtio-mem", device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_MEM,
	.class_code = CLASS_RAM,
	.queues = REQUEST_QUEUE + 1,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.reset = reset,
	.save = save,
	.load = load,
};

/* What is asked for. */

static void set_target(struct guest_memory *g, uint64_t bytes)
{
	struct mem *d = container_of(g, struct mem, guest_memory);
	uint64_t size = d->config.region_size;
	uint64_t wanted = bytes < size ? align_up(bytes, d->config.block_size) : size;
	if (wanted == d->config.requested_size && wanted == plugged_bytes(d))
		return;
	/* The same again: a driver that fell short tries once more. */
	d->config.requested_size = wanted;
	virtio_config_changed(&d->virtio);
}

static void get_status(const struct guest_memory *g, struct guest_memory_status *s)
{
	const struct mem *d = container_of(g, const struct mem, guest_memory);
	*s = (struct guest_memory_status){
		.size = d->config.region_size,
		.target = d->config.requested_size,
		.current = plugged_bytes(d),
		.driver_present = virtio_running(&d->virtio),
	};
}

static const struct guest_memory_ops guest_memory_ops = { set_target, get_status };

struct guest_memory *virtio_mem_guest_memory(struct virtio_device *v)
{
	return &mem_of(v)->guest_memory;
}

struct virtio_device *virtio_mem_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					struct clock *clock, const struct virtio_mem_host *host,
					struct error *e)
{
	struct mem *d = alloc_zeroed(1, sizeof *d);
	d->guest_memory.ops = &guest_memory_ops;
	d->host = *host;
	d->clock = clock;
	d->sweep = (struct timer){ .fire = sweep, .owner = d, .deadline = CLOCK_NEVER };
	d->config = (struct virtio_mem_config){
		.block_size = memory_block_size(m),
		.addr = m->room_base,
		.region_size = m->room_size,
		.usable_region_size = m->room_size,
	};
	if (virtio_attach(&d->virtio, &mem_ops, bus, slot, m,
			  BIT(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE), &d->config, sizeof d->config, e)) {
		free(d);
		return NULL;
	}
	return &d->virtio;
}

void virtio_mem_destroy(struct virtio_device *v)
{
	timer_cancel(mem_of(v)->clock, &mem_of(v)->sweep);
	virtio_device_destroy(v);
}
