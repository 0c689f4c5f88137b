# SPDX-License-Identifier: Apache-2.0
# stress-ng: processes that come and go, beside one that fills memory. Not its pthreads:
# in 0.15 the one that is created when the time is up is not joined, and reads the stack
# of a function that has returned; it crashes where it begins late. See threads.sh.
needs=/usr/bin/stress-ng

run() {
	$WRAP stress-ng -q --verify --timeout "$(pick 6 60)s" \
		--vm 1 --vm-bytes 96M --vm-method walk-0a --vm-keep --fork 1 --vfork 1 \
		--clone 1 --clone-max 8 --wait 1 --forkheavy 1 --forkheavy-procs 16
}
