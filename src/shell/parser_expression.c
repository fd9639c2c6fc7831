/* Expressions: values, what is inside quotes, members, operators. */
#include "shell/parser_internal.h"

#include "shell/value.h"

#include "base/bits.h"

#include <stdlib.h>
#include <strings.h>

/* A name in ${…} or after $, or a $(…) where `nested` is allowed. */
struct node *parser_dollar(struct parser *p)
{
	unsigned start = p->lx.at, n;
	char c = lexer_byte(&p->lx, 1);
	if (c == '(') {
		p->lx.at += 2;
		if (!parser_enter(p))
			return NULL;
		struct node *sub = parser_node(p, NODE_SUBEXPRESSION, start);
		struct node *list = parser_statements(p, ')');
		parser_leave(p);
		if (!list || !parser_expect(p, ')', start, "$("))
			return NULL;
		parser_append(sub, list);
		sub->end = p->lx.at;
		return sub;
	}
	if (c == '{') {
		unsigned length = 2;
		while (lexer_byte(&p->lx, length) && lexer_byte(&p->lx, length) != '}')
			length++;
		if (lexer_byte(&p->lx, length) != '}' || length == 2) {
			lexer_fail(&p->lx, start, p->lx.at + length, "This ${ is not followed by a name and a }.");
			return NULL;
		}
		p->lx.at += length + 1;
		return parser_node_text(p, NODE_VARIABLE, start, p->lx.text + start + 2, length - 2);
	}
	n = lexer_variable(&p->lx, start + 1);
	p->lx.at += 1 + n;
	return parser_node_text(p, NODE_VARIABLE, start, p->lx.text + start + 1, n);
}

/* Does a variable or a $( begin here? Otherwise a $ is a $. */
static bool at_dollar(const struct parser *p)
{
	char c = lexer_byte(&p->lx, 1);
	return lexer_byte(&p->lx, 0) == '$' &&
		(c == '(' || c == '{' || lexer_variable(&p->lx, p->lx.at + 1));
}

static void flush(struct parser *p, struct node *whole, struct text *t, unsigned start)
{
	if (t->size)
		parser_append(whole, parser_node_text(p, NODE_STRING, start, t->data, t->size));
	t->size = 0;
}

/* Parts into one node: a lone string is that string. */
static struct node *join(struct parser *p, struct node *whole, struct text *t, unsigned start)
{
	struct node *n = whole;
	if (!whole->first)
		n = parser_node_text(p, NODE_STRING, start, t->data ? t->data : "", t->size);
	else
		flush(p, whole, t, start);
	free(t->data);
	n->start = start;
	n->end = p->lx.at;
	return n;
}

static struct node *parse_single_quoted(struct parser *p)
{
	unsigned start = p->lx.at, length;
	struct text t = { 0 };
	lexer_class(&p->lx, p->lx.at, &length);
	for (p->lx.at += length; p->lx.at < p->lx.size; p->lx.at += length) {
		if (lexer_class(&p->lx, p->lx.at, &length) == CHAR_SINGLE_QUOTE) {
			unsigned next, quote = p->lx.at;
			p->lx.at += length;
			if (lexer_class(&p->lx, p->lx.at, &next) != CHAR_SINGLE_QUOTE) {
				struct node *n = parser_node_text(p, NODE_STRING, start, t.data ? t.data : "", t.size);
				free(t.data);
				return n;
			}
			p->lx.at = quote;	/* a doubled quote is one */
			length += next;
			text_add(&t, "'");
			continue;
		}
		text_add_bytes(&t, p->lx.text + p->lx.at, length);
	}
	free(t.data);
	lexer_fail_incomplete(&p->lx, start, "The string that begins here has no closing quote.");
	return NULL;
}

struct node *parser_quoted(struct parser *p)
{
	unsigned start = p->lx.at, length, next;
	if (lexer_class(&p->lx, start, &length) == CHAR_SINGLE_QUOTE)
		return parse_single_quoted(p);
	struct node *whole = parser_node(p, NODE_EXPAND, start);
	struct text t = { 0 };
	p->lx.at += length;
	while (p->lx.at < p->lx.size) {
		char c = lexer_byte(&p->lx, 0);
		if (lexer_class(&p->lx, p->lx.at, &length) == CHAR_DOUBLE_QUOTE) {
			p->lx.at += length;
			if (lexer_class(&p->lx, p->lx.at, &next) != CHAR_DOUBLE_QUOTE)
				return join(p, whole, &t, start);
			p->lx.at += next;
			text_add(&t, "\"");
		} else if (c == '`' && p->lx.at + 1 < p->lx.size) {
			char escaped = lexer_escape(lexer_byte(&p->lx, 1));
			text_add_bytes(&t, &escaped, 1);
			p->lx.at += 2;
		} else if (at_dollar(p)) {
			flush(p, whole, &t, start);
			struct node *n = parser_dollar(p);
			if (!n)
				break;
			parser_append(whole, n);
		} else {
			text_add_bytes(&t, p->lx.text + p->lx.at, length);
			p->lx.at += length;
		}
	}
	free(t.data);
	lexer_fail_incomplete(&p->lx, start, "The string that begins here has no closing quote.");
	return NULL;
}

/* Bytes of the line that ends the here-string with the quote `class`, its own line end
 * included, when it begins at `at`; 0: it does not. */
static unsigned here_string_end(const struct parser *p, unsigned at, enum character class)
{
	unsigned n = 0, length;
	if (at < p->lx.size && p->lx.text[at] == '\r')
		n++;
	if (at + n >= p->lx.size || p->lx.text[at + n] != '\n')
		return 0;
	n++;
	if (lexer_class(&p->lx, at + n, &length) != class || at + n + length >= p->lx.size)
		return 0;
	return p->lx.text[at + n + length] == '@' ? n + length + 1 : 0;
}

/* @" and @': the lines up to "@ or '@ as they stand; variables in the former. */
static struct node *parse_here_string(struct parser *p)
{
	unsigned start = p->lx.at, length, n;
	enum character class = lexer_class(&p->lx, start + 1, &length);
	unsigned body = start + 1 + length;
	while (body < p->lx.size && strchr(" \t\r", p->lx.text[body]))
		body++;
	if (class != CHAR_DOUBLE_QUOTE && class != CHAR_SINGLE_QUOTE) {
		lexer_fail(&p->lx, start, start + 1, "After @ comes (, {, a variable's name, or a here-string's quote.");
		return NULL;
	}
	if (body < p->lx.size && p->lx.text[body] != '\n') {
		lexer_fail(&p->lx, start, body, "A here-string begins on the line after its @\" or @'.");
		return NULL;
	}
	struct node *whole = parser_node(p, NODE_EXPAND, start);
	struct text t = { 0 };
	p->lx.at = body;
	/* The line end before the first line is none of the text's. */
	n = here_string_end(p, body, class);
	if (!n && p->lx.at < p->lx.size)
		p->lx.at++;
	while (p->lx.at < p->lx.size && !p->lx.failed) {
		char c = lexer_byte(&p->lx, 0);
		n = here_string_end(p, p->lx.at, class);
		if (n) {
			p->lx.at += n;
			return join(p, whole, &t, start);
		}
		if (class == CHAR_DOUBLE_QUOTE && c == '`' && p->lx.at + 1 < p->lx.size) {
			char escaped = lexer_escape(lexer_byte(&p->lx, 1));
			text_add_bytes(&t, &escaped, 1);
			p->lx.at += 2;
		} else if (class == CHAR_DOUBLE_QUOTE && at_dollar(p)) {
			flush(p, whole, &t, start);
			struct node *part = parser_dollar(p);
			if (!part)
				break;
			parser_append(whole, part);
		} else {
			text_add_bytes(&t, &c, 1);
			p->lx.at++;
		}
	}
	free(t.data);
	lexer_fail_incomplete(&p->lx, start, "The here-string that begins here has no end: a line that begins with %s.",
			      class == CHAR_DOUBLE_QUOTE ? "\"@" : "'@");
	return NULL;
}

struct node *parser_word(struct parser *p)
{
	unsigned start = p->lx.at, length;
	struct node *whole = parser_node(p, NODE_EXPAND, start), *n;
	struct text t = { 0 };
	bool quoted = false, placeholder = false;
	if (lexer_byte(&p->lx, 0) == '<' && !lexer_placeholder(&p->lx)) {
		lexer_fail(&p->lx, start, start + 1, "Input is not redirected with < here; a pipeline serves.");
		return NULL;
	}
	while (!lexer_word_ends(&p->lx)) {
		enum character class = lexer_class(&p->lx, p->lx.at, &length);
		if (class == CHAR_DOUBLE_QUOTE || class == CHAR_SINGLE_QUOTE) {
			quoted = true;
			n = parser_quoted(p);
			if (!n)
				break;
			if (n->kind == NODE_STRING) {
				text_add(&t, n->text);
			} else {
				flush(p, whole, &t, start);
				parser_append(whole, n);
			}
		} else if (lexer_byte(&p->lx, 0) == '`' && p->lx.at + 1 < p->lx.size) {
			char escaped = lexer_escape(lexer_byte(&p->lx, 1));
			text_add_bytes(&t, &escaped, 1);
			p->lx.at += 2;
			quoted = true;
		} else if (at_dollar(p)) {
			flush(p, whole, &t, start);
			n = parser_dollar(p);
			if (!n)
				break;
			parser_append(whole, n);
		} else if (lexer_placeholder(&p->lx)) {
			length = lexer_placeholder(&p->lx);
			placeholder = true;
			text_add_bytes(&t, p->lx.text + p->lx.at, length);
			p->lx.at += length;
		} else {
			text_add_bytes(&t, p->lx.text + p->lx.at, length);
			p->lx.at += length;
		}
	}
	if (p->lx.failed || p->lx.at == start) {
		free(t.data);
		lexer_fail(&p->lx, start, start + 1, "A value was expected here.");
		return NULL;
	}
	n = join(p, whole, &t, start);
	n->placeholder = placeholder;
	n->bare = !quoted;
	json_t *number;
	if (n->kind == NODE_STRING && !quoted && !value_parse_number(n->text, &number)) {
		json_decref(number);
		n->kind = NODE_NUMBER;
	}
	return n;
}

static struct node *parse_hash(struct parser *p)
{
	unsigned start = p->lx.at, length;
	struct node *hash;
	p->lx.at += 2;
	hash = parser_node(p, NODE_HASH, start);
	if (!parser_enter(p))
		return NULL;
	for (;;) {
		lexer_skip(&p->lx, true);
		while (lexer_byte(&p->lx, 0) == ';') {
			p->lx.at++;
			lexer_skip(&p->lx, true);
		}
		if (p->lx.failed || p->lx.at >= p->lx.size || lexer_byte(&p->lx, 0) == '}')
			break;
		unsigned at = p->lx.at, n = 0;
		enum character class = lexer_class(&p->lx, at, &length);
		struct node *key, *pair = parser_node(p, NODE_PAIR, at);
		if (class == CHAR_SINGLE_QUOTE || class == CHAR_DOUBLE_QUOTE) {
			key = parser_quoted(p);
		} else {
			while (lexer_is_name(lexer_byte(&p->lx, n)) || lexer_byte(&p->lx, n) == '-')
				n++;
			p->lx.at += n;
			key = n ? parser_node_text(p, NODE_STRING, at, p->lx.text + at, n) : NULL;
		}
		if (!key) {
			lexer_fail(&p->lx, at, at + 1, "A name was expected here: a hashtable is @{ Name = Value; ... }.");
			return NULL;
		}
		lexer_skip(&p->lx, false);
		if (lexer_byte(&p->lx, 0) != '=') {
			lexer_fail(&p->lx, at, p->lx.at, "This name has no = and value: a hashtable is @{ Name = Value; ... }.");
			return NULL;
		}
		p->lx.at++;
		lexer_skip(&p->lx, true);
		if (p->lx.at >= p->lx.size || strchr(";}", lexer_byte(&p->lx, 0))) {
			lexer_fail_incomplete(&p->lx, at, "A value is missing after =.");
			p->lx.error->incomplete = p->lx.at >= p->lx.size;
			return NULL;
		}
		struct node *value = parser_statement(p);
		if (!value)
			return NULL;
		parser_append(pair, key);
		parser_append(pair, value);
		parser_append(hash, pair);
	}
	parser_leave(p);
	if (!parser_expect(p, '}', start, "hashtable"))
		return NULL;
	hash->end = p->lx.at;
	return hash;
}

static struct node *parse_bracketed(struct parser *p, enum node_kind kind, unsigned opening, char close,
				    const char *what)
{
	unsigned start = p->lx.at;
	p->lx.at += opening;
	struct node *n = parser_node(p, kind, start);
	if (!parser_enter(p))
		return NULL;
	struct node *list;
	if (kind == NODE_PAREN) {
		lexer_skip(&p->lx, true);
		if (!p->lx.failed && p->lx.at < p->lx.size && lexer_byte(&p->lx, 0) == close)
			lexer_fail(&p->lx, start, p->lx.at + 1, "There is nothing between these brackets.");
		if (!p->lx.failed && p->lx.at >= p->lx.size)
			lexer_fail_incomplete(&p->lx, start, "The closing ) is missing.");
		list = p->lx.failed ? NULL : parser_statement(p);
	} else {
		list = parser_statements(p, close);
	}
	parser_leave(p);
	if (!list || !parser_expect(p, close, start, what))
		return NULL;
	parser_append(n, list);
	n->end = p->lx.at;
	if (kind == NODE_BLOCK)
		n->text = parser_copy(p, p->lx.text + start + 1, p->lx.at - start - 2);
	return n;
}

static struct node *parse_members(struct parser *p, struct node *object)
{
	while (object && !p->lx.failed) {
		unsigned at = p->lx.at, n = 0, length;
		if (lexer_byte(&p->lx, 0) == '.' && lexer_byte(&p->lx, 1) != '.' && object->kind != NODE_NUMBER) {
			enum character class = lexer_class(&p->lx, at + 1, &length);
			struct node *name, *member;
			while (lexer_is_name(lexer_byte(&p->lx, 1 + n)))
				n++;
			p->lx.at++;
			if (class == CHAR_SINGLE_QUOTE || class == CHAR_DOUBLE_QUOTE)
				name = parser_quoted(p);
			else if (lexer_byte(&p->lx, 0) == '$' && lexer_variable(&p->lx, p->lx.at + 1))
				name = parser_dollar(p);
			else if (n) {
				p->lx.at += n;
				name = parser_node_text(p, NODE_STRING, at + 1, p->lx.text + at + 1, n);
			} else {
				p->lx.at = at;
				return object;
			}
			if (!name)
				return NULL;
			if (lexer_byte(&p->lx, 0) == '(') {
				lexer_fail(&p->lx, at, p->lx.at, "Objects have properties here but no methods.");
				return NULL;
			}
			member = parser_node(p, NODE_MEMBER, object->start);
			parser_append(member, object);
			parser_append(member, name);
			object = member;
		} else if (lexer_byte(&p->lx, 0) == '[') {
			p->lx.at++;
			lexer_skip(&p->lx, true);
			if (!parser_enter(p))
				return NULL;
			struct node *index = parser_expression(p);
			parser_leave(p);
			if (!index || !parser_expect(p, ']', at, "index"))
				return NULL;
			struct node *n2 = parser_node(p, NODE_INDEX, object->start);
			parser_append(n2, object);
			parser_append(n2, index);
			n2->end = p->lx.at;
			object = n2;
		} else {
			break;
		}
	}
	return p->lx.failed ? NULL : object;
}

struct node *parser_primary(struct parser *p)
{
	unsigned start = p->lx.at, length;
	enum character class = lexer_class(&p->lx, start, &length);
	char c = lexer_byte(&p->lx, 0), after = lexer_byte(&p->lx, 1);
	struct node *n = NULL;
	if (class == CHAR_SINGLE_QUOTE || class == CHAR_DOUBLE_QUOTE) {
		n = parser_quoted(p);
	} else if (c == '$' && at_dollar(p)) {
		n = parser_dollar(p);
	} else if (c == '(') {
		n = parse_bracketed(p, NODE_PAREN, 1, ')', "(");
	} else if (c == '@' && after == '(') {
		n = parse_bracketed(p, NODE_ARRAY_EXPRESSION, 2, ')', "@(");
	} else if (c == '@' && after == '{') {
		n = parse_hash(p);
	} else if (c == '{') {
		return parse_bracketed(p, NODE_BLOCK, 1, '}', "script block");
	} else if (c == '@') {
		n = parse_here_string(p);
	} else if (c == '[' && p->lx.size - start >= 6 && !strncasecmp(p->lx.text + start, "[void]", 6)) {
		/* The one type that people write: what follows gives nothing. */
		p->lx.at += 6;
		lexer_skip(&p->lx, false);
		if (!parser_enter(p))
			return NULL;
		struct node *operand = parser_primary(p);
		parser_leave(p);
		if (!operand)
			return NULL;
		n = parser_node_text(p, NODE_UNARY, start, "void", 4);
		parser_append(n, operand);
		return n;
	} else if (c == '[') {
		lexer_fail(&p->lx, start, start + 1, "Types in square brackets are not part of Nestor's shell.");
	} else if ((length = lexer_number(&p->lx))) {
		p->lx.at += length;
		n = parser_node_text(p, NODE_NUMBER, start, p->lx.text + start, length);
	} else if (p->lx.at >= p->lx.size) {
		lexer_fail_incomplete(&p->lx, start, "A value is missing at the end.");
	} else {
		lexer_fail(&p->lx, start, start + (length ? length : 1), "A value was expected here.");
	}
	return n ? parse_members(p, n) : NULL;
}

#define OPERATOR_SIZE 16	/* the longest is notcontains, with c before it */

/* Binary operators by level, weakest first. Those of words are -name, with c
 * or i before them where `cased`. */
enum level { LEVEL_LOGICAL, LEVEL_COMPARISON, LEVEL_ADD, LEVEL_MULTIPLY, LEVEL_FORMAT, LEVEL_RANGE, LEVEL_COMMA,
	     LEVEL_UNARY };

static const struct {
	const char *name;
	enum level level;
	bool cased;
} word_operators[] = {
	{ "and", LEVEL_LOGICAL }, { "or", LEVEL_LOGICAL }, { "xor", LEVEL_LOGICAL },
	{ "eq", LEVEL_COMPARISON, true }, { "ne", LEVEL_COMPARISON, true },
	{ "gt", LEVEL_COMPARISON, true }, { "ge", LEVEL_COMPARISON, true },
	{ "lt", LEVEL_COMPARISON, true }, { "le", LEVEL_COMPARISON, true },
	{ "like", LEVEL_COMPARISON, true }, { "notlike", LEVEL_COMPARISON, true },
	{ "match", LEVEL_COMPARISON, true }, { "notmatch", LEVEL_COMPARISON, true },
	{ "contains", LEVEL_COMPARISON, true }, { "notcontains", LEVEL_COMPARISON, true },
	{ "in", LEVEL_COMPARISON, true }, { "notin", LEVEL_COMPARISON, true },
	{ "replace", LEVEL_COMPARISON, true }, { "split", LEVEL_COMPARISON, true },
	{ "join", LEVEL_COMPARISON, false }, { "f", LEVEL_FORMAT, false },
};

/* The operator of `level` at the present place: its text into `name` (lower
 * case, c kept, i dropped) and its length; 0: none. */
static unsigned at_operator(struct parser *p, enum level level, char name[OPERATOR_SIZE])
{
	unsigned dash, length = lexer_parameter(&p->lx, &dash);
	char c = lexer_byte(&p->lx, 0);
	if (length) {
		const char *word = p->lx.text + p->lx.at + dash;
		unsigned n = length - dash;
		for (unsigned i = 0; i < ARRAY_SIZE(word_operators); i++) {
			size_t size = strlen(word_operators[i].name);
			bool prefixed = word_operators[i].cased && n == size + 1 &&
				strchr("ciCI", word[0]) && !strncasecmp(word + 1, word_operators[i].name, size);
			if (!prefixed && (n != size || strncasecmp(word, word_operators[i].name, size)))
				continue;
			if (word_operators[i].level != level)
				return 0;
			bool exact = prefixed && (word[0] | 32) == 'c';
			size_t at = 0;
			if (exact)
				name[at++] = 'c';
			memcpy(name + at, word_operators[i].name, size + 1);
			return length;
		}
		return 0;
	}
	unsigned wide;
	if (level == LEVEL_ADD && (c == '+' || lexer_class(&p->lx, p->lx.at, &wide) == CHAR_DASH)) {
		if (c == '+')
			wide = 1;
		/* $n += 1 and $n++ are statements. */
		if (lexer_byte(&p->lx, wide) == '=' || (wide == 1 && lexer_byte(&p->lx, 1) == c))
			return 0;
		memcpy(name, c == '+' ? "+" : "-", 2);
		return wide;
	}
	if (level == LEVEL_MULTIPLY && c && strchr("*/%", c) && lexer_byte(&p->lx, 1) != '=') {
		if (c == '*' && lexer_byte(&p->lx, 1) == '>')
			return 0;
		name[0] = c;
		name[1] = 0;
		return 1;
	}
	if (level == LEVEL_RANGE && c == '.' && lexer_byte(&p->lx, 1) == '.') {
		memcpy(name, "..", 3);
		return 2;
	}
	return 0;
}

static bool missing_operand(struct parser *p, unsigned at, const char *name)
{
	lexer_skip(&p->lx, true);
	if (p->lx.failed)
		return true;
	if (p->lx.at < p->lx.size && !strchr(")};|]", lexer_byte(&p->lx, 0)))
		return false;
	if (p->lx.at >= p->lx.size)
		lexer_fail_incomplete(&p->lx, at, "A value is missing after the operator %s.", name);
	else
		lexer_fail(&p->lx, at, p->lx.at, "A value is missing after the operator %s.", name);
	return true;
}

static struct node *parse_unary(struct parser *p);

static struct node *parse_level(struct parser *p, enum level level)
{
	char name[OPERATOR_SIZE];
	if (level == LEVEL_UNARY)
		return parse_unary(p);
	struct node *left = parse_level(p, level + 1);
	while (left && !p->lx.failed) {
		unsigned before = p->lx.at, at, n;
		lexer_skip(&p->lx, false);
		at = p->lx.at;
		if (level == LEVEL_COMMA) {
			if (lexer_byte(&p->lx, 0) != ',') {
				p->lx.at = before;
				return left;
			}
			p->lx.at++;
			if (missing_operand(p, at, ","))
				return NULL;
			struct node *list = parser_node(p, NODE_ARRAY, left->start);
			parser_append(list, left);
			for (;;) {
				struct node *next = parse_unary(p);
				if (!next)
					return NULL;
				parser_append(list, next);
				before = p->lx.at;
				lexer_skip(&p->lx, false);
				at = p->lx.at;
				if (lexer_byte(&p->lx, 0) != ',')
					break;
				p->lx.at++;
				if (missing_operand(p, at, ","))
					return NULL;
			}
			p->lx.at = before;
			return list;
		}
		n = at_operator(p, level, name);
		if (!n) {
			p->lx.at = before;
			return left;
		}
		p->lx.at += n;
		if (missing_operand(p, at, name))
			return NULL;
		struct node *right = parse_level(p, level + 1);
		if (!right)
			return NULL;
		struct node *binary = parser_node_text(p, NODE_BINARY, left->start, name, strlen(name));
		parser_append(binary, left);
		parser_append(binary, right);
		left = binary;
	}
	return p->lx.failed ? NULL : left;
}

/* An operator of a word that stands before its one value; NULL: none. */
static const char *word_before_value(const struct parser *p, unsigned length, unsigned dash)
{
	static const char *const words[] = { "not", "join", "split" };
	for (unsigned i = 0; length && i < ARRAY_SIZE(words); i++)
		if (strlen(words[i]) == length - dash &&
		    !strncasecmp(p->lx.text + p->lx.at + dash, words[i], length - dash))
			return words[i];
	return NULL;
}

static struct node *parse_unary(struct parser *p)
{
	unsigned start = p->lx.at, dash = 0, length = lexer_parameter(&p->lx, &dash), wide;
	const char *name = NULL;
	if (lexer_byte(&p->lx, 0) == '!') {
		name = "not";
		p->lx.at++;
	} else if ((name = word_before_value(p, length, dash))) {
		p->lx.at += length;
	} else if (length) {
		lexer_fail(&p->lx, start, start + length, "There is no operator %.*s before a value.",
			   (int)length, p->lx.text + start);
		return NULL;
	} else if (lexer_class(&p->lx, start, &wide) == CHAR_DASH) {
		name = "-";
		p->lx.at += wide;
	} else if (lexer_byte(&p->lx, 0) == '+') {
		name = "+";
		p->lx.at++;
	} else if (lexer_byte(&p->lx, 0) == ',') {
		name = ",";
		p->lx.at++;
	}
	if (!name)
		return parser_primary(p);
	if (missing_operand(p, start, name) || !parser_enter(p))
		return NULL;
	struct node *operand = parse_unary(p);
	parser_leave(p);
	if (!operand)
		return NULL;
	struct node *n = parser_node_text(p, *name == ',' ? NODE_ARRAY : NODE_UNARY, start, name, strlen(name));
	parser_append(n, operand);
	return n;
}

struct node *parser_expression(struct parser *p)
{
	struct node *n = parse_level(p, LEVEL_LOGICAL);
	unsigned dash, before = p->lx.at, length;
	if (!n)
		return NULL;
	lexer_skip(&p->lx, false);
	length = lexer_parameter(&p->lx, &dash);
	if (length) {
		lexer_fail(&p->lx, p->lx.at, p->lx.at + length, "There is no operator %.*s; there are -eq -ne -gt -ge "
			   "-lt -le -like -notlike -match -notmatch -contains -notcontains -in -notin -replace -split "
			   "-join -f -and -or -xor -not.", (int)length, p->lx.text + p->lx.at);
		return NULL;
	}
	p->lx.at = before;
	return p->lx.failed ? NULL : n;
}
