/* A value in a parameter's type. What PowerShell refuses and people write all
 * the same (True, on, 1 for a Boolean) is accepted. */
#include "shell/binder.h"

#include "base/bits.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

static const struct {
	enum parameter_type type;
	int64_t minimum, maximum;
} ranges[] = {
	{ INT64, INT64_MIN, INT64_MAX }, { INT32, INT32_MIN, INT32_MAX }, { INT16, INT16_MIN, INT16_MAX },
	{ UINT64, 0, INT64_MAX }, { UINT32, 0, UINT32_MAX }, { UINT16, 0, UINT16_MAX }, { BYTE, 0, UINT8_MAX },
};

static void *fail(char **why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void *fail(char **why, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	if (vasprintf(why, format, list) < 0)
		panic("out of memory");
	va_end(list);
	return NULL;
}

static json_t *convert_integer(const struct parameter *p, const json_t *v, char **why)
{
	int64_t minimum = 0, maximum = 0, i;
	for (unsigned n = 0; n < ARRAY_SIZE(ranges); n++)
		if (ranges[n].type == TYPE_OF(p)) {
			minimum = ranges[n].minimum;
			maximum = ranges[n].maximum;
		}
	char *s = value_string(v);
	json_t *number = value_number(v), *result = NULL;
	if (json_is_string(v) && !*s) {
		json_decref(number);
		number = NULL;
	}
	if (!number) {
		fail(why, "\"%s\" is not a whole number%s.", s,
		     p->type == UINT64 || p->type == INT64 ? " (4GB and 512MB are)" : "");
	} else if (json_is_real(number) && !(json_real_value(number) >= -9.2e18 && json_real_value(number) <= 9.2e18)) {
		fail(why, "%s is too large.", s);
	} else {
		/* As there, a fraction is rounded to the nearest whole number. */
		i = json_is_real(number) ? (int64_t)__builtin_llrint(json_real_value(number)) :
			(int64_t)json_integer_value(number);
		int64_t low = p->minimum || p->maximum ? p->minimum : minimum;
		int64_t high = p->minimum || p->maximum ? p->maximum : maximum;
		if (i < low || i > high)
			fail(why, "%s is not between %lld and %lld.", s, (long long)low, (long long)high);
		else
			result = json_integer(i);
	}
	json_decref(number);
	free(s);
	return result;
}

static json_t *convert_boolean(const json_t *v, char **why)
{
	static const struct { const char *word; bool value; } words[] = {
		{ "true", true }, { "$true", true }, { "on", true }, { "yes", true }, { "1", true },
		{ "false", false }, { "$false", false }, { "off", false }, { "no", false }, { "0", false },
	};
	if (json_is_boolean(v))
		return json_incref((json_t *)v);
	if (json_is_number(v))
		return json_boolean(value_true(v));
	const char *s = json_string_value(v);
	for (unsigned i = 0; s && i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(s, words[i].word))
			return json_boolean(words[i].value);
	char *text = value_string(v);
	fail(why, "\"%s\" is neither $true nor $false.", text);
	free(text);
	return NULL;
}

static json_t *convert_enum(const struct parameter *p, const json_t *v, char **why)
{
	char item[64], *s = value_string(v);
	json_t *found = NULL;
	unsigned matches = 0;
	if (json_is_boolean(v) && list_has(p->values, "On")) {
		free(s);
		return json_string(value_true(v) ? "On" : "Off");
	}
	if (list_has(p->values, "On") && list_has("true,$true", s)) {
		free(s);
		return json_string("On");
	}
	if (list_has(p->values, "On") && list_has("false,$false", s)) {
		free(s);
		return json_string("Off");
	}
	/* -ErrorAction 0 is what many scripts say. */
	if (!strncmp(p->values, "SilentlyContinue,", 17) && isdigit((unsigned char)*s) && !s[1] &&
	    list_item(p->values, (unsigned)(*s - '0'), item, sizeof(item))) {
		free(s);
		return json_string(item);
	}
	for (unsigned i = 0; *s && list_item(p->values, i, item, sizeof(item)); i++) {
		bool exact = !strcasecmp(item, s);
		if (!exact && strncasecmp(item, s, strlen(s)))
			continue;
		if (exact)
			matches = 0;
		json_decref(found);
		found = json_string(item);
		matches++;
		if (exact)
			break;
	}
	if (matches != 1) {
		json_decref(found);
		found = NULL;
		struct text all = { 0 };
		for (unsigned i = 0; list_item(p->values, i, item, sizeof(item)); i++)
			text_addf(&all, "%s%s", i ? ", " : "", item);
		fail(why, "\"%s\" is not one of %s.", s, all.data);
		free(all.data);
	}
	free(s);
	return found;
}

static bool is_guid(const char *s, char *out)
{
	size_t n = strlen(s);
	if (n == 38 && s[0] == '{' && s[37] == '}') {
		s++;
		n = 36;
	}
	if (n != 36)
		return false;
	for (unsigned i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
		out[i] = (char)tolower((unsigned char)s[i]);
	}
	out[36] = 0;
	return true;
}

static bool is_version(const char *s)
{
	unsigned parts = 0;
	for (;; s++) {
		if (!isdigit((unsigned char)*s))
			return false;
		while (isdigit((unsigned char)*s))
			s++;
		parts++;
		if (!*s)
			return parts >= 1 && parts <= 4;
		if (*s != '.')
			return false;
	}
}

static json_t *convert_string(const struct parameter *p, const json_t *v, char **why)
{
	char guid[37], *s = value_string(v);
	json_t *result = NULL;
	if (json_is_array(v) && TYPE_OF(p) != STRING)
		fail(why, "Several values are given where one is wanted.");
	else if (TYPE_OF(p) == GUID && !is_guid(s, guid))
		fail(why, "\"%s\" is not a GUID.", s);
	else if (TYPE_OF(p) == VERSION && !is_version(s))
		fail(why, "\"%s\" is not a version such as 9.0.", s);
	else if (!*s && (p->mandatory || (p->type & LIST)))
		fail(why, "The value is empty.");
	else if (TYPE_OF(p) == VERSION && !strchr(s, '.'))
		result = json_sprintf("%s.0", s);
	else
		result = json_string(TYPE_OF(p) == GUID ? guid : s);
	free(s);
	if (!result && !*why)
		fail(why, "The value is no text.");
	return result;
}

/* Seconds: a number of them, or [d.]hh:mm[:ss]. */
static json_t *convert_timespan(const json_t *v, char **why)
{
	char *s = value_string(v), tail;
	unsigned d = 0, h, m, sec = 0;
	json_t *result = NULL;
	if (json_is_number(v))
		result = json_incref((json_t *)v);
	else if (sscanf(s, "%u.%u:%u:%u%c", &d, &h, &m, &sec, &tail) == 4 ||
		 (d = 0, sscanf(s, "%u:%u:%u%c", &h, &m, &sec, &tail) == 3) ||
		 (sec = 0, sscanf(s, "%u:%u%c", &h, &m, &tail) == 2))
		result = json_integer(((d * 24ll + h) * 60 + m) * 60 + sec);
	else if (value_parse_number(s, &result))
		result = fail(why, "\"%s\" is not a time such as 00:05:00.", s);
	free(s);
	return result;
}

static json_t *convert_object(const struct parameter *p, const json_t *v, char **why)
{
	if (!json_is_object(v) || !list_has(p->values, value_type(v))) {
		char *s = value_string(v);
		char first[64] = "object";
		list_item(p->values, 0, first, sizeof(first));
		fail(why, "\"%s\" is not a %s object.", s, first);
		free(s);
		return NULL;
	}
	/* The service knows its objects by their Id; one without goes whole. */
	static const char *const keys[] = { "Id", "VMId" };
	json_t *reference = json_object();
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *id = value_property(v, keys[i]);
		if (id)
			json_object_set(reference, keys[i], id);
	}
	if (!value_property(v, "Id")) {
		json_decref(reference);
		reference = json_copy((json_t *)v);
		json_object_del(reference, TYPE_KEY);
	}
	return reference;
}

static json_t *convert_one(const struct parameter *p, const json_t *v, char **why)
{
	switch (TYPE_OF(p)) {
	case INT64: case INT32: case INT16: case UINT64: case UINT32: case UINT16: case BYTE:
		return convert_integer(p, v, why);
	case BOOLEAN: case SWITCH:
		return convert_boolean(v, why);
	case ENUM:
		return convert_enum(p, v, why);
	case STRING: case GUID: case VERSION:
		return convert_string(p, v, why);
	case TIMESPAN:
		return convert_timespan(v, why);
	case OBJECT:
		return convert_object(p, v, why);
	case BLOCK:
		if (!value_is_block(v))
			return fail(why, "A script block { ... } is wanted.");
		return json_incref((json_t *)v);
	case ANY:
		break;
	}
	return json_incref((json_t *)v);
}

json_t *parameter_convert(const struct parameter *p, const struct argument *a, const json_t *v, char **why)
{
	const json_t *child;
	size_t i;
	*why = NULL;
	if (!(p->type & LIST)) {
		/* A list of one is that one; the shell's own cmdlets may take any value. */
		if (json_is_array(v) && json_array_size(v) == 1 && TYPE_OF(p) != ANY)
			v = json_array_get(v, 0);
		if (json_is_null(v) && TYPE_OF(p) != ANY && p->mandatory)
			return fail(why, "The value is null.");
		if (json_is_array(v) && TYPE_OF(p) != ANY && TYPE_OF(p) != STRING)
			return fail(why, "Several values are given where one is wanted.");
		return convert_one(p, v, why);
	}
	json_t *list = json_array(), *one;
	if (json_is_array(v)) {
		json_array_foreach((json_t *)v, i, child) {
			one = convert_one(p, child, why);
			if (!one) {
				json_decref(list);
				return NULL;
			}
			json_array_append_new(list, one);
		}
		return list;
	}
	const char *s = json_string_value(v);
	if (a && a->word && s && strchr(s, ',') && TYPE_OF(p) != OBJECT && strcmp(p->name, "Path")) {
		/* A Unix shell leaves a,b one word; in a path the comma is the file's. */
		for (const char *end; s; s = end ? end + 1 : NULL) {
			end = strchr(s, ',');
			json_t *word = json_stringn(s, end ? (size_t)(end - s) : strlen(s));
			one = convert_one(p, word, why);
			json_decref(word);
			if (!one) {
				json_decref(list);
				return NULL;
			}
			json_array_append_new(list, one);
		}
		return list;
	}
	one = json_is_null(v) && TYPE_OF(p) != ANY ? fail(why, "The value is null.") : convert_one(p, v, why);
	if (!one) {
		json_decref(list);
		return NULL;
	}
	json_array_append_new(list, one);
	return list;
}
