/* Errors as people know them from Hyper-V: its sentence, and then what it never
 * says: the reason and the way out. */
#include "shell/shell.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

#define ERRORS_KEPT 256	/* $Error, as $MaximumErrorCount is there */

json_t *error_record(const struct error_parts *parts)
{
	const struct { const char *key, *value; } members[] = {
		{ TYPE_KEY, "ErrorRecord" }, { "message", parts->message }, { "reason", parts->reason },
		{ "try", parts->way_out }, { "category", parts->category ? parts->category : "InvalidArgument" },
		{ "target", parts->target }, { "targetType", parts->target_type },
		{ "id", parts->id }, { "exception", parts->exception ? parts->exception : "ParameterBindingException" },
		{ "command", parts->command },
	};
	json_t *r = json_object();
	for (unsigned i = 0; i < ARRAY_SIZE(members); i++)
		if (members[i].value)
			json_object_set_new(r, members[i].key, json_string(members[i].value));
	return r;
}

void *shell_throw(struct shell *sh, const struct error_parts *parts)
{
	json_decref(sh->thrown);
	sh->thrown = error_record(parts);
	return NULL;
}

void *shell_throwf(struct shell *sh, const char *category, const char *id, const char *way_out,
		   const char *format, ...)
{
	char *message = NULL;
	va_list list;
	va_start(list, format);
	if (vasprintf(&message, format, list) < 0)
		panic("out of memory");
	va_end(list);
	shell_throw(sh, &(struct error_parts){ .message = message, .way_out = way_out, .category = category,
		.id = id, .exception = "RuntimeException" });
	free(message);
	return NULL;
}

static void add_category(struct text *t, const json_t *r)
{
	const char *target = value_text(r, "target"), *type = value_text(r, "targetType");
	const char *command = value_text(r, "command");
	text_addf(t, "%s: (%s:%s) [%s], %s", value_text(r, "category"), target, *target && !*type ? "String" : type,
		  command, value_text(r, "exception"));
}

/* Where in the text, with the line and a mark under what is meant. */
static char *place_of(const char *text, size_t size, unsigned from, unsigned to, const char *name)
{
	unsigned line = 1, begin = 0, start = from < size ? from : (unsigned)size;
	for (unsigned i = 0; i < start; i++)
		if (text[i] == '\n') {
			line++;
			begin = i + 1;
		}
	unsigned end = begin;
	while (end < size && text[end] != '\n' && text[end] != '\r')
		end++;
	char *before = strndup(text + begin, start - begin);
	unsigned stop = to < end ? to : end;
	char *marked = strndup(text + start, stop > start ? stop - start : 0);
	unsigned width = text_columns(marked), column = text_columns(before);
	struct text place = { 0 };
	text_addf(&place, "At %s%sline:%u char:%u\n+ %.*s\n+ %*s", name ? name : "", name ? ":" : "", line,
		  column + 1, (int)(end - begin), text + begin, (int)column, "");
	for (unsigned i = 0; i < (width ? width : 1); i++)
		text_add(&place, "~");
	free(before);
	free(marked);
	return text_take(&place);
}

void error_text(struct shell *sh, struct text *t, const json_t *r)
{
	const char *command = value_text(r, "command"), *message = value_text(r, "message");
	const char *reason = value_text(r, "reason"), *way_out = value_text(r, "try"), *place = value_text(r, "$place");
	if (shell_preference_is(sh, "errorview", "CategoryView")) {
		add_category(t, r);
		text_add(t, "\n");
		return;
	}
	text_addf(t, "%s%s%s\n", command, *command ? " : " : "", message);
	if (*reason)
		text_addf(t, "Reason: %s\n", reason);
	if (*way_out)
		text_addf(t, "Try: %s\n", way_out);
	if (shell_preference_is(sh, "errorview", "NormalView")) {
		text_addf(t, "%s%s    + CategoryInfo          : ", place, *place ? "\n" : "");
		add_category(t, r);
		text_addf(t, "\n    + FullyQualifiedErrorId : %s\n", value_text(r, "id"));
	}
}

json_t *error_member(const json_t *r, const char *name)
{
	static const struct { const char *name, *key; } members[] = {
		{ "FullyQualifiedErrorId", "id" }, { "TargetObject", "target" },
	};
	if (!strcasecmp(name, "Exception"))
		return json_pack("{s:s,s:s}", TYPE_KEY, value_text(r, "exception"), "Message", value_text(r, "message"));
	if (!strcasecmp(name, "CategoryInfo")) {
		struct text t = { 0 };
		add_category(&t, r);
		char *s = text_take(&t);
		json_t *v = json_pack("{s:s,s:s,s:s,s:s,s:s}", TYPE_KEY, "ErrorCategoryInfo", "Text", s,
			"Category", value_text(r, "category"), "Activity", value_text(r, "command"),
			"TargetName", value_text(r, "target"));
		free(s);
		return v;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(members); i++)
		if (!strcasecmp(name, members[i].name))
			return json_string(value_text(r, members[i].key));
	return NULL;
}

void shell_report(struct shell *sh, json_t *r)
{
	struct text t = { 0 };
	sh->succeeded = false;
	sh->error_count++;
	if (sh->running && sh->command_end && !json_object_get(r, "$place")) {
		char *place = place_of(sh->running->source, sh->running->size, sh->command_start, sh->command_end,
				       sh->running->name);
		json_object_set_new(r, "$place", json_string(place));
		free(place);
	}
	json_array_insert_new(sh->errors, 0, r);
	if (json_array_size(sh->errors) > ERRORS_KEPT)
		json_array_remove(sh->errors, ERRORS_KEPT);
	if (sh->mute || sh->sinks[STREAM_ERROR].kind == SINK_NOWHERE)
		return;
	sh->failed = true;
	if (sh->sinks[STREAM_ERROR].kind == SINK_OUTPUT) {
		json_array_append(sh->merged, r);
		return;
	}
	error_text(sh, &t, r);
	shell_say(sh, STREAM_ERROR, sh->err, t.data);
	free(t.data);
}

void shell_report_syntax(struct shell *sh, const char *text, size_t size, const struct syntax_error *e,
			 const char *name)
{
	char *place = place_of(text, size, e->start, e->end, name);
	fflush(sh->out);
	fprintf(sh->err, "%s\n%s\n", place, e->text);
	json_array_insert_new(sh->errors, 0, error_record(&(struct error_parts){ .message = e->text,
		.category = "ParserError", .id = "ParserError", .exception = "ParentContainsErrorRecordException" }));
	free(place);
	sh->succeeded = false;
	sh->failed = true;
}
