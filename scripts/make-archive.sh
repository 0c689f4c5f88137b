#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# scripts/make-archive.sh CC... -- OUTPUT TMPDIR ARCHIVE...
#
# Joins archives to one of a single object whose hidden symbols are local. The build
# calls it for libuhmm.a.
set -eu
cc=
while [ "$1" != -- ]; do
	cc="$cc $1"
	shift
done
output=$2 tmp=$3
shift 3
mkdir -p "$tmp"
# shellcheck disable=SC2086 # a command with its arguments
$cc -nostdlib -r -o "$tmp/all.o" -Wl,--whole-archive "$@" -Wl,--no-whole-archive
objcopy --localize-hidden "$tmp/all.o"
rm -f "$output"
ar rcs "$output" "$tmp/all.o"
rm "$tmp/all.o"
