#include "shell/cmdlet.h"

#include "shell/value.h"

#include "base/bits.h"

#include <stdio.h>
#include <strings.h>

static const struct cmdlet_table *const tables[] = {
	&cmdlets_vm, &cmdlets_hardware, &cmdlets_disk, &cmdlets_switch, &cmdlets_adapter, &cmdlets_net,
	&cmdlets_host, &cmdlets_object, &cmdlets_output, &cmdlets_session,
};

#define ACTIONS "SilentlyContinue,Stop,Continue,Inquire,Ignore"

const struct parameter parameters_common[] = {
	{ "Verbose", "vb", SWITCH, ALL_SETS, .help = "Say what is done." },
	{ "Debug", "db", SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; there is nothing more to say." },
	{ "ErrorAction", "ea", ENUM, ALL_SETS, .values = ACTIONS, .help = "What to do at an error: go on or stop." },
	{ "WarningAction", "wa", ENUM, ALL_SETS, .values = ACTIONS,
	  .help = "SilentlyContinue hides warnings." },
	{ "InformationAction", "infa", ENUM, ALL_SETS, .values = ACTIONS, .help = "SilentlyContinue hides messages." },
	{ "ErrorVariable", "ev", STRING, ALL_SETS, .help = "A variable that gets the errors." },
	{ "WarningVariable", "wv", STRING, ALL_SETS, .help = "A variable that gets the warnings." },
	{ "InformationVariable", "iv", STRING, ALL_SETS, .help = "A variable that gets the messages." },
	{ "OutVariable", "ov", STRING, ALL_SETS, .help = "A variable that gets the output too." },
	{ "OutBuffer", "ob", INT32, ALL_SETS, .fate = HARMLESS, .help = "Accepted; output is not buffered." },
	{ "PipelineVariable", "pv", STRING, ALL_SETS, .fate = REFUSED, .help = "Use $_ in a ForEach-Object block." },
	{ 0 },
};
const struct parameter parameters_changes[] = {
	{ "WhatIf", "wi", SWITCH, ALL_SETS, .help = "Say what would be done, and do nothing." },
	{ "Confirm", "cf", SWITCH, ALL_SETS, .help = "Ask before it is done; -Confirm:$false never asks." },
	{ 0 },
};
const struct parameter parameters_passthru[] = {
	{ "Passthru", NULL, SWITCH, ALL_SETS, .help = "Give out the object that was changed." },
	{ 0 },
};
const struct parameter parameters_remote[] = {
	{ "CimSession", NULL, LIST | STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Nestor manages the machine it runs on; run it there, over ssh for example." },
	{ "ComputerName", NULL, LIST | STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Nestor manages the machine it runs on; run it there, over ssh for example." },
	{ "Credential", NULL, ANY, ALL_SETS, .fate = REFUSED,
	  .help = "The Unix user who runs Nestor is the one who acts." },
	{ "AsJob", NULL, SWITCH, ALL_SETS, .fate = REFUSED,
	  .help = "There are no background jobs here; a Unix shell's & does it." },
	{ "ThrottleLimit", NULL, INT32, ALL_SETS, .fate = HARMLESS, .help = "Accepted; only this machine is asked." },
	{ 0 },
};

static const struct {
	unsigned flag;	/* 0: every cmdlet */
	const struct parameter *list;
	unsigned count;
} common[] = {
	{ CHANGES, parameters_changes, ARRAY_SIZE(parameters_changes) - 1 },
	{ PASSTHRU, parameters_passthru, ARRAY_SIZE(parameters_passthru) - 1 },
	{ LOCAL, parameters_remote, ARRAY_SIZE(parameters_remote) - 1 },
	{ 0, parameters_common, ARRAY_SIZE(parameters_common) - 1 },
};

const struct cmdlet *cmdlet_at(unsigned n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		if (n < tables[i]->count)
			return &tables[i]->cmdlets[n];
		n -= tables[i]->count;
	}
	return NULL;
}

const struct parameter *cmdlet_parameter(const struct cmdlet *c, unsigned n)
{
	if (n < c->parameter_count)
		return &c->parameters[n];
	n -= c->parameter_count;
	for (unsigned i = 0; i < ARRAY_SIZE(common); i++) {
		if (common[i].flag && !(c->flags & common[i].flag))
			continue;
		if (n < common[i].count)
			return &common[i].list[n];
		n -= common[i].count;
	}
	return NULL;
}

bool cmdlet_parameter_is_common(const struct cmdlet *c, unsigned n)
{
	return n >= c->parameter_count;
}

const struct cmdlet *cmdlet_find(const char *name)
{
	const struct cmdlet *c;
	char plain[64];
	size_t n = 0;
	const char *slash = strrchr(name, '\\');
	size_t module = slash ? (size_t)(slash - name) : 0;
	if (slash)
		name = slash + 1;
	/* A cmdlet's dash may be any dash. */
	for (const char *s = name; *s && n < sizeof(plain) - 1;) {
		unsigned length;
		uint32_t u = utf8_decode(s, strlen(s), &length);
		if (u >= 0x2013 && u <= 0x2015)
			plain[n++] = '-';
		else
			plain[n++] = *s, length = 1;
		s += length;
	}
	plain[n] = 0;
	if (n > 4 && !strcasecmp(plain + n - 4, ".exe"))
		plain[n - 4] = 0;
	for (unsigned i = 0; (c = cmdlet_at(i)); i++) {
		if (strcasecmp(c->name, plain) && !list_has(c->aliases, plain))
			continue;
		if (slash && (strlen(c->module) != module || strncasecmp(c->module, slash - module, module)))
			continue;
		return c;
	}
	return NULL;
}

/* What the two modules and their neighbours have and Nestor has not. */
static const struct {
	const char *module, *names;
} elsewhere[] = {
	{ "Hyper-V",
	  "Add-VMAssignableDevice,Add-VMDvdDrive,Add-VMFibreChannelHba,Add-VMGpuPartitionAdapter,"
	  "Add-VMGroupMember,Add-VMHostAssignableDevice,Add-VMKeyStorageDrive,Add-VMMigrationNetwork,"
	  "Add-VMNetworkAdapterAcl,Add-VMNetworkAdapterExtendedAcl,Add-VMNetworkAdapterRoutingDomainMapping,"
	  "Add-VMPmemController,Add-VMRemoteFx3dVideoAdapter,Add-VMScsiController,Add-VMStoragePath,"
	  "Add-VMSwitch,Add-VMSwitchExtensionPortFeature,Add-VMSwitchExtensionSwitchFeature,"
	  "Add-VMSwitchTeamMember,Checkpoint-VM,Compare-VM,Complete-VMFailover,Connect-VMSan,Convert-VHD,"
	  "Copy-VMFile,Debug-VM,Disable-VMConsoleSupport,Disable-VMEventing,Disable-VMIntegrationService,"
	  "Disable-VMMigration,Disable-VMRemoteFXPhysicalVideoAdapter,Disable-VMResourceMetering,"
	  "Disable-VMSwitchExtension,Disable-VMTPM,Disconnect-VMSan,Dismount-VHD,Dismount-VMHostAssignableDevice,"
	  "Enable-VMConsoleSupport,Enable-VMEventing,Enable-VMIntegrationService,Enable-VMMigration,"
	  "Enable-VMRemoteFXPhysicalVideoAdapter,Enable-VMReplication,Enable-VMResourceMetering,"
	  "Enable-VMSwitchExtension,Enable-VMTPM,Export-VMCheckpoint,Export-VMSnapshot,Get-VHDSet,"
	  "Get-VHDSnapshot,Get-VMAssignableDevice,Get-VMBios,Get-VMCheckpoint,Get-VMComPort,"
	  "Get-VMConnectAccess,Get-VMDvdDrive,Get-VMFibreChannelHba,Get-VMFloppyDiskDrive,"
	  "Get-VMGpuPartitionAdapter,Get-VMGroup,Get-VMHostAssignableDevice,Get-VMHostCluster,"
	  "Get-VMHostNumaNode,Get-VMHostNumaNodeStatus,Get-VMHostPartitionableGpu,Get-VMIdeController,"
	  "Get-VMIntegrationService,Get-VMKeyProtector,Get-VMKeyStorageDrive,Get-VMMigrationNetwork,"
	  "Get-VMNetworkAdapterAcl,Get-VMNetworkAdapterExtendedAcl,Get-VMNetworkAdapterFailoverConfiguration,"
	  "Get-VMNetworkAdapterIsolation,Get-VMNetworkAdapterRdma,Get-VMNetworkAdapterRoutingDomainMapping,"
	  "Get-VMNetworkAdapterTeamMapping,Get-VMNetworkAdapterVlan,Get-VMPartitionableGpu,"
	  "Get-VMPmemController,Get-VMRemoteFXPhysicalVideoAdapter,Get-VMRemoteFx3dVideoAdapter,"
	  "Get-VMReplication,Get-VMReplicationAuthorizationEntry,Get-VMReplicationServer,Get-VMResourcePool,"
	  "Get-VMSan,Get-VMScsiController,Get-VMSecurity,Get-VMSnapshot,Get-VMStoragePath,"
	  "Get-VMStorageSettings,Get-VMSwitchExtension,Get-VMSwitchExtensionPortData,"
	  "Get-VMSwitchExtensionPortFeature,Get-VMSwitchExtensionSwitchData,"
	  "Get-VMSwitchExtensionSwitchFeature,Get-VMSwitchTeam,Get-VMSystemSwitchExtension,"
	  "Get-VMSystemSwitchExtensionPortFeature,Get-VMSystemSwitchExtensionSwitchFeature,Get-VMVideo,"
	  "Grant-VMConnectAccess,Import-VMInitialReplication,Measure-VM,Measure-VMReplication,"
	  "Measure-VMResourcePool,Merge-VHD,Mount-VHD,Mount-VMHostAssignableDevice,Move-VM,Move-VMStorage,"
	  "New-VFD,New-VMGroup,New-VMReplicationAuthorizationEntry,New-VMResourcePool,New-VMSan,Optimize-VHD,"
	  "Optimize-VHDSet,Remove-VHDSnapshot,Remove-VMAssignableDevice,Remove-VMCheckpoint,Remove-VMDvdDrive,"
	  "Remove-VMFibreChannelHba,Remove-VMGpuPartitionAdapter,Remove-VMGroup,Remove-VMGroupMember,"
	  "Remove-VMHostAssignableDevice,Remove-VMKeyStorageDrive,Remove-VMMigrationNetwork,"
	  "Remove-VMNetworkAdapterAcl,Remove-VMNetworkAdapterExtendedAcl,"
	  "Remove-VMNetworkAdapterRoutingDomainMapping,Remove-VMNetworkAdapterTeamMapping,"
	  "Remove-VMPmemController,Remove-VMRemoteFx3dVideoAdapter,Remove-VMReplication,"
	  "Remove-VMReplicationAuthorizationEntry,Remove-VMResourcePool,Remove-VMSan,Remove-VMSavedState,"
	  "Remove-VMScsiController,Remove-VMSnapshot,Remove-VMStoragePath,Remove-VMSwitchExtensionPortFeature,"
	  "Remove-VMSwitchExtensionSwitchFeature,Remove-VMSwitchTeamMember,Rename-VMCheckpoint,Rename-VMGroup,"
	  "Rename-VMResourcePool,Rename-VMSan,Rename-VMSnapshot,Rename-VMSwitch,"
	  "Repair-VM,Reset-VMReplicationStatistics,Reset-VMResourceMetering,Resize-VHD,Restore-VMCheckpoint,"
	  "Restore-VMSnapshot,Resume-VMReplication,Revoke-VMConnectAccess,Save-VM,Set-VHD,Set-VMBios,"
	  "Set-VMComPort,Set-VMDvdDrive,Set-VMFibreChannelHba,Set-VMFloppyDiskDrive,"
	  "Set-VMGpuPartitionAdapter,Set-VMHost,Set-VMHostCluster,Set-VMKeyProtector,"
	  "Set-VMKeyStorageDrive,Set-VMMigrationNetwork,Set-VMNetworkAdapterFailoverConfiguration,"
	  "Set-VMNetworkAdapterIsolation,Set-VMNetworkAdapterRdma,Set-VMNetworkAdapterRoutingDomainMapping,"
	  "Set-VMNetworkAdapterTeamMapping,Set-VMNetworkAdapterVlan,Set-VMPartitionableGpu,"
	  "Set-VMRemoteFx3dVideoAdapter,Set-VMReplication,Set-VMReplicationAuthorizationEntry,"
	  "Set-VMReplicationServer,Set-VMResourcePool,Set-VMSan,Set-VMSecurity,Set-VMSecurityPolicy,"
	  "Set-VMStorageSettings,Set-VMSwitchExtensionPortFeature,Set-VMSwitchExtensionSwitchFeature,"
	  "Set-VMSwitchTeam,Set-VMVideo,Start-VMFailover,Start-VMInitialReplication,Start-VMTrace,"
	  "Stop-VMFailover,Stop-VMInitialReplication,Stop-VMReplication,Stop-VMTrace,Suspend-VMReplication,"
	  "Test-VHD,Test-VMNetworkAdapter,Test-VMReplicationConnection" },
	{ "NetNat",
	  "Set-NetNat,Add-NetNatExternalAddress,Get-NetNatExternalAddress,Remove-NetNatExternalAddress,"
	  "Get-NetNatSession,Get-NetNatGlobal,Set-NetNatGlobal" },
	{ "NetTCPIP",
	  "Set-NetIPAddress,Get-NetIPConfiguration,Get-NetIPInterface,Set-NetIPInterface,Get-NetRoute,"
	  "New-NetRoute,Remove-NetRoute,Set-NetRoute,Get-NetTCPConnection,Get-NetUDPEndpoint,Get-NetNeighbor" },
	{ "NetAdapter",
	  "Rename-NetAdapter,Enable-NetAdapter,Disable-NetAdapter,Restart-NetAdapter,Set-NetAdapter,"
	  "Get-NetAdapterStatistics,Get-NetAdapterHardwareInfo" },
	{ "DnsClient", "Set-DnsClientServerAddress,Get-DnsClientServerAddress,Resolve-DnsName" },
	{ "ServerManager", "Get-WindowsFeature,Uninstall-WindowsFeature,Remove-WindowsFeature" },
	{ "Dism", "Get-WindowsOptionalFeature,Disable-WindowsOptionalFeature,Add-WindowsCapability" },
	{ "Microsoft.PowerShell.Utility",
	  "Add-Member,Add-Type,Compare-Object,ConvertFrom-Csv,ConvertTo-Csv,ConvertTo-Html,ConvertTo-Xml,Export-Clixml,"
	  "Export-Csv,Format-Custom,Format-Hex,Format-Wide,Get-Date,Get-FileHash,Get-Random,Get-Unique,Get-Variable,"
	  "Group-Object,Import-Clixml,Import-Csv,Invoke-Expression,Invoke-RestMethod,Invoke-WebRequest,Join-String,"
	  "Measure-Command,New-Object,New-TimeSpan,Out-GridView,Read-Host,Remove-Variable,Select-String,Set-Variable,"
	  "Tee-Object,Wait-Event,Write-Debug,Write-Information,Write-Progress,Write-Verbose,Write-Warning" },
	{ "Microsoft.PowerShell.Management",
	  "Add-Content,Clear-Content,Copy-Item,Get-ChildItem,Get-ComputerInfo,Get-Content,Get-Item,Get-ItemProperty,"
	  "Get-Location,Get-Process,Get-Service,Join-Path,Move-Item,New-Item,Pop-Location,Push-Location,Remove-Item,"
	  "Rename-Computer,Rename-Item,Resolve-Path,Restart-Computer,Restart-Service,Set-Content,Set-Item,Set-Location,"
	  "Split-Path,Start-Process,Start-Service,Stop-Computer,Stop-Process,Stop-Service,Test-Connection,Test-Path" },
	{ "Microsoft.PowerShell.Core",
	  "Add-History,Clear-History,Enter-PSSession,Exit-PSSession,Get-History,Get-Job,Get-Module,Invoke-Command,"
	  "New-Module,New-PSSession,Receive-Job,Remove-Job,Remove-Module,Remove-PSSession,Set-StrictMode,Start-Job,"
	  "Update-Help,Wait-Job" },
};

bool cmdlet_known_elsewhere(const char *name, const char **module)
{
	for (unsigned i = 0; i < ARRAY_SIZE(elsewhere); i++)
		if (list_has(elsewhere[i].names, name)) {
			*module = elsewhere[i].module;
			return true;
		}
	return false;
}

#define NEAREST 3

void cmdlet_nearest(const char *name, char *out, size_t room)
{
	const struct cmdlet *best[NEAREST] = { NULL }, *c;
	unsigned distance[NEAREST] = { 0 }, limit = (unsigned)strlen(name) / 3 + 1;
	out[0] = 0;
	for (unsigned i = 0; (c = cmdlet_at(i)); i++) {
		unsigned d = name_distance(name, c->name);
		if (d > limit)
			continue;
		unsigned at = NEAREST;
		while (at && (!best[at - 1] || distance[at - 1] > d))
			at--;
		for (unsigned k = NEAREST - 1; k > at && at < NEAREST; k--) {
			best[k] = best[k - 1];
			distance[k] = distance[k - 1];
		}
		if (at < NEAREST) {
			best[at] = c;
			distance[at] = d;
		}
	}
	size_t n = 0;
	for (unsigned i = 0; i < NEAREST && best[i] && n < room; i++)
		n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "", best[i]->name);
}

const char *parameter_type_name(const struct parameter *p, char *out, size_t room)
{
	static const char *const names[] = {
		[STRING] = "String", [INT64] = "Int64", [INT32] = "Int32", [INT16] = "Int16", [UINT64] = "UInt64",
		[UINT32] = "UInt32", [UINT16] = "UInt16", [BYTE] = "Byte", [BOOLEAN] = "Boolean",
		[SWITCH] = "SwitchParameter", [GUID] = "Guid", [VERSION] = "Version", [TIMESPAN] = "TimeSpan",
		[ANY] = "Object", [BLOCK] = "ScriptBlock",
	};
	char first[64];
	const char *name = names[TYPE_OF(p) == ENUM || TYPE_OF(p) == OBJECT ? STRING : TYPE_OF(p)];
	if (TYPE_OF(p) == ENUM)
		name = list_has(p->values, "On") ? "OnOffState" : p->name;
	else if (TYPE_OF(p) == OBJECT && list_item(p->values, 0, first, sizeof(first)))
		name = first;
	snprintf(out, room, "%s%s", name, p->type & LIST ? "[]" : "");
	return out;
}
