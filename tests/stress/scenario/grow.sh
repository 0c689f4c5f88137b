# SPDX-License-Identifier: Apache-2.0
# Vectors that grow by realloc, that is by mremap of memory that has gone cold.
run() {
	$WRAP "$BIN/grow" -m "$(pick 160 1024)" -n 6 -r 2
}
