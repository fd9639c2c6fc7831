# what: kvm_intel with ept, unrestricted_guest, vpid off and nested on, each with Debian as L2
# budget: 480
# in: all
. "$(dirname "$0")/../lib.sh"
for parameters in ept=0 unrestricted_guest=0 vpid=0 nested=1; do
	boot "kvm-$parameters" 210 --engine soft --memory 1G --expose-virtualization-extensions \
		--kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l1.cpio" \
		--append "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.run=l2 nestor.word=$parameters nestor.kvm=$parameters nestor.append=quiet"
	is "$parameters: status" 0 "$status"
	matches "$parameters: taken by kvm_intel" "kvm_intel *" "$(fact L1 kvm)"
	is "$parameters: L2 powers off" "processors=1 status=0" "$(fact L1 l2)"
	is "$parameters: L2 computes" "$(sha $parameters)" "$(fact L2 answer)"
	healthy "$parameters"
done
