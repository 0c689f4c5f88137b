# SPDX-License-Identifier: Apache-2.0
# Programs that search all their memory for leaks, with all threads stopped. One cannot be
# migrated, and it must be said. The other cannot be recognized; if it is migrated, the
# search must be left out rather than wait for pages for ever.
needs="/usr/bin/clang /usr/bin/gcc"
budget=told

prepare() {
	clang -O1 -fsanitize=address -o clang "$SRC/grow.c" &&
		gcc -O1 -fsanitize=address -static-libasan -o gcc "$SRC/grow.c"
}

run() {
	$WRAP "$INPUT/clang" -m "$(pick 96 512)" -n 6 -r 2 &&
		$WRAP "$INPUT/gcc" -m "$(pick 96 512)" -n 6 -r 2
}
