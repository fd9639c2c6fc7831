#include "shell/complete.h"

#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *parameter_names_kind(const struct cmdlet *c, const struct parameter *p)
{
	const char *noun = strchr(c->name, '-');
	noun = noun ? noun + 1 : c->name;
	if (list_has("New-VM,New-VMSwitch,New-NetNat,Add-VMNetworkAdapter", c->name) && !strcmp(p->name, "Name"))
		return NULL;
	if (!strcmp(p->name, "VMName"))
		return "VM";
	if (!strcmp(p->name, "SwitchName"))
		return "VMSwitch";
	if (list_has("InterfaceAlias,NetAdapterName", p->name))
		return "NetAdapter";
	if (strcmp(p->name, "Name") || TYPE_OF(p) != STRING)
		return NULL;
	if (list_has("VM,VMVersion,VMConsole", noun))
		return "VM";
	if (list_has("VMSwitch,NetAdapter,VMNetworkAdapter", noun))
		return noun;
	return NULL;
}

json_t *shell_names(struct shell *sh, const char *kind, const char *prefix)
{
	struct error e;
	json_t *params = json_pack("{s:s,s:s}", "kind", kind, "prefix", prefix);
	json_t *result = params ? sh->service.call(sh->service.owner, "Service.Complete", params, NULL, NULL, &e) : NULL;
	json_decref(params);
	if (!json_is_object(result))
		return result;
	json_t *list = json_incref(json_object_get(result, "objects"));
	json_decref(result);
	return list;
}

/* Where the command that holds the end of the line begins, and where its last
 * word does: words may be in quotes. */
static void find_word(const char *line, size_t cursor, size_t *command, size_t *word)
{
	char quote = 0;
	*command = *word = 0;
	for (size_t i = 0; i < cursor; i++) {
		char c = line[i];
		if (quote) {
			if (c == quote)
				quote = 0;
		} else if (c == '"' || c == '\'') {
			quote = c;
		} else if (strchr("|;({", c)) {
			*command = *word = i + 1;
		} else if (isspace((unsigned char)c) || c == ',') {
			*word = i + 1;
		}
	}
	while (*command < cursor && isspace((unsigned char)line[*command]))
		(*command)++;
	if (*word < *command)
		*word = *command;
}

static void add_candidate(json_t *all, const char *prefix, const char *name, char quote)
{
	if (strncasecmp(name, prefix, strlen(prefix)))
		return;
	bool is_variable = name[0] == '$' && !quote;
	bool needs = quote || (!is_variable && strpbrk(name, " ()'$&;,|"));
	char q = quote ? quote : strchr(name, '\'') ? '"' : '\'';
	json_array_append_new(all, needs ? json_sprintf("%c%s%c", q, name, q) : json_string(name));
}

static void add_list(json_t *all, const char *prefix, const char *list)
{
	char item[64];
	for (unsigned i = 0; list_item(list, i, item, sizeof(item)); i++)
		add_candidate(all, prefix, item, 0);
}

static void add_values(struct shell *sh, json_t *all, const struct cmdlet *c, const struct parameter *p,
		       const char *prefix, char quote)
{
	const char *kind = parameter_names_kind(c, p);
	if (TYPE_OF(p) == ENUM)
		add_list(all, prefix, p->values);
	else if (TYPE_OF(p) == BOOLEAN)
		add_list(all, prefix, "$true,$false");
	if (!kind)
		return;
	json_t *names = shell_names(sh, kind, prefix), *name;
	size_t i;
	json_array_foreach(names, i, name)
		if (json_is_string(name))
			add_candidate(all, prefix, json_string_value(name), quote);
	json_decref(names);
}

/* The parameter that `word`, with its dash, means; NULL: none or several. */
static const struct parameter *named_parameter(const struct cmdlet *c, const char *word)
{
	const struct parameter *p, *found = NULL;
	unsigned matches = 0;
	for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++) {
		if (!strcasecmp(p->name, word + 1) || list_has(p->aliases, word + 1))
			return p;
		if (!strncasecmp(p->name, word + 1, strlen(word + 1))) {
			found = p;
			matches++;
		}
	}
	return matches == 1 ? found : NULL;
}

/* Words of the command before the one that is completed. */
static unsigned split(const char *text, size_t size, char **words, unsigned room)
{
	unsigned n = 0;
	size_t i = 0;
	while (i < size && n < room) {
		while (i < size && (isspace((unsigned char)text[i]) || text[i] == ','))
			i++;
		size_t start = i;
		char quote = i < size && (text[i] == '"' || text[i] == '\'') ? text[i] : 0;
		for (i += quote != 0; i < size && (quote ? text[i] != quote : !isspace((unsigned char)text[i])); i++)
			;
		i += quote && i < size;
		if (i > start)
			words[n++] = strndup(text + start, i - start);
	}
	return n;
}

json_t *shell_complete(struct shell *sh, const char *line, size_t cursor, size_t *word)
{
	enum { WORDS = 64 };
	char *words[WORDS];
	size_t command;
	json_t *all = json_array();
	const struct cmdlet *c;
	const struct parameter *p;
	find_word(line, cursor, &command, word);
	char *prefix = strndup(line + *word, cursor - *word);
	if (*word == command) {
		for (unsigned i = 0; (c = cmdlet_at(i)); i++)
			add_candidate(all, prefix, c->name, 0);
		free(prefix);
		return all;
	}
	unsigned n = split(line + command, *word - command, words, WORDS);
	c = n ? cmdlet_find(words[0]) : NULL;
	if (c && prefix[0] == '-') {
		for (unsigned i = 0; (p = cmdlet_parameter(c, i)); i++)
			if (p->fate != REFUSED && !strncasecmp(p->name, prefix + 1, strlen(prefix + 1)))
				json_array_append_new(all, json_sprintf("-%s", p->name));
	} else if (c) {
		char quote = prefix[0] == '"' || prefix[0] == '\'' ? prefix[0] : 0;
		const char *plain = prefix + (quote != 0);
		const struct parameter *named = NULL;	/* its value is still to come */
		unsigned position = 0;
		for (unsigned i = 1; i < n; i++) {
			if (words[i][0] == '-') {
				named = named_parameter(c, words[i]);
				if (named && TYPE_OF(named) == SWITCH)
					named = NULL;
			} else if (words[i][strlen(words[i]) - 1] != ',') {
				position += !named;
				named = NULL;
			}
		}
		for (unsigned i = 0; !named && (p = cmdlet_parameter(c, i)); i++)
			if (p->position == AT(position))
				named = p;
		if (named)
			add_values(sh, all, c, named, plain, quote);
	}
	while (n)
		free(words[--n]);
	free(prefix);
	return all;
}
