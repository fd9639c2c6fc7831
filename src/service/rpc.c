/* The server's side of JSON-RPC.
 *
 * A client's bytes gather in client->in; take_line() takes the next line when
 * no call of that client is under way. The text of an answer is made in the
 * thread that answers and put on server->outbox; the loop's thread, woken by an
 * async handle, writes it. So a client belongs to the loop's thread alone, and
 * a call refers to it by number, since it may be gone by then.
 *
 * Whatever a client sends, it gets an error or is hung up on; only a broken
 * invariant of ours ends the process. */
#include "service/rpc.h"

#include "base/bits.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, BACKLOG = 16, SOCKET_MODE = 0600 };

struct client {
	uv_pipe_t pipe;
	struct rpc_server *server;
	struct client *next;
	uint64_t number;
	char *in;
	size_t used, room;
	struct rpc_call *active;
	bool paused;	/* not read from while it has sent enough */
	bool closing;
	bool last;	/* hang up after what is being written */
};

struct message {
	struct message *next;
	uint64_t client;
	char *text;		/* NULL: nothing to send */
	struct rpc_call *ends;	/* the call that this answers */
};

struct rpc_server {
	uv_loop_t *loop;
	uv_pipe_t listener;
	uv_async_t async;
	struct rpc_events events;
	char path[sizeof ((struct sockaddr_un *)0)->sun_path];
	bool listening, closed;
	struct client *clients;
	uint64_t numbers;
	unsigned calls;
	pthread_mutex_t lock;	/* guards the outbox */
	struct message *outbox, **outbox_end;
};

struct rpc_call {
	struct rpc_server *server;
	uint64_t client;
	char *method;
	json_t *params;
	json_t *id;		/* NULL: a notification, which gets no answer */
	atomic_bool abandoned;
};

struct write {
	uv_write_t request;
	struct client *client;
	char *text;
};

static void take_lines(struct client *c);

/* Answers. */

static void post(struct rpc_server *s, uint64_t client, char *text, struct rpc_call *ends)
{
	struct message *m = alloc_zeroed(1, sizeof *m);
	m->client = client;
	m->text = text;
	m->ends = ends;
	pthread_mutex_lock(&s->lock);
	*s->outbox_end = m;
	s->outbox_end = &m->next;
	uv_async_send(&s->async);
	pthread_mutex_unlock(&s->lock);
}

static char *text_of(json_t *object)
{
	size_t n = json_dumpb(object, NULL, 0, JSON_COMPACT);
	char *text = alloc_zeroed(n + 2, 1);
	if (!n || json_dumpb(object, text, n, JSON_COMPACT) != n)
		panic("a JSON text cannot be written");
	text[n] = '\n';
	json_decref(object);
	return text;
}

static json_t *error_of(enum rpc_code code, const char *message)
{
	return json_pack("{s:i,s:s}", "code", (int)code, "message", message);
}

/* key and value: "result" or "error". */
static char *answer_text(json_t *id, const char *key, json_t *value)
{
	return text_of(json_pack("{s:s,s:o,s:o}", "jsonrpc", "2.0", "id",
				 id ? json_incref(id) : json_null(), key, value));
}

static void end(struct rpc_call *c, const char *key, json_t *value)
{
	char *text = NULL;
	if (c->id)
		text = answer_text(c->id, key, value);
	else
		json_decref(value);
	post(c->server, c->client, text, c);
}

void rpc_answer(struct rpc_call *c, json_t *result)
{
	end(c, "result", result ? result : json_null());
}

void rpc_refuse(struct rpc_call *c, enum rpc_code code, const char *message)
{
	end(c, "error", error_of(code, message));
}

void rpc_notify(struct rpc_call *c, const char *method, json_t *params)
{
	post(c->server, c->client, text_of(json_pack("{s:s,s:s,s:o}", "jsonrpc", "2.0",
		"method", method, "params", params)), NULL);
}

bool rpc_abandoned(const struct rpc_call *c)
{
	return atomic_load(&c->abandoned);
}

const char *rpc_method(const struct rpc_call *c)
{
	return c->method;
}

json_t *rpc_params(const struct rpc_call *c)
{
	return c->params;
}

json_t *rpc_id(const struct rpc_call *c)
{
	return c->id;
}

unsigned rpc_calls(const struct rpc_server *s)
{
	return s->calls;
}

unsigned rpc_clients(const struct rpc_server *s)
{
	unsigned n = 0;
	for (struct client *c = s->clients; c; c = c->next)
		n++;
	return n;
}

static void changed(struct rpc_server *s)
{
	if (s->events.changed && !s->closed)
		s->events.changed(s->events.owner);
}

/* Clients. */

static void client_closed(uv_handle_t *handle)
{
	struct client *c = handle->data;
	free(c->in);
	free(c);
}

static void client_close(struct client *c)
{
	struct rpc_server *s = c->server;
	if (c->closing)
		return;
	c->closing = true;
	for (struct client **at = &s->clients; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	if (c->active)
		atomic_store(&c->active->abandoned, true);
	uv_close((uv_handle_t *)&c->pipe, client_closed);
	changed(s);
}

static void written(uv_write_t *request, int status)
{
	struct write *w = container_of(request, struct write, request);
	struct client *c = w->client;
	free(w->text);
	free(w);
	/* The client is still there: its handle's close callback comes later. */
	if (status < 0 || (c->last && !uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe)))
		client_close(c);
}

/* text is taken over. */
static void client_write(struct client *c, char *text)
{
	struct write *w;
	size_t n = strlen(text);
	if (c->closing ||
	    uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) + n > RPC_UNREAD_MAX) {
		free(text);
		client_close(c);
		return;
	}
	w = alloc_zeroed(1, sizeof *w);
	w->client = c;
	w->text = text;
	uv_buf_t buffer = uv_buf_init(text, (unsigned)n);
	if (uv_write(&w->request, (uv_stream_t *)&c->pipe, &buffer, 1, written)) {
		free(w->text);
		free(w);
		client_close(c);
	}
}

static struct client *client_of(struct rpc_server *s, uint64_t number)
{
	struct client *c = s->clients;
	while (c && c->number != number)
		c = c->next;
	return c;
}

static void call_free(struct rpc_call *call)
{
	json_decref(call->params);
	json_decref(call->id);
	free(call->method);
	free(call);
}

static void deliver(struct rpc_server *s, struct message *m)
{
	struct client *c = client_of(s, m->client);
	if (m->text && c)
		client_write(c, m->text);
	else
		free(m->text);
	if (m->ends) {
		s->calls--;
		c = client_of(s, m->client);	/* writing may have closed it */
		if (c) {
			c->active = NULL;
			take_lines(c);
		}
		call_free(m->ends);
		changed(s);
	}
	free(m);
}

static void take_outbox(struct rpc_server *s)
{
	pthread_mutex_lock(&s->lock);
	struct message *m = s->outbox;
	s->outbox = NULL;
	s->outbox_end = &s->outbox;
	pthread_mutex_unlock(&s->lock);
	while (m) {
		struct message *next = m->next;
		deliver(s, m);
		m = next;
	}
}

static void outbox_ready(uv_async_t *async)
{
	take_outbox(async->data);
}

/* Requests. */

static void refuse_line(struct client *c, json_t *id, enum rpc_code code, const char *message)
{
	client_write(c, answer_text(id, "error", error_of(code, message)));
}

/* One line, without its end. */
static void take_line(struct client *c, const char *line, size_t n)
{
	struct rpc_server *s = c->server;
	json_error_t why;
	char text[256];
	if (!n || (n == 1 && line[0] == '\r'))
		return;
	json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!request) {
		snprintf(text, sizeof text, "The line is no JSON text: %s (byte %d).",
			 why.text, why.position);
		refuse_line(c, NULL, RPC_PARSE_ERROR, text);
		return;
	}
	json_t *id = json_object_get(request, "id");
	json_t *params = json_object_get(request, "params");
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	const char *method = json_string_value(json_object_get(request, "method"));
	bool id_fits = !id || json_is_string(id) || json_is_number(id) || json_is_null(id);
	const char *bad = NULL;
	if (json_is_array(request))
		bad = "A batch (an array of requests) is not taken; send them one by one.";
	else if (!json_is_object(request) || !version || strcmp(version, "2.0") || !method ||
		 !id_fits)
		bad = "A request is an object with \"jsonrpc\":\"2.0\", \"method\" and \"id\".";
	if (bad) {
		refuse_line(c, id_fits ? id : NULL, RPC_INVALID_REQUEST, bad);
	} else if (params && !json_is_object(params)) {
		refuse_line(c, id, RPC_INVALID_PARAMS, "The parameters are an object, by name.");
	} else {
		struct rpc_call *call = alloc_zeroed(1, sizeof *call);
		call->server = s;
		call->client = c->number;
		call->method = alloc_string(method);
		call->params = params ? json_incref(params) : json_object();
		call->id = json_incref(id);
		c->active = call;
		s->calls++;
		s->events.call(s->events.owner, call);
	}
	json_decref(request);
}

static void allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer)
{
	struct client *c = handle->data;
	if (c->room - c->used < READ_SIZE) {
		c->room = c->used + READ_SIZE;
		c->in = alloc_resize(c->in, c->room, 1);
	}
	*buffer = uv_buf_init(c->in + c->used, (unsigned)(c->room - c->used));
}

static void bytes_came(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct client *c = stream->data;
	if (n < 0) {
		client_close(c);
		return;
	}
	c->used += (size_t)n;
	take_lines(c);
}

static void take_lines(struct client *c)
{
	while (!c->active && !c->closing && !c->last) {
		char *end_of_line = c->used ? memchr(c->in, '\n', c->used) : NULL;
		if (!end_of_line && c->used < RPC_LINE_MAX)
			break;
		if (!end_of_line || end_of_line - c->in > RPC_LINE_MAX) {
			c->last = true;
			refuse_line(c, NULL, RPC_INVALID_REQUEST,
				    "The request is longer than 1 MiB.");
			break;
		}
		size_t n = (size_t)(end_of_line - c->in);
		char *line = alloc_zeroed(n + 1, 1);
		memcpy(line, c->in, n);
		c->used -= n + 1;
		memmove(c->in, end_of_line + 1, c->used);
		take_line(c, line, n);
		free(line);
	}
	/* Reading goes on during a call, so that a hang-up is seen. */
	bool enough = c->used >= RPC_LINE_MAX || c->last;
	if (c->closing || enough == c->paused)
		return;
	c->paused = enough;
	if (enough)
		uv_read_stop((uv_stream_t *)&c->pipe);
	else
		uv_read_start((uv_stream_t *)&c->pipe, allocate, bytes_came);
}

/* Only our own user and root may ask anything. */
static bool peer_allowed(uv_pipe_t *pipe)
{
	struct ucred peer;
	socklen_t n = sizeof peer;
	uv_os_fd_t fd;
	if (uv_fileno((uv_handle_t *)pipe, &fd) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n))
		return false;
	if (peer.uid == geteuid() || !peer.uid)
		return true;
	log_line("A process of user %u was turned away; only user %u and root may connect.",
		 peer.uid, geteuid());
	return false;
}

static void client_came(uv_stream_t *listener, int status)
{
	struct rpc_server *s = listener->data;
	if (status < 0)
		return;
	struct client *c = alloc_zeroed(1, sizeof *c);
	c->server = s;
	c->number = ++s->numbers;
	uv_pipe_init(s->loop, &c->pipe, 0);
	c->pipe.data = c;
	c->next = s->clients;
	s->clients = c;
	if (uv_accept(listener, (uv_stream_t *)&c->pipe) || !peer_allowed(&c->pipe)) {
		client_close(c);
		return;
	}
	uv_read_start((uv_stream_t *)&c->pipe, allocate, bytes_came);
	if (rpc_clients(s) > RPC_CLIENTS_MAX) {
		c->last = true;
		refuse_line(c, NULL, RPC_INTERNAL_ERROR, "Too many clients are connected.");
	}
	changed(s);
}

/* The server. */

struct rpc_server *rpc_listen(uv_loop_t *loop, const char *path,
			      const struct rpc_events *events, struct error *e)
{
	struct rpc_server *s = alloc_zeroed(1, sizeof *s);
	int failed;
	if (strlen(path) >= sizeof s->path) {
		error_set(e, STATUS_USAGE,
			"The socket's path %s is too long (a socket's may have %zu bytes); choose a shorter folder with XDG_RUNTIME_DIR or NESTOR_RUNTIME.",
			path, sizeof s->path - 1);
		free(s);
		return NULL;
	}
	strcpy(s->path, path);
	s->loop = loop;
	s->events = *events;
	s->outbox_end = &s->outbox;
	pthread_mutex_init(&s->lock, NULL);
	uv_pipe_init(loop, &s->listener, 0);
	uv_async_init(loop, &s->async, outbox_ready);
	s->listener.data = s;
	s->async.data = s;
	unlink(path);
	mode_t old = umask(~SOCKET_MODE & 0777);
	failed = uv_pipe_bind(&s->listener, path);
	umask(old);
	if (!failed)
		failed = uv_listen((uv_stream_t *)&s->listener, BACKLOG, client_came);
	if (failed) {
		error_set(e, STATUS_FILE, "The socket %s cannot be made (%s).", path,
			  uv_strerror(failed));
		s->listening = false;
		rpc_close(s);
		uv_run(loop, UV_RUN_NOWAIT);
		rpc_free(s);
		return NULL;
	}
	s->listening = true;
	return s;
}

void rpc_stop_listening(struct rpc_server *s)
{
	if (!s->listening)
		return;
	s->listening = false;
	uv_close((uv_handle_t *)&s->listener, NULL);	/* unlinks the path */
}

void rpc_close(struct rpc_server *s)
{
	if (s->closed)
		return;
	s->closed = true;
	if (!uv_is_closing((uv_handle_t *)&s->listener))
		uv_close((uv_handle_t *)&s->listener, NULL);
	s->listening = false;
	while (s->clients)
		client_close(s->clients);
	uv_close((uv_handle_t *)&s->async, NULL);
}

void rpc_free(struct rpc_server *s)
{
	take_outbox(s);
	if (s->calls)
		panic("a server goes while %u of its calls are unanswered", s->calls);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
