#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/coverage.sh [--uncovered] [--report] DIR [FILE...]
#
# What of lib/ do the tests execute? Builds in DIR with counters, runs the tests that are
# about the library, and prints a table: lines and branches, of each file and in all.
# --uncovered adds what nothing executed; FILE names parts of paths, to look at those
# alone. --report runs nothing: it looks at what was counted before.
#
# Exit status 0 if all tests passed and the sums are what CONTRIBUTING.md asks for.
#
# Two builds, for two kinds of counters: tests/sim has one thread and takes the cheap
# ones, all else has threads and takes atomic ones.
set -euo pipefail
cd "$(dirname "$0")/.."

LINES=95 BRANCHES=85
# Where in the first hundreds of seeds most is executed that ever is.
SEEDS=2000
# Programs under `uhmm run`: forks, threads, discarded and locked memory.
SCENARIOS=(churn ends grow jit lazyfree lockall threads unmaps)

run=1 table=()
while [ $# -gt 0 ]; do
	case $1 in
	--uncovered) table+=("$1"); shift ;;
	--report) run=; shift ;;
	-*) set --; break ;;
	*) break ;;
	esac
done
if [ $# = 0 ]; then
	echo 'usage: scripts/coverage.sh [--uncovered] [--report] DIR [FILE...]' >&2
	exit 125
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
jobs=$(nproc)
[ "$jobs" -ge 2 ] || jobs=2
# Not optimized, and counting: three times slower, at least.
export TEST_TIMEOUT_FACTOR=4 UHMM_CACHE=$dir/cache
failed=

# build NAME TARGET...
build()
{
	local name=$1

	shift
	[ -f "$dir/$name/build.ninja" ] ||
		CC=gcc meson setup "$dir/$name" -Dtests=true -Dcoverage="$name" \
			>"$dir/$name.setup" 2>&1 || {
		cat "$dir/$name.setup" >&2
		exit 1
	}
	ninja -C "$dir/$name" -j "$jobs" "$@" >"$dir/$name.ninja" 2>&1 || {
		tail -n 60 "$dir/$name.ninja" >&2
		exit 1
	}
	# They are there, and anybody's: a test that has become another user counts too,
	# and libgcov would say on its stderr that it may not.
	find "$dir/$name" -name '*.gcno' | sed 's/gcno$/gcda/' |
		while read -r counters; do
			: >"$counters"
			chmod 666 "$counters"
		done
}

# run NAME COMMAND...
run()
{
	local name=$1 start=$SECONDS

	shift
	"$@" >"$dir/$name.log" 2>&1 || {
		failed="$failed $name"
		grep -E '^not ok| FAIL | ERROR | TIMEOUT ' "$dir/$name.log" >&2 || true
	}
	echo "# $name: $((SECONDS - start)) s" >&2
}

if [ "$run" ]; then
	build single tests/sim/test_sim tests/sim/test_sweep
	build atomic
	sim=$dir/single/tests/sim
	run sim "$sim/test_sim" --count "$SEEDS" --jobs "$jobs"
	run sweep "$sim/test_sweep"
	run suites meson test -C "$dir/atomic" --no-rebuild --num-processes "$jobs" \
		--suite unit --suite device --suite system --suite dmirror
	run run meson test -C "$dir/atomic" --no-rebuild "${SCENARIOS[@]/#/stress-}"
fi

# A few files are looked at, and not judged.
[ $# != 0 ] || table+=(--at-least "$LINES" "$BRANCHES")
scripts/coverage-table.py "${table[@]}" "$dir" "$@" || failed="$failed coverage"
[ -z "$failed" ] || {
	echo "failed:$failed; see $dir/*.log" >&2
	exit 1
}
