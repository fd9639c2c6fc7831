/* What cmdlets are written with: parameters in; objects, messages, errors out. */
#ifndef NESTOR_SERVICE_CALL_H
#define NESTOR_SERVICE_CALL_H

#include "service/service.h"

#include <string.h>
#include <strings.h>

/* Formatted text that lives as long as the call. */
const char *call_text(struct call *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Parameters. */
json_t *call_parameter(struct call *c, const char *name);	/* NULL: not given */
const char *call_string(struct call *c, const char *name);	/* NULL: not given or no text */
bool call_switch(struct call *c, const char *name);		/* given and not false */
/* A value or a list of values as a list; NULL: not given. Caller owns it. */
json_t *call_list(struct call *c, const char *name);
/* An absolute path of a parameter, by the caller's $Location; NULL with an
 * error when that cannot be told. */
const char *call_path(struct call *c, const char *path);

/* Results. */
void call_object(struct call *c, json_t *object);		/* taken over */
void call_say(struct call *c, const char *stream, const char *text);

/* kind: "InvalidParameter", "InvalidState", "ObjectNotFound", "OperationFailed",
 * "PermissionDenied", "NotSupported" or "OutOfMemory". message: Hyper-V's
 * sentence. reason and remedy may be NULL. */
void call_error(struct call *c, const char *kind, const char *target, const char *message,
		const char *reason, const char *remedy);
/* As the CIM cmdlets (NetNat, NetIPAddress) say it: code is Windows' number. */
void call_cim_error(struct call *c, const char *category, const char *class_name, int code,
		    const char *target, const char *message, const char *reason,
		    const char *remedy);

/* Whether to go on: says what would be done with -WhatIf, what is done with
 * -Verbose. */
bool call_should(struct call *c, const char *sentence);

/* The VMs that -Name/-VMName (wildcards) or -VM name: a list of their objects
 * in the store, which the caller owns; what is not found has become an error. */
json_t *call_vms(struct call *c);
/* The one VM of a cmdlet that takes one; borrowed. */
json_t *call_one_vm(struct call *c);

/* A JSON string of any bytes. */
json_t *text_json(const char *text);

/* Members of objects. */
const char *get_text(json_t *object, const char *key);		/* "" when there is none */
int64_t get_integer(json_t *object, const char *key);
bool get_true(json_t *object, const char *key);

/* PowerShell's wildcards * ? [..], without case. */
bool wildcard_match(const char *pattern, const char *text);
bool is_wildcard(const char *text);

/* A VM's id as messages show it, in capitals. */
const char *call_guid(struct call *c, json_t *vm);

/* Write a changed copy of a stored object; an error of the call on failure.
 * object is not taken over. */
int call_put(struct call *c, enum store_kind kind, json_t *object);

/* Names of kind's objects, for "there are: …". */
const char *call_names(struct call *c, enum store_kind kind);

#endif
