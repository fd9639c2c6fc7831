#include "net/port.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	SOCKET_BUFFER = 1 << 20,
	HELLO_TIMEOUT_MS = 5000,
	ANSWER_SIZE = 512,
};

struct port {
	int fd;
	bool gone;
	struct frame_queue out;
	struct frame in[PORT_BATCH];
	uint8_t buffer[PORT_BATCH][FRAME_MAX];
};

bool frame_queue_put(struct frame_queue *q, const void *bytes, size_t length)
{
	if (q->count == PORT_QUEUE)
		return false;
	q->bytes += length;
	struct frame *f = &q->slot[(q->at + q->count++) % PORT_QUEUE];
	f->bytes = alloc_zeroed(1, length);
	f->length = length;
	memcpy(f->bytes, bytes, length);
	return true;
}

void frame_queue_drop(struct frame_queue *q)
{
	if (!q->count)
		return;
	q->bytes -= q->slot[q->at].length;
	free(q->slot[q->at].bytes);
	q->at = (q->at + 1) % PORT_QUEUE;
	q->count--;
}

void frame_queue_clear(struct frame_queue *q)
{
	while (q->count)
		frame_queue_drop(q);
}

struct port *port_create(int fd)
{
	struct port *p = alloc_zeroed(1, sizeof *p);
	int size = SOCKET_BUFFER;
	p->fd = fd;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* More than the system's limit is cut to it, which is well too. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return p;
}

void port_destroy(struct port *p)
{
	if (!p)
		return;
	frame_queue_clear(&p->out);
	close(p->fd);
	free(p);
}

int port_fd(const struct port *p)
{
	return p->fd;
}

unsigned port_room(const struct port *p)
{
	return p->out.bytes + FRAME_MAX > PORT_QUEUE_BYTES ? 0 : PORT_QUEUE - p->out.count;
}

bool port_send(struct port *p, const void *frame, size_t length)
{
	return length >= FRAME_HEADER && length <= FRAME_MAX && port_room(p) &&
		frame_queue_put(&p->out, frame, length);
}

int port_flush(struct port *p)
{
	while (p->out.count && !p->gone) {
		struct mmsghdr message[PORT_BATCH];
		struct iovec iov[PORT_BATCH];
		unsigned n = p->out.count < PORT_BATCH ? p->out.count : PORT_BATCH;
		for (unsigned i = 0; i < n; i++) {
			struct frame *f = &p->out.slot[(p->out.at + i) % PORT_QUEUE];
			iov[i] = (struct iovec){ f->bytes, f->length };
			message[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i],
								    .msg_iovlen = 1 } };
		}
		int sent = sendmmsg(p->fd, message, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
			return 1;
		if (sent < 0)
			p->gone = true;
		for (int i = 0; i < sent; i++)
			frame_queue_drop(&p->out);
	}
	return p->gone ? -1 : 0;
}

int port_receive(struct port *p, const struct frame **frames)
{
	struct mmsghdr message[PORT_BATCH];
	struct iovec iov[PORT_BATCH];
	for (unsigned i = 0; i < PORT_BATCH; i++) {
		iov[i] = (struct iovec){ p->buffer[i], FRAME_MAX };
		message[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i],
							    .msg_iovlen = 1 } };
	}
	int n = recvmmsg(p->fd, message, PORT_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	*frames = p->in;
	/* The end of the stream reads as an empty message; frames never are. */
	for (int i = 0; i < n; i++) {
		if (!message[i].msg_len)
			return i ? i : -1;
		p->in[i] = (struct frame){ p->buffer[i], message[i].msg_len };
	}
	return n;
}

int port_connect(const char *path, const char *hello, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char answer[ANSWER_SIZE];
	if (strlen(path) >= sizeof address.sun_path)
		return error_set(e, STATUS_USAGE,
			"The path %s of the switch's socket is too long; a socket's may have %zu bytes.",
			path, sizeof address.sun_path - 1);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, STATUS_FAULT, "There is no socket to be had (%s).",
				 strerror(errno));
	struct pollfd wait = { fd, POLLIN, 0 };
	if (connect(fd, (struct sockaddr *)&address, sizeof address) ||
	    send(fd, hello, strlen(hello), MSG_NOSIGNAL) < 0) {
		error_set(e, STATUS_FILE,
			"No switch answers at %s (%s); start it, or connect the VM to another one.",
			path, strerror(errno));
	} else if (poll(&wait, 1, HELLO_TIMEOUT_MS) <= 0) {
		error_set(e, STATUS_FILE, "The switch at %s does not answer.", path);
	} else {
		ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
		answer[n > 0 ? n : 0] = '\0';
		if (!strcmp(answer, "ok"))
			return fd;
		error_set(e, STATUS_USAGE, "%s", n > 0 ? answer : "The switch hung up.");
	}
	close(fd);
	return -1;
}
