/* Cmdlets are table entries. Binder, help, completion and the calls to the
 * service all read the same table: a new cmdlet is new rows in a cmdlets_*.c. */
#ifndef NESTOR_SHELL_CMDLET_H
#define NESTOR_SHELL_CMDLET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shell;
struct call;

enum parameter_type {
	STRING, INT64, INT32, INT16, UINT64, UINT32, UINT16, BYTE,	/* sizes may have suffixes */
	BOOLEAN, SWITCH, ENUM, GUID, VERSION, TIMESPAN,
	OBJECT,		/* one of the service's, by its $type */
	ANY,		/* any value */
	BLOCK,		/* a script block */
};
#define LIST 0x80	/* several values; the service gets a JSON array */
#define TYPE_OF(p) ((enum parameter_type)((p)->type & ~LIST))

#define IN(set) (1u << (set))
#define ALL_SETS 0xffffu
#define AT(n) ((n) + 1)		/* a position; 0: only by name */

enum { BY_VALUE = 1, BY_PROPERTY = 2 };

/* What Nestor does with a parameter. */
enum parameter_fate {
	WORKS,
	HARMLESS,	/* accepted; nothing here that it could change */
	REFUSED,	/* an error; `help` is the reason */
};

struct parameter {
	const char *name;
	const char *aliases;	/* comma-separated */
	uint8_t type;
	uint16_t sets;		/* IN() of those it belongs to */
	uint8_t position;	/* AT() */
	uint8_t pipeline;
	bool mandatory;
	bool rest;		/* takes all positional arguments that are left */
	enum parameter_fate fate;
	const char *values;	/* ENUM: accepted; OBJECT: $types */
	int64_t minimum, maximum;	/* both 0: the type's own range */
	const char *help;
	uint16_t optional_in;	/* sets where a mandatory one is not */
};

/* Rows that many tables have. */
#define VM_NAMES(parameter, other_name) \
	{ parameter, other_name, LIST | STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE, \
	  .mandatory = true, .help = "Names of virtual machines; * and ? match several." }
#define VMS(set) \
	{ "VM", NULL, LIST | OBJECT, IN(set), .position = AT(0), .pipeline = BY_VALUE, \
	  .mandatory = true, .values = "VirtualMachine", \
	  .help = "Virtual machines, as Get-VM gives them." }
#define NO_CHECKPOINT \
	{ "VMSnapshot", "VMCheckpoint", OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMSnapshot", \
	  .help = "Nestor has no checkpoints yet." }

enum cmdlet_flags {
	CHANGES = 1,		/* -WhatIf and -Confirm */
	ASKS = 2,		/* asks for confirmation by itself */
	PASSTHRU = 4,
	LOCAL = 8,		/* Nestor's machine only: -ComputerName and its like refused */
};

struct cmdlet {
	const char *name;
	const char *module;
	const char *aliases;	/* of the cmdlet */
	const char *synopsis;
	const char *sets;	/* names, the default one first; NULL: one set */
	const struct parameter *parameters;
	unsigned parameter_count;
	unsigned flags;
	const char *output;	/* $type */
	const char *examples;	/* one a line: command, tab, what it does */
	/* A cmdlet of the shell's own; NULL: one call to the service. */
	json_t *(*run)(struct shell *sh, struct call *call);
};

/* A call of one of the shell's own cmdlets. */
struct call {
	const struct cmdlet *cmdlet;
	json_t *bound;		/* parameters by full name */
	json_t *input;		/* array: what came through the pipeline */
};

struct cmdlet_table {
	const struct cmdlet *cmdlets;
	unsigned count;
};
extern const struct cmdlet_table cmdlets_vm, cmdlets_hardware, cmdlets_disk, cmdlets_switch,
	cmdlets_adapter, cmdlets_net, cmdlets_host, cmdlets_object, cmdlets_output, cmdlets_session;

/* Parameters that every cmdlet has, then those of ones that change something, … */
extern const struct parameter parameters_common[], parameters_changes[], parameters_passthru[],
	parameters_remote[];

/* By name or alias, `Module\` before it or not; NULL: none. */
const struct cmdlet *cmdlet_find(const char *name);
/* The n-th of all; NULL after the last. */
const struct cmdlet *cmdlet_at(unsigned n);
/* The n-th parameter, common ones after its own; NULL after the last. */
const struct parameter *cmdlet_parameter(const struct cmdlet *c, unsigned n);
/* Is it the n-th parameter's place among the common ones? */
bool cmdlet_parameter_is_common(const struct cmdlet *c, unsigned n);
/* Is `name` a real cmdlet of the modules that Nestor follows, but not here? */
bool cmdlet_known_elsewhere(const char *name, const char **module);
/* Names near to `name`, comma-separated, at most three; "" when none is near. */
void cmdlet_nearest(const char *name, char *out, size_t room);
const char *parameter_type_name(const struct parameter *p, char *out, size_t room);

#endif
