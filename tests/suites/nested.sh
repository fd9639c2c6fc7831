# what: KVM in L1 on our VT-x, Debian's kernel as L2 with 1 and 2 processors
# budget: 65
# in: default
. "$(dirname "$0")/../lib.sh"

# Programs that run in L1, over KVM.
cat >"$OUT/programs.manifest" <<END
dir tests 755
file tests/kvm_engine 755 $BUILD/tests/l1/l1_kvm_engine
END
"$IMAGES/mkcpio" "$OUT/programs.manifest" "$OUT/programs.cpio" || exit 1

# The parameter matrix with small guests, then Debian as L2.
matrix="ept=0 unrestricted_guest=0 vpid=0 ept=0+vpid=0 nested=1"
run=refusals,programs:
for p in $matrix; do run=$run,programs:$p; done
run=$run,l2,l2:2

boot nested 120 --engine soft --memory 1G --expose-virtualization-extensions --report \
	--kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l1.cpio" --initrd "$OUT/programs.cpio" \
	--append "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.run=$run nestor.word=nested nestor.task=load nestor.append=quiet"
is "L1 powers off" 0 "$status"
is "L1 sees VT-x" vmx "$(fact L1 extensions)"
matches "the kvm engine without its module says so" "status=68 *modprobe kvm_intel*" "$(fact L1 "refusal --processors")"
matches "options that it does not know" "status=68 *icount*" "$(fact L1 "refusal --engine-options")"
matches "no nesting with nested=0" "status=68 */sys/module/kvm_intel/parameters/nested is N*" \
	"$(fact L1 "refusal --expose-virtualization-extensions")"
matches "kvm_intel loads" "kvm_intel *" "$(fact L1 kvm)"
sed -n 's/^[^|]*| \(ok\|not ok\) - /\1 - /p' "$log"
for p in "" $matrix; do
	check "kvm_intel{$p}: the small guests ran to the end" grep -q "ok - kvm_intel{$(echo "$p" | tr + ' ')} .*and no longer when" "$log"
done
for n in 1 2; do
	check "L2 with $n processors powers off" \
		grep -q "\[L1\] l2: processors=$n status=0" "$log"
	check "L2 with $n processors has them all" grep -q "\[L2\] processors: $n\$" "$log"
	check "L2 with $n processors works on all" \
		grep -q "\[L2\] load: $n workers, 1 different answers, $((3 * n)) lines" "$log"
done
is "L2 computes" "$(sha nested)" "$(fact L2 answer)"
is "L2 runs on KVM" KVMKVMKVM "$(fact L2 hypervisor)"
is "L2 sees no extensions" none "$(fact L2 extensions)"
healthy nested

boot smp 50 --engine soft --memory 1G --processors 2 --expose-virtualization-extensions \
	--kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l1.cpio" \
	--append "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.run=l2:2 nestor.word=smp nestor.task=load nestor.append=quiet"
is "L1 with 2 processors powers off" 0 "$status"
is "L1 has both" 2 "$(fact L1 processors)"
is "L2 in it powers off" "processors=2 status=0" "$(fact L1 l2)"
is "L2 in it works on both" "2 workers, 1 different answers, 6 lines" "$(fact L2 load)"
is "L2 in it computes" "$(sha smp)" "$(fact L2 answer)"
healthy smp
