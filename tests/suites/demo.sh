# what: ./demo to its end, and ended by Ctrl-C: nothing is left of either
# budget: 200
# in: all
. "$(dirname "$0")/../lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
# Folders and processes.
left() {
	ls -d /tmp/nestor-demo.* 2>/dev/null
	for p in /proc/[0-9]*; do
		[ "$(readlink $p/exe)" != "$top/build/src/nestor" ] || echo "$p $(tr '\0' ' ' <$p/cmdline)"
	done 2>/dev/null
}

before=$(left)
timeout 150 "$top/demo" >"$OUT/demo.log" 2>&1 </dev/null
is "./demo ends with 0" 0 $?
matches "and says that L2 ran" "L2 really ran: *" "$(tail -n 1 "$OUT/demo.log")"
is "and leaves nothing behind" "$before" "$(left)"

# A terminal of its own, whose Ctrl-C comes when L2 boots.
printf ': open demo exec %s\n' "$top/demo" >"$OUT/script.txt"
"$IMAGES/typist" --log "$OUT/interrupted.log" "$OUT/script.txt" >/dev/null 2>&1 &
typist=$!
trap 'kill $typist 2>/dev/null' EXIT
check "it comes as far as L2" until_true 100 grep -qs 'Connect-VMConsole inner' "$OUT/interrupted.log"
demo=$(ps -o pid= --ppid $typist | tr -d ' ')
check "Ctrl-C" kill -s INT -- -$demo
demo_ended() { ! kill -0 $demo 2>/dev/null || grep -q "^$demo (sh) Z" /proc/$demo/stat; }
check "ends it" until_true 30 demo_ended
is "and leaves nothing behind" "$before" "$(left)"
