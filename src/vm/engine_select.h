/* Which engine runs the VM. */
#ifndef NESTOR_VM_ENGINE_SELECT_H
#define NESTOR_VM_ENGINE_SELECT_H

#include "vm/config.h"

/* The engine that --engine asks for, or with auto the first of the candidates
 * (fastest first) that can do everything that is asked. *line then says which
 * and why, in one line. NULL with *e (STATUS_ENGINE, or the engine's own
 * status) when there is none. */
const struct engine_ops *engine_select(const struct vm_config *config,
				       const struct engine_ops *const *candidates,
				       unsigned count, char *line, size_t room,
				       struct error *e);

/* What the engines are told of a VM. */
struct engine_config vm_engine_config(const struct vm_config *config);

/* Whether --engine-options LIST holds this word. */
bool engine_option_given(const char *list, const char *word);

#endif
