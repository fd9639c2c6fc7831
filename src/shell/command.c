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

/* The common parameters that the shell itself heeds. */
struct common {
	char *error_action, *warning_action, *information_action;
	char *error_variable, *warning_variable, *information_variable, *out_variable;
	json_t *warnings, *messages;	/* for the variables */
	unsigned errors_before;
};

static const struct {
	const char *name;		/* in the service's messages */
	enum stream stream;
	const char *prefix, *preference;
} message_streams[] = {
	{ "verbose", STREAM_VERBOSE, "VERBOSE: ", "verbosepreference" },
	{ "warning", STREAM_WARNING, "WARNING: ", "warningpreference" },
	{ "information", STREAM_INFORMATION, "", "informationpreference" },
};

static void show_message(struct shell *sh, const json_t *m, bool verbose, const struct common *c)
{
	const char *stream = value_text(m, "stream"), *text = value_text(m, "text");
	struct text line = { 0 };
	if (!strcmp(stream, "whatif")) {
		fprintf(sh->out, "What if: %s\n", text);
		return;
	}
	unsigned i = 0;
	while (i < ARRAY_SIZE(message_streams) - 1 && strcmp(message_streams[i].name, stream))
		i++;
	enum stream to = message_streams[i].stream;
	const char *action = to == STREAM_WARNING ? c->warning_action :
		to == STREAM_INFORMATION ? c->information_action : verbose ? "Continue" : NULL;
	json_t *list = to == STREAM_WARNING ? c->warnings : to == STREAM_INFORMATION ? c->messages : NULL;
	if (list)
		json_array_append_new(list, json_string(text));
	if (!action)
		action = json_string_value(shell_variable(sh, message_streams[i].preference));
	if (action && list_has("SilentlyContinue,Ignore", action))
		return;
	text_addf(&line, "%s%s\n", message_streams[i].prefix, text);
	shell_say(sh, to, sh->err, line.data);
	free(line.data);
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
		sh->stopping = true;
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
	return error_record(&(struct error_parts){ .message =
			e->status == STATUS_USAGE ? "The Nestor service refused the call." :
			e->status == STATUS_FILE ? "The Nestor service cannot be reached." :
			"The Nestor service did not answer.",
		.reason = e->text, .category = "ConnectionError", .id = "ServiceUnavailable", .command = command,
		.exception = "ServiceException" });
}

/* Call the service and show its messages and errors; objects go to `output`.
 * -1 when thrown. */
static int call_service(struct shell *sh, const char *command, json_t *params, json_t *output,
			const struct common *common)
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
		return non_terminating(sh, service_failure(command, &e), common->error_action);
	json_array_foreach(json_object_get(result, "messages"), i, child)
		show_message(sh, child, verbose, common);
	json_array_foreach(json_object_get(result, "objects"), i, child)
		json_array_append(output, child);
	int r = 0;
	json_array_foreach(json_object_get(result, "errors"), i, child) {
		if (r || !json_is_object(child))
			break;
		json_t *record = json_copy(child);
		json_object_set_new(record, TYPE_KEY, json_string("ErrorRecord"));
		json_object_set_new(record, "command", json_string(command));
		r = non_terminating(sh, record, common->error_action);
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

static char *take_text(json_t *params, const char *name)
{
	json_t *v = json_object_get(params, name);
	char *s = v ? value_string(v) : NULL;
	json_object_del(params, name);
	return s;
}

static void take_common(struct shell *sh, json_t *params, struct common *c)
{
	static const char *const ignored[] = { "Debug", "ProgressAction", "OutBuffer", "PipelineVariable" };
	*c = (struct common){
		.error_action = take_text(params, "ErrorAction"),
		.warning_action = take_text(params, "WarningAction"),
		.information_action = take_text(params, "InformationAction"),
		.error_variable = take_text(params, "ErrorVariable"),
		.warning_variable = take_text(params, "WarningVariable"),
		.information_variable = take_text(params, "InformationVariable"),
		.out_variable = take_text(params, "OutVariable"),
		.warnings = json_array(), .messages = json_array(), .errors_before = sh->error_count,
	};
	for (unsigned i = 0; i < ARRAY_SIZE(ignored); i++)
		json_object_del(params, ignored[i]);
}

/* A variable that a common parameter names; +name adds to what it holds. */
static void set_common_variable(struct shell *sh, const char *name, json_t *list)
{
	if (!name)
		return;
	json_t *old = name[0] == '+' ? shell_variable(sh, name + 1) : NULL, *all = json_array();
	if (json_is_array(old))
		json_array_extend(all, old);
	else if (old && !json_is_null(old))
		json_array_append(all, old);
	json_array_extend(all, list);
	shell_set_variable(sh, name + (name[0] == '+'), all);
}

/* Set the variables; free the rest. `output` NULL: thrown. */
static void end_common(struct shell *sh, struct common *c, json_t *output)
{
	json_t *errors = json_array(), *nothing = json_array();
	for (unsigned n = sh->error_count - c->errors_before; n--;)
		if (json_array_get(sh->errors, n))
			json_array_append(errors, json_array_get(sh->errors, n));
	if (sh->thrown)
		json_array_append(errors, sh->thrown);
	set_common_variable(sh, c->error_variable, errors);
	set_common_variable(sh, c->warning_variable, c->warnings);
	set_common_variable(sh, c->information_variable, c->messages);
	set_common_variable(sh, c->out_variable, output ? output : nothing);
	json_decref(errors);
	json_decref(nothing);
	json_decref(c->warnings);
	json_decref(c->messages);
	free(c->error_action);
	free(c->warning_action);
	free(c->information_action);
	free(c->error_variable);
	free(c->warning_variable);
	free(c->information_variable);
	free(c->out_variable);
}

static int call_once(struct shell *sh, const struct cmdlet *c, json_t *params, json_t *output,
		     const struct common *common)
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
	return call_service(sh, c->name, params, output, common);
}

static json_t *run_service_cmdlet(struct shell *sh, const struct cmdlet *c, struct binding *b, json_t *input,
				  const struct common *common)
{
	json_t *output = json_array(), *params, *child;
	size_t i;
	int r = 0;
	sh->yes_to_all = sh->no_to_all = false;
	if (!input) {
		params = binding_finish(b);
		r = call_once(sh, c, params, output, common);
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
				r = non_terminating(sh, record, common->error_action);
			} else {
				r = call_once(sh, c, params, output, common);
				json_decref(params);
			}
			if (r)
				break;
		}
	}
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

/* The shell's own cmdlets see the whole list. */
static json_t *run_own_cmdlet(struct shell *sh, const struct cmdlet *c, struct binding *b, json_t *input,
			      const struct common *common)
{
	json_t *explicit_input = json_object_get(b->bound, "InputObject");
	json_t *empty = json_array(), *given = explicit_input ? json_is_array(explicit_input) ?
		json_incref(explicit_input) : json_pack("[O]", explicit_input) : NULL;
	struct call call = { .cmdlet = c, .bound = b->bound, .input = given ? given : input ? input : empty };
	json_t *output = c->run(sh, &call);
	if (!output && sh->thrown && common->error_action && strcasecmp(common->error_action, "Stop")) {
		json_t *record = sh->thrown;
		sh->thrown = NULL;
		non_terminating(sh, record, common->error_action);
		output = json_array();
	}
	sh->stopping |= !output && common->error_action && !strcasecmp(common->error_action, "Stop");
	json_decref(empty);
	json_decref(given);
	return output;
}

/* CMDLET -? is Get-Help CMDLET. */
static json_t *show_help(struct shell *sh, const struct cmdlet *c)
{
	json_t *bound = json_pack("{s:s}", "Name", c->name), *input = json_array();
	json_t *output = help_get(sh, &(struct call){ .cmdlet = c, .bound = bound, .input = input });
	json_decref(bound);
	json_decref(input);
	return output;
}

/* `input` NULL: the command begins the pipeline. */
static json_t *run_cmdlet(struct shell *sh, const struct cmdlet *c, const struct arguments *a,
			  json_t *input)
{
	struct binding b;
	struct common common;
	for (unsigned i = 0; i < a->count; i++)
		if (a->list[i].name && !strcmp(a->list[i].name, "?"))
			return show_help(sh, c);
	if (binding_begin(&b, sh, c, a->list, a->count, input != NULL))
		return NULL;
	take_common(sh, b.bound, &common);
	json_t *output = c->run ? run_own_cmdlet(sh, c, &b, input, &common) :
		run_service_cmdlet(sh, c, &b, input, &common);
	end_common(sh, &common, output);
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
			x->name = strcmp(s, "--help") ? NULL : "?";
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
