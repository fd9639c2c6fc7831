/* The shell's connection to the service, which is started when it is absent. */
#ifndef NESTOR_SHELL_CLIENT_H
#define NESTOR_SHELL_CLIENT_H

#include "shell/shell.h"

struct client;

struct client *client_create(void);
void client_destroy(struct client *c);
/* Connects at the first call. */
struct shell_service client_service(struct client *c);
/* End a call that waits; a signal's handler may do it. */
void client_interrupt(void);

#endif
