# what: a VM's memory with a real hypervisor inside: resized, dynamic, frozen, released; the guest, the host and the cmdlets agree
# budget: 90
# in: default
. "$(dirname "$0")/../memory.sh"

# A guest of the guest's, by KVM, until it is killed.
hypervise() {
	# It waits at a console that nobody types at. Before it runs, Nestor has
	# looked at KVM, and there was a hypervisor for a moment.
	tell "$1" 'mkfifo /hold; nestor run --engine kvm --memory 128M --kernel /images/vmlinuz --initrd /images/l2.cpio --append "console=ttyS0 nokaslr panic=-1 nestor.task=memory" <>/hold >/l2.log 2>&1 & echo $! >/l2.pid; while ! grep -q "Linux version" /l2.log; do sleep 0.2; done'
	until_true 30 hypervisor_is True
}
release() {
	tell "$1" 'kill $(cat /l2.pid)'
	until_true 30 hypervisor_is False
}

# Without Dynamic Memory: another amount while it runs.
static_vm() {
	start
	is "static: all is assigned at first" 512 "$(assigned)"
	tell kvm load_kvm
	ask start show
	before=$available whole=$total
	check "static: 256 MiB more" nestor Set-VMMemory static -StartupBytes 768MB
	check "static: they are assigned" until_true 30 assigned_is 768
	ask more show
	check "static: the guest counts them ($whole, now $total)" between "$total" $((whole + 240)) $((whole + 256))
	ask full fill $((before + 100))
	full=$(resident)
	check "static: it uses more than it was started with: the host has it ($full MiB)" between "$full" 512 900
	ask empty fill 1
	check "static: free pages return to the host" until_true 20 resident_below $((full - 250))
	check "static: less than it was started with" nestor Set-VMMemory static -StartupBytes 320MB
	check "static: it is assigned" until_true 60 assigned_is 320
	ask less show
	check "static: the guest has that less ($before, now $available)" between "$available" $((before - 215)) $((before - 165))
	matches "static: not less than it uses" "*The guest uses * MB of its memory*" "$(nestor Set-VMMemory static -StartupBytes 64MB 2>&1)"
	is "static: the setting is as it was" $((320 * mib)) "$(nestor '(Get-VMMemory static).Startup')"
	check "static: what it was started with" nestor Set-VMMemory static -StartupBytes 512MB
	check "static: it is assigned again" until_true 30 assigned_is 512

	check "static: a hypervisor starts inside" hypervise l2
	answer=$(nestor Set-VMMemory static -StartupBytes 640MB 2>&1)
	matches "static: the resize fails with Hyper-V's sentence" \
		"*Failed to modify device 'Memory'*it is not allowed with nested virtualization active.*" "$answer"
	matches "static: and with the reason" "*Reason: A hypervisor runs inside static*" "$answer"
	matches "static: and the way out" "*Try: End the hypervisor inside static*" "$answer"
	is "static: nothing has changed" "512 $((512 * mib))" "$(assigned) $(nestor '(Get-VMMemory static).Startup')"
	check "static: the hypervisor ends" release stop
	check "static: the resize works at once" nestor Set-VMMemory static -StartupBytes 640MB
	check "static: and is assigned" until_true 30 assigned_is 640
	end
}

# With Dynamic Memory: by its demand.
dynamic_vm() {
	check "dynamic: Dynamic Memory for the VM that is off" nestor \
		'Set-VMMemory dynamic -DynamicMemoryEnabled $true -MinimumBytes 256MB -StartupBytes 512MB -MaximumBytes 1GB'
	start
	tell kvm load_kvm
	ask start show
	check "dynamic: no more RAM than Startup at first ($total MiB)" between "$total" 400 512
	check "dynamic: at rest it has its minimum, with KVM loaded" until_true 30 assigned_is 256
	ask full fill 480
	check "dynamic: under load more than Startup" until_true 20 assigned_above 560
	full=$(resident)
	check "dynamic: the demand is seen" until_true 10 demand_above 500
	check "dynamic: and is met" until_true 10 is_met
	ask empty fill 1
	check "dynamic: it falls with the load" until_true 40 assigned_below 320
	check "dynamic: the memory returns to the host ($full MiB)" until_true 20 resident_below $((full - 250))

	check "dynamic: a hypervisor starts inside" hypervise l2
	check "dynamic: Startup is there for it" until_true 10 assigned_above 511
	frozen=$(assigned)
	ask work fill 160
	check "dynamic: the demand rises" until_true 10 demand_above 250
	ask rest fill 1
	seen=
	for i in 1 2 3 4 5 6; do
		seen="$seen $(assigned)"
		sleep 0.5
	done
	is "dynamic: the amount stands still" " $frozen $frozen $frozen $frozen $frozen $frozen" "$seen"
	check "dynamic: the hypervisor ends" release stop
	check "dynamic: the amount follows the demand again" until_true 20 assigned_below 512
	end
}

create static dynamic
both static dynamic
