/* The engines of this build, fastest first. */
#ifndef NESTOR_ENGINES_H
#define NESTOR_ENGINES_H

#include "engine/engine.h"

extern const struct engine_ops *const engines[];
extern const unsigned engines_count;

#endif
