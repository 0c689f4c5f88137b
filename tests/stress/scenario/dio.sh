# SPDX-License-Identifier: Apache-2.0
# O_DIRECT, io_uring, registered buffers and vmsplice on memory that has gone cold.
run() {
	$WRAP "$BIN/dio" -t 2 -m "$(pick 128 512)" -n "$(pick 1500 30000)" -s "$SEED" -d .
}
