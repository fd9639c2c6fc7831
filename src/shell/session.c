/* Cmdlets about the session itself. */
#include "shell/objects.h"

#include <string.h>
#include <strings.h>
#include <time.h>

json_t *session_sleep(struct shell *sh, struct call *call)
{
	json_t *seconds = json_object_get(call->bound, "Seconds");
	double s = seconds ? json_number_value(seconds) :
		(double)json_integer_value(json_object_get(call->bound, "Milliseconds")) / 1000;
	if (s < 0 || s > 2147483)
		return shell_throwf(sh, "InvalidArgument", "ParameterArgumentValidationError", NULL,
				    "Start-Sleep waits between 0 and 2147483 seconds.");
	fflush(sh->out);
	struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };
	while (nanosleep(&t, &t) && !shell_interrupted)
		;
	return shell_check_interrupt(sh) ? NULL : json_array();
}

json_t *session_import_module(struct shell *sh, struct call *call)
{
	json_t *name;
	size_t i, k;
	json_array_foreach(json_object_get(call->bound, "Name"), i, name) {
		bool known = false;
		const struct cmdlet *c;
		for (k = 0; (c = cmdlet_at((unsigned)k)); k++)
			known |= !strcasecmp(c->module, json_string_value(name));
		if (!known)
			return shell_throwf(sh, "ResourceUnavailable", "Modules_ModuleNotFound",
					    "Get-Command lists what there is; nothing has to be imported.",
					    "The module '%s' is not part of Nestor.", json_string_value(name));
	}
	return json_array();
}

json_t *session_clear(struct shell *sh, struct call *call)
{
	if (sh->interactive)
		fputs("\033[H\033[2J", sh->out);
	return json_array();
}
