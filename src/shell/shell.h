/* The shell: one session that runs PowerShell texts. Start reading at run.c
 * (statements and pipelines), then binder.c and cmdlet.h. */
#ifndef NESTOR_SHELL_SHELL_H
#define NESTOR_SHELL_SHELL_H

#include "shell/ast.h"
#include "shell/cmdlet.h"
#include "shell/value.h"

#include <signal.h>
#include <stdio.h>

/* Who answers calls: the service, or a test's table. */
struct shell_service {
	void *owner;
	/* The call's result (a new reference); NULL with *e. `progress` may be NULL. */
	json_t *(*call)(void *owner, const char *method, json_t *params,
			void (*progress)(void *argument, const char *text, int percent), void *argument,
			struct error *e);
};

/* PowerShell's streams, by the numbers that redirections use. */
enum stream { STREAM_OUTPUT = 1, STREAM_ERROR, STREAM_WARNING, STREAM_VERBOSE, STREAM_DEBUG, STREAM_INFORMATION,
	      STREAMS };

/* Where a stream goes. */
struct sink {
	enum { SINK_TERMINAL, SINK_NOWHERE, SINK_FILE, SINK_OUTPUT } kind;
	FILE *file;
};

struct shell {
	struct shell_service service;
	FILE *out, *err;
	unsigned width;		/* columns of the terminal; 0: no limit */
	bool interactive;
	bool can_ask;		/* a terminal answers questions */
	bool from_unix;		/* the words came through a Unix shell */
	json_t *variables;	/* by lower-case name */
	json_t *errors;		/* $Error, newest first */
	json_t *thrown;		/* the error record on its way up; NULL: none */
	bool succeeded;		/* $? */
	bool failed;		/* any error was shown: exit status 1 */
	bool leaving;		/* `exit` was run */
	int status;
	struct script *scripts;	/* all that were run: blocks point into them */
	const struct script *running;
	unsigned command_start, command_end;	/* of the command that runs, in `running` */
	char *command_line;	/* the statement that runs, as it was written */
	const struct node **blocks;
	const struct script **block_scripts;
	unsigned block_count, block_room;
	unsigned depth;
	bool yes_to_all, no_to_all;
	bool progress_shown;
	bool mute;		/* errors of this command are not shown (-ErrorAction SilentlyContinue) */
	bool stopping;		/* -ErrorAction Stop: the statements that follow are not run */
	unsigned error_count;	/* errors so far, also those that were not shown */
	struct sink sinks[STREAMS];
	json_t *merged;		/* array: what streams whose sink is SINK_OUTPUT said */
};

/* Set by a signal: what runs stops at the next statement, object or call. */
extern volatile sig_atomic_t shell_interrupted;
/* -1 when thrown because of it. */
int shell_check_interrupt(struct shell *sh);

struct shell *shell_create(struct shell_service service, FILE *out, FILE *err);
void shell_destroy(struct shell *sh);
/* Run a text; `name` is a file's or NULL. The exit status so far. */
int shell_run_text(struct shell *sh, const char *text, size_t size, const char *name);
/* One cmdlet whose words a Unix shell has split. */
int shell_run_words(struct shell *sh, int argc, char *const argv[]);
/* Parse only, to see whether more lines are needed. */
bool shell_is_incomplete(const char *text, size_t size);

/* Variables. get: borrowed, NULL when never set. set: takes the value. */
json_t *shell_variable(struct shell *sh, const char *name);
void shell_set_variable(struct shell *sh, const char *name, json_t *value);
bool shell_preference_is(struct shell *sh, const char *variable, const char *value);

/* run.c: a new array of the values that came out, or NULL when thrown. */
json_t *shell_run_list(struct shell *sh, const struct node *list);
json_t *shell_run_statement(struct shell *sh, const struct node *statement, bool collect);
/* A script block with $_ set; `block` is its value. */
json_t *shell_run_block(struct shell *sh, const json_t *block, json_t *item);
bool value_is_block(const json_t *v);
/* eval.c: a new reference, or NULL when thrown. text: a bare 8.0 stays "8.0". */
json_t *shell_eval(struct shell *sh, const struct node *n, bool text);
json_t *shell_member(const json_t *object, const char *name);

/* errors.c. An error record is an object with the members of docs/manager.md's
 * errors, "command" and the words of the source that it is about. */
struct error_parts {
	const char *message, *reason, *way_out, *category, *target, *target_type, *id, *exception, *command;
};
json_t *error_record(const struct error_parts *parts);
/* Set sh->thrown; always returns NULL so that `return shell_throw(…)` reads well. */
void *shell_throw(struct shell *sh, const struct error_parts *parts);
void *shell_throwf(struct shell *sh, const char *category, const char *id, const char *way_out,
		   const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Show sh->thrown, if anything, and be done with it. */
void shell_report_thrown(struct shell *sh);
/* Show a record as $ErrorView says and remember it; takes the record. */
void shell_report(struct shell *sh, json_t *record);
/* A record as shell_report shows it. */
void error_text(struct shell *sh, struct text *t, const json_t *record);
/* What the members of PowerShell's error records say; new reference, NULL: no such member. */
json_t *error_member(const json_t *record, const char *name);
/* A syntax error with its place marked. */
void shell_report_syntax(struct shell *sh, const char *text, size_t size, const struct syntax_error *e,
			 const char *name);

/* redirect.c: whole lines for a stream; `terminal` is where they go when it is not redirected. */
void shell_say(struct shell *sh, enum stream stream, FILE *terminal, const char *text);

/* views.c */
void view_print(struct shell *sh, FILE *out, json_t *objects);
enum view_style { VIEW_DEFAULT, VIEW_TABLE, VIEW_LIST };
/* columns: names or hashtables {Name/Label, Expression}; NULL: the type's own. */
int view_format(struct shell *sh, struct text *t, json_t *objects, enum view_style style,
		json_t *columns, unsigned width);
/* A property as the views show it, a string that the caller frees. */
char *view_value(const char *property, const json_t *v);
/* A calculated property's value or a named one's. New reference, NULL when thrown. */
json_t *view_column_value(struct shell *sh, json_t *column, json_t *object, char **header);

/* help.c */
json_t *help_get(struct shell *sh, struct call *call);
json_t *help_commands(struct shell *sh, struct call *call);
json_t *help_members(struct shell *sh, struct call *call);
/* A cmdlet's syntax, one line for each parameter set. */
void help_syntax(struct text *t, const struct cmdlet *c);

/* confirm.c */
enum answer { ANSWER_YES, ANSWER_NO, ANSWER_THROWN };
/* A line that the user types, without its end, which the caller frees; NULL: none came. */
char *shell_ask(struct shell *sh, const char *prompt);
enum answer shell_confirm(struct shell *sh, const struct cmdlet *c, json_t *params);

/* console.c: join the terminal to the VM's serial console that the service named. */
json_t *console_join(struct shell *sh, json_t *console);

#endif
