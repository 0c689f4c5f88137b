# SPDX-License-Identifier: Apache-2.0
# stress-ng: mmap, mprotect, mremap, madvise, malloc, process_vm_readv and their like, at
# the same time, in processes that share one budget.
needs=/usr/bin/stress-ng

run() {
	$WRAP stress-ng -q --verify --timeout "$(pick 6 60)s" \
		--mmap 1 --mmap-bytes 64M --mmap-mprotect --mremap 1 --mremap-bytes 64M \
		--malloc 1 --malloc-bytes 1M --malloc-max 64 --malloc-touch \
		--malloc-pthreads 2 --vm-rw 1 --vm-rw-bytes 16M --madvise 1 \
		--brk 1 --brk-ops 20000 --munmap 1 --vm-splice 1 \
		--vm-addr 1 --fault 1 --stack 1 --sigsegv 1 --mmapfixed 1
}
