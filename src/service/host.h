/* The service of a host: what its VMs do when the host starts and stops. */
#ifndef NESTOR_SERVICE_HOST_H
#define NESTOR_SERVICE_HOST_H

#include "service/service.h"

/* Start, in a thread of its own, what AutomaticStartAction says. */
void host_begin(struct service *s);
/* Do what AutomaticStopAction says with every VM that runs, and come back when none does.
 * The lock is not held. */
void host_end(struct service *s);

#endif
