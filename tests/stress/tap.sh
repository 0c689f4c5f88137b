#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tap.sh NAME [full]: a scenario as one TAP test, for meson: see run-one.sh. With
# UHMM_FAULTS in the environment faults are resolved by whom it says, with UHMM_AS that
# user runs it, with UHMM_ON it is on that device, in UHMM_PERCENT of its memory.
#
# Under TEST_SECONDS a scenario that takes a seed is run with one seed after another until
# the time is over; the first that fails is named. A build with a sanitizer is skipped:
# its runtime would have to be loaded before the programs under test.
name=$1 size=${2:-small}
here=$(dirname "$0")
build=${UHMM_BUILD:?the build directory}
if [ "${UHMM_SANITIZED:-0}" = 1 ]; then
	echo "1..1"
	echo "ok 1 - $name # SKIP real programs do not load a sanitizer's runtime"
	exit 0
fi
set -- "$name" --size "$size" --uhmm "$build/uhmm" --bin "$build/tests/stress"
[ -z "$UHMM_FAULTS" ] || set -- "$@" --faults "$UHMM_FAULTS"
[ -z "$UHMM_AS" ] || set -- "$@" --as "$UHMM_AS"
[ -z "$UHMM_ON" ] || set -- "$@" --device "$UHMM_ON"
[ -z "$UHMM_PERCENT" ] || set -- "$@" --percent "$UHMM_PERCENT"
if [ -z "$TEST_SECONDS" ] || ! grep -q SEED "$here/scenario/$name.sh"; then
	exec "$here/run-one.sh" "$@" --tap
fi
end=$(($(date +%s) + TEST_SECONDS)) seed=0
while [ "$(date +%s)" -lt $end ]; do
	seed=$((seed + 1))
	line=$("$here/run-one.sh" "$@" --seed $seed)
	status=$?
	[ $status = 0 ] || break
done
echo "1..1"
case $status in
0) echo "ok 1 - $name: seeds 1 to $seed" ;;
77) echo "ok 1 - $name # SKIP ${line#SKIP "$name" }" ;;
*) echo "not ok 1 - $name: seed $seed: $line" ;;
esac
[ $status = 0 ] || [ $status = 77 ]
