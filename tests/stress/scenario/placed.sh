# SPDX-License-Identifier: Apache-2.0
# Threads that fault hard are woken where uhmm wants them, and do not notice.
run() {
	$WRAP "$BIN/placed" -m "$(pick 64 512)" -n "$(pick 60000 1000000)"
}
