/* Write-, Out-, Format- and ConvertTo-: what becomes of objects at the end. */
#include "shell/objects.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

json_t *output_write(struct shell *sh, struct call *call)
{
	json_t *all = json_array(), *v, *list = call->input;
	size_t i;
	json_array_foreach(list, i, v)
		if (json_is_array(v))
			json_array_extend(all, v);
		else
			json_array_append(all, v);
	return all;
}

json_t *output_host(struct shell *sh, struct call *call)
{
	json_t *words = json_object_get(call->bound, "Object"), *separator = json_object_get(call->bound, "Separator"), *v;
	size_t i;
	char *s, *between = separator ? value_string(separator) : alloc_string(" ");
	struct text t = { 0 };
	json_array_foreach(words, i, v) {
		s = value_string(v);
		text_addf(&t, "%s%s", i ? between : "", s);
		free(s);
	}
	free(between);
	json_array_foreach(call->input, i, v) {
		s = value_string(v);
		text_addf(&t, "%s%s", i ? "\n" : "", s);
		free(s);
	}
	text_add(&t, value_true(json_object_get(call->bound, "NoNewline")) ? "" : "\n");
	s = text_take(&t);
	shell_say(sh, STREAM_INFORMATION, sh->out, s);
	free(s);
	return json_array();
}

json_t *output_error(struct shell *sh, struct call *call)
{
	char *s = value_string(json_object_get(call->bound, "Message"));
	shell_report(sh, error_record(&(struct error_parts){ .message = s, .category = "NotSpecified",
		.id = "Microsoft.PowerShell.Commands.WriteErrorException", .command = call->cmdlet->name,
		.exception = "WriteErrorException" }));
	free(s);
	return json_array();
}

json_t *output_shown(struct shell *sh, struct call *call)
{
	view_print(sh, sh->out, call->input);
	return json_array();
}

json_t *output_null(struct shell *sh, struct call *call)
{
	return json_array();
}

static char *formatted(struct shell *sh, json_t *list, unsigned width)
{
	struct text t = { 0 };
	if (view_format(sh, &t, list, VIEW_DEFAULT, NULL, width)) {
		free(t.data);
		return NULL;
	}
	return text_take(&t);
}

json_t *output_file(struct shell *sh, struct call *call)
{
	char *path = value_string(json_object_get(call->bound, "FilePath"));
	bool append = value_true(json_object_get(call->bound, "Append"));
	bool keep = value_true(json_object_get(call->bound, "NoClobber"));
	json_int_t width = json_integer_value(json_object_get(call->bound, "Width"));
	char *s = formatted(sh, call->input, (unsigned)width);
	json_t *result = NULL;
	if (s) {
		FILE *f = fopen(path, append ? "a" : keep ? "wx" : "w");
		bool failed = !f || fputs(s, f) < 0;
		if (f && fclose(f))
			failed = true;
		result = failed ? shell_throwf(sh, "OpenError", "FileOpenFailure", NULL,
			"The file %s cannot be written: %m.", path) : json_array();
	}
	free(s);
	free(path);
	return result;
}

json_t *output_string(struct shell *sh, struct call *call)
{
	char *s = formatted(sh, call->input, 0);
	if (!s)
		return NULL;
	json_t *result = json_array();
	if (value_true(json_object_get(call->bound, "Stream"))) {
		for (const char *line = s; *line; line += strcspn(line, "\n"), line += *line == '\n')
			json_array_append_new(result, json_stringn(line, strcspn(line, "\n")));
	} else {
		json_array_append_new(result, json_string(s));
	}
	free(s);
	return result;
}

/* Of each table: its blank line, the headers and the line under them. */
static void drop_headers(char *s)
{
	enum { HEADER_LINES = 3 };
	char *to = s;
	bool begins = true;	/* a table does, after a blank line */
	for (unsigned skip = 0; *s;) {
		size_t n = strcspn(s, "\n");
		n += s[n] == '\n';
		if (begins && *s == '\n')
			skip = HEADER_LINES;
		begins = *s == '\n';
		if (skip)
			skip--;
		else if (*s != '\n') {
			memmove(to, s, n);
			to += n;
		}
		s += n;
	}
	*to = 0;
}

static json_t *format(struct shell *sh, struct call *call, enum view_style style)
{
	json_t *columns = json_object_get(call->bound, "Property");
	struct text t = { 0 };
	if (view_format(sh, &t, call->input, style, json_array_size(columns) ? columns : NULL,
			value_true(json_object_get(call->bound, "Wrap")) ? 0 : sh->width)) {
		free(t.data);
		return NULL;
	}
	char *s = text_take(&t);
	if (value_true(json_object_get(call->bound, "HideTableHeaders")))
		drop_headers(s);
	json_t *result = *s ? json_pack("[{s:s,s:s}]", TYPE_KEY, "FormattedText", "Text", s) : json_array();
	free(s);
	return result;
}

json_t *output_table(struct shell *sh, struct call *call)
{
	return format(sh, call, VIEW_TABLE);
}

json_t *output_list(struct shell *sh, struct call *call)
{
	return format(sh, call, VIEW_LIST);
}

/* Without the shell's own members, to a depth. */
static json_t *cleaned(const json_t *v, json_int_t depth)
{
	json_t *result, *child;
	const char *key;
	size_t i;
	if (depth < 0) {
		char *s = value_string(v);
		result = json_string(s);
		free(s);
		return result;
	}
	if (json_is_array(v)) {
		result = json_array();
		json_array_foreach((json_t *)v, i, child)
			json_array_append_new(result, cleaned(child, json_is_object(child) || json_is_array(child) ?
				depth - 1 : depth));
		return result;
	}
	if (!json_is_object(v))
		return json_incref((json_t *)v);
	result = json_object();
	json_object_foreach((json_t *)v, key, child)
		if (key[0] != '$')
			json_object_set_new(result, key, cleaned(child,
				json_is_object(child) || json_is_array(child) ? depth - 1 : depth));
	return result;
}

#define JSON_DIGITS 15	/* what a double holds of a decimal number */
#define JSON_DEPTH 8	/* unlike there, deep enough for all that the service says */

json_t *output_to_json(struct shell *sh, struct call *call)
{
	json_t *depth = json_object_get(call->bound, "Depth");
	json_int_t levels = depth ? json_integer_value(depth) : JSON_DEPTH;
	bool alone = json_array_size(call->input) == 1 && !value_true(json_object_get(call->bound, "AsArray"));
	json_t *v = cleaned(alone ? json_array_get(call->input, 0) : call->input, alone ? levels : levels + 1);
	char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(JSON_DIGITS) |
			     (value_true(json_object_get(call->bound, "Compress")) ? JSON_COMPACT : JSON_INDENT(2)));
	json_t *result = json_pack("[o]", json_string(s ? s : ""));
	json_decref(v);
	free(s);
	return result;
}

/* What comes from a text is no object of the service, whatever it says. */
static json_t *imported(const json_t *v)
{
	json_t *result, *child;
	const char *key;
	size_t i;
	if (json_is_array(v)) {
		result = json_array();
		json_array_foreach((json_t *)v, i, child)
			json_array_append_new(result, imported(child));
		return result;
	}
	if (!json_is_object(v))
		return json_incref((json_t *)v);
	result = json_object();
	json_object_set_new(result, TYPE_KEY, json_string("PSCustomObject"));
	json_object_foreach((json_t *)v, key, child)
		if (key[0] != '$')
			json_object_set_new(result, key, imported(child));
	return result;
}

json_t *output_from_json(struct shell *sh, struct call *call)
{
	struct text t = { 0 };
	json_t *v;
	json_error_t e;
	size_t i;
	json_array_foreach(call->input, i, v) {
		char *s = value_string(v);
		text_addf(&t, "%s\n", s);
		free(s);
	}
	char *s = text_take(&t);
	v = json_loads(s, JSON_DECODE_ANY, &e);
	free(s);
	if (!v)
		return shell_throwf(sh, "InvalidArgument", "InvalidJson", NULL,
				    "The text is not JSON: %s (line %d).", e.text, e.line);
	json_t *result = imported(v);
	json_decref(v);
	if (json_is_array(result))
		return result;
	return json_pack("[o]", result);
}
