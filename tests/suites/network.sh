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
check "privileged: a switch for a TAP starts" start tap
check "privileged: one for an adapter starts" start ext
check "privileged: vEthernet is a TAP" call tap Host.Set \
	'{"MacAddress":"00155D0000FE","Interface":"vEthT","Name":"vEthernet (T)"}'
check "privileged: NAT before its address" call tap Nat.Add '{"Prefix":"192.168.100.0/24"}'
check "privileged: its address" call tap Host.AddAddress '{"Address":"192.168.100.1/24"}'
check "privileged: a static mapping" call tap Mapping.Add \
	'{"Protocol":"TCP","ExternalPort":8088,"InternalAddress":"192.168.100.2","InternalPort":8000}'
matches "privileged: the interface has address and alias" "*192.168.100.1/24*" \
	"$(ip -n "$host" addr show vEthT; ip -n "$host" link show vEthT)"
check "privileged: an adapter" call ext Uplink.Set '{"Adapter":"e0"}'
check "privileged: an adapter that is not there is refused" \
	sh -c '! timeout 10 "$NESTOR" switch call ext Uplink.Set "{\"Adapter\":\"none0\"}" 2>/dev/null'
is "privileged: forwarding is on" 1 "$($inside cat /proc/sys/net/ipv4/ip_forward)"
guest far "address:192.168.100.2/24,gateway:192.168.100.1,ping:192.168.100.1:5,ping:10.9.0.2:5,serve:8000:mapped,on:eth1,address:10.8.0.5/24,ping:10.8.0.1:5,say:serving,sleep:3" \
	--network switch=tap,mac=00155D000011 --network switch=ext,mac=00155D000012
far=$!
until_true 90 says far "say: serving"
is "privileged: a mapped port reaches the guest from beyond" mapped \
	"$(fetch http://10.9.0.1:8088/ ip netns exec "$beyond")"
wait $far
is "privileged: the guest ran to its end" 0 $?
is "privileged: it reaches the host at the TAP" answers "$(said far "ping 192.168.100.1")"
is "privileged: and beyond the NAT" answers "$(said far "ping 10.9.0.2")"
is "privileged: and the adapter's network" answers "$(said far "ping 10.8.0.1")"
call tap Switch.Stop >/dev/null
call ext Switch.Stop >/dev/null
check "privileged: the table is gone in the end" \
	until_true 5 sh -c "[ -z \"\$(ip netns exec $host nft list tables)\" ]"
check "privileged: forwarding is as before" \
	until_true 5 sh -c "[ \"\$(ip netns exec $host cat /proc/sys/net/ipv4/ip_forward)\" = 0 ]"
check "privileged: the TAP is gone" until_true 5 sh -c "! ip -n $host link show vEthT >/dev/null 2>&1"
