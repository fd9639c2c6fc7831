# what: KVM in L1 on our VT-x, Debian's kernel as L2 with 1 and 2 processors
# budget: 480
# in: default
. "$(dirname "$0")/../lib.sh"

# Programs that run in L1, over KVM.
cat >"$OUT/programs.manifest" <<END
dir tests 755
file tests/kvm_engine 755 $BUILD/tests/l1/l1_kvm_engine
END
"$IMAGES/mkcpio" "$OUT/programs.manifest" "$OUT/programs.cpio" || exit 1

boot nested 460 --engine soft --memory 1G --expose-virtualization-extensions --report \
	--kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l1.cpio" --initrd "$OUT/programs.cpio" \
	--append "console=ttyS0 nokaslr panic=-1 quiet nestor.run=programs,l2,l2:2 nestor.word=nested nestor.task=load nestor.append=quiet"
is "L1 powers off" 0 "$status"
is "L1 sees VT-x" vmx "$(fact L1 extensions)"
matches "kvm_intel loads" "kvm_intel *" "$(fact L1 kvm)"
sed -n 's/^[^|]*| \(ok\|not ok\) - /\1 - /p' "$log"
is "the programs of L1 end well" "kvm_engine status=0" "$(fact L1 program)"
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
