/* Settings: what the Set- cmdlets change, as tables. An entry says which
 * parameter goes to which member, what it may be, and when. */
#ifndef NESTOR_SERVICE_SETTINGS_H
#define NESTOR_SERVICE_SETTINGS_H

#include "service/call.h"

enum setting_kind { SETTING_INTEGER, SETTING_BOOLEAN, SETTING_ENUM, SETTING_TEXT };

struct setting {
	const char *parameter, *key;
	enum setting_kind kind;
	int64_t min, max;	/* INTEGER, inclusive */
	int64_t multiple;	/* INTEGER: 0 or what it must be a multiple of */
	const char *values;	/* ENUM: each with a blank before and after */
	bool off_only;		/* only while the VM is Off */
	/* The one value that Nestor can honour, as text, and why no other;
	 * NULL: any value is honoured, or only kept because it harms nobody. */
	const char *only, *why;
};

/* Who is changed, for the errors. */
struct setting_target {
	json_t *vm;		/* its Name, Id; the state is looked up */
	const char *device;	/* "Processor" …; NULL: the VM itself */
	json_t *object;		/* where the members are; changed in place */
};

/* Take the call's parameters that the table knows into target->object. How many
 * were given, or -1 with an error of the call. */
int settings_apply(struct call *c, const struct setting_target *target,
		   const struct setting *table, unsigned count);

/* Hyper-V's frame around a failed change of a device. */
void settings_error(struct call *c, const struct setting_target *target, const char *kind,
		    const char *detail, const char *reason, const char *remedy);

extern const char wrong_state_sentence[];

#endif
