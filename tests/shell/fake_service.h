/* A service of canned answers, for the shell's tests.
 *
 * The file is a list of {"method", "when": members that the parameters must
 * have, "answer": the result or "error": a sentence}; the first that fits
 * answers, and what nothing fits gets an empty result. Each call can be written
 * to a stream, so that a transcript shows what was bound. */
#ifndef NESTOR_TESTS_SHELL_FAKE_SERVICE_H
#define NESTOR_TESTS_SHELL_FAKE_SERVICE_H

#include "shell/shell.h"

#include <string.h>

struct fake_service {
	json_t *answers;
	FILE *log;	/* NULL: calls are not shown */
};

static bool fake_fits(const json_t *when, const json_t *params)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)when, key, v)
		if (!json_equal(v, json_object_get(params, key)))
			return false;
	return true;
}

static json_t *fake_call(void *owner, const char *method, json_t *params,
			 void (*progress)(void *argument, const char *text, int percent), void *argument,
			 struct error *e)
{
	struct fake_service *f = owner;
	json_t *entry;
	size_t i;
	if (f->log && strncmp(method, "Service.", 8)) {
		char *s = json_dumps(params, 0);
		fprintf(f->log, "-> %s %s\n", method, s);
		free(s);
	}
	json_array_foreach(f->answers, i, entry) {
		json_t *error = json_object_get(entry, "error");
		if (strcmp(value_text(entry, "method"), method) || !fake_fits(json_object_get(entry, "when"), params))
			continue;
		if (error) {
			error_set(e, STATUS_FILE, "%s", json_string_value(error));
			return NULL;
		}
		return json_deep_copy(json_object_get(entry, "answer"));
	}
	return json_pack("{s:[],s:[],s:[]}", "objects", "messages", "errors");
}

static inline struct shell_service fake_service(struct fake_service *f)
{
	return (struct shell_service){ .owner = f, .call = fake_call };
}

#endif
