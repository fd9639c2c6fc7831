/* A device: one struct of state with its reset, save and load beside it.
 * A chip embeds struct device as its first member. */
#ifndef NESTOR_BUS_DEVICE_H
#define NESTOR_BUS_DEVICE_H

#include "base/state.h"

struct device;

struct device_ops {
	const char *name;	/* the section in a saved state: at most 15 bytes */
	void (*reset)(struct device *d);	/* power-on state; also initialises */
	void (*save)(const struct device *d, struct state *s);
	int (*load)(struct device *d, struct state *s, struct error *e);
};

struct device {
	const struct device_ops *ops;
};

#endif
