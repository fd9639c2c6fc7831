# what: Debian's kernel on the soft engine, with 1 and 2 processors
# budget: 35
# in: default
. "$(dirname "$0")/../lib.sh"

# A guest that only shows itself and powers off.
shows_itself() {
	n=$1
	word=word-$n
	boot "processors-$n" 40 --engine soft --memory 512M --processors "$n" \
		--kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l2.cpio" \
		--append "console=ttyS0 nokaslr panic=-1 nestor.level=L1 nestor.word=$word nestor.task=load"
	is "$n processors: status after power off" 0 "$status"
	is "$n processors: all of them are up" "$n" "$(fact L1 processors)"
	is "$n processors: the guest computes" "$(sha $word)" "$(fact L1 answer)"
	is "$n processors: all agree under load" \
		"$n workers, 1 different answers, $((3 * n)) lines" "$(fact L1 load)"
	is "$n processors: timer interrupts" "on every processor" "$(fact L1 interrupts)"
	is "$n processors: no extensions unless exposed" none "$(fact L1 extensions)"
	healthy "$n processors"
}
shows_itself 1
shows_itself 2
[ -z "$TEST_ALL" ] || shows_itself 4

boot plain 40 --engine soft --memory 1G --kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/l1.cpio" \
	--append "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests nestor.run=refusals"
is "L1 without extensions: status" 0 "$status"
is "L1 without extensions: finds none" none "$(fact L1 extensions)"
matches "L1 without extensions: the kvm engine says why" "status=68 *neither VMX nor SVM*" \
	"$(fact L1 "refusal --processors")"
healthy "L1 without extensions"
