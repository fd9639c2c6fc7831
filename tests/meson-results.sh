# run_meson_tests BUILD SUITE: Meson's tests of one suite as result lines; what
# they printed goes before them.
run_meson_tests() {
	meson test -C "$1" --no-rebuild --suite "$2" --timeout-multiplier 4 >"$OUT/meson.txt" 2>&1
	cat "$1/meson-logs/testlog.txt" "$OUT/meson.txt" | sed 's/^ok - /  ok - /; s/^not ok - /  not ok - /'
	sed -nE 's/^ *[0-9]+\/[0-9]+ +(.*[^ ]) +(OK|EXPECTEDFAIL) +[0-9.]+s.*/ok - \1/p
		s/^ *[0-9]+\/[0-9]+ +(.*[^ ]) +(FAIL|TIMEOUT|ERROR|INTERRUPT|UNEXPECTEDPASS) +[0-9.]+s.*/not ok - \1/p' \
		"$OUT/meson.txt" | awk '!seen[$0]++'
}
