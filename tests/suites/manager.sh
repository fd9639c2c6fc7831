# what: the manager end to end: the commands of the page on nesting, typed into the shell, and what the guests see
# budget: 150
# in: default
. "$(dirname "$0")/../lib.sh"

run=$(mktemp -d /tmp/nestor-manager.XXXXXX)
export NESTOR_STORE="$run/store" NESTOR_RUNTIME="$run/run" NESTOR_IDLE_SECONDS=2
export NESTOR_ENGINE=soft NESTOR_IMAGES="$IMAGES"
children=
# type TEXT: a line as it is typed; what it prints goes to the log too.
type() {
	echo "PS> $1"
	typed=$(timeout 60 "$NESTOR" "$1" 2>&1)
	status=$?
	[ -z "$typed" ] || echo "$typed"
}
# does CASE TEXT: it works.
does() {
	type "$2"
	is "$1" 0 $status
}
clean_up() {
	timeout 20 "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force; Get-NetNat | Remove-NetNat -Confirm:$false; Get-VMSwitch VmNAT | Remove-VMSwitch -Force' >/dev/null 2>&1
	for p in $children; do kill "$p" 2>/dev/null; done
	sleep 1
	[ ! -e "$run/run/service" ] || timeout 10 "$NESTOR" Get-VMSwitch >/dev/null 2>&1
	rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 1' TERM INT HUP PIPE
# until SECONDS COMMAND...: does it come true?
until_true() {
	tries=$(($1 * 5))
	shift
	while [ $tries -gt 0 ]; do
		"$@" && return 0
		tries=$((tries - 1))
		sleep 0.2
	done
	return 1
}
# watch NAME VM: the console of VM into $OUT/NAME.log
watch() {
	: >"$OUT/$1.log"
	timeout 140 "$NESTOR" Connect-VMConsole "$2" </dev/null >"$OUT/$1.log" 2>&1 &
	children="$children $!"
}
says() { grep -q "\[$2\] $3" "$OUT/$1.log"; }
# said NAME LEVEL KEY: all values of a fact on one line
said() { tr -d '\r' <"$OUT/$1.log" | sed -n "s/^\[$2\] $3: //p" | tr '\n' ' ' | sed 's/ $//'; }
frames() { timeout 20 "$NESTOR" '(Get-VMNetworkAdapter -VMName lab).FramesSent'; }

port=$((20000 + $$ % 20000))
mkdir "$run/site"
seq 1 20000 >"$run/site/file"
wanted=$(sha256sum <"$run/site/file" | cut -d' ' -f1)
timeout 145 busybox httpd -f -p 127.0.0.1:$port -h "$run/site" &
children="$children $!"

# --- A VM with the extensions, on the Default Switch, boots the image with Nestor inside.
does "a VM on the Default Switch" 'New-VM -Name lab -MemoryStartupBytes 768MB -SwitchName "Default Switch"'
matches "a placeholder of the page is answered with the VMs there are" "*The virtual machines here: lab.*" "$(
	timeout 20 "$NESTOR" 'Set-VMProcessor -VMName <VMName> -ExposeVirtualizationExtensions $true' 2>&1)"
does "the page's first command" 'Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions $true'
words="dhcp,ping:10.0.2.2:5,fetch:http://10.0.2.2:$port/file,mac:02-15-5D-00-00-77,ping:10.0.2.2:2,say:off,ping:10.0.2.2:60,say:on"
does "a command line for the image" "Set-VMFirmware -VMName lab -KernelCommandLine \"console=ttyS0 nokaslr panic=-1 nestor.net=$words nestor.run=l2\""
does "the VM starts" 'Start-VM -Name lab'
matches "Start-VM says what it boots" "*boots the Debian image with Nestor inside*" "$typed"
watch l1 lab
until_true 60 says l1 L1 "say: off"
is "the guest sees VMX" vmx "$(said l1 L1 extensions)"
is "the Default Switch gives an address by DHCP" "10.0.2.15 router=10.0.2.2 dns=10.0.2.3" "$(said l1 L1 dhcp)"
is "and carries a file by HTTP" "$wanted" "$(said l1 L1 fetch)"
is "another source address without MacAddressSpoofing is cut off" "answers silent" "$(said l1 L1 'ping 10.0.2.2')"
type 'Get-VMNetworkAdapter -VMName lab | fl'
matches "the counter says why" "*sent dropped: source address is not this adapter's (see MacAddressSpoofing)*" "$typed"
check "and counts frames" [ "$(frames)" -gt 0 ]
does "the page's command for spoofing, while it runs" 'Get-VMNetworkAdapter -VMName lab | Set-VMNetworkAdapter -MacAddressSpoofing On'
until_true 30 says l1 L1 "say: on"
is "works at once" "answers silent answers" "$(said l1 L1 'ping 10.0.2.2')"
type 'Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions $false'
is "the exposure does not change while the VM runs" 1 $status
matches "and the sentence says so" "Set-VMProcessor : *Reason: *Off*Try: Stop-VM*" "$(echo "$typed" | tr '\n' ' ')"
until_true 30 says l1 L1 "kvm: kvm_intel"
matches "L1 loads KVM" "kvm_intel*(ept=Y unrestricted_guest=Y*" "$(said l1 L1 kvm)"

# --- A switch and a service that die; the VM stays connected.
default=c08cb7b8-9b3c-408e-8e30-5e16a3aeb444
switch_pid() { timeout 10 "$NESTOR" switch call $default Switch.State 2>/dev/null | sed -n 's/.*"Pid": \([0-9]*\).*/\1/p'; }
connected() { [ "$(timeout 20 "$NESTOR" '(Get-VMNetworkAdapter -VMName lab).Connected')" = True ]; }
first=$(switch_pid)
kill -9 "$first"
new_switch() { second=$(switch_pid); [ -n "$second" ] && [ "$second" != "$first" ]; }
check "a switch that died is started again" until_true 10 new_switch
check "and the running VM connected to it" until_true 10 connected
kill -9 "$(sed -n 's/.*service.*process \([0-9]*\)\.$/\1/p' "$run/store/log/service.log" | tail -n 1)"
is "another service finds the VM" Running "$(timeout 20 "$NESTOR" '(Get-VM lab).State')"
check "and its switch" until_true 10 connected
is "which is the same" "$second" "$(switch_pid)"

# --- Disabling, with the VM stopped.
does "the VM is turned off" 'Stop-VM -Name lab -TurnOff'
does "the page's last command" 'Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions $false'
does "no network for the next start" 'Get-VMNetworkAdapter -VMName lab | Disconnect-VMNetworkAdapter'
does "a shorter command line" 'Set-VMFirmware -VMName lab -KernelCommandLine "console=ttyS0 nokaslr panic=-1 nestor.run=l2"'
does "it starts again" 'Start-VM lab'
watch plain lab

# --- The page's NAT, meanwhile.
does "an internal switch" 'new-vmswitch -name VmNAT -SwitchType Internal'
does "a NAT" 'New-NetNat –Name LocalNAT –InternalIPInterfaceAddressPrefix “192.168.100.0/24”'
does "its address" 'get-netadapter "vEthernet (VmNat)" | New-NetIPAddress -IPAddress 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24'
does "a static mapping" "Add-NetNatStaticMapping -NatName LocalNAT -Protocol TCP -ExternalIPAddress 0.0.0.0 -ExternalPort $((port + 1)) -InternalIPAddress 192.168.100.2 -InternalPort 8000"
type 'New-NetNat -Name Second -InternalIPInterfaceAddressPrefix 192.168.101.0/24'
is "a second NAT is refused" 1 $status
type 'Get-NetAdapter "Ethernet" | New-NetIPAddress -IPAddress 192.168.100.2 -DefaultGateway 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24'
is "the host's own adapter is not touched" 1 $status
type 'Install-WindowsFeature DNS'
is "a feature that is not Hyper-V is refused" 1 $status
does "a VM behind the NAT" 'New-VM inner -MemoryStartupBytes 128MB -SwitchName VmNat | Out-Null'
words="address:192.168.100.2/24,gateway:192.168.100.1,ping:192.168.100.1:5,fetch:http://192.168.100.1:$port/file,serve:8000:mapped,say:serving,sleep:60"
does "with a small image" "Set-VMFirmware -VMName inner -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$IMAGES/l2.cpio' -KernelCommandLine 'console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.net=$words'"
does "it starts" 'Start-VM inner'
watch inner inner
until_true 40 says inner L2 "say: serving"
is "it reaches its gateway" answers "$(said inner L2 'ping 192.168.100.1')"
is "and fetches by HTTP from beyond the NAT" "$wanted" "$(said inner L2 fetch)"
fetched() { timeout 5 busybox wget -q -O "$run/fetched" "http://127.0.0.1:$((port + 1))/" && grep -q mapped "$run/fetched"; }
check "the mapping leads to it from outside" until_true 10 fetched
type "Test-NetConnection 127.0.0.1 -Port $((port + 1)) -InformationLevel Quiet"
is "Test-NetConnection reaches the mapped port" True "$typed"
does "it is turned off" 'Stop-VM inner -TurnOff'

until_true 40 says plain L1 "kvm:"
is "without the exposure the guest sees no VMX" none "$(said plain L1 extensions)"
matches "and its KVM is refused" "refused: *" "$(said plain L1 kvm)"

# --- Nestor inside: the page in L1, with L2 on the network both ways.
cat >"$run/init" <<'END'
#!/bin/sh
# L1 that types what is in /commands; L2's console comes out with "L2 | ".
export PATH=/bin NESTOR_STORE=/tmp/store
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
fact() { echo "[L1] $1: $2"; }
. /lib/network
network dhcp
while read -r line; do
	echo "PS> $line"
	case $line in
	Connect-VMConsole*) nestor "$line" </dev/null 2>&1 | awk '{ print "L2 | " $0; fflush() }' ;;
	*) nestor "$line" 2>&1 ;;
	esac
	fact status $?
done </commands
fact resolver "$(cat /etc/resolv.conf)"
fact end "power off"
poweroff -f
END
l2='console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests'
cat >"$run/commands" <<END
Install-WindowsFeature Hyper-V | Out-Null
New-VMSwitch -Name Bridge -NetAdapterName Ethernet | Out-Null
New-VM outside -MemoryStartupBytes 128MB -SwitchName Bridge | Out-Null
Set-VMFirmware outside -KernelPath /l2/vmlinuz -InitialRamdiskPath /l2/l2.cpio -KernelCommandLine "$l2 nestor.net=dhcp,say:off,sleep:3,dhcp,fetch:http://10.0.2.2:$port/file"
Start-VM outside
Connect-VMConsole outside
new-vmswitch -name VmNAT -SwitchType Internal | Out-Null
New-NetNat –Name LocalNAT –InternalIPInterfaceAddressPrefix “192.168.100.0/24” | Out-Null
get-netadapter "vEthernet (VmNat)" | New-NetIPAddress -IPAddress 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24 | Out-Null
New-VM behind -MemoryStartupBytes 128MB -SwitchName VmNat | Out-Null
Set-VMFirmware behind -KernelPath /l2/vmlinuz -InitialRamdiskPath /l2/l2.cpio -KernelCommandLine "$l2 nestor.level=behind nestor.net=address:192.168.100.2/24,gateway:192.168.100.1,ping:192.168.100.1:5,fetch:http://10.0.2.2:$port/file"
Start-VM behind
Connect-VMConsole behind
get-netadapter "Ethernet" | New-NetIPAddress -IPAddress 10.0.2.99 -DefaultGateway 10.0.2.2 -AddressFamily IPv4 -PrefixLength 24
Netsh interface ip add dnsserver “Ethernet” address=10.0.2.3
Test-NetConnection 10.0.2.2 -Port $port -InformationLevel Quiet
END
printf 'file init 755 %s\nfile commands 644 %s\n' "$run/init" "$run/commands" >"$run/manifest"
"$IMAGES/mkcpio" "$run/manifest" "$run/own.cpio"
cat "$IMAGES/l1.cpio" "$run/own.cpio" >"$run/nested.cpio"
does "a VM for Nestor inside" 'New-VM nested -MemoryStartupBytes 1GB -SwitchName "Default Switch" | Out-Null; Set-VMProcessor nested -ExposeVirtualizationExtensions $true'
does "with an image that types the page" "Set-VMFirmware nested -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$run/nested.cpio' -KernelCommandLine 'console=ttyS0 quiet nokaslr panic=-1'"
does "it starts" 'Start-VM nested'
watch nested nested
l2_says() { grep -q "^L2 | \[L2\] $1" "$OUT/nested.log"; }
l2_said() { tr -d '\r' <"$OUT/nested.log" | sed -n "s/^L2 | \[$1\] $2: //p" | tr '\n' ' ' | sed 's/ $//'; }
until_true 60 l2_says "say: off"
type '(Get-VMNetworkAdapter nested).Dropped'
matches "bridged: L0's counter says why L2 gets nothing" "*sent dropped: source address is not this adapter's (see MacAddressSpoofing)*" "$typed"
does "bridged: the page's command on L0" 'Get-VMNetworkAdapter -VMName nested | Set-VMNetworkAdapter -MacAddressSpoofing On'
until_true 60 says nested L1 "end:"
matches "L1's feature is ready" "*The processor has VMX, and KVM is loaded*" "$(cat "$OUT/nested.log")"
matches "bridged: L2 gets no address with spoofing Off, and one with it On" "no answer 10.0.2.* router=10.0.2.2 dns=10.0.2.3" "$(l2_said L2 dhcp)"
is "bridged: L2 fetches from L0 by HTTP" "$wanted" "$(l2_said L2 fetch)"
is "NAT: L2 reaches its gateway" answers "$(l2_said behind 'ping 192.168.100.1')"
is "NAT: L2 fetches from L0 by HTTP" "$wanted" "$(l2_said behind fetch)"
matches "the page's lines inside a guest set its own adapter" "*IPAddress      : 10.0.2.99*InterfaceAlias : Ethernet*" "$(cat "$OUT/nested.log")"
matches "and its DNS server" "*nameserver 10.0.2.3" "$(tr -d '\r' <"$OUT/nested.log" | sed -n '/resolver:/,/end:/p' | grep nameserver | tr '\n' ' ' | sed 's/ $//')"
is "every line worked" "0" "$(said nested L1 status | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/ $//')"

# --- Nothing is left.
does "the end" 'Get-VM | Stop-VM -TurnOff -Force; Remove-NetNatStaticMapping -StaticMappingID 0 -Confirm:$false; Remove-NetNat LocalNAT -Confirm:$false; Remove-NetIPAddress 192.168.100.1 -Confirm:$false; Remove-VMSwitch VmNAT -Force'
check "no switch runs when nobody needs one" until_true 10 sh -c '[ -z "$(ls "$NESTOR_RUNTIME" | grep "\.switch$")" ]'
check "the service goes when it is idle" until_true 15 sh -c '[ ! -e "$NESTOR_RUNTIME/service" ]'
