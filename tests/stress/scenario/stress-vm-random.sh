# SPDX-License-Identifier: Apache-2.0
# stress-ng --vm --verify: all methods in turn in one process, and those whose patterns
# are random. No compression makes these fit: the budget cannot hold, and it must be said.
needs=/usr/bin/stress-ng
budget=told

run() {
	$WRAP sh "$SRC/scenario/stress-each.sh" "$(pick 1 20)" "$(pick 96M 256M)" \
		all flip move-inv rand-set ror lfsr32
}
