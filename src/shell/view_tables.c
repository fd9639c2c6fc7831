#include "shell/view_tables.h"

#include "base/bits.h"

#include <string.h>
#include <strings.h>

#define COLUMNS(...) (const struct view_column[]){ __VA_ARGS__, { 0 } }

static const struct view views[] = {
	{ "VirtualMachine",
	  COLUMNS({ "Name", "Name" }, { "State", "State" }, { "CPUUsage(%)", "CPUUsage" },
		  { "MemoryAssigned(M)", "MemoryAssigned", FORMAT_MIB }, { "Uptime", "Uptime", FORMAT_TIMESPAN },
		  { "Status", "Status" }, { "Version", "Version" }),
	  "Name,State,CPUUsage,MemoryAssigned,MemoryDemand,MemoryStatus,Uptime,Status,EndReason?,"
	  "ReplicationState,Generation" },
	{ "VMProcessor",
	  COLUMNS({ "VMName", "VMName" }, { "Count", "Count" },
		  { "CompatibilityForMigrationEnabled", "CompatibilityForMigrationEnabled" },
		  { "CompatibilityForOlderOperatingSystemsEnabled", "CompatibilityForOlderOperatingSystemsEnabled" }) },
	{ "VMMemory",
	  COLUMNS({ "VMName", "VMName" }, { "DynamicMemoryEnabled", "DynamicMemoryEnabled" },
		  { "Minimum(M)", "Minimum", FORMAT_MIB }, { "Startup(M)", "Startup", FORMAT_MIB },
		  { "Maximum(M)", "Maximum", FORMAT_MIB }) },
	{ "VMNetworkAdapter",
	  COLUMNS({ "Name", "Name" }, { "IsManagementOs", "IsManagementOs" }, { "VMName", "VMName" },
		  { "SwitchName", "SwitchName" }, { "MacAddress", "MacAddress" }, { "Status", "Status" },
		  { "IPAddresses", "IPAddresses" }) },
	{ "VMInternalNetworkAdapter",
	  COLUMNS({ "Name", "Name" }, { "IsManagementOs", "IsManagementOs" }, { "VMName", "VMName" },
		  { "SwitchName", "SwitchName" }, { "MacAddress", "MacAddress" }, { "Status", "Status" },
		  { "IPAddresses", "IPAddresses" }) },
	{ "VMSwitch",
	  COLUMNS({ "Name", "Name" }, { "SwitchType", "SwitchType" },
		  { "NetAdapterInterfaceDescription", "NetAdapterInterfaceDescription" }) },
	{ "HardDiskDrive",
	  COLUMNS({ "VMName", "VMName" }, { "ControllerType", "ControllerType" },
		  { "ControllerNumber", "ControllerNumber" }, { "ControllerLocation", "ControllerLocation" },
		  { "DiskNumber", "DiskNumber" }, { "Path", "Path" }) },
	{ "VMHost",
	  COLUMNS({ "Name", "Name" }, { "LogicalProcessorCount", "LogicalProcessorCount" },
		  { "MemoryCapacity(M)", "MemoryCapacity", FORMAT_MIB },
		  { "VirtualMachineMigrationEnabled", "VirtualMachineMigrationEnabled" }) },
	{ "VMHostSupportedVersion",
	  COLUMNS({ "Name", "Name" }, { "Version", "Version" }, { "IsDefault", "IsDefault" }) },
	{ "VMFirmware",
	  COLUMNS({ "VMName", "VMName" }, { "KernelPath", "KernelPath" },
		  { "InitialRamdiskPath", "InitialRamdiskPath" }, { "KernelCommandLine", "KernelCommandLine" }) },
	{ "NetAdapter",
	  COLUMNS({ "Name", "Name" }, { "InterfaceDescription", "InterfaceDescription" }, { "ifIndex", "InterfaceIndex" },
		  { "Status", "Status" }, { "MacAddress", "MacAddress" }, { "LinkSpeed", "LinkSpeed" }) },
	/* Those of NetNat and NetTCPIP are lists even without Format-List. */
	{ "NetNat", NULL,
	  "Name,ExternalIPInterfaceAddressPrefix,InternalIPInterfaceAddressPrefix,IcmpQueryTimeout,"
	  "TcpEstablishedConnectionTimeout,TcpTransientConnectionTimeout,TcpFilteringBehavior,"
	  "UdpFilteringBehavior,UdpIdleSessionTimeout,UdpInboundRefresh,Store,Active" },
	{ "NetNatStaticMapping" }, { "NetIPAddress" }, { "VirtualHardDisk" },
	{ "NetConnectionResult" },
	{ "Command",
	  COLUMNS({ "CommandType", "CommandType" }, { "Name", "Name" }, { "Module", "Module" }) },
	{ "Member",
	  COLUMNS({ "Name", "Name" }, { "MemberType", "MemberType" }, { "Definition", "Definition" }) },
	{ "GenericMeasureInfo", NULL, NULL },
};

static const struct {
	const char *property;
	enum view_format format;
} formats[] = {
	{ "Uptime", FORMAT_TIMESPAN },
	{ "CreationTime", FORMAT_DATE },
};

const struct view *view_find(const char *type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(views); i++)
		if (!strcmp(views[i].type, type))
			return &views[i];
	return NULL;
}

enum view_format view_property_format(const char *property)
{
	for (unsigned i = 0; property && i < ARRAY_SIZE(formats); i++)
		if (!strcasecmp(formats[i].property, property))
			return formats[i].format;
	return FORMAT_PLAIN;
}
