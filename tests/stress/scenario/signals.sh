# SPDX-License-Identifier: Apache-2.0
# Timers at 1 kHz, queued signals, faults of the program's own, in three threads.
run() {
	$WRAP "$BIN/signals" "$(pick 2000 20000)" "$(pick 96 512)"
}
