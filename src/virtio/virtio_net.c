/* virtio network device ("Network Device"): one receive and one transmit queue.
 *
 * No offloads are offered, so a header says nothing but, with mergeable
 * buffers, how many buffers a received frame took. The cable is a port
 * (net/port.h); a thread of the device's own waits for its descriptor and does
 * the rest with the board lock held.
 *
 * Back-pressure, both ways: while the port's queue is full nothing is taken
 * from the transmit ring, so the driver stops; while the receive ring has no
 * buffer, what came waits in `waiting`, and when that is full nothing more is
 * read from the port, so that the switch's queue for this port fills and the
 * switch drops and counts. */
#include "virtio/virtio_net.h"

#include "base/log.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	CLASS_ETHERNET = 0x020000,
	RECEIVE_QUEUE = 0,
	TRANSMIT_QUEUE = 1,
	QUEUES,
	QUEUE_SIZE = 256,
	/* With VIRTIO_F_VERSION_1 a header always has num_buffers. */
	HEADER = sizeof(struct virtio_net_hdr_mrg_rxbuf),
	/* Buffers for one frame: enough for FRAME_MAX in quarters of a page. */
	MERGE_MAX = 16,
};

struct net {
	struct virtio_device virtio;
	struct virtio_net_config config;
	pthread_mutex_t *lock;		/* the board's */
	pthread_t thread;
	int wake;			/* eventfd: look again */
	bool stop;			/* atomically */
	struct port *port;		/* NULL: not plugged in */
	struct frame_queue waiting;	/* received, for want of buffers */
	bool transmit_stalled;		/* the port was full: go on when it has room */
	struct virtio_net_counters counters;
};

static struct net *net_of(struct virtio_device *v)
{
	return container_of(v, struct net, virtio);
}

static void wake(struct net *n)
{
	uint64_t one = 1;
	ssize_t done = write(n->wake, &one, sizeof one);
	(void)done;	/* a counter that is full wakes as well */
}

/* Transmit. */

/* Tell the driver whether the cable is plugged in. */
static void update_link(struct net *n)
{
	uint16_t status = n->port ? VIRTIO_NET_S_LINK_UP : 0;
	if (n->config.status == status)
		return;
	n->config.status = status;
	virtio_config_changed(&n->virtio);
}

static void unplug(struct net *n)
{
	port_destroy(n->port);
	n->port = NULL;
	update_link(n);
}

static void send_frame(struct net *n, const struct virtq_chain *c)
{
	uint8_t frame[FRAME_MAX];
	uint32_t length = c->out_bytes - HEADER;
	if (c->out_bytes < HEADER + FRAME_HEADER || length > FRAME_MAX) {
		n->counters.refused++;
	} else if (!n->port) {
		n->counters.lost++;
	} else {
		virtq_copy_out(c, n->virtio.memory, HEADER, frame, length);
		port_send(n->port, frame, length);
		n->counters.sent++;
	}
}

/* Ends after two rings' worth of buffers, since the board waits for us, and when
 * the port is full. */
static void transmit(struct net *n)
{
	struct virtio_device *v = &n->virtio;
	struct virtqueue *ring = &v->queue[TRANSMIT_QUEUE].ring;
	struct virtq_chain chain;
	unsigned left = 2 * ring->size;
	n->transmit_stalled = false;
	do {
		while (left && (!n->port || port_room(n->port)) &&
		       virtio_pop(v, TRANSMIT_QUEUE, &chain)) {
			send_frame(n, &chain);
			virtio_push(v, TRANSMIT_QUEUE, &chain, 0);
			left--;
		}
		if (n->port && port_flush(n->port) < 0)
			unplug(n);
		if (!virtio_running(v))
			return;
		if (n->port && !port_room(n->port)) {
			n->transmit_stalled = true;	/* the thread goes on */
			break;
		}
		virtqueue_want_notification(ring, v->memory);
	} while (left && virtqueue_waiting(ring, v->memory));
	if (!left) {
		n->transmit_stalled = true;	/* the same */
		wake(n);
	}
	if (n->port && port_room(n->port) < PORT_QUEUE)
		wake(n);	/* the thread waits until it can be written */
	virtio_signal(v, TRANSMIT_QUEUE);
}

/* Receive. */

/* Copy a frame with its header into as many buffers as it takes; they are not
 * given back yet. How many, with their heads and what was written; 0, and none
 * is taken, when the ring has not enough now. *never: nor will it have. */
static unsigned fill_buffers(struct net *n, const struct frame *f, uint16_t *heads,
			     uint32_t *written, bool *never)
{
	struct virtio_device *v = &n->virtio;
	struct virtio_net_hdr_mrg_rxbuf header = { .num_buffers = 1 };
	unsigned most = virtio_has(v, VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1, count = 0;
	struct virtq_chain first, next, *c = &first;
	size_t done = 0;
	*never = false;
	while (done < f->length && count < most && virtio_pop(v, RECEIVE_QUEUE, c)) {
		uint32_t skip = count ? 0 : virtq_copy_in(c, v->memory, 0, &header, HEADER);
		if (!count && skip < HEADER) {
			virtio_break(v, RECEIVE_QUEUE, &(struct virtq_fault){
				"a receive buffer has no room for the header" });
			return 0;
		}
		uint32_t part = virtq_copy_in(c, v->memory, skip, f->bytes + done,
					      (uint32_t)(f->length - done));
		heads[count] = c->head;
		written[count++] = skip + part;
		done += part;
		c = &next;
	}
	if (!virtio_running(v))
		return 0;
	if (done < f->length) {
		*never = count == most;
		v->queue[RECEIVE_QUEUE].ring.next_avail -= (uint16_t)count;
		return 0;
	}
	header.num_buffers = (uint16_t)count;
	virtq_copy_in(&first, v->memory, 0, &header, HEADER);
	return count;
}

static void deliver_some(struct net *n)
{
	struct virtio_device *v = &n->virtio;
	const struct frame *f;
	while (virtio_running(v) && (f = frame_queue_first(&n->waiting))) {
		uint16_t heads[MERGE_MAX];
		uint32_t written[MERGE_MAX];
		bool never;
		unsigned count = fill_buffers(n, f, heads, written, &never);
		if (!count && !never)
			break;
		for (unsigned i = 0; i < count; i++)
			virtqueue_push(&v->queue[RECEIVE_QUEUE].ring, v->memory, heads[i],
				       written[i]);
		*(count ? &n->counters.received : &n->counters.unwanted) += 1;
		frame_queue_drop(&n->waiting);
	}
}

/* Move waiting frames into the driver's buffers. */
static void deliver(struct net *n)
{
	struct virtio_device *v = &n->virtio;
	deliver_some(n);
	if (virtio_running(v) && n->waiting.count) {
		virtqueue_want_notification(&v->queue[RECEIVE_QUEUE].ring, v->memory);
		/* Buffers may have come before the driver saw that we want to know. */
		deliver_some(n);
	}
	if (virtio_running(v))
		virtio_signal(v, RECEIVE_QUEUE);
}

/* Read the port while there is room for a batch. */
static void receive(struct net *n)
{
	const struct frame *frames;
	int count = 0;
	while (n->port && n->waiting.count + PORT_BATCH <= PORT_QUEUE &&
	       (count = port_receive(n->port, &frames)) > 0) {
		for (int i = 0; i < count; i++)
			if (!virtio_running(&n->virtio) || frames[i].length < FRAME_HEADER ||
			    frames[i].length > FRAME_MAX)
				n->counters.unwanted++;
			else
				frame_queue_put(&n->waiting, frames[i].bytes, frames[i].length);
		deliver(n);
	}
	if (count < 0)
		unplug(n);
}

static void notified(struct virtio_device *v, unsigned queue)
{
	struct net *n = net_of(v);
	if (queue == TRANSMIT_QUEUE) {
		if (!n->transmit_stalled)
			transmit(n);
		return;
	}
	deliver(n);
	wake(n);	/* the thread may read the port again */
}

/* The thread. */

static void *net_run(void *arg)
{
	struct net *n = arg;
	for (;;) {
		struct pollfd wait[2] = { { n->wake, POLLIN, 0 }, { -1, 0, 0 } };
		pthread_mutex_lock(n->lock);
		if (n->port) {
			wait[1].fd = port_fd(n->port);
			if (n->waiting.count + PORT_BATCH <= PORT_QUEUE)
				wait[1].events |= POLLIN;
			if (port_room(n->port) < PORT_QUEUE)
				wait[1].events |= POLLOUT;
			if (!wait[1].events)
				wait[1].fd = -1;	/* a hang-up is seen later */
		}
		pthread_mutex_unlock(n->lock);
		poll(wait, ARRAY_SIZE(wait), -1);
		uint64_t count;
		if (wait[0].revents && read(n->wake, &count, sizeof count) < 0 && errno != EAGAIN)
			panic("the adapter's eventfd cannot be read (%s)", strerror(errno));
		if (__atomic_load_n(&n->stop, __ATOMIC_ACQUIRE))
			return NULL;
		pthread_mutex_lock(n->lock);
		if (n->port && port_flush(n->port) < 0)
			unplug(n);
		if (n->transmit_stalled && (!n->port || port_room(n->port)))
			transmit(n);
		receive(n);
		pthread_mutex_unlock(n->lock);
	}
}

/* The device. */

/* The driver's reset: what waited was for its buffers. */
static void reset(struct virtio_device *v)
{
	struct net *n = net_of(v);
	frame_queue_clear(&n->waiting);
	n->transmit_stalled = false;
}

/* Frames under way are not state: a network may lose them. */
static void save(const struct virtio_device *v, struct state *s)
{
	const struct net *n = container_of(v, const struct net, virtio);
	state_put_bytes(s, n->config.mac, MAC_LENGTH);
}

static void load(struct virtio_device *v, struct state *s)
{
	struct net *n = net_of(v);
	state_get_bytes(s, n->config.mac, MAC_LENGTH);
	wake(n);
}

static const struct virtio_ops net_ops = {
	.device = { "virtio-net", virtio_device_reset, virtio_device_save, virtio_device_load },
	.type = VIRTIO_ID_NET,
	.class_code = CLASS_ETHERNET,
	.queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notified = notified,
	.reset = reset,
	.save = save,
	.load = load,
};

void virtio_net_connect(struct virtio_device *v, int fd)
{
	struct net *n = net_of(v);
	port_destroy(n->port);
	n->port = fd >= 0 ? port_create(fd) : NULL;
	frame_queue_clear(&n->waiting);
	update_link(n);
	wake(n);
}

void virtio_net_counters(const struct virtio_device *v, struct virtio_net_counters *c)
{
	*c = container_of(v, const struct net, virtio)->counters;
}

struct virtio_device *virtio_net_create(struct pci_bus *bus, unsigned slot, struct memory *m,
					pthread_mutex_t *board_lock, int fd,
					const uint8_t mac[MAC_LENGTH], struct error *e)
{
	struct net *n = alloc_zeroed(1, sizeof *n);
	n->lock = board_lock;
	memcpy(n->config.mac, mac, MAC_LENGTH);
	n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd >= 0)
		n->port = port_create(fd);
	n->config.status = n->port ? VIRTIO_NET_S_LINK_UP : 0;
	if (n->wake < 0) {
		error_set(e, STATUS_FAULT, "There is no eventfd for a network adapter (%s).",
			  strerror(errno));
	} else if (!virtio_attach(&n->virtio, &net_ops, bus, slot, m,
				  BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
				  BIT(VIRTIO_NET_F_MRG_RXBUF), &n->config, sizeof n->config, e)) {
		if (!pthread_create(&n->thread, NULL, net_run, n)) {
			pthread_setname_np(n->thread, "network");
			return &n->virtio;
		}
		error_set(e, STATUS_FAULT, "There is no thread for a network adapter (%s).",
			  strerror(errno));
		pci_detach(&n->virtio.pci);
	}
	if (n->wake >= 0)
		close(n->wake);
	port_destroy(n->port);
	free(n);
	return NULL;
}

void virtio_net_stop(struct virtio_device *v)
{
	struct net *n = net_of(v);
	if (n->stop)
		return;
	__atomic_store_n(&n->stop, true, __ATOMIC_RELEASE);
	wake(n);
	pthread_join(n->thread, NULL);
}

void virtio_net_destroy(struct virtio_device *v)
{
	struct net *n = net_of(v);
	port_destroy(n->port);
	frame_queue_clear(&n->waiting);
	close(n->wake);
	virtio_device_destroy(v);
}
