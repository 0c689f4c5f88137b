#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/sim.sh [--seed SEED] [--runs N] DIR
#
# Builds the simulated machine in DIR and runs the library in it: N seeds (10,200) on all
# processors, of which two thirds are always the same and the others new. With --seed that
# one alone, with all that happened in it; if it fails, the few operations that are enough
# for that. Exit status 0 if and only if nothing failed.
set -euo pipefail
cd "$(dirname "$0")/.."

seed='' runs=10200
while [ $# -gt 1 ]; do
	case $1 in
	--seed) seed=$2; shift 2 ;;
	--runs) runs=$2; shift 2 ;;
	*) break ;;
	esac
done
if [ $# != 1 ]; then
	echo 'usage: scripts/sim.sh [--seed SEED] [--runs N] DIR' >&2
	exit 125
fi
dir=$1
[ -f "$dir/build.ninja" ] ||
	meson setup "$dir" -Dtests=true >"$dir.setup" 2>&1 || {
	cat "$dir.setup" >&2
	exit 1
}
ninja -C "$dir" tests/sim/test_sim >"$dir.ninja" 2>&1 || {
	tail -n 60 "$dir.ninja" >&2
	exit 1
}
sim=$dir/tests/sim/test_sim
if [ -n "$seed" ]; then
	"$sim" --seed "$seed" --trace && exit
	"$sim" --shrink "$seed"
	exit 1
fi
fresh=$((runs / 3)) status=0
start=$SECONDS
"$sim" --count $((runs - fresh)) --jobs "$(nproc)" || status=1
"$sim" --count "$fresh" --from "$(($(date +%s) << 20))" --jobs "$(nproc)" || status=1
echo "# $runs seeds in $((SECONDS - start)) s on $(nproc) processors"
exit $status
