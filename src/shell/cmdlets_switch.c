/* Cmdlets about virtual switches. */
#include "shell/cmdlet.h"

#include "base/bits.h"

static const struct parameter new_vm_switch[] = {
	{ "Name", "SwitchName", STRING, ALL_SETS, .position = AT(0), .mandatory = true,
	  .help = "The name of the new switch." },
	{ "AllowManagementOS", NULL, BOOLEAN, IN(0) | IN(1),
	  .help = "Give the host an adapter on this switch as well." },
	{ "NetAdapterName", "InterfaceAlias", LIST | STRING, IN(0), .pipeline = BY_PROPERTY, .mandatory = true,
	  .help = "The host's adapter that makes the switch External." },
	{ "Notes", NULL, STRING, ALL_SETS, .help = "A text of your own." },
	{ "MinimumBandwidthMode", NULL, ENUM, ALL_SETS, .fate = HARMLESS,
	  .values = "Default,Weight,Absolute,None", .help = "Accepted; bandwidth is not reserved." },
	{ "EnableIov", NULL, BOOLEAN, ALL_SETS, .fate = REFUSED, .help = "Nestor's switches have no SR-IOV." },
	{ "EnablePacketDirect", NULL, BOOLEAN, ALL_SETS, .fate = REFUSED,
	  .help = "Nestor's switches have no PacketDirect." },
	{ "EnableEmbeddedTeaming", NULL, BOOLEAN, ALL_SETS, .fate = REFUSED,
	  .help = "Nestor's switches do not team adapters; a Linux bond does." },
	{ "NetAdapterInterfaceDescription", "InterfaceDescription", LIST | STRING, IN(1),
	  .pipeline = BY_PROPERTY, .mandatory = true,
	  .help = "The description of the host's adapter that makes the switch External." },
	{ "SwitchType", NULL, ENUM, IN(2), .mandatory = true, .values = "Internal,Private",
	  .help = "Private: only machines. Internal: and the host. External comes with -NetAdapterName." },
};

static const struct parameter get_vm_switch[] = {
	{ "Name", "SwitchName", STRING, IN(0), .position = AT(0),
	  .help = "The name of the switch; * and ? match several." },
	{ "ResourcePoolName", NULL, LIST | STRING, ALL_SETS, .position = AT(1), .fate = REFUSED,
	  .help = "Resource pools are not there; every machine draws on the host." },
	{ "SwitchType", NULL, LIST | ENUM, ALL_SETS, .values = "Private,Internal,External",
	  .help = "Private: only machines. Internal: and the host. External comes with -NetAdapterName." },
	{ "Id", "SwitchId", LIST | GUID, IN(1), .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .help = "The GUID of the one that is meant." },
};

static const struct parameter set_vm_switch[] = {
	{ "Name", "SwitchName", LIST | STRING, IN(0) | IN(2) | IN(3), .position = AT(0), .mandatory = true,
	  .help = "The name of the switch; * and ? match several." },
	{ "SwitchType", NULL, ENUM, IN(0) | IN(1), .values = "Private,Internal,External",
	  .help = "Private: only machines. Internal: and the host. External comes with -NetAdapterName." },
	{ "AllowManagementOS", NULL, BOOLEAN, ALL_SETS,
	  .help = "Give the host an adapter on this switch as well." },
	{ "DefaultFlowMinimumBandwidthAbsolute", NULL, INT64, ALL_SETS, .fate = REFUSED,
	  .help = "Bandwidth is not reserved here." },
	{ "DefaultFlowMinimumBandwidthWeight", NULL, INT64, ALL_SETS, .fate = REFUSED,
	  .help = "Bandwidth is not reserved here." },
	{ "DefaultQueueVrssEnabled", NULL, BOOLEAN, ALL_SETS, .fate = REFUSED,
	  .help = "No such hardware is behind Nestor's adapters." },
	{ "DefaultQueueVmmqEnabled", NULL, BOOLEAN, ALL_SETS, .fate = REFUSED,
	  .help = "No such hardware is behind Nestor's adapters." },
	{ "DefaultQueueVmmqQueuePairs", NULL, UINT32, ALL_SETS, .fate = REFUSED,
	  .help = "No such hardware is behind Nestor's adapters." },
	{ "Extensions", NULL, LIST | OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMSwitchExtension",
	  .help = "Nestor's switches have no extensions." },
	{ "Notes", NULL, STRING, ALL_SETS, .help = "A text of your own." },
	{ "VMSwitch", NULL, LIST | OBJECT, IN(1) | IN(4) | IN(5), .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .values = "VMSwitch", .help = "Virtual switches, as Get-VMSwitch gives them." },
	{ "NetAdapterInterfaceDescription", NULL, STRING, IN(2) | IN(4), .position = AT(1), .mandatory = true,
	  .help = "The description of the host's adapter that makes the switch External." },
	{ "NetAdapterName", "InterfaceAlias", STRING, IN(3) | IN(5), .position = AT(1), .pipeline = BY_PROPERTY,
	  .mandatory = true, .help = "The host's adapter that makes the switch External." },
};

static const struct parameter remove_vm_switch[] = {
	{ "Name", "SwitchName", LIST | STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .help = "The name of the switch; * and ? match several." },
	{ "ResourcePoolName", NULL, LIST | STRING, ALL_SETS, .position = AT(1), .fate = REFUSED,
	  .help = "Resource pools are not there; every machine draws on the host." },
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	{ "VMSwitch", NULL, LIST | OBJECT, IN(1), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VMSwitch", .help = "Virtual switches, as Get-VMSwitch gives them." },
};

static const struct cmdlet cmdlets[] = {
	{ "New-VMSwitch", "Hyper-V", NULL,
	  "Create a virtual switch.",
	  "NetAdapterName,NetAdapterInterfaceDescription,SwitchType",
	  new_vm_switch, ARRAY_SIZE(new_vm_switch),
	  CHANGES | LOCAL, "VMSwitch",
	  "New-VMSwitch -Name VmNAT -SwitchType Internal\tmachines and the host\n"
	  "New-VMSwitch Lan -NetAdapterName eth0\tto a network of the host; needs the privilege\n" },
	{ "Get-VMSwitch", "Hyper-V", NULL,
	  "List virtual switches.",
	  "Name,Id",
	  get_vm_switch, ARRAY_SIZE(get_vm_switch),
	  LOCAL, "VMSwitch",
	  "Get-VMSwitch\tall of them\n" },
	{ "Set-VMSwitch", "Hyper-V", NULL,
	  "Change a virtual switch.",
	  "SwitchName_SwitchType,SwitchObject_SwitchType,SwitchName_NetAdapterInterfaceDescription,"
	  "SwitchName_NetAdapterName,SwitchObject_NetAdapterInterfaceDescription,"
	  "SwitchObject_NetAdapterName",
	  set_vm_switch, ARRAY_SIZE(set_vm_switch),
	  CHANGES | PASSTHRU | LOCAL, "VMSwitch",
	  "Set-VMSwitch VmNAT -SwitchType Private\ttake the host off it\n" },
	{ "Remove-VMSwitch", "Hyper-V", NULL,
	  "Delete virtual switches.",
	  "Name,SwitchObject",
	  remove_vm_switch, ARRAY_SIZE(remove_vm_switch),
	  CHANGES | ASKS | LOCAL, NULL,
	  "Remove-VMSwitch VmNAT -Force\twithout a question\n" },
};

const struct cmdlet_table cmdlets_switch = { cmdlets, ARRAY_SIZE(cmdlets) };
