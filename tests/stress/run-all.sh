#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run-all.sh [OPTION VALUE]...: every scenario, one line each, and a sum.
# Options are those of run-one.sh; --only "NAME NAME..." chooses.
here=$(dirname "$0")
only=
for file in "$here"/scenario/*.sh; do
	name=$(basename "$file" .sh)
	[ "$name" = stress-each ] || only="$only $name"
done
if [ "$1" = --only ]; then
	only=$2
	shift 2
fi
passed=0 failed=0 skipped=0
for name in $only; do
	"$here/run-one.sh" "$name" "$@"
	case $? in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	2) exit 2 ;;
	*) failed=$((failed + 1)) ;;
	esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
