#include "disk/raw.h"

#include "base/bits.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ZEROES_CHUNK = 64 << 10 };

struct disk_raw {
	struct disk disk;
	int fd;
};

static struct disk_raw *raw_of(struct disk *d)
{
	return container_of(d, struct disk_raw, disk);
}

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

static int measure(struct disk_raw *r, uint64_t wanted, struct error *e)
{
	const char *path = r->disk.path;
	off_t size = lseek(r->fd, 0, SEEK_END);
	if (size < 0)
		return error_set(e, STATUS_FILE, "The size of disk \"%s\" cannot be read: %s.",
			path, strerror(errno));
	if (!size)
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" is empty; make it as large as the disk shall be (truncate -s 1G).",
			path);
	r->disk.size = wanted == DISK_RAW_WHOLE ? (uint64_t)size : wanted;
	if (r->disk.size % DISK_SECTOR || r->disk.size > (uint64_t)size)
		return error_set(e, STATUS_FILE,
			"Disk \"%s\" has %llu bytes, which is not a multiple of %d; it is no raw disk image.",
			path, (unsigned long long)size, DISK_SECTOR);
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

static void raw_close(struct disk *d)
{
	close(raw_of(d)->fd);
	disk_release(d);
	free(raw_of(d));
}

static int transfer(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count,
		    ssize_t (*move)(int, const struct iovec *, int, off_t), const char *what)
{
	while (count) {
		ssize_t n = move(raw_of(d)->fd, iov, (int)count, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return disk_failed(d, what, offset, strerror(errno));
		if (!n)
			return disk_failed(d, what, offset, "the file is shorter than it was");
		offset += (uint64_t)n;
		iovec_advance(&iov, &count, (size_t)n);
	}
	return 0;
}

static int raw_read(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	return transfer(d, offset, iov, count, preadv, "read");
}

static int raw_write(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	return transfer(d, offset, iov, count, pwritev, "write");
}

static int raw_flush(struct disk *d)
{
	return fdatasync(raw_of(d)->fd) ? disk_failed(d, "flush", 0, strerror(errno)) : 0;
}

static int allocate(struct disk *d, int mode, uint64_t offset, uint64_t bytes)
{
	int result;
	do
		result = fallocate(raw_of(d)->fd, mode, (off_t)offset, (off_t)bytes);
	while (result && errno == EINTR);
	return result;
}

static int raw_discard(struct disk *d, uint64_t offset, uint64_t bytes)
{
	/* A host that cannot has lost nothing. */
	allocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
	return 0;
}

static int raw_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool may_unmap)
{
	static const uint8_t zeroes[ZEROES_CHUNK];
	if (!allocate(d, FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE :
						FALLOC_FL_ZERO_RANGE), offset, bytes))
		return 0;
	while (bytes) {
		size_t part = bytes < sizeof zeroes ? (size_t)bytes : sizeof zeroes;
		struct iovec iov = { (void *)(uintptr_t)zeroes, part };
		if (raw_write(d, offset, &iov, 1))
			return -1;
		offset += part;
		bytes -= part;
	}
	return 0;
}

static const struct disk_ops raw_ops = {
	raw_close, raw_read, raw_write, raw_flush, raw_discard, raw_write_zeroes, NULL,
};

struct disk *disk_raw_open(const char *path, uint64_t size, bool readonly, struct error *e)
{
	int fd = open_file(path, readonly, e);
	if (fd < 0)
		return NULL;
	struct disk_raw *r = alloc_zeroed(1, sizeof *r);
	r->fd = fd;
	r->disk = (struct disk){ .ops = &raw_ops, .path = alloc_string(path),
				 .physical_sector = DISK_SECTOR, .readonly = readonly };
	if (check_kind(fd, path, e) || lock(fd, path, readonly, e) || measure(r, size, e)) {
		raw_close(&r->disk);
		return NULL;
	}
	return &r->disk;
}
