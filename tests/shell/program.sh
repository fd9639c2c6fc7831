#!/bin/sh
# program.sh NESTOR: the program as it is called from a Unix shell, with a service
# and a store of its own: words, texts, files, standard input, exit statuses.
nestor=$(realpath "$1")
folder=$(mktemp -d /tmp/nestor-program.XXXXXX) || exit 1
NESTOR_STORE=$folder/store NESTOR_IDLE_SECONDS=1 TZ=UTC
export NESTOR_STORE NESTOR_IDLE_SECONDS TZ
unset NESTOR_RUNTIME
failures=0
trap 'rm -rf "$folder"' EXIT

# is CASE STATUS OUTPUT COMMAND...: both streams, exactly.
is() {
	name=$1 status=$2 wanted=$3
	shift 3
	got=$(timeout 60 "$@" 2>&1)
	s=$?
	[ "$s" = "$status" ] && [ "$got" = "$wanted" ] && return
	echo "$name: wanted status $status and \"$wanted\", got status $s and \"$got\""
	failures=$((failures + 1))
}
table='
Name State
---- -----
lab  Off'

"$nestor" New-VM -Name lab -MemoryStartupBytes 64MB >/dev/null || exit 1
is "a text" 0 "$table" "$nestor" 'Get-VM | Format-Table Name, State'
is "-Command" 0 "$table" "$nestor" -NoProfile -Command Get-VM lab '|' ft Name, State
is "a Boolean that the Unix shell ate" 1 "Set-VMProcessor : Missing an argument for parameter 'ExposeVirtualizationExtensions'. Specify a parameter of type 'Boolean' and try again.
Reason: A Unix shell replaces an unquoted \$true or \$false by nothing before Nestor sees it. Here true and false do; so does '\$true'.
Try: nestor Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions true" \
	"$nestor" Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions
is "the line it was answered with" 0 "" "$nestor" Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions true
is "what it changed" 0 "True" "$nestor" '(Get-VMProcessor lab).ExposeVirtualizationExtensions'
is "a placeholder" 1 "Set-VMProcessor : Cannot bind parameter 'VMName': \"<VMName>\" is a placeholder.
Reason: <VMName> stands for a name of your own. The virtual machines here: lab.
Try: Set-VMProcessor -VMName lab -ExposeVirtualizationExtensions \$false" \
	"$nestor" 'Set-VMProcessor -VMName <VMName> -ExposeVirtualizationExtensions $false'
is "an unknown machine" 1 "Get-VM : Hyper-V was unable to find a virtual machine with name \"nope\".
Reason: The store $NESTOR_STORE has these: lab.
Try: Get-VM" "$nestor" Get-VM nope
is "an error that is not shown" 0 "" "$nestor" Get-VM nope -ErrorAction SilentlyContinue
is "a question without a terminal" 1 "Remove-VM : The command asks for confirmation, and there is no terminal to answer it.
Try: -Force, or -Confirm:false" "$nestor" Remove-VM lab
is "exit" 7 "" "$nestor" 'exit 7'
is "a syntax error" 1 "At line:1 char:8
+ Get-VM |
+        ~
Nothing follows this |: a pipeline needs a cmdlet there." "$nestor" 'Get-VM |'

printf '\357\273\277"$($args.Count) $($args[1])"\r\n(Get-VM $args[0]).Name\r\n' >"$folder/bom.ps1"
is "a file with arguments, a byte order mark and Windows' line ends" 0 "2 b c
lab" "$nestor" -File "$folder/bom.ps1" lab 'b c'
printf '\377\376(\0G\0e\0t\0-\0V\0M\0)\0.\0N\0a\0m\0e\0\r\0\n\0' >"$folder/utf16.ps1"
is "a file in UTF-16" 0 "lab" "$nestor" -File "$folder/utf16.ps1"
is "a file that is not there" 1 "nestor: The file $folder/no.ps1 cannot be read: No such file or directory." \
	"$nestor" -File "$folder/no.ps1"
printf 'Get-VM nope\n"on it goes"\n' >"$folder/error.ps1"
is "standard input goes on after an error, and ends with 1" 1 "Get-VM : Hyper-V was unable to find a virtual machine with name \"nope\".
Reason: The store $NESTOR_STORE has these: lab.
Try: Get-VM
on it goes" sh -c '"$0" <"$1"' "$nestor" "$folder/error.ps1"
(cd "$folder" && "$nestor" 'Get-VM | ft Name, State > machines.txt') || failures=$((failures + 1))
is "redirection to a file" 0 "$table" cat "$folder/machines.txt"
error='Get-VM : Hyper-V was unable to find a virtual machine with name "nope".
Reason: The store '"$NESTOR_STORE"' has these: lab.
Try: Get-VM'
(cd "$folder" && "$nestor" 'Get-VM nope 2> errors.txt; Get-VM nope 2>> errors.txt; (Get-VM lab, nope).Name *> all.txt')
is "errors in a file, and more behind them" 0 "$error
$error" cat "$folder/errors.txt"
is "everything in a file" 0 "lab
$error" cat "$folder/all.txt"
(cd "$folder" && "$nestor" 'Get-VM lab, nope | ft Name *>&1 > shown.txt; Get-VM nope > both.txt 2>&1' 2>shown2.txt)
is "a later stage's redirection leaves an earlier one's errors alone" 0 "$error" cat "$folder/shown2.txt"
is "errors and output in one file" 0 "$error" cat "$folder/both.txt"
(cd "$folder" && "$nestor" New-VHD ./disk.img 1MB >/dev/null) || failures=$((failures + 1))
is "a relative path is the caller's" 0 "1048576" stat -c %s "$folder/disk.img"
is "a role's name near by" 64 "nestor: There is no role \"rum\"; did you mean \`nestor run\`?" "$nestor" rum
is "removal" 0 "" "$nestor" Remove-VM lab -Force
is "nothing is left" 0 "" "$nestor" Get-VM

[ "$failures" = 0 ]
