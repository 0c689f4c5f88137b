# SPDX-License-Identifier: Apache-2.0
# A program with AddressSanitizer, which reserves terabytes and takes libc's functions
# over, on every thread that calls them.
needs=/usr/bin/clang

prepare() {
	clang -O1 -fsanitize=address -o grow "$SRC/grow.c"
}

run() {
	ASAN_OPTIONS=detect_leaks=0 $WRAP "$INPUT/grow" -m "$(pick 96 512)" -n 6 -r 2
}
