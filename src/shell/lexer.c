#include "shell/lexer.h"

#include "shell/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	uint32_t first, last;
	enum character class;
} classes[] = {
	{ '\t', '\t', CHAR_SPACE }, { '\v', '\f', CHAR_SPACE }, { ' ', ' ', CHAR_SPACE },
	{ '\n', '\n', CHAR_NEWLINE }, { '\r', '\r', CHAR_NEWLINE },
	{ '-', '-', CHAR_DASH }, { 0x2013, 0x2015, CHAR_DASH },
	{ '\'', '\'', CHAR_SINGLE_QUOTE }, { 0x2018, 0x201b, CHAR_SINGLE_QUOTE },
	{ '"', '"', CHAR_DOUBLE_QUOTE }, { 0x201c, 0x201e, CHAR_DOUBLE_QUOTE },
	{ 0x85, 0x85, CHAR_SPACE }, { 0xa0, 0xa0, CHAR_SPACE }, { 0x1680, 0x1680, CHAR_SPACE },
	{ 0x2000, 0x200a, CHAR_SPACE }, { 0x2028, 0x2029, CHAR_SPACE }, { 0x202f, 0x202f, CHAR_SPACE },
	{ 0x205f, 0x205f, CHAR_SPACE }, { 0x3000, 0x3000, CHAR_SPACE }, { 0xfeff, 0xfeff, CHAR_SPACE },
};

enum character lexer_class(const struct lexer *lx, unsigned at, unsigned *length)
{
	*length = 0;
	if (at >= lx->size)
		return CHAR_END;
	uint32_t c = utf8_decode(lx->text + at, lx->size - at, length);
	if (*length == 1 && c >= 0x80)
		return CHAR_OTHER;
	for (unsigned i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (c >= classes[i].first && c <= classes[i].last)
			return classes[i].class;
	return CHAR_OTHER;
}

char lexer_byte(const struct lexer *lx, unsigned offset)
{
	return offset < lx->size - lx->at ? lx->text[lx->at + offset] : 0;
}

void lexer_fail(struct lexer *lx, unsigned start, unsigned end, const char *format, ...)
{
	if (lx->failed)
		return;
	va_list list;
	va_start(list, format);
	vsnprintf(lx->error->text, sizeof(lx->error->text), format, list);
	va_end(list);
	lx->error->start = start;
	lx->error->end = end > start ? end : start + 1;
	lx->error->incomplete = false;
	lx->failed = true;
}

void lexer_fail_incomplete(struct lexer *lx, unsigned start, const char *format, ...)
{
	char text[sizeof(lx->error->text)];
	va_list list;
	if (lx->failed)
		return;
	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	lexer_fail(lx, start, start + 1, "%s", text);
	lx->error->incomplete = true;
}

static void skip_block_comment(struct lexer *lx)
{
	unsigned start = lx->at;
	for (lx->at += 2; lx->at < lx->size; lx->at++)
		if (lexer_byte(lx, 0) == '#' && lexer_byte(lx, 1) == '>') {
			lx->at += 2;
			return;
		}
	lexer_fail_incomplete(lx, start, "The comment that begins with <# has no #> at its end.");
}

void lexer_skip(struct lexer *lx, bool newlines)
{
	while (!lx->failed) {
		unsigned length, more;
		enum character class = lexer_class(lx, lx->at, &length);
		char c = lexer_byte(lx, 0);
		if (class == CHAR_SPACE || (class == CHAR_NEWLINE && newlines)) {
			lx->at += length;
		} else if (c == '#') {
			while (lx->at < lx->size && lexer_class(lx, lx->at, &length) != CHAR_NEWLINE)
				lx->at += length;
		} else if (c == '<' && lexer_byte(lx, 1) == '#') {
			skip_block_comment(lx);
		} else if (c == '`' && lexer_class(lx, lx->at + 1, &more) == CHAR_NEWLINE) {
			lx->at += 1 + more;
			if (lx->text[lx->at - 1] == '\r' && lexer_byte(lx, 0) == '\n')
				lx->at++;
		} else if (c == '`' && lexer_class(lx, lx->at + 1, &more) == CHAR_END) {
			lexer_fail_incomplete(lx, lx->at, "A back-tick continues the line, and there is no next line.");
		} else {
			return;
		}
	}
}

bool lexer_word_ends(const struct lexer *lx)
{
	unsigned length;
	enum character class = lexer_class(lx, lx->at, &length);
	if (class == CHAR_END || class == CHAR_SPACE || class == CHAR_NEWLINE)
		return true;
	return class == CHAR_OTHER && strchr(";|&(){},>", lx->text[lx->at]) && lx->text[lx->at];
}

bool lexer_is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

unsigned lexer_variable(const struct lexer *lx, unsigned at)
{
	unsigned n = 0;
	if (at >= lx->size)
		return 0;
	if (strchr("?^$", lx->text[at]) && lx->text[at])
		return 1;
	while (at + n < lx->size && lexer_is_name(lx->text[at + n]))
		n++;
	/* $env:NAME and scopes; a colon with nothing behind it is text. */
	if (n && at + n + 1 < lx->size && lx->text[at + n] == ':' && lexer_is_name(lx->text[at + n + 1])) {
		n++;
		while (at + n < lx->size && lexer_is_name(lx->text[at + n]))
			n++;
	}
	return n;
}

unsigned lexer_number(const struct lexer *lx)
{
	unsigned n = 0;
	bool hex = lexer_byte(lx, 0) == '0' && (lexer_byte(lx, 1) | 32) == 'x';
	char c;
	if (hex)
		n = 2;
	while ((c = lexer_byte(lx, n)) && ((c >= '0' && c <= '9') ||
	       (hex && ((c | 32) >= 'a' && (c | 32) <= 'f'))))
		n++;
	if (!hex && lexer_byte(lx, n) == '.' && lexer_byte(lx, n + 1) >= '0' && lexer_byte(lx, n + 1) <= '9')
		for (n++; (c = lexer_byte(lx, n)) >= '0' && c <= '9';)
			n++;
	if (!n)
		return 0;
	if (!hex && (lexer_byte(lx, n) | 32) == 'e' && lexer_byte(lx, n + 1) >= '0' && lexer_byte(lx, n + 1) <= '9')
		for (n++; (c = lexer_byte(lx, n)) >= '0' && c <= '9';)
			n++;
	c = (char)(lexer_byte(lx, n) | 32);
	if (strchr("kmgtp", c) && (lexer_byte(lx, n + 1) | 32) == 'b')
		n += 2;
	return n;
}

unsigned lexer_parameter(const struct lexer *lx, unsigned *dash)
{
	unsigned length;
	if (lexer_class(lx, lx->at, &length) != CHAR_DASH)
		return 0;
	*dash = length;
	char c = lexer_byte(lx, length);
	if (!lexer_is_name(c) || (c >= '0' && c <= '9'))
		return c == '?' ? length + 1 : 0;
	while (lexer_is_name(lexer_byte(lx, length)))
		length++;
	return length;
}

unsigned lexer_placeholder(const struct lexer *lx)
{
	unsigned n = 1;
	char c = lexer_byte(lx, 1);
	if (lexer_byte(lx, 0) != '<' || !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
		return 0;
	while ((c = lexer_byte(lx, n)) && (lexer_is_name(c) || c == ' ' || c == '-' || c == '.' || (c & 0x80)))
		n++;
	return c == '>' ? n + 1 : 0;
}

char lexer_escape(char c)
{
	switch (c) {
	case 'n': return '\n';
	case 't': return '\t';
	case 'r': return '\r';
	case 'a': return '\a';
	case 'b': return '\b';
	case 'f': return '\f';
	case 'v': return '\v';
	case 'e': return '\033';
	default: return c;
	}
}
