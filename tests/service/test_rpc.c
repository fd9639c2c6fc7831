/* JSON-RPC: what clients may send, and what the server makes of it. */
#include "base/bits.h"
#include "service/client.h"
#include "service/rpc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWER_MS = 5000, FUZZ_LINES = 3000, FUZZ_LENGTH = 60, LONG = (1 << 20) + 10 };

static char folder[] = "/tmp/test_rpc.XXXXXX", path[64];
static uv_loop_t loop;
static uv_async_t quit;
static struct rpc_server *server;
static pthread_t thread;
static struct rpc_call *held;	/* by "hold" until "release" */
static atomic_int hold_abandoned;

static void *hold_run(void *arg)
{
	struct rpc_call *c = arg;
	for (unsigned i = 0; i < 300 && !rpc_abandoned(c); i++)
		usleep(10000);
	hold_abandoned = rpc_abandoned(c);
	rpc_answer(c, json_true());
	return NULL;
}

static void on_call(void *owner, struct rpc_call *c)
{
	const char *method = rpc_method(c);
	pthread_t t;
	if (!strcmp(method, "echo")) {
		rpc_answer(c, json_incref(rpc_params(c)));
	} else if (!strcmp(method, "progress")) {
		rpc_notify(c, "progress", json_pack("{s:i}", "percent", 50));
		rpc_answer(c, json_integer(7));
	} else if (!strcmp(method, "thread")) {
		pthread_create(&t, NULL, hold_run, c);
		pthread_detach(t);
	} else if (!strcmp(method, "hold")) {
		held = c;
	} else if (!strcmp(method, "release")) {
		rpc_answer(held, json_string("held"));
		rpc_answer(c, json_true());
	} else {
		rpc_refuse(c, RPC_METHOD_NOT_FOUND, "no such method");
	}
}

static void on_quit(uv_async_t *async)
{
	rpc_close(server);
	uv_close((uv_handle_t *)&quit, NULL);
}

static void *loop_run(void *arg)
{
	uv_run(&loop, UV_RUN_DEFAULT);
	return NULL;
}

static int start(void **state)
{
	struct rpc_events events = { on_call, NULL, NULL };
	struct error e = { 0 };
	uv_loop_init(&loop);
	uv_async_init(&loop, &quit, on_quit);
	server = rpc_listen(&loop, path, &events, &e);
	return !server || pthread_create(&thread, NULL, loop_run, NULL);
}

static int stop(void **state)
{
	uv_async_send(&quit);
	pthread_join(thread, NULL);
	rpc_free(server);
	return uv_loop_close(&loop);
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void say(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t done = send(fd, text, n, MSG_NOSIGNAL);
		if (done < 0)
			return;		/* it hung up, which some tests want */
		text += done;
		n -= (size_t)done;
	}
}

/* The next line as JSON; NULL: hung up. Fails the test when nothing comes. */
static json_t *hear(int fd)
{
	static char line[2 << 20];
	size_t n = 0;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, ANSWER_MS), 1);
		if (recv(fd, line + n, 1, 0) != 1)
			return NULL;
		if (line[n++] == '\n')
			break;
	}
	json_t *j = json_loadb(line, n, 0, NULL);
	assert_non_null(j);
	return j;
}

static int error_code(json_t *answer)
{
	return (int)json_integer_value(json_object_get(json_object_get(answer, "error"), "code"));
}

static const char echo[] = "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"echo\",\"params\":{\"a\":1}}\n";

static void assert_works(int fd)
{
	say(fd, echo, sizeof echo - 1);
	json_t *j = hear(fd);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 5);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "result"), "a")), 1);
	json_decref(j);
}

static void bad_lines_are_answered_not_fatal(void **state)
{
	static const struct { const char *line; size_t size; int code; } bad[] = {
#define LINE(text, code) { text "\n", sizeof text, code }
		LINE("x", RPC_PARSE_ERROR),
		LINE("{", RPC_PARSE_ERROR),
		LINE("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"echo\"}", RPC_PARSE_ERROR),
		LINE("\0\0", RPC_PARSE_ERROR),
		LINE("\xff\xfe", RPC_PARSE_ERROR),
		LINE("\"\\u0000\"", RPC_PARSE_ERROR),
		LINE("17", RPC_INVALID_REQUEST),
		LINE("null", RPC_INVALID_REQUEST),
		LINE("[]", RPC_INVALID_REQUEST),
		LINE("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}]", RPC_INVALID_REQUEST),
		LINE("{}", RPC_INVALID_REQUEST),
		LINE("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"echo\"}", RPC_INVALID_REQUEST),
		LINE("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"echo\"}", RPC_INVALID_REQUEST),
		LINE("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", RPC_INVALID_REQUEST),
		LINE("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[1]}", RPC_INVALID_PARAMS),
		LINE("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nothing\"}", RPC_METHOD_NOT_FOUND),
	};
	int fd = dial();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		say(fd, bad[i].line, bad[i].size);
		json_t *j = hear(fd);
		assert_int_equal(error_code(j), bad[i].code);
		json_decref(j);
		assert_works(fd);
	}
	close(fd);
}

static void deep_nesting_is_answered(void **state)
{
	enum { DEPTH = 100000 };
	char *text = malloc(DEPTH + 1);
	int fd = dial();
	memset(text, '[', DEPTH);
	text[DEPTH] = '\n';
	say(fd, text, DEPTH + 1);
	json_t *j = hear(fd);
	assert_int_equal(error_code(j), RPC_PARSE_ERROR);
	json_decref(j);
	assert_works(fd);
	free(text);
	close(fd);
}

static void a_request_too_long_ends_its_client_only(void **state)
{
	char *text = malloc(LONG);
	int fd = dial(), other = dial();
	memset(text, 'a', LONG);
	say(fd, text, LONG);
	json_t *j = hear(fd);
	assert_int_equal(error_code(j), RPC_INVALID_REQUEST);
	json_decref(j);
	assert_null(hear(fd));
	assert_works(other);
	free(text);
	close(fd);
	close(other);
}

static void a_request_byte_by_byte(void **state)
{
	int fd = dial();
	for (unsigned i = 0; i < sizeof echo - 2; i++)
		say(fd, echo + i, 1);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 50), 0);
	say(fd, "\n", 1);
	json_t *j = hear(fd);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 5);
	json_decref(j);
	close(fd);
}

static void one_client_in_order_several_side_by_side(void **state)
{
	static const char two[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n"
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\"}\n";
	static const char release[] = "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"release\"}\n";
	int fd = dial(), other = dial();
	say(fd, two, sizeof two - 1);
	assert_works(other);	/* while the first waits */
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 50), 0);
	say(other, release, sizeof release - 1);
	json_t *j = hear(fd);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 1);
	json_decref(j);
	j = hear(fd);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 2);
	json_decref(j);
	json_decref(hear(other));
	close(fd);
	close(other);
}

static void a_notification_gets_no_answer(void **state)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n";
	int fd = dial();
	say(fd, line, sizeof line - 1);
	assert_works(fd);	/* the first answer is to this */
	close(fd);
}

static void a_call_learns_that_its_client_left(void **state)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"thread\"}\n";
	int fd = dial();
	hold_abandoned = 0;
	say(fd, line, sizeof line - 1);
	usleep(50000);
	close(fd);
	for (unsigned i = 0; i < 200 && !hold_abandoned; i++)
		usleep(10000);
	assert_true(hold_abandoned);
	fd = dial();
	assert_works(fd);
	close(fd);
}

static void random_lines(void **state)
{
	static const char letters[] = "{}[]\":,01eE+-.truefalsn\\u \t\xff\x80jsonrpc2idmethodparams";
	int fd = dial();
	srand(7);
	for (unsigned i = 0; i < FUZZ_LINES; i++) {
		char line[FUZZ_LENGTH + 1];
		unsigned n = 1 + (unsigned)rand() % (FUZZ_LENGTH - 1);
		for (unsigned b = 0; b < n; b++)
			line[b] = letters[(unsigned)rand() % (sizeof letters - 1)];
		line[0] = '{';	/* never blank: every line gets an answer */
		line[n] = '\n';
		say(fd, line, n + 1);
		json_t *j = hear(fd);
		assert_true(error_code(j) < 0);
		json_decref(j);
	}
	assert_works(fd);
	close(fd);
}

static void the_socket_is_its_users_alone(void **state)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void count_progress(void *owner, const char *method, json_t *params)
{
	assert_string_equal(method, "progress");
	*(int *)owner += (int)json_integer_value(json_object_get(params, "percent"));
}

static void the_blocking_client(void **state)
{
	struct error e = { 0 };
	struct rpc_client *c = rpc_connect(path, &e);
	int percent = 0;
	assert_non_null(c);
	json_t *j = rpc_request(c, "progress", NULL, ANSWER_MS, count_progress, &percent, &e);
	assert_int_equal(json_integer_value(j), 7);
	assert_int_equal(percent, 50);
	json_decref(j);
	assert_null(rpc_request(c, "nothing", NULL, ANSWER_MS, NULL, NULL, &e));
	assert_string_equal(e.text, "no such method");
	assert_null(rpc_request(c, "thread", NULL, 50, NULL, NULL, &e));
	assert_string_equal(e.text, "No answer came in time.");
	hold_abandoned = 0;
	rpc_disconnect(c);
	for (unsigned i = 0; i < 200 && !hold_abandoned; i++)
		usleep(10000);
	assert_true(hold_abandoned);
	usleep(10000);		/* its answer, which nobody wants, is on its way */
	assert_null(rpc_connect("/nonexistent/socket", &e));
	assert_int_equal(errno, ENOENT);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)
int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(bad_lines_are_answered_not_fatal),
		WITH_SERVER(deep_nesting_is_answered),
		WITH_SERVER(a_request_too_long_ends_its_client_only),
		WITH_SERVER(a_request_byte_by_byte),
		WITH_SERVER(one_client_in_order_several_side_by_side),
		WITH_SERVER(a_notification_gets_no_answer),
		WITH_SERVER(a_call_learns_that_its_client_left),
		WITH_SERVER(random_lines),
		WITH_SERVER(the_socket_is_its_users_alone),
		WITH_SERVER(the_blocking_client),
	};
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/socket", folder);
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(folder);
	return result;
}
