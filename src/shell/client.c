#include "shell/client.h"

#include "base/log.h"
#include "service/client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct client {
	struct rpc_client *rpc;	/* NULL: not connected */
};

struct progress {
	void (*show)(void *argument, const char *text, int percent);
	void *argument;
};

static struct rpc_client *volatile waiting;	/* for a signal's handler */

struct client *client_create(void)
{
	return alloc_zeroed(1, sizeof(struct client));
}

void client_destroy(struct client *c)
{
	rpc_disconnect(c->rpc);
	free(c);
}

static void on_progress(void *owner, const char *method, json_t *params)
{
	struct progress *p = owner;
	json_t *percent = json_object_get(params, "percent");
	if (p->show && !strcmp(method, "progress"))
		p->show(p->argument, value_text(params, "text"),
			json_is_integer(percent) ? (int)json_integer_value(percent) : -1);
}

static json_t *client_call(void *owner, const char *method, json_t *params,
			   void (*show)(void *argument, const char *text, int percent), void *argument,
			   struct error *e)
{
	struct client *c = owner;
	struct progress p = { show, argument };
	if (!c->rpc) {
		int fd = service_connect(e);
		if (fd < 0) {
			e->status = STATUS_FILE;	/* not reached, whatever the reason */
			return NULL;
		}
		c->rpc = rpc_client_of(fd);
	}
	/* Relative paths are the caller's, and the service is elsewhere. */
	json_t *copy = json_copy(params);
	char *here = getcwd(NULL, 0);
	json_t *location = here && strncmp(method, "Service.", 8) ? json_string(here) : NULL;
	if (location)
		json_object_set_new(copy, "$Location", location);
	free(here);
	waiting = c->rpc;
	json_t *result = rpc_request(c->rpc, method, copy, -1, on_progress, &p, e);
	waiting = NULL;
	if (!result) {
		/* Whatever is left on the line is no answer to the next call. */
		rpc_disconnect(c->rpc);
		c->rpc = NULL;
	}
	return result;
}

void client_interrupt(void)
{
	if (waiting)
		rpc_hang_up(waiting);
}

struct shell_service client_service(struct client *c)
{
	return (struct shell_service){ .owner = c, .call = client_call };
}
