/* Cmdlets about whole virtual machines. */
#include "shell/cmdlet.h"
#include "shell/shell.h"

#include "base/bits.h"

static const struct parameter new_vm[] = {
	{ "Name", "VMName", STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .help = "The name; \"New virtual machine\" without it." },
	{ "MemoryStartupBytes", NULL, INT64, ALL_SETS, .position = AT(1),
	  .help = "Memory at start, for example 4GB. New virtual machines get 512MB without it." },
	{ "BootDevice", NULL, ENUM, ALL_SETS, .values = "Floppy,CD,IDE,LegacyNetworkAdapter,NetworkAdapter,VHD",
	  .help = "The device to boot from first." },
	{ "NoVHD", NULL, SWITCH, IN(0), .fate = HARMLESS,
	  .help = "No disk: this is what happens anyway when none is named." },
	{ "SwitchName", NULL, STRING, ALL_SETS, .help = "The virtual switch to connect to." },
	{ "Path", NULL, STRING, ALL_SETS, .help = "Not used, with a warning: the configuration is kept in the store." },
	{ "SourceGuestStatePath", NULL, STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Saved guest states are not there yet." },
	{ "Version", NULL, VERSION, ALL_SETS,
	  .help = "The configuration version, 5.0 and up; Get-VMHostSupportedVersion lists them. Nesting needs "
	  "8.0." },
	{ "Prerelease", NULL, SWITCH, ALL_SETS, .help = "Configuration version 254.0." },
	{ "Experimental", NULL, SWITCH, ALL_SETS, .help = "Configuration version 255.0." },
	{ "Generation", NULL, INT16, ALL_SETS, .position = AT(2), .minimum = 1, .maximum = 2,
	  .help = "1 or 2; kept for Hyper-V's sake, both boot the same way here." },
	{ "GuestStateIsolationType", NULL, ENUM, ALL_SETS, .values = "TrustedLaunch,VBS,SNP,TDX,Disabled",
	  .help = "Disabled, the only kind here." },
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	{ "NewVHDPath", NULL, STRING, IN(1), .mandatory = true, .help = "A disk file to create and attach." },
	{ "NewVHDSizeBytes", NULL, UINT64, IN(1), .mandatory = true,
	  .help = "The size of that new disk, for example 20GB." },
	{ "VHDPath", NULL, STRING, IN(2), .mandatory = true, .help = "An existing disk file to attach." },
};

static const struct parameter get_vm[] = {
	{ "Name", "VMName", LIST | STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE,
	  .help = "Names of virtual machines; * and ? match several." },
	{ "Id", NULL, GUID, IN(1), .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .help = "The GUID of the one that is meant." },
	{ "ClusterObject", NULL, OBJECT, ALL_SETS, .fate = REFUSED, .values = "PSObject",
	  .help = "There are no clusters here." },
};

static const struct parameter set_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "GuestControlledCacheTypes", NULL, BOOLEAN, ALL_SETS, .fate = HARMLESS,
	  .help = "Accepted; guests control their cache types." },
	{ "LowMemoryMappedIoSpace", NULL, UINT32, ALL_SETS, .fate = HARMLESS,
	  .help = "Accepted; devices have room enough." },
	{ "HighMemoryMappedIoSpace", NULL, UINT64, ALL_SETS, .fate = HARMLESS,
	  .help = "Accepted; devices have room enough." },
	{ "ProcessorCount", NULL, INT64, ALL_SETS, .minimum = 1, .maximum = 2048,
	  .help = "How many virtual processors." },
	{ "DynamicMemory", NULL, SWITCH, ALL_SETS,
	  .help = "Let memory follow demand between its minimum and maximum." },
	{ "StaticMemory", NULL, SWITCH, ALL_SETS, .help = "Keep memory at its startup amount." },
	{ "MemoryMinimumBytes", NULL, INT64, ALL_SETS, .help = "The least memory with Dynamic Memory." },
	{ "MemoryMaximumBytes", NULL, INT64, ALL_SETS, .help = "The most memory with Dynamic Memory." },
	{ "MemoryStartupBytes", NULL, INT64, ALL_SETS,
	  .help = "Memory at start, for example 4GB. New virtual machines get 512MB without it." },
	{ "AutomaticStartAction", NULL, ENUM, ALL_SETS, .values = "Nothing,StartIfRunning,Start",
	  .help = "Whether it starts with the host, where the host runs `nestor service --host`." },
	{ "AutomaticStopAction", NULL, ENUM, ALL_SETS, .values = "TurnOff,Save,ShutDown",
	  .help = "What happens to it when the host stops `nestor service --host`; Save shuts it down." },
	{ "AutomaticStartDelay", NULL, INT32, ALL_SETS, .help = "Seconds to wait before it starts by itself." },
	{ "AutomaticCriticalErrorAction", NULL, ENUM, ALL_SETS, .values = "None,Pause",
	  .help = "What to do when its disk is lost." },
	{ "AutomaticCriticalErrorActionTimeout", NULL, INT32, ALL_SETS,
	  .help = "Minutes to stay paused after its disk was lost." },
	{ "AutomaticCheckpointsEnabled", NULL, BOOLEAN, ALL_SETS, .help = "Take a checkpoint at each start." },
	{ "LockOnDisconnect", NULL, ENUM, ALL_SETS, .values = "On,Off",
	  .help = "Lock the guest when its display is closed." },
	{ "Notes", NULL, STRING, ALL_SETS, .help = "A text of your own." },
	{ "NewVMName", NULL, STRING, ALL_SETS, .help = "A new name." },
	{ "SnapshotFileLocation", NULL, STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Nestor has no checkpoints yet." },
	{ "SmartPagingFilePath", NULL, STRING, ALL_SETS, .fate = HARMLESS,
	  .help = "Accepted; there is no smart paging file." },
	{ "CheckpointType", NULL, ENUM, ALL_SETS, .values = "Disabled,Production,ProductionOnly,Standard",
	  .help = "Which kind of checkpoint." },
	{ "AllowUnverifiedPaths", NULL, SWITCH, ALL_SETS, .fate = HARMLESS,
	  .help = "Accepted; no cluster checks paths." },
	VMS(1),
};

static const struct parameter start_vm[] = {
	VM_NAMES("Name", "VMName"),
	VMS(1),
};

static const struct parameter stop_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "Save", NULL, SWITCH, ALL_SETS, .help = "Save the state to disk instead of shutting down." },
	{ "TurnOff", NULL, SWITCH, ALL_SETS, .help = "Pull the plug: the guest is not asked." },
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	VMS(1),
};

static const struct parameter restart_vm[] = {
	{ "Name", "VMName", LIST | STRING, IN(0) | IN(1), .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .help = "Names of virtual machines; * and ? match several." },
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	{ "Wait", NULL, SWITCH, IN(1) | IN(3), .mandatory = true, .help = "Come back only when it has started again." },
	{ "For", NULL, ENUM, IN(1) | IN(3), .values = "Heartbeat,IPAddress",
	  .help = "IPAddress waits until the guest has an address; guests here send no Heartbeat." },
	{ "Delay", NULL, UINT16, IN(1) | IN(3), .help = "Seconds between two looks." },
	{ "Timeout", "TimeoutSec", INT32, IN(1) | IN(3), .help = "Seconds after which waiting ends." },
	{ "VM", NULL, LIST | OBJECT, IN(2) | IN(3), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VirtualMachine", .help = "Virtual machines, as Get-VM gives them." },
};

static const struct parameter suspend_vm[] = {
	VM_NAMES("Name", "VMName"),
	VMS(1),
};

static const struct parameter resume_vm[] = {
	VM_NAMES("Name", "VMName"),
	VMS(1),
};

static const struct parameter remove_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	VMS(1),
};

static const struct parameter rename_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "NewName", NULL, STRING, ALL_SETS, .position = AT(1), .mandatory = true, .help = "The new name." },
	VMS(1),
};

static const struct parameter wait_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "For", NULL, ENUM, ALL_SETS, .values = "Heartbeat,IPAddress,Reboot,MemoryOperations",
	  .help = "IPAddress: the guest has an address; Reboot: it is started again. Guests here report neither a "
	  "Heartbeat nor MemoryOperations." },
	{ "Delay", NULL, UINT16, ALL_SETS, .help = "Seconds between two looks." },
	{ "Timeout", "TimeoutSec", INT32, ALL_SETS, .help = "Seconds after which waiting ends." },
	VMS(1),
	{ "State", NULL, ENUM, ALL_SETS, .values = "Off,Running,Paused",
	  .help = "Ours: wait until the machine is in this state." },
};

static const struct parameter update_vm_version[] = {
	VM_NAMES("Name", "VMName"),
	{ "Force", NULL, SWITCH, ALL_SETS, .help = "Do it without a question." },
	VMS(1),
};

static const struct parameter export_vm[] = {
	VM_NAMES("Name", "VMName"),
	{ "Path", NULL, STRING, ALL_SETS, .position = AT(1), .mandatory = true,
	  .help = "The folder to write it to." },
	{ "CaptureLiveState", NULL, ENUM, ALL_SETS, .fate = REFUSED,
	  .values = "CaptureCrashConsistentState,CaptureSavedState,CaptureDataConsistentState",
	  .help = "Only the configuration is exported." },
	VMS(1),
};

static const struct parameter import_vm[] = {
	{ "Path", NULL, STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "The exported configuration file." },
	{ "Register", NULL, SWITCH, IN(0), .help = "Use the configuration where it is." },
	{ "VhdDestinationPath", NULL, STRING, IN(1), .position = AT(1), .fate = REFUSED,
	  .help = "Disks stay where they are." },
	{ "Copy", NULL, SWITCH, IN(1), .mandatory = true, .help = "Copy the configuration into the store." },
	{ "VirtualMachinePath", NULL, STRING, IN(1), .fate = REFUSED,
	  .help = "The configuration goes to the store." },
	{ "SnapshotFilePath", "CheckpointFileLocation,SnapshotFileLocation", STRING, IN(1), .fate = REFUSED,
	  .help = "Nestor has no checkpoints yet." },
	{ "SmartPagingFilePath", NULL, STRING, IN(1), .fate = HARMLESS,
	  .help = "Accepted; there is no smart paging file." },
	{ "VhdSourcePath", NULL, STRING, IN(1), .fate = REFUSED, .help = "Disks stay where they are." },
	{ "GenerateNewId", NULL, SWITCH, IN(1), .help = "Give the copy a GUID of its own." },
	{ "CompatibilityReport", NULL, OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMCompatibilityReport",
	  .help = "Compare-VM is not there." },
};

static const struct parameter connect_vm_console[] = {
	{ "VMName", "Name", STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "The name of the virtual machine." },
	{ "VM", NULL, OBJECT, IN(1), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VirtualMachine", .help = "Virtual machines, as Get-VM gives them." },
};

static const struct parameter get_vm_report[] = {
	{ "VMName", "Name", STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "The name of the virtual machine." },
	{ "VM", NULL, OBJECT, IN(1), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .values = "VirtualMachine", .help = "Virtual machines, as Get-VM gives them." },
};

static const struct cmdlet cmdlets[] = {
	{ "New-VM", "Hyper-V", NULL,
	  "Create a virtual machine.",
	  "NoVHD,NewVHD,ExistingVHD",
	  new_vm, ARRAY_SIZE(new_vm),
	  CHANGES | LOCAL, "VirtualMachine",
	  "New-VM lab\ta machine with 512 MB and no disk\n"
	  "New-VM -Name lab -MemoryStartupBytes 4GB -Generation 2 -SwitchName \"Default Switch\"\twith memory and a network\n"
	  "New-VM old -Version 5.0\twith an older configuration version\n" },
	{ "Get-VM", "Hyper-V", NULL,
	  "List virtual machines.",
	  "Name,Id",
	  get_vm, ARRAY_SIZE(get_vm),
	  LOCAL, "VirtualMachine",
	  "Get-VM\tall of them\n"
	  "Get-VM lab | Format-List\tall about one\n"
	  "Get-VM | Where-Object State -eq Running\tthose that run\n" },
	{ "Set-VM", "Hyper-V", NULL,
	  "Change settings of virtual machines.",
	  "Name,VMObject",
	  set_vm, ARRAY_SIZE(set_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Set-VM lab -ProcessorCount 2 -MemoryStartupBytes 2GB\tprocessors and memory\n"
	  "Set-VM lab -DynamicMemory -MemoryMaximumBytes 4GB\tmemory that follows demand\n"
	  "Set-VM lab -Notes 'first level'\ta text of your own\n" },
	{ "Start-VM", "Hyper-V", NULL,
	  "Start virtual machines.",
	  "Name,VMObject",
	  start_vm, ARRAY_SIZE(start_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Start-VM lab\tstart one\n"
	  "Get-VM | Where-Object State -eq Off | Start-VM\tstart all that are off\n" },
	{ "Stop-VM", "Hyper-V", NULL,
	  "Shut virtual machines down, or turn them off.",
	  "Name,VMObject",
	  stop_vm, ARRAY_SIZE(stop_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Stop-VM lab\task the guest to shut down\n"
	  "Stop-VM lab -TurnOff\tpull the plug\n" },
	{ "Restart-VM", "Hyper-V", NULL,
	  "Reset virtual machines.",
	  "Name,NameWait,VMObject,VMObjectWait",
	  restart_vm, ARRAY_SIZE(restart_vm),
	  CHANGES | ASKS | PASSTHRU | LOCAL, "VirtualMachine",
	  "Restart-VM lab -Force\twithout a question\n" },
	{ "Suspend-VM", "Hyper-V", NULL,
	  "Pause virtual machines.",
	  "Name,VMObject",
	  suspend_vm, ARRAY_SIZE(suspend_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Suspend-VM lab\tpause one\n" },
	{ "Resume-VM", "Hyper-V", NULL,
	  "Let paused virtual machines go on.",
	  "Name,VMObject",
	  resume_vm, ARRAY_SIZE(resume_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Resume-VM lab\tlet one go on\n" },
	{ "Remove-VM", "Hyper-V", NULL,
	  "Delete virtual machines; their disks stay.",
	  "Name,VMObject",
	  remove_vm, ARRAY_SIZE(remove_vm),
	  CHANGES | ASKS | PASSTHRU | LOCAL, "VirtualMachine",
	  "Remove-VM lab -Force\twithout a question\n" },
	{ "Rename-VM", "Hyper-V", NULL,
	  "Give a virtual machine another name.",
	  "Name,VMObject",
	  rename_vm, ARRAY_SIZE(rename_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Rename-VM lab -NewName lab2\ta new name\n" },
	{ "Wait-VM", "Hyper-V", NULL,
	  "Wait until a virtual machine has come to something.",
	  "Name,VMObject",
	  wait_vm, ARRAY_SIZE(wait_vm),
	  PASSTHRU | LOCAL, "VirtualMachine",
	  "Wait-VM lab -Timeout 60\tuntil it runs, at most a minute\n"
	  "Wait-VM lab -For IPAddress\tuntil the guest has an address\n"
	  "Wait-VM lab -State Off\tuntil it is off\n" },
	{ "Update-VMVersion", "Hyper-V", NULL,
	  "Raise the configuration version of virtual machines.",
	  "Name,VMObject",
	  update_vm_version, ARRAY_SIZE(update_vm_version),
	  CHANGES | ASKS | PASSTHRU | LOCAL, "VirtualMachine",
	  "Update-VMVersion lab -Force\tto the newest, without a question\n" },
	{ "Export-VM", "Hyper-V", NULL,
	  "Write configurations of virtual machines to a folder.",
	  "Name,VMObject",
	  export_vm, ARRAY_SIZE(export_vm),
	  CHANGES | PASSTHRU | LOCAL, "VirtualMachine",
	  "Export-VM lab -Path /tmp/export\twrite one\n" },
	{ "Import-VM", "Hyper-V", NULL,
	  "Read an exported configuration.",
	  "Register,Copy",
	  import_vm, ARRAY_SIZE(import_vm),
	  CHANGES | LOCAL, "VirtualMachine",
	  "Import-VM -Path /tmp/export/lab.json -Copy -GenerateNewId\ta copy of it\n" },
	{ "Connect-VMConsole", "Hyper-V", "vmconnect",
	  "Join the terminal to a serial console; Ctrl-] leaves, Ctrl-V Ctrl-] sends one on.",
	  "VMName,VMObject",
	  connect_vm_console, ARRAY_SIZE(connect_vm_console),
	  LOCAL, NULL,
	  "Connect-VMConsole lab\tuntil Ctrl-]\n" },
	{ "Get-VMReport", "Hyper-V", NULL,
	  "Ours: a running machine's exits by level and reason.",
	  "VMName,VMObject",
	  get_vm_report, ARRAY_SIZE(get_vm_report),
	  LOCAL, "VMReport",
	  "Get-VMReport lab\twhat makes it exit\n" },
};

const struct cmdlet_table cmdlets_vm = { cmdlets, ARRAY_SIZE(cmdlets) };
