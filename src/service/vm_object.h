/* A VM in the store, and what the cmdlets show of it.
 *
 * The stored object: Id, Name, Generation, Version, Created, Notes, EndReason,
 * the Automatic… settings, and the members Processor, Memory, Firmware
 * (objects), Drives, Adapters (lists of objects with an Id). */
#ifndef NESTOR_SERVICE_VM_OBJECT_H
#define NESTOR_SERVICE_VM_OBJECT_H

#include "service/call.h"

/* With every default; name and version are copied. */
json_t *vm_new(const char *name, int generation, const char *version, int64_t memory);

/* Give a VM that came from a file the default of each member that it lacks. NULL, or the
 * name of one that has the wrong type. */
const char *vm_complete(json_t *vm);
/* So all VMs of the store; those that are no VMs are set aside. */
void vm_complete_all(struct service *s);

/* What Get-VM, Get-VMProcessor … answer for it. */
json_t *vm_object(struct service *s, json_t *vm);
json_t *vm_processor_object(json_t *vm);
json_t *vm_memory_object(json_t *vm);
json_t *vm_firmware_object(json_t *vm);
json_t *vm_drive_object(json_t *vm, json_t *drive);
json_t *vm_adapter_object(struct service *s, json_t *vm, json_t *adapter);

/* A new adapter's settings. */
json_t *vm_adapter_new(const char *name);

/* Configuration versions. */
extern const char *const vm_versions[];		/* ends with NULL, the newest last */
extern const char vm_version_default[];
/* The canonical spelling of a version that this host supports; NULL. */
const char *vm_version_find(const char *text);
/* As major * 1000 + minor. */
int vm_version_number(const char *version);
enum { VM_VERSION_NESTING = 8000 };

/* For every VM that the call names: change a copy of it (0: it was stored; -1
 * with an error of the call) and show it with -Passthru. sentence: what would
 * be done, between the cmdlet's name and the VM's. */
void vm_each(struct call *c, const char *sentence, int (*change)(struct call *c, json_t *copy),
	     json_t *(*show)(struct service *s, json_t *vm));

#endif
