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
tries=500
while [ $tries -gt 0 ] && ! grep -qs 'Connect-VMConsole inner' "$OUT/interrupted.log"; do
	tries=$((tries - 1))
	sleep 0.2
done
check "it comes as far as L2" [ $tries -gt 0 ]
demo=$(ps -o pid= --ppid $typist | tr -d ' ')
check "Ctrl-C" kill -s INT -- -$demo
tries=150
while [ $tries -gt 0 ] && kill -0 $demo 2>/dev/null && ! grep -q "^$demo (sh) Z" /proc/$demo/stat; do
	tries=$((tries - 1))
	sleep 0.2
done
check "ends it" [ $tries -gt 0 ]
is "and leaves nothing behind" "$before" "$(left)"
