#include "shell/objects.h"

#include "base/bits.h"
#include "base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool given(const struct call *call, const char *name)
{
	return value_true(json_object_get(call->bound, name));
}

static json_int_t number(const struct call *call, const char *name, json_int_t otherwise)
{
	json_t *v = json_object_get(call->bound, name);
	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

/* ---- Where-Object ---- */

static const char *const comparisons[] = {
	"EQ", "NE", "GT", "GE", "LT", "LE", "Like", "NotLike", "Match", "NotMatch", "Contains", "NotContains",
	"In", "NotIn", "CEQ", "CNE", "CLike", "CMatch",
};

static const char *chosen_comparison(const struct call *call)
{
	for (unsigned i = 0; i < ARRAY_SIZE(comparisons); i++)
		if (given(call, comparisons[i]))
			return comparisons[i];
	return NULL;
}

/* The comparison is an expression like any other: $_.Property -op Value. */
static json_t *compare_property(struct shell *sh, const char *op, const char *property, json_t *value, json_t *item)
{
	char left_name[] = "$left", right_name[] = "$right", operator[16];
	size_t i;
	for (i = 0; op[i] && i < sizeof(operator) - 1; i++)
		operator[i] = (char)(op[i] | 32);
	operator[i] = 0;
	struct node right = { .kind = NODE_VARIABLE, .text = right_name };
	struct node left = { .kind = NODE_VARIABLE, .text = left_name, .next = &right };
	struct node binary = { .kind = NODE_BINARY, .text = operator, .first = &left };
	shell_set_variable(sh, left_name, shell_member(item, property));
	shell_set_variable(sh, right_name, json_incref(value));
	return shell_eval(sh, &binary, false);
}

json_t *object_where(struct shell *sh, struct call *call)
{
	json_t *block = json_object_get(call->bound, "FilterScript"), *item, *all = json_array();
	json_t *value = json_object_get(call->bound, "Value");
	const char *property = json_string_value(json_object_get(call->bound, "Property"));
	const char *op = chosen_comparison(call);
	size_t i;
	json_array_foreach(call->input, i, item) {
		json_t *v;
		if (block) {
			v = shell_run_block(sh, block, item);
		} else if (op) {
			json_t *null = json_null();
			v = compare_property(sh, op, property, value ? value : null, item);
		} else {
			v = shell_member(item, property ? property : "");
		}
		if (!v) {
			json_decref(all);
			return NULL;
		}
		if (value_true(v) != given(call, "Not"))
			json_array_append(all, item);
		json_decref(v);
	}
	return all;
}

/* ---- Select-Object ---- */

static json_t *selected(struct shell *sh, json_t *columns, json_t *item)
{
	json_t *o = json_object(), *column, *v;
	const char *key;
	size_t i;
	json_object_set_new(o, TYPE_KEY, json_sprintf("Selected.%s", value_type(item)));
	json_array_foreach(columns, i, column) {
		const char *name = json_string_value(column);
		char *header = NULL;
		if (name && value_has_wildcard(name)) {
			json_object_foreach(item, key, v)
				if (key[0] != '$' && value_like(key, name, false))
					json_object_set(o, key, v);
			continue;
		}
		v = view_column_value(sh, column, item, &header);
		if (!v) {
			free(header);
			json_decref(o);
			return NULL;
		}
		json_object_set_new(o, header[0] == '$' ? header + 1 : header, v);
		free(header);
	}
	return o;
}

static bool seen(const json_t *all, const json_t *v)
{
	size_t i;
	json_t *other;
	json_array_foreach((json_t *)all, i, other)
		if (json_is_object(v) ? json_equal(other, (json_t *)v) : value_equal(other, v, true))
			return true;
	return false;
}

static json_t *expanded(struct shell *sh, const char *name, json_t *item)
{
	json_t *v = value_property(item, name);
	if (v)
		return json_incref(v);
	if (!strcasecmp(name, "Count") || !strcasecmp(name, "Length"))
		return shell_member(item, name);
	return shell_throwf(sh, "InvalidArgument", "ExpandPropertyNotFound", NULL,
			    "The object has no property \"%s\".", name);
}

json_t *object_select(struct shell *sh, struct call *call)
{
	json_t *columns = json_object_get(call->bound, "Property"), *index = json_object_get(call->bound, "Index");
	const char *expand = json_string_value(json_object_get(call->bound, "ExpandProperty"));
	json_int_t first = number(call, "First", -1), last = number(call, "Last", -1), skip = number(call, "Skip", 0);
	json_int_t count = (json_int_t)json_array_size(call->input), i;
	json_t *all = json_array();
	/* -Skip with -Last leaves out the end, as there. */
	json_int_t from = last >= 0 && first < 0 ? 0 : skip, to = last >= 0 && first < 0 ? count - skip : count;
	for (i = from; i < to; i++) {
		bool wanted = (first < 0 && last < 0) || (first >= 0 && i < from + first) ||
			(last >= 0 && i >= to - last);
		json_t *item = json_array_get(call->input, (size_t)i), *v, *wanted_index;
		if (index) {
			size_t k;
			wanted = false;
			json_array_foreach(index, k, wanted_index)
				wanted |= json_integer_value(wanted_index) == i;
		}
		if (!wanted)
			continue;
		v = expand ? expanded(sh, expand, item) : columns ? selected(sh, columns, item) : json_incref(item);
		if (!v) {
			json_decref(all);
			return NULL;
		}
		if (expand && json_is_array(v))
			json_array_extend(all, v);
		else if (!given(call, "Unique") || !seen(all, v))
			json_array_append(all, v);
		json_decref(v);
	}
	return all;
}

/* ---- Sort-Object ---- */

struct sort_row {
	json_t *item, *keys;
	size_t order;
};

static int compare_keys(const struct sort_row *x, const struct sort_row *y, const struct call *call)
{
	json_t *columns = json_object_get(call->bound, "Property");
	size_t n = json_array_size(x->keys), i;
	int d = 0;
	for (i = 0; i < n && !d; i++) {
		json_t *k = json_array_get(x->keys, i), *l = json_array_get(y->keys, i);
		if (json_is_null(k) || json_is_null(l))
			d = json_is_null(l) - json_is_null(k);
		else
			d = value_compare(k, l, given(call, "CaseSensitive"));
		/* @{ Expression = 'State'; Descending = $true } says so of one column. */
		json_t *column = json_array_get(columns, i);
		json_t *down = json_is_object(column) ? value_property(column, "Descending") : NULL;
		json_t *up = json_is_object(column) ? value_property(column, "Ascending") : NULL;
		if (down ? value_true(down) : up ? !value_true(up) : given(call, "Descending"))
			d = -d;
	}
	return d;
}

static int compare_rows(const void *a, const void *b, void *argument)
{
	const struct sort_row *x = a, *y = b;
	int d = compare_keys(x, y, argument);
	return d ? d : x->order < y->order ? -1 : x->order > y->order;
}

json_t *object_sort(struct shell *sh, struct call *call)
{
	json_t *columns = json_object_get(call->bound, "Property"), *all = NULL, *column;
	size_t n = json_array_size(call->input), i, k;
	struct sort_row *rows = alloc_zeroed(n + 1, sizeof(*rows));
	bool thrown = false;
	for (i = 0; i < n && !thrown; i++) {
		rows[i] = (struct sort_row){ json_array_get(call->input, i), json_array(), i };
		if (!columns)
			json_array_append(rows[i].keys, rows[i].item);
		json_array_foreach(columns, k, column) {
			char *header = NULL;
			json_t *v = view_column_value(sh, column, rows[i].item, &header);
			free(header);
			if (!v) {
				thrown = true;
				break;
			}
			json_array_append_new(rows[i].keys, v);
		}
	}
	if (!thrown) {
		qsort_r(rows, n, sizeof(*rows), compare_rows, call);
		all = json_array();
		for (i = 0; i < n; i++)
			if (!given(call, "Unique") || !i || compare_keys(&rows[i], &rows[i - 1], call))
				json_array_append(all, rows[i].item);
	}
	for (i = 0; i < n; i++)
		json_decref(rows[i].keys);
	free(rows);
	return all;
}

/* ---- ForEach-Object ---- */

static int append_block(struct shell *sh, json_t *all, json_t *block, json_t *item)
{
	if (!block)
		return 0;
	json_t *some = shell_run_block(sh, block, item);
	if (!some)
		return -1;
	json_array_extend(all, some);
	json_decref(some);
	return 0;
}

json_t *object_for_each(struct shell *sh, struct call *call)
{
	json_t *process = json_object_get(call->bound, "Process"), *item, *all = json_array(), *null = json_null();
	const char *member = json_string_value(json_object_get(call->bound, "MemberName"));
	size_t i;
	bool thrown = append_block(sh, all, json_object_get(call->bound, "Begin"), null);
	json_array_foreach(call->input, i, item) {
		if (thrown || sh->leaving)
			break;
		if (member) {
			json_t *v = shell_member(item, member);
			if (json_is_array(v))
				json_array_extend(all, v);
			else if (!json_is_null(v))
				json_array_append(all, v);
			json_decref(v);
		} else {
			thrown = append_block(sh, all, process, item);
		}
	}
	if (!thrown)
		thrown = append_block(sh, all, json_object_get(call->bound, "End"), null);
	if (thrown) {
		json_decref(all);
		return NULL;
	}
	return all;
}

/* ---- Measure-Object ---- */

/* A number that is whole reads so. */
static json_t *tidy(double d)
{
	return d == floor(d) && fabs(d) < 9e15 ? json_integer((json_int_t)d) : json_real(d);
}

static json_t *measure_one(struct shell *sh, struct call *call, const char *property)
{
	json_t *item, *v, *n, *result = json_object();
	size_t i;
	json_int_t count = 0;
	double sum = 0, minimum = INFINITY, maximum = -INFINITY;
	bool wants_numbers = given(call, "Sum") || given(call, "Average") || given(call, "Minimum") ||
		given(call, "Maximum") || given(call, "AllStats");
	bool everything = given(call, "AllStats");
	json_array_foreach(call->input, i, item) {
		v = property ? json_incref(value_property(item, property)) : json_incref(item);
		if (property && (!v || json_is_null(v))) {
			json_decref(v);
			continue;
		}
		count++;
		n = wants_numbers ? value_number(v) : NULL;
		if (wants_numbers && !n) {
			char *s = value_string(v);
			shell_throwf(sh, "InvalidType", "NonNumericInputObject", NULL,
				     "\"%s\" is not a number; -Property names the property to measure.", s);
			free(s);
			json_decref(v);
			json_decref(result);
			return NULL;
		}
		double d = json_number_value(n);
		sum += d;
		minimum = d < minimum ? d : minimum;
		maximum = d > maximum ? d : maximum;
		json_decref(n);
		json_decref(v);
	}
	json_object_set_new(result, TYPE_KEY, json_string("GenericMeasureInfo"));
	json_object_set_new(result, "Count", json_integer(count));
	const struct { const char *name; double value; } figures[] = {
		{ "Average", count ? sum / (double)count : 0 }, { "Sum", sum }, { "Maximum", maximum },
		{ "Minimum", minimum },
	};
	for (i = 0; i < ARRAY_SIZE(figures); i++) {
		bool wanted = (everything || given(call, figures[i].name)) && count;
		json_object_set_new(result, figures[i].name, wanted ? tidy(figures[i].value) : json_null());
	}
	json_object_set_new(result, "Property", property ? json_string(property) : json_null());
	return result;
}

json_t *object_measure(struct shell *sh, struct call *call)
{
	json_t *properties = json_object_get(call->bound, "Property"), *all = json_array(), *p;
	size_t i;
	json_t *one;
	if (!json_array_size(properties)) {
		one = measure_one(sh, call, NULL);
		if (one)
			json_array_append_new(all, one);
	}
	json_array_foreach(properties, i, p) {
		one = measure_one(sh, call, json_string_value(p));
		if (!one)
			break;
		json_array_append_new(all, one);
	}
	if (sh->thrown) {
		json_decref(all);
		return NULL;
	}
	return all;
}
