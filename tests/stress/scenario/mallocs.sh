# SPDX-License-Identifier: Apache-2.0
# A heap under load from several threads, with libc's malloc.
run() {
	$WRAP "$BIN/mallocs" -a libc -t 2 -m "$(pick 128 640)" \
		-n "$(often 100000 600000)" -s "$SEED"
}
