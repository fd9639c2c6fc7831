#include "vm/engine_select.h"

#include <stdio.h>

static const char *const engine_names[] = {
	[VM_ENGINE_AUTO] = "auto", [VM_ENGINE_SOFT] = "soft", [VM_ENGINE_KVM] = "kvm",
};

struct engine_config vm_engine_config(const struct vm_config *config)
{
	return (struct engine_config){
		.processors = config->processors,
		.expose_virtualization_extensions = config->expose_virtualization_extensions,
		.options = config->engine_options,
	};
}

bool engine_option_given(const char *list, const char *word)
{
	size_t n = strlen(word);
	while (list && *list) {
		size_t part = strcspn(list, ",");
		if (part == n && !strncmp(list, word, n))
			return true;
		list += part + (list[part] == ',');
	}
	return false;
}

static int probe(const struct engine_ops *ops, const struct vm_config *config, struct error *e)
{
	struct engine_config asked = vm_engine_config(config);
	if (strcmp(ops->name, "soft") && engine_option_given(config->engine_options, "icount"))
		return error_set(e, STATUS_ENGINE,
			"The engine %s cannot count instructions (--engine-options icount); use --engine soft.",
			ops->name);
	return ops->probe(&asked, e);
}

const struct engine_ops *engine_select(const struct vm_config *config,
				       const struct engine_ops *const *candidates,
				       unsigned count, char *line, size_t room,
				       struct error *e)
{
	const char *wanted = engine_names[config->engine];
	bool any = config->engine == VM_ENGINE_AUTO;
	struct error passed_over = { 0 };
	for (unsigned i = 0; i < count; i++) {
		const struct engine_ops *ops = candidates[i];
		struct error why = { 0 };
		if (!any && strcmp(ops->name, wanted))
			continue;
		if (!probe(ops, config, &why)) {
			snprintf(line, room, "Engine %s, %s%s.", ops->name,
				 !any ? "as asked" : passed_over.text[0] ?
				 "because the faster one cannot serve: " :
				 "because it works here and can do what is asked",
				 passed_over.text);
			size_t n = strlen(line);
			if (n > 1 && line[n - 2] == '.')
				line[n - 1] = '\0';
			return ops;
		}
		passed_over = why;
		if (!any) {
			*e = why;
			return NULL;
		}
	}
	if (!passed_over.text[0])
		error_set(e, STATUS_ENGINE,
			"This build of Nestor has no engine %s; choose another with --engine.",
			wanted);
	else
		*e = passed_over;
	return NULL;
}
