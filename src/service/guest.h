/* Where this service runs: on a host, or inside a VM of Nestor's own. */
#ifndef NESTOR_SERVICE_GUEST_H
#define NESTOR_SERVICE_GUEST_H

#include <stdbool.h>
#include <stddef.h>

/* Is this system a guest of Nestor? Its ACPI tables say so, whatever the engine. */
bool guest_is_nestors(void);

/* The number-th network interface that is no loopback and no vEthernet, from 0, those
 * with a device first, by the kernel's order; false when there are not so many. */
bool guest_interface(unsigned number, char *name, size_t room);

/* What /proc/cpuinfo shows of this system's processor. */
enum guest_extensions { EXTENSIONS_NONE, EXTENSIONS_VMX, EXTENSIONS_SVM };
enum guest_extensions guest_extensions(void);

/* A VM of this system's KVM that does nothing: while it is open, this system is a
 * hypervisor, in VMX operation. Its descriptor, or -1. */
int guest_be_hypervisor(void);

/* modprobe, quietly; whether it worked is seen by what the module brings. */
void guest_load_module(const char *name);

#endif
