# SPDX-License-Identifier: Apache-2.0
# A program that unmaps all files it does not know. Before Linux 6.10, which brought
# mseal(), it unmaps us.
oldest=$(printf '%s\n' 6.10 "$(uname -r)" | sort -V | head -n 1)
[ "$oldest" = 6.10 ] || needs=Linux-6.10

run() {
	$WRAP "$BIN/unmaps" -m "$(pick 96 1024)"
}
