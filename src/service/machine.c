#include "service/machine.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/call.h"
#include "service/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	ASK_MS = 5000,
	PAUSE_MS = 15000,	/* some answers take as long as a processor needs to stop */
	READY_MS = 120000,
	LINE_SIZE = 4096,
	TAIL_SIZE = 2048,	/* of the log, for the reason of a death */
	TAIL_LINES = 3,
	FIRST_OTHER_FD = 3,
	MS_PER_SECOND = 1000,
	PERCENT = 100,
	USAGE_EVERY_MS = 900,
};

struct machine *machine_find(struct service *s, const char *id)
{
	struct machine *m = s->machines;
	while (m && strcmp(m->id, id))
		m = m->next;
	return m;
}

enum machine_state machine_state(struct service *s, const char *id)
{
	struct machine *m = machine_find(s, id);
	return m ? m->state : MACHINE_OFF;
}

const char *machine_state_name(enum machine_state state)
{
	static const char *const names[] = {
		[MACHINE_OFF] = "Off", [MACHINE_STARTING] = "Starting",
		[MACHINE_RUNNING] = "Running", [MACHINE_PAUSED] = "Paused",
		[MACHINE_STOPPING] = "Stopping",
	};
	return names[state];
}

static int process_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static struct machine *machine_new(struct service *s, const char *id)
{
	struct machine *m = alloc_zeroed(1, sizeof *m);
	m->service = s;
	m->process = -1;
	snprintf(m->id, sizeof m->id, "%s", id);
	m->next = s->machines;
	s->machines = m;
	return m;
}

/* Its watcher is not running. */
static void machine_free(struct machine *m)
{
	struct service *s = m->service;
	for (struct machine **at = &s->machines; *at; at = &(*at)->next)
		if (*at == m) {
			*at = m->next;
			break;
		}
	rpc_disconnect(m->control);
	rpc_disconnect(m->watch);
	if (m->process >= 0)
		close(m->process);
	json_decref(m->config);
	free(m);
	pthread_cond_broadcast(&s->changed);
}

json_t *machine_ask(struct machine *m, const char *method, json_t *params, struct error *e)
{
	bool slow = strstr(method, "Pause") || strstr(method, "Resume");
	if (!m->control) {
		json_decref(params);
		error_set(e, STATUS_FAULT, "The worker is not connected.");
		return NULL;
	}
	return rpc_request(m->control, method, params, slow ? PAUSE_MS : ASK_MS, NULL, NULL, e);
}

void machine_kill(struct machine *m)
{
	if (m->process >= 0)
		syscall(SYS_pidfd_send_signal, m->process, SIGKILL, NULL, 0);
}

/* The end of a machine. */

/* The log's last lines, one after the other, of what came after its first
 * `begin` bytes. */
static void log_tail(const char *id, off_t begin, char *text, size_t room)
{
	char tail[TAIL_SIZE + 1];
	int fd = open(paths_log(id), O_RDONLY | O_CLOEXEC);
	text[0] = '\0';
	if (fd < 0)
		return;
	off_t size = lseek(fd, 0, SEEK_END);
	if (begin > size)	/* somebody emptied it */
		begin = 0;
	if (size - begin > TAIL_SIZE)
		begin = size - TAIL_SIZE;
	ssize_t n = pread(fd, tail, TAIL_SIZE, begin);
	close(fd);
	if (n <= 0)
		return;
	while (n && tail[n - 1] == '\n')
		n--;
	tail[n] = '\0';
	char *from = tail + n;
	for (unsigned lines = 0; from > tail; from--)
		if (from[-1] == '\n' && ++lines == TAIL_LINES)
			break;
	for (char *at = from; *at; at++)
		if (*at == '\n')
			*at = '|';
		else if ((*at & 0x80) || *at < ' ')
			*at = ' ';
	size_t shown = strlen(from) < room ? strlen(from) : room - 1;
	memcpy(text, from, shown);
	text[shown] = '\0';
}

/* What an earlier service's child left when nobody listened. */
static json_t *take_end_record(const char *id)
{
	char path[PATHS_MAX];
	if (!paths_runtime_file(path, sizeof path, id, "ended"))
		return NULL;
	json_t *record = json_load_file(path, 0, NULL);
	unlink(path);
	return record;
}

static void remove_sockets(const char *id)
{
	static const char *const kinds[] = { "ctl", "console", "ended" };
	char path[PATHS_MAX];
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (paths_runtime_file(path, sizeof path, id, kinds[i]))
			unlink(path);
}

/* Why it ended into text; empty: as it should. status: of waitpid; -1: not
 * known. */
static void end_reason(struct machine *m, json_t *record, int status, char *text, size_t room)
{
	char tail[TAIL_SIZE];
	if (record && json_is_integer(json_object_get(record, "Status"))) {
		bool well = !get_integer(record, "Status");
		snprintf(text, room, "%s", well ? "" : get_text(record, "Reason"));
		return;
	}
	log_tail(m->id, m->log_begin, tail, sizeof tail);
	if (status >= 0 && WIFSIGNALED(status))
		snprintf(text, room,
			 "Its worker process was killed by signal %d (%s). The log's last lines: %s",
			 WTERMSIG(status), strsignal(WTERMSIG(status)), tail);
	else if (status >= 0)
		snprintf(text, room,
			 "Its worker process ended with status %d without saying why. The log's last lines: %s",
			 WEXITSTATUS(status), tail);
	else
		snprintf(text, room,
			 "Its worker process ended while no service was there to see how. The log's last lines: %s",
			 tail);
}

/* Lock held: keep the reason with the VM. */
static void note_end(struct service *s, const char *id, const char *reason)
{
	struct error e;
	json_t *vm = store_find(s->store, STORE_VM, id);
	if (!vm || !strcmp(get_text(vm, "EndReason"), reason))
		return;
	json_t *copy = json_deep_copy(vm);
	json_object_set_new(copy, "EndReason", text_json(reason));
	/* From here on vm may be gone: the copy took its place. */
	if (store_put(s->store, STORE_VM, copy, &e))
		log_line("The end of %s cannot be noted: %s", get_text(copy, "Name"), e.text);
	if (*reason)
		log_line("%s (%s) is off: %s", get_text(copy, "Name"), id, reason);
	json_decref(copy);
}

static void *watcher_run(void *arg)
{
	struct machine *m = arg;
	struct service *s = m->service;
	struct error e;
	char reason[TAIL_SIZE + 256];
	int status = -1;
	json_t *record = rpc_request(m->watch, "Worker.Watch", NULL, -1, NULL, NULL, &e);
	/* The hang-up tells the worker that its end was heard. */
	rpc_hang_up(m->watch);
	service_lock(s);
	if (m->leaving) {
		service_unlock(s);
		json_decref(record);
		return NULL;
	}
	service_unlock(s);
	struct pollfd p = { .fd = m->process, .events = POLLIN };
	while (m->process >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	if (m->child)
		waitpid(m->pid, &status, 0);
	service_lock(s);
	if (!record)
		record = take_end_record(m->id);
	end_reason(m, record, status, reason, sizeof reason);
	remove_sockets(m->id);
	note_end(s, m->id, reason);
	json_decref(record);
	pthread_detach(pthread_self());
	machine_free(m);
	service_unlock(s);
	return NULL;
}

/* Connect to a worker whose socket is there. */
static int attach(struct machine *m, struct error *e)
{
	char path[PATHS_MAX];
	if (!paths_runtime_file(path, sizeof path, m->id, "ctl"))
		return error_set(e, STATUS_FAULT, "The path of the worker's socket is too long.");
	m->control = rpc_connect(path, e);
	m->watch = m->control ? rpc_connect(path, e) : NULL;
	if (!m->watch)
		return -1;
	/* A worker that does not answer now is a worker all the same. */
	m->pid = rpc_peer(m->control);
	json_t *state = machine_ask(m, "Worker.State", NULL, e);
	m->state = !strcmp(get_text(state, "State"), "Paused") ? MACHINE_PAUSED : MACHINE_RUNNING;
	json_decref(state);
	if (m->process < 0)
		m->process = process_open(m->pid);
	if (!m->config)
		m->config = machine_ask(m, "Worker.Config", NULL, e);
	m->promised = get_integer(m->config, "Memory");
	m->memory_status = "OK";
	if (pthread_create(&m->watcher, NULL, watcher_run, m))
		return error_set(e, STATUS_FAULT, "No thread can be started to watch the worker.");
	m->watched = true;
	pthread_cond_broadcast(&m->service->changed);
	return 0;
}

/* Starting. */

/* A file without a name that holds the text, to be read from its beginning. */
static int text_file(const char *text)
{
	int fd = memfd_create("nestor-worker", MFD_CLOEXEC);
	size_t n = strlen(text);
	if (fd >= 0 && (write(fd, text, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* In the new process: only what is safe between fork and exec. */
_Noreturn static void become_worker(const char *program, char *const argv[], int in, int out, int err)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close_range(FIRST_OTHER_FD, ~0u, 0);
	execv(program, argv);
	static const char said[] = "nestor: the worker's program cannot be started\n";
	ssize_t done = write(STDERR_FILENO, said, sizeof said - 1);
	(void)done;
	_exit(STATUS_FAULT);
}

static pid_t spawn(struct machine *m, json_t *config, int *answer, struct error *e)
{
	char *const argv[] = { "nestor", "worker", "--id", m->id, NULL };
	const char *program = paths_executable();
	int out[2] = { -1, -1 };
	pid_t pid = -1;
	char *text = json_dumps(config, JSON_COMPACT);
	int in = text ? text_file(text) : -1;
	int err = open(paths_log(m->id), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	m->log_begin = err < 0 ? 0 : lseek(err, 0, SEEK_END);
	free(text);
	if (in < 0 || pipe2(out, O_CLOEXEC))
		error_set(e, STATUS_FAULT, "The worker's pipes cannot be made (%s).", strerror(errno));
	else if (err < 0)
		error_set(e, STATUS_FILE, "The log %s cannot be written (%s).", paths_log(m->id),
			  strerror(errno));
	else if ((pid = fork()) < 0)
		error_set(e, STATUS_FAULT, "No process can be made for the worker (%s).",
			  strerror(errno));
	else if (!pid)
		become_worker(program, argv, in, out[1], err);
	if (in >= 0)
		close(in);
	if (err >= 0)
		close(err);
	if (out[1] >= 0)
		close(out[1]);
	*answer = out[0];
	if (pid < 0 && out[0] >= 0)
		close(out[0]);
	return pid;
}

/* Its one line. NULL: none came; with errno ETIMEDOUT: in time. */
static json_t *read_answer(int fd)
{
	char line[LINE_SIZE];
	size_t used = 0;
	int64_t until = service_now() + READY_MS;
	while (used < sizeof line - 1 && !memchr(line, '\n', used)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - service_now();
		errno = ETIMEDOUT;
		if (left <= 0 || !poll(&p, 1, (int)left))
			break;
		ssize_t n = read(fd, line + used, sizeof line - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	return json_loadb(line, used, JSON_DISABLE_EOF_CHECK, NULL);
}

/* The child's end, which is near; its record, where it left one. */
static json_t *wait_end(struct machine *m, int *status)
{
	struct pollfd p = { .fd = m->process, .events = POLLIN };
	if (poll(&p, 1, ASK_MS) != 1)
		machine_kill(m);
	waitpid(m->pid, status, 0);
	return take_end_record(m->id);
}

int machine_start(struct service *s, const char *id, json_t *config, struct error *e)
{
	struct machine *m = machine_new(s, id);
	int answer = -1, status = 0, result = 0;
	m->config = config;
	m->promised = get_integer(config, "Memory");
	m->memory_status = "OK";
	m->state = MACHINE_STARTING;
	m->child = true;
	remove_sockets(id);
	m->pid = spawn(m, config, &answer, e);
	if (m->pid < 0) {
		machine_free(m);
		return -1;
	}
	m->process = process_open(m->pid);
	service_unlock(s);
	json_t *ready = read_answer(answer);
	close(answer);
	service_lock(s);
	if (ready && get_true(ready, "Ready")) {
		result = attach(m, e);
	} else if (ready) {
		result = error_set(e, (enum exit_status)get_integer(ready, "Status"), "%s",
				   get_text(ready, "Error"));
	} else {
		char tail[TAIL_SIZE];
		log_tail(id, m->log_begin, tail, sizeof tail);
		result = error_set(e, STATUS_FAULT,
			"Its worker process ended, or did not say in time that it is ready. The log's last lines: %.600s",
			tail);
	}
	if (result && !m->watched) {
		if (!get_true(ready, "Ready"))
			machine_kill(m);
		/* It said it is ready and is gone already: started, and ended. */
		json_t *record = wait_end(m, &status);
		if (get_true(ready, "Ready")) {
			char reason[TAIL_SIZE + 256];
			end_reason(m, record, status, reason, sizeof reason);
			note_end(s, id, reason);
			result = record ? 0 : error_set(e, STATUS_FAULT, "%.900s", reason);
		}
		json_decref(record);
		remove_sockets(id);
		machine_free(m);
	}
	json_decref(ready);
	return result;
}

/* Finding. */

/* Of the file ID.KIND in the runtime folder the id; false: it is another kind's. */
static bool id_of_file(const char *file, const char *kind, char id[STORE_ID_SIZE])
{
	if (strlen(file) < STORE_ID_SIZE || strcmp(file + STORE_ID_SIZE - 1, kind))
		return false;
	memcpy(id, file, STORE_ID_SIZE - 1);
	id[STORE_ID_SIZE - 1] = '\0';
	return store_id_valid(id);
}

/* It ended while no service was there. */
static void note_unseen_end(struct service *s, struct machine *m, const char *id)
{
	char reason[TAIL_SIZE + 256];
	json_t *record = take_end_record(id);
	end_reason(m, record, -1, reason, sizeof reason);
	json_decref(record);
	remove_sockets(id);
	note_end(s, id, reason);
}

static void find_worker(struct service *s, const char *id)
{
	struct error e;
	struct machine *m = machine_new(s, id);
	if (!attach(m, &e)) {
		log_line("Found the worker of %s again (process %d).", id, (int)m->pid);
		return;
	}
	note_unseen_end(s, m, id);
	machine_free(m);
}

void machines_find(struct service *s)
{
	char id[STORE_ID_SIZE];
	DIR *folder = opendir(paths_runtime());
	if (!folder)
		return;
	for (struct dirent *d; (d = readdir(folder));)
		if (id_of_file(d->d_name, ".ctl", id) && !machine_find(s, id))
			find_worker(s, id);
	/* Those that ended in order took their sockets away and left only the reason. */
	rewinddir(folder);
	for (struct dirent *d; (d = readdir(folder));)
		if (id_of_file(d->d_name, ".ended", id) && !machine_find(s, id)) {
			struct machine unknown = { 0 };
			snprintf(unknown.id, sizeof unknown.id, "%s", id);
			note_unseen_end(s, &unknown, id);
		}
	closedir(folder);
}

void machines_leave(struct service *s)
{
	for (struct machine *m = s->machines; m; m = m->next) {
		m->leaving = true;
		if (m->watch)
			rpc_hang_up(m->watch);
	}
	while (s->machines) {
		struct machine *m = s->machines;
		service_unlock(s);
		if (m->watched)
			pthread_join(m->watcher, NULL);
		service_lock(s);
		machine_free(m);
	}
}

/* CPU usage. */

/* User and system time of a process in clock ticks. */
static uint64_t process_ticks(pid_t pid)
{
	char path[64], text[1024];
	unsigned long long user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	char *after = strrchr(text, ')');	/* the name may hold anything */
	if (after)
		sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
		       &system);
	return user + system;
}

void machines_tick(struct service *s)
{
	long per_second = sysconf(_SC_CLK_TCK), processors = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t now = (uint64_t)service_now();
	for (struct machine *m = s->machines; m; m = m->next) {
		if (m->cpu_at && now - m->cpu_at < USAGE_EVERY_MS)
			continue;
		uint64_t ticks = process_ticks(m->pid);
		if (m->cpu_at && now > m->cpu_at && ticks >= m->cpu_ticks) {
			uint64_t ms = (ticks - m->cpu_ticks) * MS_PER_SECOND / (uint64_t)per_second;
			m->cpu_usage = (unsigned)(ms * PERCENT / (now - m->cpu_at) /
						  (uint64_t)processors);
		}
		m->cpu_ticks = ticks;
		m->cpu_at = now;
	}
}
