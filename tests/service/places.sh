#!/bin/sh
# places.sh NESTOR: what stands where the store, its folders and sockets should be:
# each case has one clear sentence, nothing is lost, and no command waits for ever.
nestor=$(realpath "$1")
folder=$(mktemp -d /tmp/nestor-places.XXXXXX) || exit 1
NESTOR_IDLE_SECONDS=1 NESTOR_ENGINE=soft TZ=UTC LC_ALL=C.UTF-8
export NESTOR_IDLE_SECONDS NESTOR_ENGINE TZ LC_ALL
unset NESTOR_RUNTIME NESTOR_STORE XDG_DATA_HOME XDG_RUNTIME_DIR
failures=0 number=0
trap 'rm -rf "$folder"' EXIT

# A store and a folder for sockets that no other case has.
fresh() {
	number=$((number + 1))
	store=$folder/$number run=$folder/r$number
	NESTOR_STORE=$store NESTOR_RUNTIME=$run
	export NESTOR_STORE NESTOR_RUNTIME
}
# The service of this case has gone, so that the next command starts another.
gone() {
	n=0
	while [ -S "$run/service" ] && [ $n -lt 300 ]; do
		sleep 0.1
		n=$((n + 1))
	done
}
fail() {
	echo "$*"
	failures=$((failures + 1))
}
# holds CASE STATUS TEXT COMMAND...: the status, and TEXT somewhere in what is said.
holds() {
	name=$1 status=$2 wanted=$3
	shift 3
	got=$(timeout 60 "$@" 2>&1)
	s=$?
	[ "$s" = "$status" ] || fail "$name: status $s instead of $status: $got"
	case $got in
	*"$wanted"*) ;;
	*) fail "$name: \"$wanted\" is not in \"$got\"" ;;
	esac
}
vm() { ls "$store/vm/"*.json | head -1; }
make() { timeout 60 "$nestor" New-VM "$1" -MemoryStartupBytes 32MB >/dev/null || fail "New-VM $1"; }

fresh; make a; make b; gone
echo '{ "Name"' >"$(vm)"; gone
holds "a file that does not parse" 0 "it was set aside as" "$nestor" Get-VM
holds "the others load" 0 1 "$nestor" '(Get-VM).Count'
gone; : >"$(vm)"
holds "an empty file" 0 "it was set aside as" "$nestor" Get-VM
[ "$(ls "$store/vm/"*.broken | wc -l)" = 2 ] || fail "two files are set aside: $(ls "$store/vm")"

fresh; make a; gone
file=$(vm); rm "$file"; mkdir "$file"
holds "a folder in place of a file" 0 "no regular file" "$nestor" Get-VM
gone; mkfifo "$file"
holds "a FIFO in place of a file" 0 "no regular file" "$nestor" Get-VM
[ "$(ls -d "$store/vm/"*.broken | wc -l)" = 2 ] || fail "what was set aside first stays: $(ls "$store/vm")"

fresh; echo x >"$store"
holds "a file in place of the store" 1 "NESTOR_STORE names another folder" "$nestor" Get-VM
fresh; mkdir "$store"; echo x >"$store/log"
holds "a file in place of the logs" 1 "The folder $store/log cannot be made" "$nestor" Get-VM
fresh; mkdir "$store"; echo x >"$store/vm"
holds "a file in place of the VMs" 1 "The folder $store/vm cannot be made" "$nestor" Get-VM
fresh; mkdir -m 777 "$run"; make a
[ "$(stat -c %a "$run")" = 700 ] || fail "a folder for sockets that others could open stays open"
fresh; mkdir "$run"; echo x >"$run/service"; make a
fresh; mkdir -p "$run/service"
holds "a folder in place of the socket" 1 "The socket $run/service cannot be made" "$nestor" Get-VM
fresh; NESTOR_STORE=relative/store
holds "a store without its full path" 1 'NESTOR_STORE is "relative/store", and must be a full path' "$nestor" Get-VM
fresh; NESTOR_RUNTIME=$folder/$(printf '%0100d' 0)
holds "a folder for sockets with a long name" 1 "name a shorter one with NESTOR_RUNTIME" "$nestor" Get-VM
fresh; NESTOR_STORE=$folder/$(printf '/%0200d%.0s' $(seq 20))
holds "a store with a very long name" 1 "is too long" "$nestor" Get-VM
fresh; unset NESTOR_STORE NESTOR_RUNTIME; XDG_DATA_HOME=$folder/data
if [ "$(id -u)" = 0 ]; then
	# What only another user meets.
	chmod 755 "$folder"
	other="setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR"
	holds "no home" 1 "NESTOR_STORE names another folder" $other -u HOME -u XDG_DATA_HOME "$nestor" Get-VM
	mkdir -m 755 "$store"
	holds "a store of another user" 1 "Permission denied" $other NESTOR_STORE="$store" NESTOR_RUNTIME="$run" "$nestor" Get-VM
	mkdir "$run"
	mkdir -m 777 "$store.own"
	holds "a folder for sockets of another user" 1 "is not a folder of this user's own" \
		$other NESTOR_STORE="$store.own" NESTOR_RUNTIME="$run" "$nestor" Get-VM
fi

# Many first commands at once: one service, and no command without an answer.
fresh
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	timeout 60 "$nestor" New-VM "r$i" -MemoryStartupBytes 32MB >/dev/null 2>>"$folder/race" &
done
wait
[ -s "$folder/race" ] && fail "first commands at once: $(cat "$folder/race")"
holds "first commands at once" 0 12 "$nestor" '(Get-VM).Count'

# Files may not grow: as with a full disk, the change fails and the old state stays.
gone
notes=$(printf '%02000d' 0)
holds "a full disk" 1 "The configuration could not be saved." sh -c "ulimit -f 1; exec \"\$@\"" - "$nestor" Set-VM r1 -Notes "$notes"
holds "removing needs no room" 0 "" "$nestor" Remove-VM r2 -Force
gone
holds "after a full disk" 0 "11
0" "$nestor" '(Get-VM).Count; (Get-VM r1).Notes.Length'

# Names, and what is no name.
fresh
for name in "two words" "it's" '日本 Ü' 'star*' 'a/b' '..' '[abc]' '$(reboot)' '%s%n' ' lead'; do
	make "$name"
	holds "the name $name" 0 "Off" "$nestor" Get-VM -Name "$name"
done
for name in '' "$(printf '%010000d' 0)" 'new
line'; do
	holds "the name $(printf %.20s "$name")" 1 "1 to 100 bytes" "$nestor" New-VM -Name "$name"
done
gone

[ "$failures" = 0 ]
