/* Cmdlets about the host, or about the guest that Nestor runs in. */
#include "shell/cmdlet.h"

#include "base/bits.h"

static const struct parameter get_vm_host_supported_version[] = {
	{ "Default", NULL, SWITCH, ALL_SETS, .help = "Only the version that New-VM takes." },
};

static const struct parameter test_net_connection[] = {
	{ "ComputerName", "RemoteAddress,cn", STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .help = "The name or address to reach." },
	{ "Port", "RemotePort", UINT16, ALL_SETS, .position = AT(1), .minimum = 1, .maximum = 65535,
	  .help = "A TCP port to connect to; without it, ping." },
	{ "CommonTCPPort", NULL, ENUM, ALL_SETS, .values = "HTTP,RDP,SMB,WINRM",
	  .help = "A well-known port by its name." },
	{ "InformationLevel", NULL, ENUM, ALL_SETS, .values = "Quiet,Detailed",
	  .help = "Quiet gives out only True or False." },
	{ "TraceRoute", NULL, SWITCH, ALL_SETS, .fate = REFUSED, .help = "Linux has traceroute for this." },
};

static const struct parameter netsh[] = {
	{ "Arguments", NULL, LIST | STRING, ALL_SETS, .rest = true,
	  .help = "interface ip add dnsserver NAME address=ADDRESS: the one command of netsh that is there." },
};

static const struct parameter install_windows_feature[] = {
	{ "Name", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "Hyper-V." },
	{ "IncludeManagementTools", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; they are here." },
	{ "IncludeAllSubFeature", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; there are none." },
	{ "Restart", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; no restart is needed." },
	{ "Source", NULL, LIST | STRING, ALL_SETS, .fate = HARMLESS, .help = "Accepted; nothing is copied." },
};

static const struct parameter enable_windows_optional_feature[] = {
	{ "FeatureName", "Name", LIST | STRING, ALL_SETS, .position = AT(0), .mandatory = true,
	  .help = "Microsoft-Hyper-V." },
	{ "Online", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; it is this system that is meant." },
	{ "Path", NULL, STRING, ALL_SETS, .fate = REFUSED, .help = "Images of other systems are not changed." },
	{ "All", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; what it needs is looked at anyway." },
	{ "NoRestart", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; no restart is needed." },
	{ "LimitAccess", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; nothing is downloaded." },
};

static const struct cmdlet cmdlets[] = {
	{ "Get-VMHost", "Hyper-V", NULL, "Show what this host has.", NULL, NULL, 0, LOCAL, "VMHost",
	  "Get-VMHost\tprocessors and memory\n"
	  "Get-VMHost | Format-List\teverything\n" },
	{ "Get-VMHostSupportedVersion", "Hyper-V", NULL, "List the configuration versions of virtual machines.",
	  NULL, get_vm_host_supported_version, ARRAY_SIZE(get_vm_host_supported_version), LOCAL,
	  "VMHostSupportedVersion",
	  "Get-VMHostSupportedVersion\tall of them\n"
	  "(Get-VMHostSupportedVersion -Default).Version\tthe one that New-VM takes\n" },
	{ "Test-NetConnection", "NetTCPIP", "tnc", "Try to reach another machine.", NULL,
	  test_net_connection, ARRAY_SIZE(test_net_connection), 0, "NetConnectionResult",
	  "Test-NetConnection 192.168.100.2\tping\n"
	  "Test-NetConnection 192.168.100.2 -Port 80\tconnect to a TCP port\n" },
	{ "Netsh", "NetTCPIP", NULL, "Add a DNS server to an adapter.", NULL, netsh, ARRAY_SIZE(netsh), 0, NULL,
	  "Netsh interface ip add dnsserver \"Ethernet\" address=192.168.100.1\tas the page on nesting has it\n" },
	{ "Install-WindowsFeature", "ServerManager", "Add-WindowsFeature",
	  "See whether this system can run virtual machines.", NULL,
	  install_windows_feature, ARRAY_SIZE(install_windows_feature), CHANGES | LOCAL, NULL,
	  "Install-WindowsFeature Hyper-V\tready, or what is missing\n" },
	{ "Enable-WindowsOptionalFeature", "Dism", NULL, "See whether this system can run virtual machines.", NULL,
	  enable_windows_optional_feature, ARRAY_SIZE(enable_windows_optional_feature), LOCAL, NULL,
	  "Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All\tready, or what is missing\n" },
};

const struct cmdlet_table cmdlets_host = { cmdlets, ARRAY_SIZE(cmdlets) };
