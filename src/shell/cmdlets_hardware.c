/* Cmdlets about processors, memory and firmware. */
#include "shell/cmdlet.h"

#include "base/bits.h"

static const struct parameter set_vm_processor[] = {
	VM_NAMES("VMName", NULL),
	{ "Count", NULL, INT64, ALL_SETS, .minimum = 1, .maximum = 2048,
	  .help = "How many virtual processors." },
	{ "CompatibilityForMigrationEnabled", NULL, BOOLEAN, ALL_SETS,
	  .help = "Show only features that other processors have too." },
	{ "CompatibilityForOlderOperatingSystemsEnabled", NULL, BOOLEAN, ALL_SETS,
	  .help = "Show few features, for very old guests." },
	{ "HwThreadCountPerCore", NULL, INT64, ALL_SETS,
	  .help = "Hardware threads of a core; 0 is the host's number." },
	{ "Maximum", NULL, INT64, ALL_SETS, .minimum = 0, .maximum = 100,
	  .help = "Percent of the host's processors that it may use at most." },
	{ "Reserve", NULL, INT64, ALL_SETS, .minimum = 0, .maximum = 100,
	  .help = "Percent of the host's processors kept for it." },
	{ "RelativeWeight", NULL, INT32, ALL_SETS, .minimum = 1, .maximum = 10000,
	  .help = "Its share when processors are short." },
	{ "MaximumCountPerNumaNode", NULL, INT32, ALL_SETS, .fate = REFUSED,
	  .help = "There is one NUMA node." },
	{ "MaximumCountPerNumaSocket", NULL, INT32, ALL_SETS, .fate = REFUSED,
	  .help = "There is one NUMA node." },
	{ "ResourcePoolName", NULL, STRING, ALL_SETS, .help = "Primordial, the only pool." },
	{ "Perfmon", NULL, STRING, IN(0), .fate = REFUSED, .help = "Guests see no performance counters." },
	{ "EnableHostResourceProtection", NULL, BOOLEAN, ALL_SETS,
	  .help = "Slow down a guest that makes too many exits." },
	{ "ExposeVirtualizationExtensions", NULL, BOOLEAN, ALL_SETS,
	  .help = "Show VT-x to the guest, so that it can run a hypervisor. Only while it is off." },
	VMS(1),
	{ "VMProcessor", NULL, LIST | OBJECT, IN(2), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VMProcessor", .help = "Processors of virtual machines, as Get-VMProcessor gives them." },
};

static const struct parameter get_vm_processor[] = {
	VM_NAMES("VMName", NULL),
	VMS(1),
	NO_CHECKPOINT,
};

static const struct parameter set_vm_memory[] = {
	VM_NAMES("VMName", NULL),
	{ "Buffer", NULL, INT32, ALL_SETS, .minimum = 5, .maximum = 2000,
	  .help = "Percent of memory kept above the demand." },
	{ "DynamicMemoryEnabled", NULL, BOOLEAN, ALL_SETS,
	  .help = "Let memory follow demand between MinimumBytes and MaximumBytes." },
	{ "MaximumBytes", NULL, INT64, ALL_SETS, .help = "The most memory, with Dynamic Memory." },
	{ "StartupBytes", NULL, INT64, ALL_SETS, .help = "Memory at start; with static memory all of it." },
	{ "MinimumBytes", NULL, INT64, ALL_SETS, .help = "The least memory, with Dynamic Memory." },
	{ "Priority", NULL, INT32, ALL_SETS, .minimum = 0, .maximum = 100,
	  .help = "Which machine gets memory first; 100 is the highest." },
	{ "MaximumAmountPerNumaNodeBytes", NULL, INT64, ALL_SETS, .fate = REFUSED,
	  .help = "There is one NUMA node." },
	{ "ResourcePoolName", NULL, STRING, ALL_SETS, .help = "Primordial, the only pool." },
	VMS(1),
	{ "VMMemory", NULL, LIST | OBJECT, IN(2), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VMMemory", .help = "Memory of virtual machines, as Get-VMMemory gives it." },
};

static const struct parameter get_vm_memory[] = {
	VM_NAMES("VMName", NULL),
	VMS(1),
	NO_CHECKPOINT,
};

static const struct parameter set_vm_firmware[] = {
	VM_NAMES("VMName", NULL),
	{ "BootOrder", NULL, LIST | OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMComponentObject",
	  .help = "Machines boot their kernel directly; -KernelPath names it." },
	{ "FirstBootDevice", NULL, OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMComponentObject",
	  .help = "Machines boot their kernel directly; -KernelPath names it." },
	{ "EnableSecureBoot", NULL, ENUM, ALL_SETS, .values = "On,Off",
	  .help = "On or Off; machines boot directly here, so only Off." },
	{ "SecureBootTemplate", NULL, STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Machines boot their kernel directly, without Secure Boot." },
	{ "SecureBootTemplateId", NULL, GUID, ALL_SETS, .fate = REFUSED,
	  .help = "Machines boot their kernel directly, without Secure Boot." },
	{ "PreferredNetworkBootProtocol", NULL, ENUM, ALL_SETS, .fate = REFUSED, .values = "IPv4,IPv6",
	  .help = "Machines do not boot from the network." },
	{ "ConsoleMode", NULL, ENUM, ALL_SETS, .fate = REFUSED, .values = "Default,COM1,COM2,None",
	  .help = "The console is always the serial one." },
	{ "PauseAfterBootFailure", NULL, ENUM, ALL_SETS, .fate = HARMLESS, .values = "On,Off",
	  .help = "Accepted; a failure to boot is told at once." },
	VMS(1),
	{ "VMFirmware", NULL, LIST | OBJECT, IN(2), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VMFirmware", .help = "Firmware settings, as Get-VMFirmware gives them." },
	{ "KernelPath", NULL, STRING, ALL_SETS, .help = "Ours: the kernel to boot, a file on this machine; '' for none." },
	{ "InitialRamdiskPath", NULL, STRING, ALL_SETS, .help = "Ours: its initial RAM disk." },
	{ "KernelCommandLine", NULL, STRING, ALL_SETS, .help = "Ours: its command line." },
};

static const struct parameter get_vm_firmware[] = {
	VM_NAMES("VMName", NULL),
	VMS(1),
	NO_CHECKPOINT,
};

static const struct cmdlet cmdlets[] = {
	{ "Set-VMProcessor", "Hyper-V", NULL,
	  "Change processors of virtual machines; nesting is switched on here.",
	  "VMName,VMObject,VMProcessor",
	  set_vm_processor, ARRAY_SIZE(set_vm_processor),
	  CHANGES | PASSTHRU | LOCAL, "VMProcessor",
	  "Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions $true\tlet the guest run a hypervisor\n"
	  "Set-VMProcessor lab -Count 2\ttwo processors\n" },
	{ "Get-VMProcessor", "Hyper-V", NULL,
	  "Show processors of virtual machines.",
	  "VMName,VMObject",
	  get_vm_processor, ARRAY_SIZE(get_vm_processor),
	  LOCAL, "VMProcessor",
	  "Get-VMProcessor lab | Format-List\tall settings\n"
	  "(Get-VMProcessor lab).ExposeVirtualizationExtensions\tis nesting on?\n" },
	{ "Set-VMMemory", "Hyper-V", NULL,
	  "Change memory of virtual machines.",
	  "VMName,VMObject,ResourceObject",
	  set_vm_memory, ARRAY_SIZE(set_vm_memory),
	  CHANGES | PASSTHRU | LOCAL, "VMMemory",
	  "Set-VMMemory lab -StartupBytes 4GB\tmemory at start\n"
	  "Set-VMMemory lab -DynamicMemoryEnabled $true -MinimumBytes 512MB -StartupBytes 1GB -MaximumBytes 4GB\tmemory that follows demand\n" },
	{ "Get-VMMemory", "Hyper-V", NULL,
	  "Show memory of virtual machines.",
	  "VMName,VMObject",
	  get_vm_memory, ARRAY_SIZE(get_vm_memory),
	  LOCAL, "VMMemory",
	  "Get-VMMemory lab\tone machine\n"
	  "Get-VM | Get-VMMemory\tall machines\n" },
	{ "Set-VMFirmware", "Hyper-V", NULL,
	  "Say what virtual machines boot.",
	  "VMName,VMObject,VMFirmware",
	  set_vm_firmware, ARRAY_SIZE(set_vm_firmware),
	  CHANGES | PASSTHRU | LOCAL, "VMFirmware",
	  "Set-VMFirmware lab -KernelPath /boot/vmlinuz -KernelCommandLine 'console=ttyS0'\ta kernel of your own\n" },
	{ "Get-VMFirmware", "Hyper-V", NULL,
	  "Show what virtual machines boot.",
	  "VMName,VMObject",
	  get_vm_firmware, ARRAY_SIZE(get_vm_firmware),
	  LOCAL, "VMFirmware",
	  "Get-VMFirmware lab\tone machine\n" },
};

const struct cmdlet_table cmdlets_hardware = { cmdlets, ARRAY_SIZE(cmdlets) };
