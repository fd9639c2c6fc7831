/* qemu-nbd as a process of ours: it reads and writes one disk whose format this
 * process does not know, and serves it over one connection.
 *
 * It serves nobody else (the socket has no name by the time it starts), opens
 * only the disk and its parents, in the formats that it is told (it never looks
 * for itself), and dies with us: the kernel kills it when the thread that
 * started it ends, however that happens. */
#ifndef NESTOR_DISK_NBD_SERVER_H
#define NESTOR_DISK_NBD_SERVER_H

#include "disk/image.h"

#include <sys/types.h>

struct nbd_server {
	pid_t pid;	/* 0: it is gone */
	int output;	/* a file in memory: what it says */
};

/* Start it for a chain; the socket of the connection, on which its greeting is
 * still to come, or -1 with the reason. Call it in a thread that lives as long
 * as the process does. */
int nbd_server_start(struct nbd_server *s, const struct disk_chain *chain, bool readonly,
		     struct error *e);
/* Wait until it has ended, for at most ms, then kill it. How it ended and what it
 * said last into text. The connection must be closed. */
void nbd_server_end(struct nbd_server *s, unsigned ms, char *text, size_t n);

/* The program's path into room bytes by $PATH; false: it is not installed. */
bool nbd_server_find(char *path, size_t room);

#endif
