# SPDX-License-Identifier: Apache-2.0
# Processes whose threads end one by one, not by exit().
run() {
	$WRAP "$BIN/ends" "$(pick 96 1024)"
}
