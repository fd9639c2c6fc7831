#include "shell/binder.h"

#include "shell/complete.h"

#include "base/bits.h"
#include "base/log.h"

#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define BINDING_ERROR "ParameterBindingException"

static const char *module_id(const struct cmdlet *c, const char *id, char *out, size_t room)
{
	/* InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVM is how ids read. */
	char plain[64];
	size_t n = 0;
	for (const char *s = c->name; *s && n < sizeof(plain) - 1; s++)
		if (*s != '-')
			plain[n++] = *s;
	plain[n] = 0;
	snprintf(out, room, "%s,%s%s", id, !strcmp(c->module, "Hyper-V") ?
		 "Microsoft.HyperV.PowerShell.Commands." : "", !strcmp(c->module, "Hyper-V") ? plain : c->name);
	return out;
}

static void *bind_error(struct shell *sh, const struct cmdlet *c, const char *id, const char *target,
			const char *way_out, char *reason, const char *format, ...)
	__attribute__((format(printf, 7, 8)));
/* Throw; frees `reason`. */
static void *bind_error(struct shell *sh, const struct cmdlet *c, const char *id, const char *target,
			const char *way_out, char *reason, const char *format, ...)
{
	char full[160], *message = NULL;
	va_list list;
	va_start(list, format);
	if (vasprintf(&message, format, list) < 0)
		panic("out of memory");
	va_end(list);
	shell_throw(sh, &(struct error_parts){ .message = message, .reason = reason, .way_out = way_out,
		.category = "InvalidArgument", .target = target, .command = c->name,
		.id = module_id(c, id, full, sizeof(full)), .exception = BINDING_ERROR });
	free(message);
	free(reason);
	return NULL;
}

static void name_matches(struct text *t, const struct cmdlet *c, const char *prefix)
{
	const struct parameter *p;
	for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++)
		if (!strncasecmp(p->name, prefix, strlen(prefix)))
			text_addf(t, "%s-%s", t->size ? " " : "", p->name);
}

/* The index of a parameter by its name, an alias or an unambiguous prefix; -1: thrown. */
static int find_parameter(struct shell *sh, const struct cmdlet *c, const char *name)
{
	const struct parameter *p;
	int found = -1;
	unsigned matches = 0;
	size_t n = strlen(name);
	for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++) {
		if (!strcasecmp(p->name, name) || list_has(p->aliases, name))
			return (int)i;
		char alias[64];
		bool matched = !strncasecmp(p->name, name, n);
		for (unsigned k = 0; !matched && list_item(p->aliases, k, alias, sizeof(alias)); k++)
			matched = strlen(alias) > 2 && !strncasecmp(alias, name, n);
		if (!matched)
			continue;
		found = (int)i;
		matches++;
	}
	if (matches == 1)
		return found;
	struct text t = { 0 };
	if (matches > 1) {
		name_matches(&t, c, name);
		bind_error(sh, c, "AmbiguousParameter", NULL, NULL, NULL,
			   "Parameter cannot be processed because the parameter name '%s' is ambiguous. "
			   "Possible matches include: %s.", name, t.data);
	} else {
		unsigned best = ~0u;
		const char *near = NULL;
		for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++) {
			unsigned d = name_distance(name, p->name);
			if (d < best) {
				best = d;
				near = p->name;
			}
		}
		if (near && best <= n / 3 + 1)
			text_addf(&t, "%s -%s", c->name, near);
		else
			text_addf(&t, "Get-Help %s lists its parameters.", c->name);
		bind_error(sh, c, "NamedParameterNotFound", name, t.data, NULL,
			   "A parameter cannot be found that matches parameter name '%s'.", name);
	}
	free(t.data);
	return -1;
}

static bool takes_object(const struct parameter *p)
{
	return TYPE_OF(p) == OBJECT;
}

/* The VMs (or switches, …) that a pasted <VMName> may have meant. */
static void *placeholder_error(struct binding *b, const struct parameter *p, const json_t *value)
{
	struct text names = { 0 }, way_out = { 0 };
	char *all = value_string(value), *begin = strchr(all, '<'), *end = begin ? strchr(begin, '>') : NULL;
	char *word = end ? strndup(begin, (size_t)(end + 1 - begin)) : strdup(all);
	free(all);
	const char *kind = parameter_names_kind(b->cmdlet, p);
	json_t *list = kind ? shell_names(b->sh, kind, "") : NULL, *name;
	const char *first = NULL;
	size_t i;
	json_array_foreach(list, i, name) {
		if (!json_is_string(name))
			continue;
		if (!first)
			first = json_string_value(name);
		text_addf(&names, "%s%s", names.size ? ", " : "", json_string_value(name));
	}
	const char *things = !kind || !strcmp(kind, "VM") ? "virtual machines" :
		!strcmp(kind, "VMSwitch") ? "virtual switches" : "network adapters";
	struct text reason = { 0 };
	if (!list)
		text_addf(&reason, "%s stands for a value of your own.", word);
	else if (first)
		text_addf(&reason, "%s stands for a name of your own. The %s here: %s.", word, things, names.data);
	else
		text_addf(&reason, "%s stands for a name of your own, and there are no %s here yet.", word, things);
	const char *line = b->sh->command_line ? b->sh->command_line : "", *at = strstr(line, word);
	if (first && at)
		/* The line as it was, with a name that is there. */
		text_addf(&way_out, strpbrk(first, " '") ? "%.*s'%s'%s" : "%.*s%s%s", (int)(at - line), line, first,
			  at + strlen(word));
	else if (list && !strcmp(kind, "VM"))
		text_add(&way_out, "New-VM -Name lab creates one.");
	else if (at)
		text_addf(&way_out, "%.*sVALUE%s", (int)(at - line), line, at + strlen(word));
	json_decref(list);
	bind_error(b->sh, b->cmdlet, "Placeholder", word, way_out.data, text_take(&reason),
		   "Cannot bind parameter '%s': \"%s\" is a placeholder.", p->name, word);
	free(word);
	free(names.data);
	free(way_out.data);
	return NULL;
}

static int refuse(struct binding *b, const struct parameter *p)
{
	bind_error(b->sh, b->cmdlet, "ParameterNotSupported", p->name, NULL, alloc_string(p->help),
		   "%s has the parameter -%s, and Nestor does not support it.", b->cmdlet->name, p->name);
	return -1;
}

static bool is_this_machine(const char *name)
{
	char host[HOST_NAME_MAX + 1] = "";
	gethostname(host, sizeof(host) - 1);
	return name && (list_has("localhost,.,127.0.0.1,::1", name) || !strcasecmp(name, host));
}

static int store(struct binding *b, unsigned index, const struct argument *a, json_t *value)
{
	const struct parameter *p = cmdlet_parameter(b->cmdlet, index);
	char *why, type[80];
	if (a && a->placeholder) {
		placeholder_error(b, p, value);
		return -1;
	}
	enum parameter_type t = TYPE_OF(p);
	bool by_text = t == STRING || t == VERSION || t == ENUM || t == GUID;
	json_t *source = a && a->text && by_text ? a->text : value;
	json_t *v = parameter_convert(p, a, source, &why);
	if (!v) {
		char *s = value_string(a && a->text ? a->text : source);
		bool range = strstr(why, "is not between") || strstr(why, "is not one of");
		struct text example = { 0 };
		if (json_is_null(value)) {
			free(why);
			bind_error(b->sh, b->cmdlet, "ParameterArgumentValidationErrorNullNotAllowed", NULL, NULL, NULL,
				   "Cannot bind argument to parameter '%s' because it is null.", p->name);
			free(s);
			return -1;
		}
		if (t == BOOLEAN)
			text_addf(&example, "%s -%s %s", b->cmdlet->name, p->name, b->sh->from_unix ? "true" : "$true");
		if (range)
			bind_error(b->sh, b->cmdlet, "ParameterArgumentValidationError", s, example.data, why,
				   "Cannot validate argument on parameter '%s'.", p->name);
		else
			bind_error(b->sh, b->cmdlet, "CannotConvertArgument", s, example.data, why,
				   "Cannot bind parameter '%s'. Cannot convert value \"%s\" to type \"%s\".",
				   p->name, s, parameter_type_name(p, type, sizeof(type)));
		free(example.data);
		free(s);
		return -1;
	}
	/* A switch that is off, and what asks for nothing of a refused one, was not said. */
	bool silent = t == SWITCH && !value_true(v) && strcmp(p->name, "Confirm");
	if (p->fate == REFUSED)
		silent |= json_is_false(v) || (json_is_integer(v) && !json_integer_value(v)) ||
			(t == ENUM && list_has("Off,None", json_string_value(v)));
	bool here = !strcmp(p->name, "ComputerName") && json_array_size(v) == 1 &&
		is_this_machine(json_string_value(json_array_get(v, 0)));
	if (p->fate == REFUSED && !silent && !here) {
		json_decref(v);
		return refuse(b, p);
	}
	if (silent || here || p->fate == HARMLESS)
		json_decref(v);
	else
		json_object_set_new(b->bound, p->name, v);
	b->is_bound[index] = true;
	b->sets &= p->sets;
	return 0;
}

static uint32_t all_sets(const struct cmdlet *c)
{
	char name[64];
	unsigned n = 0;
	while (list_item(c->sets, n, name, sizeof(name)))
		n++;
	return n ? IN(n) - 1 : 1;
}

static void *set_error(const struct binding *b, const char *id)
{
	struct text t = { 0 };
	text_addf(&t, "Get-Help %s shows which parameters go together.", b->cmdlet->name);
	bind_error(b->sh, b->cmdlet, id, NULL, t.data, NULL,
		   "Parameter set cannot be resolved using the specified named parameters.");
	free(t.data);
	return NULL;
}

/* "nestor" line with the value that a Unix shell took away. */
static void *missing_value(struct binding *b, const struct parameter *p)
{
	char type[80];
	const char *name = parameter_type_name(p, type, sizeof(type));
	if (b->sh->from_unix && (TYPE_OF(p) == BOOLEAN || TYPE_OF(p) == SWITCH)) {
		struct text t = { 0 };
		char *name_of = NULL;
		const char *key;
		json_t *v;
		text_addf(&t, "nestor %s", b->cmdlet->name);
		json_object_foreach(b->bound, key, v) {
			name_of = value_string(v);
			if (json_is_true(v))
				text_addf(&t, " -%s", key);
			else
				text_addf(&t, strpbrk(name_of, " '$") ? " -%s '%s'" : " -%s %s", key, name_of);
			free(name_of);
		}
		text_addf(&t, TYPE_OF(p) == SWITCH ? " -%s:false" : " -%s true", p->name);
		bind_error(b->sh, b->cmdlet, "MissingArgument", NULL, t.data,
			   alloc_string("A Unix shell replaces an unquoted $true or $false by nothing before Nestor "
					"sees it. Here true and false do; so does '$true'."),
			   "Missing an argument for parameter '%s'. Specify a parameter of type '%s' and try again.",
			   p->name, name);
		free(t.data);
		return NULL;
	}
	if (TYPE_OF(p) == BOOLEAN) {
		struct text t = { 0 };
		text_addf(&t, "%s -%s $true", b->cmdlet->name, p->name);
		bind_error(b->sh, b->cmdlet, "MissingArgument", NULL, t.data, NULL,
			   "Missing an argument for parameter '%s'. Specify a parameter of type '%s' and try again.",
			   p->name, name);
		free(t.data);
		return NULL;
	}
	return bind_error(b->sh, b->cmdlet, "MissingArgument", NULL, NULL, NULL,
		"Missing an argument for parameter '%s'. Specify a parameter of type '%s' and try again.", p->name, name);
}

static int bind_named(struct binding *b, const struct argument *arguments, unsigned count, bool *used)
{
	const struct argument *eaten = NULL;
	int eaten_parameter = -1;
	for (unsigned i = 0; i < count; i++) {
		const struct argument *a = &arguments[i];
		if (!a->name)
			continue;
		used[i] = true;
		int index = find_parameter(b->sh, b->cmdlet, a->name);
		if (index < 0)
			return -1;
		const struct parameter *p = cmdlet_parameter(b->cmdlet, (unsigned)index);
		if (b->is_bound[index]) {
			bind_error(b->sh, b->cmdlet, "ParameterAlreadyBound", p->name, NULL, NULL,
				   "Cannot bind parameter because parameter '%s' is specified more than once.", p->name);
			return -1;
		}
		json_t *value = a->value ? json_incref(a->value) : NULL;
		const struct argument *from = a;
		if (TYPE_OF(p) == SWITCH) {
			if (!value)
				value = json_true();
			/* -Confirm false: a Unix shell's way of -Confirm:$false. */
			if (!a->value && i + 1 < count && !arguments[i + 1].name && arguments[i + 1].word &&
			    list_has("true,false,$true,$false", json_string_value(arguments[i + 1].value) ?: "")) {
				json_decref(value);
				value = json_incref(arguments[++i].value);
				used[i] = true;
			}
		} else if (!value && i + 1 < count && !arguments[i + 1].name) {
			from = &arguments[++i];
			used[i] = true;
			value = json_incref(from->value);
		}
		bool empty = json_is_string(value) && !json_string_length(value);
		if (!value || (empty && from->word && (TYPE_OF(p) == BOOLEAN || TYPE_OF(p) == SWITCH))) {
			/* Told at the end, when the other parameters are known. */
			json_decref(value);
			eaten = a;
			eaten_parameter = index;
			continue;
		}
		int r = store(b, (unsigned)index, from, value);
		json_decref(value);
		if (r)
			return -1;
	}
	if (eaten) {
		missing_value(b, cmdlet_parameter(b->cmdlet, (unsigned)eaten_parameter));
		return -1;
	}
	if (!b->sets) {
		set_error(b, "AmbiguousParameterSet");
		return -1;
	}
	return 0;
}

static bool fits(const struct parameter *p, const struct argument *a)
{
	char *why;
	enum parameter_type t = TYPE_OF(p);
	json_t *source = a->text && (t == STRING || t == VERSION || t == ENUM || t == GUID) ? a->text : a->value;
	json_t *v = parameter_convert(p, a, source, &why);
	bool ok = v != NULL;
	free(why);
	json_decref(v);
	return ok;
}

/* The parameter for a positional argument: the first position that is free; there
 * one whose type fits, the default set's before others, mandatory before optional. -1: none. */
static int positional_parameter(const struct binding *b, const struct argument *a)
{
	const struct parameter *p;
	unsigned lowest = ~0u;
	const json_t *one = json_is_array(a->value) ? json_array_get(a->value, 0) : a->value;
	bool is_object = json_is_object(one) && *value_type(one);
	for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++)
		if (p->position && !b->is_bound[i] && (p->sets & b->sets) && p->position < lowest)
			lowest = p->position;
	for (unsigned position = lowest; position != ~0u && position < 16; position++) {
		for (unsigned pass = 0; pass < 8; pass++)
			for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++) {
				bool in_default = (p->sets & IN(0)) != 0;
				if (p->position != position || b->is_bound[i] || !(p->sets & b->sets) ||
				    in_default != !(pass & 2) || p->mandatory != !(pass & 1))
					continue;
				if (pass < 4 ? takes_object(p) == is_object && fits(p, a) : !takes_object(p))
					return (int)i;
			}
	}
	return -1;
}

static int bind_positional(struct binding *b, const struct argument *arguments, unsigned count, const bool *used)
{
	const struct parameter *p;
	for (unsigned i = 0; i < count; i++) {
		if (used[i])
			continue;
		for (unsigned k = 0; (p = cmdlet_parameter(b->cmdlet, k)); k++)
			if (p->rest) {
				json_t *list = json_object_get(b->bound, p->name);
				if (!list) {
					list = json_array();
					json_object_set_new(b->bound, p->name, list);
					b->is_bound[k] = true;
				}
				json_array_append(list, arguments[i].text && TYPE_OF(p) == STRING ?
						  arguments[i].text : arguments[i].value);
				break;
			}
		if (p) {
			if (arguments[i].placeholder) {
				placeholder_error(b, p, arguments[i].value);
				return -1;
			}
			continue;
		}
		int index = positional_parameter(b, &arguments[i]);
		if (index < 0) {
			char *s = value_string(arguments[i].value);
			bind_error(b->sh, b->cmdlet, "PositionalParameterNotFound", s, NULL, NULL,
				   "A positional parameter cannot be found that accepts argument '%s'.", s);
			free(s);
			return -1;
		}
		if (store(b, (unsigned)index, &arguments[i], arguments[i].value))
			return -1;
	}
	return 0;
}

static bool is_mandatory(const struct parameter *p, unsigned set)
{
	return p->mandatory && (p->sets & IN(set)) && !(p->optional_in & IN(set));
}

static unsigned count_missing(const struct binding *b, unsigned set, bool expects_input, struct text *names)
{
	const struct parameter *p;
	unsigned n = 0;
	for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++)
		if (is_mandatory(p, set) && !b->is_bound[i] && !(expects_input && p->pipeline)) {
			if (names)
				text_addf(names, "%s%s", names->size ? " " : "", p->name);
			n++;
		}
	return n;
}

/* One value of a parameter, as it is typed at the terminal. */
static int ask_value(struct binding *b, unsigned index)
{
	const struct parameter *p = cmdlet_parameter(b->cmdlet, index);
	json_t *list = json_array(), *value;
	for (;;) {
		struct text prompt = { 0 };
		if (p->type & LIST)
			text_addf(&prompt, "%s[%zu]: ", p->name, json_array_size(list));
		else
			text_addf(&prompt, "%s: ", p->name);
		char *line = shell_ask(b->sh, prompt.data);
		free(prompt.data);
		bool end = !line || ((p->type & LIST) && !*line);
		if (!end)
			json_array_append_new(list, json_string(line));
		free(line);
		if (end || !(p->type & LIST))
			break;
	}
	int r = -1;
	if (json_array_size(list)) {
		value = p->type & LIST ? list : json_array_get(list, 0);
		r = store(b, index, NULL, value);
	}
	json_decref(list);
	return r;
}

/* At a terminal, what is missing is asked for, as PowerShell does: what can be typed,
 * for the first parameter set that lacks nothing else. */
static int ask_missing(struct binding *b)
{
	const struct parameter *p;
	int chosen = -1;
	for (unsigned set = 0; set < 16; set++) {
		bool typed = true;
		if (!(b->sets & IN(set)))
			continue;
		if (!count_missing(b, set, false, NULL))
			return 0;
		for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++)
			typed &= !is_mandatory(p, set) || b->is_bound[i] ||
				(TYPE_OF(p) != SWITCH && TYPE_OF(p) != BLOCK && !takes_object(p));
		if (typed && chosen < 0)
			chosen = (int)set;
	}
	if (chosen < 0)
		return 0;
	fprintf(b->sh->out, "\ncmdlet %s at command pipeline position 1\nSupply values for the following parameters:\n",
		b->cmdlet->name);
	for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++)
		if (is_mandatory(p, (unsigned)chosen) && !b->is_bound[i] && ask_value(b, i)) {
			/* Nothing was typed: what is missing is said below. */
			return b->sh->thrown || shell_check_interrupt(b->sh) ? -1 : 0;
		}
	return 0;
}

/* Choose among the sets left: one that lacks nothing, the default before others. */
static int check_mandatory(const struct binding *b, bool expects_input)
{
	int chosen = -1;
	for (unsigned set = 0; set < 16 && chosen < 0; set++)
		if ((b->sets & IN(set)) && !count_missing(b, set, expects_input, NULL))
			chosen = (int)set;
	if (chosen >= 0)
		return 0;
	unsigned set = (unsigned)__builtin_ctz(b->sets);
	struct text names = { 0 }, way_out = { 0 };
	count_missing(b, set, expects_input, &names);
	text_addf(&way_out, "Get-Help %s -Examples shows how it is called.", b->cmdlet->name);
	bind_error(b->sh, b->cmdlet, "MissingMandatoryParameter", NULL, way_out.data, NULL,
		   "Cannot process command because of one or more missing mandatory parameters: %s.", names.data);
	free(names.data);
	free(way_out.data);
	return -1;
}

int binding_begin(struct binding *b, struct shell *sh, const struct cmdlet *c,
		  const struct argument *arguments, unsigned count, bool expects_input)
{
	*b = (struct binding){ .sh = sh, .cmdlet = c, .bound = json_object(), .sets = all_sets(c) };
	bool *used = alloc_zeroed(count + 1, sizeof(*used));
	int r = bind_named(b, arguments, count, used);
	if (!r)
		r = bind_positional(b, arguments, count, used);
	if (!r && sh->can_ask && !expects_input)
		r = ask_missing(b);
	if (!r)
		r = check_mandatory(b, expects_input);
	free(used);
	if (r)
		binding_end(b);
	return r;
}

json_t *binding_finish(const struct binding *b)
{
	return json_copy(b->bound);
}

/* Bind what fits by value (objects of the very type first, then text), then by
 * the names of properties. */
json_t *binding_object(const struct binding *b, json_t *object)
{
	struct binding copy = *b;
	const struct parameter *p;
	unsigned bound = 0;
	copy.bound = json_copy(b->bound);
	bool is_object = json_is_object(object);
	for (unsigned pass = 0; pass < 2 && !bound; pass++)
		for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)) && !bound; i++) {
			bool in_default = (p->sets & IN(0)) != 0;
			if (!(p->pipeline & BY_VALUE) || copy.is_bound[i] || !(p->sets & copy.sets) ||
			    in_default != !pass || p->fate == REFUSED)
				continue;
			if (is_object ? takes_object(p) && list_has(p->values, value_type(object)) :
			    !takes_object(p) && !json_is_null(object) &&
			    fits(p, &(struct argument){ .value = object })) {
				if (store(&copy, i, NULL, object))
					goto thrown;
				bound++;
			}
		}
	for (unsigned pass = 0; is_object && pass < 2; pass++)
		for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++) {
			bool in_default = (p->sets & IN(0)) != 0;
			char alias[64];
			if (!(p->pipeline & BY_PROPERTY) || copy.is_bound[i] || !(p->sets & copy.sets) ||
			    in_default != !pass || p->fate == REFUSED)
				continue;
			json_t *v = value_property(object, p->name);
			for (unsigned k = 0; !v && list_item(p->aliases, k, alias, sizeof(alias)); k++)
				v = value_property(object, alias);
			if (!v || json_is_null(v))
				continue;
			if (store(&copy, i, NULL, v))
				goto thrown;
			bound++;
		}
	if (!bound) {
		char *s = value_string(object);
		bool named = false;
		for (unsigned i = 0; (p = cmdlet_parameter(b->cmdlet, i)); i++)
			named |= p->pipeline && b->is_bound[i];
		if (!named) {
			bind_error(b->sh, b->cmdlet, "InputObjectNotBound", s, NULL, NULL,
				   "The input object cannot be bound to any parameters for the command either because "
				   "the command does not take pipeline input or the input and its properties do not "
				   "match any of the parameters that take pipeline input.");
			free(s);
			goto thrown;
		}
		free(s);
	}
	if (check_mandatory(&copy, false))
		goto thrown;
	return copy.bound;
thrown:
	json_decref(copy.bound);
	return NULL;
}

void binding_end(struct binding *b)
{
	json_decref(b->bound);
	b->bound = NULL;
}
