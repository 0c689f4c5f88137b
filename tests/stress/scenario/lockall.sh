# SPDX-License-Identifier: Apache-2.0
# A program that locks all of its memory: then no budget can be held, which is told.
budget=told

run() {
	$WRAP "$BIN/lockall" -m "$(pick 96 512)"
}
