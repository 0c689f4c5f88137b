# SPDX-License-Identifier: Apache-2.0
# Machine code made at run time, in memory that is writable and can be executed.
run() {
	$WRAP "$BIN/jit" -m "$(pick 160 1024)" -n "$(pick 100000 400000)" -s "$SEED"
}
