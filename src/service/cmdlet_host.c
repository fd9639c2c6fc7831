/* The host, its versions, and the methods that are the service's own. */
#include "service/client.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/vm_object.h"

#include "base/bits.h"

#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { HOST_NAME_SIZE = 256 };

static void get_host(struct call *c)
{
	char name[HOST_NAME_SIZE] = "", first[13];
	struct sysinfo info = { 0 };
	gethostname(name, sizeof name - 1);
	sysinfo(&info);
	network_mac_pool(c->service, first);
	json_t *host = json_pack("{s:s,s:s,s:s,s:I,s:I,s:b,s:s,s:s,s:s,s:s}", "$type", "VMHost",
		"Name", name, "ComputerName", name,
		"LogicalProcessorCount", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN),
		"MemoryCapacity", (json_int_t)info.totalram * info.mem_unit,
		"VirtualMachineMigrationEnabled", 0, "MacAddressMinimum", first,
		"MacAddressMaximum", call_text(c, "%.10sFF", first),
		"VirtualMachinePath", paths_store(),
		"VirtualHardDiskPath", call_text(c, "%s/Virtual Hard Disks", paths_store()));
	call_object(c, host);
}

static void add_version(struct call *c, const char *version, const char *name)
{
	bool is_default = !strcmp(version, vm_version_default);
	if (!call_switch(c, "Default") || is_default)
		call_object(c, json_pack("{s:s,s:s,s:s,s:b}", "$type", "VMHostSupportedVersion", "Name", name,
					 "Version", version, "IsDefault", is_default));
}

static void get_versions(struct call *c)
{
	/* By the systems that brought them, as the list of that cmdlet has it. */
	static const struct { const char *version, *name; } names[] = {
		{ "5.0", "Microsoft Windows 8.1/Server 2012 R2" },
		{ "8.0", "Microsoft Windows 10 Anniversary Update/Server 2016" },
		{ "9.0", "Microsoft Windows 10 October 2018 Update/Server 2019" },
		{ "10.0", "Microsoft Windows 11/Server 2022" },
		{ "12.0", "Microsoft Windows 11 2024 Update/Server 2025" },
	};
	for (unsigned i = 0; vm_versions[i]; i++) {
		const char *name = call_text(c, "Configuration version %s", vm_versions[i]);
		for (unsigned n = 0; n < ARRAY_SIZE(names); n++)
			if (!strcmp(names[n].version, vm_versions[i]))
				name = names[n].name;
		add_version(c, vm_versions[i], name);
	}
	add_version(c, "254.0", "Prerelease");
	add_version(c, "255.0", "Experimental");
}

/* The service's own. */

static void hello(struct call *c)
{
	char name[HOST_NAME_SIZE] = "";
	json_t *version = call_parameter(c, "version");
	gethostname(name, sizeof name - 1);
	if (json_integer_value(version) != SERVICE_PROTOCOL) {
		call_error(c, "NotSupported", NULL, "The service speaks another version of the protocol.",
			   call_text(c, "It speaks version %d.", SERVICE_PROTOCOL),
			   "End it, and it starts anew: the command line and the service belong to one build.");
		return;
	}
	call_object(c, json_pack("{s:s,s:i,s:s,s:s,s:s,s:i,s:b}", "$type", "Service", "Version", SERVICE_PROTOCOL,
				 "Store", paths_store(), "Runtime", paths_runtime(), "Host", name,
				 "ProcessId", (int)getpid(), "OfHost", c->service->of_host));
}

static bool begins_with(const char *text, const char *prefix)
{
	return !strncasecmp(text, prefix, strlen(prefix));
}

static void add_name(struct call *c, const char *name, const char *prefix)
{
	if (begins_with(name, prefix))
		json_array_append_new(c->objects, json_string(name));
}

static void complete(struct call *c)
{
	const char *kind = call_string(c, "kind"), *prefix = call_string(c, "prefix"), *key;
	json_t *object, *adapter;
	size_t i;
	kind = kind ? kind : "";
	prefix = prefix ? prefix : "";
	if (!strcmp(kind, "VM"))
		json_object_foreach(store_objects(c->service->store, STORE_VM), key, object)
			add_name(c, get_text(object, "Name"), prefix);
	else if (!strcmp(kind, "VMSwitch"))
		json_object_foreach(store_objects(c->service->store, STORE_SWITCH), key, object)
			add_name(c, get_text(object, "Name"), prefix);
	else if (!strcmp(kind, "NetNat"))
		json_object_foreach(store_objects(c->service->store, STORE_NAT), key, object)
			add_name(c, get_text(object, "Name"), prefix);
	else if (!strcmp(kind, "VMNetworkAdapter"))
		json_object_foreach(store_objects(c->service->store, STORE_VM), key, object)
			json_array_foreach(json_object_get(object, "Adapters"), i, adapter)
				add_name(c, get_text(adapter, "Name"), prefix);
	else if (!strcmp(kind, "NetAdapter"))
		json_object_foreach(store_objects(c->service->store, STORE_SWITCH), key, object)
			if (get_true(object, "AllowManagementOS"))
				add_name(c, call_text(c, "vEthernet (%s)", get_text(object, "Name")), prefix);
}

/* What of the store did not load. */
static void troubles(struct call *c)
{
	json_t *text;
	size_t i;
	json_array_foreach(store_troubles(c->service->store), i, text)
		json_array_append(c->objects, text);
}

const struct cmdlet host_cmdlets[] = {
	{ "Get-VMHost", get_host, " ", NULL },
	{ "Get-VMHostSupportedVersion", get_versions, " Default ", NULL },
	{ "Service.Hello", hello, " version ", NULL },
	{ "Service.Complete", complete, " kind prefix ", NULL },
	{ "Service.Troubles", troubles, " ", NULL },
	{ NULL }
};
