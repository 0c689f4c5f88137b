# SPDX-License-Identifier: Apache-2.0
# Threads that begin and end while memory comes and goes: few at a time and many.
run() {
	$WRAP sh -c '"$0" "$1" 64 16 && "$0" "$1" 64 300' \
		"$BIN/threads" "$(pick 3 60)"
}
