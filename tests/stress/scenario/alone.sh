# SPDX-License-Identifier: Apache-2.0
# A program that would notice threads that are not its own.
run() {
	$WRAP "$BIN/alone" -m "$(pick 96 1024)"
}
