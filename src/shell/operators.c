#include "shell/operators.h"

#include "base/log.h"

#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GROUPS 10	/* $0 to $9 */
#define WIDTH_MAX 1000
#define DIGITS_MAX 15

/* 0, or -1 when thrown. */
static int compile(struct shell *sh, regex_t *re, const char *pattern, bool exact_case)
{
	struct text t = { 0 };
	/* \d and \D are not POSIX's. */
	for (; *pattern; pattern++) {
		if (pattern[0] == '\\' && (pattern[1] == 'd' || pattern[1] == 'D')) {
			text_add(&t, pattern[1] == 'd' ? "[0-9]" : "[^0-9]");
			pattern++;
		} else if (pattern[0] == '\\' && pattern[1]) {
			text_add_bytes(&t, pattern, 2);
			pattern++;
		} else {
			text_add_bytes(&t, pattern, 1);
		}
	}
	char *translated = text_take(&t);
	int r = regcomp(re, translated, REG_EXTENDED | (exact_case ? 0 : REG_ICASE));
	if (r)
		shell_throwf(sh, "InvalidOperation", "InvalidRegularExpression", NULL,
			     "\"%s\" is not a regular expression.", translated);
	free(translated);
	return r ? -1 : 0;
}

int operator_match(struct shell *sh, const char *s, const char *pattern, bool exact_case)
{
	regex_t re;
	if (compile(sh, &re, pattern, exact_case))
		return -1;
	int r = !regexec(&re, s, 0, NULL, 0);
	regfree(&re);
	return r;
}

/* The text that stands for a match. */
static void add_replacement(struct text *t, const char *with, const char *s, const regmatch_t *groups)
{
	for (; *with; with++) {
		bool braced = with[0] == '$' && with[1] == '{' && isdigit((unsigned char)with[2]) && with[3] == '}';
		if (with[0] == '$' && (braced || isdigit((unsigned char)with[1]))) {
			const regmatch_t *g = &groups[with[braced ? 2 : 1] - '0'];
			if (g->rm_so >= 0)
				text_add_bytes(t, s + g->rm_so, (size_t)(g->rm_eo - g->rm_so));
			with += braced ? 3 : 1;
		} else if (with[0] == '$' && with[1] == '$') {
			text_add(t, "$");
			with++;
		} else {
			text_add_bytes(t, with, 1);
		}
	}
}

static json_t *replaced(const regex_t *re, const char *s, const char *with)
{
	regmatch_t groups[GROUPS];
	struct text t = { 0 };
	int flags = 0;
	text_add(&t, "");
	while (!regexec(re, s, GROUPS, groups, flags)) {
		text_add_bytes(&t, s, (size_t)groups[0].rm_so);
		add_replacement(&t, with, s, groups);
		bool empty = groups[0].rm_so == groups[0].rm_eo;
		s += groups[0].rm_eo;
		if (empty && !*s)
			break;
		if (empty)	/* one character on, as it is */
			text_add_bytes(&t, s++, 1);
		flags = REG_NOTBOL;
	}
	text_add(&t, s);
	char *all = text_take(&t);
	json_t *v = json_string(all);
	free(all);
	return v ? v : json_null();
}

/* The n-th of the values on the right, as a text that the caller frees; NULL: not there. */
static char *right_value(const json_t *right, size_t n)
{
	if (!json_is_array(right))
		return n ? NULL : value_string(right);
	json_t *v = json_array_get(right, n);
	return v ? value_string(v) : NULL;
}

json_t *operator_replace(struct shell *sh, const json_t *left, const json_t *right, bool exact_case)
{
	char *pattern = right_value(right, 0), *with = right_value(right, 1);
	regex_t re;
	json_t *result = NULL, *child;
	size_t i;
	if (!compile(sh, &re, pattern ? pattern : "", exact_case)) {
		if (json_is_array(left)) {
			result = json_array();
			json_array_foreach((json_t *)left, i, child) {
				char *s = value_string(child);
				json_array_append_new(result, replaced(&re, s, with ? with : ""));
				free(s);
			}
		} else {
			char *s = value_string(left);
			result = replaced(&re, s, with ? with : "");
			free(s);
		}
		regfree(&re);
	}
	free(pattern);
	free(with);
	return result;
}

static void split_one(json_t *parts, const regex_t *re, const char *s, long most)
{
	regmatch_t at;
	size_t before = json_array_size(parts);
	const char *from = s;
	while ((most <= 0 || (long)(json_array_size(parts) - before) < most - 1) && !regexec(re, from, 1, &at, 0)) {
		if (at.rm_so == at.rm_eo)	/* nothing to split at */
			break;
		json_array_append_new(parts, json_stringn(s, (size_t)(from - s + at.rm_so)));
		from = s = from + at.rm_eo;
	}
	json_array_append_new(parts, json_string(s));
}

json_t *operator_split(struct shell *sh, const json_t *left, const json_t *right, bool exact_case)
{
	char *pattern = right_value(right, 0), *most = right_value(right, 1);
	regex_t re;
	json_t *parts = NULL, *child;
	size_t i;
	if (!compile(sh, &re, pattern ? pattern : "", exact_case)) {
		json_t *list = json_is_array(left) ? json_incref((json_t *)left) : json_pack("[O]", left);
		parts = json_array();
		json_array_foreach(list, i, child) {
			char *s = value_string(child);
			split_one(parts, &re, s, most ? strtol(most, NULL, 10) : 0);
			free(s);
		}
		json_decref(list);
		regfree(&re);
	}
	free(pattern);
	free(most);
	return parts;
}

/* 1234567.5 with `digits` behind the point and commas between the thousands. */
static void add_grouped(struct text *t, double n, int digits)
{
	char s[400];
	snprintf(s, sizeof(s), "%.*f", digits, n);
	size_t whole = strcspn(s, ".");
	for (size_t i = 0; i < whole; i++) {
		text_add_bytes(t, s + i, 1);
		size_t left = whole - 1 - i;
		if (left && left % 3 == 0 && isdigit((unsigned char)s[i]))
			text_add(t, ",");
	}
	text_add(t, s + whole);
}

/* A value by a format such as N2, F1, D3, X4, P0, or 0.00; -1: there is no such format. */
static int add_by_format(struct text *t, const json_t *v, const char *format)
{
	json_t *number = value_number(v);
	char *end, kind = (char)toupper((unsigned char)format[0]);
	long digits = strtol(format + 1, &end, 10);
	bool letter = isalpha((unsigned char)format[0]) && !*end && digits >= 0 && digits <= DIGITS_MAX;
	bool counted = format[0] && format[1];
	double n = json_number_value(number);
	int r = 0;
	if (!number || json_is_string(v)) {
		/* As there, a format does nothing to what is no number. */
		char *s = value_string(v);
		text_add(t, s);
		free(s);
	} else if (letter && kind == 'N') {
		add_grouped(t, n, counted ? (int)digits : 2);
	} else if (letter && kind == 'F') {
		text_addf(t, "%.*f", counted ? (int)digits : 2, n);
	} else if (letter && kind == 'P') {
		add_grouped(t, n * 100, counted ? (int)digits : 2);
		text_add(t, "%");
	} else if (letter && kind == 'D' && json_is_integer(number)) {
		text_addf(t, n < 0 ? "-%0*lld" : "%0*lld", (int)digits, llabs((long long)json_integer_value(number)));
	} else if (letter && kind == 'X' && json_is_integer(number)) {
		text_addf(t, format[0] == 'X' ? "%0*llX" : "%0*llx", (int)digits, (long long)json_integer_value(number));
	} else if (letter && kind == 'G') {
		text_addf(t, "%.*g", counted ? (int)digits : DIGITS_MAX, n);
	} else if (strspn(format, "0") == strcspn(format, ".") && strspn(format, "0.") == strlen(format)) {
		const char *point = strchr(format, '.');
		size_t behind = point ? strlen(point + 1) : 0;
		text_addf(t, "%0*.*f", (int)strlen(format), (int)behind, n);
	} else {
		r = -1;
	}
	json_decref(number);
	return r;
}

/* One {index,width:format} after its brace; where it ends, NULL when thrown. */
static const char *add_item(struct shell *sh, struct text *t, const char *s, const json_t *values)
{
	char *end, format[32] = "";
	long index = isdigit((unsigned char)*s) ? strtol(s, &end, 10) : -1, width = 0;
	if (index >= 0 && *end == ',')
		width = strtol(end + 1, &end, 10);
	if (index >= 0 && *end == ':') {
		size_t n = strcspn(end + 1, "}");
		snprintf(format, sizeof(format), "%.*s", (int)n, end + 1);
		end += 1 + n;
	}
	if (index < 0 || *end != '}' || labs(width) > WIDTH_MAX)
		return shell_throwf(sh, "InvalidOperation", "FormatError", "{{ and }} are a { and a }.",
				    "The text before -f has a { that is not followed by a number and a }.");
	const json_t *v = json_is_array(values) ? json_array_get(values, (size_t)index) : index ? NULL : values;
	if (!v)
		return shell_throwf(sh, "InvalidOperation", "FormatError", NULL,
				    "The text before -f names the value {%ld}, and there are not so many.", index);
	struct text item = { 0 };
	if (*format ? add_by_format(&item, v, format) : 0) {
		free(item.data);
		return shell_throwf(sh, "InvalidOperation", "FormatError", NULL,
			"The format \"%s\" is not known; there are N2, F2, D3, X4, P1, G and 0.00.", format);
	}
	char *shown = *format ? text_take(&item) : value_string(v);
	int pad = (int)labs(width) - (int)text_columns(shown);
	text_addf(t, "%*s%s%*s", width > 0 && pad > 0 ? pad : 0, "", shown, width < 0 && pad > 0 ? pad : 0, "");
	free(shown);
	return end + 1;
}

json_t *operator_format(struct shell *sh, const json_t *left, const json_t *right)
{
	char *pattern = value_string(left);
	struct text t = { 0 };
	const char *s = pattern;
	text_add(&t, "");
	while (s && *s) {
		if ((*s == '{' || *s == '}') && s[1] == *s) {
			text_add_bytes(&t, s, 1);
			s += 2;
		} else if (*s == '{') {
			s = add_item(sh, &t, s + 1, right);
		} else {
			text_add_bytes(&t, s++, 1);
		}
	}
	free(pattern);
	char *all = text_take(&t);
	json_t *v = s ? json_string(all) : NULL;
	free(all);
	return v || !s ? v : json_null();
}
