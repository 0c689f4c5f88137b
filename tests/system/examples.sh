#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The examples, which look themselves at what came of it: TAP out.
#
# usage: examples.sh PROGRAM...
set -uo pipefail

# They map memory without a gap to what a sanitizer of the library has, and with that its
# threads would wait for themselves.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_stack_use_after_return=0

failed=0 number=0
echo "TAP version 13"
echo "1..$#"
for program; do
	number=$((number + 1))
	name=$(basename "$program")
	if [ "${UHMM_SANITIZED:-0} $name" = "1 budget" ]; then
		echo "ok $number - $name # SKIP the sanitizer alone takes its budget"
		continue
	fi
	out=$(timeout $((60 * ${TEST_TIMEOUT_FACTOR:-1})) "$program" 2>&1)
	status=$?
	# shellcheck disable=SC2001 # each line
	sed 's/^/# /' <<<"$out"
	case $status in
	0) echo "ok $number - $name" ;;
	77) echo "ok $number - $name # SKIP $(tail -n 1 <<<"$out")" ;;
	*)
		failed=1
		echo "not ok $number - $name: status $status"
		;;
	esac
done
exit "$failed"
