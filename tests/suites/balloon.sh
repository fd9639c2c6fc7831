# what: memory balloon of a Debian guest on the soft engine: the guest, the host and the service agree
# budget: 50
# in: default
. "$(dirname "$0")/../lib.sh"

folder=$(mktemp -d) || exit 1
export NESTOR_STORE=$folder/store NESTOR_ENGINE=soft NESTOR_IDLE_SECONDS=5
log=$OUT/balloon.log
: >"$log"
mkfifo "$folder/console"
nestor() { timeout 30 "$NESTOR" "$@"; }
leave() {
	nestor Stop-VM lab -TurnOff >/dev/null 2>&1
	exec 3>&-
	rm -rf "$folder"
}
trap leave EXIT
trap 'exit 1' TERM INT

# Host memory of the worker in MiB.
resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$worker/status"; }
# until SECONDS COMMAND...
until_true() {
	tries=$(($1 * 2))
	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.5
	done
}
said() { grep -q "\[L1\] $1:" "$log"; }
# ask TAG COMMAND...: total=, available= and free= of the guest's answer, in MiB.
ask() {
	tag=$1
	shift
	echo "$* $tag" >&3
	until_true 20 said "show $tag"
	echo "guest, $tag: $(sed -n "s/.*\[L1\] show $tag: //p" "$log"); worker: $(resident)"
	total= available= free=
	eval "$(sed -n "s/.*\[L1\] show $tag: \([a-z0-9= ]*\).*/\1/p" "$log" | tr -d '\r')"
}
assigned() { nestor '(Get-VM lab).MemoryAssigned'; }
is_off() { [ "$(nestor '(Get-VM lab).State')" = Off ]; }
assigned_is() { [ "$(assigned)" = "$1" ]; }
resident_below() { [ "$(resident)" -lt "$1" ]; }
between() { [ -n "$1" ] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }
mib=1048576

nestor New-VM lab -MemoryStartupBytes 512MB >/dev/null
nestor "Set-VMFirmware lab -KernelPath '$IMAGES/vmlinuz' -InitialRamdiskPath '$IMAGES/l2.cpio' -KernelCommandLine 'console=ttyS0 nokaslr panic=-1 cryptomgr.notests nestor.level=L1 nestor.task=memory'"
check "the VM starts" nestor Start-VM lab
worker=$(nestor '(Get-VM lab).ProcessId')
timeout 85 "$NESTOR" Connect-VMConsole lab <"$folder/console" >"$log" 2>&1 &
exec 3>"$folder/console"
check "the guest's driver is loaded" until_true 40 said memory
is "all is assigned at first" $((512 * mib)) "$(assigned)"

# What programs use takes up the host's memory; reported free, it comes back.
ask start show
before=$available whole=$total
ask filled fill 300
full=$(resident)
check "300 MiB in use: the host has them ($full MiB)" between "$full" 300 700
ask emptied fill 1
check "free pages return to the host" until_true 20 resident_below $((full - 200))

# Down: what the guest can have, and what the host gives.
check "256 MiB less" nestor Set-VMMemory lab -StartupBytes 256MB
check "it is assigned" until_true 20 assigned_is $((256 * mib))
ask down show
check "the guest has less available ($before, now $available)" \
	between "$available" $((before - 272)) $((before - 240))
# The driver may take pages back when memory runs out, so Linux goes on counting them.
is "what the guest counts as its memory" "$whole" "$total"
ask fits fill 120
check "the rest of it is used as before" between "$available" 1 $((before - 256 - 100))
check "and is all that the host gives ($(resident) MiB)" resident_below $((full - 100))

# And up again.
check "256 MiB more" nestor Set-VMMemory lab -StartupBytes 512MB
check "it is assigned again" until_true 20 assigned_is $((512 * mib))
ask again fill 300
check "the guest has them" between "$available" $((before - 330)) $((before - 290))
check "the host gives them" between "$(resident)" 300 700
healthy "guest"
echo end >&3
check "it powers off" until_true 20 is_off
