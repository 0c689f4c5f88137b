# SPDX-License-Identifier: Apache-2.0
# Allocation at full speed, contents that compress about 4:1.
run() {
	$WRAP "$BIN/storm" -t 2 -m "$(pick 192 1024)" -r 2 -s "$SEED"
}
