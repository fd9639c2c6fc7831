/* The shell's own cmdlets: they touch objects only. */
#ifndef NESTOR_SHELL_OBJECTS_H
#define NESTOR_SHELL_OBJECTS_H

#include "shell/shell.h"

json_t *object_where(struct shell *sh, struct call *call);
json_t *object_select(struct shell *sh, struct call *call);
json_t *object_sort(struct shell *sh, struct call *call);
json_t *object_for_each(struct shell *sh, struct call *call);
json_t *object_measure(struct shell *sh, struct call *call);

json_t *output_write(struct shell *sh, struct call *call);
json_t *output_host(struct shell *sh, struct call *call);
json_t *output_error(struct shell *sh, struct call *call);
json_t *output_shown(struct shell *sh, struct call *call);
json_t *output_null(struct shell *sh, struct call *call);
json_t *output_file(struct shell *sh, struct call *call);
json_t *output_string(struct shell *sh, struct call *call);
json_t *output_table(struct shell *sh, struct call *call);
json_t *output_list(struct shell *sh, struct call *call);
json_t *output_to_json(struct shell *sh, struct call *call);
json_t *output_from_json(struct shell *sh, struct call *call);

json_t *session_sleep(struct shell *sh, struct call *call);
json_t *session_import_module(struct shell *sh, struct call *call);
json_t *session_clear(struct shell *sh, struct call *call);

#endif
