# SPDX-License-Identifier: Apache-2.0
# stress-ng: as many mappings as the kernel allows a process, and a program that has a
# userfaultfd of its own.
needs=/usr/bin/stress-ng

run() {
	$WRAP stress-ng -q --verify --timeout "$(pick 4 30)s" --mmapmany 1 --userfaultfd 1
}
