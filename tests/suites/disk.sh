# what: VHDX, VHD, qcow2 and raw disks of a Debian guest on the soft engine, from inside and from outside
# budget: 50
# in: default
. "$(dirname "$0")/../lib.sh"

folder=$(mktemp -d) || exit 1
export NESTOR_STORE=$folder/store NESTOR_ENGINE=soft NESTOR_IDLE_SECONDS=5
cd "$folder" || exit 1
nestor() { timeout 30 "$NESTOR" "$@"; }
leave() {
	nestor Stop-VM lab -TurnOff >/dev/null 2>&1
	exec 3>&-
	cd / && rm -rf "$folder"
}
trap leave EXIT
trap 'exit 1' TERM INT

said() { grep -q "\[L1\] $1: " "$log"; }
# ask TAG COMMAND...: the guest's answer.
ask() {
	tag=$1
	shift
	echo "$* $tag" >&3
	until_true 30 said "$tag"
	answer=$(sed -n "s/.*\[L1\] $tag: //p" "$log" | tr -d '\r')
}
is_off() { [ "$(nestor '(Get-VM lab).State')" = Off ]; }
status() { nestor '(Get-VM lab).Status'; }
# The qemu-nbds of this test's disks.
servers() {
	for p in /proc/[0-9]*; do
		case $({ tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null) in
		"qemu-nbd "*"$folder/$1"*) echo "${p#/proc/}" ;;
		esac
	done
}
none_left() { [ -z "$(servers)" ]; }
boot_lab() {
	log=$OUT/$1.log
	: >"$log"
	check "$1: the VM starts" nestor Start-VM lab
	exec 3>&-
	rm -f console
	mkfifo console
	timeout 55 "$NESTOR" Connect-VMConsole lab <console >"$log" 2>&1 &
	exec 3>console
	check "$1: the guest has its disks" until_true 40 said disks
}
end_lab() {
	echo end >&3
	check "$1: it powers off" until_true 20 is_off
	check "$1: no qemu-nbd is left" until_true 5 none_left
}
# What the guest left at a MiB of a disk, as qemu-img reads it.
size=524288
outside() {
	qemu-img convert -f "$2" -O raw "$1" outside.img
	tail -c +$(($3 * 1048576 + 1)) outside.img | head -c $size | sha256sum | cut -d' ' -f1
}

wanted=$(head -c $size /bin/busybox | sha256sum | cut -d' ' -f1)
nestor "New-VHD a.vhdx, b.vhd, c.qcow2, d.img 64MB; New-VHD e.vhd 64MB -Fixed; New-VHD p.vhdx 64MB" >/dev/null
nestor "New-VHD f.qcow2 -ParentPath p.vhdx -Differencing" >/dev/null
nestor New-VM lab -MemoryStartupBytes 256MB >/dev/null
nestor "Set-VMFirmware lab -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$IMAGES/l2.cpio' -KernelCommandLine 'console=ttyS0 nokaslr panic=-1 cryptomgr.notests nestor.level=L1 nestor.task=disks'"
nestor "'a.vhdx', 'b.vhd', 'c.qcow2', 'd.img', 'e.vhd', 'f.qcow2' | % { Add-VMHardDiskDrive lab -Path \$_ }"
is "the drives" 6 "$(nestor '(Get-VMHardDiskDrive lab).Count')"

boot_lab first
is "a qemu-nbd for each disk that needs one" 4 "$(servers | wc -l)"
ask vhdx-sectors show vda
is "a VHDX's sectors, as Hyper-V's" "131072 512 4096 " "$answer"
ask vhd-sectors show vdb
is "a VHD's" "131072 512 512 " "$answer"
for d in a b c d e f; do
	ask "written-$d" write "vd$d" 7
	is "vd$d is written and flushed" done "$answer"
done
ask marked text vdd QFI
is "a raw disk's guest writes qcow2's mark" done "$answer"
end_lab first
is "the VHDX from outside" "$wanted" "$(outside a.vhdx vhdx 7)"
is "the dynamic VHD from outside" "$wanted" "$(outside b.vhd vpc 7)"
is "the qcow2 from outside" "$wanted" "$(outside c.qcow2 qcow2 7)"
is "the raw disk from outside" "$wanted" "$(outside d.img raw 7)"
is "the fixed VHD from outside" "$wanted" "$(outside e.vhd vpc 7)"
is "the differencing qcow2 from outside" "$wanted" "$(outside f.qcow2 qcow2 7)"
qemu-img create -q -f vhdx empty.vhdx 64M
check "its parent is as it was" qemu-img compare -q -f vhdx -F vhdx empty.vhdx p.vhdx
for f in "a.vhdx vhdx" "c.qcow2 qcow2" "f.qcow2 qcow2"; do
	check "${f% *} is sound" qemu-img check -q -f "${f#* }" "${f% *}"
done

boot_lab second
for d in a b c d e f; do
	ask "read-$d" sum "vd$d" 7
	is "vd$d has what was written before" "$wanted" "$answer"
done
ask mark first vdd
is "the raw disk with qcow2's mark is raw" QFI "$answer"
# A qemu-nbd that is killed: an error for the guest, which goes on.
kill -9 "$(servers a.vhdx)"
ask lost write vda 30
matches "the guest sees an input/output error" "*Input/output error*" "$answer"
matches "Get-VM says why" "Disk \"*/a.vhdx\" is lost to this VM (*; qemu-nbd was ended by signal 9)*" "$(status)"
check "so does the log" grep -q 'a.vhdx" is lost to this VM' "$(nestor '(Get-VM lab).Log')"
ask others write vdb 30
is "the other disks go on" done "$answer"
# One that stands still, in the middle of a request, does not keep the VM from ending.
kill -STOP "$(servers c.qcow2)"
echo "sum vdc 7 silent" >&3
sleep 1
check "a VM that waits for a silent qemu-nbd is turned off" nestor Stop-VM lab -TurnOff
check "it is off" is_off
check "no qemu-nbd is left of it" until_true 5 none_left
# A worker that is killed takes its qemu-nbds with it.
nestor Start-VM lab
kill -9 "$(nestor '(Get-VM lab).ProcessId')"
check "no qemu-nbd outlives a killed worker" until_true 5 none_left
check "the VM is off" until_true 20 is_off
is "what was flushed is on the disk" "$wanted" "$(outside b.vhd vpc 30)"
check "a VHDX that was left open is repaired from its log" qemu-img check -q -r all -f vhdx a.vhdx
is "and has what was flushed" "$wanted" "$(outside a.vhdx vhdx 7)"
