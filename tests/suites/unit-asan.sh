# what: the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
# budget: 240
# in: default
. "$(dirname "$0")/../meson-results.sh"
asan=$BUILD/asan
[ -f "$asan/build.ninja" ] ||
	meson setup "$asan" "$(dirname "$0")/../.." -Db_sanitize=address,undefined -Db_lundef=false || exit 1
ninja -C "$asan" || exit 1
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
run_unit_tests "$asan"
