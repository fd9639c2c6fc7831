/* Statements, pipelines and commands. Recursive descent straight over the
 * characters: which characters make a word depends on the place (lexer.h), so
 * there is no list of tokens. Invariant: every function either returns a node
 * and stands behind what it read, or has called lexer_fail() and returns NULL. */
#include "shell/parser_internal.h"

#include "shell/value.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>
#include <strings.h>

/* Memory of a script: blocks chained through their first pointer. */
static void *script_allocate(struct script *s, size_t n)
{
	void **block = alloc_zeroed(1, sizeof(void *) + n);
	*block = s->allocations;
	s->allocations = block;
	return block + 1;
}

char *parser_copy(struct parser *p, const char *s, size_t n)
{
	char *copy = script_allocate(p->script, n + 1);
	memcpy(copy, s, n);
	return copy;
}

struct node *parser_node(struct parser *p, enum node_kind kind, unsigned start)
{
	struct node *n = script_allocate(p->script, sizeof(*n));
	n->kind = kind;
	n->start = start;
	n->end = p->lx.at;
	return n;
}

struct node *parser_node_text(struct parser *p, enum node_kind kind, unsigned start,
			      const char *s, size_t size)
{
	struct node *n = parser_node(p, kind, start);
	n->text = parser_copy(p, s, size);
	return n;
}

void parser_append(struct node *parent, struct node *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->end = child->end;
	parent->placeholder |= child->placeholder;
}

bool parser_enter(struct parser *p)
{
	if (p->depth++ < PARSER_MAX_DEPTH)
		return true;
	lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, "Brackets are nested more than %d deep.", PARSER_MAX_DEPTH);
	return false;
}

void parser_leave(struct parser *p)
{
	p->depth--;
}

bool parser_expect(struct parser *p, char c, unsigned opened, const char *what)
{
	if (p->lx.failed)
		return false;
	lexer_skip(&p->lx, true);
	if (p->lx.failed)
		return false;
	if (p->lx.at >= p->lx.size) {
		lexer_fail_incomplete(&p->lx, opened, "The closing %c of this %s is missing.", c, what);
		return false;
	}
	if (lexer_byte(&p->lx, 0) != c) {
		lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, "A %c was expected here, at the end of the %s.", c, what);
		return false;
	}
	p->lx.at++;
	return true;
}

/* Words that begin what a programming language has and a command line has not. */
static const struct {
	const char *word, *what;
	bool needs_bracket;	/* also the name of a command */
} refused[] = {
	{ "function", "A function definition" }, { "filter", "A function definition" },
	{ "for", "A loop" }, { "while", "A loop" }, { "do", "A loop" }, { "until", "A loop" },
	{ "foreach", "A loop", true }, { "if", "An if statement" }, { "else", "An if statement" },
	{ "elseif", "An if statement" }, { "switch", "A switch statement" },
	{ "class", "A class" }, { "enum", "An enum definition" }, { "try", "A try statement" },
	{ "catch", "A try statement" }, { "finally", "A try statement" }, { "trap", "A trap" },
	{ "throw", "A throw statement" }, { "return", "A return statement" }, { "param", "A param block" },
	{ "begin", "A begin block" }, { "process", "A process block" }, { "end", "An end block" },
	{ "using", "A using statement" }, { "workflow", "A workflow" }, { "break", "A break statement" },
	{ "continue", "A continue statement" }, { "dynamicparam", "A dynamicparam block" },
};

static bool refuse_keyword(struct parser *p)
{
	unsigned n = 0, length;
	while (lexer_is_name(lexer_byte(&p->lx, n)))
		n++;
	/* Get-VM is a command although "end" and the like are words. */
	if (!n || lexer_class(&p->lx, p->lx.at + n, &length) == CHAR_DASH || lexer_byte(&p->lx, n) == '\\')
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		if (strlen(refused[i].word) != n || strncasecmp(refused[i].word, p->lx.text + p->lx.at, n))
			continue;
		unsigned after = n;
		while (lexer_byte(&p->lx, after) == ' ')
			after++;
		if (refused[i].needs_bracket && lexer_byte(&p->lx, after) != '(')
			return false;
		lexer_fail(&p->lx, p->lx.at, p->lx.at + n,
			   "%s is not part of Nestor's shell, which is a command line and no programming "
			   "language. Write the program in a Unix shell that calls `nestor CMDLET ...`; "
			   "for each object, `... | ForEach-Object { ... }` serves.", refused[i].what);
		return true;
	}
	return false;
}

/* Does a command's name begin here (not an expression)? */
static bool begins_command(const struct parser *p)
{
	unsigned length;
	char c = lexer_byte(&p->lx, 0);
	switch (lexer_class(&p->lx, p->lx.at, &length)) {
	case CHAR_SINGLE_QUOTE:
	case CHAR_DOUBLE_QUOTE:
	case CHAR_DASH:
		return false;
	default:
		break;
	}
	if (strchr("$(@{[!+,", c) || lexer_number(&p->lx))
		return false;
	return true;
}

/* Bytes of the redirection's operator at the present place: > or >>, a stream's number
 * or * before it; 0: none. */
static unsigned at_redirection(const struct parser *p)
{
	char c = lexer_byte(&p->lx, 0);
	unsigned n = c && strchr("123456*", c) ? 1 : 0;
	if (lexer_byte(&p->lx, n) != '>')
		return 0;
	if (n && lexer_byte(&p->lx, 2) == '&' && lexer_byte(&p->lx, 3) == '1')
		return 4;
	return n + (lexer_byte(&p->lx, n + 1) == '>' ? 2 : 1);
}

static struct node *parse_redirection(struct parser *p)
{
	unsigned start = p->lx.at, n = at_redirection(p);
	p->lx.at += n;
	struct node *r = parser_node_text(p, NODE_REDIRECT, start, p->lx.text + start, n);
	if (strchr(r->text, '&'))
		return r;
	lexer_skip(&p->lx, false);
	if (lexer_word_ends(&p->lx)) {
		lexer_fail(&p->lx, start, p->lx.at, "A file's name is missing after %s.", r->text);
		return NULL;
	}
	struct node *file = parser_word(p);
	if (!file)
		return NULL;
	parser_append(r, file);
	return r;
}

/* One value among a command's arguments, without commas. */
static struct node *parse_argument(struct parser *p)
{
	unsigned length, start = p->lx.at;
	enum character class = lexer_class(&p->lx, start, &length);
	char c = lexer_byte(&p->lx, 0), after = lexer_byte(&p->lx, 1);
	struct node *n;
	if (class == CHAR_SINGLE_QUOTE || class == CHAR_DOUBLE_QUOTE)
		return parser_quoted(p);
	bool here = c == '@' && (lexer_class(&p->lx, start + 1, &length) == CHAR_DOUBLE_QUOTE ||
				 lexer_class(&p->lx, start + 1, &length) == CHAR_SINGLE_QUOTE);
	if (c == '(' || c == '{' || here || (c == '@' && (after == '(' || after == '{')) || (c == '$' && after == '('))
		return parser_primary(p);
	if (c == '$') {
		n = parser_primary(p);
		if (!n || p->lx.failed || lexer_word_ends(&p->lx))
			return n;
		p->lx.at = start;	/* $a-b: one word with a variable in it */
		return parser_word(p);
	}
	return parser_word(p);
}

/* a, b, c */
static struct node *parse_arguments_value(struct parser *p)
{
	unsigned start = p->lx.at;
	struct node *n = parse_argument(p), *list = NULL;
	while (n && !p->lx.failed) {
		unsigned end = p->lx.at;
		lexer_skip(&p->lx, false);
		if (lexer_byte(&p->lx, 0) != ',') {
			p->lx.at = list ? p->lx.at : end;
			return list ? list : n;
		}
		unsigned comma = p->lx.at++;
		if (!list) {
			list = parser_node(p, NODE_ARRAY, start);
			parser_append(list, n);
		}
		lexer_skip(&p->lx, true);
		if (lexer_word_ends(&p->lx) && !strchr("({", lexer_byte(&p->lx, 0))) {
			lexer_fail(&p->lx, comma, comma + 1, "A value is missing after the comma.");
			return NULL;
		}
		n = parse_argument(p);
		if (n)
			parser_append(list, n);
	}
	return NULL;
}

static struct node *parse_parameter(struct parser *p, unsigned length, unsigned dash)
{
	unsigned start = p->lx.at;
	p->lx.at += length;
	struct node *n = parser_node_text(p, NODE_PARAMETER, start, p->lx.text + start + dash, length - dash);
	if (lexer_byte(&p->lx, 0) != ':')
		return n;
	p->lx.at++;
	lexer_skip(&p->lx, false);
	if (lexer_word_ends(&p->lx) && !strchr("({", lexer_byte(&p->lx, 0))) {
		lexer_fail(&p->lx, start, p->lx.at, "A value is missing after -%s:.", n->text);
		return NULL;
	}
	struct node *value = parse_arguments_value(p);
	if (!value)
		return NULL;
	parser_append(n, value);
	return n;
}

static struct node *parse_splat(struct parser *p)
{
	unsigned start = p->lx.at, n = lexer_variable(&p->lx, start + 1);
	p->lx.at += 1 + n;
	return parser_node_text(p, NODE_SPLAT, start, p->lx.text + start + 1, n);
}

static bool at_end_of_command(const struct parser *p)
{
	unsigned length;
	enum character class = lexer_class(&p->lx, p->lx.at, &length);
	return class == CHAR_END || class == CHAR_NEWLINE ||
		(class == CHAR_OTHER && lexer_byte(&p->lx, 0) && strchr(";|)}", lexer_byte(&p->lx, 0)));
}

static struct node *parse_command(struct parser *p)
{
	unsigned start = p->lx.at;
	if (lexer_byte(&p->lx, 0) == '&') {
		lexer_fail(&p->lx, start, start + 1, "The call operator & is not part of Nestor's shell: "
			   "write the cmdlet's name itself.");
		return NULL;
	}
	struct node *name = parser_word(p);
	if (!name)
		return NULL;
	if (name->kind == NODE_EXPAND || (!name->text)) {
		lexer_fail(&p->lx, start, p->lx.at, "A cmdlet's name cannot be put together from variables.");
		return NULL;
	}
	struct node *command = parser_node_text(p, NODE_COMMAND, start, name->text, strlen(name->text));
	for (;;) {
		unsigned before = p->lx.at, dash, length;
		lexer_skip(&p->lx, false);
		if (p->lx.failed)
			return NULL;
		if (at_end_of_command(p)) {
			command->end = before > command->end ? before : command->end;
			return command;
		}
		struct node *n;
		if (at_redirection(p))
			n = parse_redirection(p);
		else if ((length = lexer_parameter(&p->lx, &dash)))
			n = parse_parameter(p, length, dash);
		else if (lexer_byte(&p->lx, 0) == '@' && lexer_variable(&p->lx, p->lx.at + 1))
			n = parse_splat(p);
		else if (lexer_byte(&p->lx, 0) == '&' || lexer_byte(&p->lx, 0) == ',') {
			lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, "%c is not expected here.", lexer_byte(&p->lx, 0));
			return NULL;
		} else
			n = parse_arguments_value(p);
		if (!n)
			return NULL;
		parser_append(command, n);
	}
}

/* Redirections after an expression. */
static bool parse_redirections(struct parser *p, struct node *pipeline)
{
	for (;;) {
		lexer_skip(&p->lx, false);
		if (p->lx.failed || !at_redirection(p))
			return !p->lx.failed;
		struct node *r = parse_redirection(p);
		if (!r)
			return false;
		parser_append(pipeline, r);
	}
}

static struct node *parse_pipeline_rest(struct parser *p, struct node *pipeline)
{
	for (;;) {
		lexer_skip(&p->lx, false);
		if (p->lx.failed)
			return NULL;
		char c = lexer_byte(&p->lx, 0);
		if (at_end_of_command(p) && c != '|')
			return pipeline;
		unsigned at = p->lx.at;
		if (c != '|') {
			unsigned length;
			lexer_class(&p->lx, at, &length);
			lexer_fail(&p->lx, at, at + length, "This is not expected here, after a complete expression.");
			return NULL;
		}
		if (lexer_byte(&p->lx, 1) == '|') {
			lexer_fail(&p->lx, at, at + 2, "|| is not part of Nestor's shell; write two commands.");
			return NULL;
		}
		p->lx.at++;
		lexer_skip(&p->lx, true);
		if (p->lx.failed)
			return NULL;
		if (p->lx.at >= p->lx.size) {
			lexer_fail_incomplete(&p->lx, at, "Nothing follows this |: a pipeline needs a cmdlet there.");
			return NULL;
		}
		if (!begins_command(p) || at_end_of_command(p)) {
			lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, "After | comes a cmdlet, and this is none.");
			return NULL;
		}
		struct node *command = parse_command(p);
		if (!command)
			return NULL;
		parser_append(pipeline, command);
	}
}

/* $n++ and $n-- as statements of their own: $n += 1. */
static struct node *parse_increment(struct parser *p, struct node *target, unsigned start)
{
	char c = lexer_byte(&p->lx, 0);
	bool writable = target->kind == NODE_VARIABLE || target->kind == NODE_MEMBER || target->kind == NODE_INDEX;
	if (!writable || (c != '+' && c != '-') || lexer_byte(&p->lx, 1) != c)
		return NULL;
	p->lx.at += 2;
	struct node *a = parser_node_text(p, NODE_ASSIGN, start, c == '+' ? "+=" : "-=", 2);
	struct node *one = parser_node(p, NODE_PIPELINE, start);
	parser_append(one, parser_node_text(p, NODE_NUMBER, start, "1", 1));
	parser_append(a, target);
	parser_append(a, one);
	return a;
}

static struct node *parse_assignment(struct parser *p, struct node *target, unsigned start)
{
	static const char *const operators[] = { "+=", "-=", "*=", "/=", "=" };
	for (unsigned i = 0; i < ARRAY_SIZE(operators); i++) {
		size_t n = strlen(operators[i]);
		if (p->lx.size - p->lx.at < n || memcmp(p->lx.text + p->lx.at, operators[i], n))
			continue;
		if (target->kind != NODE_VARIABLE && target->kind != NODE_MEMBER && target->kind != NODE_INDEX) {
			lexer_fail(&p->lx, target->start, target->end,
				   "Only a variable, or a member of one, can be assigned to.");
			return NULL;
		}
		p->lx.at += (unsigned)n;
		struct node *a = parser_node_text(p, NODE_ASSIGN, start, operators[i], n);
		lexer_skip(&p->lx, true);
		if (p->lx.failed)
			return NULL;
		if (at_end_of_command(p)) {
			if (p->lx.at >= p->lx.size)
				lexer_fail_incomplete(&p->lx, a->start, "A value is missing after %s.", operators[i]);
			else
				lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, "A value is missing after %s.", operators[i]);
			return NULL;
		}
		struct node *value = parser_statement(p);
		if (!value)
			return NULL;
		parser_append(a, target);
		parser_append(a, value);
		return a;
	}
	return NULL;
}

static bool word_is(const struct parser *p, const char *word)
{
	size_t n = strlen(word);
	return p->lx.size - p->lx.at >= n && !strncasecmp(p->lx.text + p->lx.at, word, n) &&
		!lexer_is_name(lexer_byte(&p->lx, (unsigned)n)) && lexer_byte(&p->lx, (unsigned)n) != '-';
}

struct node *parser_statement(struct parser *p)
{
	unsigned start = p->lx.at;
	if (refuse_keyword(p))
		return NULL;
	if (word_is(p, "exit")) {
		p->lx.at += 4;
		struct node *n = parser_node(p, NODE_EXIT, start);
		lexer_skip(&p->lx, false);
		if (!at_end_of_command(p)) {
			struct node *status = parser_expression(p);
			if (!status)
				return NULL;
			parser_append(n, status);
		}
		return p->lx.failed ? NULL : n;
	}
	struct node *pipeline = parser_node(p, NODE_PIPELINE, start);
	if (begins_command(p)) {
		struct node *command = parse_command(p);
		if (!command)
			return NULL;
		parser_append(pipeline, command);
	} else {
		struct node *e = parser_expression(p);
		if (!e)
			return NULL;
		lexer_skip(&p->lx, false);
		struct node *assignment = parse_increment(p, e, start);
		if (!assignment)
			assignment = parse_assignment(p, e, start);
		if (assignment || p->lx.failed)
			return assignment;
		parser_append(pipeline, e);
		if (!parse_redirections(p, pipeline))
			return NULL;
	}
	return parse_pipeline_rest(p, pipeline);
}

struct node *parser_statements(struct parser *p, char close)
{
	struct node *list = parser_node(p, NODE_LIST, p->lx.at);
	for (;;) {
		lexer_skip(&p->lx, true);
		while (!p->lx.failed && lexer_byte(&p->lx, 0) == ';') {
			p->lx.at++;
			lexer_skip(&p->lx, true);
		}
		char c = lexer_byte(&p->lx, 0);
		if (p->lx.failed)
			return NULL;
		if (p->lx.at >= p->lx.size || (close && c == close))
			return list;
		if (c == ')' || c == '}' || c == '|') {
			lexer_fail(&p->lx, p->lx.at, p->lx.at + 1, c == '|' ?
				   "Nothing stands before this %c." : "This %c closes nothing.", c);
			return NULL;
		}
		struct node *s = parser_statement(p);
		if (!s)
			return NULL;
		parser_append(list, s);
	}
}

struct script *script_parse(const char *text, size_t size, struct syntax_error *e)
{
	struct script *s = alloc_zeroed(1, sizeof(*s));
	s->source = alloc_zeroed(1, size + 1);
	s->size = size;
	memcpy(s->source, text, size);
	struct parser p = { .lx = { s->source, (unsigned)size, 0, e, false }, .script = s };
	const char *zero = memchr(text, 0, size);
	if (size > INT32_MAX)
		lexer_fail(&p.lx, 0, 1, "The text is longer than 2 GB.");
	else if (zero)
		lexer_fail(&p.lx, (unsigned)(zero - text), (unsigned)(zero - text) + 1,
			   "The text holds a zero byte: it is no script.");
	else
		s->root = parser_statements(&p, 0);
	if (!s->root || p.lx.failed) {
		script_free(s);
		return NULL;
	}
	return s;
}

void script_free(struct script *s)
{
	if (!s)
		return;
	for (void **block = s->allocations, **next; block; block = next) {
		next = *block;
		free(block);
	}
	free(s->source);
	free(s->name);
	free(s);
}
