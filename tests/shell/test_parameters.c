/* Every parameter of the cmdlets that Nestor shares with Hyper-V, NetNat and
 * NetTCPIP against parameters.txt: names, types, parameter sets, what is
 * mandatory, positions, pipeline, aliases, values. A parameter that Nestor
 * refuses need only be known by its names. */
#include "shell/cmdlet.h"
#include "shell/value.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

enum { LINE_SIZE = 512, NAME_SIZE = 64, SETS = 16, ROWS_MAX = 64 };

/* One line of the file about a parameter. */
struct row {
	char name[NAME_SIZE], type[NAME_SIZE];
	char in[LINE_SIZE], mandatory[LINE_SIZE], alias[LINE_SIZE], of[LINE_SIZE], pipe[NAME_SIZE];
	int at;		/* -1: only by name */
	int64_t minimum, maximum;	/* both 0: the type's own */
};

/* What the file says of one cmdlet. */
struct facts {
	char name[NAME_SIZE], sets[LINE_SIZE];
	bool what_if, passthru;
	struct row rows[ROWS_MAX];
	unsigned count;
};

struct difference {
	char cmdlet[NAME_SIZE], parameter[NAME_SIZE];
	bool used;
};

static struct difference differences[ROWS_MAX];
static unsigned difference_count, wrong;

static void complain(const char *cmdlet, const char *parameter, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void complain(const char *cmdlet, const char *parameter, const char *format, ...)
{
	for (unsigned i = 0; i < difference_count; i++)
		if (!strcmp(differences[i].cmdlet, cmdlet) && !strcmp(differences[i].parameter, parameter)) {
			differences[i].used = true;
			return;
		}
	va_list list;
	va_start(list, format);
	fprintf(stderr, "%s -%s: ", cmdlet, parameter);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
	wrong++;
}

static const struct { const char *name; enum parameter_type type; } types[] = {
	{ "String", STRING }, { "Int64", INT64 }, { "Int32", INT32 }, { "Int16", INT16 }, { "UInt64", UINT64 },
	{ "UInt32", UINT32 }, { "UInt16", UINT16 }, { "Byte", BYTE }, { "Boolean", BOOLEAN }, { "Switch", SWITCH },
	{ "Guid", GUID }, { "Version", VERSION }, { "TimeSpan", TIMESPAN },
};

/* The type of the file as the tables have it: an enum where values are listed,
 * else an object where the name is none of the simple ones. */
static unsigned type_of(const struct row *r)
{
	size_t n = strcspn(r->type, "[");
	unsigned list = r->type[n] ? LIST : 0;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strlen(types[i].name) == n && !strncmp(r->type, types[i].name, n))
			return types[i].type | list;
	return (*r->of ? ENUM : OBJECT) | list;
}

static bool same_list(const char *a, const char *b)
{
	char item[NAME_SIZE];
	unsigned n = 0, m = 0;
	for (; list_item(a, n, item, sizeof(item)); n++)
		if (!list_has(b, item))
			return false;
	while (list_item(b, m, item, sizeof(item)))
		m++;
	return n == m;
}

static int set_number(const char *sets, const char *name)
{
	char item[NAME_SIZE];
	for (unsigned i = 0; list_item(sets, i, item, sizeof(item)); i++)
		if (!strcasecmp(item, name))
			return (int)i;
	return -1;
}

/* A list of names of sets as the bits of those that Nestor has; "*" is all. */
static unsigned set_bits(const struct cmdlet *c, const char *names)
{
	char item[NAME_SIZE];
	unsigned bits = 0;
	if (!strcmp(names, "*") || !c->sets)
		return *names ? ~0u : 0;
	for (unsigned i = 0; list_item(names, i, item, sizeof(item)); i++) {
		int n = set_number(c->sets, item);
		bits |= n < 0 ? 0 : IN(n);
	}
	return bits;
}

static void check_row(const struct cmdlet *c, const struct row *r)
{
	const struct parameter *p = NULL;
	unsigned all = 0;
	char item[NAME_SIZE];
	for (unsigned i = 0; i < c->parameter_count; i++)
		if (!strcasecmp(c->parameters[i].name, r->name))
			p = &c->parameters[i];
	if (!p) {
		complain(c->name, r->name, "is missing");
		return;
	}
	while (list_item(c->sets, all, item, sizeof(item)))
		all++;
	all = all ? IN(all) - 1 : 1;
	if (strcmp(p->name, r->name))
		complain(c->name, r->name, "is spelled %s", p->name);
	if (!same_list(p->aliases, r->alias))
		complain(c->name, r->name, "has aliases \"%s\", wanted \"%s\"", p->aliases ? p->aliases : "", r->alias);
	if (p->fate == REFUSED)
		return;
	unsigned type = type_of(r);
	if (p->type != type)
		complain(c->name, r->name, "has type %#x, wanted %#x (%s)", p->type, type, r->type);
	if (TYPE_OF(p) == ENUM && !same_list(p->values, r->of))
		complain(c->name, r->name, "takes \"%s\", wanted \"%s\"", p->values, r->of);
	if (r->maximum && (p->minimum != r->minimum || p->maximum != r->maximum))
		complain(c->name, r->name, "is from %" PRId64 " to %" PRId64, p->minimum, p->maximum);
	if (p->position != (r->at < 0 ? 0 : AT(r->at)))
		complain(c->name, r->name, "has position %d, wanted %d", p->position - 1, r->at);
	unsigned pipeline = (strstr(r->pipe, "value") ? BY_VALUE : 0) | (strstr(r->pipe, "property") ? BY_PROPERTY : 0);
	if (p->pipeline != pipeline)
		complain(c->name, r->name, "has pipeline %d, wanted %d", p->pipeline, pipeline);
	unsigned sets = set_bits(c, r->in) & all, mandatory = set_bits(c, r->mandatory) & all & sets;
	if ((p->sets & all) != sets)
		complain(c->name, r->name, "is in sets %#x, wanted %#x (%s)", p->sets & all, sets, r->in);
	unsigned its = p->mandatory ? p->sets & ~p->optional_in & all : 0;
	if (its != mandatory)
		complain(c->name, r->name, "is mandatory in %#x, wanted %#x (%s)", its, mandatory, r->mandatory);
}

/* A set that Nestor has not must need a parameter that it refuses. */
static void check_sets(const struct cmdlet *c, const struct facts *f)
{
	char item[NAME_SIZE];
	for (unsigned i = 0; list_item(c->sets, i, item, sizeof(item)); i++)
		if (set_number(f->sets, item) < 0)
			complain(c->name, item, "is a parameter set that is not there");
	if (c->sets && list_item(f->sets, 0, item, sizeof(item)) && set_number(c->sets, item))
		complain(c->name, item, "is not the default set");
	for (unsigned i = 0; list_item(f->sets, i, item, sizeof(item)); i++) {
		bool refused = !c->sets && !strchr(f->sets, ',');
		for (unsigned k = 0; k < f->count; k++)
			for (unsigned m = 0; m < c->parameter_count; m++)
				refused |= c->parameters[m].fate == REFUSED &&
					!strcasecmp(c->parameters[m].name, f->rows[k].name) &&
					list_has(f->rows[k].mandatory, item);
		if ((!c->sets || set_number(c->sets, item) < 0) && !refused)
			complain(c->name, item, "is a parameter set that is missing");
	}
}

static void check(const struct facts *f)
{
	const struct cmdlet *c = cmdlet_find(f->name);
	if (!f->count && !*f->name)
		return;
	if (!c) {
		complain(f->name, "", "the cmdlet is missing");
		return;
	}
	assert_string_equal(c->name, f->name);
	check_sets(c, f);
	if (!(c->flags & CHANGES) != !f->what_if)
		complain(c->name, "WhatIf", "wanted: %d", f->what_if);
	if (!(c->flags & PASSTHRU) != !f->passthru)
		complain(c->name, "Passthru", "wanted: %d", f->passthru);
	for (unsigned i = 0; i < f->count; i++)
		check_row(c, &f->rows[i]);
	for (unsigned i = 0; i < c->parameter_count; i++) {
		const struct parameter *p = &c->parameters[i];
		bool known = !strncmp(p->help, "Ours:", 5);	/* help says what is Nestor's own */
		for (unsigned k = 0; k < f->count; k++)
			known |= !strcasecmp(f->rows[k].name, p->name);
		if (!known)
			complain(c->name, p->name, "is not there in Hyper-V");
	}
}

static void take_word(struct row *r, const char *word)
{
	struct { const char *key; char *to; } lists[] = {
		{ "in=", r->in }, { "mandatory=", r->mandatory }, { "alias=", r->alias }, { "of=", r->of }, { "pipe=", r->pipe },
	};
	if (!strcmp(word, "mandatory")) {
		strcpy(r->mandatory, r->in);
		return;
	}
	if (sscanf(word, "at=%d", &r->at) == 1 ||
	    sscanf(word, "range=%" SCNd64 "..%" SCNd64, &r->minimum, &r->maximum) == 2)
		return;
	for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (!strncmp(word, lists[i].key, strlen(lists[i].key))) {
			strcpy(lists[i].to, word + strlen(lists[i].key));
			return;
		}
	fail_msg("parameters.txt: \"%s\"", word);
}

static void take_parameter(struct facts *f, char *line)
{
	char *rest = NULL, *word = strtok_r(line, " \t", &rest);
	assert_true(f->count < ROWS_MAX);
	struct row *r = &f->rows[f->count++];
	*r = (struct row){ .at = -1, .in = "*" };
	snprintf(r->name, sizeof(r->name), "%s", word);
	word = strtok_r(NULL, " ", &rest);
	assert_non_null(word);
	snprintf(r->type, sizeof(r->type), "%s", word);
	while ((word = strtok_r(NULL, " ", &rest)))
		take_word(r, word);
}

static void test_parameters(void **state)
{
	char line[LINE_SIZE];
	static struct facts f;
	FILE *file = fopen(getenv("SHELL_PARAMETERS"), "r");
	unsigned cmdlets = 0;
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct difference *d = &differences[difference_count];
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "! %63s %63s", d->cmdlet, d->parameter) == 2)
			assert_true(++difference_count < ROWS_MAX);
		else if (line[0] == '\t')
			take_parameter(&f, line);
		else if (*line && *line != '#') {
			check(&f);
			f = (struct facts){ .what_if = strstr(line, " whatif"), .passthru = strstr(line, " passthru") };
			assert_int_equal(sscanf(line, "%63s %511s", f.name, f.sets), 2);
			cmdlets++;
		}
	}
	check(&f);
	fclose(file);
	assert_true(cmdlets > 40);
	for (unsigned i = 0; i < difference_count; i++)
		if (!differences[i].used) {
			fprintf(stderr, "%s -%s does not differ any more\n", differences[i].cmdlet, differences[i].parameter);
			wrong++;
		}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_parameters) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
