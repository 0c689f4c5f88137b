# SPDX-License-Identifier: Apache-2.0
# Signal handlers that fork, whatever they interrupt.
run() {
	$WRAP "$BIN/handlers" "$(pick 3 30)" "$(pick 96 512)"
}
