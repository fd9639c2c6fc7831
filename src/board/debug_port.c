#include "board/debug_port.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

enum { CONSOLE_PRESENT = 0xe9 };	/* read there by who wants to know */

struct debug_port {
	struct device device;
	struct machine_control machine;
	struct debug_port_sink sink;
	uint8_t post;	/* the last POST code */
};

static uint64_t exit_read(void *owner, uint64_t offset, unsigned size)
{
	return ~0ull;
}

/* The register is as wide as the access; the ports after it are part of it. */
static void exit_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	const struct debug_port *d = owner;
	if (offset == 0 && d->machine.request)
		d->machine.request(d->machine.owner, MACHINE_EXIT, (uint32_t)value);
}

static uint8_t console_read_byte(void *owner, unsigned offset)
{
	return CONSOLE_PRESENT;
}

static void console_write_byte(void *owner, unsigned offset, uint8_t value)
{
	const struct debug_port *d = owner;
	if (d->sink.write)
		d->sink.write(d->sink.owner, &value, 1);
}

static uint8_t post_read_byte(void *owner, unsigned offset)
{
	const struct debug_port *d = owner;
	return d->post;
}

static void post_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct debug_port *d = owner;
	d->post = value;
}

static const struct bus_ops exit_ops = { exit_read, exit_write };
ISA_OPS(console);
ISA_OPS(post);

static const struct isa_range debug_port_ranges[] = {
	{ DEBUG_PORT_EXIT, 4, &exit_ops },
	{ DEBUG_PORT_CONSOLE, 1, &console_ops },
	{ DEBUG_PORT_POST, 1, &post_ops },
};

static void debug_port_reset(struct device *d)
{
	struct debug_port *debug = container_of(d, struct debug_port, device);
	debug->post = 0;
}

static void debug_port_save(const struct device *d, struct state *s)
{
	const struct debug_port *debug = container_of(d, const struct debug_port, device);
	state_section(s, d->ops->name, 1);
	state_put_field(s, debug->post);
}

static int debug_port_load(struct device *d, struct state *s, struct error *e)
{
	struct debug_port *debug = container_of(d, struct debug_port, device);
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	state_get_field(s, debug->post);
	return state_finish(s, d->ops->name, e);
}

static const struct device_ops debug_port_device_ops = {
	"debug_port", debug_port_reset, debug_port_save, debug_port_load
};

struct debug_port *debug_port_create(struct bus *bus, const struct machine_control *machine,
				     const struct debug_port_sink *sink, struct error *e)
{
	struct debug_port *d = alloc_zeroed(1, sizeof *d);
	d->device.ops = &debug_port_device_ops;
	d->machine = *machine;
	d->sink = *sink;
	if (isa_claim(bus, debug_port_ranges, ARRAY_SIZE(debug_port_ranges), d, "debug_port",
		      e)) {
		free(d);
		return NULL;
	}
	debug_port_reset(&d->device);
	return d;
}

void debug_port_destroy(struct debug_port *d)
{
	free(d);
}
