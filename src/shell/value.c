#include "shell/value.h"

#include "base/bits.h"
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

void text_add_bytes(struct text *t, const char *s, size_t n)
{
	if (t->size + n + 1 > t->room) {
		t->room = (t->size + n + 1) * 2;
		t->data = alloc_resize(t->data, t->room, 1);
	}
	memcpy(t->data + t->size, s, n);
	t->size += n;
	t->data[t->size] = 0;
}

void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

void text_addf(struct text *t, const char *format, ...)
{
	va_list list;
	char *s = NULL;
	va_start(list, format);
	int n = vasprintf(&s, format, list);
	va_end(list);
	if (n < 0)
		panic("out of memory");
	text_add_bytes(t, s, (size_t)n);
	free(s);
}

char *text_take(struct text *t)
{
	char *s = t->data ? t->data : alloc_string("");
	*t = (struct text){ 0 };
	return s;
}

static void add_string(struct text *t, const json_t *v, const char *separator)
{
	const char *key;
	const json_t *child;
	size_t i;
	bool first = true;
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_NULL:
		break;
	case JSON_TRUE:
		text_add(t, "True");
		break;
	case JSON_FALSE:
		text_add(t, "False");
		break;
	case JSON_INTEGER:
		text_addf(t, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		text_addf(t, "%.15g", json_real_value(v));
		break;
	case JSON_STRING:
		text_add(t, json_string_value(v));
		break;
	case JSON_ARRAY:
		json_array_foreach((json_t *)v, i, child) {
			if (i)
				text_add(t, separator);
			add_string(t, child, separator);
		}
		break;
	case JSON_OBJECT:
		if (!strcmp(value_type(v), "ErrorRecord")) {
			text_add(t, value_text(v, "message"));
			break;
		}
		if (list_has("FormattedText,ErrorCategoryInfo", value_type(v))) {
			text_add(t, value_text(v, "Text"));
			break;
		}
		if (*value_type(v) && value_property(v, "Name")) {
			add_string(t, value_property(v, "Name"), separator);
			break;
		}
		text_add(t, "@{");
		json_object_foreach((json_t *)v, key, child) {
			if (key[0] == '$')
				continue;
			text_addf(t, "%s%s=", first ? "" : "; ", key);
			add_string(t, child, separator);
			first = false;
		}
		text_add(t, "}");
		break;
	}
}

char *value_string(const json_t *v)
{
	struct text t = { 0 };
	add_string(&t, v, " ");
	return text_take(&t);
}

bool value_true(const json_t *v)
{
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_NULL:
	case JSON_FALSE:
		return false;
	case JSON_INTEGER:
		return json_integer_value(v) != 0;
	case JSON_REAL:
		return json_real_value(v) != 0;
	case JSON_STRING:
		return json_string_length(v) != 0;
	case JSON_ARRAY:
		if (json_array_size(v) == 1)
			return value_true(json_array_get(v, 0));
		return json_array_size(v) != 0;
	default:
		return true;
	}
}

static const struct {
	const char *suffix;
	double factor;
} multipliers[] = {
	{ "KB", 1024.0 }, { "MB", 1048576.0 }, { "GB", 1073741824.0 },
	{ "TB", 1099511627776.0 }, { "PB", 1125899906842624.0 },
};

int value_parse_number(const char *s, json_t **out)
{
	char *end;
	bool negative = *s == '-';
	const char *digits = s + (*s == '-' || *s == '+');
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	if (!isdigit((unsigned char)digits[0]) && !(digits[0] == '.' && isdigit((unsigned char)digits[1])))
		return -1;
	errno = 0;
	unsigned long long whole = strtoull(digits + (hex ? 2 : 0), &end, hex ? 16 : 10);
	bool is_whole = !errno && whole <= INT64_MAX && (!hex || end > digits + 2);
	double real = (double)whole;
	if (hex && !is_whole)
		return -1;
	if (!hex && (!is_whole || *end == '.' || *end == 'e' || *end == 'E' || end == digits)) {
		real = strtod(digits, &end);
		is_whole = false;
	}
	if (end > s && end[-1] == '.')
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(multipliers); i++)
		if (!strcasecmp(end, multipliers[i].suffix)) {
			int64_t product;
			if (is_whole && __builtin_mul_overflow((int64_t)whole,
					(int64_t)multipliers[i].factor, &product))
				is_whole = false;
			else if (is_whole)
				whole = (unsigned long long)product;
			real *= multipliers[i].factor;
			end += 2;
			if (!is_whole && real == floor(real) && fabs(real) < 9.0e18) {
				whole = (unsigned long long)real;
				is_whole = true;
			}
			break;
		}
	if (*end || !isfinite(real))
		return -1;
	if (is_whole)
		*out = json_integer(negative ? -(int64_t)whole : (int64_t)whole);
	else
		*out = json_real(negative ? -real : real);
	return 0;
}

json_t *value_number(const json_t *v)
{
	json_t *n;
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_INTEGER:
	case JSON_REAL:
		return json_incref((json_t *)v);
	case JSON_NULL:
	case JSON_FALSE:
		return json_integer(0);
	case JSON_TRUE:
		return json_integer(1);
	case JSON_STRING:
		if (!json_string_length(v))
			return json_integer(0);
		return value_parse_number(json_string_value(v), &n) ? NULL : n;
	default:
		return NULL;
	}
}

json_t *value_property(const json_t *object, const char *name)
{
	const char *key;
	json_t *v = json_object_get(object, name);
	if (v || !json_is_object(object))
		return v;
	json_object_foreach((json_t *)object, key, v)
		if (!strcasecmp(key, name))
			return v;
	return NULL;
}

const char *value_property_name(const json_t *object, const char *name)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)object, key, v)
		if (!strcasecmp(key, name))
			return key;
	return NULL;
}

const char *value_type(const json_t *object)
{
	const char *s = json_string_value(json_object_get(object, TYPE_KEY));
	return s ? s : "";
}

const char *value_text(const json_t *object, const char *name)
{
	const char *s = json_string_value(value_property(object, name));
	return s ? s : "";
}

static int compare_strings(const json_t *a, const json_t *b, bool exact_case)
{
	char *x = value_string(a), *y = value_string(b);
	int d = exact_case ? strcmp(x, y) : strcasecmp(x, y);
	free(x);
	free(y);
	return d;
}

int value_compare(const json_t *a, const json_t *b, bool exact_case)
{
	if (json_is_number(a) || (json_is_boolean(a) && !json_is_string(b))) {
		json_t *x = value_number(a), *y = value_number(b);
		int d = 1;
		if (y && json_is_integer(x) && json_is_integer(y))
			d = (json_integer_value(x) > json_integer_value(y)) -
				(json_integer_value(x) < json_integer_value(y));
		else if (y)
			d = (json_number_value(x) > json_number_value(y)) -
				(json_number_value(x) < json_number_value(y));
		json_decref(x);
		json_decref(y);
		return d;
	}
	return compare_strings(a, b, exact_case);
}

bool value_equal(const json_t *a, const json_t *b, bool exact_case)
{
	bool a_null = !a || json_is_null(a), b_null = !b || json_is_null(b);
	if (a_null || b_null)
		return a_null && b_null;
	if (json_is_boolean(a))
		return value_true(a) == value_true(b);
	if (json_is_object(a) || json_is_array(a))
		return json_equal((json_t *)a, (json_t *)b);
	return !value_compare(a, b, exact_case);
}

bool value_like(const char *s, const char *pattern, bool exact_case)
{
	return !fnmatch(pattern, s, FNM_NOESCAPE | (exact_case ? 0 : FNM_CASEFOLD));
}

bool value_has_wildcard(const char *s)
{
	return strpbrk(s, "*?[") != NULL;
}

bool list_item(const char *list, unsigned n, char *out, size_t room)
{
	if (!list || !*list)
		return false;
	while (n--) {
		list = strchr(list, ',');
		if (!list++)
			return false;
	}
	size_t length = strcspn(list, ",");
	snprintf(out, room, "%.*s", (int)length, list);
	return true;
}

bool list_has(const char *list, const char *name)
{
	char item[64];
	for (unsigned i = 0; list_item(list, i, item, sizeof(item)); i++)
		if (!strcasecmp(item, name))
			return true;
	return false;
}

unsigned name_distance(const char *a, const char *b)
{
	enum { LONGEST = 64 };
	unsigned row[LONGEST + 1];
	size_t n = strlen(a), m = strlen(b);
	if (n > LONGEST || m > LONGEST)
		return LONGEST;
	for (unsigned j = 0; j <= m; j++)
		row[j] = j;
	for (unsigned i = 1; i <= n; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= m; j++) {
			unsigned change = diagonal + (tolower((uint8_t)a[i - 1]) != tolower((uint8_t)b[j - 1]));
			unsigned shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			diagonal = row[j];
			row[j] = change < shorter ? change : shorter;
		}
	}
	return row[m];
}

uint32_t utf8_decode(const char *s, size_t n, unsigned *length)
{
	const uint8_t *u = (const uint8_t *)s;
	unsigned more = u[0] >= 0xf0 && u[0] < 0xf8 ? 3 : u[0] >= 0xe0 ? 2 : u[0] >= 0xc2 ? 1 : 0;
	uint32_t c = more == 3 ? u[0] & 7u : more == 2 ? u[0] & 15u : more ? u[0] & 31u : u[0];
	*length = 1;
	if (u[0] >= 0xf8 || more >= n)
		return u[0];
	for (unsigned i = 1; i <= more; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return u[0];
		c = c << 6 | (u[i] & 0x3fu);
	}
	*length = more + 1;
	return c;
}

/* Characters that take no column, or two (Unicode's East Asian Width). */
static const struct {
	uint32_t first, last;
	unsigned columns;
} widths[] = {
	{ 0x300, 0x36f, 0 }, { 0x200b, 0x200f, 0 }, { 0xfe00, 0xfe0f, 0 },
	{ 0x1100, 0x115f, 2 }, { 0x2e80, 0x303e, 2 }, { 0x3041, 0xa4cf, 2 }, { 0xac00, 0xd7a3, 2 },
	{ 0xf900, 0xfaff, 2 }, { 0xfe30, 0xfe6f, 2 }, { 0xff00, 0xff60, 2 }, { 0xffe0, 0xffe6, 2 },
	{ 0x1f300, 0x1faff, 2 }, { 0x20000, 0x3fffd, 2 },
};

unsigned character_columns(uint32_t c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(widths); i++)
		if (c >= widths[i].first && c <= widths[i].last)
			return widths[i].columns;
	return 1;
}

unsigned text_columns(const char *s)
{
	unsigned columns = 0, length;
	for (size_t left = strlen(s); left; left -= length, s += length)
		columns += character_columns(utf8_decode(s, left, &length));
	return columns;
}

unsigned text_characters(const char *s)
{
	unsigned n = 0;
	for (; *s; s++)
		n += ((uint8_t)*s & 0xc0) != 0x80;
	return n;
}
