/* Confirmation: what the service says that it would do, and a question. */
#include "shell/shell.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

char *shell_ask(struct shell *sh, const char *prompt)
{
	char *line = NULL;
	size_t room = 0;
	fputs(prompt, sh->out);
	fflush(sh->out);
	if (getline(&line, &room, stdin) < 0) {
		clearerr(stdin);
		free(line);
		return NULL;
	}
	line[strcspn(line, "\r\n")] = 0;
	return line;
}

static bool is_asked(struct shell *sh, const struct cmdlet *c, json_t *params)
{
	json_t *confirm = json_object_get(params, "Confirm");
	if (value_true(json_object_get(params, "WhatIf")))
		return false;
	if (confirm)
		return value_true(confirm);
	if (value_true(json_object_get(params, "Force")) || shell_preference_is(sh, "confirmpreference", "None"))
		return false;
	return (c->flags & ASKS) || shell_preference_is(sh, "confirmpreference", "Low") ||
		shell_preference_is(sh, "confirmpreference", "Medium");
}

/* The sentences of a call that changes nothing. 0: there is something to ask. */
static int print_question(struct shell *sh, const struct cmdlet *c, json_t *params)
{
	struct error e = { 0 };
	json_t *what_if = json_copy(params), *m;
	size_t i;
	json_object_set_new(what_if, "WhatIf", json_true());
	json_object_del(what_if, "Confirm");
	json_object_del(what_if, "Verbose");
	json_t *result = sh->service.call(sh->service.owner, c->name, what_if, NULL, NULL, &e);
	json_decref(what_if);
	/* What cannot be done needs no question: the call itself will say so. */
	bool any = json_array_size(json_object_get(result, "messages")) > 0;
	if (any)
		fprintf(sh->out, "\nConfirm\nAre you sure you want to perform this action?\n");
	json_array_foreach(json_object_get(result, "messages"), i, m)
		if (!strcmp(value_text(m, "stream"), "whatif"))
			fprintf(sh->out, "%s\n", value_text(m, "text"));
	json_decref(result);
	return any ? 0 : -1;
}

enum answer shell_confirm(struct shell *sh, const struct cmdlet *c, json_t *params)
{
	bool asked = is_asked(sh, c, params);
	if (!asked || sh->yes_to_all) {
		json_object_del(params, "Confirm");
		return ANSWER_YES;
	}
	if (sh->no_to_all)
		return ANSWER_NO;
	if (!sh->can_ask) {
		struct text way_out = { 0 };
		bool has_force = false;
		for (unsigned i = 0; i < c->parameter_count; i++)
			has_force |= !strcmp(c->parameters[i].name, "Force");
		text_addf(&way_out, "%s%s", has_force ? "-Force, or " : "",
			  sh->from_unix ? "-Confirm:false" : "-Confirm:$false");
		shell_throw(sh, &(struct error_parts){
			.message = "The command asks for confirmation, and there is no terminal to answer it.",
			.way_out = way_out.data, .category = "InvalidOperation", .id = "ConfirmationNeeded",
			.command = c->name, .exception = "HostException" });
		free(way_out.data);
		return ANSWER_THROWN;
	}
	if (print_question(sh, c, params)) {
		json_object_del(params, "Confirm");
		return ANSWER_YES;
	}
	for (;;) {
		char *line = shell_ask(sh, "[Y] Yes  [A] Yes to All  [N] No  [L] No to All  [?] Help (default is \"Y\"): ");
		json_object_del(params, "Confirm");
		bool yes = line && (!*line || list_has("y,yes", line)), all = line && !strcasecmp(line, "a");
		bool none = !line || !strcasecmp(line, "l"), no = none || list_has("n,no", line);
		free(line);
		sh->yes_to_all |= all;
		sh->no_to_all |= none;
		if (yes || all)
			return ANSWER_YES;
		if (no)
			return ANSWER_NO;
		fputs("Y: do this one. A: do this and all that follow. N: leave this one out. "
		      "L: leave out this and all that follow.\n", sh->out);
	}
}
