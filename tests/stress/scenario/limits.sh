# SPDX-License-Identifier: Apache-2.0
# fork() where nothing is left of what a process may have.
run() {
	$WRAP "$BIN/limits" "$(pick 96 1024)"
}
