#include "service/settings.h"

#include "base/bits.h"
#include "service/machine.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

const char wrong_state_sentence[] =
	"The operation cannot be performed while the virtual machine is in its current state.";

void settings_error(struct call *c, const struct setting_target *target, const char *kind,
		    const char *detail, const char *reason, const char *remedy)
{
	const char *name = get_text(target->vm, "Name"), *message = detail;
	bool expose = target->device && reason && strstr(reason, "virtualization extensions");
	if (target->device)
		message = call_text(c,
			"Failed to modify device '%s'.\n%s'%s' failed to modify device '%s'. (Virtual machine ID %s)\n%s",
			target->device, expose ? "Cannot modify property.\n" : "", name,
			target->device, call_guid(c, target->vm), detail);
	call_error(c, kind, name, message, reason, remedy);
}

static int refuse(struct call *c, const struct setting_target *t, const struct setting *s,
		  const char *value, const char *may)
{
	settings_error(c, t, "InvalidParameter",
		call_text(c, "The value %s of -%s is not valid.", value, s->parameter),
		call_text(c, "-%s takes %s.", s->parameter, may), NULL);
	return -1;
}

/* The value as it will be stored; NULL with an error of the call. */
static json_t *convert(struct call *c, const struct setting_target *t, const struct setting *s,
		       json_t *given)
{
	const char *text = json_string_value(given);
	if (s->kind == SETTING_INTEGER && json_is_integer(given)) {
		json_int_t n = json_integer_value(given);
		if (n < s->min || n > s->max || (s->multiple && n % s->multiple)) {
			refuse(c, t, s, call_text(c, "%" PRId64, (int64_t)n), s->multiple ?
			       call_text(c, "from %" PRId64 " to %" PRId64 " in multiples of %" PRId64,
					 s->min, s->max, s->multiple) :
			       call_text(c, "from %" PRId64 " to %" PRId64, s->min, s->max));
			return NULL;
		}
		return json_integer(n);
	}
	if (s->kind == SETTING_BOOLEAN && json_is_boolean(given))
		return json_incref(given);
	if (s->kind == SETTING_TEXT && text)
		return json_incref(given);
	if (s->kind == SETTING_ENUM && text) {
		size_t n = strlen(text);
		for (const char *at = s->values + 1; *at; at += strcspn(at, " ") + 1) {
			size_t m = strcspn(at, " ");
			if (m == n && !strncasecmp(at, text, n))
				return json_stringn(at, m);
		}
		refuse(c, t, s, text, call_text(c, "one of:%s", s->values));
		return NULL;
	}
	static const char *const wanted[] = {
		[SETTING_INTEGER] = "a whole number", [SETTING_BOOLEAN] = "$true or $false",
		[SETTING_ENUM] = "a word", [SETTING_TEXT] = "a text",
	};
	char *shown = json_dumps(given, JSON_ENCODE_ANY | JSON_COMPACT);
	refuse(c, t, s, shown ? call_text(c, "%s", shown) : "given", wanted[s->kind]);
	free(shown);
	return NULL;
}

static const char *as_text(struct call *c, json_t *value)
{
	return json_is_integer(value) ?
		call_text(c, "%" PRId64, (int64_t)json_integer_value(value)) :
		json_is_boolean(value) ? json_is_true(value) ? "true" : "false" :
		json_string_value(value);
}

int settings_apply(struct call *c, const struct setting_target *target,
		   const struct setting *table, unsigned count)
{
	enum machine_state state = machine_state(c->service, get_text(target->vm, "Id"));
	int given = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct setting *s = &table[i];
		json_t *parameter = call_parameter(c, s->parameter);
		if (!parameter)
			continue;
		json_t *value = convert(c, target, s, parameter);
		if (!value)
			return -1;
		given++;
		if (s->only && strcasecmp(as_text(c, value), s->only)) {
			settings_error(c, target, "NotSupported",
				call_text(c, "-%s %s is not supported.", s->parameter, as_text(c, value)),
				s->why, call_text(c, "Leave -%s out, or give it %s.", s->parameter, s->only));
			json_decref(value);
			return -1;
		}
		bool same = json_equal(value, json_object_get(target->object, s->key));
		if (s->off_only && state != MACHINE_OFF && !same) {
			settings_error(c, target, "InvalidState", wrong_state_sentence,
				call_text(c, "%s may change only while the virtual machine is Off; %s is %s.",
					  s->why && !s->only ? s->why : s->parameter,
					  get_text(target->vm, "Name"), machine_state_name(state)),
				call_text(c, "Stop-VM -Name '%s', then try again.", get_text(target->vm, "Name")));
			json_decref(value);
			return -1;
		}
		json_object_set_new(target->object, s->key, value);
	}
	return given;
}
