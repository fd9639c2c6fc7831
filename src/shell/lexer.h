/* The lexer: what single characters and words of PowerShell are. It reads in
 * two modes, as that language does: in an expression `a-b` is a subtraction, in
 * a command's arguments it is one word. The parser says which it wants. */
#ifndef NESTOR_SHELL_LEXER_H
#define NESTOR_SHELL_LEXER_H

#include "shell/ast.h"

#include <stdint.h>

struct lexer {
	const char *text;
	unsigned size, at;
	struct syntax_error *error;
	bool failed;
};

enum character {
	CHAR_END, CHAR_OTHER, CHAR_SPACE, CHAR_NEWLINE, CHAR_DASH, CHAR_SINGLE_QUOTE, CHAR_DOUBLE_QUOTE,
};

/* The class of the character at `at` and its length in bytes. Dashes, quotes
 * and spaces that word processors make count as the plain ones. */
enum character lexer_class(const struct lexer *lx, unsigned at, unsigned *length);
/* The byte at lx->at + offset; 0 past the end. */
char lexer_byte(const struct lexer *lx, unsigned offset);
/* Pass over blanks, comments and continued lines; with `newlines` over line ends too. */
void lexer_skip(struct lexer *lx, bool newlines);
/* Does a word of arguments end at the present character? */
bool lexer_word_ends(const struct lexer *lx);
/* The length of a variable's name at `at` (after the $), 0: none; ${…} not. */
unsigned lexer_variable(const struct lexer *lx, unsigned at);
/* The length of a number at the present place, in an expression; 0: none. */
unsigned lexer_number(const struct lexer *lx);
/* The length of a parameter `-Name` at the present place, dash included; 0: none. */
unsigned lexer_parameter(const struct lexer *lx, unsigned *dash);
/* The length of a `<placeholder>` at the present place; 0: none. */
unsigned lexer_placeholder(const struct lexer *lx);
/* What a back-tick and the character after it stand for. */
char lexer_escape(char c);

bool lexer_is_name(char c);	/* letter, digit, _ */
void lexer_fail(struct lexer *lx, unsigned start, unsigned end, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void lexer_fail_incomplete(struct lexer *lx, unsigned start, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
