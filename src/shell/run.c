/* Statements and pipelines.
 *
 * A pipeline runs stage by stage: each takes the list of what came before and
 * gives a list. A cmdlet of the service is called once for each object that is
 * piped to it, so that one failure leaves the others alone; the shell's own
 * cmdlets see the whole list. An error on its way up is sh->thrown, and every
 * function that may throw returns NULL (or -1) then. Blocks point into their
 * scripts, so scripts live as long as the shell. */
#include "shell/shell.h"

#include "shell/command.h"
#include "shell/redirect.h"

#include "base/bits.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define RUN_MAX_DEPTH 64	/* blocks within blocks */

volatile sig_atomic_t shell_interrupted;

int shell_check_interrupt(struct shell *sh)
{
	if (!shell_interrupted)
		return 0;
	shell_throwf(sh, "OperationStopped", "PipelineStopped", NULL, "Interrupted.");
	return -1;
}

struct shell *shell_create(struct shell_service service, FILE *out, FILE *err)
{
	struct shell *sh = alloc_zeroed(1, sizeof(*sh));
	*sh = (struct shell){ .service = service, .out = out, .err = err, .variables = json_object(),
		.errors = json_array(), .succeeded = true, .merged = json_array() };
	shell_set_variable(sh, "ErrorActionPreference", json_string("Continue"));
	shell_set_variable(sh, "ErrorView", json_string("ConciseView"));
	shell_set_variable(sh, "ConfirmPreference", json_string("High"));
	shell_set_variable(sh, "WhatIfPreference", json_false());
	shell_set_variable(sh, "VerbosePreference", json_string("SilentlyContinue"));
	shell_set_variable(sh, "WarningPreference", json_string("Continue"));
	shell_set_variable(sh, "InformationPreference", json_string("Continue"));
	return sh;
}

void shell_destroy(struct shell *sh)
{
	json_decref(sh->variables);
	json_decref(sh->errors);
	json_decref(sh->merged);
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

/* ---- statements ---- */

static const struct node *next_stage(const struct node *stage)
{
	do
		stage = stage->next;
	while (stage && stage->kind == NODE_REDIRECT);
	return stage;
}

/* What a stage is redirected to stands among its arguments, or behind an expression. */
static int add_redirections(struct shell *sh, const struct node *stage, struct redirection *r)
{
	bool is_command = stage->kind == NODE_COMMAND;
	for (const struct node *n = is_command ? stage->first : stage->next; n; n = n->next) {
		if (n->kind == NODE_REDIRECT && redirection_add(sh, r, n))
			return -1;
		if (n->kind != NODE_REDIRECT && !is_command)
			break;
	}
	return 0;
}

static json_t *run_stage(struct shell *sh, const struct node *stage, json_t *input)
{
	if (stage->kind == NODE_COMMAND)
		return command_run(sh, stage, input);
	json_t *v = shell_eval(sh, stage, false), *output;
	output = !v ? NULL : json_is_array(v) ? json_incref(v) : json_array();
	if (v && !json_is_array(v) && !json_is_null(v))
		json_array_append(output, v);
	json_decref(v);
	return output;
}

static json_t *run_pipeline(struct shell *sh, const struct node *n, bool collect)
{
	json_t *list = NULL;
	for (const struct node *stage = n->first; stage; stage = next_stage(stage)) {
		struct redirection r = { 0 };
		json_t *output = NULL;
		if (!shell_check_interrupt(sh) && !add_redirections(sh, stage, &r))
			output = run_stage(sh, stage, list);
		json_decref(list);
		list = redirection_end(sh, &r, output);
		if (!list)
			return NULL;
	}
	if (!collect) {
		view_print(sh, sh->out, list);
		json_decref(list);
		list = json_array();
	}
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
		if (list_has("true,false,null,?,Error,HOME,PWD", target->text)) {
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

void shell_report_thrown(struct shell *sh)
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
	sh->stopping = false;
	for (const struct node *n = s->root->first; n && !sh->leaving; n = n->next) {
		if (n->kind != NODE_PIPELINE || n->first->kind == NODE_COMMAND)
			sh->succeeded = true;
		sh->command_start = n->start;
		sh->command_end = n->end;
		free(sh->command_line);
		sh->command_line = strndup(s->source + n->start, n->end - n->start);
		json_t *list = shell_run_statement(sh, n, false);
		json_decref(list);
		if (!list) {
			shell_report_thrown(sh);
			sh->stopping |= shell_preference_is(sh, "erroractionpreference", "Stop");
		}
		if (sh->stopping)
			break;
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
	s->name = name ? alloc_string(name) : NULL;
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
