# SPDX-License-Identifier: Apache-2.0
# A process that clones by the bare system call and leaves its child alone.
run() {
	$WRAP "$BIN/leave" "$(pick 96 1024)"
}
