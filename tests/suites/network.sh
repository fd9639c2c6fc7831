# what: guests on networks: NAT with DHCP, switches and their rules, TAP and adapters in a namespace
# budget: 70
# in: default
. "$(dirname "$0")/../lib.sh"

run=$(mktemp -d /tmp/nestor-network.XXXXXX)
export NESTOR_STORE="$run/store" NESTOR_RUNTIME="$run/run"
children= spaces=
clean_up() {
	for p in $children; do kill "$p" 2>/dev/null; done
	for n in $spaces; do ip netns del "$n" 2>/dev/null; done
	rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 1' TERM INT HUP PIPE

port=$((20000 + $$ % 20000))	# of this run's own, on the loopback

# says NAME TEXT: has the guest said it?
says() { grep -q "\[$1\] $2" "$OUT/$1.log"; }
# guest NAME WORDS nestor's arguments...: in the background; its pid is in $!
guest() {
	name=$1 words=$2
	shift 2
	: >"$OUT/$name.log"
	timeout 150 "$NESTOR" run --engine soft --memory 128M --kernel "$IMAGES/vmlinuz" \
		--initrd "$IMAGES/l2.cpio" "$@" \
		--append "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.level=$name nestor.net=$words" \
		</dev/null >"$OUT/$name.log" 2>"$OUT/$name.err" &
	children="$children $!"
}
# said NAME KEY: all values of a fact, in order, on one line
said() { tr -d '\r' <"$OUT/$1.log" | sed -n "s/^\[$1\] $2: //p" | tr '\n' ' ' | sed 's/ $//'; }
call() { timeout 20 "$NESTOR" switch call "$@"; }
# fetch URL [BY...]: what is there, by a program in front; the guest's server
# may not listen yet.
fetch() {
	url=$1
	shift
	until_true 10 timeout 5 "$@" busybox wget -q -O "$run/fetched" "$url" && cat "$run/fetched"
}
# start ID arguments...: a switch in the background, ready
start() {
	id=$1
	shift
	rm -f "$OUT/$id.ready"
	timeout 220 $inside "$NESTOR" switch --id "$id" "$@" >"$OUT/$id.ready" 2>"$OUT/$id.err" </dev/null &
	children="$children $!"
	until_true 10 grep -q Ready "$OUT/$id.ready"
}
inside=

# --- NAT of a VM's own: DHCP, the host's loopback, a forwarded port.
seq 1 20000 >"$run/file"
wanted=$(sha256sum <"$run/file" | cut -d' ' -f1)
timeout 200 busybox httpd -f -p 127.0.0.1:$port -h "$run" &
children="$children $!"
guest nat "dhcp,ping:10.0.2.2:5,fetch:http://10.0.2.2:$port/file,serve:8000:hello,say:serving,sleep:3" \
	--network "nat,forward=tcp:$((port + 1)):8000"
nat=$!
until_true 90 says nat "say: serving"
is "nat: connections to the host's port reach the guest" hello \
	"$(fetch "http://127.0.0.1:$((port + 1))/")"
wait $nat
is "nat: the guest ran to its end" 0 $?
is "nat: an address by DHCP" "10.0.2.15 router=10.0.2.2 dns=10.0.2.3" "$(said nat dhcp)"
is "nat: the gateway answers" answers "$(said nat "ping 10.0.2.2")"
is "nat: a file by HTTP from the host's loopback" "$wanted" "$(said nat fetch)"
is "nat: a port that is taken is named" 64 "$(
	timeout 20 "$NESTOR" run --engine soft --kernel "$IMAGES/vmlinuz" --serial none \
		--network "nat,forward=tcp:$port:1" >/dev/null 2>"$OUT/taken.err"
	echo $?)"
matches "nat: and why" "*TCP port $port of 127.0.0.1 cannot be listened on*" "$(cat "$OUT/taken.err")"

# --- Two guests on one switch, and MacAddressSpoofing, changed while they run.
dropped() {
	call lan Port.List | tr -d ' \n' |
		grep -o '"Reason":"SourceAddress","Direction":"Sent","Frames":[0-9]*,"Text":"[^"]*"' | head -n 1
}
spoofing() { call lan Port.Set "{\"Id\":\"one\",\"MacAddressSpoofing\":$1}" >/dev/null; }
check "lan: the switch starts" start lan --name "Test Net"
check "lan: it answers ping at vEthernet's address" call lan Host.Set '{"MacAddress":"00155D0000FF"}'
call lan Host.AddAddress '{"Address":"192.168.77.1/24"}' >/dev/null
call lan Port.Add '{"Id":"one","MacAddress":"00155D000001","Name":"one"}' >/dev/null
guest two "address:192.168.77.3/24,ping:192.168.77.1:5,say:up,sleep:140" \
	--network "switch=test net,mac=00155D000003"
two=$!
cat >"$run/words" <<END
address:192.168.77.2/24,ping:192.168.77.3:60,say:together,
mac:02-15-5D-00-00-77,ping:192.168.77.3:2,say:off,ping:192.168.77.3:60,
say:on,sleep:3,ping:192.168.77.3:2
END
guest one "$(tr -d '\n' <"$run/words")" --network switch=lan,mac=00155D000001,port=one
one=$!
until_true 90 says one "say: off"
first=$(dropped)
spoofing true
until_true 60 says one "say: on"
spoofing false
wait $one
is "lan: the guest ran to its end" 0 $?
is "lan: together, cut off, on at once, off at once" "answers silent answers silent" \
	"$(said one "ping 192.168.77.3")"
matches "lan: the counter says why" '*"Frames":[1-9]*"dropped:sourceaddressisnotthisadapter'"'"'s(seeMacAddressSpoofing)"' "$first"
is "lan: vEthernet's responder answers" answers "$(said two "ping 192.168.77.1")"
kill $two
# refused CASE SENTENCE METHOD PARAMETERS
refused() { is "lan: $1" "nestor: $2" "$(call lan "$3" "$4" 2>&1)"; }
refused "another's MAC address" "The MAC address 00-15-5D-00-00-01 is already another port's of this switch; give the adapter another." \
	Port.Add '{"Id":"two","MacAddress":"00155D000001"}'
refused "a group's MAC address" 'MacAddress "01155D000001" is no unicast MAC address; write it like 00155D010203.' \
	Port.Add '{"Id":"two","MacAddress":"01155D000001"}'
refused "a port that is not there" 'The switch has no port "nobody".' Port.Set '{"Id":"nobody"}'
refused "an address that is none" 'Address "192.168.1.1" is none; write it like 192.168.100.1/24.' \
	Host.AddAddress '{"Address":"192.168.1.1"}'
refused "a mapping without a NAT" "The switch has no NAT." Mapping.Add \
	'{"Protocol":"TCP","ExternalPort":1,"InternalAddress":"10.0.0.1"}'
refused "an unknown method" "A switch has no such method." Switch.Fly '{}'
is "lan: a switch that does not run" 66 "$(timeout 20 "$NESTOR" run --engine soft --serial none \
	--kernel "$IMAGES/vmlinuz" --network switch=nowhere >/dev/null 2>"$OUT/nowhere.err"; echo $?)"
matches "lan: and why" "*no such switch runs*nestor switch --id nowhere*" "$(cat "$OUT/nowhere.err")"
check "lan: a second switch of the name is refused" sh -c '! timeout 10 "$NESTOR" switch --id lan >/dev/null 2>&1'
check "lan: it stops" call lan Switch.Stop
check "lan: and leaves no sockets" until_true 5 sh -c '[ ! -e "$NESTOR_RUNTIME/lan.ports" ] && [ ! -e "$NESTOR_RUNTIME/lan.switch" ]'

# --- With privilege, in namespaces of our own: TAP, the kernel's NAT, an adapter.
host=nestor-host-$$ beyond=nestor-beyond-$$
skip=
if [ "$(id -u)" != 0 ]; then skip="this is not root"
elif ! command -v nft >/dev/null; then skip="nft is not installed"
elif [ ! -c /dev/net/tun ]; then skip="there is no /dev/net/tun"
elif ! ip netns add "$host" 2>/dev/null; then skip="network namespaces cannot be made"
elif ! { spaces=$host; ip netns add "$beyond" && spaces="$host $beyond" &&
	ip -n "$host" link add h0 type veth peer name x0 netns "$beyond" &&
	ip -n "$host" link add e0 type veth peer name x1 netns "$beyond"; } 2>/dev/null; then
	skip="veth pairs cannot be made"
fi
if [ -n "$skip" ]; then
	echo "ok - TAP, nft and packet socket # skipped: $skip"
	exit 0
fi
ip netns exec "$host" sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'
ip -n "$host" addr add 10.9.0.1/24 dev h0
ip -n "$beyond" addr add 10.9.0.2/24 dev x0
ip -n "$beyond" addr add 10.8.0.1/24 dev x1
for i in lo h0 e0; do ip -n "$host" link set $i up; done
for i in lo x0 x1; do ip -n "$beyond" link set $i up; done
inside="ip netns exec $host"
# The manager's cmdlets, by a service in that namespace: what needs the privilege
# is taken by itself. (An l2 guest has no more than one processor's worth to do.)
export NESTOR_STORE="$run/privileged" NESTOR_RUNTIME="$run/privileged/run" NESTOR_ENGINE=soft \
	NESTOR_IMAGES="$IMAGES" NESTOR_VETHERNET=auto NESTOR_IDLE_SECONDS=2
# type TEXT: a line as it is typed in the namespace; what it prints is in $typed.
type() {
	echo "PS> $1"
	typed=$(timeout 60 $inside "$NESTOR" "$1" 2>&1)
	status=$?
	[ -z "$typed" ] || echo "$typed"
}
does() {
	type "$2"
	is "cmdlets: $1" 0 $status
}
links() { ip -n "$host" -o link show; }
tables() { $inside nft list ruleset; }
forwarding() { [ "$($inside cat /proc/sys/net/ipv4/ip_forward)" = "$1" ]; }
# tap ALIAS: the interface whose alias it is
tap() { links | sed -n "s/^[0-9]*: \(vEth[^:]*\):.*alias vEthernet ($1)\$/\1/p"; }
has_tap() { [ -n "$(tap "$1")" ]; }
has_address() { ip -n "$host" -o addr show | grep -q " $1 "; }
no_table() { [ -z "$(tables)" ]; }
masquerades() { tables | grep -q 'ip saddr 192.168.100.0/24 oifname != "vEth.*" masquerade'; }
finish() { timeout 30 $inside "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force; Get-NetNat | Remove-NetNat -Confirm:$false; Get-VMSwitch V* | Remove-VMSwitch -Force; Get-VMSwitch Ext | Remove-VMSwitch -Force' >/dev/null 2>&1; }
trap 'finish; clean_up' EXIT

does "an internal switch" 'New-VMSwitch -Name VmNAT -SwitchType Internal'
check "cmdlets: is a TAP whose alias is vEthernet's name" has_tap VmNAT
does "a NAT, before its address" 'New-NetNat –Name LocalNAT –InternalIPInterfaceAddressPrefix “192.168.100.0/24”'
check "cmdlets: which waits for it" no_table
does "the address" 'Get-NetAdapter "vEthernet (VmNat)" | New-NetIPAddress -IPAddress 192.168.100.1 -AddressFamily IPv4 -PrefixLength 24'
check "cmdlets: is the TAP's" has_address 192.168.100.1/24
check "cmdlets: the NAT is the kernel's" masquerades
check "cmdlets: and forwarding is on" forwarding 1
type '(Get-NetAdapter "vEthernet (VmNAT)").InterfaceName'
is "cmdlets: Get-NetAdapter knows the interface" "$(tap VmNAT)" "$typed"
type '(Get-NetAdapter | ? InterfaceName -like "vEth*").Name'
is "cmdlets: and lists it by its alias only" "vEthernet (VmNAT)" "$typed"
does "a second address leaves the first alone" 'New-NetIPAddress 192.168.50.1 -PrefixLength 24 -InterfaceAlias "vEthernet (VmNAT)"'
check "cmdlets: both are there" has_address 192.168.50.1/24
check "cmdlets: still the first" has_address 192.168.100.1/24
does "it goes" 'Remove-NetIPAddress 192.168.50.1 -Confirm:$false'
check "cmdlets: from the TAP too" sh -c "! ip -n $host -o addr show | grep -q 192.168.50.1"
type 'New-NetIPAddress 10.9.0.77 -PrefixLength 16 -InterfaceAlias "vEthernet (VmNAT)"'
matches "cmdlets: the host's own networks are not taken" "*overlaps 10.9.0.1/24 of h0*" "$typed"
type 'Remove-NetNat -Confirm:$false; New-NetNat LocalNAT -InternalIPInterfaceAddressPrefix 10.9.0.0/25'
matches "cmdlets: nor by a NAT" "*The parameter is incorrect.*overlaps the network 10.9.0.1/24 of h0*" "$typed"
check "cmdlets: a NAT that is removed leaves no table" no_table
check "cmdlets: and puts forwarding back" forwarding 0
does "the NAT again" 'New-NetNat LocalNAT -InternalIPInterfaceAddressPrefix 192.168.100.0/24'
does "a static mapping" 'Add-NetNatStaticMapping LocalNAT -Protocol TCP -ExternalIPAddress 0.0.0.0 -ExternalPort 8088 -InternalIPAddress 192.168.100.2 -InternalPort 8000'
does "an external switch" 'New-VMSwitch Ext -NetAdapterName e0'
does "with an address of the host on it" 'New-NetIPAddress 10.8.0.9 -PrefixLength 24 -InterfaceAlias "vEthernet (Ext)"'
check "cmdlets: its vEthernet reaches the adapter's network" until_true 5 $inside busybox ping -c 1 -W 1 10.8.0.1
type 'New-VMSwitch Ext2 -NetAdapterName e0'
matches "cmdlets: an adapter joins one switch" "*'e0' is already bound*The switch \"Ext\" has it.*" "$typed"
type 'New-VMSwitch Ext2 -NetAdapterName none0'
matches "cmdlets: an adapter that is not there is refused" '*unable to find a network adapter with name "none0"*' "$typed"

# --- A guest between them, while switch and service die.
words="address:192.168.100.2/24,gateway:192.168.100.1,ping:192.168.100.1:5,ping:10.9.0.2:5,serve:8000:mapped,on:eth1,address:10.8.0.5/24,ping:10.8.0.1:5,ping:10.8.0.9:5,say:serving,sleep:60"
does "a guest on both" 'New-VM far -MemoryStartupBytes 128MB -SwitchName VmNAT | Out-Null; Add-VMNetworkAdapter far -SwitchName Ext'
does "its kernel" "Set-VMFirmware far -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$IMAGES/l2.cpio' -KernelCommandLine 'console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.level=far nestor.net=$words'"
does "it starts" 'Start-VM far'
: >"$OUT/far.log"
timeout 100 "$NESTOR" Connect-VMConsole far </dev/null >"$OUT/far.log" 2>&1 &
children="$children $!"
until_true 60 says far "say: serving"
is "cmdlets: the guest reaches the host at the TAP" answers "$(said far "ping 192.168.100.1")"
is "cmdlets: and beyond the NAT" answers "$(said far "ping 10.9.0.2")"
is "cmdlets: and the adapter's network" answers "$(said far "ping 10.8.0.1")"
is "cmdlets: and the host's vEthernet there" answers "$(said far "ping 10.8.0.9")"
is "cmdlets: a mapped port reaches the guest from beyond" mapped \
	"$(fetch http://10.9.0.1:8088/ ip netns exec "$beyond")"
is "cmdlets: and from the host itself" mapped "$(fetch http://10.9.0.1:8088/ $inside)"
type '(Get-VMNetworkAdapter far | Select-Object -First 1).IPAddresses'
is "cmdlets: the guest's address is shown" 192.168.100.2 "$typed"
does "guards, while it runs" 'Set-VMNetworkAdapter far -DhcpGuard On -RouterGuard On'
guards() { call "$(timeout 10 $inside "$NESTOR" '(Get-VMSwitch VmNAT).Id')" Port.List | tr -d ' \n'; }
matches "cmdlets: reach the switch" '*"DhcpGuard":true,"RouterGuard":true*' "$(guards)"
type 'New-VM twin -MemoryStartupBytes 128MB -SwitchName VmNAT | Out-Null; Set-VMNetworkAdapter twin -StaticMacAddress (Get-VMNetworkAdapter far | Select-Object -First 1).MacAddress'
matches "cmdlets: a static MAC address of another adapter is told" "*is also that of an adapter of far*" "$typed"
does "the twin's kernel" "Set-VMFirmware twin -KernelPath '$IMAGES/vmlinuz' -KernelCommandLine quiet"
type 'Start-VM twin'
matches "cmdlets: and does not start beside it" "*'twin' failed to start.*is already another port's of this switch*" "$typed"
switch_pid() {
	timeout 10 "$NESTOR" switch call "$(timeout 10 $inside "$NESTOR" '(Get-VMSwitch VmNAT).Id')" \
		Switch.State 2>/dev/null | sed -n 's/.*"Pid": \([0-9]*\).*/\1/p'
}
first=$(switch_pid)
service=$(sed -n 's/.*service.*process \([0-9]*\)\.$/\1/p' "$NESTOR_STORE/log/service.log" | tail -n 1)
kill -9 "$service"
sleep 0.2
kill -9 "$first"
check "cmdlets: with switch and service killed the table goes" until_true 5 no_table
check "cmdlets: the TAP goes" until_true 5 sh -c "! ip -n $host link show | grep -q 'vEthernet (VmNAT)'"
check "cmdlets: forwarding goes" until_true 5 forwarding 0
does "the next command" 'Get-VMSwitch VmNAT'
check "cmdlets: brings all of it back" until_true 10 masquerades
check "cmdlets: with the address" until_true 5 has_address 192.168.100.1/24
is "cmdlets: and the guest in it" mapped "$(fetch http://10.9.0.1:8088/ ip netns exec "$beyond")"
ip -n "$host" link del "$(tap VmNAT)"
check "cmdlets: a TAP that somebody deleted is made anew" until_true 5 has_address 192.168.100.1/24
does "Private takes the host off, with the guest on it" 'Set-VMSwitch VmNAT -SwitchType Private'
check "cmdlets: the TAP is gone" sh -c "! ip -n $host link show | grep -q 'vEthernet (VmNAT)'"
check "cmdlets: the table too" no_table
does "Internal brings it back" 'Set-VMSwitch VmNAT -SwitchType Internal; New-NetIPAddress 192.168.100.1 -PrefixLength 24 -InterfaceAlias "vEthernet (VmNAT)"'
check "cmdlets: the guest answers" until_true 10 $inside busybox ping -c 1 -W 1 192.168.100.2
type 'Remove-VMSwitch VmNAT -Force'
matches "cmdlets: a switch in use stays" "*The virtual switch is in use.*far is connected*" "$typed"
does "the end" 'Stop-VM far -TurnOff; Remove-NetNat -Confirm:$false; Remove-VMSwitch VmNAT -Force; Remove-VMSwitch Ext -Force'
check "cmdlets: no table is left" no_table
check "cmdlets: no TAP" sh -c "! ip -n $host link show | grep -q vEth"
check "cmdlets: forwarding is as before" forwarding 0
check "cmdlets: no switch runs" until_true 5 sh -c '[ -z "$(ls "$NESTOR_RUNTIME" | grep "\.switch$")" ]'

# --- Chosen otherwise, and without what it needs.
export NESTOR_VETHERNET=inside
until_true 10 [ ! -e "$NESTOR_RUNTIME/service" ]
does "NESTOR_VETHERNET=inside" 'New-VMSwitch VmNAT -SwitchType Internal; New-NetIPAddress 192.168.100.1 -PrefixLength 24 -InterfaceAlias "vEthernet (VmNAT)"'
check "cmdlets: makes no TAP" sh -c "! ip -n $host link show | grep -q vEth"
finish
exit 0
