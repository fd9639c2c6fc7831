/* Views: how objects look. A type's table (view_tables.c) names its columns;
 * what has none shows up to four properties as a table and more as a list, as
 * PowerShell does. Columns are as wide as what they hold; on a terminal that is
 * narrower the widest are cut with "...", and what still has no room is left out
 * from the right. */
#include "shell/view_tables.h"

#include "shell/shell.h"

#include "base/bits.h"
#include "base/log.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define TABLE_PROPERTIES 4	/* an unknown type with more is a list */
#define ENUMERATION_LIMIT 4	/* elements of a list that are shown */
#define MAX_COLUMNS 128
#define MIN_COLUMN 4

static void add_timespan(struct text *t, double seconds)
{
	long long whole = (long long)floor(seconds);
	long long ticks = (long long)llround((seconds - (double)whole) * 1e7);
	if (ticks == 10000000) {
		whole++;
		ticks = 0;
	}
	if (whole >= 86400)
		text_addf(t, "%lld.", whole / 86400);
	text_addf(t, "%02lld:%02lld:%02lld", whole / 3600 % 24, whole / 60 % 60, whole % 60);
	if (ticks)
		text_addf(t, ".%07lld", ticks);
}

static void add_date(struct text *t, double seconds)
{
	time_t when = (time_t)seconds;
	struct tm tm;
	char s[64];
	localtime_r(&when, &tm);
	strftime(s, sizeof(s), "%Y-%m-%d %H:%M:%S", &tm);
	text_add(t, s);
}

static void add_plain(struct text *t, const json_t *v)
{
	json_t *child;
	size_t i;
	if (json_is_array(v)) {
		text_add(t, "{");
		json_array_foreach((json_t *)v, i, child) {
			if (i == ENUMERATION_LIMIT) {
				text_add(t, "...");
				break;
			}
			text_add(t, i ? ", " : "");
			char *s = value_string(child);
			text_add(t, s);
			free(s);
		}
		text_add(t, "}");
		return;
	}
	char *s = value_string(v);
	text_add(t, s);
	free(s);
}

static void add_formatted(struct text *t, enum view_format format, const json_t *v)
{
	double n = json_number_value(v);
	if (!json_is_number(v) || format == FORMAT_PLAIN)
		add_plain(t, v);
	else if (format == FORMAT_MIB)
		text_addf(t, "%lld", (long long)(n / 1048576));
	else if (format == FORMAT_TIMESPAN)
		add_timespan(t, n);
	else
		add_date(t, n);
}

char *view_value(const char *property, const json_t *v)
{
	struct text t = { 0 };
	add_formatted(&t, view_property_format(property), v);
	return text_take(&t);
}

/* A column while a table is made. */
struct column {
	char *header;
	json_t *source;			/* a name or a hashtable; NULL: `known` */
	const struct view_column *known;
	unsigned width;
	bool right;
	char **cells;
};

json_t *view_column_value(struct shell *sh, json_t *column, json_t *object, char **header)
{
	json_t *v;
	if (json_is_object(column) && !value_is_block(column)) {
		json_t *name = value_property(column, "Name"), *expression = value_property(column, "Expression");
		static const char *const names[] = { "Label", "n", "l" };
		for (unsigned i = 0; !name && i < ARRAY_SIZE(names); i++)
			name = value_property(column, names[i]);
		if (!expression)
			expression = value_property(column, "e");
		if (!expression)
			return shell_throwf(sh, "InvalidArgument", "DictionaryKeyMissing", NULL,
				"A calculated property is @{ Name = '...'; Expression = { ... } }.");
		*header = value_string(name ? name : expression);
		column = expression;
		if (!value_is_block(column)) {
			char *s = value_string(column);
			v = shell_member(object, s);
			free(s);
			return v;
		}
	}
	if (value_is_block(column)) {
		if (!*header)
			*header = alloc_string(value_text(column, "Text"));
		json_t *list = shell_run_block(sh, column, object);
		if (!list)
			return NULL;
		v = json_array_size(list) == 1 ? json_incref(json_array_get(list, 0)) :
			json_array_size(list) ? json_incref(list) : json_null();
		json_decref(list);
		return v;
	}
	char *name = value_string(column);
	const char *exact = value_property_name(object, name);
	if (!*header)
		*header = alloc_string(exact ? exact : name);
	v = shell_member(object, name);
	free(name);
	return v;
}

/* ---- which columns ---- */

static void add_column(struct column *c, unsigned *n, const char *name)
{
	if (*n < MAX_COLUMNS)
		c[(*n)++] = (struct column){ .source = json_string(name) };
}

/* Names with wildcards become the properties that they fit. */
static unsigned expand_columns(struct column *c, json_t *columns, json_t *objects)
{
	unsigned n = 0;
	size_t i, k;
	json_t *column, *object, *v;
	const char *key;
	json_array_foreach(columns, i, column) {
		const char *name = json_string_value(column);
		if (!name || !value_has_wildcard(name)) {
			if (n < MAX_COLUMNS)
				c[n++] = (struct column){ .source = json_incref(column) };
			continue;
		}
		json_array_foreach(objects, k, object) {
			json_object_foreach(object, key, v) {
				bool have = key[0] == '$' || !value_like(key, name, false);
				for (unsigned j = 0; !have && j < n; j++)
					have = json_is_string(c[j].source) && !strcasecmp(json_string_value(c[j].source), key);
				if (!have)
					add_column(c, &n, key);
			}
			break;
		}
	}
	return n;
}

static bool any_says(json_t *group, const char *property)
{
	size_t i;
	json_t *o;
	json_array_foreach(group, i, o)
		if (value_true(value_property(o, property)))
			return true;
	return false;
}

static unsigned default_columns(struct column *c, const struct view *view, json_t *group, enum view_style style)
{
	json_t *first = json_array_get(group, 0);
	unsigned n = 0;
	const char *key;
	char name[64];
	json_t *v;
	if (style == VIEW_TABLE && view && view->columns) {
		for (const struct view_column *k = view->columns; k->property && n < MAX_COLUMNS; k++)
			c[n++] = (struct column){ .known = k, .header = alloc_string(k->header) };
		return n;
	}
	if (style == VIEW_LIST && view && view->list) {
		for (unsigned i = 0; list_item(view->list, i, name, sizeof(name)); i++) {
			/* A name with ? is shown only when it says something. */
			size_t length = strlen(name);
			bool optional = name[length - 1] == '?';
			if (optional)
				name[length - 1] = 0;
			v = value_property(first, name);
			if (v && !(optional && !any_says(group, name)))
				add_column(c, &n, name);
		}
		return n;
	}
	json_object_foreach(first, key, v)
		if (key[0] != '$')
			add_column(c, &n, key);
	return n;
}

static void free_columns(struct column *c, unsigned n, size_t rows)
{
	for (unsigned i = 0; i < n; i++) {
		for (size_t r = 0; c[i].cells && r < rows; r++)
			free(c[i].cells[r]);
		free(c[i].cells);
		free(c[i].header);
		json_decref(c[i].source);
	}
}

static int fill_cells(struct shell *sh, struct column *c, unsigned n, json_t *objects)
{
	size_t rows = json_array_size(objects), r;
	json_t *object;
	for (unsigned i = 0; i < n; i++) {
		c[i].cells = alloc_zeroed(rows + 1, sizeof(char *));
		json_array_foreach(objects, r, object) {
			struct text t = { 0 };
			char *header = NULL;
			enum view_format format;
			json_t *v;
			if (c[i].known) {
				v = json_incref(value_property(object, c[i].known->property));
				format = c[i].known->format;
			} else {
				v = view_column_value(sh, c[i].source, object, &header);
				if (!v) {
					free(header);
					return -1;
				}
				/* A calculated value is shown as it was calculated. */
				format = json_is_string(c[i].source) ? view_property_format(header) : FORMAT_PLAIN;
				c[i].right |= r == 0 && json_is_number(v) && format == FORMAT_PLAIN;
			}
			if (!c[i].header)
				c[i].header = header;
			else
				free(header);
			add_formatted(&t, format, v);
			json_decref(v);
			char *s = text_take(&t);
			/* What a guest or a name says cannot drive the terminal. */
			for (char *k = s; *k; k++)
				if ((unsigned char)*k < ' ' && *k != '\n')
					*k = ' ';
			c[i].cells[r] = s;
		}
	}
	return 0;
}

/* ---- a table ---- */

static void add_cut(struct text *t, const char *s, unsigned width, bool right, bool last)
{
	unsigned columns = 0, length;
	struct text cell = { 0 };
	unsigned full = text_columns(s);
	bool cut = full > width;
	unsigned keep = cut && width > 3 ? width - 3 : width;
	for (; *s; s += length) {
		unsigned wide = character_columns(utf8_decode(s, strlen(s), &length));
		if (columns + wide > keep)
			break;
		columns += wide;
		text_add_bytes(&cell, *s == '\n' ? " " : s, length);
	}
	if (cut && width > 3) {
		text_add(&cell, "...");
		columns += 3;
	}
	char *done = text_take(&cell);
	unsigned pad = columns < width ? width - columns : 0;
	if (right)
		text_addf(t, "%*s%s", (int)pad, "", done);
	else
		text_addf(t, "%s%*s", done, last ? 0 : (int)pad, "");
	if (!last)
		text_add(t, " ");
	free(done);
}

static void trim_line(struct text *t)
{
	while (t->size && t->data[t->size - 1] == ' ')
		t->data[--t->size] = 0;
	text_add(t, "\n");
}

/* The least that a column is cut to: its header, and a few letters. */
static unsigned least_width(const struct column *c)
{
	unsigned header = text_columns(c->header), least = header > MIN_COLUMN ? header : MIN_COLUMN;
	return c->width < least ? c->width : least;
}

/* Widths that fit; the number of columns that have room. */
static unsigned fit_columns(struct column *c, unsigned n, size_t rows, unsigned width)
{
	unsigned least = 0, shown = 0, total = 0;
	for (unsigned i = 0; i < n; i++) {
		c[i].width = text_columns(c[i].header);
		for (size_t r = 0; r < rows; r++) {
			unsigned w = text_columns(c[i].cells[r]);
			if (w > c[i].width)
				c[i].width = w;
		}
		least += least_width(&c[i]) + (i > 0);
		if (width && i && least > width)
			break;
		total += c[i].width + (i > 0);
		shown++;
	}
	while (width && total > width) {
		/* Take from the widest that may still lose something. */
		unsigned widest = shown;
		for (unsigned i = 0; i < shown; i++)
			if (c[i].width > least_width(&c[i]) && (widest == shown || c[i].width >= c[widest].width))
				widest = i;
		if (widest == shown)
			break;
		c[widest].width--;
		total--;
	}
	if (width && shown == 1 && c[0].width > width)
		c[0].width = width;
	return shown;
}

static void add_table(struct text *t, struct column *c, unsigned n, size_t rows, unsigned width)
{
	unsigned shown = fit_columns(c, n, rows, width);
	text_add(t, "\n");
	for (unsigned i = 0; i < shown; i++)
		add_cut(t, c[i].header, c[i].width, c[i].right, i + 1 == shown);
	trim_line(t);
	for (unsigned i = 0; i < shown; i++) {
		struct text line = { 0 };
		for (unsigned k = text_columns(c[i].header); k--;)
			text_add(&line, "-");
		char *s = text_take(&line);
		add_cut(t, s, c[i].width, c[i].right, i + 1 == shown);
		free(s);
	}
	trim_line(t);
	for (size_t r = 0; r < rows; r++) {
		for (unsigned i = 0; i < shown; i++)
			add_cut(t, c[i].cells[r], c[i].width, c[i].right, i + 1 == shown);
		trim_line(t);
	}
	text_add(t, "\n");
}

static void add_list(struct text *t, struct column *c, unsigned n, size_t rows)
{
	unsigned width = 0;
	for (unsigned i = 0; i < n; i++)
		if (text_columns(c[i].header) > width)
			width = text_columns(c[i].header);
	text_add(t, "\n");
	for (size_t r = 0; r < rows; r++) {
		for (unsigned i = 0; i < n; i++) {
			text_addf(t, "%s%*s : ", c[i].header, (int)(width - text_columns(c[i].header)), "");
			for (const char *s = c[i].cells[r];; s++) {
				size_t line = strcspn(s, "\n");
				text_add_bytes(t, s, line);
				trim_line(t);
				s += line;
				if (!*s)
					break;
				text_addf(t, "%*s", (int)width + 3, "");
			}
		}
		text_add(t, "\n");
	}
}

static void add_hash(struct text *t, json_t *hash)
{
	json_t *rows = json_array(), *v;
	const char *key;
	json_object_foreach(hash, key, v)
		json_array_append_new(rows, json_pack("{s:s,s:O}", "Name", key, "Value", v));
	struct column c[2] = { { .header = alloc_string("Name") }, { .header = alloc_string("Value") } };
	size_t count = json_array_size(rows), i;
	json_t *row;
	c[0].cells = alloc_zeroed(count + 1, sizeof(char *));
	c[1].cells = alloc_zeroed(count + 1, sizeof(char *));
	json_array_foreach(rows, i, row) {
		c[0].cells[i] = value_string(json_object_get(row, "Name"));
		c[1].cells[i] = view_value("", json_object_get(row, "Value"));
	}
	add_table(t, c, 2, count, 0);
	free_columns(c, 2, count);
	json_decref(rows);
}

/* Objects of one type. */
static int format_group(struct shell *sh, struct text *t, json_t *group, enum view_style style,
			json_t *columns, unsigned width)
{
	struct column c[MAX_COLUMNS];
	json_t *first = json_array_get(group, 0);
	const struct view *view = view_find(value_type(first));
	unsigned n;
	if (style == VIEW_DEFAULT) {
		unsigned properties = 0;
		const char *key;
		json_t *v;
		json_object_foreach(first, key, v)
			properties += key[0] != '$';
		style = view ? (view->columns ? VIEW_TABLE : VIEW_LIST) :
			properties <= TABLE_PROPERTIES ? VIEW_TABLE : VIEW_LIST;
	}
	n = columns ? expand_columns(c, columns, group) : default_columns(c, view, group, style);
	size_t rows = json_array_size(group);
	int r = n ? fill_cells(sh, c, n, group) : 0;
	for (unsigned i = 0; !r && i < n; i++)
		if (!c[i].header)
			c[i].header = alloc_string("");
	if (!r && n && style == VIEW_LIST)
		add_list(t, c, n, rows);
	else if (!r && n)
		add_table(t, c, n, rows, width);
	free_columns(c, n, rows);
	return r;
}

/* Types that are nothing but a text. */
static bool is_formatted(const json_t *v)
{
	return json_is_object(v) && list_has("FormattedText,VMReport,ErrorCategoryInfo", value_type(v));
}

int view_format(struct shell *sh, struct text *t, json_t *objects, enum view_style style,
		json_t *columns, unsigned width)
{
	size_t i = 0, count = json_array_size(objects);
	while (i < count) {
		json_t *o = json_array_get(objects, i);
		if (!json_is_object(o)) {
			char *s;
			if (json_is_array(o)) {
				if (view_format(sh, t, o, style, columns, width))
					return -1;
			} else if (!json_is_null(o)) {
				s = value_string(o);
				text_addf(t, "%s\n", s);
				free(s);
			}
			i++;
			continue;
		}
		if (is_formatted(o)) {
			text_add(t, value_text(o, "Text"));
			if (t->size && t->data[t->size - 1] != '\n')
				text_add(t, "\n");
			i++;
			continue;
		}
		if (!strcmp(value_type(o), "ErrorRecord") && style == VIEW_DEFAULT && !columns) {
			error_text(sh, t, o);
			i++;
			continue;
		}
		if (value_is_block(o)) {
			text_addf(t, "%s\n", value_text(o, "Text"));
			i++;
			continue;
		}
		if (!*value_type(o) && !columns) {
			add_hash(t, o);
			i++;
			continue;
		}
		json_t *group = json_array();
		const char *type = value_type(o);
		for (; i < count; i++) {
			o = json_array_get(objects, i);
			if (!json_is_object(o) || strcmp(value_type(o), type))
				break;
			json_array_append(group, o);
		}
		int r = format_group(sh, t, group, style, columns, width);
		json_decref(group);
		if (r)
			return -1;
	}
	return 0;
}

void view_print(struct shell *sh, FILE *out, json_t *objects)
{
	struct text t = { 0 };
	if (view_format(sh, &t, objects, VIEW_DEFAULT, NULL, out == stdout || out == sh->out ? sh->width : 0)) {
		shell_report(sh, sh->thrown);
		sh->thrown = NULL;
	}
	if (t.size)
		fwrite(t.data, 1, t.size, out);
	free(t.data);
}
