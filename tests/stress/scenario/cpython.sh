# SPDX-License-Identifier: Apache-2.0
# CPython builds, queries, changes and scans a dict (full: two million entries).
needs=/usr/bin/python3

run() {
	PYTHONHASHSEED=0 $WRAP /usr/bin/python3 "$SRC/scenario/cpython.py" \
		"$(pick 500000 2000000)" "$(often 500000 2000000)"
}
