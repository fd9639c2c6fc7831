#include "disk/disk.h"

#include "base/log.h"
#include "disk/image.h"
#include "disk/nbd.h"
#include "disk/raw.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct disk *disk_open(const char *path, bool readonly, struct error *e)
{
	struct disk_chain chain;
	if (disk_format_of(path) == DISK_FORMAT_RAW)
		return disk_raw_open(path, DISK_RAW_WHOLE, readonly, e);
	if (disk_chain_read(&chain, path, e))
		return NULL;
	const struct disk_image *i = &chain.image[0];
	struct disk *d = disk_image_is_flat(i) ? disk_raw_open(path, i->size, readonly, e) :
		disk_nbd_open(&chain, readonly, e);
	disk_chain_free(&chain);
	return d;
}

void disk_close(struct disk *d)
{
	if (d)
		d->ops->close(d);
}

void disk_release(struct disk *d)
{
	free(atomic_load(&d->problem));
	free(d->path);
}

const char *disk_problem(const struct disk *d)
{
	return atomic_load(&d->problem);
}

void disk_complain(struct disk *d, const char *format, ...)
{
	char *text = NULL, *none = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		panic("out of memory");
	va_end(args);
	log_line("%s", text);
	if (!atomic_compare_exchange_strong(&d->problem, &none, text))
		free(text);
}

int disk_failed(struct disk *d, const char *what, uint64_t offset, const char *reason)
{
	if (!disk_problem(d))
		disk_complain(d, "Disk \"%s\" failed to %s at byte %llu: %s; the guest sees an input/output error, and further ones are not reported here.",
			d->path, what, (unsigned long long)offset, reason);
	return -1;
}

uint64_t iovec_bytes(const struct iovec *iov, unsigned count)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

void iovec_advance(struct iovec **iov, unsigned *count, size_t n)
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

static bool in_range(const struct disk *d, uint64_t offset, uint64_t bytes)
{
	return offset <= d->size && bytes <= d->size - offset;
}

int disk_read(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	if (!in_range(d, offset, iovec_bytes(iov, count)))
		return -1;
	iovec_advance(&iov, &count, 0);
	return count ? d->ops->read(d, offset, iov, count) : 0;
}

int disk_write(struct disk *d, uint64_t offset, struct iovec *iov, unsigned count)
{
	if (d->readonly || !in_range(d, offset, iovec_bytes(iov, count)))
		return -1;
	iovec_advance(&iov, &count, 0);
	return count ? d->ops->write(d, offset, iov, count) : 0;
}

int disk_flush(struct disk *d)
{
	return d->readonly ? 0 : d->ops->flush(d);
}

int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes)
{
	if (d->readonly || !in_range(d, offset, bytes))
		return -1;
	return bytes ? d->ops->discard(d, offset, bytes) : 0;
}

int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool may_unmap)
{
	if (d->readonly || !in_range(d, offset, bytes))
		return -1;
	return bytes ? d->ops->write_zeroes(d, offset, bytes, may_unmap) : 0;
}

void disk_hurry(struct disk *d)
{
	if (d->ops->hurry)
		d->ops->hurry(d);
}

void disk_id(const struct disk *d, char *id, size_t n)
{
	const char *slash = strrchr(d->path, '/');
	const char *name = slash ? slash + 1 : d->path;
	size_t length = strlen(name);
	memset(id, 0, n);
	if (length > n)
		name += length - n;
	memcpy(id, name, length > n ? n : length);
}
