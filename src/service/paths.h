/* Where things are: the store, the folder of sockets, logs, the guests' images.
 *   store    $NESTOR_STORE, else for root /var/lib/nestor, else
 *            $XDG_DATA_HOME/nestor or ~/.local/share/nestor
 *   runtime  $NESTOR_RUNTIME, else STORE/run when $NESTOR_STORE is given, else
 *            for root /run/nestor, else $XDG_RUNTIME_DIR/nestor or
 *            /tmp/nestor-UID; 0700 and its user's own
 *   images   $NESTOR_IMAGES, else beside the program: ../images (the build), or
 *            ../share/nestor/images (installed) */
#ifndef NESTOR_SERVICE_PATHS_H
#define NESTOR_SERVICE_PATHS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { PATHS_MAX = 4096 };

/* Find out, and make the folders. Call it first; calling it again with other
 * variables in the environment finds out anew. */
int paths_prepare(struct error *e);

const char *paths_store(void);
const char *paths_runtime(void);
const char *paths_socket(void);		/* the service's */
const char *paths_lock(void);
/* The file that program NAME (service, or a VM's id) logs to; the text is
 * good until this thread's next call. */
const char *paths_log(const char *name);
/* RUNTIME/NAME.KIND into room bytes; false when it does not fit. */
bool paths_runtime_file(char *path, size_t room, const char *name, const char *kind);
/* The program of the roles: $NESTOR_EXECUTABLE, else this one. */
const char *paths_executable(void);
/* A file of the guests' images into room bytes; false when there is none, with
 * the name that was looked for last. */
bool paths_image(char *path, size_t room, const char *name);

/* Make a folder and those above it. */
int paths_make_folder(const char *path, unsigned mode, struct error *e);

#endif
