# SPDX-License-Identifier: Apache-2.0
# Everything a program can do to its memory, with every page checked. See churn.h.
# Children of raw clones get all of their memory at once, and keep it: over the budget.
budget=told
# A process whose calls are guarded cannot make a ring.
without=
[ "$faults" != inline ] || without="-x uring"
run() {
	$WRAP "$BIN/churn" -t 3 -m "$(pick 160 640)" -n "$(often 3000 40000)" -s "$SEED" \
		$without
}
