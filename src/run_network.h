/* The networks of `nestor run`: from the command line to a port's socket. */
#ifndef NESTOR_RUN_NETWORK_H
#define NESTOR_RUN_NETWORK_H

#include "vm/config.h"

/* Open every network of the configuration: nat starts a switch process of this
 * VM's own, which ends with it; switch=NAME connects to one that runs. */
int run_networks_open(struct vm_config *c, struct error *e);

#endif
