#include "service/store.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/paths.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MODE = 0600, FOLDER_MODE = 0700, GUID_BYTES = 16, SET_ASIDE_MAX = 99 };

static const char temporary_suffix[] = ".new", suffix[] = ".json", broken_suffix[] = ".broken";

int (*store_fault)(const char *step);

struct store {
	char *folder;
	int fd[STORE_KINDS];	/* the folders */
	json_t *objects[STORE_KINDS];
	json_t *troubles;
};

static const char *const folders[STORE_KINDS] = {
	[STORE_VM] = "vm", [STORE_SWITCH] = "switch", [STORE_NAT] = "nat",
};

/* The step may fail here by a test's wish. */
static bool fails(const char *step)
{
	int why = store_fault ? store_fault(step) : 0;
	if (why > 0)
		errno = why;
	return why > 0;
}

void store_new_id(char id[STORE_ID_SIZE])
{
	uint8_t b[GUID_BYTES];
	if (getrandom(b, sizeof b, 0) != sizeof b)
		panic("the kernel gives no random bytes (%s)", strerror(errno));
	b[6] = (b[6] & 0x0f) | 0x40;	/* RFC 4122: version 4 */
	b[8] = (b[8] & 0x3f) | 0x80;	/* and its variant */
	snprintf(id, STORE_ID_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
		 b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

bool store_id_valid(const char *id)
{
	for (unsigned i = 0; i < STORE_ID_SIZE - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? id[i] != '-' : !isxdigit((unsigned char)id[i]) || isupper((unsigned char)id[i]))
			return false;
	}
	return !id[STORE_ID_SIZE - 1];
}

static void trouble(struct store *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void trouble(struct store *s, const char *format, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	log_line("%s", text);
	json_array_append_new(s->troubles, json_string(text));
}

static const char *name_of(json_t *object)
{
	const char *name = json_string_value(json_object_get(object, "Name"));
	return name ? name : "";
}

static int by_name(const void *a, const void *b)
{
	json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int order = strcasecmp(name_of(x), name_of(y));
	return order ? order : strcmp(json_string_value(json_object_get(x, "Id")),
				      json_string_value(json_object_get(y, "Id")));
}

static void sort(struct store *s, enum store_kind kind)
{
	size_t n = json_object_size(s->objects[kind]), i = 0;
	json_t **list = alloc_zeroed(n + 1, sizeof *list), *sorted = json_object(), *object;
	const char *id;
	json_object_foreach(s->objects[kind], id, object)
		list[i++] = object;
	qsort(list, n, sizeof *list, by_name);
	for (i = 0; i < n; i++)
		json_object_set(sorted, json_string_value(json_object_get(list[i], "Id")), list[i]);
	free(list);
	json_decref(s->objects[kind]);
	s->objects[kind] = sorted;
}

/* Loading. */

static void set_aside(struct store *s, enum store_kind kind, const char *file, const char *why)
{
	char broken[NAME_MAX + sizeof broken_suffix];
	int length = (int)(strlen(file) - strlen(suffix)), failed = -1;
	/* One that was set aside earlier stays. */
	for (unsigned n = 1; failed && n <= SET_ASIDE_MAX; n++) {
		if (n == 1)
			snprintf(broken, sizeof broken, "%.*s%s", length, file, broken_suffix);
		else
			snprintf(broken, sizeof broken, "%.*s-%u%s", length, file, n, broken_suffix);
		failed = renameat2(s->fd[kind], file, s->fd[kind], broken, RENAME_NOREPLACE);
		if (failed && errno != EEXIST)
			break;
	}
	if (failed)
		trouble(s, "%s/%s/%s does not load (%s) and cannot be set aside (%s).", s->folder,
			folders[kind], file, why, strerror(errno));
	else
		trouble(s, "%s/%s/%s does not load (%s); it was set aside as %s.", s->folder,
			folders[kind], file, why, broken);
}

void store_set_aside(struct store *s, enum store_kind kind, const char *id, const char *why)
{
	char file[STORE_ID_SIZE + sizeof suffix];
	snprintf(file, sizeof file, "%s%s", id, suffix);
	set_aside(s, kind, file, why);
	json_object_del(s->objects[kind], id);
}

static void load_file(struct store *s, enum store_kind kind, const char *file)
{
	json_error_t error;
	char why[256], id[NAME_MAX + 1];
	struct stat st;
	/* Not to wait for ever at a FIFO. */
	int fd = openat(s->fd[kind], file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode))) {
		close(fd);
		set_aside(s, kind, file, "it is no regular file");
		return;
	}
	if (fd < 0) {
		/* It may be whole; leave it where it is. */
		trouble(s, "%s/%s/%s cannot be read (%s).", s->folder, folders[kind], file,
			strerror(errno));
		return;
	}
	json_t *object = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
	close(fd);
	snprintf(id, sizeof id, "%.*s", (int)(strlen(file) - strlen(suffix)), file);
	const char *its = json_string_value(json_object_get(object, "Id"));
	json_t *schema = json_object_get(object, "SchemaVersion");
	if (!object) {
		snprintf(why, sizeof why, "line %d: %s", error.line, error.text);
		set_aside(s, kind, file, why);
	} else if (json_integer_value(schema) > STORE_SCHEMA) {
		trouble(s, "%s/%s/%s has schema version %" JSON_INTEGER_FORMAT
			" and this Nestor knows up to %d; it is left alone.", s->folder,
			folders[kind], file, json_integer_value(schema), STORE_SCHEMA);
	} else if (!its || strcmp(its, id) || !store_id_valid(id) || !json_is_integer(schema) ||
		   !json_is_string(json_object_get(object, "Name"))) {
		set_aside(s, kind, file, "it has no Name, or not the Id and schema that belong to it");
	} else {
		json_object_set(s->objects[kind], id, object);
	}
	json_decref(object);
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && !strcmp(text + n - m, end);
}

static int load_kind(struct store *s, enum store_kind kind, struct error *e)
{
	char path[PATHS_MAX];
	snprintf(path, sizeof path, "%s/%s", s->folder, folders[kind]);
	if (paths_make_folder(path, FOLDER_MODE, e))
		return -1;
	s->fd[kind] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = s->fd[kind] < 0 ? NULL : opendir(path);
	if (!folder)
		return error_set(e, STATUS_FILE, "The folder %s cannot be read (%s).", path,
				 strerror(errno));
	for (struct dirent *d; (d = readdir(folder));) {
		if (ends_with(d->d_name, temporary_suffix))
			unlinkat(s->fd[kind], d->d_name, 0);	/* never finished */
		else if (ends_with(d->d_name, broken_suffix))
			trouble(s, "%s/%s was set aside earlier and is not loaded.", path, d->d_name);
		else if (ends_with(d->d_name, suffix))
			load_file(s, kind, d->d_name);
	}
	closedir(folder);
	sort(s, kind);
	return 0;
}

struct store *store_open(const char *folder, struct error *e)
{
	struct store *s = alloc_zeroed(1, sizeof *s);
	s->folder = alloc_string(folder);
	s->troubles = json_array();
	for (unsigned k = 0; k < STORE_KINDS; k++) {
		s->fd[k] = -1;
		s->objects[k] = json_object();
	}
	for (unsigned k = 0; k < STORE_KINDS; k++)
		if (load_kind(s, k, e)) {
			store_close(s);
			return NULL;
		}
	return s;
}

void store_close(struct store *s)
{
	for (unsigned k = 0; k < STORE_KINDS; k++) {
		if (s->fd[k] >= 0)
			close(s->fd[k]);
		json_decref(s->objects[k]);
	}
	json_decref(s->troubles);
	free(s->folder);
	free(s);
}

json_t *store_objects(struct store *s, enum store_kind kind)
{
	return s->objects[kind];
}

json_t *store_find(struct store *s, enum store_kind kind, const char *id)
{
	return json_object_get(s->objects[kind], id);
}

json_t *store_troubles(struct store *s)
{
	return s->troubles;
}

/* Changing. */

static int failed(struct store *s, enum store_kind kind, const char *step, const char *file,
		  struct error *e)
{
	return error_set(e, STATUS_FILE, "%s/%s/%s: %s fails: %s.", s->folder, folders[kind], file,
			 step, strerror(errno));
}

static int write_text(int fd, const char *text)
{
	for (size_t n = strlen(text); n;) {
		ssize_t done = write(fd, text, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		text += done;
		n -= (size_t)done;
	}
	return 0;
}

/* The step that failed; NULL: none. */
static const char *write_file(int folder, const char *temporary, const char *file, const char *text)
{
	const char *step = NULL;
	int fd = fails("create") ? -1 :
		openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (fd < 0)
		return "create";
	if (fails("write") || write_text(fd, text))
		step = "write";
	else if (fails("fsync") || fsync(fd))
		step = "fsync";
	int reason = errno;
	if (close(fd) && !step) {
		step = "close";
		reason = errno;
	}
	errno = reason;
	if (!step && (fails("rename") || renameat(folder, temporary, folder, file)))
		step = "rename";
	if (step) {
		reason = errno;
		unlinkat(folder, temporary, 0);
		errno = reason;
	}
	return step;
}

int store_put(struct store *s, enum store_kind kind, json_t *object, struct error *e)
{
	const char *id = json_string_value(json_object_get(object, "Id"));
	char file[STORE_ID_SIZE + sizeof suffix], temporary[sizeof file + sizeof temporary_suffix];
	json_object_set_new(object, "SchemaVersion", json_integer(STORE_SCHEMA));
	char *text = json_dumps(object, JSON_INDENT(2));
	if (!id || !store_id_valid(id) || !text)
		panic("an object without a proper Id or text is to be stored");
	snprintf(file, sizeof file, "%s%s", id, suffix);
	snprintf(temporary, sizeof temporary, "%s%s", file, temporary_suffix);
	size_t n = strlen(text);
	text = alloc_resize(text, n + 2, 1);
	strcpy(text + n, "\n");
	const char *step = write_file(s->fd[kind], temporary, file, text);
	free(text);
	if (step)
		return failed(s, kind, step, file, e);
	json_t *copy = json_deep_copy(object);
	json_object_set_new(s->objects[kind], id, copy);
	sort(s, kind);
	/* The new file is in place whatever becomes of this. */
	if (fails("fsync folder") || fsync(s->fd[kind]))
		log_line("%s/%s: fsync fails (%s); the last change may be lost if the machine stops now.",
			 s->folder, folders[kind], strerror(errno));
	return 0;
}

int store_remove(struct store *s, enum store_kind kind, const char *id, struct error *e)
{
	char file[STORE_ID_SIZE + sizeof suffix];
	snprintf(file, sizeof file, "%s%s", id, suffix);
	if (fails("unlink") || (unlinkat(s->fd[kind], file, 0) && errno != ENOENT))
		return failed(s, kind, "unlink", file, e);
	json_object_del(s->objects[kind], id);
	if (fsync(s->fd[kind]))
		log_line("%s/%s: fsync fails (%s).", s->folder, folders[kind], strerror(errno));
	return 0;
}
