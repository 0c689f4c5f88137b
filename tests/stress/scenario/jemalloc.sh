# SPDX-License-Identifier: Apache-2.0
# The same heap with jemalloc, which the user preloads and uhmm has to keep.
needs=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2

run() {
	LD_PRELOAD=$needs MALLOC_CONF=background_thread:true,dirty_decay_ms:100 \
		$WRAP "$BIN/mallocs" -a jemalloc -t 2 -m "$(pick 128 640)" \
		-n "$(pick 100000 600000)" -s "$SEED"
}
