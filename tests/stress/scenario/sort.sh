# SPDX-License-Identifier: Apache-2.0
# sort of a file of log lines, all of it in memory (full: 1 GiB).
needs=/usr/bin/sort

prepare() {
	"$BIN/lines" "$(pick 64 1024)" >lines
}

run() {
	status=0
	LC_ALL=C $WRAP sort -S 4G --parallel=2 -T . -o sorted "$INPUT/lines" || status=$?
	sha256sum <sorted
	wc -l <sorted
	rm -f sorted
	return $status
}
