#!/bin/sh
# build.sh BITS OUTPUT INCLUDE SOURCE...: one guest as a multiboot ELF file.
# 64-bit code goes into a 32-bit ELF container, which is what multiboot 1 knows.
set -e
bits=$1 output=$2 include=$3
shift 3
gcc -m"$bits" -std=gnu11 -O1 -g0 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-main \
	-ffreestanding -fno-builtin -nostdlib -static -fno-pic -no-pie -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing \
	-fno-omit-frame-pointer -fno-toplevel-reorder -mgeneral-regs-only -mno-red-zone \
	-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments \
	-I"$include" -T "$include/rt/guest.ld" -o "$output.tmp" "$@"
if [ "$bits" = 64 ]; then
	objcopy -O elf32-i386 "$output.tmp" "$output"
	rm "$output.tmp"
else
	mv "$output.tmp" "$output"
fi
