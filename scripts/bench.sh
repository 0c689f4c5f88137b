#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/bench.sh BUILD: what uhmm costs, and what others cost beside it.
#
# In parts; PARTS says which, by default all:
#
#   micro     the library by itself: bench-latency, -fault, -floor, -migrate. Minutes
#   access    pages of a region that does not fit, side by side with zram and a swap file
#             at equal memory (bench/side.py). A case takes ROUNDS times a minute and a
#             half, that of 4 GiB ten times as long
#   programs  whole programs, likewise (bench/programs.py): ROUNDS times half an hour
#   scale     what becomes of costs when something grows (bench/scale.py): ROUNDS times a
#             quarter of an hour
#   policy    how well what is cold is chosen (bench/policy/run.py). Some seconds
#
# What cannot be run here is said, and left out: zram and the swap file need root, and no
# other swap in use. A part that fails does not keep the others from their turn; the exit
# status is 1 then. An interrupted bench takes down what it has set up, and writes what it
# has measured.
#
# ROUNDS: 5. CASES: those of bench/side.py, in its words ("512:50:2.5:1 512:75:2.5:1").
# PROGRAMS: names of bench/programs.py ("sort graph"). PERCENTS: of their peak
# ("75 50 30"). OUT: BUILD/bench. There: machine.txt, micro.txt, policy.md, and of access,
# programs and scale a .json, a .md and a .svg each.
set -euo pipefail

build=${1:?usage: bench.sh BUILD}
: "${ROUNDS:=5}" "${CASES:=}" "${PROGRAMS:=}" "${PERCENTS:=}" "${OUT:=$build/bench}"
: "${PARTS:=micro access programs scale policy}"
export LC_ALL=C
cd "$(dirname "$0")/.."
mkdir -p "$OUT"
failed=

describe()
{
	echo "# $(uname -sr), $(nproc) processors, $(date +%Y-%m-%d)"
	sed -n 's/^model name[^:]*: /# /p' /proc/cpuinfo | sort -u
	grep -E '^(MemTotal|MemAvailable|SwapTotal):' /proc/meminfo | sed 's/^/# /'
	echo "# load $(cut -d' ' -f1-3 /proc/loadavg)"
	echo "# huge pages: $(cat /sys/kernel/mm/transparent_hugepage/enabled || true)"
	echo "# uhmm $("$build/uhmm" --version)"
}

# What will be missing, before anything takes hours.
warn()
{
	[ "$(id -u)" -eq 0 ] || echo "bench: not root: no zram and no swap file"
	[ -d /sys/class/zram-control ] ||
		echo "bench: no zram in this kernel (modprobe zram): it is left out"
	[ "$(wc -l </proc/swaps)" -le 1 ] ||
		echo "bench: swap is in use (swapoff -a): no zram and no swap file"
	command -v redis-server redis-check-rdb >/dev/null ||
		echo "bench: no redis: its programs are left out"
}

micro()
{
	local name

	{
		echo "# $(uname -sr), $(nproc) processors, $(date +%Y-%m-%d)"
		for name in latency fault floor migrate; do
			printf '\n$ bench-%s\n' "$name"
			# One that this machine refuses does not keep the others back.
			"$build/bench/bench-$name" 2>&1 ||
				echo "bench-$name: exit status $?"
		done
	} | tee "$OUT/micro.txt"
}

access()
{
	local options=() case

	for case in $CASES; do
		options+=(--case "$case")
	done
	python3 bench/side.py --rounds "$ROUNDS" "${options[@]}" --out "$OUT" "$build"
}

programs()
{
	# shellcheck disable=SC2086 # words on purpose
	python3 bench/programs.py --rounds "$ROUNDS" ${PROGRAMS:+--program $PROGRAMS} \
		${PERCENTS:+--percent $PERCENTS} --out "$OUT" "$build"
}

scale()
{
	python3 bench/scale.py --rounds "$ROUNDS" --out "$OUT" "$build"
}

policy()
{
	python3 bench/policy/run.py | tee "$OUT/policy.md"
}

for part in $PARTS; do
	case $part in
	micro | access | programs | scale | policy) ;;
	*)
		echo "bench.sh: there is no part '$part'" >&2
		exit 2
		;;
	esac
done
describe | tee "$OUT/machine.txt"
warn
for part in $PARTS; do
	echo "bench: $part"
	# Those of an earlier run are not taken for this one's.
	rm -f "$OUT/$part.json" "$OUT/$part.md" "$OUT/$part.svg"
	status=0
	"$part" || status=$?
	# Interrupted, and not the part but all of it.
	[ "$status" -le 128 ] || exit "$status"
	[ "$status" -eq 0 ] || failed="$failed $part"
	case $part in
	access | programs | scale)
		[ ! -e "$OUT/$part.json" ] ||
			python3 bench/chart.py "$OUT/$part.json" "$OUT/$part.svg"
		;;
	esac
done
echo "bench: $OUT has $(cd "$OUT" && ls -- *.txt *.md *.json *.svg 2>/dev/null |
	tr '\n' ' ')"
[ -z "$failed" ] || { echo "bench: failed:$failed" >&2; exit 1; }
