#!/bin/sh
# docs/run.md shows what `nestor run --help` prints: NESTOR DOCUMENT
"$1" run --help >"${TMPDIR:-/tmp}/help.$$" &&
	sed -n '/^```text/,/^```$/p' "$2" | sed '1d;$d' | diff "${TMPDIR:-/tmp}/help.$$" -
status=$?
rm -f "${TMPDIR:-/tmp}/help.$$"
exit $status
