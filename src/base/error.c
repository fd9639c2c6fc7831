#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *e, enum exit_status status, const char *format, ...)
{
	if (e) {
		va_list ap;
		e->status = status;
		va_start(ap, format);
		vsnprintf(e->text, sizeof e->text, format, ap);
		va_end(ap);
	}
	return -1;
}
