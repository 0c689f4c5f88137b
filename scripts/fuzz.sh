#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/fuzz.sh [--seconds N] [--target NAME]... [--fresh] DIR
#
# Builds the fuzz targets (tests/fuzz) with clang, libFuzzer and sanitizers in DIR, and
# runs all of them, or those that are named, side by side for N seconds (60). What they
# learn is kept in DIR/inputs/NAME and is where the next run begins; with --fresh they
# begin with the tree's own corpus, and nothing is kept.
#
# Prints TAP, a point for each target, and what of libFuzzer's last line tells how far it
# came: runs, coverage (edges), features. A crash, a leak, a run of more than 20 seconds
# and one that takes more than 2 GiB are failures: then the input is printed, where it
# lies, and how to run it again. Exit status 0 if and only if nothing failed.
set -euo pipefail
cd "$(dirname "$0")/.."

TIMEOUT=20
RSS_MIB=2048

seconds=60 fresh='' targets=()
while [ $# -gt 1 ]; do
	case $1 in
	--seconds) seconds=$2; shift 2 ;;
	--target) targets+=("$2"); shift 2 ;;
	--fresh) fresh=1; shift ;;
	*) break ;;
	esac
done
if [ $# != 1 ] || [[ $1 == -* || ! $seconds =~ ^[1-9][0-9]*$ ]]; then
	echo 'usage: scripts/fuzz.sh [--seconds N] [--target NAME]... [--fresh] DIR' >&2
	exit 125
fi
dir=$1
all=()
for corpus in tests/fuzz/corpus/*/; do
	all+=("$(basename "$corpus")")
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for name in "${targets[@]}"; do
	if [ ! -d "tests/fuzz/corpus/$name" ]; then
		echo "fuzz.sh: there is no target '$name'; there are: ${all[*]}" >&2
		exit 125
	fi
done
mkdir -p "$dir"

# ---- build ---------------------------------------------------------------------------

has_fuzzer()
{
	clang -x c -fsanitize=fuzzer,address,undefined -o "$dir/probe" - \
		2>"$dir/probe.log" <<-END
	int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n)
	{
		return p && n ? 0 : 0;
	}
	END
}

if ! command -v clang >/dev/null; then
	echo 'fuzz.sh: there is no clang: install clang and libclang-rt-dev' >&2
	exit 125
fi
if ! has_fuzzer; then
	sed 's/^/fuzz.sh: /' "$dir/probe.log" >&2
	echo "fuzz.sh: $(clang -dumpversion) of clang has no libFuzzer, or none with" \
		'the address sanitizer: on Debian install libclang-rt-dev' >&2
	exit 125
fi
build=$dir/build
[ -f "$build/build.ninja" ] ||
	CC=clang meson setup "$build" -Dtests=true -Dfuzzer=true -Db_lundef=false \
		-Db_sanitize=address,undefined >"$dir/setup" 2>&1 || {
	cat "$dir/setup" >&2
	rm -rf "$build"
	exit 1
}
ninja -C "$build" "${targets[@]/#/tests/fuzz/fuzz_}" >"$dir/ninja" 2>&1 || {
	tail -n 60 "$dir/ninja" >&2
	exit 1
}

# ---- run -----------------------------------------------------------------------------

export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export UHMM_SANITIZED=1

# Not the way that weighs inputs by the rarity of what they reach: with inputs that reach
# thousands of places each, to keep the weights takes more time than to run the inputs.
fuzz()
{
	local name=$1 inputs=$learnt/$1

	mkdir -p "$inputs"
	exec "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=$TIMEOUT \
		-rss_limit_mb=$RSS_MIB -entropic=0 -max_len=2048 -print_final_stats=1 \
		-artifact_prefix="$dir/found/$name-" \
		"$inputs" "tests/fuzz/corpus/$name" "tests/fuzz/found/$name" \
		>"$dir/$name.log" 2>&1
}

# What somebody needs who has nothing but this text.
show_input()
{
	local name=$1 input=$2

	echo "# input: $input ($(stat -c %s "$input") bytes)"
	echo "# replay: $build/tests/fuzz/fuzz_$name $input"
	echo "# when it is mended: cp $input tests/fuzz/found/$name/"
	echo "# base64: $(base64 -w 0 "$input")"
	od -A x -t x1z -v "$input" | sed 's/^/#   /'
}

# All but how far it has come.
said()
{
	grep -avE '^#[0-9]' "$dir/$1.log" | cut -c 1-200
}

# First what a summary of many tests has room for.
show_failure()
{
	local name=$1 input

	echo "# all of it: $dir/$name.log"
	said "$name" | grep -E '(^# seed|: .*: |ERROR: |^SUMMARY: )' | tail -n 8 |
		sed 's/^/# /' || true
	for input in "$dir/found/$name-"*; do
		[ ! -f "$input" ] || show_input "$name" "$input"
	done
	said "$name" | tail -n 120 | sed 's/^/# /'
}

# The last line that libFuzzer says how far it has come in.
progress()
{
	grep -aE '^#[0-9]+.*cov:' "$dir/$1.log" | tail -n 1 |
		sed -E -e 's/^#([0-9]+)[^c]*cov: ([0-9]+)/\1 runs, coverage \2,/' \
			-e 's/ft: ([0-9]+) corp: ([0-9]+).*/features \1, \2 inputs/'
}

learnt=$dir/inputs
[ -z "$fresh" ] || learnt=$(mktemp -d "$dir/fresh.XXXXXX")
pids=()
# Whoever stops this stops them.
trap 'kill "${pids[@]}" 2>/dev/null || true
	[ -z "$fresh" ] || rm -rf "$learnt"' EXIT
mkdir -p "$dir/found"
for name in "${targets[@]}"; do
	rm -f "$dir/found/$name-"*
	fuzz "$name" &
	pids+=($!)
done

echo "1..${#targets[@]}"
failed=0
for i in "${!targets[@]}"; do
	name=${targets[i]}
	if wait "${pids[i]}"; then
		echo "ok $((i + 1)) - $name"
	else
		failed=1
		echo "not ok $((i + 1)) - $name"
		show_failure "$name"
	fi
	echo "# $name: $(progress "$name")"
done
exit $failed
