#!/bin/sh
# service.sh NESTOR TRANSCRIPT FILE...: transcripts against a real service, with a
# store of its own for each file, and without any privilege, even root's. With
# UPDATE=-u what does not fit is written anew.
nestor=$(realpath "$1") transcript=$(realpath "$2")
shift 2
folder=$(mktemp -d /tmp/nestor-transcript.XXXXXX) || exit 1
trap 'rm -rf "$folder"' EXIT
NESTOR_EXECUTABLE=$nestor NESTOR_IDLE_SECONDS=1 NESTOR_ENGINE=soft TZ=UTC LC_ALL=C.UTF-8
export NESTOR_EXECUTABLE NESTOR_IDLE_SECONDS NESTOR_ENGINE NESTOR_STORE TZ LC_ALL
unset NESTOR_RUNTIME
own=
[ "$(id -u)" != 0 ] || own="setpriv --bounding-set -all --inh-caps -all"
failures=0
here=$PWD
cd "$folder" || exit 1
for file in "$@"; do
	case $file in /*) ;; *) file=$here/$file ;; esac
	NESTOR_STORE=$folder/$(basename "$file" .txt)
	$own timeout 60 "$transcript" $UPDATE -s "$file" || failures=$((failures + 1))
done
[ $failures = 0 ]
