#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# scripts/format.sh [FILE...]: formats the C files given, or all of them, in place.
# clang-format 14 is what .clang-format was written for; others disagree in places.
set -eu
cd "$(dirname "$0")/.."
format=clang-format-14
command -v "$format" >/dev/null 2>&1 || format=clang-format
if [ $# -eq 0 ]; then
	find bench cmd compat devices examples include lib preload tests \
		-name '*.[ch]' 2>/dev/null | sort | xargs "$format" -i
else
	"$format" -i "$@"
fi
