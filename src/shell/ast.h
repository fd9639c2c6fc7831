/* What the parser makes of a text: a tree of nodes that live as long as their
 * script. Children hang from `first` and follow each other by `next`. */
#ifndef NESTOR_SHELL_AST_H
#define NESTOR_SHELL_AST_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum node_kind {
	NODE_LIST,		/* statements */
	NODE_ASSIGN,		/* text: operator; target, statement */
	NODE_EXIT,		/* an expression or nothing */
	NODE_PIPELINE,		/* one expression or command, then commands */
	NODE_COMMAND,		/* text: name; arguments and redirections */
	NODE_PARAMETER,		/* text: name; its value where written -Name:value */
	NODE_SPLAT,		/* text: variable */
	NODE_REDIRECT,		/* text: ">", ">>", "2>", "*>&1" …; the file */
	NODE_STRING,		/* text; bare: no quotes */
	NODE_NUMBER,		/* text as written */
	NODE_EXPAND,		/* parts, joined */
	NODE_VARIABLE,		/* text */
	NODE_ARRAY,		/* elements of a, b, c */
	NODE_PAREN,		/* (…): a statement */
	NODE_SUBEXPRESSION,	/* $(…): statements */
	NODE_ARRAY_EXPRESSION,	/* @(…): statements */
	NODE_HASH,		/* NODE_PAIRs */
	NODE_PAIR,		/* key, statement */
	NODE_BLOCK,		/* {…}: statements; text as written */
	NODE_MEMBER,		/* object, name */
	NODE_INDEX,		/* object, index */
	NODE_UNARY,		/* text: operator; operand */
	NODE_BINARY,		/* text: operator; left, right */
};

struct node {
	enum node_kind kind;
	unsigned start, end;	/* bytes of the source */
	char *text;
	bool bare;		/* written without quotes */
	bool placeholder;	/* holds a <name> that was to be replaced */
	struct node *first, *last, *next;
};

/* A syntax error: what is wrong and which bytes it is about. */
struct syntax_error {
	unsigned start, end;
	bool incomplete;	/* the text ended too early: more lines may mend it */
	char text[512];
};

struct script {
	char *source;
	size_t size;
	char *name;		/* of its file, or NULL */
	struct node *root;	/* NODE_LIST */
	void *allocations;
	struct script *next;
};

/* Parse a text; NULL with *e filled. */
struct script *script_parse(const char *text, size_t size, struct syntax_error *e);
void script_free(struct script *s);

#endif
