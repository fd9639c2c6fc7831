/* Cmdlets about virtual hard disks. */
#include "shell/cmdlet.h"

#include "base/bits.h"

static const struct parameter new_vhd[] = {
	{ "Path", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .mandatory = true, .help = "The file, or several; .vhdx, .vhd, .qcow2, .img: its name says the format." },
	{ "SizeBytes", NULL, UINT64, ALL_SETS, .position = AT(1), .mandatory = true, .optional_in = IN(1),
	  .help = "The size, for example 20GB." },
	{ "Dynamic", NULL, SWITCH, IN(0), .help = "A file that grows as it is written." },
	{ "BlockSizeBytes", NULL, UINT32, ALL_SETS,
	  .help = "In which the file grows: 1MB to 256MB for VHDX, 512 to 2MB for qcow2." },
	{ "LogicalSectorSizeBytes", NULL, UINT32, IN(0) | IN(2), .help = "512." },
	{ "PhysicalSectorSizeBytes", NULL, UINT32, ALL_SETS,
	  .help = "512, or 4096, which is VHDX's default and only VHDX records." },
	{ "ParentPath", NULL, STRING, IN(1), .position = AT(1), .mandatory = true,
	  .help = "The parent of a differencing disk: a disk of any format." },
	{ "Differencing", NULL, SWITCH, IN(1),
	  .help = "A file that holds only what differs from its parent; .qcow2." },
	{ "Fixed", NULL, SWITCH, IN(2), .mandatory = true,
	  .help = "A file of its full size at once; .vhdx, .vhd, .img." },
	{ "SourceDisk", "Number", UINT32, ALL_SETS, .fate = REFUSED,
	  .help = "Physical disks are not copied; dd does it." },
};

static const struct parameter get_vhd[] = {
	{ "Path", "FullName", LIST | STRING, IN(0), .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .mandatory = true, .help = "The file, or several." },
	{ "VMId", "Id", LIST | GUID, IN(1), .position = AT(0), .pipeline = BY_VALUE | BY_PROPERTY,
	  .mandatory = true, .help = "GUIDs of virtual machines whose disks are meant." },
	{ "DiskNumber", "Number", UINT32, ALL_SETS, .fate = REFUSED,
	  .help = "Name the disk file, or the block device, with -Path." },
};

/* Of Add- and Set-: how a disk's transfers are treated. */
#define TRANSFER_PARAMETERS \
	{ "AllowUnverifiedPaths", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, \
	  .help = "Accepted; no cluster checks paths." }, \
	{ "MaximumIOPS", NULL, UINT64, ALL_SETS, .fate = REFUSED, .help = "Disk transfers are not limited." }, \
	{ "MinimumIOPS", NULL, UINT64, ALL_SETS, .fate = REFUSED, .help = "Disk transfers are not limited." }, \
	{ "QoSPolicyID", NULL, STRING, ALL_SETS, .fate = REFUSED, .help = "Disk transfers are not limited." }, \
	{ "QoSPolicy", NULL, OBJECT, ALL_SETS, .fate = REFUSED, .values = "CimInstance", \
	  .help = "Disk transfers are not limited." }, \
	{ "OverrideCacheAttributes", NULL, ENUM, ALL_SETS, .fate = HARMLESS, \
	  .values = "Default,WriteCacheEnabled,WriteCacheAndFUAEnabled,WriteCacheDisabled", \
	  .help = "Accepted; the guest's flushes are always heeded." },

static const struct parameter add_vm_hard_disk_drive[] = {
	VM_NAMES("VMName", NULL),
	{ "ControllerType", NULL, ENUM, ALL_SETS, .position = AT(1), .values = "IDE,SCSI",
	  .help = "IDE or SCSI; the guest sees virtio disks in this order." },
	{ "ControllerNumber", NULL, INT32, ALL_SETS, .position = AT(2), .help = "The controller's number." },
	{ "ControllerLocation", NULL, INT32, ALL_SETS, .position = AT(3),
	  .help = "The place on the controller." },
	{ "Path", NULL, STRING, ALL_SETS, .position = AT(4), .help = "The disk file." },
	{ "DiskNumber", "Number", UINT32, ALL_SETS, .pipeline = BY_PROPERTY, .fate = REFUSED,
	  .help = "Name the disk file, or the block device, with -Path." },
	{ "ResourcePoolName", NULL, STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Resource pools are not there; every machine draws on the host." },
	{ "SupportPersistentReservations", "ShareVirtualDisk", SWITCH, ALL_SETS, .fate = REFUSED,
	  .help = "Disks are not shared between machines." },
	TRANSFER_PARAMETERS
	VMS(1),
	{ "VMDriveController", NULL, OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMDriveController",
	  .help = "Name the place with -ControllerType and -ControllerNumber." },
};

static const struct parameter get_vm_hard_disk_drive[] = {
	VM_NAMES("VMName", NULL),
	{ "ControllerLocation", NULL, INT32, ALL_SETS, .help = "The place on the controller." },
	{ "ControllerNumber", NULL, INT32, ALL_SETS, .help = "The controller's number." },
	{ "ControllerType", NULL, ENUM, ALL_SETS, .values = "IDE,SCSI",
	  .help = "IDE or SCSI; the guest sees virtio disks in this order." },
	VMS(1),
	{ "VMDriveController", NULL, LIST | OBJECT, ALL_SETS, .fate = REFUSED, .values = "VMDriveController",
	  .help = "Name the place with -ControllerType and -ControllerNumber." },
	NO_CHECKPOINT,
};

static const struct parameter set_vm_hard_disk_drive[] = {
	{ "VMName", NULL, STRING, IN(0), .position = AT(0), .mandatory = true,
	  .help = "The name of the virtual machine." },
	{ "ControllerType", NULL, ENUM, IN(0), .position = AT(1), .values = "IDE,SCSI",
	  .help = "Where the drive is; needed when there are several." },
	{ "ControllerNumber", NULL, INT32, IN(0), .position = AT(2), .help = "The controller's number." },
	{ "ControllerLocation", NULL, INT32, IN(0), .position = AT(3),
	  .help = "The place on the controller." },
	{ "Path", NULL, STRING, ALL_SETS, .position = AT(4), .help = "Another disk file." },
	{ "ToControllerType", NULL, ENUM, ALL_SETS, .values = "IDE,SCSI", .help = "Where it shall be." },
	{ "ToControllerNumber", NULL, INT32, ALL_SETS, .help = "The number of the controller there." },
	{ "ToControllerLocation", NULL, INT32, ALL_SETS, .help = "The place on the controller there." },
	{ "DiskNumber", "Number", UINT32, ALL_SETS, .pipeline = BY_PROPERTY, .fate = REFUSED,
	  .help = "Name the disk file, or the block device, with -Path." },
	{ "ResourcePoolName", NULL, STRING, ALL_SETS, .fate = REFUSED,
	  .help = "Resource pools are not there; every machine draws on the host." },
	{ "SupportPersistentReservations", "ShareVirtualDisk", BOOLEAN, ALL_SETS, .fate = REFUSED,
	  .help = "Disks are not shared between machines." },
	TRANSFER_PARAMETERS
	{ "VMHardDiskDrive", NULL, LIST | OBJECT, IN(1), .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .values = "HardDiskDrive",
	  .help = "Hard disk drives, as Get-VMHardDiskDrive gives them." },
};

static const struct parameter remove_vm_hard_disk_drive[] = {
	{ "VMName", NULL, STRING, IN(0), .position = AT(0), .mandatory = true,
	  .help = "The name of the virtual machine." },
	{ "ControllerType", NULL, ENUM, IN(0), .position = AT(1), .mandatory = true, .values = "IDE,SCSI",
	  .help = "IDE or SCSI; the guest sees virtio disks in this order." },
	{ "ControllerNumber", NULL, INT32, IN(0), .position = AT(2), .mandatory = true,
	  .help = "The controller's number." },
	{ "ControllerLocation", NULL, INT32, IN(0), .position = AT(3), .mandatory = true,
	  .help = "The place on the controller." },
	{ "VMHardDiskDrive", NULL, LIST | OBJECT, IN(1), .position = AT(0), .pipeline = BY_VALUE,
	  .mandatory = true, .values = "HardDiskDrive",
	  .help = "Hard disk drives, as Get-VMHardDiskDrive gives them." },
};

static const struct cmdlet cmdlets[] = {
	{ "New-VHD", "Hyper-V", NULL,
	  "Create a virtual hard disk.",
	  "DynamicWithoutSource,Differencing,FixedWithoutSource",
	  new_vhd, ARRAY_SIZE(new_vhd),
	  CHANGES | LOCAL, "VirtualHardDisk",
	  "New-VHD -Path /tmp/lab.vhdx -SizeBytes 20GB\ta VHDX that grows\n"
	  "New-VHD /tmp/lab.img 20GB -Fixed\ta raw disk, whose room is taken at once\n"
	  "New-VHD /tmp/child.qcow2 -ParentPath /tmp/lab.vhdx -Differencing\twhat differs from another\n" },
	{ "Get-VHD", "Hyper-V", NULL,
	  "Show a virtual hard disk.",
	  "Path,VMId",
	  get_vhd, ARRAY_SIZE(get_vhd),
	  LOCAL, "VirtualHardDisk",
	  "Get-VHD /tmp/lab.img\tone file\n"
	  "Get-VM lab | Select-Object VMId | Get-VHD\tthe disks of a machine\n" },
	{ "Add-VMHardDiskDrive", "Hyper-V", NULL,
	  "Attach a virtual hard disk.",
	  "VMName,VMObject",
	  add_vm_hard_disk_drive, ARRAY_SIZE(add_vm_hard_disk_drive),
	  CHANGES | PASSTHRU | LOCAL, "HardDiskDrive",
	  "Add-VMHardDiskDrive lab -Path /tmp/lab.img\tto the first free place\n" },
	{ "Get-VMHardDiskDrive", "Hyper-V", NULL,
	  "Show hard disk drives.",
	  "VMName,VMObject",
	  get_vm_hard_disk_drive, ARRAY_SIZE(get_vm_hard_disk_drive),
	  LOCAL, "HardDiskDrive",
	  "Get-VMHardDiskDrive lab\tof one machine\n" },
	{ "Set-VMHardDiskDrive", "Hyper-V", NULL,
	  "Give a hard disk drive another disk, or another place.",
	  "VMName,Object",
	  set_vm_hard_disk_drive, ARRAY_SIZE(set_vm_hard_disk_drive),
	  CHANGES | PASSTHRU | LOCAL, "HardDiskDrive",
	  "Set-VMHardDiskDrive lab SCSI 0 1 -Path /tmp/other.vhdx\tanother disk\n"
	  "Get-VMHardDiskDrive lab | Set-VMHardDiskDrive -ToControllerType SCSI\tanother place\n" },
	{ "Remove-VMHardDiskDrive", "Hyper-V", NULL,
	  "Detach a virtual hard disk; its file stays.",
	  "VMName,VMHardDiskDrive",
	  remove_vm_hard_disk_drive, ARRAY_SIZE(remove_vm_hard_disk_drive),
	  CHANGES | PASSTHRU | LOCAL, "HardDiskDrive",
	  "Get-VMHardDiskDrive lab | Remove-VMHardDiskDrive\tall of one machine\n" },
};

const struct cmdlet_table cmdlets_disk = { cmdlets, ARRAY_SIZE(cmdlets) };
