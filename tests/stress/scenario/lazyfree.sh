# SPDX-License-Identifier: Apache-2.0
# Memory marked free by MADV_FREE, taken by the kernel when it has gone cold.
percent=80

run() {
	$WRAP "$BIN/lazyfree" -m "$(pick 96 512)" -n "$(pick 3 10)"
}
