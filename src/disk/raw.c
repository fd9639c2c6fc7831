#include "disk/raw.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ZEROES_CHUNK = 64 << 10 };

static int check_kind(int fd, const char *path, struct error *e)
{
	struct stat st;
	if (fstat(fd, &st))
		return error_set(e, STATUS_FILE, "Disk \"%s\" cannot be examined: %s.", path,
			strerror(errno));
	if (S_ISDIR(st.st_mode))
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is a directory; name a raw disk image in it.", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is neither a file nor a block device; name a raw disk image.",
			path);
	return 0;
}

/* An open-file-description lock, so that it ends with the descriptor and holds
 * against other disks of this process, too. Some file systems have none; then
 * there is nothing to hold. */
static int lock(int fd, const char *path, bool readonly, struct error *e)
{
	struct flock range = { .l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	if (!fcntl(fd, F_OFD_SETLK, &range) || errno == EINVAL || errno == ENOTSUP)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is in use by another virtual machine; stop that one, or attach the disk readonly to both.",
			path);
	return error_set(e, STATUS_FILE, "Disk \"%s\" cannot be locked: %s.", path,
		strerror(errno));
}

static int measure(struct disk_raw *d, struct error *e)
{
	off_t size = lseek(d->fd, 0, SEEK_END);
	if (size < 0)
		return error_set(e, STATUS_FILE, "The size of disk \"%s\" cannot be read: %s.",
			d->path, strerror(errno));
	d->size = (uint64_t)size;
	if (!size)
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is empty; make it as large as the disk shall be (truncate -s 1G).",
			d->path);
	if (size % DISK_SECTOR)
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" has %llu bytes, which is not a multiple of %d; it is no raw disk image.",
			d->path, (unsigned long long)size, DISK_SECTOR);
	return 0;
}

static int open_file(const char *path, bool readonly, struct error *e)
{
	/* O_NONBLOCK: opening a pipe by mistake must not wait for its other end. */
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
		return error_set(e, STATUS_FILE, "There is no disk \"%s\"; check the path.", path);
	case EISDIR:
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is a directory; name a raw disk image in it.", path);
	case EACCES:
	case EROFS:
	case EPERM:
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" cannot be opened for %s: %s; change its permissions%s.", path,
			readonly ? "reading" : "reading and writing", strerror(errno),
			readonly ? "" : " or attach it readonly");
	}
	return error_set(e, STATUS_FILE, "Disk \"%s\" cannot be opened: %s.", path,
		strerror(errno));
}

struct disk_raw *disk_raw_open(const char *path, bool readonly, struct error *e)
{
	int fd = open_file(path, readonly, e);
	if (fd < 0)
		return NULL;
	struct disk_raw *d = alloc_zeroed(1, sizeof *d);
	d->fd = fd;
	d->readonly = readonly;
	d->path = alloc_string(path);
	if (check_kind(fd, path, e) || lock(fd, path, readonly, e) || measure(d, e)) {
		disk_raw_close(d);
		return NULL;
	}
	return d;
}

void disk_raw_close(struct disk_raw *d)
{
	if (!d)
		return;
	close(d->fd);
	free(d->path);
	free(d);
}

static int failed(struct disk_raw *d, const char *what, uint64_t offset, const char *reason)
{
	if (!d->complained)
		log_line("Disk \"%s\" failed to %s at byte %llu: %s; the guest sees an input/output error, and further ones are not reported here.",
			 d->path, what, (unsigned long long)offset, reason);
	d->complained = true;
	return -1;
}

static bool in_range(const struct disk_raw *d, uint64_t offset, uint64_t bytes)
{
	return offset <= d->size && bytes <= d->size - offset;
}

static uint64_t iovec_bytes(const struct iovec *iov, unsigned count)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* Take n bytes off the front. */
static void advance(struct iovec **iov, unsigned *count, size_t n)
{
	while (*count && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		++*iov;
		--*count;
	}
	if (n) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

static int transfer(struct disk_raw *d, uint64_t offset, struct iovec *iov, unsigned count,
		    ssize_t (*move)(int, const struct iovec *, int, off_t), const char *what)
{
	if (!in_range(d, offset, iovec_bytes(iov, count)))
		return -1;
	advance(&iov, &count, 0);
	while (count) {
		ssize_t n = move(d->fd, iov, (int)count, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(d, what, offset, strerror(errno));
		if (!n)
			return failed(d, what, offset, "the file is shorter than it was");
		offset += (uint64_t)n;
		advance(&iov, &count, (size_t)n);
	}
	return 0;
}

int disk_raw_read(struct disk_raw *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	return transfer(d, offset, iov, count, preadv, "read");
}

int disk_raw_write(struct disk_raw *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	if (d->readonly)
		return -1;
	return transfer(d, offset, iov, count, pwritev, "write");
}

int disk_raw_flush(struct disk_raw *d)
{
	if (d->readonly || !fdatasync(d->fd))
		return 0;
	return failed(d, "flush", 0, strerror(errno));
}

static int allocate(struct disk_raw *d, int mode, uint64_t offset, uint64_t bytes)
{
	int result;
	do
		result = fallocate(d->fd, mode, (off_t)offset, (off_t)bytes);
	while (result && errno == EINTR);
	return result;
}

int disk_raw_discard(struct disk_raw *d, uint64_t offset, uint64_t bytes)
{
	if (d->readonly || !in_range(d, offset, bytes))
		return -1;
	/* A host that cannot has lost nothing. */
	if (bytes)
		allocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
	return 0;
}

int disk_raw_write_zeroes(struct disk_raw *d, uint64_t offset, uint64_t bytes, bool may_unmap)
{
	static const uint8_t zeroes[ZEROES_CHUNK];
	if (d->readonly || !in_range(d, offset, bytes))
		return -1;
	if (!bytes || !allocate(d, FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE :
							   FALLOC_FL_ZERO_RANGE), offset, bytes))
		return 0;
	while (bytes) {
		size_t part = bytes < sizeof zeroes ? (size_t)bytes : sizeof zeroes;
		struct iovec iov = { (void *)(uintptr_t)zeroes, part };
		if (disk_raw_write(d, offset, &iov, 1))
			return -1;
		offset += part;
		bytes -= part;
	}
	return 0;
}

void disk_raw_id(const struct disk_raw *d, char *id, size_t n)
{
	const char *slash = strrchr(d->path, '/');
	const char *name = slash ? slash + 1 : d->path;
	size_t length = strlen(name);
	memset(id, 0, n);
	if (length > n)
		name += length - n;
	memcpy(id, name, length > n ? n : length);
}
