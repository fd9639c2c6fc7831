# For suites about the memory of VMs: a store, two VMs at the same time, and what
# their guests, the host and the cmdlets say.
. "$(dirname "$0")/../lib.sh"

folder=$(mktemp -d) || exit 1
export NESTOR_STORE=$folder/store NESTOR_RUNTIME=$folder/run NESTOR_ENGINE=soft NESTOR_IDLE_SECONDS=5
nestor() { timeout 30 "$NESTOR" "$@"; }
leave() {
	nestor 'Get-VM | Stop-VM -TurnOff' >/dev/null 2>&1
	rm -rf "$folder"
}
trap leave EXIT
trap 'exit 1' TERM INT

# Two VMs at the same time, each in a shell of its own, where $name is the VM's,
# $log its console's output, 3 its input and $worker its process.
mib=1048576
# Host memory of the worker in MiB.
resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$worker/status"; }
said() { grep -q "\[L1\] $1:" "$log"; }
# ask TAG COMMAND...: total=, available= and free= of the guest's answer, in MiB.
ask() {
	tag=$1
	shift
	echo "$* $tag" >&3
	until_true 40 said "show $tag"
	echo "guest, $tag: $(sed -n "s/.*\[L1\] show $tag: //p" "$log"); worker: $(resident)"
	total= available= free=
	eval "$(sed -n "s/.*\[L1\] show $tag: \([a-z0-9= ]*\).*/\1/p" "$log" | tr -d '\r')"
}
# tell TAG COMMAND: the guest runs it.
tell() {
	echo "do $*" >&3
	until_true 40 said "did $1"
}
vm() { nestor "(Get-VM $name).$1"; }
# In MiB.
assigned() { echo $(($(vm MemoryAssigned) / mib)); }
demand() { echo $(($(vm MemoryDemand) / mib)); }
assigned_is() { [ "$(assigned)" = "$1" ]; }
assigned_above() { [ "$(assigned)" -gt "$1" ]; }
assigned_below() { [ "$(assigned)" -lt "$1" ]; }
is_met() { [ "$(vm MemoryStatus)" = OK ]; }
demand_above() { [ "$(demand)" -gt "$1" ]; }
resident_below() { [ "$(resident)" -lt "$1" ]; }
between() { [ -n "$1" ] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }
is_off() { [ "$(vm State)" = Off ]; }
hypervisor_is() { [ "$(vm HypervisorRunning)" = "$1" ]; }
start() {
	mkfifo "$folder/$name"
	: >"$log"
	check "$name: the VM starts" nestor "Start-VM $name"
	worker=$(vm ProcessId)
	timeout 110 "$NESTOR" Connect-VMConsole "$name" <"$folder/$name" >"$log" 2>&1 &
	exec 3>"$folder/$name"
	check "$name: its guest's drivers are loaded" until_true 60 said memory
}
end() {
	healthy "$name"
	echo end >&3
	check "$name: it powers off" until_true 20 is_off
}
# create NAME...: VMs of 512 MB that boot the image for L1 and wait for commands.
create() {
	for vm_name in "$@"; do
		nestor New-VM "$vm_name" -MemoryStartupBytes 512MB >/dev/null
		nestor "Set-VMProcessor $vm_name -ExposeVirtualizationExtensions \$true"
		nestor "Set-VMFirmware $vm_name -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$IMAGES/l1.cpio' -KernelCommandLine 'console=ttyS0 nokaslr panic=-1 cryptomgr.notests nestor.run=memory'"
	done
}
# both A B: a_vm and b_vm with their VM's names, at the same time.
both() {
	for name in "$@"; do
		log=$OUT/$name.log
		"${name}_vm" &
		eval "$name=\$!"
	done
	eval "wait \$$1 \$$2"
}
