/* The store: VMs, switches, NATs as JSON objects, one file each.
 *
 * A file is replaced whole: written under another name, fsynced, renamed, its
 * folder fsynced. So whatever happens at whatever moment, a file is the old one
 * or the new one. What does not parse is set aside as NAME.broken and named;
 * the others load. No locking: the service's lock guards it. */
#ifndef NESTOR_SERVICE_STORE_H
#define NESTOR_SERVICE_STORE_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

/* Of the files' layout; a file with a newer one is left alone and named. */
enum { STORE_SCHEMA = 1, STORE_ID_SIZE = 37 };

enum store_kind { STORE_VM, STORE_SWITCH, STORE_NAT, STORE_KINDS };

struct store;

struct store *store_open(const char *folder, struct error *e);
void store_close(struct store *s);

/* All objects of a kind by Id, sorted by name and then Id. Borrowed; an object
 * is never changed in place: copy it (json_deep_copy), change, store_put. */
json_t *store_objects(struct store *s, enum store_kind kind);
/* NULL when there is none. Borrowed. */
json_t *store_find(struct store *s, enum store_kind kind, const char *id);

/* Write an object, which has a string "Id". On failure the old one stays, in
 * memory as on disk. object is not taken over. */
int store_put(struct store *s, enum store_kind kind, json_t *object, struct error *e);
int store_remove(struct store *s, enum store_kind kind, const char *id, struct error *e);

/* Set an object's file aside, as one that does not parse: why it is of no use. */
void store_set_aside(struct store *s, enum store_kind kind, const char *id, const char *why);

/* What did not load: an array of sentences. Borrowed. */
json_t *store_troubles(struct store *s);

/* A new random GUID, in lower case. */
void store_new_id(char id[STORE_ID_SIZE]);
bool store_id_valid(const char *id);

/* For tests: called before every step of a change with its name ("create",
 * "write", "fsync", "rename", "fsync folder", "unlink"); a positive errno makes
 * the step fail with it. */
extern int (*store_fault)(const char *step);

#endif
