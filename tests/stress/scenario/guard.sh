# SPDX-License-Identifier: Apache-2.0
# Guards (MADV_GUARD_INSTALL) among memory that is migrated.
run() {
	$WRAP "$BIN/guard" -m "$(pick 96 1024)"
}
