#include "shell/redirect.h"

#include "base/bits.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void shell_say(struct shell *sh, enum stream stream, FILE *terminal, const char *text)
{
	struct sink *sink = &sh->sinks[stream];
	size_t n = strlen(text);
	switch (sink->kind) {
	case SINK_NOWHERE:
		break;
	case SINK_OUTPUT:
		json_array_append_new(sh->merged, json_stringn(text, n && text[n - 1] == '\n' ? n - 1 : n));
		break;
	case SINK_FILE:
		fputs(text, sink->file);
		break;
	case SINK_TERMINAL:
		if (terminal != sh->out)
			fflush(sh->out);
		fputs(text, terminal);
	}
}

static void begin(struct shell *sh, struct redirection *r)
{
	if (r->is_open)
		return;
	r->is_open = true;
	memcpy(r->saved, sh->sinks, sizeof(r->saved));
	r->saved_merged = sh->merged;
	sh->merged = json_array();
}

/* The file of a redirection; NULL: $null, or thrown. */
static FILE *open_target(struct shell *sh, const struct node *n)
{
	json_t *v = shell_eval(sh, n->first, true);
	if (!v)
		return NULL;
	char *path = value_string(v);
	FILE *f = NULL;
	if (!json_is_null(v) && *path && strcasecmp(path, "$null")) {
		f = fopen(path, strstr(n->text, ">>") ? "a" : "w");
		if (!f)
			shell_throwf(sh, "OpenError", "FileOpenFailure", NULL, "The file %s cannot be written: %m.", path);
	}
	json_decref(v);
	free(path);
	return f;
}

int redirection_add(struct shell *sh, struct redirection *r, const struct node *n)
{
	char c = n->text[0];
	bool all = c == '*', merge = strchr(n->text, '&') != NULL;
	unsigned stream = all ? 0 : c == '>' ? STREAM_OUTPUT : (unsigned)(c - '0');
	begin(sh, r);
	FILE *f = merge ? NULL : open_target(sh, n);
	if (sh->thrown)
		return -1;
	/* *> is > with every other stream merged into what comes out. */
	struct sink sink = { merge || (all && f) ? SINK_OUTPUT : f ? SINK_FILE : SINK_NOWHERE, all ? NULL : f };
	if (all || stream == STREAM_OUTPUT) {
		if (!merge && r->out)
			fclose(r->out);
		if (!merge) {
			r->out = f;
			r->discard = !f;
		}
	} else if (f) {
		if (r->files[stream])
			fclose(r->files[stream]);
		r->files[stream] = f;
	}
	for (unsigned s = STREAM_ERROR; s < STREAMS; s++)
		if (all || s == stream)
			sh->sinks[s] = sink;
	r->merges |= sink.kind == SINK_OUTPUT;
	return 0;
}

json_t *redirection_end(struct shell *sh, struct redirection *r, json_t *list)
{
	bool written = true;
	if (!r->is_open)
		return list;
	/* An error that ends the statement belongs to the stream of errors too. */
	if (!list && sh->sinks[STREAM_ERROR].kind != r->saved[STREAM_ERROR].kind && !shell_interrupted) {
		shell_report_thrown(sh);
		list = json_array();
	}
	if (list && json_array_size(sh->merged)) {
		json_t *both = json_copy(list);
		json_array_extend(both, sh->merged);
		json_decref(list);
		list = both;
	}
	json_decref(sh->merged);
	sh->merged = r->saved_merged;
	memcpy(sh->sinks, r->saved, sizeof(r->saved));
	if (list && r->out)
		view_print(sh, r->out, list);
	if (list && (r->out || r->discard)) {
		json_decref(list);
		list = json_array();
	}
	if (r->out && fclose(r->out))
		written = false;
	for (unsigned s = 0; s < STREAMS; s++)
		if (r->files[s] && fclose(r->files[s]))
			written = false;
	if (!written && list) {
		json_decref(list);
		list = shell_throwf(sh, "WriteError", "FileWriteFailure", NULL, "The file could not be written: %m.");
	}
	return list;
}
