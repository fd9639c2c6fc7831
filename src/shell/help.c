/* Help, generated from the tables. */
#include "shell/shell.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HELP_WIDTH 80

static void add_parameter_syntax(struct text *t, const struct parameter *p, unsigned set)
{
	char type[80];
	bool mandatory = p->mandatory && !(p->optional_in & IN(set));
	const char *name = parameter_type_name(p, type, sizeof(type));
	text_add(t, mandatory ? " " : " [");
	text_addf(t, p->position ? "[-%s]" : "-%s", p->name);
	if (TYPE_OF(p) == ENUM) {
		text_add(t, " {");
		for (const char *s = p->values; *s; s++)
			text_addf(t, *s == ',' ? " | " : "%c", *s);
		text_add(t, "}");
	} else if (TYPE_OF(p) != SWITCH) {
		text_addf(t, " <%s>", name);
	}
	text_add(t, mandatory ? "" : "]");
}

void help_syntax(struct text *t, const struct cmdlet *c)
{
	char name[64];
	for (unsigned set = 0; list_item(c->sets ? c->sets : "Default", set, name, sizeof(name)); set++) {
		text_addf(t, "    %s", c->name);
		for (unsigned position = 1; position <= 17; position++)
			for (unsigned i = 0; i < c->parameter_count; i++) {
				const struct parameter *p = &c->parameters[i];
				unsigned at = p->position ? p->position : 17;
				if ((p->sets & IN(set)) && at == position && p->fate != REFUSED)
					add_parameter_syntax(t, p, set);
			}
		if (c->flags & PASSTHRU)
			text_add(t, " [-Passthru]");
		if (c->flags & CHANGES)
			text_add(t, " [-WhatIf] [-Confirm]");
		text_add(t, " [<CommonParameters>]\n\n");
	}
}

/* A paragraph in lines of HELP_WIDTH, indented. */
static void add_wrapped(struct text *t, const char *s, unsigned indent)
{
	unsigned column = 0;
	while (*s) {
		size_t n = strcspn(s, " ");
		if (column && column + 1 + n > HELP_WIDTH - indent) {
			text_add(t, "\n");
			column = 0;
		}
		if (!column)
			text_addf(t, "%*s", (int)indent, "");
		else
			text_add(t, " ");
		column += (unsigned)n + (column ? 1 : 0);
		text_add_bytes(t, s, n);
		s += n;
		while (*s == ' ')
			s++;
	}
	text_add(t, "\n");
}

static void add_parameter(struct text *t, const struct parameter *p)
{
	char type[80];
	text_addf(t, "    -%s", p->name);
	if (TYPE_OF(p) != SWITCH)
		text_addf(t, " <%s>", parameter_type_name(p, type, sizeof(type)));
	text_add(t, "\n");
	if (p->fate == REFUSED) {
		struct text reason = { 0 };
		text_addf(&reason, "Not supported. %s", p->help);
		add_wrapped(t, reason.data, 8);
		text_add(t, "\n");
		free(reason.data);
		return;
	}
	if (p->help)
		add_wrapped(t, p->help, 8);
	if (TYPE_OF(p) == ENUM) {
		text_add(t, "        One of: ");
		for (const char *s = p->values; *s; s++)
			text_addf(t, *s == ',' ? ", " : "%c", *s);
		text_add(t, "\n");
	}
	if (p->minimum || p->maximum)
		text_addf(t, "        From %lld to %lld.\n", (long long)p->minimum, (long long)p->maximum);
	text_addf(t, "        Required: %s. Position: ", p->mandatory ? "yes" : "no");
	if (p->position)
		text_addf(t, "%d.", p->position - 1);
	else
		text_add(t, "named.");
	if (p->pipeline)
		text_addf(t, " Pipeline: %s%s%s.", p->pipeline & BY_VALUE ? "the value" : "",
			  p->pipeline == (BY_VALUE | BY_PROPERTY) ? " or " : "",
			  p->pipeline & BY_PROPERTY ? "a property of its name" : "");
	if (p->aliases) {
		text_add(t, " Aliases: ");
		for (const char *s = p->aliases; *s; s++)
			text_addf(t, *s == ',' ? ", " : "%c", *s);
		text_add(t, ".");
	}
	text_add(t, "\n\n");
}

static void add_examples(struct text *t, const struct cmdlet *c)
{
	const char *s = c->examples;
	unsigned n = 0;
	if (!s)
		return;
	text_add(t, "EXAMPLES\n");
	while (*s) {
		size_t line = strcspn(s, "\n"), command = strcspn(s, "\t");
		if (command > line)
			command = line;
		text_addf(t, "    Example %u", ++n);
		if (command < line)
			text_addf(t, ": %.*s", (int)(line - command - 1), s + command + 1);
		text_addf(t, "\n    PS> %.*s\n\n", (int)command, s);
		s += line + (s[line] == '\n');
	}
}

static json_t *text_object(struct text *t)
{
	char *s = text_take(t);
	json_t *v = json_pack("[{s:s,s:s}]", TYPE_KEY, "FormattedText", "Text", s);
	free(s);
	return v;
}

static void add_overview(struct text *t)
{
	const struct cmdlet *c, *other;
	text_add(t, "\nNestor's cmdlets. Get-Help NAME says more; Get-Help NAME -Examples shows examples\n"
		 "that run. Start with: New-VM lab; Set-VMProcessor lab -ExposeVirtualizationExtensions $true;\n"
		 "Start-VM lab; Connect-VMConsole lab.\n");
	for (unsigned i = 0; (c = cmdlet_at(i)); i++) {
		bool listed = false;
		for (unsigned k = 0; k < i && !listed; k++)
			listed = !strcmp(cmdlet_at(k)->module, c->module);
		if (listed)
			continue;
		text_addf(t, "\n%s\n", c->module);
		for (unsigned k = i; (other = cmdlet_at(k)); k++)
			if (!strcmp(other->module, c->module))
				text_addf(t, "    %-30s %s\n", other->name, other->synopsis);
	}
	text_add(t, "\n");
}

static void add_help(struct text *t, const struct cmdlet *c, struct call *call)
{
	bool examples = value_true(json_object_get(call->bound, "Examples"));
	bool full = value_true(json_object_get(call->bound, "Full")) ||
		value_true(json_object_get(call->bound, "Detailed"));
	json_t *wanted = json_object_get(call->bound, "Parameter");
	const struct parameter *p;
	if (wanted) {
		for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++)
			if (value_like(p->name, json_string_value(wanted), false))
				add_parameter(t, p);
		return;
	}
	text_addf(t, "\nNAME\n    %s\n\nSYNOPSIS\n    %s\n\n", c->name, c->synopsis);
	if (!examples) {
		text_add(t, "SYNTAX\n");
		help_syntax(t, c);
		if (c->aliases) {
			text_add(t, "ALIASES\n    ");
			for (const char *s = c->aliases; *s; s++)
				text_addf(t, *s == ',' ? ", " : "%c", *s);
			text_add(t, "\n\n");
		}
		text_add(t, "PARAMETERS\n");
		for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++)
			if (full || !cmdlet_parameter_is_common(c, i)) {
				if (full || p->fate == WORKS)
					add_parameter(t, p);
			}
	}
	if (full && c->output)
		text_addf(t, "OUTPUT\n    %s%s\n\n", c->output, c->flags & PASSTHRU ? ", with -Passthru" : "");
	if (examples || full)
		add_examples(t, c);
	else if (c->examples)
		text_addf(t, "    Get-Help %s -Examples shows examples.\n\n", c->name);
}

json_t *help_get(struct shell *sh, struct call *call)
{
	const char *name = json_string_value(json_object_get(call->bound, "Name"));
	struct text t = { 0 };
	if (!name) {
		add_overview(&t);
		return text_object(&t);
	}
	const struct cmdlet *c = cmdlet_find(name), *one = NULL;
	unsigned matches = 0;
	if (c) {
		add_help(&t, c, call);
		if (!t.size)
			return shell_throwf(sh, "InvalidArgument", "HelpNotFound", NULL, "%s has no parameter \"%s\".", c->name,
					    json_string_value(json_object_get(call->bound, "Parameter")));
		return text_object(&t);
	}
	/* A part of a name, or a pattern, lists what it fits. */
	for (unsigned i = 0; (c = cmdlet_at(i)); i++)
		if (value_has_wildcard(name) ? value_like(c->name, name, false) : strcasestr(c->name, name) != NULL) {
			text_addf(&t, "%-30s %s\n", c->name, c->synopsis);
			one = c;
			matches++;
		}
	if (matches == 1) {
		t.size = 0;
		add_help(&t, one, call);
	}
	if (matches)
		return text_object(&t);
	char near[160];
	const char *module;
	free(t.data);
	cmdlet_nearest(name, near, sizeof(near));
	if (cmdlet_known_elsewhere(name, &module))
		return shell_throwf(sh, "ResourceUnavailable", "HelpNotFound", *near ? near : "Get-Help lists all cmdlets.",
				    "%s is a cmdlet of %s that Nestor does not have.", name, module);
	return shell_throwf(sh, "ResourceUnavailable", "HelpNotFound", *near ? near : "Get-Help lists all cmdlets.",
			    "There is no help about \"%s\".", name);
}

json_t *help_commands(struct shell *sh, struct call *call)
{
	json_t *all = json_array(), *names = json_object_get(call->bound, "Name"), *name;
	json_t *modules = json_object_get(call->bound, "Module");
	json_t *verb = json_object_get(call->bound, "Verb"), *noun = json_object_get(call->bound, "Noun");
	bool syntax = value_true(json_object_get(call->bound, "Syntax"));
	struct text t = { 0 };
	const struct cmdlet *c;
	for (unsigned i = 0; (c = cmdlet_at(i)); i++) {
		bool wanted = !json_array_size(names);
		const char *dash = strchr(c->name, '-');
		char v[32];
		size_t k;
		json_array_foreach(names, k, name)
			wanted |= value_like(c->name, json_string_value(name), false) ||
				list_has(c->aliases, json_string_value(name));
		snprintf(v, sizeof(v), "%.*s", dash ? (int)(dash - c->name) : 0, c->name);
		if (verb && !value_like(v, json_string_value(verb), false))
			wanted = false;
		if (noun && (!dash || !value_like(dash + 1, json_string_value(noun), false)))
			wanted = false;
		if (modules && !value_like(c->module, json_string_value(modules), false))
			wanted = false;
		if (!wanted)
			continue;
		if (syntax)
			help_syntax(&t, c);
		json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:s}", TYPE_KEY, "Command", "CommandType", "Cmdlet",
						     "Name", c->name, "Module", c->module));
	}
	if (syntax) {
		json_decref(all);
		return text_object(&t);
	}
	if (!json_array_size(all) && json_array_size(names)) {
		char near[160];
		const char *wanted = json_string_value(json_array_get(names, 0));
		if (!value_has_wildcard(wanted)) {
			cmdlet_nearest(wanted, near, sizeof(near));
			json_decref(all);
			return shell_throwf(sh, "ObjectNotFound", "CommandNotFoundException", *near ? near : NULL,
					    "There is no cmdlet \"%s\".", wanted);
		}
	}
	return all;
}

json_t *help_members(struct shell *sh, struct call *call)
{
	static const char *const types[] = {
		[JSON_OBJECT] = "object", [JSON_ARRAY] = "Object[]", [JSON_STRING] = "string",
		[JSON_INTEGER] = "long", [JSON_REAL] = "double", [JSON_TRUE] = "bool", [JSON_FALSE] = "bool",
		[JSON_NULL] = "null",
	};
	json_t *all = json_array(), *o, *v, *first = json_array_get(call->input, 0);
	const char *key;
	size_t i;
	if (!json_is_object(first)) {
		if (first)
			return text_object(&(struct text){ .data = alloc_string("A plain value: no properties.\n"),
							   .size = 30 });
		return all;
	}
	json_array_foreach(call->input, i, o) {
		if (i)
			break;
		json_object_foreach(o, key, v)
			if (key[0] != '$')
				json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:o}", TYPE_KEY, "Member", "Name", key,
					"MemberType", "Property", "Definition",
					json_sprintf("%s %s", types[json_typeof(v)], key)));
	}
	return all;
}
