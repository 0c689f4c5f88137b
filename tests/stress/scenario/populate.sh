# SPDX-License-Identifier: Apache-2.0
# Memory that is filled at once, or read before it is written.
run() {
	$WRAP "$BIN/populate" -m "$(pick 96 512)" -n "$(often 6 12)"
}
