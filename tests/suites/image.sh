# what: the Debian image as a machine: the shell on its console in L1 and in L2, the network, the power button
# budget: 70
# in: default
. "$(dirname "$0")/../lib.sh"

run=$(mktemp -d /tmp/nestor-image.XXXXXX)
export NESTOR_STORE="$run/store" NESTOR_RUNTIME="$run/run" NESTOR_IDLE_SECONDS=2
export NESTOR_ENGINE=soft NESTOR_IMAGES="$IMAGES"
console=
clean_up() {
	timeout 20 "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force' >/dev/null 2>&1
	[ -z "$console" ] || kill "$console" 2>/dev/null
	rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 1' TERM INT HUP PIPE
nestor() { timeout 60 "$NESTOR" "$@" 2>&1; }

# The console of lab: its keys are written to descriptor 3.
log=$OUT/console.log
open_console() {
	mkfifo "$run/keys"
	: >"$log"
	"$NESTOR" Connect-VMConsole lab <"$run/keys" >"$log" 2>&1 &
	console=$!
	exec 3>"$run/keys"
}
# prompts PROMPT: how often it has come
prompts() { grep -aoF "$1" "$log" | wc -l; }
came_or_gone() { [ "$(prompts "$1")" -ge "$2" ] || ! kill -0 $console 2>/dev/null; }
# prompted PROMPT N SECONDS: it comes the Nth time
prompted() {
	until_true "$3" came_or_gone "$1" "$2" && [ "$(prompts "$1")" -ge "$2" ]
}
# keys KEYS PROMPT: they are typed, and the prompt comes once more; what came
# meanwhile is in $shown.
keys() {
	count=$(($(prompts "$2") + 1))
	from=$(($(wc -c <"$log") + 1))
	printf '%b' "$1" >&3
	prompted "$2" $count 60 || echo "the prompt \"$2\" did not come after \"$1\""
	shown=$(tail -c +$from "$log" | tr -d '\r')
}
# interrupt COMMAND PROMPT: Ctrl-C, when it has run a while
interrupt() {
	printf '%s\r' "$1" >&3
	sleep 1
	keys '\003' "$2"
}
# assigned: what lab has of the host's memory, in whole MiB
assigned() { echo $(($(nestor '(Get-VM lab).MemoryAssigned') / 1048576)); }
l1='[lab]: PS nestor> ' l2='[inner]: PS nestor> '
type_l1() { keys "$1\r" "$l1"; }
type_l2() { keys "$1\r" "$l2"; }

# --- L1.
nestor 'New-VM lab -MemoryStartupBytes 512MB -SwitchName "Default Switch" | Out-Null; Set-VMProcessor lab -ExposeVirtualizationExtensions $true
	Set-VMMemory lab -DynamicMemoryEnabled $true -MinimumBytes 256MB -MaximumBytes 512MB'
matches "a VM without a kernel boots the image" "*lab has no disk and no kernel of its own: it boots the Debian image*" \
	"$(nestor Start-VM lab)"
open_console
check "its console has Nestor's shell, with the VM's name" prompted "$l1" 1 60
interrupt 'Start-Sleep 600' "$l1"
matches "Ctrl-C interrupts a command" "*Interrupted.*" "$shown"
type_l1 'New-VM inner -MemoryStartupBytes 64MB; Start-VM inner'
matches "Start-VM names the memory that the image needs" "*inner starts with 64 MB*needs 128 MB.*Try: Set-VMMemory -VMName 'inner' -StartupBytes 128MB*" "$shown"
type_l1 'Set-VMMemory inner -StartupBytes 192MB; Start-VM inner'
matches "Start-VM without KVM names what makes it ready" "*the hypervisor is not running.*Try: Install-WindowsFeature Hyper-V *" "$shown"
type_l1 'Install-WindowsFeature Hyper-V'
matches "which it does" "*The processor has VMX, and KVM is loaded*" "$shown"
type_l1 '(Get-NetIPAddress -InterfaceAlias Ethernet -AddressFamily IPv4).IPAddress'
matches "DHCP has given Ethernet an address" "*10.0.2.15*" "$shown"
keys 'exit\r' '# '
matches "exit leads to sh, and a line says so" "*This is sh, a Unix shell; exit leads back to Nestor's.*root@lab:~# *" "$shown"
interrupt 'sleep 600' '# '
keys "printf 'table ip t {\\\\n chain c { type nat hook postrouting priority 100; masquerade\\\\n }\\\\n}\\\\n' | nft -f - && nft list ruleset | grep -c masquerade; head -c 1 /dev/net/tun 2>/dev/null; lsmod | grep -cE '^(tun|nft_masq) '; nft delete table ip t\r" '# '
matches "there nft and tun have their modules" "*
1
2
*" "$shown"
keys 'exit\r' "$l1"

# --- L2: the page's NAT.
type_l1 'new-vmswitch -name VmNAT -SwitchType Internal'
type_l1 'New-NetNat –Name LocalNAT –InternalIPInterfaceAddressPrefix “192.168.100.0/24”'
type_l1 'get-netadapter "vEthernet (VmNat)" | New-NetIPAddress -IPAddress 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24'
matches "the page's lines are typed" "*IPAddress * : 192.168.100.1*" "$shown"
gave_back() { [ "$(assigned)" -le 320 ]; }
check "an idle L1 has given memory back" until_true 20 gave_back
type_l1 'Connect-VMNetworkAdapter inner -SwitchName VmNAT; Start-VM inner'
matches "a VM in L1 boots the image, too" "*inner has no disk and no kernel of its own: it boots the Debian image*" "$shown"
check "the memory that it needs came back" [ "$(assigned)" -ge 512 ]
keys 'Connect-VMConsole inner\r' "$l2"
check "L2's console has Nestor's shell" prompted "$l2" 1 1
type_l2 'get-netadapter "Ethernet" | New-NetIPAddress -IPAddress 192.168.100.2 -DefaultGateway 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24'
matches "the page's address in L2" "*IPAddress * : 192.168.100.2*InterfaceAlias * : Ethernet*" "$shown"
type_l2 'Netsh interface ip add dnsserver “Ethernet” address=10.0.2.3'
type_l2 'Test-NetConnection 192.168.100.1 -InformationLevel Quiet'
matches "its gateway answers" "*
True
*" "$shown"
type_l2 'New-VM l3 -MemoryStartupBytes 64MB; Start-VM l3'
matches "in L2, Start-VM says what is missing" "*l3 has no disk and no kernel*Try: Set-VMFirmware*" "$shown"
keys '\026\035' "$l1"
matches "Ctrl-V Ctrl-] leaves L2's console" "*The console is left; the virtual machine runs on.*" "$shown"
type_l1 'Stop-VM inner; (Get-VM inner).State'
matches "Stop-VM in L1: L2 obeys the power button" "*Waiting for inner to shut down.*Off*" "$shown"

# --- The power button.
nestor Restart-VM lab -Force
nestor Suspend-VM lab
is "Suspend-VM" Paused "$(nestor '(Get-VM lab).State')"
nestor Resume-VM lab
is "Stop-VM: it obeys the power button, as soon as it hears it" "" "$(nestor Stop-VM lab)"
is "and is Off" Off "$(nestor '(Get-VM lab).State')"
check "by powering off" grep -q "reboot: Power down" "$log"
is "after Restart-VM and Resume-VM have brought it up again" 2 "$(prompts "This is lab")"
