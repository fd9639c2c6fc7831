/* Processor and memory settings, for their own cmdlets and Set-VM. */
#ifndef NESTOR_SERVICE_DEVICE_H
#define NESTOR_SERVICE_DEVICE_H

#include "service/call.h"

/* Take Set-VM's parameters about them into the VM's copy. -1 with an error of
 * the call. */
int device_set_processor(struct call *c, json_t *copy);
int device_set_memory(struct call *c, json_t *copy);

#endif
