/* What `nestor run` was asked for. No behaviour: the command line fills it,
 * the board, the engines' choice and the VM read it. Strings point into argv. */
#ifndef NESTOR_VM_CONFIG_H
#define NESTOR_VM_CONFIG_H

#include "base/bits.h"
#include "engine/engine.h"

enum {
	VM_MAX_INITRDS = 32,
	VM_MAX_DISKS = 16,
	VM_MAX_NETWORKS = 8,
};

#define VM_MEMORY_MIN (2 * MIB)
#define VM_MEMORY_MAX (512 * GIB)
#define VM_MEMORY_DEFAULT (512 * MIB)

enum vm_engine { VM_ENGINE_AUTO, VM_ENGINE_SOFT, VM_ENGINE_KVM };

enum console_kind { CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_UNIX, CONSOLE_NONE };

struct console_config {
	enum console_kind kind;
	const char *path;	/* file and unix */
};

struct vm_disk {
	const char *path;
	size_t path_length;	/* the path ends where ",readonly" begins */
	bool readonly;
};

enum vm_network_kind { VM_NETWORK_NAT, VM_NETWORK_SWITCH };

/* A network adapter. The role opens its port (run_network.c, the worker); the
 * board takes the descriptor over. */
struct vm_network {
	enum vm_network_kind kind;	/* of the command line, with the value */
	const char *value;
	int fd;				/* a port's socket; -1: not plugged in */
	uint8_t mac[6];
};

struct vm_config {
	uint64_t memory;
	unsigned processors;
	enum vm_engine engine;
	bool expose_virtualization_extensions;
	const char *kernel;
	const char *initrd[VM_MAX_INITRDS];
	unsigned initrds;
	const char *append;
	uint64_t memory_most;	/* more than memory: so much it may have while it runs */
	struct vm_disk disk[VM_MAX_DISKS];
	unsigned disks;
	struct vm_network network[VM_MAX_NETWORKS];
	unsigned networks;
	struct console_config serial;
	const char *engine_options;
	const char *trace;
	bool report;
	bool reboot;
};

#endif
