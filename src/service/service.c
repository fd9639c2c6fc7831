/* nestor service: one per user, started by the first command, gone when idle.
 *
 * The main thread runs libuv's loop: clients, a tick every second, signals. A
 * call that comes in gets a thread of its own (call_run). Going: when no client
 * is connected, no call runs and no machine runs for a while, the socket's file
 * goes first, so that a new client starts a new service; who had connected in
 * that moment sees a hang-up and tries again (service_connect). SIGTERM ends
 * the service at once: every change is on the disk when it is answered, and
 * the workers go on. With --host it is the host's init that starts and ends it;
 * it never goes by itself, and VMs start and stop with it (host.h). */
#include "service/service.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/balance.h"
#include "service/call.h"
#include "service/client.h"
#include "service/host.h"
#include "service/machine.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/roles.h"
#include "service/switches.h"
#include "service/vm_object.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	IDLE_SECONDS = 10,
	TICK_MS = 1000,
	MS_PER_SECOND = 1000,
	NS_PER_MS = 1000000,
	NS_A_SECOND = 1000000000,
	CALL_STACK = 1 << 20,
	PRIVATE_MASK = 077,
	ANSWER_MS = 10000,
	GIVE_WAY_MS = 20,
};

struct loop {
	uv_loop_t uv;
	uv_timer_t tick;
	uv_signal_t terminate, interrupt, hang_up;
	uv_async_t stopped;	/* the host's VMs have */
	struct rpc_server *server;
	struct service *service;
	uint64_t idle_since;	/* ticks */
	unsigned idle_seconds;
	bool going;
	bool ending;	/* the host stops: its VMs are stopped first */
};

struct call_start {
	struct service *service;
	struct rpc_call *rpc;
};

int64_t service_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * MS_PER_SECOND + t.tv_nsec / NS_PER_MS;
}

void service_lock(struct service *s)
{
	pthread_mutex_lock(&s->lock);
}

void service_unlock(struct service *s)
{
	pthread_mutex_unlock(&s->lock);
}

void service_wait(struct service *s, unsigned ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / MS_PER_SECOND;
	until.tv_nsec += (long)(ms % MS_PER_SECOND) * NS_PER_MS;
	until.tv_sec += until.tv_nsec / NS_A_SECOND;
	until.tv_nsec %= NS_A_SECOND;
	pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

struct service *service_create(struct error *e)
{
	struct service *s = alloc_zeroed(1, sizeof *s);
	pthread_condattr_t attr;
	s->store = store_open(paths_store(), e);
	if (!s->store) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	service_lock(s);
	vm_complete_all(s);
	network_ensure_default(s);
	machines_find(s);
	service_unlock(s);
	return s;
}

void service_destroy(struct service *s)
{
	service_lock(s);
	switches_leave(s);
	machines_leave(s);
	service_unlock(s);
	store_close(s->store);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Calls. */

static void *call_run(void *arg)
{
	struct call_start *start = arg;
	struct service *s = start->service;
	struct rpc_call *rpc = start->rpc;
	free(start);
	service_lock(s);
	json_t *result = service_run(s, rpc_method(rpc), rpc_params(rpc), rpc);
	service_unlock(s);
	if (result)
		rpc_answer(rpc, result);
	else
		rpc_refuse(rpc, RPC_METHOD_NOT_FOUND, "This service has no such cmdlet.");
	return NULL;
}

static void on_call(void *owner, struct rpc_call *rpc)
{
	struct loop *l = owner;
	struct call_start *start = alloc_zeroed(1, sizeof *start);
	pthread_attr_t attr;
	pthread_t thread;
	start->service = l->service;
	start->rpc = rpc;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, CALL_STACK);
	if (pthread_create(&thread, &attr, call_run, start)) {
		free(start);
		rpc_refuse(rpc, RPC_INTERNAL_ERROR, "The service cannot start another thread.");
	}
	pthread_attr_destroy(&attr);
}

/* Dynamic Memory and the switches: a thread, since it asks other processes and
 * waits for answers. */
_Noreturn static void *balance_run(void *arg)
{
	static const struct timespec second = { 1, 0 };
	struct service *s = arg;
	for (;;) {
		nanosleep(&second, NULL);
		service_lock(s);
		balance_tick(s);
		switches_tick(s);
		service_unlock(s);
	}
}

static int start_balance(struct service *s, struct error *e)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, balance_run, s))
		return error_set(e, STATUS_FAULT, "The balancer's thread cannot be started.");
	pthread_detach(thread);
	return 0;
}

/* The loop. */

static void go(struct loop *l)
{
	if (l->going)
		return;
	l->going = true;
	rpc_stop_listening(l->server);
	uv_stop(&l->uv);
}

static void on_tick(uv_timer_t *timer)
{
	struct loop *l = timer->data;
	struct service *s = l->service;
	/* A call may hold the lock for a while; the next second will do. */
	if (pthread_mutex_trylock(&s->lock))
		return;
	s->seconds++;
	machines_tick(s);
	bool busy = s->of_host || s->machines || rpc_clients(l->server) || rpc_calls(l->server);
	if (busy)
		l->idle_since = s->seconds;
	bool idle = s->seconds - l->idle_since >= l->idle_seconds;
	if (idle)
		switches_leave(s);	/* what nobody needs must not stay when nobody looks after it */
	pthread_cond_broadcast(&s->changed);
	service_unlock(s);
	if (idle)
		go(l);
}

static void on_stopped(uv_async_t *async)
{
	go(async->data);
}

static void *end_run(void *arg)
{
	struct loop *l = arg;
	host_end(l->service);
	uv_async_send(&l->stopped);
	return NULL;
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct loop *l = handle->data;
	pthread_t thread;
	if (l->service->of_host && !l->ending) {
		l->ending = true;
		log_line("The host stops (%s); a second signal ends the service at once.", strsignal(number));
		if (!pthread_create(&thread, NULL, end_run, l)) {
			pthread_detach(thread);
			return;
		}
	}
	log_line("The service ends (%s); virtual machines that run go on.", strsignal(number));
	go(l);
}

static void on_hang_up(uv_signal_t *handle, int number)
{
	/* The terminal of the command that started us is nothing to us. */
}

static void watch_signal(struct loop *l, uv_signal_t *handle, int number, uv_signal_cb callback)
{
	uv_signal_init(&l->uv, handle);
	handle->data = l;
	uv_signal_start(handle, callback, number);
	uv_unref((uv_handle_t *)handle);
}

/* 0: it is ours; 1: another service has it; -1. Kept until the process ends. */
static int take_lock(struct error *e)
{
	int fd = open(paths_lock(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(e, STATUS_FILE, "The lock %s cannot be made (%s).", paths_lock(),
				 strerror(errno));
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	close(fd);
	return 1;
}

static unsigned idle_seconds(void)
{
	const char *given = getenv("NESTOR_IDLE_SECONDS");
	unsigned long seconds = given ? strtoul(given, NULL, 10) : 0;
	return seconds ? (unsigned)seconds : IDLE_SECONDS;
}

/* Tell the command that waits for us: ready, or why not. */
static void answer_starter(int fd, const char *text)
{
	if (fd < 0)
		return;
	dprintf(fd, "%s\n", text);
	close(fd);
}

/* Away from the terminal and the command that started us. */
static void go_to_background(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log = open(paths_log("service"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fork() > 0)
		_exit(STATUS_OK);
	setsid();
	if (chdir("/"))
		log_line("/ cannot be entered (%s).", strerror(errno));
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(log >= 0 ? log : null, STDERR_FILENO);
	close(null);
	if (log >= 0)
		close(log);
}

static int serve(int starter, bool of_host, struct error *e)
{
	struct loop *l = alloc_zeroed(1, sizeof *l);
	struct rpc_events events = { on_call, NULL, l };
	l->idle_seconds = idle_seconds();
	uv_loop_init(&l->uv);
	l->service = service_create(e);
	if (!l->service)
		return -1;
	l->service->of_host = of_host;
	l->server = rpc_listen(&l->uv, paths_socket(), &events, e);
	if (!l->server || start_balance(l->service, e))
		return -1;
	uv_timer_init(&l->uv, &l->tick);
	l->tick.data = l;
	uv_timer_start(&l->tick, on_tick, TICK_MS, TICK_MS);
	watch_signal(l, &l->terminate, SIGTERM, on_signal);
	watch_signal(l, &l->interrupt, SIGINT, on_signal);
	watch_signal(l, &l->hang_up, SIGHUP, on_hang_up);
	uv_async_init(&l->uv, &l->stopped, on_stopped);
	l->stopped.data = l;
	if (of_host)
		host_begin(l->service);
	log_line("The service is ready: store %s, socket %s, process %d.", paths_store(),
		 paths_socket(), (int)getpid());
	answer_starter(starter, "");
	uv_run(&l->uv, UV_RUN_DEFAULT);
	log_line("The service has ended.");
	/* Threads of calls and watchers may still run; the end of the process
	 * ends them, and the store is whole at every moment. */
	fflush(NULL);
	_exit(STATUS_OK);
}

/* Ask the service that runs to go; false: it is a host's. One that does not answer yet
 * is asked again. */
static bool asked_to_go(void)
{
	struct error e;
	struct rpc_client *client = rpc_connect(paths_socket(), &e);
	json_t *answer = client ? rpc_request(client, "Service.Hello", json_pack("{s:i}", "version", SERVICE_PROTOCOL),
					      ANSWER_MS, NULL, NULL, &e) : NULL;
	json_t *its = json_array_get(json_object_get(answer, "objects"), 0);
	bool of_host = json_is_true(json_object_get(its, "OfHost"));
	int pid = (int)json_integer_value(json_object_get(its, "ProcessId"));
	if (pid > 0 && !of_host)
		kill(pid, SIGTERM);
	json_decref(answer);
	rpc_disconnect(client);
	return !of_host;
}

/* A service that a command started gives way to the host's: its VMs go on. As take_lock. */
static int replace_service(struct error *e)
{
	int taken = 1;
	for (int64_t until = service_now() + ANSWER_MS; taken > 0 && service_now() < until;) {
		if (!asked_to_go())
			return 1;
		usleep(GIVE_WAY_MS * 1000);
		taken = take_lock(e);
	}
	return taken;
}

int service_main(int argc, char *const argv[])
{
	struct error e = { 0 };
	int starter = -1;
	bool of_host = argc == 1 && !strcmp(argv[0], "--host");
	if (argc == 2 && !strcmp(argv[0], "--background"))
		starter = atoi(argv[1]);
	else if (argc && !of_host) {
		log_line("nestor service takes --host or nothing; it runs until it is told to end, or idle. With --host it also starts and stops virtual machines with the host, as their AutomaticStartAction and AutomaticStopAction say.");
		return STATUS_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a file that may not grow is an error like a full disk */
	umask(PRIVATE_MASK);
	if (starter >= 0)
		fcntl(starter, F_SETFD, FD_CLOEXEC);
	int taken = paths_prepare(&e) ? -1 : 0;
	if (!taken) {
		if (starter >= 0)
			go_to_background();
		taken = take_lock(&e);
	}
	if (taken > 0 && of_host)
		taken = replace_service(&e);
	if (taken > 0) {
		/* Who asked for a service has one. */
		answer_starter(starter, "");
		if (starter < 0)
			log_line("A service of this user runs already; its socket is %s.",
				 paths_socket());
		return starter < 0 ? STATUS_USAGE : STATUS_OK;
	}
	if (taken || serve(starter, of_host, &e)) {
		log_line("%s", e.text);
		answer_starter(starter, e.text);
	}
	return e.status;
}
