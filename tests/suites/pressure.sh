# what: two VMs with Dynamic Memory on a host that has too little for both: the higher priority is served first
# budget: 120
# in: all
. "$(dirname "$0")/../memory.sh"

# The host keeps a part for itself: 128 MiB of this.
export NESTOR_HOST_MEMORY=$((1700 * mib))
for_both=$((1700 - 128))

status_is() { [ "$(vm MemoryStatus)" = "$1" ]; }
# once FILE: the other shell has come so far.
once() { until_true 60 [ -e "$folder/at-$1" ]; }
reached() { : >"$folder/at-$1"; }
others() { echo $(($(nestor "(Get-VM $1).MemoryAssigned") / mib)); }

# It comes first and has all that it wants, until the other needs it.
low_vm() {
	start
	ask alone fill 650
	until_true 20 demand_above 700
	check "low: alone it has its demand and the buffer" until_true 40 status_is OK
	alone=$(assigned)
	check "low: that is more than its share ($alone MiB)" [ "$alone" -gt 850 ]
	reached low-full
	once high-full
	now=$(assigned)
	check "low: it has lent some of its buffer ($alone, now $now MiB)" [ "$now" -lt $((alone - 20)) ]
	check "low: but nothing of what it uses ($(demand) MiB)" [ "$now" -ge $(($(demand) - 2)) ]
	check "low: Get-VM says so" status_is Low
	check "low: both have together what the host gives" \
		[ $((now + $(others high))) -le $((for_both + 4)) ]
	reached low-seen
	check "low: it has it back when the other needs it no more" until_true 60 status_is OK
	end
}

high_vm() {
	start
	once low-full
	ask full fill 480
	until_true 20 demand_above 500
	check "high: it has its demand and the buffer" until_true 60 status_is OK
	check "high: more than Startup" assigned_above 600
	reached high-full
	once low-seen
	ask empty fill 1
	end
}

create low high
nestor 'Set-VMMemory low, high -DynamicMemoryEnabled $true -MinimumBytes 256MB -MaximumBytes 1400MB'
nestor Set-VMMemory low -Priority 20
nestor Set-VMMemory high -Priority 80
both low high
