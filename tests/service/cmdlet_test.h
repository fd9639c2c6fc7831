/* For tests of cmdlets: calls as JSON texts, answers taken apart. */
#ifndef NESTOR_TESTS_CMDLET_TEST_H
#define NESTOR_TESTS_CMDLET_TEST_H

#include "service/call.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Asks and returns the whole result; the test's own. */
static json_t *ask(const char *method, json_t *params);

static json_t *last;	/* the last result */

/* Call with params as a JSON text, ' for " and formatted. */
static void run(const char *method, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void run(const char *method, const char *format, ...)
{
	char text[4096];
	json_error_t why;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	for (char *at = text; *at; at++)
		if (*at == '\'')
			*at = '"';
	json_t *params = json_loads(text, 0, &why);
	if (!params)
		print_error("%s: %s\n", text, why.text);
	assert_non_null(params);
	json_decref(last);
	last = ask(method, params);
	assert_non_null(last);
}

static size_t objects(void)
{
	return json_array_size(json_object_get(last, "objects"));
}

static json_t *object(size_t i)
{
	return json_array_get(json_object_get(last, "objects"), i);
}

static json_t *error(size_t i)
{
	return json_array_get(json_object_get(last, "errors"), i);
}

static void assert_fine(const char *file, int line)
{
	if (error(0))
		print_error("%s:%d: %s / %s\n", file, line, get_text(error(0), "message"),
			    get_text(error(0), "reason"));
	_assert_int_equal(json_array_size(json_object_get(last, "errors")), 0, file, line);
}

/* The call goes well. */
#define fine(...) do { run(__VA_ARGS__); assert_fine(__FILE__, __LINE__); } while (0)

static void assert_holds(const char *key, const char *part, const char *file, int line)
{
	const char *text = get_text(error(0), key);
	if (!strstr(text, part)) {
		print_error("%s:%d: \"%s\" is not in %s: \"%s\"\n", file, line, part, key, text);
		_fail(file, line);
	}
}
/* The last call failed; these members of its first error hold these parts. */
#define says(message_part, reason_part) do { \
	assert_holds("message", message_part, __FILE__, __LINE__); \
	assert_holds("reason", reason_part, __FILE__, __LINE__); } while (0)
/* Which is the way out. */
#define offers(part) assert_holds("try", part, __FILE__, __LINE__)

/* A message of a stream holds the part. */
static inline bool heard(const char *stream, const char *part)
{
	json_t *m;
	size_t i;
	bool found = false;
	json_array_foreach(json_object_get(last, "messages"), i, m)
		if (!strcmp(get_text(m, "stream"), stream) && strstr(get_text(m, "text"), part))
			found = true;
	return found;
}

#define is(key, text) assert_string_equal(get_text(object(0), key), text)
#define is_number(key, n) assert_int_equal(get_integer(object(0), key), n)

#endif
