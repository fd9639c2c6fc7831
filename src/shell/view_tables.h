/* Which columns a type shows, and how its properties are written. */
#ifndef NESTOR_SHELL_VIEW_TABLES_H
#define NESTOR_SHELL_VIEW_TABLES_H

enum view_format {
	FORMAT_PLAIN,
	FORMAT_MIB,		/* bytes, shown in units of 2^20 */
	FORMAT_TIMESPAN,	/* seconds, shown as [d.]hh:mm:ss */
	FORMAT_DATE,		/* seconds since 1970 */
};

struct view_column {
	const char *header, *property;
	enum view_format format;
};

struct view {
	const char *type;
	const struct view_column *columns;	/* NULL: the type is shown as a list */
	/* Properties of a list, in order; NULL: all. One with ? behind its name only
	 * when it is neither empty nor false nor 0. */
	const char *list;
};

/* The view of a $type; NULL: none of its own. */
const struct view *view_find(const char *type);
/* How a property is written outside a table of its own. */
enum view_format view_property_format(const char *property);

#endif
