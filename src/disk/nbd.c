/* A client of the Network Block Device protocol (its names are those of the
 * protocol's description, doc/proto.md of the NBD project), over the socket of
 * nbd_server.c.
 *
 * One request at a time: it is sent, and its answer read, before the caller goes
 * on. Invariant: between requests nothing is under way on the connection. Where
 * that can no longer be (the server ended, says what it should not, or moves no
 * byte for SILENCE_MS) the connection is lost for good: the server is ended, the
 * log says why, and every further request fails at once. */
#include "disk/nbd.h"

#include "base/bits.h"
#include "base/log.h"
#include "disk/nbd_server.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	GREETING_MS = 30000,	/* from the start to the disk's size; a VHDX may replay its log */
	SILENCE_MS = 120000,	/* flushing to a slow disk takes its time */
	HURRY_MS = 2000,	/* when the VM is to end */
	IN_USE_MS = 500, IN_USE_STEP_US = 50000,
	END_MS = 30000,		/* it writes back what it holds */
	MS_PER_SECOND = 1000, NS_PER_MS = 1000000,
	LOST_MS = 1000,		/* a server that ended is gone soon */
	REASON_SIZE = 600,
	MESSAGE_SIZE = 256,
	REPLIES_MAX = 64,	/* to one option */
	IOV_MOST = 1 + 256,	/* a request's header and a virtqueue's chain */
};

/* "Handshake phase" */
#define NBD_MAGIC 0x4e42444d41474943ull		/* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull	/* "IHAVEOPT" */
#define NBD_REPLY_OPTION_MAGIC 0x3e889045565a9ull
#define NBD_REP_ERROR BIT(31)
enum {
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
	NBD_OPT_GO = 7,
	NBD_REP_ACK = 1,
	NBD_REP_INFO = 3,
	NBD_INFO_EXPORT = 0,
};
/* "Transmission flags" and "Command flags" that the kernel's header lacks */
enum {
	NBD_TRANSMIT_WRITE_ZEROES = 1 << 6,
	NBD_COMMAND_WRITE_ZEROES = 6,
	NBD_COMMAND_FLAG_NO_HOLE = 1 << 1,
	NBD_COMMAND_FLAGS_SHIFT = 16,
};

struct greeting {
	uint64_t magic, option_magic;
	uint16_t flags;
} __attribute__((packed));

/* The client's flags, and NBD_OPT_GO for the export without a name. */
struct go {
	uint32_t client_flags;
	uint64_t option_magic;
	uint32_t option, length;
	uint32_t name_length;
	uint16_t information_requests;
} __attribute__((packed));

struct option_reply {
	uint64_t magic;
	uint32_t option, type, length;
} __attribute__((packed));

struct export_information {
	uint16_t type;
	uint64_t size;
	uint16_t flags;
} __attribute__((packed));

struct request {
	uint32_t magic, type;
	uint64_t handle, offset;
	uint32_t length;
} __attribute__((packed));

struct reply {
	uint32_t magic, error;
	uint64_t handle;
} __attribute__((packed));

struct disk_nbd {
	struct disk disk;
	struct nbd_server server;
	int fd;			/* -1: the connection is lost */
	int hurry;		/* readable once the VM is to end */
	uint16_t flags;		/* what the server can do */
	uint64_t handle;	/* of the last request */
};

static struct disk_nbd *nbd_of(const struct disk *d)
{
	return container_of(d, struct disk_nbd, disk);
}

int disk_nbd_pid(const struct disk *d)
{
	return nbd_of(d)->server.pid;
}

/* The connection. */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * MS_PER_SECOND + t.tv_nsec / NS_PER_MS;
}

/* Wait for the connection, for at most ms, and less once there is a hurry;
 * signals (a processor is called) do not count. */
static bool wait_for(const struct disk_nbd *n, short event, int ms)
{
	struct pollfd both[] = { { .fd = n->fd, .events = event }, { .fd = n->hurry, .events = POLLIN } };
	int64_t until = now_ms() + ms, left = ms;
	nfds_t count = ARRAY_SIZE(both);
	while (left >= 0) {
		int ready = poll(both, count, (int)left);
		if (!ready)
			return false;
		if (ready > 0 && both[0].revents)
			return true;
		left = until - now_ms();
		if (ready > 0) {
			count = 1;	/* the hurry stays */
			left = left < HURRY_MS ? left : HURRY_MS;
			until = now_ms() + left;
		}
	}
	return false;
}

/* Move all bytes. NULL, or why not. */
static const char *move_all(const struct disk_nbd *d, struct iovec *iov, unsigned count, short event,
			    int ms)
{
	iovec_advance(&iov, &count, 0);
	while (count) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };
		ssize_t n = event == POLLIN ? recvmsg(d->fd, &m, MSG_DONTWAIT) :
			sendmsg(d->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			iovec_advance(&iov, &count, (size_t)n);
			continue;
		}
		if (!n)
			return "it closed the connection";
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return strerror(errno);
		if (!wait_for(d, event, ms))
			return "it does not answer";
	}
	return NULL;
}

static const char *receive(const struct disk_nbd *d, void *to, size_t n, int ms)
{
	struct iovec iov = { to, n };
	return move_all(d, &iov, 1, POLLIN, ms);
}

static const char *send_bytes(const struct disk_nbd *d, const void *from, size_t n, int ms)
{
	struct iovec iov = { (void *)(uintptr_t)from, n };
	return move_all(d, &iov, 1, POLLOUT, ms);
}

static int lost(struct disk_nbd *n, const char *why)
{
	char reason[REASON_SIZE];
	close(n->fd);
	n->fd = -1;
	nbd_server_end(&n->server, LOST_MS, reason, sizeof reason);
	disk_complain(&n->disk, "Disk \"%s\" is lost to this VM (%s; %s); the guest sees input/output errors on it until it is stopped and started again.",
		      n->disk.path, why, reason);
	return -1;
}

/* The handshake. */

/* An answer to NBD_OPT_GO. NULL, or why it cannot go on; *done when there will
 * be no other. */
static const char *take_option_reply(struct disk_nbd *n, char *message, bool *done)
{
	struct option_reply r;
	struct export_information export;
	const char *why = receive(n, &r, sizeof r, GREETING_MS);
	if (why)
		return why;
	uint32_t type = be32toh(r.type), length = be32toh(r.length);
	if (be64toh(r.magic) != NBD_REPLY_OPTION_MAGIC || be32toh(r.option) != NBD_OPT_GO ||
	    length >= MESSAGE_SIZE)
		return "its answer is no NBD";
	why = receive(n, message, length, GREETING_MS);
	if (why)
		return why;
	message[length] = 0;
	*done = type == NBD_REP_ACK;
	if (type & NBD_REP_ERROR)
		return *message ? message : "it refuses the disk";
	if (type == NBD_REP_INFO && length >= sizeof export) {
		memcpy(&export, message, sizeof export);
		if (be16toh(export.type) == NBD_INFO_EXPORT) {
			n->disk.size = be64toh(export.size);
			n->flags = be16toh(export.flags);
		}
	}
	return NULL;
}

static const char *shake_hands(struct disk_nbd *n, char *message)
{
	const struct go go = {
		.client_flags = htobe32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
		.option_magic = htobe64(NBD_OPTION_MAGIC), .option = htobe32(NBD_OPT_GO),
		.length = htobe32(sizeof go.name_length + sizeof go.information_requests),
	};
	struct greeting g;
	bool done = false;
	const char *why = receive(n, &g, sizeof g, GREETING_MS);
	if (why)
		return why;
	if (be64toh(g.magic) != NBD_MAGIC || be64toh(g.option_magic) != NBD_OPTION_MAGIC ||
	    !(be16toh(g.flags) & NBD_FLAG_FIXED_NEWSTYLE))
		return "its greeting is no NBD";
	why = send_bytes(n, &go, sizeof go, GREETING_MS);
	for (unsigned i = 0; !why && !done; i++)
		why = i < REPLIES_MAX ? take_option_reply(n, message, &done) : "it says too much";
	return why;
}

/* Requests. */

/* Send a request (with what follows it), and read the answer (and what follows
 * that): one of the two is NULL, or both. 0; a number of the protocol's errors,
 * which are Linux's; or -1 when the connection is lost. */
static int ask(struct disk_nbd *n, uint32_t type, uint64_t offset, uint64_t length,
	       const struct iovec *out, struct iovec *in, unsigned count)
{
	struct request request = {
		.magic = htobe32(NBD_REQUEST_MAGIC), .type = htobe32(type),
		.handle = htobe64(++n->handle), .offset = htobe64(offset),
		.length = htobe32((uint32_t)length),
	};
	struct iovec all[IOV_MOST] = { { &request, sizeof request } };
	struct reply reply;
	if (n->fd < 0)
		return -1;
	if (length > UINT32_MAX || count >= IOV_MOST)
		panic("a request of %llu bytes in %u pieces", (unsigned long long)length, count);
	if (out)
		memcpy(all + 1, out, count * sizeof *out);
	const char *why = move_all(n, all, out ? 1 + count : 1, POLLOUT, SILENCE_MS);
	if (!why)
		why = receive(n, &reply, sizeof reply, SILENCE_MS);
	if (!why && (be32toh(reply.magic) != NBD_REPLY_MAGIC || reply.handle != request.handle))
		why = "its answer is no NBD";
	int error = why ? 0 : (int)be32toh(reply.error);
	if (!why && !error && in)
		why = move_all(n, in, count, POLLIN, SILENCE_MS);
	return why ? lost(n, why) : error < 0 ? EIO : error;
}

static int answered(struct disk *d, int error, const char *what, uint64_t offset)
{
	return error > 0 ? disk_failed(d, what, offset, strerror(error)) : error;
}

static int nbd_read(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	return answered(d, ask(nbd_of(d), NBD_CMD_READ, offset, iovec_bytes(iov, count), NULL, iov,
			       count), "read", offset);
}

static int nbd_write(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	return answered(d, ask(nbd_of(d), NBD_CMD_WRITE, offset, iovec_bytes(iov, count), iov, NULL,
			       count), "write", offset);
}

static int nbd_flush(struct disk *d)
{
	return answered(d, ask(nbd_of(d), NBD_CMD_FLUSH, 0, 0, NULL, NULL, 0), "flush", 0);
}

static int nbd_discard(struct disk *d, uint64_t offset, uint64_t bytes)
{
	/* A format that cannot has lost nothing; only a lost server is an error. */
	if (!(nbd_of(d)->flags & NBD_FLAG_SEND_TRIM))
		return 0;
	return ask(nbd_of(d), NBD_CMD_TRIM, offset, bytes, NULL, NULL, 0) < 0 ? -1 : 0;
}

static int nbd_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool may_unmap)
{
	uint32_t flags = may_unmap ? 0 : NBD_COMMAND_FLAG_NO_HOLE;
	return answered(d, ask(nbd_of(d), NBD_COMMAND_WRITE_ZEROES | flags << NBD_COMMAND_FLAGS_SHIFT,
			       offset, bytes, NULL, NULL, 0), "write", offset);
}

/* Beginning and end. */

static void nbd_hurry(struct disk *d)
{
	eventfd_write(nbd_of(d)->hurry, 1);
}

/* What all have, whether the server runs or not. */
static void nbd_free(struct disk_nbd *n)
{
	close(n->hurry);
	disk_release(&n->disk);
	free(n);
}

static void nbd_close(struct disk *d)
{
	struct disk_nbd *n = nbd_of(d);
	const struct request goodbye = { .magic = htobe32(NBD_REQUEST_MAGIC),
					 .type = htobe32(NBD_CMD_DISC) };
	char how[REASON_SIZE];
	if (n->fd >= 0) {
		send_bytes(n, &goodbye, sizeof goodbye, LOST_MS);
		close(n->fd);
		nbd_server_end(&n->server, END_MS, how, sizeof how);
	}
	nbd_free(n);
}

static const struct disk_ops nbd_ops = {
	nbd_close, nbd_read, nbd_write, nbd_flush, nbd_discard, nbd_write_zeroes, nbd_hurry,
};

/* Does the server offer what a disk must be able to do? */
static const char *check_export(const struct disk_nbd *n)
{
	const unsigned wanted = NBD_FLAG_SEND_FLUSH | NBD_TRANSMIT_WRITE_ZEROES;
	if (!n->disk.size || n->disk.size % DISK_SECTOR)
		return "its size is not a multiple of 512 bytes";
	if (n->disk.readonly)
		return NULL;
	if (n->flags & NBD_FLAG_READ_ONLY)
		return "it can only be read";
	return (n->flags & wanted) == wanted ? NULL : "the server cannot flush it";
}

/* One try. NULL with the reason; *in_use: another has the image. */
static struct disk *try_open(const struct disk_chain *chain, bool readonly, bool *in_use,
			     struct error *e)
{
	const char *path = chain->image[0].path;
	char message[MESSAGE_SIZE] = "", how[REASON_SIZE] = "";
	struct disk_nbd *n = alloc_zeroed(1, sizeof *n);
	*in_use = false;
	n->disk = (struct disk){ .ops = &nbd_ops, .path = alloc_string(path),
		.physical_sector = chain->image[0].physical_sector, .readonly = readonly };
	n->hurry = eventfd(0, EFD_CLOEXEC);
	if (n->hurry < 0)
		panic("no eventfd for a disk (%s)", strerror(errno));
	n->fd = nbd_server_start(&n->server, chain, readonly, e);
	if (n->fd >= 0) {
		const char *why = shake_hands(n, message);
		if (!why)
			why = check_export(n);
		if (!why)
			return &n->disk;
		close(n->fd);
		nbd_server_end(&n->server, LOST_MS, how, sizeof how);
		*in_use = strstr(how, "Is another process using the image");
		if (*in_use)
			error_set(e, STATUS_FILE,
				"Disk \"%s\" is in use by another virtual machine or program (%s).", path, how);
		else
			error_set(e, STATUS_FILE, "Disk \"%s\" cannot be opened: %s (%s).", path, how, why);
	}
	nbd_free(n);
	return NULL;
}

/* The server of a worker that was killed may still be about to end. */
struct disk *disk_nbd_open(const struct disk_chain *chain, bool readonly, struct error *e)
{
	int64_t until = now_ms() + IN_USE_MS;
	struct disk *d;
	bool in_use;
	while (!(d = try_open(chain, readonly, &in_use, e)) && in_use && now_ms() < until)
		usleep(IN_USE_STEP_US);
	return d;
}
