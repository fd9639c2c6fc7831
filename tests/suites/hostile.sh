# what: guests that misbehave in every way, by seeds, on the plain and the sanitized build
# budget: 200
# in: default
. "$(dirname "$0")/../lib.sh"

# The guest's chapters are in tests/guest/hostile. Each run ends in an answer:
# the guest's own status DONE when all its cases came to an end, another odd
# status when garbage wrote to port F4h, power-off, reset, or death with a dump.
# A guest may hang; then the worker ends when told to. To repeat a run, take its
# command line from the log: with icount it depends on nothing but the seed.
# Runs last about 50 s for each build; the rest of the budget builds the second.
DONE=43 RESET=72 DIED=74 TERMINATED=143 SANITIZER=98
GUESTS=$BUILD/tests/guest/hostile
ASAN=$BUILD/asan
export ASAN_OPTIONS="exitcode=$SANITIZER" LSAN_OPTIONS="exitcode=$SANITIZER" \
	UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=$SANITIZER"

head -c 65536 "$GUESTS/hostile64.elf" >"$OUT/disk" && truncate -s 65536 "$OUT/disk" || exit 1

# run BITS CHAPTER SEED CASES nestor's further arguments...: sets $status
run() {
	bits=$1 line="chapter=$2 seed=$3 count=$4"
	shift 4
	status=0
	set -- run --engine soft --memory 64M --serial "file:$OUT/serial" --disk "$OUT/disk" \
		--kernel "$GUESTS/hostile$bits.elf" --append "$line" "$@"
	timeout --preserve-status -k 5 "$SECONDS_EACH" "$nestor" "$@" </dev/null >"$OUT/err" 2>&1 ||
		status=$?
	echo "$nestor $*: status $status; $(tail -n 1 "$OUT/serial" | tr -d '\r')"
}
# answered: the last run ended in an answer of the kind that any guest may get.
answered() {
	! grep -qE 'Sanitizer|runtime error' "$OUT/err" || return 1
	case $status in
	0 | $RESET | $TERMINATED) return 0 ;;
	$DIED) grep -q 'guest died' "$OUT/err" ;;
	*) [ $((status % 2)) = 1 ] && grep -q 'exit status' "$OUT/err" ;;
	esac
}
failure() {
	not_ok "$1: status $status"
	sed 's/^/  | /' "$OUT/err" | head -n 60
}
# must_finish BITS CHAPTER SEEDS CASES arguments...: the guest survives all it does
must_finish() {
	title="$build$1 $2: every case comes to its end, seeds $3"
	width=$1 chapter=$2 tried=$3 times=$4
	shift 4
	for seed in $tried; do
		run "$width" "$chapter" "$seed" "$times" --engine-options icount "$@"
		[ "$status" = $DONE ] || { failure "$title"; return; }
	done
	ok "$title"
}
# must_answer BITS CHAPTER SEEDS CASES arguments...: the guest may die of it, but
# not with every seed
must_answer() {
	title="$build$1 $2: every run has an answer, seeds $3"
	width=$1 chapter=$2 tried=$3 times=$4 finished=0
	shift 4
	for seed in $tried; do
		run "$width" "$chapter" "$seed" "$times" --engine-options icount "$@"
		answered || { failure "$title"; return; }
		[ "$status" != $DONE ] || finished=$((finished + 1))
	done
	ok "$title"
	check "$build$width $chapter: some of the runs finish" [ $finished -gt 0 ]
}
# must_die BITS CHAPTER SEEDS arguments...: the first case is the end
must_die() {
	title="$build$1 $2: every run has an answer, seeds $3"
	width=$1 chapter=$2 tried=$3
	shift 3
	for seed in $tried; do
		run "$width" "$chapter" "$seed" 50 --engine-options icount "$@"
		answered || { failure "$title"; return; }
	done
	ok "$title"
}

# all_chapters SEEDS CASES
all_chapters() {
	seeds=$1 cases=$2
	few=$(echo "$seeds" | cut -d' ' -f1-2)
	for w in 64 32; do
		for c in msr ports mmio pci virtio control paging; do
			must_finish $w $c "$few" "$cases"
		done
		must_finish $w msr-sweep 1 10000
		must_finish $w storm "$few" $((cases / 2))
		for c in descriptors code strings self-modifying stacks code-kernel; do
			must_answer $w $c "$seeds" "$cases"
		done
		[ $w = 64 ] || must_answer $w real "$seeds" "$cases"
		for c in paging-wild descriptors-wild; do
			must_die $w $c "$seeds 21 22 23 24 25 26"
		done
		must_answer $w vmx "$seeds" $((cases / 2)) --expose-virtualization-extensions
		must_answer $w vmx-instructions "$seeds" "$cases" --expose-virtualization-extensions
		must_die $w vmx-host "$seeds 21 22 23 24 25 26" --expose-virtualization-extensions
		# Garbage that finds an L1's tools exposed, and a second processor to wake.
		must_answer $w code-kernel "$few" "$cases" --expose-virtualization-extensions
		run $w triple 1 1
		is "$build$w triple: a triple fault ends the guest with a dump" "$DIED yes" \
			"$status $(grep -q 'triple fault' "$OUT/err" && echo yes)"
	done
	# By the host's clock, where chance has a part: translated; more processors.
	for c in self-modifying code code-kernel strings stacks paging; do
		title="${build}translated, $c: every run has an answer"
		for seed in $few; do
			run 64 $c "$seed" "$cases" --engine-options eager
			answered || { failure "$title"; continue 2; }
		done
		ok "$title"
	done
	for c in mmio storm code-kernel; do
		title="${build}2 processors, $c: every run has an answer"
		for seed in $few; do
			run 64 $c "$seed" "$cases" --processors 2
			answered || { failure "$title"; continue 2; }
		done
		ok "$title"
	done
	for p in 2 4; do
		title="$build$p processors in each other's way: every run has an answer"
		for seed in $seeds; do
			run 32 smp "$seed" $((cases * 4)) --processors $p
			answered || { failure "$title"; continue 2; }
		done
		ok "$title"
	done
	SECONDS_EACH=2
	run 64 halt 1 1
	is "${build}HLT without interrupts: the worker ends when told" $TERMINATED "$status"
	run 32 halt 1 1 --engine-options icount
	is "${build}HLT without interrupts, counted clock: the worker ends when told" $TERMINATED "$status"
}

SECONDS_EACH=40
nestor=$NESTOR build=
if [ -n "$TEST_ALL" ]; then
	all_chapters "1 2 3 4 5 6 7 8 9 10 11 12" 1000
else
	all_chapters "1 2 3 4 5 6" 500
fi

[ -f "$ASAN/build.ninja" ] ||
	meson setup "$ASAN" "$(dirname "$0")/../.." -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false || exit 1
ninja -C "$ASAN" src/nestor || exit 1
SECONDS_EACH=60
nestor=$ASAN/src/nestor build="sanitized, "
if [ -n "$TEST_ALL" ]; then
	all_chapters "11 12 13 14 15 16" 500
else
	all_chapters "11 12 13" 200
fi
