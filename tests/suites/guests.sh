# what: Debian's kernel on the soft engine, with 1 and 2 processors
# budget: 240
# in: default
. "$(dirname "$0")/../lib.sh"

# A guest that only shows itself and powers off.
shows_itself() {
	n=$1
	word=word-$n
	boot "processors-$n" 110 --engine soft --memory 512M --processors "$n" \
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
