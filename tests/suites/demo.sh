# what: ./demo to its end, and ended by Ctrl-C: nothing is left of either
# budget: 200
# in: all
. "$(dirname "$0")/../lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
left() { ls -d /tmp/nestor-demo.* 2>/dev/null | wc -l; }

before=$(left)
timeout 150 "$top/demo" >"$OUT/demo.log" 2>&1 </dev/null
is "./demo ends with 0" 0 $?
matches "and says that L2 ran" "L2 really ran: *" "$(tail -n 1 "$OUT/demo.log")"
is "and leaves nothing behind" "$before" "$(left)"

# A terminal of its own, whose Ctrl-C comes when L2 boots.
printf ': open demo %s\n' "$top/demo" >"$OUT/script.txt"
timeout 150 "$IMAGES/typist" --log "$OUT/interrupted.log" "$OUT/script.txt" >/dev/null 2>&1 &
typist=$!
tries=500
while [ $tries -gt 0 ] && ! grep -qs 'Connect-VMConsole inner' "$OUT/interrupted.log"; do
	tries=$((tries - 1))
	sleep 0.2
done
check "it comes as far as L2" [ $tries -gt 0 ]
children=$(ps -o pid= --ppid $typist)
kill -INT -- -$children 2>/dev/null
tries=100
while [ $tries -gt 0 ] && { [ "$(left)" != "$before" ] || ps -o pid= -g $children | grep -q .; }; do
	tries=$((tries - 1))
	sleep 0.2
done
is "Ctrl-C leaves nothing behind" "$before" "$(left)"
kill $typist 2>/dev/null
wait $typist 2>/dev/null
is "nor a service" "" "$(ps -eo args= | grep -F "$top/build/src/nestor service" | grep -v grep)"
