# what: wrong command lines, broken kernels and absurd sizes get an answer
# budget: 20
# in: default
. "$(dirname "$0")/../lib.sh"

# refused CASE STATUS arguments...: ends with the status and one sentence.
refused() {
	name=$1 wanted=$2
	shift 2
	said=$(timeout 20 "$NESTOR" "$@" 2>&1 </dev/null)
	got=$?
	echo "$name: status $got: $said"
	if [ $got != "$wanted" ]; then
		not_ok "$name: wanted status $wanted, got $got"
	elif [ "$(printf '%s\n' "$said" | grep -c 'nestor: ')" = 0 ]; then
		not_ok "$name: says nothing"
	else
		ok "$name"
	fi
}
soft="run --engine soft --serial none"
refused "no kernel" 64 $soft
refused "unknown option" 64 $soft --kernel "$IMAGES/vmlinuz" --no-such-option
refused "unknown engine" 64 run --engine vapour --kernel "$IMAGES/vmlinuz"
refused "no processors" 64 $soft --processors 0 --kernel "$IMAGES/vmlinuz"
refused "too many processors" 64 $soft --processors 1000000 --kernel "$IMAGES/vmlinuz"
refused "absurd memory" 64 $soft --memory 99999999999999999999G --kernel "$IMAGES/vmlinuz"
refused "negative memory" 64 $soft --memory -1 --kernel "$IMAGES/vmlinuz"
refused "eager with icount" 64 $soft --engine-options eager,icount --kernel "$IMAGES/vmlinuz"
refused "lockstep without a translation" 64 $soft --engine-options lockstep,interpret --kernel "$IMAGES/vmlinuz"
refused "lockstep with two processors" 64 $soft --engine-options lockstep --processors 2 --kernel "$IMAGES/vmlinuz"
refused "missing kernel" 66 $soft --kernel "$OUT/not-there"
refused "missing initrd" 66 $soft --kernel "$IMAGES/vmlinuz" --initrd "$OUT/not-there"
refused "a directory as kernel" 66 $soft --kernel "$OUT"
refused "unknown trace event" 64 $soft --kernel "$IMAGES/vmlinuz" --trace nonsense
: >"$OUT/empty"
refused "empty kernel" 66 $soft --kernel "$OUT/empty"
refused "too little memory" 66 $soft --memory 2M --kernel "$IMAGES/vmlinuz"
for bytes in 1 4 511 512 600 1000 4096 20000; do
	head -c $bytes "$IMAGES/vmlinuz" >"$OUT/truncated"
	refused "kernel cut to $bytes bytes" 66 $soft --kernel "$OUT/truncated"
done
for seed in 1 2 3 4; do
	awk -v seed=$seed 'BEGIN { srand(seed); for (i = 0; i < 9000; i++) printf "%c", 1 + rand() * 126 }' >"$OUT/random"
	refused "random bytes $seed as kernel" 66 $soft --kernel "$OUT/random"
done
