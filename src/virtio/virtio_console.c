#include "virtio/virtio_console.h"

#include "base/log.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>

#include <stdio.h>
#include <stdlib.h>

enum {
	CLASS_COMMUNICATION = 0x078000,
	RECEIVE_QUEUE = 0,
	TRANSMIT_QUEUE = 1,
	QUEUES,
	QUEUE_SIZE = 64,
	INPUT_SIZE = 4096,		/* input that waits for the driver's buffers */
	TRANSMIT_MAX = 1 << 20,		/* bytes in one buffer */
};

struct console {
	struct virtio_device virtio;
	struct virtio_console_sink sink;
	struct virtio_console_config config;
	uint8_t input[INPUT_SIZE];	/* input_count bytes from input_at on, round the end */
	unsigned input_at, input_count;
	bool turned_away;		/* some input was refused: room() is due */
};

static struct console *console_of(struct virtio_device *v)
{
	return container_of(v, struct console, virtio);
}

static bool transmit(struct virtio_device *v, const struct virtq_chain *c, uint32_t *written,
		     struct virtq_fault *why)
{
	struct console *console = console_of(v);
	struct iovec iov[VIRTQ_MAX_SIZE];
	if (c->out_bytes > TRANSMIT_MAX) {
		snprintf(why->text, sizeof why->text, "a write of %u bytes is longer than %u",
			 c->out_bytes, TRANSMIT_MAX);
		return false;
	}
	unsigned count = virtq_iovec(c, v->memory, false, 0, c->out_bytes, iov);
	for (unsigned i = 0; i < count; i++)
		console->sink.write(console->sink.owner, iov[i].iov_base, iov[i].iov_len);
	return true;
}

/* Move waiting input into the driver's buffers. */
static void deliver_input(struct console *console)
{
	struct virtio_device *v = &console->virtio;
	struct virtq_chain c;
	while (console->input_count && virtio_pop(v, RECEIVE_QUEUE, &c)) {
		uint32_t written = 0;
		if (!c.in_bytes) {
			virtio_break(v, RECEIVE_QUEUE, &(struct virtq_fault){
				"a receive buffer has no writable bytes" });
			return;
		}
		while (console->input_count && written < c.in_bytes) {
			unsigned run = INPUT_SIZE - console->input_at;
			if (run > console->input_count)
				run = console->input_count;
			uint32_t n = virtq_copy_in(&c, v->memory, written,
						   console->input + console->input_at,
						   c.in_bytes - written < run ?
						   c.in_bytes - written : run);
			console->input_at = (console->input_at + n) % INPUT_SIZE;
			console->input_count -= n;
			written += n;
		}
		virtio_push(v, RECEIVE_QUEUE, &c, written);
	}
	if (virtio_running(v))
		virtio_signal(v, RECEIVE_QUEUE);
}

static void receive_notified(struct console *console)
{
	struct virtio_device *v = &console->virtio;
	deliver_input(console);
	if (virtio_running(v))
		virtqueue_want_notification(&v->queue[RECEIVE_QUEUE].ring, v->memory);
	/* A buffer may have come before the driver saw that we want to know. */
	deliver_input(console);
	if (console->turned_away && console->input_count < INPUT_SIZE) {
		console->turned_away = false;
		if (console->sink.room)
			console->sink.room(console->sink.owner);
	}
}

static void notified(struct virtio_device *v, unsigned queue)
{
	if (queue == TRANSMIT_QUEUE)
		virtio_process(v, queue, transmit);
	else
		receive_notified(console_of(v));
}

size_t virtio_console_receive(struct virtio_device *v, const uint8_t *bytes, size_t n)
{
	struct console *console = console_of(v);
	size_t taken = 0;
	while (taken < n && console->input_count < INPUT_SIZE) {
		console->input[(console->input_at + console->input_count) % INPUT_SIZE] =
			bytes[taken++];
		console->input_count++;
	}
	deliver_input(console);
	if (taken < n)
		console->turned_away = true;
	return taken;
}

/* A driver's reset leaves waiting input for the next driver: what was typed
 * before the console came up is read then. Only power-on empties it. */
static void console_reset(struct device *d)
{
	struct console *console = container_of(d, struct console, virtio.pci.device);
	console->input_at = console->input_count = 0;
	virtio_device_reset(d);
}

static void console_save(const struct virtio_device *v, struct state *s)
{
	const struct console *console = container_of(v, const struct console, virtio);
	state_put(s, console->input_count, 2);
	for (unsigned i = 0; i < console->input_count; i++)
		state_put(s, console->input[(console->input_at + i) % INPUT_SIZE], 1);
}

static void console_load(struct virtio_device *v, struct state *s)
{
	struct console *console = console_of(v);
	unsigned count = (unsigned)state_get(s, 2);
	console->input_at = console->input_count = 0;
	if (count > INPUT_SIZE) {
		s->failed = true;
		return;
	}
	state_get_bytes(s, console->input, count);
	console->input_count = count;
}

static const struct virtio_ops console_ops = {
	.device = { "virtio-console", console_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_CONSOLE,
	.class_code = CLASS_COMMUNICATION,
	.queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.save = console_save,
	.load = console_load,
};

struct virtio_device *virtio_console_create(struct pci_bus *bus, unsigned slot,
					    struct memory *m,
					    const struct virtio_console_sink *sink,
					    struct error *e)
{
	struct console *console = alloc_zeroed(1, sizeof *console);
	console->sink = *sink;
	console->config.max_nr_ports = 1;
	if (virtio_attach(&console->virtio, &console_ops, bus, slot, m, 0, &console->config,
			  sizeof console->config, e)) {
		free(console);
		return NULL;
	}
	return &console->virtio;
}
