# what: privileged rules of the manual, one small check each, by guests of our own
# budget: 240
# in: default
. "$(dirname "$0")/../lib.sh"

# The guests say "ok - " and "not ok - " for each rule and end through port
# F4h: status 1 is "none failed". What came after a guest died or hung is
# missing, so that the guest itself is a case too.
PASSED=1
GUESTS=$BUILD/tests/guest
SECONDS_EACH=${SECONDS_EACH:-60}

# guest NAME FILE nestor's further arguments...
guest() {
	name=$1
	kernel=$GUESTS/$2.elf
	shift 2
	status=0
	timeout -k 5 "$SECONDS_EACH" "$NESTOR" run --engine soft --memory 64M --serial stdio \
		--kernel "$kernel" "$@" </dev/null >"$OUT/$name.log" 2>"$OUT/$name.err" || status=$?
	tr -d '\r' <"$OUT/$name.log"
}
# rules NAME FILE ...: a guest with all its rules
rules() {
	guest "$@"
	check "$name: all its rules ran, and passed" [ "$status" = $PASSED ]
	[ "$status" = $PASSED ] || tail -n 40 "$OUT/$name.err"
}
# dies FILE RULE: the rule ends the guest by a triple fault
dies() {
	guest "$1-$2" "$1" --engine-options icount --append "$2"
	is "$1: $2 ends the guest with a dump" 74 "$status"
	check "$1: $2: the dump names the exceptions" grep -q "last event: " "$OUT/$name.err"
}

for chapter in gates64 paging64 debug64 system64 apic64 protected32 paging32; do
	rules "$chapter" "$chapter" --engine-options icount
done
for chapter in vmx_exits vmx_memory; do
	rules "$chapter" "$chapter" --engine-options icount --expose-virtualization-extensions
done
# Without the extensions the chapters of VT-x find none, and say so.
guest vmx-hidden vmx_exits --engine-options icount >/dev/null
is "VT-x hidden: each rule is skipped" "$(grep -c "^# skip" "$OUT/vmx-hidden.log")" \
	"$(sed -n 's/^# VM exits: \([0-9]*\) rules, 0 failed.*/\1/p' "$OUT/vmx-hidden.log")"
# Once more on the host's clock.
for chapter in gates64 paging64 debug64 system64 apic64 protected32 paging32; do
	rules "$chapter-host-clock" "$chapter"
done
for chapter in vmx_exits vmx_memory; do
	rules "$chapter-host-clock" "$chapter" --expose-virtualization-extensions
done
dies gates64 triple_fault
dies gates64 fault_in_a_double_fault_is_a_triple_fault
