# run_unit_tests BUILD: Meson's unit tests as result lines.
run_unit_tests() {
	timeout 300 meson test -C "$1" --no-rebuild --suite unit \
		--timeout-multiplier 4 --print-errorlogs >"$OUT/meson.txt" 2>&1
	cat "$OUT/meson.txt"
	sed -nE 's/^ *[0-9]+\/[0-9]+ +(.*[^ ]) +(OK|EXPECTEDFAIL) +[0-9.]+s.*/ok - \1/p
		s/^ *[0-9]+\/[0-9]+ +(.*[^ ]) +(FAIL|TIMEOUT|ERROR|INTERRUPT|UNEXPECTEDPASS) +[0-9.]+s.*/not ok - \1/p' \
		"$OUT/meson.txt" | awk '!seen[$0]++'
}
