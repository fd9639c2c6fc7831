#include "service/call.h"

#include "base/bits.h"
#include "base/log.h"
#include "service/paths.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct text {
	struct text *next;
	char *text;
};

const char *call_text(struct call *c, const char *format, ...)
{
	struct text *t = alloc_zeroed(1, sizeof *t);
	va_list ap;
	va_start(ap, format);
	if (vasprintf(&t->text, format, ap) < 0)
		panic("out of memory");
	va_end(ap);
	t->next = c->texts;
	c->texts = t;
	return t->text;
}

static void texts_free(struct text *t)
{
	while (t) {
		struct text *next = t->next;
		free(t->text);
		free(t);
		t = next;
	}
}

/* Members. */

const char *get_text(json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : "";
}

int64_t get_integer(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool get_true(json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* Parameters. */

json_t *call_parameter(struct call *c, const char *name)
{
	json_t *value = json_object_get(c->params, name);
	return json_is_null(value) ? NULL : value;
}

const char *call_string(struct call *c, const char *name)
{
	json_t *value = call_parameter(c, name);
	if (json_is_array(value) && json_array_size(value) == 1)
		value = json_array_get(value, 0);
	return json_string_value(value);
}

bool call_switch(struct call *c, const char *name)
{
	return json_is_true(call_parameter(c, name));
}

json_t *call_list(struct call *c, const char *name)
{
	json_t *value = call_parameter(c, name);
	return !value ? NULL : json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
}

const char *call_path(struct call *c, const char *path)
{
	const char *location = call_string(c, "$Location");
	if (path[0] == '/')
		return path;
	if (location && location[0] == '/')
		return call_text(c, "%s/%s", location, path);
	call_error(c, "InvalidParameter", path, call_text(c, "The path \"%s\" is not a full path.", path),
		   "The service does not know which folder it is relative to.",
		   "Write the path from / on.");
	return NULL;
}

/* Results. */

/* A text may be cut in the middle of a character, or come from a file's name. */
json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	if (value)
		return value;
	char *plain = alloc_string(text);
	for (char *at = plain; *at; at++)
		if (*at & 0x80)
			*at = '?';
	value = json_string(plain);
	free(plain);
	return value;
}

void call_object(struct call *c, json_t *object)
{
	if (!object)
		panic("%s makes an object that is none", c->cmdlet->name);
	json_array_append_new(c->objects, object);
}

void call_say(struct call *c, const char *stream, const char *text)
{
	json_array_append_new(c->messages, json_pack("{s:s,s:o}", "stream", stream, "text",
							 text_json(text)));
}

static json_t *add_error(struct call *c, const char *category, const char *id, const char *exception,
			 const char *target, const char *message, const char *reason, const char *remedy)
{
	json_t *error = json_pack("{s:o,s:s,s:o,s:s,s:s}", "message", text_json(message),
				  "category", category, "target", text_json(target ? target : ""),
				  "id", id, "exception", exception);
	if (reason)
		json_object_set_new(error, "reason", text_json(reason));
	if (remedy)
		json_object_set_new(error, "try", text_json(remedy));
	json_array_append_new(c->errors, error);
	return error;
}

void call_error(struct call *c, const char *kind, const char *target, const char *message,
		const char *reason, const char *remedy)
{
	static const struct { const char *kind, *category; } categories[] = {
		{ "InvalidParameter", "InvalidArgument" },
		{ "InvalidState", "InvalidOperation" },
		{ "ObjectNotFound", "ObjectNotFound" },
		{ "OperationFailed", "NotSpecified" },
		{ "PermissionDenied", "PermissionDenied" },
		{ "NotSupported", "NotImplemented" },
		{ "OutOfMemory", "ResourceUnavailable" },
	};
	char class_name[64], *to = class_name;
	const char *category = NULL;
	for (const char *from = c->cmdlet->name; *from && to < class_name + sizeof class_name - 1; from++)
		if (*from != '-')
			*to++ = *from;
	*to = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(categories); i++)
		if (!strcmp(kind, categories[i].kind))
			category = categories[i].category;
	if (!category)
		panic("%s makes an error of no known kind (%s)", c->cmdlet->name, kind);
	add_error(c, category, call_text(c, "%s,Microsoft.HyperV.PowerShell.Commands.%s", kind, class_name),
		  "VirtualizationException", target, message, reason, remedy);
}

void call_cim_error(struct call *c, const char *category, const char *class_name, int code,
		    const char *target, const char *message, const char *reason, const char *remedy)
{
	json_t *error = add_error(c, category, call_text(c, "Windows System Error %d,%s", code, c->cmdlet->name),
				  "CimException", target ? target : class_name, message, reason, remedy);
	/* What no object is named for is about the class, in its namespace. */
	if (!target)
		json_object_set_new(error, "targetType", json_sprintf("root/StandardCimv2/%s", class_name));
}

bool call_should(struct call *c, const char *sentence)
{
	if (c->what_if)
		call_say(c, "whatif", sentence);
	else if (call_switch(c, "Verbose"))
		call_say(c, "verbose", sentence);
	return !c->what_if;
}

int call_put(struct call *c, enum store_kind kind, json_t *object)
{
	struct error e;
	if (!store_put(c->service->store, kind, object, &e))
		return 0;
	call_error(c, "OperationFailed", get_text(object, "Name"),
		   "The configuration could not be saved.", e.text,
		   call_text(c, "Make room on the disk that holds %s, or put its rights right; nothing was changed.",
			     paths_store()));
	return -1;
}

const char *call_guid(struct call *c, json_t *vm)
{
	char capitals[STORE_ID_SIZE];
	snprintf(capitals, sizeof capitals, "%s", get_text(vm, "Id"));
	for (char *at = capitals; *at; at++)
		*at = (char)toupper((unsigned char)*at);
	return call_text(c, "%s", capitals);
}

/* Names. */

bool is_wildcard(const char *text)
{
	return strpbrk(text, "*?[");
}

static int lower(char byte)
{
	return tolower((unsigned char)byte);
}

/* *pattern is '[': does its set hold the byte, and where does it end? */
static const char *match_set(const char *pattern, char byte, bool *holds)
{
	const char *at = pattern + 1;
	*holds = false;
	for (; *at && *at != ']'; at++) {
		char last = at[1] == '-' && at[2] && at[2] != ']' ? at[2] : *at;
		if (lower(byte) >= lower(*at) && lower(byte) <= lower(last))
			*holds = true;
		if (last != *at)
			at += 2;
	}
	return *at ? at + 1 : NULL;
}

bool wildcard_match(const char *pattern, const char *text)
{
	const char *star = NULL, *retry = NULL;
	while (*text) {
		bool holds = false;
		const char *next = pattern + 1;
		if (*pattern == '*') {
			star = ++pattern;
			retry = text;
			continue;
		}
		if (*pattern == '[') {
			next = match_set(pattern, *text, &holds);
			if (!next) {	/* no set after all */
				next = pattern + 1;
				holds = *text == '[';
			}
		} else if (*pattern == '`' && pattern[1]) {
			next = pattern + 2;	/* what follows stands for itself */
			holds = lower(pattern[1]) == lower(*text);
		} else if (*pattern) {
			holds = *pattern == '?' || lower(*pattern) == lower(*text);
		}
		if (holds) {
			pattern = next;
			text++;
		} else if (star) {
			pattern = star;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

const char *call_names(struct call *c, enum store_kind kind)
{
	enum { SHOWN = 12 };
	json_t *object;
	const char *id, *names = "";
	unsigned n = 0;
	json_object_foreach(store_objects(c->service->store, kind), id, object) {
		if (n++ == SHOWN)
			return call_text(c, "%s, …", names);
		names = call_text(c, "%s%s%s", names, *names ? ", " : "", get_text(object, "Name"));
	}
	return names;
}

static void vm_not_found(struct call *c, const char *name)
{
	const char *names = call_names(c, STORE_VM);
	call_error(c, "InvalidParameter", name,
		call_text(c, "Hyper-V was unable to find a virtual machine with name \"%s\".", name),
		call_text(c, "The store %s has %s%s%s.", paths_store(),
			  *names ? "these: " : "no virtual machine", names, ""),
		*names ? "Get-VM" : "New-VM -Name NAME makes one.");
}

static void add_named(struct call *c, json_t *found, const char *name)
{
	json_t *vm;
	const char *id;
	bool any = false;
	json_object_foreach(store_objects(c->service->store, STORE_VM), id, vm)
		/* A name that has wildcards itself is found by it, too. */
		if (wildcard_match(name, get_text(vm, "Name")) || !strcasecmp(name, get_text(vm, "Name"))) {
			json_array_append(found, vm);
			any = true;
		}
	if (!any && !is_wildcard(name))
		vm_not_found(c, name);
}

static void add_by_id(struct call *c, json_t *found, const char *id)
{
	char key[STORE_ID_SIZE] = "";
	for (unsigned i = 0; i < sizeof key - 1 && id[i]; i++)
		key[i] = (char)tolower((unsigned char)id[i]);
	json_t *vm = store_find(c->service->store, STORE_VM, key);
	if (vm)
		json_array_append(found, vm);
	else
		call_error(c, "InvalidParameter", id,
			call_text(c, "Hyper-V was unable to find a virtual machine with id \"%s\".", id),
			call_text(c, "The store %s has none with it.", paths_store()), "Get-VM");
}

json_t *call_vms(struct call *c)
{
	json_t *found = json_array(), *item;
	json_t *names = c->cmdlet->vm ? call_list(c, c->cmdlet->vm) : NULL;
	json_t *objects = call_list(c, "VM");
	size_t i;
	if (!names && !objects)
		call_error(c, "InvalidParameter", NULL,
			call_text(c, "Cannot process command because of one or more missing mandatory parameters: %s.",
				  c->cmdlet->vm ? c->cmdlet->vm : "VM"), NULL, NULL);
	json_array_foreach(names, i, item)
		if (json_is_string(item))
			add_named(c, found, json_string_value(item));
	json_array_foreach(objects, i, item)
		add_by_id(c, found, json_is_string(item) ? json_string_value(item) : get_text(item, "Id"));
	json_decref(names);
	json_decref(objects);
	return found;
}

json_t *call_one_vm(struct call *c)
{
	json_t *found = call_vms(c), *vm = json_array_get(found, 0);
	if (json_array_size(found) > 1) {
		call_error(c, "InvalidParameter", get_text(vm, "Name"),
			   "The operation cannot be performed because it takes one virtual machine.",
			   call_text(c, "%zu of them have that name.", json_array_size(found)),
			   "Name it by its Id: Get-VM -Id ID | …");
		vm = NULL;
	}
	json_decref(found);	/* the store keeps it */
	return vm;
}

/* Running. */

static const struct cmdlet *const tables[] = {
	vm_cmdlets, life_cmdlets, device_cmdlets, disk_cmdlets, vhd_cmdlets, network_cmdlets, nat_cmdlets,
	host_cmdlets, ip_cmdlets, feature_cmdlets,
};

static const struct cmdlet *find_cmdlet(const char *name)
{
	for (unsigned t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct cmdlet *m = tables[t]; m->name; m++)
			if (!strcasecmp(m->name, name))
				return m;
	return NULL;
}

/* What is true of every cmdlet, or the shell's own business. */
static const char common[] =
	" WhatIf Confirm Passthru Verbose Debug Force AsJob ErrorAction WarningAction "
	"ErrorVariable OutVariable $Location VM ";

static bool check_parameters(struct call *c)
{
	json_t *value;
	const char *name;
	json_object_foreach(c->params, name, value) {
		const char *word = call_text(c, " %s ", name);
		if (strstr(common, word) || strstr(c->cmdlet->parameters, word) ||
		    (c->cmdlet->vm && !strcmp(name, c->cmdlet->vm)))
			continue;
		call_error(c, "NotSupported", name,
			call_text(c, "%s: Nestor does not have the parameter -%s.", c->cmdlet->name, name),
			"What it asks for would silently not be done.",
			call_text(c, "Leave -%s out; Get-Help %s shows what there is.", name,
				  c->cmdlet->name));
	}
	return !json_array_size(c->errors);
}

json_t *service_run(struct service *s, const char *method, json_t *params, struct rpc_call *rpc)
{
	struct call c = {
		.service = s, .rpc = rpc, .cmdlet = find_cmdlet(method), .params = params,
		.objects = json_array(), .messages = json_array(), .errors = json_array(),
	};
	json_t *result = NULL;
	c.what_if = call_switch(&c, "WhatIf");
	c.passthru = call_switch(&c, "Passthru");
	if (c.cmdlet) {
		if (check_parameters(&c))
			c.cmdlet->run(&c);
		result = json_pack("{s:O,s:O,s:O}", "objects", c.objects, "messages", c.messages,
				   "errors", c.errors);
	}
	json_decref(c.objects);
	json_decref(c.messages);
	json_decref(c.errors);
	texts_free(c.texts);
	return result;
}
