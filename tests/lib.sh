# For the suites in tests/suites: cases, boots and facts.

# This machine's own network is left alone, even by root.
export NESTOR_VETHERNET=inside

ok() { echo "ok - $*"; }
not_ok() { echo "not ok - $*"; }
# check CASE COMMAND...: the case is ok when the command succeeds.
check() {
	case_name=$1
	shift
	if "$@"; then ok "$case_name"; else not_ok "$case_name"; fi
}
# is CASE WANTED GOT
is() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1: wanted \"$2\", got \"$3\""; fi
}
# matches CASE PATTERN TEXT: a shell pattern.
matches() {
	case $3 in
	$2) ok "$1" ;;
	*) not_ok "$1: \"$3\" does not match \"$2\"" ;;
	esac
}

# until_true SECONDS COMMAND...: does it come true?
until_true() {
	tries=$(($1 * 5))
	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.2
	done
}

# boot NAME SECONDS nestor's arguments...: a run with the guests' consoles in
# $OUT/NAME.log; its exit status is in $status (124: ended after SECONDS).
boot() {
	log=$OUT/$1.log
	seconds=$2
	shift 2
	status=0
	"$IMAGES/consoles" --quiet --log "$log" --timeout "$seconds" -- "$NESTOR" run "$@" </dev/null ||
		status=$?
	echo "boot: nestor run $*: status $status"
}
# fact LEVEL KEY: the last value of a fact in the last boot's log.
fact() { sed -n "s/^[^|]*| \[$1\] $2: //p" "$log" | tail -n 1; }
# No line of a kernel in trouble in the last boot's log.
healthy() {
	if grep -E 'Kernel panic|BUG: |Oops|general protection|soft lockup|WARNING: CPU|hung task|rcu.*stall|segfault' "$log"; then
		not_ok "$1: no complaint of a kernel"
	else
		ok "$1: no complaint of a kernel"
	fi
}
sha() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
