# SPDX-License-Identifier: Apache-2.0
# stress-ng --vm --verify: the methods whose patterns can be compressed, one by one.
# stress-vm-random has the others.
needs=/usr/bin/stress-ng
methods=$(pick "walk-0a galpat-1 gray swap prime-1 inc-nybble rand-sum zero-one" \
	"cache-stripe checkerboard fwdrev galpat-0 galpat-1 gray grayflip rowhammer incdec
	inc-nybble rand-sum read64 swap modulo-x mscan wrrd128nt prime-0 prime-1
	prime-gray-0 prime-gray-1 walk-0d walk-1d walk-0a walk-1a write64 write64nt
	write1024v zero-one cache-lines prime-incdec")

run() {
	$WRAP sh "$SRC/scenario/stress-each.sh" "$(pick 1 4)" "$(pick 96M 256M)" $methods
}
