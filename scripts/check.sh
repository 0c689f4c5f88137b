#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/check.sh [--only BUILD]... [--soak SECONDS | --torture SECONDS | --verify |
#	--programs | --judges] DIR
#
# Builds uhmm with every compiler and sanitizer in a directory of its own under DIR and
# runs the tests in each. The last line is the sum over all of them, alone on its line:
#
#	N passed, N failed, N skipped
#
# Exit status 0 if and only if nothing failed. A build that does not compile, a test
# program that crashes and one that runs fewer tests than it announced each count as a
# failure. What was skipped is listed with the reason that the test gave.
#
# On a machine that is three times slower than others or more (tests/pace.h) the check of
# all would take hours. There it leaves out what other tests do as well: suites device and
# system with clang, which ThreadSanitizer's build is made with too; suite sim with clang
# and ThreadSanitizer; of real programs those ways to run them that another includes. Each
# test that was left out is told as skipped.
# CHECK_ALL=1 in the environment: none is.
#
# --soak runs the seeded and the stress tests, each for SECONDS (TEST_SECONDS in their
# environment); --torture tests/stress/torture.py for SECONDS; --verify
# tests/stress/verify.py, with faults resolved in each way; --programs the real
# programs at half of the memory they need, in full; --judges the tests that other
# programs bring along (tests/judges), in full.
set -euo pipefail
cd "$(dirname "$0")/.."

usage()
{
	cat >&2 <<-END
	usage: scripts/check.sh [--only BUILD]... [--soak SECONDS | --torture SECONDS |
	                        --verify | --programs | --judges] DIR
	END
	exit 2
}

mode=check only=" "
while [ $# -gt 1 ]; do
	case $1 in
	--soak) mode=soak; export TEST_SECONDS=$2; shift 2 ;;
	--torture) mode=torture seconds=$2; shift 2 ;;
	--verify) mode=verify; shift ;;
	--programs) mode=programs; export TEST_FULL=1; shift ;;
	--judges) mode=judges; shift ;;
	--only) only="$only$2 "; shift 2 ;;
	*) usage ;;
	esac
done
[ $# = 1 ] || usage
dir=$1
mkdir -p "$dir"
results=$dir/results
rm -rf "$results"
mkdir "$results"
pace=
# What tests fetch is fetched once for all builds.
UHMM_CACHE=$(cd "$dir" && pwd)/cache
export UHMM_CACHE
# Two at a time even on one processor: tests that wait should not wait for each other.
jobs=$(nproc)
[ "$jobs" -ge 2 ] || jobs=2

wanted()
{
	[ "$only" = " " ] || [[ $only == *" $1 "* ]]
}

broken()
{
	echo "FAILED: $1" >&2
	# A line like those of meson's log: scripts/tap-sum.py counts it as a failure.
	printf '{"name": "%s", "result": "ERROR", "stdout": ""}\n' "$1" \
		>"$results/$1.json"
}

# build NAME COMPILER [MESON OPTION]...
build()
{
	local name=$1 cc=$2

	shift 2
	echo "== $name: build" >&2
	if [ ! -f "$dir/$name/build.ninja" ]; then
		rm -rf "${dir:?}/$name"
		CC=$cc meson setup "$dir/$name" -Dtests=true "$@" \
			>"$results/$name.setup" 2>&1 || {
			cat "$results/$name.setup" >&2
			broken "$name-setup"
			return 1
		}
	fi
	ninja -C "$dir/$name" -j "$jobs" >"$results/$name.ninja" 2>&1 || {
		tail -n 60 "$results/$name.ninja" >&2
		broken "$name-build"
		return 1
	}
	measure_pace "$name"
}

# run NAME BUILD SUITES [MESON TEST OPTION]...
run()
{
	local name=$1 build=$2 suites=() suite logs log start=$SECONDS

	for suite in $3; do
		suites+=(--suite "$suite")
	done
	shift 3
	logs=$dir/$build/meson-logs
	rm -f "$logs"/*.json
	meson test -C "$dir/$build" --no-rebuild --num-processes "$jobs" \
		--timeout-multiplier "$pace" \
		--logbase "$name" "${suites[@]}" "$@" >"$results/$name.log" 2>&1 || true
	# Meson adds the wrapper's name to that of the log.
	for log in "$logs/$name.json" "$logs/$name"-*.json; do
		[ ! -f "$log" ] || mv "$log" "$results/$name.json"
	done
	if [ ! -f "$results/$name.json" ]; then
		cat "$results/$name.log" >&2
		broken "$name"
		return
	fi
	echo "== $name: $(scripts/tap-sum.py "$results/$name.json" | tail -n 1)" \
		"($((SECONDS - start)) s)" >&2
}

# How many times slower this machine is than others: once, for all tests.
measure_pace()
{
	[ -z "$pace" ] || return 0
	if ! pace=$("$dir/$1/tests/stress/pace"); then
		broken "$1-pace"
		return 1
	fi
	export TEST_PACE=$pace
	[ "$pace" = 1 ] || echo "== a slow machine: limits are $pace times longer" >&2
}

slow()
{
	[ "$pace" -ge 3 ] && [ -z "${CHECK_ALL:-}" ]
}

# left_out NAME BUILD SUITE...: these are not run, and each is told as skipped.
left_out()
{
	local name=$1 build=$2 suites=() suite

	shift 2
	for suite; do
		suites+=(--suite "$suite")
	done
	meson test -C "$dir/$build" --no-rebuild --list "${suites[@]}" 2>/dev/null |
		python3 -c '
import json, sys
why = "this machine is slow: CHECK_ALL=1 make check runs it"
for line in sys.stdin:
    name = line.split(" / ")[-1].strip()
    print(json.dumps({"name": name, "result": "SKIP",
                      "stdout": "1..1\nok 1 - all # SKIP %s\n" % why}))
' >"$results/$name.json"
	[ -s "$results/$name.json" ] || broken "$name"
}

# fuzz SECONDS: scripts/fuzz.sh, as a test program whose points are targets.
fuzz()
{
	local status=0 start=$SECONDS

	echo "== fuzz: build" >&2
	scripts/fuzz.sh --seconds "$1" --fresh "$dir/fuzz" >"$results/fuzz.tap" \
		2>"$results/fuzz.log" || status=$?
	cat "$results/fuzz.log" >&2
	python3 - "$status" "$results/fuzz.tap" "$results/fuzz.log" \
		>"$results/fuzz.json" <<-'END'
	import json, sys
	tap, log = (open(name, errors="replace").read() for name in sys.argv[2:])
	print(json.dumps({"name": "fuzz", "stdout": tap, "stderr": log,
	                  "result": "OK" if sys.argv[1] == "0" else "ERROR"}))
	END
	echo "== fuzz: $(scripts/tap-sum.py "$results/fuzz.json" | tail -n 1)" \
		"($((SECONDS - start)) s)" >&2
}

# Fails on memory errors and on memory that nothing points to any more.
valgrind="valgrind -q --error-exitcode=99 --leak-check=full
	--errors-for-leak-kinds=definite"
werror=-Dwerror=true
# Not here: what gcc inserts for the sanitizers it then warns about.
asan="-Db_sanitize=address,undefined -Db_lundef=false"
tsan="-Db_sanitize=thread -Db_lundef=false"

case $mode in
check)
	# shellcheck disable=SC2086 # options on purpose
	{
		if wanted gcc && build gcc gcc $werror; then
			run gcc gcc "lint unit device sim fuzz system dmirror install"
			if slow; then
				run gcc-stress gcc stress --no-suite again
				left_out gcc-left gcc again
			else
				run gcc-stress gcc stress
			fi
		fi
		if wanted clang && build clang clang $werror; then
			if slow; then
				run clang clang "unit fuzz dmirror"
				left_out clang-left clang device sim system
			else
				run clang clang "unit device sim fuzz system dmirror"
			fi
		fi
		if wanted asan && build asan gcc $asan; then
			run asan asan "unit device sim fuzz system dmirror"
		fi
		if wanted tsan && build tsan clang $tsan; then
			if slow; then
				run tsan tsan "unit device system dmirror"
				left_out tsan-left tsan sim
			else
				run tsan tsan "unit device sim system dmirror"
			fi
		fi
		if wanted fuzz; then
			fuzz 60
		fi
		if wanted valgrind && build gcc gcc $werror; then
			TEST_TIMEOUT_FACTOR=10 run valgrind gcc unit --wrapper "$valgrind"
		fi
	}
	;;
soak)
	# shellcheck disable=SC2086
	{
		if wanted gcc && build gcc gcc $werror; then
			run gcc gcc "sim stress" --timeout-multiplier 0
		fi
		if wanted asan && build asan gcc $asan; then
			run asan asan "sim stress" --timeout-multiplier 0
		fi
		if wanted tsan && build tsan clang $tsan; then
			run tsan tsan "sim stress" --timeout-multiplier 0
		fi
	}
	;;
torture)
	# shellcheck disable=SC2086
	build gcc gcc $werror &&
		exec tests/stress/torture.py --seconds "$seconds" "$dir/gcc"
	exit 1
	;;
verify)
	# shellcheck disable=SC2086
	build gcc gcc $werror && exec tests/stress/verify.py "$dir/gcc"
	exit 1
	;;
programs)
	# shellcheck disable=SC2086
	if build gcc gcc $werror; then
		run programs gcc programs --timeout-multiplier 0
	fi
	;;
judges)
	# shellcheck disable=SC2086
	if build gcc gcc $werror; then
		run judges gcc judges --timeout-multiplier 0
	fi
	;;
esac

exec scripts/tap-sum.py "$results"/*.json
