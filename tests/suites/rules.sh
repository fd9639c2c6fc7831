# what: privileged rules of the manual, one small check each, by guests of our own
# budget: 110
# in: default
. "$(dirname "$0")/../lib.sh"

# The guests say "ok - " and "not ok - " for each rule and end through port
# F4h: status 1 is "none failed". What came after a guest died or hung is
# missing, so that the guest itself is a case too.
PASSED=1 SANITIZER=98
GUESTS=$BUILD/tests/guest
ASAN=$BUILD/asan
SECONDS_EACH=20
CHAPTERS="gates64 paging64 debug64 system64 apic64 protected32 paging32"
VMX_CHAPTERS="vmx_exits vmx_memory"
export ASAN_OPTIONS="exitcode=$SANITIZER" LSAN_OPTIONS="exitcode=$SANITIZER" \
	UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=$SANITIZER"

# guest NAME FILE nestor's further arguments...
guest() {
	name=$1
	kernel=$GUESTS/$2.elf
	shift 2
	status=0
	timeout -k 5 "$SECONDS_EACH" "$nestor" run --engine soft --memory 64M --serial stdio \
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

# On the host's clock only: two processors do not count instructions.
two_processors() {
	rules "smp64$1" smp64 --processors 2
	rules "vmx_smp64$1" vmx_smp64 --processors 2 --expose-virtualization-extensions
}

# all_rules LABEL nestor's further arguments...
all_rules() {
	label=$1
	shift
	for chapter in $CHAPTERS; do
		rules "$chapter$label" "$chapter" "$@"
	done
	for chapter in $VMX_CHAPTERS; do
		rules "$chapter$label" "$chapter" --expose-virtualization-extensions "$@"
	done
}

# The same rules in VMX non-root operation: behind EPT as the guest of a small
# hypervisor that boots the chapter's file, and in the hypervisor's own memory
# without EPT, without VPID and without both.
all_rules_as_guests() {
	for chapter in $CHAPTERS; do
		rules "$chapter-as-guest$1" vmm64 --initrd "$GUESTS/$chapter.elf" \
			--expose-virtualization-extensions --engine-options icount
	done
	for chapter in $CHAPTERS; do
		[ -f "$GUESTS/level2-$chapter.elf" ] || continue
		for options in "ept=off" "vpid=off" "ept=off vpid=off"; do
			rules "$chapter-$(echo "$options" | tr ' =' '--')$1" "level2-$chapter" \
				--expose-virtualization-extensions --engine-options icount --append "$options"
		done
	done
}

nestor=$NESTOR
all_rules "" --engine-options icount
# Every block translated, and the translator against the interpreter.
all_rules -translated --engine-options eager
for chapter in gates64 paging64 debug64 system64; do
	rules "$chapter-lockstep" "$chapter" --engine-options eager,lockstep
done
all_rules -host-clock
two_processors ""
all_rules_as_guests ""
dies gates64 triple_fault
dies gates64 fault_in_a_double_fault_is_a_triple_fault
# Without the extensions the chapters of VT-x find none: each rule is skipped.
guest vmx-hidden vmx_exits --engine-options icount >/dev/null
is "VT-x hidden: no rule finds it" \
	"$(sed -n 's/^# VM exits: \([0-9]*\) rules, 0 failed.*/\1/p' "$OUT/vmx-hidden.log" | tr -d '\r')" \
	"$(grep -c '^# skip' "$OUT/vmx-hidden.log")"

[ -f "$ASAN/build.ninja" ] ||
	meson setup "$ASAN" "$(dirname "$0")/../.." -Db_sanitize=address,undefined -Db_lundef=false || exit 1
ninja -C "$ASAN" src/nestor || exit 1
nestor=$ASAN/src/nestor
all_rules -sanitized --engine-options icount
all_rules -translated-sanitized --engine-options eager
all_rules_as_guests -sanitized
two_processors -sanitized
