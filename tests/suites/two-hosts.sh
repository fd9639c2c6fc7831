# what: two L1s on one switch, each with an External switch and an L2 on it; a static mapping in L1, from L0 into L2
# budget: 300
# in: all
. "$(dirname "$0")/../lib.sh"

pages=$(cd "$(dirname "$0")/../page" && pwd)
run=$(mktemp -d /tmp/nestor-two-hosts.XXXXXX)
export NESTOR NESTOR_STORE="$run/store" NESTOR_RUNTIME="$run/run" NESTOR_IDLE_SECONDS=2
export NESTOR_ENGINE=soft NESTOR_IMAGES="$IMAGES"
clean_up() {
	timeout 20 "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force; Get-NetNat | Remove-NetNat -Confirm:$false; Get-VMSwitch Lab | Remove-VMSwitch -Force' >/dev/null 2>&1
	until_true 10 [ ! -e "$run/run/service" ]
	rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 1' TERM INT HUP PIPE

port=$((20000 + $$ % 20000))
timeout 250 "$IMAGES/typist" --tests --pages "$pages" --log "$OUT/two-hosts.log" --let mapped=$port \
	"$pages/two-hosts.txt"
is "from L0 through L1's mapping into its L2" "mapped to inner" \
	"$(timeout 10 busybox wget -q -O - "http://127.0.0.1:$port/word")"
is "L1 has shown its address by answering" 192.168.50.2 \
	"$(timeout 20 "$NESTOR" '(Get-VMNetworkAdapter a).IPAddresses')"
