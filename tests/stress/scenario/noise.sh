# SPDX-License-Identifier: Apache-2.0
# Memory that hardly compresses, or not at all: the budget cannot hold, it must be said,
# and the program must not be held up. On one processor, where it shows: an access that
# waits for a page, and for another to be stored in vain, takes a millisecond there.
budget=told

run() {
	cpu=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
	status=0
	for words in 16 14 12; do
		$WRAP taskset -c "$cpu" "$BIN/noise" -m "$(pick 128 1024)" -w $words \
			-n "$(often 400000 2000000)" || status=$?
	done
	return $status
}
