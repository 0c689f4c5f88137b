# SPDX-License-Identifier: Apache-2.0
# A program that executes programs with an LD_PRELOAD of its own.
run() {
	$WRAP "$BIN/execs" 0 "$(pick 96 1024)"
}
