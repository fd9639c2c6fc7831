/* Starting a VM: every check before anything starts. */
#ifndef NESTOR_SERVICE_START_H
#define NESTOR_SERVICE_START_H

#include "service/call.h"

/* Check and start; waits, so that vm may change meanwhile. -1 with an error of
 * the call. */
int start_vm(struct call *c, json_t *vm);

#endif
