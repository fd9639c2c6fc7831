/* Between the parser's two halves: statements and commands, and expressions. */
#ifndef NESTOR_SHELL_PARSER_INTERNAL_H
#define NESTOR_SHELL_PARSER_INTERNAL_H

#include "shell/lexer.h"

#define PARSER_MAX_DEPTH 64	/* nested brackets */

struct parser {
	struct lexer lx;
	struct script *script;
	unsigned depth;
};

struct node *parser_node(struct parser *p, enum node_kind kind, unsigned start);
struct node *parser_node_text(struct parser *p, enum node_kind kind, unsigned start,
			      const char *s, size_t n);
char *parser_copy(struct parser *p, const char *s, size_t n);
void parser_append(struct node *parent, struct node *child);
/* One level of brackets deeper; false (and failed) when too deep. */
bool parser_enter(struct parser *p);
void parser_leave(struct parser *p);
bool parser_expect(struct parser *p, char c, unsigned opened, const char *what);

/* Statements until `close` (0: the end of the text), which is not consumed. */
struct node *parser_statements(struct parser *p, char close);
struct node *parser_statement(struct parser *p);
struct node *parser_expression(struct parser *p);
/* A value with its members and indexes. In an argument `a-b` is not a difference. */
struct node *parser_primary(struct parser *p);
/* "…": the quote is at the present place. */
struct node *parser_quoted(struct parser *p);
/* $name, ${name}, $(…): the $ is at the present place. */
struct node *parser_dollar(struct parser *p);
/* A word of arguments, with the variables in it. */
struct node *parser_word(struct parser *p);

#endif
