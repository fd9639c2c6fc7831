# what: the manager end to end: both editions' commands typed at L0, L1 and L2, and what the guests see
# budget: 130
# in: default
# The scenarios are scripts in tests/page; two L1s run at once, and all share them.
. "$(dirname "$0")/../lib.sh"

# Nothing here needs privilege, and without it this machine's network is left alone.
if [ "$(id -u)" = 0 ] && [ -z "${PLAIN:-}" ] && setpriv --bounding-set -all true 2>/dev/null; then
	PLAIN=1 exec setpriv --bounding-set -all --inh-caps -all sh "$0"
fi
pages=$(cd "$(dirname "$0")/../page" && pwd)
run=$(mktemp -d /tmp/nestor-manager.XXXXXX)
export NESTOR NESTOR_STORE="$run/store" NESTOR_RUNTIME="$run/run" NESTOR_IDLE_SECONDS=1
export NESTOR_ENGINE=soft NESTOR_IMAGES="$IMAGES"
children=
clean_up() {
	timeout 20 "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force; Get-NetNat | Remove-NetNat -Confirm:$false; Get-VMSwitch VmNAT | Remove-VMSwitch -Force' >/dev/null 2>&1
	for p in $children; do kill "$p" 2>/dev/null; done
	sleep 1
	[ ! -e "$run/run/service" ] || timeout 10 "$NESTOR" Get-VMSwitch >/dev/null 2>&1
	rm -rf "$run"
}
trap clean_up EXIT
trap 'exit 1' TERM INT HUP PIPE
# typed SCRIPT: its cases
typed() {
	timeout 120 "$IMAGES/typist" --tests --pages "$pages" --log "$OUT/$(basename "$1" .txt).log" \
		--let "images=$IMAGES" --let port=$port --let mapped=$((port + 1)) --let "sum=$wanted" \
		--let "word=$word" --let "answer=$(sha "$word")" "$1"
}
# watch NAME VM: the console of VM into $OUT/NAME.log
watch() {
	: >"$OUT/$1.log"
	timeout 140 "$NESTOR" Connect-VMConsole "$2" </dev/null >"$OUT/$1.log" 2>&1 &
	children="$children $!"
}
# says NAME FACT; said NAME KEY: all values of a fact on one line
says() { grep -q "\[L1\] $2" "$OUT/$1.log"; }
said() { tr -d '\r' <"$OUT/$1.log" | sed -n "s/^\[L1\] $2: //p" | tr '\n' ' ' | sed 's/ $//'; }

port=$((20000 + $$ % 20000))
word=$(cat /proc/sys/kernel/random/uuid)
mkdir "$run/site"
seq 1 20000 >"$run/site/file"
wanted=$(sha256sum <"$run/site/file" | cut -d' ' -f1)
timeout 145 busybox httpd -f -p 127.0.0.1:$port -h "$run/site" &
children="$children $!"

# --- Who types says when something else comes out.
printf ': open here sh\n$ echo one two 3\none {word} {number}\n' >"$run/right.txt"
printf '# wrong\n: open here sh\n$ echo one\n{number}\n' >"$run/wrong.txt"
check "a script fits" "$IMAGES/typist" "$run/right.txt"
matches "one that does not is told" "*not ok - wrong" "$("$IMAGES/typist" --tests "$run/wrong.txt" | sed 's/^not ok/told: &/')"
is "and fails" 1 "$("$IMAGES/typist" "$run/wrong.txt" >/dev/null 2>&1; echo $?)"

# --- No code block of either edition is left out below.
for edition in 2016 2020; do
	blocks=$(($(grep -c '^```' "$pages/$edition.md") / 2))
	typed_blocks=$(sed -n "s/^: page $edition //p" "$pages/scenarios.txt" "$pages/afterwards.txt" | sort -u | tr '\n' ' ')
	is "every code block of $edition is typed" "$(seq $blocks | tr '\n' ' ')" "$typed_blocks"
done

typed "$pages/scenarios.txt"

# --- A switch and a service that die; the VMs stay connected.
default=c08cb7b8-9b3c-408e-8e30-5e16a3aeb444
switch_pid() { timeout 10 "$NESTOR" switch call $default Switch.State 2>/dev/null | sed -n 's/.*"Pid": \([0-9]*\).*/\1/p'; }
connected() { [ "$(timeout 20 "$NESTOR" '(Get-VMNetworkAdapter -VMName a).Connected')" = True ]; }
first=$(switch_pid)
kill -9 "$first"
new_switch() { second=$(switch_pid); [ -n "$second" ] && [ "$second" != "$first" ]; }
check "a switch that died is started again" until_true 10 new_switch
check "and the running VM connected to it" until_true 10 connected
kill -9 "$(sed -n 's/.*service.*process \([0-9]*\)\.$/\1/p' "$run/store/log/service.log" | tail -n 1)"
is "another service finds the VM" Running "$(timeout 20 "$NESTOR" '(Get-VM a).State')"
check "and its switch" until_true 10 connected
is "which is the same" "$second" "$(switch_pid)"

typed "$pages/afterwards.txt"
watch plain b
until_true 40 says plain "say: serving"
is "without the exposure the guest sees no VMX" none "$(said plain extensions)"
is "behind this host's NAT it fetches by HTTP" "$wanted" "$(said plain fetch)"
fetched() { timeout 5 busybox wget -q -O "$run/fetched" "http://127.0.0.1:$((port + 1))/" && grep -q mapped "$run/fetched"; }
check "the mapping leads to it from outside" until_true 10 fetched
is "Test-NetConnection reaches the mapped port" True "$(
	timeout 20 "$NESTOR" "Test-NetConnection 127.0.0.1 -Port $((port + 1)) -InformationLevel Quiet")"

# --- Nothing is left.
timeout 30 "$NESTOR" 'Get-VM | Stop-VM -TurnOff -Force; Remove-NetNatStaticMapping -StaticMappingID 0 -Confirm:$false; Remove-NetNat LocalNAT -Confirm:$false; Remove-NetIPAddress 192.168.100.1 -Confirm:$false; Remove-VMSwitch VmNAT -Force'
is "the end" 0 $?
check "the service goes when it is idle" until_true 15 sh -c '[ ! -e "$NESTOR_RUNTIME/service" ]'
check "and no switch runs that nobody needs" until_true 10 sh -c '[ -z "$(ls "$NESTOR_RUNTIME" | grep "\.switch$")" ]'
