# SPDX-License-Identifier: Apache-2.0
# valgrind knows neither our threads nor userfaultfd: what runs in it is left alone.
needs=/usr/bin/valgrind budget=told

run() {
	$WRAP valgrind -q "$BIN/grow" -m "$(pick 40 160)" -n 6 -r 4
}
