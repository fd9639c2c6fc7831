# what: unit and fuzz tests under AddressSanitizer and UndefinedBehaviorSanitizer
# budget: 130
# in: default
. "$(dirname "$0")/../meson-results.sh"
asan=$BUILD/asan
"$(dirname "$0")/../../tools/configure" "$asan" \
	-Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false || exit 1
ninja -C "$asan" || exit 1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
run_meson_tests "$asan" unit
run_meson_tests "$asan" fuzz
