/* Loaders: put a kernel into guest memory and set the first processor as its
 * boot protocol asks. The file's content decides which protocol that is. */
#ifndef NESTOR_BOARD_LOADER_H
#define NESTOR_BOARD_LOADER_H

#include "memory/memory.h"
#include "x86/processor_state.h"

struct load_request {
	const char *kernel;		/* path */
	/* Paths. For multiboot and PVH each is a module; what follows the first
	 * blank after a path that does not exist as it stands is the module's
	 * command line. */
	const char *const *initrd;
	unsigned initrds;
	const char *append;		/* command line; NULL: empty */
	struct memory *memory;
	uint64_t rsdp;			/* guest-physical, 0: none */
};

/* 0, or -1 with *e (STATUS_FILE). Writes only to guest RAM that the E820 map
 * leaves to programs. */
int loader_load(const struct load_request *r, struct processor_state *bsp, struct error *e);

#endif
