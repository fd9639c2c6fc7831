/* mkcpio MANIFEST ARCHIVE: write a Linux initramfs (cpio, "newc" format) from a
 * list, without root: device nodes are only entries of the archive. The same
 * list and files give the same bytes.
 *
 * A line of the list is one of
 *   dir  PATH MODE
 *   file PATH MODE SOURCE
 *   link PATH TARGET
 *   node PATH MODE MAJOR MINOR        (a character device)
 * Paths have no leading slash, modes are octal. Empty lines and lines that
 * begin with # are skipped. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_ROOM = 1024, LINE_ROOM = 4096, ALIGNMENT = 4, COPY = 1 << 16 };

static FILE *archive;
static const char *archive_name;
static uint32_t next_inode = 1;
static uint64_t written;

static _Noreturn void fail(const char *what, const char *name)
{
	fprintf(stderr, "mkcpio: %s %s: %s\n", what, name, strerror(errno));
	if (archive)
		remove(archive_name);
	exit(1);
}

static void put(const void *p, size_t n)
{
	if (fwrite(p, 1, n, archive) != n)
		fail("cannot write", archive_name);
	written += n;
}

static void pad(void)
{
	static const char zeros[ALIGNMENT];
	put(zeros, (size_t)(-written & (ALIGNMENT - 1)));
}

/* An entry's header and name; the content follows. Times and owners are 0. */
static void put_header(const char *path, unsigned mode, uint32_t size, unsigned major,
		       unsigned minor)
{
	char header[6 + 13 * 8 + 1];
	size_t name_size = strlen(path) + 1;
	snprintf(header, sizeof header, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		 next_inode++, mode, 0u, 0u, 1u, 0u, size, 0u, 0u, major, minor,
		 (unsigned)name_size, 0u);
	put(header, sizeof header - 1);
	put(path, name_size);
	pad();
}

static void put_file(const char *path, unsigned mode, const char *source)
{
	static char buffer[COPY];
	FILE *f = fopen(source, "rb");
	struct stat st;
	if (!f || fstat(fileno(f), &st))
		fail("cannot read", source);
	if (st.st_size > UINT32_MAX) {
		errno = EFBIG;
		fail("cannot store", source);
	}
	put_header(path, S_IFREG | mode, (uint32_t)st.st_size, 0, 0);
	for (off_t left = st.st_size; left;) {
		size_t n = fread(buffer, 1, left < COPY ? (size_t)left : COPY, f);
		if (!n)
			fail("cannot read", source);
		put(buffer, n);
		left -= (off_t)n;
	}
	fclose(f);
	pad();
}

static void put_link(const char *path, const char *target)
{
	put_header(path, S_IFLNK | 0777, (uint32_t)strlen(target), 0, 0);
	put(target, strlen(target));
	pad();
}

static int put_line(const char *line)
{
	char path[PATH_ROOM], text[PATH_ROOM];
	unsigned mode, major, minor;
	if (sscanf(line, "dir %1023s %o", path, &mode) == 2)
		put_header(path, S_IFDIR | mode, 0, 0, 0);
	else if (sscanf(line, "file %1023s %o %1023[^\n]", path, &mode, text) == 3)
		put_file(path, mode, text);
	else if (sscanf(line, "link %1023s %1023s", path, text) == 2)
		put_link(path, text);
	else if (sscanf(line, "node %1023s %o %u %u", path, &mode, &major, &minor) == 4)
		put_header(path, S_IFCHR | mode, 0, major, minor);
	else
		return line[0] == '#' || line[0] == '\n' ? 0 : -1;
	return 0;
}

int main(int argc, char **argv)
{
	char line[LINE_ROOM];
	if (argc != 3) {
		fprintf(stderr, "usage: mkcpio MANIFEST ARCHIVE\n");
		return 64;
	}
	FILE *manifest = fopen(argv[1], "r");
	if (!manifest)
		fail("cannot read", argv[1]);
	archive_name = argv[2];
	archive = fopen(archive_name, "wb");
	if (!archive)
		fail("cannot write", archive_name);
	for (unsigned number = 1; fgets(line, sizeof line, manifest); number++)
		if (put_line(line)) {
			fprintf(stderr, "mkcpio: %s line %u makes no sense: %s", argv[1], number, line);
			remove(archive_name);
			return 1;
		}
	fclose(manifest);
	next_inode = 0;
	put_header("TRAILER!!!", 0, 0, 0, 0);
	if (fclose(archive))
		fail("cannot write", archive_name);
	return 0;
}
