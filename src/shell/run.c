/* Statements and pipelines.
 *
 * A pipeline runs stage by stage: each takes the list of what came before and
 * gives a list. A cmdlet of the service is called once for each object that is
 * piped to it, so that one failure leaves the others alone; the shell's own
 * cmdlets see the whole list. An error on its way up is sh->thrown, and every
 * function that may throw returns NULL (or -1) then. Blocks point into their
 * scripts, so scripts live as long as the shell. */
#include "shell/shell.h"

#include "shell/binder.h"

#include "base/bits.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define RUN_MAX_DEPTH 64	/* blocks within blocks */

struct shell *shell_create(struct shell_service service, FILE *out, FILE *err)
{
	struct shell *sh = alloc_zeroed(1, sizeof(*sh));
	*sh = (struct shell){ .service = service, .out = out, .err = err, .variables = json_object(),
		.errors = json_array(), .succeeded = true };
	shell_set_variable(sh, "ErrorActionPreference", json_string("Continue"));
	shell_set_variable(sh, "ErrorView", json_string("ConciseView"));
	shell_set_variable(sh, "ConfirmPreference", json_string("High"));
	shell_set_variable(sh, "WhatIfPreference", json_false());
	shell_set_variable(sh, "VerbosePreference", json_string("SilentlyContinue"));
	shell_set_variable(sh, "WarningPreference", json_string("Continue"));
	return sh;
}

void shell_destroy(struct shell *sh)
{
	json_decref(sh->variables);
	json_decref(sh->errors);
	json_decref(sh->thrown);
	for (struct script *s = sh->scripts, *next; s; s = next) {
		next = s->next;
		script_free(s);
	}
	free(sh->blocks);
	free(sh->block_scripts);
	free(sh->command_line);
	free(sh);
}

static void lower(const char *name, char *out, size_t room)
{
	size_t i;
	const char *colon = strchr(name, ':');
	/* $global:x and its like are $x: there is one scope. */
	if (colon && strncasecmp(name, "env:", 4))
		name = colon + 1;
	for (i = 0; name[i] && i < room - 1; i++)
		out[i] = (char)tolower((unsigned char)name[i]);
	out[i] = 0;
}

json_t *shell_variable(struct shell *sh, const char *name)
{
	char key[128];
	lower(name, key, sizeof(key));
	return json_object_get(sh->variables, key);
}

void shell_set_variable(struct shell *sh, const char *name, json_t *value)
{
	char key[128];
	lower(name, key, sizeof(key));
	json_object_set_new(sh->variables, key, value);
}

bool shell_preference_is(struct shell *sh, const char *variable, const char *value)
{
	json_t *v = shell_variable(sh, variable);
	return json_is_string(v) && !strcasecmp(json_string_value(v), value);
}

/* ---- the service ---- */

static void show_progress(void *argument, const char *text, int percent)
{
	struct shell *sh = argument;
	if (!isatty(fileno(sh->err)))
		return;
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
	return error_record(&(struct error_parts){ .message = "The Nestor service did not answer.",
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
	if (isatty(fileno(sh->err)))
		fputs("\r\033[K", sh->err);
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
			x->attached = true;
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
			x->attached = n->first != NULL;
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
			  json_t *input, bool last)
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
		struct call call = { .cmdlet = c, .bound = b.bound, .input = given ? given : input ? input : empty,
			.piped = input || given, .last = last };
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

static json_t *run_command(struct shell *sh, const struct node *n, json_t *input, bool last)
{
	struct arguments a = { 0 };
	const struct cmdlet *c = find_cmdlet(sh, n->text);
	json_t *output = NULL;
	if (c && !evaluate_arguments(sh, n, &a)) {
		/* vmconnect's first word is the server, and that is this one. */
		if (!strcasecmp(n->text, "vmconnect") && a.count == 2 && !a.list[0].name &&
		    json_is_string(a.list[0].value) &&
		    list_has("localhost,.,127.0.0.1", json_string_value(a.list[0].value))) {
			json_decref(a.list[0].value);
			json_decref(a.list[0].text);
			a.list[0] = a.list[--a.count];
		}
		output = run_cmdlet(sh, c, &a, input, last);
	}
	free_arguments(&a);
	return output;
}

/* ---- redirection ---- */

struct redirection {
	FILE *out;	/* NULL: none */
	bool discard, mute;
	FILE *saved;
};

static int open_redirection(struct shell *sh, const struct node *r, struct redirection *to)
{
	if (!r->first)
		return 0;	/* 2>&1: both go to the terminal anyway */
	json_t *v = shell_eval(sh, r->first, true);
	if (!v)
		return -1;
	bool errors = r->text[0] == '2', null = json_is_null(v);
	char *path = value_string(v);
	json_decref(v);
	if (!strcasecmp(path, "$null") || !*path)
		null = true;
	int result = 0;
	if (errors && null) {
		to->mute = true;
	} else if (null) {
		to->discard = true;
		to->mute |= r->text[0] == '*';
	} else if (errors) {
		shell_throwf(sh, "NotImplemented", "RedirectionNotSupported", "2>$null hides them.",
			     "Errors cannot be redirected to a file.");
		result = -1;
	} else {
		to->out = fopen(path, strstr(r->text, ">>") ? "a" : "w");
		if (!to->out) {
			shell_throwf(sh, "OpenError", "FileOpenFailure", NULL, "The file %s cannot be written: %m.", path);
			result = -1;
		}
	}
	free(path);
	return result;
}

static const struct node *stages_of(const struct node *pipeline, struct redirection *to, struct shell *sh)
{
	for (const struct node *stage = pipeline->first; stage; stage = stage->next) {
		if (stage->kind == NODE_REDIRECT && open_redirection(sh, stage, to))
			return NULL;
		for (const struct node *n = stage->kind == NODE_COMMAND ? stage->first : NULL; n; n = n->next)
			if (n->kind == NODE_REDIRECT && open_redirection(sh, n, to))
				return NULL;
	}
	return pipeline->first;
}

static const struct node *next_stage(const struct node *stage)
{
	do
		stage = stage->next;
	while (stage && stage->kind == NODE_REDIRECT);
	return stage;
}

/* ---- statements ---- */

static json_t *run_stages(struct shell *sh, const struct node *stage)
{
	json_t *list = NULL;
	for (; stage; stage = next_stage(stage)) {
		json_t *output;
		bool last = !next_stage(stage);
		if (stage->kind == NODE_COMMAND) {
			output = run_command(sh, stage, list, last);
		} else {
			json_t *v = shell_eval(sh, stage, false);
			output = !v ? NULL : json_is_array(v) ? json_incref(v) : json_array();
			if (v && !json_is_array(v) && !json_is_null(v))
				json_array_append(output, v);
			json_decref(v);
		}
		json_decref(list);
		list = output;
		if (!list)
			return NULL;
	}
	return list;
}

static json_t *run_pipeline(struct shell *sh, const struct node *n, bool collect)
{
	struct redirection to = { 0 };
	bool mute = sh->mute;
	json_t *list = NULL;
	const struct node *first = stages_of(n, &to, sh);
	if (first) {
		FILE *out = sh->out;
		sh->mute |= to.mute;
		if (to.out)
			sh->out = to.out;
		list = run_stages(sh, first);
		if (list && (to.out || (!collect && !to.discard)))
			view_print(sh, sh->out, list);
		if (list && (to.out || to.discard || !collect))
			json_array_clear(list);
		sh->out = out;
		if (sh->thrown && to.mute) {
			json_t *record = sh->thrown;
			sh->thrown = NULL;
			shell_report(sh, record);
			json_decref(list);
			list = json_array();
		}
	}
	if (to.out && fclose(to.out) && list) {
		json_decref(list);
		list = shell_throwf(sh, "WriteError", "FileWriteFailure", NULL, "The file could not be written: %m.");
	}
	sh->mute = mute;
	return list;
}

static json_t *assign_operator(struct shell *sh, const struct node *n, json_t *old, json_t *value);

static json_t *run_assignment(struct shell *sh, const struct node *n)
{
	const struct node *target = n->first;
	json_t *list = shell_run_statement(sh, target->next, true), *v;
	if (!list)
		return NULL;
	/* $x = 1, 2 stays a list, $x = Get-VM lab is the object. */
	const struct node *value = target->next;
	bool is_list = value->kind == NODE_PIPELINE && value->first && !value->first->next &&
		(value->first->kind == NODE_ARRAY || value->first->kind == NODE_ARRAY_EXPRESSION);
	if (json_array_size(list) == 1 && !is_list)
		v = json_incref(json_array_get(list, 0));
	else
		v = json_array_size(list) || is_list ? json_incref(list) : json_null();
	json_decref(list);
	if (strcmp(n->text, "=")) {
		json_t *old = shell_eval(sh, target, false);
		json_t *changed = old ? assign_operator(sh, n, old, v) : NULL;
		json_decref(old);
		json_decref(v);
		if (!changed)
			return NULL;
		v = changed;
	}
	if (target->kind == NODE_VARIABLE) {
		if (list_has("true,false,null,?,Error,HOME", target->text)) {
			json_decref(v);
			return shell_throwf(sh, "WriteError", "VariableNotWritable", NULL,
					    "The variable $%s cannot be changed.", target->text);
		}
		shell_set_variable(sh, target->text, v);
		return json_array();
	}
	/* A copy, so that no object can come to hold itself. */
	json_t *own = json_deep_copy(v);
	json_decref(v);
	v = own;
	json_t *object = shell_eval(sh, target->first, false);
	json_t *key = object ? shell_eval(sh, target->first->next, target->kind == NODE_MEMBER) : NULL;
	bool done = false;
	if (key && json_is_object(object)) {
		char *name = value_string(key);
		const char *existing = value_property_name(object, name);
		if (name[0] != '$')
			done = !json_object_set(object, existing ? existing : name, v);
		free(name);
	} else if (key && json_is_array(object) && json_is_integer(key) && json_integer_value(key) >= 0) {
		done = !json_array_set(object, (size_t)json_integer_value(key), v);
	}
	json_decref(object);
	json_decref(key);
	json_decref(v);
	if (!done && !sh->thrown)
		shell_throwf(sh, "InvalidOperation", "PropertyNotFound", NULL,
			     "There is no such member to assign to.");
	return sh->thrown ? NULL : json_array();
}

static json_t *assign_operator(struct shell *sh, const struct node *n, json_t *old, json_t *value)
{
	/* a += b is a = a + b: the values go through two variables of the shell's own. */
	char op[2] = { n->text[0], 0 };
	char left_name[] = "$left", right_name[] = "$right";
	struct node right = { .kind = NODE_VARIABLE, .text = right_name };
	struct node left = { .kind = NODE_VARIABLE, .text = left_name, .next = &right };
	struct node binary = { .kind = NODE_BINARY, .text = op, .first = &left };
	bool nothing = json_is_null(old) && op[0] == '+';
	if (nothing)
		return json_incref(value);
	shell_set_variable(sh, left_name, json_incref(old));
	shell_set_variable(sh, right_name, json_incref(value));
	return shell_eval(sh, &binary, false);
}

json_t *shell_run_statement(struct shell *sh, const struct node *n, bool collect)
{
	switch (n->kind) {
	case NODE_ASSIGN:
		return run_assignment(sh, n);
	case NODE_EXIT: {
		json_t *v = n->first ? shell_eval(sh, n->first, false) : NULL;
		if (n->first && !v)
			return NULL;
		json_t *status = value_number(v);
		sh->status = status ? (int)json_number_value(status) & 255 : 0;
		if (!n->first)
			sh->status = sh->failed;
		sh->leaving = true;
		json_decref(v);
		json_decref(status);
		return json_array();
	}
	default:
		return run_pipeline(sh, n, collect);
	}
}

json_t *shell_run_list(struct shell *sh, const struct node *list)
{
	json_t *all = json_array();
	for (const struct node *s = list->first; s && !sh->leaving; s = s->next) {
		json_t *some = shell_run_statement(sh, s, true);
		if (!some) {
			json_decref(all);
			return NULL;
		}
		json_array_extend(all, some);
		json_decref(some);
	}
	return all;
}

json_t *shell_run_block(struct shell *sh, const json_t *block, json_t *item)
{
	json_int_t i = json_integer_value(json_object_get(block, "$block"));
	if (!value_is_block(block) || i < 0 || i >= sh->block_count)
		return shell_throwf(sh, "InvalidArgument", "NoScriptBlock", NULL, "This is no script block.");
	if (sh->depth >= RUN_MAX_DEPTH * 4)
		return shell_throwf(sh, "LimitsExceeded", "CallDepthOverflow", NULL,
				    "Script blocks are nested too deep.");
	json_t *before = json_incref(shell_variable(sh, "_"));
	const struct script *script = sh->running;
	shell_set_variable(sh, "_", json_incref(item));
	sh->running = sh->block_scripts[i];
	sh->depth += 4;
	json_t *list = shell_run_list(sh, sh->blocks[i]);
	sh->depth -= 4;
	sh->running = script;
	shell_set_variable(sh, "_", before ? before : json_null());
	return list;
}

static void report_thrown(struct shell *sh)
{
	json_t *record = sh->thrown;
	sh->thrown = NULL;
	if (record)
		shell_report(sh, record);
}

/* Statements one after the other; one that fails leaves the next alone, unless
 * $ErrorActionPreference is Stop. */
static void run_script(struct shell *sh, const struct script *s)
{
	const struct script *outer = sh->running;
	sh->running = s;
	for (const struct node *n = s->root->first; n && !sh->leaving; n = n->next) {
		if (n->kind != NODE_PIPELINE || n->first->kind == NODE_COMMAND)
			sh->succeeded = true;
		free(sh->command_line);
		sh->command_line = strndup(s->source + n->start, n->end - n->start);
		json_t *list = shell_run_statement(sh, n, false);
		json_decref(list);
		if (!list) {
			report_thrown(sh);
			if (shell_preference_is(sh, "erroractionpreference", "Stop"))
				break;
		}
	}
	sh->running = outer;
	fflush(sh->out);
}

int shell_run_text(struct shell *sh, const char *text, size_t size, const char *name)
{
	struct syntax_error e;
	struct script *s = script_parse(text, size, &e);
	if (!s) {
		shell_report_syntax(sh, text, size, &e, name);
		return 1;
	}
	s->next = sh->scripts;
	sh->scripts = s;
	run_script(sh, s);
	return sh->leaving ? sh->status : sh->failed;
}

bool shell_is_incomplete(const char *text, size_t size)
{
	struct syntax_error e;
	struct script *s = script_parse(text, size, &e);
	script_free(s);
	return !s && e.incomplete;
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
				x->attached = true;
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
		output = run_cmdlet(sh, c, &a, NULL, true);
	if (output)
		view_print(sh, sh->out, output);
	else
		report_thrown(sh);
	json_decref(output);
	free_arguments(&a);
	for (int i = 0; i < argc; i++)
		free(names[i]);
	free(names);
	fflush(sh->out);
	return sh->leaving ? sh->status : sh->failed;
}
