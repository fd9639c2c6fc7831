#include "service/client.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_SIZE = 64 << 10,
	ANSWER_MAX = 64 << 20,
	MS_PER_SECOND = 1000,
	NS_PER_MS = 1000000,
	HELLO_MS = 20000,
	START_MS = 30000,
	RETRY_NS = 50 * NS_PER_MS,
};

struct rpc_client {
	int fd;
	json_int_t id;
	char *in;
	size_t used, room;
};

struct rpc_client *rpc_client_of(int fd)
{
	struct rpc_client *c = alloc_zeroed(1, sizeof *c);
	c->fd = fd;
	return c;
}

void rpc_disconnect(struct rpc_client *c)
{
	if (!c)
		return;
	close(c->fd);
	free(c->in);
	free(c);
}

void rpc_hang_up(struct rpc_client *c)
{
	shutdown(c->fd, SHUT_RDWR);
}

int rpc_peer(struct rpc_client *c)
{
	struct ucred peer = { 0 };
	socklen_t n = sizeof peer;
	getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n);
	return peer.pid;
}

static int connect_to(const char *path, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return error_set(e, STATUS_FILE,
			"The socket's path %s is too long; choose a shorter folder with XDG_RUNTIME_DIR or NESTOR_RUNTIME.",
			path);
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, STATUS_FAULT, "No socket can be made (%s).", strerror(errno));
	if (connect(fd, (const struct sockaddr *)&address, sizeof address)) {
		int reason = errno;
		close(fd);
		error_set(e, STATUS_FILE, "Nobody answers at %s (%s).", path, strerror(reason));
		errno = reason;
		return -1;
	}
	return fd;
}

struct rpc_client *rpc_connect(const char *path, struct error *e)
{
	int fd = connect_to(path, e);
	return fd < 0 ? NULL : rpc_client_of(fd);
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * MS_PER_SECOND + t.tv_nsec / NS_PER_MS;
}

/* -1 with the reason. until: -1 for ever. */
static int wait_for(struct rpc_client *c, short events, int64_t until, struct error *e)
{
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = events };
		int64_t left = until < 0 ? -1 : until - now_ms();
		if (until >= 0 && left <= 0)
			return error_set(e, STATUS_FAULT, "No answer came in time.");
		int n = poll(&p, 1, (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return error_set(e, STATUS_FAULT, "The connection fails (%s).",
					 strerror(errno));
	}
}

static int send_all(struct rpc_client *c, const char *text, size_t n, int64_t until,
		    struct error *e)
{
	while (n) {
		ssize_t done = send(c->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && errno == EAGAIN) {
			if (wait_for(c, POLLOUT, until, e))
				return -1;
			continue;
		}
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return error_set(e, STATUS_FAULT, "The connection was closed (%s).",
					 strerror(errno));
		text += done;
		n -= (size_t)done;
	}
	return 0;
}

/* The next line, which the caller frees; NULL with the reason. */
static char *next_line(struct rpc_client *c, int64_t until, struct error *e)
{
	size_t seen = 0;
	for (;;) {
		char *end = c->used > seen ? memchr(c->in + seen, '\n', c->used - seen) : NULL;
		if (end) {
			size_t n = (size_t)(end - c->in);
			char *line = alloc_zeroed(n + 1, 1);
			memcpy(line, c->in, n);
			c->used -= n + 1;
			memmove(c->in, end + 1, c->used);
			return line;
		}
		seen = c->used;
		if (c->used > ANSWER_MAX) {
			error_set(e, STATUS_FAULT, "The answer is longer than 64 MiB.");
			return NULL;
		}
		if (c->room - c->used < READ_SIZE) {
			c->room = c->used + READ_SIZE;
			c->in = alloc_resize(c->in, c->room, 1);
		}
		if (wait_for(c, POLLIN, until, e))
			return NULL;
		ssize_t n = recv(c->fd, c->in + c->used, c->room - c->used, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			error_set(e, STATUS_FAULT, "The connection was closed before the answer came.");
			return NULL;
		}
		c->used += (size_t)n;
	}
}

json_t *rpc_request(struct rpc_client *c, const char *method, json_t *params, int timeout_ms,
		    rpc_progress *progress, void *owner, struct error *e)
{
	int64_t until = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	json_int_t id = ++c->id;
	json_t *request = json_pack("{s:s,s:I,s:s,s:o}", "jsonrpc", "2.0", "id", id,
				    "method", method, "params", params ? params : json_object());
	char *text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!text) {
		error_set(e, STATUS_FAULT, "The request %s is no valid JSON text.", method);
		return NULL;
	}
	size_t n = strlen(text);
	text[n] = '\n';
	int failed = send_all(c, text, n + 1, until, e);
	free(text);
	while (!failed) {
		char *line = next_line(c, until, e);
		if (!line)
			break;
		json_t *message = json_loads(line, 0, NULL);
		free(line);
		json_t *its_id = json_object_get(message, "id");
		if (its_id && json_integer_value(its_id) == id) {
			json_t *result = json_incref(json_object_get(message, "result"));
			const char *why = json_string_value(json_object_get(
				json_object_get(message, "error"), "message"));
			if (!result)
				error_set(e, STATUS_USAGE, "%s", why ? why : "The answer is none.");
			json_decref(message);
			return result;
		}
		/* An error without an id is about a line that could not be read. */
		json_t *error = json_object_get(message, "error");
		const char *name = json_string_value(json_object_get(message, "method"));
		if (error && (!its_id || json_is_null(its_id))) {
			const char *why = json_string_value(json_object_get(error, "message"));
			error_set(e, STATUS_USAGE, "%s", why ? why : "The request was not understood.");
			json_decref(message);
			break;
		}
		if (name && progress)
			progress(owner, name, json_object_get(message, "params"));
		json_decref(message);
	}
	return NULL;
}

/* Starting the service. */

/* Run it in the background: it answers on the pipe with one line, empty when
 * it is ready (or another one was first), else the reason. */
static int start_service(struct error *e)
{
	int answer[2];
	char text[sizeof e->text] = "";
	size_t used = 0;
	if (pipe2(answer, O_CLOEXEC))
		return error_set(e, STATUS_FAULT, "No pipe can be made (%s).", strerror(errno));
	pid_t child = fork();
	if (child < 0) {
		error_set(e, STATUS_FAULT, "The service cannot be started (%s).", strerror(errno));
		close(answer[0]);
		close(answer[1]);
		return -1;
	}
	if (!child) {
		char number[16];
		snprintf(number, sizeof number, "%d", answer[1]);
		fcntl(answer[1], F_SETFD, 0);
		const char *program = paths_executable();
		execl(program, "nestor", "service", "--background", number, (char *)NULL);
		dprintf(answer[1], "The service's program %s cannot be started (%s).\n", program,
			strerror(errno));
		_exit(STATUS_FAULT);
	}
	close(answer[1]);
	while (used < sizeof text - 1) {
		ssize_t n = read(answer[0], text + used, sizeof text - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(answer[0]);
	waitpid(child, NULL, 0);
	text[used] = '\0';
	if (!used)
		return error_set(e, STATUS_FAULT,
			"The service ended while it started; its log is %s.", paths_log("service"));
	text[strcspn(text, "\n")] = '\0';
	if (text[0])
		return error_set(e, STATUS_FAULT, "%s", text);
	return 0;
}

/* A service that is just going may have taken the connection: only one that
 * answered counts. */
static bool answers(int fd, struct error *e)
{
	struct rpc_client c = { .fd = fd };
	json_t *hello = rpc_request(&c, "Service.Hello",
		json_pack("{s:i}", "version", SERVICE_PROTOCOL), HELLO_MS, NULL, NULL, e);
	free(c.in);
	json_decref(hello);
	return hello;
}

int service_connect(struct error *e)
{
	static const struct timespec pause = { 0, RETRY_NS };
	if (paths_prepare(e))
		return -1;
	/* Another command may have begun to start it, and it takes its time. */
	for (int64_t until = now_ms() + START_MS; now_ms() < until;) {
		int fd = connect_to(paths_socket(), e);
		if (fd < 0 && errno != ENOENT && errno != ECONNREFUSED)
			return -1;
		if (fd >= 0 && answers(fd, e))
			return fd;
		if (fd >= 0)
			close(fd);
		else if (start_service(e))
			return -1;
		nanosleep(&pause, NULL);
	}
	return -1;
}
