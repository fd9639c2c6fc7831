/* One command of a pipeline: its cmdlet, its arguments, and the call. */
#include "shell/command.h"

#include "shell/binder.h"

#include "base/bits.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

static void show_progress(void *argument, const char *text, int percent)
{
	struct shell *sh = argument;
	if (!isatty(fileno(sh->err)))
		return;
	sh->progress_shown = true;
	if (percent < 0)
		fprintf(sh->err, "\r\033[K%s", text);
	else
		fprintf(sh->err, "\r\033[K%s (%d %%)", text, percent);
	fflush(sh->err);
}

static void show_message(struct shell *sh, const json_t *m, bool verbose)
{
	const char *stream = value_text(m, "stream"), *text = value_text(m, "text");
	if (!strcmp(stream, "whatif")) {
		fprintf(sh->out, "What if: %s\n", text);
		return;
	}
	fflush(sh->out);
	if (!strcmp(stream, "verbose")) {
		if (verbose || shell_preference_is(sh, "verbosepreference", "Continue"))
			fprintf(sh->err, "VERBOSE: %s\n", text);
	} else if (!strcmp(stream, "warning")) {
		if (!shell_preference_is(sh, "warningpreference", "SilentlyContinue"))
			fprintf(sh->err, "WARNING: %s\n", text);
	} else {
		fprintf(sh->err, "%s\n", text);
	}
}

/* Show, keep silent about or throw an error, as asked. Takes the record. */
static int non_terminating(struct shell *sh, json_t *record, const char *action)
{
	const char *preference = json_string_value(shell_variable(sh, "ErrorActionPreference"));
	if (!action)
		action = preference ? preference : "Continue";
	if (!strcasecmp(action, "Stop")) {
		json_decref(sh->thrown);
		sh->thrown = record;
		return -1;
	}
	if (!strcasecmp(action, "Ignore")) {
		json_decref(record);
		sh->succeeded = false;
		return 0;
	}
	bool muted = sh->mute;
	sh->mute |= !strcasecmp(action, "SilentlyContinue");
	shell_report(sh, record);
	sh->mute = muted;
	return 0;
}

static json_t *service_failure(const char *command, const struct error *e)
{
	return error_record(&(struct error_parts){ .message = e->status == STATUS_USAGE ?
			"The Nestor service refused the call." : "The Nestor service did not answer.",
		.reason = e->text, .category = "ConnectionError", .id = "ServiceUnavailable", .command = command,
		.exception = "ServiceException" });
}

int shell_call_service(struct shell *sh, const char *command, json_t *params, json_t *output,
		       const char *error_action)
{
	struct error e = { 0 };
	bool verbose = value_true(json_object_get(params, "Verbose"));
	json_t *result = sh->service.call(sh->service.owner, command, params, show_progress, sh, &e), *child;
	size_t i;
	if (sh->progress_shown)
		fputs("\r\033[K", sh->err);
	sh->progress_shown = false;
	if (!result && shell_interrupted)
		return shell_check_interrupt(sh);
	if (!result)
		return non_terminating(sh, service_failure(command, &e), error_action);
	json_array_foreach(json_object_get(result, "messages"), i, child)
		show_message(sh, child, verbose);
	json_array_foreach(json_object_get(result, "objects"), i, child)
		json_array_append(output, child);
	int r = 0;
	json_array_foreach(json_object_get(result, "errors"), i, child) {
		if (r || !json_is_object(child))
			break;
		json_t *record = json_copy(child);
		json_object_set_new(record, TYPE_KEY, json_string("ErrorRecord"));
		json_object_set_new(record, "command", json_string(command));
		r = non_terminating(sh, record, error_action);
	}
	json_decref(result);
	return r;
}

/* ---- commands ---- */

struct arguments {
	struct argument *list;
	unsigned count, room;
};

static struct argument *add_argument(struct arguments *a)
{
	if (a->count == a->room) {
		a->room = a->room ? a->room * 2 : 16;
		a->list = alloc_resize(a->list, a->room, sizeof(*a->list));
	}
	a->list[a->count] = (struct argument){ 0 };
	return &a->list[a->count++];
}

static void free_arguments(struct arguments *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		json_decref(a->list[i].value);
		json_decref(a->list[i].text);
	}
	free(a->list);
}

static int splat(struct shell *sh, const struct node *n, struct arguments *a)
{
	json_t *v = shell_variable(sh, n->text), *child;
	const char *key;
	size_t i;
	if (!v) {
		shell_throwf(sh, "InvalidArgument", "VariableNotFound", NULL,
			     "The variable $%s, whose members @%s would be, is not set.", n->text, n->text);
		return -1;
	}
	if (json_is_object(v)) {
		json_object_foreach(v, key, child) {
			if (key[0] == '$')
				continue;
			struct argument *x = add_argument(a);
			x->name = key;
			x->value = json_incref(child);
		}
	} else if (json_is_array(v)) {
		json_array_foreach(v, i, child)
			add_argument(a)->value = json_incref(child);
	} else {
		add_argument(a)->value = json_incref(v);
	}
	return 0;
}

static int evaluate_argument(struct shell *sh, const struct node *n, struct argument *a)
{
	a->placeholder = n->placeholder;
	a->value = shell_eval(sh, n, false);
	if (!a->value)
		return -1;
	if ((n->kind == NODE_NUMBER || n->kind == NODE_ARRAY) && n->first == NULL)
		a->text = shell_eval(sh, n, true);
	else if (n->kind == NODE_ARRAY) {
		/* Only lists of bare words differ; anything else is not evaluated twice. */
		bool words = true;
		for (const struct node *e = n->first; e; e = e->next)
			words &= e->kind == NODE_NUMBER || e->kind == NODE_STRING;
		if (words)
			a->text = shell_eval(sh, n, true);
	}
	return 0;
}

static int evaluate_arguments(struct shell *sh, const struct node *command, struct arguments *a)
{
	for (const struct node *n = command->first; n; n = n->next) {
		struct argument *x;
		switch (n->kind) {
		case NODE_REDIRECT:
			break;
		case NODE_SPLAT:
			if (splat(sh, n, a))
				return -1;
			break;
		case NODE_PARAMETER:
			x = add_argument(a);
			x->name = n->text;
			if (n->first && evaluate_argument(sh, n->first, x))
				return -1;
			break;
		default:
			if (evaluate_argument(sh, n, add_argument(a)))
				return -1;
		}
	}
	return 0;
}

static const struct cmdlet *find_cmdlet(struct shell *sh, const char *name)
{
	const struct cmdlet *c = cmdlet_find(name);
	const char *module, *plain = strrchr(name, '\\');
	char near[160];
	if (c)
		return c;
	plain = plain ? plain + 1 : name;
	struct text message = { 0 }, way_out = { 0 };
	if (cmdlet_known_elsewhere(plain, &module)) {
		text_addf(&message, "%s is a cmdlet of %s that Nestor does not have.", plain, module);
		cmdlet_nearest(plain, near, sizeof(near));
		text_add(&way_out, "Get-Command lists those it has");
		if (*near)
			text_addf(&way_out, "; near by name: %s", near);
		text_add(&way_out, ".");
	} else {
		text_addf(&message, "The term '%s' is not recognized as the name of a cmdlet.", name);
		cmdlet_nearest(plain, near, sizeof(near));
		if (*near)
			text_addf(&way_out, "%s", near);
		else
			text_add(&way_out, "Get-Command lists the cmdlets; other programs belong to a Unix shell.");
	}
	shell_throw(sh, &(struct error_parts){ .message = message.data, .way_out = way_out.data,
		.category = "ObjectNotFound", .target = name, .id = "CommandNotFoundException", .command = plain,
		.exception = "CommandNotFoundException" });
	free(message.data);
	free(way_out.data);
	return NULL;
}

/* The common parameters that the shell itself heeds. */
struct common {
	char *error_action, *error_variable, *out_variable;
};

static char *take_text(json_t *params, const char *name)
{
	json_t *v = json_object_get(params, name);
	char *s = v ? value_string(v) : NULL;
	json_object_del(params, name);
	return s;
}

static void take_common(json_t *params, struct common *c)
{
	static const char *const ignored[] = { "Debug", "WarningAction", "InformationAction", "ProgressAction",
		"WarningVariable", "InformationVariable", "OutBuffer", "PipelineVariable" };
	c->error_action = take_text(params, "ErrorAction");
	c->error_variable = take_text(params, "ErrorVariable");
	c->out_variable = take_text(params, "OutVariable");
	for (unsigned i = 0; i < ARRAY_SIZE(ignored); i++)
		json_object_del(params, ignored[i]);
}

static void free_common(struct common *c)
{
	free(c->error_action);
	free(c->error_variable);
	free(c->out_variable);
}

static int call_once(struct shell *sh, const struct cmdlet *c, json_t *params, json_t *output, const char *action)
{
	if (c->flags & CHANGES) {
		json_t *preference = shell_variable(sh, "WhatIfPreference");
		if (preference && value_true(preference) && !json_object_get(params, "WhatIf"))
			json_object_set_new(params, "WhatIf", json_true());
		switch (shell_confirm(sh, c, params)) {
		case ANSWER_THROWN:
			return -1;
		case ANSWER_NO:
			return 0;
		case ANSWER_YES:
			break;
		}
	}
	return shell_call_service(sh, c->name, params, output, action);
}

static json_t *run_service_cmdlet(struct shell *sh, const struct cmdlet *c, struct binding *b, json_t *input)
{
	json_t *output = json_array(), *params, *child;
	struct common common;
	size_t i;
	int r = 0;
	sh->yes_to_all = sh->no_to_all = false;
	json_t *own = json_copy(b->bound);
	take_common(own, &common);
	json_decref(own);
	if (!input) {
		params = binding_finish(b);
		struct common unused;
		take_common(params, &unused);
		free_common(&unused);
		r = call_once(sh, c, params, output, common.error_action);
		json_decref(params);
	} else {
		json_array_foreach(input, i, child) {
			r = shell_check_interrupt(sh);
			if (r)
				break;
			params = binding_object(b, child);
			if (!params) {
				/* One object that does not fit leaves the others alone. */
				json_t *record = sh->thrown;
				sh->thrown = NULL;
				r = non_terminating(sh, record, common.error_action);
			} else {
				struct common unused;
				take_common(params, &unused);
				free_common(&unused);
				r = call_once(sh, c, params, output, common.error_action);
				json_decref(params);
			}
			if (r)
				break;
		}
	}
	if (common.error_variable) {
		json_t *list = json_array(), *newest = json_array_get(sh->errors, 0);
		if (!sh->succeeded && newest)
			json_array_append(list, newest);
		shell_set_variable(sh, common.error_variable, list);
	}
	if (common.out_variable)
		shell_set_variable(sh, common.out_variable, json_copy(output));
	free_common(&common);
	/* A console is no object to show but a place to go. */
	json_t *console = json_array_get(output, 0);
	if (!r && console && !strcmp(value_type(console), "Console")) {
		json_t *after = console_join(sh, console);
		json_decref(output);
		return after;
	}
	if (r) {
		json_decref(output);
		return NULL;
	}
	return output;
}

/* `input` NULL: the command begins the pipeline. */
static json_t *run_cmdlet(struct shell *sh, const struct cmdlet *c, const struct arguments *a,
			  json_t *input)
{
	struct binding b;
	json_t *output;
	if (binding_begin(&b, sh, c, a->list, a->count, input != NULL))
		return NULL;
	if (c->run) {
		struct common common;
		take_common(b.bound, &common);
		json_t *explicit_input = json_object_get(b.bound, "InputObject");
		json_t *empty = json_array(), *given = explicit_input ? json_is_array(explicit_input) ?
			json_incref(explicit_input) : json_pack("[O]", explicit_input) : NULL;
		struct call call = { .cmdlet = c, .bound = b.bound, .input = given ? given : input ? input : empty };
		output = c->run(sh, &call);
		if (!output && sh->thrown && common.error_action && strcasecmp(common.error_action, "Stop")) {
			json_t *record = sh->thrown;
			sh->thrown = NULL;
			non_terminating(sh, record, common.error_action);
			output = json_array();
		}
		if (output && common.out_variable)
			shell_set_variable(sh, common.out_variable, json_copy(output));
		json_decref(empty);
		json_decref(given);
		free_common(&common);
	} else {
		output = run_service_cmdlet(sh, c, &b, input);
	}
	binding_end(&b);
	return output;
}

json_t *command_run(struct shell *sh, const struct node *n, json_t *input)
{
	struct arguments a = { 0 };
	json_t *output = NULL;
	sh->command_start = n->start;
	sh->command_end = n->end;
	const struct cmdlet *c = find_cmdlet(sh, n->text);
	if (c && !evaluate_arguments(sh, n, &a)) {
		/* vmconnect's first word is the server, and that is this one. */
		if (!strcasecmp(n->text, "vmconnect") && a.count == 2 && !a.list[0].name &&
		    json_is_string(a.list[0].value) &&
		    list_has("localhost,.,127.0.0.1", json_string_value(a.list[0].value))) {
			json_decref(a.list[0].value);
			json_decref(a.list[0].text);
			a.list[0] = a.list[--a.count];
		}
		/* Commands in the arguments have run meanwhile. */
		sh->command_start = n->start;
		sh->command_end = n->end;
		output = run_cmdlet(sh, c, &a, input);
	}
	free_arguments(&a);
	return output;
}

/* `nestor Set-VM lab -Notes "a b"`: each word is one value as it is. */
int shell_run_words(struct shell *sh, int argc, char *const argv[])
{
	struct arguments a = { 0 };
	const struct cmdlet *c = find_cmdlet(sh, argv[0]);
	json_t *output = NULL;
	sh->from_unix = true;
	bool valid = true;
	struct text line = { 0 };
	text_add(&line, "nestor");
	for (int i = 0; i < argc; i++)
		text_addf(&line, !*argv[i] || strpbrk(argv[i], " $()'\"|;&") ? " '%s'" : " %s", argv[i]);
	free(sh->command_line);
	sh->command_line = text_take(&line);
	char **names = alloc_zeroed((size_t)argc, sizeof(*names));
	for (int i = 1; c && valid && i < argc; i++) {
		const char *s = argv[i];
		unsigned length, dash = 0;
		uint32_t first = *s ? utf8_decode(s, strlen(s), &length) : 0;
		bool is_dash = first == '-' || (first >= 0x2013 && first <= 0x2015);
		struct argument *x = add_argument(&a);
		if (is_dash && (isalpha((unsigned char)s[length]) || s[length] == '_' || s[length] == '?')) {
			dash = length;
			size_t n = strcspn(s + dash, ":");
			names[i] = strndup(s + dash, n);
			x->name = names[i];
			if (s[dash + n] == ':') {
				x->value = json_string(s + dash + n + 1);
					valid = x->value != NULL;
			}
		} else {
			x->value = json_string(s);
			x->placeholder = s[0] == '<' && s[1] && s[strlen(s) - 1] == '>';
			valid = x->value != NULL;
		}
		x->word = true;
	}
	if (c && !valid)
		shell_throwf(sh, "InvalidData", "InvalidText", NULL, "An argument is not UTF-8.");
	else if (c)
		output = run_cmdlet(sh, c, &a, NULL);
	if (output)
		view_print(sh, sh->out, output);
	else
		shell_report_thrown(sh);
	json_decref(output);
	free_arguments(&a);
	for (int i = 0; i < argc; i++)
		free(names[i]);
	free(names);
	fflush(sh->out);
	return sh->leaving ? sh->status : sh->failed;
}
