#include "service/paths.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PRIVATE = 0700 };

/* The longest socket there is a VM's: RUNTIME/ID.console. */
#define SOCKET_NAME "/01234567-89ab-cdef-0123-456789abcdef.console"
#define RUNTIME_MAX (sizeof ((struct sockaddr_un *)0)->sun_path - sizeof SOCKET_NAME)

static char store[PATHS_MAX / 4], runtime[PATHS_MAX / 2];
static char socket_path[PATHS_MAX], lock_path[PATHS_MAX];

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value && value[0] == '/' ? value : NULL;
}

static const char *home(void)
{
	const char *value = variable("HOME");
	struct passwd *p = value ? NULL : getpwuid(getuid());
	return value ? value : p && p->pw_dir[0] == '/' ? p->pw_dir : "/";
}

int paths_make_folder(const char *path, unsigned mode, struct error *e)
{
	char part[PATHS_MAX];
	if (strlen(path) >= sizeof part)
		return error_set(e, STATUS_FILE, "The path %.64s… is too long.", path);
	strcpy(part, path);
	for (char *at = part + 1; ; at++) {
		char kept = *at;
		if (kept && kept != '/')
			continue;
		*at = '\0';
		struct stat st;
		if (mkdir(part, mode) && (errno != EEXIST || (!kept && !stat(part, &st) && !S_ISDIR(st.st_mode))))
			return error_set(e, STATUS_FILE, "The folder %s cannot be made (%s).", part,
					 strerror(errno));
		*at = kept;
		if (!kept)
			return 0;
	}
}

/* Nobody else may have put the folder there. */
static int check_private(const char *path, struct error *e)
{
	struct stat st;
	if (lstat(path, &st))
		return error_set(e, STATUS_FILE, "The folder %s is not there (%s).", path,
				 strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return error_set(e, STATUS_FILE,
			"%s is not a folder of this user's own; remove it, or name another with NESTOR_RUNTIME.",
			path);
	if ((st.st_mode & 077) && chmod(path, PRIVATE))
		return error_set(e, STATUS_FILE, "The folder %s is open to others (%s).", path,
				 strerror(errno));
	return 0;
}

static bool is_mine(const char *folder)
{
	struct stat st;
	return !stat(folder, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* What Nestor's own variables name must be a full path: another folder than the one that
 * was meant would be worse than none. */
static int check_given(const char *name, struct error *e)
{
	const char *value = getenv(name);
	if (!value || !*value || *value == '/')
		return 0;
	return error_set(e, STATUS_FILE, "%s is \"%.200s\", and must be a full path, from / on.", name, value);
}

static int put(char *to, size_t room, struct error *e, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static int put(char *to, size_t room, struct error *e, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(to, room, format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < room)
		return 0;
	return error_set(e, STATUS_FILE, "The path %.64s... is too long: it may have %zu bytes.", to, room - 1);
}

static int make_store(struct error *e)
{
	struct error why = { 0 };
	char log[PATHS_MAX];
	snprintf(log, sizeof log, "%s/log", store);
	if (!paths_make_folder(store, PRIVATE, &why) && !paths_make_folder(log, PRIVATE, &why))
		return 0;
	return error_set(e, STATUS_FILE, "%.900s NESTOR_STORE names another folder for the store.", why.text);
}

int paths_prepare(struct error *e)
{
	if (check_given("NESTOR_STORE", e) || check_given("NESTOR_RUNTIME", e))
		return -1;
	const char *given_store = variable("NESTOR_STORE"), *given = variable("NESTOR_RUNTIME");
	const char *data = variable("XDG_DATA_HOME"), *run = variable("XDG_RUNTIME_DIR");
	bool root = !geteuid();
	int failed;
	if (given_store)
		failed = put(store, sizeof store, e, "%s", given_store);
	else if (root)
		failed = put(store, sizeof store, e, "/var/lib/nestor");
	else if (data)
		failed = put(store, sizeof store, e, "%s/nestor", data);
	else
		failed = put(store, sizeof store, e, "%s/.local/share/nestor", home());
	if (failed)
		return -1;
	if (given)
		failed = put(runtime, sizeof runtime, e, "%s", given);
	else if (given_store)
		failed = put(runtime, sizeof runtime, e, "%s/run", store);
	else if (root)
		failed = put(runtime, sizeof runtime, e, "/run/nestor");
	else if (run && is_mine(run))
		failed = put(runtime, sizeof runtime, e, "%s/nestor", run);
	else
		failed = put(runtime, sizeof runtime, e, "/tmp/nestor-%u", geteuid());
	if (failed)
		return -1;
	if (strlen(runtime) > RUNTIME_MAX)
		return error_set(e, STATUS_FILE,
			"The path of the folder for sockets, %s, has %zu bytes, and may have %zu; name a shorter one with NESTOR_RUNTIME.",
			runtime, strlen(runtime), (size_t)RUNTIME_MAX);
	snprintf(socket_path, sizeof socket_path, "%s/service", runtime);
	snprintf(lock_path, sizeof lock_path, "%s/service.lock", runtime);
	if (make_store(e) || paths_make_folder(runtime, PRIVATE, e))
		return -1;
	return check_private(runtime, e);
}

const char *paths_store(void)
{
	return store;
}

const char *paths_runtime(void)
{
	return runtime;
}

const char *paths_socket(void)
{
	return socket_path;
}

const char *paths_lock(void)
{
	return lock_path;
}

const char *paths_log(const char *name)
{
	static _Thread_local char path[PATHS_MAX];
	snprintf(path, sizeof path, "%s/log/%.255s.log", store, name);
	return path;
}

bool paths_runtime_file(char *path, size_t room, const char *name, const char *kind)
{
	return (size_t)snprintf(path, room, "%s/%s.%s", runtime, name, kind) < room;
}

const char *paths_executable(void)
{
	const char *given = variable("NESTOR_EXECUTABLE");
	return given ? given : "/proc/self/exe";
}

/* folder/part/name into path, when such a file can be read. */
static bool take_readable(char *path, size_t room, const char *folder, const char *part, const char *name)
{
	char file[PATHS_MAX];
	int n = snprintf(file, sizeof file, "%s/%s/%s", folder, part, name);
	if (n < 0 || (size_t)n >= sizeof file || (size_t)n >= room)
		return false;
	memcpy(path, file, (size_t)n + 1);
	return !access(path, R_OK);
}

bool paths_image(char *path, size_t room, const char *name)
{
	static const char *const beside[] = { "../share/nestor/images", "../images" };
	const char *given = variable("NESTOR_IMAGES");
	char program[PATH_MAX];
	if (given)
		return take_readable(path, room, given, ".", name);
	ssize_t n = readlink(paths_executable(), program, sizeof program - 1);
	if (n >= 0)
		program[n] = '\0';
	else
		snprintf(program, sizeof program, "%s", paths_executable());
	char *slash = strrchr(program, '/');
	if (slash)
		*slash = '\0';
	for (unsigned i = 0; i < sizeof beside / sizeof *beside; i++)
		if (take_readable(path, room, program, beside[i], name))
			return true;
	return false;
}
