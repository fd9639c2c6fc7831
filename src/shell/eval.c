/* Expressions: what a value is worth. */
#include "shell/operators.h"

#include "base/bits.h"
#include "base/log.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define EVAL_MAX_DEPTH 512
#define RANGE_MAX 100000

bool value_is_block(const json_t *v)
{
	return json_is_object(v) && !strcmp(value_type(v), "ScriptBlock");
}

static json_t *automatic_variable(struct shell *sh, const char *name, bool *found)
{
	*found = true;
	if (!strcasecmp(name, "true"))
		return json_true();
	if (!strcasecmp(name, "false"))
		return json_false();
	if (!strcasecmp(name, "null"))
		return json_null();
	if (!strcmp(name, "?"))
		return json_boolean(sh->succeeded);
	if (!strcasecmp(name, "Error"))
		return json_incref(sh->errors);
	if (!strcasecmp(name, "PSItem"))
		name = "_";
	if (!strcasecmp(name, "env:COMPUTERNAME") && !getenv(name + 4)) {
		char host[HOST_NAME_MAX + 1] = "";
		gethostname(host, sizeof(host) - 1);
		return json_string(host);
	}
	if (!strncasecmp(name, "env:", 4)) {
		const char *s = getenv(name + 4);
		return s && json_string(s) ? json_string(s) : json_null();
	}
	if (!strcasecmp(name, "PWD")) {
		char *folder = getcwd(NULL, 0);
		json_t *path = json_string(folder ? folder : "/");
		free(folder);
		return path ? path : json_null();
	}
	if (!strcasecmp(name, "HOME"))
		return json_string(getenv("HOME") ? getenv("HOME") : "/");
	json_t *v = shell_variable(sh, name);
	*found = v != NULL;
	return v ? json_incref(v) : json_null();
}

/* Times are seconds; these members make hours of them and so on. */
static json_t *timespan_member(double seconds, const char *name)
{
	static const struct { const char *name; double unit; int wrap; } members[] = {
		{ "TotalDays", 86400 }, { "TotalHours", 3600 }, { "TotalMinutes", 60 }, { "TotalSeconds", 1 },
		{ "TotalMilliseconds", 0.001 }, { "Days", 86400, INT_MAX }, { "Hours", 3600, 24 }, { "Minutes", 60, 60 },
		{ "Seconds", 1, 60 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(members); i++)
		if (!strcasecmp(name, members[i].name))
			return members[i].wrap ? json_integer((json_int_t)(seconds / members[i].unit) % members[i].wrap) :
				json_real(seconds / members[i].unit);
	return NULL;
}

json_t *shell_member(const json_t *object, const char *name)
{
	json_t *v = NULL;
	size_t i;
	json_t *child;
	if (!strcmp(value_type(object), "ErrorRecord") && (v = error_member(object, name)))
		return v;
	if (json_is_object(object) && (v = value_property(object, name)) && strcmp(name, TYPE_KEY))
		return json_incref(v);
	if (json_is_number(object) && (v = timespan_member(json_number_value(object), name)))
		return v;
	if (!strcasecmp(name, "Count") || (!strcasecmp(name, "Length") && !json_is_string(object))) {
		if (json_is_array(object))
			return json_integer((json_int_t)json_array_size(object));
		if (json_is_object(object) && !*value_type(object))
			return json_integer((json_int_t)json_object_size(object));
		return json_integer(!json_is_null(object));
	}
	if (!strcasecmp(name, "Length") && json_is_string(object))
		return json_integer(text_characters(json_string_value(object)));
	if (json_is_array(object)) {
		/* A list's member is the list of its elements' members. */
		json_t *all = json_array();
		json_array_foreach((json_t *)object, i, child) {
			v = json_is_object(child) ? value_property(child, name) : NULL;
			if (json_is_array(v))
				json_array_extend(all, v);
			else if (v)
				json_array_append(all, v);
		}
		if (json_array_size(all) > 1)
			return all;
		v = json_array_size(all) ? json_incref(json_array_get(all, 0)) : json_null();
		json_decref(all);
		return v;
	}
	if (json_is_object(object) && !*value_type(object) && !strcasecmp(name, "Keys")) {
		json_t *all = json_array();
		const char *key;
		json_object_foreach((json_t *)object, key, child)
			json_array_append_new(all, json_string(key));
		return all;
	}
	return json_null();
}

static json_t *index_value(struct shell *sh, const json_t *object, const json_t *index)
{
	json_t *v, *child;
	size_t i;
	if (json_is_array(index)) {
		json_t *all = json_array();
		json_array_foreach((json_t *)index, i, child) {
			v = index_value(sh, object, child);
			if (!v) {
				json_decref(all);
				return NULL;
			}
			json_array_append_new(all, v);
		}
		return all;
	}
	if (json_is_object(object)) {
		char *key = value_string(index);
		v = value_property(object, key);
		free(key);
		return v ? json_incref(v) : json_null();
	}
	json_t *number = value_number(index);
	if (!json_is_integer(number)) {
		json_decref(number);
		return shell_throwf(sh, "InvalidOperation", "InvalidIndex", NULL, "An index is a whole number.");
	}
	json_int_t n = json_integer_value(number);
	json_decref(number);
	if (!json_is_array(object))
		return n == 0 || n == -1 ? json_incref((json_t *)object) : json_null();
	if (n < 0)
		n += (json_int_t)json_array_size(object);
	v = n < 0 ? NULL : json_array_get(object, (size_t)n);
	return v ? json_incref(v) : json_null();
}

static json_t *not_a_number(struct shell *sh, const json_t *v)
{
	char *s = value_string(v);
	shell_throwf(sh, "InvalidArgument", "InvalidCastFromStringToInteger", NULL,
		     "\"%s\" is not a number.", s);
	free(s);
	return NULL;
}

static json_t *arithmetic(struct shell *sh, char op, const json_t *a, const json_t *b)
{
	json_t *x = value_number(a), *y = value_number(b), *result = NULL;
	json_int_t whole;
	bool overflow = true;
	if (!x || !y) {
		result = not_a_number(sh, x ? b : a);
	} else if ((op == '/' || op == '%') && json_number_value(y) == 0) {
		shell_throwf(sh, "NotSpecified", "RuntimeException", NULL, "A division by zero was attempted.");
	} else if (json_is_integer(x) && json_is_integer(y)) {
		json_int_t i = json_integer_value(x), j = json_integer_value(y);
		if (op == '+')
			overflow = __builtin_add_overflow(i, j, &whole);
		else if (op == '-')
			overflow = __builtin_sub_overflow(i, j, &whole);
		else if (op == '*')
			overflow = __builtin_mul_overflow(i, j, &whole);
		else if (j != -1 && (op == '%' || i % j == 0)) {
			whole = op == '%' ? i % j : i / j;
			overflow = false;
		}
		if (!overflow)
			result = json_integer(whole);
	}
	if (x && y && !result && !sh->thrown) {
		double i = json_number_value(x), j = json_number_value(y);
		double r = op == '+' ? i + j : op == '-' ? i - j : op == '*' ? i * j : op == '/' ? i / j : fmod(i, j);
		result = isfinite(r) ? json_real(r) :
			shell_throwf(sh, "NotSpecified", "RuntimeException", NULL, "The result is too large.");
	}
	json_decref(x);
	json_decref(y);
	return result;
}

static json_t *add(struct shell *sh, const json_t *a, const json_t *b)
{
	if (json_is_array(a)) {
		json_t *all = json_copy((json_t *)a);
		if (json_is_array(b))
			json_array_extend(all, (json_t *)b);
		else
			json_array_append(all, (json_t *)b);
		return all;
	}
	if (json_is_string(a)) {
		char *s = value_string(b);
		json_t *v = json_sprintf("%s%s", json_string_value(a), s);
		free(s);
		return v;
	}
	if (json_is_object(a) && json_is_object(b)) {
		json_t *v = json_copy((json_t *)a);
		json_object_update(v, (json_t *)b);
		return v;
	}
	return arithmetic(sh, '+', a, b);
}

static bool contains(const json_t *list, const json_t *v, bool exact)
{
	json_t *child;
	size_t i;
	if (!json_is_array(list))
		return value_equal(list, v, exact);
	json_array_foreach((json_t *)list, i, child)
		if (value_equal(child, v, exact))
			return true;
	return false;
}

/* A text or a list so many times. */
static json_t *repeat(struct shell *sh, const json_t *a, const json_t *b)
{
	json_t *number = value_number(b), *result;
	json_int_t times = json_is_integer(number) ? json_integer_value(number) : -1;
	size_t size = json_is_array(a) ? json_array_size(a) : json_string_length(a);
	json_decref(number);
	if (times < 0 || (size && (json_int_t)(RANGE_MAX / size) < times))
		return shell_throwf(sh, "InvalidOperation", "RuntimeException", NULL,
				    "A text or a list times a number has at most %d letters or elements.", RANGE_MAX);
	if (json_is_array(a)) {
		result = json_array();
		while (times--)
			json_array_extend(result, (json_t *)a);
		return result;
	}
	struct text t = { 0 };
	text_add(&t, "");
	while (times--)
		text_add(&t, json_string_value(a));
	char *s = text_take(&t);
	result = json_string(s);
	free(s);
	return result;
}

/* One comparison: 1, 0; -1 thrown. */
static int compare_one(struct shell *sh, const char *op, const json_t *a, const json_t *b, bool exact)
{
	bool negated = !strncmp(op, "not", 3);
	int r;
	if (negated)
		op += 3;
	if (!strcmp(op, "eq"))
		return value_equal(a, b, exact);
	if (!strcmp(op, "ne"))
		return !value_equal(a, b, exact);
	if (!strcmp(op, "contains"))
		return contains(a, b, exact) != negated;
	if (!strcmp(op, "in"))
		return contains(b, a, exact) != negated;
	if (!strcmp(op, "like") || !strcmp(op, "match")) {
		char *s = value_string(a), *pattern = value_string(b);
		r = *op == 'l' ? value_like(s, pattern, exact) : operator_match(sh, s, pattern, exact);
		free(s);
		free(pattern);
		return r < 0 ? r : r != negated;
	}
	if (json_is_null(a) || json_is_null(b)) {
		/* Nothing is less than something. */
		r = json_is_null(a) - json_is_null(b);
		r = -r;
	} else {
		r = value_compare(a, b, exact);
	}
	return !strcmp(op, "gt") ? r > 0 : !strcmp(op, "ge") ? r >= 0 : !strcmp(op, "lt") ? r < 0 : r <= 0;
}

static json_t *compare(struct shell *sh, const char *op, const json_t *a, const json_t *b)
{
	bool exact = op[0] == 'c' && strcmp(op, "contains");
	json_t *child;
	size_t i;
	if (exact)
		op++;
	if (json_is_array(a) && !strstr(op, "contains") && strcmp(op, "in") && strcmp(op, "notin")) {
		/* On a list, a comparison picks the elements for which it holds. */
		json_t *all = json_array();
		json_array_foreach((json_t *)a, i, child) {
			int r = compare_one(sh, op, child, b, exact);
			if (r < 0) {
				json_decref(all);
				return NULL;
			}
			if (r)
				json_array_append(all, child);
		}
		return all;
	}
	int r = compare_one(sh, op, a, b, exact);
	return r < 0 ? NULL : json_boolean(r);
}

static json_t *range(struct shell *sh, const json_t *a, const json_t *b)
{
	json_t *x = value_number(a), *y = value_number(b), *all = NULL;
	if (!x || !y) {
		not_a_number(sh, x ? b : a);
	} else {
		double from = rint(json_number_value(x)), to = rint(json_number_value(y));
		if (fabs(from - to) > RANGE_MAX || fabs(from) > 9e15) {
			shell_throwf(sh, "LimitsExceeded", "RangeTooLarge", NULL,
				     "A range has at most %d numbers.", RANGE_MAX);
		} else {
			all = json_array();
			for (json_int_t i = (json_int_t)from;; i += from <= to ? 1 : -1) {
				json_array_append_new(all, json_integer(i));
				if (i == (json_int_t)to)
					break;
			}
		}
	}
	json_decref(x);
	json_decref(y);
	return all;
}

static json_t *join(const json_t *a, const json_t *b)
{
	struct text t = { 0 };
	char *separator = value_string(b), *s;
	json_t *child;
	size_t i;
	if (!json_is_array(a)) {
		free(separator);
		s = value_string(a);
		json_t *v = json_string(s);
		free(s);
		return v;
	}
	json_array_foreach((json_t *)a, i, child) {
		s = value_string(child);
		text_addf(&t, "%s%s", i ? separator : "", s);
		free(s);
	}
	free(separator);
	s = text_take(&t);
	json_t *v = json_string(s);
	free(s);
	return v;
}

static json_t *eval_binary(struct shell *sh, const struct node *n)
{
	const char *op = n->text;
	json_t *a = shell_eval(sh, n->first, false), *b, *result;
	if (!a)
		return NULL;
	bool is_and = !strcmp(op, "and"), is_or = !strcmp(op, "or");
	if ((is_and && !value_true(a)) || (is_or && value_true(a))) {
		json_decref(a);
		return json_boolean(is_or);
	}
	b = shell_eval(sh, n->first->next, false);
	if (!b) {
		json_decref(a);
		return NULL;
	}
	if (is_and || is_or)
		result = json_boolean(value_true(b));
	else if (!strcmp(op, "xor"))
		result = json_boolean(value_true(a) != value_true(b));
	else if (!strcmp(op, "+"))
		result = add(sh, a, b);
	else if (!strcmp(op, ".."))
		result = range(sh, a, b);
	else if (!strcmp(op, "join"))
		result = join(a, b);
	else if (!strcmp(op, "f"))
		result = operator_format(sh, a, b);
	else if (!strcmp(op, "replace") || !strcmp(op, "creplace"))
		result = operator_replace(sh, a, b, *op == 'c');
	else if (!strcmp(op, "split") || !strcmp(op, "csplit"))
		result = operator_split(sh, a, b, *op == 'c');
	else if (*op == '*' && (json_is_string(a) || json_is_array(a)))
		result = repeat(sh, a, b);
	else if (strchr("-*/%", op[0]))
		result = arithmetic(sh, op[0], a, b);
	else
		result = compare(sh, op, a, b);
	json_decref(a);
	json_decref(b);
	return result;
}

static json_t *eval_unary(struct shell *sh, const struct node *n)
{
	json_t *v = shell_eval(sh, n->first, false), *result;
	if (!v)
		return NULL;
	if (!strcmp(n->text, "not")) {
		result = json_boolean(!value_true(v));
	} else if (!strcmp(n->text, "void")) {
		result = json_null();
	} else if (!strcmp(n->text, "join")) {
		json_t *nothing = json_string("");
		result = join(v, nothing);
		json_decref(nothing);
	} else if (!strcmp(n->text, "split")) {
		json_t *blanks = json_string("[ \t\n]+");
		result = operator_split(sh, v, blanks, false);
		json_decref(blanks);
	} else {
		json_t *zero = json_integer(0);
		result = arithmetic(sh, n->text[0], zero, v);
		json_decref(zero);
	}
	json_decref(v);
	return result;
}

static json_t *eval_expand(struct shell *sh, const struct node *n)
{
	struct text t = { 0 };
	for (const struct node *part = n->first; part; part = part->next) {
		json_t *v = shell_eval(sh, part, true);
		if (!v) {
			free(t.data);
			return NULL;
		}
		char *s = value_string(v);
		text_add(&t, s);
		free(s);
		json_decref(v);
	}
	char *s = text_take(&t);
	json_t *v = json_string(s);
	free(s);
	return v ? v : shell_throwf(sh, "InvalidData", "InvalidText", NULL, "The text is not UTF-8.");
}

static json_t *eval_array(struct shell *sh, const struct node *n, bool text)
{
	json_t *all = json_array();
	for (const struct node *e = n->first; e; e = e->next) {
		json_t *v = shell_eval(sh, e, text);
		if (!v) {
			json_decref(all);
			return NULL;
		}
		json_array_append_new(all, v);
	}
	return all;
}

static json_t *eval_hash(struct shell *sh, const struct node *n)
{
	json_t *hash = json_object();
	for (const struct node *pair = n->first; pair; pair = pair->next) {
		json_t *key = shell_eval(sh, pair->first, true);
		json_t *values = key ? shell_run_statement(sh, pair->first->next, true) : NULL;
		if (!values) {
			json_decref(key);
			json_decref(hash);
			return NULL;
		}
		char *name = value_string(key);
		json_t *v = json_array_size(values) == 1 ? json_array_get(values, 0) :
			json_array_size(values) ? values : NULL;
		json_t *null = json_null();
		/* A name that begins with $ is the shell's own. */
		json_object_set(hash, name[0] == '$' ? name + 1 : name, v ? v : null);
		free(name);
		json_decref(key);
		json_decref(values);
	}
	return hash;
}

/* What statements gave: nothing is null, one is itself. */
static json_t *scalar(json_t *list)
{
	if (!list || json_array_size(list) > 1)
		return list;
	json_t *v = json_array_size(list) ? json_incref(json_array_get(list, 0)) : json_null();
	json_decref(list);
	return v;
}

static json_t *eval_block(struct shell *sh, const struct node *n)
{
	if (sh->block_count == sh->block_room) {
		sh->block_room = sh->block_room ? sh->block_room * 2 : 16;
		sh->blocks = alloc_resize(sh->blocks, sh->block_room, sizeof(*sh->blocks));
		sh->block_scripts = alloc_resize(sh->block_scripts, sh->block_room, sizeof(*sh->block_scripts));
	}
	unsigned i;
	for (i = 0; i < sh->block_count && sh->blocks[i] != n->first; i++)
		;
	sh->blocks[i] = n->first;
	sh->block_scripts[i] = sh->running;
	if (i == sh->block_count)
		sh->block_count++;
	json_t *text = json_string(n->text);
	return json_pack("{s:s,s:i,s:o}", TYPE_KEY, "ScriptBlock", "$block", (int)i, "Text",
			 text ? text : json_string(""));
}

static json_t *eval_node(struct shell *sh, const struct node *n, bool text)
{
	json_t *v, *other, *result;
	char *name;
	bool found;
	switch (n->kind) {
	case NODE_STRING:
		v = json_string(n->text);
		return v ? v : shell_throwf(sh, "InvalidData", "InvalidText", NULL, "The text is not UTF-8.");
	case NODE_NUMBER:
		if (text && n->bare)
			return json_string(n->text);
		if (value_parse_number(n->text, &v))
			return shell_throwf(sh, "ParserError", "BadNumericConstant", NULL,
					    "The number %s is too large.", n->text);
		return v;
	case NODE_EXPAND:
		return eval_expand(sh, n);
	case NODE_VARIABLE:
		return automatic_variable(sh, n->text, &found);
	case NODE_ARRAY:
		return eval_array(sh, n, text);
	case NODE_PAREN:
		return scalar(shell_run_statement(sh, n->first, true));
	case NODE_SUBEXPRESSION:
		return scalar(shell_run_list(sh, n->first));
	case NODE_ARRAY_EXPRESSION:
		return shell_run_list(sh, n->first);
	case NODE_HASH:
		return eval_hash(sh, n);
	case NODE_BLOCK:
		return eval_block(sh, n);
	case NODE_MEMBER:
		v = shell_eval(sh, n->first, false);
		other = v ? shell_eval(sh, n->first->next, true) : NULL;
		result = NULL;
		if (other) {
			name = value_string(other);
			result = shell_member(v, name);
			free(name);
		}
		json_decref(v);
		json_decref(other);
		return result;
	case NODE_INDEX:
		v = shell_eval(sh, n->first, false);
		other = v ? shell_eval(sh, n->first->next, false) : NULL;
		result = other ? index_value(sh, v, other) : NULL;
		json_decref(v);
		json_decref(other);
		return result;
	case NODE_UNARY:
		return eval_unary(sh, n);
	case NODE_BINARY:
		return eval_binary(sh, n);
	default:
		panic("node %d is no expression", (int)n->kind);
	}
}

json_t *shell_eval(struct shell *sh, const struct node *n, bool text)
{
	if (sh->depth >= EVAL_MAX_DEPTH)
		return shell_throwf(sh, "LimitsExceeded", "ExpressionTooDeep", NULL,
				    "The expression is nested more than %d deep.", EVAL_MAX_DEPTH);
	sh->depth++;
	json_t *v = eval_node(sh, n, text);
	sh->depth--;
	return v;
}
