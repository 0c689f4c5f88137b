# SPDX-License-Identifier: Apache-2.0
# Allocation by memset, as fast as it goes.
run() {
	$WRAP "$BIN/storm" -b -t 2 -m "$(pick 256 2048)" -r 3 -s "$SEED"
}
