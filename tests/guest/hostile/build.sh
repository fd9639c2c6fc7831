#!/bin/sh
# build.sh OUTPUT-FOLDER: hostile32.elf and hostile64.elf.
here=$(cd "$(dirname "$0")" && pwd)
for bits in 32 64; do
	sh "$here/../build.sh" $bits "$1/hostile$bits.elf" "$here/.." "$here"/*.[cS] || exit 1
done
