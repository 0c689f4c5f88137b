#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/bench.sh BUILD: what uhmm costs, and what others cost beside it.
#
# First the library by itself (bench-latency, bench-fault, bench-floor, bench-migrate),
# some minutes. Then pages of a region that does not fit, side by side with zram and with
# a swap file at equal memory (bench/side.py): each case takes ROUNDS times a minute and a
# half, that of 4 GiB ten times as long. What cannot be run here is said, and left out:
# zram and the swap file need root.
#
# ROUNDS: 5; CASES: those of bench/side.py, in its words ("512:50:2.5:1 512:75:2.5:1");
# OUT: BUILD/bench. There: micro.txt, access.json, access.md, access.svg.
set -euo pipefail

build=${1:?usage: bench.sh BUILD}
: "${ROUNDS:=5}" "${CASES:=}" "${OUT:=$build/bench}"
export LC_ALL=C
mkdir -p "$OUT"

{
	echo "# $(uname -sr), $(nproc) processors, $(date +%Y-%m-%d)"
	for name in latency fault floor migrate; do
		printf '\n$ bench-%s\n' "$name"
		# One that this machine refuses does not keep the others from their turn.
		"$build/bench/bench-$name" 2>&1 || echo "bench-$name: exit status $?"
	done
} | tee "$OUT/micro.txt"

options=()
for case in $CASES; do
	options+=(--case "$case")
done
python3 bench/side.py --rounds "$ROUNDS" "${options[@]}" --out "$OUT" "$build"
python3 bench/chart.py "$OUT/access.json" "$OUT/access.svg"
echo "bench: $OUT has micro.txt, access.json, access.md and access.svg"
