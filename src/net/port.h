/* One end of a cable: a SOCK_SEQPACKET Unix socket that carries Ethernet
 * frames, one a message, between a worker and a switch process.
 *
 * Sending queues; port_flush sends a batch. A full queue is the back-pressure:
 * who sends asks port_room first and waits until the descriptor is writable.
 * Receiving takes a batch; not asking for one leaves frames in the socket,
 * where they fill the other side's queue. One thread at a time. */
#ifndef NESTOR_NET_PORT_H
#define NESTOR_NET_PORT_H

#include "base/error.h"
#include "net/frame.h"

enum {
	PORT_BATCH = 32,	/* frames received or sent by one system call */
	PORT_QUEUE = 256,	/* frames that wait to be sent, */
	PORT_QUEUE_BYTES = 1 << 19,	/* and their bytes: so little can a guest make a switch hold */
};

struct frame {
	uint8_t *bytes;
	size_t length;
};

/* Frames that wait, oldest first. */
struct frame_queue {
	struct frame slot[PORT_QUEUE];
	unsigned at, count;
	size_t bytes;
};

/* Copy a frame to the end; false when the queue is full. */
bool frame_queue_put(struct frame_queue *q, const void *bytes, size_t length);
/* Drop the oldest. */
void frame_queue_drop(struct frame_queue *q);
void frame_queue_clear(struct frame_queue *q);
static inline const struct frame *frame_queue_first(const struct frame_queue *q)
{
	return q->count ? &q->slot[q->at] : NULL;
}

struct port;

/* Takes the descriptor over. */
struct port *port_create(int fd);
void port_destroy(struct port *p);
int port_fd(const struct port *p);

/* Queue a frame; false when the queue is full or the length is not a frame's. */
bool port_send(struct port *p, const void *frame, size_t length);
unsigned port_room(const struct port *p);
/* Send what is queued. 0: all of it; 1: some waits for POLLOUT; -1: the other
 * side is gone. */
int port_flush(struct port *p);

/* Up to PORT_BATCH frames, good until the next call; a frame that is too long
 * has its true length and FRAME_MAX bytes. How many; 0: none waits; -1: the
 * other side is gone. */
int port_receive(struct port *p, const struct frame **frames);

/* The switch's socket: connect to path and open port `hello` (see
 * docs/network.md). The descriptor; -1 with the reason, the switch's own words
 * when it refused. */
int port_connect(const char *path, const char *hello, struct error *e);

#endif
